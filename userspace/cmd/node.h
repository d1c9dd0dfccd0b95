/* SPDX-License-Identifier: Apache-2.0 */
/* The running node: every room, wired. Built in order by node_create(), taken down in reverse. Loop thread. */
#pragma once

#include "kubelet/kubelet.h"
#include "scheduler/scheduler.h"
#include "userspace/apiserver/apiserver.h"
#include "userspace/apiserver/audit.h"
#include "userspace/apiserver/pki.h"
#include "userspace/cmd/config.h"
#include "userspace/cmd/node_address.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/signer.h"
#include "userspace/dataplane/dataplane.h"
#include "userspace/dns/dns.h"
#include "userspace/loop/loop.h"
#include "userspace/netctl/netctl.h"
#include "userspace/registry/registry.h"

struct encryption;
struct pod_security_config;
struct store;
struct tls_context;

struct node {
	const struct config *config;
	struct arena arena;
	struct node_addresses addresses;                 /* followed live (node_live.c) */
	const char *pod_cidrs[DP_FAMILIES];              /* primary first; NULL: none */
	char service_ips[DP_FAMILIES][NODE_ADDRESS_MAX]; /* [0]: of the `kubernetes` Service */
	int64_t started_ns;                              /* monotonic */
	int64_t ready_after_ns;                          /* from the start to /readyz; 0: not yet */
	int lock_fd;
	struct pki pki;
	struct loop *loop;
	struct store *store;
	struct encryption *encryption;
	struct pod_security_config *pod_security;
	struct registry *reg;
	struct tls_context *tls;
	struct token_keys *tokens;
	struct audit *audit;
	struct apiserver *api;
	struct dataplane *dp;
	struct netctl *net;
	struct kubelet *kubelet;
	struct controllers *controllers;
	struct scheduler *scheduler;
	struct dns *dns;
	struct pod_network pod_network;
	struct signer signer;
	struct loop_timer renewal;
	uint64_t commits_seen, failures_seen; /* of the store, by the last look at its health */
	bool disk_refuses;
	struct dp_map_info *maps; /* as last counted, for the figures */
	size_t n_maps;
	int64_t maps_counted_ns;
	struct dp_pressure *pressure;
	size_t n_pressure;
	int64_t pressure_counted_ns;
	bool started; /* every room is there */
};

int node_create(const struct config *config, struct node **ret, struct err *err);
void node_destroy(struct node *node);

/* node_status.c: the server's part of `k3c-bpf status`. */
struct json *node_status_json(struct node *node, struct arena *arena);
/* node_wiring.c: the interfaces that one room declares and another fulfils. */
void node_wire_network(struct node *node);
void node_wire_streams(struct node *node);
void node_wire_signer(struct node *node);
/* node.c: a certificate that runs out, or lacks a name that it must have, is replaced. */
void node_refresh_certificates(struct node *node);
/* node_live.c: the node's addresses while it runs. */
#define NODE_ADVERTISED_MAX 300
int node_live_local_addresses(struct node *node, struct err *err); /* on `lo`, and off it again */
const char *node_live_apiserver_address(const struct node *node);  /* where the Service `kubernetes` leads */
void node_live_advertised(const struct node *node, char ret[static NODE_ADVERTISED_MAX]); /* "address:port" */
void node_live_changed(void *node);                                                       /* links or addresses */
/* node_dataplane.c: the dataplane's figures. */
void node_write_dataplane(struct node *node, struct buf *out);
/* What was changed in the kernel by hand, and when that was last found. */
struct json *node_refused_json(struct node *node, struct arena *arena); /* map -> writes refused, still wanted */
struct json *node_drift_json(struct node *node, struct arena *arena);
/* node_health.c: checks and figures. */
void node_wire_health(struct node *node);
int node_mint_token(void *ctx, const struct kubelet_token_request *request, struct buf *ret, struct err *err);
