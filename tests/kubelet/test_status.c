/* SPDX-License-Identifier: Apache-2.0 */
/* Phase and conditions of pods from what their containers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kubelet/status/compute.h"
#include "userspace/base/clock.h"

static struct arena arena;

static int teardown(void **state)
{
	arena_finish(&arena);
	arena = ARENA_INIT;
	return 0;
}

static struct json *pod_with(const char *policy, const char *status)
{
	struct json *v;

	assert_int_equal(json_parse(&arena,
				    str_of(arena_printf(&arena,
							"{\"metadata\":{\"name\":\"p\",\"generation\":3},\"spec\":{"
							"\"restartPolicy\":\"%s\"},\"status\":%s}",
							policy, status)),
				    0, &v, NULL),
			 0);
	return v;
}

static const struct status_container init_done = {
	.name = "i", .role = ROLE_INIT, .ready = true, .state = { .shape = SHAPE_TERMINATED, .reason = "Completed" }
};
static const struct status_container init_failed = {
	.name = "i", .role = ROLE_INIT, .state = { .shape = SHAPE_TERMINATED, .exit_code = 1, .reason = "Error" }
};
static const struct status_container init_running = { .name = "i",
						      .role = ROLE_INIT,
						      .state = { .shape = SHAPE_RUNNING } };
static const struct status_container sidecar_up = {
	.name = "s", .role = ROLE_SIDECAR, .ready = true, .started = true, .state = { .shape = SHAPE_RUNNING }
};
static const struct status_container waiting = { .name = "a",
						 .role = ROLE_APP,
						 .state = { .shape = SHAPE_WAITING, .reason = "ContainerCreating" } };
static const struct status_container running = { .name = "a",
						 .role = ROLE_APP,
						 .ready = true,
						 .started = true,
						 .state = { .shape = SHAPE_RUNNING, .started_real_ns = 1 } };
static const struct status_container unready = {
	.name = "b", .role = ROLE_APP, .started = true, .state = { .shape = SHAPE_RUNNING }
};
static const struct status_container done = { .name = "a",
					      .role = ROLE_APP,
					      .state = { .shape = SHAPE_TERMINATED, .reason = "Completed" } };
static const struct status_container broken = {
	.name = "b", .role = ROLE_APP, .state = { .shape = SHAPE_TERMINATED, .exit_code = 2, .reason = "Error" }
};
static const struct status_container looping = { .name = "a",
						 .role = ROLE_APP,
						 .has_last = true,
						 .state = { .shape = SHAPE_WAITING, .reason = "CrashLoopBackOff" },
						 .last = { .shape = SHAPE_TERMINATED, .exit_code = 1 } };

static enum pod_phase phase(const char *policy, size_t n, const struct status_container *c)
{
	const struct status_pod p = { .pod = pod_with(policy, "{}"), .containers = c, .n = n };

	return status_phase(&p);
}

#define PHASE(policy, ...)                                                                                             \
	phase(policy, sizeof((struct status_container[]){ __VA_ARGS__ }) / sizeof(struct status_container),            \
	      (struct status_container[]){ __VA_ARGS__ })

static void test_phase(void **state)
{
	assert_int_equal(PHASE("Always", waiting), POD_PENDING);
	assert_int_equal(PHASE("Always", running), POD_RUNNING);
	assert_int_equal(PHASE("Always", running, waiting), POD_PENDING);
	assert_int_equal(PHASE("Always", running, broken), POD_RUNNING);
	assert_int_equal(PHASE("Always", looping), POD_RUNNING);
	assert_int_equal(PHASE("Always", done), POD_RUNNING);
	assert_int_equal(PHASE("Never", done), POD_SUCCEEDED);
	assert_int_equal(PHASE("OnFailure", done), POD_SUCCEEDED);
	assert_int_equal(PHASE("OnFailure", done, broken), POD_RUNNING);
	assert_int_equal(PHASE("Never", done, broken), POD_FAILED);
	assert_int_equal(PHASE("Always", init_running, waiting), POD_PENDING);
	assert_int_equal(PHASE("Always", init_failed, waiting), POD_PENDING);
	assert_int_equal(PHASE("Never", init_failed, waiting), POD_FAILED);
	assert_int_equal(PHASE("Always", init_done, running), POD_RUNNING);
	assert_int_equal(PHASE("Always", sidecar_up, running), POD_RUNNING);
	assert_int_equal(PHASE("Never", sidecar_up, done), POD_SUCCEEDED);
}

static void test_phase_stopping(void **state)
{
	struct status_pod p = { .pod = pod_with("Always", "{}"), .containers = &done, .n = 1, .stopping = true };

	assert_int_equal(status_phase(&p), POD_SUCCEEDED);
	p.containers = &broken;
	assert_int_equal(status_phase(&p), POD_FAILED);
	p.containers = &running;
	assert_int_equal(status_phase(&p), POD_RUNNING);
	p.fail_reason = "DeadlineExceeded";
	assert_int_equal(status_phase(&p), POD_FAILED);
}

static const struct json *condition(const struct json *status, const char *type)
{
	json_foreach(c, json_get(status, "conditions"))
		if (str_is(json_get_str(c, "type"), type))
			return c;
	return NULL;
}

static void assert_condition(const struct json *status, const char *type, const char *value, const char *reason)
{
	const struct json *c = condition(status, type);

	assert_non_null(c);
	if (!str_is(json_get_str(c, "status"), value) || !str_eq(json_get_str(c, "reason"), str_of(reason)))
		fail_msg("%s is %.*s %.*s", type, STR_ARG(json_get_str(c, "status")),
			 STR_ARG(json_get_str(c, "reason")));
}

static void test_conditions(void **state)
{
	struct status_container c[] = { running, unready };
	struct status_pod p = { .pod = pod_with("Always", "{\"phase\":\"Pending\"}"),
				.containers = c,
				.n = 2,
				.sandbox_ready = true,
				.now_real_ns = 1000000000LL * 1000,
				.qos_class = "BestEffort",
				.pod_ips = { "10.42.0.2", NULL } };
	struct json *s = status_compute(&arena, &p);

	assert_true(str_is(json_get_str(s, "phase"), "Running"));
	assert_condition(s, "PodReadyToStartContainers", "True", NULL);
	assert_condition(s, "Initialized", "True", NULL);
	assert_condition(s, "Ready", "False", "ContainersNotReady");
	assert_true(str_is(json_get_str(condition(s, "Ready"), "message"), "containers with unready status: [b]"));
	assert_true(str_is(json_get_str(s, "podIP"), "10.42.0.2"));
	assert_true(str_is(json_get_str(json_index(json_get(s, "podIPs"), 0), "ip"), "10.42.0.2"));
	assert_true(str_is(json_get_str(s, "qosClass"), "BestEffort"));
	assert_int_equal(json_get_int(s, "observedGeneration", 0), 3);
	assert_true(str_is(json_get_str(s, "startTime"), "1970-01-01T00:16:40Z"));

	/* the same again, later: nothing changes, so nothing need be written */
	struct json *again = json_clone_deep(&arena, p.pod);

	json_set(again, "status", s);
	p.pod = again;
	p.now_real_ns += 5 * NS_PER_S;
	assert_true(json_equal(status_compute(&arena, &p), s));

	/* a container becomes ready: Ready turns, with a new time; Initialized keeps its own */
	c[1].ready = true;
	struct json *later = status_compute(&arena, &p);

	assert_condition(later, "Ready", "True", NULL);
	assert_true(str_is(json_get_str(condition(later, "Ready"), "lastTransitionTime"), "1970-01-01T00:16:45Z"));
	assert_true(
		str_is(json_get_str(condition(later, "Initialized"), "lastTransitionTime"), "1970-01-01T00:16:40Z"));
}

static void test_foreign_conditions(void **state)
{
	struct status_pod p = {
		.pod = pod_with(
			"Always",
			"{\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"True\",\"lastTransitionTime\":"
			"\"2020-01-01T00:00:00Z\"},{\"type\":\"example.org/gate\",\"status\":\"True\"}]}"),
		.containers = &waiting,
		.n = 1,
		.now_real_ns = 1,
		.qos_class = "Burstable",
	};
	struct json *s = status_compute(&arena, &p);

	assert_condition(s, "example.org/gate", "True", NULL);
	assert_true(str_is(json_get_str(condition(s, "PodScheduled"), "lastTransitionTime"), "2020-01-01T00:00:00Z"));
	assert_condition(s, "Ready", "False", "ContainersNotReady");
}

static void test_terminal_stays(void **state)
{
	struct status_pod p = { .pod = pod_with("Never", "{\"phase\":\"Succeeded\"}"),
				.containers = &broken,
				.n = 1,
				.stopping = true,
				.now_real_ns = 1,
				.qos_class = "BestEffort" };
	struct json *s = status_compute(&arena, &p);

	assert_true(str_is(json_get_str(s, "phase"), "Succeeded"));
	assert_condition(s, "Ready", "False", "PodCompleted");
}

static void test_container_states(void **state)
{
	struct status_container c[] = { init_failed, looping };
	struct status_pod p = {
		.pod = pod_with("Always", "{}"), .containers = c, .n = 2, .now_real_ns = 1, .qos_class = "BestEffort"
	};
	struct json *s = status_compute(&arena, &p);
	const struct json *init = json_index(json_get(s, "initContainerStatuses"), 0);
	const struct json *app = json_index(json_get(s, "containerStatuses"), 0);

	assert_int_equal(json_at_int(init, "state.terminated.exitCode", 0), 1);
	assert_true(str_is(json_at_str(app, "state.waiting.reason"), "CrashLoopBackOff"));
	assert_int_equal(json_at_int(app, "lastState.terminated.exitCode", 0), 1);
	assert_condition(s, "Initialized", "False", "ContainersNotInitialized");
	assert_true(
		str_is(json_get_str(condition(s, "Initialized"), "message"), "containers with incomplete status: [i]"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_phase, teardown),
		cmocka_unit_test_teardown(test_phase_stopping, teardown),
		cmocka_unit_test_teardown(test_conditions, teardown),
		cmocka_unit_test_teardown(test_foreign_conditions, teardown),
		cmocka_unit_test_teardown(test_terminal_stays, teardown),
		cmocka_unit_test_teardown(test_container_states, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
