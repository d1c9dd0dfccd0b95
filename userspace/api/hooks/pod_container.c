/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of pods and of pod templates: the rules between fields, in upstream's words. What one field
 * says alone (enums, formats, limits) the schema checks. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

enum container_sort { CONTAINER_MAIN, CONTAINER_INIT, CONTAINER_EPHEMERAL };

/* How many of the named members are there. */
static size_t count_members(const struct json *object, const char *const *names)
{
	size_t n = 0;

	for (; *names; names++)
		n += json_get(object, *names) && !json_is(json_get(object, *names), JSON_NULL);
	return n;
}

void hooks_port_validate(const struct json *port, const struct field_path *path, struct field_errors *e)
{
	const char *why;

	if (json_is(port, JSON_STRING)) {
		why = validate_port_name(port->text);
		if (why)
			field_invalid_str(e, path, port->text, "%s", why);
		return;
	}
	why = names_port_number(json_int(port, 0));
	if (why)
		field_invalid_int(e, path, json_int(port, 0), "%s", why);
}

/* ---- environment ---- */

static bool is_field_path(struct str s)
{
	static const char *const plain[] = {
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs",     "status.podIP", "status.podIPs"
	};

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (str_is(s, plain[i]))
			return true;
	return (str_starts(s, STR("metadata.labels['")) || str_starts(s, STR("metadata.annotations['"))) &&
	       str_ends(s, STR("']"));
}

static void validate_env_source(const struct json *from, const struct field_path *path, struct field_errors *e)
{
	static const char *const sources[] = { "fieldRef",     "resourceFieldRef", "configMapKeyRef",
					       "secretKeyRef", "fileKeyRef",       NULL };
	static const char *const keyed[] = { "configMapKeyRef", "secretKeyRef" };
	const struct json *field = json_get(from, "fieldRef");
	struct str field_path = json_get_str(field, "fieldPath");
	size_t n = count_members(from, sources);

	if (n == 0)
		field_invalid_str(e, path, STR(""),
				  "must specify one of: `fieldRef`, `resourceFieldRef`, "
				  "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
	else if (n > 1)
		field_invalid_str(e, path, STR(""), "may not have more than one field specified at a time");
	if (field && field_path.n && !is_field_path(field_path))
		field_invalid_str(e, FIELD(FIELD(path, "fieldRef"), "fieldPath"), field_path,
				  "error converting fieldPath: field label not supported: %.*s", STR_ARG(field_path));
	for (size_t i = 0; i < ARRAY_SIZE(keyed); i++) {
		const struct json *ref = json_get(from, keyed[i]);
		const struct field_path *at = FIELD_STR(path, str_of(keyed[i]));
		struct str key = json_get_str(ref, "key");
		const char *why;

		if (!ref)
			continue;
		if (!json_get_str(ref, "name").n)
			field_required(e, FIELD(at, "name"), NULL);
		why = key.n ? validate_config_map_key(key) : NULL;
		if (why)
			field_invalid_str(e, FIELD(at, "key"), key, "%s", why);
	}
}

static void validate_env(const struct json *container, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(v, json_get(container, "env")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "env"), i++);
		const struct json *from = json_get(v, "valueFrom");

		if (!from)
			continue;
		if (json_get_str(v, "value").n)
			field_invalid_str(e, FIELD(at, "valueFrom"), STR(""),
					  "may not be specified when `value` is not empty");
		validate_env_source(from, FIELD(at, "valueFrom"), e);
	}
	i = 0;
	json_foreach(v, json_get(container, "envFrom")) {
		static const char *const sources[] = { "configMapRef", "secretRef", NULL };
		const struct field_path *at = FIELD_INDEX(FIELD(path, "envFrom"), i++);
		size_t n = count_members(v, sources);

		if (n == 0)
			field_invalid_str(e, at, STR(""), "must specify one of: `configMapRef` or `secretRef`");
		else if (n > 1)
			field_invalid_str(e, at, STR(""), "may not have more than one field specified at a time");
		else if (!json_at_str(v, "configMapRef.name").n && !json_at_str(v, "secretRef.name").n)
			field_required(
				e,
				FIELD(FIELD_STR(at, json_get(v, "secretRef") ? STR("secretRef") : STR("configMapRef")),
				      "name"),
				NULL);
	}
}

/* ---- ports ---- */

static bool same_port(const struct json *a, const struct json *b, const char *key)
{
	struct str pa = json_get_str(a, "protocol"), pb = json_get_str(b, "protocol");

	return json_get_int(a, key, 0) == json_get_int(b, key, 0) &&
	       str_eq(pa.n ? pa : STR("TCP"), pb.n ? pb : STR("TCP")) &&
	       str_eq(json_get_str(a, "hostIP"), json_get_str(b, "hostIP"));
}

static void validate_ports(const struct json *container, bool host_network, const struct field_path *path,
			   struct field_errors *e)
{
	const struct json *ports = json_get(container, "ports");
	size_t i = 0;

	json_foreach(p, ports) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "ports"), i++);
		struct str name = json_get_str(p, "name");
		int64_t host = json_get_int(p, "hostPort", 0);

		if (host && host_network && host != json_get_int(p, "containerPort", 0))
			field_invalid_int(e, FIELD(at, "hostPort"), host,
					  "must match `containerPort` when `hostNetwork` is true");
		json_foreach(q, ports) {
			if (q == p)
				break;
			if (name.n && str_eq(name, json_get_str(q, "name"))) {
				field_duplicate_str(e, FIELD(at, "name"), name);
				break;
			}
		}
	}
}

/* One pod cannot hold a host port twice. */
static void validate_host_ports(const struct json *containers, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(c, containers) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		size_t j = 0;

		json_foreach(p, json_get(c, "ports")) {
			const struct field_path *port = FIELD_INDEX(FIELD(at, "ports"), j++);
			bool repeated = false, here = false;

			if (!json_get_int(p, "hostPort", 0))
				continue;
			json_foreach(d, containers) {
				json_foreach(q, json_get(d, "ports")) {
					here = q == p;
					if (here)
						break;
					repeated |= same_port(p, q, "hostPort");
				}
				if (here)
					break;
			}
			if (repeated)
				field_duplicate(e, FIELD(port, "hostPort"), json_get(p, "hostPort"));
		}
	}
}

/* ---- mounts ---- */

static bool has_dot_dot(struct str path)
{
	struct str part;

	while (str_split(&path, '/', &part))
		if (str_is(part, ".."))
			return true;
	return false;
}

static const struct json *find_named(const struct json *list, struct str name)
{
	json_foreach(it, list)
		if (str_eq(json_get_str(it, "name"), name))
			return it;
	return NULL;
}

static void validate_mounts(const struct json *container, const struct json *volumes, const struct field_path *path,
			    struct field_errors *e)
{
	const struct json *mounts = json_get(container, "volumeMounts");
	size_t i = 0;

	json_foreach(m, mounts) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "volumeMounts"), i++);
		struct str name = json_get_str(m, "name"), where = json_get_str(m, "mountPath"),
			   sub = json_get_str(m, "subPath"), expr = json_get_str(m, "subPathExpr");

		if (name.n && !find_named(volumes, name))
			field_not_found(e, FIELD(at, "name"), name);
		json_foreach(other, mounts) {
			if (other == m)
				break;
			if (where.n && str_eq(where, json_get_str(other, "mountPath"))) {
				field_invalid_str(e, FIELD(at, "mountPath"), where, "must be unique");
				break;
			}
		}
		if (sub.n && sub.p[0] == '/')
			field_invalid_str(e, FIELD(at, "subPath"), sub, "must be a relative path");
		if (has_dot_dot(sub))
			field_invalid_str(e, FIELD(at, "subPath"), sub, "must not contain '..'");
		if (sub.n && expr.n)
			field_invalid_str(e, FIELD(at, "subPathExpr"), expr,
					  "subPathExpr and subPath are mutually exclusive");
		if (expr.n && expr.p[0] == '/')
			field_invalid_str(e, FIELD(at, "subPathExpr"), expr, "must be a relative path");
		if (has_dot_dot(expr))
			field_invalid_str(e, FIELD(at, "subPathExpr"), expr, "must not contain '..'");
		if (str_is(json_get_str(m, "mountPropagation"), "Bidirectional") &&
		    !json_at_bool(container, "securityContext.privileged", false))
			field_forbidden(e, FIELD(at, "mountPropagation"),
					"Bidirectional mount propagation is available only to privileged containers");
	}
}

/* ---- resources ---- */

static bool is_standard(struct str name, bool containers)
{
	static const char *const of_containers[] = { "cpu", "memory", "ephemeral-storage" };
	static const char *const of_others[] = { "storage", "pods", "services", "secrets", "configmaps" };

	for (size_t i = 0; i < ARRAY_SIZE(of_containers); i++)
		if (str_is(name, of_containers[i]))
			return true;
	for (size_t i = 0; !containers && i < ARRAY_SIZE(of_others); i++)
		if (str_is(name, of_others[i]))
			return true;
	return str_starts(name, STR("hugepages-"));
}

void hooks_resource_list_validate(const struct json *list, bool containers, const struct field_path *path,
				  struct field_errors *e)
{
	json_foreach(r, list) {
		const struct field_path *at = FIELD_KEY(path, r->key);
		const char *why = validate_qualified_name(r->key);
		struct quantity q = quantity_of(r);

		if (why)
			field_invalid_str(e, at, r->key, "%s", why);
		else if (str_find(r->key, '/') < 0 && !is_standard(r->key, containers))
			field_invalid_str(e, at, r->key,
					  containers ? "must be a standard resource for containers"
						     : "must be a standard resource type or fully qualified");
		if (q.nano < 0)
			field_invalid_str(e, at, json_str(r), "must be greater than or equal to 0");
		else if (containers && str_find(r->key, '/') >= 0 && q.nano % 1000000000)
			field_invalid_str(e, at, json_str(r), "must be an integer");
	}
}

static void validate_resources(const struct json *resources, const struct field_path *path, struct field_errors *e)
{
	const struct json *limits = json_get(resources, "limits"), *requests = json_get(resources, "requests");

	hooks_resource_list_validate(limits, true, FIELD(path, "limits"), e);
	hooks_resource_list_validate(requests, true, FIELD(path, "requests"), e);
	json_foreach(r, requests) {
		const struct json *limit = json_get_n(limits, r->key);
		struct quantity want = quantity_of(r), most = quantity_of(limit);
		bool extended = str_find(r->key, '/') >= 0 || str_starts(r->key, STR("hugepages-"));

		if (extended && limit && quantity_cmp(&want, &most) != 0)
			field_invalid_str(e, FIELD(path, "requests"), json_str(r),
					  "must be equal to %.*s limit of %.*s", STR_ARG(r->key),
					  STR_ARG(json_str(limit)));
		else if (limit && quantity_cmp(&want, &most) > 0)
			field_invalid_str(e, FIELD(path, "requests"), json_str(r),
					  "must be less than or equal to %.*s limit of %.*s", STR_ARG(r->key),
					  STR_ARG(json_str(limit)));
		else if (extended && !limit)
			field_required(e, FIELD_KEY(FIELD(path, "limits"), r->key),
				       "Limit must be set for non overcommitable resources");
	}
}

/* ---- probes and lifecycle ---- */

static void validate_handler(const struct json *handler, bool lifecycle, const struct field_path *path,
			     struct field_errors *e)
{
	static const char *const probe[] = { "exec", "httpGet", "tcpSocket", "grpc", NULL };
	static const char *const hook[] = { "exec", "httpGet", "tcpSocket", "sleep", NULL };
	const char *const *names = lifecycle ? hook : probe;
	size_t n = count_members(handler, names);
	const struct json *http = json_get(handler, "httpGet"), *tcp = json_get(handler, "tcpSocket"),
			  *exec = json_get(handler, "exec");

	if (n == 0)
		field_required(e, path, "must specify a handler type");
	else if (n > 1) {
		bool first = true;

		for (; *names; names++) {
			if (!json_get(handler, *names))
				continue;
			if (!first)
				field_forbidden(e, FIELD_STR(path, str_of(*names)),
						"may not specify more than 1 handler type");
			first = false;
		}
	}
	if (exec && !json_count(json_get(exec, "command")))
		field_required(e, FIELD(FIELD(path, "exec"), "command"), NULL);
	if (http)
		hooks_port_validate(json_get(http, "port"), FIELD(FIELD(path, "httpGet"), "port"), e);
	if (tcp)
		hooks_port_validate(json_get(tcp, "port"), FIELD(FIELD(path, "tcpSocket"), "port"), e);
}

static void validate_probe(const struct json *probe, bool readiness, const struct field_path *path,
			   struct field_errors *e)
{
	int64_t success = json_get_int(probe, "successThreshold", 1);

	if (!probe)
		return;
	validate_handler(probe, false, path, e);
	if (!readiness && success != 1)
		field_invalid_int(e, FIELD(path, "successThreshold"), success, "must be 1");
	if (readiness && json_get(probe, "terminationGracePeriodSeconds"))
		field_invalid(e, FIELD(path, "terminationGracePeriodSeconds"),
			      json_get(probe, "terminationGracePeriodSeconds"), "must not be set for readinessProbes");
	else if (json_get_int(probe, "terminationGracePeriodSeconds", 1) < 1)
		field_invalid(e, FIELD(path, "terminationGracePeriodSeconds"),
			      json_get(probe, "terminationGracePeriodSeconds"), "must be greater than 0");
}

static void validate_probes(const struct json *c, enum container_sort sort, const struct field_path *path,
			    struct field_errors *e)
{
	static const char *const names[] = { "livenessProbe", "readinessProbe", "startupProbe", "lifecycle" };
	const struct json *lifecycle = json_get(c, "lifecycle");
	bool sidecar = sort == CONTAINER_INIT && str_is(json_get_str(c, "restartPolicy"), "Always");

	if (sort != CONTAINER_MAIN && !sidecar) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (json_get(c, names[i]))
				field_forbidden(
					e, FIELD_STR(path, str_of(names[i])),
					sort == CONTAINER_INIT
						? "may not be set for init containers without restartPolicy=Always"
						: "cannot be set for an Ephemeral Container");
		return;
	}
	validate_probe(json_get(c, "livenessProbe"), false, FIELD(path, "livenessProbe"), e);
	validate_probe(json_get(c, "readinessProbe"), true, FIELD(path, "readinessProbe"), e);
	validate_probe(json_get(c, "startupProbe"), false, FIELD(path, "startupProbe"), e);
	if (json_get(lifecycle, "preStop"))
		validate_handler(json_get(lifecycle, "preStop"), true, FIELD(FIELD(path, "lifecycle"), "preStop"), e);
	if (json_get(lifecycle, "postStart"))
		validate_handler(json_get(lifecycle, "postStart"), true, FIELD(FIELD(path, "lifecycle"), "postStart"),
				 e);
}

/* ---- one container ---- */

static void validate_container(const struct json *c, const struct json *spec, enum container_sort sort,
			       const struct field_path *path, struct field_errors *e)
{
	const struct json *security = json_get(c, "securityContext");
	struct str image = json_get_str(c, "image");

	if (!image.n)
		field_required(e, FIELD(path, "image"), NULL);
	else if (str_trim(image).n != image.n)
		field_invalid_str(e, FIELD(path, "image"), image, "must not have leading or trailing whitespace");
	validate_ports(c, json_get_bool(spec, "hostNetwork", false), path, e);
	validate_env(c, path, e);
	validate_mounts(c, json_get(spec, "volumes"), path, e);
	validate_resources(json_get(c, "resources"), FIELD(path, "resources"), e);
	validate_probes(c, sort, path, e);
	if (json_get_bool(security, "privileged", false) && !json_get_bool(security, "allowPrivilegeEscalation", true))
		field_invalid(e, FIELD(path, "securityContext"), security,
			      "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
	if (sort == CONTAINER_INIT && json_get_str(c, "restartPolicy").n && !json_get(c, "restartPolicyRules") &&
	    !str_is(json_get_str(c, "restartPolicy"), "Always") &&
	    !str_is(json_get_str(c, "restartPolicy"), "OnFailure") &&
	    !str_is(json_get_str(c, "restartPolicy"), "Never"))
		field_not_supported(e, FIELD(path, "restartPolicy"), json_get_str(c, "restartPolicy"),
				    (const char *const[]){ "Always", "OnFailure", "Never", NULL });
}

void hooks_containers_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const struct {
		const char *name;
		enum container_sort sort;
	} lists[] = { { "initContainers", CONTAINER_INIT },
		      { "containers", CONTAINER_MAIN },
		      { "ephemeralContainers", CONTAINER_EPHEMERAL } };
	const struct json *main_containers = json_get(spec, "containers"), *init = json_get(spec, "initContainers");

	if (!json_count(main_containers))
		field_required(e, FIELD(path, "containers"), NULL);
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		const struct field_path *list = FIELD_STR(path, str_of(lists[l].name));
		size_t i = 0;

		json_foreach(c, json_get(spec, lists[l].name)) {
			const struct field_path *at = FIELD_INDEX(list, i++);
			struct str name = json_get_str(c, "name");

			validate_container(c, spec, lists[l].sort, at, e);
			/* Names are one space over all lists; within one the schema checks it. */
			if (name.n && lists[l].sort != CONTAINER_INIT &&
			    (find_named(init, name) ||
			     (lists[l].sort == CONTAINER_EPHEMERAL && find_named(main_containers, name))))
				field_duplicate_str(e, FIELD(at, "name"), name);
		}
	}
	validate_host_ports(main_containers, FIELD(path, "containers"), e);
}
