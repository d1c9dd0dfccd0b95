/* SPDX-License-Identifier: Apache-2.0 */
/* The Node object of this host: labels, capacity, addresses, conditions. Pure but for the image list. */
#pragma once

#include "kubelet/internal.h"
#include "kubelet/node/facts.h"

#define NODE_IMAGES_MAX 50 /* shown in status.images, the largest first */

struct node_view {
	const struct kubelet *kl;
	const struct node_facts *facts;
	const struct node_pressure *pressure;
	const char *oci; /* "crun 1.8.1" */
	int64_t now_real_ns;
};

/* A new object without status. */
struct json *node_object(struct arena *arena, const struct node_view *v);
/* Adds what is missing of our labels; false when all were there. */
bool node_ensure_labels(struct arena *arena, const struct node_view *v, struct json *node);
/* The same for spec.podCIDRs. */
bool node_ensure_ranges(struct arena *arena, const struct node_view *v, struct json *node);
/* The status to replace `old` (NULL: none). Heartbeat times are those of `old` when nothing else differs: then the
 * result equals it. */
struct json *node_status(struct arena *arena, const struct node_view *v, const struct json *old, bool heartbeat);
/* capacity and allocatable in numbers */
int64_t node_allocatable_memory_bytes(const struct node_facts *f);
int64_t node_allocatable_disk_bytes(const struct node_facts *f);
