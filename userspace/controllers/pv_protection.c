/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes that are being deleted lose their finalizer when no claim is bound to them. Keys: volumes. Loop thread
 * only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#define FINALIZER STR("kubernetes.io/pv-protection")

static void map_volume(struct runner *r, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	if (type != REGISTRY_DELETED && o->deleting && o->has_finalizers)
		runner_enqueue(r, STR_NULL, o->name);
}

static int mutate_finalizers(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	return meta_remove_finalizer(object, FINALIZER) ? 0 : 1;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *volume = registry_get(ctx->reg, KIND_PERSISTENTVOLUME, STR_NULL, ctx->name);

	if (!volume || !volume->deleting || !volume->has_finalizers ||
	    str_is(json_at_str(registry_parse(ctx->arena, volume), "status.phase"), "Bound"))
		return 0;
	reconcile_update(ctx, KIND_PERSISTENTVOLUME, STR_NULL, ctx->name, NULL, mutate_finalizers, NULL, NULL);
	return 0;
}

static const struct controller_watch watches[] = { { &KIND_PERSISTENTVOLUME, map_volume } };

const struct controller controller_pv_protection = {
	.name = "persistentvolume-protection",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
