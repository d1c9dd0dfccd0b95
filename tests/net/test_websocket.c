/* SPDX-License-Identifier: Apache-2.0 */
/* The WebSocket codec: whole and cut-up frames, fragments, control frames in between, and broken peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/net/websocket.h"

static struct websocket_decoder d;
static struct buf wire;

static int setup(void **state)
{
	websocket_decoder_init(&d, 1000);
	wire = BUF_INIT;
	return 0;
}

static int teardown(void **state)
{
	websocket_decoder_finish(&d);
	buf_finish(&wire);
	return 0;
}

/* As a client would: masked. */
static void add_frame(unsigned first, const void *payload, size_t n)
{
	static const unsigned char mask[4] = { 0x12, 0x34, 0x56, 0x78 };
	unsigned char head[WEBSOCKET_HEAD_BYTES_MAX];
	size_t head_n = websocket_encode_head(head, first & 0xf, first & 0x80, n);

	head[0] = (unsigned char)first;
	head[1] |= 0x80;
	buf_add(&wire, head, head_n);
	buf_add(&wire, mask, 4);
	for (size_t i = 0; i < n; i++)
		buf_add_char(&wire, (char)(((const unsigned char *)payload)[i] ^ mask[i & 3]));
}

static int next(struct websocket_event *event)
{
	struct str in = buf_str(&wire);
	int r = websocket_decode(&d, &in, event);

	buf_consume(&wire, buf_len(&wire) - in.n);
	return r;
}

static void test_accept_key(void **state)
{
	char accept[WEBSOCKET_ACCEPT_KEY_SIZE];

	websocket_accept_key(STR("dGhlIHNhbXBsZSBub25jZQ=="), accept); /* RFC 6455 section 1.3 */
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void test_messages(void **state)
{
	struct websocket_event event;
	char large[1000];

	memset(large, 'x', sizeof(large));
	add_frame(0x81, "hello", 5);
	add_frame(0x82, large, sizeof(large));
	add_frame(0x82, "", 0);
	assert_int_equal(next(&event), 1);
	assert_int_equal(event.opcode, WEBSOCKET_TEXT);
	assert_true(str_is(event.data, "hello"));
	assert_int_equal(next(&event), 1);
	assert_int_equal(event.opcode, WEBSOCKET_BINARY);
	assert_int_equal(event.data.n, sizeof(large));
	assert_memory_equal(event.data.p, large, sizeof(large));
	assert_int_equal(next(&event), 1);
	assert_int_equal(event.data.n, 0);
	assert_int_equal(next(&event), 0);
}

static void test_fragments_with_ping_between_byte_by_byte(void **state)
{
	struct websocket_event event;
	int messages = 0, pings = 0;

	add_frame(0x01, "hel", 3);
	add_frame(0x89, "ping", 4);
	add_frame(0x00, "lo ", 3);
	add_frame(0x80, "world", 5);
	while (buf_len(&wire)) {
		struct str in = str_make(buf_str(&wire).p, 1);
		int r = websocket_decode(&d, &in, &event);

		buf_consume(&wire, 1);
		assert_true(r >= 0);
		if (r && event.opcode == WEBSOCKET_PING) {
			assert_true(str_is(event.data, "ping"));
			pings++;
		} else if (r) {
			assert_true(str_is(event.data, "hello world"));
			messages++;
		}
	}
	assert_int_equal(messages, 1);
	assert_int_equal(pings, 1);
}

static void test_close(void **state)
{
	struct websocket_event event;

	add_frame(0x88,
		  "\x03\xe8"
		  "bye",
		  5);
	assert_int_equal(next(&event), 1);
	assert_int_equal(event.opcode, WEBSOCKET_CLOSE);
	assert_int_equal(event.close_status, 1000);
	assert_true(str_is(event.data, "bye"));
	add_frame(0x81, "late", 4);
	assert_int_equal(next(&event), -EPROTO);
}

static void test_broken_peers(void **state)
{
	static const struct {
		int result;
		unsigned first;
		const char *payload;
		size_t n;
	} cases[] = {
		{ -EPROTO, 0xc1, "x", 1 },        /* RSV1 */
		{ -EPROTO, 0x83, "x", 1 },        /* unknown opcode */
		{ -EPROTO, 0x8b, "x", 1 },        /* unknown control opcode */
		{ -EPROTO, 0x80, "x", 1 },        /* continuation of nothing */
		{ -EPROTO, 0x09, "x", 1 },        /* fragmented ping */
		{ -EPROTO, 0x88, "x", 1 },        /* close with half a status */
		{ -EPROTO, 0x88, "\x03\xed", 2 }, /* 1005 is never sent */
		{ -EPROTO, 0x88, "\x00\x01", 2 },
		{ -EILSEQ, 0x88, "\x03\xe8\xff", 3 },
		{ -EILSEQ, 0x81, "\xc0\xaf", 2 },     /* overlong */
		{ -EILSEQ, 0x81, "\xed\xa0\x80", 3 }, /* surrogate */
		{ -EILSEQ, 0x81, "\xf4\x90\x80\x80", 4 },
		{ -EILSEQ, 0x81, "\xe2\x82", 2 }, /* cut off */
	};
	struct websocket_event event;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		teardown(NULL);
		setup(NULL);
		add_frame(cases[i].first, cases[i].payload, cases[i].n);
		if (next(&event) != cases[i].result)
			fail_msg("case %zu", i);
		assert_int_equal(next(&event), -EPROTO);
	}
}

static void test_limits(void **state)
{
	struct websocket_event event;
	char large[1001] = { 0 };

	add_frame(0x82, large, sizeof(large));
	assert_int_equal(next(&event), -EMSGSIZE);
	teardown(NULL);
	setup(NULL);
	add_frame(0x02, large, 600);
	add_frame(0x80, large, 600);
	assert_int_equal(next(&event), -EMSGSIZE);
	teardown(NULL);
	setup(NULL);
	/* A control frame of 126 bytes, an unmasked frame, a length in a longer form than needed. */
	add_frame(0x89, large, 126);
	assert_int_equal(next(&event), -EPROTO);
	teardown(NULL);
	setup(NULL);
	buf_add(&wire, "\x81\x01x", 3);
	assert_int_equal(next(&event), -EPROTO);
	teardown(NULL);
	setup(NULL);
	buf_add(&wire, "\x82\xfe\x00\x05\0\0\0\0hello", 13);
	assert_int_equal(next(&event), -EPROTO);
}

static void test_encode_head(void **state)
{
	unsigned char head[WEBSOCKET_HEAD_BYTES_MAX];

	assert_int_equal(websocket_encode_head(head, WEBSOCKET_BINARY, true, 125), 2);
	assert_memory_equal(head, "\x82\x7d", 2);
	assert_int_equal(websocket_encode_head(head, WEBSOCKET_TEXT, false, 126), 4);
	assert_memory_equal(head, "\x01\x7e\x00\x7e", 4);
	assert_int_equal(websocket_encode_head(head, WEBSOCKET_BINARY, true, 65536), 10);
	assert_memory_equal(head, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept_key),
		cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fragments_with_ping_between_byte_by_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_peers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test(test_encode_head),
	};

	return cmocka_run_group_tests_name("websocket", tests, NULL, NULL);
}
