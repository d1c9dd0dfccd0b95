/* SPDX-License-Identifier: Apache-2.0 */
/* The server: accepting, limits, deadlines, shutdown, and what owners of requests call. See http_internal.h. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"

#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* after the process ran out of descriptors */

/* ---- deadlines ---- */

static void arm_timer(struct http_server *server, int64_t due_ns)
{
	int64_t delay_ns = due_ns - loop_now_ns(server->loop);

	/* When it fires too early it finds nothing due and arms itself anew: cheaper than moving it each time. */
	if (!loop_timer_armed(&server->timer) || server->timer.due_ns > due_ns)
		loop_timer_arm(server->loop, &server->timer, delay_ns);
}

void deadline_set(struct http_server *server, struct http_deadline *d, enum http_deadline_kind kind)
{
	deadline_clear(d);
	d->kind = kind;
	d->due_ns = loop_now_ns(server->loop) + server->durations_ns[kind];
	list_add_tail(&server->deadlines[kind], &d->link);
	arm_timer(server, d->due_ns);
}

void deadline_clear(struct http_deadline *d)
{
	if (!d->due_ns)
		return;
	list_del(&d->link);
	d->due_ns = 0;
}

static void release_buffers(struct http_conn *conn)
{
	buf_release(&conn->raw);
	buf_release(&conn->in);
	buf_release(&conn->out);
	buf_release(&conn->sending);
	if (!conn->queue.bytes)
		out_queue_finish(&conn->queue);
}

static void conn_overdue(struct http_conn *conn, enum http_deadline_kind kind)
{
	switch (kind) {
	case HTTP_DEADLINE_RELEASE:
		release_buffers(conn);
		deadline_set(conn->server, &conn->wait, HTTP_DEADLINE_IDLE);
		break;
	case HTTP_DEADLINE_IDLE:
		if (conn->proto == HTTP_PROTO_H2)
			h2_goaway(conn);
		conn->closing = true;
		conn_touch(conn);
		break;
	case HTTP_DEADLINE_HEADER:
		if (conn->proto == HTTP_PROTO_H1 && buf_len(&conn->in)) {
			conn->server->stats.shed++;
			h1_refuse(conn, NULL, 408, "the request header took too long");
			conn_touch(conn);
		} else {
			conn_shed(conn);
		}
		break;
	case HTTP_DEADLINE_LINGER:
		/* While bytes are on their way the send deadline watches. */
		if (conn->tunnel && conn_pending(conn))
			deadline_set(conn->server, &conn->wait, HTTP_DEADLINE_LINGER);
		else
			conn_kill(conn);
		break;
	default:
		conn_shed(conn);
		break;
	}
}

static void stream_overdue(struct http_stream *s, enum http_deadline_kind kind)
{
	s->conn->server->stats.shed++;
	if (kind == HTTP_DEADLINE_STREAM_SEND)
		h2_abort(s);
	else if (s->conn->proto == HTTP_PROTO_H2)
		h2_refuse(s, 408);
	else
		h1_refuse(s->conn, s, 408, "the request body took too long");
	conn_touch(s->conn);
}

static void on_timer(struct loop_timer *timer)
{
	struct http_server *server = container_of(timer, struct http_server, timer);
	int64_t now_ns = loop_now_ns(server->loop), next_ns = INT64_MAX;

	server->refs++;
	for (int kind = 0; kind < HTTP_DEADLINES; kind++) {
		struct list *list = &server->deadlines[kind];

		while (!list_empty(list)) {
			struct http_deadline *d = list_first(list, struct http_deadline, link);

			if (d->due_ns > now_ns) {
				next_ns = d->due_ns < next_ns ? d->due_ns : next_ns;
				break;
			}
			deadline_clear(d);
			if (kind == HTTP_DEADLINE_BODY)
				stream_overdue(container_of(d, struct http_stream, body_deadline), kind);
			else if (kind == HTTP_DEADLINE_STREAM_SEND)
				stream_overdue(container_of(d, struct http_stream, send_deadline), kind);
			else if (kind == HTTP_DEADLINE_SEND)
				conn_overdue(container_of(d, struct http_conn, stall), kind);
			else
				conn_overdue(container_of(d, struct http_conn, wait), kind);
		}
	}
	if (next_ns != INT64_MAX)
		arm_timer(server, next_ns);
	server_unref(server);
}

/* ---- accepting ---- */

static void accepted(struct loop_op *op, int res, bool more);

static void accept_again(struct loop_timer *timer)
{
	struct http_listener *listener = container_of(timer, struct http_listener, retry);

	loop_accept_multishot(listener->server->loop, &listener->op, listener->fd, accepted);
}

static void listener_free(struct http_listener *listener)
{
	struct http_server *server = listener->server;

	loop_timer_cancel(server->loop, &listener->retry);
	close(listener->fd);
	list_del(&listener->link);
	free(listener);
	server_unref(server);
}

static void accepted(struct loop_op *op, int res, bool more)
{
	struct http_listener *listener = container_of(op, struct http_listener, op);
	struct http_server *server = listener->server;

	if (server->shutting_down) {
		if (res >= 0)
			close(res);
		if (!more)
			listener_free(listener);
		return;
	}
	if (res >= 0) {
		conn_create(server, res);
	} else if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS) {
		log_warn("cannot accept connections error=%s", strerror(-res));
	}
	if (more)
		return;
	if (res >= 0 || res == -ECONNABORTED)
		loop_accept_multishot(server->loop, op, listener->fd, accepted);
	else
		loop_timer_arm(server->loop, &listener->retry, ACCEPT_RETRY_NS);
}

int http_server_add_listener(struct http_server *server, int fd, struct err *err)
{
	/* Inherited by what it accepts: peers that vanished are noticed by the kernel. */
	const int on = 1, idle_s = 60, interval_s = 15, probes = 4;
	struct http_listener *listener = mem_new(struct http_listener);

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	listener->server = server;
	listener->fd = fd;
	loop_timer_init(&listener->retry, accept_again);
	list_add_tail(&server->listeners, &listener->link);
	server->refs++;
	loop_accept_multishot(server->loop, &listener->op, fd, accepted);
	return 0;
}

/* ---- birth and death ---- */

static void on_grace_over(struct loop_timer *timer)
{
	struct http_server *server = container_of(timer, struct http_server, grace_timer);

	server->refs++;
	list_foreach_safe(conn, &server->conns, struct http_conn, link)
		conn_shed(conn);
	server_unref(server);
}

static void on_done(struct loop_defer *defer)
{
	struct http_server *server = container_of(defer, struct http_server, done_defer);
	void (*done)(void *arg) = TAKE_PTR(server->shutdown_done);

	loop_timer_cancel(server->loop, &server->grace_timer);
	if (done)
		done(server->shutdown_arg);
}

#define OR_DEFAULT(value, otherwise) ((value) ? (value) : (otherwise))

int http_server_create(struct loop *loop, const struct http_server_options *options, struct http_server **ret,
		       struct err *err)
{
	struct http_server *server = mem_new(struct http_server);
	struct http_limits *limits = &server->limits;

	assert(options->handler);
	server->loop = loop;
	server->tls = options->tls;
	server->handler = options->handler;
	server->on_protocol_error = options->on_protocol_error;
	server->on_end = options->on_end;
	server->on_refused = options->on_refused;
	server->arg = options->arg;
	server->refs = 1;
	*limits = options->limits;
	limits->header_bytes = OR_DEFAULT(limits->header_bytes, HTTP_HEADER_BYTES_DEFAULT);
	limits->body_bytes = OR_DEFAULT(limits->body_bytes, HTTP_BODY_BYTES_DEFAULT);
	limits->streams = OR_DEFAULT(limits->streams, HTTP_STREAMS_DEFAULT);
	server->durations_ns[HTTP_DEADLINE_RELEASE] = HTTP_RELEASE_IDLE_NS;
	server->durations_ns[HTTP_DEADLINE_LINGER] = HTTP_LINGER_NS;
	server->durations_ns[HTTP_DEADLINE_IDLE] = OR_DEFAULT(limits->idle_timeout_ns, HTTP_IDLE_TIMEOUT_NS_DEFAULT);
	server->durations_ns[HTTP_DEADLINE_HEADER] =
		OR_DEFAULT(limits->header_timeout_ns, HTTP_HEADER_TIMEOUT_NS_DEFAULT);
	server->durations_ns[HTTP_DEADLINE_BODY] = OR_DEFAULT(limits->body_timeout_ns, HTTP_BODY_TIMEOUT_NS_DEFAULT);
	server->durations_ns[HTTP_DEADLINE_SEND] =
		OR_DEFAULT(limits->send_stall_timeout_ns, HTTP_SEND_STALL_TIMEOUT_NS_DEFAULT);
	server->durations_ns[HTTP_DEADLINE_STREAM_SEND] = server->durations_ns[HTTP_DEADLINE_SEND];
	/* An idle connection first gives its memory back, then waits for the rest of its time. */
	if (server->durations_ns[HTTP_DEADLINE_IDLE] <= HTTP_RELEASE_IDLE_NS)
		server->durations_ns[HTTP_DEADLINE_RELEASE] = server->durations_ns[HTTP_DEADLINE_IDLE] /= 2;
	else
		server->durations_ns[HTTP_DEADLINE_IDLE] -= HTTP_RELEASE_IDLE_NS;
	list_init(&server->listeners);
	list_init(&server->conns);
	server_shares_init(server);
	list_init(&server->free_streams);
	for (int kind = 0; kind < HTTP_DEADLINES; kind++)
		list_init(&server->deadlines[kind]);
	loop_timer_init(&server->timer, on_timer);
	loop_timer_init(&server->grace_timer, on_grace_over);
	server->done_defer.fn = on_done;
	server->date_s = -1;
	*ret = server;
	return 0;
}

void http_server_set_tls(struct http_server *server, struct tls_context *tls)
{
	server->tls = tls;
}

static void stop_accepting(struct http_server *server)
{
	server->shutting_down = true;
	list_foreach_safe(listener, &server->listeners, struct http_listener, link) {
		if (loop_op_pending(&listener->op))
			loop_cancel(server->loop, &listener->op);
		else
			listener_free(listener);
	}
}

static void conn_retire(struct http_conn *conn)
{
	conn->working = true; /* on_close may not lead back here */
	if (conn->proto == HTTP_PROTO_H2)
		h2_goaway(conn);
	list_foreach_safe(s, &conn->streams, struct http_stream, link) {
		s->keep_alive = false;
		if (!s->streaming || s->answered)
			continue;
		if (conn->proto == HTTP_PROTO_H2) {
			s->out_end = true;
			h2_resume(s);
		} else {
			h1_stream_end(s);
		}
		stream_peer_gone(s);
	}
	if (conn->proto == HTTP_PROTO_HANDSHAKE || conn_is_idle(conn))
		conn->closing = true;
	conn->working = false;
	conn_touch(conn);
}

void http_server_shutdown(struct http_server *server, int64_t grace_ns, void (*done)(void *arg), void *arg)
{
	server->shutdown_done = done;
	server->shutdown_arg = arg;
	stop_accepting(server);
	list_foreach_safe(conn, &server->conns, struct http_conn, link)
		conn_retire(conn);
	loop_timer_arm(server->loop, &server->grace_timer, grace_ns);
	if (list_empty(&server->conns))
		loop_defer(server->loop, &server->done_defer);
}

void http_server_destroy(struct http_server *server)
{
	if (!server)
		return;
	server->destroyed = true;
	server->shutdown_done = NULL;
	stop_accepting(server);
	list_foreach_safe(conn, &server->conns, struct http_conn, link)
		conn_kill(conn);
	loop_timer_cancel(server->loop, &server->timer);
	loop_timer_cancel(server->loop, &server->grace_timer);
	loop_defer_cancel(server->loop, &server->done_defer);
	server_unref(server);
}

static void stream_destroy(struct http_stream *s)
{
	arena_finish(&s->arena);
	buf_finish(&s->body);
	out_queue_finish(&s->out);
	free(s);
}

void server_unref(struct http_server *server)
{
	if (server->shutdown_done && list_empty(&server->conns))
		loop_defer(server->loop, &server->done_defer);
	if (--server->refs)
		return;
	loop_timer_cancel(server->loop, &server->timer);
	while (!list_empty(&server->free_streams)) {
		struct http_stream *s = list_first(&server->free_streams, struct http_stream, link);

		list_del(&s->link);
		stream_destroy(s);
	}
	server_shares_finish(server);
	free(server);
}

void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret)
{
	*ret = server->stats;
}

/* ---- requests on their connections ---- */

struct http_stream *stream_create(struct http_conn *conn)
{
	struct http_server *server = conn->server;
	struct http_stream *s;

	if (list_empty(&server->free_streams)) {
		s = mem_new(struct http_stream);
	} else {
		struct arena arena;
		struct buf body;

		s = list_first(&server->free_streams, struct http_stream, link);
		list_del(&s->link);
		server->n_free_streams--;
		arena = s->arena;
		body = s->body;
		*s = (struct http_stream){ .arena = arena, .body = body };
	}
	s->conn = conn;
	s->req.server = server;
	s->req.peer = &conn->peer;
	s->req.arena = &s->arena;
	s->body_left = -1;
	list_init(&s->event);
	list_add_tail(&conn->streams, &s->link);
	if (!conn->n_streams++)
		shares_set_activity(conn, HTTP_BUSY);
	return s;
}

bool stream_count_body(struct http_stream *s, size_t n)
{
	struct http_server *server = s->conn->server;

	if (server->bodies_bytes + n > HTTP_BODIES_TOTAL_BYTES_MAX)
		return false;
	server->bodies_bytes += n;
	s->body_counted += n;
	return true;
}

void stream_free(struct http_stream *s)
{
	struct http_server *server = s->conn->server;

	if (s->handed)
		server->stats.requests--;
	server->bodies_bytes -= s->body_counted;
	deadline_clear(&s->body_deadline);
	deadline_clear(&s->send_deadline);
	list_del(&s->link);
	list_del(&s->event);
	s->conn->n_streams--;
	out_queue_finish(&s->out);
	if (server->n_free_streams >= HTTP_FREE_STREAMS_MAX) {
		stream_destroy(s);
		return;
	}
	arena_reset(&s->arena);
	if (s->arena.total > HTTP_FREE_ARENA_BYTES_MAX)
		arena_finish(&s->arena);
	buf_reset(&s->body);
	if (s->body.cap > HTTP_FREE_ARENA_BYTES_MAX)
		buf_finish(&s->body);
	list_add_head(&server->free_streams, &s->link);
	server->n_free_streams++;
}

void stream_hand_over(struct http_stream *s)
{
	struct http_conn *conn = s->conn;
	struct http_server *server = conn->server;

	deadline_clear(&s->body_deadline);
	s->req.body = buf_str(&s->body);
	s->handed = true;
	server->stats.requests++;
	server->stats.requests_total++;
	server->handler(server->arg, &s->req);
	shares_settle(conn);
}

void stream_refused(struct http_stream *s, int status, const char *message)
{
	struct http_server *server = s->conn->server;

	if (server->on_refused && s->has_head && !s->handed)
		server->on_refused(server->arg, &s->req, status, message);
}

void stream_peer_gone(struct http_stream *s)
{
	if (s->answered)
		return;
	s->answered = true;
	if (!s->handed) {
		stream_refused(s, 0, "the client has gone");
		return;
	}
	if (s->req.on_close)
		s->req.on_close(&s->req);
	stream_ended(s);
}

void stream_ended(struct http_stream *s)
{
	struct http_server *server = s->conn->server;

	if (server->on_end && s->handed)
		server->on_end(server->arg, &s->req);
}

size_t pieces_bytes(const struct http_piece *pieces, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += pieces[i].bytes.n;
	return bytes;
}

size_t stream_pending(const struct http_stream *s)
{
	return s->conn->proto == HTTP_PROTO_H2 ? s->out.bytes : conn_pending(s->conn);
}

void stream_check_drain(struct http_stream *s)
{
	if (!s->above || s->answered || stream_pending(s) > s->req.drain_below)
		return;
	s->above = false;
	if (s->req.on_drain)
		s->req.on_drain(&s->req);
}

const char *server_date(struct http_server *server)
{
	int64_t now_s = loop_now_ns(server->loop) / NS_PER_S;

	if (now_s != server->date_s) {
		time_t real_s = (time_t)(clock_real_ns() / NS_PER_S);
		struct tm tm;

		server->date_s = now_s;
		gmtime_r(&real_s, &tm);
		strftime(server->date, sizeof(server->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	}
	return server->date;
}

void server_error_body(struct http_server *server, struct arena *arena, int status, const char *message,
		       struct str *ret_content_type, struct str *ret_body)
{
	server->stats.protocol_errors++;
	if (server->on_protocol_error) {
		server->on_protocol_error(server->arg, arena, status, message, ret_content_type, ret_body);
		return;
	}
	*ret_content_type = STR("text/plain; charset=utf-8");
	*ret_body = str_of(arena_printf(arena, "%s\n", message));
}

/* ---- what owners call ---- */

static struct http_stream *stream_of(struct http_request *req)
{
	return container_of(req, struct http_stream, req);
}

struct str http_request_header(const struct http_request *req, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < req->n_headers; i++) {
		const struct http_header *h = &req->headers[i];

		if (h->name.n == n && memcmp(h->name.p, name, n) == 0)
			return h->value.p ? h->value : STR("");
	}
	return STR_NULL;
}

void http_respond_pieces(struct http_request *req, int status, const char *content_type,
			 const struct http_header *headers, size_t n_headers, const struct http_piece *pieces,
			 size_t n_pieces)
{
	struct http_stream *s = stream_of(req);

	assert(s->handed && !s->answered && !s->begun);
	s->begun = s->answered = s->out_end = true;
	req->status = status;
	req->body_bytes = pieces_bytes(pieces, n_pieces);
	stream_ended(s);
	if (s->conn->proto == HTTP_PROTO_H2)
		h2_respond(s, status, content_type, headers, n_headers, pieces, n_pieces, false);
	else
		h1_respond(s, status, content_type, headers, n_headers, pieces, n_pieces);
	conn_touch(s->conn);
}

static void drop_chunk(void *chunk)
{
	chunk_unref(chunk);
}

static struct http_piece chunk_piece(struct chunk *chunk)
{
	return (struct http_piece){ chunk_str(chunk), chunk_ref(chunk), drop_chunk };
}

void http_respond(struct http_request *req, int status, const char *content_type, const struct http_header *headers,
		  size_t n_headers, struct str body)
{
	http_respond_pieces(req, status, content_type, headers, n_headers, &(struct http_piece){ .bytes = body }, 1);
}

void http_respond_chunk(struct http_request *req, int status, const char *content_type,
			const struct http_header *headers, size_t n_headers, struct chunk *body)
{
	struct http_piece piece = chunk_piece(body);

	http_respond_pieces(req, status, content_type, headers, n_headers, &piece, 1);
}

void http_respond_chunks(struct http_request *req, int status, const char *content_type,
			 const struct http_header *headers, size_t n_headers, struct chunk *const *chunks,
			 size_t n_chunks)
{
	_cleanup_free_ struct http_piece *pieces = mem_new_array(struct http_piece, n_chunks ? n_chunks : 1);

	for (size_t i = 0; i < n_chunks; i++)
		pieces[i] = chunk_piece(chunks[i]);
	http_respond_pieces(req, status, content_type, headers, n_headers, pieces, n_chunks);
}

void http_stream_begin(struct http_request *req, int status, const char *content_type,
		       const struct http_header *headers, size_t n_headers)
{
	struct http_stream *s = stream_of(req);

	assert(s->handed && !s->answered && !s->begun);
	s->begun = s->streaming = true;
	shares_set_activity(s->conn, HTTP_STREAMING);
	req->status = status;
	if (s->conn->proto == HTTP_PROTO_H2)
		h2_respond(s, status, content_type, headers, n_headers, NULL, 0, true);
	else
		h1_stream_begin(s, status, content_type, headers, n_headers);
	conn_touch(s->conn);
}

void http_stream_write_pieces(struct http_request *req, const struct http_piece *pieces, size_t n_pieces)
{
	size_t bytes = pieces_bytes(pieces, n_pieces);
	struct http_stream *s = stream_of(req);

	assert(s->streaming && !s->answered);
	if (s->head || !bytes) {
		for (size_t i = 0; i < n_pieces; i++)
			out_drop_piece(&pieces[i]);
		return;
	}
	req->body_bytes += bytes;
	if (s->conn->proto == HTTP_PROTO_H2) {
		for (size_t i = 0; i < n_pieces; i++)
			out_add_piece(&s->out, &pieces[i]);
		h2_resume(s);
	} else {
		h1_stream_write(s, pieces, n_pieces);
	}
	if (stream_pending(s) > req->drain_below)
		s->above = true;
	conn_touch(s->conn);
}

void http_stream_write(struct http_request *req, struct chunk *chunk)
{
	struct http_piece piece = chunk_piece(chunk);

	http_stream_write_pieces(req, &piece, 1);
}

void http_stream_write_str(struct http_request *req, struct str bytes)
{
	http_stream_write_pieces(req, &(struct http_piece){ .bytes = bytes }, 1);
}

size_t http_stream_pending(const struct http_request *req)
{
	return stream_pending(container_of(req, struct http_stream, req));
}

void http_stream_end(struct http_request *req)
{
	struct http_stream *s = stream_of(req);

	assert(s->streaming && !s->answered);
	s->answered = s->out_end = true;
	stream_ended(s);
	if (s->conn->proto == HTTP_PROTO_H2)
		h2_resume(s);
	else
		h1_stream_end(s);
	conn_touch(s->conn);
}

void http_stream_abort(struct http_request *req)
{
	struct http_stream *s = stream_of(req);

	assert(s->handed && !s->answered);
	s->answered = s->aborted = true;
	stream_ended(s);
	if (s->conn->proto == HTTP_PROTO_H2)
		h2_abort(s);
	conn_touch(s->conn);
}
