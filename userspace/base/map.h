/* SPDX-License-Identifier: Apache-2.0 */
/* Hash map from byte strings to pointers, seeded per process (keys come from clients).
 * Keys are copied. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/str.h"

uint64_t hash_bytes(const void *p, size_t n);

struct map_entry {
	char *key; /* heap, zero-terminated; NULL: free slot */
	uint32_t key_len;
	uint32_t hash;
	void *value;
};

struct map {
	struct map_entry *slots;
	uint32_t n, cap; /* cap: power of two or 0 */
};

#define MAP_INIT ((struct map){ 0 })

/* Does not free the values. */
void map_finish(struct map *m);
void *map_get(const struct map *m, struct str key); /* NULL when absent */
bool map_has(const struct map *m, struct str key);
/* Returns the value that was there before, or NULL. */
void *map_put(struct map *m, struct str key, void *value);
void *map_remove(struct map *m, struct str key);

/* Order is arbitrary; the map must not change in the body. */
#define map_foreach(e, m)                                                                                              \
	for (struct map_entry *e = (m)->slots; e && e < (m)->slots + (m)->cap; e++)                                    \
		if (e->key)
