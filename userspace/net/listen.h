/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets bound to an address and port, ready for the loop: close-on-exec, SO_REUSEADDR, and blocking (the ring
 * waits in their stead). Any thread. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "userspace/base/err.h"

#define LISTEN_BACKLOG 1024

/* "1.2.3.4", "::1", "fe80::1%eth0", "::" (which takes IPv4 too), or "" for any (:: where the host has IPv6, else
 * 0.0.0.0). -EINVAL. */
int listen_parse_address(const char *address, uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_len,
			 struct err *err);
/* Listening TCP socket; the error names address and port ("port 6443 is in use"). Port 0: the kernel chooses. */
int listen_tcp(const char *address, uint16_t port, int *ret_fd, struct err *err);
/* Bound UDP socket, with IP_PKTINFO / IPV6_RECVPKTINFO set, so that udp.h can answer from the address asked. */
int listen_udp(const char *address, uint16_t port, int *ret_fd, struct err *err);
/* The port a socket is bound to; negative errno. */
int listen_port(int fd);
/* Numeric text of an address; v4-mapped ones as IPv4. */
void listen_format_address(const struct sockaddr *addr, char *ret, size_t size, uint16_t *ret_port);
