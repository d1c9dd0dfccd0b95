/* SPDX-License-Identifier: Apache-2.0 */
/* Ports to masquerade with, towards one server that is asked by more flows than there are: what finds none is dropped
 * and counted, no port is given twice, and what stands goes on. Both processors search at once. Then
 * with the ports that a host leaves by default: which they are, and that pods keep their own where they can. */
#include "tests/dataplane/nat.h"
#include "tests/dataplane/rounds.h"

#define FLOWS 1000       /* of each of two pods; more than the few ports */
#define ROOM_FLOWS 4000  /* and when there are all, unless K3C_SNAT_FLOWS says otherwise */
#define FIRST_PORT 10000 /* theirs */
#define LOCAL_PORT_MIN 32768
#define LOCAL_PORT_MAX 60999
#define SNAT_CONNECTIONS 131072 /* room for all of them, and none is answered; in proportion */
#define PORTS (WORLD_SNAT_PORT_MAX - WORLD_SNAT_PORT_MIN + 1)
_Static_assert(2 * FLOWS > PORTS, "more flows than ports");

struct family {
	const char *node, *outside, *other, *a, *b;
};

static struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "172.30.0.3", "10.42.8.1", "10.42.8.2" },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "fd30::3", "fd42::8:1", "fd42::8:2" },
};

static struct test_pod a, b;
static uint32_t room_flows;
static bool few; /* WORLD_SNAT_PORT_MIN and above are all there are */

static int setup(void **state)
{
	pod_make_dual(&a, "pod-a", families[DP_V4].a, families[DP_V6].a, 0);
	pod_make_dual(&b, "pod-b", families[DP_V4].b, families[DP_V6].b, 0);
	nat_clear();
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

struct flood {
	int ns, n;
	const char *to;
	int r;
};

static int flood_one(const union any_addr *to, uint16_t port)
{
	union any_addr from = { .v6 = { .sin6_family = to->sa.sa_family, .sin6_port = htons(port) } };
	int fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0 || bind(fd, &from.sa, any_len(&from)) < 0 || sendto(fd, "x", 1, 0, &to->sa, any_len(to)) != 1)
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

static int flood_in_ns(void *arg)
{
	struct flood *f = arg;
	union any_addr to = any_of(f->to, 53);
	int r = 0;

	for (int i = 0; i < f->n && r == 0; i++)
		r = flood_one(&to, (uint16_t)(FIRST_PORT + i));
	return r;
}

static void *flood_run(void *arg)
{
	struct flood *f = arg;

	f->r = netns_run(f->ns, flood_in_ns, f);
	return NULL;
}

/* All datagrams of both pods were sent when this returns. */
static void flood(const char *to, int n)
{
	struct flood of[] = { { .ns = a.ns, .n = n, .to = to }, { .ns = b.ns, .n = n, .to = to } };
	pthread_t threads[ARRAY_SIZE(of)];

	for (size_t i = 0; i < ARRAY_SIZE(of); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, flood_run, &of[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(of); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(of[i].r, 0);
	}
}

static bool is_allowed(uint16_t port)
{
	struct dataplane_options o = world_options();

	if (few)
		return port >= WORLD_SNAT_PORT_MIN;
	return port >= 1024 && !(port >= LOCAL_PORT_MIN && port <= LOCAL_PORT_MAX) &&
	       !(port >= o.node_port_min && port <= o.node_port_max);
}

struct ports {
	struct k3c_addr node, server;
	bool taken[UINT16_MAX + 1];
	uint32_t n;
};

static void ports_add(void *arg, const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	struct ports *p = arg;
	uint16_t port = ntohs(n->port);
	struct k3c_nat_key mirror = {
		.src = p->server, .dst = p->node, .sport = key->dport, .dport = n->port, .proto = key->proto
	};
	struct k3c_nat back;

	if (key->kind != K3C_NAT_OUT || key->proto != IPPROTO_UDP || key->dport != htons(53) ||
	    memcmp(&key->dst, &p->server, sizeof(key->dst)) != 0)
		return;
	assert_true(is_allowed(port));
	assert_false(p->taken[port]);
	p->taken[port] = true;
	mirror.kind = K3C_NAT_IN;
	assert_true(nat_get(&mirror, &back));
	assert_memory_equal(&back.addr, &key->src, sizeof(back.addr));
	assert_int_equal(back.port, key->sport);
	p->n++;
}

/* Flows to that server that have a port; each its own, and the answers lead back. */
static uint32_t count_ports(const struct family *f)
{
	struct dp_addr node = ip(f->node), server = ip(f->outside);
	struct ports p = { .node = dp_addr_in(&node), .server = dp_addr_in(&server) };

	nat_each(ports_add, &p);
	return p.n;
}

static void drain(int fd)
{
	char buf[8];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0)
		;
}

/* There and back; the server sees the same port as before (*port; 0: tell). */
static void talk(int client, int server, uint16_t *port)
{
	union any_addr peer;
	socklen_t len = sizeof(peer);
	char buf[8];

	drain(server);
	assert_int_equal(send(client, "ask", 3, 0), 3);
	assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &peer.sa, &len), 3);
	if (*port)
		assert_int_equal(any_port(&peer), *port);
	*port = any_port(&peer);
	assert_int_equal(sendto(server, "say", 3, 0, &peer.sa, len), 3);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
}

/* Neighbours hold back few packets while they are looked for: they are known before a flood. */
static void warm(const struct family *f)
{
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 54);
	int namespaces[] = { a.ns, b.ns }, client;

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		uint16_t port = 0;

		assert_int_equal(client_in(namespaces[i], SOCK_DGRAM, f->outside, 54, &client), 0);
		talk(client, server, &port);
		close(client);
	}
	close(server);
}

/* For whoever reads that some were lost elsewhere. */
static void print_drops(void)
{
	struct dp_drop d[32];
	size_t n;

	ok(dataplane_drops(world.dp, d, 32, &n, err));
	for (size_t i = 0; i < n; i++)
		if (d[i].packets)
			print_error("%s: %llu\n", d[i].reason, (unsigned long long)d[i].packets);
}

static void test_exhausted(void **state)
{
	const struct family *f = *state;
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 53), tcp, client, conn, old, new;
	int other_server = server_in(world.outside, SOCK_DGRAM, f->other, 53), other;
	uint64_t before = drops("snat-exhausted");
	uint16_t port = 0, other_port = 0;
	struct dp_snat was, now;
	uint32_t n;

	tcp = server_in(world.outside, SOCK_STREAM, f->outside, 53);
	assert_int_equal(client_in(a.ns, SOCK_STREAM, f->outside, 53, &client), 0);
	conn = accept_any(tcp, NULL);
	assert_int_equal(client_in(a.ns, SOCK_DGRAM, f->outside, 53, &old), 0);
	talk(old, server, &port);
	talk(old, server, &port); /* it lasts for longer than one question, and than the flood */
	warm(f);
	ok(dataplane_snat(world.dp, &was, err));
	flood(f->outside, FLOWS);
	n = count_ports(f);
	assert_true(drops("snat-exhausted") > before);
	/* the last of them may still be on their way */
	for (int i = 0; i < WORLD_WAIT_MS / 10 && n + (drops("snat-exhausted") - before) < 2 * FLOWS + 1; i++) {
		usleep(10000);
		n = count_ports(f);
	}
	ok(dataplane_snat(world.dp, &now, err));
	if (n + (drops("snat-exhausted") - before) != 2 * FLOWS + 1)
		print_drops();
	assert_int_equal(n + (drops("snat-exhausted") - before), 2 * FLOWS + 1);
	assert_int_equal(now.exhausted - was.exhausted, drops("snat-exhausted") - before);
	assert_true(now.collisions > was.collisions);
	print_message("%u of %d ports taken, %u flows dropped, %.1f ports looked at by each\n", n, PORTS,
		      2 * FLOWS + 1 - n, 1 + (double)(now.collisions - was.collisions) / (2 * FLOWS));
	/* what stood goes on, and other servers are reached */
	talk(old, server, &port);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	assert_int_equal(client_in(b.ns, SOCK_DGRAM, f->other, 53, &other), 0);
	talk(other, other_server, &other_port);
	/* once flows are gone there is room again */
	nat_clear();
	assert_int_equal(client_in(b.ns, SOCK_DGRAM, f->outside, 53, &new), 0);
	port = 0;
	talk(new, server, &port);
	close(new);
	close(other);
	close(other_server);
	close(old);
	close(conn);
	close(client);
	close(tcp);
	close(server);
}

/* Every port is held by a flow of pod b that ended long ago. */
static void take_all(const struct family *f, uint64_t age_s, uint16_t flags)
{
	struct dp_addr node = ip(f->node), server = ip(f->outside), owner = ip(f->b);
	int fd = world.dp->maps[DP_MAP_NAT];
	struct timespec t;
	uint64_t then;

	clock_gettime(CLOCK_MONOTONIC, &t);
	then = (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec - age_s * 1000000000ULL;
	for (uint32_t p = WORLD_SNAT_PORT_MIN; p <= WORLD_SNAT_PORT_MAX; p++) {
		struct k3c_nat_key in = { .src = dp_addr_in(&server),
					  .dst = dp_addr_in(&node),
					  .sport = htons(53),
					  .dport = htons((uint16_t)p),
					  .proto = IPPROTO_UDP,
					  .kind = K3C_NAT_IN };
		struct k3c_nat_key out = { .src = dp_addr_in(&owner),
					   .dst = dp_addr_in(&server),
					   .sport = htons((uint16_t)p),
					   .dport = htons(53),
					   .proto = IPPROTO_UDP,
					   .kind = K3C_NAT_OUT };
		struct k3c_nat back = {
			.addr = out.src, .port = out.sport, .flags = K3C_NAT_MASQUERADE | flags, .last_ns = then
		};
		struct k3c_nat to = back;

		to.addr = in.dst;
		to.port = in.dport;

		assert_int_equal(bpf_map_update_elem(fd, &in, &back, BPF_ANY), 0);
		assert_int_equal(bpf_map_update_elem(fd, &out, &to, BPF_ANY), 0);
	}
}

/* A flow that ended long ago gives its port to another; should it come to life again, it gets another one itself. */
static void test_expired(void **state)
{
	const struct family *f = *state;
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 53), client, revived;
	uint16_t port = 0, revived_port = 0;
	union any_addr from;
	uint64_t before;

	take_all(f, K3C_NAT_UDP_TIMEOUT_S + 20, K3C_NAT_ANSWERED);
	assert_int_equal(client_in(a.ns, SOCK_DGRAM, f->outside, 53, &client), 0);
	talk(client, server, &port);
	from = any_of(f->b, port);
	revived = sock_in_domain(b.ns, from.sa.sa_family, SOCK_DGRAM, 0);
	assert_int_equal(bind(revived, &from.sa, any_len(&from)), 0);
	from = any_of(f->outside, 53);
	assert_int_equal(connect(revived, &from.sa, any_len(&from)), 0);
	talk(revived, server, &revived_port);
	assert_int_not_equal(revived_port, port);
	talk(client, server, &port);
	close(revived);
	close(client);
	/* those that are alive keep theirs, and who said more than one thing is so for longer */
	take_all(f, K3C_NAT_UDP_TIMEOUT_S + 20, K3C_NAT_ANSWERED | K3C_NAT_STREAM);
	assert_int_equal(client_in(a.ns, SOCK_DGRAM, f->outside, 53, &client), 0);
	drain(server);
	before = drops("snat-exhausted");
	assert_int_equal(send(client, "x", 1, 0), 1);
	await_drop("snat-exhausted", before);
	assert_false(readable(server, 0));
	close(client);
	close(server);
}

/* ---- with all the ports that a host has by default ---- */

/* A client at that port of its own. */
static int client_at(int ns, const char *to, uint16_t port)
{
	union any_addr server = any_of(to, 53), from = { .v6 = { .sin6_family = server.sa.sa_family } };
	int fd = sock_in_domain(ns, server.sa.sa_family, SOCK_DGRAM, 0);

	from.v6.sin6_port = htons(port);
	assert_int_equal(bind(fd, &from.sa, any_len(&from)), 0);
	assert_int_equal(connect(fd, &server.sa, any_len(&server)), 0);
	return fd;
}

/* A pod's own port stays, unless it is another's towards that server: another pod's, the host's, a node port. */
static void test_own_port(void **state)
{
	static const uint16_t never[] = { 1023, 30000, 32767, LOCAL_PORT_MIN, LOCAL_PORT_MAX };
	const struct family *f = *state;
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 53), host, first, second, third;
	uint16_t port = 5000;

	first = client_at(a.ns, f->outside, port);
	talk(first, server, &port);
	assert_int_equal(port, 5000);
	second = client_at(b.ns, f->outside, 5000);
	port = 0;
	talk(second, server, &port);
	assert_int_not_equal(port, 5000);
	assert_true(is_allowed(port));
	/* a socket of the host that may ask the same server from there, as a resolver's */
	host = server_in(world_host_ns(), SOCK_DGRAM, f->node, 5001);
	third = client_at(a.ns, f->outside, 5001);
	port = 0;
	talk(third, server, &port);
	assert_int_not_equal(port, 5001);
	assert_true(is_allowed(port));
	close(third);
	for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
		third = client_at(a.ns, f->outside, never[i]);
		port = 0;
		talk(third, server, &port);
		assert_true(is_allowed(port));
		close(third);
	}
	close(host);
	close(second);
	close(first);
	close(server);
}

static struct k3c_nat_key answers_key(const struct family *f, uint8_t proto, uint16_t port)
{
	struct dp_addr node = ip(f->node), server = ip(f->outside);

	return (struct k3c_nat_key){ .src = dp_addr_in(&server),
				     .dst = dp_addr_in(&node),
				     .sport = htons(53),
				     .dport = htons(port),
				     .proto = proto,
				     .kind = K3C_NAT_IN };
}

static struct k3c_nat answers_of(const struct family *f, uint16_t port)
{
	struct k3c_nat_key key = answers_key(f, IPPROTO_UDP, port);
	struct k3c_nat n;

	assert_true(nat_get(&key, &n));
	return n;
}

/* The table takes the half of the answers, and may give it to somebody else. Who asks again hears his own at once. */
static void test_half(void **state)
{
	const struct family *f = *state;
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 53), first, second;
	struct k3c_nat_key key = answers_key(f, IPPROTO_UDP, 5000);
	int table = world.dp->maps[DP_MAP_UNASSURED];
	uint16_t port = 5000, others = 5000;

	first = client_at(a.ns, f->outside, 5000);
	second = client_at(b.ns, f->outside, 5000);
	talk(first, server, &port);
	assert_int_equal(bpf_map_delete_elem(table, &key), 0);
	talk(first, server, &port);
	nat_clear();
	assert_int_equal(send(first, "x", 1, 0), 1);
	assert_true(readable(server, WORLD_WAIT_MS));
	drain(server);
	assert_int_equal(bpf_map_delete_elem(table, &key), 0);
	talk(second, server, &others);
	port = 0;
	talk(first, server, &port);
	assert_int_not_equal(port, others);
	assert_false(readable(second, 0));
	talk(second, server, &others);
	talk(first, server, &port);
	close(second);
	close(first);
	close(server);
}

static int connection_at(int ns, const char *to, uint16_t port, int *ret)
{
	union any_addr server = any_of(to, 53), from = { .v6 = { .sin6_family = server.sa.sa_family } };
	struct linger reset = { .l_onoff = 1 };

	from.v6.sin6_port = htons(port);
	*ret = sock_in_domain(ns, server.sa.sa_family, SOCK_STREAM, 0);
	setsockopt(*ret, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	assert_int_equal(bind(*ret, &from.sa, any_len(&from)), 0);
	return connect(*ret, &server.sa, any_len(&server)) < 0 ? -errno : 0;
}

/* The next connection from the port of one that was refused is a new one: nothing says of it that it ended. */
static void test_refused_before(void **state)
{
	const struct family *f = *state;
	struct k3c_nat_key key = answers_key(f, IPPROTO_TCP, 5000);
	int client, server, conn;
	struct k3c_nat n;

	assert_int_equal(connection_at(a.ns, f->outside, 5000, &client), -ECONNREFUSED);
	close(client);
	assert_true(nat_get(&key, &n));
	assert_true(n.flags & K3C_NAT_CLOSED);
	server = server_in(world.outside, SOCK_STREAM, f->outside, 53);
	assert_int_equal(connection_at(a.ns, f->outside, 5000, &client), 0);
	conn = accept_any(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	assert_true(nat_get(&key, &n)); /* the same port */
	assert_int_equal(n.flags, K3C_NAT_MASQUERADE | K3C_NAT_ANSWERED | K3C_NAT_STREAM);
	close(client);
	assert_true(recv(conn, &(char){ 0 }, 1, 0) <= 0);
	close(conn);
	close(server);
}

/* One question and its answer are no flow that lasts; a second question is. */
static void test_stream(void **state)
{
	const struct family *f = *state;
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 53), client = client_at(a.ns, f->outside, 5000);
	uint16_t port = 5000;

	talk(client, server, &port);
	assert_int_equal(answers_of(f, port).flags, K3C_NAT_MASQUERADE | K3C_NAT_ANSWERED | K3C_NAT_UNASSURED);
	talk(client, server, &port);
	assert_int_equal(answers_of(f, port).flags, K3C_NAT_MASQUERADE | K3C_NAT_ANSWERED | K3C_NAT_STREAM);
	close(client);
	close(server);
}

/* What used up all ports above the host's own is nothing now: none of so many flows is dropped. */
static void test_room(void **state)
{
	const struct family *f = *state;
	int server = server_in(world.outside, SOCK_DGRAM, f->outside, 53);
	uint64_t before = drops("snat-exhausted");

	warm(f);
	flood(f->outside, (int)room_flows);
	for (int i = 0; i < WORLD_WAIT_MS / 10 && count_ports(f) < 2 * room_flows; i++)
		usleep(10000);
	assert_int_equal(count_ports(f), 2 * room_flows);
	assert_int_equal(drops("snat-exhausted"), before);
	close(server);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, &families[DP_V4] },                                                  \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, &families[DP_V6]                                               \
	}

static int tests(void)
{
	const struct CMUnitTest with_few[] = {
		BOTH(test_exhausted),
		BOTH(test_expired),
	};
	const struct CMUnitTest with_all[] = {
		BOTH(test_own_port), BOTH(test_stream), BOTH(test_half), BOTH(test_refused_before), BOTH(test_room),
	};
	char local_ports[32];
	struct dataplane_options o;
	int r;

	world_few_snat_ports();
	world_uplink();
	link_setup(world.outside, "eth0", families[DP_V4].other, 24);
	link_setup(world.outside, "eth0", families[DP_V6].other, 64);
	o = world_options();
	room_flows = (uint32_t)rounds_wanted("K3C_SNAT_FLOWS", ROOM_FLOWS);
	assert_true(2 * room_flows > PORTS);
	o.max_connections = SNAT_CONNECTIONS / ROOM_FLOWS * room_flows;
	ok(dataplane_open(&o, &world.dp, err));
	few = true;
	r = cmocka_run_group_tests(with_few, NULL, NULL);
	dataplane_close(world.dp);
	few = false;
	snprintf(local_ports, sizeof(local_ports), "%d %d", LOCAL_PORT_MIN, LOCAL_PORT_MAX);
	ok(fs_write("/proc/sys/net/ipv4/ip_local_port_range", local_ports, err));
	ok(dataplane_open(&o, &world.dp, err));
	r |= cmocka_run_group_tests(with_all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
