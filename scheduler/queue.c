/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduling queue. Loop thread only. */
#include "scheduler/queue.h"

int64_t queue_backoff_ns(unsigned attempts)
{
	int64_t delay = QUEUE_BACKOFF_MIN_NS;

	for (unsigned i = 1; i < attempts && delay < QUEUE_BACKOFF_MAX_NS; i++)
		delay *= 2;
	return delay < QUEUE_BACKOFF_MAX_NS ? delay : QUEUE_BACKOFF_MAX_NS;
}

void queue_init(struct queue *q, struct loop *loop, void (*wake)(struct queue *q))
{
	*q = (struct queue){ .loop = loop, .wake = wake };
	for (unsigned i = 0; i < QUEUE_STATES; i++)
		list_init(&q->states[i]);
}

static void pod_leave(struct queued_pod *p)
{
	list_del(&p->link);
	p->queue->n[p->state]--;
}

/* Active: the higher priority first, of equals the one that came first. */
static void pod_enter(struct queued_pod *p, enum queue_state state)
{
	struct list *head = &p->queue->states[state];
	struct list *at = head->prev;

	if (state == QUEUE_ACTIVE)
		while (at != head && list_entry(at, struct queued_pod, link)->priority < p->priority)
			at = at->prev;
	list_add_head(at, &p->link);
	p->state = state;
	p->queue->n[state]++;
}

static void pod_destroy(struct queued_pod *p)
{
	loop_timer_cancel(p->queue->loop, &p->timer);
	pod_leave(p);
	free(p->ns);
	free(p->name);
	free(p->uid);
	free(p);
}

void queue_finish(struct queue *q)
{
	for (unsigned i = 0; i < QUEUE_STATES; i++)
		list_foreach_safe(p, &q->states[i], struct queued_pod, link)
			pod_destroy(p);
	map_finish(&q->pods);
}

static void activate(struct queued_pod *p)
{
	loop_timer_cancel(p->queue->loop, &p->timer);
	pod_leave(p);
	pod_enter(p, QUEUE_ACTIVE);
	p->queue->wake(p->queue);
}

/* The timer of an unschedulable pod only marks that its back-off is over. */
static void on_timer(struct loop_timer *timer)
{
	struct queued_pod *p = container_of(timer, struct queued_pod, timer);

	if (p->state == QUEUE_BACKOFF)
		activate(p);
}

void queue_add(struct queue *q, struct str ns, struct str name, struct str uid, int64_t priority)
{
	struct queued_pod *p = map_get(&q->pods, uid);

	if (p && p->state == QUEUE_OUT) {
		p->moved = true;
		return;
	}
	if (p) {
		p->priority = priority;
		activate(p);
		return;
	}
	p = mem_new(struct queued_pod);
	p->queue = q;
	p->ns = str_dup(ns);
	p->name = str_dup(name);
	p->uid = str_dup(uid);
	p->priority = priority;
	loop_timer_init(&p->timer, on_timer);
	map_put(&q->pods, uid, p);
	pod_enter(p, QUEUE_ACTIVE);
	q->wake(q);
}

void queue_remove(struct queue *q, struct str uid)
{
	struct queued_pod *p = map_remove(&q->pods, uid);

	if (p)
		pod_destroy(p);
}

struct queued_pod *queue_get(struct queue *q, struct str uid)
{
	return map_get(&q->pods, uid);
}

struct queued_pod *queue_pop(struct queue *q)
{
	struct queued_pod *p;

	if (list_empty(&q->states[QUEUE_ACTIVE]))
		return NULL;
	p = list_first(&q->states[QUEUE_ACTIVE], struct queued_pod, link);
	pod_leave(p);
	pod_enter(p, QUEUE_OUT);
	p->attempts++;
	p->moved = false;
	return p;
}

void queue_put_backoff(struct queued_pod *p)
{
	pod_leave(p);
	pod_enter(p, QUEUE_BACKOFF);
	loop_timer_arm(p->queue->loop, &p->timer, queue_backoff_ns(p->attempts));
}

void queue_put_unschedulable(struct queued_pod *p)
{
	if (p->moved) {
		queue_put_backoff(p);
		return;
	}
	pod_leave(p);
	pod_enter(p, QUEUE_UNSCHEDULABLE);
	loop_timer_arm(p->queue->loop, &p->timer, queue_backoff_ns(p->attempts));
}

void queue_move_all(struct queue *q)
{
	list_foreach(p, &q->states[QUEUE_OUT], struct queued_pod, link)
		p->moved = true;
	list_foreach_safe(p, &q->states[QUEUE_UNSCHEDULABLE], struct queued_pod, link) {
		if (!loop_timer_armed(&p->timer)) {
			activate(p);
			continue;
		}
		pod_leave(p);
		pod_enter(p, QUEUE_BACKOFF);
	}
}
