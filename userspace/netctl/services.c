/* SPDX-License-Identifier: Apache-2.0 */
/* See services.h. */
#include "userspace/netctl/services.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/netctl/address.h"

static uint8_t services_proto(struct str proto)
{
	if (!proto.n || str_is(proto, "TCP"))
		return IPPROTO_TCP;
	if (str_is(proto, "UDP"))
		return IPPROTO_UDP;
	return 0; /* SCTP: not in the socket path */
}

struct backend_set {
	struct dp_backend *items;
	size_t n, cap;
	bool truncated;
};

static void backend_add(struct arena *arena, struct backend_set *set, struct str address, uint16_t port)
{
	struct dp_backend b = { .port = port };

	if (address_parse(address, &b.addr) < 0)
		return;
	if (set->n == set->cap) {
		size_t cap = set->cap ? set->cap * 2 : 8;
		struct dp_backend *items = arena_new_array(arena, struct dp_backend, cap);

		if (set->n)
			memcpy(items, set->items, set->n * sizeof(*items));
		set->items = items;
		set->cap = cap;
	}
	set->items[set->n++] = b;
}

int services_backend_cmp(const void *a, const void *b)
{
	const struct dp_backend *x = a, *y = b;
	int c = memcmp(x->addr.b, y->addr.b, sizeof(x->addr.b));

	return c ? c : (int)x->port - (int)y->port;
}

/* An endpoint may stand in two slices while it moves from one to the other. */
static void backend_settle(struct backend_set *set)
{
	size_t n = 0;

	if (set->n)
		qsort(set->items, set->n, sizeof(*set->items), services_backend_cmp);
	for (size_t i = 0; i < set->n; i++)
		if (!n || services_backend_cmp(&set->items[n - 1], &set->items[i]) != 0)
			set->items[n++] = set->items[i];
	set->truncated = n > SERVICES_BACKENDS_MAX;
	set->n = set->truncated ? SERVICES_BACKENDS_MAX : n;
}

/* The slice's port of that name and protocol; 0: none. */
static uint16_t services_slice_port(const struct json *slice, struct str name, uint8_t proto)
{
	json_foreach(p, json_get(slice, "ports"))
		if (str_eq(json_get_str(p, "name"), name) && services_proto(json_get_str(p, "protocol")) == proto)
			return (uint16_t)json_get_int(p, "port", 0);
	return 0;
}

static bool services_usable(const struct json *endpoint, bool terminating)
{
	const struct json *c = json_get(endpoint, "conditions");

	if (!terminating)
		return json_get_bool(c, "ready", true);
	return json_get_bool(c, "serving", true) && json_get_bool(c, "terminating", false);
}

static void services_collect(struct arena *arena, const struct json *const *slices, size_t n_slices, struct str name,
			     uint8_t proto, bool terminating, struct backend_set *set)
{
	for (size_t i = 0; i < n_slices; i++) {
		uint16_t port = services_slice_port(slices[i], name, proto);

		if (!port || str_is(json_get_str(slices[i], "addressType"), "FQDN"))
			continue;
		json_foreach(e, json_get(slices[i], "endpoints"))
			if (services_usable(e, terminating))
				json_foreach(a, json_get(e, "addresses"))
					backend_add(arena, set, json_str(a), port);
	}
	backend_settle(set);
}

struct frontend_base {
	struct arena *arena;
	struct services_result *out;
	struct dp_service base;
	size_t cap;
};

static void services_emit(struct frontend_base *f, uint8_t kind, const struct dp_addr *addr, uint16_t port)
{
	struct dp_service s = f->base;

	s.kind = kind;
	s.port = port;
	if (addr)
		s.addr = *addr;
	/* A load balancer may name an address that is an external one already. */
	for (size_t i = 0; i < f->out->n; i++)
		if (f->out->frontends[i].kind == kind && f->out->frontends[i].proto == s.proto &&
		    f->out->frontends[i].port == port && address_equal(&f->out->frontends[i].addr, &s.addr))
			return;
	if (f->out->n >= SERVICES_FRONTENDS_MAX) {
		f->out->truncated = true;
		return;
	}
	if (f->out->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 8;
		struct dp_service *items = arena_new_array(f->arena, struct dp_service, cap);

		if (f->out->n)
			memcpy(items, f->out->frontends, f->out->n * sizeof(*items));
		f->out->frontends = items;
		f->cap = cap;
	}
	f->out->frontends[f->out->n++] = s;
}

static void services_emit_text(struct frontend_base *f, uint8_t kind, struct str text, uint16_t port)
{
	struct dp_addr addr;

	if (!str_is(text, "None") && address_parse(text, &addr) == 0)
		services_emit(f, kind, &addr, port);
}

static void services_emit_port(struct frontend_base *f, const struct json *service, const struct json *port)
{
	const struct json *spec = json_get(service, "spec"), *ips = json_get(spec, "clusterIPs");
	uint16_t number = (uint16_t)json_get_int(port, "port", 0),
		 node_port = (uint16_t)json_get_int(port, "nodePort", 0);

	if (json_count(ips))
		json_foreach(ip, ips)
			services_emit_text(f, DP_CLUSTER_IP, json_str(ip), number);
	else
		services_emit_text(f, DP_CLUSTER_IP, json_get_str(spec, "clusterIP"), number);
	json_foreach(ip, json_get(spec, "externalIPs"))
		services_emit_text(f, DP_EXTERNAL, json_str(ip), number);
	/* With ipMode Proxy the balancer itself answers there. */
	json_foreach(ingress, json_at(service, "status.loadBalancer.ingress"))
		if (!str_is(json_get_str(ingress, "ipMode"), "Proxy"))
			services_emit_text(f, DP_EXTERNAL, json_get_str(ingress, "ip"), number);
	if (node_port)
		services_emit(f, DP_NODE_PORT, NULL, node_port);
}

void services_translate(struct arena *arena, const struct json *service, const struct json *const *slices,
			size_t n_slices, struct services_result *ret)
{
	const struct json *spec = json_get(service, "spec");
	struct services_result out = { 0 };
	struct frontend_base f = { .arena = arena, .out = &out };

	*ret = out;
	if (str_is(json_get_str(spec, "type"), "ExternalName") || str_is(json_get_str(spec, "clusterIP"), "None"))
		return;
	if (str_is(json_get_str(spec, "sessionAffinity"), "ClientIP"))
		f.base.affinity_s = (uint32_t)json_at_int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds", 10800);
	json_foreach(port, json_get(spec, "ports")) {
		struct backend_set set = { 0 };

		f.base.proto = services_proto(json_get_str(port, "protocol"));
		if (!f.base.proto)
			continue;
		services_collect(arena, slices, n_slices, json_get_str(port, "name"), f.base.proto, false, &set);
		if (!set.n)
			services_collect(arena, slices, n_slices, json_get_str(port, "name"), f.base.proto, true, &set);
		f.base.backends = set.items;
		f.base.n_backends = set.n;
		out.truncated = out.truncated || set.truncated;
		services_emit_port(&f, service, port);
	}
	*ret = out;
}
