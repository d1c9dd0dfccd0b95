/* SPDX-License-Identifier: Apache-2.0 */
/* One probe of one container on the loop's timers: http, tcp or exec; thresholds; no overlap of runs. Hooks of the
 * http and exec kind share the action. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

struct loop;
struct runtime;

#define PROBE_OUTPUT_MAX 1024 /* bytes of it that an event shows */

enum probe_kind { PROBE_STARTUP, PROBE_READINESS, PROBE_LIVENESS, PROBE_KINDS };
enum probe_result { PROBE_SUCCESS, PROBE_FAILURE, PROBE_UNKNOWN };

/* ---- one action, once ---- */

struct probe_header {
	char *name, *value;
};

/* Owned by an arena; see probe_action_parse(). */
struct probe_action {
	enum { ACTION_NONE, ACTION_EXEC, ACTION_HTTP, ACTION_TCP, ACTION_SLEEP } type;
	char **argv;
	char *host, *path, *scheme;
	uint16_t port;
	struct probe_header *headers;
	size_t n_headers;
	int64_t sleep_s;
};

/* `handler`: a Probe or LifecycleHandler; named ports are looked up in `container`. -EINVAL with err. */
int probe_action_parse(struct arena *arena, const struct json *handler, const struct json *container,
		       struct probe_action *ret, struct err *err);

struct action_run;
/* Once, unless cancelled. `output` is for events. */
typedef void action_done_fn(void *arg, enum probe_result result, struct str output);
/* Copies nothing: `action` must live until done. pod_ip is the default host. */
struct action_run *action_start(struct loop *loop, struct runtime *rt, const char *container_id, const char *pod_ip,
				const struct probe_action *action, int64_t timeout_ns, action_done_fn *done, void *arg);
/* No callback any more. Takes NULL. */
void action_cancel(struct action_run *run);

/* ---- a probe ---- */

struct probe_spec {
	enum probe_kind kind;
	struct probe_action action;
	int64_t initial_delay_ns, period_ns, timeout_ns;
	int success_threshold, failure_threshold;
	int64_t termination_grace_s; /* -1: the pod's */
};

int probe_spec_parse(struct arena *arena, enum probe_kind kind, const struct json *probe, const struct json *container,
		     struct probe_spec *ret, struct err *err);

/* Thresholds, by themselves: pure. */
struct probe_counter {
	enum probe_result last;
	int run;
	bool any;
};
/* Does this outcome complete a threshold? Then *ret_result is what the probe now says. */
bool probe_counter_add(struct probe_counter *c, const struct probe_spec *spec, enum probe_result outcome);

struct probe;
struct probe_events {
	void *ctx;
	/* Every failed run (an event is due), before `settled`. */
	void (*failed)(void *ctx, enum probe_kind kind, bool error, struct str output);
	/* A threshold was reached: SUCCESS or FAILURE; also again and again while it holds. */
	void (*settled)(void *ctx, enum probe_kind kind, enum probe_result result);
};

/* `arena` (moved in) owns the spec. Begins by itself, counted from the container's start. */
struct probe *probe_create(struct loop *loop, struct runtime *rt, const char *container_id, const char *pod_ip,
			   int64_t running_for_ns, struct arena *arena, const struct probe_spec *spec,
			   const struct probe_events *events);
void probe_destroy(struct probe *p);
const struct probe_spec *probe_get_spec(const struct probe *p);
