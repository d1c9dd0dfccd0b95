/* SPDX-License-Identifier: Apache-2.0 */
/* Looking in: events reach the one who listens and nobody else, rules read back as they were given, what a pod lost is
 * its own, and the answer of a probe is that of the programs for the same packet. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

#include "bpf/include/nat.h"
#include "userspace/base/clock.h"
#include "userspace/dataplane/inspect.h"

#define EVENTS_ALL (1u << DP_EVENT_DROP | 1u << DP_EVENT_FLOW | 1u << DP_EVENT_TRANSLATE)
#define FLOOD_PACKETS 4000 /* more events than the ring has room for */

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

static struct dp_policy_rule rule(uint8_t direction, uint32_t identity, uint8_t proto, uint16_t port, uint16_t end)
{
	return (struct dp_policy_rule){
		.direction = direction, .identity = identity, .proto = proto, .port = port, .end_port = end
	};
}

static void datagram(const struct test_pod *from, const char *to, uint16_t port)
{
	struct sockaddr_in s = sin_of(to, port);
	int fd = sock_in(from->ns, SOCK_DGRAM);

	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&s, sizeof(s)), 1);
	close(fd);
}

/* ---- events ---- */

struct seen {
	struct dp_event last[DP_EVENT_TRANSLATE + 1];
	size_t n[DP_EVENT_TRANSLATE + 1];
};

static void see(void *arg, const struct dp_event *e)
{
	struct seen *s = arg;

	assert_in_range(e->type, DP_EVENT_DROP, DP_EVENT_TRANSLATE);
	s->last[e->type] = *e;
	s->n[e->type]++;
}

static void await_event(struct dp_listener *l, struct seen *s, enum dp_event_type type)
{
	for (int i = 0; i < WORLD_WAIT_MS / 100 && !s->n[type]; i++)
		assert_true(dp_listener_poll(l, 100, see, s) >= 0);
	assert_true(s->n[type] > 0);
}

static bool same_addr(const struct dp_addr *x, const char *text)
{
	struct dp_addr y = ip(text);

	return memcmp(x, &y, sizeof(y)) == 0;
}

static void test_events(void **state)
{
	const struct dp_backend backend = { ip("10.42.0.11"), 9000 };
	const struct dp_service service = { .id = 7,
					    .kind = DP_CLUSTER_IP,
					    .proto = IPPROTO_UDP,
					    .port = 53,
					    .addr = ip("10.43.0.9"),
					    .backends = &backend,
					    .n_backends = 1 };
	struct dp_listener *l, *second;
	struct seen s = { 0 };

	ok(dataplane_service_set(world.dp, &service, err));
	ok(dataplane_listen(world.dp, EVENTS_ALL, &l, err));
	assert_int_equal(dataplane_listen(world.dp, EVENTS_ALL, &second, NULL), -EBUSY);

	datagram(&a, "10.43.0.9", 53);
	await_event(l, &s, DP_EVENT_TRANSLATE);
	assert_true(same_addr(&s.last[DP_EVENT_TRANSLATE].src, a.addr));
	assert_true(s.last[DP_EVENT_TRANSLATE].in_pod);
	assert_int_equal(s.last[DP_EVENT_TRANSLATE].via, DP_VIA_SOCKET);
	assert_true(same_addr(&s.last[DP_EVENT_TRANSLATE].dst, "10.43.0.9"));
	assert_int_equal(s.last[DP_EVENT_TRANSLATE].dport, 53);
	assert_true(same_addr(&s.last[DP_EVENT_TRANSLATE].to, b.addr));
	assert_int_equal(s.last[DP_EVENT_TRANSLATE].to_port, 9000);
	await_event(l, &s, DP_EVENT_FLOW);
	assert_true(same_addr(&s.last[DP_EVENT_FLOW].src, a.addr));
	assert_int_equal(s.last[DP_EVENT_FLOW].dport, 9000);
	assert_int_equal(s.last[DP_EVENT_FLOW].src_identity, 100);
	assert_int_equal(s.last[DP_EVENT_FLOW].dst_identity, 200);
	assert_int_equal(s.n[DP_EVENT_DROP], 0);

	policy(&b, true, false, NULL, 0);
	datagram(&a, b.addr, 9001);
	await_event(l, &s, DP_EVENT_DROP);
	assert_string_equal(s.last[DP_EVENT_DROP].reason, "policy-ingress");
	assert_int_equal(s.last[DP_EVENT_DROP].proto, IPPROTO_UDP);
	assert_int_equal(s.last[DP_EVENT_DROP].ifindex, a.ifindex);
	assert_int_equal(dp_listener_lost(l), 0);
	dp_listener_close(l);

	/* Nobody listens: nothing is written, and the next one starts with nothing. */
	datagram(&a, b.addr, 9001);
	ok(dataplane_listen(world.dp, EVENTS_ALL, &l, err));
	memset(&s, 0, sizeof(s));
	assert_int_equal(dp_listener_poll(l, 0, see, &s), 0);
	dp_listener_close(l);
	ok(dataplane_service_delete(world.dp, &service, err));
}

/* Refused before there is a packet: who asked stands in the socket's namespace. */
static void test_events_of_refused_sockets(void **state)
{
	const struct dp_service service = {
		.id = 8, .kind = DP_CLUSTER_IP, .proto = IPPROTO_TCP, .port = 80, .addr = ip("10.43.0.8")
	};
	struct dp_listener *l;
	struct seen s = { 0 };
	int fd;

	ok(dataplane_service_set(world.dp, &service, err));
	ok(dataplane_listen(world.dp, 1u << DP_EVENT_DROP, &l, err));
	assert_int_equal(client_in(a.ns, SOCK_STREAM, "10.43.0.8", 80, &fd), -ECONNREFUSED);
	close(fd);
	await_event(l, &s, DP_EVENT_DROP);
	assert_true(s.last[DP_EVENT_DROP].in_pod && !s.last[DP_EVENT_DROP].in_host);
	assert_true(same_addr(&s.last[DP_EVENT_DROP].src, a.addr));
	assert_int_equal(s.last[DP_EVENT_DROP].src_identity, 100);
	s = (struct seen){ 0 };
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, "10.43.0.8", 80, &fd), -ECONNREFUSED);
	close(fd);
	await_event(l, &s, DP_EVENT_DROP);
	assert_true(s.last[DP_EVENT_DROP].in_host && !s.last[DP_EVENT_DROP].in_pod);
	/* a namespace that is neither */
	s = (struct seen){ 0 };
	assert_int_equal(client_in(world.outside, SOCK_STREAM, "10.43.0.8", 80, &fd), -ECONNREFUSED);
	close(fd);
	await_event(l, &s, DP_EVENT_DROP);
	assert_true(!s.last[DP_EVENT_DROP].in_host && !s.last[DP_EVENT_DROP].in_pod);
	assert_int_equal(s.last[DP_EVENT_DROP].src_identity, 0);
	dp_listener_close(l);
	ok(dataplane_service_delete(world.dp, &service, err));
}

static void test_events_of_one_type(void **state)
{
	struct dp_listener *l;
	struct seen s = { 0 };

	policy(&b, true, false, NULL, 0);
	ok(dataplane_listen(world.dp, 1u << DP_EVENT_DROP, &l, err));
	datagram(&b, a.addr, 9001);
	datagram(&a, b.addr, 9001);
	await_event(l, &s, DP_EVENT_DROP);
	assert_int_equal(s.n[DP_EVENT_FLOW], 0);
	dp_listener_close(l);
}

static void test_events_lost(void **state)
{
	struct sockaddr_in to = sin_of(b.addr, 9001);
	int fd = sock_in(a.ns, SOCK_DGRAM);
	struct dp_listener *l;
	struct seen s = { 0 };

	policy(&b, true, false, NULL, 0);
	ok(dataplane_listen(world.dp, EVENTS_ALL, &l, err));
	for (int i = 0; i < FLOOD_PACKETS; i++)
		assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	while (dp_listener_poll(l, 0, see, &s) > 0)
		;
	assert_true(dp_listener_lost(l) > 0);
	assert_int_equal(dp_listener_lost(l) + s.n[DP_EVENT_DROP], FLOOD_PACKETS);
	dp_listener_close(l);
	close(fd);
}

/* ---- what a pod lost ---- */

static void await_pod_drop(const struct test_pod *p, uint64_t ingress, uint64_t egress)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	struct dp_addr addr = ip(p->addr);
	struct dp_endpoint e;

	for (int i = 0; i < WORLD_WAIT_MS / 2; i++) {
		assert_int_equal(dataplane_endpoint_get(world.dp, &addr, &e), 0);
		if (e.dropped_ingress == ingress && e.dropped_egress == egress)
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("%s lost %lu and %lu", p->addr, e.dropped_ingress, e.dropped_egress);
}

static void test_pod_drops(void **state)
{
	/* Its own policies' drops only, wherever they were judged. */
	policy(&b, true, false, NULL, 0);
	datagram(&a, b.addr, 9001);
	await_pod_drop(&b, 1, 0);
	await_pod_drop(&a, 0, 0);
	policy(&a, false, true, NULL, 0);
	datagram(&a, b.addr, 9002);
	await_pod_drop(&a, 0, 1);
	await_pod_drop(&b, 1, 0);
	/* A new pod of the same key begins at nothing. */
	pod_drop(&a);
	pod_make(&a, "pod-a", "10.42.0.10", 100);
	await_pod_drop(&a, 0, 0);
}

/* ---- rules ---- */

struct rules_seen {
	struct dp_rule_info items[32];
	size_t n;
};

static void see_rule(void *arg, const struct dp_rule_info *r)
{
	struct rules_seen *s = arg;

	assert_true(s->n < ARRAY_SIZE(s->items));
	s->items[s->n++] = *r;
}

static const struct dp_rule_info *find_rule(const struct rules_seen *s, uint32_t identity, const char *prefix,
					    uint16_t port)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->items[i].identity == identity && s->items[i].port == port &&
		    (!prefix || same_addr(&s->items[i].prefix, prefix)))
			return &s->items[i];
	fail_msg("no rule for identity %u prefix %s port %u", identity, prefix ? prefix : "-", port);
	return NULL;
}

static void test_rules(void **state)
{
	struct dp_policy_rule rules[] = {
		rule(DP_INGRESS, 100, IPPROTO_TCP, 1000, 2999),
		rule(DP_INGRESS, 300, 0, 0, 0),
		rule(DP_EGRESS, 0, IPPROTO_UDP, 53, 0),
		rule(DP_EGRESS, 0, IPPROTO_UDP, 53, 0),
	};
	struct rules_seen s = { 0 };
	struct dp_addr addr = ip(a.addr);
	struct dp_endpoint e;

	rules[2].prefix = ip("192.0.2.0");
	rules[2].prefix_len = 96 + 24;
	rules[3].prefix = ip("192.0.2.128");
	rules[3].prefix_len = 96 + 25;
	rules[3].deny = true;
	policy(&a, true, true, rules, ARRAY_SIZE(rules));
	assert_int_equal(dataplane_endpoint_get(world.dp, &addr, &e), 0);
	assert_int_equal(e.identity, 100);
	assert_true(e.isolated_ingress && e.isolated_egress);
	ok(dataplane_rule_each(world.dp, e.set, see_rule, &s, err));
	assert_int_equal(s.n, 3);
	assert_int_equal(find_rule(&s, 100, NULL, 1000)->end_port, 2999);
	assert_int_equal(find_rule(&s, 100, NULL, 1000)->proto, IPPROTO_TCP);
	assert_int_equal(find_rule(&s, 300, NULL, 0)->proto, 0);
	assert_int_equal(find_rule(&s, 0, "192.0.2.0", 53)->proto, IPPROTO_UDP);
	/* Half of the block is taken out: the other half is what is left. */
	assert_int_equal(find_rule(&s, 0, "192.0.2.0", 53)->prefix_len, 96 + 25);
}

/* ---- probes ---- */

static uint64_t policy_drops(void)
{
	return drops("policy-ingress") + drops("policy-egress");
}

/* The programs' answer to the same question; a datagram that passes is seen at the other end. */
static bool really_passes(uint16_t port)
{
	int server = server_in(b.ns, SOCK_DGRAM, b.addr, port);
	uint64_t before = policy_drops();
	struct timespec pause = { .tv_nsec = 1000000 };
	bool passed = false;

	datagram(&a, b.addr, port);
	for (int i = 0; i < WORLD_WAIT_MS && !passed && policy_drops() == before; i++) {
		passed = readable(server, 0);
		nanosleep(&pause, NULL);
	}
	assert_true(passed || policy_drops() > before);
	close(server);
	return passed;
}

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

static struct dp_policy_rule random_rule(unsigned *seed, uint8_t direction)
{
	static const uint32_t identities[] = { 0, 100, 200, 300 };
	static const char *const prefixes[] = { "10.42.0.0", "10.42.0.8", "10.42.0.11", "10.42.0.10", "0.0.0.0" };
	static const uint8_t bits[] = { 96 + 16, 96 + 29, 128, 128, 96 };
	struct dp_policy_rule r = { .direction = direction, .identity = identities[next_random(seed) % 4] };
	unsigned which = next_random(seed) % ARRAY_SIZE(prefixes);

	if (!r.identity) {
		r.prefix = ip(prefixes[which]);
		r.prefix_len = bits[which];
	}
	r.proto = next_random(seed) % 3 == 0 ? 0 : next_random(seed) % 3 == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	if (r.proto && next_random(seed) % 3) {
		r.port = (uint16_t)(5000 + next_random(seed) % 4);
		r.end_port = next_random(seed) % 2 ? (uint16_t)(r.port + next_random(seed) % 3) : 0;
	}
	return r;
}

static void test_probe_is_the_program(void **state)
{
	const struct dp_addr from = ip(a.addr), to = ip(b.addr);
	unsigned seed = 4711, n_allowed = 0, n_denied = 0;

	for (int i = 0; i < 60; i++) {
		struct dp_policy_rule out[3], in[3];
		size_t n_out = next_random(&seed) % 4, n_in = next_random(&seed) % 4;
		uint16_t port = (uint16_t)(5000 + next_random(&seed) % 6);
		struct dp_probe egress, ingress;
		bool want;

		for (size_t k = 0; k < n_out; k++)
			out[k] = random_rule(&seed, DP_EGRESS);
		for (size_t k = 0; k < n_in; k++)
			in[k] = random_rule(&seed, DP_INGRESS);
		policy(&a, false, next_random(&seed) % 2, out, n_out);
		policy(&b, next_random(&seed) % 4 != 0, false, in, n_in);
		ok(dataplane_probe(world.dp, &from, &to, IPPROTO_UDP, port, false, &egress, &ingress, err));
		want = egress.allowed && ingress.allowed;
		assert_true(egress.is_pod && ingress.is_pod);
		if (really_passes(port) != want)
			fail_msg("round %d: the probe says %d", i, want);
		n_allowed += want;
		n_denied += !want;
	}
	assert_true(n_allowed > 5 && n_denied > 5);
}

static void test_probe_of_the_host(void **state)
{
	const struct dp_addr node = ip(NODE_IP), to = ip(b.addr), nobody = ip("10.42.99.99");
	struct dp_probe egress, ingress;

	policy(&b, true, false, NULL, 0);
	ok(dataplane_probe(world.dp, &node, &to, IPPROTO_TCP, 80, true, &egress, &ingress, err));
	assert_true(egress.allowed && ingress.allowed && ingress.isolated && !egress.known);
	ok(dataplane_probe(world.dp, &node, &to, IPPROTO_TCP, 80, false, &egress, &ingress, err));
	assert_false(ingress.allowed);
	ok(dataplane_probe(world.dp, &to, &nobody, IPPROTO_TCP, 80, false, &egress, &ingress, err));
	assert_false(ingress.known);
	assert_true(dataplane_is_node_address(world.dp, &node));
	assert_false(dataplane_is_node_address(world.dp, &to));
}

/* ---- connections ---- */

struct conns_seen {
	size_t n;
	struct dp_conn last;
	uint16_t port;
};

static void see_conn(void *arg, const struct dp_conn *c)
{
	struct conns_seen *s = arg;

	if (c->to_port != s->port)
		return;
	s->last = *c;
	s->n++;
}

static void test_connections(void **state)
{
	int server = server_in(b.ns, SOCK_STREAM, b.addr, 44444), client;
	struct dp_policy_rule r = rule(DP_INGRESS, 100, 0, 0, 0);
	struct conns_seen s = { .port = 44444 };
	uint64_t before;

	/* between pods nothing has to be known where the ports tell who began */
	policy(&b, true, false, &r, 1);
	assert_int_equal(client_in(a.ns, SOCK_STREAM, b.addr, 44444, &client), 0);
	ok(dataplane_conn_each(world.dp, see_conn, &s, err));
	assert_int_equal(s.n, 1);
	assert_true(same_addr(&s.last.from, a.addr));
	assert_true(same_addr(&s.last.to, b.addr));
	assert_int_equal(s.last.state, DP_CONN_OPEN);
	assert_int_equal(s.last.proto, IPPROTO_TCP);
	assert_true(s.last.quiet_ms < WORLD_WAIT_MS);
	/* Cut, as soon as a packet is judged again. */
	policy(&b, true, false, NULL, 0);
	before = drops("policy-ingress");
	assert_int_equal(send(client, "x", 1, MSG_NOSIGNAL), 1);
	await_drop("policy-ingress", before);
	s.n = 0;
	ok(dataplane_conn_each(world.dp, see_conn, &s, err));
	assert_int_equal(s.last.state, DP_CONN_CUT);
	assert_false(s.last.by_egress);
	close(client);
	close(server);
}

struct aged {
	uint8_t proto;
	uint16_t flags;
	int age_s;
	bool expired;
};

static void see_translation(void *arg, const struct dp_translation *t)
{
	struct dp_translation *last = arg;

	if (t->sport == 1234)
		*last = *t;
}

/* Each for its own time, as the programs have it. */
static void test_translations_expire(void **state)
{
	static const struct aged aged[] = {
		{ IPPROTO_UDP, K3C_NAT_UNASSURED, K3C_NAT_UDP_TIMEOUT_S - 5, false },
		{ IPPROTO_UDP, K3C_NAT_UNASSURED, K3C_NAT_UDP_TIMEOUT_S + 1, true },
		{ IPPROTO_UDP, K3C_NAT_STREAM, K3C_NAT_UDP_TIMEOUT_S + 1, false },
		{ IPPROTO_UDP, K3C_NAT_STREAM, K3C_NAT_UDP_STREAM_TIMEOUT_S + 1, true },
		{ IPPROTO_TCP, K3C_NAT_UNASSURED, K3C_NAT_TCP_UNASSURED_TIMEOUT_S + 1, true },
		{ IPPROTO_TCP, K3C_NAT_STREAM, K3C_NAT_TCP_UNASSURED_TIMEOUT_S + 1, false },
		{ IPPROTO_TCP, K3C_NAT_CLOSING | K3C_NAT_RESET, K3C_NAT_RESET_TIMEOUT_S + 1, true },
		{ IPPROTO_TCP, K3C_NAT_CLOSING, K3C_NAT_RESET_TIMEOUT_S + 1, false },
		{ IPPROTO_ICMP, K3C_NAT_UNASSURED, K3C_NAT_OTHER_TIMEOUT_S + 1, true },
	};
	struct dp_addr from = ip(a.addr), to = ip(OUTSIDE_IP), node = ip(NODE_IP);

	for (size_t i = 0; i < ARRAY_SIZE(aged); i++) {
		int fd = world.dp->maps[aged[i].flags & K3C_NAT_UNASSURED ? DP_MAP_UNASSURED : DP_MAP_NAT];
		struct k3c_nat_key key = { .src = dp_addr_in(&from),
					   .dst = dp_addr_in(&to),
					   .sport = htons(1234),
					   .dport = htons(53),
					   .proto = aged[i].proto,
					   .kind = K3C_NAT_OUT };
		struct k3c_nat n = { .addr = dp_addr_in(&node),
				     .port = htons(1234),
				     .flags = K3C_NAT_MASQUERADE | aged[i].flags };
		struct dp_translation seen = { 0 };

		n.last_ns = (uint64_t)clock_monotonic_ns() - (uint64_t)aged[i].age_s * NS_PER_S;
		assert_int_equal(bpf_map_update_elem(fd, &key, &n, BPF_ANY), 0);
		ok(dataplane_translation_each(world.dp, see_translation, &seen, err));
		assert_int_equal(seen.sport, 1234);
		assert_int_equal(seen.expired, aged[i].expired);
		assert_int_equal(bpf_map_delete_elem(fd, &key), 0);
	}
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_of_refused_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_of_one_type, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pod_drops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_probe_is_the_program, setup, teardown),
		cmocka_unit_test_setup_teardown(test_probe_of_the_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_translations_expire, setup, teardown),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
