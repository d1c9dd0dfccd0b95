/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing and asking the audit policy. See audit_policy.h. */
#include "userspace/apiserver/audit_policy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "userspace/base/arena.h"
#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"

#define PATH_MAX_BYTES 128

struct strings {
	struct str *items;
	size_t n;
};

struct audit_resource {
	struct str group;
	struct strings resources, names;
};

struct audit_rule {
	struct audit_decision decision;
	struct strings users, groups, verbs, namespaces, urls;
	struct audit_resource *resources;
	size_t n_resources;
};

struct audit_policy {
	struct arena arena;
	struct audit_rule *rules;
	size_t n_rules;
};

static const char *const levels[] = { "None", "Metadata", "Request", "RequestResponse" };

static const struct {
	const char *name;
	enum audit_stage stage;
} stages[] = {
	{ "RequestReceived", AUDIT_RECEIVED },
	{ "ResponseStarted", AUDIT_STARTED },
	{ "ResponseComplete", AUDIT_COMPLETE },
	{ "Panic", AUDIT_PANIC },
};

const char *audit_level_name(enum audit_level level)
{
	return levels[level];
}

const char *audit_stage_name(enum audit_stage stage)
{
	for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
		if (stages[i].stage == stage)
			return stages[i].name;
	return "";
}

/* ---- parsing ---- */

/* A place in the policy, for messages. */
struct place {
	char text[PATH_MAX_BYTES];
};

static struct place place(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static struct place place(const char *fmt, ...)
{
	struct place p;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p.text, sizeof(p.text), fmt, ap);
	va_end(ap);
	return p;
}

static int check_fields(const struct json *v, const char *const *known, const struct place *at, struct err *err)
{
	json_foreach(m, v) {
		size_t i;

		for (i = 0; known[i] && !str_is(m->key, known[i]); i++)
			;
		if (!known[i])
			return err_set(err, -EINVAL, "unknown field \"%s%s%.*s\"", at->text, *at->text ? "." : "",
				       STR_ARG(m->key));
	}
	return 0;
}

static int read_strings(struct arena *arena, const struct json *object, const char *key, const struct place *at,
			struct strings *ret, struct err *err)
{
	const struct json *list = json_get(object, key);

	if (!list || json_is(list, JSON_NULL))
		return 0;
	if (!json_is(list, JSON_ARRAY))
		return err_set(err, -EINVAL, "%s.%s: a list of strings is wanted", at->text, key);
	ret->items = arena_new_array(arena, struct str, json_count(list) + 1);
	json_foreach(v, list) {
		if (!json_is(v, JSON_STRING))
			return err_set(err, -EINVAL, "%s.%s[%zu]: a string is wanted", at->text, key, ret->n);
		ret->items[ret->n++] = json_str(v);
	}
	return 0;
}

static int read_stages(struct arena *arena, const struct json *object, const struct place *at, unsigned *ret,
		       struct err *err)
{
	struct strings names = { 0 };
	int r = read_strings(arena, object, "omitStages", at, &names, err);

	for (size_t i = 0; i < names.n && r == 0; i++) {
		size_t k;

		for (k = 0; k < ARRAY_SIZE(stages) && !str_is(names.items[i], stages[k].name); k++)
			;
		if (k == ARRAY_SIZE(stages))
			return err_set(
				err, -EINVAL,
				"%s%somitStages[%zu]: Invalid value: \"%.*s\": allowed stages are RequestReceived, "
				"ResponseStarted, ResponseComplete, Panic",
				at->text, *at->text ? "." : "", i, STR_ARG(names.items[i]));
		*ret |= stages[k].stage;
	}
	return r;
}

static int read_bool(const struct json *object, const char *key, const struct place *at, bool *ret, struct err *err)
{
	const struct json *v = json_get(object, key);

	if (!v || json_is(v, JSON_NULL))
		return 0;
	if (!json_is(v, JSON_BOOL))
		return err_set(err, -EINVAL, "%s%s%s: true or false is wanted", at->text, *at->text ? "." : "", key);
	*ret = v->boolean;
	return 0;
}

static int read_level(const struct json *rule, const struct place *at, enum audit_level *ret, struct err *err)
{
	struct str level = json_get_str(rule, "level");

	if (!level.n)
		return err_set(err, -EINVAL, "%s.level: Required value", at->text);
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (!str_is(level, levels[i]))
			continue;
		*ret = (enum audit_level)i;
		return 0;
	}
	return err_set(err, -EINVAL,
		       "%s.level: Unsupported value: \"%.*s\": supported values: \"Metadata\", \"None\", \"Request\", "
		       "\"RequestResponse\"",
		       at->text, STR_ARG(level));
}

static int read_resource(struct arena *arena, const struct json *v, const struct place *at, struct audit_resource *ret,
			 struct err *err)
{
	static const char *const known[] = { "group", "resources", "resourceNames", NULL };
	int r;

	if (!json_is(v, JSON_OBJECT))
		return err_set(err, -EINVAL, "%s: a mapping is wanted", at->text);
	r = check_fields(v, known, at, err);
	if (r == 0)
		r = read_strings(arena, v, "resources", at, &ret->resources, err);
	if (r == 0)
		r = read_strings(arena, v, "resourceNames", at, &ret->names, err);
	if (r < 0)
		return r;
	ret->group = json_get_str(v, "group");
	/* A version is no part of it: "apps/v1" would never match. */
	if (str_find(ret->group, '/') >= 0)
		return err_set(err, -EINVAL, "%s.group: Invalid value: \"%.*s\": must be the name of an API group",
			       at->text, STR_ARG(ret->group));
	if (ret->names.n && !ret->resources.n)
		return err_set(err, -EINVAL,
			       "%s.resourceNames: Invalid value: using resourceNames requires at least one resource",
			       at->text);
	return 0;
}

static int read_resources(struct arena *arena, const struct json *rule, const struct place *at, struct audit_rule *ret,
			  struct err *err)
{
	const struct json *list = json_get(rule, "resources");
	int r = 0;

	if (!list || json_is(list, JSON_NULL))
		return 0;
	if (!json_is(list, JSON_ARRAY))
		return err_set(err, -EINVAL, "%s.resources: a list is wanted", at->text);
	ret->resources = arena_new_array(arena, struct audit_resource, json_count(list) + 1);
	json_foreach(v, list) {
		const struct place here = place("%s.resources[%zu]", at->text, ret->n_resources);

		r = read_resource(arena, v, &here, &ret->resources[ret->n_resources++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_urls(const struct audit_rule *rule, const struct place *at, struct err *err)
{
	if (rule->urls.n && (rule->n_resources || rule->namespaces.n))
		return err_set(err, -EINVAL,
			       "%s.nonResourceURLs: Invalid value: rules cannot apply to both regular resources and "
			       "non-resource URLs",
			       at->text);
	for (size_t i = 0; i < rule->urls.n; i++) {
		struct str url = rule->urls.items[i];
		long star = str_find(url, '*');

		if (str_is(url, "*"))
			continue;
		if (!url.n || url.p[0] != '/')
			return err_set(err, -EINVAL,
				       "%s.nonResourceURLs[%zu]: Invalid value: \"%.*s\": non-resource URL rules must "
				       "begin with a '/' character",
				       at->text, i, STR_ARG(url));
		if (star >= 0 && (size_t)star + 1 != url.n)
			return err_set(
				err, -EINVAL,
				"%s.nonResourceURLs[%zu]: Invalid value: \"%.*s\": non-resource URL wildcards '*' "
				"must be the final character of the rule",
				at->text, i, STR_ARG(url));
	}
	return 0;
}

static int read_rule(struct arena *arena, const struct json *v, const struct place *at,
		     const struct audit_decision *inherited, struct audit_rule *ret, struct err *err)
{
	static const char *const known[] = {
		"level",           "users",      "userGroups",        "verbs", "resources", "namespaces",
		"nonResourceURLs", "omitStages", "omitManagedFields", NULL
	};
	struct {
		const char *key;
		struct strings *to;
	} lists[] = { { "users", &ret->users },
		      { "userGroups", &ret->groups },
		      { "verbs", &ret->verbs },
		      { "namespaces", &ret->namespaces },
		      { "nonResourceURLs", &ret->urls } };
	int r;

	if (!json_is(v, JSON_OBJECT))
		return err_set(err, -EINVAL, "%s: a mapping is wanted", at->text);
	ret->decision = *inherited;
	r = check_fields(v, known, at, err);
	if (r == 0)
		r = read_level(v, at, &ret->decision.level, err);
	for (size_t i = 0; i < ARRAY_SIZE(lists) && r == 0; i++)
		r = read_strings(arena, v, lists[i].key, at, lists[i].to, err);
	if (r == 0)
		r = read_resources(arena, v, at, ret, err);
	if (r == 0)
		r = read_stages(arena, v, at, &ret->decision.omit_stages, err);
	if (r == 0)
		r = read_bool(v, "omitManagedFields", at, &ret->decision.omit_managed_fields, err);
	return r < 0 ? r : check_urls(ret, at, err);
}

static int read_head(struct arena *arena, const struct json *v, struct audit_decision *ret, struct err *err)
{
	static const char *const known[] = { "apiVersion",        "kind", "metadata", "rules", "omitStages",
					     "omitManagedFields", NULL };
	const struct place top = place("%s", "");
	int r;

	if (!json_is(v, JSON_OBJECT))
		return err_set(err, -EINVAL, "a mapping is wanted");
	if (!str_is(json_get_str(v, "apiVersion"), "audit.k8s.io/v1") || !str_is(json_get_str(v, "kind"), "Policy"))
		return err_set(err, -EINVAL, "apiVersion audit.k8s.io/v1 and kind Policy are wanted");
	r = check_fields(v, known, &top, err);
	if (r == 0)
		r = read_stages(arena, v, &top, &ret->omit_stages, err);
	return r < 0 ? r : read_bool(v, "omitManagedFields", &top, &ret->omit_managed_fields, err);
}

static int read_policy(struct audit_policy *p, struct str text, struct err *err)
{
	struct audit_decision inherited = { 0 };
	const struct json *rules;
	struct json *v;
	int r;

	if (text.n > AUDIT_POLICY_BYTES_MAX)
		return err_set(err, -EINVAL, "longer than %d bytes", AUDIT_POLICY_BYTES_MAX);
	r = yaml_parse(&p->arena, text, &v, err);
	if (r == 0)
		r = read_head(&p->arena, v, &inherited, err);
	if (r < 0)
		return r;
	rules = json_get(v, "rules");
	if (!json_is(rules, JSON_ARRAY) || !json_count(rules))
		return err_set(err, -EINVAL, "rules: at least one rule is wanted");
	if (json_count(rules) > AUDIT_RULES_MAX)
		return err_set(err, -EINVAL, "rules: more than %d", AUDIT_RULES_MAX);
	p->rules = arena_new_array(&p->arena, struct audit_rule, json_count(rules));
	json_foreach(rule, rules) {
		const struct place at = place("rules[%zu]", p->n_rules);

		r = read_rule(&p->arena, rule, &at, &inherited, &p->rules[p->n_rules++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

int audit_policy_parse(struct str text, struct audit_policy **ret, struct err *err)
{
	struct audit_policy *p = mem_new(struct audit_policy);
	int r = read_policy(p, text, err);

	if (r < 0) {
		audit_policy_destroy(p);
		return -EINVAL;
	}
	*ret = p;
	return 0;
}

void audit_policy_destroy(struct audit_policy *policy)
{
	if (!policy)
		return;
	arena_finish(&policy->arena);
	free(policy);
}

/* ---- asking ---- */

static bool has(const struct strings *list, struct str s)
{
	for (size_t i = 0; i < list->n; i++)
		if (str_eq(list->items[i], s))
			return true;
	return false;
}

static bool matches_user(const struct audit_rule *rule, const struct request_user *user)
{
	if (rule->users.n && (!user || !has(&rule->users, user->name)))
		return false;
	if (!rule->groups.n)
		return true;
	for (size_t i = 0; user && i < user->n_groups; i++)
		if (has(&rule->groups, user->groups[i]))
			return true;
	return false;
}

/* "pods", "pods/log", "pods/" and a star, a star and "/log", or a star alone. */
static bool matches_resource_name(struct str rule, const struct authz_attributes *a)
{
	struct str rest = rule, resource;

	if (str_is(rule, "*"))
		return true;
	str_split(&rest, '/', &resource);
	if (!rest.p)
		return !a->subresource.n && str_eq(rule, a->resource);
	if (str_is(rest, "*"))
		return str_eq(resource, a->resource);
	return a->subresource.n && str_eq(rest, a->subresource) &&
	       (str_is(resource, "*") || str_eq(resource, a->resource));
}

static bool matches_resource(const struct audit_rule *rule, const struct authz_attributes *a)
{
	if (a->is_path || (rule->namespaces.n && !has(&rule->namespaces, a->ns)))
		return false;
	for (size_t i = 0; i < rule->n_resources; i++) {
		const struct audit_resource *r = &rule->resources[i];

		if (!str_eq(r->group, a->group))
			continue;
		if (!r->resources.n)
			return true;
		for (size_t k = 0; k < r->resources.n; k++)
			if ((!r->names.n || has(&r->names, a->name)) && matches_resource_name(r->resources.items[k], a))
				return true;
	}
	return !rule->n_resources;
}

static bool matches_url(const struct audit_rule *rule, const struct authz_attributes *a)
{
	if (!a->is_path)
		return false;
	for (size_t i = 0; i < rule->urls.n; i++) {
		struct str url = rule->urls.items[i];

		if (str_eq(url, a->path) ||
		    (url.n && url.p[url.n - 1] == '*' && str_starts(a->path, str_make(url.p, url.n - 1))))
			return true;
	}
	return false;
}

static bool matches(const struct audit_rule *rule, const struct authz_attributes *a)
{
	if (!matches_user(rule, a->user) || (rule->verbs.n && !has(&rule->verbs, a->verb)))
		return false;
	if (rule->namespaces.n || rule->n_resources)
		return matches_resource(rule, a);
	return !rule->urls.n || matches_url(rule, a);
}

void audit_policy_decide(const struct audit_policy *policy, const struct authz_attributes *attributes,
			 struct audit_decision *ret)
{
	*ret = (struct audit_decision){ .level = AUDIT_NONE };
	for (size_t i = 0; i < policy->n_rules; i++) {
		if (!matches(&policy->rules[i], attributes))
			continue;
		*ret = policy->rules[i].decision;
		return;
	}
}
