/* SPDX-License-Identifier: Apache-2.0 */
/* JSON and YAML: values, limits, exact numbers, and cJSON as an independent oracle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <errno.h>

#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/yaml.h"

static struct json *parse(struct arena *a, const char *text)
{
	struct json *v;
	_cleanup_err_ struct err err = ERR_INIT;

	if (json_parse(a, str_of(text), 0, &v, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	return v;
}

static void test_round_trip(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	static const char *const texts[] = {
		"null",
		"true",
		"[]",
		"{}",
		"\"\"",
		"9223372036854775807",
		"-9223372036854775808",
		"9007199254740993",
		"[1,2,[3,{\"a\":null}]]",
		"{\"a\":{\"b\":[true,false]},\"c\":\"\\\"\\\\\\n\\u0001\"}",
		"1.5e-7",
		"\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct str out = json_text(&a, parse(&a, texts[i]));

		assert_string_equal(out.p, texts[i]);
	}
}

static void test_refused(void **state)
{
	static const char *const texts[] = {
		"",         "{",       "[1,]",  "{\"a\"}", "{\"a\":1,}", "01",  "1.", "-",         "+1",   "nul",
		"\"\x01\"", "\"\\x\"", "\"abc", "[1] 2",   "{a:1}",      "'a'", "1e", "\"\\u12\"", "\xff",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_arena_ struct arena a = ARENA_INIT;
		struct json *v = NULL;

		if (json_parse(&a, str_of(texts[i]), 0, &v, NULL) == 0)
			fail_msg("accepted: %s", texts[i]);
		assert_null(v);
	}
}

static void test_depth_limit(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct json *v;

	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		buf_add_char(&b, '[');
	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		buf_add_char(&b, ']');
	assert_int_equal(json_parse(&a, buf_str(&b), 0, &v, NULL), 0);
	buf_reset(&b);
	for (int i = 0; i < 100000; i++)
		buf_add_cstr(&b, "{\"a\":");
	assert_int_equal(json_parse(&a, buf_str(&b), 0, &v, NULL), -E2BIG);
}

static void test_duplicates(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct str paths[4];
	struct json_duplicates dups = { .paths = paths, .max = 4 };
	const char *text = "{\"spec\":{\"replicas\":1,\"list\":[{},{\"x\":1,\"x\":2}],\"replicas\":3}}";
	struct json *v;

	assert_int_equal(json_parse_report(&a, str_of(text), &dups, &v, NULL), 0);
	assert_int_equal(dups.n, 2);
	assert_string_equal(paths[0].p, "spec.list[1].x");
	assert_string_equal(paths[1].p, "spec.replicas");
	assert_int_equal(json_at_int(v, "spec.replicas", 0), 3);
	assert_int_equal(json_parse(&a, str_of(text), JSON_PARSE_STRICT_DUPLICATES, &v, NULL), -EINVAL);
}

static void test_many_members(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct json *v;

	/* Quadratic duplicate search would take minutes here. */
	buf_add_char(&b, '{');
	for (int i = 0; i < 200000; i++)
		buf_printf(&b, "\"k%d\":%d,", i, i);
	buf_add_cstr(&b, "\"k0\":7}");
	assert_int_equal(json_parse(&a, buf_str(&b), 0, &v, NULL), 0);
	assert_int_equal(json_count(v), 200000);
	assert_int_equal(json_get_int(v, "k0", 0), 7);
}

static void test_edit(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct json *v = parse(&a, "{\"a\":1,\"b\":{\"c\":2},\"d\":[1,2,3]}");

	json_set_int(&a, v, "a", 5);
	json_set_cstr(&a, json_ensure_object(&a, v, "b"), "e", "x");
	assert_non_null(json_remove(v, "d"));
	assert_null(json_remove(v, "d"));
	json_append(json_ensure_array(&a, v, "f"), json_new_bool(&a, true));
	assert_string_equal(json_text(&a, v).p, "{\"a\":5,\"b\":{\"c\":2,\"e\":\"x\"},\"f\":[true]}");
	assert_true(json_equal(v, parse(&a, "{\"f\":[true],\"b\":{\"e\":\"x\",\"c\":2.0},\"a\":5}")));
	assert_false(json_equal(v, parse(&a, "{\"f\":[true],\"b\":{\"e\":\"x\",\"c\":3},\"a\":5}")));
}

/* Random values printed by cJSON are read here and printed again; cJSON must see the same value. */
static cJSON *random_value(int depth)
{
	uint8_t r[2];

	random_bytes(r, 2);
	switch (depth > 4 ? r[0] % 4 : r[0] % 6) {
	case 0:
		return cJSON_CreateNull();
	case 1:
		return cJSON_CreateBool(r[1] & 1);
	case 2:
		return cJSON_CreateNumber((double)r[1] * 1234.5 - 1000);
	case 3: {
		char s[9];

		random_bytes(s, 8);
		for (int i = 0; i < 8; i++)
			s[i] = (char)((s[i] & 0x7f) ? s[i] & 0x7f : 1);
		s[8] = '\0';
		return cJSON_CreateString(s);
	}
	case 4: {
		cJSON *array = cJSON_CreateArray();

		for (int i = 0; i < r[1] % 5; i++)
			cJSON_AddItemToArray(array, random_value(depth + 1));
		return array;
	}
	default: {
		cJSON *object = cJSON_CreateObject();

		for (int i = 0; i < r[1] % 5; i++) {
			char key[8];

			snprintf(key, sizeof(key), "k%d", i);
			cJSON_AddItemToObject(object, key, random_value(depth + 1));
		}
		return object;
	}
	}
}

static void test_oracle(void **state)
{
	for (int i = 0; i < 2000; i++) {
		_cleanup_arena_ struct arena a = ARENA_INIT;
		cJSON *want = random_value(0), *got;
		char *text = cJSON_PrintUnformatted(want);
		struct json *v = parse(&a, text);

		got = cJSON_Parse(json_text(&a, v).p);
		assert_non_null(got);
		if (!cJSON_Compare(want, got, 1))
			fail_msg("differs: %s and %s", text, json_text(&a, v).p);
		cJSON_Delete(got);
		cJSON_Delete(want);
		free(text);
	}
}

/* What is kept is text to the byte, and only where it was asked for. */
static void test_keep(void **state)
{
	static const char text[] = "{\"metadata\":{\"kept\": [{\"a\\\\\":\"]}\\\"\"},1] ,\"b\":2},"
				   "\"data\":{\"kept\":{\"c\":3}},\"kept\":4}";
	static const struct json_keep one = { .parent = "metadata", .key = "kept" }, any = { .key = "kept" };
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct json *v, *whole;

	assert_int_equal(json_parse_keep(&a, str_of(text), &one, &v, NULL), 0);
	assert_int_equal(json_at(v, "metadata.kept")->type, JSON_RAW);
	assert_true(json_is(json_at(v, "data.kept"), JSON_OBJECT));
	assert_true(json_is(json_get(v, "kept"), JSON_NUMBER));
	assert_int_equal(json_at_int(v, "metadata.b", 0), 2);
	assert_int_equal(json_parse(&a, str_of(text), 0, &whole, NULL), 0);
	assert_int_equal(json_parse(&a, json_text(&a, v), 0, &v, NULL), 0);
	assert_true(json_equal(v, whole));
	assert_int_equal(json_parse_keep(&a, str_of(text), &any, &v, NULL), 0);
	assert_int_equal(json_at(v, "data.kept")->type, JSON_RAW);
	assert_int_equal(json_get(v, "kept")->type, JSON_RAW);
	assert_true(json_parse_keep(&a, STR("{\"kept\":[1"), &any, &v, NULL) < 0);
	assert_true(json_parse_keep(&a, STR("{\"kept\":\"x"), &any, &v, NULL) < 0);
}

static void test_yaml(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v;
	const char *text =
		"a: 1\nb: \"1\"\nc: [yes, 'no', ~, 0x10, 010, 1.5, .5]\nd: &x {k: v}\ne: *x\nf: |\n  two\n  lines\n";

	assert_int_equal(yaml_parse(&a, str_of(text), &v, &err), 0);
	assert_string_equal(json_text(&a, v).p, "{\"a\":1,\"b\":\"1\",\"c\":[true,\"no\",null,16,8,1.5,0.5],"
						"\"d\":{\"k\":\"v\"},\"e\":{\"k\":\"v\"},\"f\":\"two\\nlines\\n\"}");
	assert_int_equal(yaml_parse(&a, str_of("a: 1\na: 2\n"), &v, &err), -EINVAL);
	assert_int_equal(yaml_parse(&a, str_of("a: [1\n"), &v, &err), -EINVAL);
	assert_int_equal(yaml_parse(&a, str_of("a: *nope\n"), &v, &err), -EINVAL);
	assert_int_equal(yaml_parse(&a, str_of("--- 1\n--- 2\n"), &v, &err), -EINVAL);
	text = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
	       "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
	       "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
	assert_true(yaml_parse(&a, str_of(text), &v, &err) < 0);
}

/* What Go's YAML 1.1 reader makes of scalars, as JSON. */
static void test_yaml_scalars(void **state)
{
	static const char *const cases[][2] = {
		{ "[y, Y, on, n, off, 'y', yess]", "[true,true,true,false,false,\"y\",\"yess\"]" },
		{ "[0o17, 0b101, 0x1F, 1_000, +5, -0x10, 08, 0]", "[15,5,31,1000,5,-16,8,0]" },
		{ "[9223372036854775807, -9223372036854775808, 18446744073709551615]",
		  "[9223372036854775807,-9223372036854775808,18446744073709551615]" },
		{ "[18446744073709551616, 1e3, 1., .5, 0.1, 1e-7, 1e30, 1.5e300]",
		  "[18446744073709552000,1000,1,0.5,0.1,1e-7,1e+30,1.5e+300]" },
		{ "[1e, e1, 1.2.3, 2026-01-02, 12:30, '', 1e999]",
		  "[\"1e\",\"e1\",\"1.2.3\",\"2026-01-02\",\"12:30\",\"\",\"1e999\"]" },
		{ "[!!str 1, !!int \"1\", !x 1, !!binary aGk=, !!float 1]", "[\"1\",1,\"1\",\"hi\",1]" },
		{ "{1: a, yes: b, 0x10: c, 1.50: d}", "{\"1\":\"a\",\"true\":\"b\",\"16\":\"c\",\"1.5\":\"d\"}" },
		{ "a: &a {x: 1, y0: 2}\nb: {<<: *a, x: 3}\nc: {x: 4, <<: [*a, {z: 5}]}",
		  "{\"a\":{\"x\":1,\"y0\":2},\"b\":{\"x\":3,\"y0\":2},\"c\":{\"x\":4,\"y0\":2,\"z\":5}}" },
	};
	static const char *const bad[] = { ".inf",    "{a: .NaN}", "{~: 1}",       "{[a]: 1}",
					   "{<<: 1}", "!!int x",   "!!binary '*'", "a: 1\n\"a\": 2\n" };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *v;

		if (yaml_parse(&a, str_of(cases[i][0]), &v, &err) < 0)
			fail_msg("%s: %s", cases[i][0], err_message(&err));
		assert_string_equal(json_text(&a, v).p, cases[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_arena_ struct arena a = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *v;

		if (yaml_parse(&a, str_of(bad[i]), &v, &err) >= 0)
			fail_msg("accepted: %s", bad[i]);
		assert_true(*err_message(&err));
	}
}

static void test_yaml_duplicates(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct str found[2];
	struct json_duplicates dups = { .paths = found, .max = 2 };
	struct json *v;

	assert_int_equal(yaml_parse_report(&a, STR("a: 1\nb:\n  c: 1\n  c: 2\na: 3\na: 4\n"), &dups, &v, NULL), 0);
	assert_string_equal(json_text(&a, v).p, "{\"a\":4,\"b\":{\"c\":2}}");
	assert_int_equal(dups.n, 2);
	assert_string_equal(found[0].p, "line 4: key \"c\" already set in map");
	assert_string_equal(found[1].p, "line 5: key \"a\" already set in map");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_depth_limit),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_many_members),
		cmocka_unit_test(test_edit),
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_keep),
		cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_yaml_scalars),
		cmocka_unit_test(test_yaml_duplicates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
