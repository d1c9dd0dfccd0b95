/* SPDX-License-Identifier: Apache-2.0 */
/* PriorityClasses, RuntimeClasses, IngressClasses. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

/* ---- PriorityClass ---- */

#define PRIORITY_USER_MAX 1000000000

static const struct {
	const char *name;
	int64_t value;
} SYSTEM_PRIORITIES[] = {
	{ "system-node-critical", 2000001000 },
	{ "system-cluster-critical", 2000000000 },
};

static void system_priority_validate(const struct json *pc, struct str name, struct field_errors *e)
{
#define RESERVED "priority class names with 'system-' prefix are reserved for system use only. error: "
	const struct field_path *at = FIELD(NULL, "metadata.name");

	for (size_t i = 0; i < ARRAY_SIZE(SYSTEM_PRIORITIES); i++) {
		if (!str_is(name, SYSTEM_PRIORITIES[i].name))
			continue;
		if (json_get_int(pc, "value", 0) != SYSTEM_PRIORITIES[i].value)
			field_forbidden(e, at, RESERVED "value of %.*s PriorityClass must be %lld", STR_ARG(name),
					(long long)SYSTEM_PRIORITIES[i].value);
		else if (json_get_bool(pc, "globalDefault", false))
			field_forbidden(e, at, RESERVED "globalDefault of %.*s PriorityClass must be false",
					STR_ARG(name));
		return;
	}
	field_forbidden(e, at, RESERVED "%.*s is not a known system priority class", STR_ARG(name));
}

static void priority_validate(const struct json *pc, struct field_errors *e)
{
	static const char *const policies[] = { "Never", "PreemptLowerPriority", NULL };
	struct str name = meta_name(pc), policy = json_get_str(pc, "preemptionPolicy");

	if (str_starts(name, STR("system-")))
		system_priority_validate(pc, name, e);
	else if (json_get_int(pc, "value", 0) > PRIORITY_USER_MAX)
		field_forbidden(e, FIELD(NULL, "value"), "maximum allowed value of a user defined priority is %d",
				PRIORITY_USER_MAX);
	if (!json_get(pc, "preemptionPolicy"))
		return;
	if (policy.n == 0)
		field_required(e, FIELD(NULL, "preemptionPolicy"), NULL);
	else
		hooks_supported(policy, policies, FIELD(NULL, "preemptionPolicy"), e);
}

static void priority_validate_update(const struct json *pc, const struct json *old, struct field_errors *e)
{
	if (json_get_int(pc, "value", 0) != json_get_int(old, "value", 0))
		field_forbidden(e, FIELD(NULL, "value"), "may not be changed in an update.");
}

const struct api_hooks hooks_priorityclasses = {
	.generation = true,
	.validate = priority_validate,
	.validate_update = priority_validate_update,
};

/* ---- RuntimeClass ---- (its handler is the schema's business) */

static void runtime_validate(const struct json *class, struct field_errors *e)
{
	const struct json *scheduling = json_get(class, "scheduling"),
			  *tolerations = json_get(scheduling, "tolerations");
	const struct field_path *path = FIELD(NULL, "scheduling"), *selector = FIELD(path, "nodeSelector");
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	hooks_resource_list_validate(json_at(class, "overhead.podFixed"), true, FIELD(NULL, "overhead.podFixed.limits"),
				     e);
	json_foreach(l, json_get(scheduling, "nodeSelector")) {
		hooks_text_validate(l->key, validate_qualified_name, selector, e);
		hooks_text_validate(json_str(l), validate_label_value, selector, e);
	}
	hooks_tolerations_validate(tolerations, FIELD(path, "tolerations"), e);
	json_foreach(t, tolerations) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "tolerations"), i++);

		if (name_set_put_value(&seen, t, t) != t)
			field_duplicate(e, at, t);
	}
}

const struct api_hooks hooks_runtimeclasses = { .validate = runtime_validate };

/* ---- IngressClass ---- */

#define INGRESS_CONTROLLER_MAX 250
#define PATH_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-._~%!$&'()*+,;=:"

static void controller_validate(struct str controller, struct field_errors *e)
{
	const struct field_path *at = FIELD(NULL, "spec.controller");
	long slash = str_find(controller, '/');
	struct str host, path;

	if (controller.n > INGRESS_CONTROLLER_MAX)
		field_too_long(e, at, INGRESS_CONTROLLER_MAX);
	if (controller.n == 0) {
		field_required(e, at, NULL);
		return;
	}
	if (slash <= 0 || (size_t)slash + 1 == controller.n) {
		field_invalid_str(e, at, controller, "must be a domain-prefixed path (such as \"acme.io/foo\")");
		return;
	}
	host = str_make(controller.p, (size_t)slash);
	path = str_make(controller.p + slash + 1, controller.n - (size_t)slash - 1);
	hooks_text_validate(host, validate_dns1123_subdomain, at, e);
	for (size_t i = 0; i < path.n; i++) {
		if (path.p[i] && strchr(PATH_CHARACTERS, path.p[i]))
			continue;
		field_invalid_str(e, at, path,
				  "Invalid path (regex used for validation is "
				  "'[A-Za-z0-9/\\-._~%%!$&'()*+,;=:]+')");
		return;
	}
}

static void parameters_validate(const struct json *p, struct field_errors *e)
{
	static const char *const scopes[] = { "Cluster", "Namespace", NULL };
	const struct field_path *path = FIELD(NULL, "spec.parameters");
	struct str scope = json_get_str(p, "scope"), ns = json_get_str(p, "namespace");

	if (!p)
		return;
	if (json_get(p, "apiGroup"))
		hooks_text_validate(json_get_str(p, "apiGroup"), validate_dns1123_subdomain, FIELD(path, "apiGroup"),
				    e);
	if (json_get_str(p, "kind").n)
		hooks_text_validate(json_get_str(p, "kind"), validate_path_segment, FIELD(path, "kind"), e);
	if (json_get_str(p, "name").n)
		hooks_text_validate(json_get_str(p, "name"), validate_path_segment, FIELD(path, "name"), e);
	hooks_supported(scope, scopes, FIELD(path, "scope"), e);
	if (str_is(scope, "Namespace") && !json_get(p, "namespace"))
		field_required(e, FIELD(path, "namespace"), "`parameters.scope` is set to 'Namespace'");
	else if (str_is(scope, "Namespace"))
		hooks_text_validate(ns, validate_dns1123_label, FIELD(path, "namespace"), e);
	else if (str_is(scope, "Cluster") && json_get(p, "namespace"))
		field_forbidden(e, FIELD(path, "namespace"), "`parameters.scope` is set to 'Cluster'");
}

static void ingressclass_validate(const struct json *class, struct field_errors *e)
{
	controller_validate(json_at_str(class, "spec.controller"), e);
	parameters_validate(json_at(class, "spec.parameters"), e);
}

const struct api_hooks hooks_ingressclasses = { .generation = true, .validate = ingressclass_validate };
