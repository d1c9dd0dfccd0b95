/* SPDX-License-Identifier: Apache-2.0 */
/* Hash maps read some thousand entries a call, where a call for each would cost the loop its time. Inside the room
 * only. Any thread. */
#pragma once

#include <stdint.h>

/* Keys and values stand behind each other. */
typedef void batch_fn(void *arg, const char *keys, const char *values, uint32_t n);

/* Every entry once, as long as nobody writes. -errno: the kernel does not like it, or the map: go entry by entry;
 * what fn was given until then is to be forgotten. */
int batch_each(int fd, batch_fn *fn, void *arg);

/* The same over several turns, so many rows at once (or more, where one of the map's buckets holds more): entries that
 * stand there all the time come once. 1: there are more, 0: that was the last, or -errno. */
struct batch_walk {
	char at[64]; /* the kernel's own */
	uint32_t turns;
};
int batch_piece(int fd, struct batch_walk *walk, uint32_t rows, batch_fn *fn, void *arg);
