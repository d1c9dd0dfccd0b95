/* SPDX-License-Identifier: Apache-2.0 */
/* The status object. See compute.h. Any thread. */
#include "kubelet/status/compute.h"

#include "userspace/base/buf.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

static void set_time(struct arena *arena, struct json *o, const char *key, int64_t real_ns)
{
	char text[CLOCK_RFC3339_MAX];

	if (!real_ns)
		return;
	clock_format_rfc3339(real_ns, text);
	json_set_cstr(arena, o, key, arena_strdup(arena, text));
}

static void set_text(struct arena *arena, struct json *o, const char *key, const char *text)
{
	if (text && *text)
		json_set_cstr(arena, o, key, arena_strdup(arena, text));
}

static struct json *state_json(struct arena *arena, const struct status_state *s)
{
	struct json *o = json_new_object(arena);
	struct json *in;

	if (s->shape == SHAPE_RUNNING) {
		in = json_ensure_object(arena, o, "running");
		set_time(arena, in, "startedAt", s->started_real_ns);
	} else if (s->shape == SHAPE_TERMINATED) {
		in = json_ensure_object(arena, o, "terminated");
		set_text(arena, in, "containerID", s->container_id);
		json_set_int(arena, in, "exitCode", s->exit_code);
		set_time(arena, in, "finishedAt", s->finished_real_ns);
		set_text(arena, in, "message", s->message);
		set_text(arena, in, "reason", s->reason);
		if (s->signal)
			json_set_int(arena, in, "signal", s->signal);
		set_time(arena, in, "startedAt", s->started_real_ns);
	} else {
		in = json_ensure_object(arena, o, "waiting");
		set_text(arena, in, "message", s->message);
		set_text(arena, in, "reason", s->reason);
	}
	return o;
}

static void add_mounts(struct arena *arena, struct json *o, const struct json *mounts)
{
	struct json *list = json_count(mounts) ? json_ensure_array(arena, o, "volumeMounts") : NULL;

	json_foreach(m, mounts) {
		struct json *to = json_new_object(arena);
		bool read_only = json_get_bool(m, "readOnly", false);

		json_set_str(arena, to, "mountPath", json_get_str(m, "mountPath"));
		json_set_str(arena, to, "name", json_get_str(m, "name"));
		if (read_only) {
			json_set_bool(arena, to, "readOnly", true);
			json_set_cstr(arena, to, "recursiveReadOnly", "Disabled");
		}
		json_append(list, to);
	}
}

static struct json *container_json(struct arena *arena, const struct status_container *c)
{
	struct json *o = json_new_object(arena);

	set_text(arena, o, "containerID", c->container_id);
	json_set_cstr(arena, o, "image", arena_strdup(arena, c->image ? c->image : ""));
	json_set_cstr(arena, o, "imageID", arena_strdup(arena, c->image_id ? c->image_id : ""));
	json_set(o, "lastState", c->has_last ? state_json(arena, &c->last) : json_new_object(arena));
	json_set_cstr(arena, o, "name", arena_strdup(arena, c->name));
	json_set_bool(arena, o, "ready", c->ready);
	json_set_int(arena, o, "restartCount", c->restart_count);
	json_set_bool(arena, o, "started", c->started);
	json_set(o, "state", state_json(arena, &c->state));
	add_mounts(arena, o, c->volume_mounts);
	return o;
}

/* ---- conditions ---- */

struct condition {
	const char *type;
	bool status;
	const char *reason, *message;
};

static struct json *find_condition(const struct json *conditions, const char *type)
{
	json_foreach(c, conditions)
		if (str_is(json_get_str(c, "type"), type))
			return c;
	return NULL;
}

static struct json *condition_json(struct arena *arena, const struct status_pod *p, const struct condition *c)
{
	const struct json *old = find_condition(json_at(p->pod, "status.conditions"), c->type);
	const char *status = c->status ? "True" : "False";
	struct json *o = json_new_object(arena);
	int64_t generation = json_at_int(p->pod, "metadata.generation", 0);

	if (old && str_is(json_get_str(old, "status"), status) && json_get_str(old, "lastTransitionTime").n)
		json_set_str(arena, o, "lastTransitionTime", json_get_str(old, "lastTransitionTime"));
	else
		set_time(arena, o, "lastTransitionTime", p->now_real_ns);
	set_text(arena, o, "message", c->message);
	if (generation)
		json_set_int(arena, o, "observedGeneration", generation);
	set_text(arena, o, "reason", c->reason);
	json_set_cstr(arena, o, "status", status);
	json_set_cstr(arena, o, "type", c->type);
	return o;
}

static char *name_list(struct arena *arena, const char *before, const char *const *names, size_t n)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_printf(&b, "%s: [", before);
	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s%s", i ? " " : "", names[i]);
	buf_add_char(&b, ']');
	return arena_strndup(arena, buf_str(&b).p, buf_len(&b));
}

static bool initialised(const struct status_container *c)
{
	if (c->role == ROLE_SIDECAR)
		return c->started;
	return c->state.shape == SHAPE_TERMINATED ? c->state.exit_code == 0 : c->ready;
}

static struct condition initialized_condition(struct arena *arena, const struct status_pod *p, enum pod_phase phase)
{
	const char **names = arena_new_array(arena, const char *, p->n + 1);
	struct condition c = { .type = "Initialized", .status = true };
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->containers[i].role != ROLE_APP && !initialised(&p->containers[i]))
			names[n++] = p->containers[i].name;
	if (phase == POD_SUCCEEDED) {
		c.reason = "PodCompleted";
	} else if (n && phase != POD_RUNNING) {
		c.status = false;
		c.reason = "ContainersNotInitialized";
		c.message = name_list(arena, "containers with incomplete status", names, n);
	}
	return c;
}

static struct condition containers_ready(struct arena *arena, const struct status_pod *p, enum pod_phase phase,
					 const char *type)
{
	const char **names = arena_new_array(arena, const char *, p->n + 1);
	struct condition c = { .type = type, .status = true };
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->containers[i].role != ROLE_INIT && !p->containers[i].ready)
			names[n++] = p->containers[i].name;
	if (phase == POD_SUCCEEDED) {
		c.status = false;
		c.reason = "PodCompleted";
	} else if (phase == POD_FAILED) {
		c.status = false;
		c.reason = "PodFailed";
	} else if (n || phase == POD_PENDING) {
		c.status = false;
		c.reason = "ContainersNotReady";
		if (n)
			c.message = name_list(arena, "containers with unready status", names, n);
	}
	return c;
}

static void check_gates(struct arena *arena, const struct status_pod *p, struct condition *ready)
{
	const struct json *conditions = json_at(p->pod, "status.conditions");

	if (!ready->status)
		return;
	json_foreach(gate, json_at(p->pod, "spec.readinessGates")) {
		struct str type = json_get_str(gate, "conditionType");
		const struct json *c = find_condition(conditions, arena_strndup(arena, type.p, type.n));

		if (str_is(json_get_str(c, "status"), "True"))
			continue;
		ready->status = false;
		ready->reason = "ReadinessGatesNotReady";
		ready->message =
			c ? arena_printf(arena, "the status of pod readiness gate \"%.*s\" is not \"True\", but %.*s",
					 STR_ARG(type), STR_ARG(json_get_str(c, "status")))
			  : arena_printf(arena,
					 "corresponding condition of pod readiness gate \"%.*s\" does not exist.",
					 STR_ARG(type));
		return;
	}
}

static bool is_ours(struct str type)
{
	static const char *const ours[] = { "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady",
					    "PodScheduled" };

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (str_is(type, ours[i]))
			return true;
	return false;
}

static struct json *conditions_json(struct arena *arena, const struct status_pod *p, enum pod_phase phase)
{
	const struct json *old = json_at(p->pod, "status.conditions");
	struct json *list = json_new_array(arena);
	struct condition sandbox = { .type = "PodReadyToStartContainers", .status = p->sandbox_ready };
	struct condition init = initialized_condition(arena, p, phase);
	struct condition ready = containers_ready(arena, p, phase, "Ready");
	struct condition all = containers_ready(arena, p, phase, "ContainersReady");
	struct condition scheduled = { .type = "PodScheduled", .status = true };

	check_gates(arena, p, &ready);
	json_append(list, condition_json(arena, p, &sandbox));
	json_append(list, condition_json(arena, p, &init));
	json_append(list, condition_json(arena, p, &ready));
	json_append(list, condition_json(arena, p, &all));
	json_append(list, condition_json(arena, p, &scheduled));
	json_foreach(c, old)
		if (!is_ours(json_get_str(c, "type")))
			json_append(list, json_clone(arena, c));
	return list;
}

/* ---- the whole ---- */

static void set_ips(struct arena *arena, struct json *status, const char *one, const char *many,
		    const char *const ips[2])
{
	struct json *list;

	if (!ips[0])
		return;
	json_set_cstr(arena, status, one, arena_strdup(arena, ips[0]));
	list = json_ensure_array(arena, status, many);
	list->first = list->last = NULL;
	list->count = 0;
	for (int i = 0; i < 2 && ips[i]; i++) {
		struct json *o = json_new_object(arena);

		json_set_cstr(arena, o, "ip", arena_strdup(arena, ips[i]));
		json_append(list, o);
	}
}

static void set_containers(struct arena *arena, const struct status_pod *p, struct json *status)
{
	struct json *init = json_new_array(arena), *apps = json_new_array(arena);

	for (size_t i = 0; i < p->n; i++)
		json_append(p->containers[i].role == ROLE_APP ? apps : init, container_json(arena, &p->containers[i]));
	json_set(status, "containerStatuses", apps);
	if (json_count(init))
		json_set(status, "initContainerStatuses", init);
	else
		json_remove(status, "initContainerStatuses");
}

struct json *status_compute(struct arena *arena, const struct status_pod *p)
{
	const struct json *old = json_get(p->pod, "status");
	struct json *status = old ? json_clone(arena, old) : json_new_object(arena);
	enum pod_phase phase = status_phase(p);
	struct str old_phase = json_get_str(old, "phase");
	int64_t generation = json_at_int(p->pod, "metadata.generation", 0);

	/* a pod that ended stays ended */
	if (str_is(old_phase, "Succeeded"))
		phase = POD_SUCCEEDED;
	else if (str_is(old_phase, "Failed"))
		phase = POD_FAILED;
	json_set_cstr(arena, status, "phase", pod_phase_names[phase]);
	json_set(status, "conditions", conditions_json(arena, p, phase));
	if (p->fail_reason) {
		set_text(arena, status, "reason", p->fail_reason);
		set_text(arena, status, "message", p->fail_message);
	}
	set_containers(arena, p, status);
	set_ips(arena, status, "hostIP", "hostIPs", p->host_ips);
	set_ips(arena, status, "podIP", "podIPs", p->pod_ips);
	if (!json_get_str(status, "startTime").n)
		set_time(arena, status, "startTime", p->now_real_ns);
	if (!json_get_str(status, "qosClass").n)
		json_set_cstr(arena, status, "qosClass", p->qos_class);
	if (generation)
		json_set_int(arena, status, "observedGeneration", generation);
	return status;
}
