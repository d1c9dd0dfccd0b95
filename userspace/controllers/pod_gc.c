/* SPDX-License-Identifier: Apache-2.0 */
/* Pods nobody else removes: those of nodes that are gone, those being deleted that no node ever
 * got, and ended ones beyond a threshold. Keys: pods, and one without namespace that stands for the
 * count of ended ones. Loop thread only. */
#include <stdlib.h>

#include "userspace/base/clock.h"
#include "userspace/base/map.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/table.h"

#define POD_GC_ENDED_MAX 12500
#define POD_GC_QUARANTINE_NS (40 * NS_PER_S) /* a node may come back under its name */
#define POD_GC_BATCH 100

static const struct str ended_key = { "ended", sizeof("ended") - 1 };

static void enqueue_pod(void *arg, const struct object *pod)
{
	runner_enqueue(arg, pod->ns, pod->name);
}

/* Only the fall of a node can orphan pods; the arena-less walk costs nothing while none falls. */
static void map_node(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	if (type == REGISTRY_DELETED)
		registry_each(runner_registry(r), KIND_POD, STR_NULL, enqueue_pod, r);
}

static void map_pod(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	if (type == REGISTRY_DELETED)
		return;
	if (type == REGISTRY_ADDED || o->deleting)
		runner_enqueue(r, o->ns, o->name);
	if (registry_count(runner_registry(r), KIND_POD) > POD_GC_ENDED_MAX)
		runner_enqueue(r, STR_NULL, ended_key);
}

static int mutate_disrupted(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *status = json_ensure_object(arena, object, "status");
	struct json *conditions = json_ensure_array(arena, status, "conditions");
	const struct condition c = {
		"DisruptionTarget",
		"True",
		"DeletionByPodGC",
		"PodGC: node no longer exists",
	};

	json_set_cstr(arena, status, "phase", "Failed");
	condition_set(arena, conditions, &c);
	return 0;
}

static void force_delete(struct reconcile *ctx, const struct object *pod)
{
	const struct registry_delete_options options = { .grace_period_s = 0, .uid = pod->uid };

	reconcile_delete(ctx, pod, KIND_POD, &options, NULL);
}

static int64_t *missing_since(struct runner *r, struct str node);

static int reconcile_pod(struct reconcile *ctx, const struct object *o)
{
	struct pod pod = pod_of(ctx->arena, o);
	int64_t now = loop_now_ns(ctx->loop);
	int64_t *since;

	if (pod.node.n == 0) {
		if (o->deleting)
			force_delete(ctx, o);
		return 0;
	}
	if (registry_get(ctx->reg, KIND_NODE, STR_NULL, pod.node))
		return 0;
	since = missing_since(ctx->runner, pod.node);
	if (now - *since < POD_GC_QUARANTINE_NS) {
		reconcile_after(ctx, *since + POD_GC_QUARANTINE_NS - now);
		return 0;
	}
	if (pod.phase != POD_SUCCEEDED && pod.phase != POD_FAILED) {
		reconcile_update(ctx, KIND_POD, o->ns, o->name, "status", mutate_disrupted, NULL, NULL);
		reconcile_again(ctx);
		return 0;
	}
	force_delete(ctx, o);
	return 0;
}

static int oldest_first(const void *pa, const void *pb)
{
	const struct object *a = *(const struct object *const *)pa, *b = *(const struct object *const *)pb;

	return (a->created_real_ns > b->created_real_ns) - (a->created_real_ns < b->created_real_ns);
}

static int reconcile_ended(struct reconcile *ctx)
{
	struct objects all = objects_all(ctx->arena, ctx->reg, KIND_POD, STR_NULL);
	size_t n = 0;

	for (size_t i = 0; i < all.n; i++) {
		struct pod p = pod_of(ctx->arena, all.items[i]);

		if (p.phase == POD_SUCCEEDED || p.phase == POD_FAILED)
			all.items[n++] = all.items[i];
	}
	if (n <= POD_GC_ENDED_MAX)
		return 0;
	qsort(all.items, n, sizeof(*all.items), oldest_first);
	for (size_t i = 0; i < n - POD_GC_ENDED_MAX && i < POD_GC_BATCH; i++)
		force_delete(ctx, all.items[i]);
	reconcile_again(ctx);
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *pod;

	if (ctx->ns.n == 0)
		return reconcile_ended(ctx);
	pod = registry_get(ctx->reg, KIND_POD, ctx->ns, ctx->name);
	return pod ? reconcile_pod(ctx, pod) : 0;
}

/* ---- since when a node is known to be missing ---- */

static void map_node_back(struct runner *r, enum registry_event_type type, const struct object *o,
			  const struct object *prev)
{
	if (type == REGISTRY_ADDED)
		free(map_remove(runner_state(r), o->name));
	map_node(r, type, o, prev);
}

static int64_t *missing_since(struct runner *r, struct str node)
{
	struct map *missing = runner_state(r);
	int64_t *since = map_get(missing, node);

	if (since)
		return since;
	since = mem_new(int64_t);
	*since = clock_monotonic_ns();
	map_put(missing, node, since);
	return since;
}

static int start(struct runner *r, struct err *err)
{
	runner_set_state(r, mem_new(struct map));
	return 0;
}

static void stop(struct runner *r)
{
	struct map *missing = runner_state(r);

	map_foreach(e, missing)
		free(e->value);
	map_finish(missing);
	free(missing);
}

static const struct controller_watch watches[] = {
	{ &KIND_NODE, map_node_back },
	{ &KIND_POD, map_pod },
};

const struct controller controller_pod_gc = {
	.name = "pod-gc",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.stop = stop,
	.reconcile = reconcile,
};
