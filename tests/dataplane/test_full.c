/* SPDX-License-Identifier: Apache-2.0 */
/* Every map that can fill, filled, one at a time: the write is refused by name, what was there stands, the count is
 * seen, and once there is room again everything goes on. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <net/if.h>

#include "bpf/include/conn.h"
#include "bpf/include/nat.h"
#include "bpf/include/service.h"
#include "userspace/base/clock.h"
#include "userspace/dataplane/inspect.h"

#define TINY WORLD_SMALL

static struct dp_pressure pressure_of(const char *map)
{
	struct dp_pressure p[DP_MAP_COUNT];
	size_t n;

	ok(dataplane_pressure(world.dp, p, DP_MAP_COUNT, &n, err));
	for (size_t i = 0; i < n; i++)
		if (strcmp(p[i].name, map) == 0)
			return p[i];
	fail_msg("no such map: %s", map);
	return p[0];
}

static void told_once(const char *map, bool forgets)
{
	struct dp_pressure p;

	assert_true(dataplane_pressure_news(world.dp, &p));
	assert_string_equal(p.name, map);
	assert_int_equal(p.max_entries, pressure_of(map).max_entries);
	assert_int_equal(p.forgets, forgets);
	assert_false(dataplane_pressure_news(world.dp, &p));
}

/* Refused, for this map, and remembered; told once. */
static void refused(int r, const struct err *err, const char *map)
{
	struct dp_pressure p = pressure_of(map);

	assert_int_equal(r, -ENOSPC);
	if (!strstr(err_message(err), map))
		fail_msg("does not name %s: %s", map, err_message(err));
	assert_true(p.refused > 0);
	assert_int_equal(p.unwritten, 1);
	told_once(map, false);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void open_tiny(void)
{
	struct dataplane_options o = world_small_options();

	ok(dataplane_open(&o, &world.dp, err));
}

static struct dp_service service(uint32_t n, const struct dp_backend *b, size_t n_backends)
{
	return (struct dp_service){ .id = n + 1,
				    .proto = IPPROTO_TCP,
				    .port = (uint16_t)(1000 + n),
				    .addr = ip("10.43.0.1"),
				    .backends = b,
				    .n_backends = n_backends };
}

static void test_services(void **state)
{
	struct dp_backend b = { ip("10.42.6.1"), 80 };
	struct err why = ERR_INIT;
	struct dp_service s;
	uint32_t n = 0;
	int r = 0;

	open_tiny();
	for (; n < 2 * TINY && r == 0; n++) {
		s = service(n, &b, 1);
		r = dataplane_service_set(world.dp, &s, &why);
	}
	refused(r, &why, "k3c_service");
	assert_int_equal(n, TINY + 1);
	assert_int_equal(pressure_of("k3c_service").entries, TINY);
	assert_true(pressure_of("k3c_service").full_since_ns != 0);
	/* nothing of the refused one is left: its backend has gone again */
	assert_int_equal(pressure_of("k3c_backend").entries, TINY);
	s = service(0, &b, 1);
	ok(dataplane_service_delete(world.dp, &s, err));
	assert_true(pressure_of("k3c_service").full_since_ns == 0);
	/* room, and nothing is missing any more once it is taken by who waited for it */
	assert_int_equal(pressure_of("k3c_service").unwritten, 1);
	s = service(n - 1, &b, 1);
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(pressure_of("k3c_service").unwritten, 0);
	assert_true(pressure_of("k3c_service").refused > 0);
	for (uint32_t i = 1; i <= n; i++) {
		s = service(i, NULL, 0);
		ok(dataplane_service_delete(world.dp, &s, err));
	}
	err_finish(&why);
	dataplane_close(world.dp);
}

static void test_backends(void **state)
{
	struct dp_backend b[3 * TINY];
	struct err why = ERR_INIT;
	struct dp_service s = service(0, b, 1);

	open_tiny();
	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct dp_backend){ ip("10.42.6.1"), (uint16_t)(80 + i) };
	ok(dataplane_service_set(world.dp, &s, err));
	s.n_backends = ARRAY_SIZE(b);
	refused(dataplane_service_set(world.dp, &s, &why), &why, "k3c_backend");
	/* the old set stands, and nothing else */
	assert_int_equal(pressure_of("k3c_backend").entries, 1);
	assert_int_equal(pressure_of("k3c_service").entries, 1);
	/* tried again in vain: still that one */
	assert_int_equal(dataplane_service_set(world.dp, &s, NULL), -ENOSPC);
	assert_int_equal(pressure_of("k3c_backend").unwritten, 1);
	ok(dataplane_service_delete(world.dp, &s, err));
	assert_int_equal(pressure_of("k3c_backend").unwritten, 0);
	err_finish(&why);
	dataplane_close(world.dp);
}

static void test_policies(void **state)
{
	struct dp_policy_rule rules[2 * TINY] = { 0 };
	struct dp_policy p = { .pod = ip("10.42.6.1"), .isolated_ingress = true, .rules = rules, .n_rules = 1 };
	struct err why = ERR_INIT;

	open_tiny();
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		rules[i] = (struct dp_policy_rule){ .direction = DP_INGRESS,
						    .proto = IPPROTO_TCP,
						    .port = (uint16_t)(80 + 2 * i),
						    .identity = (uint32_t)(i + 1) };
	ok(dataplane_policy_set(world.dp, &p, err));
	p.n_rules = ARRAY_SIZE(rules);
	refused(dataplane_policy_set(world.dp, &p, &why), &why, "k3c_rule");
	err_finish(&why);
	why = (struct err)ERR_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		char text[32];

		snprintf(text, sizeof(text), "192.0.2.%zu", 2 * i);
		rules[i] = (struct dp_policy_rule){ .direction = DP_INGRESS, .prefix = ip(text), .prefix_len = 128 };
	}
	refused(dataplane_policy_set(world.dp, &p, &why), &why, "k3c_prefix");
	err_finish(&why);
	assert_int_equal(pressure_of("k3c_rule").unwritten, 0); /* those rules are not wanted any more */
	dataplane_pressure_pod(world.dp, "uid", -ENOSPC);
	assert_int_equal(pressure_of("k3c_prefix").unwritten, 2);
	ok(dataplane_policy_delete(world.dp, &p.pod, err));
	assert_int_equal(pressure_of("k3c_prefix").unwritten, 1);
	dataplane_pressure_pod(world.dp, "other", 3); /* was attached: the index of its link */
	assert_int_equal(pressure_of("k3c_prefix").unwritten, 1);
	dataplane_pressure_pod(world.dp, "uid", 0);
	assert_int_equal(pressure_of("k3c_prefix").unwritten, 0);
	dataplane_close(world.dp);
}

/* In tables of their own: no word about connections, nor of the one about the other. */
static void datagrams_live(const char *name, enum dp_map map)
{
	uint32_t max = pressure_of(name).max_entries, connections = pressure_of("k3c_conn").entries;

	for (uint32_t i = 0; i < max / 4; i++) {
		struct k3c_conn_key key = { .proto = IPPROTO_UDP, .a_port = (uint16_t)(i + 1) };
		struct k3c_conn c = { .last_ns = now_ns() };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[map], &key, &c, BPF_ANY), 0);
	}
	assert_true(pressure_of(name).forgets);
	assert_int_equal(pressure_of(name).entries, max / 4);
	assert_int_equal(pressure_of("k3c_conn").entries, connections);
}

/* It outlives the dataplane that is closed. */
static void empty(enum dp_map m)
{
	char key[64];

	while (bpf_map_get_next_key(world.dp->maps[m], NULL, key) == 0)
		assert_int_equal(bpf_map_delete_elem(world.dp->maps[m], key), 0);
}

static void put_connections(uint32_t first, uint32_t n, uint8_t flags)
{
	for (uint32_t i = first; i < first + n; i++) {
		struct k3c_conn_key key = { .proto = IPPROTO_TCP, .a_port = (uint16_t)(i + 1) };
		struct k3c_conn c = { .last_ns = now_ns(), .flags = flags };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_CONN], &key, &c, BPF_ANY), 0);
	}
}

/* Maps that forget: live entries count, those that are closing do not, however many they are. */
static void test_connections(void **state)
{
	struct dp_pressure p;
	uint32_t max;

	open_tiny();
	max = pressure_of("k3c_conn").max_entries;
	put_connections(0, 2 * max, K3C_CONN_CLOSING);
	p = pressure_of("k3c_conn");
	assert_true(p.forgets);
	assert_int_equal(p.entries, 0);
	assert_true(p.full_since_ns == 0);
	assert_false(dataplane_pressure_news(world.dp, &p));
	put_connections(2 * max, max / 8, 0);
	assert_int_equal(pressure_of("k3c_conn").entries, max / 8);
	assert_true(pressure_of("k3c_conn").full_since_ns == 0);
	assert_int_equal(pressure_of("k3c_nat").entries, 0);
	assert_int_equal(max + pressure_of("k3c_datagram").max_entries + pressure_of("k3c_policed").max_entries,
			 pressure_of("k3c_nat").max_entries + pressure_of("k3c_unassured").max_entries);
	datagrams_live("k3c_datagram", DP_MAP_DATAGRAM);
	assert_int_equal(pressure_of("k3c_policed").entries, 0);
	datagrams_live("k3c_policed", DP_MAP_POLICED);
	/* older kernels make room for many at once, of so small a map most */
	for (uint32_t i = 0; i < 2 * max && !pressure_of("k3c_conn").full_since_ns; i += 4)
		put_connections(3 * max + i, 4, 0);
	assert_true(pressure_of("k3c_conn").full_since_ns != 0);
	told_once("k3c_conn", true);
	empty(DP_MAP_CONN);
	empty(DP_MAP_DATAGRAM);
	empty(DP_MAP_POLICED);
	dataplane_close(world.dp);
}

/* Both have said their last, or one may still speak. */
static void test_translations(void **state)
{
	static const uint16_t flags[] = { 0, K3C_NAT_CLOSING | K3C_NAT_FIN, K3C_NAT_CLOSING | K3C_NAT_CLOSED,
					  K3C_NAT_CLOSING | K3C_NAT_CLOSED | K3C_NAT_RESET };
	const uint64_t long_ago = (K3C_NAT_TCP_UNASSURED_TIMEOUT_S + 1) * (uint64_t)NS_PER_S;
	bool began = now_ns() > long_ago;

	open_tiny();
	for (uint32_t i = 0; i < 32; i++) {
		struct k3c_nat_key key = { .proto = IPPROTO_TCP, .sport = (uint16_t)(i + 1) };
		struct k3c_nat n = { .last_ns = now_ns(), .flags = K3C_NAT_SERVICE | flags[i % ARRAY_SIZE(flags)] };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_NAT], &key, &n, BPF_ANY), 0);
	}
	assert_int_equal(pressure_of("k3c_nat").entries, 16);
	assert_int_equal(pressure_of("k3c_unassured").entries, 0);
	/* what only begins counts for as long as an answer may still come; where the clock has just begun, all do */
	for (uint32_t i = 0; i < 32; i++) {
		struct k3c_nat_key key = { .proto = IPPROTO_TCP, .sport = (uint16_t)(i + 1) };
		struct k3c_nat n = { .last_ns = now_ns() - (i % 2 && began ? long_ago : 0),
				     .flags = K3C_NAT_SERVICE | K3C_NAT_UNASSURED };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_UNASSURED], &key, &n, BPF_ANY), 0);
	}
	assert_true(pressure_of("k3c_unassured").forgets);
	assert_int_equal(pressure_of("k3c_unassured").entries, began ? 16 : 32);
	assert_int_equal(pressure_of("k3c_nat").entries, 16);
	empty(DP_MAP_NAT);
	empty(DP_MAP_UNASSURED);
	dataplane_close(world.dp);
}

static void put_clients(uint32_t service, uint32_t n, uint64_t last_ns)
{
	for (uint32_t i = 0; i < n; i++) {
		struct k3c_affinity_key key = { .client = { .w = { [3] = i + 1 } }, .service = service };
		struct k3c_affinity a = { .last_ns = last_ns };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_AFFINITY], &key, &a, BPF_ANY), 0);
	}
}

/* Clients stick for as long as their service says, and while there is one that does. */
static void test_affinity(void **state)
{
	struct dp_backend b = { ip("10.42.6.1"), 80 };
	struct dp_service sticky = service(0, &b, 1), brief = service(1, &b, 1), loose = service(2, &b, 1);
	uint32_t max;

	open_tiny();
	sticky.affinity_s = 10800;
	brief.affinity_s = 1;
	ok(dataplane_service_set(world.dp, &sticky, err));
	ok(dataplane_service_set(world.dp, &brief, err));
	ok(dataplane_service_set(world.dp, &loose, err));
	max = pressure_of("k3c_affinity").max_entries;
	put_clients(sticky.id, 16, now_ns());
	put_clients(brief.id, 16, now_ns() - 3000000000u);
	put_clients(loose.id, 16, now_ns());
	put_clients(loose.id + 1, 16, now_ns());
	assert_true(pressure_of("k3c_affinity").forgets);
	assert_int_equal(pressure_of("k3c_affinity").entries, 16);
	assert_true(pressure_of("k3c_affinity").full_since_ns == 0);
	put_clients(sticky.id, 2 * max, now_ns());
	assert_true(pressure_of("k3c_affinity").full_since_ns != 0);
	told_once("k3c_affinity", true);
	ok(dataplane_service_delete(world.dp, &sticky, err));
	assert_int_equal(pressure_of("k3c_affinity").entries, 0);
	assert_true(pressure_of("k3c_affinity").full_since_ns == 0);
	ok(dataplane_service_delete(world.dp, &brief, err));
	ok(dataplane_service_delete(world.dp, &loose, err));
	empty(DP_MAP_AFFINITY);
	dataplane_close(world.dp);
}

#define MANY_ADDRESSES 300

static void many_addresses(uint16_t type)
{
	struct nl *nl;

	ok(nl_open(NETLINK_ROUTE, &nl, err));
	for (unsigned i = 0; i < MANY_ADDRESSES; i++) {
		struct nl_address put = { .bits = 32, .ifindex = (int)if_nametoindex("up0") };
		char text[32];
		struct dp_addr a;

		snprintf(text, sizeof(text), "198.18.%u.%u", 50 + i / 200, 1 + i % 200);
		a = ip(text);
		put.addr = dp_addr_in(&a);
		nl_put_address(nl, type, &put, 0);
		ok(nl_commit(nl, err));
	}
	nl_close(nl);
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
}

/* A link with more addresses than the table takes: told, and the node's own are there all the same. */
static void test_node_addresses(void **state)
{
	const struct dp_addr node = ip(NODE_IP), node6 = ip(NODE_IP6);
	struct dp_pressure p;
	uint32_t before;

	open_tiny();
	before = pressure_of("k3c_node").entries;
	many_addresses(RTM_NEWADDR);
	p = pressure_of("k3c_node");
	assert_int_equal(p.entries, p.max_entries);
	assert_true(p.refused >= MANY_ADDRESSES + before - p.max_entries);
	assert_true(p.full_since_ns != 0);
	assert_int_equal(p.unwritten, MANY_ADDRESSES + before - p.max_entries);
	told_once("k3c_node", false);
	assert_true(dataplane_is_node_address(world.dp, &node));
	assert_true(dataplane_is_node_address(world.dp, &node6));
	many_addresses(RTM_DELADDR);
	assert_int_equal(pressure_of("k3c_node").entries, before);
	assert_true(pressure_of("k3c_node").full_since_ns == 0);
	assert_int_equal(pressure_of("k3c_node").unwritten, 0);
	dataplane_close(world.dp);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_services),       cmocka_unit_test(test_backends),
		cmocka_unit_test(test_policies),       cmocka_unit_test(test_connections),
		cmocka_unit_test(test_translations),   cmocka_unit_test(test_affinity),
		cmocka_unit_test(test_node_addresses),
	};

	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
