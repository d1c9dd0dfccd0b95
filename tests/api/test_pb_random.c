/* SPDX-License-Identifier: Apache-2.0 */
/* Random objects of every kind: our bytes are read by protoc's code, its bytes by ours, and nothing is lost on the way.
 * K3C_SEED and K3C_ROUNDS ask for others than the usual ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/api/random_object.h"
#include "userspace/api/decode.h"
#include "userspace/api/pb.h"
#include "userspace/base/mem.h"

#define PYTHON "/usr/bin/python3" /* the one that Debian's library is for */
#define ROUNDS 6
#define SEED 20260101

struct work {
	char dir[64];
	uint64_t seed;
	size_t rounds;
};

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static int run(char *const argv[])
{
	pid_t pid;
	int status;

	assert_int_equal(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int setup(void **state)
{
	struct work *w = mem_new(struct work);

	w->seed = number_of("K3C_SEED", SEED);
	w->rounds = number_of("K3C_ROUNDS", ROUNDS);
	strcpy(w->dir, "/tmp/k3c-pb-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct work *w = *state;
	char *argv[] = { "/bin/rm", "-rf", w->dir, NULL };
	int r = run(argv);

	free(w);
	return r;
}

/* The object of that kind and round; the same each time. */
static struct json *object_of(const struct work *w, struct arena *arena, size_t kind, size_t round)
{
	struct random r = { .state = (w->seed + 1) * 1000003 + kind * 9973 + round * 101 + 7, .arena = arena };

	for (int i = 0; i < 8; i++)
		random_next(&r);
	return random_object(&r, api_kind_at(kind));
}

static struct json *decoded(struct arena *arena, const struct api_kind *k, struct str bytes)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (decode_text(arena, k, bytes, DECODE_PROTOBUF, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s: %s", k->kind, err_message(&err));
	return v;
}

static void same(struct arena *arena, const char *what, const struct api_kind *k, size_t round, const struct json *a,
		 const struct json *b)
{
	struct str x, y;

	if (json_equal(a, b))
		return;
	x = json_text(arena, a);
	y = json_text(arena, b);
	fail_msg("%s %s, round %zu:\n%.*s\n%.*s", what, k->api_version, round, STR_ARG(x), STR_ARG(y));
}

static struct str encoded(struct arena *arena, const struct json *v)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_int_equal(pb_encode(&out, v), 0);
	return arena_str(arena, buf_str(&out));
}

/* JSON and YAML and protobuf: the same object. */
static void test_round_trip(void **state)
{
	const struct work *w = *state;

	for (size_t i = 0; i < api_kind_count(); i++) {
		for (size_t round = 0; round < 4 * w->rounds; round++) {
			_cleanup_arena_ struct arena arena = ARENA_INIT;
			_cleanup_err_ struct err err = ERR_INIT;
			const struct api_kind *k = api_kind_at(i);
			struct json *in = object_of(w, &arena, i, round), *out;
			struct str text = json_text(&arena, in);

			if (decode_text(&arena, k, text, DECODE_JSON, DECODE_STRICT, NULL, &out, &err) < 0)
				fail_msg("%s: %s\n%.*s", k->kind, err_message(&err), STR_ARG(text));
			same(&arena, "JSON", k, round, in, out);
			if (decode_text(&arena, k, text, DECODE_YAML, DECODE_STRICT, NULL, &out, &err) < 0)
				fail_msg("%s: %s\n%.*s", k->kind, err_message(&err), STR_ARG(text));
			same(&arena, "YAML", k, round, in, out);
			same(&arena, "protobuf", k, round, in, decoded(&arena, k, encoded(&arena, in)));
		}
	}
}

static char *path_of(struct arena *arena, const struct work *w, size_t kind, size_t round, const char *suffix)
{
	return arena_printf(arena, "%s/k%03zu-%03zu%s", w->dir, kind, round, suffix);
}

static void write_file(const char *path, struct str text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
	assert_int_equal(fclose(f), 0);
}

static struct str read_whole(struct arena *arena, const char *path)
{
	char *out = arena_alloc(arena, DECODE_BYTES_MAX);
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		fail_msg("%s is not there", path);
	n = fread(out, 1, DECODE_BYTES_MAX, f);
	fclose(f);
	return str_make(out, n);
}

static void test_oracle(void **state)
{
	struct work *w = *state;
	char *oracle[] = {
		PYTHON, "-B", K3C_SOURCE_DIR "/tests/api/pb_oracle.py", K3C_SOURCE_DIR "/userspace/api/kinds",
		w->dir, NULL
	};

	for (size_t i = 0; i < api_kind_count(); i++) {
		for (size_t round = 0; round < w->rounds; round++) {
			_cleanup_arena_ struct arena arena = ARENA_INIT;
			struct json *v = object_of(w, &arena, i, round);

			write_file(path_of(&arena, w, i, round, ".json"), json_text(&arena, v));
			write_file(path_of(&arena, w, i, round, ".pb"), encoded(&arena, v));
		}
	}
	assert_int_equal(run(oracle), 0);
	for (size_t i = 0; i < api_kind_count(); i++) {
		for (size_t round = 0; round < w->rounds; round++) {
			_cleanup_arena_ struct arena arena = ARENA_INIT;
			const struct api_kind *k = api_kind_at(i);

			same(&arena, "protoc", k, round, object_of(w, &arena, i, round),
			     decoded(&arena, k, read_whole(&arena, path_of(&arena, w, i, round, ".oracle"))));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_oracle),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
