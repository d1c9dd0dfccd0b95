/* SPDX-License-Identifier: Apache-2.0 */
/* NodeUnschedulable: cordoned nodes take only pods that tolerate it. Any thread. */
#include "scheduler/plugins/plugins.h"
#include "userspace/api/taint.h"

/* The taint that cordoning stands for, whether or not it is there yet. */
static void *pre_filter(const struct cycle *c)
{
	struct json *taint = json_new_object(c->arena);

	json_set_cstr(c->arena, taint, "key", "node.kubernetes.io/unschedulable");
	json_set_cstr(c->arena, taint, "effect", "NoSchedule");
	return taint;
}

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	if (!json_at_bool(node->json, "spec.unschedulable", false) ||
	    taint_tolerated(state, json_get(c->spec, "tolerations")))
		return VERDICT_FITS;
	reasons_add(reasons, "node(s) were unschedulable");
	return VERDICT_UNRESOLVABLE;
}

const struct scheduler_plugin plugin_node_unschedulable = {
	.name = "NodeUnschedulable",
	.pre_filter = pre_filter,
	.filter = filter,
};
