/* SPDX-License-Identifier: Apache-2.0 */
/* A netlink socket with batches: several requests, one system call, every acknowledgement checked. */
#pragma once

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpf/include/addr.h"
#include "userspace/base/err.h"

#define NL_BATCH_MAX 16
#define NL_BATCH_BYTES 16384

struct nl;

int nl_open(int bus, struct nl **ret, struct err *err);
/* Takes the descriptor. */
struct nl *nl_from_fd(int fd);
void nl_close(struct nl *nl);
int nl_fd(const struct nl *nl);

/* Starts a request in the batch (an acknowledgement is always asked for). `what` is for the error message; an answer of
 * -ignored (0: none) counts as success. At most NL_BATCH_MAX until nl_commit. */
struct nlmsghdr *nl_begin(struct nl *nl, uint16_t type, uint16_t flags, const char *what, int ignored);
/* Sends the batch; the first refusal is the result. */
int nl_commit(struct nl *nl, struct err *err);
/* How the i-th request of the last batch ended (0 or negative errno, also ignored ones). */
int nl_result(const struct nl *nl, unsigned i);

typedef int nl_fn(const struct nlmsghdr *h, void *arg);
/* A dump, or one object when flags lack NLM_F_DUMP: `request` was begun by nl_request(). */
struct nlmsghdr *nl_request(struct nl *nl, uint16_t type, uint16_t flags);
int nl_query(struct nl *nl, nl_fn *fn, void *arg, struct err *err);

/* ---- the requests of this room ---- (each adds one to the batch) */

/* See clsact.h. */
void nl_put_clsact(struct nl *nl, int ifindex, int ignored);
/* One that is there is of this kind: else -EINVAL. Nothing is changed. */
void nl_put_clsact_same(struct nl *nl, int ifindex);
/* Of a dump of filters: where the programs of any node go. */
bool nl_is_own_filter(const struct nlmsghdr *h);
void nl_put_filter(struct nl *nl, int ifindex, bool ingress, int program_fd, const char *name);
/* `classid`: the program reads its lower half in skb->tc_classid; 0: none. */
void nl_put_filter_classid(struct nl *nl, int ifindex, bool ingress, int program_fd, const char *name,
			   uint32_t classid);
void nl_put_filter_delete(struct nl *nl, int ifindex, bool ingress);
void nl_put_clsact_delete(struct nl *nl, int ifindex);
void nl_put_link_up(struct nl *nl, int ifindex, const char *alias, bool no_ipv6_address);
void nl_put_link_delete(struct nl *nl, int ifindex);
/* Of the family that `addr` is of (IPv4 as ::ffff:a.b.c.d). */
struct nl_address {
	struct k3c_addr addr;
	uint8_t bits;  /* of its family's */
	uint8_t scope; /* IPv4 only: of IPv6 the address itself says it */
	int ifindex;
	const char *label; /* IPv4: NULL or a label that begins with the link's name */
	uint8_t protocol;  /* IPv6: 0, or who made it */
	uint32_t metric;   /* IPv6: 0, or of its route */
	bool never_source; /* IPv6: the kernel chooses it for nothing by itself */
};
/* An attribute of a message of that family; zero: it is none. */
struct k3c_addr nl_addr_of(uint8_t family, const struct nlattr *attr);
void nl_put_address(struct nl *nl, uint16_t type, const struct nl_address *a, int ignored);
/* An IPv6 address is the host's own a moment after the kernel said that it is (a worker makes its route), and until
 * then what comes for it is dropped. A worker that takes longer than the limit costs a packet. */
void nl_await_address(struct nl *nl, const struct k3c_addr *addr);
void nl_put_neighbour(struct nl *nl, int ifindex, const struct k3c_addr *addr, const uint8_t mac[static 6]);
void nl_put_link_mtu(struct nl *nl, int ifindex, uint32_t mtu);
struct nl_route {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t bits, type, scope;
	struct k3c_addr dst;
	int ifindex;             /* 0: none */
	struct k3c_addr gateway; /* zero: none */
	struct k3c_addr source;  /* zero: none */
	uint32_t metric;
	uint32_t mtu; /* 0: the link's */
};
void nl_put_route(struct nl *nl, uint16_t type, const struct nl_route *r, int ignored);
