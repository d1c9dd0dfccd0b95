/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket (RFC 6455), the server's side: handshake, decoder (pure, for tests and fuzzing) and a connection on an
 * http_tunnel. Loop thread; the decoder: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/buf.h"
#include "userspace/base/str.h"

struct http_request;
struct http_tunnel;

#define WEBSOCKET_MESSAGE_BYTES_DEFAULT (1024 * 1024) /* one message, all fragments together */
#define WEBSOCKET_CONTROL_BYTES_MAX 125
#define WEBSOCKET_ACCEPT_KEY_SIZE 29

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0,
	WEBSOCKET_TEXT = 1,
	WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8,
	WEBSOCKET_PING = 9,
	WEBSOCKET_PONG = 10,
};

enum websocket_status {
	WEBSOCKET_STATUS_NORMAL = 1000,
	WEBSOCKET_STATUS_GOING_AWAY = 1001,
	WEBSOCKET_STATUS_PROTOCOL = 1002,
	WEBSOCKET_STATUS_UNSUPPORTED = 1003,
	WEBSOCKET_STATUS_NONE = 1005, /* the close frame carried no status; never sent */
	WEBSOCKET_STATUS_INVALID_UTF8 = 1007,
	WEBSOCKET_STATUS_TOO_BIG = 1009,
	WEBSOCKET_STATUS_INTERNAL = 1011,
};

/* ---- the decoder ---- */

struct websocket_decoder {
	size_t message_bytes_max;
	bool closed; /* a close frame or an error was seen: feed no more */
	/* state */
	unsigned char head[14];
	uint8_t head_n, head_need;
	uint8_t opcode;  /* of the frame being read */
	uint8_t message; /* opcode of the message being put together; 0: none */
	bool fin, in_payload;
	unsigned char mask[4];
	uint64_t frame_left;
	size_t mask_at;
	struct buf payload; /* of the message */
	struct buf control; /* of a control frame */
};

struct websocket_event {
	enum websocket_opcode opcode; /* TEXT, BINARY, CLOSE, PING or PONG */
	struct str data;              /* whole message; for CLOSE the reason. Valid until the next call */
	unsigned close_status;        /* CLOSE */
};

void websocket_decoder_init(struct websocket_decoder *d, size_t message_bytes_max); /* 0: default */
void websocket_decoder_finish(struct websocket_decoder *d);
/* Takes from `in` until an event is complete (1) or the input is used up (0). A broken peer: -EPROTO (close with
 * 1002), -EMSGSIZE (1009), -EILSEQ (1007). */
int websocket_decode(struct websocket_decoder *d, struct str *in, struct websocket_event *ret);

/* ---- the encoder: one unmasked frame ---- */

#define WEBSOCKET_HEAD_BYTES_MAX 10
size_t websocket_encode_head(unsigned char ret[static WEBSOCKET_HEAD_BYTES_MAX], enum websocket_opcode opcode, bool fin,
			     uint64_t payload_bytes);

/* The Sec-WebSocket-Accept value for a key. */
void websocket_accept_key(struct str key, char ret[static WEBSOCKET_ACCEPT_KEY_SIZE]);

/* ---- a connection ---- */

struct websocket;

struct websocket_ops {
	void (*on_message)(struct websocket *ws, enum websocket_opcode opcode, struct str data);
	void (*on_drain)(struct websocket *ws); /* pending fell to WEBSOCKET_DRAIN_BELOW or less; may be NULL */
	/* The peer closed, broke the protocol or went away: the websocket ends here. */
	void (*on_close)(struct websocket *ws, unsigned status);
};

#define WEBSOCKET_DRAIN_BELOW (64 * 1024)

/* True when the request is a WebSocket handshake (HTTP/1.1). */
bool websocket_is_handshake(const struct http_request *req);
/* The first of the client's protocols (in the client's order) that is in `supported`; n = 0: none. */
struct str websocket_choose_protocol(const struct http_request *req, const char *const *supported, size_t n_supported);
/* Answers 101 and ends the request; 0. On a bad handshake (version, key) it answers 400 (426) itself, ends the
 * request and returns -EPROTO. `protocol` may be empty. */
int websocket_accept(struct http_request *req, struct str protocol, size_t message_bytes_max,
		     const struct websocket_ops *ops, void *user, struct websocket **ret);
void *websocket_user(const struct websocket *ws);
void websocket_send(struct websocket *ws, enum websocket_opcode opcode, struct str data);
/* One message of two parts (a channel byte and its data) without joining them first. */
void websocket_send2(struct websocket *ws, enum websocket_opcode opcode, struct str first, struct str second);
size_t websocket_pending(const struct websocket *ws);
void websocket_pause(struct websocket *ws, bool paused);
/* Sends the close frame, waits a little for the peer's, closes. No callback comes any more. */
void websocket_close(struct websocket *ws, unsigned status, struct str reason);
