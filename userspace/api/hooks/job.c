/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and CronJobs: computed defaults, the selector that the server makes from the uid, schedules.
 * No state. Any thread. */
#include <string.h>
#include <strings.h>

#include "userspace/api/cron.h"
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/selector.h"
#include "userspace/api/time_zone.h"
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

#define INDEXED_PARALLELISM_MAX 100000
#define FAILED_INDEXES_MAX 100000
#define COMPLETIONS_SOFT_MAX 100000
#define LARGE_PARALLELISM_MAX 10000
#define MANAGER_MAX 63

/* Many indexes with their own back-off are kept in ranges that must stay short. */
static void validate_many_indexes(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *failed = json_get(spec, "maxFailedIndexes");
	int64_t parallelism = json_get_int(spec, "parallelism", 0);
	static const char words[] = "must be less than or equal to 10000 when completions are above 100000 and used "
				    "with backoff limit per index";

	if (json_get_int(spec, "completions", 0) <= COMPLETIONS_SOFT_MAX || !json_get(spec, "backoffLimitPerIndex"))
		return;
	if (!failed)
		field_required(e, FIELD(path, "maxFailedIndexes"), "must be specified when completions is above %d",
			       COMPLETIONS_SOFT_MAX);
	else if (json_int(failed, 0) > LARGE_PARALLELISM_MAX)
		field_invalid(e, FIELD(path, "maxFailedIndexes"), failed, words);
	if (parallelism > LARGE_PARALLELISM_MAX)
		field_invalid_int(e, FIELD(path, "parallelism"), parallelism, words);
}

static void validate_indexes(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const only_indexed[] = { "backoffLimitPerIndex", "maxFailedIndexes" };
	const struct json *completions = json_get(spec, "completions"), *failed = json_get(spec, "maxFailedIndexes");
	int64_t parallelism = json_get_int(spec, "parallelism", 0);

	if (failed && !json_get(spec, "backoffLimitPerIndex"))
		field_required(e, FIELD(path, "backoffLimitPerIndex"), "when maxFailedIndexes is specified");
	if (!str_is(json_get_str(spec, "completionMode"), "Indexed")) {
		for (size_t i = 0; i < ARRAY_SIZE(only_indexed); i++)
			if (json_get(spec, only_indexed[i]))
				field_invalid(e, FIELD_STR(path, str_of(only_indexed[i])),
					      json_get(spec, only_indexed[i]), "requires indexed completion mode");
		return;
	}
	if (!completions)
		field_required(e, FIELD(path, "completions"), "when completion mode is Indexed");
	if (parallelism > INDEXED_PARALLELISM_MAX)
		field_invalid_int(e, FIELD(path, "parallelism"), parallelism,
				  "must be less than or equal to %d when completion mode is Indexed",
				  INDEXED_PARALLELISM_MAX);
	if (failed && completions && json_int(failed, 0) > json_int(completions, 0))
		field_invalid(e, FIELD(path, "maxFailedIndexes"), failed, "must be less than or equal to completions");
	if (failed && json_int(failed, 0) > FAILED_INDEXES_MAX)
		field_invalid(e, FIELD(path, "maxFailedIndexes"), failed, "must be less than or equal to %d",
			      FAILED_INDEXES_MAX);
	validate_many_indexes(spec, path, e);
}

static void validate_manager(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	struct str by = json_get_str(spec, "managedBy");
	long slash = str_find(by, '/');

	if (!json_get(spec, "managedBy"))
		return;
	if (slash < 0)
		field_invalid_str(e, FIELD(path, "managedBy"), by,
				  "must be a domain-prefixed path (such as \"acme.io/foo\")");
	else
		hooks_text_validate(str_make(by.p, (size_t)slash), validate_dns1123_subdomain, FIELD(path, "managedBy"),
				    e);
	if (by.n > MANAGER_MAX)
		field_too_long(e, FIELD(path, "managedBy"), MANAGER_MAX);
}

static void validate_job_spec(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *pod = json_at(spec, "template.spec");
	const struct field_path *template = FIELD(path, "template.spec");
	struct str restart = json_get_str(pod, "restartPolicy");

	hooks_pod_template_validate(json_get(spec, "template"), FIELD(path, "template"), e);
	/* The schema's default of pods is Always, which a job cannot be. */
	if (!restart.n || str_is(restart, "Always"))
		field_required(e, FIELD(template, "restartPolicy"), "valid values: \"OnFailure\", \"Never\"");
	else if (!str_is(restart, "OnFailure") && !str_is(restart, "Never"))
		field_not_supported(e, FIELD(template, "restartPolicy"), restart, job_policies);
	validate_indexes(spec, path, e);
	validate_manager(spec, path, e);
	hooks_job_policies_validate(spec, path, e);
}

/* What the server made of the uid has to be all that selects. */
static void validate_generated(const struct json *job, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	static const char *const uids[] = { "controller-uid", "batch.kubernetes.io/controller-uid" };
	static const char *const names[] = { "job-name", "batch.kubernetes.io/job-name" };
	const struct json *selector = json_at(job, "spec.selector");
	struct json *expected = json_new_object(&arena);
	struct selector s;

	for (size_t i = 0; i < ARRAY_SIZE(uids); i++) {
		json_set_str(&arena, expected, uids[i], meta_uid(job));
		json_set_str(&arena, expected, names[i], meta_name(job));
	}
	if (selector_from_json(&arena, selector, &s, NULL) == 0 && !selector_matches_map(&s, expected))
		field_invalid(e, FIELD(NULL, "spec.selector"), selector, "`selector` not auto-generated");
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
	if (!json_get_bool(spec, "manualSelector", false) && meta_uid(job).n)
		validate_generated(job, e);
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

static void job_validate_status(const struct json *job, const struct json *old, struct field_errors *e)
{
	static const char *const counts[] = { "active", "succeeded", "failed", "ready", "terminating" };
	const struct json *status = json_get(job, "status"), *was = json_get(old, "status");
	const struct field_path *path = FIELD(NULL, "status");

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		hooks_nonnegative(status, counts[i], path, e);
	if (json_get_int(status, "ready", 0) > json_get_int(status, "active", 0))
		field_invalid_int(e, FIELD(path, "ready"), json_get_int(status, "ready", 0),
				  "cannot set more ready pods than active");
	if (json_get(was, "completionTime") && json_get(status, "completionTime") &&
	    !json_equal(json_get(was, "completionTime"), json_get(status, "completionTime")))
		field_invalid(e, FIELD(path, "completionTime"), json_get(status, "completionTime"),
			      "field is immutable");
}

const struct api_hooks hooks_jobs = {
	.generation = true,
	.defaults = job_defaults,
	.prepare_create = job_prepare_create,
	.validate = job_validate,
	.validate_status = job_validate_status,
	.warnings = hooks_template_warnings,
	.validate_update = job_validate_update,
	.default_propagation = "Orphan", /* as upstream has kept it for batch/v1 */
};

/* ---- CronJob ---- */

static void cronjob_defaults(struct arena *arena, struct json *object)
{
	spec_defaults(arena, json_at(object, "spec.jobTemplate.spec"));
}

#define CRONJOB_NAME_MAX 52 /* the job's suffix must fit into a label */

static void validate_time_zone(struct str zone, const struct field_path *path, struct field_errors *e)
{
	bool local = zone.n == 5 && !strncasecmp(zone.p, "local", zone.n);

	if (!zone.n) {
		field_invalid_str(e, path, zone, "timeZone must be nil or non-empty string");
		return;
	}
	if (local)
		field_invalid_str(e, path, zone,
				  "timeZone must be an explicit time zone as defined in "
				  "https://www.iana.org/time-zones");
	if (!str_is(zone, "Local") && (!time_zone_well_formed(zone) || !time_zone_known(zone)))
		field_invalid_str(e, path, zone, "unknown time zone %.*s", STR_ARG(zone));
}

static void cronjob_validate(const struct json *object, struct field_errors *e)
{
	const struct json *spec = json_get(object, "spec"), *job = json_at(spec, "jobTemplate.spec");
	struct str schedule = json_get_str(spec, "schedule"), zone = json_get_str(spec, "timeZone");
	const struct field_path *path = FIELD(NULL, "spec");
	char why[CRON_ERROR_MAX];

	if (!schedule.n)
		field_required(e, FIELD(path, "schedule"), NULL);
	else if (str_starts(schedule, STR("TZ=")) || str_starts(schedule, STR("CRON_TZ=")))
		field_invalid_str(e, FIELD(path, "schedule"), schedule,
				  "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
	else if (!cron_check(schedule, why))
		field_invalid_str(e, FIELD(path, "schedule"), schedule, "%s", why);
	if (json_get(spec, "timeZone"))
		validate_time_zone(zone, FIELD(path, "timeZone"), e);
	if (meta_name(object).n > CRONJOB_NAME_MAX)
		field_invalid_str(e, FIELD(NULL, "metadata.name"), meta_name(object),
				  "must be no more than %d characters", CRONJOB_NAME_MAX);
	if (json_get(job, "selector"))
		field_invalid(e, FIELD(path, "jobTemplate.spec.selector"), json_get(job, "selector"),
			      "`selector` will be auto-generated");
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
