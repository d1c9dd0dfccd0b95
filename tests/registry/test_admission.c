/* SPDX-License-Identifier: Apache-2.0 */
/* What admission does to pods; binding; events; tokens. */
#include "tests/registry/registry_fixture.h"

static const char POD[] = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"},"
			  "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}";

static void account(struct fixture *f)
{
	fixture_do(f, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "", "{\"metadata\":{\"name\":\"default\"}}");
	fixture_expect(f, 201, "account");
}

static void test_pod(void **state)
{
	struct fixture *f = *state;
	const struct json *volume, *mount;

	/* Refused when its time to wait is over. */
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "", POD), 403);
	assert_string_equal(f->message, "pods \"p\" is forbidden: error looking up service account default/default: "
					"serviceaccount \"default\" not found");
	account(f);
	fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "", POD);
	fixture_expect(f, 201, "pod");
	assert_string_equal(fixture_at(f, "spec.serviceAccountName"), "default");
	assert_string_equal(fixture_at(f, "spec.priority"), "0");
	assert_int_equal(json_count(json_at(f->tree, "spec.tolerations")), 2);
	volume = json_index(json_at(f->tree, "spec.volumes"), 0);
	assert_true(str_starts(json_get_str(volume, "name"), STR("kube-api-access-")));
	assert_int_equal(json_count(json_at(volume, "projected.sources")), 3);
	mount = json_index(json_get(json_index(json_at(f->tree, "spec.containers"), 0), "volumeMounts"), 0);
	assert_true(str_is(json_get_str(mount, "mountPath"), "/var/run/secrets/kubernetes.io/serviceaccount"));
	assert_true(str_eq(json_get_str(mount, "name"), json_get_str(volume, "name")));
}

/* As in one `kubectl apply` of a namespace and a pod in it. */
static void test_pod_waits_for_the_default_account(void **state)
{
	struct fixture *f = *state;
	char *body = mem_strdup(POD);
	struct request rq = fixture_request(API_VERB_CREATE, KIND_POD, "default", "", body);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *sa = json_new_object(&arena), *meta = json_ensure_object(&arena, sa, "metadata");

	fixture_clear(f);
	request_run(f->reg, &rq, fixture_answer, f);
	free(body); /* the request was borrowed for the call only */
	assert_false(f->answered);
	json_set_cstr(&arena, meta, "name", "default");
	json_set_cstr(&arena, meta, "namespace", "default");
	registry_create(f->reg, KIND_SERVICEACCOUNT, sa, NULL, NULL);
	fixture_wait(f);
	fixture_expect(f, 201, "pod");
	assert_string_equal(fixture_at(f, "spec.serviceAccountName"), "default");
}

static void test_waiting_write_ends_with_the_registry(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_CREATE, KIND_POD, "default", "", POD);

	fixture_clear(f);
	request_run(f->reg, &rq, fixture_answer, f);
	assert_false(f->answered);
}

static void test_priority(void **state)
{
	struct fixture *f = *state;

	account(f);
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "",
				    "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"priorityClassName\":\"none\","
				    "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"),
			 403);
	assert_string_equal(f->message, "pods \"p\" is forbidden: no PriorityClass with name none was found");
	fixture_do(f, API_VERB_CREATE, KIND_PRIORITYCLASS, "", "",
		   "{\"metadata\":{\"name\":\"high\"},\"value\":1000,"
		   "\"globalDefault\":true}");
	fixture_expect(f, 201, "class");
	fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "", POD);
	fixture_expect(f, 201, "pod");
	assert_string_equal(fixture_at(f, "spec.priority"), "1000");
	assert_string_equal(fixture_at(f, "spec.priorityClassName"), "high");
}

static void test_binding(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_CREATE, KIND_POD, "default", "p",
					    "{\"apiVersion\":\"v1\",\"kind\":\"Binding\",\"metadata\":{\"name\":\"p\"},"
					    "\"target\":{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"n1\"}}");

	account(f);
	fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "", POD);
	rq.subresource = "binding";
	fixture_run(f, &rq);
	fixture_expect(f, 201, "bind");
	assert_string_equal(fixture_at(f, "status"), "Success");
	assert_int_equal(fixture_run(f, &rq), 409);
	assert_string_equal(f->message,
			    "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to "
			    "node \"n1\"");
	fixture_do(f, API_VERB_GET, KIND_POD, "default", "p", "");
	assert_string_equal(fixture_at(f, "spec.nodeName"), "n1");
	assert_true(meta_condition_is(json_at(f->tree, "status.conditions"), "PodScheduled", "True"));
}

static void test_events_count_up(void **state)
{
	struct fixture *f = *state;
	const struct object *cm;
	struct request rq;

	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", "{\"metadata\":{\"name\":\"a\"}}");
	cm = object_ref(registry_get(f->reg, KIND_CONFIGMAP, STR("default"), STR("a")));
	for (int i = 0; i < 3; i++)
		registry_event(f->reg, "tester", cm, "Warning", "Failed", "it did not %s", "work");
	registry_event(f->reg, "tester", cm, "Warning", "Failed", "it did not %s", "start");
	object_unref(cm);
	/* A write behind them: they are published before it. */
	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", "{\"metadata\":{\"name\":\"b\"}}");
	assert_int_equal(registry_count(f->reg, KIND_EVENT), 2);
	rq = fixture_request(API_VERB_LIST, KIND_EVENT, "default", "", "");
	rq.field_selector = STR("involvedObject.name=a,reason=Failed");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "list");
	char first[200];
	snprintf(first, sizeof(first), "%s", f->items);
	*strchr(first, ' ') = 0;
	assert_int_equal(strncmp(first, "a.", 2), 0);
	fixture_do(f, API_VERB_GET, KIND_EVENT, "default", first, "");
	assert_string_equal(fixture_at(f, "count"), "3");
	assert_string_equal(fixture_at(f, "message"), "it did not work");
	assert_string_equal(fixture_at(f, "involvedObject.kind"), "ConfigMap");
	/* The other form of the same. */
	const struct api_kind *view = api_kind_by_resource(STR("events.k8s.io"), STR("v1"), STR("events"));
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *tree = NULL;
	struct str text = registry_render(&arena, view, registry_get(f->reg, view, STR("default"), str_of(first)));
	assert_int_equal(json_parse(&arena, text, 0, &tree, NULL), 0);
	assert_true(str_is(json_get_str(tree, "apiVersion"), "events.k8s.io/v1"));
	assert_true(str_is(json_get_str(tree, "note"), "it did not work"));
	assert_int_equal(json_get_int(tree, "deprecatedCount", 0), 3);
}

static void test_events_of_two_groups(void **state)
{
	const struct api_kind *view = api_kind_by_resource(STR("events.k8s.io"), STR("v1"), STR("events"));
	struct fixture *f = *state;

	/* core/v1 keeps to what it always asked. */
	fixture_do(f, API_VERB_CREATE, KIND_EVENT, "default", "", "{\"metadata\":{\"name\":\"old\"},\"type\":\"Odd\"}");
	fixture_expect(f, 201, "core");
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_EVENT, "default", "",
				    "{\"metadata\":{\"name\":\"x\"},\"involvedObject\":{\"namespace\":\"other\"}}"),
			 422);
	assert_string_equal(f->message,
			    "Event \"x\" is invalid: involvedObject.namespace: Invalid value: \"other\": does "
			    "not match event.namespace");
	assert_int_equal(fixture_do(f, API_VERB_CREATE, view, "default", "", "{\"metadata\":{\"name\":\"x\"}}"), 422);
	assert_non_null(
		strstr(f->message, "[eventTime: Required value, type: Invalid value: \"\": has invalid value: ]"));
	assert_int_equal(fixture_do(f, API_VERB_CREATE, view, "default", "",
				    "{\"metadata\":{\"name\":\"x\"},\"eventTime\":\"2026-01-01T00:00:00.000000Z\","
				    "\"deprecatedCount\":1,\"series\":{\"count\":1}}"),
			 422);
	assert_non_null(strstr(f->message, "[reportingController: Required value, "));
	assert_non_null(strstr(f->message,
			       ", reportingInstance: Required value, action: Required value, reason: Required "
			       "value, series.count: Invalid value: \"\": should be at least 2, "
			       "series.lastObservedTime: Required value, type: Invalid value: "));
	assert_non_null(strstr(f->message, ", count: Invalid value: \"\": needs to be unset]"));
#define EVENT(note, more)                                                                                               \
	"{\"metadata\":{\"name\":\"x\"},\"eventTime\":\"2026-01-01T00:00:00.000000Z\",\"reportingController\":\"a/b\"," \
	"\"reportingInstance\":\"i\",\"action\":\"Do\",\"reason\":\"Why\",\"type\":\"Normal\",\"note\":\"" note         \
	"\"" more "}"
	fixture_do(f, API_VERB_CREATE, view, "default", "", EVENT("n", ""));
	fixture_expect(f, 201, "events.k8s.io");
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, view, "default", "x", EVENT("m", "")), 422);
	assert_string_equal(f->message, "Event \"x\" is invalid: message: Invalid value: \"m\": field is immutable");
	fixture_do(f, API_VERB_UPDATE, view, "default", "x",
		   EVENT("n", ",\"series\":{\"count\":2,\"lastObservedTime\":\"2026-01-01T00:00:01.000000Z\"}"));
	fixture_expect(f, 200, "series");
	fixture_do(f, API_VERB_UPDATE, KIND_EVENT, "default", "old",
		   "{\"metadata\":{\"name\":\"old\"},\"message\":\"changed\"}");
	fixture_expect(f, 200, "core changes all");
}

static int issue(void *arg, const struct registry_token_request *request, struct str *ret_token,
		 int64_t *ret_expires_real_ns, struct err *err)
{
	(void)arg;
	(void)err;
	assert_true(str_is(request->service_account->name, "default"));
	*ret_token = STR("a.b.c");
	*ret_expires_real_ns = 1700000000 * NS_PER_S;
	return 0;
}

static void test_token(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "default",
					    "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenRequest\","
					    "\"spec\":{\"audiences\":[\"x\"]}}");

	account(f);
	rq.subresource = "token";
	assert_int_equal(fixture_run(f, &rq), 404);
	registry_set_token_issuer(f->reg, issue, NULL);
	fixture_run(f, &rq);
	fixture_expect(f, 201, "token");
	assert_string_equal(fixture_at(f, "status.token"), "a.b.c");
	assert_string_equal(fixture_at(f, "status.expirationTimestamp"), "2023-11-14T22:13:20Z");
}

static void test_node_heartbeat_is_not_written(void **state)
{
	struct fixture *f = *state;
	struct store_stats before, after;
	struct request rq;

	fixture_do(f, API_VERB_CREATE, KIND_NODE, "", "", "{\"metadata\":{\"name\":\"n\"}}");
	rq = fixture_request(API_VERB_PATCH, KIND_NODE, "", "n",
			     "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\","
			     "\"lastHeartbeatTime\":\"2026-01-01T00:00:00Z\"}]}}");
	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "first");
	store_get_stats(f->store, &before);
	rq.body = STR("{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\","
		      "\"lastHeartbeatTime\":\"2026-01-01T00:00:10Z\"}]}}");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "beat");
	store_get_stats(f->store, &after);
	assert_int_equal(before.commits, after.commits);
	rq.body = STR("{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\","
		      "\"lastHeartbeatTime\":\"2026-01-01T00:00:20Z\"}]}}");
	fixture_run(f, &rq);
	store_get_stats(f->store, &after);
	assert_int_equal(before.commits + 1, after.commits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_pod),
		T(test_pod_waits_for_the_default_account),
		T(test_waiting_write_ends_with_the_registry),
		T(test_priority),
		T(test_binding),
		T(test_events_of_two_groups),
		T(test_events_count_up),
		T(test_token),
		T(test_node_heartbeat_is_not_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
