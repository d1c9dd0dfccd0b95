/* SPDX-License-Identifier: Apache-2.0 */
/* The host's own links and addresses: which are the node's, which links carry the host programs, what masqueraded
 * traffic leaves with. Follows rtnetlink; any message of interest leads to one full look, which is cheap and cannot
 * drift. Loop thread. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if_arp.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/nat.h"
#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/clsact.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/links.h"
#include "userspace/dataplane/own.h"
#include "userspace/dataplane/pressure.h"

#define LINKS_MAX 256
#define LINKS_ADDRESSES_MAX 256
#define LINKS_UNREACHABLE_METRIC 0xff000000u
#define LINKS_MTU_MIN 1280

#define LINKS_ACCEPT_RA_PATH "/proc/sys/net/ipv6/conf/%s/accept_ra"
#define LINKS_PATH_MAX 96
#define LINKS_ARPHRD_IP6GRE 823 /* linux/if_arp.h, which does not go with net/if.h */

enum link_kind {
	LINK_OTHER, /* no packets of ours */
	LINK_ETHERNET,
	LINK_L3, /* packets begin with the IP header */
};

struct host_link {
	int ifindex;
	uint32_t mtu;
	char name[IFNAMSIZ];
	struct k3c_addr addr[DP_FAMILIES];
	int rank[DP_FAMILIES]; /* of that address among the link's */
	enum link_kind kind;
	bool up, has_address; /* any, also one that is not to masquerade with */
};

struct host_view {
	struct dataplane *dp;
	struct host_link links[LINKS_MAX];
	size_t n_links;
	struct k3c_addr addrs[LINKS_ADDRESSES_MAX];
	size_t n_addrs, n_left_out;
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

/* Bridges, bonds, VLANs, macvlan and VXLAN are Ethernet; tun, WireGuard and the tunnels have no header of their own
 * (that of PPP is the driver's business). */
static enum link_kind link_kind_of(unsigned type)
{
	switch (type) {
	case ARPHRD_ETHER:
		return LINK_ETHERNET;
	case ARPHRD_NONE:
	case ARPHRD_RAWIP:
	case ARPHRD_PPP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case LINKS_ARPHRD_IP6GRE:
		return LINK_L3;
	}
	return LINK_OTHER;
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
	l->kind = link_kind_of(i->ifi_type);
	l->up = i->ifi_flags & IFF_UP;
	return 0;
}

struct address_attrs {
	const struct nlattr *local, *address;
	const char *label;
	uint32_t flags;
	uint8_t protocol;
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
	case IFA_FLAGS:
		a->flags = mnl_attr_get_u32(attr);
		break;
	case IFA_PROTO:
		a->protocol = mnl_attr_get_u8(attr);
		break;
	}
	return MNL_CB_OK;
}

bool links_is_node(const struct dataplane *dp, const struct k3c_addr *a)
{
	return memcmp(a, dp->options.node_ips[dp_addr_family(a)].b, sizeof(*a)) == 0;
}

/* Loopback, link-local, and what is put on `lo` here for one purpose are no addresses of the node; nor is one that may
 * be somebody else's. */
static bool view_counts(struct dataplane *dp, const struct k3c_addr *a, const struct address_attrs *attrs)
{
	if (attrs->flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) && !(attrs->flags & IFA_F_OPTIMISTIC))
		return false;
	if (links_is_node(dp, a))
		return true;
	if (attrs->label && strncmp(attrs->label, DP_ADDRESS_LABEL, strlen(DP_ADDRESS_LABEL)) == 0)
		return false;
	if (dp_addr_is_v4(a))
		return a->b[12] != 127;
	return attrs->protocol != DP_ROUTE_PROTOCOL && !(a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80) &&
	       !(a->q[0] == 0 && a->w[2] == 0 && a->w[3] == htonl(1));
}

/* How good an address is to masquerade with; 0: not at all. The node's own address before all others, of IPv6 one
 * that the world can answer to before one of a site, and one that stays before one that soon is another. */
static int view_rank(const struct dataplane *dp, const struct k3c_addr *a, const struct ifaddrmsg *i, uint32_t flags)
{
	int rank = 1;

	if (flags & IFA_F_DEPRECATED || i->ifa_scope != RT_SCOPE_UNIVERSE)
		return 0;
	if (links_is_node(dp, a))
		return 8;
	if (!dp_addr_is_v4(a) && (a->b[0] & 0xfe) != 0xfc)
		rank += 4;
	/* of IPv4 the same bit says "secondary" */
	return flags & IFA_F_TEMPORARY ? rank : rank + 2;
}

static struct host_link *view_link_of(struct host_view *v, int ifindex)
{
	for (size_t k = 0; k < v->n_links; k++)
		if (v->links[k].ifindex == ifindex)
			return &v->links[k];
	return NULL;
}

/* The node's own address has a place whatever else the links have. */
static void view_add(struct host_view *v, const struct k3c_addr *a)
{
	if (v->n_addrs < LINKS_ADDRESSES_MAX) {
		v->addrs[v->n_addrs++] = *a;
		return;
	}
	v->n_left_out++;
	for (size_t i = 0; i < v->n_addrs && links_is_node(v->dp, a); i++) {
		if (links_is_node(v->dp, &v->addrs[i]))
			continue;
		v->addrs[i] = *a;
		return;
	}
}

static int view_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	struct address_attrs attrs = { .flags = i->ifa_flags };
	struct host_view *v = arg;
	struct host_link *link = view_link_of(v, (int)i->ifa_index);
	const struct nlattr *attr;
	struct k3c_addr a = { 0 };
	enum dp_family f;
	int rank;

	mnl_attr_parse(h, sizeof(*i), view_address_attr, &attrs);
	attr = attrs.local ? attrs.local : attrs.address;
	if (!attr || !link || !link->up) /* an address of a link that is down is none */
		return 0;
	if (i->ifa_family == AF_INET)
		a = dp_addr_v4(mnl_attr_get_u32(attr));
	else if (i->ifa_family == AF_INET6 && mnl_attr_get_payload_len(attr) == 16)
		memcpy(a.b, mnl_attr_get_payload(attr), 16);
	else
		return 0;
	if (!view_counts(v->dp, &a, &attrs))
		return 0;
	view_add(v, &a);
	link->has_address = true;
	f = dp_addr_family(&a);
	rank = view_rank(v->dp, &a, i, attrs.flags);
	if (rank > link->rank[f]) {
		link->addr[f] = a;
		link->rank[f] = rank;
	}
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

/* True: they are others than before. */
static bool links_sync_addresses(struct dataplane *dp, const struct host_view *v)
{
	int fd = dp->maps[DP_MAP_NODE];
	struct k3c_addr key, *gone = NULL;
	size_t n = 0, cap = 0, refused = 0;
	bool changed = false;
	uint32_t one = 1;

	keys_foreach(fd, key) {
		bool have = false;

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
	/* In the room that those leave. */
	for (size_t i = 0; i < v->n_addrs; i++) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (bpf_map_update_elem(fd, &v->addrs[i], &one, BPF_NOEXIST) == 0) {
			changed = true;
		} else if (errno != EEXIST) {
			refused += pressure_write_failed(dp, DP_MAP_NODE, &err) == -ENOSPC;
			log_warn("an address of the node is not known to the dataplane error=\"%s\"",
				 err_message(&err));
		}
	}
	if (v->n_left_out)
		pressure_left_out(dp, DP_MAP_NODE, v->n_left_out);
	pressure_unwritten(dp, DP_MAP_NODE, refused + v->n_left_out);
	return changed || n;
}

/* The node's address stands in for one that the link lacks, where some link (or `lo`) has it. */
static void links_source(const struct host_view *v, const struct host_link *l, struct k3c_addr ret[static DP_FAMILIES])
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct k3c_addr node = dp_addr_in(&v->dp->options.node_ips[f]);

		ret[f] = l->addr[f];
		for (size_t i = 0; i < v->n_addrs && dp_addr_is_zero(&ret[f]); i++)
			if (memcmp(&v->addrs[i], &node, sizeof(node)) == 0)
				ret[f] = node;
	}
}

static bool links_carries(const struct host_link *l)
{
	return l->kind != LINK_OTHER && l->up && l->has_address;
}

/* What leaves goes by the new tables before what arrives does: an answer then never meets a program that cannot know
 * its question. */
static void links_replace_out(struct dataplane *dp, const struct host_view *v)
{
	for (size_t i = 0; i < v->n_links; i++) {
		const struct host_link *l = &v->links[i];
		enum dp_program out = l->kind == LINK_L3 ? DP_PROGRAM_HOST_L3_OUT : DP_PROGRAM_HOST_OUT;
		uint32_t ifindex = (uint32_t)l->ifindex;
		struct k3c_link row;

		if (links_carries(l) && bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &ifindex, &row) == 0 &&
		    (row.flags & K3C_LINK_HAS_PROGRAMS))
			nl_put_filter_classid(dp->nl, l->ifindex, false, dp->programs[out], programs_name(out),
					      clsact_classid(row.flags));
		(void)nl_commit(dp->nl, NULL); /* its own turn comes, and tells */
	}
}

/* Again: replacing under the same handle. */
static int links_attach(struct dataplane *dp, const struct host_link *l, struct k3c_link *row, struct err *err)
{
	enum dp_program in = l->kind == LINK_L3 ? DP_PROGRAM_HOST_L3_IN : DP_PROGRAM_HOST_IN;
	enum dp_program out = l->kind == LINK_L3 ? DP_PROGRAM_HOST_L3_OUT : DP_PROGRAM_HOST_OUT;
	int r = clsact_put(dp->nl, l->ifindex, false, err);
	uint32_t classid;

	row->flags |= r > 0 ? K3C_LINK_OWN_CLSACT : 0;
	classid = clsact_classid(row->flags);
	if (r >= 0) {
		nl_put_filter_classid(dp->nl, l->ifindex, true, dp->programs[in], programs_name(in), classid);
		nl_put_filter_classid(dp->nl, l->ifindex, false, dp->programs[out], programs_name(out), classid);
		r = nl_commit(dp->nl, err);
	}
	if (r < 0)
		return r == -ENODEV ? 0 : err_wrap(err, r, "link %s", l->name);
	row->flags |= K3C_LINK_HAS_PROGRAMS;
	return 0;
}

static struct str links_key(const uint32_t *ifindex)
{
	return str_make((const char *)ifindex, sizeof(*ifindex));
}

/* What was done to a link is to be undone one day, also when somebody took its row away: this process knows, and of
 * what was before it the link's filters. One that has none keeps what was done to it then, which harms nobody. */
static uint32_t links_done(struct dataplane *dp, uint32_t ifindex)
{
	const uint32_t *flags = map_get(&dp->link_flags, links_key(&ifindex));

	return flags ? *flags : clsact_flags(dp->nl, (int)ifindex);
}

static void links_remember(struct dataplane *dp, uint32_t ifindex, uint32_t flags)
{
	uint32_t *have = map_get(&dp->link_flags, links_key(&ifindex));

	if (!have) {
		have = mem_new(uint32_t);
		map_put(&dp->link_flags, links_key(&ifindex), have);
	}
	*have = flags & (K3C_LINK_OWN_CLSACT | K3C_LINK_RAISED_RA);
}

void links_undone(struct dataplane *dp, uint32_t ifindex, uint32_t flags)
{
	uint32_t *have = map_get(&dp->link_flags, links_key(&ifindex));

	if (have)
		*have &= ~flags;
}

void links_finish(struct dataplane *dp)
{
	map_foreach(e, &dp->link_flags)
		free(e->value);
	map_finish(&dp->link_flags);
}

/* One link's programs and row. */
static int links_follow(struct dataplane *dp, const struct host_view *v, const struct host_link *l, struct err *err)
{
	uint32_t ifindex = (uint32_t)l->ifindex;
	struct k3c_link row = { 0 }, before;
	int r = 0;

	if (bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &ifindex, &row) < 0)
		row = (struct k3c_link){ 0 };
	before = row;
	row.flags |= links_done(dp, ifindex);
	if (dp->options.pod_nets[DP_V6].bits && links_accept_router_advertisements(l->ifindex, true))
		row.flags |= K3C_LINK_RAISED_RA;
	links_source(v, l, row.addr);
	if (links_carries(l) && !dp->unsettled)
		r = links_attach(dp, l, &row, err);
	links_remember(dp, ifindex, row.flags);
	if (row.flags && memcmp(&row, &before, sizeof(row)) != 0 &&
	    bpf_map_update_elem(dp->maps[DP_MAP_LINK], &ifindex, &row, BPF_F_LOCK) < 0 && r == 0)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_LINK), strerror(errno));
	return r;
}

static bool view_has_link(const struct host_view *v, uint32_t ifindex)
{
	for (size_t i = 0; i < v->n_links; i++)
		if (v->links[i].ifindex == (int)ifindex)
			return true;
	return false;
}

static void links_forget_gone(struct dataplane *dp, const struct host_view *v)
{
	int fd = dp->maps[DP_MAP_LINK];
	uint32_t key, gone[LINKS_MAX];
	size_t n = 0;

	keys_foreach(fd, key) {
		if (!(n < LINKS_MAX))
			break;
		if (!view_has_link(v, key))
			gone[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(fd, &gone[i]);
	n = 0;
	map_foreach(e, &dp->link_flags) {
		if (!(n < LINKS_MAX))
			break;
		memcpy(&key, e->key, sizeof(key));
		if (!view_has_link(v, key))
			gone[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		free(map_remove(&dp->link_flags, links_key(&gone[i])));
}

/* A pod whose routes cannot be written keeps nothing else from working; drift tries again. */
static void links_pods_follow(struct dataplane *dp)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (pods_routes(dp, &err) < 0)
		log_warn("routes of a pod not written error=\"%s\"", err_message(&err));
	own_follow(dp);
}

int links_sync(struct dataplane *dp, struct err *err)
{
	_cleanup_free_ struct host_view *v = mem_new(struct host_view);
	int ethernet[LINKS_MAX];
	size_t n_ethernet = 0;
	uint32_t mtu = 0;
	bool changed;
	int r = links_view(dp, v, err);

	if (r < 0)
		return r;
	changed = links_sync_addresses(dp, v);
	links_forget_gone(dp, v);
	if (dp->maps_changed && !dp->unsettled)
		links_replace_out(dp, v);
	for (size_t i = 0; i < v->n_links; i++) {
		const struct host_link *l = &v->links[i];
		struct err one = ERR_INIT;

		if (links_carries(l) && l->mtu >= LINKS_MTU_MIN && (!mtu || l->mtu < mtu))
			mtu = l->mtu;
		/* One odd link must not keep the others from working. */
		if (links_follow(dp, v, l, &one) < 0)
			log_warn("node ports do not work on a link link=%s error=%s", l->name, err_message(&one));
		err_finish(&one);
		if (l->kind == LINK_ETHERNET && links_carries(l))
			ethernet[n_ethernet++] = l->ifindex;
	}
	xdp_sync(dp, ethernet, n_ethernet);
	dp->mtu = mtu ? mtu : DP_MTU_DEFAULT;
	if (!changed)
		return 0;
	links_pods_follow(dp);
	return 0;
}

int links_open(struct dataplane *dp, struct err *err)
{
	struct sockaddr_nl me = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
			     RTMGRP_IPV6_ROUTE | RTMGRP_TC,
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

/* Pods come and go often, and their links and routes are no news. A default route is: the node may go by another
 * address. */
static bool links_interesting(const struct nlmsghdr *h)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(h);
	struct link_attrs a = { 0 };

	if (h->nlmsg_type == RTM_NEWROUTE || h->nlmsg_type == RTM_DELROUTE)
		return mnl_nlmsg_get_payload_len(h) >= sizeof(*route) && !route->rtm_dst_len &&
		       route->rtm_type == RTN_UNICAST;
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
	bool dirty = false, suspect = false;
	ssize_t n;
	int r;

	while ((n = recv(nl_fd(dp->links), buf, sizeof(buf), MSG_DONTWAIT)) != 0) {
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENOBUFS) { /* some were lost: look */
			dirty = suspect = true;
			continue;
		}
		if (n < 0)
			break;
		for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			dirty = dirty || links_interesting(h);
			suspect = suspect || drift_is_suspect(dp, h);
		}
	}
	r = dirty ? links_sync(dp, err) : 0;
	return r == 0 && suspect ? drift_links(dp, err) : r;
}

static void links_put_unreachable(struct dataplane *dp, const struct dp_net *net)
{
	struct k3c_addr mask = dp_mask(net->bits);
	struct nl_route route = { .family = AF_INET6,
				  .bits = net->bits,
				  .type = RTN_UNREACHABLE,
				  .scope = RT_SCOPE_UNIVERSE,
				  .dst = dp_addr_in(&net->addr),
				  .metric = LINKS_UNREACHABLE_METRIC };

	if (!net->bits)
		return;
	if (dp_addr_is_v4(&route.dst)) {
		route.family = AF_INET;
		route.bits = (uint8_t)(net->bits - 96);
	}
	for (int i = 0; i < 16; i++)
		route.dst.b[i] &= mask.b[i];
	if (route.family == AF_INET && net->bits <= 96)
		return;
	nl_put_route(dp->nl, RTM_NEWROUTE, &route, 0);
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

/* Forwarding hosts listen to routers only where accept_ra is 2. */
bool links_accept_router_advertisements(int ifindex, bool forwarding)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char name[IFNAMSIZ], path[LINKS_PATH_MAX];

	if (!if_indextoname((unsigned)ifindex, name))
		return false;
	snprintf(path, sizeof(path), LINKS_ACCEPT_RA_PATH, name);
	if (fs_read(path, 16, &text, NULL) < 0 || !buf_len(&text) || text.data[text.start] != (forwarding ? '1' : '2'))
		return false;
	return fs_write(path, forwarding ? "2" : "1", NULL) == 0;
}

int links_keep_router_advertisements(struct dataplane *dp, struct err *err)
{
	_cleanup_free_ struct host_view *v = mem_new(struct host_view);
	int r = links_view(dp, v, err);

	for (size_t i = 0; r == 0 && i < v->n_links; i++) {
		uint32_t ifindex = (uint32_t)v->links[i].ifindex;
		struct k3c_link row;

		if (!links_accept_router_advertisements(v->links[i].ifindex, true))
			continue;
		if (bpf_map_lookup_elem(dp->maps[DP_MAP_LINK], &ifindex, &row) < 0)
			row = (struct k3c_link){ 0 };
		row.flags |= K3C_LINK_RAISED_RA;
		if (bpf_map_update_elem(dp->maps[DP_MAP_LINK], &ifindex, &row, BPF_F_LOCK) < 0)
			r = err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_LINK), strerror(errno));
	}
	return r;
}

void links_address_label(const char *pin_dir, char ret[static DP_ADDRESS_LABEL_SIZE])
{
	snprintf(ret, DP_ADDRESS_LABEL_SIZE, DP_ADDRESS_LABEL "%08x", fnv32a(pin_dir, strlen(pin_dir)));
}

uint32_t links_address_metric(const char *pin_dir)
{
	return fnv32a(pin_dir, strlen(pin_dir)) | 1; /* 0 would be none */
}

/* By label; an IPv6 address has none, but says who made it, and its metric stands for the node. */
bool links_own_address(const struct nlmsghdr *h, const char *pin_dir, struct nl_address *ret)
{
	const struct ifaddrmsg *a = mnl_nlmsg_get_payload(h);
	struct nl_address found = { .ifindex = 1, .bits = a->ifa_prefixlen, .scope = a->ifa_scope };
	const char *label = NULL;
	const struct nlattr *attr;
	char own[DP_ADDRESS_LABEL_SIZE];

	mnl_attr_for_each(attr, h, sizeof(*a)) {
		if (mnl_attr_get_type(attr) == IFA_LABEL)
			label = mnl_attr_get_str(attr);
		if (mnl_attr_get_type(attr) == IFA_LOCAL ||
		    (a->ifa_family == AF_INET6 && mnl_attr_get_type(attr) == IFA_ADDRESS))
			found.addr = nl_addr_of(a->ifa_family, attr);
		if (mnl_attr_get_type(attr) == IFA_PROTO)
			found.protocol = mnl_attr_get_u8(attr);
		if (mnl_attr_get_type(attr) == IFA_RT_PRIORITY)
			found.metric = mnl_attr_get_u32(attr);
	}
	links_address_label(pin_dir, own);
	if (a->ifa_family == AF_INET ? !label || strcmp(label, own) != 0
				     : a->ifa_index != 1 || found.protocol != DP_ROUTE_PROTOCOL ||
					       found.metric != links_address_metric(pin_dir))
		return false;
	*ret = found;
	return true;
}

int dataplane_set_node_ips(struct dataplane *dp, const struct dp_addr ips[static DP_FAMILIES], struct err *err)
{
	int r;

	memcpy(dp->options.node_ips, ips, sizeof(dp->options.node_ips));
	r = links_sync(dp, err);
	if (r == 0)
		links_pods_follow(dp);
	return r;
}
