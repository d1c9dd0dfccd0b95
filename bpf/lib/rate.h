/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Keeping pods to their bandwidth: policing (a token bucket, as a point in time) on the host's side, pacing (earliest
 * departure time, for fq) on the pod's. Only for endpoints whose flags say so. */
#pragma once

#include "bpf/include/policy.h"
#include "bpf/include/rate.h"
#include "bpf/lib/packet.h"

K3C_MAP_RATE;

#define RATE_BITS_NS_PER_BYTE 8000000000ULL
#define RATE_HEADER_MAX 128 /* a segment's headers: never more than this is believed */

/* How long the link is busy with it. */
static __always_inline __u64 rate_time(const struct k3c_rate_limit *l, __u64 bytes)
{
	return bytes * RATE_BITS_NS_PER_BYTE / l->bits_s;
}

/* On the wire every segment has headers of its own. */
static __always_inline __u64 rate_bytes(struct __sk_buff *skb, const struct packet *p)
{
	__u32 segments = skb->gso_segs, header = p->l4;
	__u8 offset = 0;

	if (segments < 2)
		return skb->len;
	if (p->flow.proto == IPPROTO_TCP && bpf_skb_load_bytes(skb, p->l4 + 12, &offset, 1) == 0)
		header += (offset >> 4) * 4;
	else
		header += sizeof(struct udphdr);
	if (header > RATE_HEADER_MAX)
		header = RATE_HEADER_MAX;
	return skb->len + (__u64)(segments - 1) * header;
}

/* A packet passes when nothing is owed, however long it is: none is too long for ever. */
static __always_inline bool rate_allows(struct __sk_buff *skb, const struct packet *p, __u32 ifindex, __u32 direction)
{
	struct k3c_rate *r = bpf_map_lookup_elem(&k3c_rate, &ifindex);
	struct k3c_rate_limit *l;
	__u64 now, paid;

	if (!r)
		return true;
	l = &r->limit[direction & 1];
	if (!l->bits_s)
		return true;
	now = bpf_ktime_get_ns();
	paid = *(volatile __u64 *)&l->paid_ns;
	if (paid > now)
		return false;
	if (paid + l->burst_ns < now) /* full; another processor may be quicker */
		__sync_val_compare_and_swap(&l->paid_ns, paid, now - l->burst_ns);
	__sync_fetch_and_add(&l->paid_ns, rate_time(l, rate_bytes(skb, p)));
	return true;
}

/* False: it would leave too late. */
static __always_inline bool rate_pace(struct __sk_buff *skb, struct k3c_rate_limit *l)
{
	__u64 now = bpf_ktime_get_ns(), time = rate_time(l, skb->wire_len), at;

	at = __sync_fetch_and_add(&l->paid_ns, time);
	if (at < now) {
		*(volatile __u64 *)&l->paid_ns = now + time;
		return true;
	}
	if (at - now > K3C_RATE_HORIZON_NS) {
		__sync_fetch_and_add(&l->paid_ns, -time);
		return false;
	}
	if (skb->tstamp < at)
		skb->tstamp = at;
	return true;
}
