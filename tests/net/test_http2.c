/* SPDX-License-Identifier: Apache-2.0 */
/* The server over HTTP/2, from a blocking client made of nghttp2's client side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "tests/net/net_client.h"
#include "userspace/base/clock.h"

#define STREAMS_MAX 600
#define BIG_BYTES (1024 * 1024)

/* ---- the client ---- */

struct answer {
	int status;
	struct buf body;
	bool headers, closed;
	uint32_t error_code;
	size_t to_send; /* of a body of 'z' */
	bool hold_back; /* never ends its body */
};

struct h2_client {
	struct client io;
	nghttp2_session *session;
	struct answer answers[STREAMS_MAX]; /* by stream id / 2; slots are used again */
	bool goaway, eof;
};

static struct answer *answer_of(struct h2_client *c, int32_t id)
{
	return &c->answers[id / 2 % STREAMS_MAX];
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
		     const uint8_t *value, size_t value_n, uint8_t flags, void *user_data)
{
	if (name_n == 7 && memcmp(name, ":status", 7) == 0)
		answer_of(user_data, frame->hd.stream_id)->status = atoi((const char *)value);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct h2_client *c = user_data;

	if (frame->hd.type == NGHTTP2_HEADERS)
		answer_of(c, frame->hd.stream_id)->headers = true;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		c->goaway = true;
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user_data)
{
	buf_add(&answer_of(user_data, id)->body, p, n);
	return 0;
}

static int on_closed(nghttp2_session *session, int32_t id, uint32_t error_code, void *user_data)
{
	struct answer *a = answer_of(user_data, id);

	a->closed = true;
	a->error_code = error_code;
	return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
			 nghttp2_data_source *source, void *user_data)
{
	struct answer *a = answer_of(user_data, id);
	size_t n = a->to_send < room ? a->to_send : room;

	memset(to, 'z', n);
	a->to_send -= n;
	if (!a->to_send && !a->hold_back)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return n || !a->hold_back ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static void h2_send(struct h2_client *c)
{
	const uint8_t *p;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(c->session, &p)) > 0)
		client_send(&c->io, p, (size_t)n);
}

static struct h2_client *h2_connect(const struct fixture_cert *cert, int port)
{
	struct h2_client *c = mem_new(struct h2_client);
	nghttp2_session_callbacks *cb;
	nghttp2_option *option;

	c->io = client_connect_tls(port, cert, "\x02h2\x08http/1.1");
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_closed);
	nghttp2_option_new(&option);
	nghttp2_option_set_peer_max_concurrent_streams(option, STREAMS_MAX);
	nghttp2_session_client_new2(&c->session, cb, c, option);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0);
	h2_send(c);
	return c;
}

static void h2_close(struct h2_client *c)
{
	nghttp2_session_del(c->session);
	client_close(&c->io);
	for (size_t i = 0; i < STREAMS_MAX; i++)
		buf_finish(&c->answers[i].body);
	free(c);
}

/* One read from the socket. */
static void h2_pump(struct h2_client *c)
{
	char bytes[16384];
	ssize_t n;

	h2_send(c);
	n = client_recv(&c->io, bytes, sizeof(bytes));
	if (n <= 0) {
		c->eof = true;
		return;
	}
	assert_int_equal(nghttp2_session_mem_recv(c->session, (uint8_t *)bytes, (size_t)n), n);
	h2_send(c);
}

static nghttp2_nv nv(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE };
}

/* body_bytes < 0: none; hold_back: the body never ends. */
static int32_t h2_request(struct h2_client *c, const char *method, const char *path, int64_t body_bytes, bool hold_back)
{
	nghttp2_nv fields[] = { nv(":method", method), nv(":path", path), nv(":scheme", "https"),
				nv(":authority", "localhost"), nv("accept", "application/json") };
	nghttp2_data_provider provider = { .read_callback = read_body };
	int32_t id = nghttp2_session_get_next_stream_id(c->session);

	buf_finish(&answer_of(c, id)->body);
	*answer_of(c, id) = (struct answer){ 0 };
	answer_of(c, id)->to_send = body_bytes > 0 ? (size_t)body_bytes : 0;
	answer_of(c, id)->hold_back = hold_back;
	id = nghttp2_submit_request(c->session, NULL, fields, ARRAY_SIZE(fields), body_bytes >= 0 ? &provider : NULL,
				    NULL);
	assert_true(id > 0);
	return id;
}

static struct answer *h2_wait(struct h2_client *c, int32_t id)
{
	struct answer *a = answer_of(c, id);

	while (!a->closed) {
		h2_pump(c);
		if (c->eof)
			fail_msg("the connection ended");
	}
	return a;
}

static void h2_wait_headers(struct h2_client *c, int32_t id)
{
	while (!answer_of(c, id)->headers) {
		h2_pump(c);
		assert_false(c->eof);
	}
}

static void h2_wait_body(struct h2_client *c, int32_t id, size_t n)
{
	while (buf_len(&answer_of(c, id)->body) < n) {
		h2_pump(c);
		assert_false(c->eof);
	}
}

/* ---- the server's side ---- */

static struct test_server t;
static struct http_request *streams[STREAMS_MAX];
static size_t n_streams;
static sem_t stream_ready, closed, drained;
static struct chunk *big;

static void on_stream_close(struct http_request *req)
{
	for (size_t i = 0; i < n_streams; i++)
		if (streams[i] == req)
			streams[i] = NULL;
	sem_post(&closed);
}

static void on_stream_drain(struct http_request *req)
{
	sem_post(&drained);
}

static void handler(void *arg, struct http_request *req)
{
	static const struct http_header extra = { { "X-Thing", 7 }, { "a\nb", 3 } };

	if (str_is(req->path, "/stream")) {
		streams[n_streams++] = req;
		req->on_close = on_stream_close;
		req->on_drain = on_stream_drain;
		http_stream_begin(req, 200, "application/json", NULL, 0);
		sem_post(&stream_ready);
	} else if (str_is(req->path, "/length")) {
		http_respond(req, 200, "text/plain", NULL, 0, str_of(arena_printf(req->arena, "%zu", req->body.n)));
	} else if (str_is(req->path, "/big")) {
		http_respond_chunk(req, 200, NULL, NULL, 0, big);
	} else if (str_is(req->path, "/empty")) {
		http_respond(req, 204, NULL, NULL, 0, STR_NULL);
	} else {
		const char *cn = req->peer->cert_cn;

		http_respond(req, 200, "text/plain", &extra, 1,
			     str_of(arena_printf(req->arena, "%d %.*s %.*s?%.*s %.*s cn=%s", req->version,
						 STR_ARG(req->method), STR_ARG(req->path), STR_ARG(req->query),
						 STR_ARG(req->host), cn ? cn : "")));
	}
}

static void start(const struct http_limits *limits)
{
	sem_init(&stream_ready, 0, 0);
	sem_init(&closed, 0, 0);
	sem_init(&drained, 0, 0);
	n_streams = 0;
	big = chunk_create(NULL, BIG_BYTES);
	memset(big->data, 'B', BIG_BYTES);
	t.tls = true;
	t.options.handler = handler;
	if (limits)
		t.options.limits = *limits;
	test_server_start(&t);
}

static int setup(void **state)
{
	start(NULL);
	return 0;
}

static int setup_small(void **state)
{
	start(&(struct http_limits){ .header_bytes = 2000,
				     .body_bytes = 1000,
				     .streams = 8,
				     .idle_timeout_ns = 300 * NS_PER_MS,
				     .body_timeout_ns = 200 * NS_PER_MS,
				     .send_stall_timeout_ns = 300 * NS_PER_MS });
	return 0;
}

static int teardown(void **state)
{
	test_server_stop(&t);
	chunk_unref(big);
	sem_destroy(&stream_ready);
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

/* ---- tests ---- */

static void test_requests(void **state)
{
	struct fixture_cert cert = fixture_cert(&t.ca, "me", "us", "clientAuth", 3600);
	struct h2_client *c = h2_connect(&cert, t.port);
	struct answer *a = h2_wait(c, h2_request(c, "GET", "/a/b?c=d", -1, false));

	assert_int_equal(a->status, 200);
	assert_string_equal(buf_cstr(&a->body), "20 GET /a/b?c=d localhost cn=me");
	a = h2_wait(c, h2_request(c, "HEAD", "/big", -1, false));
	assert_int_equal(a->status, 200);
	assert_int_equal(buf_len(&a->body), 0);
	a = h2_wait(c, h2_request(c, "GET", "/empty", -1, false));
	assert_int_equal(a->status, 204);
	a = h2_wait(c, h2_request(c, "POST", "/length", 0, false));
	assert_string_equal(buf_cstr(&a->body), "0");
	a = h2_wait(c, h2_request(c, "POST", "/length", 3 * 1024 * 1024, false));
	assert_string_equal(buf_cstr(&a->body), "3145728");
	h2_close(c);
	fixture_cert_finish(&cert);
}

static void test_many_at_once(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	int32_t ids[200];

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		ids[i] = h2_request(c, "GET", i % 20 ? "/x" : "/big", -1, false);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct answer *a = h2_wait(c, ids[i]);

		assert_int_equal(a->status, 200);
		assert_true(i % 20 ? buf_len(&a->body) > 10 : str_eq(buf_str(&a->body), chunk_str(big)));
	}
	h2_close(c);
}

static void write_all(struct test_server *server, void *arg)
{
	struct chunk *chunk = chunk_create(arg, strlen(arg));

	for (size_t i = 0; i < n_streams; i++)
		if (streams[i])
			http_stream_write(streams[i], chunk);
	chunk_unref(chunk);
}

static void end_all(struct test_server *server, void *arg)
{
	for (size_t i = 0; i < n_streams; i++)
		if (streams[i])
			http_stream_end(streams[i]);
	n_streams = 0;
}

static void test_idle_streams_wake_up(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	int32_t ids[100];

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		ids[i] = h2_request(c, "GET", "/stream", -1, false);
	h2_send(c);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		wait_for(&stream_ready);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		h2_wait_headers(c, ids[i]);
	for (int round = 1; round <= 3; round++) {
		test_server_call(&t, write_all, "event");
		for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
			h2_wait_body(c, ids[i], (size_t)round * 5);
		assert_int_equal(h2_wait(c, h2_request(c, "GET", "/x", -1, false))->status, 200);
	}
	test_server_call(&t, end_all, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct answer *a = h2_wait(c, ids[i]);

		assert_int_equal(a->error_code, NGHTTP2_NO_ERROR);
		assert_string_equal(buf_cstr(&a->body), "eventeventevent");
	}
	h2_close(c);
}

static void test_reset_reaches_the_owner(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	int32_t id = h2_request(c, "GET", "/stream", -1, false);

	h2_wait_headers(c, id);
	nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	h2_send(c);
	wait_for(&closed);
	assert_int_equal(h2_wait(c, h2_request(c, "GET", "/x", -1, false))->status, 200);
	id = h2_request(c, "GET", "/stream", -1, false);
	h2_wait_headers(c, id);
	h2_close(c);
	wait_for(&closed);
}

static void write_much(struct test_server *server, void *arg)
{
	for (int i = 0; i < 4; i++)
		http_stream_write(streams[0], big);
	assert_int_equal(http_stream_pending(streams[0]), 4 * BIG_BYTES);
}

static void test_drain_by_flow_control(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	int32_t id = h2_request(c, "GET", "/stream", -1, false);

	h2_wait_headers(c, id);
	test_server_call(&t, write_much, NULL);
	assert_int_equal(sem_trywait(&drained), -1);
	h2_wait_body(c, id, 4 * BIG_BYTES);
	wait_for(&drained);
	test_server_call(&t, end_all, NULL);
	h2_wait(c, id);
	h2_close(c);
}

static void abort_first(struct test_server *server, void *arg)
{
	http_stream_abort(streams[0]);
	n_streams = 0;
}

static void test_abort(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	int32_t id = h2_request(c, "GET", "/stream", -1, false);

	h2_wait_headers(c, id);
	test_server_call(&t, abort_first, NULL);
	assert_int_equal(h2_wait(c, id)->error_code, NGHTTP2_INTERNAL_ERROR);
	h2_close(c);
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
	struct h2_client *c = h2_connect(NULL, t.port);
	int32_t id = h2_request(c, "GET", "/stream", -1, false);
	struct answer *a = answer_of(c, id);

	h2_wait_headers(c, id);
	test_server_call(&t, shut_down, NULL);
	wait_for(&closed);
	while (!c->eof)
		h2_pump(c);
	assert_true(c->goaway);
	assert_true(a->closed);
	assert_int_equal(a->error_code, NGHTTP2_NO_ERROR);
	wait_for(&drained);
	h2_close(c);
}

static void open_and_reset(struct h2_client *c, int n)
{
	char bytes[16384];

	for (int i = 0; i < n && !c->eof && !c->goaway; i++) {
		int32_t id = h2_request(c, "GET", "/x", -1, false);
		ssize_t got;

		h2_send(c);
		nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
		h2_send(c);
		got = recv(c->io.fd, bytes, 1, MSG_DONTWAIT | MSG_PEEK);
		if (got >= 0)
			h2_pump(c);
	}
}

static void test_floods_of_resets_are_cut_off(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);

	/* Informers stop many watches at once: that must pass. */
	open_and_reset(c, 1000);
	assert_int_equal(h2_wait(c, h2_request(c, "GET", "/x", -1, false))->status, 200);
	open_and_reset(c, 20000);
	while (!c->eof && !c->goaway)
		h2_pump(c);
	h2_close(c);
}

/* ---- limits ---- */

static void test_refusals(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	char path[2100];
	int32_t id;

	assert_int_equal(h2_wait(c, h2_request(c, "POST", "/length", 1001, false))->status, 413);
	assert_int_equal(h2_wait(c, h2_request(c, "POST", "/length", 1000, false))->status, 200);
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(h2_wait(c, h2_request(c, "GET", path, -1, false))->status, 431);
	id = h2_request(c, "POST", "/length", 10, true);
	assert_int_equal(h2_wait(c, id)->status, 408);
	assert_int_equal(h2_wait(c, h2_request(c, "GET", "/x", -1, false))->status, 200);
	/* Idle now. */
	while (!c->eof)
		h2_pump(c);
	assert_true(c->goaway);
	h2_close(c);
}

static void test_stalled_stream_is_reset(void **state)
{
	struct h2_client *c = h2_connect(NULL, t.port);
	nghttp2_settings_entry window = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 100 };
	int32_t id;

	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, &window, 1);
	nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 100);
	id = h2_request(c, "GET", "/stream", -1, false);
	h2_wait_headers(c, id);
	nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, id, 0);
	test_server_call(&t, write_all, "event");
	/* The client takes what its window allows but never opens it: it does not read on. */
	test_server_call(&t, write_much, NULL);
	wait_for(&closed);
	h2_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle_streams_wake_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_reaches_the_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain_by_flow_control, setup, teardown),
		cmocka_unit_test_setup_teardown(test_abort, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_floods_of_resets_are_cut_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup_small, teardown),
		cmocka_unit_test_setup_teardown(test_stalled_stream_is_reset, setup_small, teardown),
	};

	return cmocka_run_group_tests_name("http/2", tests, NULL, NULL);
}
