/* SPDX-License-Identifier: Apache-2.0 */
/* See remote_spdy.h. */
#include "userspace/apiserver/remote_spdy.h"

#include <errno.h>
#include <stdio.h>

#include "userspace/base/mem.h"

#define REMOTE_SPDY_TUNNEL "SPDY/3.1+"

static const char spdy_version[] = "SPDY/3.1";
static const char protocol_header[] = "x-stream-protocol-version";

static struct remote_spdy *of_pipe(struct remote_pipe *pipe)
{
	return container_of(pipe, struct remote_spdy, pipe);
}

/* ---- the session's side ---- */

static void session_write(void *arg, struct str bytes)
{
	struct remote_spdy *rs = arg;

	remote_pipe_write(&rs->pipe, bytes);
}

static bool session_stream(void *arg, struct spdy_stream *s, const struct http_header *headers, size_t n_headers)
{
	struct remote_spdy *rs = arg;

	return !rs->ended && rs->ops->on_stream(rs, s, headers, n_headers);
}

static void session_data(void *arg, struct spdy_stream *s, struct str data)
{
	struct remote_spdy *rs = arg;

	if (!rs->ended)
		rs->ops->on_data(rs, s, data);
}

static void session_fin(void *arg, struct spdy_stream *s)
{
	struct remote_spdy *rs = arg;

	if (!rs->ended)
		rs->ops->on_fin(rs, s);
}

static void session_end(void *arg, struct spdy_stream *s)
{
	struct remote_spdy *rs = arg;

	rs->ops->on_end(rs, s);
}

static const struct spdy_ops session_ops = {
	.write = session_write,
	.on_stream = session_stream,
	.on_data = session_data,
	.on_fin = session_fin,
	.on_end = session_end,
};

/* ---- the pipe's side ---- */

static void pipe_data(struct remote_pipe *pipe, struct str bytes)
{
	struct remote_spdy *rs = of_pipe(pipe);

	if (!rs->ended && spdy_input(rs->spdy, bytes) < 0)
		remote_spdy_end(rs);
}

static void pipe_drain(struct remote_pipe *pipe)
{
	struct remote_spdy *rs = of_pipe(pipe);

	if (!rs->ended)
		rs->ops->on_drain(rs);
}

static void pipe_close(struct remote_pipe *pipe)
{
	remote_spdy_end(of_pipe(pipe));
}

static void closed(struct loop_defer *defer)
{
	struct remote_spdy *rs = container_of(defer, struct remote_spdy, defer);

	remote_pipe_close(&rs->pipe);
	spdy_destroy(rs->spdy);
	rs->spdy = NULL;
	rs->ops->on_close(rs);
}

void remote_spdy_end(struct remote_spdy *rs)
{
	if (rs->ended)
		return;
	rs->ended = true;
	rs->defer.fn = closed;
	loop_defer(rs->loop, &rs->defer);
}

/* ---- the handshake ---- */

static struct str tunnel_protocol(const struct http_request *http, const char *protocol, char *text, size_t size)
{
	const char *const supported[] = { text };

	snprintf(text, size, REMOTE_SPDY_TUNNEL "%s", protocol);
	return websocket_choose_protocol(http, supported, 1);
}

bool remote_spdy_wanted(const struct http_request *http, const char *protocol)
{
	char text[64];

	return http_request_wants_upgrade(http, spdy_version) ||
	       (protocol && websocket_is_handshake(http) && tunnel_protocol(http, protocol, text, sizeof(text)).n);
}

struct str remote_spdy_choose(const struct http_request *http, const char *const *supported, size_t n_supported)
{
	for (size_t i = 0; i < http->n_headers; i++) {
		struct str rest = http->headers[i].value, part;

		if (!str_is(http->headers[i].name, protocol_header))
			continue;
		while (str_split(&rest, ',', &part))
			for (size_t k = 0; k < n_supported; k++)
				if (str_is(str_trim(part), supported[k]))
					return str_of(supported[k]);
	}
	return STR_NULL;
}

int remote_spdy_start(struct remote_spdy *rs, struct http_request *http, const char *protocol)
{
	const struct http_header headers[] = { { STR("Upgrade"), str_of(spdy_version) },
					       { STR("X-Stream-Protocol-Version"), str_of(protocol) } };
	char text[64];
	int r = 0;

	rs->pipe.on_data = pipe_data;
	rs->pipe.on_drain = pipe_drain;
	rs->pipe.on_close = pipe_close;
	if (http_request_wants_upgrade(http, spdy_version))
		remote_pipe_upgrade(&rs->pipe, http, headers, ARRAY_SIZE(headers));
	else
		r = remote_pipe_websocket(&rs->pipe, http, tunnel_protocol(http, protocol, text, sizeof(text)));
	if (r == 0)
		rs->spdy = spdy_create(&session_ops, rs);
	return r;
}
