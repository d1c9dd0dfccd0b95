/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts of maps that builds before two address families read and wrote: taken over by maps_carry.c, left behind by
 * legacy.c. */
#pragma once

#include <stdint.h>

#include "bpf/include/addr.h"

struct dataplane;

#define LEGACY_VERSION 1  /* of all of them: <name>_v1 */
#define LEGACY_ISOLATED 3 /* in endpoints' flags: both directions */
#define LEGACY_DROP_REASONS 11
/* In the meta row's flags and untouched by those builds: IPv6 forwarding was off before. */
#define LEGACY_META_RAISED_IP6 0x80000000u

struct legacy_endpoint {
	uint32_t ifindex;
	uint32_t identity;
	uint32_t policy_set;
	uint16_t flags;
	uint8_t mac[6];
};
_Static_assert(sizeof(struct legacy_endpoint) == 20, "legacy_endpoint");

struct legacy_link {
	struct k3c_addr addr; /* IPv4 */
	uint32_t flags;       /* enum k3c_link_flags; those that such a build does not know it leaves as they are */
	uint32_t pad;
};
_Static_assert(sizeof(struct legacy_link) == 24, "legacy_link");

struct legacy_meta {
	uint32_t generation, flags;
	uint8_t build_id[32];
	int32_t saved_ip_forward;
	uint32_t next_set;
};
_Static_assert(sizeof(struct legacy_meta) == 48, "legacy_meta");

/* At an orderly end. Best effort: without it such a build only finds no pods. */
void legacy_leave(struct dataplane *dp);
