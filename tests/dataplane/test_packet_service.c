/* SPDX-License-Identifier: Apache-2.0 */
/* Services for packets that no socket here translated: the clients' sockets are made outside the cgroup that the
 * socket programs watch, as are those of a guest whose packets a pod forwards. And backends on other hosts. */
#include "tests/dataplane/world.h"

struct family {
	const char *node, *outside, *any, *service, *client, *server, *uplink, *far;
	uint8_t far_bits;
	int domain;
};

static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "0.0.0.0", "10.43.0.20", "10.42.1.1", "10.42.1.10", "172.31.0.1", "172.31.0.2",
		    24, AF_INET },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "::", "fd43::20", "fd42::1:1", "fd42::1:10", "fd31::1", "fd31::2", 64,
		    AF_INET6 },
};

static const struct family *f;
static struct test_pod client_pod, server_pod;
static int far; /* another host, beyond another link */

static int setup(void **state)
{
	pod_make_dual(&client_pod, "client", families[DP_V4].client, families[DP_V6].client, 0);
	pod_make_dual(&server_pod, "server", families[DP_V4].server, families[DP_V6].server, 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&client_pod);
	pod_drop(&server_pod);
	return 0;
}

static void enter_cgroup(bool own)
{
	char path[400], pid[32];

	snprintf(path, sizeof(path), "%s%s/cgroup.procs", world.cgroup, own ? "" : "/..");
	snprintf(pid, sizeof(pid), "%d", getpid());
	ok(fs_write(path, pid, err));
}

/* A socket that no program translates. */
static int plain_sock(int ns, int type)
{
	int fd;

	enter_cgroup(false);
	fd = sock_in_domain(ns, f->domain, type, 0);
	enter_cgroup(true);
	return fd;
}

static int plain_client(int ns, int type, const char *addr, uint16_t port, int *ret_fd)
{
	union any_addr to = any_of(addr, port);

	*ret_fd = plain_sock(ns, type);
	return connect(*ret_fd, &to.sa, any_len(&to)) < 0 ? -errno : 0;
}

static struct dp_service frontend(uint8_t kind, uint8_t proto, const char *addr, uint16_t port,
				  const struct dp_backend *b)
{
	return (struct dp_service){ .id = port,
				    .kind = kind,
				    .proto = proto,
				    .addr = ip(addr),
				    .port = port,
				    .backends = b,
				    .n_backends = b ? 1 : 0 };
}

/* A connection from `ns` to the frontend, seen by the server as from `as`. */
static void talk_tcp(int ns, const char *addr, uint16_t port, int server, const char *as)
{
	union any_addr peer;
	int client, conn;

	if (plain_client(ns, SOCK_STREAM, addr, port, &client) < 0)
		fail_msg("connect to %s:%u: %s", addr, port, strerror(errno));
	conn = accept_any(server, &peer);
	if (!any_is(&peer, as, 0))
		fail_msg("the server does not see %s", as);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	pass_bulk(conn, client);
	close(conn);
	close(client);
}

static void talk_udp(int ns, const char *addr, uint16_t port, int server, const char *as, size_t bytes)
{
	_cleanup_free_ char *big = mem_alloc(bytes), *back = mem_alloc(bytes);
	union any_addr peer, from, to = any_of(addr, port);
	socklen_t len = sizeof(peer);
	int client = plain_sock(ns, SOCK_DGRAM);

	memset(big, 'u', bytes);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sendto(client, big, bytes, 0, &to.sa, any_len(&to)), bytes);
		len = sizeof(peer);
		assert_int_equal(recvfrom(server, back, bytes, 0, &peer.sa, &len), bytes);
		assert_true(any_is(&peer, as, 0));
		assert_int_equal(sendto(server, big, bytes, 0, &peer.sa, len), bytes);
		len = sizeof(from);
		assert_int_equal(recvfrom(client, back, bytes, 0, &from.sa, &len), bytes);
		assert_true(any_is(&from, addr, port));
	}
	close(client);
}

static void test_between_pods(void **state)
{
	struct dp_backend t = { ip(f->server), 8080 }, u = { ip(f->server), 5353 };
	struct dp_service tcp = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 80, &t);
	struct dp_service udp = frontend(DP_CLUSTER_IP, IPPROTO_UDP, f->service, 53, &u);
	int ts = server_in(server_pod.ns, SOCK_STREAM, f->server, 8080);
	int us = server_in(server_pod.ns, SOCK_DGRAM, f->server, 5353);

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++)
		talk_tcp(client_pod.ns, f->service, 80, ts, f->client);
	talk_udp(client_pod.ns, f->service, 53, us, f->client, 10);
	talk_udp(client_pod.ns, f->service, 53, us, f->client, 5000); /* in fragments */
	close(ts);
	close(us);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

static void test_policy_sees_the_backend(void **state)
{
	struct dp_backend b = { ip(f->server), 8080 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 80, &b);
	struct dp_policy_rule out = {
		.direction = DP_EGRESS, .prefix = ip(f->server), .prefix_len = 128, .proto = IPPROTO_TCP
	};
	struct dp_policy policy = { .pod = ip(f->client), .isolated_egress = true, .isolated_ingress = true };
	int server = server_in(server_pod.ns, SOCK_STREAM, f->server, 8080),
	    fd = plain_sock(client_pod.ns, SOCK_STREAM);
	union any_addr to = any_of(f->service, 80);
	uint64_t before = drops("policy-egress");

	out.port = 8080;
	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_policy_set(world.dp, &policy, err));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	connect(fd, &to.sa, any_len(&to));
	await_drop("policy-egress", before);
	close(fd);
	policy.rules = &out;
	policy.n_rules = 1;
	ok(dataplane_policy_set(world.dp, &policy, err));
	talk_tcp(client_pod.ns, f->service, 80, server, f->client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_host_backend(void **state)
{
	struct dp_backend b = { ip(f->node), 6443 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 443, &b);
	int server = server_in(world_host_ns(), SOCK_STREAM, f->node, 6443);

	ok(dataplane_service_set(world.dp, &s, err));
	talk_tcp(client_pod.ns, f->service, 443, server, f->client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_node_port(void **state)
{
	struct dp_backend b = { ip(f->server), 8080 };
	struct dp_service s = frontend(DP_NODE_PORT, IPPROTO_TCP, f->any, 30080, &b);
	int server = server_in(server_pod.ns, SOCK_STREAM, f->server, 8080);

	ok(dataplane_service_set(world.dp, &s, err));
	talk_tcp(client_pod.ns, f->node, 30080, server, f->client);
	talk_tcp(server_pod.ns, f->node, 30080, server, f->node);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* A pod's own service: it sees the service as the client, and nothing keeps it from itself. */
static void test_hairpin(void **state)
{
	struct dp_backend t = { ip(f->client), 8080 }, u = { ip(f->client), 5353 };
	struct dp_service tcp = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 80, &t);
	struct dp_service udp = frontend(DP_CLUSTER_IP, IPPROTO_UDP, f->service, 53, &u);
	struct dp_policy policy = { .pod = ip(f->client), .isolated_egress = true, .isolated_ingress = true };
	int ts = server_in(client_pod.ns, SOCK_STREAM, f->client, 8080);
	int us = server_in(client_pod.ns, SOCK_DGRAM, f->client, 5353);

	ok(dataplane_policy_set(world.dp, &policy, err));
	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++)
		talk_tcp(client_pod.ns, f->service, 80, ts, f->service);
	talk_udp(client_pod.ns, f->service, 53, us, f->service, 10);
	close(ts);
	close(us);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

static void test_refused(void **state)
{
	struct dp_backend b = { ip(f->server), 5354 };
	struct dp_service udp = frontend(DP_CLUSTER_IP, IPPROTO_UDP, f->service, 53, &b);
	struct dp_service none = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 81, NULL);
	uint64_t before = drops("no-service-backend");
	char c;
	int fd;

	ok(dataplane_service_set(world.dp, &udp, err));
	ok(dataplane_service_set(world.dp, &none, err));
	/* what the backend says about the datagram comes from the service */
	assert_int_equal(plain_client(client_pod.ns, SOCK_DGRAM, f->service, 53, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	assert_int_equal(plain_client(client_pod.ns, SOCK_STREAM, f->service, 81, &fd),
			 f->domain == AF_INET ? -EHOSTUNREACH : -ENETUNREACH);
	assert_true(drops("no-service-backend") > before);
	close(fd);
	ok(dataplane_service_delete(world.dp, &udp, err));
	ok(dataplane_service_delete(world.dp, &none, err));
}

static void test_source_ranges(void **state)
{
	struct dp_backend b = { ip(f->server), 8080 };
	struct dp_service s = frontend(DP_LOAD_BALANCER, IPPROTO_TCP, f->node, 443, &b);
	struct dp_net range = { ip(f->outside), 128 };
	int server = server_in(server_pod.ns, SOCK_STREAM, f->server, 8080),
	    fd = plain_sock(client_pod.ns, SOCK_STREAM);
	union any_addr to = any_of(f->node, 443);
	uint64_t before = drops("source-range");

	s.sources = &range;
	s.n_sources = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	connect(fd, &to.sa, any_len(&to));
	await_drop("source-range", before);
	close(fd);
	range = (struct dp_net){ ip(f->client), 128 };
	ok(dataplane_service_set(world.dp, &s, err));
	talk_tcp(client_pod.ns, f->node, 443, server, f->client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int sysctl_forward(void *arg)
{
	return fs_write("/proc/sys/net/ipv4/ip_forward", "1", NULL);
}

static void route_to(int ns, const char *dst, const char *gateway, const char *link)
{
	struct dp_addr d = ip(dst), g = ip(gateway ? gateway : "0.0.0.0");
	struct k3c_addr dk = dp_addr_in(&d), gk = dp_addr_in(&g);
	struct nlmsghdr *h;
	struct rtmsg *t;
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	h = nl_begin(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, "route", 0);
	t = mnl_nlmsg_put_extra_header(h, sizeof(*t));
	*t = (struct rtmsg){ .rtm_family = AF_INET,
			     .rtm_dst_len = dk.w[3] ? 32 : 0,
			     .rtm_table = RT_TABLE_MAIN,
			     .rtm_protocol = RTPROT_STATIC,
			     .rtm_type = RTN_UNICAST,
			     .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK };
	if (dk.w[3])
		mnl_attr_put_u32(h, RTA_DST, dk.w[3]);
	if (gateway)
		mnl_attr_put_u32(h, RTA_GATEWAY, gk.w[3]);
	mnl_attr_put_u32(h, RTA_OIF, (uint32_t)ifindex_in(ns, link));
	ok(nl_commit(nl, err));
	nl_close(nl);
}

/* The host end of the pod's veth. */
static void neighbour_of(int ns, const char *addr)
{
	static const uint8_t host_mac[6] = { 0x02, 0x6b, 0x33, 0x63, 0x00, 0x01 };
	struct dp_addr a = ip(addr);
	struct k3c_addr k = dp_addr_in(&a);
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_neighbour(nl, ifindex_in(ns, "eth0"), &k, host_mac);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static int veth_into(void *arg)
{
	nl_veth_to(*(int *)arg, "guest0", "eth0");
	return 0;
}

static int drop_address(void *arg)
{
	struct dp_addr a = ip(arg);
	struct k3c_addr k = dp_addr_in(&a);
	struct ifaddrmsg *m;
	struct nlmsghdr *h;
	struct nl *nl;

	ok(nl_open(NETLINK_ROUTE, &nl, err));
	h = nl_begin(nl, RTM_DELADDR, 0, "address", 0);
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	*m = (struct ifaddrmsg){ .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = if_nametoindex("eth0") };
	mnl_attr_put_u32(h, IFA_LOCAL, k.w[3]);
	ok(nl_commit(nl, err));
	nl_close(nl);
	return 0;
}

/* A sandbox inside the pod has the pod's address; the pod only forwards. */
static void test_nested_namespace(void **state)
{
	struct dp_backend b = { ip(server_pod.addr), 8080 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 80, &b);
	int server, guest;

	if (f->domain != AF_INET) /* nothing in the way of a packet depends on who made it */
		return;
	server = server_in(server_pod.ns, SOCK_STREAM, server_pod.addr, 8080);
	guest = ns_new();
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(netns_run(client_pod.ns, veth_into, &guest), 0);
	assert_int_equal(netns_run(client_pod.ns, sysctl_forward, NULL), 0);
	assert_int_equal(netns_run(client_pod.ns, drop_address, client_pod.addr), 0);
	link_setup(client_pod.ns, "guest0", "192.168.77.1", 24);
	link_setup(guest, "eth0", client_pod.addr, 32);
	route_to(guest, "192.168.77.1", NULL, "eth0");
	route_to(guest, "0.0.0.0", "192.168.77.1", "eth0");
	route_to(client_pod.ns, client_pod.addr, NULL, "guest0");
	/* the address went, and with it what was set up by it */
	neighbour_of(client_pod.ns, "169.254.1.1");
	route_to(client_pod.ns, "169.254.1.1", NULL, "eth0");
	route_to(client_pod.ns, "0.0.0.0", "169.254.1.1", "eth0");
	talk_tcp(guest, f->service, 80, server, client_pod.addr);
	close(guest);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* ---- backends on other hosts ---- */

static void far_host(void)
{
	far = ns_new();
	nl_veth_to(far, "up1", "eth0");
	for (f = families; f < families + DP_FAMILIES; f++) {
		link_setup(world_host_ns(), "up1", f->uplink, f->far_bits);
		link_setup(far, "eth0", f->far, f->far_bits);
	}
	/* it knows no way to the client: answers come only by the node */
	ok(dataplane_links_process(world.dp, err));
}

static void test_remote_from_pod(void **state)
{
	struct dp_backend b = { ip(f->far), 8080 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, f->service, 80, &b);
	int server = server_in(far, SOCK_STREAM, f->far, 8080), client, conn;
	union any_addr peer;

	ok(dataplane_service_set(world.dp, &s, err));
	/* at the socket, */
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->service, 80, &client), 0);
	conn = accept_any(server, &peer);
	assert_true(any_is(&peer, f->uplink, 0));
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	/* and by packet */
	talk_tcp(client_pod.ns, f->service, 80, server, f->uplink);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_remote_from_outside(void **state)
{
	struct dp_backend t = { ip(f->far), 8080 }, u = { ip(f->far), 5353 };
	struct dp_service tcp = frontend(DP_NODE_PORT, IPPROTO_TCP, f->any, 30080, &t);
	struct dp_service udp = frontend(DP_NODE_PORT, IPPROTO_UDP, f->any, 30053, &u);
	int ts = server_in(far, SOCK_STREAM, f->far, 8080), us = server_in(far, SOCK_DGRAM, f->far, 5353);

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++)
		talk_tcp(world.outside, f->node, 30080, ts, f->uplink);
	talk_udp(world.outside, f->node, 30053, us, f->uplink, 10);
	close(ts);
	close(us);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_between_pods, setup, teardown),
		cmocka_unit_test_setup_teardown(test_policy_sees_the_backend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_backend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hairpin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_source_ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nested_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remote_from_pod, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remote_from_outside, setup, teardown),
	};
	int r;

	world_uplink();
	world_open();
	far_host();
	for (f = families, r = 0; f < families + DP_FAMILIES; f++)
		r += cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
