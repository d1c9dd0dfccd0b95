/* SPDX-License-Identifier: Apache-2.0 */
/* A table of connections so small that others push out what is known of the one that is looked at. What policies allow
 * goes on, whichever end speaks next; what they cut stays cut. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "bpf/include/conn.h"

#define TINY WORLD_SMALL_CONNECTIONS
#define CROWD_MAX 20000 /* other flows, until nothing is known any more */
#define CROWD_LOOK 64   /* of them between two looks */
#define CROWD_PORT 9

struct family {
	const char *node, *outside, *any, *a, *b, *c;
};

static struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "0.0.0.0", "10.42.9.1", "10.42.9.2", "10.42.9.3" },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "::", "fd42::9:1", "fd42::9:2", "fd42::9:3" },
};

static struct test_pod a, b, c;

static int setup(void **state)
{
	pod_make_dual(&a, "pod-a", families[DP_V4].a, families[DP_V6].a, 100);
	pod_make_dual(&b, "pod-b", families[DP_V4].b, families[DP_V6].b, 200);
	pod_make_dual(&c, "pod-c", families[DP_V4].c, families[DP_V6].c, 300);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	pod_drop(&c);
	return 0;
}

/* Of others than the crowd's. */
static bool tcp_is_known(void)
{
	int fd = world.dp->maps[DP_MAP_CONN];
	struct k3c_conn_key key, next;

	for (bool first = true; bpf_map_get_next_key(fd, first ? NULL : &key, &next) == 0; first = false) {
		key = next;
		if (key.proto == IPPROTO_TCP && key.a_port != htons(CROWD_PORT) && key.b_port != htons(CROWD_PORT))
			return true;
	}
	return false;
}

static int crowd_fn(void *arg)
{
	union any_addr to = any_of(arg, CROWD_PORT);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (int i = 0; i < CROWD_MAX && (i % CROWD_LOOK || tcp_is_known()); i++) {
		/* each processor keeps some of the entries to itself */
		cpu_set_t cpu;

		CPU_ZERO(&cpu);
		CPU_SET((size_t)(i / TINY % cpus), &cpu);
		sched_setaffinity(0, sizeof(cpu), &cpu);
		/* nobody listens: the refusal looks the entry up, what was of no further use would be the first to go
		 */
		int fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		(void)!connect(fd, &to.sa, any_len(&to));
		close(fd);
	}
	return 0;
}

/* Flows of pod c, until no TCP connection is in the table. */
static void push_out(const struct family *f)
{
	assert_int_equal(netns_run(c.ns, crowd_fn, (void *)f->node), 0);
	assert_false(tcp_is_known());
}

struct talk {
	int server, client, conn;
};

/* Until the receiver has said that it arrived: that may come late, and would be known again. */
static void say(int from, int to, const char *text)
{
	int left = 1;

	pass_bytes(from, to, text);
	for (int i = 0; i < WORLD_WAIT_MS && left; i++) {
		struct timespec pause = { .tv_nsec = 1000000 };

		assert_int_equal(ioctl(from, SIOCOUTQ, &left), 0);
		if (left)
			nanosleep(&pause, NULL);
	}
	assert_int_equal(left, 0);
}

static void talk_open(struct talk *t, int from, int at, const char *own, uint16_t own_port, const char *addr,
		      uint16_t port)
{
	t->server = server_in(at, SOCK_STREAM, own, own_port);
	assert_int_equal(client_in(from, SOCK_STREAM, addr, port, &t->client), 0);
	t->conn = accept_any(t->server, NULL);
	say(t->client, t->conn, "hello");
	say(t->conn, t->client, "hello");
}

static void talk_close(struct talk *t)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(t->client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	setsockopt(t->conn, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(t->conn);
	close(t->client);
	close(t->server);
}

/* From a port of the client's choice. */
static void talk_open_from(struct talk *t, int from, uint16_t client_port, const char *any, int at, const char *addr,
			   uint16_t port)
{
	union any_addr own = any_of(any, client_port), to = any_of(addr, port);

	t->server = server_in(at, SOCK_STREAM, addr, port);
	t->client = sock_in_domain(from, own.sa.sa_family, SOCK_STREAM, 0);
	assert_int_equal(bind(t->client, &own.sa, any_len(&own)), 0);
	assert_int_equal(connect(t->client, &to.sa, any_len(&to)), 0);
	t->conn = accept_any(t->server, NULL);
	say(t->client, t->conn, "hello");
	say(t->conn, t->client, "hello");
}

/* Each end is the first to speak once. */
static void goes_on(const struct family *f, struct talk *t)
{
	push_out(f);
	say(t->conn, t->client, "answer");
	say(t->client, t->conn, "question");
	push_out(f);
	say(t->client, t->conn, "question");
	say(t->conn, t->client, "answer");
}

static void is_cut(const struct family *f, int from, int to, const char *reason)
{
	uint64_t before;

	push_out(f);
	before = drops(reason);
	assert_int_equal(send(from, "x", 1, MSG_NOSIGNAL), 1);
	await_drop(reason, before);
	assert_false(readable(to, 0));
}

/* Nobody may begin anything towards the client, and the server begins nothing. */
static void test_allowed(void **state)
{
	const struct family *f = *state;
	struct dp_policy_rule in[] = {
		{ .direction = DP_INGRESS, .proto = IPPROTO_TCP, .port = 80, .identity = 100 },
		{ .direction = DP_INGRESS,
		  .proto = IPPROTO_TCP,
		  .port = 80,
		  .prefix = ip(f->outside),
		  .prefix_len = 128 },
	};
	struct dp_backend to = { ip(f->b), 80 };
	struct dp_service s = { .id = f == &families[DP_V6] ? 2 : 1,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_TCP,
				.port = 30080,
				.addr = ip(f->any),
				.backends = &to,
				.n_backends = 1 };
	struct talk t;

	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->b, true, true, in, ARRAY_SIZE(in));
	talk_open(&t, a.ns, b.ns, f->b, 80, f->b, 80);
	goes_on(f, &t);
	talk_close(&t);
	/* the node itself always may */
	talk_open(&t, world_host_ns(), b.ns, f->b, 81, f->b, 81);
	goes_on(f, &t);
	talk_close(&t);
	ok(dataplane_service_set(world.dp, &s, err));
	talk_open(&t, world.outside, b.ns, f->b, 80, f->node, 30080);
	push_out(f);
	say(t.client, t.conn, "question");
	say(t.conn, t.client, "answer");
	talk_close(&t);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* Where only the policy of one end says no, and the other one might begin connections itself. */
static void test_cut(void **state)
{
	const struct family *f = *state;
	struct talk t;

	talk_open(&t, a.ns, b.ns, f->b, 80, f->b, 80);
	world_policy(f->a, false, true, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-egress");
	is_cut(f, t.client, t.conn, "policy-egress");
	talk_close(&t);
	world_no_policy(f->a);
	talk_open(&t, a.ns, b.ns, f->b, 80, f->b, 80);
	world_policy(f->b, true, false, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-ingress");
	is_cut(f, t.client, t.conn, "policy-ingress");
	talk_close(&t);
	world_no_policy(f->b);
}

/* The same between a pod and its node: what the node answers is no connection of its own. */
static void test_cut_from_node(void **state)
{
	const struct family *f = *state;
	struct talk t;

	talk_open(&t, a.ns, world_host_ns(), f->node, 6443, f->node, 6443);
	world_policy(f->a, false, true, NULL, 0);
	is_cut(f, t.client, t.conn, "policy-egress");
	is_cut(f, t.conn, t.client, "policy-egress");
	talk_close(&t);
}

/* ---- where ports do not tell ---- */

#define SERVER_PORT 50051
#define CLIENT_PORT 40000

static struct dp_policy_rule rule_of(enum dp_direction direction, uint16_t port)
{
	return (struct dp_policy_rule){ .direction = direction, .proto = IPPROTO_TCP, .port = port, .identity = 100 };
}

/* Quiet and forgotten before there was any policy; then each end may only what it does. */
static void sockets_allow(const struct family *f, uint16_t client_port, uint16_t port)
{
	struct dp_policy_rule in = rule_of(DP_INGRESS, port);
	struct talk t;

	talk_open_from(&t, a.ns, client_port, f->any, b.ns, f->b, port);
	push_out(f);
	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->b, true, true, &in, 1);
	goes_on(f, &t);
	talk_close(&t);
	world_no_policy(f->a);
	world_no_policy(f->b);
}

static void sockets_cut(const struct family *f, uint16_t client_port, uint16_t port)
{
	struct talk t;

	talk_open_from(&t, a.ns, client_port, f->any, b.ns, f->b, port);
	push_out(f);
	world_policy(f->b, true, false, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-ingress");
	is_cut(f, t.client, t.conn, "policy-ingress");
	talk_close(&t);
	world_no_policy(f->b);
	talk_open_from(&t, a.ns, client_port, f->any, b.ns, f->b, port);
	push_out(f);
	world_policy(f->a, false, true, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-egress");
	is_cut(f, t.client, t.conn, "policy-egress");
	talk_close(&t);
	world_no_policy(f->a);
}

static void test_sockets_tell(void **state)
{
	const struct family *f = *state;

	sockets_allow(f, CLIENT_PORT, SERVER_PORT);
	sockets_cut(f, CLIENT_PORT, SERVER_PORT);
	sockets_allow(f, 1000, 80);
	sockets_cut(f, 1000, 80);
}

/* The wrong way round: from then on no ports count between pods. */
static void test_sockets_tell_backwards(void **state)
{
	const struct family *f = *state;

	sockets_allow(f, 1000, SERVER_PORT);
	sockets_cut(f, 1000, SERVER_PORT);
	sockets_allow(f, CLIENT_PORT, 80);
	sockets_cut(f, CLIENT_PORT, 80);
}

/* Somebody beyond this node: only the pod is asked. */
static void test_sockets_tell_of_outside(void **state)
{
	const struct family *f = *state;
	struct dp_policy_rule in = rule_of(DP_INGRESS, SERVER_PORT);
	struct talk t;

	in.identity = 0;
	in.prefix = ip(f->outside);
	in.prefix_len = 128;
	talk_open_from(&t, world.outside, CLIENT_PORT, f->any, b.ns, f->b, SERVER_PORT);
	push_out(f);
	world_policy(f->b, true, true, &in, 1);
	goes_on(f, &t);
	world_policy(f->b, true, false, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-ingress");
	is_cut(f, t.client, t.conn, "policy-ingress");
	talk_close(&t);
	world_no_policy(f->b);
	talk_open_from(&t, a.ns, CLIENT_PORT, f->any, world.outside, f->outside, SERVER_PORT);
	push_out(f);
	world_policy(f->a, true, false, NULL, 0);
	goes_on(f, &t);
	world_policy(f->a, false, true, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-egress");
	is_cut(f, t.client, t.conn, "policy-egress");
	talk_close(&t);
	world_no_policy(f->a);
}

static void test_sockets_tell_of_node(void **state)
{
	const struct family *f = *state;
	struct talk t;

	talk_open_from(&t, world_host_ns(), CLIENT_PORT, f->any, b.ns, f->b, SERVER_PORT);
	push_out(f);
	world_policy(f->b, true, true, NULL, 0);
	goes_on(f, &t);
	talk_close(&t);
	talk_open_from(&t, a.ns, CLIENT_PORT, f->any, world_host_ns(), f->node, SERVER_PORT);
	push_out(f);
	world_policy(f->a, false, true, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-egress");
	is_cut(f, t.client, t.conn, "policy-egress");
	talk_close(&t);
	world_no_policy(f->a);
	world_no_policy(f->b);
}

/* Both listen, each where it speaks from: only what may be either way goes on. */
static void test_both_listen(void **state)
{
	const struct family *f = *state;
	struct dp_policy_rule there = rule_of(DP_INGRESS, SERVER_PORT), back = rule_of(DP_INGRESS, CLIENT_PORT);
	struct talk t;
	int also;

	back.identity = 200;
	talk_open_from(&t, a.ns, CLIENT_PORT, f->any, b.ns, f->b, SERVER_PORT);
	also = server_in(a.ns, SOCK_STREAM, f->a, CLIENT_PORT);
	push_out(f);
	world_policy(f->a, true, false, &back, 1);
	world_policy(f->b, true, false, &there, 1);
	goes_on(f, &t);
	push_out(f);
	world_policy(f->a, true, false, NULL, 0);
	is_cut(f, t.conn, t.client, "policy-ingress");
	is_cut(f, t.client, t.conn, "policy-ingress");
	talk_close(&t);
	close(also);
	world_no_policy(f->a);
	world_no_policy(f->b);
}

static int datagrams_fn(void *arg)
{
	union any_addr to = any_of(arg, CROWD_PORT);

	for (int i = 0; i < TINY * 8; i++) {
		int fd = socket(to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, &to.sa, any_len(&to)) < 0)
			return -errno;
		for (int n = 0; n < 3; n++)         /* more than once: of further use */
			(void)!send(fd, "x", 1, 0); /* nobody listens: refused now and then */
		close(fd);
	}
	return 0;
}

/* Many more of them than there are places, and nobody listens any more who could be asked. */
static void test_datagrams_push_nobody_out(void **state)
{
	const struct family *f = *state;
	struct dp_policy_rule in = rule_of(DP_INGRESS, SERVER_PORT);
	struct talk t;

	talk_open_from(&t, a.ns, CLIENT_PORT, f->any, b.ns, f->b, SERVER_PORT);
	close(t.server);
	assert_int_equal(netns_run(c.ns, datagrams_fn, (void *)f->node), 0);
	assert_true(tcp_is_known());
	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->b, true, true, &in, 1);
	say(t.conn, t.client, "answer");
	say(t.client, t.conn, "question");
	t.server = -1;
	talk_close(&t);
	world_no_policy(f->a);
	world_no_policy(f->b);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, &families[DP_V4] },                                                  \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, &families[DP_V6]                                               \
	}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		BOTH(test_allowed),
		BOTH(test_cut),
		BOTH(test_cut_from_node),
		BOTH(test_sockets_tell),
		BOTH(test_sockets_tell_of_outside),
		BOTH(test_sockets_tell_of_node),
		BOTH(test_both_listen),
		BOTH(test_datagrams_push_nobody_out),
		BOTH(test_sockets_tell_backwards), /* the last one: it is remembered */
	};
	struct dataplane_options o;
	int r;

	world_uplink();
	route_in(world.outside, "10.42.0.0", 16, NODE_IP, NULL);
	route_in(world.outside, "fd42::", 64, NODE_IP6, NULL);
	o = world_small_options();
	ok(dataplane_open(&o, &world.dp, err));
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
