/* SPDX-License-Identifier: Apache-2.0 */
/* pods/log: a text stream from the node, read no faster than the client takes it. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/pod_target.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define LOG_PENDING_MAX (256 * 1024)

struct log_stream {
	struct node_log_sink sink;
	struct node_log_source *source;
	struct http_request *http;
	bool begun, starting, ended;
};

static void log_begin(struct log_stream *s)
{
	if (!s->begun)
		http_stream_begin(s->http, 200, "text/plain", NULL, 0);
	s->begun = true;
}

static bool log_write_sink(struct node_log_sink *sink, const void *p, size_t n)
{
	struct log_stream *s = container_of(sink, struct log_stream, sink);

	log_begin(s);
	http_stream_write_str(s->http, str_make(p, n));
	return http_stream_pending(s->http) < LOG_PENDING_MAX;
}

static void log_end_sink(struct node_log_sink *sink, const struct err *err)
{
	struct log_stream *s = container_of(sink, struct log_stream, sink);

	s->http->on_close = NULL;
	s->http->on_drain = NULL;
	if (err && !s->begun) {
		respond_err(s->http, err);
	} else {
		log_begin(s);
		http_stream_end(s->http);
	}
	/* An end inside the start: the starter frees. */
	s->ended = true;
	if (!s->starting)
		free(s);
}

static void log_drained(struct http_request *http)
{
	struct log_stream *s = http->user;

	if (s->source)
		s->source->resume(s->source);
}

static void log_client_gone(struct http_request *http)
{
	struct log_stream *s = http->user;

	if (s->source)
		s->source->close(s->source);
	s->ended = true;
	if (!s->starting)
		free(s);
}

static int log_options(struct call *call, struct node_log_options *o, struct err *err)
{
	struct str since_time = query_get(&call->query, "sinceTime");
	int64_t since_s;
	int r;

	o->follow = query_bool(&call->query, "follow");
	o->previous = query_bool(&call->query, "previous");
	o->timestamps = query_bool(&call->query, "timestamps");
	r = query_int(&call->query, "tailLines", -1, &o->tail_lines, err);
	if (r == 0)
		r = query_int(&call->query, "limitBytes", -1, &o->limit_bytes, err);
	if (r == 0)
		r = query_int(&call->query, "sinceSeconds", 0, &since_s, err);
	if (r < 0)
		return r;
	if (since_time.n && since_s)
		return err_set_status(err, -EINVAL, 422, "Invalid",
				      "at most one of `sinceTime` or `sinceSeconds` may be specified");
	if (since_time.n && clock_parse_rfc3339(since_time, &o->since_real_ns) < 0)
		return api_err_bad_request(err, "sinceTime: invalid time \"%.*s\"", STR_ARG(since_time));
	if (since_s)
		o->since_real_ns = clock_real_ns() - since_s * NS_PER_S;
	return 0;
}

static void log_start(struct call *call, const struct pod_target *target, const struct node_log_options *options)
{
	struct log_stream *s = mem_new(struct log_stream);
	const struct node_ops *node = &call->as->node;
	_cleanup_err_ struct err err = ERR_INIT;

	s->sink.write = log_write_sink;
	s->sink.end = log_end_sink;
	s->http = call->http;
	s->http->user = s;
	s->http->on_close = log_client_gone;
	s->http->on_drain = log_drained;
	s->http->drain_below = LOG_PENDING_MAX / 2;
	s->starting = true;
	if (node->logs(node->ctx, target->pod, options, &s->sink, &s->source, &err) < 0) {
		s->http->on_close = NULL;
		s->http->on_drain = NULL;
		respond_err(s->http, &err);
		free(s);
		return;
	}
	s->starting = false;
	if (s->ended) {
		free(s);
		return;
	}
	/* A follower of a quiet container sees the headers at once. */
	if (options->follow)
		log_begin(s);
}

void log_handle(struct call *call)
{
	struct node_log_options options = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	struct pod_target target;
	int r;

	if (!str_is(call->http->method, "GET"))
		r = api_err_method_not_supported(&err);
	else
		r = pod_target_find(call, &target, &err);
	if (r == 0)
		r = log_options(call, &options, &err);
	if (r < 0) {
		respond_err(call->http, &err);
		return;
	}
	options.container = target.container;
	log_start(call, &target, &options);
}
