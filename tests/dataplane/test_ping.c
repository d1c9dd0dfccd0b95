/* SPDX-License-Identifier: Apache-2.0 */
/* Pings, in both families: between pods, to what is outside (which sees the node), to a Service (nobody is there), from
 * the node; and what policies make of them: ICMP passes rules without ports only, answers and errors need no rule. */
#include "tests/dataplane/world.h"

#include <linux/icmp.h>
#include <linux/icmpv6.h>

enum { ID_CLIENT = 7, ID_SERVER };

struct family {
	const char *name, *node, *outside, *client, *server, *service;
	int domain, proto;
	uint8_t request, reply, unreachable;
};

static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { "IPv4", NODE_IP, OUTSIDE_IP, "10.42.3.1", "10.42.3.2", "10.43.0.30", AF_INET, IPPROTO_ICMP,
		    ICMP_ECHO, ICMP_ECHOREPLY, ICMP_DEST_UNREACH },
	[DP_V6] = { "IPv6", NODE_IP6, OUTSIDE_IP6, "fd42::3:1", "fd42::3:2", "fd43::30", AF_INET6, IPPROTO_ICMPV6,
		    ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_DEST_UNREACH },
};

static const struct family *f;
static struct test_pod client, server;
static uint16_t last_sequence;

static int setup(void **state)
{
	pod_make_dual(&client, "client", families[DP_V4].client, families[DP_V6].client, ID_CLIENT);
	pod_make_dual(&server, "server", families[DP_V4].server, families[DP_V6].server, ID_SERVER);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&client);
	pod_drop(&server);
	return 0;
}

static int ping_socket(int ns)
{
	return sock_in_domain(ns, f->domain, SOCK_RAW, f->proto);
}

/* The sequence number says which question an answer is for. */
static void ping_send(int fd, const char *to)
{
	union any_addr dst = any_of(to, 0);
	struct icmphdr h = { .type = f->request,
			     .un.echo = { .id = htons(0x4b33), .sequence = htons(++last_sequence) } };

	if (f->domain == AF_INET)
		h.checksum = (uint16_t) ~(h.type + h.un.echo.id + h.un.echo.sequence +
					  (h.type + h.un.echo.id + h.un.echo.sequence > 0xffff ? 1 : 0));
	assert_int_equal(sendto(fd, &h, sizeof(h), 0, &dst.sa, any_len(&dst)), sizeof(h));
}

/* The next message of this type about the last question; *ret_from: who sent it. Others are passed over. */
static void ping_await(int fd, uint8_t type, union any_addr *ret_from)
{
	for (;;) {
		char packet[256];
		union any_addr from;
		socklen_t len = sizeof(from);
		struct icmphdr h;
		size_t at = 0;
		ssize_t n = recvfrom(fd, packet, sizeof(packet), 0, &from.sa, &len);

		if (n < 0)
			fail_msg("%s: no message of type %u: %s", f->name, type, strerror(errno));
		if (f->domain == AF_INET)
			at = (size_t)(packet[0] & 15) * 4;
		if ((size_t)n < at + sizeof(h))
			continue;
		memcpy(&h, packet + at, sizeof(h));
		if (h.type != type)
			continue;
		if ((type == f->request || type == f->reply) && ntohs(h.un.echo.sequence) != last_sequence)
			continue;
		*ret_from = from;
		return;
	}
}

static void answered(int ns, const char *to)
{
	int fd = ping_socket(ns);
	union any_addr from;

	ping_send(fd, to);
	ping_await(fd, f->reply, &from);
	assert_true(any_is(&from, to, 0));
	close(fd);
}

static void dropped_for(int ns, const char *to, const char *reason)
{
	uint64_t before = drops(reason);
	int fd = ping_socket(ns);

	ping_send(fd, to);
	await_drop(reason, before);
	assert_int_equal(drops(reason), before + 1);
	close(fd);
}

static void test_open(void **state)
{
	answered(client.ns, f->server);
	answered(server.ns, f->client);
	answered(client.ns, f->client);
	answered(client.ns, f->node);
	answered(world_host_ns(), f->server);
}

/* The world sees the node, whichever pod asks, and each gets its own answer. */
static void test_outside(void **state)
{
	int out = ping_socket(world.outside), pods[] = { ping_socket(client.ns), ping_socket(server.ns) };

	for (size_t i = 0; i < ARRAY_SIZE(pods); i++) {
		union any_addr from;

		ping_send(pods[i], f->outside);
		ping_await(out, f->request, &from);
		assert_true(any_is(&from, f->node, 0));
		ping_await(pods[i], f->reply, &from);
		assert_true(any_is(&from, f->outside, 0));
		close(pods[i]);
	}
	close(out);
}

/* A Service is ports: nobody has its address, and whoever pings it is told. */
static void test_service(void **state)
{
	struct dp_backend b = { ip(f->server), 8080 };
	struct dp_service s = { .id = 1,
				.kind = DP_CLUSTER_IP,
				.proto = IPPROTO_TCP,
				.port = 80,
				.addr = ip(f->service),
				.backends = &b,
				.n_backends = 1 };
	int fd = ping_socket(client.ns);
	union any_addr from;

	ok(dataplane_service_set(world.dp, &s, err));
	ping_send(fd, f->service);
	ping_await(fd, f->unreachable, &from);
	close(fd);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void put_policy(const char *pod, bool ingress, const struct dp_policy_rule *rules, size_t n)
{
	struct dp_policy p = {
		.pod = ip(pod), .isolated_ingress = ingress, .isolated_egress = !ingress, .rules = rules, .n_rules = n
	};

	ok(dataplane_policy_set(world.dp, &p, err));
}

static void drop_policy(const char *pod)
{
	struct dp_addr a = ip(pod);

	ok(dataplane_policy_delete(world.dp, &a, err));
}

static void test_ingress(void **state)
{
	const struct dp_policy_rule all = { .direction = DP_INGRESS, .identity = ID_CLIENT },
				    tcp = { .direction = DP_INGRESS,
					    .proto = IPPROTO_TCP,
					    .port = 80,
					    .identity = ID_CLIENT },
				    every_tcp = { .direction = DP_INGRESS,
						  .proto = IPPROTO_TCP,
						  .identity = ID_CLIENT };

	put_policy(f->server, true, NULL, 0);
	dropped_for(client.ns, f->server, "policy-ingress");
	answered(world_host_ns(), f->server); /* the node itself always may */
	answered(server.ns, f->client);       /* the answer needs no rule, */
	answered(server.ns, f->outside);
	put_policy(f->server, true, &tcp, 1);
	dropped_for(client.ns, f->server, "policy-ingress");
	put_policy(f->server, true, &every_tcp, 1);
	dropped_for(client.ns, f->server, "policy-ingress");
	put_policy(f->server, true, &all, 1);
	answered(client.ns, f->server);
	drop_policy(f->server);
	answered(client.ns, f->server);
}

static void test_egress(void **state)
{
	const struct dp_policy_rule pod = { .direction = DP_EGRESS, .identity = ID_SERVER },
				    block = { .direction = DP_EGRESS, .prefix = ip(f->outside), .prefix_len = 128 },
				    port = { .direction = DP_EGRESS,
					     .proto = IPPROTO_UDP,
					     .port = 53,
					     .prefix = ip(f->outside),
					     .prefix_len = 128 };

	put_policy(f->client, false, NULL, 0);
	dropped_for(client.ns, f->server, "policy-egress");
	dropped_for(client.ns, f->outside, "policy-egress");
	answered(server.ns, f->client); /* what it answers is no new flow */
	put_policy(f->client, false, &pod, 1);
	answered(client.ns, f->server);
	dropped_for(client.ns, f->outside, "policy-egress");
	put_policy(f->client, false, &port, 1);
	dropped_for(client.ns, f->outside, "policy-egress");
	put_policy(f->client, false, &block, 1);
	answered(client.ns, f->outside);
	dropped_for(client.ns, f->server, "policy-egress");
	drop_policy(f->client);
}

/* That a port is closed is told through every policy that let the question pass. */
static void test_error(void **state)
{
	const struct dp_policy_rule rule = {
		.direction = DP_INGRESS, .proto = IPPROTO_UDP, .port = 9999, .identity = ID_CLIENT
	};
	int fd;

	put_policy(f->server, true, &rule, 1);
	put_policy(f->client, true, NULL, 0);
	assert_int_equal(client_in(client.ns, SOCK_DGRAM, f->server, 9999, &fd), 0);
	assert_int_equal(send(fd, "?", 1, 0), 1);
	assert_true(readable(fd, WORLD_WAIT_MS));
	assert_int_equal(recv(fd, &(char){ 0 }, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	drop_policy(f->server);
	drop_policy(f->client);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_outside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ingress, setup, teardown),
		cmocka_unit_test_setup_teardown(test_egress, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error, setup, teardown),
	};
	int r = 0;

	world_uplink();
	world_open();
	for (int i = 0; i < DP_FAMILIES && r == 0; i++) {
		f = &families[i];
		r = cmocka_run_group_tests_name(f->name, all, NULL, NULL);
	}
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
