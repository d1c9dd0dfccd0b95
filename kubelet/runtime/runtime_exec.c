/* SPDX-License-Identifier: Apache-2.0 */
/* Processes run inside containers: streaming (kubectl exec) and short (probes, hooks), and listening to a
 * container's own streams. Loop thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

struct exec_op {
	struct list link;
	struct request request;
	uint64_t number;
	bool started;
	runtime_exec_started_fn *on_started;
	runtime_exec_exited_fn *on_exited;
	void *arg;
};

void runtime_resize(int pty_fd, int rows, int cols)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	if (rows > 0 && cols > 0)
		ioctl(pty_fd, TIOCSWINSZ, &size);
}

static void exec_free(struct exec_op *op)
{
	list_del(&op->link);
	free(op);
}

/* Descriptors come in the order of the members that the reply says are there. */
static void take_streams(const struct json *reply, const int *fds, size_t n, struct runtime_streams *ret)
{
	static const char *const names[] = { "stdin", "stdout", "stderr" };
	int *const to[] = { &ret->stdin_fd, &ret->stdout_fd, &ret->stderr_fd };
	size_t at = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		*to[i] = -1;
		if (json_get_bool(reply, names[i], false) && at < n)
			*to[i] = fds[at++];
	}
	while (at < n)
		close(fds[at++]);
}

static void started(struct runtime *rt, struct request *request, const struct json *reply, const int *fds, size_t n_fds,
		    const struct err *err)
{
	struct exec_op *op = container_of(request, struct exec_op, request);
	struct runtime_streams streams = { -1, -1, -1 };

	if (rt->stopping || err || !reply) {
		if (!rt->stopping)
			op->on_started(op->arg, op->number, NULL, err);
		exec_free(op);
		return;
	}
	take_streams(reply, fds, n_fds, &streams);
	op->started = true;
	op->on_started(op->arg, op->number, &streams, NULL);
}

void exec_on_event(struct runtime *rt, const struct json *event)
{
	uint64_t number = (uint64_t)json_get_int(event, "exec", 0);

	list_foreach(op, &rt->execs, struct exec_op, link) {
		runtime_exec_exited_fn *fn = op->on_exited;
		void *arg = op->arg;

		if (op->number != number || !op->started)
			continue;
		exec_free(op);
		fn(arg, number, (int)json_get_int(event, "code", -1));
		return;
	}
}

void exec_all_lost(struct runtime *rt)
{
	while (!list_empty(&rt->execs)) {
		struct exec_op *op = list_first(&rt->execs, struct exec_op, link);
		struct exec_op copy = *op;

		exec_free(op);
		if (copy.started && !rt->stopping)
			copy.on_exited(copy.arg, copy.number, 137);
	}
}

void exec_forget_all(struct runtime *rt)
{
	while (!list_empty(&rt->execs))
		exec_free(list_first(&rt->execs, struct exec_op, link));
}

static int write_process(struct runtime *rt, const struct runtime_exec_spec *spec, const char *path, struct err *err)
{
	_cleanup_free_ char *bundle = runtime_bundle_dir(rt, spec->container_id);
	_cleanup_free_ char *config_path = mem_printf("%s/config.json", bundle);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *config;
	struct str out;
	FILE *f;
	bool bad;

	if (fs_read(config_path, BUNDLE_CONFIG_MAX, &text, NULL) < 0 ||
	    json_parse(&arena, buf_str(&text), 0, &config, NULL) < 0)
		return err_set(err, -ENOENT, "container %s is not there", spec->container_id);
	out = json_text(&arena, bundle_exec_process(&arena, config, spec));
	f = fopen(path, "we");
	bad = !f || fwrite(out.p, 1, out.n, f) != out.n;
	if (f)
		bad |= fclose(f) != 0;
	return bad ? err_set(err, -EIO, "%s: cannot write", path) : 0;
}

struct refused {
	struct runtime_work work;
	struct exec_op *op;
	struct err err;
};

static void refused_run(struct runtime_work *work)
{
}

static void refused_done(struct runtime_work *work)
{
	struct refused *refused = container_of(work, struct refused, work);

	if (!work->rt->stopping)
		refused->op->on_started(refused->op->arg, refused->op->number, NULL, &refused->err);
	free(refused->op);
	err_finish(&refused->err);
	free(refused);
}

/* Callbacks never run inside the call. */
static void refuse_later(struct runtime *rt, struct exec_op *op, struct err *err)
{
	struct refused *refused = mem_new(struct refused);

	list_del(&op->link);
	refused->op = op;
	refused->err = *err;
	*err = ERR_INIT;
	refused->work.run = refused_run;
	refused->work.done = refused_done;
	runtime_work_submit(rt, &refused->work);
}

static void add_flags(struct buf *b, const struct runtime_exec_spec *spec)
{
	buf_printf(b, ",\"tty\":%s,\"stdin\":%s,\"stdout\":%s,\"stderr\":%s", spec->tty ? "true" : "false",
		   spec->want_stdin ? "true" : "false", spec->want_stdout ? "true" : "false",
		   spec->want_stderr ? "true" : "false");
}

void runtime_exec(struct runtime *rt, const struct runtime_exec_spec *spec, runtime_exec_started_fn *on_started,
		  runtime_exec_exited_fn *on_exited, void *arg)
{
	struct exec_op *op = mem_new(struct exec_op);
	_cleanup_free_ char *path = NULL;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	op->on_started = on_started;
	op->on_exited = on_exited;
	op->arg = arg;
	if (!rt->next_exec)
		rt->next_exec = (uint64_t)getpid() << 24; /* not those of a server before us */
	op->number = ++rt->next_exec;
	list_add_tail(&rt->execs, &op->link);
	path = mem_printf("%s/containers/%s/exec-%llu.json", rt->run_dir, spec->container_id,
			  (unsigned long long)op->number);
	if (write_process(rt, spec, path, &err) < 0) {
		refuse_later(rt, op, &err);
		return;
	}
	buf_printf(&b, "\"op\":\"exec\",\"exec\":%llu,\"id\":\"%s\",\"process\":", (unsigned long long)op->number,
		   spec->container_id);
	json_write_str(&b, str_of(path));
	add_flags(&b, spec);
	buf_add_char(&b, '}');
	client_request(rt, &op->request, started, &b);
}

void runtime_exec_kill(struct runtime *rt, uint64_t exec_id)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_printf(&b, "\"op\":\"exec-kill\",\"exec\":%llu}", (unsigned long long)exec_id);
	client_tell(rt, &b);
}

/* ---- attach ---- */

static void attached(struct runtime *rt, struct request *request, const struct json *reply, const int *fds,
		     size_t n_fds, const struct err *err)
{
	struct exec_op *op = container_of(request, struct exec_op, request);
	struct runtime_streams streams = { -1, -1, -1 };
	struct exec_op copy = *op;

	exec_free(op);
	if (rt->stopping)
		return;
	if (reply && !err)
		take_streams(reply, fds, n_fds, &streams);
	copy.on_started(copy.arg, 0, reply && !err ? &streams : NULL, err);
}

void runtime_attach(struct runtime *rt, const struct runtime_exec_spec *spec, runtime_exec_started_fn *on_started,
		    void *arg)
{
	struct exec_op *op = mem_new(struct exec_op);
	_cleanup_buf_ struct buf b = BUF_INIT;

	op->on_started = on_started;
	op->arg = arg;
	list_add_tail(&rt->execs, &op->link);
	buf_printf(&b, "\"op\":\"attach\",\"id\":\"%s\"", spec->container_id);
	add_flags(&b, spec);
	buf_add_char(&b, '}');
	client_request(rt, &op->request, attached, &b);
}
