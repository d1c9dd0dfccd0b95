/* SPDX-License-Identifier: Apache-2.0 */
/* UDP server socket on the loop: datagrams in, answers out from the address they were sent to. Loop thread.
 *
 * For TCP servers that are not HTTP (DNS over TCP): loop_accept_multishot() on a listen_tcp() socket, then
 * loop_recv() and loop_send().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "userspace/base/err.h"
#include "userspace/base/str.h"

struct loop;
struct udp_server;

#define UDP_DATAGRAM_BYTES_MAX 4096 /* longer ones are cut off by the kernel and dropped here */
#define UDP_RECEIVERS 4             /* receives in flight */
#define UDP_SENDS_MAX 256           /* answers in flight; beyond: dropped, as the network may */

/* Who asked, and at which of our addresses. Plain data: copy it to answer later. */
struct udp_peer {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	struct sockaddr_storage local; /* ss_family 0: unknown */
	int ifindex;
};

typedef void udp_receive_fn(void *arg, struct udp_server *server, const struct udp_peer *peer, struct str datagram);

/* Takes the descriptor (see listen_udp()). */
int udp_server_create(struct loop *loop, int fd, udp_receive_fn *receive, void *arg, struct udp_server **ret,
		      struct err *err);
/* Copies. Errors of the network are dropped. */
void udp_server_send(struct udp_server *server, const struct udp_peer *peer, struct str datagram);
/* Frees itself when the ring has let go of its buffers. Takes NULL. */
void udp_server_destroy(struct udp_server *server);
