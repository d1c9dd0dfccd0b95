/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses of a service range are taken. Nothing is stored: the set is rebuilt from the Services.
 * Loop thread. */
#include <errno.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define IP_RANGE_SIZE_MAX (1u << 20) /* of a larger range only the first part is handed out */
#define IP_RANGE_STATIC_MAX 256      /* low addresses that are left to those who name theirs */

int ip_range_init(struct ip_range *r, struct str cidr, struct err *err)
{
	unsigned bits;

	*r = (struct ip_range){ 0 };
	if (names_parse_cidr(cidr, &r->cidr) < 0)
		return err_set(err, -EINVAL, "service CIDR \"%.*s\" is not a network", STR_ARG(cidr));
	names_cidr_mask(&r->cidr);
	bits = (r->cidr.ip.family == 4 ? 32 : 128) - r->cidr.prefix;
	if (bits < 3)
		return err_set(err, -EINVAL, "service CIDR \"%.*s\" is too small", STR_ARG(cidr));
	r->size = bits >= 20 ? IP_RANGE_SIZE_MAX : 1u << bits;
	if (r->cidr.ip.family == 4)
		r->size--; /* the broadcast address */
	return 0;
}

void ip_range_finish(struct ip_range *r)
{
	map_finish(&r->used);
}

bool ip_range_contains(const struct ip_range *r, const struct names_ip *ip)
{
	return ip->family == r->cidr.ip.family && names_cidr_contains(&r->cidr, ip);
}

bool ip_range_used(const struct ip_range *r, struct str text)
{
	return map_has(&r->used, text);
}

void ip_range_take(struct ip_range *r, struct str text)
{
	map_put(&r->used, text, r);
}

void ip_range_release(struct ip_range *r, struct str text)
{
	map_remove(&r->used, text);
}

void ip_range_at(const struct ip_range *r, uint64_t i, char ret[static NAMES_ADDRESS_MAX])
{
	struct names_ip ip = r->cidr.ip;

	for (int at = ip.family == 4 ? 3 : 15; at >= 0 && i > 0; at--) {
		i += ip.bytes[at];
		ip.bytes[at] = (uint8_t)i;
		i >>= 8;
	}
	names_format_ip(&ip, ret);
}

int ip_range_find(struct ip_range *r, char ret[static NAMES_ADDRESS_MAX])
{
	uint64_t low = r->size / 16 < IP_RANGE_STATIC_MAX ? r->size / 16 : IP_RANGE_STATIC_MAX;
	uint64_t start, span;
	uint32_t random;

	if (low < 2)
		low = 2;
	span = r->size - low;
	random_bytes(&random, sizeof(random));
	start = random % span;
	for (uint64_t i = 0; i < span; i++) {
		ip_range_at(r, low + (start + i) % span, ret);
		if (!ip_range_used(r, str_of(ret)))
			return 0;
	}
	for (uint64_t i = 2; i < low; i++) {
		ip_range_at(r, i, ret);
		if (!ip_range_used(r, str_of(ret)))
			return 0;
	}
	return -ENOSPC;
}
