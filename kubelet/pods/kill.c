/* SPDX-License-Identifier: Apache-2.0 */
/* Ending one container: preStop, the stop signal, and SIGKILL at the deadline. See worker.h. Loop thread. */
#include <errno.h>
#include <signal.h>
#include <strings.h>

#include "kubelet/pods/worker.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

#define GRACE_AFTER_HOOK_MIN_NS (2 * NS_PER_S)

static const struct {
	const char *name;
	int signo;
} signals[] = {
	{ "TERM", SIGTERM }, { "KILL", SIGKILL }, { "INT", SIGINT },   { "QUIT", SIGQUIT },   { "HUP", SIGHUP },
	{ "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "ABRT", SIGABRT }, { "WINCH", SIGWINCH }, { "PWR", SIGPWR },
	{ "ALRM", SIGALRM }, { "STOP", SIGSTOP }, { "CONT", SIGCONT }, { "TSTP", SIGTSTP },   { "PIPE", SIGPIPE },
};

/* "SIGTERM", "TERM", "15", "SIGRTMIN+3"; SIGTERM for what is not understood. */
static int parse_signal(struct str s)
{
	int64_t number;

	if (str_to_int64(s, &number) == 0 && number > 0 && number < NSIG)
		return (int)number;
	if (s.n > 3 && strncasecmp(s.p, "SIG", 3) == 0)
		s = str_make(s.p + 3, s.n - 3);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (s.n == strlen(signals[i].name) && strncasecmp(s.p, signals[i].name, s.n) == 0)
			return signals[i].signo;
	if (s.n > 6 && strncasecmp(s.p, "RTMIN+", 6) == 0 && str_to_int64(str_make(s.p + 6, s.n - 6), &number) == 0 &&
	    number >= 0 && SIGRTMIN + number <= SIGRTMAX)
		return SIGRTMIN + (int)number;
	return SIGTERM;
}

static int stop_signal(struct pod_container *c)
{
	struct str own = json_at_str(worker_container_json(c), "lifecycle.stopSignal");
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct image image;

	if (own.n)
		return parse_signal(own);
	if (c->image && images_lookup(c->w->kl->images, c->image, &arena, &image, NULL) >= 0 && image.stop_signal &&
	    *image.stop_signal)
		return parse_signal(str_of(image.stop_signal));
	return SIGTERM;
}

static void signalled(void *arg, const struct err *err)
{
	struct pod_worker *w = arg;

	/* a container that has just ended is no failure: its exit is on the way */
	if (err && err->code != -ESRCH && err->code != -ENOENT)
		log_warn("signal failed pod=%s/%s error=\"%s\"", w->ns, w->name, err_message(err));
	worker_unref(w);
}

static void send_signal(struct pod_container *c, int signo)
{
	runtime_container_signal(c->w->kl->rt, c->id, signo, signalled, worker_ref(c->w));
}

static void arm(struct pod_container *c)
{
	struct kubelet *kl = c->w->kl;
	int64_t left_ns = c->kill.deadline_ns - loop_now_ns(kl->loop);

	loop_timer_arm(kl->loop, &c->kill.timer, left_ns > 0 ? left_ns : 1);
}

static void drop_hook(struct pod_container *c)
{
	action_cancel(c->kill.hook);
	c->kill.hook = NULL;
	arena_finish(&c->kill.arena);
	c->kill.arena = ARENA_INIT;
}

static void grant_minimum(struct pod_container *c)
{
	int64_t least_ns = loop_now_ns(c->w->kl->loop) + GRACE_AFTER_HOOK_MIN_NS;

	if (c->kill.deadline_ns >= least_ns)
		return;
	c->kill.deadline_ns = least_ns;
	c->kill.minimum = true;
}

static void send_term(struct pod_container *c)
{
	c->kill.signalled = true;
	if (c->kill.hook)
		grant_minimum(c);
	drop_hook(c);
	send_signal(c, stop_signal(c));
	arm(c);
}

static void deadline(struct loop_timer *timer)
{
	struct pod_container *c = container_of(timer, struct pod_container, kill.timer);

	if (!c->kill.signalled) { /* the hook took all the time */
		send_term(c);
		return;
	}
	c->kill.forced = true;
	send_signal(c, SIGKILL);
}

static void hook_done(void *arg, enum probe_result result, struct str output)
{
	struct pod_container *c = arg;

	c->kill.hook = NULL;
	if (result != PROBE_SUCCESS)
		worker_event(c->w, c, true, "FailedPreStopHook", "PreStopHook failed: %.*s", STR_ARG(output));
	grant_minimum(c);
	send_term(c);
}

static bool begin_hook(struct pod_container *c, int64_t grace_ns)
{
	struct pod_worker *w = c->w;
	const struct json *j = worker_container_json(c);
	const struct json *hook = json_get(json_get(j, "lifecycle"), "preStop");
	_cleanup_err_ struct err err = ERR_INIT;

	if (!hook || grace_ns <= 0)
		return false;
	if (probe_action_parse(&c->kill.arena, hook, j, &c->kill.action, &err) < 0) {
		worker_event(w, c, true, "FailedPreStopHook", "PreStopHook failed: %s", err_message(&err));
		return false;
	}
	c->kill.hook =
		action_start(w->kl->loop, w->kl->rt, c->id, worker_pod_ip(w), &c->kill.action, grace_ns, hook_done, c);
	return true;
}

void container_kill_begin(struct pod_container *c, int64_t grace_s, const char *message)
{
	struct pod_worker *w = c->w;
	int64_t at_ns = loop_now_ns(w->kl->loop) + grace_s * NS_PER_S;

	if (c->step != STEP_RUNNING)
		return;
	if (c->kill.active) {
		if (at_ns < c->kill.deadline_ns && !c->kill.forced && !c->kill.minimum) {
			c->kill.deadline_ns = at_ns;
			arm(c);
		}
		return;
	}
	container_watch_leaving(c);
	loop_timer_init(&c->kill.timer, deadline);
	c->kill.active = true;
	c->kill.deadline_ns = at_ns;
	if (message)
		worker_event(w, c, false, "Killing", "%s", message);
	else
		worker_event(w, c, false, "Killing", "Stopping container %s", c->name);
	if (begin_hook(c, grace_s * NS_PER_S))
		arm(c);
	else
		send_term(c);
}

void container_kill_finish(struct pod_container *c)
{
	if (!c->kill.active)
		return;
	loop_timer_cancel(c->w->kl->loop, &c->kill.timer);
	drop_hook(c);
	c->kill.active = c->kill.signalled = c->kill.forced = c->kill.minimum = false;
}
