/* SPDX-License-Identifier: Apache-2.0 */
/* Probes: the HTTP client against our own server and against scripted ones, and the TCP connect check. Everything runs
 * on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "tests/net/net_fixture.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"
#include "userspace/net/http.h"
#include "userspace/net/http_client.h"
#include "userspace/net/listen.h"
#include "userspace/net/tls.h"

static struct loop *loop;
static struct http_server *server;
static struct tls_context *server_tls, *client_tls;
static struct fixture_cert ca, cert;
static int port;

/* What came back. */
static struct {
	int status, code, calls;
	char body[20000], host[100], header[100];
	size_t body_n;
	bool cut;
} got;

static void on_close(struct http_request *req)
{
}

static void redirect(struct http_request *req, int status, const char *to)
{
	struct http_header location = { STR("Location"), str_of(to) };

	http_respond(req, status, NULL, &location, 1, STR("moved"));
}

static void handler(void *arg, struct http_request *req)
{
	static char big[12000];

	memset(big, 'b', sizeof(big));
	if (str_is(req->path, "/hang"))
		req->on_close = on_close;
	else if (str_is(req->path, "/redirect"))
		redirect(req, 302, "/headers?x=1");
	else if (str_is(req->path, "/absolute"))
		redirect(req, 301,
			 arena_printf(req->arena, "%s://127.0.0.1:%d/headers", server_tls ? "https" : "http", port));
	else if (str_is(req->path, "/elsewhere"))
		redirect(req, 302, "http://example.com/x");
	else if (str_is(req->path, "/forever"))
		redirect(req, 302, "/forever");
	else if (str_is(req->path, "/big"))
		http_respond(req, 200, NULL, NULL, 0, str_make(big, sizeof(big)));
	else if (str_is(req->path, "/stream")) {
		http_stream_begin(req, 200, NULL, NULL, 0);
		http_stream_write_str(req, STR("one "));
		http_stream_write_str(req, STR("two"));
		http_stream_end(req);
	} else if (str_is(req->path, "/fail"))
		http_respond(req, 503, "text/plain", NULL, 0, STR("not ready"));
	else
		http_respond(req, 200, "text/plain", NULL, 0,
			     str_of(arena_printf(req->arena, "%.*s|%.*s|%.*s|%.*s", STR_ARG(req->path),
						 STR_ARG(req->host), STR_ARG(http_request_header(req, "user-agent")),
						 STR_ARG(http_request_header(req, "x-probe")))));
}

static void on_done(void *arg, const struct http_client_response *response, const struct err *err)
{
	got.calls++;
	got.code = err ? err->code : 0;
	if (response) {
		got.status = response->status;
		got.body_n = response->body.n;
		got.cut = response->body_cut;
		memcpy(got.body, response->body.p ? response->body.p : "", response->body.n);
		got.body[response->body.n] = '\0';
		snprintf(got.host, sizeof(got.host), "%.*s", STR_ARG(response->redirect_host));
	}
	loop_stop(loop, 0);
}

static void probe(const char *path, const struct http_header *headers, size_t n_headers)
{
	struct http_client_options options = { .address = "127.0.0.1",
					       .port = (uint16_t)port,
					       .tls = client_tls,
					       .path = str_of(path),
					       .headers = headers,
					       .n_headers = n_headers,
					       .timeout_ns = 200 * NS_PER_MS,
					       .follow_redirects = true };
	struct http_client *client;
	struct err err = ERR_INIT;

	memset(&got, 0, sizeof(got));
	if (strcmp(path, "/hang") != 0)
		options.timeout_ns = 10 * NS_PER_S;
	assert_int_equal(http_client_start(loop, &options, on_done, NULL, &client, &err), 0);
	assert_int_equal(got.calls, 0);
	loop_run(loop);
	assert_int_equal(got.calls, 1);
}

static int setup(void **state)
{
	bool tls = *state != NULL;
	struct err err = ERR_INIT;
	int fd;

	assert_int_equal(loop_create(NULL, &loop, &err), 0);
	server_tls = client_tls = NULL;
	if (tls) {
		ca = fixture_cert(NULL, "ca", NULL, NULL, 3600);
		cert = fixture_cert(&ca, "server", NULL, "serverAuth", 3600);
		struct tls_server_options server_options = { .cert_pem = cert.cert_pem, .key_pem = cert.key_pem };
		struct tls_client_options client_options = { .insecure = true };

		assert_int_equal(tls_server_create(&server_options, &server_tls, &err), 0);
		assert_int_equal(tls_client_create(&client_options, &client_tls, &err), 0);
	}
	struct http_server_options options = { .handler = handler, .tls = server_tls };

	assert_int_equal(http_server_create(loop, &options, &server, &err), 0);
	assert_int_equal(listen_tcp("127.0.0.1", 0, &fd, &err), 0);
	port = listen_port(fd);
	assert_int_equal(http_server_add_listener(server, fd, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	http_server_destroy(server);
	loop_destroy(loop);
	tls_context_destroy(client_tls);
	if (server_tls) {
		fixture_cert_finish(&ca);
		fixture_cert_finish(&cert);
	}
	tls_context_destroy(server_tls);
	return 0;
}

static void test_probes(void **state)
{
	struct http_header headers[] = { { STR("X-Probe"), STR("yes") },
					 { STR("Host"), STR("pod.local") },
					 { STR("User-Agent"), STR("kube-probe/1.36") } };
	char want[200];

	probe("/headers", headers, 3);
	assert_int_equal(got.status, 200);
	assert_string_equal(got.body, "/headers|pod.local|kube-probe/1.36|yes");
	probe("", NULL, 0);
	snprintf(want, sizeof(want), "/|127.0.0.1:%d|k3c-bpf/" K3C_VERSION "|", port);
	assert_string_equal(got.body, want);
	probe("/fail", NULL, 0);
	assert_int_equal(got.status, 503);
	assert_string_equal(got.body, "not ready");
	probe("/stream", NULL, 0);
	assert_string_equal(got.body, "one two");
	probe("/big", NULL, 0);
	assert_int_equal(got.body_n, HTTP_CLIENT_BODY_BYTES_DEFAULT);
	assert_true(got.cut);
	probe("/hang", NULL, 0);
	assert_int_equal(got.code, -ETIMEDOUT);
}

static void test_redirects(void **state)
{
	probe("/redirect", NULL, 0);
	assert_int_equal(got.status, 200);
	assert_memory_equal(got.body, "/headers|", 9);
	probe("/absolute", NULL, 0);
	assert_int_equal(got.status, 200);
	probe("/elsewhere", NULL, 0);
	assert_int_equal(got.status, 302);
	assert_string_equal(got.host, "example.com");
	probe("/forever", NULL, 0);
	assert_int_equal(got.code, -ELOOP);
}

static int closed_port(void)
{
	struct err err = ERR_INIT;
	int fd, n;

	assert_int_equal(listen_tcp("127.0.0.1", 0, &fd, &err), 0);
	n = listen_port(fd);
	close(fd);
	return n;
}

static void test_refused_and_bad_options(void **state)
{
	struct http_client_options bad = { .address = "no-address", .port = 1, .timeout_ns = NS_PER_S };
	struct http_client *client;
	struct err err = ERR_INIT;

	port = closed_port();
	probe("/", NULL, 0);
	assert_int_equal(got.code, -ECONNREFUSED);
	assert_int_equal(http_client_start(loop, &bad, on_done, NULL, &client, &err), -EINVAL);
	bad.address = "127.0.0.1";
	bad.path = STR("/a\r\nb");
	assert_int_equal(http_client_start(loop, &bad, on_done, NULL, &client, &err), -EINVAL);
	err_finish(&err);
}

static void test_destroyed_in_flight(void **state)
{
	struct http_client_options options = {
		.address = "127.0.0.1", .port = (uint16_t)port, .path = STR("/hang"), .timeout_ns = NS_PER_S
	};
	struct http_client *client;
	struct err err = ERR_INIT;

	memset(&got, 0, sizeof(got));
	assert_int_equal(http_client_start(loop, &options, on_done, NULL, &client, &err), 0);
	http_client_destroy(client);
	probe("/x", NULL, 0);
	assert_int_equal(got.status, 200);
}

/* ---- peers that do not speak HTTP ---- */

struct scripted {
	struct loop_op accept_op, send_op;
	int fd, peer;
	const char *text;
};

static void scripted_sent(struct loop_op *op, int res, bool more)
{
	struct scripted *s = container_of(op, struct scripted, send_op);

	shutdown(s->peer, SHUT_WR);
}

static void scripted_accept(struct loop_op *op, int res, bool more)
{
	struct scripted *s = container_of(op, struct scripted, accept_op);

	if (res < 0)
		return;
	s->peer = res;
	loop_send(loop, &s->send_op, res, s->text, strlen(s->text), scripted_sent);
}

static void stop_soon(struct loop_timer *timer)
{
	loop_stop(loop, 0);
}

static void test_odd_servers(void **state)
{
	static const struct {
		const char *text;
		int status, code;
		const char *body;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, 0, "until the end" },
		{ "HTTP/1.0 204 No Content\r\n\r\n", 204, 0, "" },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokTOO MUCH", 200, 0, "ok" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", 0, -EPROTO, "" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", 0, -EPROTO, "" },
		{ "SSH-2.0-OpenSSH_9.2\r\n", 0, -EPROTO, "" },
		{ "SSH-2.0\r\n\r\n", 0, -EPROTO, "" },
		{ "", 0, -EPROTO, "" },
	};
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scripted s = { .text = cases[i].text, .peer = -1 };

		assert_int_equal(listen_tcp("127.0.0.1", 0, &s.fd, &err), 0);
		port = listen_port(s.fd);
		loop_accept_multishot(loop, &s.accept_op, s.fd, scripted_accept);
		probe("/", NULL, 0);
		if (got.status != cases[i].status || got.code != cases[i].code || strcmp(got.body, cases[i].body) != 0)
			fail_msg("case %zu: status %d code %d body %s", i, got.status, got.code, got.body);
		loop_cancel(loop, &s.accept_op);
		while (loop_op_pending(&s.accept_op) || loop_op_pending(&s.send_op)) {
			struct loop_timer timer;

			loop_timer_init(&timer, stop_soon);
			loop_timer_arm(loop, &timer, NS_PER_MS);
			loop_run(loop);
		}
		close(s.peer);
		close(s.fd);
	}
}

/* ---- TCP check ---- */

static int tcp_result;

static void on_checked(void *arg, int result)
{
	tcp_result = result;
	loop_stop(loop, 0);
}

static void test_tcp_check(void **state)
{
	struct tcp_check *check;
	struct err err = ERR_INIT;

	assert_int_equal(tcp_check_start(loop, "127.0.0.1", (uint16_t)port, NS_PER_S, on_checked, NULL, &check, &err),
			 0);
	tcp_result = 1;
	loop_run(loop);
	assert_int_equal(tcp_result, 0);
	assert_int_equal(
		tcp_check_start(loop, "127.0.0.1", (uint16_t)closed_port(), NS_PER_S, on_checked, NULL, &check, &err),
		0);
	loop_run(loop);
	assert_int_equal(tcp_result, -ECONNREFUSED);
	assert_int_equal(tcp_check_start(loop, "nowhere", 1, NS_PER_S, on_checked, NULL, &check, &err), -EINVAL);
	assert_int_equal(tcp_check_start(loop, "127.0.0.1", (uint16_t)port, NS_PER_S, on_checked, NULL, &check, &err),
			 0);
	tcp_check_destroy(check);
	err_finish(&err);
}

#define WITH_TLS ((void *)1)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_probes, setup, teardown),
		cmocka_unit_test_prestate_setup_teardown(test_probes, setup, teardown, WITH_TLS),
		cmocka_unit_test_setup_teardown(test_redirects, setup, teardown),
		cmocka_unit_test_prestate_setup_teardown(test_redirects, setup, teardown, WITH_TLS),
		cmocka_unit_test_setup_teardown(test_refused_and_bad_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroyed_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_servers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp_check, setup, teardown),
	};

	return cmocka_run_group_tests_name("http client", tests, NULL, NULL);
}
