/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership and server-side apply through the whole pipeline: answers, revisions, subresources, two views of one
 * object, resets, callers in process. */
#include "tests/registry/registry_fixture.h"

#define CM(name, data) "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " name "}\ndata: {" data "}\n"
#define DEPLOYMENT(spec)                                                                                               \
	"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {" spec                                     \
	"selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, "       \
	"image: i}]}}}\n"

static int apply_as(struct fixture *f, const struct api_kind *kind, const char *name, const char *subresource,
		    const char *manager, bool force, const char *body)
{
	struct request rq = fixture_request(API_VERB_PATCH, kind, kind->namespaced ? "default" : "", name, body);

	rq.patch = REQUEST_PATCH_APPLY;
	rq.subresource = subresource;
	rq.field_manager = str_of(manager);
	rq.force = force;
	return fixture_run(f, &rq);
}

static int apply(struct fixture *f, const struct api_kind *kind, const char *name, const char *manager,
		 const char *body)
{
	return apply_as(f, kind, name, NULL, manager, false, body);
}

static int write_as(struct fixture *f, enum api_verb verb, const struct api_kind *kind, const char *name,
		    const char *subresource, const char *manager, const char *body)
{
	struct request rq = fixture_request(verb, kind, "default", verb == API_VERB_CREATE ? "" : name, body);

	rq.subresource = subresource;
	rq.user_agent = str_of(manager);
	rq.patch = verb == API_VERB_PATCH ? REQUEST_PATCH_MERGE : REQUEST_PATCH_NONE;
	return fixture_run(f, &rq);
}

/* "manager/operation/subresource" of every entry. */
static const char *managers(struct fixture *f)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	json_foreach(e, json_at(f->tree, "metadata.managedFields"))
		buf_printf(&out, "%s%.*s/%.*s/%.*s", buf_len(&out) ? " " : "", STR_ARG(json_get_str(e, "manager")),
			   STR_ARG(json_get_str(e, "operation")), STR_ARG(json_get_str(e, "subresource")));
	return arena_strdup(&f->arena, buf_cstr(&out));
}

static const char *fields(struct fixture *f, const char *manager)
{
	json_foreach(e, json_at(f->tree, "metadata.managedFields"))
		if (str_is(json_get_str(e, "manager"), manager))
			return json_text(&f->arena, json_get(e, "fieldsV1")).p;
	return "";
}

static void test_create_update_noop(void **state)
{
	struct fixture *f = *state;
	char revision[32];

	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("x", "k: v")), 201);
	assert_string_equal(managers(f), "a/Apply/");
	assert_string_equal(fields(f, "a"), "{\"f:data\":{\"f:k\":{}}}");
	assert_int_equal(strlen(fixture_at(f, "metadata.uid")), 36);
	snprintf(revision, sizeof(revision), "%s", fixture_at(f, "metadata.resourceVersion"));
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("x", "k: v")), 200);
	assert_string_equal(fixture_at(f, "metadata.resourceVersion"), revision);
	/* a second owner is a change, though no value is */
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "b", CM("x", "k: v")), 200);
	assert_string_not_equal(fixture_at(f, "metadata.resourceVersion"), revision);
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "b", CM("x", "k: w")), 409);
	assert_string_equal(f->reason, "Conflict");
	assert_string_equal(f->message, "Apply failed with 1 conflict: conflict with \"a\": .data.k");
	assert_int_equal(apply_as(f, KIND_CONFIGMAP, "x", NULL, "b", true, CM("x", "k: w")), 200);
	assert_string_equal(managers(f), "b/Apply/");
	assert_string_equal(fixture_at(f, "data.k"), "w");
	/* JSON is YAML */
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "b",
			       "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"}}"),
			 200);
	assert_string_equal(fixture_at(f, "data"), "");
	assert_string_equal(managers(f), "");
}

static void test_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "", CM("x", "")), 422);
	assert_string_equal(f->message, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is "
					"required for apply patch");
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a\nb", CM("x", "")), 422);
	assert_string_equal(f->message, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: "
					"\"a\\nb\": invalid character U+000A (at position 1)");
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", "a: [1"), 400);
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"),
			 400);
	assert_string_equal(f->message, "invalid object type: /v1, Kind=Secret");
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("other", "")), 400);
	assert_string_equal(f->message, "the name of the object (other) does not match the name on the URL (x)");
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", "apiVersion: v1\nkind: ConfigMap\n"), 400);
	assert_int_equal(
		apply(f, KIND_CONFIGMAP, "x", "a", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, uid: abc}\n"),
		409);
	assert_string_equal(f->message, "Operation cannot be fulfilled on configmaps \"x\": uid mismatch: the provided "
					"object specified uid abc, and no existing object was found");
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("x", "k: v")), 201);
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a",
			       "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, resourceVersion: \"1\"}\n"),
			 409);
	assert_int_equal(
		apply(f, KIND_CONFIGMAP, "x", "a", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nwhat: 1\n"),
		500);
	assert_string_equal(f->message,
			    "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .what: field not "
			    "declared in schema");
	/* what the config makes is validated like everything */
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("x", "\"a b\": v")), 422);
	assert_int_equal(apply_as(f, KIND_DEPLOYMENT, "d", "status", "a", false, DEPLOYMENT("")), 404);
}

static void test_defaults_and_subresources(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(apply(f, KIND_DEPLOYMENT, "d", "a", DEPLOYMENT("replicas: 2, ")), 201);
	assert_string_equal(fixture_at(f, "spec.revisionHistoryLimit"), "10");
	assert_string_equal(managers(f), "a/Apply/"); /* defaults are nobody's */
	assert_int_equal(write_as(f, API_VERB_PATCH, KIND_DEPLOYMENT, "d", "status", "ctl/v1",
				  "{\"status\":{\"replicas\":2,\"observedGeneration\":1}}"),
			 200);
	assert_string_equal(managers(f), "a/Apply/ ctl/Update/status");
	assert_string_equal(fields(f, "ctl"), "{\"f:status\":{\"f:observedGeneration\":{},\"f:replicas\":{}}}");
	/* a status in the config of the main resource is passed over; one of the status resource owns no spec */
	assert_int_equal(apply(f, KIND_DEPLOYMENT, "d", "a", DEPLOYMENT("replicas: 2, ") "status: {replicas: 9}\n"),
			 200);
	assert_string_equal(fixture_at(f, "status.replicas"), "2");
	assert_int_equal(apply_as(f, KIND_DEPLOYMENT, "d", "status", "s", true,
				  DEPLOYMENT("replicas: 7, ") "status: {replicas: 5}\n"),
			 200);
	assert_string_equal(fixture_at(f, "status.replicas"), "5");
	assert_string_equal(fixture_at(f, "spec.replicas"), "2");
	assert_string_equal(fields(f, "s"), "{\"f:status\":{\"f:replicas\":{}}}");
}

static void test_scale(void **state)
{
	struct fixture *f = *state;
	static const char scale[] =
		"apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: d}\nspec: {replicas: 4}\n";

	assert_int_equal(apply(f, KIND_DEPLOYMENT, "d", "a", DEPLOYMENT("replicas: 2, ")), 201);
	assert_int_equal(apply_as(f, KIND_DEPLOYMENT, "d", "scale", "b", false, scale), 409);
	assert_string_equal(f->message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
	assert_int_equal(
		write_as(f, API_VERB_PATCH, KIND_DEPLOYMENT, "d", "scale", "hpa", "{\"spec\":{\"replicas\":3}}"), 200);
	fixture_do(f, API_VERB_GET, KIND_DEPLOYMENT, "default", "d", "");
	assert_string_equal(fixture_at(f, "spec.replicas"), "3");
	assert_string_equal(managers(f), "a/Apply/ hpa/Update/scale");
	assert_null(strstr(fields(f, "a"), "replicas"));
	assert_int_equal(apply(f, KIND_DEPLOYMENT, "d", "a", DEPLOYMENT("replicas: 2, ")), 409);
	assert_string_equal(f->message,
			    "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" "
			    "using apps/v1: .spec.replicas");
	assert_int_equal(apply_as(f, KIND_DEPLOYMENT, "d", "scale", "b", true, scale), 200);
	fixture_do(f, API_VERB_GET, KIND_DEPLOYMENT, "default", "d", "");
	assert_string_equal(fixture_at(f, "spec.replicas"), "4");
	assert_string_equal(managers(f), "b/Apply/scale a/Apply/");
	/* not mentioned any more: the server's */
	assert_int_equal(apply(f, KIND_DEPLOYMENT, "d", "a", DEPLOYMENT("")), 200);
	assert_string_equal(fixture_at(f, "spec.replicas"), "4");
}

static void test_dry_run(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_PATCH, KIND_CONFIGMAP, "default", "x", CM("x", "k: v"));

	rq.patch = REQUEST_PATCH_APPLY;
	rq.field_manager = STR("a");
	rq.dry_run = true;
	assert_int_equal(fixture_run(f, &rq), 201);
	assert_string_equal(managers(f), "a/Apply/");
	assert_int_equal(fixture_do(f, API_VERB_GET, KIND_CONFIGMAP, "default", "x", ""), 404);
}

/* ---- other writes ---- */

static void test_update_and_reset(void **state)
{
	struct fixture *f = *state;
	static const char body[] =
		"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"},\"data\":"
		"{\"k\":\"v\"}}";
	char revision[32];

	assert_int_equal(write_as(f, API_VERB_CREATE, KIND_CONFIGMAP, "x", NULL, "curl/8.0 (x)", body), 201);
	assert_string_equal(managers(f), "curl/Update/");
	assert_string_equal(fields(f, "curl"), "{\"f:data\":{\".\":{},\"f:k\":{}}}");
	snprintf(revision, sizeof(revision), "%s", fixture_at(f, "metadata.resourceVersion"));
	assert_int_equal(write_as(f, API_VERB_UPDATE, KIND_CONFIGMAP, "x", NULL, "other", body), 200);
	assert_string_equal(fixture_at(f, "metadata.resourceVersion"), revision);
	assert_string_equal(managers(f), "curl/Update/");
	assert_int_equal(write_as(f, API_VERB_PATCH, KIND_CONFIGMAP, "x", NULL, "other", "{\"data\":{\"k\":\"w\"}}"),
			 200);
	assert_string_equal(managers(f), "curl/Update/ other/Update/");
	/* what a client sends back as it was changes nothing; what cannot be read neither */
	assert_int_equal(write_as(f, API_VERB_PATCH, KIND_CONFIGMAP, "x", NULL, "other",
				  "{\"metadata\":{\"managedFields\":[{\"manager\":\"x\",\"operation\":\"What\"}]}}"),
			 200);
	assert_string_equal(managers(f), "curl/Update/ other/Update/");
	/* one entry given up */
	assert_int_equal(write_as(f, API_VERB_PATCH, KIND_CONFIGMAP, "x", NULL, "other",
				  "{\"metadata\":{\"managedFields\":[{\"manager\":\"x\",\"operation\":\"Update\","
				  "\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:data\":{}}}]}}"),
			 200);
	assert_string_equal(managers(f), "x/Update/");
	assert_int_equal(write_as(f, API_VERB_PATCH, KIND_CONFIGMAP, "x", NULL, "other",
				  "{\"metadata\":{\"managedFields\":[{}]}}"),
			 200);
	assert_string_equal(managers(f), "");
	/* untracked until the first apply */
	assert_int_equal(write_as(f, API_VERB_PATCH, KIND_CONFIGMAP, "x", NULL, "other", "{\"data\":{\"k\":\"z\"}}"),
			 200);
	assert_string_equal(managers(f), "");
	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("x", "k: other")), 409);
	assert_string_equal(f->message,
			    "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k");
}

/* A JSON patch may look into the list. */
static void test_json_patch(void **state)
{
	struct fixture *f = *state;
	struct request rq =
		fixture_request(API_VERB_PATCH, KIND_CONFIGMAP, "default", "x",
				"[{\"op\":\"test\",\"path\":\"/metadata/managedFields/0/manager\",\"value\":\"a\"},"
				"{\"op\":\"replace\",\"path\":\"/metadata/managedFields/0/manager\",\"value\":\"z\"}]");

	assert_int_equal(apply(f, KIND_CONFIGMAP, "x", "a", CM("x", "k: v")), 201);
	rq.patch = REQUEST_PATCH_JSON;
	assert_int_equal(fixture_run(f, &rq), 200);
	assert_string_equal(managers(f), "z/Apply/");
	rq.body = STR("[{\"op\":\"replace\",\"path\":\"/metadata/managedFields\",\"value\":[]}]");
	assert_int_equal(fixture_run(f, &rq), 200);
	assert_string_equal(managers(f), "");
}

static void test_two_views(void **state)
{
	struct fixture *f = *state;
	const struct api_kind *v1 =
		api_kind_by_resource(STR("autoscaling"), STR("v1"), STR("horizontalpodautoscalers"));
	const struct api_kind *v2 =
		api_kind_by_resource(STR("autoscaling"), STR("v2"), STR("horizontalpodautoscalers"));
#define HPA(version, spec)                                                                                             \
	"apiVersion: autoscaling/" version "\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {"             \
	"scaleTargetRef: {kind: Deployment, name: d}, " spec "}\n"

	assert_int_equal(apply(f, v1, "h", "a", HPA("v1", "maxReplicas: 3, targetCPUUtilizationPercentage: 50")), 201);
	fixture_do(f, API_VERB_GET, v2, "default", "h", "");
	assert_string_equal(fields(f, "a"), "{\"f:spec\":{\"f:maxReplicas\":{},\"f:scaleTargetRef\":{},"
					    "\"f:targetCPUUtilizationPercentage\":{}}}");
	assert_int_equal(apply(f, v2, "h", "b", HPA("v2", "maxReplicas: 4")), 409);
	assert_string_equal(f->message, "Apply failed with 1 conflict: conflict with \"a\": .spec.maxReplicas");
	assert_int_equal(apply(f, v2, "h", "b", HPA("v2", "maxReplicas: 3, minReplicas: 2")), 200);
	/* the one of v1 gives up its number: the metric of v2 goes */
	assert_int_equal(apply(f, v1, "h", "a", HPA("v1", "maxReplicas: 3")), 200);
	fixture_do(f, API_VERB_GET, v2, "default", "h", "");
	assert_string_equal(fixture_at(f, "spec.minReplicas"), "2");
	assert_null(strstr(fixture_at(f, "spec.metrics"), "50"));
}

/* What only v2 has is in annotations of v1, and comes back from them. */
static void test_autoscaler_annotations(void **state)
{
	struct fixture *f = *state;
	const struct api_kind *v1 =
		api_kind_by_resource(STR("autoscaling"), STR("v1"), STR("horizontalpodautoscalers"));
	const struct api_kind *v2 =
		api_kind_by_resource(STR("autoscaling"), STR("v2"), STR("horizontalpodautoscalers"));
	static const char body[] =
		"{'metadata':{'name':'h'},'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'},'maxReplicas':3,"
		"'metrics':[{'type':'Resource','resource':{'name':'cpu','target':{'type':'Utilization',"
		"'averageUtilization':60}}},{'type':'Pods','pods':{'metric':{'name':'rps'},'target':{"
		"'type':'AverageValue','averageValue':'5'}}},{'type':'Object','object':{'describedObject':{"
		"'kind':'Ingress','name':'i'},'metric':{'name':'m'},'target':{'type':'Value','value':'2k'}}}],"
		"'behavior':{'scaleDown':{'policies':[{'type':'Pods','value':1,'periodSeconds':60}]}}}}";
	static const char metrics[] =
		"[{\"type\":\"Pods\",\"pods\":{\"metricName\":\"rps\",\"targetAverageValue\":\"5\"}},{\"type\":\"Object\","
		"\"object\":{\"target\":{\"kind\":\"Ingress\",\"name\":\"i\"},\"metricName\":\"m\","
		"\"targetValue\":\"2k\"}}]";
	_cleanup_free_ char *text = strdup(body);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *object = NULL;
	struct str seen;

	for (char *p = text; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	assert_int_equal(fixture_do(f, API_VERB_CREATE, v2, "default", "", text), 201);
	seen = registry_render(&arena, v1, registry_get(f->reg, v2, STR("default"), STR("h")));
	assert_int_equal(json_parse(&arena, seen, 0, &object, NULL), 0);
	assert_int_equal(json_at_int(object, "spec.targetCPUUtilizationPercentage", 0), 60);
	assert_null(json_at(object, "spec.metrics"));
	assert_true(str_is(meta_annotation(object, "autoscaling.alpha.kubernetes.io/metrics"), metrics));
	assert_true(meta_has_annotation(object, "autoscaling.alpha.kubernetes.io/behavior"));
	json_set_int(&arena, json_get(object, "spec"), "targetCPUUtilizationPercentage", 70);
	seen = json_text(&arena, object);
	assert_int_equal(fixture_do(f, API_VERB_UPDATE, v1, "default", "h", arena_strndup(&arena, seen.p, seen.n)),
			 200);
	fixture_do(f, API_VERB_GET, v2, "default", "h", "");
	assert_string_equal(fixture_at(f, "metadata.annotations"), "");
	object = json_index(json_at(f->tree, "spec.metrics"), 2);
	assert_int_equal(json_at_int(object, "resource.target.averageUtilization", 0), 70);
	assert_non_null(strstr(fixture_at(f, "spec.behavior"), "\"periodSeconds\":60"));
}

/* ---- in process ---- */

static int set_key(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_ensure_object(arena, object, "data"), "k", arg);
	return 0;
}

static void test_words_of_bad_configs(void **state)
{
	static const struct {
		const char *body, *says;
	} rows[] = {
		{ "- a",
		  "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array "
		  "into Go value of type map[string]interface {}" },
		{ "a: [", "error decoding YAML: error converting YAML to JSON: yaml: " },
		{ "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  a: b\n  a: c\n",
		  "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"a\" "
		  "already set in map" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct request rq = fixture_request(API_VERB_PATCH, KIND_CONFIGMAP, "default", "x", rows[i].body);

		rq.patch = REQUEST_PATCH_APPLY;
		rq.field_manager = STR("m");
		rq.field_validation = DECODE_STRICT;
		fixture_run(f, &rq);
		fixture_expect(f, 400, rows[i].body);
		if (strncmp(f->message, rows[i].says, strlen(rows[i].says)) != 0)
			fail_msg("%s: %s", rows[i].body, f->message);
	}
}

static void test_in_process(void **state)
{
	struct fixture *f = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *object = json_new_object(&arena), *parsed;
	const struct object *o;

	json_set_cstr(&arena, json_ensure_object(&arena, object, "metadata"), "name", "x");
	json_set_cstr(&arena, json_get(object, "metadata"), "namespace", "default");
	json_set_cstr(&arena, json_ensure_object(&arena, object, "data"), "k", "first");
	fixture_clear(f);
	registry_create_as(f->reg, "kube-controller-manager", KIND_CONFIGMAP, object, fixture_simple, f);
	fixture_wait(f);
	fixture_clear(f);
	registry_update_as(f->reg, "kubelet", KIND_CONFIGMAP, STR("default"), STR("x"), NULL, set_key, "v",
			   fixture_simple, f);
	fixture_wait(f);
	assert_string_equal(managers(f), "kube-controller-manager/Update/ kubelet/Update/");
	o = registry_get(f->reg, KIND_CONFIGMAP, STR("default"), STR("x"));
	parsed = registry_parse(&arena, o);
	assert_true(json_is(json_at(parsed, "metadata.managedFields"), JSON_RAW));
	assert_true(str_eq(json_text(&arena, parsed), o->json));
	/* deletion leaves them */
	fixture_do(f, API_VERB_PATCH, KIND_CONFIGMAP, "default", "x", "");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "x", "");
	fixture_expect(f, 200, "delete");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_create_update_noop),
		T(test_refused),
		T(test_defaults_and_subresources),
		T(test_scale),
		T(test_dry_run),
		T(test_update_and_reset),
		T(test_json_patch),
		T(test_two_views),
		T(test_autoscaler_annotations),
		T(test_words_of_bad_configs),
		T(test_in_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
