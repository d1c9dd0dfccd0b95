/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking client for the tests, plain or TLS, with a time limit on every read; and a server on a loop thread. */
#pragma once

#include <assert.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/net/net_fixture.h"
#include "userspace/base/buf.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"
#include "userspace/net/http.h"
#include "userspace/net/listen.h"
#include "userspace/net/tls.h"

#define CLIENT_TIMEOUT_S 10

struct client {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
};

static inline struct client client_connect(int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval limit = { .tv_sec = CLIENT_TIMEOUT_S };
	struct client c = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };

	signal(SIGPIPE, SIG_IGN); /* SSL_write to a server that has closed */
	setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(c.fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		abort();
	return c;
}

/* `cert` NULL: none. `alpn` in wire form. */
static inline struct client client_connect_tls(int port, const struct fixture_cert *cert, const char *alpn)
{
	struct client c = client_connect(port);

	c.ctx = SSL_CTX_new(TLS_client_method());
	if (cert) {
		SSL_CTX_use_certificate(c.ctx, cert->cert);
		SSL_CTX_use_PrivateKey(c.ctx, cert->key);
	}
	if (alpn)
		SSL_CTX_set_alpn_protos(c.ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn));
	c.ssl = SSL_new(c.ctx);
	SSL_set_fd(c.ssl, c.fd);
	if (SSL_connect(c.ssl) != 1)
		abort();
	return c;
}

static inline void client_close(struct client *c)
{
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	if (c->fd >= 0)
		close(c->fd);
	*c = (struct client){ .fd = -1 };
}

static inline void client_send(struct client *c, const void *p, size_t n)
{
	while (n) {
		ssize_t put = c->ssl ? SSL_write(c->ssl, p, (int)n) : send(c->fd, p, n, MSG_NOSIGNAL);

		if (put <= 0)
			return; /* the server may have closed: what it said is read later */
		p = (const char *)p + put;
		n -= (size_t)put;
	}
}

static inline void client_send_text(struct client *c, const char *text)
{
	client_send(c, text, strlen(text));
}

/* 0 at the end of the stream, negative on error or timeout. */
static inline ssize_t client_recv(struct client *c, void *p, size_t n)
{
	return c->ssl ? SSL_read(c->ssl, p, (int)n) : recv(c->fd, p, n, 0);
}

static inline void client_read_exactly(struct client *c, void *p, size_t n)
{
	while (n) {
		ssize_t got = client_recv(c, p, n);

		assert(got > 0);
		p = (char *)p + got;
		n -= (size_t)got;
	}
}

/* Until the bytes end with `tail`, or the stream ends. */
static inline void client_read_until(struct client *c, struct buf *in, const char *tail)
{
	size_t n = strlen(tail);
	char byte;

	while (client_recv(c, &byte, 1) == 1) {
		buf_add_char(in, byte);
		if (buf_len(in) >= n && memcmp(in->data + in->end - n, tail, n) == 0)
			return;
	}
}

static inline void client_read_all(struct client *c, struct buf *in)
{
	char bytes[4096];
	ssize_t n;

	while ((n = client_recv(c, bytes, sizeof(bytes))) > 0)
		buf_add(in, bytes, (size_t)n);
}

struct client_response {
	int status;
	struct buf head, body;
};

static inline void client_response_finish(struct client_response *r)
{
	buf_finish(&r->head);
	buf_finish(&r->body);
}

/* A response with Content-Length (or without body). */
static inline void client_read_response(struct client *c, struct client_response *r, bool head_only)
{
	const char *length;
	size_t n;

	*r = (struct client_response){ 0 };
	client_read_until(c, &r->head, "\r\n\r\n");
	if (buf_len(&r->head) < 12)
		return;
	r->status = atoi(buf_cstr(&r->head) + 9);
	length = strcasestr(buf_cstr(&r->head), "content-length: ");
	if (!length || head_only)
		return;
	n = (size_t)atol(length + 16);
	if (!n)
		return;
	client_read_exactly(c, buf_reserve(&r->body, n), n);
	buf_commit(&r->body, n);
}

/* ---- a server on a thread ---- */

struct test_server {
	/* set before start */
	struct http_server_options options;
	bool tls;
	/* then */
	int port;
	struct loop *loop;
	struct http_server *server;
	pthread_t thread;
	sem_t ready;
	struct tls_context *context;
	struct fixture_cert ca, cert;
};

static inline void *test_server_main(void *arg)
{
	struct test_server *t = arg;
	struct err err = ERR_INIT;
	int fd;

	if (loop_create(NULL, &t->loop, &err) < 0 || listen_tcp("127.0.0.1", 0, &fd, &err) < 0)
		abort();
	t->port = listen_port(fd);
	t->options.tls = t->context;
	if (http_server_create(t->loop, &t->options, &t->server, &err) < 0 ||
	    http_server_add_listener(t->server, fd, &err) < 0)
		abort();
	sem_post(&t->ready);
	loop_run(t->loop);
	http_server_destroy(t->server);
	loop_destroy(t->loop);
	return NULL;
}

static inline void test_server_start(struct test_server *t)
{
	struct err err = ERR_INIT;

	sem_init(&t->ready, 0, 0);
	if (t->tls) {
		t->ca = fixture_cert(NULL, "test-ca", NULL, NULL, 86400);
		t->cert = fixture_cert(&t->ca, "server", NULL, "serverAuth", 86400);
		struct tls_server_options options = { .cert_pem = t->cert.cert_pem,
						      .key_pem = t->cert.key_pem,
						      .client_ca_pem = t->ca.cert_pem,
						      .http2 = true };

		if (tls_server_create(&options, &t->context, &err) < 0)
			abort();
	}
	pthread_create(&t->thread, NULL, test_server_main, t);
	sem_wait(&t->ready);
}

/* Runs `fn` on the loop thread and waits for it. */
struct test_call {
	struct loop_msg msg;
	void (*fn)(struct test_server *t, void *arg);
	struct test_server *t;
	void *arg;
	sem_t done;
};

static inline void test_call_run(struct loop_msg *msg)
{
	struct test_call *call = container_of(msg, struct test_call, msg);

	call->fn(call->t, call->arg);
	sem_post(&call->done);
}

static inline void test_server_call(struct test_server *t, void (*fn)(struct test_server *t, void *arg), void *arg)
{
	struct test_call call = { .msg.fn = test_call_run, .fn = fn, .t = t, .arg = arg };

	sem_init(&call.done, 0, 0);
	loop_post(t->loop, &call.msg);
	sem_wait(&call.done);
	sem_destroy(&call.done);
}

static inline void test_server_stop_call(struct test_server *t, void *arg)
{
	loop_stop(t->loop, 0);
}

static inline void test_server_stop(struct test_server *t)
{
	test_server_call(t, test_server_stop_call, NULL);
	pthread_join(t->thread, NULL);
	if (t->tls) {
		tls_context_destroy(t->context);
		fixture_cert_finish(&t->ca);
		fixture_cert_finish(&t->cert);
	}
	sem_destroy(&t->ready);
	*t = (struct test_server){ 0 };
}
