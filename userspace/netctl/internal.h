/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of struct netctl that its files share. Inside the room only. */
#pragma once

#include "userspace/loop/loop.h"
#include "userspace/netctl/drift.h"
#include "userspace/netctl/model.h"
#include "userspace/netctl/netctl.h"
#include "userspace/netctl/pod_addresses.h"
#include "userspace/netctl/policy_sync.h"
#include "userspace/netctl/services.h"
#include "userspace/registry/registry.h"

/* Backends whose clients must be told, gathered until a sync. */
struct net_gone {
	struct dp_backend *items;
	size_t n, cap;
};

/* Who asks for frontends: a Service, or a pod by its hostPorts. */
struct net_service {
	struct list queue;           /* nc->dirty_services, dirty_pods, later_services or full_services */
	const struct object *object; /* Service or Pod; NULL: deleted, or slices came first */
	struct net_slice *slices;
	size_t n_slices, cap_slices;
	struct dp_service *frontends; /* wanted, as last translated: sorted; one heap block with all that they name */
	size_t n_frontends;
	bool pod;                  /* object is a Pod */
	struct dp_service *claims; /* a Pod's, whoever has them: places that name no lists, sorted */
	struct dp_service *rivals; /* and at which a Service was found: told; sorted */
	size_t n_claims, n_rivals;
	bool may_have_rivals; /* with other addresses of the node */
	bool failed;          /* something of it could not be written: all is written again */
	bool full;            /* for want of room */
	uint8_t truncated;    /* limits that it is beyond, as last translated; told */
	unsigned failures;    /* in a row */
	unsigned waits;       /* looks in a row that found a listener where a frontend should be */
	struct net_conflict *conflicts;
	size_t n_conflicts;
	int64_t not_before_ns; /* what costs much is not translated over and over */
	int64_t due_ns;        /* while it waits in later_services */
	struct health_check *health;
	char *ns, *name, *uid; /* uid: of pods */
};

/* A frontend that met a listener of the host when it was to be made. */
struct net_conflict {
	struct dp_service place; /* names no lists */
	bool held;               /* not made; else the listener is hidden */
	bool seen;               /* the listener, in this run */
	bool told;
};

/* Who waits for clients on the host, during a sync. */
struct net_listeners {
	struct dp_socket *items;
	size_t n, cap;
	bool known;
};

struct net_slice {
	const struct object *object;
	struct services_slice *meaning; /* NULL: of a headless Service, nobody asks */
};

/* A place in the maps: protocol, port and address. When several ask for it, one has it and the others wait. */
struct net_place {
	struct net_service *owner;   /* NULL: of an earlier run */
	struct net_service **others; /* who wait */
	size_t n_others, cap_others;
};

/* What a frontend led to before. */
struct net_old {
	struct dp_service place; /* names no lists */
	struct dp_backend *backends;
	size_t n;
};

struct netctl {
	struct loop *loop;
	struct registry *reg;
	struct dataplane *dp;
	char *node_name;
	bool no_policy;
	enum dp_family primary;
	struct dp_addr dns_addrs[DP_FAMILIES]; /* zero: none */

	struct registry_watch watches[6];
	struct loop_defer defer;
	struct loop_op links_op;
	bool links_watching, destroying;
	void (*links_changed)(void *arg);
	void *links_changed_arg;

	struct map services;        /* "ns/name" -> struct net_service */
	struct map host_ports;      /* pod uid -> struct net_service */
	struct list dirty_services; /* to be synced in this turn, */
	struct list dirty_pods;     /* and then these: Services have the ports that both want */
	struct list later_services; /* at their due_ns, by the timer */
	struct list full_services;  /* did not fit: when there is room */
	struct loop_timer services_timer;
	struct map places; /* place key -> struct net_place */
	bool room;         /* something was deleted from the maps since the last that did not fit */
	struct map listed; /* backend key -> how many slices list it, under whatever condition */
	struct map served; /* address -> nc: was a backend since it is the pod's */
	struct map hosted; /* uid -> struct net_hosted: what slices listed of pods on the host's network */
	struct net_gone gone_tcp, gone_udp; /* pods' */
	struct net_gone left_tcp; /* those of pods on the host's network: told is who came through a Service */
	bool udp_moved;           /* some UDP frontend lost a backend, */
	struct net_gone lost_udp; /* and these are they; others may lead there still */
	struct net_old *adopted;  /* UDP frontends of an earlier run, until all stand as they should */
	size_t n_adopted, cap_adopted;
	char *zone; /* of this node; "" */
	struct dp_addr *node_addrs;
	size_t n_node_addrs;
	uint16_t api_port;
	struct net_listeners listeners;
	int64_t boot_until_ns; /* of the monotonic clock: until then the host may still be starting what it runs */

	struct net_model model;
	bool policies_dirty; /* some pod of the model may be stale */
	struct policy_sync policy;
	struct loop_timer pressure_timer;
	struct loop_timer policy_timer;
	struct pod_addresses addresses;

	struct netctl_stats stats;
	struct netctl_drift drift;
	struct drift_pieces *pieces; /* drift.c; NULL: nobody looks */
};

/* services_sync.c */
void netctl_service_changed(struct netctl *nc, const struct object *service, bool removed);
void netctl_slice_changed(struct netctl *nc, const struct object *slice, const struct object *prev, bool removed);
void netctl_node_changed(struct netctl *nc, const struct object *node, bool removed);
void netctl_sync_services(struct netctl *nc);
void netctl_init_services(struct netctl *nc);
void netctl_free_services(struct netctl *nc);
void service_mark(struct netctl *nc, struct net_service *s);
void service_free(struct netctl *nc, struct net_service *s);

/* services_install.c */
bool service_frontend_equal(const struct dp_service *a, const struct dp_service *b);
void service_install(struct netctl *nc, struct net_service *s, struct services_result *want);

/* services_listeners.c */
/* Takes out of `want` what would hide a listener of the host that is to keep its port. */
void listeners_hold_back(struct netctl *nc, struct net_service *s, struct services_result *want);
void listeners_write_status(struct netctl *nc, struct net_service *s);
/* At the end of a sync. */
void listeners_forget(struct netctl *nc);
/* [{protocol, address, port, served, holder}] */
struct json *listeners_json(struct arena *arena, struct netctl *nc, const struct net_service *s);
struct json *listeners_row(struct arena *arena, const struct dp_service *place, bool served,
			   const struct net_service *holder);

/* services_rivals.c */
/* Takes out of what a pod wants where a node port has it, and tells the pod of Services that have its ports. */
void rivals_hold_back(struct netctl *nc, struct net_service *s, struct services_result *want);
/* The same as rows of listeners_json, and which Service has the ports of a balancer that waits for its ingress. */
void rivals_json(struct arena *arena, struct netctl *nc, const struct net_service *s, struct json *list);
/* Pods that want a port of the Service look again, */
void rivals_wake(struct netctl *nc, const struct net_service *service);
/* or those to whom the node's addresses matter. */
void rivals_addresses_changed(struct netctl *nc);

/* services_places.c */
/* Frontends in the maps that nobody asks for go. */
void netctl_prune_services(struct netctl *nc);
void netctl_adopt_frontends(struct netctl *nc);
/* True when the place is s's now; else it waits for it. */
bool place_claim(struct netctl *nc, struct net_service *s, struct dp_service *f);
bool place_is_owned(const struct netctl *nc, const struct net_service *s, const struct dp_service *f);
/* Deletes the frontend when it was s's, and passes the place on. */
void place_leave(struct netctl *nc, struct net_service *s, const struct dp_service *f);
/* Who has, or had, the place of this frontend. */
struct net_place *place_find(const struct netctl *nc, const struct dp_service *f);
const struct dp_service *service_frontend_at(const struct net_service *s, const struct dp_service *place);
/* The frontend behind a key of nc->places, as far as finding and deleting it needs. */
void place_frontend(const char *key, struct dp_service *ret);
/* Is it of the frontend's port and protocol? */
bool place_key_is_port(const char *key, const struct dp_service *f);
void netctl_free_places(struct netctl *nc);

/* services_gone.c */
/* A slice begins or ceases to list its endpoints. */
void gone_hold(struct netctl *nc, const struct services_slice *slice);
void gone_release(struct netctl *nc, const struct services_slice *slice);
/* Which of its endpoints are pods on the host's network. */
void gone_note_hosted(struct netctl *nc, const struct json *slice, const struct services_slice *meaning);
void gone_add(struct net_gone *list, const struct dp_addr *addr, uint16_t port);
/* The pod's link is away: whoever talks to it learns so. */
void gone_pod(struct netctl *nc, const struct dp_addr addrs[static DP_FAMILIES]);
/* Pods of an earlier run may have served. */
void gone_adopt(struct netctl *nc);
/* A UDP frontend led to `list` and leads where `now` does (NULL: it is gone): its clients at the rest are told. */
void gone_compare(struct netctl *nc, const struct dp_service *now, const struct dp_backend *list, size_t n);
void gone_remember(struct netctl *nc, const struct dp_service *old);
/* Frontends stand as they should: what an earlier run did not come to tell is told. */
void gone_settle(struct netctl *nc);
void gone_flush(struct netctl *nc);
void gone_free(struct netctl *nc);

/* host_ports.c */
void netctl_host_ports_changed(struct netctl *nc, const struct object *pod, const struct json *tree);
/* Link there or away; the object may be gone. */
void netctl_host_ports_touch(struct netctl *nc, struct str uid);
void netctl_host_ports_removed(struct netctl *nc, struct str uid);
void host_ports_translate(struct arena *arena, const struct json *pod, const struct dp_addr addrs[static DP_FAMILIES],
			  struct services_result *ret);

/* health_check.c */
/* port 0: none. Negative errno: the port could not be had; tried again with the next sync. */
int health_check_set(struct netctl *nc, struct net_service *s, uint16_t port, size_t local_ready, struct err *err);

/* pods.c */
void netctl_pod_changed(struct netctl *nc, const struct object *pod, bool removed);
void netctl_sync_policies(struct netctl *nc);
void netctl_adopt_links(struct netctl *nc);
void netctl_prune_links(struct netctl *nc);
void netctl_add_dns_pod(struct netctl *nc);
void netctl_free_pods(struct netctl *nc);

/* metrics.c */
void netctl_time_note(struct netctl_time *t, int64_t ns);

/* Maps that have become full: an Event of the node. */
void netctl_tell_pressure(struct netctl *nc);
void netctl_schedule(struct netctl *nc);
