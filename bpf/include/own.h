/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The host's own packets for services that no socket program is asked about (SCTP). They are led into a pair of links
 * of the node's: by routes to the cluster's own addresses, from `lo` and from the host's links where the frontend is
 * another address. There both ends change: the destination becomes the backend, the source an address that only this
 * way has (the first one of the service net), so that all answers come back here and both ends change again. */
#pragma once

#include "bpf/include/addr.h"

/* The one row of k3c_own. */
struct k3c_own {
	__u32 ifindex; /* the end that packets are sent into; 0: there is no pair */
	__u32 lo;      /* 1: what the host says to itself is looked at, too */
	__u8 mac[6];   /* of the other end */
	__u16 pad2;
	struct k3c_addr addr[K3C_FAMILIES]; /* of the node, to refuse with; zero: none */
};
_Static_assert(sizeof(struct k3c_own) == 48, "k3c_own");
