/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling from a real registry (Debian's docker-registry on a loopback port) what another tool (skopeo) pushed: by
 * tag, by digest, and with bytes that lie. Fails where the tools are not installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kubelet/test_images_fixture.h"
#include "userspace/base/clock.h"

extern char **environ;

static char dir[64];
static int port;
static pid_t registry;
static struct images *images;

static pid_t spawn(char *const *argv)
{
	posix_spawn_file_actions_t actions;
	_cleanup_free_ char *log = mem_printf("%s/tools.log", dir);
	pid_t pid = -1;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ))
		pid = -1;
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

static int run(char *const *argv)
{
	pid_t pid = spawn(argv);
	int status = -1;

	if (pid > 0)
		waitpid(pid, &status, 0);
	return status;
}

static int dial(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));

	close(fd);
	return r;
}

static int free_port(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&addr, len) < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -1;
	close(fd);
	return ntohs(addr.sin_port);
}

static int start_registry(void)
{
	_cleanup_free_ char *config = mem_printf("%s/config.yml", dir);
	char *argv[] = { "docker-registry", "serve", config, NULL };
	int64_t until = clock_monotonic_ns() + 20 * NS_PER_S;
	FILE *f = fopen(config, "w");

	port = free_port();
	fprintf(f,
		"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s/registry\n"
		"http:\n  addr: 127.0.0.1:%d\n",
		dir, port);
	fclose(f);
	registry = spawn(argv);
	while (dial() < 0) {
		if (clock_monotonic_ns() > until)
			return -1;
		usleep(10000);
	}
	return 0;
}

static int push(void)
{
	_cleanup_free_ char *file = mem_printf("%s/image.tar", dir), *from = mem_printf("docker-archive:%s", file);
	_cleanup_free_ char *to = mem_printf("docker://127.0.0.1:%d/demo/busybox:v1", port);
	char *argv[] = { "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", from, to, NULL };
	struct fixture_layer layer;

	fixture_busybox_layer(&layer, false);
	fixture_docker(file, &layer, 1, "{\"Cmd\":[\"sh\"],\"Env\":[\"A=b\"]}", "demo/busybox:v1", 0);
	buf_finish(&layer.tar);
	return run(argv);
}

static int setup(void **state)
{
	_cleanup_free_ char *store = NULL;

	strcpy(dir, "/tmp/k3c-pull-XXXXXX");
	if (!mkdtemp(dir) || start_registry() < 0 || push() != 0)
		return -1;
	store = mem_printf("%s/store", dir);
	return images_open(store, &images, NULL);
}

static int teardown(void **state)
{
	images_close(images);
	if (registry > 0) {
		kill(registry, SIGKILL);
		waitpid(registry, NULL, 0);
	}
	fixture_remove(dir);
	return 0;
}

static void test_tag_and_digest(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	char *name = arena_printf(&arena, "127.0.0.1:%d/demo/busybox:v1", port);
	struct image image, by_digest;
	int r = images_pull(images, name, NULL, NULL, NULL, &arena, &image, &err);

	if (r < 0)
		print_error("%s\n", err_message(&err));
	assert_int_equal(r, 0);
	assert_string_equal(image.reference, name);
	assert_string_equal(image.cmd[0], "sh");
	assert_true(fs_exists(arena_printf(&arena, "%s/bin/busybox", image.layer_dirs[0])));
	assert_non_null(strstr(image.repo_digest, "/demo/busybox@sha256:"));
	assert_int_equal(images_lookup(images, image.repo_digest, &arena, &by_digest, NULL), 0);
	assert_int_equal(images_remove(images, name, NULL), 0);
	assert_int_equal(images_pull(images, image.repo_digest, NULL, NULL, NULL, &arena, &by_digest, &err), 0);
	assert_string_equal(by_digest.id, image.id);
	assert_int_equal(images_remove(images, image.repo_digest, NULL), 0);
}

static void test_not_found(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	char *name = arena_printf(&arena, "127.0.0.1:%d/demo/absent:v1", port);
	struct image image;

	assert_int_equal(images_pull(images, name, NULL, NULL, NULL, &arena, &image, &err), -ENOENT);
	assert_non_null(strstr(err_message(&err), "not found"));
}

static int corrupt_large(const char *path, const struct stat *st, int type, struct FTW *at)
{
	if (type == FTW_F && st->st_size > 100000) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		unsigned char byte;

		if (pread(fd, &byte, 1, st->st_size / 2) == 1) {
			byte ^= 0xff;
			if (pwrite(fd, &byte, 1, st->st_size / 2) != 1)
				abort();
		}
		close(fd);
	}
	return 0;
}

static void test_lying_registry(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	char *name = arena_printf(&arena, "127.0.0.1:%d/demo/busybox:v1", port);
	struct image image;

	nftw(arena_printf(&arena, "%s/registry", dir), corrupt_large, 16, FTW_PHYS);
	assert_int_equal(images_pull(images, name, NULL, NULL, NULL, &arena, &image, &err), -EBADMSG);
	print_message("answer: %s\n", err_message(&err));
	assert_int_equal(images_lookup(images, name, &arena, &image, NULL), -ENOENT);
	/* and back, by the same flip */
	nftw(arena_printf(&arena, "%s/registry", dir), corrupt_large, 16, FTW_PHYS);
	assert_int_equal(images_pull(images, name, NULL, NULL, NULL, &arena, &image, NULL), 0);
	assert_int_equal(images_remove(images, name, NULL), 0);
}

static void test_other_tools_archive(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	char *from = arena_printf(&arena, "docker-archive:%s/image.tar", dir);
	char *file = arena_printf(&arena, "%s/oci.tar", dir);
	char *to = arena_printf(&arena, "oci-archive:%s:v7", file);
	char *argv[] = { "skopeo", "--insecure-policy", "copy", from, to, NULL };
	struct image image;

	assert_int_equal(run(argv), 0);
	assert_int_equal(images_import(images, file, "demo/other:v7", NULL, NULL, &arena, &image, &err), 0);
	assert_string_equal(image.reference, "docker.io/demo/other:v7");
	assert_int_equal(images_remove(images, "demo/other:v7", NULL), 0);
}

static void test_refused(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct image image;
	char *name = arena_printf(&arena, "127.0.0.1:%d/demo/busybox:v1", free_port());

	assert_int_equal(images_pull(images, name, NULL, NULL, NULL, &arena, &image, NULL), -ECONNREFUSED);
	assert_int_equal(images_pull(images, "Not A Name", NULL, NULL, NULL, &arena, &image, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tag_and_digest), cmocka_unit_test(test_not_found),
		cmocka_unit_test(test_lying_registry), cmocka_unit_test(test_other_tools_archive),
		cmocka_unit_test(test_refused),
	};

	if (!fs_exists("/usr/bin/docker-registry") || !fs_exists("/usr/bin/skopeo")) {
		printf("docker-registry or skopeo is not installed: tools/packages test\n");
		return 1;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
