/* SPDX-License-Identifier: Apache-2.0 */
/* Services, Endpoints and EndpointSlices. Addresses and node ports are allocated by the registry; here
 * stand the defaults and what must hold between fields. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

/* ---- Service ---- */

static bool type_is(const struct json *spec, const char *type)
{
	struct str t = json_get_str(spec, "type");

	return str_is(t.n ? t : STR("ClusterIP"), type);
}

static bool is_headless(const struct json *spec)
{
	return str_is(json_get_str(spec, "clusterIP"), "None");
}

/* Reachable from outside the cluster. */
static bool is_external(const struct json *spec)
{
	return type_is(spec, "NodePort") || type_is(spec, "LoadBalancer") ||
	       (type_is(spec, "ClusterIP") && json_count(json_get(spec, "externalIPs")));
}

static void service_defaults(struct arena *arena, struct json *service)
{
	struct json *spec = json_get(service, "spec");
	struct json *ips = json_get(spec, "clusterIPs");

	if (!json_is(spec, JSON_OBJECT))
		return;
	hooks_default_str(arena, spec, "type", "ClusterIP");
	hooks_default_str(arena, spec, "sessionAffinity", "None");
	json_foreach(p, json_get(spec, "ports")) {
		struct json *target = json_get(p, "targetPort");

		hooks_default_str(arena, p, "protocol", "TCP");
		if ((!target || (json_is(target, JSON_NUMBER) && json_int(target, 0) == 0) ||
		     (json_is(target, JSON_STRING) && !target->text.n)) &&
		    json_get(p, "port") && !type_is(spec, "ExternalName"))
			json_set_int(arena, p, "targetPort", json_get_int(p, "port", 0));
	}
	if (str_is(json_get_str(spec, "sessionAffinity"), "ClientIP"))
		hooks_default_int(
			arena,
			json_ensure_object(arena, json_ensure_object(arena, spec, "sessionAffinityConfig"), "clientIP"),
			"timeoutSeconds", 10800);
	else if (str_is(json_get_str(spec, "sessionAffinity"), "None"))
		json_remove(spec, "sessionAffinityConfig");
	if (!type_is(spec, "ExternalName"))
		hooks_default_str(arena, spec, "internalTrafficPolicy", "Cluster");
	if (is_external(spec))
		hooks_default_str(arena, spec, "externalTrafficPolicy", "Cluster");
	if (type_is(spec, "LoadBalancer"))
		hooks_default_bool(arena, spec, "allocateLoadBalancerNodePorts", true);
	/* The two forms of the address say the same. */
	if (json_get_str(spec, "clusterIP").n && !json_count(ips))
		json_append(json_ensure_array(arena, spec, "clusterIPs"),
			    json_new_str(arena, json_get_str(spec, "clusterIP")));
	else if (json_count(ips) && !json_get_str(spec, "clusterIP").n)
		json_set_str(arena, spec, "clusterIP", json_str(json_first(ips)));
}

/* What the old type held and the new one cannot have goes, unless the client set it anew. */
static void service_prepare_update(struct arena *arena, struct json *service, const struct json *old)
{
	struct json *spec = json_get(service, "spec");
	const struct json *was = json_get(old, "spec");
	static const char *const addresses[] = { "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy" };
	bool now_name = type_is(spec, "ExternalName"), was_name = type_is(was, "ExternalName");

	if (!json_is(spec, JSON_OBJECT))
		return;
	if (now_name && !was_name)
		for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
			json_remove(spec, addresses[i]);
	/* A PUT that leaves the address out keeps it. */
	if (!now_name && !was_name)
		for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
			if (!json_get(spec, addresses[i]) && json_get(was, addresses[i]))
				json_set(spec, addresses[i], json_clone(arena, json_get(was, addresses[i])));
	if (!is_external(spec) && is_external(was)) {
		json_remove(spec, "externalTrafficPolicy");
		json_foreach(p, json_get(spec, "ports"))
			json_remove(p, "nodePort");
	}
	if (!type_is(spec, "LoadBalancer")) {
		if (type_is(was, "LoadBalancer"))
			json_set(service, "status", json_new_object(arena));
		json_remove(spec, "allocateLoadBalancerNodePorts");
		json_remove(spec, "loadBalancerClass");
	}
	if (!type_is(spec, "LoadBalancer") || !str_is(json_get_str(spec, "externalTrafficPolicy"), "Local"))
		json_remove(spec, "healthCheckNodePort");
}

static void service_prepare_create(struct arena *arena, struct json *service)
{
	json_set(json_ensure_object(arena, service, "status"), "loadBalancer", json_new_object(arena));
}

static void validate_port(const struct json *p, const struct json *spec, const struct field_path *at,
			  struct field_errors *e)
{
	const struct json *ports = json_get(spec, "ports");
	struct str name = json_get_str(p, "name"), protocol = json_get_str(p, "protocol");

	if (!name.n && json_count(ports) > 1)
		field_required(e, FIELD(at, "name"), NULL);
	if (json_get(p, "targetPort"))
		hooks_port_validate(json_get(p, "targetPort"), FIELD(at, "targetPort"), e);
	if (json_get_int(p, "nodePort", 0) && (type_is(spec, "ClusterIP") || type_is(spec, "ExternalName")))
		field_forbidden(e, FIELD(at, "nodePort"), "may not be used when `type` is '%s'",
				type_is(spec, "ClusterIP") ? "ClusterIP" : "ExternalName");
	json_foreach(q, ports) {
		if (q == p)
			break;
		if (name.n && str_eq(name, json_get_str(q, "name")))
			field_duplicate_str(e, FIELD(at, "name"), name);
		if (json_get_int(q, "port", 0) == json_get_int(p, "port", -1) &&
		    str_eq(protocol, json_get_str(q, "protocol"))) {
			field_duplicate(e, at, p);
			return;
		}
		if (json_get_int(p, "nodePort", 0) &&
		    json_get_int(q, "nodePort", 0) == json_get_int(p, "nodePort", 0) &&
		    str_eq(protocol, json_get_str(q, "protocol")))
			field_duplicate(e, FIELD(at, "nodePort"), json_get(p, "nodePort"));
	}
}

static void validate_addresses(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *ips = json_get(spec, "clusterIPs");
	struct str ip = json_get_str(spec, "clusterIP");
	size_t i = 0;

	if (type_is(spec, "ExternalName")) {
		if (json_count(ips))
			field_forbidden(e, FIELD(path, "clusterIPs"), "may not be set when `type` is 'ExternalName'");
		return;
	}
	if (json_count(ips) > 2)
		field_invalid(e, FIELD(path, "clusterIPs"), ips, "may only hold up to 2 values");
	if (json_count(ips) && !str_eq(json_str(json_first(ips)), ip))
		field_invalid(e, FIELD(path, "clusterIPs"), ips, "first value must match `clusterIP`");
	if (is_headless(spec) && (type_is(spec, "NodePort") || type_is(spec, "LoadBalancer")))
		field_invalid_str(e, FIELD_INDEX(FIELD(path, "clusterIPs"), 0), ip,
				  "may not be set to 'None' for LoadBalancer services");
	json_foreach(a, ips) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "clusterIPs"), i++);
		const char *why = str_is(json_str(a), "None") ? NULL : validate_ip(json_str(a));

		if (why)
			field_invalid_str(e, at, json_str(a), "%s", why);
	}
	i = 0;
	json_foreach(a, json_get(spec, "externalIPs")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "externalIPs"), i++);
		struct names_ip address;

		if (names_parse_ip(json_str(a), &address) < 0)
			field_invalid_str(e, at, json_str(a), "%s", validate_ip(json_str(a)));
		else if (names_ip_is_unspecified(&address))
			field_invalid_str(e, at, json_str(a), "may not be unspecified (0.0.0.0 or ::)");
		else if (names_ip_is_loopback(&address))
			field_invalid_str(e, at, json_str(a),
					  "may not be in the loopback range (127.0.0.0/8, ::1/128)");
		else if (names_ip_is_link_local(&address))
			field_invalid_str(e, at, json_str(a),
					  "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
	}
}

static void service_validate(const struct json *service, struct field_errors *e)
{
	const struct json *spec = json_get(service, "spec"), *ports = json_get(spec, "ports");
	const struct field_path *path = FIELD(NULL, "spec");
	struct str name = json_get_str(spec, "externalName");
	size_t i = 0;

	if (!json_count(ports) && !is_headless(spec) && !type_is(spec, "ExternalName"))
		field_required(e, FIELD(path, "ports"), NULL);
	json_foreach(p, ports) {
		validate_port(p, spec, FIELD_INDEX(FIELD(path, "ports"), i), e);
		i++;
	}
	if (type_is(spec, "ExternalName")) {
		const char *why = name.n ? validate_dns1123_subdomain(
						   name.p[name.n - 1] == '.' ? str_make(name.p, name.n - 1) : name)
					 : NULL;

		if (!name.n)
			field_required(e, FIELD(path, "externalName"), NULL);
		else if (why)
			field_invalid_str(e, FIELD(path, "externalName"), name, "%s", why);
	}
	validate_labels(json_get(spec, "selector"), FIELD(path, "selector"), e);
	validate_addresses(spec, path, e);
	if (json_get_str(spec, "externalTrafficPolicy").n && !is_external(spec))
		field_invalid_str(e, FIELD(path, "externalTrafficPolicy"), json_get_str(spec, "externalTrafficPolicy"),
				  "may only be set for externally-accessible services");
	if (json_count(json_get(spec, "loadBalancerSourceRanges")) && !type_is(spec, "LoadBalancer"))
		field_forbidden(e, FIELD(path, "LoadBalancerSourceRanges"),
				"may only be used when `type` is 'LoadBalancer'");
	i = 0;
	json_foreach(r, json_get(spec, "loadBalancerSourceRanges")) {
		const char *why = validate_cidr(str_trim(json_str(r)));

		if (why)
			field_invalid_str(e, FIELD_INDEX(FIELD(path, "LoadBalancerSourceRanges"), i), json_str(r), "%s",
					  why);
		i++;
	}
}

static void service_validate_update(const struct json *service, const struct json *old, struct field_errors *e)
{
	const struct json *spec = json_get(service, "spec"), *was = json_get(old, "spec");

	/* The primary address stays while the type has one. */
	if (type_is(spec, "ExternalName") || type_is(was, "ExternalName") || !json_get_str(was, "clusterIP").n)
		return;
	if (!str_eq(json_get_str(spec, "clusterIP"), json_get_str(was, "clusterIP")))
		field_invalid(e, FIELD_INDEX(FIELD(NULL, "spec.clusterIPs"), 0), json_get(spec, "clusterIPs"),
			      "may not change once set");
}

const struct api_hooks hooks_services = {
	.defaults = service_defaults,
	.prepare_create = service_prepare_create,
	.prepare_update = service_prepare_update,
	.validate = service_validate,
	.validate_update = service_validate_update,
};

/* ---- Endpoints ---- */

static void validate_endpoint_ip(struct str s, const struct field_path *at, struct field_errors *e)
{
	struct names_ip ip;

	if (names_parse_ip(s, &ip) < 0)
		field_invalid_str(e, at, s, "%s", validate_ip(s));
	else if (names_ip_is_unspecified(&ip))
		field_invalid_str(e, at, s, "may not be unspecified (0.0.0.0 or ::)");
	else if (names_ip_is_loopback(&ip))
		field_invalid_str(e, at, s, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
	else if (names_ip_is_link_local(&ip))
		field_invalid_str(e, at, s, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
}

static void endpoints_validate(const struct json *object, struct field_errors *e)
{
	static const char *const lists[] = { "addresses", "notReadyAddresses" };
	size_t i = 0;

	json_foreach(s, json_get(object, "subsets")) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "subsets"), i++);
		size_t j = 0;

		if (!json_count(json_get(s, "addresses")) && !json_count(json_get(s, "notReadyAddresses")))
			field_required(e, at, "must specify `addresses` or `notReadyAddresses`");
		for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
			size_t k = 0;

			json_foreach(a, json_get(s, lists[l])) {
				const struct field_path *address = FIELD_INDEX(FIELD_STR(at, str_of(lists[l])), k++);

				validate_endpoint_ip(json_get_str(a, "ip"), FIELD(address, "ip"), e);
			}
		}
		json_foreach(p, json_get(s, "ports")) {
			const struct field_path *port = FIELD_INDEX(FIELD(at, "ports"), j++);

			if (!json_get_str(p, "name").n && json_count(json_get(s, "ports")) > 1)
				field_required(e, FIELD(port, "name"), NULL);
		}
	}
}

const struct api_hooks hooks_endpoints = { .validate = endpoints_validate };

/* ---- EndpointSlice ---- */

#define SLICE_ENDPOINTS_MAX 1000
#define SLICE_PORTS_MAX 20000

static void slice_defaults(struct arena *arena, struct json *object)
{
	json_foreach(p, json_get(object, "ports")) {
		hooks_default_str(arena, p, "name", "");
		hooks_default_str(arena, p, "protocol", "TCP");
	}
}

static void slice_validate(const struct json *object, struct field_errors *e)
{
	static const char *const types[] = { "IPv4", "IPv6", "FQDN", NULL };
	const struct json *endpoints = json_get(object, "endpoints"), *ports = json_get(object, "ports");
	struct str type = json_get_str(object, "addressType");
	size_t i = 0;

	if (type.n && !str_is(type, "IPv4") && !str_is(type, "IPv6") && !str_is(type, "FQDN"))
		field_not_supported(e, FIELD(NULL, "addressType"), type, types);
	if (json_count(endpoints) > SLICE_ENDPOINTS_MAX)
		field_too_many(e, FIELD(NULL, "endpoints"), json_count(endpoints), SLICE_ENDPOINTS_MAX);
	if (json_count(ports) > SLICE_PORTS_MAX)
		field_too_many(e, FIELD(NULL, "ports"), json_count(ports), SLICE_PORTS_MAX);
	json_foreach(ep, endpoints) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "endpoints"), i++);
		size_t j = 0;

		if (!json_count(json_get(ep, "addresses")))
			field_required(e, FIELD(at, "addresses"), "must contain at least 1 address");
		json_foreach(a, json_get(ep, "addresses")) {
			const struct field_path *address = FIELD_INDEX(FIELD(at, "addresses"), j++);
			struct names_ip ip;

			if (str_is(type, "FQDN")) {
				const char *why = validate_dns1123_subdomain(json_str(a));

				if (why)
					field_invalid_str(e, address, json_str(a), "%s", why);
				continue;
			}
			validate_endpoint_ip(json_str(a), address, e);
			if (names_parse_ip(json_str(a), &ip) == 0 && ip.family != (str_is(type, "IPv6") ? 6 : 4))
				field_invalid_str(e, address, json_str(a), "must be an %.*s address", STR_ARG(type));
		}
	}
	i = 0;
	json_foreach(p, ports) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "ports"), i++);

		json_foreach(q, ports) {
			if (q == p)
				break;
			if (str_eq(json_get_str(p, "name"), json_get_str(q, "name"))) {
				field_duplicate_str(e, FIELD(at, "name"), json_get_str(p, "name"));
				break;
			}
		}
	}
}

const struct api_hooks hooks_endpointslices = {
	.generation = true,
	.defaults = slice_defaults,
	.validate = slice_validate,
};
