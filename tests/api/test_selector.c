/* SPDX-License-Identifier: Apache-2.0 */
/* Label and field selectors: both forms, matching, messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/selector.h"
#include "userspace/base/mem.h"

static const char labels_text[] = "{'app':'web','tier':'front','empty':'','n':'5','example.com/x':'y'}";

static void check_match(struct arena *arena, const char *text, bool want)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *map = json_of(arena, labels_text);
	struct api_label labels[8];
	struct selector s, *copy;
	size_t n = 0;

	json_foreach(l, map)
		labels[n++] = (struct api_label){ l->key, json_str(l) };
	if (selector_parse(arena, str_of(text), &s, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	copy = selector_clone(&s);
	if (selector_matches_map(&s, map) != want || selector_matches(&s, labels, n) != want ||
	    selector_matches_map(copy, map) != want)
		fail_msg("%s: not %d", text, want);
	selector_destroy(copy);
}

static void test_match(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	static const char *const yes[] = { "",
					   "app=web",
					   "app==web",
					   " app = web , tier=front",
					   "app in (x,web)",
					   "app notin (x,y)",
					   "absent notin (x)",
					   "absent!=x",
					   "app",
					   "!absent",
					   "empty=",
					   "empty in (,x)",
					   "n>4",
					   "n<6",
					   "example.com/x=y",
					   "app,tier,n>1,!zzz" };
	static const char *const no[] = { "app=api", "app!=web",     "absent=x",           "absent",
					  "!app",    "app in (a,b)", "tier notin (front)", "n>5",
					  "n<5",     "app>3",        "app=web,tier=x",     "empty=x" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		check_match(&arena, yes[i], true);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		check_match(&arena, no[i], false);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *part;
	} cases[] = {
		{ "a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt" },
		{ "=x", "found '=', expected: !, identifier, or 'end of string'" },
		{ "a in x", "found 'x', expected: '('" },
		{ "a in (x", "expected: ',' or ')'" },
		{ "a=b,", "expected: identifier after ','" },
		{ "a=b c", "found 'c', expected: ',' or 'end of string'" },
		{ "a/b/c=d", "Invalid value: \"a/b/c\"" },
		{ "-a=b", "name part must consist of alphanumeric characters" },
		{ "a=-b", "Invalid value: \"-b\": a valid label must be" },
		{ "n>x", "the value must be an integer" },
		{ "!", "expected: identifier" },
		{ "a=(", "expected: identifier" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct selector s;

		if (selector_parse(&arena, str_of(cases[i].text), &s, &err) >= 0)
			fail_msg("\"%s\" is taken", cases[i].text);
		assert_int_equal(err.status, 400);
		if (!strstr(err.message, cases[i].part))
			fail_msg("\"%s\": %s", cases[i].text, err.message);
	}
}

static void test_json(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *labels = json_of(&arena, labels_text);
	struct selector s;

	assert_int_equal(selector_from_json(&arena, NULL, &s, &err), 0);
	assert_false(selector_matches_map(&s, labels));
	assert_int_equal(selector_from_json(&arena, json_of(&arena, "{}"), &s, &err), 0);
	assert_true(selector_matches_map(&s, labels));
	assert_true(selector_is_everything(&s));
	assert_int_equal(
		selector_from_json(
			&arena,
			json_of(&arena,
				"{'matchLabels':{'tier':'front','app':'web'},"
				"'matchExpressions':[{'key':'n','operator':'NotIn','values':['2','1']},{'key':'q','operator':'DoesNotExist'}]}"),
			&s, &err),
		0);
	assert_true(selector_matches_map(&s, labels));
	assert_false(selector_matches_map(&s, json_of(&arena, "{'app':'web'}")));
	selector_write(&out, &s);
	assert_string_equal(buf_cstr(&out), "app=web,n notin (1,2),!q,tier=front");
	assert_true(
		selector_from_json(&arena,
				   json_of(&arena, "{'matchExpressions':[{'key':'n','operator':'Gt','values':['1']}]}"),
				   &s, &err) < 0);
	assert_string_equal(err.message, "\"Gt\" is not a valid label selector operator");
	assert_int_equal(selector_from_expressions(
				 &arena, json_of(&arena, "[{'key':'n','operator':'Gt','values':['4']}]"), &s, &err),
			 0);
	assert_true(selector_matches_map(&s, labels));
	selector_from_map(&arena, json_of(&arena, "{'app':'web'}"), &s);
	assert_true(selector_matches_map(&s, labels));
}

static void test_fields(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct field_selector s;
	struct api_header h;

	meta_header(&arena, KIND_POD,
		    json_of(&arena, "{'metadata':{'name':'x','namespace':'d'},'spec':{'nodeName':'n1'},"
				    "'status':{'phase':'Running'}}"),
		    &h);
	assert_int_equal(field_selector_parse(&arena, KIND_POD,
					      STR("metadata.name=x,status.phase!=Failed,spec.nodeName==n1"), &s, &err),
			 0);
	assert_true(field_selector_matches(&s, h.ns, h.name, h.fields, h.n_fields));
	assert_true(str_is(field_selector_name(&s), "x"));
	assert_int_equal(field_selector_parse(&arena, KIND_POD, STR("metadata.namespace=e"), &s, &err), 0);
	assert_false(field_selector_matches(&s, h.ns, h.name, h.fields, h.n_fields));
	assert_int_equal(field_selector_parse(&arena, KIND_POD, STR("spec.hostNetwork=false"), &s, &err), 0);
	assert_true(field_selector_matches(&s, h.ns, h.name, h.fields, h.n_fields));
	assert_true(field_selector_parse(&arena, KIND_POD, STR("spec.foo=1"), &s, &err) < 0);
	assert_string_equal(err.message, "field label not supported: spec.foo");
	assert_int_equal(err.status, 400);
	assert_true(field_selector_parse(&arena, KIND_CONFIGMAP, STR("data=1"), &s, &err) < 0);
	assert_string_equal(err.message,
			    "\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
	assert_true(field_selector_parse(&arena, KIND_POD, STR("metadata.name"), &s, &err) < 0);
	assert_string_equal(err.message, "invalid selector: 'metadata.name'; can't understand 'metadata.name'");
	assert_int_equal(field_selector_parse(&arena, KIND_POD, STR("metadata.name=a\\,b"), &s, &err), 0);
	assert_true(str_is(field_selector_name(&s), "a,b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
