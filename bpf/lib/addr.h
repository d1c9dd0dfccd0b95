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
