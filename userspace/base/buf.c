/* SPDX-License-Identifier: Apache-2.0 */
/* Growable buffers and shared chunks. See buf.h. */
#include "userspace/base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "userspace/base/mem.h"

#define BUF_CAP_MIN 256

void buf_finish(struct buf *b)
{
	if (!b)
		return;
	free(b->data);
	*b = BUF_INIT;
}

char *buf_reserve(struct buf *b, size_t n)
{
	if (b->cap - b->end >= n && b->data)
		return b->data + b->end;
	if (b->start && b->cap - (b->end - b->start) >= n && b->start >= b->cap / 2) {
		memmove(b->data, b->data + b->start, b->end - b->start);
	} else {
		size_t len = b->end - b->start;
		size_t cap = b->cap ? b->cap : BUF_CAP_MIN;
		char *data;

		while (cap - len < n)
			cap *= 2;
		data = mem_alloc(cap);
		if (len)
			memcpy(data, b->data + b->start, len);
		free(b->data);
		b->data = data;
		b->cap = cap;
	}
	b->end -= b->start;
	b->start = 0;
	return b->data + b->end;
}

void buf_commit(struct buf *b, size_t n)
{
	assert(b->cap - b->end >= n);
	b->end += n;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->end - b->start);
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void buf_reset(struct buf *b)
{
	b->start = b->end = 0;
}

void buf_release(struct buf *b)
{
	if (b->start == b->end)
		buf_finish(b);
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	if (!n)
		return;
	memcpy(buf_reserve(b, n), p, n);
	b->end += n;
}

void buf_add_str(struct buf *b, struct str s)
{
	buf_add(b, s.p, s.n);
}

void buf_add_cstr(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
	*buf_reserve(b, 1) = c;
	b->end++;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	size_t room;
	int n;

	buf_reserve(b, 128);
	room = b->cap - b->end;
	va_start(ap, fmt);
	n = vsnprintf(b->data + b->end, room, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= room) {
		char *at = buf_reserve(b, (size_t)n + 1);

		va_start(ap, fmt);
		vsnprintf(at, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	b->end += (size_t)n;
}

const char *buf_cstr(struct buf *b)
{
	*buf_reserve(b, 1) = '\0';
	return b->data + b->start;
}

char *buf_steal(struct buf *b, size_t *ret_len)
{
	char *data;

	buf_cstr(b);
	if (ret_len)
		*ret_len = buf_len(b);
	if (b->start)
		memmove(b->data, b->data + b->start, buf_len(b) + 1);
	data = b->data;
	*b = BUF_INIT;
	return data;
}

struct chunk *chunk_create(const void *p, size_t n)
{
	struct chunk *c;

	assert(n <= UINT32_MAX);
	c = mem_alloc(sizeof(*c) + n);
	atomic_init(&c->refs, 1);
	c->len = (uint32_t)n;
	if (p && n)
		memcpy(c->data, p, n);
	return c;
}

struct chunk *chunk_ref(struct chunk *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void chunk_unref(struct chunk *c)
{
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		free(c);
}
