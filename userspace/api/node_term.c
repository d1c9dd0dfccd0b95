/* SPDX-License-Identifier: Apache-2.0 */
/* See node_term.h. */
#include "userspace/api/node_term.h"

struct node_term node_term_compile(struct arena *arena, const struct json *term)
{
	const struct json *expressions = json_get(term, "matchExpressions");
	struct node_term t = { .fields = json_get(term, "matchFields") };

	t.nothing = json_count(expressions) == 0 && json_count(t.fields) == 0;
	if (selector_from_expressions(arena, expressions, &t.labels, NULL) < 0)
		t.nothing = true;
	return t;
}

/* The only field is metadata.name, with one value for In or NotIn. */
static bool field_matches(const struct json *field, struct str node)
{
	bool found = false;

	if (!str_is(json_get_str(field, "key"), "metadata.name"))
		return false;
	json_foreach(v, json_get(field, "values"))
		found = found || str_eq(json_str(v), node);
	if (str_is(json_get_str(field, "operator"), "In"))
		return found;
	return str_is(json_get_str(field, "operator"), "NotIn") && !found;
}

bool node_term_matches(const struct node_term *t, const struct json *node)
{
	if (t->nothing || !selector_matches_map(&t->labels, json_at(node, "metadata.labels")))
		return false;
	json_foreach(f, t->fields)
		if (!field_matches(f, json_at_str(node, "metadata.name")))
			return false;
	return true;
}
