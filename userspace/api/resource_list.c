/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of named quantities, and a pod's. No state; any thread. */
#include "userspace/api/resource_list.h"

#include "userspace/api/meta.h"
#include "userspace/base/map.h"

#define RESOURCE_LIST_FIRST 8         /* a power of two */
#define RESOURCE_LIST_SEARCHED_MAX 16 /* more are indexed */

/* Clients choose the names and how many there are: past a few they are found by hash. */
static size_t *slot_of(const struct resource_list *list, struct str name)
{
	size_t mask = list->n_slots - 1, at = (size_t)hash_bytes(name.p, name.n) & mask;

	while (list->slots[at] && !str_eq(list->items[list->slots[at] - 1].name, name))
		at = (at + 1) & mask;
	return &list->slots[at];
}

static void index_items(struct arena *arena, struct resource_list *list)
{
	list->n_slots = list->cap * 2;
	list->slots = arena_new_array(arena, size_t, list->n_slots);
	memset(list->slots, 0, list->n_slots * sizeof(*list->slots));
	for (size_t i = 0; i < list->n; i++)
		*slot_of(list, list->items[i].name) = i + 1;
}

struct quantity *resource_list_get(const struct resource_list *list, struct str name)
{
	if (list->n_slots) {
		size_t at = *slot_of(list, name);

		return at ? &list->items[at - 1].q : NULL;
	}
	for (size_t i = 0; i < list->n; i++)
		if (str_eq(list->items[i].name, name))
			return &list->items[i].q;
	return NULL;
}

static void append(struct arena *arena, struct resource_list *list, struct str name, struct quantity q)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : RESOURCE_LIST_FIRST;
		struct resource_amount *items = arena_new_array(arena, struct resource_amount, cap);

		if (list->n > 0)
			memcpy(items, list->items, list->n * sizeof(*items));
		list->items = items;
		list->cap = cap;
		if (cap > RESOURCE_LIST_SEARCHED_MAX)
			index_items(arena, list);
	}
	list->items[list->n++] = (struct resource_amount){ name, q };
	if (list->n_slots)
		*slot_of(list, name) = list->n;
}

void resource_list_set(struct arena *arena, struct resource_list *list, struct str name, struct quantity q)
{
	struct quantity *at = resource_list_get(list, name);

	if (at)
		*at = q;
	else
		append(arena, list, name, q);
}

void resource_list_set_int(struct arena *arena, struct resource_list *list, struct str name, int64_t v)
{
	resource_list_set(arena, list, name, quantity_from_int(v, QUANTITY_DECIMAL_SI));
}

static void add_one(struct arena *arena, struct resource_list *list, struct str name, struct quantity q)
{
	struct quantity *at = resource_list_get(list, name);

	if (at)
		quantity_add(at, &q);
	else
		append(arena, list, name, q);
}

void resource_list_add_json(struct arena *arena, struct resource_list *list, const struct json *map)
{
	json_foreach(m, map)
		add_one(arena, list, m->key, quantity_of(m));
}

void resource_list_add(struct arena *arena, struct resource_list *list, const struct resource_list *other)
{
	for (size_t i = 0; i < other->n; i++)
		add_one(arena, list, other->items[i].name, other->items[i].q);
}

void resource_list_max(struct arena *arena, struct resource_list *list, const struct resource_list *other)
{
	for (size_t i = 0; i < other->n; i++) {
		struct quantity *at = resource_list_get(list, other->items[i].name);

		if (!at)
			append(arena, list, other->items[i].name, other->items[i].q);
		else if (quantity_cmp(at, &other->items[i].q) < 0)
			*at = other->items[i].q;
	}
}

/* ---- pods ---- */

static bool supported_whole(struct str name)
{
	return str_is(name, "cpu") || str_is(name, "memory") || str_starts(name, STR("hugepages-"));
}

bool pod_resources_whole(const struct json *pod)
{
	static const char *const both[] = { "requests", "limits" };
	const struct json *resources = json_at(pod, "spec.resources");

	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		json_foreach(r, json_get(resources, both[i]))
			if (supported_whole(r->key))
				return true;
	return false;
}

static const struct json *status_of(const struct json *statuses, const struct json *container)
{
	json_foreach(s, statuses)
		if (str_eq(json_get_str(s, "name"), json_get_str(container, "name")))
			return s;
	return NULL;
}

/* A resize that can never be done is not waited for. */
static bool resize_infeasible(const struct json *pod)
{
	return str_is(json_get_str(meta_condition(json_at(pod, "status.conditions"), "PodResizePending"), "reason"),
		      "Infeasible");
}

static struct resource_list of_container(struct arena *arena, const struct json *pod, const struct json *container,
					 const struct json *status, const char *what)
{
	struct resource_list ret = { 0 }, running = { 0 }, allocated = { 0 };
	bool requests = *what == 'r', infeasible = status && resize_infeasible(pod);

	if (!infeasible)
		resource_list_add_json(arena, &ret, json_get(json_get(container, "resources"), what));
	if (!status)
		return ret;
	resource_list_add_json(arena, &running, json_get(json_get(status, "resources"), what));
	resource_list_max(arena, &ret, &running);
	if (requests) {
		resource_list_add_json(arena, &allocated, json_get(status, "allocatedResources"));
		resource_list_max(arena, &ret, &allocated);
	}
	return ret;
}

static void fill(struct arena *arena, struct resource_list *list, const struct resource_list *missing)
{
	for (size_t i = 0; missing && i < missing->n; i++)
		if (!resource_list_get(list, missing->items[i].name))
			append(arena, list, missing->items[i].name, missing->items[i].q);
}

static struct resource_list of_pod(struct arena *arena, const struct json *pod, const char *what, unsigned flags,
				   const struct resource_list *missing)
{
	const struct json *spec = json_get(pod, "spec"), *status = json_get(pod, "status");
	bool told = flags & POD_RESOURCES_STATUS;
	struct resource_list ret = { 0 }, init = { 0 }, sidecars = { 0 };

	json_foreach(c, json_get(spec, "containers")) {
		const struct json *s = told ? status_of(json_get(status, "containerStatuses"), c) : NULL;
		struct resource_list own = of_container(arena, pod, c, s, what);

		fill(arena, &own, missing);
		resource_list_add(arena, &ret, &own);
	}
	json_foreach(c, json_get(spec, "initContainers")) {
		bool sidecar = str_is(json_get_str(c, "restartPolicy"), "Always");
		const struct json *s = told && sidecar ? status_of(json_get(status, "initContainerStatuses"), c) : NULL;
		struct resource_list own = of_container(arena, pod, c, s, what);

		fill(arena, &own, missing);
		if (sidecar) {
			resource_list_add(arena, &ret, &own);
			resource_list_add(arena, &sidecars, &own);
			resource_list_max(arena, &init, &sidecars);
		} else {
			resource_list_add(arena, &own, &sidecars);
			resource_list_max(arena, &init, &own);
		}
	}
	resource_list_max(arena, &ret, &init);
	json_foreach(r, json_get(json_get(spec, "resources"), what))
		if (supported_whole(r->key))
			resource_list_set(arena, &ret, r->key, quantity_of(r));
	return ret;
}

struct resource_list pod_resources_requests_filled(struct arena *arena, const struct json *pod, unsigned flags,
						   const struct resource_list *missing)
{
	struct resource_list ret = of_pod(arena, pod, "requests", flags, missing);

	if (flags & POD_RESOURCES_OVERHEAD)
		resource_list_add_json(arena, &ret, json_at(pod, "spec.overhead"));
	return ret;
}

struct resource_list pod_resources_requests(struct arena *arena, const struct json *pod, unsigned flags)
{
	return pod_resources_requests_filled(arena, pod, flags, NULL);
}

struct resource_list pod_resources_limits(struct arena *arena, const struct json *pod, unsigned flags)
{
	struct resource_list ret = of_pod(arena, pod, "limits", flags, NULL);

	/* Only what is limited at all. */
	if (flags & POD_RESOURCES_OVERHEAD)
		json_foreach(o, json_at(pod, "spec.overhead")) {
			struct quantity *at = resource_list_get(&ret, o->key), q = quantity_of(o);

			if (at && !quantity_is_zero(at))
				quantity_add(at, &q);
		}
	return ret;
}
