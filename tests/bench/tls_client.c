/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmark's TLS connection and HTTP/1.1. See tls_client.h. */
#include "tests/bench/tls_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/args.h"

void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct tls_client_target tls_client_target_of(char **argv, int at)
{
	return (struct tls_client_target){ .address = args_address(argv[at]),
					   .port = args_port(argv[at + 1]),
					   .ca = argv[at + 2],
					   .cert = argv[at + 3],
					   .key = argv[at + 4] };
}

SSL_CTX *tls_client_context(const struct tls_client_target *target)
{
	SSL_CTX *ssl = SSL_CTX_new(TLS_client_method());

	bool certified = strcmp(target->cert, "-") != 0;

	if (!ssl || SSL_CTX_load_verify_locations(ssl, target->ca, NULL) != 1 ||
	    (certified && SSL_CTX_use_certificate_chain_file(ssl, target->cert) != 1) ||
	    (certified && SSL_CTX_use_PrivateKey_file(ssl, target->key, SSL_FILETYPE_PEM) != 1))
		die("TLS: %s", ERR_reason_error_string(ERR_get_error()));
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	return ssl;
}

void tls_client_open(struct tls_client *c, SSL_CTX *ssl, const struct tls_client_target *target)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = target->port, .sin_addr = target->address };
	int on = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		die("connect: %m");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->ssl = SSL_new(ssl);
	SSL_set_fd(c->ssl, c->fd);
	if (SSL_connect(c->ssl) != 1)
		die("TLS handshake: %s", ERR_reason_error_string(ERR_get_error()));
	c->buf = malloc(TLS_CLIENT_BUF);
	c->n = 0;
}

void tls_client_close(struct tls_client *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	free(c->buf);
}

void tls_client_write(struct tls_client *c, const char *p, size_t n)
{
	if (SSL_write(c->ssl, p, (int)n) != (int)n)
		die("TLS write failed");
}

size_t tls_client_fill(struct tls_client *c)
{
	int r;

	if (c->n == TLS_CLIENT_BUF)
		die("response head or chunk too large");
	r = SSL_read(c->ssl, c->buf + c->n, (int)(TLS_CLIENT_BUF - c->n));
	if (r <= 0)
		die("the server closed a connection");
	c->n += (size_t)r;
	return (size_t)r;
}

static void use(struct tls_client *c, size_t n)
{
	memmove(c->buf, c->buf + n, c->n - n);
	c->n -= n;
}

static const char *header(const char *head, size_t n, const char *name)
{
	size_t m = strlen(name);

	for (const char *p = head; (p = memchr(p, '\n', n - (size_t)(p - head)));) {
		p++;
		if ((size_t)(head + n - p) > m && strncasecmp(p, name, m) == 0)
			return p + m;
	}
	return NULL;
}

int tls_client_head(struct tls_client *c, bool *ret_chunked, size_t *ret_length)
{
	const char *end, *length;
	size_t n;
	int status;

	while (!(end = memmem(c->buf, c->n, "\r\n\r\n", 4)))
		tls_client_fill(c);
	n = (size_t)(end - c->buf) + 4;
	status = c->n > 12 ? atoi(c->buf + 9) : 0;
	length = header(c->buf, n, "content-length:");
	*ret_length = length ? strtoul(length, NULL, 10) : 0;
	*ret_chunked = !length;
	use(c, n);
	return status;
}

/* The body's bytes; what was read of the next response stays. */
static size_t body_sized(struct tls_client *c, size_t length)
{
	size_t left = length;

	while (left > c->n) {
		left -= c->n;
		c->n = 0;
		tls_client_fill(c);
	}
	use(c, left);
	return length;
}

static size_t body_chunked(struct tls_client *c)
{
	size_t total = 0, n, size;
	char *end;

	do {
		while (!(end = memmem(c->buf, c->n, "\r\n", 2)))
			tls_client_fill(c);
		n = strtoul(c->buf, NULL, 16);
		size = (size_t)(end - c->buf) + 2;
		use(c, size);
		body_sized(c, n + 2);
		total += n;
	} while (n);
	return total;
}

int tls_client_response(struct tls_client *c, size_t *ret_bytes)
{
	bool chunked;
	size_t length;
	int status = tls_client_head(c, &chunked, &length);

	*ret_bytes = chunked ? body_chunked(c) : body_sized(c, length);
	return status;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

uint64_t quantile(uint64_t *values, size_t n, double q)
{
	if (!n)
		return 0;
	qsort(values, n, sizeof(*values), compare);
	return values[(size_t)((double)(n - 1) * q)];
}
