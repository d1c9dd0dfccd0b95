/* SPDX-License-Identifier: Apache-2.0 */
/* NetworkPolicies and Ingresses. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

/* ---- NetworkPolicy ---- */

static void policy_defaults(struct arena *arena, struct json *policy)
{
	struct json *spec = json_get(policy, "spec"), *types;
	static const char *const directions[] = { "ingress", "egress" };

	if (!json_is(spec, JSON_OBJECT))
		return;
	json_ensure_object(arena, spec, "podSelector");
	for (size_t i = 0; i < ARRAY_SIZE(directions); i++)
		json_foreach(rule, json_get(spec, directions[i]))
			json_foreach(p, json_get(rule, "ports"))
				hooks_default_str(arena, p, "protocol", "TCP");
	if (json_count(json_get(spec, "policyTypes")))
		return;
	types = json_ensure_array(arena, spec, "policyTypes");
	json_append(types, json_new_cstr(arena, "Ingress"));
	if (json_count(json_get(spec, "egress")))
		json_append(types, json_new_cstr(arena, "Egress"));
}

static void validate_ip_block(const struct json *block, const struct field_path *at, struct field_errors *e)
{
	struct str text = json_get_str(block, "cidr");
	struct names_cidr cidr, except;
	size_t i = 0;

	if (!text.n) {
		field_required(e, FIELD(at, "cidr"), NULL);
		return;
	}
	if (names_parse_cidr(text, &cidr) < 0) {
		field_invalid_str(e, FIELD(at, "cidr"), text, "%s", validate_cidr(text));
		return;
	}
	json_foreach(x, json_get(block, "except")) {
		const struct field_path *path = FIELD_INDEX(FIELD(at, "except"), i++);

		if (names_parse_cidr(json_str(x), &except) < 0)
			field_invalid_str(e, path, json_str(x), "%s", validate_cidr(json_str(x)));
		else if (!names_cidr_covers(&cidr, &except) || except.prefix == cidr.prefix)
			field_invalid_str(e, path, json_str(x), "must be a strict subset of `cidr`");
	}
}

static void validate_peer(const struct json *peer, const struct field_path *at, struct field_errors *e)
{
	size_t n = 0;

	json_foreach(m, peer)
		n += m->type != JSON_NULL;
	if (!n)
		field_required(e, at, "must specify a peer");
	else if (json_get(peer, "ipBlock") && n > 1)
		field_forbidden(e, at, "may not specify both ipBlock and another peer");
	if (json_get(peer, "ipBlock"))
		validate_ip_block(json_get(peer, "ipBlock"), FIELD(at, "ipBlock"), e);
}

static void validate_policy_port(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	const struct json *port = json_get(p, "port"), *end = json_get(p, "endPort");

	if (port)
		hooks_port_validate(port, FIELD(at, "port"), e);
	if (!end)
		return;
	if (!port)
		field_required(e, FIELD(at, "port"), "must be specified when `endPort` is specified");
	else if (json_is(port, JSON_STRING))
		field_invalid_int(e, FIELD(at, "endPort"), json_int(end, 0),
				  "may not be specified when `port` is non-numeric");
	else if (json_int(end, 0) < json_int(port, 0))
		field_invalid_int(e, FIELD(at, "endPort"), json_int(port, 0),
				  "must be greater than or equal to `port`");
	if (names_port_number(json_int(end, 0)))
		field_invalid_int(e, FIELD(at, "endPort"), json_int(end, 0), "%s", names_port_number(json_int(end, 0)));
}

static void validate_rules(const struct json *rules, const struct field_path *path, const char *peers,
			   struct field_errors *e)
{
	size_t i = 0;

	json_foreach(rule, rules) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		size_t j = 0;

		json_foreach(p, json_get(rule, "ports")) {
			validate_policy_port(p, FIELD_INDEX(FIELD(at, "ports"), j), e);
			j++;
		}
		j = 0;
		json_foreach(peer, json_get(rule, peers)) {
			validate_peer(peer, FIELD_INDEX(FIELD_STR(at, str_of(peers)), j), e);
			j++;
		}
	}
}

static void policy_validate(const struct json *policy, struct field_errors *e)
{
	const struct json *spec = json_get(policy, "spec"), *types = json_get(spec, "policyTypes");
	const struct field_path *path = FIELD(NULL, "spec");

	validate_rules(json_get(spec, "ingress"), FIELD(path, "ingress"), "from", e);
	validate_rules(json_get(spec, "egress"), FIELD(path, "egress"), "to", e);
	if (json_count(types) > 2)
		field_invalid(e, FIELD(path, "policyTypes"), types, "may not specify more than two policyTypes");
}

const struct api_hooks hooks_networkpolicies = {
	.generation = true,
	.defaults = policy_defaults,
	.validate = policy_validate,
};

/* ---- Ingress ---- */

static void validate_backend(const struct json *backend, const struct field_path *at, struct field_errors *e)
{
	const struct json *service = json_get(backend, "service"), *port = json_get(service, "port"),
			  *resource = json_get(backend, "resource");
	const struct field_path *path = FIELD(at, "service");
	struct str name = json_get_str(service, "name"), port_name = json_get_str(port, "name");
	int64_t number = json_get_int(port, "number", 0);

	if (service && resource) {
		field_invalid_str(e, at, STR(""), "cannot set both resource and service backends");
		return;
	}
	if (resource)
		return;
	if (!service) {
		field_required(e, at, "resource or service backend is required");
		return;
	}
	if (!name.n)
		field_required(e, FIELD(path, "name"), NULL);
	else if (validate_dns1035_label(name))
		field_invalid_str(e, FIELD(path, "name"), name, "%s", validate_dns1035_label(name));
	if (port_name.n && number)
		field_invalid_str(e, path, STR(""), "cannot set both port name & port number");
	else if (port_name.n && validate_port_name(port_name))
		field_invalid_str(e, FIELD(path, "port.name"), port_name, "%s", validate_port_name(port_name));
	else if (!port_name.n && !number)
		field_required(e, path, "port name or number is required");
	else if (number && names_port_number(number))
		field_invalid_int(e, FIELD(path, "port.number"), number, "%s", names_port_number(number));
}

static void validate_path(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	static const char *const types[] = { "Exact", "ImplementationSpecific", "Prefix", NULL };
	static const char *const bad[] = { "//", "/./", "/../", "%2f", "%2F" };
	struct str type = json_get_str(p, "pathType"), path = json_get_str(p, "path");
	bool known = str_is(type, "Exact") || str_is(type, "Prefix");

	if (!type.n)
		field_required(e, FIELD(at, "pathType"), "pathType must be specified");
	else if (!known && !str_is(type, "ImplementationSpecific"))
		field_not_supported(e, FIELD(at, "pathType"), type, types);
	if ((known || path.n) && (!path.n || path.p[0] != '/'))
		field_invalid_str(e, FIELD(at, "path"), path, "must be an absolute path");
	for (size_t i = 0; known && i < ARRAY_SIZE(bad); i++)
		if (path.n && memmem(path.p, path.n, bad[i], strlen(bad[i])))
			field_invalid_str(e, FIELD(at, "path"), path, "must not contain '%s'", bad[i]);
	validate_backend(json_get(p, "backend"), FIELD(at, "backend"), e);
}

static void ingress_validate(const struct json *ingress, struct field_errors *e)
{
	const struct json *spec = json_get(ingress, "spec"), *rules = json_get(spec, "rules");
	const struct field_path *path = FIELD(NULL, "spec");
	struct names_ip ip;
	size_t i = 0;

	if (!json_count(rules) && !json_get(spec, "defaultBackend"))
		field_invalid_str(e, path, STR(""), "either `defaultBackend` or `rules` must be specified");
	if (json_get(spec, "defaultBackend"))
		validate_backend(json_get(spec, "defaultBackend"), FIELD(path, "defaultBackend"), e);
	json_foreach(r, rules) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "rules"), i++);
		struct str host = json_get_str(r, "host");
		size_t j = 0;

		if (host.n && names_parse_ip(host, &ip) == 0)
			field_invalid_str(e, FIELD(at, "host"), host, "must be a DNS name, not an IP address");
		else if (host.n && names_wildcard_subdomain(host))
			field_invalid_str(e, FIELD(at, "host"), host, "%s", names_wildcard_subdomain(host));
		if (json_get(r, "http") && !json_count(json_at(r, "http.paths")))
			field_required(e, FIELD(at, "http.paths"), NULL);
		json_foreach(p, json_at(r, "http.paths")) {
			validate_path(p, FIELD_INDEX(FIELD(at, "http.paths"), j), e);
			j++;
		}
	}
}

const struct api_hooks hooks_ingresses = { .generation = true, .validate = ingress_validate };
