/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of pods and of pod templates: the rules between fields, in upstream's words. What one field
 * says alone (enums, formats, limits) the schema checks. No state. Any thread. */
#include <stdio.h>
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/name_set.h"
#include "userspace/base/mem.h"

#define RESTART_RULES_MAX 20
#define RESTART_CODES_MAX 255

enum container_sort { CONTAINER_MAIN, CONTAINER_INIT, CONTAINER_EPHEMERAL };

/* ---- ports ---- */

static void validate_ports(const struct json *container, const struct json *spec, bool is_pod,
			   const struct field_path *path, struct field_errors *e)
{
	const struct json *ports = json_get(container, "ports");
	bool host_network = json_get_bool(spec, "hostNetwork", false);
	_cleanup_name_set_ struct name_set names;
	size_t i = 0;

	name_set_init(&names);
	json_foreach(p, ports) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "ports"), i++);
		struct str name = json_get_str(p, "name");
		int64_t host = json_get_int(p, "hostPort", 0);

		if (host_network && (host || is_pod) && host != json_get_int(p, "containerPort", 0))
			field_invalid_int(e, FIELD(at, "hostPort"), host,
					  "must match `containerPort` when `hostNetwork` is true");
		if (name.n && name_set_put(&names, name, p) != p)
			field_duplicate_str(e, FIELD(at, "name"), name);
	}
}

/* One pod cannot hold a host port twice. */
static void validate_host_ports(const struct json *containers, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set held;
	size_t i = 0;

	name_set_init(&held);
	json_foreach(c, containers) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		size_t j = 0;

		json_foreach(p, json_get(c, "ports")) {
			const struct field_path *port = FIELD_INDEX(FIELD(at, "ports"), j++);
			struct str protocol = json_get_str(p, "protocol");
			char text[FIELD_PATH_MAX];

			if (!json_get_int(p, "hostPort", 0))
				continue;
			snprintf(text, sizeof(text), "%.*s/%.*s/%lld", STR_ARG(protocol.n ? protocol : STR("TCP")),
				 STR_ARG(json_get_str(p, "hostIP")), (long long)json_get_int(p, "hostPort", 0));
			if (name_set_put(&held, str_of(text), p) == p)
				continue;
			field_duplicate_str(e, FIELD(port, "hostPort"), str_of(text));
		}
	}
}

/* ---- mounts and devices ---- */

/* The paths of these findings leave out which mount it is, as upstream's do. */
static void validate_sub_path(const struct json *m, const struct json *container, const struct field_path *at,
			      const struct field_path *list, struct field_errors *e)
{
	struct str sub = json_get_str(m, "subPath"), expr = json_get_str(m, "subPathExpr"),
		   recursive = json_get_str(m, "recursiveReadOnly"), propagation = json_get_str(m, "mountPropagation");
	static const char *const modes[] = { "Disabled", "Enabled", "IfPossible", NULL };

	hooks_relative_path(sub, FIELD(list, "subPath"), e);
	if (sub.n && expr.n)
		field_invalid_str(e, FIELD(at, "subPathExpr"), expr, "subPathExpr and subPath are mutually exclusive");
	hooks_relative_path(expr, FIELD(list, "subPathExpr"), e);
	if (str_is(propagation, "Bidirectional") && !json_at_bool(container, "securityContext.privileged", false))
		field_forbidden(e, FIELD(list, "mountPropagation"),
				"Bidirectional mount propagation is available only to privileged containers");
	if (str_is(recursive, "Enabled") || str_is(recursive, "IfPossible")) {
		if (!json_get_bool(m, "readOnly", false))
			field_forbidden(e, FIELD(list, "recursiveReadOnly"),
					"may only be specified when readOnly is true");
		if (propagation.n && !str_is(propagation, "None"))
			field_forbidden(e, FIELD(list, "recursiveReadOnly"),
					"may only be specified when mountPropagation is None or not specified");
	} else if (recursive.n) {
		hooks_supported(recursive, modes, FIELD(list, "recursiveReadOnly"), e);
	}
}

/* What a container mounts and which devices it gets, by name and by place. */
struct places {
	struct name_set mounts, mount_paths, devices, device_paths;
};

static void validate_mounts(const struct json *container, const struct name_set *volumes, const struct places *places,
			    const struct field_path *path, struct field_errors *e)
{
	const struct field_path *list = FIELD(path, "volumeMounts");
	size_t i = 0;

	json_foreach(m, json_get(container, "volumeMounts")) {
		const struct field_path *at = FIELD_INDEX(list, i++);
		struct str name = json_get_str(m, "name"), where = json_get_str(m, "mountPath");

		if (!name_set_get(volumes, name))
			field_not_found(e, FIELD(at, "name"), name);
		if (name_set_get(&places->mount_paths, where) != m)
			field_invalid_str(e, FIELD(at, "mountPath"), where, "must be unique");
		if (name.n && name_set_get(&places->devices, name))
			field_invalid_str(e, FIELD(at, "name"), name, "must not already exist in volumeDevices");
		if (where.n && name_set_get(&places->device_paths, where))
			field_invalid_str(e, FIELD(at, "mountPath"), where,
					  "must not already exist as a path in volumeDevices");
		validate_sub_path(m, container, at, list, e);
	}
}

static void validate_devices(const struct json *container, const struct name_set *volumes, const struct places *places,
			     const struct field_path *path, struct field_errors *e)
{
	static const char *const claims[] = { "persistentVolumeClaim", "ephemeral", NULL };
	size_t i = 0;

	json_foreach(d, json_get(container, "volumeDevices")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "volumeDevices"), i++),
					*name_at = FIELD(at, "name"), *path_at = FIELD(at, "devicePath");
		struct str name = json_get_str(d, "name"), where = json_get_str(d, "devicePath"), rest = where, part;
		const struct json *volume = name_set_get(volumes, name);

		if (name.n && name_set_get(&places->devices, name) != d)
			field_invalid_str(e, name_at, name, "must be unique");
		if (!volume)
			field_not_found(e, name_at, name);
		else if (!hooks_count_members(volume, claims))
			field_invalid_str(e, name_at, name,
					  "can only use volume source type of PersistentVolumeClaim or Ephemeral for "
					  "block mode");
		if (name_set_get(&places->device_paths, where) != d)
			field_invalid_str(e, path_at, where, "must be unique");
		while (str_split(&rest, '/', &part))
			if (str_is(part, "..")) {
				field_invalid_str(e, path_at, where, "can not contain backsteps ('..')");
				break;
			}
		if (name.n && name_set_get(&places->mounts, name))
			field_invalid_str(e, name_at, name, "must not already exist in volumeMounts");
		if (where.n && name_set_get(&places->mount_paths, where))
			field_invalid_str(e, path_at, where, "must not already exist as a path in volumeMounts");
	}
}

static void validate_places(const struct json *container, const struct name_set *volumes, const struct field_path *path,
			    struct field_errors *e)
{
	const struct json *mounts = json_get(container, "volumeMounts"),
			  *devices = json_get(container, "volumeDevices");
	struct places places;

	name_set_init(&places.mounts);
	name_set_init(&places.mount_paths);
	name_set_init(&places.devices);
	name_set_init(&places.device_paths);
	name_set_add_list(&places.mounts, mounts, "name");
	name_set_add_list(&places.mount_paths, mounts, "mountPath");
	name_set_add_list(&places.devices, devices, "name");
	name_set_add_list(&places.device_paths, devices, "devicePath");
	validate_mounts(container, volumes, &places, path, e);
	validate_devices(container, volumes, &places, path, e);
	name_set_finish(&places.mounts);
	name_set_finish(&places.mount_paths);
	name_set_finish(&places.devices);
	name_set_finish(&places.device_paths);
}

/* ---- restart policies of single containers ---- */

static void validate_restart_rule(const struct json *rule, const struct field_path *at, struct field_errors *e)
{
	static const char *const actions[] = { "Restart", NULL };
	static const char *const operators[] = { "In", "NotIn", NULL };
	const struct json *codes = json_get(rule, "exitCodes");
	const struct field_path *path = FIELD(at, "exitCodes");
	size_t n = json_count(json_get(codes, "values"));

	if (json_get_str(rule, "action").n)
		hooks_supported(json_get_str(rule, "action"), actions, FIELD(at, "action"), e);
	if (!codes) {
		field_required(e, path, "must be specified");
		return;
	}
	if (json_get_str(codes, "operator").n)
		hooks_supported(json_get_str(codes, "operator"), operators, FIELD(path, "operator"), e);
	if (n == 0)
		field_required(e, FIELD(path, "values"), "must specify at least one value");
	else if (n > RESTART_CODES_MAX)
		field_too_many(e, FIELD(path, "values"), n, RESTART_CODES_MAX);
}

static void validate_restart(const struct json *c, enum container_sort sort, const struct field_path *path,
			     struct field_errors *e)
{
	static const char *const policies[] = { "Always", "Never", "OnFailure", NULL };
	const struct json *policy = json_get(c, "restartPolicy"), *rules = json_get(c, "restartPolicyRules");
	const struct field_path *at = FIELD(path, "restartPolicyRules");
	size_t i = 0;

	if (sort == CONTAINER_EPHEMERAL) {
		if (policy)
			field_forbidden(e, FIELD(path, "restartPolicy"), "cannot be set for an Ephemeral Container");
		if (json_count(rules))
			field_forbidden(e, at, "cannot be set for an Ephemeral Container");
		return;
	}
	if (policy)
		hooks_supported(json_str(policy), policies, FIELD(path, "restartPolicy"), e);
	if (!json_count(rules))
		return;
	if (!policy)
		field_required(e, FIELD(path, "restartPolicy"),
			       "must specify restartPolicy when restart rules are used");
	if (json_count(rules) > RESTART_RULES_MAX)
		field_too_many(e, at, json_count(rules), RESTART_RULES_MAX);
	json_foreach(r, rules) {
		validate_restart_rule(r, FIELD_INDEX(at, i), e);
		i++;
	}
}

/* ---- one container ---- */

static void validate_init_fields(const struct json *c, const struct field_path *path, struct field_errors *e)
{
	static const char *const names[] = { "lifecycle", "livenessProbe", "readinessProbe", "startupProbe" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (json_get(c, names[i]))
			field_forbidden(e, FIELD_STR(path, str_of(names[i])),
					"may not be set for init containers without restartPolicy=Always");
}

static void validate_ephemeral_fields(const struct json *c, const struct json *spec, const struct field_path *path,
				      struct field_errors *e)
{
	static const char *const names[] = { "ports",        "livenessProbe", "readinessProbe",
					     "startupProbe", "lifecycle",     "resizePolicy" };
	static const char *const subs[] = { "subPath", "subPathExpr" };
	struct str target = json_get_str(c, "targetContainerName");
	size_t i = 0;

	if (target.n && !hooks_named(json_get(spec, "containers"), target) &&
	    !hooks_named(json_get(spec, "initContainers"), target))
		field_not_found(e, FIELD(path, "targetContainerName"), target);
	for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
		const struct json *v = json_get(c, names[k]);

		if (v && v->type != JSON_NULL && !(v->type == JSON_ARRAY && !v->count))
			field_forbidden(e, FIELD_STR(path, str_of(names[k])),
					"cannot be set for an Ephemeral Container");
	}
	if (json_count(json_get(c, "resources")))
		field_forbidden(e, FIELD(path, "resources"), "cannot be set for an Ephemeral Container");
	json_foreach(m, json_get(c, "volumeMounts")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "volumeMounts"), i++);

		for (size_t k = 0; k < ARRAY_SIZE(subs); k++)
			if (json_get_str(m, subs[k]).n)
				field_forbidden(e, FIELD_STR(at, str_of(subs[k])),
						"cannot be set for an Ephemeral Container");
	}
}

/* What the containers of a pod refer to, and their own names. */
struct names {
	struct name_set volumes, claims, main_containers, init_containers;
};

static void validate_container(const struct json *c, const struct json *spec, const struct names *names,
			       enum container_sort sort, bool is_pod, const struct field_path *path,
			       struct field_errors *e)
{
	struct str image = json_get_str(c, "image");

	if (!image.n)
		field_required(e, FIELD(path, "image"), NULL);
	else if ((is_pod || sort == CONTAINER_EPHEMERAL) && str_trim(image).n != image.n)
		field_invalid_str(e, FIELD(path, "image"), image, "must not have leading or trailing whitespace");
	validate_ports(c, sort == CONTAINER_MAIN ? spec : NULL, is_pod, path, e);
	hooks_env_validate(c, path, e);
	validate_places(c, &names->volumes, path, e);
	hooks_requirements_validate(json_get(c, "resources"), &names->claims, FIELD(path, "resources"), e);
	hooks_resize_policy_validate(json_get(c, "resizePolicy"), json_get_str(spec, "restartPolicy"),
				     FIELD(path, "resizePolicy"), e);
	hooks_container_context_validate(json_get(c, "securityContext"), json_get_bool(spec, "hostUsers", true),
					 FIELD(path, "securityContext"), e);
	validate_restart(c, sort, path, e);
	if (sort == CONTAINER_EPHEMERAL)
		validate_ephemeral_fields(c, spec, path, e);
	else if (sort == CONTAINER_MAIN || str_is(json_get_str(c, "restartPolicy"), "Always"))
		hooks_probes_validate(c, spec, path, e);
	else
		validate_init_fields(c, path, e);
}

static void validate_lists(const struct json *spec, const struct names *names, bool is_pod,
			   const struct field_path *path, struct field_errors *e)
{
	static const struct {
		const char *name;
		enum container_sort sort;
	} lists[] = { { "containers", CONTAINER_MAIN },
		      { "initContainers", CONTAINER_INIT },
		      { "ephemeralContainers", CONTAINER_EPHEMERAL } };

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		const struct field_path *list = FIELD_STR(path, str_of(lists[l].name));
		size_t i = 0;

		json_foreach(c, json_get(spec, lists[l].name)) {
			const struct field_path *at = FIELD_INDEX(list, i++);
			struct str name = json_get_str(c, "name");

			validate_container(c, spec, names, lists[l].sort, is_pod, at, e);
			/* Names are one space over all lists; within one the schema checks it. */
			if (name.n && lists[l].sort != CONTAINER_MAIN &&
			    (name_set_get(&names->main_containers, name) ||
			     (lists[l].sort == CONTAINER_EPHEMERAL && name_set_get(&names->init_containers, name))))
				field_duplicate_str(e, FIELD(at, "name"), name);
		}
	}
}

void hooks_containers_validate(const struct json *spec, bool is_pod, const struct field_path *path,
			       struct field_errors *e)
{
	struct names names;

	name_set_init(&names.volumes);
	name_set_init(&names.claims);
	name_set_init(&names.main_containers);
	name_set_init(&names.init_containers);
	name_set_add_list(&names.volumes, json_get(spec, "volumes"), "name");
	name_set_add_list(&names.claims, json_get(spec, "resourceClaims"), "name");
	name_set_add_list(&names.main_containers, json_get(spec, "containers"), "name");
	name_set_add_list(&names.init_containers, json_get(spec, "initContainers"), "name");
	validate_lists(spec, &names, is_pod, path, e);
	name_set_finish(&names.volumes);
	name_set_finish(&names.claims);
	name_set_finish(&names.main_containers);
	name_set_finish(&names.init_containers);
	validate_host_ports(json_get(spec, "containers"), FIELD(path, "containers"), e);
}
