/* SPDX-License-Identifier: Apache-2.0 */
/* Services. Addresses and node ports are allocated by the registry; here
 * stand the defaults and what must hold between fields. No state. Any thread. */
#include <stdio.h>
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/name_set.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

#define PORT_TEXT_MAX 64

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
		    json_get(p, "port"))
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
	if (!type_is(spec, "LoadBalancer") && type_is(was, "LoadBalancer")) {
		json_set(json_ensure_object(arena, service, "status"), "loadBalancer", json_new_object(arena));
		if (hooks_same(json_get(spec, "allocateLoadBalancerNodePorts"),
			       json_get(was, "allocateLoadBalancerNodePorts")))
			json_remove(spec, "allocateLoadBalancerNodePorts");
		if (hooks_same(json_get(spec, "loadBalancerClass"), json_get(was, "loadBalancerClass")))
			json_remove(spec, "loadBalancerClass");
	}
	if ((!type_is(spec, "LoadBalancer") || !str_is(json_get_str(spec, "externalTrafficPolicy"), "Local")) &&
	    hooks_same(json_get(spec, "healthCheckNodePort"), json_get(was, "healthCheckNodePort")))
		json_remove(spec, "healthCheckNodePort");
}

static void service_prepare_create(struct arena *arena, struct json *service)
{
	json_set(json_ensure_object(arena, service, "status"), "loadBalancer", json_new_object(arena));
}

/* As upstream shows what repeats: its own struct. */
static void duplicate_port(const struct json *p, const struct field_path *at, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *shown = json_new_object(&arena);

	json_set_cstr(&arena, shown, "Name", "");
	json_set_str(&arena, shown, "Protocol", json_get_str(p, "protocol"));
	json_set(shown, "AppProtocol", json_new(&arena, JSON_NULL));
	json_set_int(&arena, shown, "Port", json_get_int(p, "port", 0));
	json_set_int(&arena, shown, "TargetPort", 0);
	json_set_int(&arena, shown, "NodePort", 0);
	field_duplicate(e, at, shown);
}

/* What the ports so far hold. */
struct ports {
	struct name_set names, numbers, node_numbers;
};

/* The port that came first with that number of that protocol. */
static const void *first_of(struct name_set *s, struct str protocol, int64_t number, const struct json *p)
{
	char text[PORT_TEXT_MAX];
	int n = snprintf(text, sizeof(text), "%lld/%.*s", (long long)number, STR_ARG(protocol));

	return name_set_put(s, str_make(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1), p);
}

static void validate_port(const struct json *p, const struct json *spec, struct ports *seen,
			  const struct field_path *at, struct field_errors *e)
{
	const struct json *ports = json_get(spec, "ports");
	struct str name = json_get_str(p, "name"), protocol = json_get_str(p, "protocol");
	int64_t node = json_get_int(p, "nodePort", 0);

	if (!name.n && json_count(ports) > 1)
		field_required(e, FIELD(at, "name"), NULL);
	hooks_port_validate(json_get(p, "targetPort"), FIELD(at, "targetPort"), e);
	if (json_get(p, "appProtocol"))
		hooks_text_validate(json_get_str(p, "appProtocol"), validate_qualified_name, FIELD(at, "appProtocol"),
				    e);
	if (node && type_is(spec, "ClusterIP"))
		field_forbidden(e, FIELD(at, "nodePort"), "may not be used when `type` is 'ClusterIP'");
	if (name.n && name_set_put(&seen->names, name, p) != p)
		field_duplicate_str(e, FIELD(at, "name"), name);
	if (node && first_of(&seen->node_numbers, protocol, node, p) != p)
		field_duplicate(e, FIELD(at, "nodePort"), json_get(p, "nodePort"));
	if (json_get(p, "port") && first_of(&seen->numbers, protocol, json_get_int(p, "port", 0), p) != p)
		duplicate_port(p, at, e);
}

static void validate_service_ports(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	struct ports seen;
	size_t i = 0;

	name_set_init(&seen.names);
	name_set_init(&seen.numbers);
	name_set_init(&seen.node_numbers);
	json_foreach(p, json_get(spec, "ports")) {
		validate_port(p, spec, &seen, FIELD_INDEX(FIELD(path, "ports"), i), e);
		i++;
	}
	name_set_finish(&seen.names);
	name_set_finish(&seen.numbers);
	name_set_finish(&seen.node_numbers);
}

/* ---- cluster addresses ---- */

static void validate_external_name(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const unset[] = { "clusterIPs", "ipFamilies", "ipFamilyPolicy" };
	struct str name = json_get_str(spec, "externalName");

	for (size_t i = 0; i < ARRAY_SIZE(unset); i++) {
		const struct json *v = json_get(spec, unset[i]);

		if (json_count(v) || (json_is(v, JSON_STRING) && v->text.n))
			field_forbidden(e, FIELD_STR(path, str_of(unset[i])),
					"may not be set for ExternalName services");
	}
	if (name.n && name.p[name.n - 1] == '.')
		name.n--;
	if (name.n)
		hooks_text_validate(name, validate_dns1123_subdomain, FIELD(path, "externalName"), e);
	else
		field_required(e, FIELD(path, "externalName"), NULL);
}

static int family_of(struct str text)
{
	return str_find(text, ':') >= 0 ? 6 : 4;
}

static void validate_families(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *families = json_get(spec, "ipFamilies"), *f = json_first(families);
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(family, families) {
		if (name_set_put(&seen, json_str(family), family) != family)
			field_duplicate(e, FIELD_INDEX(FIELD(path, "ipFamilies"), i), family);
		i++;
	}
	i = 0;
	json_foreach(ip, json_get(spec, "clusterIPs")) {
		int want = f && str_is(json_str(f), "IPv6") ? 6 : 4;

		if (!f || str_is(json_str(ip), "None"))
			break;
		if (family_of(json_str(ip)) != want)
			field_invalid_str(e, FIELD_INDEX(FIELD(path, "clusterIPs"), i), json_str(ip),
					  "expected an IPv%d value as indicated by `ipFamilies[%zu]`", want, i);
		f = f->next;
		i++;
	}
}

static void validate_addresses(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *ips = json_get(spec, "clusterIPs"), *first = json_first(ips);
	const struct field_path *at = FIELD(path, "clusterIPs");
	struct str ip = json_get_str(spec, "clusterIP");
	size_t i = 0, bad = e->n;

	if (ip.n && !json_count(ips))
		field_required(e, at, NULL);
	else if (ip.n && !str_eq(json_str(first), ip))
		field_invalid(e, at, ips, "first value must match `clusterIP`");
	else if (!ip.n && json_count(ips))
		field_invalid(e, at, ips, "must be empty when `clusterIP` is not specified");
	bad = e->n;
	json_foreach(a, ips) {
		if (i == 0 && str_is(json_str(a), "None")) {
			if (json_count(ips) > 1)
				field_invalid(e, at, ips, "'None' must be the first and only value");
		} else {
			hooks_text_validate(json_str(a), validate_ip, FIELD_INDEX(at, i), e);
		}
		i++;
	}
	if (json_count(ips) > 2)
		field_invalid(e, at, ips, "may only hold up to 2 values");
	if (e->n != bad)
		return;
	if (json_count(ips) == 2 && family_of(json_str(first)) == family_of(json_str(first->next)))
		field_invalid(e, at, ips, "may specify no more than one IP for each IP family");
	validate_families(spec, path, e);
}

static void validate_external_ips(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(a, json_get(spec, "externalIPs")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "externalIPs"), i++);

		hooks_text_validate(json_str(a), validate_ip, at, e);
		hooks_endpoint_ip_validate(json_str(a), at, e);
	}
}

/* ---- traffic ---- */

#define AFFINITY_SECONDS_MAX 86400
#define RANGES_ANNOTATION "service.beta.kubernetes.io/load-balancer-source-ranges"

static void validate_affinity(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *timeout = json_at(spec, "sessionAffinityConfig.clientIP.timeoutSeconds");
	const struct field_path *at = FIELD(path, "sessionAffinityConfig");

	if (str_is(json_get_str(spec, "sessionAffinity"), "None")) {
		if (json_get(spec, "sessionAffinityConfig"))
			field_forbidden(e, at, "must not be set when session affinity is None");
		return;
	}
	if (timeout && (json_int(timeout, 0) <= 0 || json_int(timeout, 0) > AFFINITY_SECONDS_MAX))
		field_invalid(e, FIELD(FIELD(at, "clientIP"), "timeoutSeconds"), timeout,
			      "must be greater than 0 and less than %d", AFFINITY_SECONDS_MAX);
}

static void validate_source_ranges(const struct json *service, const struct field_path *path, struct field_errors *e)
{
	const struct json *spec = json_get(service, "spec"), *ranges = json_get(spec, "loadBalancerSourceRanges");
	const struct field_path *at = FIELD(path, "LoadBalancerSourceRanges"),
				*key = FIELD_KEY(FIELD(NULL, "metadata.annotations"), STR(RANGES_ANNOTATION));
	bool balancer = type_is(spec, "LoadBalancer"), annotated = meta_has_annotation(service, RANGES_ANNOTATION);
	struct str rest = str_trim(meta_annotation(service, RANGES_ANNOTATION)), part;
	size_t i = 0;

	if (!balancer && (json_count(ranges) || annotated))
		field_forbidden(e, json_count(ranges) ? at : key, "may only be used when `type` is 'LoadBalancer'");
	json_foreach(r, ranges) {
		hooks_text_validate(str_trim(json_str(r)), validate_cidr, FIELD_INDEX(at, i), e);
		i++;
	}
	while (!json_count(ranges) && rest.n && str_split(&rest, ',', &part))
		hooks_text_validate(str_trim(part), validate_cidr, key, e);
}

static void validate_balancer(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	bool balancer = type_is(spec, "LoadBalancer"),
	     health = balancer && str_is(json_get_str(spec, "externalTrafficPolicy"), "Local");

	if (!balancer && json_get(spec, "allocateLoadBalancerNodePorts"))
		field_forbidden(e, FIELD(path, "allocateLoadBalancerNodePorts"),
				"may only be used when `type` is 'LoadBalancer'");
	if (!balancer && json_get(spec, "loadBalancerClass"))
		field_forbidden(e, FIELD(path, "loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'");
	else if (json_get(spec, "loadBalancerClass"))
		hooks_text_validate(json_get_str(spec, "loadBalancerClass"), validate_qualified_name,
				    FIELD(path, "loadBalancerClass"), e);
	if (json_get_str(spec, "externalTrafficPolicy").n && !is_external(spec))
		field_invalid_str(e, FIELD(path, "externalTrafficPolicy"), json_get_str(spec, "externalTrafficPolicy"),
				  "may only be set for externally-accessible services");
	if (!health && json_get_int(spec, "healthCheckNodePort", 0))
		field_invalid(e, FIELD(path, "healthCheckNodePort"), json_get(spec, "healthCheckNodePort"),
			      "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
}

#define HINTS_ANNOTATION "service.kubernetes.io/topology-aware-hints"
#define MODE_ANNOTATION "service.kubernetes.io/topology-mode"

static void service_validate(const struct json *service, struct field_errors *e)
{
	static const char *const distributions[] = { "PreferClose", "PreferSameNode", "PreferSameZone", NULL };
	const struct json *spec = json_get(service, "spec"), *ports = json_get(spec, "ports");
	const struct field_path *path = FIELD(NULL, "spec");
	struct str mode = meta_annotation(service, MODE_ANNOTATION);

	if (meta_has_annotation(service, MODE_ANNOTATION) && meta_has_annotation(service, HINTS_ANNOTATION) &&
	    !str_eq(mode, meta_annotation(service, HINTS_ANNOTATION)))
		field_invalid_str(e, FIELD_KEY(FIELD(NULL, "metadata.annotations"), STR(MODE_ANNOTATION)), mode,
				  "must match annotations[" HINTS_ANNOTATION "] when both are specified");
	if (!json_count(ports) && !is_headless(spec) && !type_is(spec, "ExternalName"))
		field_required(e, FIELD(path, "ports"), NULL);
	if (is_headless(spec) && (type_is(spec, "NodePort") || type_is(spec, "LoadBalancer")))
		field_invalid_str(e, FIELD_INDEX(FIELD(path, "clusterIPs"), 0), STR("None"),
				  "may not be set to 'None' for %s services",
				  type_is(spec, "NodePort") ? "NodePort" : "LoadBalancer");
	if (type_is(spec, "ExternalName"))
		validate_external_name(spec, path, e);
	validate_service_ports(spec, path, e);
	validate_labels(json_get(spec, "selector"), FIELD(path, "selector"), e);
	validate_affinity(spec, path, e);
	if (!type_is(spec, "ExternalName"))
		validate_addresses(spec, path, e);
	validate_external_ips(spec, path, e);
	validate_source_ranges(service, path, e);
	validate_balancer(spec, path, e);
	if (json_get(spec, "trafficDistribution"))
		hooks_supported(json_get_str(spec, "trafficDistribution"), distributions,
				FIELD(path, "trafficDistribution"), e);
}

/* ---- updates ---- */

/* A second address may come and go (the registry says with which policy); the first stays. */
static void validate_kept(const struct json *spec, const struct json *was, const char *key, const char *unset,
			  struct field_errors *e)
{
	const struct json *now = json_get(spec, key), *before = json_get(was, key), *a = json_first(now);
	const struct field_path *at = FIELD_STR(FIELD(NULL, "spec"), str_of(key));
	size_t i = 0;

	if (json_count(now) == json_count(before)) {
		json_foreach(b, before) {
			if (!str_eq(json_str(a), json_str(b)))
				field_invalid(e, FIELD_INDEX(at, i), now, "may not change once set");
			a = a->next;
			i++;
		}
		return;
	}
	if (!json_count(now))
		field_invalid(e, FIELD_INDEX(at, 0), now, "%s", unset);
	else if (json_count(before) && !str_eq(json_str(a), json_str(json_first(before))))
		field_invalid(e, FIELD_INDEX(at, 0), now, "may not change once set");
}

static void service_validate_update(const struct json *service, const struct json *old, struct field_errors *e)
{
	const struct json *spec = json_get(service, "spec"), *was = json_get(old, "spec");
	bool balancers = type_is(spec, "LoadBalancer") && type_is(was, "LoadBalancer");

	if (balancers && !hooks_same(json_get(spec, "loadBalancerClass"), json_get(was, "loadBalancerClass")))
		field_invalid(e, FIELD(NULL, "spec.loadBalancerClass"), json_get(spec, "loadBalancerClass"),
			      "may not change once set");
	if (balancers && str_is(json_get_str(spec, "externalTrafficPolicy"), "Local") &&
	    str_is(json_get_str(was, "externalTrafficPolicy"), "Local") &&
	    json_get_int(spec, "healthCheckNodePort", 0) != json_get_int(was, "healthCheckNodePort", 0))
		field_forbidden(e, FIELD(NULL, "spec.healthCheckNodePort"), "field is immutable");
	if (type_is(spec, "ExternalName") || type_is(was, "ExternalName") || !json_get_str(was, "clusterIP").n)
		return;
	if (!is_headless(spec) || !is_headless(was))
		validate_kept(spec, was, "clusterIPs", "primary clusterIP can not be unset", e);
	if (!is_headless(spec) && !is_headless(was))
		validate_kept(spec, was, "ipFamilies", "primary ipFamily can not be unset", e);
}

/* ---- status ---- */

void hooks_balancer_status_validate(const struct json *status, bool modes, const struct field_path *path,
				    struct field_errors *e)
{
	static const char *const supported[] = { "Proxy", "VIP", NULL };
	size_t i = 0;

	json_foreach(in, json_get(status, "ingress")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "ingress"), i++);
		struct str ip = json_get_str(in, "ip"), host = json_get_str(in, "hostname");
		const struct json *mode = json_get(in, "ipMode");
		struct names_ip address;

		if (ip.n)
			hooks_text_validate(ip, validate_ip, FIELD(at, "ip"), e);
		if (modes && ip.n && !mode)
			field_required(e, FIELD(at, "ipMode"), "must be specified when `ip` is set");
		else if (modes && mode && !ip.n)
			field_forbidden(e, FIELD(at, "ipMode"), "may not be specified when `ip` is not set");
		else if (modes && mode)
			hooks_supported(json_str(mode), supported, FIELD(at, "ipMode"), e);
		if (!host.n)
			continue;
		hooks_text_validate(host, validate_dns1123_subdomain, FIELD(at, "hostname"), e);
		if (names_parse_ip(host, &address) == 0)
			field_invalid_str(e, FIELD(at, "hostname"), host, "must be a DNS name, not an IP address");
	}
}

/* An address without a mode is one that the balancer itself has. */
static void service_prepare_status(struct arena *arena, struct json *service, const struct json *old)
{
	(void)old;
	json_foreach(in, json_at(service, "status.loadBalancer.ingress"))
		if (json_is(in, JSON_OBJECT) && json_get_str(in, "ip").n)
			hooks_default_str(arena, in, "ipMode", "VIP");
}

static void service_validate_status(const struct json *service, const struct json *old, struct field_errors *e)
{
	const struct json *balancer = json_at(service, "status.loadBalancer");
	const struct field_path *path = FIELD(NULL, "status.loadBalancer");

	(void)old;
	if (!type_is(json_get(service, "spec"), "LoadBalancer") && json_count(json_get(balancer, "ingress")))
		field_forbidden(e, FIELD(path, "ingress"), "may only be used when `spec.type` is 'LoadBalancer'");
	else
		hooks_balancer_status_validate(balancer, true, path, e);
}

static void service_warnings(struct arena *arena, const struct json *service, const struct json *old,
			     struct hooks_warnings *w)
{
	const struct json *spec = json_get(service, "spec");

	(void)old;
	if (meta_has_annotation(service, HINTS_ANNOTATION))
		hooks_warn(w, "annotation " HINTS_ANNOTATION " is deprecated, please use " MODE_ANNOTATION " instead");
	if (is_headless(spec)) {
		if (json_get_str(spec, "loadBalancerIP").n)
			hooks_warn(w, "spec.loadBalancerIP is ignored when spec.clusterIP is \"None\"");
		if (json_count(json_get(spec, "externalIPs")))
			hooks_warn(w, "spec.externalIPs is ignored when spec.clusterIP is \"None\"");
		if (str_is(json_get_str(spec, "sessionAffinity"), "ClientIP"))
			hooks_warn(w, "spec.SessionAffinity is ignored for headless services");
	}
	(void)arena;
}

const struct api_hooks hooks_services = {
	.defaults = service_defaults,
	.prepare_create = service_prepare_create,
	.prepare_update = service_prepare_update,
	.prepare_status = service_prepare_status,
	.validate = service_validate,
	.validate_update = service_validate_update,
	.validate_status = service_validate_status,
	.warnings = service_warnings,
};
