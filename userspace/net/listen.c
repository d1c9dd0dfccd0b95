/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets bound to an address and port. Any thread. */
#include "userspace/net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/mem.h"

static bool host_has_ipv6(void)
{
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };

	return fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0;
}

int listen_parse_address(const char *address, uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_len,
			 struct err *err)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool any = !address || !*address;
	const char *scope = any ? NULL : strchr(address, '%');
	char bare[INET6_ADDRSTRLEN];

	if (scope && (size_t)(scope - address) < sizeof(bare)) {
		memcpy(bare, address, (size_t)(scope - address));
		bare[scope - address] = '\0';
		v6.sin6_scope_id = if_nametoindex(scope + 1);
		if (!v6.sin6_scope_id || inet_pton(AF_INET6, bare, &v6.sin6_addr) != 1)
			return err_set(err, -EINVAL, "\"%s\" is not an IP address of a link", address);
		address = bare;
	}
	if ((any && !host_has_ipv6()) || (!any && inet_pton(AF_INET, address, &v4.sin_addr) == 1)) {
		memset(ret, 0, sizeof(*ret));
		memcpy(ret, &v4, sizeof(v4));
		*ret_len = sizeof(v4);
		return 0;
	}
	if (any || inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
		memset(ret, 0, sizeof(*ret));
		memcpy(ret, &v6, sizeof(v6));
		*ret_len = sizeof(v6);
		return 0;
	}
	return err_set(err, -EINVAL, "\"%s\" is not an IP address", address);
}

static int bound_socket(int type, const char *address, uint16_t port, int *ret_fd, struct err *err)
{
	const char *protocol = type == SOCK_STREAM ? "TCP" : "UDP";
	const char *shown = address && *address ? address : "any address";
	struct sockaddr_storage addr;
	_cleanup_close_ int fd = -1;
	int one = 1, only;
	socklen_t len;
	int r;

	r = listen_parse_address(address, port, &addr, &len, err);
	if (r < 0)
		return r;
	fd = socket(addr.ss_family, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a %s socket: %s", protocol, strerror(errno));
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (addr.ss_family == AF_INET6) {
		only = !IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&addr)->sin6_addr);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	}
	if (bind(fd, (struct sockaddr *)&addr, len) < 0) {
		r = -errno;
		if (r == -EADDRINUSE)
			return err_set(err, r, "%s port %u on %s is in use", protocol, port, shown);
		return err_set(err, r, "cannot bind %s port %u on %s: %s", protocol, port, shown, strerror(-r));
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int listen_tcp(const char *address, uint16_t port, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int one = 1;
	int r;

	r = bound_socket(SOCK_STREAM, address, port, &fd, err);
	if (r < 0)
		return r;
	/* Inherited by what it accepts. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return err_set(err, -errno, "cannot listen on TCP port %u: %s", port, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int listen_udp(const char *address, uint16_t port, int *ret_fd, struct err *err)
{
	int one = 1;
	int r, fd;

	r = bound_socket(SOCK_DGRAM, address, port, &fd, err);
	if (r < 0)
		return r;
	/* Each fails on the other's family; v4-mapped datagrams on an IPv6 socket need both. */
	setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));
	*ret_fd = fd;
	return 0;
}

int listen_port(int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -errno;
	if (addr.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&addr)->sin_port);
	if (addr.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
	return -EAFNOSUPPORT;
}

void listen_format_address(const struct sockaddr *addr, char *ret, size_t size, uint16_t *ret_port)
{
	uint16_t port = 0;

	ret[0] = '\0';
	if (addr->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;

		inet_ntop(AF_INET, &v4->sin_addr, ret, (socklen_t)size);
		port = ntohs(v4->sin_port);
	} else if (addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;

		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
			inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], ret, (socklen_t)size);
		else
			inet_ntop(AF_INET6, &v6->sin6_addr, ret, (socklen_t)size);
		port = ntohs(v6->sin6_port);
	}
	if (ret_port)
		*ret_port = port;
}
