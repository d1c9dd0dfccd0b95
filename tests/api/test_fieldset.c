/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of fields: their text, their order, their algebra. The tables were worked out by hand from the documented
 * format (fieldsV1) and the definitions of the operations on sets of paths. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/fieldset.h"
#include "userspace/base/mem.h"

static struct fieldset *set_of(struct arena *arena, const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct fieldset *set = NULL;

	if (fieldset_parse(arena, json_of(arena, text), &set, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	return set;
}

static const char *text_of(struct arena *arena, const struct fieldset *set)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	fieldset_write(&out, set);
	return arena_strdup(arena, buf_cstr(&out));
}

static void same_text(struct arena *arena, const struct fieldset *set, const char *wanted)
{
	assert_string_equal(text_of(arena, set), quoted(arena, wanted).p);
}

static void test_text(void **state)
{
	static const struct {
		const char *in, *out; /* NULL: the same */
	} cases[] = {
		{ "{}", NULL },
		{ "{'f:a':{}}", NULL },
		{ "{'f:a':{'.':{},'f:b':{}}}", NULL },
		{ "{'f:a':{'f:b':{},'.':{}}}", "{'f:a':{'.':{},'f:b':{}}}" },
		/* sorted: fields, keys, values, places */
		{ "{'i:0':{},'v:1':{},'f:z':{},'f:a':{}}", "{'f:a':{},'f:z':{},'v:1':{},'i:0':{}}" },
		/* numbers by value */
		{ "{'v:10':{},'v:9':{},'v:-1':{}}", "{'v:-1':{},'v:9':{},'v:10':{}}" },
		/* elements of unknown sorts are passed over */
		{ "{'f:a':{},'x:what':{'f:b':{}}}", "{'f:a':{}}" },
		/* only "." below: a member, no more */
		{ "{'f:a':{'.':{}}}", "{'f:a':{}}" },
	};
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		same_text(&arena, set_of(&arena, cases[i].in), cases[i].out ? cases[i].out : cases[i].in);
}

/* Keys have escapes of their own. */
static void test_keys(void **state)
{
	static const char unsorted[] =
		"{\"f:ports\":{\"k:{\\\"protocol\\\":\\\"TCP\\\", \\\"containerPort\\\":80}\":{},"
		"\"k:{\\\"containerPort\\\":8,\\\"protocol\\\":\\\"TCP\\\"}\":{\".\":{},\"f:name\":{}}}}";
	static const char sorted[] = "{\"f:ports\":{\"k:{\\\"containerPort\\\":8,\\\"protocol\\\":\\\"TCP\\\"}\":"
				     "{\".\":{},\"f:name\":{}},"
				     "\"k:{\\\"containerPort\\\":80,\\\"protocol\\\":\\\"TCP\\\"}\":{}}}";
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = json_new_raw(&arena, str_of(unsorted));
	_cleanup_buf_ struct buf name = BUF_INIT;
	struct fieldset *set = NULL;

	assert_int_equal(fieldset_parse(&arena, v, &set, NULL), 0);
	assert_string_equal(text_of(&arena, set), sorted);
	fieldset_element_print(&name, set->first->name);
	fieldset_element_print(&name, set->first->first->name);
	assert_string_equal(buf_cstr(&name), ".ports[containerPort=8,protocol=\"TCP\"]");
}

static void test_refused(void **state)
{
	static const char *const bad[] = { "{'a':{}}",  "{'fa':{}}", "{'k:[1]':{}}", "{'k:{':{}}", "{'i:x':{}}",
					   "{'v:':{}}", "{'f:a':1}", "[]",           "'f:a'" };
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct fieldset *set = NULL;

		if (fieldset_parse(&arena, json_of(&arena, bad[i]), &set, &err) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_non_null(err.message);
	}
}

static void test_algebra(void **state)
{
	static const struct {
		const char *a, *b, *both, *either, *first, *excluded;
	} cases[] = {
		{ "{'f:a':{}}", "{'f:a':{}}", "{'f:a':{}}", "{'f:a':{}}", "{}", "{}" },
		{ "{'f:a':{}}", "{'f:b':{}}", "{}", "{'f:a':{},'f:b':{}}", "{'f:a':{}}", "{'f:a':{}}" },
		/* a path and one below it are two members */
		{ "{'f:a':{}}", "{'f:a':{'f:b':{}}}", "{}", "{'f:a':{'.':{},'f:b':{}}}", "{'f:a':{}}", "{'f:a':{}}" },
		{ "{'f:a':{'f:b':{}}}", "{'f:a':{}}", "{}", "{'f:a':{'.':{},'f:b':{}}}", "{'f:a':{'f:b':{}}}", "{}" },
		{ "{'f:a':{'.':{},'f:b':{},'f:c':{}}}", "{'f:a':{'f:b':{},'f:d':{}}}", "{'f:a':{'f:b':{}}}",
		  "{'f:a':{'.':{},'f:b':{},'f:c':{},'f:d':{}}}", "{'f:a':{'.':{},'f:c':{}}}",
		  "{'f:a':{'.':{},'f:c':{}}}" },
		{ "{}", "{'f:a':{}}", "{}", "{'f:a':{}}", "{}", "{}" },
		{ "{'f:a':{}}", "{}", "{}", "{'f:a':{}}", "{'f:a':{}}", "{'f:a':{}}" },
		{ "{'f:s':{'v:1':{},'v:2':{}}}", "{'f:s':{'v:2':{},'v:3':{}}}", "{'f:s':{'v:2':{}}}",
		  "{'f:s':{'v:1':{},'v:2':{},'v:3':{}}}", "{'f:s':{'v:1':{}}}", "{'f:s':{'v:1':{}}}" },
	};
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fieldset *a = set_of(&arena, cases[i].a), *b = set_of(&arena, cases[i].b);

		same_text(&arena, fieldset_intersection(&arena, a, b), cases[i].both);
		same_text(&arena, fieldset_union(&arena, a, b), cases[i].either);
		same_text(&arena, fieldset_difference(&arena, a, b), cases[i].first);
		same_text(&arena, fieldset_exclude(&arena, a, b), cases[i].excluded);
	}
}

/* ---- laws on random sets ---- */

static unsigned seed = 7;

static unsigned rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static void grow(struct arena *arena, struct fieldset *at, int depth)
{
	static const char *const elements[] = {
		"f:a",  "f:b",     "f:name", "k:{\"name\":\"x\"}", "k:{\"name\":\"y\"}", "k:{\"port\":9}", "v:1",
		"v:10", "v:\"a\"", "i:0",    "k:{\"port\":80}"
	};

	for (unsigned i = 0, n = rnd(4); i < n; i++) {
		struct fieldset *c = fieldset_child(arena, at, str_of(elements[rnd(ARRAY_SIZE(elements))]));

		if (depth)
			grow(arena, c, depth - 1);
		if (!c->first || rnd(2))
			c->marks = FIELDSET_MEMBER;
	}
}

static struct fieldset *random_set(struct arena *arena)
{
	struct fieldset *root = arena_new(arena, struct fieldset);

	root->name = STR("");
	grow(arena, root, 3);
	return root->first ? root : NULL;
}

static void test_laws(void **state)
{
	for (int i = 0; i < 3000; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct fieldset *a = random_set(&arena), *b = random_set(&arena), *again = NULL;
		struct fieldset *both = fieldset_intersection(&arena, a, b), *either = fieldset_union(&arena, a, b);
		struct fieldset *first = fieldset_difference(&arena, a, b), *second = fieldset_difference(&arena, b, a);
		struct json *text = json_new_raw(&arena, str_of(text_of(&arena, a)));

		assert_int_equal(fieldset_parse(&arena, text, &again, NULL), 0);
		assert_true(fieldset_equal(a, again));
		assert_true(fieldset_equal(either, fieldset_union(&arena, b, a)));
		assert_true(fieldset_equal(a, fieldset_union(&arena, first, both)));
		assert_int_equal(fieldset_count(either),
				 fieldset_count(first) + fieldset_count(both) + fieldset_count(second));
		assert_null(fieldset_intersection(&arena, first, b));
		assert_true(fieldset_equal(fieldset_difference(&arena, either, second), a));
		assert_null(fieldset_difference(&arena, fieldset_exclude(&arena, a, b), a));
	}
}

/* The order is one: no cycles, equal to none but itself. */
static void test_order(void **state)
{
	static const char *const sorted[] = { "f:",           "f:a",
					      "f:ab",         "f:b",
					      "k:{\"a\":1}",  "k:{\"a\":9,\"b\":\"x\"}",
					      "k:{\"a\":10}", "k:{\"a\":\"1\"}",
					      "k:{\"b\":1}",  "v:-3",
					      "v:2",          "v:11",
					      "v:\"\"",       "v:\"1\"",
					      "v:\"a\"",      "v:true",
					      "i:0",          "i:5" };

	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sorted); j++) {
			int c = fieldset_element_cmp(str_of(sorted[i]), str_of(sorted[j]));

			if ((c > 0) - (c < 0) != (i > j) - (i < j))
				fail_msg("%s and %s: %d", sorted[i], sorted[j], c);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),    cmocka_unit_test(test_keys), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_algebra), cmocka_unit_test(test_laws), cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
