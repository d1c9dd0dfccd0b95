/* SPDX-License-Identifier: Apache-2.0 */
/* Packets as people write them, made into bytes: layers from the outside in, `|` between them. Lengths, next-protocol
 * fields and checksums are made from what is there, each from scratch: a program's incremental updates are right only
 * when they come to the same. tests/dataplane/packets/README says how layers are written. */
#pragma once

#include "tests/dataplane/packet_layers.h"
#include "tests/dataplane/packet_sums.h"

/* ---- sums and lengths ---- */

static inline uint32_t pt_pseudo(const struct pt_packet *p, const struct pt_layer *ip, uint8_t proto, size_t len)
{
	uint8_t tail[8] = {
		(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0, proto
	};
	size_t at = ip->at + (ip->kind == PT_IP ? 12 : 8), n = ip->kind == PT_IP ? 8 : 32;

	return pt_sum_add(pt_sum_add(0, p->bytes + at, n), tail, sizeof(tail));
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
			if (l->sum_fixed)
				break;
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
