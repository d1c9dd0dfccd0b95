/* SPDX-License-Identifier: Apache-2.0 */
/* Random durable and lazy writes over few keys while the disk refuses now and then, against a model that is
 * changed only by what was acknowledged. Memory equals the model at every rest, the disk after a clean end. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/datastore/store_fixture.h"
#include "userspace/base/log.h"

#define KEYS 8
#define STEPS 3000
#define SEEDS 6

struct model {
	struct fixture *f;
	char value[KEYS][16]; /* "": absent */
	size_t refused;
};

struct write_record {
	struct model *m;
	int key;
	char value[16];
};

static uint64_t rng;

static unsigned rnd(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)(rng >> 33) % n;
}

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void done(void *arg, const struct err *err)
{
	struct write_record *w = arg;

	if (err)
		w->m->refused++;
	else
		memcpy(w->m->value[w->key], w->value, sizeof(w->value));
	fixture_done(w->m->f, NULL);
	free(w);
}

static void step(struct model *m, int n)
{
	static const enum store_durability how[] = { STORE_DURABLE, STORE_LAZY, STORE_RIDER };
	struct write_record *w = mem_new(struct write_record);
	struct store_op op = { 0 };
	const struct object *newest, *o;
	char name[8];

	w->m = m;
	w->key = (int)rnd(KEYS);
	snprintf(name, sizeof(name), "k%d", w->key);
	newest = store_newest(m->f->store, 0, STR("ns"), str_of(name));
	op.remove = newest && rnd(4) == 0;
	op.expect = newest ? newest->revision : 0;
	if (!op.remove)
		snprintf(w->value, sizeof(w->value), "%d", n);
	o = fixture_object(0, store_next_revision(m->f->store), "ns", name, "", op.remove ? "gone" : w->value);
	op.object = o;
	m->f->waiting++;
	assert_int_equal(store_commit(m->f->store, &op, 1, how[rnd(3)], done, w, NULL, NULL), 0);
	object_unref(o);
}

static void check(struct model *m)
{
	for (int k = 0; k < KEYS; k++) {
		char name[8];
		const struct object *o;
		struct str value;

		snprintf(name, sizeof(name), "k%d", k);
		o = fixture_get(m->f, name);
		assert_ptr_equal(o, store_newest(m->f->store, 0, STR("ns"), str_of(name)));
		if (!m->value[k][0]) {
			assert_null(o);
			continue;
		}
		assert_non_null(o);
		value = fixture_value(o);
		if (!str_is(value, m->value[k]))
			fail_msg("%s is %.*s, acknowledged %s", name, STR_ARG(value), m->value[k]);
	}
}

static void run_seed(struct fixture *f, uint64_t seed)
{
	struct model m = { .f = f };

	rng = seed;
	for (int k = 0; k < KEYS; k++) {
		char name[8];
		const struct object *o;

		snprintf(name, sizeof(name), "k%d", k);
		o = fixture_get(f, name);
		if (o)
			snprintf(m.value[k], sizeof(m.value[k]), "%.*s", STR_ARG(fixture_value(o)));
	}
	for (int n = 1; n <= STEPS; n++) {
		step(&m, n);
		if (rnd(30) == 0)
			limit_files(rnd(2) ? 4096 : RLIM_INFINITY);
		if (rnd(6) == 0) {
			fixture_wait(f);
			check(&m);
		}
		if (rnd(200) == 0) {
			limit_files(RLIM_INFINITY);
			fixture_wait(f);
			fixture_reopen(f);
			check(&m);
		}
	}
	limit_files(RLIM_INFINITY);
	fixture_wait(f);
	fixture_reopen(f);
	check(&m);
	assert_true(m.refused > 0);
}

static void test_refusals_against_model(void **state)
{
	struct fixture *f = *state;

	log_set_level(LOG_LEVEL_ERROR + 1); /* the refusals are wanted */
	signal(SIGXFSZ, SIG_IGN);
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run_seed(f, seed * 0x9E3779B97F4A7C15ULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refusals_against_model, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
