/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of vanished backends are told, many backends in one pass, wherever the sockets are; what is connected
 * elsewhere is left alone. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

#include "bpf/include/nat.h"

#define PODS 3
#define SERVICE_IP "10.43.0.20"

static struct test_pod client_pod, pods[PODS];

static int setup(void **state)
{
	pod_make(&client_pod, "client", "10.42.1.1", 0);
	for (int i = 0; i < PODS; i++) {
		char key[16], addr[16];

		snprintf(key, sizeof(key), "backend-%d", i);
		snprintf(addr, sizeof(addr), "10.42.1.%d", 10 + i);
		pod_make(&pods[i], key, addr, 0);
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
				    .addr = ip(SERVICE_IP),
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
		servers[i] = server_in(pods[i].ns, SOCK_DGRAM, pods[i].addr, 5353);
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
		gone[i] = (struct dp_backend){ ip("10.42.200.1"), 5353 };
		gone[i].addr.b[15] = (uint8_t)i;
	}
	gone[7] = (struct dp_backend){ ip(pods[0].addr), 5353 };
	gone[33] = (struct dp_backend){ ip(pods[1].addr), 0 }; /* every port */
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++) {
		assert_int_equal(client_in(ns[n], SOCK_DGRAM, pods[0].addr, 5353, &told[n][0]), 0);
		assert_int_equal(client_in(ns[n], SOCK_DGRAM, pods[1].addr, 777, &told[n][1]), 0);
		told[n][2] = mapped_client(ns[n], SOCK_DGRAM, pods[0].addr, 5353);
		assert_int_equal(client_in(ns[n], SOCK_DGRAM, pods[0].addr, 5354, &kept[n]), 0);
	}
	ok(dataplane_backends_gone(world.dp, gone, ARRAY_SIZE(gone), IPPROTO_UDP, err));
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++)
		for (int i = 0; i < 3; i++)
			assert_told(told[n][i]);
	sockets_finish(world.dp);
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++) {
		struct sockaddr_in peer;
		socklen_t len = sizeof(peer);

		assert_int_equal(getpeername(kept[n], (struct sockaddr *)&peer, &len), 0);
		close(kept[n]);
	}
	for (int i = 0; i < PODS; i++)
		close(servers[i]);
}

static void test_tcp(void **state)
{
	int server = server_in(pods[0].ns, SOCK_STREAM, pods[0].addr, 8080), plain, mapped, other, a, b, c;
	struct dp_backend gone = { ip(pods[0].addr), 8080 }, udp = gone;
	int server2 = server_in(pods[1].ns, SOCK_STREAM, pods[1].addr, 8080);

	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, pods[0].addr, 8080, &plain), 0);
	a = accept_from(server, NULL);
	mapped = mapped_client(world_host_ns(), SOCK_STREAM, pods[0].addr, 8080);
	b = accept_from(server, NULL);
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, pods[1].addr, 8080, &other), 0);
	c = accept_from(server2, NULL);
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
		assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, pods[0].addr, (uint16_t)(1000 + i), &fds[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		struct dp_backend gone = { ip(pods[0].addr), (uint16_t)(1000 + i) };

		ok(dataplane_backends_gone(world.dp, &gone, 1, IPPROTO_UDP, err));
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		assert_told(fds[i]);
}

static int answered_by(int fd, const int servers[static 2])
{
	struct pollfd p[2] = { { .fd = servers[0], .events = POLLIN }, { .fd = servers[1], .events = POLLIN } };
	struct sockaddr_in to = sin_of(SERVICE_IP, 53);
	char c;

	assert_int_equal(sendto(fd, "?", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
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
	struct dp_backend b[2] = { { ip(pods[0].addr), 5353 }, { ip(pods[1].addr), 5353 } };
	int servers[2] = { server_in(pods[0].ns, SOCK_DGRAM, pods[0].addr, 5353),
			   server_in(pods[1].ns, SOCK_DGRAM, pods[1].addr, 5353) };
	struct dp_service s = cluster_ip(IPPROTO_UDP, 53, b, 2);
	int fd = sock_in(client_pod.ns, SOCK_DGRAM), first;

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
	struct dp_backend b = { ip(pods[0].addr), 5353 }, old = b;
	struct dp_service s = { .id = 1,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_UDP,
				.addr = ip("0.0.0.0"),
				.port = 30053,
				.backends = &b,
				.n_backends = 1 };
	int servers[2] = { server_in(pods[0].ns, SOCK_DGRAM, pods[0].addr, 5353),
			   server_in(pods[1].ns, SOCK_DGRAM, pods[1].addr, 5353) };
	struct k3c_nat_key key;
	int client;
	char c;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, NODE_IP, 30053, &client), 0);
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_int_equal(recv(servers[0], &c, 1, 0), 1);
	b.addr = ip(pods[1].addr);
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_int_equal(recv(servers[0], &c, 1, 0), 1); /* it stays while the backend lives */
	ok(dataplane_backends_gone(world.dp, &old, 1, IPPROTO_UDP, err));
	sockets_finish(world.dp);
	assert_true(bpf_map_get_next_key(world.dp->maps[DP_MAP_NAT], NULL, &key) < 0);
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_int_equal(recv(servers[1], &c, 1, 0), 1);
	close(client);
	close(servers[0]);
	close(servers[1]);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_queue_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unconnected_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_translations, setup, teardown),
	};
	int r;

	world_uplink();
	world_open();
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
