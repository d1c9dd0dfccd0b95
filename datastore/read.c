/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over the objects: all of them, those of an owner, and as of a past revision (today's order
 * with the history's changes taken back); and the figures for `status`. Loop thread. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "datastore/internal.h"
#include "userspace/base/mem.h"

void store_each(struct store *s, uint16_t resource, struct str ns, store_each_fn *fn, void *arg)
{
	struct entry *e;

	assert(resource < s->n_resources);
	e = index_seek(&s->index, resource, ns, STR_NULL, false);
	for (; e && (ns.n == 0 || str_eq(e->ns, ns)); e = e->next[0])
		fn(arg, e->current);
}

void store_each_owned(struct store *s, struct str owner_uid, store_each_fn *fn, void *arg)
{
	struct owner_set *set = map_get(&s->index.owners, owner_uid);

	if (!set)
		return;
	list_foreach(l, &set->links, struct owner_link, link)
		fn(arg, l->entry->current);
}

/* ---- the past ---- */

struct past {
	struct str ns, name;
	const struct object *state; /* as of then; NULL: was not there */
};

struct pasts {
	struct past *items; /* sorted by key */
	size_t n, cap;
};

static int compare_past(const void *a, const void *b)
{
	const struct past *x = a, *y = b;

	return index_compare(x->ns, x->name, y->ns, y->name);
}

/* Keeps the first of each key: the sort is made stable by the revision of the event. */
struct past_event {
	struct past past;
	int64_t revision;
};

static int compare_past_event(const void *a, const void *b)
{
	const struct past_event *x = a, *y = b;
	int order = compare_past(&x->past, &y->past);

	return order ? order : (x->revision > y->revision) - (x->revision < y->revision);
}

/* What every key that changed after `revision` was at `revision`. */
static void collect(struct store *s, uint16_t resource, int64_t revision, struct pasts *ret)
{
	struct history *h = &s->history;
	_cleanup_free_ struct past_event *events = NULL;
	size_t n = 0, cap = 0;

	for (size_t i = history_after(h, revision); i < h->n; i++) {
		const struct store_event *e = history_at(h, i);

		if (e->object->resource != resource)
			continue;
		mem_grow(events, cap, n + 1);
		events[n++] = (struct past_event){ { e->object->ns, e->object->name, e->prev }, e->revision };
	}
	if (n > 1)
		qsort(events, n, sizeof(*events), compare_past_event);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && compare_past(&events[i].past, &events[i - 1].past) == 0)
			continue;
		mem_grow(ret->items, ret->cap, ret->n + 1);
		ret->items[ret->n++] = events[i].past;
	}
}

static int check_past(struct store *s, uint16_t resource, int64_t revision, struct err *err)
{
	int64_t oldest = s->history.resources[resource]->compacted;

	if (revision > s->revision)
		return err_set_status(err, -EINVAL, 504, "Timeout", "Too large resource version: %lld, current: %lld",
				      (long long)revision, (long long)s->revision);
	if (revision < oldest)
		return err_set_status(err, -ESTALE, 410, "Expired", "too old resource version: %lld (%lld)",
				      (long long)revision, (long long)oldest);
	return 0;
}

static bool in_scope(struct str ns, struct str of)
{
	return ns.n == 0 || str_eq(ns, of);
}

int store_walk(struct store *s, uint16_t resource, struct str ns, int64_t at_revision, struct str after_ns,
	       struct str after_name, store_walk_fn *fn, void *arg, struct err *err)
{
	struct pasts pasts = { 0 };
	struct entry *e;
	size_t i = 0;

	assert(resource < s->n_resources);
	if (at_revision > 0) {
		int r = check_past(s, resource, at_revision, err);

		if (r < 0)
			return r;
		collect(s, resource, at_revision, &pasts);
	}
	if (ns.n > 0 && index_compare(after_ns, after_name, ns, STR_NULL) < 0) {
		after_ns = ns;
		after_name = STR_NULL;
	}
	e = index_seek(&s->index, resource, after_ns, after_name, true);
	while (i < pasts.n && index_compare(pasts.items[i].ns, pasts.items[i].name, after_ns, after_name) <= 0)
		i++;
	for (;;) {
		const struct past *p = i < pasts.n && in_scope(ns, pasts.items[i].ns) ? &pasts.items[i] : NULL;
		const struct entry *now = e && in_scope(ns, e->ns) ? e : NULL;
		int order = !p ? 1 : !now ? -1 : index_compare(p->ns, p->name, now->ns, now->name);
		const struct object *o;

		if (!p && !now)
			break;
		o = order <= 0 ? p->state : now->current;
		if (order <= 0)
			i++;
		if (order >= 0)
			e = e->next[0];
		if (o && !fn(arg, o))
			break;
	}
	free(pasts.items);
	return 0;
}

/* ---- figures ---- */

static uint64_t file_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void store_get_stats(struct store *s, struct store_stats *ret)
{
	struct writer *w = &s->writer;

	*ret = (struct store_stats){
		.revision = s->revision,
		.objects = s->index.objects,
		.object_bytes = s->index.object_bytes,
		.db_bytes = file_bytes(s->db.path),
		.wal_bytes = file_bytes(s->db.wal_path),
		.queued = s->n_pending,
		.queued_bytes = s->pending_bytes,
		.lazy_dirty = s->n_dirty,
		.history_events = s->history.n,
		.history_bytes = s->history.bytes,
		.watchers = s->history.n_watchers,
		.rewrite_total = s->rewrite.total,
		.rewrite_left = s->rewrite.left,
		.rewriting = s->rewrite.left > 0 || s->rewrite.scrub,
	};
	pthread_mutex_lock(&w->lock);
	ret->bytes_written = w->bytes_written;
	ret->commits = w->commits;
	ret->commit_failures = w->failures;
	ret->records = w->records;
	ret->checkpoints = w->checkpoints;
	ret->last_commit_real_ns = w->last_commit_real_ns;
	ret->commit_p50_ns = histogram_quantile(&w->commits_ns, 0.5);
	ret->commit_p99_ns = histogram_quantile(&w->commits_ns, 0.99);
	ret->fsync_p50_ns = histogram_quantile(&w->fsyncs_ns, 0.5);
	ret->fsync_p99_ns = histogram_quantile(&w->fsyncs_ns, 0.99);
	pthread_mutex_unlock(&w->lock);
}
