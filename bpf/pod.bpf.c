// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The host end of a pod's veth. pod_out sees what the pod sends: it checks the source, both ends' policies (what it
 * hands to another pod never meets that pod's own hook), and passes the packet straight into the other pod's
 * namespace; the rest goes to the stack. pod_in sees what the stack (host and links) sends to the pod. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/pod_drop.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/packet_service.h"
#include "bpf/lib/rate.h"

/* What an interface says to its link on its own: there is nobody to hear it, and it is not worth counting. */
static __always_inline bool pod_is_to_all(struct __sk_buff *skb)
{
	__u8 first = 0;

	bpf_skb_load_bytes(skb, 0, &first, 1);
	return first & 1;
}

/* Neighbours are fixed on both sides: no ARP, no neighbour discovery. */
static __always_inline int pod_other(struct __sk_buff *skb, const struct packet *p)
{
	if (skb->protocol == bpf_htons(ETH_P_ARP) || skb->protocol == bpf_htons(ETH_P_IPV6) || pod_is_to_all(skb))
		return TC_ACT_SHOT;
	return pod_drop(skb, p, K3C_DROP_UNSUPPORTED, skb->ifindex, 0, 0);
}

/* `translated`: from service_out, which found the backend. */
static __always_inline int pod_send(struct __sk_buff *skb, bool translated)
{
	struct packet p = {};
	struct side src = {}, dst = {};
	struct k3c_endpoint *from, *to;
	int kind = packet_parse(skb, ETH_HLEN, &p);
	__u32 generation = policy_generation(), did = 0, reason;

	if (kind == PACKET_OTHER)
		return pod_other(skb, &p);
	if (kind == PACKET_MALFORMED)
		return pod_drop(skb, &p, K3C_DROP_MALFORMED, skb->ifindex, 0, 0);
	if (p.v6 && p.dst.b[0] == 0xff) /* there is nobody else on the link */
		return TC_ACT_SHOT;
	from = bpf_map_lookup_elem(&k3c_endpoint, &p.src);
	if (!from || from->ifindex != skb->ifindex || (p.icmp_error && !packet_error_is_of_end(&p)))
		return pod_drop(skb, &p, K3C_DROP_SPOOFED_SOURCE, skb->ifindex, 0, 0);
	if (p.v6 && addr_is_link_scope6(&p.dst))
		return pod_drop(skb, &p, K3C_DROP_UNSUPPORTED, skb->ifindex, 0, 0);
	if (!translated && service_concerns(&p))
		bpf_tail_call(skb, &k3c_tail, K3C_TAIL_SERVICE_OUT);
	to = bpf_map_lookup_elem(&k3c_endpoint, &p.dst);
	policy_side(&src, &p.src, from, generation);
	policy_side(&dst, &p.dst, to, generation);
	reason = policy_check(skb, &p, &src, &dst, false, generation, &did);
	if (policy_moved(did, generation))
		bpf_tail_call(skb, &k3c_tail, K3C_TAIL_POD_PASS);
	if (reason) {
		__u32 loser = skb->ifindex;

		barrier_var(loser); /* no pointer to one of two fields: the context is not read that way */
		if (to && reason == (did & POLICY_ANSWER ? K3C_DROP_POLICY_EGRESS : K3C_DROP_POLICY_INGRESS))
			loser = to->ifindex;
		return pod_drop(skb, &p, reason, loser, src.identity, dst.identity);
	}
	if ((from->flags & K3C_EP_LIMIT_EGRESS) && !rate_allows(skb, &p, from->ifindex, K3C_EGRESS))
		return pod_drop(skb, &p, K3C_DROP_RATE_EGRESS, skb->ifindex, src.identity, dst.identity);
	if (did & POLICY_NEW)
		event_flow(skb, &p, src.identity, dst.identity);
	if (!to || !to->ifindex)
		return TC_ACT_OK;
	if ((to->flags & K3C_EP_LIMIT_INGRESS) && !rate_allows(skb, &p, to->ifindex, K3C_INGRESS))
		return pod_drop(skb, &p, K3C_DROP_RATE_INGRESS, to->ifindex, src.identity, dst.identity);
	if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac), 0) < 0)
		return pod_drop(skb, &p, K3C_DROP_MALFORMED, skb->ifindex, 0, 0);
	if (service_answers(&p)) {
		skb->cb[K3C_TAIL_CB_IFINDEX] = to->ifindex;
		bpf_tail_call(skb, &k3c_tail, K3C_TAIL_SERVICE_BACK);
	}
	return bpf_redirect_peer(to->ifindex, 0);
}

SEC("tc")
int pod_out(struct __sk_buff *skb)
{
	return pod_send(skb, false);
}

SEC("tc")
int pod_pass(struct __sk_buff *skb)
{
	return pod_send(skb, true);
}

SEC("tc")
int pod_in(struct __sk_buff *skb)
{
	bool from_host = skb->ingress_ifindex == 0;
	struct packet p = {};
	struct side src = {}, dst = {};
	struct k3c_endpoint *from, *to;
	int kind = packet_parse(skb, ETH_HLEN, &p);
	__u32 generation = policy_generation(), did = 0, reason;

	if (kind == PACKET_OTHER)
		return skb->protocol == bpf_htons(ETH_P_IPV6) ? TC_ACT_SHOT : TC_ACT_OK;
	if (kind == PACKET_MALFORMED)
		return pod_drop(skb, &p, K3C_DROP_MALFORMED, skb->ifindex, 0, 0);
	to = bpf_map_lookup_elem(&k3c_endpoint, &p.dst);
	/* No address of the pod that is here, or one whose row somebody took away: nothing says who may send to it. */
	if (!to || to->ifindex != skb->ifindex)
		return pod_is_to_all(skb) ? TC_ACT_SHOT
					  : pod_drop(skb, &p, K3C_DROP_UNKNOWN_ADDRESS, skb->ifindex, 0, 0);
	from = bpf_map_lookup_elem(&k3c_endpoint, &p.src);
	/* A pod's packets for a pod never come this way. */
	if (from && from->ifindex && !from_host)
		return pod_drop(skb, &p, K3C_DROP_SPOOFED_SOURCE, skb->ifindex, 0, 0);
	policy_side(&dst, &p.dst, to, generation);
	policy_side(&src, &p.src, from, generation);
	/* Its own policy was judged where it sent; here it is a peer. */
	src.pod = NULL;
	src.ifindex = 0;
	reason = policy_check(skb, &p, &src, &dst, from_host, generation, &did);
	if (policy_moved(did, generation))
		bpf_tail_call(skb, &k3c_tail, K3C_TAIL_POD_IN);
	if (reason)
		return pod_drop(skb, &p, reason, skb->ifindex, src.identity, dst.identity);
	if ((to->flags & K3C_EP_LIMIT_INGRESS) && !rate_allows(skb, &p, to->ifindex, K3C_INGRESS))
		return pod_drop(skb, &p, K3C_DROP_RATE_INGRESS, skb->ifindex, src.identity, dst.identity);
	if (did & POLICY_NEW)
		event_flow(skb, &p, src.identity, dst.identity);
	if (service_answers(&p)) {
		skb->cb[K3C_TAIL_CB_IFINDEX] = 0;
		bpf_tail_call(skb, &k3c_tail, K3C_TAIL_SERVICE_BACK);
	}
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
