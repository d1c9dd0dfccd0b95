/* SPDX-License-Identifier: Apache-2.0 */
/* The way of the host's own packets to Services that no socket program is asked about (bpf/include/own.h): a pair of
 * links, routes into it and what leads there from `lo`. Stands while some frontend is of SCTP; who has none has
 * nothing of it. Everything is written again wherever it may have changed, and then is as it was. Loop thread. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/own.h"
#include "bpf/include/service.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/clsact.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/links.h"
#include "userspace/dataplane/own.h"
#include "userspace/dataplane/veth.h"

#define OWN_LO 1
#define OWN_PATH_MAX 96
#define OWN_ALIAS_PREFIX "k3c-bpf own "
#define OWN_ALIAS_MAX 256
#define OWN_MTU 65535 /* as much as comes from `lo`: the stack tells the sender what the next link takes */

/* A link without any address would take IPv4 packets of no stranger, however lenient it is. Of this host alone. */
#define OWN_ADDRESS 0xa9fe6b01u /* 169.254.107.1 */

static const uint8_t own_mac[6] = { 0x02, 0x6b, 0x33, 0x63, 0x00, 0x02 };

struct own_state {
	struct map frontends; /* struct k3c_service_key -> itself; of SCTP */
	int ifindex, peer;    /* 0: there is no pair */
	bool lo;              /* `lo` has its program */
	bool swept;           /* what an earlier process left is gone */
	bool failing;         /* something is not as it has to be: drift tries again */
};

static void own_names(const char *pin_dir, char ret_in[static IFNAMSIZ], char ret_out[static IFNAMSIZ])
{
	uint32_t hash = fnv32a(pin_dir, strlen(pin_dir));

	snprintf(ret_in, IFNAMSIZ, DP_LINK_PREFIX "own%08x", hash);
	snprintf(ret_out, IFNAMSIZ, DP_LINK_PREFIX "ownb%08x", hash);
}

static struct str own_key(const struct k3c_service_key *key)
{
	return str_make((const char *)key, sizeof(*key));
}

/* ---- which frontends ---- */

static bool own_is_cluster(const struct dataplane *dp, const struct k3c_service_key *key)
{
	const struct dp_net *net = &dp->options.service_nets[dp_addr_family(&key->addr)];

	return key->scope == K3C_SCOPE_ADDR && net->bits && dp_addr_in_net(&key->addr, &net->addr, net->bits);
}

static bool own_wants_lo(const struct dataplane *dp)
{
	map_foreach(e, &dp->own->frontends)
		if (!own_is_cluster(dp, (const void *)e->key))
			return true;
	return false;
}

/* Another port of the same address may be one, too. */
static bool own_has_address(const struct dataplane *dp, const struct k3c_addr *addr)
{
	if (!dp->own)
		return false;
	map_foreach(e, &dp->own->frontends) {
		const struct k3c_service_key *key = (const void *)e->key;

		if (own_is_cluster(dp, key) && memcmp(&key->addr, addr, sizeof(*addr)) == 0)
			return true;
	}
	return false;
}

static bool own_hidden(const struct dataplane *dp, enum dp_family f, struct k3c_addr *ret)
{
	const struct dp_net *net = &dp->options.service_nets[f];
	struct k3c_addr mask = dp_mask(net->bits);

	*ret = dp_addr_in(&net->addr);
	for (int i = 0; i < 16; i++)
		ret->b[i] &= mask.b[i];
	return net->bits;
}

bool own_has_route(const struct dataplane *dp, const struct k3c_addr *addr)
{
	struct k3c_addr hidden;

	if (!dp->own || !dp->own->ifindex)
		return false;
	for (int f = 0; f < DP_FAMILIES; f++)
		if (own_hidden(dp, (enum dp_family)f, &hidden) && memcmp(addr, &hidden, sizeof(hidden)) == 0)
			return true;
	return own_has_address(dp, addr);
}

/* ---- routes ---- */

/* Of large pieces the stack would have to tell each association anew. */
static void own_route(struct dataplane *dp, const struct k3c_addr *addr, struct nl_route *ret)
{
	enum dp_family f = dp_addr_family(addr);
	struct k3c_addr node = dp_addr_in(&dp->options.node_ips[f]);
	uint32_t value;

	*ret = (struct nl_route){ .family = f == DP_V4 ? AF_INET : AF_INET6,
				  .dst = *addr,
				  .bits = f == DP_V4 ? 32 : 128,
				  .type = RTN_UNICAST,
				  .scope = RT_SCOPE_LINK,
				  .ifindex = dp->own->ifindex,
				  .mtu = dp->mtu };
	if (!dp_addr_is_zero(&node) && bpf_map_lookup_elem(dp->maps[DP_MAP_NODE], &node, &value) == 0)
		ret->source = node;
}

static int own_put_route(struct dataplane *dp, uint16_t type, const struct k3c_addr *addr, struct err *err)
{
	struct nl_route route;

	own_route(dp, addr, &route);
	if (type == RTM_DELROUTE) { /* whatever it was made with */
		route.source = (struct k3c_addr){ 0 };
		route.mtu = 0;
	}
	nl_put_route(dp->nl, type, &route, type == RTM_DELROUTE ? ESRCH : 0);
	return nl_commit(dp->nl, err);
}

static int own_routes(struct dataplane *dp, struct err *err)
{
	int r = 0;

	for (int f = 0; f < DP_FAMILIES && r == 0; f++) {
		struct k3c_addr hidden;

		if (own_hidden(dp, (enum dp_family)f, &hidden))
			r = own_put_route(dp, RTM_NEWROUTE, &hidden, err);
	}
	map_foreach(e, &dp->own->frontends)
		if (r == 0 && own_is_cluster(dp, (const void *)e->key))
			r = own_put_route(dp, RTM_NEWROUTE,
					  &((const struct k3c_service_key *)(const void *)e->key)->addr, err);
	return r;
}

struct own_route_look {
	struct k3c_addr dst;
	uint8_t family;
	int ifindex;
};

static int own_route_attr(const struct nlattr *attr, void *arg)
{
	struct own_route_look *l = arg;

	if (mnl_attr_get_type(attr) == RTA_DST)
		l->dst = nl_addr_of(l->family, attr);
	if (mnl_attr_get_type(attr) == RTA_OIF)
		l->ifindex = (int)mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

struct own_sweep {
	struct dataplane *dp;
	struct map unwanted; /* struct k3c_addr */
};

static int own_route_seen(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	struct own_route_look l = { .family = m->rtm_family };
	struct own_sweep *s = arg;

	if (m->rtm_protocol != DP_ROUTE_PROTOCOL || m->rtm_type != RTN_UNICAST)
		return 0;
	mnl_attr_parse(h, sizeof(*m), own_route_attr, &l);
	if (l.ifindex == s->dp->own->ifindex && !own_has_route(s->dp, &l.dst))
		map_put(&s->unwanted, str_make((const char *)&l.dst, sizeof(l.dst)), s);
	return 0;
}

/* Routes of frontends that went while nobody ran, or that could not be deleted. */
static int own_sweep_routes(struct dataplane *dp, struct err *err)
{
	struct own_sweep s = { .dp = dp };
	int r = 0;

	for (int f = 0; f < DP_FAMILIES && r == 0; f++) {
		struct nlmsghdr *h = nl_request(dp->nl, RTM_GETROUTE, NLM_F_DUMP);
		struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

		m->rtm_family = f == DP_V4 ? AF_INET : AF_INET6;
		r = nl_query(dp->nl, own_route_seen, &s, err);
	}
	map_foreach(e, &s.unwanted)
		if (r == 0)
			r = own_put_route(dp, RTM_DELROUTE, (const struct k3c_addr *)(const void *)e->key, err);
	map_finish(&s.unwanted);
	return r;
}

void own_each_route(const struct dataplane *dp, own_route_fn *fn, void *arg)
{
	if (!dp->own || !dp->own->ifindex)
		return;
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct k3c_addr hidden;

		if (own_hidden(dp, (enum dp_family)f, &hidden))
			fn(arg, &hidden, dp->own->ifindex);
	}
	map_foreach(e, &dp->own->frontends)
		if (own_is_cluster(dp, (const void *)e->key))
			fn(arg, &((const struct k3c_service_key *)(const void *)e->key)->addr, dp->own->ifindex);
}

/* ---- the pair ---- */

/* What crosses has an address of the host as its source, or one that is behind the other end. */
static int own_sysctl(const char *name, const char *key, const char *value, struct err *err)
{
	char path[OWN_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/%s", name, key);
	return fs_write(path, value, err);
}

static void own_put_up(struct dataplane *dp, int ifindex)
{
	struct nlmsghdr *h = nl_begin(dp->nl, RTM_NEWLINK, 0, "link without neighbours", 0);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));
	char alias[OWN_ALIAS_MAX];

	i->ifi_index = ifindex;
	i->ifi_flags = i->ifi_change = IFF_NOARP;
	snprintf(alias, sizeof(alias), OWN_ALIAS_PREFIX "%s", dp->pin_dir);
	nl_put_link_up(dp->nl, ifindex, alias, true);
}

static int own_pair(struct dataplane *dp, struct err *err)
{
	struct nl_address address = { .addr = dp_addr_v4(htonl(OWN_ADDRESS)), .bits = 32, .scope = RT_SCOPE_HOST };
	char in[IFNAMSIZ], out[IFNAMSIZ];
	struct veth_look here, there;
	int r;

	own_names(dp->pin_dir, in, out);
	here = veth_look(dp->nl, in);
	there = veth_look(dp->nl, out);
	if (here.ifindex && (!there.ifindex || here.peer != there.ifindex)) {
		nl_put_link_delete(dp->nl, here.ifindex);
		(void)nl_commit(dp->nl, NULL);
		here.ifindex = 0;
	}
	if (!here.ifindex) {
		veth_put(dp->nl, in, out, own_mac, -1, OWN_MTU);
		r = nl_commit(dp->nl, err);
		if (r < 0)
			return r;
		here = veth_look(dp->nl, in);
		there = veth_look(dp->nl, out);
	}
	if (!here.ifindex || !there.ifindex)
		return err_set(err, -ENODEV, "the pair %s vanished", in);
	r = own_sysctl(out, "rp_filter", "2", err);
	if (r == 0)
		r = own_sysctl(out, "accept_local", "1", err);
	if (r < 0)
		return r;
	r = clsact_put(dp->nl, here.ifindex, true, err);
	if (r >= 0)
		r = clsact_put(dp->nl, there.ifindex, true, err);
	if (r < 0)
		return r;
	nl_put_filter(dp->nl, here.ifindex, false, dp->programs[DP_PROGRAM_OWN_OUT], programs_name(DP_PROGRAM_OWN_OUT));
	nl_put_filter(dp->nl, there.ifindex, true, dp->programs[DP_PROGRAM_OWN_IN], programs_name(DP_PROGRAM_OWN_IN));
	address.ifindex = there.ifindex;
	nl_put_address(dp->nl, RTM_NEWADDR, &address, 0);
	own_put_up(dp, there.ifindex);
	own_put_up(dp, here.ifindex);
	r = nl_commit(dp->nl, err);
	if (r < 0)
		return r;
	veth_await_carrier(dp->nl, in);
	dp->own->ifindex = here.ifindex;
	dp->own->peer = there.ifindex;
	return 0;
}

/* 1: it was another. */
static int own_row(struct dataplane *dp, struct err *err)
{
	struct k3c_own row = { .ifindex = (uint32_t)dp->own->ifindex, .lo = dp->own->lo }, before;
	uint32_t zero = 0, value;

	memcpy(row.mac, own_mac, sizeof(row.mac));
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct k3c_addr node = dp_addr_in(&dp->options.node_ips[f]);

		if (!dp_addr_is_zero(&node) && bpf_map_lookup_elem(dp->maps[DP_MAP_NODE], &node, &value) == 0)
			row.addr[f] = node;
	}
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_OWN], &zero, &before) == 0 && memcmp(&row, &before, sizeof(row)) == 0)
		return 0;
	if (bpf_map_update_elem(dp->maps[DP_MAP_OWN], &zero, &row, BPF_ANY) < 0)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_OWN), strerror(errno));
	return 1;
}

int own_repair(struct dataplane *dp, uint32_t *found, struct err *err)
{
	int r = dp->own && !dp->unsettled && !dp->own->failing ? own_row(dp, err) : 0;

	*found += r > 0;
	return r < 0 ? r : 0;
}

/* ---- lo ---- */

static int own_lo_add(struct dataplane *dp, struct err *err)
{
	struct k3c_link row = { 0 }, before;
	uint32_t lo = OWN_LO;
	int r = clsact_put(dp->nl, OWN_LO, false, err);

	if (r < 0)
		return r;
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &lo, &row) < 0)
		row = (struct k3c_link){ 0 };
	before = row;
	row.flags |= (r ? K3C_LINK_OWN_CLSACT : 0) | clsact_flags(dp->nl, OWN_LO);
	nl_put_filter_classid(dp->nl, OWN_LO, false, dp->programs[DP_PROGRAM_OWN_LO], programs_name(DP_PROGRAM_OWN_LO),
			      clsact_classid(row.flags));
	r = nl_commit(dp->nl, err);
	if (r < 0)
		return r;
	dp->own->lo = true;
	if (row.flags != before.flags && bpf_map_update_elem(dp->maps[DP_MAP_LINK], &lo, &row, BPF_F_LOCK) < 0)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_LINK), strerror(errno));
	return 0;
}

/* Where no clsact is, deleting a filter is "invalid". */
static void own_lo_remove(struct nl *nl, int links_map)
{
	struct k3c_link row = { 0 };
	uint32_t lo = OWN_LO, flags = clsact_flags(nl, OWN_LO);

	nl_put_filter_delete(nl, OWN_LO, false);
	(void)nl_commit(nl, NULL);
	if (links_map >= 0 && bpf_map_lookup_elem(links_map, &lo, &row) < 0)
		row = (struct k3c_link){ 0 };
	if (!((row.flags | flags) & K3C_LINK_OWN_CLSACT))
		return;
	clsact_delete_unused(nl, OWN_LO);
	row.flags &= ~(uint32_t)K3C_LINK_OWN_CLSACT;
	if (links_map >= 0)
		(void)bpf_map_update_elem(links_map, &lo, &row, BPF_F_LOCK);
}

/* ---- all of it ---- */

static void own_pair_remove(struct nl *nl, const char *pin_dir)
{
	char in[IFNAMSIZ], out[IFNAMSIZ];
	struct veth_look here;

	own_names(pin_dir, in, out);
	here = veth_look(nl, in);
	if (!here.ifindex)
		return;
	nl_put_link_delete(nl, here.ifindex);
	(void)nl_commit(nl, NULL);
}

/* The pair may be gone, and `lo` have its program still. */
void own_purge(struct nl *nl, const char *pin_dir, int links_map)
{
	own_lo_remove(nl, links_map);
	own_pair_remove(nl, pin_dir);
}

static void own_lo_forget(struct dataplane *dp)
{
	if (dp->own->lo || !dp->own->swept) {
		own_lo_remove(dp->nl, dp->maps[DP_MAP_LINK]);
		links_undone(dp, OWN_LO, K3C_LINK_OWN_CLSACT);
	}
	dp->own->lo = false;
}

static int own_remove(struct dataplane *dp, struct err *err)
{
	int r;

	own_lo_forget(dp);
	own_pair_remove(dp->nl, dp->pin_dir);
	dp->own->ifindex = dp->own->peer = 0;
	r = own_row(dp, err);
	return r < 0 ? r : 0;
}

static int own_build(struct dataplane *dp, struct err *err)
{
	int r = own_pair(dp, err);

	if (r == 0)
		r = own_row(dp, err);
	if (r >= 0)
		r = own_routes(dp, err);
	if (r == 0 && !dp->own->swept)
		r = own_sweep_routes(dp, err);
	if (r == 0 && own_wants_lo(dp))
		r = own_lo_add(dp, err);
	else if (r == 0)
		own_lo_forget(dp);
	if (r == 0)
		r = own_row(dp, err);
	return r < 0 ? r : 0;
}

/* Said once, until it works again. */
static void own_came_to(struct dataplane *dp, int r, const struct err *err)
{
	if (r < 0 && !dp->own->failing)
		log_warn("the host's own SCTP does not reach all Services error=\"%s\"", err_message(err));
	if (r == 0 && dp->own->failing)
		log_info("the host's own SCTP reaches Services again");
	dp->own->failing = r < 0;
	dp->own->swept = r == 0;
}

void own_follow(struct dataplane *dp)
{
	_cleanup_err_ struct err failed = ERR_INIT;
	int r;

	if (!dp->own || dp->unsettled)
		return;
	r = dp->own->frontends.n ? own_build(dp, &failed) : own_remove(dp, &failed);
	own_came_to(dp, r, &failed);
}

/* One route. What failed before is not done by it. */
static void own_follow_route(struct dataplane *dp, uint16_t type, const struct k3c_addr *addr)
{
	_cleanup_err_ struct err failed = ERR_INIT;

	if (own_put_route(dp, type, addr, &failed) < 0)
		own_came_to(dp, -EIO, &failed);
}

static void own_remember(struct dataplane *dp, const struct k3c_service_key *key)
{
	if (!map_has(&dp->own->frontends, own_key(key)))
		map_put(&dp->own->frontends, own_key(key), dp->own);
}

void own_service_set(struct dataplane *dp, const struct k3c_service_key *key)
{
	bool routed;

	if (key->proto != IPPROTO_SCTP || map_has(&dp->own->frontends, own_key(key)))
		return;
	routed = own_has_address(dp, &key->addr);
	own_remember(dp, key);
	if (!dp->own->ifindex || (!own_is_cluster(dp, key) && !dp->own->lo))
		own_follow(dp);
	else if (own_is_cluster(dp, key) && !routed)
		own_follow_route(dp, RTM_NEWROUTE, &key->addr);
}

void own_service_delete(struct dataplane *dp, const struct k3c_service_key *key)
{
	if (key->proto != IPPROTO_SCTP || !map_remove(&dp->own->frontends, own_key(key)))
		return;
	if (!dp->own->frontends.n || dp->own->lo != own_wants_lo(dp))
		own_follow(dp);
	else if (own_is_cluster(dp, key) && dp->own->ifindex && !own_has_address(dp, &key->addr))
		own_follow_route(dp, RTM_DELROUTE, &key->addr);
}

void own_open(struct dataplane *dp)
{
	struct k3c_service_key key;

	dp->own = mem_new(struct own_state);
	keys_foreach(dp->maps[DP_MAP_SERVICE], key)
		if (key.proto == IPPROTO_SCTP)
			own_remember(dp, &key);
	own_follow(dp);
}

void own_finish(struct dataplane *dp)
{
	if (!dp->own)
		return;
	map_finish(&dp->own->frontends);
	free(dp->own);
	dp->own = NULL;
}

int own_ifindex(const struct dataplane *dp)
{
	return dp->own ? dp->own->ifindex : 0;
}

int own_peer(const struct dataplane *dp)
{
	return dp->own ? dp->own->peer : 0;
}

bool own_has_lo(const struct dataplane *dp)
{
	return dp->own && dp->own->lo;
}

/* Whether the pair is not there though it should be, or anything failed that nobody else sees. */
bool own_is_missing(struct dataplane *dp)
{
	char in[IFNAMSIZ], out[IFNAMSIZ];

	if (!dp->own)
		return false;
	if (dp->own->failing)
		return !dp->unsettled;
	if (!dp->own->frontends.n)
		return false;
	if (!dp->own->ifindex)
		return !dp->unsettled;
	own_names(dp->pin_dir, in, out);
	return veth_look(dp->nl, in).ifindex != dp->own->ifindex;
}

bool own_is_attached(struct dataplane *dp, bool lo)
{
	struct k3c_own row;
	uint32_t zero = 0;

	return bpf_map_lookup_elem(dp->maps[DP_MAP_OWN], &zero, &row) == 0 && (lo ? row.lo : row.ifindex);
}
