/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into the maps: endpoints and their rules, connections, translations, events, and the answer that the
 * programs would give. Works on a dataplane opened for reading too; nothing here changes what packets meet, but that a
 * listener has events written. Structs are borrowed for the call. Any one thread. */
#pragma once

#include "userspace/dataplane/dataplane.h"

/* ---- endpoints ---- */

/* An address that policy knows of. */
struct dp_endpoint {
	struct dp_addr addr;
	uint32_t ifindex; /* host end of the pod's veth; 0: no pod here */
	uint32_t identity;
	bool isolated_ingress, isolated_egress;
	uint32_t set; /* of its rules; 0: none */
	/* Packets lost to its own policies, to anything else; of the pod, all its addresses together. */
	uint64_t dropped_ingress, dropped_egress, dropped_other, dropped_bytes;
	uint64_t ingress_bits_s, egress_bits_s; /* of the pod, all its addresses together; 0: no limit */
	bool paced;                             /* what it sends beyond the limit is delayed, not dropped */
};
typedef void dataplane_endpoint_fn(void *arg, const struct dp_endpoint *e);
int dataplane_endpoint_each(struct dataplane *dp, dataplane_endpoint_fn *fn, void *arg, struct err *err);
int dataplane_endpoint_get(struct dataplane *dp, const struct dp_addr *addr, struct dp_endpoint *ret); /* -ENOENT */
/* The pod that a network namespace belongs to, by its cookie: its addresses; false: no pod's. */
bool dataplane_netns_pod(struct dataplane *dp, uint64_t cookie, struct dp_addr ret_addrs[static DP_FAMILIES]);

/* A rule as the maps hold it. */
struct dp_rule_info {
	uint8_t direction;
	uint8_t proto;           /* 0: every protocol */
	uint16_t port, end_port; /* 0: every port */
	uint32_t identity;       /* 0: the prefix */
	struct dp_addr prefix;
	uint8_t prefix_len; /* of 128; an `except` was taken out: several prefixes stand for the block around it */
	bool everyone;      /* of both families */
};
typedef void dataplane_rule_fn(void *arg, const struct dp_rule_info *r);
/* Runs of ports are put together again; by direction, peer, protocol, port. */
int dataplane_rule_each(struct dataplane *dp, uint32_t set, dataplane_rule_fn *fn, void *arg, struct err *err);

/* ---- connections ---- */

enum dp_conn_state { DP_CONN_OPEN, DP_CONN_CLOSING, DP_CONN_CUT, DP_CONN_EXPIRED };

struct dp_conn {
	struct dp_addr from, to; /* who began it, whom it reached */
	uint16_t from_port, to_port;
	uint8_t proto;
	enum dp_conn_state state;
	bool from_host;   /* begun by this node: no policy stops it */
	bool by_egress;   /* which policy cut it */
	int64_t quiet_ms; /* since the last packet (to a second) */
};
typedef void dataplane_conn_fn(void *arg, const struct dp_conn *c);
int dataplane_conn_each(struct dataplane *dp, dataplane_conn_fn *fn, void *arg, struct err *err);

struct dp_translation {
	struct dp_addr src, dst; /* the first packet as it was seen */
	uint16_t sport, dport;
	uint8_t proto;
	bool masquerade; /* `to` took the place of the source; else (a service) of the destination */
	struct dp_addr to;
	uint16_t to_port;
	uint16_t
		from_port; /* a service's flow: the client's as the backend sees it, where it differs; 0: it does not */
	bool closing;
	bool unassured;   /* only begins: not answered yet, or nothing came after the answer */
	bool expired;     /* past its time: another flow may have its place */
	int64_t quiet_ms; /* to five seconds */
};
typedef void dataplane_translation_fn(void *arg, const struct dp_translation *t);
int dataplane_translation_each(struct dataplane *dp, dataplane_translation_fn *fn, void *arg, struct err *err);

/* ---- what the programs would do ---- */

struct dp_probe {
	bool known;  /* the address is an endpoint's */
	bool is_pod; /* of this node */
	uint32_t identity;
	bool isolated;
	bool allowed; /* by this end's own rules of its direction; true where it is not isolated */
};
/* The look-ups that a first packet meets behind service translation: egress rules of `from`, ingress rules of `to`.
 * Either may be no endpoint. `from_host`: the node itself asks, whom no policy of a receiver stops. */
int dataplane_probe(struct dataplane *dp, const struct dp_addr *from, const struct dp_addr *to, uint8_t proto,
		    uint16_t port, bool from_host, struct dp_probe *ret_from, struct dp_probe *ret_to, struct err *err);
/* The frontend that a packet or connection to this place meets (any address of the node has the node ports); -ENOENT.
 * `from_host`: asked from a socket of the host, whose 127.0.0.1 is the node too. */
int dataplane_service_get(struct dataplane *dp, const struct dp_addr *addr, uint16_t port, uint8_t proto,
			  bool from_host, dataplane_service_fn *fn, void *arg);
bool dataplane_is_node_address(struct dataplane *dp, const struct dp_addr *addr);
/* The lowest of that family; its loopback address where it has none. */
struct dp_addr dataplane_node_address(struct dataplane *dp, enum dp_family family);

/* ---- events ---- */

enum dp_event_type { DP_EVENT_DROP = 1, DP_EVENT_FLOW, DP_EVENT_TRANSLATE };
enum dp_event_via { DP_VIA_SOCKET = 1, DP_VIA_LINK, DP_VIA_MASQUERADE };

struct dp_event {
	uint64_t time_ns; /* monotonic */
	uint8_t type, via, proto;
	const char *reason;          /* of a drop; static */
	struct dp_addr src, dst, to; /* src of a socket: its pod's address, or zero */
	uint16_t sport, dport, to_port;
	uint32_t src_identity, dst_identity;
	uint32_t ifindex, length;
	uint64_t netns_cookie;
	bool in_pod;  /* the socket's namespace is a pod's, */
	bool in_host; /* or the host's (that is where who listens is) */
};
typedef void dataplane_event_fn(void *arg, const struct dp_event *e);

struct dp_listener;
/* Programs write events while this is polled at least every few seconds. `types`: 1 << enum dp_event_type.
 * -EBUSY: somebody else listens. What an earlier listener left unread is thrown away. */
int dataplane_listen(struct dataplane *dp, uint32_t types, struct dp_listener **ret, struct err *err);
/* Calls back for each event that is there or comes within the time; returns how many, or -EINTR. -ESTALE: the maps are
 * not the pinned ones any more: open the dataplane again, and listen again. */
int dp_listener_poll(struct dp_listener *l, int timeout_ms, dataplane_event_fn *fn, void *arg);
uint64_t dp_listener_lost(const struct dp_listener *l); /* events since the start that found no room */
void dp_listener_close(struct dp_listener *l);          /* takes NULL; the programs fall silent */

/* "policy-ingress"; NULL past the last one. */
const char *dataplane_drop_name(unsigned reason);
