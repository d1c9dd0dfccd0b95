/* SPDX-License-Identifier: Apache-2.0 */
/* The server over HTTP/1.1 from a blocking client's side: requests, bodies, pipelining, streaming, limits, slow peers,
 * upgrades, shutdown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/net/net_client.h"
#include "userspace/base/clock.h"
#include "userspace/net/websocket.h"

#define BIG_BYTES (2 * 1024 * 1024)

static struct test_server t;
static struct http_request *held; /* the loop thread's */
static sem_t held_ready, closed, drained;
static struct chunk *big;

/* ---- the handler ---- */

static void on_held_close(struct http_request *req)
{
	held = NULL;
	sem_post(&closed);
}

static void on_held_drain(struct http_request *req)
{
	sem_post(&drained);
}

static void echo_message(struct websocket *ws, enum websocket_opcode opcode, struct str data)
{
	if (str_is(data, "close-me"))
		websocket_close(ws, WEBSOCKET_STATUS_NORMAL, STR("as asked"));
	else
		websocket_send(ws, opcode, data);
}

static void echo_close(struct websocket *ws, unsigned status)
{
	sem_post(&closed);
}

static const struct websocket_ops echo_ops = { .on_message = echo_message, .on_close = echo_close };

static void tunnel_data(struct http_tunnel *tunnel, struct str data)
{
	http_tunnel_write(tunnel, data);
	if (memchr(data.p, '!', data.n))
		http_tunnel_close(tunnel);
}

static void tunnel_close(struct http_tunnel *tunnel)
{
	sem_post(&closed);
}

static void handle_upgrade(struct http_request *req)
{
	static const struct http_header upgrade = { { "Upgrade", 7 }, { "raw", 3 } };
	static const char *const protocols[] = { "v5.channel.k8s.io", "v4.channel.k8s.io" };
	struct http_tunnel *tunnel;
	struct websocket *ws;

	if (http_request_wants_upgrade(req, "raw")) {
		tunnel = http_upgrade(req, &upgrade, 1);
		tunnel->on_data = tunnel_data;
		tunnel->on_close = tunnel_close;
	} else {
		websocket_accept(req, websocket_choose_protocol(req, protocols, 2), 100000, &echo_ops, NULL, &ws);
	}
}

static void whoami(struct http_request *req)
{
	const struct http_peer *peer = req->peer;

	http_respond(req, 200, "text/plain", NULL, 0,
		     str_of(arena_printf(
			     req->arena, "%d cn=%s org=%s error=%s", req->version, peer->cert_cn ? peer->cert_cn : "",
			     peer->n_cert_orgs ? peer->cert_orgs[0] : "", peer->cert_error ? peer->cert_error : "")));
}

static void hold(struct http_request *req, bool stream)
{
	held = req;
	req->on_close = on_held_close;
	req->on_drain = on_held_drain;
	if (stream)
		http_stream_begin(req, 200, "application/json", NULL, 0);
	sem_post(&held_ready);
}

static void handler(void *arg, struct http_request *req)
{
	static const struct http_header evil = { { "X-Evil", 6 }, { "a\r\nInjected: yes", 16 } };
	struct chunk *parts[3] = { big, big, big };

	if (str_is(req->path, "/echo"))
		http_respond(req, 200, "application/octet-stream", NULL, 0, req->body);
	else if (str_is(req->path, "/big"))
		http_respond_chunks(req, 200, "application/octet-stream", NULL, 0, parts, 3);
	else if (str_is(req->path, "/hold"))
		hold(req, false);
	else if (str_is(req->path, "/stream"))
		hold(req, true);
	else if (str_is(req->path, "/whoami"))
		whoami(req);
	else if (str_is(req->path, "/upgrade"))
		handle_upgrade(req);
	else
		http_respond(req, 200, "text/plain", &evil, 1, req->path);
}

static void protocol_error(void *arg, struct arena *arena, int status, const char *message,
			   struct str *ret_content_type, struct str *ret_body)
{
	*ret_content_type = STR("application/json");
	*ret_body = str_of(arena_printf(arena, "{\"code\":%d,\"message\":\"%s\"}", status, message));
}

/* ---- fixtures ---- */

static void start(bool tls, const struct http_limits *limits)
{
	sem_init(&held_ready, 0, 0);
	sem_init(&closed, 0, 0);
	sem_init(&drained, 0, 0);
	held = NULL;
	big = chunk_create(NULL, BIG_BYTES);
	for (size_t i = 0; i < BIG_BYTES; i++)
		big->data[i] = (char)(i % 251);
	t.tls = tls;
	t.options.handler = handler;
	t.options.on_protocol_error = protocol_error;
	if (limits)
		t.options.limits = *limits;
	test_server_start(&t);
}

static int setup_plain(void **state)
{
	start(false, NULL);
	return 0;
}

static int setup_tls(void **state)
{
	start(true, NULL);
	return 0;
}

static int setup_small(void **state)
{
	start(false, &(struct http_limits){ .header_bytes = 1000,
					    .body_bytes = 1000,
					    .connections = 5, /* four, and one that has no request yet */
					    .idle_timeout_ns = 300 * NS_PER_MS,
					    .header_timeout_ns = 200 * NS_PER_MS,
					    .body_timeout_ns = 200 * NS_PER_MS,
					    .send_stall_timeout_ns = 300 * NS_PER_MS });
	return 0;
}

static int teardown(void **state)
{
	test_server_stop(&t);
	chunk_unref(big);
	sem_destroy(&held_ready);
	sem_destroy(&closed);
	sem_destroy(&drained);
	return 0;
}

static void wait_for(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLIENT_TIMEOUT_S;
	if (sem_timedwait(sem, &until) < 0)
		fail_msg("nothing happened in time");
}

static struct client connect_either(void)
{
	return t.tls ? client_connect_tls(t.port, NULL, NULL) : client_connect(t.port);
}

/* ---- requests ---- */

static void test_keep_alive_and_head(void **state)
{
	struct client c = connect_either();
	struct client_response r;

	for (int i = 0; i < 3; i++) {
		client_send_text(&c, "GET /a%20b?q HTTP/1.1\r\nHost: x\r\n\r\n");
		client_read_response(&c, &r, false);
		assert_int_equal(r.status, 200);
		assert_true(str_is(buf_str(&r.body), "/a%20b"));
		assert_null(strstr(buf_cstr(&r.head), "\r\nInjected"));
		assert_non_null(strstr(buf_cstr(&r.head), "\r\nDate: "));
		client_response_finish(&r);
	}
	client_send_text(&c, "HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_response(&c, &r, true);
	assert_non_null(strstr(buf_cstr(&r.head), "Content-Length: 4\r\n"));
	client_response_finish(&r);
	client_read_response(&c, &r, false);
	assert_true(str_is(buf_str(&r.body), "/next"));
	client_response_finish(&r);
	client_send_text(&c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	client_read_response(&c, &r, false);
	assert_non_null(strstr(buf_cstr(&r.head), "Connection: close\r\n"));
	client_response_finish(&r);
	assert_int_equal(client_recv(&c, &(char){ 0 }, 1), 0);
	client_close(&c);
}

static void respond_held(struct test_server *server, void *arg)
{
	http_respond(held, 200, "text/plain", NULL, 0, str_of(arg));
	held = NULL;
}

static void test_pipelining_in_order(void **state)
{
	struct client c = connect_either();
	struct client_response r;
	static const char *const want[] = { "/1", "later", "/2", "body", "/3" };

	client_send_text(&c, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
			     "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
			     "\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	test_server_call(&t, respond_held, "later");
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		client_read_response(&c, &r, false);
		assert_true(str_is(buf_str(&r.body), want[i]));
		client_response_finish(&r);
	}
	client_close(&c);
}

static void test_request_byte_by_byte(void **state)
{
	const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
			   "3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: z\r\n\r\n";
	struct client c = connect_either();
	struct client_response r;

	for (; *text; text++)
		client_send(&c, text, 1);
	client_read_response(&c, &r, false);
	assert_true(str_is(buf_str(&r.body), "abcdefg"));
	client_response_finish(&r);
	client_close(&c);
}

static void test_expect_continue(void **state)
{
	struct client c = connect_either();
	struct client_response r;

	client_send_text(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
	client_read_response(&c, &r, true);
	assert_int_equal(r.status, 100);
	client_response_finish(&r);
	client_send_text(&c, "hello");
	client_read_response(&c, &r, false);
	assert_int_equal(r.status, 200);
	assert_true(str_is(buf_str(&r.body), "hello"));
	client_response_finish(&r);
	client_close(&c);
}

static void test_large_bodies(void **state)
{
	struct client c = connect_either();
	struct client_response r;
	char head[128];

	snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", BIG_BYTES);
	client_send_text(&c, head);
	client_send(&c, big->data, BIG_BYTES);
	client_read_response(&c, &r, false);
	assert_true(str_eq(buf_str(&r.body), chunk_str(big)));
	client_response_finish(&r);
	client_send_text(&c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_response(&c, &r, false);
	assert_int_equal(buf_len(&r.body), 3 * BIG_BYTES);
	for (int i = 0; i < 3; i++)
		assert_memory_equal(buf_str(&r.body).p + (size_t)i * BIG_BYTES, big->data, BIG_BYTES);
	client_response_finish(&r);
	client_close(&c);
}

/* ---- streaming ---- */

static void stream_two(struct test_server *server, void *arg)
{
	struct chunk *chunk = chunk_create("event-1\n", 8);

	http_stream_write(held, chunk);
	chunk_unref(chunk);
	http_stream_write_str(held, STR("event-2\n"));
}

static void stream_end(struct test_server *server, void *arg)
{
	http_stream_end(held);
	held = NULL;
}

static void test_stream(void **state)
{
	struct client c = connect_either();
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct client_response r;

	client_send_text(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	client_read_until(&c, &in, "\r\n\r\n");
	assert_non_null(strstr(buf_cstr(&in), "Transfer-Encoding: chunked\r\n"));
	buf_reset(&in);
	test_server_call(&t, stream_two, NULL);
	client_read_until(&c, &in, "event-2\n\r\n");
	assert_true(str_is(buf_str(&in), "8\r\nevent-1\n\r\n8\r\nevent-2\n\r\n"));
	buf_reset(&in);
	test_server_call(&t, stream_end, NULL);
	client_read_until(&c, &in, "0\r\n\r\n");
	client_send_text(&c, "GET /again HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_response(&c, &r, false);
	assert_true(str_is(buf_str(&r.body), "/again"));
	client_response_finish(&r);
	client_close(&c);
}

static void test_peer_goes_away(void **state)
{
	static const char *const paths[] = { "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
					     "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct client c = connect_either();

		client_send_text(&c, paths[i]);
		wait_for(&held_ready);
		client_close(&c);
		wait_for(&closed);
	}
}

static void stream_much(struct test_server *server, void *arg)
{
	held->drain_below = 1000;
	for (int i = 0; i < 8; i++)
		http_stream_write(held, big);
	assert_true(http_stream_pending(held) >= 8u * BIG_BYTES);
}

static void test_drain(void **state)
{
	struct client c = connect_either();
	_cleanup_buf_ struct buf in = BUF_INIT;
	size_t left = 8 * (BIG_BYTES + 10);
	char bytes[65536];

	client_send_text(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	client_read_until(&c, &in, "\r\n\r\n");
	test_server_call(&t, stream_much, NULL);
	assert_int_equal(sem_trywait(&drained), -1);
	while (left) {
		ssize_t n = client_recv(&c, bytes, left < sizeof(bytes) ? left : sizeof(bytes));

		assert_true(n > 0);
		left -= (size_t)n;
	}
	wait_for(&drained);
	test_server_call(&t, stream_end, NULL);
	client_close(&c);
}

static void abort_held(struct test_server *server, void *arg)
{
	http_stream_write_str(held, STR("half"));
	http_stream_abort(held);
	held = NULL;
}

static void test_abort(void **state)
{
	struct client c = connect_either();
	_cleanup_buf_ struct buf in = BUF_INIT;

	client_send_text(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	test_server_call(&t, abort_held, NULL);
	client_read_all(&c, &in);
	assert_null(strstr(buf_cstr(&in), "0\r\n\r\n"));
	client_close(&c);
}

static void on_shut_down(void *arg)
{
	sem_post(&drained);
}

static void shut_down(struct test_server *server, void *arg)
{
	http_server_shutdown(server->server, 5 * NS_PER_S, on_shut_down, NULL);
}

static void test_shutdown(void **state)
{
	struct client idle = connect_either(), stream = connect_either(), slow = connect_either();
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct client_response r;

	client_send_text(&idle, "GET /i HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_response(&idle, &r, false);
	client_response_finish(&r);
	client_send_text(&stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	client_send_text(&slow, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	test_server_call(&t, shut_down, NULL);
	assert_int_equal(client_recv(&idle, &(char){ 0 }, 1), 0);
	client_read_all(&stream, &in);
	assert_non_null(strstr(buf_cstr(&in), "\r\n0\r\n\r\n")); /* a clean end */
	wait_for(&closed);
	client_close(&idle);
	client_close(&stream);
	client_close(&slow);
}

static void test_shutdown_lets_requests_finish(void **state)
{
	struct client slow = connect_either();
	struct client_response r;

	client_send_text(&slow, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	test_server_call(&t, shut_down, NULL);
	test_server_call(&t, respond_held, "finished");
	client_read_response(&slow, &r, false);
	assert_true(str_is(buf_str(&r.body), "finished"));
	assert_non_null(strstr(buf_cstr(&r.head), "Connection: close\r\n"));
	client_response_finish(&r);
	wait_for(&drained);
	client_close(&slow);
}

/* ---- limits ---- */

static void expect_refusal(const char *request, int status)
{
	struct client c = connect_either();
	struct client_response r;

	client_send_text(&c, request);
	client_read_response(&c, &r, false);
	assert_int_equal(r.status, status);
	assert_non_null(strstr(buf_cstr(&r.head), "Content-Type: application/json\r\n"));
	assert_non_null(strstr(buf_cstr(&r.head), "Connection: close\r\n"));
	assert_non_null(strstr(buf_cstr(&r.body), "\"message\""));
	assert_int_equal(client_recv(&c, &(char){ 0 }, 1), 0);
	client_response_finish(&r);
	client_close(&c);
}

static void test_refusals(void **state)
{
	char text[3000];
	int n;

	expect_refusal("NONSENSE\r\n\r\n", 400);
	expect_refusal("GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505);
	expect_refusal("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413);
	expect_refusal("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400);
	expect_refusal("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\nxxxxx", 413);
	n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\nX: %0*d\r\n\r\n", 1500, 7);
	expect_refusal(text, 431);
	/* No end of the header in sight. */
	text[n - 4] = '\0';
	expect_refusal(text, 431);
}

static void test_large_body_sent_all_the_same(void **state)
{
	struct client c = connect_either();
	struct client_response r;

	/* The answer must not be lost to a reset while the peer still sends. */
	client_send_text(&c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n");
	client_send(&c, big->data, 600 * 1024);
	client_read_response(&c, &r, false);
	assert_int_equal(r.status, 413);
	client_response_finish(&r);
	client_close(&c);
}

static void test_slow_loris(void **state)
{
	struct client silent = connect_either();

	expect_refusal("GET / HTTP/1.1\r\nHost: ", 408);
	expect_refusal("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 408);
	assert_int_equal(client_recv(&silent, &(char){ 0 }, 1), 0);
	client_close(&silent);
}

static void test_slow_loris_that_drips(void **state)
{
	struct client c = connect_either();
	struct client_response r;

	client_send_text(&c, "GET / HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < 30; i++) {
		client_send_text(&c, "X: y\r\n");
		usleep(20000); /* the drip itself: slower in all than the header timeout */
	}
	client_read_response(&c, &r, false);
	assert_int_equal(r.status, 408);
	client_response_finish(&r);
	client_close(&c);
}

static void test_idle_connection_is_closed(void **state)
{
	struct client c = connect_either();
	struct client_response r;

	client_send_text(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_response(&c, &r, false);
	client_response_finish(&r);
	assert_int_equal(client_recv(&c, &(char){ 0 }, 1), 0);
	client_close(&c);
}

static void test_reader_that_stalls_is_shed(void **state)
{
	struct client c = connect_either();

	client_send_text(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&held_ready);
	test_server_call(&t, stream_much, NULL);
	wait_for(&closed);
	client_close(&c);
}

static void get_stats(struct test_server *server, void *arg)
{
	http_server_get_stats(server->server, arg);
}

static void test_connection_limit(void **state)
{
	struct client busy[4], extra;
	struct http_server_stats stats;

	for (int i = 0; i < 4; i++) {
		busy[i] = connect_either();
		client_send_text(&busy[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
		wait_for(&held_ready);
	}
	extra = connect_either();
	client_send_text(&extra, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(client_recv(&extra, &(char){ 0 }, 1) <= 0);
	test_server_call(&t, get_stats, &stats);
	assert_int_equal(stats.connections, 4);
	assert_int_equal(stats.shed, 1);
	client_close(&extra);
	for (int i = 0; i < 4; i++)
		client_close(&busy[i]);
}

/* ---- TLS ---- */

static void expect_whoami(const struct fixture_cert *cert, const char *want)
{
	struct client c = client_connect_tls(t.port, cert, "\x08http/1.1");
	struct client_response r;

	client_send_text(&c, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_response(&c, &r, false);
	assert_string_equal(buf_cstr(&r.body), want);
	client_response_finish(&r);
	client_close(&c);
}

static void test_client_certificates(void **state)
{
	struct fixture_cert good = fixture_cert(&t.ca, "admin", "system:masters", "clientAuth", 3600);
	struct fixture_cert expired = fixture_cert(&t.ca, "admin", "system:masters", "clientAuth", -10);
	struct fixture_cert wrong_use = fixture_cert(&t.ca, "admin", "system:masters", "serverAuth", 3600);
	struct fixture_cert other_ca = fixture_cert(NULL, "test-ca", NULL, NULL, 3600);
	struct fixture_cert forged = fixture_cert(&other_ca, "admin", "system:masters", "clientAuth", 3600);

	expect_whoami(NULL, "11 cn= org= error=");
	expect_whoami(&good, "11 cn=admin org=system:masters error=");
	expect_whoami(&expired, "11 cn= org= error=certificate has expired");
	expect_whoami(&wrong_use, "11 cn= org= error=unsuitable certificate purpose");
	expect_whoami(&forged, "11 cn= org= error=certificate signature failure");
	fixture_cert_finish(&good);
	fixture_cert_finish(&expired);
	fixture_cert_finish(&wrong_use);
	fixture_cert_finish(&other_ca);
	fixture_cert_finish(&forged);
}

static void test_garbage_instead_of_tls(void **state)
{
	struct client c = client_connect(t.port);
	_cleanup_buf_ struct buf in = BUF_INIT;

	client_send_text(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	client_read_all(&c, &in); /* an alert perhaps, and the end */
	client_close(&c);
	expect_whoami(NULL, "11 cn= org= error=");
}

/* ---- upgrades ---- */

static void test_raw_tunnel(void **state)
{
	struct client c = connect_either();
	_cleanup_buf_ struct buf in = BUF_INIT;

	/* The first bytes come with the request. */
	client_send_text(&c, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nearly");
	client_read_until(&c, &in, "\r\n\r\n");
	assert_non_null(strstr(buf_cstr(&in), "HTTP/1.1 101 Switching Protocols\r\n"));
	buf_reset(&in);
	client_read_until(&c, &in, "early");
	assert_true(str_is(buf_str(&in), "early"));
	client_send_text(&c, "bye!");
	buf_reset(&in);
	client_read_all(&c, &in);
	assert_true(str_is(buf_str(&in), "bye!"));
	client_close(&c);
}

static struct client websocket_client(struct buf *ret_head)
{
	struct client c = connect_either();

	client_send_text(&c,
			 "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			 "Sec-WebSocket-Protocol: base64.channel.k8s.io, v4.channel.k8s.io, v5.channel.k8s.io\r\n\r\n");
	client_read_until(&c, ret_head, "\r\n\r\n");
	return c;
}

static void send_masked(struct client *c, unsigned first, const void *p, size_t n)
{
	unsigned char head[WEBSOCKET_HEAD_BYTES_MAX + 4] = { 0 };
	size_t head_n = websocket_encode_head(head, first & 0xf, true, n);

	head[0] = (unsigned char)first;
	head[1] |= 0x80;
	memset(head + head_n, 0, 4); /* a mask of zeroes changes nothing */
	client_send(c, head, head_n + 4);
	client_send(c, p, n);
}

/* Returns the first byte; the payload in `out`. */
static unsigned read_frame(struct client *c, struct buf *out)
{
	unsigned char head[2], wide[8];
	size_t n;

	client_read_exactly(c, head, 2);
	n = head[1] & 0x7f;
	if (n >= 126) {
		size_t bytes = n == 126 ? 2 : 8;

		client_read_exactly(c, wide, bytes);
		n = 0;
		for (size_t i = 0; i < bytes; i++)
			n = n << 8 | wide[i];
	}
	buf_reset(out);
	client_read_exactly(c, buf_reserve(out, n + 1), n);
	buf_commit(out, n);
	return head[0];
}

static void test_websocket(void **state)
{
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct client c = websocket_client(&in);

	assert_non_null(strstr(buf_cstr(&in), "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	assert_non_null(strstr(buf_cstr(&in), "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n"));
	send_masked(&c, 0x82, "hello", 5);
	assert_int_equal(read_frame(&c, &in), 0x82);
	assert_true(str_is(buf_str(&in), "hello"));
	send_masked(&c, 0x02, "frag", 4);
	send_masked(&c, 0x89, "p", 1);
	assert_int_equal(read_frame(&c, &in), 0x8a);
	send_masked(&c, 0x80, "ment", 4);
	assert_int_equal(read_frame(&c, &in), 0x82);
	assert_true(str_is(buf_str(&in), "fragment"));
	send_masked(&c, 0x82, big->data, 70000);
	assert_int_equal(read_frame(&c, &in), 0x82);
	assert_int_equal(buf_len(&in), 70000);
	assert_memory_equal(buf_str(&in).p, big->data, 70000);
	send_masked(&c, 0x88, "\x03\xe8", 2);
	assert_int_equal(read_frame(&c, &in), 0x88);
	assert_int_equal(client_recv(&c, &(char){ 0 }, 1), 0);
	wait_for(&closed);
	client_close(&c);
}

static void test_websocket_closed_by_server(void **state)
{
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct client c = websocket_client(&in);

	send_masked(&c, 0x81, "close-me", 8);
	assert_int_equal(read_frame(&c, &in), 0x88);
	assert_memory_equal(buf_str(&in).p,
			    "\x03\xe8"
			    "as asked",
			    10);
	send_masked(&c, 0x81, "too late", 8);
	send_masked(&c, 0x88, "\x03\xe8", 2);
	assert_int_equal(client_recv(&c, &(char){ 0 }, 1), 0);
	client_close(&c);
}

static void test_websocket_bad_frames(void **state)
{
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct client c = websocket_client(&in);

	client_send(&c, "\x81\x01x", 3); /* not masked */
	assert_int_equal(read_frame(&c, &in), 0x88);
	assert_memory_equal(buf_str(&in).p, "\x03\xea", 2);
	wait_for(&closed);
	client_close(&c);
	buf_reset(&in);
	c = websocket_client(&in);
	send_masked(&c, 0x82, big->data, 100001);
	assert_int_equal(read_frame(&c, &in), 0x88);
	assert_memory_equal(buf_str(&in).p, "\x03\xf1", 2);
	wait_for(&closed);
	client_close(&c);
	buf_reset(&in);
	c = websocket_client(&in);
	client_close(&c);
	wait_for(&closed);
}

static void test_websocket_bad_handshakes(void **state)
{
	struct client c = connect_either();
	struct client_response r;

	client_send_text(&c, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			     "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
	client_read_response(&c, &r, false);
	assert_int_equal(r.status, 426);
	client_response_finish(&r);
	client_send_text(&c, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dG9vIHNob3J0\r\n\r\n");
	client_read_response(&c, &r, false);
	assert_int_equal(r.status, 400);
	client_response_finish(&r);
	client_close(&c);
}

#define PLAIN(test) cmocka_unit_test_setup_teardown(test, setup_plain, teardown)
#define TLS(test)                                                                                                      \
	{                                                                                                              \
#test "_tls", test, setup_tls, teardown, NULL                                                          \
	}
#define SMALL(test) cmocka_unit_test_setup_teardown(test, setup_small, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAIN(test_keep_alive_and_head),
		TLS(test_keep_alive_and_head),
		PLAIN(test_pipelining_in_order),
		TLS(test_pipelining_in_order),
		PLAIN(test_request_byte_by_byte),
		TLS(test_request_byte_by_byte),
		PLAIN(test_expect_continue),
		TLS(test_expect_continue),
		PLAIN(test_large_bodies),
		TLS(test_large_bodies),
		PLAIN(test_stream),
		TLS(test_stream),
		PLAIN(test_peer_goes_away),
		TLS(test_peer_goes_away),
		PLAIN(test_drain),
		TLS(test_drain),
		PLAIN(test_abort),
		TLS(test_abort),
		PLAIN(test_shutdown),
		TLS(test_shutdown),
		PLAIN(test_shutdown_lets_requests_finish),
		SMALL(test_refusals),
		SMALL(test_large_body_sent_all_the_same),
		SMALL(test_slow_loris),
		SMALL(test_slow_loris_that_drips),
		SMALL(test_idle_connection_is_closed),
		SMALL(test_reader_that_stalls_is_shed),
		SMALL(test_connection_limit),
		TLS(test_client_certificates),
		TLS(test_garbage_instead_of_tls),
		PLAIN(test_raw_tunnel),
		TLS(test_raw_tunnel),
		PLAIN(test_websocket),
		TLS(test_websocket),
		PLAIN(test_websocket_closed_by_server),
		TLS(test_websocket_bad_frames),
		PLAIN(test_websocket_bad_handshakes),
	};

	return cmocka_run_group_tests_name("http server", tests, NULL, NULL);
}
