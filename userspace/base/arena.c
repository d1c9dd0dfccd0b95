/* SPDX-License-Identifier: Apache-2.0 */
/* Bump allocator. See arena.h. */
#include "userspace/base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "userspace/base/mem.h"

#define ARENA_BLOCK_BYTES (8 * 1024)
#define ARENA_BLOCK_BYTES_MAX (1024 * 1024)
#define ARENA_ALIGN 8

struct arena_block {
	struct arena_block *next;
	size_t size; /* of the bytes behind this header */
};

void arena_finish(struct arena *arena)
{
	if (!arena)
		return;
	for (struct arena_block *b = arena->head, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	*arena = ARENA_INIT;
}

void arena_reset(struct arena *arena)
{
	struct arena_block *first = arena->head;

	if (!first)
		return;
	/* The list runs from newest to oldest; the oldest is the small one worth keeping. */
	while (first->next) {
		struct arena_block *next = first->next;

		free(first);
		first = next;
	}
	arena->head = first;
	arena->at = (char *)(first + 1);
	arena->end = arena->at + first->size;
	arena->total = first->size;
}

static void arena_take_block(struct arena *arena, size_t size)
{
	struct arena_block *b;

	b = mem_alloc(sizeof(*b) + size);
	b->size = size;
	b->next = arena->head;
	arena->head = b;
	arena->at = (char *)(b + 1);
	arena->end = arena->at + size;
	arena->total += size;
}

static void arena_add_block(struct arena *arena, size_t need)
{
	size_t size = ARENA_BLOCK_BYTES;

	if (arena->total > size)
		size = arena->total < ARENA_BLOCK_BYTES_MAX ? arena->total : ARENA_BLOCK_BYTES_MAX;
	size -= sizeof(struct arena_block);
	arena_take_block(arena, size < need ? need : size);
}

void arena_reserve(struct arena *arena, size_t size)
{
	arena_take_block(arena, (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1));
}

void *arena_alloc(struct arena *arena, size_t size)
{
	void *p;

	size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if ((size_t)(arena->end - arena->at) < size || !arena->at)
		arena_add_block(arena, size);
	p = arena->at;
	arena->at += size;
	return p;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
	return memset(arena_alloc(arena, size), 0, size);
}

char *arena_strndup(struct arena *arena, const char *p, size_t n)
{
	char *copy = arena_alloc(arena, n + 1);

	if (n)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

char *arena_strdup(struct arena *arena, const char *s)
{
	return arena_strndup(arena, s, strlen(s));
}

struct str arena_str(struct arena *arena, struct str s)
{
	return (struct str){ arena_strndup(arena, s.p, s.n), s.n };
}

char *arena_vprintf(struct arena *arena, const char *fmt, va_list ap)
{
	va_list again;
	char *p;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		n = 0;
	p = arena_alloc(arena, (size_t)n + 1);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	return p;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = arena_vprintf(arena, fmt, ap);
	va_end(ap);
	return p;
}
