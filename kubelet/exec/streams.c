/* SPDX-License-Identifier: Apache-2.0 */
/* Exec in a pod's container, and where its log is. See kubelet.h. Loop thread. */
#include "userspace/registry/node_ops.h"

#include <errno.h>

#include "kubelet/pods/worker.h"

static int no_container(struct err *err, const struct object *pod, const char *container)
{
	return err_set_status(err, -ENOENT, 400, "BadRequest", "container %s is not valid for pod %.*s", container,
			      STR_ARG(pod->name));
}

/* The pod's worker and container; those of an object that is no longer (or not yet) run here: an error. */
static int find(struct kubelet *kl, const struct object *pod, const char *container, struct pod_container **ret,
		struct err *err)
{
	struct pod_worker *w = map_get(&kl->workers, pod->uid);
	struct pod_container *c;

	if (!w)
		return err_set_status(err, -ENOENT, 404, "NotFound", "pod %.*s is not known on this node",
				      STR_ARG(pod->name));
	c = worker_find(w, str_of(container));
	if (!c)
		return no_container(err, pod, container);
	*ret = c;
	return 0;
}

int kubelet_log_path(struct kubelet *kl, const struct object *pod, const char *container, bool previous,
		     struct arena *arena, char **ret_path, bool *ret_running, struct err *err)
{
	struct pod_container *c;
	unsigned attempt;
	int r = find(kl, pod, container, &c, err);

	if (r < 0)
		return r;
	attempt = c->attempt;
	if (previous) {
		/* while it waits to be started again, the attempt that ended is the previous one, as upstream has it */
		bool waits = c->step == STEP_EXITED && container_will_restart(c);

		if (!waits && attempt == 0)
			return err_set_status(err, -ENOENT, 400, "BadRequest",
					      "previous terminated container \"%s\" in pod \"%.*s\" not found",
					      container, STR_ARG(pod->name));
		attempt -= waits ? 0 : 1;
	} else if (c->step != STEP_RUNNING && c->step != STEP_EXITED) {
		struct status_container s;

		if (attempt == 0 || !c->last.valid) {
			pod_status_container(c, arena, &s);
			return err_set_status(err, -EAGAIN, 400, "BadRequest",
					      "container \"%s\" in pod \"%.*s\" is waiting to start: %s", container,
					      STR_ARG(pod->name), s.state.reason ? s.state.reason : "unknown");
		}
		attempt--;
	}
	*ret_path = container_log_path(kl, arena, pod->ns, pod->name, pod->uid, container, attempt);
	if (ret_running)
		*ret_running = c->step == STEP_RUNNING && !previous;
	return 0;
}

/* ---- exec ---- */

struct exec {
	node_started_fn *started;
	node_exited_fn *exited;
	void *arg;
};

static void exec_started(void *arg, uint64_t id, const struct runtime_streams *streams, const struct err *err)
{
	struct exec *e = arg;
	node_started_fn *started = e->started;
	void *started_arg = e->arg;

	if (err) { /* no exit follows */
		free(e);
		started(started_arg, 0, NULL, err);
		return;
	}
	const struct node_streams s = { streams->stdin_fd, streams->stdout_fd, streams->stderr_fd };

	started(started_arg, id, &s, NULL);
}

static void exec_exited(void *arg, uint64_t id, int exit_code)
{
	struct exec *e = arg;

	e->exited(e->arg, id, exit_code);
	free(e);
}

/* No exit follows: the end of the streams is the end. */
static void attach_started(void *arg, uint64_t id, const struct runtime_streams *streams, const struct err *err)
{
	struct exec *e = arg;
	struct node_streams s = { -1, -1, -1 };

	if (streams)
		s = (struct node_streams){ streams->stdin_fd, streams->stdout_fd, streams->stderr_fd };
	e->started(e->arg, id, err ? NULL : &s, err);
	free(e);
}

static void refuse(node_started_fn *started, void *arg, struct err *err)
{
	started(arg, 0, NULL, err);
	err_finish(err);
}

void kubelet_exec(void *ctx, const struct object *pod, const struct node_exec_options *options,
		  node_started_fn *started, node_exited_fn *exited, void *arg)
{
	struct kubelet *kl = ctx;
	struct err err = ERR_INIT;
	struct pod_container *c;

	if (find(kl, pod, options->container, &c, &err) < 0) {
		refuse(started, arg, &err);
		return;
	}
	if (c->step != STEP_RUNNING) {
		err_set_status(&err, -ESRCH, 500, "InternalError", "container not found (\"%s\")", options->container);
		refuse(started, arg, &err);
		return;
	}
	struct exec *e = mem_new(struct exec);
	const struct runtime_exec_spec spec = { .container_id = c->id,
						.argv = options->argv,
						.tty = options->tty,
						.want_stdin = options->want_stdin,
						.want_stdout = options->want_stdout,
						.want_stderr = options->want_stderr };

	e->started = started;
	e->exited = exited;
	e->arg = arg;
	if (options->argv)
		runtime_exec(kl->rt, &spec, exec_started, exec_exited, e);
	else
		runtime_attach(kl->rt, &spec, attach_started, e);
}

void kubelet_exec_kill(void *ctx, uint64_t id)
{
	struct kubelet *kl = ctx;

	runtime_exec_kill(kl->rt, id);
}

void kubelet_resize(int pty_fd, int rows, int cols)
{
	runtime_resize(pty_fd, rows, cols);
}
