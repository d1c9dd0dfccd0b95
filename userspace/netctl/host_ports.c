/* SPDX-License-Identifier: Apache-2.0 */
/* hostPorts of pods: frontends that lead to the pod alone, while it has its link. Of two pods that want one port the
 * older has it (services_places.c); the scheduler does not let that happen. Of a pod and a Service: services_rivals.c.
 */
#include <netinet/in.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define HOST_PORTS_MAX SERVICES_FRONTENDS_MAX /* of one pod */

static bool host_ports_is_sidecar(const struct json *container)
{
	return str_is(json_get_str(container, "restartPolicy"), "Always");
}

typedef void host_port_fn(void *arg, const struct json *port);

static void host_ports_each(const struct json *pod, host_port_fn *fn, void *arg)
{
	const struct json *spec = json_get(pod, "spec");

	if (json_get_bool(spec, "hostNetwork", false))
		return;
	json_foreach(c, json_get(spec, "containers"))
		json_foreach(p, json_get(c, "ports"))
			if (json_get_int(p, "hostPort", 0) > 0)
				fn(arg, p);
	json_foreach(c, json_get(spec, "initContainers"))
		json_foreach(p, json_get(c, "ports"))
			if (host_ports_is_sidecar(c) && json_get_int(p, "hostPort", 0) > 0)
				fn(arg, p);
}

struct host_ports {
	struct arena *arena;
	const struct dp_addr *addrs;
	struct services_result *out;
};

static void host_ports_emit(struct host_ports *h, const struct json *port, const struct dp_addr *at)
{
	const struct dp_addr *pod = &h->addrs[address_family(at)];
	struct dp_backend *backend;
	struct dp_service f = {
		.kind = DP_HOST_PORT,
		.proto = services_proto(json_get_str(port, "protocol")),
		.port = (uint16_t)json_get_int(port, "hostPort", 0),
		.addr = *at,
	};

	if (address_is_zero(pod) || !f.proto)
		return;
	for (size_t i = 0; i < h->out->n; i++)
		if (services_place_cmp(&h->out->frontends[i], &f) == 0)
			return;
	if (h->out->n == HOST_PORTS_MAX) {
		h->out->truncated |= 1 << SERVICES_LIMIT_FRONTENDS;
		return;
	}
	backend = arena_new(h->arena, struct dp_backend);
	*backend = (struct dp_backend){ *pod, (uint16_t)json_get_int(port, "containerPort", 0) };
	f.backends = backend;
	f.n_backends = 1;
	h->out->frontends[h->out->n++] = f;
}

static void host_ports_add(void *arg, const struct json *port)
{
	struct str ip = json_get_str(port, "hostIP");
	struct dp_addr at;

	if (ip.n) {
		if (address_parse(ip, &at) == 0)
			host_ports_emit(arg, port, &at);
		return;
	}
	for (int f = 0; f < DP_FAMILIES; f++) {
		at = address_any((enum dp_family)f);
		host_ports_emit(arg, port, &at);
	}
}

static void host_ports_count(void *arg, const struct json *port)
{
	++*(size_t *)arg;
}

void host_ports_translate(struct arena *arena, const struct json *pod, const struct dp_addr addrs[static DP_FAMILIES],
			  struct services_result *ret)
{
	struct str phase = json_at_str(pod, "status.phase");
	struct services_result out = { 0 };
	struct host_ports h = { arena, addrs, &out };
	size_t n = 0;

	*ret = out;
	host_ports_each(pod, host_ports_count, &n);
	if (!n || str_is(phase, "Succeeded") || str_is(phase, "Failed"))
		return;
	n = n * DP_FAMILIES < HOST_PORTS_MAX ? n * DP_FAMILIES : HOST_PORTS_MAX;
	out.frontends = arena_new_array(arena, struct dp_service, n);
	host_ports_each(pod, host_ports_add, &h);
	qsort(out.frontends, out.n, sizeof(*out.frontends), services_place_cmp);
	*ret = out;
}

/* ---- pods come and go ---- */

void netctl_host_ports_changed(struct netctl *nc, const struct object *pod, const struct json *tree)
{
	struct net_service *s = map_get(&nc->host_ports, pod->uid);
	size_t n = 0;

	host_ports_each(tree, host_ports_count, &n);
	if (!n)
		return;
	if (!s) {
		s = mem_new(struct net_service);
		list_init(&s->queue);
		s->pod = true;
		s->ns = str_dup(pod->ns);
		s->name = str_dup(pod->name);
		s->uid = str_dup(pod->uid);
		map_put(&nc->host_ports, pod->uid, s);
	}
	object_unref(s->object);
	s->object = object_ref(pod);
	service_mark(nc, s);
}

void netctl_host_ports_touch(struct netctl *nc, struct str uid)
{
	struct net_service *s = map_get(&nc->host_ports, uid);

	if (s)
		service_mark(nc, s);
}

void netctl_host_ports_removed(struct netctl *nc, struct str uid)
{
	struct net_service *s = map_get(&nc->host_ports, uid);

	if (!s)
		return;
	object_unref(s->object);
	s->object = NULL;
	service_mark(nc, s);
}
