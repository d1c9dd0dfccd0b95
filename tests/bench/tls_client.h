/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark's clients share: a TLS connection with a client certificate and HTTP/1.1 with keep-alive on it.
 *
 * As lean as can be, because a slow client hides a fast server: one SSL_write a request, blocking reads into one
 * buffer, no allocation a request. A connection belongs to one thread. Whatever fails ends the program: a benchmark
 * with errors in it has no result.
 */
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_CLIENT_BUF (256 * 1024)

struct tls_client_target {
	const char *ca, *cert, *key; /* files in PEM */
	struct in_addr address;
	in_port_t port;
};

struct tls_client {
	int fd;
	SSL *ssl;
	char *buf; /* TLS_CLIENT_BUF bytes, `n` of them hold what was read and not used yet */
	size_t n;
};

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
uint64_t now_ns(void);

/* Takes argv[at..at+4]: HOST PORT CA CERT KEY. */
struct tls_client_target tls_client_target_of(char **argv, int at);
SSL_CTX *tls_client_context(const struct tls_client_target *target);

void tls_client_open(struct tls_client *c, SSL_CTX *ssl, const struct tls_client_target *target);
void tls_client_close(struct tls_client *c);

void tls_client_write(struct tls_client *c, const char *p, size_t n);
/* Reads some more into the buffer; the bytes read. */
size_t tls_client_fill(struct tls_client *c);
/* Reads a whole response and drops its body: the status, and the body's bytes. */
int tls_client_response(struct tls_client *c, size_t *ret_bytes);
/* Reads a response's head alone: the status. The buffer then begins with the body. */
int tls_client_head(struct tls_client *c, bool *ret_chunked, size_t *ret_length);

/* The q-quantile of n values, which are sorted in place; 0 of none. */
uint64_t quantile(uint64_t *values, size_t n, double q);
