/* SPDX-License-Identifier: Apache-2.0 */
/* Writes, preconditions, pending state, what survives, laziness, refusals of the disk. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/datastore/store_fixture.h"

static void test_write_is_seen_after_commit(void **state)
{
	struct fixture *f = *state;

	fixture_put(f, "a", "1");
	assert_null(fixture_get(f, "a"));
	assert_non_null(store_newest(f->store, 0, STR("ns"), STR("a")));
	fixture_wait(f);
	assert_non_null(fixture_get(f, "a"));
	assert_true(str_is(fixture_value(fixture_get(f, "a")), "1"));
	assert_int_equal(store_revision(f->store), fixture_get(f, "a")->revision);
	assert_ptr_equal(store_by_uid(f->store, STR("0-ns-a")), fixture_get(f, "a"));
	fixture_put(f, "a", "2");
	fixture_remove(f, "a");
	assert_null(store_newest(f->store, 0, STR("ns"), STR("a")));
	assert_true(str_is(fixture_value(fixture_get(f, "a")), "1"));
	fixture_put(f, "a", "3");
	fixture_wait(f);
	assert_true(str_is(fixture_value(fixture_get(f, "a")), "3"));
	assert_int_equal(f->ok, 4);
}

static void test_survives_reopening(void **state)
{
	struct fixture *f = *state;
	int64_t revision;

	fixture_put(f, "a", "1");
	fixture_put(f, "b", "1");
	fixture_put(f, "a", "2");
	fixture_remove(f, "b");
	fixture_wait(f);
	revision = store_revision(f->store);
	fixture_reopen(f);
	assert_true(store_revision(f->store) >= revision);
	assert_true(store_next_revision(f->store) > revision);
	assert_int_equal(store_count(f->store, 0), 1);
	assert_true(str_is(fixture_value(fixture_get(f, "a")), "2"));
	/* A watch of the time before cannot be served. */
	struct store_watch w = { .fn = (void *)fixture_wait };
	_cleanup_err_ struct err err = ERR_INIT;
	assert_int_equal(store_watch_start(f->store, &w, 0, revision - 1, &err), -ESTALE);
	assert_int_equal(err.status, 410);
}

static void test_files_are_private(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char wal[128];

	snprintf(wal, sizeof(wal), "%s-wal", f->path);
	fixture_put(f, "a", "1");
	fixture_wait(f);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(wal, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_preconditions(void **state)
{
	struct fixture *f = *state;
	_cleanup_object_ const struct object *o = NULL, *p = NULL;
	struct store_op op;

	fixture_put(f, "a", "1");
	o = fixture_object(0, store_next_revision(f->store), "ns", "a", "", "x");
	op = (struct store_op){ .object = o };
	assert_int_equal(store_commit(f->store, &op, 1, STORE_DURABLE, NULL, NULL, NULL, NULL), -EEXIST);
	op.expect = o->revision;
	assert_int_equal(store_commit(f->store, &op, 1, STORE_DURABLE, NULL, NULL, NULL, NULL), -ESTALE);
	p = fixture_object(0, store_next_revision(f->store), "ns", "b", "", "x");
	op = (struct store_op){ .object = p, .expect = 7 };
	assert_int_equal(store_commit(f->store, &op, 1, STORE_DURABLE, NULL, NULL, NULL, NULL), -ENOENT);
	fixture_wait(f);
	assert_int_equal(f->ok, 1);
}

static void test_transaction_is_whole(void **state)
{
	struct fixture *f = *state;
	int64_t next = store_next_revision(f->store);
	_cleanup_object_ const struct object *a = fixture_object(0, next, "ns", "a", "", "x");
	_cleanup_object_ const struct object *b = fixture_object(1, next + 1, "", "b", "", "x");
	struct store_op ops[] = { { .object = a }, { .object = b, .expect = 5 } };
	size_t failed = 99;

	assert_int_equal(store_commit(f->store, ops, 2, STORE_DURABLE, fixture_done, f, &failed, NULL), -ENOENT);
	assert_int_equal(failed, 1);
	assert_null(store_newest(f->store, 0, STR("ns"), STR("a")));
	ops[1].expect = 0;
	assert_int_equal(store_commit(f->store, ops, 2, STORE_DURABLE, fixture_done, f, &failed, NULL), 0);
	f->waiting++;
	fixture_wait(f);
	assert_non_null(fixture_get(f, "a"));
	assert_non_null(store_get(f->store, 1, STR_NULL, STR("b")));
	assert_int_equal(store_revision(f->store), next + 1);
}

static void test_group_commit(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;
	char name[32];

	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		fixture_put(f, name, "v");
	}
	fixture_wait(f);
	store_get_stats(f->store, &stats);
	assert_int_equal(f->ok, 2000);
	assert_int_equal(stats.records, 2000);
	assert_true(stats.commits < 200);
	assert_true(stats.commit_p99_ns >= stats.commit_p50_ns && stats.fsync_p50_ns > 0);
	assert_true(stats.bytes_written > 2000 * 10);
}

static void owned(void *arg, const struct object *o)
{
	(void)o;
	(*(int *)arg)++;
}

static void test_owner_index(void **state)
{
	struct fixture *f = *state;
	int n = 0;

	assert_int_equal(fixture_write_full(f, 0, "ns", "a", "u1", "x", false, STORE_DURABLE), 0);
	assert_int_equal(fixture_write_full(f, 1, "ns", "b", "u1", "x", false, STORE_DURABLE), 0);
	assert_int_equal(fixture_write_full(f, 1, "ns", "c", "u2", "x", false, STORE_DURABLE), 0);
	fixture_wait(f);
	store_each_owned(f->store, STR("u1"), owned, &n);
	assert_int_equal(n, 2);
	assert_int_equal(fixture_write_full(f, 1, "ns", "b", "u2", "x", false, STORE_DURABLE), 0);
	assert_int_equal(fixture_write_full(f, 0, "ns", "a", "u1", "x", true, STORE_DURABLE), 0);
	fixture_wait(f);
	n = 0;
	store_each_owned(f->store, STR("u1"), owned, &n);
	assert_int_equal(n, 0);
	store_each_owned(f->store, STR("u2"), owned, &n);
	assert_int_equal(n, 2);
}

/* ---- the log ---- */

#define LOG_MAX (512u << 10)
#define CHECKPOINT_LATEST_NS (30 * NS_PER_S)

static uint64_t checkpoints(struct fixture *f)
{
	struct store_stats stats;

	store_get_stats(f->store, &stats);
	return stats.checkpoints;
}

/* Some pages each, of its own. */
static void write_some(struct fixture *f, int first, int n)
{
	_cleanup_free_ char *value = mem_zalloc(4097);
	char name[32];

	memset(value, 'v', 4096);
	for (int i = first; i < first + n; i++) {
		snprintf(name, sizeof(name), "log-%d", i);
		fixture_put(f, name, value);
		fixture_wait(f);
	}
}

static void test_log_goes_into_the_database(void **state)
{
	const struct timespec moment = { .tv_nsec = NS_PER_MS };
	struct fixture *f = *state;
	int64_t until;

	f->options.wal_bytes_max = LOG_MAX;
	fixture_reopen(f);
	assert_int_equal(checkpoints(f), 0);
	/* Half of it: nobody writes any more, then it goes. */
	write_some(f, 0, 40);
	until = clock_monotonic_ns() + CHECKPOINT_LATEST_NS;
	while (checkpoints(f) == 0 && clock_monotonic_ns() < until)
		nanosleep(&moment, NULL);
	assert_true(checkpoints(f) > 0);
	/* Never longer than its cap, however busily it is written to. */
	for (int i = 0; i < 8; i++) {
		struct store_stats stats;

		write_some(f, 40 + 40 * i, 40);
		store_get_stats(f->store, &stats);
		assert_in_range(stats.wal_bytes, 0, 2 * LOG_MAX);
	}
	assert_true(checkpoints(f) > 2);
}

/* ---- laziness ---- */

static void test_heartbeats_write_nothing(void **state)
{
	struct fixture *f = *state;
	struct store_stats before, after;
	struct stat db_before, db_after;
	char wal[128];

	snprintf(wal, sizeof(wal), "%s-wal", f->path);
	fixture_put(f, "a", "1"); /* makes the first reservation */
	fixture_wait(f);
	store_get_stats(f->store, &before);
	assert_int_equal(stat(wal, &db_before), 0);
	for (int i = 0; i < 100; i++) {
		fixture_write_full(f, 1, "ns", "lease", "", "beat", false, STORE_RIDER);
		fixture_wait(f);
	}
	store_get_stats(f->store, &after);
	assert_int_equal(stat(wal, &db_after), 0);
	assert_int_equal(before.commits, after.commits);
	assert_int_equal(before.bytes_written, after.bytes_written);
	assert_int_equal(db_before.st_mtim.tv_sec, db_after.st_mtim.tv_sec);
	assert_int_equal(db_before.st_mtim.tv_nsec, db_after.st_mtim.tv_nsec);
	assert_int_equal(after.lazy_dirty, 1);
	assert_int_equal(after.revision, before.revision + 100);
	/* The next durable write takes it along. */
	fixture_put(f, "a", "2");
	fixture_wait(f);
	store_get_stats(f->store, &after);
	assert_int_equal(after.lazy_dirty, 0);
	assert_int_equal(after.records, before.records + 2);
}

static void test_lazy_survives_clean_close(void **state)
{
	struct fixture *f = *state;
	int64_t revision;

	fixture_write_full(f, 1, "ns", "lease", "", "1", false, STORE_RIDER);
	fixture_wait(f);
	fixture_write_full(f, 1, "ns", "lease", "", "2", false, STORE_RIDER);
	fixture_write_full(f, 1, "ns", "gone", "", "2", false, STORE_RIDER);
	fixture_write_full(f, 1, "ns", "gone", "", "2", true, STORE_RIDER);
	fixture_wait(f);
	revision = store_revision(f->store);
	fixture_reopen(f);
	assert_true(str_is(fixture_value(store_get(f->store, 1, STR("ns"), STR("lease"))), "2"));
	assert_int_equal(store_count(f->store, 1), 1);
	assert_int_equal(store_revision(f->store), revision); /* exact after a clean end */
}

static void on_poll(struct loop_timer *timer)
{
	struct fixture *f = container_of(timer, struct fixture, deadline);
	struct store_stats stats;

	store_get_stats(f->store, &stats);
	if (stats.lazy_dirty == 0 && stats.queued == 0)
		loop_stop(f->loop, 0);
	else
		loop_timer_arm(f->loop, timer, NS_PER_MS);
}

static void test_lazy_timer(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;

	f->options.lazy_flush_ms = 5;
	fixture_reopen(f);
	fixture_put(f, "a", "1");
	fixture_wait(f);
	fixture_write_full(f, 1, "ns", "event", "", "1", false, STORE_LAZY);
	fixture_wait(f);
	loop_timer_init(&f->deadline, on_poll);
	loop_timer_arm(f->loop, &f->deadline, NS_PER_MS);
	loop_run(f->loop);
	store_get_stats(f->store, &stats);
	assert_int_equal(stats.records, 2);
}

/* A lazy write behind a durable one of the same key, and the other way round: the disk ends with the newest. */
static void test_lazy_and_durable_mix(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 50; i++) {
		char value[16];

		snprintf(value, sizeof(value), "%d", i);
		assert_int_equal(
			fixture_write_full(f, 0, "ns", "x", "", value, false, i % 3 == 0 ? STORE_RIDER : STORE_DURABLE),
			0);
		assert_int_equal(
			fixture_write_full(f, 0, "ns", "y", "", value, false, i % 2 == 0 ? STORE_RIDER : STORE_DURABLE),
			0);
		if (i % 7 == 0)
			fixture_wait(f);
	}
	fixture_wait(f);
	assert_true(str_is(fixture_value(fixture_get(f, "x")), "49"));
	fixture_reopen(f);
	assert_true(str_is(fixture_value(fixture_get(f, "x")), "49"));
	assert_true(str_is(fixture_value(fixture_get(f, "y")), "49"));
}

/* ---- refusals ---- */

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_disk_refuses(void **state)
{
	struct fixture *f = *state;
	static char big[6000];
	struct store_stats stats;

	memset(big, 'x', sizeof(big) - 1);
	signal(SIGXFSZ, SIG_IGN);
	fixture_put(f, "kept", "1");
	fixture_write_full(f, 1, "ns", "lease", "", "1", false, STORE_RIDER);
	fixture_wait(f);
	limit_files(64 * 1024);
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		fixture_put(f, name, big);
	}
	fixture_put(f, "kept", "2");
	fixture_wait(f);
	assert_true(f->failed > 0);
	assert_true(f->last_status >= 500);
	/* Nothing of what failed is seen, pending or otherwise. */
	assert_null(store_newest(f->store, 0, STR("ns"), STR("n99")));
	assert_true(str_is(fixture_value(store_newest(f->store, 0, STR("ns"), STR("kept"))), "1"));
	assert_true(str_is(fixture_value(fixture_get(f, "kept")), "1"));
	store_get_stats(f->store, &stats);
	assert_int_equal(stats.queued, 0);
	assert_int_equal(stats.queued_bytes, 0);
	assert_true(stats.commit_failures > 0);
	/* The next write is tried afresh. */
	limit_files(RLIM_INFINITY);
	f->failed = 0;
	fixture_put(f, "kept", "3");
	fixture_wait(f);
	assert_int_equal(f->failed, 0);
	fixture_reopen(f);
	assert_true(str_is(fixture_value(fixture_get(f, "kept")), "3"));
	assert_true(str_is(fixture_value(store_get(f->store, 1, STR("ns"), STR("lease"))), "1"));
}

/* A real full disk: a small tmpfs in a mount namespace of this process, which takes it away with it. */
static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	static char big[6000];
	char filler[128];
	int fd;

	memset(big, 'x', sizeof(big) - 1);
	store_close(f->store);
	f->store = NULL;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", f->dir, "tmpfs", 0, "size=1m") < 0) {
		fail_msg("no mount namespace here: %s", strerror(errno));
	}
	fixture_open(f);
	fixture_put(f, "kept", "1");
	fixture_wait(f);
	snprintf(filler, sizeof(filler), "%s/filler", f->dir);
	fd = open(filler, O_CREAT | O_WRONLY, 0600);
	while (write(fd, big, sizeof(big)) > 0)
		;
	close(fd);
	for (int i = 0; i < 50; i++)
		fixture_put(f, "kept", big);
	fixture_wait(f);
	assert_true(f->failed > 0);
	assert_int_equal(f->last_status, 507);
	assert_int_equal(unlink(filler), 0);
	f->failed = 0;
	fixture_put(f, "kept", "2");
	fixture_wait(f);
	assert_int_equal(f->failed, 0);
	fixture_reopen(f);
	assert_true(str_is(fixture_value(fixture_get(f, "kept")), "2"));
	store_close(f->store);
	f->store = NULL;
	assert_int_equal(umount(f->dir), 0);
}

static void test_damage_is_one_clear_error(void **state)
{
	struct fixture *f = *state;
	_cleanup_err_ struct err err = ERR_INIT;
	struct store *store = NULL;
	int fd;

	store_close(f->store);
	f->store = NULL;
	fd = open(f->path, O_WRONLY | O_TRUNC);
	assert_true(write(fd, "this is not a database at all, it is a text", 43) == 43);
	close(fd);
	assert_int_equal(store_open(f->loop, &f->options, &store, &err), -EUCLEAN);
	assert_non_null(strstr(err.message, f->path));
	assert_non_null(strstr(err.message, "damaged"));
	assert_int_equal(unlink(f->path), 0);
}

/* A page of garbage in the middle: said when it is met, at the start, and not served around. */
static void test_damaged_page(void **state)
{
	struct fixture *f = *state;
	_cleanup_err_ struct err err = ERR_INIT;
	static char big[3000];
	char name[16], garbage[8192];
	int fd, r;

	memset(big, 'x', sizeof(big) - 1);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		fixture_put(f, name, big);
	}
	fixture_wait(f);
	store_close(f->store);
	f->store = NULL;
	memset(garbage, 0xff, sizeof(garbage));
	fd = open(f->path, O_WRONLY);
	assert_int_equal(pwrite(fd, garbage, sizeof(garbage), 40 * 4096), sizeof(garbage));
	close(fd);
	r = store_open(f->loop, &f->options, &f->store, &err);
	if (r == 0) {
		for (int i = 0; i < FIXTURE_RESOURCES; i++)
			store_add_resource(f->store, "test", i == 0 ? "zeros" : i == 1 ? "ones" : "twos");
		r = store_load(f->store, fixture_decode, NULL, &err);
	}
	assert_int_equal(r, -EUCLEAN);
	assert_non_null(strstr(err.message, "damaged"));
}

struct counted {
	size_t n;
};

static void count_file(void *arg, const char *group, const char *plural, int64_t revision, struct str json)
{
	struct counted *c = arg;

	assert_string_equal(group, "test");
	assert_true(revision > 0 && json.n > 0 && plural[0]);
	c->n++;
}

static void test_read_files(void **state)
{
	struct fixture *f = *state;
	_cleanup_err_ struct err err = ERR_INIT;
	struct store_file_info info;
	struct counted c = { 0 };

	fixture_put(f, "a", "1");
	fixture_put(f, "b", "1");
	fixture_wait(f);
	assert_int_equal(store_read_files("/nonexistent/state.db", count_file, &c, &info, &err), -ENOENT);
	assert_int_equal(store_read_files(f->path, count_file, &c, &info, &err), -EBUSY);
	store_close(f->store);
	f->store = NULL;
	if (store_read_files(f->path, count_file, &c, &info, &err) < 0)
		fail_msg("%s", err_message(&err));
	assert_int_equal(c.n, 2);
	assert_int_equal(info.objects, 2);
	assert_true(info.revision >= 2 && info.db_bytes > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_write_is_seen_after_commit),
		T(test_survives_reopening),
		T(test_files_are_private),
		T(test_preconditions),
		T(test_transaction_is_whole),
		T(test_group_commit),
		T(test_owner_index),
		T(test_log_goes_into_the_database),
		T(test_heartbeats_write_nothing),
		T(test_lazy_survives_clean_close),
		T(test_lazy_timer),
		T(test_lazy_and_durable_mix),
		T(test_disk_refuses),
		T(test_full_disk),
		T(test_damage_is_one_clear_error),
		T(test_damaged_page),
		T(test_read_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
