/* SPDX-License-Identifier: Apache-2.0 */
/* One TLS connection over buffers: ciphertext in by a borrowed span, ciphertext out into a buffer of the owner's.
 * Only for this room. The OpenSSL error queue is empty between calls. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/str.h"
#include "userspace/net/tls.h"

#define TLS_RECORD_BYTES 16384

struct tls_conn {
	SSL *ssl;
	struct str in; /* ciphertext not read yet; the owner sets it, and keeps the bytes while n > 0 */
	struct buf *out;
	const char *why; /* of the last failure: a static string */
};

/* `server_name`: client only, NULL for none. */
int tls_conn_init(struct tls_conn *conn, struct tls_context *context, struct buf *out, const char *server_name);
void tls_conn_finish(struct tls_conn *conn);
/* 1: done, 0: wants input, negative: failed (an alert may be in `out`). */
int tls_conn_handshake(struct tls_conn *conn);
/* Bytes; 0: wants input; -EPIPE: the peer ended the stream; -EPROTO. */
ssize_t tls_conn_read(struct tls_conn *conn, void *p, size_t n);
/* All of it, into `out`. */
int tls_conn_write(struct tls_conn *conn, const void *p, size_t n);
/* close_notify into `out`. */
void tls_conn_shutdown(struct tls_conn *conn);
bool tls_conn_is_http2(const struct tls_conn *conn);

/* The peer's certificate after the handshake; strings in the arena. */
struct tls_peer {
	const char *cn;
	const char *const *orgs;
	size_t n_orgs;
	const char *sha256;
	const char *error; /* given, but not valid */
};
void tls_conn_peer(const struct tls_conn *conn, struct arena *arena, struct tls_peer *ret);
