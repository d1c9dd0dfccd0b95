/* SPDX-License-Identifier: Apache-2.0 */
/* EndpointSlices of Services with a selector: one set of slices for each address family and each list
 * of resolved ports, at most 100 endpoints a slice. An endpoint stays in the slice it is in, so a
 * pod's change rewrites one slice. Slices go with their Service by owner reference. Loop thread only. */
#include <errno.h>

#include "userspace/base/map.h"
#include "userspace/controllers/backends.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/service_index.h"
#include "userspace/controllers/table.h"

#define SLICE_ENDPOINTS_MAX 100
#define SLICE_SERVICE_LABEL "kubernetes.io/service-name"
#define SLICE_MANAGER_LABEL "endpointslice.kubernetes.io/managed-by"
#define SLICE_MANAGER "endpointslice-controller.k8s.io"
#define SLICE_HEADLESS_LABEL "service.kubernetes.io/headless"

/* One slice as it is to be: an existing one, or a new one. */
struct slice {
	const struct object *object; /* NULL: new */
	struct json *json;
	struct json *endpoints;
	bool changed;
	struct slice *next;
};

/* The endpoints of one family with the same ports. */
struct group {
	const char *key;
	struct json *ports;
	struct backend **items;
	struct map waiting; /* pod uid -> of items: not placed yet */
	size_t n;
	struct slice *slices, **slices_tail;
	struct group *next;
};

struct service {
	struct reconcile *ctx;
	const struct object *object;
	struct json *json;
	struct json *labels;
	struct backends backends;
	struct objects slices; /* existing */
};

static struct json *hint_new(struct arena *arena, struct json *object, const char *list)
{
	struct json *v = json_new_object(arena);

	json_append(json_ensure_array(arena, object, list), v);
	return v;
}

/* trafficDistribution: clients in the endpoint's zone, or on its node, are to come to it. */
static void build_hints(struct service *s, const struct backend *b, struct json *endpoint)
{
	struct str how = json_at_str(s->json, "spec.trafficDistribution"), zone = json_get_str(endpoint, "zone");
	bool node = str_is(how, "PreferSameNode");
	struct json *hints = json_new_object(s->ctx->arena);

	if (!b->ready || !(node || str_is(how, "PreferSameZone") || str_is(how, "PreferClose")))
		return;
	if (zone.n > 0)
		json_set_str(s->ctx->arena, hint_new(s->ctx->arena, hints, "forZones"), "name", zone);
	if (node && b->node.n > 0)
		json_set_str(s->ctx->arena, hint_new(s->ctx->arena, hints, "forNodes"), "name", b->node);
	if (json_count(hints) > 0)
		json_set(endpoint, "hints", hints);
}

static struct json *build_endpoint(struct service *s, const struct backend *b, int family)
{
	struct arena *arena = s->ctx->arena;
	struct json *e = json_new_object(arena);
	struct json *conditions;
	const struct object *node;

	json_append(json_ensure_array(arena, e, "addresses"), json_new_str(arena, b->address[family]));
	conditions = json_ensure_object(arena, e, "conditions");
	json_set_bool(arena, conditions, "ready", b->ready);
	json_set_bool(arena, conditions, "serving", b->serving);
	json_set_bool(arena, conditions, "terminating", b->terminating);
	if (b->hostname.n > 0)
		json_set_str(arena, e, "hostname", b->hostname);
	if (b->node.n > 0)
		json_set_str(arena, e, "nodeName", b->node);
	json_set(e, "targetRef", backends_target(arena, b));
	node = b->node.n > 0 ? registry_get(s->ctx->reg, KIND_NODE, STR_NULL, b->node) : NULL;
	if (node && object_label(node, STR("topology.kubernetes.io/zone")).n > 0)
		json_set_str(arena, e, "zone", object_label(node, STR("topology.kubernetes.io/zone")));
	build_hints(s, b, e);
	return e;
}

/* ---- desired groups ---- */

static struct group *group_get(struct service *s, struct group **groups, const char *key, struct json *ports)
{
	struct group *g;

	for (g = *groups; g; g = g->next)
		if (!strcmp(g->key, key))
			return g;
	g = arena_new(s->ctx->arena, struct group);
	g->key = key;
	g->ports = ports;
	g->items = arena_new_array(s->ctx->arena, struct backend *, s->backends.n + 1);
	g->slices_tail = &g->slices;
	g->next = *groups;
	*groups = g;
	return g;
}

static struct group *build_groups(struct service *s, int family)
{
	struct group *groups = NULL;

	for (size_t i = 0; i < s->backends.n; i++) {
		struct backend *b = &s->backends.items[i];
		struct group *g;

		if (b->address[family].n == 0)
			continue;
		g = group_get(s, &groups, b->ports_key, b->ports);
		g->items[g->n++] = b;
		map_put(&g->waiting, b->pod->uid, b);
	}
	/* A slice without endpoints says that there are none, rather than that nobody looked. */
	if (!groups)
		group_get(s, &groups, "", json_new_array(s->ctx->arena));
	return groups;
}

/* ---- placing ---- */

static void group_add_slice(struct group *g, struct slice *slice)
{
	*g->slices_tail = slice;
	g->slices_tail = &slice->next;
}

/* An existing slice keeps those of its endpoints that are still wanted. */
static void keep_slice(struct service *s, struct group *g, const struct object *o, struct json *json, int family)
{
	struct arena *arena = s->ctx->arena;
	struct slice *slice = arena_new(arena, struct slice);

	slice->object = o;
	slice->json = json;
	slice->endpoints = json_new_array(arena);
	json_foreach(e, json_get(json, "endpoints")) {
		struct backend *b = map_remove(&g->waiting, json_at_str(e, "targetRef.uid"));
		struct json *wanted = b ? build_endpoint(s, b, family) : NULL;

		if (!wanted || !json_equal(wanted, e))
			slice->changed = true;
		if (wanted)
			json_append(slice->endpoints, wanted);
	}
	if (!json_equal(json_at(json, "metadata.labels"), s->labels))
		slice->changed = true;
	group_add_slice(g, slice);
}

static struct slice *slice_with_room(struct service *s, struct group *g)
{
	struct slice *any = NULL, *fresh;

	for (struct slice *it = g->slices; it; it = it->next) {
		if (json_count(it->endpoints) >= SLICE_ENDPOINTS_MAX)
			continue;
		if (it->changed)
			return it;
		any = any ? any : it;
	}
	if (any)
		return any;
	fresh = arena_new(s->ctx->arena, struct slice);
	fresh->endpoints = json_new_array(s->ctx->arena);
	group_add_slice(g, fresh);
	return fresh;
}

static void place_rest(struct service *s, struct group *g, int family)
{
	for (size_t i = 0; i < g->n; i++) {
		struct slice *slice;

		if (!map_has(&g->waiting, g->items[i]->pod->uid))
			continue;
		slice = slice_with_room(s, g);
		slice->changed = true;
		json_append(slice->endpoints, build_endpoint(s, g->items[i], family));
	}
	if (g->n == 0 && !g->slices)
		slice_with_room(s, g)->changed = true;
}

/* ---- writing ---- */

struct slice_change {
	struct json *endpoints, *ports, *labels;
};

static int mutate_slice(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct slice_change *c = arg;

	if (meta_deleting(object))
		return 1;
	json_set(object, "endpoints", json_clone(arena, c->endpoints));
	json_set(object, "ports", json_clone(arena, c->ports));
	json_set(json_ensure_object(arena, object, "metadata"), "labels", json_clone(arena, c->labels));
	return 0;
}

static const struct reconcile_note *note_of(struct service *s)
{
	struct reconcile_note *note = arena_new(s->ctx->arena, struct reconcile_note);

	note->component = "endpoint-slice-controller";
	note->about = s->object;
	note->fail_reason = "FailedToUpdateEndpointSlices";
	note->fail_prefix = arena_printf(s->ctx->arena, "Error updating Endpoint Slices for Service %.*s/%.*s: ",
					 STR_ARG(s->object->ns), STR_ARG(s->object->name));
	return note;
}

static void create_slice(struct service *s, struct group *g, struct slice *slice, int family)
{
	struct arena *arena = s->ctx->arena;
	struct json *o = object_new(arena, KIND_ENDPOINTSLICE, s->object->ns, STR_NULL);
	struct json *meta = json_get(o, "metadata");

	json_set_cstr(arena, meta, "generateName", arena_printf(arena, "%.*s-", STR_ARG(s->object->name)));
	json_set(meta, "labels", json_clone(arena, s->labels));
	object_set_controller(arena, o, KIND_SERVICE, s->object);
	json_set_cstr(arena, o, "addressType", family ? "IPv6" : "IPv4");
	json_set(o, "endpoints", slice->endpoints);
	json_set(o, "ports", json_clone(arena, g->ports));
	reconcile_create(s->ctx, KIND_ENDPOINTSLICE, o, note_of(s));
}

static void write_group(struct service *s, struct group *g, int family)
{
	size_t alive = 0;

	for (struct slice *it = g->slices; it; it = it->next)
		alive += json_count(it->endpoints) > 0;
	for (struct slice *it = g->slices; it; it = it->next) {
		/* Of empty slices one stays, when there is nothing else. */
		bool keep = json_count(it->endpoints) > 0 || (alive == 0 && it == g->slices);

		if (it->object && !keep) {
			reconcile_delete(s->ctx, it->object, KIND_ENDPOINTSLICE, NULL, note_of(s));
		} else if (!it->object && keep) {
			create_slice(s, g, it, family);
		} else if (it->changed && keep) {
			struct slice_change *c = arena_new(s->ctx->arena, struct slice_change);

			*c = (struct slice_change){ it->endpoints, g->ports, s->labels };
			reconcile_update(s->ctx, KIND_ENDPOINTSLICE, it->object->ns, it->object->name, NULL,
					 mutate_slice, c, note_of(s));
		}
	}
}

static bool has_family(const struct json *service_json, int family)
{
	struct json *families = json_at(service_json, "spec.ipFamilies");
	struct str ip = json_at_str(service_json, "spec.clusterIP");

	json_foreach(f, families)
		if (str_is(json_str(f), family ? "IPv6" : "IPv4"))
			return true;
	if (json_count(families) > 0)
		return false;
	return family ? str_find(ip, ':') >= 0 : str_find(ip, ':') < 0;
}

static bool is_managed(const struct object *o)
{
	return !o->deleting && str_is(object_label(o, STR(SLICE_MANAGER_LABEL)), SLICE_MANAGER);
}

static void reconcile_family(struct service *s, int family)
{
	struct group *groups = has_family(s->json, family) ? build_groups(s, family) : NULL;

	for (size_t i = 0; i < s->slices.n; i++) {
		const struct object *o = s->slices.items[i];
		struct json *json = registry_parse(s->ctx->arena, o);
		const char *key;
		struct group *g;

		if (!is_managed(o) || !str_is(json_get_str(json, "addressType"), family ? "IPv6" : "IPv4"))
			continue;
		key = backends_ports_key(s->ctx->arena, json_get(json, "ports"));
		for (g = groups; g && strcmp(g->key, key) != 0; g = g->next)
			;
		if (g)
			keep_slice(s, g, o, json, family);
		else
			reconcile_delete(s->ctx, o, KIND_ENDPOINTSLICE, NULL, note_of(s));
	}
	for (struct group *g = groups; g; g = g->next) {
		place_rest(s, g, family);
		write_group(s, g, family);
		map_finish(&g->waiting);
	}
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct service s = { .ctx = ctx };
	const char *pairs[] = { SLICE_SERVICE_LABEL, NULL, SLICE_MANAGER_LABEL, SLICE_MANAGER, NULL, NULL, NULL };

	s.object = registry_get(ctx->reg, KIND_SERVICE, ctx->ns, ctx->name);
	if (!s.object || s.object->deleting)
		return 0;
	s.json = registry_parse(ctx->arena, s.object);
	if (json_count(json_at(s.json, "spec.selector")) == 0 ||
	    str_is(json_at_str(s.json, "spec.type"), "ExternalName"))
		return 0;
	pairs[1] = arena_printf(ctx->arena, "%.*s", STR_ARG(s.object->name));
	if (backends_is_headless(s.json)) {
		pairs[4] = SLICE_HEADLESS_LABEL;
		pairs[5] = "";
	}
	s.labels = backends_labels(ctx->arena, s.json, pairs);
	s.backends = backends_of(ctx, service_index_cache(runner_state(ctx->runner)), s.object, s.json, true);
	s.slices = objects_owned(ctx->arena, ctx->reg, KIND_ENDPOINTSLICE, s.object->uid);
	reconcile_family(&s, 0);
	reconcile_family(&s, 1);
	return 0;
}

/* Somebody else's change to one of our slices is undone. */
static void map_slice(struct runner *r, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	struct str service = object_label(o, STR(SLICE_SERVICE_LABEL));

	if (service.n > 0 && str_is(object_label(o, STR(SLICE_MANAGER_LABEL)), SLICE_MANAGER))
		runner_enqueue(r, o->ns, service);
}

static const struct controller_watch watches[] = {
	{ &KIND_SERVICE, service_index_map_service },
	{ &KIND_POD, service_index_map_pod },
	{ &KIND_ENDPOINTSLICE, map_slice },
};

const struct controller controller_endpointslice = {
	.name = "endpointslice",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = service_index_start,
	.stop = service_index_stop,
	.reconcile = reconcile,
};
