/* SPDX-License-Identifier: Apache-2.0 */
/* SCTP from the host's own sockets to Services where something is in its way: links that cannot be made, what a process
 * left that ended long ago, links without Ethernet headers, ports that others had, limits, a node without addresses. */
#include "tests/dataplane/nat.h"
#include "tests/dataplane/own.h"

#include <bpf/bpf.h>
#include <linux/if_tun.h>

#include "bpf/include/service.h"
#include "userspace/base/encode.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/veth.h"

#define TUN "tun7"
#define LARGE 9000 /* more than a pod's link takes */
#define LARGE_ONES 64
#define SLOW 64000

/* Takes the name of the pair's other end. */
static void block(bool blocked)
{
	char name[IFNAMSIZ];

	snprintf(name, sizeof(name), DP_LINK_PREFIX "ownb%08x", fnv32a(world.pin_dir, strlen(world.pin_dir)));
	if (blocked)
		veth_put(world.dp->nl, "blocker", name, veth_host_mac, -1, 1500);
	else
		nl_put_link_delete(world.dp->nl, (int)if_nametoindex("blocker"));
	ok(nl_commit(world.dp->nl, err));
}

/* Frontends, starts and changes of addresses go on; whoever looks for drift counts it, and goes on, too. */
static void test_pair_fails(void **state)
{
	const struct family *f = &families[DP_V4];
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
	struct dp_service node = service("0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);
	const struct dp_addr nobody[DP_FAMILIES] = { 0 };
	struct dp_addr node_ips[DP_FAMILIES];

	alone();
	memcpy(node_ips, world_options().node_ips, sizeof(node_ips));
	block(true);
	set(&cluster);
	set(&node);
	assert_false(pair());
	ok(dataplane_set_node_ips(world.dp, nobody, err));
	ok(dataplane_set_node_ips(world.dp, node_ips, err));
	assert_int_equal(look_for(DP_DRIFT_FILTER), 1);
	dataplane_close(world.dp);
	world_open();
	assert_int_equal(look_for(DP_DRIFT_FILTER), 1);
	unset(&node);
	set(&node);
	block(false);
	assert_int_equal(look_for(DP_DRIFT_FILTER), 1);
	assert_int_equal(look_for(DP_DRIFT_FILTER), 0);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	expect_way(f, f->node, NODE_PORT, a.ns, POD_PORT, f->hidden);
	unset(&node);
	unset(&cluster);
	assert_false(pair());
}

static void forget_frontends(uint16_t port)
{
	struct k3c_service_key key;

	keys_foreach(world.dp->maps[DP_MAP_SERVICE], key)
		if (key.proto == IPPROTO_SCTP && key.port == htons(port))
			assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &key), 0);
}

/* -ESRCH: there is none. */
static int remove_route(const char *addr)
{
	struct dp_addr dst = ip(addr);
	struct nl_route r = { .family = text_is_v6(addr) ? AF_INET6 : AF_INET,
			      .bits = text_is_v6(addr) ? 128 : 32,
			      .type = RTN_UNICAST,
			      .scope = RT_SCOPE_NOWHERE,
			      .dst = dp_addr_in(&dst),
			      .ifindex = pair() };

	nl_put_route(world.dp->nl, RTM_DELROUTE, &r, 0);
	return nl_commit(world.dp->nl, NULL);
}

/* Frontends that went while nobody ran. */
static void test_left_behind(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
	struct dp_service other =
		service(text_is_v6(f->node) ? "fd43::51" : "10.43.0.51", PORT + 1, DP_CLUSTER_IP, &to);
	struct dp_service node = service(text_is_v6(f->node) ? "::" : "0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);

	alone();
	set(&cluster);
	set(&other);
	set(&node);
	assert_true(lo_has_qdisc());
	forget_frontends(PORT + 1);
	forget_frontends(NODE_PORT);
	dataplane_close(world.dp);
	world_open();
	assert_false(lo_has_qdisc());
	assert_int_equal(remove_route(text_is_v6(f->node) ? "fd43::51" : "10.43.0.51"), -ESRCH);
	assert_int_equal(look_for(DP_DRIFT_ROUTE), 0);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	unset(&cluster);
	assert_false(pair());
}

static void test_purge_without_pair(void **state)
{
	struct dp_backend to = { ip(families[DP_V4].a), POD_PORT };
	struct dp_service node = service("0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);

	set(&node);
	nl_put_link_delete(world.dp->nl, pair());
	ok(nl_commit(world.dp->nl, err));
	assert_true(lo_has_qdisc());
	dataplane_close(world.dp);
	world.dp = NULL;
	ok(dataplane_purge(world.pin_dir, err));
	world_open();
	assert_false(lo_has_qdisc());
}

/* What the host says by such a link has no header that would say what it is. */
static void test_tun(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service far = service(text_is_v6(f->node) ? "fd29::50" : "172.29.0.50", PORT, DP_EXTERNAL, &to);
	struct ifreq q = { .ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = TUN };
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	alone();
	if (tun < 0) {
		print_message("no tun device here\n");
		skip();
	}
	assert_int_equal(ioctl(tun, TUNSETIFF, &q), 0);
	link_setup(world_host_ns(), TUN, "172.29.0.1", 24);
	link_setup(world_host_ns(), TUN, "fd29::1", 64);
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
	set(&far);
	expect_way(f, text_is_v6(f->node) ? "fd29::50" : "172.29.0.50", PORT, a.ns, POD_PORT, f->hidden);
	unset(&far);
	close(tun);
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
}

/* A port that somebody had who ended long ago: nothing of him stays. */
static void test_expired_place(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, &to);
	struct dp_addr backend = ip(f->a), hidden = ip(f->hidden), who = ip(f->outside);
	struct k3c_nat_key place = { .src = dp_addr_in(&backend),
				     .dst = dp_addr_in(&hidden),
				     .sport = htons(POD_PORT),
				     .dport = htons(next_port),
				     .proto = IPPROTO_SCTP,
				     .kind = K3C_NAT_IN };
	struct k3c_nat_key owner = { .src = dp_addr_in(&who),
				     .dst = place.src,
				     .sport = place.dport,
				     .dport = place.sport,
				     .proto = IPPROTO_SCTP,
				     .kind = K3C_NAT_OUT };
	struct k3c_nat n = {
		.addr = owner.src, .port = owner.sport, .flags = K3C_NAT_MASQUERADE | K3C_NAT_CLOSING, .last_ns = 1
	};
	int nat = world.dp->maps[DP_MAP_NAT];

	alone();
	assert_int_equal(bpf_map_update_elem(nat, &place, &n, BPF_ANY), 0);
	n.addr = place.dst;
	assert_int_equal(bpf_map_update_elem(nat, &owner, &n, BPF_ANY), 0);
	set(&cluster);
	expect_way(f, f->cluster, PORT, a.ns, POD_PORT, f->hidden);
	assert_true(nat_get(&place, &n));
	assert_memory_not_equal(&n.addr, &owner.src, sizeof(n.addr));
	assert_false(nat_get(&owner, &n));
	unset(&cluster);
}

/* What is too large for the pod's link goes past it, but not past its limit. */
static void test_limit(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), POD_PORT };
	struct dp_service node = service(text_is_v6(f->node) ? "::" : "0.0.0.0", NODE_PORT, DP_NODE_PORT, &to);
	static uint8_t large[LARGE];
	union any_addr dst = any_of(f->node, 0);
	uint64_t before = drops("rate-ingress");
	int client = raw_in(world_host_ns(), f);
	uint32_t crc;

	alone();
	set(&node);
	expect_way(f, f->node, NODE_PORT, a.ns, POD_PORT, f->hidden);
	ok(dataplane_pod_bandwidth(world.dp, a.key, SLOW, 0, err));
	memset(large, 0, sizeof(large));
	large[0] = (uint8_t)((next_port - 1) >> 8), large[1] = (uint8_t)(next_port - 1);
	large[2] = (uint8_t)(NODE_PORT >> 8), large[3] = (uint8_t)NODE_PORT;
	large[HEADER + 2] = (uint8_t)((LARGE - HEADER) >> 8), large[HEADER + 3] = (uint8_t)(LARGE - HEADER);
	crc = pt_crc32c(large, sizeof(large));
	for (int i = 0; i < 4; i++)
		large[8 + i] = (uint8_t)(crc >> 8 * i);
	for (int i = 0; i < LARGE_ONES; i++)
		assert_int_equal(sendto(client, large, sizeof(large), 0, &dst.sa, any_len(&dst)), sizeof(large));
	await_drop("rate-ingress", before);
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 0, err));
	unset(&node);
	close(client);
}

/* Nothing is there to refuse with: dropped, and that is one packet. (Of IPv6 the socket hears of it.) */
static void test_nobody_refuses(void **state)
{
	const struct family *f = &families[DP_V4];
	struct dp_service cluster = service(f->cluster, PORT, DP_CLUSTER_IP, NULL);
	const struct dp_addr nobody[DP_FAMILIES] = { 0 };
	struct dp_addr node_ips[DP_FAMILIES];
	uint64_t before = drops("no-service-backend");
	int client = raw_in(world_host_ns(), f);

	alone();
	memcpy(node_ips, world_options().node_ips, sizeof(node_ips));
	ok(dataplane_set_node_ips(world.dp, nobody, err));
	set(&cluster);
	say(client, f->cluster, next_port++, PORT, INIT);
	await_drop("no-service-backend", before);
	assert_int_equal(drops("no-service-backend"), before + 1);
	unset(&cluster);
	ok(dataplane_set_node_ips(world.dp, node_ips, err));
	close(client);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, &families[DP_V4] },                                                  \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, &families[DP_V6]                                               \
	}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_pair_fails, setup, teardown),
		BOTH(test_left_behind),
		cmocka_unit_test_setup_teardown(test_purge_without_pair, setup, teardown),
		BOTH(test_tun),
		BOTH(test_expired_place),
		BOTH(test_limit),
		cmocka_unit_test_setup_teardown(test_nobody_refuses, setup, teardown),
	};

	world_uplink();
	world_open();
	return world_close(cmocka_run_group_tests(all, NULL, NULL));
}

int main(void)
{
	return world_run(tests);
}
