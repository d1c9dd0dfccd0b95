/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities and IntOrString: canonical texts, rounding, limits, arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/intstr.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

static void test_canonical(void **state)
{
	static const struct {
		const char *in, *out;
		int64_t value, milli;
	} cases[] = {
		{ "0", "0", 0, 0 },
		{ "0.0Gi", "0", 0, 0 },
		{ "1", "1", 1, 1000 },
		{ "+5", "5", 5, 5000 },
		{ "-5", "-5", -5, -5000 },
		{ "100m", "100m", 1, 100 },
		{ "0.1", "100m", 1, 100 },
		{ ".5", "500m", 1, 500 },
		{ "5.", "5", 5, 5000 },
		{ "1500m", "1500m", 2, 1500 },
		{ "1000m", "1", 1, 1000 },
		{ "-1500m", "-1500m", -2, -1500 },
		{ "1000", "1k", 1000, 1000000 },
		{ "1024", "1024", 1024, 1024000 },
		{ "1Ki", "1Ki", 1024, 1024000 },
		{ "1024Ki", "1Mi", 1048576, 1048576000 },
		{ "1.5Gi", "1536Mi", 1610612736, 1610612736000 },
		{ "0.5Gi", "512Mi", 536870912, 536870912000 },
		{ "0.5Ki", "512", 512, 512000 },
		{ "1.3Ki", "1331200m", 1332, 1331200 },
		{ "128974848", "128974848", 128974848, 128974848000 },
		{ "129e6", "129e6", 129000000, 129000000000 },
		{ "1e3", "1e3", 1000, 1000000 },
		{ "12e2", "1200", 1200, 1200000 },
		{ "1E3", "1e3", 1000, 1000000 },
		{ "1e-3", "1e-3", 1, 1 },
		{ "1n", "1n", 1, 1 },
		{ "0.1n", "1n", 1, 1 },
		{ "-0.1n", "-1n", -1, -1 },
		{ "1.0000000001", "1000000001n", 2, 1001 },
		{ "9223372036854775807", "9223372036854775807", INT64_MAX, INT64_MAX },
		{ "9223372036854775808", "9223372036854775807", INT64_MAX, INT64_MAX },
		{ "10E", "9223372036854775807", INT64_MAX, INT64_MAX },
		{ "8Ei", "9223372036854775807", INT64_MAX, INT64_MAX },
		{ "7Ei", "7Ei", 8070450532247928832, INT64_MAX },
		{ "1e999", "9223372036854775807", INT64_MAX, INT64_MAX },
		{ "1e-999", "1e-9", 1, 1 },
		{ "000001", "1", 1, 1000 },
		{ "4T", "4T", 4000000000000, 4000000000000000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[QUANTITY_TEXT_MAX];
		struct quantity q, again;

		if (quantity_parse(str_of(cases[i].in), &q, NULL) < 0)
			fail_msg("%s is not taken", cases[i].in);
		quantity_format(&q, text);
		/* The cut value keeps its format. */
		if (q.format == QUANTITY_DECIMAL_SI || i < 30)
			assert_string_equal(text, cases[i].out);
		assert_int_equal(quantity_value(&q), cases[i].value);
		assert_int_equal(quantity_milli_value(&q), cases[i].milli);
		assert_int_equal(quantity_parse(str_of(text), &again, NULL), 0);
		assert_int_equal(quantity_cmp(&q, &again), 0);
	}
}

static void test_bad(void **state)
{
	static const char *const bad[] = { "",    ".",  "1.1.1", "abc", "1x", "1KiB",  "1ki",  "1e",
					   "--1", "1 ", " 1",    "1m5", "Gi", "1e1e1", "0x10", "1,5" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct quantity q;

		if (quantity_parse(str_of(bad[i]), &q, &err) >= 0)
			fail_msg("\"%s\" is taken", bad[i]);
		assert_non_null(err.message);
	}
}

static void test_arithmetic(void **state)
{
	struct quantity a, b;
	char text[QUANTITY_TEXT_MAX];

	quantity_parse(STR("1Gi"), &a, NULL);
	quantity_parse(STR("512Mi"), &b, NULL);
	quantity_add(&a, &b);
	quantity_format(&a, text);
	assert_string_equal(text, "1536Mi");
	quantity_sub(&a, &b);
	quantity_sub(&a, &b);
	quantity_sub(&a, &b);
	assert_true(quantity_is_zero(&a));
	quantity_sub(&a, &b);
	quantity_format(&a, text);
	assert_string_equal(text, "-512Mi");
	a = quantity_from_int(INT64_MAX, QUANTITY_DECIMAL_SI);
	quantity_add(&a, &a);
	assert_int_equal(quantity_value(&a), INT64_MAX);
	a = quantity_from_milli(250, QUANTITY_DECIMAL_SI);
	quantity_format(&a, text);
	assert_string_equal(text, "250m");
}

static void test_intstr(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	static const struct {
		const char *surge, *unavailable;
		int64_t replicas, want_surge, want_unavailable;
	} cases[] = {
		{ "'25%'", "'25%'", 3, 1, 0 }, { "'25%'", "'25%'", 10, 3, 2 }, { "1", "0", 5, 1, 0 },
		{ "'0%'", "'10%'", 3, 0, 1 },  { "0", "0", 3, 0, 1 },          { "'100%'", "'0%'", 4, 4, 0 },
		{ "'200%'", "'1%'", 4, 8, 0 },
	};
	struct json *ports = json_of(&arena, "[{'name':'a','containerPort':1},{'name':'http','containerPort':80},"
					     "{'name':'dns','containerPort':53,'protocol':'UDP'}]");
	int64_t surge, unavailable, n;
	uint16_t port = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(intstr_rolling_update(json_of(&arena, cases[i].surge),
						       json_of(&arena, cases[i].unavailable), cases[i].replicas, &surge,
						       &unavailable, NULL),
				 0);
		assert_int_equal(surge, cases[i].want_surge);
		assert_int_equal(unavailable, cases[i].want_unavailable);
	}
	assert_true(intstr_scaled(json_of(&arena, "'x%'"), 1, true, 0, &n, NULL) < 0);
	assert_true(intstr_scaled(json_of(&arena, "'5'"), 1, true, 0, &n, NULL) < 0);
	assert_int_equal(intstr_scaled(NULL, 1, true, 7, &n, NULL), 0);
	assert_int_equal(n, 7);
	assert_int_equal(intstr_port(json_of(&arena, "8080"), ports, STR("TCP"), &port), 0);
	assert_int_equal(port, 8080);
	assert_int_equal(intstr_port(json_of(&arena, "'http'"), ports, STR("TCP"), &port), 0);
	assert_int_equal(port, 80);
	assert_true(intstr_port(json_of(&arena, "'dns'"), ports, STR("TCP"), &port) < 0);
	assert_int_equal(intstr_port(json_of(&arena, "'dns'"), ports, STR("UDP"), &port), 0);
	assert_true(intstr_port(json_of(&arena, "70000"), ports, STR("TCP"), &port) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_arithmetic),
		cmocka_unit_test(test_intstr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
