/* SPDX-License-Identifier: Apache-2.0 */
/* NodeAffinity: nodeSelector and required terms must match, preferred ones weigh. Any thread. */
#include "scheduler/plugins/plugins.h"
#include "userspace/api/selector.h"

struct term {
	bool empty; /* matches nothing */
	struct selector labels;
	const struct json *fields;
	int64_t weight;
};

struct terms {
	struct selector node_selector;
	bool has_required;
	struct term *required, *preferred;
	size_t n_required, n_preferred;
};

static struct term compile(const struct cycle *c, const struct json *term, int64_t weight)
{
	struct json *expressions = json_get(term, "matchExpressions");
	struct term t = {.fields = json_get(term, "matchFields"), .weight = weight};

	t.empty = json_count(expressions) == 0 && json_count(t.fields) == 0;
	if (selector_from_expressions(c->arena, expressions, &t.labels, NULL) < 0)
		t.empty = true;
	return t;
}

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
	json_foreach(term, required_terms) t->required[t->n_required++] = compile(c, term, 0);
	json_foreach(p, preferred) t->preferred[t->n_preferred++] =
	        compile(c, json_get(p, "preference"), json_get_int(p, "weight", 0));
	return t;
}

/* The only field is metadata.name, with one value for In or NotIn. */
static bool field_matches(const struct json *field, const struct cache_node *node)
{
	bool found = false;

	if (!str_is(json_get_str(field, "key"), "metadata.name"))
		return false;
	json_foreach(v, json_get(field, "values")) found = found || str_is(json_str(v), node->name);
	if (str_is(json_get_str(field, "operator"), "In"))
		return found;
	return str_is(json_get_str(field, "operator"), "NotIn") && !found;
}

static bool labels_match(const struct selector *s, const struct cache_node *node)
{
	return selector_matches_map(s, json_at(node->json, "metadata.labels"));
}

static bool term_matches(const struct term *t, const struct cache_node *node)
{
	if (t->empty || !labels_match(&t->labels, node))
		return false;
	json_foreach(f, t->fields) if (!field_matches(f, node)) return false;
	return true;
}

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	const struct terms *t = state;
	bool fits = !t->has_required;

	for (size_t i = 0; i < t->n_required && !fits; i++)
		fits = term_matches(&t->required[i], node);
	if (fits && labels_match(&t->node_selector, node))
		return VERDICT_FITS;
	reasons_add(reasons, "node(s) didn't match Pod's node affinity/selector");
	return VERDICT_UNRESOLVABLE;
}

static int64_t score(const struct cycle *c, void *state, const struct cache_node *node)
{
	const struct terms *t = state;
	int64_t sum = 0;

	for (size_t i = 0; i < t->n_preferred; i++)
		if (term_matches(&t->preferred[i], node))
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
