/* SPDX-License-Identifier: Apache-2.0 */
/* Rules and endpoints in the maps against what was told to them. See drift.h. */
#include <bpf/bpf.h>
#include <errno.h>

#include "userspace/dataplane/drift.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/policy_state.h"

static struct str addr_key(const struct k3c_addr *a)
{
	return str_make((const char *)a->b, sizeof(a->b));
}

void policy_told(struct policy_state *ps, const struct k3c_addr *addr, const struct k3c_endpoint_policy *p)
{
	static const struct k3c_endpoint_policy nothing;
	struct k3c_endpoint_policy *copy;

	if (memcmp(p, &nothing, sizeof(*p)) == 0) {
		free(map_remove(&ps->told, addr_key(addr)));
		return;
	}
	copy = map_get(&ps->told, addr_key(addr));
	if (!copy) {
		copy = mem_new(struct k3c_endpoint_policy);
		map_put(&ps->told, addr_key(addr), copy);
	}
	*copy = *p;
}

/* ---- rules ---- */

static void rules_mark(struct dataplane *dp, struct k3c_rule_key **strangers, size_t *n, size_t *cap)
{
	struct k3c_rule_key key, bare;

	keys_foreach(dp->maps[DP_MAP_RULE], key) {
		struct rule_set *s;

		s = policy_set_get(&dp->policy->sets, key.set);
		bare = key;
		bare.set = 0;
		if (s && s->entries.n_rules &&
		    bsearch(&bare, s->entries.rules, s->entries.n_rules, sizeof(bare), policy_rule_compare)) {
			s->tally++;
			continue;
		}
		mem_grow(*strangers, *cap, *n + 1);
		(*strangers)[(*n)++] = key;
	}
}

static int prefix_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct k3c_prefix_key));
}

static bool prefix_is_known(const struct rule_set *s, const struct k3c_prefix_key *key, uint32_t class)
{
	struct k3c_prefix_key bare = *key;
	const struct policy_prefix *p = NULL;

	bare.set = 0;
	if (s && s->entries.n_prefixes)
		p = bsearch(&bare, s->entries.prefixes, s->entries.n_prefixes, sizeof(*p), prefix_compare);
	return p && p->class == class;
}

static void prefixes_mark(struct dataplane *dp, struct k3c_prefix_key **strangers, size_t *n, size_t *cap)
{
	struct k3c_prefix_key key;

	keys_foreach(dp->maps[DP_MAP_PREFIX], key) {
		struct rule_set *s;
		uint32_t class = 0;

		s = policy_set_get(&dp->policy->sets, key.set);
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_PREFIX], &key, &class) == 0 &&
		    prefix_is_known(s, &key, class)) {
			s->tally++;
			continue;
		}
		mem_grow(*strangers, *cap, *n + 1);
		(*strangers)[(*n)++] = key;
	}
}

/* Strangers go, what is missing comes back. */
static int drift_rules(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	_cleanup_free_ struct k3c_rule_key *rules = NULL;
	_cleanup_free_ struct k3c_prefix_key *prefixes = NULL;
	size_t n_rules = 0, cap_rules = 0, n_prefixes = 0, cap_prefixes = 0;
	uint32_t found = 0;

	map_foreach(e, &dp->policy->sets.by_number)
		((struct rule_set *)e->value)->tally = 0;
	rules_mark(dp, &rules, &n_rules, &cap_rules);
	prefixes_mark(dp, &prefixes, &n_prefixes, &cap_prefixes);
	for (size_t i = 0; i < n_rules; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_RULE], &rules[i]);
	for (size_t i = 0; i < n_prefixes; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_PREFIX], &prefixes[i]);
	found = (uint32_t)(n_rules + n_prefixes);
	map_foreach(e, &dp->policy->sets.by_number) {
		struct rule_set *s = e->value;
		size_t want = s->entries.n_rules + s->entries.n_prefixes;
		int r;

		if (s->tally == want)
			continue;
		found += (uint32_t)(want - s->tally);
		r = policy_set_rewrite(dp, s, err);
		if (r < 0)
			return r;
	}
	add->n[DP_DRIFT_RULE] += found;
	return (int)found;
}

/* ---- endpoints ---- */

static bool endpoint_is_right(const struct k3c_endpoint *e, const struct k3c_endpoint_policy *want)
{
	return memcmp(&e->policy[0], want, sizeof(*want)) == 0 && memcmp(&e->policy[1], want, sizeof(*want)) == 0;
}

/* Leads to a link of this node: only a pod's does, and of pods pods_endpoints() says which. */
static bool endpoint_has_link(const struct k3c_endpoint *e)
{
	static const uint8_t none[sizeof(e->mac)];

	return e->ifindex || e->flags || memcmp(e->mac, none, sizeof(none)) != 0;
}

static int endpoint_repair(struct dataplane *dp, const struct k3c_addr *addr, struct k3c_endpoint *e,
			   const struct k3c_endpoint_policy *want, struct err *err)
{
	e->policy[0] = e->policy[1] = *want;
	return policy_endpoint_put(dp, addr, e, BPF_ANY, err);
}

static int drift_told(struct dataplane *dp, uint32_t *found, struct err *err)
{
	map_foreach(m, &dp->policy->told) {
		struct k3c_endpoint e = { 0 };
		struct k3c_addr addr;
		int r;

		memcpy(addr.b, m->key, sizeof(addr.b));
		(void)bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e);
		if (endpoint_is_right(&e, m->value) && (!endpoint_has_link(&e) || pods_has(dp, &addr)))
			continue;
		(*found)++;
		if (!pods_has(dp, &addr))
			e = (struct k3c_endpoint){ 0 };
		r = endpoint_repair(dp, &addr, &e, m->value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Addresses that nobody was told of, and halves of those who should have none. */
static int drift_strangers(struct dataplane *dp, uint32_t *found, struct err *err)
{
	static const struct k3c_endpoint_policy nothing;
	_cleanup_free_ struct k3c_addr *strangers = NULL;
	struct k3c_addr addr;
	size_t n = 0, cap = 0;
	int r = 0;

	keys_foreach(dp->maps[DP_MAP_ENDPOINT], addr) {
		struct k3c_endpoint e;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e) < 0 ||
		    map_has(&dp->policy->told, addr_key(&addr)) ||
		    (pods_has(dp, &addr) && endpoint_is_right(&e, &nothing)))
			continue;
		mem_grow(strangers, cap, n + 1);
		strangers[n++] = addr;
	}
	for (size_t i = 0; i < n && r == 0; i++) {
		struct k3c_endpoint e = { 0 };

		(*found)++;
		if (!pods_has(dp, &strangers[i]))
			bpf_map_delete_elem(dp->maps[DP_MAP_ENDPOINT], &strangers[i]);
		else if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &strangers[i], &e) == 0)
			r = endpoint_repair(dp, &strangers[i], &e, &nothing, err);
	}
	return r;
}

/* What is put right is judged anew: by two, so that the same half stays in force. */
int policy_drift(struct dataplane *dp, struct dp_drift *add, struct err *err)
{
	uint32_t found = 0;
	int rules, r;

	if (dp->policy->depth)
		return 0;
	dataplane_policy_settle(dp);
	rules = drift_rules(dp, add, err);
	if (rules < 0)
		return rules;
	r = drift_told(dp, &found, err);
	if (r == 0)
		r = drift_strangers(dp, &found, err);
	if (r == 0)
		r = pods_endpoints(dp, &found, err);
	add->n[DP_DRIFT_ENDPOINT] += found;
	if (r < 0 || (!found && !rules))
		return r;
	dp->meta.generation += 2;
	return dataplane_meta_write(dp, err);
}
