/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of struct netctl that its files share. Inside the room only. */
#pragma once

#include "userspace/loop/loop.h"
#include "userspace/netctl/model.h"
#include "userspace/netctl/netctl.h"
#include "userspace/netctl/pod_addresses.h"
#include "userspace/registry/registry.h"

/* One Service: its slices and the frontends that the maps hold for it. */
struct net_service {
	struct list dirty;           /* queued for a sync */
	const struct object *object; /* NULL: deleted, or slices came first */
	const struct object **slices;
	size_t n_slices, cap_slices;
	struct dp_service *frontends; /* installed; backends of each on the heap */
	size_t n_frontends;
	bool failed; /* something of it could not be written */
	char *ns, *name;
};

/* A place in the maps. Two Services may claim one (externalIPs): the last to be written has it. */
struct net_frontend {
	uint32_t id;               /* for the life of the frontend: affinity hangs on it */
	struct net_service *owner; /* NULL: of an earlier run */
};

struct netctl {
	struct loop *loop;
	struct registry *reg;
	struct dataplane *dp;
	char *node_name;
	bool no_policy;
	enum dp_family primary;
	struct dp_addr dns_addrs[DP_FAMILIES]; /* zero: none */

	struct registry_watch watches[5];
	struct loop_defer defer;
	struct loop_op links_op;
	bool links_watching, destroying;

	struct map services; /* "ns/name" -> struct net_service */
	struct list dirty_services;
	struct map frontends; /* frontend key -> struct net_frontend */
	uint32_t next_id;

	struct net_model model;
	bool policies_dirty; /* some pod of the model may be stale */
	struct map marks;    /* pod uid -> struct pod_mark: what the kernel was told */
	struct pod_addresses addresses;

	struct netctl_stats stats;
};

/* services_sync.c */
void netctl_service_changed(struct netctl *nc, const struct object *service, bool removed);
void netctl_slice_changed(struct netctl *nc, const struct object *slice, const struct object *prev, bool removed);
void netctl_sync_services(struct netctl *nc);
/* Frontends in the maps that no Service asks for go. */
void netctl_prune_services(struct netctl *nc);
void netctl_adopt_frontends(struct netctl *nc);
void netctl_free_services(struct netctl *nc);

/* pods.c */
void netctl_pod_changed(struct netctl *nc, const struct object *pod, bool removed);
void netctl_sync_policies(struct netctl *nc);
void netctl_adopt_links(struct netctl *nc);
void netctl_prune_links(struct netctl *nc);
void netctl_add_dns_pod(struct netctl *nc);
void netctl_free_pods(struct netctl *nc);

void netctl_schedule(struct netctl *nc);
