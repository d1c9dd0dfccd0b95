/* SPDX-License-Identifier: Apache-2.0 */
/* Services of type LoadBalancer without a class: the node itself is the balancer, its addresses are the ingress. A port
 * of an address is one Service's: the one that has it in its status, else the first to ask; others wait without
 * ingress and get it when it is free. The API server's port is nobody's. Nothing outside the cluster is made, so no
 * finalizer is needed; one that another controller left behind does not hold a Service up. Keys: Services. Loop
 * thread only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/names.h"
#include "userspace/base/map.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#define LB_FINALIZER "service.kubernetes.io/load-balancer-cleanup"
#define LB_COMPONENT "service-controller"
#define LB_FAMILIES 2
#define LB_ADDRESSES_MAX 32 /* of one family */
#define LB_PLACE_MAX 24     /* "4/65535/SCTP" */

static const struct str lb_families[LB_FAMILIES] = { { "IPv4", 4 }, { "IPv6", 4 } };

/* Of one Service of type LoadBalancer. */
struct lb_service {
	struct str ns, name; /* inside its block */
	char (*places)[LB_PLACE_MAX];
	size_t n_places;
	char *told; /* why it waits, as last told; NULL: it does not */
};

/* A port of the node's addresses of one family. */
struct lb_place {
	struct lb_service *holder; /* NULL: free */
	char **waiters;            /* keys "ns/name" */
	size_t n_waiters, cap_waiters;
};

struct lb_state {
	struct map services; /* "ns/name" -> struct lb_service */
	struct map places;   /* "4/80/TCP" -> struct lb_place */
};

/* ---- who has which port ---- */

static struct lb_service *lb_find(struct lb_state *state, struct str ns, struct str name, bool make)
{
	_cleanup_free_ char *key = mem_printf("%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
	struct lb_service *s = map_get(&state->services, str_of(key));
	char *text;

	if (s || !make)
		return s;
	s = mem_zalloc(sizeof(*s) + ns.n + name.n);
	text = (char *)(s + 1);
	memcpy(text, key, ns.n);
	memcpy(text + ns.n, key + ns.n + 1, name.n);
	s->ns = str_make(text, ns.n);
	s->name = str_make(text + ns.n, name.n);
	map_put(&state->services, str_of(key), s);
	return s;
}

static void place_free(struct lb_place *p)
{
	for (size_t i = 0; i < p->n_waiters; i++)
		free(p->waiters[i]);
	free(p->waiters);
	free(p);
}

/* Those who waited look again. */
static void place_release(struct runner *r, struct lb_state *state, const char *key)
{
	struct lb_place *p = map_remove(&state->places, str_of(key));

	if (!p)
		return;
	for (size_t i = 0; i < p->n_waiters; i++) {
		struct str name = str_of(p->waiters[i]), ns;

		str_split(&name, '/', &ns);
		runner_enqueue(r, ns, name);
	}
	place_free(p);
}

static void lb_release(struct runner *r, struct lb_service *s)
{
	for (size_t i = 0; i < s->n_places; i++)
		place_release(r, runner_state(r), s->places[i]);
	free(s->places);
	s->places = NULL;
	s->n_places = 0;
}

/* True when it was known. */
static bool lb_forget(struct runner *r, struct str ns, struct str name)
{
	_cleanup_free_ char *key = mem_printf("%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
	struct lb_state *state = runner_state(r);
	struct lb_service *s = map_remove(&state->services, str_of(key));

	if (!s)
		return false;
	lb_release(r, s);
	free(s->told);
	free(s);
	return true;
}

static void place_wait(struct lb_place *p, const struct lb_service *s)
{
	char *key = mem_printf("%.*s/%.*s", STR_ARG(s->ns), STR_ARG(s->name));

	for (size_t i = 0; i < p->n_waiters; i++)
		if (strcmp(p->waiters[i], key) == 0) {
			free(key);
			return;
		}
	mem_grow(p->waiters, p->cap_waiters, p->n_waiters + 1);
	p->waiters[p->n_waiters++] = key;
}

/* All of them or none. The one who stands in the way, or NULL. */
static const struct lb_service *lb_claim(struct runner *r, struct lb_service *s, char (*places)[LB_PLACE_MAX], size_t n,
					 const char **ret_place)
{
	struct lb_state *state = runner_state(r);
	const struct lb_service *holder = NULL;

	for (size_t i = 0; i < n; i++) {
		struct lb_place *p = map_get(&state->places, str_of(places[i]));

		if (!p || p->holder == s)
			continue;
		place_wait(p, s);
		*ret_place = places[i];
		holder = p->holder;
	}
	if (holder)
		return holder;
	for (size_t i = 0; i < n; i++) {
		struct lb_place *p = map_get(&state->places, str_of(places[i]));

		if (!p) {
			p = mem_new(struct lb_place);
			p->holder = s;
			map_put(&state->places, str_of(places[i]), p);
		}
	}
	return NULL;
}

static bool lb_has_place(char (*places)[LB_PLACE_MAX], size_t n, const char *place)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(places[i], place) == 0)
			return true;
	return false;
}

static void lb_keep(struct lb_service *s, char (*places)[LB_PLACE_MAX], size_t n)
{
	free(s->places);
	s->places = mem_calloc(n + 1, sizeof(*s->places));
	s->n_places = n;
	if (n)
		memcpy(s->places, places, n * sizeof(*places));
}

/* Gives up what is not wanted any more, then asks for the rest; refused, it has what it had of these. */
static const struct lb_service *lb_take(struct runner *r, struct lb_service *s, char (*places)[LB_PLACE_MAX], size_t n,
					const char **ret_place)
{
	const struct lb_service *holder;
	size_t kept = 0;

	for (size_t i = 0; i < s->n_places; i++) {
		if (!lb_has_place(places, n, s->places[i]))
			place_release(r, runner_state(r), s->places[i]);
		else
			memmove(s->places[kept++], s->places[i], LB_PLACE_MAX);
	}
	s->n_places = kept;
	holder = lb_claim(r, s, places, n, ret_place);
	if (!holder)
		lb_keep(s, places, n);
	return holder;
}

/* ---- what a Service wants ---- */

static bool lb_wants(const struct json *spec)
{
	return str_is(json_get_str(spec, "type"), "LoadBalancer") && !json_get_str(spec, "loadBalancerClass").n;
}

/* 0: IPv4; -1: none. */
static int lb_family(struct str text)
{
	for (int f = 0; f < LB_FAMILIES; f++)
		if (str_eq(text, lb_families[f]))
			return f;
	return -1;
}

static const char *lb_proto(const struct json *port)
{
	struct str proto = json_get_str(port, "protocol");

	return str_is(proto, "UDP") ? "UDP" : str_is(proto, "SCTP") ? "SCTP" : "TCP";
}

/* `reserved`: a TCP port that nobody gets. */
static size_t lb_places(struct arena *arena, const struct json *spec, int reserved, char (**ret)[LB_PLACE_MAX],
			bool *ret_reserved)
{
	const struct json *families = json_get(spec, "ipFamilies"), *ports = json_get(spec, "ports");
	size_t max = json_count(families) * json_count(ports), n = 0;
	char(*places)[LB_PLACE_MAX] = arena_zalloc(arena, (max + 1) * sizeof(*places));

	*ret_reserved = false;
	json_foreach(f, families)
		json_foreach(p, ports) {
			uint16_t port = (uint16_t)json_get_int(p, "port", 0);
			const char *proto = lb_proto(p);

			if (lb_family(json_str(f)) < 0)
				continue;
			if (port == reserved && strcmp(proto, "TCP") == 0)
				*ret_reserved = true;
			else
				snprintf(places[n++], sizeof(*places), "%d/%u/%s", lb_family(json_str(f)) ? 6 : 4, port,
					 proto);
		}
	*ret = places;
	return n;
}

/* ---- the node's addresses ---- */

struct lb_addresses {
	struct arena *arena;
	const char *node_name;
	struct str texts[LB_FAMILIES][LB_ADDRESSES_MAX];
	size_t n[LB_FAMILIES];
	bool external[LB_FAMILIES];
	bool node; /* there is one */
};

/* External ones, where there are any, before internal ones. */
static void lb_add_address(struct lb_addresses *a, struct str type, struct str text)
{
	bool external = str_is(type, "ExternalIP");
	struct names_ip ip;
	int f;

	if ((!external && !str_is(type, "InternalIP")) || names_parse_ip(text, &ip) < 0)
		return;
	f = ip.family == 6;
	if (external && !a->external[f])
		a->n[f] = 0;
	a->external[f] |= external;
	if (external != a->external[f] || a->n[f] == LB_ADDRESSES_MAX)
		return;
	for (size_t i = 0; i < a->n[f]; i++)
		if (str_eq(a->texts[f][i], text))
			return;
	a->texts[f][a->n[f]++] = text;
}

static void lb_look_at_node(void *arg, const struct object *o)
{
	struct lb_addresses *a = arg;

	if (a->node_name && !str_is(o->name, a->node_name))
		return;
	a->node = true;
	json_foreach(address, json_at(registry_parse(a->arena, o), "status.addresses"))
		lb_add_address(a, json_get_str(address, "type"), json_get_str(address, "address"));
}

static struct json *lb_ingress(struct reconcile *ctx, const struct json *spec, bool *ret_node)
{
	struct lb_addresses a = { .arena = ctx->arena, .node_name = ctx->options->node_name };
	struct json *list = json_new_array(ctx->arena);

	registry_each(ctx->reg, KIND_NODE, STR_NULL, lb_look_at_node, &a);
	json_foreach(family, json_get(spec, "ipFamilies")) {
		int f = lb_family(json_str(family));

		for (size_t i = 0; f >= 0 && i < a.n[f]; i++) {
			struct json *in = json_new_object(ctx->arena);

			json_set_str(ctx->arena, in, "ip", a.texts[f][i]);
			json_set_cstr(ctx->arena, in, "ipMode", "VIP");
			json_append(list, in);
		}
	}
	*ret_node = a.node;
	return list;
}

/* ---- writing ---- */

static bool ingress_equal(const struct json *have, const struct json *want)
{
	return json_count(have) == 0 ? json_count(want) == 0 : json_equal(have, want);
}

/* Which ports of an address are not served is told by who serves them. */
static void ingress_keep_ports(struct arena *arena, struct json *want, const struct json *have)
{
	json_foreach(w, want)
		json_foreach(h, have)
			if (str_eq(json_get_str(w, "ip"), json_get_str(h, "ip")) && json_get(h, "ports"))
				json_set(w, "ports", json_clone(arena, json_get(h, "ports")));
}

static int mutate_ingress(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *status = json_ensure_object(arena, object, "status"), *balancer = json_new_object(arena);
	struct json *want = json_clone(arena, arg);

	ingress_keep_ports(arena, want, json_at(status, "loadBalancer.ingress"));
	if (ingress_equal(json_at(status, "loadBalancer.ingress"), want))
		return 1;
	if (json_count(want))
		json_set(balancer, "ingress", want);
	json_set(status, "loadBalancer", balancer);
	return 0;
}

static int mutate_finalizer(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	return meta_remove_finalizer(object, STR(LB_FINALIZER)) ? 0 : 1;
}

static void lb_write(struct reconcile *ctx, const struct object *service, const struct json *tree, struct json *want)
{
	struct reconcile_note *note = arena_new(ctx->arena, struct reconcile_note);
	bool ensure = json_count(want) > 0;

	ingress_keep_ports(ctx->arena, want, json_at(tree, "status.loadBalancer.ingress"));
	if (ingress_equal(json_at(tree, "status.loadBalancer.ingress"), want))
		return;
	*note = (struct reconcile_note){
		.component = LB_COMPONENT,
		.about = service,
		.ok_reason = ensure ? "EnsuredLoadBalancer" : "DeletedLoadBalancer",
		.ok_message = ensure ? "Ensured load balancer" : "Deleted load balancer",
		.fail_reason = "SyncLoadBalancerFailed",
		.fail_prefix = "Error syncing load balancer: ",
	};
	if (ensure)
		registry_event(ctx->reg, LB_COMPONENT, service, "Normal", "EnsuringLoadBalancer",
			       "Ensuring load balancer");
	else
		registry_event(ctx->reg, LB_COMPONENT, service, "Normal", "DeletingLoadBalancer",
			       "Deleting load balancer");
	reconcile_update(ctx, KIND_SERVICE, service->ns, service->name, "status", mutate_ingress, want, note);
}

/* Told once for each reason. */
static void lb_wait(struct reconcile *ctx, struct lb_service *s, const struct object *service, const char *reason,
		    const char *why)
{
	if (why && (!s->told || strcmp(s->told, why) != 0))
		registry_event(ctx->reg, LB_COMPONENT, service, "Warning", reason, "%s", why);
	free(s->told);
	s->told = why ? mem_strdup(why) : NULL;
}

/* ---- reconcile ---- */

/* Not a balancer of ours (any more). */
static void lb_leave(struct reconcile *ctx, const struct object *service, const struct json *tree)
{
	const struct json *spec = json_get(tree, "spec");
	bool ours = lb_forget(ctx->runner, ctx->ns, ctx->name);

	if (json_get_str(spec, "loadBalancerClass").n)
		return;
	if (meta_has_finalizer(tree, STR(LB_FINALIZER)))
		reconcile_update(ctx, KIND_SERVICE, service->ns, service->name, NULL, mutate_finalizer, NULL, NULL);
	if (service->deleting)
		return;
	lb_write(ctx, service, tree, json_new_array(ctx->arena));
	/* The ingress went with the type. */
	if (ours && !json_count(json_at(tree, "status.loadBalancer.ingress")))
		registry_event(ctx->reg, LB_COMPONENT, service, "Normal", "DeletedLoadBalancer",
			       "Deleted load balancer");
}

/* Why not all is as the Service wants it; NULL: it is. */
static const char *lb_complaint(struct reconcile *ctx, const struct lb_service *holder, const char *place,
				bool reserved)
{
	if (holder)
		return arena_printf(ctx->arena,
				    "Error syncing load balancer: port %s of the node is taken by Service %.*s/%.*s",
				    strchr(place, '/') + 1, STR_ARG(holder->ns), STR_ARG(holder->name));
	if (reserved)
		return arena_printf(ctx->arena, "Error syncing load balancer: port %d of the node is the API server's",
				    ctx->options->apiserver_port);
	return NULL;
}

static void lb_ensure(struct reconcile *ctx, const struct object *service, const struct json *tree)
{
	const struct json *spec = json_get(tree, "spec");
	struct lb_service *s = lb_find(runner_state(ctx->runner), ctx->ns, ctx->name, true);
	const char *why, *place = NULL, *reason = "SyncLoadBalancerFailed";
	struct json *want = json_new_array(ctx->arena);
	const struct lb_service *holder;
	char(*places)[LB_PLACE_MAX];
	bool node = true, reserved;
	size_t n;

	n = lb_places(ctx->arena, spec, ctx->options->apiserver_port, &places, &reserved);
	holder = lb_take(ctx->runner, s, places, n, &place);
	why = lb_complaint(ctx, holder, place, reserved);
	if (s->n_places)
		want = lb_ingress(ctx, spec, &node);
	if (!why && s->n_places && node && !json_count(want)) {
		reason = "UnAvailableLoadBalancer";
		why = "There are no available nodes for LoadBalancer";
	}
	lb_wait(ctx, s, service, reason, why);
	lb_write(ctx, service, tree, want);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *service = registry_get(ctx->reg, KIND_SERVICE, ctx->ns, ctx->name);
	const struct json *tree;

	if (!service) {
		lb_forget(ctx->runner, ctx->ns, ctx->name);
		return 0;
	}
	tree = registry_parse(ctx->arena, service);
	if (lb_wants(json_get(tree, "spec")) && !service->deleting)
		lb_ensure(ctx, service, tree);
	else
		lb_leave(ctx, service, tree);
	return 0;
}

/* ---- changes ---- */

static bool object_speaks_of(const struct object *o, struct str what)
{
	return memmem(o->json.p, o->json.n, what.p, what.n) != NULL;
}

/* Most Services are none of our business, and are not read. */
static bool lb_concerns(const struct object *o)
{
	return object_speaks_of(o, STR("\"LoadBalancer\"")) || object_speaks_of(o, STR("\"ingress\"")) ||
	       object_speaks_of(o, STR(LB_FINALIZER));
}

static void map_service(struct runner *r, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char(*places)[LB_PLACE_MAX];
	const struct json *tree;
	const char *place;
	bool reserved;
	size_t n;

	if (!lb_concerns(o) && !(prev && lb_concerns(prev)))
		return;
	runner_enqueue(r, o->ns, o->name);
	if (type != REGISTRY_ADDED)
		return;
	/* Who had a port when the server last ran has it before others ask. */
	tree = registry_parse(&arena, o);
	if (!lb_wants(json_get(tree, "spec")) || !json_count(json_at(tree, "status.loadBalancer.ingress")))
		return;
	n = lb_places(&arena, json_get(tree, "spec"), 0, &places, &reserved);
	lb_take(r, lb_find(runner_state(r), o->ns, o->name, true), places, n, &place);
}

static bool same_addresses(const struct object *a, const struct object *b)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	return json_equal(json_at(registry_parse(&arena, a), "status.addresses"),
			  json_at(registry_parse(&arena, b), "status.addresses"));
}

static void map_node(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	struct lb_state *state = runner_state(r);

	if (!state->services.n || (type == REGISTRY_MODIFIED && prev && same_addresses(o, prev)))
		return;
	map_foreach(e, &state->services) {
		const struct lb_service *s = e->value;

		runner_enqueue(r, s->ns, s->name);
	}
}

static int start(struct runner *r, struct err *err)
{
	runner_set_state(r, mem_new(struct lb_state));
	return 0;
}

static void stop(struct runner *r)
{
	struct lb_state *state = runner_state(r);

	map_foreach(e, &state->services) {
		struct lb_service *s = e->value;

		free(s->places);
		free(s->told);
		free(s);
	}
	map_foreach(e, &state->places)
		place_free(e->value);
	map_finish(&state->services);
	map_finish(&state->places);
	free(state);
}

static const struct controller_watch watches[] = {
	{ &KIND_SERVICE, map_service },
	{ &KIND_NODE, map_node },
};

const struct controller controller_service_lb = {
	.name = "service-lb",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.stop = stop,
	.reconcile = reconcile,
};
