/* SPDX-License-Identifier: Apache-2.0 */
/* UDP on the loop: a few receives always in flight, each with its own buffer; answers are copied and sent from the
 * address that was asked, so that a host with many addresses answers as it was called. Loop thread. */
#include "userspace/net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

#define CONTROL_BYTES 256
#define RETRY_NS 100000000 /* after an error that would only repeat */

struct receiver {
	struct udp_server *server;
	struct loop_op op;
	struct loop_timer retry;
	struct msghdr msg;
	struct iovec iov;
	struct udp_peer peer;
	char control[CONTROL_BYTES];
	char data[UDP_DATAGRAM_BYTES_MAX];
};

struct sender {
	struct udp_server *server;
	struct loop_op op;
	struct msghdr msg;
	struct iovec iov;
	struct sockaddr_storage addr;
	char control[CONTROL_BYTES];
	char data[];
};

struct udp_server {
	struct loop *loop;
	int fd;
	bool dead;
	udp_receive_fn *receive;
	void *arg;
	unsigned refs; /* operations in flight, and the owner */
	unsigned sends;
	struct receiver receivers[UDP_RECEIVERS];
};

static void unref(struct udp_server *server)
{
	if (--server->refs)
		return;
	close(server->fd);
	free(server);
}

static void read_control(struct msghdr *msg, struct udp_peer *peer)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			struct sockaddr_in *local = (struct sockaddr_in *)&peer->local;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			/* On an IPv6 socket the IPv6 form of it comes too, and is what sending there takes. */
			if (peer->addr.ss_family != AF_INET)
				continue;
			local->sin_family = AF_INET;
			local->sin_addr = info.ipi_spec_dst;
			peer->ifindex = info.ipi_ifindex;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;
			struct sockaddr_in6 *local = (struct sockaddr_in6 *)&peer->local;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			local->sin6_family = AF_INET6;
			local->sin6_addr = info.ipi6_addr;
			peer->ifindex = (int)info.ipi6_ifindex;
		}
	}
}

static void received(struct loop_op *op, int res, bool more);

static void receive(struct receiver *r)
{
	r->peer = (struct udp_peer){ 0 };
	r->iov = (struct iovec){ r->data, sizeof(r->data) };
	r->msg = (struct msghdr){
		.msg_name = &r->peer.addr,
		.msg_namelen = sizeof(r->peer.addr),
		.msg_iov = &r->iov,
		.msg_iovlen = 1,
		.msg_control = r->control,
		.msg_controllen = sizeof(r->control),
	};
	r->server->refs++;
	loop_recvmsg(r->server->loop, &r->op, r->server->fd, &r->msg, received);
}

static void receive_again(struct loop_timer *timer)
{
	receive(container_of(timer, struct receiver, retry));
}

static void received(struct loop_op *op, int res, bool more)
{
	struct receiver *r = container_of(op, struct receiver, op);
	struct udp_server *server = r->server;

	if (!server->dead && res >= 0 && !(r->msg.msg_flags & MSG_TRUNC)) {
		r->peer.addr_len = r->msg.msg_namelen;
		read_control(&r->msg, &r->peer);
		server->receive(server->arg, server, &r->peer, str_make(r->data, (size_t)res));
	}
	if (!server->dead) {
		/* ICMP errors of earlier answers show up here once each: go on. */
		if (res >= 0 || res == -ECONNREFUSED || res == -EHOSTUNREACH || res == -ENETUNREACH)
			receive(r);
		else
			loop_timer_arm(server->loop, &r->retry, RETRY_NS);
	}
	unref(server);
}

int udp_server_create(struct loop *loop, int fd, udp_receive_fn *fn, void *arg, struct udp_server **ret,
		      struct err *err)
{
	struct udp_server *server = mem_new(struct udp_server);

	server->loop = loop;
	server->fd = fd;
	server->receive = fn;
	server->arg = arg;
	server->refs = 1;
	for (int i = 0; i < UDP_RECEIVERS; i++) {
		server->receivers[i].server = server;
		loop_timer_init(&server->receivers[i].retry, receive_again);
		receive(&server->receivers[i]);
	}
	*ret = server;
	return 0;
}

static void sent(struct loop_op *op, int res, bool more)
{
	struct sender *s = container_of(op, struct sender, op);
	struct udp_server *server = s->server;

	if (res < 0 && res != -ECANCELED)
		log_debug("UDP answer lost error=%s", strerror(-res));
	free(s);
	server->sends--;
	unref(server);
}

/* The source address: what the datagram was sent to. */
static void write_control(struct sender *s, const struct udp_peer *peer)
{
	struct cmsghdr *c = (struct cmsghdr *)s->control;

	if (peer->local.ss_family == AF_INET) {
		struct in_pktinfo info = { .ipi_spec_dst = ((const struct sockaddr_in *)&peer->local)->sin_addr };

		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		s->msg.msg_controllen = CMSG_SPACE(sizeof(info));
	} else if (peer->local.ss_family == AF_INET6) {
		struct in6_pktinfo info = { .ipi6_addr = ((const struct sockaddr_in6 *)&peer->local)->sin6_addr };

		if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
			info.ipi6_ifindex = (unsigned)peer->ifindex;
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		s->msg.msg_controllen = CMSG_SPACE(sizeof(info));
	} else {
		return;
	}
	s->msg.msg_control = s->control;
}

void udp_server_send(struct udp_server *server, const struct udp_peer *peer, struct str datagram)
{
	struct sender *s;

	if (server->dead || server->sends >= UDP_SENDS_MAX || datagram.n > UINT16_MAX)
		return;
	s = mem_zalloc(sizeof(*s) + datagram.n);
	s->server = server;
	s->addr = peer->addr;
	memcpy(s->data, datagram.p, datagram.n);
	s->iov = (struct iovec){ s->data, datagram.n };
	s->msg = (struct msghdr){
		.msg_name = &s->addr,
		.msg_namelen = peer->addr_len,
		.msg_iov = &s->iov,
		.msg_iovlen = 1,
	};
	write_control(s, peer);
	server->refs++;
	server->sends++;
	loop_sendmsg(server->loop, &s->op, server->fd, &s->msg, sent);
}

void udp_server_destroy(struct udp_server *server)
{
	if (!server)
		return;
	server->dead = true;
	for (int i = 0; i < UDP_RECEIVERS; i++) {
		loop_timer_cancel(server->loop, &server->receivers[i].retry);
		loop_cancel(server->loop, &server->receivers[i].op);
	}
	unref(server);
}
