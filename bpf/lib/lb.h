/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* From a frontend to one backend: random, or the one the client stuck to. Knows no packet and no socket, so that
 * sockets, tc and XDP choose alike. */
#pragma once

#include <stddef.h>

#include "bpf/lib/addr.h"
#include "bpf/lib/clock.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/node.h"
#include "bpf/lib/options.h"

K3C_MAP_SERVICE;
K3C_MAP_BACKEND;
K3C_MAP_SOURCE;
K3C_MAP_AFFINITY;
K3C_MAP_NETNS;

#define LB_NS_PER_S 1000000000ULL
#define LB_TRIES 3

enum lb_result {
	LB_NOT_A_SERVICE,
	LB_NO_BACKEND, /* refuse */
	LB_SILENT,     /* none for outsiders: drop */
	LB_DENIED,     /* not of the source ranges: drop */
	LB_FOUND,
};

enum lb_where {
	LB_AT_SOCKET, /* the client is a namespace */
	LB_OF_POD,    /* a packet of a pod; the client is its address */
	LB_OUTSIDE,   /* a packet of the world; the client is its address */
	LB_OF_HOST,   /* a packet of the host itself; the client is its namespace, as at its sockets */
};

/* What is remembered begins as a backend does: one place on the stack for both. */
struct lb_choice {
	union {
		struct k3c_backend backend;
		struct k3c_affinity stick;
	};
	__u32 set;
};
_Static_assert(offsetof(struct k3c_affinity, addr) == offsetof(struct k3c_backend, addr) &&
		       offsetof(struct k3c_affinity, port) == offsetof(struct k3c_backend, port) &&
		       offsetof(struct k3c_affinity, last_ns) == sizeof(struct k3c_backend),
	       "k3c_affinity begins as k3c_backend does");

static __always_inline bool lb_is_loopback(const struct k3c_addr *a)
{
	return addr_is_v4(a) ? a->b[12] == 127 : a->q[0] == 0 && a->w[2] == 0 && a->w[3] == bpf_htonl(1);
}

/* The remembered backend, when it is still a member of the set and was used not too long ago. */
static __always_inline bool lb_stick(__u32 affinity_s, __u32 set, struct k3c_affinity_key *who, struct k3c_backend *ret)
{
	struct k3c_affinity *a = bpf_map_lookup_elem(&k3c_affinity, who);
	struct k3c_backend_key key = {};
	struct k3c_backend *b;
	__u64 now;

	if (!a)
		return false;
	now = bpf_ktime_get_ns();
	if (clock_age(now, a->last_ns) > (__u64)affinity_s * LB_NS_PER_S)
		return false;
	ret->addr = a->addr;
	ret->port = a->port;
	key.set = set;
	key.index = k3c_backend_hash(&ret->addr, ret->port);
	b = bpf_map_lookup_elem(&k3c_backend, &key);
	if (!b || !addr_eq(&b->addr, &ret->addr) || b->port != ret->port)
		return false;
	a->last_ns = now;
	return true;
}

static __always_inline void lb_remember(struct k3c_affinity_key *who, struct lb_choice *choice)
{
	choice->stick.last_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&k3c_affinity, who, &choice->stick, BPF_ANY);
}

static __always_inline bool lb_in_sources(__u32 set, const struct k3c_addr *source)
{
	struct k3c_source_key key = { .prefixlen = K3C_SOURCE_BITS_FIXED + 128, .set = set, .addr = *source };

	return bpf_map_lookup_elem(&k3c_source, &key) != NULL;
}

/* May this client use the frontend at all? LB_FOUND: it may. The host itself always may. A namespace of this machine
 * that is neither the host's nor a pod's is a host like others to everything but the cluster's own addresses: it comes
 * in over a link, and may have no way to a pod's address. */
static __always_inline enum lb_result lb_admits(enum lb_where where, const struct k3c_service *s,
						const struct k3c_service_key *key, const struct k3c_affinity_key *who)
{
	const struct k3c_addr *source = &who->client;
	struct k3c_netns *n;
	__u64 cookie;

	if (where == LB_OF_HOST)
		return LB_FOUND;
	if (where == LB_AT_SOCKET) {
		cookie = who->client.q[0];
		if ((s->flags & K3C_SERVICE_ANYWHERE) || cookie == k3c_host_netns)
			return LB_FOUND;
		n = bpf_map_lookup_elem(&k3c_netns, &cookie);
		if (!n)
			return LB_NOT_A_SERVICE;
		source = addr_is_v4(&key->addr) ? &n->addrs[0] : &n->addrs[1];
	}
	return !s->sources || lb_in_sources(s->sources, source) ? LB_FOUND : LB_DENIED;
}

/* Written as one word, so it is read as one. */
static __always_inline union k3c_service_set lb_set(enum lb_where where, const struct k3c_service *s)
{
	union k3c_service_set set = {
		.word = *(const volatile __u64 *)(where == LB_OUTSIDE ? &s->outside.word : &s->inside.word),
	};

	return set;
}

/* `s`: what stands under `key` (NULL: nothing). `who`: client filled in, service not yet. */
static __always_inline enum lb_result lb_choose(enum lb_where where, const struct k3c_service_key *key,
						struct k3c_service *s, struct k3c_affinity_key *who,
						struct lb_choice *ret)
{
	enum lb_result r = LB_NO_BACKEND;
	__u32 denied = 0;

	/* More than once: between two look-ups an update may have deleted what the first one named. */
	for (int i = 0; i < LB_TRIES; i++) {
		struct k3c_backend_key slot = { .index = bpf_get_prandom_u32() };
		union k3c_service_set now;
		struct k3c_backend *b;

		if (i)
			s = bpf_map_lookup_elem(&k3c_service, key);
		if (!s)
			return LB_NOT_A_SERVICE;
		r = lb_admits(where, s, key, who);
		if (r == LB_NOT_A_SERVICE || (r == LB_DENIED && denied == s->sources))
			return r;
		if (r == LB_DENIED) {
			denied = s->sources;
			continue;
		}
		now = lb_set(where, s);
		if (!now.count)
			return where == LB_OUTSIDE && (s->flags & K3C_SERVICE_OUTSIDE) ? LB_SILENT : LB_NO_BACKEND;
		ret->set = slot.set = now.set;
		slot.index %= now.count;
		if (s->affinity_s) {
			who->service = s->id;
			if (lb_stick(s->affinity_s, slot.set, who, &ret->backend))
				return LB_FOUND;
		}
		b = bpf_map_lookup_elem(&k3c_backend, &slot);
		if (!b)
			continue;
		ret->backend = *b;
		barrier();
		/* Then it was deleted, and may have become a backend of another service, before it was read. */
		if (lb_set(where, s).set != ret->set)
			continue;
		if (s->affinity_s)
			lb_remember(who, ret);
		return LB_FOUND;
	}
	return r == LB_FOUND ? LB_NO_BACKEND : r;
}

/* What stands there for this destination; *key: under which key. */
static __always_inline struct k3c_service *lb_find(const struct k3c_addr *dst, bool loopback,
						   struct k3c_service_key *key)
{
	struct k3c_service *s = bpf_map_lookup_elem(&k3c_service, key);

	if (s || (!loopback && !node_has(&key->addr))) /* not `dst`: old verifiers want keys on the stack */
		return s;
	key->scope = K3C_SCOPE_NODE;
	if (addr_is_v4(dst))
		addr_set_v4(&key->addr, 0);
	else
		key->addr.q[0] = key->addr.q[1] = 0;
	return bpf_map_lookup_elem(&k3c_service, key);
}

/* 127.0.0.0/8 and ::1 carry node ports (and host ports bound to them) for sockets of the host only: in a pod they are
 * the pod's own, and on a link nobody's. */
static __always_inline enum lb_result lb_by_address(enum lb_where where, const struct k3c_addr *dst, __be16 port,
						    __u8 proto, struct k3c_affinity_key *who, struct lb_choice *ret)
{
	struct k3c_service_key key = { .addr = *dst, .port = port, .proto = proto, .scope = K3C_SCOPE_ADDR };
	bool loopback = lb_is_loopback(dst);
	struct k3c_service *s;

	if (loopback && (where != LB_AT_SOCKET || who->client.q[0] != k3c_host_netns))
		return LB_NOT_A_SERVICE;
	s = lb_find(dst, loopback, &key);
	return lb_choose(where, &key, s, who, ret);
}
