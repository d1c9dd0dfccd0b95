/* SPDX-License-Identifier: Apache-2.0 */
/* Probes: parsing, thresholds, and real tcp and http checks on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "kubelet/probes/probe.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

static struct json *parse(struct arena *arena, const char *text)
{
	struct json *v;

	assert_int_equal(json_parse(arena, str_of(text), 0, &v, NULL), 0);
	return v;
}

static void test_parse(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *container = parse(&arena, "{\"ports\":[{\"name\":\"web\",\"containerPort\":8080}]}");
	struct probe_spec s;

	assert_int_equal(
		probe_spec_parse(
			&arena, PROBE_READINESS,
			parse(&arena, "{\"httpGet\":{\"port\":\"web\",\"path\":\"ok\",\"httpHeaders\":[{\"name\":\"X\","
				      "\"value\":\"y\"}]},\"periodSeconds\":3}"),
			container, &s, NULL),
		0);
	assert_int_equal(s.action.port, 8080);
	assert_string_equal(s.action.path, "/ok");
	assert_int_equal(s.action.n_headers, 1);
	assert_int_equal(s.period_ns, 3 * NS_PER_S);
	assert_int_equal(s.failure_threshold, 3);
	assert_int_equal(s.success_threshold, 1);
	assert_int_equal(s.timeout_ns, NS_PER_S);
	assert_true(probe_spec_parse(&arena, PROBE_LIVENESS, parse(&arena, "{\"tcpSocket\":{\"port\":\"none\"}}"),
				     container, &s, NULL) < 0);
	assert_true(probe_spec_parse(&arena, PROBE_LIVENESS, parse(&arena, "{}"), container, &s, NULL) < 0);
}

static void test_thresholds(void **state)
{
	struct probe_spec ready = { .kind = PROBE_READINESS, .success_threshold = 2, .failure_threshold = 3 };
	struct probe_spec live = { .kind = PROBE_LIVENESS, .success_threshold = 1, .failure_threshold = 2 };
	struct probe_counter c = { 0 };

	assert_false(probe_counter_add(&c, &ready, PROBE_SUCCESS));
	assert_false(probe_counter_add(&c, &ready, PROBE_FAILURE)); /* breaks the run */
	assert_false(probe_counter_add(&c, &ready, PROBE_SUCCESS));
	assert_false(probe_counter_add(&c, &ready, PROBE_UNKNOWN)); /* says nothing */
	assert_true(probe_counter_add(&c, &ready, PROBE_SUCCESS));
	assert_false(probe_counter_add(&c, &ready, PROBE_FAILURE));
	assert_false(probe_counter_add(&c, &ready, PROBE_FAILURE));
	assert_true(probe_counter_add(&c, &ready, PROBE_FAILURE));
	assert_true(probe_counter_add(&c, &ready, PROBE_FAILURE));
	c = (struct probe_counter){ 0 };
	assert_false(probe_counter_add(&c, &live, PROBE_FAILURE));
	assert_true(probe_counter_add(&c, &live, PROBE_FAILURE));
	assert_false(probe_counter_add(&c, &live, PROBE_FAILURE)); /* counts anew */
}

/* ---- on loopback ---- */

struct outcome {
	struct loop *loop;
	enum probe_result result;
	char output[PROBE_OUTPUT_MAX];
};

static void done(void *arg, enum probe_result result, struct str output)
{
	struct outcome *o = arg;

	o->result = result;
	snprintf(o->output, sizeof(o->output), "%.*s", STR_ARG(output));
	loop_stop(o->loop, 0);
}

static int listener(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static void run(struct outcome *o, struct probe_action *action, int64_t timeout_ns)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (loop_create(&(struct loop_options){ 0 }, &o->loop, &err) < 0)
		fail_msg("%s", err_message(&err));
	action_start(o->loop, NULL, "", "127.0.0.1", action, timeout_ns, done, o);
	loop_run(o->loop);
	loop_destroy(o->loop);
}

static void test_tcp(void **state)
{
	struct probe_action action = { .type = ACTION_TCP, .host = (char *)"" };
	struct outcome o = { 0 };
	int fd = listener(&action.port);

	run(&o, &action, 5 * NS_PER_S);
	assert_int_equal(o.result, PROBE_SUCCESS);
	close(fd);
	run(&o, &action, 5 * NS_PER_S);
	assert_int_equal(o.result, PROBE_FAILURE);
	assert_non_null(strstr(o.output, "connect: connection refused"));
}

/* Accepts one connection on a pool thread and answers. */
struct server {
	struct loop_work work;
	int fd;
	const char *answer;
};

static void serve(struct loop_work *work)
{
	struct server *s = container_of(work, struct server, work);
	char request[2048];
	int c = accept(s->fd, NULL, NULL);

	if (recv(c, request, sizeof(request), 0) > 0 && s->answer)
		(void)!send(c, s->answer, strlen(s->answer), MSG_NOSIGNAL);
	close(c);
}

static void served(struct loop_work *work)
{
}

static void http(struct outcome *o, const char *answer)
{
	struct probe_action action = {
		.type = ACTION_HTTP, .host = (char *)"", .path = (char *)"/", .scheme = (char *)"HTTP"
	};
	struct server s = { .work = { .run = serve, .done = served }, .answer = answer };
	_cleanup_err_ struct err err = ERR_INIT;

	s.fd = listener(&action.port);
	if (loop_create(&(struct loop_options){ 0 }, &o->loop, &err) < 0)
		fail_msg("%s", err_message(&err));
	loop_work_submit(o->loop, &s.work);
	action_start(o->loop, NULL, "", "127.0.0.1", &action, 5 * NS_PER_S, done, o);
	loop_run(o->loop);
	loop_destroy(o->loop);
	close(s.fd);
}

static void test_http(void **state)
{
	struct outcome o = { 0 };

	http(&o, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
	assert_int_equal(o.result, PROBE_SUCCESS);
	http(&o, "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
	assert_int_equal(o.result, PROBE_FAILURE);
	assert_string_equal(o.output, "HTTP probe failed with statuscode: 503");
	http(&o, NULL);
	assert_int_equal(o.result, PROBE_FAILURE);
	assert_true(strncmp(o.output, "Get \"http://127.0.0.1:", 21) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_thresholds),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_http),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
