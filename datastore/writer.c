/* SPDX-License-Identifier: Apache-2.0 */
/* The one thread that owns the database handle: takes everything queued, commits it in one
 * transaction (one fsync), hands it back, and checkpoints in between.
 *
 * Invariants: transactions reach the disk in the order of submission. After a failure everything of the
 * same epoch fails too, untried: it was decided on states that never came to be. The loop begins a new
 * epoch when it hears of the failure. A checkpoint runs only when nobody has come for a while, unless the log is at its
 * cap: what follows from a write (a Service's slices) comes right after it, and should not stand behind a checkpoint.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "datastore/internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

/* ---- histogram: 8 buckets a power of two, error below 13 % ---- */

static unsigned bucket_of(uint64_t ns)
{
	unsigned power, at;

	if (ns < 8)
		return (unsigned)ns;
	power = 63 - (unsigned)__builtin_clzll(ns);
	at = (power - 2) * 8 + (unsigned)(ns >> (power - 3) & 7);
	return at < HISTOGRAM_BUCKETS ? at : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_value(unsigned at)
{
	if (at < 8)
		return at;
	return (uint64_t)(8 + at % 8) << (at / 8 - 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->counts[bucket_of(ns)]++;
	h->n++;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
	uint64_t want = (uint64_t)((double)h->n * q), seen = 0;

	if (h->n == 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen > want)
			return bucket_value(i);
	}
	return bucket_value(HISTOGRAM_BUCKETS - 1);
}

/* ---- one group ---- */

static int write_riders(struct database *db, const struct txn *t, size_t *records)
{
	list_foreach(d, &t->riders, struct dirty, link) {
		int code = d->object ? database_put(db, d->resource, d->row, d->object) : database_remove(db, d->row);

		if (code != SQLITE_OK)
			return code;
		(*records)++;
	}
	return SQLITE_OK;
}

static int write_txn(struct database *db, const struct txn *t, size_t *records)
{
	int code = write_riders(db, t, records);

	for (size_t i = 0; i < t->n_ops && code == SQLITE_OK; i++) {
		const struct txn_op *op = &t->ops[i];

		code = op->remove ? database_remove(db, op->row) : database_put(db, op->resource, op->row, op->object);
		(*records)++;
	}
	if (code == SQLITE_OK && t->reserve)
		code = database_set_meta(db, "revision", t->reserve);
	if (code == SQLITE_OK && t->scrub == SCRUB_OWED)
		code = database_set_meta(db, "transform", -1);
	return code;
}

/* Resource ids given within a transaction that did not come to be must be forgotten. */
static void forget_resources(const struct txn *txns, int64_t max_id)
{
	for (const struct txn *t = txns; t; t = t->next) {
		list_foreach(d, &t->riders, struct dirty, link)
			if (d->resource->disk_id > max_id)
				d->resource->disk_id = 0;
		for (size_t i = 0; i < t->n_ops; i++)
			if (t->ops[i].resource->disk_id > max_id)
				t->ops[i].resource->disk_id = 0;
	}
}

static int64_t max_resource_id(struct database *db)
{
	sqlite3_stmt *s = NULL;
	int64_t id = INT64_MAX; /* when even this fails nothing is forgotten, and puts of unknown ids stay harmless */

	if (sqlite3_prepare_v2(db->handle, "SELECT ifnull(max(id), 0) FROM resource", -1, &s, NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
		id = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return id;
}

static void roll_back(struct database *db, const struct txn *txns)
{
	if (!sqlite3_get_autocommit(db->handle))
		sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
	forget_resources(txns, max_resource_id(db));
}

static uint64_t pages_written(struct database *db)
{
	int now = 0, high = 0;

	sqlite3_db_status(db->handle, SQLITE_DBSTATUS_CACHE_WRITE, &now, &high, 1);
	return (uint64_t)now;
}

static void account(struct writer *w, uint64_t total_ns, uint64_t fsync_ns, size_t records, bool failed)
{
	uint64_t pages = pages_written(w->db);

	pthread_mutex_lock(&w->lock);
	w->bytes_written += pages * ((uint64_t)w->db->page_size + 24); /* 24: a log frame's header */
	w->wal_bytes = (uint64_t)w->db->wal_pages * ((uint64_t)w->db->page_size + 24);
	if (failed) {
		w->failures++;
	} else {
		w->commits++;
		w->records += records;
		w->last_commit_real_ns = clock_real_ns();
		histogram_add(&w->commits_ns, total_ns);
		histogram_add(&w->fsyncs_ns, fsync_ns);
	}
	pthread_mutex_unlock(&w->lock);
}

/* Returns a SQLite code; the transaction is over in either case. */
static int commit_group(struct writer *w, struct txn *txns, char **ret_error)
{
	int64_t start = clock_monotonic_ns(), before_commit;
	size_t records = 0;
	int code = database_step(w->db->begin);

	for (struct txn *t = txns; t && code == SQLITE_OK; t = t->next)
		code = write_txn(w->db, t, &records);
	before_commit = clock_monotonic_ns();
	if (code == SQLITE_OK)
		code = database_step(w->db->commit);
	if (code != SQLITE_OK) {
		*ret_error =
			mem_strdup(w->db->sealing.code ? err_message(&w->db->sealing) : sqlite3_errmsg(w->db->handle));
		err_finish(&w->db->sealing);
		roll_back(w->db, txns);
	}
	account(w, (uint64_t)(clock_monotonic_ns() - start), (uint64_t)(clock_monotonic_ns() - before_commit), records,
		code != SQLITE_OK);
	return code;
}

/* The commit stands, whatever comes of this: what fails is owed still. */
static void scrub(struct writer *w, struct txn *txns)
{
	int code = SQLITE_OK;

	for (struct txn *t = txns; t; t = t->next) {
		if (t->scrub != SCRUB_NOW)
			continue;
		code = database_scrub(w->db);
		if (code == SQLITE_OK)
			code = database_set_meta(w->db, "transform", w->db->transform ? w->db->transform->form : 0);
		t->scrubbed = code == SQLITE_OK;
		if (code != SQLITE_OK)
			log_warn("the database's free space cannot be removed error=\"%s\"",
				 sqlite3_errmsg(w->db->handle));
	}
}

/* ---- handing over ---- */

static void hand_back(struct writer *w, struct txn *txns, int code, char *error)
{
	struct batch_result *b = mem_new(struct batch_result);
	bool post;

	*b = (struct batch_result){ .txns = txns, .code = code, .error = error };
	pthread_mutex_lock(&w->lock);
	*w->done_end = b;
	w->done_end = &b->next;
	post = !w->posted;
	w->posted = true;
	pthread_mutex_unlock(&w->lock);
	if (post)
		loop_post(w->loop, &w->wake_msg->msg);
}

struct batch_result *writer_take(struct writer *w)
{
	struct batch_result *b;

	pthread_mutex_lock(&w->lock);
	b = w->done;
	w->done = NULL;
	w->done_end = &w->done;
	pthread_mutex_unlock(&w->lock);
	return b;
}

bool writer_quiet(struct writer *w)
{
	bool posted;

	pthread_mutex_lock(&w->lock);
	posted = w->posted;
	w->posted = true;
	pthread_mutex_unlock(&w->lock);
	return posted;
}

void writer_listen(struct writer *w)
{
	pthread_mutex_lock(&w->lock);
	w->posted = false;
	pthread_mutex_unlock(&w->lock);
}

static void handle_group(struct writer *w, struct txn *txns, uint32_t *failed_epoch, char **last_error, int *last_code)
{
	char *error = NULL;
	int code;

	/* A queue never holds a newer epoch before an older one, and a group is cut where the epoch changes. */
	if (txns->epoch == *failed_epoch) {
		hand_back(w, txns, *last_code, mem_strdup(*last_error));
		return;
	}
	code = commit_group(w, txns, &error);
	if (code != SQLITE_OK) {
		*failed_epoch = txns->epoch;
		*last_code = database_errno(code);
		if (*last_code == 0)
			*last_code = -EIO;
		free(*last_error);
		*last_error = mem_strdup(error);
	} else {
		scrub(w, txns);
	}
	hand_back(w, txns, code == SQLITE_OK ? 0 : *last_code, error);
}

/* ---- the log ---- */

static void vacuum_step(struct database *db)
{
	sqlite3_stmt *s = NULL;
	int64_t pages = 0;

	if (sqlite3_prepare_v2(db->handle, "PRAGMA freelist_count", -1, &s, NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
		pages = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	if (pages < STORE_VACUUM_FREE_PAGES)
		return;
	_Static_assert(STORE_VACUUM_STEP_PAGES == 256, "the pragma below spells the step");
	sqlite3_exec(db->handle, "PRAGMA incremental_vacuum(256)", NULL, NULL, NULL);
}

static void checkpoint(struct writer *w)
{
	int in_log = 0, moved = 0, code;

	code = sqlite3_wal_checkpoint_v2(w->db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &moved);
	if (code != SQLITE_OK) {
		/* The log still has everything; the next write after this tries again. */
		log_warn("database checkpoint failed error=\"%s\"", sqlite3_errstr(code));
		return;
	}
	w->db->wal_pages = in_log > moved ? in_log - moved : 0;
	pthread_mutex_lock(&w->lock);
	w->checkpoints++;
	w->bytes_written += (uint64_t)moved * (uint64_t)w->db->page_size;
	pthread_mutex_unlock(&w->lock);
	vacuum_step(w->db);
}

static uint64_t log_bytes(const struct writer *w)
{
	return (uint64_t)w->db->wal_pages * (uint64_t)w->db->page_size;
}

/* ---- the thread ---- */

/* Under the lock: the longest run of one epoch from the queue. */
static struct txn *take_group(struct writer *w)
{
	struct txn *first = w->queue, *last = first;

	for (size_t n = 1; last->next && last->next->epoch == first->epoch && n < STORE_BATCH_MAX; n++)
		last = last->next;
	w->queue = last->next;
	if (!w->queue)
		w->queue_end = &w->queue;
	last->next = NULL;
	return first;
}

/* Under the lock: until somebody comes. False: nobody did for as long as a checkpoint that is due waits. */
static bool await_work(struct writer *w, bool due)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += STORE_CHECKPOINT_QUIET_NS;
	if (until.tv_nsec >= NS_PER_S) {
		until.tv_nsec -= NS_PER_S;
		until.tv_sec++;
	}
	while (!w->queue && !w->stop && r == 0)
		r = due ? pthread_cond_timedwait(&w->wake, &w->lock, &until) : pthread_cond_wait(&w->wake, &w->lock);
	return w->queue || w->stop;
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint32_t failed_epoch = 0; /* epochs start at 1 */
	char *last_error = NULL;
	int last_code = 0;
	bool due = false;

	prctl(PR_SET_NAME, "store-writer");
	pthread_mutex_lock(&w->lock);
	for (;;) {
		bool work = await_work(w, due);
		struct txn *txns = work && w->queue ? take_group(w) : NULL;

		if (work && !txns)
			break;
		pthread_mutex_unlock(&w->lock);
		if (txns)
			handle_group(w, txns, &failed_epoch, &last_error, &last_code);
		if (!txns || log_bytes(w) >= w->wal_bytes_max)
			checkpoint(w);
		due = txns && log_bytes(w) >= w->wal_bytes_max / 4;
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	free(last_error);
	return NULL;
}

void writer_init(struct writer *w, struct loop *loop, struct database *db, uint64_t wal_bytes_max,
		 struct writer_wake *wake)
{
	pthread_condattr_t clock;

	*w = (struct writer){ .loop = loop, .db = db, .wal_bytes_max = wal_bytes_max, .wake_msg = wake };
	w->queue_end = &w->queue;
	w->done_end = &w->done;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &clock);
	pthread_condattr_destroy(&clock);
}

static void start(struct writer *w)
{
	sigset_t all, old;
	int r;

	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&w->thread, NULL, writer_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		log_error("cannot start the store's writer thread error=\"%s\"", strerror(r));
		abort();
	}
	w->started = true;
}

void writer_submit(struct writer *w, struct txn *t)
{
	t->next = NULL;
	t->at_writer = true;
	if (!w->started)
		start(w);
	pthread_mutex_lock(&w->lock);
	*w->queue_end = t;
	w->queue_end = &t->next;
	pthread_mutex_unlock(&w->lock);
	pthread_cond_signal(&w->wake);
}

void writer_stop(struct writer *w)
{
	if (!w->started)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_mutex_unlock(&w->lock);
	pthread_cond_signal(&w->wake);
	pthread_join(w->thread, NULL);
	w->started = false;
	w->stop = false;
}

void writer_finish(struct writer *w)
{
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->wake);
}
