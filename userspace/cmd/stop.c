/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf stop [--purge]`: ends the server and every pod; with --purge, removes all that the node ever made. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kubelet/runtime/runtime.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/config.h"
#include "userspace/dataplane/dataplane.h"

#define STOP_TERM_MS 15000
#define STOP_KILL_MS 5000
#define STOP_PID_FILE_MAX 64
#define STOP_MOUNTINFO_MAX (16 * 1024 * 1024)

static int stop_wait(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, timeout_ms);
}

/* The pid that the server of this run-dir wrote, while it holds its lock on the file: 0 when none runs. */
static pid_t stop_server_pid(const struct config *config)
{
	const char *path = config_path(config, config->run_dir, "server.pid");
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_buf_ struct buf text = BUF_INIT;
	int64_t pid;

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	if (fs_read(path, STOP_PID_FILE_MAX, &text, NULL) < 0 || str_to_int64(str_trim(buf_str(&text)), &pid) < 0 ||
	    pid <= 1)
		return 0;
	return (pid_t)pid;
}

static int stop_server(const struct config *config, struct err *err)
{
	pid_t pid = stop_server_pid(config);
	_cleanup_close_ int pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	/* Asked again with the pidfd in hand: whoever it names held the lock then and still does. */
	if (pidfd < 0 || stop_server_pid(config) != pid)
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

/* "<namespace>_<name>_<uid>": a pod's folder of logs; others' files beside them stay. */
static bool stop_is_pod_log(const char *name)
{
	const char *uid = strrchr(name, '_');

	return uid && uid != strchr(name, '_') && strlen(uid + 1) == UUID_LEN;
}

static int stop_purge_logs(const char *dir, struct err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_set(err, -errno, "open %s: %s", dir, strerror(errno));
	while (r == 0 && (e = readdir(d)))
		if (stop_is_pod_log(e->d_name)) {
			_cleanup_free_ char *path = mem_printf("%s/%s", dir, e->d_name);

			r = fs_remove_tree(path, err);
		}
	closedir(d);
	return r;
}

/* Only what the node made, by name; the folder itself goes when that leaves it empty (and it is no mount point). */
static int stop_purge_dir(const char *dir, const char *const *names, struct err *err)
{
	int r = 0;

	stop_unmount(dir);
	for (; *names && r == 0; names++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, *names);

		r = fs_remove_tree(path, err);
	}
	if (r == 0 && rmdir(dir) < 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EBUSY)
		r = err_set(err, -errno, "remove %s: %s", dir, strerror(errno));
	return r;
}

static int stop_purge(const struct config *config, struct err *err)
{
	static const char *const data[] = { "db", "tls", "images", "containers", "pods", NULL };
	static const char *const run[] = { "runtime", "pods", "cgroup2", "server.pid", NULL };
	static const char *const none[] = { NULL };
	int r = dataplane_purge(config->pin_dir, err);

	if (r == 0)
		r = stop_purge_dir(config->data_dir, data, err);
	if (r == 0)
		r = stop_purge_dir(config->run_dir, run, err);
	if (r == 0)
		r = stop_purge_logs(config->log_dir, err);
	if (r == 0)
		r = stop_purge_dir(config->log_dir, none, err);
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
