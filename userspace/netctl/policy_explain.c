/* SPDX-License-Identifier: Apache-2.0 */
/* Why a flow may pass. Goes the other way than policy.c: one flow against each rule as it stands in the objects, so
 * that the two can be held against each other. Pure. */
#include <string.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/policy.h"

struct question {
	const struct policy_end *far; /* of the direction that is asked about */
	const struct net_pod *asked;  /* whose ports a name means; NULL: nobody's */
	uint8_t proto;
	uint16_t port;
};

/* hostNetwork pods are no pods to policies. */
static const struct net_pod *explain_pod(const struct policy_end *end)
{
	return end->pod && !end->pod->host_network && !end->is_node ? end->pod : NULL;
}

static bool explain_block(const struct net_peer *peer, const struct dp_addr *addr)
{
	if (!address_in(addr, &peer->block.addr, peer->block.len))
		return false;
	for (size_t i = 0; i < peer->n_excepts; i++)
		if (address_in(addr, &peer->excepts[i].addr, peer->excepts[i].len))
			return false;
	return true;
}

static bool explain_peer(const struct net_policy *policy, const struct net_peer *peer, const struct policy_end *far)
{
	const struct net_pod *pod = explain_pod(far);
	const struct net_namespace *home = pod ? pod->home : NULL;

	if (peer->has_block)
		return explain_block(peer, &far->addr);
	if (!pod || !pod->has_addr || !(peer->has_pods || peer->has_namespaces))
		return false;
	if (peer->has_pods && !selector_matches(&peer->pods, pod->labels, pod->n_labels))
		return false;
	if (!peer->has_namespaces)
		return home == policy->home;
	return home->exists && selector_matches(&peer->namespaces, home->labels, home->n_labels);
}

static bool explain_named_port(const struct net_port *p, const struct net_pod *pod, uint16_t port)
{
	for (size_t i = 0; pod && i < pod->n_ports; i++)
		if (pod->ports[i].proto == p->proto && str_eq(pod->ports[i].name, p->name))
			return pod->ports[i].port && pod->ports[i].port == port;
	return false;
}

static bool explain_port(const struct net_port *p, const struct question *q)
{
	if (p->proto != q->proto)
		return false;
	if (p->name.n)
		return explain_named_port(p, q->asked, q->port);
	return !p->port || (q->port >= p->port && q->port <= (p->end_port ? p->end_port : p->port));
}

static bool explain_rule(const struct net_policy *policy, const struct net_rule *rule, const struct question *q)
{
	bool peer = !rule->n_peers, port = !rule->n_ports;

	for (size_t i = 0; !peer && i < rule->n_peers; i++)
		peer = explain_peer(policy, &rule->peers[i], q->far);
	for (size_t i = 0; !port && i < rule->n_ports; i++)
		port = explain_port(&rule->ports[i], q);
	return peer && port;
}

static bool explain_policy(const struct net_policy *policy, uint8_t direction, const struct question *q)
{
	const struct net_rule *rules = direction == DP_INGRESS ? policy->ingress_rules : policy->egress_rules;
	size_t n = direction == DP_INGRESS ? policy->n_ingress_rules : policy->n_egress_rules;

	for (size_t i = 0; i < n; i++)
		if (explain_rule(policy, &rules[i], q))
			return true;
	return false;
}

static int by_name(const void *pa, const void *pb)
{
	const struct net_policy *const *a = pa, *const *b = pb;

	return str_cmp((*a)->name, (*b)->name);
}

static void explain_side(struct arena *arena, const struct net_pod *self, uint8_t direction, const struct question *q,
			 struct policy_verdict *ret)
{
	struct policy_verdict v = { .allowed = true };
	struct policy_selection s = { 0 };

	if (self)
		policy_of_pod(arena, self, &s);
	v.selecting = arena_new_array(arena, const struct net_policy *, s.n);
	v.allowing = arena_new_array(arena, const struct net_policy *, s.n);
	if (s.n)
		qsort(s.policies, s.n, sizeof(*s.policies), by_name);
	for (size_t i = 0; i < s.n; i++) {
		const struct net_policy *p = s.policies[i];

		if (!(direction == DP_INGRESS ? p->ingress : p->egress))
			continue;
		v.selecting[v.n_selecting++] = p;
		if (explain_policy(p, direction, q))
			v.allowing[v.n_allowing++] = p;
	}
	v.isolated = v.n_selecting;
	v.allowed = !v.isolated || v.n_allowing;
	*ret = v;
}

void policy_explain(struct arena *arena, const struct net_model *model, const struct policy_end *from,
		    const struct policy_end *to, uint8_t proto, uint16_t port, struct policy_explanation *ret)
{
	const struct net_pod *sender = explain_pod(from), *receiver = explain_pod(to);
	const struct question out = { to, receiver, proto, port }, in = { from, receiver, proto, port };
	struct policy_explanation e = { 0 };
	bool own = sender && sender == receiver;

	explain_side(arena, sender, DP_EGRESS, &out, &e.egress);
	explain_side(arena, receiver, DP_INGRESS, &in, &e.ingress);
	/* What never leaves the pod, and what the node itself begins, nobody stops. */
	if (own)
		e.egress.allowed = e.ingress.allowed = true;
	if (!sender && (from->is_node || (from->pod && from->pod->host_network)))
		e.ingress.allowed = true;
	e.allowed = e.egress.allowed && e.ingress.allowed;
	*ret = e;
}
