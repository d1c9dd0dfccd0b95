/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and CronJobs: computed defaults, the selector that the server makes from the uid, schedules.
 * No state. Any thread. */
#include <string.h>
#include <strings.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/selector.h"
#include "userspace/base/mem.h"

static const char *const job_policies[] = { "OnFailure", "Never", NULL };

/* ---- Job ---- */

static void spec_defaults(struct arena *arena, struct json *spec)
{
	if (!json_is(spec, JSON_OBJECT))
		return;
	hooks_pod_spec_defaults(arena, json_at(spec, "template.spec"));
	/* Without either a job is one pod; a work queue names only its parallelism. */
	if (!json_get(spec, "completions") && !json_get(spec, "parallelism"))
		json_set_int(arena, spec, "completions", 1);
	hooks_default_int(arena, spec, "parallelism", 1);
	if (json_get(spec, "backoffLimitPerIndex"))
		hooks_default_int(arena, spec, "backoffLimit", INT32_MAX);
	hooks_default_int(arena, spec, "backoffLimit", 6);
	hooks_default_str(arena, spec, "completionMode", "NonIndexed");
	hooks_default_bool(arena, spec, "suspend", false);
	hooks_default_str(arena, spec, "podReplacementPolicy",
			  json_get(spec, "podFailurePolicy") ? "Failed" : "TerminatingOrFailed");
	json_foreach(rule, json_at(spec, "podFailurePolicy.rules"))
		json_foreach(c, json_get(rule, "onPodConditions"))
			hooks_default_str(arena, c, "status", "True");
}

static void job_defaults(struct arena *arena, struct json *job)
{
	struct json *labels = json_at(job, "spec.template.metadata.labels");

	spec_defaults(arena, json_get(job, "spec"));
	if (json_count(labels) && !json_count(json_get(meta_of(job), "labels")))
		json_set(meta_ensure(arena, job), "labels", json_clone(arena, labels));
}

/* Needs metadata.uid: the registry sets it before. */
static void job_prepare_create(struct arena *arena, struct json *job)
{
	static const char *const uid_labels[] = { "controller-uid", "batch.kubernetes.io/controller-uid" };
	static const char *const name_labels[] = { "job-name", "batch.kubernetes.io/job-name" };
	struct json *spec = json_ensure_object(arena, job, "spec"), *labels, *match;
	struct str uid = meta_uid(job), name = meta_name(job);

	if (json_get_bool(spec, "manualSelector", false) || !uid.n)
		return;
	labels = json_ensure_object(
		arena, json_ensure_object(arena, json_ensure_object(arena, spec, "template"), "metadata"), "labels");
	for (size_t i = 0; i < ARRAY_SIZE(uid_labels); i++) {
		json_set_str(arena, labels, uid_labels[i], uid);
		json_set_str(arena, labels, name_labels[i], name);
	}
	match = json_ensure_object(arena, json_ensure_object(arena, spec, "selector"), "matchLabels");
	json_set_str(arena, match, "batch.kubernetes.io/controller-uid", uid);
}

static void validate_job_spec(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *pod = json_at(spec, "template.spec");
	const struct field_path *template = FIELD(path, "template.spec");
	struct str restart = json_get_str(pod, "restartPolicy");
	bool indexed = str_is(json_get_str(spec, "completionMode"), "Indexed");

	hooks_pod_template_validate(json_get(spec, "template"), FIELD(path, "template"), e);
	/* The schema's default of pods is Always, which a job cannot be. */
	if (!restart.n || str_is(restart, "Always"))
		field_required(e, FIELD(template, "restartPolicy"), "valid values: \"OnFailure\", \"Never\"");
	else if (!str_is(restart, "OnFailure") && !str_is(restart, "Never"))
		field_not_supported(e, FIELD(template, "restartPolicy"), restart, job_policies);
	if (indexed && !json_get(spec, "completions"))
		field_required(e, FIELD(path, "completions"), "when completion mode is Indexed");
	if (!indexed && json_get(spec, "backoffLimitPerIndex"))
		field_invalid(e, FIELD(path, "backoffLimitPerIndex"), json_get(spec, "backoffLimitPerIndex"),
			      "requires indexed completion mode");
	if (json_get(spec, "podFailurePolicy") && !str_is(restart, "Never"))
		field_invalid_str(e, FIELD(template, "restartPolicy"), restart,
				  "only \"Never\" is supported when podFailurePolicy is specified");
}

static void job_validate(const struct json *job, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(job, "spec"), *labels = json_at(spec, "template.metadata.labels");
	struct selector s;

	validate_job_spec(spec, FIELD(NULL, "spec"), e);
	if (!json_get(spec, "selector")) {
		field_required(e, FIELD(NULL, "spec.selector"), NULL);
		return;
	}
	if (selector_from_json(&arena, json_get(spec, "selector"), &s, NULL) == 0 && !selector_matches_map(&s, labels))
		field_invalid(e, FIELD(NULL, "spec.template.metadata.labels"), labels,
			      "`selector` does not match template `labels`");
}

static void job_validate_update(const struct json *job, const struct json *old, struct field_errors *e)
{
	const struct json *spec = json_get(job, "spec"), *was = json_get(old, "spec");
	bool suspended = json_get_bool(was, "suspend", false) && !json_at(old, "status.startTime");
	bool indexed = str_is(json_get_str(spec, "completionMode"), "Indexed");

	/* Elastic indexed jobs scale both together. */
	if (!indexed || !json_equal(json_get(spec, "completions") ? json_get(spec, "completions") : spec,
				    json_get(spec, "parallelism") ? json_get(spec, "parallelism") : spec))
		validate_immutable(json_get(spec, "completions"), json_get(was, "completions"),
				   FIELD(NULL, "spec.completions"), e);
	/* The scheduling directives of a job that never started may still change. */
	if (!suspended)
		validate_immutable(json_get(spec, "template"), json_get(was, "template"), FIELD(NULL, "spec.template"),
				   e);
	validate_immutable(json_get(spec, "podFailurePolicy"), json_get(was, "podFailurePolicy"),
			   FIELD(NULL, "spec.podFailurePolicy"), e);
	validate_immutable(json_get(spec, "backoffLimitPerIndex"), json_get(was, "backoffLimitPerIndex"),
			   FIELD(NULL, "spec.backoffLimitPerIndex"), e);
}

const struct api_hooks hooks_jobs = {
	.generation = true,
	.defaults = job_defaults,
	.prepare_create = job_prepare_create,
	.validate = job_validate,
	.warnings = hooks_template_warnings,
	.validate_update = job_validate_update,
	.default_propagation = "Orphan", /* as upstream has kept it for batch/v1 */
};

/* ---- schedules: five fields of cron, @names, @every ---- */

struct cron_field {
	const char *what;
	int min, max;
	const char *names; /* three letters each, from min on */
};

static const struct cron_field cron_fields[] = {
	{ "minute", 0, 59, "" },
	{ "hour", 0, 23, "" },
	{ "day of month", 1, 31, "" },
	{ "month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec" },
	{ "day of week", 0, 6, "sunmontuewedthufrisat" },
};

static bool cron_number(struct str s, const struct cron_field *f, int64_t *ret)
{
	if (s.n == 3)
		for (size_t i = 0; f->names[i]; i += 3)
			if (!strncasecmp(s.p, f->names + i, 3)) {
				*ret = f->min + (int64_t)(i / 3);
				return true;
			}
	return s.n && s.p[0] >= '0' && s.p[0] <= '9' && !str_to_int64(s, ret);
}

/* One of the comma-separated terms: (*|?|n|n-m)[/step] */
static bool cron_term(struct str s, const struct cron_field *f)
{
	long slash = str_find(s, '/'), dash;
	struct str range = slash < 0 ? s : str_make(s.p, (size_t)slash);
	int64_t low, high, step;

	if (slash >= 0) {
		struct str text = str_make(s.p + slash + 1, s.n - (size_t)slash - 1);

		if (!text.n || text.p[0] < '0' || text.p[0] > '9' || str_to_int64(text, &step) < 0 || step < 1)
			return false;
	}
	if (str_is(range, "*") || str_is(range, "?"))
		return true;
	dash = str_find(range, '-');
	if (dash < 0)
		return cron_number(range, f, &low) && low >= f->min && low <= f->max;
	return cron_number(str_make(range.p, (size_t)dash), f, &low) &&
	       cron_number(str_make(range.p + dash + 1, range.n - (size_t)dash - 1), f, &high) && low >= f->min &&
	       high <= f->max && low <= high;
}

static bool is_every(struct str s)
{
	/* @every <Go duration>: digits with units. */
	size_t i = strlen("@every ");
	bool unit = false;

	if (!str_starts(s, STR("@every ")) || s.n == i)
		return false;
	for (; i < s.n; i++) {
		bool digit = (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.';

		if (!digit && !strchr("hmsunµ", s.p[i]))
			return false;
		unit = !digit;
	}
	return unit;
}

static bool is_schedule(struct str s)
{
	static const char *const names[] = { "@yearly", "@annually", "@monthly", "@weekly",
					     "@daily",  "@midnight", "@hourly" };
	struct str word, term;
	size_t n = 0;

	if (s.n && s.p[0] == '@') {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (str_is(s, names[i]))
				return true;
		return is_every(s);
	}
	while (str_split(&s, ' ', &word)) {
		if (!word.n)
			continue;
		if (n == ARRAY_SIZE(cron_fields))
			return false;
		while (str_split(&word, ',', &term))
			if (!cron_term(term, &cron_fields[n]))
				return false;
		n++;
	}
	return n == ARRAY_SIZE(cron_fields);
}

/* ---- CronJob ---- */

static void cronjob_defaults(struct arena *arena, struct json *object)
{
	spec_defaults(arena, json_at(object, "spec.jobTemplate.spec"));
}

#define CRONJOB_NAME_MAX 52 /* the job's suffix must fit into a label */

static void cronjob_validate(const struct json *object, struct field_errors *e)
{
	const struct json *spec = json_get(object, "spec"), *job = json_at(spec, "jobTemplate.spec");
	struct str schedule = json_get_str(spec, "schedule"), zone = json_get_str(spec, "timeZone");
	const struct field_path *path = FIELD(NULL, "spec");

	if (!schedule.n)
		field_required(e, FIELD(path, "schedule"), NULL);
	else if (str_starts(schedule, STR("TZ=")) || str_starts(schedule, STR("CRON_TZ=")))
		field_invalid_str(e, FIELD(path, "schedule"), schedule,
				  "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
	else if (!is_schedule(schedule))
		field_invalid_str(e, FIELD(path, "schedule"), schedule,
				  "expected exactly 5 fields with values in range, or a name such as @daily");
	if (json_get(spec, "timeZone") && !zone.n)
		field_invalid_str(e, FIELD(path, "timeZone"), zone, "timeZone must be nil or non-empty string");
	else if (zone.n &&
		 (!strncasecmp(zone.p, "local", zone.n) || zone.p[0] == '/' || memmem(zone.p, zone.n, "..", 2)))
		field_invalid_str(e, FIELD(path, "timeZone"), zone,
				  "timeZone must be an explicit time zone as defined in "
				  "https://www.iana.org/time-zones");
	if (meta_name(object).n > CRONJOB_NAME_MAX)
		field_invalid_str(e, FIELD(NULL, "metadata.name"), meta_name(object),
				  "must be no more than %d characters", CRONJOB_NAME_MAX);
	if (json_get_bool(job, "manualSelector", false))
		field_not_supported(e, FIELD(path, "jobTemplate.spec.manualSelector"), STR("true"),
				    (const char *const[]){ "nil", "false", NULL });
	validate_job_spec(job, FIELD(path, "jobTemplate.spec"), e);
}

const struct api_hooks hooks_cronjobs = {
	.generation = true,
	.defaults = cronjob_defaults,
	.validate = cronjob_validate,
	.warnings = hooks_template_warnings,
};
