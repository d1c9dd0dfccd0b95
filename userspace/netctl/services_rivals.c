/* SPDX-License-Identifier: Apache-2.0 */
/* A port of the node that a Service and a pod's hostPort both want: the Service has it wherever it is served, by what
 * the objects and the node's addresses say now, whoever came first. At the very same place a hostPort is the weakest
 * kind (services_places.c). Where one asks for an address of the node and the other for all of them, the look-ups of
 * the dataplane let the nearer one win: right for a balancer's or external address, and the pod is served at the
 * others; before a node port the pod's address is held back here. The pod is told, by an Event and in status; not of a
 * Service that selects it: both lead there. Loop thread only. */
#include <stdlib.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define RIVALS_COMPONENT "k3c-bpf"
#define RIVALS_REASON "PortInUse"

struct rival {
	struct dp_service at; /* first; the nearer of the two places */
	const struct net_service *service;
	bool near; /* it is the Service's own */
};

static bool same_port(const struct dp_service *a, const struct dp_service *b)
{
	return a->proto == b->proto && a->port == b->port && address_family(&a->addr) == address_family(&b->addr);
}

/* The place where both would be served; NULL: there is none. */
static const struct dp_service *rival_meet(struct netctl *nc, const struct dp_service *claim,
					   const struct dp_service *place)
{
	const struct dp_service *near = address_is_zero(&claim->addr) ? place : claim;
	const struct dp_service *far = near == claim ? place : claim;

	if (address_equal(&near->addr, &far->addr))
		return near;
	return address_is_zero(&far->addr) && dataplane_is_node_address(nc->dp, &near->addr) ? near : NULL;
}

static bool rival_selects(const struct netctl *nc, const struct net_service *service, const struct net_service *pod)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct net_pod *p = pod->object ? model_pod(&nc->model, pod->object->uid) : NULL;
	const struct json *labels;
	struct selector selector;

	if (!p || !service->object || !str_is(str_of(service->ns), pod->ns))
		return false;
	labels = json_at(registry_parse(&arena, service->object), "spec.selector");
	selector_from_map(&arena, labels, &selector);
	return json_count(labels) > 0 && selector_matches(&selector, p->labels, p->n_labels);
}

/* ---- who has the pod's ports ---- */

struct rivals {
	struct arena *arena;
	struct rival *items; /* by place, each once */
	size_t n, cap;
	bool possible; /* at other addresses of the node there would be some */
};

/* Of several the one that is nearer. */
static void rivals_add(struct rivals *r, const struct rival *one)
{
	struct rival *items = r->items;

	for (size_t i = 0; i < r->n; i++)
		if (services_place_cmp(&r->items[i].at, &one->at) == 0) {
			if (one->near)
				r->items[i] = *one;
			return;
		}
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 8;
		r->items = arena_new_array(r->arena, struct rival, r->cap);
		for (size_t i = 0; i < r->n; i++)
			r->items[i] = items[i];
	}
	r->items[r->n++] = *one;
}

static void rivals_at(struct netctl *nc, const struct net_service *pod, const struct net_place *p, const char *key,
		      struct rivals *ret)
{
	for (size_t i = 0; i < pod->n_claims; i++) {
		const struct dp_service *claim = &pod->claims[i], *theirs, *at;
		struct dp_service place;

		if (!place_key_is_port(key, claim))
			continue;
		place_frontend(key, &place);
		theirs = service_frontend_at(p->owner, &place);
		if (!theirs || theirs->kind == DP_CLUSTER_IP || !same_port(claim, theirs))
			continue;
		ret->possible = true;
		at = rival_meet(nc, claim, theirs);
		if (at && !rival_selects(nc, p->owner, pod))
			rivals_add(ret, &(struct rival){ { .proto = at->proto, .port = at->port, .addr = at->addr },
							 p->owner,
							 address_equal(&at->addr, &theirs->addr) });
	}
}

static int rival_cmp(const void *a, const void *b)
{
	const struct rival *x = a, *y = b;

	return services_place_cmp(&x->at, &y->at);
}

static void rivals_find(struct netctl *nc, struct arena *arena, const struct net_service *pod, struct rivals *ret)
{
	*ret = (struct rivals){ .arena = arena };
	map_foreach(e, &nc->places) {
		const struct net_place *p = e->value;

		if (p->owner && !p->owner->pod)
			rivals_at(nc, pod, p, e->key, ret);
	}
	if (ret->n)
		qsort(ret->items, ret->n, sizeof(*ret->items), rival_cmp);
}

/* ---- the pod ---- */

static void rival_tell(struct netctl *nc, const struct net_service *pod, const struct rival *r)
{
	char at[ADDRESS_TEXT_MAX];

	address_format(&r->at.addr, at);
	log_warn("a Service has a pod's hostPort pod=%s/%s address=%s port=%u/%s service=%s/%s", pod->ns, pod->name, at,
		 r->at.port, services_proto_text(r->at.proto), r->service->ns, r->service->name);
	registry_event(nc->reg, RIVALS_COMPONENT, pod->object, "Warning", RIVALS_REASON,
		       "Port %u/%s of %s does not lead to the pod: Service %s/%s has it", r->at.port,
		       services_proto_text(r->at.proto), at, r->service->ns, r->service->name);
}

static void rivals_claim(struct net_service *pod, const struct services_result *want)
{
	free(pod->claims);
	pod->n_claims = want->n;
	pod->claims = want->n ? mem_new_array(struct dp_service, want->n) : NULL;
	for (size_t i = 0; i < want->n; i++) {
		const struct dp_service *f = &want->frontends[i];

		pod->claims[i] =
			(struct dp_service){ .kind = f->kind, .proto = f->proto, .port = f->port, .addr = f->addr };
	}
}

/* Told once, while it lasts. */
static void rivals_tell(struct netctl *nc, struct net_service *pod)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct dp_service *told = NULL;
	struct rivals rivals;

	rivals_find(nc, &arena, pod, &rivals);
	if (rivals.n)
		told = mem_new_array(struct dp_service, rivals.n);
	for (size_t i = 0; i < rivals.n; i++) {
		const struct rival *r = &rivals.items[i];

		if (!pod->n_rivals ||
		    !bsearch(&r->at, pod->rivals, pod->n_rivals, sizeof(*pod->rivals), services_place_cmp))
			rival_tell(nc, pod, r);
		told[i] = r->at;
	}
	free(pod->rivals);
	pod->rivals = told;
	pod->n_rivals = rivals.n;
	pod->may_have_rivals = rivals.possible;
}

/* At an address of the node that the pod names the Service is not the nearer one. */
static bool node_port_has(struct netctl *nc, const struct dp_service *f)
{
	struct dp_service any = *f;
	const struct net_place *p;

	if (address_is_zero(&f->addr) || !dataplane_is_node_address(nc->dp, &f->addr))
		return false;
	any.addr = address_any(address_family(&f->addr));
	p = place_find(nc, &any);
	return p && p->owner && !p->owner->pod;
}

void rivals_hold_back(struct netctl *nc, struct net_service *s, struct services_result *want)
{
	size_t kept = 0;

	if (!s->pod)
		return;
	rivals_claim(s, want);
	rivals_tell(nc, s);
	for (size_t i = 0; i < want->n; i++)
		if (!node_port_has(nc, &want->frontends[i]))
			want->frontends[kept++] = want->frontends[i];
	want->n = kept;
}

/* ---- balancers that were given no address: another has a port of theirs ---- */

static bool balancer_has_family(const struct json *spec, enum dp_family family)
{
	json_foreach(f, json_get(spec, "ipFamilies"))
		if (str_is(json_str(f), family == DP_V4 ? "IPv4" : "IPv6"))
			return true;
	return false;
}

static void balancer_json(struct arena *arena, struct netctl *nc, const struct net_service *s, struct json *list)
{
	static const char mark[] = "\"LoadBalancer\"";
	const struct json *tree, *spec;

	if (!s->object || !memmem(s->object->json.p, s->object->json.n, mark, sizeof(mark) - 1))
		return;
	tree = registry_parse(arena, s->object);
	spec = json_get(tree, "spec");
	if (!str_is(json_get_str(spec, "type"), "LoadBalancer") || json_get_str(spec, "loadBalancerClass").n ||
	    json_count(json_at(tree, "status.loadBalancer.ingress")))
		return;
	json_foreach(p, json_get(spec, "ports"))
		for (size_t i = 0; i < nc->n_node_addrs; i++) {
			struct dp_service f = { .kind = DP_LOAD_BALANCER,
						.proto = services_proto(json_get_str(p, "protocol")),
						.port = (uint16_t)json_get_int(p, "port", 0),
						.addr = nc->node_addrs[i] };
			const struct net_place *place = place_find(nc, &f);

			if (place && place->owner && place->owner != s && !place->owner->pod &&
			    balancer_has_family(spec, address_family(&f.addr)))
				json_append(list, listeners_row(arena, &f, false, place->owner));
		}
}

void rivals_json(struct arena *arena, struct netctl *nc, const struct net_service *s, struct json *list)
{
	struct rivals rivals;

	if (!s->pod) {
		balancer_json(arena, nc, s, list);
		return;
	}
	rivals_find(nc, arena, s, &rivals);
	for (size_t i = 0; i < rivals.n; i++)
		json_append(list, listeners_row(arena, &rivals.items[i].at, false, rivals.items[i].service));
}

/* ---- who looks again ---- */

static bool claims_port(const struct net_service *pod, const struct net_service *service)
{
	for (size_t i = 0; i < service->n_frontends; i++)
		for (size_t k = 0; k < pod->n_claims; k++)
			if (service->frontends[i].kind != DP_CLUSTER_IP &&
			    same_port(&pod->claims[k], &service->frontends[i]))
				return true;
	return false;
}

void rivals_wake(struct netctl *nc, const struct net_service *service)
{
	if (service->pod)
		return;
	map_foreach(e, &nc->host_ports)
		if (claims_port(e->value, service))
			service_mark(nc, e->value);
}

void rivals_addresses_changed(struct netctl *nc)
{
	map_foreach(e, &nc->host_ports) {
		struct net_service *pod = e->value;

		if (pod->may_have_rivals)
			service_mark(nc, pod);
	}
}
