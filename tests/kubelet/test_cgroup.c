/* SPDX-License-Identifier: Apache-2.0 */
/* Groups on whatever this machine has: made with limits, attached to, read, killed, removed. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

static char root[64];

static int cleanup(void **state)
{
	struct cgroup_host host;

	if (cgroup_detect(&host, NULL) < 0)
		return -1;
	for (int i = 0; i < 200; i++) {
		cgroup_kill(&host, root);
		if (cgroup_remove(&host, root) != -EBUSY)
			return 0;
		usleep(5000);
	}
	return -1;
}

static void check_file(const char *dir, const char *path, const char *file, const char *expected)
{
	_cleanup_free_ char *full = mem_printf("%s/%s/%s", dir, path, file);
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_free_ char *got = NULL;

	assert_true(fs_read(full, 4096, &text, NULL) >= 0);
	got = str_dup(str_trim(buf_str(&text)));
	assert_string_equal(got, expected);
}

static void test_all(void **state)
{
	const struct cgroup_limits limits = { .cpu_shares = 512,
					      .cpu_quota_us = 50000,
					      .cpu_period_us = 100000,
					      .memory_limit_bytes = 64 << 20,
					      .pids_limit = 20 };
	_cleanup_free_ char *path = mem_printf("%s/burstable/pod1", root);
	_cleanup_err_ struct err err = ERR_INIT;
	struct cgroup_usage usage;
	struct cgroup_host host;
	pid_t child;
	int status;

	assert_int_equal(cgroup_detect(&host, &err), 0);
	assert_int_equal(cgroup_make(&host, path, &limits, &err), 0);
	assert_int_equal(cgroup_make(&host, path, &limits, &err), 0);
	for (size_t i = 0; i < host.n_mounts; i++) {
		const struct cgroup_mount *m = &host.mounts[i];

		if (strstr(m->controllers, "memory"))
			check_file(m->path, path, "memory.limit_in_bytes", "67108864");
		if (strstr(m->controllers, "pids"))
			check_file(m->path, path, "pids.max", "20");
		if (strcmp(m->controllers, "cpu") == 0 || strncmp(m->controllers, "cpu,", 4) == 0) {
			check_file(m->path, path, "cpu.shares", "512");
			check_file(m->path, path, "cpu.cfs_quota_us", "50000");
		}
		if (m->v2 && host.mode == CGROUP_V2)
			check_file(m->path, path, "memory.max", "67108864");
	}
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(cgroup_attach(&host, path, child, &err), 0);
	assert_int_equal(cgroup_read_usage(&host, path, &usage), 0);
	assert_int_equal(usage.pids, 1);
	assert_int_equal(cgroup_remove(&host, path), -EBUSY);
	assert_true(cgroup_kill(&host, path) >= 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(cgroup_remove(&host, path), 0);
	assert_int_equal(cgroup_remove(&host, path), 0);
	assert_int_equal(cgroup_read_usage(&host, path, &usage), -ENOENT);
}

static void test_weights(void **state)
{
	assert_int_equal(cgroup_weight_of_shares(0), 0);
	assert_int_equal(cgroup_weight_of_shares(2), 1);
	assert_int_equal(cgroup_weight_of_shares(1024), 39);
	assert_int_equal(cgroup_weight_of_shares(262144), 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(test_all, cleanup),
					    cmocka_unit_test(test_weights) };

	if (geteuid() != 0) {
		printf("needs root\n");
		return 1;
	}
	snprintf(root, sizeof(root), "k3c-cgtest-%d", getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
