/* SPDX-License-Identifier: Apache-2.0 */
/* How pods are shown: the STATUS that sums up phase, container states and deletion as kubectl's users know
 * it, ready counts, restarts. Any thread. */
#include <string.h>

#include "userspace/api/table_internal.h"
#include "userspace/base/mem.h"

struct summary {
	const char *reason;
	int64_t ready, total, restarts;
	int64_t last_restart_ns; /* 0: never */
};

static void later(int64_t *at, const struct json *status)
{
	int64_t t = meta_time_ns(json_at(status, "lastState.terminated.finishedAt"));

	if (t > *at)
		*at = t;
}

static const char *copy_text(struct arena *arena, struct str s)
{
	return arena_strndup(arena, s.p, s.n);
}

/* "Signal:9" or "ExitCode:1", for terminations without a reason. */
static const char *exit_text(struct arena *arena, const char *prefix, const struct json *terminated)
{
	int64_t signal = json_get_int(terminated, "signal", 0);

	if (signal)
		return arena_printf(arena, "%sSignal:%lld", prefix, (long long)signal);
	return arena_printf(arena, "%sExitCode:%lld", prefix, (long long)json_get_int(terminated, "exitCode", 0));
}

static bool is_sidecar(const struct json *spec, struct str name)
{
	json_foreach(c, json_get(spec, "initContainers"))
		if (str_eq(json_get_str(c, "name"), name))
			return str_is(json_get_str(c, "restartPolicy"), "Always");
	return false;
}

/* Restarts of sidecars count on when initialisation is over. */
struct sidecars {
	int64_t restarts, last_restart_ns;
};

/* True while initialisation goes on; then s->reason says how. */
static bool sum_init(struct arena *arena, const struct json *spec, const struct json *status, struct summary *s,
		     struct sidecars *sidecars)
{
	size_t i = 0, n = json_count(json_get(spec, "initContainers"));

	json_foreach(c, json_get(status, "initContainerStatuses")) {
		const struct json *terminated = json_at(c, "state.terminated"), *waiting = json_at(c, "state.waiting");
		bool sidecar = is_sidecar(spec, json_get_str(c, "name"));
		struct str why = json_get_str(waiting, "reason");
		size_t at = i++;

		s->restarts += json_get_int(c, "restartCount", 0);
		later(&s->last_restart_ns, c);
		if (sidecar) {
			sidecars->restarts += json_get_int(c, "restartCount", 0);
			later(&sidecars->last_restart_ns, c);
		}
		if (terminated && json_get_int(terminated, "exitCode", 0) == 0)
			continue;
		if (sidecar && json_get_bool(c, "started", false)) {
			s->ready += json_get_bool(c, "ready", false);
			continue;
		}
		if (terminated && json_get_str(terminated, "reason").n)
			s->reason = arena_printf(arena, "Init:%.*s", STR_ARG(json_get_str(terminated, "reason")));
		else if (terminated)
			s->reason = exit_text(arena, "Init:", terminated);
		else if (why.n && !str_is(why, "PodInitializing"))
			s->reason = arena_printf(arena, "Init:%.*s", STR_ARG(why));
		else
			s->reason = arena_printf(arena, "Init:%zu/%zu", at, n);
		return true;
	}
	return false;
}

/* The first container's reason wins: they are looked at from the last to the first. */
static void sum_containers(struct arena *arena, const struct json *status, struct summary *s)
{
	const struct json *statuses = json_get(status, "containerStatuses"), *winner = NULL, *conditions;
	bool running = false;

	json_foreach(c, statuses) {
		const struct json *waiting = json_at(c, "state.waiting"), *terminated = json_at(c, "state.terminated");

		s->restarts += json_get_int(c, "restartCount", 0);
		later(&s->last_restart_ns, c);
		if (json_get_str(waiting, "reason").n || terminated) {
			winner = winner ? winner : c;
		} else if (json_get_bool(c, "ready", false) && json_at(c, "state.running")) {
			running = true;
			s->ready++;
		}
	}
	if (winner) {
		const struct json *terminated = json_at(winner, "state.terminated");
		struct str why = json_at_str(winner, "state.waiting.reason");

		if (!why.n)
			why = json_get_str(terminated, "reason");
		s->reason = why.n ? copy_text(arena, why) : exit_text(arena, "", terminated);
	}
	conditions = json_get(status, "conditions");
	if (running && !strcmp(s->reason, "Completed"))
		s->reason = meta_condition_is(conditions, "Ready", "True") ? "Running" : "NotReady";
}

static void summarise(struct arena *arena, const struct json *pod, struct summary *ret)
{
	const struct json *spec = json_get(pod, "spec"), *status = json_get(pod, "status"),
			  *conditions = json_get(status, "conditions");
	struct str phase = json_get_str(status, "phase"), reason = json_get_str(status, "reason");
	struct summary s = { .reason = copy_text(arena, reason.n ? reason : phase),
			     .total = (int64_t)json_count(json_get(spec, "containers")) };
	struct sidecars sidecars = { 0 };
	bool initialising;

	if (str_is(json_get_str(meta_condition(conditions, "PodScheduled"), "reason"), "SchedulingGated"))
		s.reason = "SchedulingGated";
	json_foreach(c, json_get(spec, "initContainers"))
		s.total += str_is(json_get_str(c, "restartPolicy"), "Always");
	initialising = sum_init(arena, spec, status, &s, &sidecars);
	if (!initialising || meta_condition_is(conditions, "Initialized", "True")) {
		s.restarts = sidecars.restarts;
		s.last_restart_ns = sidecars.last_restart_ns;
		sum_containers(arena, status, &s);
	}
	if (meta_deleting(pod) && str_is(reason, "NodeLost"))
		s.reason = "Unknown";
	else if (meta_deleting(pod) && !str_is(phase, "Succeeded") && !str_is(phase, "Failed"))
		s.reason = "Terminating";
	*ret = s;
}

struct str table_pod_status(struct arena *arena, const struct json *pod)
{
	struct summary s;

	summarise(arena, pod, &s);
	return str_of(s.reason);
}

static void readiness_gates(struct table_cells *c, const struct json *pod)
{
	const struct json *gates = json_at(pod, "spec.readinessGates");
	size_t ready = 0;

	json_foreach(g, gates) {
		const char *type = copy_text(c->arena, json_get_str(g, "conditionType"));

		ready += meta_condition_is(json_at(pod, "status.conditions"), type, "True");
	}
	if (json_count(gates))
		cell_printf(c, "%zu/%zu", ready, json_count(gates));
	else
		cell_cstr(c, "<none>");
}

static void pod_cells(struct table_cells *c, const struct json *pod)
{
	struct str ip = json_at_str(pod, "status.podIP");
	char ago[TABLE_DURATION_MAX];
	struct summary s;

	if (!ip.n)
		ip = json_get_str(json_first(json_at(pod, "status.podIPs")), "ip");
	summarise(c->arena, pod, &s);
	cell_name(c, pod);
	cell_printf(c, "%lld/%lld", (long long)s.ready, (long long)s.total);
	cell_cstr(c, s.reason);
	if (s.restarts && s.last_restart_ns) {
		table_duration(c->now_real_ns - s.last_restart_ns, ago);
		cell_printf(c, "%lld (%s ago)", (long long)s.restarts, ago);
	} else {
		cell_printf(c, "%lld", (long long)s.restarts);
	}
	cell_age(c, pod);
	cell_or(c, ip, "<none>");
	cell_or(c, json_at_str(pod, "spec.nodeName"), "<none>");
	cell_or(c, json_at_str(pod, "status.nominatedNodeName"), "<none>");
	readiness_gates(c, pod);
}

static const char *pod_conditions(const struct json *pod)
{
	struct str phase = json_at_str(pod, "status.phase");

	if (str_is(phase, "Succeeded"))
		return "[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"Succeeded\",\"message\":\"The pod "
		       "has "
		       "completed successfully.\"}]";
	if (str_is(phase, "Failed"))
		return "[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"Failed\",\"message\":\"The pod "
		       "failed.\"}]";
	return NULL;
}

static const struct table_column pod_columns[] = {
	COLUMN_NAME,
	{ "Ready", "string", 0, "How many of the pod's containers are ready." },
	{ "Status", "string", 0, "The pod's phase, or what its containers wait for or ended with." },
	{ "Restarts", "string", 0, "How often the pod's containers were started again, and when last." },
	COLUMN_AGE,
	{ "IP", "string", 1, "The pod's address." },
	{ "Node", "string", 1, "The node that runs the pod." },
	{ "Nominated Node", "string", 1, "The node on which room is being made for the pod." },
	{ "Readiness Gates", "string", 1, "How many of the pod's readiness gates are true." },
};

static void podtemplate_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_containers(c, json_at(o, "template.spec"));
	cell_labels(c, json_at(o, "template.metadata.labels"));
}

static const struct table_column podtemplate_columns[] = {
	COLUMN_NAME,
	{ "Containers", "string", 0, "Names of the containers." },
	{ "Images", "string", 0, "Images of the containers." },
	{ "Pod Labels", "string", 0, "Labels that the pods get." },
};

static const struct table_printer items[] = {
	{ "", "pods", pod_columns, ARRAY_SIZE(pod_columns), pod_cells, pod_conditions },
	{ "", "podtemplates", podtemplate_columns, ARRAY_SIZE(podtemplate_columns), podtemplate_cells, NULL },
};

const struct table_printers table_printers_pods = { items, ARRAY_SIZE(items) };
