/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What programs tell whoever listens: drops, new connections, translations. Nothing is written unless somebody
 * listens: he renews `until_ns` while he does, so one that was killed costs nothing for long. What does not fit into
 * the ring is counted and lost. One listener at a time. */
#pragma once

#include "bpf/include/addr.h"

enum k3c_event_type {
	K3C_EVENT_DROP = 1,
	K3C_EVENT_FLOW = 2,      /* a new connection of a pod that policy allows */
	K3C_EVENT_TRANSLATE = 3, /* a new translation; `via` says which kind */
};

enum k3c_event_via {
	K3C_VIA_SOCKET = 1,     /* a service, at connect or sendmsg: the sender's address is not known yet */
	K3C_VIA_LINK = 2,       /* a service, of a packet */
	K3C_VIA_MASQUERADE = 3, /* `to` is what the sender's address becomes */
};

struct k3c_event {
	__u64 time_ns; /* of the monotonic clock */
	__u64 netns_cookie;
	struct k3c_addr src, dst;
	struct k3c_addr to;
	__be16 sport, dport, to_port;
	__u8 type;
	__u8 reason; /* enum k3c_drop_reason */
	__u8 proto;
	__u8 via;
	__u16 pad;
	__u32 src_identity, dst_identity;
	__u32 ifindex;
	__u32 length;
	__u32 pad2;
};
_Static_assert(sizeof(struct k3c_event) == 96, "k3c_event");

/* The one row of k3c_listen; mapped into the listener. */
struct k3c_listen {
	__u64 until_ns;
	__u32 mask; /* 1 << type */
	__u32 pad;
	__u64 lost;
};
_Static_assert(sizeof(struct k3c_listen) == 24, "k3c_listen");

/* What a pod lost, by the host end of its veth. Made when it is attached; written by drops alone. */
struct k3c_pod_drop {
	__u64 ingress; /* its own ingress policy */
	__u64 egress;
	__u64 other;
	__u64 bytes;
};
_Static_assert(sizeof(struct k3c_pod_drop) == 32, "k3c_pod_drop");
