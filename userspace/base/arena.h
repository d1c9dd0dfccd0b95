/* SPDX-License-Identifier: Apache-2.0 */
/* Bump allocator: one per request or reconcile; everything in it dies together.
 * Not thread-safe; an arena may move between threads whole. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "userspace/base/mem.h"
#include "userspace/base/str.h"

struct arena_block;

struct arena {
	struct arena_block *head;
	char *at, *end;
	size_t total; /* bytes of all blocks, for limits and statistics */
};

#define ARENA_INIT ((struct arena){ 0 })

void arena_finish(struct arena *arena);
#define _cleanup_arena_ _cleanup_(arena_finish)
/* Of an empty arena: the first block has this many bytes, for what lives long and holds little. */
void arena_reserve(struct arena *arena, size_t size);
/* Free everything but keep the first block for reuse. */
void arena_reset(struct arena *arena);

void *arena_alloc(struct arena *arena, size_t size) __attribute__((alloc_size(2), returns_nonnull));
void *arena_zalloc(struct arena *arena, size_t size) __attribute__((alloc_size(2), returns_nonnull));
#define arena_new(arena, type) ((type *)arena_zalloc((arena), sizeof(type)))
#define arena_new_array(arena, type, n) ((type *)arena_zalloc((arena), sizeof(type) * (n)))
/* Zero-terminated copies. */
char *arena_strdup(struct arena *arena, const char *s);
char *arena_strndup(struct arena *arena, const char *p, size_t n);
struct str arena_str(struct arena *arena, struct str s);
char *arena_printf(struct arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *arena, const char *fmt, va_list ap);
