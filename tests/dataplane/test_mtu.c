/* SPDX-License-Identifier: Apache-2.0 */
/* A narrow link beyond the node: routers say so, and what they say reaches the pod, in both families, for connections
 * that a pod begins (masqueraded) and for those that come to a node port. New pods' links are as wide as the host's. */
#include "tests/dataplane/world.h"

#define NARROW_MTU 1300
#define BYTES 200000

struct family {
	const char *node, *outside, *near, *beyond, *router, *far, *pod, *any;
	const char *node_net, *far_net;
	uint8_t bits;
	int level, mtu_option;
};

/* node - outside (routes) - [narrow] - beyond (routes) - far */
static struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "172.27.0.1", "172.27.0.2", "172.28.0.1", "172.28.0.2", "10.42.9.1", "0.0.0.0",
		    "172.30.0.0", "172.28.0.0", 24, IPPROTO_IP, IP_MTU },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "fd27::1", "fd27::2", "fd28::1", "fd28::2", "fd42::9:1",
		    "::", "fd30::", "fd28::", 64, IPPROTO_IPV6, IPV6_MTU },
};

static struct test_pod pod;
static int beyond, far;

/* What an earlier test has taught the far host would spare this one the lesson. IPv6 keeps it beside the route, which
 * is made anew. */
static int forget_fn(void *arg)
{
	return fs_write("/proc/sys/net/ipv4/route/flush", "1", NULL);
}

static int setup(void **state)
{
	const struct family *six = &families[DP_V6];

	assert_int_equal(netns_run(far, forget_fn, NULL), 0);
	route_in(far, six->node_net, six->bits, six->router, NULL);
	pod_make_dual(&pod, "pod", families[DP_V4].pod, families[DP_V6].pod, 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&pod);
	return 0;
}

static int forward_fn(void *arg)
{
	int r = fs_write("/proc/sys/net/ipv4/ip_forward", "1", NULL);

	return r < 0 ? r : fs_write("/proc/sys/net/ipv6/conf/all/forwarding", "1", NULL);
}

static void link_mtu(int ns, const char *name, uint32_t mtu)
{
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_link_mtu(nl, ifindex_in(ns, name), mtu);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

/* Made in the host's namespace, then both ends go to their places. */
static void link_between(int a, const char *a_name, int b, const char *b_name)
{
	struct nlmsghdr *h;
	struct nl *nl;

	nl_veth_to(b, a_name, b_name);
	ok(nl_open(NETLINK_ROUTE, &nl, err));
	h = nl_begin(nl, RTM_NEWLINK, 0, "move", 0);
	((struct ifinfomsg *)mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg)))->ifi_index =
		(int)if_nametoindex(a_name);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)a);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static void world_beyond(void)
{
	beyond = ns_new();
	far = ns_new();
	link_between(world.outside, "narrow", beyond, "narrow");
	link_between(beyond, "wide", far, "eth0");
	assert_int_equal(netns_run(world.outside, forward_fn, NULL), 0);
	assert_int_equal(netns_run(beyond, forward_fn, NULL), 0);
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct family *f = &families[i];

		link_setup(world.outside, "narrow", f->near, f->bits);
		link_setup(beyond, "narrow", f->beyond, f->bits);
		link_setup(beyond, "wide", f->router, f->bits);
		link_setup(far, "eth0", f->far, f->bits);
	}
	link_mtu(world.outside, "narrow", NARROW_MTU);
	link_mtu(beyond, "narrow", NARROW_MTU);
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct family *f = &families[i];

		route_in(world_host_ns(), f->far_net, f->bits, f->outside, NULL);
		route_in(world.outside, f->far_net, f->bits, f->beyond, NULL);
		route_in(beyond, f->node_net, f->bits, f->near, NULL);
		route_in(far, f->node_net, f->bits, f->router, NULL);
	}
}

static void pass_many(int from, int to)
{
	_cleanup_free_ char *out = mem_alloc(BYTES), *in = mem_alloc(BYTES);
	size_t sent = 0, got = 0;

	for (size_t i = 0; i < BYTES; i++)
		out[i] = (char)(i % 251);
	while (got < BYTES) {
		ssize_t n = sent < BYTES ? send(from, out + sent, BYTES - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

		sent += n > 0 ? (size_t)n : 0;
		if (!readable(to, WORLD_WAIT_MS))
			fail_msg("only %zu of %d bytes came through", got, BYTES);
		n = recv(to, in + got, BYTES - got, MSG_DONTWAIT);
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_memory_equal(in, out, BYTES);
}

static void expect_mtu(const struct family *f, int socket)
{
	int mtu = 0;
	socklen_t len = sizeof(mtu);

	assert_int_equal(getsockopt(socket, f->level, f->mtu_option, &mtu, &len), 0);
	assert_int_equal(mtu, NARROW_MTU);
}

static void test_masqueraded(void **state)
{
	const struct family *f = *state;
	int server = server_in(far, SOCK_STREAM, f->far, 443), client, conn;
	union any_addr peer;

	assert_int_equal(client_in(pod.ns, SOCK_STREAM, f->far, 443, &client), 0);
	conn = accept_any(server, &peer);
	assert_true(any_is(&peer, f->node, 0));
	pass_many(client, conn);
	expect_mtu(f, client);
	pass_many(conn, client);
	expect_mtu(f, conn);
	close(conn);
	close(client);
	close(server);
}

static void test_node_port(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->pod), 8080 };
	struct dp_service s = { .id = 1,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_TCP,
				.port = 30080,
				.addr = ip(f->any),
				.backends = &to,
				.n_backends = 1 };
	int server = server_in(pod.ns, SOCK_STREAM, f->pod, 8080), client, conn;
	union any_addr peer;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(far, SOCK_STREAM, f->node, 30080, &client), 0);
	conn = accept_any(server, &peer);
	assert_true(any_is(&peer, f->far, 0));
	pass_many(conn, client);
	expect_mtu(f, conn);
	pass_many(client, conn);
	expect_mtu(f, client);
	close(conn);
	close(client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* A pod that was there before the host's own link got narrower goes on: the host says it itself. The next one is made
 * to measure. */
static void test_narrower_uplink(void **state)
{
	int server, client, conn;
	struct test_pod next;
	struct ifreq q = { .ifr_name = "eth0" };

	link_mtu(world_host_ns(), "up0", NARROW_MTU);
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct family *f = &families[i];

		server = server_in(world.outside, SOCK_STREAM, f->outside, 443);
		assert_int_equal(client_in(pod.ns, SOCK_STREAM, f->outside, 443, &client), 0);
		conn = accept_any(server, NULL);
		pass_many(client, conn);
		expect_mtu(f, client);
		close(conn);
		close(client);
		close(server);
	}
	pod_make_dual(&next, "next", "10.42.9.2", "fd42::9:2", 0);
	server = sock_in(next.ns, SOCK_DGRAM);
	assert_int_equal(ioctl(server, SIOCGIFMTU, &q), 0);
	assert_int_equal(q.ifr_mtu, NARROW_MTU);
	close(server);
	pod_drop(&next);
	link_mtu(world_host_ns(), "up0", 1500);
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		{ "test_masqueraded IPv4", test_masqueraded, setup, teardown, &families[DP_V4] },
		{ "test_masqueraded IPv6", test_masqueraded, setup, teardown, &families[DP_V6] },
		{ "test_node_port IPv4", test_node_port, setup, teardown, &families[DP_V4] },
		{ "test_node_port IPv6", test_node_port, setup, teardown, &families[DP_V6] },
		cmocka_unit_test_setup_teardown(test_narrower_uplink, setup, teardown),
	};
	int r;

	world_uplink();
	world_open();
	world_beyond();
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
