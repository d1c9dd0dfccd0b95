/* SPDX-License-Identifier: Apache-2.0 */
/* A child process writes and acknowledges over a pipe until it is killed at a random moment. After opening the files
 * again nothing acknowledged as durable is missing and no revision that anyone saw
 * (lazy ones too) is given twice. */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/datastore/store_fixture.h"

#define CRASH_ROUNDS 12
#define CRASH_KEYS 20
#define CRASH_WRITERS 8

struct ack {
	int32_t key;
	int32_t durable;
	int64_t counter, revision;
};

struct promise {
	int64_t counter;
};

/* ---- the child ---- */

struct child {
	struct fixture f;
	int fd;
	int64_t counter;
};

struct child_write {
	struct child *c;
	struct ack ack;
};

static void child_next(struct child *c);

static void child_done(void *arg, const struct err *err)
{
	struct child_write *w = arg;

	if (err || write(w->c->fd, &w->ack, sizeof(w->ack)) != sizeof(w->ack))
		_exit(1);
	child_next(w->c);
	free(w);
}

static void child_next(struct child *c)
{
	struct child_write *w = mem_new(struct child_write);
	int key = (int)(c->counter % CRASH_KEYS);
	enum store_durability how = key % 5 == 4 ? STORE_RIDER : STORE_DURABLE;
	char name[16], value[64];
	const struct object *newest, *o;
	struct store_op op;

	c->counter++;
	snprintf(name, sizeof(name), "k%d", key);
	snprintf(value, sizeof(value), "%lld", (long long)c->counter);
	newest = store_newest(c->f.store, 0, STR("ns"), str_of(name));
	o = fixture_object(0, store_next_revision(c->f.store), "ns", name, "", value);
	op = (struct store_op){ .object = o, .expect = newest ? newest->revision : 0 };
	*w = (struct child_write){ c, { key, how == STORE_DURABLE, c->counter, o->revision } };
	if (store_commit(c->f.store, &op, 1, how, child_done, w, NULL, NULL) < 0)
		_exit(2);
	object_unref(o);
}

static void __attribute__((noreturn)) child_main(const char *path, int fd, int64_t counter)
{
	struct child *c = mem_new(struct child);
	struct loop_options options = { 0 };

	c->fd = fd;
	c->counter = counter;
	snprintf(c->f.path, sizeof(c->f.path), "%s", path);
	if (loop_create(&options, &c->f.loop, NULL) < 0)
		_exit(3);
	fixture_open(&c->f);
	for (int i = 0; i < CRASH_WRITERS; i++)
		child_next(c);
	loop_run(c->f.loop);
	_exit(4);
}

/* ---- the parent ---- */

static void read_acks(int fd, struct promise *promises, int64_t *max_revision, int64_t *max_counter, size_t *n)
{
	struct ack a;

	while (read(fd, &a, sizeof(a)) == sizeof(a)) {
		(*n)++;
		assert_true(a.revision > 0);
		if (a.durable)
			promises[a.key].counter = a.counter;
		if (a.revision > *max_revision)
			*max_revision = a.revision;
		if (a.counter > *max_counter)
			*max_counter = a.counter;
	}
}

static size_t one_round(const char *path, struct promise *promises, int64_t *max_revision, int64_t *max_counter)
{
	int fds[2], status;
	size_t n = 0;
	pid_t pid;
	struct timespec pause = { 0, 1000000 + rand() % 60000000 };

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		child_main(path, fds[1], *max_counter + 1000);
	}
	close(fds[1]);
	/* The moment of death is what this test varies; nothing is waited for by it. */
	nanosleep(&pause, NULL);
	kill(pid, SIGKILL);
	read_acks(fds[0], promises, max_revision, max_counter, &n);
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	return n;
}

static void check(struct fixture *f, const struct promise *promises, int64_t max_revision)
{
	for (int key = 0; key < CRASH_KEYS; key++) {
		char name[16];
		const struct object *o;
		int64_t value = 0;

		snprintf(name, sizeof(name), "k%d", key);
		o = fixture_get(f, name);
		if (promises[key].counter == 0)
			continue;
		assert_non_null(o);
		assert_int_equal(str_to_int64(fixture_value(o), &value), 0);
		assert_true(value >= promises[key].counter);
		assert_int_equal(value % CRASH_KEYS, (key + 1) % CRASH_KEYS);
	}
	assert_true(store_next_revision(f->store) > max_revision);
}

static void test_nothing_acknowledged_is_lost(void **state)
{
	struct fixture *f = *state;
	struct promise promises[CRASH_KEYS] = { 0 };
	int64_t max_revision = 0, max_counter = 0;
	size_t total = 0;

	srand((unsigned)time(NULL));
	store_close(f->store);
	for (int i = 0; i < CRASH_ROUNDS; i++) {
		total += one_round(f->path, promises, &max_revision, &max_counter);
		fixture_open(f);
		check(f, promises, max_revision);
		if (i % 3 == 2) { /* write here too, so that a clean end is part of the history */
			fixture_put(f, "parent", "x");
			fixture_wait(f);
			max_revision = store_revision(f->store);
		}
		store_close(f->store);
	}
	f->store = NULL;
	assert_true(total > 0); /* how many is the machine's business */
}

/* What a killed server leaves behind is readable without starting one. */
static void test_files_of_a_killed_server(void **state)
{
	struct fixture *f = *state;
	struct promise promises[CRASH_KEYS] = { 0 };
	int64_t max_revision = 0, max_counter = 0;
	struct store_file_info info;
	_cleanup_err_ struct err err = ERR_INIT;
	size_t n = 0;

	store_close(f->store);
	f->store = NULL;
	while (n < 50)
		n += one_round(f->path, promises, &max_revision, &max_counter);
	if (store_read_files(f->path, NULL, NULL, &info, &err) < 0)
		fail_msg("%s", err_message(&err));
	assert_true(info.objects > 0 && info.objects <= CRASH_KEYS);
	assert_true(info.revision >= max_revision);
	assert_true(info.wal_bytes > 0);
	fixture_open(f);
	check(f, promises, max_revision);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_acknowledged_is_lost, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_files_of_a_killed_server, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
