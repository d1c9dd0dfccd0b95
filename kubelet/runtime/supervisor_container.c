/* SPDX-License-Identifier: Apache-2.0 */
/* One container's way: created (the bundle is there) -> starting (the OCI runtime is at work) -> running -> exited.
 * `run --detach` is one runtime process per start; the container's first process then becomes our child, because
 * we are the subreaper. Its state folder and groups are removed by hand, sparing a `delete`. Single thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup.h"
#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define EXIT_START_FAILED 128

struct container *container_find(struct supervisor *s, struct str id)
{
	list_foreach(c, &s->containers, struct container, link)
		if (str_is(id, c->id))
			return c;
	return NULL;
}

void container_announce(struct supervisor *s, const struct container *c, const char *event)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_printf(&b, "{\"event\":\"%s\",", event);
	record_describe(c, &b);
	buf_add_char(&b, '}');
	supervisor_send(s, &b, NULL, 0);
}

/* ---- created ---- */

void container_create(struct supervisor *s, uint64_t seq, const struct json *r)
{
	struct container *c;

	if (s->n_containers >= SUPERVISOR_CONTAINERS_MAX) {
		supervisor_reply(s, seq, -ENOSPC, "too many containers on this host");
		return;
	}
	if (container_find(s, json_get_str(r, "id"))) {
		supervisor_reply(s, seq, -EEXIST, "container exists");
		return;
	}
	c = mem_new(struct container);
	c->id = str_dup(json_get_str(r, "id"));
	c->pod_uid = str_dup(json_get_str(r, "pod_uid"));
	c->name = str_dup(json_get_str(r, "name"));
	c->annotations = str_dup(json_get_str(r, "annotations"));
	c->oom_file = str_dup(json_get_str(r, "oom_file"));
	c->log.path = str_dup(json_get_str(r, "log_path"));
	c->bundle = mem_printf("%s/containers/%s", s->run_dir, c->id);
	c->attempt = (unsigned)json_get_int(r, "attempt", 0);
	c->oom_score_adj = (int)json_get_int(r, "oom_score_adj", 0);
	c->tty = json_get_bool(r, "tty", false);
	c->stdin_open = json_get_bool(r, "stdin_open", false);
	c->stdin_once = json_get_bool(r, "stdin_once", false);
	c->created_ns = clock_real_ns();
	c->log.fd = c->out.source.fd = c->err.source.fd = c->stdin_fd = c->console_fd = -1;
	memset(c->attached, 0xff, sizeof(c->attached));
	list_init(&c->job.link);
	list_add_tail(&s->containers, &c->link);
	s->n_containers++;
	record_write(c);
	supervisor_reply(s, seq, 0, NULL);
}

void container_free(struct supervisor *s, struct container *c)
{
	_cleanup_free_ char *state = mem_printf("%s/oci/%s", s->run_dir, c->id);

	fs_remove_tree(state, NULL); /* the OCI runtime's own folder */
	list_del(&c->link);
	s->n_containers--;
	supervisor_unwatch(s, &c->out.source);
	supervisor_unwatch(s, &c->err.source);
	buf_finish(&c->out.pending);
	buf_finish(&c->err.pending);
	log_file_close(c);
	if (c->stdin_fd >= 0)
		close(c->stdin_fd);
	free(c->id);
	free(c->pod_uid);
	free(c->name);
	free(c->annotations);
	free(c->bundle);
	free(c->oom_file);
	free(c->log.path);
	free(c->console_path);
	free(c);
}

/* ---- starting ---- */

static void stream_open(struct supervisor *s, struct container *c, struct log_stream *stream, const char *name, int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	stream->container = c;
	stream->name = name;
	stream->source.fd = fd;
	stream->source.ready = log_stream_ready;
	supervisor_watch(s, &stream->source, EPOLLIN);
}

static void console_close(struct container *c)
{
	if (c->console_fd < 0)
		return;
	close(c->console_fd);
	unlink(c->console_path);
	free(c->console_path);
	c->console_path = NULL;
	c->console_fd = -1;
}

static void close_streams(struct supervisor *s, struct container *c)
{
	log_stream_finish(s, &c->out);
	log_stream_finish(s, &c->err);
	log_file_close(c);
	console_close(c);
	if (c->stdin_fd >= 0)
		close(c->stdin_fd);
	c->stdin_fd = -1;
	for (int i = 0; i < SUPERVISOR_ATTACH_MAX; i++)
		for (int k = 0; k < 2; k++)
			if (c->attached[i][k] >= 0) {
				close(c->attached[i][k]);
				c->attached[i][k] = -1;
			}
}

static void start_failed(struct supervisor *s, struct container *c, int code, const char *message)
{
	close_streams(s, c);
	c->state = STATE_EXITED;
	c->exit_code = EXIT_START_FAILED;
	c->finished_ns = clock_real_ns();
	c->acked = true; /* the reply says it */
	record_write(c);
	supervisor_reply(s, c->start_seq, code, message);
	c->start_seq = 0;
	if (c->remove_seq)
		container_remove(s, c->remove_seq, c);
}

static void start_done(struct supervisor *s, struct job *job, int status)
{
	struct container *c = container_of(job, struct container, job);
	_cleanup_free_ char *pid_path = mem_printf("%s/pid", c->bundle), *log_path = mem_printf("%s/log", c->bundle);
	_cleanup_free_ char *message = NULL;
	int ended;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		c->pid = read_pid_file(pid_path);
	if (!c->pid) {
		message = runtime_log_message(log_path, "the OCI runtime failed and does not say why");
		start_failed(s, c, -ENOEXEC, message);
		return;
	}
	if (c->tty) {
		int master = console_take(c->console_fd);

		console_close(c);
		if (master >= 0) {
			c->stdin_fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
			stream_open(s, c, &c->out, "stdout", master);
		}
	}
	c->pid_start = process_start_time(c->pid);
	c->state = STATE_RUNNING;
	c->started_ns = clock_real_ns();
	record_write(c);
	container_announce(s, c, "started");
	supervisor_reply(s, c->start_seq, 0, NULL);
	c->start_seq = 0;
	if (orphan_take(s, c->pid, job->started_ns, &ended))
		container_exited(s, c, ended);
	else if (c->remove_seq || c->pending_signal)
		kill(c->pid, c->remove_seq ? SIGKILL : c->pending_signal);
}

/* stdio of the container: [0..2] for the child, `ours` what we keep (-1: none) */
static int make_stdio(struct container *c, int stdio[3], int ours[3])
{
	int fds[2];

	for (int i = 0; i < 3; i++) {
		bool piped = !c->tty && (i > 0 || c->stdin_open);

		ours[i] = -1;
		if (!piped) {
			stdio[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
			continue;
		}
		if (pipe2(fds, O_CLOEXEC) < 0)
			stdio[i] = -1;
		else
			stdio[i] = fds[i ? 1 : 0], ours[i] = fds[i ? 0 : 1];
	}
	return stdio[0] >= 0 && stdio[1] >= 0 && stdio[2] >= 0 ? 0 : -EMFILE;
}

static int spawn_runtime(struct supervisor *s, struct container *c, const int stdio[3])
{
	_cleanup_free_ char *root = mem_printf("%s/oci", s->run_dir), *pid = mem_printf("%s/pid", c->bundle);
	_cleanup_free_ char *log = mem_printf("%s/log", c->bundle);
	char *argv[24];
	size_t n = 0;

	argv[n++] = s->oci;
	argv[n++] = "--root";
	argv[n++] = root;
	argv[n++] = "--log";
	argv[n++] = log;
	argv[n++] = "--log-format";
	argv[n++] = "json";
	argv[n++] = "run";
	argv[n++] = "--detach";
	argv[n++] = "--pid-file";
	argv[n++] = pid;
	argv[n++] = "--bundle";
	argv[n++] = c->bundle;
	if (c->tty) {
		argv[n++] = "--console-socket";
		argv[n++] = c->console_path;
	}
	argv[n++] = c->id;
	argv[n] = NULL;
	c->job.done = start_done;
	return job_spawn(s, &c->job, argv, stdio, c->oom_score_adj);
}

void container_start(struct supervisor *s, uint64_t seq, struct container *c)
{
	int stdio[3], ours[3], r;

	if (c->state != STATE_CREATED || c->remove_seq) {
		supervisor_reply(s, seq, -EALREADY, "container was started before");
		return;
	}
	c->start_seq = seq;
	c->state = STATE_STARTING;
	log_file_open(c);
	r = make_stdio(c, stdio, ours);
	if (r >= 0 && c->tty) {
		c->console_fd = console_listen(s, &c->console_path);
		r = c->console_fd < 0 ? c->console_fd : 0;
	}
	if (r >= 0)
		r = spawn_runtime(s, c, stdio);
	for (int i = 0; i < 3; i++)
		if (stdio[i] >= 0)
			close(stdio[i]);
	c->stdin_fd = ours[0];
	if (ours[1] >= 0)
		stream_open(s, c, &c->out, "stdout", ours[1]);
	if (ours[2] >= 0)
		stream_open(s, c, &c->err, "stderr", ours[2]);
	if (r < 0) {
		_cleanup_free_ char *text = mem_printf("cannot run %s: %s", s->oci, strerror(-r));

		start_failed(s, c, r, text);
	}
}

/* ---- the end ---- */

void container_exited(struct supervisor *s, struct container *c, int status)
{
	close_streams(s, c);
	c->state = STATE_EXITED;
	c->finished_ns = clock_real_ns();
	c->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	c->exit_code = WIFSIGNALED(status) ? 128 + c->signal : WEXITSTATUS(status);
	c->oom_killed = c->oom_file[0] && cgroup_oom_kills(c->oom_file) > 0;
	record_write(c);
	container_announce(s, c, "exited");
	if (c->remove_seq)
		container_remove(s, c->remove_seq, c);
}

void container_signal(struct supervisor *s, uint64_t seq, struct container *c, int signo)
{
	int r = 0;

	if (signo < 0 || signo > SIGRTMAX)
		r = -EINVAL;
	else if (c->state == STATE_STARTING)
		c->pending_signal = signo;
	else if (c->state != STATE_RUNNING)
		r = -ESRCH;
	else if (kill(c->pid, signo) < 0)
		r = -errno;
	supervisor_reply(s, seq, r, NULL);
}

/* Answers when it is gone; called again at each step on the way. */
void container_remove(struct supervisor *s, uint64_t seq, struct container *c)
{
	/* who asked before may be a server that is no more: the newest is told */
	if (c->remove_seq && c->remove_seq != seq)
		supervisor_reply(s, c->remove_seq, -EALREADY, "container is being removed");
	c->remove_seq = seq;
	if (c->state == STATE_RUNNING) {
		kill(c->pid, SIGKILL);
		return;
	}
	if (c->state == STATE_STARTING)
		return;
	container_free(s, c);
	supervisor_reply(s, seq, 0, NULL);
}

/* ---- listeners ---- */

static int free_slot(const struct container *c)
{
	for (int i = 0; i < SUPERVISOR_ATTACH_MAX; i++)
		if (c->attached[i][0] < 0 && c->attached[i][1] < 0)
			return i;
	return -1;
}

void container_attach(struct supervisor *s, uint64_t seq, struct container *c, const struct json *request)
{
	static const char *const names[] = { "stdin", "stdout", "stderr" };
	_cleanup_buf_ struct buf b = BUF_INIT;
	int fds[PROTOCOL_FDS_MAX], slot = free_slot(c);
	size_t n = 0;

	if (c->state != STATE_RUNNING || slot < 0) {
		supervisor_reply(s, seq, slot < 0 ? -EBUSY : -ESRCH,
				 slot < 0 ? "too many are attached" : "container is not running");
		return;
	}
	buf_printf(&b, "{\"seq\":%llu,\"code\":0", (unsigned long long)seq);
	for (int i = 0; i < 3; i++) {
		int pair[2];

		if (!json_get_bool(request, names[i], false) || (i == 2 && c->tty))
			continue;
		if (i == 0) {
			if (c->stdin_fd < 0)
				continue;
			fds[n++] = fcntl(c->stdin_fd, F_DUPFD_CLOEXEC, 3);
		} else {
			if (pipe2(pair, O_CLOEXEC) < 0)
				continue;
			fcntl(pair[1], F_SETFL, O_NONBLOCK);
			c->attached[slot][i - 1] = pair[1];
			fds[n++] = pair[0];
		}
		buf_printf(&b, ",\"%s\":true", names[i]);
	}
	buf_add_char(&b, '}');
	/* stdinOnce: the first listener's end is the container's end of input */
	if (c->stdin_once && !c->tty && c->stdin_fd >= 0) {
		close(c->stdin_fd);
		c->stdin_fd = -1;
	}
	supervisor_send(s, &b, fds, n);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}
