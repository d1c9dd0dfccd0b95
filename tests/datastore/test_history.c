/* SPDX-License-Identifier: Apache-2.0 */
/* Watches and the past: order, resuming, expiry, paging at a revision, and all of it against a simple model. */
#include "tests/datastore/store_fixture.h"

struct watcher {
	struct store_watch watch;
	int64_t last;
	size_t n;
	char text[4096];
};

static void on_event(struct store_watch *sw, struct store_event *e)
{
	struct watcher *w = container_of(sw, struct watcher, watch);
	size_t n = strlen(w->text);

	assert_true(e->revision > w->last);
	assert_int_equal(e->object->revision, e->revision);
	w->last = e->revision;
	w->n++;
	if (n < sizeof(w->text) - 100)
		snprintf(w->text + n, sizeof(w->text) - n, "%c%.*s ", "AMD"[e->type], STR_ARG(e->object->name));
}

static void test_events_in_order(void **state)
{
	struct fixture *f = *state;
	struct watcher live = { .watch = { .fn = on_event } }, resumed = { .watch = { .fn = on_event } };
	int64_t from;

	fixture_put(f, "a", "1");
	fixture_wait(f);
	from = store_revision(f->store);
	assert_int_equal(store_watch_start(f->store, &live.watch, 0, -1, NULL), 0);
	fixture_put(f, "b", "1");
	fixture_put(f, "a", "2");
	fixture_write_full(f, 1, "ns", "elsewhere", "", "1", false, STORE_RIDER);
	fixture_remove(f, "b");
	assert_int_equal(live.n, 0); /* nothing before it is durable */
	fixture_wait(f);
	assert_string_equal(live.text, "Ab Ma Db ");
	assert_int_equal(store_watch_start(f->store, &resumed.watch, 0, from, NULL), 0);
	assert_string_equal(resumed.text, "Ab Ma Db ");
	fixture_put(f, "c", "1");
	fixture_wait(f);
	assert_string_equal(resumed.text, "Ab Ma Db Ac ");
	store_watch_stop(f->store, &live.watch);
	store_watch_stop(f->store, &live.watch);
	fixture_put(f, "c", "2");
	fixture_wait(f);
	assert_string_equal(live.text, "Ab Ma Db Ac ");
	store_watch_stop(f->store, &resumed.watch);
}

static void test_busy_resource_does_not_expire_a_quiet_one(void **state)
{
	struct fixture *f = *state;
	struct watcher w = { .watch = { .fn = on_event } };
	_cleanup_err_ struct err err = ERR_INIT;
	struct store_stats stats;
	int64_t from;

	f->options.history_events = 16;
	fixture_reopen(f);
	fixture_put(f, "quiet", "1");
	fixture_wait(f);
	from = store_revision(f->store);
	for (int i = 0; i < 100; i++) {
		fixture_write_full(f, 1, "ns", "busy", "", "1", false, STORE_RIDER);
		fixture_wait(f);
	}
	store_get_stats(f->store, &stats);
	assert_int_equal(stats.history_events, 16);
	assert_int_equal(store_watch_start(f->store, &w.watch, 0, from, &err), 0);
	store_watch_stop(f->store, &w.watch);
	assert_int_equal(store_watch_start(f->store, &w.watch, 1, from, &err), -ESTALE);
	assert_int_equal(err.status, 410);
	assert_string_equal(err.reason, "Expired");
	assert_true(store_oldest_revision(f->store, 1) > store_oldest_revision(f->store, 0));
}

static void test_history_is_bounded_by_bytes(void **state)
{
	struct fixture *f = *state;
	static char value[4000];
	struct store_stats stats;

	memset(value, 'x', sizeof(value) - 1);
	f->options.history_bytes = 64 * 1024;
	fixture_reopen(f);
	for (int i = 0; i < 200; i++)
		fixture_put(f, "a", value);
	fixture_wait(f);
	store_get_stats(f->store, &stats);
	assert_true(stats.history_bytes <= 64 * 1024);
	assert_true(stats.history_events > 5 && stats.history_events < 20);
}

struct walk {
	char text[4096];
	int left;
};

static bool on_walk(void *arg, const struct object *o)
{
	struct walk *w = arg;
	size_t n = strlen(w->text);
	struct str value = fixture_value(o);

	snprintf(w->text + n, sizeof(w->text) - n, "%.*s=%.*s ", STR_ARG(o->name), STR_ARG(value));
	return w->left == 0 || --w->left > 0;
}

static void test_walk_in_the_past(void **state)
{
	struct fixture *f = *state;
	struct walk w = { .left = 2 };
	_cleanup_err_ struct err err = ERR_INIT;
	int64_t then;

	for (const char *n = "bdfh"; *n; n++)
		fixture_put(f, (char[]){ *n, 0 }, "1");
	fixture_wait(f);
	then = store_revision(f->store);
	fixture_put(f, "a", "new");
	fixture_put(f, "d", "2");
	fixture_put(f, "d", "3");
	fixture_remove(f, "f");
	fixture_put(f, "f", "again");
	fixture_remove(f, "h");
	fixture_put(f, "i", "new");
	fixture_remove(f, "i");
	fixture_wait(f);
	assert_int_equal(store_walk(f->store, 0, STR("ns"), then, STR_NULL, STR_NULL, on_walk, &w, NULL), 0);
	assert_string_equal(w.text, "b=1 d=1 ");
	w = (struct walk){ 0 };
	assert_int_equal(store_walk(f->store, 0, STR("ns"), then, STR("ns"), STR("d"), on_walk, &w, NULL), 0);
	assert_string_equal(w.text, "f=1 h=1 ");
	w = (struct walk){ 0 };
	assert_int_equal(store_walk(f->store, 0, STR_NULL, 0, STR_NULL, STR_NULL, on_walk, &w, NULL), 0);
	assert_string_equal(w.text, "a=new b=1 d=3 f=again ");
	assert_true(store_walk(f->store, 0, STR_NULL, then + 1000, STR_NULL, STR_NULL, on_walk, &w, &err) < 0);
	assert_int_equal(err.status, 504);
}

/* ---- against a model ---- */

#define MODEL_KEYS 24
#define MODEL_STEPS 4000

struct model {
	char value[MODEL_KEYS][16]; /* "": absent */
};

static uint64_t rng = 88172645463325252ULL;

static unsigned rnd(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)(rng >> 33) % n;
}

static void describe(const struct model *m, const char *ns, char *out, size_t size)
{
	out[0] = 0;
	for (int i = 0; i < MODEL_KEYS; i++) {
		size_t n = strlen(out);

		if (m->value[i][0] && (!ns[0] || ns[1] == 'a' + i % 3))
			snprintf(out + n, size - n, "k%02d=%s ", i, m->value[i]);
	}
}

/* Keys in three namespaces na, nb, nc: the walk goes by namespace. */
static void describe_all(const struct model *m, char *out, size_t size)
{
	out[0] = 0;
	for (int ns = 0; ns < 3; ns++)
		describe(m, (char[]){ 'n', (char)('a' + ns), 0 }, out + strlen(out), size - strlen(out));
}

static void check_state(struct fixture *f, const struct model *m, int64_t at)
{
	char want[4096];
	struct walk w = { 0 };

	describe_all(m, want, sizeof(want));
	assert_int_equal(store_walk(f->store, 0, STR_NULL, at, STR_NULL, STR_NULL, on_walk, &w, NULL), 0);
	assert_string_equal(w.text, want);
	describe(m, "nb", want, sizeof(want));
	w = (struct walk){ 0 };
	assert_int_equal(store_walk(f->store, 0, STR("nb"), at, STR_NULL, STR_NULL, on_walk, &w, NULL), 0);
	assert_string_equal(w.text, want);
}

static void model_step(struct fixture *f, struct model *m, int step)
{
	static const enum store_durability how[] = { STORE_DURABLE, STORE_DURABLE, STORE_LAZY, STORE_RIDER };
	int k = (int)rnd(MODEL_KEYS);
	char ns[3] = { 'n', (char)('a' + k % 3), 0 }, name[8], value[16];
	bool remove = m->value[k][0] && rnd(4) == 0;

	snprintf(name, sizeof(name), "k%02d", k);
	snprintf(value, sizeof(value), "%d", step);
	assert_int_equal(fixture_write_full(f, 0, ns, name, "", value, remove, how[rnd(4)]), 0);
	snprintf(m->value[k], sizeof(m->value[k]), "%s", remove ? "" : value);
}

static void test_against_model(void **state)
{
	struct fixture *f = *state;
	struct model m = { 0 }, past = { 0 };
	struct watcher w = { .watch = { .fn = on_event } };
	int64_t past_revision = 0, last = 0;

	assert_int_equal(store_watch_start(f->store, &w.watch, 0, -1, NULL), 0);
	for (int step = 1; step <= MODEL_STEPS; step++) {
		model_step(f, &m, step);
		if (rnd(10) != 0)
			continue;
		fixture_wait(f);
		check_state(f, &m, 0);
		if (past_revision)
			check_state(f, &past, past_revision);
		assert_true(store_revision(f->store) >= last);
		last = store_revision(f->store);
		if (rnd(20) == 0) {
			past = m;
			past_revision = store_revision(f->store);
		}
		if (rnd(60) == 0) {
			store_watch_stop(f->store, &w.watch);
			fixture_reopen(f);
			check_state(f, &m, 0);
			past_revision = 0;
			assert_int_equal(store_watch_start(f->store, &w.watch, 0, -1, NULL), 0);
		}
	}
	fixture_wait(f);
	store_watch_stop(f->store, &w.watch);
	assert_int_equal(f->failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_events_in_order),
		T(test_busy_resource_does_not_expire_a_quiet_one),
		T(test_history_is_bounded_by_bytes),
		T(test_walk_in_the_past),
		T(test_against_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
