/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that the transform would store differently today (a new key, encryption switched on or off) are written again
 * in small steps while the store serves. When none is left, what they held before is removed from the free space of
 * the files too; that this is owed is remembered on disk, so a crash at any point only means that the rest is done
 * after the next start. Nothing runs when there is nothing to do.
 *
 * A step hands the present states of some rows to the writer, as riders of an empty transaction: a row that changes
 * meanwhile is written after that, newer, and in today's form as well. Loop thread. */
#include <errno.h>

#include "datastore/internal.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

static void on_timer(struct loop_timer *timer);
static void step_done(void *arg, const struct err *err);

void rewrite_init(struct store *s)
{
	loop_timer_init(&s->rewrite.timer, on_timer);
}

void rewrite_forget(struct store *s, struct entry *e)
{
	e->stale = false;
	s->rewrite.left--;
}

static void arm(struct store *s, int64_t delay_ns)
{
	if (!s->closing)
		loop_timer_arm(s->loop, &s->rewrite.timer, delay_ns);
}

static void drop_step(struct rewrite *w)
{
	for (size_t i = 0; i < w->n_step; i++)
		object_unref(w->step[i]);
	w->n_step = 0;
}

/* The next stale entry from the cursor on, over all resources. */
static struct entry *next_stale(struct store *s)
{
	struct rewrite *w = &s->rewrite;

	for (; w->resource < s->n_resources; w->resource++) {
		struct entry *e =
			index_seek(&s->index, w->resource, buf_str(&w->ns), buf_str(&w->name), buf_len(&w->name) > 0);

		buf_reset(&w->ns);
		buf_reset(&w->name);
		for (; e; e = e->next[0]) {
			/* What is pending writes the row itself. */
			if (!e->stale || e->n_pending > 0 || !e->current)
				continue;
			buf_add_str(&w->ns, e->ns);
			buf_add_str(&w->name, e->name);
			return e;
		}
	}
	w->resource = 0;
	return NULL;
}

static void take_step(struct store *s, struct list *riders)
{
	struct rewrite *w = &s->rewrite;
	size_t bytes = 0;

	while (w->n_step < STORE_REWRITE_STEP && bytes < STORE_REWRITE_BYTES_MAX) {
		struct entry *e = next_stale(s);
		struct dirty *d;

		if (!e)
			return;
		d = mem_new(struct dirty);
		d->resource = s->resources[e->resource];
		d->object = object_ref(e->current);
		d->row = e->row;
		list_add_tail(riders, &d->link);
		w->step[w->n_step++] = object_ref(e->current);
		bytes += e->current->json.n;
	}
}

static void scrub_done(void *arg, const struct err *err)
{
	struct store *s = arg;

	s->rewrite.under_way = false;
	if (err || s->rewrite.scrub)
		arm(s, STORE_REWRITE_RETRY_NS);
	else if (s->rewrite.total > 0)
		log_info("stored objects rewritten n=%zu", s->rewrite.total);
}

static void on_timer(struct loop_timer *timer)
{
	struct store *s = container_of(timer, struct store, rewrite.timer);
	struct list riders = LIST_INIT(riders);

	if (s->closing || s->rewrite.under_way)
		return;
	if (s->rewrite.left > 0) {
		take_step(s, &riders);
		if (list_empty(&riders)) { /* all that are left have a write under way */
			arm(s, STORE_REWRITE_PAUSE_NS);
			return;
		}
		s->rewrite.under_way = true;
		store_write_rows(s, &riders, SCRUB_NONE, step_done, s);
		return;
	}
	if (!s->rewrite.scrub)
		return;
	s->rewrite.under_way = true;
	store_write_rows(s, &riders, SCRUB_NOW, scrub_done, s);
}

static void step_done(void *arg, const struct err *err)
{
	struct store *s = arg;
	struct rewrite *w = &s->rewrite;

	w->under_way = false;
	for (size_t i = 0; i < w->n_step && !err; i++) {
		struct entry *e = index_find(&s->index, w->step[i]->resource, w->step[i]->ns, w->step[i]->name);

		if (e && e->stale)
			rewrite_forget(s, e);
	}
	drop_step(w);
	arm(s, err ? STORE_REWRITE_RETRY_NS : STORE_REWRITE_PAUSE_NS);
}

void rewrite_start(struct store *s)
{
	int64_t form = s->db.transform ? s->db.transform->form : 0, on_disk = 0;
	struct rewrite *w = &s->rewrite;

	database_meta(&s->db, "transform", &on_disk, NULL);
	w->total = w->left;
	w->saved = form != on_disk;
	w->scrub = w->saved || w->left > 0;
	if (w->scrub)
		arm(s, STORE_REWRITE_PAUSE_NS);
}

void rewrite_stop(struct store *s)
{
	loop_timer_cancel(s->loop, &s->rewrite.timer);
	drop_step(&s->rewrite);
	buf_finish(&s->rewrite.ns);
	buf_finish(&s->rewrite.name);
}
