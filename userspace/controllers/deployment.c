/* SPDX-License-Identifier: Apache-2.0 */
/* Deployments: each run looks at the deployment and its replica sets, takes the next step of the
 * rollout (make the new set, resize, clean up) and reports. The steps after it come by the changes
 * that this one brings about. Loop thread only. */
#include "userspace/controllers/deployment.h"

#include <errno.h>

#include "userspace/api/intstr.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/owning.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/table.h"

static int load(struct deployment *d, struct err *err)
{
	struct json *strategy;
	int rc;

	d->json = registry_parse(d->ctx->arena, d->object);
	d->spec = json_get(d->json, "spec");
	d->status = json_get(d->json, "status");
	d->paused = json_get_bool(d->spec, "paused", false);
	d->deadline_s = json_get_int(d->spec, "progressDeadlineSeconds", DEPLOYMENT_NO_DEADLINE);
	d->min_ready_s = json_get_int(d->spec, "minReadySeconds", 0);
	d->history_limit = json_get_int(d->spec, "revisionHistoryLimit", 10);
	d->collisions = json_get_int(d->status, "collisionCount", 0);
	d->conditions = json_clone(d->ctx->arena, json_get(d->status, "conditions"));
	if (!json_is(d->conditions, JSON_ARRAY))
		d->conditions = json_new_array(d->ctx->arena);
	d->rollout.replicas = json_get_int(d->spec, "replicas", 1);
	d->rollout.status_replicas = json_get_int(d->status, "replicas", 0);
	strategy = json_get(d->spec, "strategy");
	d->rollout.recreate = str_is(json_get_str(strategy, "type"), "Recreate");
	if (d->rollout.recreate)
		return 0;
	rc = intstr_rolling_update(json_at(strategy, "rollingUpdate.maxSurge"),
				   json_at(strategy, "rollingUpdate.maxUnavailable"), d->rollout.replicas,
				   &d->rollout.max_surge, &d->rollout.max_unavailable, err);
	if (rc < 0)
		return rc;
	if (d->rollout.max_unavailable > d->rollout.replicas)
		d->rollout.max_unavailable = d->rollout.replicas;
	return 0;
}

static struct rollout_set *rollout_sets(struct deployment *d, bool with_pods_only, size_t *ret_n)
{
	struct rollout_set *sets = arena_new_array(d->ctx->arena, struct rollout_set, d->n + 1);
	size_t n = 0;

	for (size_t i = 0; i < d->n; i++) {
		const struct deployment_set *s = &d->sets[i];

		if (with_pods_only && s->replicas == 0)
			continue;
		sets[n++] = (struct rollout_set){
			.replicas = s->replicas,
			.available = s->available,
			.created_ns = s->object->created_real_ns,
			.max_annotation = s->max,
			.is_new = s == d->new_set,
			.target = s->replicas,
			.tag = i,
		};
	}
	*ret_n = n;
	return sets;
}

static void take_targets(struct deployment *d, const struct rollout_set *sets, size_t n, bool stamp_all)
{
	for (size_t i = 0; i < n; i++) {
		struct deployment_set *s = &d->sets[sets[i].tag];

		s->stamp_size = stamp_all || sets[i].target != s->replicas;
		s->target = sets[i].target;
	}
}

static void set_target(struct deployment_set *s, int64_t target)
{
	s->target = target;
	s->stamp_size = true;
}

/* ---- the deployment was resized, or is paused: sizes only ---- */

static bool was_resized(const struct deployment *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->sets[i].replicas > 0 && d->sets[i].desired >= 0 && d->sets[i].desired != d->rollout.replicas)
			return true;
	return false;
}

/* The only set with pods, or when there is none the newest; NULL while a rollout is under way. */
static struct deployment_set *only_set(struct deployment *d)
{
	struct deployment_set *found = NULL;
	unsigned active = 0;

	for (size_t i = 0; i < d->n; i++)
		if (d->sets[i].replicas > 0) {
			found = &d->sets[i];
			active++;
		}
	if (active == 0)
		return d->new_set ? d->new_set : d->n > 0 ? &d->sets[d->n - 1] : NULL;
	return active == 1 ? found : NULL;
}

static bool is_saturated(const struct deployment *d)
{
	const struct deployment_set *s = d->new_set;

	return s && s->desired == d->rollout.replicas && s->replicas == d->rollout.replicas &&
	       s->available == d->rollout.replicas;
}

static void resize(struct deployment *d)
{
	struct deployment_set *only = only_set(d);
	struct rollout_set *sets;
	size_t n;

	if (only) {
		set_target(only, d->rollout.replicas);
	} else if (is_saturated(d)) {
		for (size_t i = 0; i < d->n; i++)
			if (&d->sets[i] != d->new_set && d->sets[i].replicas > 0)
				set_target(&d->sets[i], 0);
	} else if (!d->rollout.recreate) {
		sets = rollout_sets(d, true, &n);
		rollout_share(&d->rollout, sets, n);
		take_targets(d, sets, n, true);
	}
}

/* ---- strategies ---- */

/* True when a size changes. */
static bool any_resized(const struct deployment *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->sets[i].target >= 0 && d->sets[i].target != d->sets[i].replicas)
			return true;
	return false;
}

static void roll(struct deployment *d)
{
	struct rollout_set *sets;
	int64_t size;
	size_t n;

	if (!d->new_set) {
		deployment_make_new_set(d);
		return;
	}
	sets = rollout_sets(d, false, &n);
	size = rollout_new_size(&d->rollout, sets, n);
	if (size != d->new_set->replicas) {
		set_target(d->new_set, size);
		return;
	}
	if (rollout_shrink_old(&d->rollout, sets, n))
		take_targets(d, sets, n, false);
}

static bool old_pods_run(struct deployment *d)
{
	for (size_t i = 0; i < d->n; i++) {
		struct objects pods;

		if (&d->sets[i] == d->new_set)
			continue;
		pods = objects_owned(d->ctx->arena, d->ctx->reg, KIND_POD, d->sets[i].object->uid);
		for (size_t k = 0; k < pods.n; k++) {
			struct pod p = pod_of(d->ctx->arena, pods.items[k]);

			if (p.phase != POD_FAILED && p.phase != POD_SUCCEEDED)
				return true;
		}
	}
	return false;
}

static void recreate(struct deployment *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (&d->sets[i] != d->new_set && d->sets[i].replicas > 0)
			set_target(&d->sets[i], 0);
	if (any_resized(d) || old_pods_run(d))
		return;
	if (!d->new_set)
		deployment_make_new_set(d);
	else if (d->new_set->replicas != d->rollout.replicas)
		set_target(d->new_set, d->rollout.replicas);
}

static void step(struct deployment *d)
{
	bool resized;

	deployment_pause_conditions(d);
	deployment_sync_revision(d);
	if (d->paused || was_resized(d)) {
		resize(d);
		deployment_write_sets(d);
		if (d->paused)
			deployment_trim_history(d);
		deployment_write_status(d, false);
		return;
	}
	if (d->rollout.recreate)
		recreate(d);
	else
		roll(d);
	resized = any_resized(d);
	deployment_write_sets(d);
	if (!resized && !d->creating) {
		struct deployment_counts c = deployment_count(d);

		if (deployment_is_complete(d, &c))
			deployment_trim_history(d);
	}
	deployment_write_status(d, true);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct deployment d = { .ctx = ctx };
	struct selector selector;
	struct objects owned;
	int rc;

	d.object = registry_get(ctx->reg, KIND_DEPLOYMENT, ctx->ns, ctx->name);
	if (!d.object)
		return 0;
	rc = load(&d, err);
	if (rc < 0)
		return rc;
	selector = selector_of_labels(ctx->arena, json_get(d.spec, "selector"));
	if (selector_is_everything(&selector)) {
		registry_event(ctx->reg, DEPLOYMENT_COMPONENT, d.object, "Warning", "SelectingAll",
			       "This deployment is selecting all pods. A non-empty selector is required.");
		return 0;
	}
	if (!owning_claim(ctx, KIND_DEPLOYMENT, d.object, KIND_REPLICASET, &selector, &owned))
		return 0;
	deployment_find_sets(&d, &owned);
	if (d.object->deleting)
		deployment_write_status(&d, false);
	else
		step(&d);
	return 0;
}

static void map_set(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	owning_enqueue(r, KIND_DEPLOYMENT, o, prev, type);
}

/* Recreate waits for the last pod of the old sets. */
static void map_pod(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	const struct object_owner *owner = object_controller(o);
	const struct object *set;

	if (type != REGISTRY_DELETED || !owner || !str_is(owner->kind, "ReplicaSet"))
		return;
	set = registry_get(runner_registry(r), KIND_REPLICASET, o->ns, owner->name);
	if (set)
		runner_enqueue_controller(r, KIND_DEPLOYMENT, set, NULL);
}

static const struct controller_watch watches[] = {
	{ &KIND_DEPLOYMENT, runner_enqueue_self },
	{ &KIND_REPLICASET, map_set },
	{ &KIND_POD, map_pod },
};

const struct controller controller_deployment = {
	.name = "deployment",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
