/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: pods until enough have succeeded. No pod is counted twice or lost: each carries a finalizer
 * until its uid stands durably in status.uncountedTerminatedPods; only when the finalizer is gone is it
 * added to the count and the uid taken off the list. podFailurePolicy, successPolicy and
 * backoffLimitPerIndex are not acted on. Loop thread only. */
#include <errno.h>
#include <inttypes.h>

#include "userspace/base/clock.h"
#include "userspace/base/map.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/job_indexes.h"
#include "userspace/controllers/owning.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/table.h"

#define JOB_BURST 64 /* pods made or deleted in one run */
#define JOB_BACKOFF_MIN_NS (10 * NS_PER_S)
#define JOB_BACKOFF_MAX_NS (600 * NS_PER_S)
#define JOB_COMPONENT "job-controller"
#define JOB_INDEX "batch.kubernetes.io/job-completion-index"

static const struct str tracking = { "batch.kubernetes.io/job-tracking",
				     sizeof("batch.kubernetes.io/job-tracking") - 1 };

struct job_pod {
	struct pod pod;
	bool finished, succeeded, tracked;
	int64_t index;
};

struct job {
	struct reconcile *ctx;
	const struct object *object;
	struct json *json, *spec, *status; /* status: the one to be */
	struct json *conditions;
	bool indexed, suspended;
	int64_t parallelism, completions; /* completions -1: a work queue */
	int64_t backoff_limit, now_ns;
	struct job_pod *pods;
	size_t n;
	struct json *uncounted_succeeded, *uncounted_failed;
	struct job_indexes done;
	int64_t succeeded, failed, active, ready, terminating;
};

/* ---- counting ---- */

static bool list_has(const struct json *list, struct str uid)
{
	json_foreach(u, list)
		if (str_eq(json_str(u), uid))
			return true;
	return false;
}

static struct job_pod *pod_find(struct job *j, struct str uid)
{
	for (size_t i = 0; i < j->n; i++)
		if (str_eq(j->pods[i].pod.object->uid, uid))
			return &j->pods[i];
	return NULL;
}

static struct job_pod judge(struct arena *arena, const struct object *o)
{
	struct job_pod p = { .pod = pod_of(arena, o), .index = -1 };
	struct str index = meta_annotation(p.pod.json, JOB_INDEX);

	p.tracked = meta_has_finalizer(p.pod.json, tracking);
	p.succeeded = p.pod.phase == POD_SUCCEEDED;
	/* A deleted pod whose time is over ended without saying how. */
	p.finished = p.succeeded || p.pod.phase == POD_FAILED ||
		     (p.pod.deleting && json_at_int(p.pod.json, "metadata.deletionGracePeriodSeconds", 1) == 0);
	if (str_to_int64(index, &p.index) < 0)
		p.index = -1;
	return p;
}

/* Uids whose pods no longer carry the finalizer become numbers. */
static int64_t settle(struct job *j, struct json *list)
{
	int64_t n = 0;

	for (struct json *u = json_first(list), *next; u; u = next) {
		struct job_pod *p = pod_find(j, json_str(u));

		next = u->next;
		if (p && p->tracked)
			continue;
		json_unlink(list, u);
		n++;
	}
	return n;
}

static int mutate_untrack(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	return meta_remove_finalizer(object, tracking) ? 0 : 1;
}

static void untrack(struct reconcile *ctx, const struct object *pod)
{
	reconcile_update(ctx, KIND_POD, pod->ns, pod->name, NULL, mutate_untrack, NULL, NULL);
}

static void count_finished(struct job *j, struct job_pod *p)
{
	struct json *list = p->succeeded ? j->uncounted_succeeded : j->uncounted_failed;
	struct json *stored = json_at(j->json, p->succeeded ? "status.uncountedTerminatedPods.succeeded"
							    : "status.uncountedTerminatedPods.failed");

	if (p->succeeded && j->indexed)
		job_indexes_add(&j->done, p->index);
	if (!p->tracked)
		return;
	if (list_has(stored, p->pod.object->uid))
		untrack(j->ctx, p->pod.object);
	else
		json_append(list, json_new_str(j->ctx->arena, p->pod.object->uid));
}

static void count_pods(struct job *j)
{
	j->succeeded = json_get_int(j->status, "succeeded", 0) + settle(j, j->uncounted_succeeded);
	j->failed = json_get_int(j->status, "failed", 0) + settle(j, j->uncounted_failed);
	for (size_t i = 0; i < j->n; i++) {
		struct job_pod *p = &j->pods[i];

		if (p->finished) {
			count_finished(j, p);
		} else if (p->pod.deleting) {
			j->terminating++;
		} else {
			j->active++;
			j->ready += p->pod.ready;
		}
	}
	if (j->indexed)
		j->succeeded = job_indexes_count(&j->done);
}

static int64_t all_succeeded(const struct job *j)
{
	return j->succeeded + (j->indexed ? 0 : (int64_t)json_count(j->uncounted_succeeded));
}

static int64_t all_failed(const struct job *j)
{
	return j->failed + (int64_t)json_count(j->uncounted_failed);
}

/* ---- the end ---- */

struct ending {
	bool success;
	const char *reason, *message;
};

static bool too_many_restarts(const struct job *j)
{
	int64_t restarts = 0;

	if (!str_is(json_at_str(j->spec, "template.spec.restartPolicy"), "OnFailure"))
		return false;
	for (size_t i = 0; i < j->n; i++)
		restarts += j->pods[i].finished ? 0 : j->pods[i].pod.restarts;
	return j->backoff_limit == 0 ? restarts > 0 : restarts >= j->backoff_limit;
}

static bool past_deadline(struct job *j)
{
	int64_t deadline = json_get_int(j->spec, "activeDeadlineSeconds", 0);
	int64_t started = stamp_ns(json_get_str(j->status, "startTime"));
	int64_t left;

	if (deadline <= 0 || started == 0 || j->suspended)
		return false;
	left = started + deadline * NS_PER_S - j->now_ns;
	if (left > 0)
		reconcile_after(j->ctx, left);
	return left <= 0;
}

/* An ending once chosen stays, while its pods go. */
static bool find_ending(struct job *j, struct ending *ret)
{
	static const struct ending success = { true, "CompletionsReached",
					       "Reached expected number of succeeded pods" };
	struct json *target = meta_condition(j->conditions, "FailureTarget");

	if (meta_condition(j->conditions, "SuccessCriteriaMet")) {
		*ret = success;
	} else if (target) {
		*ret = (struct ending){ false,
					arena_printf(j->ctx->arena, "%.*s", STR_ARG(json_get_str(target, "reason"))),
					arena_printf(j->ctx->arena, "%.*s", STR_ARG(json_get_str(target, "message"))) };
	} else if (all_failed(j) > j->backoff_limit || too_many_restarts(j)) {
		*ret = (struct ending){ false, "BackoffLimitExceeded", "Job has reached the specified backoff limit" };
	} else if (past_deadline(j)) {
		*ret = (struct ending){ false, "DeadlineExceeded", "Job was active longer than specified deadline" };
	} else if (j->completions >= 0 ? all_succeeded(j) >= j->completions : all_succeeded(j) > 0 && j->active == 0) {
		*ret = success;
	} else {
		return false;
	}
	return true;
}

static void delete_pod(struct job *j, const struct pod *p)
{
	const struct reconcile_note note = {
		.component = JOB_COMPONENT,
		.about = j->object,
		.ok_reason = "SuccessfulDelete",
		.ok_prefix = "Deleted pod: ",
		.fail_reason = "FailedDelete",
		.fail_prefix = "Error deleting: ",
	};

	reconcile_delete(j->ctx, p->object, KIND_POD, NULL, &note);
}

static void delete_active(struct job *j, int64_t n)
{
	for (size_t i = 0; i < j->n && n > 0 && !reconcile_full(j->ctx); i++)
		if (!j->pods[i].finished && !j->pods[i].pod.deleting) {
			delete_pod(j, &j->pods[i].pod);
			n--;
		}
}

static void set_condition(struct job *j, const char *type, const char *status, const char *reason, const char *message)
{
	condition_set(j->ctx->arena, j->conditions, &(struct condition){ type, status, reason, message });
}

static void end(struct job *j, const struct ending *e)
{
	bool counted = json_count(j->uncounted_succeeded) == 0 && json_count(j->uncounted_failed) == 0;

	delete_active(j, j->active);
	set_condition(j, e->success ? "SuccessCriteriaMet" : "FailureTarget", "True", e->reason, e->message);
	if (!counted || j->active > 0 || j->terminating > 0)
		return;
	set_condition(j, e->success ? "Complete" : "Failed", "True", e->reason, e->message);
	if (e->success) {
		json_set_cstr(j->ctx->arena, j->status, "completionTime", stamp_now(j->ctx->arena));
		registry_event(j->ctx->reg, JOB_COMPONENT, j->object, "Normal", "Completed", "Job completed");
	} else {
		registry_event(j->ctx->reg, JOB_COMPONENT, j->object, "Warning", e->reason, "%s", e->message);
	}
}

/* ---- making pods ---- */

static int64_t backoff_left(struct job *j)
{
	int64_t delay = JOB_BACKOFF_MIN_NS, last = 0;

	for (size_t i = 0; i < j->n; i++) {
		int64_t ended = 0;

		if (!j->pods[i].finished || j->pods[i].succeeded)
			continue;
		json_foreach(c, json_at(j->pods[i].pod.json, "status.containerStatuses")) {
			int64_t at = stamp_at_ns(c, "state.terminated.finishedAt");

			ended = at > ended ? at : ended;
		}
		ended = ended ? ended : j->pods[i].pod.created_ns;
		last = ended > last ? ended : last;
	}
	if (last == 0 || all_failed(j) == 0)
		return 0;
	for (int64_t i = 1; i < all_failed(j) && delay < JOB_BACKOFF_MAX_NS; i++)
		delay *= 2;
	delay = delay < JOB_BACKOFF_MAX_NS ? delay : JOB_BACKOFF_MAX_NS;
	return last + delay > j->now_ns ? last + delay - j->now_ns : 0;
}

/* The lowest index that is neither done nor being worked on; -1: none. */
static int64_t free_index(struct job *j, struct job_indexes *taken)
{
	for (int64_t i = 0; i < j->done.n; i++)
		if (!job_indexes_has(&j->done, i) && !job_indexes_has(taken, i)) {
			job_indexes_add(taken, i);
			return i;
		}
	return -1;
}

static void add_index_env(struct arena *arena, struct json *containers)
{
	json_foreach(c, containers) {
		struct json *env = json_ensure_array(arena, c, "env"), *var = json_new_object(arena), *ref;

		json_set_cstr(arena, var, "name", "JOB_COMPLETION_INDEX");
		ref = json_ensure_object(arena, json_ensure_object(arena, var, "valueFrom"), "fieldRef");
		json_set_cstr(arena, ref, "fieldPath", "metadata.labels['" JOB_INDEX "']");
		json_append(env, var);
	}
}

static void make_pod(struct job *j, int64_t index)
{
	struct arena *arena = j->ctx->arena;
	struct json *pod = pod_from_template(arena, json_get(j->spec, "template"), KIND_JOB, j->object, STR_NULL);
	const struct reconcile_note note = {
		.component = JOB_COMPONENT,
		.about = j->object,
		.ok_reason = "SuccessfulCreate",
		.ok_prefix = "Created pod: ",
		.fail_reason = "FailedCreate",
		.fail_prefix = "Error creating: ",
	};

	meta_add_finalizer(arena, pod, tracking);
	if (index >= 0) {
		struct str text = str_of(arena_printf(arena, "%" PRId64, index));

		meta_set_annotation(arena, pod, JOB_INDEX, text);
		meta_set_label(arena, pod, JOB_INDEX, text);
		json_set_cstr(arena, json_get(pod, "metadata"), "generateName",
			      arena_printf(arena, "%.*s-%" PRId64 "-", STR_ARG(j->object->name), index));
		if (json_at_str(pod, "spec.hostname").n == 0)
			json_set_cstr(arena, json_get(pod, "spec"), "hostname",
				      arena_printf(arena, "%.*s-%" PRId64, STR_ARG(j->object->name), index));
		add_index_env(arena, json_at(pod, "spec.containers"));
		add_index_env(arena, json_at(pod, "spec.initContainers"));
	}
	reconcile_create(j->ctx, KIND_POD, pod, &note);
}

static void make_pods(struct job *j, int64_t n)
{
	struct job_indexes taken = job_indexes_parse(j->ctx->arena, STR_NULL, j->done.n);
	int64_t wait = backoff_left(j);

	if (wait > 0) {
		reconcile_after(j->ctx, wait);
		return;
	}
	for (size_t i = 0; i < j->n; i++)
		if (!j->pods[i].finished && !j->pods[i].pod.deleting)
			job_indexes_add(&taken, j->pods[i].index);
	n = j->ctx->failure ? 1 : n;
	for (int64_t i = 0; i < n && i < JOB_BURST; i++) {
		int64_t index = j->indexed ? free_index(j, &taken) : -1;

		if (j->indexed && index < 0)
			return;
		make_pod(j, index);
	}
}

static void go_on(struct job *j)
{
	bool was_suspended = meta_condition_is(j->conditions, "Suspended", "True");
	int64_t want = j->parallelism;

	if (j->suspended) {
		delete_active(j, j->active);
		set_condition(j, "Suspended", "True", "JobSuspended", "Job suspended");
		json_remove(j->status, "startTime");
		if (!was_suspended)
			registry_event(j->ctx->reg, JOB_COMPONENT, j->object, "Normal", "Suspended", "Job suspended");
		return;
	}
	if (was_suspended) {
		set_condition(j, "Suspended", "False", "JobResumed", "Job resumed");
		registry_event(j->ctx->reg, JOB_COMPONENT, j->object, "Normal", "Resumed", "Job resumed");
	}
	if (j->completions >= 0 && want > j->completions - all_succeeded(j))
		want = j->completions - all_succeeded(j);
	else if (j->completions < 0 && all_succeeded(j) > 0 && want > j->active)
		want = j->active; /* a work queue that has begun to end takes no new workers */
	if (j->active > want)
		delete_active(j, j->active - want);
	else if (j->active < want)
		make_pods(j, want - j->active);
}

/* ---- the whole ---- */

static void load(struct job *j, const struct objects *owned)
{
	struct arena *arena = j->ctx->arena;
	struct json *uncounted;

	j->status = json_clone(arena, json_get(j->json, "status"));
	if (!json_is(j->status, JSON_OBJECT))
		j->status = json_new_object(arena);
	j->conditions = json_ensure_array(arena, j->status, "conditions");
	uncounted = json_ensure_object(arena, j->status, "uncountedTerminatedPods");
	j->uncounted_succeeded = json_ensure_array(arena, uncounted, "succeeded");
	j->uncounted_failed = json_ensure_array(arena, uncounted, "failed");
	j->indexed = str_is(json_get_str(j->spec, "completionMode"), "Indexed");
	j->suspended = json_get_bool(j->spec, "suspend", false);
	j->parallelism = json_get_int(j->spec, "parallelism", 1);
	j->completions = json_get_int(j->spec, "completions", -1);
	j->backoff_limit = json_get_int(j->spec, "backoffLimit", 6);
	j->done =
		job_indexes_parse(arena, json_get_str(j->status, "completedIndexes"), j->indexed ? j->completions : 0);
	j->pods = arena_new_array(arena, struct job_pod, owned->n + 1);
	for (size_t i = 0; i < owned->n; i++)
		j->pods[j->n++] = judge(arena, owned->items[i]);
	if (!j->suspended && json_get_str(j->status, "startTime").n == 0)
		json_set_cstr(arena, j->status, "startTime", stamp_now(arena));
}

static void set_or_remove(struct arena *arena, struct json *status, const char *key, int64_t v)
{
	if (v)
		json_set_int(arena, status, key, v);
	else
		json_remove(status, key);
}

static void write_status(struct job *j)
{
	struct arena *arena = j->ctx->arena;
	struct json *uncounted = json_get(j->status, "uncountedTerminatedPods");

	set_or_remove(arena, j->status, "active", j->active);
	set_or_remove(arena, j->status, "succeeded", j->succeeded);
	set_or_remove(arena, j->status, "failed", j->failed);
	json_set_int(arena, j->status, "ready", j->ready);
	json_set_int(arena, j->status, "terminating", j->terminating);
	if (j->indexed && job_indexes_count(&j->done) > 0)
		json_set_cstr(arena, j->status, "completedIndexes", job_indexes_text(arena, &j->done));
	if (json_count(j->uncounted_succeeded) == 0)
		json_remove(uncounted, "succeeded");
	if (json_count(j->uncounted_failed) == 0)
		json_remove(uncounted, "failed");
	if (json_count(j->conditions) == 0)
		json_remove(j->status, "conditions");
	reconcile_set_status(j->ctx, KIND_JOB, j->object, j->status);
}

/* Pods of a job that is over or gone keep no finalizer. */
static void release_pods(struct reconcile *ctx, const struct objects *pods)
{
	for (size_t i = 0; i < pods->n && !reconcile_full(ctx); i++)
		if (pods->items[i]->has_finalizers &&
		    meta_has_finalizer(registry_parse(ctx->arena, pods->items[i]), tracking))
			untrack(ctx, pods->items[i]);
}

static void release_strays(struct reconcile *ctx)
{
	struct objects all = objects_all(ctx->arena, ctx->reg, KIND_POD, ctx->ns);
	struct objects strays = { .arena = ctx->arena };

	for (size_t i = 0; i < all.n; i++) {
		const struct object_owner *owner = object_controller(all.items[i]);

		if (owner && str_is(owner->kind, "Job") && str_eq(owner->name, ctx->name) &&
		    !registry_by_uid(ctx->reg, owner->uid))
			objects_add(&strays, all.items[i]);
	}
	release_pods(ctx, &strays);
}

static void after_end(struct job *j, const struct objects *owned)
{
	struct json *ttl = json_get(j->spec, "ttlSecondsAfterFinished");
	struct json *condition = meta_condition(j->conditions, "Complete");
	const struct registry_delete_options options = {
		.grace_period_s = -1,
		.propagation = "Foreground",
		.uid = j->object->uid,
	};
	int64_t left;

	release_pods(j->ctx, owned);
	if (!ttl)
		return;
	if (!meta_condition_is(j->conditions, "Complete", "True"))
		condition = meta_condition(j->conditions, "Failed");
	left = stamp_ns(json_get_str(condition, "lastTransitionTime")) + json_int(ttl, 0) * NS_PER_S - j->now_ns;
	if (left > 0)
		reconcile_after(j->ctx, left);
	else
		reconcile_delete(j->ctx, j->object, KIND_JOB, &options, NULL);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct job j = { .ctx = ctx, .now_ns = clock_real_ns() };
	struct selector selector;
	struct objects owned;
	struct ending ending;

	j.object = registry_get(ctx->reg, KIND_JOB, ctx->ns, ctx->name);
	release_strays(ctx);
	if (!j.object)
		return 0;
	j.json = registry_parse(ctx->arena, j.object);
	j.spec = json_get(j.json, "spec");
	selector = selector_of_labels(ctx->arena, json_get(j.spec, "selector"));
	if (!owning_claim(ctx, KIND_JOB, j.object, KIND_POD, &selector, &owned))
		return 0;
	load(&j, &owned);
	if (j.object->deleting) {
		release_pods(ctx, &owned);
		return 0;
	}
	if (meta_condition_is(j.conditions, "Complete", "True") || meta_condition_is(j.conditions, "Failed", "True")) {
		after_end(&j, &owned);
		return 0;
	}
	count_pods(&j);
	if (find_ending(&j, &ending))
		end(&j, &ending);
	else
		go_on(&j);
	write_status(&j);
	return 0;
}

static void map_pod(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	owning_enqueue(r, KIND_JOB, o, prev, type);
}

static const struct controller_watch watches[] = {
	{ &KIND_JOB, runner_enqueue_self },
	{ &KIND_POD, map_pod },
};

const struct controller controller_job = {
	.name = "job",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
