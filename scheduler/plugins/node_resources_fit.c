/* SPDX-License-Identifier: Apache-2.0 */
/* NodeResourcesFit: requests must fit into what is left of the node; the emptier node is the better
 * one (least allocated). Any thread. */
#include "scheduler/plugins/plugins.h"

struct wanted {
	struct resources requests; /* names and items in the arena */
	int64_t score_milli_cpu, score_memory;
};

static void *pre_filter(const struct cycle *c)
{
	_cleanup_(resources_finish) struct resources requests = { 0 };
	struct wanted *w = arena_new(c->arena, struct wanted);

	resources_of_pod(c->pod, &requests);
	resources_for_score(c->pod, &w->score_milli_cpu, &w->score_memory);
	w->requests.n = requests.n;
	w->requests.items = arena_new_array(c->arena, struct resource, requests.n + 1);
	for (size_t i = 0; i < requests.n; i++)
		w->requests.items[i] =
			(struct resource){ arena_strdup(c->arena, requests.items[i].name), requests.items[i].amount };
	return w;
}

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	const struct wanted *w = state;
	enum verdict verdict = VERDICT_FITS;

	if ((int64_t)node->pods + 1 > resources_get(&node->allocatable, "pods")) {
		reasons_add(reasons, "Too many pods");
		verdict = VERDICT_UNSCHEDULABLE;
	}
	for (size_t i = 0; i < w->requests.n; i++) {
		const struct resource *r = &w->requests.items[i];
		int64_t capacity = resources_get(&node->allocatable, r->name);

		if (r->amount == 0 || r->amount <= capacity - resources_get(&node->requested, r->name))
			continue;
		reasons_add(reasons, arena_printf(c->arena, "Insufficient %s", r->name));
		if (r->amount > capacity)
			verdict = VERDICT_UNRESOLVABLE;
		else if (verdict == VERDICT_FITS)
			verdict = VERDICT_UNSCHEDULABLE;
	}
	return verdict;
}

static int64_t free_share(int64_t requested, int64_t capacity)
{
	if (capacity <= 0 || requested > capacity)
		return 0;
	return (int64_t)((__int128)(capacity - requested) * PLUGIN_SCORE_MAX / capacity);
}

static int64_t score(const struct cycle *c, void *state, const struct cache_node *node)
{
	const struct wanted *w = state;

	return (free_share(node->score_milli_cpu + w->score_milli_cpu, resources_get(&node->allocatable, "cpu")) +
		free_share(node->score_memory + w->score_memory, resources_get(&node->allocatable, "memory"))) /
	       2;
}

const struct scheduler_plugin plugin_node_resources_fit = {
	.name = "NodeResourcesFit",
	.pre_filter = pre_filter,
	.filter = filter,
	.score = score,
	.weight = 1,
};
