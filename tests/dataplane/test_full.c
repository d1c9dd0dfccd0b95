/* SPDX-License-Identifier: Apache-2.0 */
/* Every map that can fill, filled, one at a time: the write is refused by name, what was there stands, the count is
 * seen, and once there is room again everything goes on. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <net/if.h>

#include "bpf/include/conn.h"
#include "bpf/include/nat.h"
#include "userspace/dataplane/inspect.h"

#define TINY 8

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

/* Refused, for this map; told once. */
static void refused(int r, const struct err *err, const char *map)
{
	struct dp_pressure p = pressure_of(map);
	const char *news;
	uint32_t max;

	assert_int_equal(r, -ENOSPC);
	if (!strstr(err_message(err), map))
		fail_msg("does not name %s: %s", map, err_message(err));
	assert_true(p.refused > 0);
	assert_true(dataplane_pressure_news(world.dp, &news, &max));
	assert_string_equal(news, map);
	assert_int_equal(max, p.max_entries);
	assert_false(dataplane_pressure_news(world.dp, &news, &max));
}

static void open_tiny(void)
{
	struct dataplane_options o = world_options();

	o.max_services = TINY;
	o.max_backends = 2 * TINY;
	o.max_policy_entries = TINY;
	o.max_connections = 256;
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
	s = service(n, &b, 1);
	ok(dataplane_service_set(world.dp, &s, err));
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
	ok(dataplane_service_delete(world.dp, &s, err));
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
	ok(dataplane_policy_delete(world.dp, &p.pod, err));
	dataplane_close(world.dp);
}

/* In a table of their own: no word about connections. */
static void datagrams_live(void)
{
	uint32_t max = pressure_of("k3c_datagram").max_entries, connections = pressure_of("k3c_conn").entries;
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	assert_int_equal(max + pressure_of("k3c_conn").max_entries, pressure_of("k3c_nat").max_entries);
	for (uint32_t i = 0; i < max / 4; i++) {
		struct k3c_conn_key key = { .proto = IPPROTO_UDP, .a_port = (uint16_t)(i + 1) };
		struct k3c_conn c = { .last_ns = (uint64_t)t.tv_sec * 1000000000u };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_DATAGRAM], &key, &c, BPF_ANY), 0);
	}
	assert_true(pressure_of("k3c_datagram").forgets);
	assert_int_equal(pressure_of("k3c_datagram").entries, max / 4);
	assert_int_equal(pressure_of("k3c_conn").entries, connections);
}

/* Maps that forget: live entries count, dead ones do not. */
static void test_connections(void **state)
{
	struct timespec t;
	const uint64_t dead_ns = (K3C_CONN_CLOSING_TIMEOUT_S + 10) * 1000000000ull;
	uint64_t now;
	uint32_t max;

	open_tiny();
	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (uint64_t)t.tv_sec * 1000000000u;
	max = pressure_of("k3c_conn").max_entries;
	for (uint32_t i = 0; i < max / 4; i++) {
		struct k3c_conn_key key = { .proto = IPPROTO_TCP, .a_port = (uint16_t)(i + 1) };
		struct k3c_conn c = { .last_ns = now, .flags = i & 1 ? K3C_CONN_CLOSING : 0 };

		if (i & 1)
			c.last_ns =
				now > dead_ns ? now - dead_ns : now; /* on a host that just came up nothing is dead */
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_CONN], &key, &c, BPF_ANY), 0);
	}
	assert_true(pressure_of("k3c_conn").forgets);
	assert_int_equal(pressure_of("k3c_conn").entries, now > dead_ns ? max / 8 : max / 4);
	assert_true(pressure_of("k3c_conn").full_since_ns == 0);
	assert_int_equal(pressure_of("k3c_nat").entries, 0);
	datagrams_live();
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
	const char *news;
	uint32_t max, before;

	open_tiny();
	before = pressure_of("k3c_node").entries;
	many_addresses(RTM_NEWADDR);
	p = pressure_of("k3c_node");
	assert_int_equal(p.entries, p.max_entries);
	assert_true(p.refused >= MANY_ADDRESSES + before - p.max_entries);
	assert_true(p.full_since_ns != 0);
	assert_true(dataplane_pressure_news(world.dp, &news, &max));
	assert_string_equal(news, "k3c_node");
	assert_true(dataplane_is_node_address(world.dp, &node));
	assert_true(dataplane_is_node_address(world.dp, &node6));
	many_addresses(RTM_DELADDR);
	assert_int_equal(pressure_of("k3c_node").entries, before);
	assert_true(pressure_of("k3c_node").full_since_ns == 0);
	dataplane_close(world.dp);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_services),       cmocka_unit_test(test_backends),
		cmocka_unit_test(test_policies),       cmocka_unit_test(test_connections),
		cmocka_unit_test(test_node_addresses),
	};

	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
