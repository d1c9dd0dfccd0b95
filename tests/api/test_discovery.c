/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery documents parse, hold what clients look for, and agree with each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "userspace/api/discovery.h"
#include "userspace/api/kind.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define _cleanup_chunk_ _cleanup_(chunk_unrefp)

static struct json *parse(struct arena *arena, const struct chunk *c)
{
	struct json *v = NULL;

	assert_non_null(c);
	assert_int_equal(json_parse(arena, chunk_str(c), JSON_PARSE_STRICT_DUPLICATES, &v, NULL), 0);
	return v;
}

/* The item of an array whose `key` is `value`. */
static struct json *item(const struct json *array, const char *key, const char *value)
{
	json_foreach(it, array)
		if (str_is(json_at_str(it, key), value))
			return it;
	return NULL;
}

static int teardown(void **state)
{
	discovery_drop();
	return 0;
}

static void test_groups(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_chunk_ struct chunk *groups = discovery_groups(), *again = discovery_groups();
	_cleanup_chunk_ struct chunk *versions = discovery_api_versions(STR("10.0.0.1:6443"));
	_cleanup_chunk_ struct chunk *apps = discovery_group(STR("apps"));
	struct json *v = parse(&arena, groups), *autoscaling;

	assert_ptr_equal(groups, again);
	assert_null(item(json_get(v, "groups"), "name", ""));
	autoscaling = item(json_get(v, "groups"), "name", "autoscaling");
	assert_int_equal(json_count(json_get(autoscaling, "versions")), 2);
	assert_true(str_is(json_at_str(autoscaling, "preferredVersion.version"), "v2"));
	v = parse(&arena, versions);
	assert_true(str_is(json_str(json_index(json_get(v, "versions"), 0)), "v1"));
	v = parse(&arena, apps);
	assert_true(str_is(json_get_str(v, "kind"), "APIGroup"));
	assert_true(str_is(json_at_str(v, "preferredVersion.groupVersion"), "apps/v1"));
	assert_null(discovery_group(STR("nope")));
	assert_null(discovery_group(STR("")));
}

static void test_resources(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_chunk_ struct chunk *core = discovery_resources(STR(""), STR("v1"));
	_cleanup_chunk_ struct chunk *apps = discovery_resources(STR("apps"), STR("v1"));
	struct json *list = json_get(parse(&arena, core), "resources"), *v;

	v = item(list, "name", "pods");
	assert_true(str_is(json_get_str(v, "singularName"), "pod"));
	assert_true(json_get_bool(v, "namespaced", false));
	assert_int_equal(json_count(json_get(v, "verbs")), 8);
	assert_true(str_is(json_str(json_index(json_get(v, "shortNames"), 0)), "po"));
	/* Hashes that every Kubernetes server gives. */
	assert_true(str_is(json_get_str(v, "storageVersionHash"), "xPOwRZ+Yhw8="));
	assert_true(
		str_is(json_get_str(item(list, "name", "persistentvolumes"), "storageVersionHash"), "HN/zwEC+JgM="));
	assert_null(json_get(item(list, "name", "pods/status"), "storageVersionHash"));
	assert_null(json_get(item(list, "name", "bindings"), "storageVersionHash"));
	v = item(list, "name", "pods/eviction");
	assert_true(str_is(json_get_str(v, "group"), "policy"));
	v = item(list, "name", "pods/exec");
	assert_int_equal(json_count(json_get(v, "verbs")), 2);
	assert_false(json_get_bool(item(list, "name", "nodes"), "namespaced", true));
	list = json_get(parse(&arena, apps), "resources");
	assert_true(str_is(json_get_str(item(list, "name", "deployments/scale"), "kind"), "Scale"));
	assert_null(item(list, "name", ""));
	assert_null(discovery_resources(STR("apps"), STR("v2")));
}

/* The aggregated form tells of every resource that the kind tables hold. */
static void test_aggregated(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char etag[DISCOVERY_ETAG_MAX], legacy_etag[DISCOVERY_ETAG_MAX];
	_cleanup_chunk_ struct chunk *groups = discovery_aggregated(DISCOVERY_V2, false, etag);
	_cleanup_chunk_ struct chunk *legacy = discovery_aggregated(DISCOVERY_V2, true, legacy_etag);
	_cleanup_chunk_ struct chunk *beta = discovery_aggregated(DISCOVERY_V2BETA1, false, legacy_etag);
	struct json *of_groups = json_get(parse(&arena, groups), "items");
	struct json *of_core = json_get(parse(&arena, legacy), "items");

	assert_int_equal(strlen(etag), 64);
	assert_int_equal(json_count(of_core), 1);
	assert_true(str_is(json_get_str(parse(&arena, beta), "apiVersion"), "apidiscovery.k8s.io/v2beta1"));
	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_kind *k = api_kind_at(i);
		struct json *group = *k->group ? item(of_groups, "metadata.name", k->group) : of_core->first;
		struct json *version = item(json_get(group, "versions"), "version", k->version);
		struct json *resource = item(json_get(version, "resources"), "resource", k->plural);

		assert_non_null(version);
		assert_int_equal(!resource, !*k->plural);
		if (!resource)
			continue;
		assert_true(str_is(json_at_str(resource, "responseKind.kind"), k->kind));
		assert_true(str_is(json_get_str(resource, "scope"), k->namespaced ? "Namespaced" : "Cluster"));
		assert_int_equal(json_count(json_get(resource, "subresources")), k->n_subresources);
	}
}

/* One resource is stored in one form, whichever view of it is asked for. */
static void test_storage_hash(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_chunk_ struct chunk *v1 = discovery_resources(STR("autoscaling"), STR("v1"));
	_cleanup_chunk_ struct chunk *v2 = discovery_resources(STR("autoscaling"), STR("v2"));
	_cleanup_chunk_ struct chunk *auth = discovery_resources(STR("authentication.k8s.io"), STR("v1"));
	struct str one =
		json_get_str(item(json_get(parse(&arena, v1), "resources"), "name", "horizontalpodautoscalers"),
			     "storageVersionHash");
	struct str two =
		json_get_str(item(json_get(parse(&arena, v2), "resources"), "name", "horizontalpodautoscalers"),
			     "storageVersionHash");

	assert_true(one.n == 12 && str_eq(one, two));
	json_foreach(it, json_get(parse(&arena, auth), "resources"))
		assert_null(json_get(it, "storageVersionHash"));
}

/* Groups by priority, names within a version by the alphabet, subresources behind what they belong to. */
static void test_order(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_chunk_ struct chunk *groups = discovery_groups();
	static const char *const first[] = { "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
					     "autoscaling" };
	struct json *list = json_get(parse(&arena, groups), "groups");
	size_t at = 0;

	json_foreach(it, list)
		if (at < ARRAY_SIZE(first) && str_is(json_get_str(it, "name"), first[at]))
			at++;
	assert_int_equal(at, ARRAY_SIZE(first));
	for (size_t i = 0; i < api_group_version_count(); i++) {
		const struct api_group_version *gv = api_group_version_at(i);
		_cleanup_chunk_ struct chunk *c = discovery_resources(str_of(gv->group), str_of(gv->version));
		struct str before = STR("");

		json_foreach(it, json_get(parse(&arena, c), "resources")) {
			struct str name = json_get_str(it, "name");

			if (str_cmp(before, name) >= 0)
				fail_msg("%s: %.*s behind %.*s", gv->api_version, STR_ARG(name), STR_ARG(before));
			before = name;
		}
	}
}

static void test_accept(void **state)
{
	enum discovery_aggregated form = DISCOVERY_V2BETA1;

	assert_int_equal(
		discovery_wants_aggregated(
			STR("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;"
			    "g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"),
			&form),
		1);
	assert_int_equal(form, DISCOVERY_V2);
	assert_int_equal(
		discovery_wants_aggregated(STR("application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery."
					       "k8s.io"),
					   &form),
		1);
	assert_int_equal(form, DISCOVERY_V2BETA1);
	assert_int_equal(discovery_wants_aggregated(STR("application/json"), &form), 0);
	assert_int_equal(discovery_wants_aggregated(STR("*/*"), &form), 0);
	assert_int_equal(discovery_wants_aggregated(STR(""), &form), 0);
	assert_int_equal(
		discovery_wants_aggregated(STR("application/json, application/json;g=apidiscovery.k8s.io;v=v2;as="
					       "APIGroupDiscoveryList"),
					   &form),
		0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),     cmocka_unit_test(test_resources),
		cmocka_unit_test(test_aggregated), cmocka_unit_test(test_storage_hash),
		cmocka_unit_test(test_order),      cmocka_unit_test(test_accept),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
