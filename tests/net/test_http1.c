/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.x grammar: what is read, and what is refused with which status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/net/http1.h"

static struct arena arena;
static struct http1_head head;
static const char *message;

static int parse(const char *text)
{
	size_t scanned = 0, n = http1_find_head_end(str_of(text), &scanned);

	assert_int_equal(n, strlen(text));
	memset(&head, 0, sizeof(head));
	return http1_parse_request(arena_strdup(&arena, text), n, &arena, &head, &message);
}

static int teardown(void **state)
{
	arena_finish(&arena);
	return 0;
}

#define ASSERT_STR(actual, expected) assert_true(str_is((actual), (expected)))

static void test_request(void **state)
{
	assert_int_equal(parse("GET /api/v1/pods?limit=5&watch=1 HTTP/1.1\r\nHost: a:6443\r\nAccept:  x/y, z \t\r\n"
			       "X-Empty:\r\n\r\n"),
			 0);
	ASSERT_STR(head.method, "GET");
	ASSERT_STR(head.path, "/api/v1/pods");
	ASSERT_STR(head.query, "limit=5&watch=1");
	ASSERT_STR(head.host, "a:6443");
	assert_int_equal(head.version, HTTP_1_1);
	assert_true(head.keep_alive);
	assert_int_equal(head.n_headers, 3);
	ASSERT_STR(head.headers[1].name, "accept");
	ASSERT_STR(head.headers[1].value, "x/y, z");
	assert_int_equal(head.headers[2].value.n, 0);
	assert_int_equal(head.content_length, -1);
}

static void test_connection_fields(void **state)
{
	assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"), 0);
	assert_false(head.keep_alive);
	assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n"), 0);
	assert_false(head.keep_alive);
	assert_int_equal(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 0);
	assert_true(head.keep_alive);
	assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\r\n"), 0);
	assert_true(head.connection_upgrade);
	assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-Continue\r\n\r\n"), 0);
	assert_int_equal(head.content_length, 12);
	assert_true(head.expect_continue);
	assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), 0);
	assert_true(head.chunked);
}

static void test_targets(void **state)
{
	assert_int_equal(parse("GET http://h:1/a/b?c HTTP/1.1\r\nHost: h:1\r\n\r\n"), 0);
	ASSERT_STR(head.path, "/a/b");
	ASSERT_STR(head.query, "c");
	assert_int_equal(parse("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
	ASSERT_STR(head.path, "/");
	assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
	ASSERT_STR(head.path, "*");
}

static void test_refused(void **state)
{
	static const struct {
		int status;
		const char *text;
	} cases[] = {
		{ 400, "\r\n\r\n" },
		{ 400, "GET\r\n\r\n" },
		{ 400, "GET /\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n\r\n" },
		{ 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n" },
		{ 400, "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET / http/1.1\r\nHost: a\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\nHost: a\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ 400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ 501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
		{ 501,
		  "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ 501, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ 417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n" },
		{ 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (parse(cases[i].text) != cases[i].status)
			fail_msg("case %zu: %s", i, cases[i].text);
		assert_non_null(message);
	}
}

static void test_too_many_fields(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	buf_add_cstr(&text, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < HTTP_HEADERS_MAX - 1; i++)
		buf_printf(&text, "X-%d: y\r\n", i);
	buf_add_cstr(&text, "\r\n");
	assert_int_equal(parse(buf_cstr(&text)), 0);
	assert_int_equal(head.n_headers, HTTP_HEADERS_MAX);
	text.end -= 2;
	buf_add_cstr(&text, "One-More: y\r\n\r\n");
	assert_int_equal(parse(buf_cstr(&text)), 431);
}

static void test_head_end_in_pieces(void **state)
{
	const char *text = "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
	size_t scanned = 0, whole = strlen(text) - 4;

	for (size_t n = 0; n < whole; n++)
		assert_int_equal(http1_find_head_end(str_make(text, n), &scanned), 0);
	assert_int_equal(http1_find_head_end(str_of(text), &scanned), whole);
}

static void test_response(void **state)
{
	char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", bare[] = "HTTP/1.0 404\r\n\r\n";
	char bad[] = "HTTP/1.1 2x0 OK\r\n\r\n", worse[] = "ICY 200 OK\r\n\r\n";

	assert_int_equal(http1_parse_response(ok, strlen(ok), &arena, &head), 0);
	assert_int_equal(head.status, 200);
	assert_int_equal(head.content_length, 3);
	assert_int_equal(http1_parse_response(bare, strlen(bare), &arena, &head), 0);
	assert_int_equal(head.status, 404);
	assert_int_equal(http1_parse_response(bad, strlen(bad), &arena, &head), -EPROTO);
	assert_int_equal(http1_parse_response(worse, strlen(worse), &arena, &head), -EPROTO);
}

/* Result, with the decoded bytes in `out`, fed in pieces. */
static int dechunk(const char *text, size_t piece, size_t max, struct buf *out, size_t *ret_left)
{
	struct http1_chunked d = { 0 };
	struct str rest = str_of(text);
	int r = 0;

	buf_reset(out);
	while (rest.n && !r) {
		struct str part = str_make(rest.p, rest.n < piece ? rest.n : piece);
		size_t n = part.n;

		r = http1_chunked_decode(&d, &part, out, max);
		rest = str_make(rest.p + n - part.n, rest.n - (n - part.n));
	}
	*ret_left = rest.n;
	return r;
}

static void test_chunked(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	static const char *const good[] = {
		"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nNEXT",
		"5;ext=\"1\"\r\nhello\r\n06 \r\n world\r\n000;last\r\nTrailer: x\r\nOther: y\r\n\r\nNEXT",
		"B\r\nhello world\r\n0\r\n\r\nNEXT",
	};
	static const char *const bad[] = {
		"\r\nhello",
		"g\r\n",
		"5\nhello",
		"5\r\nhelloX",
		"5\r\nhello\rX",
		"-1\r\n",
		"1000000000000000\r\n",
		"5 5;\nx",
		"0\r\nTrailer\n",
		"0\r\nTrailer\rX",
		"0x5\r\nhello",
	};
	size_t left;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		for (size_t piece = 1; piece < 60; piece++) {
			assert_int_equal(dechunk(good[i], piece, 11, &out, &left), 1);
			assert_true(str_is(buf_str(&out), "hello world"));
			assert_int_equal(left, 4);
		}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (dechunk(bad[i], 100, 100, &out, &left) != -EINVAL)
			fail_msg("case %zu: %s", i, bad[i]);
	assert_int_equal(dechunk(good[0], 1, 10, &out, &left), -EMSGSIZE);
	assert_int_equal(dechunk("fffffffffffffff\r\nx", 100, 10, &out, &left), -EMSGSIZE);
	assert_int_equal(dechunk("5\r\nhel", 100, 10, &out, &left), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_request, teardown),
		cmocka_unit_test_teardown(test_connection_fields, teardown),
		cmocka_unit_test_teardown(test_targets, teardown),
		cmocka_unit_test_teardown(test_refused, teardown),
		cmocka_unit_test_teardown(test_too_many_fields, teardown),
		cmocka_unit_test_teardown(test_head_end_in_pieces, teardown),
		cmocka_unit_test_teardown(test_response, teardown),
		cmocka_unit_test_teardown(test_chunked, teardown),
	};

	return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
