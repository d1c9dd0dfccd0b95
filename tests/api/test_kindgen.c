/* SPDX-License-Identifier: Apache-2.0 */
/* The host tool refuses data that contradicts itself: each mistake ends the build with a line that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "userspace/base/mem.h"
#include "userspace/base/str.h"

#define KINDS(kinds) "\"kinds\":[" kinds "]"
#define KIND(name, plural, message)                                                                                    \
	"{\"kind\":\"" name "\",\"plural\":\"" plural "\",\"singular\":\"x\",\"namespaced\":true,\"verbs\":[\"get\"]," \
	"\"message\":\"" message "\"}"
#define MESSAGE(name, fields) "\"" name "\":{\"fields\":{" fields "}}"
#define FILE_OF(kinds, messages) "{\"group\":\"g\",\"version\":\"v1\"," kinds ",\"messages\":{" messages "}}"

struct fixture {
	char dir[64];
	char *tool, *in, *out, *log;
};

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = 0;
	*strrchr(self, '/') = 0;
	strcpy(f->dir, "/tmp/k3c-kindgen-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->tool = mem_printf("%s/../userspace/api/kindgen", self);
	f->in = mem_printf("%s/in.json", f->dir);
	f->out = mem_printf("%s/out.c", f->dir);
	f->log = mem_printf("%s/log", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->in);
	unlink(f->out);
	unlink(f->log);
	rmdir(f->dir);
	free(f->tool);
	free(f->in);
	free(f->out);
	free(f->log);
	free(f);
	return 0;
}

/* Exit code; what it said goes to `ret`. */
static int run(struct fixture *f, const char *data, char ret[static 512])
{
	char *argv[] = { f->tool, f->out, f->in, NULL };
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;
	FILE *file = fopen(f->in, "w");

	assert_non_null(file);
	fputs(data, file);
	fclose(file);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 2, f->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(posix_spawn(&pid, f->tool, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	file = fopen(f->log, "r");
	assert_non_null(file);
	ret[fread(ret, 1, 511, file)] = 0;
	fclose(file);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void refused(struct fixture *f, const char *data, const char *why)
{
	char said[512];

	assert_int_equal(run(f, data, said), 1);
	if (!strstr(said, why))
		fail_msg("said \"%s\", want \"%s\"", said, why);
}

static void test_good(void **state)
{
	char said[512];

	assert_int_equal(run(*state,
			     FILE_OF(KINDS(KIND("A", "as", "m.v1.A")),
				     MESSAGE("m.v1.A", "\"x\":{\"type\":\"int32\",\"default\":1}")),
			     said),
			 0);
	assert_string_equal(said, "");
}

static void test_bad(void **state)
{
	refused(*state, "{", "not JSON");
	refused(*state, FILE_OF(KINDS(KIND("A", "as", "m.v1.A") "," KIND("A", "bs", "m.v1.A")), MESSAGE("m.v1.A", "")),
		"kind A is there twice");
	refused(*state, FILE_OF(KINDS(KIND("A", "as", "m.v1.A") "," KIND("B", "as", "m.v1.A")), MESSAGE("m.v1.A", "")),
		"is there twice");
	refused(*state, FILE_OF(KINDS(KIND("A", "as", "m.v1.B")), MESSAGE("m.v1.A", "")), "unknown message m.v1.B");
	refused(*state, FILE_OF(KINDS(""), MESSAGE("m.v1.A", "") "," MESSAGE("m.v1.A", "")),
		"message m.v1.A is there twice");
	refused(*state, FILE_OF(KINDS(""), MESSAGE("m.v1.A", "\"x\":{\"type\":\"int33\"}")), "unknown type \"int33\"");
	refused(*state, FILE_OF(KINDS(""), MESSAGE("m.v1.A", "\"x\":{\"type\":\"array\"}")), "element type");
	refused(*state, FILE_OF(KINDS(""), MESSAGE("m.v1.A", "\"x\":{\"type\":\"int32\",\"default\":\"1\"}")),
		"the default is not a int32");
	refused(*state, FILE_OF(KINDS(""), MESSAGE("m.v1.A", "\"x\":{\"type\":\"object\",\"ref\":\"m.v1.Z\"}")),
		"unknown message m.v1.Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
