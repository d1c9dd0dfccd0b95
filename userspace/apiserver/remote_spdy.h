/* SPDX-License-Identifier: Apache-2.0 */
/* A SPDY session on a remote_pipe, with an end that is safe from inside its own callbacks. Inside the room only. Loop
 * thread. */
#pragma once

#include "userspace/apiserver/remote_pipe.h"
#include "userspace/loop/loop.h"
#include "userspace/net/spdy.h"

struct remote_spdy {
	/* The owner's. */
	const struct remote_spdy_ops *ops;
	struct loop *loop;
	/* Of this file. */
	struct remote_pipe pipe;
	struct spdy *spdy;
	struct loop_defer defer;
	bool ended;
};

struct remote_spdy_ops {
	bool (*on_stream)(struct remote_spdy *rs, struct spdy_stream *s, const struct http_header *headers,
			  size_t n_headers);
	void (*on_data)(struct remote_spdy *rs, struct spdy_stream *s, struct str data);
	void (*on_fin)(struct remote_spdy *rs, struct spdy_stream *s);
	void (*on_end)(struct remote_spdy *rs, struct spdy_stream *s); /* see spdy.h */
	void (*on_drain)(struct remote_spdy *rs);
	/* The client has gone, or broke the protocol, or remote_spdy_end() was called: all streams have ended; the last
	 * callback, from the loop. The owner may free it here. */
	void (*on_close)(struct remote_spdy *rs);
};

/* True when the request asks for SPDY/3.1 itself, or (with `protocol`, which may be NULL) for SPDY in a WebSocket
 * (subprotocol "SPDY/3.1+<protocol>"). */
bool remote_spdy_wanted(const struct http_request *http, const char *protocol);
/* Answers the handshake; `protocol` is the one agreed on (X-Stream-Protocol-Version). rs is zero but for the owner's
 * fields. -EPROTO: refused and answered, no callback comes. */
int remote_spdy_start(struct remote_spdy *rs, struct http_request *http, const char *protocol);
/* The first of the client's X-Stream-Protocol-Version that is in `supported`; n = 0: none. */
struct str remote_spdy_choose(const struct http_request *http, const char *const *supported, size_t n_supported);
/* What is queued goes out, then the connection closes; on_close follows. */
void remote_spdy_end(struct remote_spdy *rs);
