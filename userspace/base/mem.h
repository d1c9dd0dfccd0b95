/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: small allocations abort on failure; cleanup attributes; ownership moves.
 * Any thread. */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Never return NULL; abort with one line when memory is gone. Allocations whose size a
 * client chooses must be bounded by a named limit before they come here. */
void *mem_alloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_calloc(size_t n, size_t size) __attribute__((malloc, alloc_size(1, 2), returns_nonnull));
void *mem_realloc(void *p, size_t size) __attribute__((alloc_size(2), returns_nonnull));
char *mem_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *mem_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *fmt, ...) __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

#define mem_new(type) ((type *)mem_zalloc(sizeof(type)))
#define mem_new_array(type, n) ((type *)mem_calloc((n), sizeof(type)))

/* Grow `array` (element count in `cap`) so that it holds at least `need` elements. */
#define mem_grow(array, cap, need)                                                                                     \
	do {                                                                                                           \
		if ((need) > (cap)) {                                                                                  \
			size_t grow_to_ = (cap) ? (size_t)(cap)*2 : 8;                                                 \
			if (grow_to_ < (size_t)(need))                                                                 \
				grow_to_ = (size_t)(need);                                                             \
			(array) = mem_realloc((array), grow_to_ * sizeof(*(array)));                                   \
			(cap) = grow_to_;                                                                              \
		}                                                                                                      \
	} while (0)

/* Locals that clean up after themselves: `_cleanup_(buf_finish) struct buf b = BUF_INIT;` */
#define _cleanup_(fn) __attribute__((cleanup(fn)))

static inline void mem_freep(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(mem_freep)

static inline void mem_closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_close_ _cleanup_(mem_closep)

#define TAKE_PTR(p)                                                                                                    \
	({                                                                                                             \
		__typeof__(p) take_ = (p);                                                                             \
		(p) = NULL;                                                                                            \
		take_;                                                                                                 \
	})
#define TAKE_FD(fd)                                                                                                    \
	({                                                                                                             \
		int take_ = (fd);                                                                                      \
		(fd) = -1;                                                                                             \
		take_;                                                                                                 \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
