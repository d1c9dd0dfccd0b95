/* SPDX-License-Identifier: Apache-2.0 */
/* Named quantities that can be added up ({"cpu": "500m", "memory": "1Gi"}), and what a pod asks for as a whole.
 * Lists live in the arena of whoever adds to them; names are borrowed from the trees. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/api/quantity.h"
#include "userspace/base/arena.h"
#include "userspace/base/json.h"

struct resource_amount {
	struct str name;
	struct quantity q;
};

struct resource_list {
	struct resource_amount *items; /* in the order in which they came */
	size_t n, cap;
	size_t *slots; /* of a long list: places in items from 1, by hash of the name */
	size_t n_slots;
};

struct quantity *resource_list_get(const struct resource_list *list, struct str name); /* NULL: absent */
/* Sets or replaces. */
void resource_list_set(struct arena *arena, struct resource_list *list, struct str name, struct quantity q);
void resource_list_set_int(struct arena *arena, struct resource_list *list, struct str name, int64_t v);
/* `map`: {name: quantity}, NULL is empty. */
void resource_list_add_json(struct arena *arena, struct resource_list *list, const struct json *map);
void resource_list_add(struct arena *arena, struct resource_list *list, const struct resource_list *other);
void resource_list_max(struct arena *arena, struct resource_list *list, const struct resource_list *other);

enum pod_resources_flags {
	POD_RESOURCES_STATUS = 1,   /* what the kubelet says it gave and runs counts too, whichever is more */
	POD_RESOURCES_OVERHEAD = 2, /* and the overhead of the runtime class */
};

/* The sum of the containers and of sidecars, or the init container that is larger with the sidecars before it,
 * whichever is more; what is said for the pod as a whole stands in its place. */
struct resource_list pod_resources_requests(struct arena *arena, const struct json *pod, unsigned flags);
struct resource_list pod_resources_limits(struct arena *arena, const struct json *pod, unsigned flags);
/* The same, where a container that does not say what it asks of a resource is taken to ask for `missing`. */
struct resource_list pod_resources_requests_filled(struct arena *arena, const struct json *pod, unsigned flags,
						   const struct resource_list *missing);
/* The pod says something for itself as a whole. */
bool pod_resources_whole(const struct json *pod);
