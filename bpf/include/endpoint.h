/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is known of an address: its identity (set of labels), its policy, and its link when it is a pod of this
 * node. One look-up a side answers all three. Written by one process only. */
#pragma once

#include <linux/bpf.h>

#include "bpf/include/addr.h"

enum k3c_policy_flags {
	K3C_EP_ISOLATED_INGRESS = 1,
	K3C_EP_ISOLATED_EGRESS = 2,
	K3C_EP_PREFIXES_INGRESS = 4, /* the policy has rules by prefix: worth a second look-up */
	K3C_EP_PREFIXES_EGRESS = 8,
	K3C_EP_PREFIXES_ONLY_INGRESS = 64, /* and none by identity: no first one. Earlier builds never say so */
	K3C_EP_PREFIXES_ONLY_EGRESS = 128,
};

enum k3c_endpoint_flags {
	K3C_EP_LIMIT_INGRESS = 16, /* rate.h */
	K3C_EP_LIMIT_EGRESS = 32,  /* policed here; not set where the pod's own end is paced */
};

/* One of two is in force: policy[generation & 1]. Whatever changes is written to the other one first, for all
 * endpoints; then one write of the generation (meta.h) puts it in force everywhere at once, labels and rules, and has
 * every connection judged again. A program reads the generation once a packet. */
struct k3c_endpoint_policy {
	__u32 identity; /* 0: none */
	__u32 set;      /* first part of the keys of its rules; 0: none */
	__u32 flags;    /* enum k3c_policy_flags */
};

struct k3c_endpoint {
	__u32 ifindex; /* host end of the veth; 0: no pod here */
	__u16 flags;   /* enum k3c_endpoint_flags */
	__u8 mac[6];   /* of the pod's end */
	struct k3c_endpoint_policy policy[2];
	/* Nobody takes it; with it in the value an entry can be changed where it stands (BPF_F_LOCK). One that is
	 * replaced may be missed by a look-up on another processor. */
	struct bpf_spin_lock lock;
};
_Static_assert(sizeof(struct k3c_endpoint) == 40, "k3c_endpoint");

/* A host link that programs are attached to. */
enum k3c_link_flags {
	K3C_LINK_OWN_CLSACT = 1,   /* the qdisc was made here, so it is ours to delete */
	K3C_LINK_RAISED_RA = 2,    /* accept_ra was 1 before this host forwarded, and is to be again */
	K3C_LINK_HAS_PROGRAMS = 4, /* else the row only remembers */
};

struct k3c_link {
	struct k3c_addr addr[K3C_FAMILIES]; /* what masqueraded traffic leaves with; zero: none */
	__u32 flags;
	struct bpf_spin_lock lock; /* as of k3c_endpoint */
};
_Static_assert(sizeof(struct k3c_link) == 40, "k3c_link");
