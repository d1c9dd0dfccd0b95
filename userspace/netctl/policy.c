/* SPDX-License-Identifier: Apache-2.0 */
/* See policy.h. */
#include "userspace/netctl/policy.h"

#include <string.h>

struct policy_out {
	struct arena *arena;
	struct policy_result *result;
	size_t cap;
};

static void policy_emit(struct policy_out *out, const struct dp_policy_rule *rule)
{
	struct policy_result *r = out->result;

	if (r->n_rules >= POLICY_RULES_MAX) {
		r->truncated = true;
		return;
	}
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

/* One rule's ports for one peer. `named_of`: whose container ports a name means; NULL: names mean nothing here. */
struct policy_target {
	const struct net_rule *rule;
	const struct net_pod *named_of;
};

/* Emits `base` (direction and peer set) once for every port; `after` follows each (excepts). */
static void policy_emit_ports(struct policy_out *out, const struct policy_target *t, const struct dp_policy_rule *base,
			      const struct net_peer *block)
{
	size_t n = t->rule->n_ports ? t->rule->n_ports : 1;

	for (size_t i = 0; i < n; i++) {
		struct dp_policy_rule rule = *base;
		const struct net_port *p = t->rule->n_ports ? &t->rule->ports[i] : NULL;

		if (p) {
			rule.proto = p->proto;
			rule.port = p->port;
			rule.end_port = p->end_port;
		}
		if (p && p->name.n) {
			const struct net_pod *owner = t->named_of;

			rule.port = 0;
			for (size_t k = 0; owner && k < owner->n_ports; k++)
				if (owner->ports[k].proto == p->proto && str_eq(owner->ports[k].name, p->name))
					rule.port = owner->ports[k].port;
			/* A name that the pod does not have opens nothing. */
			if (!rule.port)
				continue;
		}
		policy_emit(out, &rule);
		for (size_t k = 0; block && k < block->n_excepts; k++) {
			struct dp_policy_rule except = rule;

			except.prefix = block->excepts[k].addr;
			except.prefix_len = block->excepts[k].len;
			except.deny = true;
			policy_emit(out, &except);
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

static bool policy_peer_matches(const struct net_model *m, const struct net_peer *peer, struct str policy_ns,
				const struct net_pod *pod)
{
	const struct net_namespace *ns;

	if (!pod->has_addr || pod->host_network || !pod->identity)
		return false;
	if (peer->has_namespaces) {
		ns = map_get(&m->namespaces, pod->ns);
		if (!ns || !selector_matches(&peer->namespaces, ns->labels, ns->n_labels))
			return false;
	} else if (!str_eq(pod->ns, policy_ns)) {
		return false;
	}
	return !peer->has_pods || selector_matches(&peer->pods, pod->labels, pod->n_labels);
}

/* Identities already emitted for this peer, so that a hundred replicas give one rule. */
struct policy_seen {
	uint32_t *ids;
	size_t n, cap;
};

static bool policy_seen_before(struct arena *arena, struct policy_seen *seen, uint32_t id)
{
	for (size_t i = 0; i < seen->n; i++)
		if (seen->ids[i] == id)
			return true;
	if (seen->n == seen->cap) {
		size_t cap = seen->cap ? seen->cap * 2 : 16;
		uint32_t *ids = arena_new_array(arena, uint32_t, cap);

		if (seen->n)
			memcpy(ids, seen->ids, seen->n * sizeof(*ids));
		seen->ids = ids;
		seen->cap = cap;
	}
	seen->ids[seen->n++] = id;
	return false;
}

static void policy_emit_peer(struct policy_out *out, const struct net_model *m, struct str policy_ns, uint8_t direction,
			     const struct net_rule *rule, const struct net_peer *peer, const struct net_pod *self)
{
	/* On the way in, names are ports of the selected pod; on the way out, of each peer. */
	bool per_pod = direction == DP_EGRESS && policy_has_named_port(rule);
	struct dp_policy_rule base = { .direction = direction };
	struct policy_target target = { rule, direction == DP_INGRESS ? self : NULL };
	struct policy_seen seen = { 0 };

	if (peer->has_block) {
		base.prefix = peer->block.addr;
		base.prefix_len = peer->block.len;
		policy_emit_ports(out, &target, &base, peer);
		return;
	}
	if (!peer->has_pods && !peer->has_namespaces)
		return;
	list_foreach(pod, &m->pods, struct net_pod, link) {
		if (!policy_peer_matches(m, peer, policy_ns, pod))
			continue;
		if (!per_pod && policy_seen_before(out->arena, &seen, pod->identity))
			continue;
		base.identity = per_pod ? 0 : pod->identity;
		if (per_pod) {
			base.prefix = pod->addr;
			base.prefix_len = 128;
			target.named_of = pod;
		}
		policy_emit_ports(out, &target, &base, NULL);
	}
}

static void policy_emit_rules(struct policy_out *out, const struct net_model *m, const struct net_policy *policy,
			      uint8_t direction, const struct net_pod *self)
{
	const struct net_rule *rules = direction == DP_INGRESS ? policy->ingress_rules : policy->egress_rules;
	size_t n = direction == DP_INGRESS ? policy->n_ingress_rules : policy->n_egress_rules;

	for (size_t i = 0; i < n; i++) {
		const struct policy_target everyone = { &rules[i], direction == DP_INGRESS ? self : NULL };
		const struct dp_policy_rule all = { .direction = direction };

		if (!rules[i].n_peers)
			policy_emit_ports(out, &everyone, &all, NULL);
		for (size_t k = 0; k < rules[i].n_peers; k++)
			policy_emit_peer(out, m, policy->ns, direction, &rules[i], &rules[i].peers[k], self);
	}
}

void policy_translate(struct arena *arena, const struct net_model *model, const struct net_pod *pod,
		      struct policy_result *ret)
{
	struct policy_result result = { 0 };
	struct policy_out out = { .arena = arena, .result = &result };

	list_foreach(policy, &model->policies, struct net_policy, link) {
		if (pod->host_network || !str_eq(policy->ns, pod->ns) ||
		    !selector_matches(&policy->selector, pod->labels, pod->n_labels))
			continue;
		if (policy->ingress) {
			result.isolated_ingress = true;
			policy_emit_rules(&out, model, policy, DP_INGRESS, pod);
		}
		if (policy->egress) {
			result.isolated_egress = true;
			policy_emit_rules(&out, model, policy, DP_EGRESS, pod);
		}
	}
	*ret = result;
}
