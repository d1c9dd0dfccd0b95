/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Services: a frontend names a *set* of backends. A set is never changed: an update writes a new set under a new
 * number, then changes the frontend where it stands, then deletes the old set. Number and size are one word, read and
 * written at once; a reader whose set went away meanwhile chooses again. */
#pragma once

#include <linux/bpf.h>

#include "bpf/include/addr.h"

enum k3c_service_scope {
	K3C_SCOPE_ADDR = 0, /* one address: ClusterIP, load balancer and external addresses */
	K3C_SCOPE_NODE = 1, /* every address of the node; key.addr is the family's zero */
};

struct k3c_service_key {
	struct k3c_addr addr;
	__be16 port;
	__u8 proto;
	__u8 scope;
	__u32 pad;
};
_Static_assert(sizeof(struct k3c_service_key) == 24, "k3c_service_key");

enum k3c_service_flags {
	K3C_SERVICE_ANYWHERE =
		1, /* at the sockets of every namespace of this machine; else the host's and pods' only */
	K3C_SERVICE_RESERVED = 2, /* nobody binds the port on the host */
	K3C_SERVICE_OUTSIDE = 4,  /* outsiders have a choice of their own; where it is empty they are dropped unheard */
};

union k3c_service_set {
	__u64 word;
	struct {
		__u32 set;
		__u32 count; /* 0: refuse */
	};
};

struct k3c_service {
	union k3c_service_set inside;
	union k3c_service_set outside; /* the same as inside where outsiders are served alike */
	__u32 sources;                 /* number of its set of ranges in k3c_source; 0: everyone may come */
	__u32 affinity_s;
	__u32 id; /* the caller's: frontends with the same share what affinity remembers */
	__u16 n_sources;
	__u8 flags;
	__u8 kind;                 /* enum dp_frontend_kind, for whoever lists the map */
	struct bpf_spin_lock lock; /* as of k3c_endpoint */
	__u32 pad;
};
_Static_assert(sizeof(struct k3c_service) == 40, "k3c_service");

/* Who may come. A set is never changed either, and keeps its number while the ranges stay the same. */
struct k3c_source_key {
	__u32 prefixlen;
	__u32 set;
	struct k3c_addr addr;
};
_Static_assert(sizeof(struct k3c_source_key) == 24, "k3c_source_key");

#define K3C_SOURCE_BITS_FIXED                                                                                          \
	32 /* the value is the prefixlen again, so that a look-up tells a range from a wider one */

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

/* What a socket believes it talks to, and whom it really reaches. UDP needs it with every answer: it stands in the
 * socket's own storage, costs nothing for sockets that use no service and dies with the socket. An unconnected socket
 * may use several services; past K3C_SOCK_PEERS the oldest is forgotten (its late answers then show the backend's
 * address). Several services may lead to one backend, which can also be asked straight: its answers have the name that
 * was asked last, while the other rows, `silent`, only keep their services with their backends. TCP needs it for
 * getpeername alone, and storage would be the most expensive part of a connect: the last connections through services
 * stand in k3c_sock_tcp, each until a later one takes its row, and the first getpeername puts what it found into the
 * socket's storage, to be answered alike for as long as the socket lives. */
struct k3c_sock_peer {
	struct k3c_addr service;
	struct k3c_addr backend;
	__be16 service_port;
	__be16 backend_port;
	__u32 set;
};
_Static_assert(sizeof(struct k3c_sock_peer) == 40, "k3c_sock_peer");

#define K3C_SOCK_PEERS 4 /* a power of two; more would take the next size of the kernel's allocations, 512 bytes */

struct k3c_sock {
	struct k3c_sock_peer peer[K3C_SOCK_PEERS];
	__u32 next;   /* counts on; its low bits are the place */
	__u32 silent; /* bit: a row whose backend was asked by another way since */
};
_Static_assert(sizeof(struct k3c_sock) == 168, "k3c_sock");

/* Row: the low bits of the cookie. Cookies count on, so neighbours in time do not push each other out. */
struct k3c_sock_tcp {
	__u64 cookie;
	struct k3c_sock_peer peer;
};
_Static_assert(sizeof(struct k3c_sock_tcp) == 48, "k3c_sock_tcp");

#define K3C_SOCK_TCP_ROWS 8192 /* a power of two */

/* A network namespace of a pod, by cookie. */
struct k3c_netns {
	__u32 ifindex;             /* host end of the veth */
	struct bpf_spin_lock lock; /* as of k3c_endpoint */
	struct k3c_addr addrs[2];  /* as enum dp_family; zero: none */
};
_Static_assert(sizeof(struct k3c_netns) == 40, "k3c_netns");
