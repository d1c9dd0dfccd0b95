/* SPDX-License-Identifier: Apache-2.0 */
/* See policy_sync.h. */
#include "userspace/netctl/policy_sync.h"

#include <string.h>

#include "userspace/base/buf.h"
#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/policy.h"

struct policy_mark {
	uint32_t identity;
	struct dp_addr addrs[DP_FAMILIES];
};

/* Stale pods with the same rules. */
struct policy_group {
	struct policy_selection selection;
	struct net_pod **pods;
	size_t n, cap;
};

void policy_sync_init(struct policy_sync *ps, struct net_model *model, struct dataplane *dp, bool off)
{
	*ps = (struct policy_sync){ .model = model, .dp = dp, .off = off };
}

void policy_sync_finish(struct policy_sync *ps)
{
	map_foreach(m, &ps->marks)
		free(m->value);
	map_finish(&ps->marks);
}

/* ---- identities ---- */

static bool sync_identity_is_told(struct policy_sync *ps, const struct net_pod *pod)
{
	const struct policy_mark *mark = map_get(&ps->marks, pod->uid);

	return mark && mark->identity == pod->identity && memcmp(mark->addrs, pod->addrs, sizeof(mark->addrs)) == 0;
}

static int sync_identity(struct policy_sync *ps, const struct net_pod *pod, struct err *err)
{
	struct policy_mark *mark = map_get(&ps->marks, pod->uid);

	for (int f = 0; f < DP_FAMILIES; f++) {
		int r = address_is_zero(&pod->addrs[f])
				? 0
				: dataplane_identity_set(ps->dp, &pod->addrs[f], pod->identity, err);

		if (r < 0)
			return r;
	}
	if (!mark) {
		mark = mem_new(struct policy_mark);
		map_put(&ps->marks, pod->uid, mark);
	}
	mark->identity = pod->identity;
	memcpy(mark->addrs, pod->addrs, sizeof(mark->addrs));
	return 0;
}

/* ---- rules ---- */

static void sync_key(const struct net_pod *pod, const struct policy_selection *s, struct buf *ret)
{
	buf_add(ret, &s->n, sizeof(s->n));
	buf_add(ret, s->policies, s->n * sizeof(*s->policies));
	if (!s->named)
		return;
	for (size_t i = 0; i < pod->n_ports; i++)
		buf_printf(ret, "%.*s/%u=%u\n", STR_ARG(pod->ports[i].name), pod->ports[i].proto, pod->ports[i].port);
}

static void sync_gather(struct policy_sync *ps, struct arena *arena, struct map *groups)
{
	list_foreach(pod, &ps->model->pods, struct net_pod, link) {
		_cleanup_buf_ struct buf key = BUF_INIT;
		struct policy_selection s = { 0 };
		struct policy_group *g;

		if (!pod->stale || !pod->attached || pod->virtual)
			continue;
		if (!ps->off)
			policy_of_pod(arena, pod, &s);
		sync_key(pod, &s, &key);
		g = map_get(groups, buf_str(&key));
		if (!g) {
			g = mem_new(struct policy_group);
			g->selection = s;
			map_put(groups, buf_str(&key), g);
		}
		mem_grow(g->pods, g->cap, g->n + 1);
		g->pods[g->n++] = pod;
	}
}

static int sync_group(struct policy_sync *ps, const struct policy_group *g, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct net_pod *first = g->pods[0];
	struct dp_addr *addrs = arena_new_array(&arena, struct dp_addr, g->n * DP_FAMILIES);
	struct policy_result p = { 0 };
	struct dp_policy policy = { 0 };
	size_t n = 0;
	int r;

	policy_translate_selection(&arena, ps->model, first, &g->selection, &p);
	if (p.truncated)
		log_warn("policies of a pod have more rules than it may have, some are left out pod=%.*s/%.*s max=%d",
			 STR_ARG(first->ns), STR_ARG(first->name), POLICY_RULES_MAX);
	policy.isolated_ingress = p.isolated_ingress;
	policy.isolated_egress = p.isolated_egress;
	policy.rules = p.rules;
	policy.n_rules = p.n_rules;
	for (size_t i = 0; i < g->n; i++)
		for (int f = 0; f < DP_FAMILIES; f++)
			if (!address_is_zero(&g->pods[i]->addrs[f]))
				addrs[n++] = g->pods[i]->addrs[f];
	ps->groups++;
	ps->pods += g->n;
	ps->rules += p.n_rules;
	r = dataplane_policy_set_all(ps->dp, &policy, addrs, n, err);
	for (size_t i = 0; r == 0 && i < g->n; i++)
		g->pods[i]->stale = false;
	return r;
}

/* ---- the whole ---- */

static void sync_failed(struct policy_sync *ps, const struct net_pod *pod, const char *what, const struct err *err)
{
	ps->errors++;
	log_warn("%s not installed pod=%.*s/%.*s error=\"%s\"", what, STR_ARG(pod->ns), STR_ARG(pod->name),
		 err_message(err));
	if (ps->failed)
		ps->failed(ps->failed_arg, pod, what, err);
}

static bool sync_group_has(const struct policy_group *g, const struct net_pod *pod)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->pods[i] == pod)
			return true;
	return false;
}

/* Identities first: the dataplane then knows which nobody wears any more, and which are new. */
static int sync_stage(struct policy_sync *ps, const struct map *groups, const struct net_pod *must, struct err *err)
{
	int ret = 0;

	list_foreach(pod, &ps->model->pods, struct net_pod, link) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r;

		if (!pod->attached || sync_identity_is_told(ps, pod))
			continue;
		r = sync_identity(ps, pod, &e);
		if (r < 0)
			sync_failed(ps, pod, "identity", &e);
		if (r < 0 && pod == must)
			ret = err_set(err, r, "%s", err_message(&e));
	}
	map_foreach(m, groups) {
		_cleanup_err_ struct err e = ERR_INIT;
		const struct policy_group *g = m->value;
		int r = sync_group(ps, g, &e);

		if (r < 0)
			sync_failed(ps, g->pods[0], "policy", &e);
		if (r < 0 && sync_group_has(g, must))
			ret = err_set(err, r, "%s", err_message(&e));
	}
	return ret;
}

int policy_sync_run(struct policy_sync *ps, const struct net_pod *must, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err failed = ERR_INIT;
	struct map groups = MAP_INIT;
	int r, ret;

	sync_gather(ps, &arena, &groups);
	dataplane_policy_begin(ps->dp);
	ret = sync_stage(ps, &groups, must, err);
	/* What is staged goes with the next commit, should this one fail. */
	r = dataplane_policy_commit(ps->dp, &failed);
	if (r < 0) {
		ps->errors++;
		log_warn("policies not put in force error=\"%s\"", err_message(&failed));
		if (must && ret == 0)
			ret = err_set(err, r, "%s", err_message(&failed));
	}
	map_foreach(m, &groups) {
		struct policy_group *g = m->value;

		free(g->pods);
		free(g);
	}
	map_finish(&groups);
	return ret;
}

void policy_sync_forget(struct policy_sync *ps, struct str uid, const struct dp_addr addrs[static DP_FAMILIES])
{
	dataplane_policy_begin(ps->dp);
	for (int f = 0; f < DP_FAMILIES; f++) {
		if (address_is_zero(&addrs[f]))
			continue;
		dataplane_policy_delete(ps->dp, &addrs[f], NULL);
		dataplane_identity_delete(ps->dp, &addrs[f], NULL);
	}
	dataplane_policy_commit(ps->dp, NULL);
	free(map_remove(&ps->marks, uid));
}
