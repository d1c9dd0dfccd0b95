/* SPDX-License-Identifier: Apache-2.0 */
/* Nobody grants what they do not hold: who writes a role must hold its rules or have the verb "escalate" on it, who
 * writes a binding must hold the rules of its role or have the verb "bind" on the role. It stands behind the mutating
 * plugins, before validation, where upstream asks too. What a role allows is taken from its newest state, so that a
 * binding cannot slip by a change that is on its way. Loop thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"
#include "userspace/registry/authz.h"
#include "userspace/registry/authz/cover.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

/* ---- what the writer holds ---- */

struct held {
	struct authz_index *index;
	struct arena *arena;
	struct authz_rule *rules;
	size_t n, cap;
};

static bool hold_grant(void *arg, const struct authz_grant *grant)
{
	struct held *h = arg;
	const struct authz_role *role = grant->binding->role;

	if (!role->exists)
		return false;
	role = authz_index_role(h->index, grant->binding->role);
	if (h->n + role->n_rules > h->cap) {
		struct authz_rule *more;

		h->cap = 2 * (h->n + role->n_rules);
		more = arena_new_array(h->arena, struct authz_rule, h->cap);
		for (size_t i = 0; i < h->n; i++)
			more[i] = h->rules[i];
		h->rules = more;
	}
	for (size_t i = 0; i < role->n_rules; i++)
		h->rules[h->n++] = role->rules[i];
	return false;
}

static int by_text(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* `user "x" (groups=["a" "b"]) is attempting to grant RBAC permissions not currently held:` and a line for each */
static struct str refusal(struct write *w, const struct authz_rule *missing, size_t n)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	const struct authz_rule *compact = cover_compact(&w->arena, missing, n, &n);
	struct str *lines = arena_new_array(&w->arena, struct str, n + 1);
	struct str absent = authz_missing_text(w->reg, w->user, w->ns, &w->arena);

	buf_add_cstr(&text, "user ");
	json_write_str(&text, w->user->name);
	buf_add_cstr(&text, " (groups=[");
	for (size_t i = 0; i < w->user->n_groups; i++) {
		if (i)
			buf_add_cstr(&text, " ");
		json_write_str(&text, w->user->groups[i]);
	}
	buf_add_cstr(&text, "]) is attempting to grant RBAC permissions not currently held:");
	for (size_t i = 0; i < n; i++)
		lines[i] = cover_text(&w->arena, &compact[i]);
	qsort(lines, n, sizeof(*lines), by_text);
	for (size_t i = 0; i < n; i++) {
		if (i && str_eq(lines[i], lines[i - 1]))
			continue;
		buf_add_cstr(&text, "\n");
		buf_add_str(&text, lines[i]);
	}
	if (absent.n)
		buf_printf(&text, "; resolution errors: [%.*s]", STR_ARG(absent));
	return arena_str(&w->arena, buf_str(&text));
}

/* 0: all of `rules` is held. */
static int confirm(struct write *w, const struct json *rules, struct str *ret_refusal, struct err *err)
{
	struct held h = { .index = w->reg->authz, .arena = &w->arena };
	struct authz_rule *missing = NULL, *asked;
	size_t n = 0, n_asked;
	int r;

	authz_index_visit(w->reg->authz, w->user, w->ns, hold_grant, &h);
	asked = authz_rules_read(&w->arena, rules, &n_asked);
	r = cover_missing(&w->arena, h.rules, h.n, asked, n_asked, &missing, &n);
	if (r < 0)
		return api_err_forbidden(err, w->storage, meta_name(w->object),
					 "its rules hold more than %d permissions, too many to be checked",
					 COVER_PARTS_MAX);
	if (!n)
		return 0;
	*ret_refusal = refusal(w, missing, n);
	return api_err_forbidden(err, w->storage, meta_name(w->object), "%.*s", STR_ARG(*ret_refusal));
}

/* ---- roles ---- */

static bool may(struct write *w, const char *verb, const char *resource, struct str name)
{
	const struct authz_attributes a = {
		.user = w->user,
		.verb = str_of(verb),
		.group = STR(RBAC_GROUP),
		.version = STR("*"),
		.resource = str_of(resource),
		.ns = w->ns,
		.name = name,
	};

	return authz_decide(w->reg, &a, &w->arena, NULL) == AUTHZ_ALLOW;
}

/* Everything, everywhere: what an aggregation rule may come to grant. */
static const struct json *full_authority(struct arena *arena)
{
	static const char text[] = "[{\"apiGroups\":[\"*\"],\"resources\":[\"*\"],\"verbs\":[\"*\"]},"
				   "{\"nonResourceURLs\":[\"*\"],\"verbs\":[\"*\"]}]";
	struct json *rules = NULL;

	json_parse(arena, STR(text), 0, &rules, NULL);
	return rules;
}

static bool has_aggregation(const struct json *role)
{
	return json_count(json_at(role, "aggregationRule.clusterRoleSelectors")) > 0;
}

static int check_role(struct write *w, struct err *err)
{
	_cleanup_err_ struct err why = ERR_INIT;
	struct str text;
	int r;

	if (may(w, "escalate", w->storage->plural, w->name))
		return 0;
	r = confirm(w, json_get(w->object, "rules"), &text, err);
	if (r < 0 || w->storage->namespaced || (!has_aggregation(w->object) && !has_aggregation(w->old)))
		return r;
	if (confirm(w, full_authority(&w->arena), &text, &why) < 0)
		return api_err_forbidden(err, w->storage, meta_name(w->object),
					 "must have cluster-admin privileges to use the aggregationRule");
	return 0;
}

/* ---- bindings ---- */

static int check_binding(struct write *w, struct err *err)
{
	const struct json *ref = json_get(w->object, "roleRef");
	struct str kind = json_get_str(ref, "kind"), name = json_get_str(ref, "name"), text;
	bool cluster = str_is(kind, "ClusterRole");
	const struct object *role;

	/* Anything else is refused by validation. */
	if ((!cluster && !(str_is(kind, "Role") && w->storage->namespaced)) || !name.n)
		return 0;
	if (may(w, "bind", cluster ? "clusterroles" : "roles", name))
		return 0;
	role = store_newest(w->reg->store, (cluster ? KIND_CLUSTERROLE : KIND_ROLE)->resource,
			    cluster ? STR_NULL : w->ns, name);
	if (!role) {
		err_set_status(err, -ENOENT, 404, "NotFound", "%s." RBAC_GROUP " \"%.*s\" not found",
			       cluster ? "clusterrole" : "role", STR_ARG(name));
		err_set_details(err, RBAC_GROUP, cluster ? "clusterrole" : "role",
				arena_strndup(&w->arena, name.p, name.n));
		return -ENOENT;
	}
	return confirm(w, json_get(registry_parse(&w->arena, role), "rules"), &text, err);
}

/* An update that only lets the garbage collector go on grants nothing. */
static bool only_for_garbage(struct write *w)
{
	struct json *both[2];

	if (w->op != WRITE_UPDATE || !w->old)
		return false;
	both[0] = json_clone(&w->arena, w->object);
	both[1] = json_clone(&w->arena, w->old);
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		struct json *meta = meta_ensure(&w->arena, both[i]);

		json_remove(meta, "finalizers");
		json_remove(meta, "ownerReferences");
		json_remove(meta, "managedFields");
		json_remove(meta, "resourceVersion");
	}
	return json_equal(both[0], both[1]);
}

static int mutate(struct write *w, struct err *err)
{
	if (w->op == WRITE_DELETE || w->internal || !w->user || strcmp(w->storage->group, RBAC_GROUP) != 0)
		return 0;
	if (authz_is_exempt(w->user) || only_for_garbage(w))
		return 0;
	return w->storage == KIND_ROLE || w->storage == KIND_CLUSTERROLE ? check_role(w, err) : check_binding(w, err);
}

const struct admission_plugin ADMISSION_RBAC_ESCALATION = { .name = "RBACEscalation", .mutate = mutate };

/* ---- creation by an update ---- */

int authz_check_create(struct write *w, struct err *err)
{
	struct authz_attributes a = {
		.user = w->user,
		.verb = STR("create"),
		.group = str_of(w->kind->group),
		.version = str_of(w->kind->version),
		.resource = str_of(w->kind->plural),
		.ns = w->ns,
		.name = w->name,
	};
	struct str reason;

	if (w->internal || authz_is_exempt(w->user) || authz_decide(w->reg, &a, &w->arena, &reason) == AUTHZ_ALLOW)
		return 0;
	return api_err_forbidden(err, w->kind, w->name, "%.*s", STR_ARG(reason));
}
