/* SPDX-License-Identifier: Apache-2.0 */
/* ComponentStatuses as upstream answers them: the scheduler, the controllers and the store are parts of the process
 * that answers, so they are as healthy as it is. Key: the name. Nothing is written when nothing differs. Loop thread
 * only. */
#include <string.h>

#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static const char *const components[] = { "scheduler", "controller-manager", "etcd-0" };

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct json *o, *condition;

	if (registry_get(ctx->reg, KIND_COMPONENTSTATUS, STR_NULL, ctx->name))
		return 0;
	o = object_new(ctx->arena, KIND_COMPONENTSTATUS, STR_NULL, ctx->name);
	condition = json_new_object(ctx->arena);
	json_set_cstr(ctx->arena, condition, "type", "Healthy");
	json_set_cstr(ctx->arena, condition, "status", "True");
	json_set_cstr(ctx->arena, condition, "message", "ok");
	json_append(json_ensure_array(ctx->arena, o, "conditions"), condition);
	reconcile_create(ctx, KIND_COMPONENTSTATUS, o, NULL);
	return 0;
}

static int start(struct runner *r, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(components); i++)
		runner_enqueue(r, STR_NULL, str_of(components[i]));
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_COMPONENTSTATUS, runner_enqueue_self },
};

const struct controller controller_component_status = {
	.name = "component-status",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.reconcile = reconcile,
};
