/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints, rules and the answer of the policy look-ups. The order of the look-ups is that of bpf/lib/policy.h:
 * whoever changes one changes the other (test_inspect.c holds them against each other). See inspect.h. */
#include "userspace/dataplane/inspect.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/event.h"
#include "bpf/include/policy.h"
#include "bpf/include/rate.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"

/* The half that is in force now. */
static const struct k3c_endpoint_policy *endpoint_policy(struct dataplane *dp, const struct k3c_endpoint *e)
{
	struct k3c_meta meta = { 0 };
	uint32_t zero = 0;

	(void)bpf_map_lookup_elem(dp->maps[DP_MAP_META], &zero, &meta);
	return &e->policy[meta.generation & 1];
}

static void endpoint_out(struct dataplane *dp, const struct k3c_addr *addr, const struct k3c_endpoint *e,
			 struct dp_endpoint *ret)
{
	const struct k3c_endpoint_policy *policy = endpoint_policy(dp, e);
	struct k3c_pod_drop drop;
	struct k3c_rate rate;

	*ret = (struct dp_endpoint){
		.addr = dp_addr_out(addr),
		.ifindex = e->ifindex,
		.identity = policy->identity,
		.isolated_ingress = policy->flags & K3C_EP_ISOLATED_INGRESS,
		.isolated_egress = policy->flags & K3C_EP_ISOLATED_EGRESS,
		.set = policy->set,
	};
	if (!e->ifindex)
		return;
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_RATE], &e->ifindex, &rate) == 0) {
		ret->ingress_bits_s = rate.limit[K3C_INGRESS].bits_s;
		ret->egress_bits_s = rate.limit[K3C_EGRESS].bits_s;
		ret->paced = rate.paced;
	}
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_POD_DROP], &e->ifindex, &drop) < 0)
		return;
	ret->dropped_ingress = drop.ingress;
	ret->dropped_egress = drop.egress;
	ret->dropped_other = drop.other;
	ret->dropped_bytes = drop.bytes;
}

int dataplane_endpoint_each(struct dataplane *dp, dataplane_endpoint_fn *fn, void *arg, struct err *err)
{
	int fd = dp->maps[DP_MAP_ENDPOINT];
	struct k3c_addr addr;

	keys_foreach(fd, addr) {
		struct dp_endpoint out;
		struct k3c_endpoint e;

		if (bpf_map_lookup_elem(fd, &addr, &e) < 0)
			continue;
		endpoint_out(dp, &addr, &e, &out);
		fn(arg, &out);
	}
	return errno == ENOENT ? 0 : err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_ENDPOINT), strerror(errno));
}

int dataplane_endpoint_get(struct dataplane *dp, const struct dp_addr *addr, struct dp_endpoint *ret)
{
	struct k3c_addr a = dp_addr_in(addr);
	struct k3c_endpoint e;

	if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &a, &e) < 0)
		return -ENOENT;
	endpoint_out(dp, &a, &e, ret);
	return 0;
}

bool dataplane_netns_pod(struct dataplane *dp, uint64_t cookie, struct dp_addr ret_addrs[static DP_FAMILIES])
{
	struct k3c_netns n;

	if (bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &n) < 0)
		return false;
	for (int f = 0; f < DP_FAMILIES; f++)
		ret_addrs[f] = dp_addr_out(&n.addrs[f]);
	return true;
}

bool dataplane_is_node_address(struct dataplane *dp, const struct dp_addr *addr)
{
	struct k3c_addr a = dp_addr_in(addr);
	uint32_t value;

	return bpf_map_lookup_elem(dp->maps[DP_MAP_NODE], &a, &value) == 0;
}

struct dp_addr dataplane_node_address(struct dataplane *dp, enum dp_family family)
{
	struct k3c_addr addr, lowest;
	bool found = false;

	/* in whatever order the map has them */
	keys_foreach(dp->maps[DP_MAP_NODE], addr) {
		if (dp_addr_family(&addr) != family || (found && memcmp(&addr, &lowest, sizeof(addr)) >= 0))
			continue;
		lowest = addr;
		found = true;
	}
	if (found)
		return dp_addr_out(&lowest);
	if (family == DP_V6)
		return (struct dp_addr){ .b = { [15] = 1 } };
	return (struct dp_addr){ .b = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 } };
}

/* ---- rules ---- */

/* What a peer of a direction has open: a run of ports of one protocol. */
struct opening {
	uint32_t peer;
	uint8_t direction, proto;
	uint16_t first, last; /* 0, 65535: every port */
};

struct openings {
	struct opening *items;
	size_t n, cap;
};

static int opening_cmp(const void *pa, const void *pb)
{
	const struct opening *a = pa, *b = pb;

	if (a->direction != b->direction)
		return a->direction < b->direction ? -1 : 1;
	if (a->peer != b->peer)
		return a->peer < b->peer ? -1 : 1;
	if (a->proto != b->proto)
		return a->proto < b->proto ? -1 : 1;
	return (a->first > b->first) - (a->first < b->first);
}

static void opening_add(struct openings *o, const struct k3c_rule_key *key)
{
	struct opening *item;
	uint32_t span;

	mem_grow(o->items, o->cap, o->n + 1);
	item = &o->items[o->n++];
	*item = (struct opening){ .peer = key->peer, .direction = key->direction, .last = UINT16_MAX };
	if (key->prefixlen <= K3C_RULE_BITS_ANY)
		return;
	item->proto = key->proto;
	span = key->prefixlen >= K3C_RULE_BITS_PORT ? 1 : 1u << (K3C_RULE_BITS_PORT - key->prefixlen);
	if (span > UINT16_MAX)
		return;
	item->first = ntohs(key->port);
	item->last = (uint16_t)(item->first + span - 1);
}

/* Blocks that touch are one range again. */
static void openings_join(struct openings *o)
{
	size_t n = 0;

	if (o->n)
		qsort(o->items, o->n, sizeof(*o->items), opening_cmp);
	for (size_t i = 0; i < o->n; i++) {
		struct opening *last = n ? &o->items[n - 1] : NULL, *item = &o->items[i];

		if (last && last->direction == item->direction && last->peer == item->peer &&
		    last->proto == item->proto && item->first <= (uint32_t)last->last + 1) {
			if (item->last > last->last)
				last->last = item->last;
			continue;
		}
		o->items[n++] = *item;
	}
	o->n = n;
}

static void openings_read(struct dataplane *dp, uint32_t set, struct openings *o)
{
	struct k3c_rule_key key;

	keys_foreach(dp->maps[DP_MAP_RULE], key) {
		if (key.set == set)
			opening_add(o, &key);
	}
	openings_join(o);
}

static void rule_tell(const struct opening *o, dataplane_rule_fn *fn, void *arg, struct dp_rule_info *r)
{
	bool all = o->first == 0 && o->last == UINT16_MAX;

	r->direction = o->direction;
	r->proto = o->proto;
	r->port = all ? 0 : o->first;
	r->end_port = all ? 0 : o->last;
	fn(arg, r);
}

/* All of IPv6 under a rule that all of IPv4 is under as well. */
static bool rule_is_everyone(struct dataplane *dp, const struct k3c_prefix_key *key, uint32_t class)
{
	struct k3c_prefix_key v4 = *key;
	uint32_t theirs;

	v4.prefixlen = K3C_PREFIX_BITS_FIXED + DP_V4_BITS;
	v4.addr = dp_addr_v4(0);
	return key->prefixlen == K3C_PREFIX_BITS_FIXED &&
	       bpf_map_lookup_elem(dp->maps[DP_MAP_PREFIX], &v4, &theirs) == 0 && theirs == class;
}

/* A prefix opens what its class has. */
static void rule_prefix(struct dataplane *dp, const struct k3c_prefix_key *key, uint32_t class,
			const struct openings *o, dataplane_rule_fn *fn, void *arg)
{
	const struct opening all = { .direction = key->direction, .last = UINT16_MAX };
	struct dp_rule_info r = {
		.prefix = dp_addr_out(&key->addr),
		.prefix_len = (uint8_t)(key->prefixlen - K3C_PREFIX_BITS_FIXED),
		.everyone = rule_is_everyone(dp, key, class),
	};

	if (class == K3C_CLASS_ALL) {
		rule_tell(&all, fn, arg, &r);
		return;
	}
	for (size_t i = 0; i < o->n; i++)
		if (o->items[i].peer == (class | K3C_PEER_CLASS) && o->items[i].direction == key->direction)
			rule_tell(&o->items[i], fn, arg, &r);
}

int dataplane_rule_each(struct dataplane *dp, uint32_t set, dataplane_rule_fn *fn, void *arg, struct err *err)
{
	struct k3c_prefix_key key;
	struct openings o = { 0 };

	if (!set)
		return 0;
	openings_read(dp, set, &o);
	for (size_t i = 0; i < o.n; i++) {
		struct dp_rule_info r = { .identity = o.items[i].peer };

		if (!(o.items[i].peer & K3C_PEER_CLASS))
			rule_tell(&o.items[i], fn, arg, &r);
	}
	keys_foreach(dp->maps[DP_MAP_PREFIX], key) {
		uint32_t class;

		if (key.set == set && bpf_map_lookup_elem(dp->maps[DP_MAP_PREFIX], &key, &class) == 0)
			rule_prefix(dp, &key, class, &o, fn, arg);
	}
	free(o.items);
	return errno == ENOENT ? 0 : err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_PREFIX), strerror(errno));
}

/* ---- what the programs would do ---- */

static bool probe_rule(struct dataplane *dp, uint32_t set, uint32_t peer, uint8_t direction, uint8_t proto,
		       uint16_t port)
{
	const struct k3c_rule_key key = {
		.prefixlen = K3C_RULE_BITS_PORT,
		.set = set,
		.peer = peer,
		.direction = direction,
		.proto = proto,
		.port = htons(port),
	};
	uint32_t value;

	return bpf_map_lookup_elem(dp->maps[DP_MAP_RULE], &key, &value) == 0;
}

static bool probe_allows(struct dataplane *dp, const struct k3c_endpoint_policy *pod, uint8_t direction,
			 const struct k3c_addr *peer, uint32_t peer_identity, uint8_t proto, uint16_t port)
{
	uint32_t prefixes = direction == K3C_INGRESS ? K3C_EP_PREFIXES_INGRESS : K3C_EP_PREFIXES_EGRESS;
	uint32_t only = direction == K3C_INGRESS ? K3C_EP_PREFIXES_ONLY_INGRESS : K3C_EP_PREFIXES_ONLY_EGRESS;
	const struct k3c_prefix_key key = {
		.prefixlen = K3C_PREFIX_BITS_FIXED + 128,
		.set = pod->set,
		.direction = direction,
		.addr = *peer,
	};
	uint32_t class;

	if (peer_identity && !(pod->flags & only) && probe_rule(dp, pod->set, peer_identity, direction, proto, port))
		return true;
	if (!(pod->flags & prefixes) || bpf_map_lookup_elem(dp->maps[DP_MAP_PREFIX], &key, &class) < 0)
		return false;
	return class == K3C_CLASS_ALL || probe_rule(dp, pod->set, class | K3C_PEER_CLASS, direction, proto, port);
}

static void probe_side(struct dataplane *dp, const struct k3c_addr *addr, struct k3c_endpoint_policy *policy,
		       struct dp_probe *ret)
{
	struct k3c_endpoint e;

	*ret = (struct dp_probe){ .allowed = true };
	memset(policy, 0, sizeof(*policy));
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], addr, &e) < 0)
		return;
	*policy = *endpoint_policy(dp, &e);
	ret->known = true;
	ret->is_pod = e.ifindex != 0;
	ret->identity = policy->identity;
}

int dataplane_probe(struct dataplane *dp, const struct dp_addr *from, const struct dp_addr *to, uint8_t proto,
		    uint16_t port, bool from_host, struct dp_probe *ret_from, struct dp_probe *ret_to, struct err *err)
{
	struct k3c_addr src = dp_addr_in(from), dst = dp_addr_in(to);
	struct k3c_endpoint_policy a, b;

	probe_side(dp, &src, &a, ret_from);
	probe_side(dp, &dst, &b, ret_to);
	if (ret_from->is_pod && (a.flags & K3C_EP_ISOLATED_EGRESS)) {
		ret_from->isolated = true;
		ret_from->allowed = probe_allows(dp, &a, K3C_EGRESS, &dst, b.identity, proto, port);
	}
	if (ret_to->is_pod && (b.flags & K3C_EP_ISOLATED_INGRESS)) {
		ret_to->isolated = true;
		ret_to->allowed = from_host || probe_allows(dp, &b, K3C_INGRESS, &src, a.identity, proto, port);
	}
	return 0;
}
