/* SPDX-License-Identifier: Apache-2.0 */
/* The node's links: a host outside reaches node ports with its own address, pods reach the outside with the node's. */
#include "tests/dataplane/world.h"

#include <netinet/ip_icmp.h>

static struct test_pod pod;

static int setup(void **state)
{
	pod_make(&pod, "pod", "10.42.2.10", 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&pod);
	return 0;
}

static struct dp_service node_port(uint8_t proto, uint16_t port, const struct dp_backend *b)
{
	return (struct dp_service){ .id = port,
				    .kind = DP_NODE_PORT,
				    .proto = proto,
				    .addr = ip("0.0.0.0"),
				    .port = port,
				    .backends = b,
				    .n_backends = b ? 1 : 0 };
}

static void test_node_port_tcp(void **state)
{
	struct dp_backend b = { ip(pod.addr), 8080 };
	struct dp_service s = node_port(IPPROTO_TCP, 30080, &b);
	int server = server_in(pod.ns, SOCK_STREAM, pod.addr, 8080), client, conn;
	struct sockaddr_in peer;

	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 5; i++) {
		assert_int_equal(client_in(world.outside, SOCK_STREAM, NODE_IP, 30080, &client), 0);
		conn = accept_from(server, &peer);
		assert_true(addr_is(&peer, OUTSIDE_IP, 0));
		pass_bytes(client, conn, "question");
		pass_bytes(conn, client, "answer");
		if (i < 4) {
			close(conn);
			close(client);
		}
	}
	pass_bulk(conn, client);
	close(conn);
	close(client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_node_port_udp(void **state)
{
	struct dp_backend b = { ip(pod.addr), 5353 };
	struct dp_service s = node_port(IPPROTO_UDP, 30053, &b);
	int server = server_in(pod.ns, SOCK_DGRAM, pod.addr, 5353), client;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char buf[16];

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, NODE_IP, 30053, &client), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send(client, "ask", 3, 0), 3);
		assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len), 3);
		assert_true(addr_is(&from, OUTSIDE_IP, 0));
		assert_int_equal(sendto(server, "say", 3, 0, (struct sockaddr *)&from, len), 3);
		assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	}
	close(client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* Nobody listens in the pod: what the pod says about it reaches the client, from the address the client knows. */
static void test_node_port_udp_refused(void **state)
{
	struct dp_backend b = { ip(pod.addr), 5354 };
	struct dp_service s = node_port(IPPROTO_UDP, 30054, &b);
	char buf[4];
	int client;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, NODE_IP, 30054, &client), 0);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(client);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_node_port_refused(void **state)
{
	struct dp_service s = node_port(IPPROTO_TCP, 30081, NULL);
	int fd;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_STREAM, NODE_IP, 30081, &fd), -ECONNREFUSED);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_node_port_policy(void **state)
{
	struct dp_backend b = { ip(pod.addr), 8080 };
	struct dp_service s = node_port(IPPROTO_TCP, 30080, &b);
	struct dp_policy_rule in = {
		.direction = DP_INGRESS, .prefix = ip(OUTSIDE_IP), .prefix_len = 128, .proto = IPPROTO_TCP, .port = 8080
	};
	struct dp_policy policy = { .pod = ip(pod.addr), .isolated_ingress = true };
	int server = server_in(pod.ns, SOCK_STREAM, pod.addr, 8080), client, conn;
	struct sockaddr_in to = sin_of(NODE_IP, 30080);
	uint64_t before = drops("policy-ingress");

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_policy_set(world.dp, &policy, err));
	client = sock_in(world.outside, SOCK_STREAM);
	fcntl(client, F_SETFL, O_NONBLOCK);
	connect(client, (struct sockaddr *)&to, sizeof(to));
	await_drop("policy-ingress", before);
	close(client);
	policy.rules = &in;
	policy.n_rules = 1;
	policy.isolated_egress = true; /* answers still go out */
	ok(dataplane_policy_set(world.dp, &policy, err));
	assert_int_equal(client_in(world.outside, SOCK_STREAM, NODE_IP, 30080, &client), 0);
	conn = accept_from(server, NULL);
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_host_backend(void **state)
{
	struct dp_backend b = { ip(NODE_IP), 6443 };
	struct dp_service s = node_port(IPPROTO_TCP, 30443, &b);
	int server = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 6443), client, conn;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_STREAM, NODE_IP, 30443, &client), 0);
	conn = accept_from(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_masquerade(void **state)
{
	int server = server_in(world.outside, SOCK_STREAM, OUTSIDE_IP, 443), client, conn;
	int udp = server_in(world.outside, SOCK_DGRAM, OUTSIDE_IP, 53), udp_client;
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	char buf[16];

	assert_int_equal(client_in(pod.ns, SOCK_STREAM, OUTSIDE_IP, 443, &client), 0);
	conn = accept_from(server, &peer);
	assert_true(addr_is(&peer, NODE_IP, 0));
	assert_false(ntohs(peer.sin_port) >= 32768 && ntohs(peer.sin_port) <= 60999); /* the host's own clients' */
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");

	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, OUTSIDE_IP, 53, &udp_client), 0);
	assert_int_equal(send(udp_client, "ask", 3, 0), 3);
	assert_int_equal(recvfrom(udp, buf, sizeof(buf), 0, (struct sockaddr *)&peer, &len), 3);
	assert_true(addr_is(&peer, NODE_IP, 0));
	assert_int_equal(sendto(udp, "say", 3, 0, (struct sockaddr *)&peer, len), 3);
	assert_int_equal(recv(udp_client, buf, sizeof(buf), 0), 3);
	close(udp_client);
	close(udp);
	close(conn);
	close(client);
	close(server);
}

/* Datagrams larger than the link: every fragment finds its way, out and back, also through a policy. */
static void test_fragments(void **state)
{
	struct dp_policy_rule out = {
		.direction = DP_EGRESS, .prefix = ip(OUTSIDE_IP), .prefix_len = 128, .proto = IPPROTO_UDP, .port = 53
	};
	struct dp_policy policy = {
		.pod = ip(pod.addr), .isolated_ingress = true, .isolated_egress = true, .rules = &out, .n_rules = 1
	};
	int server = server_in(world.outside, SOCK_DGRAM, OUTSIDE_IP, 53), client;
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	char big[5000], back[5000];

	ok(dataplane_policy_set(world.dp, &policy, err));
	memset(big, 'f', sizeof(big));
	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, OUTSIDE_IP, 53, &client), 0);
	assert_int_equal(send(client, big, sizeof(big), 0), sizeof(big));
	assert_int_equal(recvfrom(server, back, sizeof(back), 0, (struct sockaddr *)&peer, &len), sizeof(big));
	assert_true(addr_is(&peer, NODE_IP, 0));
	assert_int_equal(sendto(server, big, sizeof(big), 0, (struct sockaddr *)&peer, len), sizeof(big));
	memset(back, 0, sizeof(back));
	assert_int_equal(recv(client, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(big, back, sizeof(big));
	close(client);
	close(server);
}

/* What the outside says about a masqueraded datagram finds its way into the pod. */
static void test_icmp_error(void **state)
{
	char buf[4];
	int fd;

	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, OUTSIDE_IP, 9, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static uint16_t icmp_sum(const void *data, size_t n)
{
	const uint16_t *w = data;
	uint32_t sum = 0;

	for (; n > 1; n -= 2)
		sum += *w++;
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t) ~(sum + (sum >> 16));
}

static void test_ping(void **state)
{
	struct icmphdr echo = { .type = ICMP_ECHO, .un.echo = { .id = htons(0x1234), .sequence = htons(1) } };
	struct sockaddr_in to = sin_of(OUTSIDE_IP, 0);
	int fd = sock_in_domain(pod.ns, AF_INET, SOCK_RAW, IPPROTO_ICMP);
	char buf[128];
	ssize_t n;

	echo.checksum = icmp_sum(&echo, sizeof(echo));
	assert_int_equal(sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(echo));
	n = recv(fd, buf, sizeof(buf), 0);
	assert_int_equal(n, 20 + sizeof(echo));
	memcpy(&echo, buf + 20, sizeof(echo));
	assert_int_equal(echo.type, ICMP_ECHOREPLY);
	assert_int_equal(ntohs(echo.un.echo.id), 0x1234);
	close(fd);
}

static void test_new_link(void **state)
{
	struct dp_backend b = { ip(pod.addr), 8080 };
	struct dp_service s = node_port(IPPROTO_TCP, 30082, &b);
	int ns = ns_new(), server = server_in(pod.ns, SOCK_STREAM, pod.addr, 8080), client, conn;

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_links_process(world.dp, err));
	nl_veth_to(ns, "up1", "eth0");
	link_setup(world_host_ns(), "up1", "172.31.0.1", 24);
	link_setup(ns, "eth0", "172.31.0.2", 24);
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
	assert_int_equal(client_in(ns, SOCK_STREAM, "172.31.0.1", 30082, &client), 0);
	conn = accept_from(server, NULL);
	pass_bytes(client, conn, "question");
	close(conn);
	close(client);
	close(server);
	close(ns);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_local_address(void **state)
{
	struct dp_addr dns = ip("10.43.0.10");
	int server, client;

	ok(dataplane_local_address_add(world.dp, &dns, err));
	ok(dataplane_local_address_add(world.dp, &dns, err));
	server = server_in(world_host_ns(), SOCK_DGRAM, "10.43.0.10", 53);
	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, "10.43.0.10", 53, &client), 0);
	pass_bytes(client, server, "name");
	close(client);
	close(server);
	ok(dataplane_local_address_delete(world.dp, &dns, err));
	ok(dataplane_local_address_delete(world.dp, &dns, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_node_port_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_port_udp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_port_udp_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_port_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_port_policy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_backend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masquerade, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fragments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_icmp_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ping, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_local_address, setup, teardown),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
