// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Services before the stack makes a packet of what a link received: the same choice and the same table as host_in's,
 * for plain TCP and UDP to pods of this node. What is refused is dropped here, before it costs anything; what is
 * translated goes on through the stack and tc like any packet to a pod. Everything else (options, fragments, ICMP,
 * backends that are no pods of this node, answers to masqueraded traffic) is left to host_in untouched. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/event_packet.h"
#include "bpf/lib/lb_packet.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/options.h"

/* TCP's shortest; UDP's is shorter, but so short a frame is padded by any Ethernet. */
union xdp_transport {
	struct tcphdr tcp;
	struct udphdr udp;
};

enum xdp_step { XDP_STEP_PASS, XDP_STEP_DROP, XDP_STEP_REWRITE };

struct xdp_frame {
	__u32 bytes, ifindex;
};

static __always_inline __u16 xdp_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static __always_inline bool xdp_is_pod(const struct packet *p, const struct k3c_addr *a)
{
	return addr_in_nets(a, p->v6, k3c_options.pod_net, k3c_options.pod_mask);
}

/* Ports, flags and checksum; false: not for here. `length`: of the transport's header and what follows. */
static __always_inline bool xdp_transport(void *end, union xdp_transport *l4, __u16 length, struct packet *p)
{
	__u64 pseudo;
	__u16 check;

	if (p->flow.proto == IPPROTO_TCP) {
		if ((void *)(&l4->tcp + 1) > end)
			return false;
		p->flow.sport = l4->tcp.source;
		p->flow.dport = l4->tcp.dest;
		p->flags = ((__u8 *)&l4->tcp)[13];
		check = l4->tcp.check;
	} else if (p->flow.proto == IPPROTO_UDP) {
		if ((void *)(&l4->udp + 1) > end)
			return false;
		p->flow.sport = l4->udp.source;
		p->flow.dport = l4->udp.dest;
		check = l4->udp.check;
		if (!check)
			return !p->v6;
	} else {
		return false;
	}
	/* A neighbour on this very machine leaves the sum to its link, which never does it: then only the addresses
	 * are in it yet, and what must change is not what changes in a whole one. tc knows which it is. The one in
	 * 65,536 packets of the world that look so are served by tc as well. (The ffff of mapped addresses add
	 * nothing.) */
	pseudo = (__u32)bpf_csum_diff(NULL, 0, p->src.w, sizeof(p->src.w), 0);
	pseudo += (__u32)bpf_csum_diff(NULL, 0, p->dst.w, sizeof(p->dst.w), 0);
	pseudo += bpf_htons(p->flow.proto) + bpf_htons(length);
	return check != xdp_fold(pseudo);
}

static __always_inline enum xdp_step xdp_drop(const struct packet *p, const struct xdp_frame *f, __u32 reason)
{
	struct k3c_event *e;

	drop_count(reason, f->bytes);
	e = event_begin(K3C_EVENT_DROP);
	if (e) {
		event_fill(e, p, f->ifindex, f->bytes);
		e->reason = reason;
		event_end(e);
	}
	return XDP_STEP_DROP;
}

static __always_inline void xdp_tell_translation(const struct packet *p, const struct xdp_frame *f,
						 const struct k3c_nat *to)
{
	struct k3c_event *e = event_begin(K3C_EVENT_TRANSLATE);

	if (!e)
		return;
	event_fill(e, p, f->ifindex, f->bytes);
	e->via = K3C_VIA_LINK;
	e->to = to->addr;
	e->to_port = to->port;
	event_end(e);
}

static __always_inline enum xdp_step xdp_step(const struct packet *p, const struct xdp_frame *f, struct k3c_nat *to)
{
	struct k3c_backend backend = {};
	struct k3c_nat_key key = {};
	int known;

	if (xdp_is_pod(p, &p->src))
		return XDP_STEP_PASS;
	known = nat_look(p, K3C_NAT_IN, 0, to);
	if (known == NAT_GOES_ON)
		return (to->flags & K3C_NAT_SERVICE) && xdp_is_pod(p, &to->addr) ? XDP_STEP_REWRITE : XDP_STEP_PASS;
	if (packet_is_stateful(p->flow.proto) && !packet_is_syn(p))
		return XDP_STEP_PASS;
	switch (lb_packet(p, false, &backend)) {
	case LB_NOT_A_SERVICE:
	case LB_NO_BACKEND:
		return XDP_STEP_PASS;
	case LB_SILENT:
		return xdp_drop(p, f, K3C_DROP_NO_BACKEND);
	case LB_DENIED:
		return xdp_drop(p, f, K3C_DROP_SOURCE_RANGE);
	case LB_FOUND:
		break;
	}
	if (!xdp_is_pod(p, &backend.addr) || node_has(&p->src))
		return XDP_STEP_PASS;
	to->addr = backend.addr;
	to->port = backend.port;
	to->flags = K3C_NAT_SERVICE;
	to->last_ns = bpf_ktime_get_ns();
	nat_key(&p->flow, K3C_NAT_IN, &key);
	if (nat_pair(&key, to, known != NAT_NONE) < 0)
		return XDP_STEP_PASS;
	xdp_tell_translation(p, f, to);
	return XDP_STEP_REWRITE;
}

static __always_inline __u16 xdp_sum(__u16 check, __u32 difference, __be16 old_port, __be16 new_port)
{
	return ~xdp_fold((__u64)(__u16)~check + difference + (__u16)~old_port + new_port);
}

/* The bounds were seen before, but not with this protocol in the verifier's mind. */
static __always_inline void xdp_rewrite_l4(union xdp_transport *l4, void *end, const struct packet *p,
					   const struct k3c_nat *to, __u32 difference)
{
	__be16 sport = to->peer_port ? to->peer_port : p->flow.sport;

	if (p->flow.proto == IPPROTO_TCP) {
		if ((void *)(&l4->tcp + 1) > end)
			return;
		l4->tcp.check =
			xdp_sum(xdp_sum(l4->tcp.check, difference, p->flow.dport, to->port), 0, p->flow.sport, sport);
		l4->tcp.source = sport;
		l4->tcp.dest = to->port;
		return;
	}
	if ((void *)(&l4->udp + 1) > end)
		return;
	if (l4->udp.check) {
		l4->udp.check =
			xdp_sum(xdp_sum(l4->udp.check, difference, p->flow.dport, to->port), 0, p->flow.sport, sport);
		if (!l4->udp.check)
			l4->udp.check = 0xffff;
	}
	l4->udp.source = sport;
	l4->udp.dest = to->port;
}

static __always_inline int xdp_done(enum xdp_step step)
{
	return step == XDP_STEP_DROP ? XDP_DROP : XDP_PASS;
}

static __always_inline int xdp_v4(struct iphdr *ip, void *end, const struct xdp_frame *f)
{
	union xdp_transport *l4 = (void *)(ip + 1);
	struct packet p = {};
	struct k3c_nat to = {};
	enum xdp_step step;
	__u32 difference;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || (ip->frag_off & bpf_htons(0x3fff)))
		return XDP_PASS;
	addr_set_v4(&p.src, ip->saddr);
	addr_set_v4(&p.dst, ip->daddr);
	p.flow.src = p.src;
	p.flow.dst = p.dst;
	p.flow.proto = ip->protocol;
	if (!xdp_transport(end, l4, bpf_ntohs(ip->tot_len) - sizeof(*ip), &p))
		return XDP_PASS;
	step = xdp_step(&p, f, &to);
	if (step != XDP_STEP_REWRITE)
		return xdp_done(step);
	difference = nat_difference(&p.dst, &to.addr);
	xdp_rewrite_l4(l4, end, &p, &to, difference);
	ip->check = xdp_sum(ip->check, difference, 0, 0);
	ip->daddr = to.addr.w[3];
	return XDP_PASS;
}

static __always_inline int xdp_v6(struct ipv6hdr *ip, void *end, const struct xdp_frame *f)
{
	union xdp_transport *l4 = (void *)(ip + 1);
	struct packet p = { .v6 = true };
	struct k3c_nat to = {};
	enum xdp_step step;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return XDP_PASS;
	__builtin_memcpy(&p.src, &ip->saddr, sizeof(p.src));
	__builtin_memcpy(&p.dst, &ip->daddr, sizeof(p.dst));
	p.flow.src = p.src;
	p.flow.dst = p.dst;
	p.flow.proto = ip->nexthdr;
	if (!xdp_transport(end, l4, bpf_ntohs(ip->payload_len), &p))
		return XDP_PASS;
	step = xdp_step(&p, f, &to);
	if (step != XDP_STEP_REWRITE)
		return xdp_done(step);
	xdp_rewrite_l4(l4, end, &p, &to, nat_difference(&p.dst, &to.addr));
	__builtin_memcpy(&ip->daddr, &to.addr, sizeof(to.addr));
	return XDP_PASS;
}

SEC("xdp")
int xdp_in(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct xdp_frame f = { .bytes = end - data, .ifindex = ctx->ingress_ifindex };
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return xdp_v4((void *)(eth + 1), end, &f);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return xdp_v6((void *)(eth + 1), end, &f);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
