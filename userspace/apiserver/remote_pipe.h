/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of bytes with a client, either the connection itself after an upgrade or the binary messages of a WebSocket
 * on it: what a SPDY session runs on. Inside the room only. Loop thread. */
#pragma once

#include "userspace/net/http.h"
#include "userspace/net/websocket.h"

struct remote_pipe {
	/* The owner's. None may be NULL but on_drain. */
	void (*on_data)(struct remote_pipe *pipe, struct str bytes);
	void (*on_drain)(struct remote_pipe *pipe); /* pending fell to WEBSOCKET_DRAIN_BELOW or less */
	void (*on_close)(struct remote_pipe *pipe); /* the client has gone; nothing may be called any more */
	/* One of them; both NULL: closed. */
	struct http_tunnel *tunnel;
	struct websocket *ws;
};

/* Answers 101 and ends the request. */
void remote_pipe_upgrade(struct remote_pipe *pipe, struct http_request *http, const struct http_header *headers,
			 size_t n_headers);
/* The same by a WebSocket handshake; -EPROTO: refused and answered. */
int remote_pipe_websocket(struct remote_pipe *pipe, struct http_request *http, struct str protocol);
/* Writing to a closed pipe does nothing. */
void remote_pipe_write(struct remote_pipe *pipe, struct str bytes);
size_t remote_pipe_pending(const struct remote_pipe *pipe);
void remote_pipe_pause(struct remote_pipe *pipe, bool paused);
/* Sends what is queued, then closes; no callback comes any more. */
void remote_pipe_close(struct remote_pipe *pipe);
