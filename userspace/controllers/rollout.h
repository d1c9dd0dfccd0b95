/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of a deployment's rollout: how many pods each of its replica sets is to have next.
 * Pure: numbers in, numbers out. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rollout {
	int64_t replicas;                   /* of the deployment */
	int64_t max_surge, max_unavailable; /* in pods */
	bool recreate;
	int64_t status_replicas; /* pods that the deployment's status counts */
};

struct rollout_set {
	int64_t replicas, available;
	int64_t created_ns;
	int64_t max_annotation; /* deployment size with surge when it was last scaled; -1: unknown */
	bool is_new;            /* at most one */
	int64_t target;         /* out; starts as replicas */
	size_t tag;             /* the caller's */
};

/* Size for the new set, which may not be there yet (then its size counts as 0). Never shrinks it below what it is
 * unless the deployment shrank. */
int64_t rollout_new_size(const struct rollout *r, const struct rollout_set *sets, size_t n);
/* Targets of old sets: unhealthy pods first, then as many healthy ones as stay dispensable. Oldest set first; sorts
 * `sets`. True when a target differs. */
bool rollout_shrink_old(const struct rollout *r, struct rollout_set *sets, size_t n);
/* Targets of all sets with pods when the deployment was resized amidst a rollout: each gets its share. Sorts `sets`. */
void rollout_share(const struct rollout *r, struct rollout_set *sets, size_t n);
