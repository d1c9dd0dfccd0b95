/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is fixed between open and load (rodata), the one row of state that programs read, and the reasons of drops. */
#pragma once

#include "bpf/include/addr.h"

/* So many ports from that one on. */
struct k3c_port_range {
	__u16 first, count;
};
#define K3C_SNAT_RANGES 3 /* what is left around two ranges */

struct k3c_options {
	struct k3c_addr pod_net[K3C_FAMILIES], pod_mask[K3C_FAMILIES]; /* mask zero: none */
	struct k3c_addr service_net[K3C_FAMILIES], service_mask[K3C_FAMILIES];
	__u32 link_header; /* host programs: bytes before the IP header on the links they are for */
	struct k3c_port_range snat[K3C_SNAT_RANGES]; /* ports to masquerade with; the last ones may be empty */
	__u32 snat_ports;                            /* of all of them */
	__u32 pad;
};
_Static_assert(sizeof(struct k3c_options) == 152, "k3c_options");

enum k3c_meta_flags {
	K3C_META_HOST_BACKENDS =
		1,             /* some frontend leads to the host itself: answers of the host may need translation */
	K3C_META_EXTERNAL = 2, /* some frontend has an address that is not of the service net */
	/* Programs of two builds run, each with a table of its own: a packet of a connection that is not known may be
	 * of one that the other knows. It is dropped, and known when it comes again. */
	K3C_META_MOVING = 4,
	/* What tc finds on a link may have been translated by XDP before, and then looks like what its sender sent
	 * straight to a pod. */
	K3C_META_XDP = 8,
};

/* Bits of the one row of k3c_tc_used, set by programs, never taken back. */
enum k3c_used {
	K3C_USED_BY_PODS = 1,   /* packets of pods were translated by packet_service.h */
	K3C_USED_BY_HOST = 2,   /* somebody outside reached a backend that is no pod: its answers need translation */
	K3C_USED_BACKWARDS = 4, /* a connection began at a server's port towards a client's: ports tell the wrong end */
	K3C_USED_UNASSURED = 8, /* a flow was translated: it may stand in k3c_unassured */
};

struct k3c_meta {
	__u32 generation; /* of the policies and identities */
	__u32 flags;
	/* The rest is the server's own memory between two lives. */
	__u8 build_id[32];
	__s16 saved_ip_forward;   /* -1: not touched */
	__u16 raised_ip6_forward; /* 1: was off before */
	__u32 next_set;
};
_Static_assert(sizeof(struct k3c_meta) == 48, "k3c_meta");

enum k3c_drop_reason {
	K3C_DROP_NONE = 0,
	K3C_DROP_POLICY_INGRESS,
	K3C_DROP_POLICY_EGRESS,
	K3C_DROP_SPOOFED_SOURCE,
	K3C_DROP_NO_BACKEND,
	K3C_DROP_MALFORMED,
	K3C_DROP_FRAGMENT,
	K3C_DROP_CONN_FULL,
	K3C_DROP_NAT_FULL,
	K3C_DROP_SNAT_EXHAUSTED,
	K3C_DROP_UNSUPPORTED,
	K3C_DROP_SOURCE_RANGE,
	K3C_DROP_RATE_INGRESS, /* more than a pod may receive */
	K3C_DROP_RATE_EGRESS,
	K3C_DROP_UNKNOWN_ADDRESS, /* at a pod's link, and not the pod's, or nothing is known of it (any more) */
	K3C_DROP_MAX,
};

struct k3c_drop {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct k3c_drop) == 16, "k3c_drop");
