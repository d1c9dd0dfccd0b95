/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Reading a packet's addresses and ports. Only what is needed is copied (bpf_skb_load_bytes also reads what is not
 * linear), and nothing points into the packet, so rewriting it never invalidates anything. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/include/meta.h"
#include "bpf/lib/addr.h"
#include "bpf/lib/maps.h"

K3C_MAP_FRAG;

/* RFC 792. Not linux/icmp.h: it drags the C library's headers in, which the bpf target has none of. */
enum icmp_type {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	union {
		struct {
			__be16 id;
			__be16 sequence;
		} echo;
		__u32 rest;
	} un;
};
_Static_assert(sizeof(struct icmphdr) == 8, "icmphdr");

#define PACKET_TCP_FIN 0x01
#define PACKET_TCP_SYN 0x02
#define PACKET_TCP_RST 0x04
#define PACKET_TCP_ACK 0x10

struct flow {
	struct k3c_addr src, dst;
	__be16 sport, dport;
	__u8 proto;
};

struct packet {
	struct k3c_addr src, dst; /* of the packet itself */
	/* What it belongs to: its own addresses and ports or, for an ICMP error, the flow it reports on, seen in the
	 * direction of the error (from the end that did not get the packet). */
	struct flow flow;
	__u16 l4;    /* offset of the transport header */
	__u16 inner; /* ICMP error: offset of the packet inside */
	__u16 inner_l4;
	__u8 tcp_flags;
	bool later_fragment; /* no transport header */
	bool no_ports;       /* and the first fragment was not seen: flow has no ports */
	bool icmp_error;
};

enum packet_kind { PACKET_IP, PACKET_OTHER, PACKET_MALFORMED };

/* An echo's identifier stands on the side that asked. */
static __always_inline void packet_echo(struct flow *flow, __u8 type, __be16 id)
{
	flow->sport = type == ICMP_ECHO ? id : 0;
	flow->dport = type == ICMP_ECHOREPLY ? id : 0;
}

static __always_inline enum packet_kind packet_inner4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;
	__be16 ports[4];

	p->inner = p->l4 + sizeof(struct icmphdr);
	if (bpf_skb_load_bytes(skb, p->inner, &ip, sizeof(ip)) < 0)
		return PACKET_MALFORMED;
	p->inner_l4 = p->inner + ip.ihl * 4;
	if (bpf_skb_load_bytes(skb, p->inner_l4, ports, sizeof(ports)) < 0)
		return PACKET_MALFORMED;
	addr_set_v4(&p->flow.src, ip.daddr);
	addr_set_v4(&p->flow.dst, ip.saddr);
	p->flow.proto = ip.protocol;
	if (ip.protocol == IPPROTO_ICMP) {
		/* reversed: the asking side is where the error goes */
		p->flow.dport = ports[2];
		p->flow.sport = 0;
	} else {
		p->flow.dport = ports[0];
		p->flow.sport = ports[1];
	}
	p->icmp_error = true;
	return PACKET_IP;
}

static __always_inline enum packet_kind packet_l4(struct __sk_buff *skb, struct packet *p)
{
	struct icmphdr icmp;
	__be16 ports[2];

	switch (p->flow.proto) {
	case IPPROTO_TCP:
		if (bpf_skb_load_bytes(skb, p->l4 + 13, &p->tcp_flags, 1) < 0)
			return PACKET_MALFORMED;
		/* fall through */
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)) < 0)
			return PACKET_MALFORMED;
		p->flow.sport = ports[0];
		p->flow.dport = ports[1];
		return PACKET_IP;
	case IPPROTO_ICMP:
		if (bpf_skb_load_bytes(skb, p->l4, &icmp, sizeof(icmp)) < 0)
			return PACKET_MALFORMED;
		if (icmp.type == ICMP_DEST_UNREACH || icmp.type == ICMP_TIME_EXCEEDED ||
		    icmp.type == ICMP_PARAMETERPROB)
			return packet_inner4(skb, p);
		packet_echo(&p->flow, icmp.type, icmp.un.echo.id);
		return PACKET_IP;
	}
	return PACKET_IP;
}

static __always_inline void packet_frag_key(const struct packet *p, __be16 id, struct k3c_frag_key *key)
{
	key->src = p->src;
	key->dst = p->dst;
	key->id = id;
	key->proto = p->flow.proto;
}

static __always_inline void packet_first_fragment(const struct packet *p, __be16 id)
{
	struct k3c_frag ports = { .sport = p->flow.sport, .dport = p->flow.dport };
	struct k3c_frag_key key = {};

	packet_frag_key(p, id, &key);
	bpf_map_update_elem(&k3c_frag, &key, &ports, BPF_ANY);
}

static __always_inline void packet_later_fragment(struct packet *p, __be16 id)
{
	struct k3c_frag_key key = {};
	struct k3c_frag *ports;

	p->later_fragment = true;
	packet_frag_key(p, id, &key);
	ports = bpf_map_lookup_elem(&k3c_frag, &key);
	if (!ports) {
		p->no_ports = true;
		return;
	}
	p->flow.sport = ports->sport;
	p->flow.dport = ports->dport;
}

static __always_inline enum packet_kind packet_parse(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;
	enum packet_kind kind;
	__u16 frag;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return PACKET_OTHER;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
		return PACKET_MALFORMED;
	if (ip.version != 4 || ip.ihl < 5)
		return PACKET_MALFORMED;
	addr_set_v4(&p->src, ip.saddr);
	addr_set_v4(&p->dst, ip.daddr);
	p->flow.src = p->src;
	p->flow.dst = p->dst;
	p->flow.proto = ip.protocol;
	p->l4 = ETH_HLEN + ip.ihl * 4;
	frag = bpf_ntohs(ip.frag_off);
	if (frag & 0x1fff) {
		packet_later_fragment(p, ip.id);
		return PACKET_IP;
	}
	kind = packet_l4(skb, p);
	if (kind == PACKET_IP && (frag & 0x2000))
		packet_first_fragment(p, ip.id);
	return kind;
}

static __always_inline bool packet_is_syn(const struct packet *p)
{
	return p->flow.proto == IPPROTO_TCP && !p->icmp_error &&
	       (p->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN;
}

static __always_inline bool packet_is_closing(const struct packet *p)
{
	return p->flow.proto == IPPROTO_TCP && !p->icmp_error && (p->tcp_flags & (PACKET_TCP_FIN | PACKET_TCP_RST));
}
