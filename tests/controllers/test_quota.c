/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in the status of quotas, who protects claims and volumes in use, and the classes that always exist. */
#include "tests/controllers/house.h"

/* ---- quotas ---- */

struct expected {
	const char *name, *hard, *used; /* JSON */
};

static bool status_is(struct house *h, void *arg)
{
	const struct expected *e = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *quota = house_json(h, &arena, KIND_RESOURCEQUOTA, "default", e->name), *hard, *used;

	if (!quota || json_parse(&arena, str_of(e->hard), 0, &hard, NULL) < 0 ||
	    json_parse(&arena, str_of(e->used), 0, &used, NULL) < 0)
		return false;
	return json_at(quota, "status.hard") && json_equal(json_at(quota, "status.hard"), hard) &&
	       json_at(quota, "status.used") && json_equal(json_at(quota, "status.used"), used);
}

static void expect_status(struct house *h, const char *name, const char *hard, const char *used)
{
	struct expected e = { name, hard, used };

	house_wait(h, status_is, &e);
}

static void create_config(struct house *h, const char *name)
{
	char text[200];

	snprintf(
		text, sizeof(text),
		"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\"}}",
		name);
	house_create(h, text);
}

#define QUOTA(name, spec)                                                                                              \
	"{\"apiVersion\":\"v1\",\"kind\":\"ResourceQuota\",\"metadata\":{\"name\":\"" name                             \
	"\",\"namespace\":\"default\"},\"spec\":{" spec "}}"

static bool has_root_ca(struct house *h, void *arg)
{
	return house_get(h, KIND_CONFIGMAP, "default", "kube-root-ca.crt") != NULL;
}

static int raise_hard(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_at(object, "spec.hard"), "configmaps", "20");
	return 0;
}

static void test_status_follows(void **state)
{
	struct house *h = *state;

	house_wait(h, has_root_ca, NULL);
	house_create(h, QUOTA("q", "\"hard\":{\"configmaps\":\"10\",\"pods\":\"4\"}"));
	expect_status(h, "q", "{\"configmaps\":\"10\",\"pods\":\"4\"}", "{\"configmaps\":\"1\",\"pods\":\"0\"}");
	for (int i = 0; i < 5; i++) {
		char name[16];

		snprintf(name, sizeof(name), "c%d", i);
		create_config(h, name);
	}
	expect_status(h, "q", "{\"configmaps\":\"10\",\"pods\":\"4\"}", "{\"configmaps\":\"6\",\"pods\":\"0\"}");
	house_delete(h, KIND_CONFIGMAP, "default", "c1", NULL);
	expect_status(h, "q", "{\"configmaps\":\"10\",\"pods\":\"4\"}", "{\"configmaps\":\"5\",\"pods\":\"0\"}");
	house_update(h, KIND_RESOURCEQUOTA, "default", "q", NULL, raise_hard, NULL);
	expect_status(h, "q", "{\"configmaps\":\"20\",\"pods\":\"4\"}", "{\"configmaps\":\"5\",\"pods\":\"0\"}");
}

/* Pods of a Deployment stop at the quota, and go on when it is raised. */
static bool has_pods(struct house *h, void *arg)
{
	return registry_count(h->reg, KIND_POD) == *(size_t *)arg;
}

static bool says_why(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = house_json(h, &arena, KIND_DEPLOYMENT, "default", "web");
	struct json *c = meta_condition(json_at(d, "status.conditions"), "ReplicaFailure");

	return str_is(json_get_str(c, "reason"), "FailedCreate") &&
	       str_ends(json_get_str(c, "message"),
			STR("is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"));
}

static int raise_pods(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_at(object, "spec.hard"), "pods", "9");
	return 0;
}

static void test_deployment_stops_at_the_quota(void **state)
{
	struct house *h = *state;
	size_t n = 2;

	house_create(h, QUOTA("q", "\"hard\":{\"pods\":\"2\"}"));
	house_create(h,
		     "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\",\"namespace\":"
		     "\"default\"},\"spec\":{\"replicas\":4,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},"
		     "\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":"
		     "\"c\",\"image\":\"i\"}]}}}}");
	house_wait(h, has_pods, &n);
	expect_status(h, "q", "{\"pods\":\"2\"}", "{\"pods\":\"2\"}");
	house_wait(h, says_why, NULL);
	house_update(h, KIND_RESOURCEQUOTA, "default", "q", NULL, raise_pods, NULL);
	n = 4;
	house_wait(h, has_pods, &n);
	expect_status(h, "q", "{\"pods\":\"9\"}", "{\"pods\":\"4\"}");
}

static void test_status_after_a_restart(void **state)
{
	struct house *h = *state;

	house_wait(h, has_root_ca, NULL);
	house_create(h, QUOTA("q", "\"hard\":{\"configmaps\":\"10\"}"));
	create_config(h, "a");
	expect_status(h, "q", "{\"configmaps\":\"10\"}", "{\"configmaps\":\"2\"}");
	controllers_stop(h->controllers);
	/* Nobody is there to tell. */
	h->controllers = NULL;
	create_config(h, "b");
	registry_watch_stop(h->reg, &h->pods);
	registry_destroy(h->reg);
	store_close(h->store);
	house_open(h);
	expect_status(h, "q", "{\"configmaps\":\"10\"}", "{\"configmaps\":\"3\"}");
}

/* ---- claims and volumes in use ---- */

#define CLAIM                                                                                                          \
	"{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"metadata\":{\"name\":\"c\",\"namespace\":"        \
	"\"default\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}"
#define POD(node)                                                                                                         \
	"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\"namespace\":\"default\"},\"spec\":{" node \
	"\"containers\":[{\"name\":\"c\",\"image\":\"i\"}],\"volumes\":[{\"name\":\"v\",\"persistentVolumeClaim\":{"      \
	"\"claimName\":\"c\"}}]}}"

static bool claim_gone(struct house *h, void *arg)
{
	return !house_get(h, KIND_PERSISTENTVOLUMECLAIM, "default", "c");
}

static bool is_quiet(struct house *h, void *arg)
{
	return house_is_quiet(h, NULL);
}

static void test_claims_in_use(void **state)
{
	struct house *h = *state;

	house_create(h, CLAIM);
	house_create(h, POD("\"nodeName\":\"n\","));
	house_delete(h, KIND_PERSISTENTVOLUMECLAIM, "default", "c", NULL);
	house_wait(h, is_quiet, NULL);
	assert_true(house_get(h, KIND_PERSISTENTVOLUMECLAIM, "default", "c")->deleting);
	house_delete(h, KIND_POD, "default", "p", NULL);
	house_wait(h, claim_gone, NULL);
}

static void test_claims_of_unscheduled_pods_go(void **state)
{
	struct house *h = *state;

	h->hold_pods = true;
	house_create(h, CLAIM);
	house_create(h, POD(""));
	house_delete(h, KIND_PERSISTENTVOLUMECLAIM, "default", "c", NULL);
	house_wait(h, claim_gone, NULL);
	house_create(h, CLAIM);
	house_delete(h, KIND_POD, "default", "p", NULL);
	house_delete(h, KIND_PERSISTENTVOLUMECLAIM, "default", "c", NULL);
	house_wait(h, claim_gone, NULL);
}

static int set_phase(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_ensure_object(arena, object, "status"), "phase", arg);
	return 0;
}

static bool volume_gone(struct house *h, void *arg)
{
	return !house_get(h, KIND_PERSISTENTVOLUME, "", "v");
}

static void test_bound_volumes_stay(void **state)
{
	struct house *h = *state;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolume\",\"metadata\":{\"name\":\"v\"},\"spec\":{"
			"\"capacity\":{\"storage\":\"1Gi\"},\"accessModes\":[\"ReadWriteOnce\"],\"hostPath\":{\"path\":"
			"\"/x\"}}}");
	house_update(h, KIND_PERSISTENTVOLUME, "", "v", "status", set_phase, "Bound");
	house_delete(h, KIND_PERSISTENTVOLUME, "", "v", NULL);
	house_wait(h, is_quiet, NULL);
	assert_non_null(house_get(h, KIND_PERSISTENTVOLUME, "", "v"));
	house_update(h, KIND_PERSISTENTVOLUME, "", "v", "status", set_phase, "Released");
	house_wait(h, volume_gone, NULL);
}

/* ---- classes ---- */

static bool has_system_classes(struct house *h, void *arg)
{
	return house_get(h, KIND_PRIORITYCLASS, "", "system-node-critical") &&
	       house_get(h, KIND_PRIORITYCLASS, "", "system-cluster-critical");
}

static void test_system_priority_classes(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *c;

	house_wait(h, has_system_classes, NULL);
	c = house_json(h, &arena, KIND_PRIORITYCLASS, "", "system-node-critical");
	assert_int_equal(json_get_int(c, "value", 0), 2000001000);
	assert_true(str_is(json_get_str(c, "preemptionPolicy"), "PreemptLowerPriority"));
	c = house_json(h, &arena, KIND_PRIORITYCLASS, "", "system-cluster-critical");
	assert_int_equal(json_get_int(c, "value", 0), 2000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_status_follows, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_deployment_stops_at_the_quota, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_status_after_a_restart, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_claims_in_use, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_claims_of_unscheduled_pods_go, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_bound_volumes_stay, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_system_priority_classes, house_setup, house_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
