/* SPDX-License-Identifier: Apache-2.0 */
/* Who talks to a backend that is gone is told. UDP clients never learn by themselves: at once, when the backend leaves
 * its frontends (services_install.c). TCP ones may finish what they began for as long as the backend lives: a pod
 * until its link is away, anything else until no slice says any more that it serves. */
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
	intptr_t n = (intptr_t)map_get(&nc->serving, key) + step;

	if (n > 0) {
		map_put(&nc->serving, key, (void *)n);
	} else {
		map_remove(&nc->serving, key);
		map_put(&nc->vanished, key, nc);
	}
}

static void gone_each(struct netctl *nc, const struct services_slice *slice, intptr_t step)
{
	struct gone_key key;

	for (size_t i = 0; i < slice->n_endpoints; i++) {
		const struct services_endpoint *e = &slice->endpoints[i];

		if (!(e->flags & SERVICES_SERVING))
			continue;
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

static void gone_tell(struct netctl *nc, struct net_gone *list, uint8_t proto)
{
	_cleanup_err_ struct err err = ERR_INIT;
	size_t n = 0;

	if (!list->n)
		return;
	qsort(list->items, list->n, sizeof(*list->items), services_backend_cmp);
	for (size_t i = 0; i < list->n; i++)
		if (!n || services_backend_cmp(&list->items[n - 1], &list->items[i]) != 0)
			list->items[n++] = list->items[i];
	if (dataplane_backends_gone(nc->dp, list->items, n, proto, &err) < 0)
		log_warn("clients of vanished backends not told n=%zu error=\"%s\"", n, err_message(&err));
	list->n = 0;
}

void gone_flush(struct netctl *nc)
{
	map_foreach(e, &nc->vanished) {
		struct gone_key k;

		memcpy(&k, e->key, sizeof(k));
		if (k.proto == IPPROTO_TCP && !map_has(&nc->serving, str_make(e->key, e->key_len)) &&
		    !pod_addresses_has(&nc->addresses, &k.backend.addr))
			gone_add(&nc->gone_tcp, &k.backend.addr, k.backend.port);
	}
	map_finish(&nc->vanished);
	nc->vanished = MAP_INIT;
	gone_tell(nc, &nc->gone_udp, IPPROTO_UDP);
	gone_tell(nc, &nc->gone_tcp, IPPROTO_TCP);
}

void gone_free(struct netctl *nc)
{
	map_finish(&nc->serving);
	map_finish(&nc->served);
	map_finish(&nc->vanished);
	free(nc->gone_tcp.items);
	free(nc->gone_udp.items);
}
