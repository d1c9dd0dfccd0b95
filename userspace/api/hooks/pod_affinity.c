/* SPDX-License-Identifier: Apache-2.0 */
/* Where a pod may run: node selectors, affinity between pods, topology spread, tolerations. Node selectors are
 * those of PersistentVolumes too. No state. Any thread. */
#include <stdio.h>
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define WEIGHT_MAX 100

/* ---- node selectors ---- */

static void validate_values(const struct json *x, const struct field_path *at, struct field_errors *e)
{
	struct str op = json_get_str(x, "operator");
	size_t n = json_count(json_get(x, "values"));

	if (str_is(op, "In") || str_is(op, "NotIn")) {
		if (!n)
			field_required(e, FIELD(at, "values"), "must be specified when `operator` is 'In' or 'NotIn'");
	} else if (str_is(op, "Exists") || str_is(op, "DoesNotExist")) {
		if (n)
			field_forbidden(e, FIELD(at, "values"),
					"may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
	} else if (str_is(op, "Gt") || str_is(op, "Lt")) {
		if (n != 1)
			field_required(e, FIELD(at, "values"),
				       "must be specified single value when `operator` is 'Lt' or 'Gt'");
	} else {
		field_invalid_str(e, FIELD(at, "operator"), op, "not a valid selector operator");
	}
}

static void validate_expression(const struct json *x, bool judge_values, const struct field_path *at,
				struct field_errors *e)
{
	size_t i = 0;

	validate_values(x, at, e);
	hooks_text_validate(json_get_str(x, "key"), validate_qualified_name, FIELD(at, "key"), e);
	if (!judge_values)
		return;
	json_foreach(v, json_get(x, "values")) {
		hooks_text_validate(json_str(v), validate_label_value, FIELD_INDEX(FIELD(at, "values"), i), e);
		i++;
	}
}

static void validate_match_field(const struct json *x, const struct field_path *at, struct field_errors *e)
{
	struct str op = json_get_str(x, "operator"), key = json_get_str(x, "key");
	size_t i = 0;

	if (!str_is(op, "In") && !str_is(op, "NotIn"))
		field_invalid_str(e, FIELD(at, "operator"), op, "not a valid selector operator");
	else if (json_count(json_get(x, "values")) != 1)
		field_required(e, FIELD(at, "values"),
			       "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
	if (!str_is(key, "metadata.name")) {
		field_invalid_str(e, FIELD(at, "key"), key, "not a valid field selector key");
		return;
	}
	json_foreach(v, json_get(x, "values")) {
		hooks_text_validate(json_str(v), validate_dns1123_subdomain, FIELD_INDEX(FIELD(at, "values"), i), e);
		i++;
	}
}

static void validate_term(const struct json *term, bool judge_values, const struct field_path *at,
			  struct field_errors *e)
{
	size_t i = 0;

	json_foreach(x, json_get(term, "matchExpressions")) {
		validate_expression(x, judge_values, FIELD_INDEX(FIELD(at, "matchExpressions"), i), e);
		i++;
	}
	i = 0;
	json_foreach(x, json_get(term, "matchFields")) {
		validate_match_field(x, FIELD_INDEX(FIELD(at, "matchFields"), i), e);
		i++;
	}
}

void hooks_node_selector_validate(const struct json *selector, const struct field_path *path, struct field_errors *e)
{
	const struct field_path *terms = FIELD(path, "nodeSelectorTerms");
	size_t i = 0;

	if (!json_count(json_get(selector, "nodeSelectorTerms")))
		field_required(e, terms, "must have at least one node selector term");
	json_foreach(t, json_get(selector, "nodeSelectorTerms")) {
		validate_term(t, true, FIELD_INDEX(terms, i), e);
		i++;
	}
}

static void validate_weight(const struct json *term, const struct field_path *at, struct field_errors *e)
{
	int64_t weight = json_get_int(term, "weight", 0);

	if (weight <= 0 || weight > WEIGHT_MAX)
		field_invalid_int(e, FIELD(at, "weight"), weight, "must be in the range 1-%d", WEIGHT_MAX);
}

static void validate_node_affinity(const struct json *node, const struct field_path *path, struct field_errors *e)
{
	const struct json *required = json_get(node, "requiredDuringSchedulingIgnoredDuringExecution");
	const struct field_path *preferred = FIELD(path, "preferredDuringSchedulingIgnoredDuringExecution");
	size_t i = 0;

	if (required)
		hooks_node_selector_validate(required, FIELD(path, "requiredDuringSchedulingIgnoredDuringExecution"),
					     e);
	json_foreach(p, json_get(node, "preferredDuringSchedulingIgnoredDuringExecution")) {
		const struct field_path *at = FIELD_INDEX(preferred, i++);

		validate_weight(p, at, e);
		validate_term(json_get(p, "preference"), false, FIELD(at, "preference"), e);
	}
}

/* ---- affinity between pods ---- */

static void add_selected_keys(struct name_set *keys, const struct json *selector)
{
	name_set_add_members(keys, json_get(selector, "matchLabels"));
	name_set_add_list(keys, json_get(selector, "matchExpressions"), "key");
}

static void validate_label_keys(const struct json *keys, const struct json *selector, const struct field_path *path,
				struct field_errors *e)
{
	size_t i = 0;

	if (!json_count(keys))
		return;
	if (!selector) {
		field_forbidden(e, path, "must not be specified when labelSelector is not set");
		return;
	}
	json_foreach(k, keys) {
		hooks_text_validate(json_str(k), validate_qualified_name, FIELD_INDEX(path, i), e);
		i++;
	}
}

static void validate_pod_term(const struct json *term, const struct field_path *at, struct field_errors *e)
{
	const struct json *selector = json_get(term, "labelSelector"), *match = json_get(term, "matchLabelKeys"),
			  *mismatch = json_get(term, "mismatchLabelKeys");
	_cleanup_name_set_ struct name_set mismatched;
	size_t i = 0;

	name_set_init(&mismatched);
	json_foreach(n, json_get(term, "namespaces"))
		hooks_text_validate(json_str(n), validate_dns1123_label, FIELD(at, "namespace"), e);
	validate_label_keys(match, selector, FIELD(at, "matchLabelKeys"), e);
	validate_label_keys(mismatch, selector, FIELD(at, "mismatchLabelKeys"), e);
	json_foreach(m, mismatch)
		name_set_put(&mismatched, json_str(m), m);
	json_foreach(k, match) {
		if (name_set_get(&mismatched, json_str(k)))
			field_invalid_str(e, FIELD_INDEX(FIELD(at, "matchLabelKeys"), i), json_str(k),
					  "exists in both matchLabelKeys and mismatchLabelKeys");
		i++;
	}
	if (!json_get_str(term, "topologyKey").n)
		field_required(e, FIELD(at, "topologyKey"), "can not be empty");
	hooks_text_validate(json_get_str(term, "topologyKey"), validate_qualified_name, FIELD(at, "topologyKey"), e);
}

static void validate_pod_affinity(const struct json *affinity, const struct field_path *path, struct field_errors *e)
{
	const struct field_path *required = FIELD(path, "requiredDuringSchedulingIgnoredDuringExecution"),
				*preferred = FIELD(path, "preferredDuringSchedulingIgnoredDuringExecution");
	size_t i = 0;

	json_foreach(t, json_get(affinity, "requiredDuringSchedulingIgnoredDuringExecution")) {
		validate_pod_term(t, FIELD_INDEX(required, i), e);
		i++;
	}
	i = 0;
	json_foreach(w, json_get(affinity, "preferredDuringSchedulingIgnoredDuringExecution")) {
		const struct field_path *at = FIELD_INDEX(preferred, i++);

		validate_weight(w, at, e);
		validate_pod_term(json_get(w, "podAffinityTerm"), FIELD(at, "podAffinityTerm"), e);
	}
}

void hooks_affinity_validate(const struct json *affinity, const struct field_path *path, struct field_errors *e)
{
	if (json_get(affinity, "nodeAffinity"))
		validate_node_affinity(json_get(affinity, "nodeAffinity"), FIELD(path, "nodeAffinity"), e);
	if (json_get(affinity, "podAffinity"))
		validate_pod_affinity(json_get(affinity, "podAffinity"), FIELD(path, "podAffinity"), e);
	if (json_get(affinity, "podAntiAffinity"))
		validate_pod_affinity(json_get(affinity, "podAntiAffinity"), FIELD(path, "podAntiAffinity"), e);
}

/* ---- topology spread ---- */

static void validate_min_domains(const struct json *c, const struct field_path *at, struct field_errors *e)
{
	const struct json *min = json_get(c, "minDomains");
	struct str action = json_get_str(c, "whenUnsatisfiable");

	if (!min || min->type == JSON_NULL)
		return;
	if (json_int(min, 0) <= 0)
		field_invalid(e, FIELD(at, "minDomains"), min, "must be greater than zero");
	if (!str_is(action, "DoNotSchedule"))
		field_invalid(e, FIELD(at, "minDomains"), min,
			      "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not %.*s", STR_ARG(action));
}

static void validate_spread_keys(const struct json *c, const struct field_path *at, struct field_errors *e)
{
	const struct json *selector = json_get(c, "labelSelector"), *keys = json_get(c, "matchLabelKeys");
	_cleanup_name_set_ struct name_set selected;
	size_t i = 0;

	name_set_init(&selected);
	if (json_count(keys))
		add_selected_keys(&selected, selector);
	if (json_count(keys) && !selector)
		field_forbidden(e, FIELD(at, "matchLabelKeys"), "must not be specified when labelSelector is not set");
	json_foreach(k, keys) {
		const struct field_path *path = FIELD_INDEX(FIELD(at, "matchLabelKeys"), i++);

		hooks_text_validate(json_str(k), validate_qualified_name, path, e);
		if (name_set_get(&selected, json_str(k)))
			field_invalid_str(e, path, json_str(k), "exists in both matchLabelKeys and labelSelector");
	}
}

static void pair_of(const struct json *c, char ret[static FIELD_PATH_MAX])
{
	snprintf(ret, FIELD_PATH_MAX, "{%.*s, %.*s}", STR_ARG(json_get_str(c, "topologyKey")),
		 STR_ARG(json_get_str(c, "whenUnsatisfiable")));
}

/* The last constraint of each pair. */
static void add_pairs(struct name_set *last, const struct json *constraints)
{
	size_t n = json_count(constraints), i = 0;
	_cleanup_free_ const struct json **all = mem_new_array(const struct json *, n + 1);
	char pair[FIELD_PATH_MAX];

	json_foreach(c, constraints)
		all[i++] = c;
	while (i-- > 0) {
		pair_of(all[i], pair);
		name_set_put(last, str_of(pair), all[i]);
	}
}

void hooks_spread_validate(const struct json *constraints, const struct field_path *path, struct field_errors *e)
{
	static const char *const actions[] = { "DoNotSchedule", "ScheduleAnyway", NULL };
	_cleanup_name_set_ struct name_set last;
	char pair[FIELD_PATH_MAX];
	size_t i = 0;

	name_set_init(&last);
	add_pairs(&last, constraints);
	json_foreach(c, constraints) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str key = json_get_str(c, "topologyKey"), action = json_get_str(c, "whenUnsatisfiable");

		if (json_get_int(c, "maxSkew", 0) <= 0)
			field_invalid_int(e, FIELD(at, "maxSkew"), json_get_int(c, "maxSkew", 0),
					  "must be greater than zero");
		if (!key.n)
			field_required(e, FIELD(at, "topologyKey"), "can not be empty");
		if (!action.n)
			field_not_supported(e, FIELD(at, "whenUnsatisfiable"), action, actions);
		pair_of(c, pair);
		if (name_set_get(&last, str_of(pair)) != c)
			field_duplicate_str(e, FIELD(at, "{topologyKey, whenUnsatisfiable}"), str_of(pair));
		validate_min_domains(c, at, e);
		validate_spread_keys(c, at, e);
	}
}

/* ---- tolerations ---- */

void hooks_tolerations_validate(const struct json *tolerations, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(t, tolerations) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str op = json_get_str(t, "operator"), effect = json_get_str(t, "effect"),
			   value = json_get_str(t, "value");

		if (!json_get_str(t, "key").n && !str_is(op, "Exists"))
			field_invalid_str(
				e, FIELD(at, "operator"), op,
				"operator must be Exists when `key` is empty, which means \"match all values and "
				"all keys\"");
		if (json_get(t, "tolerationSeconds") && !str_is(effect, "NoExecute"))
			field_invalid_str(e, FIELD(at, "effect"), effect,
					  "effect must be 'NoExecute' when `tolerationSeconds` is set");
		if (str_is(op, "Exists") && value.n)
			field_invalid_str(e, FIELD(at, "operator"), value,
					  "value must be empty when `operator` is 'Exists'");
		if (!op.n || str_is(op, "Equal"))
			hooks_text_validate(value, validate_label_value, FIELD(at, "operator"), e);
	}
}
