/* SPDX-License-Identifier: Apache-2.0 */
/* Packets as people write them, made into bytes: layers from the outside in, `|` between them. Lengths, next-protocol
 * fields and checksums are made from what is there, each from scratch: a program's incremental updates are right only
 * when they come to the same. tests/dataplane/packets/README says how layers are written. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PT_BYTES_MAX 2048
#define PT_FIELDS_MAX 96
#define PT_LAYERS_MAX 16
#define PT_WORDS_MAX 96
#define PT_VARS_MAX 16

/* A number that a packet out shows and later lines use: $port. */
struct pt_var {
	char name[16];
	uint64_t value;
	bool bound;
};

struct pt_field {
	char name[24];
	size_t at, width;
	struct pt_var *unbound;
};

enum pt_kind { PT_RAW, PT_ETH, PT_IP, PT_IP6, PT_EXT, PT_TCP, PT_UDP, PT_SCTP, PT_ICMP, PT_ICMP6 };

struct pt_layer {
	enum pt_kind kind;
	size_t at;
	size_t next_at; /* the field that names the next protocol; 0: none, or fixed by hand */
	size_t rest;    /* bytes that other fragments carry, all zero */
	bool len_fixed, sum_fixed, sum_bad;
};

struct pt_packet {
	uint8_t bytes[PT_BYTES_MAX];
	size_t n, cut;
	struct pt_field fields[PT_FIELDS_MAX];
	size_t n_fields;
	struct pt_layer layers[PT_LAYERS_MAX];
	size_t n_layers;
	struct pt_var *vars;
	char error[160];
};

struct pt_words {
	char *at[PT_WORDS_MAX];
	size_t n;
};

/* In place. A quoted word keeps its first quote, so that it is told from others. */
static inline void pt_split(char *line, struct pt_words *ret)
{
	ret->n = 0;
	while (ret->n < PT_WORDS_MAX) {
		line += strspn(line, " \t\r\n");
		if (!*line)
			return;
		ret->at[ret->n++] = line;
		if (*line == '"')
			line = strchr(line + 1, '"') ? strchr(line + 1, '"') : line + strlen(line);
		else
			line += strcspn(line, " \t\r\n");
		if (*line)
			*line++ = 0;
	}
}

static inline bool pt_fail(struct pt_packet *p, const char *what, const char *word)
{
	if (!p->error[0])
		snprintf(p->error, sizeof(p->error), "%s: %s", what, word ? word : "end of line");
	return false;
}

static inline struct pt_var *pt_var(struct pt_var *vars, const char *name)
{
	for (size_t i = 0; i < PT_VARS_MAX; i++) {
		if (!vars[i].name[0])
			snprintf(vars[i].name, sizeof(vars[i].name), "%s", name);
		if (strcmp(vars[i].name, name) == 0)
			return &vars[i];
	}
	return NULL;
}

static inline void pt_put(struct pt_packet *p, size_t at, size_t width, uint64_t value)
{
	for (size_t i = 0; i < width; i++)
		p->bytes[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static inline uint64_t pt_get(const uint8_t *bytes, size_t at, size_t width)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++)
		v = v << 8 | bytes[at + i];
	return v;
}

static inline void pt_field(struct pt_packet *p, const char *name, size_t at, size_t width)
{
	if (p->n_fields == PT_FIELDS_MAX)
		return;
	snprintf(p->fields[p->n_fields].name, sizeof(p->fields[0].name), "%s", name);
	p->fields[p->n_fields].at = at;
	p->fields[p->n_fields++].width = width;
}

/* Room at the end. */
static inline bool pt_grow(struct pt_packet *p, size_t n)
{
	if (p->n + n > PT_BYTES_MAX)
		return pt_fail(p, "the packet is longer than the test allows", "");
	memset(p->bytes + p->n, 0, n);
	p->n += n;
	return true;
}

static inline bool pt_number(struct pt_packet *p, const char *name, size_t at, size_t width, const char *word)
{
	unsigned long long v;
	char *end;

	pt_field(p, name, at, width);
	if (word && word[0] == '$') {
		struct pt_var *var = pt_var(p->vars, word + 1);

		if (!var)
			return pt_fail(p, "too many names", word);
		if (var->bound)
			pt_put(p, at, width, var->value);
		else
			p->fields[p->n_fields - 1].unbound = var;
		return true;
	}
	if (!word || !*word)
		return pt_fail(p, "a number is missing", name);
	v = strtoull(word, &end, 0);
	if (*end)
		return pt_fail(p, "no number", word);
	pt_put(p, at, width, v);
	return true;
}

static inline bool pt_mac(struct pt_packet *p, const char *name, size_t at, const char *word)
{
	unsigned b[6];

	pt_field(p, name, at, 6);
	if (!word || sscanf(word, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
		return pt_fail(p, "no link address", word);
	for (int i = 0; i < 6; i++)
		p->bytes[at + (size_t)i] = (uint8_t)b[i];
	return true;
}

static inline bool pt_address(struct pt_packet *p, int family, const char *name, size_t at, const char *word)
{
	pt_field(p, name, at, family == AF_INET ? 4 : 16);
	return (word && inet_pton(family, word, p->bytes + at) == 1) || pt_fail(p, "no address", word);
}

/* The layer before says what comes. */
static inline struct pt_layer *pt_layer(struct pt_packet *p, enum pt_kind kind, uint32_t proto, size_t size)
{
	struct pt_layer *l = &p->layers[p->n_layers], *before = p->n_layers ? l - 1 : NULL;

	if (p->n_layers == PT_LAYERS_MAX) {
		pt_fail(p, "too many layers", "");
		return NULL;
	}
	if (before && before->next_at)
		pt_put(p, before->next_at, before->kind == PT_ETH ? 2 : 1,
		       before->kind == PT_ETH ? proto >> 16 : proto);
	*l = (struct pt_layer){ .kind = kind, .at = p->n };
	if (!pt_grow(p, size))
		return NULL;
	p->n_layers++;
	return l;
}

/* ---- layers ---- */

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
	return n == 3 || pt_fail(p, "sctp does not know", w[3]);
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
	{ "timestamp", 13, 255, 1, 1 },
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
	{ "eth", pt_eth },           { "ip", pt_ip },           { "ip6", pt_ip6 },
	{ "hopopts", pt_hopopts },   { "routing", pt_routing }, { "destopts", pt_destopts },
	{ "fragment", pt_fragment }, { "tcp", pt_tcp },         { "udp", pt_udp },
	{ "sctp", pt_sctp },         { "icmp", pt_icmp },       { "icmp6", pt_icmp6 },
	{ "hex", pt_hex },           { "zeros", pt_zeros },     { "cut", pt_cut },
};

/* ---- sums and lengths ---- */

static inline uint32_t pt_sum_add(uint32_t sum, const uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? b[i] : (uint32_t)b[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static inline uint32_t pt_pseudo(const struct pt_packet *p, const struct pt_layer *ip, uint8_t proto, size_t len)
{
	uint8_t tail[8] = {
		(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0, proto
	};
	size_t at = ip->at + (ip->kind == PT_IP ? 12 : 8), n = ip->kind == PT_IP ? 8 : 32;

	return pt_sum_add(pt_sum_add(0, p->bytes + at, n), tail, sizeof(tail));
}

static inline uint32_t pt_crc32c(const uint8_t *b, size_t n)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < n; i++) {
		crc ^= b[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static inline void pt_finish_l4(struct pt_packet *p, struct pt_layer *l, const struct pt_layer *ip)
{
	static const struct {
		uint8_t proto;
		size_t sum_at;
	} kinds[] = { [PT_TCP] = { 6, 16 }, [PT_UDP] = { 17, 6 }, [PT_ICMP] = { 1, 2 }, [PT_ICMP6] = { 58, 2 } };
	size_t n = p->n - l->at, at = l->at + kinds[l->kind].sum_at;
	uint32_t sum;

	if (l->kind == PT_UDP)
		pt_put(p, l->at + 4, 2, n + l->rest);
	if (l->sum_fixed)
		return;
	pt_put(p, at, 2, 0);
	sum = ip && l->kind != PT_ICMP ? pt_pseudo(p, ip, kinds[l->kind].proto, n + l->rest) : 0;
	sum = ~pt_sum_add(sum, p->bytes + l->at, n) & 0xffff;
	if (sum == 0 && l->kind == PT_UDP)
		sum = 0xffff;
	pt_put(p, at, 2, sum ^ (l->sum_bad ? 0x1111 : 0));
}

/* From the inside out. */
static inline void pt_finish(struct pt_packet *p)
{
	for (size_t i = p->n_layers; i-- > 0;) {
		struct pt_layer *l = &p->layers[i], *ip = NULL;
		uint32_t crc;

		for (size_t k = i; k-- > 0 && !ip;)
			if (p->layers[k].kind == PT_IP || p->layers[k].kind == PT_IP6)
				ip = &p->layers[k];
		switch (l->kind) {
		case PT_IP:
			if (!l->len_fixed)
				pt_put(p, l->at + 2, 2, p->n - l->at + l->rest);
			pt_put(p, l->at + 10, 2, 0);
			pt_put(p, l->at + 10, 2,
			       ~pt_sum_add(0, p->bytes + l->at, (p->bytes[l->at] & 15u) * 4u) & 0xffff);
			break;
		case PT_IP6:
			if (!l->len_fixed)
				pt_put(p, l->at + 4, 2, p->n - l->at - 40 + l->rest);
			break;
		case PT_SCTP:
			crc = pt_crc32c(p->bytes + l->at, p->n - l->at);
			for (size_t k = 0; k < 4; k++)
				p->bytes[l->at + 8 + k] = (uint8_t)(crc >> (8 * k));
			break;
		case PT_TCP:
		case PT_UDP:
		case PT_ICMP:
		case PT_ICMP6:
			pt_finish_l4(p, l, ip);
			break;
		default:
			break;
		}
	}
	p->n -= p->cut;
}

static inline bool pt_one_layer(struct pt_packet *p, char **w, size_t n)
{
	if (n == 0)
		return pt_fail(p, "an empty layer", NULL);
	if (w[0][0] == '"') {
		size_t len = strlen(w[0] + 1);

		if (n != 1 || !pt_grow(p, len))
			return pt_fail(p, "behind the text", w[0]);
		memcpy(p->bytes + p->n - len, w[0] + 1, len);
		return true;
	}
	/* an outer link header that nobody is interested in */
	if (p->n == 0 && (strcmp(w[0], "ip") == 0 || strcmp(w[0], "ip6") == 0) && !pt_eth(p, NULL, 0))
		return false;
	for (size_t i = 0; i < sizeof(pt_layers) / sizeof(pt_layers[0]); i++)
		if (strcmp(pt_layers[i].name, w[0]) == 0)
			return pt_layers[i].fn(p, w + 1, n - 1);
	return pt_fail(p, "no such layer", w[0]);
}

/* False: p->error says why. The names must be zeroed once, and are kept over packets. */
static inline bool pt_build(struct pt_packet *p, struct pt_var *vars, char **w, size_t n)
{
	memset(p, 0, sizeof(*p));
	p->vars = vars;
	for (size_t from = 0, i = 0; i <= n; i++) {
		if (i < n && strcmp(w[i], "|") != 0)
			continue;
		if (!pt_one_layer(p, w + from, i - from))
			return false;
		from = i + 1;
	}
	pt_finish(p);
	return true;
}

/* What the kernel made decides the names that are still open; true when there were some (build it again then). */
static inline bool pt_bind(struct pt_packet *p, const uint8_t *got, size_t n)
{
	bool any = false;

	for (size_t i = 0; i < p->n_fields; i++) {
		struct pt_field *f = &p->fields[i];

		if (!f->unbound || f->at + f->width > n)
			continue;
		f->unbound->value = pt_get(got, f->at, f->width);
		f->unbound->bound = true;
		any = true;
	}
	return any;
}

/* Equal: true. Else says where they part. */
static inline bool pt_equal(const struct pt_packet *p, const uint8_t *got, size_t n, char *ret, size_t size)
{
	size_t used = 0;

	*ret = 0;
	if (p->n != n)
		used += (size_t)snprintf(ret, size, "length %zu, not %zu; ", n, p->n);
	for (size_t i = 0; i < n && i < p->n; i++) {
		const char *name = "bytes";
		size_t at = i, width = 1;

		if (got[i] == p->bytes[i] || used + 64 > size)
			continue;
		for (size_t k = 0; k < p->n_fields; k++)
			if (i >= p->fields[k].at && i < p->fields[k].at + p->fields[k].width) {
				name = p->fields[k].name;
				at = p->fields[k].at;
				width = p->fields[k].width;
			}
		used += (size_t)snprintf(ret + used, size - used, "%s at %zu: ", name, at);
		for (size_t k = 0; k < width && at + k < n && used + 64 < size; k++)
			used += (size_t)snprintf(ret + used, size - used, "%02x", got[at + k]);
		used += (size_t)snprintf(ret + used, size - used, ", not ");
		for (size_t k = 0; k < width && used + 64 < size; k++)
			used += (size_t)snprintf(ret + used, size - used, "%02x", p->bytes[at + k]);
		used += (size_t)snprintf(ret + used, size - used, "; ");
		i = at + width - 1;
	}
	return used == 0;
}
