/* SPDX-License-Identifier: Apache-2.0 */
/* Pods whose hostPort stands where a balancer would be: as with two pods on one node, who came first has the port. Loop
 * thread only. */
#pragma once

#include "userspace/registry/registry.h"

/* A port of the node's addresses of one family. */
struct lb_port {
	unsigned family; /* 4, 6 */
	uint16_t port;
	struct str proto;
};

struct lb_pods_query {
	const char *node_name;       /* NULL: the only node */
	const struct str *addresses; /* the node's, of both families */
	size_t n_addresses;
	struct str ns;               /* the Service's, */
	const struct json *selector; /* and whom it selects: they are no rivals */
};

/* Might the pod have a hostPort? Cheap. */
bool lb_pod_has_ports(const struct object *pod);
/* A pod bound to the node, and not ended, that has the port; NULL: none. */
const struct object *lb_pods_find(struct registry *reg, const struct lb_pods_query *q, const struct lb_port *port);
