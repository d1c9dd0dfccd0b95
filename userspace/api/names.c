/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, networks and small grammars. No state. Any thread. */
#include "userspace/api/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "userspace/api/validate.h"

/* inet_pton refuses leading zeros in IPv4, as upstream does; a zone is refused by its '%'. */
int names_parse_ip(struct str s, struct names_ip *ret)
{
	struct names_ip ip = { 0 };
	char text[NAMES_ADDRESS_MAX];

	if (!s.n || s.n >= sizeof(text) || memchr(s.p, 0, s.n))
		return -EINVAL;
	memcpy(text, s.p, s.n);
	text[s.n] = 0;
	if (memchr(text, ':', s.n)) {
		if (inet_pton(AF_INET6, text, ip.bytes) != 1)
			return -EINVAL;
		ip.family = 6;
	} else {
		if (inet_pton(AF_INET, text, ip.bytes) != 1)
			return -EINVAL;
		ip.family = 4;
	}
	*ret = ip;
	return 0;
}

int names_parse_cidr(struct str s, struct names_cidr *ret)
{
	long slash = str_find(s, '/');
	struct names_cidr c;
	uint64_t prefix;
	struct str bits;

	if (slash < 0 || names_parse_ip(str_make(s.p, (size_t)slash), &c.ip) < 0)
		return -EINVAL;
	bits = str_make(s.p + slash + 1, s.n - (size_t)slash - 1);
	if (!bits.n || bits.n > 3 || (bits.n > 1 && bits.p[0] == '0') || str_to_uint64(bits, &prefix) < 0 ||
	    prefix > (c.ip.family == 4 ? 32 : 128))
		return -EINVAL;
	c.prefix = (unsigned)prefix;
	*ret = c;
	return 0;
}

size_t names_format_ip(const struct names_ip *ip, char ret[static NAMES_ADDRESS_MAX])
{
	if (!inet_ntop(ip->family == 4 ? AF_INET : AF_INET6, ip->bytes, ret, NAMES_ADDRESS_MAX))
		ret[0] = 0;
	return strlen(ret);
}

bool names_ip_eq(const struct names_ip *a, const struct names_ip *b)
{
	return a->family == b->family && !memcmp(a->bytes, b->bytes, a->family == 4 ? 4 : 16);
}

bool names_ip_is_loopback(const struct names_ip *ip)
{
	static const uint8_t one[16] = { [15] = 1 };

	return ip->family == 4 ? ip->bytes[0] == 127 : !memcmp(ip->bytes, one, 16);
}

bool names_ip_is_unspecified(const struct names_ip *ip)
{
	static const uint8_t zero[16];

	return !memcmp(ip->bytes, zero, ip->family == 4 ? 4 : 16);
}

bool names_ip_is_link_local(const struct names_ip *ip)
{
	const uint8_t *b = ip->bytes;

	if (ip->family == 4)
		return (b[0] == 169 && b[1] == 254) || (b[0] == 224 && b[1] == 0 && b[2] == 0);
	return (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) || (b[0] == 0xff && (b[1] & 0x0f) == 0x02);
}

void names_cidr_mask(struct names_cidr *c)
{
	unsigned bytes = c->ip.family == 4 ? 4 : 16;

	for (unsigned i = 0; i < bytes; i++) {
		unsigned first = i * 8;

		if (first >= c->prefix)
			c->ip.bytes[i] = 0;
		else if (c->prefix - first < 8)
			c->ip.bytes[i] &= (uint8_t)(0xff << (8 - (c->prefix - first)));
	}
}

bool names_cidr_contains(const struct names_cidr *c, const struct names_ip *ip)
{
	struct names_cidr a = *c, b = { *ip, c->prefix };

	if (c->ip.family != ip->family)
		return false;
	names_cidr_mask(&a);
	names_cidr_mask(&b);
	return names_ip_eq(&a.ip, &b.ip);
}

bool names_cidr_covers(const struct names_cidr *outer, const struct names_cidr *inner)
{
	return inner->prefix >= outer->prefix && names_cidr_contains(outer, &inner->ip);
}

const char *names_port_number(int64_t port)
{
	return port >= 1 && port <= 65535 ? NULL : "must be between 1 and 65535, inclusive";
}

const char *names_wildcard_subdomain(struct str s)
{
	if (!str_starts(s, STR("*.")))
		return validate_dns1123_subdomain(s);
	if (validate_dns1123_subdomain(str_make(s.p + 2, s.n - 2)))
		return "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which "
		       "must "
		       "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric "
		       "character "
		       "(e.g. '*.example.com', regex used for validation is "
		       "'\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
	return NULL;
}

bool names_image_is_latest(struct str image)
{
	size_t slash = 0;
	long colon;

	if (str_find(image, '@') >= 0)
		return false;
	for (size_t i = 0; i < image.n; i++)
		if (image.p[i] == '/')
			slash = i + 1;
	/* A colon before the last slash is a registry's port. */
	colon = str_find(str_make(image.p + slash, image.n - slash), ':');
	if (colon < 0)
		return true;
	return str_is(str_make(image.p + slash + (size_t)colon + 1, image.n - slash - (size_t)colon - 1), "latest");
}
