/* SPDX-License-Identifier: Apache-2.0 */
/* See pod_addresses.h. */
#include "userspace/netctl/pod_addresses.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/netctl/address.h"

#define ADDRESS_FIRST 2 /* .0 is the network (IPv6: any router of it), .1 is left to the host */

static struct str address_key(const struct dp_addr *a)
{
	return str_make((const char *)a->b, sizeof(a->b));
}

void pod_addresses_init(struct pod_addresses *p, const struct dp_net nets[static DP_FAMILIES])
{
	*p = (struct pod_addresses){ .cursors = { ADDRESS_FIRST, ADDRESS_FIRST } };
	memcpy(p->nets, nets, sizeof(p->nets));
}

void pod_addresses_finish(struct pod_addresses *p)
{
	map_foreach(owner, &p->owners)
		free(owner->value);
	map_finish(&p->owners);
}

bool pod_addresses_has(const struct pod_addresses *p, const struct dp_addr *a)
{
	return map_has(&p->owners, address_key(a));
}

bool pod_addresses_in_range(const struct pod_addresses *p, const struct dp_addr *a)
{
	const struct dp_net *net = &p->nets[address_family(a)];

	return net->bits && address_in(a, &net->addr, net->bits);
}

static uint64_t pod_addresses_size(const struct dp_net *net)
{
	unsigned bits = 128u - net->bits;

	return bits >= 64 || 1ull << bits > POD_ADDRESSES_SEARCH_MAX ? POD_ADDRESSES_SEARCH_MAX : 1ull << bits;
}

/* The number of the address within its range; those that lie behind the ones ever given out count as such. */
static uint64_t pod_addresses_number(const struct dp_net *net, const struct dp_addr *a)
{
	uint64_t n = 0;

	for (int i = 0; i < 16; i++) {
		if (n >> 32)
			return UINT64_MAX;
		n = n << 8 | (uint8_t)(a->b[i] & ~net->addr.b[i]);
	}
	return n;
}

void pod_addresses_take(struct pod_addresses *p, const struct dp_addr *a, struct str uid)
{
	enum dp_family family = address_family(a);

	free(map_put(&p->owners, address_key(a), str_dup(uid)));
	if (pod_addresses_in_range(p, a)) {
		uint64_t n = pod_addresses_number(&p->nets[family], a);

		if (n < POD_ADDRESSES_SEARCH_MAX && n >= p->cursors[family])
			p->cursors[family] = n + 1;
	}
}

void pod_addresses_release(struct pod_addresses *p, const struct dp_addr *a, struct str uid)
{
	const char *owner = map_get(&p->owners, address_key(a));

	if (owner && str_is(uid, owner))
		free(map_remove(&p->owners, address_key(a)));
}

static void address_at(const struct dp_net *net, uint64_t n, struct dp_addr *ret)
{
	*ret = net->addr;
	for (int i = 15; i >= 0 && n; i--, n >>= 8)
		ret->b[i] |= (uint8_t)n;
}

int pod_addresses_allocate(struct pod_addresses *p, enum dp_family family, struct str uid, struct dp_addr *ret)
{
	const struct dp_net *net = &p->nets[family];
	uint64_t size = net->bits ? pod_addresses_size(net) : 0;
	struct dp_addr a;

	for (uint64_t i = 0; i < size; i++) {
		uint64_t n = (p->cursors[family] + i) % size;

		/* Reuse comes late: a peer may still hold connections to the one who had it. */
		if (n < ADDRESS_FIRST || n == size - 1)
			continue;
		address_at(net, n, &a);
		if (pod_addresses_has(p, &a))
			continue;
		pod_addresses_take(p, &a, uid);
		p->cursors[family] = n + 1;
		*ret = a;
		return 0;
	}
	return -ENOSPC;
}
