/* SPDX-License-Identifier: Apache-2.0 */
/* pods/exec and pods/attach: the bytes of a process to and from a client. What carries them is behind exec_wire.h.
 * They move by the loop's reads and writes with one buffer each way: a slow client stops the reads, a slow process
 * stops the client. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "userspace/api/meta.h"
#include "userspace/apiserver/exec_wire.h"
#include "userspace/apiserver/pod_target.h"
#include "userspace/apiserver/remote_spdy.h"
#include "userspace/base/clock.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define EXEC_BUFFER_BYTES (32 * 1024)
#define EXEC_PENDING_MAX (256 * 1024) /* queued for the client: reads of the process stop */
#define EXEC_STDIN_MAX (1024 * 1024)  /* queued for the process: reads of the client stop */
#define EXEC_ARGS_MAX 1024
#define EXEC_DRAIN_NS (1 * NS_PER_S) /* after the exit: for output that a child of it may still hold open */

struct exec_reader {
	struct loop_op op;
	struct exec *exec;
	int fd;
	enum exec_channel channel;
	char buf[EXEC_BUFFER_BYTES];
};

struct exec {
	struct apiserver *as;
	struct exec_wire *wire; /* NULL: the client has gone, or has its Status */
	bool tty, attach, started, exited, stdin_closed;
	struct arena arena; /* of the options */
	const struct object *pod;
	struct node_exec_options options;
	uint64_t id;
	int exit_code;
	struct exec_reader readers[2];
	struct loop_op stdin_op;
	int stdin_fd;
	struct buf stdin_queue;
	struct buf stdin_active; /* what a write points into: never grows meanwhile */
	struct loop_timer drain;
	int rows, cols;
	unsigned refs; /* the start and the exit that must still be heard of */
};

static void exec_maybe_free(struct exec *x)
{
	if (x->wire || x->refs || loop_op_pending(&x->readers[0].op) || loop_op_pending(&x->readers[1].op) ||
	    loop_op_pending(&x->stdin_op))
		return;
	loop_timer_cancel(x->as->loop, &x->drain);
	for (int i = 0; i < 2; i++)
		if (x->readers[i].fd >= 0)
			close(x->readers[i].fd);
	if (x->stdin_fd >= 0)
		close(x->stdin_fd);
	buf_finish(&x->stdin_queue);
	buf_finish(&x->stdin_active);
	object_unref(x->pod);
	arena_finish(&x->arena);
	free(x);
}

static void exec_send_status(struct exec *x, const struct err *err)
{
	struct exec_wire *wire = TAKE_PTR(x->wire);
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (!wire)
		return;
	if (err)
		api_status_write(&b, err);
	else
		buf_add_cstr(&b, "{\"metadata\":{},\"status\":\"Success\"}");
	wire->ops->finish(wire, buf_str(&b));
}

static void exec_send_exit(struct exec *x)
{
	_cleanup_err_ struct err err = ERR_INIT;
	char code[16];

	if (x->exit_code == 0) {
		exec_send_status(x, NULL);
		return;
	}
	snprintf(code, sizeof(code), "%d", x->exit_code);
	err_set_status(&err, -EIO, 500, "NonZeroExitCode",
		       "command terminated with non-zero exit code: command terminated with exit code %d",
		       x->exit_code);
	err_add_cause(&err, "ExitCode", NULL, "%s", code);
	exec_send_status(x, &err);
}

/* Everything the process wrote goes before its Status. */
static void exec_maybe_done(struct exec *x)
{
	bool open = x->readers[0].fd >= 0 || x->readers[1].fd >= 0;

	if (x->attach && x->started && !open)
		x->exited = true;
	if (x->exited && (!open || !x->wire))
		exec_send_exit(x);
	else if (x->exited && !loop_timer_armed(&x->drain))
		loop_timer_arm(x->as->loop, &x->drain, EXEC_DRAIN_NS);
	exec_maybe_free(x);
}

static void exec_drain_due(struct loop_timer *timer)
{
	struct exec *x = container_of(timer, struct exec, drain);

	exec_send_exit(x);
	for (int i = 0; i < 2; i++)
		loop_cancel(x->as->loop, &x->readers[i].op);
	exec_maybe_free(x);
}

static void exec_read_done(struct loop_op *op, int res, bool more);

static void exec_read(struct exec_reader *r)
{
	if (r->fd < 0 || loop_op_pending(&r->op) || !r->exec->wire)
		return;
	loop_read(r->exec->as->loop, &r->op, r->fd, r->buf, sizeof(r->buf), -1, exec_read_done);
}

static void exec_read_done(struct loop_op *op, int res, bool more)
{
	struct exec_reader *r = container_of(op, struct exec_reader, op);
	struct exec *x = r->exec;

	if (res == -EINTR || res == -EAGAIN) {
		exec_read(r);
		return;
	}
	/* A pty whose other side is closed answers EIO. */
	if (res <= 0) {
		close(r->fd);
		r->fd = -1;
		exec_maybe_done(x);
		return;
	}
	if (!x->wire) {
		exec_maybe_free(x);
		return;
	}
	x->wire->ops->send(x->wire, r->channel, str_make(r->buf, (size_t)res));
	if (x->wire && x->wire->ops->pending(x->wire) < EXEC_PENDING_MAX)
		exec_read(r);
}

void exec_drained(struct exec *x)
{
	exec_read(&x->readers[0]);
	exec_read(&x->readers[1]);
}

static void exec_stdin_done(struct loop_op *op, int res, bool more);

static void exec_stdin_pump(struct exec *x)
{
	struct str bytes;

	if (x->stdin_fd < 0 || loop_op_pending(&x->stdin_op))
		return;
	if (!buf_len(&x->stdin_active)) {
		struct buf empty = x->stdin_active;

		x->stdin_active = x->stdin_queue;
		x->stdin_queue = empty;
	}
	bytes = buf_str(&x->stdin_active);
	if (bytes.n) {
		loop_write(x->as->loop, &x->stdin_op, x->stdin_fd, bytes.p, bytes.n, -1, exec_stdin_done);
		return;
	}
	if (x->stdin_closed) {
		close(x->stdin_fd);
		x->stdin_fd = -1;
	}
}

static void exec_stdin_done(struct loop_op *op, int res, bool more)
{
	struct exec *x = container_of(op, struct exec, stdin_op);

	if (res > 0)
		buf_consume(&x->stdin_active, (size_t)res);
	if (res < 0 && res != -EAGAIN && res != -EINTR) {
		/* The process no longer reads: as with a local pipe. */
		buf_reset(&x->stdin_queue);
		buf_reset(&x->stdin_active);
		x->stdin_closed = true;
	}
	if (x->wire && buf_len(&x->stdin_queue) < EXEC_STDIN_MAX)
		x->wire->ops->pause(x->wire, false);
	exec_stdin_pump(x);
	exec_maybe_free(x);
}

void exec_resize(struct exec *x, struct str json)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v;

	if (json_parse(&arena, json, 0, &v, NULL) < 0)
		return;
	x->cols = (int)json_get_int(v, "Width", 0);
	x->rows = (int)json_get_int(v, "Height", 0);
	if (x->tty && x->readers[0].fd >= 0)
		x->as->node.resize(x->readers[0].fd, x->rows, x->cols);
}

void exec_input(struct exec *x, struct str data)
{
	if (x->stdin_closed)
		return;
	buf_add_str(&x->stdin_queue, data);
	if (buf_len(&x->stdin_queue) >= EXEC_STDIN_MAX)
		x->wire->ops->pause(x->wire, true);
	if (x->started)
		exec_stdin_pump(x);
}

void exec_input_end(struct exec *x)
{
	x->stdin_closed = true;
	if (x->started)
		exec_stdin_pump(x);
}

void exec_gone(struct exec *x)
{
	x->wire = NULL;
	if (x->started && !x->exited && !x->attach)
		x->as->node.exec_kill(x->as->node.ctx, x->id);
	loop_cancel(x->as->loop, &x->readers[0].op);
	loop_cancel(x->as->loop, &x->readers[1].op);
	loop_cancel(x->as->loop, &x->stdin_op);
	exec_maybe_free(x);
}

static void exec_started(void *arg, uint64_t id, const struct node_streams *streams, const struct err *err)
{
	struct exec *x = arg;

	if (err) {
		x->refs = 0;
		exec_send_status(x, err);
		exec_maybe_free(x);
		return;
	}
	x->id = id;
	x->started = true;
	if (x->attach)
		x->refs = 0;
	x->stdin_fd = streams->stdin_fd;
	x->readers[0].fd = streams->stdout_fd;
	x->readers[1].fd = streams->stderr_fd;
	if (!x->wire) {
		if (!x->attach)
			x->as->node.exec_kill(x->as->node.ctx, id);
		exec_maybe_free(x);
		return;
	}
	if (x->tty && x->rows > 0)
		x->as->node.resize(streams->stdout_fd, x->rows, x->cols);
	exec_read(&x->readers[0]);
	exec_read(&x->readers[1]);
	exec_stdin_pump(x);
}

static void exec_exited(void *arg, uint64_t id, int exit_code)
{
	struct exec *x = arg;

	x->exited = true;
	x->exit_code = exit_code;
	x->refs = 0;
	exec_maybe_done(x);
}

static const char *const *exec_argv(struct call *call, struct arena *arena)
{
	const char **argv = arena_new_array(arena, const char *, call->query.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < call->query.n && n < EXEC_ARGS_MAX; i++)
		if (str_is(call->query.params[i].key, "command"))
			argv[n++] = arena_strndup(arena, call->query.params[i].value.p, call->query.params[i].value.n);
	return n ? argv : NULL;
}

static struct exec *exec_create(struct call *call)
{
	struct exec *x = mem_new(struct exec);

	x->as = call->as;
	x->stdin_fd = -1;
	for (int i = 0; i < 2; i++) {
		x->readers[i].exec = x;
		x->readers[i].fd = -1;
		x->readers[i].channel = i ? EXEC_STDERR : EXEC_STDOUT;
	}
	loop_timer_init(&x->drain, exec_drain_due);
	return x;
}

/* What is asked, in the exec's own memory: a SPDY client opens its streams after the request has ended. */
static int exec_options(struct call *call, struct exec *x, struct err *err)
{
	struct node_exec_options *o = &x->options;
	struct pod_target target;
	int r = pod_target_find(call, &target, err);

	if (r < 0)
		return r;
	x->pod = object_ref(target.pod);
	o->container = arena_strdup(&x->arena, target.container);
	o->tty = x->tty = query_bool(&call->query, "tty");
	o->want_stdin = query_bool(&call->query, "stdin");
	o->want_stdout = query_bool(&call->query, "stdout");
	o->want_stderr = query_bool(&call->query, "stderr") && !o->tty;
	if (strcmp(call->route.sub->name, "exec") == 0) {
		o->argv = exec_argv(call, &x->arena);
		if (!o->argv)
			return api_err_bad_request(err, "you must specify at least one command for the container");
	}
	x->attach = !o->argv;
	if (!o->want_stdin && !o->want_stdout && !o->want_stderr)
		return api_err_bad_request(err, "you must specify at least one of stdin, stdout, stderr");
	return 0;
}

void exec_begin(struct exec *x)
{
	const struct node_ops *node = &x->as->node;

	x->refs = 1;
	node->exec(node->ctx, x->pod, &x->options, exec_started, exec_exited, x);
}

void exec_handle(struct call *call)
{
	struct exec *x = exec_create(call);
	const struct exec_wanted wanted = { .tty = query_bool(&call->query, "tty"),
					    .in = query_bool(&call->query, "stdin"),
					    .out = query_bool(&call->query, "stdout"),
					    .err = query_bool(&call->query, "stderr") };
	bool spdy = remote_spdy_wanted(call->http, NULL);
	_cleanup_err_ struct err err = ERR_INIT;
	int r = exec_options(call, x, &err);

	if (r == 0 && !spdy && !websocket_is_handshake(call->http))
		r = api_err_bad_request(&err, "Upgrade request required");
	if (r < 0)
		respond_err(call->http, &err);
	else
		x->wire = spdy ? exec_spdy_open(call, x, &wanted) : exec_websocket_open(call, x);
	/* What is refused at once frees it inside exec_begin(). */
	if (!x->wire)
		exec_maybe_free(x);
	else if (!spdy)
		exec_begin(x);
}
