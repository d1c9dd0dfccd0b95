/* SPDX-License-Identifier: Apache-2.0 */
/* Which pod has which address of the node's ranges, in memory: what was given before a restart is read back from the
 * links. A family whose range is zero gives none. No kernel, no registry. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/map.h"
#include "userspace/dataplane/dataplane.h"

/* Addresses of a wider range that are ever given out: the first ones, with those of the host left out. */
#define POD_ADDRESSES_SEARCH_MAX 1048576

struct pod_addresses {
	struct dp_net nets[DP_FAMILIES];
	struct map owners;             /* 16 bytes -> uid (heap) */
	uint64_t cursors[DP_FAMILIES]; /* where the next search begins */
};

void pod_addresses_init(struct pod_addresses *p, const struct dp_net nets[static DP_FAMILIES]);
void pod_addresses_finish(struct pod_addresses *p);
bool pod_addresses_has(const struct pod_addresses *p, const struct dp_addr *a);
bool pod_addresses_in_range(const struct pod_addresses *p, const struct dp_addr *a);
/* Of an earlier run: taken, wherever it lies, and the search goes on behind it. */
void pod_addresses_take(struct pod_addresses *p, const struct dp_addr *a, struct str uid);
/* Only if this pod has it. */
void pod_addresses_release(struct pod_addresses *p, const struct dp_addr *a, struct str uid);
/* -ENOSPC: every address of that family's range is taken. */
int pod_addresses_allocate(struct pod_addresses *p, enum dp_family family, struct str uid, struct dp_addr *ret);
