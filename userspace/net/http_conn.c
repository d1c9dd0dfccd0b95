/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: bytes between socket, TLS and the protocol above. See http_internal.h for who calls whom.
 *
 * Receiving: a multishot receive delivers into the loop's buffers, TLS decrypts into the server's work space and the
 * protocol parses there; only what is incomplete is kept. Sending: when the socket is free, queued bytes are gathered
 * into full TLS records (large chunks are encrypted where they lie) and go out in one send. So an exchange costs one
 * receive, one decryption, one encryption and one send, and an idle connection holds no buffers.
 *
 * Freed when dead, not being worked on, and no operation is in flight.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"
#include "userspace/net/listen.h"

static void recv_done(struct loop_op *op, int res, bool more);
static void send_done(struct loop_op *op, int res, bool more);
static void conn_work(struct http_conn *conn);
static void deferred_work(struct loop_defer *defer);

/* ---- birth and death ---- */

void conn_create(struct http_server *server, int fd)
{
	struct http_conn *conn = mem_new(struct http_conn);
	struct sockaddr_storage addr = { 0 };
	socklen_t len = sizeof(addr);

	conn->server = server;
	conn->fd = fd;
	conn->tls = server->tls != NULL;
	conn->peer.tls = conn->tls;
	conn->defer.fn = deferred_work;
	list_init(&conn->streams);
	list_init(&conn->events);
	list_add_tail(&server->conns, &conn->link);
	server->refs++;
	server->stats.connections++;
	server->stats.connections_total++;
	if (getpeername(fd, (struct sockaddr *)&addr, &len) == 0)
		listen_format_address((struct sockaddr *)&addr, conn->peer.address, sizeof(conn->peer.address),
				      &conn->peer.port);
	shares_add(conn, (struct sockaddr *)&addr);
	if (!conn->tls)
		conn->proto = HTTP_PROTO_H1;
	else if (tls_conn_init(&conn->tls_conn, server->tls, &conn->out, NULL) < 0) {
		conn_kill(conn);
		return;
	}
	deadline_set(server, &conn->wait, HTTP_DEADLINE_HEADER);
	loop_recv_multishot(server->loop, &conn->recv_op, fd, recv_done);
}

static void try_free(struct http_conn *conn)
{
	struct http_server *server = conn->server;

	if (!conn->dead || conn->working || loop_op_pending(&conn->recv_op) || loop_op_pending(&conn->send_op))
		return;
	loop_defer_cancel(server->loop, &conn->defer);
	while (!list_empty(&conn->streams))
		stream_free(list_first(&conn->streams, struct http_stream, link));
	h2_finish(conn);
	tls_conn_finish(&conn->tls_conn);
	out_queue_finish(&conn->queue);
	buf_finish(&conn->raw);
	buf_finish(&conn->in);
	buf_finish(&conn->out);
	buf_finish(&conn->sending);
	arena_finish(&conn->peer_arena);
	free(conn->tunnel);
	close(conn->fd);
	list_del(&conn->link);
	free(conn);
	server->stats.connections--;
	server_unref(server);
}

void conn_kill(struct http_conn *conn)
{
	if (conn->dead)
		return;
	conn->dead = true;
	if (conn->proto == HTTP_PROTO_HANDSHAKE && !conn->server->shutting_down)
		conn->server->stats.handshake_errors++;
	shares_leave(conn);
	deadline_clear(&conn->wait);
	deadline_clear(&conn->stall);
	loop_cancel(conn->server->loop, &conn->recv_op);
	loop_cancel(conn->server->loop, &conn->send_op);
	shutdown(conn->fd, SHUT_RDWR);
	list_foreach_safe(s, &conn->streams, struct http_stream, link) {
		deadline_clear(&s->body_deadline);
		deadline_clear(&s->send_deadline);
		stream_peer_gone(s);
	}
	if (conn->tunnel)
		tunnel_peer_gone(conn);
	try_free(conn);
}

void conn_shed(struct http_conn *conn)
{
	if (!conn->dead)
		conn->server->stats.shed++;
	conn_kill(conn);
}

void conn_touch(struct http_conn *conn)
{
	if (conn->working)
		conn->again = true;
	else if (!conn->dead)
		loop_defer(conn->server->loop, &conn->defer);
}

static void deferred_work(struct loop_defer *defer)
{
	struct http_conn *conn = container_of(defer, struct http_conn, defer);

	conn->working = true;
	conn_work(conn);
	conn->working = false;
	try_free(conn);
}

bool conn_is_idle(const struct http_conn *conn)
{
	return (conn->proto == HTTP_PROTO_H1 || conn->proto == HTTP_PROTO_H2) && list_empty(&conn->streams) &&
	       !buf_len(&conn->in) && !conn->queue.bytes && !loop_op_pending(&conn->send_op) && !buf_len(&conn->out);
}

void conn_set_idle(struct http_conn *conn)
{
	if (conn->dead || conn->closing)
		return;
	shares_set_activity(conn, HTTP_IDLE);
	deadline_set(conn->server, &conn->wait, HTTP_DEADLINE_RELEASE);
}

size_t conn_pending(const struct http_conn *conn)
{
	return conn->queue.bytes + buf_len(&conn->out) + buf_len(&conn->sending);
}

/* ---- receiving ---- */

static bool input_is_full(const struct http_conn *conn)
{
	size_t max = conn->server->limits.header_bytes > HTTP_INPUT_BYTES_MAX ? conn->server->limits.header_bytes * 2
									      : HTTP_INPUT_BYTES_MAX;

	return buf_len(&conn->in) >= max;
}

static size_t protocol_input(struct http_conn *conn, struct str in)
{
	switch (conn->proto) {
	case HTTP_PROTO_H1:
		return h1_input(conn, in);
	case HTTP_PROTO_H2:
		return h2_input(conn, in);
	case HTTP_PROTO_TUNNEL:
		return tunnel_input(conn, in);
	default:
		return 0;
	}
}

/* What was kept goes first. True when the protocol took something. */
static bool feed_kept(struct http_conn *conn)
{
	size_t used;

	if (!buf_len(&conn->in) || conn->closing || conn->dead)
		return false;
	used = protocol_input(conn, buf_str(&conn->in));
	buf_consume(&conn->in, used);
	return used > 0;
}

static void feed(struct http_conn *conn, struct str in)
{
	size_t used = 0;

	if (conn->closing || conn->dead)
		return;
	if (buf_len(&conn->in)) {
		buf_add_str(&conn->in, in);
		feed_kept(conn);
		return;
	}
	used = protocol_input(conn, in);
	if (!conn->closing && !conn->dead)
		buf_add(&conn->in, in.p + used, in.n - used);
}

static void established(struct http_conn *conn)
{
	struct tls_peer peer;

	tls_conn_peer(&conn->tls_conn, &conn->peer_arena, &peer);
	conn->peer.cert_cn = peer.cn;
	conn->peer.cert_orgs = peer.orgs;
	conn->peer.n_cert_orgs = peer.n_orgs;
	conn->peer.cert_sha256 = peer.sha256;
	conn->peer.cert_error = peer.error;
	conn->proto = HTTP_PROTO_H1;
	if (tls_conn_is_http2(&conn->tls_conn) && h2_start(conn) == 0) {
		conn->proto = HTTP_PROTO_H2;
		conn_set_idle(conn);
	}
}

static void decrypt(struct http_conn *conn)
{
	char *plain = conn->server->plain;

	if (conn->proto == HTTP_PROTO_HANDSHAKE) {
		int r = tls_conn_handshake(&conn->tls_conn);

		if (r < 0) {
			log_debug("TLS handshake failed peer=%s error=\"%s\"", conn->peer.address,
				  conn->tls_conn.why ? conn->tls_conn.why : "end of stream");
			conn->server->stats.protocol_errors++;
			conn->closing = true;
		}
		if (r <= 0)
			return;
		established(conn);
	}
	while (!conn->closing && !conn->dead && !input_is_full(conn)) {
		ssize_t n = tls_conn_read(&conn->tls_conn, plain, sizeof(conn->server->plain));

		if (n > 0)
			feed(conn, str_make(plain, (size_t)n));
		if (n < 0)
			conn->eof = true;
		if (n <= 0)
			break;
	}
}

static void received(struct http_conn *conn, struct str in)
{
	struct tls_conn *tls = &conn->tls_conn;

	if (conn->closing || conn->lingering)
		return;
	if (!conn->tls) {
		feed(conn, in);
		return;
	}
	if (buf_len(&conn->raw)) {
		buf_add_str(&conn->raw, in);
		return; /* conn_work() goes on with it when the protocol has room */
	}
	tls->in = in;
	decrypt(conn);
	buf_add_str(&conn->raw, tls->in);
	tls->in = STR_NULL;
}

/* Ciphertext that was kept while the protocol had no room. */
static bool decrypt_kept(struct http_conn *conn)
{
	size_t before = buf_len(&conn->raw);

	if (!before || conn->closing || conn->dead || input_is_full(conn))
		return false;
	conn->tls_conn.in = buf_str(&conn->raw);
	decrypt(conn);
	buf_consume(&conn->raw, before - conn->tls_conn.in.n);
	conn->tls_conn.in = STR_NULL;
	return buf_len(&conn->raw) < before;
}

static void arm_receive(struct http_conn *conn)
{
	bool want = !conn->dead && !conn->eof && buf_len(&conn->raw) < HTTP_INPUT_BYTES_MAX &&
		    (conn->lingering || !input_is_full(conn));

	if (want && !loop_op_pending(&conn->recv_op))
		loop_recv_multishot(conn->server->loop, &conn->recv_op, conn->fd, recv_done);
	else if (!want && loop_op_pending(&conn->recv_op))
		loop_cancel(conn->server->loop, &conn->recv_op);
}

static void recv_done(struct loop_op *op, int res, bool more)
{
	struct http_conn *conn = container_of(op, struct http_conn, recv_op);

	conn->working = true;
	if (!conn->dead) {
		if (res > 0)
			received(conn, str_make(loop_recv_data(conn->server->loop), (size_t)res));
		else if (res == 0)
			conn->eof = true;
		else if (res != -ENOBUFS && res != -ECANCELED)
			conn_kill(conn);
		conn_work(conn);
	}
	conn->working = false;
	try_free(conn);
}

/* ---- sending ---- */

void conn_flush_stage(struct http_conn *conn, size_t *staged)
{
	if (*staged && tls_conn_write(&conn->tls_conn, conn->server->stage, *staged) < 0)
		conn_kill(conn);
	*staged = 0;
}

void conn_stage(struct http_conn *conn, const char *p, size_t n, size_t *staged)
{
	while (n && !conn->dead) {
		size_t part = TLS_RECORD_BYTES - *staged < n ? TLS_RECORD_BYTES - *staged : n;

		memcpy(conn->server->stage + *staged, p, part);
		*staged += part;
		p += part;
		n -= part;
		if (*staged == TLS_RECORD_BYTES)
			conn_flush_stage(conn, staged);
	}
}

static void encrypt_queue(struct http_conn *conn, size_t max)
{
	struct out_queue *q = &conn->queue;
	size_t staged = 0;

	while (q->bytes && buf_len(&conn->out) < max && !conn->dead) {
		struct str run = out_peek(q);

		if (!staged && run.n >= TLS_RECORD_BYTES) {
			if (tls_conn_write(&conn->tls_conn, run.p, TLS_RECORD_BYTES) < 0) {
				conn_kill(conn);
				return;
			}
			out_consume(q, TLS_RECORD_BYTES);
			continue;
		}
		staged += out_take(q, conn->server->stage + staged, TLS_RECORD_BYTES - staged);
		if (staged == TLS_RECORD_BYTES || !q->bytes)
			conn_flush_stage(conn, &staged);
	}
	conn_flush_stage(conn, &staged);
}

/* How much this connection may hand to the socket in this turn of the loop. */
static size_t turn_share(struct http_server *server)
{
	size_t left;

	if (server->turn_ns != loop_now_ns(server->loop)) {
		server->turn_ns = loop_now_ns(server->loop);
		server->turn_bytes = 0;
	}
	left = server->turn_bytes < HTTP_TURN_BYTES_MAX ? HTTP_TURN_BYTES_MAX - server->turn_bytes : 0;
	if (left > HTTP_SEND_BYTES_MAX)
		return HTTP_SEND_BYTES_MAX;
	return left > HTTP_SEND_BYTES_LEAST ? left : HTTP_SEND_BYTES_LEAST;
}

static void fill_out(struct http_conn *conn)
{
	size_t staged = 0, max = turn_share(conn->server), before = buf_len(&conn->out);
	struct out_queue *q = &conn->queue;

	if (conn->proto == HTTP_PROTO_H2) {
		h2_output(conn, max, &staged);
	} else if (q->bytes && conn->tls) {
		encrypt_queue(conn, max);
	} else if (q->bytes) {
		size_t n = q->bytes < max ? q->bytes : max;

		buf_commit(&conn->out, out_take(q, buf_reserve(&conn->out, n), n));
	}
	conn->server->turn_bytes += buf_len(&conn->out) - before;
}

/* Everything is sent, and nothing more shall be. */
static void close_now(struct http_conn *conn)
{
	if (conn->tls && !conn->notified) {
		conn->notified = true;
		tls_conn_shutdown(&conn->tls_conn);
		if (buf_len(&conn->out))
			return;
	}
	if (!conn->lingering) {
		conn_kill(conn);
		return;
	}
	if (!conn->write_shut) {
		conn->write_shut = true;
		shutdown(conn->fd, SHUT_WR);
		deadline_set(conn->server, &conn->wait, HTTP_DEADLINE_LINGER);
	}
	if (conn->eof)
		conn_kill(conn);
}

static void flush(struct http_conn *conn)
{
	struct buf swap;

	if (loop_op_pending(&conn->send_op) || conn->dead)
		return;
	fill_out(conn);
	if (!conn->dead && !buf_len(&conn->out) && conn->closing)
		close_now(conn);
	if (conn->dead || !buf_len(&conn->out))
		return;
	swap = conn->sending;
	conn->sending = conn->out;
	conn->out = swap;
	deadline_set(conn->server, &conn->stall, HTTP_DEADLINE_SEND);
	loop_send(conn->server->loop, &conn->send_op, conn->fd, conn->sending.data + conn->sending.start,
		  buf_len(&conn->sending), send_done);
}

static void send_done(struct loop_op *op, int res, bool more)
{
	struct http_conn *conn = container_of(op, struct http_conn, send_op);

	conn->working = true;
	if (!conn->dead) {
		deadline_clear(&conn->stall);
		if (res <= 0) {
			conn_kill(conn);
		} else {
			buf_consume(&conn->sending, (size_t)res);
			if (buf_len(&conn->sending)) {
				deadline_set(conn->server, &conn->stall, HTTP_DEADLINE_SEND);
				loop_send(conn->server->loop, op, conn->fd, conn->sending.data + conn->sending.start,
					  buf_len(&conn->sending), send_done);
			}
			conn_work(conn);
		}
	}
	conn->working = false;
	try_free(conn);
}

/* ---- deciding ---- */

void conn_linger(struct http_conn *conn)
{
	conn->closing = true;
	conn->lingering = true;
}

static void after(struct http_conn *conn)
{
	if (conn->proto == HTTP_PROTO_H1)
		h1_after(conn);
	else if (conn->proto == HTTP_PROTO_H2)
		h2_after(conn);
}

static void check_drains(struct http_conn *conn)
{
	struct tunnel *tunnel = conn->tunnel;

	if (conn->proto == HTTP_PROTO_H1 && !list_empty(&conn->streams))
		stream_check_drain(list_first(&conn->streams, struct http_stream, link));
	if (tunnel && tunnel->above && !tunnel->closing && conn_pending(conn) <= tunnel->pub.drain_below) {
		tunnel->above = false;
		if (tunnel->pub.on_drain)
			tunnel->pub.on_drain(&tunnel->pub);
	}
}

static void handle_eof(struct http_conn *conn)
{
	struct http_stream *s;

	if (conn->lingering || conn->dead)
		return;
	if (conn->proto == HTTP_PROTO_H1 && !conn->tunnel) {
		/* What was answered may still be on its way to a peer that only closed its half. */
		s = list_empty(&conn->streams) ? NULL : list_first(&conn->streams, struct http_stream, link);
		if (!s && conn_pending(conn)) {
			conn->closing = true;
			return;
		}
	}
	/* A paused tunnel's owner gets the last bytes before it hears of the end. */
	if (conn->tunnel && conn->tunnel->paused && !conn->tunnel->closing &&
	    (buf_len(&conn->in) || buf_len(&conn->raw)))
		return;
	if (!conn->closing || conn->proto == HTTP_PROTO_HANDSHAKE || !conn_pending(conn))
		conn_kill(conn);
}

static void conn_work(struct http_conn *conn)
{
	if (conn->dead)
		return;
	do
		after(conn);
	while (!conn->dead && (feed_kept(conn) || decrypt_kept(conn)));
	if (conn->proto == HTTP_PROTO_H2 && !conn->dead && h2_wants_close(conn))
		conn->closing = true;
	if (conn->eof)
		handle_eof(conn);
	flush(conn);
	if (conn->dead)
		return;
	conn->again = !list_empty(&conn->events);
	check_drains(conn);
	arm_receive(conn);
	/* A drained owner may have written, or ended its request. */
	if (conn->again && !conn->dead)
		loop_defer(conn->server->loop, &conn->defer);
}
