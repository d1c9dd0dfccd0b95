/* SPDX-License-Identifier: Apache-2.0 */
/* Quiet connections outlive any number of beginnings: of what nobody answers (from a pod to a world that is silent), of
 * what our own pods answer (to a node port, from clients that are not there), of questions in one datagram each. What
 * goes on after its answer lasts, through a restart and an upgrade as well. */
#include "tests/dataplane/nat.h"
#include "tests/dataplane/packet_sums.h"
#include "tests/dataplane/rounds.h"

#include <netinet/tcp.h>
#include <netinet/udp.h>

#include "userspace/dataplane/inspect.h"

#define FLOOD_CONNECTIONS 1024 /* room for half as many flows, of both tables */
#define FLOOD_TIMES 10         /* unless K3C_FLOOD_TIMES says otherwise: as many halves as there is room for */
#define FLOOD_QUIET 8          /* of each kind and family */
#define FLOOD_AGAIN 5          /* until there is nothing more to push out */
#define FLOOD_FIRST_PORT 2000
#define FLOOD_NODE_PORT 30090
#define FLOOD_OUTSIDE_PORT 9090
#define FLOOD_POD_PORT 8080

struct family {
	const char *node, *outside, *pod, *any, *silent, *late;
};

/* silent, late: behind the host outside, which forwards nothing and refuses nothing; the late one comes to be there. */
static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "10.42.9.1", "0.0.0.0", "198.18.0.5", "198.18.0.77" },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "fd42::9:1", "::", "2001:db8:18::5", "2001:db8:18::77" },
};

static struct test_pod pod;

static unsigned flood_flows(void)
{
	return (unsigned)rounds_wanted("K3C_FLOOD_TIMES", FLOOD_TIMES) * FLOOD_CONNECTIONS;
}

/* ---- packets of nobody's socket ---- */

struct flood {
	const char *from, *to; /* from: not even this host's; NULL: the own address */
	uint16_t port;         /* asked; 0: each time another */
	uint8_t proto;
	unsigned n;
};

union flood_packet {
	struct tcphdr tcp;
	struct udphdr udp;
	uint8_t b[sizeof(struct tcphdr)];
};

/* Of the flow of that number. */
static size_t flood_fill(const struct flood *f, const union any_addr *to, const union any_addr *from, unsigned i,
			 union flood_packet *p)
{
	bool v6 = to->sa.sa_family == AF_INET6;
	size_t address = v6 ? 16 : 4, n = f->proto == IPPROTO_TCP ? sizeof(p->tcp) : sizeof(p->udp);
	uint16_t sport = htons((uint16_t)(FLOOD_FIRST_PORT + i % 50000)),
		 dport = htons(f->port ? f->port : (uint16_t)(1 + i % 60000));
	const uint8_t *src = v6 ? from->v6.sin6_addr.s6_addr : (const uint8_t *)&from->v4.sin_addr;
	const uint8_t *dst = v6 ? to->v6.sin6_addr.s6_addr : (const uint8_t *)&to->v4.sin_addr;
	uint32_t sum = (uint32_t)(f->proto + n);
	uint16_t check;

	memset(p, 0, sizeof(*p));
	if (f->proto == IPPROTO_TCP) {
		p->tcp.source = sport;
		p->tcp.dest = dport;
		p->tcp.seq = htonl(i);
		p->tcp.doff = sizeof(p->tcp) / 4;
		p->tcp.syn = 1;
		p->tcp.window = htons(1024);
	} else {
		p->udp.source = sport;
		p->udp.dest = dport;
		p->udp.len = htons((uint16_t)n);
	}
	sum = pt_sum_add(pt_sum_add(pt_sum_add(sum, src, address), dst, address), p->b, n);
	check = htons((uint16_t)~sum);
	if (f->proto == IPPROTO_TCP)
		p->tcp.check = check;
	else
		p->udp.check = check ? check : 0xffff;
	return n;
}

static int flood_fn(void *arg)
{
	const struct flood *f = arg;
	union any_addr to = any_of(f->to, 0), from = any_of(f->from, 0);
	int on = 1, fd = socket(to.sa.sa_family, SOCK_RAW | SOCK_CLOEXEC, f->proto), r = fd < 0 ? -errno : 0;

	if (r == 0 && to.sa.sa_family == AF_INET)
		r = setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)) < 0 ? -errno : 0;
	else if (r == 0)
		r = setsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on)) < 0 ? -errno : 0;
	if (r == 0 && bind(fd, &from.sa, any_len(&from)) < 0)
		r = -errno;
	for (unsigned i = 0; i < f->n && r == 0; i++) {
		union flood_packet p;
		size_t n = flood_fill(f, &to, &from, i, &p);

		/* said again, as anybody does whom nobody answers: each has been of use */
		for (int k = 0; k < 2 && r == 0; k++)
			if (sendto(fd, &p, n, 0, &to.sa, any_len(&to)) != (ssize_t)n && errno != ENOBUFS)
				r = -errno;
	}
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- sockets of a test, none of which outlives it, whether it fails or not ---- */

static int held[8 + 5 * FLOOD_QUIET];
static size_t n_held;

static int hold(int fd)
{
	assert_true(n_held < ARRAY_SIZE(held));
	held[n_held++] = fd;
	return fd;
}

static int hold_client(int ns, int type, const char *addr, uint16_t port)
{
	int fd, r = client_in(ns, type, addr, port, &fd);

	hold(fd);
	assert_int_equal(r, 0);
	return fd;
}

/* Connections by a reset: their ports are free at once. */
static void let_go(void)
{
	struct linger now = { .l_onoff = 1 };

	while (n_held) {
		int fd = held[--n_held];

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(fd);
	}
}

/* ---- those that are quiet ---- */

struct quiet {
	int server, node_server, datagrams;
	int out[FLOOD_QUIET], out_conn[FLOOD_QUIET], in[FLOOD_QUIET], in_conn[FLOOD_QUIET], udp[FLOOD_QUIET];
	uint16_t udp_port[FLOOD_QUIET];
};

static struct dp_service service_of(const struct family *f, struct dp_backend *b)
{
	*b = (struct dp_backend){ ip(f->pod), FLOOD_POD_PORT };
	return (struct dp_service){ .id = text_is_v6(f->pod) ? 2 : 1,
				    .kind = DP_NODE_PORT,
				    .proto = IPPROTO_TCP,
				    .addr = ip(f->any),
				    .port = FLOOD_NODE_PORT,
				    .backends = b,
				    .n_backends = 1 };
}

/* There and back; the server sees the same port as before (*port; 0: tell). */
static void talk(int client, int server, uint16_t *port)
{
	union any_addr peer;
	socklen_t len = sizeof(peer);
	char buf[8];

	assert_int_equal(send(client, "ask", 3, 0), 3);
	assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &peer.sa, &len), 3);
	if (*port)
		assert_int_equal(any_port(&peer), *port);
	*port = any_port(&peer);
	assert_int_equal(sendto(server, "say", 3, 0, &peer.sa, len), 3);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
}

static void quiet_open(struct quiet *q, const struct family *f)
{
	struct dp_backend b;
	struct dp_service s = service_of(f, &b);

	ok(dataplane_service_set(world.dp, &s, err));
	q->server = hold(server_in(world.outside, SOCK_STREAM, f->outside, FLOOD_OUTSIDE_PORT));
	q->node_server = hold(server_in(pod.ns, SOCK_STREAM, f->pod, FLOOD_POD_PORT));
	q->datagrams = hold(server_in(world.outside, SOCK_DGRAM, f->outside, FLOOD_OUTSIDE_PORT));
	for (int i = 0; i < FLOOD_QUIET; i++) {
		q->out[i] = hold_client(pod.ns, SOCK_STREAM, f->outside, FLOOD_OUTSIDE_PORT);
		q->out_conn[i] = hold(accept_any(q->server, NULL));
		q->in[i] = hold_client(world.outside, SOCK_STREAM, f->node, FLOOD_NODE_PORT);
		q->in_conn[i] = hold(accept_any(q->node_server, NULL));
		q->udp[i] = hold_client(pod.ns, SOCK_DGRAM, f->outside, FLOOD_OUTSIDE_PORT);
		q->udp_port[i] = 0;
		talk(q->udp[i], q->datagrams, &q->udp_port[i]);
		talk(q->udp[i], q->datagrams, &q->udp_port[i]); /* a stream */
	}
}

/* Whoever speaks first. */
static void quiet_go_on(struct quiet *q)
{
	for (int i = 0; i < FLOOD_QUIET; i++) {
		pass_bytes(i % 2 ? q->out[i] : q->out_conn[i], i % 2 ? q->out_conn[i] : q->out[i], "first");
		pass_bytes(i % 2 ? q->out_conn[i] : q->out[i], i % 2 ? q->out[i] : q->out_conn[i], "second");
		pass_bytes(i % 2 ? q->in[i] : q->in_conn[i], i % 2 ? q->in_conn[i] : q->in[i], "first");
		pass_bytes(i % 2 ? q->in_conn[i] : q->in[i], i % 2 ? q->in[i] : q->in_conn[i], "second");
		talk(q->udp[i], q->datagrams, &q->udp_port[i]);
	}
}

static void quiet_close(const struct family *f)
{
	struct dp_backend b;
	struct dp_service s = service_of(f, &b);

	ok(dataplane_service_delete(world.dp, &s, err));
	let_go();
}

/* ---- what stands in the tables ---- */

struct seen {
	size_t lasting, unassured, answered;
};

static void seen_add(void *arg, const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	struct seen *s = arg;
	bool unassured = n->flags & K3C_NAT_UNASSURED;

	s->lasting += !unassured;
	s->unassured += unassured;
	s->answered += unassured && (n->flags & K3C_NAT_ANSWERED);
}

static struct seen look(void)
{
	struct seen s = { 0 };

	nat_each(seen_add, &s);
	return s;
}

/* None of those that last is gone, none of the flood is among them, and it was more than there is room for. */
static void flooded(const struct seen *before)
{
	struct seen now = look();
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(world.dp->maps[DP_MAP_UNASSURED], &info, &len), 0);
	assert_int_equal(now.lasting, before->lasting);
	assert_true(now.unassured >= info.max_entries / 2);
}

static void translation_add(void *arg, const struct dp_translation *t)
{
	struct seen *s = arg;

	s->unassured += t->unassured;
	s->lasting += !t->unassured;
}

/* ---- tests ---- */

static int setup(void **state)
{
	nat_clear();
	return 0;
}

static int teardown(void **state)
{
	let_go();
	return 0;
}

static void from_pod(const struct family *f, uint8_t proto)
{
	struct flood flood = { .from = f->pod, .to = f->silent, .proto = proto, .n = flood_flows() };
	struct seen before;
	struct quiet q;

	quiet_open(&q, f);
	before = look();
	assert_int_equal(before.lasting, 3 * 2 * FLOOD_QUIET);
	assert_int_equal(netns_run(pod.ns, flood_fn, &flood), 0);
	flooded(&before);
	quiet_go_on(&q);
	quiet_close(f);
}

static void test_nobody_answers(void **state)
{
	from_pod(*state, IPPROTO_TCP);
}

static void test_questions(void **state)
{
	from_pod(*state, IPPROTO_UDP);
}

/* Whoever pretends to be somebody else hears nothing, and says nothing after that. */
static void test_pods_answer(void **state)
{
	const struct family *f = *state;
	struct flood flood = {
		.from = f->silent, .to = f->node, .port = FLOOD_NODE_PORT, .proto = IPPROTO_TCP, .n = flood_flows()
	};
	struct seen before;
	struct quiet q;

	quiet_open(&q, f);
	before = look();
	assert_int_equal(netns_run(world.outside, flood_fn, &flood), 0);
	/* where there is one processor, the answers are said when the flood is over */
	for (int i = 0; i < WORLD_WAIT_MS / 10 && look().answered == 0; i++)
		usleep(10000);
	assert_true(look().answered > 0);
	flooded(&before);
	quiet_go_on(&q);
	quiet_close(f);
}

struct begun {
	struct k3c_addr to;
	bool found;
};

static void begun_seen(void *arg, const struct k3c_nat_key *key, const struct k3c_nat *n)
{
	struct begun *b = arg;

	b->found |= memcmp(&key->dst, &b->to, sizeof(b->to)) == 0;
}

/* Some flow to that address, which still leads there. */
static bool has_begun(const char *to)
{
	struct dp_addr addr = ip(to);
	struct begun b = { .to = dp_addr_in(&addr) };

	nat_each(begun_seen, &b);
	return b.found;
}

/* What takes longer to be answered than the table of beginnings lasts begins once more, and gets through. */
static void test_slow_answer(void **state)
{
	const struct family *f = *state;
	/* many times what there is room for, and soon over: who asks again waits twice as long each time */
	struct flood flood = { .from = f->pod, .to = f->silent, .proto = IPPROTO_TCP, .n = FLOOD_CONNECTIONS };
	union any_addr to = any_of(f->late, FLOOD_OUTSIDE_PORT);
	int client = hold(sock_in_domain(pod.ns, to.sa.sa_family, SOCK_STREAM, 0)), server, conn;
	struct pollfd wait = { .fd = client, .events = POLLOUT };

	assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(connect(client, &to.sa, any_len(&to)), -1);
	assert_int_equal(errno, EINPROGRESS);
	/* said again meanwhile, it is there again */
	for (int i = 0; i < FLOOD_AGAIN && has_begun(f->late); i++)
		assert_int_equal(netns_run(pod.ns, flood_fn, &flood), 0);
	assert_false(has_begun(f->late));
	link_setup(world.outside, "eth0", f->late, text_is_v6(f->late) ? 128 : 32);
	server = hold(server_in(world.outside, SOCK_STREAM, f->late, FLOOD_OUTSIDE_PORT));
	conn = hold(accept_any(server, NULL));
	assert_int_equal(poll(&wait, 1, WORLD_WAIT_MS), 1);
	assert_int_equal(fcntl(client, F_SETFL, 0), 0);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	let_go();
}

static void open_with(uint32_t max_connections)
{
	struct dataplane_options o = world_options();

	o.max_connections = max_connections;
	ok(dataplane_open(&o, &world.dp, err));
	pod_attach(&pod);
}

/* The server goes and comes again, and then with tables of another size (as after an upgrade), in the midst of it. */
static void test_restart(void **state)
{
	const struct family *f = *state;
	struct flood flood = { .from = f->pod, .to = f->silent, .proto = IPPROTO_TCP, .n = flood_flows() };
	static uint32_t size = FLOOD_CONNECTIONS;
	struct seen before, listed = { 0 };
	struct quiet q;

	quiet_open(&q, f);
	before = look();
	/* where one has to do, only the last family's tables get another size */
	for (int i = 0, n = (rounds_wanted("K3C_REPLACEMENTS", 4) + text_is_v6(f->pod)) / 2; i <= n; i++) {
		struct dp_backend b;
		struct dp_service s = service_of(f, &b);

		assert_int_equal(netns_run(pod.ns, flood_fn, &flood), 0);
		dataplane_close(world.dp);
		if (i)
			size = size == FLOOD_CONNECTIONS ? 2 * FLOOD_CONNECTIONS : FLOOD_CONNECTIONS;
		open_with(size);
		ok(dataplane_service_set(world.dp, &s, err));
		assert_int_equal(look().lasting, before.lasting);
		assert_true(look().unassured > 0);
		quiet_go_on(&q);
	}
	/* as `conntrack list` has it: a row for each pair */
	ok(dataplane_translation_each(world.dp, translation_add, &listed, err));
	assert_int_equal(listed.lasting, before.lasting / 2);
	assert_true(listed.unassured > 0);
	quiet_close(f);
}

#define BOTH(test_)                                                                                                    \
	{ #test_ " IPv4", test_, setup, teardown, (void *)&families[DP_V4] },                                          \
	{                                                                                                              \
#test_ " IPv6", test_, setup, teardown, (void *)&families[DP_V6]                                       \
	}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		BOTH(test_nobody_answers), BOTH(test_questions), BOTH(test_pods_answer),
		BOTH(test_slow_answer),    BOTH(test_restart),
	};
	struct dataplane_options o = world_options();
	int r;

	world_uplink();
	route_in(world_host_ns(), "198.18.0.0", 15, OUTSIDE_IP, NULL);
	route_in(world_host_ns(), "2001:db8:18::", 48, OUTSIDE_IP6, NULL);
	o.max_connections = FLOOD_CONNECTIONS;
	ok(dataplane_open(&o, &world.dp, err));
	pod_make_dual(&pod, "flooded", families[DP_V4].pod, families[DP_V6].pod, 0);
	r = cmocka_run_group_tests(all, NULL, NULL);
	pod_drop(&pod);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
