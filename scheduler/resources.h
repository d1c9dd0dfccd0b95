/* SPDX-License-Identifier: Apache-2.0 */
/* Amounts by resource name: cpu in thousandths, everything else in whole units. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/json.h"
#include "userspace/base/str.h"

struct resource {
	char *name;
	int64_t amount;
};

struct resources {
	struct resource *items;
	size_t n, cap;
};

void resources_finish(struct resources *r);
int64_t resources_get(const struct resources *r, const char *name);
/* sign +1 or -1. */
void resources_add(struct resources *r, const struct resources *with, int sign);
/* A ResourceList; what is there is added to. */
void resources_add_json(struct resources *r, const struct json *list);

/* What a pod asks of its node, with the overhead. `ret` is empty. */
void resources_of_pod(const struct json *pod, struct resources *ret);
/* cpu and memory as scoring counts them: containers that ask for nothing count as 100m and 200 MB. */
void resources_for_score(const struct json *pod, int64_t *ret_milli_cpu, int64_t *ret_memory);
