/* SPDX-License-Identifier: Apache-2.0 */
/* The generated kind tables: look-ups, order, and the facts that everything else builds on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "userspace/api/kind.h"

static void test_lookups(void **state)
{
	const struct api_kind *k = api_kind_by_resource(STR("apps"), STR("v1"), STR("deployments"));
	const struct api_field *f;

	assert_ptr_equal(k, KIND_DEPLOYMENT);
	assert_ptr_equal(k, api_kind_by_kind(STR("apps"), STR("v1"), STR("Deployment")));
	assert_string_equal(api_kind_api_version(k), "apps/v1");
	assert_string_equal(api_kind_api_version(KIND_POD), "v1");
	assert_string_equal(k->list_kind, "DeploymentList");
	assert_true(k->namespaced);
	assert_string_equal(k->short_names[0], "deploy");
	assert_string_equal(k->categories[0], "all");
	assert_non_null(api_kind_subresource(k, STR("scale")));
	assert_string_equal(api_kind_subresource(k, STR("scale"))->kind, "Scale");
	assert_null(api_kind_subresource(k, STR("scal")));
	assert_null(api_kind_by_resource(STR("apps"), STR("v1"), STR("deployment")));
	assert_null(api_kind_by_resource(STR("apps"), STR("v2"), STR("deployments")));
	assert_null(api_kind_by_resource(STR(""), STR("v1"), STR("")));
	f = api_message_field(api_message_field(k->message, STR("spec"))->ref, STR("replicas"));
	assert_int_equal(f->type, API_INT32);
	assert_string_equal(f->default_json, "1");
	assert_int_equal(f->pb_number, 1);
	assert_null(api_message_field(k->message, STR("specs")));
	assert_null(api_message_field(k->message, STR("")));
	assert_non_null(api_message_by_name(STR("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")));
	assert_null(api_message_by_name(STR("io.k8s.apimachinery.pkg.apis.meta.v1.Nothing")));
}

static void test_lists(void **state)
{
	const struct api_message *pod = api_message_field(KIND_POD->message, STR("spec"))->ref;
	const struct api_field *containers = api_message_field(pod, STR("containers"));

	assert_int_equal(containers->type, API_ARRAY);
	assert_int_equal(containers->list_type, API_LIST_MAP);
	assert_string_equal(containers->list_keys[0], "name");
	assert_string_equal(containers->patch_merge_key, "name");
	assert_int_equal(containers->patch_strategy, API_PATCH_MERGE);
	assert_int_equal(api_message_field(pod, STR("volumes"))->patch_strategy,
			 API_PATCH_MERGE | API_PATCH_RETAIN_KEYS);
	assert_int_equal(containers->elem->type, API_OBJECT);
	assert_string_equal(containers->elem->ref->name, "io.k8s.api.core.v1.Container");
	assert_int_equal(api_message_field(pod, STR("nodeSelector"))->map_type, API_MAP_ATOMIC);
}

/* Every resource index is used by one storage kind, dense from 0, and views share it. */
static void test_resources(void **state)
{
	for (size_t i = 0; i < api_resource_count(); i++) {
		const struct api_kind *k = api_kind_by_index((uint16_t)i);

		assert_non_null(k);
		assert_int_equal(k->resource, i);
		assert_ptr_equal(k->storage, k);
	}
	assert_null(api_kind_by_index((uint16_t)api_resource_count()));
	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_kind *k = api_kind_at(i);

		assert_non_null(k->message);
		assert_ptr_equal(api_kind_by_kind(str_of(k->group), str_of(k->version), str_of(k->kind)), k);
		if (*k->plural)
			assert_ptr_equal(api_kind_by_resource(str_of(k->group), str_of(k->version), str_of(k->plural)),
					 k);
		if (k->resource != API_RESOURCE_NONE)
			assert_ptr_equal(api_kind_by_index(k->resource), k->storage);
		else
			assert_int_equal(k->verbs & API_VERB_GET, 0);
		for (size_t j = 1; j < k->message->n_fields; j++)
			assert_true(strcmp(k->message->fields[j - 1].name, k->message->fields[j].name) < 0);
	}
}

static void test_views(void **state)
{
	const struct api_kind *event = api_kind_by_kind(STR("events.k8s.io"), STR("v1"), STR("Event"));
	const struct api_kind *hpa = api_kind_by_kind(STR("autoscaling"), STR("v1"), STR("HorizontalPodAutoscaler"));

	assert_ptr_equal(event->storage, KIND_EVENT);
	assert_int_equal(event->resource, KIND_EVENT->resource);
	assert_true(KIND_EVENT->lazy);
	assert_true(KIND_LEASE->lazy);
	assert_false(KIND_POD->lazy);
	assert_string_equal(hpa->storage->version, "v2");
}

static void test_group_versions(void **state)
{
	size_t n = 0;

	assert_string_equal(api_group_version_at(0)->api_version, "v1");
	assert_string_equal(api_group_version_at(1)->api_version, "apiregistration.k8s.io/v1");
	assert_string_equal(api_group_version_at(2)->api_version, "apps/v1");
	assert_null(api_group_version_at(api_group_version_count()));
	for (size_t i = 0; i < api_group_version_count(); i++) {
		const struct api_group_version *gv = api_group_version_at(i);

		assert_int_equal(gv->first, n);
		n += gv->n_kinds;
		assert_ptr_equal(api_group_version_find(str_of(gv->group), str_of(gv->version)), gv);
		if (!strcmp(gv->api_version, "autoscaling/v2"))
			assert_string_equal(api_group_version_at(i + 1)->api_version, "autoscaling/v1");
	}
	assert_int_equal(n, api_kind_count());
}

static void test_api_version(void **state)
{
	struct str g = STR_NULL, v = STR_NULL;

	assert_int_equal(api_parse_api_version(STR("apps/v1"), &g, &v), 0);
	assert_true(str_is(g, "apps") && str_is(v, "v1"));
	assert_int_equal(api_parse_api_version(STR("v1"), &g, &v), 0);
	assert_true(!g.n && str_is(v, "v1"));
	assert_int_equal(api_parse_api_version(STR(""), &g, &v), -EINVAL);
	assert_int_equal(api_parse_api_version(STR("a/b/c"), &g, &v), -EINVAL);
	assert_int_equal(api_parse_api_version(STR("/v1"), &g, &v), -EINVAL);
	assert_int_equal(api_parse_api_version(STR("apps/"), &g, &v), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookups),        cmocka_unit_test(test_lists),
		cmocka_unit_test(test_resources),      cmocka_unit_test(test_views),
		cmocka_unit_test(test_group_versions), cmocka_unit_test(test_api_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
