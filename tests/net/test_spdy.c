/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY sessions, spoken to in bytes. The frames of the client are written out by this file's own code; its header
 * blocks are plain zlib with the specification's dictionary, whose checksum the specification's implementations carry.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zlib.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/mem.h"
#include "userspace/net/spdy.h"

#define DICTIONARY_ADLER 0xe3c6a7c2u

struct peer {
	struct spdy *spdy;
	struct buf wire; /* what the server wrote */
	struct buf log;  /* what the owner was told */
	struct spdy_deflater *out;
	bool refuse;
	struct spdy_stream *last;
};

static void on_write(void *arg, struct str bytes)
{
	buf_add_str(&((struct peer *)arg)->wire, bytes);
}

static bool on_stream(void *arg, struct spdy_stream *s, const struct http_header *headers, size_t n)
{
	struct peer *p = arg;

	buf_printf(&p->log, "stream %u", s->id);
	for (size_t i = 0; i < n; i++)
		buf_printf(&p->log, " %.*s=%.*s", STR_ARG(headers[i].name), STR_ARG(headers[i].value));
	buf_add_cstr(&p->log, "\n");
	p->last = s;
	return !p->refuse;
}

static void on_data(void *arg, struct spdy_stream *s, struct str data)
{
	buf_printf(&((struct peer *)arg)->log, "data %u %.*s\n", s->id, STR_ARG(data));
}

static void on_fin(void *arg, struct spdy_stream *s)
{
	buf_printf(&((struct peer *)arg)->log, "fin %u\n", s->id);
}

static void on_end(void *arg, struct spdy_stream *s)
{
	buf_printf(&((struct peer *)arg)->log, "end %u\n", s->id);
}

static const struct spdy_ops ops = { on_write, on_stream, on_data, on_fin, on_end };

static int setup(void **state)
{
	struct peer *p = mem_new(struct peer);

	p->spdy = spdy_create(&ops, p);
	p->out = spdy_deflater_create();
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct peer *p = *state;

	spdy_destroy(p->spdy);
	spdy_deflater_destroy(p->out);
	buf_finish(&p->wire);
	buf_finish(&p->log);
	free(p);
	return 0;
}

static void u32(struct buf *b, uint32_t v)
{
	buf_add_char(b, (char)(v >> 24));
	buf_add_char(b, (char)(v >> 16));
	buf_add_char(b, (char)(v >> 8));
	buf_add_char(b, (char)v);
}

static void frame(struct buf *b, unsigned type, unsigned flags, struct str body)
{
	u32(b, 0x80030000u | type);
	u32(b, (uint32_t)flags << 24 | (uint32_t)body.n);
	buf_add_str(b, body);
}

static void data_frame(struct buf *b, uint32_t id, unsigned flags, struct str data)
{
	u32(b, id);
	u32(b, (uint32_t)flags << 24 | (uint32_t)data.n);
	buf_add_str(b, data);
}

static void syn(struct peer *p, struct buf *b, uint32_t id, unsigned flags, const char *type)
{
	const struct http_header headers[] = { { STR("streamtype"), str_of(type) }, { STR("port"), STR("80") } };
	_cleanup_buf_ struct buf body = BUF_INIT;

	u32(&body, id);
	u32(&body, 0);
	buf_add(&body, "\0\0", 2);
	spdy_headers_encode(p->out, headers, 2, &body);
	frame(b, 1, flags, buf_str(&body));
}

static void assert_log(struct peer *p, const char *want)
{
	assert_string_equal(buf_cstr(&p->log), want);
	buf_reset(&p->log);
}

static void feed(struct peer *p, struct buf *b)
{
	assert_int_equal(spdy_input(p->spdy, buf_str(b)), 0);
	buf_reset(b);
}

static void test_dictionary(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;
	const unsigned char *z;

	spdy_headers_encode(p->out, NULL, 0, &b);
	z = (const unsigned char *)buf_str(&b).p;
	/* RFC 1950: CMF, FLG with FDICT, then the dictionary's checksum. */
	assert_int_equal(z[0] & 0x0f, 8);
	assert_true(z[1] & 0x20);
	assert_int_equal((uint32_t)z[2] << 24 | (uint32_t)z[3] << 16 | (uint32_t)z[4] << 8 | z[5], DICTIONARY_ADLER);
}

static void test_a_stream(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;

	syn(p, &b, 1, 0, "data");
	data_frame(&b, 1, 0, STR("hello"));
	data_frame(&b, 1, 1, STR("bye"));
	feed(p, &b);
	assert_log(p, "stream 1 streamtype=data port=80\ndata 1 hello\ndata 1 bye\nfin 1\n");
	buf_reset(&p->wire);
	spdy_send(p->last, STR("out"));
	spdy_close(p->last);
	assert_log(p, "end 1\n");
	data_frame(&b, 1, 0, STR("out"));
	data_frame(&b, 1, 1, STR(""));
	assert_int_equal(buf_len(&p->wire), buf_len(&b));
	assert_memory_equal(buf_str(&p->wire).p, buf_str(&b).p, buf_len(&b));
}

static void test_byte_by_byte(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct str all;

	syn(p, &b, 1, 0, "error");
	syn(p, &b, 3, 1, "data"); /* the second block leans on the first one */
	data_frame(&b, 1, 1, STR("xy"));
	all = buf_str(&b);
	for (size_t i = 0; i < all.n; i++)
		assert_int_equal(spdy_input(p->spdy, str_make(all.p + i, 1)), 0);
	assert_log(p, "stream 1 streamtype=error port=80\nstream 3 streamtype=data port=80\nfin 3\n"
		      "data 1 x\ndata 1 y\nfin 1\n");
}

static void test_refused_and_reset(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT, reset = BUF_INIT;

	p->refuse = true;
	syn(p, &b, 1, 0, "data");
	feed(p, &b);
	assert_log(p, "stream 1 streamtype=data port=80\nend 1\n");
	u32(&reset, 1);
	u32(&reset, SPDY_STATUS_REFUSED_STREAM);
	frame(&b, 3, 0, buf_str(&reset));
	assert_true(buf_len(&p->wire) >= buf_len(&b));
	assert_memory_equal(buf_str(&p->wire).p + buf_len(&p->wire) - buf_len(&b), buf_str(&b).p, buf_len(&b));
	buf_reset(&b);
	/* Data for a stream that is no more is passed over. */
	data_frame(&b, 1, 0, STR("late"));
	p->refuse = false;
	syn(p, &b, 3, 0, "data");
	buf_reset(&reset);
	u32(&reset, 3);
	u32(&reset, SPDY_STATUS_CANCEL);
	frame(&b, 3, 0, buf_str(&reset));
	feed(p, &b);
	assert_log(p, "stream 3 streamtype=data port=80\nend 3\n");
}

static void test_ping_and_unknown(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;

	frame(&b, 4, 0, STR("\0\0\0\0")); /* SETTINGS */
	frame(&b, 77, 0, STR("what"));
	frame(&b, 6, 0, str_make("\0\0\0\2", 4)); /* the server's own: no answer */
	feed(p, &b);
	assert_int_equal(buf_len(&p->wire), 0);
	frame(&b, 6, 0, str_make("\0\0\0\1", 4));
	assert_int_equal(spdy_input(p->spdy, buf_str(&b)), 0);
	assert_memory_equal(buf_str(&p->wire).p, buf_str(&b).p, buf_len(&b));
}

static void test_broken(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		int want;
	} cases[] = {
		{ "\x80\x02\0\1\0\0\0\0", 8, -EPROTO },                            /* SPDY/2 */
		{ "\x80\x03\0\1\0\xff\xff\xff", 8, -EMSGSIZE },                    /* a control frame of 16 MiB */
		{ "\x80\x03\0\1\0\0\0\2ab", 10, -EPROTO },                         /* too short */
		{ "\x80\x03\0\1\0\0\0\x0e\0\0\0\1\0\0\0\0\0\0zzzz", 22, -EPROTO }, /* no zlib */
		{ "\x80\x03\0\6\0\0\0\1a", 9, -EPROTO },
		{ "\x80\x03\0\3\0\0\0\4abcd", 12, -EPROTO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct peer p = { 0 };

		p.spdy = spdy_create(&ops, &p);
		assert_int_equal(spdy_input(p.spdy, str_make(cases[i].bytes, cases[i].n)), cases[i].want);
		assert_true(buf_len(&p.wire) == 16); /* GOAWAY */
		assert_int_equal(spdy_input(p.spdy, STR("x")), -EPROTO);
		spdy_destroy(p.spdy);
		buf_finish(&p.wire);
		buf_finish(&p.log);
	}
	(void)state;
}

/* Ids must be odd and grow. */
static void test_ids(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;

	syn(p, &b, 5, 0, "data");
	feed(p, &b);
	syn(p, &b, 3, 0, "data");
	assert_int_equal(spdy_input(p->spdy, buf_str(&b)), -EPROTO);
}

static void test_limits(void **state)
{
	struct peer *p = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct spdy_inflater *in = spdy_inflater_create();
	struct spdy_deflater *out = spdy_deflater_create();
	char *big = arena_alloc(&arena, 1 << 20);
	struct http_header header = { STR("a"), STR_NULL }, *headers;
	size_t n;

	for (uint32_t id = 1; id <= 2 * SPDY_STREAMS_MAX; id += 2)
		syn(p, &b, id, 0, "data");
	feed(p, &b);
	buf_reset(&p->log);
	syn(p, &b, 2 * SPDY_STREAMS_MAX + 1, 0, "data");
	feed(p, &b);
	assert_log(p, "");
	/* A block that swells. */
	memset(big, 'x', 1 << 20);
	header.value = str_make(big, 1 << 20);
	spdy_headers_encode(out, &header, 1, &b);
	assert_true(buf_len(&b) < SPDY_CONTROL_BYTES_MAX);
	assert_int_equal(spdy_headers_decode(in, buf_str(&b), &arena, &headers, &n), -EMSGSIZE);
	spdy_inflater_destroy(in);
	spdy_deflater_destroy(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dictionary, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_byte_by_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_and_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ping_and_unknown, setup, teardown),
		cmocka_unit_test(test_broken),
		cmocka_unit_test_setup_teardown(test_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
