/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of a packet as people write them, one function each. */
#pragma once

#include "tests/dataplane/packet_bytes.h"

#define PT_PROTO(ethertype, protocol) ((uint32_t)(ethertype) << 16 | (protocol))

typedef bool pt_layer_fn(struct pt_packet *p, char **w, size_t n);

static inline bool pt_eth(struct pt_packet *p, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, PT_ETH, 0, 14);

	if (!l)
		return false;
	l->next_at = l->at + 12;
	pt_field(p, "eth.type", l->at + 12, 2);
	for (size_t i = 0; i < n; i += 2) {
		const char *value = i + 1 < n ? w[i + 1] : NULL;

		if (strcmp(w[i], "type") == 0) {
			l->next_at = 0;
			if (!pt_number(p, "eth.type", l->at + 12, 2, value))
				return false;
		} else if (strcmp(w[i], "src") == 0 || strcmp(w[i], "dst") == 0) {
			if (!pt_mac(p, w[i][0] == 's' ? "eth.src" : "eth.dst", l->at + (w[i][0] == 's' ? 6 : 0), value))
				return false;
		} else {
			return pt_fail(p, "eth does not know", w[i]);
		}
	}
	return true;
}

static inline bool pt_ends(struct pt_packet *p, int family, char **w, size_t n, size_t src, size_t dst,
			   const char *src_name, const char *dst_name)
{
	if (n < 3 || strcmp(w[1], ">") != 0)
		return pt_fail(p, "two ends are missing (FROM > TO)", n ? w[0] : NULL);
	return family ? pt_address(p, family, src_name, src, w[0]) && pt_address(p, family, dst_name, dst, w[2])
		      : pt_number(p, src_name, src, 2, w[0]) && pt_number(p, dst_name, dst, 2, w[2]);
}

static inline bool pt_ip_options(struct pt_packet *p, struct pt_layer *l, const char *value)
{
	unsigned long words = value ? strtoul(value, NULL, 0) : 0;

	if (words < 1 || words > 10 || !pt_grow(p, words * 4))
		return pt_fail(p, "options take 1 to 10 words", value);
	memset(p->bytes + l->at + 20, 1, words * 4); /* no operation */
	p->bytes[l->at] = (uint8_t)(0x45 + words);
	return true;
}

static inline bool pt_ip_word(struct pt_packet *p, struct pt_layer *l, const char *word, const char *value, bool *used)
{
	size_t at = l->at;
	uint16_t frag = (uint16_t)pt_get(p->bytes, at + 6, 2);

	*used = true;
	if (strcmp(word, "ttl") == 0)
		return pt_number(p, "ip.ttl", at + 8, 1, value);
	if (strcmp(word, "tos") == 0)
		return pt_number(p, "ip.tos", at + 1, 1, value);
	if (strcmp(word, "id") == 0)
		return pt_number(p, "ip.id", at + 4, 2, value);
	if (strcmp(word, "proto") == 0) {
		l->next_at = 0;
		return pt_number(p, "ip.proto", at + 9, 1, value);
	}
	if (strcmp(word, "len") == 0) {
		l->len_fixed = true;
		return pt_number(p, "ip.len", at + 2, 2, value);
	}
	if (strcmp(word, "first") == 0) /* version and header length */
		return pt_number(p, "ip.first", at, 1, value);
	if (strcmp(word, "options") == 0)
		return pt_ip_options(p, l, value);
	if (strcmp(word, "offset") == 0) {
		pt_put(p, at + 6, 2, frag | (uint64_t)(value ? strtoul(value, NULL, 0) / 8 : 0));
		return value || pt_fail(p, "a number is missing", word);
	}
	if (strcmp(word, "rest") == 0) {
		l->rest = value ? strtoul(value, NULL, 0) : 0;
		return true;
	}
	*used = false;
	if (strcmp(word, "df") == 0)
		pt_put(p, at + 6, 2, frag | 0x4000);
	else if (strcmp(word, "mf") == 0)
		pt_put(p, at + 6, 2, frag | 0x2000);
	else
		return pt_fail(p, "ip does not know", word);
	return true;
}

static inline bool pt_ip(struct pt_packet *p, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, PT_IP, PT_PROTO(0x0800, 4), 20);

	if (!l || !pt_ends(p, AF_INET, w, n, l->at + 12, l->at + 16, "ip.src", "ip.dst"))
		return false;
	l->next_at = l->at + 9;
	p->bytes[l->at] = 0x45;
	p->bytes[l->at + 8] = 64;
	for (size_t i = 3; i < n; i++) {
		bool used;

		if (!pt_ip_word(p, l, w[i], i + 1 < n ? w[i + 1] : NULL, &used))
			return false;
		i += used;
	}
	pt_field(p, "ip.len", l->at + 2, 2);
	pt_field(p, "ip.proto", l->at + 9, 1);
	pt_field(p, "ip.sum", l->at + 10, 2);
	return true;
}

static inline bool pt_ip6(struct pt_packet *p, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, PT_IP6, PT_PROTO(0x86dd, 41), 40);

	if (!l || !pt_ends(p, AF_INET6, w, n, l->at + 8, l->at + 24, "ip6.src", "ip6.dst"))
		return false;
	l->next_at = l->at + 6;
	p->bytes[l->at] = 0x60;
	p->bytes[l->at + 7] = 64;
	p->bytes[l->at + 6] = 59; /* nothing behind it */
	for (size_t i = 3; i < n; i += 2) {
		const char *value = i + 1 < n ? w[i + 1] : NULL;

		if (strcmp(w[i], "hop") == 0) {
			if (!pt_number(p, "ip6.hop", l->at + 7, 1, value))
				return false;
		} else if (strcmp(w[i], "next") == 0) {
			l->next_at = 0;
			if (!pt_number(p, "ip6.next", l->at + 6, 1, value))
				return false;
		} else if (strcmp(w[i], "first") == 0) {
			if (!pt_number(p, "ip6.first", l->at, 1, value))
				return false;
		} else if (strcmp(w[i], "len") == 0) {
			l->len_fixed = true;
			if (!pt_number(p, "ip6.len", l->at + 4, 2, value))
				return false;
		} else if (strcmp(w[i], "rest") == 0) {
			l->rest = value ? strtoul(value, NULL, 0) : 0;
		} else {
			return pt_fail(p, "ip6 does not know", w[i]);
		}
	}
	pt_field(p, "ip6.len", l->at + 4, 2);
	pt_field(p, "ip6.next", l->at + 6, 1);
	return true;
}

/* hopopts, destopts, routing: eight bytes with padding inside. */
static inline bool pt_extension(struct pt_packet *p, uint8_t proto)
{
	struct pt_layer *l = pt_layer(p, PT_EXT, proto, 8);

	if (!l)
		return false;
	l->next_at = l->at;
	p->bytes[l->at] = 59;
	if (proto != 43)
		p->bytes[l->at + 2] = 1, p->bytes[l->at + 3] = 4;
	return true;
}

static inline bool pt_hopopts(struct pt_packet *p, char **w, size_t n)
{
	return pt_extension(p, 0);
}

static inline bool pt_routing(struct pt_packet *p, char **w, size_t n)
{
	return pt_extension(p, 43);
}

static inline bool pt_destopts(struct pt_packet *p, char **w, size_t n)
{
	return pt_extension(p, 60);
}

/* ah BYTES: so long in all */
static inline bool pt_ah(struct pt_packet *p, char **w, size_t n)
{
	unsigned long bytes = n == 1 ? strtoul(w[0], NULL, 0) : 0;
	struct pt_layer *l;

	if (bytes < 12 || bytes > 1024 || bytes % 4)
		return pt_fail(p, "ah takes its length", n ? w[0] : NULL);
	l = pt_layer(p, PT_EXT, 51, bytes);
	if (!l)
		return false;
	l->next_at = l->at;
	p->bytes[l->at] = 59;
	p->bytes[l->at + 1] = (uint8_t)(bytes / 4 - 2);
	return true;
}

/* `next` names the protocol of what the other fragments carry. */
static inline bool pt_fragment(struct pt_packet *p, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, PT_EXT, 44, 8);

	if (!l)
		return false;
	l->next_at = l->at;
	p->bytes[l->at] = 59;
	for (size_t i = 0; i < n; i++) {
		const char *value = i + 1 < n ? w[i + 1] : NULL;

		if (strcmp(w[i], "mf") == 0) {
			p->bytes[l->at + 3] |= 1;
			continue;
		}
		if (!value)
			return pt_fail(p, "a number is missing", w[i]);
		if (strcmp(w[i], "offset") == 0)
			pt_put(p, l->at + 2, 2, (strtoul(value, NULL, 0) & 0xfff8) | (p->bytes[l->at + 3] & 1));
		else if (strcmp(w[i], "id") != 0 && strcmp(w[i], "next") != 0)
			return pt_fail(p, "fragment does not know", w[i]);
		else if (!pt_number(p, w[i][0] == 'i' ? "frag.id" : "frag.next", l->at + (w[i][0] == 'i' ? 4 : 0),
				    w[i][0] == 'i' ? 4 : 1, value))
			return false;
		if (strcmp(w[i], "next") == 0)
			l->next_at = 0;
		i++;
	}
	return true;
}

static inline bool pt_sum_word(struct pt_packet *p, struct pt_layer *l, size_t at, const char *value)
{
	if (value && strcmp(value, "bad") == 0) {
		l->sum_bad = true;
		return true;
	}
	l->sum_fixed = true;
	return pt_number(p, "sum", at, 2, value && strcmp(value, "none") == 0 ? "0" : value);
}

static inline bool pt_tcp(struct pt_packet *p, char **w, size_t n)
{
	static const char *const flags[] = { "fin", "syn", "rst", "psh", "ack" };
	struct pt_layer *l = pt_layer(p, PT_TCP, 6, 20);

	if (!l || !pt_ends(p, 0, w, n, l->at, l->at + 2, "tcp.sport", "tcp.dport"))
		return false;
	p->bytes[l->at + 12] = 0x50;
	pt_put(p, l->at + 14, 2, 64240);
	for (size_t i = 3; i < n; i++) {
		const char *value = i + 1 < n ? w[i + 1] : NULL;
		bool flag = false;

		for (size_t f = 0; f < sizeof(flags) / sizeof(flags[0]) && !flag; f++)
			if ((flag = strcmp(w[i], flags[f]) == 0))
				p->bytes[l->at + 13] |= (uint8_t)(1u << f);
		if (flag)
			continue;
		if (strcmp(w[i], "seq") == 0) {
			if (!pt_number(p, "tcp.seq", l->at + 4, 4, value))
				return false;
		} else if (strcmp(w[i], "rest") == 0) {
			l->rest = value ? strtoul(value, NULL, 0) : 0;
		} else if (strcmp(w[i], "sum") == 0) {
			if (!pt_sum_word(p, l, l->at + 16, value))
				return false;
		} else {
			return pt_fail(p, "tcp does not know", w[i]);
		}
		i++;
	}
	pt_field(p, "tcp.flags", l->at + 13, 1);
	pt_field(p, "tcp.sum", l->at + 16, 2);
	return true;
}

static inline bool pt_udp(struct pt_packet *p, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, PT_UDP, 17, 8);

	if (!l || !pt_ends(p, 0, w, n, l->at, l->at + 2, "udp.sport", "udp.dport"))
		return false;
	for (size_t i = 3; i < n; i += 2) {
		const char *value = i + 1 < n ? w[i + 1] : NULL;

		if (strcmp(w[i], "rest") == 0) {
			l->rest = value ? strtoul(value, NULL, 0) : 0;
		} else if (strcmp(w[i], "sum") == 0) {
			if (!pt_sum_word(p, l, l->at + 6, value))
				return false;
		} else {
			return pt_fail(p, "udp does not know", w[i]);
		}
	}
	pt_field(p, "udp.len", l->at + 4, 2);
	pt_field(p, "udp.sum", l->at + 6, 2);
	return true;
}

static inline bool pt_sctp(struct pt_packet *p, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, PT_SCTP, 132, 12);

	if (!l || !pt_ends(p, 0, w, n, l->at, l->at + 2, "sctp.sport", "sctp.dport"))
		return false;
	pt_field(p, "sctp.tag", l->at + 4, 4);
	pt_field(p, "sctp.sum", l->at + 8, 4);
	if (n == 3)
		return true;
	l->sum_fixed = n == 5 && strcmp(w[3], "sum") == 0 && strcmp(w[4], "none") == 0;
	return l->sum_fixed || pt_fail(p, "sctp does not know", w[3]);
}

struct pt_icmp_name {
	const char *name;
	uint8_t v4, v6;
	size_t number_at; /* `unreachable 4`, `too-big 1400`: what stands behind the name */
	size_t width;
};

static const struct pt_icmp_name pt_icmp_names[] = {
	{ "echo", 8, 128, 4, 2 },         { "reply", 0, 129, 4, 2 },       { "unreachable", 3, 1, 1, 1 },
	{ "time-exceeded", 11, 3, 1, 1 }, { "parameter", 12, 4, 1, 1 },    { "too-big", 255, 2, 4, 4 },
	{ "solicit", 255, 135, 1, 1 },    { "advertise", 255, 136, 1, 1 }, { "redirect", 5, 137, 1, 1 },
	{ "timestamp", 13, 255, 1, 1 },   { "listeners", 255, 130, 1, 1 }, { "renumbering", 255, 138, 1, 1 },
	{ "listening", 255, 143, 1, 1 },
};

static inline bool pt_icmp_of(struct pt_packet *p, bool v6, char **w, size_t n)
{
	struct pt_layer *l = pt_layer(p, v6 ? PT_ICMP6 : PT_ICMP, v6 ? 58 : 1, 8);
	const struct pt_icmp_name *name = NULL;

	if (!l || n < 2)
		return pt_fail(p, "a type and its number are missing", n ? w[0] : NULL);
	for (size_t i = 0; i < sizeof(pt_icmp_names) / sizeof(pt_icmp_names[0]); i++)
		if (strcmp(pt_icmp_names[i].name, w[0]) == 0 && (v6 ? pt_icmp_names[i].v6 : pt_icmp_names[i].v4) != 255)
			name = &pt_icmp_names[i];
	if (!name)
		return pt_fail(p, "no such type", w[0]);
	p->bytes[l->at] = v6 ? name->v6 : name->v4;
	pt_field(p, "icmp.type", l->at, 1);
	if (!pt_number(p, "icmp.number", l->at + name->number_at, name->width, w[1]))
		return false;
	for (size_t i = 2; i < n; i += 2) {
		const char *value = i + 1 < n ? w[i + 1] : NULL;

		if (strcmp(w[i], "mtu") == 0 || strcmp(w[i], "seq") == 0) {
			if (!pt_number(p, w[i], l->at + 6, 2, value))
				return false;
		} else if (strcmp(w[i], "sum") == 0) {
			if (!pt_sum_word(p, l, l->at + 2, value))
				return false;
		} else {
			return pt_fail(p, "icmp does not know", w[i]);
		}
	}
	pt_field(p, "icmp.sum", l->at + 2, 2);
	return true;
}

static inline bool pt_icmp(struct pt_packet *p, char **w, size_t n)
{
	return pt_icmp_of(p, false, w, n);
}

static inline bool pt_icmp6(struct pt_packet *p, char **w, size_t n)
{
	return pt_icmp_of(p, true, w, n);
}

static inline bool pt_hex(struct pt_packet *p, char **w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (const char *h = w[i]; *h; h += 2) {
			unsigned b;

			if (sscanf(h, "%2x", &b) != 1 || !h[1] || !pt_grow(p, 1))
				return pt_fail(p, "no bytes in hex", h);
			p->bytes[p->n - 1] = (uint8_t)b;
		}
	return true;
}

static inline bool pt_zeros(struct pt_packet *p, char **w, size_t n)
{
	return n == 1 ? pt_grow(p, strtoul(w[0], NULL, 0)) : pt_fail(p, "how many zeros", NULL);
}

static inline bool pt_cut(struct pt_packet *p, char **w, size_t n)
{
	p->cut = n == 1 ? strtoul(w[0], NULL, 0) : 0;
	return p->cut > 0 && p->cut <= p->n ? true : pt_fail(p, "how many bytes are cut off", NULL);
}

static const struct {
	const char *name;
	pt_layer_fn *fn;
} pt_layers[] = {
	{ "eth", pt_eth },         { "ip", pt_ip },
	{ "ip6", pt_ip6 },         { "hopopts", pt_hopopts },
	{ "routing", pt_routing }, { "destopts", pt_destopts },
	{ "ah", pt_ah },           { "fragment", pt_fragment },
	{ "tcp", pt_tcp },         { "udp", pt_udp },
	{ "sctp", pt_sctp },       { "icmp", pt_icmp },
	{ "icmp6", pt_icmp6 },     { "hex", pt_hex },
	{ "zeros", pt_zeros },     { "cut", pt_cut },
};
