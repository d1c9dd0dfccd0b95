/* SPDX-License-Identifier: Apache-2.0 */
/* Services for packets that no socket here translated: the clients' sockets are made outside the cgroup that the
 * socket programs watch, as are those of a guest whose packets a pod forwards. And backends on other hosts. */
#include "tests/dataplane/world.h"

#define SERVICE_IP "10.43.0.20"
#define FAR_IP "172.31.0.2"

static struct test_pod client_pod, server_pod;
static int far; /* another host, beyond another link */

static int setup(void **state)
{
	pod_make(&client_pod, "client", "10.42.1.1", 0);
	pod_make(&server_pod, "server", "10.42.1.10", 0);
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
	fd = sock_in(ns, type);
	enter_cgroup(true);
	return fd;
}

static int plain_client(int ns, int type, const char *addr, uint16_t port, int *ret_fd)
{
	struct sockaddr_in to = sin_of(addr, port);

	*ret_fd = plain_sock(ns, type);
	return connect(*ret_fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
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
	char big[60000], back[60000];
	struct sockaddr_in peer;
	int client, conn;
	size_t got = 0;

	if (plain_client(ns, SOCK_STREAM, addr, port, &client) < 0)
		fail_msg("connect to %s:%u: %s", addr, port, strerror(errno));
	conn = accept_from(server, &peer);
	if (!addr_is(&peer, as, 0))
		fail_msg("the server sees %s, not %s", inet_ntoa(peer.sin_addr), as);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	memset(big, 'x', sizeof(big));
	assert_int_equal(send(conn, big, sizeof(big), 0), sizeof(big));
	while (got < sizeof(back)) {
		ssize_t n = recv(client, back + got, sizeof(back) - got, 0);

		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_memory_equal(big, back, sizeof(big));
	close(conn);
	close(client);
}

static void talk_udp(int ns, const char *addr, uint16_t port, int server, const char *as, size_t bytes)
{
	_cleanup_free_ char *big = mem_alloc(bytes), *back = mem_alloc(bytes);
	struct sockaddr_in peer, from, to = sin_of(addr, port);
	socklen_t len = sizeof(peer);
	int client = plain_sock(ns, SOCK_DGRAM);

	memset(big, 'u', bytes);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sendto(client, big, bytes, 0, (struct sockaddr *)&to, sizeof(to)), bytes);
		len = sizeof(peer);
		assert_int_equal(recvfrom(server, back, bytes, 0, (struct sockaddr *)&peer, &len), bytes);
		assert_true(addr_is(&peer, as, 0));
		assert_int_equal(sendto(server, big, bytes, 0, (struct sockaddr *)&peer, len), bytes);
		len = sizeof(from);
		assert_int_equal(recvfrom(client, back, bytes, 0, (struct sockaddr *)&from, &len), bytes);
		assert_true(addr_is(&from, addr, port));
	}
	close(client);
}

static void test_between_pods(void **state)
{
	struct dp_backend t = { ip(server_pod.addr), 8080 }, u = { ip(server_pod.addr), 5353 };
	struct dp_service tcp = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 80, &t);
	struct dp_service udp = frontend(DP_CLUSTER_IP, IPPROTO_UDP, SERVICE_IP, 53, &u);
	int ts = server_in(server_pod.ns, SOCK_STREAM, server_pod.addr, 8080);
	int us = server_in(server_pod.ns, SOCK_DGRAM, server_pod.addr, 5353);

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++)
		talk_tcp(client_pod.ns, SERVICE_IP, 80, ts, client_pod.addr);
	talk_udp(client_pod.ns, SERVICE_IP, 53, us, client_pod.addr, 10);
	talk_udp(client_pod.ns, SERVICE_IP, 53, us, client_pod.addr, 5000); /* in fragments */
	close(ts);
	close(us);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

static void test_policy_sees_the_backend(void **state)
{
	struct dp_backend b = { ip(server_pod.addr), 8080 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 80, &b);
	struct dp_policy_rule out = {
		.direction = DP_EGRESS, .prefix = ip(server_pod.addr), .prefix_len = 128, .proto = IPPROTO_TCP
	};
	struct dp_policy policy = { .pod = ip(client_pod.addr), .isolated_egress = true, .isolated_ingress = true };
	int server = server_in(server_pod.ns, SOCK_STREAM, server_pod.addr, 8080),
	    fd = plain_sock(client_pod.ns, SOCK_STREAM);
	struct sockaddr_in to = sin_of(SERVICE_IP, 80);
	uint64_t before = drops("policy-egress");

	out.port = 8080;
	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_policy_set(world.dp, &policy, err));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	connect(fd, (struct sockaddr *)&to, sizeof(to));
	await_drop("policy-egress", before);
	close(fd);
	policy.rules = &out;
	policy.n_rules = 1;
	ok(dataplane_policy_set(world.dp, &policy, err));
	talk_tcp(client_pod.ns, SERVICE_IP, 80, server, client_pod.addr);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_host_backend(void **state)
{
	struct dp_backend b = { ip(NODE_IP), 6443 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 443, &b);
	int server = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 6443);

	ok(dataplane_service_set(world.dp, &s, err));
	talk_tcp(client_pod.ns, SERVICE_IP, 443, server, client_pod.addr);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_node_port(void **state)
{
	struct dp_backend b = { ip(server_pod.addr), 8080 };
	struct dp_service s = frontend(DP_NODE_PORT, IPPROTO_TCP, "0.0.0.0", 30080, &b);
	int server = server_in(server_pod.ns, SOCK_STREAM, server_pod.addr, 8080);

	ok(dataplane_service_set(world.dp, &s, err));
	talk_tcp(client_pod.ns, NODE_IP, 30080, server, client_pod.addr);
	talk_tcp(server_pod.ns, NODE_IP, 30080, server, NODE_IP);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* A pod's own service: it sees the service as the client, and nothing keeps it from itself. */
static void test_hairpin(void **state)
{
	struct dp_backend t = { ip(client_pod.addr), 8080 }, u = { ip(client_pod.addr), 5353 };
	struct dp_service tcp = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 80, &t);
	struct dp_service udp = frontend(DP_CLUSTER_IP, IPPROTO_UDP, SERVICE_IP, 53, &u);
	struct dp_policy policy = { .pod = ip(client_pod.addr), .isolated_egress = true, .isolated_ingress = true };
	int ts = server_in(client_pod.ns, SOCK_STREAM, client_pod.addr, 8080);
	int us = server_in(client_pod.ns, SOCK_DGRAM, client_pod.addr, 5353);

	ok(dataplane_policy_set(world.dp, &policy, err));
	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++)
		talk_tcp(client_pod.ns, SERVICE_IP, 80, ts, SERVICE_IP);
	talk_udp(client_pod.ns, SERVICE_IP, 53, us, SERVICE_IP, 10);
	close(ts);
	close(us);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

static void test_refused(void **state)
{
	struct dp_backend b = { ip(server_pod.addr), 5354 };
	struct dp_service udp = frontend(DP_CLUSTER_IP, IPPROTO_UDP, SERVICE_IP, 53, &b);
	struct dp_service none = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 81, NULL);
	uint64_t before = drops("no-service-backend");
	char c;
	int fd;

	ok(dataplane_service_set(world.dp, &udp, err));
	ok(dataplane_service_set(world.dp, &none, err));
	/* what the backend says about the datagram comes from the service */
	assert_int_equal(plain_client(client_pod.ns, SOCK_DGRAM, SERVICE_IP, 53, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	assert_int_equal(plain_client(client_pod.ns, SOCK_STREAM, SERVICE_IP, 81, &fd), -EHOSTUNREACH);
	assert_true(drops("no-service-backend") > before);
	close(fd);
	ok(dataplane_service_delete(world.dp, &udp, err));
	ok(dataplane_service_delete(world.dp, &none, err));
}

static void test_source_ranges(void **state)
{
	struct dp_backend b = { ip(server_pod.addr), 8080 };
	struct dp_service s = frontend(DP_LOAD_BALANCER, IPPROTO_TCP, NODE_IP, 443, &b);
	struct dp_net range = { ip("192.168.0.0"), 96 + 16 };
	int server = server_in(server_pod.ns, SOCK_STREAM, server_pod.addr, 8080),
	    fd = plain_sock(client_pod.ns, SOCK_STREAM);
	struct sockaddr_in to = sin_of(NODE_IP, 443);
	uint64_t before = drops("source-range");

	s.sources = &range;
	s.n_sources = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	connect(fd, (struct sockaddr *)&to, sizeof(to));
	await_drop("source-range", before);
	close(fd);
	range = (struct dp_net){ ip(client_pod.addr), 128 };
	ok(dataplane_service_set(world.dp, &s, err));
	talk_tcp(client_pod.ns, NODE_IP, 443, server, client_pod.addr);
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
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 80, &b);
	int server = server_in(server_pod.ns, SOCK_STREAM, server_pod.addr, 8080), guest = ns_new();

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
	talk_tcp(guest, SERVICE_IP, 80, server, client_pod.addr);
	close(guest);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* ---- backends on other hosts ---- */

static void far_host(void)
{
	far = ns_new();
	nl_veth_to(far, "up1", "eth0");
	link_setup(world_host_ns(), "up1", "172.31.0.1", 24);
	link_setup(far, "eth0", FAR_IP, 24);
	/* it knows no way to the client: answers come only by the node */
	ok(dataplane_links_process(world.dp, err));
}

static void test_remote_from_pod(void **state)
{
	struct dp_backend b = { ip(FAR_IP), 8080 };
	struct dp_service s = frontend(DP_CLUSTER_IP, IPPROTO_TCP, SERVICE_IP, 80, &b);
	int server = server_in(far, SOCK_STREAM, FAR_IP, 8080), client, conn;
	struct sockaddr_in peer;

	ok(dataplane_service_set(world.dp, &s, err));
	/* at the socket, */
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, SERVICE_IP, 80, &client), 0);
	conn = accept_from(server, &peer);
	assert_true(addr_is(&peer, "172.31.0.1", 0));
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	/* and by packet */
	talk_tcp(client_pod.ns, SERVICE_IP, 80, server, "172.31.0.1");
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_remote_from_outside(void **state)
{
	struct dp_backend t = { ip(FAR_IP), 8080 }, u = { ip(FAR_IP), 5353 };
	struct dp_service tcp = frontend(DP_NODE_PORT, IPPROTO_TCP, "0.0.0.0", 30080, &t);
	struct dp_service udp = frontend(DP_NODE_PORT, IPPROTO_UDP, "0.0.0.0", 30053, &u);
	int ts = server_in(far, SOCK_STREAM, FAR_IP, 8080), us = server_in(far, SOCK_DGRAM, FAR_IP, 5353);

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++)
		talk_tcp(world.outside, NODE_IP, 30080, ts, "172.31.0.1");
	talk_udp(world.outside, NODE_IP, 30053, us, "172.31.0.1", 10);
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
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
