/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Reading a packet's addresses and ports, IPv4 and IPv6 in one form. Only what is needed is copied (bpf_skb_load_bytes
 * also reads what is not linear), and nothing points into the packet, so rewriting it never invalidates anything. */
#pragma once

#include <stddef.h>

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
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

/* RFC 4443, 4861, 2710, 3810. */
enum icmp6_type {
	ICMP6_DEST_UNREACH = 1,
	ICMP6_PARAMETERPROB = 4, /* packet too big and time exceeded lie between */
	ICMP6_ECHO = 128,
	ICMP6_ECHOREPLY = 129,
	ICMP6_MLD_FIRST = 130, /* listeners and neighbours: what a link says to itself */
	ICMP6_ND_LAST = 137,
	ICMP6_MLD2_REPORT = 143,
};

/* Both families'. */
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

/* RFC 9260, and the first chunk's type. */
struct sctphdr {
	__be16 source, dest;
	__be32 tag;
	__le32 checksum;
	__u8 chunk;
};

enum sctp_chunk {
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN_COMPLETE = 14,
};

/* IPv6 headers between the first one and the transport's; more make a packet malformed. */
#define PACKET_EXTENSIONS_MAX 6
#define PACKET_EXTENSION_UNIT 8

/* An extension header's beginning, a fragment header whole. */
struct packet_extension {
	__u8 next;
	__u8 len;
	__be16 fragment;
	__be32 id;
};
_Static_assert(sizeof(struct packet_extension) == PACKET_EXTENSION_UNIT, "packet_extension");

/* Of a chunk that begins an association: where its parameters begin, behind the common header, and what one begins
 * with. Types of the highest bit are passed over by who does not know them. */
#define SCTP_INIT_PARAMS 32
#define SCTP_PARAMS_MAX 32 /* looked at */
#define SCTP_PARAM_ADDR4 5
#define SCTP_PARAM_ADDR6 6
#define SCTP_PARAM_SKIP 0x8000

struct sctpparam {
	__be16 type;
	__be16 len;
};

/* As in a TCP header; of SCTP what means the same. */
#define PACKET_FIN 0x01
#define PACKET_SYN 0x02
#define PACKET_RST 0x04
#define PACKET_ACK 0x10

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
	__u16 l3;    /* offset of the IP header */
	__u16 l4;    /* of the transport header */
	__u16 end;   /* behind the last byte, by the IP header's word */
	__u16 inner; /* ICMP error: offset of the packet inside */
	__u16 inner_l4;
	__u8 flags; /* PACKET_SYN... */
	bool v6;
	bool fragment;       /* any of a datagram in several */
	bool later_fragment; /* no transport header */
	bool no_ports;       /* the flow has no ports: their fragment was not seen */
	bool icmp_error;
};

/* OTHER: neither IPv4 nor IPv6, or neighbour discovery and the like. */
enum packet_kind { PACKET_IP, PACKET_OTHER, PACKET_MALFORMED };

/* What an IP header says, but for the addresses. */
struct packet_head {
	__u32 id; /* of the datagram in fragments */
	__u16 l4;
	__u16 end;
	__u8 proto;
	bool fragment, later;
};

static __always_inline bool packet_is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_AH ||
	       next == IPPROTO_FRAGMENT;
}

static __always_inline bool packet_head4(struct __sk_buff *skb, __u32 at, struct k3c_addr *src, struct k3c_addr *dst,
					 struct packet_head *h)
{
	struct iphdr ip;
	__u16 frag;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) < 0 || ip.version != 4 || ip.ihl < 5)
		return false;
	addr_set_v4(src, ip.saddr);
	addr_set_v4(dst, ip.daddr);
	h->proto = ip.protocol;
	h->l4 = at + ip.ihl * 4;
	h->end = at + bpf_ntohs(ip.tot_len);
	frag = bpf_ntohs(ip.frag_off);
	h->later = frag & 0x1fff;
	h->fragment = frag & 0x3fff;
	h->id = ip.id;
	return true;
}

/* From the first extension header at h->l4, of type h->proto, up to the transport header or the end of what a later
 * fragment shows. Global: verified once, however many paths lead here. 0: malformed. */
__attribute__((noinline)) int packet_extensions(struct __sk_buff *skb, struct packet_head *h)
{
	struct packet_extension e;

	if (!h)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= PACKET_EXTENSIONS_MAX; i++) {
		__u32 bytes;

		if (!packet_is_extension(h->proto) || h->later)
			return 1;
		if (bpf_skb_load_bytes(skb, h->l4, &e, sizeof(e)) < 0)
			return 0;
		bytes = (e.len + 1) * PACKET_EXTENSION_UNIT;
		if (h->proto == IPPROTO_AH)
			bytes = (e.len + 2) * 4;
		if (h->proto == IPPROTO_FRAGMENT) {
			bytes = sizeof(e);
			if (h->fragment) /* of fragments: nobody sends that */
				return 0;
			h->later = (e.fragment & bpf_htons(0xfff8)) != 0;
			h->fragment = (e.fragment & bpf_htons(0xfff9)) != 0;
			h->id = e.id;
		}
		h->proto = e.next;
		h->l4 += bytes;
	}
	return 0;
}

static __always_inline bool packet_head6(struct __sk_buff *skb, __u32 at, struct k3c_addr *src, struct k3c_addr *dst,
					 struct packet_head *h)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) < 0 || ip.version != 6)
		return false;
	__builtin_memcpy(src, &ip.saddr, sizeof(*src));
	__builtin_memcpy(dst, &ip.daddr, sizeof(*dst));
	h->proto = ip.nexthdr;
	h->l4 = at + sizeof(ip);
	h->end = h->l4 + bpf_ntohs(ip.payload_len);
	return !packet_is_extension(ip.nexthdr) || packet_extensions(skb, h);
}

static __always_inline bool packet_head(struct __sk_buff *skb, bool v6, __u32 at, struct k3c_addr *src,
					struct k3c_addr *dst, struct packet_head *h)
{
	return v6 ? packet_head6(skb, at, src, dst, h) : packet_head4(skb, at, src, dst, h);
}

static __always_inline bool packet_is_icmp(__u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* Which keep connections: they have a first packet that is told from others. */
static __always_inline bool packet_is_stateful(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_SCTP;
}

/* An echo's identifier stands on the side that asked. */
static __always_inline void packet_echo(bool v6, const struct icmphdr *icmp, __be16 *ret_sport, __be16 *ret_dport)
{
	*ret_sport = icmp->type == (v6 ? ICMP6_ECHO : ICMP_ECHO) ? icmp->un.echo.id : 0;
	*ret_dport = icmp->type == (v6 ? ICMP6_ECHOREPLY : ICMP_ECHOREPLY) ? icmp->un.echo.id : 0;
}

static __always_inline bool packet_icmp_is_error(bool v6, __u8 type)
{
	if (v6)
		return type >= ICMP6_DEST_UNREACH && type <= ICMP6_PARAMETERPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* The packet inside an error, seen in the error's direction: everything the other way round. Only who sent it is told
 * of it: whatever else claims to be an error is none (it would be judged as the flow that it names). */
static __always_inline enum packet_kind packet_inner(struct __sk_buff *skb, struct packet *p)
{
	struct packet_head h = {};
	struct icmphdr l4; /* or the ports of the others */

	p->inner = p->l4 + sizeof(struct icmphdr);
	p->icmp_error = true;
	if (!packet_head(skb, p->v6, p->inner, &p->flow.dst, &p->flow.src, &h) || !addr_eq(&p->dst, &p->flow.dst))
		return PACKET_MALFORMED;
	p->inner_l4 = h.l4;
	p->flow.proto = h.proto;
	if (h.later) {
		p->no_ports = true;
		return PACKET_IP;
	}
	/* Behind the end the link may have padded: no part of what the error's checksum is of. */
	if (h.l4 + sizeof(l4) > p->end || bpf_skb_load_bytes(skb, h.l4, &l4, sizeof(l4)) < 0)
		return PACKET_MALFORMED;
	if (packet_is_icmp(h.proto)) {
		packet_echo(p->v6, &l4, &p->flow.dport, &p->flow.sport);
	} else {
		p->flow.dport = ((__be16 *)&l4)[0];
		p->flow.sport = ((__be16 *)&l4)[1];
	}
	return PACKET_IP;
}

/* Does the other end of the flow report it, or somebody on the way? */
static __always_inline bool packet_error_is_of_end(const struct packet *p)
{
	return addr_eq(&p->src, &p->flow.src);
}

static __always_inline enum packet_kind packet_icmp(struct __sk_buff *skb, struct packet *p)
{
	struct icmphdr icmp;

	if (p->flow.proto != (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return PACKET_IP;
	if (bpf_skb_load_bytes(skb, p->l4, &icmp, sizeof(icmp)) < 0)
		return PACKET_MALFORMED;
	if (packet_icmp_is_error(p->v6, icmp.type))
		return packet_inner(skb, p);
	if (p->v6 && ((icmp.type >= ICMP6_MLD_FIRST && icmp.type <= ICMP6_ND_LAST) || icmp.type == ICMP6_MLD2_REPORT))
		return PACKET_OTHER;
	packet_echo(p->v6, &icmp, &p->flow.sport, &p->flow.dport);
	return PACKET_IP;
}

static __always_inline __u8 packet_sctp_flags(__u8 chunk)
{
	switch (chunk) {
	case SCTP_INIT:
		return PACKET_SYN;
	case SCTP_INIT_ACK:
		return PACKET_SYN | PACKET_ACK;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN_COMPLETE:
		return PACKET_RST;
	}
	return PACKET_ACK;
}

/* A TCP header up to its flags. */
struct packet_tcp {
	__be16 sport, dport;
	__be32 numbers[2];
	__u8 offset;
	__u8 flags;
	__u8 pad[2];
};
#define PACKET_TCP_BYTES 14
_Static_assert(offsetof(struct packet_tcp, flags) + 1 == PACKET_TCP_BYTES, "packet_tcp");

static __always_inline enum packet_kind packet_l4(struct __sk_buff *skb, struct packet *p)
{
	struct packet_tcp tcp;
	__be16 ports[2];

	switch (p->flow.proto) {
	case IPPROTO_TCP:
		if (bpf_skb_load_bytes(skb, p->l4, &tcp, PACKET_TCP_BYTES) < 0)
			return PACKET_MALFORMED;
		p->flow.sport = tcp.sport;
		p->flow.dport = tcp.dport;
		p->flags = tcp.flags;
		return PACKET_IP;
	case IPPROTO_SCTP:
		if (bpf_skb_load_bytes(skb, p->l4 + offsetof(struct sctphdr, chunk), &p->flags, 1) < 0)
			return PACKET_MALFORMED;
		p->flags = packet_sctp_flags(p->flags);
		break;
	case IPPROTO_UDP:
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return packet_icmp(skb, p);
	default:
		return PACKET_IP;
	}
	if (bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)) < 0)
		return PACKET_MALFORMED;
	p->flow.sport = ports[0];
	p->flow.dport = ports[1];
	return PACKET_IP;
}

/* Of IPv6 the identifier counts for all protocols; a later fragment's may stand behind further headers. */
static __always_inline void packet_frag_key(const struct packet *p, __u32 id, struct k3c_frag_key *key)
{
	key->src = p->src;
	key->dst = p->dst;
	key->id = id;
	key->proto = p->v6 ? 0 : p->flow.proto;
}

static __always_inline void packet_first_fragment(const struct packet *p, __u32 id)
{
	struct k3c_frag ports = { .sport = p->flow.sport, .dport = p->flow.dport, .proto = p->flow.proto };
	struct k3c_frag_key key = {};

	packet_frag_key(p, id, &key);
	bpf_map_update_elem(&k3c_frag, &key, &ports, BPF_ANY);
}

static __always_inline void packet_later_fragment(struct packet *p, __u32 id)
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
	p->flow.proto = ports->proto;
}

/* `at`: bytes before the IP header. *p is zero. Returns an enum packet_kind. Global: verified once, and what follows it
 * is too, since nothing is known of the packet then that another path would not know. */
__attribute__((noinline)) int packet_parse(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	struct packet_head h = {};
	enum packet_kind kind;

	if (!p)
		return PACKET_OTHER;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		p->v6 = true;
	else if (skb->protocol != bpf_htons(ETH_P_IP))
		return PACKET_OTHER;
	if (!packet_head(skb, p->v6, at, &p->src, &p->dst, &h))
		return PACKET_MALFORMED;
	p->flow.src = p->src;
	p->flow.dst = p->dst;
	p->flow.proto = h.proto;
	p->l3 = at;
	p->l4 = h.l4;
	p->end = h.end;
	p->fragment = h.fragment;
	if (h.later) {
		packet_later_fragment(p, h.id);
		return PACKET_IP;
	}
	kind = packet_l4(skb, p);
	if (kind == PACKET_IP && h.fragment)
		packet_first_fragment(p, h.id);
	return kind;
}

static __always_inline bool packet_is_syn(const struct packet *p)
{
	return packet_is_stateful(p->flow.proto) && !p->icmp_error &&
	       (p->flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN;
}

static __always_inline bool packet_is_closing(const struct packet *p)
{
	return packet_is_stateful(p->flow.proto) && !p->icmp_error && (p->flags & (PACKET_FIN | PACKET_RST));
}
