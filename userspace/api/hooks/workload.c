/* SPDX-License-Identifier: Apache-2.0 */
/* Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers, ControllerRevisions: computed
 * defaults, and the rules around selector, template and strategy. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/intstr.h"
#include "userspace/api/meta.h"
#include "userspace/api/selector.h"
#include "userspace/base/mem.h"

#define BAD_SELECTOR "invalid label selector"
#define SELECTOR_MISMATCH "`selector` does not match template `labels`"

static const char *const always[] = { "Always", NULL };

/* ---- shared ---- */

static void template_defaults(struct arena *arena, struct json *object)
{
	hooks_pod_spec_defaults(arena, json_at(object, "spec.template.spec"));
}

/* `what`: as in "empty selector is invalid for deployment". `why_bad`: said of one that is no selector; NULL: nothing.
 */
static void validate_selector(const struct json *object, const char *what, const char *why_bad, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *selector = json_at(object, "spec.selector"),
			  *labels = json_at(object, "spec.template.metadata.labels");
	struct selector s;

	/* None matches nothing; the schema tells that it is required. One that is empty matches all. */
	if (selector && !json_count(json_get(selector, "matchLabels")) &&
	    !json_count(json_get(selector, "matchExpressions"))) {
		field_invalid(e, FIELD(NULL, "spec.selector"), selector, "empty selector is invalid for %s", what);
		return;
	}
	/* What is bad about one is told by the schema's check. */
	if (selector && selector_from_json(&arena, selector, &s, NULL) < 0) {
		if (why_bad)
			field_invalid(e, FIELD(NULL, "spec.selector"), selector, *why_bad ? "%s" : NULL, why_bad);
		return;
	}
	if (!selector || !selector_matches_map(&s, labels))
		field_invalid(e, FIELD(NULL, "spec.template.metadata.labels"), labels, SELECTOR_MISMATCH);
}

static void validate_template(const struct json *object, const char *kind, struct field_errors *e)
{
	const struct json *spec = json_at(object, "spec.template.spec");
	const struct field_path *path = FIELD(NULL, "spec.template.spec");
	struct str restart = json_get_str(spec, "restartPolicy");

	hooks_pod_template_validate(json_at(object, "spec.template"), FIELD(NULL, "spec.template"), e);
	if (restart.n && !str_is(restart, "Always"))
		field_not_supported(e, FIELD(path, "restartPolicy"), restart, always);
	if (json_get(spec, "activeDeadlineSeconds"))
		field_forbidden(e, FIELD(path, "activeDeadlineSeconds"), "activeDeadlineSeconds in %s is not Supported",
				kind);
}

/* A whole number of pods or a percentage of at most `percent_max` (0: any). */
static void validate_int_or_percent(const struct json *v, int64_t percent_max, const struct field_path *path,
				    struct field_errors *e)
{
	int64_t percent;

	if (!v)
		return;
	if (json_is(v, JSON_NUMBER)) {
		if (json_int(v, -1) < 0)
			field_invalid(e, path, v, "must be greater than or equal to 0");
		return;
	}
	if (!intstr_percent(v, &percent))
		field_invalid(
			e, path, v,
			"a valid percent string must be a numeric string followed by an ending '%%' (e.g. '1%%',  or "
			"'93%%', regex used for validation is '[0-9]+%%')");
	else if (percent_max && percent > percent_max)
		field_invalid(e, path, v, "must not be greater than 100%%");
}

static bool is_zero(const struct json *v)
{
	int64_t percent;

	return (json_is(v, JSON_NUMBER) && json_int(v, 1) == 0) || (intstr_percent(v, &percent) && percent == 0);
}

/* Counts of a status: none below 0, none above the whole. `counts[0]` is the whole. */
static void validate_counts(const struct json *object, const struct json *old, const char *const *counts,
			    struct field_errors *e)
{
	const struct json *status = json_get(object, "status"), *collisions = json_get(status, "collisionCount"),
			  *before = json_at(old, "status.collisionCount");
	const struct field_path *path = FIELD(NULL, "status");
	int64_t whole = json_get_int(status, counts[0], 0);

	for (const char *const *c = counts; *c; c++)
		hooks_nonnegative(status, *c, path, e);
	hooks_nonnegative(status, "observedGeneration", path, e);
	for (const char *const *c = counts + 1; *c; c++)
		if (json_get_int(status, *c, 0) > whole)
			field_invalid_int(e, FIELD_STR(path, str_of(*c)), json_get_int(status, *c, 0),
					  "cannot be greater than status.replicas");
	if (json_get_int(status, "availableReplicas", 0) > json_get_int(status, "readyReplicas", 0))
		field_invalid_int(e, FIELD(path, "availableReplicas"), json_get_int(status, "availableReplicas", 0),
				  "cannot be greater than readyReplicas");
	if (before && (!collisions || json_int(collisions, 0) < json_int(before, 0)))
		field_invalid_int(e, FIELD(path, "collisionCount"), json_int(collisions, 0), "cannot be decremented");
}

/* ---- Deployment ---- */

static void deployment_defaults(struct arena *arena, struct json *object)
{
	struct json *strategy = json_at(object, "spec.strategy"), *rolling;

	template_defaults(arena, object);
	if (!str_is(json_get_str(strategy, "type"), "RollingUpdate"))
		return;
	rolling = json_ensure_object(arena, strategy, "rollingUpdate");
	hooks_default_str(arena, rolling, "maxUnavailable", "25%");
	hooks_default_str(arena, rolling, "maxSurge", "25%");
}

static void deployment_validate(const struct json *object, struct field_errors *e)
{
	const struct json *spec = json_get(object, "spec"), *strategy = json_get(spec, "strategy"),
			  *rolling = json_get(strategy, "rollingUpdate");
	const struct field_path *path = FIELD(NULL, "spec"), *at = FIELD(path, "strategy.rollingUpdate");
	int64_t deadline = json_get_int(spec, "progressDeadlineSeconds", INT64_MAX);

	validate_selector(object, "deployment", BAD_SELECTOR, e);
	validate_template(object, "ReplicaSet", e);
	if (str_is(json_get_str(strategy, "type"), "Recreate") && rolling)
		field_forbidden(e, at, "may not be specified when strategy `type` is 'Recreate'");
	if (str_is(json_get_str(strategy, "type"), "RollingUpdate")) {
		const struct json *unavailable = json_get(rolling, "maxUnavailable"),
				  *surge = json_get(rolling, "maxSurge");

		validate_int_or_percent(unavailable, 100, FIELD(at, "maxUnavailable"), e);
		validate_int_or_percent(surge, 0, FIELD(at, "maxSurge"), e);
		if (is_zero(unavailable) && is_zero(surge))
			field_invalid(e, FIELD(at, "maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0");
	}
	if (deadline <= json_get_int(spec, "minReadySeconds", 0))
		field_invalid_int(e, FIELD(path, "progressDeadlineSeconds"), deadline,
				  "must be greater than minReadySeconds");
}

static void deployment_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const counts[] = { "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
					      NULL };

	validate_counts(object, old, counts, e);
}

const struct api_hooks hooks_deployments = {
	.generation = true,
	.generation_on_annotations = true,
	.defaults = deployment_defaults,
	.validate = deployment_validate,
	.validate_status = deployment_validate_status,
	.warnings = hooks_template_warnings,
};

/* ---- ReplicaSet ---- */

static void replicaset_validate(const struct json *object, struct field_errors *e)
{
	validate_selector(object, "deployment", BAD_SELECTOR, e); /* upstream's word for it */
	validate_template(object, "ReplicaSet", e);
}

/* The status a controller may not know yet must still be countable: replicas is always shown. */
static void replicas_prepare_create(struct arena *arena, struct json *object)
{
	json_set_int(arena, json_ensure_object(arena, object, "status"), "replicas", 0);
}

static void replicas_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const counts[] = { "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas",
					      NULL };

	validate_counts(object, old, counts, e);
}

const struct api_hooks hooks_replicasets = {
	.generation = true,
	.defaults = template_defaults,
	.prepare_create = replicas_prepare_create,
	.validate = replicaset_validate,
	.validate_status = replicas_validate_status,
	.warnings = hooks_template_warnings,
};

/* ---- DaemonSet ---- */

static void daemonset_defaults(struct arena *arena, struct json *object)
{
	struct json *strategy = json_at(object, "spec.updateStrategy"), *rolling;

	template_defaults(arena, object);
	if (!str_is(json_get_str(strategy, "type"), "RollingUpdate"))
		return;
	rolling = json_ensure_object(arena, strategy, "rollingUpdate");
	hooks_default_int(arena, rolling, "maxUnavailable", 1);
	hooks_default_int(arena, rolling, "maxSurge", 0);
}

static void daemonset_validate(const struct json *object, struct field_errors *e)
{
	const struct json *strategy = json_at(object, "spec.updateStrategy"),
			  *rolling = json_get(strategy, "rollingUpdate"),
			  *unavailable = json_get(rolling, "maxUnavailable"), *surge = json_get(rolling, "maxSurge");
	const struct field_path *at = FIELD(NULL, "spec.updateStrategy.rollingUpdate");

	validate_selector(object, "daemonset", NULL, e);
	validate_template(object, "DaemonSet", e);
	if (!str_is(json_get_str(strategy, "type"), "RollingUpdate"))
		return;
	validate_int_or_percent(unavailable, 100, FIELD(at, "maxUnavailable"), e);
	validate_int_or_percent(surge, 100, FIELD(at, "maxSurge"), e);
	if (is_zero(unavailable) && is_zero(surge))
		field_required(e, FIELD(at, "maxUnavailable"), "cannot be 0 when maxSurge is 0");
	else if (!is_zero(unavailable) && surge && !is_zero(surge))
		field_invalid(e, FIELD(at, "maxSurge"), surge, "may not be set when maxUnavailable is non-zero");
}

static void daemonset_prepare_create(struct arena *arena, struct json *object)
{
	static const char *const counts[] = { "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled",
					      "numberReady" };
	struct json *status = json_ensure_object(arena, object, "status");

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		json_set_int(arena, status, counts[i], 0);
}

static void daemonset_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const counts[] = { "currentNumberScheduled", "numberMisscheduled",
					      "desiredNumberScheduled", "numberReady",
					      "observedGeneration",     "updatedNumberScheduled",
					      "numberAvailable",        "numberUnavailable" };
	const struct json *now = json_at(object, "status.collisionCount"), *was = json_at(old, "status.collisionCount");

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		hooks_nonnegative(json_get(object, "status"), counts[i], FIELD(NULL, "status"), e);
	if (was && json_int(now, 0) < json_int(was, 0))
		field_invalid_int(e, FIELD(NULL, "status.collisionCount"), json_int(now, 0), "cannot be decremented");
}

const struct api_hooks hooks_daemonsets = {
	.generation = true,
	.defaults = daemonset_defaults,
	.prepare_create = daemonset_prepare_create,
	.validate = daemonset_validate,
	.validate_status = daemonset_validate_status,
	.warnings = hooks_template_warnings,
};

/* ---- StatefulSet ---- */

static void statefulset_defaults(struct arena *arena, struct json *object)
{
	struct json *strategy = json_at(object, "spec.updateStrategy");

	template_defaults(arena, object);
	if (str_is(json_get_str(strategy, "type"), "RollingUpdate"))
		hooks_default_int(arena, json_ensure_object(arena, strategy, "rollingUpdate"), "partition", 0);
	json_foreach(claim, json_at(object, "spec.volumeClaimTemplates")) {
		hooks_default_str(arena, claim, "apiVersion", "v1");
		hooks_default_str(arena, claim, "kind", "PersistentVolumeClaim");
		hooks_default_str(arena, json_ensure_object(arena, claim, "spec"), "volumeMode", "Filesystem");
		hooks_default_str(arena, json_ensure_object(arena, claim, "status"), "phase", "Pending");
	}
}

static void validate_statefulset_spec(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const retentions[] = { "Retain", "Delete", NULL };
	static const char *const events[] = { "whenDeleted", "whenScaled" };
	const struct json *strategy = json_get(spec, "updateStrategy"), *rolling = json_get(strategy, "rollingUpdate"),
			  *retention = json_get(spec, "persistentVolumeClaimRetentionPolicy"),
			  *unavailable = json_get(rolling, "maxUnavailable");
	struct str management = json_get_str(spec, "podManagementPolicy"), type = json_get_str(strategy, "type");
	const struct field_path *at = FIELD(path, "updateStrategy");

	if (management.n && !str_is(management, "OrderedReady") && !str_is(management, "Parallel"))
		field_invalid_str(e, FIELD(path, "podManagementPolicy"), management,
				  "must be 'OrderedReady' or 'Parallel'");
	if (str_is(type, "OnDelete") && rolling)
		field_invalid(e, FIELD(at, "rollingUpdate"), rolling,
			      "only allowed for updateStrategy 'RollingUpdate'");
	else if (type.n && !str_is(type, "OnDelete") && !str_is(type, "RollingUpdate"))
		field_invalid(e, at, strategy, "must be 'RollingUpdate' or 'OnDelete'");
	validate_int_or_percent(unavailable, 100, FIELD(FIELD(at, "rollingUpdate"), "maxUnavailable"), e);
	if (unavailable && is_zero(unavailable))
		field_invalid(e, FIELD(FIELD(at, "rollingUpdate"), "maxUnavailable"), unavailable, "cannot be 0");
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (json_get_str(retention, events[i]).n)
			hooks_supported(
				json_get_str(retention, events[i]), retentions,
				FIELD_STR(FIELD(path, "persistentVolumeClaimRetentionPolicy"), str_of(events[i])), e);
}

static void statefulset_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const counts[] = { "replicas",        "readyReplicas",     "currentReplicas",
					      "updatedReplicas", "availableReplicas", NULL };

	validate_counts(object, old, counts, e);
}

static void statefulset_validate(const struct json *object, struct field_errors *e)
{
	validate_selector(object, "statefulset", "", e);
	validate_statefulset_spec(json_get(object, "spec"), FIELD(NULL, "spec"), e);
	/* Mounts may name claim templates: put them in as volumes for the check. */
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *copy = json_clone(&arena, object), *spec = json_at(copy, "spec.template.spec"), *volumes;

	if (json_is(spec, JSON_OBJECT) && json_count(json_at(object, "spec.volumeClaimTemplates"))) {
		volumes = json_ensure_array(&arena, spec, "volumes");
		json_foreach(claim, json_at(object, "spec.volumeClaimTemplates")) {
			struct json *v = json_new_object(&arena);

			json_set_str(&arena, v, "name", meta_name(claim));
			json_set(v, "emptyDir", json_new_object(&arena));
			json_append(volumes, v);
		}
	}
	validate_template(copy, "StatefulSet", e);
}

static void statefulset_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const free_fields[] = { "replicas",
						   "ordinals",
						   "template",
						   "updateStrategy",
						   "minReadySeconds",
						   "persistentVolumeClaimRetentionPolicy",
						   "revisionHistoryLimit" };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *a = json_clone(&arena, json_get(object, "spec")), *b = json_clone(&arena, json_get(old, "spec"));

	if (!json_is(a, JSON_OBJECT) || !json_is(b, JSON_OBJECT))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(free_fields); i++) {
		json_remove(a, free_fields[i]);
		json_remove(b, free_fields[i]);
	}
	if (!json_equal(a, b))
		field_forbidden(e, FIELD(NULL, "spec"),
				"updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
				"'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
				"'minReadySeconds' are forbidden");
}

const struct api_hooks hooks_statefulsets = {
	.generation = true,
	.defaults = statefulset_defaults,
	.prepare_create = replicas_prepare_create,
	.validate = statefulset_validate,
	.validate_status = statefulset_validate_status,
	.warnings = hooks_template_warnings,
	.validate_update = statefulset_validate_update,
};

/* ---- ReplicationController ---- */

static void rc_defaults(struct arena *arena, struct json *object)
{
	struct json *spec = json_get(object, "spec"), *labels = json_at(object, "spec.template.metadata.labels");

	template_defaults(arena, object);
	if (!json_count(labels) || !json_is(spec, JSON_OBJECT))
		return;
	if (!json_count(json_get(spec, "selector")))
		json_set(spec, "selector", json_clone(arena, labels));
	if (!json_count(json_get(meta_of(object), "labels")))
		json_set(meta_ensure(arena, object), "labels", json_clone(arena, labels));
}

static void rc_validate(const struct json *object, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *selector = json_at(object, "spec.selector"),
			  *labels = json_at(object, "spec.template.metadata.labels");
	struct selector s;

	if (!json_count(selector))
		field_required(e, FIELD(NULL, "spec.selector"), NULL);
	if (!json_at(object, "spec.template")) {
		field_required(e, FIELD(NULL, "spec.template"), NULL);
		return;
	}
	selector_from_map(&arena, selector, &s);
	if (!selector_matches_map(&s, labels))
		field_invalid(e, FIELD(NULL, "spec.template.metadata.labels"), labels, SELECTOR_MISMATCH);
	validate_template(object, "ReplicationController", e);
}

const struct api_hooks hooks_replicationcontrollers = {
	.generation = true,
	.defaults = rc_defaults,
	.prepare_create = replicas_prepare_create,
	.validate = rc_validate,
	.validate_status = replicas_validate_status,
	.warnings = hooks_template_warnings,
	.default_propagation = "Orphan", /* as upstream has kept it for v1 */
};

/* ---- ControllerRevision ---- */

static void revision_validate(const struct json *object, struct field_errors *e)
{
	const struct json *data = json_get(object, "data");

	if (!data || data->type == JSON_NULL)
		field_required(e, FIELD(NULL, "data"), "data is mandatory");
}

const struct api_hooks hooks_controllerrevisions = { .validate = revision_validate };
