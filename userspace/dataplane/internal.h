/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. One thread (the loop's); helper threads live inside one call and share
 * nothing. */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpf/include/addr.h"
#include "bpf/include/meta.h"
#include "bpf/include/tail.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"
#include "userspace/dataplane/dataplane.h"
#include "userspace/dataplane/drift.h"
#include "userspace/dataplane/netlink.h"

/* Order as in maps.c. */
enum dp_map {
	DP_MAP_SERVICE,
	DP_MAP_BACKEND,
	DP_MAP_SOURCE,
	DP_MAP_AFFINITY,
	DP_MAP_SOCK,
	DP_MAP_SOCK_TCP,
	DP_MAP_ENDPOINT,
	DP_MAP_RULE,
	DP_MAP_PREFIX,
	DP_MAP_CONN,
	DP_MAP_DATAGRAM,
	DP_MAP_POLICED,
	DP_MAP_VERDICT,
	DP_MAP_FRAG,
	DP_MAP_NAT,
	DP_MAP_UNASSURED,
	DP_MAP_CLOSED,
	DP_MAP_DIRECT,
	DP_MAP_SNAT,
	DP_MAP_NODE,
	DP_MAP_NETNS,
	DP_MAP_LINK,
	DP_MAP_DROP,
	DP_MAP_RATE,
	DP_MAP_POD_DROP,
	DP_MAP_NSID,
	DP_MAP_EVENT,
	DP_MAP_LISTEN,
	DP_MAP_TC_USED,
	DP_MAP_TAIL,
	DP_MAP_OWN,
	DP_MAP_META,
	DP_MAP_COUNT,
};

/* Order as in programs.c. */
enum dp_program {
	DP_PROGRAM_CONNECT4,
	DP_PROGRAM_SENDMSG4,
	DP_PROGRAM_RECVMSG4,
	DP_PROGRAM_GETPEER4,
	DP_PROGRAM_CONNECT6,
	DP_PROGRAM_SENDMSG6,
	DP_PROGRAM_RECVMSG6,
	DP_PROGRAM_GETPEER6,
	DP_PROGRAM_BIND4,
	DP_PROGRAM_BIND6,
	DP_PROGRAM_POD_OUT,
	DP_PROGRAM_POD_IN,
	DP_PROGRAM_POD_PASS,
	DP_PROGRAM_SERVICE_OUT,
	DP_PROGRAM_SERVICE_BACK,
	DP_PROGRAM_POD_PACE,
	DP_PROGRAM_HOST_IN,
	DP_PROGRAM_HOST_OUT,
	DP_PROGRAM_HOST_L3_IN,
	DP_PROGRAM_HOST_L3_OUT,
	DP_PROGRAM_OWN_OUT,
	DP_PROGRAM_OWN_IN,
	DP_PROGRAM_OWN_LO,
	DP_PROGRAM_XDP_IN, /* where the options ask for XDP */
	DP_PROGRAM_COUNT,
};

#define DP_LINK_PREFIX "k3c"
#define DP_ALIAS_PREFIX "k3c-bpf pod "
#define DP_ADDRESS_LABEL "lo:k3c" /* of every node of this host; then the node's own number */
#define DP_ADDRESS_LABEL_SIZE 16  /* IFNAMSIZ */
#define DP_ROUTE_PROTOCOL 107
#define DP_POD_LINK_NAME "eth0"
#define DP_MTU_DEFAULT 1500
#define DP_PATH_MAX 512
#define DP_SETS_MAX 4  /* of maps that starts which were cut short leave: more than two have not been seen */
#define DP_LOCAL_MAX 8 /* addresses on `lo` that are watched */
/* Set numbers are reserved ahead in the meta row, so that none is given twice over restarts. */
#define DP_SETS_RESERVED 1024

/* pressure.c */
struct map_pressure {
	uint64_t refused;       /* in all */
	uint64_t unwritten;     /* and of what is still wanted */
	uint64_t full_since_ns; /* 0: is not */
	bool news;              /* nobody was told */
};

struct dataplane {
	char *pin_dir;
	char *cgroup2_dir;
	bool readonly;
	bool started;                     /* to the end: the maps are this process' to write */
	struct dataplane_options options; /* strings: the two above */
	int maps[DP_MAP_COUNT];
	/* -1: none. Those of the builds before that programs write to, until they are replaced. */
	int old_maps[DP_SETS_MAX][DP_MAP_COUNT];
	bool attached;     /* programs of an earlier start were found at work */
	bool maps_changed; /* some of them use others */
	bool maps_anew;    /* and what objects say is not in them yet */
	struct map_pressure pressure[DP_MAP_COUNT];
	struct map unwritten; /* who waits for room -> a row of `pressure` */
	enum dp_map refusing; /* the last that did */
	uint32_t used;        /* enum k3c_used, as last seen in the map */
	bool sets_shared;     /* dataplane_services_distrust() */
	bool unsettled;       /* the programs of the build before still run, see dataplane_settle() */
	int programs[DP_PROGRAM_COUNT];
	struct k3c_meta meta; /* the row as last written */
	uint32_t next_set;
	struct nl *nl;
	struct nl *links; /* subscribed */
	uint32_t mtu;
	struct sockets_worker *sockets;      /* NULL: never needed */
	struct k3c_addr local[DP_LOCAL_MAX]; /* asked for on `lo` */
	size_t n_local;
	struct direct_nets *direct;  /* direct.c */
	struct map link_flags;       /* ifindex -> what was done to a link of the host, see links.c */
	struct own_state *own;       /* own.c */
	struct map pods;             /* key -> struct pod_state */
	struct policy_state *policy; /* policy_state.h */
	struct dp_drift links_drift; /* found by what rtnetlink told, not yet reported */
};

/* As last written to k3c_rate; after a restart what was found there. */
struct pod_limits {
	uint64_t ingress_bits_s, egress_bits_s; /* 0: none */
	uint32_t paced;                         /* see struct k3c_rate */
};

struct pod_state {
	char *netns_path;
	uint64_t netns_cookie; /* 0: not asked yet, or its namespace is gone */
	struct k3c_addr addrs[DP_FAMILIES];
	int ifindex;
	struct pod_limits limits;
};

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static inline struct k3c_addr dp_addr_in(const struct dp_addr *a)
{
	struct k3c_addr r;

	memcpy(r.b, a->b, 16);
	return r;
}

static inline struct dp_addr dp_addr_out(const struct k3c_addr *a)
{
	struct dp_addr r;

	memcpy(r.b, a->b, 16);
	return r;
}

#define DP_V4_BITS 96 /* the mapped prefix before an IPv4 address */

static inline bool dp_addr_is_v4(const struct k3c_addr *a)
{
	return a->q[0] == 0 && a->b[8] == 0 && a->b[9] == 0 && a->b[10] == 0xff && a->b[11] == 0xff;
}

static inline bool dp_addr_is_zero(const struct k3c_addr *a)
{
	return a->q[0] == 0 && (a->q[1] == 0 || (dp_addr_is_v4(a) && a->w[3] == 0));
}

static inline enum dp_family dp_addr_family(const struct k3c_addr *a)
{
	return dp_addr_is_v4(a) ? DP_V4 : DP_V6;
}

static inline struct k3c_addr dp_addr_v4(uint32_t be)
{
	struct k3c_addr r = { .b = { [10] = 0xff, [11] = 0xff } };

	r.w[3] = be;
	return r;
}

struct k3c_addr dp_mask(unsigned bits);
bool dp_addr_in_net(const struct k3c_addr *a, const struct dp_addr *net, unsigned bits);

/* dataplane.c */
/* Of the namespace that the caller is in; 0: unknown. */
uint64_t dataplane_netns_cookie(void);
uint32_t dataplane_next_set(struct dataplane *dp);
int dataplane_meta_write(struct dataplane *dp, struct err *err);

/* bpffs.c */
int bpffs_prepare(const char *dir, struct err *err);
/* `own`: where to mount one if the host has none; NULL: -ENOENT then. */
int bpffs_cgroup2_root(const char *own, char **ret, struct err *err);

/* maps.c */
const char *maps_name(enum dp_map m);
int maps_path(const char *pin_dir, enum dp_map m, char *ret, size_t size);
int maps_open(struct dataplane *dp, struct err *err);
/* Those that somebody took away are there again; *found: how many. */
int maps_repair_pins(struct dataplane *dp, uint32_t *found, struct err *err);
/* In one step these are the set that the next start finds: when they are filled, before the first program is replaced.
 */
int maps_put_in_place(struct dataplane *dp, struct err *err);
/* Copies again what the old programs wrote meanwhile. */
void maps_refresh(struct dataplane *dp);
void maps_forget_old(struct dataplane *dp);
/* The old programs are gone. */
void maps_settle(struct dataplane *dp);
/* Pinned ones only; missing: -ENOENT. */
int maps_open_pinned(struct dataplane *dp, struct err *err);

/* snat.c */
/* Fills in .snat and .snat_ports, which are zero. No node ports: 0, 0. */
void snat_ranges(uint16_t node_port_min, uint16_t node_port_max, struct k3c_options *ret);

/* programs.c */
/* What the programs are made of: their code, the options and the host's namespace (dataplane_netns_cookie()). */
void programs_build_id(const struct k3c_options *options, uint64_t host_netns, uint8_t ret[static 32]);
const char *programs_name(enum dp_program p);
uint32_t programs_id(int fd); /* the kernel's number of it; 0: none */
/* The pinned ones are those of this build. */
bool programs_are_of(const char *pin_dir, const uint8_t build_id[static 32]);
/* As maps_put_in_place(). */
int programs_put_in_place(struct dataplane *dp, const uint8_t build_id[static 32], struct err *err);
/* Slots of k3c_tail that do not hold what programs_attach_cgroup() puts there. */
uint32_t programs_tails_missing(struct dataplane *dp);
int programs_open_pinned(struct dataplane *dp, struct err *err);
int programs_load(struct dataplane *dp, const struct k3c_options *options, struct err *err);
/* One object (0 .. programs_object_count() - 1), open and with its maps and options, to be loaded; and the name of the
 * program that one of its functions becomes, NULL: none. */
struct bpf_object;
int programs_open_object(struct dataplane *dp, int o, const struct k3c_options *options, struct bpf_object **ret,
			 struct err *err);
int programs_object_count(void);
const char *programs_name_in(int o, const char *function);
int programs_attach_cgroup(struct dataplane *dp, struct err *err);
void programs_detach_cgroup(const char *pin_dir);
bool programs_is_at_cgroup(enum dp_program p);
bool programs_is_attached(struct dataplane *dp, enum dp_program p);

/* services.c */
/* Backends and source ranges of sets that no frontend names go; how many. */
uint32_t services_collect_orphans(struct dataplane *dp);

/* One frontend as it stands in the maps. */
struct k3c_service;
struct k3c_service_key;
void services_key(const struct dp_service *s, struct k3c_service_key *ret);
/* Some frontend can have it. */
bool services_key_is_sound(const struct k3c_service_key *key);
void services_tell(struct dataplane *dp, const struct k3c_service_key *key, const struct k3c_service *value,
		   dataplane_service_fn *fn, void *arg);

/* sources.c: the number of a set that holds just these ranges; 0: none, everyone may come */
bool sources_same(struct dataplane *dp, const struct dp_service *s, uint32_t set, uint16_t n);
int sources_write(struct dataplane *dp, const struct dp_service *s, uint32_t set, uint16_t *ret_n, struct err *err);
void sources_delete(struct dataplane *dp, uint32_t set);
uint32_t sources_collect_orphans(struct dataplane *dp, struct map *used);
/* Deletes the rows of which fn says so; how many. */
struct k3c_source_key;
uint32_t sources_scan(struct dataplane *dp, bool (*fn)(void *arg, const struct k3c_source_key *key), void *arg);
/* On the heap; NULL: none. */
struct dp_net *sources_read(struct dataplane *dp, uint32_t set, size_t *ret_n);

/* sockets.c */
/* Waits for the worker. */
void sockets_finish(struct dataplane *dp);
/* Begins a dump (sock_diag) of the sockets in these states, of the namespace where `nl` was opened. Any thread. */
struct nlmsghdr *sockets_request(struct nl *nl, uint8_t family, uint8_t proto, uint32_t states);

/* policy.c */
struct k3c_endpoint;
/* Where it stands, so that no look-up misses it meanwhile. `flags`: BPF_EXIST. */
int policy_endpoint_put(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e, uint64_t flags,
			struct err *err);
int policy_load_sets(struct dataplane *dp, struct err *err);
void policy_unload_sets(struct dataplane *dp);

/* pod_drops.c: what each pod lost, by the host end of its veth. begin() keeps what is counted already. */
bool pod_drops_begin(struct dataplane *dp, int ifindex);
void pod_drops_forget(struct dataplane *dp, int ifindex);
/* Counters of links that are no pod's go. */
uint32_t pod_drops_prune(struct dataplane *dp);
/* Rows that are missing or nobody's; how many. */
uint32_t pod_drops_repair(struct dataplane *dp);

/* drift.c: rtnetlink tells that something of ours was taken away; then links are looked at at once, and what was found
 * waits in dp->links_drift. */
struct dp_drift;
bool drift_is_suspect(struct dataplane *dp, const struct nlmsghdr *h);
int drift_links(struct dataplane *dp, struct err *err);

/* events.c: nobody listens as long as that; how many. */
uint32_t events_repair(struct dataplane *dp);

/* drift_host.c */
int drift_host(struct dataplane *dp, struct dp_drift *add, struct err *err);

/* policy_drift.c */
int policy_drift(struct dataplane *dp, struct dp_drift *add, struct err *err);

/* pods.c */
bool pods_has(const struct dataplane *dp, const struct k3c_addr *addr);
/* Their links in the maps, put right where they are wrong; adds how many to *found. */
int pods_endpoints(struct dataplane *dp, uint32_t *found, struct err *err);
int pods_adopt(struct dataplane *dp, struct err *err);
/* Every pod's filters point to the programs as they are now. */
int pods_filters(struct dataplane *dp, struct err *err);
/* Links that somebody took down are up again, and have what they lost by it; adds how many to *found. */
int pods_up(struct dataplane *dp, uint32_t *found, struct err *err);
/* Of a map whose keys are pods' links: takes away what is no pod's. Returns how many. */
uint32_t pods_prune_rows(struct dataplane *dp, enum dp_map map);
/* At a start: a link that takes none is removed, whoever attaches the pod makes another. */
void pods_filters_or_none(struct dataplane *dp);
void pods_forget(struct dataplane *dp);

/* pod_netns.c */
int pod_netns_note(struct dataplane *dp, const struct k3c_addr addrs[static DP_FAMILIES], int socket_inside,
		   int ifindex, struct err *err);
/* By the path of its namespace. */
int pod_netns_enter(struct dataplane *dp, struct pod_state *s, struct err *err);
/* The rows of this link, or (0) all that are no pod's; how many. */
uint32_t pod_netns_forget(struct dataplane *dp, int ifindex);
/* Strangers go, missing ones come back; how many. */
uint32_t pod_netns_repair(struct dataplane *dp);

/* pod_nsid.c: by the host end of a pod's veth */
void pod_nsid_begin(struct dataplane *dp, int ifindex);
void pod_nsid_forget(struct dataplane *dp, int ifindex);
/* Rows of links that are no pod's go, missing and wrong ones are put right; how many. */
uint32_t pod_nsid_repair(struct dataplane *dp);

/* rates.c */
/* `inner`: in the pod's namespace, where its end is `peer`. 0: no limit. */
int rates_set(struct dataplane *dp, struct nl *inner, int host, int peer, uint64_t ingress_bits_s,
	      uint64_t egress_bits_s, struct pod_limits *ret, struct err *err);
/* Of the pod's endpoints. */
uint16_t rates_flags(const struct pod_limits *l);
void rates_forget(struct dataplane *dp, int host);
/* Paced pods get the program as it is now; rows of links that are no pod's go: how many. */
uint32_t rates_adopt(struct dataplane *dp);
/* drift.c: one of these two programs is on that side of the link, in whatever namespace `nl` is of. */
bool drift_has_filter_at(struct dataplane *dp, struct nl *nl, int ifindex, bool ingress, enum dp_program a,
			 enum dp_program b, uint32_t classid);
/* After a restart: what the rows say is what was wanted. */
void rates_take_over(struct dataplane *dp);
/* Rows and flags of pods are what was last wanted again; *found: how many were not. */
int rates_repair(struct dataplane *dp, uint32_t *found, struct err *err);

/* links.c */
int links_open(struct dataplane *dp, struct err *err);
void links_finish(struct dataplane *dp);
/* The label of this node's addresses on `lo`: two nodes on one host leave each other's alone. */
void links_address_label(const char *pin_dir, char ret[static DP_ADDRESS_LABEL_SIZE]);
/* The same for IPv6, where addresses have no labels. */
uint32_t links_address_metric(const char *pin_dir);
int links_sync(struct dataplane *dp, struct err *err);
int links_routes(struct dataplane *dp, struct err *err);
/* Before IPv6 forwarding goes on: a link that accepts routers' advertisements accepts them from then on too. Also for
 * links that come later. */
int links_keep_router_advertisements(struct dataplane *dp, struct err *err);
/* Whether a link that accepts advertisements does so though this host forwards; true: something was changed. */
bool links_accept_router_advertisements(int ifindex, bool forwarding);

/* direct.c: nets that pods reach with their own addresses, as the options say */
int direct_open(struct dataplane *dp, struct err *err);
/* Wrong, missing and strange rows; adds how many to *found. */
int direct_repair(struct dataplane *dp, uint32_t *found, struct err *err);

/* xdp.c */
/* The program on exactly these links, as the options say; the others lose it. */
void xdp_sync(struct dataplane *dp, const int *ifindexes, size_t n);
/* Until the next start everything is left to tc. */
void xdp_rest(const struct dataplane *dp);
void xdp_purge(const char *pin_dir);
/* On how many links. */
uint32_t xdp_attached(const struct dataplane *dp);

/* netns.c */
/* Runs fn on a thread of its own inside the namespace; its return value. */
int netns_run(int netns_fd, int (*fn)(void *arg), void *arg);
/* A netlink socket that lives in the namespace. */
int netns_socket(int netns_fd, int bus, int *ret_fd);
