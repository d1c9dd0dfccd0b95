/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery and OpenAPI: documents about the API, which clients cache by their ETag or for ever by a hash in the URL.
 * See api/discovery.h, api/openapi.h. Loop thread. */
#include <errno.h>
#include <time.h>

#include "userspace/api/discovery.h"
#include "userspace/api/meta.h"
#include "userspace/api/openapi.h"
#include "userspace/api/pb.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/gzip.h"
#include "userspace/apiserver/respond.h"
#include "userspace/base/clock.h"
#include "userspace/base/yaml.h"

#define OPENAPI_V3_PREFIX STR("/openapi/v3/")
#define HASH_PARAMETER "hash"
#define DATE_BYTES_MAX 40
#define HEADERS_MAX 4

static void not_found(struct call *call)
{
	_cleanup_err_ struct err err = ERR_INIT;

	api_err_no_resource(&err);
	respond_err(call->http, &err);
}

static bool is_known(struct call *call, struct str etag)
{
	struct str known = http_request_header(call->http, "if-none-match"), one;

	while (str_split(&known, ',', &one)) {
		one = str_trim(one);
		if (str_starts(one, STR("W/")))
			one = str_make(one.p + 2, one.n - 2);
		if (str_eq(one, etag) || str_is(one, "*"))
			return true;
	}
	return false;
}

/* Takes the chunk; NULL: 404. `hash`: what is in the ETag, NULL: none; `headers` say for how long it is good,
 * and have room for two more. */
static void answer(struct call *call, struct chunk *body, const char *type, const char *hash,
		   struct http_header headers[static HEADERS_MAX], size_t n)
{
	struct http_piece piece;
	struct str etag;

	if (!body) {
		not_found(call);
		return;
	}
	if (!n)
		headers[n++] = (struct http_header){ STR("cache-control"), STR("no-cache, private") };
	headers[n++] = (struct http_header){ STR("vary"), STR("Accept") };
	if (hash) {
		etag = str_of(arena_printf(call->arena, "\"%s\"", hash));
		headers[n++] = (struct http_header){ STR("etag"), etag };
	}
	piece = (struct http_piece){ chunk_str(body), body, respond_drop_chunk };
	if (hash && is_known(call, etag)) {
		http_respond(call->http, 304, NULL, headers, n, STR_NULL);
		chunk_unref(body);
	} else if (piece.bytes.n >= GZIP_BYTES_MIN && gzip_accepted(call->http)) {
		gzip_respond(call->as->loop, call->http, 200, type, headers, n, &piece, 1);
	} else {
		http_respond_pieces(call->http, 200, type, headers, n, &piece, 1);
	}
}

/* ---- discovery ---- */

/* Takes the chunk, a JSON text; NULL: 404. */
static void answer_negotiated(struct call *call, struct chunk *body)
{
	struct http_header headers[HEADERS_MAX];
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_(buf_finish) struct buf other = BUF_INIT;
	const char *type = "application/json";
	struct negotiated accept;
	struct json *v;

	if (body && negotiate_accept(http_request_header(call->http, "accept"), &accept, &err) < 0) {
		chunk_unref(body);
		respond_err(call->http, &err);
		return;
	}
	if (body && accept.protobuf && pb_encode_text(&other, chunk_str(body)) >= 0)
		type = PB_MEDIA_TYPE;
	else if (body && accept.yaml && json_parse(call->arena, chunk_str(body), 0, &v, NULL) >= 0 &&
		 yaml_write(&other, v) >= 0)
		type = "application/yaml";
	else if (body && !accept.protobuf && !accept.yaml && respond_is_pretty(call->http, &call->query) &&
		 json_parse(call->arena, chunk_str(body), 0, &v, NULL) >= 0)
		json_write_pretty(&other, v);
	if (buf_len(&other)) {
		chunk_unref(body);
		body = chunk_create(buf_str(&other).p, buf_len(&other));
	}
	answer(call, body, type, NULL, headers, 0);
}

void documents_discovery(struct call *call, bool legacy)
{
	const struct route *r = &call->route;
	struct http_header headers[HEADERS_MAX];
	char etag[DISCOVERY_ETAG_MAX];
	enum discovery_aggregated form;

	if (r->n_segments == 1 && discovery_wants_aggregated(http_request_header(call->http, "accept"), &form)) {
		struct chunk *body = discovery_aggregated(form, legacy, etag);

		answer(call, body, discovery_aggregated_type(form), etag, headers, 0);
	} else if (legacy) {
		answer_negotiated(call, r->n_segments == 1 ? discovery_api_versions(str_of(call->as->advertise_address))
							   : discovery_resources(STR(""), r->segments[1]));
	} else if (r->n_segments == 1) {
		answer_negotiated(call, discovery_groups());
	} else if (r->n_segments == 2) {
		answer_negotiated(call, discovery_group(r->segments[1]));
	} else {
		answer_negotiated(call, discovery_resources(r->segments[1], r->segments[2]));
	}
}

/* ---- OpenAPI ---- */

/* Which of the forms the client wants first: 0 JSON, 1 protobuf, -ENOENT none. */
static int wanted_form(struct call *call, const char *protobuf, const char *deprecated)
{
	struct str accept = http_request_header(call->http, "accept"), part, name;

	if (!accept.n)
		return 0;
	while (str_split(&accept, ',', &part)) {
		if (!str_split(&part, ';', &name))
			continue;
		name = str_trim(name);
		if (str_is(name, "application/json") || str_is(name, "*/*") || str_is(name, "application/*"))
			return 0;
		if (str_is(name, protobuf) || str_is(name, deprecated))
			return 1;
	}
	return -ENOENT;
}

static void not_acceptable(struct call *call)
{
	static const struct http_header vary = { STR("vary"), STR("Accept") };

	http_respond(call->http, 406, NULL, &vary, 1, STR_NULL);
}

static void openapi_swagger(struct call *call)
{
	int form = wanted_form(call, OPENAPI_V2_PROTOBUF_TYPE, OPENAPI_V2_PROTOBUF_ACCEPT);
	struct http_header headers[HEADERS_MAX];
	char hash[OPENAPI_HASH_MAX];
	struct chunk *body;

	if (form < 0) {
		not_acceptable(call);
		return;
	}
	body = form ? openapi_v2_protobuf(hash) : openapi_v2(hash);
	answer(call, body, form ? OPENAPI_V2_PROTOBUF_TYPE : "application/json", hash, headers, 0);
}

/* A URL with a hash names one content for ever; one with another hash leads to that. True: answered. */
static bool by_hash(struct call *call, struct str path, const char *hash,
		    struct http_header headers[static HEADERS_MAX], size_t *ret_n)
{
	struct str asked = query_get(&call->query, HASH_PARAMETER);
	struct tm tm;
	time_t expires;
	char *date;

	if (!asked.n)
		return false;
	if (!str_is(asked, hash)) {
		headers[0] = (struct http_header){
			STR("location"),
			str_of(arena_printf(call->arena, "/openapi/v3/%.*s?" HASH_PARAMETER "=%s", STR_ARG(path), hash))
		};
		headers[1] = (struct http_header){ STR("vary"), STR("Accept") };
		headers[2] = (struct http_header){ STR("etag"), str_of(arena_printf(call->arena, "\"%s\"", hash)) };
		http_respond(call->http, 301, NULL, headers, 3, STR_NULL);
		return true;
	}
	expires = (time_t)(clock_real_ns() / NS_PER_S);
	gmtime_r(&expires, &tm);
	tm.tm_year++;
	date = arena_alloc(call->arena, DATE_BYTES_MAX);
	strftime(date, DATE_BYTES_MAX, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	headers[0] = (struct http_header){ STR("cache-control"), STR("public, immutable") };
	headers[1] = (struct http_header){ STR("expires"), str_of(date) };
	*ret_n = 2;
	return false;
}

static void openapi_versioned(struct call *call, struct str path)
{
	int form = wanted_form(call, OPENAPI_V3_PROTOBUF_TYPE, OPENAPI_V3_PROTOBUF_ACCEPT);
	struct http_header headers[HEADERS_MAX];
	char hash[OPENAPI_HASH_MAX];
	size_t n = 0;

	if (openapi_v3_hash(path, hash) < 0)
		not_found(call);
	else if (form < 0)
		not_acceptable(call);
	else if (!by_hash(call, path, hash, headers, &n))
		answer(call, form ? openapi_v3_protobuf(path, hash) : openapi_v3(path, hash),
		       form ? OPENAPI_V3_PROTOBUF_TYPE : "application/json", hash, headers, n);
}

void documents_openapi(struct call *call)
{
	const struct route *r = &call->route;
	struct http_header headers[HEADERS_MAX];
	struct str prefix = OPENAPI_V3_PREFIX;
	char hash[OPENAPI_HASH_MAX];
	struct chunk *index;

	if (r->n_segments == 2 && str_is(r->segments[1], "v2")) {
		openapi_swagger(call);
	} else if (r->n_segments == 2 && str_is(r->segments[1], "v3")) {
		index = openapi_v3_index(hash);
		answer(call, index, "application/json", hash, headers, 0);
	} else if (str_starts(r->path, prefix)) {
		openapi_versioned(call, str_make(r->path.p + prefix.n, r->path.n - prefix.n));
	} else {
		not_found(call);
	}
}
