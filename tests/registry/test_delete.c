/* SPDX-License-Identifier: Apache-2.0 */
/* Deletion: grace, finalizers, propagation, preconditions, namespaces, collections. */
#include "tests/registry/registry_fixture.h"

static void create(struct fixture *f, const struct api_kind *kind, const char *ns, const char *body)
{
	fixture_do(f, API_VERB_CREATE, kind, ns, "", body);
	fixture_expect(f, 201, body);
}

static void make_pod(struct fixture *f, const char *name, bool bound)
{
	char body[1024];

	if (!registry_get(f->reg, KIND_SERVICEACCOUNT, STR("default"), STR("default")))
		create(f, KIND_SERVICEACCOUNT, "default",
		       "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"default\"}}");
	snprintf(body, sizeof(body),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"labels\":{\"app\":\"x\"}},"
		 "\"spec\":{%s\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}",
		 name, bound ? "\"nodeName\":\"n1\"," : "");
	create(f, KIND_POD, "default", body);
}

static void test_at_once(void **state)
{
	struct fixture *f = *state;

	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"a\"}}");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "");
	fixture_expect(f, 200, "delete");
	assert_string_equal(fixture_at(f, "kind"), "Status");
	assert_string_equal(fixture_at(f, "status"), "Success");
	assert_string_equal(fixture_at(f, "details.name"), "a");
	assert_string_equal(fixture_at(f, "details.kind"), "configmaps");
	assert_int_equal(fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", ""), 404);
}

static void test_preconditions(void **state)
{
	struct fixture *f = *state;
	char says[512], uid[64], revision[32];

	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"a\"}}");
	snprintf(uid, sizeof(uid), "%s", fixture_at(f, "metadata.uid"));
	snprintf(revision, sizeof(revision), "%s", fixture_at(f, "metadata.resourceVersion"));
	assert_int_equal(
		fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a",
			   "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"preconditions\":{\"uid\":\"no\"}}"),
		409);
	assert_string_equal(f->reason, "Conflict");
	snprintf(
		says, sizeof(says),
		"Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (no) does not match the UID "
		"in record (%s). The object might have been deleted and then recreated",
		uid);
	assert_string_equal(f->message, says);
	assert_int_equal(fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a",
				    "{\"preconditions\":{\"resourceVersion\":\"1\"}}"),
			 409);
	snprintf(
		says, sizeof(says),
		"Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not "
		"match the ResourceVersion in record (%s). The object might have been modified",
		revision);
	assert_string_equal(f->message, says);
	assert_int_equal(
		fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "{\"propagationPolicy\":\"Sideways\"}"),
		422);
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "{\"dryRun\":[\"All\"]}");
	fixture_expect(f, 200, "dry");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_CONFIGMAP, "default", "a", ""), 200);
}

static void test_graceful(void **state)
{
	struct fixture *f = *state;
	char deleted[64];

	make_pod(f, "p", true);
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "p", "");
	fixture_expect(f, 200, "delete");
	assert_string_equal(fixture_at(f, "kind"), "Pod");
	assert_string_equal(fixture_at(f, "metadata.deletionGracePeriodSeconds"), "30");
	snprintf(deleted, sizeof(deleted), "%s", fixture_at(f, "metadata.deletionTimestamp"));
	assert_int_equal(strlen(deleted), 20);
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "p", "{\"gracePeriodSeconds\":60}");
	assert_string_equal(fixture_at(f, "metadata.deletionTimestamp"), deleted); /* never later */
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "p", "{\"gracePeriodSeconds\":5}");
	assert_string_equal(fixture_at(f, "metadata.deletionGracePeriodSeconds"), "5");
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "p", "{\"gracePeriodSeconds\":0}");
	fixture_expect(f, 200, "force");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_POD, "default", "p", ""), 404);
	make_pod(f, "waiting", false);
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "waiting", "");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_POD, "default", "waiting", ""), 404);
}

static void test_finalizers(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"a\",\"finalizers\":[\"x.io/y\"]}}");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "");
	fixture_expect(f, 200, "delete");
	assert_string_equal(fixture_at(f, "kind"), "ConfigMap");
	assert_string_equal(fixture_at(f, "metadata.deletionGracePeriodSeconds"), "0");
	rq = fixture_request(API_VERB_PATCH, KIND_CONFIGMAP, "default", "a", "{\"metadata\":{\"finalizers\":null}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "finalize");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_CONFIGMAP, "default", "a", ""), 404);
}

static void test_propagation(void **state)
{
	struct fixture *f = *state;

	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"a\"}}");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "{\"propagationPolicy\":\"Foreground\"}");
	assert_string_equal(fixture_at(f, "metadata.finalizers"), "[\"foregroundDeletion\"]");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "{\"propagationPolicy\":\"Orphan\"}");
	assert_string_equal(fixture_at(f, "metadata.finalizers"), "[\"orphan\"]");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "{\"propagationPolicy\":\"Background\"}");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_CONFIGMAP, "default", "a", ""), 404);
}

static void test_namespace(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	assert_int_equal(fixture_do(f, API_VERB_DELETE, KIND_NAMESPACE, "", "default", ""), 403);
	assert_string_equal(f->message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
	fixture_namespace(f, "going");
	assert_string_equal(fixture_at(f, "spec.finalizers"), "[\"kubernetes\"]");
	assert_string_equal(fixture_at(f, "status.phase"), "Active");
	fixture_do(f, API_VERB_DELETE, KIND_NAMESPACE, "", "going", "");
	fixture_expect(f, 200, "delete");
	assert_string_equal(fixture_at(f, "status.phase"), "Terminating");
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "going", "", "{\"metadata\":{\"name\":\"a\"}}"),
			 403);
	assert_string_equal(f->message,
			    "configmaps \"a\" is forbidden: unable to create new content in namespace going "
			    "because it is being terminated");
	rq = fixture_request(
		API_VERB_UPDATE, KIND_NAMESPACE, "", "going",
		"{\"kind\":\"Namespace\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"going\"},\"spec\":{}}");
	rq.subresource = "finalize";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "finalize");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_NAMESPACE, "", "going", ""), 404);
}

static void test_collection(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"a\",\"labels\":{\"x\":\"1\"}}}");
	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"b\",\"labels\":{\"x\":\"2\"}}}");
	create(f, KIND_CONFIGMAP, "default", "{\"metadata\":{\"name\":\"c\",\"labels\":{\"x\":\"1\"}}}");
	rq = fixture_request(API_VERB_DELETECOLLECTION, KIND_CONFIGMAP, "default", "", "");
	rq.label_selector = STR("x=1");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "collection");
	assert_string_equal(fixture_at(f, "kind"), "ConfigMapList");
	assert_int_equal(json_count(json_get(f->tree, "items")), 2);
	fixture_do(f, API_VERB_LIST, KIND_CONFIGMAP, "default", "", "");
	assert_string_equal(f->items, "b");
	rq.label_selector = STR("x=77");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "none");
}

static void set_status(struct fixture *f, const struct api_kind *kind, const char *name, const char *status)
{
	struct request rq = fixture_request(API_VERB_PATCH, kind, "default", name, status);

	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "status");
}

static void test_eviction(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	make_pod(f, "p", true);
	make_pod(f, "q", true);
	make_pod(f, "r", true);
	set_status(f, KIND_POD, "p", "{\"status\":{\"phase\":\"Running\"}}");
	set_status(f, KIND_POD, "q", "{\"status\":{\"phase\":\"Running\"}}");
	set_status(f, KIND_POD, "r", "{\"status\":{\"phase\":\"Running\"}}");
	create(f, KIND_PODDISRUPTIONBUDGET, "default",
	       "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"minAvailable\":1,\"selector\":{\"matchLabels\":{\"app\":\"x\"}}}}");
	rq = fixture_request(API_VERB_CREATE, KIND_POD, "default", "p",
			     "{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"p\"}}");
	rq.subresource = "eviction";
	assert_int_equal(fixture_run(f, &rq), 429);
	assert_string_equal(f->message, "Cannot evict pod as it would violate the pod's disruption budget.");
	/* One disruption is allowed: the second eviction is refused. */
	set_status(
		f, KIND_PODDISRUPTIONBUDGET, "b",
		"{\"status\":{\"disruptionsAllowed\":1,\"currentHealthy\":3,\"desiredHealthy\":2,\"expectedPods\":3}}");
	rq.name = STR("q");
	rq.body = STR("{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"q\"}}");
	fixture_run(f, &rq);
	fixture_expect(f, 201, "evict");
	rq.name = STR("r");
	rq.body = STR("{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"r\"}}");
	assert_int_equal(fixture_run(f, &rq), 429);
	fixture_do(f, API_VERB_DELETE, KIND_PODDISRUPTIONBUDGET, "default", "b", "");
	rq.name = STR("p");
	rq.body = STR("{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"p\"}}");
	fixture_run(f, &rq);
	fixture_expect(f, 201, "evict");
	assert_string_equal(fixture_at(f, "status"), "Success");
	fixture_do(f, API_VERB_GET, KIND_POD, "default", "p", "");
	assert_string_not_equal(fixture_at(f, "metadata.deletionTimestamp"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_at_once),     T(test_preconditions), T(test_graceful),   T(test_finalizers),
		T(test_propagation), T(test_namespace),     T(test_collection), T(test_eviction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
