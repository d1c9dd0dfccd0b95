/* SPDX-License-Identifier: Apache-2.0 */
/* What the kubelet needs of the node's network, as an interface that main wires to netctl. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "datastore/object.h"
#include "userspace/base/err.h"

#define POD_IPS_MAX 2

struct pod_network_result {
	char ips[POD_IPS_MAX][46]; /* first is podIP */
	unsigned n_ips;
};

typedef void pod_network_done_fn(void *arg, const struct pod_network_result *result, const struct err *err);

struct pod_network {
	void *ctx;
	/* Policy and endpoint entries first, then the veth into the network namespace pinned at `netns_path`, which
	 * exists. Idempotent: an attached pod answers with the same addresses (also after a restart of the server). */
	void (*attach)(void *ctx, const struct object *pod, const char *netns_path, pod_network_done_fn *done,
		       void *arg);
	/* Links and map entries go, the address is free again. Idempotent. done may be NULL. */
	void (*detach)(void *ctx, struct str pod_uid, pod_network_done_fn *done, void *arg);
	/* resolv.conf facts */
	const char *cluster_dns;    /* "10.43.0.10", "10.43.0.10,fd43::a", or "" when disabled */
	const char *cluster_domain; /* "cluster.local" */
};
