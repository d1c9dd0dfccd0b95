/* SPDX-License-Identifier: Apache-2.0 */
/* YAML as it is written: what is quoted, what is a block, and that it reads back as what it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"

static const struct {
	const char *json, *yaml;
} table[] = {
	{ "{\"b\":1,\"a\":\"x\"}", "a: x\nb: 1\n" },
	{ "{\"l\":[1,{\"k\":\"v\",\"j\":null}],\"e\":[],\"o\":{}}", "e: []\nl:\n- 1\n- j: null\n  k: v\no: {}\n" },
	{ "{\"a\":\"true\",\"b\":true}", "a: \"true\"\nb: true\n" },
	{ "{\"a\":\"1\",\"b\":\"1.5\",\"c\":\"0x1f\",\"d\":\"1e3\",\"e\":\"\"}",
	  "a: \"1\"\nb: \"1.5\"\nc: \"0x1f\"\nd: \"1e3\"\ne: \"\"\n" },
	{ "{\"a\":\"yes\",\"b\":\"n\",\"c\":\"null\",\"d\":\"~\"}", "a: \"yes\"\nb: \"n\"\nc: \"null\"\nd: \"~\"\n" },
	{ "{\"a\":\"2026-01-02T03:04:05Z\"}", "a: \"2026-01-02T03:04:05Z\"\n" },
	{ "{\"a\":\"x: y\",\"b\":\"# z\",\"c\":\"- d\"}", "a: 'x: y'\nb: '# z'\nc: '- d'\n" },
	{ "{\"a\":\"one\\ntwo\\n\",\"b\":\"one\\ntwo\"}", "a: |\n  one\n  two\nb: |-\n  one\n  two\n" },
	{ "{\"a\":\"v1.36.0\",\"b\":\"10.0.0.1\",\"c\":\"100m\"}", NULL },
	{ "{\"a\":9223372036854775807,\"b\":\"\\u0001\",\"c\":\"\xc3\xa4\"}", NULL },
	{ "[\"a\",\"\\t\",\" b \"]", NULL },
};

static void it_is_written_as_kubernetes_does(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_buf_ struct buf out = BUF_INIT;
		struct json *v, *back;

		assert_int_equal(json_parse(&arena, str_of(table[i].json), 0, &v, NULL), 0);
		assert_int_equal(yaml_write(&out, v), 0);
		if (table[i].yaml)
			assert_string_equal(buf_cstr(&out), table[i].yaml);
		assert_int_equal(yaml_parse(&arena, buf_str(&out), &back, NULL), 0);
		if (!json_equal(v, back))
			fail_msg("%s became %s", table[i].json, buf_cstr(&out));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(it_is_written_as_kubernetes_does) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
