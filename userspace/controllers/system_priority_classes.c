/* SPDX-License-Identifier: Apache-2.0 */
/* The two PriorityClasses of the system, which are always there. Key: the class. Loop thread only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static const struct {
	const char *name, *description;
	int64_t value;
} classes[] = {
	{ "system-node-critical", "Used for system critical pods that must not be moved from their current node.",
	  2000001000 },
	{ "system-cluster-critical",
	  "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
	  2000000000 },
};

static int start(struct runner *r, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		runner_enqueue(r, STR_NULL, str_of(classes[i].name));
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		struct json *o;

		if (!str_is(ctx->name, classes[i].name) ||
		    registry_get(ctx->reg, KIND_PRIORITYCLASS, STR_NULL, ctx->name))
			continue;
		o = object_new(ctx->arena, KIND_PRIORITYCLASS, STR_NULL, ctx->name);
		json_set_int(ctx->arena, o, "value", classes[i].value);
		json_set_cstr(ctx->arena, o, "description", classes[i].description);
		reconcile_create(ctx, KIND_PRIORITYCLASS, o, NULL);
	}
	return 0;
}

const struct controller controller_system_priority_classes = {
	.name = "system-priority-classes",
	.start = start,
	.reconcile = reconcile,
};
