/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the deployment controller: the deployment and its replica sets as one run
 * sees them, and what the run decides. Loop thread only. */
#pragma once

#include "userspace/controllers/objects.h"
#include "userspace/controllers/rollout.h"
#include "userspace/controllers/runner.h"

#define DEPLOYMENT_REVISION "deployment.kubernetes.io/revision"
#define DEPLOYMENT_REVISION_HISTORY "deployment.kubernetes.io/revision-history"
#define DEPLOYMENT_DESIRED "deployment.kubernetes.io/desired-replicas"
#define DEPLOYMENT_MAX "deployment.kubernetes.io/max-replicas"
#define DEPLOYMENT_HASH_LABEL "pod-template-hash"
#define DEPLOYMENT_COMPONENT "deployment-controller"
#define DEPLOYMENT_NO_DEADLINE INT32_MAX

struct deployment_set {
	const struct object *object;
	struct json *json;
	int64_t replicas, status_replicas, ready, available;
	int64_t revision, desired, max; /* annotations; 0 and -1: absent */
	/* What is to be: -1 and NULL leave it. */
	int64_t target;
	bool stamp_size;          /* write desired and max */
	struct json *annotations; /* to set */
	int64_t min_ready_s;
};

struct deployment {
	struct reconcile *ctx;
	const struct object *object;
	struct json *json, *spec, *status;
	struct rollout rollout;
	bool paused, rolling;
	int64_t deadline_s; /* DEPLOYMENT_NO_DEADLINE: none */
	int64_t min_ready_s, history_limit;
	struct deployment_set *sets; /* oldest first */
	size_t n;
	struct deployment_set *new_set; /* NULL: not there yet */
	int64_t collisions;
	struct json *conditions; /* of the status to be */
	bool creating;           /* this run makes the new set */
	const char *new_name;    /* of the new set, there or being made */
	int64_t new_size;        /* of the set being made */
};

/* deployment_sets.c */
void deployment_find_sets(struct deployment *d, const struct objects *owned);
/* Revision and annotations of the new set and of the deployment. */
void deployment_sync_revision(struct deployment *d);
void deployment_make_new_set(struct deployment *d);
/* Writes what was decided for each set. */
void deployment_write_sets(struct deployment *d);
void deployment_trim_history(struct deployment *d);

/* deployment_status.c */
struct deployment_counts {
	int64_t replicas, updated, ready, available, unavailable;
};
struct deployment_counts deployment_count(const struct deployment *d);
bool deployment_is_complete(const struct deployment *d, const struct deployment_counts *c);
/* Sets a condition, keeping it when type, status and reason stay; `renew`: also lastUpdateTime then. */
void deployment_set_condition(struct deployment *d, const struct condition *c, bool renew);
void deployment_pause_conditions(struct deployment *d);
/* progress: judge the rollout's progress too. */
void deployment_write_status(struct deployment *d, bool progress);
