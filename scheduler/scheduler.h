/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler: gives pods without a node the best one that can take them. Pods are tried in the
 * loop turn in which they appear. Meets the rest only in objects. Loop thread only. */
#pragma once

#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/loop/loop.h"
#include "userspace/base/histogram.h"
#include "userspace/registry/registry.h"

#define SCHEDULER_NAME "default-scheduler"

struct scheduler;

int scheduler_create(struct loop *loop, struct registry *reg, struct scheduler **ret, struct err *err);
void scheduler_destroy(struct scheduler *s);

#define SCHEDULER_TRIES_BUCKETS 5

struct scheduler_stats {
	unsigned active, backoff, unschedulable, gated, binding;
	uint64_t attempts, scheduled, failed, errors;
	uint64_t longest_cycle_ns;
	uint64_t tries[SCHEDULER_TRIES_BUCKETS + 1], tries_sum; /* of pods that were bound */
};
extern const struct histogram_scale SCHEDULER_TRIES;
void scheduler_get_stats(const struct scheduler *s, struct scheduler_stats *ret);
