/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody changed behind this process's back (bpftool, ip, tc): found by comparing what the kernel holds with
 * what was last written there, and put right at once. Costs a walk over the maps of policy and a few dumps of
 * netlink. Frontends are netctl's, who knows what is wanted. Loop thread. */
#pragma once

#include "userspace/dataplane/dataplane.h"

enum dp_drift_kind {
	DP_DRIFT_FRONTEND, /* frontends and their backends; counted by the caller */
	DP_DRIFT_ENDPOINT, /* identities, policy flags, links of addresses */
	DP_DRIFT_RULE,     /* rules and prefixes of policies */
	DP_DRIFT_PROGRAM,  /* at the cgroup, XDP on links */
	DP_DRIFT_FILTER,   /* on links of pods and of the host */
	DP_DRIFT_ADDRESS,  /* of the node, in the maps; on `lo` */
	DP_DRIFT_ROUTE,    /* of pods and of the ranges */
	DP_DRIFT_STATE,    /* the row of generation and flags */
	DP_DRIFT_LINK,     /* rows of the host's links: what traffic is masqueraded with */
	DP_DRIFT_NETNS,    /* rows of pods' namespaces */
	DP_DRIFT_LIMIT,    /* bandwidth: rows of links, flags of addresses */
	DP_DRIFT_SET,      /* backends and source ranges that no frontend names */
	DP_DRIFT_COUNTER,  /* rows of what pods lost */
	DP_DRIFT_DIRECT,   /* nets that pods reach with their own addresses */
	DP_DRIFT_PIN,      /* of maps */
	DP_DRIFT_KINDS,
};

struct dp_drift {
	uint32_t n[DP_DRIFT_KINDS];
};

const char *dataplane_drift_name(enum dp_drift_kind kind); /* "frontend" */
/* What rtnetlink led to since the last call: found and repaired already. */
void dataplane_drift_of_links(struct dataplane *dp, struct dp_drift *add);
/* Adds what was found (and repaired) to *add, of all but frontends. A failure leaves the rest unlooked at. */
int dataplane_drift(struct dataplane *dp, struct dp_drift *add, struct err *err);

/* The same in pieces, each short enough for a turn of the loop, while others write in between. First the frontends:
 * what the maps hold is told to fn, piece by piece, 1: there are more. One that is there all the time is told of. */
struct dp_drift_look;
struct dp_drift_look *dataplane_drift_begin(struct dataplane *dp);
int dataplane_drift_frontends(struct dp_drift_look *look, dataplane_service_fn *fn, void *arg, struct err *err);
/* Then everything else. 1: there is more. */
int dataplane_drift_rest(struct dp_drift_look *look, struct dp_drift *add, struct err *err);
void dataplane_drift_end(struct dp_drift_look *look);
/* Is there such a frontend, whatever it says? */
bool dataplane_service_has(struct dataplane *dp, const struct dp_service *frontend);
