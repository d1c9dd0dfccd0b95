/* SPDX-License-Identifier: Apache-2.0 */
/* A netlink socket with batches: several requests, one system call, every acknowledgement checked. */
#pragma once

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

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

void nl_put_clsact(struct nl *nl, int ifindex, int ignored);
void nl_put_filter(struct nl *nl, int ifindex, bool ingress, int program_fd, const char *name);
void nl_put_filter_delete(struct nl *nl, int ifindex, bool ingress);
void nl_put_clsact_delete(struct nl *nl, int ifindex);
void nl_put_link_up(struct nl *nl, int ifindex, const char *alias, bool no_ipv6_address);
void nl_put_link_delete(struct nl *nl, int ifindex);
void nl_put_address4(struct nl *nl, uint16_t type, int ifindex, uint32_t addr, uint8_t bits, uint8_t scope,
		     const char *label, int ignored);
void nl_put_neighbour4(struct nl *nl, int ifindex, uint32_t addr, const uint8_t mac[static 6]);
struct nl_route4 {
	uint32_t dst;
	uint8_t bits, type, scope;
	int ifindex;      /* 0: none */
	uint32_t gateway; /* 0: none */
	uint32_t source;  /* 0: none */
	uint32_t metric;
};
void nl_put_route4(struct nl *nl, uint16_t type, const struct nl_route4 *r, int ignored);
