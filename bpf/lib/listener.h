/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the sockets of pods say of a flow that no table knows: whoever listens did not begin a TCP connection, who began
 * it has a socket that awaits the answer, and who asks one other end by datagrams may have one connected to it. */
#pragma once

#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"

K3C_MAP_NSID;

enum listener {
	LISTENER_NONE = 1,
	LISTENER_THERE = 2, /* zero: nobody knows the namespace */
};

/* Of a socket in the pod's namespace; 0: there is none. `tuple`: from the one who sends to the pod. */
static __always_inline __u32 listener_state(struct __sk_buff *skb, bool v6, __u32 nsid, struct bpf_sock_tuple *tuple)
{
	struct bpf_sock *sk;
	__u32 state;

	sk = bpf_skc_lookup_tcp(skb, tuple, v6 ? sizeof(tuple->ipv6) : sizeof(tuple->ipv4), nsid, 0);
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state;
}

static __always_inline void listener_tuple(bool v6, const struct k3c_addr *addr, __be16 port,
					   struct bpf_sock_tuple *ret)
{
	if (v6) {
		__builtin_memcpy(ret->ipv6.daddr, addr, sizeof(*addr));
		ret->ipv6.dport = port;
	} else {
		ret->ipv4.daddr = addr->w[3];
		ret->ipv4.dport = port;
	}
}

/* Who sends it. */
static __always_inline void listener_tuple_from(bool v6, const struct k3c_addr *addr, __be16 port,
						struct bpf_sock_tuple *ret)
{
	if (v6) {
		__builtin_memcpy(ret->ipv6.saddr, addr, sizeof(*addr));
		ret->ipv6.sport = port;
	} else {
		ret->ipv4.saddr = addr->w[3];
		ret->ipv4.sport = port;
	}
}

/* `pod`: the host end of its link; 0: no pod. From port 0 comes nobody: no established socket is found. */
static __always_inline enum listener listener_at(struct __sk_buff *skb, bool v6, __u32 pod, const struct k3c_addr *addr,
						 __be16 port)
{
	struct bpf_sock_tuple tuple = {};
	__u32 *nsid = pod ? bpf_map_lookup_elem(&k3c_nsid, &pod) : NULL;

	if (!nsid)
		return 0;
	listener_tuple(v6, addr, port, &tuple);
	return listener_state(skb, v6, *nsid, &tuple) == BPF_TCP_LISTEN ? LISTENER_THERE : LISTENER_NONE;
}

/* Is there a socket of the pod (`dst`) for what comes from that end, and more than one that listens? Where nobody
 * knows, yes. */
static __always_inline bool listener_awaits(struct __sk_buff *skb, bool v6, __u32 pod, const struct k3c_addr *src,
					    __be16 sport, const struct k3c_addr *dst, __be16 dport)
{
	__u32 *nsid = bpf_map_lookup_elem(&k3c_nsid, &pod), state;
	struct bpf_sock_tuple tuple = {};

	if (!nsid)
		return true;
	listener_tuple(v6, dst, dport, &tuple);
	listener_tuple_from(v6, src, sport, &tuple);
	state = listener_state(skb, v6, *nsid, &tuple);
	return state && state != BPF_TCP_LISTEN;
}

/* Has the receiver of a datagram (its sender, when `turned`) a socket for the other end alone? Such a one hears nobody
 * else. The kernel also finds those that hear everybody, and those connected to all ports of an address. `nsid`: also
 * BPF_F_CURRENT_NETNS, the node's. Global: verified once. */
__attribute__((noinline)) int listener_is_connected(struct __sk_buff *skb, const struct packet *p, __u32 nsid,
						    int turned)
{
	struct bpf_sock_tuple tuple = {};
	__be16 peer_port;
	struct bpf_sock *sk;
	int connected;

	if (!p)
		return false;
	peer_port = turned ? p->flow.dport : p->flow.sport;
	listener_tuple(p->v6, turned ? &p->flow.src : &p->flow.dst, turned ? p->flow.sport : p->flow.dport, &tuple);
	listener_tuple_from(p->v6, turned ? &p->flow.dst : &p->flow.src, peer_port, &tuple);
	if (!peer_port)
		return false;
	sk = bpf_sk_lookup_udp(skb, &tuple, p->v6 ? sizeof(tuple.ipv6) : sizeof(tuple.ipv4), nsid, 0);
	if (!sk)
		return false;
	connected = sk->state == BPF_TCP_ESTABLISHED && sk->dst_port == peer_port;
	bpf_sk_release(sk);
	return connected;
}
