/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints, for clients that do not know EndpointSlices: one object a Service with a selector, at
 * most 1000 addresses. Loop thread only. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/controllers/backends.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/service_index.h"
#include "userspace/controllers/table.h"

#define ENDPOINTS_MAX 1000
#define ENDPOINTS_OVER_CAPACITY "endpoints.kubernetes.io/over-capacity"

static struct json *build_address(struct arena *arena, const struct backend *b, int family)
{
	struct json *a = json_new_object(arena);

	if (b->hostname.n > 0)
		json_set_str(arena, a, "hostname", b->hostname);
	json_set_str(arena, a, "ip", b->address[family]);
	if (b->node.n > 0)
		json_set_str(arena, a, "nodeName", b->node);
	json_set(a, "targetRef", backends_target(arena, b));
	return a;
}

static int by_ports_then_address(const void *pa, const void *pb)
{
	const struct backend *a = pa, *b = pb;
	int c = strcmp(a->ports_key, b->ports_key);

	if (c == 0)
		c = str_cmp(a->address[0], b->address[0]);
	return c ? c : str_cmp(a->address[1], b->address[1]);
}

static struct json *new_subset(struct arena *arena, struct json *subsets, const struct backend *b)
{
	struct json *subset = json_new_object(arena);
	struct json *ports = json_clone(arena, b->ports);

	json_foreach(p, ports)
		if (json_get_str(p, "name").n == 0)
			json_remove(p, "name");
	if (json_count(ports) > 0)
		json_set(subset, "ports", ports);
	json_append(subsets, subset);
	return subset;
}

/* The backends, sorted by their ports, make one subset for each list of ports. */
static struct json *build_subsets(struct arena *arena, struct backends *all, int family, bool *ret_truncated)
{
	struct json *subsets = json_new_array(arena);
	struct json *subset = NULL;
	const char *key = NULL;
	size_t n = 0;

	qsort(all->items, all->n, sizeof(*all->items), by_ports_then_address);
	for (size_t i = 0; i < all->n; i++) {
		struct backend *b = &all->items[i];

		if (b->address[family].n == 0)
			continue;
		if (n++ == ENDPOINTS_MAX) {
			*ret_truncated = true;
			break;
		}
		if (!key || strcmp(key, b->ports_key) != 0) {
			subset = new_subset(arena, subsets, b);
			key = b->ports_key;
		}
		json_append(json_ensure_array(arena, subset, b->ready ? "addresses" : "notReadyAddresses"),
			    build_address(arena, b, family));
	}
	return subsets;
}

struct wanted {
	struct json *labels, *subsets;
	bool truncated;
};

static bool differs(const struct json *object, const struct wanted *w)
{
	struct json *have = json_get(object, "subsets");

	if (!json_equal(json_at(object, "metadata.labels"), w->labels))
		return true;
	if (str_is(meta_annotation(object, ENDPOINTS_OVER_CAPACITY), "truncated") != w->truncated)
		return true;
	return json_count(have) == 0 ? json_count(w->subsets) > 0 : !json_equal(have, w->subsets);
}

static void apply(struct arena *arena, struct json *object, const struct wanted *w)
{
	json_set(json_ensure_object(arena, object, "metadata"), "labels", json_clone(arena, w->labels));
	if (w->truncated)
		meta_set_annotation(arena, object, ENDPOINTS_OVER_CAPACITY, STR("truncated"));
	else if (json_at(object, "metadata.annotations"))
		json_remove(json_at(object, "metadata.annotations"), ENDPOINTS_OVER_CAPACITY);
	if (json_count(w->subsets) > 0)
		json_set(object, "subsets", json_clone(arena, w->subsets));
	else
		json_remove(object, "subsets");
}

static int mutate(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	if (!differs(object, arg))
		return 1;
	apply(arena, object, arg);
	return 0;
}

static int first_family(const struct json *service_json)
{
	struct str family = json_str(json_index(json_at(service_json, "spec.ipFamilies"), 0));

	return family.n > 0 ? str_is(family, "IPv6") : str_find(json_at_str(service_json, "spec.clusterIP"), ':') >= 0;
}

static void write_endpoints(struct reconcile *ctx, const struct object *service, struct wanted *w)
{
	const struct object *have = registry_get(ctx->reg, KIND_ENDPOINTS, service->ns, service->name);
	const struct reconcile_note note = {
		.component = "endpoint-controller",
		.about = service,
		.fail_reason = have ? "FailedToUpdateEndpoint" : "FailedToCreateEndpoint",
		.fail_prefix = arena_printf(ctx->arena, "Failed to %s endpoint %.*s/%.*s: ", have ? "update" : "create",
					    STR_ARG(service->ns), STR_ARG(service->name)),
	};
	struct json *o;

	if (have) {
		if (differs(registry_parse(ctx->arena, have), w))
			reconcile_update(ctx, KIND_ENDPOINTS, service->ns, service->name, NULL, mutate, w, &note);
		return;
	}
	o = object_new(ctx->arena, KIND_ENDPOINTS, service->ns, service->name);
	apply(ctx->arena, o, w);
	reconcile_create(ctx, KIND_ENDPOINTS, o, &note);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *service = registry_get(ctx->reg, KIND_SERVICE, ctx->ns, ctx->name);
	const struct object *have;
	struct json *json;
	struct backends backends;
	struct wanted w = { 0 };
	bool headless;

	if (!service) {
		have = registry_get(ctx->reg, KIND_ENDPOINTS, ctx->ns, ctx->name);
		if (have)
			reconcile_delete(ctx, have, KIND_ENDPOINTS, NULL, NULL);
		return 0;
	}
	json = registry_parse(ctx->arena, service);
	if (service->deleting || json_count(json_at(json, "spec.selector")) == 0 ||
	    str_is(json_at_str(json, "spec.type"), "ExternalName"))
		return 0;
	headless = backends_is_headless(json);
	backends = backends_of(ctx, service_index_cache(runner_state(ctx->runner)), service, json,
			       json_at_bool(json, "spec.publishNotReadyAddresses", false));
	w.subsets = build_subsets(ctx->arena, &backends, first_family(json), &w.truncated);
	w.labels =
		backends_labels(ctx->arena, json,
				(const char *const[]){ "endpoints.kubernetes.io/managed-by", "endpoint-controller",
						       headless ? "service.kubernetes.io/headless" : NULL, "", NULL });
	write_endpoints(ctx, service, &w);
	return 0;
}

/* Only those of a Service: Endpoints that stand alone are their user's. */
static void map_endpoints(struct runner *r, enum registry_event_type type, const struct object *o,
			  const struct object *prev)
{
	if (registry_get(runner_registry(r), KIND_SERVICE, o->ns, o->name))
		runner_enqueue(r, o->ns, o->name);
}

static const struct controller_watch watches[] = {
	{ &KIND_SERVICE, service_index_map_service },
	{ &KIND_POD, service_index_map_pod },
	{ &KIND_ENDPOINTS, map_endpoints },
};

const struct controller controller_endpoints = {
	.name = "endpoints",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = service_index_start,
	.stop = service_index_stop,
	.reconcile = reconcile,
};
