/* SPDX-License-Identifier: Apache-2.0 */
/* DaemonSets: a pod for each node that fits, rollouts with history, nodes that come, go and are tainted. */
#include "tests/controllers/house.h"

#define DAEMON(name, more)                                                                                             \
	"{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"metadata\":{\"name\":\"" name                            \
	"\",\"namespace\":\"default\"},\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"" name "\"}}," more          \
	"\"template\":{\"metadata\":{\"labels\":{\"app\":\"" name "\"}},\"spec\":{\"containers\":[{\"name\":\"c\","    \
	"\"image\":\"img:1\"}]}}}}"

struct wanted {
	const char *name;
	int64_t pods;
	size_t revisions;
};

static void count_revision(void *arg, const struct object *o)
{
	(*(size_t *)arg)++;
}

static bool is_rolled_out(struct house *h, void *arg)
{
	const struct wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct object *set = house_get(h, KIND_DAEMONSET, "default", w->name);
	struct json *status = json_get(registry_parse(&arena, set), "status");
	size_t owned = 0;

	registry_each_owned(h->reg, set->uid, count_revision, &owned);
	return json_get_int(status, "observedGeneration", 0) == set->generation &&
	       json_get_int(status, "desiredNumberScheduled", 0) == w->pods &&
	       json_get_int(status, "currentNumberScheduled", 0) == w->pods &&
	       json_get_int(status, "updatedNumberScheduled", 0) == w->pods &&
	       json_get_int(status, "numberAvailable", 0) == w->pods &&
	       json_get_int(status, "numberMisscheduled", 0) == 0 && owned == (size_t)w->pods + w->revisions &&
	       house_is_quiet(h, NULL);
}

static int make_node_ready(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *conditions = json_ensure_array(arena, json_ensure_object(arena, object, "status"), "conditions");
	struct json *c = json_new_object(arena);

	json_set_cstr(arena, c, "type", "Ready");
	json_set_cstr(arena, c, "status", "True");
	json_append(conditions, c);
	return 0;
}

static void add_node(struct house *h, const char *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	house_create(h, arena_printf(&arena, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\"}}",
				     name));
	house_update(h, KIND_NODE, "", name, "status", make_node_ready, NULL);
}

static int set_image(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_index(json_at(object, "spec.template.spec.containers"), 0), "image", arg);
	return 0;
}

static int add_taint(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *taints = json_ensure_array(arena, json_ensure_object(arena, object, "spec"), "taints");
	struct json *t = json_new_object(arena);

	json_set_cstr(arena, t, "key", "example.com/out");
	json_set_cstr(arena, t, "effect", "NoExecute");
	json_append(taints, t);
	return 0;
}

static void test_daemons(void **state)
{
	struct house *h = *state;

	add_node(h, "n1");
	house_create(h, DAEMON("d", ""));
	house_wait(h, is_rolled_out, (&(struct wanted){ "d", 1, 1 }));
	add_node(h, "n2");
	add_node(h, "n3");
	house_wait(h, is_rolled_out, (&(struct wanted){ "d", 3, 1 }));
	house_update(h, KIND_DAEMONSET, "default", "d", NULL, set_image, "img:2");
	house_wait(h, is_rolled_out, (&(struct wanted){ "d", 3, 2 }));
	/* Back to the first template: no third revision, the first one is the newest again. */
	house_update(h, KIND_DAEMONSET, "default", "d", NULL, set_image, "img:1");
	house_wait(h, is_rolled_out, (&(struct wanted){ "d", 3, 2 }));
	house_update(h, KIND_NODE, "", "n3", NULL, add_taint, NULL);
	house_wait(h, is_rolled_out, (&(struct wanted){ "d", 2, 2 }));
}

static void test_surge(void **state)
{
	struct house *h = *state;

	house_create(h, DAEMON("s", "\"updateStrategy\":{\"rollingUpdate\":{\"maxSurge\":1,\"maxUnavailable\":0}},"));
	house_wait(h, is_rolled_out, (&(struct wanted){ "s", 2, 1 }));
	house_update(h, KIND_DAEMONSET, "default", "s", NULL, set_image, "img:2");
	house_wait(h, is_rolled_out, (&(struct wanted){ "s", 2, 2 }));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_daemons),
		cmocka_unit_test(test_surge),
	};

	return cmocka_run_group_tests(tests, house_setup, house_teardown);
}
