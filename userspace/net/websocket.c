/* SPDX-License-Identifier: Apache-2.0 */
/* The WebSocket codec: frames in, messages out; and the handshake's key. No I/O. Any thread. */
#include "userspace/net/websocket.h"

#include <errno.h>
#include <openssl/sha.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

void websocket_decoder_init(struct websocket_decoder *d, size_t message_bytes_max)
{
	*d = (struct websocket_decoder){
		.message_bytes_max = message_bytes_max ? message_bytes_max : WEBSOCKET_MESSAGE_BYTES_DEFAULT,
		.head_need = 2,
	};
}

void websocket_decoder_finish(struct websocket_decoder *d)
{
	if (!d)
		return;
	buf_finish(&d->payload);
	buf_finish(&d->control);
}

/* Table 3-7 of the Unicode standard: no overlong forms, no surrogates. */
static bool is_utf8(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t i = 0;

	while (i < s.n) {
		unsigned char c = p[i++], low = 0x80, high = 0xbf;
		int rest;

		if (c < 0x80)
			continue;
		if (c >= 0xc2 && c <= 0xdf)
			rest = 1;
		else if (c >= 0xe0 && c <= 0xef)
			rest = 2;
		else if (c >= 0xf0 && c <= 0xf4)
			rest = 3;
		else
			return false;
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f;
		else if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
		for (; rest; rest--, low = 0x80, high = 0xbf)
			if (i >= s.n || p[i] < low || p[i++] > high)
				return false;
	}
	return true;
}

/* ---- frame heads ---- */

static uint8_t head_bytes_needed(const struct websocket_decoder *d)
{
	uint8_t n = 2, length = d->head[1] & 0x7f;

	if (length == 126)
		n += 2;
	else if (length == 127)
		n += 8;
	return d->head[1] & 0x80 ? n + 4 : n;
}

static int check_frame(const struct websocket_decoder *d)
{
	if (d->opcode >= WEBSOCKET_CLOSE) {
		if (d->opcode > WEBSOCKET_PONG || !d->fin || d->frame_left > WEBSOCKET_CONTROL_BYTES_MAX)
			return -EPROTO;
		return 0;
	}
	if (d->opcode > WEBSOCKET_BINARY)
		return -EPROTO;
	/* A message is finished before the next begins, and only a begun one is continued. */
	if ((d->opcode == WEBSOCKET_CONTINUATION) != (d->message != 0))
		return -EPROTO;
	if (d->frame_left > d->message_bytes_max || buf_len(&d->payload) + d->frame_left > d->message_bytes_max)
		return -EMSGSIZE;
	return 0;
}

static int parse_head(struct websocket_decoder *d)
{
	uint8_t length = d->head[1] & 0x7f, at = 2, wide = 0;

	/* No extension was negotiated, and clients must mask. */
	if ((d->head[0] & 0x70) || !(d->head[1] & 0x80))
		return -EPROTO;
	d->fin = d->head[0] & 0x80;
	d->opcode = d->head[0] & 0x0f;
	d->frame_left = length;
	if (length >= 126) {
		wide = length == 126 ? 2 : 8;
		d->frame_left = 0;
		for (; at < 2 + wide; at++)
			d->frame_left = d->frame_left << 8 | d->head[at];
		/* The shortest form is required. */
		if (d->frame_left < (wide == 2 ? 126 : 65536) || d->frame_left >> 63)
			return -EPROTO;
	}
	memcpy(d->mask, d->head + at, 4);
	d->mask_at = 0;
	return check_frame(d);
}

/* 1 when the head is there. */
static int take_head(struct websocket_decoder *d, struct str *in)
{
	while (d->head_n < d->head_need) {
		if (!in->n)
			return 0;
		d->head[d->head_n++] = (unsigned char)in->p[0];
		*in = str_make(in->p + 1, in->n - 1);
		if (d->head_n == 2)
			d->head_need = head_bytes_needed(d);
	}
	return 1;
}

/* ---- payloads ---- */

static void take_payload(struct websocket_decoder *d, struct str *in)
{
	struct buf *to = d->opcode >= WEBSOCKET_CLOSE ? &d->control : &d->payload;
	size_t n = in->n < d->frame_left ? in->n : (size_t)d->frame_left;
	char *at;

	if (!n)
		return;
	at = buf_reserve(to, n);
	for (size_t i = 0; i < n; i++)
		at[i] = (char)((unsigned char)in->p[i] ^ d->mask[(d->mask_at + i) & 3]);
	buf_commit(to, n);
	d->mask_at += n;
	d->frame_left -= n;
	*in = str_make(in->p + n, in->n - n);
}

static int close_event(struct websocket_decoder *d, struct websocket_event *ret)
{
	struct str data = buf_str(&d->control);
	unsigned status = WEBSOCKET_STATUS_NONE;

	if (data.n == 1)
		return -EPROTO;
	if (data.n >= 2) {
		status = (unsigned)(unsigned char)data.p[0] << 8 | (unsigned char)data.p[1];
		data = str_make(data.p + 2, data.n - 2);
		if (status < 1000 || status >= 5000 || (status >= 1004 && status <= 1006) ||
		    (status > 1014 && status < 3000))
			return -EPROTO;
		if (!is_utf8(data))
			return -EILSEQ;
	}
	d->closed = true;
	*ret = (struct websocket_event){ .opcode = WEBSOCKET_CLOSE, .data = data, .close_status = status };
	return 1;
}

/* A frame is complete: is there something to tell? */
static int frame_done(struct websocket_decoder *d, struct websocket_event *ret)
{
	if (d->opcode == WEBSOCKET_CLOSE)
		return close_event(d, ret);
	if (d->opcode > WEBSOCKET_CLOSE) {
		*ret = (struct websocket_event){ .opcode = d->opcode, .data = buf_str(&d->control) };
		return 1;
	}
	if (d->opcode != WEBSOCKET_CONTINUATION)
		d->message = d->opcode;
	if (!d->fin)
		return 0;
	*ret = (struct websocket_event){ .opcode = d->message, .data = buf_str(&d->payload) };
	d->message = 0;
	if (ret->opcode == WEBSOCKET_TEXT && !is_utf8(ret->data))
		return -EILSEQ;
	return 1;
}

/* What the event before this call pointed to is given up now. */
static void forget_last(struct websocket_decoder *d)
{
	if (!d->in_payload && !d->head_n) {
		buf_reset(&d->control);
		if (!d->message)
			buf_reset(&d->payload);
	}
}

int websocket_decode(struct websocket_decoder *d, struct str *in, struct websocket_event *ret)
{
	int r;

	if (d->closed)
		return -EPROTO;
	forget_last(d);
	for (;;) {
		if (!d->in_payload) {
			if (!take_head(d, in))
				return 0;
			r = parse_head(d);
			if (r < 0)
				break;
			d->in_payload = true;
		}
		take_payload(d, in);
		if (d->frame_left)
			return 0;
		d->in_payload = false;
		d->head_n = 0;
		d->head_need = 2;
		r = frame_done(d, ret);
		if (r > 0)
			return r;
		if (r < 0)
			break;
	}
	d->closed = true;
	return r;
}

/* ---- the other direction ---- */

size_t websocket_encode_head(unsigned char ret[static WEBSOCKET_HEAD_BYTES_MAX], enum websocket_opcode opcode, bool fin,
			     uint64_t payload_bytes)
{
	int wide = payload_bytes < 126 ? 0 : payload_bytes < 65536 ? 2 : 8;

	ret[0] = (unsigned char)((fin ? 0x80 : 0) | (unsigned char)opcode);
	ret[1] = (unsigned char)(wide == 0 ? payload_bytes : wide == 2 ? 126 : 127);
	for (int i = 0; i < wide; i++)
		ret[2 + i] = (unsigned char)(payload_bytes >> (8 * (wide - 1 - i)));
	return 2 + (size_t)wide;
}

void websocket_accept_key(struct str key, char ret[static WEBSOCKET_ACCEPT_KEY_SIZE])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 section 1.3 */
	unsigned char digest[SHA_DIGEST_LENGTH];
	_cleanup_buf_ struct buf text = BUF_INIT, encoded = BUF_INIT;

	buf_add_str(&text, key);
	buf_add_cstr(&text, guid);
	SHA1((const unsigned char *)text.data + text.start, buf_len(&text), digest);
	base64_encode(&encoded, digest, sizeof(digest), BASE64_STD);
	memcpy(ret, buf_cstr(&encoded), WEBSOCKET_ACCEPT_KEY_SIZE);
}
