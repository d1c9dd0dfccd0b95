/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses in programs. */
#pragma once

#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/include/addr.h"

static __always_inline void addr_set_v4(struct k3c_addr *a, __be32 v4)
{
	a->q[0] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = v4;
}

static __always_inline bool addr_is_v4(const struct k3c_addr *a)
{
	return a->q[0] == 0 && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline bool addr_eq(const struct k3c_addr *a, const struct k3c_addr *b)
{
	return a->q[0] == b->q[0] && a->q[1] == b->q[1];
}

/* By value and mask; an all-zero net with an all-zero mask is "unset" and never matches. */
static __always_inline bool addr_in(const struct k3c_addr *a, const volatile struct k3c_addr *net,
				    const volatile struct k3c_addr *mask)
{
	__u64 m0 = mask->q[0], m1 = mask->q[1];

	return (m0 | m1) && (a->q[0] & m0) == net->q[0] && (a->q[1] & m1) == net->q[1];
}

/* `v6` as the packet says: options that are constants make this one comparison. */
static __always_inline bool addr_in_nets(const struct k3c_addr *a, bool v6, const volatile struct k3c_addr *nets,
					 const volatile struct k3c_addr *masks)
{
	return v6 ? addr_in(a, &nets[K3C_V6], &masks[K3C_V6]) : addr_in(a, &nets[K3C_V4], &masks[K3C_V4]);
}

/* ff00::/8, fe80::/10, or no address at all: of one link only. Of IPv6. */
static __always_inline bool addr_is_link_scope6(const struct k3c_addr *a)
{
	return a->b[0] == 0xff || (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80) || !(a->q[0] | a->q[1]);
}
