/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Address translation on the host's links, both kinds in pairs: IN rewrites the destination of what arrives (a
 * service's frontend to its backend; a masqueraded answer to its pod), OUT rewrites the source of what leaves (the
 * backend's answer to the frontend; a pod to the node). Keys are the packet as it is seen before.
 *
 * Two tables hold them, so that questions, of which anybody may send as many as he likes, push out no connection. All
 * flows begin as unassured ones, in a table of their own; both halves move to the other table once the other end has
 * answered and the one that began went on after that. An answer alone is not enough: our own pods answer whoever
 * pretends to begin. Echoes never move, a question and its answer neither. */
#pragma once

#include "bpf/include/addr.h"

enum k3c_nat_kind { K3C_NAT_IN = 0, K3C_NAT_OUT = 1 };

struct k3c_nat_key {
	struct k3c_addr src, dst;
	__be16 sport, dport; /* ICMP echo as in conn.h */
	__u8 proto;
	__u8 kind;
	__u16 pad;
};
_Static_assert(sizeof(struct k3c_nat_key) == 40, "k3c_nat_key");

enum k3c_nat_flags {
	K3C_NAT_SERVICE = 1,
	K3C_NAT_MASQUERADE = 2,
	K3C_NAT_CLOSING = 4,
	K3C_NAT_REUSED = 8,   /* of earlier builds only */
	K3C_NAT_REMOTE = 16,  /* the backend is on another host: its answers must come back here */
	K3C_NAT_HAIRPIN = 32, /* of a pod with itself: both ends change */
	K3C_NAT_FIN = 64,     /* this direction has said its last */
	K3C_NAT_CLOSED = 128, /* both have, or one was reset */
	K3C_NAT_RESET = 256,
	/* Of flows that begin, as conntrack tells them: a question that was answered, and one that goes on after that
	 */
	K3C_NAT_ANSWERED = 512,
	K3C_NAT_STREAM = 1024,
	K3C_NAT_UNASSURED = 2048, /* stands in k3c_unassured, else in k3c_nat */
};

struct k3c_nat {
	struct k3c_addr addr;
	__be16 port;
	__u16 flags;
	/* The port of the other end, where it changes as well: of IN the source's, of OUT the destination's. 0: kept.
	 * Two flows of a client from one port to different frontends would be one and the same to their backend. */
	__be16 peer_port;
	__u16 links; /* of what leaves masqueraded: K3C_CONN_LINKS of the link it came by; else 0 */
	__u64 last_ns;
};
_Static_assert(sizeof(struct k3c_nat) == 32, "k3c_nat");

/* Connections that ended wait in a queue: their places are given back in order, the oldest's first, so that the short
 * ones of a busy service push no quiet one out of the table. The queue is the time that a late packet (a FIN said
 * again) still finds its translation. */
struct k3c_closed {
	struct k3c_nat_key key; /* of either half */
	__u64 since_ns;
};
_Static_assert(sizeof(struct k3c_closed) == 48, "k3c_closed");
#define K3C_CLOSED_SHARE 8  /* so many times as many translations as flows in the queue */
#define K3C_CLOSED_LATE_S 2 /* one that is used later than that after its end has not ended: a stranger's reset */

/* Ports to masquerade with are those that neither a client on the host nor a node port has (struct k3c_options). Where
 * next to none are left: above Linux' default ip_local_port_range and above every usual node port. */
#define K3C_SNAT_PORT_LOWEST 1024
#define K3C_SNAT_PORTS_LEAST 1024
#define K3C_SNAT_PORT_MIN 61001
#define K3C_SNAT_PORT_MAX 65535
#define K3C_SNAT_TRIES 32

/* Another port for a client whose own is taken where its flow goes. */
#define K3C_PEER_PORT_MIN 1024
#define K3C_PEER_PORT_MAX 65535
#define K3C_PEER_TRIES 16 /* places looked at; the first is the one with the client's own port */

#define K3C_NAT_TCP_TIMEOUT_S 7200
#define K3C_NAT_TCP_UNASSURED_TIMEOUT_S 120
#define K3C_NAT_UDP_TIMEOUT_S 30 /* a question, answered or not */
#define K3C_NAT_UDP_STREAM_TIMEOUT_S 180
#define K3C_NAT_OTHER_TIMEOUT_S 60
#define K3C_NAT_CLOSING_TIMEOUT_S 60
#define K3C_NAT_RESET_TIMEOUT_S 10
#define K3C_NAT_TOUCH_S 5

/* For both sides. How long one lives without a packet. `stateful`: TCP or SCTP. */
static inline __attribute__((always_inline)) __u32 k3c_nat_timeout_s(__u16 flags, int stateful, int udp)
{
	if (flags & K3C_NAT_CLOSING) /* one direction may still have much to say */
		return flags & K3C_NAT_RESET ? K3C_NAT_RESET_TIMEOUT_S : K3C_NAT_CLOSING_TIMEOUT_S;
	if (stateful)
		return flags & K3C_NAT_UNASSURED ? K3C_NAT_TCP_UNASSURED_TIMEOUT_S : K3C_NAT_TCP_TIMEOUT_S;
	if (udp)
		return flags & (K3C_NAT_STREAM | K3C_NAT_SERVICE) ? K3C_NAT_UDP_STREAM_TIMEOUT_S
								  : K3C_NAT_UDP_TIMEOUT_S;
	return K3C_NAT_OTHER_TIMEOUT_S;
}

/* The key of the other half of the pair (`in`: of one that arrives): what the packet's answer looks like before it is
 * translated. A pod that reaches itself answers the service. */
static inline __attribute__((always_inline)) void k3c_nat_mirror(const struct k3c_nat_key *key, const struct k3c_nat *n,
								 int in, struct k3c_nat_key *ret)
{
	int hairpin = n->flags & K3C_NAT_HAIRPIN;

	ret->src = in ? n->addr : hairpin ? key->src : key->dst;
	ret->sport = in ? n->port : key->dport;
	ret->dst = !in ? n->addr : hairpin ? key->dst : key->src;
	ret->dport = in ? key->sport : n->port;
	if (n->peer_port && in)
		ret->dport = n->peer_port;
	else if (n->peer_port)
		ret->sport = n->peer_port;
	ret->proto = key->proto;
	ret->kind = in ? K3C_NAT_OUT : K3C_NAT_IN;
	ret->pad = 0;
}

/* Packets with this mark are masqueraded whatever their source (kube-proxy's old mark): services' traffic that leaves
 * the host again. */
#define K3C_MARK_MASQUERADE 0x4000

/* Where pods go with their own addresses; asked only when a masqueraded flow would begin. */
struct k3c_direct_key {
	__u32 prefixlen; /* K3C_DIRECT_BITS_FIXED more than the net's */
	__u32 zero;
	struct k3c_addr addr;
};
_Static_assert(sizeof(struct k3c_direct_key) == 24, "k3c_direct_key");
#define K3C_DIRECT_BITS_FIXED 32

/* How hard it is to find free ports: collisions by searches is how full the range is. */
struct k3c_snat {
	__u64 searches;
	__u64 collisions;
	__u64 exhausted;
};
_Static_assert(sizeof(struct k3c_snat) == 24, "k3c_snat");
