/* SPDX-License-Identifier: Apache-2.0 */
/* Pods that wait for a node: active ones by priority and then age, those in back-off until their
 * time comes, and unschedulable ones until something changes that may help. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/list.h"
#include "userspace/base/map.h"
#include "userspace/loop/loop.h"

#define QUEUE_BACKOFF_MIN_NS (1 * 1000000000LL)
#define QUEUE_BACKOFF_MAX_NS (10 * 1000000000LL)

enum queue_state { QUEUE_ACTIVE, QUEUE_BACKOFF, QUEUE_UNSCHEDULABLE, QUEUE_OUT, QUEUE_STATES };

struct queue;

struct queued_pod {
	struct queue *queue;
	struct list link;
	struct loop_timer timer; /* end of the back-off */
	enum queue_state state;  /* QUEUE_OUT: being tried, or bound */
	char *ns, *name, *uid;
	int64_t priority;
	unsigned attempts;
	bool moved; /* something helpful happened while it was being tried */
};

struct queue {
	struct loop *loop;
	struct map pods; /* uid -> struct queued_pod */
	struct list states[QUEUE_STATES];
	unsigned n[QUEUE_STATES];
	void (*wake)(struct queue *q); /* there are active pods */
};

void queue_init(struct queue *q, struct loop *loop, void (*wake)(struct queue *q));
void queue_finish(struct queue *q);
/* A new pod, or one that changed so that it may fit now: active at once. */
void queue_add(struct queue *q, struct str ns, struct str name, struct str uid, int64_t priority);
void queue_remove(struct queue *q, struct str uid);
struct queued_pod *queue_get(struct queue *q, struct str uid);
/* The next to try (it leaves its list), or NULL. */
struct queued_pod *queue_pop(struct queue *q);
/* After a try: no node fits; or trouble that time may heal. */
void queue_put_unschedulable(struct queued_pod *p);
void queue_put_backoff(struct queued_pod *p);
/* Something changed that may help: unschedulable pods are tried again, after their back-off. */
void queue_move_all(struct queue *q);
int64_t queue_backoff_ns(unsigned attempts);
