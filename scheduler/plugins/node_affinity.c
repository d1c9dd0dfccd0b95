/* SPDX-License-Identifier: Apache-2.0 */
/* NodeAffinity: nodeSelector and required terms must match, preferred ones weigh. Any thread. */
#include "scheduler/plugins/plugins.h"
#include "userspace/api/node_term.h"

struct term {
	struct node_term node;
	int64_t weight;
};

struct terms {
	struct selector node_selector;
	bool has_required;
	struct term *required, *preferred;
	size_t n_required, n_preferred;
};

static void *pre_filter(const struct cycle *c)
{
	const struct json *affinity = json_at(c->spec, "affinity.nodeAffinity");
	const struct json *required = json_get(affinity, "requiredDuringSchedulingIgnoredDuringExecution");
	const struct json *preferred = json_get(affinity, "preferredDuringSchedulingIgnoredDuringExecution");
	const struct json *required_terms = json_get(required, "nodeSelectorTerms");
	struct terms *t = arena_new(c->arena, struct terms);

	selector_from_map(c->arena, json_get(c->spec, "nodeSelector"), &t->node_selector);
	t->has_required = required != NULL;
	t->required = arena_new_array(c->arena, struct term, json_count(required_terms) + 1);
	t->preferred = arena_new_array(c->arena, struct term, json_count(preferred) + 1);
	json_foreach(term, required_terms)
		t->required[t->n_required++].node = node_term_compile(c->arena, term);
	json_foreach(p, preferred)
		t->preferred[t->n_preferred++] = (struct term){
			.node = node_term_compile(c->arena, json_get(p, "preference")),
			.weight = json_get_int(p, "weight", 0),
		};
	return t;
}

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	const struct terms *t = state;
	bool fits = !t->has_required;

	for (size_t i = 0; i < t->n_required && !fits; i++)
		fits = node_term_matches(&t->required[i].node, node->json);
	if (fits && selector_matches_map(&t->node_selector, json_at(node->json, "metadata.labels")))
		return VERDICT_FITS;
	reasons_add(reasons, "node(s) didn't match Pod's node affinity/selector");
	return VERDICT_UNRESOLVABLE;
}

static int64_t score(const struct cycle *c, void *state, const struct cache_node *node)
{
	const struct terms *t = state;
	int64_t sum = 0;

	for (size_t i = 0; i < t->n_preferred; i++)
		if (node_term_matches(&t->preferred[i].node, node->json))
			sum += t->preferred[i].weight;
	return sum;
}

const struct scheduler_plugin plugin_node_affinity = {
	.name = "NodeAffinity",
	.pre_filter = pre_filter,
	.filter = filter,
	.score = score,
	.normalize = NORMALIZE_UP,
	.weight = 2,
};
