/* SPDX-License-Identifier: Apache-2.0 */
/* Lists as answers. A short one is made and sent at once. A long one is made slice by slice, one slice in a turn of the
 * loop, and sent as it is made, with no more queued than the client has room for: whoever lists everything holds the
 * loop for a millisecond at a time, and its answer is never in memory as a whole. Stored bytes go out from where they
 * lie, without a copy. What can only be sent whole (protobuf and YAML with their lengths and orders, gzip) is gathered
 * the same way first.
 *
 * The request keeps its seats until the last slice. Loop thread. */
#include <inttypes.h>
#include <stdlib.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/gzip.h"
#include "userspace/apiserver/respond.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define LIST_SHORT_ITEMS 64                  /* rendered at once */
#define LIST_SHORT_BYTES (256 * 1024)        /* stored bytes sent at once */
#define LIST_SLICE_BYTES (512 * 1024)        /* of stored bytes, as it is */
#define LIST_DRAIN_BYTES (256 * 1024)        /* the next slice is made when no more than this is queued */
#define LIST_SLICE_NS (1 * INT64_C(1000000)) /* of rendering */

struct list_body {
	struct call call; /* call.http NULL: the client has gone */
	struct loop_defer defer;
	struct arena arena; /* what the call's own may be too young for: it dies with the request */
	struct http_header *headers;
	size_t n_headers;
	const struct object **items; /* from `at` on: references */
	size_t n, at;
	struct meta_list meta;
	struct table_options table_options;
	struct table_writer table;
	struct pb_list pb;
	struct buf out;
	struct http_piece *pieces; /* gathered */
	size_t n_pieces, pieces_cap;
	bool stored; /* the stored bytes are what is asked for */
	bool gather; /* sent whole */
	bool begun;
};

static void drop_object(void *o)
{
	object_unref(o);
}

static struct meta_list list_meta(struct arena *arena, const struct request_result *result)
{
	return (struct meta_list){
		.resource_version = str_of(arena_printf(arena, "%" PRId64, result->list_revision)),
		.continue_token = arena_str(arena, result->list_continue),
		.remaining = result->list_remaining,
	};
}

/* ---- the parts of a list, in each form ---- */

static void list_begin_protobuf(struct list_body *l)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *v = NULL;

	meta_write_list_meta(&text, &l->meta);
	json_parse(&l->arena, arena_str(&l->arena, buf_str(&text)), 0, &v, NULL);
	if (l->call.accept.form == NEGOTIATE_OBJECT)
		pb_list_begin(&l->pb, &l->out, l->call.route.kind, v);
	else
		pb_list_begin_partial(&l->pb, &l->out, meta_partial_api_version(l->call.accept.v1beta1), v);
}

static void list_begin(struct list_body *l)
{
	const struct api_kind *kind = l->call.route.kind;

	if (l->call.accept.protobuf) {
		list_begin_protobuf(l);
		return;
	}
	switch (l->call.accept.form) {
	case NEGOTIATE_TABLE:
		table_begin(&l->table, &l->out, kind, &l->table_options, &l->meta);
		break;
	case NEGOTIATE_PARTIAL:
	case NEGOTIATE_PARTIAL_LIST:
		meta_write_partial_list_begin(&l->out, l->call.accept.v1beta1, &l->meta);
		break;
	case NEGOTIATE_OBJECT:
		buf_printf(&l->out, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":", kind->list_kind,
			   api_kind_api_version(kind));
		meta_write_list_meta(&l->out, &l->meta);
		buf_add_cstr(&l->out, ",\"items\":[");
		break;
	}
}

static void list_item(struct list_body *l, struct arena *scratch, const struct object *o)
{
	const struct api_kind *kind = l->call.route.kind;
	struct str text;
	struct json *v;

	if (!l->call.accept.protobuf &&
	    (l->call.accept.form == NEGOTIATE_PARTIAL || l->call.accept.form == NEGOTIATE_PARTIAL_LIST)) {
		if (l->at)
			buf_add_char(&l->out, ',');
		meta_write_partial(&l->out, l->call.accept.v1beta1, registry_parse(scratch, o));
		return;
	}
	text = registry_render(scratch, kind, o);
	if (l->call.accept.form == NEGOTIATE_OBJECT && !l->call.accept.protobuf) {
		if (l->at)
			buf_add_char(&l->out, ',');
		buf_add_str(&l->out, text);
		return;
	}
	if (json_parse(scratch, text, 0, &v, NULL) < 0)
		return;
	if (l->call.accept.protobuf)
		pb_list_item(&l->pb, v);
	else
		table_row(&l->table, scratch, v, text);
}

static void list_end(struct list_body *l)
{
	if (l->call.accept.protobuf) {
		pb_list_end(&l->pb);
		return;
	}
	if (l->call.accept.form == NEGOTIATE_TABLE)
		table_end(&l->table);
	else
		buf_add_cstr(&l->out, "]}");
	buf_add_char(&l->out, '\n');
}

static void add_piece(struct list_body *l, struct str bytes, void *owner, void (*unref)(void *owner))
{
	mem_grow(l->pieces, l->pieces_cap, l->n_pieces + 1);
	l->pieces[l->n_pieces++] = (struct http_piece){ bytes, owner, unref };
}

/* What is in `out` becomes a piece. */
static void flush_out(struct list_body *l)
{
	struct chunk *chunk;

	if (!buf_len(&l->out))
		return;
	chunk = chunk_create(buf_str(&l->out).p, buf_len(&l->out));
	add_piece(l, chunk_str(chunk), chunk, respond_drop_chunk);
	buf_reset(&l->out);
}

/* The next stored bytes, by reference. True when all are taken. */
static bool slice_stored(struct list_body *l, size_t max)
{
	size_t bytes = 0;

	flush_out(l);
	for (; l->at < l->n && bytes < max; l->at++) {
		const struct object *o = l->items[l->at];

		if (l->at)
			add_piece(l, STR(","), NULL, NULL);
		add_piece(l, o->json, (void *)(uintptr_t)o, drop_object);
		bytes += o->json.n;
	}
	return l->at == l->n;
}

/* The next ones that must be made, while time is left. */
static bool slice_rendered(struct list_body *l, int64_t until_ns)
{
	_cleanup_arena_ struct arena scratch = ARENA_INIT;

	while (l->at < l->n) {
		list_item(l, &scratch, l->items[l->at]);
		object_unref(l->items[l->at++]);
		arena_reset(&scratch);
		if (l->at % 8 == 0 && clock_monotonic_ns() >= until_ns)
			break;
	}
	return l->at == l->n;
}

/* ---- long ones ---- */

static void list_free(struct list_body *l)
{
	loop_defer_cancel(l->call.as->loop, &l->defer);
	while (l->at < l->n)
		object_unref(l->items[l->at++]);
	for (size_t i = 0; i < l->n_pieces; i++)
		if (l->pieces[i].owner)
			l->pieces[i].unref(l->pieces[i].owner);
	buf_finish(&l->out);
	free(l->pieces);
	free(l->items);
	arena_finish(&l->arena);
	free(l);
}

static void list_client_gone(struct http_request *http)
{
	list_free(http->user);
}

static const char *list_type(const struct list_body *l)
{
	return l->call.accept.protobuf ? PB_MEDIA_TYPE : respond_json_type;
}

/* Everything is there. */
static void list_send_whole(struct list_body *l)
{
	struct http_request *http = l->call.http;

	flush_out(l);
	http->on_close = NULL;
	respond_pieces(&l->call, 200, list_type(l), l->headers, l->n_headers, l->pieces, l->n_pieces);
	l->n_pieces = 0;
	list_free(l);
}

static void list_send_slice(struct list_body *l, bool last)
{
	struct http_request *http = l->call.http;

	flush_out(l);
	if (!l->begun)
		http_stream_begin(http, 200, list_type(l), l->headers, l->n_headers);
	l->begun = true;
	http_stream_write_pieces(http, l->pieces, l->n_pieces);
	l->n_pieces = 0;
	if (last) {
		http->on_close = NULL;
		http->on_drain = NULL;
		http_stream_end(http);
		list_free(l);
	} else if (http_stream_pending(http) <= http->drain_below) {
		loop_defer(l->call.as->loop, &l->defer);
	}
}

/* One list a turn goes on in any case, others as long as the turn is young. */
static bool list_may_go_on(struct list_body *l)
{
	struct apiserver *as = l->call.as;
	int64_t turn_ns = loop_now_ns(as->loop);

	if (as->list_turn_ns == turn_ns && clock_monotonic_ns() - turn_ns >= LIST_SLICE_NS)
		return false;
	as->list_turn_ns = turn_ns;
	return true;
}

static void list_go_on(struct list_body *l)
{
	bool last;

	if (!list_may_go_on(l)) {
		loop_defer(l->call.as->loop, &l->defer);
		return;
	}
	last = l->stored ? slice_stored(l, l->gather ? SIZE_MAX : LIST_SLICE_BYTES)
			 : slice_rendered(l, clock_monotonic_ns() + LIST_SLICE_NS);
	if (last)
		list_end(l);
	if (!l->gather)
		list_send_slice(l, last);
	else if (last)
		list_send_whole(l);
	else
		loop_defer(l->call.as->loop, &l->defer);
}

static void list_deferred(struct loop_defer *defer)
{
	list_go_on(container_of(defer, struct list_body, defer));
}

static void list_drained(struct http_request *http)
{
	struct list_body *l = http->user;

	loop_defer(l->call.as->loop, &l->defer);
}

static void list_start_long(struct list_body *l)
{
	struct http_request *http = l->call.http;

	l->defer.fn = list_deferred;
	http->user = l;
	http->on_close = list_client_gone;
	http->on_drain = list_drained;
	http->drain_below = LIST_DRAIN_BYTES;
	list_go_on(l);
}

/* ---- */

static bool list_is_long(const struct list_body *l)
{
	size_t bytes = 0;

	if (!l->stored)
		return l->n > LIST_SHORT_ITEMS;
	for (size_t i = 0; i < l->n && bytes <= LIST_SHORT_BYTES; i++)
		bytes += l->items[i]->json.n;
	return bytes > LIST_SHORT_BYTES;
}

static bool list_pretty(const struct call *call)
{
	return call->accept.yaml || respond_is_pretty(call->http, &call->query);
}

void respond_list(struct call *call, const struct request_result *result, const struct http_header *headers,
		  size_t n_headers)
{
	struct list_body *l = mem_new(struct list_body);
	_cleanup_err_ struct err err = ERR_INIT;

	l->call = *call;
	l->meta = list_meta(&l->arena, result);
	l->stored = call->accept.form == NEGOTIATE_OBJECT && !call->accept.protobuf &&
		    call->route.kind->storage == call->route.kind;
	l->gather = call->accept.protobuf || list_pretty(call) || gzip_accepted(call->http);
	if (call->accept.form == NEGOTIATE_TABLE && respond_table_options(call, &l->table_options, &err) < 0) {
		list_free(l);
		respond_err(call->http, &err);
		return;
	}
	l->headers = arena_new_array(&l->arena, struct http_header, n_headers);
	for (l->n_headers = 0; l->n_headers < n_headers; l->n_headers++)
		l->headers[l->n_headers] = (struct http_header){ arena_str(&l->arena, headers[l->n_headers].name),
								 arena_str(&l->arena, headers[l->n_headers].value) };
	l->items = mem_new_array(const struct object *, result->n_items + 1);
	for (; l->n < result->n_items; l->n++)
		l->items[l->n] = object_ref(result->items[l->n]);
	list_begin(l);
	if (list_is_long(l)) {
		list_start_long(l);
		return;
	}
	if (l->stored)
		slice_stored(l, SIZE_MAX);
	else
		slice_rendered(l, INT64_MAX);
	list_end(l);
	list_send_whole(l);
}
