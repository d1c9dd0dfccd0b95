/* SPDX-License-Identifier: Apache-2.0 */
/* See services_slice.h. */
#include "userspace/netctl/services_slice.h"

#include <netinet/in.h>
#include <string.h>

#include "userspace/base/mem.h"
#include "userspace/netctl/address.h"

uint8_t services_proto(struct str text)
{
	if (!text.n || str_is(text, "TCP"))
		return IPPROTO_TCP;
	if (str_is(text, "UDP"))
		return IPPROTO_UDP;
	return str_is(text, "SCTP") ? IPPROTO_SCTP : 0;
}

const char *services_proto_text(uint8_t proto)
{
	return proto == IPPROTO_UDP ? "UDP" : proto == IPPROTO_TCP ? "TCP" : "SCTP";
}

/* "has hints" and "one names us", from a list of {name}. */
static uint8_t slice_hints(const struct json *list, struct str here, uint8_t any, uint8_t ours)
{
	uint8_t flags = 0;

	json_foreach(h, list) {
		flags |= any;
		if (here.n && str_eq(json_get_str(h, "name"), here))
			flags |= ours;
	}
	return flags;
}

static uint8_t slice_flags(const struct json *endpoint, const struct services_place *place)
{
	const struct json *c = json_get(endpoint, "conditions"), *hints = json_get(endpoint, "hints");
	struct str node = json_get_str(endpoint, "nodeName");
	uint8_t flags = 0;

	/* Unknown means yes, but for leaving. */
	flags |= json_get_bool(c, "ready", true) ? SERVICES_READY : 0;
	flags |= json_get_bool(c, "serving", true) ? SERVICES_SERVING : 0;
	flags |= json_get_bool(c, "terminating", false) ? SERVICES_TERMINATING : 0;
	flags |= node.n && str_eq(node, place->node) ? SERVICES_LOCAL : 0;
	flags |= slice_hints(json_get(hints, "forNodes"), place->node, SERVICES_NODE_HINTS, SERVICES_NODE_HINT);
	flags |= slice_hints(json_get(hints, "forZones"), place->zone, SERVICES_ZONE_HINTS, SERVICES_ZONE_HINT);
	return flags;
}

static bool slice_of_family(struct str type, const struct dp_addr *addr)
{
	return !type.n || str_is(type, address_family(addr) == DP_V6 ? "IPv6" : "IPv4");
}

static void slice_endpoints(struct services_slice *s, const struct json *slice, const struct services_place *place)
{
	struct str type = json_get_str(slice, "addressType");

	if (str_is(type, "FQDN"))
		return;
	json_foreach(e, json_get(slice, "endpoints")) {
		struct services_endpoint *at = &s->endpoints[s->n_endpoints];

		if (s->n_endpoints == SERVICES_SLICE_ENDPOINTS_MAX)
			return;
		if (address_parse(json_str(json_first(json_get(e, "addresses"))), &at->addr) < 0 ||
		    !slice_of_family(type, &at->addr))
			continue;
		at->flags = slice_flags(e, place);
		s->n_endpoints++;
	}
}

static void slice_ports(struct services_slice *s, const struct json *slice, char *names)
{
	json_foreach(p, json_get(slice, "ports")) {
		struct services_slice_port *at = &s->ports[s->n_ports];
		struct str name = json_get_str(p, "name");
		int64_t port = json_get_int(p, "port", 0);

		if (s->n_ports == SERVICES_SLICE_PORTS_MAX)
			return;
		at->proto = services_proto(json_get_str(p, "protocol"));
		if (!at->proto || port <= 0 || port > UINT16_MAX)
			continue;
		at->port = (uint16_t)port;
		if (name.n)
			memcpy(names, name.p, name.n);
		at->name = str_make(names, name.n);
		names += name.n;
		s->n_ports++;
	}
}

static size_t slice_at_most(const struct json *list, size_t max)
{
	size_t n = json_count(list);

	return n < max ? n : max;
}

struct services_slice *services_slice_parse(const struct json *slice, const struct services_place *place)
{
	size_t ports = slice_at_most(json_get(slice, "ports"), SERVICES_SLICE_PORTS_MAX),
	       endpoints = slice_at_most(json_get(slice, "endpoints"), SERVICES_SLICE_ENDPOINTS_MAX), names = 0;
	struct services_slice *s;

	json_foreach(p, json_get(slice, "ports"))
		names += json_get_str(p, "name").n;
	/* One more endpoint: the place where the next is tried. */
	s = mem_zalloc(sizeof(*s) + (ports + 1) * sizeof(*s->ports) + (endpoints + 1) * sizeof(*s->endpoints) + names);
	s->ports = (struct services_slice_port *)(s + 1);
	s->endpoints = (struct services_endpoint *)(s->ports + ports + 1);
	slice_ports(s, slice, (char *)(s->endpoints + endpoints + 1));
	slice_endpoints(s, slice, place);
	return s;
}
