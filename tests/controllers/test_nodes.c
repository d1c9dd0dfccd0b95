/* SPDX-License-Identifier: Apache-2.0 */
/* Node conditions as taints, and rollouts that outlive restarts. */
#include "tests/controllers/house.h"

static int set_ready(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *status = json_ensure_object(arena, object, "status");
	struct json *conditions = json_ensure_array(arena, status, "conditions");
	struct json *c = meta_condition(conditions, "Ready");

	if (!c) {
		c = json_new_object(arena);
		json_set_cstr(arena, c, "type", "Ready");
		json_append(conditions, c);
	}
	json_set_cstr(arena, c, "status", arg);
	return 0;
}

static int set_unschedulable(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_bool(arena, json_ensure_object(arena, object, "spec"), "unschedulable", *(bool *)arg);
	return 0;
}

static bool has_taints(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *node = house_json(h, &arena, KIND_NODE, "", "n1");
	const char *text = "";

	json_foreach(t, json_at(node, "spec.taints"))
		text = arena_printf(&arena, "%s%.*s:%.*s ", text, STR_ARG(json_get_str(t, "key")),
				    STR_ARG(json_get_str(t, "effect")));
	return !strcmp(text, arg) && house_is_quiet(h, NULL);
}

#define NOT_READY "node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/not-ready:NoExecute "

static void test_taints_follow_conditions(void **state)
{
	struct house *h = *state;
	bool cordoned = true;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n1\"}}");
	house_wait(h, has_taints, NOT_READY);
	house_update(h, KIND_NODE, "", "n1", "status", set_ready, "True");
	house_wait(h, has_taints, "");
	house_update(h, KIND_NODE, "", "n1", NULL, set_unschedulable, &cordoned);
	house_wait(h, has_taints, "node.kubernetes.io/unschedulable:NoSchedule ");
	cordoned = false;
	house_update(h, KIND_NODE, "", "n1", NULL, set_unschedulable, &cordoned);
	house_update(h, KIND_NODE, "", "n1", "status", set_ready, "Unknown");
	house_wait(h, has_taints,
		   "node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute ");
}

static bool is_rolled_out(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = house_json(h, &arena, KIND_DEPLOYMENT, "default", "d");
	struct json *status = json_get(d, "status");

	return json_get_int(status, "observedGeneration", 0) == meta_generation(d) &&
	       json_get_int(status, "updatedReplicas", 0) == 4 && json_get_int(status, "replicas", 0) == 4 &&
	       json_get_int(status, "availableReplicas", 0) == 4 && house_is_quiet(h, NULL);
}

static int set_image(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_index(json_at(object, "spec.template.spec.containers"), 0), "image", arg);
	return 0;
}

static bool after_some_turns(struct house *h, void *arg)
{
	return --*(int *)arg < 0;
}

/* Killed at any point of a rollout and started again, the controllers finish it. */
static void test_rollout_survives_restarts(void **state)
{
	struct house *h = *state;
	static const struct controllers_options options = { .apiserver_address = "192.0.2.1", .apiserver_port = 6443 };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;

	house_create(
		h, "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"d\",\"namespace\":"
		   "\"default\"},\"spec\":{\"replicas\":4,\"selector\":{\"matchLabels\":{\"app\":\"d\"}},\"template\":{"
		   "\"metadata\":{\"labels\":{\"app\":\"d\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
		   "\"img:0\"}]}}}}");
	for (int i = 1; i <= 20; i++) {
		int turns = i % 7;

		house_update(h, KIND_DEPLOYMENT, "default", "d", NULL, set_image, arena_printf(&arena, "img:%d", i));
		house_wait(h, after_some_turns, &turns);
		controllers_stop(h->controllers);
		h->controllers = NULL;
		assert_int_equal(controllers_start(h->loop, h->reg, &options, &h->controllers, &err), 0);
	}
	house_wait(h, is_rolled_out, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taints_follow_conditions),
		cmocka_unit_test(test_rollout_survives_restarts),
	};

	return cmocka_run_group_tests(tests, house_setup, house_teardown);
}
