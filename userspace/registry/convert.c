/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds that have two forms of one stored object: events.k8s.io/v1 over core/v1 Events, autoscaling/v1 over v2
 * HorizontalPodAutoscalers. Everything else is stored as it is addressed. Any thread. */
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

struct rename {
	const char *view, *stored;
};

static const struct rename EVENT_FIELDS[] = {
	{ "note", "message" },
	{ "regarding", "involvedObject" },
	{ "reportingController", "reportingComponent" },
	{ "deprecatedCount", "count" },
	{ "deprecatedFirstTimestamp", "firstTimestamp" },
	{ "deprecatedLastTimestamp", "lastTimestamp" },
	{ "deprecatedSource", "source" },
};

static void rename_fields(struct json *object, const struct rename *table, size_t n, bool to_storage)
{
	for (size_t i = 0; i < n; i++) {
		struct json *v = json_remove(object, to_storage ? table[i].view : table[i].stored);

		if (v)
			json_set(object, to_storage ? table[i].stored : table[i].view, v);
	}
}

/* ---- HorizontalPodAutoscaler: one number of v1 is one metric of v2 ---- */

static bool is_cpu_utilization(const struct json *metric, const char *side)
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

static void number_to_metric(struct arena *arena, struct json *part, const char *number, const char *list,
			     const char *side)
{
	struct json *percent = json_remove(part, number);

	if (percent)
		json_prepend(json_ensure_array(arena, part, list), cpu_metric(arena, side, json_int(percent, 0)));
}

static void metric_to_number(struct arena *arena, struct json *part, const char *number, const char *list,
			     const char *side)
{
	struct json *metrics = json_get(part, list);

	json_foreach(m, metrics) {
		if (!is_cpu_utilization(m, side))
			continue;
		json_set_int(arena, part, number,
			     json_get_int(json_get(json_get(m, "resource"), side), "averageUtilization", 0));
		break;
	}
	json_remove(part, list);
}

static void autoscaler(struct arena *arena, struct json *object, bool to_storage)
{
	struct json *spec = json_get(object, "spec"), *status = json_get(object, "status");
	void (*move)(struct arena *, struct json *, const char *, const char *, const char *) =
		to_storage ? number_to_metric : metric_to_number;

	if (spec)
		move(arena, spec, "targetCPUUtilizationPercentage", "metrics", "target");
	if (status)
		move(arena, status, "currentCPUUtilizationPercentage", "currentMetrics", "current");
	if (spec && !to_storage)
		json_remove(spec, "behavior");
	if (status && !to_storage)
		json_remove(status, "conditions");
}

static struct json *convert(struct arena *arena, const struct api_kind *kind, struct json *object, bool to_storage)
{
	const struct api_kind *to = to_storage ? kind->storage : kind;

	if (!kind->storage || kind->storage == kind)
		return object;
	if (strcmp(kind->plural, "events") == 0)
		rename_fields(object, EVENT_FIELDS, ARRAY_SIZE(EVENT_FIELDS), to_storage);
	else if (strcmp(kind->plural, "horizontalpodautoscalers") == 0)
		autoscaler(arena, object, to_storage);
	json_set_cstr(arena, object, "apiVersion", api_kind_api_version(to));
	json_set_cstr(arena, object, "kind", to->kind);
	return object;
}

struct json *convert_to_storage(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	return convert(arena, kind, object, true);
}

struct json *convert_from_storage(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	return convert(arena, kind, object, false);
}

struct str registry_render(struct arena *arena, const struct api_kind *kind, const struct object *o)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	if (!kind->storage || kind->storage == kind)
		return o->json;
	json_write(&text, convert_from_storage(arena, kind, registry_parse(arena, o)));
	return arena_str(arena, buf_str(&text));
}
