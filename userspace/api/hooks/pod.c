/* SPDX-License-Identifier: Apache-2.0 */
/* Pods: computed defaults, the first status, what may change in an update, grace of a deletion, QoS.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

/* ---- defaults ---- */

/* A limit without a request is the request. */
static void requests_from_limits(struct arena *arena, struct json *container)
{
	struct json *resources = json_get(container, "resources"), *limits = json_get(resources, "limits"), *requests;

	if (!json_count(limits))
		return;
	requests = json_ensure_object(arena, resources, "requests");
	hooks_default_members(arena, requests, limits);
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
	static const struct json empty = { .type = JSON_OBJECT };
	const struct json *spec = json_get(pod, "spec"), *meta = meta_of(pod);
	const struct field_path *path = FIELD(NULL, "spec");
	size_t i = 0;

	hooks_pod_annotations_validate(json_get(meta, "annotations"), spec, FIELD(NULL, "metadata.annotations"), e);
	hooks_pod_spec_validate(spec, meta ? meta : &empty, path, e);
	json_foreach(v, json_get(spec, "volumes")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "volumes"), i++);
		size_t j = 0;

		json_foreach(s, json_at(v, "projected.sources")) {
			const struct field_path *source = FIELD_INDEX(FIELD(FIELD(at, "projected"), "sources"), j++);

			if (json_get(s, "serviceAccountToken") && !json_get_str(spec, "serviceAccountName").n)
				field_forbidden(e, FIELD(source, "serviceAccountToken"),
						"must not be specified when serviceAccountName is not set");
		}
	}
}

static void pod_validate_create(const struct json *pod, struct field_errors *e)
{
	const struct json *spec = json_get(pod, "spec");

	if (json_count(json_get(spec, "ephemeralContainers")))
		field_forbidden(e, FIELD(NULL, "spec.ephemeralContainers"), "cannot be set on create");
	if (json_get_str(spec, "nodeName").n && json_count(json_get(spec, "schedulingGates")))
		field_forbidden(e, FIELD(NULL, "spec.nodeName"),
				"cannot be set until all schedulingGates have been cleared");
}

static void pod_validate_update(const struct json *pod, const struct json *old, struct field_errors *e)
{
	hooks_pod_update_validate(pod, old, e);
}

/* ---- status ---- */

/* What has ended for good does not begin again. */
static void validate_ends(const struct json *pod, const struct json *old, const char *list, struct field_errors *e)
{
	struct str restart = json_at_str(old, "spec.restartPolicy");
	_cleanup_name_set_ struct name_set statuses, init, containers;
	bool ephemeral = !strcmp(list, "ephemeralContainerStatuses");
	size_t i = 0;

	name_set_init(&statuses);
	name_set_init(&init);
	name_set_init(&containers);
	if (str_is(restart, "Always") && !ephemeral)
		return;
	name_set_add_list(&statuses, json_get(json_get(pod, "status"), list), "name");
	name_set_add_list(&init, json_at(old, "spec.initContainers"), "name");
	name_set_add_list(&containers, json_at(old, "spec.containers"), "name");
	json_foreach(o, json_get(json_get(old, "status"), list)) {
		const struct json *ended = json_at(o, "state.terminated"),
				  *now = name_set_get(&statuses, json_get_str(o, "name")),
				  *c = name_set_get(&init, json_get_str(o, "name"));
		const struct field_path *at = FIELD_INDEX(FIELD_STR(FIELD(NULL, "status"), str_of(list)), i++);

		if (!ended || !now || json_at(now, "state.terminated") || json_get(c, "restartPolicy") ||
		    json_get(name_set_get(&containers, json_get_str(o, "name")), "restartPolicy"))
			continue;
		if (!ephemeral && str_is(restart, "OnFailure") && json_get_int(ended, "exitCode", 0))
			continue;
		field_forbidden(e, FIELD(at, "state"), "may not be transitioned to non-terminated state");
	}
}

static void validate_addresses(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	size_t families[2] = { 0, 0 }, i = 0;

	json_foreach(a, list) {
		struct str ip = json_get_str(a, "ip");

		hooks_text_validate(ip, validate_ip, FIELD_INDEX(path, i), e);
		families[str_find(ip, ':') >= 0]++;
		i++;
	}
	if (families[0] > 1 || families[1] > 1)
		field_invalid(e, path, list, "may specify no more than one IP for each IP family");
}

static void pod_validate_status(const struct json *pod, const struct json *old, struct field_errors *e)
{
	static const char *const lists[] = { "containerStatuses", "initContainerStatuses",
					     "ephemeralContainerStatuses" };
	struct str now = json_at_str(pod, "spec.nodeName"), was = json_at_str(old, "spec.nodeName"),
		   nominated = json_at_str(pod, "status.nominatedNodeName");

	if (!str_eq(now, was))
		field_forbidden(e, FIELD(NULL, "status.nodeName"), "may not be changed directly");
	if (nominated.n)
		hooks_text_validate(nominated, validate_dns1123_subdomain, FIELD(NULL, "status.nominatedNodeName"), e);
	validate_immutable(json_at(pod, "status.qosClass"), json_at(old, "status.qosClass"),
			   FIELD(NULL, "status.qosClass"), e);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		validate_ends(pod, old, lists[i], e);
	validate_addresses(json_at(pod, "status.podIPs"), FIELD(NULL, "status.podIPs"), e);
	validate_addresses(json_at(pod, "status.hostIPs"), FIELD(NULL, "status.hostIPs"), e);
	if (json_count(json_at(pod, "status.hostIPs")) &&
	    !str_eq(json_at_str(pod, "status.hostIP"), json_get_str(json_first(json_at(pod, "status.hostIPs")), "ip")))
		field_invalid_str(e, FIELD(FIELD_INDEX(FIELD(NULL, "status.hostIPs"), 0), "ip"),
				  json_get_str(json_first(json_at(pod, "status.hostIPs")), "ip"),
				  "must be equal to `hostIP`");
}

/* ---- pod templates as objects ---- */

static void template_defaults(struct arena *arena, struct json *object)
{
	hooks_pod_spec_defaults(arena, json_at(object, "template.spec"));
}

static void template_validate(const struct json *object, struct field_errors *e)
{
	hooks_pod_template_validate(json_get(object, "template"), FIELD(NULL, "template"), e);
}

const struct api_hooks hooks_pods = {
	.generation = true,
	.defaults = pod_defaults,
	.prepare_create = pod_prepare_create,
	.prepare_status = pod_prepare_status,
	.validate = pod_validate,
	.validate_create = pod_validate_create,
	.validate_update = pod_validate_update,
	.validate_status = pod_validate_status,
	.validate_subresource = hooks_pod_subresource_validate,
	.warnings = hooks_pod_warnings,
	.grace_period_s = pod_grace_period_s,
};

const struct api_hooks hooks_podtemplates = {
	.generation = true,
	.defaults = template_defaults,
	.validate = template_validate,
};
