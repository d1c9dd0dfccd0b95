/* SPDX-License-Identifier: Apache-2.0 */
/* What a role allows. Plain rules become cells of a small hash table, keyed by group and resource, with a bit for each
 * verb; rules with wildcards, names or unusual verbs are compared one by one, and there are few of those. Loop thread.
 */
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/registry/authz/index.h"

/* The verbs that have a bit of their own; a question for another one is answered by rules, and by "*". */
static const char *const VERBS[] = {
	"get",         "list", "watch", "create",   "update", "patch", "delete",  "deletecollection",
	"impersonate", "bind", "use",   "escalate", "sign",   "proxy", "approve",
};
#define VERB_OTHER (UINT64_C(1) << 63)
#define VERBS_ALL (~UINT64_C(0))

static uint64_t verb_bit(struct str verb)
{
	for (size_t i = 0; i < ARRAY_SIZE(VERBS); i++)
		if (str_is(verb, VERBS[i]))
			return UINT64_C(1) << i;
	return VERB_OTHER;
}

bool authz_strs_has(const struct authz_strs *list, struct str s)
{
	for (size_t i = 0; i < list->n; i++)
		if (str_eq(list->items[i], s))
			return true;
	return false;
}

static bool has_star(const struct authz_strs *list)
{
	return authz_strs_has(list, STR("*"));
}

/* ---- reading ---- */

static struct authz_strs read_strs(struct arena *arena, const struct json *list)
{
	struct str *items = arena_new_array(arena, struct str, json_count(list) + 1);
	size_t n = 0;

	json_foreach(v, list)
		items[n++] = arena_str(arena, json_str(v));
	return (struct authz_strs){ items, n };
}

struct authz_rule *authz_rules_read(struct arena *arena, const struct json *rules, size_t *ret_n)
{
	struct authz_rule *read = arena_new_array(arena, struct authz_rule, json_count(rules) + 1);
	size_t n = 0;

	json_foreach(r, rules)
		read[n++] = (struct authz_rule){
			.verbs = read_strs(arena, json_get(r, "verbs")),
			.groups = read_strs(arena, json_get(r, "apiGroups")),
			.resources = read_strs(arena, json_get(r, "resources")),
			.names = read_strs(arena, json_get(r, "resourceNames")),
			.paths = read_strs(arena, json_get(r, "nonResourceURLs")),
		};
	*ret_n = n;
	return read;
}

/* ---- compiling ---- */

/* A zero byte would let the two parts of a cell's key run together. */
static bool plain_strs(const struct authz_strs *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->items[i].n &&
		    (memchr(list->items[i].p, 0, list->items[i].n) || memchr(list->items[i].p, '*', list->items[i].n)))
			return false;
	return true;
}

static bool plain_rule(const struct authz_rule *rule, uint64_t *ret_verbs)
{
	uint64_t verbs = 0;

	if (rule->names.n || !plain_strs(&rule->groups) || !plain_strs(&rule->resources))
		return false;
	for (size_t i = 0; i < rule->verbs.n; i++) {
		uint64_t bit = str_is(rule->verbs.items[i], "*") ? VERBS_ALL : verb_bit(rule->verbs.items[i]);

		if (bit == VERB_OTHER)
			return false;
		verbs |= bit;
	}
	*ret_verbs = verbs;
	return true;
}

static void add_cell(struct authz_role *role, struct str group, struct str resource, uint64_t verbs)
{
	char *text = arena_alloc(&role->arena, group.n + 1 + resource.n);
	struct str key = str_make(text, group.n + 1 + resource.n);
	uint64_t hash;
	uint32_t i;

	if (group.n)
		memcpy(text, group.p, group.n);
	text[group.n] = 0;
	if (resource.n)
		memcpy(text + group.n + 1, resource.p, resource.n);
	hash = hash_bytes(key.p, key.n);
	for (i = hash & (role->cells_cap - 1); role->cells[i].key.p; i = (i + 1) & (role->cells_cap - 1))
		if (role->cells[i].hash == hash && str_eq(role->cells[i].key, key))
			break;
	role->cells[i].hash = hash;
	role->cells[i].key = key;
	role->cells[i].verbs |= verbs;
}

static void make_cells(struct authz_role *role)
{
	size_t n = 0;
	uint64_t verbs;

	for (size_t i = 0; i < role->n_rules; i++)
		n += role->rules[i].groups.n * role->rules[i].resources.n;
	for (role->cells_cap = 4; role->cells_cap < 2 * n + 1;)
		role->cells_cap *= 2;
	role->cells = arena_new_array(&role->arena, struct authz_cell, role->cells_cap);
	for (size_t i = 0; i < role->n_rules; i++) {
		const struct authz_rule *rule = &role->rules[i];

		if (!plain_rule(rule, &verbs))
			continue;
		for (size_t g = 0; g < rule->groups.n; g++)
			for (size_t r = 0; r < rule->resources.n; r++)
				add_cell(role, rule->groups.items[g], rule->resources.items[r], verbs);
	}
}

void authz_role_compile(struct authz_role *role, const struct json *rules)
{
	uint64_t verbs;

	arena_finish(&role->arena);
	role->arena = ARENA_INIT;
	role->rules = authz_rules_read(&role->arena, rules, &role->n_rules);
	role->special = arena_new_array(&role->arena, const struct authz_rule *, role->n_rules + 1);
	role->paths = arena_new_array(&role->arena, const struct authz_rule *, role->n_rules + 1);
	role->n_special = role->n_paths = 0;
	for (size_t i = 0; i < role->n_rules; i++) {
		const struct authz_rule *rule = &role->rules[i];

		if (rule->paths.n)
			role->paths[role->n_paths++] = rule;
		if (rule->resources.n && !plain_rule(rule, &verbs))
			role->special[role->n_special++] = rule;
	}
	make_cells(role);
	role->compiled = true;
}

/* ---- asking ---- */

void authz_question_init(struct authz_question *q, const struct authz_attributes *a, struct arena *arena)
{
	size_t n = a->group.n + 1 + a->resource.n + (a->subresource.n ? 1 + a->subresource.n : 0);
	char *at = q->text;

	q->a = a;
	q->key = q->resource = STR_NULL;
	q->hash = 0;
	if (a->is_path)
		return;
	q->verb = verb_bit(a->verb);
	if (n > sizeof(q->text))
		at = arena_alloc(arena, n);
	else
		q->key = str_make(at, n);
	if (a->group.n)
		memcpy(at, a->group.p, a->group.n);
	at[a->group.n] = 0;
	at += a->group.n + 1;
	q->resource = str_make(at, n - a->group.n - 1);
	if (a->resource.n)
		memcpy(at, a->resource.p, a->resource.n);
	if (a->subresource.n) {
		at[a->resource.n] = '/';
		memcpy(at + a->resource.n + 1, a->subresource.p, a->subresource.n);
	}
	if (q->key.p)
		q->hash = hash_bytes(q->key.p, q->key.n);
}

static bool resource_matches(const struct authz_rule *rule, const struct authz_question *q)
{
	struct str sub = q->a->subresource;

	for (size_t i = 0; i < rule->resources.n; i++) {
		struct str r = rule->resources.items[i];

		if (str_is(r, "*") || str_eq(r, q->resource))
			return true;
		if (sub.n && r.n == sub.n + 2 && str_starts(r, STR("*/")) && str_ends(r, sub))
			return true;
	}
	return false;
}

static bool rule_allows(const struct authz_rule *rule, const struct authz_question *q)
{
	return (has_star(&rule->verbs) || authz_strs_has(&rule->verbs, q->a->verb)) &&
	       (has_star(&rule->groups) || authz_strs_has(&rule->groups, q->a->group)) && resource_matches(rule, q) &&
	       (!rule->names.n || authz_strs_has(&rule->names, q->a->name));
}

bool authz_path_covers(struct str rule, struct str path)
{
	if (str_eq(rule, path))
		return true;
	if (!str_ends(rule, STR("*")))
		return false;
	while (rule.n && rule.p[rule.n - 1] == '*')
		rule.n--;
	return str_starts(path, rule);
}

static bool path_allows(const struct authz_rule *rule, const struct authz_attributes *a)
{
	if (!has_star(&rule->verbs) && !authz_strs_has(&rule->verbs, a->verb))
		return false;
	for (size_t i = 0; i < rule->paths.n; i++)
		if (authz_path_covers(rule->paths.items[i], a->path))
			return true;
	return false;
}

static uint64_t cell_verbs(const struct authz_role *role, const struct authz_question *q)
{
	for (uint32_t i = q->hash & (role->cells_cap - 1); role->cells[i].key.p; i = (i + 1) & (role->cells_cap - 1))
		if (role->cells[i].hash == q->hash && str_eq(role->cells[i].key, q->key))
			return role->cells[i].verbs;
	return 0;
}

bool authz_role_allows(const struct authz_role *role, const struct authz_question *q)
{
	if (q->a->is_path) {
		for (size_t i = 0; i < role->n_paths; i++)
			if (path_allows(role->paths[i], q->a))
				return true;
		return false;
	}
	if (!q->key.p) {
		for (size_t i = 0; i < role->n_rules; i++)
			if (rule_allows(&role->rules[i], q))
				return true;
		return false;
	}
	if (cell_verbs(role, q) & q->verb)
		return true;
	for (size_t i = 0; i < role->n_special; i++)
		if (rule_allows(role->special[i], q))
			return true;
	return false;
}

struct str authz_role_missing(struct arena *arena, const struct authz_role *role)
{
	return str_of(arena_printf(arena, "%s.rbac.authorization.k8s.io \"%.*s\" not found",
				   role->ns.n ? "role" : "clusterrole", STR_ARG(role->name)));
}
