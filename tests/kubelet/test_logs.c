/* SPDX-License-Identifier: Apache-2.0 */
/* Reading CRI logs: tails across rotated files, limits, back-pressure, following a rotation to the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>
#include <string.h>

#include "kubelet/logs/logs.h"
#include "tests/kubelet/test_images_fixture.h"
#include "userspace/base/clock.h"

struct state {
	char dir[64], path[96];
	struct loop *loop;
	struct log_reader *reader;
	struct loop_timer guard;
	struct buf got;
	bool ended, hold, expired;
	size_t wanted;
};

static bool on_write(void *ctx, const void *p, size_t n)
{
	struct state *s = ctx;

	buf_add(&s->got, p, n);
	if (s->hold || (s->wanted && buf_len(&s->got) >= s->wanted))
		loop_stop(s->loop, 0);
	return !s->hold;
}

static void on_end(void *ctx, const struct err *err)
{
	struct state *s = ctx;

	assert_null(err);
	s->ended = true;
	loop_stop(s->loop, 0);
}

static void on_guard(struct loop_timer *timer)
{
	struct state *s = container_of(timer, struct state, guard);

	s->expired = true;
	loop_stop(s->loop, 0);
}

static int setup(void **ret)
{
	struct state *s = mem_new(struct state);

	strcpy(s->dir, "/tmp/k3c-logs-XXXXXX");
	if (!mkdtemp(s->dir) || loop_create(NULL, &s->loop, NULL) < 0)
		return -1;
	snprintf(s->path, sizeof(s->path), "%s/0.log", s->dir);
	loop_timer_init(&s->guard, on_guard);
	loop_timer_arm(s->loop, &s->guard, 20 * NS_PER_S);
	*ret = s;
	return 0;
}

static void turn(struct state *s, int64_t ms);

static int teardown(void **ret)
{
	struct state *s = *ret;

	log_reader_destroy(s->reader);
	turn(s, 20); /* a cancelled watch comes back on the loop */
	loop_destroy(s->loop);
	buf_finish(&s->got);
	fixture_remove(s->dir);
	free(s);
	return 0;
}

static void turn(struct state *s, int64_t ms)
{
	loop_timer_arm(s->loop, &s->guard, ms * NS_PER_MS);
	loop_run(s->loop);
	s->expired = false;
	loop_timer_arm(s->loop, &s->guard, 20 * NS_PER_S);
}

static void add(const char *path, int from, int to, const char *tag)
{
	FILE *f = fopen(path, "a");

	for (int i = from; i < to; i++)
		fprintf(f, "2026-01-01T00:%02d:%02d.000000001Z stdout %s line %d\n", i / 60 % 60, i % 60, tag, i);
	fclose(f);
}

static void open_reader(struct state *s, struct log_reader_options o)
{
	const struct log_reader_sink sink = { .ctx = s, .write = on_write, .end = on_end };

	o.path = s->path;
	if (!o.tail_lines)
		o.tail_lines = -1;
	if (!o.limit_bytes)
		o.limit_bytes = -1;
	assert_int_equal(log_reader_create(s->loop, &o, &sink, &s->reader, NULL), 0);
}

static void read_to_end(struct state *s)
{
	while (!s->ended && !s->expired)
		loop_run(s->loop);
	assert_true(s->ended);
}

static void test_all_and_rotated(void **state)
{
	struct state *s = *state;
	_cleanup_free_ char *older = mem_printf("%s.20260101-000000.1", s->path);

	add(older, 0, 3, "F");
	add(s->path, 3, 5, "F");
	open_reader(s, (struct log_reader_options){ 0 });
	read_to_end(s);
	assert_string_equal(buf_cstr(&s->got), "line 0\nline 1\nline 2\nline 3\nline 4\n");
}

static void test_tail(void **state)
{
	struct state *s = *state;
	_cleanup_free_ char *older = mem_printf("%s.20260101-000000.1", s->path);

	add(older, 0, 10000, "F");
	add(s->path, 10000, 10002, "F");
	open_reader(s, (struct log_reader_options){ .tail_lines = 4 });
	read_to_end(s);
	assert_string_equal(buf_cstr(&s->got), "line 9998\nline 9999\nline 10000\nline 10001\n");
}

static void test_timestamps_since_limit(void **state)
{
	struct state *s = *state;
	int64_t since;

	add(s->path, 0, 10, "F");
	assert_int_equal(clock_parse_rfc3339(STR("2026-01-01T00:00:08Z"), &since), 0);
	open_reader(s, (struct log_reader_options){ .timestamps = true, .since_real_ns = since, .limit_bytes = 45 });
	read_to_end(s);
	assert_string_equal(buf_cstr(&s->got), "2026-01-01T00:00:08.000000001Z line 8\n2026-01");
}

static void test_partial(void **state)
{
	struct state *s = *state;

	add(s->path, 0, 2, "P");
	add(s->path, 2, 4, "F");
	open_reader(s, (struct log_reader_options){ .timestamps = true });
	read_to_end(s);
	assert_string_equal(
		buf_cstr(&s->got),
		"2026-01-01T00:00:00.000000001Z line 0line 1line 2\n2026-01-01T00:00:03.000000001Z line 3\n");
}

static void test_backpressure(void **state)
{
	struct state *s = *state;
	size_t before;

	add(s->path, 0, 100000, "F");
	s->hold = true;
	open_reader(s, (struct log_reader_options){ 0 });
	loop_run(s->loop);
	before = buf_len(&s->got);
	assert_true(before > 0 && before <= LOGS_STEP_BYTES);
	turn(s, 50);
	assert_int_equal(buf_len(&s->got), before);
	s->hold = false;
	log_reader_resume(s->reader);
	read_to_end(s);
	assert_non_null(strstr(buf_cstr(&s->got), "line 99999\n"));
}

static void test_follow(void **state)
{
	struct state *s = *state;
	_cleanup_free_ char *rotated = mem_printf("%s.20260101-000000.1", s->path);

	add(s->path, 0, 1, "F");
	open_reader(s, (struct log_reader_options){ .follow = true });
	s->wanted = strlen("line 0\n");
	loop_run(s->loop);
	assert_string_equal(buf_cstr(&s->got), "line 0\n");
	add(s->path, 1, 2, "F");
	s->wanted += strlen("line 1\n");
	while (buf_len(&s->got) < s->wanted && !s->expired)
		loop_run(s->loop);
	add(s->path, 2, 3, "F");
	rename(s->path, rotated);
	add(s->path, 3, 4, "F");
	s->wanted += 2 * strlen("line 1\n");
	while (buf_len(&s->got) < s->wanted && !s->expired)
		loop_run(s->loop);
	assert_string_equal(buf_cstr(&s->got), "line 0\nline 1\nline 2\nline 3\n");
	assert_false(s->ended);
	log_reader_container_ended(s->reader);
	read_to_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_and_rotated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timestamps_since_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_partial, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backpressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_follow, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
