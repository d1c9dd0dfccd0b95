/* SPDX-License-Identifier: Apache-2.0 */
/* What pods and their node carry, the same for IPv4 and IPv6, with real sockets: pods among themselves and with the
 * host, node ports, masquerade, echoes, errors, datagrams in fragments, policies by prefix. */
#include "tests/dataplane/world.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

struct family {
	const char *name;
	const char *node, *outside, *a, *b, *any;
	uint8_t icmp;
};

static struct family families[DP_FAMILIES] = {
	[DP_V4] = { "IPv4", NODE_IP, OUTSIDE_IP, "10.42.7.1", "10.42.7.2", "0.0.0.0", IPPROTO_ICMP },
	[DP_V6] = { "IPv6", NODE_IP6, OUTSIDE_IP6, "fd42::7:1", "fd42::7:2", "::", IPPROTO_ICMPV6 },
};

static struct test_pod a, b;

static int setup(void **state)
{
	pod_make_dual(&a, "pod-a", families[DP_V4].a, families[DP_V6].a, 100);
	pod_make_dual(&b, "pod-b", families[DP_V4].b, families[DP_V6].b, 200);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

/* From `from` to a server at `at`, reached as `addr`:`port`; the server sees `seen` (NULL: anyone). */
static void expect_tcp(int from, int at, const char *own, uint16_t own_port, const char *addr, uint16_t port,
		       const char *seen)
{
	int server = server_in(at, SOCK_STREAM, own, own_port), client, conn;
	union any_addr peer;

	assert_int_equal(client_in(from, SOCK_STREAM, addr, port, &client), 0);
	conn = accept_any(server, &peer);
	if (seen)
		assert_true(any_is(&peer, seen, 0));
	pass_bytes(client, conn, "question");
	pass_bulk(conn, client);
	close(conn);
	close(client);
	close(server);
}

/* A datagram of `size` bytes there and back. */
static void expect_udp(int from, int at, const char *own, uint16_t own_port, const char *addr, uint16_t port,
		       const char *seen, size_t size)
{
	int server = server_in(at, SOCK_DGRAM, own, own_port), client;
	char out[8000], in[8000];
	union any_addr peer;

	assert_int_equal(client_in(from, SOCK_DGRAM, addr, port, &client), 0);
	for (int i = 0; i < 3; i++) {
		socklen_t len = sizeof(peer);

		memset(out, 'a' + i, size);
		assert_int_equal(send(client, out, size, 0), size);
		if (recvfrom(server, in, sizeof(in), 0, &peer.sa, &len) != (ssize_t)size)
			fail_msg("%zu bytes to %s: %s", size, addr, strerror(errno));
		assert_memory_equal(in, out, size);
		if (seen)
			assert_true(any_is(&peer, seen, 0));
		assert_int_equal(sendto(server, out, size, 0, &peer.sa, len), size);
		memset(in, 0, size);
		if (recv(client, in, sizeof(in), 0) != (ssize_t)size)
			fail_msg("%zu bytes back from %s: %s", size, addr, strerror(errno));
		assert_memory_equal(in, out, size);
	}
	close(client);
	close(server);
}

static struct dp_service node_port(const struct family *f, uint8_t proto, uint16_t port, const struct dp_backend *to)
{
	return (struct dp_service){ .id = port + (f == &families[DP_V6] ? 100000 : 0),
				    .kind = DP_NODE_PORT,
				    .proto = proto,
				    .port = port,
				    .addr = ip(f->any),
				    .backends = to,
				    .n_backends = to ? 1 : 0 };
}

static void test_pods(void **state)
{
	const struct family *f = *state;
	uint64_t spoofed = drops("spoofed-source");

	expect_tcp(a.ns, b.ns, f->b, 80, f->b, 80, f->a);
	expect_tcp(b.ns, a.ns, f->a, 80, f->a, 80, f->b);
	expect_tcp(world_host_ns(), a.ns, f->a, 80, f->a, 80, f->node);
	expect_tcp(a.ns, world_host_ns(), f->node, 81, f->node, 81, f->a);
	expect_udp(a.ns, b.ns, f->b, 53, f->b, 53, f->a, 4000);
	expect_udp(world_host_ns(), b.ns, f->b, 53, f->b, 53, f->node, 4000);
	assert_int_equal(drops("spoofed-source"), spoofed);
}

static void test_node_port(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), 8080 };
	struct dp_service tcp = node_port(f, IPPROTO_TCP, 30080, &to), udp = node_port(f, IPPROTO_UDP, 30053, &to);

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	expect_tcp(world.outside, a.ns, f->a, 8080, f->node, 30080, f->outside);
	expect_udp(world.outside, a.ns, f->a, 8080, f->node, 30053, f->outside, 100);
	expect_udp(world.outside, a.ns, f->a, 8080, f->node, 30053, f->outside, 4000);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

/* Nobody listens in the pod: what the pod says about it reaches the client, from the address the client knows. */
static void test_node_port_refused(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), 5354 };
	struct dp_service udp = node_port(f, IPPROTO_UDP, 30054, &to), tcp = node_port(f, IPPROTO_TCP, 30055, NULL);
	char buf[4];
	int client;

	ok(dataplane_service_set(world.dp, &udp, err));
	ok(dataplane_service_set(world.dp, &tcp, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, f->node, 30054, &client), 0);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(client);
	assert_int_equal(client_in(world.outside, SOCK_STREAM, f->node, 30055, &client), -ECONNREFUSED);
	close(client);
	ok(dataplane_service_delete(world.dp, &udp, err));
	ok(dataplane_service_delete(world.dp, &tcp, err));
}

static void test_masquerade(void **state)
{
	const struct family *f = *state;
	char buf[4];
	int fd;

	expect_tcp(a.ns, world.outside, f->outside, 443, f->outside, 443, f->node);
	expect_udp(a.ns, world.outside, f->outside, 53, f->outside, 53, f->node, 100);
	expect_udp(a.ns, world.outside, f->outside, 53, f->outside, 53, f->node, 4000);
	/* what the outside says about a masqueraded datagram finds its way into the pod */
	assert_int_equal(client_in(a.ns, SOCK_DGRAM, f->outside, 9, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static bool has_sctp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void expect_sctp(int from, int at, const char *own, uint16_t own_port, const char *addr, uint16_t port,
			const char *seen)
{
	union any_addr here = any_of(own, own_port), there = any_of(addr, port), peer;
	int server = sock_in_domain(at, here.sa.sa_family, SOCK_STREAM, IPPROTO_SCTP);
	int client = sock_in_domain(from, there.sa.sa_family, SOCK_STREAM, IPPROTO_SCTP), conn;

	assert_int_equal(bind(server, &here.sa, any_len(&here)), 0);
	assert_int_equal(listen(server, 4), 0);
	if (connect(client, &there.sa, any_len(&there)) < 0)
		fail_msg("SCTP to %s: %s", addr, strerror(errno));
	conn = accept_any(server, &peer);
	assert_true(any_is(&peer, seen, 0));
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
}

static void test_sctp(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), 13868 };
	struct dp_service s = node_port(f, IPPROTO_SCTP, 30038, &to);

	if (!has_sctp()) {
		print_message("no SCTP sockets here\n");
		skip();
	}
	ok(dataplane_service_set(world.dp, &s, err));
	expect_sctp(a.ns, b.ns, f->b, 3868, f->b, 3868, f->a);
	expect_sctp(world.outside, a.ns, f->a, 13868, f->node, 30038, f->outside);
	expect_sctp(a.ns, world.outside, f->outside, 3868, f->outside, 3868, f->node);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static uint16_t internet_sum(const void *data, size_t n)
{
	const uint16_t *w = data;
	uint32_t sum = 0;

	for (; n > 1; n -= 2)
		sum += *w++;
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t) ~(sum + (sum >> 16));
}

static void expect_echo(const struct family *f, int from, const char *to_text)
{
	bool v6 = text_is_v6(to_text);
	struct icmphdr echo = { .type = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO,
				.un.echo = { .id = htons(0x1234), .sequence = htons(1) } };
	union any_addr to = any_of(to_text, 0);
	int fd = sock_in_domain(from, to.sa.sa_family, SOCK_RAW, f->icmp);
	char buf[128];
	ssize_t n;

	if (!v6)
		echo.checksum = internet_sum(&echo, sizeof(echo)); /* of IPv6 the kernel sees to it */
	assert_int_equal(sendto(fd, &echo, sizeof(echo), 0, &to.sa, any_len(&to)), sizeof(echo));
	do {
		n = recv(fd, buf, sizeof(buf), 0);
		if (n < (ssize_t)sizeof(echo))
			fail_msg("no echo from %s: %s", to_text, strerror(errno));
		memcpy(&echo, buf + n - sizeof(echo), sizeof(echo));
	} while (echo.type != (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY)); /* the socket also sees neighbours asking */
	assert_int_equal(ntohs(echo.un.echo.id), 0x1234);
	close(fd);
}

static void test_echo(void **state)
{
	const struct family *f = *state;

	expect_echo(f, a.ns, f->outside);
	expect_echo(f, a.ns, f->b);
	expect_echo(f, a.ns, f->node);
	expect_echo(f, world_host_ns(), f->a);
}

/* Whom nothing listens for, and who hears of it. */
static void expect_refused(int from, const char *addr)
{
	char buf[4];
	int fd;

	assert_int_equal(client_in(from, SOCK_DGRAM, addr, 9, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	assert_int_equal(client_in(from, SOCK_STREAM, addr, 9, &fd), -ECONNREFUSED);
	close(fd);
}

/* A host that knows a way to the cluster's own addresses: pods answer with theirs. What pods begin themselves is
 * masqueraded for it all the same. */
static void test_routed(void **state)
{
	const struct family *f = *state;
	bool v6 = f == &families[DP_V6];
	const char *services = v6 ? "fd43::" : "10.43.0.0", *in_pod = v6 ? "fd43::80" : "10.43.0.80",
		   *in_host = v6 ? "fd43::1" : "10.43.0.1";
	struct dp_backend pod = { ip(f->a), 8080 }, host = { ip(f->node), 6443 };
	struct dp_service to_pod = { .id = v6 ? 7 : 8,
				     .kind = DP_CLUSTER_IP,
				     .proto = IPPROTO_TCP,
				     .port = 80,
				     .addr = ip(in_pod),
				     .backends = &pod,
				     .n_backends = 1 };
	struct dp_service to_host = { .id = v6 ? 9 : 10,
				      .kind = DP_CLUSTER_IP,
				      .proto = IPPROTO_TCP,
				      .port = 443,
				      .addr = ip(in_host),
				      .backends = &host,
				      .n_backends = 1 };

	route_in(world.outside, v6 ? "fd42::" : "10.42.0.0", v6 ? 64 : 16, f->node, NULL);
	route_in(world.outside, services, v6 ? 112 : 16, f->node, NULL);
	ok(dataplane_service_set(world.dp, &to_pod, err));
	ok(dataplane_service_set(world.dp, &to_host, err));
	expect_tcp(world.outside, a.ns, f->a, 80, f->a, 80, f->outside);
	expect_udp(world.outside, a.ns, f->a, 53, f->a, 53, f->outside, 100);
	expect_udp(world.outside, a.ns, f->a, 53, f->a, 53, f->outside, 4000);
	expect_echo(f, world.outside, f->a);
	expect_refused(world.outside, f->a);
	if (has_sctp())
		expect_sctp(world.outside, a.ns, f->a, 3868, f->a, 3868, f->outside);
	expect_tcp(world.outside, a.ns, f->a, 8080, in_pod, 80, f->outside);
	expect_tcp(world.outside, world_host_ns(), f->node, 6443, in_host, 443, f->outside);
	expect_tcp(a.ns, world.outside, f->outside, 443, f->outside, 443, f->node);
	expect_udp(a.ns, world.outside, f->outside, 53, f->outside, 53, f->node, 4000);
	expect_echo(f, a.ns, f->outside);
	ok(dataplane_service_delete(world.dp, &to_pod, err));
	ok(dataplane_service_delete(world.dp, &to_host, err));
}

static void policy(const char *pod, const struct dp_policy_rule *rules, size_t n)
{
	world_policy(pod, true, true, rules, n);
}

static void expect_drop(int from, int at, const char *addr, uint16_t port, const char *reason)
{
	int server = server_in(at, SOCK_STREAM, addr, port), client;
	union any_addr to = any_of(addr, port);
	uint64_t before = drops(reason);

	client = sock_in_domain(from, to.sa.sa_family, SOCK_STREAM, 0);
	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(client, &to.sa, any_len(&to)), -1);
	assert_int_equal(errno, EINPROGRESS);
	await_drop(reason, before);
	assert_false(readable(server, 0));
	close(client);
	close(server);
}

static void test_policy(void **state)
{
	const struct family *f = *state;
	bool v6 = f == &families[DP_V6];
	struct dp_policy_rule in[] = {
		{ .direction = DP_INGRESS,
		  .proto = IPPROTO_TCP,
		  .port = 80,
		  .prefix = ip(v6 ? "fd42::" : "10.42.0.0"),
		  .prefix_len = v6 ? 64 : 96 + 16 },
		{ .direction = DP_INGRESS, .proto = IPPROTO_UDP, .identity = 100 },
		{ .direction = DP_INGRESS, .prefix = ip(f->outside), .prefix_len = 128, .proto = IPPROTO_UDP },
	};
	struct dp_policy_rule out = { .direction = DP_EGRESS, .prefix = ip(f->outside), .prefix_len = 128 };
	struct dp_backend to = { ip(f->b), 8053 };
	struct dp_service udp = node_port(f, IPPROTO_UDP, 30056, &to);

	policy(f->b, in, ARRAY_SIZE(in));
	expect_tcp(a.ns, b.ns, f->b, 80, f->b, 80, f->a);
	expect_udp(a.ns, b.ns, f->b, 53, f->b, 53, f->a, 4000);
	expect_drop(a.ns, b.ns, f->b, 81, "policy-ingress");
	expect_drop(b.ns, a.ns, f->a, 80, "policy-egress");
	expect_tcp(world_host_ns(), b.ns, f->b, 82, f->b, 82, f->node); /* this node itself always may */
	ok(dataplane_service_set(world.dp, &udp, err));
	expect_udp(world.outside, b.ns, f->b, 8053, f->node, 30056, f->outside, 4000);
	ok(dataplane_service_delete(world.dp, &udp, err));
	policy(f->a, &out, 1);
	expect_udp(a.ns, world.outside, f->outside, 53, f->outside, 53, f->node, 4000);
	expect_tcp(a.ns, world.outside, f->outside, 443, f->outside, 443, f->node);
	expect_drop(a.ns, b.ns, f->b, 80, "policy-egress");
}

/* A second address inside the pod is nobody's; of IPv6 a link-local one is not even the node's business. */
static void test_spoof(void **state)
{
	const struct family *f = *state;
	const char *other = f == &families[DP_V6] ? "fd42::7:77" : "10.42.7.77";
	union any_addr from = any_of(other, 4000), to = any_of(f->b, 53);
	int sock = sock_in_domain(a.ns, to.sa.sa_family, SOCK_DGRAM, 0), server = server_in(b.ns, SOCK_DGRAM, f->b, 53);
	uint64_t before = drops("spoofed-source");

	link_setup(a.ns, "lo", other, f == &families[DP_V6] ? 128 : 32);
	assert_int_equal(bind(sock, &from.sa, any_len(&from)), 0);
	assert_int_equal(sendto(sock, "x", 1, 0, &to.sa, any_len(&to)), 1);
	await_drop("spoofed-source", before);
	assert_false(readable(server, 0));
	close(server);
	close(sock);
}

static void test_link_local(void **state)
{
	union any_addr to = any_of("fe80::1", 53);
	uint64_t before;
	int sock;

	sock = sock_in_domain(a.ns, AF_INET6, SOCK_DGRAM, 0);
	to.v6.sin6_scope_id = (uint32_t)ifindex_in(a.ns, "eth0");
	before = drops("unsupported-protocol");
	assert_int_equal(sendto(sock, "x", 1, 0, &to.sa, sizeof(to.v6)), 1);
	await_drop("unsupported-protocol", before);
	/* even with a link-local address of its own */
	link_setup(a.ns, "eth0", "fe80::77", 64);
	before = drops("spoofed-source");
	assert_int_equal(sendto(sock, "x", 1, 0, &to.sa, sizeof(to.v6)), 1);
	await_drop("spoofed-source", before);
	close(sock);
}

/* What the interfaces say to their links by themselves is dropped, and no news. */
static void test_quiet(void **state)
{
	struct dp_drop before[64], after[64];
	struct test_pod c;
	size_t n;

	ok(dataplane_drops(world.dp, before, 64, &n, err));
	pod_make_dual(&c, "pod-c", NULL, "fd42::7:9", 0);
	expect_tcp(a.ns, c.ns, "fd42::7:9", 80, "fd42::7:9", 80, families[DP_V6].a);
	expect_tcp(c.ns, world.outside, OUTSIDE_IP6, 80, OUTSIDE_IP6, 80, NODE_IP6);
	pod_drop(&c);
	ok(dataplane_drops(world.dp, after, 64, &n, err));
	for (size_t i = 0; i < n; i++)
		if (after[i].packets != before[i].packets)
			fail_msg("dropped for %s", after[i].reason);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, &families[DP_V4] },                                                  \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, &families[DP_V6]                                               \
	}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		BOTH(test_pods),
		BOTH(test_node_port),
		BOTH(test_node_port_refused),
		BOTH(test_masquerade),
		BOTH(test_echo),
		BOTH(test_sctp),
		BOTH(test_routed),
		BOTH(test_policy),
		BOTH(test_spoof),
		cmocka_unit_test_setup_teardown(test_link_local, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quiet, setup, teardown),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
