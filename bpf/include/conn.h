/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections of pods, and in a table of their own their datagrams, so that answers pass where only questions are
 * allowed. Between two pods only those whose ports do not tell who began (lib/policy.h). The key is the same for both
 * directions (the smaller end first). An entry remembers under which generation of the policies it was judged; a
 * newer generation makes the next packet, of either direction, judge it again: that is how a policy change cuts
 * established connections without anyone walking the table. */
#pragma once

#include "bpf/include/addr.h"

struct k3c_conn_key {
	struct k3c_addr a, b;
	__be16 a_port, b_port; /* ICMP echo: the identifier on the asking side, 0 on the other */
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct k3c_conn_key) == 40, "k3c_conn_key");

enum k3c_conn_flags {
	K3C_CONN_CLOSING = 2, /* FIN or RST seen */
	K3C_CONN_HOST = 4,    /* begun by this node itself: always allowed */
};

/* Two low bits of `judged`; refused: both directions are dropped. */
enum k3c_conn_verdict {
	K3C_CONN_ALLOWED = 0,
	K3C_CONN_CUT_INGRESS = 1, /* by whose policy, for the drop counters */
	K3C_CONN_CUT_EGRESS = 2,
};
#define K3C_CONN_VERDICT 3u
#define K3C_CONN_JUDGED(generation, verdict) ((__u32)(generation) << 2 | (verdict))

struct k3c_conn {
	__u64 last_ns;
	/* Generation and verdict in one word: both directions may be judged at once on two processors, the one still by
	 * the generation before. */
	__u32 judged;
	__u8 initiator; /* 0: a, 1: b */
	__u8 flags;
	/* Of which pods, by their links: whoever gets an address after them has begun nothing. 0: written by a build
	 * that does not say so. */
	__u16 links;
};
_Static_assert(sizeof(struct k3c_conn) == 16, "k3c_conn");

/* A datagram in fragments: only the first one shows the ports. Fragments that come before it are dropped where the
 * ports matter. Keyed by the packet as the hook sees it. */
struct k3c_frag_key {
	struct k3c_addr src, dst;
	__u32 id;
	__u8 proto; /* 0: IPv6, where the identifier is of all protocols */
	__u8 pad[3];
};
_Static_assert(sizeof(struct k3c_frag_key) == 40, "k3c_frag_key");

struct k3c_frag {
	__be16 sport, dport;
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct k3c_frag) == 8, "k3c_frag");

/* Of the sum of both ends' links: a later one has a higher number. */
#define K3C_CONN_LINKS(sum) ((__u16)((sum) | 0x8000u))

#define K3C_CONN_UDP_TIMEOUT_S 180
#define K3C_CONN_OTHER_TIMEOUT_S 60
#define K3C_CONN_CLOSING_TIMEOUT_S 60
#define K3C_CONN_TOUCH_S 1             /* last_ns is not written more often */
#define K3C_CONN_CLIENT_PORT_MIN 32768 /* of Linux' default ip_local_port_range */
