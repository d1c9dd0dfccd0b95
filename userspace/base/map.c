/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing and backward-shift deletion; hashed with SipHash-like
 * mixing under a per-process seed, because clients choose the keys. See map.h. */
#include "userspace/base/map.h"

#include <stdlib.h>
#include <sys/random.h>

#include "userspace/base/mem.h"

#define MAP_CAP_MIN 16

static inline uint64_t rotl(uint64_t x, int b)
{
	return (x << b) | (x >> (64 - b));
}

#define SIP_ROUND                                                                                                      \
	do {                                                                                                           \
		v0 += v1, v1 = rotl(v1, 13), v1 ^= v0, v0 = rotl(v0, 32);                                              \
		v2 += v3, v3 = rotl(v3, 16), v3 ^= v2;                                                                 \
		v0 += v3, v3 = rotl(v3, 21), v3 ^= v0;                                                                 \
		v2 += v1, v1 = rotl(v1, 17), v1 ^= v2, v2 = rotl(v2, 32);                                              \
	} while (0)

static uint64_t hash_seed[2];

__attribute__((constructor)) static void hash_seed_init(void)
{
	if (getrandom(hash_seed, sizeof(hash_seed), GRND_NONBLOCK) != (ssize_t)sizeof(hash_seed))
		hash_seed[0] = (uint64_t)(uintptr_t)&hash_seed ^ (uint64_t)getpid();
}

/* SipHash-1-3. */
uint64_t hash_bytes(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t v0 = hash_seed[0] ^ 0x736f6d6570736575ULL, v1 = hash_seed[1] ^ 0x646f72616e646f6dULL;
	uint64_t v2 = hash_seed[0] ^ 0x6c7967656e657261ULL, v3 = hash_seed[1] ^ 0x7465646279746573ULL;
	uint64_t last = (uint64_t)n << 56, m;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&m, p, 8);
		v3 ^= m;
		SIP_ROUND;
		v0 ^= m;
	}
	m = 0;
	if (n)
		memcpy(&m, p, n);
	last |= m;
	v3 ^= last;
	SIP_ROUND;
	v0 ^= last;
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

void map_finish(struct map *m)
{
	if (!m)
		return;
	map_foreach(e, m)
		free(e->key);
	free(m->slots);
	*m = MAP_INIT;
}

static struct map_entry *map_find(const struct map *m, struct str key, uint32_t hash)
{
	uint32_t mask = m->cap - 1;

	for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
		struct map_entry *e = &m->slots[i];

		if (!e->key ||
		    (e->hash == hash && e->key_len == key.n && memcmp(e->key, key.p ? key.p : "", key.n) == 0))
			return e;
	}
}

void *map_get(const struct map *m, struct str key)
{
	if (!m->n)
		return NULL;
	return map_find(m, key, (uint32_t)hash_bytes(key.p, key.n))->value;
}

bool map_has(const struct map *m, struct str key)
{
	return m->n && map_find(m, key, (uint32_t)hash_bytes(key.p, key.n))->key;
}

static void map_resize(struct map *m, uint32_t cap)
{
	struct map_entry *old = m->slots;
	uint32_t old_cap = m->cap;

	m->slots = mem_calloc(cap, sizeof(*m->slots));
	m->cap = cap;
	for (uint32_t i = 0; i < old_cap; i++) {
		uint32_t at;

		if (!old[i].key)
			continue;
		for (at = old[i].hash & (cap - 1); m->slots[at].key; at = (at + 1) & (cap - 1))
			;
		m->slots[at] = old[i];
	}
	free(old);
}

void *map_put(struct map *m, struct str key, void *value)
{
	uint32_t hash = (uint32_t)hash_bytes(key.p, key.n);
	struct map_entry *e;
	void *before;

	if ((m->n + 1) * 4 > m->cap * 3)
		map_resize(m, m->cap ? m->cap * 2 : MAP_CAP_MIN);
	e = map_find(m, key, hash);
	before = e->value;
	if (!e->key) {
		e->key = str_dup(key);
		e->key_len = (uint32_t)key.n;
		e->hash = hash;
		m->n++;
		before = NULL;
	}
	e->value = value;
	return before;
}

void *map_remove(struct map *m, struct str key)
{
	struct map_entry *e;
	uint32_t hole, at, mask;
	void *value;

	if (!m->n)
		return NULL;
	e = map_find(m, key, (uint32_t)hash_bytes(key.p, key.n));
	if (!e->key)
		return NULL;
	value = e->value;
	free(e->key);
	m->n--;
	mask = m->cap - 1;
	hole = (uint32_t)(e - m->slots);
	for (at = (hole + 1) & mask; m->slots[at].key; at = (at + 1) & mask) {
		uint32_t home = m->slots[at].hash & mask;

		/* Move back what could have stood in the hole. */
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			m->slots[hole] = m->slots[at];
			hole = at;
		}
	}
	m->slots[hole] = (struct map_entry){ 0 };
	if (m->cap > MAP_CAP_MIN * 4 && m->n * 8 < m->cap)
		map_resize(m, m->cap / 2);
	return value;
}
