/* SPDX-License-Identifier: Apache-2.0 */
/* What controllers judge pods by, read once from the object; and the order in which surplus pods
 * are deleted. Pure. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/registry/registry.h"

#define POD_DELETION_COST "controller.kubernetes.io/pod-deletion-cost"

enum pod_phase { POD_PENDING, POD_UNKNOWN, POD_RUNNING, POD_SUCCEEDED, POD_FAILED };

struct pod {
	const struct object *object;
	struct json *json;
	enum pod_phase phase;
	bool deleting, ready;
	struct str node;
	int64_t ready_since_ns; /* real time of the Ready condition's last change; 0: not ready */
	int64_t created_ns;
	int64_t restarts; /* of the container that restarted most */
	int32_t deletion_cost;
	unsigned rank; /* pods beside it on its node: more go first */
};

struct pod pod_of(struct arena *arena, const struct object *o);
/* Neither ended nor on its way out. */
static inline bool pod_is_active(const struct pod *p)
{
	return !p->deleting && p->phase != POD_SUCCEEDED && p->phase != POD_FAILED;
}
bool pod_is_available(const struct pod *p, int64_t min_ready_s, int64_t now_real_ns);

/* Fewer than 0: `a` is to be deleted before `b`. */
int pod_deletion_cmp(const struct pod *a, const struct pod *b, int64_t now_real_ns);
/* Sorts so that those to be deleted come first. */
void pods_sort_for_deletion(struct pod *pods, size_t n, int64_t now_real_ns);

/* A pod from `template` (a PodTemplateSpec) in the owner's namespace, controlled by the owner: labels, annotations,
 * finalizers, spec. `name` empty: generateName of the owner's name. */
struct json *pod_from_template(struct arena *arena, const struct json *template, const struct api_kind *owner_kind,
			       const struct object *owner, struct str name);
