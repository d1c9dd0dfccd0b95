/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler knows of nodes: the node itself and what the pods on it take, kept from changes
 * as they come. A pod counts from the moment it was given its node, before the binding is durable
 * (assumed), until it ends or goes. Loop thread only. */
#pragma once

#include "scheduler/resources.h"
#include "userspace/base/arena.h"
#include "userspace/base/map.h"
#include "userspace/registry/registry.h"

struct host_port {
	char protocol[8]; /* "TCP", "UDP", "SCTP" */
	char ip[48];      /* "0.0.0.0": all */
	uint16_t port;
};

struct cache_pod {
	char *uid, *node;
	struct resources requests;
	int64_t score_milli_cpu, score_memory;
	struct host_port *ports;
	size_t n_ports;
	bool assumed;
};

struct cache_node {
	char *name;
	const struct object *object; /* NULL: pods name it, but it is not there */
	struct arena arena;          /* of json */
	struct json *json;
	struct resources allocatable, requested;
	int64_t score_milli_cpu, score_memory;
	struct host_port *ports;
	size_t n_ports, cap_ports;
	unsigned pods;
};

struct cache {
	struct map nodes; /* name -> struct cache_node */
	struct map pods;  /* uid -> struct cache_pod */
	unsigned n_nodes; /* with an object */
};

void cache_finish(struct cache *c);
/* o NULL: the node is gone. */
void cache_set_node(struct cache *c, struct str name, const struct object *o);
/* Counts the pod on its node, or moves it; `pod` is its tree. */
void cache_add_pod(struct cache *c, struct str uid, struct str node, const struct json *pod, bool assumed);
/* False when it was not counted. */
bool cache_remove_pod(struct cache *c, struct str uid);
bool cache_is_assumed(const struct cache *c, struct str uid);

/* Host ports that a pod's containers ask for. */
size_t cache_host_ports(const struct json *spec, struct host_port **ret);
