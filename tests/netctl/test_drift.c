/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody changes the kernel by hand: each kind of change is found, counted as what it is, and put right, so that
 * traffic is again what the objects say; and where nothing was changed nothing is found. */
#include "tests/netctl/node.h"

#include <bpf/bpf.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/event.h"
#include "bpf/include/nat.h"
#include "bpf/include/policy.h"
#include "bpf/include/rate.h"
#include "bpf/include/service.h"
#include "bpf/include/tail.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/netctl/drift.h"

#define OTHER_IP "10.43.0.78"

static struct pod web, friend, stranger;

static int drift_setup(void **state)
{
	setup(state);
	pod_add(&web, "web");
	pod_add(&friend, "friend");
	pod_add(&stranger, "stranger");
	service("s", CLUSTER_IP, 80, "");
	slice("s", web.addr, 8080);
	create(KIND_NETWORKPOLICY,
	       "{'metadata':{'name':'p'},'spec':{'podSelector':{'matchLabels':{'app':'web'}},'ingress':["
	       "{'from':[{'podSelector':{'matchLabels':{'app':'friend'}}},{'ipBlock':{'cidr':'192.0.2.0/24'}}]}]}}");
	return 0;
}

static int drift_teardown(void **state)
{
	pod_end(&web);
	pod_end(&friend);
	pod_end(&stranger);
	return teardown(state);
}

/* What is found by looking now. */
static struct dp_drift look(void)
{
	const struct netctl_drift *d = netctl_get_drift(node.nc);
	uint64_t before[DP_DRIFT_KINDS], failures = d->failures;
	struct dp_drift found;

	memcpy(before, d->found, sizeof(before));
	netctl_drift_look(node.nc, 0, INT64_MAX);
	settle();
	for (int k = 0; k < DP_DRIFT_KINDS; k++)
		found.n[k] = (uint32_t)(d->found[k] - before[k]);
	assert_int_equal(d->failures, failures);
	return found;
}

static void expect_found(const struct dp_drift *found, enum dp_drift_kind kind, uint32_t n)
{
	for (int k = 0; k < DP_DRIFT_KINDS; k++)
		if (found->n[k] != (k == (int)kind ? n : 0))
			fail_msg("%s: %u found, not %u", dataplane_drift_name(k), found->n[k], k == (int)kind ? n : 0);
}

static void expect_nothing(void)
{
	const struct dp_drift none = look();

	expect_found(&none, DP_DRIFT_KINDS, 0);
}

/* As the objects say: the friend reaches the web by its Service, the stranger does not. */
static void expect_right(void)
{
	struct sockaddr_in to = sin_of(CLUSTER_IP, 80);
	int client = sock_in(stranger.ns, SOCK_STREAM);
	uint64_t before = drops("policy-ingress");

	expect_connect(&friend, &web, CLUSTER_IP, 80, 8080);
	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof(to)), -1);
	await_drop("policy-ingress", before);
	close(client);
	expect_nothing();
}

static struct k3c_service_key frontend_key(uint16_t port)
{
	struct dp_addr addr = ip(CLUSTER_IP);

	return (struct k3c_service_key){ .addr = dp_addr_in(&addr), .port = htons(port), .proto = IPPROTO_TCP };
}

static void test_nothing(void **state)
{
	expect_nothing();
	expect_right();
	patch(KIND_POD, "stranger", "{\"metadata\":{\"labels\":{\"app\":\"friend\"}}}");
	expect_nothing();
	delete (KIND_NETWORKPOLICY, "p");
	expect_nothing();
	delete (KIND_SERVICE, "s");
	expect_nothing();
}

static void test_frontends(void **state)
{
	struct k3c_service_key key = frontend_key(80), other = frontend_key(81);
	struct k3c_service value;
	struct k3c_backend backend;
	struct k3c_backend_key slot = { 0 };
	struct dp_drift found;

	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &key), 0);
	found = look();
	expect_found(&found, DP_DRIFT_FRONTEND, 1);
	expect_right();
	/* a backend of another address, a frontend that nobody asks for */
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value), 0);
	slot.set = value.inside.set;
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_BACKEND], &slot, &backend), 0);
	backend.addr.b[15] ^= 1;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_BACKEND], &slot, &backend, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SERVICE], &other, &value, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_FRONTEND, 2);
	assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &other, &value) < 0);
	expect_right();
}

static void put_frontend(struct k3c_service_key key, struct k3c_service value, uint8_t kind)
{
	value.kind = kind;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value, BPF_ANY), 0);
}

/* Rows that no frontend has, and frontends that say to be of another kind: each is found once, none costs another its
 * place. */
static void test_frontends_of_no_kind(void **state)
{
	static const uint8_t kinds[] = { DP_NODE_PORT, DP_EXTERNAL, DP_HOST_PORT, DP_HOST_PORT + 1, 255 };
	struct k3c_service_key key = frontend_key(80), other = frontend_key(81), same_port, strange[5];
	struct dp_service node_port = { .kind = DP_NODE_PORT, .proto = IPPROTO_TCP, .port = 80, .addr = ip("0.0.0.0") };
	struct k3c_service value, now;
	struct dp_drift found;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		put_frontend(key, value, kinds[i]);
		found = look();
		expect_found(&found, DP_DRIFT_FRONTEND, 1);
		expect_right();
		put_frontend(other, value, kinds[i]);
		found = look();
		expect_found(&found, DP_DRIFT_FRONTEND, 1);
		assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &other, &now) < 0);
		expect_nothing();
	}
	services_key(&node_port, &same_port);
	for (size_t i = 0; i < ARRAY_SIZE(strange); i++)
		strange[i] = i < 3 ? key : same_port;
	strange[0].scope = K3C_SCOPE_NODE;
	strange[1].scope = K3C_SCOPE_NODE + 1;
	strange[2].pad = 1;
	strange[3].scope = K3C_SCOPE_ADDR;
	strange[4].scope = 255;
	for (size_t i = 0; i < ARRAY_SIZE(strange); i++) {
		put_frontend(strange[i], value, i < 3 ? value.kind : DP_NODE_PORT);
		found = look();
		expect_found(&found, DP_DRIFT_FRONTEND, 1);
		assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &strange[i], &now) < 0);
		expect_right();
	}
}

/* Rows that name the backends of another frontend: it keeps them when they go. */
static void test_frontends_of_others(void **state)
{
	struct k3c_service_key key = frontend_key(80), other = frontend_key(81), third = frontend_key(82);
	struct dp_addr third_addr = ip(OTHER_IP);
	struct k3c_service value, own;
	struct dp_drift found;

	third.addr = dp_addr_in(&third_addr);
	service("t", OTHER_IP, 82, "");
	slice("t", friend.addr, 8081);
	settle();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value), 0);
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &third, &own), 0);
		if (i) { /* one that is wanted, and says something else */
			own.inside = own.outside = value.inside;
			put_frontend(third, own, own.kind);
		} else {
			put_frontend(other, value, value.kind);
		}
		found = look();
		expect_found(&found, DP_DRIFT_FRONTEND, 1);
		expect_right();
		expect_connect(&stranger, &friend, OTHER_IP, 82, 8081);
	}
}

static size_t sources_now(uint32_t *ret_set)
{
	struct k3c_source_key key;
	size_t n = 0;

	for (int r = bpf_map_get_next_key(world.dp->maps[DP_MAP_SOURCE], NULL, &key); r == 0;
	     r = bpf_map_get_next_key(world.dp->maps[DP_MAP_SOURCE], &key, &key)) {
		*ret_set = key.set;
		n++;
	}
	return n;
}

/* A range too many lets others in: it goes. Named twice or within another, ranges are no drift. */
static void test_sources(void **state)
{
	struct k3c_source_key key = { .prefixlen = K3C_SOURCE_BITS_FIXED + DP_V4_BITS, .addr = dp_addr_v4(0) };
	int fd = world.dp->maps[DP_MAP_SOURCE];
	uint32_t value, set = 0;
	struct dp_drift found;
	struct request rq;

	service("ranges", "10.43.0.98", 80,
		",'type':'LoadBalancer','allocateLoadBalancerNodePorts':false,'loadBalancerSourceRanges':["
		"'198.51.100.0/25','198.51.100.7/25','198.51.0.0/16','192.0.0.0/8']");
	slice("ranges", web.addr, 8080);
	rq = fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", "ranges",
			     "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.8\"}]}}}");
	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(node.f, &rq);
	fixture_expect(node.f, 200, "ranges");
	settle();
	expect_nothing();
	assert_int_equal(sources_now(&set), 3);
	key.set = set;
	assert_int_equal(bpf_map_update_elem(fd, &key, &key.prefixlen, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_FRONTEND, 1);
	expect_nothing();
	assert_int_equal(sources_now(&set), 3);
	key.set = set;
	assert_true(bpf_map_lookup_elem(fd, &key, &value) < 0);
	expect_right();
}

static void test_endpoints(void **state)
{
	struct dp_addr addr = ip(web.addr), nobody = ip("10.42.0.200");
	struct k3c_addr key = dp_addr_in(&addr), unknown = dp_addr_in(&nobody);
	struct k3c_endpoint e;
	struct dp_drift found;

	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_ENDPOINT], &key), 0);
	found = look();
	/* its policy and its link are missing */
	expect_found(&found, DP_DRIFT_ENDPOINT, 2);
	expect_right();
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &key, &e), 0);
	e.policy[0].flags = e.policy[1].flags = 0; /* open to all */
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &key, &e, BPF_ANY), 0);
	e.ifindex = 0;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &unknown, &e, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_ENDPOINT, 2);
	assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &unknown, &e) < 0);
	expect_right();
}

static void test_rules(void **state)
{
	int fd = world.dp->maps[DP_MAP_RULE];
	struct k3c_rule_key key, added;
	struct k3c_prefix_key prefix;
	struct dp_drift found;
	uint32_t one = 1;

	assert_int_equal(bpf_map_get_next_key(fd, NULL, &key), 0);
	assert_int_equal(bpf_map_delete_elem(fd, &key), 0);
	found = look();
	expect_found(&found, DP_DRIFT_RULE, 1);
	expect_right();
	/* the stranger is let in */
	added = key;
	added.peer ^= 0x55;
	assert_int_equal(bpf_map_update_elem(fd, &added, &one, BPF_ANY), 0);
	assert_int_equal(bpf_map_get_next_key(world.dp->maps[DP_MAP_PREFIX], NULL, &prefix), 0);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_PREFIX], &prefix), 0);
	found = look();
	expect_found(&found, DP_DRIFT_RULE, 2);
	expect_right();
}

static void test_programs_and_filters(void **state)
{
	struct dp_addr addr = ip(web.addr);
	struct dp_endpoint e;
	struct dp_drift found;

	programs_detach_cgroup(world.pin_dir);
	found = look();
	assert_true(found.n[DP_DRIFT_PROGRAM] >= 8);
	expect_right();
	assert_int_equal(dataplane_endpoint_get(world.dp, &addr, &e), 0);
	nl_put_filter_delete(world.dp->nl, (int)e.ifindex, true);
	nl_put_filter_delete(world.dp->nl, (int)e.ifindex, false);
	ok(nl_commit(world.dp->nl, err));
	found = look();
	expect_found(&found, DP_DRIFT_FILTER, 2);
	expect_right();
	nl_put_clsact_delete(world.dp->nl, ifindex_in(world_host_ns(), "up0"));
	ok(nl_commit(world.dp->nl, err));
	found = look();
	expect_found(&found, DP_DRIFT_FILTER, 2);
	expect_right();
}

static void test_addresses_and_routes(void **state)
{
	struct dp_addr node_ip = ip(NODE_IP), addr = ip(web.addr);
	struct k3c_addr key = dp_addr_in(&node_ip);
	struct nl_route route = {
		.family = AF_INET, .dst = dp_addr_in(&addr), .bits = 32, .type = RTN_UNICAST, .scope = RT_SCOPE_LINK
	};
	struct dp_drift found;

	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_NODE], &key), 0);
	found = look();
	expect_found(&found, DP_DRIFT_ADDRESS, 1);
	nl_put_route(world.dp->nl, RTM_DELROUTE, &route, 0);
	ok(nl_commit(world.dp->nl, err));
	found = look();
	expect_found(&found, DP_DRIFT_ROUTE, 1);
	expect_right();
}

static void test_state(void **state)
{
	struct k3c_meta meta;
	struct dp_drift found;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_META], &zero, &meta), 0);
	meta.generation += 1;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_META], &zero, &meta, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_STATE, 1);
	expect_right();
}

/* Rows that say what links, namespaces and limits are, and those that nobody refers to. */
static void test_rows(void **state)
{
	uint32_t up0 = (uint32_t)ifindex_in(world_host_ns(), "up0"), nobody = 99999, one = 1;
	struct k3c_rate rate = { .limit = { { .bits_s = 1000000 } } };
	struct k3c_source_key source = { .prefixlen = K3C_SOURCE_BITS_FIXED + 128, .set = 0x7fffffff };
	struct k3c_netns ns;
	struct dp_drift found;
	struct k3c_link row;
	uint64_t cookie;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &up0, &row), 0);
	row.addr[DP_V4].b[15] ^= 1;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_LINK], &up0, &row, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_LINK, 1);
	/* one lost, one that is nobody's */
	assert_int_equal(bpf_map_get_next_key(world.dp->maps[DP_MAP_NETNS], NULL, &cookie), 0);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_NETNS], &cookie, &ns), 0);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_NETNS], &cookie), 0);
	ns.ifindex = nobody;
	cookie = nobody;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_NETNS], &cookie, &ns, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_NETNS, 2);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &nobody, &rate, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_LIMIT, 1);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SOURCE], &source, &one, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_SET, 1);
	expect_right();
}

static void limits_are(uint32_t link, const struct k3c_addr *addr, const struct k3c_rate *row, uint16_t flags)
{
	struct k3c_endpoint e;
	struct k3c_rate now;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_RATE], &link, &now), 0);
	for (int d = 0; d < 2; d++) {
		assert_int_equal(now.limit[d].bits_s, row->limit[d].bits_s);
		assert_int_equal(now.limit[d].burst_ns, row->limit[d].burst_ns);
	}
	assert_int_equal(now.paced, row->paced);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], addr, &e), 0);
	assert_int_equal(e.flags, flags);
}

/* What a pod may send and receive: the row, and the flags without which nobody looks at it. */
static void test_limits(void **state)
{
	struct dp_addr addr = ip(web.addr), open_addr = ip(friend.addr);
	int rates = world.dp->maps[DP_MAP_RATE], endpoints = world.dp->maps[DP_MAP_ENDPOINT];
	struct k3c_addr key = dp_addr_in(&addr), open_key = dp_addr_in(&open_addr);
	struct k3c_endpoint e, open;
	struct k3c_rate row, other;
	struct dp_drift found;
	uint32_t link;

	patch(KIND_POD, "web",
	      "{\"metadata\":{\"annotations\":{\"kubernetes.io/ingress-bandwidth\":\"10M\","
	      "\"kubernetes.io/egress-bandwidth\":\"20M\"}}}");
	expect_nothing();
	assert_int_equal(bpf_map_lookup_elem(endpoints, &key, &e), 0);
	assert_true(e.flags & K3C_EP_LIMIT_INGRESS);
	link = e.ifindex;
	assert_int_equal(bpf_map_lookup_elem(rates, &link, &row), 0);
	assert_int_equal(row.limit[DP_EGRESS].bits_s, 20000000);
	other = row;
	other.limit[DP_INGRESS].bits_s = other.limit[DP_EGRESS].bits_s = 10000000000;
	assert_int_equal(bpf_map_update_elem(rates, &link, &other, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_LIMIT, 1);
	limits_are(link, &key, &row, e.flags);
	assert_int_equal(bpf_map_delete_elem(rates, &link), 0);
	found = look();
	expect_found(&found, DP_DRIFT_LIMIT, 1);
	limits_are(link, &key, &row, e.flags);
	/* flags that are lost; a limit for a pod that has none; and all of the endpoint */
	open = e;
	open.flags = 0;
	assert_int_equal(bpf_map_update_elem(endpoints, &key, &open, BPF_ANY), 0);
	assert_int_equal(bpf_map_lookup_elem(endpoints, &open_key, &open), 0);
	assert_int_equal(bpf_map_update_elem(rates, &open.ifindex, &other, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_LIMIT, 2);
	limits_are(link, &key, &row, e.flags);
	assert_true(bpf_map_lookup_elem(rates, &open.ifindex, &other) < 0);
	assert_int_equal(bpf_map_delete_elem(endpoints, &key), 0);
	found = look();
	expect_found(&found, DP_DRIFT_ENDPOINT, 2);
	limits_are(link, &key, &row, e.flags);
	patch(KIND_POD, "web",
	      "{\"metadata\":{\"annotations\":{\"kubernetes.io/ingress-bandwidth\":null,"
	      "\"kubernetes.io/egress-bandwidth\":null}}}");
	assert_true(bpf_map_lookup_elem(rates, &link, &other) < 0);
	expect_right();
}

/* Pods go to some nets with their own addresses: to none here, and never to all of IPv4 as part of IPv6. */
static void test_direct(void **state)
{
	const struct k3c_direct_key all_v4 = { .prefixlen = K3C_DIRECT_BITS_FIXED + DP_V4_BITS, .addr = dp_addr_v4(0) };
	struct dp_addr net = ip("198.51.100.0");
	struct k3c_direct_key stranger_net = { .prefixlen = K3C_DIRECT_BITS_FIXED + DP_V4_BITS + 24,
					       .addr = dp_addr_in(&net) };
	int fd = world.dp->maps[DP_MAP_DIRECT];
	uint32_t one = 1, value;
	struct dp_drift found;

	assert_int_equal(bpf_map_update_elem(fd, &stranger_net, &one, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_DIRECT, 1);
	assert_int_equal(bpf_map_lookup_elem(fd, &stranger_net, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(bpf_map_update_elem(fd, &all_v4, &one, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_DIRECT, 1);
	assert_int_equal(bpf_map_delete_elem(fd, &all_v4), 0);
	assert_int_equal(bpf_map_update_elem(fd, &stranger_net, &one, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_DIRECT, 2);
	assert_int_equal(bpf_map_lookup_elem(fd, &all_v4, &value), 0);
	assert_int_equal(value, 0);
	expect_right();
}

/* Programs go on in these; a pod without a row has no count of its own. */
static void test_tails_and_counters(void **state)
{
	int tails = world.dp->maps[DP_MAP_TAIL], counters = world.dp->maps[DP_MAP_POD_DROP];
	struct k3c_pod_drop none = { 0 };
	uint32_t key, nobody = 99999, n = 0;
	struct dp_drift found;

	for (uint32_t i = 0; i < K3C_TAIL_COUNT; i++)
		n += bpf_map_delete_elem(tails, &i) == 0;
	assert_int_equal(n, K3C_TAIL_COUNT);
	found = look();
	expect_found(&found, DP_DRIFT_PROGRAM, n);
	expect_right();
	key = 0;
	assert_int_equal(bpf_map_update_elem(tails, &key, &world.dp->programs[DP_PROGRAM_POD_PASS], BPF_ANY), 0);
	key = K3C_TAIL_COUNT - 1;
	assert_int_equal(bpf_map_update_elem(tails, &key, &world.dp->programs[DP_PROGRAM_SERVICE_OUT], BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_PROGRAM, 2);
	assert_int_equal(bpf_map_get_next_key(counters, NULL, &key), 0);
	assert_int_equal(bpf_map_delete_elem(counters, &key), 0);
	assert_int_equal(bpf_map_update_elem(counters, &nobody, &none, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_COUNTER, 2);
	expect_right();
}

/* Who comes next finds the same maps by them. */
static void test_pins(void **state)
{
	static const enum dp_map taken[] = { DP_MAP_CONN, DP_MAP_META };
	struct dp_drift found;

	for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
		char path[DP_PATH_MAX];

		maps_path(world.pin_dir, taken[i], path, sizeof(path));
		assert_int_equal(unlink(path), 0);
	}
	found = look();
	expect_found(&found, DP_DRIFT_PIN, ARRAY_SIZE(taken));
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
		struct bpf_map_info ours = {}, pinned = {};
		uint32_t len = sizeof(ours);
		char path[DP_PATH_MAX];
		int fd;

		maps_path(world.pin_dir, taken[i], path, sizeof(path));
		fd = bpf_obj_get(path);
		assert_true(fd >= 0);
		assert_int_equal(bpf_obj_get_info_by_fd(fd, &pinned, &len), 0);
		assert_int_equal(bpf_obj_get_info_by_fd(world.dp->maps[taken[i]], &ours, &len), 0);
		assert_int_equal(pinned.id, ours.id);
		close(fd);
	}
	expect_right();
}

static void on_lo(struct nl *nl, uint16_t type, const char *addr)
{
	struct dp_addr a = ip(addr);
	struct nl_address put = { .addr = dp_addr_in(&a), .bits = 32, .ifindex = 1 };

	nl_put_address(nl, type, &put, 0);
	ok(nl_commit(nl, err));
}

/* Such as the cluster DNS's. */
static void test_local_address(void **state)
{
	struct dp_addr dns = ip("10.43.0.10");
	struct dp_drift found;
	struct nl *other;

	ok(nl_open(NETLINK_ROUTE, &other, err));
	ok(dataplane_local_address_add(world.dp, &dns, err));
	settle();
	expect_nothing();
	on_lo(other, RTM_DELADDR, "10.43.0.10");
	found = look();
	expect_found(&found, DP_DRIFT_ADDRESS, 1);
	expect_nothing();
	ok(dataplane_local_address_delete(world.dp, &dns, err));
	expect_nothing();
	nl_close(other);
}

static void ignore_service(void *arg, const struct dp_service *s)
{
}

/* One byte after the other of a row's value, upside down. */
static void invert_row(int fd, const void *key, uint32_t size, const char *name)
{
	struct dp_drift found;
	uint8_t was[256], now[256];

	assert_true(size <= sizeof(was));
	for (uint32_t i = 0; i < size; i++) {
		if (bpf_map_lookup_elem(fd, key, was) < 0)
			return; /* it was nobody's */
		memcpy(now, was, size);
		now[i] ^= 0xff;
		if (bpf_map_update_elem(fd, key, now, BPF_EXIST) < 0)
			continue; /* the kernel says no */
		(void)dataplane_service_each(world.dp, ignore_service, NULL, NULL);
		look();
		look();
		found = look();
		for (int k = 0; k < DP_DRIFT_KINDS; k++)
			if (found.n[k])
				fail_msg("%s: byte %u: %s is not put right", name, i, dataplane_drift_name(k));
	}
}

/* Whatever stands in a map is input: nothing dies of it, and it is as it was after two looks. */
static void test_inverted(void **state)
{
	static const enum dp_map maps[] = { DP_MAP_SERVICE, DP_MAP_BACKEND, DP_MAP_SOURCE,   DP_MAP_ENDPOINT,
					    DP_MAP_PREFIX,  DP_MAP_NETNS,   DP_MAP_LINK,     DP_MAP_NODE,
					    DP_MAP_RATE,    DP_MAP_META,    DP_MAP_POD_DROP, DP_MAP_DIRECT };

	service("sticky", "10.43.0.99", 80, ",'sessionAffinity':'ClientIP'");
	slice("sticky", web.addr, 8080);
	settle();
	expect_nothing();
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		int fd = world.dp->maps[maps[i]];
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);
		uint8_t keys[64][64];
		size_t n = 0;

		assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
		assert_true(info.key_size <= sizeof(keys[0]));
		while (n < ARRAY_SIZE(keys) && bpf_map_get_next_key(fd, n ? keys[n - 1] : NULL, keys[n]) == 0)
			n++;
		for (size_t k = 0; k < n; k++)
			invert_row(fd, keys[k], info.value_size, maps_name(maps[i]));
	}
	expect_right();
}

static int64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* What a look costs the loop: K3C_DRIFT_SERVICES says with how many. */
static void test_cost(void **state)
{
	const char *text = getenv("K3C_DRIFT_SERVICES");
	unsigned n = text && atoi(text) > 0 ? (unsigned)atoi(text) : 200;
	int64_t least = INT64_MAX;

	for (unsigned i = 0; i < n; i++) {
		char name[32], addr[32];

		snprintf(name, sizeof(name), "cost-%u", i);
		snprintf(addr, sizeof(addr), "10.43.%u.%u", 16 + i / 250, 1 + i % 250);
		service(name, addr, 80, "");
		slice(name, web.addr, 8080);
	}
	settle();
	for (int i = 0; i < 5; i++) {
		int64_t begun = processor_ns(), took;

		expect_nothing();
		took = processor_ns() - begun;
		least = took < least ? took : least;
	}
	print_message("a look at %u Services and what else there is: %lld us of processor\n", n,
		      (long long)least / 1000);
}

#define PIECES_SERVICES 600 /* more than fit into two pieces */

static void pieces_until_over(void)
{
	const struct netctl_drift *d = netctl_get_drift(node.nc);

	for (int i = 0; i < WORLD_WAIT_MS && d->looking; i++)
		settle();
	assert_false(d->looking);
}

static void begin_pieces(void)
{
	netctl_drift_begin(node.nc, 0);
	assert_true(netctl_get_drift(node.nc)->looking);
}

static struct k3c_service_key frontend_of(const char *addr)
{
	struct dp_addr a = ip(addr);

	return (struct k3c_service_key){ .addr = dp_addr_in(&a), .port = htons(80), .proto = IPPROTO_TCP };
}

/* A row behind the last of a set that serves: nobody reads it, and those that are read stay. */
static void test_surplus(void **state)
{
	struct k3c_service_key key = frontend_of(CLUSTER_IP);
	struct k3c_backend_key at;
	struct k3c_backend backend;
	struct k3c_service value;
	struct dp_drift found;

	expect_nothing();
	for (int sticky = 0; sticky < 2; sticky++) {
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value), 0);
		at = (struct k3c_backend_key){ .set = value.inside.set, .index = value.inside.count - 1 };
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_BACKEND], &at, &backend), 0);
		at.index++;
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_BACKEND], &at, &backend, BPF_ANY), 0);
		found = look();
		expect_found(&found, DP_DRIFT_SET, 1);
		assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_BACKEND], &at, &backend) < 0);
		expect_nothing();
		expect_right();
		patch(KIND_SERVICE, "s", "{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}");
	}
	/* a frontend that says less than was written to it takes no rows along */
	value.inside.count = 0;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value, BPF_ANY), 0);
	found = look();
	expect_found(&found, DP_DRIFT_FRONTEND, 1);
	expect_nothing();
	expect_right();
}

/* A start is no look: who asks right after it gets one, and only the first of a moment. */
static void test_first_asked(void **state)
{
	struct k3c_service_key key = frontend_of(CLUSTER_IP);
	const struct netctl_drift *d;
	struct k3c_service value;

	node_stop();
	node_start_with("10.42.0.0/24");
	settle();
	d = netctl_get_drift(node.nc);
	assert_int_equal(d->looks, 0);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &key), 0);
	netctl_drift_look(node.nc, INT64_MAX, INT64_MAX);
	assert_int_equal(d->looks, 1);
	assert_int_equal(d->found[DP_DRIFT_FRONTEND], 1);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &key, &value), 0);
	netctl_drift_look(node.nc, INT64_MAX, INT64_MAX);
	assert_int_equal(d->looks, 1);
}

static void many_services(void)
{
	for (unsigned i = 0; i < PIECES_SERVICES; i++) {
		char name[32], addr[32];

		snprintf(name, sizeof(name), "many-%u", i);
		snprintf(addr, sizeof(addr), "10.43.%u.%u", 16 + i / 250, 1 + i % 250);
		service(name, addr, 80, "");
		slice(name, web.addr, 8080);
	}
	settle();
}

/* A look over many turns finds what was changed before it, and nothing in what objects change meanwhile. */
static void test_pieces(void **state)
{
	struct k3c_service_key gone = frontend_of("10.43.17.7"), wrong = frontend_of("10.43.18.8"),
			       stranger_key = frontend_of("10.43.200.1");
	const struct netctl_drift *d = netctl_get_drift(node.nc);
	struct k3c_backend_key orphan = { .set = 0x7fffffff };
	struct k3c_backend backend = { 0 };
	struct k3c_service value;
	uint64_t looks;

	many_services();
	expect_nothing();
	looks = d->looks;
	begin_pieces();
	netctl_drift_begin(node.nc, 0); /* one at a time */
	assert_int_equal(d->looks, looks + 1);
	/* while it looks, Services come, change and go */
	for (unsigned i = 0; d->looking; i++) {
		char name[32], addr[32];

		snprintf(name, sizeof(name), "later-%u", i);
		snprintf(addr, sizeof(addr), "10.43.32.%u", 1 + i % 250);
		service(name, addr, 80, "");
		slice(name, web.addr, 8080);
		snprintf(name, sizeof(name), "many-%u", i * 7);
		delete (KIND_SERVICE, name);
		snprintf(name, sizeof(name), "many-%u", i * 7 + 3);
		patch(KIND_SERVICE, name, "{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}");
		assert_true(i < 80);
	}
	for (int k = 0; k < DP_DRIFT_KINDS; k++)
		assert_int_equal(d->found[k], 0);
	expect_nothing();

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &wrong, &value), 0);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SERVICE], &stranger_key, &value, BPF_ANY), 0);
	value.affinity_s = 77;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_SERVICE], &wrong, &value, BPF_ANY), 0);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &gone), 0);
	begin_pieces();
	pieces_until_over();
	assert_int_equal(d->found[DP_DRIFT_FRONTEND], 3);
	assert_int_equal(d->last.n[DP_DRIFT_FRONTEND], 3);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &gone, &value), 0);
	assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_SERVICE], &stranger_key, &value) < 0);
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_BACKEND], &orphan, &backend, BPF_ANY), 0);
	begin_pieces();
	pieces_until_over();
	assert_int_equal(d->found[DP_DRIFT_SET], 1);
	assert_true(bpf_map_lookup_elem(world.dp->maps[DP_MAP_BACKEND], &orphan, &backend) < 0);
	expect_nothing();
	/* whoever asks gets as much of it as fits into the time, and the rest comes in turns */
	looks = d->looks;
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &gone), 0);
	netctl_drift_look(node.nc, 0, 0);
	assert_true(d->looking);
	assert_int_equal(d->found[DP_DRIFT_FRONTEND], 3);
	netctl_drift_look(node.nc, DRIFT_EVERY_NS, 1); /* carries on */
	assert_true(d->looking);
	assert_int_equal(d->looks, looks + 1);
	pieces_until_over();
	assert_int_equal(d->found[DP_DRIFT_FRONTEND], 4);
	/* who asks meanwhile, when the look is too old to have seen all, gets a new one at once */
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &gone), 0);
	looks = d->looks;
	begin_pieces();
	netctl_drift_look(node.nc, 0, INT64_MAX);
	assert_false(d->looking);
	assert_int_equal(d->looks, looks + 2);
	assert_int_equal(d->found[DP_DRIFT_FRONTEND], 5);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &gone), 0);
	begin_pieces();
	netctl_drift_look(node.nc, DRIFT_EVERY_NS, INT64_MAX);
	assert_false(d->looking);
	assert_int_equal(d->found[DP_DRIFT_FRONTEND], 6);
	expect_right();
}

static void turns_until_found(enum dp_drift_kind kind, uint64_t n)
{
	const struct netctl_drift *d = netctl_get_drift(node.nc);

	for (int i = 0; i < WORLD_WAIT_MS && d->found[kind] < n; i++)
		settle();
	assert_int_equal(d->found[kind], n);
}

/* What the kernel tells of is put right without anybody looking. */
static void test_told_by_the_kernel(void **state)
{
	struct dp_addr addr = ip(web.addr), dns = ip("10.43.0.10");
	struct nl_route route = {
		.family = AF_INET, .dst = dp_addr_in(&addr), .bits = 32, .type = RTN_UNICAST, .scope = RT_SCOPE_LINK
	};
	struct dp_endpoint e;
	struct nl *other;

	ok(nl_open(NETLINK_ROUTE, &other, err));
	assert_int_equal(dataplane_endpoint_get(world.dp, &addr, &e), 0);
	nl_put_route(other, RTM_DELROUTE, &route, 0);
	ok(nl_commit(other, err));
	turns_until_found(DP_DRIFT_ROUTE, 1);
	nl_put_filter_delete(other, (int)e.ifindex, true);
	ok(nl_commit(other, err));
	turns_until_found(DP_DRIFT_FILTER, 1);
	nl_put_clsact_delete(other, (int)e.ifindex);
	ok(nl_commit(other, err));
	turns_until_found(DP_DRIFT_FILTER, 3);
	nl_close(other);
	ok(dataplane_local_address_add(world.dp, &dns, err));
	settle();
	ok(nl_open(NETLINK_ROUTE, &other, err));
	on_lo(other, RTM_DELADDR, "10.43.0.10");
	turns_until_found(DP_DRIFT_ADDRESS, 1);
	nl_close(other);
	ok(dataplane_local_address_delete(world.dp, &dns, err));
	settle();
	assert_int_equal(netctl_get_drift(node.nc)->looks, 0);
	expect_right();
	/* A pod that goes takes its own away. */
	pod_end(&stranger);
	pod_add(&stranger, "late");
	settle();
	assert_int_equal(netctl_get_drift(node.nc)->found[DP_DRIFT_ROUTE], 1);
	assert_int_equal(netctl_get_drift(node.nc)->found[DP_DRIFT_FILTER], 3);
}

/* Not more often than asked for; when, and what was found last, can be told. */
static void test_when(void **state)
{
	const struct netctl_drift *d = netctl_get_drift(node.nc);
	struct k3c_service_key key = frontend_key(80);
	uint64_t looks;

	expect_nothing();
	looks = d->looks;
	assert_int_equal(d->last_found_ns, 0);
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_SERVICE], &key), 0);
	netctl_drift_look(node.nc, DRIFT_EVERY_NS, INT64_MAX);
	assert_int_equal(d->looks, looks);
	netctl_drift_look(node.nc, 0, INT64_MAX);
	assert_int_equal(d->looks, looks + 1);
	assert_true(d->last_found_ns > 0);
	assert_int_equal(d->last.n[DP_DRIFT_FRONTEND], 1);
	netctl_drift_look(node.nc, 0, INT64_MAX);
	assert_int_equal(d->last.n[DP_DRIFT_FRONTEND], 1);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_nothing, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_frontends, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_frontends_of_no_kind, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_frontends_of_others, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_sources, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_endpoints, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_rules, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_programs_and_filters, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_addresses_and_routes, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_state, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_rows, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_limits, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_direct, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_tails_and_counters, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_pins, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_local_address, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_inverted, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_surplus, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_first_asked, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_pieces, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_cost, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_told_by_the_kernel, drift_setup, drift_teardown),
		cmocka_unit_test_setup_teardown(test_when, drift_setup, drift_teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
