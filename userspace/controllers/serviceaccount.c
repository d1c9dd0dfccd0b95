/* SPDX-License-Identifier: Apache-2.0 */
/* A ServiceAccount "default" in every namespace. Key: the namespace. Loop thread only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static const struct str wanted = { "default", sizeof("default") - 1 };

static void map_account(struct runner *r, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	if (type == REGISTRY_DELETED && str_eq(o->name, wanted))
		runner_enqueue(r, STR_NULL, o->ns);
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *ns = registry_get(ctx->reg, KIND_NAMESPACE, STR_NULL, ctx->name);

	if (!ns || ns->deleting || registry_get(ctx->reg, KIND_SERVICEACCOUNT, ns->name, wanted))
		return 0;
	reconcile_create(ctx, KIND_SERVICEACCOUNT, object_new(ctx->arena, KIND_SERVICEACCOUNT, ns->name, wanted), NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_NAMESPACE, runner_enqueue_self },
	{ &KIND_SERVICEACCOUNT, map_account },
};

const struct controller controller_serviceaccount = {
	.name = "serviceaccount",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
