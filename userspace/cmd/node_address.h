/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses the node goes by: one of each family that the cluster has. */
#pragma once

#include <stdbool.h>

#include "userspace/dataplane/dataplane.h"

#define NODE_ADDRESS_MAX 46
/* Given to `lo` on a host that has no other address, so that pods still reach the API server. Of ranges that nobody
 * routes (RFC 2544, RFC 5180); EndpointSlices refuse link-local addresses. */
#define NODE_ADDRESS_FALLBACK "198.18.77.1"
#define NODE_ADDRESS_FALLBACK_V6 "2001:2:0:77::1"

struct config;

struct node_addresses {
	struct dp_addr addrs[DP_FAMILIES]; /* zero: the cluster has not that family */
	bool fallback[DP_FAMILIES];        /* not the host's: goes to `lo` */
	/* The same as text, the primary first; n of them. */
	char texts[DP_FAMILIES][NODE_ADDRESS_MAX];
	unsigned n;
};

/* What --node-ip names; else the source address of the default route, else the first address of a link that is up, else
 * the fallback. */
void node_addresses_find(const struct config *config, struct node_addresses *ret);
bool node_addresses_equal(const struct node_addresses *a, const struct node_addresses *b);
