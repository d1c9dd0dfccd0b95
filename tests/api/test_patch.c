/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Patch with the examples of RFC 6902's appendix, merge patch with those of RFC 7386, strategic merge
 * patch with cases worked out by hand from its rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/sample.h"
#include "tests/api/support.h"
#include "userspace/api/patch.h"
#include "userspace/base/mem.h"

/* `want`: the result, or with a '!' in front a part of the error's message. */
static void check(enum patch_type type, const struct api_message *message, const char *original, const char *patch,
		  const char *want, bool exact)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *doc = json_of(&arena, original), *result = NULL;
	struct str before = json_text(&arena, doc), text;
	int r = patch_apply(&arena, type, message, doc, quoted(&arena, patch), &result, &err);

	assert_true(str_eq(before, json_text(&arena, doc))); /* the original stays */
	if (*want == '!') {
		if (r >= 0)
			fail_msg("%s on %s is taken: %s", patch, original, json_text(&arena, result).p);
		if (!strstr(err_message(&err), want + 1))
			fail_msg("%s on %s: %s", patch, original, err_message(&err));
		return;
	}
	if (r < 0)
		fail_msg("%s on %s: %s", patch, original, err_message(&err));
	text = json_text(&arena, result);
	if (exact ? !str_eq(text, quoted(&arena, want)) : !json_equal(result, json_of(&arena, want)))
		fail_msg("%s on %s gives %.*s, not %s", patch, original, STR_ARG(text), want);
}

struct patch_case {
	const char *original, *patch, *want;
};

/* Upstream does not say what was wrong with an operation. */
#define REFUSED "!the server rejected our request due to an error in our request"

static void test_json_patch(void **state)
{
	static const struct patch_case cases[] = {
		/* RFC 6902, appendix A */
		{ "{'foo':'bar'}", "[{'op':'add','path':'/baz','value':'qux'}]", "{'baz':'qux','foo':'bar'}" },
		{ "{'foo':['bar','baz']}", "[{'op':'add','path':'/foo/1','value':'qux'}]",
		  "{'foo':['bar','qux','baz']}" },
		{ "{'baz':'qux','foo':'bar'}", "[{'op':'remove','path':'/baz'}]", "{'foo':'bar'}" },
		{ "{'foo':['bar','qux','baz']}", "[{'op':'remove','path':'/foo/1'}]", "{'foo':['bar','baz']}" },
		{ "{'baz':'qux','foo':'bar'}", "[{'op':'replace','path':'/baz','value':'boo'}]",
		  "{'baz':'boo','foo':'bar'}" },
		{ "{'foo':{'bar':'baz','waldo':'fred'},'qux':{'corge':'grault'}}",
		  "[{'op':'move','from':'/foo/waldo','path':'/qux/thud'}]",
		  "{'foo':{'bar':'baz'},'qux':{'corge':'grault','thud':'fred'}}" },
		{ "{'foo':['all','grass','cows','eat']}", "[{'op':'move','from':'/foo/1','path':'/foo/3'}]",
		  "{'foo':['all','cows','eat','grass']}" },
		{ "{'baz':'qux','foo':['a',2,'c']}",
		  "[{'op':'test','path':'/baz','value':'qux'},{'op':'test','path':'/foo/1','value':2}]",
		  "{'baz':'qux','foo':['a',2,'c']}" },
		{ "{'baz':'qux'}", "[{'op':'test','path':'/baz','value':'bar'}]", REFUSED },
		{ "{'foo':'bar'}", "[{'op':'add','path':'/child','value':{'grandchild':{}}}]",
		  "{'foo':'bar','child':{'grandchild':{}}}" },
		{ "{'foo':'bar'}", "[{'op':'add','path':'/baz','value':'qux','xyz':123}]",
		  "{'foo':'bar','baz':'qux'}" },
		{ "{'foo':'bar'}", "[{'op':'add','path':'/baz/bat','value':'qux'}]", REFUSED },
		{ "{'/':9,'~1':10}", "[{'op':'test','path':'/~01','value':10}]", "{'/':9,'~1':10}" },
		{ "{'/':9,'~1':10}", "[{'op':'test','path':'/~01','value':'10'}]", REFUSED },
		{ "{'foo':['bar']}", "[{'op':'add','path':'/foo/-','value':['abc','def']}]",
		  "{'foo':['bar',['abc','def']]}" },
		/* more */
		{ "{'a':{'b':[1,{'c':2}]}}",
		  "[{'op':'copy','from':'/a/b/1','path':'/a/b/0'},{'op':'remove','path':'/a/b/1'}]",
		  "{'a':{'b':[{'c':2},{'c':2}]}}" },
		{ "{'a':1}", "[{'op':'replace','path':'','value':{'b':2}}]", "{'b':2}" },
		{ "{'a':1}", "[{'op':'add','path':'','value':{'b':2}}]", REFUSED },
		{ "{'a':[1,2,3]}", "[{'op':'remove','path':'/a/-1'}]", "{'a':[1,2]}" },
		{ "{'a':[1]}", "[{'op':'add','path':'/a/1','value':2},{'op':'add','path':'/a/2','value':3}]",
		  "{'a':[1,2,3]}" },
		{ "{'a':[1]}", "[{'op':'add','path':'/a/3','value':2}]", REFUSED },
		{ "{'a':[1]}", "[{'op':'add','path':'/a/x','value':2}]", REFUSED },
		{ "{'a':1}", "[{'op':'remove','path':'/b'}]", REFUSED },
		/* what is not there may be replaced, in an object */
		{ "{'a':1}", "[{'op':'replace','path':'/b','value':1}]", "{'a':1,'b':1}" },
		{ "{'a':[1]}", "[{'op':'replace','path':'/a/1','value':1}]", REFUSED },
		{ "{'a':1}", "[{'op':'replace','path':'/b/c','value':1}]", REFUSED },
		{ "{'a':1}", "[{'op':'copy','from':'/b','path':'/c'}]", "{'a':1,'c':null}" },
		/* negative places count from behind the end where something is put in */
		{ "{'a':[1]}", "[{'op':'add','path':'/a/-1','value':2}]", "{'a':[1,2]}" },
		{ "{'a':[1]}", "[{'op':'add','path':'/a/-2','value':2}]", "{'a':[2,1]}" },
		{ "{'a':[1]}", "[{'op':'add','path':'/a/-3','value':2}]", REFUSED },
		{ "{'a':1}", "[{'op':'test','path':'/b/c','value':null}]", REFUSED },
		{ "{'a':[]}", "[{'op':'test','path':'/a/0','value':null}]", REFUSED },
		{ "{'a':1}", "[{'op':'test','path':'','value':{'a':1}}]", "{'a':1}" },
		{ "{'a':{'b':1}}", "[{'op':'move','from':'/a','path':'/a/b'}]", REFUSED },
		{ "{'a':1}", "[{'op':'jump','path':'/a'}]", REFUSED },
		{ "{'a':1}", "[{'op':'remove'}]", REFUSED },
		{ "{'a':1}", "[{'op':'copy','path':'/b'}]", REFUSED },
		{ "{'a':1}", "{'op':'remove'}",
		  "!error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp" },
		{ "{'a':1}", "[1]",
		  "!error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp" },
		{ "{'a':1}", "[{'op':'add','path':'b','value':1}]", REFUSED },
		{ "{'a':1}", "[{'op':'add','path':'x/b','value':1}]", "{'a':1,'b':1}" },
		{ "{'a':1}", "[{'op':'add','path':'/~2','value':1}]", "{'a':1,'~2':1}" },
		{ "{'a':1}", "[{'op':'test','path':'/b','value':null}]", "{'a':1}" },
		{ "{'a':9007199254740993}", "[{'op':'copy','from':'/a','path':'/b'}]",
		  "{'a':9007199254740993,'b':9007199254740993}" },
		{ "{'a':1}", "[", "!error decoding patch" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check(PATCH_JSON, NULL, cases[i].original, cases[i].patch, cases[i].want, false);
}

static void run_operations(const char *one, size_t n, int status)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *ops = json_new_array(&arena), *result, *doc = json_of(&arena, "{'a':[]}");

	for (size_t i = 0; i < n; i++)
		json_append(ops, json_of(&arena, one));
	assert_true(patch_json(&arena, doc, ops, &result, &err) < 0);
	assert_int_equal(err.status, status);
}

/* Small patches that would make huge or bottomless documents. */
static void test_json_patch_limits(void **state)
{
	run_operations("{'op':'add','path':'/a/-','value':1}", PATCH_OPERATIONS_MAX + 1, 413);
	run_operations("{'op':'copy','from':'/a','path':'/a/-'}", 40, 413);
	run_operations("{'op':'copy','from':'','path':'/b'}", 200, 422);
}

static void test_merge_patch(void **state)
{
	static const struct patch_case cases[] = {
		{ "{'a':'b'}", "{'a':'c'}", "{'a':'c'}" },
		{ "{'a':'b'}", "{'b':'c'}", "{'a':'b','b':'c'}" },
		{ "{'a':'b'}", "{'a':null}", "{}" },
		{ "{'a':'b','b':'c'}", "{'a':null}", "{'b':'c'}" },
		{ "{'a':['b']}", "{'a':'c'}", "{'a':'c'}" },
		{ "{'a':'c'}", "{'a':['b']}", "{'a':['b']}" },
		{ "{'a':{'b':'c'}}", "{'a':{'b':'d','c':null}}", "{'a':{'b':'d'}}" },
		{ "{'a':[{'b':'c'}]}", "{'a':[1]}", "{'a':[1]}" },
		{ "{'e':null}", "{'a':1}", "{'e':null,'a':1}" },
		{ "{}", "{'a':{'bb':{'ccc':null}}}", "{'a':{'bb':{}}}" },
		{ "{'a':1}", "[1]",
		  "!error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check(PATCH_MERGE, NULL, cases[i].original, cases[i].patch, cases[i].want, false);
}

/* Containers merge by name, finalizers are a set, args is replaced, ports merge by containerPort. */
static void test_strategic_lists(void **state)
{
	static const struct patch_case cases[] = {
		{ "{'spec':{'containers':[{'name':'a','image':'1'}]}}",
		  "{'spec':{'containers':[{'name':'a','image':'2'}]}}",
		  "{'spec':{'containers':[{'name':'a','image':'2'}]}}" },
		/* what the patch names stands before what only the server knows */
		{ "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'containers':[{'name':'b'}]}}",
		  "{'spec':{'containers':[{'name':'b'},{'name':'a'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'},{'name':'c'}]}}",
		  "{'spec':{'containers':[{'name':'c','image':'x'},{'name':'a','image':'y'}]}}",
		  "{'spec':{'containers':[{'name':'b'},{'name':'c','image':'x'},{'name':'a','image':'y'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
		  "{'spec':{'containers':[{'name':'a','$patch':'delete'}]}}",
		  "{'spec':{'containers':[{'name':'b'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
		  "{'spec':{'containers':[{'$patch':'replace'},{'name':'z'}]}}",
		  "{'spec':{'containers':[{'name':'z'}]}}" },
		{ "{'spec':{'containers':[{'name':'a','args':['1','2']}]}}",
		  "{'spec':{'containers':[{'name':'a','args':['3']}]}}",
		  "{'spec':{'containers':[{'name':'a','args':['3']}]}}" },
		{ "{'spec':{'containers':[{'name':'a','ports':[{'containerPort':1},{'containerPort':2}]}]}}",
		  "{'spec':{'containers':[{'name':'a','ports':[{'containerPort':2,'name':'x'}]}]}}",
		  "{'spec':{'containers':[{'name':'a','ports':[{'containerPort':1},{'containerPort':2,'name':'x'}]}]}}" },
		{ "{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'finalizers':['c']}}",
		  "{'metadata':{'finalizers':['c','a','b']}}" },
		{ "{'metadata':{'finalizers':['a','b','c']}}",
		  "{'metadata':{'$deleteFromPrimitiveList/finalizers':['b']}}",
		  "{'metadata':{'finalizers':['a','c']}}" },
		{ "{'metadata':{'finalizers':['a','b','c']}}",
		  "{'metadata':{'$setElementOrder/finalizers':['d','c','a'],'$deleteFromPrimitiveList/finalizers':['b'],"
		  "'finalizers':['d']}}",
		  "{'metadata':{'finalizers':['d','c','a']}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'},{'name':'s'}]}}",
		  "{'spec':{'$setElementOrder/containers':[{'name':'b'},{'name':'a'}]}}",
		  "{'spec':{'containers':[{'name':'b'},{'name':'a'},{'name':'s'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
		  "{'spec':{'$setElementOrder/containers':[{'name':'c'},{'name':'a'},{'name':'b'}],"
		  "'containers':[{'name':'c','image':'n'}]}}",
		  "{'spec':{'containers':[{'name':'c','image':'n'},{'name':'a'},{'name':'b'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
		  "{'spec':{'$setElementOrder/containers':[{'name':'b'},{'name':'c'}],"
		  "'containers':[{'name':'c'},{'name':'a','$patch':'delete'}]}}",
		  "{'spec':{'containers':[{'name':'b'},{'name':'c'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
		  "{'spec':{'$setElementOrder/containers':[{'name':'c'}],'containers':[{'$patch':'replace'},{'name':'c'}]}}",
		  "{'spec':{'containers':[{'name':'c'}]}}" },
		{ "{'spec':{'containers':[{'name':'a'}]}}",
		  "{'spec':{'$setElementOrder/containers':[{'name':'a'},{'name':'b'}],'containers':[{'name':'b'},{'name':'a'}]}}",
		  "! doesn't match $setElementOrder list:\n" },
		{ "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'containers':[{'image':'x'}]}}",
		  "! does not contain declared merge key: name" },
		{ "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'containers':[{'name':'a','$patch':'merge'}]}}",
		  "!merging lists cannot yet be specified in the patch" },
		{ "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'containers':[{'name':'a','$patch':'x'}]}}",
		  "!unknown patch type: x in map: map[$patch:x name:a]" },
		{ "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'containers':['a']}}",
		  "!list element types are not identical" },
		{ "{'spec':{}}", "{'spec':{'$setElementOrder/containers':'x'}}",
		  "!invalid patch format of setElementOrder list" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check(PATCH_STRATEGIC, KIND_POD->message, cases[i].original, cases[i].patch, cases[i].want, true);
}

static void test_strategic_maps(void **state)
{
	static const struct patch_case cases[] = {
		{ "{'metadata':{'labels':{'a':'1','b':'2'}}}", "{'metadata':{'labels':{'b':null,'c':'3'}}}",
		  "{'metadata':{'labels':{'a':'1','c':'3'}}}" },
		{ "{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{'labels':{'$patch':'replace','c':'3'}}}",
		  "{'metadata':{'labels':{'c':'3'}}}" },
		{ "{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{'labels':{'$patch':'delete'}}}",
		  "{'metadata':{'labels':{}}}" },
		/* volumes merge by name and keep only the keys that are listed */
		{ "{'spec':{'volumes':[{'name':'v','hostPath':{'path':'/x'}}]}}",
		  "{'spec':{'volumes':[{'name':'v','$retainKeys':['name','emptyDir'],'emptyDir':{}}]}}",
		  "{'spec':{'volumes':[{'name':'v','emptyDir':{}}]}}" },
		{ "{'spec':{'volumes':[{'name':'v'}]}}",
		  "{'spec':{'volumes':[{'name':'v','$retainKeys':['name'],'emptyDir':{}}]}}",
		  "!invalid patch format of retainKeys" },
		{ "{'spec':{'volumes':[{'name':'v'}]}}", "{'spec':{'volumes':[{'name':'v','$retainKeys':1}]}}",
		  "!invalid patch format of retainKeys" },
		/* directives and nulls do not reach values that are new */
		{ "{}",
		  "{'spec':{'volumes':[{'name':'v','$retainKeys':['name'],'hostPath':null},{'name':'w','$patch':'delete'}]}}",
		  "{'spec':{'volumes':[{'name':'v'}]}}" },
		{ "{}", "{'metadata':{'$setElementOrder/finalizers':['a'],'labels':{'a':null}}}",
		  "{'metadata':{'labels':{}}}" },
		{ "{'spec':{'nodeSelector':{'a':'b'}}}", "{'spec':null}", "{}" },
		{ "{'spec':{'x':1}}", "{'spec':'y'}", "{'spec':'y'}" },
		{ "{'spec':{}}", "{'spec':{'$patch':'what'}}", "!unknown patch type: what in map: map[$patch:what]" },
		{ "'text'", "{'spec':1}", "!is of an object" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check(PATCH_STRATEGIC, KIND_POD->message, cases[i].original, cases[i].patch, cases[i].want, false);
	check(PATCH_STRATEGIC, KIND_DEPLOYMENT->message,
	      "{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}",
	      "{'spec':{'strategy':{'$retainKeys':['type'],'type':'Recreate'}}}",
	      "{'spec':{'strategy':{'type':'Recreate'}}}", false);
}

static void test_types(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT;
	enum patch_type t;

	assert_int_equal(patch_type_parse(STR("application/json-patch+json"), true, &t, &err), 0);
	assert_int_equal(t, PATCH_JSON);
	assert_int_equal(patch_type_parse(STR("application/merge-patch+json; charset=utf-8"), false, &t, &err), 0);
	assert_int_equal(t, PATCH_MERGE);
	assert_int_equal(patch_type_parse(STR("application/strategic-merge-patch+json"), true, &t, &err), 0);
	assert_int_equal(t, PATCH_STRATEGIC);
	assert_true(patch_type_parse(STR("application/strategic-merge-patch+json"), false, &t, &err) < 0);
	assert_int_equal(err.status, 415);
	assert_true(patch_type_parse(STR(""), true, &t, &err) < 0);
}

/* ---- laws, for every kind ---- */

static unsigned seed = 3;

static unsigned rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static void vary(struct arena *arena, struct json *v)
{
	struct json *next;

	for (struct json *c = json_first(v); c; c = next) {
		next = c->next;
		if (v->type == JSON_OBJECT && v->count > 1 && rnd(6) == 0)
			json_unlink(v, c);
		else if (c->type == JSON_NUMBER && rnd(3) == 0)
			c->text = rnd(2) ? STR("9223372036854775807") : STR("-9223372036854775808");
		else if (c->type == JSON_STRING && rnd(6) == 0)
			c->text = str_of(arena_printf(arena, "other%u", rnd(9)));
		else
			vary(arena, c);
	}
}

/* What RFC 7386 calls the patch from `a` to `b`, made on its own. */
static struct json *difference(struct arena *arena, const struct json *a, const struct json *b)
{
	struct json *patch = json_new_object(arena);

	json_foreach(m, a)
		if (!json_get_n(b, m->key))
			json_set_n(patch, m->key, json_new(arena, JSON_NULL));
	json_foreach(m, b) {
		const struct json *before = json_get_n(a, m->key);

		if (before && json_equal(before, m))
			continue;
		json_set_n(patch, m->key,
			   json_is(before, JSON_OBJECT) && json_is(m, JSON_OBJECT) ? difference(arena, before, m)
										   : json_clone(arena, m));
	}
	return patch;
}

static void test_every_kind(void **state)
{
	for (size_t i = 0; i < api_kind_count() * 4; i++) {
		const struct api_kind *k = api_kind_at(i / 4);
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *a = sample_object(&arena, k), *b = json_clone(&arena, a), *c, *got = NULL, *again = NULL,
			    *ops, *op;

		vary(&arena, b);
		c = json_clone(&arena, b);
		vary(&arena, c);
		/* merge patches lead there, and one after the other, too */
		assert_int_equal(patch_merge(&arena, a, difference(&arena, a, b), &got, NULL), 0);
		assert_true(json_equal(got, b));
		assert_int_equal(patch_merge(&arena, got, difference(&arena, b, c), &again, NULL), 0);
		assert_true(json_equal(again, c));
		/* an object on itself is itself, strategically as well */
		assert_int_equal(patch_merge(&arena, b, b, &got, NULL), 0);
		assert_true(json_equal(got, b));
		if (patch_strategic(&arena, k->message, b, b, &got, &err) >= 0)
			assert_true(json_equal(got, b));
		else /* an item lost what it is known by */
			assert_non_null(strstr(err_message(&err), "does not contain declared merge key"));
		/* replaced as a whole, in both ways */
		op = json_clone(&arena, c);
		json_set_cstr(&arena, op, "$patch", "replace");
		assert_int_equal(patch_strategic(&arena, k->message, a, op, &got, NULL), 0);
		assert_true(json_equal(got, c));
		ops = json_of(&arena, "[{'op':'replace','path':''}]");
		json_set(json_first(ops), "value", json_clone(&arena, c));
		assert_int_equal(patch_json(&arena, a, ops, &got, NULL), 0);
		assert_true(json_equal(got, c));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_json_patch),
		cmocka_unit_test(test_json_patch_limits),
		cmocka_unit_test(test_merge_patch),
		cmocka_unit_test(test_strategic_lists),
		cmocka_unit_test(test_strategic_maps),
		cmocka_unit_test(test_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
