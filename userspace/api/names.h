/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, networks and the small grammars around them, parsed as upstream does (no leading zeros in
 * IPv4, no zones). The checks of names that return upstream's messages stand in validate.h. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/str.h"

#define NAMES_ADDRESS_MAX 46 /* text of an address with its zero */
#define NAMES_CIDR_MAX 50

struct names_ip {
	int family;        /* 4 or 6 */
	uint8_t bytes[16]; /* network order; IPv4 uses the first four */
};

struct names_cidr {
	struct names_ip ip; /* as written: host bits may be set */
	unsigned prefix;
};

/* -EINVAL */
int names_parse_ip(struct str s, struct names_ip *ret);
int names_parse_cidr(struct str s, struct names_cidr *ret);
/* Canonical text; returns the length. */
size_t names_format_ip(const struct names_ip *ip, char ret[static NAMES_ADDRESS_MAX]);
bool names_ip_eq(const struct names_ip *a, const struct names_ip *b);
bool names_ip_is_loopback(const struct names_ip *ip);
bool names_ip_is_unspecified(const struct names_ip *ip);
bool names_ip_is_link_local(const struct names_ip *ip); /* unicast and multicast */
/* Clears the host bits. */
void names_cidr_mask(struct names_cidr *c);
bool names_cidr_contains(const struct names_cidr *c, const struct names_ip *ip);
/* `inner` lies within `outer`. */
bool names_cidr_covers(const struct names_cidr *outer, const struct names_cidr *inner);

/* NULL when good, else upstream's text after `Invalid value: `. */
const char *names_port_number(int64_t port); /* `must be between 1 and 65535, inclusive` */
/* DNS-1123 subdomain that may begin with "*.", as ingress hosts may. */
const char *names_wildcard_subdomain(struct str s);

/* An image reference's tag decides the pull policy: true for `:latest` and for no tag and no digest. */
bool names_image_is_latest(struct str image);
