/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 on a connection, by nghttp2. Its callbacks only take notes (streams onto conn->events); handlers and owners
 * are called after it has returned, in h2_after(). What it wants to send is fetched in h2_output() alone. See
 * http_internal.h. */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"

#define H2_STREAM_WINDOW_BYTES (256 * 1024)
#define H2_CONNECTION_WINDOW_BYTES (1024 * 1024)
/* Clients end watches by resetting them, many at once when an informer factory stops; the rate is what a flood
 * (CVE-2023-44487) may do for ever. */
#define H2_RESETS_BURST 5000
#define H2_RESETS_PER_S 200
#define H2_OUTBOUND_ACKS_MAX 1000

static void note(struct http_stream *s)
{
	if (list_empty(&s->event))
		list_add_tail(&s->conn->events, &s->event);
}

/* ---- receiving ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct http_conn *conn = user_data;
	struct http_stream *s;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	s = stream_create(conn);
	s->id = frame->hd.stream_id;
	s->req.version = HTTP_2;
	nghttp2_session_set_stream_user_data(session, s->id, s);
	deadline_clear(&conn->wait);
	return 0;
}

static struct str arena_copy(struct http_stream *s, const uint8_t *p, size_t n)
{
	return str_make(arena_strndup(&s->arena, (const char *)p, n), n);
}

static void take_path(struct http_stream *s, struct str target)
{
	long mark = str_find(target, '?');

	s->req.path = mark < 0 ? target : str_make(target.p, (size_t)mark);
	if (mark >= 0)
		s->req.query = str_make(target.p + mark + 1, target.n - (size_t)mark - 1);
}

static void take_pseudo(struct http_stream *s, struct str name, const uint8_t *value, size_t value_n)
{
	if (str_is(name, ":method")) {
		s->req.method = arena_copy(s, value, value_n);
		s->head = str_is(s->req.method, "HEAD");
	} else if (str_is(name, ":path")) {
		take_path(s, arena_copy(s, value, value_n));
	} else if (str_is(name, ":authority")) {
		s->req.host = arena_copy(s, value, value_n);
	}
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
		     const uint8_t *value, size_t value_n, uint8_t flags, void *user_data)
{
	struct http_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	struct http_conn *conn = user_data;
	struct http_header *h;

	if (!s || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;                         /* trailers are read over */
	s->header_bytes += name_n + value_n + 32; /* as RFC 9113 counts them */
	if (s->header_bytes > conn->server->limits.header_bytes || s->req.n_headers >= HTTP_HEADERS_MAX) {
		s->refuse_status = 431;
		return 0;
	}
	if (name_n && name[0] == ':') {
		take_pseudo(s, str_make((const char *)name, name_n), value, value_n);
		return 0;
	}
	if (s->req.n_headers == s->headers_cap) {
		size_t cap = s->headers_cap ? s->headers_cap * 2 : 16;
		struct http_header *grown = arena_alloc(&s->arena, cap * sizeof(*grown));

		if (s->req.n_headers)
			memcpy(grown, s->headers_in, s->req.n_headers * sizeof(*grown));
		s->headers_in = grown;
		s->headers_cap = cap;
		s->req.headers = grown;
	}
	h = &s->headers_in[s->req.n_headers++];
	h->name = arena_copy(s, name, name_n);
	h->value = arena_copy(s, value, value_n);
	if (str_is(h->name, "host") && !s->req.host.p)
		s->req.host = h->value;
	return 0;
}

/* The request's header is there. */
static void headers_complete(struct http_conn *conn, struct http_stream *s)
{
	int64_t length = 0;

	/* One that was too large for it is not all there. */
	s->has_head = !s->refuse_status;
	s->req.header_ns = loop_now_ns(conn->server->loop);
	str_to_int64(http_request_header(&s->req, "content-length"), &length);
	if (length > (int64_t)conn->server->limits.body_bytes)
		s->refuse_status = 413;
	else if (str_is(s->req.method, "CONNECT"))
		s->refuse_status = 501;
	if (s->refuse_status)
		note(s);
	else
		deadline_set(conn->server, &s->body_deadline, HTTP_DEADLINE_BODY);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct http_conn *conn = user_data;
	struct http_stream *s;

	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!s)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		headers_complete(conn, s);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		s->complete = true;
		note(s);
	}
	return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *p, size_t n,
			 void *user_data)
{
	struct http_stream *s = nghttp2_session_get_stream_user_data(session, stream_id);
	struct http_conn *conn = user_data;

	if (!s || s->refuse_status || s->answered)
		return 0;
	if (buf_len(&s->body) + n > conn->server->limits.body_bytes)
		s->refuse_status = 413;
	else if (!stream_count_body(s, n))
		s->refuse_status = 503;
	else
		buf_add(&s->body, p, n);
	if (s->refuse_status)
		note(s);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user_data)
{
	struct http_stream *s = nghttp2_session_get_stream_user_data(session, stream_id);

	if (s) {
		s->gone = true;
		note(s);
	}
	return 0;
}

/* ---- sending ---- */

static ssize_t read_data(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t room, uint32_t *flags,
			 nghttp2_data_source *source, void *user_data)
{
	struct http_stream *s = source->ptr;
	struct http_conn *conn = user_data;
	size_t n = out_take(&s->out, (char *)to, room);

	if (s->above && s->out.bytes <= s->req.drain_below) {
		s->drained = true;
		note(s);
	}
	if (s->out.bytes) {
		deadline_set(conn->server, &s->send_deadline, HTTP_DEADLINE_STREAM_SEND);
		return (ssize_t)n;
	}
	deadline_clear(&s->send_deadline);
	out_shrink(&s->out);
	if (s->out_end) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	} else if (!n) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

/* After a refusal the rest of the request is not wanted. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct http_stream *s;

	if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (s && !s->complete)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

static nghttp2_nv make_nv(struct str name, struct str value, uint8_t flags)
{
	return (nghttp2_nv){ (uint8_t *)name.p, (uint8_t *)value.p, name.n, value.n, flags };
}

/* Header names go in lower case; line breaks in values would make the peer drop the connection. */
static nghttp2_nv header_nv(struct arena *arena, const struct http_header *h)
{
	char *name = arena_strndup(arena, h->name.p, h->name.n);
	char *value = arena_strndup(arena, h->value.p, h->value.n);

	for (size_t i = 0; i < h->name.n; i++)
		if (name[i] >= 'A' && name[i] <= 'Z')
			name[i] = (char)(name[i] | 0x20);
	for (size_t i = 0; i < h->value.n; i++)
		if (value[i] == '\r' || value[i] == '\n' || value[i] == '\0')
			value[i] = ' ';
	return make_nv(str_make(name, h->name.n), str_make(value, h->value.n), NGHTTP2_NV_FLAG_NONE);
}

void h2_respond(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		size_t n_headers, const struct http_piece *pieces, size_t n_pieces, bool streaming)
{
	struct arena *arena = &s->arena;
	nghttp2_nv *nv = arena_alloc(arena, (n_headers + s->req.n_out_headers + 4) * sizeof(*nv));
	bool no_body = status == 204 || status == 304;
	nghttp2_data_provider provider = { .source.ptr = s, .read_callback = read_data };
	size_t n = 0;
	char digits[24];

	nv[n++] = make_nv(STR(":status"), str_of(arena_printf(arena, "%d", status)), NGHTTP2_NV_FLAG_NO_COPY_NAME);
	if (content_type)
		nv[n++] = make_nv(STR("content-type"), str_of(content_type), NGHTTP2_NV_FLAG_NO_COPY_NAME);
	nv[n++] = make_nv(STR("date"), str_of(server_date(s->conn->server)), NGHTTP2_NV_FLAG_NO_COPY_NAME);
	if (!streaming && !no_body) {
		int len = snprintf(digits, sizeof(digits), "%zu", pieces_bytes(pieces, n_pieces));

		nv[n++] = make_nv(STR("content-length"), str_make(digits, (size_t)len), NGHTTP2_NV_FLAG_NO_COPY_NAME);
	}
	for (size_t i = 0; i < n_headers; i++)
		nv[n++] = header_nv(arena, &headers[i]);
	for (unsigned i = 0; i < s->req.n_out_headers; i++)
		nv[n++] = header_nv(arena, &s->req.out_headers[i]);
	for (size_t i = 0; i < n_pieces; i++)
		if (s->gone || s->head || no_body)
			out_drop_piece(&pieces[i]);
		else
			out_add_piece(&s->out, &pieces[i]);
	if (s->gone)
		return;
	if (s->out.bytes)
		deadline_set(s->conn->server, &s->send_deadline, HTTP_DEADLINE_STREAM_SEND);
	nghttp2_submit_response(s->conn->h2, s->id, nv, n, streaming || (s->out.bytes && !no_body) ? &provider : NULL);
}

void h2_resume(struct http_stream *s)
{
	if (s->gone)
		return;
	if (s->out.bytes && !s->send_deadline.due_ns)
		deadline_set(s->conn->server, &s->send_deadline, HTTP_DEADLINE_STREAM_SEND);
	if (!s->deferred)
		return;
	s->deferred = false;
	nghttp2_session_resume_data(s->conn->h2, s->id);
}

void h2_abort(struct http_stream *s)
{
	if (!s->gone)
		nghttp2_submit_rst_stream(s->conn->h2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
}

static const char *refusal(int status)
{
	switch (status) {
	case 408:
		return "the request body took too long";
	case 413:
		return "the request body is too large";
	case 431:
		return "the request header is too large";
	case 501:
		return "CONNECT is not supported";
	default:
		return "too many request bodies are being received";
	}
}

void h2_refuse(struct http_stream *s, int status)
{
	struct str type = STR_NULL, body = STR_NULL;
	char type_z[128];

	if (s->begun || s->handed)
		return;
	deadline_clear(&s->body_deadline);
	stream_refused(s, status, refusal(status));
	server_error_body(s->conn->server, &s->arena, status, refusal(status), &type, &body);
	snprintf(type_z, sizeof(type_z), "%.*s", STR_ARG(type));
	s->begun = s->answered = s->out_end = true;
	h2_respond(s, status, type_z, NULL, 0, &(struct http_piece){ .bytes = body }, 1, false);
}

/* ---- the connection ---- */

static nghttp2_session_callbacks *callbacks(void)
{
	static nghttp2_session_callbacks *cb;

	if (!cb) {
		if (nghttp2_session_callbacks_new(&cb) != 0)
			abort();
		nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
		nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
		nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	}
	return cb;
}

static const nghttp2_option *options(void)
{
	static nghttp2_option *opt;

	if (!opt) {
		if (nghttp2_option_new(&opt) != 0)
			abort();
		nghttp2_option_set_no_closed_streams(opt, 1);
		nghttp2_option_set_max_outbound_ack(opt, H2_OUTBOUND_ACKS_MAX);
		nghttp2_option_set_stream_reset_rate_limit(opt, H2_RESETS_BURST, H2_RESETS_PER_S);
	}
	return opt;
}

int h2_start(struct http_conn *conn)
{
	const struct http_limits *limits = &conn->server->limits;
	nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits->streams },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW_BYTES },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)limits->header_bytes },
	};

	if (nghttp2_session_server_new2(&conn->h2, callbacks(), conn, options()) != 0)
		return -ENOMEM;
	nghttp2_submit_settings(conn->h2, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	nghttp2_session_set_local_window_size(conn->h2, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW_BYTES);
	return 0;
}

void h2_finish(struct http_conn *conn)
{
	if (conn->h2)
		nghttp2_session_del(conn->h2);
	conn->h2 = NULL;
}

size_t h2_input(struct http_conn *conn, struct str in)
{
	ssize_t n = nghttp2_session_mem_recv(conn->h2, (const uint8_t *)in.p, in.n);

	if (n < 0 || (size_t)n < in.n) {
		conn->server->stats.protocol_errors++;
		nghttp2_session_terminate_session(conn->h2, NGHTTP2_PROTOCOL_ERROR);
		conn_linger(conn);
	}
	h2_after(conn);
	return in.n;
}

static void handle_event(struct http_stream *s)
{
	if (s->drained) {
		s->drained = false;
		stream_check_drain(s);
	}
	if (s->gone) {
		stream_peer_gone(s);
		stream_free(s);
	} else if (s->refuse_status) {
		h2_refuse(s, s->refuse_status);
	} else if (s->complete && !s->handed && !s->begun) {
		stream_hand_over(s);
	}
}

void h2_after(struct http_conn *conn)
{
	bool had = conn->n_streams > 0;

	while (!list_empty(&conn->events) && !conn->dead) {
		struct http_stream *s = list_first(&conn->events, struct http_stream, event);

		list_del(&s->event);
		handle_event(s);
	}
	if (conn->dead || conn->n_streams)
		return;
	if (conn->server->shutting_down)
		conn->closing = true;
	else if (had)
		conn_set_idle(conn);
}

void h2_output(struct http_conn *conn, size_t max, size_t *staged)
{
	const uint8_t *p;
	ssize_t n;

	while (buf_len(&conn->out) < max && !conn->dead) {
		n = nghttp2_session_mem_send(conn->h2, &p);
		if (n <= 0)
			break;
		conn_stage(conn, (const char *)p, (size_t)n, staged);
	}
	if (!conn->dead)
		conn_flush_stage(conn, staged);
}

void h2_goaway(struct http_conn *conn)
{
	nghttp2_submit_goaway(conn->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(conn->h2),
			      NGHTTP2_NO_ERROR, NULL, 0);
}

bool h2_wants_close(struct http_conn *conn)
{
	return !nghttp2_session_want_read(conn->h2) && !nghttp2_session_want_write(conn->h2);
}
