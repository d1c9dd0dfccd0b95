/* SPDX-License-Identifier: Apache-2.0 */
/* ReplicaSets and ReplicationControllers: one engine, for they differ only in their kind, in the
 * form of the selector and in words. Claims pods by selector, makes missing ones, deletes surplus
 * ones in upstream's order, reports. Loop thread only. */
#include <errno.h>

#include "userspace/base/clock.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/owning.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/table.h"

#define REPLICASET_BURST 64 /* pods made or deleted in one run */

struct replicas {
	struct reconcile *ctx;
	const struct api_kind *kind;
	const char *component;
	const struct object *set;
	struct json *json, *spec;
	struct selector selector;
	struct pod *pods; /* active ones of this set */
	size_t n;
	int64_t want, min_ready_s, now_ns;
};

static struct selector selector_of(struct replicas *r)
{
	struct json *selector = json_get(r->spec, "selector");

	return r->kind == KIND_REPLICATIONCONTROLLER ? selector_of_map(r->ctx->arena, selector)
						     : selector_of_labels(r->ctx->arena, selector);
}

/* A set whose pods wait for an adoption or release looks again when that is done. */
static bool load_pods(struct replicas *r)
{
	struct reconcile *ctx = r->ctx;
	struct objects owned;
	size_t n = 0;

	if (!owning_claim(ctx, r->kind, r->set, KIND_POD, &r->selector, &owned))
		return false;
	r->pods = arena_new_array(ctx->arena, struct pod, owned.n + 1);
	for (size_t i = 0; i < owned.n; i++) {
		struct pod p = pod_of(ctx->arena, owned.items[i]);

		if (pod_is_active(&p))
			r->pods[n++] = p;
	}
	r->n = n;
	return true;
}

static void make_pods(struct replicas *r, int64_t missing)
{
	const struct reconcile_note note = {
		.component = r->component,
		.about = r->set,
		.ok_reason = "SuccessfulCreate",
		.ok_prefix = "Created pod: ",
		.fail_reason = "FailedCreate",
		.fail_prefix = "Error creating: ",
	};
	/* After a refusal one try is enough to see whether the next would fare better. */
	int64_t n = r->ctx->failure ? 1 : missing < REPLICASET_BURST ? missing : REPLICASET_BURST;

	for (int64_t i = 0; i < n && i < missing; i++)
		reconcile_create(
			r->ctx, KIND_POD,
			pod_from_template(r->ctx->arena, json_get(r->spec, "template"), r->kind, r->set, STR_NULL),
			&note);
}

/* How many active pods of this set and its siblings (sets of one deployment) share each pod's node. */
static void rank_pods(struct replicas *r)
{
	const struct object_owner *parent = object_controller(r->set);
	struct objects sets = { .arena = r->ctx->arena };

	if (parent)
		sets = objects_owned(r->ctx->arena, r->ctx->reg, r->kind, parent->uid);
	else
		objects_add(&sets, r->set);
	for (size_t s = 0; s < sets.n; s++) {
		struct objects pods = objects_owned(r->ctx->arena, r->ctx->reg, KIND_POD, sets.items[s]->uid);

		for (size_t i = 0; i < pods.n; i++) {
			struct pod p = pod_of(r->ctx->arena, pods.items[i]);

			if (!pod_is_active(&p) || p.node.n == 0)
				continue;
			for (size_t k = 0; k < r->n; k++)
				if (str_eq(r->pods[k].node, p.node))
					r->pods[k].rank++;
		}
	}
}

static void delete_pods(struct replicas *r, int64_t surplus)
{
	const struct reconcile_note note = {
		.component = r->component,
		.about = r->set,
		.ok_reason = "SuccessfulDelete",
		.ok_prefix = "Deleted pod: ",
		.fail_reason = "FailedDelete",
		.fail_prefix = "Error deleting: ",
	};

	if (surplus < (int64_t)r->n) {
		rank_pods(r);
		pods_sort_for_deletion(r->pods, r->n, r->now_ns);
	}
	for (int64_t i = 0; i < surplus && i < REPLICASET_BURST; i++)
		reconcile_delete(r->ctx, r->pods[i].object, KIND_POD, NULL, &note);
}

static void add_failure(struct replicas *r, struct json *status)
{
	const struct reconcile_failure *f = r->ctx->failure;
	struct json *conditions;

	conditions = json_clone(r->ctx->arena, json_at(r->json, "status.conditions"));
	if (!json_is(conditions, JSON_ARRAY))
		conditions = json_new_array(r->ctx->arena);
	if (f && f->kind == KIND_POD && f->verb != RECONCILE_UPDATE) {
		const struct condition c = {
			.type = "ReplicaFailure",
			.status = "True",
			.reason = f->verb == RECONCILE_CREATE ? "FailedCreate" : "FailedDelete",
			.message = f->message,
		};

		condition_set(r->ctx->arena, conditions, &c);
	} else {
		condition_remove(conditions, "ReplicaFailure");
	}
	if (json_count(conditions) > 0)
		json_set(status, "conditions", conditions);
}

static bool is_fully_labeled(const struct json *template_labels, const struct pod *p)
{
	json_foreach(l, template_labels)
		if (!str_eq(object_label(p->object, l->key), json_str(l)))
			return false;
	return true;
}

static void write_status(struct replicas *r)
{
	struct arena *arena = r->ctx->arena;
	struct json *status = json_new_object(arena);
	struct json *labels = json_at(r->spec, "template.metadata.labels");
	int64_t labeled = 0, ready = 0, available = 0;

	for (size_t i = 0; i < r->n; i++) {
		labeled += is_fully_labeled(labels, &r->pods[i]);
		ready += r->pods[i].ready;
		available += pod_is_available(&r->pods[i], r->min_ready_s, r->now_ns);
	}
	json_set_int(arena, status, "replicas", (int64_t)r->n);
	if (labeled)
		json_set_int(arena, status, "fullyLabeledReplicas", labeled);
	if (ready)
		json_set_int(arena, status, "readyReplicas", ready);
	if (available)
		json_set_int(arena, status, "availableReplicas", available);
	if (r->set->generation)
		json_set_int(arena, status, "observedGeneration", r->set->generation);
	add_failure(r, status);
	reconcile_set_status(r->ctx, r->kind, r->set, status);
	if (ready > available)
		reconcile_after(r->ctx, r->min_ready_s * NS_PER_S);
}

static int reconcile_kind(struct reconcile *ctx, const struct api_kind *kind, const char *component)
{
	struct replicas r = { .ctx = ctx, .kind = kind, .component = component, .now_ns = clock_real_ns() };

	r.set = registry_get(ctx->reg, kind, ctx->ns, ctx->name);
	if (!r.set)
		return 0;
	r.json = registry_parse(ctx->arena, r.set);
	r.spec = json_get(r.json, "spec");
	r.want = json_get_int(r.spec, "replicas", 1);
	r.min_ready_s = json_get_int(r.spec, "minReadySeconds", 0);
	r.selector = selector_of(&r);
	if (!load_pods(&r))
		return 0;
	/* The status first: it is of what is, and the writes below make it anew. */
	write_status(&r);
	if (r.set->deleting)
		return 0;
	if ((int64_t)r.n < r.want)
		make_pods(&r, r.want - (int64_t)r.n);
	else if ((int64_t)r.n > r.want)
		delete_pods(&r, (int64_t)r.n - r.want);
	return 0;
}

static int reconcile_replicaset(struct reconcile *ctx, struct err *err)
{
	return reconcile_kind(ctx, KIND_REPLICASET, "replicaset-controller");
}

static int reconcile_replicationcontroller(struct reconcile *ctx, struct err *err)
{
	return reconcile_kind(ctx, KIND_REPLICATIONCONTROLLER, "replication-controller");
}

static void map_replicaset_pod(struct runner *r, enum registry_event_type type, const struct object *o,
			       const struct object *prev)
{
	owning_enqueue(r, KIND_REPLICASET, o, prev, type);
}

static void map_replicationcontroller_pod(struct runner *r, enum registry_event_type type, const struct object *o,
					  const struct object *prev)
{
	owning_enqueue(r, KIND_REPLICATIONCONTROLLER, o, prev, type);
}

static const struct controller_watch replicaset_watches[] = {
	{ &KIND_REPLICASET, runner_enqueue_self },
	{ &KIND_POD, map_replicaset_pod },
};

const struct controller controller_replicaset = {
	.name = "replicaset",
	.watches = replicaset_watches,
	.n_watches = ARRAY_SIZE(replicaset_watches),
	.reconcile = reconcile_replicaset,
};

static const struct controller_watch replicationcontroller_watches[] = {
	{ &KIND_REPLICATIONCONTROLLER, runner_enqueue_self },
	{ &KIND_POD, map_replicationcontroller_pod },
};

const struct controller controller_replicationcontroller = {
	.name = "replicationcontroller",
	.watches = replicationcontroller_watches,
	.n_watches = ARRAY_SIZE(replicationcontroller_watches),
	.reconcile = reconcile_replicationcontroller,
};
