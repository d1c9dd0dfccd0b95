/* SPDX-License-Identifier: Apache-2.0 */
/* Frontends that change all the time, in a map so full that they share buckets, are found by every look-up of every
 * processor, and what is found is theirs: neither bare look-ups nor connects are told that there is no such service,
 * or that it has no backends. UDP sockets: their connect is the look-up and nothing else. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

#include "bpf/include/service.h"

#define CHURN_FRONTENDS 16 /* and as many buckets */
#define CHURN_BACKENDS 3
#define CHURN_THREADS 2
#define CHURN_CONNECTS 20000 /* a thread, unless K3C_CHURN_CONNECTS says otherwise */
#define CHURN_LOOKUPS 200000 /* a thread and frontend: where entries are replaced, a handful of all miss */
#define CHURN_REPEAT 20000   /* of them at once, then perhaps on another processor */
#define CHURN_PORT 9000

enum { SEEN_MISSED, SEEN_ASTRAY, SEEN_COUNT };

struct reader {
	pthread_t thread;
	int seen; /* map: SEEN_COUNT numbers */
	unsigned unreachable, refused, others;
};

static _Atomic bool stop;
static unsigned flips;

/* 10.43.1.<i>, led to 10.42.<i>.1: no pod need be there for a datagram socket. */
static struct dp_addr frontend_addr(unsigned i)
{
	struct dp_addr a = ip("10.43.1.0");

	a.b[15] = (uint8_t)i;
	return a;
}

static void frontend_set(unsigned i, size_t n_backends)
{
	struct dp_backend b[CHURN_BACKENDS];
	struct dp_service s = {
		.id = i + 1,
		.kind = DP_CLUSTER_IP,
		.proto = IPPROTO_UDP,
		.port = 53,
		.addr = frontend_addr(i),
		.backends = b,
		.n_backends = n_backends,
	};

	for (size_t k = 0; k < n_backends; k++) {
		b[k] = (struct dp_backend){ ip("10.42.0.1"), (uint16_t)(CHURN_PORT + k) };
		b[k].addr.b[14] = (uint8_t)i;
	}
	ok(dataplane_service_set(world.dp, &s, err));
}

static void *churn(void *arg)
{
	while (!stop) {
		frontend_set(flips % CHURN_FRONTENDS, 1 + flips / CHURN_FRONTENDS % CHURN_BACKENDS);
		flips++;
	}
	return NULL;
}

/* Runs `run` on every reader's thread while the frontends change. */
static void under_churn(void *(*run)(void *), struct reader readers[static CHURN_THREADS])
{
	pthread_t writer;

	stop = false;
	flips = 0;
	for (unsigned i = 0; i < CHURN_FRONTENDS; i++)
		frontend_set(i, 1);
	assert_int_equal(pthread_create(&writer, NULL, churn, NULL), 0);
	for (int i = 0; i < CHURN_THREADS; i++)
		assert_int_equal(pthread_create(&readers[i].thread, NULL, run, &readers[i]), 0);
	for (int i = 0; i < CHURN_THREADS; i++)
		pthread_join(readers[i].thread, NULL);
	stop = true;
	pthread_join(writer, NULL);
	assert_true(flips > CHURN_FRONTENDS);
}

/* ---- bare look-ups ---- */

#define INSN(code_, dst_, src_, off_, imm_)                                                                            \
	((struct bpf_insn){ .code = (code_), .dst_reg = (dst_), .src_reg = (src_), .off = (off_), .imm = (imm_) })

/* A program that looks one frontend up, and counts when it is not there, or when what is there is another's. */
static int lookup_load(int seen, unsigned i)
{
	struct k3c_service_key key = { .port = htons(53), .proto = IPPROTO_UDP };
	struct dp_addr addr = frontend_addr(i);
	struct bpf_insn insns[32];
	uint32_t words[sizeof(key) / 4];
	size_t n = 0;
	int fd;

	key.addr = dp_addr_in(&addr);
	memcpy(words, &key, sizeof(key));
	for (size_t w = 0; w < ARRAY_SIZE(words); w++)
		insns[n++] = INSN(BPF_ST | BPF_W | BPF_MEM, BPF_REG_10, 0, (int16_t)(4 * w - sizeof(key)),
				  (int32_t)words[w]);
	insns[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0);
	insns[n++] = INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -(int32_t)sizeof(key));
	insns[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, world.dp->maps[DP_MAP_SERVICE]);
	insns[n++] = INSN(0, 0, 0, 0, 0);
	insns[n++] = INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	insns[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_3, BPF_PSEUDO_MAP_VALUE, 0, seen);
	insns[n++] = INSN(0, 0, 0, 0, SEEN_MISSED * 8);
	insns[n++] = INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 3, 0);
	insns[n++] = INSN(BPF_LDX | BPF_W | BPF_MEM, BPF_REG_1, BPF_REG_0, offsetof(struct k3c_service, id), 0);
	insns[n++] = INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 3, (int32_t)i + 1);
	insns[n++] = INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, (SEEN_ASTRAY - SEEN_MISSED) * 8);
	insns[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_1, 0, 0, 1);
	insns[n++] = INSN(BPF_STX | BPF_DW | BPF_ATOMIC, BPF_REG_3, BPF_REG_1, 0, BPF_ADD);
	insns[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
	insns[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "lookup", "GPL", insns, n, NULL);
	if (fd < 0)
		fail_msg("load: %s", strerror(errno));
	return fd;
}

static void *lookups_run(void *arg)
{
	struct reader *r = arg;
	char frame[64] = { 0 };
	int programs[CHURN_FRONTENDS];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame), .repeat = CHURN_REPEAT);

	for (unsigned i = 0; i < CHURN_FRONTENDS; i++)
		programs[i] = lookup_load(r->seen, i);
	for (unsigned n = 0; n < CHURN_LOOKUPS; n += CHURN_REPEAT)
		for (unsigned i = 0; i < CHURN_FRONTENDS; i++)
			assert_int_equal(bpf_prog_test_run_opts(programs[i], &opts), 0);
	for (unsigned i = 0; i < CHURN_FRONTENDS; i++)
		close(programs[i]);
	return NULL;
}

static void test_lookups(void **state)
{
	int seen = bpf_map_create(BPF_MAP_TYPE_ARRAY, "seen", 4, SEEN_COUNT * 8, 1, NULL);
	struct reader readers[CHURN_THREADS] = { { .seen = seen }, { .seen = seen } };
	uint64_t counts[SEEN_COUNT];
	uint32_t zero = 0;

	assert_true(seen >= 0);
	under_churn(lookups_run, readers);
	assert_int_equal(bpf_map_lookup_elem(seen, &zero, counts), 0);
	close(seen);
	print_message("updates=%u lookups=%u missed=%llu astray=%llu\n", flips,
		      CHURN_THREADS * CHURN_FRONTENDS * CHURN_LOOKUPS, (unsigned long long)counts[SEEN_MISSED],
		      (unsigned long long)counts[SEEN_ASTRAY]);
	assert_int_equal(counts[SEEN_MISSED], 0);
	assert_int_equal(counts[SEEN_ASTRAY], 0);
}

/* ---- connects ---- */

static void connect_one(int fd, unsigned i, struct reader *r)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) }, none = { .sin_family = AF_UNSPEC };
	struct dp_addr a = frontend_addr(i);

	memcpy(&to.sin_addr, a.b + 12, 4);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		connect(fd, (struct sockaddr *)&none, sizeof(none));
	else if (errno == EHOSTUNREACH || errno == ENETUNREACH)
		r->unreachable++;
	else if (errno == ECONNREFUSED)
		r->refused++;
	else
		r->others++;
}

static void *connects_run(void *arg)
{
	const char *text = getenv("K3C_CHURN_CONNECTS");
	unsigned connects = text && atoi(text) > 0 ? (unsigned)atoi(text) : CHURN_CONNECTS;
	int fd = sock_in(world_host_ns(), SOCK_DGRAM);

	for (unsigned n = 0; n < connects; n++)
		connect_one(fd, n % CHURN_FRONTENDS, arg);
	close(fd);
	return NULL;
}

static void test_connects(void **state)
{
	struct reader readers[CHURN_THREADS] = { 0 };

	under_churn(connects_run, readers);
	for (int i = 0; i < CHURN_THREADS; i++) {
		assert_int_equal(readers[i].unreachable, 0);
		assert_int_equal(readers[i].refused, 0);
		assert_int_equal(readers[i].others, 0);
	}
}

static int tests(void)
{
	const struct CMUnitTest all[] = { cmocka_unit_test(test_lookups), cmocka_unit_test(test_connects) };
	struct dataplane_options o = world_options();
	int r;

	world_uplink();
	o.max_services = CHURN_FRONTENDS;
	ok(dataplane_open(&o, &world.dp, err));
	/* where the backends of all would be: narrower than the unreachable net of the pods */
	route_in(world_host_ns(), "10.42.0.0", 17, OUTSIDE_IP, NULL);
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
