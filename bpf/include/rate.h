/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Bandwidth of pods, by the host end of the veth, so that both families of a pod share one limit. What counts is the
 * time at which everything sent so far is paid for: to send before it is to owe. */
#pragma once

#include <linux/bpf.h>

struct k3c_rate_limit {
	__u64 bits_s;   /* 0: none */
	__u64 burst_ns; /* what may be saved up, as time at that rate; policing only */
	__u64 paid_ns;  /* written by programs */
};

struct k3c_rate {
	struct k3c_rate_limit limit[2]; /* enum k3c_direction */
	__u32 paced;               /* ifindex of the pod's end when fq there keeps to the egress limit; 0: policed */
	struct bpf_spin_lock lock; /* as of k3c_endpoint */
};
_Static_assert(sizeof(struct k3c_rate) == 56, "k3c_rate");

/* What may wait in a pod's queue; what would leave later is dropped. */
#define K3C_RATE_HORIZON_NS 2000000000ULL
