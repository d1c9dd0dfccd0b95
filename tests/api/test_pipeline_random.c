/* SPDX-License-Identifier: Apache-2.0 */
/* Random objects of every kind through what the registry does with an object: defaults (twice give the same), rules
 * on creation and on update and below the object, warnings, the printer, protobuf and back. Nothing may crash.
 * K3C_SEED and K3C_ROUNDS ask for others than the usual ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "tests/api/random_object.h"
#include "tests/api/sample.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/api/table.h"
#include "userspace/api/validate.h"

#define ROUNDS 40
#define SEED 20260202

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void judge(const struct api_kind *k, const struct json *object, const struct json *old)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err err = ERR_INIT;

	validate_object(k, object, old, &e);
	if (old)
		hooks_validate_update(k, object, old, &e);
	else
		hooks_validate_create(k, object, &e);
	field_errors_result(&e, k, meta_name(object), &err);
	if (old) {
		_cleanup_field_errors_ struct field_errors status = FIELD_ERRORS_INIT;

		hooks_validate_status(k, object, old, &status);
		field_errors_result(&status, k, meta_name(object), &err);
	}
	if (old) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct hooks_warnings w = { .n = 0 };

		hooks_warnings(&arena, k, object, old, &w);
		assert_true(w.n <= HOOKS_WARNINGS_MAX);
	}
	for (size_t i = 0; old && i < k->n_subresources; i++) {
		_cleanup_field_errors_ struct field_errors below = FIELD_ERRORS_INIT;

		hooks_validate_subresource(k, k->subresources[i].name, object, old, &below);
		field_errors_result(&below, k, meta_name(object), &err);
	}
}

static void print(struct arena *arena, const struct api_kind *k, const struct json *object)
{
	struct table_options options = { .include = TABLE_INCLUDE_NONE };
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *table = NULL;

	table_write_object(&out, arena, k, &options, object, STR(""));
	if (json_parse(arena, buf_str(&out), 0, &table, NULL) < 0)
		fail_msg("%s: the table is not JSON: %s", k->kind, buf_cstr(&out));
	assert_int_equal(json_count(json_get(table, "columnDefinitions")),
			 json_count(json_get(json_index(json_get(table, "rows"), 0), "cells")));
}

static void through(struct arena *arena, const struct api_kind *k, struct json *object, struct json *old)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *again, *back = NULL;

	defaults_apply(arena, k, object);
	again = json_clone_deep(arena, object);
	defaults_apply(arena, k, again);
	if (!json_equal(object, again))
		fail_msg("%s: defaults of defaults differ:\n%.*s\n%.*s", k->kind, STR_ARG(json_text(arena, object)),
			 STR_ARG(json_text(arena, again)));
	judge(k, object, NULL);
	judge(k, object, old);
	judge(k, object, object);
	print(arena, k, object);
	assert_int_equal(pb_encode(&bytes, object), 0);
	if (decode_text(arena, k, buf_str(&bytes), DECODE_PROTOBUF, DECODE_STRICT, NULL, &back, &err) < 0)
		fail_msg("%s: %s", k->kind, err_message(&err));
	hooks_prepare_create(arena, k, again);
	hooks_prepare_update(arena, k, again, old);
	judge(k, again, old);
}

static struct json *decoded(struct arena *arena, const struct api_kind *k, struct json *v)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (decode_tree(arena, k, v, DECODE_IGNORE, NULL, &err) < 0)
		fail_msg("%s: %s", k->kind, err_message(&err));
	return v;
}

static void test_random(void **state)
{
	uint64_t seed = number_of("K3C_SEED", SEED), rounds = number_of("K3C_ROUNDS", ROUNDS);

	(void)state;
	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_kind *k = api_kind_at(i);

		for (size_t round = 0; k->resource != API_RESOURCE_NONE && round < rounds; round++) {
			_cleanup_arena_ struct arena arena = ARENA_INIT;
			struct random r = { .state = (seed + 1) * 1000003 + i * 9973 + round * 101 + 7,
					    .arena = &arena };
			struct json *object, *old;

			for (int warm = 0; warm < 8; warm++)
				random_next(&r);
			old = decoded(&arena, k, random_object(&r, k));
			object = decoded(&arena, k, random_object(&r, k));
			defaults_apply(&arena, k, old);
			through(&arena, k, object, old);
		}
	}
}

/* Every field there, each with a value of its type. */
static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *k = api_kind_at(i);
		struct json *object, *old;

		if (k->resource == API_RESOURCE_NONE)
			continue;
		object = sample_message(&arena, k->message, SAMPLE_DEPTH);
		json_set_cstr(&arena, object, "apiVersion", k->api_version);
		json_set_cstr(&arena, object, "kind", k->kind);
		old = json_clone_deep(&arena, decoded(&arena, k, object));
		through(&arena, k, object, old);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
