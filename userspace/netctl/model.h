/* SPDX-License-Identifier: Apache-2.0 */
/* The objects that policy needs, parsed once: policies with compiled selectors, pods with address and identity,
 * namespaces with labels. Plain data; the owner keeps it up to date. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/meta.h"
#include "userspace/api/selector.h"
#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/base/list.h"
#include "userspace/base/map.h"
#include "userspace/dataplane/dataplane.h"

struct net_named_port {
	struct str name;
	uint8_t proto;
	uint16_t port;
};

struct net_pod {
	struct list link;
	struct arena arena; /* owns the strings */
	struct str uid, ns, name;
	struct api_label *labels;
	size_t n_labels;
	struct net_named_port *ports;
	size_t n_ports;
	struct dp_addr addr;
	bool has_addr, host_network, virtual; /* virtual: an address that plays a pod (cluster DNS) */
	uint32_t identity;
	bool attached;
};

struct net_namespace {
	struct arena arena;
	struct str name;
	struct api_label *labels;
	size_t n_labels;
};

#define NET_EXCEPTS_MAX 256

struct net_prefix {
	struct dp_addr addr;
	uint8_t len;
};

struct net_peer {
	bool has_pods, has_namespaces, has_block;
	struct selector pods, namespaces;
	struct net_prefix block;
	struct net_prefix *excepts;
	size_t n_excepts;
};

struct net_port {
	uint8_t proto;
	uint16_t port, end_port; /* 0: all */
	struct str name;         /* named port; n = 0: the number */
};

struct net_rule {
	struct net_peer *peers; /* none: everyone */
	size_t n_peers;
	struct net_port *ports; /* none: all */
	size_t n_ports;
};

struct net_policy {
	struct list link;
	struct arena arena;
	struct str ns, name;
	struct selector selector;
	bool ingress, egress; /* which directions it isolates */
	struct net_rule *ingress_rules, *egress_rules;
	size_t n_ingress_rules, n_egress_rules;
};

struct net_model {
	struct list pods, policies;
	struct map pods_by_uid, policies_by_key, namespaces; /* key "ns/name"; namespaces by name */
};

void model_init(struct net_model *m);
void model_finish(struct net_model *m);

/* Each takes a parsed object and replaces what was there; strings are copied. */
struct net_pod *model_set_pod(struct net_model *m, const struct json *pod);
struct net_pod *model_pod(const struct net_model *m, struct str uid);
void model_remove_pod(struct net_model *m, struct str uid);
void model_set_policy(struct net_model *m, const struct json *policy);
void model_remove_policy(struct net_model *m, struct str ns, struct str name);
void model_set_namespace(struct net_model *m, const struct json *ns);
void model_remove_namespace(struct net_model *m, struct str name);
