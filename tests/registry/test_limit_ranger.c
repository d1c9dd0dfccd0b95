/* SPDX-License-Identifier: Apache-2.0 */
/* LimitRanges: their defaults and bounds, the limits they give to containers, and what they refuse. */
#include "tests/registry/registry_fixture.h"

static int setup(void **state)
{
	int r = fixture_setup(state);

	if (r == 0) {
		fixture_do(*state, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "",
			   "{\"metadata\":{\"name\":\"default\"}}");
		fixture_expect(*state, 201, "account");
	}
	return r;
}

static void range(struct fixture *f, const char *name, const char *limits)
{
	_cleanup_free_ char *body = NULL;

	if (asprintf(&body, "{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"limits\":[%s]}}", name, limits) < 0)
		fail();
	fixture_do(f, API_VERB_CREATE, KIND_LIMITRANGE, "default", "", body);
}

/* `spec`: what stands in spec besides. */
static int pod(struct fixture *f, const char *name, const char *spec)
{
	_cleanup_free_ char *body = NULL;

	if (asprintf(&body, "{\"metadata\":{\"name\":\"%s\"},\"spec\":{%s}}", name, spec) < 0)
		fail();
	return fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "", body);
}

#define CONTAINER(name, resources) "{\"name\":\"" name "\",\"image\":\"i\",\"resources\":{" resources "}}"
#define ONE(resources) "\"containers\":[" CONTAINER("c", resources) "]"

static void test_range_defaults(void **state)
{
	struct fixture *f = *state;

	range(f, "r",
	      "{\"type\":\"Container\",\"max\":{\"cpu\":\"2\",\"memory\":\"1Gi\"},\"min\":{\"cpu\":\"100m\","
	      "\"ephemeral-storage\":\"1Mi\"},\"default\":{\"cpu\":\"1\"}},{\"type\":\"Pod\",\"max\":{\"cpu\":\"4\"}}");
	fixture_expect(f, 201, "range");
	const struct json *item = json_index(json_at(f->tree, "spec.limits"), 0);
	assert_true(str_is(json_at_str(item, "default.cpu"), "1"));
	assert_true(str_is(json_at_str(item, "default.memory"), "1Gi"));
	assert_true(str_is(json_at_str(item, "defaultRequest.cpu"), "1"));
	assert_true(str_is(json_at_str(item, "defaultRequest.memory"), "1Gi"));
	assert_true(str_is(json_get_str(json_get(item, "defaultRequest"), "ephemeral-storage"), "1Mi"));
	assert_null(json_get(json_index(json_at(f->tree, "spec.limits"), 1), "default"));
}

static void test_pods_get_defaults(void **state)
{
	struct fixture *f = *state;
	const struct json *c;

	range(f, "r",
	      "{\"type\":\"Container\",\"default\":{\"cpu\":\"500m\",\"memory\":\"512Mi\"},"
	      "\"defaultRequest\":{\"memory\":\"256Mi\",\"cpu\":\"250m\"}}");
	fixture_expect(f, 201, "range");
	pod(f, "p",
	    "\"initContainers\":[" CONTAINER("i", "") "],"
						      "\"containers\":[" CONTAINER("a", "") "," CONTAINER(
							      "b", "\"limits\":{\"cpu\":\"1\"}") "]");
	fixture_expect(f, 201, "pod");
	c = json_index(json_at(f->tree, "spec.containers"), 0);
	assert_true(str_is(json_at_str(c, "resources.limits.cpu"), "500m"));
	assert_true(str_is(json_at_str(c, "resources.requests.memory"), "256Mi"));
	/* A limit of its own is its request too, before the range has a say. */
	c = json_index(json_at(f->tree, "spec.containers"), 1);
	assert_true(str_is(json_at_str(c, "resources.limits.cpu"), "1"));
	assert_true(str_is(json_at_str(c, "resources.requests.cpu"), "1"));
	assert_true(str_is(json_at_str(c, "resources.limits.memory"), "512Mi"));
	assert_true(str_is(meta_annotation(f->tree, "kubernetes.io/limit-ranger"),
			   "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for "
			   "container a; memory request for container b; memory limit for container b; cpu, memory "
			   "request for init container i; cpu, memory limit for init container i"));
	/* Nothing is said where nothing was set. */
	pod(f, "q", ONE("\"limits\":{\"cpu\":\"1\",\"memory\":\"1Gi\"}"));
	fixture_expect(f, 201, "pod");
	assert_false(meta_has_annotation(f->tree, "kubernetes.io/limit-ranger"));
}

struct pod_case {
	const char *limits, *spec, *message; /* NULL: it is let in */
};

static const struct pod_case POD_CASES[] = {
	{ "{\"type\":\"Container\",\"min\":{\"cpu\":\"100m\"}}", ONE("\"requests\":{\"cpu\":\"50m\"}"),
	  "minimum cpu usage per Container is 100m, but request is 50m" },
	{ "{\"type\":\"Container\",\"min\":{\"cpu\":\"100m\"}}", ONE("\"requests\":{\"cpu\":\"0.1\"}"), NULL },
	/* Any minimum becomes a default request, so only a range without it can find nothing. */
	{ "{\"type\":\"Pod\",\"min\":{\"cpu\":\"100m\"}}", ONE(""),
	  "minimum cpu usage per Pod is 100m.  No request is specified" },
	{ "{\"type\":\"Pod\",\"max\":{\"memory\":\"1Gi\"}}", ONE("\"requests\":{\"memory\":\"1Mi\"}"),
	  "maximum memory usage per Pod is 1Gi.  No limit is specified" },
	{ "{\"type\":\"Container\",\"max\":{\"memory\":\"1Gi\"}}", ONE("\"limits\":{\"memory\":\"2Gi\"}"),
	  "maximum memory usage per Container is 1Gi, but limit is 2Gi" },
	{ "{\"type\":\"Container\",\"max\":{\"cpu\":\"1\"},\"min\":{\"cpu\":\"200m\"}}",
	  ONE("\"limits\":{\"cpu\":\"1500m\"},\"requests\":{\"cpu\":\"100m\"}"),
	  "[minimum cpu usage per Container is 200m, but request is 100m, maximum cpu usage per Container is 1, but "
	  "limit is 1500m]" },
	{ "{\"type\":\"Container\",\"maxLimitRequestRatio\":{\"cpu\":\"2\"}}",
	  ONE("\"limits\":{\"cpu\":\"1\"},\"requests\":{\"cpu\":\"100m\"}"),
	  "cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000" },
	{ "{\"type\":\"Container\",\"maxLimitRequestRatio\":{\"cpu\":\"10\"}}",
	  ONE("\"limits\":{\"cpu\":\"1\"},\"requests\":{\"cpu\":\"100m\"}"), NULL },
	{ "{\"type\":\"Container\",\"maxLimitRequestRatio\":{\"cpu\":\"2\"}}", ONE("\"requests\":{\"cpu\":\"100m\"}"),
	  "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0" },
	{ "{\"type\":\"Container\",\"maxLimitRequestRatio\":{\"cpu\":\"2\"}}", ONE(""),
	  "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0" },
	/* Of a pod: containers and sidecars together, or the largest init container. */
	{ "{\"type\":\"Pod\",\"max\":{\"cpu\":\"2\"}}",
	  "\"containers\":[" CONTAINER("a", "\"limits\":{\"cpu\":\"1500m\"}") "," CONTAINER(
		  "b", "\"limits\":{\"cpu\":\"700m\"}") "]",
	  "maximum cpu usage per Pod is 2, but limit is 2200m" },
	{ "{\"type\":\"Pod\",\"max\":{\"cpu\":\"2\"}}",
	  "\"initContainers\":[" CONTAINER("i", "\"limits\":{\"cpu\":\"3\"}") "],\"containers\":[" CONTAINER(
		  "a", "\"limits\":{\"cpu\":\"1\"}") "]",
	  "maximum cpu usage per Pod is 2, but limit is 3" },
	{ "{\"type\":\"Pod\",\"max\":{\"cpu\":\"2\"}}",
	  "\"initContainers\":[{\"name\":\"s\",\"image\":\"i\",\"restartPolicy\":\"Always\",\"resources\":{\"limits\":{"
	  "\"cpu\":\"1\"}}}],\"containers\":[" CONTAINER("a", "\"limits\":{\"cpu\":\"1500m\"}") "]",
	  "maximum cpu usage per Pod is 2, but limit is 2500m" },
	{ "{\"type\":\"Pod\",\"max\":{\"cpu\":\"2\"}}",
	  "\"initContainers\":[" CONTAINER("i", "\"limits\":{\"cpu\":\"2\"}") "],\"containers\":[" CONTAINER(
		  "a", "\"limits\":{\"cpu\":\"1\"}") "]",
	  NULL },
	/* Init containers are containers too. */
	{ "{\"type\":\"Container\",\"max\":{\"cpu\":\"2\"}}",
	  "\"initContainers\":[" CONTAINER("i", "\"limits\":{\"cpu\":\"3\"}") "],\"containers\":[" CONTAINER(
		  "a", "\"limits\":{\"cpu\":\"1\"}") "]",
	  "maximum cpu usage per Container is 2, but limit is 3" },
};

static void test_pod_bounds(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(POD_CASES); i++) {
		const struct pod_case *c = &POD_CASES[i];
		char name[16];

		snprintf(name, sizeof(name), "p%zu", i);
		range(f, "r", c->limits);
		fixture_expect(f, 201, c->limits);
		pod(f, name, c->spec);
		if (!c->message) {
			fixture_expect(f, 201, c->limits);
		} else {
			fixture_expect(f, 403, c->limits);
			assert_true(str_ends(str_of(f->message), str_of(c->message)));
			assert_int_equal(strlen(f->message),
					 strlen("pods \"\" is forbidden: ") + strlen(name) + strlen(c->message));
			assert_string_equal(f->reason, "Forbidden");
		}
		fixture_do(f, API_VERB_DELETE, KIND_LIMITRANGE, "default", "r", "");
		fixture_expect(f, 200, "delete");
	}
}

static int claim(struct fixture *f, const char *size)
{
	char body[256];

	snprintf(body, sizeof(body),
		 "{\"metadata\":{\"name\":\"c\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{"
		 "\"requests\":{\"storage\":\"%s\"}}}}",
		 size);
	return fixture_do(f, API_VERB_CREATE, KIND_PERSISTENTVOLUMECLAIM, "default", "", body);
}

static void test_claims(void **state)
{
	struct fixture *f = *state;

	range(f, "r",
	      "{\"type\":\"PersistentVolumeClaim\",\"min\":{\"storage\":\"1Gi\"},\"max\":{\"storage\":\"2Gi\"}}");
	fixture_expect(f, 201, "range");
	assert_int_equal(claim(f, "3Gi"), 403);
	assert_string_equal(f->message, "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per "
					"PersistentVolumeClaim is 2Gi, but request is 3Gi");
	assert_int_equal(claim(f, "500Mi"), 403);
	assert_string_equal(f->message, "persistentvolumeclaims \"c\" is forbidden: minimum storage usage per "
					"PersistentVolumeClaim is 1Gi, but request is 500Mi");
	assert_int_equal(claim(f, "2Gi"), 201);
}

/* A bound that comes later does not touch what runs, but what it is resized to. */
static void test_updates_and_resize(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	pod(f, "p", ONE("\"limits\":{\"cpu\":\"3\"},\"requests\":{\"cpu\":\"1\"}"));
	fixture_expect(f, 201, "pod");
	range(f, "r", "{\"type\":\"Container\",\"max\":{\"cpu\":\"2\"}}");
	fixture_expect(f, 201, "range");
	rq = fixture_request(API_VERB_PATCH, KIND_POD, "default", "p", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	rq.patch = REQUEST_PATCH_STRATEGIC;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "label");
	rq = fixture_request(
		API_VERB_PATCH, KIND_POD, "default", "p",
		"{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"cpu\":\"4\"}}}]}}");
	rq.patch = REQUEST_PATCH_STRATEGIC;
	rq.subresource = "resize";
	assert_int_equal(fixture_run(f, &rq), 403);
	assert_string_equal(f->message,
			    "pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 4");
	rq.body = STR("{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"cpu\":\"2\"}}}]}}");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "resize");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_range_defaults, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_pods_get_defaults, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_pod_bounds, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_claims, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_updates_and_resize, setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
