/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Rewriting addresses and ports, and the tables of translations. */
#pragma once

#include <stddef.h>

#include <linux/errno.h>

#include "bpf/lib/clock.h"
#include "bpf/lib/conn.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/sctp.h"
#include "bpf/lib/used.h"

K3C_MAP_NAT;
K3C_MAP_UNASSURED;
K3C_MAP_CLOSED;

#define NAT_NS_PER_S 1000000000ULL

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

static __always_inline void nat_key(const struct flow *f, __u8 kind, struct k3c_nat_key *key)
{
	key->src = f->src;
	key->dst = f->dst;
	key->sport = f->sport;
	key->dport = f->dport;
	key->proto = f->proto;
	key->kind = kind;
}

/* What lasts is asked first; nothing is ever there that only begins. A look-up each, as in conn.h. */
static __always_inline struct k3c_nat *nat_find(const struct k3c_nat_key *key)
{
	struct k3c_nat *n = bpf_map_lookup_elem(&k3c_nat, key);

	if (n || !used_by(K3C_USED_UNASSURED))
		return n;
	return bpf_map_lookup_elem(&k3c_unassured, key);
}

static __always_inline void nat_delete(const struct k3c_nat_key *key)
{
	bpf_map_delete_elem(&k3c_nat, key);
	bpf_map_delete_elem(&k3c_unassured, key);
}

/* Writes half a flow that begins. `instead`: of what stands there, in whichever table. */
static __always_inline long nat_begin(const struct k3c_nat_key *key, struct k3c_nat *n, __u64 flags, bool instead)
{
	long r;

	used_note(K3C_USED_UNASSURED);
	n->flags |= K3C_NAT_UNASSURED;
	r = bpf_map_update_elem(&k3c_unassured, key, n, flags);
	if (r == 0 && instead)
		bpf_map_delete_elem(&k3c_nat, key);
	return r;
}

static __always_inline bool nat_expired(const struct k3c_nat *n, __u8 proto, __u64 now)
{
	__u64 age = clock_age(now, n->last_ns), limit = K3C_NAT_OTHER_TIMEOUT_S;

	if (n->flags & K3C_NAT_CLOSING)
		limit = n->flags & K3C_NAT_RESET ? K3C_NAT_RESET_TIMEOUT_S : K3C_NAT_CLOSING_TIMEOUT_S;
	else if (packet_is_stateful(proto))
		limit = n->flags & K3C_NAT_UNASSURED ? K3C_NAT_TCP_UNASSURED_TIMEOUT_S : K3C_NAT_TCP_TIMEOUT_S;
	else if (proto == IPPROTO_UDP)
		limit = n->flags & (K3C_NAT_STREAM | K3C_NAT_SERVICE) ? K3C_NAT_UDP_STREAM_TIMEOUT_S
								      : K3C_NAT_UDP_TIMEOUT_S;
	return age > limit * NAT_NS_PER_S;
}

/* The other half of the pair: what the packet's answer looks like before it is translated. A pod that reaches itself
 * answers the service. */
static __always_inline void nat_mirror_of(const struct k3c_nat_key *key, const struct k3c_nat *n, bool in,
					  struct k3c_nat_key *ret)
{
	bool hairpin = n->flags & K3C_NAT_HAIRPIN;

	ret->src = in ? n->addr : hairpin ? key->src : key->dst;
	ret->sport = in ? n->port : key->dport;
	ret->dst = !in ? n->addr : hairpin ? key->dst : key->src;
	ret->dport = in ? key->sport : n->port;
	if (n->peer_port && in)
		ret->dport = n->peer_port;
	else if (n->peer_port)
		ret->sport = n->peer_port;
	ret->proto = key->proto;
	ret->kind = in ? K3C_NAT_OUT : K3C_NAT_IN;
	ret->pad = 0;
}

static __always_inline void nat_mirror(const struct k3c_nat_key *key, const struct k3c_nat *n, struct k3c_nat_key *ret)
{
	nat_mirror_of(key, n, key->kind == K3C_NAT_IN, ret);
}

/* What the other half says. */
static __always_inline void nat_back_of(const struct k3c_nat_key *key, const struct k3c_nat *n, bool in,
					struct k3c_nat *ret)
{
	ret->addr = in ? key->dst : key->src;
	ret->port = in ? key->dport : key->sport;
	ret->peer_port = n->peer_port ? in ? key->sport : key->dport : 0;
	ret->flags = n->flags;
	ret->last_ns = n->last_ns;
}

/* Does *n, under `key` and of the given direction, lead to `place`? */
static __always_inline bool nat_leads_to(const struct k3c_nat_key *key, const struct k3c_nat *n, bool in,
					 const struct k3c_nat_key *place)
{
	__be16 port = in ? key->sport : key->dport;

	if (n->peer_port)
		port = n->peer_port;
	if (!addr_eq(in ? &place->src : &place->dst, &n->addr))
		return false;
	return in ? place->sport == n->port && place->dport == port : place->dport == n->port && place->sport == port;
}

/* May what begins a connection go on with this translation? Not where the one before has ended, nor with half a pair:
 * the table may have given the place of the other half to another flow. Its answers would come back to nobody, and the
 * questions, said again and again, would keep the half alive for ever. The end that began the flow is asked; the other
 * one's beginning (both at once) belongs to it. Global: verified once. */
__attribute__((noinline)) int nat_may_begin(const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	struct k3c_nat_key mirror;
	struct k3c_nat *m;

	if (!key || !n || !(n->flags & (key->kind == K3C_NAT_IN ? K3C_NAT_SERVICE : K3C_NAT_MASQUERADE)))
		return true;
	if (key->kind == K3C_NAT_IN && (n->flags & K3C_NAT_CLOSING))
		return false;
	nat_mirror(key, n, &mirror);
	m = nat_find(&mirror);
	if (!m)
		return false;
	return nat_leads_to(&mirror, m, key->kind == K3C_NAT_OUT, key);
}

/* A place (`in`: of what arrives) whose flow ended or fell silent long ago. One processor takes it over; the old
 * owner's other half goes, unless that leads elsewhere by now: it has no claim to the answers. */
static __always_inline bool nat_take_over(const struct k3c_nat_key *place, struct k3c_nat *old, bool in, __u64 now)
{
	__u64 last_ns = old->last_ns;
	struct k3c_nat_key owner;
	struct k3c_nat *o;

	if (!nat_expired(old, place->proto, now) || __sync_val_compare_and_swap(&old->last_ns, last_ns, now) != last_ns)
		return false;
	nat_mirror_of(place, old, in, &owner);
	o = nat_find(&owner);
	if (o && nat_leads_to(&owner, o, !in, place))
		nat_delete(&owner);
	return true;
}

/* Nothing translates what answers there, but a pod serves somebody who came to it straight. */
static __always_inline bool nat_is_straight(const struct k3c_nat_key *answer, __u64 now)
{
	struct flow f = { .sport = answer->sport, .dport = answer->dport, .proto = answer->proto };
	struct k3c_conn_key key = {};
	struct k3c_conn *c;

	f.src = answer->src;
	f.dst = answer->dst;
	conn_key(&f, &key);
	c = conn_find_any(&key);
	return c && !(c->flags & K3C_CONN_CLOSING) && !conn_expired(c, key.proto, now);
}

/* Writes the half that the answers of a flow meet, unless the place is another flow's: -EEXIST. Global: verified once.
 */
__attribute__((noinline)) int nat_try_place(const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	struct k3c_nat_key mirror;
	struct k3c_nat back = {};
	struct k3c_nat *other;
	bool in;

	if (!key || !n)
		return -EINVAL;
	in = key->kind == K3C_NAT_IN;
	nat_mirror_of(key, n, in, &mirror);
	other = nat_find(&mirror);
	if (other ? !nat_leads_to(&mirror, other, !in, key) && !nat_take_over(&mirror, other, !in, n->last_ns)
		  : in && nat_is_straight(&mirror, n->last_ns))
		return -EEXIST;
	nat_back_of(key, n, in, &back);
	/* Two processors may find the same place free. */
	return nat_begin(&mirror, &back, other ? BPF_ANY : BPF_NOEXIST, other != NULL);
}

/* Where the place of a service's flow is another's (of the same client's port to another frontend, or the backend's
 * own), the flow gets another port at the client's end: n->peer_port. One that leaves gets another port to hide behind:
 * n->port. Negative: none was found, or the kernel has no memory. Global: verified once. */
__attribute__((noinline)) int nat_take_place(const struct k3c_nat_key *key, struct k3c_nat *n)
{
	int r = -EEXIST;
	bool in;

	if (!key || !n)
		return -EINVAL;
	in = key->kind == K3C_NAT_IN;
	n->peer_port = 0;
	if (!in)
		n->port = key->sport;
#pragma clang loop unroll(disable)
	for (int i = 0; i < K3C_PEER_TRIES && r == -EEXIST; i++) {
		__be16 port = bpf_htons(K3C_PEER_PORT_MIN +
					bpf_get_prandom_u32() % (K3C_PEER_PORT_MAX - K3C_PEER_PORT_MIN + 1));

		if (i > 1 && in) /* the second try: it may be the flow's own by now, from another processor */
			n->peer_port = port;
		else if (i > 1)
			n->port = port;
		r = nat_try_place(key, n);
	}
	return r;
}

/* Writes the pair of a flow that is seen as `key`; n: what it is rewritten to, and then the port found. `known`: there
 * is a half of it, of which nothing shall be left. */
static __always_inline int nat_pair(const struct k3c_nat_key *key, struct k3c_nat *n, bool known)
{
	int r = nat_take_place(key, n);

	return r < 0 ? r : nat_begin(key, n, BPF_ANY, known);
}

/* The places of one that ended, unless it goes on or its ports are another's by now. */
static __always_inline void nat_release(const struct k3c_closed *c)
{
	struct k3c_nat *n = nat_find(&c->key), *m;
	struct k3c_nat_key mirror;

	if (!n || !(n->flags & K3C_NAT_CLOSED))
		return;
	nat_mirror(&c->key, n, &mirror);
	m = nat_find(&mirror);
	if (m && !nat_leads_to(&mirror, m, c->key.kind == K3C_NAT_OUT, &c->key))
		m = NULL;
	if (n->last_ns > c->since_ns + K3C_CLOSED_LATE_S * NAT_NS_PER_S) {
		n->flags &= ~(K3C_NAT_CLOSED | K3C_NAT_RESET);
		if (m)
			m->flags &= ~(K3C_NAT_CLOSED | K3C_NAT_RESET);
		return;
	}
	if (m && (m->flags & K3C_NAT_CLOSED))
		nat_delete(&mirror);
	nat_delete(&c->key);
}

/* Into the queue; where it is full, its oldest goes. Global: verified once. */
__attribute__((noinline)) int nat_close(const struct k3c_nat_key *key, __u64 now)
{
	struct k3c_closed c = { .since_ns = now };

	if (!key)
		return 0;
	c.key = *key;
	if (bpf_map_push_elem(&k3c_closed, &c, 0) == 0)
		return 0;
	if (bpf_map_pop_elem(&k3c_closed, &c) == 0)
		nat_release(&c);
	c.key = *key;
	c.since_ns = now;
	bpf_map_push_elem(&k3c_closed, &c, 0);
	return 0;
}

/* Is there something to hear of it? (Masqueraded UDP of the other table comes from earlier builds.) */
static __always_inline bool nat_is_new(const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	return (n->flags & K3C_NAT_UNASSURED) ||
	       (key->proto == IPPROTO_UDP && (n->flags & (K3C_NAT_MASQUERADE | K3C_NAT_STREAM)) == K3C_NAT_MASQUERADE);
}

/* What this packet is the first to tell of a new flow: flags for both halves. A server may be the one who says more; of
 * UDP that counts when it lasts. Global: verified once. */
__attribute__((noinline)) int nat_heard(const struct packet *p, const struct k3c_nat_key *key, const struct k3c_nat *n,
					bool later)
{
	bool began;

	if (!p || !key || !n || packet_is_icmp(key->proto) || packet_is_closing(p))
		return 0;
	began = key->kind == (n->flags & K3C_NAT_SERVICE ? K3C_NAT_IN : K3C_NAT_OUT);
	if (n->flags & K3C_NAT_STREAM)
		return later ? K3C_NAT_STREAM : 0; /* there was no room for it */
	if (!(n->flags & K3C_NAT_ANSWERED))
		return began ? 0 : K3C_NAT_ANSWERED;
	if (key->proto == IPPROTO_UDP)
		return began || later ? K3C_NAT_STREAM : 0;
	return began && !packet_is_syn(p) ? K3C_NAT_STREAM : 0;
}

static __always_inline void nat_move(const struct k3c_nat_key *key, const struct k3c_nat *half)
{
	struct k3c_nat n = *half;
	long r;

	n.flags &= ~K3C_NAT_UNASSURED;
	r = bpf_map_update_elem(&k3c_nat, key, &n, BPF_NOEXIST);
	if (r == 0 || r == -EEXIST) /* by another processor */
		bpf_map_delete_elem(&k3c_unassured, key);
}

/* The flow lasts: both halves to where such stand. They are there before they are taken away here, so no packet finds
 * neither. Global: verified once. */
__attribute__((noinline)) int nat_assure(const struct k3c_nat_key *key)
{
	struct k3c_nat_key own, mirror;
	struct k3c_nat *n, *m;

	if (!key)
		return 0;
	own = *key;
	n = bpf_map_lookup_elem(&k3c_unassured, &own);
	if (!n)
		return 0;
	nat_mirror(&own, n, &mirror);
	nat_move(&own, n);
	m = bpf_map_lookup_elem(&k3c_unassured, &mirror);
	if (m && nat_leads_to(&mirror, m, own.kind == K3C_NAT_OUT, &own))
		nat_move(&mirror, m);
	return 0;
}

/* The other half of a pair that lacks it: the table gave its place to another flow. Not of those that end, nor of a
 * service's datagrams by its backend's word: both halves may be about to go. */
static __always_inline void nat_restore(const struct k3c_nat_key *key, const struct k3c_nat *n,
					const struct k3c_nat_key *mirror)
{
	struct k3c_nat back = {};

	if ((n->flags & K3C_NAT_CLOSING) ||
	    (key->kind == K3C_NAT_OUT && (n->flags & K3C_NAT_SERVICE) && !packet_is_stateful(key->proto)))
		return;
	nat_back_of(key, n, key->kind == K3C_NAT_IN, &back);
	if (n->flags & K3C_NAT_UNASSURED)
		bpf_map_update_elem(&k3c_unassured, mirror, &back, BPF_NOEXIST);
	else
		bpf_map_update_elem(&k3c_nat, mirror, &back, BPF_NOEXIST);
}

/* What a packet tells of its flow, to both halves: it goes on, and `flags`. Returns whether it ended just now. Global:
 * verified once. */
__attribute__((noinline)) int nat_tell(const struct k3c_nat_key *key, struct k3c_nat *n, __u32 flags)
{
	struct k3c_nat_key mirror;
	struct k3c_nat *m;

	if (!key || !n)
		return 0;
	n->last_ns = bpf_ktime_get_ns();
	if (flags & K3C_NAT_CLOSING)
		n->flags |= K3C_NAT_FIN;
	nat_mirror(key, n, &mirror);
	m = nat_find(&mirror);
	if (!m) {
		n->flags |= flags;
		nat_restore(key, n, &mirror);
	} else if (!nat_leads_to(&mirror, m, key->kind == K3C_NAT_OUT, key)) { /* another flow's by now */
		n->flags |= flags;
	} else {
		if ((flags & K3C_NAT_CLOSING) && (m->flags & K3C_NAT_FIN))
			flags |= K3C_NAT_CLOSED;
		n->flags |= flags;
		m->flags |= flags;
		m->last_ns = n->last_ns;
	}
	return (flags & K3C_NAT_CLOSED) != 0;
}

/* Keeps both halves young, so that traffic of one direction does not lose the other half to the LRU. *n may be another
 * flow's after that. */
static __always_inline void nat_touch(const struct packet *p, const struct k3c_nat_key *key, struct k3c_nat *n)
{
	bool closed = n->flags & K3C_NAT_CLOSED;
	bool later = bpf_ktime_get_ns() - n->last_ns >= K3C_NAT_TOUCH_S * NAT_NS_PER_S;
	__u32 flags = nat_is_new(key, n) ? nat_heard(p, key, n, later) : 0;

	if (packet_is_closing(p) && !closed)
		flags |= K3C_NAT_CLOSING | (p->flags & PACKET_RST ? K3C_NAT_CLOSED | K3C_NAT_RESET : 0);
	/* Side by side, not below each other: old kernels count whose stack stands under whose. */
	if ((flags || closed || later) && nat_tell(key, n, flags))
		nat_close(key, bpf_ktime_get_ns());
	if (flags & K3C_NAT_STREAM)
		nat_assure(key);
}

enum nat_state {
	NAT_NONE,
	NAT_HALF, /* there is one with which the packet cannot go on */
	NAT_GOES_ON,
};

/* The translation that the packet goes on with: of this kind, and with all of these flags. What is said about a flow is
 * none of its packets. Global: verified once, and no caller minds in which table it stands. */
__attribute__((noinline)) int nat_look(const struct packet *p, __u32 kind, __u32 flags, struct k3c_nat *ret)
{
	struct k3c_nat_key key = {};
	struct k3c_nat *n;

	if (!p || !ret)
		return NAT_NONE;
	nat_key(&p->flow, kind, &key);
	n = nat_find(&key);
	if (!n)
		return NAT_NONE;
	if ((n->flags & flags) != flags || (packet_is_syn(p) && !nat_may_begin(&key, n)))
		return NAT_HALF;
	*ret = *n;
	if (!p->icmp_error)
		nat_touch(p, &key, n);
	return NAT_GOES_ON;
}

/* 0: there is none. Global: verified once. */
__attribute__((noinline)) int nat_flags(const struct packet *p, __u32 kind)
{
	struct k3c_nat_key key = {};
	struct k3c_nat *n;

	if (!p)
		return 0;
	nat_key(&p->flow, kind, &key);
	n = nat_find(&key);
	return n ? n->flags : 0;
}
