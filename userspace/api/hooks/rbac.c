/* SPDX-License-Identifier: Apache-2.0 */
/* Roles and their bindings: what rules and subjects may say. That nobody grants what they do not hold is asked
 * elsewhere (registry/authz/escalation.c). Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

static const char *const rbac_groups[] = { RBAC_GROUP, NULL };

/* ---- roles ---- */

static void rule_validate(const struct json *rule, bool namespaced, const struct field_path *at, struct field_errors *e)
{
	const struct json *paths = json_get(rule, "nonResourceURLs");

	if (!json_count(json_get(rule, "verbs")))
		field_required(e, FIELD(at, "verbs"), "verbs must contain at least one value");
	if (json_count(paths)) {
		if (namespaced)
			field_invalid(e, FIELD(at, "nonResourceURLs"), paths,
				      "namespaced rules cannot apply to non-resource URLs");
		if (json_count(json_get(rule, "resources")) || json_count(json_get(rule, "apiGroups")) ||
		    json_count(json_get(rule, "resourceNames")))
			field_invalid(e, FIELD(at, "nonResourceURLs"), paths,
				      "rules cannot apply to both regular resources and non-resource URLs");
		return;
	}
	if (!json_count(json_get(rule, "apiGroups")))
		field_required(e, FIELD(at, "apiGroups"), "resource rules must supply at least one api group");
	if (!json_count(json_get(rule, "resources")))
		field_required(e, FIELD(at, "resources"), "resource rules must supply at least one resource");
}

static void rules_validate(const struct json *role, bool namespaced, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(r, json_get(role, "rules"))
		rule_validate(r, namespaced, FIELD_INDEX(FIELD(NULL, "rules"), i++), e);
}

static void role_validate(const struct json *role, struct field_errors *e)
{
	rules_validate(role, true, e);
}

static void clusterrole_validate(const struct json *role, struct field_errors *e)
{
	const struct json *rule = json_get(role, "aggregationRule"),
			  *selectors = json_get(rule, "clusterRoleSelectors");

	rules_validate(role, false, e);
	/* The selectors themselves are the schema's. */
	if (rule && !json_count(selectors))
		field_required(e, FIELD(NULL, "aggregationRule.clusterRoleSelectors"),
			       "at least one clusterRoleSelector required if aggregationRule is non-nil");
}

const struct api_hooks hooks_roles = { .validate = role_validate };
const struct api_hooks hooks_clusterroles = { .validate = clusterrole_validate };

/* ---- bindings ---- */

static void binding_defaults(struct arena *arena, struct json *binding)
{
	struct json *ref = json_get(binding, "roleRef");

	if (json_is(ref, JSON_OBJECT) && !json_get_str(ref, "apiGroup").n)
		json_set_cstr(arena, ref, "apiGroup", RBAC_GROUP);
	json_foreach(s, json_get(binding, "subjects"))
		if (json_is(s, JSON_OBJECT) && !json_get_str(s, "apiGroup").n &&
		    (str_is(json_get_str(s, "kind"), "User") || str_is(json_get_str(s, "kind"), "Group")))
			json_set_cstr(arena, s, "apiGroup", RBAC_GROUP);
}

static void subject_validate(const struct json *subject, bool cluster, const struct field_path *at,
			     struct field_errors *e)
{
	static const char *const kinds[] = { "ServiceAccount", "User", "Group", NULL };
	static const char *const core[] = { "", NULL };
	struct str kind = json_get_str(subject, "kind"), name = json_get_str(subject, "name"),
		   group = json_get_str(subject, "apiGroup");
	const char *wrong;

	if (!name.n)
		field_required(e, FIELD(at, "name"), NULL);
	if (str_is(kind, "ServiceAccount")) {
		wrong = name.n ? validate_dns1123_subdomain(name) : NULL;
		if (wrong)
			field_invalid_str(e, FIELD(at, "name"), name, "%s", wrong);
		if (group.n)
			field_not_supported(e, FIELD(at, "apiGroup"), group, core);
		if (cluster && !json_get_str(subject, "namespace").n)
			field_required(e, FIELD(at, "namespace"), NULL);
	} else if (str_is(kind, "User") || str_is(kind, "Group")) {
		if (!str_is(group, RBAC_GROUP))
			field_not_supported(e, FIELD(at, "apiGroup"), group, rbac_groups);
	} else {
		field_not_supported(e, FIELD(at, "kind"), kind, kinds);
	}
}

static void binding_validate(const struct json *binding, struct field_errors *e)
{
	static const char *const roles[] = { "Role", "ClusterRole", NULL };
	bool cluster = str_is(meta_kind(binding), "ClusterRoleBinding");
	const struct json *ref = json_get(binding, "roleRef");
	struct str group = json_get_str(ref, "apiGroup"), kind = json_get_str(ref, "kind"),
		   name = json_get_str(ref, "name");
	const char *wrong = name.n ? validate_path_segment(name) : NULL;
	size_t i = 0;

	if (!str_is(group, RBAC_GROUP))
		field_not_supported(e, FIELD(NULL, "roleRef.apiGroup"), group, rbac_groups);
	if (!str_is(kind, "ClusterRole") && (cluster || !str_is(kind, "Role")))
		field_not_supported(e, FIELD(NULL, "roleRef.kind"), kind, cluster ? &roles[1] : roles);
	if (!name.n)
		field_required(e, FIELD(NULL, "roleRef.name"), NULL);
	else if (wrong)
		field_invalid_str(e, FIELD(NULL, "roleRef.name"), name, "%s", wrong);
	json_foreach(s, json_get(binding, "subjects"))
		subject_validate(s, cluster, FIELD_INDEX(FIELD(NULL, "subjects"), i++), e);
}

static void binding_validate_update(const struct json *binding, const struct json *old, struct field_errors *e)
{
	if (!json_equal(json_get(binding, "roleRef"), json_get(old, "roleRef")))
		field_invalid(e, FIELD(NULL, "roleRef"), json_get(binding, "roleRef"), "cannot change roleRef");
}

const struct api_hooks hooks_rolebindings = { .defaults = binding_defaults,
					      .validate = binding_validate,
					      .validate_update = binding_validate_update };
