/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf stop [--purge]`: ends the server and every pod; with --purge, removes all that the node ever made. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kubelet/runtime/runtime.h"
#include "userspace/base/fs.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/config.h"
#include "userspace/dataplane/dataplane.h"

#define STOP_TERM_MS 15000
#define STOP_KILL_MS 5000
#define STOP_MOUNTINFO_MAX (16 * 1024 * 1024)

static int stop_wait(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, timeout_ms);
}

/* By pidfd: a number that another process got meanwhile is never hit. The pid file is locked while the server lives. */
static int stop_server(const struct config *config, struct err *err)
{
	const char *path = config_path(config, config->run_dir, "server.pid");
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_close_ int pidfd = -1;
	_cleanup_buf_ struct buf comm = BUF_INIT;
	char comm_path[64];
	int64_t pid;

	if (!fs_exists(path) || fs_read(path, 64, &text, NULL) < 0 || str_to_int64(str_trim(buf_str(&text)), &pid) < 0 ||
	    pid <= 1)
		return 0;
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0)
		return 0;
	snprintf(comm_path, sizeof(comm_path), "/proc/%d/comm", (int)pid);
	if (fs_read(comm_path, 64, &comm, NULL) < 0 || !str_is(str_trim(buf_str(&comm)), "k3c-bpf"))
		return 0;
	syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
	if (stop_wait(pidfd, STOP_TERM_MS) > 0)
		return 0;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (stop_wait(pidfd, STOP_KILL_MS) > 0)
		return 0;
	return err_set(err, -ETIMEDOUT, "the server (pid %d) does not end", (int)pid);
}

static int stop_pods(const struct config *config, struct err *err)
{
	const struct runtime_options options = {
		.data_dir = config->data_dir,
		.run_dir = config->run_dir,
		.log_dir = config->log_dir,
		.oci_runtime = config->oci_runtime,
		.cgroup_root = config->cgroup_root,
	};

	return runtime_shutdown_all(&options, err);
}

/* What is still mounted below `dir` (volumes of pods that ended with us): latest first. */
static void stop_unmount(const char *dir)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str rest, line, part, prefix = str_of(arena_printf(&arena, "%s/", dir));
	char **points = NULL;
	size_t n = 0, cap = 0;

	if (fs_read("/proc/self/mountinfo", STOP_MOUNTINFO_MAX, &text, NULL) < 0)
		return;
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		for (int field = 0; field < 5; field++)
			if (!str_split(&line, ' ', &part))
				part = STR_NULL;
		if (!str_starts(part, prefix))
			continue;
		mem_grow(points, cap, n + 1);
		points[n++] = arena_strndup(&arena, part.p, part.n);
	}
	while (n--)
		umount2(points[n], MNT_DETACH | UMOUNT_NOFOLLOW);
	free(points);
}

static int stop_purge(const struct config *config, struct err *err)
{
	const char *const trees[] = { config->data_dir, config->run_dir, config->log_dir };
	int r = dataplane_purge(config->pin_dir, err);

	for (size_t i = 0; i < ARRAY_SIZE(trees) && r == 0; i++) {
		stop_unmount(trees[i]);
		r = fs_remove_tree(trees[i], err);
	}
	if (r == 0 && unlink(config->write_kubeconfig) < 0 && errno != ENOENT)
		r = err_set(err, -errno, "remove %s: %s", config->write_kubeconfig, strerror(errno));
	return r;
}

int cmd_stop(int argc, char **argv)
{
	_cleanup_config_ struct config config = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	bool purge = false;
	int rest, n = 0, r;

	/* --purge is this command's own flag: taken out before the table sees the rest. */
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--purge") == 0)
			purge = true;
		else
			argv[1 + n++] = argv[i];
	}
	r = config_load(n, argv + 1, &config, &rest, &err);
	if (r == 0 && rest < n)
		r = err_set(&err, -EINVAL, "unexpected argument \"%s\"", argv[1 + rest]);
	if (r == 0)
		r = stop_server(&config, &err);
	if (r == 0)
		r = stop_pods(&config, &err);
	if (r == 0 && purge)
		r = stop_purge(&config, &err);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf stop: %s\n", err_message(&err));
		return 1;
	}
	return 0;
}
