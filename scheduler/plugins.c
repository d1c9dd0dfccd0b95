/* SPDX-License-Identifier: Apache-2.0 */
/* The table of plugins. To add one: its file, its declaration, its line. Any thread. */
#include <assert.h>

#include "scheduler/plugin.h"
#include "scheduler/plugins/plugins.h"

const struct scheduler_plugin *const scheduler_plugins[] = {
	&plugin_node_unschedulable, &plugin_node_name,  &plugin_taint_toleration,
	&plugin_node_affinity,      &plugin_node_ports, &plugin_node_resources_fit,
};
const size_t n_scheduler_plugins = ARRAY_SIZE(scheduler_plugins);

void plugins_assert_unique(void)
{
	for (size_t i = 0; i < n_scheduler_plugins; i++)
		for (size_t k = 0; k < i; k++)
			assert(strcmp(scheduler_plugins[i]->name, scheduler_plugins[k]->name) != 0);
}

void reasons_add(struct reasons *r, const char *reason)
{
	if (r->n < PLUGIN_REASONS_MAX)
		r->items[r->n++] = reason;
}
