/* SPDX-License-Identifier: Apache-2.0 */
/* Removing everything that was ever made here, from what the kernel shows: links by name and alias, filters by their
 * handle, routes by protocol, addresses by label, pins by place. Needs no server and no intact state. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/include/endpoint.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/clsact.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/links.h"
#include "userspace/dataplane/own.h"

#define PURGE_IP_FORWARD "/proc/sys/net/ipv4/ip_forward"
#define PURGE_IP6_FORWARD "/proc/sys/net/ipv6/conf/all/forwarding"

struct purge {
	const char *pin_dir;
	struct nl *nl;
	int *pods;
	struct purge_other {
		int ifindex;
		uint32_t done; /* enum k3c_link_flags */
	} * others;
	size_t n_pods, cap_pods, n_others, cap_others;
	struct nl_route *routes;
	size_t n_routes, cap_routes;
	struct nl_address *addresses;
	size_t n_addresses, cap_addresses;
	bool neighbour; /* another node of this host has pods: what both share stays */
};

/* The last word of the alias is the pin folder of the node that made the link. */
static bool purge_is_own(const struct purge *p, const char *name, const char *alias)
{
	const char *owner;

	if (!name || !alias || strncmp(name, DP_LINK_PREFIX, strlen(DP_LINK_PREFIX)) != 0 ||
	    strncmp(alias, DP_ALIAS_PREFIX, strlen(DP_ALIAS_PREFIX)) != 0)
		return false;
	owner = strrchr(alias, ' ');
	return strcmp(owner + 1, p->pin_dir) == 0;
}

static int purge_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	const char *name = NULL, *alias = NULL;
	const struct nlattr *attr;
	struct purge *p = arg;

	mnl_attr_for_each(attr, h, sizeof(*i)) {
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			name = mnl_attr_get_str(attr);
		if (mnl_attr_get_type(attr) == IFLA_IFALIAS)
			alias = mnl_attr_get_str(attr);
	}
	if (purge_is_own(p, name, alias)) {
		mem_grow(p->pods, p->cap_pods, p->n_pods + 1);
		p->pods[p->n_pods++] = i->ifi_index;
	} else if (name && alias && strncmp(name, DP_LINK_PREFIX, strlen(DP_LINK_PREFIX)) == 0 &&
		   strncmp(alias, DP_ALIAS_PREFIX, strlen(DP_ALIAS_PREFIX)) == 0) {
		p->neighbour = true;
	} else if (!(i->ifi_flags & IFF_LOOPBACK) &&
		   !(name && strncmp(name, DP_LINK_PREFIX, strlen(DP_LINK_PREFIX)) == 0)) {
		mem_grow(p->others, p->cap_others, p->n_others + 1);
		p->others[p->n_others++] = (struct purge_other){ .ifindex = i->ifi_index };
	}
	return 0;
}

/* A route to a pod goes with our link to it; only those that name no link are left to us. */
static bool purge_is_own_route(const struct purge *p, const struct nl_route *r)
{
	bool own = r->ifindex == 0;

	for (size_t i = 0; i < p->n_pods && !own; i++)
		own = p->pods[i] == r->ifindex;
	return own;
}

static int purge_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *t = mnl_nlmsg_get_payload(h);
	struct nl_route r = {
		.family = t->rtm_family, .bits = t->rtm_dst_len, .type = t->rtm_type, .scope = t->rtm_scope
	};
	const struct nlattr *attr;
	struct purge *p = arg;

	if ((t->rtm_family != AF_INET && t->rtm_family != AF_INET6) || t->rtm_protocol != DP_ROUTE_PROTOCOL)
		return 0;
	mnl_attr_for_each(attr, h, sizeof(*t)) {
		if (mnl_attr_get_type(attr) == RTA_DST)
			r.dst = nl_addr_of(t->rtm_family, attr);
		if (mnl_attr_get_type(attr) == RTA_OIF)
			r.ifindex = (int)mnl_attr_get_u32(attr);
		if (mnl_attr_get_type(attr) == RTA_PRIORITY)
			r.metric = mnl_attr_get_u32(attr);
	}
	if (r.type == RTN_UNREACHABLE) /* IPv6 says `lo` */
		r.ifindex = 0;
	if (!purge_is_own_route(p, &r))
		return 0;
	mem_grow(p->routes, p->cap_routes, p->n_routes + 1);
	p->routes[p->n_routes++] = r;
	return 0;
}

static int purge_address(const struct nlmsghdr *h, void *arg)
{
	struct nl_address found;
	struct purge *p = arg;

	if (!links_own_address(h, p->pin_dir, &found))
		return 0;
	mem_grow(p->addresses, p->cap_addresses, p->n_addresses + 1);
	p->addresses[p->n_addresses++] = found;
	return 0;
}

static int purge_routes(struct purge *p, uint8_t family, struct err *err)
{
	struct nlmsghdr *h = nl_request(p->nl, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->rtm_family = family;
	return nl_query(p->nl, purge_route, p, err);
}

/* Before the filters go, which know it too. */
static void purge_look_done(struct purge *p, int links_map)
{
	for (size_t i = 0; i < p->n_others; i++) {
		struct purge_other *o = &p->others[i];
		uint32_t ifindex = (uint32_t)o->ifindex;
		struct k3c_link row;

		o->done = clsact_flags(p->nl, o->ifindex);
		if (links_map >= 0 && bpf_map_lookup_elem(links_map, &ifindex, &row) == 0)
			o->done |= row.flags;
	}
}

static int purge_look(struct purge *p, struct err *err)
{
	struct nlmsghdr *h = nl_request(p->nl, RTM_GETLINK, NLM_F_DUMP);
	int r;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	r = nl_query(p->nl, purge_link, p, err);
	if (r < 0)
		return r;
	r = purge_routes(p, AF_INET, err);
	if (r == 0)
		r = purge_routes(p, AF_INET6, err);
	if (r < 0)
		return r;
	h = nl_request(p->nl, RTM_GETADDR, NLM_F_DUMP);
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
	return nl_query(p->nl, purge_address, p, err);
}

static void purge_keep_first(int r, int *first)
{
	if (r < 0 && *first == 0)
		*first = r;
}

/* Each by itself: one that resists must not keep the others. */
static int purge_kernel(struct purge *p, struct err *err)
{
	int first = 0;

	for (size_t i = 0; i < p->n_pods; i++) {
		nl_put_link_delete(p->nl, p->pods[i]);
		purge_keep_first(nl_commit(p->nl, err), &first);
	}
	for (size_t i = 0; i < p->n_others; i++) {
		const struct purge_other *o = &p->others[i];

		/* Where no clsact is, deleting a filter is "invalid". */
		nl_put_filter_delete(p->nl, o->ifindex, true);
		(void)nl_commit(p->nl, NULL);
		nl_put_filter_delete(p->nl, o->ifindex, false);
		(void)nl_commit(p->nl, NULL);
		if (o->done & K3C_LINK_OWN_CLSACT)
			clsact_delete_unused(p->nl, o->ifindex);
	}
	for (size_t i = 0; i < p->n_routes; i++) {
		nl_put_route(p->nl, RTM_DELROUTE, &p->routes[i], ESRCH);
		purge_keep_first(nl_commit(p->nl, err), &first);
	}
	for (size_t i = 0; i < p->n_addresses; i++) {
		nl_put_address(p->nl, RTM_DELADDR, &p->addresses[i], EADDRNOTAVAIL);
		purge_keep_first(nl_commit(p->nl, err), &first);
	}
	return first;
}

static int purge_pin(const char *pin_dir, enum dp_map m)
{
	char path[DP_PATH_MAX];

	return maps_path(pin_dir, m, path, sizeof(path)) < 0 ? -1 : bpf_obj_get(path);
}

static void purge_forwarding(const char *pin_dir)
{
	_cleanup_close_ int meta = purge_pin(pin_dir, DP_MAP_META);
	struct k3c_meta row;
	uint32_t zero = 0;

	if (meta < 0 || bpf_map_lookup_elem(meta, &zero, &row) < 0 || !row.next_set)
		return;
	if (row.saved_ip_forward == 0)
		(void)fs_write(PURGE_IP_FORWARD, "0", NULL);
	if (row.raised_ip6_forward == 1)
		(void)fs_write(PURGE_IP6_FORWARD, "0", NULL);
}

/* When this host forwards no more: else those links would lose their routes by it. */
static void purge_router_advertisements(const struct purge *p)
{
	for (size_t i = 0; i < p->n_others; i++)
		if (p->others[i].done & K3C_LINK_RAISED_RA)
			links_accept_router_advertisements(p->others[i].ifindex, false);
}

int dataplane_purge(const char *pin_dir, struct err *err)
{
	_cleanup_close_ int links_map = purge_pin(pin_dir, DP_MAP_LINK);
	struct purge p = { .pin_dir = pin_dir };
	int r = nl_open(NETLINK_ROUTE, &p.nl, err);

	if (r < 0)
		return r;
	r = purge_look(&p, err);
	purge_look_done(&p, links_map);
	if (r == 0)
		r = purge_kernel(&p, err);
	own_purge(p.nl, pin_dir, links_map);
	programs_detach_cgroup(pin_dir);
	xdp_purge(pin_dir);
	if (!p.neighbour) {
		purge_forwarding(pin_dir);
		purge_router_advertisements(&p);
	}
	if (r == 0)
		r = fs_remove_tree(pin_dir, err);
	nl_close(p.nl);
	free(p.pods);
	free(p.others);
	free(p.routes);
	free(p.addresses);
	return r < 0 ? err_wrap(err, r, "purge") : 0;
}
