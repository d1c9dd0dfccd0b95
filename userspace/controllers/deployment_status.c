/* SPDX-License-Identifier: Apache-2.0 */
/* What a deployment says of itself: counts, Available, Progressing, ReplicaFailure. Loop thread only. */
#include <inttypes.h>

#include "userspace/base/clock.h"
#include "userspace/controllers/deployment.h"

struct deployment_counts deployment_count(const struct deployment *d)
{
	struct deployment_counts c = { 0 };
	int64_t wanted = d->creating ? d->new_size : 0;

	for (size_t i = 0; i < d->n; i++) {
		c.replicas += d->sets[i].status_replicas;
		c.ready += d->sets[i].ready;
		c.available += d->sets[i].available;
		wanted += d->sets[i].replicas;
	}
	if (d->new_set)
		c.updated = d->new_set->status_replicas;
	c.unavailable = wanted > c.available ? wanted - c.available : 0;
	return c;
}

bool deployment_is_complete(const struct deployment *d, const struct deployment_counts *c)
{
	return c->updated == d->rollout.replicas && c->replicas == d->rollout.replicas &&
	       c->available == d->rollout.replicas;
}

void deployment_set_condition(struct deployment *d, const struct condition *c, bool renew)
{
	struct json *at = meta_condition(d->conditions, c->type);

	if (at && !renew && str_is(json_get_str(at, "status"), c->status) &&
	    str_is(json_get_str(at, "reason"), c->reason))
		return;
	if (condition_set(d->ctx->arena, d->conditions, c) || !renew)
		return;
	json_set_cstr(d->ctx->arena, at, "lastUpdateTime", stamp_now(d->ctx->arena));
}

void deployment_pause_conditions(struct deployment *d)
{
	struct json *at = meta_condition(d->conditions, "Progressing");
	struct str reason = json_get_str(at, "reason");
	bool is_paused = str_is(reason, "DeploymentPaused");

	if (d->deadline_s == DEPLOYMENT_NO_DEADLINE || str_is(reason, "ProgressDeadlineExceeded") ||
	    d->paused == is_paused)
		return;
	deployment_set_condition(
		d,
		&(struct condition){ "Progressing", "Unknown", d->paused ? "DeploymentPaused" : "DeploymentResumed",
				     d->paused ? "Deployment is paused" : "Deployment is resumed", true },
		false);
}

static bool is_progressing(const struct deployment *d, const struct deployment_counts *c)
{
	int64_t updated = json_get_int(d->status, "updatedReplicas", 0);
	int64_t old = json_get_int(d->status, "replicas", 0) - updated;

	return c->updated > updated || c->replicas - c->updated < old ||
	       c->ready > json_get_int(d->status, "readyReplicas", 0) ||
	       c->available > json_get_int(d->status, "availableReplicas", 0);
}

static int64_t deadline_ns(const struct deployment *d, const struct json *condition)
{
	return stamp_ns(json_get_str(condition, "lastUpdateTime")) + d->deadline_s * NS_PER_S;
}

static bool is_timed_out(const struct deployment *d)
{
	struct json *at = meta_condition(d->conditions, "Progressing");
	struct str reason = json_get_str(at, "reason");

	if (!at || str_is(reason, "NewReplicaSetAvailable"))
		return false;
	return str_is(reason, "ProgressDeadlineExceeded") || deadline_ns(d, at) < clock_real_ns();
}

static const char *progress_message(struct deployment *d, const char *what)
{
	if (d->new_name)
		return arena_printf(d->ctx->arena, "ReplicaSet \"%s\" %s", d->new_name, what);
	return arena_printf(d->ctx->arena, "Deployment \"%.*s\" %s", STR_ARG(d->object->name), what);
}

static void judge_progress(struct deployment *d, const struct deployment_counts *c)
{
	struct json *at = meta_condition(d->conditions, "Progressing");
	bool was_complete = c->replicas == c->updated && str_is(json_get_str(at, "reason"), "NewReplicaSetAvailable");

	if (d->deadline_s == DEPLOYMENT_NO_DEADLINE) {
		condition_remove(d->conditions, "Progressing");
		return;
	}
	if (was_complete || d->creating)
		return;
	if (deployment_is_complete(d, c))
		deployment_set_condition(d,
					 &(struct condition){ "Progressing", "True", "NewReplicaSetAvailable",
							      progress_message(d, "has successfully progressed."),
							      true },
					 false);
	else if (is_progressing(d, c))
		deployment_set_condition(d,
					 &(struct condition){ "Progressing", "True", "ReplicaSetUpdated",
							      progress_message(d, "is progressing."), true },
					 true);
	else if (is_timed_out(d))
		deployment_set_condition(d,
					 &(struct condition){ "Progressing", "False", "ProgressDeadlineExceeded",
							      progress_message(d, "has timed out progressing."), true },
					 false);
}

static struct json *failure_of(const struct deployment_set *s)
{
	return s ? meta_condition(json_at(s->json, "status.conditions"), "ReplicaFailure") : NULL;
}

static void copy_failure(struct deployment *d)
{
	struct json *f = failure_of(d->new_set);
	struct arena *arena = d->ctx->arena;

	for (size_t i = 0; i < d->n && !f; i++)
		f = failure_of(&d->sets[i]);
	if (!f) {
		condition_remove(d->conditions, "ReplicaFailure");
		return;
	}
	deployment_set_condition(
		d,
		&(struct condition){ "ReplicaFailure", arena_printf(arena, "%.*s", STR_ARG(json_get_str(f, "status"))),
				     arena_printf(arena, "%.*s", STR_ARG(json_get_str(f, "reason"))),
				     arena_printf(arena, "%.*s", STR_ARG(json_get_str(f, "message"))), true },
		false);
}

static void judge_available(struct deployment *d, const struct deployment_counts *c)
{
	bool enough = c->available >= d->rollout.replicas - d->rollout.max_unavailable;

	deployment_set_condition(
		d,
		&(struct condition){ "Available", enough ? "True" : "False",
				     enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
				     enough ? "Deployment has minimum availability."
					    : "Deployment does not have minimum availability.",
				     true },
		false);
}

/* A rollout that stands still tells nobody: look again when its time is over. */
static void watch_deadline(struct deployment *d)
{
	struct json *at = meta_condition(d->conditions, "Progressing");
	struct str reason = json_get_str(at, "reason");
	int64_t left;

	if (!at || d->paused || str_is(reason, "NewReplicaSetAvailable") || str_is(reason, "ProgressDeadlineExceeded"))
		return;
	left = deadline_ns(d, at) - clock_real_ns();
	reconcile_after(d->ctx, (left > 0 ? left : 0) + NS_PER_S);
}

static void set_count(struct arena *arena, struct json *status, const char *key, int64_t v)
{
	if (v != 0)
		json_set_int(arena, status, key, v);
}

void deployment_write_status(struct deployment *d, bool progress)
{
	struct arena *arena = d->ctx->arena;
	struct deployment_counts c = deployment_count(d);
	struct json *status = json_new_object(arena);

	judge_available(d, &c);
	if (progress) {
		judge_progress(d, &c);
		copy_failure(d);
		if (d->deadline_s != DEPLOYMENT_NO_DEADLINE)
			watch_deadline(d);
	}
	set_count(arena, status, "observedGeneration", d->object->generation);
	set_count(arena, status, "replicas", c.replicas);
	set_count(arena, status, "updatedReplicas", c.updated);
	set_count(arena, status, "readyReplicas", c.ready);
	set_count(arena, status, "availableReplicas", c.available);
	set_count(arena, status, "unavailableReplicas", c.unavailable);
	set_count(arena, status, "collisionCount", d->collisions);
	json_set(status, "conditions", d->conditions);
	reconcile_set_status(d->ctx, KIND_DEPLOYMENT, d->object, status);
}
