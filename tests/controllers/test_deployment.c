/* SPDX-License-Identifier: Apache-2.0 */
/* Deployments and replica sets against the real registry: rollouts, rollbacks, resizing, adoption. */
#include "tests/controllers/house.h"

#include <inttypes.h>

#define TEMPLATE(app, image)                                                                                           \
	"\"template\":{\"metadata\":{\"labels\":{\"app\":\"" app "\"}},\"spec\":{\"containers\":[{\"name\":\"c\","     \
	"\"image\":\"" image "\"}]}}"
#define DEPLOYMENT(name, more)                                                                                         \
	"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"" name                           \
	"\",\"namespace\":\"default\"},\"spec\":{\"replicas\":3,\"selector\":{\"matchLabels\":{\"app\":\"" name        \
	"\"}}," more                                                                                                   \
	TEMPLATE(name, "img:1") "}}"

struct wanted {
	const char *name;
	int64_t replicas, revision;
};

/* kubectl rollout status's own test of a finished rollout. */
static bool is_rolled_out(struct house *h, void *arg)
{
	const struct wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = house_json(h, &arena, KIND_DEPLOYMENT, "default", w->name);
	struct json *status = json_get(d, "status");
	struct str revision = meta_annotation(d, "deployment.kubernetes.io/revision");

	return json_get_int(status, "observedGeneration", 0) == meta_generation(d) &&
	       json_get_int(status, "updatedReplicas", 0) == w->replicas &&
	       json_get_int(status, "replicas", 0) == w->replicas &&
	       json_get_int(status, "availableReplicas", 0) == w->replicas &&
	       str_is(revision, arena_printf(&arena, "%" PRId64, w->revision)) && house_is_quiet(h, NULL);
}

struct find_set {
	const char *deployment;
	const char *image;
	const struct object *found;
	size_t n, with_pods;
};

static void look_at_set(void *arg, const struct object *o)
{
	struct find_set *f = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *set = registry_parse(&arena, o);
	struct json *container = json_index(json_at(set, "spec.template.spec.containers"), 0);

	if (!object_controller(o) || !str_is(object_controller(o)->name, f->deployment))
		return;
	f->n++;
	f->with_pods += json_at_int(set, "spec.replicas", 0) > 0;
	if (str_is(json_get_str(container, "image"), f->image))
		f->found = o;
}

static struct find_set find_set(struct house *h, const char *deployment, const char *image)
{
	struct find_set f = { .deployment = deployment, .image = image };

	registry_each(h->reg, KIND_REPLICASET, STR("default"), look_at_set, &f);
	return f;
}

struct event_wanted {
	const char *reason, *message;
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

static void assert_event(struct house *h, const char *reason, const char *message)
{
	struct event_wanted w = { .reason = reason, .message = message };

	registry_each(h->reg, KIND_EVENT, STR("default"), look_at_event, &w);
	if (!w.found)
		fail_msg("no event %s: %s", reason, message);
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

static int set_paused(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_bool(arena, json_get(object, "spec"), "paused", *(bool *)arg);
	return 0;
}

static void assert_condition(struct house *h, const char *name, const char *type, const char *status,
			     const char *reason)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = house_json(h, &arena, KIND_DEPLOYMENT, "default", name);
	struct json *c = meta_condition(json_at(d, "status.conditions"), type);

	assert_non_null(c);
	assert_string_equal(arena_printf(&arena, "%.*s", STR_ARG(json_get_str(c, "status"))), status);
	assert_string_equal(arena_printf(&arena, "%.*s", STR_ARG(json_get_str(c, "reason"))), reason);
}

static void test_create(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct find_set f;
	struct str hash;

	house_create(h, DEPLOYMENT("web", ""));
	house_wait(h, is_rolled_out, (&(struct wanted){ "web", 3, 1 }));
	assert_condition(h, "web", "Available", "True", "MinimumReplicasAvailable");
	assert_condition(h, "web", "Progressing", "True", "NewReplicaSetAvailable");
	f = find_set(h, "web", "img:1");
	assert_int_equal(f.n, 1);
	hash = object_label(f.found, STR("pod-template-hash"));
	assert_true(hash.n > 0);
	assert_true(str_ends(f.found->name, hash));
	assert_event(h, "ScalingReplicaSet",
		     arena_printf(&arena, "Scaled up replica set %.*s from 0 to 3", STR_ARG(f.found->name)));
}

/* Never fewer ready pods than allowed, never more pods than allowed, while a rollout goes on. */
struct bounds {
	struct registry_watch watch;
	struct house *house;
	const char *app; /* label of the pods that count */
	int64_t ready, pods, min_ready, max_pods;
};

static void count_pod(void *arg, const struct object *o)
{
	struct bounds *b = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod = registry_parse(&arena, o);

	if (!str_is(object_label(o, STR("app")), b->app) || o->deleting)
		return;
	b->pods++;
	b->ready += meta_condition_is(json_at(pod, "status.conditions"), "Ready", "True");
}

static void on_pod(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		   const struct object *prev)
{
	struct bounds *b = container_of(w, struct bounds, watch);

	b->ready = b->pods = 0;
	registry_each(b->house->reg, KIND_POD, STR("default"), count_pod, b);
	b->min_ready = b->ready < b->min_ready ? b->ready : b->min_ready;
	b->max_pods = b->pods > b->max_pods ? b->pods : b->max_pods;
}

static void test_rolling_update_and_undo(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct bounds b = { .house = h, .app = "roll", .watch = { .fn = on_pod, .kind = KIND_POD } };
	struct find_set f;

	house_create(h, DEPLOYMENT("roll", "\"strategy\":{\"rollingUpdate\":{\"maxSurge\":1,\"maxUnavailable\":0}},"));
	house_wait(h, is_rolled_out, (&(struct wanted){ "roll", 3, 1 }));
	registry_watch_start(h->reg, &b.watch);
	b.min_ready = b.max_pods = 3;
	house_update(h, KIND_DEPLOYMENT, "default", "roll", NULL, set_image, "img:2");
	house_wait(h, is_rolled_out, (&(struct wanted){ "roll", 3, 2 }));
	f = find_set(h, "roll", "img:2");
	assert_int_equal(f.n, 2);
	assert_int_equal(f.with_pods, 1);
	house_update(h, KIND_DEPLOYMENT, "default", "roll", NULL, set_image, "img:1");
	house_wait(h, is_rolled_out, (&(struct wanted){ "roll", 3, 3 }));
	registry_watch_stop(h->reg, &b.watch);
	assert_int_equal(b.min_ready, 3);
	assert_int_equal(b.max_pods, 4);
	f = find_set(h, "roll", "img:1");
	assert_int_equal(f.n, 2);
	assert_true(str_is(
		meta_annotation(registry_parse(&arena, f.found), "deployment.kubernetes.io/revision-history"), "1"));
}

static bool has_no_pods(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = house_json(h, &arena, KIND_DEPLOYMENT, "default", arg);

	return json_at_int(d, "status.observedGeneration", 0) == meta_generation(d) &&
	       json_at_int(d, "status.replicas", 0) == 0 && house_is_quiet(h, NULL);
}

static void test_scale(void **state)
{
	struct house *h = *state;
	int n = 5;

	house_create(h, DEPLOYMENT("scaled", ""));
	house_wait(h, is_rolled_out, (&(struct wanted){ "scaled", 3, 1 }));
	house_update(h, KIND_DEPLOYMENT, "default", "scaled", NULL, set_replicas, &n);
	house_wait(h, is_rolled_out, (&(struct wanted){ "scaled", 5, 1 }));
	n = 0;
	house_update(h, KIND_DEPLOYMENT, "default", "scaled", NULL, set_replicas, &n);
	house_wait(h, has_no_pods, "scaled");
	n = 200;
	house_update(h, KIND_DEPLOYMENT, "default", "scaled", NULL, set_replicas, &n);
	house_wait(h, is_rolled_out, (&(struct wanted){ "scaled", 200, 1 }));
}

static bool is_paused(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *d = house_json(h, &arena, KIND_DEPLOYMENT, "default", arg);
	struct json *c = meta_condition(json_at(d, "status.conditions"), "Progressing");

	return str_is(json_get_str(c, "reason"), "DeploymentPaused") &&
	       json_at_int(d, "status.observedGeneration", 0) == meta_generation(d) && house_is_quiet(h, NULL);
}

static void test_pause_and_resume(void **state)
{
	struct house *h = *state;
	bool paused = true;

	house_create(h, DEPLOYMENT("paused", ""));
	house_wait(h, is_rolled_out, (&(struct wanted){ "paused", 3, 1 }));
	house_update(h, KIND_DEPLOYMENT, "default", "paused", NULL, set_paused, &paused);
	house_update(h, KIND_DEPLOYMENT, "default", "paused", NULL, set_image, "img:2");
	house_wait(h, is_paused, "paused");
	assert_int_equal(find_set(h, "paused", "img:2").n, 1);
	paused = false;
	house_update(h, KIND_DEPLOYMENT, "default", "paused", NULL, set_paused, &paused);
	house_wait(h, is_rolled_out, (&(struct wanted){ "paused", 3, 2 }));
}

static void test_recreate(void **state)
{
	struct house *h = *state;
	struct bounds b = { .house = h, .app = "re", .watch = { .fn = on_pod, .kind = KIND_POD } };

	house_create(h, "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"re\","
			"\"namespace\":\"default\"},\"spec\":{\"replicas\":3,\"strategy\":{\"type\":\"Recreate\"},"
			"\"selector\":{\"matchLabels\":{\"app\":\"re\"}},\"template\":{\"metadata\":{"
			"\"labels\":{\"app\":\"re\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
			"\"image\":\"img:1\"}]}}}}");
	house_wait(h, is_rolled_out, (&(struct wanted){ "re", 3, 1 }));
	registry_watch_start(h->reg, &b.watch);
	house_update(h, KIND_DEPLOYMENT, "default", "re", NULL, set_image, "img:2");
	house_wait(h, is_rolled_out, (&(struct wanted){ "re", 3, 2 }));
	registry_watch_stop(h->reg, &b.watch);
	assert_int_equal(b.max_pods, 3);
}

static int set_history_limit(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_int(arena, json_get(object, "spec"), "revisionHistoryLimit", *(int *)arg);
	return 0;
}

static bool has_sets(struct house *h, void *arg)
{
	return find_set(h, "hist", "img:1").n == *(size_t *)arg && house_is_quiet(h, NULL);
}

static void test_history_is_trimmed(void **state)
{
	struct house *h = *state;
	char *images[] = { "img:2", "img:3", "img:4" };
	int limit = 1;
	size_t n = 2;

	house_create(h, DEPLOYMENT("hist", ""));
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		house_wait(h, is_rolled_out, (&(struct wanted){ "hist", 3, (int64_t)i + 1 }));
		house_update(h, KIND_DEPLOYMENT, "default", "hist", NULL, set_image, images[i]);
	}
	house_wait(h, is_rolled_out, (&(struct wanted){ "hist", 3, 4 }));
	house_update(h, KIND_DEPLOYMENT, "default", "hist", NULL, set_history_limit, &limit);
	house_wait(h, has_sets, &n);
	assert_non_null(find_set(h, "hist", "img:3").found);
	assert_non_null(find_set(h, "hist", "img:4").found);
}

static int drop_label(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_remove(json_at(object, "metadata.labels"), "app");
	return 0;
}

static bool set_is_ready(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *set = house_json(h, &arena, KIND_REPLICASET, "default", arg);

	return json_at_int(set, "status.readyReplicas", 0) == 2 && json_at_int(set, "status.replicas", 0) == 2 &&
	       house_is_quiet(h, NULL);
}

/* A stray pod that fits is adopted, one whose labels leave is released and replaced. */
static void test_adoption_and_release(void **state)
{
	struct house *h = *state;
	const struct object *pod;

	house_create(h,
		     "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"stray\",\"namespace\":"
		     "\"default\",\"labels\":{\"app\":\"adopt\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
		     "\"i\"}]}}");
	house_create(h, "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":{\"name\":\"adopt\","
			"\"namespace\":\"default\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{\"app\":"
			"\"adopt\"}}," TEMPLATE("adopt", "i") "}}");
	house_wait(h, set_is_ready, "adopt");
	pod = house_get(h, KIND_POD, "default", "stray");
	assert_non_null(object_controller(pod));
	assert_true(str_is(object_controller(pod)->name, "adopt"));
	house_update(h, KIND_POD, "default", "stray", NULL, drop_label, NULL);
	house_wait(h, set_is_ready, "adopt");
	pod = house_get(h, KIND_POD, "default", "stray");
	assert_non_null(pod);
	assert_null(object_controller(pod));
}

static bool has_failure(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *set = house_json(h, &arena, KIND_REPLICASET, "default", "refused");
	struct json *c = meta_condition(json_at(set, "status.conditions"), "ReplicaFailure");

	return str_is(json_get_str(c, "reason"), "FailedCreate") == *(bool *)arg;
}

/* Pods that the pipeline refuses show as a condition, and it goes when they are let in. */
static void test_refused_pods(void **state)
{
	struct house *h = *state;
	bool failing = true;

	house_create(
		h, "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":{\"name\":\"refused\","
		   "\"namespace\":\"default\"},\"spec\":{\"replicas\":1,\"selector\":{\"matchLabels\":{\"app\":\"x\"}},"
		   "\"template\":{\"metadata\":{\"labels\":{\"app\":\"x\"}},\"spec\":{\"serviceAccountName\":\"later\","
		   "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}");
	house_wait(h, has_failure, &failing);
	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"later\","
			"\"namespace\":\"default\"}}");
	failing = false;
	house_wait(h, has_failure, &failing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_rolling_update_and_undo),
		cmocka_unit_test(test_scale),
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_recreate),
		cmocka_unit_test(test_history_is_trimmed),
		cmocka_unit_test(test_adoption_and_release),
		cmocka_unit_test(test_refused_pods),
	};

	return cmocka_run_group_tests(tests, house_setup, house_teardown);
}
