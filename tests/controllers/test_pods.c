/* SPDX-License-Identifier: Apache-2.0 */
/* Which of two pods is deleted first, and when a ready pod is an available one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/controllers/pods.h"
#include "userspace/controllers/runner.h"

#define NOW (1000000 * NS_PER_S)

static const struct object first = { .uid = { "a", 1 } }, second = { .uid = { "b", 1 } };

static struct pod running(const struct object *o)
{
	return (struct pod){ .object = o,
			     .phase = POD_RUNNING,
			     .ready = true,
			     .node = STR("n"),
			     .ready_since_ns = NOW - 3600 * NS_PER_S,
			     .created_ns = NOW - 3700 * NS_PER_S };
}

static void assert_first(struct pod victim, struct pod other)
{
	struct pod pods[] = { other, victim };

	assert_true(pod_deletion_cmp(&victim, &other, NOW) < 0);
	assert_true(pod_deletion_cmp(&other, &victim, NOW) > 0);
	pods_sort_for_deletion(pods, 2, NOW);
	assert_ptr_equal(pods[0].object, victim.object);
}

static void test_ranking(void **state)
{
	struct pod v;

	v = running(&first);
	v.node = STR_NULL;
	assert_first(v, running(&second));
	v = running(&first);
	v.phase = POD_PENDING;
	assert_first(v, running(&second));
	v = running(&first);
	v.ready = false;
	assert_first(v, running(&second));
	v = running(&first);
	v.deletion_cost = -1;
	assert_first(v, running(&second));
	v = running(&first);
	v.rank = 2;
	assert_first(v, running(&second));
	v = running(&first);
	v.ready_since_ns = NOW - 5 * NS_PER_S;
	assert_first(v, running(&second));
	v = running(&first);
	v.restarts = 1;
	assert_first(v, running(&second));
	v = running(&first);
	v.created_ns = NOW - 3 * NS_PER_S;
	assert_first(v, running(&second));
}

/* The earlier rules win over the later ones. */
static void test_precedence(void **state)
{
	struct pod pending = running(&first), busy = running(&second);

	pending.phase = POD_PENDING;
	busy.restarts = 100;
	busy.ready = false;
	busy.deletion_cost = -100;
	assert_first(pending, busy);
}

static void test_ages_of_one_magnitude_are_alike(void **state)
{
	struct pod a = running(&first), b = running(&second);

	a.ready_since_ns = NOW - 3000 * NS_PER_S;
	b.ready_since_ns = NOW - 3001 * NS_PER_S;
	assert_first(a, b); /* by uid */
	b.ready_since_ns = NOW - 2999 * NS_PER_S;
	assert_first(a, b);
}

static void test_availability(void **state)
{
	struct pod p = running(&first);

	assert_true(pod_is_available(&p, 0, NOW));
	assert_true(pod_is_available(&p, 3600, NOW));
	assert_false(pod_is_available(&p, 3601, NOW));
	p.ready = false;
	assert_false(pod_is_available(&p, 0, NOW));
}

static void test_backoff(void **state)
{
	assert_int_equal(runner_backoff_ns(1), 5 * NS_PER_MS);
	assert_int_equal(runner_backoff_ns(2), 10 * NS_PER_MS);
	assert_int_equal(runner_backoff_ns(11), 5120 * NS_PER_MS);
	assert_int_equal(runner_backoff_ns(18), 655360 * NS_PER_MS);
	assert_int_equal(runner_backoff_ns(19), 1000 * NS_PER_S);
	assert_int_equal(runner_backoff_ns(100000), 1000 * NS_PER_S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranking),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_ages_of_one_magnitude_are_alike),
		cmocka_unit_test(test_availability),
		cmocka_unit_test(test_backoff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
