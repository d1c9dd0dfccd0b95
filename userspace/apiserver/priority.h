/* SPDX-License-Identifier: Apache-2.0 */
/* API priority and fairness: whose request runs next, and which is refused.
 *
 * FlowSchemas sort requests into flows and priority levels, as upstream. A level has seats; a request takes one (a list
 * as many as it is long) until it is answered. One loop thread runs everything, so beside seats there is time: in one
 * turn of the loop requests run for PRIORITY_SLICE_NS, what comes later waits for the next turn. What waits is taken by
 * virtual time, first among levels by their shares, then among the queues of a level, so that many long requests of one
 * flow do not stand before one short request of another. Every request pays, with its level and its flow, for the time
 * that it really took. A request that finds nobody waiting and time left runs at once, unless its flow has had so much
 * that others shall come first.
 *
 * The exempt level has no limit of seats, but takes turns like the others. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/base/buf.h"
#include "userspace/base/json.h"
#include "userspace/base/list.h"
#include "userspace/base/str.h"
#include "userspace/registry/authz.h"

struct loop;
struct registry;
struct priority;
struct priority_figures;
struct priority_level;
struct priority_queue;

#define PRIORITY_SLICE_NS (2 * INT64_C(1000000))    /* of one turn of the loop */
#define PRIORITY_SEATS_TOTAL 600                    /* upstream: 400 requests and 200 writes in flight */
#define PRIORITY_LIST_SEATS_MAX 10                  /* upstream's maximumListSeatsLimit */
#define PRIORITY_OBJECTS_PER_SEAT 100               /* upstream's objectsPerSeat */
#define PRIORITY_SEAT_NS (20 * INT64_C(1000))       /* what a seat is taken to cost before it is known */
#define PRIORITY_WAIT_NS (15 * INT64_C(1000000000)) /* in a queue; upstream: a quarter of the request timeout */
#define PRIORITY_QUEUES_MAX 1024                    /* of a level; more are taken as this */
#define PRIORITY_HAND_MAX 64                        /* the same for handSize */
#define PRIORITY_RETRY_AFTER_S 1
#define PRIORITY_UID_MAX 40
#define PRIORITY_FIGURES_MAX 256 /* flow schemas of a level that are counted by name */

enum priority_reason {
	PRIORITY_QUEUE_FULL,
	PRIORITY_NO_SEATS,
	PRIORITY_TIME_OUT,
	PRIORITY_CANCELLED,
	PRIORITY_REASONS
};

/* A request on its way; zeroed by its owner, who keeps it in place until priority_leave(). */
struct priority_request {
	struct list link;
	struct priority_level *level; /* NULL: not sorted */
	struct priority_queue *queue; /* where it waits or waited */
	struct priority_figures *figures;
	unsigned seats;
	bool left;
	uint64_t flow; /* hash */
	int64_t since_ns;
	char schema_uid[PRIORITY_UID_MAX], level_uid[PRIORITY_UID_MAX];
	/* run(): by priority_run(); from the loop when it waited and its turn has come. refuse(): it waited too long
	 * and has left already. */
	void (*run)(struct priority_request *r);
	void (*refuse)(struct priority_request *r);
};

enum priority_verdict { PRIORITY_RUN, PRIORITY_WAIT, PRIORITY_REFUSE };

void priority_create(struct loop *loop, struct registry *reg, struct priority **ret);
void priority_destroy(struct priority *p);

/* `seats`: how wide the request is (1: a plain one); cut to what its level allows. */
enum priority_verdict priority_enter(struct priority *p, const struct authz_attributes *attributes, unsigned seats,
				     struct priority_request *r);
/* It is answered, refused by itself, or its client has gone. No-op on one that has left. */
void priority_leave(struct priority *p, struct priority_request *r);
/* After PRIORITY_RUN: runs it and charges the time of the loop that it took. */
void priority_run(struct priority *p, struct priority_request *r);
/* What it turned out to cost beyond its seats and its run: time of the loop. */
void priority_charge(struct priority_request *r, int64_t cost_ns);

/* The figures in Prometheus' text form. */
void priority_write_metrics(struct priority *p, struct buf *out);

/* ---- inside: priority.c, priority_config.c, priority_bootstrap.c, priority_figures.c ---- */

struct priority_queue {
	struct list requests; /* oldest first */
	struct list link;     /* level->waiting, when not empty */
	unsigned n;
	uint64_t vt; /* virtual time: what it has had, in nanoseconds */
};

struct priority_level {
	struct list link; /* priority.levels */
	char *name;
	char uid[PRIORITY_UID_MAX];
	bool exempt, reject, gone;
	unsigned seats, lendable, borrow_max;
	unsigned n_queues, hand, length_max;
	struct priority_queue *queues; /* made when somebody has to wait */
	struct list waiting;           /* queues with requests */
	unsigned in_use, executing, queued, queued_seats;
	uint64_t vt, inner_vt, top_vt; /* inner: of the last taken; top: the most that a queue has had */
	struct list figures;           /* struct priority_figures */
	unsigned n_figures;
};

struct priority_schema {
	struct str name;
	char uid[PRIORITY_UID_MAX];
	struct priority_level *level;
	struct priority_figures *figures;
	enum { PRIORITY_BY_NONE, PRIORITY_BY_USER, PRIORITY_BY_NAMESPACE } by;
	uint64_t hash; /* of its name */
	const struct json *rules;
	int64_t precedence;
};

struct priority_config;
/* Follows the objects. */
struct priority_config *priority_config_create(struct priority *p, struct loop *loop, struct registry *reg);
void priority_config_destroy(struct priority_config *config);
/* NULL: none, while the objects are not there yet. */
const struct priority_schema *priority_config_match(const struct priority_config *config,
						    const struct authz_attributes *attributes);

struct priority {
	struct loop *loop;
	int64_t (*clock)(void); /* monotonic; a test may set its own */
	struct priority_config *config;
	struct list levels;
	unsigned queued, n_levels;
	uint64_t vt;
	struct priority_turn *turn;
};

/* By name; made when it is not there. */
struct priority_level *priority_level(struct priority *p, struct str name);
/* How it queues from now on (as soon as nobody waits). queues 0: only for its turn. */
void priority_level_set_queues(struct priority_level *level, int64_t queues, int64_t hand, int64_t length_max);
/* The objects have changed: levels that are gone and empty are freed, and who waits may go on. */
void priority_levels_changed(struct priority *p);

/* What became of a flow schema's requests at this level: kept as long as the level, so that they only rise. */
struct priority_figures *priority_figures(struct priority_level *level, struct str schema);
void priority_figures_free(struct priority_level *level);
void priority_count_executing(struct priority_request *r, int by);
void priority_count_queued(struct priority_request *r, int by);
void priority_count_begun(struct priority_request *r, int64_t waited_ns);
/* `waited_ns` negative: it did not wait. */
void priority_count_refused(struct priority_request *r, enum priority_reason reason, int64_t waited_ns);

/* The objects that every server has. */
void priority_bootstrap(struct registry *reg);
/* One of them (by its kind and name) was deleted or may have changed: puts it right. */
void priority_bootstrap_check(struct registry *reg, const struct api_kind *kind, struct str name);
