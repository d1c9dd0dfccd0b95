/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY/3.1 (the Chromium project's draft 3.1), the server's side of one session over any byte stream: what Kubernetes'
 * clients speak for exec and attach (before kubectl 1.30) and for port-forward (also through a WebSocket). Frames and
 * compressed headers in, streams out; bytes to be sent leave by a function of the owner's, so there is no I/O here.
 *
 * As those clients do, the session neither counts nor sends flow-control windows: the transport's own back-pressure
 * holds. The client opens streams, the server never does. Any one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/list.h"
#include "userspace/base/str.h"
#include "userspace/net/http.h"

#define SPDY_STREAMS_MAX 512                  /* open at once; further ones are refused by RST_STREAM */
#define SPDY_CONTROL_BYTES_MAX (16 * 1024)    /* of a control frame; data frames are never held */
#define SPDY_HEADERS_BYTES_MAX (64 * 1024)    /* of a header block, decompressed */
#define SPDY_HEADERS_MAX 64                   /* name and value pairs of one block */
#define SPDY_SEND_FRAME_BYTES_MAX (64 * 1024) /* longer data is sent as several frames */

enum spdy_status {
	SPDY_STATUS_PROTOCOL_ERROR = 1,
	SPDY_STATUS_INVALID_STREAM = 2,
	SPDY_STATUS_REFUSED_STREAM = 3,
	SPDY_STATUS_CANCEL = 5,
	SPDY_STATUS_INTERNAL_ERROR = 6,
};

struct spdy;

struct spdy_stream {
	struct list link; /* the session's */
	struct spdy *spdy;
	uint32_t id;
	bool peer_closed, closed; /* no more data from there, from here */
	void *user;               /* the owner's */
};

/* None of them may destroy the session. A stream is freed when both sides have closed it or one has reset it, after
 * on_reset(); the owner must not use it then. */
struct spdy_ops {
	void (*write)(void *arg, struct str bytes); /* copies */
	/* A new stream. Header names are lower case. False: refused. Strings live during the call. */
	bool (*on_stream)(void *arg, struct spdy_stream *s, const struct http_header *headers, size_t n_headers);
	void (*on_data)(void *arg, struct spdy_stream *s, struct str data);
	void (*on_fin)(void *arg, struct spdy_stream *s); /* the peer sends no more on it */
	/* The stream ends here: reset by the peer, or closed by both. Also called for all streams by spdy_destroy(). */
	void (*on_end)(void *arg, struct spdy_stream *s);
};

struct spdy *spdy_create(const struct spdy_ops *ops, void *arg);
void spdy_destroy(struct spdy *spdy); /* takes NULL */

/* -EPROTO, -EMSGSIZE: the session is broken; a GOAWAY was written, feed no more. */
int spdy_input(struct spdy *spdy, struct str bytes);

/* On a stream that spdy_close() has not been called on. */
void spdy_send(struct spdy_stream *s, struct str data);
/* No more from here. Frees the stream if the peer has closed it too. */
void spdy_close(struct spdy_stream *s);
void spdy_reset(struct spdy_stream *s, enum spdy_status status);
void spdy_goaway(struct spdy *spdy);

/* ---- the header block codec (spdy_headers.c) ---- */

struct spdy_deflater;
struct spdy_inflater;
struct arena;
struct buf;

/* One of each a session: the dictionary grows with what went before. */
struct spdy_deflater *spdy_deflater_create(void);
void spdy_deflater_destroy(struct spdy_deflater *d);
void spdy_headers_encode(struct spdy_deflater *d, const struct http_header *headers, size_t n_headers, struct buf *out);
struct spdy_inflater *spdy_inflater_create(void);
void spdy_inflater_destroy(struct spdy_inflater *i);
/* Headers in the arena; -EPROTO, -EMSGSIZE. */
int spdy_headers_decode(struct spdy_inflater *i, struct str block, struct arena *arena, struct http_header **ret,
			size_t *ret_n);
