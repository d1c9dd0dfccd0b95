/* SPDX-License-Identifier: Apache-2.0 */
/* UDP on the loop: answers leave from the address that was asked; and listening sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "userspace/base/clock.h"
#include "userspace/loop/loop.h"
#include "userspace/net/listen.h"
#include "userspace/net/udp.h"

static struct loop *loop;
static struct udp_server *server;
static int port;

static int setup(void **state)
{
	struct err err = ERR_INIT;

	return loop_create(NULL, &loop, &err);
}

static int teardown(void **state)
{
	udp_server_destroy(server);
	server = NULL;
	loop_destroy(loop);
	return 0;
}

static void echo(void *arg, struct udp_server *s, const struct udp_peer *peer, struct str datagram)
{
	udp_server_send(s, peer, datagram);
}

struct asker {
	struct loop_op send_op, recv_op;
	struct sockaddr_storage to, from;
	struct msghdr msg;
	struct iovec iov;
	char bytes[2000];
	int res;
};

static void on_answer(struct loop_op *op, int res, bool more)
{
	((struct asker *)((char *)op - offsetof(struct asker, recv_op)))->res = res;
	loop_stop(loop, 0);
}

static void on_sent(struct loop_op *op, int res, bool more)
{
	assert_int_equal(res, 1200);
}

static void ask(const char *address)
{
	struct asker a = { 0 };
	struct err err = ERR_INIT;
	socklen_t len;
	int fd;

	assert_int_equal(listen_parse_address(address, (uint16_t)port, &a.to, &len, &err), 0);
	fd = socket(a.to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	memset(a.bytes, 'q', 1200);
	/* Connected: an answer from another address would not arrive. */
	assert_int_equal(connect(fd, (struct sockaddr *)&a.to, len), 0);
	loop_send(loop, &a.send_op, fd, a.bytes, 1200, on_sent);
	a.iov.iov_base = a.bytes;
	a.iov.iov_len = sizeof(a.bytes);
	a.msg = (struct msghdr){
		.msg_name = &a.from, .msg_namelen = sizeof(a.from), .msg_iov = &a.iov, .msg_iovlen = 1
	};
	loop_recvmsg(loop, &a.recv_op, fd, &a.msg, on_answer);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(a.res, 1200);
	close(fd);
}

static void serve(const char *address)
{
	struct err err = ERR_INIT;
	int fd;

	assert_int_equal(listen_udp(address, 0, &fd, &err), 0);
	port = listen_port(fd);
	assert_int_equal(udp_server_create(loop, fd, echo, NULL, &server, &err), 0);
}

static void test_answers_from_the_address_asked(void **state)
{
	serve("0.0.0.0");
	for (int i = 0; i < 20; i++) {
		ask("127.0.0.1");
		ask("127.0.0.77");
	}
}

static void test_any_address(void **state)
{
	struct err err = ERR_INIT;
	int fd;

	serve("");
	ask("127.0.0.55");
	if (listen_udp("::1", 0, &fd, &err) == 0) {
		close(fd);
		ask("::1");
	}
	err_finish(&err);
}

static void test_listen_errors(void **state)
{
	struct err err = ERR_INIT;
	int fd, second = -1;

	assert_int_equal(listen_tcp("127.0.0.1", 0, &fd, &err), 0);
	assert_true(listen_port(fd) > 0);
	assert_int_equal(listen_tcp("127.0.0.1", (uint16_t)listen_port(fd), &second, &err), -EADDRINUSE);
	assert_non_null(strstr(err_message(&err), "is in use"));
	assert_int_equal(second, -1);
	assert_int_equal(listen_tcp("not an address", 1, &second, &err), -EINVAL);
	close(fd);
	err_finish(&err);
}

static void test_format_address(void **state)
{
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = htons(7) };
	char text[64];
	uint16_t n;

	inet_pton(AF_INET6, "::ffff:10.1.2.3", &mapped.sin6_addr);
	listen_format_address((struct sockaddr *)&mapped, text, sizeof(text), &n);
	assert_string_equal(text, "10.1.2.3");
	assert_int_equal(n, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers_from_the_address_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_any_address, setup, teardown),
		cmocka_unit_test(test_listen_errors),
		cmocka_unit_test(test_format_address),
	};

	return cmocka_run_group_tests_name("udp and listen", tests, NULL, NULL);
}
