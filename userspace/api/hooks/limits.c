/* SPDX-License-Identifier: Apache-2.0 */
/* ResourceQuotas and LimitRanges: names of resources, amounts, scopes, bounds that fit together. No state. Any
 * thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

static bool has_slash(struct str name)
{
	return str_find(name, '/') >= 0;
}

/* ---- ResourceQuota ---- */

static bool is_standard_of_quotas(struct str name)
{
	static const char *const names[] = { "cpu",
					     "memory",
					     "ephemeral-storage",
					     "requests.cpu",
					     "requests.memory",
					     "requests.ephemeral-storage",
					     "requests.storage",
					     "limits.cpu",
					     "limits.memory",
					     "limits.ephemeral-storage",
					     NULL };

	return hooks_one_of(name, names) || (!has_slash(name) && hooks_resource_is_integer(name)) ||
	       str_starts(name, STR("hugepages-")) || str_starts(name, STR("requests.hugepages-"));
}

static void validate_amounts(const struct json *amounts, const struct field_path *path, struct field_errors *e)
{
	json_foreach(a, amounts) {
		const struct field_path *at = FIELD_KEY(path, a->key);
		struct quantity q = quantity_of(a), whole = quantity_from_int(quantity_value(&q), q.format);

		hooks_resource_name_validate(a->key, false, at, e);
		if (!validate_qualified_name(a->key) && !has_slash(a->key) && !is_standard_of_quotas(a->key))
			field_invalid_str(e, at, a->key, "must be a standard resource for quota");
		if (q.nano < 0)
			field_invalid(e, at, a, "must be greater than or equal to 0");
		if (hooks_resource_is_integer(a->key) && !str_starts(a->key, STR("requests.")) &&
		    quantity_cmp(&q, &whole) != 0)
			field_invalid(e, at, a, "must be an integer");
	}
}

static const char *const SCOPES[] = { "Terminating",
				      "NotTerminating",
				      "BestEffort",
				      "NotBestEffort",
				      "PriorityClass",
				      "CrossNamespacePodAffinity",
				      "VolumeAttributesClass",
				      NULL };

/* May a quota of that scope count that resource? */
static bool scope_fits(struct str scope, struct str resource)
{
	static const char *const of_pods[] = { "pods",          "cpu",          "memory",          "limits.cpu",
					       "limits.memory", "requests.cpu", "requests.memory", NULL };
	static const char *const of_claims[] = { "persistentvolumeclaims", "requests.storage", NULL };

	if (str_is(scope, "VolumeAttributesClass"))
		return hooks_one_of(resource, of_claims);
	if (str_is(scope, "BestEffort"))
		return str_is(resource, "pods");
	return !hooks_one_of(scope, SCOPES) || hooks_one_of(resource, of_pods);
}

static void validate_scope_resources(const struct json *spec, struct str scope, const struct field_path *at,
				     const struct json *shown, struct field_errors *e)
{
	json_foreach(h, json_get(spec, "hard"))
		if (is_standard_of_quotas(h->key) && !scope_fits(scope, h->key))
			field_invalid(e, at, shown, "unsupported scope applied to resource");
}

static bool has_scope(const struct json *list, const char *key, const char *scope)
{
	json_foreach(s, list)
		if (str_is(key ? json_get_str(s, key) : json_str(s), scope))
			return true;
	return false;
}

static void validate_conflicts(const struct json *list, const char *key, const struct field_path *at,
			       const struct json *shown, struct field_errors *e)
{
	static const char *const pairs[][2] = { { "BestEffort", "NotBestEffort" },
						{ "Terminating", "NotTerminating" } };

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		if (has_scope(list, key, pairs[i][0]) && has_scope(list, key, pairs[i][1]))
			field_invalid(e, at, shown, "conflicting scopes");
}

static void validate_expression(const struct json *spec, const struct json *x, const struct field_path *path,
				struct field_errors *e)
{
	static const char *const valued[] = { "In", "NotIn", NULL }, *const plain[] = { "Exists", "DoesNotExist",
											NULL };
	struct str scope = json_get_str(x, "scopeName"), op = json_get_str(x, "operator");
	bool with_values = str_is(scope, "PriorityClass") || str_is(scope, "VolumeAttributesClass");

	if (!hooks_one_of(scope, SCOPES))
		field_invalid_str(e, FIELD(path, "scopeName"), scope, "unsupported scope");
	validate_scope_resources(spec, scope, path, json_get(spec, "scopeSelector"), e);
	if (hooks_one_of(scope, SCOPES) && !with_values && !str_is(op, "Exists"))
		field_invalid_str(e, FIELD(path, "operator"), op,
				  "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
				  "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
				  "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
	if (hooks_one_of(op, valued)) {
		if (!json_count(json_get(x, "values")))
			field_required(e, FIELD(path, "values"),
				       "must be at least one value when `operator` is 'In' or 'NotIn' for scope "
				       "selector");
	} else if (hooks_one_of(op, plain)) {
		if (json_count(json_get(x, "values")))
			field_invalid(
				e, FIELD(path, "values"), json_get(x, "values"),
				"must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector");
	} else {
		field_invalid_str(e, FIELD(path, "operator"), op, "not a valid selector operator");
	}
}

static void quota_validate(const struct json *quota, struct field_errors *e)
{
	const struct json *spec = json_get(quota, "spec"), *scopes = json_get(spec, "scopes"),
			  *expressions = json_at(spec, "scopeSelector.matchExpressions");
	const struct field_path *path = FIELD(NULL, "spec"), *at = FIELD(path, "scopes"),
				*selector = FIELD(path, "scopeSelector.matchExpressions");

	validate_amounts(json_get(spec, "hard"), FIELD(path, "hard"), e);
	json_foreach(s, scopes) {
		if (!hooks_one_of(json_str(s), SCOPES))
			field_invalid(e, at, scopes, "unsupported scope");
		validate_scope_resources(spec, json_str(s), at, scopes, e);
	}
	validate_conflicts(scopes, NULL, at, scopes, e);
	json_foreach(x, expressions)
		validate_expression(spec, x, selector, e);
	validate_conflicts(expressions, "scopeName", selector, scopes, e);
}

static void quota_validate_status(const struct json *quota, const struct json *old, struct field_errors *e)
{
	(void)old;
	validate_amounts(json_at(quota, "status.hard"), FIELD(NULL, "status.hard"), e);
	validate_amounts(json_at(quota, "status.used"), FIELD(NULL, "status.used"), e);
}

const struct api_hooks hooks_resourcequotas = { .validate = quota_validate, .validate_status = quota_validate_status };

/* ---- LimitRange ---- */

/* Missing defaults of a container's limits follow from the ones that are there. */
static void range_defaults(struct arena *arena, struct json *object)
{
	json_foreach(item, json_at(object, "spec.limits")) {
		static const char *const steps[][2] = { { "max", "default" },
							{ "default", "defaultRequest" },
							{ "min", "defaultRequest" } };

		if (!str_is(json_get_str(item, "type"), "Container"))
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
			if (!json_count(json_get(item, steps[i][0])))
				continue;
			struct json *to = json_ensure_object(arena, item, steps[i][1]);

			hooks_default_members(arena, to, json_get(item, steps[i][0]));
		}
	}
}

static void validate_resource_names(const struct json *list, bool containers, const struct field_path *path,
				    struct field_errors *e)
{
	json_foreach(r, list)
		hooks_resource_name_validate(r->key, containers, FIELD_KEY(path, r->key), e);
}

enum list { MAX, MIN, DEFAULT, DEFAULT_REQUEST, RATIO, LISTS };

/* One amount of an item; text empty: it is not there. */
struct bound {
	const struct json *json;
	struct quantity q;
	char text[QUANTITY_TEXT_MAX];
};

static struct bound bound_of(const struct name_set *list, struct str name)
{
	struct bound b = { .json = name_set_get(list, name) };

	if (b.json) {
		b.q = quantity_of(b.json);
		quantity_format(&b.q, b.text);
	}
	return b;
}

/* `low` must not be above `high`; the finding stands at `at` and shows `shown`. */
static void validate_order(const struct bound *low, const char *low_name, const struct bound *high,
			   const char *high_name, const struct bound *shown, const struct field_path *at,
			   struct field_errors *e)
{
	if (low->json && high->json && quantity_cmp(&low->q, &high->q) > 0)
		field_invalid(e, at, shown->json, "%s value %s is greater than %s value %s", low_name, low->text,
			      high_name, high->text);
}

static void validate_ratio(const struct bound *ratio, const struct bound *min, const struct bound *max,
			   const struct field_path *at, struct field_errors *e)
{
	struct quantity one = quantity_from_int(1, QUANTITY_DECIMAL_SI);

	if (!ratio->json)
		return;
	if (quantity_cmp(&ratio->q, &one) < 0)
		field_invalid(e, at, ratio->json, "ratio %s is less than 1", ratio->text);
	if (min->json && max->json &&
	    (long double)ratio->q.nano / 1e9L > (long double)max->q.nano / (long double)min->q.nano)
		field_invalid(e, at, ratio->json, "ratio %s is greater than max/min = %Lf", ratio->text,
			      (long double)max->q.nano / (long double)min->q.nano);
}

static void validate_resource(const struct json *item, const struct name_set lists[LISTS], struct str name,
			      const struct field_path *path, struct field_errors *e)
{
	bool pod = str_is(json_get_str(item, "type"), "Pod");
	struct bound min = bound_of(&lists[MIN], name), max = bound_of(&lists[MAX], name), none = { .json = NULL };
	struct bound limit = pod ? none : bound_of(&lists[DEFAULT], name);
	struct bound request = pod ? none : bound_of(&lists[DEFAULT_REQUEST], name);
	struct bound ratio = bound_of(&lists[RATIO], name);
	const struct field_path *at_request = FIELD_KEY(FIELD(path, "defaultRequest"), name),
				*at_default = FIELD_KEY(FIELD(path, "default"), name);

	validate_order(&min, "min", &max, "max", &min, FIELD_KEY(FIELD(path, "min"), name), e);
	validate_order(&min, "min", &request, "default request", &request, at_request, e);
	validate_order(&request, "default request", &max, "max", &request, at_request, e);
	validate_order(&request, "default request", &limit, "default limit", &request, at_request, e);
	validate_order(&min, "min", &limit, "default", &min, at_default, e);
	validate_order(&limit, "default", &max, "max", &max, at_default, e);
	validate_ratio(&ratio, &min, &max, FIELD_KEY(FIELD(path, "maxLimitRequestRatio"), name), e);
	/* What cannot be overcommitted has one number. */
	if (hooks_resource_is_exact(name) && limit.json && request.json && quantity_cmp(&limit.q, &request.q) != 0)
		field_invalid(e, at_request, request.json,
			      "default value %s must equal to defaultRequest value %s in %.*s", limit.text,
			      request.text, STR_ARG(name));
}

static void validate_type(struct name_set *seen, const struct json *item, const struct field_path *path,
			  struct field_errors *e)
{
	static const char *const types[] = { "Pod", "Container", "PersistentVolumeClaim", NULL };
	struct str type = json_get_str(item, "type");
	const char *why = validate_qualified_name(type);

	if (why)
		field_invalid_str(e, FIELD(path, "type"), type, "%s", why);
	else if (!has_slash(type) && !hooks_one_of(type, types))
		field_invalid_str(e, FIELD(path, "type"), type, "must be a standard limit type or fully qualified");
	if (name_set_put(seen, type, item) != item)
		field_duplicate_str(e, FIELD(path, "type"), type);
}

static const char *const lists[LISTS] = { "max", "min", "default", "defaultRequest", "maxLimitRequestRatio" };

/* Each resource once, where it is named first. */
static void validate_resources(const struct json *item, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	struct name_set by_name[LISTS];

	name_set_init(&seen);
	for (size_t i = 0; i < LISTS; i++) {
		name_set_init(&by_name[i]);
		name_set_add_members(&by_name[i], json_get(item, lists[i]));
	}
	for (size_t i = 0; i < LISTS; i++)
		json_foreach(r, json_get(item, lists[i]))
			if (name_set_put(&seen, r->key, r) == r)
				validate_resource(item, by_name, r->key, path, e);
	for (size_t i = 0; i < LISTS; i++)
		name_set_finish(&by_name[i]);
}

static void validate_item(const struct json *item, const struct field_path *path, struct field_errors *e)
{
	struct str type = json_get_str(item, "type");
	bool pod = str_is(type, "Pod"), containers = pod || str_is(type, "Container");

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct field_path *at = FIELD_STR(path, str_of(lists[i]));
		const struct json *list = json_get(item, lists[i]);

		if (pod && str_starts(str_of(lists[i]), STR("default"))) {
			if (json_count(list))
				field_forbidden(e, at, "may not be specified when `type` is 'Pod'");
			continue;
		}
		if (i == RATIO && str_is(type, "PersistentVolumeClaim") &&
		    !json_get(json_get(item, "min"), "storage") && !json_get(json_get(item, "max"), "storage"))
			field_required(e, FIELD(path, "limits"),
				       "either minimum or maximum storage value is required, but neither was provided");
		validate_resource_names(list, containers, at, e);
	}
	validate_resources(item, path, e);
}

static void range_validate(const struct json *object, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set types;
	size_t i = 0;

	name_set_init(&types);
	json_foreach(item, json_at(object, "spec.limits")) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "spec.limits"), i++);

		validate_type(&types, item, at, e);
		validate_item(item, at, e);
	}
}

const struct api_hooks hooks_limitranges = { .defaults = range_defaults, .validate = range_validate };
