/* SPDX-License-Identifier: Apache-2.0 */
/* Who talks to a backend that is gone is told. UDP clients never learn by themselves: at once, when the frontend that
 * they use does not lead there any more, which the dataplane finds out when some frontend lost a backend
 * (services_install.c). TCP ones may finish what they began for as long as the backend lives: a pod until its link is
 * away; anything else until no slice lists it any more, under whatever condition: not ready, leaving or not serving, it
 * is there still. A pod's address is nobody's then, and all that is connected to it ends. Any other address may be
 * alive and used by who never heard of the Service: only who came through one is told; and while other Services list
 * it, only who came by a frontend of the one that does not any more. */
#include <netinet/in.h>
#include <string.h>

#include "userspace/base/log.h"
#include "userspace/netctl/internal.h"

struct gone_key {
	struct dp_backend backend;
	uint8_t proto, zero;
};
_Static_assert(sizeof(struct gone_key) == 20, "no padding: a key of bytes");

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

	if (n > 0) {
		map_put(&nc->listed, key, (void *)n);
	} else {
		map_remove(&nc->listed, key);
		map_put(&nc->vanished, key, nc);
	}
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

/* ---- one Service lists it no more, another does ---- */

void gone_drop(struct netctl *nc, struct net_service *s, const struct services_slice *slice)
{
	for (size_t i = 0; i < slice->n_endpoints; i++) {
		const struct dp_addr *addr = &slice->endpoints[i].addr;

		if (pod_addresses_has(&nc->addresses, addr))
			continue;
		for (size_t k = 0; k < slice->n_ports; k++)
			if (slice->ports[k].proto == IPPROTO_TCP)
				gone_add(&s->dropped, addr, slice->ports[k].port);
	}
}

void gone_keep_places(struct net_service *s, const struct services_result *want)
{
	if (want->n || !s->n_frontends)
		return;
	free(s->former);
	s->former = mem_new_array(struct dp_service, s->n_frontends);
	s->n_former = 0;
	for (size_t i = 0; i < s->n_frontends; i++) {
		const struct dp_service *f = &s->frontends[i];

		if (f->proto == IPPROTO_TCP)
			s->former[s->n_former++] = (struct dp_service){
				.kind = f->kind, .proto = f->proto, .port = f->port, .addr = f->addr
			};
	}
}

/* What all its slices list now. */
static struct net_gone gone_listed_by(const struct net_service *s)
{
	struct net_gone all = { 0 };

	for (size_t i = 0; i < s->n_slices; i++) {
		const struct services_slice *slice = s->slices[i].meaning;

		for (size_t e = 0; slice && e < slice->n_endpoints; e++)
			for (size_t k = 0; k < slice->n_ports; k++)
				if (slice->ports[k].proto == IPPROTO_TCP)
					gone_add(&all, &slice->endpoints[e].addr, slice->ports[k].port);
	}
	gone_once_each(&all);
	return all;
}

/* A place that is another's now: its clients are that one's. */
static bool gone_is_others(const struct netctl *nc, const struct net_service *s, const struct dp_service *place)
{
	const struct net_place *p = place_find(nc, place);

	return p && p->owner && p->owner != s;
}

static void gone_part_places(struct netctl *nc, const struct net_service *s, const struct net_gone *lost,
			     const struct dp_service *places, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (places[i].proto == IPPROTO_TCP && !gone_is_others(nc, s, &places[i]) &&
		    dataplane_frontend_left(nc->dp, &places[i], lost->items, lost->n, &err) < 0)
			log_warn("clients of a frontend's former backends not told error=\"%s\"", err_message(&err));
	}
}

/* What nobody lists any more is left to the end of the sync: then it is told by whatever frontend it came. */
void gone_part(struct netctl *nc, struct net_service *s)
{
	struct net_gone listed, lost = { 0 };
	struct gone_key key;

	if (!s->dropped.n)
		return;
	gone_once_each(&s->dropped);
	listed = gone_listed_by(s);
	for (size_t i = 0; i < s->dropped.n; i++) {
		const struct dp_backend *b = &s->dropped.items[i];

		if (listed.n && bsearch(b, listed.items, listed.n, sizeof(*b), services_backend_cmp))
			continue;
		if (map_has(&nc->listed, gone_key(&key, &b->addr, b->port, IPPROTO_TCP)) &&
		    !pod_addresses_has(&nc->addresses, &b->addr))
			gone_add(&lost, &b->addr, b->port);
	}
	gone_part_places(nc, s, &lost, s->frontends, s->n_frontends);
	gone_part_places(nc, s, &lost, s->former, s->n_former);
	free(listed.items);
	free(lost.items);
	free(s->dropped.items);
	s->dropped = (struct net_gone){ 0 };
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
	map_foreach(e, &nc->vanished) {
		struct gone_key k;

		memcpy(&k, e->key, sizeof(k));
		if (k.proto == IPPROTO_TCP && !map_has(&nc->listed, str_make(e->key, e->key_len)) &&
		    !pod_addresses_has(&nc->addresses, &k.backend.addr))
			gone_add(&nc->left_tcp, &k.backend.addr, k.backend.port);
	}
	map_finish(&nc->vanished);
	nc->vanished = MAP_INIT;
	gone_check(nc);
	gone_tell(nc, &nc->gone_udp, IPPROTO_UDP, dataplane_backends_gone);
	gone_tell(nc, &nc->gone_tcp, IPPROTO_TCP, dataplane_backends_gone);
	gone_tell(nc, &nc->left_tcp, IPPROTO_TCP, dataplane_backends_left);
}

void gone_free(struct netctl *nc)
{
	map_finish(&nc->listed);
	map_finish(&nc->served);
	map_finish(&nc->vanished);
	free(nc->gone_tcp.items);
	free(nc->gone_udp.items);
	free(nc->left_tcp.items);
	free(nc->lost_udp.items);
	for (size_t i = 0; i < nc->n_adopted; i++)
		free(nc->adopted[i].backends);
	free(nc->adopted);
}
