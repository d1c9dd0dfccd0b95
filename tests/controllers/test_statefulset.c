/* SPDX-License-Identifier: Apache-2.0 */
/* StatefulSets: order, names, claims, updates from the top down to the partition. */
#include "tests/controllers/house.h"

#define SET(name, more)                                                                                                \
	"{\"apiVersion\":\"apps/v1\",\"kind\":\"StatefulSet\",\"metadata\":{\"name\":\"" name                          \
	"\",\"namespace\":\"default\"},\"spec\":{\"replicas\":3,\"serviceName\":\"svc\",\"selector\":{"                \
	"\"matchLabels\":{"                                                                                            \
	"\"app\":\"" name "\"}}," more "\"template\":{\"metadata\":{\"labels\":{\"app\":\"" name "\"}},\"spec\":{"     \
	"\"containers\":[{\"name\":\"c\",\"image\":\"img:1\"}]}}}}"

struct wanted {
	const char *name;
	int64_t replicas, updated;
};

static bool is_so(struct house *h, void *arg)
{
	const struct wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct object *set = house_get(h, KIND_STATEFULSET, "default", w->name);
	struct json *status = json_get(registry_parse(&arena, set), "status");

	return json_get_int(status, "observedGeneration", 0) == set->generation &&
	       json_get_int(status, "replicas", 0) == w->replicas &&
	       json_get_int(status, "readyReplicas", 0) == w->replicas &&
	       json_get_int(status, "updatedReplicas", 0) == w->updated && house_is_quiet(h, NULL);
}

/* Names in the order of creation and of deletion. */
struct order {
	struct registry_watch watch;
	char created[256], deleted[256];
};

static void on_pod(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		   const struct object *prev)
{
	struct order *r = container_of(w, struct order, watch);
	char *to = type == REGISTRY_ADDED ? r->created : type == REGISTRY_DELETED ? r->deleted : NULL;

	if (to && object_controller(o) && str_is(object_controller(o)->name, "db"))
		snprintf(to + strlen(to), 256 - strlen(to), "%.*s ", STR_ARG(o->name));
}

static int set_image(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_index(json_at(object, "spec.template.spec.containers"), 0), "image", arg);
	return 0;
}

static int set_replicas(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_int(arena, json_get(object, "spec"), "replicas", *(int *)arg);
	return 0;
}

static void test_order(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct order r = { .watch = { .fn = on_pod, .kind = KIND_POD } };
	struct json *pod;
	int n = 1;

	registry_watch_start(h->reg, &r.watch);
	house_create(h, SET("db", ""));
	house_wait(h, is_so, (&(struct wanted){ "db", 3, 3 }));
	assert_string_equal(r.created, "db-0 db-1 db-2 ");
	pod = house_json(h, &arena, KIND_POD, "default", "db-1");
	assert_true(str_is(json_at_str(pod, "spec.hostname"), "db-1"));
	assert_true(str_is(json_at_str(pod, "spec.subdomain"), "svc"));
	r.created[0] = '\0';
	house_update(h, KIND_STATEFULSET, "default", "db", NULL, set_image, "img:2");
	house_wait(h, is_so, (&(struct wanted){ "db", 3, 3 }));
	assert_string_equal(r.deleted, "db-2 db-1 db-0 ");
	assert_string_equal(r.created, "db-2 db-1 db-0 ");
	r.deleted[0] = '\0';
	house_update(h, KIND_STATEFULSET, "default", "db", NULL, set_replicas, &n);
	house_wait(h, is_so, (&(struct wanted){ "db", 1, 1 }));
	assert_string_equal(r.deleted, "db-2 db-1 ");
	registry_watch_stop(h->reg, &r.watch);
}

static void test_partition(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod;

	house_create(h,
		     SET("part", "\"podManagementPolicy\":\"Parallel\",\"updateStrategy\":{\"type\":\"RollingUpdate\","
				 "\"rollingUpdate\":{\"partition\":2}},"));
	house_wait(h, is_so, (&(struct wanted){ "part", 3, 3 }));
	house_update(h, KIND_STATEFULSET, "default", "part", NULL, set_image, "img:2");
	house_wait(h, is_so, (&(struct wanted){ "part", 3, 1 }));
	/* One below the partition comes back as it was. */
	house_delete(h, KIND_POD, "default", "part-0", NULL);
	house_wait(h, is_so, (&(struct wanted){ "part", 3, 1 }));
	pod = house_json(h, &arena, KIND_POD, "default", "part-0");
	assert_true(str_is(json_get_str(json_index(json_at(pod, "spec.containers"), 0), "image"), "img:1"));
	pod = house_json(h, &arena, KIND_POD, "default", "part-2");
	assert_true(str_is(json_get_str(json_index(json_at(pod, "spec.containers"), 0), "image"), "img:2"));
}

static void test_claims(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *volumes, *pod;
	bool found = false;

	house_create(h,
		     SET("cl", "\"volumeClaimTemplates\":[{\"metadata\":{\"name\":\"data\"},\"spec\":{\"accessModes\":["
			       "\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}],"));
	house_wait(h, is_so, (&(struct wanted){ "cl", 3, 3 }));
	assert_non_null(house_get(h, KIND_PERSISTENTVOLUMECLAIM, "default", "data-cl-2"));
	pod = house_json(h, &arena, KIND_POD, "default", "cl-2");
	volumes = json_at(pod, "spec.volumes");
	json_foreach(v, volumes)
		found = found || str_is(json_at_str(v, "persistentVolumeClaim.claimName"), "data-cl-2");
	assert_true(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_partition),
		cmocka_unit_test(test_claims),
	};

	return cmocka_run_group_tests(tests, house_setup, house_teardown);
}
