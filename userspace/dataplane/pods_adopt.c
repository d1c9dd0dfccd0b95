/* SPDX-License-Identifier: Apache-2.0 */
/* Pods that an earlier server left: their links are in the kernel, their addresses in the maps. What is missing there
 * is found where else the kernel knows it (the namespace's row, the routes) and written anew. Such an address has the
 * policy of the pod's other one from the start on, or none may talk to it until its policy is told. No pod keeps the
 * node from starting. Loop thread. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/pods.h"
#include "userspace/dataplane/policy_state.h"

struct adoption {
	struct dataplane *dp;
};

struct adopted_link {
	const char *name, *alias;
};

static int adopt_attr(const struct nlattr *attr, void *arg)
{
	struct adopted_link *l = arg;

	if (mnl_attr_get_type(attr) == IFLA_IFNAME)
		l->name = mnl_attr_get_str(attr);
	if (mnl_attr_get_type(attr) == IFLA_IFALIAS)
		l->alias = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

static int adopt_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct adoption *a = arg;
	struct adopted_link l = { 0 };
	char key[POD_ALIAS_MAX + 1], netns[POD_ALIAS_MAX + 1], owner[POD_ALIAS_MAX + 1];

	mnl_attr_parse(h, sizeof(*i), adopt_attr, &l);
	if (!l.name || !l.alias || strncmp(l.name, DP_LINK_PREFIX, strlen(DP_LINK_PREFIX)) != 0 ||
	    sscanf(l.alias, DP_ALIAS_PREFIX "%255s %255s %255s", key, netns, owner) != 3 ||
	    strcmp(owner, a->dp->pin_dir) != 0) /* another node's on this host */
		return 0;
	pods_remember(a->dp, key, netns, (struct k3c_addr[DP_FAMILIES]){ 0 }, i->ifi_index, (struct pod_limits){ 0 });
	pod_drops_begin(a->dp, i->ifi_index);
	return 0;
}

/* Addresses of adopted pods come from the routes to their links, and where there is none (it goes with a link that is
 * down) from the endpoints. One whose link is gone, or that says of a pod what is not so, is no pod's any more. */
static void adopt_endpoints(struct dataplane *dp)
{
	struct k3c_addr addr, *gone = NULL;
	size_t n = 0, cap = 0;

	keys_foreach(dp->maps[DP_MAP_ENDPOINT], addr) {
		struct k3c_endpoint e;
		bool found = false;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e) < 0 || !e.ifindex)
			continue;
		map_foreach(m, &dp->pods) {
			struct pod_state *s = m->value;

			if (s->ifindex != (int)e.ifindex)
				continue;
			if (dp_addr_is_zero(&s->addrs[dp_addr_family(&addr)]))
				s->addrs[dp_addr_family(&addr)] = addr;
			found = memcmp(&s->addrs[dp_addr_family(&addr)], &addr, sizeof(addr)) == 0;
		}
		if (found)
			continue;
		mem_grow(gone, cap, n + 1);
		gone[n++] = addr;
	}
	for (size_t i = 0; i < n; i++)
		pods_endpoint_forget(dp, &gone[i], 0);
	free(gone);
}

/* ---- what the endpoints do not say ---- */

/* An address that another pod has is not taken over. */
static void adopt_address(struct dataplane *dp, int ifindex, const struct k3c_addr *addr)
{
	if (dp_addr_is_zero(addr) || pods_has(dp, addr))
		return;
	map_foreach(e, &dp->pods) {
		struct pod_state *s = e->value;
		struct k3c_addr *place = &s->addrs[dp_addr_family(addr)];

		if (s->ifindex == ifindex && dp_addr_is_zero(place))
			*place = *addr;
	}
}

static void adopt_namespaces(struct dataplane *dp)
{
	uint64_t cookie;

	keys_foreach(dp->maps[DP_MAP_NETNS], cookie) {
		struct k3c_netns value;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_NETNS], &cookie, &value) < 0 || !value.ifindex)
			continue;
		for (int f = 0; f < DP_FAMILIES; f++)
			adopt_address(dp, (int)value.ifindex, &value.addrs[f]);
	}
}

struct route_look {
	const struct k3c_addr *dst;
	struct k3c_addr storage;
	int ifindex;
};

static int route_attr(const struct nlattr *attr, void *arg)
{
	struct route_look *l = arg;

	if (mnl_attr_get_type(attr) == RTA_OIF)
		l->ifindex = (int)mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == RTA_DST && mnl_attr_get_payload_len(attr) == 4) {
		l->storage = dp_addr_v4(mnl_attr_get_u32(attr));
		l->dst = &l->storage;
	}
	if (mnl_attr_get_type(attr) == RTA_DST && mnl_attr_get_payload_len(attr) == 16) {
		memcpy(&l->storage, mnl_attr_get_payload(attr), 16);
		l->dst = &l->storage;
	}
	return MNL_CB_OK;
}

static int adopt_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	struct route_look l = { 0 };
	struct dataplane *dp = arg;

	if (m->rtm_protocol != DP_ROUTE_PROTOCOL || m->rtm_dst_len != (m->rtm_family == AF_INET ? 32 : 128))
		return 0;
	mnl_attr_parse(h, sizeof(*m), route_attr, &l);
	if (l.dst && l.ifindex)
		adopt_address(dp, l.ifindex, l.dst);
	return 0;
}

static void adopt_routes(struct dataplane *dp)
{
	struct nlmsghdr *h = nl_request(dp->nl, RTM_GETROUTE, NLM_F_DUMP);

	mnl_nlmsg_put_extra_header(h, sizeof(struct rtmsg));
	(void)nl_query(dp->nl, adopt_route, dp, NULL);
}

/* ---- their rows ---- */

static bool adopt_row(struct dataplane *dp, const struct pod_state *s, int f, struct k3c_endpoint *ret)
{
	memset(ret, 0, sizeof(*ret));
	return !dp_addr_is_zero(&s->addrs[f]) &&
	       bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &s->addrs[f], ret) == 0 &&
	       ret->ifindex == (uint32_t)s->ifindex;
}

/* Of the pod's other address, which has the same; else nobody may until it is told. */
static struct k3c_endpoint_policy adopt_policy(struct dataplane *dp, const struct pod_state *s, int f)
{
	struct k3c_endpoint other;

	if (adopt_row(dp, s, f == DP_V4 ? DP_V6 : DP_V4, &other))
		return other.policy[dp->meta.generation & 1];
	return (struct k3c_endpoint_policy){ .flags = K3C_EP_ISOLATED_INGRESS | K3C_EP_ISOLATED_EGRESS };
}

/* Maps that were laid out anew know no policies yet: whoever fills them does so before programs use them. */
static int adopt_restore(struct dataplane *dp, const char *key, const struct pod_state *s, int f,
			 const struct k3c_endpoint_policy *policy, struct err *err)
{
	static const struct k3c_endpoint_policy nothing;
	struct dp_addr addr = dp_addr_out(&s->addrs[f]);
	struct k3c_endpoint e = { 0 };
	char name[IFNAMSIZ];
	uint8_t mac[6];
	int r = 0;

	(void)bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &s->addrs[f], &e);
	if (!dp->maps_anew && memcmp(&e.policy[dp->meta.generation & 1], &nothing, sizeof(nothing)) == 0)
		r = policy_stage(dp, &s->addrs[f], policy, err);
	if (r < 0)
		return r;
	pods_names(key, name, mac);
	return pods_endpoint(dp, &addr, 0, s->ifindex, mac, rates_flags(&s->limits), err);
}

/* How many rows were missing. */
static uint32_t adopt_pod(struct dataplane *dp, const char *key, const struct pod_state *s)
{
	struct k3c_endpoint_policy policy[DP_FAMILIES];
	bool missing[DP_FAMILIES];
	struct k3c_endpoint e;
	uint32_t n = 0;

	for (int f = 0; f < DP_FAMILIES; f++) { /* as it stands before any is written */
		missing[f] = !dp_addr_is_zero(&s->addrs[f]) && !adopt_row(dp, s, f, &e);
		policy[f] = adopt_policy(dp, s, f);
	}
	for (int f = 0; f < DP_FAMILIES; f++) {
		_cleanup_err_ struct err err = ERR_INIT;

		if (!missing[f])
			continue;
		n++;
		if (adopt_restore(dp, key, s, f, &policy[f], &err) < 0)
			log_warn("address of a pod not taken over pod=%s error=\"%s\"", key, err_message(&err));
		else if (!dp->maps_anew)
			log_warn("an address of a pod was missing in the kernel, written anew pod=%s family=%s", key,
				 f == DP_V4 ? "IPv4" : "IPv6");
	}
	return n;
}

/* In force at once, and what was judged without them is judged again. */
static void adopt_rows(struct dataplane *dp)
{
	uint32_t n = 0;

	dataplane_policy_begin(dp);
	map_foreach(m, &dp->pods) {
		const struct pod_state *s = m->value;

		n += adopt_pod(dp, m->key, s);
		if (dp_addr_is_zero(&s->addrs[DP_V4]) && dp_addr_is_zero(&s->addrs[DP_V6]))
			log_warn("the kernel knows no address of a pod, it is attached anew pod=%s", m->key);
	}
	if (dataplane_policy_commit(dp, NULL) < 0)
		log_warn("policies of pods that were taken over are not in force");
	if (!n || dp->maps_anew)
		return;
	dp->links_drift.n[DP_DRIFT_ENDPOINT] += n;
	dp->meta.generation += 2; /* the same half stays in force */
	(void)dataplane_meta_write(dp, NULL);
}

static void adopt_anew(struct dataplane *dp)
{
	map_foreach(e, &dp->pods) {
		struct pod_state *s = e->value;

		if (pod_netns_enter(dp, s, NULL) < 0)
			log_warn("namespace of a pod not taken over pod=%s", e->key);
	}
}

static void adopt_down(struct dataplane *dp)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (!dp->unsettled && pods_up(dp, &dp->links_drift.n[DP_DRIFT_LINK], &err) < 0)
		log_warn("a link stays down error=\"%s\"", err_message(&err));
}

int pods_adopt(struct dataplane *dp, struct err *err)
{
	struct adoption a = { .dp = dp };
	struct nlmsghdr *h = nl_request(dp->nl, RTM_GETLINK, NLM_F_DUMP);
	int r;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	r = nl_query(dp->nl, adopt_link, &a, err);
	if (r == 0) {
		adopt_routes(dp);
		adopt_endpoints(dp);
		adopt_namespaces(dp);
		adopt_rows(dp);
	}
	if (r == 0 && !dp->unsettled)
		pods_filters_or_none(dp);
	if (r == 0 && dp->maps_anew)
		adopt_anew(dp);
	if (r == 0) {
		adopt_down(dp);
		(void)pod_netns_repair(dp);
		pod_drops_prune(dp);
		(void)pod_nsid_repair(dp);
		(void)rates_adopt(dp);
		rates_take_over(dp);
	}
	return r;
}
