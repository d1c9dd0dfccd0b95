/* SPDX-License-Identifier: Apache-2.0 */
/* The default roles and bindings: made at the first start, mended at later ones. What somebody added stays; what was
 * taken away comes back, unless the object says autoupdate "false". All writes are queued at once, so that they share a
 * commit; when nothing is amiss nothing is written. Loop thread. */
#include <stdlib.h>

#include "userspace/api/meta.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/registry/authz.h"
#include "userspace/registry/authz/cover.h"
#include "userspace/registry/authz/defaults.h"
#include "userspace/registry/internal.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"
#define AUTOUPDATE "rbac.authorization.kubernetes.io/autoupdate"
#define LABEL_KEY "kubernetes.io/bootstrapping"
#define LABEL_VALUE "rbac-defaults"
#define AGGREGATE_PREFIX RBAC_GROUP "/aggregate-to-"

struct bootstrap {
	struct registry *reg;
	struct arena *arena; /* of the object at hand */
	unsigned pending;
	void (*done)(void *arg);
	void *arg;
};

static void written(void *arg, const struct object *o, const struct err *err)
{
	struct bootstrap *b = arg;

	if (err)
		log_error("a default role or binding was not written error=\"%s\"", err_message(err));
	if (--b->pending)
		return;
	if (b->done)
		b->done(b->arg);
	free(b);
}

/* ---- what they should be ---- */

static struct json *strings(struct arena *arena, const char *list)
{
	struct json *v = json_new_array(arena);
	struct str rest = str_of(list), part;

	while (str_split(&rest, ' ', &part))
		json_append(v, json_new_str(arena, str_is(part, "-") ? STR("") : part));
	return v;
}

static struct json *rule_json(struct arena *arena, const struct authz_default_rule *rule)
{
	struct json *v = json_new_object(arena);

	if (rule->groups)
		json_set(v, "apiGroups", strings(arena, rule->groups));
	if (rule->names)
		json_set(v, "resourceNames", strings(arena, rule->names));
	if (rule->resources)
		json_set(v, "resources", strings(arena, rule->resources));
	if (rule->paths)
		json_set(v, "nonResourceURLs", strings(arena, rule->paths));
	json_set(v, "verbs", strings(arena, rule->verbs));
	return v;
}

static bool is_named(const struct json *rules, const struct json *rule)
{
	json_foreach(r, rules)
		if (json_equal(r, rule))
			return true;
	return false;
}

/* In the order of names, as the aggregation controller adds them. */
static void add_rules(struct arena *arena, const struct authz_default_role *role, struct json *rules)
{
	for (size_t i = 0; i < role->n_rules; i++) {
		struct json *rule = rule_json(arena, &role->rules[i]);

		if (!role->aggregates && !is_named(rules, rule))
			json_append(rules, rule);
	}
	for (size_t i = 0; role->aggregates && i < AUTHZ_DEFAULT_ROLES_N; i++) {
		const struct authz_default_role *from = &AUTHZ_DEFAULT_ROLES[i];

		if (from->aggregate_to && strcmp(from->aggregate_to, role->aggregates) == 0)
			add_rules(arena, from, rules);
	}
}

static struct json *new_object(struct arena *arena, const struct api_kind *kind, const char *ns, struct str name)
{
	struct json *o = json_new_object(arena);

	json_set_cstr(arena, o, "apiVersion", kind->api_version);
	json_set_cstr(arena, o, "kind", kind->kind);
	json_set_str(arena, meta_ensure(arena, o), "name", name);
	if (ns)
		json_set_cstr(arena, meta_ensure(arena, o), "namespace", ns);
	meta_set_annotation(arena, o, AUTOUPDATE, STR("true"));
	meta_set_label(arena, o, LABEL_KEY, STR(LABEL_VALUE));
	return o;
}

static struct json *role_json(struct arena *arena, const struct authz_default_role *role)
{
	struct json *o = new_object(arena, role->ns ? KIND_ROLE : KIND_CLUSTERROLE, role->ns, str_of(role->name)),
		    *rules = json_new_array(arena), *selectors, *selector, *rule;

	if (role->aggregate_to)
		meta_set_label(arena, o, arena_printf(arena, AGGREGATE_PREFIX "%s", role->aggregate_to), STR("true"));
	add_rules(arena, role, rules);
	json_set(o, "rules", rules);
	if (!role->aggregates)
		return o;
	rule = json_new_object(arena);
	selector = json_new_object(arena);
	json_set_cstr(arena, json_ensure_object(arena, selector, "matchLabels"),
		      arena_printf(arena, AGGREGATE_PREFIX "%s", role->aggregates), "true");
	selectors = json_ensure_array(arena, rule, "clusterRoleSelectors");
	json_append(selectors, selector);
	json_set(o, "aggregationRule", rule);
	return o;
}

static void add_subjects(struct arena *arena, struct json *subjects, const char *kind, const char *names)
{
	struct str rest = str_of(names), name;

	while (names && str_split(&rest, ' ', &name)) {
		struct json *s = json_new_object(arena);

		json_set_cstr(arena, s, "kind", kind);
		if (strcmp(kind, "ServiceAccount") == 0)
			json_set_cstr(arena, s, "namespace", "kube-system");
		else
			json_set_cstr(arena, s, "apiGroup", RBAC_GROUP);
		json_set_str(arena, s, "name", name);
		json_append(subjects, s);
	}
}

static struct json *binding_json(struct arena *arena, const struct authz_default_binding *b)
{
	const struct api_kind *kind = b->ns ? KIND_ROLEBINDING : KIND_CLUSTERROLEBINDING;
	struct json *o = new_object(arena, kind, b->ns, str_of(b->name)), *ref = json_new_object(arena),
		    *subjects = json_new_array(arena);

	json_set_cstr(arena, ref, "apiGroup", RBAC_GROUP);
	json_set_cstr(arena, ref, "kind", b->ns ? "Role" : "ClusterRole");
	json_set_cstr(arena, ref, "name", b->role);
	json_set(o, "roleRef", ref);
	add_subjects(arena, subjects, "User", b->users);
	add_subjects(arena, subjects, "Group", b->groups);
	add_subjects(arena, subjects, "ServiceAccount", b->accounts);
	if (json_count(subjects))
		json_set(o, "subjects", subjects);
	return o;
}

/* ---- what is amiss ---- */

/* Members that are not there yet. */
static bool merge_map(struct arena *arena, struct json *to, const struct json *from, const char *key)
{
	bool changed = false;

	json_foreach(v, json_get(meta_of(from), key)) {
		struct json *map = json_ensure_object(arena, meta_ensure(arena, to), key);

		if (json_get_n(map, v->key))
			continue;
		json_set_n(map, arena_str(arena, v->key), json_clone_deep(arena, v));
		changed = true;
	}
	return changed;
}

static bool add_absent(struct arena *arena, struct json *to, const struct json *from, const char *key)
{
	bool changed = false;

	json_foreach(v, json_get(from, key)) {
		if (is_named(json_get(to, key), v))
			continue;
		json_append(json_ensure_array(arena, to, key), json_clone_deep(arena, v));
		changed = true;
	}
	return changed;
}

static bool add_missing_rules(struct arena *arena, struct json *to, const struct json *from)
{
	struct authz_rule *held, *asked, *missing = NULL;
	size_t n_held, n_asked, n = 0;

	if (json_equal(json_get(to, "rules"), json_get(from, "rules")))
		return false;
	held = authz_rules_read(arena, json_get(to, "rules"), &n_held);
	asked = authz_rules_read(arena, json_get(from, "rules"), &n_asked);
	if (cover_missing(arena, held, n_held, asked, n_asked, &missing, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		json_append(json_ensure_array(arena, to, "rules"), cover_json(arena, &missing[i]));
	return n > 0;
}

/* Mends `have` by `want`; false when there is nothing to do. */
static bool mend(struct arena *arena, struct json *have, const struct json *want)
{
	bool changed;

	if (str_is(meta_annotation(have, AUTOUPDATE), "false"))
		return false;
	changed = merge_map(arena, have, want, "labels");
	changed = merge_map(arena, have, want, "annotations") || changed;
	if (json_get(want, "roleRef"))
		return add_absent(arena, have, want, "subjects") || changed;
	if (json_get(want, "aggregationRule")) /* its rules are the aggregation controller's */
		return add_absent(arena, json_ensure_object(arena, have, "aggregationRule"),
				  json_get(want, "aggregationRule"), "clusterRoleSelectors") ||
		       changed;
	return add_missing_rules(arena, have, want) || changed;
}

static int mend_stored(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	return mend(arena, object, arg) ? 0 : 1;
}

/* ---- doing it ---- */

static void ensure_namespace(struct bootstrap *b, struct str ns)
{
	struct json *o;

	if (!ns.n || store_newest(b->reg->store, KIND_NAMESPACE->resource, STR_NULL, ns))
		return;
	o = json_new_object(b->arena);
	json_set_cstr(b->arena, o, "apiVersion", "v1");
	json_set_cstr(b->arena, o, "kind", "Namespace");
	json_set_str(b->arena, meta_ensure(b->arena, o), "name", ns);
	b->pending++;
	registry_create(b->reg, KIND_NAMESPACE, o, written, b);
}

static void create(struct bootstrap *b, const struct api_kind *kind, struct json *want)
{
	ensure_namespace(b, meta_namespace(want));
	b->pending++;
	registry_create(b->reg, kind, want, written, b);
}

static void reconcile(struct bootstrap *b, const struct api_kind *kind, struct json *want)
{
	struct str ns = meta_namespace(want), name = meta_name(want);
	const struct object *o = store_newest(b->reg->store, kind->resource, ns, name);
	struct json *have;

	if (!o) {
		create(b, kind, want);
		return;
	}
	have = registry_parse(b->arena, o);
	if (json_get(want, "roleRef") && !json_equal(json_get(have, "roleRef"), json_get(want, "roleRef"))) {
		/* Another role cannot be put in its place. */
		if (str_is(meta_annotation(have, AUTOUPDATE), "false"))
			return;
		b->pending++;
		registry_delete(b->reg, kind, ns, name, NULL, written, b);
		create(b, kind, want);
		return;
	}
	if (!mend(b->arena, have, want))
		return;
	b->pending++;
	registry_update(b->reg, kind, ns, name, NULL, mend_stored, want, written, b);
}

static void bootstrap_role(struct bootstrap *b, const struct authz_default_role *role)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct authz_default_binding binding = {
		.name = role->name,
		.role = role->name,
		.accounts = role->name + sizeof(AUTHZ_CONTROLLER_PREFIX) - 1,
	};

	b->arena = &arena;
	reconcile(b, role->ns ? KIND_ROLE : KIND_CLUSTERROLE, role_json(&arena, role));
	if (!role->ns && str_starts(str_of(role->name), STR(AUTHZ_CONTROLLER_PREFIX)))
		reconcile(b, KIND_CLUSTERROLEBINDING, binding_json(&arena, &binding));
}

unsigned authz_bootstrap(struct registry *reg, void (*done)(void *arg), void *arg)
{
	struct bootstrap *b = mem_new(struct bootstrap);
	unsigned pending;

	b->reg = reg;
	b->pending = 1; /* this call */
	for (size_t i = 0; i < AUTHZ_DEFAULT_ROLES_N; i++)
		bootstrap_role(b, &AUTHZ_DEFAULT_ROLES[i]);
	for (size_t i = 0; i < AUTHZ_DEFAULT_BINDINGS_N; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct authz_default_binding *binding = &AUTHZ_DEFAULT_BINDINGS[i];

		b->arena = &arena;
		reconcile(b, binding->ns ? KIND_ROLEBINDING : KIND_CLUSTERROLEBINDING, binding_json(&arena, binding));
	}
	pending = --b->pending;
	b->done = done;
	b->arg = arg;
	if (!pending)
		free(b);
	return pending;
}
