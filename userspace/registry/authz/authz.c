/* SPDX-License-Identifier: Apache-2.0 */
/* The questions and their answers. See registry/authz.h; the index is index.h. Loop thread. */
#include "userspace/registry/authz.h"

#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/base/mem.h"
#include "userspace/registry/authz/index.h"
#include "userspace/registry/internal.h"

#define AUTHZ_MISSING_MAX 16 /* roles that do not exist, told in one reason */

static bool is_master(const struct request_user *user)
{
	for (size_t i = 0; i < user->n_groups; i++)
		if (str_eq(user->groups[i], STR("system:masters")))
			return true;
	return false;
}

bool authz_is_exempt(const struct request_user *user)
{
	return !user || is_master(user);
}

/* ---- one question ---- */

struct decision {
	struct authz_index *index;
	struct authz_question question;
	const struct authz_grant *grant;
	bool missing;
};

static bool decide_grant(void *arg, const struct authz_grant *grant)
{
	struct decision *d = arg;
	struct authz_role *role = grant->binding->role;

	if (!role->exists) {
		d->missing = true;
		return false;
	}
	if (!authz_role_allows(role->compiled ? role : authz_index_role(d->index, role), &d->question))
		return false;
	d->grant = grant;
	return true;
}

static struct str reason_of(struct arena *arena, const struct authz_grant *grant)
{
	const struct authz_binding *b = grant->binding;

	return str_of(arena_printf(arena, "RBAC: allowed by %s \"%.*s%s%.*s\" of %s \"%.*s\" to %s \"%.*s\"",
				   b->ns.n ? "RoleBinding" : "ClusterRoleBinding", STR_ARG(b->name), b->ns.n ? "/" : "",
				   STR_ARG(b->ns), b->role->ns.n ? "Role" : "ClusterRole", STR_ARG(b->role->name),
				   grant->subject->kind, STR_ARG(grant->subject->shown)));
}

/* ---- roles that bindings name and nobody made ---- */

struct missing {
	const struct authz_role *roles[AUTHZ_MISSING_MAX];
	size_t n;
};

static bool collect_missing(void *arg, const struct authz_grant *grant)
{
	struct missing *m = arg;

	if (grant->binding->role->exists)
		return false;
	for (size_t i = 0; i < m->n; i++)
		if (m->roles[i] == grant->binding->role)
			return false;
	m->roles[m->n++] = grant->binding->role;
	return m->n == ARRAY_SIZE(m->roles);
}

struct str authz_missing_text(struct registry *reg, const struct request_user *user, struct str ns, struct arena *arena)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct missing m = { .n = 0 };

	authz_index_visit(reg->authz, user, ns, collect_missing, &m);
	if (!m.n)
		return STR_NULL;
	for (size_t i = 0; i < m.n; i++) {
		if (m.n > 1)
			buf_add_cstr(&text, i ? ", " : "[");
		buf_add_str(&text, authz_role_missing(arena, m.roles[i]));
	}
	if (m.n > 1)
		buf_add_cstr(&text, "]");
	return arena_str(arena, buf_str(&text));
}

static struct str missing_reason(struct registry *reg, const struct authz_attributes *a, struct arena *arena)
{
	struct str text = authz_missing_text(reg, a->user, a->is_path ? STR_NULL : a->ns, arena);

	return text.n ? str_of(arena_printf(arena, "RBAC: %.*s", STR_ARG(text))) : STR_NULL;
}

enum authz_decision authz_decide(struct registry *reg, const struct authz_attributes *a, struct arena *arena,
				 struct str *ret_reason)
{
	struct decision d;

	if (ret_reason)
		*ret_reason = STR_NULL;
	if (is_master(a->user))
		return AUTHZ_ALLOW;
	d.index = reg->authz;
	d.grant = NULL;
	d.missing = false;
	authz_question_init(&d.question, a, arena);
	authz_index_visit(reg->authz, a->user, a->is_path ? STR_NULL : a->ns, decide_grant, &d);
	if (ret_reason && d.grant)
		*ret_reason = reason_of(arena, d.grant);
	else if (ret_reason && d.missing)
		*ret_reason = missing_reason(reg, a, arena);
	return d.grant ? AUTHZ_ALLOW : AUTHZ_NO_OPINION;
}

/* ---- the refusal ---- */

int authz_forbidden(struct err *err, const struct authz_attributes *a, struct str reason)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	if (a->is_path) {
		err_set_status(err, -EACCES, 403, "Forbidden",
			       "forbidden: User \"%.*s\" cannot %.*s path \"%.*s\"%s%.*s", STR_ARG(a->user->name),
			       STR_ARG(a->verb), STR_ARG(a->path), reason.n ? ": " : "", STR_ARG(reason));
		err_set_details(err, "", "", ""); /* there, and empty */
		return -EACCES;
	}
	buf_add_str(&text, a->resource);
	if (a->group.n)
		buf_printf(&text, ".%.*s", STR_ARG(a->group));
	if (a->name.n)
		buf_printf(&text, " \"%.*s\"", STR_ARG(a->name));
	buf_printf(&text, " is forbidden: User \"%.*s\" cannot %.*s resource \"%.*s%s%.*s\" in API group \"%.*s\" ",
		   STR_ARG(a->user->name), STR_ARG(a->verb), STR_ARG(a->resource), a->subresource.n ? "/" : "",
		   STR_ARG(a->subresource), STR_ARG(a->group));
	if (a->ns.n)
		buf_printf(&text, "in the namespace \"%.*s\"", STR_ARG(a->ns));
	else
		buf_add_cstr(&text, "at the cluster scope");
	if (reason.n)
		buf_printf(&text, ": %.*s", STR_ARG(reason));
	err_set_status(err, -EACCES, 403, "Forbidden", "%.*s", STR_ARG(buf_str(&text)));
	if (err) {
		_cleanup_free_ char *group = str_dup(a->group), *resource = str_dup(a->resource),
				    *name = str_dup(a->name);

		err_set_details(err, group, resource, name);
	}
	return -EACCES;
}

/* ---- all that a user may do ---- */

struct rules {
	struct authz_index *index;
	struct arena *arena;
	struct json *resources, *paths;
};

static void rules_set(struct arena *arena, struct json *v, const char *key, const struct authz_strs *list)
{
	struct json *items = json_new_array(arena);

	if (!list->n)
		return;
	for (size_t i = 0; i < list->n; i++)
		json_append(items, json_new_str(arena, arena_str(arena, list->items[i])));
	json_set(v, key, items);
}

static bool rules_grant(void *arg, const struct authz_grant *grant)
{
	struct rules *r = arg;
	const struct authz_role *role = grant->binding->role;

	if (!role->exists)
		return false;
	role = authz_index_role(r->index, grant->binding->role);
	for (size_t i = 0; i < role->n_rules; i++) {
		const struct authz_rule *rule = &role->rules[i];
		struct json *v = json_new_object(r->arena);

		rules_set(r->arena, v, "verbs", &rule->verbs);
		if (rule->resources.n) {
			rules_set(r->arena, v, "apiGroups", &rule->groups);
			rules_set(r->arena, v, "resources", &rule->resources);
			rules_set(r->arena, v, "resourceNames", &rule->names);
			json_append(r->resources, v);
		} else if (rule->paths.n) {
			rules_set(r->arena, v, "nonResourceURLs", &rule->paths);
			json_append(r->paths, v);
		}
	}
	return false;
}

void authz_rules(struct registry *reg, const struct request_user *user, struct str ns, struct arena *arena,
		 struct json *status)
{
	struct rules r = { reg->authz, arena, json_new_array(arena), json_new_array(arena) };
	struct str missing = authz_missing_text(reg, user, ns, arena);

	authz_index_visit(reg->authz, user, ns, rules_grant, &r);
	json_set(status, "resourceRules", r.resources);
	json_set(status, "nonResourceRules", r.paths);
	json_set_bool(arena, status, "incomplete", false);
	if (missing.n)
		json_set_str(arena, status, "evaluationError", missing);
}
