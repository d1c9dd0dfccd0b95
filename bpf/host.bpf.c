// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The host's own links. host_in: what arrives for a node port or external address goes to a backend (chosen once a
 * flow, the client's address stays), answers to masqueraded traffic go back to their pod. host_out: the backend's
 * answers get the frontend's address again, what pods begin towards the world leaves with the link's address (of what
 * the world began, answers keep the pod's). Everything is behind this hook when policy looks at it, so policy sees true
 * addresses. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/conn.h"
#include "bpf/lib/event_packet.h"
#include "bpf/lib/lb_packet.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/options.h"
#include "bpf/lib/own.h"
#include "bpf/lib/used.h"

K3C_MAP_LINK;
K3C_MAP_DIRECT;
K3C_MAP_SNAT;
K3C_MAP_META;

static __always_inline int host_drop(struct __sk_buff *skb, const struct packet *p, __u32 reason)
{
	return drop_packet(skb, p, reason, 0, 0);
}

static __always_inline bool host_is_pod(const struct packet *p, const struct k3c_addr *a)
{
	return addr_in_nets(a, p->v6, k3c_options.pod_net, k3c_options.pod_mask);
}

/* A backend on another host would answer the client directly: it must see this node as the client. */
static __always_inline void host_take_answers(struct __sk_buff *skb, const struct k3c_nat *to)
{
	if (to->flags & K3C_NAT_REMOTE)
		skb->mark |= K3C_MARK_MASQUERADE;
}

static __always_inline bool host_has_flag(__u32 flag)
{
	__u32 zero = 0;
	struct k3c_meta *m = bpf_map_lookup_elem(&k3c_meta, &zero);

	return m && (m->flags & flag);
}

/* Somebody who knows a way to the pod begins a flow with it, maybe from a port whose answers go to a service's flow.
 * Then he gets another port. `known`: and had one for the flow before. Where XDP translates, nobody can tell here who
 * came straight. */
static __always_inline int host_new_straight_flow(struct __sk_buff *skb, const struct packet *p,
						  const struct k3c_nat_key *key, bool known)
{
	struct k3c_nat n = { .addr = p->dst, .port = p->flow.dport, .flags = K3C_NAT_SERVICE };
	struct k3c_nat_key answer;

	if (!host_is_pod(p, &p->dst))
		return TC_ACT_OK;
	if (node_has(&p->src))
		return host_drop(skb, p, K3C_DROP_SPOOFED_SOURCE);
	k3c_nat_mirror(key, &n, true, &answer);
	if (!known && (!nat_find(&answer) || host_has_flag(K3C_META_XDP)))
		return TC_ACT_OK;
	n.last_ns = bpf_ktime_get_ns();
	if (nat_pair(key, &n, known) < 0)
		return host_drop(skb, p, K3C_DROP_NAT_FULL);
	return nat_translate(skb, p, K3C_NAT_IN, &n) < 0 ? host_drop(skb, p, K3C_DROP_MALFORMED) : TC_ACT_OK;
}

/* The stack refuses (RST, port unreachable) what comes to a port that nobody can have: not the one that was asked for,
 * where a process may listen whom the Service hides, and in the name of an address that is not the node's. Only the
 * answer's half is written, and the next packet looks for backends again. */
static __always_inline int host_refuse(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat_key *key)
{
	__u32 ifindex = skb->ifindex, family = p->v6 ? K3C_V6 : K3C_V4;
	struct k3c_link *link = bpf_map_lookup_elem(&k3c_link, &ifindex);
	struct k3c_nat n = { .flags = K3C_NAT_SERVICE | K3C_NAT_CLOSING };

	if (!link)
		return TC_ACT_SHOT;
	barrier_var(family);
	n.addr = node_has(&p->dst) ? p->dst : link->addr[family & 1];
	n.last_ns = bpf_ktime_get_ns();
	if (!n.addr.q[1] || nat_take_place(key, &n) < 0 || nat_translate(skb, p, K3C_NAT_IN, &n) < 0)
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

/* Of host_refuse()'s. */
static __always_inline bool host_is_refusal(const struct packet *p)
{
	return !p->flow.sport && !p->no_ports && (packet_is_stateful(p->flow.proto) || p->flow.proto == IPPROTO_UDP);
}

static __always_inline int host_new_service_flow(struct __sk_buff *skb, const struct packet *p,
						 const struct k3c_nat_key *key, bool known)
{
	struct k3c_backend backend = {};
	struct k3c_nat n = { .flags = K3C_NAT_SERVICE };

	switch (lb_packet(p, false, &backend)) {
	case LB_NOT_A_SERVICE:
		return host_new_straight_flow(skb, p, key, known);
	case LB_NO_BACKEND:
		drop_packet(skb, p, K3C_DROP_NO_BACKEND, 0, 0);
		return host_refuse(skb, p, key);
	case LB_SILENT:
		return host_drop(skb, p, K3C_DROP_NO_BACKEND);
	case LB_DENIED:
		return host_drop(skb, p, K3C_DROP_SOURCE_RANGE);
	case LB_FOUND:
		break;
	}
	/* The stack would not have it, but the translation would say that the node began. */
	if (node_has(&p->src))
		return host_drop(skb, p, K3C_DROP_SPOOFED_SOURCE);
	n.addr = backend.addr;
	n.port = backend.port;
	n.last_ns = bpf_ktime_get_ns();
	if (!host_is_pod(p, &n.addr)) {
		used_note(K3C_USED_BY_HOST);
		if (!node_has(&n.addr)) {
			n.flags |= K3C_NAT_REMOTE;
			host_take_answers(skb, &n);
		}
	}
	if (nat_pair(key, &n, known) < 0)
		return host_drop(skb, p, K3C_DROP_NAT_FULL);
	event_translate(skb, p, K3C_VIA_LINK, &n.addr, n.port);
	return nat_translate(skb, p, K3C_NAT_IN, &n) < 0 ? host_drop(skb, p, K3C_DROP_MALFORMED) : TC_ACT_OK;
}

static __always_inline bool host_is_moving(void)
{
	return host_has_flag(K3C_META_MOVING);
}

static __always_inline bool host_may_masquerade_with(__u16 port)
{
	for (int i = 0; i < K3C_SNAT_RANGES; i++)
		if ((__u16)(port - k3c_options.snat[i].first) < k3c_options.snat[i].count)
			return true;
	return false;
}

/* A socket of the host that gets what `remote` sends to that port, were it no pod's. */
static __always_inline bool host_has_socket(struct __sk_buff *skb, __u8 proto, const struct k3c_addr *remote,
					    __be16 remote_port, const struct k3c_addr *local, __be16 local_port)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = NULL;
	__u32 size;

	if (addr_is_v4(remote)) {
		tuple.ipv4.saddr = remote->w[3];
		tuple.ipv4.daddr = local->w[3];
		tuple.ipv4.sport = remote_port;
		tuple.ipv4.dport = local_port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, remote, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, local, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = remote_port;
		tuple.ipv6.dport = local_port;
		size = sizeof(tuple.ipv6);
	}
	if (proto == IPPROTO_TCP)
		sk = size == sizeof(tuple.ipv4)
			     ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
			     : bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	else if (proto == IPPROTO_UDP)
		sk = size == sizeof(tuple.ipv4)
			     ? bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
			     : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Of a frontend whose address is not the node's: the stack would send on what comes there. Who may not come at all is
 * told nothing. */
static __always_inline bool host_is_foreign(const struct packet *p)
{
	struct k3c_service_key key = {
		.addr = p->dst, .port = p->flow.dport, .proto = p->flow.proto, .scope = K3C_SCOPE_ADDR
	};
	struct k3c_service *s = bpf_map_lookup_elem(&k3c_service, &key);

	return s && (!s->sources || lb_in_sources(s->sources, &p->src)) && !node_has(&p->dst);
}

/* A connection's packet that belongs to no translation is the host's own or nobody's, unless the other build's
 * programs know better. The stack resets it: in a foreign frontend's name, whose backend may be gone, as well. */
static __always_inline int host_in_unknown(struct __sk_buff *skb, const struct packet *p)
{
	struct k3c_service_key key = {
		.addr = p->dst, .port = p->flow.dport, .proto = p->flow.proto, .scope = K3C_SCOPE_ADDR
	};
	struct k3c_nat_key flow = {};

	if (!host_is_moving()) {
		if (p->flow.proto != IPPROTO_TCP || (p->flags & PACKET_RST) || !host_has_flag(K3C_META_EXTERNAL) ||
		    !host_is_foreign(p))
			return TC_ACT_OK;
		nat_key(&p->flow, K3C_NAT_IN, &flow);
		return host_refuse(skb, p, &flow);
	}
	if (host_may_masquerade_with(bpf_ntohs(p->flow.dport)) && node_has(&p->dst) &&
	    !host_has_socket(skb, p->flow.proto, &p->src, p->flow.sport, &p->dst, p->flow.dport))
		return TC_ACT_SHOT;
	return lb_find(&p->dst, false, &key) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc")
int host_in(struct __sk_buff *skb)
{
	struct k3c_nat_key key = {};
	struct packet p = {};
	struct k3c_nat to = {};
	int known;

	/* What is no business of ours, whole or broken, is the stack's. */
	if (packet_parse(skb, k3c_options.link_header, &p) != PACKET_IP || p.no_ports)
		return TC_ACT_OK;
	if (host_is_pod(&p, &p.src))
		return host_drop(skb, &p, K3C_DROP_SPOOFED_SOURCE);
	if (!nat_check_offset(&p))
		return TC_ACT_OK;
	known = nat_look(&p, K3C_NAT_IN, 0, &to);
	if (known == NAT_GOES_ON) {
		if (p.icmp_error)
			return nat_rewrite_error(skb, &p, K3C_NAT_IN, &to) < 0 ? host_drop(skb, &p, K3C_DROP_MALFORMED)
									       : TC_ACT_OK;
		host_take_answers(skb, &to);
		return nat_translate(skb, &p, K3C_NAT_IN, &to) < 0 ? host_drop(skb, &p, K3C_DROP_MALFORMED) : TC_ACT_OK;
	}
	if (p.icmp_error || p.later_fragment || packet_is_icmp(p.flow.proto))
		return TC_ACT_OK;
	if (packet_is_stateful(p.flow.proto) && !packet_is_syn(&p))
		return host_in_unknown(skb, &p);
	nat_key(&p.flow, K3C_NAT_IN, &key);
	return host_new_service_flow(skb, &p, &key, known != NAT_NONE);
}

/* n->port, when its answers are nobody else's (any more): else -EEXIST. Global: verified once. */
__attribute__((noinline)) int host_take_port(struct __sk_buff *skb, const struct k3c_nat_key *key, struct k3c_nat *n)
{
	if (!key || !n)
		return -EINVAL;
	if (host_has_socket(skb, key->proto, &key->dst, key->dport, &n->addr, n->port))
		return -EEXIST;
	return nat_try_place(key, n);
}

/* The one of that number of all that there are. */
static __always_inline __u16 host_port(__u32 number)
{
	for (int i = 0; i < K3C_SNAT_RANGES; i++) {
		if (number < k3c_options.snat[i].count)
			return k3c_options.snat[i].first + number;
		number -= k3c_options.snat[i].count;
	}
	return k3c_options.snat[0].first;
}

/* n->port (the pod's own), where that can be, or a random one: n->port, whose answers are the flow's now. -EEXIST: none
 * was found. Global: verified once. */
__attribute__((noinline)) int host_free_port(struct __sk_buff *skb, const struct k3c_nat_key *key, struct k3c_nat *n)
{
	__u32 zero = 0;
	struct k3c_snat *count = bpf_map_lookup_elem(&k3c_snat, &zero);
	int r = -EEXIST;

	if (!count || !key || !n)
		return -EINVAL;
	count->searches++;
	if (host_may_masquerade_with(bpf_ntohs(n->port))) {
		r = host_take_port(skb, key, n);
		if (r == -EEXIST)
			count->collisions++;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < K3C_SNAT_TRIES && r == -EEXIST; i++) {
		n->port = bpf_htons(host_port(bpf_get_prandom_u32() % k3c_options.snat_ports));
		r = host_take_port(skb, key, n);
		if (r == -EEXIST)
			count->collisions++;
	}
	if (r == -EEXIST)
		count->exhausted++;
	return r;
}

static __always_inline bool host_is_direct(const struct k3c_addr *dst)
{
	struct k3c_direct_key key = { .prefixlen = K3C_DIRECT_BITS_FIXED + 128, .addr = *dst };
	__u32 *direct = bpf_map_lookup_elem(&k3c_direct, &key);

	return direct && *direct;
}

/* `known`: there is half a translation, or one that ended, whose port is the first that comes into question. */
static __always_inline int host_masquerade(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat_key *key,
					   bool known)
{
	__u32 ifindex = skb->ifindex, family = p->v6 ? K3C_V6 : K3C_V4;
	struct k3c_link *link = bpf_map_lookup_elem(&k3c_link, &ifindex);
	struct k3c_nat n = { .flags = K3C_NAT_MASQUERADE, .links = K3C_CONN_LINKS(skb->ingress_ifindex) }, *before;
	int r;

	if (!link)
		return TC_ACT_OK;
	barrier_var(family);
	n.addr = link->addr[family & 1];
	if (!n.addr.q[1])
		return TC_ACT_OK;
	if (p->no_ports)
		return host_drop(skb, p, K3C_DROP_FRAGMENT);
	if (p->icmp_error || !nat_check_offset(p) || (packet_is_icmp(p->flow.proto) && !p->flow.sport))
		return host_drop(skb, p, K3C_DROP_UNSUPPORTED);
	n.last_ns = bpf_ktime_get_ns();
	n.port = key->sport;
	if (known && (before = nat_find(key)))
		n.port = before->port;
	r = host_free_port(skb, key, &n);
	if (r == -EEXIST)
		return host_drop(skb, p, K3C_DROP_SNAT_EXHAUSTED);
	if (r < 0 || nat_begin(key, &n, BPF_ANY, known) < 0)
		return host_drop(skb, p, K3C_DROP_NAT_FULL);
	event_translate(skb, p, K3C_VIA_MASQUERADE, &n.addr, n.port);
	return nat_hide(skb, p) < 0 || nat_rewrite_src(skb, p, &n) < 0 ? host_drop(skb, p, K3C_DROP_MALFORMED)
								       : TC_ACT_OK;
}

/* Some frontend leads to the host itself or beyond it, or did so for somebody outside. */
static __always_inline bool host_has_backends(void)
{
	__u32 zero = 0;
	struct k3c_meta *m = bpf_map_lookup_elem(&k3c_meta, &zero);

	return (m && (m->flags & K3C_META_HOST_BACKENDS)) || used_by(K3C_USED_BY_HOST);
}

/* Of a connection that the other end began: whoever knows a way to the pod expects its address. What nobody remembers,
 * and might be the pod's own, leaves under another port: the peer refuses it, and the pod hears of it at once. */
static __always_inline bool host_is_answer(const struct packet *p)
{
	struct k3c_conn_key key = {};
	struct k3c_conn *c;
	__u8 src_end;

	if (packet_is_syn(p))
		return false;
	src_end = conn_key(&p->flow, &key);
	c = conn_find_any(&key);
	return c ? c->initiator != src_end : conn_looks_answer(p);
}

/* Not to what this cluster or node is itself, nor to where pods are known by their own addresses. */
static __always_inline bool host_wants_masquerade(const struct packet *p)
{
	return !host_is_pod(p, &p->dst) &&
	       !addr_in_nets(&p->dst, p->v6, k3c_options.service_net, k3c_options.service_mask) && !node_has(&p->dst) &&
	       !host_is_direct(&p->dst);
}

/* The host's own, where no socket program asked: to where it is translated, which is behind an Ethernet header. What
 * has just room for one says nothing, and who hears it there takes it for no IP. */
static __always_inline int host_own(struct __sk_buff *skb, const struct packet *p, const struct k3c_own *own)
{
	__be16 type = skb->protocol;

	if (!k3c_options.link_header &&
	    (bpf_skb_change_head(skb, ETH_HLEN, 0) < 0 ||
	     bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof(type), 0) < 0))
		return host_drop(skb, p, K3C_DROP_MALFORMED);
	return bpf_redirect(own->ifindex, 0);
}

SEC("tc")
int host_out(struct __sk_buff *skb)
{
	bool marked = skb->mark & K3C_MARK_MASQUERADE, from_pod;
	struct k3c_nat_key key = {};
	struct packet p = {};
	struct k3c_nat to = {};
	struct k3c_own *own;
	int known = NAT_NONE;

	if (packet_parse(skb, k3c_options.link_header, &p) != PACKET_IP)
		return TC_ACT_OK;
	from_pod = host_is_pod(&p, &p.src);
	if (p.flow.proto == IPPROTO_SCTP && !from_pod && !marked && (own = own_row()) && own_concerns(skb, &p))
		return host_own(skb, &p, own);
	/* The host's own stack reports on pods' flows too. */
	if (!from_pod && !marked && !(p.icmp_error && host_is_pod(&p, &p.flow.src)) && !host_is_refusal(&p) &&
	    !host_has_backends())
		return TC_ACT_OK;
	if (!p.no_ports)
		known = nat_look(&p, K3C_NAT_OUT, 0, &to);
	if (known == NAT_GOES_ON) {
		if (p.icmp_error)
			return nat_rewrite_error(skb, &p, K3C_NAT_OUT, &to) < 0 ? host_drop(skb, &p, K3C_DROP_MALFORMED)
										: TC_ACT_OK;
		return nat_translate(skb, &p, K3C_NAT_OUT, &to) < 0 ? host_drop(skb, &p, K3C_DROP_MALFORMED)
								    : TC_ACT_OK;
	}
	if (packet_is_stateful(p.flow.proto) && !packet_is_syn(&p) && !p.icmp_error && host_is_moving())
		return TC_ACT_SHOT;
	if (!marked && (!from_pod || !host_wants_masquerade(&p) || host_is_answer(&p)))
		return TC_ACT_OK;
	nat_key(&p.flow, K3C_NAT_OUT, &key);
	return host_masquerade(skb, &p, &key, known != NAT_NONE);
}

char LICENSE[] SEC("license") = "GPL";
