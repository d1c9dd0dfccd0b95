/* SPDX-License-Identifier: Apache-2.0 */
/* EndpointSlices of Endpoints that somebody wrote for a Service without a selector: one slice for each address family
 * and each list of ports, of at most so many endpoints as upstream mirrors. They go with their Endpoints by owner
 * reference. Loop thread only. */
#include <errno.h>

#include "userspace/api/names.h"
#include "userspace/base/map.h"
#include "userspace/controllers/backends.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/table.h"

#define MIRROR_COMPONENT "endpoint-slice-mirroring-controller"
#define MIRROR_SERVICE_LABEL "kubernetes.io/service-name"
#define MIRROR_MANAGER_LABEL "endpointslice.kubernetes.io/managed-by"
#define MIRROR_MANAGER "endpointslicemirroring-controller.k8s.io"
#define MIRROR_SKIP_LABEL "endpointslice.kubernetes.io/skip-mirror"
#define MIRROR_LEADER_ANNOTATION "control-plane.alpha.kubernetes.io/leader"
#define MIRROR_ENDPOINTS_MAX 1000 /* of a subset, and of a slice */

/* Of Endpoints alone. */
static const char *const mirror_own_annotations[] = {
	"endpoints.kubernetes.io/last-change-trigger-time",
	"kubectl.kubernetes.io/last-applied-configuration",
};

/* One slice as it is to be. */
struct group {
	bool v6;
	const char *key; /* the ports as text */
	struct json *ports, *endpoints;
	struct map seen;            /* addresses */
	const struct object *slice; /* NULL: new */
	struct group *next;
};

struct mirror {
	struct reconcile *ctx;
	const struct object *object; /* the Endpoints */
	struct json *json, *labels, *annotations;
	struct group *groups, **tail;
	size_t invalid, skipped;
};

/* ---- what is wanted ---- */

static struct json *mirror_ports(struct arena *arena, const struct json *ports)
{
	struct json *list = json_new_array(arena);

	json_foreach(p, ports) {
		struct json *port = json_new_object(arena);

		json_set_str(arena, port, "name", json_get_str(p, "name"));
		json_set_int(arena, port, "port", json_get_int(p, "port", 0));
		json_set_str(arena, port, "protocol", json_get_str(p, "protocol"));
		if (json_get(p, "appProtocol"))
			json_set(port, "appProtocol", json_clone(arena, json_get(p, "appProtocol")));
		json_append(list, port);
	}
	return list;
}

static struct group *group_get(struct mirror *m, bool v6, const char *key, struct json *ports)
{
	struct group *g;

	for (g = m->groups; g; g = g->next)
		if (g->v6 == v6 && !strcmp(g->key, key))
			return g;
	g = arena_new(m->ctx->arena, struct group);
	*g = (struct group){
		.v6 = v6, .key = key, .ports = ports, .endpoints = json_new_array(m->ctx->arena), .seen = MAP_INIT
	};
	*m->tail = g;
	m->tail = &g->next;
	return g;
}

static struct json *mirror_endpoint(struct arena *arena, const struct json *address, struct str ip, bool ready)
{
	struct json *e = json_new_object(arena);

	json_append(json_ensure_array(arena, e, "addresses"), json_new_str(arena, ip));
	json_set_bool(arena, json_ensure_object(arena, e, "conditions"), "ready", ready);
	if (json_get_str(address, "hostname").n > 0)
		json_set_str(arena, e, "hostname", json_get_str(address, "hostname"));
	if (json_get_str(address, "nodeName").n > 0)
		json_set_str(arena, e, "nodeName", json_get_str(address, "nodeName"));
	if (json_get(address, "targetRef"))
		json_set(e, "targetRef", json_clone(arena, json_get(address, "targetRef")));
	return e;
}

static bool mirror_add(struct mirror *m, const char *key, struct json *ports, const struct json *address, bool ready)
{
	struct arena *arena = m->ctx->arena;
	char text[NAMES_ADDRESS_MAX];
	struct names_ip ip;
	struct group *g;
	struct str usual;

	if (names_parse_ip(json_get_str(address, "ip"), &ip) < 0)
		return false;
	usual = (struct str){ .p = text, .n = names_format_ip(&ip, text) };
	usual = str_of(arena_printf(arena, "%.*s", STR_ARG(usual)));
	g = group_get(m, ip.family == 6, key, ports);
	if (map_has(&g->seen, usual) || json_count(g->endpoints) >= MIRROR_ENDPOINTS_MAX)
		return true;
	map_put(&g->seen, usual, g);
	json_append(g->endpoints, mirror_endpoint(arena, address, usual, ready));
	return true;
}

static void mirror_subset(struct mirror *m, const struct json *subset)
{
	static const char *const lists[] = { "addresses", "notReadyAddresses" };
	struct json *ports = mirror_ports(m->ctx->arena, json_get(subset, "ports"));
	const char *key = backends_ports_key(m->ctx->arena, ports);
	size_t added = 0;

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		json_foreach(a, json_get(subset, lists[l])) {
			if (added >= MIRROR_ENDPOINTS_MAX)
				m->skipped++;
			else if (mirror_add(m, key, ports, a, l == 0))
				added++;
			else
				m->invalid++;
		}
	}
}

static void mirror_meta(struct mirror *m)
{
	struct arena *arena = m->ctx->arena;
	struct json *annotations = json_at(m->json, "metadata.annotations"),
		    *labels = json_at(m->json, "metadata.labels");

	m->labels = labels ? json_clone(arena, labels) : json_new_object(arena);
	json_set_str(arena, m->labels, MIRROR_SERVICE_LABEL, m->object->name);
	json_set_cstr(arena, m->labels, MIRROR_MANAGER_LABEL, MIRROR_MANAGER);
	m->annotations = annotations ? json_clone(arena, annotations) : json_new_object(arena);
	for (size_t i = 0; i < ARRAY_SIZE(mirror_own_annotations); i++)
		json_remove(m->annotations, mirror_own_annotations[i]);
}

/* ---- writing ---- */

static const struct reconcile_note *note_of(struct mirror *m)
{
	struct reconcile_note *note = arena_new(m->ctx->arena, struct reconcile_note);

	*note = (struct reconcile_note){
		.component = MIRROR_COMPONENT,
		.about = m->object,
		.fail_reason = "FailedToUpdateEndpointSlices",
		.fail_prefix = arena_printf(m->ctx->arena, "Error updating Endpoint Slices for Endpoints %.*s/%.*s: ",
					    STR_ARG(m->object->ns), STR_ARG(m->object->name)),
	};
	return note;
}

struct slice_change {
	struct json *endpoints, *ports, *labels, *annotations;
	const char *key;
};

/* Lists and maps that are empty may be absent. */
static bool same(const struct json *have, const struct json *want)
{
	return json_count(have) == 0 ? json_count(want) == 0 : json_equal(have, want);
}

static bool differs(struct arena *arena, const struct json *slice, const struct slice_change *c)
{
	return !same(json_get(slice, "endpoints"), c->endpoints) ||
	       strcmp(backends_ports_key(arena, json_get(slice, "ports")), c->key) != 0 ||
	       !same(json_at(slice, "metadata.labels"), c->labels) ||
	       !same(json_at(slice, "metadata.annotations"), c->annotations);
}

static void apply(struct arena *arena, struct json *slice, const struct slice_change *c)
{
	struct json *meta = json_ensure_object(arena, slice, "metadata");

	json_set(slice, "endpoints", json_clone(arena, c->endpoints));
	json_set(slice, "ports", json_clone(arena, c->ports));
	json_set(meta, "labels", json_clone(arena, c->labels));
	json_remove(meta, "annotations");
	if (json_count(c->annotations) > 0)
		json_set(meta, "annotations", json_clone(arena, c->annotations));
}

static int mutate(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	if (meta_deleting(object) || !differs(arena, object, arg))
		return 1;
	apply(arena, object, arg);
	return 0;
}

static void write_group(struct mirror *m, struct group *g)
{
	struct arena *arena = m->ctx->arena;
	struct slice_change *c = arena_new(arena, struct slice_change);
	struct json *o;

	*c = (struct slice_change){ g->endpoints, g->ports, m->labels, m->annotations, g->key };
	if (g->slice) {
		if (differs(arena, registry_parse(arena, g->slice), c))
			reconcile_update(m->ctx, KIND_ENDPOINTSLICE, g->slice->ns, g->slice->name, NULL, mutate, c,
					 note_of(m));
		return;
	}
	o = object_new(arena, KIND_ENDPOINTSLICE, m->object->ns, STR_NULL);
	json_set_cstr(arena, json_get(o, "metadata"), "generateName",
		      arena_printf(arena, "%.*s-", STR_ARG(m->object->name)));
	json_set_cstr(arena, o, "addressType", g->v6 ? "IPv6" : "IPv4");
	apply(arena, o, c);
	object_set_controller(arena, o, KIND_ENDPOINTS, m->object);
	reconcile_create(m->ctx, KIND_ENDPOINTSLICE, o, note_of(m));
}

static bool is_mirrored(const struct object *o)
{
	return !o->deleting && str_is(object_label(o, STR(MIRROR_MANAGER_LABEL)), MIRROR_MANAGER);
}

/* The slice's group: the one with its ports, or (those changed) any of its family without a slice yet. */
static struct group *group_for(struct mirror *m, const struct json *slice, bool any)
{
	bool v6 = str_is(json_get_str(slice, "addressType"), "IPv6");
	const char *key = backends_ports_key(m->ctx->arena, json_get(slice, "ports"));

	for (struct group *g = m->groups; g; g = g->next)
		if (!g->slice && g->v6 == v6 && (any || !strcmp(g->key, key)))
			return g;
	return NULL;
}

/* Without groups: all slices go. */
static void write_slices(struct mirror *m)
{
	struct objects slices = objects_owned(m->ctx->arena, m->ctx->reg, KIND_ENDPOINTSLICE, m->object->uid);
	bool *used = arena_new_array(m->ctx->arena, bool, slices.n + 1);

	for (int any = 0; any < 2; any++) {
		for (size_t i = 0; i < slices.n; i++) {
			struct group *g = NULL;

			if (!used[i] && is_mirrored(slices.items[i]))
				g = group_for(m, registry_parse(m->ctx->arena, slices.items[i]), any);
			if (g)
				g->slice = slices.items[i];
			used[i] = used[i] || g;
		}
	}
	for (struct group *g = m->groups; g; g = g->next)
		write_group(m, g);
	for (size_t i = 0; i < slices.n; i++)
		if (!used[i] && is_mirrored(slices.items[i]))
			reconcile_delete(m->ctx, slices.items[i], KIND_ENDPOINTSLICE, NULL, note_of(m));
}

static void tell_skipped(struct mirror *m)
{
	if (m->invalid)
		registry_event(m->ctx->reg, MIRROR_COMPONENT, m->object, "Warning", "InvalidIPAddress",
			       "Skipped %zu invalid IP addresses when mirroring to EndpointSlices", m->invalid);
	if (m->skipped)
		registry_event(m->ctx->reg, MIRROR_COMPONENT, m->object, "Warning", "TooManyAddressesToMirror",
			       "A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %zu "
			       "addresses were skipped",
			       MIRROR_ENDPOINTS_MAX, m->skipped + m->invalid);
}

static bool is_wanted(struct reconcile *ctx, const struct object *endpoints)
{
	const struct object *service = registry_get(ctx->reg, KIND_SERVICE, endpoints->ns, endpoints->name);

	return service && !str_is(object_label(endpoints, STR(MIRROR_SKIP_LABEL)), "true") &&
	       json_count(json_at(registry_parse(ctx->arena, service), "spec.selector")) == 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct mirror m = { .ctx = ctx, .tail = &m.groups };

	m.object = registry_get(ctx->reg, KIND_ENDPOINTS, ctx->ns, ctx->name);
	if (!m.object || m.object->deleting)
		return 0;
	if (is_wanted(ctx, m.object)) {
		m.json = registry_parse(ctx->arena, m.object);
		if (!meta_has_annotation(m.json, MIRROR_LEADER_ANNOTATION)) {
			mirror_meta(&m);
			json_foreach(s, json_get(m.json, "subsets"))
				mirror_subset(&m, s);
			tell_skipped(&m);
		}
	}
	write_slices(&m);
	for (struct group *g = m.groups; g; g = g->next)
		map_finish(&g->seen);
	return 0;
}

/* Somebody else's change to one of our slices is undone. */
static void map_slice(struct runner *r, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	const struct object *both[] = { o, prev };

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		const struct object *it = both[i];

		if (it && str_is(object_label(it, STR(MIRROR_MANAGER_LABEL)), MIRROR_MANAGER) &&
		    object_label(it, STR(MIRROR_SERVICE_LABEL)).n > 0)
			runner_enqueue(r, it->ns, object_label(it, STR(MIRROR_SERVICE_LABEL)));
	}
}

static const struct controller_watch watches[] = {
	{ &KIND_SERVICE, runner_enqueue_self },
	{ &KIND_ENDPOINTS, runner_enqueue_self },
	{ &KIND_ENDPOINTSLICE, map_slice },
};

const struct controller controller_endpointslice_mirroring = {
	.name = "endpointslice-mirroring",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
