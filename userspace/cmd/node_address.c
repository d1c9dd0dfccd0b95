/* SPDX-License-Identifier: Apache-2.0 */
/* See node_address.h. */
#include "userspace/cmd/node_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connecting a datagram socket sends nothing, but asks the routing table for the source. The destination (RFC 5737,
 * TEST-NET-3) only stands for "somewhere else". */
static bool node_address_of_default_route(char ret[static NODE_ADDRESS_MAX])
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) }, from;
	socklen_t len = sizeof(from);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok;

	inet_pton(AF_INET, "203.0.113.1", &to.sin_addr);
	ok = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
	     getsockname(fd, (struct sockaddr *)&from, &len) == 0 && (ntohl(from.sin_addr.s_addr) >> 24) != 127 &&
	     inet_ntop(AF_INET, &from.sin_addr, ret, NODE_ADDRESS_MAX);
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool node_address_of_link(char ret[static NODE_ADDRESS_MAX])
{
	struct ifaddrs *list;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return false;
	for (struct ifaddrs *a = list; a && !found; a = a->ifa_next) {
		if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET || !(a->ifa_flags & IFF_UP) ||
		    (a->ifa_flags & IFF_LOOPBACK) || strncmp(a->ifa_name, "k3c", 3) == 0)
			continue;
		found = inet_ntop(AF_INET, &((struct sockaddr_in *)a->ifa_addr)->sin_addr, ret, NODE_ADDRESS_MAX) !=
			NULL;
	}
	freeifaddrs(list);
	return found;
}

void node_address_find(char ret[static NODE_ADDRESS_MAX])
{
	if (!node_address_of_default_route(ret) && !node_address_of_link(ret))
		snprintf(ret, NODE_ADDRESS_MAX, "%s", NODE_ADDRESS_FALLBACK);
}
