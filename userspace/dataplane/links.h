/* SPDX-License-Identifier: Apache-2.0 */
/* The node's addresses as several files see them. Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>

#include "userspace/dataplane/dataplane.h"
#include "userspace/dataplane/netlink.h"

struct dataplane;
struct k3c_addr;

/* An address that a node of this pin folder put on `lo`. */
bool links_own_address(const struct nlmsghdr *h, const char *pin_dir, struct nl_address *ret);
/* What had been done to a link is no more (enum k3c_link_flags). */
void links_undone(struct dataplane *dp, uint32_t ifindex, uint32_t flags);
/* One of the addresses that the node goes by. */
bool links_is_node(const struct dataplane *dp, const struct k3c_addr *a);
bool local_addresses_has(const struct dataplane *dp, const struct k3c_addr *addr);
/* local_addresses.c: those that were taken away come back; adds how many to *found. */
int local_addresses_repair(struct dataplane *dp, uint32_t *found, struct err *err);
/* pods.c: every pod's routes, with the node's addresses as they are now. */
int pods_routes(struct dataplane *dp, struct err *err);
