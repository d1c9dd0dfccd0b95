/* SPDX-License-Identifier: Apache-2.0 */
/* Children of the supervisor: spawning OCI runtimes, forking helpers, reaping everything. Single thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define LOG_TAIL_MAX (64u << 10)

static char *const child_env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
				   NULL };

static void job_started(struct supervisor *s, struct job *job, pid_t pid)
{
	job->pid = pid;
	job->started_ns = clock_monotonic_ns();
	list_add_tail(&s->jobs, &job->link);
}

#define OOM_SCORE_PATH "/proc/self/oom_score_adj"
#define OOM_SCORE_TEXT_MAX 16

/* Ours becomes the child's at the fork inside posix_spawn, which returns after the child's exec. Refusals (no
 * CAP_SYS_RESOURCE) leave what is there. Returns the score that was. */
static int64_t oom_score_swap(int64_t adj)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char next[OOM_SCORE_TEXT_MAX];
	int64_t before = 0;

	if (fs_read(OOM_SCORE_PATH, OOM_SCORE_TEXT_MAX, &text, NULL) >= 0)
		str_to_int64(str_trim(buf_str(&text)), &before);
	if (before != adj) {
		snprintf(next, sizeof(next), "%lld", (long long)adj);
		fs_write(OOM_SCORE_PATH, next, NULL);
	}
	return before;
}

int job_spawn(struct supervisor *s, struct job *job, char *const *argv, const int stdio[3], int oom_score_adj)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int64_t now = clock_monotonic_ns(), own_score;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, stdio[i], i);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	own_score = oom_score_swap(oom_score_adj);
	r = posix_spawnp(&pid, argv[0], &actions, &attr, argv, child_env);
	oom_score_swap(own_score);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		return -r;
	job_started(s, job, pid);
	job->started_ns = now;
	return 0;
}

int job_fork(struct supervisor *s, struct job *job, int (*child)(void *arg, int error_fd), void *arg, int *ret_error_fd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid == 0)
		_exit(child(arg, fds[1]));
	close(fds[1]);
	*ret_error_fd = fds[0];
	job_started(s, job, pid);
	return 0;
}

/* ---- reaping ---- */

static void orphan_keep(struct supervisor *s, pid_t pid, int status)
{
	s->orphans[s->next_orphan++ % SUPERVISOR_ORPHANS_MAX] =
		(struct orphan){ .pid = pid, .status = status, .at_ns = clock_monotonic_ns() };
}

bool orphan_take(struct supervisor *s, pid_t pid, int64_t since_ns, int *ret_status)
{
	for (unsigned i = 0; i < SUPERVISOR_ORPHANS_MAX; i++)
		if (s->orphans[i].pid == pid && s->orphans[i].at_ns >= since_ns) {
			*ret_status = s->orphans[i].status;
			s->orphans[i].pid = 0;
			return true;
		}
	return false;
}

static void reaped(struct supervisor *s, pid_t pid, int status)
{
	list_foreach(job, &s->jobs, struct job, link)
		if (job->pid == pid) {
			list_del(&job->link);
			job->pid = 0;
			job->done(s, job, status);
			return;
		}
	list_foreach(c, &s->containers, struct container, link)
		if (c->state == STATE_RUNNING && c->pid == pid) {
			container_exited(s, c, status);
			return;
		}
	list_foreach(e, &s->execs, struct exec, link)
		if (e->pid == pid) {
			exec_exited(s, e, status);
			return;
		}
	/* its runtime has not told us the pid yet, or nobody cares */
	orphan_keep(s, pid, status);
}

void job_reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		reaped(s, pid, status);
}

/* ---- what runtimes leave behind ---- */

char *runtime_log_message(const char *path, const char *otherwise)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line, message = str_of(otherwise);

	if (fs_read(path, LOG_TAIL_MAX, &text, NULL) < 0)
		return str_dup(message);
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		struct json *record;

		if (line.n && json_parse(&arena, line, 0, &record, NULL) >= 0 && json_get_str(record, "msg").n &&
		    !str_is(json_get_str(record, "level"), "warning"))
			message = json_get_str(record, "msg");
	}
	return str_dup(message);
}

pid_t read_pid_file(const char *path)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	int64_t pid;

	if (fs_read(path, 64, &text, NULL) < 0 || str_to_int64(str_trim(buf_str(&text)), &pid) < 0)
		return 0;
	return (pid_t)pid;
}

uint64_t process_start_time(pid_t pid)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[64];
	const char *at;
	uint64_t start = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (fs_read(path, 4096, &text, NULL) < 0)
		return 0;
	at = strrchr(buf_cstr(&text), ')'); /* the name may hold anything */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		sscanf(at, " %llu", (unsigned long long *)&start);
	return start;
}

/* ---- terminals ---- */

int console_listen(struct supervisor *s, char **ret_path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_free_ char *dir = mem_printf("%s/tty", s->run_dir);
	int fd;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%llu", dir,
			     (unsigned long long)++s->next_name) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	unlink(addr.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret_path = mem_strdup(addr.sun_path);
	return fd;
}

/* The runtime has ended, so what it had to say waits in the socket. Returns the terminal's master. */
int console_take(int listen_fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char name[256];
	struct iovec iov = { name, sizeof(name) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	struct cmsghdr *c;
	int conn = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), fd = -ENOENT;

	if (conn < 0)
		return -errno;
	if (recvmsg(conn, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) >= 0 && (c = CMSG_FIRSTHDR(&msg)) &&
	    c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(c), sizeof(int));
	close(conn);
	return fd;
}
