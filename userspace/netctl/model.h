/* SPDX-License-Identifier: Apache-2.0 */
/* The objects that policy needs, parsed once and kept by namespace: policies with compiled selectors, pods with address
 * and identity, namespaces with labels. Every change marks the pods whose rules it can change (`stale`); nothing else
 * needs to be translated again. No kernel, no registry. Loop thread. */
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
#include "userspace/netctl/identity.h"

struct net_pod {
	struct list link, in_home;
	struct arena arena; /* owns the strings */
	struct str uid, ns, name;
	struct net_namespace *home;
	struct api_label *labels;
	size_t n_labels;
	struct net_named_port *ports;
	size_t n_ports;
	struct dp_addr addrs[DP_FAMILIES]; /* zero: none of that family */
	bool has_addr;                     /* any; never of hostNetwork pods: they are no pods to policies */
	bool host_network, virtual;        /* virtual: addresses that play a pod (cluster DNS) */
	bool attached;     /* has a link here: `addrs` are what the node gave it, whatever the status says */
	bool ended;        /* its phase is a last one */
	bool stale;        /* its rules may differ from those last translated; the owner clears it */
	uint32_t identity; /* of namespace, labels and named ports */
	uint64_t ingress_bits_s, egress_bits_s; /* as its link was told; 0: no limit */
	bool bandwidth_refused;                 /* its annotations are no limits (any more), and it was told so */
};

/* Also there, without labels (and so in no namespaceSelector), while only its pods and policies are. */
struct net_namespace {
	struct list link;
	struct arena arena;
	char *name;
	struct api_label *labels;
	size_t n_labels;
	bool exists;
	struct list pods, policies;
};

struct net_prefix {
	struct dp_addr addr;
	uint8_t len;
};

/* An ipBlock that does not parse leaves a peer that matches nothing; so does one that its excepts cover. */
struct net_peer {
	bool has_pods, has_namespaces, has_block;
	struct selector pods, namespaces;
	struct net_prefix block;
	struct net_prefix *excepts; /* each inside the block */
	size_t n_excepts;
	/* Identities that the selectors find, while `resolved` (policy.c). Heap. */
	uint32_t *ids;
	size_t n_ids, cap_ids;
	bool resolved;
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
	struct net_namespace *home;
	struct selector selector;
	bool ingress, egress; /* which directions it isolates */
	bool named_ingress;   /* some ingress rule names a port */
	struct net_rule *ingress_rules, *egress_rules;
	size_t n_ingress_rules, n_egress_rules;
};

struct net_model {
	struct list pods, namespaces;
	struct map pods_by_uid, policies_by_key, namespaces_by_name; /* key "ns/name" */
	struct identities identities;
};

void model_init(struct net_model *m);
void model_finish(struct net_model *m);

/* Each takes a parsed object and replaces what was there; strings are copied. What says the same as before changes
 * nothing. The pointer to a pod is good until the next call about that pod. */
struct net_pod *model_set_pod(struct net_model *m, const struct json *pod);
struct net_pod *model_pod(const struct net_model *m, struct str uid);
void model_remove_pod(struct net_model *m, struct str uid);
/* The pod has its link and addresses; it has neither any more. */
void model_attach_pod(struct net_model *m, struct net_pod *pod, const struct dp_addr addrs[static DP_FAMILIES]);
void model_detach_pod(struct net_model *m, struct net_pod *pod);
void model_set_policy(struct net_model *m, const struct json *policy);
void model_remove_policy(struct net_model *m, struct str ns, struct str name);
void model_set_namespace(struct net_model *m, const struct json *ns);
void model_remove_namespace(struct net_model *m, struct str name);
