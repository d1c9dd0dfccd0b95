/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of pods from ranges of both families: every one once, reuse late, what was given before stays given. */
#include <errno.h>

#include "tests/netctl/support.h"

#include "userspace/base/map.h"
#include "userspace/netctl/pod_addresses.h"

static void begin(struct pod_addresses *p, const char *ranges)
{
	struct dp_net nets[DP_FAMILIES];
	enum dp_family first;

	assert_int_equal(address_parse_prefix_families(str_of(ranges), nets, &first), 0);
	pod_addresses_init(p, nets);
}

/* "": the range is full. */
static void expect(struct pod_addresses *p, enum dp_family family, const char *want)
{
	char got[ADDRESS_TEXT_MAX] = "";
	struct dp_addr a;

	if (pod_addresses_allocate(p, family, STR("pod"), &a) == 0)
		address_format(&a, got);
	assert_string_equal(got, want);
}

static void release(struct pod_addresses *p, const char *address, const char *uid)
{
	struct dp_addr a = addr_of(address);

	pod_addresses_release(p, &a, str_of(uid));
}

static void test_small_ranges(void **state)
{
	struct pod_addresses p;

	begin(&p, "10.42.0.8/29,fd42::10/125");
	for (int i = 2; i < 7; i++) {
		char v4[32], v6[32];

		snprintf(v4, sizeof(v4), "10.42.0.%d", 8 + i);
		snprintf(v6, sizeof(v6), "fd42::1%d", i);
		expect(&p, DP_V4, v4);
		expect(&p, DP_V6, v6);
	}
	expect(&p, DP_V4, "");
	expect(&p, DP_V6, "");
	/* only who has it gives it back */
	release(&p, "fd42::13", "other");
	expect(&p, DP_V6, "");
	release(&p, "fd42::13", "pod");
	expect(&p, DP_V6, "fd42::13");
	expect(&p, DP_V4, "");
	pod_addresses_finish(&p);
}

static void test_reuse_comes_late(void **state)
{
	struct pod_addresses p;

	begin(&p, "fd42::/64");
	expect(&p, DP_V4, "");
	expect(&p, DP_V6, "fd42::2");
	release(&p, "fd42::2", "pod");
	expect(&p, DP_V6, "fd42::3");
	pod_addresses_finish(&p);
}

/* Of an earlier run, also of another range: nobody else gets them, and the search goes on behind. */
static void test_taken_before(void **state)
{
	struct dp_addr in = addr_of("fd42::1:0"), far = addr_of("fd42:0:0:0:8000::1"), out = addr_of("fd99::9");
	struct pod_addresses p;

	begin(&p, "fd42::/64,10.42.0.0/16");
	pod_addresses_take(&p, &in, STR("a"));
	pod_addresses_take(&p, &far, STR("b"));
	pod_addresses_take(&p, &out, STR("c"));
	assert_true(pod_addresses_has(&p, &out));
	assert_true(pod_addresses_in_range(&p, &far));
	assert_false(pod_addresses_in_range(&p, &out));
	expect(&p, DP_V6, "fd42::1:1");
	expect(&p, DP_V4, "10.42.0.2");
	pod_addresses_finish(&p);
}

/* Of a wide range the first so many are given, and then the first again. */
static void test_wide_range(void **state)
{
	struct dp_addr last = addr_of("fd42::f:fffd");
	struct pod_addresses p;

	begin(&p, "fd42::/48");
	pod_addresses_take(&p, &last, STR("a"));
	expect(&p, DP_V6, "fd42::f:fffe");
	expect(&p, DP_V6, "fd42::2");
	expect(&p, DP_V6, "fd42::3");
	pod_addresses_finish(&p);
}

static void test_none_to_give(void **state)
{
	static const char *const ranges[] = { "10.42.0.0/32", "10.42.0.0/31", "fd42::/128", "fd42::/127" };

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct pod_addresses p;

		begin(&p, ranges[i]);
		expect(&p, DP_V4, "");
		expect(&p, DP_V6, "");
		pod_addresses_finish(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_ranges), cmocka_unit_test(test_reuse_comes_late),
		cmocka_unit_test(test_taken_before), cmocka_unit_test(test_wide_range),
		cmocka_unit_test(test_none_to_give),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
