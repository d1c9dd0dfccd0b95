/* SPDX-License-Identifier: Apache-2.0 */
/* Pods' links: one veth each, no bridge. The pod has a /32 (and a /128) and a default route by a link-local gateway
 * that is the host end (neighbours are fixed on both sides); the host has a /32 (/128) route. The link's alias says
 * whose it is (pod, namespace, pin folder of the node), so a later server finds everything it needs in the kernel, and
 * two nodes on one host leave each other's pods alone. Loop thread. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/base/encode.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/clsact.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/pods.h"
#include "userspace/dataplane/veth.h"
#include "userspace/dataplane/pressure.h"
#include "userspace/dataplane/links.h"

/* The host end, as the pod knows it: 169.254.1.1 and fe80::1. */
static const struct k3c_addr pod_gateways[DP_FAMILIES] = {
	[DP_V4] = { .b = { [10] = 0xff, 0xff, 169, 254, 1, 1 } },
	[DP_V6] = { .b = { 0xfe, 0x80, [15] = 1 } },
};

static void pod_state_free(struct pod_state *s)
{
	if (!s)
		return;
	free(s->netns_path);
	free(s);
}

void pods_forget(struct dataplane *dp)
{
	map_foreach(e, &dp->pods)
		pod_state_free(e->value);
	map_finish(&dp->pods);
}

void pods_remember(struct dataplane *dp, const char *key, const char *netns_path,
		   const struct k3c_addr addrs[static DP_FAMILIES], int ifindex, struct pod_limits limits)
{
	struct pod_state *s = mem_new(struct pod_state);

	s->netns_path = netns_path ? mem_strdup(netns_path) : NULL;
	memcpy(s->addrs, addrs, sizeof(s->addrs));
	s->ifindex = ifindex;
	s->limits = limits;
	pod_state_free(map_put(&dp->pods, str_of(key), s));
}

void pods_names(const char *key, char ret_link[static IFNAMSIZ], uint8_t ret_mac[static 6])
{
	uint8_t hash[SHA256_LEN];

	sha256(key, strlen(key), hash);
	snprintf(ret_link, IFNAMSIZ, DP_LINK_PREFIX "%02x%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3],
		 hash[4]);
	memcpy(ret_mac, hash + 5, 6);
	ret_mac[0] = (uint8_t)((ret_mac[0] & 0xfcu) | 0x02u);
}

static void pod_addrs(const struct dp_pod *pod, struct k3c_addr ret[static DP_FAMILIES])
{
	for (int f = 0; f < DP_FAMILIES; f++)
		ret[f] = dp_addr_in(&pod->addrs[f]);
}

/* A gateway beyond the address' net: IPv4 wants a route to it first, IPv6 knows link-local ones. */
static int pod_inner_setup(struct nl *inner, const struct k3c_addr addrs[static DP_FAMILIES], int ifindex,
			   struct err *err)
{
	nl_put_link_up(inner, 1, NULL, false);
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct nl_address a = { .addr = addrs[f], .bits = f == DP_V4 ? 32 : 128, .ifindex = ifindex };

		if (!dp_addr_is_zero(&addrs[f]))
			nl_put_address(inner, RTM_NEWADDR, &a, 0);
	}
	nl_put_link_up(inner, ifindex, NULL, true);
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct nl_route gateway = { .family = AF_INET,
					    .dst = pod_gateways[f],
					    .bits = 32,
					    .type = RTN_UNICAST,
					    .scope = RT_SCOPE_LINK,
					    .ifindex = ifindex };
		struct nl_route world = { .family = f == DP_V4 ? AF_INET : AF_INET6,
					  .type = RTN_UNICAST,
					  .scope = RT_SCOPE_UNIVERSE,
					  .ifindex = ifindex,
					  .gateway = pod_gateways[f] };

		if (dp_addr_is_zero(&addrs[f]))
			continue;
		if (f == DP_V4)
			nl_put_route(inner, RTM_NEWROUTE, &gateway, 0);
		nl_put_neighbour(inner, ifindex, &pod_gateways[f], veth_host_mac);
		nl_put_route(inner, RTM_NEWROUTE, &world, 0);
	}
	return nl_commit(inner, err);
}

/* The node's address, where some link has it: else the kernel chooses. */
static struct k3c_addr pod_route_source(struct dataplane *dp, enum dp_family f)
{
	struct k3c_addr a = dp_addr_in(&dp->options.node_ips[f]);
	uint32_t value;

	if (dp_addr_is_zero(&a) || bpf_map_lookup_elem(dp->maps[DP_MAP_NODE], &a, &value) < 0)
		return (struct k3c_addr){ 0 };
	return a;
}

static void pod_put_route(struct dataplane *dp, enum dp_family f, const struct k3c_addr *addr, int ifindex)
{
	struct nl_route route = { .family = f == DP_V4 ? AF_INET : AF_INET6,
				  .dst = *addr,
				  .bits = f == DP_V4 ? 32 : 128,
				  .type = RTN_UNICAST,
				  .scope = RT_SCOPE_LINK,
				  .ifindex = ifindex,
				  .source = pod_route_source(dp, f) };

	nl_put_route(dp->nl, RTM_NEWROUTE, &route, 0);
}

/* The kernel takes IPv4 routes away with the address that is their source. One pod's trouble is not the others'. */
int pods_routes(struct dataplane *dp, struct err *err)
{
	int ret = 0;

	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;
		int r;

		for (int f = 0; f < DP_FAMILIES; f++)
			if (!dp_addr_is_zero(&s->addrs[f]))
				pod_put_route(dp, (enum dp_family)f, &s->addrs[f], s->ifindex);
		r = nl_commit(dp->nl, ret == 0 ? err : NULL);
		/* its namespace is just being torn down */
		if (r < 0 && r != -ENODEV && r != -ENETDOWN && ret == 0)
			ret = err_wrap(err, r, "pod %s", e->key);
	}
	return ret;
}

static int pod_host_setup(struct dataplane *dp, const struct dp_pod *pod,
			  const struct k3c_addr addrs[static DP_FAMILIES], int ifindex, const uint8_t *mac,
			  struct err *err)
{
	char alias[POD_ALIAS_MAX + 1];
	int r;

	snprintf(alias, sizeof(alias), DP_ALIAS_PREFIX "%s %s %s", pod->key, pod->netns_path, dp->pin_dir);
	r = clsact_put(dp->nl, ifindex, true, err);
	if (r < 0)
		return r;
	nl_put_filter(dp->nl, ifindex, true, dp->programs[DP_PROGRAM_POD_OUT], programs_name(DP_PROGRAM_POD_OUT));
	nl_put_filter(dp->nl, ifindex, false, dp->programs[DP_PROGRAM_POD_IN], programs_name(DP_PROGRAM_POD_IN));
	nl_put_link_up(dp->nl, ifindex, alias, true);
	for (int f = 0; f < DP_FAMILIES; f++) {
		if (dp_addr_is_zero(&addrs[f]))
			continue;
		nl_put_neighbour(dp->nl, ifindex, &addrs[f], mac);
		pod_put_route(dp, (enum dp_family)f, &addrs[f], ifindex);
	}
	return nl_commit(dp->nl, err);
}

int pods_endpoint(struct dataplane *dp, const struct dp_addr *address, uint32_t identity, int ifindex,
		  const uint8_t *mac, uint16_t flags, struct err *err)
{
	struct k3c_addr addr = dp_addr_in(address);
	struct k3c_endpoint e, before;

	if (dp_addr_is_zero(&addr))
		return 0;
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &before) < 0)
		memset(&before, 0, sizeof(before));
	e = before;
	e.ifindex = (uint32_t)ifindex;
	e.flags = flags;
	memcpy(e.mac, mac, 6);
	if (memcmp(&e, &before, sizeof(e)) != 0) {
		int r = policy_endpoint_put(dp, &addr, &e, BPF_ANY, err);

		if (r < 0)
			return r;
	}
	return identity ? dataplane_identity_set(dp, address, identity, err) : 0;
}

void pods_endpoint_forget(struct dataplane *dp, const struct k3c_addr *addr, int ifindex)
{
	static const struct k3c_endpoint nothing;
	struct k3c_endpoint e;

	if (dp_addr_is_zero(addr) || bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], addr, &e) < 0 || !e.ifindex ||
	    (ifindex && e.ifindex != (uint32_t)ifindex))
		return;
	e.ifindex = 0;
	memset(e.mac, 0, sizeof(e.mac));
	e.flags = 0;
	if (memcmp(&e, &nothing, sizeof(e)) != 0)
		policy_endpoint_put(dp, addr, &e, BPF_ANY, NULL);
	else
		bpf_map_delete_elem(dp->maps[DP_MAP_ENDPOINT], addr);
}

static void pod_link_delete(struct dataplane *dp, int ifindex)
{
	nl_put_link_delete(dp->nl, ifindex);
	(void)nl_commit(dp->nl, NULL);
}

static void *pod_deleter(void *arg)
{
	struct nl *nl;

	if (nl_open(NETLINK_ROUTE, &nl, NULL) == 0) {
		nl_put_link_delete(nl, (int)(intptr_t)arg);
		(void)nl_commit(nl, NULL);
		nl_close(nl);
	}
	return NULL;
}

/* The kernel takes tens of milliseconds to be sure that nobody uses a link any more: not on the caller's time. The
 * endpoint is gone already, so the link carries nothing. */
static int pod_link_delete_later(int ifindex, struct err *err)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, pod_deleter, (void *)(intptr_t)ifindex);
	pthread_attr_destroy(&attr);
	return r ? err_set(err, -r, "delete a pod's link: %s", strerror(r)) : 0;
}

/* The pair, as it is or new; a host end whose other end is not in this namespace is a leftover. */
static int pod_pair(struct dataplane *dp, const char *name, const uint8_t *mac, int netns_fd, struct nl *inner,
		    int *ret_host, int *ret_inner, struct err *err)
{
	struct veth_look host = veth_look(dp->nl, name);
	struct veth_look peer = { 0 };
	int r;

	if (host.ifindex) {
		peer = veth_look(inner, VETH_POD_NAME);
		if (!peer.ifindex || peer.peer != host.ifindex || host.peer != peer.ifindex) {
			pod_link_delete(dp, host.ifindex);
			host = (struct veth_look){ 0 };
		}
	}
	if (!host.ifindex) {
		veth_put(dp->nl, name, VETH_POD_NAME, mac, netns_fd, dp->mtu);
		r = nl_commit(dp->nl, err);
		if (r < 0)
			return r;
		host = veth_look(dp->nl, name);
		peer = veth_look(inner, VETH_POD_NAME);
	}
	if (!host.ifindex || !peer.ifindex)
		return err_set(err, -ENODEV, "the veth pair %s vanished", name);
	*ret_host = host.ifindex;
	*ret_inner = peer.ifindex;
	return 0;
}

static void nl_closep(struct nl **nl)
{
	nl_close(*nl);
}

int dataplane_pod_attach(struct dataplane *dp, const struct dp_pod *pod, struct err *err)
{
	_cleanup_close_ int netns_fd = open(pod->netns_path, O_RDONLY | O_CLOEXEC);
	_cleanup_(nl_closep) struct nl *inner = NULL;
	struct k3c_addr addrs[DP_FAMILIES];
	char name[IFNAMSIZ];
	struct pod_limits limits;
	uint8_t mac[6];
	int fd, host, peer, r;

	if (netns_fd < 0)
		return err_set(err, -errno, "%s: %s", pod->netns_path, strerror(errno));
	pod_addrs(pod, addrs);
	if (dp_addr_is_zero(&addrs[DP_V4]) ? dp_addr_is_zero(&addrs[DP_V6]) : !dp_addr_is_v4(&addrs[DP_V4]))
		return err_set(err, -EAFNOSUPPORT, "a pod has an address of IPv4, of IPv6, or both");
	if (strlen(DP_ALIAS_PREFIX) + strlen(pod->key) + strlen(pod->netns_path) + strlen(dp->pin_dir) + 2 >
	    POD_ALIAS_MAX)
		return err_set(err, -ENAMETOOLONG, "pod key and paths are longer than a link's alias");
	r = netns_socket(netns_fd, NETLINK_ROUTE, &fd);
	if (r < 0)
		return err_set(err, r, "netlink in %s: %s", pod->netns_path, strerror(-r));
	inner = nl_from_fd(fd);
	pods_names(pod->key, name, mac);
	r = pod_pair(dp, name, mac, netns_fd, inner, &host, &peer, err);
	if (r < 0)
		return err_wrap(err, r, "pod %s", pod->key);
	/* The inner end first: it can do nothing before the host end is up, and then everything is in place. */
	r = rates_set(dp, inner, host, peer, pod->ingress_bits_s, pod->egress_bits_s, &limits, err);
	for (int f = 0; r == 0 && f < DP_FAMILIES; f++)
		r = pods_endpoint(dp, &pod->addrs[f], pod->identity, host, mac, rates_flags(&limits), err);
	if (r == 0)
		r = pod_netns_note(dp, addrs, nl_fd(inner), host, err);
	if (r == 0)
		r = pod_inner_setup(inner, addrs, peer, err);
	/* routes of an end without carrier are accepted; the default route lives as long as the end is up */
	if (r == 0)
		r = pod_host_setup(dp, pod, addrs, host, mac, err);
	if (r < 0) {
		for (int f = 0; f < DP_FAMILIES; f++)
			pods_endpoint_forget(dp, &addrs[f], host);
		(void)pod_netns_forget(dp, host);
		rates_forget(dp, host);
		pod_link_delete(dp, host);
		return err_wrap(err, r, "pod %s", pod->key);
	}
	pod_drops_begin(dp, host);
	pod_nsid_begin(dp, host);
	veth_await_carrier(inner, VETH_POD_NAME);
	if (!dp_addr_is_zero(&addrs[DP_V6]))
		nl_await_address(inner, &addrs[DP_V6]);
	pods_remember(dp, pod->key, pod->netns_path, addrs, host, limits);
	return host;
}

int dataplane_pod_detach(struct dataplane *dp, const char *key, const struct dp_addr *addrs, struct err *err)
{
	struct pod_state *s = map_get(&dp->pods, str_of(key));
	struct veth_look host;
	char name[IFNAMSIZ];
	uint8_t mac[6];
	int r = 0;

	pods_names(key, name, mac);
	host = veth_look(dp->nl, name);
	/* The address may be another pod's already: only this pod's own entry goes. */
	for (int f = 0; f < DP_FAMILIES && (host.ifindex || s); f++) {
		struct k3c_addr a = addrs ? dp_addr_in(&addrs[f]) : s ? s->addrs[f] : (struct k3c_addr){ 0 };

		pods_endpoint_forget(dp, &a, host.ifindex ? host.ifindex : s->ifindex);
	}
	if (host.ifindex || s)
		(void)pod_netns_forget(dp, host.ifindex ? host.ifindex : s->ifindex);
	if (host.ifindex || s)
		pod_drops_forget(dp, host.ifindex ? host.ifindex : s->ifindex);
	if (host.ifindex || s)
		pod_nsid_forget(dp, host.ifindex ? host.ifindex : s->ifindex);
	if (host.ifindex || s)
		rates_forget(dp, host.ifindex ? host.ifindex : s->ifindex);
	if (host.ifindex)
		r = pod_link_delete_later(host.ifindex, err);
	pod_state_free(map_remove(&dp->pods, str_of(key)));
	return r < 0 ? err_wrap(err, r, "pod %s", key) : 0;
}

bool pods_has(const struct dataplane *dp, const struct k3c_addr *addr)
{
	map_foreach(e, &dp->pods)
		for (int f = 0; f < DP_FAMILIES; f++)
			if (memcmp(&((const struct pod_state *)e->value)->addrs[f], addr, sizeof(*addr)) == 0)
				return true;
	return false;
}

int pods_endpoints(struct dataplane *dp, uint32_t *found, struct err *err)
{
	map_foreach(m, &dp->pods) {
		const struct pod_state *s = m->value;
		char name[IFNAMSIZ];
		uint8_t mac[6];

		pods_names(m->key, name, mac);
		for (int f = 0; f < DP_FAMILIES; f++) {
			struct dp_addr addr = dp_addr_out(&s->addrs[f]);
			struct k3c_endpoint e = { 0 };
			int r;

			if (dp_addr_is_zero(&s->addrs[f]))
				continue;
			(void)bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &s->addrs[f], &e);
			if (e.ifindex == (uint32_t)s->ifindex && memcmp(e.mac, mac, sizeof(mac)) == 0)
				continue;
			(*found)++;
			r = pods_endpoint(dp, &addr, 0, s->ifindex, mac, rates_flags(&s->limits), err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

uint32_t pods_prune_rows(struct dataplane *dp, enum dp_map map)
{
	_cleanup_free_ uint32_t *gone = NULL;
	uint32_t key;
	size_t n = 0, cap = 0;

	keys_foreach(dp->maps[map], key) {
		bool keep = false;

		map_foreach(e, &dp->pods)
			keep = keep || ((struct pod_state *)e->value)->ifindex == (int)key;
		if (keep)
			continue;
		mem_grow(gone, cap, n + 1);
		gone[n++] = key;
	}
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(dp->maps[map], &gone[i]);
	return (uint32_t)n;
}

int dataplane_pod_each(struct dataplane *dp, dataplane_pod_fn *fn, void *arg, struct err *err)
{
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;
		struct dp_addr addrs[DP_FAMILIES] = { dp_addr_out(&s->addrs[DP_V4]), dp_addr_out(&s->addrs[DP_V6]) };

		fn(arg, e->key, addrs);
	}
	return 0;
}

static int pod_filters(struct dataplane *dp, int ifindex, struct err *err)
{
	int r = clsact_put(dp->nl, ifindex, true, err);

	if (r < 0)
		return r == -ENODEV ? 0 : r;
	nl_put_filter(dp->nl, ifindex, true, dp->programs[DP_PROGRAM_POD_OUT], programs_name(DP_PROGRAM_POD_OUT));
	nl_put_filter(dp->nl, ifindex, false, dp->programs[DP_PROGRAM_POD_IN], programs_name(DP_PROGRAM_POD_IN));
	r = nl_commit(dp->nl, err);
	return r == -ENODEV ? 0 : r; /* its namespace is just being torn down */
}

/* Programs first: it is not up a moment without them. Its neighbours and routes went with it. */
static int pod_up(struct dataplane *dp, const char *key, const struct pod_state *s, struct err *err)
{
	char name[IFNAMSIZ];
	uint8_t mac[6];
	int r = pod_filters(dp, s->ifindex, err);

	if (r < 0)
		return r;
	pods_names(key, name, mac);
	nl_put_link_up(dp->nl, s->ifindex, NULL, true);
	for (int f = 0; f < DP_FAMILIES; f++) {
		if (dp_addr_is_zero(&s->addrs[f]))
			continue;
		nl_put_neighbour(dp->nl, s->ifindex, &s->addrs[f], mac);
		pod_put_route(dp, (enum dp_family)f, &s->addrs[f], s->ifindex);
	}
	r = nl_commit(dp->nl, err);
	return r == -ENODEV ? 0 : r;
}

int pods_up(struct dataplane *dp, uint32_t *found, struct err *err)
{
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;
		struct veth_look look;
		char name[IFNAMSIZ];
		uint8_t mac[6];
		int r;

		pods_names(e->key, name, mac);
		look = veth_look(dp->nl, name);
		if (!look.ifindex || look.ifindex != s->ifindex || look.up)
			continue;
		r = pod_up(dp, e->key, s, err);
		if (r < 0)
			return err_wrap(err, r, "pod %s", e->key);
		(*found)++;
	}
	return 0;
}

/* One that cannot have them does not keep the others from theirs. */
int pods_filters(struct dataplane *dp, struct err *err)
{
	int ret = 0;

	map_foreach(e, &dp->pods) {
		int r = pod_filters(dp, ((const struct pod_state *)e->value)->ifindex, ret == 0 ? err : NULL);

		if (r < 0 && ret == 0)
			ret = err_wrap(err, r, "pod %s", e->key);
	}
	return ret;
}

/* A link that no policy can be on is taken away; whoever attaches the pod again makes another. */
void pods_filters_or_none(struct dataplane *dp)
{
	char **bad = NULL;
	size_t n = 0, cap = 0;

	map_foreach(e, &dp->pods) {
		_cleanup_err_ struct err err = ERR_INIT;
		const struct pod_state *s = e->value;

		if (pod_filters(dp, s->ifindex, &err) >= 0)
			continue;
		log_error("a pod's link takes no programs and is made anew pod=%s error=\"%s\"", e->key,
			  err_message(&err));
		for (int f = 0; f < DP_FAMILIES; f++)
			pods_endpoint_forget(dp, &s->addrs[f], s->ifindex);
		pod_link_delete(dp, s->ifindex);
		mem_grow(bad, cap, n + 1);
		bad[n++] = mem_strdup(e->key);
	}
	for (size_t i = 0; i < n; i++) {
		pod_state_free(map_remove(&dp->pods, str_of(bad[i])));
		free(bad[i]);
	}
	free(bad);
}
