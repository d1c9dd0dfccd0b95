/* SPDX-License-Identifier: Apache-2.0 */
/* See address.h. */
#include "userspace/netctl/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define ADDRESS_V4_BITS 96 /* the mapped prefix before an IPv4 address */

static const uint8_t address_mapped[12] = { [10] = 0xff, [11] = 0xff };

int address_parse(struct str text, struct dp_addr *ret)
{
	char s[ADDRESS_TEXT_MAX];
	struct dp_addr a;

	if (!text.n || text.n >= sizeof(s))
		return -EINVAL;
	memcpy(s, text.p, text.n);
	s[text.n] = '\0';
	memcpy(a.b, address_mapped, sizeof(address_mapped));
	if (inet_pton(AF_INET, s, a.b + 12) != 1 && inet_pton(AF_INET6, s, a.b) != 1)
		return -EINVAL;
	*ret = a;
	return 0;
}

static void address_clear_host_bits(struct dp_addr *a, unsigned len)
{
	for (unsigned bit = len; bit < 128; bit++)
		a->b[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

int address_parse_prefix(struct str text, struct dp_addr *ret, uint8_t *ret_len)
{
	struct str len = text, addr;
	struct dp_addr a;
	uint64_t bits;
	bool v4;

	if (!str_split(&len, '/', &addr) || address_parse(addr, &a) < 0 || str_to_uint64(len, &bits) < 0)
		return -EINVAL;
	v4 = str_find(addr, ':') < 0;
	if (bits > (v4 ? 32 : 128))
		return -EINVAL;
	if (v4)
		bits += ADDRESS_V4_BITS;
	address_clear_host_bits(&a, (unsigned)bits);
	*ret = a;
	*ret_len = (uint8_t)bits;
	return 0;
}

void address_format(const struct dp_addr *a, char ret[static ADDRESS_TEXT_MAX])
{
	if (memcmp(a->b, address_mapped, sizeof(address_mapped)) == 0)
		inet_ntop(AF_INET, a->b + 12, ret, ADDRESS_TEXT_MAX);
	else
		inet_ntop(AF_INET6, a->b, ret, ADDRESS_TEXT_MAX);
}

bool address_is_zero(const struct dp_addr *a)
{
	static const struct dp_addr zero, zero_v4 = { .b = { [10] = 0xff, [11] = 0xff } };

	return address_equal(a, &zero) || address_equal(a, &zero_v4);
}

bool address_is_loopback(const struct dp_addr *a)
{
	static const struct dp_addr one = { .b = { [15] = 1 } };

	return address_family(a) == DP_V4 ? a->b[12] == 127 : address_equal(a, &one);
}

enum dp_family address_family(const struct dp_addr *a)
{
	return memcmp(a->b, address_mapped, sizeof(address_mapped)) == 0 ? DP_V4 : DP_V6;
}

struct dp_addr address_any(enum dp_family family)
{
	struct dp_addr a = { 0 };

	if (family == DP_V4)
		memcpy(a.b, address_mapped, sizeof(address_mapped));
	return a;
}

int address_parse_families(struct str text, struct dp_addr ret[static DP_FAMILIES], enum dp_family *ret_primary)
{
	struct dp_addr found[DP_FAMILIES] = { 0 }, a;
	enum dp_family primary = DP_V4;
	unsigned n = 0;
	struct str part;

	for (; str_split(&text, ',', &part); n++) {
		if (n == DP_FAMILIES)
			return -E2BIG;
		if (address_parse(part, &a) < 0 || address_is_zero(&a))
			return -EINVAL;
		if (!address_is_zero(&found[address_family(&a)]))
			return -EEXIST;
		found[address_family(&a)] = a;
		primary = n ? primary : address_family(&a);
	}
	if (!n)
		return -EINVAL;
	memcpy(ret, found, sizeof(found));
	*ret_primary = primary;
	return 0;
}

int address_parse_prefix_families(struct str text, struct dp_net ret[static DP_FAMILIES], enum dp_family *ret_primary)
{
	struct dp_net found[DP_FAMILIES] = { 0 }, net;
	enum dp_family primary = DP_V4, family;
	unsigned n = 0;
	struct str part;

	for (; str_split(&text, ',', &part); n++) {
		if (n == DP_FAMILIES)
			return -E2BIG;
		if (address_parse_prefix(part, &net.addr, &net.bits) < 0 || !net.bits)
			return -EINVAL;
		family = address_family(&net.addr);
		if (found[family].bits)
			return -EEXIST;
		found[family] = net;
		primary = n ? primary : family;
	}
	if (!n)
		return -EINVAL;
	memcpy(ret, found, sizeof(found));
	*ret_primary = primary;
	return 0;
}

bool address_equal(const struct dp_addr *a, const struct dp_addr *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool address_in(const struct dp_addr *a, const struct dp_addr *prefix, uint8_t len)
{
	struct dp_addr masked = *a;

	/* ::/0 and its like contain the mapped addresses only by the way these are written. */
	if (len < ADDRESS_V4_BITS && address_family(a) == DP_V4)
		return false;
	address_clear_host_bits(&masked, len);
	return address_equal(&masked, prefix);
}
