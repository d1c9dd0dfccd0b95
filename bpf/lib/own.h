/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which of the host's own packets go into the pair (bpf/include/own.h), and how. Where the node has none, that is one
 * look-up in an array, of SCTP alone. */
#pragma once

#include "bpf/lib/lb.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/options.h"

K3C_MAP_OWN;

static __always_inline struct k3c_own *own_row(void)
{
	__u32 zero = 0;
	struct k3c_own *own = bpf_map_lookup_elem(&k3c_own, &zero);

	return own && own->ifindex ? own : NULL;
}

/* The first packet of a flow, or one that belongs to none and claims to. */
static __always_inline bool own_may_begin(const struct packet *p)
{
	return !p->icmp_error && !p->later_fragment && !packet_is_icmp(p->flow.proto) && nat_check_offset(p);
}

/* What the host itself sends: is it for a service, or of a flow that was translated before? */
static __always_inline bool own_concerns(struct __sk_buff *skb, const struct packet *p)
{
	struct k3c_service_key service = {
		.addr = p->dst, .port = p->flow.dport, .proto = p->flow.proto, .scope = K3C_SCOPE_ADDR
	};

	if (skb->ingress_ifindex || p->no_ports || lb_is_loopback(&p->dst))
		return false;
	if (nat_flags(p, K3C_NAT_IN))
		return true;
	return own_may_begin(p) && packet_is_syn(p) && lb_find(&p->dst, false, &service);
}
