/* SPDX-License-Identifier: Apache-2.0 */
/* The look-ups of the programs, one after the other, and the objects' word beside them. See trace.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/cmd/status_collect.h"
#include "userspace/cmd/trace.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/explain.h"
#include "userspace/netctl/status.h"

struct trace_service {
	struct trace *t;
	bool outside; /* the client is of the world */
	bool denied, silent;
	const char *kind;
	struct dp_backend *backends;
	size_t n;
	struct json *frontend; /* as the maps have it */
};

static bool trace_in_sources(const struct dp_service *s, const struct dp_addr *from)
{
	for (size_t i = 0; i < s->n_sources; i++)
		if (address_in(from, &s->sources[i].addr, s->sources[i].bits))
			return true;
	return !s->n_sources;
}

static void trace_frontend(void *arg, const struct dp_service *s)
{
	static const char *const kinds[] = { "ClusterIP", "NodePort", "External", "LoadBalancer", "HostPort" };
	struct trace_service *out = arg;
	bool outside = out->outside && s->outside_differs;
	const struct dp_backend *backends = outside ? s->outside : s->backends;

	out->kind = s->kind < ARRAY_SIZE(kinds) ? kinds[s->kind] : "?";
	out->denied = !out->t->from.is_node && !trace_in_sources(s, &out->t->from.addr);
	out->n = outside ? s->n_outside : s->n_backends;
	out->silent = outside;
	out->frontend = netctl_frontend_json(&out->t->in.arena, s);
	out->backends = arena_new_array(&out->t->in.arena, struct dp_backend, out->n);
	if (out->n)
		memcpy(out->backends, backends, out->n * sizeof(*backends));
}

static struct json *trace_side(struct arena *a, const struct dp_probe *p)
{
	struct json *v = json_new_object(a);

	json_set_bool(a, v, "isolated", p->isolated);
	json_set_bool(a, v, "allowed", p->allowed);
	if (p->identity)
		json_set_int(a, v, "identity", p->identity);
	return v;
}

/* NULL: nobody knows the objects. */
static struct json *trace_objects(struct trace *t, const struct trace_end *to, uint16_t port)
{
	const struct netctl_flow flow = {
		.from = t->from.addr,
		.to = to->addr,
		.from_node = t->from.is_node,
		.to_node = to->is_node,
		.proto = t->proto,
		.port = port,
	};
	struct json *v = NULL;
	const char *path;

	if (!t->in.network)
		return NULL;
	path = arena_printf(&t->in.arena, "/k3c-bpf/explain?%s", netctl_flow_format(&t->in.arena, &flow));
	if (t->in.server)
		(void)status_fetch(&t->in.config, &t->in.arena, path, &v, NULL);
	else
		(void)status_explain_files(&t->in.config, &t->in.arena, &flow, &v, NULL);
	return v;
}

static bool trace_in_net(const struct dp_addr *a, const struct dp_net *net)
{
	return net->bits && address_in(a, &net->addr, net->bits);
}

/* Addresses that no router passes on; a pod's link leads to one. */
static bool trace_stays_on_link(const struct dp_addr *a)
{
	if (address_family(a) == DP_V4)
		return a->b[12] >> 4 == 14 ||
		       (a->b[12] == 255 && a->b[13] == 255 && a->b[14] == 255 && a->b[15] == 255);
	return a->b[0] == 0xff || (a->b[0] == 0xfe && a->b[1] >> 6 == 2);
}

/* Why a packet that every policy lets pass arrives nowhere all the same; NULL: it does. Of the ranges' addresses that
 * are nobody's the route says "unreachable". */
static const char *trace_goes_nowhere(struct trace *t, const struct trace_end *to, const struct dp_probe *probe)
{
	enum dp_family f = address_family(&to->addr);

	if (address_is_zero(&to->addr))
		return "unreachable: no address";
	if (!t->from.is_node && address_is_loopback(&to->addr))
		return "own-loopback: to a pod this is the pod itself, not the node";
	if (!t->from.is_node && trace_stays_on_link(&to->addr))
		return "unreachable: multicast, broadcast and link-local addresses lead nowhere from a pod";
	if (probe->known || to->is_node)
		return NULL;
	if (trace_in_net(&to->addr, &t->in.config.pod_nets[f]))
		return "unreachable: no pod has this address";
	return trace_in_net(&to->addr, &t->in.config.service_nets[f])
		       ? "unreachable: no Service has this address and port"
		       : NULL;
}

/* One place that the packet may reach: a backend, or what was asked for itself. */
static struct json *trace_path(struct trace *t, const struct dp_addr *addr, uint16_t port)
{
	struct arena *a = &t->in.arena;
	const char *pod = inspect_pod_name(&t->in, addr);
	struct trace_end to = { .addr = *addr, .is_node = dataplane_is_node_address(t->in.dp, addr) };
	struct json *v = json_new_object(a), *maps = json_new_object(a), *objects;
	struct dp_probe from_side, to_side;
	bool itself = address_equal(addr, &t->from.addr), allowed;
	const char *reason = NULL, *nowhere;

	dataplane_probe(t->in.dp, &t->from.addr, addr, t->proto, port, t->from.is_node, &from_side, &to_side, NULL);
	/* What a pod says to itself never leaves it. */
	if (itself)
		from_side.allowed = to_side.allowed = true;
	allowed = from_side.allowed && to_side.allowed;
	if (!allowed)
		reason = from_side.allowed ? "policy-ingress" : "policy-egress";
	objects = itself ? NULL : trace_objects(t, &to, port);
	json_set_cstr(a, v, "place", inspect_place(a, addr, port));
	if (pod)
		json_set_cstr(a, v, "pod", pod);
	if (objects)
		json_set_bool(a, v, "agree", json_get_bool(objects, "allowed", false) == allowed);
	nowhere = trace_goes_nowhere(t, &to, &to_side);
	if (allowed && nowhere) {
		allowed = false;
		reason = nowhere;
	}
	json_set_bool(a, v, "allowed", allowed);
	if (reason)
		json_set_cstr(a, v, "reason", reason);
	json_set(maps, "egress", trace_side(a, &from_side));
	json_set(maps, "ingress", trace_side(a, &to_side));
	json_set(v, "maps", maps);
	if (objects)
		json_set(v, "objects", objects);
	return v;
}

static void trace_answer(struct trace *t, struct json *v, const char *reason)
{
	struct arena *a = &t->in.arena;
	size_t n = 0, n_allowed = 0;
	bool agree = !json_get(json_get(v, "service"), "difference");

	json_foreach(path, json_get(v, "paths")) {
		n++;
		n_allowed += json_get_bool(path, "allowed", false);
		agree = agree && json_get_bool(path, "agree", true);
		if (!reason && json_get(path, "reason"))
			reason = arena_strndup(a, json_get_str(path, "reason").p, json_get_str(path, "reason").n);
	}
	json_set_bool(a, v, "allowed", n && n_allowed == n);
	json_set_cstr(a, v, "answer",
		      n && n_allowed == n ? "ALLOWED"
		      : n_allowed         ? arena_printf(a, "DENIED for %zu of %zu backends", n - n_allowed, n)
					  : "DENIED");
	if (reason)
		json_set_cstr(a, v, "reason", reason);
	json_set_bool(a, v, "agree", agree);
}

static struct json *trace_service_json(struct trace *t, const struct trace_service *s)
{
	const char *name = inspect_service_name(&t->in, &t->to.addr, t->port, t->proto);
	struct arena *a = &t->in.arena;
	struct json *v = json_new_object(a);

	json_set_cstr(a, v, "name", name ? name : "(no object asks for it)");
	json_set_cstr(a, v, "kind", s->kind);
	json_set_int(a, v, "backends", (int64_t)s->n);
	return v;
}

static bool trace_same_place(const struct json *a, const struct json *b)
{
	static const char *const place[] = { "kind", "protocol", "address", "port" };

	for (size_t i = 0; i < ARRAY_SIZE(place); i++)
		if (!json_equal(json_get(a, place[i]), json_get(b, place[i])))
			return false;
	return true;
}

/* What the frontend in the maps has other than the objects ask for. */
static void trace_compare(struct trace *t, const struct trace_service *s, struct json *v)
{
	struct arena *a = &t->in.arena;

	if (!t->in.network)
		return;
	json_foreach(row, status_kernel_services(t->in.dp, a, t->in.network)) {
		struct str difference = json_get_str(row, "difference");

		if (difference.n && trace_same_place(row, s->frontend))
			json_set_str(a, json_get(v, "service"), "difference", difference);
	}
}

/* The number of a headless Service's port, where its endpoints have another: nobody translates it. */
static const char *trace_headless_note(struct trace *t, const struct json *endpoint)
{
	uint16_t other = 0;

	json_foreach(p, json_get(endpoint, "ports")) {
		uint16_t port = (uint16_t)json_get_int(p, "port", 0);

		if (t->port_name || port == t->port)
			return NULL;
		other = port;
	}
	return other ? arena_printf(&t->in.arena,
				    "nothing translates port %u of a headless Service: its endpoints serve %u", t->port,
				    other)
		     : NULL;
}

/* The name's addresses, as DNS gives them: each endpoint at its own port, asked from an address of its family. */
static const char *trace_headless(struct trace *t, struct json *v, struct json *paths)
{
	struct arena *a = &t->in.arena;
	struct json *service = json_new_object(a);
	const char *note = NULL;
	size_t ready = 0, left_out = 0, asked = 0;

	json_foreach(e, json_get(t->headless, "endpoints")) {
		uint16_t port = trace_endpoint_port(t, e);
		struct dp_addr addr;

		if (!json_get_bool(e, "ready", false) || address_parse(json_get_str(e, "address"), &addr) < 0)
			continue;
		ready++;
		note = trace_headless_note(t, e);
		trace_end_address(t, &addr, &t->to);
		if (!port || trace_resolve_from(t, NULL) < 0)
			continue;
		if (asked++ < TRACE_PATHS_MAX)
			json_append(paths, trace_path(t, &addr, port));
		else
			left_out++;
	}
	left_out += (size_t)json_get_int(t->headless, "endpointsLeftOut", 0);
	json_set_cstr(a, service, "name",
		      arena_printf(a, "%.*s/%.*s", STR_ARG(json_get_str(t->headless, "namespace")),
				   STR_ARG(json_get_str(t->headless, "name"))));
	json_set_cstr(a, service, "kind", "Headless");
	json_set_int(a, service, "backends", (int64_t)ready);
	json_set(v, "service", service);
	if (note)
		json_set_cstr(a, v, "note", note);
	if (left_out)
		json_set_int(a, v, "pathsLeftOut", (int64_t)left_out);
	return asked   ? NULL
	       : ready ? "no-address: no ready endpoint has that port and a family of the asker's"
		       : "no-address: no endpoint is ready, DNS answers with none";
}

/* The frontend, where the address has one, and what is behind it. */
static const char *trace_address(struct trace *t, struct json *v, struct json *paths)
{
	struct trace_service s = { .t = t };
	struct dp_endpoint known;
	const char *reason;

	s.outside = !t->from.is_node && dataplane_endpoint_get(t->in.dp, &t->from.addr, &known) < 0;
	if (dataplane_service_get(t->in.dp, &t->to.addr, t->port, t->proto, t->from.is_node, trace_frontend, &s) < 0) {
		json_append(paths, trace_path(t, &t->to.addr, t->port));
		return NULL;
	}
	json_set(v, "service", trace_service_json(t, &s));
	trace_compare(t, &s, v);
	reason = s.denied ? "source-range" : !s.n ? "no-service-backend" : NULL;
	for (size_t i = 0; !reason && i < s.n && i < TRACE_PATHS_MAX; i++)
		json_append(paths, trace_path(t, &s.backends[i].addr, s.backends[i].port));
	if (!reason && s.n > TRACE_PATHS_MAX)
		json_set_int(&t->in.arena, v, "pathsLeftOut", (int64_t)(s.n - TRACE_PATHS_MAX));
	return reason;
}

int trace_walk(struct trace *t, struct json **ret, struct err *err)
{
	struct arena *a = &t->in.arena;
	struct json *v = json_new_object(a), *paths = json_new_array(a);
	char proto[8];

	json_set_cstr(a, v, "from",
		      t->headless     ? t->from_word
		      : *t->from.name ? arena_printf(a, "%s (%s)", t->from.name, inspect_address(a, &t->from.addr))
				      : inspect_address(a, &t->from.addr));
	json_set_cstr(a, v, "to",
		      t->headless ? arena_printf(a, "%s port %s", t->to.name,
						 t->port_name ? t->port_name : arena_printf(a, "%u", t->port))
				  : arena_printf(a, "%s%s%s", inspect_place(a, &t->to.addr, t->port),
						 *t->to.name ? " " : "", t->to.name));
	json_set_cstr(a, v, "protocol", arena_strdup(a, args_protocol_name(t->proto, proto)));
	json_set_int(a, v, "port", t->port);
	json_set(v, "paths", paths);
	json_set_bool(a, v, "server", t->in.server);
	json_set_cstr(a, v, "objectsFrom", t->in.objects);
	trace_answer(t, v, t->headless ? trace_headless(t, v, paths) : trace_address(t, v, paths));
	*ret = v;
	return 0;
}
