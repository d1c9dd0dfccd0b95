/* SPDX-License-Identifier: Apache-2.0 */
/* Remote command over SPDY/3.1, v4: the client opens one stream for each of error, stdin, stdout, stderr and (with a
 * terminal) resize, told apart by the header "streamtype"; the final Status goes over the error stream. See
 * exec_wire.h. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/exec_wire.h"
#include "userspace/apiserver/remote_spdy.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define EXEC_STREAMS_TIMEOUT_NS (30 * NS_PER_S) /* as upstream: then the client is not coming */
#define EXEC_RESIZE_BYTES_MAX 4096              /* one terminal size, still without its end of line */
#define EXEC_CHANNELS 5

static const char *const stream_types[EXEC_CHANNELS] = {
	[EXEC_STDIN] = "stdin", [EXEC_STDOUT] = "stdout", [EXEC_STDERR] = "stderr",
	[EXEC_ERROR] = "error", [EXEC_RESIZE] = "resize",
};

struct exec_spdy {
	struct exec_wire wire; /* wire.exec: NULL after the Status */
	struct remote_spdy rs;
	struct spdy_stream *streams[EXEC_CHANNELS];
	bool wanted[EXEC_CHANNELS], seen[EXEC_CHANNELS];
	bool started;
	struct loop_timer timeout;
	struct buf resize;
};

static struct exec_spdy *of_wire(const struct exec_wire *wire)
{
	return container_of(wire, struct exec_spdy, wire);
}

static struct exec_spdy *of_session(struct remote_spdy *rs)
{
	return container_of(rs, struct exec_spdy, rs);
}

/* ---- towards the client ---- */

static void wire_send(struct exec_wire *wire, enum exec_channel channel, struct str data)
{
	struct exec_spdy *w = of_wire(wire);

	if (w->streams[channel] && !w->streams[channel]->closed)
		spdy_send(w->streams[channel], data);
}

static size_t wire_pending(const struct exec_wire *wire)
{
	return remote_pipe_pending(&of_wire(wire)->rs.pipe);
}

static void wire_pause(struct exec_wire *wire, bool paused)
{
	remote_pipe_pause(&of_wire(wire)->rs.pipe, paused);
}

static void close_stream(struct exec_spdy *w, enum exec_channel channel)
{
	if (w->streams[channel])
		spdy_close(w->streams[channel]);
}

static void wire_finish(struct exec_wire *wire, struct str status)
{
	struct exec_spdy *w = of_wire(wire);

	wire->exec = NULL;
	close_stream(w, EXEC_STDOUT);
	close_stream(w, EXEC_STDERR);
	wire_send(wire, EXEC_ERROR, status);
	close_stream(w, EXEC_ERROR);
	remote_spdy_end(&w->rs);
}

static const struct exec_wire_ops wire_ops = { wire_send, wire_pending, wire_pause, wire_finish };

/* ---- from the client ---- */

static bool on_stream(struct remote_spdy *rs, struct spdy_stream *s, const struct http_header *headers,
		      size_t n_headers)
{
	struct exec_spdy *w = of_session(rs);
	bool complete = true;
	struct str type = STR_NULL;

	for (size_t i = 0; i < n_headers; i++)
		if (str_is(headers[i].name, "streamtype"))
			type = headers[i].value;
	for (int i = 0; i < EXEC_CHANNELS; i++) {
		if (str_is(type, stream_types[i]) && w->wanted[i] && !w->seen[i]) {
			w->seen[i] = true;
			w->streams[i] = s;
		}
		complete = complete && w->seen[i] == w->wanted[i];
	}
	if (complete && !w->started) {
		w->started = true;
		loop_timer_cancel(rs->loop, &w->timeout);
		exec_begin(w->wire.exec);
	}
	for (int i = 0; i < EXEC_CHANNELS; i++)
		if (w->streams[i] == s)
			return true;
	return false;
}

static void take_sizes(struct exec_spdy *w, struct str data)
{
	struct str text;
	ssize_t at;

	buf_add_str(&w->resize, data);
	while (text = buf_str(&w->resize), (at = str_find(text, '\n')) >= 0) {
		exec_resize(w->wire.exec, str_make(text.p, (size_t)at));
		buf_consume(&w->resize, (size_t)at + 1);
	}
	if (buf_len(&w->resize) > EXEC_RESIZE_BYTES_MAX)
		buf_reset(&w->resize);
}

static void on_data(struct remote_spdy *rs, struct spdy_stream *s, struct str data)
{
	struct exec_spdy *w = of_session(rs);

	if (!w->wire.exec)
		return;
	if (s == w->streams[EXEC_STDIN])
		exec_input(w->wire.exec, data);
	else if (s == w->streams[EXEC_RESIZE])
		take_sizes(w, data);
}

static void on_fin(struct remote_spdy *rs, struct spdy_stream *s)
{
	struct exec_spdy *w = of_session(rs);

	if (w->wire.exec && s == w->streams[EXEC_STDIN])
		exec_input_end(w->wire.exec);
}

static void on_end(struct remote_spdy *rs, struct spdy_stream *s)
{
	struct exec_spdy *w = of_session(rs);

	for (int i = 0; i < EXEC_CHANNELS; i++)
		if (w->streams[i] == s)
			w->streams[i] = NULL;
}

static void on_drain(struct remote_spdy *rs)
{
	struct exec_spdy *w = of_session(rs);

	if (w->wire.exec)
		exec_drained(w->wire.exec);
}

static void on_close(struct remote_spdy *rs)
{
	struct exec_spdy *w = of_session(rs);

	loop_timer_cancel(rs->loop, &w->timeout);
	if (w->wire.exec)
		exec_gone(w->wire.exec);
	buf_finish(&w->resize);
	free(w);
}

static const struct remote_spdy_ops session_ops = { on_stream, on_data, on_fin, on_end, on_drain, on_close };

static void timed_out(struct loop_timer *timer)
{
	remote_spdy_end(&container_of(timer, struct exec_spdy, timeout)->rs);
}

struct exec_wire *exec_spdy_open(struct call *call, struct exec *x, const struct exec_wanted *wanted)
{
	static const char *const protocols[] = { "v4.channel.k8s.io" };
	_cleanup_err_ struct err err = ERR_INIT;
	struct exec_spdy *w;

	if (!remote_spdy_choose(call->http, protocols, ARRAY_SIZE(protocols)).n) {
		err_set_status(&err, -EINVAL, 403, "Forbidden",
			       "unable to upgrade: none of the asked stream protocols is supported, only: "
			       "v4.channel.k8s.io");
		respond_err(call->http, &err);
		return NULL;
	}
	w = mem_new(struct exec_spdy);
	w->wire.ops = &wire_ops;
	w->wire.exec = x;
	w->rs.ops = &session_ops;
	w->rs.loop = call->as->loop;
	w->wanted[EXEC_ERROR] = true;
	w->wanted[EXEC_STDIN] = wanted->in;
	w->wanted[EXEC_STDOUT] = wanted->out;
	w->wanted[EXEC_STDERR] = wanted->err && !wanted->tty;
	w->wanted[EXEC_RESIZE] = wanted->tty;
	loop_timer_init(&w->timeout, timed_out);
	if (remote_spdy_start(&w->rs, call->http, protocols[0]) < 0) {
		free(w);
		return NULL;
	}
	loop_timer_arm(call->as->loop, &w->timeout, EXEC_STREAMS_TIMEOUT_NS);
	return &w->wire;
}
