/* SPDX-License-Identifier: Apache-2.0 */
/* Node health: a lease that nobody renews makes the node's conditions Unknown, and conditions become
 * taints. Staleness is judged by how long the lease stood still before our own monotonic clock, not
 * by the times written in it: clocks of small boxes jump. A renewed lease costs nothing here; one
 * timer a node looks whether it moved. Key: the node. Loop thread only. */
#include "userspace/base/clock.h"
#include "userspace/base/map.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#define NODE_MONITOR_GRACE_NS (50 * NS_PER_S)

static const struct str lease_ns = { "kube-node-lease", sizeof("kube-node-lease") - 1 };

struct health {
	int64_t lease_revision, node_revision;
	int64_t seen_ns; /* when both were first seen at these revisions */
	bool stale;
};

/* A renewal matters at once only to a node that was given up. */
static void map_lease(struct runner *r, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	struct health *h;

	if (!str_eq(o->ns, lease_ns))
		return;
	h = map_get(runner_state(r), o->name);
	if (!h || h->stale)
		runner_enqueue(r, STR_NULL, o->name);
}

/* A node that still writes its status lives, whatever its lease says. */
static struct health *observe(struct reconcile *ctx, const struct object *node)
{
	struct map *all = runner_state(ctx->runner);
	const struct object *lease = registry_get(ctx->reg, KIND_LEASE, lease_ns, ctx->name);
	struct health *h = map_get(all, ctx->name);
	int64_t now = loop_now_ns(ctx->loop);
	int64_t revision = lease ? lease->revision : 0;

	if (!h) {
		h = mem_new(struct health);
		h->seen_ns = now;
		map_put(all, ctx->name, h);
	}
	if (h->lease_revision != revision || h->node_revision != node->revision) {
		h->lease_revision = revision;
		h->node_revision = node->revision;
		h->seen_ns = now;
	}
	h->stale = now - h->seen_ns >= NODE_MONITOR_GRACE_NS;
	if (!h->stale)
		reconcile_after(ctx, h->seen_ns + NODE_MONITOR_GRACE_NS - now);
	return h;
}

/* ---- conditions ---- */

static int mutate_unknown(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	static const char *const types[] = { "Ready", "MemoryPressure", "DiskPressure", "PIDPressure" };
	struct json *conditions = json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions");
	bool changed = false;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		bool known = meta_condition(conditions, types[i]) != NULL;
		const struct condition c = {
			types[i],
			"Unknown",
			known ? "NodeStatusUnknown" : "NodeStatusNeverUpdated",
			known ? "Kubelet stopped posting node status." : "Kubelet never posted node status.",
		};

		if (meta_condition_is(conditions, types[i], "Unknown"))
			continue;
		changed |= condition_set(arena, conditions, &c);
	}
	return changed ? 0 : 1;
}

static int mutate_pod_not_ready(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *c = meta_condition(json_at(object, "status.conditions"), "Ready");

	if (!c || !str_is(json_get_str(c, "status"), "True"))
		return 1;
	json_set_cstr(arena, c, "status", "False");
	json_set_cstr(arena, c, "lastTransitionTime", stamp_now(arena));
	return 0;
}

static void mark_pods(struct reconcile *ctx)
{
	struct objects pods = objects_all(ctx->arena, ctx->reg, KIND_POD, STR_NULL);

	for (size_t i = 0; i < pods.n && !reconcile_full(ctx); i++) {
		struct json *pod = registry_parse(ctx->arena, pods.items[i]);

		if (str_eq(json_at_str(pod, "spec.nodeName"), ctx->name) &&
		    meta_condition_is(json_at(pod, "status.conditions"), "Ready", "True"))
			reconcile_update(ctx, KIND_POD, pods.items[i]->ns, pods.items[i]->name, "status",
					 mutate_pod_not_ready, NULL, NULL);
	}
}

/* ---- taints ---- */

struct taint {
	const char *key, *effect;
	bool wanted;
};

static struct json *taint_find(const struct json *taints, const struct taint *t)
{
	json_foreach(it, taints)
		if (str_is(json_get_str(it, "key"), t->key) && str_is(json_get_str(it, "effect"), t->effect))
			return it;
	return NULL;
}

#define TAINTS 8
static void wanted_taints(const struct json *node, struct taint ret[static TAINTS])
{
	const struct json *conditions = json_at(node, "status.conditions");
	bool unknown = meta_condition_is(conditions, "Ready", "Unknown");
	bool not_ready = !unknown && !meta_condition_is(conditions, "Ready", "True");
	const struct taint all[TAINTS] = {
		{ "node.kubernetes.io/not-ready", "NoSchedule", not_ready },
		{ "node.kubernetes.io/not-ready", "NoExecute", not_ready },
		{ "node.kubernetes.io/unreachable", "NoSchedule", unknown },
		{ "node.kubernetes.io/unreachable", "NoExecute", unknown },
		{ "node.kubernetes.io/memory-pressure", "NoSchedule",
		  meta_condition_is(conditions, "MemoryPressure", "True") },
		{ "node.kubernetes.io/disk-pressure", "NoSchedule",
		  meta_condition_is(conditions, "DiskPressure", "True") },
		{ "node.kubernetes.io/pid-pressure", "NoSchedule",
		  meta_condition_is(conditions, "PIDPressure", "True") },
		{ "node.kubernetes.io/unschedulable", "NoSchedule", json_at_bool(node, "spec.unschedulable", false) },
	};

	memcpy(ret, all, sizeof(all));
}

static bool taints_differ(const struct json *node)
{
	struct taint wanted[TAINTS];

	wanted_taints(node, wanted);
	for (size_t i = 0; i < TAINTS; i++)
		if ((taint_find(json_at(node, "spec.taints"), &wanted[i]) != NULL) != wanted[i].wanted)
			return true;
	return false;
}

static int mutate_taints(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *spec = json_ensure_object(arena, object, "spec");
	struct json *taints;
	struct taint wanted[TAINTS];

	if (!taints_differ(object))
		return 1;
	wanted_taints(object, wanted);
	taints = json_ensure_array(arena, spec, "taints");
	for (size_t i = 0; i < TAINTS; i++) {
		struct json *have = taint_find(taints, &wanted[i]);

		if (have && !wanted[i].wanted) {
			json_unlink(taints, have);
		} else if (!have && wanted[i].wanted) {
			struct json *t = json_new_object(arena);

			json_set_cstr(arena, t, "key", wanted[i].key);
			json_set_cstr(arena, t, "effect", wanted[i].effect);
			if (!strcmp(wanted[i].effect, "NoExecute"))
				json_set_cstr(arena, t, "timeAdded", stamp_now(arena));
			json_append(taints, t);
		}
	}
	if (json_count(taints) == 0)
		json_remove(spec, "taints");
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *node = registry_get(ctx->reg, KIND_NODE, STR_NULL, ctx->name);
	struct json *json;
	struct health *h;

	if (!node) {
		free(map_remove(runner_state(ctx->runner), ctx->name));
		return 0;
	}
	json = registry_parse(ctx->arena, node);
	h = observe(ctx, node);
	if (h->stale && !meta_condition_is(json_at(json, "status.conditions"), "Ready", "Unknown")) {
		registry_event(ctx->reg, "node-controller", node, "Normal", "NodeNotReady",
			       "Node %.*s status is now: NodeNotReady", STR_ARG(node->name));
		reconcile_update(ctx, KIND_NODE, STR_NULL, node->name, "status", mutate_unknown, NULL, NULL);
		mark_pods(ctx);
		reconcile_again(ctx);
		return 0;
	}
	if (taints_differ(json))
		reconcile_update(ctx, KIND_NODE, STR_NULL, node->name, NULL, mutate_taints, NULL, NULL);
	return 0;
}

static int start(struct runner *r, struct err *err)
{
	runner_set_state(r, mem_new(struct map));
	return 0;
}

static void stop(struct runner *r)
{
	struct map *all = runner_state(r);

	map_foreach(e, all)
		free(e->value);
	map_finish(all);
	free(all);
}

static const struct controller_watch watches[] = {
	{ &KIND_NODE, runner_enqueue_self },
	{ &KIND_LEASE, map_lease },
};

const struct controller controller_node_lifecycle = {
	.name = "node-lifecycle",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.stop = stop,
	.reconcile = reconcile,
};
