/* SPDX-License-Identifier: Apache-2.0 */
/* What the objects say the dataplane should hold, for `status` to hold against the maps. */
#include "userspace/netctl/status.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/explain.h"
#include "userspace/netctl/internal.h"
#include "userspace/netctl/services.h"

static struct json *status_address(struct arena *arena, const struct dp_addr *a)
{
	char text[ADDRESS_TEXT_MAX];

	address_format(a, text);
	return json_new_cstr(arena, arena_strdup(arena, text));
}

static struct json *status_backends(struct arena *arena, const struct dp_backend *backends, size_t n)
{
	struct dp_backend *sorted = arena_new_array(arena, struct dp_backend, n);
	struct json *list = json_new_array(arena);

	if (n) {
		memcpy(sorted, backends, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), services_backend_cmp);
	}
	for (size_t i = 0; i < n; i++) {
		struct json *b = json_new_object(arena);

		json_set(b, "address", status_address(arena, &sorted[i].addr));
		json_set_int(arena, b, "port", sorted[i].port);
		json_append(list, b);
	}
	return list;
}

static int status_net_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct dp_net));
}

static struct json *status_sources(struct arena *arena, const struct dp_service *f)
{
	struct dp_net *sorted = arena_new_array(arena, struct dp_net, f->n_sources);
	struct json *list = json_new_array(arena);

	memcpy(sorted, f->sources, f->n_sources * sizeof(*sorted));
	qsort(sorted, f->n_sources, sizeof(*sorted), status_net_cmp);
	for (size_t i = 0; i < f->n_sources; i++) {
		char text[ADDRESS_TEXT_MAX];

		address_format(&sorted[i].addr, text);
		json_append(list,
			    json_new_printf(arena, "%s/%u", text,
					    sorted[i].bits - (address_family(&sorted[i].addr) == DP_V4 ? 96 : 0)));
	}
	return list;
}

struct json *netctl_frontend_json(struct arena *arena, const struct dp_service *f)
{
	static const char *const kinds[] = { "ClusterIP", "NodePort", "External", "LoadBalancer", "HostPort" };
	struct json *v = json_new_object(arena);

	json_set_cstr(arena, v, "kind", f->kind < ARRAY_SIZE(kinds) ? kinds[f->kind] : "?");
	json_set_cstr(arena, v, "protocol", services_proto_text(f->proto));
	/* 0.0.0.0 and :: are every address of the node. */
	json_set(v, "address", status_address(arena, &f->addr));
	json_set_int(arena, v, "port", f->port);
	json_set(v, "backends", status_backends(arena, f->backends, f->n_backends));
	if (f->affinity_s)
		json_set_int(arena, v, "affinitySeconds", f->affinity_s);
	if (f->outside_differs)
		json_set(v, "outside", status_backends(arena, f->outside, f->n_outside));
	if (f->n_sources)
		json_set(v, "sources", status_sources(arena, f));
	return v;
}

void netctl_service_facts(struct arena *arena, const struct json *service, struct json *v)
{
	const struct json *spec = json_get(service, "spec");
	struct json *ports = json_new_array(arena);

	if (str_is(json_get_str(spec, "type"), "ExternalName"))
		json_set_str(arena, v, "externalName", json_get_str(spec, "externalName"));
	else if (str_is(json_get_str(spec, "clusterIP"), "None"))
		json_set_bool(arena, v, "headless", true);
	json_foreach(p, json_get(spec, "ports")) {
		struct json *port = json_new_object(arena);
		struct str protocol = json_get_str(p, "protocol");

		if (!json_get_str(p, "name").n)
			continue;
		json_set_str(arena, port, "name", json_get_str(p, "name"));
		json_set_int(arena, port, "port", json_get_int(p, "port", 0));
		json_set_str(arena, port, "protocol", protocol.n ? protocol : str_of("TCP"));
		json_append(ports, port);
	}
	if (json_count(ports))
		json_set(v, "ports", ports);
}

void netctl_service_left_out(struct arena *arena, uint8_t truncated, struct json *v)
{
	for (enum services_limit l = 0; l < SERVICES_LIMITS; l++) {
		struct json *row;

		if (!(truncated & 1 << l))
			continue;
		row = json_new_object(arena);
		json_set_cstr(arena, row, "what", services_limit_name(l));
		json_set_int(arena, row, "max", services_limit_max(l));
		json_append(json_ensure_array(arena, v, "leftOut"), row);
	}
}

static struct json *status_slice_ports(struct arena *arena, const struct services_slice *slice)
{
	struct json *list = json_new_array(arena);

	for (size_t i = 0; i < slice->n_ports; i++) {
		struct json *v = json_new_object(arena);
		struct str name = slice->ports[i].name;

		json_set_str(arena, v, "name", arena_str(arena, name));
		json_set_int(arena, v, "port", slice->ports[i].port);
		json_set_cstr(arena, v, "protocol", services_proto_text(slice->ports[i].proto));
		json_append(list, v);
	}
	return list;
}

void netctl_service_endpoints(struct arena *arena, const struct services_slice *const *slices, size_t n, struct json *v)
{
	struct json *list = json_new_array(arena);
	size_t shown = 0, left_out = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < slices[i]->n_endpoints; k++) {
			const struct services_endpoint *e = &slices[i]->endpoints[k];
			struct json *row;

			if (shown == STATUS_ENDPOINTS_MAX) {
				left_out++;
				continue;
			}
			row = json_new_object(arena);
			json_set(row, "address", status_address(arena, &e->addr));
			json_set_bool(arena, row, "ready", e->flags & SERVICES_READY);
			json_set_bool(arena, row, "terminating", e->flags & SERVICES_TERMINATING);
			json_set(row, "ports", status_slice_ports(arena, slices[i]));
			json_append(list, row);
			shown++;
		}
	json_set(v, "endpoints", list);
	if (left_out)
		json_set_int(arena, v, "endpointsLeftOut", (int64_t)left_out);
}

/* Their slices are not kept read: nobody else asks for them. */
static void status_headless(struct arena *arena, const struct net_service *s, struct json *v)
{
	const struct services_place nowhere = { 0 };
	struct services_slice **slices = arena_new_array(arena, struct services_slice *, s->n_slices + 1);
	_cleanup_arena_ struct arena scratch = ARENA_INIT;

	for (size_t i = 0; i < s->n_slices; i++)
		slices[i] = services_slice_parse(registry_parse(&scratch, s->slices[i].object), &nowhere);
	netctl_service_endpoints(arena, (const struct services_slice *const *)slices, s->n_slices, v);
	for (size_t i = 0; i < s->n_slices; i++)
		free(slices[i]);
}

/* What another has in its stead is left out. */
static struct json *status_service(struct arena *arena, struct netctl *nc, const struct net_service *s)
{
	struct json *v = json_new_object(arena), *frontends = json_new_array(arena);
	struct json *in_use = listeners_json(arena, nc, s);

	json_set_cstr(arena, v, "namespace", s->ns);
	json_set_cstr(arena, v, "name", s->name);
	if (s->pod)
		json_set_cstr(arena, v, "kind", "Pod");
	else if (s->object)
		netctl_service_facts(arena, registry_parse(arena, s->object), v);
	if (json_get_bool(v, "headless", false))
		status_headless(arena, s, v);
	for (size_t i = 0; i < s->n_frontends; i++)
		if (place_is_owned(nc, s, &s->frontends[i]))
			json_append(frontends, netctl_frontend_json(arena, &s->frontends[i]));
	json_set(v, "frontends", frontends);
	if (json_count(in_use))
		json_set(v, "portsInUse", in_use);
	netctl_service_left_out(arena, s->truncated, v);
	return v;
}

static struct json *status_labels(struct arena *arena, const struct net_pod *pod)
{
	struct json *v = json_new_object(arena);

	for (size_t i = 0; i < pod->n_labels; i++)
		json_set_n(v, pod->labels[i].key, json_new_str(arena, pod->labels[i].value));
	return v;
}

static struct json *status_pod(struct arena *arena, struct netctl *nc, const struct net_pod *pod)
{
	struct json *v = json_new_object(arena), *policies = json_new_array(arena);
	struct json *addresses = json_new_array(arena), *ingress = json_new_array(arena);
	struct json *egress = json_new_array(arena);

	json_set_str(arena, v, "namespace", pod->ns);
	json_set_str(arena, v, "name", pod->name);
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct dp_addr *a = &pod->addrs[(nc->primary + i) % DP_FAMILIES];

		if (!address_is_zero(a))
			json_append(addresses, status_address(arena, a));
	}
	if (json_count(addresses))
		json_set(v, "address", json_clone(arena, json_first(addresses)));
	json_set(v, "addresses", addresses);
	json_set_int(arena, v, "identity", pod->identity);
	json_set(v, "labels", status_labels(arena, pod));
	list_foreach(p, &pod->home->policies, struct net_policy, link) {
		if (!selector_matches(&p->selector, pod->labels, pod->n_labels))
			continue;
		json_append(policies, json_new_str(arena, p->name));
		if (p->ingress)
			json_append(ingress, json_new_str(arena, p->name));
		if (p->egress)
			json_append(egress, json_new_str(arena, p->name));
	}
	json_set(v, "policies", policies);
	json_set(v, "ingressPolicies", ingress);
	json_set(v, "egressPolicies", egress);
	if (pod->host_network)
		json_set_bool(arena, v, "hostNetwork", true);
	if (pod->virtual)
		json_set_bool(arena, v, "virtual", true);
	return v;
}

struct json *netctl_status_json(struct netctl *nc, struct arena *arena)
{
	struct json *v = json_new_object(arena), *services = json_new_array(arena), *pods = json_new_array(arena);
	struct json *addresses = json_new_array(arena);

	for (size_t i = 0; i < nc->n_node_addrs; i++)
		json_append(addresses, status_address(arena, &nc->node_addrs[i]));
	map_foreach(e, &nc->services)
		json_append(services, status_service(arena, nc, e->value));
	map_foreach(e, &nc->host_ports)
		json_append(services, status_service(arena, nc, e->value));
	list_foreach(pod, &nc->model.pods, struct net_pod, link)
		if (pod->attached || pod->host_network)
			json_append(pods, status_pod(arena, nc, pod));
	json_set(v, "nodeAddresses", addresses);
	json_set(v, "services", services);
	json_set(v, "pods", pods);
	return v;
}

void netctl_get_stats(const struct netctl *nc, struct netctl_stats *ret)
{
	*ret = nc->stats;
	ret->policy_syncs = nc->policy.pods;
	ret->errors += nc->policy.errors;
	ret->services = nc->services.n;
	ret->frontends = nc->places.n;
	ret->services_waiting = 0;
	list_foreach(s, &nc->full_services, struct net_service, queue)
		ret->services_waiting += !list_empty(&s->queue);
	ret->policies = nc->model.policies_by_key.n;
	ret->pods = nc->model.pods_by_uid.n;
	ret->identities = nc->model.identities.by_id.n;
}

struct json *netctl_explain(struct netctl *nc, struct arena *arena, const struct netctl_flow *flow)
{
	return netctl_explain_model(&nc->model, arena, flow);
}
