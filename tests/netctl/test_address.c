/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes, both families. */
#include <errno.h>

#include "tests/netctl/support.h"

static void test_parse(void **state)
{
	static const char *const bad[] = {
		"",           "10.0.0",  "10.0.0.256", "10.0.0.1 ",
		"10.0.0.1/8", "fe80::g", "None",       "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"
	};
	char text[ADDRESS_TEXT_MAX];
	struct dp_addr a = addr_of("10.1.2.3");
	static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 10, 1, 2, 3 };

	assert_memory_equal(a.b, mapped, 16);
	address_format(&a, text);
	assert_string_equal(text, "10.1.2.3");
	a = addr_of("fd00::1:2");
	address_format(&a, text);
	assert_string_equal(text, "fd00::1:2");
	/* the mapped form is the same address */
	a = addr_of("::ffff:10.1.2.3");
	assert_memory_equal(a.b, mapped, 16);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (address_parse(str_of(bad[i]), &a) == 0)
			fail_msg("parsed: \"%s\"", bad[i]);
}

static void check_prefix(const char *text, const char *addr, unsigned len)
{
	struct dp_addr a, want = addr_of(addr);
	uint8_t got;

	assert_int_equal(address_parse_prefix(str_of(text), &a, &got), 0);
	assert_int_equal(got, len);
	assert_true(address_equal(&a, &want));
}

static void test_prefix(void **state)
{
	static const char *const bad[] = { "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1",  "10.0.0.0/",
					   "/8",       "fd00::/129",  "10.0.0.0/8/8", "10.0.0.0/0x8" };
	struct dp_addr a;
	uint8_t len;

	check_prefix("10.0.0.0/8", "10.0.0.0", 104);
	check_prefix("10.1.2.3/8", "10.0.0.0", 104);
	check_prefix("10.1.2.3/32", "10.1.2.3", 128);
	check_prefix("10.1.2.255/25", "10.1.2.128", 121);
	check_prefix("0.0.0.0/0", "0.0.0.0", 96);
	check_prefix("::/0", "::", 0);
	check_prefix("fd00:1:2:3::/48", "fd00:1:2::", 48);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (address_parse_prefix(str_of(bad[i]), &a, &len) == 0)
			fail_msg("parsed: \"%s\"", bad[i]);
}

static bool in(const char *addr, const char *prefix)
{
	struct dp_addr a = addr_of(addr), p;
	uint8_t len;

	assert_int_equal(address_parse_prefix(str_of(prefix), &p, &len), 0);
	return address_in(&a, &p, len);
}

static void test_in(void **state)
{
	assert_true(in("10.255.255.255", "10.0.0.0/8"));
	assert_false(in("11.0.0.0", "10.0.0.0/8"));
	assert_true(in("10.0.0.1", "10.0.0.1/32"));
	assert_false(in("10.0.0.2", "10.0.0.1/32"));
	/* every IPv4 address, and no IPv6 one */
	assert_true(in("192.0.2.1", "0.0.0.0/0"));
	assert_false(in("2001:db8::1", "0.0.0.0/0"));
	assert_true(in("2001:db8::1", "2001:db8::/32"));
	/* every IPv6 address, and no IPv4 one, though these are written ::ffff:192.0.2.1 */
	assert_true(in("2001:db8::1", "::/0"));
	assert_true(in("::1", "::/8"));
	assert_false(in("192.0.2.1", "::/0"));
	assert_false(in("0.0.0.0", "::/0"));
	assert_false(in("192.0.2.1", "::/1"));
	assert_false(in("192.0.2.1", "::ff00:0:0/88"));
	assert_false(in("192.0.2.1", "::fffe:0:0/95"));
	assert_true(in("192.0.2.1", "::ffff:0:0/96"));
}

static void test_special(void **state)
{
	static const struct {
		const char *text;
		bool zero, loopback;
	} cases[] = {
		{ "::", true, false },
		{ "0.0.0.0", true, false },
		{ "::1", false, true },
		{ "127.0.0.1", false, true },
		{ "127.9.9.9", false, true },
		{ "10.0.0.1", false, false },
		{ "fd00::7f00:1", false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dp_addr a = addr_of(cases[i].text);

		assert_int_equal(address_is_zero(&a), cases[i].zero);
		assert_int_equal(address_is_loopback(&a), cases[i].loopback);
	}
}

static void test_families(void **state)
{
	static const struct {
		const char *text;
		int result;
		enum dp_family first;
		bool v4, v6;
	} cases[] = {
		{ "10.0.0.1", 0, DP_V4, true, false },
		{ "fd00::1", 0, DP_V6, false, true },
		{ "10.0.0.1,fd00::1", 0, DP_V4, true, true },
		{ "fd00::1,10.0.0.1", 0, DP_V6, true, true },
		{ "::ffff:10.0.0.1", 0, DP_V4, true, false },
		{ "", -EINVAL, DP_V4, false, false },
		{ "::", -EINVAL, DP_V4, false, false },
		{ "10.0.0.1,", -EINVAL, DP_V4, false, false },
		{ ",fd00::1", -EINVAL, DP_V4, false, false },
		{ "10.0.0.1, fd00::1", -EINVAL, DP_V4, false, false },
		{ "10.0.0.1,10.0.0.2", -EEXIST, DP_V4, false, false },
		{ "fd00::1,fd00::2", -EEXIST, DP_V4, false, false },
		{ "10.0.0.1,fd00::1,10.0.0.3", -E2BIG, DP_V4, false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dp_addr a[DP_FAMILIES] = { 0 };
		enum dp_family first = DP_V4;

		assert_int_equal(address_parse_families(str_of(cases[i].text), a, &first), cases[i].result);
		assert_int_equal(first, cases[i].first);
		assert_int_equal(!address_is_zero(&a[DP_V4]), cases[i].v4);
		assert_int_equal(!address_is_zero(&a[DP_V6]), cases[i].v6);
	}
}

static void test_ranges_of_families(void **state)
{
	static const char *const bad[] = {
		"", "10.0.0.0", "10.0.0.0/33", "::/0", "10.0.0.0/8,", "10.0.0.0/8,fd00::1", "fd00::/64,fd01::/64"
	};
	struct dp_net n[DP_FAMILIES];
	enum dp_family first;

	assert_int_equal(address_parse_prefix_families(STR("fd00::/64,10.0.0.0/8"), n, &first), 0);
	assert_int_equal(first, DP_V6);
	assert_int_equal(n[DP_V6].bits, 64);
	assert_int_equal(n[DP_V4].bits, 104);
	assert_int_equal(address_parse_prefix_families(STR("10.1.2.3/16"), n, &first), 0);
	assert_int_equal(first, DP_V4);
	assert_int_equal(n[DP_V6].bits, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (address_parse_prefix_families(str_of(bad[i]), n, &first) == 0)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(address_parse_prefix_families(STR("10.0.0.0/8,fd00::/8,10.0.0.0/9"), n, &first), -E2BIG);
	assert_int_equal(address_parse_prefix_families(STR("10.0.0.0/8,11.0.0.0/8"), n, &first), -EEXIST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),    cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_in),       cmocka_unit_test(test_special),
		cmocka_unit_test(test_families), cmocka_unit_test(test_ranges_of_families),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
