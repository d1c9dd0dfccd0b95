/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who began a TCP connection that no table knows and whose ports do not tell? Whoever listens did not. */
#pragma once

#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"

K3C_MAP_NSID;

enum listener {
	LISTENER_NONE = 1,
	LISTENER_THERE = 2, /* zero: nobody knows the namespace */
};

/* `pod`: the host end of its link; 0: no pod. From port 0 comes nobody: no established socket is found. */
static __always_inline enum listener listener_at(struct __sk_buff *skb, bool v6, __u32 pod, const struct k3c_addr *addr,
						 __be16 port)
{
	struct bpf_sock_tuple tuple = {};
	enum listener found = LISTENER_NONE;
	__u32 size = sizeof(tuple.ipv4);
	struct bpf_sock *sk;
	__u32 *nsid;

	nsid = pod ? bpf_map_lookup_elem(&k3c_nsid, &pod) : NULL;
	if (!nsid)
		return 0;
	if (v6) {
		__builtin_memcpy(tuple.ipv6.daddr, addr, sizeof(*addr));
		tuple.ipv6.dport = port;
		size = sizeof(tuple.ipv6);
	} else {
		tuple.ipv4.daddr = addr->w[3];
		tuple.ipv4.dport = port;
	}
	sk = bpf_skc_lookup_tcp(skb, &tuple, size, *nsid, 0);
	if (!sk)
		return LISTENER_NONE;
	if (sk->state == BPF_TCP_LISTEN)
		found = LISTENER_THERE;
	bpf_sk_release(sk);
	return found;
}
