/* SPDX-License-Identifier: Apache-2.0 */
/* One scheduling cycle: filter all nodes, score those that are left, take the best; or say why there
 * is none, in upstream's words. Pure over the cache. Loop thread only. */
#pragma once

#include "scheduler/cache.h"
#include "scheduler/plugin.h"

struct cycle_result {
	const struct cache_node *node; /* NULL: none */
	const char *message;           /* then: why, in the arena */
};

void cycle_run(const struct cycle *c, const struct cache *cache, struct cycle_result *ret);
