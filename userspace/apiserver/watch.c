/* SPDX-License-Identifier: Apache-2.0 */
/* Watch streams: JSON events, one a line, in the stored form shared by all watchers or made for one (Tables, partial
 * metadata, other versions), or protobuf frames, each made for one. A watcher whose backlog overflows is ended; it
 * lists again. Bookmarks go out once a minute to those who asked and have something new to learn: an idle server stays
 * silent. */
#include <errno.h>
#include <inttypes.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/api/selector.h"
#include "userspace/apiserver/call.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define WATCH_BOOKMARK_NS (60 * INT64_C(1000000000))
#define WATCH_TIMEOUT_MIN_S 1800 /* without timeoutSeconds: between this and twice this, so that clients spread */

struct watch {
	struct apiserver *as;
	struct http_request *http;
	struct list link;
	struct registry_stream *stream;
	const struct api_kind *kind;
	struct negotiated accept;
	struct table_options table;
	struct loop_timer timeout;
	bool bookmarks;
	bool started;         /* what was there at the start is queued */
	bool ended;           /* inside a callback: finish after it */
	bool sharing;         /* the stored form, as it is */
	int64_t told;         /* revision the client knows of */
	size_t initial_bytes; /* of the backlog: what start queued and the client has yet to read */
};

static const char *const watch_type_names[] = { "ADDED", "MODIFIED", "DELETED" };

static void watch_destroy(struct watch *w)
{
	registry_stream_stop(w->stream);
	loop_timer_cancel(w->as->loop, &w->timeout);
	list_del(&w->link);
	w->as->n_watches--;
	if (!w->as->n_watches)
		loop_timer_cancel(w->as->loop, &w->as->bookmark_timer);
	free(w);
}

static void watch_client_gone(struct http_request *http)
{
	watch_destroy(http->user);
}

/* Ends the answer cleanly. */
static void watch_end(struct watch *w)
{
	http_stream_end(w->http);
	watch_destroy(w);
}

static void watch_timed_out(struct loop_timer *timer)
{
	watch_end(container_of(timer, struct watch, timeout));
}

static struct chunk *watch_frame(const char *type, struct str object)
{
	size_t type_len = strlen(type);
	struct chunk *c = chunk_create(NULL, 9 + type_len + 11 + object.n + 2);
	char *at = c->data;

	at = mempcpy(at, "{\"type\":\"", 9);
	at = mempcpy(at, type, type_len);
	at = mempcpy(at, "\",\"object\":", 11);
	at = mempcpy(at, object.p, object.n);
	memcpy(at, "}\n", 2);
	return c;
}

/* The same in the form that was negotiated. */
static struct chunk *watch_own_frame(struct watch *w, const char *type, struct str object)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *v;

	if (!w->accept.protobuf)
		return watch_frame(type, object);
	/* Of what we wrote ourselves both succeed. */
	if (json_parse(&arena, object, 0, &v, NULL) == 0)
		pb_encode_event(&out, type, v);
	return chunk_create(buf_str(&out).p, buf_len(&out));
}

/* Made for this watcher alone. */
static struct chunk *watch_private_frame(struct watch *w, const char *type, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct str text = registry_render(&arena, w->kind, o);
	struct json *v;

	if (w->accept.form == NEGOTIATE_OBJECT)
		return watch_own_frame(w, type, text);
	if (json_parse(&arena, text, 0, &v, NULL) < 0)
		return watch_frame(type, text);
	if (w->accept.form == NEGOTIATE_TABLE) {
		table_write_object(&out, &arena, w->kind, &w->table, v, text);
		w->table.no_headers = true;
	} else {
		meta_write_partial(&out, v);
	}
	return watch_frame(type, buf_str(&out));
}

static void watch_send_bookmark(struct watch *w, int64_t revision, bool initial_end)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct chunk *c;
	const char *body;

	body = arena_printf(
		&arena, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%" PRId64 "\"%s}}",
		w->kind->kind, api_kind_api_version(w->kind), revision,
		initial_end ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
	c = watch_own_frame(w, "BOOKMARK", str_of(body));
	http_stream_write(w->http, c);
	chunk_unref(c);
	w->told = revision;
}

/* What start queues (the stored state, or the events since a revision) is bounded by what the store holds and says
 * nothing of the client's pace: only what comes on top of it counts. */
static bool watch_overflows(struct watch *w)
{
	size_t pending = http_stream_pending(w->http);

	if (!w->started)
		return false;
	if (pending < w->initial_bytes)
		w->initial_bytes = pending;
	return pending - w->initial_bytes > w->as->watch_backlog_bytes;
}

static void watch_event(void *arg, enum registry_stream_event type, const struct object *o, struct store_event *e)
{
	struct watch *w = arg;
	struct chunk *c;

	if (w->ended)
		return;
	if (type == REGISTRY_STREAM_INITIAL_END) {
		watch_send_bookmark(w, registry_stream_revision(w->stream), true);
		return;
	}
	if (e && w->sharing) {
		if (!e->wire[type])
			e->wire[type] = watch_frame(watch_type_names[type], o->json);
		c = chunk_ref(e->wire[type]);
	} else {
		c = watch_private_frame(w, watch_type_names[type], o);
	}
	http_stream_write(w->http, c);
	chunk_unref(c);
	w->told = o->revision;
	if (watch_overflows(w)) {
		w->ended = true;
		w->as->watches_ended_slow++;
		loop_timer_arm(w->as->loop, &w->timeout, 1);
	}
}

static void watch_bookmarks_due(struct loop_timer *timer)
{
	struct apiserver *as = container_of(timer, struct apiserver, bookmark_timer);

	list_foreach(w, &as->watches, struct watch, link) {
		int64_t revision = registry_stream_revision(w->stream);

		if (w->bookmarks && !w->ended && revision > w->told)
			watch_send_bookmark(w, revision, false);
	}
	if (as->n_watches)
		loop_timer_arm(as->loop, timer, WATCH_BOOKMARK_NS);
}

void watch_init(struct apiserver *as)
{
	list_init(&as->watches);
	loop_timer_init(&as->bookmark_timer, watch_bookmarks_due);
}

void watch_finish(struct apiserver *as)
{
	loop_timer_cancel(as->loop, &as->bookmark_timer);
}

static int watch_timeout_ns(struct call *call, int64_t *ret, struct err *err)
{
	int64_t s;
	uint32_t spread;
	int r = query_int(&call->query, "timeoutSeconds", 0, &s, err);

	if (r < 0)
		return r;
	if (s <= 0) {
		random_bytes(&spread, sizeof(spread));
		s = WATCH_TIMEOUT_MIN_S + spread % WATCH_TIMEOUT_MIN_S;
	}
	*ret = s * NS_PER_S;
	return 0;
}

static struct watch *watch_create(struct call *call, const struct api_kind *kind)
{
	struct watch *w = mem_new(struct watch);

	w->as = call->as;
	w->http = call->http;
	w->kind = kind;
	w->accept = call->accept;
	w->table.v1beta1 = call->accept.v1beta1;
	w->bookmarks = query_bool(&call->query, "allowWatchBookmarks");
	w->sharing = call->accept.form == NEGOTIATE_OBJECT && !call->accept.protobuf && kind->storage == kind;
	loop_timer_init(&w->timeout, watch_timed_out);
	list_add_tail(&call->as->watches, &w->link);
	call->as->n_watches++;
	return w;
}

static void watch_start(struct call *call, struct watch *w, const struct registry_stream_options *options,
			int64_t timeout_ns)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct http_request *http = call->http;

	/* The headers go first: initial events are delivered inside the start. A refusal comes as an ERROR event, as
	 * upstream sends it to a watch that has begun; those known before (bad selectors) come as a Status. */
	http->user = w;
	http->on_close = watch_client_gone;
	http_stream_begin(http, 200, w->accept.protobuf ? PB_WATCH_MEDIA_TYPE : "application/json", NULL, 0);
	if (registry_stream_start(call->as->reg, options, watch_event, w, &w->stream, &err) < 0) {
		struct chunk *c = watch_own_frame(w, "ERROR", api_status_json(call->arena, &err));

		http_stream_write(http, c);
		chunk_unref(c);
		http->on_close = NULL;
		watch_end(w);
		return;
	}
	w->started = true;
	w->initial_bytes = http_stream_pending(http);
	loop_timer_arm(call->as->loop, &w->timeout, timeout_ns);
	if (!loop_timer_armed(&call->as->bookmark_timer))
		loop_timer_arm(call->as->loop, &call->as->bookmark_timer, WATCH_BOOKMARK_NS);
}

void watch_handle(struct call *call, const struct api_kind *kind, struct str name)
{
	const struct query *q = &call->query;
	struct registry_stream_options options = {
		.kind = kind,
		.ns = call->route.ns,
		.name = name,
		.label_selector = query_get(q, "labelSelector"),
		.field_selector = query_get(q, "fieldSelector"),
		.resource_version = query_get(q, "resourceVersion"),
		.resource_version_match = query_get(q, "resourceVersionMatch"),
		.has_send_initial_events = query_has(q, "sendInitialEvents"),
		.send_initial_events = query_bool(q, "sendInitialEvents"),
		.allow_bookmarks = query_bool(q, "allowWatchBookmarks"),
	};
	_cleanup_err_ struct err err = ERR_INIT;
	struct selector selector;
	enum table_include include;
	int64_t timeout_ns;
	struct watch *w;

	if (selector_parse(call->arena, options.label_selector, &selector, &err) < 0 ||
	    table_parse_include(query_get(q, "includeObject"), &include, &err) < 0 ||
	    watch_timeout_ns(call, &timeout_ns, &err) < 0) {
		respond_err(call->http, &err);
		return;
	}
	w = watch_create(call, kind);
	w->table.include = include;
	watch_start(call, w, &options, timeout_ns);
}
