/* SPDX-License-Identifier: Apache-2.0 */
/* Answers compressed where the client takes it: on the worker pool, so that the loop serves others meanwhile. Level 1
 * from 128 KiB on, as upstream. Loop thread. */
#pragma once

#include <stdbool.h>

#include "userspace/net/http.h"

struct loop;

#define GZIP_BYTES_MIN (128 * 1024)
#define GZIP_LEVEL 1

/* Whether this request's Accept-Encoding names gzip. */
bool gzip_accepted(const struct http_request *http);
/* Ends the request with these pieces compressed; takes their references. What has no owner is copied. The
 * counts of owners must be atomic. */
void gzip_respond(struct loop *loop, struct http_request *http, int status, const char *content_type,
		  const struct http_header *headers, size_t n_headers, const struct http_piece *pieces,
		  size_t n_pieces);
