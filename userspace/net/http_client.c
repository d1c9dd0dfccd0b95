/* SPDX-License-Identifier: Apache-2.0 */
/* The probe client: connect, one request, one response, close; a redirect begins anew. Loop thread.
 *
 * The client ends once: done() or http_client_destroy(). It is freed when its operation in flight has come back;
 * there is at most one at a time. */
#include "userspace/net/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "userspace/base/arena.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"
#include "userspace/net/http1.h"
#include "userspace/net/listen.h"
#include "userspace/net/tls_conn.h"

#define RECV_BYTES 16384

struct http_client {
	struct loop *loop;
	struct arena arena; /* the options; and per attempt the response */
	struct http_client_options options;
	struct http_header *headers;
	http_client_done_fn *done;
	void *arg;
	struct loop_timer timer;
	struct loop_op op;
	bool dead;    /* done() was called, or the owner has gone */
	bool restart; /* a redirect waits for the operation in flight */
	int redirects;
	int early; /* why the first attempt failed at once; told by the timer, from the loop */

	/* one attempt */
	int fd;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	struct tls_context *tls;
	struct tls_conn tls_conn;
	bool handshaken, sent;
	char recv_bytes[RECV_BYTES];
	struct buf cipher, out, in, body;
	size_t scanned;
	bool have_head, eof;
	struct http1_head head;
	struct http1_chunked chunked;
};

static int attempt(struct http_client *c);
static void step(struct http_client *c);

/* ---- the end ---- */

static void attempt_finish(struct http_client *c)
{
	tls_conn_finish(&c->tls_conn);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	buf_finish(&c->cipher);
	buf_finish(&c->out);
	buf_finish(&c->in);
	buf_finish(&c->body);
	c->handshaken = c->sent = c->have_head = c->eof = false;
	c->scanned = 0;
	c->chunked = (struct http1_chunked){ 0 };
}

static void try_free(struct http_client *c)
{
	if (!c->dead || loop_op_pending(&c->op))
		return;
	attempt_finish(c);
	arena_finish(&c->arena);
	free(c);
}

static void finish(struct http_client *c, const struct http_client_response *response, const struct err *err)
{
	if (c->dead)
		return;
	c->dead = true;
	loop_timer_cancel(c->loop, &c->timer);
	loop_cancel(c->loop, &c->op);
	c->done(c->arg, response, err);
}

static void fail(struct http_client *c, int code, const char *what)
{
	_cleanup_err_ struct err err = ERR_INIT;

	err_set(&err, code, "%s", what);
	finish(c, NULL, &err);
}

void http_client_destroy(struct http_client *c)
{
	if (!c || c->dead)
		return;
	c->dead = true;
	loop_timer_cancel(c->loop, &c->timer);
	loop_cancel(c->loop, &c->op);
	try_free(c);
}

static void on_timeout(struct loop_timer *timer)
{
	struct http_client *c = container_of(timer, struct http_client, timer);

	if (c->early)
		fail(c, c->early, strerror(-c->early));
	else
		fail(c, -ETIMEDOUT, "timed out");
	try_free(c);
}

/* ---- the response ---- */

static void respond(struct http_client *c)
{
	size_t max = c->options.body_bytes_max;
	struct http_client_response response = {
		.status = c->head.status,
		.headers = c->head.headers,
		.n_headers = c->head.n_headers,
		.body = buf_str(&c->body),
	};

	if (response.body.n > max) {
		response.body.n = max;
		response.body_cut = true;
	}
	finish(c, &response, NULL);
}

static struct str response_header(const struct http_client *c, const char *name)
{
	for (size_t i = 0; i < c->head.n_headers; i++)
		if (str_is(c->head.headers[i].name, name))
			return c->head.headers[i].value;
	return STR_NULL;
}

/* "host:port", "[v6]:port"; false when the port is malformed. */
static bool split_authority(struct str authority, struct str *ret_host, uint16_t *port)
{
	int64_t n;
	long colon;

	if (authority.n && authority.p[0] == '[') {
		long end = str_find(authority, ']');

		if (end < 0)
			return false;
		*ret_host = str_make(authority.p + 1, (size_t)end - 1);
		authority = str_make(authority.p + end + 1, authority.n - (size_t)end - 1);
		colon = authority.n ? 0 : -1;
		if (authority.n && authority.p[0] != ':')
			return false;
	} else {
		colon = str_find(authority, ':');
		*ret_host = colon < 0 ? authority : str_make(authority.p, (size_t)colon);
	}
	if (colon < 0)
		return true;
	if (str_to_int64(str_make(authority.p + colon + 1, authority.n - (size_t)colon - 1), &n) < 0 || n < 1 ||
	    n > 65535)
		return false;
	*port = (uint16_t)n;
	return true;
}

static struct str own_host(const struct http_client *c)
{
	for (size_t i = 0; i < c->options.n_headers; i++)
		if (c->headers[i].name.n == 4 && strncasecmp(c->headers[i].name.p, "host", 4) == 0)
			return c->headers[i].value;
	return STR_NULL;
}

static void redirect_elsewhere(struct http_client *c, struct str host)
{
	struct http_client_response response = {
		.status = c->head.status,
		.headers = c->head.headers,
		.n_headers = c->head.n_headers,
		.redirect_host = host,
	};

	finish(c, &response, NULL);
}

/* Where to: absolute with a host, or a path. */
static void redirect(struct http_client *c, struct str location)
{
	const char *slashes = memmem(location.p, location.n, "://", 3);
	bool https = c->tls != NULL;
	struct str authority, host = STR_NULL;
	uint16_t port = c->options.port;
	long slash;

	if (slashes) {
		https = location.n >= 5 && strncasecmp(location.p, "https", 5) == 0;
		port = https ? 443 : 80;
		authority = str_make(slashes + 3, location.n - (size_t)(slashes + 3 - location.p));
		slash = str_find(authority, '/');
		location = slash < 0 ? STR("/") : str_make(authority.p + slash, authority.n - (size_t)slash);
		if (slash >= 0)
			authority.n = (size_t)slash;
		if (!split_authority(authority, &host, &port)) {
			fail(c, -EPROTO, "malformed redirect");
			return;
		}
		if (!str_is(host, c->options.address) && !str_eq(host, own_host(c))) {
			redirect_elsewhere(c, host);
			return;
		}
	} else if (!location.n || location.p[0] != '/') {
		location = str_of(arena_printf(&c->arena, "/%.*s", STR_ARG(location)));
	}
	if (https && !c->options.redirect_tls) {
		fail(c, -EPROTO, "redirected to https, which is not set up here");
		return;
	}
	c->options.path = arena_str(&c->arena, location);
	c->options.port = port;
	c->tls = https ? c->options.redirect_tls : NULL;
	c->restart = true;
}

static void response_complete(struct http_client *c)
{
	int status = c->head.status;
	struct str location = response_header(c, "location");
	bool moved = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;

	if (!c->options.follow_redirects || !moved || !location.n) {
		respond(c);
	} else if (++c->redirects > HTTP_CLIENT_REDIRECTS_MAX) {
		fail(c, -ELOOP, "too many redirects");
	} else {
		redirect(c, location);
	}
}

/* 1 complete, 0 more, negative. */
static int read_response_body(struct http_client *c)
{
	size_t max = c->options.body_bytes_max;
	struct str rest = buf_str(&c->in);
	bool none = c->head.status == 204 || c->head.status == 304 || str_is(str_of(c->options.method), "HEAD");
	int r;

	if (none)
		return 1;
	if (c->head.chunked) {
		/* More than is wanted counts as the end: what was asked for is there. */
		r = http1_chunked_decode(&c->chunked, &rest, &c->body, max + RECV_BYTES * 2);
		buf_consume(&c->in, buf_len(&c->in) - rest.n);
		if (r == -EMSGSIZE)
			buf_add(&c->body, rest.p, rest.n < max + 1 ? rest.n : max + 1);
		return r == -EMSGSIZE || buf_len(&c->body) > max ? 1 : r;
	}
	buf_add_str(&c->body, rest);
	buf_reset(&c->in);
	if (c->head.content_length >= 0 && buf_len(&c->body) >= (size_t)c->head.content_length) {
		c->body.end = c->body.start + (size_t)c->head.content_length;
		return 1;
	}
	if (buf_len(&c->body) > max)
		return 1;
	return c->eof && c->head.content_length < 0 ? 1 : 0;
}

static void read_response(struct http_client *c)
{
	size_t n;
	int r;

	while (!c->have_head) {
		n = http1_find_head_end(buf_str(&c->in), &c->scanned);
		if (!n) {
			if (buf_len(&c->in) > HTTP_CLIENT_HEADER_BYTES_MAX)
				fail(c, -EPROTO, "the response header is too large");
			else if (c->eof)
				fail(c, -EPROTO, "the connection was closed before a response");
			return;
		}
		if (http1_parse_response(arena_strndup(&c->arena, buf_str(&c->in).p, n), n, &c->arena, &c->head) < 0) {
			fail(c, -EPROTO, "malformed HTTP response");
			return;
		}
		buf_consume(&c->in, n);
		c->scanned = 0;
		c->have_head = c->head.status >= 200; /* 1xx: another follows */
	}
	r = read_response_body(c);
	if (r == 1)
		response_complete(c);
	else if (r < 0)
		fail(c, -EPROTO, "malformed response body");
	else if (c->eof)
		fail(c, -EPROTO, "the connection was closed in the middle of the response");
}

/* ---- bytes ---- */

static void decrypt(struct http_client *c)
{
	for (;;) {
		char *at = buf_reserve(&c->in, TLS_RECORD_BYTES);
		ssize_t n = tls_conn_read(&c->tls_conn, at, TLS_RECORD_BYTES);

		if (n > 0)
			buf_commit(&c->in, (size_t)n);
		if (n < 0)
			c->eof = true;
		if (n <= 0)
			return;
	}
}

static void on_received(struct loop_op *op, int res, bool more)
{
	struct http_client *c = container_of(op, struct http_client, op);

	if (!c->dead) {
		if (res < 0)
			fail(c, res, strerror(-res));
		else if (res == 0)
			c->eof = true;
		else
			buf_add(c->tls ? &c->cipher : &c->in, c->recv_bytes, (size_t)res);
		step(c);
	}
	try_free(c);
}

static void on_sent(struct loop_op *op, int res, bool more)
{
	struct http_client *c = container_of(op, struct http_client, op);

	if (!c->dead) {
		if (res < 0)
			fail(c, res, strerror(-res));
		else
			buf_consume(&c->out, (size_t)res);
		step(c);
	}
	try_free(c);
}

static bool has_header(const struct http_client *c, const char *name)
{
	for (size_t i = 0; i < c->options.n_headers; i++)
		if (c->headers[i].name.n == strlen(name) &&
		    strncasecmp(c->headers[i].name.p, name, c->headers[i].name.n) == 0)
			return true;
	return false;
}

static int send_request(struct http_client *c)
{
	const struct http_client_options *o = &c->options;
	_cleanup_buf_ struct buf text = BUF_INIT;
	bool v6 = strchr(o->address, ':') != NULL;

	buf_printf(&text, "%s %.*s HTTP/1.1\r\n", o->method, STR_ARG(o->path));
	if (!has_header(c, "host"))
		buf_printf(&text, v6 ? "Host: [%s]:%u\r\n" : "Host: %s:%u\r\n", o->address, o->port);
	if (!has_header(c, "user-agent"))
		buf_add_cstr(&text, "User-Agent: k3c-bpf/" K3C_VERSION "\r\n");
	if (!has_header(c, "accept"))
		buf_add_cstr(&text, "Accept: */*\r\n");
	for (size_t i = 0; i < o->n_headers; i++)
		if (c->headers[i].value.n)
			buf_printf(&text, "%.*s: %.*s\r\n", STR_ARG(c->headers[i].name), STR_ARG(c->headers[i].value));
	if (o->body.n)
		buf_printf(&text, "Content-Length: %zu\r\n", o->body.n);
	buf_add_cstr(&text, "Connection: close\r\n\r\n");
	buf_add_str(&text, o->body);
	c->sent = true;
	if (c->tls)
		return tls_conn_write(&c->tls_conn, buf_str(&text).p, buf_len(&text));
	buf_add_str(&c->out, buf_str(&text));
	return 0;
}

/* TLS takes what came; 0 or negative after fail(). */
static int step_tls(struct http_client *c)
{
	int r;

	c->tls_conn.in = buf_str(&c->cipher);
	if (!c->handshaken) {
		r = tls_conn_handshake(&c->tls_conn);
		if (r < 0 || (r == 0 && c->eof)) {
			fail(c, -EPROTO, c->tls_conn.why ? c->tls_conn.why : "the TLS handshake was broken off");
			return -EPROTO;
		}
		c->handshaken = r == 1;
	}
	if (c->handshaken && c->sent)
		decrypt(c);
	buf_consume(&c->cipher, buf_len(&c->cipher) - c->tls_conn.in.n);
	c->tls_conn.in = STR_NULL;
	return 0;
}

/* What next? One operation at a time. */
static void step(struct http_client *c)
{
	if (c->dead || (c->tls && step_tls(c) < 0))
		return;
	if (!c->sent && (!c->tls || c->handshaken) && send_request(c) < 0) {
		fail(c, -EPROTO, "TLS failure");
		return;
	}
	if (buf_len(&c->out)) {
		loop_send(c->loop, &c->op, c->fd, buf_str(&c->out).p, buf_len(&c->out), on_sent);
		return;
	}
	if (c->sent)
		read_response(c);
	if (c->restart) {
		int r = attempt(c);

		c->restart = false;
		if (r < 0)
			fail(c, r, strerror(-r));
	} else if (!c->dead) {
		loop_recv(c->loop, &c->op, c->fd, c->recv_bytes, sizeof(c->recv_bytes), on_received);
	}
}

static void on_connected(struct loop_op *op, int res, bool more)
{
	struct http_client *c = container_of(op, struct http_client, op);

	if (!c->dead) {
		if (res < 0)
			fail(c, res, strerror(-res));
		else
			step(c);
	}
	try_free(c);
}

static int attempt(struct http_client *c)
{
	int r;

	attempt_finish(c);
	r = listen_parse_address(c->options.address, c->options.port, &c->addr, &c->addr_len, NULL);
	if (r < 0)
		return r;
	c->fd = socket(c->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	r = c->tls ? tls_conn_init(&c->tls_conn, c->tls, &c->out, c->options.server_name) : 0;
	if (r < 0)
		return r;
	loop_connect(c->loop, &c->op, c->fd, (struct sockaddr *)&c->addr, c->addr_len, on_connected);
	return 0;
}

static bool is_safe(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0')
			return false;
	return true;
}

static void copy_options(struct http_client *c, const struct http_client_options *options)
{
	struct http_client_options *o = &c->options;

	*o = *options;
	o->address = arena_strdup(&c->arena, options->address);
	o->server_name = options->server_name ? arena_strdup(&c->arena, options->server_name) : NULL;
	o->method = arena_strdup(&c->arena, options->method ? options->method : "GET");
	o->body = arena_str(&c->arena, options->body);
	o->path = options->path.n ? arena_str(&c->arena, options->path) : STR("/");
	if (!o->body_bytes_max)
		o->body_bytes_max = HTTP_CLIENT_BODY_BYTES_DEFAULT;
	if (!o->redirect_tls)
		o->redirect_tls = o->tls;
	c->headers = arena_new_array(&c->arena, struct http_header, options->n_headers + 1);
	for (size_t i = 0; i < options->n_headers; i++) {
		c->headers[i].name = arena_str(&c->arena, options->headers[i].name);
		c->headers[i].value = arena_str(&c->arena, options->headers[i].value);
	}
	o->headers = c->headers;
}

int http_client_start(struct loop *loop, const struct http_client_options *options, http_client_done_fn *done,
		      void *arg, struct http_client **ret, struct err *err)
{
	struct sockaddr_storage addr;
	struct http_client *c;
	socklen_t len;
	int r;

	r = listen_parse_address(options->address, options->port, &addr, &len, err);
	if (r < 0)
		return r;
	if (!is_safe(options->path) || (options->path.n && memchr(options->path.p, ' ', options->path.n)))
		return err_set(err, -EINVAL, "malformed path");
	for (size_t i = 0; i < options->n_headers; i++)
		if (!is_safe(options->headers[i].name) || !is_safe(options->headers[i].value))
			return err_set(err, -EINVAL, "malformed header");
	c = mem_new(struct http_client);
	c->loop = loop;
	c->done = done;
	c->arg = arg;
	c->fd = -1;
	copy_options(c, options);
	c->tls = c->options.tls;
	loop_timer_init(&c->timer, on_timeout);
	c->early = attempt(c);
	loop_timer_arm(loop, &c->timer, c->early ? 0 : options->timeout_ns);
	*ret = c;
	return 0;
}

/* ---- TCP connect check ---- */

struct tcp_check {
	struct loop *loop;
	struct loop_op op;
	struct loop_timer timer;
	tcp_check_done_fn *done;
	void *arg;
	struct sockaddr_storage addr;
	int fd;
	bool dead;
};

static void check_done(struct tcp_check *check, int result)
{
	if (check->dead)
		return;
	check->dead = true;
	loop_timer_cancel(check->loop, &check->timer);
	loop_cancel(check->loop, &check->op);
	check->done(check->arg, result);
}

static void check_free(struct tcp_check *check)
{
	if (!check->dead || loop_op_pending(&check->op))
		return;
	close(check->fd);
	free(check);
}

static void check_connected(struct loop_op *op, int res, bool more)
{
	struct tcp_check *check = container_of(op, struct tcp_check, op);

	check_done(check, res < 0 ? res : 0);
	check_free(check);
}

static void check_timeout(struct loop_timer *timer)
{
	struct tcp_check *check = container_of(timer, struct tcp_check, timer);

	check_done(check, -ETIMEDOUT);
	check_free(check);
}

int tcp_check_start(struct loop *loop, const char *address, uint16_t port, int64_t timeout_ns, tcp_check_done_fn *done,
		    void *arg, struct tcp_check **ret, struct err *err)
{
	struct sockaddr_storage addr;
	struct tcp_check *check;
	socklen_t len;
	int r, fd;

	r = listen_parse_address(address, port, &addr, &len, err);
	if (r < 0)
		return r;
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "socket: %s", strerror(errno));
	check = mem_new(struct tcp_check);
	*check = (struct tcp_check){ .loop = loop, .done = done, .arg = arg, .addr = addr, .fd = fd };
	loop_timer_init(&check->timer, check_timeout);
	loop_timer_arm(loop, &check->timer, timeout_ns);
	loop_connect(loop, &check->op, fd, (struct sockaddr *)&check->addr, len, check_connected);
	*ret = check;
	return 0;
}

void tcp_check_destroy(struct tcp_check *check)
{
	if (!check || check->dead)
		return;
	check->dead = true;
	loop_timer_cancel(check->loop, &check->timer);
	loop_cancel(check->loop, &check->op);
	check_free(check);
}
