/* SPDX-License-Identifier: Apache-2.0 */
/* TaintToleration: NoSchedule and NoExecute taints repel pods that do not tolerate them,
 * PreferNoSchedule makes a node a worse choice. Any thread. */
#include "scheduler/plugins/plugins.h"
#include "userspace/api/taint.h"

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	const struct json *tolerations = json_get(c->spec, "tolerations");

	json_foreach(t, json_at(node->json, "spec.taints")) {
		struct str effect = json_get_str(t, "effect");

		if ((!str_is(effect, "NoSchedule") && !str_is(effect, "NoExecute")) || taint_tolerated(t, tolerations))
			continue;
		reasons_add(reasons, "node(s) had untolerated taint(s)");
		return VERDICT_UNRESOLVABLE;
	}
	return VERDICT_FITS;
}

/* Taints that the pod would rather avoid. */
static int64_t score(const struct cycle *c, void *state, const struct cache_node *node)
{
	const struct json *tolerations = json_get(c->spec, "tolerations");
	int64_t n = 0;

	json_foreach(t, json_at(node->json, "spec.taints"))
		n += str_is(json_get_str(t, "effect"), "PreferNoSchedule") && !taint_tolerated(t, tolerations);
	return n;
}

const struct scheduler_plugin plugin_taint_toleration = {
	.name = "TaintToleration",
	.filter = filter,
	.score = score,
	.normalize = NORMALIZE_REVERSE,
	.weight = 3,
};
