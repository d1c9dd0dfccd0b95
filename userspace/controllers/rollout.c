/* SPDX-License-Identifier: Apache-2.0 */
/* Rollout arithmetic. Any thread. */
#include "userspace/controllers/rollout.h"

#include <math.h>
#include <stdlib.h>

static int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t sum_replicas(const struct rollout_set *sets, size_t n, bool old_only)
{
	int64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (!old_only || !sets[i].is_new)
			sum += sets[i].replicas;
	return sum;
}

int64_t rollout_new_size(const struct rollout *r, const struct rollout_set *sets, size_t n)
{
	int64_t now = 0, all = sum_replicas(sets, n, false);
	int64_t most = r->replicas + r->max_surge;

	for (size_t i = 0; i < n; i++)
		if (sets[i].is_new)
			now = sets[i].replicas;
	if (r->recreate || now >= r->replicas)
		return r->replicas;
	if (all >= most)
		return now;
	return now + min64(most - all, r->replicas - now);
}

static int oldest_first(const void *pa, const void *pb)
{
	const struct rollout_set *a = pa, *b = pb;

	return (a->created_ns > b->created_ns) - (a->created_ns < b->created_ns);
}

/* Pods that do not serve cost nothing to remove. */
static void shrink_unhealthy(struct rollout_set *sets, size_t n, int64_t budget)
{
	for (size_t i = 0; i < n && budget > 0; i++) {
		struct rollout_set *s = &sets[i];
		int64_t down;

		if (s->is_new || s->target == 0 || s->target <= s->available)
			continue;
		down = min64(budget, s->target - s->available);
		s->target -= down;
		budget -= down;
	}
}

static void shrink_healthy(const struct rollout *r, struct rollout_set *sets, size_t n)
{
	int64_t available = 0, budget;

	for (size_t i = 0; i < n; i++)
		available += sets[i].available;
	budget = available - (r->replicas - r->max_unavailable);
	for (size_t i = 0; i < n && budget > 0; i++) {
		struct rollout_set *s = &sets[i];
		int64_t down = min64(s->target, budget);

		if (s->is_new || s->target == 0)
			continue;
		s->target -= down;
		budget -= down;
	}
}

bool rollout_shrink_old(const struct rollout *r, struct rollout_set *sets, size_t n)
{
	int64_t budget = sum_replicas(sets, n, false) - (r->replicas - r->max_unavailable);
	bool changed = false;

	for (size_t i = 0; i < n; i++)
		if (sets[i].is_new)
			budget -= sets[i].replicas - sets[i].available;
	if (sum_replicas(sets, n, true) == 0 || budget <= 0)
		return false;
	qsort(sets, n, sizeof(*sets), oldest_first);
	shrink_unhealthy(sets, n, budget);
	shrink_healthy(r, sets, n);
	for (size_t i = 0; i < n; i++)
		changed = changed || sets[i].target != sets[i].replicas;
	return changed;
}

/* Largest first; of equals the newer when growing, the older when shrinking. */
static int larger_newer(const void *pa, const void *pb)
{
	const struct rollout_set *a = pa, *b = pb;

	if (a->replicas != b->replicas)
		return a->replicas > b->replicas ? -1 : 1;
	return -oldest_first(a, b);
}

static int larger_older(const void *pa, const void *pb)
{
	const struct rollout_set *a = pa, *b = pb;

	if (a->replicas != b->replicas)
		return a->replicas > b->replicas ? -1 : 1;
	return oldest_first(a, b);
}

static int64_t share_of(const struct rollout *r, const struct rollout_set *s, int64_t to_add, int64_t added)
{
	int64_t base = s->max_annotation > 0 ? s->max_annotation : r->status_replicas;
	int64_t share;

	if (s->replicas == 0 || to_add == added)
		return 0;
	if (r->replicas == 0)
		share = -s->replicas;
	else if (base <= 0)
		share = 0;
	else
		share = llround((double)s->replicas * (double)(r->replicas + r->max_surge) / (double)base) -
			s->replicas;
	return to_add > 0 ? min64(share, to_add - added) : max64(share, to_add - added);
}

void rollout_share(const struct rollout *r, struct rollout_set *sets, size_t n)
{
	int64_t allowed = r->replicas > 0 ? r->replicas + r->max_surge : 0;
	int64_t to_add = allowed - sum_replicas(sets, n, false);
	int64_t added = 0;

	if (n == 0 || to_add == 0)
		return;
	qsort(sets, n, sizeof(*sets), to_add > 0 ? larger_newer : larger_older);
	for (size_t i = 0; i < n; i++) {
		int64_t share = share_of(r, &sets[i], to_add, added);

		sets[i].target = sets[i].replicas + share;
		added += share;
	}
	/* What rounding left over goes to the largest. */
	sets[0].target = max64(0, sets[0].target + to_add - added);
}
