/* SPDX-License-Identifier: Apache-2.0 */
/* The node's network control: Services, EndpointSlices, NetworkPolicies, Pods and Namespaces in, the dataplane's
 * plain structs out. What the maps should hold is computed by pure functions (services.h, policy.h) from a model of
 * the objects; only differences are written. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "datastore/object.h"
#include "userspace/base/err.h"
#include "userspace/base/histogram.h"
#include "userspace/base/json.h"
#include "userspace/dataplane/dataplane.h"

struct loop;
struct netctl;
struct registry;

struct netctl_options {
	const char *node_name;
	const char *pod_cidr;    /* "10.42.0.0/16", or one of each family: "a,b", the first is the primary one */
	const char *cluster_dns; /* the same; seen by policies as a pod labelled k8s-app=kube-dns; "": none */
	bool no_policy;          /* NetworkPolicy is not enforced */
	/* Links or addresses of the host may have changed; the dataplane knows already. NULL: nobody asks. */
	void (*links_changed)(void *arg);
	void *links_changed_arg;
	uint16_t api_port; /* where the API server listens: no object takes it away at the node's addresses; 0: none */
};

int netctl_create(struct loop *loop, struct registry *reg, struct dataplane *dp, const struct netctl_options *options,
		  struct netctl **ret, struct err *err);
/* Reads what exists, brings the maps in line (stale frontends, policies and links of an earlier run go), then follows
 * every change. */
int netctl_start(struct netctl *nc, struct err *err);
void netctl_destroy(struct netctl *nc); /* takes NULL; the kernel keeps everything */

#define NETCTL_ADDRESS_MAX 46

/* Of the primary family first. */
struct netctl_addresses {
	char texts[DP_FAMILIES][NETCTL_ADDRESS_MAX];
	unsigned n;
};

/* Addresses, identity and policy first, then the links. Idempotent; the addresses survive a restart. */
int netctl_pod_attach(struct netctl *nc, const struct object *pod, const char *netns_path, struct netctl_addresses *ret,
		      struct err *err);
int netctl_pod_detach(struct netctl *nc, struct str pod_uid, struct err *err);

/* {"services":[{namespace,name,frontends:[{kind,proto,address,port,backends:[..]}]}],"pods":[...]}: what the objects
 * say, for comparison with the maps. */
struct json *netctl_status_json(struct netctl *nc, struct arena *arena);

/* explain.h: why a flow may pass or not. */
struct netctl_flow;
struct json *netctl_explain(struct netctl *nc, struct arena *arena, const struct netctl_flow *flow);

/* How long syncs took: counted by NETCTL_TIME_SCALE, one more than it has limits. */
#define NETCTL_TIME_BUCKETS 13
struct netctl_time {
	uint64_t counts[NETCTL_TIME_BUCKETS];
	uint64_t sum_ns;
};
extern const struct histogram_scale NETCTL_TIME_SCALE;

struct netctl_stats {
	struct netctl_time service_time, policy_time;
	uint64_t service_syncs, policy_syncs, errors;
	uint64_t frontend_writes, services_full; /* services_full: frontends that found no room in the maps, each try */
	unsigned services_waiting;               /* Services that wait for room now */
	unsigned services, frontends, policies, pods, identities;
	uint64_t last_sync_ns;
};
void netctl_get_stats(const struct netctl *nc, struct netctl_stats *ret);
