/* SPDX-License-Identifier: Apache-2.0 */
/* Creation, reading, update, patch: metadata, preconditions, words of refusals. */
#include <sys/resource.h>

#include "tests/registry/registry_fixture.h"

#define CM(name, data)                                                                                                 \
	"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"" name "\"},\"data\":{" data "}}"

static void test_create_and_get(void **state)
{
	struct fixture *f = *state;

	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("a", "\"k\":\"v\""));
	fixture_expect(f, 201, "create");
	assert_string_equal(fixture_at(f, "metadata.namespace"), "default");
	assert_int_equal(strlen(fixture_at(f, "metadata.uid")), 36);
	assert_int_equal(strlen(fixture_at(f, "metadata.creationTimestamp")), 20);
	assert_true(atoll(fixture_at(f, "metadata.resourceVersion")) > 0);
	assert_string_equal(fixture_at(f, "data.k"), "v");
	fixture_do(f, API_VERB_GET, KIND_CONFIGMAP, "default", "a", "");
	fixture_expect(f, 200, "get");
	assert_string_equal(fixture_at(f, "kind"), "ConfigMap");
}

static void test_words(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_POD, "default", "x", ""), 404);
	assert_string_equal(f->message, "pods \"x\" not found");
	assert_string_equal(f->reason, "NotFound");
	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("x", ""));
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("x", "")), 409);
	assert_string_equal(f->message, "configmaps \"x\" already exists");
	assert_string_equal(f->reason, "AlreadyExists");
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "nowhere", "", CM("x", "")), 404);
	assert_string_equal(f->message, "namespaces \"nowhere\" not found");
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, KIND_CONFIGMAP, "default", "x",
				    "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\","
				    "\"resourceVersion\":\"1\"}}"),
			 409);
	assert_string_equal(f->message,
			    "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; "
			    "please apply your changes to the latest version and try again");
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, KIND_CONFIGMAP, "default", "x", CM("y", "")), 400);
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, KIND_CONFIGMAP, "default", "z", CM("z", "")), 404);
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", "{\"kind\":"), 400);
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
				    "{\"apiVersion\":\"v1\",\"kind\":\"Secret\"}"),
			 400);
	assert_string_equal(f->message,
			    "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) "
			    "to (core.ConfigMap): unknown conversion");
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
				    "{\"apiVersion\":\"v1\",\"kind\":\"Odd\"}"),
			 400);
	assert_string_equal(f->message, "Odd in version \"v1\" cannot be handled as a ConfigMap: no kind \"Odd\" is "
					"registered for version \"v1\" in scheme "
					"\"pkg/api/legacyscheme/scheme.go:30\"");
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("Not_a_name", "")), 422);
	assert_string_equal(f->reason, "Invalid");
}

static void test_generate_name(void **state)
{
	struct fixture *f = *state;
	char first[64];

	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
		   "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"generateName\":\"gen-\"}}");
	fixture_expect(f, 201, "create");
	snprintf(first, sizeof(first), "%s", fixture_at(f, "metadata.name"));
	assert_int_equal(strlen(first), 9);
	assert_int_equal(strncmp(first, "gen-", 4), 0);
	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
		   "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"generateName\":\"gen-\"}}");
	assert_string_not_equal(fixture_at(f, "metadata.name"), first);
}

static void test_update_without_change_gives_no_revision(void **state)
{
	struct fixture *f = *state;
	char revision[32], uid[64];

	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("a", "\"k\":\"v\""));
	snprintf(revision, sizeof(revision), "%s", fixture_at(f, "metadata.resourceVersion"));
	snprintf(uid, sizeof(uid), "%s", fixture_at(f, "metadata.uid"));
	fixture_do(f, API_VERB_UPDATE, KIND_CONFIGMAP, "default", "a", CM("a", "\"k\":\"v\""));
	fixture_expect(f, 200, "same");
	assert_string_equal(fixture_at(f, "metadata.resourceVersion"), revision);
	fixture_do(f, API_VERB_UPDATE, KIND_CONFIGMAP, "default", "a", CM("a", "\"k\":\"w\""));
	fixture_expect(f, 200, "other");
	assert_string_not_equal(fixture_at(f, "metadata.resourceVersion"), revision);
	assert_string_equal(fixture_at(f, "metadata.uid"), uid);
	assert_string_equal(fixture_at(f, "data.k"), "w");
}

static void test_patches(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("a", "\"k\":\"v\",\"l\":\"m\""));
	rq = fixture_request(API_VERB_PATCH, KIND_CONFIGMAP, "default", "a", "{\"data\":{\"k\":null,\"n\":\"o\"}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "merge");
	assert_string_equal(fixture_at(f, "data"), "{\"l\":\"m\",\"n\":\"o\"}");
	rq.body = STR("[{\"op\":\"replace\",\"path\":\"/data/l\",\"value\":\"z\"}]");
	rq.patch = REQUEST_PATCH_JSON;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "json");
	assert_string_equal(fixture_at(f, "data.l"), "z");
	rq.body = STR("{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	rq.patch = REQUEST_PATCH_STRATEGIC;
	rq.dry_run = true;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "dry");
	assert_string_equal(fixture_at(f, "metadata.labels.a"), "b");
	fixture_do(f, API_VERB_GET, KIND_CONFIGMAP, "default", "a", "");
	assert_string_equal(fixture_at(f, "metadata.labels"), "");
	rq.dry_run = false;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "strategic");
	rq.patch = REQUEST_PATCH_APPLY; /* needs a manager */
	assert_int_equal(fixture_run(f, &rq), 422);
	rq.patch = REQUEST_PATCH_MERGE;
	rq.body = STR("{\"metadata\":{\"resourceVersion\":\"1\"}}");
	assert_int_equal(fixture_run(f, &rq), 409);
}

static void test_updates_give_the_name(void **state)
{
	static const struct {
		enum request_patch patch; /* NONE: PUT */
		const char *subresource, *body;
	} rows[] = {
		{ REQUEST_PATCH_NONE, NULL, "{\"data\":{}}" },
		{ REQUEST_PATCH_NONE, "status", "{\"status\":{}}" },
		{ REQUEST_PATCH_NONE, "scale", "{\"spec\":{\"replicas\":2}}" },
		{ REQUEST_PATCH_MERGE, NULL, "{\"metadata\":null}" },
		{ REQUEST_PATCH_MERGE, NULL, "{\"metadata\":{\"name\":null}}" },
		{ REQUEST_PATCH_MERGE, "scale", "{\"metadata\":null}" },
		{ REQUEST_PATCH_STRATEGIC, NULL, "{\"metadata\":{\"$patch\":\"replace\"}}" },
		{ REQUEST_PATCH_JSON, NULL, "[{\"op\":\"remove\",\"path\":\"/metadata/name\"}]" },
	};
	struct fixture *f = *state;

	fixture_do(
		f, API_VERB_CREATE, KIND_DEPLOYMENT, "default", "",
		"{\"metadata\":{\"name\":\"z1\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{"
		"\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}");
	fixture_expect(f, 201, "deployment");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct request rq = fixture_request(rows[i].patch ? API_VERB_PATCH : API_VERB_UPDATE, KIND_DEPLOYMENT,
						    "default", "z1", rows[i].body);

		rq.patch = rows[i].patch;
		rq.subresource = rows[i].subresource;
		fixture_run(f, &rq);
		fixture_expect(f, 400, rows[i].body);
		assert_string_equal(f->message, "the name of the object (z1 based on URL) was undeterminable: name "
						"must be provided");
	}
	/* One that would create. */
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, KIND_LEASE, "default", "z2", "{\"metadata\":{}}"), 400);
	assert_string_equal(f->message,
			    "the name of the object (z2 based on URL) was undeterminable: name must be provided");
}

static int patch_as(struct fixture *f, enum request_patch patch, const char *subresource, const char *body)
{
	struct request rq = fixture_request(API_VERB_PATCH, KIND_DEPLOYMENT, "default", "z1", body);

	rq.patch = patch;
	rq.subresource = subresource;
	rq.field_manager = STR("m");
	rq.force = patch == REQUEST_PATCH_APPLY;
	return fixture_run(f, &rq);
}

static void test_what_only_the_server_sets(void **state)
{
	static const char says_uid[] =
		"Deployment.apps \"z1\" is invalid: metadata.uid: Invalid value: \"zzz\": field is "
		"immutable";
	static const char says_time[] = "Deployment.apps \"z1\" is invalid: metadata.deletionTimestamp: Invalid value: "
					"\"2030-01-01T00:00:00Z\": field is immutable";
	struct fixture *f = *state;
	char says[512], uid[64];

	fixture_do(
		f, API_VERB_CREATE, KIND_DEPLOYMENT, "default", "",
		"{\"metadata\":{\"name\":\"z1\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{"
		"\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}");
	fixture_expect(f, 201, "deployment");
	snprintf(uid, sizeof(uid), "%s", fixture_at(f, "metadata.uid"));
	/* Another uid: what a patch makes is not valid, what is put meets another object than it is meant for. */
	assert_int_equal(patch_as(f, REQUEST_PATCH_MERGE, NULL, "{\"metadata\":{\"uid\":\"zzz\"}}"), 422);
	assert_string_equal(f->message, says_uid);
	assert_int_equal(patch_as(f, REQUEST_PATCH_MERGE, "status", "{\"metadata\":{\"uid\":\"zzz\"}}"), 422);
	assert_string_equal(f->message, says_uid);
	assert_int_equal(patch_as(f, REQUEST_PATCH_STRATEGIC, NULL, "{\"metadata\":{\"uid\":\"zzz\"}}"), 422);
	assert_string_equal(f->message, says_uid);
	assert_int_equal(patch_as(f, REQUEST_PATCH_APPLY, NULL,
				  "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"z1\","
				  "\"uid\":\"zzz\"}}"),
			 422);
	assert_string_equal(f->message, says_uid);
	assert_int_equal(patch_as(f, REQUEST_PATCH_MERGE, "scale", "{\"metadata\":{\"uid\":\"zzz\"}}"), 409);
	snprintf(says, sizeof(says),
		 "Operation cannot be fulfilled on deployments/scale.apps \"z1\": Precondition failed: UID in "
		 "precondition: zzz, UID in object meta: %s",
		 uid);
	assert_string_equal(f->message, says);
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, KIND_DEPLOYMENT, "default", "z1",
				    "{\"metadata\":{\"name\":\"z1\",\"uid\":\"zzz\"}}"),
			 409);
	snprintf(
		says, sizeof(says),
		"Operation cannot be fulfilled on deployments.apps \"z1\": StorageError: invalid object, Code: 4, Key: "
		"/registry/deployments/default/z1, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in "
		"precondition: zzz, UID in object meta: %s",
		uid);
	assert_string_equal(f->message, says);
	/* Only a deletion deletes. */
	assert_int_equal(patch_as(f, REQUEST_PATCH_MERGE, NULL,
				  "{\"metadata\":{\"deletionTimestamp\":\"2030-01-01T00:00:00Z\"}}"),
			 422);
	assert_string_equal(f->message, says_time);
	assert_int_equal(patch_as(f, REQUEST_PATCH_MERGE, NULL, "{\"metadata\":{\"deletionGracePeriodSeconds\":3}}"),
			 422);
	assert_string_equal(f->message,
			    "Deployment.apps \"z1\" is invalid: metadata.deletionGracePeriodSeconds: Invalid "
			    "value: 3: field is immutable");
	/* What is dropped. */
	patch_as(f, REQUEST_PATCH_MERGE, NULL,
		 "{\"metadata\":{\"creationTimestamp\":\"2001-01-01T00:00:00Z\",\"generation\":7,\"uid\":null}}");
	fixture_expect(f, 200, "dropped");
	assert_string_equal(fixture_at(f, "metadata.uid"), uid);
	assert_string_equal(fixture_at(f, "metadata.generation"), "1");
}

static void test_sent_managed_fields(void **state)
{
#define LONG128                                                                                                        \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                                             \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MANAGED(more)                                                                                                      \
	"{\"metadata\":{\"name\":\"a\",\"managedFields\":[{\"operation\":\"Update\",\"apiVersion\":\"v1\",\"fieldsType\":" \
	"\"FieldsV1\",\"fieldsV1\":{\"f:data\":{\"f:other\":{}}}," more "}]},\"data\":{\"k\":\"v\"}}"
	static const char says[] = "ConfigMap \"a\" is invalid: metadata.managedFields[";
	struct fixture *f = *state;

	assert_int_equal(
		fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", MANAGED("\"manager\":\"" LONG128 "x\"")),
		422);
	assert_memory_equal(f->message, says, strlen(says));
	assert_non_null(strstr(f->message, "].manager: Too long: may not be more than 128 bytes"));
	assert_int_equal(
		fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", MANAGED("\"manager\":\"a\\u0007\"")),
		422);
	assert_non_null(strstr(f->message, "invalid character U+0007 (at position 1)"));
	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
				    MANAGED("\"manager\":\"m\",\"subresource\":\"" LONG128 LONG128 "x\"")),
			 422);
	assert_non_null(strstr(f->message, "].subresource: Too long: may not be more than 256 bytes"));
	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", MANAGED("\"manager\":\"" LONG128 "\""));
	fixture_expect(f, 201, "the longest");
	assert_non_null(strstr(f->json, LONG128));
	assert_int_equal(
		fixture_do(f, API_VERB_UPDATE, KIND_CONFIGMAP, "default", "a", MANAGED("\"manager\":\"" LONG128 "x\"")),
		422);
}

#define DEEP (JSON_DEPTH_MAX - 8)
#define SMALL_STACK (4 << 20) /* half of what the loop thread has */

static const char *deep_text(struct buf *out, const char *leaf)
{
	buf_add_cstr(out,
		     "{\"apiVersion\":\"apps/v1\",\"kind\":\"ControllerRevision\",\"metadata\":{\"name\":\"deep\"},"
		     "\"revision\":1,\"data\":");
	for (int i = 0; i < DEEP; i++)
		buf_add_cstr(out, i % 2 ? "[" : "{\"a\":");
	buf_add_cstr(out, leaf);
	for (int i = DEEP - 1; i >= 0; i--)
		buf_add_cstr(out, i % 2 ? "]" : "}");
	buf_add_cstr(out, "}");
	return buf_cstr(out);
}

static void walk_deep_data(struct fixture *f)
{
	_cleanup_buf_ struct buf one = BUF_INIT;
	const char *body = deep_text(&one, "1");
	struct request rq = fixture_request(API_VERB_PATCH, KIND_CONTROLLERREVISION, "default", "deep", body);

	fixture_do(f, API_VERB_CREATE, KIND_CONTROLLERREVISION, "default", "", body);
	fixture_expect(f, 201, "deep");
	fixture_do(f, API_VERB_UPDATE, KIND_CONTROLLERREVISION, "default", "deep", body);
	fixture_expect(f, 200, "put");
	rq.field_validation = DECODE_STRICT;
	rq.field_manager = STR("m");
	for (rq.patch = REQUEST_PATCH_MERGE; rq.patch <= REQUEST_PATCH_STRATEGIC; rq.patch++) {
		fixture_run(f, &rq);
		fixture_expect(f, 200, "patch");
	}
	rq.patch = REQUEST_PATCH_APPLY;
	rq.force = true;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "apply");
	rq.force = false;
	rq.patch = REQUEST_PATCH_JSON;
	rq.body = STR("[{\"op\":\"copy\",\"from\":\"/data\",\"path\":\"/metadata/labels\"}]");
	fixture_run(f, &rq);
	assert_int_not_equal(f->status, 200);
	fixture_do(f, API_VERB_GET, KIND_CONTROLLERREVISION, "default", "deep", "");
	fixture_expect(f, 200, "get");
}

/* As deep as documents may be, with room on the stack to spare: whatever walks a tree calls itself. */
static void test_deep_data(void **state)
{
	struct rlimit whole, small;

	assert_int_equal(getrlimit(RLIMIT_STACK, &whole), 0);
	small = whole;
	small.rlim_cur = SMALL_STACK;
	assert_int_equal(setrlimit(RLIMIT_STACK, &small), 0);
	walk_deep_data(*state);
	assert_int_equal(setrlimit(RLIMIT_STACK, &whole), 0);
}

static void test_field_validation(void **state)
{
	struct fixture *f = *state;
	struct request rq =
		fixture_request(API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
				"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"},"
				"\"wrong\":1}");

	rq.field_validation = DECODE_STRICT;
	assert_int_equal(fixture_run(f, &rq), 400);
	assert_non_null(strstr(f->message, "unknown field \"wrong\""));
	rq.field_validation = DECODE_WARN;
	fixture_run(f, &rq);
	fixture_expect(f, 201, "warn");
	assert_non_null(strstr(f->warnings, "unknown field \"wrong\""));
	assert_string_equal(fixture_at(f, "wrong"), "");
}

static const char DEPLOYMENT[] =
	"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,"
	"\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},"
	"\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}},\"status\":{\"replicas\":7}}";

static void test_status_and_generation(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	fixture_do(f, API_VERB_CREATE, KIND_DEPLOYMENT, "default", "", DEPLOYMENT);
	fixture_expect(f, 201, "create");
	assert_string_equal(fixture_at(f, "metadata.generation"), "1");
	assert_string_equal(fixture_at(f, "status.replicas"), "");
	rq = fixture_request(API_VERB_PATCH, KIND_DEPLOYMENT, "default", "web",
			     "{\"spec\":{\"replicas\":5},\"status\":{\"replicas\":3}}");
	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "status");
	assert_string_equal(fixture_at(f, "spec.replicas"), "2");
	assert_string_equal(fixture_at(f, "status.replicas"), "3");
	assert_string_equal(fixture_at(f, "metadata.generation"), "1");
	rq.subresource = NULL;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "spec");
	assert_string_equal(fixture_at(f, "spec.replicas"), "5");
	assert_string_equal(fixture_at(f, "status.replicas"), "3");
	assert_string_equal(fixture_at(f, "metadata.generation"), "2");
}

static void test_scale(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	fixture_do(f, API_VERB_CREATE, KIND_DEPLOYMENT, "default", "", DEPLOYMENT);
	fixture_expect(f, 201, "create");
	rq = fixture_request(API_VERB_GET, KIND_DEPLOYMENT, "default", "web", "");
	rq.subresource = "scale";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "get");
	assert_string_equal(fixture_at(f, "kind"), "Scale");
	assert_string_equal(fixture_at(f, "spec.replicas"), "2");
	assert_string_equal(fixture_at(f, "status.selector"), "app=web");
	rq = fixture_request(API_VERB_PATCH, KIND_DEPLOYMENT, "default", "web", "{\"spec\":{\"replicas\":4}}");
	rq.subresource = "scale";
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "patch");
	assert_string_equal(fixture_at(f, "spec.replicas"), "4");
	fixture_do(f, API_VERB_GET, KIND_DEPLOYMENT, "default", "web", "");
	assert_string_equal(fixture_at(f, "spec.replicas"), "4");
	assert_string_equal(fixture_at(f, "metadata.generation"), "2");
	rq = fixture_request(API_VERB_UPDATE, KIND_DEPLOYMENT, "default", "web",
			     "{\"kind\":\"Scale\",\"apiVersion\":\"autoscaling/v1\",\"metadata\":{\"name\":\"web\","
			     "\"resourceVersion\":\"1\"},\"spec\":{\"replicas\":9}}");
	rq.subresource = "scale";
	assert_int_equal(fixture_run(f, &rq), 409);
}

static int set_data(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	(void)err;
	json_set_cstr(arena, json_ensure_object(arena, object, "data"), arg, "1");
	return 0;
}

static int no_change(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	(void)arg;
	(void)arena;
	(void)object;
	(void)err;
	return 1;
}

static size_t n_done;

static void count_done(void *arg, const struct object *o, const struct err *err)
{
	(void)arg;
	assert_null(err);
	assert_non_null(o);
	n_done++;
}

/* Many updates in one breath, each of the newest state: none conflicts, none is lost. */
static void test_in_process_updates_never_conflict(void **state)
{
	struct fixture *f = *state;
	static const char *const keys[] = { "a", "b", "c", "d", "e", "f" };

	fixture_do(f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "", CM("x", ""));
	n_done = 0;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		registry_update(f->reg, KIND_CONFIGMAP, STR("default"), STR("x"), NULL, set_data,
				(void *)(uintptr_t)keys[i], count_done, NULL);
	fixture_clear(f);
	registry_update(f->reg, KIND_CONFIGMAP, STR("default"), STR("x"), NULL, no_change, NULL, fixture_simple, f);
	assert_false(f->answered); /* what it answers with is not durable yet */
	fixture_wait(f);
	fixture_expect(f, 200, "update");
	assert_int_equal(n_done, ARRAY_SIZE(keys));
	assert_int_equal(json_count(json_get(f->tree, "data")), ARRAY_SIZE(keys));
}

static void test_survives_restart(void **state)
{
	struct fixture *f = *state;
	const struct object *o;

	fixture_do(
		f, API_VERB_CREATE, KIND_CONFIGMAP, "default", "",
		"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\",\"labels\":{\"z\":\"1\","
		"\"b\":\"2\"},\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"p\",\"uid\":\"u-1\","
		"\"controller\":true}]}}");
	fixture_expect(f, 201, "create");
	fixture_close(f);
	fixture_open(f);
	o = registry_get(f->reg, KIND_CONFIGMAP, STR("default"), STR("a"));
	assert_non_null(o);
	assert_true(str_is(object_label(o, STR("z")), "1"));
	assert_true(str_is(object_label(o, STR("b")), "2"));
	assert_true(str_is(object_controller(o)->uid, "u-1"));
	assert_ptr_equal(registry_by_uid(f->reg, o->uid), o);
}

/* Subresources that carry the object are as strict as the object itself, whatever way the change comes. */
static void test_subresources_refuse_as_the_object(void **state)
{
	static const struct {
		const char *sub;
		enum request_patch patch;
		const char *body;
		int status;
		const char *says;
	} rows[] = {
		{ "ephemeralcontainers", REQUEST_PATCH_STRATEGIC, "{\"spec\":{\"ephemeralContainers\":\"x\"}}", 422,
		  "json: cannot unmarshal string into Go struct field PodSpec.spec.ephemeralContainers" },
		{ "ephemeralcontainers", REQUEST_PATCH_MERGE, "{\"spec\":5}", 422,
		  "json: cannot unmarshal number into Go struct field Pod.spec" },
		{ "ephemeralcontainers", REQUEST_PATCH_JSON,
		  "[{\"op\":\"add\",\"path\":\"/spec/ephemeralContainers\",\"value\":1}]", 422,
		  "json: cannot unmarshal number" },
		{ "ephemeralcontainers", REQUEST_PATCH_STRATEGIC,
		  "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"Bad\",\"image\":\"i\"}]}}", 422,
		  "spec.ephemeralContainers[0].name: Invalid value: \"Bad\": a lowercase RFC 1123 label" },
		{ "ephemeralcontainers", REQUEST_PATCH_STRATEGIC,
		  "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"d\",\"image\":\"i\",\"imagePullPolicy\":\"x\"}]}}",
		  422, "spec.ephemeralContainers[0].imagePullPolicy: Unsupported value: \"x\"" },
		{ "resize", REQUEST_PATCH_STRATEGIC, "{\"spec\":{\"containers\":1}}", 422, "cannot unmarshal number" },
		{ "resize", REQUEST_PATCH_STRATEGIC,
		  "{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"x\"}}}]}}", 422,
		  "quantities must match the regular expression" },
		{ "ephemeralcontainers", REQUEST_PATCH_STRATEGIC,
		  "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"d\",\"image\":\"i\"}]}}", 200, "" },
	};
	struct fixture *f = *state;

	fixture_do(f, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "", "{\"metadata\":{\"name\":\"default\"}}");
	fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "",
		   "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
	fixture_expect(f, 201, "pod");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct request rq = fixture_request(API_VERB_PATCH, KIND_POD, "default", "p", rows[i].body);

		rq.subresource = rows[i].sub;
		rq.patch = rows[i].patch;
		rq.user = &(struct request_user){ .name = STR("u") };
		fixture_run(f, &rq);
		fixture_expect(f, rows[i].status, rows[i].body);
		if (f->message && !strstr(f->message, rows[i].says))
			fail_msg("%s: %s", rows[i].body, f->message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_create_and_get),
		T(test_subresources_refuse_as_the_object),
		T(test_words),
		T(test_generate_name),
		T(test_update_without_change_gives_no_revision),
		T(test_patches),
		T(test_updates_give_the_name),
		T(test_deep_data),
		T(test_what_only_the_server_sets),
		T(test_sent_managed_fields),
		T(test_field_validation),
		T(test_status_and_generation),
		T(test_scale),
		T(test_in_process_updates_never_conflict),
		T(test_survives_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
