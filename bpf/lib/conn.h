/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tables of pods' connections and of their datagrams, which can never push out a connection, nor those that no
 * policy looks at (k3c_datagram) what one does (k3c_policed): one key for both directions, and how long an entry says
 * anything. */
#pragma once

#include "bpf/lib/clock.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"

K3C_MAP_CONN;
K3C_MAP_DATAGRAM;
K3C_MAP_POLICED;

#define CONN_NS_PER_S 1000000000ULL

/* Returns which end of the key the flow's source is: 0 a, 1 b. */
static __always_inline __u8 conn_key(const struct flow *f, struct k3c_conn_key *key)
{
	bool swap;

	if (f->src.q[0] != f->dst.q[0])
		swap = f->src.q[0] > f->dst.q[0];
	else if (f->src.q[1] != f->dst.q[1])
		swap = f->src.q[1] > f->dst.q[1];
	else
		swap = f->sport > f->dport;
	key->a = swap ? f->dst : f->src;
	key->b = swap ? f->src : f->dst;
	key->a_port = swap ? f->dport : f->sport;
	key->b_port = swap ? f->sport : f->dport;
	key->proto = f->proto;
	return swap;
}

/* A look-up each, here and below: of a table that is known the kernel makes code of its own. */
static __always_inline struct k3c_conn *conn_find_datagram(const struct k3c_conn_key *key, bool policed)
{
	struct k3c_conn *c;

	if (policed) {
		c = bpf_map_lookup_elem(&k3c_policed, key);
		barrier_var(c); /* else the compiler makes one call of both */
		return c;
	}
	return bpf_map_lookup_elem(&k3c_datagram, key);
}

/* Where its flow belongs; `policed`: a policy isolates one of its ends. */
static __always_inline struct k3c_conn *conn_find(const struct k3c_conn_key *key, bool policed)
{
	struct k3c_conn *c;

	if (packet_is_stateful(key->proto)) {
		c = bpf_map_lookup_elem(&k3c_conn, key);
		barrier_var(c);
		return c;
	}
	return conn_find_datagram(key, policed);
}

/* Global: verified once. */
__attribute__((noinline)) int conn_put(const struct k3c_conn_key *key, const struct k3c_conn *c, int policed)
{
	struct k3c_conn_key at; /* both on the stack, where old verifiers want them to be */
	struct k3c_conn value;

	if (!key || !c)
		return -1;
	at = *key;
	value = *c;
	if (packet_is_stateful(at.proto))
		return bpf_map_update_elem(&k3c_conn, &at, &value, BPF_ANY);
	return policed ? bpf_map_update_elem(&k3c_policed, &at, &value, BPF_ANY)
		       : bpf_map_update_elem(&k3c_datagram, &at, &value, BPF_ANY);
}

static __always_inline bool conn_expired(const struct k3c_conn *c, __u8 proto, __u64 now)
{
	__u64 age = clock_age(now, c->last_ns);

	if (c->flags & K3C_CONN_CLOSING)
		return age > K3C_CONN_CLOSING_TIMEOUT_S * CONN_NS_PER_S;
	if (packet_is_stateful(proto))
		return false; /* quiet connections live until the table needs their place */
	if (proto == IPPROTO_UDP)
		return age > K3C_CONN_UDP_TIMEOUT_S * CONN_NS_PER_S;
	return age > K3C_CONN_OTHER_TIMEOUT_S * CONN_NS_PER_S;
}

/* For those who do not know of policies. A datagram's that expired says nothing, and its flow may stand in the other
 * table. */
static __always_inline struct k3c_conn *conn_find_any(const struct k3c_conn_key *key)
{
	struct k3c_conn *c = conn_find(key, true);
	__u64 now;

	if (packet_is_stateful(key->proto))
		return c;
	now = bpf_ktime_get_coarse_ns();
	if (!c || conn_expired(c, key->proto, now))
		c = conn_find(key, false);
	return c && !conn_expired(c, key->proto, now) ? c : NULL;
}

/* `links`: K3C_CONN_LINKS; 0: whosever it is. */
static __always_inline bool conn_is_of(const struct k3c_conn *c, __u16 links)
{
	return !links || !c->links || c->links == links;
}

/* A policy came or went meanwhile: what is not where its flow belongs is there from now on, in place of what may stand
 * there and says nothing any more. Who began it is as true as before. What says nothing here goes as well. Says whether
 * there was anything. Global: verified once. */
__attribute__((noinline)) int conn_move(const struct k3c_conn_key *key, int policed, int links, __u64 now)
{
	struct k3c_conn_key at;
	struct k3c_conn *c, copy;
	bool says;

	if (!key || packet_is_stateful(key->proto))
		return false;
	at = *key; /* on the stack, where old verifiers want a key to be */
	c = conn_find_datagram(&at, !policed);
	if (!c)
		return false;
	copy = *c;
	says = !conn_expired(&copy, at.proto, now) && conn_is_of(&copy, links);
	if (says && conn_put(&at, &copy, policed) < 0)
		return false;
	if (policed)
		bpf_map_delete_elem(&k3c_datagram, &at);
	else
		bpf_map_delete_elem(&k3c_policed, &at);
	return says;
}

/* After its beginning every TCP segment acknowledges or resets; what does neither is a stranger's, who tells by a
 * port's silence whether somebody listens there (RFC 9293, 3.10.7). */
static __always_inline bool conn_may_answer(const struct packet *p)
{
	return packet_is_stateful(p->flow.proto) && !packet_is_syn(p) && !p->fragment &&
	       (p->icmp_error || (p->flags & (PACKET_ACK | PACKET_RST)));
}

/* Of a connection that nobody remembers (its entry was given to another): does the packet come from the end that
 * serves? Clients get their ports from Linux, servers have lower ones. What begins connections is never taken for an
 * answer; where ports do not tell, the sender counts as who began. Not of UDP: any of its packets may be the first. */
static __always_inline bool conn_looks_answer(const struct packet *p)
{
	return conn_may_answer(p) && bpf_ntohs(p->flow.sport) < K3C_CONN_CLIENT_PORT_MIN &&
	       bpf_ntohs(p->flow.dport) >= K3C_CONN_CLIENT_PORT_MIN;
}

/* Its ports tell the wrong end of all packets that follow. */
static __always_inline bool conn_begins_backwards(const struct packet *p)
{
	return packet_is_syn(p) && bpf_ntohs(p->flow.sport) < K3C_CONN_CLIENT_PORT_MIN &&
	       bpf_ntohs(p->flow.dport) >= K3C_CONN_CLIENT_PORT_MIN;
}

/* Would it tell the same of every packet of the connection that this one begins (or ends, from whichever side)? */
static __always_inline bool conn_ports_tell(const struct packet *p)
{
	bool client = bpf_ntohs(p->flow.sport) >= K3C_CONN_CLIENT_PORT_MIN;
	bool of_client = bpf_ntohs(p->flow.dport) >= K3C_CONN_CLIENT_PORT_MIN;

	return packet_is_syn(p) ? client && !of_client : client != of_client;
}
