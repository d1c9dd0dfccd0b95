/* SPDX-License-Identifier: Apache-2.0 */
/* Who is turned away when the server is full: silent connections, streams and idle ones of one user or address do not
 * lock out others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "tests/net/net_client.h"

#define CONNECTIONS 400 /* that the server takes */
#define FRESH (CONNECTIONS / 4)
#define CROWD 1200

static struct test_server t;
static struct client crowd[CROWD];

static void stream_closed(struct http_request *req)
{
}

static void handler(void *arg, struct http_request *req)
{
	struct str user = http_request_header(req, "x-user");

	if (user.n)
		http_request_set_owner(req, user);
	if (str_is(req->path, "/stream")) {
		req->on_close = stream_closed;
		http_stream_begin(req, 200, "application/json", NULL, 0);
	} else {
		http_respond(req, 200, "text/plain", NULL, 0, user);
	}
}

static void start(bool tls)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (size_t i = 0; i < CROWD; i++)
		crowd[i].fd = -1;
	t.tls = tls;
	t.options.handler = handler;
	t.options.limits.connections = CONNECTIONS;
	test_server_start(&t);
}

static int setup_plain(void **state)
{
	start(false);
	return 0;
}

static int setup_tls(void **state)
{
	start(true);
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < CROWD; i++)
		client_close(&crowd[i]);
	test_server_stop(&t);
	return 0;
}

static void get_stats(struct test_server *server, void *arg)
{
	http_server_get_stats(server->server, arg);
}

static struct http_server_stats stats(void)
{
	struct http_server_stats s;

	test_server_call(&t, get_stats, &s);
	return s;
}

static void ask(struct client *c, const char *path, const char *user)
{
	char text[256];

	if (user)
		snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\nX-User: %s\r\n\r\n", path, user);
	else
		snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
	client_send_text(c, text);
}

/* The status; 0 when the connection ended instead. */
static int answer(struct client *c, bool stream)
{
	struct client_response r;
	int status;

	client_read_response(c, &r, stream);
	status = r.status;
	client_response_finish(&r);
	return status;
}

static struct client connect_either(void)
{
	return t.tls ? client_connect_tls(t.port, NULL, NULL) : client_connect(t.port);
}

static void expect_served(const char *user)
{
	struct client c = connect_either();

	ask(&c, "/", user);
	assert_int_equal(answer(&c, false), 200);
	client_close(&c);
}

static bool is_closed(struct client *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

/* ---- who says nothing ---- */

static void silent_connections_lock_nobody_out(void **state)
{
	struct client settled = connect_either();
	struct http_server_stats s;

	ask(&settled, "/", "admin");
	assert_int_equal(answer(&settled, false), 200);
	for (size_t i = 0; i < CROWD; i++)
		crowd[i] = client_connect(t.port);
	expect_served("admin");
	expect_served("other");
	expect_served(NULL);
	s = stats();
	assert_true(s.connections <= FRESH + 4);
	assert_true(s.shed >= CROWD - FRESH);
	/* The oldest went first; who has had a request is not among them. */
	assert_true(is_closed(&crowd[0]));
	assert_false(is_closed(&crowd[CROWD - 1]));
	ask(&settled, "/", "admin");
	assert_int_equal(answer(&settled, false), 200);
	client_close(&settled);
}

static void half_a_header_is_no_request(void **state)
{
	for (size_t i = 0; i < CROWD; i++) {
		crowd[i] = client_connect(t.port);
		client_send_text(&crowd[i], i % 2 ? "GET / HTTP/1.1\r\nHo"
						  : "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
	}
	expect_served("admin");
	expect_served(NULL);
	assert_true(stats().connections <= FRESH + 2);
}

/* ---- who holds much ---- */

static void streams_of_one_user_lock_nobody_out(void **state)
{
	unsigned open = 0;

	for (size_t i = 0; i < CROWD; i++) {
		crowd[i] = connect_either();
		ask(&crowd[i], "/stream", "hog");
		answer(&crowd[i], true);
	}
	expect_served("admin");
	expect_served("other");
	expect_served(NULL);
	stats(); /* the last shedding is over */
	for (size_t i = 0; i < CROWD; i++)
		open += !is_closed(&crowd[i]);
	/* What is gone is the hog's own, and what it began first is still there. */
	assert_in_range(open, CONNECTIONS - FRESH - 3, CONNECTIONS - FRESH);
	assert_false(is_closed(&crowd[0]));
}

static void idle_ones_go_before_streams(void **state)
{
	const size_t idle = 10, full = CONNECTIONS - FRESH;

	for (size_t i = 0; i < full; i++) {
		crowd[i] = connect_either();
		ask(&crowd[i], i < full - idle ? "/stream" : "/", "hog");
		assert_int_equal(answer(&crowd[i], i < full - idle), 200);
	}
	expect_served("other");
	assert_true(client_recv(&crowd[full - idle], &(char){ 0 }, 1) <= 0);
	for (size_t i = 0; i < full; i++)
		assert_true(is_closed(&crowd[i]) == (i == full - idle));
}

static void a_small_holder_keeps_its_streams(void **state)
{
	struct client small = connect_either();

	ask(&small, "/stream", "small");
	assert_int_equal(answer(&small, true), 200);
	for (size_t i = 0; i < CROWD; i++) {
		/* Nameless ones count for their address. */
		crowd[i] = connect_either();
		ask(&crowd[i], "/stream", i % 2 ? NULL : "hog");
		answer(&crowd[i], true);
	}
	expect_served("other");
	assert_false(is_closed(&small));
	client_close(&small);
}

#define TEST(fn, setup) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(silent_connections_lock_nobody_out, setup_plain),
		TEST(silent_connections_lock_nobody_out, setup_tls),
		TEST(half_a_header_is_no_request, setup_plain),
		TEST(streams_of_one_user_lock_nobody_out, setup_plain),
		TEST(idle_ones_go_before_streams, setup_plain),
		TEST(a_small_holder_keeps_its_streams, setup_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
