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

/* One pod's rules on their way. */
struct policy_out {
	struct arena *arena;
	const struct net_model *model;
	const struct net_policy *policy;
	const struct net_pod *self;
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

/* The port that a name means in a pod; 0: none, and then it opens nothing. */
static uint16_t policy_named_port(const struct net_pod *pod, const struct net_port *p)
{
	for (size_t i = 0; i < pod->n_ports; i++)
		if (pod->ports[i].proto == p->proto && str_eq(pod->ports[i].name, p->name))
			return pod->ports[i].port;
	return 0;
}

/* `base` has direction and peer; `owner`: whose container ports a name means. NULL: names are left to others. */
static void policy_emit_ports(struct policy_out *out, const struct net_rule *rule, const struct dp_policy_rule *base,
			      const struct net_pod *owner, const struct net_peer *block, bool only_named)
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
			r.port = owner ? policy_named_port(owner, p) : 0;
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

/* On the way out a name means each receiver's own port: one rule for each pod that has it. peer NULL: any pod. */
static void policy_emit_named(struct policy_out *out, const struct net_rule *rule, const struct net_peer *peer)
{
	list_foreach(pod, &out->model->pods, struct net_pod, link) {
		if (!pod->has_addr || !pod->n_ports)
			continue;
		if (peer && !peer->has_block &&
		    !(policy_peer_has_namespace(out->policy, peer, pod->home) && policy_peer_has_pod(peer, pod)))
			continue;
		for (int f = 0; f < DP_FAMILIES; f++) {
			const struct dp_policy_rule base = { .direction = DP_EGRESS,
							     .prefix = pod->addrs[f],
							     .prefix_len = 128 };

			if (!address_is_zero(&pod->addrs[f]) &&
			    (!peer || !peer->has_block || policy_in_block(peer, &pod->addrs[f])))
				policy_emit_ports(out, rule, &base, pod, NULL, true);
		}
	}
}

/* Whom the selectors of a peer find: the same for every pod that the policy selects, so it is kept until one of the
 * changes below. */
static void policy_resolve(struct policy_out *out, struct net_peer *peer)
{
	size_t cap = peer->n_ids;

	if (!out->seen.slots)
		policy_seen_init(&out->seen, out->arena, out->model->pods_by_uid.n);
	out->seen.stamp++;
	peer->n_ids = 0;
	list_foreach(ns, &out->model->namespaces, struct net_namespace, link) {
		if (!policy_peer_has_namespace(out->policy, peer, ns))
			continue;
		list_foreach(pod, &ns->pods, struct net_pod, in_home) {
			if (!policy_peer_has_pod(peer, pod) || policy_seen_before(&out->seen, pod->identity))
				continue;
			mem_grow(peer->ids, cap, peer->n_ids + 1);
			peer->ids[peer->n_ids++] = pod->identity;
		}
	}
	peer->resolved = true;
}

static void policy_emit_peer(struct policy_out *out, uint8_t direction, const struct net_rule *rule,
			     struct net_peer *peer)
{
	/* On the way in, names are ports of the selected pod. */
	const struct net_pod *owner = direction == DP_INGRESS ? out->self : NULL;
	struct dp_policy_rule base = { .direction = direction };

	if (peer->has_block) {
		base.prefix = peer->block.addr;
		base.prefix_len = peer->block.len;
		policy_emit_ports(out, rule, &base, owner, peer, false);
		return;
	}
	if (!peer->resolved)
		policy_resolve(out, peer);
	for (size_t i = 0; i < peer->n_ids; i++) {
		base.identity = peer->ids[i];
		policy_emit_ports(out, rule, &base, owner, NULL, false);
	}
}

static void policy_emit_rules(struct policy_out *out, uint8_t direction, const struct net_rule *rules, size_t n)
{
	const struct net_pod *owner = direction == DP_INGRESS ? out->self : NULL;
	const struct dp_policy_rule everyone = { .direction = direction };

	for (size_t i = 0; i < n; i++) {
		bool named = direction == DP_EGRESS && policy_has_named_port(&rules[i]);

		if (!rules[i].n_peers) {
			policy_emit_ports(out, &rules[i], &everyone, owner, NULL, false);
			if (named)
				policy_emit_named(out, &rules[i], NULL);
		}
		for (size_t k = 0; k < rules[i].n_peers; k++) {
			policy_emit_peer(out, direction, &rules[i], &rules[i].peers[k]);
			if (named)
				policy_emit_named(out, &rules[i], &rules[i].peers[k]);
		}
	}
}

void policy_translate(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
		      struct policy_result *ret)
{
	struct policy_result result = { 0 };
	struct policy_out out = { .arena = arena, .model = model, .self = pod, .result = &result };

	*ret = result;
	if (pod->host_network)
		return;
	list_foreach(policy, &pod->home->policies, struct net_policy, link) {
		if (!selector_matches(&policy->selector, pod->labels, pod->n_labels))
			continue;
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

/* ---- what a change can affect: both directions are looked at, for what is kept in their peers ---- */

void policy_mark_selected(const struct net_policy *policy)
{
	list_foreach(pod, &policy->home->pods, struct net_pod, in_home)
		if (!pod->stale && selector_matches(&policy->selector, pod->labels, pod->n_labels))
			pod->stale = true;
}

static bool policy_rules_name_pod(const struct net_policy *policy, uint8_t direction, const struct net_rule *rules,
				  size_t n, const struct net_pod *pod)
{
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		const struct net_rule *r = &rules[i];
		bool named = direction == DP_EGRESS && pod->n_ports && policy_has_named_port(r);

		found = found || (!r->n_peers && named);
		for (size_t k = 0; k < r->n_peers; k++) {
			struct net_peer *peer = &r->peers[k];

			if (peer->has_block ? !named || !policy_pod_in_block(peer, pod)
					    : !policy_peer_has_namespace(policy, peer, pod->home) ||
						      !policy_peer_has_pod(peer, pod))
				continue;
			peer->resolved = false;
			found = true;
		}
	}
	return found;
}

void policy_mark_peer(const struct net_model *m, const struct net_pod *pod)
{
	if (!pod->has_addr)
		return;
	list_foreach(ns, &m->namespaces, struct net_namespace, link)
		list_foreach(p, &ns->policies, struct net_policy, link)
			if (policy_rules_name_pod(p, DP_INGRESS, p->ingress_rules, p->n_ingress_rules, pod) |
			    policy_rules_name_pod(p, DP_EGRESS, p->egress_rules, p->n_egress_rules, pod))
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
