/* SPDX-License-Identifier: Apache-2.0 */
/* See policy_sets.h. */
#include "userspace/dataplane/policy_sets.h"

#include <bpf/bpf.h>
#include <errno.h>

#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/policy_state.h"
#include "userspace/dataplane/pressure.h"

static struct str set_key(const uint32_t *number)
{
	return str_make((const char *)number, sizeof(*number));
}

static struct str hash_key(const uint64_t *hash)
{
	return str_make((const char *)hash, sizeof(*hash));
}

/* The order of the entries does not matter, so that a change costs what it changes. */
static uint64_t rule_hash(const struct k3c_rule_key *k)
{
	return hash_bytes(k, sizeof(*k));
}

static uint64_t entries_hash(const struct policy_compiled *c)
{
	uint64_t h = 0;

	for (size_t i = 0; i < c->n_rules; i++)
		h += rule_hash(&c->rules[i]);
	for (size_t i = 0; i < c->n_prefixes; i++)
		h += hash_bytes(&c->prefixes[i], sizeof(c->prefixes[i]));
	return h;
}

static bool prefixes_equal(const struct policy_compiled *a, const struct policy_compiled *b)
{
	return a->n_prefixes == b->n_prefixes &&
	       (!a->n_prefixes || memcmp(a->prefixes, b->prefixes, a->n_prefixes * sizeof(*a->prefixes)) == 0);
}

static bool entries_equal(const struct policy_compiled *a, const struct policy_compiled *b)
{
	return a->n_rules == b->n_rules && prefixes_equal(a, b) &&
	       (!a->n_rules || memcmp(a->rules, b->rules, a->n_rules * sizeof(*a->rules)) == 0);
}

struct rule_set *policy_set_get(const struct rule_sets *sets, uint32_t number)
{
	return number ? map_get(&sets->by_number, set_key(&number)) : NULL;
}

struct rule_set *policy_set_find(const struct rule_sets *sets, const struct policy_compiled *entries)
{
	uint64_t hash = entries_hash(entries);
	struct rule_set *s = map_get(&sets->by_hash, hash_key(&hash));

	return s && entries_equal(&s->entries, entries) ? s : NULL;
}

static void set_index(struct rule_sets *sets, struct rule_set *s)
{
	s->hash = entries_hash(&s->entries);
	map_put(&sets->by_hash, hash_key(&s->hash), s);
}

static void set_unindex(struct rule_sets *sets, struct rule_set *s)
{
	if (map_get(&sets->by_hash, hash_key(&s->hash)) == s)
		map_remove(&sets->by_hash, hash_key(&s->hash));
}

static void set_free(struct rule_set *s)
{
	policy_compiled_finish(&s->entries);
	free(s);
}

void policy_sets_finish(struct rule_sets *sets)
{
	map_foreach(e, &sets->by_number)
		set_free(e->value);
	map_finish(&sets->by_number);
	map_finish(&sets->by_hash);
	free(sets->removals);
	*sets = (struct rule_sets){ 0 };
}

/* ---- the maps ---- */

static int rule_write(struct dataplane *dp, const struct rule_set *s, struct k3c_rule_key key, struct err *err)
{
	uint32_t one = 1;

	key.set = s->number;
	dp->policy->sets.writes++;
	if (bpf_map_update_elem(dp->maps[DP_MAP_RULE], &key, &one, BPF_ANY) < 0)
		return pressure_write_failed(dp, DP_MAP_RULE, err);
	return 0;
}

static void rule_delete(struct dataplane *dp, const struct rule_set *s, struct k3c_rule_key key)
{
	key.set = s->number;
	dp->policy->sets.writes++;
	bpf_map_delete_elem(dp->maps[DP_MAP_RULE], &key);
}

static void set_remove(struct dataplane *dp, struct rule_set *s)
{
	struct rule_sets *sets = &dp->policy->sets;

	for (size_t i = 0; i < s->entries.n_prefixes; i++) {
		struct k3c_prefix_key key = s->entries.prefixes[i].key;

		key.set = s->number;
		sets->writes++;
		bpf_map_delete_elem(dp->maps[DP_MAP_PREFIX], &key);
	}
	for (size_t i = 0; i < s->entries.n_rules; i++)
		rule_delete(dp, s, s->entries.rules[i]);
	set_unindex(sets, s);
	map_remove(&sets->by_number, set_key(&s->number));
	set_free(s);
}

static int set_write(struct dataplane *dp, const struct rule_set *s, struct err *err)
{
	for (size_t i = 0; i < s->entries.n_rules; i++) {
		int r = rule_write(dp, s, s->entries.rules[i], err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < s->entries.n_prefixes; i++) {
		struct policy_prefix p = s->entries.prefixes[i];

		p.key.set = s->number;
		dp->policy->sets.writes++;
		if (bpf_map_update_elem(dp->maps[DP_MAP_PREFIX], &p.key, &p.class, BPF_ANY) < 0)
			return pressure_write_failed(dp, DP_MAP_PREFIX, err);
	}
	return 0;
}

int policy_set_rewrite(struct dataplane *dp, const struct rule_set *s, struct err *err)
{
	return set_write(dp, s, err);
}

int policy_set_make(struct dataplane *dp, struct policy_compiled *entries, struct rule_set **ret, struct err *err)
{
	struct rule_set *s = mem_new(struct rule_set);
	int r;

	s->number = dataplane_next_set(dp);
	s->entries = *entries;
	*entries = (struct policy_compiled){ 0 };
	map_put(&dp->policy->sets.by_number, set_key(&s->number), s);
	r = set_write(dp, s, err);
	if (r < 0) {
		set_remove(dp, s);
		return r;
	}
	set_index(&dp->policy->sets, s);
	*ret = s;
	return 0;
}

/* ---- changes that nobody sees ---- */

typedef int rule_change_fn(struct dataplane *dp, struct rule_set *s, const struct k3c_rule_key *key, bool added,
			   struct err *err);

/* Calls fn for each entry that one of the sorted runs has and the other has not, until it says no. */
static int rules_compare(struct dataplane *dp, struct rule_set *s, const struct policy_compiled *now,
			 rule_change_fn *fn, struct err *err)
{
	const struct policy_compiled *old = &s->entries;
	size_t i = 0, k = 0;
	int r = 0;

	while (r == 0 && (i < old->n_rules || k < now->n_rules)) {
		int order = i == old->n_rules   ? 1
			    : k == now->n_rules ? -1
						: memcmp(&old->rules[i], &now->rules[k], sizeof(struct k3c_rule_key));

		if (order == 0) {
			i++;
			k++;
		} else if (order < 0) {
			r = fn(dp, s, &old->rules[i++], false, err);
		} else {
			r = fn(dp, s, &now->rules[k++], true, err);
		}
	}
	return r;
}

static int rule_unseen(struct dataplane *dp, struct rule_set *s, const struct k3c_rule_key *key, bool added,
		       struct err *err)
{
	if (key->peer & K3C_PEER_CLASS)
		return -EBUSY;
	return policy_identity_worn(dp, key->peer, added) ? -EBUSY : 0;
}

static int rule_add(struct dataplane *dp, struct rule_set *s, const struct k3c_rule_key *key, bool added,
		    struct err *err)
{
	return added ? rule_write(dp, s, *key, err) : 0;
}

static int rule_undo(struct dataplane *dp, struct rule_set *s, const struct k3c_rule_key *key, bool added,
		     struct err *err)
{
	if (added)
		rule_delete(dp, s, *key);
	return 0;
}

static int rule_put_off(struct dataplane *dp, struct rule_set *s, const struct k3c_rule_key *key, bool added,
			struct err *err)
{
	struct rule_sets *sets = &dp->policy->sets;

	if (added)
		return 0;
	mem_grow(sets->removals, sets->cap_removals, sets->n_removals + 1);
	sets->removals[sets->n_removals].key = *key;
	sets->removals[sets->n_removals++].key.set = s->number;
	return 0;
}

int policy_set_edit(struct dataplane *dp, struct rule_set *s, struct policy_compiled *entries, struct err *err)
{
	int r;

	if (!prefixes_equal(&s->entries, entries) || rules_compare(dp, s, entries, rule_unseen, NULL) < 0)
		return 0;
	r = rules_compare(dp, s, entries, rule_add, err);
	if (r < 0) {
		rules_compare(dp, s, entries, rule_undo, NULL);
		return r;
	}
	rules_compare(dp, s, entries, rule_put_off, NULL);
	set_unindex(&dp->policy->sets, s);
	policy_compiled_finish(&s->entries);
	s->entries = *entries;
	*entries = (struct policy_compiled){ 0 };
	set_index(&dp->policy->sets, s);
	return 1;
}

/* Put off, and asked for again before it was done. */
static bool removal_is_void(const struct rule_sets *sets, const struct k3c_rule_key *key)
{
	struct rule_set *s = policy_set_get(sets, key->set);
	struct k3c_rule_key bare = *key;

	bare.set = 0;
	return s && s->entries.n_rules &&
	       bsearch(&bare, s->entries.rules, s->entries.n_rules, sizeof(bare), policy_rule_compare);
}

void policy_sets_collect(struct dataplane *dp)
{
	struct rule_sets *sets = &dp->policy->sets;
	_cleanup_free_ struct rule_set **dead = NULL;
	size_t n_dead = 0, cap = 0;

	for (size_t i = 0; i < sets->n_removals; i++) {
		if (removal_is_void(sets, &sets->removals[i].key))
			continue;
		sets->writes++;
		bpf_map_delete_elem(dp->maps[DP_MAP_RULE], &sets->removals[i].key);
	}
	sets->n_removals = 0;
	map_foreach(e, &sets->by_number) {
		struct rule_set *s = e->value;

		if (s->refs)
			continue;
		mem_grow(dead, cap, n_dead + 1);
		dead[n_dead++] = s;
	}
	for (size_t i = 0; i < n_dead; i++)
		set_remove(dp, dead[i]);
}

/* ---- what an earlier server left ---- */

static struct rule_set *set_load(struct rule_sets *sets, uint32_t number)
{
	struct rule_set *s = policy_set_get(sets, number);

	if (s)
		return s;
	s = mem_new(struct rule_set);
	s->number = number;
	map_put(&sets->by_number, set_key(&number), s);
	return s;
}

static void rules_read(struct dataplane *dp)
{
	struct k3c_rule_key rule;

	keys_foreach(dp->maps[DP_MAP_RULE], rule) {
		struct policy_compiled *c;

		c = &set_load(&dp->policy->sets, rule.set)->entries;
		mem_grow(c->rules, c->cap_rules, c->n_rules + 1);
		c->rules[c->n_rules] = rule;
		c->rules[c->n_rules++].set = 0;
	}
}

static void prefixes_read(struct dataplane *dp)
{
	struct k3c_prefix_key prefix;

	keys_foreach(dp->maps[DP_MAP_PREFIX], prefix) {
		struct policy_compiled *c;
		struct policy_prefix *p;
		uint32_t class = 0;

		bpf_map_lookup_elem(dp->maps[DP_MAP_PREFIX], &prefix, &class);
		c = &set_load(&dp->policy->sets, prefix.set)->entries;
		mem_grow(c->prefixes, c->cap_prefixes, c->n_prefixes + 1);
		p = &c->prefixes[c->n_prefixes++];
		memset(p, 0, sizeof(*p));
		p->key = prefix;
		p->key.set = 0;
		p->class = class;
	}
}

void policy_sets_read(struct dataplane *dp)
{
	rules_read(dp);
	prefixes_read(dp);
	map_foreach(e, &dp->policy->sets.by_number) {
		struct rule_set *s = e->value;

		policy_compiled_sort(&s->entries);
		set_index(&dp->policy->sets, s);
	}
}
