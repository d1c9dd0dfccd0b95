/* SPDX-License-Identifier: Apache-2.0 */
/* Objects by key (hash), in order of (ns, name) for each resource (skip list), by uid and by owner.
 *
 * Invariants: the ordered, uid and owner indexes hold exactly what is published; the hash holds also
 * keys that only have pending writes. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "datastore/internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

void index_init(struct index *x)
{
	*x = (struct index){ .random = (uint64_t)clock_monotonic_ns() | 1 };
}

void index_add_resource(struct index *x)
{
	mem_grow(x->ordered, x->resources_cap, x->n_resources + 1);
	x->ordered[x->n_resources++] = mem_new(struct ordered);
}

static uint32_t key_hash(uint16_t resource, struct str ns, struct str name)
{
	uint64_t a = hash_bytes(ns.p, ns.n), b = hash_bytes(name.p, name.n);

	return (uint32_t)((a * 31 + b + resource) * 0x9E3779B97F4A7C15ULL >> 32);
}

static uint32_t uid_hash(struct str uid)
{
	return (uint32_t)hash_bytes(uid.p, uid.n);
}

static struct entry **link_of(struct entry *e, bool uid)
{
	return uid ? &e->uid_next : &e->hash_next;
}

static void buckets_grow(struct buckets *b, bool uid)
{
	uint32_t cap = b->cap ? b->cap * 2 : 256;
	struct entry **slots;

	if (b->n < b->cap)
		return;
	slots = mem_new_array(struct entry *, cap);
	for (uint32_t i = 0; i < b->cap; i++) {
		for (struct entry *e = b->slots[i], *next; e; e = next) {
			uint32_t at = (uid ? e->uid_hash : e->hash) & (cap - 1);

			next = *link_of(e, uid);
			*link_of(e, uid) = slots[at];
			slots[at] = e;
		}
	}
	free(b->slots);
	b->slots = slots;
	b->cap = cap;
}

static void buckets_add(struct buckets *b, struct entry *e, uint32_t hash, bool uid)
{
	uint32_t at;

	buckets_grow(b, uid);
	at = hash & (b->cap - 1);
	*link_of(e, uid) = b->slots[at];
	b->slots[at] = e;
	b->n++;
}

static void buckets_remove(struct buckets *b, struct entry *e, uint32_t hash, bool uid)
{
	for (struct entry **at = &b->slots[hash & (b->cap - 1)]; *at; at = link_of(*at, uid)) {
		if (*at == e) {
			*at = *link_of(e, uid);
			b->n--;
			return;
		}
	}
	assert(!"an indexed entry is in its bucket");
}

struct entry *index_find(const struct index *x, uint16_t resource, struct str ns, struct str name)
{
	uint32_t hash = key_hash(resource, ns, name);

	if (x->by_key.cap == 0)
		return NULL;
	for (struct entry *e = x->by_key.slots[hash & (x->by_key.cap - 1)]; e; e = e->hash_next)
		if (e->hash == hash && e->resource == resource && str_eq(e->name, name) && str_eq(e->ns, ns))
			return e;
	return NULL;
}

static uint8_t random_level(struct index *x)
{
	uint8_t level = 1;

	x->random ^= x->random << 13;
	x->random ^= x->random >> 7;
	x->random ^= x->random << 17;
	for (uint64_t bits = x->random; (bits & 3) == 0 && level < STORE_LEVELS_MAX; bits >>= 2)
		level++;
	return level;
}

/* The level is drawn when the entry is made, because its size depends on it; 0 says "not in the order". */
static uint8_t *drawn_level(struct entry *e)
{
	return (uint8_t *)(uintptr_t)e->ns.p - 1;
}

struct entry *index_ensure(struct index *x, uint16_t resource, struct str ns, struct str name)
{
	struct entry *e = index_find(x, resource, ns, name);
	uint8_t level;
	char *text;

	if (e)
		return e;
	level = random_level(x);
	e = mem_zalloc(sizeof(*e) + level * sizeof(e->next[0]) + 1 + ns.n + name.n);
	text = (char *)&e->next[level];
	*text++ = (char)level;
	if (ns.n)
		memcpy(text, ns.p, ns.n);
	if (name.n)
		memcpy(text + ns.n, name.p, name.n);
	e->ns = str_make(text, ns.n);
	e->name = str_make(text + ns.n, name.n);
	e->resource = resource;
	e->hash = key_hash(resource, ns, name);
	buckets_add(&x->by_key, e, e->hash, false);
	return e;
}

int index_compare(struct str ns_a, struct str name_a, struct str ns_b, struct str name_b)
{
	int order = str_cmp(ns_a, ns_b);

	return order ? order : str_cmp(name_a, name_b);
}

static void ordered_add(struct ordered *o, struct entry *e)
{
	uint8_t level = *drawn_level(e);
	struct entry **links = o->head;

	if (o->levels < level)
		o->levels = level;
	for (int i = o->levels - 1; i >= 0; i--) {
		while (links[i] && index_compare(links[i]->ns, links[i]->name, e->ns, e->name) < 0)
			links = links[i]->next;
		if (i < level) {
			e->next[i] = links[i];
			links[i] = e;
		}
	}
	e->level = level;
	o->n++;
}

static void ordered_remove(struct ordered *o, struct entry *e)
{
	struct entry **links = o->head;

	for (int i = o->levels - 1; i >= 0; i--) {
		while (links[i] && links[i] != e && index_compare(links[i]->ns, links[i]->name, e->ns, e->name) < 0)
			links = links[i]->next;
		if (links[i] == e)
			links[i] = e->next[i];
	}
	while (o->levels > 0 && !o->head[o->levels - 1])
		o->levels--;
	e->level = 0;
	o->n--;
}

struct entry *index_seek(const struct index *x, uint16_t resource, struct str ns, struct str name, bool after)
{
	const struct ordered *o = x->ordered[resource];
	struct entry *const *links = o->head;

	if (o->levels == 0)
		return NULL;
	for (int i = o->levels - 1; i >= 0; i--)
		while (links[i] && index_compare(links[i]->ns, links[i]->name, ns, name) < (after ? 1 : 0))
			links = links[i]->next;
	return links[0];
}

static void owners_add(struct index *x, struct entry *e)
{
	const struct object *o = e->current;

	if (o->n_owners == 0)
		return;
	e->owners = mem_new_array(struct owner_link, o->n_owners);
	e->n_owners = o->n_owners;
	for (uint32_t i = 0; i < e->n_owners; i++) {
		struct owner_set *set = map_get(&x->owners, o->owners[i].uid);

		if (!set) {
			set = mem_new(struct owner_set);
			set->uid = str_dup(o->owners[i].uid);
			list_init(&set->links);
			map_put(&x->owners, o->owners[i].uid, set);
		}
		e->owners[i].entry = e;
		e->owners[i].set = set;
		list_add_tail(&set->links, &e->owners[i].link);
	}
}

static void owners_remove(struct index *x, struct entry *e)
{
	for (uint32_t i = 0; i < e->n_owners; i++) {
		struct owner_set *set = e->owners[i].set;

		list_del(&e->owners[i].link);
		if (list_empty(&set->links)) {
			map_remove(&x->owners, str_of(set->uid));
			free(set->uid);
			free(set);
		}
	}
	free(e->owners);
	e->owners = NULL;
	e->n_owners = 0;
}

static bool same_owners(const struct object *a, const struct object *b)
{
	if (a->n_owners != b->n_owners)
		return false;
	for (size_t i = 0; i < a->n_owners; i++)
		if (!str_eq(a->owners[i].uid, b->owners[i].uid))
			return false;
	return true;
}

const struct object *index_publish(struct index *x, struct entry *e, const struct object *o)
{
	const struct object *old = e->current;
	bool owners_stay = old && o && same_owners(old, o);
	bool uid_stays = old && o && str_eq(old->uid, o->uid);

	if (old && !owners_stay)
		owners_remove(x, e);
	if (old && !uid_stays)
		buckets_remove(&x->by_uid, e, e->uid_hash, true);
	e->current = o;
	if (o && !owners_stay)
		owners_add(x, e);
	if (o && !uid_stays) {
		e->uid_hash = uid_hash(o->uid);
		buckets_add(&x->by_uid, e, e->uid_hash, true);
	}
	if (o && !old)
		ordered_add(x->ordered[e->resource], e);
	else if (!o && old)
		ordered_remove(x->ordered[e->resource], e);
	x->objects += (o ? 1 : 0);
	x->objects -= (old ? 1 : 0);
	x->object_bytes += o ? o->json.n : 0;
	x->object_bytes -= old ? old->json.n : 0;
	return old;
}

void index_release(struct index *x, struct entry *e)
{
	if (e->current || e->n_pending > 0)
		return;
	assert(!e->dirty && e->level == 0);
	buckets_remove(&x->by_key, e, e->hash, false);
	object_unref(e->newest);
	free(e);
}

struct entry *index_by_uid(const struct index *x, struct str uid)
{
	uint32_t hash = uid_hash(uid);

	if (x->by_uid.cap == 0)
		return NULL;
	for (struct entry *e = x->by_uid.slots[hash & (x->by_uid.cap - 1)]; e; e = e->uid_next)
		if (e->uid_hash == hash && str_eq(e->current->uid, uid))
			return e;
	return NULL;
}

void index_finish(struct index *x)
{
	for (uint32_t i = 0; i < x->by_key.cap; i++) {
		for (struct entry *e = x->by_key.slots[i], *next; e; e = next) {
			next = e->hash_next;
			owners_remove(x, e);
			object_unref(e->current);
			object_unref(e->newest);
			free(e);
		}
	}
	free(x->by_key.slots);
	free(x->by_uid.slots);
	for (size_t i = 0; i < x->n_resources; i++)
		free(x->ordered[i]);
	free(x->ordered);
	map_finish(&x->owners);
}
