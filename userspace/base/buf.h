/* SPDX-License-Identifier: Apache-2.0 */
/* Growable byte buffer, read from the front and written at the end; and `chunk`, an
 * immutable counted run of bytes that many readers share. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/mem.h"
#include "userspace/base/str.h"

struct buf {
	char *data;
	size_t start, end; /* unread bytes: data[start..end) */
	size_t cap;
};

#define BUF_INIT ((struct buf){ 0 })

void buf_finish(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_finish)

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){ b->data ? b->data + b->start : NULL, b->end - b->start };
}

/* At least `n` writable bytes at the end; returns where. Then buf_commit(n written). */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* Drop `n` bytes from the front. */
void buf_consume(struct buf *b, size_t n);
void buf_reset(struct buf *b);
/* Give memory back when the buffer is empty (idle connections). */
void buf_release(struct buf *b);

void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_str(struct buf *b, struct str s);
void buf_add_cstr(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Zero-terminate (the zero is not counted) and return the unread bytes. */
const char *buf_cstr(struct buf *b);
/* The bytes as a heap string; the buffer is empty afterwards. */
char *buf_steal(struct buf *b, size_t *ret_len);

/* Immutable and counted; counts are atomic, so a chunk may cross threads. */
struct chunk {
	_Atomic uint32_t refs;
	uint32_t len;
	char data[];
};

struct chunk *chunk_create(const void *p, size_t n); /* refs = 1; p may be NULL to fill later, before sharing */
struct chunk *chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c); /* takes NULL */
static inline void chunk_unrefp(struct chunk **c)
{
	chunk_unref(*c);
}
static inline struct str chunk_str(const struct chunk *c)
{
	return (struct str){ c->data, c->len };
}
