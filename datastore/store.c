/* SPDX-License-Identifier: Apache-2.0 */
/* The store itself: preconditions against the newest pending state, revisions, the line of
 * transactions that wait to be published, what happens when the disk refuses, and the lazy set.
 *
 * Invariants:
 * - `fifo` holds every transaction that was given revisions and is not published, in that order; only
 *   its head is ever published, so memory, history and watchers see revisions only grow.
 * - Publishing never happens inside a call that reads or writes: borrowed pointers hold until the loop.
 * - given <= reserve_submitted, and what is published <= reserve_durable.
 * Loop thread. */
#include "datastore/store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "datastore/internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

/* ---- transactions ---- */

static void dirty_destroy(struct dirty *d)
{
	if (d->entry)
		d->entry->dirty = NULL;
	list_del(&d->link);
	object_unref(d->object);
	free(d);
}

static void txn_destroy(struct txn *t)
{
	list_foreach_safe(d, &t->riders, struct dirty, link)
		dirty_destroy(d);
	for (size_t i = 0; i < t->n_ops; i++)
		object_unref(t->ops[i].object);
	free(t);
}

static struct txn *txn_create(struct store *s, size_t n_ops)
{
	struct txn *t = mem_zalloc(sizeof(*t) + n_ops * sizeof(t->ops[0]));

	list_init(&t->fifo);
	list_init(&t->riders);
	t->n_ops = n_ops;
	t->epoch = s->epoch;
	return t;
}

/* ---- the lazy set ---- */

static void on_lazy_timer(struct loop_timer *timer);

static void arm_lazy(struct store *s)
{
	if (!loop_timer_armed(&s->lazy_timer) && !s->closing)
		loop_timer_arm(s->loop, &s->lazy_timer, s->lazy_flush_ns);
}

/* The state of the row that the disk must get to know, in place of an older one that waits. */
static void mark_dirty(struct store *s, struct entry *e, const struct txn_op *op, bool timed)
{
	struct dirty *d = e->dirty;

	if (!op->remove && e->n_pending > 0) {
		/* A later write of this row is under way and decides what the disk gets. */
		e->owed = true;
		e->owed_timed = e->owed_timed || timed;
		return;
	}
	if (!d) {
		d = mem_new(struct dirty);
		list_add_tail(&s->dirty, &d->link);
		s->n_dirty++;
		d->resource = op->resource;
		d->row = op->row;
		d->entry = e;
		e->dirty = d;
	}
	object_unref(d->object);
	d->object = op->remove ? NULL : object_ref(op->object);
	d->timed = d->timed || timed;
	if (op->remove) {
		d->entry = NULL;
		e->dirty = NULL;
	}
	if (timed)
		arm_lazy(s);
}

static void take_riders(struct store *s, struct txn *t)
{
	while (!list_empty(&s->dirty)) {
		struct dirty *d = list_first(&s->dirty, struct dirty, link);

		list_del(&d->link);
		if (d->entry)
			d->entry->dirty = NULL;
		d->entry = NULL;
		list_add_tail(&t->riders, &d->link);
	}
	s->n_dirty = 0;
	loop_timer_cancel(s->loop, &s->lazy_timer);
}

/* Back to the front, in order: newer states of the same rows wait behind them. */
static void return_riders(struct store *s, struct txn *t)
{
	while (!list_empty(&t->riders)) {
		struct dirty *d = list_entry(t->riders.prev, struct dirty, link);

		list_del(&d->link);
		list_add_head(&s->dirty, &d->link);
		s->n_dirty++;
		if (d->timed)
			arm_lazy(s);
	}
}

/* ---- publishing ---- */

static void apply_op(struct store *s, struct txn *t, struct txn_op *op, struct store_event **ret_event)
{
	struct entry *e = op->entry;
	struct store_event *event = mem_new(struct store_event);
	const struct object *old = index_publish(&s->index, e, op->remove ? NULL : object_ref(op->object));

	event->refs = 1;
	event->revision = op->object->revision;
	event->object = object_ref(op->object);
	event->prev = old; /* with its reference */
	event->type = op->remove ? STORE_DELETED : old ? STORE_MODIFIED : STORE_ADDED;
	e->row = op->row;
	op->counted = false;
	if (--e->n_pending == 0) {
		object_unref(e->newest);
		e->newest = NULL;
	}
	if (t->durability != STORE_DURABLE)
		mark_dirty(s, e, op, t->durability == STORE_LAZY);
	else
		e->owed = e->owed_timed = false;
	if (e->stale && (op->remove || t->durability == STORE_DURABLE))
		rewrite_forget(s, e);
	index_release(&s->index, e);
	*ret_event = event;
}

static void publish_txn(struct store *s, struct txn *t)
{
	struct store_event *events[STORE_OPS_MAX];

	list_del(&t->fifo);
	s->pending_bytes -= t->bytes;
	s->n_pending--;
	if (t->reserve)
		s->reserve_durable = t->reserve;
	if (t->scrub == SCRUB_OWED)
		s->rewrite.saved = true;
	else if (t->scrub == SCRUB_NOW)
		s->rewrite.scrub = !t->scrubbed;
	for (size_t i = 0; i < t->n_ops; i++)
		apply_op(s, t, &t->ops[i], &events[i]);
	if (t->n_ops > 0)
		s->revision = t->ops[t->n_ops - 1].object->revision;
	for (size_t i = 0; i < t->n_ops; i++)
		history_publish(&s->history, events[i]);
	if (t->done)
		t->done(t->arg, NULL);
	txn_destroy(t);
}

static bool first_is_ready(const struct store *s)
{
	return !list_empty(&s->fifo) && list_first(&s->fifo, struct txn, fifo)->ready;
}

/* What was in line at the start: watchers that answer each change with a lazy write must not keep the loop here. */
static void publish_ready(struct store *s)
{
	size_t n = s->n_pending;

	if (s->publishing)
		return;
	s->publishing = true;
	while (n-- > 0 && first_is_ready(s))
		publish_txn(s, list_first(&s->fifo, struct txn, fifo));
	s->publishing = false;
	if (first_is_ready(s))
		loop_defer(s->loop, &s->publish);
}

static void on_publish(struct loop_defer *defer)
{
	publish_ready(container_of(defer, struct store, publish));
}

/* ---- failure ---- */

/* The write that was to carry a published lazy state to disk has failed. */
static void pay_owed(struct store *s, struct entry *e)
{
	struct txn_op op = { .resource = s->resources[e->resource], .object = e->current, .row = e->row };
	bool timed = e->owed_timed;

	if (!e->owed)
		return;
	e->owed = e->owed_timed = false;
	if (e->current)
		mark_dirty(s, e, &op, timed);
}

static void drop_pending(struct store *s, struct txn *t)
{
	for (size_t i = 0; i < t->n_ops; i++) {
		struct txn_op *op = &t->ops[i];
		struct entry *e = op->entry;

		if (!op->counted)
			continue;
		op->counted = false;
		if (--e->n_pending == 0) {
			object_unref(e->newest);
			e->newest = NULL;
			pay_owed(s, e);
		}
		index_release(&s->index, e);
		op->entry = NULL;
	}
}

/* Everything in line was decided on states that will not come: all of it fails, and the next write starts
 * from what is published. */
static void fail_all(struct store *s, const struct err *err)
{
	struct list failed = LIST_INIT(failed);

	s->epoch++;
	s->reserve_submitted = s->reserve_durable;
	while (!list_empty(&s->fifo)) {
		struct txn *t = list_first(&s->fifo, struct txn, fifo);

		list_del(&t->fifo);
		list_add_tail(&failed, &t->fifo);
	}
	list_foreach(t, &failed, struct txn, fifo)
		drop_pending(s, t);
	/* Newest first, so that prepending leaves the oldest in front. The writer looks at nothing but the epoch of
	 * what it still holds of this one. */
	for (struct list *at = failed.prev; at != &failed; at = at->prev)
		return_riders(s, list_entry(at, struct txn, fifo));
	s->pending_bytes = 0;
	s->n_pending = 0;
	while (!list_empty(&failed)) {
		struct txn *t = list_first(&failed, struct txn, fifo);

		list_del(&t->fifo);
		if (t->done)
			t->done(t->arg, err);
		if (t->at_writer)
			t->abandoned = true;
		else
			txn_destroy(t);
	}
}

static void set_commit_error(struct err *err, int code, const char *text)
{
	err_set_status(err, code, code == -ENOSPC ? 507 : 500, "InternalError",
		       "Internal error occurred: the write could not be made durable: %s", text);
}

/* ---- from the writer ---- */

static void take_failed(struct store *s, struct batch_result *b)
{
	_cleanup_err_ struct err err = ERR_INIT;
	bool fresh = false;

	for (struct txn *t = b->txns; t; t = t->next) {
		t->at_writer = false;
		fresh = fresh || !t->abandoned;
	}
	if (fresh) {
		set_commit_error(&err, b->code, b->error);
		log_error("commit failed error=\"%s\" writes=%zu", b->error, s->n_pending);
	}
	for (struct txn *t = b->txns, *next; t; t = next) {
		next = t->next;
		if (t->abandoned)
			txn_destroy(t);
	}
	if (fresh)
		fail_all(s, &err);
}

static void take_result(struct store *s, struct batch_result *b)
{
	if (b->code < 0) {
		take_failed(s, b);
		return;
	}
	for (struct txn *t = b->txns; t; t = t->next) {
		t->at_writer = false;
		t->ready = true;
	}
	publish_ready(s);
}

void store_drain(struct store *s)
{
	for (struct batch_result *b = writer_take(&s->writer), *next; b; b = next) {
		next = b->next;
		take_result(s, b);
		free(b->error);
		free(b);
	}
}

static void on_wake(struct loop_msg *msg)
{
	struct writer_wake *wake = container_of(msg, struct writer_wake, msg);

	if (!wake->store) {
		free(wake);
		return;
	}
	writer_listen(&wake->store->writer);
	store_drain(wake->store);
}

/* ---- writing ---- */

static const struct object *newest_of(const struct entry *e)
{
	if (!e)
		return NULL;
	return e->n_pending > 0 ? e->newest : e->current;
}

const struct object *store_newest(struct store *s, uint16_t resource, struct str ns, struct str name)
{
	assert(resource < s->n_resources);
	return newest_of(index_find(&s->index, resource, ns, name));
}

int64_t store_next_revision(const struct store *s)
{
	return s->given + 1;
}

static int check_op(struct store *s, const struct store_op *op, struct err *err)
{
	const struct object *o = op->object, *newest;

	assert(o->resource < s->n_resources && o->name.n > 0);
	if (o->json.n > STORE_VALUE_MAX)
		return err_set_status(err, -E2BIG, 413, "RequestEntityTooLarge", "the object is too large: %zu bytes",
				      o->json.n);
	newest = store_newest(s, o->resource, o->ns, o->name);
	if (!newest)
		return op->expect == 0 && !op->remove ? 0 : err_set(err, -ENOENT, "the object does not exist");
	if (op->expect == 0)
		return err_set(err, -EEXIST, "the object exists");
	if (newest->revision != op->expect)
		return err_set(err, -ESTALE, "the object has revision %lld, expected %lld", (long long)newest->revision,
			       (long long)op->expect);
	return 0;
}

static int check_all(struct store *s, const struct store_op *ops, size_t n, size_t *ret_failed, struct err *err)
{
	if (s->closing)
		return err_set_status(err, -ECANCELED, 503, "ServiceUnavailable", "the store is closing");
	if (s->pending_bytes > STORE_PENDING_BYTES_MAX)
		return err_set_status(err, -EBUSY, 429, "TooManyRequests", "too many writes wait for the disk");
	for (size_t i = 0; i < n; i++) {
		int r = check_op(s, &ops[i], err);

		if (r < 0) {
			if (ret_failed)
				*ret_failed = i;
			return r;
		}
	}
	return 0;
}

static void prepare_op(struct store *s, const struct store_op *from, struct txn_op *op)
{
	const struct object *o = from->object;
	struct entry *e = index_ensure(&s->index, o->resource, o->ns, o->name);
	const struct object *newest = newest_of(e);
	int64_t row = newest ? (e->n_pending > 0 ? e->newest_row : e->row) : s->next_row++;

	*op = (struct txn_op){
		.entry = e,
		.resource = s->resources[o->resource],
		.object = object_ref(o),
		.row = row,
		.remove = from->remove,
		.counted = true,
	};
	e->n_pending++;
	object_unref(e->newest);
	e->newest = from->remove ? NULL : object_ref(o);
	e->newest_row = row;
}

static void submit(struct store *s, struct txn *t)
{
	int64_t last = s->given;

	list_add_tail(&s->fifo, &t->fifo);
	s->n_pending++;
	s->pending_bytes += t->bytes;
	if (t->durability != STORE_DURABLE && last <= s->reserve_submitted) {
		t->ready = true;
		loop_defer(s->loop, &s->publish);
		return;
	}
	/* Durable, or lazy beyond the reservation: the mark must be on disk first. */
	if (last + STORE_REVISION_RESERVE / 2 > s->reserve_submitted) {
		t->reserve = last + STORE_REVISION_RESERVE;
		s->reserve_submitted = t->reserve;
	}
	t->durability = STORE_DURABLE;
	/* The first that changes the files tells them. */
	if (s->rewrite.scrub && !s->rewrite.saved && t->scrub == SCRUB_NONE)
		t->scrub = SCRUB_OWED;
	take_riders(s, t);
	writer_submit(&s->writer, t);
}

int store_commit(struct store *s, const struct store_op *ops, size_t n_ops, enum store_durability durability,
		 store_done_fn *done, void *arg, size_t *ret_failed, struct err *err)
{
	struct txn *t;
	int r;

	assert(s->loaded && n_ops <= STORE_OPS_MAX);
	r = check_all(s, ops, n_ops, ret_failed, err);
	if (r < 0)
		return r;
	t = txn_create(s, n_ops);
	t->durability = durability;
	t->done = done;
	t->arg = arg;
	for (size_t i = 0; i < n_ops; i++) {
		assert(ops[i].object->revision == s->given + 1);
		s->given++;
		prepare_op(s, &ops[i], &t->ops[i]);
		t->bytes += sizeof(struct object) + ops[i].object->json.n;
	}
	submit(s, t);
	return 0;
}

static void flush_lazy(struct store *s)
{
	struct txn *t = txn_create(s, 0);

	t->durability = STORE_DURABLE;
	submit(s, t);
}

void store_write_rows(struct store *s, struct list *riders, enum scrub scrub, store_done_fn *done, void *arg)
{
	struct txn *t = txn_create(s, 0);

	t->durability = STORE_DURABLE;
	t->scrub = scrub;
	t->done = done;
	t->arg = arg;
	while (!list_empty(riders)) {
		struct list *first = riders->next;

		list_del(first);
		list_add_tail(&t->riders, first);
	}
	submit(s, t);
}

static void on_lazy_timer(struct loop_timer *timer)
{
	struct store *s = container_of(timer, struct store, lazy_timer);

	if (!list_empty(&s->dirty))
		flush_lazy(s);
}

/* ---- opening, loading, closing ---- */

static void defaults(struct store_options *o)
{
	if (o->lazy_flush_ms == 0)
		o->lazy_flush_ms = STORE_LAZY_FLUSH_MS_DEFAULT;
	if (o->history_events == 0)
		o->history_events = STORE_HISTORY_EVENTS_DEFAULT;
	if (o->history_bytes == 0)
		o->history_bytes = STORE_HISTORY_BYTES_DEFAULT;
	if (o->wal_bytes_max == 0)
		o->wal_bytes_max = STORE_WAL_BYTES_DEFAULT;
}

int store_open(struct loop *loop, const struct store_options *options, struct store **ret, struct err *err)
{
	struct store_options o = *options;
	struct store *s = mem_new(struct store);
	struct writer_wake *wake;
	int r;

	defaults(&o);
	r = database_open(&s->db, o.path, err);
	if (r >= 0)
		r = database_meta(&s->db, "revision", &s->revision, err);
	if (r < 0) {
		database_close(&s->db);
		free(s);
		return r;
	}
	s->db.transform = o.transform;
	s->loop = loop;
	s->given = s->reserve_durable = s->reserve_submitted = s->revision;
	s->epoch = 1;
	s->next_row = 1;
	s->lazy_flush_ns = o.lazy_flush_ms * NS_PER_MS;
	s->history.events_max = o.history_events;
	s->history.bytes_max = o.history_bytes;
	list_init(&s->fifo);
	list_init(&s->dirty);
	index_init(&s->index);
	loop_timer_init(&s->lazy_timer, on_lazy_timer);
	s->publish.fn = on_publish;
	rewrite_init(s);
	wake = mem_new(struct writer_wake);
	wake->msg.fn = on_wake;
	wake->store = s;
	writer_init(&s->writer, loop, &s->db, o.wal_bytes_max, wake);
	*ret = s;
	return 0;
}

uint16_t store_add_resource(struct store *s, const char *group, const char *plural)
{
	struct store_resource *r;

	assert(s->n_resources < STORE_RESOURCES_MAX);
	r = mem_new(struct store_resource);
	r->group = mem_strdup(group);
	r->plural = mem_strdup(plural);
	r->how = s->db.transform ? s->db.transform->find(s->db.transform->arg, group, plural) : NULL;
	mem_grow(s->resources, s->resources_cap, s->n_resources + 1);
	s->resources[s->n_resources++] = r;
	index_add_resource(&s->index);
	history_add_resource(&s->history, s->revision);
	return (uint16_t)(s->n_resources - 1);
}

/* Lazy states and the exact revision, so that a clean restart continues where it was. */
static void write_last(struct store *s)
{
	struct txn *t;

	if (!s->loaded || (s->n_dirty == 0 && s->given == s->reserve_durable))
		return;
	t = txn_create(s, 0);
	t->durability = STORE_DURABLE;
	t->reserve = s->given;
	list_add_tail(&s->fifo, &t->fifo);
	s->n_pending++;
	take_riders(s, t);
	writer_submit(&s->writer, t);
}

void store_close(struct store *s)
{
	bool had_message;

	if (!s)
		return;
	s->closing = true;
	had_message = writer_quiet(&s->writer);
	writer_stop(&s->writer);
	store_drain(s);
	publish_ready(s);
	loop_timer_cancel(s->loop, &s->lazy_timer);
	rewrite_stop(s);
	write_last(s);
	writer_stop(&s->writer);
	store_drain(s);
	loop_defer_cancel(s->loop, &s->publish);
	/* A message under way stays until the loop has seen it. */
	s->writer.wake_msg->store = NULL;
	if (!had_message)
		free(s->writer.wake_msg);
	writer_finish(&s->writer);
	database_close(&s->db);
	history_finish(&s->history);
	list_foreach_safe(d, &s->dirty, struct dirty, link)
		dirty_destroy(d);
	index_finish(&s->index);
	for (size_t i = 0; i < s->n_resources; i++) {
		free(s->resources[i]->group);
		free(s->resources[i]->plural);
		free(s->resources[i]);
	}
	free(s->resources);
	free(s);
}

/* ---- reads that need nothing but the index ---- */

int64_t store_revision(const struct store *s)
{
	return s->revision;
}

const struct object *store_get(struct store *s, uint16_t resource, struct str ns, struct str name)
{
	struct entry *e = index_find(&s->index, resource, ns, name);

	return e ? e->current : NULL;
}

const struct object *store_by_uid(struct store *s, struct str uid)
{
	struct entry *e = index_by_uid(&s->index, uid);

	return e ? e->current : NULL;
}

size_t store_count(struct store *s, uint16_t resource)
{
	assert(resource < s->n_resources);
	return s->index.ordered[resource]->n;
}
