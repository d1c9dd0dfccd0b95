/* SPDX-License-Identifier: Apache-2.0 */
/* NodePorts: two pods of a node cannot have the same host port, protocol and address, and the
 * wildcard address is every address. Any thread. */
#include "scheduler/plugins/plugins.h"

struct wanted {
	struct host_port *ports;
	size_t n;
};

static void *pre_filter(const struct cycle *c)
{
	struct wanted *w = arena_new(c->arena, struct wanted);
	struct host_port *ports;

	w->n = cache_host_ports(c->spec, &ports);
	w->ports = arena_new_array(c->arena, struct host_port, w->n + 1);
	if (w->n > 0)
		memcpy(w->ports, ports, w->n * sizeof(*ports));
	free(ports);
	return w;
}

static bool collide(const struct host_port *a, const struct host_port *b)
{
	return a->port == b->port && !strcmp(a->protocol, b->protocol) &&
	       (!strcmp(a->ip, "0.0.0.0") || !strcmp(b->ip, "0.0.0.0") || !strcmp(a->ip, b->ip));
}

static enum verdict filter(const struct cycle *c, void *state, const struct cache_node *node, struct reasons *reasons)
{
	const struct wanted *w = state;

	for (size_t i = 0; i < w->n; i++)
		for (size_t k = 0; k < node->n_ports; k++)
			if (collide(&w->ports[i], &node->ports[k])) {
				reasons_add(reasons, "node(s) didn't have free ports for the requested pod ports");
				return VERDICT_UNSCHEDULABLE;
			}
	return VERDICT_FITS;
}

const struct scheduler_plugin plugin_node_ports = {
	.name = "NodePorts",
	.pre_filter = pre_filter,
	.filter = filter,
};
