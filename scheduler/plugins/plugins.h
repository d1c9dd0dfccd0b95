/* SPDX-License-Identifier: Apache-2.0 */
/* The plugins' declarations, for the table and for tests. */
#pragma once

#include "scheduler/plugin.h"

extern const struct scheduler_plugin plugin_node_unschedulable, plugin_node_name, plugin_taint_toleration,
	plugin_node_affinity, plugin_node_ports, plugin_node_resources_fit;
