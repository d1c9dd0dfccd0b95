/* SPDX-License-Identifier: Apache-2.0 */
/* The host's own links and addresses: which are the node's, which links carry the host programs, what masqueraded
 * traffic leaves with. Follows rtnetlink; any message of interest leads to one full look, which is cheap and cannot
 * drift. Loop thread. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if_arp.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "bpf/include/endpoint.h"
#include "userspace/base/encode.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"

#define LINKS_MAX 256
#define LINKS_ADDRESSES_MAX 256
#define LINKS_UNREACHABLE_METRIC 0xff000000u
#define LINKS_MTU_MIN 1280

struct host_link {
	int ifindex;
	uint32_t mtu;
	char name[IFNAMSIZ];
	struct k3c_addr addr;
	bool candidate; /* up, Ethernet, not ours */
};

struct host_view {
	struct dataplane *dp;
	struct host_link links[LINKS_MAX];
	size_t n_links;
	struct k3c_addr addrs[LINKS_ADDRESSES_MAX];
	size_t n_addrs;
};

struct link_attrs {
	const char *name;
	uint32_t mtu;
};

static int view_link_attr(const struct nlattr *attr, void *arg)
{
	struct link_attrs *l = arg;

	if (mnl_attr_get_type(attr) == IFLA_IFNAME)
		l->name = mnl_attr_get_str(attr);
	if (mnl_attr_get_type(attr) == IFLA_MTU)
		l->mtu = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static bool links_is_own(const char *name)
{
	return name && strncmp(name, DP_LINK_PREFIX, strlen(DP_LINK_PREFIX)) == 0;
}

static int view_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct host_view *v = arg;
	struct link_attrs a = { 0 };
	struct host_link *l;

	mnl_attr_parse(h, sizeof(*i), view_link_attr, &a);
	if (!a.name || links_is_own(a.name) || v->n_links == LINKS_MAX)
		return 0;
	l = &v->links[v->n_links++];
	*l = (struct host_link){ .ifindex = i->ifi_index, .mtu = a.mtu };
	strncpy(l->name, a.name, sizeof(l->name) - 1);
	l->candidate = i->ifi_type == ARPHRD_ETHER && (i->ifi_flags & IFF_UP);
	return 0;
}

struct address_attrs {
	const struct nlattr *local, *address;
	const char *label;
};

static int view_address_attr(const struct nlattr *attr, void *arg)
{
	struct address_attrs *a = arg;

	switch (mnl_attr_get_type(attr)) {
	case IFA_LOCAL:
		a->local = attr;
		break;
	case IFA_ADDRESS:
		a->address = attr;
		break;
	case IFA_LABEL:
		a->label = mnl_attr_get_str(attr);
		break;
	}
	return MNL_CB_OK;
}

/* Loopback, link-local, and what is put on `lo` here for one purpose are no addresses of the node. */
static bool view_counts(struct dataplane *dp, const struct k3c_addr *a, const struct address_attrs *attrs)
{
	struct k3c_addr node = dp_addr_in(&dp->options.node_ips[DP_V4]);

	if (memcmp(a, &node, sizeof(node)) == 0)
		return true;
	if (attrs->label && strncmp(attrs->label, DP_ADDRESS_LABEL, strlen(DP_ADDRESS_LABEL)) == 0)
		return false;
	if (dp_addr_is_v4(a))
		return a->b[12] != 127;
	return !(a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80) && !(a->q[0] == 0 && a->w[2] == 0 && a->w[3] == htonl(1));
}

static int view_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	struct address_attrs attrs = { 0 };
	struct host_view *v = arg;
	const struct nlattr *attr;
	struct k3c_addr a = { 0 }, node = dp_addr_in(&v->dp->options.node_ips[DP_V4]);
	struct host_link *link = NULL;

	mnl_attr_parse(h, sizeof(*i), view_address_attr, &attrs);
	attr = attrs.local ? attrs.local : attrs.address;
	for (size_t k = 0; k < v->n_links; k++)
		if (v->links[k].ifindex == (int)i->ifa_index)
			link = &v->links[k];
	if (!attr || !link)
		return 0;
	if (i->ifa_family == AF_INET)
		a = dp_addr_v4(mnl_attr_get_u32(attr));
	else if (i->ifa_family == AF_INET6 && mnl_attr_get_payload_len(attr) == 16)
		memcpy(a.b, mnl_attr_get_payload(attr), 16);
	else
		return 0;
	if (!view_counts(v->dp, &a, &attrs))
		return 0;
	if (v->n_addrs < LINKS_ADDRESSES_MAX)
		v->addrs[v->n_addrs++] = a;
	/* The first one, but the node's own address before all others. */
	if (i->ifa_family == AF_INET && (dp_addr_is_zero(&link->addr) || memcmp(&a, &node, sizeof(a)) == 0) &&
	    i->ifa_scope == RT_SCOPE_UNIVERSE)
		link->addr = a;
	return 0;
}

static int links_view(struct dataplane *dp, struct host_view *v, struct err *err)
{
	struct nlmsghdr *h = nl_request(dp->nl, RTM_GETLINK, NLM_F_DUMP);
	int r;

	v->dp = dp;
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	r = nl_query(dp->nl, view_link, v, err);
	if (r < 0)
		return r;
	h = nl_request(dp->nl, RTM_GETADDR, NLM_F_DUMP);
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
	return nl_query(dp->nl, view_address, v, err);
}

static void links_sync_addresses(struct dataplane *dp, const struct host_view *v)
{
	int fd = dp->maps[DP_MAP_NODE];
	struct k3c_addr key, next, *gone = NULL;
	size_t n = 0, cap = 0;
	bool first = true;
	uint32_t one = 1;

	for (size_t i = 0; i < v->n_addrs; i++)
		bpf_map_update_elem(fd, &v->addrs[i], &one, BPF_ANY);
	while (bpf_map_get_next_key(fd, first ? NULL : &key, &next) == 0) {
		bool have = false;

		key = next;
		first = false;
		for (size_t i = 0; i < v->n_addrs && !have; i++)
			have = memcmp(&v->addrs[i], &key, sizeof(key)) == 0;
		if (have)
			continue;
		mem_grow(gone, cap, n + 1);
		gone[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(fd, &gone[i]);
	free(gone);
}

/* Attaches (again: replacing under the same handle) and writes the link's row. */
static int links_attach(struct dataplane *dp, const struct host_link *l, struct err *err)
{
	uint32_t ifindex = (uint32_t)l->ifindex;
	struct k3c_link row = { 0 };
	bool known = bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &ifindex, &row) == 0;
	int r;

	nl_put_clsact(dp->nl, l->ifindex, EEXIST);
	nl_put_filter(dp->nl, l->ifindex, true, dp->programs[DP_PROGRAM_HOST_IN], programs_name(DP_PROGRAM_HOST_IN));
	nl_put_filter(dp->nl, l->ifindex, false, dp->programs[DP_PROGRAM_HOST_OUT], programs_name(DP_PROGRAM_HOST_OUT));
	r = nl_commit(dp->nl, err);
	if (r < 0)
		return r == -ENODEV ? 0 : err_wrap(err, r, "link %s", l->name);
	if (!known && nl_result(dp->nl, 0) == 0)
		row.flags |= K3C_LINK_OWN_CLSACT;
	row.addr = l->addr;
	if (bpf_map_update_elem(dp->maps[DP_MAP_LINK], &ifindex, &row, BPF_ANY) < 0)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_LINK), strerror(errno));
	return 0;
}

static void links_forget_gone(struct dataplane *dp, const struct host_view *v)
{
	int fd = dp->maps[DP_MAP_LINK];
	uint32_t key, next, gone[LINKS_MAX];
	bool first = true;
	size_t n = 0;

	while (n < LINKS_MAX && bpf_map_get_next_key(fd, first ? NULL : &key, &next) == 0) {
		bool have = false;

		key = next;
		first = false;
		for (size_t i = 0; i < v->n_links && !have; i++)
			have = v->links[i].ifindex == (int)key;
		if (!have)
			gone[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(fd, &gone[i]);
}

int links_sync(struct dataplane *dp, struct err *err)
{
	_cleanup_free_ struct host_view *v = mem_new(struct host_view);
	uint32_t mtu = 0;
	int r = links_view(dp, v, err);

	if (r < 0)
		return r;
	links_sync_addresses(dp, v);
	links_forget_gone(dp, v);
	for (size_t i = 0; i < v->n_links; i++) {
		const struct host_link *l = &v->links[i];
		struct err one = ERR_INIT;

		if (!l->candidate || dp_addr_is_zero(&l->addr))
			continue;
		if (l->mtu >= LINKS_MTU_MIN && (!mtu || l->mtu < mtu))
			mtu = l->mtu;
		/* One odd link must not keep the others from working. */
		if (links_attach(dp, l, &one) < 0)
			log_warn("node ports do not work on a link link=%s error=%s", l->name, err_message(&one));
		err_finish(&one);
	}
	dp->mtu = mtu ? mtu : DP_MTU_DEFAULT;
	return 0;
}

int links_open(struct dataplane *dp, struct err *err)
{
	struct sockaddr_nl me = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
	};
	int r = nl_open(NETLINK_ROUTE, &dp->links, err);

	if (r < 0)
		return r;
	if (bind(nl_fd(dp->links), (struct sockaddr *)&me, sizeof(me)) < 0)
		return err_set(err, -errno, "subscribe to links: %s", strerror(errno));
	return links_sync(dp, err);
}

int dataplane_links_fd(struct dataplane *dp)
{
	return nl_fd(dp->links);
}

/* Pods come and go often, and their links are no news. */
static bool links_interesting(const struct nlmsghdr *h)
{
	struct link_attrs a = { 0 };

	if (h->nlmsg_type == RTM_NEWADDR || h->nlmsg_type == RTM_DELADDR)
		return true;
	if (h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK)
		return false;
	mnl_attr_parse(h, sizeof(struct ifinfomsg), view_link_attr, &a);
	return !links_is_own(a.name);
}

int dataplane_links_process(struct dataplane *dp, struct err *err)
{
	_Alignas(8) char buf[16384];
	bool dirty = false;
	ssize_t n;

	while ((n = recv(nl_fd(dp->links), buf, sizeof(buf), MSG_DONTWAIT)) != 0) {
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENOBUFS) { /* some were lost: look */
			dirty = true;
			continue;
		}
		if (n < 0)
			break;
		for (struct nlmsghdr *h = (void *)buf; !dirty && mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
			dirty = links_interesting(h);
	}
	return dirty ? links_sync(dp, err) : 0;
}

static void links_put_unreachable(struct dataplane *dp, const struct dp_net *net)
{
	struct k3c_addr a = dp_addr_in(&net->addr), mask = dp_mask(net->bits);
	struct nl_route4 route = { .type = RTN_UNREACHABLE,
				   .scope = RT_SCOPE_UNIVERSE,
				   .metric = LINKS_UNREACHABLE_METRIC };

	if (net->bits <= 96 || !dp_addr_is_v4(&a))
		return;
	route.dst = a.w[3] & mask.w[3];
	route.bits = (uint8_t)(net->bits - 96);
	nl_put_route4(dp->nl, RTM_NEWROUTE, &route, 0);
}

/* Traffic for pods and services that do not exist fails at once instead of leaving for the world. */
int links_routes(struct dataplane *dp, struct err *err)
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		links_put_unreachable(dp, &dp->options.pod_nets[f]);
		links_put_unreachable(dp, &dp->options.service_nets[f]);
	}
	return nl_commit(dp->nl, err);
}

/* Host scope: the kernel must never choose such an address as the source of anything by itself. */
void links_address_label(const char *pin_dir, char ret[static DP_ADDRESS_LABEL_SIZE])
{
	snprintf(ret, DP_ADDRESS_LABEL_SIZE, DP_ADDRESS_LABEL "%08x", fnv32a(pin_dir, strlen(pin_dir)));
}

static int links_local_address(struct dataplane *dp, uint16_t type, const struct dp_addr *addr, int ignored,
			       struct err *err)
{
	struct k3c_addr a = dp_addr_in(addr);
	struct k3c_addr node = dp_addr_in(&dp->options.node_ips[DP_V4]);
	bool is_node = memcmp(&a, &node, sizeof(a)) == 0;
	char label[DP_ADDRESS_LABEL_SIZE];
	int r;

	if (!dp_addr_is_v4(&a))
		return err_set(err, -EAFNOSUPPORT, "local addresses are IPv4");
	links_address_label(dp->pin_dir, label);
	nl_put_address4(dp->nl, type, 1, a.w[3], 32, is_node ? RT_SCOPE_UNIVERSE : RT_SCOPE_HOST, label, ignored);
	r = nl_commit(dp->nl, err);
	return r == 0 && is_node ? links_sync(dp, err) : r;
}

int dataplane_local_address_add(struct dataplane *dp, const struct dp_addr *addr, struct err *err)
{
	return links_local_address(dp, RTM_NEWADDR, addr, EEXIST, err);
}

int dataplane_local_address_delete(struct dataplane *dp, const struct dp_addr *addr, struct err *err)
{
	return links_local_address(dp, RTM_DELADDR, addr, EADDRNOTAVAIL, err);
}
