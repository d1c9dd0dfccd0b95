/* SPDX-License-Identifier: Apache-2.0 */
/* A port of the node that a Service and a pod's hostPort both want: by the very same place, or by one at an address of
 * the node and one at all of them, where the look-ups of the dataplane would let the nearer one win and nobody would
 * know. As with two pods that the scheduler is asked to place, who has it keeps it, also over a restart (the maps
 * tell); while neither has it, after a boot, the older object does. Node ports are the cluster's own range: no hostPort
 * has one. A Service that selects the pod is no rival of it: both lead there. Pods claim their ports from when they are
 * bound to this node until they have ended, as the scheduler counts them; a claim that waits itself is none. Who lost
 * looks again when the other leaves. Places that two Services or two pods want are services_places.c's. */
#include <string.h>

#include "userspace/dataplane/inspect.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

static bool places_overlap(struct netctl *nc, const struct dp_service *a, const struct dp_service *b)
{
	if (a->proto != b->proto || a->port != b->port || address_family(&a->addr) != address_family(&b->addr))
		return false;
	if (address_equal(&a->addr, &b->addr))
		return true;
	return (address_is_zero(&a->addr) && dataplane_is_node_address(nc->dp, &b->addr)) ||
	       (address_is_zero(&b->addr) && dataplane_is_node_address(nc->dp, &a->addr));
}

/* Also what an earlier run put there, until somebody claims it: whose it was then is not known, but of which kind. */
static bool rival_has(const struct netctl *nc, const struct net_service *s, const struct dp_service *place)
{
	const struct net_place *p = place_find(nc, place);

	return p && (p->owner ? p->owner == s : p->was_pods == s->pod);
}

static bool rival_selects(const struct netctl *nc, const struct net_service *service, const struct net_service *pod)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct net_pod *p = pod->object ? model_pod(&nc->model, pod->object->uid) : NULL;
	const struct json *labels;
	struct selector selector;

	if (!p || !service->object || strcmp(service->ns, pod->ns) != 0)
		return false;
	labels = json_at(registry_parse(&arena, service->object), "spec.selector");
	selector_from_map(&arena, labels, &selector);
	return json_count(labels) > 0 && selector_matches(&selector, p->labels, p->n_labels);
}

/* ---- a Service looks for a pod ---- */

static bool claim_waits(const struct net_service *pod, const struct dp_service *claim)
{
	for (size_t i = 0; i < pod->n_conflicts; i++)
		if (pod->conflicts[i].held && services_place_cmp(&pod->conflicts[i].place, claim) == 0)
			return true;
	return false;
}

static const struct dp_service *claim_at(struct netctl *nc, const struct net_service *pod, const struct dp_service *f)
{
	for (size_t i = 0; i < pod->n_claims; i++)
		if (places_overlap(nc, &pod->claims[i], f))
			return &pod->claims[i];
	return NULL;
}

static bool claim_counts(const struct netctl *nc, const struct net_service *pod)
{
	const struct net_pod *p = pod->object ? model_pod(&nc->model, pod->object->uid) : NULL;

	return pod->bound || (p && p->attached);
}

static const struct net_service *rival_pod(struct netctl *nc, const struct net_service *s, const struct dp_service *f)
{
	if (f->kind == DP_NODE_PORT || rival_has(nc, s, f))
		return NULL;
	map_foreach(e, &nc->host_ports) {
		const struct net_service *pod = e->value;
		const struct dp_service *c = claim_at(nc, pod, f);

		if (!c || claim_waits(pod, c) || !claim_counts(nc, pod) || rival_selects(nc, s, pod))
			continue;
		if (rival_has(nc, pod, c) || pod->object->created_real_ns <= s->object->created_real_ns)
			return pod;
	}
	return NULL;
}

/* ---- a pod looks for a Service ---- */

static bool rival_owns(struct netctl *nc, const struct net_place *place, const struct dp_service *at,
		       const struct net_service *s, const struct dp_service *f)
{
	const struct net_service *owner = place ? place->owner : NULL;
	const struct dp_service *theirs = owner && !owner->pod ? service_frontend_at(owner, at) : NULL;

	return theirs && theirs->kind != DP_CLUSTER_IP && places_overlap(nc, theirs, f) && !rival_selects(nc, owner, s);
}

static const struct net_service *rival_service(struct netctl *nc, const struct net_service *s,
					       const struct dp_service *f)
{
	const struct net_place *same = place_find(nc, f);

	if (rival_owns(nc, same, f, s, f))
		return same->owner;
	map_foreach(e, &nc->places) {
		const struct net_place *place = e->value;
		struct dp_service at;

		if (!place_key_is_port(e->key, f))
			continue;
		place_frontend(e->key, &at);
		if (rival_owns(nc, place, &at, s, f))
			return place->owner;
	}
	return NULL;
}

const struct net_service *rivals_find(struct netctl *nc, const struct net_service *s, const struct dp_service *f)
{
	if (!s->object || f->kind == DP_CLUSTER_IP)
		return NULL;
	return s->pod ? rival_service(nc, s, f) : rival_pod(nc, s, f);
}

/* ---- balancers that were given no address ---- */

static const struct net_service *balancer_rival(struct netctl *nc, const struct net_service *s,
						const struct dp_service *f)
{
	const struct net_place *p = place_find(nc, f);

	return p && p->owner && p->owner != s ? p->owner : rivals_find(nc, s, f);
}

static bool balancer_has_family(const struct json *spec, enum dp_family family)
{
	json_foreach(f, json_get(spec, "ipFamilies"))
		if (str_is(json_str(f), family == DP_V4 ? "IPv4" : "IPv6"))
			return true;
	return false;
}

void rivals_of_balancer(struct arena *arena, struct netctl *nc, const struct net_service *s, struct json *list)
{
	static const char mark[] = "\"LoadBalancer\"";
	const struct json *tree, *spec;

	if (s->pod || !s->object || !memmem(s->object->json.p, s->object->json.n, mark, sizeof(mark) - 1))
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
			const struct net_service *holder = balancer_rival(nc, s, &f);

			if (holder && balancer_has_family(spec, address_family(&f.addr)))
				json_append(list, listeners_row(arena, &f, false, holder));
		}
}

/* ---- who looks again ---- */

void rivals_wake_services(struct netctl *nc, const struct dp_service *place)
{
	map_foreach(e, &nc->services) {
		struct net_service *s = e->value;

		for (size_t i = 0; i < s->n_conflicts; i++)
			if (s->conflicts[i].rival && places_overlap(nc, &s->conflicts[i].place, place)) {
				service_mark(nc, s);
				break;
			}
	}
}

void rivals_wake_pods(struct netctl *nc, const struct dp_service *place)
{
	map_foreach(e, &nc->host_ports)
		if (claim_at(nc, e->value, place))
			service_mark(nc, e->value);
}

void rivals_claim(struct netctl *nc, struct net_service *pod, bool bound, const struct services_result *claims)
{
	struct dp_service *old = pod->claims;
	size_t n_old = pod->n_claims;

	pod->bound = bound;
	pod->n_claims = claims ? claims->n : 0;
	pod->claims = pod->n_claims ? mem_new_array(struct dp_service, pod->n_claims) : NULL;
	for (size_t i = 0; i < pod->n_claims; i++) {
		const struct dp_service *f = &claims->frontends[i];

		pod->claims[i] =
			(struct dp_service){ .kind = f->kind, .proto = f->proto, .port = f->port, .addr = f->addr };
	}
	for (size_t i = 0; i < n_old; i++)
		if (!claim_at(nc, pod, &old[i]))
			rivals_wake_services(nc, &old[i]);
	free(old);
}
