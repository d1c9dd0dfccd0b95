/* SPDX-License-Identifier: Apache-2.0 */
/* NetworkPolicies, Ingresses, the objects of cluster addresses. No state. Any thread. */
#include <string.h>

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
	const struct field_path *path = FIELD(at, "endPort");

	if (port)
		hooks_port_validate(port, FIELD(at, "port"), e);
	if (!end)
		return;
	if (!port) {
		field_invalid(e, path, end, "may not be specified when `port` is not specified");
	} else if (json_is(port, JSON_STRING)) {
		field_invalid(e, path, end, "may not be specified when `port` is non-numeric");
	} else {
		if (json_int(end, 0) < json_int(port, 0))
			field_invalid(e, path, end, "must be greater than or equal to `port`");
		if (names_port_number(json_int(end, 0)))
			field_invalid(e, path, end, "%s", names_port_number(json_int(end, 0)));
	}
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

static void validate_resource_backend(const struct json *ref, const struct field_path *at, struct field_errors *e)
{
	static const char *const parts[] = { "kind", "name" };

	if (json_get(ref, "apiGroup"))
		hooks_text_validate(json_get_str(ref, "apiGroup"), validate_dns1123_subdomain, FIELD(at, "apiGroup"),
				    e);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (json_get_str(ref, parts[i]).n)
			hooks_text_validate(json_get_str(ref, parts[i]), validate_path_segment,
					    FIELD_STR(at, str_of(parts[i])), e);
}

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
	if (resource) {
		validate_resource_backend(resource, FIELD(at, "resource"), e);
		return;
	}
	if (!service) {
		field_invalid_str(e, at, STR(""), "resource or service backend is required");
		return;
	}
	if (!name.n)
		field_required(e, FIELD(path, "name"), NULL);
	else
		hooks_text_validate(name, validate_dns1035_label, FIELD(path, "name"), e);
	if (port_name.n && number)
		field_invalid_str(e, at, STR(""), "cannot set both port name & port number");
	else if (port_name.n)
		hooks_text_validate(port_name, validate_port_name, FIELD(FIELD(path, "port"), "name"), e);
	else if (!number)
		field_required(e, at, "port name or number is required");
}

static void validate_path(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	static const char *const types[] = { "Exact", "ImplementationSpecific", "Prefix", NULL };
	static const char *const bad[] = { "//", "/./", "/../", "%2f", "%2F" };
	static const char *const ends[] = { "/..", "/." };
	struct str type = json_get_str(p, "pathType"), path = json_get_str(p, "path");
	bool known = str_is(type, "Exact") || str_is(type, "Prefix");

	if (!json_get(p, "pathType")) {
		field_required(e, FIELD(at, "pathType"), "pathType must be specified");
		return;
	}
	hooks_supported(type, types, FIELD(at, "pathType"), e);
	if ((known || (path.n && hooks_one_of(type, types))) && (!path.n || path.p[0] != '/'))
		field_invalid_str(e, FIELD(at, "path"), path, "must be an absolute path");
	for (size_t i = 0; known && i < ARRAY_SIZE(bad); i++)
		if (path.n && memmem(path.p, path.n, bad[i], strlen(bad[i])))
			field_invalid_str(e, FIELD(at, "path"), path, "must not contain '%s'", bad[i]);
	for (size_t i = 0; known && i < ARRAY_SIZE(ends); i++)
		if (str_ends(path, str_of(ends[i])))
			field_invalid_str(e, FIELD(at, "path"), path, "cannot end with '%s'", ends[i]);
	validate_backend(json_get(p, "backend"), FIELD(at, "backend"), e);
}

static void validate_host(struct str host, const struct field_path *path, struct field_errors *e)
{
	if (str_find(host, '*') >= 0)
		hooks_text_validate(host, names_wildcard_subdomain, path, e);
	else
		hooks_text_validate(host, validate_dns1123_subdomain, path, e);
}

static void validate_tls(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(t, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		size_t j = 0;

		json_foreach(h, json_get(t, "hosts")) {
			validate_host(json_str(h), FIELD_INDEX(FIELD(at, "hosts"), j), e);
			j++;
		}
		if (json_get_str(t, "secretName").n)
			hooks_text_validate(json_get_str(t, "secretName"), validate_dns1123_subdomain,
					    FIELD(at, "secretName"), e);
	}
}

static void ingress_validate(const struct json *ingress, struct field_errors *e)
{
	const struct json *spec = json_get(ingress, "spec"), *rules = json_get(spec, "rules");
	const struct field_path *path = FIELD(NULL, "spec");
	struct names_ip ip;
	size_t i = 0;

	if (!json_count(rules) && !json_get(spec, "defaultBackend"))
		field_invalid(e, path, rules, "either `defaultBackend` or `rules` must be specified");
	if (json_get(spec, "defaultBackend"))
		validate_backend(json_get(spec, "defaultBackend"), FIELD(path, "defaultBackend"), e);
	json_foreach(r, rules) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "rules"), i++);
		struct str host = json_get_str(r, "host");
		size_t j = 0;

		if (host.n && names_parse_ip(host, &ip) == 0)
			field_invalid_str(e, FIELD(at, "host"), host, "must be a DNS name, not an IP address");
		if (host.n)
			validate_host(host, FIELD(at, "host"), e);
		json_foreach(p, json_at(r, "http.paths")) {
			validate_path(p, FIELD_INDEX(FIELD(at, "http.paths"), j), e);
			j++;
		}
	}
	validate_tls(json_get(spec, "tls"), FIELD(path, "tls"), e);
}

#define CLASS_ANNOTATION "kubernetes.io/ingress.class"

static void ingress_validate_create(const struct json *ingress, struct field_errors *e)
{
	const struct json *name = json_at(ingress, "spec.ingressClassName");
	struct str annotation = meta_annotation(ingress, CLASS_ANNOTATION);

	if (name && meta_has_annotation(ingress, CLASS_ANNOTATION) && !str_eq(annotation, json_str(name)))
		field_invalid_str(e, FIELD(NULL, "annotations." CLASS_ANNOTATION), annotation,
				  "must match `ingressClassName` when both are specified");
}

static void ingress_validate_status(const struct json *ingress, const struct json *old, struct field_errors *e)
{
	(void)old;
	hooks_balancer_status_validate(json_at(ingress, "status.loadBalancer"), false,
				       FIELD(NULL, "status.loadBalancer"), e);
}

static void ingress_warnings(struct arena *arena, const struct json *ingress, const struct json *old,
			     struct hooks_warnings *w)
{
	(void)arena;
	if (!old && meta_has_annotation(ingress, CLASS_ANNOTATION))
		hooks_warn(w, "annotation \"" CLASS_ANNOTATION
			      "\" is deprecated, please use 'spec.ingressClassName' instead");
}

const struct api_hooks hooks_ingresses = {
	.generation = true,
	.validate = ingress_validate,
	.validate_create = ingress_validate_create,
	.validate_status = ingress_validate_status,
	.warnings = ingress_warnings,
};

/* ---- IPAddress, ServiceCIDR ---- */

static void address_validate(const struct json *object, struct field_errors *e)
{
	static const char *const parts[] = { "resource", "name", "namespace" };
	const struct json *ref = json_at(object, "spec.parentRef");
	const struct field_path *at = FIELD(NULL, "spec.parentRef");

	if (json_get_str(ref, "group").n)
		hooks_text_validate(json_get_str(ref, "group"), validate_dns1123_subdomain, FIELD(at, "group"), e);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (json_get_str(ref, parts[i]).n)
			hooks_text_validate(json_get_str(ref, parts[i]), validate_path_segment,
					    FIELD_STR(at, str_of(parts[i])), e);
}

const struct api_hooks hooks_ipaddresses = { .validate = address_validate };

/* A range, not an address with a length. */
static const char *validate_range(struct str s)
{
	const char *why = validate_cidr(s);
	struct names_cidr given, masked;

	if (why || names_parse_cidr(s, &given) < 0)
		return why;
	masked = given;
	names_cidr_mask(&masked);
	return names_ip_eq(&masked.ip, &given.ip) ? NULL : "must not have bits set beyond the prefix length";
}

static void cidr_validate(const struct json *object, struct field_errors *e)
{
	const struct json *cidrs = json_at(object, "spec.cidrs");
	const struct field_path *path = FIELD(NULL, "spec.cidrs");
	struct names_cidr a, b;
	size_t i = 0;

	if (!json_count(cidrs)) {
		field_required(e, path, "at least one CIDR required");
		return;
	}
	if (json_count(cidrs) > 2) {
		field_invalid(e, path, json_get(object, "spec"), "may only hold up to 2 values");
		return;
	}
	json_foreach(c, cidrs) {
		hooks_text_validate(json_str(c), validate_range, FIELD_INDEX(path, i), e);
		i++;
	}
	if (i == 2 && names_parse_cidr(json_str(json_first(cidrs)), &a) == 0 &&
	    names_parse_cidr(json_str(json_first(cidrs)->next), &b) == 0 && a.ip.family == b.ip.family)
		field_invalid(e, path, cidrs,
			      "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and "
			      "2001:db8::/64");
}

static void cidr_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	const struct json *now = json_at(object, "spec.cidrs"), *was = json_at(old, "spec.cidrs"), *a = json_first(now);
	const struct field_path *path = FIELD(NULL, "spec.cidrs");
	size_t i = 0;

	/* A second network may come to the first. */
	if (json_count(now) != json_count(was) && !(json_count(was) == 1 && json_count(now) == 2)) {
		field_invalid(e, path, now, "field is immutable");
		return;
	}
	json_foreach(b, was) {
		if (!json_equal(a, b))
			field_invalid(e, FIELD_INDEX(path, i), a, "field is immutable");
		a = a->next;
		i++;
	}
}

const struct api_hooks hooks_servicecidrs = { .validate = cidr_validate, .validate_update = cidr_validate_update };
