/* SPDX-License-Identifier: Apache-2.0 */
/* The containers of a running pod: who starts when, what an exit means, who starts again. See worker.h. Loop thread. */
#include <stdio.h>

#include "kubelet/exec/log_follow.h"
#include "kubelet/pods/worker.h"
#include "kubelet/pods/termination_message.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

/* ---- small help ---- */

void container_set_waiting(struct pod_container *c, const char *reason, const char *message)
{
	free(c->waiting_reason);
	free(c->waiting_message);
	c->waiting_reason = reason ? mem_strdup(reason) : NULL;
	c->waiting_message = message ? mem_strdup(message) : NULL;
}

void container_exit_finish(struct container_exit *e)
{
	free(e->reason);
	free(e->message);
	*e = (struct container_exit){ 0 };
}

bool container_in_flight(const struct pod_container *c)
{
	return c->step == STEP_PREPARE || c->step == STEP_CREATE || c->step == STEP_START;
}

void container_set_exit(struct pod_container *c, const char *id, int exit_code, int signal, int64_t started_real_ns,
			int64_t finished_real_ns, const char *reason, const char *message)
{
	container_exit_finish(&c->exit);
	c->exit.valid = true;
	snprintf(c->exit.id, sizeof(c->exit.id), "%s", id);
	c->exit.exit_code = exit_code;
	c->exit.signal = signal;
	c->exit.started_real_ns = started_real_ns;
	c->exit.finished_real_ns = finished_real_ns;
	/* the exit may have been long ago: the back-off counts from then */
	int64_t ago_ns = finished_real_ns ? clock_real_ns() - finished_real_ns : 0;

	c->exit.seen_ns = loop_now_ns(c->w->kl->loop) - (ago_ns > 0 ? ago_ns : 0);
	c->exit.reason = mem_strdup(reason);
	c->exit.message = message && *message ? mem_strdup(message) : NULL;
	c->backoff_told = false;
}

/* ---- exits ---- */

static void stop_watching(struct pod_container *c)
{
	container_watch_end(c);
	log_follow_container_ended(c);
	container_kill_finish(c);
	c->ready = c->role == ROLE_INIT && c->exit.valid && c->exit.exit_code == 0;
	c->started = false;
}

void container_ended(struct pod_container *c, const struct runtime_container *rc)
{
	struct pod_worker *w = c->w;
	_cleanup_free_ char *message = NULL;
	const char *reason = rc->oom_killed ? "OOMKilled" : rc->exit_code == 0 ? "Completed" : "Error";

	if (strcmp(rc->id, c->id) != 0 || (c->step != STEP_RUNNING && c->step != STEP_START))
		return;
	message = termination_message(w, worker_container_json(c), c->name, c->attempt, rc->exit_code);
	/* the signal is said only where the code does not say it: as upstream's runtimes do, in the code alone */
	container_set_exit(c, rc->id, rc->exit_code, 0, rc->started_real_ns, rc->finished_real_ns, reason, message);
	if (c->step == STEP_START)
		return; /* its start is being answered; that will find the exit */
	c->step = STEP_EXITED;
	stop_watching(c);
	worker_kick(w);
}

static struct str restart_policy(struct pod_container *c)
{
	const struct json *j = worker_container_json(c);
	struct str own = json_get_str(j, "restartPolicy");
	struct str policy = own.n ? own : json_at_str(worker_json(c->w), "spec.restartPolicy");

	return policy.n ? policy : STR("Always");
}

bool container_will_restart(struct pod_container *c)
{
	struct str policy;

	if (c->w->stage != STAGE_RUN || c->step != STEP_EXITED)
		return false;
	if (c->role == ROLE_SIDECAR)
		return true;
	policy = restart_policy(c);
	if (c->role == ROLE_INIT)
		return c->exit.exit_code != 0 && !str_is(policy, "Never");
	if (str_is(policy, "Always"))
		return true;
	return str_is(policy, "OnFailure") && c->exit.exit_code != 0;
}

/* ---- starting again ---- */

static void remove_done(void *arg, const struct err *err)
{
	struct pod_worker *w = arg;

	if (err)
		log_warn("container not removed pod=%s/%s error=\"%s\"", w->ns, w->name, err_message(err));
	worker_unref(w);
}

/* The ended attempt becomes the last one; the one before it goes, with its log. */
static void next_attempt(struct pod_container *c)
{
	struct pod_worker *w = c->w;

	if (c->last.valid && c->last.id[0])
		runtime_container_remove(w->kl->rt, c->last.id, true, remove_done, worker_ref(w));
	container_exit_finish(&c->last);
	c->last = c->exit;
	c->exit = (struct container_exit){ 0 };
	c->id[0] = '\0';
	c->attempt++;
	w->kl->restarts++;
	c->step = STEP_IDLE;
	c->image_ready = false;
	container_set_waiting(c, NULL, NULL);
}

static bool held_back(struct pod_container *c)
{
	struct pod_worker *w = c->w;
	int64_t now_ns = loop_now_ns(w->kl->loop), left_ns;
	char text[32];

	if (!backoff_active(&c->crash, c->exit.seen_ns, now_ns, &left_ns)) {
		backoff_next(&c->crash, c->exit.seen_ns, now_ns);
		return false;
	}
	worker_wake_at(w, now_ns + left_ns);
	if (!c->backoff_told) {
		c->backoff_told = true;
		backoff_format(c->crash.delay_ns, text);
		_cleanup_free_ char *message = mem_printf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
							  text, c->name, w->name, w->ns, w->uid);

		container_set_waiting(c, "CrashLoopBackOff", message);
		worker_event(w, c, true, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", c->name,
			     w->name, w->ns, w->uid);
	}
	return true;
}

static void start_step(struct pod_container *c)
{
	struct pod_worker *w = c->w;

	if (c->step != STEP_IDLE)
		return;
	if (c->retry_at_ns) {
		if (c->retry_at_ns > loop_now_ns(w->kl->loop)) {
			worker_wake_at(w, c->retry_at_ns);
			return;
		}
		c->retry_at_ns = 0;
	}
	/* the image is looked for (and pulled) while the rest is being made */
	if (!container_image_step(c))
		return;
	if (prepare_done(w))
		container_create_begin(c);
}

/* The one thing of a container that may change while it runs. */
static void check_image(struct pod_container *c)
{
	char message[512];

	if (c->step != STEP_RUNNING || c->kill.active || c->role == ROLE_INIT)
		return;
	struct str image = json_get_str(worker_container_json(c), "image");

	if (!c->spec_image) {
		c->spec_image = str_dup(image);
	} else if (!str_is(image, c->spec_image)) {
		snprintf(message, sizeof(message), "Container %s definition changed, will be restarted", c->name);
		container_kill_begin(c, termination_grace_s(c->w), message);
	}
}

static void container_step(struct pod_container *c)
{
	check_image(c);
	if (c->step == STEP_EXITED && container_will_restart(c) && !held_back(c))
		next_attempt(c);
	start_step(c);
}

/* ---- the order ---- */

/* Must the ones after it still wait? A sidecar only has to have been started once. */
static bool init_blocks(const struct pod_container *c)
{
	if (c->role == ROLE_INIT)
		return !(c->step == STEP_EXITED && c->exit.exit_code == 0);
	if (c->started)
		return false;
	for (const struct pod_container *later = c + 1; later < c->w->containers + c->w->n; later++)
		if (later->has_run)
			return false;
	return true;
}

static void hold(struct pod_container *c)
{
	if (c->step == STEP_IDLE && !c->waiting_reason)
		container_set_waiting(c, "PodInitializing", NULL);
}

/* Sidecars go when the others are through. */
static bool end_sidecars(struct pod_worker *w)
{
	bool all_ended = true;

	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];

		if (c->step == STEP_RUNNING)
			container_kill_begin(c, termination_grace_s(w), NULL);
		if (c->step == STEP_RUNNING || container_in_flight(c))
			all_ended = false;
	}
	return all_ended;
}

static bool apps_ended(struct pod_worker *w)
{
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];

		if (c->role == ROLE_APP && (c->step != STEP_EXITED || container_will_restart(c)))
			return false;
	}
	return true;
}

bool containers_step(struct pod_worker *w)
{
	bool blocked = false;

	if (apps_ended(w))
		return end_sidecars(w);
	for (size_t i = 0; i < w->n; i++) {
		struct pod_container *c = &w->containers[i];

		if (blocked) {
			hold(c);
			continue;
		}
		if (c->role == ROLE_INIT && c->step == STEP_EXITED && c->exit.exit_code != 0 &&
		    !container_will_restart(c)) {
			for (size_t j = i + 1; j < w->n; j++)
				hold(&w->containers[j]);
			return end_sidecars(w);
		}
		if (c->waiting_reason && strcmp(c->waiting_reason, "PodInitializing") == 0 && c->step == STEP_IDLE)
			container_set_waiting(c, NULL, NULL);
		container_step(c);
		if (c->role != ROLE_APP && init_blocks(c))
			blocked = true;
	}
	return false;
}
