/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes: the namespaces of a pod, made by a forked child and kept alive by bind mounts of their files under
 * <run_dir>/ns/<uid>/, so that no pause process is needed. Only a shared pid namespace needs a first process of its
 * own: a child that does nothing but reap. Single thread. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

static const struct {
	const char *member, *proc;
	int flag;
} kinds[] = {
	{ "net", "/proc/self/ns/net", CLONE_NEWNET },
	{ "ipc", "/proc/self/ns/ipc", CLONE_NEWIPC },
	{ "uts", "/proc/self/ns/uts", CLONE_NEWUTS },
};

struct making {
	struct job job;
	uint64_t seq;
	char *dir;
	int error_fd;
	const struct json *request; /* only in the child */
};

/* ---- in the child ---- */

static int complain(int error_fd, const char *what, int error)
{
	dprintf(error_fd, "%s: %s", what, strerror(error));
	return 1;
}

static int loopback_up(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int pin(const char *dir, const char *name, const char *proc)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, name);
	int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return mount(proc, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int set_sysctl(struct str setting)
{
	char path[256];
	struct str name, value = setting;
	int n;

	if (!str_split(&value, '=', &name) || name.n > 128)
		return -EINVAL;
	n = snprintf(path, sizeof(path), "/proc/sys/%.*s", STR_ARG(name));
	for (int i = 10; i < n; i++) /* names may use either separator */
		if (path[i] == '.')
			path[i] = '/';
	if (strstr(path, "//") || strstr(path, "/../"))
		return -EINVAL;
	_cleanup_free_ char *text = str_dup(value);

	return fs_write(path, text, NULL);
}

/* The first process of a shared pid namespace. */
static void be_init(void)
{
	sigset_t set;

	prctl(PR_SET_NAME, "k3c-init");
	for (int fd = 0; fd < 1024; fd++)
		close(fd);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	for (;;) {
		sigwaitinfo(&set, NULL);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static int pin_pid(const char *dir, int error_fd)
{
	char proc[64], text[24];
	_cleanup_free_ char *pid_path = mem_printf("%s/init", dir);
	FILE *f;
	pid_t pid;
	int r;

	if (unshare(CLONE_NEWPID) < 0)
		return complain(error_fd, "pid namespace", errno);
	pid = fork();
	if (pid < 0)
		return complain(error_fd, "pid namespace", errno);
	if (pid == 0)
		be_init();
	snprintf(proc, sizeof(proc), "/proc/%d/ns/pid", pid);
	r = pin(dir, "pid", proc);
	if (r < 0)
		return complain(error_fd, "pin pid namespace", -r);
	snprintf(text, sizeof(text), "%d\n", pid);
	f = fopen(pid_path, "we");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		return complain(error_fd, "pid namespace", EIO);
	return 0;
}

static int child(void *arg, int error_fd)
{
	struct making *m = arg;
	struct str hostname = json_get_str(m->request, "hostname");
	int flags = 0, r;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		flags |= json_get_bool(m->request, kinds[i].member, false) ? kinds[i].flag : 0;
	if (flags && unshare(flags) < 0)
		return complain(error_fd, "new namespaces", errno);
	if ((flags & CLONE_NEWUTS) && hostname.n && sethostname(hostname.p, hostname.n) < 0)
		return complain(error_fd, "hostname", errno);
	if (flags & CLONE_NEWNET) {
		r = loopback_up();
		if (r < 0)
			return complain(error_fd, "loopback", -r);
	}
	json_foreach(v, json_get(m->request, "sysctls")) {
		r = set_sysctl(json_str(v));
		if (r < 0)
			return complain(error_fd, "sysctl", -r);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!(flags & kinds[i].flag))
			continue;
		r = pin(m->dir, kinds[i].member, kinds[i].proc);
		if (r < 0)
			return complain(error_fd, "pin namespace", -r);
	}
	return json_get_bool(m->request, "pid", false) ? pin_pid(m->dir, error_fd) : 0;
}

/* ---- in the supervisor ---- */

static char *sandbox_dir(struct supervisor *s, struct str uid)
{
	if (!uid.n || uid.n > 128 || uid.p[0] == '.' || str_find(uid, '/') >= 0)
		return NULL;
	return mem_printf("%s/ns/%.*s", s->run_dir, STR_ARG(uid));
}

static void remove_pins(const char *dir)
{
	static const char *const pins[] = { "net", "ipc", "uts", "pid" };
	_cleanup_free_ char *init = mem_printf("%s/init", dir);
	pid_t pid = read_pid_file(init);

	if (pid > 1)
		kill(pid, SIGKILL);
	for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, pins[i]);

		while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
			;
	}
	fs_remove_tree(dir, NULL);
}

static void making_done(struct supervisor *s, struct job *job, int status)
{
	struct making *m = container_of(job, struct making, job);
	char text[256] = "the helper died";
	ssize_t n = read(m->error_fd, text, sizeof(text) - 1);
	bool fine = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (n > 0)
		text[n] = 0;
	if (!fine)
		remove_pins(m->dir);
	supervisor_reply(s, m->seq, fine ? 0 : -EIO, text);
	close(m->error_fd);
	free(m->dir);
	free(m);
}

void sandbox_create(struct supervisor *s, uint64_t seq, const struct json *request)
{
	_cleanup_free_ char *dir = sandbox_dir(s, json_get_str(request, "uid")), *marker = NULL;
	struct making *m;
	int r;

	if (!dir) {
		supervisor_reply(s, seq, -EINVAL, "bad pod uid");
		return;
	}
	r = fs_mkdirs(dir, 0700, NULL);
	if (r < 0) {
		supervisor_reply(s, seq, r, NULL);
		return;
	}
	m = mem_new(struct making);
	m->seq = seq;
	m->dir = TAKE_PTR(dir);
	m->request = request;
	m->job.done = making_done;
	r = job_fork(s, &m->job, child, m, &m->error_fd);
	m->request = NULL;
	if (r < 0) {
		supervisor_reply(s, seq, r, NULL);
		free(m->dir);
		free(m);
	}
}

void sandbox_remove(struct supervisor *s, uint64_t seq, const struct json *request)
{
	_cleanup_free_ char *dir = sandbox_dir(s, json_get_str(request, "uid"));

	if (dir)
		remove_pins(dir);
	supervisor_reply(s, seq, dir ? 0 : -EINVAL, "bad pod uid");
}
