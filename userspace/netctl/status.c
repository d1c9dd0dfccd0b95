/* SPDX-License-Identifier: Apache-2.0 */
/* What the objects say the dataplane should hold, for `status` to hold against the maps. */
#include "userspace/netctl/status.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"
#include "userspace/netctl/services.h"

static struct json *status_address(struct arena *arena, const struct dp_addr *a)
{
	char text[ADDRESS_TEXT_MAX];

	address_format(a, text);
	return json_new_cstr(arena, arena_strdup(arena, text));
}

struct json *netctl_frontend_json(struct arena *arena, const struct dp_service *f)
{
	static const char *const kinds[] = { "ClusterIP", "NodePort", "External", "LoadBalancer", "HostPort" };
	struct json *v = json_new_object(arena), *backends = json_new_array(arena);
	struct dp_backend *sorted = arena_new_array(arena, struct dp_backend, f->n_backends);

	json_set_cstr(arena, v, "kind", kinds[f->kind]);
	json_set_cstr(arena, v, "protocol", f->proto == IPPROTO_UDP ? "UDP" : f->proto == IPPROTO_TCP ? "TCP" : "SCTP");
	if (f->kind != DP_NODE_PORT)
		json_set(v, "address", status_address(arena, &f->addr));
	json_set_int(arena, v, "port", f->port);
	if (f->n_backends) {
		memcpy(sorted, f->backends, f->n_backends * sizeof(*sorted));
		qsort(sorted, f->n_backends, sizeof(*sorted), services_backend_cmp);
	}
	for (size_t i = 0; i < f->n_backends; i++) {
		struct json *b = json_new_object(arena);

		json_set(b, "address", status_address(arena, &sorted[i].addr));
		json_set_int(arena, b, "port", sorted[i].port);
		json_append(backends, b);
	}
	json_set(v, "backends", backends);
	return v;
}

static struct json *status_pod(struct arena *arena, struct netctl *nc, const struct net_pod *pod)
{
	struct json *v = json_new_object(arena), *policies = json_new_array(arena);
	struct json *addresses = json_new_array(arena);

	json_set_str(arena, v, "namespace", pod->ns);
	json_set_str(arena, v, "name", pod->name);
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct dp_addr *a = &pod->addrs[(nc->primary + i) % DP_FAMILIES];

		if (!address_is_zero(a))
			json_append(addresses, status_address(arena, a));
	}
	json_set(v, "address", json_clone(arena, json_first(addresses)));
	json_set(v, "addresses", addresses);
	json_set_int(arena, v, "identity", pod->identity);
	list_foreach(p, &pod->home->policies, struct net_policy, link)
		if (selector_matches(&p->selector, pod->labels, pod->n_labels))
			json_append(policies, json_new_str(arena, p->name));
	json_set(v, "policies", policies);
	return v;
}

struct json *netctl_status_json(struct netctl *nc, struct arena *arena)
{
	struct json *v = json_new_object(arena), *services = json_new_array(arena), *pods = json_new_array(arena);

	map_foreach(e, &nc->services) {
		struct net_service *s = e->value;
		struct json *item = json_new_object(arena), *frontends = json_new_array(arena);

		json_set_cstr(arena, item, "namespace", s->ns);
		json_set_cstr(arena, item, "name", s->name);
		for (size_t i = 0; i < s->n_frontends; i++)
			json_append(frontends, netctl_frontend_json(arena, &s->frontends[i]));
		json_set(item, "frontends", frontends);
		json_append(services, item);
	}
	list_foreach(pod, &nc->model.pods, struct net_pod, link)
		if (pod->attached && !pod->virtual)
			json_append(pods, status_pod(arena, nc, pod));
	json_set(v, "services", services);
	json_set(v, "pods", pods);
	return v;
}

void netctl_get_stats(const struct netctl *nc, struct netctl_stats *ret)
{
	*ret = nc->stats;
	ret->services = nc->services.n;
	ret->frontends = nc->frontends.n;
	ret->policies = nc->model.policies_by_key.n;
	ret->pods = nc->model.pods_by_uid.n;
	ret->identities = nc->model.identities.by_id.n;
}
