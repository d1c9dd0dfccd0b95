/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Service translation at the socket, shared by the IPv4 and IPv6 programs: once per connection (or per datagram of
 * an unconnected socket), nothing per packet. */
#pragma once

#include <linux/errno.h>
#include <linux/in.h>

#include "bpf/lib/addr.h"
#include "bpf/lib/drop.h"
#include "bpf/lib/lb.h"
#include "bpf/lib/options.h"

K3C_MAP_SOCK;
K3C_MAP_SOCK_TCP;

/* The backend that this socket already uses for the service, while the set of backends is the same. */
static __always_inline bool sock_same_as_before(struct k3c_sock *s, struct k3c_sock_peer *peer)
{
	for (int i = 0; i < K3C_SOCK_PEERS; i++) {
		struct k3c_sock_peer *p = &s->peer[i];

		if (p->service_port != peer->service_port || p->set != peer->set ||
		    !addr_eq(&p->service, &peer->service))
			continue;
		peer->backend = p->backend;
		peer->backend_port = p->backend_port;
		return true;
	}
	return false;
}

/* What is asked now names the backend's answers; without a service (port 0) it is the backend itself. */
static __always_inline void sock_asks(struct k3c_sock *s, const struct k3c_sock_peer *now)
{
	__u32 silent = s->silent;

	for (int i = 0; i < K3C_SOCK_PEERS; i++) {
		const struct k3c_sock_peer *p = &s->peer[i];

		if (p->backend_port != now->backend_port || !addr_eq(&p->backend, &now->backend))
			continue;
		if (p->service_port == now->service_port && addr_eq(&p->service, &now->service))
			silent &= ~(1U << i);
		else
			silent |= 1U << i;
	}
	if (s->silent != silent)
		s->silent = silent;
}

/* Whether it is news to a listener. */
static __always_inline bool sock_remember(struct bpf_sock *sk, struct k3c_sock_peer *peer, bool sticky)
{
	struct k3c_sock *s = bpf_sk_storage_get(&k3c_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	__u32 at;

	if (!s)
		return false;
	if (sticky && sock_same_as_before(s, peer)) {
		sock_asks(s, peer);
		return false;
	}
	at = s->next;
	/* The same service with a new set takes its old place. */
	for (int i = 0; i < K3C_SOCK_PEERS; i++)
		if (s->peer[i].service_port == peer->service_port && addr_eq(&s->peer[i].service, &peer->service) &&
		    addr_eq(&s->peer[i].backend, &peer->backend))
			at = i;
	if (at == s->next)
		s->next = at + 1;
	/* The bound must be seen on the very register that indexes (6.1 follows no copies). */
	barrier_var(at);
	at &= K3C_SOCK_PEERS - 1;
	s->peer[at] = *peer;
	sock_asks(s, peer);
	return true;
}

static __always_inline struct k3c_sock_tcp *sock_tcp_row(__u64 cookie)
{
	__u32 row = cookie & (K3C_SOCK_TCP_ROWS - 1);

	return bpf_map_lookup_elem(&k3c_sock_tcp, &row);
}

/* Two processors would have to be K3C_SOCK_TCP_ROWS connections apart to write one row at once. */
static __always_inline void sock_remember_tcp(__u64 cookie, const struct k3c_sock_peer *peer)
{
	struct k3c_sock_tcp *row = sock_tcp_row(cookie);

	if (!row)
		return;
	row->cookie = 0;
	barrier();
	row->peer = *peer;
	barrier();
	row->cookie = cookie;
}

/* The sender's own address is chosen later; its namespace says whose it is. */
static __always_inline void sock_tell(struct bpf_sock_addr *ctx, __u8 type, __u32 reason, const struct k3c_addr *dst,
				      __be16 port, __u8 proto, const struct k3c_sock_peer *to)
{
	struct k3c_event *e = event_begin(type);

	if (!e)
		return;
	e->reason = reason;
	e->netns_cookie = bpf_get_netns_cookie(ctx);
	e->dst = *dst;
	e->dport = port;
	e->proto = proto;
	e->via = K3C_VIA_SOCKET;
	if (to) {
		e->to = to->backend;
		e->to_port = to->backend_port;
	}
	event_end(e);
}

/* With `sticky` (datagrams of one unconnected socket stay with one backend) the choice becomes the one of before.
 * Global: verified once, and not behind every way to a choice. */
__attribute__((noinline)) int sock_keep(struct bpf_sock_addr *ctx, const struct k3c_addr *dst, __be16 port,
					struct lb_choice *choice, bool sticky)
{
	struct k3c_sock_peer peer = { .service_port = port };
	struct bpf_sock *sk = ctx->sk;
	__u8 proto = ctx->protocol;

	if (!sk || !dst || !choice)
		return 0;
	peer.service = *dst;
	peer.backend = choice->backend.addr;
	peer.backend_port = choice->backend.port;
	peer.set = choice->set;
	if (proto == IPPROTO_TCP) {
		sock_remember_tcp(bpf_get_socket_cookie(ctx), &peer);
	} else if (!sock_remember(sk, &peer, sticky)) {
		choice->backend.addr = peer.backend;
		choice->backend.port = peer.backend_port;
		return 0;
	}
	sock_tell(ctx, K3C_EVENT_TRANSLATE, 0, dst, port, proto, &peer);
	return 0;
}

/* No service's: what this socket remembers of services that lead there is not how it came. Never makes storage. Global
 * as sock_keep(). */
__attribute__((noinline)) int sock_goes_straight(struct bpf_sock_addr *ctx, const struct k3c_addr *dst, __be16 port)
{
	struct k3c_sock_peer peer = { .backend_port = port };
	struct bpf_sock *sk = ctx->sk;
	struct k3c_sock_tcp *row;
	struct k3c_sock *s;
	__u64 cookie;

	if (!sk || !dst)
		return 0;
	if (ctx->protocol == IPPROTO_TCP) {
		cookie = bpf_get_socket_cookie(ctx);
		row = sock_tcp_row(cookie);
		if (row && row->cookie == cookie)
			row->cookie = 0;
	}
	s = bpf_sk_storage_get(&k3c_sock, sk, 0, 0);
	if (!s)
		return 0;
	peer.backend = *dst;
	sock_asks(s, &peer);
	return 0;
}

/* Returns what the program must return; *ret_changed tells whether *dst and *port are new. */
static __always_inline int sock_forward(struct bpf_sock_addr *ctx, struct k3c_addr *dst, __be16 *port, bool sticky,
					bool *ret_changed)
{
	struct k3c_affinity_key who = { .is_cookie = 1 };
	struct lb_choice choice = {};
	__u8 proto = ctx->protocol;
	enum lb_result r;

	*ret_changed = false;
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return 1;
	who.client.q[0] = bpf_get_netns_cookie(ctx);
	r = lb_by_address(LB_AT_SOCKET, dst, *port, proto, &who, &choice);
	if (r == LB_NOT_A_SERVICE) {
		sock_goes_straight(ctx, dst, *port);
		return 1;
	}
	if (r != LB_FOUND) {
		__u32 reason = r == LB_DENIED ? K3C_DROP_SOURCE_RANGE : K3C_DROP_NO_BACKEND;

		drop_count(reason, 0);
		sock_tell(ctx, K3C_EVENT_DROP, reason, dst, *port, proto, NULL);
		bpf_set_retval(r == LB_DENIED ? -EPERM : -ECONNREFUSED);
		return 0;
	}
	sock_keep(ctx, dst, *port, &choice, sticky);
	*dst = choice.backend.addr;
	*port = choice.backend.port;
	*ret_changed = true;
	return 1;
}

static __always_inline bool sock_reverse_tcp(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct k3c_addr *addr,
					     __be16 *port)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct k3c_sock_tcp *row = sock_tcp_row(cookie);
	struct k3c_sock *s;

	if (!row || row->cookie != cookie || row->peer.backend_port != *port || !addr_eq(&row->peer.backend, addr))
		return false;
	*addr = row->peer.service;
	*port = row->peer.service_port;
	s = bpf_sk_storage_get(&k3c_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (s) {
		s->peer[0] = row->peer;
		s->silent = 0;
	}
	return true;
}

/* From the backend back to the service, for recvmsg and getpeername. */
static __always_inline bool sock_reverse(struct bpf_sock_addr *ctx, struct k3c_addr *addr, __be16 *port)
{
	struct bpf_sock *sk = ctx->sk;
	struct k3c_sock *s;

	if (!sk)
		return false;
	if (ctx->protocol == IPPROTO_TCP && sock_reverse_tcp(ctx, sk, addr, port))
		return true;
	s = bpf_sk_storage_get(&k3c_sock, sk, 0, 0);
	if (!s)
		return false;
	for (int i = 0; i < K3C_SOCK_PEERS; i++) {
		struct k3c_sock_peer *p = &s->peer[i];

		if (!p->service_port || (s->silent & 1U << i) || p->backend_port != *port ||
		    !addr_eq(&p->backend, addr))
			continue;
		*addr = p->service;
		*port = p->service_port;
		return true;
	}
	return false;
}
