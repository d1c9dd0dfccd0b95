/* SPDX-License-Identifier: Apache-2.0 */
/* Policies and identities of addresses. Each endpoint has two halves, one of them in force (bpf/include/endpoint.h):
 * changes are staged in the other halves, and one write of the generation puts all of them in force, which also makes
 * the kernel judge every connection again. What the former halves named is freed later (settle), when no program that
 * began before the write can still run. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>

#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/policy_state.h"
#include "userspace/dataplane/pressure.h"

/* Endpoints that wear it. */
struct identity_worn {
	uint32_t now, next;
};

struct policy_staged {
	struct k3c_addr addr;
	struct k3c_endpoint_policy before, after;
};

static struct str addr_key(const struct k3c_addr *a)
{
	return str_make((const char *)a->b, sizeof(a->b));
}

static struct str identity_key(const uint32_t *id)
{
	return str_make((const char *)id, sizeof(*id));
}

/* ---- identities ---- */

bool policy_identity_worn(const struct dataplane *dp, uint32_t identity, bool now)
{
	const struct identity_worn *w = map_get(&dp->policy->identities, identity_key(&identity));

	return w && (now ? w->now : w->next);
}

static struct identity_worn *identity_worn(struct policy_state *ps, uint32_t identity)
{
	struct identity_worn *w = map_get(&ps->identities, identity_key(&identity));

	if (!w) {
		w = mem_new(struct identity_worn);
		map_put(&ps->identities, identity_key(&identity), w);
	}
	return w;
}

static void identity_forget(struct policy_state *ps, uint32_t identity)
{
	struct identity_worn *w = map_get(&ps->identities, identity_key(&identity));

	if (w && !w->now && !w->next) {
		map_remove(&ps->identities, identity_key(&identity));
		free(w);
	}
}

/* ---- endpoints ---- */

int policy_endpoint_put(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e, uint64_t flags,
			struct err *err)
{
	if (bpf_map_update_elem(dp->maps[DP_MAP_ENDPOINT], addr, e, flags | BPF_F_LOCK) < 0)
		return pressure_write_failed(dp, DP_MAP_ENDPOINT, err);
	return 0;
}

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
	return policy_endpoint_put(dp, addr, e, BPF_ANY, err);
}

static void endpoint_read(struct dataplane *dp, const struct k3c_addr *addr, struct k3c_endpoint *ret)
{
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], addr, ret) < 0)
		memset(ret, 0, sizeof(*ret));
}

static unsigned half_in_force(const struct dataplane *dp)
{
	return dp->meta.generation & 1;
}

/* What the address will have with the next commit. Asked of all pods at once, so the kernel is not asked. */
static struct k3c_endpoint_policy policy_next(struct dataplane *dp, const struct k3c_addr *addr)
{
	const struct policy_staged *st = map_get(&dp->policy->staged, addr_key(addr));
	const struct k3c_endpoint_policy *told = st ? &st->after : map_get(&dp->policy->told, addr_key(addr));

	return told ? *told : (struct k3c_endpoint_policy){ 0 };
}

static struct policy_staged *staged_new(struct dataplane *dp, const struct k3c_addr *addr,
					const struct k3c_endpoint_policy *before)
{
	struct policy_staged *st = mem_new(struct policy_staged);

	st->addr = *addr;
	st->before = st->after = *before;
	map_put(&dp->policy->staged, addr_key(addr), st);
	return st;
}

int policy_stage(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint_policy *after,
		 struct err *err)
{
	struct policy_state *ps = dp->policy;
	struct policy_staged *st = map_get(&ps->staged, addr_key(addr));
	struct rule_set *from, *to;
	struct k3c_endpoint e;
	int r;

	endpoint_read(dp, addr, &e);
	if (memcmp(st ? &st->after : &e.policy[half_in_force(dp)], after, sizeof(*after)) == 0)
		return 0;
	e.policy[!half_in_force(dp)] = *after;
	r = endpoint_write(dp, addr, &e, err);
	if (r < 0)
		return r;
	if (!st)
		st = staged_new(dp, addr, &e.policy[half_in_force(dp)]);
	from = policy_set_get(&ps->sets, st->after.set);
	to = policy_set_get(&ps->sets, after->set);
	if (to)
		to->refs++;
	if (from && from->refs)
		from->refs--;
	if (after->identity)
		identity_worn(ps, after->identity)->next++;
	if (st->after.identity)
		identity_worn(ps, st->after.identity)->next--;
	st->after = *after;
	policy_told(ps, addr, after);
	return 0;
}

/* ---- as one step ---- */

void dataplane_policy_settle(struct dataplane *dp)
{
	struct policy_state *ps = dp->policy;

	if (!ps->in_force)
		return;
	map_foreach(m, &ps->staged) {
		struct policy_staged *st = m->value;
		struct k3c_endpoint e;

		endpoint_read(dp, &st->addr, &e);
		e.policy[!half_in_force(dp)] = e.policy[half_in_force(dp)];
		endpoint_write(dp, &st->addr, &e, NULL);
		free(st);
	}
	map_finish(&ps->staged);
	ps->in_force = false;
	policy_sets_collect(dp);
}

void dataplane_policy_begin(struct dataplane *dp)
{
	if (dp->policy->depth++ == 0)
		dataplane_policy_settle(dp);
}

int dataplane_policy_commit(struct dataplane *dp, struct err *err)
{
	struct policy_state *ps = dp->policy;
	int r;

	if (--ps->depth)
		return 0;
	if (ps->staged.n) {
		dp->meta.generation++;
		r = dataplane_meta_write(dp, err);
		if (r < 0) {
			dp->meta.generation--;
			return r;
		}
	}
	ps->in_force = true;
	map_foreach(m, &ps->staged) {
		const struct policy_staged *st = m->value;

		if (st->after.identity)
			identity_worn(ps, st->after.identity)->now++;
		if (st->before.identity)
			identity_worn(ps, st->before.identity)->now--;
		identity_forget(ps, st->before.identity);
	}
	return 0;
}

/* `r` of a change that is a step of its own unless a longer one is open. */
static int policy_done(struct dataplane *dp, int r, struct err *err)
{
	int committed = dataplane_policy_commit(dp, r < 0 ? NULL : err);

	return r < 0 ? r : committed;
}

/* ---- policies ---- */

static uint32_t policy_flags(const struct dp_policy *p, const struct policy_compiled *c)
{
	bool only_ingress = c->has_prefixes[DP_INGRESS] && !c->has_identities[DP_INGRESS];
	bool only_egress = c->has_prefixes[DP_EGRESS] && !c->has_identities[DP_EGRESS];

	return (only_ingress ? K3C_EP_PREFIXES_ONLY_INGRESS : 0u) | (only_egress ? K3C_EP_PREFIXES_ONLY_EGRESS : 0u) |
	       (p->isolated_ingress ? K3C_EP_ISOLATED_INGRESS : 0u) |
	       (p->isolated_egress ? K3C_EP_ISOLATED_EGRESS : 0u) |
	       (c->has_prefixes[DP_INGRESS] ? K3C_EP_PREFIXES_INGRESS : 0u) |
	       (c->has_prefixes[DP_EGRESS] ? K3C_EP_PREFIXES_EGRESS : 0u);
}

/* A set that these addresses and nobody else have, all with the same flags: it may be edited. */
static struct rule_set *policy_own_set(struct dataplane *dp, const struct dp_addr *addrs, size_t n, uint32_t flags)
{
	struct rule_set *own = NULL;

	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < n; i++) {
			struct k3c_addr addr = dp_addr_in(&addrs[i]);
			struct k3c_endpoint_policy p = policy_next(dp, &addr);
			struct rule_set *s = policy_set_get(&dp->policy->sets, p.set);

			if (!s || own)
				continue;
			if (round == 0)
				s->tally = 0;
			else if (p.flags == flags && ++s->tally == s->refs)
				own = s;
		}
	return own;
}

/* For no entries at all NULL. */
static int policy_set_for(struct dataplane *dp, const struct dp_addr *addrs, size_t n, uint32_t flags,
			  struct policy_compiled *entries, struct rule_set **ret, struct err *err)
{
	struct rule_set *s;
	int r;

	*ret = NULL;
	if (!entries->n_rules && !entries->n_prefixes)
		return 0;
	s = policy_set_find(&dp->policy->sets, entries);
	if (!s && (s = policy_own_set(dp, addrs, n, flags))) {
		r = policy_set_edit(dp, s, entries, err);
		if (r < 0)
			return r;
		if (r == 0)
			s = NULL;
	}
	if (!s) {
		r = policy_set_make(dp, entries, &s, err);
		if (r < 0)
			return r;
	}
	*ret = s;
	return 0;
}

int dataplane_policy_set_all(struct dataplane *dp, const struct dp_policy *policy, const struct dp_addr *addrs,
			     size_t n, struct err *err)
{
	_cleanup_(policy_compiled_finish) struct policy_compiled compiled = { 0 };
	struct rule_set *s;
	uint32_t flags;
	int r = policy_compile(policy, &compiled, err);

	if (r < 0)
		return r;
	flags = policy_flags(policy, &compiled);
	dataplane_policy_begin(dp);
	r = policy_set_for(dp, addrs, n, flags, &compiled, &s, err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct k3c_addr addr = dp_addr_in(&addrs[i]);
		struct k3c_endpoint_policy p = policy_next(dp, &addr);

		p.set = s ? s->number : 0;
		p.flags = flags;
		r = policy_stage(dp, &addr, &p, err);
	}
	r = policy_done(dp, r, err);
	for (size_t i = 0; i < n; i++) {
		struct k3c_addr addr = dp_addr_in(&addrs[i]);

		pressure_outcome(dp, PRESSURE_POLICY, &addr, sizeof(addr), r);
	}
	return r;
}

int dataplane_policy_set(struct dataplane *dp, const struct dp_policy *policy, struct err *err)
{
	return dataplane_policy_set_all(dp, policy, &policy->pod, 1, err);
}

int dataplane_policy_delete(struct dataplane *dp, const struct dp_addr *pod, struct err *err)
{
	struct k3c_addr addr = dp_addr_in(pod);
	struct k3c_endpoint_policy p;

	dataplane_policy_begin(dp);
	p = policy_next(dp, &addr);
	p.set = p.flags = 0;
	pressure_outcome(dp, PRESSURE_POLICY, &addr, sizeof(addr), 0);
	return policy_done(dp, policy_stage(dp, &addr, &p, err), err);
}

int dataplane_identity_set(struct dataplane *dp, const struct dp_addr *addr, uint32_t identity, struct err *err)
{
	struct k3c_addr a = dp_addr_in(addr);
	struct k3c_endpoint_policy p;
	int r;

	if (identity & K3C_PEER_CLASS)
		return err_set(err, -EINVAL, "identity %u is too large", identity);
	dataplane_policy_begin(dp);
	p = policy_next(dp, &a);
	p.identity = identity;
	r = policy_done(dp, policy_stage(dp, &a, &p, err), err);
	pressure_outcome(dp, PRESSURE_IDENTITY, &a, sizeof(a), identity ? r : 0);
	return r;
}

int dataplane_identity_delete(struct dataplane *dp, const struct dp_addr *addr, struct err *err)
{
	return dataplane_identity_set(dp, addr, 0, err);
}

/* ---- what an earlier server left ---- */

typedef void endpoint_fn(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e, void *arg);

static void endpoints_each(struct dataplane *dp, endpoint_fn *fn, void *arg)
{
	struct k3c_addr addr;

	keys_foreach(dp->maps[DP_MAP_ENDPOINT], addr) {
		struct k3c_endpoint e;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e) == 0)
			fn(dp, &addr, &e, arg);
	}
}

/* It may have died between the two halves. */
static void endpoint_load(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e, void *arg)
{
	const struct k3c_endpoint_policy *p = &e->policy[half_in_force(dp)];
	struct rule_set *s = policy_set_get(&dp->policy->sets, p->set);

	if (s)
		s->refs++;
	if (p->identity) {
		identity_worn(dp->policy, p->identity)->now++;
		identity_worn(dp->policy, p->identity)->next++;
	}
	if (!dp->readonly)
		policy_told(dp->policy, addr, p);
	if (!dp->readonly && memcmp(&e->policy[0], &e->policy[1], sizeof(e->policy[0])) != 0)
		staged_new(dp, addr, p);
}

int policy_load_sets(struct dataplane *dp, struct err *err)
{
	dp->policy = mem_new(struct policy_state);
	policy_sets_read(dp);
	endpoints_each(dp, endpoint_load, NULL);
	if (!dp->readonly) {
		dp->policy->in_force = true;
		dataplane_policy_settle(dp);
	}
	return 0;
}

void policy_unload_sets(struct dataplane *dp)
{
	if (!dp->policy)
		return;
	if (!dp->readonly)
		dataplane_policy_settle(dp);
	map_foreach(m, &dp->policy->staged)
		free(m->value);
	map_finish(&dp->policy->staged);
	map_foreach(m, &dp->policy->told)
		free(m->value);
	map_finish(&dp->policy->told);
	map_foreach(m, &dp->policy->identities)
		free(m->value);
	map_finish(&dp->policy->identities);
	policy_sets_finish(&dp->policy->sets);
	free(dp->policy);
	dp->policy = NULL;
}

/* ---- what is there ---- */

struct policy_listing {
	void (*fn)(void *arg, const struct dp_policy_info *p);
	void *arg;
};

static void endpoint_list(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e, void *arg)
{
	const struct k3c_endpoint_policy *p = &e->policy[half_in_force(dp)];
	const struct rule_set *s = policy_set_get(&dp->policy->sets, p->set);
	const struct policy_listing *l = arg;
	struct dp_policy_info info = { 0 };

	if (!e->ifindex && !p->flags)
		return;
	info.pod = dp_addr_out(addr);
	info.isolated_ingress = p->flags & K3C_EP_ISOLATED_INGRESS;
	info.isolated_egress = p->flags & K3C_EP_ISOLATED_EGRESS;
	if (s)
		info.n_rules = (uint32_t)(s->entries.n_rules + s->entries.n_prefixes);
	l->fn(l->arg, &info);
}

int dataplane_policy_each(struct dataplane *dp, void (*fn)(void *arg, const struct dp_policy_info *p), void *arg,
			  struct err *err)
{
	struct policy_listing l = { fn, arg };

	uint32_t zero = 0;

	if (dp->readonly) {
		bpf_map_lookup_elem(dp->maps[DP_MAP_META], &zero, &dp->meta);
		policy_unload_sets(dp);
		policy_load_sets(dp, NULL);
	}
	endpoints_each(dp, endpoint_list, &l);
	return 0;
}

uint64_t dataplane_policy_writes(const struct dataplane *dp)
{
	return dp->policy->sets.writes;
}
