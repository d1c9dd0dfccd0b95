/* SPDX-License-Identifier: Apache-2.0 */
/* See services.h. */
#include "userspace/netctl/services.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/meta.h"
#include "userspace/base/buf.h"
#include "userspace/base/encode.h"
#include "userspace/netctl/address.h"

#define SERVICES_PROXY_LABEL "service.kubernetes.io/service-proxy-name"
#define SERVICES_RANGES_ANNOTATION "service.beta.kubernetes.io/load-balancer-source-ranges"
#define SERVICES_AFFINITY_DEFAULT_S 10800

static const struct {
	const char *name;
	unsigned max;
} services_limits[SERVICES_LIMITS] = {
	[SERVICES_LIMIT_BACKENDS] = { "backends of a frontend", SERVICES_BACKENDS_MAX },
	[SERVICES_LIMIT_FRONTENDS] = { "frontends", SERVICES_FRONTENDS_MAX },
	[SERVICES_LIMIT_SOURCES] = { "source ranges of a family", SERVICES_SOURCES_MAX },
};

const char *services_limit_name(enum services_limit limit)
{
	return services_limits[limit].name;
}

unsigned services_limit_max(enum services_limit limit)
{
	return services_limits[limit].max;
}

int services_backend_cmp(const void *a, const void *b)
{
	const struct dp_backend *x = a, *y = b;
	int c = memcmp(x->addr.b, y->addr.b, sizeof(x->addr.b));

	return c ? c : (int)x->port - (int)y->port;
}

int services_place_cmp(const void *a, const void *b)
{
	const struct dp_service *x = a, *y = b;

	if (x->proto != y->proto)
		return (int)x->proto - (int)y->proto;
	if (x->port != y->port)
		return (int)x->port - (int)y->port;
	return memcmp(x->addr.b, y->addr.b, sizeof(x->addr.b));
}

/* ---- which endpoints ---- */

struct candidate {
	struct dp_backend backend;
	uint8_t flags;
};

struct candidates {
	struct candidate *items;
	size_t n;
};

struct backend_list {
	struct dp_backend *items;
	size_t n;
};

/* What may serve a port in one family. */
struct choice {
	struct backend_list cluster, local;
};

/* Of one that stands in two slices, while it moves from one to the other, the better word counts. */
static int candidate_rank(uint8_t flags)
{
	return (flags & SERVICES_LOCAL ? 4 : 0) + (flags & SERVICES_READY ? 2 : flags & SERVICES_SERVING ? 1 : 0);
}

static int candidate_cmp(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int c = services_backend_cmp(&x->backend, &y->backend);

	if (c == 0)
		c = candidate_rank(y->flags) - candidate_rank(x->flags);
	return c ? c : (int)y->flags - (int)x->flags;
}

static uint16_t slice_port(const struct services_slice *s, struct str name, uint8_t proto)
{
	for (size_t i = 0; i < s->n_ports; i++)
		if (s->ports[i].proto == proto && str_eq(s->ports[i].name, name))
			return s->ports[i].port;
	return 0;
}

struct port_query {
	struct arena *arena;
	const struct services_slice *const *slices;
	size_t n_slices;
	struct str name;
	uint8_t proto;
};

static struct candidates choice_collect(const struct port_query *q, enum dp_family family)
{
	struct candidates all = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < q->n_slices; i++)
		n += q->slices[i]->n_endpoints;
	all.items = arena_alloc(q->arena, (n + 1) * sizeof(*all.items));
	for (size_t i = 0; i < q->n_slices; i++) {
		const struct services_slice *s = q->slices[i];
		uint16_t port = slice_port(s, q->name, q->proto);

		for (size_t k = 0; port && k < s->n_endpoints; k++)
			if (address_family(&s->endpoints[k].addr) == family)
				all.items[all.n++] =
					(struct candidate){ { s->endpoints[k].addr, port }, s->endpoints[k].flags };
	}
	if (all.n)
		qsort(all.items, all.n, sizeof(*all.items), candidate_cmp);
	n = 0;
	for (size_t i = 0; i < all.n; i++)
		if (!n || services_backend_cmp(&all.items[n - 1].backend, &all.items[i].backend) != 0)
			all.items[n++] = all.items[i];
	all.n = n;
	return all;
}

/* Those with all of `with`; `without`: none of these. */
static struct backend_list choice_filter(struct arena *arena, const struct candidates *all, uint8_t with)
{
	struct backend_list list = { arena_alloc(arena, (all->n + 1) * sizeof(*list.items)), 0 };

	for (size_t i = 0; i < all->n; i++)
		if ((all->items[i].flags & with) == with)
			list.items[list.n++] = all->items[i].backend;
	return list;
}

/* The flag that ready endpoints must have to be used here; 0: hints are not followed. */
static uint8_t choice_topology(const struct candidates *all)
{
	bool any = false, all_node = true, all_zone = true, node = false, zone = false;

	for (size_t i = 0; i < all->n; i++) {
		uint8_t f = all->items[i].flags;

		if (!(f & SERVICES_READY))
			continue;
		any = true;
		all_node = all_node && (f & SERVICES_NODE_HINTS);
		all_zone = all_zone && (f & SERVICES_ZONE_HINTS);
		node = node || (f & SERVICES_NODE_HINT);
		zone = zone || (f & SERVICES_ZONE_HINT);
	}
	if (any && all_node && node)
		return SERVICES_NODE_HINT;
	return any && all_zone && zone ? SERVICES_ZONE_HINT : 0;
}

static struct choice choice_make(const struct port_query *q, enum dp_family family, uint8_t *truncated)
{
	struct candidates all = choice_collect(q, family);
	struct choice c;

	c.cluster = choice_filter(q->arena, &all, SERVICES_READY | choice_topology(&all));
	if (!c.cluster.n)
		c.cluster = choice_filter(q->arena, &all, SERVICES_SERVING | SERVICES_TERMINATING);
	c.local = choice_filter(q->arena, &all, SERVICES_READY | SERVICES_LOCAL);
	if (!c.local.n)
		c.local = choice_filter(q->arena, &all, SERVICES_SERVING | SERVICES_TERMINATING | SERVICES_LOCAL);
	if (c.cluster.n > SERVICES_BACKENDS_MAX || c.local.n > SERVICES_BACKENDS_MAX)
		*truncated |= 1 << SERVICES_LIMIT_BACKENDS;
	c.cluster.n = c.cluster.n < SERVICES_BACKENDS_MAX ? c.cluster.n : SERVICES_BACKENDS_MAX;
	c.local.n = c.local.n < SERVICES_BACKENDS_MAX ? c.local.n : SERVICES_BACKENDS_MAX;
	return c;
}

/* ---- frontends ---- */

struct service_view {
	struct arena *arena;
	const struct json *object, *spec;
	struct services_result *out;
	size_t cap;
	bool families[DP_FAMILIES];
	bool internal_local, external_local;
	uint32_t affinity_s;
	struct dp_net *sources[DP_FAMILIES];
	size_t n_sources[DP_FAMILIES];
	/* Of the port at hand. */
	uint8_t proto;
	uint16_t port;
	uint32_t ids[DP_FAMILIES];
	struct choice choices[DP_FAMILIES];
};

static struct dp_service *services_new(struct service_view *v)
{
	struct services_result *out = v->out;

	if (out->n >= SERVICES_FRONTENDS_MAX) {
		out->truncated |= 1 << SERVICES_LIMIT_FRONTENDS;
		return NULL;
	}
	if (out->n == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 4;
		struct dp_service *items = arena_new_array(v->arena, struct dp_service, cap);

		if (out->n)
			memcpy(items, out->frontends, out->n * sizeof(*items));
		out->frontends = items;
		v->cap = cap;
	}
	return &out->frontends[out->n++];
}

static void services_emit(struct service_view *v, uint8_t kind, const struct dp_addr *addr, uint16_t port)
{
	enum dp_family family = address_family(addr);
	const struct choice *c = &v->choices[family];
	bool inner = kind == DP_CLUSTER_IP;
	const struct backend_list *list = inner && v->internal_local ? &c->local : &c->cluster;
	struct dp_service *s = v->families[family] ? services_new(v) : NULL;

	if (!s)
		return;
	*s = (struct dp_service){
		.id = v->ids[family],
		.kind = kind,
		.proto = v->proto,
		.port = port,
		.addr = *addr,
		.affinity_s = v->affinity_s,
		.backends = list->items,
		.n_backends = list->n,
	};
	if (!inner && v->external_local) {
		s->outside_differs = true;
		s->outside = c->local.items;
		s->n_outside = c->local.n;
	}
	if (kind == DP_LOAD_BALANCER) {
		s->sources = v->sources[family];
		s->n_sources = v->n_sources[family];
	}
}

static void services_emit_text(struct service_view *v, uint8_t kind, struct str text)
{
	struct dp_addr addr;

	if (address_parse(text, &addr) == 0)
		services_emit(v, kind, &addr, v->port);
}

/* A client that sticks to a backend does so at whatever address it finds the port: all its frontends of a family have
 * one number, which is the same whenever the node starts. Two that have the same by chance share a memory, and what
 * is remembered there counts only where it is a backend. */
static void services_identify(struct service_view *v, struct str port_name)
{
	struct str uid = json_get_str(json_get(v->object, "metadata"), "uid");

	for (int f = 0; f < DP_FAMILIES; f++) {
		_cleanup_buf_ struct buf text = BUF_INIT;

		buf_printf(&text, "%.*s/%.*s/%u/%d", STR_ARG(uid), STR_ARG(port_name), v->proto, f);
		v->ids[f] = fnv32a(buf_str(&text).p, buf_len(&text));
	}
}

/* In the order of precedence, should two name one place. */
static void services_emit_port(struct service_view *v, const struct json *port)
{
	const struct json *ips = json_get(v->spec, "clusterIPs");
	int64_t node_port = json_get_int(port, "nodePort", 0);

	if (json_count(ips))
		json_foreach(ip, ips)
			services_emit_text(v, DP_CLUSTER_IP, json_str(ip));
	else
		services_emit_text(v, DP_CLUSTER_IP, json_get_str(v->spec, "clusterIP"));
	json_foreach(ip, json_get(v->spec, "externalIPs"))
		services_emit_text(v, DP_EXTERNAL, json_str(ip));
	/* With ipMode Proxy the balancer itself answers there. */
	json_foreach(ingress, json_at(v->object, "status.loadBalancer.ingress"))
		if (!str_is(json_get_str(ingress, "ipMode"), "Proxy"))
			services_emit_text(v, DP_LOAD_BALANCER, json_get_str(ingress, "ip"));
	for (int f = 0; node_port > 0 && node_port <= UINT16_MAX && f < DP_FAMILIES; f++) {
		struct dp_addr any = address_any((enum dp_family)f);

		services_emit(v, DP_NODE_PORT, &any, (uint16_t)node_port);
	}
}

static int services_by_place(const void *a, const void *b)
{
	const struct dp_service *const *x = a, *const *y = b;
	int c = services_place_cmp(*x, *y);

	return c ? c : *x < *y ? -1 : 1;
}

static void services_settle(struct arena *arena, struct services_result *out)
{
	const struct dp_service **order = arena_new_array(arena, const struct dp_service *, out->n + 1);
	struct dp_service *items = arena_new_array(arena, struct dp_service, out->n + 1);
	size_t n = 0;

	for (size_t i = 0; i < out->n; i++)
		order[i] = &out->frontends[i];
	if (out->n)
		qsort(order, out->n, sizeof(*order), services_by_place);
	for (size_t i = 0; i < out->n; i++)
		if (!n || services_place_cmp(&items[n - 1], order[i]) != 0)
			items[n++] = *order[i];
	out->frontends = items;
	out->n = n;
}

/* ---- the Service ---- */

/* A family is served where the Service has a cluster address of it. */
static void services_families(struct service_view *v)
{
	const struct json *ips = json_get(v->spec, "clusterIPs");
	struct dp_addr addr;

	if (address_parse(json_get_str(v->spec, "clusterIP"), &addr) == 0)
		v->families[address_family(&addr)] = true;
	json_foreach(ip, ips)
		if (address_parse(json_str(ip), &addr) == 0)
			v->families[address_family(&addr)] = true;
}

static void services_add_source(struct service_view *v, struct str text)
{
	struct dp_net net;
	enum dp_family family;

	if (address_parse_prefix(str_trim(text), &net.addr, &net.bits) < 0)
		return;
	family = address_family(&net.addr);
	if (v->n_sources[family] == SERVICES_SOURCES_MAX)
		v->out->truncated |= 1 << SERVICES_LIMIT_SOURCES; /* who is beyond is kept out */
	else
		v->sources[family][v->n_sources[family]++] = net;
}

static int services_net_cmp(const void *a, const void *b)
{
	const struct dp_net *x = a, *y = b;
	int c = memcmp(x->addr.b, y->addr.b, sizeof(x->addr.b));

	return c ? c : (int)x->bits - (int)y->bits;
}

/* Sorted, each once: as the map has them. */
static void services_sort_sources(struct dp_net *nets, size_t *n)
{
	size_t kept = 1;

	qsort(nets, *n, sizeof(*nets), services_net_cmp);
	for (size_t i = 1; i < *n; i++)
		if (services_net_cmp(&nets[i], &nets[kept - 1]) != 0)
			nets[kept++] = nets[i];
	*n = kept;
}

static void services_sources(struct service_view *v)
{
	const struct json *ranges = json_get(v->spec, "loadBalancerSourceRanges");
	struct str rest = str_trim(meta_annotation(v->object, SERVICES_RANGES_ANNOTATION)), part;
	bool named = json_count(ranges) || rest.n;

	if (!named)
		return;
	for (int f = 0; f < DP_FAMILIES; f++)
		v->sources[f] = arena_new_array(v->arena, struct dp_net, SERVICES_SOURCES_MAX + 1);
	json_foreach(r, ranges)
		services_add_source(v, json_str(r));
	while (!json_count(ranges) && rest.n && str_split(&rest, ',', &part))
		services_add_source(v, part);
	for (int f = 0; f < DP_FAMILIES; f++) {
		/* Ranges that name nobody of a family let nobody of it in: not everybody, as an empty list would. */
		if (!v->n_sources[f])
			v->sources[f][v->n_sources[f]++] = (struct dp_net){ address_any((enum dp_family)f), 128 };
		services_sort_sources(v->sources[f], &v->n_sources[f]);
	}
}

static bool services_is_external(const struct json *spec)
{
	struct str type = json_get_str(spec, "type");

	return str_is(type, "NodePort") || str_is(type, "LoadBalancer") || json_count(json_get(spec, "externalIPs"));
}

static bool services_to_skip(const struct json *service, const struct json *spec)
{
	return str_is(json_get_str(spec, "type"), "ExternalName") || str_is(json_get_str(spec, "clusterIP"), "None") ||
	       json_get(json_at(service, "metadata.labels"), SERVICES_PROXY_LABEL);
}

static int address_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct dp_addr));
}

/* Ready endpoints here, in the family that has more of them. */
static size_t services_local_ready(struct arena *arena, const struct services_slice *const *slices, size_t n_slices)
{
	size_t cap = 0, most = 0;
	struct dp_addr *items;

	for (size_t i = 0; i < n_slices; i++)
		cap += slices[i]->n_endpoints;
	items = arena_new_array(arena, struct dp_addr, cap + 1);
	for (int f = 0; f < DP_FAMILIES; f++) {
		const uint8_t wanted = SERVICES_READY | SERVICES_LOCAL;
		size_t n = 0, unique = 0;

		for (size_t i = 0; i < n_slices; i++)
			for (size_t k = 0; k < slices[i]->n_endpoints; k++) {
				const struct services_endpoint *e = &slices[i]->endpoints[k];

				if ((e->flags & wanted) == wanted && address_family(&e->addr) == (enum dp_family)f)
					items[n++] = e->addr;
			}
		if (n)
			qsort(items, n, sizeof(*items), address_order);
		for (size_t i = 0; i < n; i++)
			unique += !i || !address_equal(&items[i - 1], &items[i]);
		most = unique > most ? unique : most;
	}
	return most;
}

void services_translate(struct arena *arena, const struct json *service, const struct services_slice *const *slices,
			size_t n_slices, struct services_result *ret)
{
	struct services_result out = { 0 };
	struct service_view v = { arena, service, json_get(service, "spec"), &out };

	*ret = out;
	if (services_to_skip(service, v.spec))
		return;
	if (str_is(json_get_str(v.spec, "sessionAffinity"), "ClientIP"))
		v.affinity_s = (uint32_t)json_at_int(v.spec, "sessionAffinityConfig.clientIP.timeoutSeconds",
						     SERVICES_AFFINITY_DEFAULT_S);
	v.internal_local = str_is(json_get_str(v.spec, "internalTrafficPolicy"), "Local");
	v.external_local =
		services_is_external(v.spec) && str_is(json_get_str(v.spec, "externalTrafficPolicy"), "Local");
	services_families(&v);
	services_sources(&v);
	json_foreach(port, json_get(v.spec, "ports")) {
		struct port_query q = { arena, slices, n_slices, json_get_str(port, "name"),
					services_proto(json_get_str(port, "protocol")) };

		v.proto = q.proto;
		v.port = (uint16_t)json_get_int(port, "port", 0);
		for (int f = 0; f < DP_FAMILIES; f++)
			if (v.families[f])
				v.choices[f] = choice_make(&q, (enum dp_family)f, &out.truncated);
		services_identify(&v, q.name);
		if (v.proto && v.port)
			services_emit_port(&v, port);
	}
	services_settle(arena, &out);
	if (v.external_local && str_is(json_get_str(v.spec, "type"), "LoadBalancer")) {
		out.health_port = (uint16_t)json_get_int(v.spec, "healthCheckNodePort", 0);
		out.local_ready = services_local_ready(arena, slices, n_slices);
	}
	*ret = out;
}
