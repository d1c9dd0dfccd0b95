/* SPDX-License-Identifier: Apache-2.0 */
/* A host outside that knows ways here: to pods, whose answers must not be taken for those of a service's flow from the
 * same port, and to addresses of services that are not the node's, where it is refused in their name. */
#include "tests/dataplane/nat.h"

#define OUTSIDERS_PORT 40000
#define OUTSIDERS_FRONTEND 31000

static const struct outsider {
	const char *node, *outside, *pod, *any, *foreign;
} outsiders[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "10.42.7.1", "0.0.0.0", "203.0.113.7" },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "fd42::7:1", "::", "2001:db8:ee::7" },
};

static const struct outsider *o;
static struct test_pod pod;

static int setup(void **state)
{
	pod_make_dual(&pod, "pod", outsiders[DP_V4].pod, outsiders[DP_V6].pod, 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&pod);
	return 0;
}

static void default_route(const char *gateway)
{
	struct dp_addr g = ip(gateway);
	struct nl_route r = {
		.family = text_is_v6(gateway) ? AF_INET6 : AF_INET,
		.type = RTN_UNICAST,
		.ifindex = ifindex_in(world.outside, "eth0"),
		.gateway = dp_addr_in(&g),
	};
	struct nl *nl;
	int fd;

	if (r.family == AF_INET)
		r.dst = dp_addr_v4(0);
	assert_int_equal(netns_socket(world.outside, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_route(nl, RTM_NEWROUTE, &r, 0);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static struct dp_service frontend(uint8_t kind, const char *addr, uint8_t proto, const struct dp_backend *b)
{
	return (struct dp_service){ .id = proto,
				    .kind = kind,
				    .proto = proto,
				    .addr = ip(addr),
				    .port = OUTSIDERS_FRONTEND,
				    .backends = b,
				    .n_backends = b ? 1 : 0 };
}

/* From the one port, whatever else uses it. */
static int client_to(int type, const char *addr, uint16_t port)
{
	union any_addr from = any_of(o->outside, OUTSIDERS_PORT), to = any_of(addr, port);
	int fd = sock_in_domain(world.outside, from.sa.sa_family, type, 0);
	struct linger reset = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (bind(fd, &from.sa, any_len(&from)) < 0 || connect(fd, &to.sa, any_len(&to)) < 0)
		fail_msg("%s:%u: %s", addr, port, strerror(errno));
	return fd;
}

/* The pod sees two connections from different ports; they go on and end by themselves. */
static void two_connections(const char *first, uint16_t first_port, const char *second, uint16_t second_port)
{
	int server = server_in(pod.ns, SOCK_STREAM, o->pod, 8080);
	int a = client_to(SOCK_STREAM, first, first_port), b, at_a, at_b;
	union any_addr peer;
	uint16_t first_seen;

	at_a = accept_any(server, &peer);
	assert_true(any_is(&peer, o->outside, 0));
	first_seen = any_port(&peer);
	b = client_to(SOCK_STREAM, second, second_port);
	at_b = accept_any(server, &peer);
	assert_true(any_is(&peer, o->outside, 0));
	assert_int_not_equal(any_port(&peer), first_seen);
	for (int i = 0; i < 2; i++) {
		pass_bytes(a, at_a, "first");
		pass_bytes(b, at_b, "second");
		pass_bytes(at_b, b, "to the second");
		pass_bytes(at_a, a, "to the first");
	}
	close(a);
	assert_true(recv(at_a, &(char){ 0 }, 1, 0) <= 0);
	pass_bytes(at_b, b, "still there");
	close(b);
	assert_true(recv(at_b, &(char){ 0 }, 1, 0) <= 0);
	close(at_a);
	close(at_b);
	close(server);
}

static void test_straight(void **state)
{
	struct dp_backend b = { ip(o->pod), 8080 };
	struct dp_service s = frontend(DP_NODE_PORT, o->any, IPPROTO_TCP, &b);

	ok(dataplane_service_set(world.dp, &s, err));
	two_connections(o->node, OUTSIDERS_FRONTEND, o->pod, 8080);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_straight_first(void **state)
{
	struct dp_backend b = { ip(o->pod), 8080 };
	struct dp_service s = frontend(DP_NODE_PORT, o->any, IPPROTO_TCP, &b);

	ok(dataplane_service_set(world.dp, &s, err));
	two_connections(o->pod, 8080, o->node, OUTSIDERS_FRONTEND);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void ask(int fd, int server, union any_addr *ret_peer)
{
	socklen_t len = sizeof(*ret_peer);
	char buf[16];

	assert_int_equal(send(fd, "ask", 3, 0), 3);
	assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &ret_peer->sa, &len), 3);
	assert_true(any_is(ret_peer, o->outside, 0));
	assert_int_equal(sendto(server, "answer", 6, 0, &ret_peer->sa, len), 6);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 6);
}

/* The other one goes on when the service's flow is forgotten. */
static void test_straight_udp(void **state)
{
	struct dp_backend b = { ip(o->pod), 5353 };
	struct dp_service s = frontend(DP_NODE_PORT, o->any, IPPROTO_UDP, &b);
	int server = server_in(pod.ns, SOCK_DGRAM, o->pod, 5353), by_service, straight;
	struct dp_addr from = ip(o->outside);
	struct k3c_nat_key key = {
		.src = dp_addr_in(&b.addr),
		.sport = htons(5353),
		.dst = dp_addr_in(&from),
		.dport = htons(OUTSIDERS_PORT),
		.proto = IPPROTO_UDP,
		.kind = K3C_NAT_OUT,
	};
	union any_addr first, second, again;
	struct k3c_nat n;

	ok(dataplane_service_set(world.dp, &s, err));
	by_service = client_to(SOCK_DGRAM, o->node, OUTSIDERS_FRONTEND);
	straight = client_to(SOCK_DGRAM, o->pod, 5353);
	for (int i = 0; i < 2; i++) {
		ask(by_service, server, &first);
		ask(straight, server, &second);
	}
	assert_int_equal(any_port(&first), OUTSIDERS_PORT);
	assert_int_not_equal(any_port(&second), OUTSIDERS_PORT);
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_flows_check(world.dp, &b, 1, err));
	for (int i = 0; i < WORLD_WAIT_MS / 10 && nat_get(&key, &n); i++)
		usleep(10000);
	assert_false(nat_get(&key, &n));
	ask(straight, server, &again);
	assert_int_equal(any_port(&again), any_port(&second));
	close(by_service);
	close(straight);
	close(server);
}

static void test_refused(void **state)
{
	struct dp_backend b = { ip(o->pod), 8080 };
	struct dp_service tcp = frontend(DP_EXTERNAL, o->foreign, IPPROTO_TCP, NULL);
	struct dp_service udp = frontend(DP_EXTERNAL, o->foreign, IPPROTO_UDP, NULL);
	int server = server_in(pod.ns, SOCK_STREAM, o->pod, 8080), fd;
	char c;

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(client_in(world.outside, SOCK_STREAM, o->foreign, OUTSIDERS_FRONTEND, &fd),
				 -ECONNREFUSED);
		close(fd);
	}
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, o->foreign, OUTSIDERS_FRONTEND, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	/* there is somebody now */
	tcp.backends = &b;
	tcp.n_backends = 1;
	ok(dataplane_service_set(world.dp, &tcp, err));
	fd = client_to(SOCK_STREAM, o->foreign, OUTSIDERS_FRONTEND);
	close(accept_any(server, NULL));
	close(fd);
	close(server);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

/* A connection that nobody knows any more ends in the name of the address: its client is told, and waits no longer. */
static void test_forgotten(void **state)
{
	struct dp_backend b = { ip(o->pod), 8080 };
	struct dp_service tcp = frontend(DP_EXTERNAL, o->foreign, IPPROTO_TCP, &b);
	int server = server_in(pod.ns, SOCK_STREAM, o->pod, 8080), fd, conn;
	char c;

	ok(dataplane_service_set(world.dp, &tcp, err));
	fd = client_to(SOCK_STREAM, o->foreign, OUTSIDERS_FRONTEND);
	conn = accept_any(server, NULL);
	pass_bytes(fd, conn, "ask");
	pass_bytes(conn, fd, "answer");
	nat_clear();
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
	/* the next one is served */
	fd = client_to(SOCK_STREAM, o->foreign, OUTSIDERS_FRONTEND);
	close(conn);
	conn = accept_any(server, NULL);
	pass_bytes(fd, conn, "ask");
	pass_bytes(conn, fd, "answer");
	close(fd);
	close(conn);
	close(server);
	ok(dataplane_service_delete(world.dp, &tcp, err));
}

static void test_refused_sctp(void **state)
{
	struct dp_service s = frontend(DP_EXTERNAL, o->foreign, IPPROTO_SCTP, NULL);
	union any_addr to = any_of(o->foreign, OUTSIDERS_FRONTEND);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP);

	if (fd < 0) {
		print_message("no SCTP sockets here\n");
		return;
	}
	close(fd);
	ok(dataplane_service_set(world.dp, &s, err));
	fd = sock_in_domain(world.outside, to.sa.sa_family, SOCK_STREAM, IPPROTO_SCTP);
	assert_int_equal(connect(fd, &to.sa, any_len(&to)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* Nobody of this node for outsiders: a balancer is to look elsewhere. */
static void test_silent(void **state)
{
	struct dp_backend b = { ip(o->pod), 8080 };
	struct dp_service s = frontend(DP_EXTERNAL, o->foreign, IPPROTO_TCP, &b);
	union any_addr to = any_of(o->foreign, OUTSIDERS_FRONTEND);
	int fd = sock_in_domain(world.outside, to.sa.sa_family, SOCK_STREAM, 0);
	uint64_t before = drops("no-service-backend");

	s.outside_differs = true;
	ok(dataplane_service_set(world.dp, &s, err));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(fd, &to.sa, any_len(&to)), -1);
	await_drop("no-service-backend", before);
	assert_false(readable(fd, 0));
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_straight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_straight_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_straight_udp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_sctp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent, setup, teardown),
	};
	int r = 0;

	world_uplink();
	world_open();
	for (o = outsiders; o < outsiders + DP_FAMILIES; o++) {
		default_route(o->node);
		r += cmocka_run_group_tests(all, NULL, NULL);
	}
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
