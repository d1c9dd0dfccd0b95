/* SPDX-License-Identifier: Apache-2.0 */
/* Who talks to a backend that is gone is told. UDP clients never learn by themselves: at once, when the frontend that
 * they use does not lead there any more, which the dataplane finds out when some frontend lost a backend
 * (services_install.c). TCP ones may finish what they began for as long as the backend lives, whatever becomes of
 * readiness, labels, slices and Services: a pod with a link until that is away, one on the host's network until it has
 * ended or its object is gone. The address of the first is nobody's then, and all that is connected to it ends. The
 * other's is the node's: told is who came through a Service, at the ports that slices listed of this pod and that are
 * of no other that lives. What is no pod of this node is nobody's to judge: not to be listed is not to be gone. */
#include <netinet/in.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define GONE_HOSTED_PORTS_MAX                                                                                          \
	256 /* of one pod on the host's network; who came to others learns by its sockets' end                         \
	     */

struct gone_key {
	struct dp_backend backend;
	uint8_t proto, zero;
};
_Static_assert(sizeof(struct gone_key) == 20, "no padding: a key of bytes");

/* A pod on the host's network, as far as slices listed it. */
struct net_hosted {
	struct net_gone tcp;
	bool seen; /* living, since */
};

static struct str gone_key(struct gone_key *k, const struct dp_addr *addr, uint16_t port, uint8_t proto)
{
	*k = (struct gone_key){ { *addr, port }, proto, 0 };
	return str_make((const char *)k, sizeof(*k));
}

static struct str gone_address(const struct dp_addr *addr)
{
	return str_make((const char *)addr->b, sizeof(addr->b));
}

static void gone_count(struct netctl *nc, struct str key, intptr_t step)
{
	intptr_t n = (intptr_t)map_get(&nc->listed, key) + step;

	if (n > 0)
		map_put(&nc->listed, key, (void *)n);
	else
		map_remove(&nc->listed, key);
}

static void gone_each(struct netctl *nc, const struct services_slice *slice, intptr_t step)
{
	struct gone_key key;

	for (size_t i = 0; i < slice->n_endpoints; i++) {
		const struct services_endpoint *e = &slice->endpoints[i];

		for (size_t k = 0; k < slice->n_ports; k++)
			gone_count(nc, gone_key(&key, &e->addr, slice->ports[k].port, slice->ports[k].proto), step);
		if (step > 0 && pod_addresses_has(&nc->addresses, &e->addr))
			map_put(&nc->served, gone_address(&e->addr), nc);
	}
}

void gone_hold(struct netctl *nc, const struct services_slice *slice)
{
	gone_each(nc, slice, 1);
}

void gone_release(struct netctl *nc, const struct services_slice *slice)
{
	gone_each(nc, slice, -1);
}

void gone_add(struct net_gone *list, const struct dp_addr *addr, uint16_t port)
{
	mem_grow(list->items, list->cap, list->n + 1);
	list->items[list->n++] = (struct dp_backend){ *addr, port };
}

void gone_pod(struct netctl *nc, const struct dp_addr addrs[static DP_FAMILIES])
{
	static const struct dp_addr none;

	for (int f = 0; f < DP_FAMILIES; f++) {
		if (memcmp(&addrs[f], &none, sizeof(none)) == 0 || !map_remove(&nc->served, gone_address(&addrs[f])))
			continue;
		gone_add(&nc->gone_tcp, &addrs[f], 0);
		gone_add(&nc->gone_udp, &addrs[f], 0);
		netctl_schedule(nc);
	}
}

void gone_adopt(struct netctl *nc)
{
	map_foreach(e, &nc->addresses.owners)
		map_put(&nc->served, str_make(e->key, e->key_len), nc);
}

static void gone_once_each(struct net_gone *list)
{
	size_t n = 0;

	if (list->n)
		qsort(list->items, list->n, sizeof(*list->items), services_backend_cmp);
	for (size_t i = 0; i < list->n; i++)
		if (!n || services_backend_cmp(&list->items[n - 1], &list->items[i]) != 0)
			list->items[n++] = list->items[i];
	list->n = n;
}

/* ---- pods on the host's network ---- */

static bool gone_list_has(const struct net_gone *list, const struct dp_backend *b)
{
	for (size_t i = 0; i < list->n; i++)
		if (services_backend_cmp(&list->items[i], b) == 0)
			return true;
	return false;
}

static void hosted_free(struct net_hosted *h)
{
	if (!h)
		return;
	free(h->tcp.items);
	free(h);
}

static void hosted_note(struct netctl *nc, struct str uid, const struct dp_addr *addr,
			const struct services_slice *meaning)
{
	struct net_hosted *h = map_get(&nc->hosted, uid);

	if (!h) {
		h = mem_new(struct net_hosted);
		map_put(&nc->hosted, uid, h);
	}
	for (size_t k = 0; k < meaning->n_ports; k++) {
		const struct dp_backend b = { *addr, meaning->ports[k].port };

		if (meaning->ports[k].proto == IPPROTO_TCP && !gone_list_has(&h->tcp, &b) &&
		    h->tcp.n < GONE_HOSTED_PORTS_MAX)
			gone_add(&h->tcp, addr, b.port);
	}
}

void gone_note_hosted(struct netctl *nc, const struct json *slice, const struct services_slice *meaning)
{
	json_foreach(e, json_get(slice, "endpoints")) {
		const struct json *target = json_get(e, "targetRef");
		struct str uid = json_get_str(target, "uid");
		struct dp_addr addr;

		if (uid.n && str_is(json_get_str(target, "kind"), "Pod") &&
		    address_parse(json_str(json_first(json_get(e, "addresses"))), &addr) == 0 &&
		    !pod_addresses_in_range(&nc->addresses, &addr))
			hosted_note(nc, uid, &addr, meaning);
	}
}

/* Slices may name pods that nobody has, or that are young: only one that lived can be gone. */
static bool hosted_lives(const struct netctl *nc, struct str uid)
{
	const struct net_pod *pod = model_pod(&nc->model, uid);

	return pod && pod->host_network && !pod->ended;
}

/* What a successor has at the same place goes on: the sockets of the one before ended with its processes. */
static bool hosted_has_living(const struct netctl *nc, const struct dp_backend *b)
{
	map_foreach(e, &nc->hosted) {
		const struct net_hosted *h = e->value;

		if (h->seen && gone_list_has(&h->tcp, b))
			return true;
	}
	return false;
}

static bool hosted_all_live(struct netctl *nc)
{
	bool all = true;

	map_foreach(e, &nc->hosted) {
		struct net_hosted *h = e->value;
		bool lives = hosted_lives(nc, str_make(e->key, e->key_len));

		h->seen |= lives;
		all &= lives;
	}
	return all;
}

static void hosted_check(struct netctl *nc)
{
	struct net_gone over = { 0 };
	struct map living = MAP_INIT;

	if (hosted_all_live(nc))
		return;
	map_foreach(e, &nc->hosted) {
		struct str uid = str_make(e->key, e->key_len);
		struct net_hosted *h = e->value;

		if (hosted_lives(nc, uid)) {
			map_put(&living, uid, h);
			continue;
		}
		for (size_t i = 0; h->seen && i < h->tcp.n; i++)
			gone_add(&over, &h->tcp.items[i].addr, h->tcp.items[i].port);
		hosted_free(h);
	}
	map_finish(&nc->hosted);
	nc->hosted = living;
	for (size_t i = 0; i < over.n; i++)
		if (!hosted_has_living(nc, &over.items[i]))
			gone_add(&nc->left_tcp, &over.items[i].addr, over.items[i].port);
	free(over.items);
}

typedef int gone_fn(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto, struct err *err);

static void gone_tell(struct netctl *nc, struct net_gone *list, uint8_t proto, gone_fn *tell)
{
	_cleanup_err_ struct err err = ERR_INIT;

	gone_once_each(list);
	if (tell(nc->dp, list->items, list->n, proto, &err) < 0)
		log_warn("clients of vanished backends not told n=%zu error=\"%s\"", list->n, err_message(&err));
	list->n = 0;
}

static bool frontend_has_backend(const struct dp_service *s, const struct dp_backend *b)
{
	return (s->n_backends && bsearch(b, s->backends, s->n_backends, sizeof(*b), services_backend_cmp)) ||
	       (s->n_outside && bsearch(b, s->outside, s->n_outside, sizeof(*b), services_backend_cmp));
}

void gone_compare(struct netctl *nc, const struct dp_service *now, const struct dp_backend *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (now && frontend_has_backend(now, &list[i]))
			continue;
		gone_add(&nc->lost_udp, &list[i].addr, list[i].port);
		nc->udp_moved = true;
	}
}

void gone_remember(struct netctl *nc, const struct dp_service *s)
{
	struct net_old *old;

	if (s->proto != IPPROTO_UDP || !(s->n_backends + s->n_outside))
		return;
	mem_grow(nc->adopted, nc->cap_adopted, nc->n_adopted + 1);
	old = &nc->adopted[nc->n_adopted++];
	*old = (struct net_old){ .place = { .kind = s->kind, .proto = s->proto, .port = s->port, .addr = s->addr },
				 .n = s->n_backends + s->n_outside };
	old->backends = mem_new_array(struct dp_backend, old->n);
	if (s->n_backends)
		memcpy(old->backends, s->backends, s->n_backends * sizeof(*s->backends));
	if (s->n_outside)
		memcpy(old->backends + s->n_backends, s->outside, s->n_outside * sizeof(*s->outside));
}

static void gone_compare_adopted(struct netctl *nc)
{
	for (size_t i = 0; i < nc->n_adopted; i++) {
		const struct net_old *old = &nc->adopted[i];
		const struct net_place *p = place_find(nc, &old->place);

		gone_compare(nc, p && p->owner ? service_frontend_at(p->owner, &old->place) : NULL, old->backends,
			     old->n);
		free(old->backends);
	}
	free(nc->adopted);
	nc->adopted = NULL;
	nc->n_adopted = nc->cap_adopted = 0;
}

static void gone_check(struct netctl *nc)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (!nc->udp_moved)
		return;
	gone_once_each(&nc->lost_udp);
	if (dataplane_flows_check(nc->dp, nc->lost_udp.items, nc->lost_udp.n, &err) < 0)
		log_warn("clients of moved frontends not told error=\"%s\"", err_message(&err));
	nc->lost_udp.n = 0;
	nc->udp_moved = false;
}

void gone_settle(struct netctl *nc)
{
	struct dp_backend *living = mem_new_array(struct dp_backend, nc->listed.n + 1);
	_cleanup_err_ struct err err = ERR_INIT;
	size_t n = 0;

	gone_compare_adopted(nc);
	gone_check(nc);
	map_foreach(e, &nc->listed) {
		struct gone_key k;

		memcpy(&k, e->key, sizeof(k));
		if (!pod_addresses_has(&nc->addresses, &k.backend.addr))
			living[n++] = k.backend;
	}
	if (dataplane_flows_adopt(nc->dp, living, n, &err) < 0)
		log_warn("clients of an earlier run's backends not told error=\"%s\"", err_message(&err));
	free(living);
}

void gone_flush(struct netctl *nc)
{
	hosted_check(nc);
	gone_check(nc);
	gone_tell(nc, &nc->gone_udp, IPPROTO_UDP, dataplane_backends_gone);
	gone_tell(nc, &nc->gone_tcp, IPPROTO_TCP, dataplane_backends_gone);
	gone_tell(nc, &nc->left_tcp, IPPROTO_TCP, dataplane_backends_left);
}

void gone_free(struct netctl *nc)
{
	map_finish(&nc->listed);
	map_finish(&nc->served);
	map_foreach(e, &nc->hosted)
		hosted_free(e->value);
	map_finish(&nc->hosted);
	free(nc->gone_tcp.items);
	free(nc->gone_udp.items);
	free(nc->left_tcp.items);
	free(nc->lost_udp.items);
	for (size_t i = 0; i < nc->n_adopted; i++)
		free(nc->adopted[i].backends);
	free(nc->adopted);
}
