/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is known of an address: its identity (set of labels), its policy, and its link when it is a pod of this
 * node. One look-up a side answers all three. Written by one process only. */
#pragma once

#include "bpf/include/addr.h"

enum k3c_endpoint_flags {
	K3C_EP_ISOLATED_INGRESS = 1,
	K3C_EP_ISOLATED_EGRESS = 2,
	K3C_EP_PREFIXES_INGRESS = 4, /* the policy has rules by prefix: worth a second look-up */
	K3C_EP_PREFIXES_EGRESS = 8,
};

struct k3c_endpoint {
	__u32 ifindex;    /* host end of the veth; 0: no pod here */
	__u32 identity;   /* 0: none */
	__u32 policy_set; /* first part of the keys of its rules */
	__u16 flags;
	__u8 mac[6]; /* of the pod's end */
};
_Static_assert(sizeof(struct k3c_endpoint) == 20, "k3c_endpoint");

/* A host link that programs are attached to. */
enum k3c_link_flags {
	K3C_LINK_OWN_CLSACT = 1, /* the qdisc was made here, so it is ours to delete */
};

struct k3c_link {
	struct k3c_addr addr; /* what masqueraded traffic leaves with; zero: none */
	__u32 flags;
	__u32 pad;
};
_Static_assert(sizeof(struct k3c_link) == 24, "k3c_link");
