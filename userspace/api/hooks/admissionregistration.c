/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of webhooks, admission policies and their bindings: their structure. What an expression says is not
 * looked at, only that there is one. No state. Any thread. */
#include <ctype.h>
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

#define TIMEOUT_MAX_S 30
#define MATCH_CONDITIONS_MAX 64
#define AUDIT_ANNOTATIONS_MAX 20
#define KIND_MAX 256 /* bytes that are looked at: a label has 63 */
#define AUDIT_EXPRESSION_MAX (5 * 1024)

static bool has_text(const struct json *list, const char *text)
{
	json_foreach(v, list)
		if (str_is(json_str(v), text))
			return true;
	return false;
}

static bool is_blank(struct str s)
{
	return str_trim(s).n == 0;
}

/* ---- rules: which requests ---- */

/* Item `at` of a list of resources, against the wildcards before it. */
static void validate_subresource(struct name_set *seen, const struct json *item, const struct field_path *at,
				 struct field_errors *e)
{
	struct str text = json_str(item), sub = text, resource;
	_cleanup_buf_ struct buf all_subs = BUF_INIT, all_resources = BUF_INIT;

	if (!str_split(&sub, '/', &resource) || resource.n == text.n)
		return;
	buf_printf(&all_subs, "%.*s/*", STR_ARG(resource));
	buf_printf(&all_resources, "*/%.*s", STR_ARG(sub));
	if (name_set_get(seen, buf_str(&all_subs)))
		field_invalid_str(e, at, text, "if '%.*s/*' is present, must not specify %.*s", STR_ARG(resource),
				  STR_ARG(text));
	if (name_set_get(seen, buf_str(&all_resources)))
		field_invalid_str(e, at, text, "if '*/%.*s' is present, must not specify %.*s", STR_ARG(sub),
				  STR_ARG(text));
	name_set_put(seen, text, item);
}

static void validate_resources(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	bool plain = false;
	size_t i = 0;

	name_set_init(&seen);
	if (!json_count(list))
		field_required(e, path, NULL);
	json_foreach(v, list) {
		struct str s = json_str(v);
		const struct field_path *at = FIELD_INDEX(path, i++);

		if (!s.n)
			field_required(e, at, NULL);
		else if (str_find(s, '/') < 0)
			plain = !str_is(s, "*"); /* of the last one: as upstream does */
		else
			validate_subresource(&seen, v, at, e);
	}
	if (i > 1 && has_text(list, "*/*"))
		field_invalid(e, path, list, "if '*/*' is present, must not specify other resources");
	if (plain && has_text(list, "*"))
		field_invalid(e, path, list,
			      "if '*' is present, must not specify other resources without subresources");
}

/* There is one at least, and "*" stands alone. */
static void validate_wildcard_list(const struct json *list, const char *what, const struct field_path *path,
				   struct field_errors *e)
{
	if (!json_count(list))
		field_required(e, path, NULL);
	if (json_count(list) > 1 && has_text(list, "*"))
		field_invalid(e, path, list, "if '*' is present, must not specify other %s", what);
}

static void validate_rule(const struct json *rule, const struct field_path *path, struct field_errors *e)
{
	static const char *const scopes[] = { "*", "Cluster", "Namespaced", NULL };
	const struct json *versions = json_get(rule, "apiVersions");
	size_t i = 0;

	validate_wildcard_list(json_get(rule, "operations"), "operations", FIELD(path, "operations"), e);
	validate_wildcard_list(json_get(rule, "apiGroups"), "API groups", FIELD(path, "apiGroups"), e);
	validate_wildcard_list(versions, "API versions", FIELD(path, "apiVersions"), e);
	json_foreach(v, versions) {
		if (!json_str(v).n)
			field_required(e, FIELD_INDEX(FIELD(path, "apiVersions"), i), NULL);
		i++;
	}
	validate_resources(json_get(rule, "resources"), FIELD(path, "resources"), e);
	if (json_get_str(rule, "scope").n)
		hooks_supported(json_get_str(rule, "scope"), scopes, FIELD(path, "scope"), e);
}

/* ---- webhooks ---- */

static void validate_path(struct str text, const struct field_path *at, struct field_errors *e)
{
	struct str rest = text, step;
	size_t i = 0;

	if (!text.n || str_is(text, "/"))
		return;
	if (str_is(text, "//")) {
		field_invalid_str(e, at, text, "segment[0] may not be empty");
		return;
	}
	if (text.p[0] != '/')
		field_invalid_str(e, at, text, "must start with a '/'");
	rest = str_make(text.p + 1, text.n - 1);
	if (rest.n && rest.p[rest.n - 1] == '/')
		rest.n--;
	for (;; i++) {
		long slash = str_find(rest, '/');
		const char *why;

		step = slash < 0 ? rest : str_make(rest.p, (size_t)slash);
		why = step.n ? validate_dns1123_subdomain(step) : NULL;
		if (!step.n)
			field_invalid_str(e, at, text, "segment[%zu] may not be empty", i);
		else if (why)
			field_invalid_str(e, at, text, "segment[%zu]: %s", i, why);
		if (slash < 0)
			return;
		rest = str_make(rest.p + slash + 1, rest.n - (size_t)slash - 1);
	}
}

/* What upstream looks at of a URL. */
static void validate_url(struct str url, const struct field_path *at, struct field_errors *e)
{
#define FORM "; desired format: https://host[/path]"
	struct str scheme = STR_NULL, rest = url, host, query, part;
	long colon = str_find(url, ':'), end, sign;

	if (colon > 0) {
		scheme = str_make(url.p, (size_t)colon);
		rest = str_make(url.p + colon + 1, url.n - (size_t)colon - 1);
	}
	if (!str_is(scheme, "https"))
		field_invalid_str(e, at, scheme, "'https' is the only allowed URL scheme" FORM);
	sign = str_find(rest, '#');
	part = sign < 0 ? STR_NULL : str_make(rest.p + sign + 1, rest.n - (size_t)sign - 1);
	rest.n = sign < 0 ? rest.n : (size_t)sign;
	end = str_find(rest, '?');
	query = end < 0 ? STR_NULL : str_make(rest.p + end + 1, rest.n - (size_t)end - 1);
	rest.n = end < 0 ? rest.n : (size_t)end;
	host = str_starts(rest, STR("//")) ? str_make(rest.p + 2, rest.n - 2) : STR_NULL;
	end = str_find(host, '/');
	host.n = end < 0 ? host.n : (size_t)end;
	end = str_find(host, '@');
	if (end < 0 ? !host.n : host.n == (size_t)end + 1)
		field_invalid_str(e, at, STR(""), "host must be specified" FORM);
	if (end >= 0)
		field_invalid_str(e, at, str_make(host.p, (size_t)end), "user information is not permitted in the URL");
	if (part.n)
		field_invalid_str(e, at, part, "fragments are not permitted in the URL");
	if (query.n)
		field_invalid_str(e, at, query, "query parameters are not permitted in the URL");
#undef FORM
}

static void validate_client(const struct json *client, const struct field_path *path, struct field_errors *e)
{
	const struct json *url = json_get(client, "url"), *service = json_get(client, "service");
	const char *why;

	if (!url == !service) {
		field_required(e, path, "exactly one of url or service is required");
		return;
	}
	if (url) {
		validate_url(json_str(url), FIELD(path, "url"), e);
		return;
	}
	why = names_port_number(json_get_int(service, "port", 0));
	if (why)
		field_invalid_int(e, FIELD(FIELD(path, "service"), "port"), json_get_int(service, "port", 0),
				  "port is not valid: %s", why);
	validate_path(json_get_str(service, "path"), FIELD(FIELD(path, "service"), "path"), e);
}

static void validate_review_versions(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set repeated;
	size_t i = 0;

	name_set_init(&repeated);
	if (!json_count(list)) {
		field_required(e, path, "must specify one of v1, v1beta1");
		return;
	}
	json_foreach(v, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);

		if (name_set_put(&repeated, json_str(v), v) != v)
			field_invalid_str(e, at, json_str(v), "duplicate version");
		else
			hooks_text_validate(json_str(v), validate_dns1035_label, at, e);
	}
	if (!has_text(list, "v1") && !has_text(list, "v1beta1"))
		field_invalid(e, path, list, "must include at least one of v1, v1beta1");
}

/* Names and repetitions are the schema's. */
static void validate_conditions(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	if (json_count(list) > MATCH_CONDITIONS_MAX)
		field_too_many(e, path, json_count(list), MATCH_CONDITIONS_MAX);
	json_foreach(c, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str expression = json_get_str(c, "expression"), name = json_get_str(c, "name");

		if (expression.n && is_blank(expression))
			field_required(e, FIELD(at, "expression"), NULL);
		if (name.n)
			hooks_text_validate(name, validate_qualified_name, FIELD(at, "name"), e);
	}
}

static void validate_webhook(const struct json *w, const struct field_path *at, struct field_errors *e)
{
	static const char *const effects_allowed[] = { "None", "NoneOnDryRun", NULL };
	struct str name = json_get_str(w, "name"), effects = json_get_str(w, "sideEffects"), rest = name, part;
	int64_t timeout = json_get_int(w, "timeoutSeconds", 1);
	const char *why = name.n ? validate_dns1123_subdomain(name) : NULL;
	size_t parts = 0, i = 0;

	while (str_split(&rest, '.', &part))
		parts++;
	if (why)
		field_invalid_str(e, FIELD(at, "name"), name, "%s", why);
	else if (name.n && parts < 3)
		field_invalid_str(e, FIELD(at, "name"), name,
				  "should be a domain with at least three segments separated by dots");
	json_foreach(rule, json_get(w, "rules"))
		validate_rule(rule, FIELD_INDEX(FIELD(at, "rules"), i++), e);
	if (!effects.n)
		field_required(e, FIELD(at, "sideEffects"), "must specify one of None, NoneOnDryRun");
	else if (str_is(effects, "Some") || str_is(effects, "Unknown"))
		field_not_supported(e, FIELD(at, "sideEffects"), effects, effects_allowed);
	if (timeout < 1 || timeout > TIMEOUT_MAX_S)
		field_invalid_int(e, FIELD(at, "timeoutSeconds"), timeout,
				  "the timeout value must be between 1 and %d seconds", TIMEOUT_MAX_S);
	validate_client(json_get(w, "clientConfig"), FIELD(at, "clientConfig"), e);
	validate_conditions(json_get(w, "matchConditions"), FIELD(at, "matchConditions"), e);
	validate_review_versions(json_get(w, "admissionReviewVersions"), FIELD(at, "admissionReviewVersions"), e);
}

static void webhooks_validate(const struct json *object, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(w, json_get(object, "webhooks"))
		validate_webhook(w, FIELD_INDEX(FIELD(NULL, "webhooks"), i++), e);
}

const struct api_hooks hooks_webhooks = { .generation = true, .validate = webhooks_validate };

/* ---- what policies and bindings match ---- */

static void validate_named_rule(const struct json *rule, const struct field_path *path, struct field_errors *e)
{
	static const char *const operations[] = { "*", "CONNECT", "CREATE", "DELETE", "UPDATE", NULL };
	const struct json *list = json_get(rule, "resourceNames");
	_cleanup_name_set_ struct name_set repeated;
	size_t i = 0;

	name_set_init(&repeated);
	json_foreach(v, list) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "resourceNames"), i++);

		hooks_text_validate(json_str(v), validate_path_segment, at, e);
		if (name_set_put(&repeated, json_str(v), v) != v)
			field_duplicate(e, at, v);
	}
	i = 0;
	json_foreach(v, json_get(rule, "operations"))
		hooks_supported(json_str(v), operations, FIELD_INDEX(FIELD(path, "operations"), i++), e);
	validate_rule(rule, path, e);
}

/* `mutating`: requests that have no object to change cannot be meant. */
static void validate_matches(const struct json *m, bool mutating, const struct field_path *path, struct field_errors *e)
{
	static const char *const operations[] = { "*", "CONNECT", "CREATE", "UPDATE", NULL };
	size_t i = 0;

	if (!m)
		return;
	json_foreach(rule, json_get(m, "resourceRules"))
		validate_named_rule(rule, FIELD_INDEX(FIELD(path, "resourceRules"), i++), e);
	i = 0;
	json_foreach(rule, json_get(m, "excludeResourceRules"))
		validate_named_rule(rule, FIELD_INDEX(FIELD(path, "excludeResourceRules"), i++), e);
	if (!mutating)
		return;
	json_foreach(rule, json_get(m, "resourceRules")) {
		json_foreach(v, json_get(rule, "operations"))
			hooks_supported(json_str(v), operations, FIELD(FIELD(path, "resourceRules"), "operations"), e);
	}
}

static void validate_constraints(const struct json *spec, bool mutating, const struct field_path *path,
				 struct field_errors *e)
{
	const struct json *m = json_get(spec, "matchConstraints");
	const struct field_path *at = FIELD(path, "matchConstraints");

	if (!m) {
		field_required(e, at, NULL);
		return;
	}
	validate_matches(m, mutating, at, e);
	if (!json_count(json_get(m, "resourceRules")))
		field_required(e, FIELD(at, "resourceRules"), NULL);
}

static void validate_param_version(struct str text, const struct field_path *at, struct field_errors *e)
{
	long slash = str_find(text, '/');
	struct str version = slash < 0 ? text : str_make(text.p + slash + 1, text.n - (size_t)slash - 1);

	if (!text.n) {
		field_required(e, at, NULL);
		return;
	}
	if (str_find(version, '/') >= 0) {
		field_invalid_str(e, at, text, "unexpected GroupVersion string: %.*s", STR_ARG(text));
		return;
	}
	if (slash > 0)
		hooks_text_validate(str_make(text.p, (size_t)slash), validate_dns1123_subdomain, at, e);
	if (!version.n)
		field_invalid_str(e, at, text, "version must be specified");
	else
		hooks_text_validate(version, validate_dns1035_label, at, e);
}

static void validate_param_kind(const struct json *param, const struct field_path *path, struct field_errors *e)
{
	struct str kind = json_get_str(param, "kind");
	char lower[KIND_MAX];
	const char *why;
	size_t n = kind.n < sizeof(lower) ? kind.n : sizeof(lower);

	if (!param)
		return;
	validate_param_version(json_get_str(param, "apiVersion"), FIELD(path, "apiVersion"), e);
	if (!kind.n) {
		field_required(e, FIELD(path, "kind"), NULL);
		return;
	}
	for (size_t i = 0; i < n; i++)
		lower[i] = (char)tolower((unsigned char)kind.p[i]);
	why = validate_dns1035_label(str_make(lower, n));
	if (why)
		field_invalid_str(e, FIELD(path, "kind"), kind, "may have mixed case, but should otherwise match: %s",
				  why);
}

/* ---- what policies say ---- */

static bool is_identifier(struct str s)
{
	static const char *const reserved[] = { "true",   "false",    "null",  "in",      "as",        "break",
						"const",  "continue", "else",  "for",     "function",  "if",
						"import", "let",      "loop",  "package", "namespace", "return",
						"var",    "void",     "while", NULL };

	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '_' && !isalpha((unsigned char)s.p[i]) && (i == 0 || !isdigit((unsigned char)s.p[i])))
			return false;
	return s.n > 0 && !hooks_one_of(s, reserved);
}

static void validate_variables(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(v, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str name = json_get_str(v, "name");

		if (is_blank(name))
			field_required(e, FIELD(at, "name"), "name is not specified");
		else if (!is_identifier(name))
			field_invalid_str(e, FIELD(at, "name"), name, "name is not a valid CEL identifier");
		if (is_blank(json_get_str(v, "expression")))
			field_required(e, FIELD(at, "expression"), "expression is not specified");
	}
}

static void validate_validation(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	static const char *const reasons[] = { "Forbidden", "Invalid", "RequestEntityTooLarge", NULL };
	struct str message = json_get_str(v, "message"), expression = json_get_str(v, "messageExpression");
	struct str trimmed = str_trim(message);

	if (is_blank(json_get_str(v, "expression")))
		field_required(e, FIELD(at, "expression"), "expression is not specified");
	if (expression.n && is_blank(expression))
		field_invalid_str(e, FIELD(at, "messageExpression"), expression, "must be non-empty if specified");
	if (message.n && !trimmed.n)
		field_invalid_str(e, FIELD(at, "message"), message, "message must be non-empty if specified");
	else if (str_find(trimmed, '\n') >= 0 || str_find(trimmed, '\r') >= 0)
		field_invalid_str(e, FIELD(at, "message"), message, "message must not contain line breaks");
	if (json_get_str(v, "reason").n)
		hooks_supported(json_get_str(v, "reason"), reasons, FIELD(at, "reason"), e);
}

static void validate_annotation(const struct json *policy, const struct json *a, const struct field_path *at,
				struct field_errors *e)
{
	struct str name = meta_name(policy), key = json_get_str(a, "key");
	struct str expression = str_trim(json_get_str(a, "valueExpression"));
	_cleanup_free_ char *whole = mem_printf("%.*s/%.*s", STR_ARG(name), STR_ARG(key));

	if (!name.n)
		field_invalid_str(e, FIELD(at, "key"), key, "requires metadata.name be non-empty");
	else
		hooks_text_validate(str_of(whole), validate_qualified_name, FIELD(at, "key"), e);
	if (!expression.n)
		field_required(e, FIELD(at, "valueExpression"), "valueExpression is not specified");
	else if (expression.n > AUDIT_EXPRESSION_MAX)
		field_required(e, FIELD(at, "valueExpression"), "must not exceed %d bytes in length",
			       AUDIT_EXPRESSION_MAX);
}

static void validate_annotations_of(const struct json *policy, const struct json *list, const struct field_path *path,
				    struct field_errors *e)
{
	_cleanup_name_set_ struct name_set repeated;
	size_t i = 0;

	name_set_init(&repeated);
	if (json_count(list) > AUDIT_ANNOTATIONS_MAX)
		field_invalid(e, path, list, "must not have more than %d auditAnnotations", AUDIT_ANNOTATIONS_MAX);
	json_foreach(a, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);

		validate_annotation(policy, a, at, e);
		if (name_set_put(&repeated, json_get_str(a, "key"), a) != a)
			field_duplicate_str(e, FIELD(at, "key"), json_get_str(a, "key"));
	}
}

static void validating_policy_validate(const struct json *policy, struct field_errors *e)
{
	static const char words[] = "validations or auditAnnotations must contain at least one item";
	const struct json *spec = json_get(policy, "spec"), *validations = json_get(spec, "validations");
	const struct json *annotations = json_get(spec, "auditAnnotations");
	const struct field_path *path = FIELD(NULL, "spec");
	size_t i = 0;

	validate_param_kind(json_get(spec, "paramKind"), FIELD(path, "paramKind"), e);
	validate_constraints(spec, false, path, e);
	validate_conditions(json_get(spec, "matchConditions"), FIELD(path, "matchConditions"), e);
	validate_variables(json_get(spec, "variables"), FIELD(path, "variables"), e);
	if (!json_count(validations) && !json_count(annotations)) {
		field_required(e, FIELD(path, "validations"), "%s", words);
		field_required(e, FIELD(path, "auditAnnotations"), "%s", words);
		return;
	}
	json_foreach(v, validations)
		validate_validation(v, FIELD_INDEX(FIELD(path, "validations"), i++), e);
	validate_annotations_of(policy, annotations, FIELD(path, "auditAnnotations"), e);
}

static void validating_policy_validate_status(const struct json *policy, const struct json *old, struct field_errors *e)
{
	size_t i = 0;

	(void)old;
	json_foreach(w, json_at(policy, "status.typeChecking.expressionWarnings")) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "status.typeChecking.expressionWarnings"), i++);

		if (!json_get_str(w, "warning").n)
			field_required(e, FIELD(at, "warning"), NULL);
		if (is_blank(json_get_str(w, "fieldRef")))
			field_required(e, FIELD(at, "fieldRef"), NULL);
	}
}

const struct api_hooks hooks_validatingadmissionpolicies = {
	.generation = true,
	.validate = validating_policy_validate,
	.validate_status = validating_policy_validate_status,
};

/* A mutation has what its type says, and not what the other would. */
static void validate_mutation_part(const struct json *m, const char *key, const char *type, const struct field_path *at,
				   struct field_errors *e)
{
	const struct json *part = json_get(m, key);
	const struct field_path *path = FIELD_STR(at, str_of(key));

	if (str_is(json_get_str(m, "patchType"), type)) {
		if (!part)
			field_required(e, path, "must be specified when patchType is %s", type);
		else if (is_blank(json_get_str(part, "expression")))
			field_required(e, FIELD(path, "expression"), NULL);
	} else if (part) {
		_cleanup_free_ char *shown = mem_printf("{%s}", key);

		field_invalid_str(e, path, str_of(shown), "must not be specified when patchType is %.*s",
				  STR_ARG(json_get_str(m, "patchType")));
	}
}

static void mutating_policy_validate(const struct json *policy, struct field_errors *e)
{
	static const char *const types[] = { "ApplyConfiguration", "JSONPatch", NULL };
	const struct json *spec = json_get(policy, "spec"), *mutations = json_get(spec, "mutations");
	const struct field_path *path = FIELD(NULL, "spec");
	size_t i = 0;

	validate_param_kind(json_get(spec, "paramKind"), FIELD(path, "paramKind"), e);
	validate_constraints(spec, true, path, e);
	validate_conditions(json_get(spec, "matchConditions"), FIELD(path, "matchConditions"), e);
	validate_variables(json_get(spec, "variables"), FIELD(path, "variables"), e);
	if (!json_count(mutations))
		field_required(e, FIELD(path, "mutations"), "mutations must contain at least one item");
	json_foreach(m, mutations) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "mutations"), i++);

		/* What no type is told by the schema. */
		if (!hooks_one_of(json_get_str(m, "patchType"), types))
			continue;
		validate_mutation_part(m, "jsonPatch", "JSONPatch", at, e);
		validate_mutation_part(m, "applyConfiguration", "ApplyConfiguration", at, e);
	}
	if (!json_get_str(spec, "reinvocationPolicy").n)
		field_required(e, FIELD(path, "reinvocationPolicy"), NULL);
}

const struct api_hooks hooks_mutatingadmissionpolicies = { .generation = true, .validate = mutating_policy_validate };

/* ---- bindings ---- */

static void validate_param_ref(const struct json *ref, const struct field_path *path, struct field_errors *e)
{
	static const char *const actions[] = { "Deny", "Allow", NULL };
	struct str name = json_get_str(ref, "name"), action = json_get_str(ref, "parameterNotFoundAction");
	bool selector = json_get(ref, "selector") != NULL;

	if (!ref)
		return;
	if (name.n)
		hooks_text_validate(name, validate_path_segment, FIELD(path, "name"), e);
	if (name.n && selector) {
		field_forbidden(e, FIELD(path, "name"), "name and selector are mutually exclusive");
		field_forbidden(e, FIELD(path, "selector"), "name and selector are mutually exclusive");
	}
	if (!name.n && !selector)
		field_required(e, path, "one of name or selector must be specified");
	if (!action.n)
		field_required(e, FIELD(path, "parameterNotFoundAction"), NULL);
	else
		hooks_supported(action, actions, FIELD(path, "parameterNotFoundAction"), e);
}

static void validate_binding(const struct json *spec, bool mutating, const struct field_path *path,
			     struct field_errors *e)
{
	struct str name = json_get_str(spec, "policyName");

	if (name.n)
		hooks_text_validate(name, validate_dns1123_subdomain, FIELD(path, "policyName"), e);
	else if (mutating) /* the other's is the schema's */
		field_required(e, FIELD(path, "policyName"), NULL);
	validate_param_ref(json_get(spec, "paramRef"), FIELD(path, "paramRef"), e);
	validate_matches(json_get(spec, "matchResources"), mutating, FIELD(path, "matchResources"), e);
}

static void validating_binding_validate(const struct json *binding, struct field_errors *e)
{
	const struct json *spec = json_get(binding, "spec"), *list = json_get(spec, "validationActions");
	const struct field_path *path = FIELD(NULL, "spec"), *at = FIELD(path, "validationActions");
	_cleanup_name_set_ struct name_set repeated;
	size_t i = 0;

	name_set_init(&repeated);
	validate_binding(spec, false, path, e);
	json_foreach(v, list) {
		if (name_set_put(&repeated, json_str(v), v) != v)
			field_duplicate(e, FIELD_INDEX(at, i), v);
		i++;
	}
	if (has_text(list, "Deny") && has_text(list, "Warn"))
		field_invalid(
			e, at, list,
			"must not contain both Deny and Warn (repeating the same validation failure information in "
			"the API response and headers serves no purpose)");
	if (!i)
		field_required(e, at, "at least one validation action is required");
}

static void mutating_binding_validate(const struct json *binding, struct field_errors *e)
{
	validate_binding(json_get(binding, "spec"), true, FIELD(NULL, "spec"), e);
}

const struct api_hooks hooks_validatingadmissionpolicybindings = { .generation = true,
								   .validate = validating_binding_validate };
const struct api_hooks hooks_mutatingadmissionpolicybindings = { .generation = true,
								 .validate = mutating_binding_validate };
