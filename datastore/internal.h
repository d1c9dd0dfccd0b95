/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Nothing outside datastore/ includes this.
 *
 *   store.c    preconditions, pending state, publishing, the lazy set
 *   load.c     the files into memory
 *   index.c    objects by key, in order, by uid, by owner
 *   history.c  the ring of events and the watchers
 *   writer.c   the thread that owns the database handle once it runs
 *   database.c the schema and the statements
 *   files.c    reading the files without a server
 *   rewrite.c  rows that the transform wants to be written again, in small steps
 */
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "datastore/object.h"
#include "datastore/store.h"
#include "datastore/transform.h"
#include "userspace/base/clock.h"
#include "userspace/base/list.h"
#include "userspace/base/map.h"
#include "userspace/loop/loop.h"

#define STORE_LEVELS_MAX 16
#define STORE_BATCH_MAX 4096 /* transactions in one commit to disk */
#define STORE_WIRE_KEEP 256  /* newest events that keep their serialised forms */
#define STORE_LAZY_FLUSH_MS_DEFAULT (10 * 60 * 1000)
#define STORE_HISTORY_EVENTS_DEFAULT 16384
#define STORE_HISTORY_BYTES_DEFAULT (4u << 20)
#define STORE_WAL_BYTES_DEFAULT (8u << 20)
#define STORE_CHECKPOINT_QUIET_NS (20 * NS_PER_MS) /* without a write, before the log goes into the database */
#define STORE_VACUUM_FREE_PAGES 1024               /* start giving pages back above this */
#define STORE_VACUUM_STEP_PAGES 256
#define STORE_REWRITE_STEP 64                   /* rows written again in one transaction */
#define STORE_REWRITE_BYTES_MAX (1u << 20)      /* and their bytes, about */
#define STORE_REWRITE_PAUSE_NS (20 * NS_PER_MS) /* between two of them */
#define STORE_REWRITE_RETRY_NS (60 * NS_PER_S)  /* after one that failed */

/* ---- index.c ---- */

struct entry;

struct owner_link {
	struct list link; /* in owner_set.links */
	struct entry *entry;
	struct owner_set *set;
};

struct owner_set {
	struct list links;
	char *uid;
};

/* A key that has a published object, or a pending write. */
struct entry {
	struct entry *hash_next, *uid_next;
	uint32_t hash, uid_hash;
	uint32_t n_pending; /* writes given a revision, not yet published */
	uint16_t resource;
	uint8_t level;         /* in the ordered index; 0: not in it */
	bool owed, owed_timed; /* published lazily; a pending write will take it to disk, or must not be relied on */
	bool stale;            /* on disk in a form that the transform would not give it today */
	const struct object *current; /* published, or NULL */
	const struct object *newest;  /* n_pending > 0: the state after them; NULL: removed */
	int64_t row, newest_row;      /* rowid on disk of those two */
	struct dirty *dirty;          /* published but not yet handed to the writer */
	struct owner_link *owners;
	uint32_t n_owners;
	struct str ns, name;
	struct entry *next[]; /* `capacity` pointers, then the bytes of ns and name */
};

struct ordered {
	struct entry *head[STORE_LEVELS_MAX];
	size_t n;
	uint8_t levels;
};

struct buckets {
	struct entry **slots;
	uint32_t n, cap;
};

struct index {
	struct buckets by_key, by_uid;
	struct map owners;        /* uid -> struct owner_set */
	struct ordered **ordered; /* by resource */
	size_t n_resources, resources_cap;
	uint64_t random;
	uint64_t objects, object_bytes;
};

void index_init(struct index *x);
void index_finish(struct index *x);
void index_add_resource(struct index *x);
struct entry *index_find(const struct index *x, uint16_t resource, struct str ns, struct str name);
struct entry *index_ensure(struct index *x, uint16_t resource, struct str ns, struct str name);
/* Takes the reference of `o` (NULL: removed); what was there is returned with its reference. */
const struct object *index_publish(struct index *x, struct entry *e, const struct object *o);
/* Frees it when nothing is published or pending under the key. */
void index_release(struct index *x, struct entry *e);
struct entry *index_by_uid(const struct index *x, struct str uid);
/* First entry with key >= (ns, name), or > when `after`. */
struct entry *index_seek(const struct index *x, uint16_t resource, struct str ns, struct str name, bool after);
int index_compare(struct str ns_a, struct str name_a, struct str ns_b, struct str name_b);

/* ---- history.c ---- */

struct history_resource {
	struct list watchers;
	int64_t compacted; /* watches can resume from here on */
};

struct history {
	struct store_event **ring; /* cap slots, power of two */
	size_t first, n, cap;
	size_t bytes, events_max, bytes_max;
	struct history_resource **resources;
	size_t n_resources, resources_cap;
	size_t n_watchers;
	struct list *cursor; /* next watcher of the dispatch that runs */
};

void history_finish(struct history *h);
void history_add_resource(struct history *h, int64_t revision);
/* Event `i` from the oldest. */
struct store_event *history_at(const struct history *h, size_t i);
/* Index of the first event with a revision above `revision`; n when none. */
size_t history_after(const struct history *h, int64_t revision);
/* Takes the reference. Tells watchers. */
void history_publish(struct history *h, struct store_event *e);

/* ---- store.c, writer.c ---- */

struct store_resource {
	char *group, *plural;
	int64_t disk_id; /* 0: not on disk yet; the writer's once it runs */
	const void *how; /* the transform's; NULL: rows are plain */
};

/* A lazy change that is published and waits for a ride to disk. Ordered: later ones of a row follow. */
struct dirty {
	struct list link;
	struct entry *entry; /* NULL: gone, or handed over */
	struct store_resource *resource;
	const struct object *object; /* NULL: remove the row */
	int64_t row;
	bool timed; /* STORE_LAZY */
};

struct txn_op {
	struct entry *entry; /* loop only */
	struct store_resource *resource;
	const struct object *object;
	int64_t row;
	bool remove;
	bool counted; /* still counts in entry->n_pending */
};

/* Freed space in the files may hold what rows were before they were written again. */
enum scrub {
	SCRUB_NONE,
	SCRUB_OWED, /* from this transaction on the files need it: remembered on disk */
	SCRUB_NOW,  /* after this transaction everything that is no row is gone */
};

/* One transaction. The loop owns it; while `at_writer` the writer reads ops, riders and reserve. */
struct txn {
	struct list fifo;
	struct txn *next; /* in the writer's queues */
	enum store_durability durability;
	bool ready; /* may be published when first in line */
	bool at_writer;
	bool abandoned; /* failed and told; free when the writer gives it back */
	uint32_t epoch;
	struct list riders; /* struct dirty */
	int64_t reserve;    /* write this high-water mark; 0: no */
	enum scrub scrub;
	bool scrubbed; /* by the writer */
	size_t bytes;
	store_done_fn *done;
	void *arg;
	size_t n_ops;
	struct txn_op ops[];
};

#define HISTOGRAM_BUCKETS 256 /* 8 a power of two */
struct histogram {
	uint32_t counts[HISTOGRAM_BUCKETS];
	uint64_t n;
};
void histogram_add(struct histogram *h, uint64_t ns);
uint64_t histogram_quantile(const struct histogram *h, double q);

/* ---- database.c ---- */

struct database {
	sqlite3 *handle;
	sqlite3_stmt *begin, *commit, *put, *remove, *set_meta, *add_resource;
	int wal_pages;
	int page_size;
	char *path;
	char *wal_path;
	const struct store_transform *transform;
	struct buf sealed, key; /* scratch of the row being written */
	struct err sealing;     /* why a row could not be */
};

int database_open(struct database *db, const char *path, struct err *err);
void database_close(struct database *db);
int database_meta(struct database *db, const char *key, int64_t *ret, struct err *err);
int database_load_resources(struct database *db, struct store_resource **resources, size_t n, struct err *err);
/* `key`: of the object, where the transform changed the row. */
struct database_row {
	int64_t id, resource_id, revision;
	struct str key, value;
};
typedef int database_row_fn(void *arg, const struct database_row *row, struct err *err);
int database_each(struct database *db, database_row_fn *fn, void *arg, struct err *err);
int database_max_row(struct database *db, int64_t *ret, struct err *err);
/* Writing, within begin and commit. SQLite result codes. */
int database_put(struct database *db, struct store_resource *r, int64_t row, const struct object *o);
int database_remove(struct database *db, int64_t row);
int database_set_meta(struct database *db, const char *key, int64_t value);
/* Nothing but rows is left in the files. Not within a transaction. */
int database_scrub(struct database *db);
int database_step(sqlite3_stmt *s);
/* -errno for a SQLite result code. */
int database_errno(int code);
/* One SQLite failure in words; returns the errno. */
int database_error(struct database *db, const char *doing, int code, struct err *err);

struct batch_result;

struct writer {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct txn *queue, **queue_end;        /* under lock */
	struct batch_result *done, **done_end; /* under lock */
	bool stop, posted;                     /* under lock */
	struct writer_wake *wake_msg;
	struct database *db;
	struct loop *loop;
	uint64_t wal_bytes_max;
	/* under lock: */
	struct histogram commits_ns, fsyncs_ns;
	uint64_t commits, failures, records, checkpoints, bytes_written, wal_bytes;
	int64_t last_commit_real_ns;
};

/* What the writer hands back for one group. */
struct batch_result {
	struct batch_result *next;
	struct txn *txns;
	int code;    /* 0 or negative errno */
	char *error; /* heap, when code */
};

struct writer_wake {
	struct loop_msg msg;
	struct store *store; /* NULL: the store is gone */
};

void writer_init(struct writer *w, struct loop *loop, struct database *db, uint64_t wal_bytes_max,
		 struct writer_wake *wake);
/* Starts the thread at the first call. */
void writer_submit(struct writer *w, struct txn *t);
/* Commits what is queued and ends the thread. */
void writer_stop(struct writer *w);
void writer_finish(struct writer *w);
/* No message from here on; true when one is still under way. */
bool writer_quiet(struct writer *w);
/* The message has arrived: the next result posts it again. */
void writer_listen(struct writer *w);
/* All results so far, oldest first. */
struct batch_result *writer_take(struct writer *w);

/* ---- rewrite.c ---- */

struct rewrite {
	struct loop_timer timer;
	size_t total, left; /* entries with `stale` */
	bool scrub, saved;  /* owed to the files; and the files know */
	bool under_way;     /* a step is at the writer */
	/* The next entry to look at. */
	uint16_t resource;
	struct buf ns, name;
	const struct object *step[STORE_REWRITE_STEP]; /* what is at the writer, with references */
	size_t n_step;
};

void rewrite_init(struct store *s);
/* Everything is loaded. */
void rewrite_start(struct store *s);
void rewrite_stop(struct store *s);
/* The row of the entry is written in today's form, or gone. */
void rewrite_forget(struct store *s, struct entry *e);

struct store {
	struct loop *loop;
	struct database db;
	struct writer writer;
	struct index index;
	struct history history;
	struct store_resource **resources;
	size_t n_resources, resources_cap;
	int64_t revision; /* published */
	int64_t given;    /* the last revision given to anything */
	int64_t reserve_durable, reserve_submitted;
	int64_t next_row;
	uint32_t epoch;
	struct list fifo;  /* struct txn in order of revision */
	struct list dirty; /* struct dirty */
	size_t n_dirty;
	size_t pending_bytes, n_pending;
	int64_t lazy_flush_ns;
	struct loop_timer lazy_timer;
	struct loop_defer publish;
	struct rewrite rewrite;
	bool loaded, closing, publishing;
};

/* The message from the writer. */
void store_drain(struct store *s);
/* A transaction of no operations that carries `riders` (struct dirty, taken) and all that is lazy to disk. */
void store_write_rows(struct store *s, struct list *riders, enum scrub scrub, store_done_fn *done, void *arg);
