/* SPDX-License-Identifier: Apache-2.0 */
/* Variables of containers and where their values come from. The references to fields and resources are those of
 * downward volumes too. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

/* ---- references to fields of the pod ---- */

static bool split_subscript(struct str s, struct str *ret_path, struct str *ret_key)
{
	long open = str_find(s, '[');

	if (open <= 0 || !str_ends(s, STR("']")) || s.n < (size_t)open + 4 || s.p[open + 1] != '\'')
		return false;
	*ret_path = str_make(s.p, (size_t)open);
	*ret_key = str_make(s.p + open + 2, s.n - (size_t)open - 4);
	return true;
}

bool hooks_field_ref_validate(struct str s, const struct field_path *at, struct field_errors *e)
{
	static const char *const labels[] = { "metadata.annotations",
					      "metadata.labels",
					      "metadata.name",
					      "metadata.namespace",
					      "metadata.uid",
					      "spec.nodeName",
					      "spec.restartPolicy",
					      "spec.serviceAccountName",
					      "spec.schedulerName",
					      "status.phase",
					      "status.hostIP",
					      "status.hostIPs",
					      "status.podIP",
					      "status.podIPs",
					      NULL };
	struct str path, key;
	const char *why;

	if (!split_subscript(s, &path, &key)) {
		if (hooks_one_of(s, labels))
			return true;
		field_invalid_str(e, FIELD(at, "fieldPath"), s,
				  "error converting fieldPath: field label not supported: %.*s", STR_ARG(s));
		return false;
	}
	if (!str_is(path, "metadata.annotations") && !str_is(path, "metadata.labels")) {
		field_invalid_str(e, FIELD(at, "fieldPath"), s,
				  "error converting fieldPath: field label does not support subscript: %.*s",
				  STR_ARG(s));
		return false;
	}
	why = str_is(path, "metadata.labels") ? validate_qualified_name(key) : validate_annotation_key(key);
	if (why)
		field_invalid_str(e, at, key, "%s", why);
	return false;
}

/* ---- references to resources of a container ---- */

#define BYTES_DIVISORS "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"

static void validate_divisor(struct str resource, struct str divisor, const struct field_path *path,
			     struct field_errors *e)
{
	static const char *const bytes[] = { "1",   "1k",  "1M",  "1G",  "1T",  "1P",  "1E",
					     "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei", NULL };
	static const struct {
		const char *end, *what;
	} kinds[] = { { ".memory", "memory" },
		      { ".ephemeral-storage", "local ephemeral storage" },
		      { NULL, "hugepages" } };

	if (!divisor.n || str_is(divisor, "0"))
		return;
	if (str_ends(resource, STR(".cpu"))) {
		if (!str_is(divisor, "1m") && !str_is(divisor, "1"))
			field_invalid_str(e, path, resource,
					  "only divisor's values 1m and 1 are supported with the cpu resource");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !hooks_one_of(divisor, bytes); i++)
		if (kinds[i].end ? str_ends(resource, str_of(kinds[i].end))
				 : memmem(resource.p, resource.n, ".hugepages-", 11) != NULL)
			field_invalid_str(e, path, resource,
					  "only divisor's values " BYTES_DIVISORS " are supported with the %s resource",
					  kinds[i].what);
}

void hooks_resource_ref_validate(const struct json *ref, bool volume, const struct field_path *at,
				 struct field_errors *e)
{
	static const char *const known[] = { "limits.cpu",
					     "limits.ephemeral-storage",
					     "limits.memory",
					     "requests.cpu",
					     "requests.ephemeral-storage",
					     "requests.memory",
					     NULL };
	struct str resource = json_get_str(ref, "resource");

	if (volume && !json_get_str(ref, "containerName").n)
		field_required(e, FIELD(at, "containerName"), NULL);
	else if (resource.n && !hooks_one_of(resource, known) && !str_starts(resource, STR("limits.hugepages-")) &&
		 !str_starts(resource, STR("requests.hugepages-")))
		field_not_supported(e, FIELD(at, "resource"), resource, known);
	validate_divisor(resource, json_get_str(ref, "divisor"), FIELD(at, "divisor"), e);
}

/* ---- variables ---- */

static void validate_env_field(const struct json *field, const struct field_path *at, struct field_errors *e)
{
	static const char *const known[] = {
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs",     "status.podIP", "status.podIPs", NULL
	};
	struct str path = json_get_str(field, "fieldPath");

	if (path.n && hooks_field_ref_validate(path, at, e) && !hooks_one_of(path, known))
		field_not_supported(e, FIELD(at, "fieldPath"), path, known);
}

static void validate_key_ref(const struct json *ref, const struct field_path *at, struct field_errors *e)
{
	hooks_text_validate(json_get_str(ref, "name"), validate_dns1123_subdomain, FIELD(at, "name"), e);
	if (json_get_str(ref, "key").n)
		hooks_text_validate(json_get_str(ref, "key"), validate_config_map_key, FIELD(at, "key"), e);
}

static void validate_file_ref(const struct json *ref, const struct field_path *at, struct field_errors *e)
{
	if (json_get_str(ref, "key").n)
		hooks_text_validate(json_get_str(ref, "key"), validate_env_name, FIELD(at, "key"), e);
	hooks_local_path(json_get_str(ref, "path"), FIELD(at, "path"), e);
}

static void validate_env_source(const struct json *v, const struct field_path *path, struct field_errors *e)
{
	static const char *const sources[] = { "fieldRef",     "resourceFieldRef", "configMapKeyRef",
					       "secretKeyRef", "fileKeyRef",       NULL };
	static const char *const keyed[] = { "configMapKeyRef", "secretKeyRef" };
	const struct json *from = json_get(v, "valueFrom");
	size_t n = hooks_count_members(from, sources);

	if (json_get(from, "fieldRef"))
		validate_env_field(json_get(from, "fieldRef"), FIELD(path, "fieldRef"), e);
	if (json_get(from, "resourceFieldRef"))
		hooks_resource_ref_validate(json_get(from, "resourceFieldRef"), false, FIELD(path, "resourceFieldRef"),
					    e);
	for (size_t i = 0; i < ARRAY_SIZE(keyed); i++)
		if (json_get(from, keyed[i]))
			validate_key_ref(json_get(from, keyed[i]), FIELD_STR(path, str_of(keyed[i])), e);
	if (json_get(from, "fileKeyRef"))
		validate_file_ref(json_get(from, "fileKeyRef"), FIELD(path, "fileKeyRef"), e);
	if (n == 0)
		field_invalid_str(e, path, STR(""),
				  "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
				  "`secretKeyRef` or `fileKeyRef`");
	else if (json_get_str(v, "value").n)
		field_invalid_str(e, path, STR(""), "may not be specified when `value` is not empty");
	else if (n > 1)
		field_invalid_str(e, path, STR(""), "may not have more than one field specified at a time");
}

void hooks_env_validate(const struct json *container, const struct field_path *path, struct field_errors *e)
{
	static const char *const refs[] = { "configMapRef", "secretRef", NULL };
	const struct field_path *list = FIELD(path, "envFrom");
	size_t i = 0;

	json_foreach(v, json_get(container, "env")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "env"), i++);

		if (json_get(v, "valueFrom"))
			validate_env_source(v, FIELD(at, "valueFrom"), e);
	}
	i = 0;
	json_foreach(v, json_get(container, "envFrom")) {
		const struct field_path *at = FIELD_INDEX(list, i++);
		size_t n = hooks_count_members(v, refs);

		if (json_get_str(v, "prefix").n)
			hooks_text_validate(json_get_str(v, "prefix"), validate_env_name, FIELD(at, "prefix"), e);
		for (const char *const *r = refs; *r; r++) {
			const struct field_path *name = FIELD(FIELD_STR(at, str_of(*r)), "name");

			if (!json_get(v, *r))
				continue;
			if (!json_get_str(json_get(v, *r), "name").n)
				field_required(e, name, NULL);
			else
				hooks_text_validate(json_get_str(json_get(v, *r), "name"), validate_dns1123_subdomain,
						    name, e);
		}
		if (n == 0)
			field_invalid_str(e, list, STR(""), "must specify one of: `configMapRef` or `secretRef`");
		else if (n > 1)
			field_invalid_str(e, list, STR(""), "may not have more than one field specified at a time");
	}
}
