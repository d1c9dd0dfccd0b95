/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that make answers share: respond.c (objects, errors, encodings), respond_list.c (lists). */
#pragma once

#include "userspace/apiserver/call.h"

extern const char respond_json_type[]; /* compared by address */

/* A complete JSON or protobuf body in the encoding that was asked for (YAML, pretty, gzip). Takes the references. */
void respond_pieces(struct call *call, int status, const char *content_type, const struct http_header *headers,
		    size_t n_headers, const struct http_piece *pieces, size_t n_pieces);
void respond_list(struct call *call, const struct request_result *result, const struct http_header *headers,
		  size_t n_headers);
/* For people: ?pretty says so, else browsers and tools of the command line do. */
bool respond_is_pretty(const struct http_request *http, const struct query *query);
int respond_table_options(struct call *call, struct table_options *ret, struct err *err);
void respond_drop_chunk(void *chunk);
