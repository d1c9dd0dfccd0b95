/* SPDX-License-Identifier: Apache-2.0 */
/* Pods whose rows somebody took away while no server was there: the next start finds their addresses where else the
 * kernel knows them, isolates them from the first moment on, and never fails for them. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/keys.h"

#define FOREIGN_ROWS 8
#define TEST_TC_PRIORITY 0x6b33 /* where the programs go, see netlink.c */

static const char *const a_text[DP_FAMILIES] = { "10.42.7.1", "fd42::7:1" };
static const char *const b_text[DP_FAMILIES] = { "10.42.7.2", "fd42::7:2" };
static struct test_pod a, b;

static void policy(bool isolated)
{
	struct dp_addr addrs[DP_FAMILIES] = { ip(b_text[DP_V4]), ip(b_text[DP_V6]) };
	struct dp_policy_rule in = { .direction = DP_INGRESS, .identity = 300 };
	struct dp_policy p = { .isolated_ingress = isolated, .rules = &in, .n_rules = isolated };

	ok(dataplane_policy_set_all(world.dp, &p, addrs, DP_FAMILIES, err));
	dataplane_policy_settle(world.dp);
}

static int setup(void **state)
{
	route_in(world.outside, "10.42.0.0", 16, NODE_IP, NULL);
	route_in(world.outside, "fd42::", 64, NODE_IP6, NULL);
	pod_make_dual(&a, "pod-a", a_text[DP_V4], a_text[DP_V6], 100);
	pod_make_dual(&b, "pod-b", b_text[DP_V4], b_text[DP_V6], 200);
	policy(true);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

static bool row_of_b(int f, struct k3c_endpoint *ret)
{
	struct dp_addr addr = ip(b_text[f]);

	return bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, ret) == 0;
}

static void take_row_of_b(int f)
{
	struct dp_addr addr = ip(b_text[f]);

	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr), 0);
}

static void close_world(void)
{
	dataplane_close(world.dp);
	world.dp = NULL;
}

static void expect_reach(int f)
{
	int server = server_in(b.ns, SOCK_STREAM, b_text[f], 80), client, conn;

	assert_int_equal(client_in(a.ns, SOCK_STREAM, b_text[f], 80, &client), 0);
	conn = accept_any(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
}

static void expect_drop(int f)
{
	int server = server_in(b.ns, SOCK_STREAM, b_text[f], 80), client;
	union any_addr to = any_of(b_text[f], 80);
	uint64_t before = drops("policy-ingress");

	client = sock_in_domain(a.ns, to.sa.sa_family, SOCK_STREAM, 0);
	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(client, &to.sa, any_len(&to)), -1);
	assert_int_equal(errno, EINPROGRESS);
	await_drop("policy-ingress", before);
	assert_false(readable(server, 0));
	close(client);
	close(server);
}

static void open_readonly(void)
{
	ok(dataplane_open_readonly(world.pin_dir, &world.dp, err));
}

/* From another pod, from the host (whom no policy keeps out of a pod that is known) and from outside. */
static void expect_closed(int f)
{
	const int from[] = { a.ns, world_host_ns(), world.outside };
	int server = server_in(b.ns, SOCK_DGRAM, b_text[f], 82);

	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		uint64_t before = drops("unknown-address");
		int client;

		assert_int_equal(client_in(from[i], SOCK_DGRAM, b_text[f], 82, &client), 0);
		assert_int_equal(send(client, "?", 1, MSG_NOSIGNAL), 1);
		await_drop("unknown-address", before);
		assert_false(readable(server, 0));
		close(client);
	}
	close(server);
}

/* Nobody may send to it while nobody says who may; its other family goes on as it is. What was begun meanwhile is
 * judged too. */
static void test_one_family(void **state)
{
	int f = *(const int *)*state, server, client;
	struct dp_drift found = { 0 };
	struct k3c_endpoint one, other;
	uint64_t before;

	expect_drop(f);
	take_row_of_b(f);
	close_world();
	open_readonly();
	expect_drop(!f);
	expect_closed(f);
	server = server_in(b.ns, SOCK_DGRAM, b_text[f], 81);
	assert_int_equal(client_in(a.ns, SOCK_DGRAM, b_text[f], 81, &client), 0);
	before = drops("unknown-address");
	assert_int_equal(send(client, "begun", 5, MSG_NOSIGNAL), 5);
	await_drop("unknown-address", before);
	close_world();
	world_open();
	dataplane_policy_settle(world.dp);
	assert_true(row_of_b(f, &one));
	assert_true(row_of_b(!f, &other));
	assert_memory_equal(one.policy, other.policy, sizeof(one.policy));
	assert_int_equal(one.ifindex, b.ifindex);
	assert_memory_equal(one.mac, other.mac, sizeof(one.mac));
	before = drops("policy-ingress");
	assert_int_equal(send(client, "more", 4, MSG_NOSIGNAL), 4);
	await_drop("policy-ingress", before);
	assert_false(readable(server, 0));
	close(client);
	close(server);
	expect_drop(f);
	expect_drop(!f);
	ok(dataplane_drift(world.dp, &found, err));
	assert_int_equal(found.n[DP_DRIFT_ENDPOINT], 1); /* told, and no more to do */
	policy(false);
	expect_reach(f);
	expect_reach(!f);
}

/* Whatever its policy says is not known: nobody may, until it is told. */
static void test_no_row(void **state)
{
	take_row_of_b(DP_V4);
	take_row_of_b(DP_V6);
	close_world();
	world_open();
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct k3c_endpoint e;

		assert_true(row_of_b(f, &e));
		assert_int_equal(e.ifindex, b.ifindex);
		assert_int_equal(e.policy[world.dp->meta.generation & 1].flags,
				 K3C_EP_ISOLATED_INGRESS | K3C_EP_ISOLATED_EGRESS);
		expect_drop(f);
	}
	policy(false);
	expect_reach(DP_V4);
	expect_reach(DP_V6);
}

static void routes_of_b(uint16_t type)
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct dp_addr addr = ip(b_text[f]);
		struct nl_route r = { .family = f == DP_V4 ? AF_INET : AF_INET6,
				      .bits = f == DP_V4 ? 32 : 128,
				      .type = RTN_UNICAST,
				      .scope = f == DP_V4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
				      .dst = dp_addr_in(&addr),
				      .ifindex = b.ifindex };

		nl_put_route(world.dp->nl, type, &r, 0);
	}
	ok(nl_commit(world.dp->nl, err));
}

static void take_namespace_of_b(void)
{
	uint64_t cookie, gone = 0;

	keys_foreach(world.dp->maps[DP_MAP_NETNS], cookie) {
		struct k3c_netns value;

		if (bpf_map_lookup_elem(world.dp->maps[DP_MAP_NETNS], &cookie, &value) == 0 &&
		    value.ifindex == (uint32_t)b.ifindex)
			gone = cookie;
	}
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_NETNS], &gone), 0);
}

static void count_addresses(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		struct k3c_addr addr = dp_addr_in(&addrs[f]);

		*(int *)arg += !dp_addr_is_zero(&addr) && strcmp(key, "pod-b") == 0;
	}
}

/* The routes say it too; where nothing does, the pod is attached anew. */
static void test_nothing_known(void **state)
{
	int n = 0;

	take_row_of_b(DP_V4);
	take_row_of_b(DP_V6);
	take_namespace_of_b();
	close_world();
	world_open();
	ok(dataplane_pod_each(world.dp, count_addresses, &n, err));
	assert_int_equal(n, DP_FAMILIES);
	expect_drop(DP_V4);
	expect_drop(DP_V6);

	take_row_of_b(DP_V4);
	take_row_of_b(DP_V6);
	take_namespace_of_b();
	routes_of_b(RTM_DELROUTE);
	close_world();
	world_open();
	n = 0;
	ok(dataplane_pod_each(world.dp, count_addresses, &n, err));
	assert_int_equal(n, 0);
	policy(true);
	pod_attach(&b);
	expect_drop(DP_V4);
	expect_drop(DP_V6);
	policy(false);
	expect_reach(DP_V4);
	expect_reach(DP_V6);
}

static bool has_address(const char *key, enum dp_family f, const char *text)
{
	const struct pod_state *s = map_get(&world.dp->pods, str_of(key));
	struct dp_addr addr = ip(text);

	return s && memcmp(&s->addrs[f], &addr, sizeof(addr)) == 0;
}

/* Rows that somebody wrote make no pod another, nor give it more addresses. */
static void test_foreign_rows(void **state)
{
	int f = *(const int *)*state;
	struct k3c_endpoint row, own, now;
	struct dp_addr addr;

	assert_true(row_of_b(f, &row));
	for (uint8_t i = 0; i < FOREIGN_ROWS; i++) {
		addr = ip(b_text[f]);
		addr.b[15] = (uint8_t)(100 + i);
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &row, BPF_ANY), 0);
	}
	addr = ip(a_text[f]);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &own), 0);
	now = own;
	now.ifindex = row.ifindex;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &now, BPF_ANY), 0);
	close_world();
	world_open();
	assert_true(has_address("pod-a", (enum dp_family)f, a_text[f]));
	assert_true(has_address("pod-b", (enum dp_family)f, b_text[f]));
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &now), 0);
	assert_memory_equal(&now, &own, sizeof(own));
	for (uint8_t i = 0; i < FOREIGN_ROWS; i++) {
		addr.b[15] = (uint8_t)(100 + i);
		if (bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &now) == 0)
			assert_int_equal(now.ifindex, 0);
		ok(dataplane_identity_delete(world.dp, &addr, err)); /* as nobody has told it anything */
		ok(dataplane_policy_delete(world.dp, &addr, err));
	}
	expect_drop(f);
	policy(false);
	expect_reach(f);
}

/* Of another kind, where the programs' filters go. */
static void put_stranger(int ifindex)
{
	struct nlmsghdr *h;
	struct tcmsg *t;

	nl_put_clsact_delete(world.dp->nl, ifindex);
	nl_put_clsact(world.dp->nl, ifindex, 0);
	h = nl_begin(world.dp->nl, RTM_NEWTFILTER, NLM_F_CREATE, "filter", 0);
	t = mnl_nlmsg_put_extra_header(h, sizeof(*t));
	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = ifindex;
	t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
	t->tcm_info = TC_H_MAKE((uint32_t)TEST_TC_PRIORITY << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, "u32");
	ok(nl_commit(world.dp->nl, err));
}

/* The start goes on, and the pod has no link until it is attached again. */
static void test_no_place_for_programs(void **state)
{
	int before = b.ifindex;

	put_stranger(b.ifindex);
	close_world();
	world_open();
	policy(true);
	pod_attach(&b);
	assert_int_not_equal(b.ifindex, before);
	expect_drop(DP_V4);
	expect_drop(DP_V6);
	policy(false);
	expect_reach(DP_V4);
	expect_reach(DP_V6);
}

static int v4 = DP_V4, v6 = DP_V6;

static int tests(void)
{
	const struct CMUnitTest all[] = {
		{ "test_one_family IPv4", test_one_family, setup, teardown, &v4 },
		{ "test_one_family IPv6", test_one_family, setup, teardown, &v6 },
		cmocka_unit_test_setup_teardown(test_no_row, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_known, setup, teardown),
		{ "test_foreign_rows IPv4", test_foreign_rows, setup, teardown, &v4 },
		{ "test_foreign_rows IPv6", test_foreign_rows, setup, teardown, &v6 },
		cmocka_unit_test_setup_teardown(test_no_place_for_programs, setup, teardown),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
