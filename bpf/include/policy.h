/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Policy rules: only what is allowed is written down (`except` is subtracted beforehand, and a narrow prefix carries
 * the ports of every wider one around it), so the longest match alone decides.
 *
 * A peer is an identity, or a *class*: the ports that a run of prefixes has in common. Ranges of ports are split
 * into power-of-two blocks, so "any protocol", "any port", blocks and single ports are one longest-prefix look-up.
 * All rules of a pod share a set number; like sets of backends they are never changed, only replaced. */
#pragma once

#include "bpf/include/addr.h"

enum k3c_direction { K3C_INGRESS = 0, K3C_EGRESS = 1 };

#define K3C_PEER_CLASS 0x80000000u /* set: the peer is a class, else an identity */

struct k3c_rule_key {
	__u32 prefixlen;
	__u32 set;
	__u32 peer;
	__u8 direction;
	__u8 proto;
	__be16 port;
};
_Static_assert(sizeof(struct k3c_rule_key) == 16, "k3c_rule_key");

#define K3C_RULE_BITS_ANY 72   /* every protocol */
#define K3C_RULE_BITS_PROTO 80 /* every port of the protocol */
#define K3C_RULE_BITS_PORT 96

struct k3c_prefix_key {
	__u32 prefixlen;
	__u32 set;
	__u8 direction;
	__u8 pad[7];
	struct k3c_addr addr;
};
_Static_assert(sizeof(struct k3c_prefix_key) == 32, "k3c_prefix_key");

#define K3C_PREFIX_BITS_FIXED 96

#define K3C_CLASS_ALL 0 /* every port of every protocol: no second look-up */

/* What the rules said last of connections between two pods of this node. Read and written without a lock: `who` holds
 * the pods mixed with `what`, so that halves of two writers fit together only when they mean the same. */
struct k3c_verdict {
	__u64 who;
	__u64 what; /* generation << 32 | port << 16 | proto << 8 | K3C_VERDICT_V6 | enum k3c_conn_verdict */
};
_Static_assert(sizeof(struct k3c_verdict) == 16, "k3c_verdict");

#define K3C_VERDICT_V6 0x80
#define K3C_VERDICT_BITS 10
#define K3C_VERDICT_ROWS (1u << K3C_VERDICT_BITS)
