/* SPDX-License-Identifier: Apache-2.0 */
/* In whose name a socket hears its answers: what was asked last for a backend, by whichever way, and what a socket
 * remembers of the services it uses. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

#include "bpf/include/service.h"
#include "userspace/dataplane/inspect.h"

#define BACKENDS 2
#define PORT 5353
#define NODE_PORT 30053

static const struct family {
	const char *node, *any, *service, *beside, *client, *pods[BACKENDS];
	int domain;
} families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP,
		    "0.0.0.0",
		    "10.43.0.20",
		    "10.43.0.21",
		    "10.42.1.1",
		    { "10.42.1.10", "10.42.1.11" },
		    AF_INET },
	[DP_V6] = { NODE_IP6, "::", "fd43::20", "fd43::21", "fd42::1:1", { "fd42::1:10", "fd42::1:11" }, AF_INET6 },
};

static const struct family *f;
static struct test_pod client_pod, pods[BACKENDS];
static int servers[BACKENDS], listener;
static struct dp_backend backends[BACKENDS];

static int setup(void **state)
{
	pod_make_dual(&client_pod, "client", families[DP_V4].client, families[DP_V6].client, 0);
	for (int i = 0; i < BACKENDS; i++) {
		char key[16];

		snprintf(key, sizeof(key), "backend-%d", i);
		pod_make_dual(&pods[i], key, families[DP_V4].pods[i], families[DP_V6].pods[i], 0);
		servers[i] = server_in(pods[i].ns, SOCK_DGRAM, f->pods[i], PORT);
		backends[i] = (struct dp_backend){ ip(f->pods[i]), PORT };
	}
	listener = server_in(pods[0].ns, SOCK_STREAM, f->pods[0], PORT);
	return 0;
}

static int teardown(void **state)
{
	close(listener);
	for (int i = 0; i < BACKENDS; i++) {
		close(servers[i]);
		pod_drop(&pods[i]);
	}
	pod_drop(&client_pod);
	return 0;
}

static struct dp_service service_of(uint8_t proto, uint16_t port, size_t n)
{
	bool node_port = port == NODE_PORT;

	return (struct dp_service){ .id = port,
				    .kind = node_port ? DP_NODE_PORT : DP_CLUSTER_IP,
				    .proto = proto,
				    .addr = ip(node_port ? f->any : f->service),
				    .port = port,
				    .backends = backends,
				    .n_backends = n };
}

static int loose_socket(int ns)
{
	return sock_in_domain(ns, f->domain, SOCK_DGRAM, 0);
}

/* addr NULL: to whom it is connected. */
static void say(int fd, const char *addr, uint16_t port)
{
	union any_addr to = any_of(addr ? addr : f->service, port);

	assert_int_equal(sendto(fd, "?", 1, 0, addr ? &to.sa : NULL, addr ? any_len(&to) : 0), 1);
}

/* Which server it came to, and from whom. */
static int arrived(union any_addr *ret_from)
{
	struct pollfd p[BACKENDS];
	socklen_t len = sizeof(*ret_from);
	char c;

	for (int i = 0; i < BACKENDS; i++)
		p[i] = (struct pollfd){ .fd = servers[i], .events = POLLIN };
	assert_int_equal(poll(p, BACKENDS, WORLD_WAIT_MS), 1);
	for (int i = 0; i < BACKENDS; i++)
		if (p[i].revents) {
			assert_int_equal(recvfrom(servers[i], &c, 1, 0, &ret_from->sa, &len), 1);
			return i;
		}
	return -1;
}

static void answer(int by, const union any_addr *to)
{
	assert_int_equal(sendto(by, "!", 1, 0, &to->sa, any_len(to)), 1);
}

static void expect_name(const union any_addr *got, const char *addr, uint16_t port, const char *what)
{
	if (!any_is(got, addr, port))
		fail_msg("%s is not %s:%u, port %u", what, addr, port, any_port(got));
}

static void hear(int fd, const char *addr, uint16_t port)
{
	union any_addr from;
	socklen_t len = sizeof(from);
	char c;

	assert_int_equal(recvfrom(fd, &c, 1, 0, &from.sa, &len), 1);
	expect_name(&from, addr, port, "who answers");
}

static void expect_peer(int fd, const char *addr, uint16_t port)
{
	union any_addr peer;
	socklen_t len = sizeof(peer);

	assert_int_equal(getpeername(fd, &peer.sa, &len), 0);
	expect_name(&peer, addr, port, "the peer");
}

/* The backend that was asked. */
static int talk(int fd, const char *addr, uint16_t port)
{
	union any_addr from;
	int which;

	say(fd, addr, port);
	which = arrived(&from);
	answer(servers[which], &from);
	hear(fd, addr, port);
	return which;
}

static void attach(int fd, const char *addr, uint16_t port)
{
	union any_addr to = any_of(addr, port);

	assert_int_equal(connect(fd, &to.sa, any_len(&to)), 0);
}

/* C, the ClusterIP; N, the node port; D, the pod itself: one backend. */
static void ask_in_turn(int ns, const char *ways, bool connected)
{
	int fd = loose_socket(ns);

	for (const char *way = ways; *way; way++) {
		const char *addr = *way == 'C' ? f->service : *way == 'N' ? f->node : f->pods[0];
		uint16_t port = *way == 'C' ? 53 : *way == 'N' ? NODE_PORT : PORT;

		if (!connected) {
			talk(fd, addr, port);
			continue;
		}
		attach(fd, addr, port);
		expect_peer(fd, addr, port);
		talk(fd, addr, port);
		expect_peer(fd, addr, port);
	}
	close(fd);
}

static void test_last_asked(void **state)
{
	static const char *const turns[] = { "CN", "NC", "CD", "DC", "CNCN", "CNDN", "CDCD" };
	struct dp_service s = service_of(IPPROTO_UDP, 53, 1), n = service_of(IPPROTO_UDP, NODE_PORT, 1);
	int ns[] = { client_pod.ns, world_host_ns() };

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_service_set(world.dp, &n, err));
	for (size_t at = 0; at < ARRAY_SIZE(ns); at++)
		for (size_t i = 0; i < ARRAY_SIZE(turns); i++) {
			ask_in_turn(ns[at], turns[i], false);
			ask_in_turn(ns[at], turns[i], true);
		}
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_service_delete(world.dp, &n, err));
}

/* Another way to a service's backend changes names, not the backend: datagrams stay where they were. */
static void test_stays_while_others_ask(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 2), n = service_of(IPPROTO_UDP, NODE_PORT, 2);

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_service_set(world.dp, &n, err));
	for (int round = 0; round < 8; round++) {
		int fd = loose_socket(client_pod.ns), first = talk(fd, f->service, 53);
		int by_node = talk(fd, f->node, NODE_PORT);

		for (int i = 0; i < 4; i++) {
			assert_int_equal(talk(fd, f->service, 53), first);
			assert_int_equal(talk(fd, f->pods[first], PORT), first);
			assert_int_equal(talk(fd, f->node, NODE_PORT), by_node);
		}
		close(fd);
	}
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_service_delete(world.dp, &n, err));
}

/* What is told of a frontend that is no more is told to who came by it last. */
static void test_lost_by_last_way(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 1), n = service_of(IPPROTO_UDP, 54, 1);
	int straight = loose_socket(client_pod.ns), other = loose_socket(client_pod.ns),
	    lost = loose_socket(client_pod.ns);
	char c;

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_service_set(world.dp, &n, err));
	attach(straight, f->service, 53);
	attach(straight, f->pods[0], PORT);
	attach(other, f->service, 53);
	attach(other, f->service, 54);
	attach(lost, f->service, 54);
	attach(lost, f->service, 53);
	s.n_backends = 0;
	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_flows_check(world.dp, backends, 1, err));
	sockets_finish(world.dp);
	assert_int_equal(recv(lost, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	expect_peer(straight, f->pods[0], PORT);
	expect_peer(other, f->service, 54);
	close(straight);
	close(other);
	close(lost);
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_service_delete(world.dp, &n, err));
}

static void detach(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	close(accept_any(listener, NULL));
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

static void tcp_row_set(int fd, const struct k3c_sock_tcp *value)
{
	uint32_t row = (uint32_t)cookie_of(fd) & (K3C_SOCK_TCP_ROWS - 1);

	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SOCK_TCP], &row, value, BPF_ANY), 0);
}

static struct k3c_sock_tcp tcp_row_of(int fd)
{
	uint32_t row = (uint32_t)cookie_of(fd) & (K3C_SOCK_TCP_ROWS - 1);
	struct k3c_sock_tcp value;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SOCK_TCP], &row, &value), 0);
	return value;
}

/* A TCP socket that is used again, with its row and with what it took into its storage. */
static void test_tcp_again(void **state)
{
	struct dp_service s = service_of(IPPROTO_TCP, 53, 1);

	ok(dataplane_service_set(world.dp, &s, err));
	for (int asked = 0; asked < 2; asked++) {
		int fd = sock_in_domain(client_pod.ns, f->domain, SOCK_STREAM, 0);

		for (int round = 0; round < 2; round++) {
			attach(fd, f->service, 53);
			if (asked)
				expect_peer(fd, f->service, 53);
			detach(fd);
			attach(fd, f->pods[0], PORT);
			expect_peer(fd, f->pods[0], PORT);
			detach(fd);
		}
		attach(fd, f->service, 53);
		expect_peer(fd, f->service, 53);
		/* now it stands in the storage, also when a later connection takes the row */
		tcp_row_set(fd, &(struct k3c_sock_tcp){ 0 });
		expect_peer(fd, f->service, 53);
		close(accept_any(listener, NULL));
		close(fd);
	}
	ok(dataplane_service_delete(world.dp, &s, err));
}

static struct dp_addr service_addr(void)
{
	return ip(f->service);
}

static struct k3c_sock_peer peer_of(uint16_t port, int backend, uint32_t set)
{
	struct k3c_sock_peer p = { .service_port = htons(port), .backend_port = htons(PORT), .set = set };
	struct dp_addr service = service_addr(), to = ip(f->pods[backend]);

	memcpy(&p.service, &service, sizeof(p.service));
	memcpy(&p.backend, &to, sizeof(p.backend));
	return p;
}

/* The row is the socket's own when it has its cookie, and of this connection when it leads where the socket is. */
static void test_tcp_row(void **state)
{
	struct k3c_sock_tcp good = { .peer = peer_of(53, 0, 1) }, others;
	int fd = sock_in_domain(client_pod.ns, f->domain, SOCK_STREAM, 0);

	good.cookie = cookie_of(fd);
	others = good;
	others.cookie += K3C_SOCK_TCP_ROWS;
	tcp_row_set(fd, &others);
	attach(fd, f->pods[0], PORT);
	assert_int_equal(tcp_row_of(fd).cookie, others.cookie);
	expect_peer(fd, f->pods[0], PORT);
	others = good;
	others.peer.backend_port = htons(PORT + 1);
	tcp_row_set(fd, &others);
	expect_peer(fd, f->pods[0], PORT);
	others = good;
	others.peer.backend = peer_of(53, 1, 1).backend;
	tcp_row_set(fd, &others);
	expect_peer(fd, f->pods[0], PORT);
	tcp_row_set(fd, &good);
	expect_peer(fd, f->service, 53);
	close(accept_any(listener, NULL));
	close(fd);
}

/* An answer of the backend's address, but of another port, is no service's. */
static void test_other_port(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 1);
	int fd = loose_socket(client_pod.ns), beside = server_in(pods[0].ns, SOCK_DGRAM, f->pods[0], PORT + 1);
	union any_addr from;

	ok(dataplane_service_set(world.dp, &s, err));
	say(fd, f->service, 53);
	arrived(&from);
	answer(beside, &from);
	hear(fd, f->pods[0], PORT + 1);
	answer(servers[0], &from);
	hear(fd, f->service, 53);
	close(beside);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* Services that differ in one thing only: their backends' addresses, or their own. */
static void test_alike(void **state)
{
	struct dp_service one = service_of(IPPROTO_UDP, 53, 1), two = service_of(IPPROTO_UDP, 54, 1), three = one;
	int fd = loose_socket(client_pod.ns);
	union any_addr from;

	two.backends = &backends[1];
	three.addr = ip(f->beside);
	ok(dataplane_service_set(world.dp, &one, err));
	ok(dataplane_service_set(world.dp, &two, err));
	ok(dataplane_service_set(world.dp, &three, err));
	say(fd, f->service, 53);
	assert_int_equal(arrived(&from), 0);
	say(fd, f->service, 54);
	assert_int_equal(arrived(&from), 1);
	answer(servers[0], &from);
	hear(fd, f->service, 53);
	answer(servers[1], &from);
	hear(fd, f->service, 54);
	talk(fd, f->beside, 53);
	talk(fd, f->service, 53);
	talk(fd, f->beside, 53);
	close(fd);
	ok(dataplane_service_delete(world.dp, &one, err));
	ok(dataplane_service_delete(world.dp, &two, err));
	ok(dataplane_service_delete(world.dp, &three, err));
}

/* A pod with a server for each of more services than a socket remembers. */
struct many {
	struct dp_service services[K3C_SOCK_PEERS + 1];
	struct dp_backend backends[K3C_SOCK_PEERS + 1];
	int servers[K3C_SOCK_PEERS + 1];
};

static void many_open(struct many *m)
{
	for (int i = 0; i <= K3C_SOCK_PEERS; i++) {
		uint16_t port = (uint16_t)(7000 + i);

		m->servers[i] = server_in(pods[0].ns, SOCK_DGRAM, f->pods[0], port);
		m->backends[i] = (struct dp_backend){ ip(f->pods[0]), port };
		m->services[i] = service_of(IPPROTO_UDP, (uint16_t)(60 + i), 1);
		m->services[i].backends = &m->backends[i];
		ok(dataplane_service_set(world.dp, &m->services[i], err));
	}
}

static void many_close(struct many *m)
{
	for (int i = 0; i <= K3C_SOCK_PEERS; i++) {
		close(m->servers[i]);
		ok(dataplane_service_delete(world.dp, &m->services[i], err));
	}
}

static void many_ask(struct many *m, int fd, int i, union any_addr *ret_from)
{
	socklen_t len = sizeof(*ret_from);
	char c;

	say(fd, f->service, m->services[i].port);
	assert_int_equal(recvfrom(m->servers[i], &c, 1, 0, &ret_from->sa, &len), 1);
}

/* As many as there are places are remembered, and then the oldest is forgotten. */
static void test_places(void **state)
{
	int fd = loose_socket(client_pod.ns);
	struct dp_service moved;
	union any_addr from;
	struct many m;

	many_open(&m);
	for (int i = 0; i < K3C_SOCK_PEERS; i++)
		many_ask(&m, fd, i, &from);
	/* the same service with another set keeps its place */
	moved = m.services[1];
	moved.n_backends = 0;
	ok(dataplane_service_set(world.dp, &moved, err));
	ok(dataplane_service_set(world.dp, &m.services[1], err));
	many_ask(&m, fd, 1, &from);
	for (int i = 0; i < K3C_SOCK_PEERS; i++) {
		answer(m.servers[i], &from);
		hear(fd, f->service, m.services[i].port);
	}
	many_ask(&m, fd, K3C_SOCK_PEERS, &from);
	answer(m.servers[0], &from);
	hear(fd, f->pods[0], m.backends[0].port);
	for (int i = 1; i <= K3C_SOCK_PEERS; i++) {
		answer(m.servers[i], &from);
		hear(fd, f->service, m.services[i].port);
	}
	/* the next takes the place of the second */
	many_ask(&m, fd, 0, &from);
	answer(m.servers[1], &from);
	hear(fd, f->pods[0], m.backends[1].port);
	answer(m.servers[2], &from);
	hear(fd, f->service, m.services[2].port);
	close(fd);
	many_close(&m);
}

/* Only datagrams of unconnected sockets stay: each connect chooses anew. */
static void test_connect_chooses(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 2);
	int fd = loose_socket(client_pod.ns);
	union any_addr from;
	unsigned seen = 0;

	ok(dataplane_service_set(world.dp, &s, err));
	/* one backend 60 times in a row: never */
	for (int i = 0; i < 60 && seen != 3; i++) {
		attach(fd, f->service, 53);
		say(fd, NULL, 0);
		seen |= 1u << arrived(&from);
		expect_peer(fd, f->service, 53);
	}
	assert_int_equal(seen, 3);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static struct k3c_service stored(uint16_t port)
{
	struct k3c_service_key key = { .port = htons(port), .proto = IPPROTO_UDP };
	struct dp_addr a = service_addr();
	struct k3c_service s;

	memcpy(&key.addr, &a, sizeof(key.addr));
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &key, &s), 0);
	return s;
}

/* A service's own row, with its own set, decides: neither another port's nor another set's. */
static void test_own_row(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 1);
	struct k3c_sock memory = { .next = 3 };
	int fd = loose_socket(client_pod.ns), same = loose_socket(client_pod.ns);
	uint32_t set;

	ok(dataplane_service_set(world.dp, &s, err));
	set = stored(53).inside.set;
	memory.peer[0] = peer_of(54, 1, set);
	memory.peer[1] = peer_of(53, 1, set + 1);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SOCK], &fd, &memory, BPF_ANY), 0);
	assert_int_equal(talk(fd, f->service, 53), 0);
	memory.peer[2] = peer_of(53, 1, set);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SOCK], &same, &memory, BPF_ANY), 0);
	assert_int_equal(talk(same, f->service, 53), 1);
	close(fd);
	close(same);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* What is no IPv4 address is not put into an IPv4 socket, cut to its end. */
static void test_no_v6_in_v4(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 1);
	struct k3c_backend wrong = { .port = htons(PORT) };
	struct dp_addr a = ip(f->pods[0]);
	struct k3c_backend_key key;
	int fd;

	if (f->domain == AF_INET6)
		return;
	ok(dataplane_service_set(world.dp, &s, err));
	key = (struct k3c_backend_key){ .set = stored(53).inside.set };
	memcpy(&wrong.addr, &a, sizeof(wrong.addr));
	wrong.addr.b[0] = 0xfd;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_BACKEND], &key, &wrong, BPF_ANY), 0);
	/* as the kernel has it, which knows nothing of services, nor a way there */
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, f->service, 53, &fd), -EHOSTUNREACH);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void see(void *arg, const struct dp_event *e)
{
	*(struct dp_event *)arg = *e;
}

/* Refused and not allowed are two things to who reads the reasons. */
static void test_refusals(void **state)
{
	struct dp_service s = service_of(IPPROTO_UDP, 53, 1);
	struct dp_net range = { ip(f->pods[1]), 128 };
	uint64_t denied = drops("source-range"), none = drops("no-service-backend");
	struct dp_event seen = { .type = DP_EVENT_TRANSLATE };
	struct dp_listener *l;
	int fd;

	s.kind = DP_LOAD_BALANCER;
	s.addr = ip(f->node);
	s.sources = &range;
	s.n_sources = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_listen(world.dp, 1u << DP_EVENT_DROP, &l, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, f->node, 53, &fd), -EPERM);
	close(fd);
	for (int i = 0; i < WORLD_WAIT_MS / 100 && seen.type != DP_EVENT_DROP; i++)
		assert_true(dp_listener_poll(l, 100, see, &seen) >= 0);
	assert_int_equal(seen.type, DP_EVENT_DROP);
	assert_string_equal(seen.reason, "source-range");
	dp_listener_close(l);
	assert_int_equal(drops("source-range"), denied + 1);
	assert_int_equal(drops("no-service-backend"), none);
	s.n_sources = 0;
	s.n_backends = 0;
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(client_pod.ns, SOCK_DGRAM, f->node, 53, &fd), -ECONNREFUSED);
	close(fd);
	assert_int_equal(drops("source-range"), denied + 1);
	assert_int_equal(drops("no-service-backend"), none + 1);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_last_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stays_while_others_ask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_by_last_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tcp_row, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alike, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connect_chooses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_row, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_v6_in_v4, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
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
