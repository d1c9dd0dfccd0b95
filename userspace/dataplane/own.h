/* SPDX-License-Identifier: Apache-2.0 */
/* The way of the host's own packets to Services (own.c). Inside the room only. Loop thread. */
#pragma once

#include <stdbool.h>

#include "userspace/base/err.h"
#include "userspace/dataplane/netlink.h"

struct dataplane;
struct k3c_addr;
struct k3c_service_key;

/* Remembers the frontends that stand in the maps, and builds what they need. */
void own_open(struct dataplane *dp);
void own_finish(struct dataplane *dp);
/* None of these fails: nothing else waits for the host's SCTP. What could not be done is said once (a warning), the
 * frontend is remembered or forgotten all the same, what stands of the pair, its routes and lo's program stays as far
 * as it came, and own_is_missing() is true until whoever looks for drift has done all of it again, and it worked. */
/* Everything as it has to be: after programs or the node's addresses changed, or something was taken away. */
void own_follow(struct dataplane *dp);
/* A frontend stands, or no longer does. */
void own_service_set(struct dataplane *dp, const struct k3c_service_key *key);
void own_service_delete(struct dataplane *dp, const struct k3c_service_key *key);
/* What drift.c looks at. 0: there is no pair. */
int own_ifindex(const struct dataplane *dp);
int own_peer(const struct dataplane *dp);
bool own_has_lo(const struct dataplane *dp);
bool own_is_missing(struct dataplane *dp);
/* What programs know of it; adds to *found what was otherwise. */
int own_repair(struct dataplane *dp, uint32_t *found, struct err *err);
bool own_has_route(const struct dataplane *dp, const struct k3c_addr *addr);
typedef void own_route_fn(void *arg, const struct k3c_addr *dst, int ifindex);
void own_each_route(const struct dataplane *dp, own_route_fn *fn, void *arg);
/* As the map says it, whoever asks. */
bool own_is_attached(struct dataplane *dp, bool lo);
/* The pair, and the program on `lo` whether or not there is a pair. links_map: -1, nothing is known of who made the
 * qdisc there. */
void own_purge(struct nl *nl, const char *pin_dir, int links_map);
