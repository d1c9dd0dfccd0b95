/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Rewriting addresses and ports, and the table of translations. */
#pragma once

#include <stddef.h>

#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"

K3C_MAP_NAT;

#define NAT_NS_PER_S 1000000000ULL

/* 0: the protocol's checksum does not cover what changes (or there is none). */
static __always_inline __u16 nat_check_offset(const struct packet *p)
{
	switch (p->flow.proto) {
	case IPPROTO_TCP:
		return p->l4 + offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return p->l4 + offsetof(struct udphdr, check);
	case IPPROTO_ICMP:
		return p->l4 + offsetof(struct icmphdr, checksum);
	}
	return 0;
}

/* Address at `addr_at` and port (or echo identifier) at `port_at`, with the checksums over them. */
static __always_inline int nat_rewrite(struct __sk_buff *skb, const struct packet *p, __u32 addr_at, __u32 port_at,
				       __be32 old_addr, __be16 old_port, const struct k3c_nat *to)
{
	__u32 check = nat_check_offset(p);
	__be32 new_addr = to->addr.w[3];
	__be16 new_port = to->port;
	__u64 flags = p->flow.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (!check)
		return -1;
	if (p->later_fragment) /* the first one carries the port, and the checksum of all */
		goto address;
	if (p->flow.proto != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(skb, check, old_addr, new_addr, BPF_F_PSEUDO_HDR | flags | 4) < 0)
		return -1;
	if (old_port != new_port && bpf_l4_csum_replace(skb, check, old_port, new_port, flags | 2) < 0)
		return -1;
	if (old_port != new_port && bpf_skb_store_bytes(skb, port_at, &new_port, sizeof(new_port), 0) < 0)
		return -1;
address:
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old_addr, new_addr, 4) < 0 ||
	    bpf_skb_store_bytes(skb, addr_at, &new_addr, sizeof(new_addr), 0) < 0)
		return -1;
	return 0;
}

static __always_inline int nat_rewrite_dst(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat *to)
{
	__u32 port_at = p->l4 + (p->flow.proto == IPPROTO_ICMP ? offsetof(struct icmphdr, un.echo.id) : 2);

	return nat_rewrite(skb, p, ETH_HLEN + offsetof(struct iphdr, daddr), port_at, p->dst.w[3], p->flow.dport, to);
}

static __always_inline int nat_rewrite_src(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat *to)
{
	__u32 port_at = p->l4 + (p->flow.proto == IPPROTO_ICMP ? offsetof(struct icmphdr, un.echo.id) : 0);

	return nat_rewrite(skb, p, ETH_HLEN + offsetof(struct iphdr, saddr), port_at, p->src.w[3], p->flow.sport, to);
}

/* An ICMP error about a translated flow. Arriving (`kind` IN): the destination, and the source of the packet inside,
 * become the true ones; leaving (OUT): the source, and the destination inside, become those the world knows. */
static __always_inline int nat_rewrite_error(struct __sk_buff *skb, const struct packet *p, __u8 kind,
					     const struct k3c_nat *to)
{
	bool in = kind == K3C_NAT_IN;
	__u32 check = p->l4 + offsetof(struct icmphdr, checksum);
	__u32 in_check = p->inner + offsetof(struct iphdr, check);
	__u32 outer_at = ETH_HLEN + (in ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr));
	__u32 inner_at = p->inner + (in ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
	__u32 port_at = p->inner_l4 + (p->flow.proto == IPPROTO_ICMP ? offsetof(struct icmphdr, un.echo.id)
				       : in                          ? 0
								     : 2);
	__be32 old_addr = in ? p->flow.dst.w[3] : p->flow.src.w[3], new_addr = to->addr.w[3];
	__be32 old_outer = in ? p->dst.w[3] : p->src.w[3];
	__be16 old_port = in ? p->flow.dport : p->flow.sport, new_port = to->port, old_sum = 0, new_sum = 0;

	if (bpf_skb_load_bytes(skb, in_check, &old_sum, 2) < 0 ||
	    bpf_l3_csum_replace(skb, in_check, old_addr, new_addr, 4) < 0 ||
	    bpf_skb_load_bytes(skb, in_check, &new_sum, 2) < 0 ||
	    bpf_skb_store_bytes(skb, inner_at, &new_addr, 4, 0) < 0)
		return -1;
	if (old_port != new_port && bpf_skb_store_bytes(skb, port_at, &new_port, 2, 0) < 0)
		return -1;
	if (bpf_l4_csum_replace(skb, check, old_sum, new_sum, 2) < 0 ||
	    bpf_l4_csum_replace(skb, check, old_addr, new_addr, 4) < 0 ||
	    (old_port != new_port && bpf_l4_csum_replace(skb, check, old_port, new_port, 2) < 0))
		return -1;
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old_outer, new_addr, 4) < 0 ||
	    bpf_skb_store_bytes(skb, outer_at, &new_addr, 4, 0) < 0)
		return -1;
	return 0;
}

static __always_inline void nat_key(const struct flow *f, __u8 kind, struct k3c_nat_key *key)
{
	key->src = f->src;
	key->dst = f->dst;
	key->sport = f->sport;
	key->dport = f->dport;
	key->proto = f->proto;
	key->kind = kind;
}

static __always_inline bool nat_expired(const struct k3c_nat *n, __u8 proto, __u64 now)
{
	__u64 age = now - n->last_ns, limit = K3C_NAT_OTHER_TIMEOUT_S;

	if (n->flags & K3C_NAT_CLOSING)
		limit = K3C_NAT_CLOSING_TIMEOUT_S;
	else if (proto == IPPROTO_TCP)
		limit = K3C_NAT_TCP_TIMEOUT_S;
	else if (proto == IPPROTO_UDP)
		limit = K3C_NAT_UDP_TIMEOUT_S;
	return age > limit * NAT_NS_PER_S;
}

/* The other half of the pair: what the packet's answer looks like before it is translated. */
static __always_inline void nat_mirror(const struct k3c_nat_key *key, const struct k3c_nat *n, struct k3c_nat_key *ret)
{
	bool in = key->kind == K3C_NAT_IN;

	ret->src = in ? n->addr : key->dst;
	ret->sport = in ? n->port : key->dport;
	ret->dst = in ? key->src : n->addr;
	ret->dport = in ? key->sport : n->port;
	ret->proto = key->proto;
	ret->kind = in ? K3C_NAT_OUT : K3C_NAT_IN;
	ret->pad = 0;
}

/* Writes the pair: `key` is rewritten to *n, and its answers back. `n` is used up. */
static __always_inline int nat_pair(const struct k3c_nat_key *key, struct k3c_nat *n, __u64 mirror_flags)
{
	struct k3c_nat_key mirror;
	struct k3c_nat back = { .flags = n->flags, .last_ns = n->last_ns };
	int r;

	nat_mirror(key, n, &mirror);
	back.addr = key->kind == K3C_NAT_IN ? key->dst : key->src;
	back.port = key->kind == K3C_NAT_IN ? key->dport : key->sport;
	r = bpf_map_update_elem(&k3c_nat, &mirror, &back, mirror_flags);
	if (r < 0)
		return r;
	return bpf_map_update_elem(&k3c_nat, key, n, BPF_ANY);
}

/* Keeps both halves young, so that traffic of one direction does not lose the other half to the LRU. */
static __always_inline void nat_touch(const struct packet *p, const struct k3c_nat_key *key, struct k3c_nat *n)
{
	__u64 now = bpf_ktime_get_ns();
	struct k3c_nat_key mirror;
	struct k3c_nat *m;
	bool closing = packet_is_closing(p) && !(n->flags & K3C_NAT_CLOSING);

	if (!closing && now - n->last_ns < K3C_NAT_TOUCH_S * NAT_NS_PER_S)
		return;
	n->last_ns = now;
	nat_mirror(key, n, &mirror);
	m = bpf_map_lookup_elem(&k3c_nat, &mirror);
	if (m)
		m->last_ns = now;
	if (!closing)
		return;
	n->flags |= K3C_NAT_CLOSING;
	if (m)
		m->flags |= K3C_NAT_CLOSING;
}
