/* SPDX-License-Identifier: Apache-2.0 */
/* Pods: computed defaults, the first status, what may change in an update, grace of a deletion, QoS.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define UPDATE_FORBIDDEN                                                                                               \
	"pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"      \
	"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"                    \
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

/* ---- defaults ---- */

/* A limit without a request is the request. */
static void requests_from_limits(struct arena *arena, struct json *container)
{
	struct json *resources = json_get(container, "resources"), *limits = json_get(resources, "limits"), *requests;

	if (!json_count(limits))
		return;
	requests = json_ensure_object(arena, resources, "requests");
	json_foreach(l, limits)
		if (!json_get_n(requests, l->key))
			json_set_n(requests, l->key, json_clone(arena, l));
}

static void host_ports(struct arena *arena, struct json *container)
{
	json_foreach(p, json_get(container, "ports"))
		if (!json_get_int(p, "hostPort", 0) && json_get(p, "containerPort"))
			json_set_int(arena, p, "hostPort", json_get_int(p, "containerPort", 0));
}

static void pod_defaults(struct arena *arena, struct json *pod)
{
	static const char *const lists[] = { "initContainers", "containers" };
	struct json *spec = json_get(pod, "spec");

	if (!json_is(spec, JSON_OBJECT))
		return;
	hooks_pod_spec_defaults(arena, spec);
	hooks_default_bool(arena, spec, "enableServiceLinks", true);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i])) {
			requests_from_limits(arena, c);
			if (json_get_bool(spec, "hostNetwork", false))
				host_ports(arena, c);
		}
	requests_from_limits(arena, spec);
}

/* ---- QoS ---- */

struct qos {
	bool any;        /* some request or limit is there */
	bool guaranteed; /* so far each has equal, non-zero cpu and memory limits and requests */
};

static void qos_add(struct qos *qos, const struct json *resources)
{
	static const char *const names[] = { "cpu", "memory" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct json *limit = json_get(json_get(resources, "limits"), names[i]),
				  *request = json_get(json_get(resources, "requests"), names[i]);
		struct quantity l = quantity_of(limit), r = quantity_of(request ? request : limit);

		qos->any |= l.nano > 0 || r.nano > 0;
		qos->guaranteed &= l.nano > 0 && quantity_cmp(&l, &r) == 0;
	}
}

const char *hooks_pod_qos(const struct json *pod)
{
	const struct json *spec = json_get(pod, "spec"), *whole = json_get(spec, "resources");
	struct qos qos = { .guaranteed = true };

	if (json_count(whole)) {
		qos_add(&qos, whole);
	} else {
		json_foreach(c, json_get(spec, "initContainers"))
			qos_add(&qos, json_get(c, "resources"));
		json_foreach(c, json_get(spec, "containers"))
			qos_add(&qos, json_get(c, "resources"));
	}
	return !qos.any ? "BestEffort" : qos.guaranteed ? "Guaranteed" : "Burstable";
}

/* ---- prepare ---- */

static void pod_prepare_create(struct arena *arena, struct json *pod)
{
	struct json *status = json_new_object(arena);

	json_set_cstr(arena, status, "phase", "Pending");
	json_set_cstr(arena, status, "qosClass", hooks_pod_qos(pod));
	json_set(pod, "status", status);
	if (json_count(json_at(pod, "spec.schedulingGates"))) {
		struct json *c = json_new_object(arena);
		char now[CLOCK_RFC3339_MAX];

		clock_format_rfc3339(clock_real_ns(), now);
		json_set_cstr(arena, c, "type", "PodScheduled");
		json_set_cstr(arena, c, "status", "False");
		json_set(c, "lastProbeTime", json_new(arena, JSON_NULL));
		json_set_str(arena, c, "lastTransitionTime", str_of(arena_strdup(arena, now)));
		json_set_cstr(arena, c, "reason", "SchedulingGated");
		json_set_cstr(arena, c, "message", "Scheduling is blocked due to non-empty scheduling gates");
		json_append(json_ensure_array(arena, status, "conditions"), c);
	}
}

/* The kubelet cannot change what only creation decides. */
static void pod_prepare_status(struct arena *arena, struct json *pod, const struct json *old)
{
	struct str qos = json_at_str(old, "status.qosClass");

	if (json_is(json_get(pod, "status"), JSON_OBJECT) && !json_at_str(pod, "status.qosClass").n && qos.n)
		json_set_str(arena, json_get(pod, "status"), "qosClass", qos);
}

static int64_t pod_grace_period_s(const struct json *pod, int64_t requested)
{
	struct str phase = json_at_str(pod, "status.phase");
	int64_t period = requested >= 0 ? requested : json_at_int(pod, "spec.terminationGracePeriodSeconds", 30);

	/* Nothing runs anywhere: nobody to wait for. */
	if (!json_at_str(pod, "spec.nodeName").n || str_is(phase, "Failed") || str_is(phase, "Succeeded"))
		return 0;
	return period < 0 ? 1 : period;
}

/* ---- rules ---- */

static void pod_validate(const struct json *pod, struct field_errors *e)
{
	if (!json_get(pod, "spec"))
		field_required(e, FIELD(NULL, "spec"), NULL);
	else
		hooks_pod_spec_validate(json_get(pod, "spec"), FIELD(NULL, "spec"), e);
}

/* A copy of the new spec with the fields that may change set back to the old ones. */
static struct json *munge(struct arena *arena, const struct json *spec, const struct json *old)
{
	static const char *const whole[] = { "activeDeadlineSeconds", "tolerations" };
	static const char *const lists[] = { "initContainers", "containers" };
	struct json *copy = json_clone(arena, spec);

	for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
		const struct json *v = json_get(old, whole[i]);

		json_remove(copy, whole[i]);
		if (v)
			json_set(copy, whole[i], json_clone(arena, v));
	}
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		struct json *o = json_first(json_get(old, lists[l]));

		json_foreach(c, json_get(copy, lists[l])) {
			if (o && json_get(o, "image"))
				json_set_str(arena, c, "image", json_get_str(o, "image"));
			o = o ? o->next : NULL;
		}
	}
	if (json_get_int(old, "terminationGracePeriodSeconds", 0) < 0 &&
	    json_get_int(spec, "terminationGracePeriodSeconds", 0) == 1)
		json_set_int(arena, copy, "terminationGracePeriodSeconds",
			     json_get_int(old, "terminationGracePeriodSeconds", 0));
	return copy;
}

/* While gates hold a pod back, its node selector may grow and gates may go. */
static void munge_gated(struct arena *arena, struct json *copy, const struct json *old)
{
	static const char *const names[] = { "schedulingGates", "nodeSelector", "affinity" };

	if (!json_count(json_get(old, "schedulingGates")))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct json *v = json_get(old, names[i]);

		json_remove(copy, names[i]);
		if (v)
			json_set(copy, names[i], json_clone(arena, v));
	}
}

static void check_gates(const struct json *spec, const struct json *old, const struct field_path *path,
			struct field_errors *e)
{
	json_foreach(g, json_get(spec, "schedulingGates")) {
		bool found = false;

		json_foreach(o, json_get(old, "schedulingGates"))
			found |= json_equal(o, g);
		if (!found)
			field_forbidden(e, FIELD(path, "schedulingGates"),
					"only deletion is allowed, but found new scheduling gate '%.*s'",
					STR_ARG(json_get_str(g, "name")));
	}
}

static void check_tolerations(const struct json *spec, const struct json *old, const struct field_path *path,
			      struct field_errors *e)
{
	json_foreach(o, json_get(old, "tolerations")) {
		bool found = false;

		json_foreach(t, json_get(spec, "tolerations"))
			found |= json_equal(o, t);
		if (!found) {
			field_forbidden(e, FIELD(path, "tolerations"),
					"existing toleration can not be modified except its tolerationSeconds");
			return;
		}
	}
}

static void pod_validate_update(const struct json *pod, const struct json *old, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(pod, "spec"), *old_spec = json_get(old, "spec");
	const struct field_path *path = FIELD(NULL, "spec");
	struct json *munged;

	if (!json_is(spec, JSON_OBJECT) || !json_is(old_spec, JSON_OBJECT) || json_equal(spec, old_spec))
		return;
	if (json_count(json_get(spec, "containers")) != json_count(json_get(old_spec, "containers")) ||
	    json_count(json_get(spec, "initContainers")) != json_count(json_get(old_spec, "initContainers"))) {
		field_forbidden(e, FIELD(path, "containers"), "pod updates may not add or remove containers");
		return;
	}
	check_gates(spec, old_spec, path, e);
	check_tolerations(spec, old_spec, path, e);
	munged = munge(&arena, spec, old_spec);
	munge_gated(&arena, munged, old_spec);
	if (!json_equal(munged, old_spec))
		field_forbidden(e, path, "%s", UPDATE_FORBIDDEN);
}

static void pod_validate_status(const struct json *pod, const struct json *old, struct field_errors *e)
{
	struct str now = json_at_str(pod, "spec.nodeName"), was = json_at_str(old, "spec.nodeName"),
		   nominated = json_at_str(pod, "status.nominatedNodeName");

	if (!str_eq(now, was))
		field_forbidden(e, FIELD(NULL, "status.nodeName"), "may not be changed directly");
	if (nominated.n && validate_dns1123_subdomain(nominated))
		field_invalid_str(e, FIELD(NULL, "status.nominatedNodeName"), nominated, "%s",
				  validate_dns1123_subdomain(nominated));
}

/* ---- pod templates as objects ---- */

static void template_defaults(struct arena *arena, struct json *object)
{
	hooks_pod_spec_defaults(arena, json_at(object, "template.spec"));
}

static void template_validate(const struct json *object, struct field_errors *e)
{
	hooks_pod_spec_validate(json_at(object, "template.spec"), FIELD(NULL, "template.spec"), e);
}

const struct api_hooks hooks_pods = {
	.generation = true,
	.defaults = pod_defaults,
	.prepare_create = pod_prepare_create,
	.prepare_status = pod_prepare_status,
	.validate = pod_validate,
	.validate_update = pod_validate_update,
	.validate_status = pod_validate_status,
	.warnings = hooks_pod_warnings,
	.grace_period_s = pod_grace_period_s,
};

const struct api_hooks hooks_podtemplates = {
	.generation = true,
	.defaults = template_defaults,
	.validate = template_validate,
};
