/* SPDX-License-Identifier: Apache-2.0 */
/* How the kernel calls a pod's namespace in the node's (k3c_nsid, by the host end of its link): so that a program can
 * ask its sockets. Given when somebody asks for it first, and kept as long as the namespace lives. A pod without a row
 * (the map is full) is served all the same: its connections are then told by what else is known. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "userspace/dataplane/internal.h"

static int nsid_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == IFLA_LINK_NETNSID)
		*(int32_t *)arg = (int32_t)mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int nsid_seen(const struct nlmsghdr *h, void *arg)
{
	mnl_attr_parse(h, sizeof(struct ifinfomsg), nsid_attr, arg);
	return 0;
}

/* Negative: has none. */
static int32_t nsid_of(struct dataplane *dp, int ifindex)
{
	struct nlmsghdr *h = nl_request(dp->nl, RTM_GETLINK, 0);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));
	int32_t nsid = -1;

	i->ifi_index = ifindex;
	return nl_query(dp->nl, nsid_seen, &nsid, NULL) < 0 ? -1 : nsid;
}

/* True: it was another, or none. */
static bool nsid_put(struct dataplane *dp, int ifindex)
{
	int32_t nsid = nsid_of(dp, ifindex), row;
	uint32_t key = (uint32_t)ifindex;

	if (nsid < 0 || (bpf_map_lookup_elem(dp->maps[DP_MAP_NSID], &key, &row) == 0 && row == nsid))
		return false;
	return bpf_map_update_elem(dp->maps[DP_MAP_NSID], &key, &nsid, BPF_ANY) == 0;
}

void pod_nsid_begin(struct dataplane *dp, int ifindex)
{
	(void)nsid_put(dp, ifindex);
}

void pod_nsid_forget(struct dataplane *dp, int ifindex)
{
	uint32_t key = (uint32_t)ifindex;

	(void)bpf_map_delete_elem(dp->maps[DP_MAP_NSID], &key);
}

uint32_t pod_nsid_repair(struct dataplane *dp)
{
	uint32_t n = pods_prune_rows(dp, DP_MAP_NSID);

	map_foreach(e, &dp->pods)
		n += nsid_put(dp, ((struct pod_state *)e->value)->ifindex);
	return n;
}
