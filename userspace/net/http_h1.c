/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.x on a connection: one request at a time, pipelined ones wait in conn->in; answers go into conn->queue in
 * order. And the tunnel that an upgrade leaves behind. See http_internal.h. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"

#define CHUNK_HEAD_BYTES 20

/* ---- answers ---- */

static char *put(char *at, const void *p, size_t n)
{
	memcpy(at, p, n);
	return at + n;
}

#define PUT_LITERAL(at, literal) put((at), (literal), sizeof(literal) - 1)

static char *put_decimal(char *at, uint64_t v)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*at++ = digits[--n];
	return at;
}

/* Values come from objects and errors: a line break in one must not begin a header of its own. */
static char *put_header(char *at, struct str name, struct str value)
{
	char *start;

	at = put(at, name.p, name.n);
	at = PUT_LITERAL(at, ": ");
	start = at;
	at = put(at, value.p, value.n);
	for (char *c = start; c < at; c++)
		if (*c == '\r' || *c == '\n' || *c == '\0')
			*c = ' ';
	return PUT_LITERAL(at, "\r\n");
}

/* content_length -1: not given. */
static void put_head(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		     size_t n_headers, int64_t content_length, const char *connection)
{
	struct http_conn *conn = s->conn;
	struct str type = str_of(content_type), text = str_of(http_status_text(status));
	size_t room = 256 + type.n + text.n;
	char *start, *at;

	for (size_t i = 0; i < n_headers; i++)
		room += headers[i].name.n + headers[i].value.n + 4;
	for (unsigned i = 0; i < s->req.n_out_headers; i++)
		room += s->req.out_headers[i].name.n + s->req.out_headers[i].value.n + 4;
	at = start = out_reserve(&conn->queue, room);
	at = PUT_LITERAL(at, "HTTP/1.1 ");
	at = put_decimal(at, (uint64_t)status);
	*at++ = ' ';
	at = put(at, text.p, text.n);
	at = PUT_LITERAL(at, "\r\n");
	if (type.n)
		at = put_header(at, STR("Content-Type"), type);
	for (size_t i = 0; i < n_headers; i++)
		at = put_header(at, headers[i].name, headers[i].value);
	for (unsigned i = 0; i < s->req.n_out_headers; i++)
		at = put_header(at, s->req.out_headers[i].name, s->req.out_headers[i].value);
	if (status >= 200)
		at = put_header(at, STR("Date"), str_of(server_date(conn->server)));
	if (content_length >= 0) {
		at = PUT_LITERAL(at, "Content-Length: ");
		at = put_decimal(at, (uint64_t)content_length);
		at = PUT_LITERAL(at, "\r\n");
	}
	if (s->chunked_out)
		at = PUT_LITERAL(at, "Transfer-Encoding: chunked\r\n");
	if (connection)
		at = put_header(at, STR("Connection"), str_of(connection));
	at = PUT_LITERAL(at, "\r\n");
	out_commit(&conn->queue, (size_t)(at - start));
}

static const char *connection_value(struct http_stream *s)
{
	if (s->conn->server->shutting_down)
		s->keep_alive = false;
	if (!s->keep_alive)
		return "close";
	return s->req.version == HTTP_1_0 ? "keep-alive" : NULL;
}

void h1_respond(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		size_t n_headers, const struct http_piece *pieces, size_t n_pieces)
{
	struct out_queue *q = &s->conn->queue;
	bool no_body = status == 204 || status == 304;

	put_head(s, status, content_type, headers, n_headers, no_body ? -1 : (int64_t)pieces_bytes(pieces, n_pieces),
		 connection_value(s));
	for (size_t i = 0; i < n_pieces; i++)
		if (s->head || no_body)
			out_drop_piece(&pieces[i]);
		else
			out_add_piece(q, &pieces[i]);
}

void h1_stream_begin(struct http_stream *s, int status, const char *content_type, const struct http_header *headers,
		     size_t n_headers)
{
	s->chunked_out = s->req.version == HTTP_1_1;
	if (!s->chunked_out)
		s->keep_alive = false; /* the end of the connection is the end of the body */
	put_head(s, status, content_type, headers, n_headers, -1, connection_value(s));
}

void h1_stream_write(struct http_stream *s, const struct http_piece *pieces, size_t n_pieces)
{
	struct out_queue *q = &s->conn->queue;
	size_t n = pieces_bytes(pieces, n_pieces);
	char head[CHUNK_HEAD_BYTES];

	if (s->chunked_out)
		out_add_copy(q, str_make(head, (size_t)snprintf(head, sizeof(head), "%zx\r\n", n)));
	for (size_t i = 0; i < n_pieces; i++)
		out_add_piece(q, &pieces[i]);
	if (s->chunked_out)
		out_add_copy(q, STR("\r\n"));
}

void h1_stream_end(struct http_stream *s)
{
	if (s->chunked_out && !s->head)
		out_add_copy(&s->conn->queue, STR("0\r\n\r\n"));
}

/* The connection cannot be trusted to be in step any more: answer and close. */
void h1_refuse(struct http_conn *conn, struct http_stream *s, int status, const char *message)
{
	struct str type = STR_NULL, body = STR_NULL;
	char type_z[128];

	if (!s)
		s = stream_create(conn);
	s->answered = true;
	s->keep_alive = false;
	if (!s->req.version)
		s->req.version = HTTP_1_1;
	stream_refused(s, status, message);
	server_error_body(conn->server, &s->arena, status, message, &type, &body);
	snprintf(type_z, sizeof(type_z), "%.*s", STR_ARG(type));
	h1_respond(s, status, type_z, NULL, 0, &(struct http_piece){ .bytes = body }, 1);
	conn_linger(conn);
}

/* ---- requests ---- */

static void finish_stream(struct http_conn *conn, struct http_stream *s)
{
	bool keep_alive = s->keep_alive, aborted = s->aborted;

	stream_free(s);
	if (conn->dead)
		return;
	if (aborted) {
		/* Not even what is queued: the peer must not take it for whole. */
		conn_kill(conn);
	} else if (conn->tunnel) {
		deadline_clear(&conn->wait);
	} else if (!keep_alive || conn->server->shutting_down) {
		conn->closing = true;
	} else {
		conn_set_idle(conn);
	}
}

void h1_after(struct http_conn *conn)
{
	struct http_stream *s;

	if (list_empty(&conn->streams))
		return;
	s = list_first(&conn->streams, struct http_stream, link);
	if (s->answered)
		finish_stream(conn, s);
}

static void take_head(struct http_stream *s, const struct http1_head *head)
{
	s->req.version = head->version;
	s->req.method = head->method;
	s->req.path = head->path;
	s->req.query = head->query;
	s->req.host = head->host;
	s->req.headers = head->headers;
	s->req.n_headers = head->n_headers;
	s->keep_alive = head->keep_alive;
	s->head = str_is(head->method, "HEAD");
	s->has_head = true;
	s->req.header_ns = loop_now_ns(s->conn->server->loop);
}

/* The head is read; what of the body? */
static void begin_request(struct http_conn *conn, struct http_stream *s, const struct http1_head *head, bool more_here)
{
	size_t max = conn->server->limits.body_bytes;

	deadline_clear(&conn->wait);
	take_head(s, head);
	if (head->content_length > (int64_t)max) {
		h1_refuse(conn, s, 413, "the request body is too large");
		return;
	}
	s->body_left = head->chunked ? -1 : head->content_length > 0 ? head->content_length : 0;
	if (!s->body_left) {
		stream_hand_over(s);
		return;
	}
	if (!head->chunked && !stream_count_body(s, (size_t)s->body_left)) {
		h1_refuse(conn, s, 503, "too many request bodies are being received");
		return;
	}
	if (head->expect_continue && head->version == HTTP_1_1 && !more_here)
		out_add_copy(&conn->queue, STR("HTTP/1.1 100 Continue\r\n\r\n"));
	deadline_set(conn->server, &s->body_deadline, HTTP_DEADLINE_BODY);
}

static size_t read_head(struct http_conn *conn, struct str in)
{
	size_t n, max = conn->server->limits.header_bytes;
	struct http1_head head;
	struct http_stream *s;
	const char *message;
	char *copy;
	int status;

	/* RFC 9112 2.2: an empty line before a request is read over. */
	if (in.n >= 2 && memcmp(in.p, "\r\n", 2) == 0) {
		conn->head_scanned = 0;
		return 2;
	}
	n = http1_find_head_end(in, &conn->head_scanned);
	if (!n && in.n <= max) {
		if (conn->wait.kind != HTTP_DEADLINE_HEADER || !conn->wait.due_ns)
			deadline_set(conn->server, &conn->wait, HTTP_DEADLINE_HEADER);
		return 0;
	}
	conn->head_scanned = 0;
	if (!n || n > max) {
		h1_refuse(conn, NULL, 431, "the request header is too large");
		return in.n;
	}
	s = stream_create(conn);
	copy = arena_strndup(&s->arena, in.p, n);
	status = http1_parse_request(copy, n, &s->arena, &head, &message);
	if (status)
		h1_refuse(conn, s, status, message);
	else
		begin_request(conn, s, &head, in.n > n);
	return n;
}

static size_t read_body(struct http_conn *conn, struct http_stream *s, struct str in)
{
	size_t max = conn->server->limits.body_bytes, before = buf_len(&s->body);
	struct str rest = in;
	int r;

	if (s->body_left > 0) {
		size_t n = in.n < (size_t)s->body_left ? in.n : (size_t)s->body_left;

		buf_add(&s->body, in.p, n);
		s->body_left -= (int64_t)n;
		if (!s->body_left)
			stream_hand_over(s);
		return n;
	}
	r = http1_chunked_decode(&s->chunked, &rest, &s->body, max);
	if (r == -EMSGSIZE)
		h1_refuse(conn, s, 413, "the request body is too large");
	else if (r < 0)
		h1_refuse(conn, s, 400, "malformed chunked body");
	else if (!stream_count_body(s, buf_len(&s->body) - before))
		h1_refuse(conn, s, 503, "too many request bodies are being received");
	else if (r == 1)
		stream_hand_over(s);
	return in.n - rest.n;
}

size_t h1_input(struct http_conn *conn, struct str in)
{
	struct str rest = in;

	while (rest.n && !conn->closing && !conn->dead && conn->proto == HTTP_PROTO_H1) {
		struct http_stream *s =
			list_empty(&conn->streams) ? NULL : list_first(&conn->streams, struct http_stream, link);
		size_t used;

		if (s && s->handed)
			break; /* answered first, then the next one */
		used = s ? read_body(conn, s, rest) : read_head(conn, rest);
		rest = str_make(rest.p + used, rest.n - used);
		h1_after(conn);
		if (!used)
			break;
	}
	return in.n - rest.n;
}

/* ---- upgrades ---- */

bool http_request_wants_upgrade(const struct http_request *req, const char *protocol)
{
	bool connection = false, upgrade = false;

	if (req->version != HTTP_1_1)
		return false;
	for (size_t i = 0; i < req->n_headers; i++) {
		if (str_is(req->headers[i].name, "connection"))
			connection |= http1_has_token(req->headers[i].value, "upgrade");
		else if (str_is(req->headers[i].name, "upgrade"))
			upgrade |= http1_has_token(req->headers[i].value, protocol);
	}
	return connection && upgrade;
}

struct http_tunnel *http_upgrade(struct http_request *req, const struct http_header *headers, size_t n_headers)
{
	struct http_stream *s = container_of(req, struct http_stream, req);
	struct http_conn *conn = s->conn;

	assert(s->handed && !s->answered && !s->begun && conn->proto == HTTP_PROTO_H1);
	s->begun = s->answered = true;
	s->req.status = 101;
	stream_ended(s);
	put_head(s, 101, NULL, headers, n_headers, -1, "Upgrade");
	conn->proto = HTTP_PROTO_TUNNEL;
	shares_set_activity(conn, HTTP_STREAMING);
	conn->tunnel = mem_new(struct tunnel);
	conn->tunnel->conn = conn;
	conn->tunnel->pub.peer = &conn->peer;
	conn->server->stats.tunnels++;
	conn_touch(conn);
	return &conn->tunnel->pub;
}

size_t tunnel_input(struct http_conn *conn, struct str in)
{
	struct tunnel *tunnel = conn->tunnel;

	if (tunnel->closing)
		return in.n;
	if (tunnel->paused)
		return 0;
	if (tunnel->pub.on_data)
		tunnel->pub.on_data(&tunnel->pub, in);
	return in.n;
}

void tunnel_peer_gone(struct http_conn *conn)
{
	struct tunnel *tunnel = conn->tunnel;

	if (tunnel->closing)
		return;
	tunnel->closing = true;
	conn->server->stats.tunnels--;
	if (tunnel->pub.on_close)
		tunnel->pub.on_close(&tunnel->pub);
}

static struct tunnel *tunnel_of(const struct http_tunnel *pub)
{
	return (struct tunnel *)container_of(pub, struct tunnel, pub);
}

static void tunnel_queued(struct tunnel *tunnel)
{
	if (conn_pending(tunnel->conn) > tunnel->pub.drain_below)
		tunnel->above = true;
	conn_touch(tunnel->conn);
}

void http_tunnel_write(struct http_tunnel *pub, struct str bytes)
{
	struct tunnel *tunnel = tunnel_of(pub);

	assert(!tunnel->closing);
	out_add_copy(&tunnel->conn->queue, bytes);
	tunnel_queued(tunnel);
}

size_t http_tunnel_pending(const struct http_tunnel *pub)
{
	return conn_pending(tunnel_of(pub)->conn);
}

void http_tunnel_pause(struct http_tunnel *pub, bool paused)
{
	struct tunnel *tunnel = tunnel_of(pub);

	tunnel->paused = paused;
	conn_touch(tunnel->conn);
}

void tunnel_expire(struct http_tunnel *pub)
{
	struct http_conn *conn = tunnel_of(pub)->conn;

	deadline_set(conn->server, &conn->wait, HTTP_DEADLINE_LINGER);
}

void http_tunnel_close(struct http_tunnel *pub)
{
	struct tunnel *tunnel = tunnel_of(pub);

	assert(!tunnel->closing);
	tunnel->closing = true;
	conn_linger(tunnel->conn); /* what the peer still sends must not reset what it has yet to read */
	tunnel->conn->server->stats.tunnels--;
	conn_touch(tunnel->conn);
}
