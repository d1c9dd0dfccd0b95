/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: counting to the end without losing or doubling a pod, indexes, failure, suspension, deletion. */
#include "tests/controllers/house.h"
#include "userspace/controllers/job_indexes.h"

#define JOB(name, more)                                                                                                \
	"{\"apiVersion\":\"batch/v1\",\"kind\":\"Job\",\"metadata\":{\"name\":\"" name                                 \
	"\",\"namespace\":\"default\"},"                                                                               \
	"\"spec\":{\"manualSelector\":true,\"selector\":{\"matchLabels\":{\"job\":\"" name "\"}}," more                \
	"\"template\":{\"metadata\":{\"labels\":{\"job\":\"" name "\"}},\"spec\":{\"restartPolicy\":\"Never\","        \
	"\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}"

static int end_pod(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *status = json_ensure_object(arena, object, "status");

	if (str_is(json_get_str(status, "phase"), "Succeeded") || str_is(json_get_str(status, "phase"), "Failed"))
		return 1;
	json_set_cstr(arena, status, "phase", arg);
	return 0;
}

/* A stand-in for containers that end at once. */
struct runs {
	struct registry_watch watch;
	struct house *house;
	const char *job, *phase;
	unsigned pods;
};

static void on_pod(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		   const struct object *prev)
{
	struct runs *r = container_of(w, struct runs, watch);

	if (type == REGISTRY_DELETED || !object_controller(o) || !str_is(object_controller(o)->name, r->job))
		return;
	r->pods += type == REGISTRY_ADDED;
	registry_update(r->house->reg, KIND_POD, o->ns, o->name, "status", end_pod, (void *)(uintptr_t)r->phase,
			house_pod_done, r->house);
}

static struct runs *runs_start(struct house *h, struct runs *r, const char *job, const char *phase)
{
	*r = (struct runs){ .watch = { .fn = on_pod, .kind = KIND_POD }, .house = h, .job = job, .phase = phase };
	h->hold_pods = true;
	registry_watch_start(h->reg, &r->watch);
	return r;
}

struct condition_wanted {
	const char *job, *type, *reason;
};

static bool has_condition(struct house *h, void *arg)
{
	const struct condition_wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *job = house_json(h, &arena, KIND_JOB, "default", w->job);
	struct json *c = meta_condition(json_at(job, "status.conditions"), w->type);

	return str_is(json_get_str(c, "status"), "True") && str_is(json_get_str(c, "reason"), w->reason) &&
	       house_is_quiet(h, NULL);
}

static void count_held(void *arg, const struct object *o)
{
	*(size_t *)arg += o->has_finalizers;
}

static void test_completes(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct runs r;
	struct json *status;
	size_t held = 0;

	runs_start(h, &r, "three", "Succeeded");
	house_create(h, JOB("three", "\"completions\":3,\"parallelism\":2,"));
	house_wait(h, has_condition, (&(struct condition_wanted){ "three", "Complete", "CompletionsReached" }));
	registry_watch_stop(h->reg, &r.watch);
	status = json_get(house_json(h, &arena, KIND_JOB, "default", "three"), "status");
	assert_int_equal(json_get_int(status, "succeeded", 0), 3);
	assert_int_equal(json_get_int(status, "active", 0), 0);
	assert_true(json_get_str(status, "completionTime").n > 0);
	assert_int_equal(r.pods, 3);
	registry_each_owned(h->reg, house_get(h, KIND_JOB, "default", "three")->uid, count_held, &held);
	assert_int_equal(held, 0);
}

static void test_indexed(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct runs r;

	runs_start(h, &r, "indexed", "Succeeded");
	house_create(h, JOB("indexed", "\"completionMode\":\"Indexed\",\"completions\":4,\"parallelism\":3,"));
	house_wait(h, has_condition, (&(struct condition_wanted){ "indexed", "Complete", "CompletionsReached" }));
	registry_watch_stop(h->reg, &r.watch);
	assert_true(str_is(
		json_at_str(house_json(h, &arena, KIND_JOB, "default", "indexed"), "status.completedIndexes"), "0-3"));
	assert_int_equal(r.pods, 4);
}

static void test_fails(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct runs r;

	runs_start(h, &r, "bad", "Failed");
	house_create(h, JOB("bad", "\"backoffLimit\":0,"));
	house_wait(h, has_condition, (&(struct condition_wanted){ "bad", "Failed", "BackoffLimitExceeded" }));
	registry_watch_stop(h->reg, &r.watch);
	assert_int_equal(json_at_int(house_json(h, &arena, KIND_JOB, "default", "bad"), "status.failed", 0), 1);
}

static int set_suspend(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_bool(arena, json_get(object, "spec"), "suspend", *(bool *)arg);
	return 0;
}

static void test_suspended(void **state)
{
	struct house *h = *state;
	struct runs r;
	bool suspend = false;

	runs_start(h, &r, "later", "Succeeded");
	house_create(h, JOB("later", "\"suspend\":true,"));
	house_wait(h, has_condition, (&(struct condition_wanted){ "later", "Suspended", "JobSuspended" }));
	assert_int_equal(r.pods, 0);
	house_update(h, KIND_JOB, "default", "later", NULL, set_suspend, &suspend);
	house_wait(h, has_condition, (&(struct condition_wanted){ "later", "Complete", "CompletionsReached" }));
	registry_watch_stop(h->reg, &r.watch);
}

static void count_of_job(void *arg, const struct object *o)
{
	*(size_t *)arg += object_controller(o) && str_is(object_controller(o)->name, "gone");
}

static bool is_gone(struct house *h, void *arg)
{
	size_t pods = 0;

	registry_each(h->reg, KIND_POD, STR("default"), count_of_job, &pods);
	return !house_get(h, KIND_JOB, "default", "gone") && pods == 0 && house_is_quiet(h, NULL);
}

static bool has_pods(struct house *h, void *arg)
{
	size_t pods = 0;

	registry_each(h->reg, KIND_POD, STR("default"), count_of_job, &pods);
	return pods == 2 && house_is_quiet(h, NULL);
}

/* The finalizers of its pods do not outlive the job. */
static void test_deletion(void **state)
{
	struct house *h = *state;

	h->hold_pods = false;
	house_create(h, JOB("gone", "\"completions\":2,\"parallelism\":2,"));
	house_wait(h, has_pods, NULL);
	house_delete(h, KIND_JOB, "default", "gone", "Background");
	house_wait(h, is_gone, NULL);
}

static void test_indexes(void **state)
{
	static const char *const texts[] = { "", "0", "0,1", "0-2", "0-2,5", "1,3,5-9" };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct job_indexes set;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		set = job_indexes_parse(&arena, str_of(texts[i]), 10);
		assert_string_equal(job_indexes_text(&arena, &set), texts[i]);
	}
	set = job_indexes_parse(&arena, STR("x,3-1,-5,8-99999999999,2"), 10);
	assert_string_equal(job_indexes_text(&arena, &set), "2,8,9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_completes), cmocka_unit_test(test_indexed),  cmocka_unit_test(test_fails),
		cmocka_unit_test(test_suspended), cmocka_unit_test(test_deletion), cmocka_unit_test(test_indexes),
	};

	return cmocka_run_group_tests(tests, house_setup, house_teardown);
}
