/* SPDX-License-Identifier: Apache-2.0 */
/* The revisioned object store: every object in memory as immutable counted bytes, every durable
 * change in one SQLite file behind one writer thread, and the hub that tells watchers.
 *
 * Loop thread only. The writer thread is inside and sees nothing but records handed to it.
 *
 * Order of a write: preconditions are checked against the newest pending state and the revision
 * is given at once, on the loop; the writer commits all that is queued in one transaction (one
 * fsync); then, never inside the call that wrote, in order: memory, watchers, `done`. What was
 * refused by the disk was never visible: that write and all that are queued behind it fail, the
 * pending state is dropped, and the next write is tried afresh.
 *
 * Revisions only grow, also over a power cut: they are reserved ahead on disk.
 *
 * Pointers that reads return are borrowed until control returns to the loop; object_ref() keeps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datastore/object.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/list.h"
#include "userspace/base/str.h"

struct loop;
struct store;
struct store_transform;

#define STORE_RESOURCES_MAX 4096
#define STORE_OPS_MAX 16                    /* of one transaction */
#define STORE_VALUE_MAX (3u << 20)          /* bytes of one object */
#define STORE_PENDING_BYTES_MAX (64u << 20) /* queued for the disk; then 429 */
#define STORE_REVISION_RESERVE 100000       /* revisions one reservation on disk covers */

struct store_options {
	const char *path;       /* the database file; its folder must exist */
	int64_t lazy_flush_ms;  /* STORE_LAZY changes reach the disk within this; 0: default (10 minutes) */
	size_t history_events;  /* events kept for watchers that resume; 0: default (16384) */
	size_t history_bytes;   /* bytes of superseded objects they may hold; 0: default (4 MiB) */
	uint64_t wal_bytes_max; /* checkpoint at the latest here; 0: default (8 MiB) */
	const struct store_transform *transform; /* must outlive the store; NULL: none (transform.h) */
};

/* Opens or makes the database. Damage is one clear error (-EUCLEAN); another process that holds it is -EBUSY. */
int store_open(struct loop *loop, const struct store_options *options, struct store **ret, struct err *err);
/* Writes what is lazy and the exact revision, waits for the disk, checkpoints, frees. Callbacks of writes still
 * in flight run with -ECANCELED or their result before this returns. Takes NULL. */
void store_close(struct store *store);

/* Indices are dense from 0 in the order of the calls and stable in this process only; the names are what the
 * disk knows. Before store_load(), or at any time for a new custom resource. */
uint16_t store_add_resource(struct store *store, const char *group, const char *plural);
/* Reads every object of the known resources into memory, once, after store_add_resource(). `decode` builds the
 * object from the stored bytes (ownership of one reference); what it refuses stays on disk and out of memory,
 * with one warning. Returns the number of objects. */
typedef int store_decode_fn(void *arg, uint16_t resource, struct str json, const struct object **ret, struct err *err);
int store_load(struct store *store, store_decode_fn *decode, void *arg, struct err *err);

/* ---- reads: what is durable (or lazy and published) ---- */

/* The newest published revision: lists and bookmarks carry it. */
int64_t store_revision(const struct store *store);
const struct object *store_get(struct store *store, uint16_t resource, struct str ns, struct str name);
const struct object *store_by_uid(struct store *store, struct str uid);
size_t store_count(struct store *store, uint16_t resource);

typedef void store_each_fn(void *arg, const struct object *o);
/* ns empty: all. In order of (ns, name). The callback may write, read, start and stop watches. */
void store_each(struct store *store, uint16_t resource, struct str ns, store_each_fn *fn, void *arg);
void store_each_owned(struct store *store, struct str owner_uid, store_each_fn *fn, void *arg);

/* The same walk as of a past revision and from a place on, for paging: objects after (after_ns, after_name)
 * (exclusive; both empty: from the start). at_revision 0: now. `fn` returns false to stop. -ESTALE with 410
 * Expired when the history no longer reaches back; -EINVAL (400-style, "too large") for a future revision. */
typedef bool store_walk_fn(void *arg, const struct object *o);
int store_walk(struct store *store, uint16_t resource, struct str ns, int64_t at_revision, struct str after_ns,
	       struct str after_name, store_walk_fn *fn, void *arg, struct err *err);

/* ---- writes ---- */

/* The newest state, pending ones included: what preconditions and read-modify-write go by. NULL: absent. */
const struct object *store_newest(struct store *store, uint16_t resource, struct str ns, struct str name);
/* The revision that the first operation of the next store_commit() must carry; the following ones count up. */
int64_t store_next_revision(const struct store *store);

enum store_durability {
	STORE_DURABLE, /* done when on disk */
	STORE_LAZY,    /* done at once; on disk with the next durable commit, or after lazy_flush_ms */
	STORE_RIDER,   /* done at once; on disk with the next durable commit or clean shutdown: heartbeats, leases */
};

struct store_op {
	bool remove;
	const struct object *object; /* new state, or (remove) the last state under the revision of the removal */
	int64_t expect;              /* revision of the newest state; 0: must not exist */
};

/* err NULL: published. Called exactly once for each accepted transaction, from the loop. */
typedef void store_done_fn(void *arg, const struct err *err);

/* All or nothing. Objects are referenced. 0, or at once and without calling `done`: -EEXIST, -ENOENT, -ESTALE
 * (expect does not match; *ret_failed, when given, tells which operation), -EBUSY (queue full), -E2BIG.
 * No operations: `done` when all that is pending now is published (STORE_RIDER) or on disk (STORE_DURABLE). */
int store_commit(struct store *store, const struct store_op *ops, size_t n_ops, enum store_durability durability,
		 store_done_fn *done, void *arg, size_t *ret_failed, struct err *err);

/* ---- watches ---- */

enum store_event_type { STORE_ADDED, STORE_MODIFIED, STORE_DELETED };
#define STORE_WIRE_FORMS 4

/* One change; immutable but for `wire`, shared by the history and every watcher; counted, loop thread. */
struct store_event {
	uint32_t refs;
	enum store_event_type type;
	int64_t revision;
	const struct object *object; /* STORE_DELETED: the last state, with the revision of the deletion */
	const struct object *prev;   /* NULL for STORE_ADDED */
	/* Serialised forms, made by the first watcher that needs one and shared by all (the owner of the wire format
	 * gives the indices a meaning: one for each type that selectors can turn the event into). */
	struct chunk *wire[STORE_WIRE_FORMS];
};

struct store_event *store_event_ref(struct store_event *e);
void store_event_unref(struct store_event *e); /* takes NULL */

struct store_watch {
	struct list link;
	void (*fn)(struct store_watch *w, struct store_event *e);
	uint16_t resource;
	int64_t revision; /* of the last event seen; the store's */
};

/* Every change of the resource after `from` in commit order: those in the history during the call, then live.
 * from -1: only live ones. -ESTALE with 410 Expired when the history no longer reaches back. After any event,
 * and between events, a bookmark of store_revision() is true for every watcher. */
int store_watch_start(struct store *store, struct store_watch *w, uint16_t resource, int64_t from, struct err *err);
void store_watch_stop(struct store *store, struct store_watch *w); /* no-op when not started (zeroed) */
/* The oldest revision that a watch of this resource can resume from. */
int64_t store_oldest_revision(struct store *store, uint16_t resource);

/* ---- for `status` ---- */

struct store_stats {
	int64_t revision;
	uint64_t objects, object_bytes;
	uint64_t db_bytes, wal_bytes;
	uint64_t bytes_written; /* to disk since start: log, pages, checkpoints */
	uint64_t commits, commit_failures, records, checkpoints;
	int64_t last_commit_real_ns;           /* 0: none since start */
	uint64_t commit_p50_ns, commit_p99_ns; /* the whole transaction */
	uint64_t fsync_p50_ns, fsync_p99_ns;   /* COMMIT alone: where the fsync is */
	uint64_t queued, queued_bytes, lazy_dirty;
	uint64_t history_events, history_bytes, watchers;
	/* Rows that the transform wants to be written again: found when loading, and still to do. `rewriting` ends when
	 * what they held before is gone from the files as well. */
	uint64_t rewrite_total, rewrite_left;
	bool rewriting;
};

void store_get_stats(struct store *store, struct store_stats *ret);

/* Without a running server: calls `fn` for every object in the files. The database is not changed. -EBUSY when a
 * server holds it, -ENOENT when there is none, -EUCLEAN when it is damaged. */
typedef void store_file_fn(void *arg, const char *group, const char *plural, int64_t revision, struct str json);
struct store_file_info {
	int64_t revision; /* no revision above this was ever given */
	uint64_t objects, db_bytes, wal_bytes;
};
int store_read_files(const char *path, store_file_fn *fn, void *arg, struct store_file_info *ret, struct err *err);
