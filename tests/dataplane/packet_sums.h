/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums from scratch: the arithmetic, and a look at bytes of unknown making: are all of the packet's sums right,
 * and how they would be. Only what is whole and not in fragments is judged. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t pt_sum_add(uint32_t sum, const uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? b[i] : (uint32_t)b[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
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

/* Where a packet's parts are; l4: 0 where nothing can be said of its sum. */
struct ps_packet {
	bool v6;
	size_t ip, l4, end;
	uint8_t proto;
};

/* False: neither IPv4 nor IPv6, or headers that do not fit. */
static inline bool ps_look(const uint8_t *b, size_t n, struct ps_packet *ret)
{
	struct ps_packet p = { .ip = 14 };
	size_t header = 20, total;
	bool fragment = false;

	if (n < 34)
		return false;
	p.v6 = b[12] == 0x86 && b[13] == 0xdd;
	if (!p.v6 && (b[12] != 8 || b[13] != 0))
		return false;
	if (p.v6) {
		header = 40;
		if (n < p.ip + header || b[p.ip] >> 4 != 6)
			return false;
		total = header + ((size_t)b[p.ip + 4] << 8 | b[p.ip + 5]);
		p.proto = b[p.ip + 6]; /* behind extension headers nothing is judged */
	} else {
		header = (b[p.ip] & 15u) * 4u;
		if (b[p.ip] >> 4 != 4 || header < 20 || n < p.ip + header)
			return false;
		total = (size_t)b[p.ip + 2] << 8 | b[p.ip + 3];
		p.proto = b[p.ip + 9];
		fragment = (b[p.ip + 6] & 0x3f) || b[p.ip + 7];
	}
	p.end = p.ip + total;
	if (!fragment && total >= header && p.end <= n)
		p.l4 = p.ip + header;
	*ret = p;
	return true;
}

/* Where the transport's sum is; 0: none that is judged. */
static inline size_t ps_sum_at(const uint8_t *b, const struct ps_packet *p)
{
	static const struct {
		uint8_t proto;
		size_t header, sum;
	} kinds[] = { { 6, 20, 16 }, { 17, 8, 6 }, { 1, 8, 2 }, { 58, 8, 2 }, { 132, 12, 8 } };

	if (!p->l4)
		return 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t at = p->l4 + kinds[i].sum;

		if (kinds[i].proto != p->proto || p->end - p->l4 < kinds[i].header || p->proto == (p->v6 ? 1 : 58))
			continue;
		/* a datagram's own length may say something else */
		if (p->proto == 17 && (size_t)(b[p->l4 + 4] << 8 | b[p->l4 + 5]) != p->end - p->l4)
			return 0;
		return at;
	}
	return 0;
}

/* The transport's sum as it should stand in the packet, as a number of the network's order (SCTP: of its own). */
static inline uint32_t ps_sum(const uint8_t *b, const struct ps_packet *p, size_t at)
{
	size_t n = p->end - p->l4, width = p->proto == 132 ? 4 : 2, addrs = p->v6 ? 32 : 8;
	uint8_t tail[8] = { 0, 0, (uint8_t)(n >> 8), (uint8_t)n, 0, 0, 0, p->proto }, copy[4096];
	uint32_t sum = 0;

	if (n > sizeof(copy))
		return 0;
	memcpy(copy, b + p->l4, n);
	memset(copy + (at - p->l4), 0, width);
	if (p->proto == 132) {
		uint32_t crc = pt_crc32c(copy, n);

		return (crc & 0xff) << 24 | (crc & 0xff00) << 8 | (crc >> 8 & 0xff00) | crc >> 24;
	}
	if (p->proto != 1) {
		sum = pt_sum_add(0, b + p->ip + (p->v6 ? 8 : 12), addrs);
		sum = pt_sum_add(sum, tail, sizeof(tail));
	}
	sum = ~pt_sum_add(sum, copy, n) & 0xffff;
	return sum == 0 && p->proto == 17 ? 0xffff : sum;
}

static inline uint32_t ps_get(const uint8_t *b, size_t at, size_t width)
{
	uint32_t v = 0;

	for (size_t i = 0; i < width; i++)
		v = v << 8 | b[at + i];
	return v;
}

static inline void ps_put(uint8_t *b, size_t at, size_t width, uint32_t v)
{
	for (size_t i = width; i-- > 0; v >>= 8)
		b[at + i] = (uint8_t)v;
}

static inline uint32_t ps_ip_sum(const uint8_t *b, const struct ps_packet *p)
{
	uint8_t copy[60];
	size_t n = (b[p->ip] & 15u) * 4u;

	memcpy(copy, b + p->ip, n);
	copy[10] = copy[11] = 0;
	return ~pt_sum_add(0, copy, n) & 0xffff;
}

/* UDP over IPv4 may do without. */
static inline bool ps_right(const uint8_t *b, size_t n)
{
	struct ps_packet p;
	size_t at, width;
	uint32_t got;

	if (!ps_look(b, n, &p))
		return false;
	if (!p.v6 && ps_get(b, p.ip + 10, 2) != ps_ip_sum(b, &p))
		return false;
	at = ps_sum_at(b, &p);
	width = p.proto == 132 ? 4 : 2;
	if (!at)
		return true;
	got = ps_get(b, at, width);
	if (p.proto == 17 && got == 0)
		return !p.v6;
	/* two ways to write nothing */
	return got == ps_sum(b, &p, at) || (width == 2 && got == 0xffff && ps_sum(b, &p, at) == 0);
}

static inline void ps_mend(uint8_t *b, size_t n)
{
	struct ps_packet p;
	size_t at;

	if (!ps_look(b, n, &p))
		return;
	if (!p.v6)
		ps_put(b, p.ip + 10, 2, ps_ip_sum(b, &p));
	at = ps_sum_at(b, &p);
	if (at)
		ps_put(b, at, p.proto == 132 ? 4 : 2, ps_sum(b, &p, at));
}
