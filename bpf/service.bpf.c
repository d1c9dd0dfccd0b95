// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Services for packets of pods that no socket here translated (packet_service.h says which). service_out chooses the
 * backend and rewrites the packet, then pod_pass judges and delivers it, so that policy sees the true backend.
 * service_back runs behind policy, where the answer is about to reach the client. A pod that reaches itself must not
 * see its own address as the sender's: it sees the service's, and answers come back that way. Nobody is kept from
 * itself, so no policy is asked then. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/lb_packet.h"
#include "bpf/lib/pod_drop.h"
#include "bpf/lib/maps.h"

K3C_MAP_META;

#include "bpf/lib/packet_service.h"

K3C_MAP_ENDPOINT;

static __always_inline int service_drop(struct __sk_buff *skb, const struct packet *p, __u32 reason)
{
	return pod_drop(skb, p, reason, skb->ifindex, 0, 0);
}

static __always_inline int service_pass(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &k3c_tail, K3C_TAIL_POD_PASS);
	return TC_ACT_SHOT; /* programs are just being exchanged */
}

/* Back to the pod that sent it. */
static __always_inline int service_return(struct __sk_buff *skb, const struct packet *p)
{
	struct k3c_endpoint *pod = bpf_map_lookup_elem(&k3c_endpoint, &p->src);

	if (!pod || pod->ifindex != skb->ifindex || bpf_skb_store_bytes(skb, 0, pod->mac, sizeof(pod->mac), 0) < 0)
		return service_drop(skb, p, K3C_DROP_MALFORMED);
	return bpf_redirect_peer(pod->ifindex, 0);
}

enum service_step {
	SERVICE_PASS, /* as it is */
	SERVICE_TRANSLATE,
	SERVICE_TO_ITSELF,   /* a question of a pod to itself, */
	SERVICE_FROM_ITSELF, /* and the answer */
	SERVICE_DROP,
};

static __always_inline enum service_step service_new_flow(struct __sk_buff *skb, const struct packet *p,
							  const struct k3c_nat_key *key, struct k3c_nat *n, bool known,
							  __u32 *ret_reason)
{
	struct k3c_backend backend = {};
	int r;

	switch (lb_packet(p, true, &backend)) {
	case LB_NOT_A_SERVICE:
		return SERVICE_PASS;
	case LB_NO_BACKEND:
	case LB_SILENT:
		*ret_reason = K3C_DROP_NO_BACKEND;
		/* The stack refuses for the node, and knows no way to services that are not there. */
		if (!service_is_of_net(p) && !node_has(&p->dst))
			return SERVICE_DROP;
		drop_packet(skb, p, K3C_DROP_NO_BACKEND, 0, 0); /* counted and told */
		return SERVICE_PASS;
	case LB_DENIED:
		*ret_reason = K3C_DROP_SOURCE_RANGE;
		return SERVICE_DROP;
	case LB_FOUND:
		break;
	}
	n->addr = backend.addr;
	n->port = backend.port;
	n->flags = K3C_NAT_SERVICE;
	n->last_ns = bpf_ktime_get_ns();
	used_note(K3C_USED_BY_PODS);
	if (addr_eq(&n->addr, &p->src))
		n->flags |= K3C_NAT_HAIRPIN;
	r = nat_pair(key, n, known);
	*ret_reason = K3C_DROP_NAT_FULL;
	if (r < 0)
		return SERVICE_DROP;
	event_translate(skb, p, K3C_VIA_LINK, &n->addr, n->port);
	return n->flags & K3C_NAT_HAIRPIN ? SERVICE_TO_ITSELF : SERVICE_TRANSLATE;
}

static __always_inline enum service_step service_step(struct __sk_buff *skb, const struct packet *p, struct k3c_nat *to,
						      __u32 *ret_reason)
{
	int known = nat_look(p, K3C_NAT_IN, K3C_NAT_SERVICE, to);
	struct k3c_nat_key key = {};

	if (known == NAT_GOES_ON)
		return to->flags & K3C_NAT_HAIRPIN ? SERVICE_TO_ITSELF : SERVICE_TRANSLATE;
	if (nat_look(p, K3C_NAT_OUT, K3C_NAT_HAIRPIN, to) == NAT_GOES_ON)
		return SERVICE_FROM_ITSELF;
	nat_key(&p->flow, K3C_NAT_IN, &key);
	return service_may_begin(p) ? service_new_flow(skb, p, &key, to, known != NAT_NONE, ret_reason) : SERVICE_PASS;
}

/* A question becomes one of the service's to the pod; an answer becomes the service's own, from its port. The port of
 * the other end stays, unless the pod asks another port of the service from the same one. */
static __always_inline int service_rewrite(struct __sk_buff *skb, const struct packet *p, enum service_step step,
					   struct k3c_nat *to)
{
	struct k3c_nat src = { .addr = p->dst, .port = to->peer_port ? to->peer_port : p->flow.sport };

	if (p->icmp_error)
		/* A pod about itself to itself: nothing that its own stack would not know. */
		return step == SERVICE_TRANSLATE ? nat_rewrite_error(skb, p, K3C_NAT_IN, to) : -1;
	if (step == SERVICE_FROM_ITSELF) {
		src.port = to->port;
		to->addr = p->src;
		to->port = to->peer_port ? to->peer_port : p->flow.dport;
	}
	if (step == SERVICE_TRANSLATE)
		return nat_translate(skb, p, K3C_NAT_IN, to);
	if (nat_hide(skb, p) < 0 || nat_rewrite_src(skb, p, &src) < 0)
		return -1;
	return nat_rewrite_dst(skb, p, to);
}

SEC("tc")
int service_out(struct __sk_buff *skb)
{
	enum service_step step = SERVICE_PASS;
	struct packet p = {};
	struct k3c_nat to = {};
	__u32 reason = K3C_DROP_NONE;

	if (packet_parse(skb, ETH_HLEN, &p) == PACKET_IP && !p.no_ports)
		step = service_step(skb, &p, &to, &reason);
	if (step == SERVICE_PASS)
		return service_pass(skb);
	if (step == SERVICE_DROP)
		return service_drop(skb, &p, reason);
	if (service_rewrite(skb, &p, step, &to) < 0)
		return service_drop(skb, &p, K3C_DROP_MALFORMED);
	return step == SERVICE_TRANSLATE ? service_pass(skb) : service_return(skb, &p);
}

SEC("tc")
int service_back(struct __sk_buff *skb)
{
	__u32 ifindex = skb->cb[K3C_TAIL_CB_IFINDEX];
	struct packet p = {};
	struct k3c_nat to = {};
	int r = 0;

	if (packet_parse(skb, ETH_HLEN, &p) != PACKET_IP || p.no_ports)
		return service_drop(skb, &p, K3C_DROP_MALFORMED);
	if (nat_look(&p, K3C_NAT_OUT, 0, &to) == NAT_GOES_ON)
		r = p.icmp_error ? nat_rewrite_error(skb, &p, K3C_NAT_OUT, &to)
				 : nat_translate(skb, &p, K3C_NAT_OUT, &to);
	if (r < 0)
		return service_drop(skb, &p, K3C_DROP_MALFORMED);
	return ifindex ? bpf_redirect_peer(ifindex, 0) : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
