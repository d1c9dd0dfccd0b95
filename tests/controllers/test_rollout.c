/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of rollouts: sizes of the new set, of the old ones, shares when resized amidst one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "userspace/base/mem.h"
#include "userspace/controllers/rollout.h"

static struct rollout_set set_of(int64_t replicas, int64_t available, int64_t created, bool is_new)
{
	return (struct rollout_set){ .replicas = replicas,
				     .available = available,
				     .created_ns = created,
				     .is_new = is_new,
				     .target = replicas,
				     .max_annotation = -1,
				     .tag = (size_t)created };
}

static int64_t target_of(const struct rollout_set *sets, size_t n, size_t tag)
{
	for (size_t i = 0; i < n; i++)
		if (sets[i].tag == tag)
			return sets[i].target;
	fail();
	return -1;
}

static void test_new_size(void **state)
{
	static const struct {
		int64_t replicas, surge, now, old, expect;
	} cases[] = {
		{ 10, 0, 0, 10, 0 },                                           /* no room before an old pod goes */
		{ 10, 2, 0, 10, 2 }, { 10, 2, 0, 5, 7 }, { 10, 2, 10, 2, 10 }, /* done */
		{ 3, 1, 5, 0, 3 },                                             /* the deployment shrank */
		{ 10, 3, 2, 9, 4 },  { 0, 1, 0, 3, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rollout r = { .replicas = cases[i].replicas, .max_surge = cases[i].surge };
		struct rollout_set sets[] = { set_of(cases[i].old, cases[i].old, 1, false),
					      set_of(cases[i].now, 0, 2, true) };

		assert_int_equal(rollout_new_size(&r, sets, 2), cases[i].expect);
	}
}

static void test_new_size_recreate(void **state)
{
	const struct rollout r = { .replicas = 4, .recreate = true };
	struct rollout_set sets[] = { set_of(9, 9, 1, false) };

	assert_int_equal(rollout_new_size(&r, sets, 1), 4);
}

static void test_shrink_old(void **state)
{
	static const struct {
		int64_t replicas, unavailable, old, old_available, now, now_available, expect;
	} cases[] = {
		{ 10, 0, 10, 10, 0, 0, 10 },                            /* nothing may miss */
		{ 10, 2, 10, 10, 0, 0, 8 },  { 10, 2, 10, 8, 0, 0, 8 }, /* the two that do not serve go first */
		{ 10, 2, 10, 0, 0, 0, 8 },   { 10, 2, 8, 8, 2, 0, 8 },  /* new ones are not ready yet */
		{ 10, 2, 8, 8, 2, 2, 6 },    { 4, 1, 4, 4, 1, 1, 2 },
		{ 2, 0, 2, 2, 1, 1, 1 },     { 3, 3, 3, 3, 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rollout r = { .replicas = cases[i].replicas, .max_unavailable = cases[i].unavailable };
		struct rollout_set sets[] = { set_of(cases[i].old, cases[i].old_available, 1, false),
					      set_of(cases[i].now, cases[i].now_available, 2, true) };
		bool changed = rollout_shrink_old(&r, sets, 2);

		assert_int_equal(target_of(sets, 2, 1), cases[i].expect);
		assert_int_equal(changed, cases[i].expect != cases[i].old);
		assert_int_equal(target_of(sets, 2, 2), cases[i].now);
	}
}

static void test_shrink_oldest_first(void **state)
{
	const struct rollout r = { .replicas = 6, .max_unavailable = 2 };
	struct rollout_set sets[] = { set_of(2, 2, 3, true), set_of(3, 3, 2, false), set_of(3, 3, 1, false) };

	assert_true(rollout_shrink_old(&r, sets, 3));
	assert_int_equal(target_of(sets, 3, 1), 0);
	assert_int_equal(target_of(sets, 3, 2), 2);
}

static void test_share_growing(void **state)
{
	/* 10 -> 20 amidst a rollout of 8 old and 4 new (surge 2): 22 in all, in proportion. */
	const struct rollout r = { .replicas = 20, .max_surge = 2, .status_replicas = 12 };
	struct rollout_set sets[] = { set_of(8, 8, 1, false), set_of(4, 4, 2, true) };

	sets[0].max_annotation = sets[1].max_annotation = 12;
	rollout_share(&r, sets, 2);
	assert_int_equal(target_of(sets, 2, 1) + target_of(sets, 2, 2), 22);
	assert_int_equal(target_of(sets, 2, 1), 15);
	assert_int_equal(target_of(sets, 2, 2), 7);
}

static void test_share_to_zero(void **state)
{
	const struct rollout r = { .replicas = 0, .max_surge = 2, .status_replicas = 12 };
	struct rollout_set sets[] = { set_of(8, 8, 1, false), set_of(4, 4, 2, true) };

	rollout_share(&r, sets, 2);
	assert_int_equal(target_of(sets, 2, 1), 0);
	assert_int_equal(target_of(sets, 2, 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_size),      cmocka_unit_test(test_new_size_recreate),
		cmocka_unit_test(test_shrink_old),    cmocka_unit_test(test_shrink_oldest_first),
		cmocka_unit_test(test_share_growing), cmocka_unit_test(test_share_to_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
