/* SPDX-License-Identifier: Apache-2.0 */
/* What a start finds: sets of maps that builds before it made, the one to go on from first. */
#pragma once

#include "userspace/dataplane/maps.h"

struct bpf_object;

#define MAPS_SET_IDS 64 /* more than any build has */

struct map_set {
	char folder[DP_PATH_MAX];
	uint32_t ids[MAPS_SET_IDS]; /* also of maps that this build does not know */
	size_t n_ids;
	struct map_look look[DP_MAP_COUNT];
};

struct maps_found {
	struct map_set sets[DP_SETS_MAX];
	size_t n;
	bool attached; /* programs of an earlier start are at work */
	/* They use maps that none of the sets has: an older build was at work, and the first set, which its names now
	 * lead to, may be a mixture. */
	bool foreign;
};

/* `entries`: how many each map is to have. */
struct maps_found *maps_found_create(const char *pin_dir, struct bpf_object *object,
				     const uint32_t entries[static DP_MAP_COUNT]);
void maps_found_destroy(struct maps_found *f);
