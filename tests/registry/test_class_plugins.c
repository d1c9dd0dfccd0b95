/* SPDX-License-Identifier: Apache-2.0 */
/* Admission by classes and of storage: RuntimeClass, Priority, DefaultStorageClass, DefaultIngressClass,
 * TaintNodesByCondition, StorageObjectInUseProtection, PersistentVolumeClaimResize. */
#include <time.h>

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

/* `rest`: members of the object besides metadata.name. */
static int create(struct fixture *f, const struct api_kind *kind, const char *name, const char *rest)
{
	_cleanup_free_ char *body = NULL;

	if (asprintf(&body, "{\"metadata\":{\"name\":\"%s\"}%s%s}", name, *rest ? "," : "", rest) < 0)
		fail();
	return fixture_do(f, API_VERB_CREATE, kind, kind->namespaced ? "default" : "", "", body);
}

static int patch(struct fixture *f, const struct api_kind *kind, const char *name, const char *subresource,
		 const char *body)
{
	struct request rq = fixture_request(API_VERB_PATCH, kind, kind->namespaced ? "default" : "", name, body);

	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = subresource;
	return fixture_run(f, &rq);
}

static void remove_one(struct fixture *f, const struct api_kind *kind, const char *name)
{
	fixture_do(f, API_VERB_DELETE, kind, kind->namespaced ? "default" : "", name, "");
	fixture_expect(f, 200, name);
}

#define CONTAINERS "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]"
#define POD(spec) "\"spec\":{" spec CONTAINERS "}"

/* ---- RuntimeClass ---- */

struct runtime_case {
	const char *class; /* NULL: there is none */
	const char *spec;
	const char *path, *value; /* of the answer */
	const char *message;      /* of the refusal */
};

#define GIVEN "\"runtimeClassName\":\"rc\","

static const struct runtime_case RUNTIME_CASES[] = {
	{ NULL, GIVEN, NULL, NULL, "pods \"p\" is forbidden: pod rejected: RuntimeClass \"rc\" not found" },
	{ "\"handler\":\"h\"", GIVEN, "spec.runtimeClassName", "rc", NULL },
	{ "\"handler\":\"h\",\"overhead\":{\"podFixed\":{\"cpu\":\"250m\"}}", GIVEN, "spec.overhead",
	  "{\"cpu\":\"250m\"}", NULL },
	{ "\"handler\":\"h\",\"overhead\":{\"podFixed\":{\"cpu\":\"1\"}}", GIVEN "\"overhead\":{\"cpu\":\"1000m\"},",
	  "spec.overhead.cpu", "1", NULL },
	{ "\"handler\":\"h\",\"overhead\":{\"podFixed\":{\"cpu\":\"250m\"}}", GIVEN "\"overhead\":{\"cpu\":\"1\"},",
	  NULL, NULL,
	  "pods \"p\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead" },
	{ "\"handler\":\"h\"", "\"overhead\":{\"cpu\":\"1\"},", NULL, NULL,
	  "pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined "
	  "Overhead" },
	{ "\"handler\":\"h\",\"scheduling\":{\"nodeSelector\":{\"a\":\"b\"}}", GIVEN "\"nodeSelector\":{\"c\":\"d\"},",
	  "spec.nodeSelector", "{\"c\":\"d\",\"a\":\"b\"}", NULL },
	{ "\"handler\":\"h\",\"scheduling\":{\"nodeSelector\":{\"a\":\"b\"}}", GIVEN "\"nodeSelector\":{\"a\":\"c\"},",
	  NULL, NULL,
	  "pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] "
	  "= c" },
};

static void test_runtime_class(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(RUNTIME_CASES); i++) {
		const struct runtime_case *c = &RUNTIME_CASES[i];
		_cleanup_free_ char *rest = NULL;

		if (c->class) {
			create(f, KIND_RUNTIMECLASS, "rc", c->class);
			fixture_expect(f, 201, c->class);
		}
		if (asprintf(&rest, "\"spec\":{%s" CONTAINERS "}", c->spec) < 0)
			fail();
		create(f, KIND_POD, "p", rest);
		if (c->message) {
			fixture_expect(f, 403, c->message);
			assert_string_equal(f->message, c->message);
		} else {
			fixture_expect(f, 201, rest);
			assert_string_equal(fixture_at(f, c->path), c->value);
			remove_one(f, KIND_POD, "p");
		}
		if (c->class)
			remove_one(f, KIND_RUNTIMECLASS, "rc");
	}
}

static void test_runtime_class_tolerations(void **state)
{
	struct fixture *f = *state;
	const struct json *t;

	create(f, KIND_RUNTIMECLASS, "rc",
	       "\"handler\":\"h\",\"scheduling\":{\"tolerations\":[{\"key\":\"a\",\"operator\":\"Exists\"},{\"key\":\"b\","
	       "\"operator\":\"Equal\",\"value\":\"1\",\"effect\":\"NoSchedule\"}]}");
	fixture_expect(f, 201, "class");
	create(f, KIND_POD, "p",
	       POD(GIVEN
		   "\"tolerations\":[{\"key\":\"a\",\"operator\":\"Equal\",\"value\":\"x\",\"effect\":\"NoSchedule\"},"
		   "{\"key\":\"b\",\"operator\":\"Equal\",\"value\":\"1\",\"effect\":\"NoSchedule\"},{\"key\":\"z\","
		   "\"operator\":\"Exists\"}],"));
	fixture_expect(f, 201, "pod");
	t = json_at(f->tree, "spec.tolerations");
	/* The pod's `a` is covered by the class's, the class's `b` is the pod's; two come from
	 * DefaultTolerationSeconds, which runs before. */
	assert_int_equal(json_count(t), 5);
	assert_true(str_is(json_get_str(json_index(t, 0), "key"), "b"));
	assert_true(str_is(json_get_str(json_index(t, 1), "key"), "z"));
	assert_true(str_is(json_get_str(json_index(t, 4), "key"), "a"));
	assert_true(str_is(json_get_str(json_index(t, 4), "operator"), "Exists"));
}

/* ---- Priority ---- */

static void test_priority_classes(void **state)
{
	struct fixture *f = *state;

	create(f, KIND_PRIORITYCLASS, "low", "\"value\":10,\"globalDefault\":true");
	fixture_expect(f, 201, "low");
	assert_string_equal(fixture_at(f, "preemptionPolicy"), "PreemptLowerPriority");
	assert_int_equal(create(f, KIND_PRIORITYCLASS, "high", "\"value\":20,\"globalDefault\":true"), 403);
	assert_string_equal(f->message, "priorityclasses.scheduling.k8s.io \"high\" is forbidden: PriorityClass low is "
					"already marked as default. Only one default can exist");
	create(f, KIND_PRIORITYCLASS, "high", "\"value\":20,\"preemptionPolicy\":\"Never\"");
	fixture_expect(f, 201, "high");
	assert_int_equal(patch(f, KIND_PRIORITYCLASS, "high", NULL, "{\"globalDefault\":true}"), 403);
	assert_int_equal(patch(f, KIND_PRIORITYCLASS, "low", NULL, "{\"description\":\"x\"}"), 200);
	create(f, KIND_POD, "p", POD("\"priorityClassName\":\"high\","));
	fixture_expect(f, 201, "pod");
	assert_string_equal(fixture_at(f, "spec.priority"), "20");
	assert_string_equal(fixture_at(f, "spec.preemptionPolicy"), "Never");
	create(f, KIND_POD, "q", POD(""));
	assert_string_equal(fixture_at(f, "spec.priority"), "10");
	assert_string_equal(fixture_at(f, "spec.priorityClassName"), "low");
	assert_int_equal(create(f, KIND_POD, "r", POD("\"priorityClassName\":\"high\",\"priority\":5,")), 403);
	assert_string_equal(f->message,
			    "pods \"r\" is forbidden: the integer value of priority (5) must not be provided in pod "
			    "spec; priority admission controller computed 20 from the given PriorityClass name");
	assert_int_equal(create(f, KIND_POD, "r",
				POD("\"priorityClassName\":\"high\",\"preemptionPolicy\":\"PreemptLowerPriority\",")),
			 403);
	assert_string_equal(f->message,
			    "pods \"r\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must "
			    "not be provided in pod spec; priority admission controller computed Never from the given "
			    "PriorityClass name");
	/* An update that leaves it out keeps it. */
	fixture_do(f, API_VERB_GET, KIND_POD, "default", "p", "");
	struct json *spec = json_get(f->tree, "spec");
	json_remove(spec, "priority");
	json_remove(spec, "preemptionPolicy");
	meta_set_label(&f->arena, f->tree, "a", STR("b"));
	_cleanup_free_ char *body = str_dup(json_text(&f->arena, f->tree));
	fixture_do(f, API_VERB_UPDATE, KIND_POD, "default", "p", body);
	fixture_expect(f, 200, "replace");
	assert_string_equal(fixture_at(f, "spec.priority"), "20");
}

static void test_system_classes(void **state)
{
	struct fixture *f = *state;

	create(f, KIND_PRIORITYCLASS, "system-node-critical", "\"value\":2000001000");
	fixture_expect(f, 201, "system");
	assert_int_equal(fixture_do(f, API_VERB_DELETE, KIND_PRIORITYCLASS, "", "system-node-critical", ""), 403);
	assert_string_equal(f->message,
			    "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is "
			    "a system priority class and cannot be deleted");
	create(f, KIND_POD, "p", POD("\"priorityClassName\":\"system-cluster-critical\","));
	fixture_expect(f, 201, "pod");
	assert_string_equal(fixture_at(f, "spec.priority"), "2000000000");
}

/* ---- defaults of classes ---- */

#define CLAIM(spec)                                                                                                    \
	"\"spec\":{" spec "\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}"
#define DEFAULT_CLASS "storageclass.kubernetes.io/is-default-class"

static void storage_class(struct fixture *f, const char *name, const char *annotations, const char *rest)
{
	_cleanup_free_ char *body = NULL;

	if (asprintf(&body, "{\"metadata\":{\"name\":\"%s\",\"annotations\":{%s}},\"provisioner\":\"x\"%s}", name,
		     annotations, rest) < 0)
		fail();
	fixture_do(f, API_VERB_CREATE, KIND_STORAGECLASS, "", "", body);
	fixture_expect(f, 201, name);
}

static void test_default_storage_class(void **state)
{
	struct fixture *f = *state;

	create(f, KIND_PERSISTENTVOLUMECLAIM, "a", CLAIM(""));
	fixture_expect(f, 201, "a");
	assert_string_equal(fixture_at(f, "spec.storageClassName"), "");
	storage_class(f, "std", "\"" DEFAULT_CLASS "\":\"true\"", "");
	storage_class(f, "not", "\"" DEFAULT_CLASS "\":\"false\"", "");
	create(f, KIND_PERSISTENTVOLUMECLAIM, "b", CLAIM(""));
	assert_string_equal(fixture_at(f, "spec.storageClassName"), "std");
	/* Said to have none is not the same as not said. */
	create(f, KIND_PERSISTENTVOLUMECLAIM, "c", CLAIM("\"storageClassName\":\"\","));
	assert_string_equal(fixture_at(f, "spec.storageClassName"), "");
	create(f, KIND_PERSISTENTVOLUMECLAIM, "d", CLAIM("\"storageClassName\":\"other\","));
	assert_string_equal(fixture_at(f, "spec.storageClassName"), "other");
}

/* Of several defaults the newest; of the same second the first by name. Creation has whole seconds: the next one is
 * waited for. */
static void test_several_defaults(void **state)
{
	struct fixture *f = *state;
	struct timespec left = { 0 };

	storage_class(f, "b", "\"" DEFAULT_CLASS "\":\"true\"", "");
	left.tv_nsec = NS_PER_S - clock_real_ns() % NS_PER_S;
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
	storage_class(f, "c", "\"" DEFAULT_CLASS "\":\"true\"", "");
	create(f, KIND_PERSISTENTVOLUMECLAIM, "x", CLAIM(""));
	assert_string_equal(fixture_at(f, "spec.storageClassName"), "c");
}

static void test_default_ingress_class(void **state)
{
	struct fixture *f = *state;
	static const char spec[] =
		"\"spec\":{\"defaultBackend\":{\"service\":{\"name\":\"s\",\"port\":{\"number\":80}}}}";

	create(f, KIND_INGRESS, "a", spec);
	fixture_expect(f, 201, "a");
	assert_string_equal(fixture_at(f, "spec.ingressClassName"), "");
	fixture_do(f, API_VERB_CREATE, KIND_INGRESSCLASS, "", "",
		   "{\"metadata\":{\"name\":\"nginx\",\"annotations\":{\"ingressclass.kubernetes.io/is-default-class\":"
		   "\"true\"}},\"spec\":{\"controller\":\"example.com/x\"}}");
	fixture_expect(f, 201, "class");
	create(f, KIND_INGRESS, "b", spec);
	assert_string_equal(fixture_at(f, "spec.ingressClassName"), "nginx");
	fixture_do(f, API_VERB_CREATE, KIND_INGRESS, "default", "",
		   "{\"metadata\":{\"name\":\"c\",\"annotations\":{\"kubernetes.io/ingress.class\":\"old\"}},\"spec\":{"
		   "\"defaultBackend\":{\"service\":{\"name\":\"s\",\"port\":{\"number\":80}}}}}");
	fixture_expect(f, 201, "annotated");
	assert_string_equal(fixture_at(f, "spec.ingressClassName"), "");
}

/* ---- nodes, storage ---- */

static void test_new_nodes_are_not_ready(void **state)
{
	struct fixture *f = *state;
	static const char taint[] = "{\"key\":\"node.kubernetes.io/not-ready\",\"effect\":\"NoSchedule\"}";

	create(f, KIND_NODE, "a", "");
	fixture_expect(f, 201, "a");
	assert_int_equal(json_count(json_at(f->tree, "spec.taints")), 1);
	assert_true(str_is(json_text(&f->arena, json_index(json_at(f->tree, "spec.taints"), 0)), taint));
	create(f, KIND_NODE, "b",
	       "\"spec\":{\"taints\":[{\"key\":\"node.kubernetes.io/not-ready\",\"effect\":"
	       "\"NoSchedule\"}]}");
	assert_int_equal(json_count(json_at(f->tree, "spec.taints")), 1);
	patch(f, KIND_NODE, "a", NULL, "{\"spec\":{\"taints\":null}}");
	fixture_expect(f, 200, "ready");
	assert_int_equal(json_count(json_at(f->tree, "spec.taints")), 0);
}

static void test_storage_in_use(void **state)
{
	struct fixture *f = *state;

	create(f, KIND_PERSISTENTVOLUMECLAIM, "c", CLAIM(""));
	assert_string_equal(fixture_at(f, "metadata.finalizers"), "[\"kubernetes.io/pvc-protection\"]");
	create(f, KIND_PERSISTENTVOLUME, "v",
	       "\"spec\":{\"capacity\":{\"storage\":\"1Gi\"},\"accessModes\":[\"ReadWriteOnce\"],\"hostPath\":{\"path\":"
	       "\"/x\"}}");
	fixture_expect(f, 201, "volume");
	assert_string_equal(fixture_at(f, "metadata.finalizers"), "[\"kubernetes.io/pv-protection\"]");
}

#define SIZE(size) "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"" size "\"}}}}"

static void test_resize(void **state)
{
	struct fixture *f = *state;

	storage_class(f, "fixed", "", "");
	storage_class(f, "grows", "", ",\"allowVolumeExpansion\":true");
	create(f, KIND_PERSISTENTVOLUMECLAIM, "a", CLAIM("\"storageClassName\":\"fixed\","));
	create(f, KIND_PERSISTENTVOLUMECLAIM, "b", CLAIM("\"storageClassName\":\"grows\","));
	fixture_expect(f, 201, "b");
	/* Of a claim that is not bound nothing may change: validation speaks before the plugin. */
	assert_int_equal(patch(f, KIND_PERSISTENTVOLUMECLAIM, "b", NULL, SIZE("2Gi")), 422);
	assert_non_null(strstr(f->message, "spec is immutable after creation except resources.requests"));
	for (const char *name = "a"; name; name = *name == 'a' ? "b" : NULL) {
		patch(f, KIND_PERSISTENTVOLUMECLAIM, name, "status", "{\"status\":{\"phase\":\"Bound\"}}");
		fixture_expect(f, 200, "bound");
	}
	assert_int_equal(patch(f, KIND_PERSISTENTVOLUMECLAIM, "a", NULL, SIZE("2Gi")), 403);
	assert_string_equal(
		f->message,
		"persistentvolumeclaims \"a\" is forbidden: only dynamically provisioned pvc can be resized "
		"and the storageclass that provisions the pvc must support resize");
	patch(f, KIND_PERSISTENTVOLUMECLAIM, "b", NULL, SIZE("2Gi"));
	fixture_expect(f, 200, "grown");
	assert_string_equal(fixture_at(f, "spec.resources.requests.storage"), "2Gi");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runtime_class, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_runtime_class_tolerations, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_priority_classes, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_system_classes, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_default_storage_class, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_several_defaults, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_default_ingress_class, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_new_nodes_are_not_ready, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_storage_in_use, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_resize, setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
