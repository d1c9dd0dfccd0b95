// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Services for the host's own packets (bpf/include/own.h says which and how). own_out is where they enter the pair, and
 * where all answers do: the destination is translated first (a frontend to its backend; on the way back the hidden
 * address to the client's), then the source (the client's to the hidden address; the backend's to the frontend): two
 * pairs of translations, as for those who come from outside and are led out again. Pods get their packets from here, as
 * of the host, the rest crosses the pair into the stack. What is for nobody is refused by the stack. own_lo sends what
 * the host says to its own addresses here. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/own.h"
#include "bpf/lib/pod_drop.h"
#include "bpf/lib/rate.h"

K3C_MAP_ENDPOINT;

static __always_inline int own_drop(struct __sk_buff *skb, const struct packet *p, __u32 reason)
{
	return drop_packet(skb, p, reason, 0, 0);
}

static __always_inline bool own_is_back(const struct packet *p)
{
	return node_is_hidden(p->v6, &p->dst);
}

/* enum lb_result. The client is who it would be at a socket: affinity is the same. Global: stack of its own. */
__attribute__((noinline)) int own_choose(const struct packet *p, struct k3c_backend *ret)
{
	struct k3c_affinity_key who = { .is_cookie = 1 };
	struct lb_choice choice = {};
	int r;

	if (!p || !ret)
		return LB_NOT_A_SERVICE;
	who.client.q[0] = k3c_host_netns;
	r = lb_by_address(LB_OF_HOST, &p->dst, p->flow.dport, p->flow.proto, &who, &choice);
	*ret = choice.backend;
	return r;
}

/* The stack refuses what comes to a port that nobody can have. Only the answer's half is written: the next packet looks
 * for backends again. */
static __always_inline bool own_refusal(const struct packet *p, struct k3c_nat *n)
{
	__u32 family = p->v6 ? K3C_V6 : K3C_V4;
	struct k3c_own *own = own_row();

	barrier_var(family);
	if (!own)
		return false;
	n->addr = own->addr[family & 1];
	n->flags = K3C_NAT_SERVICE | K3C_NAT_CLOSING;
	return n->addr.q[0] | n->addr.q[1];
}

/* Echo requests are not answered by an address of services, and refused at once: by the stack, in the name of one that
 * is routed nowhere (the last of the service net). As above only the answer's half is written. */
static __always_inline bool own_echo(const struct packet *p, const struct k3c_nat_key *key, struct k3c_nat *n)
{
	__u32 family = p->v6 ? K3C_V6 : K3C_V4;

	barrier_var(family);
	family &= 1;
	n->addr.q[0] = k3c_options.service_net[family].q[0] | ~k3c_options.service_mask[family].q[0];
	n->addr.q[1] = k3c_options.service_net[family].q[1] | ~k3c_options.service_mask[family].q[1];
	n->flags = K3C_NAT_SERVICE | K3C_NAT_CLOSING;
	if (!addr_in_nets(&p->dst, p->v6, k3c_options.service_net, k3c_options.service_mask) ||
	    addr_eq(&p->dst, &n->addr))
		return false;
	return nat_take_place(key, n) >= 0;
}

/* Of what was never translated. A reason to drop, or 0: *n says where to. */
static __always_inline __u32 own_begin(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat_key *key,
				       struct k3c_nat *n, bool known)
{
	bool first = !packet_is_stateful(p->flow.proto) || packet_is_syn(p);
	struct k3c_backend backend = {};
	int r = LB_NOT_A_SERVICE;

	if (own_is_back(p))
		return K3C_DROP_UNSUPPORTED;
	n->last_ns = bpf_ktime_get_ns();
	if (packet_is_icmp(p->flow.proto) && !p->icmp_error && !p->later_fragment && p->flow.sport)
		return own_echo(p, key, n) ? 0 : K3C_DROP_UNSUPPORTED;
	if (!own_may_begin(p))
		return K3C_DROP_UNSUPPORTED;
	/* Pods and the world are served elsewhere. */
	if (first && !skb->ingress_ifindex)
		r = own_choose(p, &backend);
	if (r != LB_FOUND) {
		if (!own_refusal(p, n))
			return K3C_DROP_NO_BACKEND;
		if (r == LB_NO_BACKEND)
			own_drop(skb, p, K3C_DROP_NO_BACKEND); /* counted and told */
		return nat_take_place(key, n) < 0 ? K3C_DROP_NAT_FULL : 0;
	}
	n->addr = backend.addr;
	n->port = backend.port;
	n->flags = K3C_NAT_SERVICE;
	if (!addr_in_nets(&n->addr, p->v6, k3c_options.pod_net, k3c_options.pod_mask) && !node_has(&n->addr))
		n->flags |= K3C_NAT_REMOTE;
	if (nat_pair(key, n, known) < 0)
		return K3C_DROP_NAT_FULL;
	event_translate(skb, p, K3C_VIA_LINK, &n->addr, n->port);
	return 0;
}

static __always_inline int own_rewrite(struct __sk_buff *skb, const struct packet *p, __u8 kind,
				       const struct k3c_nat *to)
{
	return p->icmp_error ? nat_rewrite_error(skb, p, kind, to) : nat_translate(skb, p, kind, to);
}

/* The first half. A reason to drop, or 0. Global, as the second one: verified once. */
__attribute__((noinline)) int own_destination(struct __sk_buff *skb, const struct packet *p)
{
	struct k3c_nat_key key = {};
	struct k3c_nat to = {};
	__u32 reason;
	int known;

	if (!p)
		return K3C_DROP_MALFORMED;
	known = nat_look(p, K3C_NAT_IN, 0, &to);
	if (known != NAT_GOES_ON) {
		nat_key(&p->flow, K3C_NAT_IN, &key);
		reason = own_begin(skb, p, &key, &to, known != NAT_NONE);
		if (reason)
			return reason;
	}
	/* A backend on another host must see the address of the link. */
	if (to.flags & K3C_NAT_REMOTE)
		skb->mark |= K3C_MARK_MASQUERADE;
	return own_rewrite(skb, p, K3C_NAT_IN, &to) < 0 ? K3C_DROP_MALFORMED : 0;
}

/* The pair that hides the client behind the address of this way; n: that address, and then the port there. Negative:
 * no port was found, or the kernel has no memory. */
static __always_inline int own_hide(const struct k3c_nat_key *key, struct k3c_nat *n, bool known)
{
	n->last_ns = bpf_ktime_get_ns();
	n->flags = K3C_NAT_MASQUERADE;
	return nat_pair(key, n, known);
}

/* The second half, of the packet as the first one left it. `back`: an answer, whose flow is known or nobody's. */
__attribute__((noinline)) int own_source(struct __sk_buff *skb, const struct packet *p, bool back)
{
	struct k3c_nat_key key = {};
	struct k3c_nat to = {};
	int known;

	if (!p)
		return K3C_DROP_MALFORMED;
	known = nat_look(p, K3C_NAT_OUT, 0, &to);
	if (known != NAT_GOES_ON) {
		if (back || p->icmp_error)
			return K3C_DROP_UNSUPPORTED;
		nat_key(&p->flow, K3C_NAT_OUT, &key);
		node_hidden(p->v6, &to.addr);
		if (own_hide(&key, &to, known != NAT_NONE) < 0)
			return K3C_DROP_NAT_FULL;
	}
	return own_rewrite(skb, p, K3C_NAT_OUT, &to) < 0 ? K3C_DROP_MALFORMED : 0;
}

/* To a pod of this node straight, so that its programs see that the host sent it; what is too large for its link
 * crosses first (own_in). */
static __always_inline int own_deliver(struct __sk_buff *skb, const struct packet *p)
{
	struct k3c_endpoint *to = bpf_map_lookup_elem(&k3c_endpoint, &p->dst);
	struct k3c_own *own = own_row();
	__u32 mtu = 0;

	if (to && to->ifindex && bpf_check_mtu(skb, to->ifindex, &mtu, 0, BPF_MTU_CHK_SEGS) == 0) {
		if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac), 0) < 0)
			return own_drop(skb, p, K3C_DROP_MALFORMED);
		return bpf_redirect(to->ifindex, 0);
	}
	if (!own || bpf_skb_store_bytes(skb, 0, own->mac, sizeof(own->mac), 0) < 0)
		return own_drop(skb, p, K3C_DROP_MALFORMED);
	return TC_ACT_OK;
}

SEC("tc")
int own_out(struct __sk_buff *skb)
{
	struct packet p = {};
	int kind = packet_parse(skb, ETH_HLEN, &p);
	__u32 reason;
	bool back;

	if (kind == PACKET_OTHER) /* what a link says to itself */
		return TC_ACT_SHOT;
	if (kind == PACKET_MALFORMED)
		return own_drop(skb, &p, K3C_DROP_MALFORMED);
	if (p.no_ports)
		return own_drop(skb, &p, K3C_DROP_FRAGMENT);
	if (!nat_check_offset(&p))
		return own_drop(skb, &p, K3C_DROP_UNSUPPORTED);
	back = own_is_back(&p);
	reason = own_destination(skb, &p);
	if (reason)
		return own_drop(skb, &p, reason);
	__builtin_memset(&p, 0, sizeof(p));
	if (packet_parse(skb, ETH_HLEN, &p) != PACKET_IP || p.no_ports)
		return own_drop(skb, &p, K3C_DROP_MALFORMED);
	reason = own_source(skb, &p, back);
	if (reason)
		return own_drop(skb, &p, reason);
	return own_deliver(skb, &p);
}

/* What crossed. Who says it to an address of the host believes the way to be as wide as `lo`, and what he made cannot
 * be made smaller: such a pod gets it past its link, whose width is nothing that a packet in memory needs. Its programs
 * saw how the association began. */
SEC("tc")
int own_in(struct __sk_buff *skb)
{
	struct k3c_endpoint *to;
	struct packet p = {};

	if (packet_parse(skb, ETH_HLEN, &p) != PACKET_IP)
		return TC_ACT_OK;
	to = bpf_map_lookup_elem(&k3c_endpoint, &p.dst);
	if (!to || !to->ifindex || bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac), 0) < 0)
		return TC_ACT_OK;
	if ((to->flags & K3C_EP_LIMIT_INGRESS) && !rate_allows(skb, &p, to->ifindex, K3C_INGRESS))
		return pod_drop(skb, &p, K3C_DROP_RATE_INGRESS, to->ifindex, 0, 0);
	return bpf_redirect_peer(to->ifindex, 0);
}

/* Of what the host says to itself only SCTP is looked at. */
static __always_inline bool own_is_sctp(struct __sk_buff *skb)
{
	__u32 at = ETH_HLEN + offsetof(struct iphdr, protocol);
	__u8 proto = 0;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		at = ETH_HLEN + offsetof(struct ipv6hdr, nexthdr);
	bpf_skb_load_bytes(skb, at, &proto, sizeof(proto));
	return proto == IPPROTO_SCTP;
}

SEC("tc")
int own_lo(struct __sk_buff *skb)
{
	struct packet p = {};
	struct k3c_own *own;

	if (!own_is_sctp(skb))
		return TC_ACT_OK;
	own = own_row();
	if (!own || packet_parse(skb, ETH_HLEN, &p) != PACKET_IP || !own_concerns(skb, &p))
		return TC_ACT_OK;
	return bpf_redirect(own->ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
