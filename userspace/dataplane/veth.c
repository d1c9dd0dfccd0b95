/* SPDX-License-Identifier: Apache-2.0 */
/* The veth pair of a pod, by netlink. Loop thread. */
#include "userspace/dataplane/veth.h"

#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <time.h>

#define VETH_CARRIER_PAUSE_NS 100000
#define VETH_CARRIER_TRIES 1000
#define VETH_OPER_UP 6 /* RFC 2863; linux/if.h does not go with net/if.h */

const uint8_t veth_host_mac[6] = { 0x02, 0x6b, 0x33, 0x63, 0x00, 0x01 };

static int veth_attr(const struct nlattr *attr, void *arg)
{
	struct veth_look *l = arg;

	if (mnl_attr_get_type(attr) == IFLA_LINK)
		l->peer = (int)mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == IFLA_OPERSTATE)
		l->operstate = mnl_attr_get_u8(attr);
	return MNL_CB_OK;
}

static int veth_seen(const struct nlmsghdr *h, void *arg)
{
	struct veth_look *l = arg;

	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);

	l->ifindex = i->ifi_index;
	l->up = i->ifi_flags & IFF_UP;
	mnl_attr_parse(h, sizeof(struct ifinfomsg), veth_attr, l);
	return 0;
}

struct veth_look veth_look(struct nl *nl, const char *name)
{
	struct veth_look l = { 0 };
	struct nlmsghdr *h = nl_request(nl, RTM_GETLINK, 0);

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	if (nl_query(nl, veth_seen, &l, NULL) < 0)
		return (struct veth_look){ 0 };
	return l;
}

void veth_put(struct nl *nl, const char *name, const char *peer_name, const uint8_t *mac, int netns_fd, uint32_t mtu)
{
	struct nlmsghdr *h = nl_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make the veth pair", 0);
	struct nlattr *info, *data, *peer;
	struct ifinfomsg *i;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	mnl_attr_put(h, IFLA_ADDRESS, 6, veth_host_mac);
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
	mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
	i = (struct ifinfomsg *)((char *)h + MNL_ALIGN(h->nlmsg_len));
	memset(i, 0, sizeof(*i));
	h->nlmsg_len = MNL_ALIGN(h->nlmsg_len) + (uint32_t)sizeof(*i);
	mnl_attr_put_strz(h, IFLA_IFNAME, peer_name);
	mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
	mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
	if (netns_fd >= 0)
		mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	mnl_attr_nest_end(h, peer);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
}

void veth_await_carrier(struct nl *nl, const char *name)
{
	struct timespec pause = { .tv_nsec = VETH_CARRIER_PAUSE_NS };

	for (int i = 0; i < VETH_CARRIER_TRIES; i++) {
		if (veth_look(nl, name).operstate == VETH_OPER_UP)
			return;
		nanosleep(&pause, NULL);
	}
}
