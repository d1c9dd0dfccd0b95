// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* What a pod with an egress limit sends, in its own namespace, behind the pod's stack and before fq: when may it leave?
 * So every path out of the pod is paced, and senders that are paced slow down instead of losing packets. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stddef.h>

#include "bpf/lib/pod_drop.h"
#include "bpf/lib/rate.h"

K3C_MAP_ENDPOINT;

struct rate_ip6 {
	__u8 head[8];
	struct k3c_addr src;
};

static __always_inline bool rate_source(struct __sk_buff *skb, struct k3c_addr *ret)
{
	__be32 v4;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), &v4, sizeof(v4)) < 0)
			return false;
		addr_set_v4(ret, v4);
		return true;
	}
	return skb->protocol == bpf_htons(ETH_P_IPV6) &&
	       bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct rate_ip6, src), ret, sizeof(*ret)) == 0;
}

/* The filter carries the host end of the pod that this runs in, as far as there is room: who can send raw packets must
 * not spend what another may send. 0: not said (an older server's filter, or a
 * number that ends so). */
static __always_inline bool rate_is_own(struct __sk_buff *skb, __u32 ifindex)
{
	__u16 own = skb->tc_classid;

	return !own || own == (__u16)ifindex;
}

/* Counted and told as what the pod loses at its host end. */
static __always_inline int rate_drop(struct __sk_buff *skb, __u32 ifindex)
{
	struct packet p = {};
	struct k3c_event *e;

	pod_drop_count(K3C_DROP_RATE_EGRESS, ifindex, skb->wire_len);
	drop_count(K3C_DROP_RATE_EGRESS, skb->wire_len);
	if (packet_parse(skb, ETH_HLEN, &p) != PACKET_IP)
		return TC_ACT_SHOT;
	e = event_begin(K3C_EVENT_DROP);
	if (!e)
		return TC_ACT_SHOT;
	event_fill(e, &p, ifindex, skb->wire_len);
	e->reason = K3C_DROP_RATE_EGRESS;
	event_end(e);
	return TC_ACT_SHOT;
}

SEC("tc")
int pod_pace(struct __sk_buff *skb)
{
	struct k3c_addr src = {};
	struct k3c_endpoint *e;
	struct k3c_rate *r;
	__u32 ifindex;

	if (!rate_source(skb, &src))
		return TC_ACT_OK;
	e = bpf_map_lookup_elem(&k3c_endpoint, &src);
	if (!e) /* no address of the pod: the host's end drops it */
		return TC_ACT_OK;
	ifindex = e->ifindex;
	if (!rate_is_own(skb, ifindex)) /* so it does this */
		return TC_ACT_OK;
	r = bpf_map_lookup_elem(&k3c_rate, &ifindex);
	if (!r || !r->limit[K3C_EGRESS].bits_s || rate_pace(skb, &r->limit[K3C_EGRESS]))
		return TC_ACT_OK;
	return rate_drop(skb, ifindex);
}

char LICENSE[] SEC("license") = "GPL";
