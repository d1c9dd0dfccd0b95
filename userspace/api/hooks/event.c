/* SPDX-License-Identifier: Apache-2.0 */
/* Events. What is written by way of core/v1 keeps to the old rules alone; events.k8s.io is strict about new ones, and
 * lets only the series of old ones change. Paths are those of the stored form. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define EVENT_REASON_MAX 128
#define EVENT_ACTION_MAX 128
#define EVENT_INSTANCE_MAX 128
#define EVENT_NOTE_MAX 1024

static void validate_text(const struct json *event, const char *key, size_t max, struct field_errors *e)
{
	const struct field_path *path = FIELD_STR(NULL, str_of(key));

	if (!json_get_str(event, key).n)
		field_required(e, path, NULL);
	if (json_get_str(event, key).n > max)
		field_invalid_str(e, path, STR(""), "can have at most %zu characters", max);
}

/* Who writes the new form has a time of its own in it, and more to keep to. */
static void validate_timed(const struct json *event, struct field_errors *e)
{
	const struct field_path *controller = FIELD(NULL, "reportingController");

	if (!json_get_str(event, "reportingComponent").n)
		field_required(e, controller, NULL);
	hooks_text_validate(json_get_str(event, "reportingComponent"), validate_qualified_name, controller, e);
	validate_text(event, "reportingInstance", EVENT_INSTANCE_MAX, e);
	validate_text(event, "action", EVENT_ACTION_MAX, e);
	validate_text(event, "reason", EVENT_REASON_MAX, e);
	if (json_get_str(event, "message").n > EVENT_NOTE_MAX)
		field_invalid_str(e, FIELD(NULL, "message"), STR(""), "can have at most %d characters", EVENT_NOTE_MAX);
}

/* Events about cluster objects live in "default", or in "kube-system" when they are of the new form. */
static bool belongs(struct str ns, struct str about, bool timed)
{
	if (timed)
		return about.n || str_is(ns, "default") || str_is(ns, "kube-system");
	return about.n ? str_eq(ns, about) : !ns.n || str_is(ns, "default");
}

static void event_validate(const struct json *event, struct field_errors *e)
{
	struct str about = json_at_str(event, "involvedObject.namespace");
	bool timed = json_get_str(event, "eventTime").n > 0;

	if (!belongs(meta_namespace(event), about, timed))
		field_invalid_str(e, FIELD(NULL, "involvedObject.namespace"), about, "does not match event.namespace");
	if (timed)
		validate_timed(event, e);
}

/* ---- by way of events.k8s.io ---- */

static void validate_series(const struct json *event, struct field_errors *e)
{
	const struct json *series = json_get(event, "series");

	if (!json_is(series, JSON_OBJECT))
		return;
	if (json_get_int(series, "count", 0) < 2)
		field_invalid_str(e, FIELD(NULL, "series.count"), STR(""), "should be at least 2");
	if (!json_get_str(series, "lastObservedTime").n)
		field_required(e, FIELD(NULL, "series.lastObservedTime"), NULL);
}

static bool is_zero(const struct json *v)
{
	if (!v || v->type == JSON_NULL)
		return true;
	if (v->type == JSON_STRING)
		return !v->text.n;
	return v->type == JSON_OBJECT ? !json_count(v) : v->type == JSON_NUMBER && json_int(v, 1) == 0;
}

static void validate_new(const struct json *event, struct field_errors *e)
{
	static const char *const types[] = { "Normal", "Warning", NULL };
	static const char *const unset[] = { "firstTimestamp", "lastTimestamp", "count", "source" };

	validate_series(event, e);
	if (!json_get_str(event, "eventTime").n)
		field_required(e, FIELD(NULL, "eventTime"), NULL);
	if (!hooks_one_of(json_get_str(event, "type"), types))
		field_invalid_str(e, FIELD(NULL, "type"), STR(""), "has invalid value: %.*s",
				  STR_ARG(json_get_str(event, "type")));
	for (size_t i = 0; i < ARRAY_SIZE(unset); i++)
		if (!is_zero(json_get(event, unset[i])))
			field_invalid_str(e, FIELD_STR(NULL, str_of(unset[i])), STR(""), "needs to be unset");
}

static bool same(const struct json *a, const struct json *b)
{
	return is_zero(a) || is_zero(b) ? is_zero(a) && is_zero(b) : json_equal(a, b);
}

static void validate_form(const struct json *event, const struct json *old, struct field_errors *e)
{
	/* An absent text or number is shown as its zero. */
	static const struct {
		const char *key, *path;
		bool text, number;
	} fixed[] = {
		{ "involvedObject", "involvedObject", false, false },
		{ "reason", "reason", true, false },
		{ "message", "message", true, false },
		{ "source", "source", false, false },
		{ "firstTimestamp", "firstTimestamp", false, false },
		{ "lastTimestamp", "lastTimestamp", false, false },
		{ "count", "count", false, true },
		{ "type", "type", true, false },
		{ "eventTime", "eventTime", false, false },
		{ "action", "action", true, false },
		{ "related", "related", false, false },
		{ "reportingComponent", "reportingController", true, false },
		{ "reportingInstance", "reportingInstance", true, false },
	};

	const struct json *series = json_get(event, "series");

	if (!old) {
		validate_new(event, e);
		return;
	}
	if (series && !(json_get(old, "series") && json_equal(series, json_get(old, "series"))))
		validate_series(event, e);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		const struct field_path *path = FIELD_STR(NULL, str_of(fixed[i].path));
		const struct json *v = json_get(event, fixed[i].key);

		if (same(v, json_get(old, fixed[i].key)))
			continue;
		if (fixed[i].text)
			field_invalid_str(e, path, json_str(v), "field is immutable");
		else if (fixed[i].number)
			field_invalid_int(e, path, json_int(v, 0), "field is immutable");
		else
			field_invalid(e, path, v, "field is immutable");
	}
}

const struct api_hooks hooks_events = { .validate = event_validate, .validate_form = validate_form };
