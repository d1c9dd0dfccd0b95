/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP/1.1 client on the loop, for probes and proxies: one request, a status and the beginning of the body; and
 * the TCP connect check. Numeric addresses only. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/base/str.h"
#include "userspace/net/http.h"

struct loop;
struct tls_context;
struct http_client;

#define HTTP_CLIENT_BODY_BYTES_DEFAULT (10 * 1024)
#define HTTP_CLIENT_HEADER_BYTES_MAX (64 * 1024)
#define HTTP_CLIENT_REDIRECTS_MAX 10

struct http_client_response {
	int status;
	const struct http_header *headers; /* names in lower case */
	size_t n_headers;
	struct str body; /* cut at body_bytes_max */
	bool body_cut;
	struct str redirect_host; /* a redirect to another host was not followed: which */
};

/* Called once, from the loop, unless destroyed before. err->code: -ETIMEDOUT, -ECONNREFUSED, -EPROTO, ...; `response`
 * is NULL then. Both are valid only during the call, and the client is freed after it. */
typedef void http_client_done_fn(void *arg, const struct http_client_response *response, const struct err *err);

struct http_client_options {
	const char *address; /* numeric; brackets are not used */
	uint16_t port;
	struct tls_context *tls; /* NULL: plain */
	const char *server_name; /* SNI; NULL: none */
	const char *method;      /* NULL: GET */
	struct str path;         /* with query; empty: "/" */
	struct str body;         /* sent with its length; not again after a redirect */
	/* host, user-agent, accept and connection are added unless given; an empty value removes the default one. */
	const struct http_header *headers;
	size_t n_headers;
	int64_t timeout_ns;
	size_t body_bytes_max; /* 0: default */
	bool follow_redirects; /* to the same host (address or Host given), any port; at most the limit above */
	struct tls_context *redirect_tls; /* for redirects to https; NULL: `tls` */
};

/* Copies everything. Errors in the options (-EINVAL) are returned, the rest comes to `done`. */
int http_client_start(struct loop *loop, const struct http_client_options *options, http_client_done_fn *done,
		      void *arg, struct http_client **ret, struct err *err);
/* Before done: gives up silently. */
void http_client_destroy(struct http_client *client);

/* ---- TCP connect check ---- */

struct tcp_check;
/* result: 0 connected (and closed again), negative errno otherwise (-ETIMEDOUT, -ECONNREFUSED). Freed after it. */
typedef void tcp_check_done_fn(void *arg, int result);

int tcp_check_start(struct loop *loop, const char *address, uint16_t port, int64_t timeout_ns, tcp_check_done_fn *done,
		    void *arg, struct tcp_check **ret, struct err *err);
void tcp_check_destroy(struct tcp_check *check);
