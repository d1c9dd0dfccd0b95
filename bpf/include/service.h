/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Services: a frontend names a *set* of backends. A set is never changed: an update writes a new set under a new
 * number, then replaces the frontend's value, then deletes the old set; a reader that lost the race looks the
 * frontend up again. So no reader ever sees half of an update. */
#pragma once

#include "bpf/include/addr.h"

enum k3c_service_scope {
	K3C_SCOPE_ADDR = 0, /* one address: ClusterIP, load balancer and external addresses */
	K3C_SCOPE_NODE = 1, /* every address of the node; key.addr is zero */
};

struct k3c_service_key {
	struct k3c_addr addr;
	__be16 port;
	__u8 proto;
	__u8 scope;
	__u32 pad;
};
_Static_assert(sizeof(struct k3c_service_key) == 24, "k3c_service_key");

struct k3c_service {
	__u32 set;
	__u32 count; /* 0: refuse */
	__u32 affinity_s;
	__u32 id;   /* the caller's, stable over updates: affinity hangs on it */
	__u32 kind; /* enum dp_frontend_kind, for whoever lists the map */
};
_Static_assert(sizeof(struct k3c_service) == 20, "k3c_service");

/* index: 0 .. count - 1; or, for services with affinity, k3c_backend_hash() of a member. */
struct k3c_backend_key {
	__u32 set;
	__u32 index;
};
_Static_assert(sizeof(struct k3c_backend_key) == 8, "k3c_backend_key");

struct k3c_backend {
	struct k3c_addr addr;
	__be16 port;
	__u16 pad;
	__u32 pad2;
};
_Static_assert(sizeof(struct k3c_backend) == 24, "k3c_backend");

#define K3C_BACKEND_MEMBER 0x80000000u

static inline __attribute__((always_inline)) __u32 k3c_backend_hash(const struct k3c_addr *addr, __be16 port)
{
	__u32 h = addr->w[0];

	h = h * 0x9e3779b1u ^ addr->w[1];
	h = h * 0x9e3779b1u ^ addr->w[2];
	h = h * 0x9e3779b1u ^ addr->w[3];
	h = h * 0x9e3779b1u ^ port;
	return h | K3C_BACKEND_MEMBER;
}

/* Who sticks to a backend: a network namespace (its cookie in q[0]) for sockets here, an address for outside. */
struct k3c_affinity_key {
	struct k3c_addr client;
	__u32 service;
	__u32 is_cookie;
};
_Static_assert(sizeof(struct k3c_affinity_key) == 24, "k3c_affinity_key");

struct k3c_affinity {
	struct k3c_addr addr;
	__be16 port;
	__u16 pad;
	__u32 pad2;
	__u64 last_ns;
};
_Static_assert(sizeof(struct k3c_affinity) == 32, "k3c_affinity");

/* What a socket believes it talks to, and whom it really reaches. In the socket's own storage, so it costs nothing
 * for sockets that use no service and dies with the socket. An unconnected UDP socket may use several services;
 * past K3C_SOCK_PEERS the oldest is forgotten (its late answers then show the backend's address). */
struct k3c_sock_peer {
	struct k3c_addr service;
	struct k3c_addr backend;
	__be16 service_port;
	__be16 backend_port;
	__u32 set;
};
_Static_assert(sizeof(struct k3c_sock_peer) == 40, "k3c_sock_peer");

#define K3C_SOCK_PEERS 4 /* a power of two */

struct k3c_sock {
	struct k3c_sock_peer peer[K3C_SOCK_PEERS];
	__u32 next; /* counts on; its low bits are the place */
	__u32 pad;
};
_Static_assert(sizeof(struct k3c_sock) == 168, "k3c_sock");
