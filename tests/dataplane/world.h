/* SPDX-License-Identifier: Apache-2.0 */
/* A small world for dataplane tests: this process moves into namespaces of its own (network: "the host"; mounts: a
 * bpffs nobody else sees) and into a cgroup of its own below the cgroup2 root, so nothing of the machine is touched
 * and everything goes when the process ends; a parent removes the cgroup, also after a crash. In a guest of vmtest, and
 * only there, worlds pass the verified programs of an empty dataplane on to each other (kept.h): who is about loading
 * itself says so (WORLD_LOADS, before this is included). */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include "tests/dataplane/kept.h"
#include "userspace/base/fs.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/pods.h"

#define WORLD_WAIT_MS 20000 /* for what hangs; a busy machine is slow */
#define WORLD_SKIPPED 77

struct world {
	char dir[64];
	char pin_dir[96];
	char cgroup[300];
	struct dataplane *dp;
	int outside; /* namespace of a host beyond the node's link */
};

static struct world world;

#define ok(expr)                                                                                                       \
	({                                                                                                             \
		struct err ok_err = ERR_INIT;                                                                          \
		struct err *err = &ok_err;                                                                             \
		int ok_r = (expr);                                                                                     \
		if (ok_r < 0)                                                                                          \
			print_error("%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, err_message(&ok_err));               \
		err_finish(&ok_err);                                                                                   \
		assert_true(ok_r >= 0);                                                                                \
		ok_r;                                                                                                  \
	})

/* Of both families, as the text is: here and wherever an address is text. */
static inline struct dp_addr ip(const char *text)
{
	struct dp_addr a = { .b = { [10] = 0xff, [11] = 0xff } };

	if (strchr(text, ':'))
		assert_int_equal(inet_pton(AF_INET6, text, a.b), 1);
	else
		assert_int_equal(inet_pton(AF_INET, text, a.b + 12), 1);
	return a;
}

static inline bool text_is_v6(const char *text)
{
	return strchr(text, ':');
}

static inline struct sockaddr_in sin_of(const char *text, uint16_t port)
{
	struct sockaddr_in s = { .sin_family = AF_INET, .sin_port = htons(port) };

	assert_int_equal(inet_pton(AF_INET, text, &s.sin_addr), 1);
	return s;
}

union any_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static inline union any_addr any_of(const char *text, uint16_t port)
{
	union any_addr a = { .v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };

	if (!text_is_v6(text))
		a.v4 = sin_of(text, port);
	else
		assert_int_equal(inet_pton(AF_INET6, text, &a.v6.sin6_addr), 1);
	return a;
}

static inline socklen_t any_len(const union any_addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

static inline uint16_t any_port(const union any_addr *a)
{
	return ntohs(a->sa.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port);
}

/* port 0: any. */
static inline bool any_is(const union any_addr *a, const char *text, uint16_t port)
{
	union any_addr want = any_of(text, port);

	if (a->sa.sa_family != want.sa.sa_family || (port && any_port(a) != port))
		return false;
	return a->sa.sa_family == AF_INET ? a->v4.sin_addr.s_addr == want.v4.sin_addr.s_addr
					  : memcmp(&a->v6.sin6_addr, &want.v6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* ---- namespaces ---- */

/* Of this thread's namespace: links made from now on have their IPv6 addresses at once, nobody is asked first. */
static inline int ns_no_dad(void)
{
	return fs_write("/proc/sys/net/ipv6/conf/default/accept_dad", "0", NULL);
}

static inline int ns_new_fn(void *arg)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	(void)ns_no_dad();
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static inline int world_host_ns(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return fd;
}

static inline int ns_new(void)
{
	int fd = netns_run(world_host_ns(), ns_new_fn, NULL);

	assert_true(fd >= 0);
	return fd;
}

struct sock_args {
	int domain, type, protocol;
};

static inline int ns_socket_fn(void *arg)
{
	struct sock_args *a = arg;
	int fd = socket(a->domain, a->type | SOCK_CLOEXEC, a->protocol);

	return fd < 0 ? -errno : fd;
}

static inline int sock_in_domain(int ns, int domain, int type, int protocol)
{
	struct sock_args a = { domain, type, protocol };
	struct timeval t = { .tv_sec = WORLD_WAIT_MS / 1000 };
	int one = 1, fd = netns_run(ns, ns_socket_fn, &a);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return fd;
}

static inline int sock_in(int ns, int type)
{
	return sock_in_domain(ns, AF_INET, type, 0);
}

static inline int server_in(int ns, int type, const char *addr, uint16_t port)
{
	union any_addr s = any_of(addr, port);
	int fd = sock_in_domain(ns, s.sa.sa_family, type, 0);

	if (bind(fd, &s.sa, any_len(&s)) < 0)
		fail_msg("bind %s:%u: %s", addr, port, strerror(errno));
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 64), 0);
	return fd;
}

/* 0 or -errno; *ret_fd is always an open socket. */
static inline int client_in(int ns, int type, const char *addr, uint16_t port, int *ret_fd)
{
	union any_addr s = any_of(addr, port);

	*ret_fd = sock_in_domain(ns, s.sa.sa_family, type, 0);
	return connect(*ret_fd, &s.sa, any_len(&s)) < 0 ? -errno : 0;
}

static inline int accept_any(int server, union any_addr *ret)
{
	union any_addr s;
	socklen_t len = sizeof(s);
	struct timeval t = { .tv_sec = WORLD_WAIT_MS / 1000 };
	int fd = accept(server, &s.sa, &len);

	if (fd < 0)
		fail_msg("accept: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	if (ret)
		*ret = s;
	return fd;
}

static inline int accept_from(int server, struct sockaddr_in *ret)
{
	union any_addr s;
	int fd = accept_any(server, &s);

	if (ret)
		*ret = s.v4;
	return fd;
}

static inline bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static inline void pass_bytes(int from, int to, const char *text)
{
	char buf[64] = { 0 };

	assert_int_equal(send(from, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	if (recv(to, buf, sizeof(buf) - 1, 0) < 0)
		fail_msg("recv: %s", strerror(errno));
	assert_string_equal(buf, text);
}

#define WORLD_BULK_BYTES 60000

/* More than a segment, as the stack likes to hand them on: large, with sums that are not yet computed. Read along: how
 * much two sockets hold together is the kernel's to say. */
static inline void pass_bulk(int from, int to)
{
	char big[WORLD_BULK_BYTES], back[WORLD_BULK_BYTES];
	size_t sent = 0, got = 0;

	memset(big, 'x', sizeof(big));
	while (got < sizeof(back)) {
		ssize_t n = sent < sizeof(big) ? send(from, big + sent, sizeof(big) - sent, MSG_DONTWAIT | MSG_NOSIGNAL)
					       : 0;

		if (n > 0)
			sent += (size_t)n;
		else if (n < 0 && errno != EAGAIN)
			fail_msg("send: %s", strerror(errno));
		n = recv(to, back + got, sizeof(back) - got, 0);
		if (n <= 0)
			fail_msg("%zu of %zu bytes: %s", got, sizeof(back), n ? strerror(errno) : "end");
		got += (size_t)n;
	}
	assert_memory_equal(big, back, sizeof(big));
}

static inline bool addr_is(const struct sockaddr_in *s, const char *text, uint16_t port)
{
	struct sockaddr_in want = sin_of(text, port);

	return s->sin_addr.s_addr == want.sin_addr.s_addr && (!port || s->sin_port == want.sin_port);
}

/* ---- links of the world outside ---- */

static inline void nl_veth_to(int netns_fd, const char *host_name, const char *peer_name)
{
	struct nlattr *info, *data, *peer;
	struct nlmsghdr *h;
	struct nl *nl;

	ok(nl_open(NETLINK_ROUTE, &nl, err));
	h = nl_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "veth", 0);
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, host_name);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
	memset((char *)h + h->nlmsg_len, 0, sizeof(struct ifinfomsg));
	h->nlmsg_len += sizeof(struct ifinfomsg);
	mnl_attr_put_strz(h, IFLA_IFNAME, peer_name);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	mnl_attr_nest_end(h, peer);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static inline int ifindex_in(int ns, const char *name)
{
	struct ifreq q = { 0 };
	int fd = sock_in(ns, SOCK_DGRAM);

	strncpy(q.ifr_name, name, IFNAMSIZ - 1);
	assert_int_equal(ioctl(fd, SIOCGIFINDEX, &q), 0);
	close(fd);
	return q.ifr_ifindex;
}

static inline void link_setup(int ns, const char *name, const char *addr, uint8_t bits)
{
	struct dp_addr a = ip(addr);
	struct nl_address put = { .addr = dp_addr_in(&a), .bits = bits, .ifindex = ifindex_in(ns, name) };
	int fd;
	struct nl *nl;

	assert_int_equal(netns_socket(ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_link_up(nl, 1, NULL, false);
	nl_put_link_up(nl, put.ifindex, NULL, false);
	nl_put_address(nl, RTM_NEWADDR, &put, 0);
	ok(nl_commit(nl, err));
	nl_await_address(nl, &put.addr);
	nl_close(nl);
}

/* gateway, link: NULL for none. */
static inline void route_in(int ns, const char *net, uint8_t bits, const char *gateway, const char *link)
{
	struct dp_addr dst = ip(net), via = gateway ? ip(gateway) : (struct dp_addr){ 0 };
	struct nl_route r = { .family = text_is_v6(net) ? AF_INET6 : AF_INET,
			      .bits = bits,
			      .type = RTN_UNICAST,
			      .scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
			      .dst = dp_addr_in(&dst),
			      .gateway = dp_addr_in(&via),
			      .ifindex = link ? ifindex_in(ns, link) : 0 };
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_route(nl, RTM_NEWROUTE, &r, 0);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

/* ---- the dataplane ---- */

#define NODE_IP "172.30.0.1"
#define OUTSIDE_IP "172.30.0.2"
#define NODE_IP6 "fd30::1"
#define OUTSIDE_IP6 "fd30::2"

static inline struct dataplane_options world_options(void)
{
	return (struct dataplane_options){
		.pin_dir = world.pin_dir,
		.cgroup2_dir = world.cgroup,
		.pod_nets = { { ip("10.42.0.0"), 96 + 16 }, { ip("fd42::"), 64 } },
		.service_nets = { { ip("10.43.0.0"), 96 + 16 }, { ip("fd43::"), 112 } },
		.node_ips = { ip(NODE_IP), ip(NODE_IP6) },
		.node_port_min = 30000,
		.node_port_max = 32767,
	};
}

/* Tables that are full at once. */
#define WORLD_SMALL 16
#define WORLD_SMALL_CONNECTIONS 256

static inline struct dataplane_options world_small_options(void)
{
	struct dataplane_options o = world_options();

	o.max_services = WORLD_SMALL;
	o.max_backends = 2 * WORLD_SMALL;
	o.max_policy_entries = WORLD_SMALL;
	o.max_connections = WORLD_SMALL_CONNECTIONS;
	return o;
}

/* Ports to masquerade with are those that the host's own leave: few in tests that use them all up. */
#define WORLD_SNAT_PORT_MIN 64502
#define WORLD_SNAT_PORT_MAX 65535

static inline void world_few_snat_ports(void)
{
	char text[32];

	snprintf(text, sizeof(text), "1024 %d", WORLD_SNAT_PORT_MIN - 1);
	ok(fs_write("/proc/sys/net/ipv4/ip_local_port_range", text, err));
}

/* The node's link, to a namespace that plays a host outside. */
static inline void world_uplink(void)
{
	world.outside = ns_new();
	nl_veth_to(world.outside, "up0", "eth0");
	link_setup(world_host_ns(), "up0", NODE_IP, 24);
	link_setup(world.outside, "eth0", OUTSIDE_IP, 24);
	link_setup(world_host_ns(), "up0", NODE_IP6, 64);
	link_setup(world.outside, "eth0", OUTSIDE_IP6, 64);
}

static inline void world_open(void)
{
	struct dataplane_options o = world_options();

	ok(dataplane_open(&o, &world.dp, err));
}

static inline uint64_t drops(const char *reason)
{
	struct dp_drop d[32];
	size_t n;

	ok(dataplane_drops(world.dp, d, 32, &n, err));
	for (size_t i = 0; i < n; i++)
		if (strcmp(d[i].reason, reason) == 0)
			return d[i].packets;
	fail_msg("no such reason: %s", reason);
	return 0;
}

/* Awaits that the counter leaves `before`: what should be dropped has been dropped. */
static inline void await_drop(const char *reason, uint64_t before)
{
	struct timespec pause = { .tv_nsec = 2000000 };

	for (int i = 0; i < WORLD_WAIT_MS / 2; i++) {
		if (drops(reason) > before)
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("nothing was dropped for %s", reason);
}

struct test_pod {
	int ns;
	char key[64], netns_path[64], addr[16], addr6[INET6_ADDRSTRLEN]; /* "": none of that family */
	int ifindex;
};

static inline void pod_addrs_of(const struct test_pod *p, struct dp_addr ret[static DP_FAMILIES])
{
	memset(ret, 0, DP_FAMILIES * sizeof(*ret));
	if (p->addr[0])
		ret[DP_V4] = ip(p->addr);
	if (p->addr6[0])
		ret[DP_V6] = ip(p->addr6);
}

static inline void pod_attach(struct test_pod *p)
{
	struct dp_pod pod = { .key = p->key, .netns_path = p->netns_path };

	pod_addrs_of(p, pod.addrs);
	p->ifindex = ok(dataplane_pod_attach(world.dp, &pod, err));
}

/* addr, addr6: NULL, none of that family. */
static inline void pod_make_dual(struct test_pod *p, const char *key, const char *addr, const char *addr6,
				 uint32_t identity)
{
	struct dp_addr addrs[DP_FAMILIES];

	p->ns = ns_new();
	snprintf(p->key, sizeof(p->key), "%s", key);
	snprintf(p->addr, sizeof(p->addr), "%s", addr ? addr : "");
	snprintf(p->addr6, sizeof(p->addr6), "%s", addr6 ? addr6 : "");
	snprintf(p->netns_path, sizeof(p->netns_path), "/proc/self/fd/%d", p->ns);
	pod_addrs_of(p, addrs);
	for (int f = 0; f < DP_FAMILIES && identity; f++)
		if (f == DP_V4 ? p->addr[0] : p->addr6[0])
			ok(dataplane_identity_set(world.dp, &addrs[f], identity, err));
	pod_attach(p);
}

static inline void pod_make(struct test_pod *p, const char *key, const char *addr, uint32_t identity)
{
	pod_make_dual(p, key, addr, NULL, identity);
}

static inline void pod_drop(struct test_pod *p)
{
	struct dp_addr addrs[DP_FAMILIES];

	pod_addrs_of(p, addrs);
	ok(dataplane_pod_detach(world.dp, p->key, addrs, err));
	for (int f = 0; f < DP_FAMILIES; f++) {
		if (f == DP_V4 ? !p->addr[0] : !p->addr6[0])
			continue;
		ok(dataplane_identity_delete(world.dp, &addrs[f], err));
		ok(dataplane_policy_delete(world.dp, &addrs[f], err));
	}
	close(p->ns);
}

/* Where a dataplane is opened next: its link is deleted by a thread, and whoever opens takes over pods whose links
 * stand. */
static inline void pod_drop_whole(struct test_pod *p)
{
	struct sockaddr_nl links = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int news = sock_in_domain(world_host_ns(), AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	char link[IFNAMSIZ], said[8192];
	uint8_t mac[6];

	assert_int_equal(bind(news, (struct sockaddr *)&links, sizeof(links)), 0);
	pods_names(p->key, link, mac);
	pod_drop(p);
	while (if_nametoindex(link))
		assert_true(recv(news, said, sizeof(said), 0) > 0); /* within WORLD_WAIT_MS: of the next that changed */
	close(news);
}

/* ---- policies, of one of its addresses ---- */

static inline void world_policy(const char *pod, bool ingress, bool egress, const struct dp_policy_rule *rules,
				size_t n)
{
	const struct dp_policy p = {
		.pod = ip(pod), .isolated_ingress = ingress, .isolated_egress = egress, .rules = rules, .n_rules = n
	};

	ok(dataplane_policy_set(world.dp, &p, err));
}

static inline void world_no_policy(const char *pod)
{
	struct dp_addr addr = ip(pod);

	ok(dataplane_policy_delete(world.dp, &addr, err));
}

/* ---- the process ---- */

static inline int world_enter(void)
{
	char cgroup_procs[400], pid[32];
	struct nl *nl;

	snprintf(cgroup_procs, sizeof(cgroup_procs), "%s/cgroup.procs", world.cgroup);
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (fs_write(cgroup_procs, pid, NULL) < 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("bpf", world.dir, "bpf", 0, NULL) < 0)
		return -errno;
	snprintf(world.pin_dir, sizeof(world.pin_dir), "%s/k3c", world.dir);
	if (nl_open(NETLINK_ROUTE, &nl, NULL) < 0)
		return -EIO;
	nl_put_link_up(nl, 1, NULL, false);
	if (nl_commit(nl, NULL) < 0)
		return -EIO;
	nl_close(nl);
	world_host_ns();
	(void)ns_no_dad();
	/* as strict as distributions set it */
	return fs_write("/proc/sys/net/ipv4/conf/all/rp_filter", "1", NULL);
}

static inline int world_close(int failed)
{
	dataplane_close(world.dp);
	return failed;
}

/* The usual `tests` of world_run(): in a world with an uplink and a dataplane of the usual options. */
#define world_group(all) (world_uplink(), world_open(), world_close(cmocka_run_group_tests(all, NULL, NULL)))

static inline int world_run(int (*tests)(void))
{
	char *root = NULL, own[96];
	pid_t child;
	int status = 1;

	snprintf(world.dir, sizeof(world.dir), "/tmp/k3c-dataplane-XXXXXX");
	if (!mkdtemp(world.dir))
		return 1;
	snprintf(own, sizeof(own), "%s-cgroup2", world.dir);
	if (geteuid() != 0 || bpffs_cgroup2_root(own, &root, NULL) < 0) {
		fprintf(stderr, "needs root and cgroup2\n");
		rmdir(world.dir);
		return WORLD_SKIPPED;
	}
	snprintf(world.cgroup, sizeof(world.cgroup), "%s/k3c-test-%d", root, getpid());
	if (mkdir(world.cgroup, 0755) < 0)
		return 1;
	child = fork();
	if (child == 0) {
		int r;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever ends the test at its limit knows only the parent */
		r = world_enter();

		if (r < 0) {
			fprintf(stderr, "the test's world: %s\n", strerror(-r));
			exit(1);
		}
#ifndef WORLD_LOADS
		kept_begin();
#endif
		r = tests();
		if (r == 0)
			r = kept_end(world.pin_dir);
		exit(r);
	}
	waitpid(child, &status, 0);
	rmdir(world.cgroup);
	rmdir(world.dir);
	if (strcmp(root, own) == 0) {
		umount2(own, MNT_DETACH);
		rmdir(own);
	}
	free(root);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
