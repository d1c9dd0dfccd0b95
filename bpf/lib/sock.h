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

/* The backend that this socket already uses for the service, while the set of backends is the same. */
static __always_inline bool sock_same_as_before(struct k3c_sock *s, const struct k3c_addr *dst, __be16 port,
						struct lb_choice *choice)
{
	for (int i = 0; i < K3C_SOCK_PEERS; i++) {
		struct k3c_sock_peer *p = &s->peer[i];

		if (p->service_port != port || p->set != choice->set || !addr_eq(&p->service, dst))
			continue;
		choice->backend.addr = p->backend;
		choice->backend.port = p->backend_port;
		return true;
	}
	return false;
}

static __always_inline void sock_remember(struct k3c_sock *s, const struct k3c_addr *dst, __be16 port,
					  const struct lb_choice *choice)
{
	__u32 at = s->next;

	/* The same service with a new set takes its old place. */
	for (int i = 0; i < K3C_SOCK_PEERS; i++)
		if (s->peer[i].service_port == port && addr_eq(&s->peer[i].service, dst) &&
		    addr_eq(&s->peer[i].backend, &choice->backend.addr))
			at = i;
	if (at == s->next)
		s->next = at + 1;
	/* The bound must be seen on the very register that indexes (6.1 follows no copies). */
	barrier_var(at);
	at &= K3C_SOCK_PEERS - 1;
	s->peer[at].service = *dst;
	s->peer[at].service_port = port;
	s->peer[at].backend = choice->backend.addr;
	s->peer[at].backend_port = choice->backend.port;
	s->peer[at].set = choice->set;
}

/* The sender's own address is chosen later; its namespace says whose it is. */
static __always_inline void sock_tell(__u8 type, __u32 reason, __u64 netns, const struct k3c_addr *dst, __be16 port,
				      __u8 proto, const struct k3c_backend *to)
{
	struct k3c_event *e = event_begin(type);

	if (!e)
		return;
	e->reason = reason;
	e->netns_cookie = netns;
	e->dst = *dst;
	e->dport = port;
	e->proto = proto;
	e->via = K3C_VIA_SOCKET;
	if (to) {
		e->to = to->addr;
		e->to_port = to->port;
	}
	event_end(e);
}

/* `sticky`: datagrams of one unconnected socket stay with one backend. Returns what the program must return;
 * *ret_changed tells whether *dst and *port are new. */
static __always_inline int sock_forward(struct bpf_sock_addr *ctx, struct k3c_addr *dst, __be16 *port, bool sticky,
					bool *ret_changed)
{
	struct k3c_affinity_key who = { .is_cookie = 1 };
	struct lb_choice choice = {};
	struct k3c_sock *s;
	__u8 proto = ctx->protocol;
	enum lb_result r;

	*ret_changed = false;
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return 1;
	who.client.q[0] = bpf_get_netns_cookie(ctx);
	r = lb_by_address(LB_AT_SOCKET, dst, *port, proto, &who, &choice);
	if (r == LB_NOT_A_SERVICE)
		return 1;
	if (r != LB_FOUND) {
		__u32 reason = r == LB_DENIED ? K3C_DROP_SOURCE_RANGE : K3C_DROP_NO_BACKEND;

		drop_count(reason, 0);
		sock_tell(K3C_EVENT_DROP, reason, who.client.q[0], dst, *port, proto, NULL);
		bpf_set_retval(r == LB_DENIED ? -EPERM : -ECONNREFUSED);
		return 0;
	}
	if (!ctx->sk)
		return 1;
	s = bpf_sk_storage_get(&k3c_sock, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (s && !(sticky && sock_same_as_before(s, dst, *port, &choice))) {
		sock_remember(s, dst, *port, &choice);
		sock_tell(K3C_EVENT_TRANSLATE, 0, who.client.q[0], dst, *port, proto, &choice.backend);
	}
	*dst = choice.backend.addr;
	*port = choice.backend.port;
	*ret_changed = true;
	return 1;
}

/* From the backend back to the service, for recvmsg and getpeername. */
static __always_inline bool sock_reverse(struct bpf_sock_addr *ctx, struct k3c_addr *addr, __be16 *port)
{
	struct k3c_sock *s;

	if (!ctx->sk)
		return false;
	s = bpf_sk_storage_get(&k3c_sock, ctx->sk, 0, 0);
	if (!s)
		return false;
	for (int i = 0; i < K3C_SOCK_PEERS; i++) {
		struct k3c_sock_peer *p = &s->peer[i];

		if (!p->service_port || p->backend_port != *port || !addr_eq(&p->backend, addr))
			continue;
		*addr = p->service;
		*port = p->service_port;
		return true;
	}
	return false;
}
