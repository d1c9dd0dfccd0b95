/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.x grammar against arbitrary bytes. First byte: what to parse, and how the input is cut into pieces. */
#include <stdlib.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/net/http1.h"

#define BODY_BYTES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void parse_head(struct str in, bool request)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct http1_head head;
	const char *message;
	size_t scanned = 0, end = http1_find_head_end(in, &scanned);
	char *copy;

	if (!end)
		return;
	/* Exactly as large as the head, so that reading past it is seen. */
	copy = mem_alloc(end);
	memcpy(copy, in.p, end);
	if (request ? http1_parse_request(copy, end, &arena, &head, &message) == 0
		    : http1_parse_response(copy, end, &arena, &head) == 0) {
		for (size_t i = 0; i < head.n_headers; i++) {
			http1_has_token(head.headers[i].value, "close");
			if (!head.headers[i].name.n)
				abort();
		}
		if (request && !head.path.n)
			abort();
		if (head.chunked && head.content_length >= 0)
			abort();
	}
	free(copy);
}

static void decode_chunked(struct str in, size_t piece)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct http1_chunked d = { 0 };

	while (in.n) {
		struct str part = str_make(in.p, in.n < piece ? in.n : piece);
		size_t before = part.n;
		int r = http1_chunked_decode(&d, &part, &out, BODY_BYTES_MAX);

		if (buf_len(&out) > BODY_BYTES_MAX)
			abort();
		if (r)
			return;
		in = str_make(in.p + (before - part.n), in.n - (before - part.n));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str in;

	if (n < 1)
		return 0;
	in = str_make((const char *)data + 1, n - 1);
	switch (data[0] & 3) {
	case 0:
		parse_head(in, true);
		break;
	case 1:
		parse_head(in, false);
		break;
	default:
		decode_chunked(in, (size_t)(data[0] >> 2) + 1);
		break;
	}
	return 0;
}
