/* SPDX-License-Identifier: Apache-2.0 */
/* HorizontalPodAutoscalers, in their stored form (autoscaling/v2): defaults, metrics, behaviour. No state. Any thread.
 */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

#define CPU_PERCENT_DEFAULT 80
#define PERIOD_SECONDS_MAX 1800
#define WINDOW_SECONDS_MAX 3600

/* ---- defaults ---- */

static void cpu_metric(struct arena *arena, struct json *spec)
{
	struct json *metric = json_new_object(arena), *resource, *target;

	json_set_cstr(arena, metric, "type", "Resource");
	resource = json_ensure_object(arena, metric, "resource");
	json_set_cstr(arena, resource, "name", "cpu");
	target = json_ensure_object(arena, resource, "target");
	json_set_cstr(arena, target, "type", "Utilization");
	json_set_int(arena, target, "averageUtilization", CPU_PERCENT_DEFAULT);
	json_append(json_ensure_array(arena, spec, "metrics"), metric);
}

static void add_policy(struct arena *arena, struct json *rules, const char *type, int64_t value)
{
	struct json *p = json_new_object(arena);

	json_set_cstr(arena, p, "type", type);
	json_set_int(arena, p, "value", value);
	json_set_int(arena, p, "periodSeconds", 15);
	json_append(json_ensure_array(arena, rules, "policies"), p);
}

/* Who says something of how to scale gets the rest of it. */
static void behavior_defaults(struct arena *arena, struct json *behavior)
{
	struct json *up, *down;

	if (!json_is(behavior, JSON_OBJECT))
		return;
	up = json_ensure_object(arena, behavior, "scaleUp");
	down = json_ensure_object(arena, behavior, "scaleDown");
	hooks_default_int(arena, up, "stabilizationWindowSeconds", 0);
	hooks_default_str(arena, up, "selectPolicy", "Max");
	if (!json_get(up, "policies")) {
		add_policy(arena, up, "Pods", 4);
		add_policy(arena, up, "Percent", 100);
	}
	hooks_default_str(arena, down, "selectPolicy", "Max");
	if (!json_get(down, "policies"))
		add_policy(arena, down, "Percent", 100);
}

static void hpa_defaults(struct arena *arena, struct json *hpa)
{
	struct json *spec = json_get(hpa, "spec");

	if (!json_is(spec, JSON_OBJECT))
		return;
	hooks_default_int(arena, spec, "minReplicas", 1);
	if (str_is(meta_api_version(hpa), "autoscaling/v1"))
		return;
	if (!json_count(json_get(spec, "metrics")))
		cpu_metric(arena, spec);
	behavior_defaults(arena, json_get(spec, "behavior"));
}

/* ---- metrics ---- */

static void validate_target(const struct json *t, const struct field_path *at, struct field_errors *e)
{
	static const char *const types[] = { "AverageValue", "Utilization", "Value", NULL };
	static const char *const amounts[] = { "value", "averageValue" };
	const struct json *percent = json_get(t, "averageUtilization");
	struct str type = json_get_str(t, "type");

	if (!type.n)
		field_required(e, FIELD(at, "type"), "must specify a metric target type");
	else if (!hooks_one_of(type, types))
		field_invalid_str(e, FIELD(at, "type"), type, "must be either Utilization, Value, or AverageValue");
	for (size_t i = 0; i < ARRAY_SIZE(amounts); i++) {
		const struct json *v = json_get(t, amounts[i]);
		struct quantity q = quantity_of(v);

		if (v && q.nano <= 0)
			field_invalid(e, FIELD_STR(at, str_of(amounts[i])), v, "must be positive");
	}
	if (percent && json_int(percent, 0) < 1)
		field_invalid(e, FIELD(at, "averageUtilization"), percent, "must be greater than 0");
}

static void validate_identifier(const struct json *m, const struct field_path *at, struct field_errors *e)
{
	struct str name = json_get_str(m, "name");

	if (!name.n)
		field_required(e, FIELD(at, "name"), "must specify a metric name");
	else
		hooks_text_validate(name, validate_path_segment, FIELD(at, "name"), e);
}

static void validate_reference(const struct json *ref, const struct field_path *at, struct field_errors *e)
{
	static const char *const parts[] = { "kind", "name" };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct str s = json_get_str(ref, parts[i]);

		if (!s.n)
			field_required(e, FIELD_STR(at, str_of(parts[i])), NULL);
		else
			hooks_text_validate(s, validate_path_segment, FIELD_STR(at, str_of(parts[i])), e);
	}
}

/* One of two amounts, not both. */
static void validate_either(const struct json *t, const char *a, const char *b, const char *missing, const char *both,
			    const struct field_path *at, struct field_errors *e)
{
	const struct json *x = json_get(t, a), *y = json_get(t, b);

	if (!x && !y)
		field_required(e, FIELD_STR(at, str_of(a)), "%s", missing);
	else if (x && y)
		field_forbidden(e, FIELD_STR(at, str_of(b)), "%s", both);
}

static void check_object(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	const struct json *t = json_get(v, "target");

	validate_reference(json_get(v, "describedObject"), FIELD(at, "describedObject"), e);
	validate_identifier(json_get(v, "metric"), FIELD(at, "metric"), e);
	validate_target(t, FIELD(at, "target"), e);
	if (!json_get(t, "value") && !json_get(t, "averageValue"))
		field_required(e, FIELD(FIELD(at, "target"), "averageValue"),
			       "must set either a target value or averageValue");
}

static void check_external(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	const struct json *t = json_get(v, "target");

	validate_identifier(json_get(v, "metric"), FIELD(at, "metric"), e);
	validate_target(t, FIELD(at, "target"), e);
	if (!json_get(t, "value") && !json_get(t, "averageValue"))
		field_required(e, FIELD(FIELD(at, "target"), "averageValue"),
			       "must set either a target value for metric or a per-pod target");
	if (json_get(t, "value") && json_get(t, "averageValue"))
		field_forbidden(e, FIELD(FIELD(at, "target"), "value"),
				"may not set both a target value for metric and a per-pod target");
}

static void check_pods(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	validate_identifier(json_get(v, "metric"), FIELD(at, "metric"), e);
	validate_target(json_get(v, "target"), FIELD(at, "target"), e);
	if (quantity_of(json_at(v, "target.averageValue")).nano <= 0)
		field_required(e, FIELD(FIELD(at, "target"), "averageValue"),
			       "must specify a positive target averageValue");
}

static void check_resource(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	if (!json_get_str(v, "name").n)
		field_required(e, FIELD(at, "name"), "must specify a resource name");
	validate_target(json_get(v, "target"), FIELD(at, "target"), e);
	validate_either(json_get(v, "target"), "averageUtilization", "averageValue",
			"must set either a target raw value or a target utilization",
			"may not set both a target raw value and a target utilization", FIELD(at, "target"), e);
}

static void check_container_resource(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	if (!json_get_str(v, "container").n)
		field_required(e, FIELD(at, "container"), "must specify a container");
	check_resource(v, at, e);
}

static const struct {
	const char *type, *field;
	void (*check)(const struct json *v, const struct field_path *at, struct field_errors *e);
} SOURCES[] = {
	{ "Object", "object", check_object },
	{ "External", "external", check_external },
	{ "Pods", "pods", check_pods },
	{ "Resource", "resource", check_resource },
	{ "ContainerResource", "containerResource", check_container_resource },
};

static void validate_metric(const struct json *m, const struct field_path *at, struct field_errors *e)
{
	static const char *const types[] = { "ContainerResource", "External", "Object", "Pods", "Resource", NULL };
	struct str type = json_get_str(m, "type");
	const char *wanted = "";
	size_t n = 0;

	if (!type.n)
		field_required(e, FIELD(at, "type"), "must specify a metric source type");
	if (!hooks_one_of(type, types))
		field_not_supported(e, FIELD(at, "type"), type, types);
	for (size_t i = 0; i < ARRAY_SIZE(SOURCES); i++) {
		const struct json *v = json_get(m, SOURCES[i].field);

		if (str_is(type, SOURCES[i].type))
			wanted = SOURCES[i].field;
		if (v && n++ == 0)
			SOURCES[i].check(v, FIELD_STR(at, str_of(SOURCES[i].field)), e);
	}
	if (*wanted && !json_get(m, wanted))
		field_required(e, FIELD_STR(at, str_of(wanted)),
			       "must populate information for the given metric source");
	for (size_t i = 0; i < ARRAY_SIZE(SOURCES) && n != 1; i++)
		if (json_get(m, SOURCES[i].field) && strcmp(SOURCES[i].field, wanted) != 0)
			field_forbidden(e, FIELD_STR(at, str_of(SOURCES[i].field)),
					"must populate the given metric source only");
}

/* ---- behaviour ---- */

static void validate_policy(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	static const char *const types[] = { "Pods", "Percent", NULL };
	int64_t value = json_get_int(p, "value", 0), period = json_get_int(p, "periodSeconds", 0);

	hooks_supported(json_get_str(p, "type"), types, FIELD(at, "type"), e);
	if (value <= 0)
		field_invalid_int(e, FIELD(at, "value"), value, "must be greater than zero");
	if (period <= 0)
		field_invalid_int(e, FIELD(at, "periodSeconds"), period, "must be greater than zero");
	if (period > PERIOD_SECONDS_MAX)
		field_invalid_int(e, FIELD(at, "periodSeconds"), period, "must be less than or equal to %d",
				  PERIOD_SECONDS_MAX);
}

static void validate_rules(const struct json *rules, const struct field_path *at, struct field_errors *e)
{
	static const char *const selections[] = { "Max", "Min", "Disabled", NULL };
	const struct json *window = json_get(rules, "stabilizationWindowSeconds"),
			  *tolerance = json_get(rules, "tolerance");
	size_t i = 0;

	if (!rules)
		return;
	if (window && json_int(window, 0) < 0)
		field_invalid(e, FIELD(at, "stabilizationWindowSeconds"), window,
			      "must be greater than or equal to zero");
	if (window && json_int(window, 0) > WINDOW_SECONDS_MAX)
		field_invalid(e, FIELD(at, "stabilizationWindowSeconds"), window, "must be less than or equal to %d",
			      WINDOW_SECONDS_MAX);
	if (json_get(rules, "selectPolicy"))
		hooks_supported(json_get_str(rules, "selectPolicy"), selections, FIELD(at, "selectPolicy"), e);
	if (!json_count(json_get(rules, "policies")))
		field_required(e, FIELD(at, "policies"), "must specify at least one Policy");
	json_foreach(p, json_get(rules, "policies")) {
		validate_policy(p, FIELD_INDEX(FIELD(at, "policies"), i), e);
		i++;
	}
	if (tolerance && quantity_of(tolerance).nano < 0)
		field_invalid(e, FIELD(at, "tolerance"), tolerance, "must be greater or equal to 0");
}

/* ---- the whole ---- */

static void hpa_validate(const struct json *hpa, struct field_errors *e)
{
	const struct json *spec = json_get(hpa, "spec"), *behavior = json_get(spec, "behavior");
	const struct field_path *path = FIELD(NULL, "spec");
	int64_t min = json_get_int(spec, "minReplicas", 1), max = json_get_int(spec, "maxReplicas", 0);
	size_t i = 0;

	if (min < 1)
		field_invalid_int(e, FIELD(path, "minReplicas"), min, "must be greater than or equal to 1");
	if (max >= 1 && max < min)
		field_invalid_int(e, FIELD(path, "maxReplicas"), max, "must be greater than or equal to `minReplicas`");
	validate_reference(json_get(spec, "scaleTargetRef"), FIELD(path, "scaleTargetRef"), e);
	json_foreach(m, json_get(spec, "metrics")) {
		validate_metric(m, FIELD_INDEX(FIELD(path, "metrics"), i), e);
		i++;
	}
	validate_rules(json_get(behavior, "scaleUp"), FIELD(FIELD(path, "behavior"), "scaleUp"), e);
	validate_rules(json_get(behavior, "scaleDown"), FIELD(FIELD(path, "behavior"), "scaleDown"), e);
}

static void hpa_validate_status(const struct json *hpa, const struct json *old, struct field_errors *e)
{
	const struct json *status = json_get(hpa, "status");

	(void)old;
	hooks_nonnegative(status, "currentReplicas", FIELD(NULL, "status"), e);
	hooks_nonnegative(status, "desiredReplicas", FIELD(NULL, "status"), e);
}

const struct api_hooks hooks_horizontalpodautoscalers = {
	.defaults = hpa_defaults,
	.validate = hpa_validate,
	.validate_status = hpa_validate_status,
};
