/* SPDX-License-Identifier: Apache-2.0 */
/* The downward API: values of fieldRef and resourceFieldRef. Pure. */
#pragma once

#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

/* What a pod may learn beyond its own object. */
struct pod_facts {
	const char *node_name;
	const char *host_ips[2]; /* NULL: absent */
	const char *pod_ips[2];
	int64_t allocatable_cpu_milli, allocatable_memory_bytes, allocatable_storage_bytes;
};

/* fieldPath of env and of volumes ("metadata.labels" gives the file form: key="value" lines). -EINVAL. */
int fieldref_value(struct arena *arena, const struct json *pod, const struct pod_facts *facts, struct str path,
		   char **ret, struct err *err);
/* "limits.cpu" and so on of a container, divided and rounded up; a missing limit is what the node has. */
int fieldref_resource(struct arena *arena, const struct json *container, const struct pod_facts *facts,
		      struct str resource, struct str divisor, char **ret, struct err *err);
