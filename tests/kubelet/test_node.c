/* SPDX-License-Identifier: Apache-2.0 */
/* The Node object of this host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kubelet/node/node_status.h"
#include "userspace/base/clock.h"

static struct arena arena;
static const char *const extra_labels[] = { "disk=ssd", "kubernetes.io/os=linux", NULL };
static struct kubelet kl = {
	.options = { .node_name = "edge",
		     .node_ips = { "192.0.2.1", NULL },
		     .node_labels = extra_labels,
		     .pods_max = 110 },
};
static struct node_facts facts;
static struct node_pressure pressure;

static int setup(void **state)
{
	node_facts_read(&arena, "/", &facts);
	pressure = (struct node_pressure){ 0 };
	return 0;
}

static int teardown(void **state)
{
	arena_finish(&arena);
	arena = ARENA_INIT;
	return 0;
}

static struct node_view view(int64_t now_s)
{
	return (struct node_view){ &kl, &facts, &pressure, "crun 1.8.1", now_s * NS_PER_S };
}

static void test_facts(void **state)
{
	assert_true(facts.cpus >= 1);
	assert_true(facts.memory_kib > 1024);
	assert_true(facts.disk_bytes > 0);
	assert_true(*facts.kernel && *facts.arch && *facts.os_image && *facts.boot_id);
	assert_string_equal(node_arch("x86_64"), "amd64");
	assert_string_equal(node_arch("aarch64"), "arm64");
	assert_string_equal(node_arch("loongarch64"), "loongarch64");
}

static void test_labels(void **state)
{
	struct node_view v = view(1);
	struct json *node = node_object(&arena, &v), *labels;

	labels = json_at(node, "metadata.labels");
	assert_true(str_is(json_get_str(labels, "kubernetes.io/hostname"), "edge"));
	assert_true(str_is(json_get_str(labels, "disk"), "ssd"));
	assert_non_null(json_get(labels, "node-role.kubernetes.io/control-plane"));
	assert_false(node_ensure_labels(&arena, &v, node));
	/* what an administrator added stays, what is missing comes back */
	json_set_cstr(&arena, labels, "mine", "1");
	json_remove(labels, "kubernetes.io/arch");
	assert_true(node_ensure_labels(&arena, &v, node));
	assert_true(str_is(json_get_str(labels, "mine"), "1"));
	assert_true(str_is(json_get_str(labels, "kubernetes.io/arch"), facts.arch));
}

static const struct json *condition(const struct json *status, const char *type)
{
	json_foreach(c, json_get(status, "conditions"))
		if (str_is(json_get_str(c, "type"), type))
			return c;
	return NULL;
}

static void test_status(void **state)
{
	struct node_view v = view(1000);
	struct json *first = node_status(&arena, &v, NULL, false), *again, *later;

	assert_true(str_is(json_at_str(first, "capacity.pods"), "110"));
	assert_true(str_is(json_at_str(first, "nodeInfo.containerRuntimeVersion"), "crun://1.8.1"));
	assert_true(str_is(json_get_str(json_index(json_get(first, "addresses"), 0), "address"), "192.0.2.1"));
	assert_true(str_is(json_get_str(condition(first, "Ready"), "reason"), "KubeletReady"));
	assert_true(node_allocatable_memory_bytes(&facts) < (int64_t)facts.memory_kib * 1024);

	/* an idle node writes nothing */
	v = view(2000);
	again = node_status(&arena, &v, first, false);
	assert_true(json_equal(again, first));
	/* unless it is asked to */
	later = node_status(&arena, &v, first, true);
	assert_false(json_equal(later, first));
	assert_true(str_is(json_get_str(condition(later, "Ready"), "lastTransitionTime"), "1970-01-01T00:16:40Z"));
	assert_true(str_is(json_get_str(condition(later, "Ready"), "lastHeartbeatTime"), "1970-01-01T00:33:20Z"));
	/* or something has changed */
	pressure.disk = true;
	later = node_status(&arena, &v, first, false);
	assert_true(str_is(json_get_str(condition(later, "DiskPressure"), "status"), "True"));
	assert_true(str_is(json_get_str(condition(later, "DiskPressure"), "reason"), "KubeletHasDiskPressure"));
	assert_true(
		str_is(json_get_str(condition(later, "DiskPressure"), "lastTransitionTime"), "1970-01-01T00:33:20Z"));
	assert_true(str_is(json_get_str(condition(later, "Ready"), "lastTransitionTime"), "1970-01-01T00:16:40Z"));
}

/* Once set they stay, whatever the configuration says now. */
static void test_ranges_and_addresses(void **state)
{
	struct node_view v = view(1);
	struct json *node, *list;

	kl.options.pod_cidrs[0] = "10.42.0.0/16";
	kl.options.pod_cidrs[1] = "fd42::/64";
	kl.options.node_ips[1] = "2001:db8::1";
	node = node_object(&arena, &v);
	assert_true(str_is(json_at_str(node, "spec.podCIDR"), "10.42.0.0/16"));
	list = json_at(node, "spec.podCIDRs");
	assert_int_equal(json_count(list), 2);
	assert_true(str_is(json_str(json_index(list, 1)), "fd42::/64"));
	kl.options.pod_cidrs[0] = "10.99.0.0/16";
	assert_false(node_ensure_ranges(&arena, &v, node));
	assert_true(str_is(json_at_str(node, "spec.podCIDR"), "10.42.0.0/16"));
	list = json_get(node_status(&arena, &v, NULL, true), "addresses");
	assert_int_equal(json_count(list), 3);
	assert_true(str_is(json_get_str(json_index(list, 0), "address"), "192.0.2.1"));
	assert_true(str_is(json_get_str(json_index(list, 1), "address"), "2001:db8::1"));
	assert_true(str_is(json_get_str(json_index(list, 1), "type"), "InternalIP"));
	kl.options.pod_cidrs[0] = kl.options.pod_cidrs[1] = kl.options.node_ips[1] = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_facts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_labels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ranges_and_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
