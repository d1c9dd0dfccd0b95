/* SPDX-License-Identifier: Apache-2.0 */
/* What the bandwidth annotations of a pod mean. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "userspace/base/mem.h"
#include "userspace/netctl/bandwidth.h"

static int parse(const char *annotations, uint64_t *ret_in, uint64_t *ret_out, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char text[512];
	struct json *v;

	snprintf(text, sizeof(text), "{\"metadata\":{\"annotations\":{%s}}}", annotations);
	assert_int_equal(json_parse(&arena, str_of(text), 0, &v, NULL), 0);
	return bandwidth_parse(v, ret_in, ret_out, err);
}

static void test_values(void **state)
{
	uint64_t in = 1, out = 1;

	assert_int_equal(parse("", &in, &out, NULL), 0);
	assert_true(in == 0 && out == 0);
	assert_int_equal(parse("\"kubernetes.io/ingress-bandwidth\":\"10M\"", &in, &out, NULL), 0);
	assert_true(in == 10000000 && out == 0);
	assert_int_equal(parse("\"kubernetes.io/egress-bandwidth\":\"1k\",\"kubernetes.io/ingress-bandwidth\":\"1P\"",
			       &in, &out, NULL),
			 0);
	assert_true(in == 1000000000000000 && out == 1000);
	assert_int_equal(parse("\"kubernetes.io/egress-bandwidth\":\"1Mi\"", &in, &out, NULL), 0);
	assert_true(out == 1048576);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *value, *message;
	} cases[] = {
		{ "0.5k", "unreasonably small (< 1kbit)" },
		{ "-1M", "unreasonably small (< 1kbit)" },
		{ "2P", "unreasonably large (> 1Pbit)" },
		{ "fast", "quantities must match" },
		{ "", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		uint64_t in = 7, out = 7;
		char text[128];

		snprintf(text, sizeof(text), "\"kubernetes.io/egress-bandwidth\":\"%s\"", cases[i].value);
		assert_int_equal(parse(text, &in, &out, &err), -EINVAL);
		assert_non_null(strstr(err_message(&err), cases[i].message));
		assert_non_null(strstr(err_message(&err), "kubernetes.io/egress-bandwidth"));
		assert_true(in == 7 && out == 7); /* untouched */
	}
}

int main(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(all, NULL, NULL);
}
