/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP server share; for nobody else.
 *
 * http_server.c  the server: accepting, limits, deadlines, shutdown, what owners call
 * http_shares.c  who holds how many connections, and who loses one
 * http_conn.c    one connection: bytes between socket, TLS and the protocol above
 * http_out.c     queues of bytes to send: shared chunks and copied bytes
 * http_h1.c      HTTP/1.x on a connection, and the tunnel after an upgrade
 * http_h2.c      HTTP/2 on a connection, by nghttp2
 *
 * Everything a connection does is decided in conn_work(), which runs from the receive and send completions and,
 * when an owner asked for something, from a defer: never inside a call of an owner's.
 */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/list.h"
#include "userspace/base/map.h"
#include "userspace/loop/loop.h"
#include "userspace/net/http.h"
#include "userspace/net/http1.h"
#include "userspace/net/tls_conn.h"

#define HTTP_SEND_BYTES_MAX (256 * 1024) /* handed to the socket at once */
/* All connections in one turn of the loop; beyond it each gets the least, so that who sends much delays the next turn
 * by a bounded time. */
#define HTTP_TURN_BYTES_MAX (512 * 1024)
#define HTTP_SEND_BYTES_LEAST (32 * 1024)
#define HTTP_PIECE_COPY_MAX 256                        /* bytes; shorter pieces are copied */
#define HTTP_OUT_KEEP_BYTES 1024                       /* of an empty queue's memory */
#define HTTP_INPUT_BYTES_MAX (256 * 1024)              /* received ahead of what is being answered */
#define HTTP_RELEASE_IDLE_NS (2 * INT64_C(1000000000)) /* then an idle connection gives its buffers back */
#define HTTP_LINGER_NS                                                                                                 \
	(1 * INT64_C(1000000000)) /* after an error: reading on, so that the answer is not lost to a reset */
#define HTTP_BODIES_TOTAL_BYTES_MAX                                                                                    \
	(128 * 1024 * 1024) /* request bodies being received, all connections; beyond: 503 */
#define HTTP_FREE_STREAMS_MAX 64
#define HTTP_FRESH_PART 4 /* of all connections this part is for those without a request yet */
#define HTTP_ORIGIN_BYTES_MAX 9
#define HTTP_FREE_ARENA_BYTES_MAX (64 * 1024) /* a used request keeps at most this for the next */
#define HTTP_COPY_INLINE_MAX 8192             /* bytes copied into the queue's buffer; more become a chunk */

/* ---- deadlines: one list a kind, each kind with one duration, so that every list is in order ---- */

enum http_deadline_kind {
	HTTP_DEADLINE_RELEASE,
	HTTP_DEADLINE_IDLE,
	HTTP_DEADLINE_HEADER,
	HTTP_DEADLINE_LINGER,
	HTTP_DEADLINE_SEND,        /* of a connection: the socket */
	HTTP_DEADLINE_BODY,        /* of a stream */
	HTTP_DEADLINE_STREAM_SEND, /* of a stream: HTTP/2 flow control */
	HTTP_DEADLINES,
};

struct http_deadline {
	struct list link;
	int64_t due_ns; /* 0: none */
	enum http_deadline_kind kind;
};

/* ---- queues of bytes to send ---- */

struct out_seg {
	const char *at;
	void *owner; /* NULL: the next `n` bytes of the queue's own buffer */
	void (*unref)(void *owner);
	size_t n;
};

struct out_queue {
	struct out_seg *segs;
	uint32_t first, end, cap;
	size_t bytes;
	struct buf copied;
};

void out_queue_finish(struct out_queue *q);
void out_add_chunk(struct out_queue *q, struct chunk *chunk);            /* own reference */
void out_add_piece(struct out_queue *q, const struct http_piece *piece); /* takes the owner's reference */
void out_drop_piece(const struct http_piece *piece);
/* Gives memory back that a burst has left behind. The queue is empty. */
void out_shrink(struct out_queue *q);
void out_add_copy(struct out_queue *q, struct str bytes);
/* The same in two steps: room for at most `n`, then how many were written there. */
char *out_reserve(struct out_queue *q, size_t n);
void out_commit(struct out_queue *q, size_t n);
/* The first run of bytes without a break; n = 0 at the end. */
struct str out_peek(const struct out_queue *q);
void out_consume(struct out_queue *q, size_t n);
/* Copies up to `n` bytes and consumes them. */
size_t out_take(struct out_queue *q, char *to, size_t n);

/* ---- a request on its connection ---- */

struct http_stream {
	struct http_request req; /* first */
	struct http_conn *conn;
	struct list link;  /* conn->streams; or the server's free ones */
	struct list event; /* HTTP/2: conn->events */
	struct arena arena;
	struct buf body;
	size_t body_counted; /* in server->bodies_bytes */
	struct http_deadline body_deadline, send_deadline;
	struct out_queue out; /* HTTP/2; HTTP/1 sends in the connection's order */
	struct http1_chunked chunked;
	int64_t body_left; /* HTTP/1 with Content-Length */
	int refuse_status; /* the request was refused before its end: answered when it is safe */
	int32_t id;
	bool has_head; /* all of the header is there */
	bool handed;   /* the owner has it */
	bool answered; /* the owner has ended it */
	bool begun;    /* headers were sent */
	bool streaming;
	bool head; /* HEAD: no body */
	bool chunked_out;
	bool keep_alive;
	bool out_end; /* nothing is added to `out` any more */
	bool aborted;
	bool deferred; /* nghttp2 waits for more data */
	bool above;    /* pending went over drain_below */
	bool complete; /* HTTP/2: headers and body are there */
	bool gone;     /* HTTP/2: nghttp2 has closed the stream */
	bool drained;  /* HTTP/2: on_drain is due */
	/* HTTP/2 while the headers come in */
	struct http_header *headers_in;
	size_t headers_cap, header_bytes;
};

/* ---- a connection ---- */

enum http_proto { HTTP_PROTO_HANDSHAKE, HTTP_PROTO_H1, HTTP_PROTO_H2, HTTP_PROTO_TUNNEL };

struct tunnel {
	struct http_tunnel pub; /* first */
	struct http_conn *conn;
	bool paused, closing, above;
};

/* In the order in which they are given up. */
enum http_activity { HTTP_IDLE, HTTP_STREAMING, HTTP_BUSY, HTTP_ACTIVITIES };

struct http_owner;

/* Connections by their owners, and the owners by how many they hold. */
struct http_shares {
	struct map owners;
	struct list *by_count; /* of owners */
	unsigned n, max, greatest;
};

struct http_conn {
	struct http_server *server;
	struct list link; /* server->conns */
	struct http_shares *shares;
	struct http_owner *owner; /* NULL: counted no more */
	struct list owned;
	enum http_activity activity;
	char origin[HTTP_ORIGIN_BYTES_MAX];
	uint8_t origin_n;
	int fd;
	enum http_proto proto;
	bool tls, receiving_paused, eof, closing /* after what is queued */, lingering, dead, working, again, notified,
		write_shut;
	struct loop_op recv_op, send_op;
	struct loop_defer defer;
	struct tls_conn tls_conn;
	struct buf raw;     /* ciphertext that TLS has not taken yet */
	struct buf in;      /* plain bytes that the protocol has not taken yet */
	struct buf out;     /* bytes for the socket, growing */
	struct buf sending; /* bytes the kernel holds */
	size_t sending_n;
	struct out_queue queue; /* HTTP/1 and tunnel: plain bytes not yet encrypted */
	struct http_deadline wait, stall;

	struct list streams; /* HTTP/1: at most one */
	unsigned n_streams;
	size_t head_scanned; /* HTTP/1: how far `in` was searched for the end of the head */
	struct nghttp2_session *h2;
	struct list events; /* HTTP/2: streams to look at: complete, gone, drained */
	struct tunnel *tunnel;

	struct http_peer peer;
	struct arena peer_arena;
};

struct http_listener {
	struct http_server *server;
	struct list link;
	struct loop_op op;
	struct loop_timer retry; /* after EMFILE and the like */
	int fd;
};

struct http_server {
	struct loop *loop;
	struct tls_context *tls;
	struct http_limits limits;
	http_handler_fn *handler;
	http_protocol_error_fn *on_protocol_error;
	void (*on_end)(void *arg, struct http_request *req);
	void (*on_refused)(void *arg, struct http_request *req, int status, const char *message);
	void *arg;
	unsigned refs; /* connections, listeners, and the owner */
	bool shutting_down, destroyed;
	struct list listeners, conns;
	struct http_shares fresh, settled;
	struct loop_defer shed_defer;
	struct list free_streams;
	unsigned n_free_streams;
	size_t bodies_bytes;
	struct list deadlines[HTTP_DEADLINES];
	int64_t durations_ns[HTTP_DEADLINES];
	struct loop_timer timer, grace_timer;
	struct loop_defer done_defer;
	void (*shutdown_done)(void *arg);
	void *shutdown_arg;
	int64_t turn_ns; /* the turn of the loop that turn_bytes counts */
	size_t turn_bytes;
	int64_t date_s;
	char date[32];
	struct http_server_stats stats;
	/* Work space of the loop thread: records to be encrypted, and records just decrypted. */
	char stage[TLS_RECORD_BYTES];
	char plain[TLS_RECORD_BYTES];
};

/* http_server.c */
void server_unref(struct http_server *server);
void deadline_set(struct http_server *server, struct http_deadline *d, enum http_deadline_kind kind);
void deadline_clear(struct http_deadline *d);
struct http_stream *stream_create(struct http_conn *conn);
/* Out of the connection's list; the memory is kept for the next. */
void stream_free(struct http_stream *s);
void stream_hand_over(struct http_stream *s);
/* on_refused; the request is not handed over any more. */
void stream_refused(struct http_stream *s, int status, const char *message);
/* The peer has gone: the owner learns it, if it still has the request. */
void stream_peer_gone(struct http_stream *s);
/* Counts `n` more bytes of body; false: the server holds too many. */
bool stream_count_body(struct http_stream *s, size_t n);
const char *server_date(struct http_server *server);
void server_error_body(struct http_server *server, struct arena *arena, int status, const char *message,
		       struct str *ret_content_type, struct str *ret_body);
size_t stream_pending(const struct http_stream *s);
void stream_check_drain(struct http_stream *s);
/* on_end; the request was handed over and is answered now. */
void stream_ended(struct http_stream *s);
size_t pieces_bytes(const struct http_piece *pieces, size_t n);

/* http_shares.c */
void server_shares_init(struct http_server *server);
void server_shares_finish(struct http_server *server);
/* A new connection: makes room for it. */
void shares_add(struct http_conn *conn, const struct sockaddr *addr);
void shares_leave(struct http_conn *conn); /* or had left */
void shares_set_activity(struct http_conn *conn, enum http_activity activity);
/* It has had a request: from now on it is no longer fresh. */
void shares_settle(struct http_conn *conn);

/* http_conn.c */
void conn_create(struct http_server *server, int fd);
void conn_touch(struct http_conn *conn); /* conn_work() soon */
void conn_kill(struct http_conn *conn);  /* at once; frees itself later */
void conn_shed(struct http_conn *conn);  /* the same, counted */
void conn_linger(struct http_conn *conn);
void conn_set_idle(struct http_conn *conn);
bool conn_is_idle(const struct http_conn *conn);
size_t conn_pending(const struct http_conn *conn);
/* Bytes to be sent now (HTTP/2 frames): through the stage. */
void conn_stage(struct http_conn *conn, const char *p, size_t n, size_t *staged);
void conn_flush_stage(struct http_conn *conn, size_t *staged);

/* http_h1.c: each takes plain bytes and returns how many it used */
size_t h1_input(struct http_conn *conn, struct str in);
size_t tunnel_input(struct http_conn *conn, struct str in);
void h1_after(struct http_conn *conn); /* ends what was answered */
void h1_respond(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		size_t n_headers, const struct http_piece *pieces, size_t n_pieces);
void h1_stream_begin(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		     size_t n_headers);
void h1_stream_write(struct http_stream *s, const struct http_piece *pieces, size_t n_pieces);
void h1_stream_end(struct http_stream *s);
void h1_refuse(struct http_conn *conn, struct http_stream *s, int status, const char *message);
void tunnel_peer_gone(struct http_conn *conn);
/* Ends (as by the peer) after what is queued was sent and HTTP_LINGER_NS have passed. */
void tunnel_expire(struct http_tunnel *tunnel);

/* http_h2.c */
int h2_start(struct http_conn *conn);
void h2_finish(struct http_conn *conn);
size_t h2_input(struct http_conn *conn, struct str in);
void h2_after(struct http_conn *conn);
/* About `max` bytes of what is there to be sent. */
void h2_output(struct http_conn *conn, size_t max, size_t *staged);
void h2_respond(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		size_t n_headers, const struct http_piece *pieces, size_t n_pieces, bool streaming);
void h2_resume(struct http_stream *s);
void h2_abort(struct http_stream *s);
void h2_refuse(struct http_stream *s, int status);
void h2_goaway(struct http_conn *conn);
bool h2_wants_close(struct http_conn *conn);
