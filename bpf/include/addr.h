/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* An address as both sides of the dataplane hold it: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d, so that
 * every key has one form. */
#pragma once

#include <linux/types.h>

/* What is kept once for each family stands in arrays of two. */
enum k3c_family { K3C_V4, K3C_V6, K3C_FAMILIES };

struct k3c_addr {
	union {
		__u8 b[16];
		__u32 w[4];
		__u64 q[2];
	};
};
_Static_assert(sizeof(struct k3c_addr) == 16, "k3c_addr");
