/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* From a frontend to one backend: random, or the one the client stuck to. */
#pragma once

#include "bpf/lib/addr.h"
#include "bpf/lib/maps.h"

K3C_MAP_SERVICE;
K3C_MAP_BACKEND;
K3C_MAP_AFFINITY;
K3C_MAP_NODE;

#define LB_NS_PER_S 1000000000ULL
#define LB_TRIES 3

enum lb_result { LB_NOT_A_SERVICE, LB_NO_BACKEND, LB_FOUND };

struct lb_choice {
	struct k3c_backend backend;
	__u32 set;
	__u32 scope;
};

/* The remembered backend, when it is still a member of the set and was used not too long ago. */
static __always_inline bool lb_stick(const struct k3c_service *s, struct k3c_affinity_key *who, struct k3c_backend *ret)
{
	struct k3c_affinity *a = bpf_map_lookup_elem(&k3c_affinity, who);
	struct k3c_backend_key key = {};
	struct k3c_backend *b;
	__u64 now;

	if (!a)
		return false;
	now = bpf_ktime_get_ns();
	if (now - a->last_ns > (__u64)s->affinity_s * LB_NS_PER_S)
		return false;
	key.set = s->set;
	key.index = k3c_backend_hash(&a->addr, a->port);
	b = bpf_map_lookup_elem(&k3c_backend, &key);
	if (!b || !addr_eq(&b->addr, &a->addr) || b->port != a->port)
		return false;
	a->last_ns = now;
	*ret = *b;
	return true;
}

static __always_inline void lb_remember(struct k3c_affinity_key *who, const struct k3c_backend *b)
{
	struct k3c_affinity a = { .addr = b->addr, .port = b->port, .last_ns = bpf_ktime_get_ns() };

	bpf_map_update_elem(&k3c_affinity, who, &a, BPF_ANY);
}

/* `who`: client filled in, service not yet. */
static __always_inline enum lb_result lb_choose(struct k3c_service_key *key, struct k3c_affinity_key *who,
						struct lb_choice *ret)
{
	/* More than once: between the two look-ups an update may have replaced the set. */
	for (int i = 0; i < LB_TRIES; i++) {
		struct k3c_service *s = bpf_map_lookup_elem(&k3c_service, key);
		struct k3c_backend_key slot = {};
		struct k3c_backend *b;

		if (!s)
			return LB_NOT_A_SERVICE;
		if (!s->count)
			return LB_NO_BACKEND;
		ret->set = s->set;
		ret->scope = key->scope;
		if (s->affinity_s) {
			who->service = s->id;
			if (lb_stick(s, who, &ret->backend))
				return LB_FOUND;
		}
		slot.set = s->set;
		slot.index = bpf_get_prandom_u32() % s->count;
		b = bpf_map_lookup_elem(&k3c_backend, &slot);
		if (!b)
			continue;
		ret->backend = *b;
		if (s->affinity_s)
			lb_remember(who, b);
		return LB_FOUND;
	}
	return LB_NO_BACKEND;
}

static __always_inline enum lb_result lb_by_address(const struct k3c_addr *dst, __be16 port, __u8 proto,
						    struct k3c_affinity_key *who, struct lb_choice *ret)
{
	struct k3c_service_key key = { .addr = *dst, .port = port, .proto = proto, .scope = K3C_SCOPE_ADDR };

	return lb_choose(&key, who, ret);
}

/* The caller has seen that the address is one of the node's. */
static __always_inline enum lb_result lb_by_node_port(__be16 port, __u8 proto, struct k3c_affinity_key *who,
						      struct lb_choice *ret)
{
	struct k3c_service_key key = { .port = port, .proto = proto, .scope = K3C_SCOPE_NODE };

	return lb_choose(&key, who, ret);
}
