/* SPDX-License-Identifier: Apache-2.0 */
/* The newest events in a ring, bounded by count and by the bytes of superseded objects they hold
 * alive, and the watchers by resource.
 *
 * Invariants: revisions in the ring only grow; a resource's `compacted` is the revision of its last
 * event that fell out (or where the store started), so a quiet resource never expires because of a
 * busy one. Loop thread. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "datastore/internal.h"
#include "userspace/base/mem.h"

struct store_event *store_event_ref(struct store_event *e)
{
	e->refs++;
	return e;
}

static void drop_wire(struct store_event *e)
{
	for (size_t i = 0; i < STORE_WIRE_FORMS; i++) {
		chunk_unref(e->wire[i]);
		e->wire[i] = NULL;
	}
}

void store_event_unref(struct store_event *e)
{
	if (!e)
		return;
	assert(e->refs > 0);
	if (--e->refs > 0)
		return;
	drop_wire(e);
	object_unref(e->object);
	object_unref(e->prev);
	free(e);
}

void history_add_resource(struct history *h, int64_t revision)
{
	struct history_resource *r = mem_new(struct history_resource);

	list_init(&r->watchers);
	r->compacted = revision;
	mem_grow(h->resources, h->resources_cap, h->n_resources + 1);
	h->resources[h->n_resources++] = r;
}

struct store_event *history_at(const struct history *h, size_t i)
{
	assert(i < h->n);
	return h->ring[(h->first + i) & (h->cap - 1)];
}

size_t history_after(const struct history *h, int64_t revision)
{
	size_t low = 0, high = h->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (history_at(h, mid)->revision <= revision)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What an event keeps alive that nothing else would. */
static size_t cost(const struct store_event *e)
{
	size_t n = sizeof(*e);

	if (e->prev)
		n += sizeof(*e->prev) + e->prev->json.n;
	if (e->type == STORE_DELETED)
		n += sizeof(*e->object) + e->object->json.n;
	return n;
}

static void drop_oldest(struct history *h)
{
	struct store_event *e = history_at(h, 0);

	h->resources[e->object->resource]->compacted = e->revision;
	h->bytes -= cost(e);
	h->first = (h->first + 1) & (h->cap - 1);
	h->n--;
	store_event_unref(e);
}

static void grow(struct history *h)
{
	size_t cap = h->cap ? h->cap * 2 : 64;
	struct store_event **ring = mem_new_array(struct store_event *, cap);

	for (size_t i = 0; i < h->n; i++)
		ring[i] = history_at(h, i);
	free(h->ring);
	h->ring = ring;
	h->cap = cap;
	h->first = 0;
}

static void keep(struct history *h, struct store_event *e)
{
	while (h->n > 0 && (h->n >= h->events_max || h->bytes + cost(e) > h->bytes_max))
		drop_oldest(h);
	if (h->n == h->cap)
		grow(h);
	h->ring[(h->first + h->n) & (h->cap - 1)] = e;
	h->n++;
	h->bytes += cost(e);
	if (h->n > STORE_WIRE_KEEP)
		drop_wire(history_at(h, h->n - 1 - STORE_WIRE_KEEP));
}

void history_publish(struct history *h, struct store_event *e)
{
	struct list *head = &h->resources[e->object->resource]->watchers;

	assert(!h->cursor);
	keep(h, e);
	store_event_ref(e); /* a tiny history may drop it while watchers look */
	for (struct list *at = head->next; at != head; at = h->cursor) {
		struct store_watch *w = list_entry(at, struct store_watch, link);

		h->cursor = at->next;
		if (w->revision >= e->revision)
			continue; /* started meanwhile, on a state that has this already */
		w->revision = e->revision;
		w->fn(w, e);
	}
	h->cursor = NULL;
	store_event_unref(e);
}

void history_finish(struct history *h)
{
	for (size_t i = 0; i < h->n; i++)
		store_event_unref(history_at(h, i));
	for (size_t i = 0; i < h->n_resources; i++) {
		struct list *head = &h->resources[i]->watchers;

		while (!list_empty(head)) /* so that a late stop is a no-op */
			list_del(head->next);
		free(h->resources[i]);
	}
	free(h->resources);
	free(h->ring);
}

static int expired(struct err *err, int64_t from, int64_t oldest)
{
	return err_set_status(err, -ESTALE, 410, "Expired", "too old resource version: %lld (%lld)", (long long)from,
			      (long long)oldest);
}

int store_watch_start(struct store *s, struct store_watch *w, uint16_t resource, int64_t from, struct err *err)
{
	struct history *h = &s->history;
	int64_t oldest;

	assert(resource < h->n_resources && w->fn);
	oldest = h->resources[resource]->compacted;
	if (from >= 0 && from < oldest)
		return expired(err, from, oldest);
	w->resource = resource;
	w->revision = from >= 0 ? from : s->revision;
	list_add_tail(&h->resources[resource]->watchers, &w->link);
	h->n_watchers++;
	if (from < 0)
		return 0;
	for (size_t i = history_after(h, from); i < h->n; i++) {
		struct store_event *e = history_at(h, i);

		if (e->object->resource != resource || e->revision > s->revision)
			continue;
		w->revision = e->revision;
		w->fn(w, e);
		if (!w->link.next || list_empty(&w->link))
			return 0; /* it stopped itself */
	}
	return 0;
}

void store_watch_stop(struct store *s, struct store_watch *w)
{
	if (!w->link.next || list_empty(&w->link))
		return;
	if (s->history.cursor == &w->link)
		s->history.cursor = w->link.next;
	list_del(&w->link);
	s->history.n_watchers--;
}

int64_t store_oldest_revision(struct store *s, uint16_t resource)
{
	assert(resource < s->history.n_resources);
	return s->history.resources[resource]->compacted;
}
