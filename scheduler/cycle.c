/* SPDX-License-Identifier: Apache-2.0 */
/* Filter, score, choose, explain. Loop thread only. */
#include "scheduler/cycle.h"

#include <stdlib.h>

struct candidate {
	const struct cache_node *node;
	int64_t score;
};

/* How many nodes gave each reason, in one text per reason: "2 Insufficient cpu". */
struct tally {
	struct tally *next;
	const char *reason;
	unsigned n;
};

struct run {
	const struct cycle *c;
	void **states;
	struct candidate *candidates;
	size_t n;
	struct tally *tally;
	unsigned unschedulable, unresolvable;
};

static void tally_add(struct run *r, const char *reason)
{
	struct tally *t;

	for (t = r->tally; t; t = t->next)
		if (!strcmp(t->reason, reason)) {
			t->n++;
			return;
		}
	t = arena_new(r->c->arena, struct tally);
	*t = (struct tally){ .next = r->tally, .reason = reason, .n = 1 };
	r->tally = t;
}

static void filter_node(struct run *r, const struct cache_node *node)
{
	struct reasons reasons = { .n = 0 };
	enum verdict verdict = VERDICT_FITS;

	for (size_t i = 0; i < n_scheduler_plugins && verdict == VERDICT_FITS; i++)
		if (scheduler_plugins[i]->filter)
			verdict = scheduler_plugins[i]->filter(r->c, r->states[i], node, &reasons);
	if (verdict == VERDICT_FITS) {
		r->candidates[r->n++] = (struct candidate){ .node = node };
		return;
	}
	if (verdict == VERDICT_UNSCHEDULABLE)
		r->unschedulable++;
	else
		r->unresolvable++;
	for (size_t i = 0; i < reasons.n; i++)
		tally_add(r, reasons.items[i]);
}

static void score_plugin(struct run *r, size_t plugin)
{
	const struct scheduler_plugin *p = scheduler_plugins[plugin];
	int64_t *scores = arena_new_array(r->c->arena, int64_t, r->n);
	int64_t max = 0;

	for (size_t i = 0; i < r->n; i++) {
		scores[i] = p->score(r->c, r->states[plugin], r->candidates[i].node);
		max = scores[i] > max ? scores[i] : max;
	}
	for (size_t i = 0; i < r->n; i++) {
		int64_t s = scores[i];

		if (p->normalize != NORMALIZE_NONE)
			s = max > 0 ? s * PLUGIN_SCORE_MAX / max : 0;
		if (p->normalize == NORMALIZE_REVERSE)
			s = PLUGIN_SCORE_MAX - s;
		r->candidates[i].score += s * p->weight;
	}
}

/* Of equals the first by name, so that the same state gives the same choice. */
static const struct cache_node *best(struct run *r)
{
	const struct candidate *found = &r->candidates[0];

	if (r->n == 1)
		return found->node;
	for (size_t i = 0; i < n_scheduler_plugins; i++)
		if (scheduler_plugins[i]->score)
			score_plugin(r, i);
	for (size_t i = 1; i < r->n; i++) {
		const struct candidate *c = &r->candidates[i];

		if (c->score > found->score ||
		    (c->score == found->score && strcmp(c->node->name, found->node->name) < 0))
			found = c;
	}
	return found->node;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *explain(struct run *r, const struct cache *cache)
{
	struct arena *arena = r->c->arena;
	const char *texts[PLUGIN_REASONS_MAX * 4];
	const char *message;
	size_t n = 0;

	if (cache->n_nodes == 0)
		return "no nodes available to schedule pods";
	for (struct tally *t = r->tally; t && n < ARRAY_SIZE(texts); t = t->next)
		texts[n++] = arena_printf(arena, "%u %s", t->n, t->reason);
	qsort(texts, n, sizeof(*texts), by_text);
	message = arena_printf(arena, "0/%u nodes are available: ", cache->n_nodes);
	for (size_t i = 0; i < n; i++)
		message = arena_printf(arena, "%s%s%s", message, i ? ", " : "", texts[i]);
	message = arena_printf(arena, "%s. preemption: 0/%u nodes are available: ", message, cache->n_nodes);
	n = 0;
	if (r->unschedulable > 0)
		texts[n++] = arena_printf(arena, "%u No preemption victims found for incoming pod", r->unschedulable);
	if (r->unresolvable > 0)
		texts[n++] = arena_printf(arena, "%u Preemption is not helpful for scheduling", r->unresolvable);
	qsort(texts, n, sizeof(*texts), by_text);
	return arena_printf(arena, "%s%s%s%s.", message, texts[0], n > 1 ? ", " : "", n > 1 ? texts[1] : "");
}

void cycle_run(const struct cycle *c, const struct cache *cache, struct cycle_result *ret)
{
	struct run r = { .c = c };

	r.states = arena_new_array(c->arena, void *, n_scheduler_plugins);
	r.candidates = arena_new_array(c->arena, struct candidate, cache->n_nodes + 1);
	for (size_t i = 0; i < n_scheduler_plugins; i++)
		if (scheduler_plugins[i]->pre_filter)
			r.states[i] = scheduler_plugins[i]->pre_filter(c);
	map_foreach(e, &cache->nodes) {
		const struct cache_node *node = e->value;

		if (node->object)
			filter_node(&r, node);
	}
	if (r.n > 0)
		*ret = (struct cycle_result){ .node = best(&r) };
	else
		*ret = (struct cycle_result){ .message = explain(&r, cache) };
}
