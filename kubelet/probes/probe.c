/* SPDX-License-Identifier: Apache-2.0 */
/* Probes on timers. See probe.h. Loop thread. */
#include "kubelet/probes/probe.h"

#include "userspace/base/clock.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

struct probe {
	struct loop *loop;
	struct runtime *rt;
	char *container_id, *pod_ip;
	struct arena arena;
	struct probe_spec spec;
	struct probe_events events;
	struct probe_counter counter;
	struct loop_timer timer;
	struct action_run *run;
	int64_t began_ns;
};

int probe_spec_parse(struct arena *arena, enum probe_kind kind, const struct json *probe, const struct json *container,
		     struct probe_spec *ret, struct err *err)
{
	struct probe_spec s = {
		.kind = kind,
		.initial_delay_ns = json_get_int(probe, "initialDelaySeconds", 0) * NS_PER_S,
		.period_ns = json_get_int(probe, "periodSeconds", 10) * NS_PER_S,
		.timeout_ns = json_get_int(probe, "timeoutSeconds", 1) * NS_PER_S,
		.success_threshold = (int)json_get_int(probe, "successThreshold", 1),
		.failure_threshold = (int)json_get_int(probe, "failureThreshold", 3),
		.termination_grace_s = json_get_int(probe, "terminationGracePeriodSeconds", -1),
	};
	int r = probe_action_parse(arena, probe, container, &s.action, err);

	if (r < 0)
		return r;
	if (s.period_ns <= 0)
		s.period_ns = 10 * NS_PER_S;
	if (s.timeout_ns <= 0)
		s.timeout_ns = NS_PER_S;
	*ret = s;
	return 0;
}

bool probe_counter_add(struct probe_counter *c, const struct probe_spec *spec, enum probe_result outcome)
{
	if (outcome == PROBE_UNKNOWN) /* a probe that could not run says nothing */
		return false;
	if (c->any && c->last == outcome) {
		c->run++;
	} else {
		c->any = true;
		c->last = outcome;
		c->run = 1;
	}
	int threshold = outcome == PROBE_SUCCESS ? spec->success_threshold : spec->failure_threshold;

	if (c->run < threshold)
		return false;
	/* after a restart for which it was the reason, a startup or liveness probe counts anew */
	if (outcome == PROBE_FAILURE && spec->kind != PROBE_READINESS)
		c->run = 0;
	return true;
}

static void ran(void *arg, enum probe_result result, struct str output)
{
	struct probe *p = arg;
	int64_t next_ns = p->began_ns + p->spec.period_ns - loop_now_ns(p->loop);
	struct probe_events events = p->events;
	enum probe_kind kind = p->spec.kind;
	bool settled;

	p->run = NULL;
	loop_timer_arm(p->loop, &p->timer, next_ns > 0 ? next_ns : 1);
	settled = probe_counter_add(&p->counter, &p->spec, result);
	if (output.n > PROBE_OUTPUT_MAX)
		output.n = PROBE_OUTPUT_MAX;
	/* either may destroy the probe */
	if (result != PROBE_SUCCESS)
		events.failed(events.ctx, kind, result == PROBE_UNKNOWN, output);
	if (settled)
		events.settled(events.ctx, kind, result);
}

static void fire(struct loop_timer *timer)
{
	struct probe *p = container_of(timer, struct probe, timer);

	p->began_ns = loop_now_ns(p->loop);
	p->run = action_start(p->loop, p->rt, p->container_id, p->pod_ip, &p->spec.action, p->spec.timeout_ns, ran, p);
}

struct probe *probe_create(struct loop *loop, struct runtime *rt, const char *container_id, const char *pod_ip,
			   int64_t running_for_ns, struct arena *arena, const struct probe_spec *spec,
			   const struct probe_events *events)
{
	struct probe *p = mem_new(struct probe);
	int64_t delay_ns = spec->initial_delay_ns - running_for_ns;

	p->loop = loop;
	p->rt = rt;
	p->container_id = mem_strdup(container_id);
	p->pod_ip = mem_strdup(pod_ip);
	p->arena = *arena;
	*arena = ARENA_INIT;
	p->spec = *spec;
	p->events = *events;
	loop_timer_init(&p->timer, fire);
	loop_timer_arm(loop, &p->timer, delay_ns > 0 ? delay_ns : 1);
	return p;
}

void probe_destroy(struct probe *p)
{
	if (!p)
		return;
	loop_timer_cancel(p->loop, &p->timer);
	action_cancel(p->run);
	arena_finish(&p->arena);
	free(p->container_id);
	free(p->pod_ip);
	free(p);
}

const struct probe_spec *probe_get_spec(const struct probe *p)
{
	return &p->spec;
}
