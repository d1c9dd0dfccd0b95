/* SPDX-License-Identifier: Apache-2.0 */
/* Watches, turns and bindings: the scheduler's connection with the registry. A pod that appears is
 * tried in the same turn of the loop; its place counts as taken from then on. Loop thread only. */
#include "scheduler/scheduler.h"

#include <errno.h>

#include "scheduler/cycle.h"
#include "scheduler/queue.h"
#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

#define SCHEDULER_BATCH_MAX 64             /* pods in one turn of the loop */
#define SCHEDULER_SLICE_NS (2 * NS_PER_MS) /* and time in one turn */

struct scheduler {
	struct loop *loop;
	struct registry *reg;
	struct queue queue;
	struct cache cache;
	struct loop_defer defer;
	struct registry_watch watch_pods, watch_nodes;
	struct list writes;
	struct map gated; /* uids of pods with scheduling gates */
	struct arena arena;
	struct scheduler_stats stats;
	bool started;
};

/* A binding or a condition under way. */
struct write {
	struct list link;
	struct scheduler *scheduler; /* NULL: destroyed meanwhile */
	bool binding;
	char *uid, *node;
	const char *reason; /* of the condition */
	char *message;
	const struct object *pod;
};

/* Writes whose scheduler is gone: they free themselves when the registry tells how they ended. One that is itself
 * destroyed before that never does, and they stay here. */
static struct list orphans = LIST_INIT(orphans);

static struct write *write_begin(struct scheduler *s, const struct object *pod)
{
	struct write *w = mem_new(struct write);

	w->scheduler = s;
	w->uid = str_dup(pod->uid);
	w->pod = object_ref(pod);
	list_add_tail(&s->writes, &w->link);
	return w;
}

static void write_destroy(struct write *w)
{
	list_del(&w->link);
	object_unref(w->pod);
	free(w->uid);
	free(w->node);
	free(w->message);
	free(w);
}

/* ---- conditions ---- */

static int mutate_condition(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct write *w = arg;
	struct json *conditions = json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions");
	struct json *at = meta_condition(conditions, "PodScheduled");
	char now[CLOCK_RFC3339_MAX];

	if (!str_is(meta_uid(object), w->uid) || json_at_str(object, "spec.nodeName").n > 0)
		return 1;
	if (at && str_is(json_get_str(at, "status"), "False") && str_is(json_get_str(at, "reason"), w->reason) &&
	    str_is(json_get_str(at, "message"), w->message))
		return 1;
	clock_format_rfc3339(clock_real_ns(), now);
	if (!at) {
		at = json_new_object(arena);
		json_set_cstr(arena, at, "type", "PodScheduled");
		json_append(conditions, at);
	}
	if (!str_is(json_get_str(at, "status"), "False"))
		json_set_cstr(arena, at, "lastTransitionTime", arena_strdup(arena, now));
	json_set_cstr(arena, at, "status", "False");
	json_set_cstr(arena, at, "reason", w->reason);
	json_set_cstr(arena, at, "message", arena_strdup(arena, w->message));
	return 0;
}

static void condition_done(void *arg, const struct object *o, const struct err *err)
{
	struct write *w = arg;

	if (w->scheduler && err && err->status != 404)
		log_warn("pod condition not written pod=%.*s/%.*s err=\"%s\"", STR_ARG(w->pod->ns),
			 STR_ARG(w->pod->name), err_message(err));
	write_destroy(w);
}

static void write_condition(struct scheduler *s, const struct object *pod, const char *reason, const char *message)
{
	struct write *w = write_begin(s, pod);

	w->reason = reason;
	w->message = mem_strdup(message);
	registry_update(s->reg, KIND_POD, pod->ns, pod->name, "status", mutate_condition, w, condition_done, w);
}

/* ---- bindings ---- */

static int mutate_binding(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct write *w = arg;
	struct json *spec = json_ensure_object(arena, object, "spec");
	struct json *conditions, *at;
	char now[CLOCK_RFC3339_MAX];

	if (!str_is(meta_uid(object), w->uid))
		return api_err_not_found(err, KIND_POD, w->pod->name);
	if (meta_deleting(object) || json_get_str(spec, "nodeName").n > 0)
		return err_set_status(err, -EAGAIN, 409, "Conflict",
				      "pod %.*s is being deleted or already assigned to a node", STR_ARG(w->pod->name));
	json_set_cstr(arena, spec, "nodeName", arena_strdup(arena, w->node));
	conditions = json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions");
	at = meta_condition(conditions, "PodScheduled");
	if (at)
		json_unlink(conditions, at);
	clock_format_rfc3339(clock_real_ns(), now);
	at = json_new_object(arena);
	json_set_cstr(arena, at, "type", "PodScheduled");
	json_set_cstr(arena, at, "status", "True");
	json_set_cstr(arena, at, "lastTransitionTime", arena_strdup(arena, now));
	json_append(conditions, at);
	return 0;
}

static const double tries_limits[SCHEDULER_TRIES_BUCKETS] = { 1, 2, 4, 8, 16 };
const struct histogram_scale SCHEDULER_TRIES = { tries_limits, SCHEDULER_TRIES_BUCKETS };

static void count_tries(struct scheduler *s, unsigned tries)
{
	s->stats.tries[histogram_bucket(&SCHEDULER_TRIES, tries)]++;
	s->stats.tries_sum += tries;
}

static void binding_done(void *arg, const struct object *o, const struct err *err)
{
	struct write *w = arg;
	struct scheduler *s = w->scheduler;
	struct queued_pod *p;

	if (!s) {
		write_destroy(w);
		return;
	}
	s->stats.binding--;
	p = queue_get(&s->queue, str_of(w->uid));
	if (!err) {
		s->stats.scheduled++;
		count_tries(s, p ? p->attempts : 1);
		registry_event(s->reg, SCHEDULER_NAME, w->pod, "Normal", "Scheduled",
			       "Successfully assigned %.*s/%.*s to %s", STR_ARG(w->pod->ns), STR_ARG(w->pod->name),
			       w->node);
		queue_remove(&s->queue, str_of(w->uid));
		write_destroy(w);
		return;
	}
	s->stats.errors++;
	if (cache_is_assumed(&s->cache, str_of(w->uid)) && cache_remove_pod(&s->cache, str_of(w->uid)))
		queue_move_all(&s->queue);
	if (p && p->state == QUEUE_OUT)
		queue_put_backoff(p);
	if (err->status != 404 && err->status != 409)
		log_warn("pod not bound pod=%.*s/%.*s node=%s err=\"%s\"", STR_ARG(w->pod->ns), STR_ARG(w->pod->name),
			 w->node, err_message(err));
	write_destroy(w);
}

static void bind_pod(struct scheduler *s, const struct cycle *c, const struct cache_node *node)
{
	struct write *w = write_begin(s, c->object);

	w->binding = true;
	w->node = mem_strdup(node->name);
	s->stats.binding++;
	cache_add_pod(&s->cache, c->object->uid, str_of(w->node), c->pod, true);
	registry_update(s->reg, KIND_POD, c->object->ns, c->object->name, "binding", mutate_binding, w, binding_done,
			w);
}

/* ---- turns ---- */

static void try_pod(struct scheduler *s, struct queued_pod *p)
{
	const struct object *o = registry_get(s->reg, KIND_POD, str_of(p->ns), str_of(p->name));
	struct cycle c = { .arena = &s->arena, .object = o };
	struct cycle_result result;
	int64_t began = clock_monotonic_ns();
	uint64_t took;

	if (!o || !str_is(o->uid, p->uid) || o->deleting) {
		queue_remove(&s->queue, str_of(p->uid));
		return;
	}
	c.pod = registry_parse(&s->arena, o);
	c.spec = json_get(c.pod, "spec");
	s->stats.attempts++;
	cycle_run(&c, &s->cache, &result);
	took = (uint64_t)(clock_monotonic_ns() - began);
	if (took > s->stats.longest_cycle_ns)
		s->stats.longest_cycle_ns = took;
	if (result.node) {
		bind_pod(s, &c, result.node);
		return;
	}
	s->stats.failed++;
	queue_put_unschedulable(p);
	registry_event(s->reg, SCHEDULER_NAME, o, "Warning", "FailedScheduling", "%s", result.message);
	write_condition(s, o, "Unschedulable", result.message);
}

static void turn(struct loop_defer *defer)
{
	struct scheduler *s = container_of(defer, struct scheduler, defer);
	int64_t until = clock_monotonic_ns() + SCHEDULER_SLICE_NS;
	struct queued_pod *p;

	for (unsigned i = 0; i < SCHEDULER_BATCH_MAX; i++) {
		p = queue_pop(&s->queue);
		if (!p)
			return;
		try_pod(s, p);
		arena_reset(&s->arena);
		if (clock_monotonic_ns() >= until)
			break;
	}
	if (s->queue.n[QUEUE_ACTIVE] > 0)
		loop_defer(s->loop, &s->defer);
}

static void wake(struct queue *q)
{
	struct scheduler *s = container_of(q, struct scheduler, queue);

	if (s->started)
		loop_defer(s->loop, &s->defer);
}

/* ---- changes ---- */

static bool has_ended(const struct json *pod)
{
	struct str phase = json_at_str(pod, "status.phase");

	return str_is(phase, "Succeeded") || str_is(phase, "Failed");
}

static void forget_pod(struct scheduler *s, const struct object *o)
{
	map_remove(&s->gated, o->uid);
	queue_remove(&s->queue, o->uid);
	if (cache_remove_pod(&s->cache, o->uid))
		queue_move_all(&s->queue);
}

static void hold_gated(struct scheduler *s, const struct object *o, const struct json *pod)
{
	queue_remove(&s->queue, o->uid);
	map_put(&s->gated, o->uid, s);
	if (!str_is(json_get_str(meta_condition(json_at(pod, "status.conditions"), "PodScheduled"), "reason"),
		    "SchedulingGated"))
		write_condition(s, o, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates");
}

static bool spec_changed(struct arena *arena, const struct json *pod, const struct object *prev)
{
	const struct json *old = registry_parse(arena, prev);

	return !json_equal(json_get(pod, "spec"), json_get(old, "spec")) ||
	       !json_equal(json_at(pod, "metadata.labels"), json_at(old, "metadata.labels"));
}

static void see_waiting_pod(struct scheduler *s, struct arena *arena, const struct object *o, const struct json *pod,
			    const struct object *prev)
{
	const struct json *spec = json_get(pod, "spec");
	struct str name = json_get_str(spec, "schedulerName");

	if (name.n > 0 && !str_is(name, SCHEDULER_NAME))
		return;
	if (json_count(json_get(spec, "schedulingGates")) > 0) {
		hold_gated(s, o, pod);
		return;
	}
	map_remove(&s->gated, o->uid);
	if (prev && queue_get(&s->queue, o->uid) && !spec_changed(arena, pod, prev))
		return;
	queue_add(&s->queue, o->ns, o->name, o->uid, json_get_int(spec, "priority", 0));
}

static void see_placed_pod(struct scheduler *s, struct arena *arena, const struct object *o, const struct json *pod,
			   const struct object *prev)
{
	const struct cache_pod *known = map_get(&s->cache.pods, o->uid);

	if (!cache_is_assumed(&s->cache, o->uid))
		queue_remove(&s->queue, o->uid);
	if (known && !known->assumed && prev && !spec_changed(arena, pod, prev))
		return;
	cache_add_pod(&s->cache, o->uid, json_at_str(pod, "spec.nodeName"), pod, false);
	if (known && prev)
		queue_move_all(&s->queue); /* it may have shrunk */
}

static void on_pod(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
		   const struct object *prev)
{
	struct scheduler *s = container_of(watch, struct scheduler, watch_pods);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod;

	if (type == REGISTRY_DELETED) {
		forget_pod(s, o);
		return;
	}
	pod = registry_parse(&arena, o);
	if (has_ended(pod))
		forget_pod(s, o);
	else if (json_at_str(pod, "spec.nodeName").n > 0)
		see_placed_pod(s, &arena, o, pod, prev);
	else if (!o->deleting)
		see_waiting_pod(s, &arena, o, pod, prev);
	else
		forget_pod(s, o);
}

/* Heartbeats change nothing that matters here. */
static bool node_changed(const struct object *o, const struct object *prev)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *a = registry_parse(&arena, o), *b = registry_parse(&arena, prev);

	return !json_equal(json_get(a, "spec"), json_get(b, "spec")) ||
	       !json_equal(json_at(a, "metadata.labels"), json_at(b, "metadata.labels")) ||
	       !json_equal(json_at(a, "status.allocatable"), json_at(b, "status.allocatable"));
}

static void on_node(struct registry_watch *watch, enum registry_event_type type, const struct object *o,
		    const struct object *prev)
{
	struct scheduler *s = container_of(watch, struct scheduler, watch_nodes);

	if (type == REGISTRY_DELETED) {
		cache_set_node(&s->cache, o->name, NULL);
		return;
	}
	if (type == REGISTRY_MODIFIED && prev && !node_changed(o, prev))
		return;
	cache_set_node(&s->cache, o->name, o);
	queue_move_all(&s->queue);
}

/* ---- life ---- */

int scheduler_create(struct loop *loop, struct registry *reg, struct scheduler **ret, struct err *err)
{
	struct scheduler *s = mem_new(struct scheduler);

	plugins_assert_unique();
	s->loop = loop;
	s->reg = reg;
	s->defer.fn = turn;
	list_init(&s->writes);
	queue_init(&s->queue, loop, wake);
	s->watch_nodes = (struct registry_watch){ .fn = on_node, .kind = KIND_NODE };
	s->watch_pods = (struct registry_watch){ .fn = on_pod, .kind = KIND_POD };
	list_init(&s->watch_nodes.link);
	list_init(&s->watch_pods.link);
	/* Nodes first, and no try before all pods are counted. */
	registry_watch_start(reg, &s->watch_nodes);
	registry_watch_start(reg, &s->watch_pods);
	s->started = true;
	if (s->queue.n[QUEUE_ACTIVE] > 0)
		loop_defer(loop, &s->defer);
	*ret = s;
	return 0;
}

void scheduler_destroy(struct scheduler *s)
{
	if (!s)
		return;
	registry_watch_stop(s->reg, &s->watch_pods);
	registry_watch_stop(s->reg, &s->watch_nodes);
	loop_defer_cancel(s->loop, &s->defer);
	list_foreach_safe(w, &s->writes, struct write, link) {
		w->scheduler = NULL;
		list_del(&w->link);
		list_add_tail(&orphans, &w->link);
	}
	queue_finish(&s->queue);
	cache_finish(&s->cache);
	map_finish(&s->gated);
	arena_finish(&s->arena);
	free(s);
}

void scheduler_get_stats(const struct scheduler *s, struct scheduler_stats *ret)
{
	*ret = s->stats;
	ret->active = s->queue.n[QUEUE_ACTIVE];
	ret->backoff = s->queue.n[QUEUE_BACKOFF];
	ret->unschedulable = s->queue.n[QUEUE_UNSCHEDULABLE];
	ret->gated = s->gated.n;
}
