/* SPDX-License-Identifier: Apache-2.0 */
/* Short processes in containers, for probes and hooks: output gathered (its beginning), a time limit. Loop thread. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define DRAIN_NS (500 * NS_PER_MS) /* for output of children that outlive the process */

struct sync_stream {
	struct loop_op op;
	struct sync *sync;
	int fd;
	char bytes[4096];
};

struct sync {
	struct list link;
	struct runtime *rt;
	struct loop *loop;
	struct loop_timer timer;
	struct sync_stream streams[2];
	struct buf output;
	struct err err;
	uint64_t exec_id;
	int64_t timeout_ns;
	int exit_code;
	bool started, exited, timed_out, finished;
	runtime_exec_sync_fn *done;
	void *arg;
};

static bool reading(const struct sync *s)
{
	return loop_op_pending(&s->streams[0].op) || loop_op_pending(&s->streams[1].op);
}

static void try_finish(struct sync *s)
{
	bool answer_now = s->exited || s->err.code;

	if (!answer_now)
		return;
	if (s->finished || s->err.code) {
		loop_cancel(s->loop, &s->streams[0].op);
		loop_cancel(s->loop, &s->streams[1].op);
	}
	/* the process may still be told as ended: wait for that, its number is ours */
	if (reading(s))
		return;
	loop_timer_cancel(s->loop, &s->timer);
	if (s->done) {
		runtime_exec_sync_fn *done = s->done;

		s->done = NULL;
		done(s->arg, s->err.code ? -1 : s->exit_code, buf_str(&s->output), s->err.code ? &s->err : NULL);
	}
	if (s->started && !s->exited)
		return;
	for (int i = 0; i < 2; i++)
		if (s->streams[i].fd >= 0)
			close(s->streams[i].fd);
	list_del(&s->link);
	buf_finish(&s->output);
	err_finish(&s->err);
	free(s);
}

void exec_sync_forget_all(struct runtime *rt)
{
	list_foreach_safe(s, &rt->syncs, struct sync, link) {
		s->done = NULL;
		s->exited = s->finished = true;
		loop_timer_cancel(s->loop, &s->timer);
		list_del(&s->link);
		try_finish(s);
	}
}

static void got(struct loop_op *op, int res, bool more)
{
	struct sync_stream *stream = container_of(op, struct sync_stream, op);
	struct sync *s = stream->sync;
	size_t room = RUNTIME_EXEC_SYNC_MAX - buf_len(&s->output);

	if (res > 0) {
		buf_add(&s->output, stream->bytes, (size_t)res < room ? (size_t)res : room);
		if (!s->finished && !s->err.code) {
			loop_read(s->loop, op, stream->fd, stream->bytes, sizeof(stream->bytes), -1, got);
			return;
		}
	}
	try_finish(s);
}

static void on_timer(struct loop_timer *timer)
{
	struct sync *s = container_of(timer, struct sync, timer);

	if (s->exited) {
		s->finished = true;
	} else {
		err_set(&s->err, -ETIMEDOUT, "command timed out after %.3gs", (double)s->timeout_ns / 1e9);
		if (s->started)
			runtime_exec_kill(s->rt, s->exec_id);
		else
			s->timed_out = true;
	}
	if (s->exited || s->started)
		try_finish(s);
}

static void on_exited(void *arg, uint64_t exec_id, int exit_code)
{
	struct sync *s = arg;

	s->exited = true;
	s->exit_code = exit_code;
	if (s->done)
		loop_timer_arm(s->loop, &s->timer, DRAIN_NS);
	try_finish(s);
}

static void on_started(void *arg, uint64_t exec_id, const struct runtime_streams *streams, const struct err *err)
{
	struct sync *s = arg;

	if (err) {
		err_copy(&s->err, err);
		try_finish(s);
		return;
	}
	s->started = true;
	s->exec_id = exec_id;
	s->streams[0].fd = streams->stdout_fd;
	s->streams[1].fd = streams->stderr_fd;
	if (s->timed_out) {
		runtime_exec_kill(s->rt, exec_id);
		try_finish(s);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (s->streams[i].fd >= 0)
			loop_read(s->loop, &s->streams[i].op, s->streams[i].fd, s->streams[i].bytes,
				  sizeof(s->streams[i].bytes), -1, got);
}

void runtime_exec_sync(struct runtime *rt, const char *container_id, const char *const *argv, int64_t timeout_ns,
		       runtime_exec_sync_fn *done, void *arg)
{
	struct sync *s = mem_new(struct sync);
	struct runtime_exec_spec spec = {
		.container_id = container_id,
		.argv = argv,
		.want_stdout = true,
		.want_stderr = true,
	};

	s->rt = rt;
	s->loop = rt->loop;
	s->timeout_ns = timeout_ns;
	s->done = done;
	s->arg = arg;
	for (int i = 0; i < 2; i++) {
		s->streams[i].sync = s;
		s->streams[i].fd = -1;
	}
	list_add_tail(&rt->syncs, &s->link);
	loop_timer_init(&s->timer, on_timer);
	if (timeout_ns > 0)
		loop_timer_arm(rt->loop, &s->timer, timeout_ns);
	runtime_exec(rt, &spec, on_started, on_exited, s);
}
