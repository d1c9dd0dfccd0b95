/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and streams of a SPDY session. See spdy.h. */
#include "userspace/net/spdy.h"

#include <assert.h>
#include <errno.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/mem.h"

#define SPDY_VERSION 3
#define SPDY_HEAD_BYTES 8
#define SPDY_FLAG_FIN 1
#define SPDY_ID_MASK 0x7fffffffu

enum spdy_type {
	SPDY_SYN_STREAM = 1,
	SPDY_SYN_REPLY = 2,
	SPDY_RST_STREAM = 3,
	SPDY_SETTINGS = 4,
	SPDY_PING = 6,
	SPDY_GOAWAY = 7,
	SPDY_HEADERS = 8,
	SPDY_WINDOW_UPDATE = 9,
};

struct spdy {
	const struct spdy_ops *ops;
	void *arg;
	struct list streams; /* struct spdy_stream */
	unsigned n_streams;
	uint32_t last_id; /* of the client's streams */
	struct spdy_inflater *in;
	struct spdy_deflater *out;
	struct buf held; /* head of a frame, or a control frame */
	uint32_t data_id, data_left;
	bool in_data, data_fin, broken;
};

/* ---- writing ---- */

static void put_u32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

static uint32_t get_u32(const char *at)
{
	const unsigned char *p = (const unsigned char *)at;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void write_control(struct spdy *spdy, enum spdy_type type, unsigned flags, struct str body)
{
	unsigned char head[SPDY_HEAD_BYTES];

	put_u32(head, 0x80000000u | SPDY_VERSION << 16 | type);
	put_u32(head + 4, (uint32_t)flags << 24 | (uint32_t)body.n);
	spdy->ops->write(spdy->arg, str_make((char *)head, sizeof(head)));
	spdy->ops->write(spdy->arg, body);
}

static void write_pair(struct spdy *spdy, enum spdy_type type, uint32_t a, uint32_t b)
{
	unsigned char body[8];

	put_u32(body, a);
	put_u32(body + 4, b);
	write_control(spdy, type, 0, str_make((char *)body, sizeof(body)));
}

static void write_reply(struct spdy_stream *s)
{
	_cleanup_buf_ struct buf body = BUF_INIT;
	unsigned char id[4];

	put_u32(id, s->id);
	buf_add(&body, id, sizeof(id));
	spdy_headers_encode(s->spdy->out, NULL, 0, &body);
	write_control(s->spdy, SPDY_SYN_REPLY, 0, buf_str(&body));
}

static void write_data(struct spdy_stream *s, struct str data, unsigned flags)
{
	unsigned char head[SPDY_HEAD_BYTES];

	put_u32(head, s->id);
	put_u32(head + 4, (uint32_t)flags << 24 | (uint32_t)data.n);
	s->spdy->ops->write(s->spdy->arg, str_make((char *)head, sizeof(head)));
	if (data.n)
		s->spdy->ops->write(s->spdy->arg, data);
}

void spdy_send(struct spdy_stream *s, struct str data)
{
	assert(!s->closed);
	while (data.n) {
		size_t n = data.n < SPDY_SEND_FRAME_BYTES_MAX ? data.n : SPDY_SEND_FRAME_BYTES_MAX;

		write_data(s, str_make(data.p, n), 0);
		data = str_make(data.p + n, data.n - n);
	}
}

void spdy_goaway(struct spdy *spdy)
{
	write_pair(spdy, SPDY_GOAWAY, spdy->last_id, 0);
}

/* ---- streams ---- */

static struct spdy_stream *find(struct spdy *spdy, uint32_t id)
{
	list_foreach(s, &spdy->streams, struct spdy_stream, link)
		if (s->id == id)
			return s;
	return NULL;
}

static void end(struct spdy_stream *s)
{
	struct spdy *spdy = s->spdy;

	list_del(&s->link);
	spdy->n_streams--;
	spdy->ops->on_end(spdy->arg, s);
	free(s);
}

void spdy_close(struct spdy_stream *s)
{
	if (s->closed)
		return;
	write_data(s, STR_NULL, SPDY_FLAG_FIN);
	s->closed = true;
	if (s->peer_closed)
		end(s);
}

void spdy_reset(struct spdy_stream *s, enum spdy_status status)
{
	write_pair(s->spdy, SPDY_RST_STREAM, s->id, status);
	end(s);
}

static void peer_fin(struct spdy_stream *s)
{
	struct spdy *spdy = s->spdy;
	uint32_t id = s->id;

	if (s->peer_closed)
		return;
	s->peer_closed = true;
	spdy->ops->on_fin(spdy->arg, s);
	s = find(spdy, id); /* the owner may have ended it */
	if (s && s->closed)
		end(s);
}

/* ---- frames ---- */

static int syn_stream(struct spdy *spdy, unsigned flags, struct str body)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct http_header *headers;
	struct spdy_stream *s;
	size_t n;
	uint32_t id;
	int r;

	if (body.n < 10)
		return -EPROTO;
	id = get_u32(body.p) & SPDY_ID_MASK;
	/* Decoded in any case: the compression's state is the session's. */
	r = spdy_headers_decode(spdy->in, str_make(body.p + 10, body.n - 10), &arena, &headers, &n);
	if (r < 0)
		return r;
	if (id % 2 == 0 || id <= spdy->last_id)
		return -EPROTO;
	spdy->last_id = id;
	if (spdy->n_streams >= SPDY_STREAMS_MAX) {
		write_pair(spdy, SPDY_RST_STREAM, id, SPDY_STATUS_REFUSED_STREAM);
		return 0;
	}
	s = mem_new(struct spdy_stream);
	s->spdy = spdy;
	s->id = id;
	list_add_tail(&spdy->streams, &s->link);
	spdy->n_streams++;
	write_reply(s);
	if (!spdy->ops->on_stream(spdy->arg, s, headers, n)) {
		s = find(spdy, id);
		if (s)
			spdy_reset(s, SPDY_STATUS_REFUSED_STREAM);
		return 0;
	}
	s = find(spdy, id);
	if (s && flags & SPDY_FLAG_FIN)
		peer_fin(s);
	return 0;
}

static int rst_stream(struct spdy *spdy, struct str body)
{
	struct spdy_stream *s;

	if (body.n < 8)
		return -EPROTO;
	s = find(spdy, get_u32(body.p) & SPDY_ID_MASK);
	if (s)
		end(s);
	return 0;
}

/* The state of the compression must follow, though nobody asks what they say. */
static int more_headers(struct spdy *spdy, unsigned flags, struct str body)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct http_header *headers;
	struct spdy_stream *s;
	size_t n;
	int r;

	if (body.n < 4)
		return -EPROTO;
	r = spdy_headers_decode(spdy->in, str_make(body.p + 4, body.n - 4), &arena, &headers, &n);
	if (r < 0)
		return r;
	s = find(spdy, get_u32(body.p) & SPDY_ID_MASK);
	if (s && flags & SPDY_FLAG_FIN)
		peer_fin(s);
	return 0;
}

static int ping(struct spdy *spdy, struct str body)
{
	if (body.n != 4)
		return -EPROTO;
	if (get_u32(body.p) % 2) /* the client's: odd; else an answer to one of ours, of which there are none */
		write_control(spdy, SPDY_PING, 0, body);
	return 0;
}

static int control(struct spdy *spdy, unsigned type, unsigned flags, struct str body)
{
	switch (type) {
	case SPDY_SYN_STREAM:
		return syn_stream(spdy, flags, body);
	case SPDY_RST_STREAM:
		return rst_stream(spdy, body);
	case SPDY_HEADERS:
	case SPDY_SYN_REPLY:
		return more_headers(spdy, flags, body);
	case SPDY_PING:
		return ping(spdy, body);
	default: /* SETTINGS, WINDOW_UPDATE, GOAWAY and what a later draft may bring */
		return 0;
	}
}

/* ---- input ---- */

/* Up to `want` bytes in `held`; true when they are there. */
static bool hold(struct spdy *spdy, struct str *in, size_t want)
{
	size_t missing = want - buf_len(&spdy->held), n = in->n < missing ? in->n : missing;

	buf_add(&spdy->held, in->p, n);
	*in = str_make(in->p + n, in->n - n);
	return n == missing;
}

static void take_data(struct spdy *spdy, struct str *in)
{
	size_t n = in->n < spdy->data_left ? in->n : spdy->data_left;
	struct spdy_stream *s = find(spdy, spdy->data_id);
	struct str part = str_make(in->p, n);

	*in = str_make(in->p + n, in->n - n);
	spdy->data_left -= (uint32_t)n;
	if (n && s && !s->peer_closed)
		spdy->ops->on_data(spdy->arg, s, part);
	if (spdy->data_left)
		return;
	spdy->in_data = false;
	s = find(spdy, spdy->data_id);
	if (s && spdy->data_fin)
		peer_fin(s);
}

/* One frame, or as much of it as there is. 1: more input may follow. */
static int take_frame(struct spdy *spdy, struct str *in)
{
	struct str head;
	uint32_t first, second, length;
	int r;

	if (buf_len(&spdy->held) < SPDY_HEAD_BYTES && !hold(spdy, in, SPDY_HEAD_BYTES))
		return 0;
	head = buf_str(&spdy->held);
	first = get_u32(head.p);
	second = get_u32(head.p + 4);
	length = second & 0xffffff;
	if (!(first & 0x80000000u)) {
		buf_reset(&spdy->held);
		spdy->data_id = first;
		spdy->data_left = length;
		spdy->data_fin = second >> 24 & SPDY_FLAG_FIN;
		spdy->in_data = true;
		return 1;
	}
	if ((first >> 16 & 0x7fff) != SPDY_VERSION)
		return -EPROTO;
	if (length > SPDY_CONTROL_BYTES_MAX)
		return -EMSGSIZE;
	if (!hold(spdy, in, SPDY_HEAD_BYTES + length))
		return 0;
	head = buf_str(&spdy->held);
	r = control(spdy, first & 0xffff, second >> 24, str_make(head.p + SPDY_HEAD_BYTES, length));
	buf_reset(&spdy->held);
	return r < 0 ? r : 1;
}

int spdy_input(struct spdy *spdy, struct str in)
{
	int r = 1;

	if (spdy->broken)
		return -EPROTO;
	while (r > 0 && (in.n || (spdy->in_data && !spdy->data_left))) {
		if (spdy->in_data)
			take_data(spdy, &in);
		else
			r = take_frame(spdy, &in);
	}
	if (r < 0) {
		spdy->broken = true;
		write_pair(spdy, SPDY_GOAWAY, spdy->last_id, SPDY_STATUS_PROTOCOL_ERROR);
		return r;
	}
	return 0;
}

struct spdy *spdy_create(const struct spdy_ops *ops, void *arg)
{
	struct spdy *spdy = mem_new(struct spdy);

	spdy->ops = ops;
	spdy->arg = arg;
	list_init(&spdy->streams);
	spdy->in = spdy_inflater_create();
	spdy->out = spdy_deflater_create();
	return spdy;
}

void spdy_destroy(struct spdy *spdy)
{
	if (!spdy)
		return;
	while (!list_empty(&spdy->streams))
		end(list_entry(spdy->streams.next, struct spdy_stream, link));
	spdy_inflater_destroy(spdy->in);
	spdy_deflater_destroy(spdy->out);
	buf_finish(&spdy->held);
	free(spdy);
}
