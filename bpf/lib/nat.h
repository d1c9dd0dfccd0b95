/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tables of translations: how flows begin there, last and end. */
#pragma once

#include <linux/errno.h>

#include "bpf/lib/clock.h"
#include "bpf/lib/conn.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/nat_rewrite.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/used.h"

K3C_MAP_NAT;
K3C_MAP_UNASSURED;
K3C_MAP_CLOSED;

#define NAT_NS_PER_S 1000000000ULL

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
	n = bpf_map_lookup_elem(&k3c_unassured, key);
	barrier_var(n); /* else the compiler makes one call of two */
	if (n)
		return n;
	/* Another processor may have moved it between the two looks: nat_assure(). */
	return bpf_map_lookup_elem(&k3c_nat, key);
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
	__u64 limit = k3c_nat_timeout_s(n->flags, packet_is_stateful(proto), proto == IPPROTO_UDP);

	return clock_age(now, n->last_ns) > limit * NAT_NS_PER_S;
}

static __always_inline void nat_mirror(const struct k3c_nat_key *key, const struct k3c_nat *n, struct k3c_nat_key *ret)
{
	k3c_nat_mirror(key, n, key->kind == K3C_NAT_IN, ret);
}

/* What the other half says. */
static __always_inline void nat_back_of(const struct k3c_nat_key *key, const struct k3c_nat *n, bool in,
					struct k3c_nat *ret)
{
	ret->addr = in ? key->dst : key->src;
	ret->port = in ? key->dport : key->sport;
	ret->peer_port = n->peer_port ? in ? key->sport : key->dport : 0;
	ret->flags = n->flags;
	ret->links = n->links;
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

/* And *ret_mirror, its key. NULL: there is none, or it is another flow's by now. */
static __always_inline struct k3c_nat *nat_other_half(const struct k3c_nat_key *key, const struct k3c_nat *n,
						      struct k3c_nat_key *ret_mirror)
{
	struct k3c_nat *m;

	nat_mirror(key, n, ret_mirror);
	m = nat_find(ret_mirror);
	return m && nat_leads_to(ret_mirror, m, key->kind == K3C_NAT_OUT, key) ? m : NULL;
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

/* May what begins a connection, or a datagram of a flow that is not sure yet, go on with this translation? Not where
 * the connection before has ended: what is remembered of its end would be said of the new one. Nor with half a pair:
 * the table may have given the place of the other half to another flow. Its answers would come back to nobody, or the
 * flow's to another, and the questions, said again and again, would keep the half alive for ever. A datagram's missing
 * half is written again, so that who asks again reaches the same one. The end that began the flow is asked; the other
 * one's beginning (both at once) belongs to it. Global: verified once. */
__attribute__((noinline)) int nat_may_begin(const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	struct k3c_nat_key mirror;
	struct k3c_nat *m;

	if (!key || !n || !(n->flags & (key->kind == K3C_NAT_IN ? K3C_NAT_SERVICE : K3C_NAT_MASQUERADE)))
		return true;
	if (n->flags & K3C_NAT_CLOSING)
		return false;
	nat_mirror(key, n, &mirror);
	m = nat_find(&mirror);
	if (m)
		return nat_leads_to(&mirror, m, key->kind == K3C_NAT_OUT, key);
	if (packet_is_stateful(key->proto))
		return false;
	nat_restore(key, n, &mirror);
	return true;
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
	k3c_nat_mirror(place, old, in, &owner);
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
	k3c_nat_mirror(key, n, in, &mirror);
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

/* It goes on after its end: that was a stranger's reset. m: the other half, NULL where there is none. */
static __always_inline void nat_reopen(struct k3c_nat *n, struct k3c_nat *m)
{
	__u32 over = K3C_NAT_CLOSED | K3C_NAT_RESET;

	if (!(n->flags & K3C_NAT_FIN) && !(m && (m->flags & K3C_NAT_FIN)))
		over |= K3C_NAT_CLOSING;
	n->flags &= ~over;
	if (m)
		m->flags &= ~over;
}

/* The places of one that ended, unless it goes on or its ports are another's by now. */
static __always_inline void nat_release(const struct k3c_closed *c)
{
	struct k3c_nat *n = nat_find(&c->key), *m;
	struct k3c_nat_key mirror;

	if (!n || !(n->flags & K3C_NAT_CLOSED))
		return;
	m = nat_other_half(&c->key, n, &mirror);
	if (n->last_ns > c->since_ns + K3C_CLOSED_LATE_S * NAT_NS_PER_S) {
		nat_reopen(n, m);
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
	struct k3c_nat n = *half, *moved;
	long r;

	n.flags &= ~K3C_NAT_UNASSURED;
	r = bpf_map_update_elem(&k3c_nat, key, &n, BPF_NOEXIST);
	if (r < 0 && r != -EEXIST) /* that: by another processor */
		return;
	moved = bpf_map_lookup_elem(&k3c_nat, key);
	if (moved) /* what another processor told it meanwhile */
		moved->flags |= half->flags & ~K3C_NAT_UNASSURED;
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

/* A packet of one that was reset, later than what was under way then. Global: verified once. */
__attribute__((noinline)) int nat_survive(const struct k3c_nat_key *key, struct k3c_nat *n)
{
	struct k3c_nat_key mirror;
	struct k3c_nat *m;

	if (!key || !n)
		return 0;
	m = nat_other_half(key, n, &mirror);
	nat_reopen(n, m);
	n->last_ns = bpf_ktime_get_ns();
	if (m)
		m->last_ns = n->last_ns;
	return 0;
}

/* Of one that was reset: when it was is what its last_ns says, until something is said so much later that it goes on.
 */
static __always_inline bool nat_survives(const struct packet *p, const struct k3c_nat *n)
{
	return !(p->flags & PACKET_SYN) && !packet_is_closing(p) &&
	       clock_age(bpf_ktime_get_ns(), n->last_ns) > K3C_CLOSED_LATE_S * NAT_NS_PER_S;
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
	if (closed && (n->flags & K3C_NAT_RESET)) {
		if (nat_survives(p, n))
			nat_survive(key, n);
	} else if ((flags || closed || later) && nat_tell(key, n, flags)) {
		nat_close(key, bpf_ktime_get_ns());
	}
	if (flags & K3C_NAT_STREAM)
		nat_assure(key);
}

enum nat_state {
	NAT_NONE,
	NAT_HALF, /* there is one with which the packet cannot go on */
	NAT_GOES_ON,
};

/* Might it not go on with this translation? What is sure is looked at no further. */
static __always_inline bool nat_is_asked(const struct packet *p, const struct k3c_nat *n)
{
	return packet_is_syn(p) || ((n->flags & K3C_NAT_UNASSURED) && !packet_is_stateful(p->flow.proto) &&
				    !p->icmp_error && !p->later_fragment);
}

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
	if ((n->flags & flags) != flags || (nat_is_asked(p, n) && !nat_may_begin(&key, n)))
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
