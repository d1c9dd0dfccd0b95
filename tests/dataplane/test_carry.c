/* SPDX-License-Identifier: Apache-2.0 */
/* Translations that go into a table of another size, and once more after the old programs have gone on: what ended is
 * left behind, no copy stays open beyond its flow's end, and what is newer counts. Connections whose ports tell who
 * began the wrong way, and what programs note meanwhile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bpf/include/conn.h"
#include "bpf/include/meta.h"
#include "bpf/include/nat.h"
#include "userspace/base/mem.h"
#include "userspace/base/clock.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/maps.h"

#define ENTRIES 64

/* In the order of time even where the clock has just begun. */
static uint64_t ago(int seconds)
{
	int64_t then = clock_monotonic_ns() - seconds * NS_PER_S;

	return then > 0 ? (uint64_t)then : 1;
}

struct tables {
	int from, to, unassured, closed, used;
};

static int used_map(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, 4, 4, 1, NULL);

	assert_true(fd >= 0);
	return fd;
}

static uint32_t bits_of(int fd)
{
	uint32_t zero = 0, bits;

	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &bits), 0);
	return bits;
}

static int setup(void **state)
{
	struct tables *t = mem_new(struct tables);

	t->from = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "from", sizeof(struct k3c_nat_key), sizeof(struct k3c_nat),
				 ENTRIES, NULL);
	t->to = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "to", sizeof(struct k3c_nat_key), sizeof(struct k3c_nat),
			       2 * ENTRIES, NULL);
	t->closed = bpf_map_create(BPF_MAP_TYPE_QUEUE, "closed", 0, sizeof(struct k3c_closed), ENTRIES, NULL);
	t->unassured = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "unassured", sizeof(struct k3c_nat_key),
				      sizeof(struct k3c_nat), ENTRIES, NULL);
	t->used = used_map();
	assert_true(t->from >= 0 && t->to >= 0 && t->unassured >= 0 && t->closed >= 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct tables *t = *state;

	close(t->from);
	close(t->to);
	close(t->unassured);
	close(t->closed);
	close(t->used);
	free(t);
	return 0;
}

/* Of a client's port: any address does. */
static struct k3c_nat_key key_of(uint16_t port, uint8_t proto)
{
	return (struct k3c_nat_key){
		.src = dp_addr_v4(htonl(0xc0000209)), .sport = htons(port), .dport = htons(30080), .proto = proto
	};
}

static void put(int fd, uint16_t port, uint8_t proto, uint16_t backend, uint16_t flags, uint64_t last_ns)
{
	struct k3c_nat_key key = key_of(port, proto);
	struct k3c_nat n = { .port = htons(backend), .flags = K3C_NAT_SERVICE | flags, .last_ns = last_ns };

	assert_int_equal(bpf_map_update_elem(fd, &key, &n, BPF_ANY), 0);
}

static bool get(int fd, uint16_t port, uint8_t proto, struct k3c_nat *ret)
{
	struct k3c_nat_key key = key_of(port, proto);

	return bpf_map_lookup_elem(fd, &key, ret) == 0;
}

static void copy(const struct tables *t)
{
	const struct maps_nat to = {
		.lasting = t->to, .unassured = t->unassured, .closed = t->closed, .used = t->used
	};

	assert_int_equal(maps_copy_nat(t->from, &to, NULL), 0);
}

static void test_what_ended_stays_behind(void **state)
{
	struct tables *t = *state;
	struct k3c_closed end;
	struct k3c_nat n;

	put(t->from, 1, IPPROTO_TCP, 80, 0, ago(3600)); /* quiet, not ended */
	put(t->from, 2, IPPROTO_TCP, 80, K3C_NAT_CLOSING | K3C_NAT_CLOSED, ago(K3C_CLOSED_LATE_S + 1));
	put(t->from, 3, IPPROTO_TCP, 80, K3C_NAT_CLOSING | K3C_NAT_CLOSED, ago(0));
	put(t->from, 4, IPPROTO_TCP, 80, K3C_NAT_CLOSING, ago(30));
	copy(t);
	assert_true(get(t->to, 1, IPPROTO_TCP, &n));
	assert_false(get(t->to, 2, IPPROTO_TCP, &n));
	assert_true(get(t->to, 3, IPPROTO_TCP, &n));
	assert_true(get(t->to, 4, IPPROTO_TCP, &n));
	/* its late packets still come through, and then its place is given back */
	assert_int_equal(bpf_map_lookup_and_delete_elem(t->closed, NULL, &end), 0);
	assert_int_equal(end.key.sport, htons(3));
	assert_int_equal(bpf_map_lookup_and_delete_elem(t->closed, NULL, &end), -ENOENT);
}

static void test_an_end_after_the_copy(void **state)
{
	struct tables *t = *state;
	struct k3c_closed end;
	struct k3c_nat n;

	put(t->from, 1, IPPROTO_TCP, 80, 0, ago(20));
	put(t->from, 2, IPPROTO_TCP, 80, 0, ago(20));
	copy(t);
	put(t->from, 1, IPPROTO_TCP, 80, K3C_NAT_CLOSING | K3C_NAT_CLOSED, ago(K3C_CLOSED_LATE_S + 1));
	copy(t);
	assert_true(get(t->to, 1, IPPROTO_TCP, &n));
	assert_int_equal(n.flags, K3C_NAT_SERVICE | K3C_NAT_CLOSING | K3C_NAT_CLOSED);
	assert_true(get(t->to, 2, IPPROTO_TCP, &n));
	assert_int_equal(n.flags, K3C_NAT_SERVICE);
	assert_int_equal(bpf_map_lookup_and_delete_elem(t->closed, NULL, &end), 0);
	assert_int_equal(end.key.sport, htons(1));
}

/* Told by the new programs after the copy. */
static void test_what_is_newer(void **state)
{
	struct tables *t = *state;
	struct k3c_nat n;

	for (uint16_t port = 1; port <= 3; port++)
		put(t->from, port, port == 3 ? IPPROTO_UDP : IPPROTO_TCP, 80, 0, ago(20));
	copy(t);
	put(t->to, 1, IPPROTO_TCP, 80, K3C_NAT_CLOSING, ago(1)); /* went on to its end */
	put(t->to, 2, IPPROTO_TCP, 81, 0, ago(1));               /* began anew, with another backend */
	put(t->to, 3, IPPROTO_UDP, 81, 0, ago(1));               /* came too early */
	copy(t);
	assert_true(get(t->to, 1, IPPROTO_TCP, &n));
	assert_int_equal(n.flags, K3C_NAT_SERVICE | K3C_NAT_CLOSING);
	assert_true(get(t->to, 2, IPPROTO_TCP, &n));
	assert_int_equal(n.port, htons(81));
	assert_true(get(t->to, 3, IPPROTO_UDP, &n));
	assert_int_equal(n.port, htons(80));
}

/* What only begins, of a build that tells it and of one that had one table for all. */
static void test_what_only_begins(void **state)
{
	struct tables *t = *state;
	struct k3c_nat n;

	put(t->from, 1, IPPROTO_TCP, 80, K3C_NAT_UNASSURED, ago(1));
	put(t->from, 2, IPPROTO_UDP, 80, K3C_NAT_UNASSURED | K3C_NAT_ANSWERED, ago(1));
	put(t->from, 3, IPPROTO_ICMP, 80, 0, ago(1));
	put(t->from, 4, IPPROTO_UDP, 80, K3C_NAT_MASQUERADE | K3C_NAT_ANSWERED, ago(1));
	put(t->from, 5, IPPROTO_UDP, 80, K3C_NAT_MASQUERADE | K3C_NAT_ANSWERED | K3C_NAT_STREAM, ago(1));
	put(t->from, 6, IPPROTO_UDP, 80, 0, ago(1)); /* a service's: nobody told whether it lasts */
	put(t->from, 7, IPPROTO_TCP, 80, 0, ago(1));
	assert_int_equal(bits_of(t->used), 0);
	copy(t);
	for (uint16_t port = 1; port <= 7; port++) {
		static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_UDP,
						  IPPROTO_UDP, IPPROTO_UDP, IPPROTO_TCP };
		bool begins = port <= 4;

		assert_true(get(begins ? t->unassured : t->to, port, protos[port - 1], &n));
		assert_int_equal((n.flags & K3C_NAT_UNASSURED) != 0, begins);
		assert_false(get(begins ? t->to : t->unassured, port, protos[port - 1], &n));
	}
	assert_int_equal(bits_of(t->used), K3C_USED_UNASSURED);
}

/* It went on since, where the old programs or the new ones saw it: it lasts, and stands in one table only. */
static void test_what_lasts_since(void **state)
{
	struct tables *t = *state;
	struct k3c_nat n;

	put(t->from, 1, IPPROTO_TCP, 80, K3C_NAT_UNASSURED, ago(20));
	put(t->from, 2, IPPROTO_TCP, 80, K3C_NAT_UNASSURED, ago(20));
	copy(t);
	put(t->from, 1, IPPROTO_TCP, 80, K3C_NAT_ANSWERED | K3C_NAT_STREAM, ago(1));
	put(t->to, 2, IPPROTO_TCP, 80, K3C_NAT_ANSWERED | K3C_NAT_STREAM, ago(10));
	assert_true(get(t->unassured, 2, IPPROTO_TCP, &n));
	put(t->from, 2, IPPROTO_TCP, 80, K3C_NAT_UNASSURED, ago(1));
	copy(t);
	assert_true(get(t->to, 1, IPPROTO_TCP, &n));
	assert_int_equal(n.flags, K3C_NAT_SERVICE | K3C_NAT_ANSWERED | K3C_NAT_STREAM);
	assert_false(get(t->unassured, 1, IPPROTO_TCP, &n));
	assert_true(get(t->to, 2, IPPROTO_TCP, &n));
	assert_int_equal(n.flags & K3C_NAT_UNASSURED, 0);
}

static int conn_map_of(uint32_t entries)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, NULL, sizeof(struct k3c_conn_key), sizeof(struct k3c_conn),
				entries, NULL);

	assert_true(fd >= 0);
	return fd;
}

static int conn_map(void)
{
	return conn_map_of(ENTRIES);
}

/* Of a build that had one table for both. */
static void test_datagrams_go_to_their_own_table(void **state)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_UDP, IPPROTO_ICMP };
	int from = conn_map(), to = conn_map(), datagrams = conn_map(), used = used_map();
	struct k3c_conn c = { .last_ns = ago(1), .initiator = 1 };

	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		struct k3c_conn_key key = { .a_port = htons(80), .proto = protos[i] };

		assert_int_equal(bpf_map_update_elem(from, &key, &c, BPF_ANY), 0);
	}
	/* twice: what is there stays as it is */
	assert_int_equal(maps_copy_conn(from, to, datagrams, used, NULL), 0);
	assert_int_equal(maps_copy_conn(from, to, datagrams, used, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		struct k3c_conn_key key = { .a_port = htons(80), .proto = protos[i] };
		bool connection = i < 2;

		memset(&c, 0, sizeof(c));
		assert_int_equal(bpf_map_lookup_elem(connection ? to : datagrams, &key, &c), 0);
		assert_int_equal(c.initiator, 1);
		assert_int_equal(bpf_map_lookup_elem(connection ? datagrams : to, &key, &c), -ENOENT);
	}
	close(from);
	close(to);
	close(datagrams);
	close(used);
}

/* Of a build that had one table for what policies look at and what they do not, and of one with as much room. */
static void test_datagrams_go_where_room_is(void **state)
{
	static const uint32_t places[] = { ENTRIES, ENTRIES / 4 };
	struct k3c_conn c = { .last_ns = ago(1), .initiator = 1 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int from = conn_map_of(places[i]), to = conn_map_of(ENTRIES / 4), policed = conn_map();
		struct k3c_conn_key key = { .a_port = htons(80), .proto = IPPROTO_UDP };
		bool all = places[i] > ENTRIES / 4;
		struct k3c_conn got = {};

		assert_int_equal(bpf_map_update_elem(from, &key, &c, BPF_ANY), 0);
		assert_int_equal(maps_copy_datagrams(from, to, policed, NULL), 0);
		assert_int_equal(bpf_map_lookup_elem(all ? policed : to, &key, &got), 0);
		assert_int_equal(got.initiator, 1);
		assert_int_equal(bpf_map_lookup_elem(all ? to : policed, &key, &got), -ENOENT);
		close(from);
		close(to);
		close(policed);
	}
}

/* Of a build that did not note them. */
static void test_what_began_backwards(void **state)
{
	static const struct {
		uint16_t a_port, b_port;
		uint8_t proto, initiator, flags;
		bool backwards;
	} cases[] = {
		{ 20000, 40000, IPPROTO_TCP, 0, 0, true },
		{ 40000, 20000, IPPROTO_TCP, 1, 0, true },
		{ 32767, 32768, IPPROTO_SCTP, 0, 0, true },
		{ 20000, 40000, IPPROTO_TCP, 1, 0, false }, /* as they mostly are */
		{ 40000, 20000, IPPROTO_TCP, 0, 0, false },
		{ 20000, 20001, IPPROTO_TCP, 0, 0, false }, /* whose ports tell nothing */
		{ 40000, 40001, IPPROTO_TCP, 0, 0, false },
		{ 20000, 40000, IPPROTO_UDP, 0, 0, false }, /* whose ports are never asked */
		{ 20000, 40000, IPPROTO_TCP, 0, K3C_CONN_HOST, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int from = conn_map(), to = conn_map(), datagrams = conn_map(), used = used_map();
		struct k3c_conn c = { .last_ns = ago(1), .initiator = cases[i].initiator, .flags = cases[i].flags };
		struct k3c_conn_key key = { .a_port = htons(cases[i].a_port),
					    .b_port = htons(cases[i].b_port),
					    .proto = cases[i].proto };

		assert_int_equal(bpf_map_update_elem(from, &key, &c, BPF_ANY), 0);
		assert_int_equal(maps_set_bits(used, K3C_USED_BY_PODS, NULL), 0);
		assert_int_equal(maps_copy_conn(from, to, datagrams, used, NULL), 0);
		assert_int_equal(bits_of(used), K3C_USED_BY_PODS | (cases[i].backwards ? K3C_USED_BACKWARDS : 0));
		close(from);
		close(to);
		close(datagrams);
		close(used);
	}
}

/* ---- bits that two set at once ---- */

#define BITS_HALF 16
#define BITS_ROUNDS 60

static void *setter_run(void *arg)
{
	const int *fd = arg;

	for (unsigned i = 0; i < BITS_HALF; i++)
		if (maps_set_bits(*fd, 1u << (BITS_HALF + i), NULL) < 0)
			return arg;
	return NULL;
}

/* Programs note what they see while what was noted before is carried over. */
static void test_no_bit_is_lost(void **state)
{
	int from = used_map(), to = used_map();
	uint32_t zero = 0, none = 0;

	for (unsigned round = 0; round < BITS_ROUNDS; round++) {
		pthread_t thread;
		void *failed;

		assert_int_equal(bpf_map_update_elem(to, &zero, &none, BPF_ANY), 0);
		assert_int_equal(pthread_create(&thread, NULL, setter_run, &to), 0);
		for (unsigned i = 0; i < BITS_HALF; i++) {
			uint32_t bits = 1u << i;

			assert_int_equal(bpf_map_update_elem(from, &zero, &bits, BPF_ANY), 0);
			assert_int_equal(maps_copy_bits(from, to, NULL), 0);
		}
		pthread_join(thread, &failed);
		assert_null(failed);
		assert_int_equal(bits_of(to), UINT32_MAX);
	}
	close(from);
	close(to);
}

/* The clock of a machine that just booted: what ended before it began is not to be told from what is older. */
static int await_clock(void **state)
{
	struct timespec old_enough = { .tv_sec = K3C_CLOSED_LATE_S + 2 };

	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &old_enough, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_ended_stays_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_end_after_the_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_newer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_only_begins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_lasts_since, setup, teardown),
		cmocka_unit_test(test_datagrams_go_to_their_own_table),
		cmocka_unit_test(test_datagrams_go_where_room_is),
		cmocka_unit_test(test_what_began_backwards),
		cmocka_unit_test(test_no_bit_is_lost),
	};

	return cmocka_run_group_tests(tests, await_clock, NULL);
}
