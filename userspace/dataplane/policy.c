/* SPDX-License-Identifier: Apache-2.0 */
/* Policies and identities into maps. A compiled policy is a numbered, immutable set of entries, shared by all pods
 * whose policies compile to the same; a pod is moved from one set to another by one write to its endpoint. After
 * that the generation is raised, which makes the kernel judge every connection again. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>

#include "bpf/include/endpoint.h"
#include "userspace/base/encode.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/policy_compile.h"

struct rule_set {
	uint32_t number;
	uint32_t refs;
	uint8_t hash[SHA256_LEN];
	struct policy_compiled entries; /* with the number in the keys */
};

static struct str set_key(const uint32_t *number)
{
	return str_make((const char *)number, sizeof(*number));
}

static void set_free(struct rule_set *s)
{
	policy_compiled_finish(&s->entries);
	free(s);
}

void policy_unload_sets(struct dataplane *dp)
{
	map_foreach(e, &dp->sets)
		set_free(e->value);
	map_finish(&dp->sets);
}

static void set_hash(const struct policy_compiled *c, uint8_t ret[static SHA256_LEN])
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_add(&b, &c->n_rules, sizeof(c->n_rules));
	for (size_t i = 0; i < c->n_rules; i++) {
		struct k3c_rule_key k = c->rules[i];

		k.set = 0;
		buf_add(&b, &k, sizeof(k));
	}
	for (size_t i = 0; i < c->n_prefixes; i++) {
		struct policy_prefix p = c->prefixes[i];

		p.key.set = 0;
		buf_add(&b, &p, sizeof(p));
	}
	sha256(b.data + b.start, buf_len(&b), ret);
}

static void set_remove(struct dataplane *dp, struct rule_set *s)
{
	for (size_t i = 0; i < s->entries.n_prefixes; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_PREFIX], &s->entries.prefixes[i].key);
	for (size_t i = 0; i < s->entries.n_rules; i++)
		bpf_map_delete_elem(dp->maps[DP_MAP_RULE], &s->entries.rules[i]);
	map_remove(&dp->sets, set_key(&s->number));
	set_free(s);
}

static void set_unref(struct dataplane *dp, uint32_t number)
{
	struct rule_set *s = number ? map_get(&dp->sets, set_key(&number)) : NULL;

	if (s && s->refs && --s->refs == 0)
		set_remove(dp, s);
}

static int set_write(struct dataplane *dp, struct rule_set *s, struct err *err)
{
	uint32_t one = 1;

	for (size_t i = 0; i < s->entries.n_rules; i++) {
		s->entries.rules[i].set = s->number;
		if (bpf_map_update_elem(dp->maps[DP_MAP_RULE], &s->entries.rules[i], &one, BPF_ANY) < 0)
			return err_set(err, errno == E2BIG ? -ENOSPC : -errno, "write %s: %s", maps_name(DP_MAP_RULE),
				       strerror(errno));
	}
	for (size_t i = 0; i < s->entries.n_prefixes; i++) {
		struct policy_prefix *p = &s->entries.prefixes[i];

		p->key.set = s->number;
		if (bpf_map_update_elem(dp->maps[DP_MAP_PREFIX], &p->key, &p->class, BPF_ANY) < 0)
			return err_set(err, errno == E2BIG ? -ENOSPC : -errno, "write %s: %s", maps_name(DP_MAP_PREFIX),
				       strerror(errno));
	}
	return 0;
}

/* A counted set with these entries (taken over). 0 for no entries at all. */
static int set_get(struct dataplane *dp, struct policy_compiled *entries, uint32_t *ret, struct err *err)
{
	uint8_t hash[SHA256_LEN];
	struct rule_set *s;
	int r;

	if (!entries->n_rules && !entries->n_prefixes) {
		*ret = 0;
		return 0;
	}
	set_hash(entries, hash);
	map_foreach(e, &dp->sets) {
		s = e->value;
		if (memcmp(s->hash, hash, sizeof(hash)) != 0)
			continue;
		s->refs++;
		*ret = s->number;
		return 0;
	}
	s = mem_new(struct rule_set);
	s->number = dataplane_next_set(dp);
	s->refs = 1;
	memcpy(s->hash, hash, sizeof(hash));
	s->entries = *entries;
	*entries = (struct policy_compiled){ 0 };
	map_put(&dp->sets, set_key(&s->number), s);
	r = set_write(dp, s, err);
	if (r < 0) {
		set_remove(dp, s);
		return r;
	}
	*ret = s->number;
	return 0;
}

/* ---- what an earlier server left ---- */

static struct rule_set *set_load(struct dataplane *dp, uint32_t number)
{
	struct rule_set *s = map_get(&dp->sets, set_key(&number));

	if (s)
		return s;
	s = mem_new(struct rule_set);
	s->number = number;
	map_put(&dp->sets, set_key(&number), s);
	return s;
}

static int rule_order(const void *pa, const void *pb)
{
	return memcmp(pa, pb, sizeof(struct k3c_rule_key));
}

static int prefix_order(const void *pa, const void *pb)
{
	return memcmp(pa, pb, sizeof(struct policy_prefix));
}

static void sets_read(struct dataplane *dp)
{
	struct k3c_rule_key rule, next_rule;
	struct k3c_prefix_key prefix, next_prefix;
	bool first = true;

	while (bpf_map_get_next_key(dp->maps[DP_MAP_RULE], first ? NULL : &rule, &next_rule) == 0) {
		struct policy_compiled *c;

		rule = next_rule;
		first = false;
		c = &set_load(dp, rule.set)->entries;
		mem_grow(c->rules, c->cap_rules, c->n_rules + 1);
		c->rules[c->n_rules++] = rule;
	}
	first = true;
	while (bpf_map_get_next_key(dp->maps[DP_MAP_PREFIX], first ? NULL : &prefix, &next_prefix) == 0) {
		struct policy_compiled *c;
		struct policy_prefix *p;
		uint32_t class = 0;

		prefix = next_prefix;
		first = false;
		bpf_map_lookup_elem(dp->maps[DP_MAP_PREFIX], &prefix, &class);
		c = &set_load(dp, prefix.set)->entries;
		mem_grow(c->prefixes, c->cap_prefixes, c->n_prefixes + 1);
		p = &c->prefixes[c->n_prefixes++];
		memset(p, 0, sizeof(*p));
		p->key = prefix;
		p->class = class;
	}
}

int policy_load_sets(struct dataplane *dp, struct err *err)
{
	_cleanup_free_ struct rule_set **dead = NULL;
	size_t n_dead = 0, cap = 0;
	struct k3c_addr addr, next;
	bool first = true;

	sets_read(dp);
	while (bpf_map_get_next_key(dp->maps[DP_MAP_ENDPOINT], first ? NULL : &addr, &next) == 0) {
		struct k3c_endpoint e;
		struct rule_set *s;

		addr = next;
		first = false;
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e) < 0 || !e.policy_set)
			continue;
		s = map_get(&dp->sets, set_key(&e.policy_set));
		if (s)
			s->refs++;
	}
	map_foreach(e, &dp->sets) {
		struct rule_set *s = e->value;

		if (s->entries.n_rules)
			qsort(s->entries.rules, s->entries.n_rules, sizeof(*s->entries.rules), rule_order);
		if (s->entries.n_prefixes)
			qsort(s->entries.prefixes, s->entries.n_prefixes, sizeof(*s->entries.prefixes), prefix_order);
		set_hash(&s->entries, s->hash);
		if (s->refs || dp->readonly)
			continue;
		mem_grow(dead, cap, n_dead + 1);
		dead[n_dead++] = s;
	}
	for (size_t i = 0; i < n_dead; i++)
		set_remove(dp, dead[i]);
	return 0;
}

/* ---- endpoints ---- */

static int endpoint_write(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e,
			  struct err *err)
{
	static const struct k3c_endpoint nothing;
	int fd = dp->maps[DP_MAP_ENDPOINT];

	if (memcmp(e, &nothing, sizeof(nothing)) == 0) {
		if (bpf_map_delete_elem(fd, addr) < 0 && errno != ENOENT)
			return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_ENDPOINT), strerror(errno));
		return 0;
	}
	if (bpf_map_update_elem(fd, addr, e, BPF_ANY) < 0)
		return err_set(err, errno == E2BIG ? -ENOSPC : -errno, "write %s: %s", maps_name(DP_MAP_ENDPOINT),
			       strerror(errno));
	return 0;
}

static void endpoint_read(struct dataplane *dp, const struct k3c_addr *addr, struct k3c_endpoint *ret)
{
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], addr, ret) < 0)
		memset(ret, 0, sizeof(*ret));
}

static uint16_t policy_flags(const struct dp_policy *p, const struct policy_compiled *c)
{
	return (uint16_t)((p->isolated_ingress ? K3C_EP_ISOLATED_INGRESS : 0) |
			  (p->isolated_egress ? K3C_EP_ISOLATED_EGRESS : 0) |
			  (c->has_prefixes[DP_INGRESS] ? K3C_EP_PREFIXES_INGRESS : 0) |
			  (c->has_prefixes[DP_EGRESS] ? K3C_EP_PREFIXES_EGRESS : 0));
}

int dataplane_policy_set(struct dataplane *dp, const struct dp_policy *policy, struct err *err)
{
	_cleanup_(policy_compiled_finish) struct policy_compiled compiled = { 0 };
	struct k3c_addr addr = dp_addr_in(&policy->pod);
	struct k3c_endpoint e, before;
	uint32_t set;
	int r = policy_compile(policy, &compiled, err);

	if (r < 0)
		return r;
	endpoint_read(dp, &addr, &before);
	e = before;
	e.flags = policy_flags(policy, &compiled);
	r = set_get(dp, &compiled, &set, err);
	if (r < 0)
		return r;
	e.policy_set = set;
	if (memcmp(&e, &before, sizeof(e)) == 0) {
		set_unref(dp, set); /* counted once already */
		return 0;
	}
	r = endpoint_write(dp, &addr, &e, err);
	if (r < 0) {
		set_unref(dp, set);
		return r;
	}
	r = dataplane_generation_bump(dp, err);
	set_unref(dp, before.policy_set);
	return r;
}

int dataplane_policy_delete(struct dataplane *dp, const struct dp_addr *pod, struct err *err)
{
	struct k3c_addr addr = dp_addr_in(pod);
	struct k3c_endpoint e;
	uint32_t set;
	int r;

	endpoint_read(dp, &addr, &e);
	if (!e.policy_set && !e.flags)
		return 0;
	set = e.policy_set;
	e.policy_set = 0;
	e.flags = 0;
	r = endpoint_write(dp, &addr, &e, err);
	if (r < 0)
		return r;
	r = dataplane_generation_bump(dp, err);
	set_unref(dp, set);
	return r;
}

static int identity_write(struct dataplane *dp, const struct dp_addr *addr, uint32_t identity, struct err *err)
{
	struct k3c_addr a = dp_addr_in(addr);
	struct k3c_endpoint e;
	int r;

	if (identity & K3C_PEER_CLASS)
		return err_set(err, -EINVAL, "identity %u is too large", identity);
	endpoint_read(dp, &a, &e);
	if (e.identity == identity)
		return 0;
	e.identity = identity;
	r = endpoint_write(dp, &a, &e, err);
	return r < 0 ? r : dataplane_generation_bump(dp, err);
}

int dataplane_identity_set(struct dataplane *dp, const struct dp_addr *addr, uint32_t identity, struct err *err)
{
	return identity_write(dp, addr, identity, err);
}

int dataplane_identity_delete(struct dataplane *dp, const struct dp_addr *addr, struct err *err)
{
	return identity_write(dp, addr, 0, err);
}

int dataplane_policy_each(struct dataplane *dp, void (*fn)(void *arg, const struct dp_policy_info *p), void *arg,
			  struct err *err)
{
	struct k3c_addr addr, next;
	bool first = true;

	if (dp->readonly) {
		policy_unload_sets(dp);
		policy_load_sets(dp, NULL);
	}
	while (bpf_map_get_next_key(dp->maps[DP_MAP_ENDPOINT], first ? NULL : &addr, &next) == 0) {
		struct dp_policy_info info = { 0 };
		struct k3c_endpoint e;
		struct rule_set *s;

		addr = next;
		first = false;
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e) < 0 || (!e.ifindex && !e.flags))
			continue;
		info.pod = dp_addr_out(&addr);
		info.isolated_ingress = e.flags & K3C_EP_ISOLATED_INGRESS;
		info.isolated_egress = e.flags & K3C_EP_ISOLATED_EGRESS;
		s = e.policy_set ? map_get(&dp->sets, set_key(&e.policy_set)) : NULL;
		if (s)
			info.n_rules = (uint32_t)(s->entries.n_rules + s->entries.n_prefixes);
		fn(arg, &info);
	}
	return 0;
}
