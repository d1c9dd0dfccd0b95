/* SPDX-License-Identifier: Apache-2.0 */
/* See cover.h. The asked rules are taken apart; each part must be covered by one held rule. */
#include "userspace/registry/authz/cover.h"

#include <errno.h>

#include "userspace/base/buf.h"
#include "userspace/base/mem.h"

static bool has(const struct authz_strs *list, struct str s)
{
	return authz_strs_has(list, STR("*")) || authz_strs_has(list, s);
}

static bool has_resource(const struct authz_strs *list, struct str s)
{
	long slash = s.n ? str_find(s, '/') : -1;

	if (has(list, s))
		return true;
	if (slash < 0)
		return false;
	for (size_t i = 0; i < list->n; i++)
		if (str_starts(list->items[i], STR("*/")) &&
		    str_eq(str_make(list->items[i].p + 1, list->items[i].n - 1),
			   str_make(s.p + slash, s.n - (size_t)slash)))
			return true;
	return false;
}

/* `part` has one string in each list that is not empty. */
static bool covers(const struct authz_rule *rule, const struct authz_rule *part)
{
	if (!has(&rule->verbs, part->verbs.items[0]))
		return false;
	if (part->paths.n) {
		for (size_t i = 0; i < rule->paths.n; i++)
			if (authz_path_covers(rule->paths.items[i], part->paths.items[0]))
				return true;
		return false;
	}
	return has(&rule->groups, part->groups.items[0]) && has_resource(&rule->resources, part->resources.items[0]) &&
	       (!rule->names.n || (part->names.n && authz_strs_has(&rule->names, part->names.items[0])));
}

struct cover {
	struct arena *arena;
	const struct authz_rule *held;
	size_t n_held, n_parts;
	struct authz_rule *missing;
	size_t n, cap;
};

static void keep(struct cover *c, const struct authz_rule *part)
{
	if (c->n == c->cap) {
		struct authz_rule *more = arena_new_array(c->arena, struct authz_rule, c->cap ? 2 * c->cap : 8);

		for (size_t i = 0; i < c->n; i++)
			more[i] = c->missing[i];
		c->missing = more;
		c->cap = c->cap ? 2 * c->cap : 8;
	}
	c->missing[c->n++] = *part;
}

static int judge(struct cover *c, struct authz_rule part)
{
	if (++c->n_parts > COVER_PARTS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < c->n_held; i++)
		if (covers(&c->held[i], &part))
			return 0;
	keep(c, &part);
	return 0;
}

static struct authz_strs one(const struct str *s)
{
	return (struct authz_strs){ s, 1 };
}

static int judge_resource(struct cover *c, const struct authz_rule *rule, const struct str *group,
			  const struct str *resource)
{
	int r = 0;

	for (size_t v = 0; v < rule->verbs.n && r == 0; v++) {
		struct authz_rule part = { .verbs = one(&rule->verbs.items[v]),
					   .groups = one(group),
					   .resources = one(resource) };

		if (!rule->names.n)
			r = judge(c, part);
		for (size_t i = 0; i < rule->names.n && r == 0; i++) {
			part.names = one(&rule->names.items[i]);
			r = judge(c, part);
		}
	}
	return r;
}

static int judge_rule(struct cover *c, const struct authz_rule *rule)
{
	int r = 0;

	for (size_t g = 0; g < rule->groups.n && r == 0; g++)
		for (size_t i = 0; i < rule->resources.n && r == 0; i++)
			r = judge_resource(c, rule, &rule->groups.items[g], &rule->resources.items[i]);
	for (size_t i = 0; i < rule->paths.n; i++)
		for (size_t v = 0; v < rule->verbs.n && r == 0; v++)
			r = judge(c, (struct authz_rule){ .verbs = one(&rule->verbs.items[v]),
							  .paths = one(&rule->paths.items[i]) });
	return r;
}

int cover_missing(struct arena *arena, const struct authz_rule *held, size_t n_held, const struct authz_rule *asked,
		  size_t n_asked, struct authz_rule **ret, size_t *ret_n)
{
	struct cover c = { .arena = arena, .held = held, .n_held = n_held };
	int r = 0;

	for (size_t i = 0; i < n_asked && r == 0; i++)
		r = judge_rule(&c, &asked[i]);
	if (r < 0)
		return r;
	*ret = c.missing;
	*ret_n = c.n;
	return 0;
}

static bool same_place(const struct authz_rule *a, const struct authz_rule *b)
{
	return a->resources.n && b->resources.n && str_eq(a->groups.items[0], b->groups.items[0]) &&
	       str_eq(a->resources.items[0], b->resources.items[0]) && a->names.n == b->names.n &&
	       (!a->names.n || str_eq(a->names.items[0], b->names.items[0]));
}

struct authz_rule *cover_compact(struct arena *arena, const struct authz_rule *rules, size_t n, size_t *ret_n)
{
	struct authz_rule *compact = arena_new_array(arena, struct authz_rule, n + 1);
	size_t kept = 0, i, k;

	for (i = 0; i < n; i++) {
		struct str *verbs;

		for (k = 0; k < kept; k++)
			if (same_place(&compact[k], &rules[i]))
				break;
		if (k == kept) {
			compact[kept++] = rules[i];
			continue;
		}
		verbs = arena_new_array(arena, struct str, compact[k].verbs.n + 1);
		for (size_t v = 0; v < compact[k].verbs.n; v++)
			verbs[v] = compact[k].verbs.items[v];
		verbs[compact[k].verbs.n] = rules[i].verbs.items[0];
		compact[k].verbs = (struct authz_strs){ verbs, compact[k].verbs.n + 1 };
	}
	*ret_n = kept;
	return compact;
}

static void text_strs(struct buf *out, const char *name, const struct authz_strs *list, bool *first)
{
	if (!list->n)
		return;
	buf_printf(out, "%s%s:[", *first ? "" : ", ", name);
	*first = false;
	for (size_t i = 0; i < list->n; i++) {
		if (i)
			buf_add_cstr(out, " ");
		json_write_str(out, list->items[i]);
	}
	buf_add_cstr(out, "]");
}

struct str cover_text(struct arena *arena, const struct authz_rule *rule)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	bool first = true;

	buf_add_cstr(&text, "{");
	text_strs(&text, "APIGroups", &rule->groups, &first);
	text_strs(&text, "Resources", &rule->resources, &first);
	text_strs(&text, "NonResourceURLs", &rule->paths, &first);
	text_strs(&text, "ResourceNames", &rule->names, &first);
	text_strs(&text, "Verbs", &rule->verbs, &first);
	buf_add_cstr(&text, "}");
	return arena_str(arena, buf_str(&text));
}

static void json_strs(struct arena *arena, struct json *v, const char *key, const struct authz_strs *list)
{
	struct json *items = json_new_array(arena);

	if (!list->n)
		return;
	for (size_t i = 0; i < list->n; i++)
		json_append(items, json_new_str(arena, arena_str(arena, list->items[i])));
	json_set(v, key, items);
}

struct json *cover_json(struct arena *arena, const struct authz_rule *rule)
{
	struct json *v = json_new_object(arena);

	json_strs(arena, v, "verbs", &rule->verbs);
	json_strs(arena, v, "apiGroups", &rule->groups);
	json_strs(arena, v, "resources", &rule->resources);
	json_strs(arena, v, "resourceNames", &rule->names);
	json_strs(arena, v, "nonResourceURLs", &rule->paths);
	return v;
}
