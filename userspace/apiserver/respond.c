/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: Status objects, objects, lists, Tables, partial metadata. See call.h. */
#include <errno.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/gzip.h"
#include "userspace/apiserver/respond.h"
#include "userspace/base/yaml.h"

#define RESPOND_WARNINGS_MAX 64
#define RESPOND_HEADERS_MAX (RESPOND_WARNINGS_MAX + 1)
#define RESPOND_WARNING_BYTES_MAX 4096 /* all Warning headers of one answer */

const char respond_json_type[] = "application/json";

void respond_json(struct http_request *http, int status, struct str body)
{
	static const struct http_header headers[] = { { STR("cache-control"), STR("no-cache, private") } };

	http_respond(http, status, respond_json_type, headers, ARRAY_SIZE(headers), body);
}

bool respond_is_pretty(const struct http_request *http, const struct query *query)
{
	struct str agent;

	if (query->n && query_get(query, "pretty").n)
		return query_bool(query, "pretty");
	agent = http_request_header(http, "user-agent");
	return str_starts(agent, STR("curl")) || str_starts(agent, STR("Wget")) ||
	       str_starts(agent, STR("Mozilla/5.0"));
}

/* `headers` has room for one more. */
static void respond_status(struct http_request *http, const struct err *err, struct http_header *headers, size_t n)
{
	struct str body = api_status_json(http->arena, err);
	_cleanup_buf_ struct buf other = BUF_INIT;
	const char *type = respond_json_type;
	struct negotiated accept;
	struct json *v;

	audit_error(call_audit(http), err);
	if (negotiate_accept(http_request_header(http, "accept"), &accept, NULL) < 0)
		accept = (struct negotiated){ 0 };
	if (accept.protobuf && pb_encode_text(&other, body) == 0) {
		body = buf_str(&other);
		type = PB_MEDIA_TYPE;
	} else if (accept.yaml && json_parse(http->arena, body, 0, &v, NULL) == 0 && yaml_write(&other, v) == 0) {
		body = buf_str(&other);
		type = "application/yaml";
	} else if (!accept.protobuf && !accept.yaml && respond_is_pretty(http, &(struct query){ 0 }) &&
		   json_parse(http->arena, body, 0, &v, NULL) == 0) {
		json_write_pretty(&other, v);
		body = buf_str(&other);
	} else {
		buf_add_str(&other, body);
		buf_add_char(&other, '\n');
		body = buf_str(&other);
	}
	if (err->retry_after_s > 0)
		headers[n++] = (struct http_header){ STR("retry-after"),
						     str_of(arena_printf(http->arena, "%d", err->retry_after_s)) };
	http_respond(http, api_err_status(err), type, headers, n, body);
}

void respond_err(struct http_request *http, const struct err *err)
{
	struct http_header headers[2] = { { STR("cache-control"), STR("no-cache, private") } };

	respond_status(http, err, headers, 1);
}

void respond_protocol_status(struct err *err, int status, const char *message)
{
	const char *reason = status == 413 ? "RequestEntityTooLarge" : status == 408 ? "Timeout" : "BadRequest";

	if (status == 413)
		err_set_status(err, -EINVAL, status, reason, "Request entity too large: limit is %d",
			       HTTP_BODY_BYTES_DEFAULT);
	else
		err_set_status(err, -EINVAL, status, reason, "%s", message);
}

void respond_protocol_error(void *arg, struct arena *arena, int status, const char *message,
			    struct str *ret_content_type, struct str *ret_body)
{
	_cleanup_err_ struct err err = ERR_INIT;

	respond_protocol_status(&err, status, message);
	*ret_body = api_status_json(arena, &err);
	*ret_content_type = STR("application/json");
}

/* RFC 9110 quoted-string; control characters are dropped. */
static struct str respond_quote(struct arena *arena, struct str text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_add_cstr(&b, "299 - \"");
	for (size_t i = 0; i < text.n; i++) {
		if ((unsigned char)text.p[i] < 0x20)
			continue;
		if (text.p[i] == '"' || text.p[i] == '\\')
			buf_add_char(&b, '\\');
		buf_add_char(&b, text.p[i]);
	}
	buf_add_char(&b, '"');
	return arena_str(arena, buf_str(&b));
}

/* What upstream says with every answer about a kind that is on its way out. */
static struct str respond_deprecation(const struct api_kind *kind)
{
	if (kind == KIND_ENDPOINTS)
		return STR("299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"");
	if (kind == KIND_COMPONENTSTATUS)
		return STR("299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
	return STR_NULL;
}

static size_t respond_headers(struct call *call, const struct request_result *result,
			      struct http_header ret[static RESPOND_HEADERS_MAX])
{
	struct str deprecation = respond_deprecation(call->route.kind);
	size_t n = 0, bytes = 0;

	ret[n++] = (struct http_header){ STR("cache-control"), STR("no-cache, private") };
	if (deprecation.n)
		ret[n++] = (struct http_header){ STR("warning"), deprecation };
	for (size_t i = 0; i < result->n_warnings && n < RESPOND_HEADERS_MAX; i++) {
		struct str value = respond_quote(call->arena, result->warnings[i]);

		bytes += value.n;
		if (bytes > RESPOND_WARNING_BYTES_MAX)
			break;
		ret[n++] = (struct http_header){ STR("warning"), value };
	}
	return n;
}

void respond_refusal(struct call *call, const struct request_result *said, const struct err *err)
{
	static const struct request_result nothing;
	struct http_header headers[RESPOND_HEADERS_MAX + 1];

	if (said)
		audit_annotate_all(call->audit, said);
	respond_status(call->http, err, headers, respond_headers(call, said ? said : &nothing, headers));
}

int respond_table_options(struct call *call, struct table_options *ret, struct err *err)
{
	*ret = (struct table_options){ .v1beta1 = call->accept.v1beta1 };
	return table_parse_include(query_get(&call->query, "includeObject"), &ret->include, err);
}

static int respond_object(struct call *call, const struct object *o, struct buf *out, struct err *err)
{
	struct str text = registry_render(call->arena, call->route.kind, o);
	struct table_options options;
	struct json *v;
	int r;

	if (call->accept.form == NEGOTIATE_OBJECT) {
		buf_add_str(out, text);
		return 0;
	}
	r = json_parse(call->arena, text, 0, &v, err);
	if (r < 0)
		return r;
	if (call->accept.form != NEGOTIATE_TABLE) {
		meta_write_partial(out, call->accept.v1beta1, v);
		return 0;
	}
	r = respond_table_options(call, &options, err);
	if (r == 0)
		table_write_object(out, call->arena, call->route.kind, &options, v, text);
	return r;
}

/* ---- encodings ---- */

void respond_drop_chunk(void *chunk)
{
	chunk_unref(chunk);
}

/* As YAML, or JSON that people read (and that upstream ends without a newline). The text that is replaced is freed by
 * its owner. */
static struct http_piece respond_rewrite(struct call *call, struct http_piece *piece)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct chunk *chunk;
	struct json *v;

	if (json_parse(&arena, piece->bytes, 0, &v, NULL) < 0)
		return *piece;
	if (call->accept.yaml) {
		if (yaml_write(&b, v) < 0)
			return *piece;
	} else {
		json_write_pretty(&b, v);
	}
	chunk = chunk_create(buf_str(&b).p, buf_len(&b));
	if (piece->owner)
		piece->unref(piece->owner);
	return (struct http_piece){ chunk_str(chunk), chunk, respond_drop_chunk };
}

static struct http_piece respond_join(const struct http_piece *pieces, size_t n)
{
	size_t bytes = 0;
	struct chunk *chunk;
	char *at;

	if (n == 1)
		return pieces[0];
	for (size_t i = 0; i < n; i++)
		bytes += pieces[i].bytes.n;
	chunk = chunk_create(NULL, bytes);
	at = chunk->data;
	for (size_t i = 0; i < n; i++) {
		at = mempcpy(at, pieces[i].bytes.p, pieces[i].bytes.n);
		if (pieces[i].owner)
			pieces[i].unref(pieces[i].owner);
	}
	return (struct http_piece){ chunk_str(chunk), chunk, respond_drop_chunk };
}

static bool respond_long(const struct http_piece *pieces, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += pieces[i].bytes.n;
	return bytes >= GZIP_BYTES_MIN;
}

void respond_pieces(struct call *call, int status, const char *content_type, const struct http_header *headers,
		    size_t n_headers, const struct http_piece *pieces, size_t n_pieces)
{
	struct http_piece one;

	if (content_type == respond_json_type && (call->accept.yaml || respond_is_pretty(call->http, &call->query))) {
		one = respond_join(pieces, n_pieces);
		one = respond_rewrite(call, &one);
		pieces = &one;
		n_pieces = 1;
		if (call->accept.yaml)
			content_type = "application/yaml";
	}
	if (respond_long(pieces, n_pieces) && gzip_accepted(call->http))
		gzip_respond(call->as->loop, call->http, status, content_type, headers, n_headers, pieces, n_pieces);
	else
		http_respond_pieces(call->http, status, content_type, headers, n_headers, pieces, n_pieces);
}

static void respond_drop_object(void *o)
{
	object_unref(o);
}

void respond_result(struct call *call, const struct request_result *result)
{
	struct http_header headers[RESPOND_HEADERS_MAX];
	struct http_piece pieces[] = { { .bytes = result->body }, { .bytes = STR("\n") } }, piece = pieces[0];
	int status = result->http_status ? result->http_status : 200;
	_cleanup_buf_ struct buf out = BUF_INIT, protobuf = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	const char *type = respond_json_type;
	size_t n_headers;
	int r = 0;

	audit_result(call->audit, call, result);
	n_headers = respond_headers(call, result, headers);
	if (!result->object && !piece.bytes.n) {
		respond_list(call, result, headers, n_headers);
		return;
	}
	if (result->object && call->accept.form == NEGOTIATE_OBJECT) {
		piece.bytes = registry_render(call->arena, call->route.kind, result->object);
		/* The stored bytes as they are need no copy. */
		if (piece.bytes.p == result->object->json.p) {
			piece.owner = (void *)(uintptr_t)object_ref(result->object);
			piece.unref = respond_drop_object;
		}
	} else if (result->object) {
		r = respond_object(call, result->object, &out, &err);
		piece.bytes = buf_str(&out);
	}
	if (r < 0) {
		respond_err(call->http, &err);
		return;
	}
	/* What has no protobuf form stays JSON, which every client that asks for protobuf can read. */
	if (call->accept.protobuf && pb_encode_text(&protobuf, piece.bytes) == 0) {
		if (piece.owner)
			piece.unref(piece.owner);
		piece = (struct http_piece){ .bytes = buf_str(&protobuf) };
		type = PB_MEDIA_TYPE;
	}
	pieces[0] = piece;
	respond_pieces(call, status, type, headers, n_headers, pieces, type == respond_json_type ? 2 : 1);
}
