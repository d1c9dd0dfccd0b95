/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about pods, and whom to delete first. Any thread. */
#include "userspace/controllers/pods.h"

#include <stdlib.h>

#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/controllers/objects.h"

#define POD_NAME_PREFIX_MAX 248 /* what generateName may be, so that the suffix fits */

static enum pod_phase phase_of(struct str s)
{
	if (str_is(s, "Running"))
		return POD_RUNNING;
	if (str_is(s, "Succeeded"))
		return POD_SUCCEEDED;
	if (str_is(s, "Failed"))
		return POD_FAILED;
	if (str_is(s, "Unknown"))
		return POD_UNKNOWN;
	return POD_PENDING;
}

static int64_t max_restarts(const struct json *statuses, int64_t max)
{
	json_foreach(s, statuses) {
		int64_t n = json_get_int(s, "restartCount", 0);

		max = n > max ? n : max;
	}
	return max;
}

struct pod pod_of(struct arena *arena, const struct object *o)
{
	struct json *j = registry_parse(arena, o);
	struct json *status = json_get(j, "status");
	struct json *ready = meta_condition(json_get(status, "conditions"), "Ready");
	struct pod p = {
		.object = o,
		.json = j,
		.phase = phase_of(json_get_str(status, "phase")),
		.deleting = o->deleting,
		.ready = str_is(json_get_str(ready, "status"), "True"),
		.node = json_at_str(j, "spec.nodeName"),
		.created_ns = o->created_real_ns,
	};
	int64_t cost = 0;

	if (p.ready)
		p.ready_since_ns = stamp_ns(json_get_str(ready, "lastTransitionTime"));
	p.restarts = max_restarts(json_get(status, "containerStatuses"), 0);
	p.restarts = max_restarts(json_get(status, "initContainerStatuses"), p.restarts);
	if (str_to_int64(meta_annotation(j, POD_DELETION_COST), &cost) == 0 && cost >= INT32_MIN && cost <= INT32_MAX)
		p.deletion_cost = (int32_t)cost;
	return p;
}

bool pod_is_available(const struct pod *p, int64_t min_ready_s, int64_t now_real_ns)
{
	if (!p->ready)
		return false;
	return min_ready_s == 0 ||
	       (p->ready_since_ns != 0 && p->ready_since_ns + min_ready_s * NS_PER_S <= now_real_ns);
}

/* Ages compare by their magnitude: 5 and 7 seconds are alike, 5 seconds and an hour are not. */
static int age_cmp(int64_t a_ns, int64_t b_ns, int64_t now_ns)
{
	int64_t age_a = now_ns - a_ns, age_b = now_ns - b_ns;
	int log_a = age_a > 0 ? 63 - __builtin_clzll((unsigned long long)age_a) : -1;
	int log_b = age_b > 0 ? 63 - __builtin_clzll((unsigned long long)age_b) : -1;

	return log_a - log_b;
}

/* The younger first; an unknown time counts as the youngest. */
static int younger_cmp(int64_t a_ns, int64_t b_ns, const struct pod *a, const struct pod *b, int64_t now_ns)
{
	int c;

	if (a_ns == 0 || b_ns == 0)
		return a_ns == 0 ? -1 : 1;
	c = age_cmp(a_ns, b_ns, now_ns);
	return c ? c : str_cmp(a->object->uid, b->object->uid);
}

int pod_deletion_cmp(const struct pod *a, const struct pod *b, int64_t now_real_ns)
{
	if ((a->node.n == 0) != (b->node.n == 0))
		return a->node.n == 0 ? -1 : 1;
	if (a->phase != b->phase)
		return a->phase < b->phase ? -1 : 1;
	if (a->ready != b->ready)
		return a->ready ? 1 : -1;
	if (a->deletion_cost != b->deletion_cost)
		return a->deletion_cost < b->deletion_cost ? -1 : 1;
	if (a->rank != b->rank)
		return a->rank > b->rank ? -1 : 1;
	if (a->ready && b->ready && a->ready_since_ns != b->ready_since_ns)
		return younger_cmp(a->ready_since_ns, b->ready_since_ns, a, b, now_real_ns);
	if (a->restarts != b->restarts)
		return a->restarts > b->restarts ? -1 : 1;
	if (a->created_ns != b->created_ns)
		return younger_cmp(a->created_ns, b->created_ns, a, b, now_real_ns);
	return 0;
}

static int sort_cmp(const void *a, const void *b, void *now)
{
	return pod_deletion_cmp(a, b, *(int64_t *)now);
}

void pods_sort_for_deletion(struct pod *pods, size_t n, int64_t now_real_ns)
{
	if (n > 1)
		qsort_r(pods, n, sizeof(*pods), sort_cmp, &now_real_ns);
}

struct json *pod_from_template(struct arena *arena, const struct json *template, const struct api_kind *owner_kind,
			       const struct object *owner, struct str name)
{
	static const char *const carried[] = { "labels", "annotations", "finalizers" };
	struct json *pod = object_new(arena, KIND_POD, owner->ns, name);
	struct json *meta = json_get(pod, "metadata");
	int prefix = owner->name.n < POD_NAME_PREFIX_MAX ? (int)owner->name.n : POD_NAME_PREFIX_MAX - 1;

	if (name.n == 0)
		json_set_cstr(arena, meta, "generateName", arena_printf(arena, "%.*s-", prefix, owner->name.p));
	for (size_t i = 0; i < ARRAY_SIZE(carried); i++) {
		struct json *v = json_get(json_get(template, "metadata"), carried[i]);

		if (json_count(v) > 0)
			json_set(meta, carried[i], json_clone(arena, v));
	}
	object_set_controller(arena, pod, owner_kind, owner);
	json_set(pod, "spec", json_clone(arena, json_get(template, "spec")));
	return pod;
}
