/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints and EndpointSlices. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/mem.h"

/* ---- Endpoints ---- */

static void validate_address(const struct json *a, const struct field_path *at, struct field_errors *e)
{
	struct str ip = json_get_str(a, "ip"), host = json_get_str(a, "hostname");
	struct names_ip address;

	hooks_text_validate(ip, validate_ip, FIELD(at, "ip"), e);
	if (host.n)
		hooks_text_validate(host, validate_dns1123_label, FIELD(at, "hostname"), e);
	if (json_get(a, "nodeName"))
		hooks_text_validate(json_get_str(a, "nodeName"), validate_dns1123_subdomain, FIELD(at, "nodeName"), e);
	if (names_parse_ip(ip, &address) < 0)
		field_invalid_str(e, FIELD(at, "ip"), ip, "must be a valid IP address");
	else
		hooks_endpoint_ip_validate(ip, FIELD(at, "ip"), e);
}

static void validate_subset_port(const struct json *p, bool named, const struct field_path *at, struct field_errors *e)
{
	struct str name = json_get_str(p, "name");

	if (!name.n && named)
		field_required(e, FIELD(at, "name"), NULL);
	else if (name.n)
		hooks_text_validate(name, validate_dns1123_label, FIELD(at, "name"), e);
	if (json_get(p, "appProtocol"))
		hooks_text_validate(json_get_str(p, "appProtocol"), validate_qualified_name, FIELD(at, "appProtocol"),
				    e);
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
				validate_address(a, FIELD_INDEX(FIELD_STR(at, str_of(lists[l])), k), e);
				k++;
			}
		}
		json_foreach(p, json_get(s, "ports")) {
			validate_subset_port(p, json_count(json_get(s, "ports")) > 1,
					     FIELD_INDEX(FIELD(at, "ports"), j), e);
			j++;
		}
	}
}

const struct api_hooks hooks_endpoints = { .validate = endpoints_validate };

/* ---- EndpointSlice ---- */

#define SLICE_ENDPOINTS_MAX 1000
#define SLICE_ADDRESSES_MAX 100
#define SLICE_PORTS_MAX 20000
#define SLICE_TOPOLOGY_MAX 16
#define SLICE_HINTS_MAX 8

static void slice_defaults(struct arena *arena, struct json *object)
{
	json_foreach(p, json_get(object, "ports")) {
		hooks_default_str(arena, p, "name", "");
		hooks_default_str(arena, p, "protocol", "TCP");
	}
}

static void validate_slice_address(struct str s, struct str type, const struct field_path *at, struct field_errors *e)
{
	struct names_ip ip;
	int family = str_is(type, "IPv6") ? 6 : 4;

	if (str_is(type, "FQDN")) {
		hooks_text_validate(s, validate_dns1123_subdomain, at, e);
		return;
	}
	if (names_parse_ip(s, &ip) < 0 || ip.family != family) {
		field_invalid_str(e, at, s,
				  family == 6 ? "must be a valid IPv6 address" : "must be a valid IPv4 address");
		return;
	}
	hooks_endpoint_ip_validate(s, at, e);
}

static void validate_hints(const struct json *hints, const struct field_path *at, struct field_errors *e)
{
	static const char *const lists[] = { "forZones", "forNodes" };

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		const struct json *list = json_get(hints, lists[l]);
		const struct field_path *path = FIELD_STR(at, str_of(lists[l]));
		size_t i = 0;

		if (json_count(list) > SLICE_HINTS_MAX) {
			field_too_many(e, path, json_count(list), SLICE_HINTS_MAX);
			continue;
		}
		json_foreach(z, list) {
			const struct field_path *name = FIELD(FIELD_INDEX(path, i++), "name");

			if (hooks_named(list, json_get_str(z, "name")) != z)
				field_duplicate_str(e, name, json_get_str(z, "name"));
			hooks_text_validate(json_get_str(z, "name"), validate_label_value, name, e);
		}
	}
}

static void validate_endpoint(const struct json *ep, struct str type, const struct field_path *at,
			      struct field_errors *e)
{
	const struct json *addresses = json_get(ep, "addresses");
	const struct field_path *path = FIELD(at, "addresses");
	size_t i = 0;

	if (!json_count(addresses))
		field_required(e, path, "must contain at least 1 address");
	else if (json_count(addresses) > SLICE_ADDRESSES_MAX)
		field_too_many(e, path, json_count(addresses), SLICE_ADDRESSES_MAX);
	json_foreach(a, addresses) {
		validate_slice_address(json_str(a), type, FIELD_INDEX(path, i), e);
		i++;
	}
	if (json_get(ep, "nodeName"))
		hooks_text_validate(json_get_str(ep, "nodeName"), validate_dns1123_subdomain, FIELD(at, "nodeName"), e);
	if (json_count(json_get(ep, "deprecatedTopology")) > SLICE_TOPOLOGY_MAX)
		field_too_many(e, FIELD(at, "deprecatedTopology"), json_count(json_get(ep, "deprecatedTopology")),
			       SLICE_TOPOLOGY_MAX);
	validate_labels(json_get(ep, "deprecatedTopology"), FIELD(at, "deprecatedTopology"), e);
	if (json_get(json_get(ep, "deprecatedTopology"), "kubernetes.io/hostname"))
		field_forbidden(e, FIELD_KEY(FIELD(at, "deprecatedTopology"), STR("kubernetes.io/hostname")),
				"may not be specified, use nodeName instead");
	if (json_get(ep, "hostname"))
		hooks_text_validate(json_get_str(ep, "hostname"), validate_dns1123_label, FIELD(at, "hostname"), e);
	validate_hints(json_get(ep, "hints"), FIELD(at, "hints"), e);
}

static void validate_slice_port(const struct json *p, struct name_set *names, const struct field_path *at,
				struct field_errors *e)
{
	struct str name = json_get_str(p, "name");

	if (name.n)
		hooks_text_validate(name, validate_dns1123_label, FIELD(at, "name"), e);
	if (name_set_put(names, name, p) != p)
		field_duplicate_str(e, FIELD(at, "name"), name);
	if (json_get(p, "appProtocol"))
		hooks_text_validate(json_get_str(p, "appProtocol"), validate_qualified_name, FIELD(at, "appProtocol"),
				    e);
}

static void slice_validate(const struct json *object, struct field_errors *e)
{
	static const char *const types[] = { "FQDN", "IPv4", "IPv6", NULL };
	const struct json *endpoints = json_get(object, "endpoints"), *ports = json_get(object, "ports");
	struct str type = json_get_str(object, "addressType");
	_cleanup_name_set_ struct name_set names;
	size_t i = 0;

	name_set_init(&names);
	if (type.n)
		hooks_supported(type, types, FIELD(NULL, "addressType"), e);
	if (json_count(endpoints) > SLICE_ENDPOINTS_MAX) {
		field_too_many(e, FIELD(NULL, "endpoints"), json_count(endpoints), SLICE_ENDPOINTS_MAX);
		return;
	}
	if (json_count(ports) > SLICE_PORTS_MAX) {
		field_too_many(e, FIELD(NULL, "ports"), json_count(ports), SLICE_PORTS_MAX);
		return;
	}
	json_foreach(ep, endpoints) {
		validate_endpoint(ep, type, FIELD_INDEX(FIELD(NULL, "endpoints"), i), e);
		i++;
	}
	i = 0;
	json_foreach(p, ports) {
		validate_slice_port(p, &names, FIELD_INDEX(FIELD(NULL, "ports"), i), e);
		i++;
	}
}

const struct api_hooks hooks_endpointslices = {
	.generation = true,
	.defaults = slice_defaults,
	.validate = slice_validate,
};
