/* SPDX-License-Identifier: Apache-2.0 */
/* Services at XDP, of both families: that it is XDP that translates shows by taking host_in away. And where it is
 * attached: on links that come and go, in the mode asked for, gone when switched off. */
#include "tests/dataplane/collision.h"
#include "userspace/dataplane/inspect.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>

struct family {
	const char *node, *outside, *pod, *any;
};

static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "10.42.7.1", "0.0.0.0" },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "fd42::7:1", "::" },
};

static struct test_pod pod;

static void open_with(enum dp_xdp mode)
{
	struct dataplane_options o = world_options();

	dataplane_close(world.dp);
	o.xdp = mode;
	ok(dataplane_open(&o, &world.dp, err));
}

/* Like a real link's: packets arrive with whole checksums. */
static void whole_sums(int ns, const char *link, bool whole)
{
	struct ethtool_value v = { .cmd = ETHTOOL_STXCSUM, .data = !whole };
	struct ifreq q = { .ifr_data = (void *)&v };
	int fd = sock_in(ns, SOCK_DGRAM);

	strncpy(q.ifr_name, link, IFNAMSIZ - 1);
	assert_int_equal(ioctl(fd, SIOCETHTOOL, &q), 0);
	close(fd);
}

static void without_host_in(void)
{
	struct nl *nl;

	ok(nl_open(NETLINK_ROUTE, &nl, err));
	nl_put_filter_delete(nl, (int)if_nametoindex("up0"), true);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static int setup(void **state)
{
	open_with(DP_XDP_NATIVE);
	pod_make_dual(&pod, "pod", families[DP_V4].pod, families[DP_V6].pod, 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop_whole(&pod);
	return 0;
}

static struct dp_service node_port(const struct family *f, uint8_t proto, uint16_t port, const struct dp_backend *b)
{
	return (struct dp_service){ .id = port,
				    .kind = DP_NODE_PORT,
				    .proto = proto,
				    .addr = ip(f->any),
				    .port = port,
				    .backends = b,
				    .n_backends = b ? 1 : 0 };
}

static void talk_tcp(const struct family *f, uint16_t port)
{
	int server = server_in(pod.ns, SOCK_STREAM, f->pod, 8080), client, conn;
	union any_addr peer;

	assert_int_equal(client_in(world.outside, SOCK_STREAM, f->node, port, &client), 0);
	conn = accept_any(server, &peer);
	assert_true(any_is(&peer, f->outside, 0));
	pass_bulk(client, conn);
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
}

static void talk_udp(const struct family *f, uint16_t port)
{
	int server = server_in(pod.ns, SOCK_DGRAM, f->pod, 5353), client;
	union any_addr from;
	socklen_t len = sizeof(from);
	char buf[16];

	assert_int_equal(client_in(world.outside, SOCK_DGRAM, f->node, port, &client), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send(client, "ask", (size_t)i + 1, 0), i + 1); /* odd and even */
		assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &from.sa, &len), i + 1);
		assert_true(any_is(&from, f->outside, 0));
		assert_int_equal(sendto(server, "say", 3, 0, &from.sa, len), 3);
		assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	}
	close(client);
	close(server);
}

static void talk(const struct family *f)
{
	struct dp_backend t = { ip(f->pod), 8080 }, u = { ip(f->pod), 5353 };
	struct dp_service tcp = node_port(f, IPPROTO_TCP, 30080, &t), udp = node_port(f, IPPROTO_UDP, 30053, &u);

	ok(dataplane_service_set(world.dp, &tcp, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	for (int i = 0; i < 5; i++)
		talk_tcp(f, 30080);
	talk_udp(f, 30053);
	ok(dataplane_service_delete(world.dp, &tcp, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
}

static void test_alone(void **state)
{
	whole_sums(world.outside, "eth0", true);
	without_host_in();
	talk(&families[DP_V4]);
	talk(&families[DP_V6]);
	whole_sums(world.outside, "eth0", false);
}

/* With tc behind it: packets it translated, and those it leaves alone (checksums left to a link that is none). */
static void test_with_tc(void **state)
{
	for (int i = 0; i < 2; i++) {
		whole_sums(world.outside, "eth0", i);
		talk(&families[DP_V4]);
		talk(&families[DP_V6]);
	}
	whole_sums(world.outside, "eth0", false);
}

/* One port of a client's, two frontends: another port for the second, at XDP as well. */
static void test_collision(void **state)
{
	whole_sums(world.outside, "eth0", true);
	without_host_in();
	for (int i = 0; i < DP_FAMILIES; i++) {
		collision_tcp(&collisions[i], pod.ns);
		collision_udp(&collisions[i], pod.ns);
	}
	whole_sums(world.outside, "eth0", false);
}

static void test_generic(void **state)
{
	open_with(DP_XDP_GENERIC);
	whole_sums(world.outside, "eth0", true);
	without_host_in();
	talk(&families[DP_V4]);
	talk(&families[DP_V6]);
	whole_sums(world.outside, "eth0", false);
}

static void unheard(const struct family *f, uint16_t port, const char *reason)
{
	union any_addr to = any_of(f->node, port);
	uint64_t before = drops(reason);
	int fd = sock_in_domain(world.outside, to.sa.sa_family, SOCK_STREAM, 0);

	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(fd, &to.sa, any_len(&to)), -1);
	await_drop(reason, before);
	close(fd);
}

struct told {
	uint32_t ifindex;
	char reason[32];
	unsigned drops, translations;
};

static void hear(void *arg, const struct dp_event *e)
{
	struct told *t = arg;

	if (e->type == DP_EVENT_TRANSLATE)
		t->translations++;
	if (e->type != DP_EVENT_DROP)
		return;
	t->drops++;
	t->ifindex = e->ifindex;
	snprintf(t->reason, sizeof(t->reason), "%s", e->reason);
}

/* The listener hears of the reason, of the link, and of the flow that is translated. */
static void test_told(void **state)
{
	const struct family *f = &families[DP_V4];
	struct dp_backend u = { ip(f->pod), 5353 };
	struct dp_service s = node_port(f, IPPROTO_UDP, 30055, &u);
	struct dp_net range = { ip("203.0.113.0"), 96 + 24 };
	uint32_t types = 1u << DP_EVENT_DROP | 1u << DP_EVENT_TRANSLATE;
	struct dp_listener *l;
	struct told t = { 0 };
	int fd;

	whole_sums(world.outside, "eth0", true);
	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_listen(world.dp, types, &l, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, f->node, 30055, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	for (int i = 0; i < WORLD_WAIT_MS / 100 && !t.translations; i++)
		assert_true(dp_listener_poll(l, 100, hear, &t) >= 0);
	assert_int_equal(t.translations, 1);
	close(fd);
	s.sources = &range;
	s.n_sources = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, f->node, 30055, &fd), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	for (int i = 0; i < WORLD_WAIT_MS / 100 && !t.drops; i++)
		assert_true(dp_listener_poll(l, 100, hear, &t) >= 0);
	assert_string_equal(t.reason, "source-range");
	assert_int_equal(t.ifindex, if_nametoindex("up0"));
	close(fd);
	dp_listener_close(l);
	ok(dataplane_service_delete(world.dp, &s, err));
	whole_sums(world.outside, "eth0", false);
}

static void test_early_drop(void **state)
{
	whole_sums(world.outside, "eth0", true);
	without_host_in();
	for (int i = 0; i < DP_FAMILIES; i++) {
		const struct family *f = &families[i];
		struct dp_backend b = { ip(f->pod), 8080 };
		struct dp_service s = node_port(f, IPPROTO_TCP, 30081, &b);
		struct dp_net range = { ip(f->pod), 128 };
		int fd;

		s.sources = &range;
		s.n_sources = 1;
		ok(dataplane_service_set(world.dp, &s, err));
		unheard(f, 30081, "source-range");
		s.n_sources = 0;
		s.outside_differs = true;
		ok(dataplane_service_set(world.dp, &s, err));
		unheard(f, 30081, "no-service-backend");
		/* without any: the stack says so */
		s.outside_differs = false;
		s.n_backends = 0;
		ok(dataplane_service_set(world.dp, &s, err));
		assert_int_equal(client_in(world.outside, SOCK_STREAM, f->node, 30081, &fd), -ECONNREFUSED);
		close(fd);
		ok(dataplane_service_delete(world.dp, &s, err));
	}
	whole_sums(world.outside, "eth0", false);
}

/* Backends that are no pods, datagrams in fragments, refusals: tc's. */
static void test_left_to_tc(void **state)
{
	struct dp_backend h = { ip(NODE_IP), 6443 }, u = { ip(pod.addr), 5353 }, closed = { ip(pod.addr), 5354 };
	struct dp_service host = node_port(&families[DP_V4], IPPROTO_TCP, 30443, &h);
	struct dp_service udp = node_port(&families[DP_V4], IPPROTO_UDP, 30053, &u);
	struct dp_service none = node_port(&families[DP_V4], IPPROTO_UDP, 30054, &closed);
	int server = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 6443), client, conn;
	int us = server_in(pod.ns, SOCK_DGRAM, pod.addr, 5353);
	char big[5000], back[5000];

	whole_sums(world.outside, "eth0", true);
	ok(dataplane_service_set(world.dp, &host, err));
	ok(dataplane_service_set(world.dp, &udp, err));
	ok(dataplane_service_set(world.dp, &none, err));
	assert_int_equal(client_in(world.outside, SOCK_STREAM, NODE_IP, 30443, &client), 0);
	conn = accept_any(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	memset(big, 'f', sizeof(big));
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, NODE_IP, 30053, &client), 0);
	assert_int_equal(send(client, big, sizeof(big), 0), sizeof(big));
	assert_int_equal(recv(us, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(big, back, sizeof(big));
	close(client);
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, NODE_IP, 30054, &client), 0);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(recv(client, back, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(client);
	close(server);
	close(us);
	ok(dataplane_service_delete(world.dp, &host, err));
	ok(dataplane_service_delete(world.dp, &udp, err));
	ok(dataplane_service_delete(world.dp, &none, err));
	whole_sums(world.outside, "eth0", false);
}

static uint32_t xdp_on(const char *link, uint32_t flags)
{
	uint32_t id = 0;

	assert_int_equal(bpf_xdp_query_id((int)if_nametoindex(link), (int)flags, &id), 0);
	return id;
}

static size_t count_pins(void)
{
	_cleanup_free_ char *path = mem_printf("%s/links", world.pin_dir);
	DIR *d = opendir(path);
	struct dirent *e;
	size_t n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strncmp(e->d_name, "xdp_in_", 7) == 0;
	closedir(d);
	return n;
}

static void link_delete(const char *name)
{
	struct nl *nl;

	ok(nl_open(NETLINK_ROUTE, &nl, err));
	nl_put_link_delete(nl, (int)if_nametoindex(name));
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static void test_links(void **state)
{
	uint32_t native = xdp_on("up0", XDP_FLAGS_DRV_MODE), other;
	int ns = ns_new();

	assert_int_not_equal(native, 0);
	assert_int_equal(count_pins(), 1);
	nl_veth_to(ns, "up1", "eth0");
	link_setup(world_host_ns(), "up1", "172.31.0.1", 24);
	link_setup(ns, "eth0", "172.31.0.2", 24);
	ok(dataplane_links_process(world.dp, err));
	assert_int_equal(xdp_on("up1", XDP_FLAGS_DRV_MODE), native);
	assert_int_equal(count_pins(), 2);
	link_delete("up1");
	ok(dataplane_links_process(world.dp, err));
	assert_int_equal(count_pins(), 1);
	/* nobody keeps its Services: what it knows might be old, and tc does without */
	dataplane_close(world.dp);
	world.dp = NULL;
	other = xdp_on("up0", XDP_FLAGS_DRV_MODE);
	assert_int_not_equal(other, 0);
	assert_int_not_equal(other, native);
	/* the next server finds it, a change of mode moves it, and off is off */
	open_with(DP_XDP_NATIVE);
	assert_int_equal(xdp_on("up0", XDP_FLAGS_DRV_MODE), native);
	open_with(DP_XDP_GENERIC);
	other = xdp_on("up0", XDP_FLAGS_SKB_MODE);
	assert_int_not_equal(other, 0);
	assert_int_equal(xdp_on("up0", XDP_FLAGS_DRV_MODE), 0);
	assert_int_equal(count_pins(), 1);
	open_with(DP_XDP_OFF);
	assert_int_equal(xdp_on("up0", XDP_FLAGS_SKB_MODE), 0);
	assert_int_equal(count_pins(), 0);
	open_with(DP_XDP_NATIVE);
	assert_int_not_equal(xdp_on("up0", XDP_FLAGS_DRV_MODE), 0);
	close(ns);
}

static void test_purge(void **state)
{
	dataplane_close(world.dp);
	world.dp = NULL;
	ok(dataplane_purge(world.pin_dir, err));
	assert_int_equal(xdp_on("up0", XDP_FLAGS_DRV_MODE), 0);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_collision, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_with_tc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_generic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_early_drop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_to_tc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test(test_purge),
	};
	int r;

	world_uplink();
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
