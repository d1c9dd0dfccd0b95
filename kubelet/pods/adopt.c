/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's first look at the world: what the runtime has of the pod, and what its status said. After a restart of the
 * server the same containers go on; exits that happened meanwhile are taken in. See worker.h. Loop thread. */
#include <stdio.h>

#include "kubelet/pods/termination_message.h"
#include "kubelet/pods/worker.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

#define EXIT_LOST 137

static const struct json *old_status(struct pod_container *c)
{
	const struct json *list = json_at(worker_json(c->w), c->role == ROLE_APP ? "status.containerStatuses"
										 : "status.initContainerStatuses");

	json_foreach(s, list)
		if (str_is(json_get_str(s, "name"), c->name))
			return s;
	return NULL;
}

static int64_t time_of(const struct json *o, const char *key)
{
	int64_t ns;

	return clock_parse_rfc3339(json_get_str(o, key), &ns) < 0 ? 0 : ns;
}

static void id_of(struct str container_id, char ret[static CONTAINER_ID_LEN + 1])
{
	long slash = str_find(container_id, '/');

	ret[0] = '\0';
	if (slash >= 0 && (size_t)slash + 2 < container_id.n)
		snprintf(ret, CONTAINER_ID_LEN + 1, "%.*s", (int)(container_id.n - (size_t)slash - 2),
			 container_id.p + slash + 2);
}

/* A terminated state of the status, as the container's exit. */
static void exit_from_status(struct pod_container *c, const struct json *terminated)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str reason = json_get_str(terminated, "reason"), message = json_get_str(terminated, "message");
	char id[CONTAINER_ID_LEN + 1];

	id_of(json_get_str(terminated, "containerID"), id);
	container_set_exit(c, id, (int)json_get_int(terminated, "exitCode", 0),
			   (int)json_get_int(terminated, "signal", 0), time_of(terminated, "startedAt"),
			   time_of(terminated, "finishedAt"), arena_strndup(&arena, reason.p ? reason.p : "", reason.n),
			   arena_strndup(&arena, message.p ? message.p : "", message.n));
}

static void from_status(struct pod_container *c, const struct json *s)
{
	struct str image = json_get_str(s, "image"), image_id = json_get_str(s, "imageID");
	const struct json *last = json_at(s, "lastState.terminated");

	c->attempt = (unsigned)json_get_int(s, "restartCount", 0);
	if (image_id.n) {
		c->image = str_dup(image);
		c->image_id = str_dup(image_id);
	}
	if (last) {
		exit_from_status(c, last);
		c->last = c->exit;
		c->exit = (struct container_exit){ 0 };
	}
}

/* The runtime knows nothing of it, but it has run: what it said last, or lost. */
static void without_runtime(struct pod_container *c, const struct json *s)
{
	const struct json *state = json_get(s, "state"), *terminated = json_get(state, "terminated");

	if (terminated) {
		exit_from_status(c, terminated);
	} else if (json_get(state, "running")) {
		char id[CONTAINER_ID_LEN + 1];

		id_of(json_get_str(s, "containerID"), id);
		container_set_exit(c, id, EXIT_LOST, 0, time_of(json_get(state, "running"), "startedAt"),
				   clock_real_ns(), "ContainerStatusUnknown",
				   "The container could not be located when the pod was terminated");
	} else if (c->last.valid) { /* it was waiting to be started again */
		c->exit = c->last;
		c->last = (struct container_exit){ 0 };
	} else {
		return;
	}
	c->has_run = true;
	c->step = STEP_EXITED;
	snprintf(c->id, sizeof(c->id), "%s", c->exit.id);
}

struct newest {
	struct pod_worker *w;
	struct pod_container *c;
	struct runtime_container found;
	char id[CONTAINER_ID_LEN + 1];
	bool any;
};

static void look(void *arg, const struct runtime_container *rc)
{
	struct newest *n = arg;

	if (strcmp(rc->name, n->c->name) != 0 || (n->any && rc->attempt <= n->found.attempt))
		return;
	n->found = *rc;
	snprintf(n->id, sizeof(n->id), "%s", rc->id);
	n->any = true;
}

static void take(struct pod_container *c, const struct newest *n, const struct json *s)
{
	const struct runtime_container *rc = &n->found;

	if (rc->attempt > c->attempt && !c->last.valid && json_at(s, "state.terminated")) {
		exit_from_status(c, json_at(s, "state.terminated"));
		c->last = c->exit;
		c->exit = (struct container_exit){ 0 };
	}
	bool same = str_ends(json_get_str(s, "containerID"), str_of(n->id));

	c->attempt = rc->attempt;
	c->has_run = rc->started_real_ns != 0 || rc->state != CONTAINER_CREATED;
	snprintf(c->id, sizeof(c->id), "%s", n->id);
	c->started_real_ns = rc->started_real_ns;
	if (rc->state == CONTAINER_RUNNING) {
		c->step = STEP_RUNNING;
		c->ready = same && json_get_bool(s, "ready", false);
		c->started = same && json_get_bool(s, "started", false);
	} else if (rc->state == CONTAINER_EXITED) {
		_cleanup_free_ char *message =
			termination_message(c->w, worker_container_json(c), c->name, c->attempt, rc->exit_code);

		c->step = STEP_EXITED;
		container_set_exit(c, n->id, rc->exit_code, 0, rc->started_real_ns, rc->finished_real_ns,
				   rc->oom_killed       ? "OOMKilled"
				   : rc->exit_code == 0 ? "Completed"
							: "Error",
				   message);
		c->ready = c->role == ROLE_INIT && rc->exit_code == 0;
	}
}

static void removed(void *arg, const struct err *err)
{
	struct pod_worker *w = arg;

	if (err)
		log_warn("container not removed pod=%s/%s error=\"%s\"", w->ns, w->name, err_message(err));
	worker_unref(w);
}

/* Created and never started: the server died in between. It is made anew. */
static void drop_created(struct pod_container *c)
{
	runtime_container_remove(c->w->kl->rt, c->id, true, removed, worker_ref(c->w));
	c->id[0] = '\0';
	c->step = STEP_IDLE;
}

struct seek {
	const char *uid;
	bool found;
};

static void seek_sandbox(void *arg, const char *pod_uid)
{
	struct seek *s = arg;

	s->found = s->found || strcmp(s->uid, pod_uid) == 0;
}

/* The host was started anew: what init containers prepared may be gone with it. */
static void rerun_init(struct pod_worker *w)
{
	struct seek seek = { .uid = w->uid };

	runtime_each_sandbox(w->kl->rt, seek_sandbox, &seek);
	w->adopted = seek.found;
	if (seek.found)
		return;
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];

		if (c->role != ROLE_INIT || c->step != STEP_EXITED)
			continue;
		c->last = c->exit;
		c->exit = (struct container_exit){ 0 };
		c->id[0] = '\0';
		c->attempt++;
		c->step = STEP_IDLE;
	}
}

void adopt_containers(struct pod_worker *w)
{
	const struct json *ips = json_at(worker_json(w), "status.podIPs");

	json_foreach(ip, ips) { /* for probes, until the network answers */
		struct str s = json_get_str(ip, "ip");

		if (w->ips.n_ips < POD_IPS_MAX && s.n && s.n < sizeof(w->ips.ips[0]))
			snprintf(w->ips.ips[w->ips.n_ips++], sizeof(w->ips.ips[0]), "%.*s", STR_ARG(s));
	}
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];
		struct newest n = { .w = w, .c = c };
		const struct json *s = old_status(c);

		if (s)
			from_status(c, s);
		runtime_each(w->kl->rt, w->uid, look, &n);
		if (n.any)
			take(c, &n, s);
		else if (s)
			without_runtime(c, s);
		if (n.any && n.found.state != CONTAINER_RUNNING && n.found.state != CONTAINER_EXITED)
			drop_created(c);
	}
	if (!pod_status_is_terminal(w->pod))
		rerun_init(w);
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];

		c->watch_later = c->step == STEP_RUNNING;
		c->has_run |= c->watch_later;
	}
	if (w->ips.n_ips)
		adopt_watch(w);
}

void adopt_watch(struct pod_worker *w)
{
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];
		bool begin = w->kl && c->watch_later && c->step == STEP_RUNNING && w->stage == STAGE_RUN;

		c->watch_later = false;
		if (begin && w->pod->deleting)
			container_watch_resume_leaving(c);
		else if (begin)
			container_running(c);
	}
}
