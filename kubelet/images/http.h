/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP for registries, as a stream that is pulled: libcurl's multi interface driven by whoever reads, so that layers
 * unpack while they arrive. Blocking; one thread a client. */
#pragma once

#include <stdbool.h>

#include "kubelet/images/images.h"
#include "kubelet/images/lazy.h"
#include "userspace/base/buf.h"

#define HTTP_HEADER_MAX 8192
#define HTTP_CONNECT_TIMEOUT_S 15L
#define HTTP_STALL_TIMEOUT_S 60L /* with less than a byte a second */
#define HTTP_REDIRECTS_MAX 5L

struct http_client {
	CURLM *multi;
	CURL *easy;
	const struct image_auth *auth; /* may be NULL */
	char *bearer;                  /* heap; NULL: none */
	bool basic;                    /* send user name and password */
	bool plain;                    /* http:// is allowed */
	/* the response being read */
	struct curl_slist *headers;
	struct buf body;
	char authenticate[HTTP_HEADER_MAX], digest[128];
	char error[CURL_ERROR_SIZE];
	bool running;
	CURLcode result;
};

/* -ENOENT without libcurl. */
int http_init(struct http_client *c, const struct image_auth *auth, bool plain, struct err *err);
void http_finish(struct http_client *c);
/* Sends a GET and waits for the head of the (last) response. Returns its status, or -EIO etc. without one. */
int http_open(struct http_client *c, const char *url, const char *accept, bool with_auth, struct err *err);
/* Bytes are valid until the next call; 0: the end. */
ssize_t http_read(struct http_client *c, const void **ret, struct err *err);
