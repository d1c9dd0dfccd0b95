/* SPDX-License-Identifier: Apache-2.0 */
/* The dataplane: plain structs in, BPF maps and links out. The only code that touches libbpf; knows nothing
 * of JSON or Kubernetes. Programs and maps are pinned below one bpffs folder: traffic goes on without the
 * server, a new server adopts them. Blocking calls are short system calls; loop thread unless said otherwise.
 * Addresses are in network byte order, IPv4 as ::ffff:a.b.c.d everywhere. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/err.h"

struct dataplane;

struct dp_addr {
	uint8_t b[16];
};

/* What is kept once for each family stands in arrays of two: [DP_V4], [DP_V6]. */
enum dp_family { DP_V4, DP_V6, DP_FAMILIES };

struct dp_net {
	struct dp_addr addr;
	uint8_t bits; /* of 128; 0: none */
};

enum dp_xdp {
	DP_XDP_OFF,
	DP_XDP_NATIVE,  /* on links whose driver can; the others do without */
	DP_XDP_GENERIC, /* on every link */
};

struct dataplane_options {
	const char *pin_dir;     /* /sys/fs/bpf/k3c-bpf */
	const char *cgroup2_dir; /* NULL: found from /proc/self/mountinfo */
	const char *cgroup2_own; /* where to mount one if the host has none; NULL: that is an error */
	struct dp_net pod_nets[DP_FAMILIES];
	struct dp_net service_nets[DP_FAMILIES]; /* never masqueraded; unknown addresses are unreachable at once */
	struct dp_addr node_ips[DP_FAMILIES];    /* source of host traffic to pods, where a link (or lo) has it */
	const struct dp_net *direct_nets;        /* pods go there with their own address (nonMasqueradeCIDRs) */
	size_t n_direct_nets;
	enum dp_xdp xdp;
	uint16_t node_port_min, node_port_max;
	/* 0: defaults by memory. Of max_connections a quarter is for datagrams. */
	uint32_t max_services, max_backends, max_connections, max_policy_entries;
};

/* Loads or adopts (same build id: as pinned; else replaced atomically, maps kept by name and version). Mounts a bpffs
 * where pin_dir needs one, sets net.ipv4.ip_forward, routes unknown pod and service addresses to "unreachable", and
 * attaches to the host's links that have an address; they are followed by dataplane_links_process(). */
int dataplane_open(const struct dataplane_options *options, struct dataplane **ret, struct err *err);
/* After an upgrade that lays objects' maps out anew the old programs serve on, with the old maps, until the new ones
 * are filled: called once everything known was written. Otherwise there is nothing to do. */
int dataplane_settle(struct dataplane *dp, struct err *err);
/* Leaves everything in the kernel. */
void dataplane_close(struct dataplane *dp);
/* Detach, unpin, delete every link, route, rule and address made here. Works without a running server. */
int dataplane_purge(const char *pin_dir, struct err *err);

/* ---- services ---- */

enum dp_frontend_kind {
	DP_CLUSTER_IP,
	DP_NODE_PORT, /* every address of the node, of the family of `addr` (which is zero otherwise: :: or 0.0.0.0) */
	DP_EXTERNAL,
	DP_LOAD_BALANCER,
	DP_HOST_PORT, /* addr: hostIP, or zero as for node ports */
};

struct dp_backend {
	struct dp_addr addr;
	uint16_t port;
};

struct dp_service {
	uint32_t id;   /* frontends of one family with the same share what affinity remembers of clients; stable */
	uint8_t kind;  /* enum dp_frontend_kind */
	uint8_t proto; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	uint16_t port; /* host byte order */
	struct dp_addr addr;
	uint32_t affinity_s; /* 0: none */
	/* For sockets of the host and of pods; of the family of `addr`. None: connections are refused (ECONNREFUSED at
	 * connect). */
	const struct dp_backend *backends;
	size_t n_backends;
	/* For what arrives from outside, where that is another choice (externalTrafficPolicy: Local): then none means
	 * dropped, so that a balancer before the node looks elsewhere. */
	bool outside_differs;
	const struct dp_backend *outside;
	size_t n_outside;
	/* loadBalancerSourceRanges: who may come; none: everyone. The node itself always may. */
	const struct dp_net *sources;
	size_t n_sources;
	/* Of those that the maps hold: somebody else wrote there, what was left out makes no sense. */
	bool damaged;
};

/* From a socket on the host 127.0.0.1 and ::1 count as addresses of the node; in a pod they are the pod's own.
 * A port of DP_NODE_PORT cannot be bound by others on the host (EADDRINUSE).
 * Makes or replaces the frontend; setting what is there already changes nothing. No lookup ever sees a half-made one.
 */
int dataplane_service_set(struct dataplane *dp, const struct dp_service *s, struct err *err);
int dataplane_service_delete(struct dataplane *dp, const struct dp_service *frontend, struct err *err);
/* From when frontends in the maps were found otherwise than written until they are right again: the backends that such
 * a one names may be another's, and go only in the end, if nobody names them. */
void dataplane_services_distrust(struct dataplane *dp, bool distrust);
/* What the maps really hold (for status and drift). Backends borrowed for the call. */
typedef void dataplane_service_fn(void *arg, const struct dp_service *s);
int dataplane_service_each(struct dataplane *dp, dataplane_service_fn *fn, void *arg, struct err *err);
/* All sockets connected to vanished backends, however they came there, are destroyed, on the host and in every pod, and
 * translations that lead there are forgotten: for addresses that are nobody's any more. One pass over the sockets for
 * all of them, on a thread of its own, soon after the call (errors met there are logged). port 0: every port of the
 * address. */
int dataplane_backends_gone(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto,
			    struct err *err);
/* These are gone from addresses that others have too: of the sockets (and translations) only those end that came by a
 * frontend and remember it; who connected to the address itself goes on. For TCP and SCTP; else as above. */
int dataplane_backends_left(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto,
			    struct err *err);
/* To be called after UDP frontends lost backends, moved or went: translations whose frontend, as it stands in the maps
 * now, does not lead to their backend any more are forgotten, and sockets connected to one of `lost` destroyed when the
 * frontend that they came by does not lead there any more; those that came by none or by another are left alone. */
int dataplane_flows_check(struct dataplane *dp, const struct dp_backend *lost, size_t n, struct err *err);
/* Once after a start, for what an earlier run did not come to: UDP translations as above, and of other protocols
 * translations and sockets that lead to an address of the pods' ranges that is neither a pod's nor one of the living,
 * of any protocol. */
int dataplane_flows_adopt(struct dataplane *dp, const struct dp_backend *living, size_t n, struct err *err);

/* ---- pods ---- */

struct dp_pod {
	const char *key;                   /* pod uid; link names are derived from it */
	struct dp_addr addrs[DP_FAMILIES]; /* zero: none of that family; at least one */
	uint32_t identity;                 /* of its labels and namespace */
	const char *netns_path;
	/* kubernetes.io/{ingress,egress}-bandwidth; 0: no limit. Attaching again changes them. */
	uint64_t ingress_bits_s, egress_bits_s;
};

/* veth pair, addresses, routes, programs on the host end. Policy for its addresses must be set before. Idempotent.
 * Returns the host link's index. */
int dataplane_pod_attach(struct dataplane *dp, const struct dp_pod *pod, struct err *err);
/* Another limit for a pod that is attached. */
int dataplane_pod_bandwidth(struct dataplane *dp, const char *key, uint64_t ingress_bits_s, uint64_t egress_bits_s,
			    struct err *err);
/* The pod has no network when this returns; its link vanishes soon after, on a thread of its own. addrs (DP_FAMILIES
 * of them) NULL: as known from attach. Idempotent. Identity and policy of the addresses are not touched. */
int dataplane_pod_detach(struct dataplane *dp, const char *key, const struct dp_addr *addrs, struct err *err);

/* ---- policy ---- */

enum dp_direction { DP_INGRESS, DP_EGRESS };

/* One allowed peer. identity != 0: pods of that identity; else the prefix. port 0: any; proto 0: any. */
struct dp_policy_rule {
	uint8_t direction;
	uint8_t proto;
	uint16_t port, end_port; /* host byte order; end_port 0: just port */
	uint32_t identity;
	struct dp_addr prefix;
	uint8_t prefix_len; /* of 128 */
	/* An `except`: carved out of the nearest allow rule before it with the same direction, proto and ports whose
	 * prefix contains it (none: -EINVAL). Other allow rules are not touched: rules add up, as in NetworkPolicy. */
	bool deny;
	/* Every address of both families; identity and prefix are zero. A prefix holds addresses of its own family
	 * only: ::/0 holds none of IPv4, though these are written as mapped. */
	bool everyone;
};

struct dp_policy {
	struct dp_addr pod;
	bool isolated_ingress, isolated_egress; /* selected by at least one policy of that direction */
	const struct dp_policy_rule *rules;
	size_t n_rules;
};

/* -ENOSPC: the maps are full, the pod's old policy stands (a new pod must not be attached then).
 * Traffic that this node itself makes (kubelet probes, hostNetwork) is never stopped on its way to a pod. An
 * address that is no pod (the cluster DNS address) may be given an identity too.
 * Replaces the pod's whole policy in one step; established connections that it no longer allows are cut. */
int dataplane_policy_set(struct dataplane *dp, const struct dp_policy *policy, struct err *err);
/* The same for several addresses (policy->pod is not looked at). Naming all that share their rules at once makes it
 * cheap: what comes and goes with a new identity is then written alone. */
int dataplane_policy_set_all(struct dataplane *dp, const struct dp_policy *policy, const struct dp_addr *pods, size_t n,
			     struct err *err);
/* Everything about policies and identities between the two takes effect with the commit, for all pods at one instant:
 * no packet is judged by a mixture. A call that fails leaves its own pods as they were. May be nested. A call outside
 * is a step of its own. */
void dataplane_policy_begin(struct dataplane *dp);
int dataplane_policy_commit(struct dataplane *dp, struct err *err);
/* Frees what earlier commits replaced, which the next begin does as well: some time after the last commit. */
void dataplane_policy_settle(struct dataplane *dp);
/* Writes of rules so far, for tests of what a change costs. */
uint64_t dataplane_policy_writes(const struct dataplane *dp);
int dataplane_policy_delete(struct dataplane *dp, const struct dp_addr *pod, struct err *err);
int dataplane_identity_set(struct dataplane *dp, const struct dp_addr *addr, uint32_t identity, struct err *err);
int dataplane_identity_delete(struct dataplane *dp, const struct dp_addr *addr, struct err *err);

/* ---- the host's links and addresses ---- */

/* A descriptor to poll for input; then call dataplane_links_process(), which attaches to new links, learns new
 * addresses and forgets vanished ones. Cheap when nothing of interest happened. */
int dataplane_links_fd(struct dataplane *dp);
int dataplane_links_process(struct dataplane *dp, struct err *err);
/* A node-local address on `lo` (cluster DNS; a node address where no link has one). Idempotent; purge removes it. */
int dataplane_local_address_add(struct dataplane *dp, const struct dp_addr *addr, struct err *err);
int dataplane_local_address_delete(struct dataplane *dp, const struct dp_addr *addr, struct err *err);
/* Of those added here, also in an earlier run, only the named ones stay. */
int dataplane_local_addresses_keep(struct dataplane *dp, const struct dp_addr *addrs, size_t n, struct err *err);
/* The node goes by other addresses than those of the options: masquerading and the routes to pods follow. */
int dataplane_set_node_ips(struct dataplane *dp, const struct dp_addr ips[static DP_FAMILIES], struct err *err);
/* Pods that have a link here (after a restart: to find those whose object is gone). key borrowed for the call. */
typedef void dataplane_pod_fn(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES]);
int dataplane_pod_each(struct dataplane *dp, dataplane_pod_fn *fn, void *arg, struct err *err);

/* ---- the host's own sockets ---- */

/* One that waits for clients: TCP and SCTP that listen, UDP that is bound and connected to nobody. One that takes both
 * families comes once for each. */
struct dp_socket {
	struct dp_addr addr; /* :: or 0.0.0.0: every address */
	uint16_t port;
	uint8_t proto;
};
typedef void dataplane_socket_fn(void *arg, const struct dp_socket *s);
/* Of the namespace that the caller is in, as they are now. A tenth of a millisecond. */
int dataplane_listening_each(dataplane_socket_fn *fn, void *arg, struct err *err);

/* ---- what is really there ---- (all work on the pins alone: `status` with the server down) */

struct dp_drop {
	const char *reason;
	uint64_t packets, bytes;
};
struct dp_program_info {
	char name[64];
	uint32_t id, instructions;
	uint64_t memory_bytes, run_count, run_ns;
	bool attached;
};
struct dp_map_info {
	char name[64];
	uint32_t id, entries, max_entries;
	uint64_t memory_bytes;
	bool array; /* all its entries are always there: it does not fill up */
};
struct dp_policy_info {
	struct dp_addr pod;
	bool isolated_ingress, isolated_egress;
	uint32_t n_rules;
};

int dataplane_open_readonly(const char *pin_dir, struct dataplane **ret, struct err *err); /* -ENOENT: nothing pinned */
/* Ports for masqueraded flows: collisions by searches is how full the range is towards those that are asked most. */
struct dp_snat {
	uint64_t searches, collisions, exhausted;
};
int dataplane_snat(struct dataplane *dp, struct dp_snat *ret, struct err *err);
int dataplane_drops(struct dataplane *dp, struct dp_drop *ret, size_t max, size_t *ret_n, struct err *err);
int dataplane_programs(struct dataplane *dp, struct dp_program_info *ret, size_t max, size_t *ret_n, struct err *err);
int dataplane_maps(struct dataplane *dp, struct dp_map_info *ret, size_t max, size_t *ret_n, struct err *err);
int dataplane_policy_each(struct dataplane *dp, void (*fn)(void *arg, const struct dp_policy_info *p), void *arg,
			  struct err *err);

/* How near each table is to its limit. A full one refuses what is written (-ENOSPC, with the map's name); those of
 * connections, translations and clients that stick to backends refuse nothing: `entries` are the ones in use (what is
 * closing or has timed out is not), and once nearly all are, each new one costs a live one. `refused`, those of them
 * whose content is still wanted and not there (`unwritten`), and `full_since_ns` (monotonic; 0: is not full) are this
 * process's own. */
struct dp_pressure {
	char name[64];
	uint32_t entries, max_entries;
	uint64_t refused, unwritten, full_since_ns;
	bool forgets;
};
int dataplane_pressure(struct dataplane *dp, struct dp_pressure *ret, size_t max, size_t *ret_n, struct err *err);
/* Looks whether the maps that forget are full, which no write tells: walks them, a tenth of a millisecond when they are
 * empty, some when they are full. */
void dataplane_pressure_look(struct dataplane *dp);
/* A map that has become full since the last call (its name, max_entries and forgets); false: none. Cheap. */
bool dataplane_pressure_news(struct dataplane *dp, struct dp_pressure *ret);
/* What came of attaching a pod: one that found no room is waited for until it is attached, or (0) gone. */
void dataplane_pressure_pod(struct dataplane *dp, const char *key, int r);

/* One line for each kernel feature that is missing; `required` ones stop the node. */
struct dp_feature {
	const char *name, *needed_for;
	bool required, present;
};
size_t dataplane_features(struct dp_feature *ret, size_t max);
