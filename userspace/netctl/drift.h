/* SPDX-License-Identifier: Apache-2.0 */
/* Objects against maps: what somebody changed in the kernel by hand is found, counted, told and put right. Looked for
 * when asked (status, service list), at a scrape of the metrics, and with a sync that comes long after the last look:
 * an idle node does nothing. Loop thread. */
#pragma once

#include <stdint.h>

#include "userspace/dataplane/drift.h"

struct netctl;

struct netctl_drift {
	uint64_t looks, failures;
	uint64_t found[DP_DRIFT_KINDS]; /* ever */
	struct dp_drift last;           /* of the last look that found something */
	int64_t last_found_ns;          /* monotonic; 0: never */
	int64_t last_look_ns;
	bool looking; /* in pieces */
};

#define DRIFT_EVERY_NS (600 * NS_PER_S) /* with a sync */
#define DRIFT_SCRAPE_NS (60 * NS_PER_S) /* with a scrape */
#define DRIFT_ASKED_NS (1 * NS_PER_S)   /* when somebody asks, */
/* who then waits for it so long, and the loop with him: some ten thousand Services. What takes longer goes on in turns,
 * and the answer says that it does. */
#define DRIFT_ASKED_WITHIN_NS (100 * NS_PER_MS)

/* A look goes on in short pieces, one a turn of the loop, unless one is under way or the last began less than
 * max_age_ns ago. */
void netctl_drift_begin(struct netctl *nc, int64_t max_age_ns);
/* The same for who wants to know at once: it is over when this returns, if it takes no more than within_ns. One under
 * way that is older begins anew, a younger one is carried on. */
void netctl_drift_look(struct netctl *nc, int64_t max_age_ns, int64_t within_ns);
/* It ends where it is. */
void netctl_drift_stop(struct netctl *nc);
/* What the links' news led to. */
void netctl_drift_of_links(struct netctl *nc);
const struct netctl_drift *netctl_get_drift(const struct netctl *nc);
