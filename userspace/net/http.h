/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP server on the loop: one handler serves HTTP/1.1 and HTTP/2, over TLS (ALPN h2, http/1.1) or plain TCP
 * (HTTP/1.1 only). Loop thread.
 *
 * Life of a request. The handler is called once headers and body are complete. From then on the request ends
 * exactly once:
 *   - by its owner: http_respond*(), http_stream_end(), http_stream_abort() or http_upgrade(); or
 *   - by the server: on_close(), when the peer has gone, was shed, or the server shuts down.
 * The handler may end it at once or keep it and end it later (set on_close then; an owner that keeps a request
 * without on_close would hold a dangling pointer). After its end the request, its arena and every string in it may
 * only be used until the callback that is running returns; http_* calls on it are forbidden.
 *
 * Nothing here calls back into the owner from inside a call of the owner's: on_drain and on_close come from
 * the loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

struct loop;
struct tls_context;
struct http_server;

/* ---- limits ---- (a field of 0 takes the default named here) */

#define HTTP_HEADER_BYTES_DEFAULT (64 * 1024)
#define HTTP_HEADERS_MAX 128   /* header fields of one request */
#define HTTP_OUT_HEADERS_MAX 4 /* http_request.out_headers */
#define HTTP_BODY_BYTES_DEFAULT (3 * 1024 * 1024)
#define HTTP_CONNECTIONS_DEFAULT 10000 /* about 12 KiB each; at most half the descriptors that the process may have */
#define HTTP_OWNER_BYTES_MAX 256
#define HTTP_STREAMS_DEFAULT 250
#define HTTP_IDLE_TIMEOUT_NS_DEFAULT (180 * INT64_C(1000000000))
#define HTTP_HEADER_TIMEOUT_NS_DEFAULT (10 * INT64_C(1000000000))
#define HTTP_BODY_TIMEOUT_NS_DEFAULT (60 * INT64_C(1000000000))
#define HTTP_SEND_STALL_TIMEOUT_NS_DEFAULT (30 * INT64_C(1000000000))

struct http_limits {
	size_t header_bytes;       /* request line and header fields; beyond: 431 */
	size_t body_bytes;         /* beyond: 413 */
	unsigned connections;      /* beyond: who holds most of them loses one; a quarter is for those that have not
				    * made a request yet */
	unsigned streams;          /* concurrent requests of one HTTP/2 connection */
	int64_t idle_timeout_ns;   /* no request in flight */
	int64_t header_timeout_ns; /* from accept or the first byte to the end of the headers, TLS handshake included */
	int64_t body_timeout_ns;   /* from the end of the headers to the end of the body; beyond: 408 */
	int64_t send_stall_timeout_ns; /* bytes to send, and the peer takes none of them */
};

/* ---- requests ---- */

enum http_version { HTTP_1_0 = 10, HTTP_1_1 = 11, HTTP_2 = 20 };

struct http_header {
	struct str name; /* lower case in requests; any case in responses */
	struct str value;
};

/* The other end of a connection. Lives as long as the connection. */
struct http_peer {
	char address[48]; /* numeric, no brackets; v4-mapped addresses as IPv4 */
	uint16_t port;
	bool tls;
	/* Of the client certificate, when one was given and the client CA vouches for it; else NULL and 0. */
	const char *cert_cn;
	const char *const *cert_orgs;
	size_t n_cert_orgs;
	const char *cert_sha256; /* hex, of the DER form */
	/* A certificate was given but is not valid: why. The handler decides (401). NULL: none given or valid. */
	const char *cert_error;
};

struct http_request {
	struct http_server *server;
	enum http_version version;
	struct str method;
	struct str path;  /* as on the wire, percent-encoded, begins with '/' (or is "*") */
	struct str query; /* raw, without '?'; n = 0 when absent */
	struct str host;  /* Host or :authority */
	const struct http_header *headers;
	size_t n_headers;
	struct str body;
	const struct http_peer *peer;
	struct arena *arena; /* dies with the request */
	int64_t header_ns;   /* when the header was complete (monotonic clock) */

	/* The owner's. */
	void *user;
	void (*on_close)(struct http_request *req); /* the request ends here; may be NULL only if the handler ends it */
	void (*on_drain)(struct http_request *req); /* streaming: pending fell to drain_below or less; may be NULL */
	size_t drain_below;
	void *context; /* for on_end */
	/* Go out with whatever answer is given. */
	struct http_header out_headers[HTTP_OUT_HEADERS_MAX];
	unsigned n_out_headers;

	/* For on_end: what was answered (0: nothing) and how many bytes of body. */
	int status;
	uint64_t body_bytes;
};

/* First value; n = 0 and p = NULL when absent. `name` in lower case. */
struct str http_request_header(const struct http_request *req, const char *name);

/* Whose connection it is, as far as the handler knows: it counts for this user from now on, no longer for the address
 * it comes from. Within the handler. */
void http_request_set_owner(struct http_request *req, struct str user);

/* ---- answers ----
 * Header arrays and str bodies are copied (or sent) before the call returns. `content_type` may be NULL.
 * content-length, transfer-encoding, connection and date are the server's business. HEAD requests: give the body
 * all the same, it is not sent. */

void http_respond(struct http_request *req, int status, const char *content_type, const struct http_header *headers,
		  size_t n_headers, struct str body);
/* The body is shared, not copied: takes its own reference. */
void http_respond_chunk(struct http_request *req, int status, const char *content_type,
			const struct http_header *headers, size_t n_headers, struct chunk *body);
/* Many chunks sent one after the other as one body (LIST: the stored bytes as they are). Own references. */
void http_respond_chunks(struct http_request *req, int status, const char *content_type,
			 const struct http_header *headers, size_t n_headers, struct chunk *const *chunks,
			 size_t n_chunks);

/* ---- streaming answers (watch, log): headers at once, then chunks, then the end ---- */

void http_stream_begin(struct http_request *req, int status, const char *content_type,
		       const struct http_header *headers, size_t n_headers);
/* Queues without copying; takes its own reference. Writes of one loop iteration leave together. */
void http_stream_write(struct http_request *req, struct chunk *chunk);
/* A run of bytes in an answer. With an owner it is sent from where it lies and `unref(owner)` is called once, when it
 * is sent or dropped; without an owner it is copied. */
struct http_piece {
	struct str bytes;
	void *owner;
	void (*unref)(void *owner);
};

/* Both take the owners' references. */
void http_respond_pieces(struct http_request *req, int status, const char *content_type,
			 const struct http_header *headers, size_t n_headers, const struct http_piece *pieces,
			 size_t n_pieces);
void http_stream_write_pieces(struct http_request *req, const struct http_piece *pieces, size_t n_pieces);
/* The same with a copy. */
void http_stream_write_str(struct http_request *req, struct str bytes);
/* Bytes queued by this request and not yet handed to the socket. */
size_t http_stream_pending(const struct http_request *req);
void http_stream_end(struct http_request *req);
/* The peer can see that the answer is not complete (connection closed, or RST_STREAM). */
void http_stream_abort(struct http_request *req);

/* ---- HTTP/1.1 Upgrade: the connection becomes a byte stream ---- */

struct http_tunnel {
	/* All the bytes must be taken; http_tunnel_pause() stops more from coming. */
	void (*on_data)(struct http_tunnel *tunnel, struct str data);
	void (*on_drain)(struct http_tunnel *tunnel); /* pending fell to drain_below or less; may be NULL */
	void (*on_close)(struct http_tunnel *tunnel); /* peer gone or shed: the tunnel ends here */
	size_t drain_below;
	void *user;
	const struct http_peer *peer;
};

/* True when the request asks for this protocol ("websocket") by Connection: upgrade. HTTP/1.1 only. */
bool http_request_wants_upgrade(const struct http_request *req, const char *protocol);
/* Answers 101 (connection: upgrade is added; upgrade: and the rest come from `headers`). Ends the request. Set
 * the callbacks before returning to the loop. Never fails; the tunnel ends by http_tunnel_close() or on_close(). */
struct http_tunnel *http_upgrade(struct http_request *req, const struct http_header *headers, size_t n_headers);
void http_tunnel_write(struct http_tunnel *tunnel, struct str bytes); /* copies */
size_t http_tunnel_pending(const struct http_tunnel *tunnel);
void http_tunnel_pause(struct http_tunnel *tunnel, bool paused);
/* Sends what is queued, then closes; no callback comes any more. */
void http_tunnel_close(struct http_tunnel *tunnel);

/* ---- the server ---- */

typedef void http_handler_fn(void *arg, struct http_request *req);
/* The answer to a request that never reaches the handler (400, 408, 413, 431, 501, 505): fill the body from the
 * arena or from literals. Default: text/plain with the message. */
typedef void http_protocol_error_fn(void *arg, struct arena *arena, int status, const char *message,
				    struct str *ret_content_type, struct str *ret_body);

struct http_server_options {
	struct tls_context *tls; /* of tls_server_create(); shared, must outlive the server. NULL: plain */
	struct http_limits limits;
	http_handler_fn *handler;
	http_protocol_error_fn *on_protocol_error; /* NULL: default */
	/* Sees every request that the handler got end, exactly once, whoever ends it (an upgraded one when it is
	 * upgraded): req->status and body_bytes say how. Runs inside the owner's call; no http_* calls from it. */
	void (*on_end)(void *arg, struct http_request *req);
	/* A request whose header was read and that never reaches the handler: it is about to be refused with `status`
	 * (its out_headers go out with that), or its client has gone (0). The body is not there. May not end it or keep
	 * it; no http_* calls but http_request_header(). */
	void (*on_refused)(void *arg, struct http_request *req, int status, const char *message);
	void *arg;
};

int http_server_create(struct loop *loop, const struct http_server_options *options, struct http_server **ret,
		       struct err *err);
/* Accepts on a listening socket (see listen.h); takes the descriptor. Any number of them. */
int http_server_add_listener(struct http_server *server, int fd, struct err *err);
/* New connections use this context from now on (renewed certificates). */
void http_server_set_tls(struct http_server *server, struct tls_context *tls);

/* Graceful: stops accepting, sends GOAWAY or Connection: close, closes idle connections, ends streaming answers
 * by on_close (the peer sees a clean end), lets other requests finish for `grace_ns`, then closes what is left.
 * `done` is called once, from the loop, when no connection is left. */
void http_server_shutdown(struct http_server *server, int64_t grace_ns, void (*done)(void *arg), void *arg);
/* Closes everything; requests in flight see on_close. Safe after the loop has stopped: what the ring still holds is
 * left to loop_destroy, which must come after. Takes NULL. */
void http_server_destroy(struct http_server *server);

struct http_server_stats {
	uint64_t connections_total, requests_total, protocol_errors, shed; /* shed: closed by a limit or timeout */
	uint64_t handshake_errors;                                         /* ended before TLS was established */
	unsigned connections, requests, tunnels;                           /* now */
};

void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret);

/* "Not Found" and so on; "" for unknown codes. */
const char *http_status_text(int status);
