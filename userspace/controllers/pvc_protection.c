/* SPDX-License-Identifier: Apache-2.0 */
/* Claims that are being deleted lose their finalizer when no scheduled pod uses them any more. Keys: claims. Loop
 * thread only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#define FINALIZER STR("kubernetes.io/pvc-protection")

/* The claim that a volume of the pod stands for; made in the arena for an ephemeral one. */
static struct str claim_of(struct arena *arena, const struct object *pod, const struct json *volume)
{
	struct str name = json_at_str(volume, "persistentVolumeClaim.claimName");

	if (name.n > 0 || !json_get(volume, "ephemeral"))
		return name;
	return str_of(arena_printf(arena, "%.*s-%.*s", STR_ARG(pod->name), STR_ARG(json_get_str(volume, "name"))));
}

static void map_claim(struct runner *r, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	if (type != REGISTRY_DELETED && o->deleting && o->has_finalizers)
		runner_enqueue(r, o->ns, o->name);
}

static void enqueue_claims(struct runner *r, const struct object *pod)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	json_foreach(v, json_at(registry_parse(&arena, pod), "spec.volumes")) {
		struct str claim = claim_of(&arena, pod, v);
		const struct object *o;

		if (claim.n == 0)
			continue;
		o = registry_get(runner_registry(r), KIND_PERSISTENTVOLUMECLAIM, pod->ns, claim);
		if (o && o->deleting)
			runner_enqueue(r, pod->ns, claim);
	}
}

/* Only a pod that goes, or one that kubelet is done with, can set a claim free. */
static void map_pod(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	if ((type == REGISTRY_DELETED || (type == REGISTRY_MODIFIED && o->deleting)) &&
	    registry_count(runner_registry(r), KIND_PERSISTENTVOLUMECLAIM) > 0)
		enqueue_claims(r, o);
}

static bool is_shut_down(const struct json *pod)
{
	const struct json *grace = json_at(pod, "metadata.deletionGracePeriodSeconds");

	return meta_deleting(pod) && grace && json_int(grace, -1) == 0;
}

/* A pod without a node does not count: it cannot start with a claim that goes. */
static bool uses(struct arena *arena, const struct object *o, const struct object *claim)
{
	const struct json *pod = registry_parse(arena, o);

	if (json_at_str(pod, "spec.nodeName").n == 0)
		return false;
	json_foreach(v, json_at(pod, "spec.volumes")) {
		bool ephemeral = json_get(v, "ephemeral") != NULL;

		if (!str_eq(claim_of(arena, o, v), claim->name))
			continue;
		if (!ephemeral || (!is_shut_down(pod) && object_controlled_by(claim, o->uid)))
			return true;
	}
	return false;
}

static int mutate_finalizers(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	return meta_remove_finalizer(object, FINALIZER) ? 0 : 1;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *claim = registry_get(ctx->reg, KIND_PERSISTENTVOLUMECLAIM, ctx->ns, ctx->name);
	struct objects pods;

	if (!claim || !claim->deleting || !claim->has_finalizers)
		return 0;
	pods = objects_all(ctx->arena, ctx->reg, KIND_POD, ctx->ns);
	for (size_t i = 0; i < pods.n; i++)
		if (uses(ctx->arena, pods.items[i], claim))
			return 0;
	reconcile_update(ctx, KIND_PERSISTENTVOLUMECLAIM, ctx->ns, ctx->name, NULL, mutate_finalizers, NULL, NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_PERSISTENTVOLUMECLAIM, map_claim },
	{ &KIND_POD, map_pod },
};

const struct controller controller_pvc_protection = {
	.name = "persistentvolumeclaim-protection",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
