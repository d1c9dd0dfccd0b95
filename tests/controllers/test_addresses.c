/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceCIDRs, IPAddresses and APIServices: there at start, following what they tell of, set right when changed. */
#include "tests/controllers/house.h"
#include "userspace/base/mem.h"

#define DEFAULT STR("default")

static const struct object *address_of(struct house *h, const char *service, struct arena *arena)
{
	const struct object *o = registry_get(h->reg, KIND_SERVICE, DEFAULT, str_of(service));

	return o ? registry_get(h->reg, KIND_IPADDRESS, STR_NULL,
				json_at_str(registry_parse(arena, o), "spec.clusterIP"))
		 : NULL;
}

static bool has_address(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	return address_of(h, arg, &arena) != NULL;
}

static bool has_no_addresses(struct house *h, void *arg)
{
	return registry_count(h->reg, KIND_IPADDRESS) == *(size_t *)arg;
}

static bool is_ready(struct house *h, void *arg)
{
	const struct object *o = registry_get(h->reg, KIND_SERVICECIDR, STR_NULL, str_of(arg));
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	return o && meta_condition_is(json_at(registry_parse(&arena, o), "status.conditions"), "Ready", "True");
}

static void test_addresses(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct object *o;
	struct json *ip;
	size_t before;

	house_wait(h, has_address, "kubernetes");
	house_wait(h, house_is_quiet, NULL);
	before = registry_count(h->reg, KIND_IPADDRESS);
	house_create(
		h,
		"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\",\"namespace\":\"default\"},"
		"\"spec\":{\"ports\":[{\"port\":80}]}}");
	house_wait(h, has_address, "web");
	o = address_of(h, "web", &arena);
	ip = registry_parse(&arena, o);
	assert_true(str_is(meta_label(ip, "ipaddress.kubernetes.io/managed-by"), "ipallocator.k8s.io"));
	assert_true(str_is(meta_label(ip, "ipaddress.kubernetes.io/ip-family"), "IPv4"));
	assert_true(str_is(json_text(&arena, json_at(ip, "spec.parentRef")),
			   "{\"name\":\"web\",\"namespace\":\"default\",\"resource\":\"services\"}"));
	/* Who removes it sees it come back. */
	registry_delete(h->reg, KIND_IPADDRESS, STR_NULL, o->name,
			&(struct registry_delete_options){ .grace_period_s = -1 }, NULL, NULL);
	house_wait(h, has_address, "web");
	registry_delete(h->reg, KIND_SERVICE, DEFAULT, STR("web"),
			&(struct registry_delete_options){ .grace_period_s = -1 }, NULL, NULL);
	house_wait(h, has_no_addresses, &before);
}

static bool is_held_back(struct house *h, void *arg)
{
	const struct object *o = registry_get(h->reg, KIND_SERVICECIDR, STR_NULL, str_of(arg));
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	return o && o->deleting &&
	       meta_condition_is(json_at(registry_parse(&arena, o), "status.conditions"), "Ready", "False");
}

static bool is_gone(struct house *h, void *arg)
{
	return !registry_get(h->reg, KIND_SERVICECIDR, STR_NULL, str_of(arg));
}

static bool has_service(struct house *h, void *arg)
{
	return registry_get(h->reg, KIND_SERVICE, DEFAULT, str_of(arg)) != NULL;
}

static void test_cidrs(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v;

	house_wait(h, is_ready, "kubernetes");
	v = registry_parse(&arena, registry_get(h->reg, KIND_SERVICECIDR, STR_NULL, STR("kubernetes")));
	assert_int_equal(json_count(json_at(v, "spec.cidrs")), 1);
	assert_true(meta_has_finalizer(v, STR("networking.k8s.io/service-cidr-finalizer")));
	/* A further network gives addresses, and stays while one of them is held. */
	house_create(
		h, "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"ServiceCIDR\",\"metadata\":{\"name\":\"more\"},"
		   "\"spec\":{\"cidrs\":[\"10.99.0.0/24\"]}}");
	house_wait(h, is_ready, "more");
	house_create(
		h,
		"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"far\",\"namespace\":\"default\"},"
		"\"spec\":{\"clusterIP\":\"10.99.0.7\",\"ports\":[{\"port\":80}]}}");
	house_wait(h, has_address, "far");
	registry_delete(h->reg, KIND_SERVICECIDR, STR_NULL, STR("more"),
			&(struct registry_delete_options){ .grace_period_s = -1 }, NULL, NULL);
	house_wait(h, is_held_back, "more");
	assert_true(has_service(h, "far"));
	registry_delete(h->reg, KIND_SERVICE, DEFAULT, STR("far"),
			&(struct registry_delete_options){ .grace_period_s = -1 }, NULL, NULL);
	house_wait(h, is_gone, "more");
}

static bool has_apiservices(struct house *h, void *arg)
{
	return registry_count(h->reg, KIND_APISERVICE) == *(size_t *)arg;
}

static bool is_set_right(struct house *h, void *arg)
{
	const struct object *o = registry_get(h->reg, KIND_APISERVICE, STR_NULL, STR("v1.apps"));
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	return o && json_at_int(registry_parse(&arena, o), "spec.versionPriority", 0) == 15;
}

static int change_priority(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_int(arena, json_get(object, "spec"), "versionPriority", 99);
	return 0;
}

static void test_apiservices(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	size_t wanted = api_group_version_count() - 1; /* all but their own */
	int64_t revision;
	struct json *v;

	house_wait(h, has_apiservices, &wanted);
	house_wait(h, house_is_quiet, NULL);
	v = registry_parse(&arena, registry_get(h->reg, KIND_APISERVICE, STR_NULL, STR("v1.")));
	assert_true(meta_condition_is(json_at(v, "status.conditions"), "Available", "True"));
	assert_int_equal(json_at_int(v, "spec.groupPriorityMinimum", 0), 18000);
	revision = registry_revision(h->reg);
	house_restart_controllers(h);
	house_wait(h, house_is_quiet, NULL);
	assert_int_equal(registry_revision(h->reg), revision); /* nothing differs, nothing is written */
	registry_update(h->reg, KIND_APISERVICE, STR_NULL, STR("v1.apps"), NULL, change_priority, NULL, NULL, NULL);
	house_wait(h, is_set_right, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_addresses, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_cidrs, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_apiservices, house_setup, house_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
