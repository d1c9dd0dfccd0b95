/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Drops, new connections and translations of packets, told to a listener. */
#pragma once

#include "bpf/lib/drop.h"
#include "bpf/lib/packet.h"

static __always_inline void event_fill(struct k3c_event *e, const struct packet *p, __u32 ifindex, __u32 length)
{
	e->src = p->flow.src;
	e->dst = p->flow.dst;
	e->sport = p->flow.sport;
	e->dport = p->flow.dport;
	e->proto = p->flow.proto;
	e->ifindex = ifindex;
	e->length = length;
}

/* Global, so that each is verified once and not at every place that drops. */

/* Counted and told. Identities: 0 where they are not known. */
__attribute__((noinline)) int drop_packet(struct __sk_buff *skb, const struct packet *p, __u32 reason,
					  __u32 src_identity, __u32 dst_identity)
{
	struct k3c_event *e;

	if (!p)
		return TC_ACT_SHOT;
	drop_count(reason, skb->len);
	e = event_begin(K3C_EVENT_DROP);
	if (!e)
		return TC_ACT_SHOT;
	event_fill(e, p, skb->ifindex, skb->len);
	e->reason = reason;
	e->src_identity = src_identity;
	e->dst_identity = dst_identity;
	event_end(e);
	return TC_ACT_SHOT;
}

__attribute__((noinline)) int event_flow(struct __sk_buff *skb, const struct packet *p, __u32 src_identity,
					 __u32 dst_identity)
{
	struct k3c_event *e;

	if (!p)
		return 0;
	e = event_begin(K3C_EVENT_FLOW);
	if (!e)
		return 0;
	event_fill(e, p, skb->ifindex, skb->len);
	e->src_identity = src_identity;
	e->dst_identity = dst_identity;
	event_end(e);
	return 0;
}

__attribute__((noinline)) int event_translate(struct __sk_buff *skb, const struct packet *p, __u8 via,
					      const struct k3c_addr *to, __be16 to_port)
{
	struct k3c_event *e;

	if (!p || !to)
		return 0;
	e = event_begin(K3C_EVENT_TRANSLATE);
	if (!e)
		return 0;
	event_fill(e, p, skb->ifindex, skb->len);
	e->via = via;
	e->to = *to;
	e->to_port = to_port;
	event_end(e);
	return 0;
}
