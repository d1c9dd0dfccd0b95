/* SPDX-License-Identifier: Apache-2.0 */
/* Watch streams: JSON events, one a line, around the stored bytes that all watchers share, or made for one (Tables,
 * partial metadata, other versions), or protobuf frames, made once for all (for one at the start). A watcher whose
 * backlog overflows is ended; it lists again. Bookmarks go out once a minute to those who asked and have something new
 * to learn: an idle server stays silent. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/api/selector.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/metrics.h"
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
	bool sharing;         /* the stored form, in JSON as it is or in protobuf */
	uint64_t *counted;    /* events */
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

/* One event in JSON around an object that lies somewhere else. Takes the owner's reference. */
static void watch_send_json(struct watch *w, const char *type, struct str object, void *owner,
			    void (*unref)(void *owner))
{
	char head[40];
	int n = snprintf(head, sizeof(head), "{\"type\":\"%s\",\"object\":", type);
	const struct http_piece pieces[] = {
		{ .bytes = { head, (size_t)n } },
		{ object, owner, unref },
		{ .bytes = STR("}\n") },
	};

	http_stream_write_pieces(w->http, pieces, ARRAY_SIZE(pieces));
}

static void watch_drop_object(void *o)
{
	object_unref(o);
}

static struct chunk *watch_protobuf(const char *type, const struct json *object)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	/* Of what we wrote ourselves it succeeds. */
	pb_encode_event(&out, type, object);
	return chunk_create(buf_str(&out).p, buf_len(&out));
}

/* Bookmarks and errors, in the form that was negotiated. */
static void watch_send_text(struct watch *w, const char *type, struct str object)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = NULL;

	if (!w->accept.protobuf) {
		watch_send_json(w, type, object, NULL, NULL);
	} else if (json_parse(&arena, object, 0, &v, NULL) == 0) {
		struct chunk *c = watch_protobuf(type, v);

		http_stream_write(w->http, c);
		chunk_unref(c);
	}
}

/* Made for this watcher alone. */
static void watch_send_private(struct watch *w, const char *type, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct str text = registry_render(&arena, w->kind, o);
	struct json *v;

	if (w->accept.form == NEGOTIATE_OBJECT || json_parse(&arena, text, 0, &v, NULL) < 0) {
		watch_send_text(w, type, text);
		return;
	}
	if (w->accept.form == NEGOTIATE_TABLE) {
		table_write_object(&out, &arena, w->kind, &w->table, v, text);
		w->table.no_headers = true;
	} else {
		meta_write_partial(&out, w->accept.v1beta1, v);
	}
	watch_send_text(w, type, buf_str(&out));
}

/* In the stored form and in protobuf an event is the same for all who watch. */
static void watch_send_shared(struct watch *w, enum registry_stream_event type, const struct object *o,
			      struct store_event *e)
{
	if (!w->accept.protobuf) {
		watch_send_json(w, watch_type_names[type], o->json, (void *)(uintptr_t)object_ref(o),
				watch_drop_object);
		return;
	}
	if (!e->wire[type]) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct json *v;

		/* All of it: registry_parse() leaves managedFields as text. */
		if (json_parse(&arena, o->json, 0, &v, NULL) < 0)
			return;
		e->wire[type] = watch_protobuf(watch_type_names[type], v);
	}
	http_stream_write(w->http, e->wire[type]);
}

static void watch_send_bookmark(struct watch *w, int64_t revision, bool initial_end)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	bool partial = w->accept.form == NEGOTIATE_PARTIAL || w->accept.form == NEGOTIATE_PARTIAL_LIST;
	const char *body;

	body = arena_printf(
		&arena, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%" PRId64 "\"%s}}",
		partial ? "PartialObjectMetadata" : w->kind->kind,
		partial ? meta_partial_api_version(w->accept.v1beta1) : api_kind_api_version(w->kind), revision,
		initial_end ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
	watch_send_text(w, "BOOKMARK", str_of(body));
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

	if (w->ended)
		return;
	if (type == REGISTRY_STREAM_INITIAL_END) {
		watch_send_bookmark(w, registry_stream_revision(w->stream), true);
		return;
	}
	(*w->counted)++;
	if (w->sharing && (e || !w->accept.protobuf))
		watch_send_shared(w, type, o, e);
	else
		watch_send_private(w, watch_type_names[type], o);
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
	w->sharing = call->accept.form == NEGOTIATE_OBJECT && kind->storage == kind;
	w->counted = metrics_watch_events(call->as->metrics, kind);
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
		watch_send_text(w, "ERROR", api_status_json(call->arena, &err));
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
