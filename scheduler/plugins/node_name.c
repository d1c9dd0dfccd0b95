/* SPDX-License-Identifier: Apache-2.0 */
/* NodeName: a pod that names its node goes there. Any thread. */
#include "scheduler/plugins/plugins.h"

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	struct str name = json_get_str(c->spec, "nodeName");

	if (name.n == 0 || str_is(name, node->name))
		return VERDICT_FITS;
	reasons_add(reasons, "node(s) didn't match the requested node name");
	return VERDICT_UNRESOLVABLE;
}

const struct scheduler_plugin plugin_node_name = { .name = "NodeName", .filter = filter };
