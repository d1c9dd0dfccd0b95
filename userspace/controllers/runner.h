/* SPDX-License-Identifier: Apache-2.0 */
/* The one engine under every controller: object changes become keys, keys wait in a queue that
 * holds each of them once, and reconcile() looks at desired and actual state and takes the next
 * step. Level-triggered: a reconcile never learns what happened, only that something did.
 *
 * Invariant: a key does not run again while writes that its last run issued are under way. A write
 * completes only after the cache shows it, so a reconcile always sees its own effects; nothing
 * else keeps count of what was expected. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/histogram.h"
#include "userspace/base/json.h"
#include "userspace/loop/loop.h"
#include "userspace/registry/registry.h"

#define RUNNER_BACKOFF_MIN_NS (5 * 1000000LL)
#define RUNNER_BACKOFF_MAX_NS (1000 * 1000000000LL)
#define RUNNER_BATCH_MAX 16             /* keys in one turn of the loop */
#define RUNNER_SLICE_NS (2 * 1000000LL) /* and time in one turn of the loop */
#define RUNNER_WRITES_MAX 128           /* writes of one reconcile; the rest follows when they are done */

struct runner;
struct runner_key;
struct reconcile;
struct controllers_options;

/* Turns a change into keys by calling runner_enqueue(). prev: as in struct registry_watch. */
typedef void controller_map_fn(struct runner *r, enum registry_event_type type, const struct object *o,
			       const struct object *prev);

struct controller_watch {
	const struct api_kind *const *kind; /* &KIND_X; NULL: every stored kind */
	controller_map_fn *map;
};

struct controller {
	const char *name;
	const struct controller_watch *watches;
	size_t n_watches;
	/* Optional: state of the controller (runner_state), keys that exist without objects. */
	int (*start)(struct runner *r, struct err *err);
	void (*stop)(struct runner *r);
	/* 0, or a negative errno with err: the key comes again after its back-off. */
	int (*reconcile)(struct reconcile *ctx, struct err *err);
};

struct runner_options {
	struct loop *loop;
	struct registry *reg;
	const struct controllers_options *controllers; /* for the reconciles; borrowed */
};

int runner_create(const struct controller *controller, const struct runner_options *options, struct runner **ret,
		  struct err *err);
void runner_destroy(struct runner *r);

void runner_enqueue(struct runner *r, struct str ns, struct str name);
/* Common maps. */
void runner_enqueue_self(struct runner *r, enum registry_event_type type, const struct object *o,
			 const struct object *prev);
/* The controlling owner, when it is of that group and kind, of the object now and before. */
void runner_enqueue_controller(struct runner *r, const struct api_kind *kind, const struct object *o,
			       const struct object *prev);

struct registry *runner_registry(struct runner *r);
void *runner_state(struct runner *r);
void runner_set_state(struct runner *r, void *state);

#define RUNNER_BUCKETS 12

struct runner_stats {
	const char *name;
	unsigned queued, delayed, waiting; /* waiting: for writes of their last run */
	uint64_t added, reconciles, errors, writes;
	uint64_t busy_ns, longest_ns, queued_ns; /* of all runs; of the longest; of all keys before their runs */
	uint64_t work[RUNNER_BUCKETS + 1], wait[RUNNER_BUCKETS + 1]; /* runs by duration, by time in the queue */
};
extern const struct histogram_scale RUNNER_SCALE; /* seconds */
void runner_get_stats(const struct runner *r, struct runner_stats *ret);

/* Delay before try number `failures` (from 1). */
int64_t runner_backoff_ns(unsigned failures);

/* ---- inside a reconcile ---- */

enum reconcile_verb { RECONCILE_CREATE, RECONCILE_UPDATE, RECONCILE_DELETE };

/* The first write of the key's last run that failed. */
struct reconcile_failure {
	enum reconcile_verb verb;
	const struct api_kind *kind;
	int status; /* HTTP status */
	const char *message;
};

struct reconcile {
	struct runner *runner;
	struct registry *reg;
	struct loop *loop;
	const struct controllers_options *options;
	struct arena *arena;
	struct str ns, name;
	const struct reconcile_failure *failure; /* NULL: the last run went well */
	unsigned writes;                         /* issued by this run */
	struct runner_key *key;
};

/* Events that tell how a write ended. A NULL reason: no event. Messages are the prefix with the object's
 * name, or with the error, behind it; or, when it is given, `message` alone. */
struct reconcile_note {
	const char *component;
	const struct object *about;
	const char *ok_reason, *ok_prefix, *ok_message;
	const char *fail_reason, *fail_prefix;
};

/* Like their registry_ namesakes; `note` may be NULL. 404 of an update or delete is no failure: the object is gone,
 * which is a change of its own. */
void reconcile_create(struct reconcile *ctx, const struct api_kind *kind, struct json *object,
		      const struct reconcile_note *note);
void reconcile_update(struct reconcile *ctx, const struct api_kind *kind, struct str ns, struct str name,
		      const char *subresource, registry_mutate_fn *mutate, void *mutate_arg,
		      const struct reconcile_note *note);
void reconcile_delete(struct reconcile *ctx, const struct object *o, const struct api_kind *kind,
		      const struct registry_delete_options *options, const struct reconcile_note *note);
/* Replaces .status when it differs. */
void reconcile_set_status(struct reconcile *ctx, const struct api_kind *kind, const struct object *o,
			  struct json *status);
/* Run this key again no later than this. */
void reconcile_after(struct reconcile *ctx, int64_t delay_ns);
/* Run this key again when its writes are done. */
void reconcile_again(struct reconcile *ctx);
/* True when this run has used up its writes: return 0, the key runs again when they are done. */
bool reconcile_full(struct reconcile *ctx);
