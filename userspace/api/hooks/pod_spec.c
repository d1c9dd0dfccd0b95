/* SPDX-License-Identifier: Apache-2.0 */
/* The pod spec as pods and pod templates share it: computed defaults and the rules between fields.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

/* Members of a volume besides its name are its sources. */
static size_t count_sources(const struct json *volume)
{
	size_t n = 0;

	json_foreach(m, volume)
		n += !str_is(m->key, "name") && m->type != JSON_NULL;
	return n;
}

/* ---- defaults ---- */

static void container_defaults(struct arena *arena, struct json *c)
{
	if (!json_get(c, "imagePullPolicy"))
		json_set_cstr(arena, c, "imagePullPolicy",
			      names_image_is_latest(json_get_str(c, "image")) ? "Always" : "IfNotPresent");
	hooks_default_str(arena, c, "terminationMessagePath", "/dev/termination-log");
	hooks_default_str(arena, c, "terminationMessagePolicy", "File");
}

void hooks_pod_spec_defaults(struct arena *arena, struct json *spec)
{
	static const char *const lists[] = { "initContainers", "containers", "ephemeralContainers" };
	struct str account = json_get_str(spec, "serviceAccountName"), old = json_get_str(spec, "serviceAccount");

	if (!json_is(spec, JSON_OBJECT))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_get(spec, lists[i]))
			container_defaults(arena, c);
	json_foreach(v, json_get(spec, "volumes"))
		if (json_is(v, JSON_OBJECT) && !count_sources(v))
			json_set(v, "emptyDir", json_new_object(arena));
	/* The old name of the field goes along with the new one. */
	if (account.n)
		json_set_str(arena, spec, "serviceAccount", account);
	else if (old.n)
		json_set_str(arena, spec, "serviceAccountName", old);
}

/* ---- rules ---- */

static void validate_volumes(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(v, json_get(spec, "volumes")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "volumes"), i++);
		size_t n = count_sources(v);
		const struct json *config = json_get(v, "configMap"), *secret = json_get(v, "secret"),
				  *host = json_get(v, "hostPath"), *claim = json_get(v, "persistentVolumeClaim");
		struct str host_path = json_get_str(host, "path"), part;

		if (n == 0)
			field_required(e, at, "must specify a volume type");
		else if (n > 1)
			field_forbidden(e, at, "may not specify more than 1 volume type");
		if (config && !json_get_str(config, "name").n)
			field_required(e, FIELD(FIELD(at, "configMap"), "name"), NULL);
		if (secret && !json_get_str(secret, "secretName").n)
			field_required(e, FIELD(FIELD(at, "secret"), "secretName"), NULL);
		if (claim && !json_get_str(claim, "claimName").n)
			field_required(e, FIELD(FIELD(at, "persistentVolumeClaim"), "claimName"), NULL);
		while (str_split(&host_path, '/', &part))
			if (str_is(part, "..")) {
				field_invalid_str(e, FIELD(FIELD(at, "hostPath"), "path"), json_get_str(host, "path"),
						  "must not contain '..'");
				break;
			}
	}
}

static void validate_tolerations(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(t, json_get(spec, "tolerations")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "tolerations"), i++);
		struct str op = json_get_str(t, "operator"), effect = json_get_str(t, "effect"),
			   value = json_get_str(t, "value");

		if (!json_get_str(t, "key").n && !str_is(op, "Exists"))
			field_invalid_str(
				e, FIELD(at, "operator"), op,
				"operator must be Exists when `key` is empty, which means \"match all values and "
				"all keys\"");
		if (json_get(t, "tolerationSeconds") && !str_is(effect, "NoExecute"))
			field_invalid_str(e, FIELD(at, "effect"), effect,
					  "effect must be 'NoExecute' when `tolerationSeconds` is set");
		if (str_is(op, "Exists") && value.n)
			field_invalid_str(e, FIELD(at, "operator"), value,
					  "value must be empty when `operator` is 'Exists'");
		if (!op.n || str_is(op, "Equal")) {
			const char *why = validate_label_value(value);

			if (why)
				field_invalid_str(e, FIELD(at, "operator"), value, "%s", why);
		}
	}
}

static void validate_node_expressions(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(x, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str op = json_get_str(x, "operator"), key = json_get_str(x, "key");
		size_t n = json_count(json_get(x, "values"));
		const char *why = key.n ? validate_qualified_name(key) : NULL;

		if (why)
			field_invalid_str(e, FIELD(at, "key"), key, "%s", why);
		if ((str_is(op, "In") || str_is(op, "NotIn")) && !n)
			field_required(e, FIELD(at, "values"), "must be specified when `operator` is 'In' or 'NotIn'");
		if ((str_is(op, "Exists") || str_is(op, "DoesNotExist")) && n)
			field_forbidden(e, FIELD(at, "values"),
					"may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
		if ((str_is(op, "Gt") || str_is(op, "Lt")) && n != 1)
			field_required(e, FIELD(at, "values"),
				       "must be specified single value when `operator` is 'Lt' or 'Gt'");
	}
}

static void validate_affinity(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *node = json_at(spec, "affinity.nodeAffinity"),
			  *required = json_get(node, "requiredDuringSchedulingIgnoredDuringExecution");
	const struct field_path *node_path = FIELD(path, "affinity.nodeAffinity"),
				*terms = FIELD(FIELD(node_path, "requiredDuringSchedulingIgnoredDuringExecution"),
					       "nodeSelectorTerms"),
				*preferred = FIELD(node_path, "preferredDuringSchedulingIgnoredDuringExecution");
	size_t i = 0;

	if (required && !json_count(json_get(required, "nodeSelectorTerms")))
		field_required(e, terms, "must have at least one node selector term");
	json_foreach(t, json_get(required, "nodeSelectorTerms"))
		validate_node_expressions(json_get(t, "matchExpressions"),
					  FIELD(FIELD_INDEX(terms, i++), "matchExpressions"), e);
	i = 0;
	json_foreach(p, json_get(node, "preferredDuringSchedulingIgnoredDuringExecution"))
		validate_node_expressions(json_at(p, "preference.matchExpressions"),
					  FIELD(FIELD(FIELD_INDEX(preferred, i++), "preference"), "matchExpressions"),
					  e);
}

#define POD_NAMESERVERS_MAX 3
#define POD_SEARCHES_MAX 32

static void validate_dns(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *config = json_get(spec, "dnsConfig"), *servers = json_get(config, "nameservers");
	const struct field_path *at = FIELD(FIELD(path, "dnsConfig"), "nameservers");
	size_t i = 0;

	if (str_is(json_get_str(spec, "dnsPolicy"), "None")) {
		if (!config)
			field_required(e, FIELD(path, "dnsConfig"),
				       "must provide `dnsConfig` when `dnsPolicy` is None");
		else if (!json_count(servers))
			field_required(e, at, "must provide at least one DNS nameserver when `dnsPolicy` is None");
	}
	if (json_count(servers) > POD_NAMESERVERS_MAX)
		field_invalid(e, at, servers, "must not have more than %d nameservers", POD_NAMESERVERS_MAX);
	if (json_count(json_get(config, "searches")) > POD_SEARCHES_MAX)
		field_invalid(e, FIELD(FIELD(path, "dnsConfig"), "searches"), json_get(config, "searches"),
			      "must not have more than %d search paths", POD_SEARCHES_MAX);
	json_foreach(s, servers) {
		const char *why = validate_ip(json_str(s));

		if (why)
			field_invalid_str(e, FIELD_INDEX(at, i), json_str(s), "%s", why);
		i++;
	}
}

void hooks_pod_spec_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	hooks_containers_validate(spec, path, e);
	validate_volumes(spec, path, e);
	validate_tolerations(spec, path, e);
	validate_affinity(spec, path, e);
	validate_dns(spec, path, e);
	validate_labels(json_get(spec, "nodeSelector"), FIELD(path, "nodeSelector"), e);
	if (json_get_bool(spec, "shareProcessNamespace", false) && json_get_bool(spec, "hostPID", false))
		field_invalid(e, FIELD(path, "shareProcessNamespace"), json_get(spec, "shareProcessNamespace"),
			      "ShareProcessNamespace and HostPID cannot both be enabled");
}
