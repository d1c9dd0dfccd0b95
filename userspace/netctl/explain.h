/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the objects allow a flow, and which policies say so, as JSON. Pure. */
#pragma once

#include "userspace/base/json.h"
#include "userspace/netctl/model.h"

#define EXPLAIN_QUERY_MAX 1024

/* Addresses of one family; port 0 where the protocol has none. */
struct netctl_flow {
	struct dp_addr from, to;
	bool from_node, to_node; /* the node itself */
	uint8_t proto;
	uint16_t port;
};

/* {allowed, egress: V, ingress: V}; V is {isolated, allowed, selecting: ["ns/name"], allowing: [..]}: of the pod that
 * asks, of the pod that is asked. */
struct json *netctl_explain_model(const struct net_model *model, struct arena *arena, const struct netctl_flow *flow);

/* "from=10.42.0.5&to=10.42.0.6&protocol=6&port=80&node=from": as text, and back. -EINVAL. */
char *netctl_flow_format(struct arena *arena, const struct netctl_flow *flow);
int netctl_flow_parse(struct str query, struct netctl_flow *ret, struct err *err);
