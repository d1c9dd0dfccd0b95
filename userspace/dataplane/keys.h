/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a map, one after the other. Programs and other processes may write meanwhile: where a key has gone, the
 * kernel begins anew, so keys may come twice, and a walk ends after KEYS_TURNS times what the map can hold. Inside the
 * room only. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS_TURNS 2

struct keys {
	int fd;
	bool begun;
	uint64_t left;
};

struct keys keys_of(int fd);
/* The key behind *key (in the beginning: the first) into it; false: none, with errno ENOENT where all have been seen.
 */
bool keys_next(struct keys *k, void *key, size_t size);

/* `key_`: a variable of the map's key type. No key may be deleted inside, other than the last one seen. */
#define keys_foreach(fd_, key_)                                                                                        \
	for (struct keys keys_walk = keys_of(fd_); keys_next(&keys_walk, &(key_), sizeof(key_));)
