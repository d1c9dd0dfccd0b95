/* SPDX-License-Identifier: Apache-2.0 */
/* Levels, queues and turns. See priority.h. */
#include "userspace/apiserver/priority.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "userspace/base/clock.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

#define TURN_QUEUES 64 /* of levels that have no queues by their configuration: they wait for their turn only */
#define TURN_HAND 4
#define TIMER_NS (1 * NS_PER_S)

struct priority_turn {
	struct loop_defer defer;
	struct loop_timer timer;
	struct priority *p;
};

static void take_turns(struct loop_defer *defer);
static void look_for_overdue(struct loop_timer *timer);

void priority_create(struct loop *loop, struct registry *reg, struct priority **ret)
{
	struct priority *p = mem_new(struct priority);

	p->loop = loop;
	p->clock = clock_monotonic_ns;
	list_init(&p->levels);
	p->turn = mem_new(struct priority_turn);
	p->turn->p = p;
	p->turn->defer.fn = take_turns;
	loop_timer_init(&p->turn->timer, look_for_overdue);
	p->config = priority_config_create(p, loop, reg);
	*ret = p;
}

static void level_free(struct priority *p, struct priority_level *level)
{
	list_del(&level->link);
	p->n_levels--;
	priority_figures_free(level);
	free(level->queues);
	free(level->name);
	free(level);
}

void priority_destroy(struct priority *p)
{
	if (!p)
		return;
	loop_defer_cancel(p->loop, &p->turn->defer);
	loop_timer_cancel(p->loop, &p->turn->timer);
	priority_config_destroy(p->config);
	while (!list_empty(&p->levels))
		level_free(p, list_first(&p->levels, struct priority_level, link));
	free(p->turn);
	free(p);
}

struct priority_level *priority_level(struct priority *p, struct str name)
{
	struct priority_level *level;

	list_foreach(l, &p->levels, struct priority_level, link)
		if (str_is(name, l->name))
			return l;
	level = mem_new(struct priority_level);
	level->name = str_dup(name);
	list_init(&level->waiting);
	list_init(&level->figures);
	list_add_tail(&p->levels, &level->link);
	p->n_levels++;
	return level;
}

void priority_levels_changed(struct priority *p)
{
	list_foreach_safe(level, &p->levels, struct priority_level, link)
		if (level->gone && !level->in_use && !level->queued && !level->executing)
			level_free(p, level);
	if (p->queued)
		loop_defer(p->loop, &p->turn->defer);
}

void priority_level_set_queues(struct priority_level *level, int64_t queues, int64_t hand, int64_t length_max)
{
	unsigned n = queues <= 0 ? TURN_QUEUES : queues > PRIORITY_QUEUES_MAX ? PRIORITY_QUEUES_MAX : (unsigned)queues;
	unsigned h = queues <= 0 ? TURN_HAND : hand > PRIORITY_HAND_MAX ? PRIORITY_HAND_MAX : (unsigned)hand;

	level->length_max = queues <= 0 ? UINT_MAX : (unsigned)length_max;
	if (level->queued)
		return;
	if (level->queues && n != level->n_queues)
		free(TAKE_PTR(level->queues));
	level->n_queues = n;
	level->hand = h > n ? n : h;
}

/* ---- seats ---- */

/* What other levels would lend now. */
static unsigned to_borrow(const struct priority *p, const struct priority_level *level)
{
	unsigned n = 0;

	list_foreach(l, &p->levels, struct priority_level, link) {
		unsigned spare = l->in_use < l->seats ? l->seats - l->in_use : 0;

		if (l != level && !l->exempt)
			n += spare < l->lendable ? spare : l->lendable;
	}
	return n < level->borrow_max ? n : level->borrow_max;
}

static bool has_seats(const struct priority *p, const struct priority_level *level, unsigned seats)
{
	unsigned want = level->in_use + seats;

	if (level->exempt || want <= level->seats || !level->in_use)
		return true;
	return want <= level->seats + to_borrow(p, level);
}

static unsigned seats_for(const struct priority_level *level, unsigned seats)
{
	unsigned max = (level->seats * 15 + 99) / 100;

	if (max > PRIORITY_LIST_SEATS_MAX || level->exempt)
		max = PRIORITY_LIST_SEATS_MAX;
	if (seats > max)
		seats = max;
	return seats ? seats : 1;
}

/* ---- virtual time ---- */

static unsigned weight(const struct priority_level *level)
{
	return level->exempt || !level->seats ? PRIORITY_SEATS_TOTAL / 4 : level->seats;
}

static void level_pays(struct priority *p, struct priority_level *level, uint64_t cost_ns)
{
	if (level->vt < p->vt)
		level->vt = p->vt;
	level->vt += cost_ns * PRIORITY_SEATS_TOTAL / weight(level);
}

/* ---- queues ---- */

static void make_queues(struct priority_level *level)
{
	level->queues = mem_new_array(struct priority_queue, level->n_queues);
	for (unsigned i = 0; i < level->n_queues; i++) {
		list_init(&level->queues[i].requests);
		list_init(&level->queues[i].link);
	}
}

/* Shuffle sharding: the flow's hash deals it a hand of queues. */
static unsigned deal(const struct priority_level *level, uint64_t hash, unsigned ret_hand[static PRIORITY_HAND_MAX])
{
	unsigned sorted[PRIORITY_HAND_MAX], n = 0;

	while (n < level->hand) {
		unsigned left = level->n_queues - n, card = (unsigned)(hash % left), at;

		hash /= left;
		/* The card is one of those not dealt yet, in order. */
		for (at = 0; at < n && sorted[at] <= card; at++)
			card++;
		for (unsigned i = n; i > at; i--)
			sorted[i] = sorted[i - 1];
		sorted[at] = card;
		ret_hand[n++] = card;
	}
	return n;
}

/* The flow takes the shortest of its hand, of several the one that has had least. So a flow that fills its queues, or
 * has made them pay, leaves most others at least one that it has not. */
static struct priority_queue *choose_queue(struct priority_level *level, uint64_t hash)
{
	unsigned hand[PRIORITY_HAND_MAX], n = deal(level, hash, hand);
	struct priority_queue *best = NULL;

	for (unsigned i = 0; i < n; i++) {
		struct priority_queue *queue = &level->queues[hand[i]];

		if (!best || queue->n < best->n || (queue->n == best->n && queue->vt < best->vt))
			best = queue;
	}
	return best;
}

/* The whole hand pays, or the flow would have its next turn from another of its queues. */
static void flow_pays(struct priority_level *level, uint64_t hash, uint64_t cost_ns)
{
	unsigned hand[PRIORITY_HAND_MAX], n;

	if (!level->queues)
		make_queues(level);
	n = deal(level, hash, hand);
	for (unsigned i = 0; i < n; i++) {
		struct priority_queue *queue = &level->queues[hand[i]];

		if (queue->vt < level->inner_vt)
			queue->vt = level->inner_vt;
		queue->vt += cost_ns;
		if (queue->vt > level->top_vt)
			level->top_vt = queue->vt;
	}
}

/* It has had so much more than others that it lets them go first, if there are any: its turn comes after what this turn
 * of the loop still brings. With its turn the debt is gone, as time goes on from there. */
static bool in_debt(const struct priority *p, struct priority_level *level, uint64_t flow)
{
	if (level->vt > p->vt + PRIORITY_SLICE_NS * (uint64_t)PRIORITY_SEATS_TOTAL / weight(level))
		return true;
	return level->queues && level->top_vt > level->inner_vt + PRIORITY_SLICE_NS &&
	       choose_queue(level, flow)->vt > level->inner_vt + PRIORITY_SLICE_NS;
}

void priority_charge(struct priority_request *r, int64_t cost_ns)
{
	if (!r->level || cost_ns <= 0)
		return;
	r->level->vt += (uint64_t)cost_ns * PRIORITY_SEATS_TOTAL / weight(r->level);
	flow_pays(r->level, r->flow, (uint64_t)cost_ns);
}

void priority_run(struct priority *p, struct priority_request *r)
{
	int64_t began_ns = p->clock();

	r->run(r);
	priority_charge(r, p->clock() - began_ns - r->seats * PRIORITY_SEAT_NS);
}

static void enqueue(struct priority *p, struct priority_request *r, struct priority_queue *queue)
{
	struct priority_level *level = r->level;

	if (!queue->n) {
		if (queue->vt < level->inner_vt)
			queue->vt = level->inner_vt;
		list_add_tail(&level->waiting, &queue->link);
	}
	if (!level->queued && level->vt < p->vt)
		level->vt = p->vt;
	r->queue = queue;
	list_add_tail(&queue->requests, &r->link);
	queue->n++;
	level->queued++;
	level->queued_seats += r->seats;
	p->queued++;
	priority_count_queued(r, 1);
	if (!loop_timer_armed(&p->turn->timer))
		loop_timer_arm(p->loop, &p->turn->timer, TIMER_NS);
}

static void dequeue(struct priority *p, struct priority_request *r)
{
	struct priority_level *level = r->level;
	struct priority_queue *queue = r->queue;

	list_del(&r->link);
	queue->n--;
	level->queued--;
	level->queued_seats -= r->seats;
	p->queued--;
	priority_count_queued(r, -1);
	if (!queue->n)
		list_del(&queue->link);
}

static void begin(struct priority_request *r, int64_t waited_ns)
{
	r->level->in_use += r->seats;
	r->level->executing++;
	priority_count_executing(r, 1);
	priority_count_begun(r, waited_ns);
}

/* ---- turns ---- */

static struct priority_queue *next_of(const struct priority_level *level)
{
	struct priority_queue *best = NULL;

	list_foreach(queue, &level->waiting, struct priority_queue, link)
		if (!best || queue->vt < best->vt)
			best = queue;
	return best;
}

static struct priority_request *next(struct priority *p)
{
	struct priority_request *best = NULL;

	list_foreach(level, &p->levels, struct priority_level, link) {
		struct priority_queue *queue = level->queued ? next_of(level) : NULL;
		struct priority_request *r;

		if (!queue || (best && best->level->vt <= level->vt))
			continue;
		r = list_first(&queue->requests, struct priority_request, link);
		if (has_seats(p, level, r->seats))
			best = r;
	}
	return best;
}

static void take_turn(struct priority *p, struct priority_request *r)
{
	struct priority_level *level = r->level;
	uint64_t cost_ns = r->seats * (uint64_t)PRIORITY_SEAT_NS;
	int64_t now_ns = p->clock();

	p->vt = level->vt;
	level->inner_vt = r->queue->vt;
	r->queue->vt += cost_ns;
	dequeue(p, r);
	level_pays(p, level, cost_ns);
	begin(r, now_ns - r->since_ns);
	priority_run(p, r);
}

static void take_turns(struct loop_defer *defer)
{
	struct priority *p = container_of(defer, struct priority_turn, defer)->p;
	int64_t until_ns = p->clock() + PRIORITY_SLICE_NS;
	struct priority_request *r;

	while ((r = next(p))) {
		take_turn(p, r);
		if (p->clock() >= until_ns)
			break;
	}
	if (p->queued && next(p))
		loop_defer(p->loop, defer);
}

static void look_for_overdue(struct loop_timer *timer)
{
	struct priority *p = container_of(timer, struct priority_turn, timer)->p;
	int64_t limit_ns = p->clock() - PRIORITY_WAIT_NS;

	list_foreach(level, &p->levels, struct priority_level, link) {
		for (unsigned i = 0; level->queues && i < level->n_queues; i++) {
			struct priority_queue *queue = &level->queues[i];

			while (queue->n) {
				struct priority_request *r =
					list_first(&queue->requests, struct priority_request, link);

				if (r->since_ns > limit_ns)
					break;
				dequeue(p, r);
				priority_count_refused(r, PRIORITY_TIME_OUT, PRIORITY_WAIT_NS);
				r->left = true;
				r->refuse(r);
			}
		}
	}
	if (p->queued)
		loop_timer_arm(p->loop, timer, TIMER_NS);
}

/* ---- coming and going ---- */

static uint64_t flow_hash(const struct priority_schema *s, const struct authz_attributes *a)
{
	struct str by = s->by == PRIORITY_BY_USER ? a->user->name : s->by == PRIORITY_BY_NAMESPACE ? a->ns : STR_NULL;

	return s->hash ^ hash_bytes(by.p, by.n) * UINT64_C(0x9e3779b97f4a7c15);
}

static enum priority_verdict refuse(struct priority_request *r, enum priority_reason reason)
{
	priority_count_refused(r, reason, -1);
	r->left = true;
	return PRIORITY_REFUSE;
}

static enum priority_verdict wait_or_refuse(struct priority *p, struct priority_request *r)
{
	struct priority_level *level = r->level;
	struct priority_queue *queue;

	if (level->reject && !has_seats(p, level, level->queued_seats + r->seats))
		return refuse(r, PRIORITY_NO_SEATS);
	if (!level->queues)
		make_queues(level);
	queue = choose_queue(level, r->flow);
	if (queue->n >= level->length_max)
		return refuse(r, PRIORITY_QUEUE_FULL);
	r->since_ns = p->clock();
	enqueue(p, r, queue);
	loop_defer(p->loop, &p->turn->defer);
	return PRIORITY_WAIT;
}

enum priority_verdict priority_enter(struct priority *p, const struct authz_attributes *attributes, unsigned seats,
				     struct priority_request *r)
{
	const struct priority_schema *s = priority_config_match(p->config, attributes);
	struct priority_level *level;
	bool alone;

	if (!s)
		return PRIORITY_RUN;
	r->level = level = s->level;
	r->figures = s->figures;
	memcpy(r->schema_uid, s->uid, sizeof(r->schema_uid));
	memcpy(r->level_uid, level->uid, sizeof(r->level_uid));
	r->seats = seats_for(level, seats);
	r->flow = flow_hash(s, attributes);
	/* Nobody steps in before those that wait for their turn; before those that wait for seats only a plain one. */
	alone = !p->queued || (r->seats == 1 && !level->queued && !next(p));
	if (!alone || !has_seats(p, level, r->seats) || in_debt(p, level, r->flow) ||
	    p->clock() - loop_now_ns(p->loop) >= PRIORITY_SLICE_NS)
		return wait_or_refuse(p, r);
	level_pays(p, level, r->seats * (uint64_t)PRIORITY_SEAT_NS);
	begin(r, 0);
	return PRIORITY_RUN;
}

void priority_leave(struct priority *p, struct priority_request *r)
{
	struct priority_level *level = r->level;

	if (!level || r->left)
		return;
	r->left = true;
	if (r->link.next && !list_empty(&r->link)) {
		dequeue(p, r);
		priority_count_refused(r, PRIORITY_CANCELLED, p->clock() - r->since_ns);
	} else {
		level->in_use -= r->seats;
		level->executing--;
		priority_count_executing(r, -1);
		if (p->queued)
			loop_defer(p->loop, &p->turn->defer);
	}
}
