/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: Status objects, objects, lists, Tables, partial metadata. See call.h. */
#include <errno.h>
#include <inttypes.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/apiserver/call.h"

#define RESPOND_WARNINGS_MAX 64
#define RESPOND_WARNING_BYTES_MAX 4096 /* all Warning headers of one answer */

static const char json_type[] = "application/json";

void respond_json(struct http_request *http, int status, struct str body)
{
	static const struct http_header headers[] = { { STR("cache-control"), STR("no-cache, private") } };

	http_respond(http, status, json_type, headers, ARRAY_SIZE(headers), body);
}

void respond_err(struct http_request *http, const struct err *err)
{
	struct http_header headers[2] = { { STR("cache-control"), STR("no-cache, private") } };
	struct str body = api_status_json(http->arena, err);
	_cleanup_buf_ struct buf protobuf = BUF_INIT;
	const char *type = json_type;
	struct negotiated accept;
	size_t n = 1;

	if (negotiate_accept(http_request_header(http, "accept"), &accept, NULL) == 0 && accept.protobuf &&
	    pb_encode_text(&protobuf, body) == 0) {
		body = buf_str(&protobuf);
		type = PB_MEDIA_TYPE;
	}

	if (err->retry_after_s > 0)
		headers[n++] = (struct http_header){ STR("retry-after"),
						     str_of(arena_printf(http->arena, "%d", err->retry_after_s)) };
	http_respond(http, api_err_status(err), type, headers, n, body);
}

void respond_protocol_error(void *arg, struct arena *arena, int status, const char *message,
			    struct str *ret_content_type, struct str *ret_body)
{
	const char *reason = status == 413 ? "RequestEntityTooLarge" : status == 408 ? "Timeout" : "BadRequest";
	_cleanup_err_ struct err err = ERR_INIT;

	err_set_status(&err, -EINVAL, status, reason, "%s", message);
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

static size_t respond_headers(struct call *call, const struct request_result *result,
			      struct http_header ret[static RESPOND_WARNINGS_MAX + 1])
{
	size_t n = 0, bytes = 0;

	ret[n++] = (struct http_header){ STR("cache-control"), STR("no-cache, private") };
	for (size_t i = 0; i < result->n_warnings && n <= RESPOND_WARNINGS_MAX; i++) {
		struct str value = respond_quote(call->arena, result->warnings[i]);

		bytes += value.n;
		if (bytes > RESPOND_WARNING_BYTES_MAX)
			break;
		ret[n++] = (struct http_header){ STR("warning"), value };
	}
	return n;
}

static struct meta_list respond_list_meta(struct call *call, const struct request_result *result)
{
	return (struct meta_list){
		.resource_version = str_of(arena_printf(call->arena, "%" PRId64, result->list_revision)),
		.continue_token = result->list_continue,
		.remaining = result->list_remaining,
	};
}

static int respond_table_options(struct call *call, struct table_options *ret, struct err *err)
{
	*ret = (struct table_options){ .v1beta1 = call->accept.v1beta1 };
	return table_parse_include(query_get(&call->query, "includeObject"), &ret->include, err);
}

static void respond_list_table(struct call *call, const struct request_result *result, struct buf *out,
			       const struct table_options *options)
{
	struct meta_list meta = respond_list_meta(call, result);
	_cleanup_arena_ struct arena scratch = ARENA_INIT;
	struct table_writer w;

	table_begin(&w, out, call->route.kind, options, &meta);
	for (size_t i = 0; i < result->n_items; i++) {
		struct str text = registry_render(&scratch, call->route.kind, result->items[i]);
		struct json *v;

		if (json_parse(&scratch, text, 0, &v, NULL) == 0)
			table_row(&w, &scratch, v, text);
		arena_reset(&scratch);
	}
	table_end(&w);
}

static void respond_list_partial(struct call *call, const struct request_result *result, struct buf *out)
{
	struct meta_list meta = respond_list_meta(call, result);
	_cleanup_arena_ struct arena scratch = ARENA_INIT;

	meta_write_partial_list_begin(out, &meta);
	for (size_t i = 0; i < result->n_items; i++) {
		if (i)
			buf_add_char(out, ',');
		meta_write_partial(out, registry_parse(&scratch, result->items[i]));
		arena_reset(&scratch);
	}
	buf_add_cstr(out, "]}");
}

static void respond_list_objects(struct call *call, const struct request_result *result, struct buf *out)
{
	const struct api_kind *kind = call->route.kind;
	struct meta_list meta = respond_list_meta(call, result);
	size_t bytes = 256;

	for (size_t i = 0; i < result->n_items; i++)
		bytes += result->items[i]->json.n + 1;
	buf_reserve(out, bytes);
	buf_printf(out, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":", kind->list_kind,
		   api_kind_api_version(kind));
	meta_write_list_meta(out, &meta);
	buf_add_cstr(out, ",\"items\":[");
	for (size_t i = 0; i < result->n_items; i++) {
		if (i)
			buf_add_char(out, ',');
		buf_add_str(out, registry_render(call->arena, kind, result->items[i]));
	}
	buf_add_cstr(out, "]}");
}

static void respond_list_protobuf(struct call *call, const struct request_result *result, struct buf *out)
{
	struct meta_list meta = respond_list_meta(call, result);
	_cleanup_arena_ struct arena scratch = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *v = NULL;
	struct pb_list list;

	meta_write_list_meta(&text, &meta);
	json_parse(call->arena, buf_str(&text), 0, &v, NULL);
	pb_list_begin(&list, out, call->route.kind, v);
	for (size_t i = 0; i < result->n_items; i++) {
		if (json_parse(&scratch, registry_render(&scratch, call->route.kind, result->items[i]), 0, &v, NULL) ==
		    0)
			pb_list_item(&list, v);
		arena_reset(&scratch);
	}
	pb_list_end(&list);
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
		meta_write_partial(out, v);
		return 0;
	}
	r = respond_table_options(call, &options, err);
	if (r == 0)
		table_write_object(out, call->arena, call->route.kind, &options, v, text);
	return r;
}

static int respond_list(struct call *call, const struct request_result *result, struct buf *out, struct err *err)
{
	struct table_options options;
	int r = 0;

	switch (call->accept.form) {
	case NEGOTIATE_OBJECT:
		if (call->accept.protobuf)
			respond_list_protobuf(call, result, out);
		else
			respond_list_objects(call, result, out);
		break;
	case NEGOTIATE_TABLE:
		r = respond_table_options(call, &options, err);
		if (r == 0)
			respond_list_table(call, result, out, &options);
		break;
	case NEGOTIATE_PARTIAL:
	case NEGOTIATE_PARTIAL_LIST:
		respond_list_partial(call, result, out);
	}
	return r;
}

static struct str respond_pretty(struct arena *arena, struct str body)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct json *v;

	if (json_parse(arena, body, 0, &v, NULL) < 0)
		return body;
	json_write_pretty(&b, v);
	buf_add_char(&b, '\n');
	return arena_str(arena, buf_str(&b));
}

/* The complete JSON body as the protobuf that was asked for; what has no such form stays JSON, which every client
 * that asks for protobuf can read. */
static bool respond_protobuf(struct str *body, struct buf *out)
{
	if (pb_encode_text(out, *body) < 0)
		return false;
	*body = buf_str(out);
	return true;
}

void respond_result(struct call *call, const struct request_result *result)
{
	struct http_header headers[RESPOND_WARNINGS_MAX + 1];
	bool protobuf = call->accept.protobuf, done = false;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct str body = result->body;
	size_t n_headers;
	int r = 0;

	n_headers = respond_headers(call, result, headers);
	if (result->object && call->accept.form == NEGOTIATE_OBJECT) {
		body = registry_render(call->arena, call->route.kind, result->object);
	} else if (result->object) {
		r = respond_object(call, result->object, &out, &err);
		body = buf_str(&out);
	} else if (!body.n) {
		r = respond_list(call, result, &out, &err);
		body = buf_str(&out);
		done = true;
	}
	if (r < 0) {
		respond_err(call->http, &err);
		return;
	}
	if (protobuf && !done)
		protobuf = respond_protobuf(&body, &out);
	if (!protobuf && query_bool(&call->query, "pretty"))
		body = respond_pretty(call->arena, body);
	http_respond(call->http, result->http_status ? result->http_status : 200, protobuf ? PB_MEDIA_TYPE : json_type,
		     headers, n_headers, body);
}
