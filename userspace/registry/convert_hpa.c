/* SPDX-License-Identifier: Apache-2.0 */
/* HorizontalPodAutoscalers seen as autoscaling/v1: one number is the metric of the CPU; what v1 has no fields for
 * (other metrics, behavior, conditions, current metrics) is in annotations that are never stored, in the words of
 * v1's own metrics. Any thread. */
#include <string.h>

#include "userspace/api/decode.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define ANNOTATION "autoscaling.alpha.kubernetes.io/"
#define OTHER_METRICS ANNOTATION "metrics"
#define CURRENT_METRICS ANNOTATION "current-metrics"
#define CONDITIONS ANNOTATION "conditions"
#define BEHAVIOR ANNOTATION "behavior"
#define TYPES "io.k8s.api.autoscaling.v2."

/* Where a field of v1's metric is in v2's: `parent`.`name`, at most one level down, in the order upstream writes. */
struct place {
	const char *source, *v1, *parent, *name;
	bool always; /* a quantity that is written even when it is absent */
};

static const struct place SPEC_PLACES[] = {
	{ "object", "target", NULL, "describedObject", false },
	{ "object", "metricName", "metric", "name", false },
	{ "object", "targetValue", "target", "value", true },
	{ "object", "selector", "metric", "selector", false },
	{ "object", "averageValue", "target", "averageValue", false },
	{ "pods", "metricName", "metric", "name", false },
	{ "pods", "targetAverageValue", "target", "averageValue", true },
	{ "pods", "selector", "metric", "selector", false },
	{ "resource", "name", NULL, "name", false },
	{ "resource", "targetAverageUtilization", "target", "averageUtilization", false },
	{ "resource", "targetAverageValue", "target", "averageValue", false },
	{ "containerResource", "name", NULL, "name", false },
	{ "containerResource", "targetAverageUtilization", "target", "averageUtilization", false },
	{ "containerResource", "targetAverageValue", "target", "averageValue", false },
	{ "containerResource", "container", NULL, "container", false },
	{ "external", "metricName", "metric", "name", false },
	{ "external", "metricSelector", "metric", "selector", false },
	{ "external", "targetValue", "target", "value", false },
	{ "external", "targetAverageValue", "target", "averageValue", false },
};

static const struct place STATUS_PLACES[] = {
	{ "object", "target", NULL, "describedObject", false },
	{ "object", "metricName", "metric", "name", false },
	{ "object", "currentValue", "current", "value", true },
	{ "object", "selector", "metric", "selector", false },
	{ "object", "averageValue", "current", "averageValue", false },
	{ "pods", "metricName", "metric", "name", false },
	{ "pods", "currentAverageValue", "current", "averageValue", true },
	{ "pods", "selector", "metric", "selector", false },
	{ "resource", "name", NULL, "name", false },
	{ "resource", "currentAverageUtilization", "current", "averageUtilization", false },
	{ "resource", "currentAverageValue", "current", "averageValue", true },
	{ "containerResource", "name", NULL, "name", false },
	{ "containerResource", "currentAverageUtilization", "current", "averageUtilization", false },
	{ "containerResource", "currentAverageValue", "current", "averageValue", true },
	{ "containerResource", "container", NULL, "container", false },
	{ "external", "metricName", "metric", "name", false },
	{ "external", "metricSelector", "metric", "selector", false },
	{ "external", "currentValue", "current", "value", true },
	{ "external", "currentAverageValue", "current", "averageValue", false },
};

static const char *const SOURCES[] = { "object", "pods", "resource", "containerResource", "external" };

struct side {
	const struct place *places;
	size_t n;
	bool spec;
};

static const struct side SPEC = { SPEC_PLACES, ARRAY_SIZE(SPEC_PLACES), true };
static const struct side STATUS = { STATUS_PLACES, ARRAY_SIZE(STATUS_PLACES), false };

static void target_type(struct arena *arena, const char *source, struct json *v2)
{
	struct json *target = json_ensure_object(arena, v2, "target");
	bool utilization = json_get(target, "averageUtilization"), average = json_get(target, "averageValue");
	const char *type = utilization ? "Utilization" : "AverageValue";

	if (!strcmp(source, "object"))
		type = average ? "AverageValue" : "Value";
	else if (!strcmp(source, "external") && json_get(target, "value"))
		type = "Value";
	json_set_cstr(arena, target, "type", type);
}

static struct json *to_v1(struct arena *arena, const struct side *side, const struct json *metric)
{
	struct json *out = json_new_object(arena);

	json_set_str(arena, out, "type", json_get_str(metric, "type"));
	for (size_t i = 0; i < side->n; i++) {
		const struct place *p = &side->places[i];
		const struct json *source = json_get(metric, p->source), *v;

		if (!source)
			continue;
		v = json_get(p->parent ? json_get(source, p->parent) : source, p->name);
		if (v)
			json_set(json_ensure_object(arena, out, p->source), p->v1, json_clone(arena, v));
		else if (p->always)
			json_set_cstr(arena, json_ensure_object(arena, out, p->source), p->v1, "0");
	}
	return out;
}

static struct json *to_v2(struct arena *arena, const struct side *side, const struct json *metric)
{
	struct json *out = json_new_object(arena);

	json_set_str(arena, out, "type", json_get_str(metric, "type"));
	for (size_t i = 0; i < ARRAY_SIZE(SOURCES); i++)
		if (json_is(json_get(metric, SOURCES[i]), JSON_OBJECT))
			json_ensure_object(arena, out, SOURCES[i]);
	for (size_t i = 0; i < side->n; i++) {
		const struct place *p = &side->places[i];
		struct json *source = json_get(out, p->source);
		const struct json *v = json_get(json_get(metric, p->source), p->v1);

		if (source && v)
			json_set(p->parent ? json_ensure_object(arena, source, p->parent) : source, p->name,
				 json_clone(arena, v));
	}
	for (size_t i = 0; side->spec && i < ARRAY_SIZE(SOURCES); i++)
		if (json_get(out, SOURCES[i]))
			target_type(arena, SOURCES[i], json_get(out, SOURCES[i]));
	return out;
}

/* ---- the number of the CPU ---- */

static bool is_cpu(const struct json *metric, const char *side)
{
	const struct json *target = json_get(json_get(metric, "resource"), side);

	return str_is(json_get_str(metric, "type"), "Resource") &&
	       str_is(json_at_str(metric, "resource.name"), "cpu") && json_get(target, "averageUtilization");
}

static struct json *cpu_metric(struct arena *arena, const char *side, int64_t percent)
{
	struct json *metric = json_new_object(arena), *resource, *value;

	json_set_cstr(arena, metric, "type", "Resource");
	resource = json_ensure_object(arena, metric, "resource");
	json_set_cstr(arena, resource, "name", "cpu");
	value = json_ensure_object(arena, resource, side);
	if (strcmp(side, "target") == 0)
		json_set_cstr(arena, value, "type", "Utilization");
	json_set_int(arena, value, "averageUtilization", percent);
	return metric;
}

static void take_number(struct arena *arena, struct json *part, const char *number, const char *list, const char *side)
{
	struct json *percent = json_remove(part, number);

	if (percent)
		json_append(json_ensure_array(arena, part, list), cpu_metric(arena, side, json_int(percent, 0)));
}

static void give_number(struct arena *arena, struct json *part, const char *number, const struct json *metrics,
			const char *side)
{
	json_foreach(m, metrics) {
		if (!is_cpu(m, side))
			continue;
		json_set_int(arena, part, number,
			     json_get_int(json_get(json_get(m, "resource"), side), "averageUtilization", 0));
		return;
	}
}

/* ---- annotations ---- */

static void annotate(struct arena *arena, struct json *object, const char *key, const struct json *value)
{
	meta_set_annotation(arena, object, key, json_text(arena, value));
}

/* What the annotation says, NULL when it is absent or not JSON. It is gone from the object. */
static struct json *take_annotation(struct arena *arena, struct json *object, const char *key)
{
	struct json *annotations = json_get(json_get(object, "metadata"), "annotations"), *value = NULL,
		    *text = json_remove(annotations, key);
	_cleanup_err_ struct err err = ERR_INIT;

	if (text && !json_first(annotations))
		json_remove(json_get(object, "metadata"), "annotations");
	if (!text || json_parse(arena, json_str(text), 0, &value, &err) < 0)
		return NULL;
	return value;
}

static struct json *metrics_of(struct arena *arena, const struct side *side, const struct json *list)
{
	struct json *out = json_new_array(arena);

	json_foreach(m, list)
		json_append(out, to_v2(arena, side, m));
	return out;
}

/* `value` as the member `key` of a part of v2, NULL when it does not fit. */
static struct json *fitting(struct arena *arena, const char *message, const char *key, struct json *value)
{
	struct json *part = json_new_object(arena);
	_cleanup_err_ struct err err = ERR_INIT;

	json_set(part, key, value);
	if (decode_message(arena, api_message_by_name(str_of(message)), "HorizontalPodAutoscaler", part, DECODE_IGNORE,
			   NULL, &err) < 0)
		return NULL;
	return json_remove(part, key);
}

static void take_metrics(struct arena *arena, struct json *object, const char *key, const char *parent,
			 const char *message, const char *list, const struct side *side)
{
	struct json *given = take_annotation(arena, object, key), *metrics, *part;

	if (!json_is(given, JSON_ARRAY))
		return;
	metrics = fitting(arena, message, list, metrics_of(arena, side, given));
	if (!metrics)
		return;
	part = json_ensure_object(arena, object, parent);
	if (side->spec)
		json_foreach(m, json_get(part, list))
			json_append(metrics, json_clone(arena, m));
	json_set(part, list, metrics);
}

static void take_whole(struct arena *arena, struct json *object, const char *key, const char *parent,
		       const char *message, const char *name, enum json_type type)
{
	struct json *given = take_annotation(arena, object, key);

	if (!json_is(given, type))
		return;
	given = fitting(arena, message, name, given);
	if (given)
		json_set(json_ensure_object(arena, object, parent), name, given);
}

void convert_hpa_to_storage(struct arena *arena, struct json *object)
{
	struct json *spec = json_get(object, "spec"), *status = json_get(object, "status");

	if (spec)
		take_number(arena, spec, "targetCPUUtilizationPercentage", "metrics", "target");
	if (status)
		take_number(arena, status, "currentCPUUtilizationPercentage", "currentMetrics", "current");
	take_metrics(arena, object, OTHER_METRICS, "spec", TYPES "HorizontalPodAutoscalerSpec", "metrics", &SPEC);
	take_whole(arena, object, BEHAVIOR, "spec", TYPES "HorizontalPodAutoscalerSpec", "behavior", JSON_OBJECT);
	take_metrics(arena, object, CURRENT_METRICS, "status", TYPES "HorizontalPodAutoscalerStatus", "currentMetrics",
		     &STATUS);
	take_whole(arena, object, CONDITIONS, "status", TYPES "HorizontalPodAutoscalerStatus", "conditions",
		   JSON_ARRAY);
}

void convert_hpa_from_storage(struct arena *arena, struct json *object)
{
	struct json *spec = json_get(object, "spec"), *status = json_get(object, "status"),
		    *metrics = json_remove(spec, "metrics"), *behavior = json_remove(spec, "behavior"),
		    *current = json_remove(status, "currentMetrics"), *conditions = json_remove(status, "conditions"),
		    *list = json_new_array(arena);

	give_number(arena, spec, "targetCPUUtilizationPercentage", metrics, "target");
	give_number(arena, status, "currentCPUUtilizationPercentage", current, "current");
	json_foreach(m, metrics)
		if (!is_cpu(m, "target"))
			json_append(list, to_v1(arena, &SPEC, m));
	if (json_first(list))
		annotate(arena, object, OTHER_METRICS, list);
	list = json_new_array(arena);
	json_foreach(m, current)
		json_append(list, to_v1(arena, &STATUS, m));
	if (json_first(list))
		annotate(arena, object, CURRENT_METRICS, list);
	if (json_first(conditions))
		annotate(arena, object, CONDITIONS, conditions);
	if (behavior)
		annotate(arena, object, BEHAVIOR, behavior);
}
