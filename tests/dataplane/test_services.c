/* SPDX-License-Identifier: Apache-2.0 */
/* For both families: services at the socket: from the host and from pods, TCP and UDP, ClusterIP and node ports; what
 * the caller sees is the service. */
#include "tests/dataplane/rounds.h"
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

#include "bpf/include/service.h"

#define BACKENDS 3

struct family {
	const char *node, *any, *loopback, *service, *client, *pods[BACKENDS];
	int domain;
};

static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP,
		    "0.0.0.0",
		    "127.0.0.1",
		    "10.43.0.20",
		    "10.42.1.1",
		    { "10.42.1.10", "10.42.1.11", "10.42.1.12" },
		    AF_INET },
	[DP_V6] = { NODE_IP6,
		    "::",
		    "::1",
		    "fd43::20",
		    "fd42::1:1",
		    { "fd42::1:10", "fd42::1:11", "fd42::1:12" },
		    AF_INET6 },
};

static const struct family *f;
static struct test_pod client_pod, pods[BACKENDS];
static int tcp[BACKENDS], udp[BACKENDS];

static int setup(void **state)
{
	pod_make_dual(&client_pod, "client", families[DP_V4].client, families[DP_V6].client, 0);
	for (int i = 0; i < BACKENDS; i++) {
		char key[16];

		snprintf(key, sizeof(key), "backend-%d", i);
		pod_make_dual(&pods[i], key, families[DP_V4].pods[i], families[DP_V6].pods[i], 0);
		tcp[i] = server_in(pods[i].ns, SOCK_STREAM, f->pods[i], 8080);
		udp[i] = server_in(pods[i].ns, SOCK_DGRAM, f->pods[i], 5353);
	}
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < BACKENDS; i++) {
		close(tcp[i]);
		close(udp[i]);
		pod_drop(&pods[i]);
	}
	pod_drop(&client_pod);
	return 0;
}

static struct dp_service service(uint8_t kind, uint8_t proto, uint16_t port, struct dp_backend *backends, size_t n)
{
	for (size_t i = 0; i < n; i++)
		backends[i] = (struct dp_backend){ ip(f->pods[i]), proto == IPPROTO_TCP ? 8080 : 5353 };
	return (struct dp_service){
		.id = port,
		.kind = kind,
		.proto = proto,
		.port = port,
		.addr = ip(kind == DP_NODE_PORT ? f->any : f->service),
		.backends = backends,
		.n_backends = n,
	};
}

/* Which backend got the connection. */
static int connect_through(int ns, const char *addr, uint16_t port)
{
	struct pollfd p[BACKENDS];
	union any_addr peer;
	socklen_t len = sizeof(peer);
	int client, conn, which = -1;

	assert_int_equal(client_in(ns, SOCK_STREAM, addr, port, &client), 0);
	assert_int_equal(getpeername(client, &peer.sa, &len), 0);
	assert_true(any_is(&peer, addr, port));
	for (int i = 0; i < BACKENDS; i++)
		p[i] = (struct pollfd){ .fd = tcp[i], .events = POLLIN };
	assert_int_equal(poll(p, BACKENDS, WORLD_WAIT_MS), 1);
	for (int i = 0; i < BACKENDS; i++)
		if (p[i].revents)
			which = i;
	conn = accept_from(tcp[which], NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	return which;
}

static void test_cluster_ip(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_TCP, 80, b, BACKENDS);
	int ns[] = { client_pod.ns, world_host_ns(), pods[0].ns };

	ok(dataplane_service_set(world.dp, &s, err));
	for (size_t n = 0; n < ARRAY_SIZE(ns); n++) {
		unsigned seen = 0;

		/* a backend missed 60 times in a row: once in ten billion runs */
		for (int i = 0; i < 60 && seen != 7; i++)
			seen |= 1u << connect_through(ns[n], f->service, 80);
		assert_int_equal(seen, 7);
	}
	s.n_backends = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 10; i++)
		assert_int_equal(connect_through(client_pod.ns, f->service, 80), 0);
	ok(dataplane_service_delete(world.dp, &s, err));
}

struct flipper {
	_Atomic bool stop;
	unsigned updates;
};

static void *flip(void *arg)
{
	struct flipper *flipper = arg;
	struct dp_backend b[BACKENDS];

	while (!flipper->stop) {
		struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_TCP, 80, b, 1 + flipper->updates % BACKENDS);

		if (dataplane_service_set(world.dp, &s, NULL) < 0)
			break;
		flipper->updates++;
	}
	return NULL;
}

/* While the set of backends changes all the time, every connection finds one. */
static void test_update_under_load(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_TCP, 80, b, BACKENDS);
	struct flipper flipper = { 0 };
	pthread_t thread;

	ok(dataplane_service_set(world.dp, &s, err));
	pthread_create(&thread, NULL, flip, &flipper);
	for (int i = rounds_wanted("K3C_LOAD_CONNECTS", 500); i > 0; i--)
		connect_through(client_pod.ns, f->service, 80);
	flipper.stop = true;
	pthread_join(thread, NULL);
	assert_true(flipper.updates > 10);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_no_backend(void **state)
{
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_TCP, 81, NULL, 0);
	uint64_t before = drops("no-service-backend");
	int fd;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->service, 81, &fd), -ECONNREFUSED);
	assert_int_equal(drops("no-service-backend"), before + 1);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
	/* no such service at all: the host knows no way */
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, f->service, 81, &fd), -EHOSTUNREACH);
	close(fd);
}

static void udp_roundtrip(int fd, const union any_addr *to, const char *service, uint16_t port)
{
	struct pollfd p[BACKENDS];
	union any_addr from;
	socklen_t len = sizeof(from);
	char buf[16];

	assert_int_equal(sendto(fd, "ask", 3, 0, to ? &to->sa : NULL, to ? any_len(to) : 0), 3);
	for (int i = 0; i < BACKENDS; i++)
		p[i] = (struct pollfd){ .fd = udp[i], .events = POLLIN };
	assert_int_equal(poll(p, BACKENDS, WORLD_WAIT_MS), 1);
	for (int i = 0; i < BACKENDS; i++) {
		if (!p[i].revents)
			continue;
		assert_int_equal(recvfrom(udp[i], buf, sizeof(buf), 0, &from.sa, &len), 3);
		assert_int_equal(sendto(udp[i], "say", 3, 0, &from.sa, len), 3);
	}
	len = sizeof(from);
	assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, &from.sa, &len), 3);
	assert_true(any_is(&from, service, port));
}

static void test_udp(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_UDP, 53, b, BACKENDS);
	union any_addr to = any_of(f->service, 53);
	int connected, loose = sock_in_domain(client_pod.ns, f->domain, SOCK_DGRAM, 0);

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, f->service, 53, &connected), 0);
	for (int i = 0; i < 5; i++) {
		udp_roundtrip(connected, NULL, f->service, 53);
		udp_roundtrip(loose, &to, f->service, 53);
	}
	close(connected);
	close(loose);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static bool peer_is(int fd, const char *addr, uint16_t port)
{
	union any_addr peer;
	socklen_t len = sizeof(peer);

	assert_int_equal(getpeername(fd, &peer.sa, &len), 0);
	return any_is(&peer, addr, port);
}

/* Later connections took the rows of k3c_sock_tcp: who asked for its peer before hears the same again. */
static void test_peer_remembered(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_TCP, 80, b, 1);
	struct k3c_sock_tcp none = { 0 };
	int asked, silent, straight;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->service, 80, &asked), 0);
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->service, 80, &silent), 0);
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->pods[0], 8080, &straight), 0);
	assert_true(peer_is(asked, f->service, 80));
	assert_true(peer_is(straight, f->pods[0], 8080));
	for (uint32_t row = 0; row < K3C_SOCK_TCP_ROWS; row++)
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SOCK_TCP], &row, &none, BPF_ANY), 0);
	assert_true(peer_is(asked, f->service, 80));
	assert_true(peer_is(silent, f->pods[0], 8080));
	for (int i = 0; i < 3; i++)
		close(accept_any(tcp[0], NULL));
	close(asked);
	close(silent);
	close(straight);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* An IPv6 socket that speaks IPv4: what it connects to, sends to and hears from keeps that form. */
static void test_mapped_address(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service t = service(DP_CLUSTER_IP, IPPROTO_TCP, 80, b, 1), u = t;
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
	struct dp_addr a = ip(f->service);
	struct dp_backend udp_backend = { ip(f->pods[0]), 5353 };
	int fd = sock_in_domain(client_pod.ns, AF_INET6, SOCK_STREAM, 0), conn;
	union any_addr peer;
	socklen_t len = sizeof(peer);
	char buf[8];

	memcpy(&to.sin6_addr, a.b, 16);
	ok(dataplane_service_set(world.dp, &t, err));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	conn = accept_any(tcp[0], NULL);
	assert_int_equal(getpeername(fd, &peer.sa, &len), 0);
	assert_memory_equal(&peer.v6.sin6_addr, a.b, 16);
	close(conn);
	close(fd);
	u.proto = IPPROTO_UDP;
	u.port = 53;
	u.backends = &udp_backend;
	to.sin6_port = htons(53);
	ok(dataplane_service_set(world.dp, &u, err));
	fd = sock_in_domain(client_pod.ns, AF_INET6, SOCK_DGRAM, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sendto(fd, "ask", 3, 0, (struct sockaddr *)&to, sizeof(to)), 3);
		len = sizeof(peer);
		assert_int_equal(recvfrom(udp[0], buf, sizeof(buf), 0, &peer.sa, &len), 3);
		assert_int_equal(sendto(udp[0], "say", 3, 0, &peer.sa, len), 3);
		len = sizeof(peer);
		assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, &peer.sa, &len), 3);
		assert_memory_equal(&peer.v6.sin6_addr, a.b, 16);
		assert_int_equal(any_port(&peer), 53);
	}
	close(fd);
	ok(dataplane_service_delete(world.dp, &t, err));
	ok(dataplane_service_delete(world.dp, &u, err));
}

static void test_node_port(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service s = service(DP_NODE_PORT, IPPROTO_TCP, 30080, b, 1);
	int fd;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(connect_through(world_host_ns(), f->node, 30080), 0);
	assert_int_equal(connect_through(world_host_ns(), f->loopback, 30080), 0);
	assert_int_equal(connect_through(client_pod.ns, f->node, 30080), 0);
	/* a pod's loopback is its own */
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->loopback, 30080, &fd), -ECONNREFUSED);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, f->node, 30080, &fd), -ECONNREFUSED);
	close(fd);
}

static void test_affinity(void **state)
{
	struct dp_backend b[BACKENDS], fewer[2];
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_TCP, 80, b, BACKENDS);
	int first, other;

	s.affinity_s = 100;
	ok(dataplane_service_set(world.dp, &s, err));
	first = connect_through(client_pod.ns, f->service, 80);
	for (int i = 0; i < 20; i++)
		assert_int_equal(connect_through(client_pod.ns, f->service, 80), first);
	/* it stays where other backends come and go, and moves when its own is gone */
	s.backends = fewer;
	s.n_backends = ARRAY_SIZE(fewer);
	fewer[0] = b[first];
	fewer[1] = b[(first + 1) % BACKENDS];
	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 20; i++)
		assert_int_equal(connect_through(client_pod.ns, f->service, 80), first);
	fewer[0] = fewer[1];
	s.n_backends = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	other = connect_through(client_pod.ns, f->service, 80);
	assert_int_not_equal(other, first);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_backend_gone(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_service s = service(DP_CLUSTER_IP, IPPROTO_UDP, 53, b, 1);
	int pod_sock, host_sock;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, f->service, 53, &pod_sock), 0);
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, f->service, 53, &host_sock), 0);
	ok(dataplane_backends_gone(world.dp, &b[0], 1, IPPROTO_UDP, err));
	assert_int_equal(recv(pod_sock, b, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_int_equal(recv(host_sock, b, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	close(pod_sock);
	close(host_sock);
	ok(dataplane_service_delete(world.dp, &s, err));
}

struct listing {
	size_t n, backends;
};

static void list_one(void *arg, const struct dp_service *s)
{
	struct listing *l = arg;

	l->n++;
	l->backends += s->n_backends;
}

static void test_listing_and_updates(void **state)
{
	struct dp_backend b[BACKENDS];
	struct dp_map_info maps[32];
	struct listing l = { 0 };
	size_t n;

	for (int round = 0; round < 3; round++) {
		for (uint16_t port = 1; port <= 50; port++) {
			struct dp_service s = service(port % 2 ? DP_CLUSTER_IP : DP_NODE_PORT, IPPROTO_TCP, port, b,
						      1 + (port + round) % BACKENDS);

			ok(dataplane_service_set(world.dp, &s, err));
		}
	}
	ok(dataplane_service_each(world.dp, list_one, &l, err));
	assert_int_equal(l.n, 50);
	ok(dataplane_maps(world.dp, maps, 32, &n, err));
	for (size_t i = 0; i < n; i++)
		if (strcmp(maps[i].name, "k3c_backend") == 0)
			assert_int_equal(maps[i].entries, l.backends); /* nothing of the old sets */
	for (uint16_t port = 1; port <= 50; port++) {
		struct dp_service s = service(port % 2 ? DP_CLUSTER_IP : DP_NODE_PORT, IPPROTO_TCP, port, b, 0);

		ok(dataplane_service_delete(world.dp, &s, err));
	}
	l = (struct listing){ 0 };
	ok(dataplane_service_each(world.dp, list_one, &l, err));
	assert_int_equal(l.n, 0);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_cluster_ip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update_under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_backend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_remembered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mapped_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_affinity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backend_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listing_and_updates, setup, teardown),
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
