/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Services for packets of pods that no socket here translated: SCTP, what a pod forwards for somebody inside it. Pods'
 * programs only ask whether a packet is one of these; service.bpf.c does the rest. What goes from pod to pod is asked
 * one comparison, and answers cost a look-up only once the path was used. The object needs K3C_MAP_META. */
#pragma once

#include "bpf/include/tail.h"
#include "bpf/lib/lb.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/options.h"
#include "bpf/lib/used.h"

K3C_MAP_TAIL;

static __always_inline bool service_is_of_net(const struct packet *p)
{
	return addr_in_nets(&p->dst, p->v6, k3c_options.service_net, k3c_options.service_mask);
}

/* Some frontend has an address that is not of the service net. */
static __always_inline bool service_external(void)
{
	__u32 zero = 0;
	struct k3c_meta *m = bpf_map_lookup_elem(&k3c_meta, &zero);

	return m && (m->flags & K3C_META_EXTERNAL);
}

/* The first packet of a flow, as far as one can be told from others. */
static __always_inline bool service_may_begin(const struct packet *p)
{
	if (p->icmp_error || p->later_fragment || packet_is_icmp(p->flow.proto) || !nat_check_offset(p))
		return false;
	return !packet_is_stateful(p->flow.proto) || packet_is_syn(p);
}

static __always_inline bool service_has_frontend(const struct packet *p, bool of_net)
{
	struct k3c_service_key key = {
		.addr = p->dst, .port = p->flow.dport, .proto = p->flow.proto, .scope = K3C_SCOPE_ADDR
	};

	if (bpf_map_lookup_elem(&k3c_service, &key))
		return true;
	if (of_net || !node_has(&p->dst))
		return false;
	key.scope = K3C_SCOPE_NODE;
	if (p->v6)
		key.addr.q[0] = key.addr.q[1] = 0;
	else
		addr_set_v4(&key.addr, 0);
	return bpf_map_lookup_elem(&k3c_service, &key) != NULL;
}

/* Of a flow that was translated before; a pod's answer to itself among them. What it answers to the host's own, who are
 * hidden from it (bpf/include/own.h), is not: both ends change, elsewhere. */
static __always_inline bool service_is_known(const struct packet *p)
{
	return (nat_flags(p, K3C_NAT_IN) & K3C_NAT_SERVICE) || (nat_flags(p, K3C_NAT_OUT) & K3C_NAT_HAIRPIN);
}

/* What a pod sends: is it for a service? */
static __always_inline bool service_concerns(const struct packet *p)
{
	bool of_net;

	if (p->no_ports || addr_in_nets(&p->dst, p->v6, k3c_options.pod_net, k3c_options.pod_mask))
		return false;
	if (used_by(K3C_USED_BY_PODS) && service_is_known(p))
		return true;
	if (!service_may_begin(p))
		return false;
	of_net = service_is_of_net(p);
	return (of_net || service_external()) && service_has_frontend(p, of_net);
}

/* What comes to a pod: does it believe that a service sent it? */
static __always_inline bool service_answers(const struct packet *p)
{
	return used_by(K3C_USED_BY_PODS) && !p->no_ports && nat_flags(p, K3C_NAT_OUT);
}
