/* SPDX-License-Identifier: Apache-2.0 */
/* See policy.h. */
#include "userspace/netctl/policy.h"

#include <string.h>

#include "userspace/netctl/address.h"

/* Identities already emitted for one peer, so that a hundred replicas give one rule. Open addressing; a slot of another
 * peer's stamp is free, so that one table serves all. */
struct policy_seen {
	struct policy_seen_slot {
		uint32_t id, stamp;
	} * slots;
	uint32_t mask, stamp;
};

static void policy_seen_init(struct policy_seen *seen, struct arena *arena, size_t n)
{
	size_t cap = 16;

	while (cap < 2 * n)
		cap *= 2;
	seen->slots = arena_new_array(arena, struct policy_seen_slot, cap);
	seen->mask = (uint32_t)cap - 1;
}

static bool policy_seen_before(struct policy_seen *seen, uint32_t id)
{
	uint32_t i = id & seen->mask;

	while (seen->slots[i].stamp == seen->stamp) {
		if (seen->slots[i].id == id)
			return true;
		i = (i + 1) & seen->mask;
	}
	seen->slots[i] = (struct policy_seen_slot){ id, seen->stamp };
	return false;
}

/* Whose container ports a name means. NULL instead of it: names open nothing. */
struct policy_names {
	const struct net_named_port *ports;
	size_t n;
};

/* One pod's rules on their way. */
struct policy_out {
	struct arena *arena;
	const struct net_model *model;
	const struct net_policy *policy;
	struct policy_names own; /* of the selected pod */
	struct policy_result *result;
	size_t cap;
	struct policy_seen seen;
};

static void policy_emit(struct policy_out *out, const struct dp_policy_rule *rule)
{
	struct policy_result *r = out->result;

	if (r->n_rules == out->cap) {
		size_t cap = out->cap ? out->cap * 2 : 16;
		struct dp_policy_rule *rules = arena_new_array(out->arena, struct dp_policy_rule, cap);

		if (r->n_rules)
			memcpy(rules, r->rules, r->n_rules * sizeof(*rules));
		r->rules = rules;
		out->cap = cap;
	}
	r->rules[r->n_rules++] = *rule;
}

/* 0: none, and then it opens nothing. */
static uint16_t policy_named_port(const struct policy_names *names, const struct net_port *p)
{
	for (size_t i = 0; names && i < names->n; i++)
		if (names->ports[i].proto == p->proto && str_eq(names->ports[i].name, p->name))
			return names->ports[i].port;
	return 0;
}

/* `base` has direction and peer. only_named: ports with numbers stand elsewhere. */
static void policy_emit_ports(struct policy_out *out, const struct net_rule *rule, const struct dp_policy_rule *base,
			      const struct policy_names *names, const struct net_peer *block, bool only_named)
{
	size_t n = rule->n_ports ? rule->n_ports : 1, n_excepts = block ? block->n_excepts : 0;

	for (size_t i = 0; i < n; i++) {
		const struct net_port *p = rule->n_ports ? &rule->ports[i] : NULL;
		struct dp_policy_rule r = *base;

		if (p) {
			r.proto = p->proto;
			r.port = p->port;
			r.end_port = p->end_port;
		}
		if (p && p->name.n)
			r.port = policy_named_port(names, p);
		if (p && p->name.n ? !r.port : only_named)
			continue;
		/* A block without its excepts would allow more: all or nothing. */
		if (out->result->n_rules + 1 + n_excepts > POLICY_RULES_MAX) {
			out->result->truncated = true;
			continue;
		}
		policy_emit(out, &r);
		r.deny = true;
		for (size_t k = 0; k < n_excepts; k++) {
			r.prefix = block->excepts[k].addr;
			r.prefix_len = block->excepts[k].len;
			policy_emit(out, &r);
		}
	}
}

static bool policy_has_named_port(const struct net_rule *rule)
{
	for (size_t i = 0; i < rule->n_ports; i++)
		if (rule->ports[i].name.n)
			return true;
	return false;
}

static bool policy_in_block(const struct net_peer *peer, const struct dp_addr *addr)
{
	if (!address_in(addr, &peer->block.addr, peer->block.len))
		return false;
	for (size_t i = 0; i < peer->n_excepts; i++)
		if (address_in(addr, &peer->excepts[i].addr, peer->excepts[i].len))
			return false;
	return true;
}

static bool policy_pod_in_block(const struct net_peer *peer, const struct net_pod *pod)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		if (!address_is_zero(&pod->addrs[f]) && policy_in_block(peer, &pod->addrs[f]))
			return true;
	return false;
}

static bool policy_peer_has_namespace(const struct net_policy *policy, const struct net_peer *peer,
				      const struct net_namespace *ns)
{
	if (!peer->has_namespaces)
		return peer->has_pods && ns == policy->home;
	return ns->exists && selector_matches(&peer->namespaces, ns->labels, ns->n_labels);
}

static bool policy_peer_has_pod(const struct net_peer *peer, const struct net_pod *pod)
{
	return pod->has_addr && (!peer->has_pods || selector_matches(&peer->pods, pod->labels, pod->n_labels));
}

/* On the way out a name means each receiver's own port. In a block that is one rule for each address. */
static void policy_emit_named_in_block(struct policy_out *out, const struct net_rule *rule,
				       const struct net_peer *block)
{
	list_foreach(pod, &out->model->pods, struct net_pod, link) {
		const struct policy_names names = { pod->ports, pod->n_ports };

		for (int f = 0; pod->has_addr && pod->n_ports && f < DP_FAMILIES; f++) {
			const struct dp_policy_rule base = { .direction = DP_EGRESS,
							     .prefix = pod->addrs[f],
							     .prefix_len = 128 };

			if (!address_is_zero(&pod->addrs[f]) && policy_in_block(block, &pod->addrs[f]))
				policy_emit_ports(out, rule, &base, &names, NULL, true);
		}
	}
}

static void policy_see_anew(struct policy_out *out)
{
	if (!out->seen.slots)
		policy_seen_init(&out->seen, out->arena, out->model->pods_by_uid.n);
	out->seen.stamp++;
}

/* To everyone: one rule for each identity that has such a port. */
static void policy_emit_named_of_all(struct policy_out *out, const struct net_rule *rule)
{
	policy_see_anew(out);
	list_foreach(pod, &out->model->pods, struct net_pod, link) {
		const struct policy_names names = { pod->ports, pod->n_ports };
		const struct dp_policy_rule base = { .direction = DP_EGRESS, .identity = pod->identity };

		if (pod->has_addr && pod->n_ports && !policy_seen_before(&out->seen, pod->identity))
			policy_emit_ports(out, rule, &base, &names, NULL, true);
	}
}

/* Whom the selectors of a peer find: the same for every pod that the policy selects, so it is kept until one of the
 * changes below. */
static void policy_resolve(struct policy_out *out, struct net_peer *peer)
{
	policy_see_anew(out);
	peer->n_ids = 0;
	list_foreach(ns, &out->model->namespaces, struct net_namespace, link) {
		if (!policy_peer_has_namespace(out->policy, peer, ns))
			continue;
		list_foreach(pod, &ns->pods, struct net_pod, in_home) {
			if (!policy_peer_has_pod(peer, pod) || policy_seen_before(&out->seen, pod->identity))
				continue;
			mem_grow(peer->ids, peer->cap_ids, peer->n_ids + 1);
			peer->ids[peer->n_ids++] = pod->identity;
		}
	}
	peer->resolved = true;
}

static void policy_emit_peer(struct policy_out *out, uint8_t direction, const struct net_rule *rule, bool named,
			     struct net_peer *peer)
{
	/* On the way in, names are ports of the selected pod. */
	const struct policy_names *own = direction == DP_INGRESS ? &out->own : NULL;
	struct dp_policy_rule base = { .direction = direction };

	if (peer->has_block) {
		base.prefix = peer->block.addr;
		base.prefix_len = peer->block.len;
		policy_emit_ports(out, rule, &base, own, peer, false);
		if (named && direction == DP_EGRESS)
			policy_emit_named_in_block(out, rule, peer);
		return;
	}
	if (!peer->resolved)
		policy_resolve(out, peer);
	for (size_t i = 0; i < peer->n_ids; i++) {
		struct policy_names theirs = { 0 };

		base.identity = peer->ids[i];
		if (named && direction == DP_EGRESS)
			theirs.ports = identity_ports(&out->model->identities, base.identity, &theirs.n);
		policy_emit_ports(out, rule, &base, own ? own : &theirs, NULL, false);
	}
}

static void policy_emit_rules(struct policy_out *out, uint8_t direction, const struct net_rule *rules, size_t n)
{
	const struct dp_policy_rule everyone = { .direction = direction, .everyone = true };

	for (size_t i = 0; i < n; i++) {
		bool named = policy_has_named_port(&rules[i]);

		if (!rules[i].n_peers) {
			policy_emit_ports(out, &rules[i], &everyone, direction == DP_INGRESS ? &out->own : NULL, NULL,
					  false);
			if (named && direction == DP_EGRESS)
				policy_emit_named_of_all(out, &rules[i]);
		}
		for (size_t k = 0; k < rules[i].n_peers; k++)
			policy_emit_peer(out, direction, &rules[i], named, &rules[i].peers[k]);
	}
}

void policy_of_pod(struct arena *arena, const struct net_pod *pod, struct policy_selection *ret)
{
	struct policy_selection s = { 0 };
	size_t cap = 0;

	list_foreach(p, &pod->home->policies, struct net_policy, link) {
		if (pod->host_network || !selector_matches(&p->selector, pod->labels, pod->n_labels))
			continue;
		if (s.n == cap) {
			struct net_policy **policies;

			cap = cap ? cap * 2 : 16;
			policies = arena_new_array(arena, struct net_policy *, cap);
			if (s.n)
				memcpy(policies, s.policies, s.n * sizeof(*policies));
			s.policies = policies;
		}
		s.policies[s.n++] = p;
		s.named = s.named || p->named_ingress;
	}
	*ret = s;
}

void policy_translate_selection(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
				const struct policy_selection *selection, struct policy_result *ret)
{
	struct policy_result result = { 0 };
	struct policy_out out = {
		.arena = arena, .model = model, .own = { pod->ports, pod->n_ports }, .result = &result
	};

	for (size_t i = 0; i < selection->n; i++) {
		const struct net_policy *policy = selection->policies[i];

		out.policy = policy;
		if (policy->ingress) {
			result.isolated_ingress = true;
			policy_emit_rules(&out, DP_INGRESS, policy->ingress_rules, policy->n_ingress_rules);
		}
		if (policy->egress) {
			result.isolated_egress = true;
			policy_emit_rules(&out, DP_EGRESS, policy->egress_rules, policy->n_egress_rules);
		}
	}
	*ret = result;
}

void policy_translate(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
		      struct policy_result *ret)
{
	struct policy_selection selection;

	policy_of_pod(arena, pod, &selection);
	policy_translate_selection(arena, model, pod, &selection, ret);
}

/* ---- what a change can affect: both directions are looked at, for what is kept in their peers ---- */

void policy_mark_selected(const struct net_policy *policy)
{
	list_foreach(pod, &policy->home->pods, struct net_pod, in_home)
		if (!pod->stale && selector_matches(&policy->selector, pod->labels, pod->n_labels))
			pod->stale = true;
}

/* Keeps what is resolved true. */
static void policy_peer_note(struct net_peer *peer, uint32_t identity, enum policy_move move)
{
	if (!peer->resolved)
		return;
	if (move == POLICY_ARRIVES) {
		mem_grow(peer->ids, peer->cap_ids, peer->n_ids + 1);
		peer->ids[peer->n_ids++] = identity;
		return;
	}
	for (size_t i = 0; i < peer->n_ids; i++)
		if (peer->ids[i] == identity)
			peer->ids[i--] = peer->ids[--peer->n_ids];
}

/* `alone`: nobody else wears the pod's identity. */
static bool policy_rules_name_pod(const struct net_policy *policy, uint8_t direction, const struct net_rule *rules,
				  size_t n, const struct net_pod *pod, bool alone, enum policy_move move)
{
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		const struct net_rule *r = &rules[i];
		bool named = direction == DP_EGRESS && pod->n_ports && policy_has_named_port(r);

		found = found || (!r->n_peers && named && alone);
		for (size_t k = 0; k < r->n_peers; k++) {
			struct net_peer *peer = &r->peers[k];

			if (peer->has_block) {
				found = found || (named && policy_pod_in_block(peer, pod));
			} else if (alone && policy_peer_has_namespace(policy, peer, pod->home) &&
				   policy_peer_has_pod(peer, pod)) {
				policy_peer_note(peer, pod->identity, move);
				found = true;
			}
		}
	}
	return found;
}

static bool policy_wears_alone(const struct net_pod *pod)
{
	list_foreach(other, &pod->home->pods, struct net_pod, in_home)
		if (other != pod && other->has_addr && other->identity == pod->identity)
			return false;
	return true;
}

void policy_mark_peer(const struct net_model *m, const struct net_pod *pod, enum policy_move move)
{
	bool alone;

	if (!pod->has_addr)
		return;
	alone = policy_wears_alone(pod);
	list_foreach(ns, &m->namespaces, struct net_namespace, link)
		list_foreach(p, &ns->policies, struct net_policy, link)
			if (policy_rules_name_pod(p, DP_INGRESS, p->ingress_rules, p->n_ingress_rules, pod, alone,
						  move) |
			    policy_rules_name_pod(p, DP_EGRESS, p->egress_rules, p->n_egress_rules, pod, alone, move))
				policy_mark_selected(p);
}

static bool policy_rules_name_namespace(const struct net_rule *rules, size_t n, const struct net_namespace *ns)
{
	bool found = false;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < rules[i].n_peers; k++) {
			struct net_peer *peer = &rules[i].peers[k];

			if (!peer->has_namespaces || !selector_matches(&peer->namespaces, ns->labels, ns->n_labels))
				continue;
			peer->resolved = false;
			found = true;
		}
	return found;
}

void policy_mark_namespace(const struct net_model *m, const struct net_namespace *ns)
{
	if (!ns->exists)
		return;
	list_foreach(home, &m->namespaces, struct net_namespace, link)
		list_foreach(p, &home->policies, struct net_policy, link)
			if (policy_rules_name_namespace(p->ingress_rules, p->n_ingress_rules, ns) |
			    policy_rules_name_namespace(p->egress_rules, p->n_egress_rules, ns))
				policy_mark_selected(p);
}
