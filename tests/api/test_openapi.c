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

	assert_true(json_count(schemas) > 10);
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
	_cleanup_chunk_ struct chunk *index = openapi_v3_index();
	struct json *paths = json_get(parse(&arena, index), "paths");
	char hash[OPENAPI_HASH_MAX];

	assert_int_equal(json_count(paths), api_group_version_count());
	json_foreach(it, paths) {
		_cleanup_chunk_ struct chunk *c = openapi_v3(it->key, hash);
		struct json *doc = parse(&arena, c);

		assert_true(str_ends(json_get_str(it, "serverRelativeURL"), str_of(hash)));
		check_document(doc, json_get(json_get(doc, "components"), "schemas"), STR("#/components/schemas/"));
	}
	assert_null(openapi_v3(STR("apis/nope/v1"), hash));
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
		cmocka_unit_test(test_v3),
		cmocka_unit_test(test_v3_apps),
		cmocka_unit_test(test_v2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
