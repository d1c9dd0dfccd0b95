/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of pods in the kernel: paced where it has fq, else policed; changed and lifted while the pod runs, kept over a
 * restart, gone with the pod. What single packets cost is in packets/rate.packets. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/rate.h"
#include "userspace/base/clock.h"
#include "userspace/dataplane/drift.h"
#include "userspace/dataplane/rates.h"

#define NS_PER_S 1000000000LL
#define TEST_PROTO 253 /* for experiments, RFC 3692 */

static struct test_pod a, b;

static bool has_fq(void)
{
	struct dp_feature f[32];
	size_t n = dataplane_features(f, 32);

	for (size_t i = 0; i < n; i++)
		if (strcmp(f[i].name, "fq") == 0)
			return f[i].present;
	fail_msg("no such feature");
	return false;
}

static bool row_of(const struct test_pod *p, struct k3c_rate *ret)
{
	uint32_t key = (uint32_t)p->ifindex;

	return bpf_map_lookup_elem(world.dp->maps[DP_MAP_RATE], &key, ret) == 0;
}

static uint16_t flags_of(const struct test_pod *p, const char *addr)
{
	struct dp_addr d = ip(addr);
	struct k3c_addr key = dp_addr_in(&d);
	struct k3c_endpoint e;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &key, &e), 0);
	return e.flags;
}

static void limits_are(const struct test_pod *p, uint64_t in, uint64_t out)
{
	uint16_t want = (uint16_t)((in ? K3C_EP_LIMIT_INGRESS : 0) | (out && !has_fq() ? K3C_EP_LIMIT_EGRESS : 0));
	struct k3c_rate row = { 0 };

	assert_int_equal(row_of(p, &row), in || out);
	assert_int_equal(row.limit[DP_INGRESS].bits_s, in);
	assert_int_equal(row.limit[DP_EGRESS].bits_s, out);
	assert_int_equal(row.paced != 0, out && has_fq());
	assert_int_equal(flags_of(p, p->addr), want);
	assert_int_equal(flags_of(p, p->addr6), want);
}

static void talk(void)
{
	int server = server_in(b.ns, SOCK_STREAM, b.addr, 80), client, conn;

	assert_int_equal(client_in(a.ns, SOCK_STREAM, b.addr, 80, &client), 0);
	conn = accept_from(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(client);
	close(conn);
	close(server);
}

static void test_life(void **state)
{
	struct dp_pod pod = { .key = a.key, .netns_path = a.netns_path, .egress_bits_s = 8000000 };
	uint32_t key = (uint32_t)a.ifindex, found = 0;
	struct k3c_rate row;

	limits_are(&a, 0, 0);
	ok(dataplane_pod_bandwidth(world.dp, a.key, 16000000, 8000000, err));
	limits_are(&a, 16000000, 8000000);
	talk();
	dataplane_close(world.dp);
	world_open();
	limits_are(&a, 16000000, 8000000);
	/* what was found is what is wanted, whatever somebody writes since */
	ok(rates_repair(world.dp, &found, err));
	assert_int_equal(found, 0);
	assert_true(row_of(&a, &row));
	row.limit[DP_INGRESS].bits_s = 0;
	row.limit[DP_EGRESS].burst_ns = 1;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &row, BPF_ANY), 0);
	ok(rates_repair(world.dp, &found, err));
	assert_int_equal(found, 1);
	limits_are(&a, 16000000, 8000000);
	talk();
	/* attached again, as after a restart of the server */
	pod_addrs_of(&a, pod.addrs);
	ok(dataplane_pod_attach(world.dp, &pod, err));
	limits_are(&a, 0, 8000000);
	talk();
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 0, err));
	limits_are(&a, 0, 0);
	talk();
	assert_int_equal(dataplane_pod_bandwidth(world.dp, "nobody", 0, 1000, NULL), -ENOENT);
}

static void test_gone_with_the_pod(void **state)
{
	struct k3c_rate row;

	ok(dataplane_pod_bandwidth(world.dp, b.key, 1000, 0, err));
	assert_true(row_of(&b, &row));
	pod_drop(&b);
	assert_false(row_of(&b, &row));
}

/* Far more than the limit allows at once: what is too much is dropped or waits, and that is counted. */
static void test_excess_is_dropped(void **state)
{
	uint64_t before = drops("rate-egress");
	struct sockaddr_in to = sin_of(OUTSIDE_IP, 9);
	int fd = sock_in(a.ns, SOCK_DGRAM);
	static const char data[1000];

	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 1000, err));
	/* a thousand bits a second: one of these takes eight seconds */
	for (int i = 0; i < 200; i++)
		(void)sendto(fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
	await_drop("rate-egress", before);
	close(fd);
}

enum { SHAPED_DATAGRAMS = 40, SHAPED_BYTES = 1000, SHAPED_BITS_S = 400000 };

/* Sent at once, in time below the horizon: with fq everything arrives, without what exceeds the burst is dropped; never
 * does it arrive sooner than the limit allows. A slow machine only takes longer. */
static void shaped(void)
{
	int64_t each_ns = 8 * SHAPED_BYTES * NS_PER_S / SHAPED_BITS_S, begun, took;
	int server = server_in(b.ns, SOCK_DGRAM, b.addr, 9000), client, arrived = 0;
	uint64_t before = drops("rate-egress"), lost = 0;
	char data[SHAPED_BYTES] = { 0 };
	struct k3c_rate row = { 0 };

	assert_true(row_of(&a, &row));
	assert_int_equal(row.limit[DP_EGRESS].bits_s, SHAPED_BITS_S);
	assert_int_equal(client_in(a.ns, SOCK_DGRAM, b.addr, 9000, &client), 0);
	begun = clock_monotonic_ns();
	for (int i = 0; i < SHAPED_DATAGRAMS; i++)
		assert_int_equal(send(client, data, sizeof(data), 0), sizeof(data));
	while (arrived + lost < SHAPED_DATAGRAMS) {
		if (readable(server, 20) && recv(server, data, sizeof(data), 0) == sizeof(data))
			arrived++;
		lost = drops("rate-egress") - before;
	}
	took = clock_monotonic_ns() - begun;
	print_message("%d of %d arrived in %lld ms, %s\n", arrived, SHAPED_DATAGRAMS, (long long)(took / 1000000),
		      row.paced ? "paced" : "policed");
	if (row.paced)
		assert_int_equal(lost, 0);
	else
		took += (int64_t)row.limit[DP_EGRESS].burst_ns;
	assert_true(took >= (arrived - 1) * each_ns);
	close(client);
	close(server);
}

static void test_shaped(void **state)
{
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, SHAPED_BITS_S, err));
	shaped();
}

static void owe_for_ever(uint32_t key, enum dp_direction d)
{
	struct k3c_rate row;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_RATE], &key, &row), 0);
	row.limit[d].paid_ns = (uint64_t)clock_monotonic_ns() + 3600 * (uint64_t)NS_PER_S;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &row, BPF_ANY), 0);
}

static uint32_t limits_found(void);

/* What no program can have written: the pod is silent until a look finds it. What they do write is left alone. */
static void test_owing_for_ever(void **state)
{
	uint32_t key = (uint32_t)a.ifindex;
	struct k3c_rate row;

	ok(dataplane_pod_bandwidth(world.dp, a.key, 8000000, 8000000, err));
	for (int d = 0; d < 2; d++) {
		owe_for_ever(key, (enum dp_direction)d);
		assert_int_equal(limits_found(), 1);
		assert_int_equal(limits_found(), 0);
		talk();
		/* where nobody was there */
		owe_for_ever(key, (enum dp_direction)d);
		dataplane_close(world.dp);
		world_open();
		talk();
		assert_int_equal(limits_found(), 0);
	}
	assert_true(row_of(&a, &row));
	row.limit[DP_EGRESS].paid_ns = (uint64_t)clock_monotonic_ns() + NS_PER_S;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &row, BPF_ANY), 0);
	assert_int_equal(limits_found(), 0);
	/* by a limit that was far lower */
	ok(dataplane_pod_bandwidth(world.dp, a.key, 1000, 1000, err));
	owe_for_ever(key, DP_EGRESS);
	assert_int_equal(limits_found(), 0);
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 8000000, err));
	talk();
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 0, err));
}

/* How many limits a look finds other than they were written. */
static uint32_t limits_found(void)
{
	struct dp_drift found = { 0 };

	ok(dataplane_drift(world.dp, &found, err));
	return found.n[DP_DRIFT_LIMIT];
}

/* The pod's own end as it would be without a limit. */
static void take_pacing_away(const struct test_pod *p, uint32_t peer)
{
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(p->ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_clsact_delete(nl, (int)peer);
	rates_put_fq(nl, (int)peer, false);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

/* The program is there, and nobody tells it whose pod it is in. */
static void take_owner_away(const struct test_pod *p, uint32_t peer)
{
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(p->ns, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_filter(nl, (int)peer, false, world.dp->programs[DP_PROGRAM_POD_PACE],
		      programs_name(DP_PROGRAM_POD_PACE));
	ok(nl_commit(nl, err));
	nl_close(nl);
}

/* By hand: found, put back as it was, and kept to again. With fq the row says at which end of the pod packets wait, and
 * that end is looked after; without, flags of both addresses lead to the row. Which of them runs is the kernel's. */
static void test_taken_away(void **state)
{
	uint32_t key = (uint32_t)a.ifindex;
	struct k3c_rate row, other;

	print_message("%s\n",
		      has_fq() ? "fq here: limits of what pods send are paced"
			       : "no fq here: limits of what pods send are policed, the paced ones are the guests'");
	ok(dataplane_pod_bandwidth(world.dp, a.key, 16000000, SHAPED_BITS_S, err));
	assert_int_equal(limits_found(), 0);
	assert_true(row_of(&a, &row));
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_RATE], &key), 0);
	assert_int_equal(limits_found(), 1);
	limits_are(&a, 16000000, SHAPED_BITS_S);
	assert_true(row_of(&a, &other));
	assert_int_equal(other.paced, row.paced);
	shaped();
	/* the other of the two ways */
	assert_true(row_of(&a, &other));
	other.paced = row.paced ? 0 : key;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &other, BPF_ANY), 0);
	assert_int_equal(limits_found(), 1);
	limits_are(&a, 16000000, SHAPED_BITS_S);
	if (row.paced) {
		take_pacing_away(&a, row.paced);
		assert_int_equal(limits_found(), 1);
		shaped();
		take_owner_away(&a, row.paced);
		assert_int_equal(limits_found(), 1);
	}
	assert_int_equal(limits_found(), 0);
	/* a limit that nobody asked for, of either way */
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 0, err));
	for (uint32_t paced = 0; paced < 2; paced++) {
		other.paced = paced ? row.paced ? row.paced : key : 0;
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_RATE], &key, &other, BPF_ANY), 0);
		assert_int_equal(limits_found(), 1);
		limits_are(&a, 0, 0);
	}
	assert_int_equal(limits_found(), 0);
	talk();
}

static void await_paid(const struct test_pod *p, uint64_t before)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	struct k3c_rate row;

	for (int i = 0; i < WORLD_WAIT_MS / 2; i++) {
		assert_true(row_of(p, &row));
		if (row.limit[DP_EGRESS].paid_ns > before)
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("nothing was paid");
}

/* With another pod's address, as who may send raw packets can. */
static void send_as(int ns, const char *from, const char *to)
{
	struct {
		union {
			struct iphdr v4;
			struct ipv6hdr v6;
		} ip;
		uint8_t data[SHAPED_BYTES];
	} p = { 0 };
	union any_addr src = any_of(from, 0), dst = any_of(to, 0);
	bool v6 = text_is_v6(to);
	size_t head = v6 ? sizeof(p.ip.v6) : sizeof(p.ip.v4);
	int fd = sock_in_domain(ns, v6 ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (v6) {
		p.ip.v6 = (struct ipv6hdr){ .version = 6, .payload_len = htons(SHAPED_BYTES), .nexthdr = TEST_PROTO };
		p.ip.v6.hop_limit = 64;
		memcpy(&p.ip.v6.saddr, &src.v6.sin6_addr, sizeof(p.ip.v6.saddr));
		memcpy(&p.ip.v6.daddr, &dst.v6.sin6_addr, sizeof(p.ip.v6.daddr));
	} else {
		p.ip.v4 = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = TEST_PROTO };
		p.ip.v4.saddr = src.v4.sin_addr.s_addr;
		p.ip.v4.daddr = dst.v4.sin_addr.s_addr;
	}
	if (sendto(fd, &p, head + SHAPED_BYTES, 0, &dst.sa, any_len(&dst)) < 0)
		fail_msg("send as %s: %s", from, strerror(errno));
	close(fd);
}

/* It spends nobody's limit: neither the other's, nor does its own pay for what goes nowhere. */
static void test_spoofed(void **state)
{
	const char *const from[DP_FAMILIES] = { a.addr, a.addr6 }, *const to[DP_FAMILIES] = { OUTSIDE_IP, OUTSIDE_IP6 };
	struct k3c_rate row_a, row_b, row;

	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, SHAPED_BITS_S, err));
	ok(dataplane_pod_bandwidth(world.dp, b.key, 0, SHAPED_BITS_S, err));
	for (int f = 0; f < DP_FAMILIES; f++) {
		uint64_t before = drops("spoofed-source");

		assert_true(row_of(&a, &row_a) && row_of(&b, &row_b));
		send_as(b.ns, from[f], to[f]);
		await_drop("spoofed-source", before);
		assert_true(row_of(&a, &row));
		assert_memory_equal(&row, &row_a, sizeof(row));
		assert_true(row_of(&b, &row));
		assert_memory_equal(&row, &row_b, sizeof(row));
		/* with its own it pays */
		send_as(a.ns, from[f], to[f]);
		await_paid(&a, row_a.limit[DP_EGRESS].paid_ns);
	}
	ok(dataplane_pod_bandwidth(world.dp, b.key, 0, 0, err));
	ok(dataplane_pod_bandwidth(world.dp, a.key, 0, 0, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_shaped),
		cmocka_unit_test(test_taken_away),
		cmocka_unit_test(test_owing_for_ever),
		cmocka_unit_test(test_spoofed),
		cmocka_unit_test(test_gone_with_the_pod),
		cmocka_unit_test(test_excess_is_dropped),
	};
	int r;

	world_uplink();
	world_open();
	pod_make_dual(&a, "rate-a", "10.42.7.1", "fd42::7:1", 0);
	pod_make_dual(&b, "rate-b", "10.42.7.2", "fd42::7:2", 0);
	r = cmocka_run_group_tests(all, NULL, NULL);
	pod_drop(&a);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
