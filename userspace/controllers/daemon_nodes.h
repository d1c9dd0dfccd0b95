/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a node is to run a daemon's pod, and whether a pod that is there may stay. Pure. */
#pragma once

#include <stdbool.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"

struct daemon_verdict {
	bool run;  /* make one when there is none */
	bool stay; /* leave the one that is there */
};

/* `spec`: of a pod of the template, with the tolerations every daemon has. */
struct daemon_verdict daemon_judge_node(struct arena *arena, const struct json *spec, const struct json *node);
/* Adds those tolerations to the pod's spec. */
void daemon_add_tolerations(struct arena *arena, struct json *spec);
/* Ties the pod to the node by affinity, so that the scheduler places it. */
void daemon_pin(struct arena *arena, struct json *spec, struct str node);
/* The node a pod is on or pinned to; empty: none. */
struct str daemon_node_of(const struct json *pod);
