/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster DNS, in process: A, AAAA, SRV and PTR of Services and pods as Kubernetes' DNS specification says,
 * everything else forwarded to the host's resolvers. UDP and TCP on each address. Loop thread. */
#pragma once

#include <stdint.h>

#include "userspace/base/err.h"

struct dns;
struct loop;
struct registry;

#define DNS_ADDRESSES_MAX 2

struct dns_options {
	const char *address;     /* where to listen: the cluster DNS address, or "a,b"; local already */
	uint16_t port;           /* 0: 53 */
	const char *domain;      /* "cluster.local" */
	const char *resolv_conf; /* the host's; its nameservers are the upstreams. Read again when it changes */
	uint16_t upstream_port;  /* of those; 0: 53 */
};

int dns_create(struct loop *loop, struct registry *reg, const struct dns_options *options, struct dns **ret,
	       struct err *err);
void dns_destroy(struct dns *dns);

struct dns_stats {
	uint64_t queries, answered, forwarded, failed, refused;
};
void dns_get_stats(const struct dns *dns, struct dns_stats *ret);
