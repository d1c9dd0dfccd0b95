/* SPDX-License-Identifier: Apache-2.0 */
/* What accompanies a running container: postStart, and the probes that make it started, ready, or killed. Readiness is
 * probed until the container has exited, also while it is being ended: its Ready condition is what the EndpointSlices
 * of a terminating pod call serving. See worker.h. Loop thread. */
#include <stdio.h>

#include "kubelet/pods/worker.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"

#define POST_START_TIMEOUT_NS (600 * NS_PER_S)

static const char *const probe_words[] = { "Startup", "Readiness", "Liveness" };
static const char *const probe_fields[] = { "startupProbe", "readinessProbe", "livenessProbe" };

static void begin_probe(struct pod_container *c, enum probe_kind kind);

static void end_probe(struct pod_container *c, enum probe_kind kind)
{
	probe_destroy(c->probes[kind]);
	c->probes[kind] = NULL;
}

static void set_ready(struct pod_container *c, bool ready)
{
	if (c->ready == ready)
		return;
	c->ready = ready;
	worker_kick(c->w);
}

/* The startup probe is through (or there is none). */
static void set_started(struct pod_container *c)
{
	const struct json *j = worker_container_json(c);

	if (c->started)
		return;
	c->started = true;
	begin_probe(c, PROBE_READINESS);
	begin_probe(c, PROBE_LIVENESS);
	if (!json_get(j, probe_fields[PROBE_READINESS]) && c->role != ROLE_INIT)
		c->ready = true;
	worker_kick(c->w);
}

static void probe_failed(void *ctx, enum probe_kind kind, bool error, struct str output)
{
	struct pod_container *c = ctx;

	if (error && c->kill.active)
		return; /* it may have exited already: nobody's fault */
	worker_event(c->w, c, true, "Unhealthy", "%s probe %s: %.*s", probe_words[kind], error ? "errored" : "failed",
		     STR_ARG(output));
}

static void probe_settled(void *ctx, enum probe_kind kind, enum probe_result result)
{
	struct pod_container *c = ctx;
	struct pod_worker *w = c->w;
	char message[512];
	int64_t grace_s;

	if (kind == PROBE_READINESS) {
		set_ready(c, result == PROBE_SUCCESS);
		return;
	}
	if (result == PROBE_SUCCESS) {
		if (kind == PROBE_STARTUP) {
			end_probe(c, PROBE_STARTUP);
			set_started(c);
		}
		return;
	}
	if (w->stage != STAGE_RUN)
		return;
	grace_s = probe_get_spec(c->probes[kind])->termination_grace_s;
	if (grace_s < 0)
		grace_s = json_at_int(worker_json(w), "spec.terminationGracePeriodSeconds", 30);
	snprintf(message, sizeof(message), "Container %s failed %s probe, will be restarted", c->name,
		 kind == PROBE_STARTUP ? "startup" : "liveness");
	container_kill_begin(c, grace_s, message);
}

static void begin_probe(struct pod_container *c, enum probe_kind kind)
{
	struct pod_worker *w = c->w;
	const struct json *j = worker_container_json(c), *probe = json_get(j, probe_fields[kind]);
	const struct probe_events events = { c, probe_failed, probe_settled };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct probe_spec spec;

	if (!probe || c->probes[kind])
		return;
	if (probe_spec_parse(&arena, kind, probe, j, &spec, &err) < 0) {
		worker_event(w, c, true, "Unhealthy", "%s probe errored: %s", probe_words[kind], err_message(&err));
		return;
	}
	c->probes[kind] = probe_create(w->kl->loop, w->kl->rt, c->id, worker_pod_ip(w),
				       clock_real_ns() - c->started_real_ns, &arena, &spec, &events);
}

static void begin_probes(struct pod_container *c)
{
	const struct json *j = worker_container_json(c);

	if (c->started) { /* adopted: what was known stays until a probe says otherwise */
		begin_probe(c, PROBE_READINESS);
		begin_probe(c, PROBE_LIVENESS);
		return;
	}
	if (json_get(j, probe_fields[PROBE_STARTUP])) {
		begin_probe(c, PROBE_STARTUP);
		if (c->probes[PROBE_STARTUP])
			return;
	}
	set_started(c);
}

static void post_start_done(void *arg, enum probe_result result, struct str output)
{
	struct pod_container *c = arg;

	c->post_start = NULL;
	arena_finish(&c->post_start_arena);
	c->post_start_arena = ARENA_INIT;
	if (result == PROBE_SUCCESS) {
		begin_probes(c);
		return;
	}
	worker_event(c->w, c, true, "FailedPostStartHook", "PostStartHook failed: %.*s", STR_ARG(output));
	container_kill_begin(c, termination_grace_s(c->w), "FailedPostStartHook");
}

void container_watch_begin(struct pod_container *c)
{
	struct pod_worker *w = c->w;
	const struct json *j = worker_container_json(c);
	const struct json *hook = json_get(json_get(j, "lifecycle"), "postStart");
	_cleanup_err_ struct err err = ERR_INIT;

	c->watch_later = false;
	if (!hook || c->started || c->role == ROLE_INIT) {
		begin_probes(c);
		return;
	}
	if (probe_action_parse(&c->post_start_arena, hook, j, &c->post_start_action, &err) < 0) {
		post_start_done(c, PROBE_UNKNOWN, str_of(err_message(&err)));
		return;
	}
	c->post_start = action_start(w->kl->loop, w->kl->rt, c->id, worker_pod_ip(w), &c->post_start_action,
				     POST_START_TIMEOUT_NS, post_start_done, c);
}

void container_watch_leaving(struct pod_container *c)
{
	end_probe(c, PROBE_STARTUP);
	end_probe(c, PROBE_LIVENESS);
	if (c->post_start) {
		action_cancel(c->post_start);
		c->post_start = NULL;
		arena_finish(&c->post_start_arena);
		c->post_start_arena = ARENA_INIT;
	}
}

void container_watch_resume_leaving(struct pod_container *c)
{
	if (c->started)
		begin_probe(c, PROBE_READINESS);
}

void container_watch_end(struct pod_container *c)
{
	container_watch_leaving(c);
	end_probe(c, PROBE_READINESS);
}
