/* SPDX-License-Identifier: Apache-2.0 */
/* Processes run inside containers for probes, hooks and kubectl exec. The client gets the ends of the pipes (or the
 * terminal); `exec --detach` makes the process our child, so its exit is heard here. Single thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/mem.h"

static const char *const names[PROTOCOL_FDS_MAX] = { "stdin", "stdout", "stderr" };

static void exec_free(struct supervisor *s, struct exec *e)
{
	const char *const files[] = { e->console_path, e->pid_path, e->log_path, e->process_path };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (files[i])
			unlink(files[i]);
	for (int i = 0; i < PROTOCOL_FDS_MAX; i++)
		if (e->fds[i] >= 0)
			close(e->fds[i]);
	if (e->console_fd >= 0)
		close(e->console_fd);
	list_del(&e->link);
	s->n_execs--;
	free(e->console_path);
	free(e->pid_path);
	free(e->log_path);
	free(e->process_path);
	free(e);
}

void exec_exited(struct supervisor *s, struct exec *e, int status)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);

	buf_printf(&b, "{\"event\":\"exec-exited\",\"exec\":%llu,\"code\":%d}", (unsigned long long)e->number, code);
	supervisor_send(s, &b, NULL, 0);
	exec_free(s, e);
}

static void exec_started(struct supervisor *s, struct exec *e)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int fds[PROTOCOL_FDS_MAX];
	size_t n = 0;

	if (e->tty) {
		e->fds[0] = console_take(e->console_fd);
		if (e->fds[0] >= 0)
			e->fds[1] = fcntl(e->fds[0], F_DUPFD_CLOEXEC, 3);
	}
	buf_printf(&b, "{\"seq\":%llu,\"code\":0", (unsigned long long)e->seq);
	for (int i = 0; i < PROTOCOL_FDS_MAX; i++)
		if (e->fds[i] >= 0) {
			fds[n++] = e->fds[i];
			buf_printf(&b, ",\"%s\":true", names[i]);
		}
	buf_add_char(&b, '}');
	supervisor_send(s, &b, fds, n);
	for (int i = 0; i < PROTOCOL_FDS_MAX; i++) {
		if (e->fds[i] >= 0)
			close(e->fds[i]);
		e->fds[i] = -1;
	}
}

static void spawn_done(struct supervisor *s, struct job *job, int status)
{
	struct exec *e = container_of(job, struct exec, job);
	_cleanup_free_ char *message = NULL;
	int ended;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		e->pid = read_pid_file(e->pid_path);
	if (!e->pid) {
		message = runtime_log_message(e->log_path, "the OCI runtime failed and does not say why");
		supervisor_reply(s, e->seq, -ENOEXEC, message);
		exec_free(s, e);
		return;
	}
	exec_started(s, e);
	if (orphan_take(s, e->pid, job->started_ns, &ended))
		exec_exited(s, e, ended);
	else if (e->killed)
		kill(e->pid, SIGKILL);
}

static int make_stdio(struct exec *e, const struct json *request, int stdio[3])
{
	int fds[2];

	for (int i = 0; i < 3; i++) {
		if (e->tty || !json_get_bool(request, names[i], false)) {
			stdio[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
			continue;
		}
		if (pipe2(fds, O_CLOEXEC) < 0)
			stdio[i] = -1;
		else
			stdio[i] = fds[i ? 1 : 0], e->fds[i] = fds[i ? 0 : 1];
	}
	return stdio[0] >= 0 && stdio[1] >= 0 && stdio[2] >= 0 ? 0 : -EMFILE;
}

static int spawn_runtime(struct supervisor *s, struct exec *e, const struct container *c, const int stdio[3])
{
	_cleanup_free_ char *root = mem_printf("%s/oci", s->run_dir);
	char *argv[24];
	size_t n = 0;

	argv[n++] = s->oci;
	argv[n++] = "--root";
	argv[n++] = root;
	argv[n++] = "--log";
	argv[n++] = e->log_path;
	argv[n++] = "--log-format";
	argv[n++] = "json";
	argv[n++] = "exec";
	argv[n++] = "--detach";
	argv[n++] = "--pid-file";
	argv[n++] = e->pid_path;
	argv[n++] = "--process";
	argv[n++] = e->process_path;
	if (e->tty) {
		argv[n++] = "--console-socket";
		argv[n++] = e->console_path;
	}
	argv[n++] = c->id;
	argv[n] = NULL;
	e->job.done = spawn_done;
	return job_spawn(s, &e->job, argv, stdio, c->oom_score_adj);
}

void exec_start(struct supervisor *s, uint64_t seq, const struct json *request)
{
	struct container *c = container_find(s, json_get_str(request, "id"));
	int stdio[3] = { -1, -1, -1 }, r;
	struct exec *e;

	if (!c || c->state != STATE_RUNNING || s->n_execs >= SUPERVISOR_EXECS_MAX) {
		supervisor_reply(s, seq, c ? -ESRCH : -ENOENT,
				 !c                          ? "no such container"
				 : c->state != STATE_RUNNING ? "container is not running"
							     : "too many processes are being run in containers");
		return;
	}
	e = mem_new(struct exec);
	e->number = (uint64_t)json_get_int(request, "exec", 0);
	e->seq = seq;
	e->tty = json_get_bool(request, "tty", false);
	e->fds[0] = e->fds[1] = e->fds[2] = e->console_fd = -1;
	e->process_path = str_dup(json_get_str(request, "process"));
	e->pid_path = mem_printf("%s/exec-%llu.pid", c->bundle, (unsigned long long)e->number);
	e->log_path = mem_printf("%s/exec-%llu.log", c->bundle, (unsigned long long)e->number);
	list_init(&e->job.link);
	list_add_tail(&s->execs, &e->link);
	s->n_execs++;
	r = make_stdio(e, request, stdio);
	if (r >= 0 && e->tty) {
		e->console_fd = console_listen(s, &e->console_path);
		r = e->console_fd < 0 ? e->console_fd : 0;
	}
	if (r >= 0)
		r = spawn_runtime(s, e, c, stdio);
	for (int i = 0; i < 3; i++)
		if (stdio[i] >= 0)
			close(stdio[i]);
	if (r < 0) {
		supervisor_reply(s, seq, r, NULL);
		exec_free(s, e);
	}
}

static void kill_one(struct exec *e)
{
	e->killed = true;
	if (e->pid)
		kill(e->pid, SIGKILL);
}

void exec_kill(struct supervisor *s, uint64_t number)
{
	list_foreach(e, &s->execs, struct exec, link)
		if (e->number == number)
			kill_one(e);
}

void exec_kill_all(struct supervisor *s)
{
	list_foreach(e, &s->execs, struct exec, link)
		kill_one(e);
}
