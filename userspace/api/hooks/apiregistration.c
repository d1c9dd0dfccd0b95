/* SPDX-License-Identifier: Apache-2.0 */
/* APIServices: who serves a group and version. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define GROUP_PRIORITY_MAX 20000
#define VERSION_PRIORITY_MAX 1000
#define SERVICE_PORT_DEFAULT 443

static void apiservice_defaults(struct arena *arena, struct json *object)
{
	struct json *service = json_at(object, "spec.service");

	if (json_is(service, JSON_OBJECT))
		hooks_default_int(arena, service, "port", SERVICE_PORT_DEFAULT);
}

/* The group-versions of this server are always there; what a service would serve nobody has asked yet. */
static void apiservice_prepare_create(struct arena *arena, struct json *object)
{
	struct json *status = json_new_object(arena), *c;
	char now[CLOCK_RFC3339_MAX];

	json_set(object, "status", status);
	if (json_at(object, "spec.service"))
		return;
	clock_format_rfc3339(clock_real_ns(), now);
	c = json_new_object(arena);
	json_set_cstr(arena, c, "lastTransitionTime", arena_strdup(arena, now));
	json_set_cstr(arena, c, "message", "Local APIServices are always available");
	json_set_cstr(arena, c, "reason", "Local");
	json_set_cstr(arena, c, "status", "True");
	json_set_cstr(arena, c, "type", "Available");
	json_append(json_ensure_array(arena, status, "conditions"), c);
}

static void validate_remote(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *service = json_get(spec, "service");
	const struct field_path *at = FIELD(path, "service");
	const char *why = names_port_number(json_get_int(service, "port", 0));

	if (!json_get_str(service, "namespace").n)
		field_required(e, FIELD(at, "namespace"), NULL);
	if (!json_get_str(service, "name").n)
		field_required(e, FIELD(at, "name"), NULL);
	if (why)
		field_invalid_int(e, FIELD(at, "port"), json_get_int(service, "port", 0), "port is not valid: %s", why);
	if (json_get_bool(spec, "insecureSkipTLSVerify", false) && json_get_str(spec, "caBundle").n)
		field_invalid(e, FIELD(path, "insecureSkipTLSVerify"), json_get(spec, "insecureSkipTLSVerify"),
			      "may not be true if caBundle is present");
}

static void validate_local(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	if (json_get_str(spec, "caBundle").n)
		field_invalid(e, FIELD(path, "caBundle"), json_get(spec, "caBundle"),
			      "local APIServices may not have a caBundle");
	if (json_get_bool(spec, "insecureSkipTLSVerify", false))
		field_invalid(e, FIELD(path, "insecureSkipTLSVerify"), json_get(spec, "insecureSkipTLSVerify"),
			      "local APIServices may not have insecureSkipTLSVerify");
}

static void validate_name_of(const struct json *object, struct str group, struct str version, struct field_errors *e)
{
	struct str name = meta_name(object), prefix = str_make(name.p, version.n < name.n ? version.n : name.n);

	if (name.n == version.n + 1 + group.n && str_eq(prefix, version) && name.p[version.n] == '.' &&
	    str_ends(name, group))
		return;
	field_invalid_str(e, FIELD(NULL, "metadata.name"), name,
			  "must be `spec.version+\".\"+spec.group`: \"%.*s.%.*s\"", STR_ARG(version), STR_ARG(group));
}

static void apiservice_validate(const struct json *object, struct field_errors *e)
{
	const struct json *spec = json_get(object, "spec");
	const struct field_path *path = FIELD(NULL, "spec");
	struct str group = json_get_str(spec, "group"), version = json_get_str(spec, "version");
	int64_t of_group = json_get_int(spec, "groupPriorityMinimum", 0),
		of_version = json_get_int(spec, "versionPriority", 0);

	validate_name_of(object, group, version, e);
	if (!group.n && !str_is(version, "v1"))
		field_required(e, FIELD(path, "group"), "only v1 may have an empty group and it better be legacy kube");
	if (group.n && validate_dns1123_subdomain(group))
		field_invalid_str(e, FIELD(path, "group"), group, "%s", validate_dns1123_subdomain(group));
	if (validate_dns1035_label(version))
		field_invalid_str(e, FIELD(path, "version"), version, "%s", validate_dns1035_label(version));
	if (of_group <= 0 || of_group > GROUP_PRIORITY_MAX)
		field_invalid_int(e, FIELD(path, "groupPriorityMinimum"), of_group, "must be positive and less than %d",
				  GROUP_PRIORITY_MAX);
	if (of_version <= 0 || of_version > VERSION_PRIORITY_MAX)
		field_invalid_int(e, FIELD(path, "versionPriority"), of_version, "must be positive and less than %d",
				  VERSION_PRIORITY_MAX);
	if (json_get(spec, "service"))
		validate_remote(spec, path, e);
	else
		validate_local(spec, path, e);
}

const struct api_hooks hooks_apiservices = {
	.defaults = apiservice_defaults,
	.prepare_create = apiservice_prepare_create,
	.validate = apiservice_validate,
};
