/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of pods that policies isolate, where more flows are under way than the tables hold: an answer gets in when
 * the pod asked, and nothing else does. */
#include "bpf/include/conn.h"
#include "tests/dataplane/nat.h"
#include "tests/dataplane/rounds.h"
#include "tests/dataplane/world.h"

#include "userspace/dataplane/inspect.h"
#include "userspace/dataplane/keys.h"

#define CROWD_FLOWS 2048 /* twice the places for datagrams in all; K3C_CROWD_FLOWS may say otherwise */
#define CROWD_TIMES 8    /* as often at most, until a flow is forgotten */
#define CROWD_PORT 9
#define ASKERS 16
#define CLIENT_PORT 40000
#define SERVER_PORT 5300
#define HIGH_PORT 50051

static int crowd_flows;

struct family {
	const char *node, *outside, *any, *a, *b, *c, *b_mapped, *outside_mapped;
};

static struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "0.0.0.0", "10.42.9.1", "10.42.9.2", "10.42.9.3", "::ffff:10.42.9.2",
		    "::ffff:" OUTSIDE_IP },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "::", "fd42::9:1", "fd42::9:2", "fd42::9:3", NULL, NULL },
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

/* ---- what is remembered ---- */

struct sought {
	struct dp_addr end;
	uint16_t port;
	bool found;
};

static void sought_seen(void *arg, const struct dp_conn *conn)
{
	struct sought *s = arg;

	s->found |= conn->proto == IPPROTO_UDP &&
		    ((conn->from_port == s->port && memcmp(&conn->from, &s->end, sizeof(s->end)) == 0) ||
		     (conn->to_port == s->port && memcmp(&conn->to, &s->end, sizeof(s->end)) == 0));
}

/* Any flow of that end, whoever began it. */
static bool is_known(const char *addr, uint16_t port)
{
	struct sought s = { .end = ip(addr), .port = port };

	ok(dataplane_conn_each(world.dp, sought_seen, &s, err));
	return s.found;
}

static int crowd_fn(void *arg)
{
	union any_addr to = any_of(arg, CROWD_PORT);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (int i = 0; i < crowd_flows; i++) {
		int fd = socket(to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		cpu_set_t cpu; /* each keeps some of the places to itself */

		CPU_ZERO(&cpu);
		CPU_SET((size_t)(i / 256 % cpus), &cpu);
		sched_setaffinity(0, sizeof(cpu), &cpu);
		if (fd < 0 || connect(fd, &to.sa, any_len(&to)) < 0)
			return -errno;
		for (int n = 0; n < 3; n++)         /* more than once: of further use */
			(void)!send(fd, "x", 1, 0); /* nobody listens: refused now and then */
		close(fd);
	}
	return 0;
}

static void crowd(const struct family *f)
{
	assert_int_equal(netns_run(c.ns, crowd_fn, (void *)f->node), 0);
}

/* ---- questions ---- */

enum how {
	CONNECTED,
	UNCONNECTED,
	MAPPED, /* connected, of the other family's sort */
};

struct ask {
	int asker, server;
	union any_addr from; /* as the server sees it */
};

static void ask_answer(const struct ask *q)
{
	assert_int_equal(sendto(q->server, "answer", 6, MSG_NOSIGNAL, &q->from.sa, any_len(&q->from)), 6);
}

static void ask_hears(const struct ask *q)
{
	char text[16];

	ask_answer(q);
	assert_int_equal(recv(q->asker, text, sizeof(text), 0), 6);
	assert_memory_equal(text, "answer", 6);
}

static void ask_question(struct ask *q, const union any_addr *to, bool connected)
{
	socklen_t len = sizeof(q->from);
	char text[16];

	if (connected)
		assert_int_equal(send(q->asker, "question", 8, MSG_NOSIGNAL), 8);
	else
		assert_int_equal(sendto(q->asker, "question", 8, MSG_NOSIGNAL, &to->sa, any_len(to)), 8);
	assert_int_equal(recvfrom(q->server, text, sizeof(text), 0, &q->from.sa, &len), 8);
}

/* From a port of its own choice when `port` is 0. */
static void ask_begin(struct ask *q, int ns, uint16_t port, enum how how, const char *server, const char *mapped,
		      uint16_t server_port, int server_ns)
{
	union any_addr to = any_of(how == MAPPED ? mapped : server, server_port);
	union any_addr own = any_of(to.sa.sa_family == AF_INET ? "0.0.0.0" : "::", port);

	q->server = server_in(server_ns, SOCK_DGRAM, server, server_port);
	q->asker = sock_in_domain(ns, to.sa.sa_family, SOCK_DGRAM, 0);
	assert_int_equal(bind(q->asker, &own.sa, any_len(&own)), 0);
	if (how != UNCONNECTED)
		assert_int_equal(connect(q->asker, &to.sa, any_len(&to)), 0);
	ask_question(q, &to, how != UNCONNECTED);
}

static void ask_end(const struct ask *q)
{
	close(q->asker);
	close(q->server);
}

/* What `fd` sends to that end is refused there. */
static void is_refused(int fd, const union any_addr *to, int receiver, const char *reason)
{
	uint64_t before = drops(reason);

	assert_int_equal(sendto(fd, "denied", 6, MSG_NOSIGNAL, &to->sa, any_len(to)), 6);
	await_drop(reason, before);
	assert_false(readable(receiver, 0));
}

static enum how last_how(const struct family *f)
{
	return f->b_mapped ? MAPPED : UNCONNECTED;
}

/* Somebody else, and the same pod from another port. */
static void strangers_are_refused(const struct family *f, const struct ask *q)
{
	int elsewhere = server_in(world.outside, SOCK_DGRAM, f->outside, SERVER_PORT + 1);
	int beside = server_in(b.ns, SOCK_DGRAM, f->b, SERVER_PORT + 2);
	int other = server_in(c.ns, SOCK_DGRAM, f->c, SERVER_PORT);
	union any_addr own;
	socklen_t len = sizeof(own);

	assert_int_equal(getsockname(q->asker, &own.sa, &len), 0);
	own = any_of(f->a, any_port(&own)); /* as it is before masquerade */
	is_refused(elsewhere, &own, q->asker, "policy-ingress");
	is_refused(beside, &own, q->asker, "policy-ingress");
	is_refused(other, &own, q->asker, "policy-ingress");
	close(elsewhere);
	close(beside);
	close(other);
}

/* ---- floods ---- */

/* Of a pod that no policy looks at: the isolated one hears every answer, however it asks. */
static void test_unpoliced_flood(void **state)
{
	const struct family *f = *state;
	struct ask pods[ASKERS], outside[ASKERS];
	struct ask theirs;

	world_policy(f->a, true, false, NULL, 0);
	ask_begin(&theirs, c.ns, CLIENT_PORT, CONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	for (int i = 0; i < ASKERS; i++) {
		enum how how = (enum how)(i % (last_how(f) + 1));
		uint16_t port = (uint16_t)(SERVER_PORT + 10 + i);

		ask_begin(&pods[i], a.ns, 0, how, f->b, f->b_mapped, port, b.ns);
		ask_begin(&outside[i], a.ns, 0, how, f->outside, f->outside_mapped, port, world.outside);
	}
	for (int i = 0; i < CROWD_TIMES && is_known(f->c, CLIENT_PORT); i++)
		crowd(f);
	assert_false(is_known(f->c, CLIENT_PORT));
	for (int i = 0; i < ASKERS; i++) {
		ask_hears(&pods[i]);
		ask_hears(&outside[i]);
	}
	strangers_are_refused(f, &pods[0]);
	for (int i = 0; i < ASKERS; i++) {
		ask_end(&pods[i]);
		ask_end(&outside[i]);
	}
	ask_end(&theirs);
	world_no_policy(f->a);
}

static void forget(const struct family *f, const char *addr, uint16_t port)
{
	for (int i = 0; i < CROWD_TIMES && is_known(addr, port); i++)
		crowd(f);
	assert_false(is_known(addr, port));
}

/* Of one that is isolated itself: a socket that is connected says who asked. */
static void test_isolated_flood(void **state)
{
	const struct family *f = *state;

	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->c, true, false, NULL, 0);
	for (enum how how = CONNECTED; how <= last_how(f); how++) {
		struct ask pod, outside;

		if (how == UNCONNECTED)
			continue;
		ask_begin(&pod, a.ns, CLIENT_PORT, how, f->b, f->b_mapped, SERVER_PORT, b.ns);
		ask_begin(&outside, a.ns, CLIENT_PORT + 1, how, f->outside, f->outside_mapped, SERVER_PORT,
			  world.outside);
		forget(f, f->a, CLIENT_PORT);
		forget(f, f->a, CLIENT_PORT + 1);
		strangers_are_refused(f, &pod);
		strangers_are_refused(f, &outside);
		ask_hears(&pod);
		ask_hears(&outside);
		/* and is known again as the pod's: its egress counts */
		world_policy(f->a, true, true, NULL, 0);
		is_refused(pod.server, &pod.from, pod.asker, "policy-egress");
		world_policy(f->a, true, false, NULL, 0);
		ask_hears(&pod);
		ask_end(&pod);
		ask_end(&outside);
	}
	world_no_policy(f->a);
	world_no_policy(f->c);
}

/* From a socket that hears everybody, nobody can tell whether it asked. */
static void test_unconnected(void **state)
{
	const struct family *f = *state;
	struct ask q;

	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->c, true, false, NULL, 0);
	ask_begin(&q, a.ns, CLIENT_PORT, UNCONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	forget(f, f->a, CLIENT_PORT);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	strangers_are_refused(f, &q);
	ask_end(&q);
	world_no_policy(f->a);
	world_no_policy(f->c);
}

/* Its node masquerades what it asks outside, and remembers by that who asked. */
static void test_masqueraded(void **state)
{
	const struct family *f = *state;
	struct dp_policy_rule other = {
		.direction = DP_EGRESS, .proto = IPPROTO_UDP, .port = SERVER_PORT + 1, .identity = 200
	};
	struct ask q;

	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->c, true, false, NULL, 0);
	ask_begin(&q, a.ns, CLIENT_PORT, UNCONNECTED, f->outside, NULL, SERVER_PORT, world.outside);
	forget(f, f->a, CLIENT_PORT);
	strangers_are_refused(f, &q);
	ask_hears(&q);
	forget(f, f->a, CLIENT_PORT);
	world_policy(f->a, true, true, &other, 1);
	is_refused(q.server, &q.from, q.asker, "policy-egress");
	ask_end(&q);
	world_no_policy(f->a);
	world_no_policy(f->c);
}

/* A pod that may begin nothing serves clients outside, whom the service's translation remembers. */
static void test_service(void **state)
{
	const struct family *f = *state;
	struct dp_backend to = { ip(f->a), SERVER_PORT };
	struct dp_service s = { .id = f == &families[DP_V6] ? 2 : 1,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_UDP,
				.port = 30053,
				.addr = ip(f->any),
				.backends = &to,
				.n_backends = 1 };
	struct ask q = { .asker = sock_in_domain(world.outside, any_of(f->any, 0).sa.sa_family, SOCK_DGRAM, 0) };
	union any_addr node = any_of(f->node, 30053), outside = any_of(f->outside, CLIENT_PORT);

	ok(dataplane_service_set(world.dp, &s, err));
	world_policy(f->a, false, true, NULL, 0);
	world_policy(f->c, true, false, NULL, 0);
	q.server = server_in(a.ns, SOCK_DGRAM, f->a, SERVER_PORT);
	ask_question(&q, &node, false);
	forget(f, f->a, SERVER_PORT);
	is_refused(q.server, &outside, q.asker, "policy-egress");
	ask_hears(&q);
	forget(f, f->a, SERVER_PORT);
	world_policy(f->a, true, true, NULL, 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	ask_end(&q);
	world_no_policy(f->a);
	world_no_policy(f->c);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* ---- what a socket does not open ---- */

/* What the pod may not ask, or the other end not be asked. */
static void test_denied_questions(void **state)
{
	const struct family *f = *state;
	struct dp_policy_rule other = {
		.direction = DP_EGRESS, .proto = IPPROTO_UDP, .port = SERVER_PORT + 1, .identity = 200
	};
	struct ask q;

	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->c, true, false, NULL, 0);
	ask_begin(&q, a.ns, CLIENT_PORT, CONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	forget(f, f->a, CLIENT_PORT);
	world_policy(f->a, true, true, &other, 1);
	is_refused(q.server, &q.from, q.asker, "policy-egress");
	world_policy(f->a, true, false, NULL, 0);
	world_policy(f->b, true, false, NULL, 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	world_no_policy(f->b);
	ask_hears(&q);
	ask_end(&q);
	world_no_policy(f->a);
	world_no_policy(f->c);
}

/* A server may connect its socket to who asks: the client is refused as what it is, however the server connects. */
static void test_connected_servers(void **state)
{
	const struct family *f = *state;
	struct ask q;

	world_policy(f->a, true, false, NULL, 0);
	/* `a` serves at a low port, `b` comes from a high one */
	q.asker = server_in(a.ns, SOCK_DGRAM, f->a, SERVER_PORT);
	q.server = server_in(b.ns, SOCK_DGRAM, f->b, CLIENT_PORT);
	q.from = any_of(f->a, SERVER_PORT);
	union any_addr client = any_of(f->b, CLIENT_PORT);

	assert_int_equal(connect(q.asker, &client.sa, any_len(&client)), 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	ask_end(&q);
	/* both high: where both are connected nobody knows */
	q.asker = server_in(a.ns, SOCK_DGRAM, f->a, HIGH_PORT);
	q.server = server_in(b.ns, SOCK_DGRAM, f->b, CLIENT_PORT);
	q.from = any_of(f->a, HIGH_PORT);
	assert_int_equal(connect(q.asker, &client.sa, any_len(&client)), 0);
	assert_int_equal(connect(q.server, &q.from.sa, any_len(&q.from)), 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	close(q.server);
	q.server = server_in(b.ns, SOCK_DGRAM, f->b, CLIENT_PORT);
	ask_hears(&q);
	ask_end(&q);
	world_no_policy(f->a);
}

/* Connected to another port or to all of them, or no more. */
static void test_connected_elsewhere(void **state)
{
	const struct family *f = *state;
	union any_addr all = any_of(f->b, 0), there = any_of(f->b, SERVER_PORT);
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	struct ask q = { .from = any_of(f->a, CLIENT_PORT) };

	world_policy(f->a, true, false, NULL, 0);
	q.asker = server_in(a.ns, SOCK_DGRAM, f->a, CLIENT_PORT);
	q.server = server_in(b.ns, SOCK_DGRAM, f->b, SERVER_PORT + 1);
	assert_int_equal(connect(q.asker, &there.sa, any_len(&there)), 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	assert_int_equal(connect(q.asker, &all.sa, any_len(&all)), 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	assert_int_equal(connect(q.asker, &nowhere, sizeof(nowhere)), 0);
	is_refused(q.server, &q.from, q.asker, "policy-ingress");
	ask_end(&q);
	world_no_policy(f->a);
}

/* The node asks whom it likes, and a pod that may send nothing answers it; to nobody else on the node. */
static void test_node_asks(void **state)
{
	const struct family *f = *state;
	struct ask q;
	int other;

	world_policy(f->a, false, true, NULL, 0);
	world_policy(f->c, true, false, NULL, 0);
	ask_begin(&q, world_host_ns(), CLIENT_PORT, CONNECTED, f->a, NULL, SERVER_PORT, a.ns);
	forget(f, f->a, SERVER_PORT);
	other = server_in(world_host_ns(), SOCK_DGRAM, f->node, CLIENT_PORT + 1);
	for (uint16_t port = CLIENT_PORT + 1; port <= CLIENT_PORT + 2; port++) {
		union any_addr to = any_of(f->node, port);

		is_refused(q.server, &to, other, "policy-egress");
	}
	ask_hears(&q);
	close(other);
	ask_end(&q);
	world_no_policy(f->a);
	world_no_policy(f->c);
}

/* ---- policies that come and go ---- */

/* Over flows that are under way: whoever speaks first then, it is known who asked. */
static void test_policy_comes(void **state)
{
	const struct family *f = *state;

	for (enum how how = CONNECTED; how <= last_how(f); how++) {
		struct ask q;
		union any_addr to;

		ask_begin(&q, a.ns, CLIENT_PORT, how, f->b, f->b_mapped, SERVER_PORT, b.ns);
		to = any_of(how == MAPPED ? f->b_mapped : f->b, SERVER_PORT);
		world_policy(f->a, true, false, NULL, 0);
		ask_hears(&q);
		strangers_are_refused(f, &q);
		world_policy(f->a, false, true, NULL, 0);
		is_refused(q.server, &q.from, q.asker, "policy-egress");
		is_refused(q.asker, &to, q.server, "policy-egress");
		world_no_policy(f->a);
		ask_hears(&q);
		world_policy(f->a, false, true, NULL, 0);
		is_refused(q.server, &q.from, q.asker, "policy-egress");
		world_policy(f->a, true, false, NULL, 0);
		ask_hears(&q);
		ask_question(&q, &to, how != UNCONNECTED);
		world_no_policy(f->a);
		/* the other end's counts as much */
		world_policy(f->b, true, false, NULL, 0);
		is_refused(q.asker, &to, q.server, "policy-ingress");
		world_no_policy(f->b);
		ask_question(&q, &to, how != UNCONNECTED);
		ask_end(&q);
	}
}

/* While it was of no interest to any policy, others without one may have pushed it out. */
static void test_policy_comes_late(void **state)
{
	const struct family *f = *state;
	struct ask q;

	ask_begin(&q, a.ns, CLIENT_PORT, CONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	forget(f, f->a, CLIENT_PORT);
	world_policy(f->a, true, false, NULL, 0);
	strangers_are_refused(f, &q);
	ask_hears(&q);
	ask_end(&q);
	world_no_policy(f->a);
}

/* And where nothing is known any more of what it asked, it is not the answers that began. */
static void test_denial_comes_late(void **state)
{
	const struct family *f = *state;
	struct ask q;
	union any_addr to = any_of(f->b, SERVER_PORT);

	ask_begin(&q, a.ns, CLIENT_PORT, CONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	forget(f, f->a, CLIENT_PORT);
	world_policy(f->a, false, true, NULL, 0);
	is_refused(q.server, &q.from, q.asker, "policy-egress");
	is_refused(q.asker, &to, q.server, "policy-egress");
	ask_end(&q);
	world_no_policy(f->a);
}

/* What is remembered of the client's port expires, in whichever table it stands. What is written moves within its
 * table, so that keys are read first. */
static void age_datagrams(void)
{
	static const enum dp_map tables[] = { DP_MAP_DATAGRAM, DP_MAP_POLICED };

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		_cleanup_free_ struct k3c_conn_key *keys = NULL;
		int fd = world.dp->maps[tables[i]];
		struct k3c_conn_key key;
		struct k3c_conn conn;
		size_t n = 0, cap = 0;

		keys_foreach(fd, key) {
			if (ntohs(key.a_port) != CLIENT_PORT && ntohs(key.b_port) != CLIENT_PORT)
				continue;
			mem_grow(keys, cap, n + 1);
			keys[n++] = key;
		}
		for (size_t k = 0; k < n; k++) {
			if (bpf_map_lookup_elem(fd, &keys[k], &conn) < 0)
				continue;
			conn.last_ns -= (K3C_CONN_UDP_TIMEOUT_S + 1) * 1000000000ULL;
			assert_int_equal(bpf_map_update_elem(fd, &keys[k], &conn, BPF_ANY), 0);
		}
	}
}

/* What a policy looked at once, and is long over, says nothing of what goes on under the next one. */
static void test_policy_comes_back(void **state)
{
	const struct family *f = *state;
	union any_addr to = any_of(f->b, SERVER_PORT);
	struct ask q;

	world_policy(f->a, true, false, NULL, 0);
	ask_begin(&q, a.ns, CLIENT_PORT, UNCONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	age_datagrams();
	world_no_policy(f->a);
	ask_question(&q, &to, false);
	world_policy(f->a, true, false, NULL, 0);
	ask_hears(&q);
	age_datagrams();
	world_no_policy(f->a);
	ask_question(&q, &to, false);
	world_policy(f->a, false, true, NULL, 0);
	is_refused(q.server, &q.from, q.asker, "policy-egress");
	is_refused(q.asker, &to, q.server, "policy-egress");
	ask_end(&q);
	world_no_policy(f->a);
}

/* Neither does it say who began, where the pod's address is hidden from whom it asks only. */
static void test_straight_after_masquerade(void **state)
{
	const struct family *f = *state;
	union any_addr from, own = any_of(f->a, CLIENT_PORT);
	socklen_t len = sizeof(from);
	struct ask q;
	char text[16];

	world_policy(f->a, true, false, NULL, 0);
	ask_begin(&q, a.ns, CLIENT_PORT, UNCONNECTED, f->outside, NULL, SERVER_PORT, world.outside);
	age_datagrams();
	nat_clear();
	world_no_policy(f->a);
	assert_int_equal(sendto(q.server, "question", 8, 0, &own.sa, any_len(&own)), 8);
	assert_int_equal(recvfrom(q.asker, text, sizeof(text), 0, &from.sa, &len), 8);
	assert_int_equal(sendto(q.asker, "answer", 6, 0, &from.sa, len), 6);
	len = sizeof(from);
	assert_int_equal(recvfrom(q.server, text, sizeof(text), 0, &from.sa, &len), 6);
	assert_true(any_is(&from, f->a, CLIENT_PORT));
	ask_end(&q);
}

/* Whoever gets a pod's addresses after it has asked nobody. */
static void test_addresses_again(void **state)
{
	const struct family *f = *state;
	struct ask pod, outside;
	int hears, hears_outside;

	world_policy(f->a, true, false, NULL, 0);
	ask_begin(&pod, a.ns, CLIENT_PORT, UNCONNECTED, f->b, NULL, SERVER_PORT, b.ns);
	ask_begin(&outside, a.ns, CLIENT_PORT + 1, UNCONNECTED, f->outside, NULL, SERVER_PORT, world.outside);
	pod_drop(&a);
	pod_make_dual(&a, "pod-again", families[DP_V4].a, families[DP_V6].a, 400);
	world_policy(f->a, true, false, NULL, 0);
	hears = server_in(a.ns, SOCK_DGRAM, f->a, CLIENT_PORT);
	hears_outside = server_in(a.ns, SOCK_DGRAM, f->a, CLIENT_PORT + 1);
	is_refused(pod.server, &pod.from, hears, "policy-ingress");
	is_refused(outside.server, &outside.from, hears_outside, "policy-ingress");
	close(hears);
	close(hears_outside);
	ask_end(&pod);
	ask_end(&outside);
	world_no_policy(f->a);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, &families[DP_V4] },                                                  \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, &families[DP_V6]                                               \
	}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		BOTH(test_unpoliced_flood),   BOTH(test_isolated_flood),
		BOTH(test_unconnected),       BOTH(test_masqueraded),
		BOTH(test_service),           BOTH(test_denied_questions),
		BOTH(test_connected_servers), BOTH(test_connected_elsewhere),
		BOTH(test_node_asks),         BOTH(test_policy_comes),
		BOTH(test_policy_comes_late), BOTH(test_denial_comes_late),
		BOTH(test_policy_comes_back), BOTH(test_straight_after_masquerade),
		BOTH(test_addresses_again),
	};
	struct dataplane_options o;
	int r;

	world_uplink();
	route_in(world.outside, "10.42.0.0", 16, NODE_IP, NULL);
	route_in(world.outside, "fd42::", 64, NODE_IP6, NULL);
	o = world_options();
	crowd_flows = rounds_wanted("K3C_CROWD_FLOWS", CROWD_FLOWS);
	o.max_connections = 2 * (uint32_t)crowd_flows;
	ok(dataplane_open(&o, &world.dp, err));
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
