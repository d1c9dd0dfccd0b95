/* SPDX-License-Identifier: Apache-2.0 */
/* What pods.c and pods_adopt.c share. Loop thread. */
#pragma once

#include "userspace/dataplane/internal.h"

#define POD_ALIAS_MAX 255

/* Stable for a pod, distinct between pods (applications make identifiers from it). */
void pods_names(const char *key, char ret_link[static IFNAMSIZ], uint8_t ret_mac[static 6]);
void pods_remember(struct dataplane *dp, const char *key, const char *netns_path,
		   const struct k3c_addr addrs[static DP_FAMILIES], int ifindex, struct pod_limits limits);
/* identity 0: as it is */
int pods_endpoint(struct dataplane *dp, const struct dp_addr *address, uint32_t identity, int ifindex,
		  const uint8_t *mac, uint16_t flags, struct err *err);
/* ifindex 0: of whatever link */
void pods_endpoint_forget(struct dataplane *dp, const struct k3c_addr *addr, int ifindex);
