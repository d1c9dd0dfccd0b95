/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of vanished backends are told, many backends in one pass, wherever the sockets are; what is connected
 * elsewhere, or came there by another way than the one that is no more, is left alone. */
#include "tests/dataplane/nat.h"

#include "bpf/include/service.h"

#define PODS 3

struct family {
	const char *node, *any, *service, *client, *nobody, *pods[PODS];
	int domain;
};

static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP,
		    "0.0.0.0",
		    "10.43.0.20",
		    "10.42.1.1",
		    "10.42.200.1",
		    { "10.42.1.10", "10.42.1.11", "10.42.1.12" },
		    AF_INET },
	[DP_V6] = { NODE_IP6,
		    "::",
		    "fd43::20",
		    "fd42::1:1",
		    "fd42::c8:1",
		    { "fd42::1:10", "fd42::1:11", "fd42::1:12" },
		    AF_INET6 },
};

static const struct family *f;
static struct test_pod client_pod, pods[PODS];

static int setup(void **state)
{
	pod_make_dual(&client_pod, "client", families[DP_V4].client, families[DP_V6].client, 0);
	for (int i = 0; i < PODS; i++) {
		char key[16];

		snprintf(key, sizeof(key), "backend-%d", i);
		pod_make_dual(&pods[i], key, families[DP_V4].pods[i], families[DP_V6].pods[i], 0);
	}
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < PODS; i++)
		pod_drop(&pods[i]);
	pod_drop(&client_pod);
	return 0;
}

static struct dp_service cluster_ip(uint8_t proto, uint16_t port, const struct dp_backend *b, size_t n)
{
	return (struct dp_service){ .id = port,
				    .kind = DP_CLUSTER_IP,
				    .proto = proto,
				    .addr = ip(f->service),
				    .port = port,
				    .backends = b,
				    .n_backends = n };
}

static int mapped_client(int ns, int type, const char *addr, uint16_t port)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct dp_addr a = ip(addr);
	int fd = sock_in_domain(ns, AF_INET6, type, 0);

	memcpy(&to.sin6_addr, a.b, 16);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void assert_told(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	close(fd);
}

static void test_many_at_once(void **state)
{
	struct dp_backend gone[40];
	int ns[] = { client_pod.ns, world_host_ns(), pods[2].ns }, told[ARRAY_SIZE(ns)][3], kept[ARRAY_SIZE(ns)];
	int servers[PODS];

	for (int i = 0; i < PODS; i++)
		servers[i] = server_in(pods[i].ns, SOCK_DGRAM, f->pods[i], 5353);
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
		gone[i] = (struct dp_backend){ ip(f->nobody), 5353 };
		gone[i].addr.b[15] = (uint8_t)i;
	}
	gone[7] = (struct dp_backend){ ip(f->pods[0]), 5353 };
	gone[33] = (struct dp_backend){ ip(f->pods[1]), 0 }; /* every port */
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++) {
		assert_int_equal(client_in(ns[n], SOCK_DGRAM, f->pods[0], 5353, &told[n][0]), 0);
		assert_int_equal(client_in(ns[n], SOCK_DGRAM, f->pods[1], 777, &told[n][1]), 0);
		told[n][2] = mapped_client(ns[n], SOCK_DGRAM, f->pods[0], 5353);
		assert_int_equal(client_in(ns[n], SOCK_DGRAM, f->pods[0], 5354, &kept[n]), 0);
	}
	ok(dataplane_backends_gone(world.dp, gone, ARRAY_SIZE(gone), IPPROTO_UDP, err));
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++)
		for (int i = 0; i < 3; i++)
			assert_told(told[n][i]);
	sockets_finish(world.dp);
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++) {
		union any_addr peer;
		socklen_t len = sizeof(peer);

		assert_int_equal(getpeername(kept[n], &peer.sa, &len), 0);
		close(kept[n]);
	}
	for (int i = 0; i < PODS; i++)
		close(servers[i]);
}

static void test_tcp(void **state)
{
	int server = server_in(pods[0].ns, SOCK_STREAM, f->pods[0], 8080), plain, mapped, other, a, b, c;
	struct dp_backend gone = { ip(f->pods[0]), 8080 }, udp = gone;
	int server2 = server_in(pods[1].ns, SOCK_STREAM, f->pods[1], 8080);

	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->pods[0], 8080, &plain), 0);
	a = accept_any(server, NULL);
	mapped = mapped_client(world_host_ns(), SOCK_STREAM, f->pods[0], 8080);
	b = accept_any(server, NULL);
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->pods[1], 8080, &other), 0);
	c = accept_any(server2, NULL);
	/* the other protocol's backend is another backend */
	ok(dataplane_backends_gone(world.dp, &udp, 1, IPPROTO_UDP, err));
	sockets_finish(world.dp);
	pass_bytes(plain, a, "still there");
	ok(dataplane_backends_gone(world.dp, &gone, 1, IPPROTO_TCP, err));
	assert_told(plain);
	assert_told(mapped);
	sockets_finish(world.dp);
	pass_bytes(other, c, "still there");
	close(a);
	close(b);
	close(c);
	close(other);
	close(server);
	close(server2);
}

/* Calls that come while a pass runs are all served, and none waits for the sockets. */
static void test_calls_queue_up(void **state)
{
	int fds[50];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, f->pods[0], (uint16_t)(1000 + i), &fds[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		struct dp_backend gone = { ip(f->pods[0]), (uint16_t)(1000 + i) };

		ok(dataplane_backends_gone(world.dp, &gone, 1, IPPROTO_UDP, err));
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		assert_told(fds[i]);
}

static int answered_by(int fd, const int servers[static 2])
{
	struct pollfd p[2] = { { .fd = servers[0], .events = POLLIN }, { .fd = servers[1], .events = POLLIN } };
	union any_addr to = any_of(f->service, 53);
	char c;

	assert_int_equal(sendto(fd, "?", 1, 0, &to.sa, any_len(&to)), 1);
	assert_int_equal(poll(p, 2, WORLD_WAIT_MS), 1);
	for (int i = 0; i < 2; i++)
		if (p[i].revents) {
			assert_int_equal(recv(servers[i], &c, 1, 0), 1);
			return i;
		}
	return -1;
}

/* A socket that is not connected moves on by itself: the set of backends is another one. */
static void test_unconnected_moves(void **state)
{
	struct dp_backend b[2] = { { ip(f->pods[0]), 5353 }, { ip(f->pods[1]), 5353 } };
	int servers[2] = { server_in(pods[0].ns, SOCK_DGRAM, f->pods[0], 5353),
			   server_in(pods[1].ns, SOCK_DGRAM, f->pods[1], 5353) };
	struct dp_service s = cluster_ip(IPPROTO_UDP, 53, b, 2);
	int fd = sock_in_domain(client_pod.ns, f->domain, SOCK_DGRAM, 0), first;

	ok(dataplane_service_set(world.dp, &s, err));
	first = answered_by(fd, servers);
	for (int i = 0; i < 20; i++)
		assert_int_equal(answered_by(fd, servers), first);
	b[0] = b[!first];
	s.n_backends = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 5; i++)
		assert_int_equal(answered_by(fd, servers), !first);
	close(fd);
	close(servers[0]);
	close(servers[1]);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* From outside: the client's flow finds another backend. */
static void test_translations(void **state)
{
	struct dp_backend b = { ip(f->pods[0]), 5353 }, old = b;
	struct dp_service s = { .id = 1,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_UDP,
				.addr = ip(f->any),
				.port = 30053,
				.backends = &b,
				.n_backends = 1 };
	int servers[2] = { server_in(pods[0].ns, SOCK_DGRAM, f->pods[0], 5353),
			   server_in(pods[1].ns, SOCK_DGRAM, f->pods[1], 5353) };
	size_t before = nat_services();
	int client;
	char c;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, f->node, 30053, &client), 0);
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_int_equal(recv(servers[0], &c, 1, 0), 1);
	b.addr = ip(f->pods[1]);
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_int_equal(recv(servers[0], &c, 1, 0), 1); /* it stays while the backend lives */
	assert_int_equal(nat_services(), before + 2);
	ok(dataplane_backends_gone(world.dp, &old, 1, IPPROTO_UDP, err));
	sockets_finish(world.dp);
	assert_int_equal(nat_services(), before);
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_int_equal(recv(servers[1], &c, 1, 0), 1);
	close(client);
	close(servers[0]);
	close(servers[1]);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static struct dp_service node_port(uint16_t port, const struct dp_backend *b)
{
	return (struct dp_service){ .id = port,
				    .kind = DP_NODE_PORT,
				    .proto = IPPROTO_UDP,
				    .addr = ip(f->any),
				    .port = port,
				    .backends = b,
				    .n_backends = 1 };
}

static void expect_at(int client, int server)
{
	char c;

	assert_int_equal(send(client, "?", 1, 0), 1);
	if (!readable(server, WORLD_WAIT_MS))
		fail_msg("nothing arrived");
	assert_int_equal(recv(server, &c, 1, 0), 1);
}

/* Two frontends change backends: a flow is its frontend's, and both backends are still somebody's. */
static void test_swapped(void **state)
{
	struct dp_backend b[2] = { { ip(f->pods[0]), 5353 }, { ip(f->pods[1]), 5353 } };
	struct dp_service ports[2] = { node_port(30053, &b[0]), node_port(30054, &b[1]) };
	struct dp_service ips[2] = { cluster_ip(IPPROTO_UDP, 53, &b[0], 1), cluster_ip(IPPROTO_UDP, 54, &b[1], 1) };
	int servers[2], outside[2], inside[2];

	for (int i = 0; i < 2; i++) {
		servers[i] = server_in(pods[i].ns, SOCK_DGRAM, f->pods[i], 5353);
		ok(dataplane_service_set(world.dp, &ports[i], err));
		ok(dataplane_service_set(world.dp, &ips[i], err));
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_in(world.outside, SOCK_DGRAM, f->node, ports[i].port, &outside[i]), 0);
		assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, f->service, ips[i].port, &inside[i]), 0);
		expect_at(outside[i], servers[i]);
		expect_at(inside[i], servers[i]);
	}
	/* nothing changed: nobody is told */
	ok(dataplane_flows_check(world.dp, NULL, 0, err));
	sockets_finish(world.dp);
	expect_at(outside[0], servers[0]);
	expect_at(inside[0], servers[0]);
	for (int i = 0; i < 2; i++) {
		ports[i].backends = ips[i].backends = &b[!i];
		ok(dataplane_service_set(world.dp, &ports[i], err));
		ok(dataplane_service_set(world.dp, &ips[i], err));
	}
	ok(dataplane_flows_check(world.dp, b, 2, err));
	sockets_finish(world.dp);
	for (int i = 0; i < 2; i++) {
		expect_at(outside[i], servers[!i]);
		assert_told(inside[i]);
		ok(dataplane_service_delete(world.dp, &ports[i], err));
		ok(dataplane_service_delete(world.dp, &ips[i], err));
	}
	/* no frontend: no flow, though the backends live */
	ok(dataplane_flows_check(world.dp, NULL, 0, err));
	sockets_finish(world.dp);
	assert_int_equal(nat_services(), 0);
	for (int i = 0; i < 2; i++) {
		close(outside[i]);
		close(servers[i]);
	}
}

static void assert_lives(int fd)
{
	union any_addr peer;
	socklen_t len = sizeof(peer);

	assert_int_equal(getpeername(fd, &peer.sa, &len), 0);
	assert_false(readable(fd, 0));
}

/* Datagram sockets at one backend: told is who came by the frontend that leads there no more, on the host and in pods,
 * and nobody else, whosever address it is. */
static void test_lost_by_frontend(void **state)
{
	struct dp_backend b[2] = { { ip(f->pods[0]), 5353 }, { ip(f->node), 5353 } };
	int ns[] = { client_pod.ns, world_host_ns() };

	for (size_t at = 0; at < ARRAY_SIZE(b); at++) {
		struct dp_service ips[2] = { cluster_ip(IPPROTO_UDP, 53, &b[at], 1),
					     cluster_ip(IPPROTO_UDP, 54, &b[at], 1) };
		const char *address = at ? f->node : f->pods[0];
		int lost[2], mapped[2], kept[2], direct[2], mapped_direct[2];

		for (int i = 0; i < 2; i++)
			ok(dataplane_service_set(world.dp, &ips[i], err));
		for (int i = 0; i < 2; i++) {
			assert_int_equal(client_in(ns[i], SOCK_DGRAM, f->service, 53, &lost[i]), 0);
			assert_int_equal(client_in(ns[i], SOCK_DGRAM, f->service, 54, &kept[i]), 0);
			assert_int_equal(client_in(ns[i], SOCK_DGRAM, address, 5353, &direct[i]), 0);
			mapped[i] = mapped_client(ns[i], SOCK_DGRAM, f->service, 53);
			mapped_direct[i] = mapped_client(ns[i], SOCK_DGRAM, address, 5353);
		}
		ips[0].n_backends = 0;
		ok(dataplane_service_set(world.dp, &ips[0], err));
		ok(dataplane_flows_check(world.dp, &b[at], 1, err));
		sockets_finish(world.dp);
		for (int i = 0; i < 2; i++) {
			assert_told(lost[i]);
			assert_told(mapped[i]);
			assert_lives(kept[i]);
			assert_lives(direct[i]);
			assert_lives(mapped_direct[i]);
			close(kept[i]);
			close(direct[i]);
			close(mapped_direct[i]);
			ok(dataplane_service_delete(world.dp, &ips[i], err));
		}
	}
}

/* Gone from an address that is others' too: connections end that came by a Service, also when only the socket itself
 * remembers it. */
static void test_left(void **state)
{
	struct dp_backend b = { ip(f->node), 8081 }, other = { ip(f->node), 8082 };
	struct dp_service s = cluster_ip(IPPROTO_TCP, 81, &b, 1);
	int node = server_in(world_host_ns(), SOCK_STREAM, f->node, 8081);
	int ns[] = { client_pod.ns, world_host_ns() }, by[2], direct[2], ends[4];

	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_in(ns[i], SOCK_STREAM, f->service, 81, &by[i]), 0);
		ends[i] = accept_any(node, NULL);
		assert_int_equal(client_in(ns[i], SOCK_STREAM, f->node, 8081, &direct[i]), 0);
		ends[2 + i] = accept_any(node, NULL);
	}
	assert_lives(by[0]); /* who asks for the peer takes it along */
	for (uint32_t row = 0; row < K3C_SOCK_TCP_ROWS; row++) {
		struct k3c_sock_tcp tcp;
		uint64_t cookie;
		socklen_t len = sizeof(cookie);

		assert_int_equal(getsockopt(by[0], SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SOCK_TCP], &row, &tcp), 0);
		if (tcp.cookie == cookie)
			assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SOCK_TCP], &row,
							     &(struct k3c_sock_tcp){ 0 }, 0),
					 0);
	}
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_backends_left(world.dp, &other, 1, IPPROTO_TCP, err));
	sockets_finish(world.dp);
	for (int i = 0; i < 2; i++)
		pass_bytes(by[i], ends[i], "another port's");
	ok(dataplane_backends_left(world.dp, &b, 1, IPPROTO_TCP, err));
	sockets_finish(world.dp);
	for (int i = 0; i < 2; i++) {
		assert_told(by[i]);
		pass_bytes(direct[i], ends[2 + i], "still there");
		close(direct[i]);
		close(ends[i]);
		close(ends[2 + i]);
	}
	close(node);
}

/* After a start TCP flows end that lead to a pod's address which is no pod's any more, unless it serves all the same;
 * what they lead to elsewhere may live. */
static void test_adopted(void **state)
{
	struct dp_backend b = { ip(f->pods[0]), 8080 }, away = { ip(f->node), 8081 };
	struct dp_service s = cluster_ip(IPPROTO_TCP, 80, &b, 1), foreign = cluster_ip(IPPROTO_TCP, 81, &away, 1);
	int server = server_in(pods[0].ns, SOCK_STREAM, f->pods[0], 8080), at_pod, at_node, a, c;
	int node = server_in(world_host_ns(), SOCK_STREAM, f->node, 8081);
	struct k3c_addr pod;

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_service_set(world.dp, &foreign, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->service, 80, &at_pod), 0);
	a = accept_any(server, NULL);
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->service, 81, &at_node), 0);
	c = accept_any(node, NULL);
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_service_delete(world.dp, &foreign, err));
	ok(dataplane_flows_adopt(world.dp, &away, 1, err));
	sockets_finish(world.dp);
	pass_bytes(at_pod, a, "still there");
	pass_bytes(at_node, c, "still there");
	ok(dataplane_flows_adopt(world.dp, NULL, 0, err));
	sockets_finish(world.dp);
	pass_bytes(at_pod, a, "still there");
	pass_bytes(at_node, c, "still there");
	close(at_node);
	/* the pod goes while nobody runs */
	pod = dp_addr_in(&b.addr);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_ENDPOINT], &pod), 0);
	ok(dataplane_flows_adopt(world.dp, &b, 1, err));
	sockets_finish(world.dp);
	assert_lives(at_pod);
	ok(dataplane_flows_adopt(world.dp, NULL, 0, err));
	sockets_finish(world.dp);
	assert_told(at_pod);
	close(a);
	close(c);
	close(server);
	close(node);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_queue_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unconnected_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_translations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_by_frontend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopted, setup, teardown),
	};
	int r;

	world_uplink();
	world_open();
	for (f = families, r = 0; f < families + DP_FAMILIES; f++)
		r += cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
