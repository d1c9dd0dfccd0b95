/* SPDX-License-Identifier: Apache-2.0 */
/* See node_address.h. */
#include "userspace/cmd/node_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/in6.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "userspace/base/mem.h"
#include "userspace/cmd/config.h"
#include "userspace/net/listen.h"
#include "userspace/netctl/address.h"

static bool node_address_lasting(const struct sockaddr *sa)
{
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;
	const struct in_addr *v4 = &((const struct sockaddr_in *)sa)->sin_addr;

	if (sa->sa_family == AF_INET)
		return (ntohl(v4->s_addr) >> 24) != 127 && v4->s_addr;
	return sa->sa_family == AF_INET6 && !IN6_IS_ADDR_LOOPBACK(v6) && !IN6_IS_ADDR_LINKLOCAL(v6) &&
	       !IN6_IS_ADDR_UNSPECIFIED(v6) && !IN6_IS_ADDR_V4MAPPED(v6);
}

/* An address that others may know the node by: of the host, not of what was made here. */
static bool node_address_usable(const struct config *c, const struct sockaddr *sa, struct dp_addr *ret)
{
	static const char *const fallbacks[] = { NODE_ADDRESS_FALLBACK, NODE_ADDRESS_FALLBACK_V6 };
	char text[NODE_ADDRESS_MAX];
	uint16_t port;
	struct dp_addr a;

	if (!node_address_lasting(sa))
		return false;
	listen_format_address(sa, text, sizeof(text), &port);
	if (address_parse(str_of(text), &a) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(fallbacks); i++)
		if (strcmp(text, fallbacks[i]) == 0)
			return false;
	for (int f = 0; f < DP_FAMILIES; f++)
		if ((c->pod_nets[f].bits && address_in(&a, &c->pod_nets[f].addr, c->pod_nets[f].bits)) ||
		    (c->service_nets[f].bits && address_in(&a, &c->service_nets[f].addr, c->service_nets[f].bits)))
			return false;
	*ret = a;
	return true;
}

/* Connecting a datagram socket sends nothing, but asks the routing table for the source. The destinations (RFC 5737,
 * RFC 3849: for documentation) only stand for "somewhere else". */
static bool node_address_of_default_route(const struct config *c, enum dp_family family, struct dp_addr *ret)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(9) };
	bool is_v4 = family == DP_V4;
	_cleanup_close_ int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* One that lasts, not one of those that change every day. */
	int lasting = IPV6_PREFER_SRC_PUBLIC;
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);

	if (fd < 0)
		return false;
	inet_pton(AF_INET, "203.0.113.1", &v4.sin_addr);
	inet_pton(AF_INET6, "2001:db8::1", &v6.sin6_addr);
	if (!is_v4)
		setsockopt(fd, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, &lasting, sizeof(lasting));
	return connect(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, is_v4 ? sizeof(v4) : sizeof(v6)) ==
		       0 &&
	       getsockname(fd, (struct sockaddr *)&from, &len) == 0 &&
	       node_address_usable(c, (struct sockaddr *)&from, ret);
}

static bool node_address_of_link(const struct config *c, enum dp_family family, struct dp_addr *ret)
{
	struct ifaddrs *list;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return false;
	for (struct ifaddrs *a = list; a && !found; a = a->ifa_next)
		found = a->ifa_addr && a->ifa_addr->sa_family == (family == DP_V4 ? AF_INET : AF_INET6) &&
			(a->ifa_flags & IFF_UP) && !(a->ifa_flags & IFF_LOOPBACK) &&
			strncmp(a->ifa_name, "k3c", 3) != 0 && node_address_usable(c, a->ifa_addr, ret);
	freeifaddrs(list);
	return found;
}

static void node_address_find(const struct config *c, enum dp_family family, struct node_addresses *ret)
{
	struct dp_addr *a = &ret->addrs[family];

	if (!address_is_zero(&c->node_ips[family])) {
		*a = c->node_ips[family];
	} else if (!node_address_of_default_route(c, family, a) && !node_address_of_link(c, family, a)) {
		address_parse(str_of(family == DP_V4 ? NODE_ADDRESS_FALLBACK : NODE_ADDRESS_FALLBACK_V6), a);
		ret->fallback[family] = true;
	}
	address_format(a, ret->texts[ret->n++]);
}

void node_addresses_find(const struct config *c, struct node_addresses *ret)
{
	struct node_addresses found = { .n = 0 };

	for (unsigned i = 0; i < DP_FAMILIES; i++) {
		enum dp_family family = (c->primary + i) % DP_FAMILIES;

		if (config_has_family(c, family))
			node_address_find(c, family, &found);
	}
	*ret = found;
}

bool node_addresses_equal(const struct node_addresses *a, const struct node_addresses *b)
{
	return memcmp(a->addrs, b->addrs, sizeof(a->addrs)) == 0;
}
