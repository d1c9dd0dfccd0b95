/* SPDX-License-Identifier: Apache-2.0 */
/* No list of any kind may cost more than in proportion to its length, whatever a client puts into it: every list and
 * map that a schema has is filled, in objects of a body's size, with items that all differ and with items that come
 * twice, and goes through everything that a request does to it. An object four times as large may take ten times as
 * long; four times four would be a square. What is quick at a length where squares are not, is not measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/api/sample.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/managed_fields.h"
#include "userspace/api/meta.h"
#include "userspace/api/patch.h"
#include "userspace/api/table.h"
#include "userspace/api/validate.h"
#include "userspace/base/clock.h"
#include "userspace/base/map.h"

#define ITEMS 4000
#define GROWTH 4
#define GROWTH_MAX 10
/* Squares of ITEMS take longer than this, the lines that we have do not. */
#define STEP_QUICK_NS (25 * NS_PER_MS)
#define PATH_DEPTH 9

enum fill { DISTINCT, TWICE };

static int64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* ---- objects ---- */

/* The way from a kind to one of its lists. */
struct way {
	const struct api_field *fields[PATH_DEPTH];
	size_t n;
};

static bool holds_text(const struct api_field *f)
{
	return f->type == API_STRING && !f->enum_values;
}

/* An item of its own: texts and numbers say which one it is. */
static struct json *item_of(struct arena *arena, const struct api_field *f, size_t i)
{
	struct json *v = sample(arena, f, 2);

	if (!v)
		return NULL;
	if (holds_text(f))
		return json_new_printf(arena, "x%zu", i);
	if (f->type == API_INT32 || f->type == API_INT64)
		return json_new_int(arena, (int64_t)(i + 1));
	if (f->type != API_OBJECT)
		return v;
	json_foreach(m, v) {
		const struct api_field *of = api_message_field(f->ref, m->key);

		if (of && holds_text(of))
			json_replace(m, json_new_printf(arena, "x%zu", i));
		else if (of && (of->type == API_INT32 || of->type == API_INT64))
			json_replace(m, json_new_int(arena, (int64_t)(i + 1)));
	}
	return v;
}

static struct json *list_of(struct arena *arena, const struct api_field *f, size_t n, enum fill fill)
{
	struct json *v = json_new(arena, f->type == API_ARRAY ? JSON_ARRAY : JSON_OBJECT);

	for (size_t i = 0; i < n; i++) {
		size_t name = f->type == API_ARRAY && fill == TWICE ? i % (n / 2) : i;
		struct json *item = item_of(arena, f->elem, name);

		if (!item)
			return NULL;
		item->key = f->type == API_MAP ? str_of(arena_printf(arena, "x%zu", i)) : STR_NULL;
		json_append(v, item);
	}
	return v;
}

/* The kind's sample with the list at the end of the way filled. */
static struct json *object_of(struct arena *arena, const struct api_kind *k, const struct way *way, size_t n,
			      enum fill fill)
{
	struct json *object = sample_message(arena, k->message, 2), *at = object;
	const struct api_field *last = way->fields[way->n - 1];
	struct json *list = list_of(arena, last, n, fill);

	if (!list)
		return NULL;
	json_set_cstr(arena, object, "apiVersion", k->api_version);
	json_set_cstr(arena, object, "kind", k->kind);
	for (size_t i = 0; i + 1 < way->n; i++) {
		const struct api_field *f = way->fields[i];
		struct json *below = json_get(at, f->name);

		if (f->type == API_ARRAY) {
			if (!json_count(below)) {
				below = json_ensure_array(arena, at, f->name);
				json_append(below, json_new_object(arena));
			}
			at = json_first(below);
		} else {
			at = json_ensure_object(arena, at, f->name);
		}
	}
	json_set(at, last->name, list);
	return object;
}

/* ---- what a request does ---- */

struct work {
	struct arena arena;
	const struct api_kind *kind;
	struct str text;
	struct json *object, *managed;
	const char *slowest;
	int64_t slowest_ns, last_ns;
};

static void lap(struct work *w, const char *step)
{
	int64_t now = cpu_ns();

	if (now - w->last_ns > w->slowest_ns) {
		w->slowest_ns = now - w->last_ns;
		w->slowest = step;
	}
	w->last_ns = cpu_ns();
}

static void judge(struct work *w)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct hooks_warnings warnings = { .n = 0 };
	const struct json *object = w->object;

	validate_object(w->kind, object, NULL, &e);
	lap(w, "validate_object");
	hooks_validate_create(w->kind, object, &e);
	lap(w, "hooks_validate_create");
	hooks_validate_update(w->kind, object, object, &e);
	hooks_validate_status(w->kind, object, object, &e);
	for (size_t i = 0; i < w->kind->n_subresources; i++)
		hooks_validate_subresource(w->kind, w->kind->subresources[i].name, object, object, &e);
	lap(w, "hooks_validate_update");
	hooks_warnings(&w->arena, w->kind, object, NULL, &warnings);
	lap(w, "hooks_warnings");
	field_errors_result(&e, w->kind, STR("a"), &err);
	lap(w, "field_errors_result");
}

static void print(struct work *w)
{
	struct table_options options = { .include = TABLE_INCLUDE_NONE };
	_cleanup_buf_ struct buf out = BUF_INIT;

	table_write_object(&out, &w->arena, w->kind, &options, w->object, STR(""));
	lap(w, "table");
}

static void patch(struct work *w)
{
	struct json *ret = NULL;

	patch_merge(&w->arena, w->object, w->object, &ret, NULL);
	lap(w, "merge patch");
	patch_strategic(&w->arena, w->kind->message, w->object, w->object, &ret, NULL);
	lap(w, "strategic patch");
}

static void own(struct work *w)
{
	struct managed_write write = { .kind = w->kind, .manager = STR("a") }, other = write;
	struct json *managed = NULL, *object = NULL;

	other.manager = STR("b");
	managed_fields_update(&w->arena, &write, NULL, w->object, NULL, &managed, NULL);
	lap(w, "managed update");
	managed_fields_apply(&w->arena, &other, w->object, w->object, managed, false, &object, &managed, NULL);
	lap(w, "apply");
	managed_fields_apply(&w->arena, &other, w->object, w->object, managed, true, &object, &managed, NULL);
	lap(w, "apply again");
}

static int64_t measure(const struct api_kind *k, const struct way *way, size_t n, enum fill fill, const char **ret_step)
{
	struct work w = { .arena = ARENA_INIT, .kind = k };
	struct json *object = object_of(&w.arena, k, way, n, fill);

	if (object) {
		w.text = json_text(&w.arena, object);
		w.last_ns = cpu_ns();
		if (w.text.n <= DECODE_BYTES_MAX &&
		    decode_text(&w.arena, k, w.text, DECODE_JSON, DECODE_STRICT, NULL, &w.object, NULL) >= 0) {
			lap(&w, "decode");
			defaults_apply(&w.arena, k, w.object);
			hooks_prepare_create(&w.arena, k, w.object);
			lap(&w, "defaults");
			judge(&w);
			print(&w);
			patch(&w);
			own(&w);
		}
	}
	arena_finish(&w.arena);
	*ret_step = w.slowest;
	return w.slowest_ns;
}

/* ---- every list ---- */

struct search {
	const struct api_kind *kind;
	struct way way;
	struct map seen; /* (message, field) */
	size_t lists, slow, bad;
};

static void name_way(const struct search *s, struct buf *out)
{
	buf_printf(out, "%s", s->kind->kind);
	for (size_t i = 0; i < s->way.n; i++)
		buf_printf(out, ".%s", s->way.fields[i]->name);
}

static void judge_list(struct search *s)
{
	for (enum fill fill = DISTINCT; fill <= TWICE; fill++) {
		_cleanup_buf_ struct buf name = BUF_INIT;
		const char *step, *again;
		int64_t a = measure(s->kind, &s->way, ITEMS, fill, &step), b;

		s->lists++;
		if (a <= STEP_QUICK_NS && !getenv("K3C_LARGE_ALL"))
			continue;
		s->slow++;
		b = measure(s->kind, &s->way, (size_t)ITEMS * GROWTH, fill, &again);
		a = measure(s->kind, &s->way, ITEMS, fill, &step);
		name_way(s, &name);
		if (getenv("K3C_LARGE_ALL") && a <= STEP_QUICK_NS && b < 4 * STEP_QUICK_NS)
			continue;
		print_message("%s (%s): %s %lld us, %s %lld us\n", buf_cstr(&name),
			      fill == TWICE ? "twice" : "distinct", step, (long long)(a / NS_PER_US), again,
			      (long long)(b / NS_PER_US));
		s->bad += b > a * GROWTH_MAX;
	}
}

static void visit(struct search *s, const struct api_message *m)
{
	if (s->way.n == PATH_DEPTH)
		return;
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct api_field *f = &m->fields[i];
		bool list = f->type == API_ARRAY || f->type == API_MAP;
		char key[256];
		int n = snprintf(key, sizeof(key), "%s.%s", m->name, f->name);

		if ((!list && f->type != API_OBJECT) || !strcmp(f->name, "managedFields"))
			continue;
		/* A message that several kinds hold is looked at once. */
		if (map_has(&s->seen, str_make(key, (size_t)n)))
			continue;
		map_put(&s->seen, str_make(key, (size_t)n), s);
		s->way.fields[s->way.n++] = f;
		if (list)
			judge_list(s);
		if (f->type == API_OBJECT)
			visit(s, f->ref);
		else if (f->type == API_ARRAY && f->elem->type == API_OBJECT)
			visit(s, f->elem->ref);
		s->way.n--;
	}
}

static void test_every_list(void **state)
{
	struct search s = { .seen = MAP_INIT };

	(void)state;
	for (size_t i = 0; i < api_kind_count(); i++) {
		s.kind = api_kind_at(i);
		if (s.kind->resource == API_RESOURCE_NONE)
			continue;
		s.way.n = 0;
		visit(&s, s.kind->message);
	}
	map_finish(&s.seen);
	print_message("%zu lists, %zu measured\n", s.lists, s.slow);
	assert_true(s.lists > 500);
	assert_int_equal(s.bad, 0);
}

/* ---- bodies of their own ---- */

/* 10,000 operations, as many as are allowed: members of one object come, change, move and go. */
static void test_json_patch(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *original = json_new_object(&arena), *ret = NULL, *data;
	size_t n = 0;

	(void)state;
	json_ensure_object(&arena, original, "data");
	buf_add_char(&text, '[');
	for (int i = 0; i < PATCH_OPERATIONS_MAX / 5; i++) {
		buf_printf(&text, "%s{\"op\":\"add\",\"path\":\"/data/a%d\",\"value\":{\"v\":%d}}", i ? "," : "", i, i);
		buf_printf(&text, ",{\"op\":\"replace\",\"path\":\"/data/a%d/v\",\"value\":\"r%d\"}", i, i);
		buf_printf(&text, ",{\"op\":\"move\",\"from\":\"/data/a%d\",\"path\":\"/data/b%d\"}", i, i);
		buf_printf(&text, ",{\"op\":\"test\",\"path\":\"/data/b%d\",\"value\":{\"v\":\"r%d\"}}", i, i);
		if (i % 2)
			buf_printf(&text, ",{\"op\":\"remove\",\"path\":\"/data/b%d\"}", i);
		else
			buf_printf(&text, ",{\"op\":\"copy\",\"from\":\"/data/b%d\",\"path\":\"/data/c%d\"}", i, i);
	}
	buf_add_char(&text, ']');
	if (patch_apply(&arena, PATCH_JSON, NULL, original, buf_str(&text), &ret, &err) < 0)
		fail_msg("%s", err_message(&err));
	data = json_get(ret, "data");
	json_foreach(m, data) {
		char wanted[32];

		assert_non_null(m->key.p);
		snprintf(wanted, sizeof(wanted), "%c%zu", n % 2 ? 'c' : 'b', n / 2 * 2);
		assert_true(str_is(m->key, wanted));
		snprintf(wanted, sizeof(wanted), "r%zu", n / 2 * 2);
		assert_true(str_is(json_get_str(m, "v"), wanted));
		n++;
	}
	assert_int_equal(n, PATCH_OPERATIONS_MAX / 5);
	assert_int_equal(json_count(data), n);
	assert_int_equal(json_count(json_get(original, "data")), 0);
}

/* Members of a large object leave and come again under the same name; the whole is compared in between. */
static void test_holes(void **state)
{
	static const char patch[] = "[{'op':'remove','path':'/d/k7'},{'op':'add','path':'/d/k7','value':1},"
				    "{'op':'remove','path':'/d/k7'},{'op':'copy','from':'/d','path':'/e'},"
				    "{'op':'add','path':'/d/k7','value':2},{'op':'move','from':'/d','path':'/f'},"
				    "{'op':'replace','path':'/e','value':{'x':1}},{'op':'remove','path':'/f/k0'},"
				    "{'op':'move','from':'/f','path':'/e'},{'op':'remove','path':'/e/k1'}]";
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *original = json_new_object(&arena), *d = json_ensure_object(&arena, original, "d"), *ret = NULL;
	char *text = arena_strdup(&arena, patch);

	(void)state;
	for (size_t i = 0; i < 100; i++)
		json_set_int(&arena, d, arena_printf(&arena, "k%zu", i), (int64_t)i);
	for (char *p = text; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	assert_int_equal(patch_apply(&arena, PATCH_JSON, NULL, original, str_of(text), &ret, NULL), 0);
	assert_int_equal(json_count(ret), 1);
	d = json_get(ret, "e");
	assert_int_equal(json_count(d), 98);
	assert_int_equal(json_get_int(d, "k7", 0), 2);
	assert_int_equal(json_get_int(d, "k2", 0), 2);
	assert_null(json_get(d, "k0"));
	assert_null(json_get(d, "k1"));
	assert_true(str_is(d->last->key, "k7"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_patch),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_every_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
