/* SPDX-License-Identifier: Apache-2.0 */
/* The veth pair of a pod: one end in its namespace, the other on the host. Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/dataplane/netlink.h"

#define VETH_POD_NAME "eth0" /* the pod's end, there */

/* The host's end, as every pod knows its gateway. */
extern const uint8_t veth_host_mac[6];

struct veth_look {
	int ifindex, peer;
	uint8_t operstate;
	bool up;
};

/* 0 fields: no such link. */
struct veth_look veth_look(struct nl *nl, const char *name);
/* `mac`, `netns_fd` (-1: here as well): the other end's. */
void veth_put(struct nl *nl, const char *name, const char *peer_name, const uint8_t *mac, int netns_fd, uint32_t mtu);
/* An end that was up before its other end gets its queue from a kernel worker; until then it drops what is sent.
 * Usually a fraction of a millisecond; a worker that takes longer than the limit costs a packet, not the pod. */
void veth_await_carrier(struct nl *nl, const char *name);
