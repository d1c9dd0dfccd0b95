/* SPDX-License-Identifier: Apache-2.0 */
/* The node's addresses as several files see them. Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>

#include "userspace/dataplane/dataplane.h"
#include "userspace/dataplane/netlink.h"

/* An address that a node of this pin folder put on `lo`. */
bool links_own_address(const struct nlmsghdr *h, const char *pin_dir, struct nl_address *ret);
/* pods.c: every pod's routes, with the node's addresses as they are now. */
int pods_routes(struct dataplane *dp, struct err *err);
