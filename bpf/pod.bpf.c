// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The host end of a pod's veth. pod_out sees what the pod sends: it checks the source, both ends' policies (what it
 * hands to another pod never meets that pod's own hook), and passes the packet straight into the other pod's
 * namespace; the rest goes to the stack. pod_in sees what the stack (host and links) sends to the pod. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/drop.h"
#include "bpf/lib/policy.h"

static __always_inline int pod_drop(struct __sk_buff *skb, __u32 reason)
{
	drop_count(reason, skb->len);
	return TC_ACT_SHOT;
}

/* Neighbours are fixed on both sides: no ARP. IPv6 is not carried yet; what an interface sends to its link on its
 * own (multicast) is not worth counting. */
static __always_inline int pod_other(struct __sk_buff *skb)
{
	__u8 first = 0;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return TC_ACT_SHOT;
	bpf_skb_load_bytes(skb, 0, &first, 1);
	if (first & 1)
		return TC_ACT_SHOT;
	return pod_drop(skb, K3C_DROP_UNSUPPORTED);
}

SEC("tc")
int pod_out(struct __sk_buff *skb)
{
	struct packet p = {};
	struct side src = {}, dst = {};
	struct k3c_endpoint *from, *to;
	enum packet_kind kind = packet_parse(skb, &p);
	__u32 reason;

	if (kind == PACKET_OTHER)
		return pod_other(skb);
	if (kind == PACKET_MALFORMED)
		return pod_drop(skb, K3C_DROP_MALFORMED);
	from = bpf_map_lookup_elem(&k3c_endpoint, &p.src);
	if (!from || from->ifindex != skb->ifindex)
		return pod_drop(skb, K3C_DROP_SPOOFED_SOURCE);
	to = bpf_map_lookup_elem(&k3c_endpoint, &p.dst);
	src.pod = from;
	src.addr = &p.src;
	src.identity = from->identity;
	dst.addr = &p.dst;
	if (to) {
		dst.identity = to->identity;
		if (to->ifindex)
			dst.pod = to;
	}
	reason = policy_check(&p, &src, &dst, false);
	if (reason)
		return pod_drop(skb, reason);
	if (!to || !to->ifindex)
		return TC_ACT_OK;
	if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac), 0) < 0)
		return pod_drop(skb, K3C_DROP_MALFORMED);
	return bpf_redirect_peer(to->ifindex, 0);
}

SEC("tc")
int pod_in(struct __sk_buff *skb)
{
	bool from_host = skb->ingress_ifindex == 0;
	struct packet p = {};
	struct side src = {}, dst = {};
	struct k3c_endpoint *from, *to;
	enum packet_kind kind = packet_parse(skb, &p);
	__u32 reason;

	if (kind == PACKET_OTHER)
		return TC_ACT_OK;
	if (kind == PACKET_MALFORMED)
		return pod_drop(skb, K3C_DROP_MALFORMED);
	to = bpf_map_lookup_elem(&k3c_endpoint, &p.dst);
	if (!to || to->ifindex != skb->ifindex)
		return TC_ACT_OK;
	from = bpf_map_lookup_elem(&k3c_endpoint, &p.src);
	/* A pod's packets for a pod never come this way. */
	if (from && from->ifindex && !from_host)
		return pod_drop(skb, K3C_DROP_SPOOFED_SOURCE);
	dst.pod = to;
	dst.addr = &p.dst;
	dst.identity = to->identity;
	src.addr = &p.src;
	src.identity = from ? from->identity : 0;
	reason = policy_check(&p, &src, &dst, from_host);
	return reason ? pod_drop(skb, reason) : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
