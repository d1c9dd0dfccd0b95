/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.x grammar (RFC 9112), strict, without any I/O: heads of requests and responses, chunked bodies.
 * Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/str.h"
#include "userspace/net/http.h"

#define HTTP1_CHUNK_LINE_BYTES_MAX 256 /* size and extensions */
#define HTTP1_TRAILER_BYTES_MAX 8192

/* Length of the head (up to and with the empty line), 0 when it is not complete yet. `*scanned` remembers how far
 * was looked; 0 at first. */
size_t http1_find_head_end(struct str in, size_t *scanned);

struct http1_head {
	enum http_version version;
	struct str method, path, query, host; /* requests */
	int status;                           /* responses */
	struct http_header *headers;          /* names in lower case */
	size_t n_headers;
	int64_t content_length; /* -1: not given */
	bool chunked;
	bool keep_alive;
	bool expect_continue;
	bool connection_upgrade;
};

/* `head` as found above; its bytes are kept and changed (names get lower case), so it must be the caller's own and
 * live as long as the result. 0, or the HTTP status of the refusal (400, 417, 431, 501, 505) with a message. */
int http1_parse_request(char *head, size_t n, struct arena *arena, struct http1_head *ret, const char **ret_message);
/* 0 or -EPROTO. */
int http1_parse_response(char *head, size_t n, struct arena *arena, struct http1_head *ret);

/* True when a comma-separated header value has this token, in any case. */
bool http1_has_token(struct str value, const char *token);

struct http1_chunked {
	enum {
		HTTP1_CHUNK_SIZE,
		HTTP1_CHUNK_EXTENSION,
		HTTP1_CHUNK_SIZE_LF,
		HTTP1_CHUNK_DATA,
		HTTP1_CHUNK_DATA_CR,
		HTTP1_CHUNK_DATA_LF,
		HTTP1_CHUNK_TRAILER,
		HTTP1_CHUNK_END,
	} state;
	unsigned line_bytes; /* of the chunk's line, or of the trailers */
	unsigned digits;
	uint64_t left;
	unsigned char trailer_tail; /* where in CRLF CRLF */
};

/* Takes from `in`, appends to `out`: 1 at the end of the body, 0 when more is needed, -EINVAL, -EMSGSIZE when `out`
 * would pass `body_bytes_max`. Starts zeroed. */
int http1_chunked_decode(struct http1_chunked *d, struct str *in, struct buf *out, size_t body_bytes_max);
