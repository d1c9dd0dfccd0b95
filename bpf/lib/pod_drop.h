/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a pod loses, counted for it, for all, and told. */
#pragma once

#include "bpf/lib/event_packet.h"

K3C_MAP_POD_DROP;

/* In the pod's own row. */
static __always_inline void pod_drop_count(__u32 reason, __u32 ifindex, __u32 bytes)
{
	struct k3c_pod_drop *d = bpf_map_lookup_elem(&k3c_pod_drop, &ifindex);

	if (!d)
		return;
	__sync_fetch_and_add(reason == K3C_DROP_POLICY_INGRESS  ? &d->ingress
			     : reason == K3C_DROP_POLICY_EGRESS ? &d->egress
								: &d->other,
			     1);
	__sync_fetch_and_add(&d->bytes, bytes);
}

/* `ifindex`: host end of the veth of the pod that loses it. */
static __always_inline int pod_drop(struct __sk_buff *skb, const struct packet *p, __u32 reason, __u32 ifindex,
				    __u32 src_identity, __u32 dst_identity)
{
	pod_drop_count(reason, ifindex, skb->len);
	return drop_packet(skb, p, reason, src_identity, dst_identity);
}
