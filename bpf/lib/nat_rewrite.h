/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Rewriting addresses and ports of packets, and of what ICMP errors quote, with all checksums over them. */
#pragma once

#include <stddef.h>

#include "bpf/include/nat.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/sctp.h"

/* 0: nothing is known of the protocol. */
static __always_inline __u16 nat_check_offset(const struct packet *p)
{
	switch (p->flow.proto) {
	case IPPROTO_TCP:
		return p->l4 + offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return p->l4 + offsetof(struct udphdr, check);
	case IPPROTO_SCTP:
		return p->l4 + offsetof(struct sctphdr, checksum);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return p->l4 + offsetof(struct icmphdr, checksum);
	}
	return 0;
}

static __always_inline __u32 nat_addr_offset(bool v6, bool src)
{
	if (v6)
		return src ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
	return src ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr);
}

static __always_inline __u32 nat_port_offset(__u8 proto, bool src)
{
	if (packet_is_icmp(proto))
		return offsetof(struct icmphdr, un.echo.id);
	return src ? 0 : 2;
}

/* For bpf_l3/l4_csum_replace; of IPv4 the common beginning (::ffff:) cancels out. */
static __always_inline __u32 nat_difference(const struct k3c_addr *old, const struct k3c_addr *new)
{
	return bpf_csum_diff((__be32 *)old->w, sizeof(old->w), (__be32 *)new->w, sizeof(new->w), 0);
}

/* IPv4's own checksum makes up for the change; where a link summed up a whole IPv6 packet, the sum has to change. */
static __always_inline int nat_store_addr(struct __sk_buff *skb, bool v6, __u32 header, bool src,
					  const struct k3c_addr *to, __u32 difference, __u64 v6_flags)
{
	__u32 at = header + nat_addr_offset(v6, src);

	if (v6)
		return bpf_skb_store_bytes(skb, at, to->b, sizeof(to->b), v6_flags);
	if (bpf_l3_csum_replace(skb, header + offsetof(struct iphdr, check), 0, difference, 0) < 0)
		return -1;
	return bpf_skb_store_bytes(skb, at, &to->w[3], sizeof(to->w[3]), 0);
}

/* A checksum of zero is filled in by the link later. Of fragments nobody knows how much is behind. */
static __always_inline int nat_sctp_port(struct __sk_buff *skb, const struct packet *p, __u32 port_at, __be16 old_port,
					 __be16 new_port)
{
	__u32 check = nat_check_offset(p), sum;

	if (p->fragment || port_at + 2 > p->end || bpf_skb_load_bytes(skb, check, &sum, sizeof(sum)) < 0)
		return -1;
	if (!sum)
		return 0;
	sum ^= sctp_crc_change(old_port ^ new_port, (__u16)(p->end - port_at - 2));
	return bpf_skb_store_bytes(skb, check, &sum, sizeof(sum), BPF_F_RECOMPUTE_CSUM);
}

/* What hiding changes of the checksum, carried along from one parameter to the next: all change by the same, and stand
 * at multiples of four. */
struct nat_hiding {
	__u32 at;  /* the last one that was hidden */
	__u32 crc; /* of all, there; 0: none */
	__u32 end;
	__u32 summed; /* 0: nobody wants to know */
};

/* One parameter, at that offset: where the next one begins, 0 for no more. Global: verified once. */
__attribute__((noinline)) int nat_sctp_hide_at(struct __sk_buff *skb, __u32 at, struct nat_hiding *h)
{
	struct sctpparam param;
	__be16 hidden;

	if (!h || at + sizeof(param) > h->end || bpf_skb_load_bytes(skb, at, &param, sizeof(param)) < 0 || !param.len)
		return 0;
	if (param.type == bpf_htons(SCTP_PARAM_ADDR4) || param.type == bpf_htons(SCTP_PARAM_ADDR6)) {
		hidden = param.type | bpf_htons(SCTP_PARAM_SKIP);
		if (bpf_skb_store_bytes(skb, at, &hidden, sizeof(hidden), BPF_F_RECOMPUTE_CSUM) < 0)
			return 0;
		if (h->crc)
			h->crc = sctp_crc_carry(h->crc, SCTP_CRC_WORD, (at - h->at) / 4);
		if (h->summed)
			h->crc ^= SCTP_CRC_ONE;
		h->at = at;
	}
	return at + (((__u32)bpf_ntohs(param.len) + 3) & ~3u);
}

/* An SCTP end may name further addresses of its own where it begins. Behind a translation none of them is right, and
 * what a peer sends to one that knows nothing of it would end the association: they become parameters that nobody knows
 * and everybody passes over. Of fragments nobody knows what is behind. Global: verified once. */
__attribute__((noinline)) int nat_sctp_hide(struct __sk_buff *skb, const struct packet *p)
{
	struct nat_hiding h = {};
	__u32 at, check, sum = 0;

	if (!p)
		return -1;
	if (p->fragment)
		return 0;
	check = nat_check_offset(p);
	at = p->l4 + SCTP_INIT_PARAMS;
	h.end = p->end;
	if (bpf_skb_load_bytes(skb, check, &sum, sizeof(sum)) < 0)
		return -1;
	h.summed = sum != 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < SCTP_PARAMS_MAX && at; i++)
		at = nat_sctp_hide_at(skb, at, &h);
	if (!h.crc)
		return 0;
	h.crc = sctp_crc_multiply(h.crc, bpf_htons(SCTP_PARAM_SKIP));
	sum ^= sctp_crc_carry(h.crc, SCTP_CRC_BYTE, (__u16)(p->end - h.at));
	return bpf_skb_store_bytes(skb, check, &sum, sizeof(sum), BPF_F_RECOMPUTE_CSUM);
}

/* What is translated in the beginning. Not below what rewrites: old kernels count whose stack stands under whose. */
static __always_inline int nat_hide(struct __sk_buff *skb, const struct packet *p)
{
	return p->flow.proto == IPPROTO_SCTP && (p->flags & PACKET_SYN) ? nat_sctp_hide(skb, p) : 0;
}

/* The transport's port and checksum. */
static __always_inline int nat_rewrite_l4(struct __sk_buff *skb, const struct packet *p, bool src, __be16 old_port,
					  __be16 new_port, __u32 difference)
{
	__u32 check = nat_check_offset(p), port_at = p->l4 + nat_port_offset(p->flow.proto, src);
	__u64 flags = p->flow.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (p->flow.proto == IPPROTO_SCTP) {
		if (old_port != new_port && nat_sctp_port(skb, p, port_at, old_port, new_port) < 0)
			return -1;
	} else {
		if (p->flow.proto != IPPROTO_ICMP &&
		    bpf_l4_csum_replace(skb, check, 0, difference, BPF_F_PSEUDO_HDR | flags) < 0)
			return -1;
		if (old_port != new_port && bpf_l4_csum_replace(skb, check, old_port, new_port, flags | 2) < 0)
			return -1;
	}
	if (old_port == new_port)
		return 0;
	return bpf_skb_store_bytes(skb, port_at, &new_port, sizeof(new_port), 0);
}

/* Address and port (or echo identifier) of one end, with the checksums over them. Global: verified once. */
__attribute__((noinline)) int nat_rewrite(struct __sk_buff *skb, const struct packet *p, bool src,
					  const struct k3c_nat *to)
{
	__be16 old_port;
	__u32 difference;

	if (!p || !to)
		return -1;
	difference = src ? nat_difference(&p->src, &to->addr) : nat_difference(&p->dst, &to->addr);
	old_port = src ? p->flow.sport : p->flow.dport;
	if (!nat_check_offset(p))
		return -1;
	/* Of fragments the first one carries the port, and the checksum of all. */
	if (!p->later_fragment && nat_rewrite_l4(skb, p, src, old_port, to->port, difference) < 0)
		return -1;
	return nat_store_addr(skb, p->v6, p->l3, src, &to->addr, difference, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int nat_rewrite_dst(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat *to)
{
	return nat_rewrite(skb, p, false, to);
}

static __always_inline int nat_rewrite_src(struct __sk_buff *skb, const struct packet *p, const struct k3c_nat *to)
{
	return nat_rewrite(skb, p, true, to);
}

/* What a translation of this `kind` says: one end, and maybe the other's port. Global: verified once. */
__attribute__((noinline)) int nat_translate(struct __sk_buff *skb, const struct packet *p, __u8 kind,
					    const struct k3c_nat *to)
{
	bool src = kind == K3C_NAT_OUT;
	struct k3c_nat peer = {};

	if (!p || !to || nat_hide(skb, p) < 0 || nat_rewrite(skb, p, src, to) < 0)
		return -1;
	if (!to->peer_port)
		return 0;
	peer.addr = src ? p->dst : p->src;
	peer.port = to->peer_port;
	return nat_rewrite(skb, p, !src, &peer);
}

/* The packet inside an error: its address and port, and what they change in the error's checksum. */
static __always_inline int nat_rewrite_inner(struct __sk_buff *skb, const struct packet *p, bool src,
					     const struct k3c_addr *old, __be16 old_port, const struct k3c_nat *to)
{
	__u32 check = p->l4 + offsetof(struct icmphdr, checksum), ip_check = p->inner + offsetof(struct iphdr, check);
	__u32 difference = nat_difference(old, &to->addr);
	__be16 old_sum = 0, new_sum = 0, new_port = to->port;

	if (!p->v6 && bpf_skb_load_bytes(skb, ip_check, &old_sum, 2) < 0)
		return -1;
	if (nat_store_addr(skb, p->v6, p->inner, src, &to->addr, difference, 0) < 0 ||
	    bpf_l4_csum_replace(skb, check, 0, difference, 0) < 0)
		return -1;
	if (!p->v6 && (bpf_skb_load_bytes(skb, ip_check, &new_sum, 2) < 0 ||
		       bpf_l4_csum_replace(skb, check, old_sum, new_sum, 2) < 0))
		return -1;
	if (old_port == new_port)
		return 0;
	if (bpf_l4_csum_replace(skb, check, old_port, new_port, 2) < 0)
		return -1;
	return bpf_skb_store_bytes(skb, p->inner_l4 + nat_port_offset(p->flow.proto, src), &new_port, 2, 0);
}

/* The port of the other end of the packet inside. Global: verified once. */
__attribute__((noinline)) int nat_rewrite_inner_peer(struct __sk_buff *skb, const struct packet *p, bool src,
						     __be16 new_port)
{
	__be16 old_port;

	if (!p)
		return -1;
	old_port = src ? p->flow.dport : p->flow.sport;
	if (bpf_l4_csum_replace(skb, p->l4 + offsetof(struct icmphdr, checksum), old_port, new_port, 2) < 0)
		return -1;
	return bpf_skb_store_bytes(skb, p->inner_l4 + nat_port_offset(p->flow.proto, src), &new_port, 2, 0);
}

static __always_inline int nat_rewrite_error_at(struct __sk_buff *skb, const struct packet *p, bool in,
						const struct k3c_nat *to)
{
	__u32 difference = nat_difference(in ? &p->dst : &p->src, &to->addr);

	if (nat_rewrite_inner(skb, p, in, in ? &p->flow.dst : &p->flow.src, in ? p->flow.dport : p->flow.sport, to) <
		    0 ||
	    (to->peer_port && nat_rewrite_inner_peer(skb, p, !in, to->peer_port) < 0))
		return -1;
	if (p->v6 &&
	    bpf_l4_csum_replace(skb, p->l4 + offsetof(struct icmphdr, checksum), 0, difference, BPF_F_PSEUDO_HDR) < 0)
		return -1;
	return nat_store_addr(skb, p->v6, p->l3, !in, &to->addr, difference, BPF_F_RECOMPUTE_CSUM);
}

/* An ICMP error about a translated flow. Arriving (`kind` IN): the destination, and the source of the packet inside,
 * become the true ones; leaving (OUT): the source, and the destination inside, become those the world knows. The other
 * end's port inside as well, where the flow has another. */
__attribute__((noinline)) int nat_rewrite_error(struct __sk_buff *skb, const struct packet *p, __u8 kind,
						const struct k3c_nat *to)
{
	if (!p || !to)
		return -1;
	if (kind == K3C_NAT_IN)
		return nat_rewrite_error_at(skb, p, true, to);
	return nat_rewrite_error_at(skb, p, false, to);
}
