/* SPDX-License-Identifier: Apache-2.0 */
/* SCTP from the host's own sockets to Services, IPv4 and IPv6: packets as raw sockets say and hear them, on any kernel;
 * what leads them there, and that it comes and goes. Associations of real sockets where the kernel has them. */
#include "tests/dataplane/own.h"

/* From then on what pods send is asked whether a translation knows it. */
static void pod_asks(const struct family *f)
{
	int client = raw_in(b.ns, f), server = raw_in(a.ns, f);
	struct heard h;

	say(client, f->cluster, next_port++, PORT, INIT);
	hear(server, POD_PORT, &h);
	assert_true(any_is(&h.from, f->b, 0));
	close(client);
	close(server);
}

static void test_to_pods(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
	struct dp_service node = service(text_is_v6(f->node) ? "::" : "0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);
	struct dp_service external = service(f->external, PORT, DP_EXTERNAL, &to);

	alone();
	set(&cluster);
	pod_asks(f);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	set(&node);
	expect_way(f, f->node, NODE_PORT, a.ns, POD_PORT, f->hidden);
	set(&external);
	expect_way(f, f->external, PORT, a.ns, POD_PORT, f->hidden);
	/* not of the host's: they are as they were */
	unset(&external);
	unset(&node);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	unset(&cluster);
}

/* A backend elsewhere answers the node's address; one on the host the hidden one. */
static void test_beyond(void **state)
{
	const struct family *f = *state;
	struct dp_backend outside = { ip(f->outside), POD_PORT }, here = { ip(f->node), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &outside);
	struct dp_service node = service(text_is_v6(f->node) ? "::" : "0.0.0.0", NODE_PORT, DP_NODE_PORT, &outside);

	alone();
	set(&cluster);
	set(&node);
	expect_way(f, f->cluster, PORT, world.outside, POD_PORT, f->node);
	expect_way(f, f->node, NODE_PORT, world.outside, POD_PORT, f->node);
	cluster.backends = node.backends = &here;
	set(&cluster);
	set(&node);
	expect_way(f, f->cluster, PORT, world_host_ns(), POD_PORT, f->hidden);
	expect_way(f, f->node, NODE_PORT, world_host_ns(), POD_PORT, f->hidden);
	unset(&cluster);
	unset(&node);
}

/* A pod that lets nobody in lets the host in. */
static void test_policy(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
	struct dp_addr addr = ip(f->a);
	struct dp_policy nobody = { .pod = addr, .isolated_ingress = true, .isolated_egress = true };

	alone();
	ok(dataplane_policy_set(world.dp, &nobody, err));
	set(&cluster);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	unset(&cluster);
	ok(dataplane_policy_delete(world.dp, &addr, err));
}

/* Nobody answers an echo there, and who asked hears of it. */
static void expect_no_echo(int ns, const char *addr)
{
	bool v6 = text_is_v6(addr);
	int fd = sock_in_domain(ns, v6 ? AF_INET6 : AF_INET, SOCK_RAW, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP), on = 1;
	uint8_t echo[8] = { v6 ? 128 : 8, 0, 0, 0, 0x12, 0x34, 0, 1 }, buf[256];
	union any_addr to = any_of(addr, 0);
	uint16_t sum = (uint16_t) ~(0x0800 + 0x1234 + 1);
	ssize_t n;

	if (!v6)
		echo[2] = (uint8_t)(sum >> 8), echo[3] = (uint8_t)sum;
	assert_int_equal(
		setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof(on)), 0);
	assert_int_equal(connect(fd, &to.sa, any_len(&to)), 0);
	assert_int_equal(send(fd, echo, sizeof(echo), 0), sizeof(echo));
	do
		n = recv(fd, buf, sizeof(buf), 0); /* raw sockets hear the error itself, too */
	while (n > 0);
	if (errno != EHOSTUNREACH && errno != ENETUNREACH)
		fail_msg("an echo of %s: %s", addr, strerror(errno));
	close(fd);
}

/* Nobody is behind it: counted. Of the other protocols a port that no Service has is refused, and soon. */
static void test_refused(void **state)
{
	const struct family *f = *state;
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, NULL);
	uint64_t before = drops("no-service-backend");
	int fd, client;
	char c;

	set(&cluster);
	client = raw_in(world_host_ns(), f);
	say(client, f->cluster, next_port++, PORT, INIT);
	await_drop("no-service-backend", before);
	close(client);
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, f->cluster, 81, &fd), -ECONNREFUSED);
	close(fd);
	assert_int_equal(client_in(a.ns, SOCK_STREAM, f->cluster, 81, &fd), -ECONNREFUSED);
	close(fd);
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, f->cluster, 81, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	expect_no_echo(world_host_ns(), f->cluster);
	expect_no_echo(a.ns, f->cluster);
	unset(&cluster);
}

/* One client, one backend: as with the other protocols. */
static void test_affinity(void **state)
{
	const struct family *f = *state;
	struct dp_backend to[] = { { ip(f->a), POD_PORT }, { ip(f->b), POD_PORT } };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, to);
	int servers[2] = { raw_in(a.ns, f), raw_in(b.ns, f) }, client = raw_in(world_host_ns(), f), first = -1;

	alone();
	cluster.n_backends = 2;
	cluster.affinity_s = 600;
	set(&cluster);
	for (int i = 0; i < 8; i++) {
		struct pollfd p[2] = { { servers[0], POLLIN, 0 }, { servers[1], POLLIN, 0 } };
		struct heard h;
		int who;

		say(client, f->cluster, next_port++, PORT, INIT);
		assert_int_equal(poll(p, 2, WORLD_WAIT_MS), 1);
		who = p[1].revents != 0;
		hear(servers[who], POD_PORT, &h);
		assert_true(first < 0 || who == first);
		first = who;
	}
	unset(&cluster);
	close(servers[0]);
	close(servers[1]);
	close(client);
}

/* ---- what leads there ---- */

static void delete_route(const char *addr)
{
	struct dp_addr dst = ip(addr);
	struct nl_route r = { .family = text_is_v6(addr) ? AF_INET6 : AF_INET,
			      .bits = text_is_v6(addr) ? 128 : 32,
			      .type = RTN_UNICAST,
			      .scope = RT_SCOPE_NOWHERE,
			      .dst = dp_addr_in(&dst),
			      .ifindex = pair() };

	nl_put_route(world.dp->nl, RTM_DELROUTE, &r, 0);
	ok(nl_commit(world.dp->nl, err));
}

static void test_comes_and_goes(void **state)
{
	const struct family *f = &families[DP_V4];
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to), tcp = cluster;
	struct dp_service node = service("0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);

	tcp.proto = IPPROTO_TCP;
	set(&tcp);
	assert_false(pair());
	set(&cluster);
	assert_true(pair());
	assert_false(lo_has_qdisc());
	set(&node);
	assert_true(lo_has_qdisc());
	unset(&node);
	assert_false(lo_has_qdisc());
	assert_true(pair());
	unset(&cluster);
	assert_false(pair());
	unset(&tcp);
}

static void test_restart_and_drift(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
	struct dp_service node = service(text_is_v6(f->node) ? "::" : "0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);

	alone();
	set(&cluster);
	set(&node);
	dataplane_close(world.dp);
	world_open();
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	assert_int_equal(look_for(DP_DRIFT_ROUTE), 0);
	delete_route(f->cluster);
	assert_int_equal(look_for(DP_DRIFT_ROUTE), 1);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	nl_put_filter_delete(world.dp->nl, 1, false);
	ok(nl_commit(world.dp->nl, err));
	assert_int_equal(look_for(DP_DRIFT_FILTER), 1);
	assert_int_equal(look_for(DP_DRIFT_FILTER), 0);
	expect_way(f, f->node, NODE_PORT, a.ns, POD_PORT, f->hidden);
	nl_put_link_delete(world.dp->nl, pair());
	ok(nl_commit(world.dp->nl, err));
	assert_int_equal(look_for(DP_DRIFT_FILTER), 1);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	expect_way(f, f->node, NODE_PORT, a.ns, POD_PORT, f->hidden);
	/* what was deleted while nobody looked is not there any more */
	unset(&node);
	unset(&cluster);
	assert_false(pair());
}

static void test_purge(void **state)
{
	const struct family *f = &families[DP_V4];
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service node = service("0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);

	set(&node);
	dataplane_close(world.dp);
	world.dp = NULL;
	ok(dataplane_purge(world.pin_dir, err));
	assert_false(pair());
	world_open();
	assert_false(lo_has_qdisc());
}

/* ---- associations ---- */

static int sctp_in(int ns, const char *like)
{
	return sock_in_domain(ns, text_is_v6(like) ? AF_INET6 : AF_INET, SOCK_STREAM, IPPROTO_SCTP);
}

/* `bulk`: messages as large as `lo` is wide, too. */
static void expect_association(int at, const char *any, const char *addr, uint16_t port, bool bulk)
{
	int server = sctp_in(at, addr), client = sctp_in(world_host_ns(), addr), conn;
	union any_addr here = any_of(any, POD_PORT), there = any_of(addr, port), peer;
	socklen_t len = sizeof(peer);

	assert_int_equal(bind(server, &here.sa, any_len(&here)), 0);
	assert_int_equal(listen(server, 4), 0);
	if (connect(client, &there.sa, any_len(&there)) < 0)
		fail_msg("SCTP to %s:%u: %s", addr, port, strerror(errno));
	conn = accept_any(server, NULL);
	assert_int_equal(getpeername(client, &peer.sa, &len), 0);
	assert_true(any_is(&peer, addr, port));
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	pass_bulk(conn, client);
	if (bulk)
		pass_bulk(client, conn);
	pass_bytes(client, conn, "goodbye");
	close(conn);
	close(client);
	close(server);
}

static void test_associations(void **state)
{
	const struct family *f = *state;
	const char *any = text_is_v6(f->node) ? "::" : "0.0.0.0";
	const struct {
		const char *addr;
		int ns;
	} ends[] = { { f->a, a.ns }, { f->outside, world.outside }, { f->node, world_host_ns() } };

	if (!has_sctp()) {
		print_message("no SCTP sockets here\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct dp_backend to = { ip(ends[i].addr), POD_PORT };
		struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
		struct dp_service node = service(any, NODE_PORT, DP_NODE_PORT, &to);
		struct dp_service external = service(f->external, PORT, DP_EXTERNAL, &to);

		set(&cluster);
		set(&node);
		set(&external);
		print_message("to %s\n", ends[i].addr);
		expect_association(ends[i].ns, any, f->cluster, PORT, true);
		/* what is beyond a link would have to be told how large the pieces may be, before they are made */
		expect_association(ends[i].ns, any, f->node, NODE_PORT, ends[i].ns != world.outside);
		expect_association(ends[i].ns, any, f->external, PORT, true);
		unset(&cluster);
		unset(&node);
		unset(&external);
	}
}

static void test_association_refused(void **state)
{
	const struct family *f = *state;
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, NULL);
	struct dp_service node = service(text_is_v6(f->node) ? "::" : "0.0.0.0", NODE_PORT, DP_NODE_PORT, NULL);
	union any_addr to = any_of(f->cluster, PORT), to_node = any_of(f->node, NODE_PORT);
	int fd;

	if (!has_sctp()) {
		print_message("no SCTP sockets here\n");
		skip();
	}
	set(&cluster);
	set(&node);
	fd = sctp_in(world_host_ns(), f->node);
	assert_int_equal(connect(fd, &to.sa, any_len(&to)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	fd = sctp_in(world_host_ns(), f->node);
	assert_int_equal(connect(fd, &to_node.sa, any_len(&to_node)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	unset(&cluster);
	unset(&node);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, &families[DP_V4] },                                                  \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, &families[DP_V6]                                               \
	}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		BOTH(test_to_pods),
		BOTH(test_beyond),
		BOTH(test_policy),
		BOTH(test_refused),
		BOTH(test_affinity),
		cmocka_unit_test_setup_teardown(test_comes_and_goes, setup, teardown),
		BOTH(test_restart_and_drift),
		BOTH(test_associations),
		BOTH(test_association_refused),
		cmocka_unit_test_setup_teardown(test_purge, setup, teardown),
	};

	world_uplink();
	/* associations name them to their peers, who must not come to know of them */
	link_setup(world_host_ns(), "up0", "172.31.9.1", 24);
	link_setup(world_host_ns(), "up0", "fd31::1", 64);
	route_in(world_host_ns(), "0.0.0.0", 0, OUTSIDE_IP, NULL);
	route_in(world_host_ns(), "::", 0, OUTSIDE_IP6, NULL);
	world_open();
	return world_close(cmocka_run_group_tests(all, NULL, NULL));
}

int main(void)
{
	return world_run(tests);
}
