/* SPDX-License-Identifier: Apache-2.0 */
/* A WebSocket on a tunnel: handshake, messages, the closing exchange. Loop thread.
 *
 * Ends once: by the peer (on_close), or by websocket_close(), after which the rest of the exchange goes on without the
 * owner, for no longer than a moment. Freed when the tunnel is closed and no callback of ours is on the stack. */
#include <assert.h>
#include <errno.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"
#include "userspace/net/websocket.h"

#define WEBSOCKET_KEY_BYTES 16

struct websocket {
	struct http_tunnel *tunnel; /* NULL: closed */
	struct websocket_decoder decoder;
	const struct websocket_ops *ops;
	void *user;
	bool owned; /* the owner has not heard of the end yet */
	bool busy;  /* decoding: freed after */
};

/* ---- handshake ---- */

bool websocket_is_handshake(const struct http_request *req)
{
	return str_is(req->method, "GET") && http_request_wants_upgrade(req, "websocket");
}

struct str websocket_choose_protocol(const struct http_request *req, const char *const *supported, size_t n_supported)
{
	for (size_t i = 0; i < req->n_headers; i++) {
		struct str rest = req->headers[i].value, part;

		if (!str_is(req->headers[i].name, "sec-websocket-protocol"))
			continue;
		while (str_split(&rest, ',', &part)) {
			part = str_trim(part);
			for (size_t k = 0; k < n_supported; k++)
				if (str_is(part, supported[k]))
					return str_of(supported[k]);
		}
	}
	return STR_NULL;
}

static bool key_is_valid(struct str key)
{
	_cleanup_buf_ struct buf raw = BUF_INIT;

	return key.n && base64_decode(&raw, key, BASE64_STD) == 0 && buf_len(&raw) == WEBSOCKET_KEY_BYTES;
}

/* ---- sending ---- */

void websocket_send2(struct websocket *ws, enum websocket_opcode opcode, struct str first, struct str second)
{
	unsigned char head[WEBSOCKET_HEAD_BYTES_MAX];
	size_t n = websocket_encode_head(head, opcode, true, first.n + second.n);

	assert(ws->owned);
	http_tunnel_write(ws->tunnel, str_make((char *)head, n));
	http_tunnel_write(ws->tunnel, first);
	http_tunnel_write(ws->tunnel, second);
}

void websocket_send(struct websocket *ws, enum websocket_opcode opcode, struct str data)
{
	websocket_send2(ws, opcode, data, STR_NULL);
}

static void send_control(struct websocket *ws, enum websocket_opcode opcode, struct str data)
{
	unsigned char frame[WEBSOCKET_HEAD_BYTES_MAX + WEBSOCKET_CONTROL_BYTES_MAX];
	size_t n;

	if (data.n > WEBSOCKET_CONTROL_BYTES_MAX)
		data.n = WEBSOCKET_CONTROL_BYTES_MAX;
	n = websocket_encode_head(frame, opcode, true, data.n);
	if (data.n)
		memcpy(frame + n, data.p, data.n);
	http_tunnel_write(ws->tunnel, str_make((char *)frame, n + data.n));
}

static void send_close(struct websocket *ws, unsigned status, struct str reason)
{
	char data[WEBSOCKET_CONTROL_BYTES_MAX];

	if (status == WEBSOCKET_STATUS_NONE) {
		send_control(ws, WEBSOCKET_CLOSE, STR_NULL);
		return;
	}
	data[0] = (char)(status >> 8);
	data[1] = (char)status;
	if (reason.n > sizeof(data) - 2)
		reason.n = sizeof(data) - 2;
	/* Not in the middle of a character. */
	while (reason.n && reason.n == sizeof(data) - 2 && ((unsigned char)reason.p[reason.n - 1] & 0x80))
		reason.n--;
	if (reason.n)
		memcpy(data + 2, reason.p, reason.n);
	send_control(ws, WEBSOCKET_CLOSE, str_make(data, reason.n + 2));
}

/* ---- the end ---- */

static void ws_free(struct websocket *ws)
{
	websocket_decoder_finish(&ws->decoder);
	free(ws);
}

/* The tunnel is gone or given up; tells the owner if it must still be told. The caller frees. */
static void ended(struct websocket *ws, unsigned status)
{
	ws->tunnel = NULL;
	if (ws->owned) {
		ws->owned = false;
		ws->ops->on_close(ws, status);
	}
}

/* While busy: on_data() frees. */
static void close_tunnel(struct websocket *ws, unsigned status)
{
	assert(ws->busy);
	http_tunnel_close(ws->tunnel);
	ended(ws, status);
}

static unsigned status_of(int r)
{
	switch (r) {
	case -EMSGSIZE:
		return WEBSOCKET_STATUS_TOO_BIG;
	case -EILSEQ:
		return WEBSOCKET_STATUS_INVALID_UTF8;
	default:
		return WEBSOCKET_STATUS_PROTOCOL;
	}
}

/* ---- receiving ---- */

/* The caller holds `busy`: ws stays. */
static void handle(struct websocket *ws, const struct websocket_event *event)
{
	switch (event->opcode) {
	case WEBSOCKET_CLOSE:
		if (ws->owned)
			send_close(ws, event->close_status, STR_NULL);
		close_tunnel(ws, event->close_status);
		break;
	case WEBSOCKET_PING:
		if (ws->owned)
			send_control(ws, WEBSOCKET_PONG, event->data);
		break;
	case WEBSOCKET_PONG:
		break;
	default:
		if (ws->owned)
			ws->ops->on_message(ws, event->opcode, event->data);
		break;
	}
}

static void on_data(struct http_tunnel *tunnel, struct str in)
{
	struct websocket *ws = tunnel->user;
	struct websocket_event event;
	int r = 0;

	ws->busy = true;
	while (ws->tunnel && (r = websocket_decode(&ws->decoder, &in, &event)) == 1)
		handle(ws, &event);
	if (r < 0 && ws->tunnel) {
		if (ws->owned)
			send_close(ws, status_of(r), STR_NULL);
		close_tunnel(ws, status_of(r));
	}
	ws->busy = false;
	if (!ws->tunnel)
		ws_free(ws);
}

static void on_drain(struct http_tunnel *tunnel)
{
	struct websocket *ws = tunnel->user;

	if (ws->owned && ws->ops->on_drain)
		ws->ops->on_drain(ws);
}

static void on_close(struct http_tunnel *tunnel)
{
	struct websocket *ws = tunnel->user;

	ended(ws, 1006); /* what RFC 6455 calls an end without a close frame */
	if (!ws->busy)
		ws_free(ws);
}

/* ---- what owners call ---- */

int websocket_accept(struct http_request *req, struct str protocol, size_t message_bytes_max,
		     const struct websocket_ops *ops, void *user, struct websocket **ret)
{
	struct str key = http_request_header(req, "sec-websocket-key");
	static const struct http_header version = { { "Sec-WebSocket-Version", 21 }, { "13", 2 } };
	char accept[WEBSOCKET_ACCEPT_KEY_SIZE];
	struct http_header headers[3];
	struct websocket *ws;
	size_t n = 0;

	if (!str_is(http_request_header(req, "sec-websocket-version"), "13")) {
		http_respond(req, 426, "text/plain", &version, 1, STR("WebSocket version 13 is required\n"));
		return -EPROTO;
	}
	if (!websocket_is_handshake(req) || !key_is_valid(key)) {
		http_respond(req, 400, "text/plain", NULL, 0, STR("malformed WebSocket handshake\n"));
		return -EPROTO;
	}
	websocket_accept_key(key, accept);
	headers[n++] = (struct http_header){ STR("Upgrade"), STR("websocket") };
	headers[n++] = (struct http_header){ STR("Sec-WebSocket-Accept"), str_of(accept) };
	if (protocol.n)
		headers[n++] = (struct http_header){ STR("Sec-WebSocket-Protocol"), protocol };
	ws = mem_new(struct websocket);
	websocket_decoder_init(&ws->decoder, message_bytes_max);
	ws->ops = ops;
	ws->user = user;
	ws->owned = true;
	ws->tunnel = http_upgrade(req, headers, n);
	ws->tunnel->user = ws;
	ws->tunnel->on_data = on_data;
	ws->tunnel->on_drain = on_drain;
	ws->tunnel->on_close = on_close;
	ws->tunnel->drain_below = WEBSOCKET_DRAIN_BELOW;
	*ret = ws;
	return 0;
}

void *websocket_user(const struct websocket *ws)
{
	return ws->user;
}

size_t websocket_pending(const struct websocket *ws)
{
	return ws->tunnel ? http_tunnel_pending(ws->tunnel) : 0;
}

void websocket_pause(struct websocket *ws, bool paused)
{
	if (ws->owned)
		http_tunnel_pause(ws->tunnel, paused);
}

void websocket_close(struct websocket *ws, unsigned status, struct str reason)
{
	assert(ws->owned);
	send_close(ws, status, reason);
	ws->owned = false;
	http_tunnel_pause(ws->tunnel, false); /* the peer's close frame must come through */
	tunnel_expire(ws->tunnel);
}
