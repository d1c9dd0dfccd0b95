/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAPI documents parse, every reference resolves, and what kubectl looks for is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "userspace/api/kind.h"
#include "userspace/api/openapi.h"
#include "userspace/base/json.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

#define _cleanup_chunk_ _cleanup_(chunk_unrefp)

static struct json *parse(struct arena *arena, const struct chunk *c)
{
	struct json *v = NULL;

	assert_non_null(c);
	assert_int_equal(json_parse(arena, chunk_str(c), JSON_PARSE_STRICT_DUPLICATES, &v, NULL), 0);
	return v;
}

/* Every $ref below `v` names a schema; operationIds are used once. */
static void check(const struct json *v, struct str prefix, const struct map *schemas, struct map *ids)
{
	json_foreach(it, v) {
		if (str_is(it->key, "$ref") && it->type == JSON_STRING) {
			assert_true(str_starts(it->text, prefix));
			if (!map_has(schemas, str_make(it->text.p + prefix.n, it->text.n - prefix.n)))
				fail_msg("%.*s does not resolve", STR_ARG(it->text));
		}
		if (str_is(it->key, "operationId") && map_put(ids, it->text, it))
			fail_msg("%.*s is there twice", STR_ARG(it->text));
		check(it, prefix, schemas, ids);
	}
}

static void check_document(const struct json *doc, const struct json *schemas, struct str prefix)
{
	_cleanup_(map_finish) struct map names = MAP_INIT, ids = MAP_INIT;

	assert_true(json_count(schemas) > 0);
	json_foreach(it, schemas)
		map_put(&names, it->key, it);
	check(doc, prefix, &names, &ids);
}

static bool has_parameter(const struct json *operation, const char *name)
{
	json_foreach(it, json_get(operation, "parameters"))
		if (str_is(json_get_str(it, "name"), name) && str_is(json_get_str(it, "in"), "query"))
			return true;
	return false;
}

static void test_v3(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char hash[OPENAPI_HASH_MAX], again[OPENAPI_HASH_MAX];
	_cleanup_chunk_ struct chunk *index = openapi_v3_index(hash);
	struct json *paths = json_get(parse(&arena, index), "paths");

	for (size_t i = 0; i < api_group_version_count(); i++) {
		const struct api_group_version *gv = api_group_version_at(i);

		assert_non_null(
			json_get(paths, arena_printf(&arena, "%s/%s", *gv->group ? "apis" : "api", gv->api_version)));
		assert_non_null(json_get(paths, *gv->group ? arena_printf(&arena, "apis/%s", gv->group) : "api"));
	}
	assert_non_null(json_get(paths, "version"));
	json_foreach(it, paths) {
		_cleanup_chunk_ struct chunk *c = openapi_v3(it->key, hash);
		struct json *doc = parse(&arena, c);

		assert_true(str_ends(json_get_str(it, "serverRelativeURL"), str_of(hash)));
		assert_int_equal(openapi_v3_hash(it->key, again), 0);
		assert_string_equal(hash, again);
		check_document(doc, json_get(json_get(doc, "components"), "schemas"), STR("#/components/schemas/"));
	}
	assert_null(openapi_v3(STR("apis/nope/v1"), hash));
	assert_true(openapi_v3_hash(STR("apis/nope/v1"), hash) < 0);
}

static void test_v3_apps(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char hash[OPENAPI_HASH_MAX];
	_cleanup_chunk_ struct chunk *c = openapi_v3(STR("apis/apps/v1"), hash);
	struct json *doc = parse(&arena, c), *paths = json_get(doc, "paths"), *v;
	struct json *schemas = json_get(json_get(doc, "components"), "schemas");

	v = json_get(json_get(paths, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"), "patch");
	assert_true(has_parameter(v, "fieldValidation") && has_parameter(v, "force") && has_parameter(v, "dryRun"));
	assert_true(str_is(json_get_str(json_get(v, "x-kubernetes-group-version-kind"), "kind"), "Deployment"));
	v = json_get(json_get(paths, "/apis/apps/v1/namespaces/{namespace}/deployments"), "post");
	assert_true(has_parameter(v, "fieldValidation") && has_parameter(v, "fieldManager"));
	v = json_get(paths, "/apis/apps/v1/deployments");
	assert_non_null(json_get(v, "get"));
	assert_null(json_get(v, "post"));
	v = json_get(json_get(paths, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"), "put");
	assert_true(str_is(json_get_str(json_get(v, "x-kubernetes-group-version-kind"), "kind"), "Scale"));
	v = json_get(json_get(json_get(schemas, "io.k8s.api.core.v1.PodSpec"), "properties"), "containers");
	assert_true(str_is(json_get_str(v, "x-kubernetes-patch-merge-key"), "name"));
	assert_true(str_is(json_get_str(v, "x-kubernetes-patch-strategy"), "merge"));
	assert_true(str_is(json_get_str(v, "x-kubernetes-list-type"), "map"));
	v = json_get(json_get(schemas, "io.k8s.api.apps.v1.Deployment"), "x-kubernetes-group-version-kind");
	assert_true(str_is(json_get_str(json_index(v, 0), "group"), "apps"));
}

/* What is no object: streams, logs, proxies; and the old form of watches. */
static void test_v3_core(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char hash[OPENAPI_HASH_MAX];
	_cleanup_chunk_ struct chunk *c = openapi_v3(STR("api/v1"), hash);
	struct json *doc = parse(&arena, c), *paths = json_get(doc, "paths"), *v;
	struct json *schemas = json_get(json_get(doc, "components"), "schemas");

	v = json_get(paths, "/api/v1/namespaces/{namespace}/pods/{name}/exec");
	assert_true(has_parameter(v, "command") && has_parameter(v, "tty"));
	assert_true(str_is(json_get_str(json_get(v, "post"), "operationId"), "connectCoreV1PostNamespacedPodExec"));
	assert_true(str_is(json_get_str(json_get(v, "get"), "x-kubernetes-action"), "connect"));
	assert_true(str_is(json_get_str(json_get(json_get(v, "get"), "x-kubernetes-group-version-kind"), "kind"),
			   "PodExecOptions"));
	v = json_get(paths, "/api/v1/namespaces/{namespace}/pods/{name}/log");
	assert_true(has_parameter(v, "tailLines"));
	assert_non_null(json_get(json_get(json_get(json_get(json_get(v, "get"), "responses"), "200"), "content"),
				 "text/plain"));
	assert_true(has_parameter(json_get(paths, "/api/v1/namespaces/{namespace}/pods/{name}/portforward"), "ports"));
	v = json_get(paths, "/api/v1/namespaces/{namespace}/services/{name}/proxy/{path}");
	assert_non_null(json_get(v, "head"));
	assert_non_null(json_get(v, "options"));
	v = json_get(json_get(paths, "/api/v1/watch/namespaces/{namespace}/pods/{name}"), "get");
	assert_true(str_is(json_get_str(v, "x-kubernetes-action"), "watch"));
	v = json_get(json_get(paths, "/api/v1/watch/pods"), "get");
	assert_true(str_is(json_get_str(v, "operationId"), "watchCoreV1PodListForAllNamespaces"));
	v = json_get(json_get(paths, "/api/v1/namespaces/{namespace}/pods"), "delete");
	assert_true(str_is(json_get_str(v, "operationId"), "deleteCoreV1CollectionNamespacedPod"));
	assert_non_null(json_get(json_get(paths, "/api/v1/"), "get"));
	/* Types that merge as a whole say so of themselves. */
	v = json_get(schemas, "io.k8s.api.core.v1.LocalObjectReference");
	assert_true(str_is(json_get_str(v, "x-kubernetes-map-type"), "atomic"));
	assert_null(json_get(json_get(schemas, "io.k8s.api.core.v1.PodSpec"), "x-kubernetes-map-type"));
	v = json_index(json_get(json_get(schemas, "io.k8s.api.core.v1.SeccompProfile"), "x-kubernetes-unions"), 0);
	assert_true(str_is(json_get_str(v, "discriminator"), "type"));
	v = json_get(json_get(schemas, "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
		     "x-kubernetes-group-version-kind");
	assert_int_equal(json_count(v), api_group_version_count());
	assert_null(json_get(json_get(schemas, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
			     "x-kubernetes-group-version-kind"));
}

/* ---- descriptions ---- */

static void described(const struct api_message *m, struct map *seen)
{
	if (map_put(seen, str_of(m->name), (void *)m))
		return;
	if (!m->description || !*m->description)
		fail_msg("%s is not described", m->name);
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct api_field *f = &m->fields[i];

		if (!f->description || strlen(f->description) < 4)
			fail_msg("%s.%s is not described", m->name, f->name);
		for (; f; f = f->elem)
			if (f->ref)
				described(f->ref, seen);
	}
}

/* What people ask kubectl explain for most is described to the last field, and every kind in one line. */
static void test_descriptions(void **state)
{
	static const char *const kinds[][3] = {
		{ "", "v1", "Pod" },
		{ "", "v1", "Service" },
		{ "", "v1", "ConfigMap" },
		{ "", "v1", "Secret" },
		{ "", "v1", "PersistentVolumeClaim" },
		{ "apps", "v1", "Deployment" },
		{ "networking.k8s.io", "v1", "Ingress" },
		{ "networking.k8s.io", "v1", "NetworkPolicy" },
		{ "batch", "v1", "Job" },
		{ "batch", "v1", "CronJob" },
		{ "autoscaling", "v1", "HorizontalPodAutoscaler" },
		{ "autoscaling", "v2", "HorizontalPodAutoscaler" },
	};
	_cleanup_(map_finish) struct map seen = MAP_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct api_kind *k =
			api_kind_by_kind(str_of(kinds[i][0]), str_of(kinds[i][1]), str_of(kinds[i][2]));

		assert_non_null(k);
		described(k->message, &seen);
	}
	described(api_message_by_name(STR("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")), &seen);
	assert_true(seen.n > 200);
	for (size_t i = 0; i < api_kind_count(); i++)
		if (!api_kind_at(i)->message->description)
			fail_msg("%s is not described", api_kind_at(i)->kind);
}

static void test_protobuf(void **state)
{
	char hash[OPENAPI_HASH_MAX], again[OPENAPI_HASH_MAX];
	_cleanup_chunk_ struct chunk *json = openapi_v3(STR("apis/apps/v1"), hash);
	_cleanup_chunk_ struct chunk *pb = openapi_v3_protobuf(STR("apis/apps/v1"), again);

	assert_string_equal(hash, again);
	assert_true(pb->len > 10000);
	assert_memory_equal(pb->data,
			    "\x0a\x05"
			    "3.0.0\x12",
			    8);
	assert_null(openapi_v3_protobuf(STR("apis/nope/v1"), hash));
}

static void test_v2(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char hash[OPENAPI_HASH_MAX], again[OPENAPI_HASH_MAX];
	_cleanup_chunk_ struct chunk *c = openapi_v2(hash), *pb = openapi_v2_protobuf(again);
	struct json *doc = parse(&arena, c);

	assert_string_equal(hash, again);
	check_document(doc, json_get(doc, "definitions"), STR("#/definitions/"));
	/* Field 1, length 3, "2.0"; then info. */
	assert_true(pb->len > 100000);
	assert_memory_equal(pb->data,
			    "\x0a\x03"
			    "2.0\x12",
			    6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v3),           cmocka_unit_test(test_v3_apps),  cmocka_unit_test(test_v3_core),
		cmocka_unit_test(test_descriptions), cmocka_unit_test(test_protobuf), cmocka_unit_test(test_v2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
