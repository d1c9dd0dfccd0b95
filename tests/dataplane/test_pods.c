/* SPDX-License-Identifier: Apache-2.0 */
/* Pods in namespaces: they reach each other and nobody pretends; policies allow and deny what they should, answers
 * pass, and a change cuts what is established. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

static struct test_pod a, b;

static int setup(void **state)
{
	pod_make(&a, "pod-a", "10.42.0.10", 100);
	pod_make(&b, "pod-b", "10.42.0.11", 200);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

static void policy(const struct test_pod *p, bool ingress, bool egress, const struct dp_policy_rule *rules, size_t n)
{
	world_policy(p->addr, ingress, egress, rules, n);
}

static void expect_reach(const struct test_pod *from, const struct test_pod *to, uint16_t port)
{
	int server = server_in(to->ns, SOCK_STREAM, to->addr, port), client, conn;
	struct sockaddr_in peer;

	assert_int_equal(client_in(from->ns, SOCK_STREAM, to->addr, port, &client), 0);
	conn = accept_from(server, &peer);
	assert_true(addr_is(&peer, from->addr, 0));
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
}

static void expect_drop(const struct test_pod *from, const struct test_pod *to, uint16_t port, const char *reason)
{
	int server = server_in(to->ns, SOCK_STREAM, to->addr, port), client = sock_in(from->ns, SOCK_STREAM);
	struct sockaddr_in s = sin_of(to->addr, port);
	uint64_t before = drops(reason);

	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(client, (struct sockaddr *)&s, sizeof(s)), -1);
	assert_int_equal(errno, EINPROGRESS);
	await_drop(reason, before);
	assert_false(readable(server, 0));
	close(client);
	close(server);
}

static void test_reach(void **state)
{
	uint64_t before = drops("policy-ingress");

	expect_reach(&a, &b, 80);
	expect_reach(&b, &a, 8080);
	assert_int_equal(drops("policy-ingress"), before);
}

static void test_attach_again(void **state)
{
	int before = a.ifindex;

	pod_attach(&a);
	assert_int_equal(a.ifindex, before);
	expect_reach(&a, &b, 80);
}

static void test_udp_and_host(void **state)
{
	int server = server_in(b.ns, SOCK_DGRAM, b.addr, 53), client, tcp, conn;

	assert_int_equal(client_in(a.ns, SOCK_DGRAM, b.addr, 53, &client), 0);
	pass_bytes(client, server, "datagram");
	close(client);
	close(server);
	/* from the host, and also when nobody else may */
	policy(&b, true, true, NULL, 0);
	server = server_in(b.ns, SOCK_STREAM, b.addr, 81);
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, b.addr, 81, &tcp), 0);
	conn = accept_from(server, NULL);
	pass_bytes(tcp, conn, "probe");
	pass_bytes(conn, tcp, "fine");
	close(conn);
	close(tcp);
	close(server);
}

static void test_default_deny(void **state)
{
	policy(&b, true, false, NULL, 0);
	expect_drop(&a, &b, 80, "policy-ingress");
	expect_reach(&b, &a, 80); /* its answers come in */
	policy(&b, false, false, NULL, 0);
	policy(&a, false, true, NULL, 0);
	expect_drop(&a, &b, 80, "policy-egress");
	expect_reach(&b, &a, 80);
}

static void test_identity_and_ports(void **state)
{
	struct dp_policy_rule in[] = {
		{ .direction = DP_INGRESS, .proto = IPPROTO_TCP, .port = 80, .identity = 100 },
		{ .direction = DP_INGRESS, .proto = IPPROTO_TCP, .port = 8000, .end_port = 8005, .identity = 100 },
	};
	struct dp_policy_rule out[] = {
		{ .direction = DP_EGRESS, .identity = 200 },
	};
	struct dp_addr addr = ip(a.addr);

	policy(&b, true, true, in, 2);
	policy(&a, true, true, out, 1);
	expect_reach(&a, &b, 80);
	expect_reach(&a, &b, 8000);
	expect_reach(&a, &b, 8005);
	expect_drop(&a, &b, 81, "policy-ingress");
	expect_drop(&a, &b, 7999, "policy-ingress");
	expect_drop(&a, &b, 8006, "policy-ingress");
	expect_drop(&b, &a, 80, "policy-egress");
	ok(dataplane_identity_set(world.dp, &addr, 300, err));
	expect_drop(&a, &b, 80, "policy-ingress");
	ok(dataplane_identity_set(world.dp, &addr, 100, err));
	expect_reach(&a, &b, 80);
}

static void test_prefix_with_except(void **state)
{
	struct dp_policy_rule in[] = {
		{ .direction = DP_INGRESS,
		  .prefix = ip("10.42.0.0"),
		  .prefix_len = 112,
		  .proto = IPPROTO_TCP,
		  .port = 80 },
		{ .direction = DP_INGRESS,
		  .prefix = ip("10.42.0.10"),
		  .prefix_len = 128,
		  .deny = true,
		  .proto = IPPROTO_TCP,
		  .port = 80 },
		{ .direction = DP_INGRESS,
		  .prefix = ip("10.42.0.8"),
		  .prefix_len = 125,
		  .proto = IPPROTO_TCP,
		  .port = 90 },
	};
	struct test_pod c;

	policy(&b, true, false, in, 3);
	pod_make(&c, "pod-c", "10.42.0.12", 0);
	expect_drop(&a, &b, 80, "policy-ingress");
	expect_reach(&a, &b, 90);
	expect_reach(&c, &b, 80);
	expect_reach(&c, &b, 90); /* both rules hold for it */
	expect_drop(&c, &b, 70, "policy-ingress");
	pod_drop(&c);
}

static void test_change_cuts(void **state)
{
	struct dp_policy_rule in = { .direction = DP_INGRESS, .identity = 100 };
	int server = server_in(b.ns, SOCK_STREAM, b.addr, 80), client, conn;
	uint64_t before;

	/* begun before any policy was there */
	assert_int_equal(client_in(a.ns, SOCK_STREAM, b.addr, 80, &client), 0);
	conn = accept_from(server, NULL);
	pass_bytes(client, conn, "one");
	policy(&b, true, false, &in, 1);
	pass_bytes(conn, client, "two");
	pass_bytes(client, conn, "three");
	policy(&a, true, false, NULL, 0); /* answers to a's connection */
	pass_bytes(conn, client, "four");

	policy(&b, true, false, NULL, 0);
	before = drops("policy-ingress");
	assert_int_equal(send(conn, "five", 4, 0), 4);
	await_drop("policy-ingress", before);
	before = drops("policy-ingress");
	assert_int_equal(send(client, "six", 3, 0), 3);
	await_drop("policy-ingress", before);
	assert_false(readable(client, 0));
	assert_false(readable(conn, 0));

	/* allowed again: what was held back arrives */
	policy(&b, true, false, &in, 1);
	assert_true(readable(client, WORLD_WAIT_MS));
	close(conn);
	close(client);
	close(server);
}

static void test_spoof(void **state)
{
	/* a second address inside the pod is nobody's */
	struct dp_addr other = ip("10.42.0.77");
	struct k3c_addr k = dp_addr_in(&other);
	struct sockaddr_in from = sin_of("10.42.0.77", 4000), to = sin_of(b.addr, 53);
	int fd, sock = sock_in(a.ns, SOCK_DGRAM);
	uint64_t before = drops("spoofed-source");
	struct nl *nl;

	assert_int_equal(netns_socket(a.ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_address(nl, RTM_NEWADDR, &(struct nl_address){ .addr = k, .bits = 32, .ifindex = 1 }, 0);
	ok(nl_commit(nl, err));
	nl_close(nl);
	assert_int_equal(bind(sock, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(sendto(sock, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	await_drop("spoofed-source", before);
	close(sock);
}

static bool namespace_is_known(const struct test_pod *p)
{
	uint32_t key = (uint32_t)p->ifindex, nsid;

	return bpf_map_lookup_elem(world.dp->maps[DP_MAP_NSID], &key, &nsid) == 0;
}

/* Where programs ask for sockets: also of pods that were there before, and where somebody took it away. */
static void test_namespaces(void **state)
{
	uint32_t stranger = 4000000;
	struct dp_drift found = { 0 };
	int32_t nsid = 1;

	assert_true(namespace_is_known(&a));
	assert_true(namespace_is_known(&b));
	pod_nsid_forget(world.dp, a.ifindex);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_NSID], &stranger, &nsid, BPF_ANY), 0);
	ok(dataplane_drift(world.dp, &found, err));
	assert_int_equal(found.n[DP_DRIFT_NETNS], 2);
	assert_true(namespace_is_known(&a));
	assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_NSID], &stranger, &nsid) < 0);
	pod_nsid_forget(world.dp, b.ifindex);
	dataplane_close(world.dp);
	world_open();
	assert_true(namespace_is_known(&b));
}

static void test_namespace_of_nobody(void **state)
{
	struct test_pod gone;

	pod_make(&gone, "pod-gone", "10.42.1.9", 0);
	assert_true(namespace_is_known(&gone));
	pod_drop(&gone);
	assert_false(namespace_is_known(&gone));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attach_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp_and_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_default_deny, setup, teardown),
		cmocka_unit_test_setup_teardown(test_identity_and_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefix_with_except, setup, teardown),
		cmocka_unit_test_setup_teardown(test_change_cuts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spoof, setup, teardown),
		cmocka_unit_test_setup_teardown(test_namespaces, setup, teardown),
		cmocka_unit_test(test_namespace_of_nobody),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
