/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler against the real registry: bindings, conditions and events, what brings waiting pods
 * back, whom it leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "datastore/store.h"
#include "scheduler/queue.h"
#include "scheduler/scheduler.h"
#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

#define WAIT_NS (20 * NS_PER_S)
#define LOOK_NS (NS_PER_MS / 2)

struct house {
	char dir[64], path[96];
	struct loop *loop;
	struct store *store;
	struct registry *reg;
	struct scheduler *scheduler;
	struct loop_timer look, deadline;
	bool (*predicate)(struct house *h, void *arg);
	void *arg;
	bool timed_out;
	int pending, last_status;
};

static void on_look(struct loop_timer *t)
{
	struct house *h = container_of(t, struct house, look);

	if (h->predicate(h, h->arg))
		loop_stop(h->loop, 0);
	else
		loop_timer_arm(h->loop, &h->look, LOOK_NS);
}

static void on_deadline(struct loop_timer *t)
{
	struct house *h = container_of(t, struct house, deadline);

	h->timed_out = true;
	loop_stop(h->loop, 0);
}

static void wait_for(struct house *h, bool (*predicate)(struct house *h, void *arg), void *arg)
{
	h->predicate = predicate;
	h->arg = arg;
	h->timed_out = false;
	loop_timer_arm(h->loop, &h->look, 1);
	loop_timer_arm(h->loop, &h->deadline, WAIT_NS);
	loop_run(h->loop);
	loop_timer_cancel(h->loop, &h->look);
	loop_timer_cancel(h->loop, &h->deadline);
	assert_false(h->timed_out);
}

static bool none_pending(struct house *h, void *arg)
{
	return h->pending == 0;
}

static void done(void *arg, const struct object *o, const struct err *err)
{
	struct house *h = arg;

	h->pending--;
	h->last_status = err ? err->status : 0;
	if (err)
		fprintf(stderr, "write of the test failed: %s\n", err_message(err));
}

static void create(struct house *h, const char *text)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str group, version;
	struct json *o;

	assert_int_equal(json_parse(&arena, str_of(text), 0, &o, NULL), 0);
	assert_int_equal(api_parse_api_version(meta_api_version(o), &group, &version), 0);
	h->pending++;
	registry_create(h->reg, api_kind_by_kind(group, version, meta_kind(o)), o, done, h);
	wait_for(h, none_pending, NULL);
	assert_int_equal(h->last_status, 0);
}

static void update(struct house *h, const struct api_kind *kind, const char *ns, const char *name,
		   const char *subresource, registry_mutate_fn *mutate, void *arg)
{
	h->pending++;
	registry_update(h->reg, kind, str_of(ns), str_of(name), subresource, mutate, arg, done, h);
	wait_for(h, none_pending, NULL);
	assert_int_equal(h->last_status, 0);
}

static void delete_now(struct house *h, const struct api_kind *kind, const char *ns, const char *name)
{
	const struct registry_delete_options now = { .grace_period_s = 0 };

	h->pending++;
	registry_delete(h->reg, kind, str_of(ns), str_of(name), &now, done, h);
	wait_for(h, none_pending, NULL);
}

static int mutate_allocatable(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	static const char *const keys[] = { "capacity", "allocatable" };
	struct json *status = json_ensure_object(arena, object, "status");

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct json *list = json_ensure_object(arena, status, keys[i]);

		json_set_cstr(arena, list, "cpu", "2");
		json_set_cstr(arena, list, "memory", "4Gi");
		json_set_cstr(arena, list, "pods", "110");
	}
	return 0;
}

/* What the node lifecycle controller does when a node says that it is ready. */
static int mutate_ready(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_remove(json_get(object, "spec"), "taints");
	return 0;
}

static int setup(void **state)
{
	struct house *h = mem_new(struct house);
	struct registry_options options = { .service_cidr = "10.43.0.0/16",
					    .node_port_min = 30000,
					    .node_port_max = 32767,
					    .cluster_domain = "cluster.local",
					    .cluster_dns = "10.43.0.10" };
	struct store_options store = { .path = h->path };
	_cleanup_err_ struct err err = ERR_INIT;

	log_set_level(LOG_LEVEL_ERROR);
	snprintf(h->dir, sizeof(h->dir), "/tmp/k3c-scheduler-XXXXXX");
	if (!mkdtemp(h->dir))
		return -1;
	snprintf(h->path, sizeof(h->path), "%s/state.db", h->dir);
	loop_timer_init(&h->look, on_look);
	loop_timer_init(&h->deadline, on_deadline);
	if (loop_create(NULL, &h->loop, &err) < 0 || store_open(h->loop, &store, &h->store, &err) < 0 ||
	    registry_create_all(h->loop, h->store, &options, &h->reg, &err) < 0)
		fail_msg("%s", err_message(&err));
	create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"default\"}}");
	create(h, "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"default\",\"namespace\":"
		  "\"default\"}}");
	create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n1\"}}");
	update(h, KIND_NODE, "", "n1", "status", mutate_allocatable, NULL);
	update(h, KIND_NODE, "", "n1", NULL, mutate_ready, NULL);
	assert_int_equal(scheduler_create(h->loop, h->reg, &h->scheduler, &err), 0);
	*state = h;
	return 0;
}

static bool turns_over(struct house *h, void *arg)
{
	return --*(int *)arg < 0;
}

static int teardown(void **state)
{
	struct house *h = *state;
	int turns = 3;

	scheduler_destroy(h->scheduler);
	registry_destroy(h->reg);
	store_close(h->store);
	/* The writer's last message is the loop's to deliver. */
	wait_for(h, turns_over, &turns);
	loop_destroy(h->loop);
	fs_remove_tree(h->dir, NULL);
	free(h);
	return 0;
}

#define POD(name, more)                                                                                                \
	"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"" name                                       \
	"\",\"namespace\":\"default\"},\"spec\":{" more "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"
#define POD_CPU(name, cpu)                                                                                             \
	"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"" name                                       \
	"\",\"namespace\":\"default\"},\"spec\":{"                                                                     \
	"\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{\"requests\":{\"cpu\":\"" cpu "\"}}}]}}"

static struct json *pod_json(struct house *h, struct arena *arena, const char *name)
{
	const struct object *o = registry_get(h->reg, KIND_POD, STR("default"), str_of(name));

	return o ? registry_parse(arena, o) : NULL;
}

static bool is_bound(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod = pod_json(h, &arena, arg);

	return str_is(json_at_str(pod, "spec.nodeName"), "n1") &&
	       meta_condition_is(json_at(pod, "status.conditions"), "PodScheduled", "True");
}

struct condition_wanted {
	const char *pod, *reason, *message;
};

static bool has_condition(struct house *h, void *arg)
{
	const struct condition_wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod = pod_json(h, &arena, w->pod);
	struct json *c = meta_condition(json_at(pod, "status.conditions"), "PodScheduled");

	return str_is(json_get_str(c, "status"), "False") && str_is(json_get_str(c, "reason"), w->reason) &&
	       str_is(json_get_str(c, "message"), w->message);
}

struct event_wanted {
	const char *reason, *message, *component;
	bool found;
};

static void look_at_event(void *arg, const struct object *o)
{
	struct event_wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *e = registry_parse(&arena, o);

	w->found = w->found ||
		   (str_is(json_get_str(e, "reason"), w->reason) && str_is(json_get_str(e, "message"), w->message));
}

static bool has_event(struct house *h, void *arg)
{
	struct event_wanted *w = arg;

	registry_each(h->reg, KIND_EVENT, STR("default"), look_at_event, w);
	return w->found;
}

static void test_binds(void **state)
{
	struct house *h = *state;
	struct scheduler_stats stats;

	create(h, POD("one", ""));
	wait_for(h, is_bound, "one");
	wait_for(h, has_event, (&(struct event_wanted){ "Scheduled", "Successfully assigned default/one to n1" }));
	scheduler_get_stats(h->scheduler, &stats);
	assert_int_equal(stats.scheduled, 1);
	assert_int_equal(stats.binding, 0);
	assert_int_equal(stats.tries[0], 1);
	assert_int_equal(stats.tries_sum, 1);
}

#define NO_CPU                                                                                                         \
	"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims "   \
	"found for incoming pod."

static bool were_bound(struct house *h, void *arg)
{
	struct scheduler_stats stats;

	scheduler_get_stats(h->scheduler, &stats);
	return stats.scheduled == (uintptr_t)arg;
}

/* A pod that does not fit says so, and gets its place when another goes. */
static void test_waits_for_room(void **state)
{
	struct scheduler_stats before, stats;
	struct house *h = *state;

	scheduler_get_stats(h->scheduler, &before);
	create(h, POD_CPU("big", "1500m"));
	wait_for(h, is_bound, "big");
	create(h, POD_CPU("waiting", "1"));
	wait_for(h, has_condition, (&(struct condition_wanted){ "waiting", "Unschedulable", NO_CPU }));
	wait_for(h, has_event, (&(struct event_wanted){ "FailedScheduling", NO_CPU }));
	delete_now(h, KIND_POD, "default", "big");
	wait_for(h, is_bound, "waiting");
	wait_for(h, were_bound, (void *)(uintptr_t)(before.scheduled + 2));
	scheduler_get_stats(h->scheduler, &stats);
	assert_int_equal(stats.tries[0], before.tries[0] + 1);
	assert_true(stats.tries_sum >= before.tries_sum + 3);
	delete_now(h, KIND_POD, "default", "waiting");
}

/* Pods created at once are counted against each other before any binding is durable. */
static bool two_of_three(struct house *h, void *arg)
{
	struct scheduler_stats s;

	scheduler_get_stats(h->scheduler, &s);
	return s.binding == 0 && s.active == 0 && s.unschedulable + s.backoff == 1 &&
	       is_bound(h, "c1") + is_bound(h, "c2") + is_bound(h, "c3") == 2;
}

static void test_assumed_pods_count(void **state)
{
	struct house *h = *state;
	static const char *const texts[] = { POD_CPU("c1", "1"), POD_CPU("c2", "900m"), POD_CPU("c3", "1") };
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct json *o;

		assert_int_equal(json_parse(&arena, str_of(texts[i]), 0, &o, NULL), 0);
		h->pending++;
		registry_create(h->reg, KIND_POD, o, done, h);
	}
	wait_for(h, none_pending, NULL);
	wait_for(h, two_of_three, NULL);
	delete_now(h, KIND_POD, "default", "c1");
	delete_now(h, KIND_POD, "default", "c2");
	delete_now(h, KIND_POD, "default", "c3");
}

static int set_unschedulable(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_bool(arena, json_ensure_object(arena, object, "spec"), "unschedulable", *(bool *)arg);
	return 0;
}

static void test_cordon(void **state)
{
	struct house *h = *state;
	bool cordoned = true;

	update(h, KIND_NODE, "", "n1", NULL, set_unschedulable, &cordoned);
	create(h, POD("kept-out", ""));
	wait_for(h, has_condition,
		 (&(struct condition_wanted){ "kept-out", "Unschedulable",
					      "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 "
					      "nodes are available: 1 Preemption is not helpful for scheduling." }));
	cordoned = false;
	update(h, KIND_NODE, "", "n1", NULL, set_unschedulable, &cordoned);
	wait_for(h, is_bound, "kept-out");
}

static int remove_gates(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_remove(json_get(object, "spec"), "schedulingGates");
	return 0;
}

static void test_gates(void **state)
{
	struct house *h = *state;
	struct scheduler_stats stats;

	create(h, POD("gated", "\"schedulingGates\":[{\"name\":\"example.com/g\"}],"));
	wait_for(h, has_condition,
		 (&(struct condition_wanted){ "gated", "SchedulingGated",
					      "Scheduling is blocked due to non-empty scheduling gates" }));
	scheduler_get_stats(h->scheduler, &stats);
	assert_int_equal(stats.gated, 1);
	update(h, KIND_POD, "default", "gated", NULL, remove_gates, NULL);
	wait_for(h, is_bound, "gated");
}

static void test_others_pods_are_left_alone(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	create(h, POD("other", "\"schedulerName\":\"mine\","));
	create(h, POD("ours", ""));
	wait_for(h, is_bound, "ours");
	assert_int_equal(json_at_str(pod_json(h, &arena, "other"), "spec.nodeName").n, 0);
}

/* After a restart the cache is as it was: what is bound counts, what waits is tried. */
static void test_restart(void **state)
{
	struct house *h = *state;
	_cleanup_err_ struct err err = ERR_INIT;

	create(h, POD_CPU("before", "1900m"));
	wait_for(h, is_bound, "before");
	scheduler_destroy(h->scheduler);
	h->scheduler = NULL;
	create(h, POD_CPU("meanwhile", "1"));
	assert_int_equal(scheduler_create(h->loop, h->reg, &h->scheduler, &err), 0);
	wait_for(h, has_condition, (&(struct condition_wanted){ "meanwhile", "Unschedulable", NO_CPU }));
}

static void test_queue_backoff(void **state)
{
	assert_int_equal(queue_backoff_ns(1), 1 * NS_PER_S);
	assert_int_equal(queue_backoff_ns(2), 2 * NS_PER_S);
	assert_int_equal(queue_backoff_ns(4), 8 * NS_PER_S);
	assert_int_equal(queue_backoff_ns(5), 10 * NS_PER_S);
	assert_int_equal(queue_backoff_ns(1000), 10 * NS_PER_S);
}

static void wake_nobody(struct queue *q)
{
}

static void test_queue_order(void **state)
{
	struct house *h = *state;
	struct queue q;

	queue_init(&q, h->loop, wake_nobody);
	queue_add(&q, STR("ns"), STR("a"), STR("a"), 0);
	queue_add(&q, STR("ns"), STR("b"), STR("b"), 10);
	queue_add(&q, STR("ns"), STR("c"), STR("c"), 0);
	queue_add(&q, STR("ns"), STR("d"), STR("d"), 10);
	assert_string_equal(queue_pop(&q)->name, "b");
	assert_string_equal(queue_pop(&q)->name, "d");
	queue_put_unschedulable(queue_get(&q, STR("b")));
	queue_move_all(&q); /* its back-off runs still; d is being tried and remembers */
	assert_int_equal(q.n[QUEUE_BACKOFF], 1);
	assert_true(queue_get(&q, STR("d"))->moved);
	assert_string_equal(queue_pop(&q)->name, "a");
	assert_string_equal(queue_pop(&q)->name, "c");
	assert_null(queue_pop(&q));
	queue_finish(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_binds),
		cmocka_unit_test(test_waits_for_room),
		cmocka_unit_test(test_assumed_pods_count),
		cmocka_unit_test(test_cordon),
		cmocka_unit_test(test_gates),
		cmocka_unit_test(test_others_pods_are_left_alone),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_queue_backoff),
		cmocka_unit_test(test_queue_order),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
