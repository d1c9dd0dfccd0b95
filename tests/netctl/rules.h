/* SPDX-License-Identifier: Apache-2.0 */
/* The documented meaning of struct dp_policy_rule, spelt out one packet at a time. */
#pragma once

#include "tests/netctl/support.h"
#include "userspace/netctl/policy.h"

/* The far end of a packet. identity 0: no pod. */
struct far_end {
	struct dp_addr addr;
	uint32_t identity;
};

static inline bool rule_same_ports(const struct dp_policy_rule *a, const struct dp_policy_rule *b)
{
	return a->direction == b->direction && a->proto == b->proto && a->port == b->port && a->end_port == b->end_port;
}

static inline bool rule_ports(const struct dp_policy_rule *r, uint8_t proto, uint16_t port)
{
	if (r->proto && r->proto != proto)
		return false;
	return !r->port || (port >= r->port && port <= (r->end_port ? r->end_port : r->port));
}

/* An `except` belongs to the nearest allow rule before it with the same direction and ports that contains it. */
static inline bool rule_excepts(const struct policy_result *p, size_t allow, const struct far_end *far)
{
	for (size_t i = allow + 1; i < p->n_rules; i++) {
		const struct dp_policy_rule *x = &p->rules[i];
		size_t owner = i;

		if (!x->deny)
			continue;
		do {
			assert_true(owner > 0); /* of nothing: the dataplane would refuse the policy */
			owner--;
		} while (p->rules[owner].deny || p->rules[owner].identity || !rule_same_ports(&p->rules[owner], x) ||
			 p->rules[owner].prefix_len > x->prefix_len ||
			 !address_in(&x->prefix, &p->rules[owner].prefix, p->rules[owner].prefix_len));
		if (owner == allow && address_in(&far->addr, &x->prefix, x->prefix_len))
			return true;
	}
	return false;
}

static inline bool rules_allow(const struct policy_result *p, uint8_t direction, const struct far_end *far,
			       uint8_t proto, uint16_t port)
{
	if (!(direction == DP_INGRESS ? p->isolated_ingress : p->isolated_egress))
		return true;
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct dp_policy_rule *r = &p->rules[i];

		if (r->deny || r->direction != direction || !rule_ports(r, proto, port))
			continue;
		if (r->everyone   ? true
		    : r->identity ? r->identity == far->identity
				  : address_in(&far->addr, &r->prefix, r->prefix_len))
			if (r->identity || !rule_excepts(p, i, far))
				return true;
	}
	return false;
}
