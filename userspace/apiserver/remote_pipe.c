/* SPDX-License-Identifier: Apache-2.0 */
/* See remote_pipe.h. */
#include "userspace/apiserver/remote_pipe.h"

/* ---- the connection itself ---- */

static void tunnel_data(struct http_tunnel *tunnel, struct str bytes)
{
	struct remote_pipe *pipe = tunnel->user;

	pipe->on_data(pipe, bytes);
}

static void tunnel_drain(struct http_tunnel *tunnel)
{
	struct remote_pipe *pipe = tunnel->user;

	if (pipe->on_drain)
		pipe->on_drain(pipe);
}

static void tunnel_close(struct http_tunnel *tunnel)
{
	struct remote_pipe *pipe = tunnel->user;

	pipe->tunnel = NULL;
	pipe->on_close(pipe);
}

void remote_pipe_upgrade(struct remote_pipe *pipe, struct http_request *http, const struct http_header *headers,
			 size_t n_headers)
{
	pipe->tunnel = http_upgrade(http, headers, n_headers);
	pipe->tunnel->user = pipe;
	pipe->tunnel->on_data = tunnel_data;
	pipe->tunnel->on_drain = tunnel_drain;
	pipe->tunnel->on_close = tunnel_close;
	pipe->tunnel->drain_below = WEBSOCKET_DRAIN_BELOW;
}

/* ---- messages ---- */

static void ws_message(struct websocket *ws, enum websocket_opcode opcode, struct str data)
{
	struct remote_pipe *pipe = websocket_user(ws);

	if (data.n)
		pipe->on_data(pipe, data);
}

static void ws_drain(struct websocket *ws)
{
	struct remote_pipe *pipe = websocket_user(ws);

	if (pipe->on_drain)
		pipe->on_drain(pipe);
}

static void ws_close(struct websocket *ws, unsigned status)
{
	struct remote_pipe *pipe = websocket_user(ws);

	pipe->ws = NULL;
	pipe->on_close(pipe);
}

int remote_pipe_websocket(struct remote_pipe *pipe, struct http_request *http, struct str protocol)
{
	static const struct websocket_ops ops = { ws_message, ws_drain, ws_close };

	return websocket_accept(http, protocol, 0, &ops, pipe, &pipe->ws);
}

/* ---- both ---- */

void remote_pipe_write(struct remote_pipe *pipe, struct str bytes)
{
	if (pipe->tunnel)
		http_tunnel_write(pipe->tunnel, bytes);
	else if (pipe->ws)
		websocket_send(pipe->ws, WEBSOCKET_BINARY, bytes);
}

size_t remote_pipe_pending(const struct remote_pipe *pipe)
{
	return pipe->tunnel ? http_tunnel_pending(pipe->tunnel) : pipe->ws ? websocket_pending(pipe->ws) : 0;
}

void remote_pipe_pause(struct remote_pipe *pipe, bool paused)
{
	if (pipe->tunnel)
		http_tunnel_pause(pipe->tunnel, paused);
	else if (pipe->ws)
		websocket_pause(pipe->ws, paused);
}

void remote_pipe_close(struct remote_pipe *pipe)
{
	if (pipe->tunnel)
		http_tunnel_close(pipe->tunnel);
	else if (pipe->ws)
		websocket_close(pipe->ws, WEBSOCKET_STATUS_NORMAL, STR_NULL);
	pipe->tunnel = NULL;
	pipe->ws = NULL;
}
