/* SPDX-License-Identifier: Apache-2.0 */
/* One container from its image to running: spec, sub paths, create, start. See worker.h. Loop thread but for what runs
 * as loop_work. */
#include <errno.h>
#include <stdio.h>

#include "kubelet/pods/worker.h"
#include "kubelet/volumes/subpath.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

#define EXIT_START_FAILED 128

struct prepare_work {
	struct loop_work work;
	struct pod_container *c;
	struct container_build build; /* memory: c->create_arena */
	struct err err;
	int result;
};

static void end_create(struct pod_container *c)
{
	arena_finish(&c->create_arena);
	c->create_arena = ARENA_INIT;
	c->spec = NULL;
}

static void retry_later(struct pod_container *c, const char *reason, const char *message)
{
	struct pod_worker *w = c->w;

	c->step = STEP_IDLE;
	container_set_waiting(c, reason, message);
	c->retry_delay_ns = c->retry_delay_ns ? c->retry_delay_ns * 2 : BACKOFF_INITIAL_NS;
	if (c->retry_delay_ns > BACKOFF_MAX_NS)
		c->retry_delay_ns = BACKOFF_MAX_NS;
	if (w->kl)
		c->retry_at_ns = loop_now_ns(w->kl->loop) + c->retry_delay_ns;
	worker_event(w, c, true, "Failed", "Error: %s", message);
	end_create(c);
	worker_kick(w);
}

/* It ended before it began: counts as an attempt, so that the restart policy and the back-off decide. */
static void start_failed(struct pod_container *c, const char *message)
{
	struct pod_worker *w = c->w;

	worker_event(w, c, true, "Failed", "Error: %s", message);
	if (w->kl)
		container_set_exit(c, c->id, EXIT_START_FAILED, 0, 0, clock_real_ns(), "StartError", message);
	container_set_waiting(c, "RunContainerError", message);
	c->has_run = true;
	c->step = STEP_EXITED;
	end_create(c);
	worker_kick(w);
}

static void started(void *arg, const struct err *err)
{
	struct pod_container *c = arg;
	struct pod_worker *w = c->w;

	if (!w->kl || c->step != STEP_START) {
		worker_unref(w);
		return;
	}
	if (err) {
		start_failed(c, err_message(err));
	} else {
		worker_event(w, c, false, "Started", "Container started");
		c->has_run = true;
		c->started_real_ns = clock_real_ns();
		c->retry_delay_ns = 0;
		container_set_waiting(c, NULL, NULL);
		end_create(c);
		if (c->exit.valid) {
			c->step = STEP_EXITED;
			c->ready = c->role == ROLE_INIT && c->exit.exit_code == 0;
		} else {
			c->step = STEP_RUNNING;
			container_watch_begin(c);
		}
		worker_kick(w);
	}
	worker_unref(w);
}

static void created(void *arg, const char *container_id, const struct err *err)
{
	struct pod_container *c = arg;
	struct pod_worker *w = c->w;

	if (!w->kl) {
		worker_unref(w);
		return;
	}
	if (err && (err->code == -ENOENT || err->code == -EACCES || err->code == -ENOTDIR || err->code == -ENOEXEC)) {
		start_failed(c, err_message(err)); /* the image's or the pod's own fault */
	} else if (err) {
		retry_later(c, "CreateContainerError", err_message(err));
	} else {
		snprintf(c->id, sizeof(c->id), "%s", container_id);
		worker_event(w, c, false, "Created", "Container created");
		if (w->stage == STAGE_RUN) {
			c->step = STEP_START;
			runtime_container_start(w->kl->rt, c->id, started, c);
			return; /* the reference goes on */
		}
		/* the pod is going: what was made is removed with it */
		c->step = STEP_IDLE;
		c->id[0] = '\0';
		end_create(c);
		worker_kick(w);
	}
	worker_unref(w);
}

static void create(struct pod_container *c, const struct container_build *build)
{
	struct pod_worker *w = c->w;

	c->step = STEP_CREATE;
	free(c->image);
	free(c->image_id);
	free(c->spec_image);
	c->spec_image = str_dup(json_get_str(worker_container_json(c), "image"));
	c->image = mem_strdup(build->image.reference);
	c->image_id = mem_strdup(build->image.repo_digest && *build->image.repo_digest ? build->image.repo_digest
										       : build->image.id);
	runtime_container_create(w->kl->rt, c->spec, created, c);
}

static void prepare_run(struct loop_work *work)
{
	struct prepare_work *p = container_of(work, struct prepare_work, work);

	for (size_t i = 0; i < p->build.n_subpaths && p->result >= 0; i++) {
		const struct subpath_job *job = &p->build.subpaths[i];

		p->result = subpath_bind(job->volume_path, job->sub_path, job->target, &p->err);
	}
}

static void prepare_finish(struct loop_work *work)
{
	struct prepare_work *p = container_of(work, struct prepare_work, work);
	struct pod_container *c = p->c;
	struct pod_worker *w = c->w;

	if (!w->kl || w->stage != STAGE_RUN) {
		c->step = STEP_IDLE;
		end_create(c);
		worker_kick(w);
		worker_unref(w);
	} else if (p->result < 0) {
		retry_later(c, "CreateContainerConfigError", err_message(&p->err));
		worker_unref(w);
	} else {
		create(c, &p->build);
	}
	err_finish(&p->err);
	free(p);
}

void container_create_begin(struct pod_container *c)
{
	struct pod_worker *w = c->w;
	_cleanup_err_ struct err err = ERR_INIT;
	struct container_build *build = arena_new(&c->create_arena, struct container_build);

	if (container_spec_build(c, &c->create_arena, build, &err) < 0) {
		retry_later(c, "CreateContainerConfigError", err_message(&err));
		worker_wake_at(w, c->retry_at_ns);
		return;
	}
	container_exit_finish(&c->exit);
	c->spec = &build->spec;
	worker_ref(w);
	if (!build->n_subpaths) {
		create(c, build);
		return;
	}
	struct prepare_work *p = mem_new(struct prepare_work);

	p->c = c;
	p->build = *build;
	p->work.run = prepare_run;
	p->work.done = prepare_finish;
	c->step = STEP_PREPARE;
	loop_work_submit(w->kl->loop, &p->work);
}

void container_running(struct pod_container *c)
{
	c->step = STEP_RUNNING;
	c->has_run = true;
	container_watch_begin(c);
}
