/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, networks, image tags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "userspace/api/names.h"
#include "userspace/base/mem.h"

static void test_ip(void **state)
{
	static const char *const bad[] = { "",    "1.2.3",    "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "fe80::1%eth0",
					   "::g", "1.2.3.4 ", " ::1" };
	char text[NAMES_ADDRESS_MAX];
	struct names_ip ip;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (names_parse_ip(str_of(bad[i]), &ip) == 0)
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(names_parse_ip(STR("10.0.0.1"), &ip), 0);
	assert_int_equal(ip.family, 4);
	names_format_ip(&ip, text);
	assert_string_equal(text, "10.0.0.1");
	assert_int_equal(names_parse_ip(STR("FD00:0:0::0001"), &ip), 0);
	names_format_ip(&ip, text);
	assert_string_equal(text, "fd00::1");
	assert_int_equal(names_parse_ip(STR("169.254.1.1"), &ip), 0);
	assert_true(names_ip_is_link_local(&ip));
	assert_int_equal(names_parse_ip(STR("::1"), &ip), 0);
	assert_true(names_ip_is_loopback(&ip));
	assert_int_equal(names_parse_ip(STR("0.0.0.0"), &ip), 0);
	assert_true(names_ip_is_unspecified(&ip));
}

static void test_cidr(void **state)
{
	static const char *const bad[] = { "10.0.0.0",    "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1",
					   "10.0.0.0/08", "/8",          "::/129",    "::/+1" };
	struct names_cidr c, d;
	struct names_ip ip;
	char text[NAMES_ADDRESS_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (names_parse_cidr(str_of(bad[i]), &c) == 0)
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(names_parse_cidr(STR("10.42.129.77/17"), &c), 0);
	assert_int_equal(names_parse_ip(STR("10.42.255.1"), &ip), 0);
	assert_true(names_cidr_contains(&c, &ip));
	assert_int_equal(names_parse_ip(STR("10.42.127.1"), &ip), 0);
	assert_false(names_cidr_contains(&c, &ip));
	names_cidr_mask(&c);
	names_format_ip(&c.ip, text);
	assert_string_equal(text, "10.42.128.0");
	assert_int_equal(names_parse_cidr(STR("10.42.128.0/24"), &d), 0);
	assert_true(names_cidr_covers(&c, &d));
	assert_false(names_cidr_covers(&d, &c));
	assert_int_equal(names_parse_cidr(STR("0.0.0.0/0"), &c), 0);
	assert_true(names_cidr_contains(&c, &ip));
	assert_int_equal(names_parse_ip(STR("::1"), &ip), 0);
	assert_false(names_cidr_contains(&c, &ip));
}

static void test_image(void **state)
{
	assert_true(names_image_is_latest(STR("nginx")));
	assert_true(names_image_is_latest(STR("nginx:latest")));
	assert_true(names_image_is_latest(STR("localhost:5000/nginx")));
	assert_false(names_image_is_latest(STR("localhost:5000/nginx:1")));
	assert_false(names_image_is_latest(STR("nginx@sha256:00")));
	assert_null(names_wildcard_subdomain(STR("*.example.com")));
	assert_non_null(names_wildcard_subdomain(STR("*.*.com")));
	assert_null(names_port_number(65535));
	assert_non_null(names_port_number(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip),
		cmocka_unit_test(test_cidr),
		cmocka_unit_test(test_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
