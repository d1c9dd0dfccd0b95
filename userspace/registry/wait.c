/* SPDX-License-Identifier: Apache-2.0 */
/* Creations of pods that come before their namespace has its default service account, as in one apply of a
 * namespace and what is in it: they wait for it, shortly, and are then tried once more from the start.
 *
 * Invariant: a waiting write owns all it points to. Loop thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

#define WAIT_NS NS_PER_S
#define WAITING_MAX 1024 /* more are refused at once */

static size_t count(const struct list *writes)
{
	size_t n = 0;

	for (const struct list *at = writes->next; at != writes; at = at->next)
		n++;
	return n;
}

static void run_all(struct list *writes)
{
	while (!list_empty(writes)) {
		struct write *w = list_first(writes, struct write, link);

		list_del(&w->link);
		write_run_create(w);
	}
}

static void on_timer(struct loop_timer *timer)
{
	struct registry *reg = container_of(timer, struct registry, waiting.timer);
	struct list due = LIST_INIT(due);
	int64_t now = loop_now_ns(reg->loop);

	while (!list_empty(&reg->waiting.writes)) {
		struct write *w = list_first(&reg->waiting.writes, struct write, link);

		if (w->deadline_ns > now) {
			loop_timer_arm(reg->loop, timer, w->deadline_ns - now);
			break;
		}
		list_del(&w->link);
		list_add_tail(&due, &w->link);
	}
	run_all(&due);
}

static void on_account(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	struct registry *reg = container_of(watch, struct registry, waiting.accounts);
	struct list due = LIST_INIT(due);

	(void)prev;
	if (type != REGISTRY_ADDED || !str_is(o->name, "default"))
		return;
	list_foreach_safe(w, &reg->waiting.writes, struct write, link) {
		if (!str_eq(w->ns, o->ns))
			continue;
		list_del(&w->link);
		list_add_tail(&due, &w->link);
	}
	run_all(&due);
}

void waiting_init(struct registry *reg)
{
	list_init(&reg->waiting.writes);
	loop_timer_init(&reg->waiting.timer, on_timer);
	reg->waiting.accounts.kind = KIND_SERVICEACCOUNT;
	reg->waiting.accounts.fn = on_account;
	registry_watch_start(reg, &reg->waiting.accounts);
}

void waiting_finish(struct registry *reg)
{
	static const struct err gone = { .code = -ECANCELED, .status = 503 };

	registry_watch_stop(reg, &reg->waiting.accounts);
	loop_timer_cancel(reg->loop, &reg->waiting.timer);
	while (!list_empty(&reg->waiting.writes)) {
		struct write *w = list_first(&reg->waiting.writes, struct write, link);

		w->done = NULL;
		w->simple_done = NULL;
		write_fail(w, &gone); /* unlinks and frees it */
	}
}

void waiting_add(struct write *w)
{
	struct waiting *waiting = &w->reg->waiting;

	w->waited = true;
	w->user = NULL;
	w->object = json_clone_deep(&w->arena, w->object);
	w->ns = meta_namespace(w->object);
	w->name = arena_str(&w->arena, w->name);
	if (count(&waiting->writes) >= WAITING_MAX) {
		write_run_create(w);
		return;
	}
	w->deadline_ns = loop_now_ns(w->reg->loop) + WAIT_NS;
	list_add_tail(&waiting->writes, &w->link);
	if (!loop_timer_armed(&waiting->timer))
		loop_timer_arm(w->reg->loop, &waiting->timer, WAIT_NS);
}
