/* SPDX-License-Identifier: Apache-2.0 */
/* The host's links and addresses, followed live: links without an Ethernet header, links that go down and come up,
 * addresses that change; routers' advertisements, addresses on `lo`, nets that pods reach as themselves. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/if_addr.h>
#include <linux/if_tun.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>

#include "bpf/include/endpoint.h"

#define DIRECT_IP "198.51.100.7"
#define DIRECT_IP6 "2001:db8:51::7"

static struct test_pod pod;
static struct dp_net direct[3];

static int setup(void **state)
{
	pod_make_dual(&pod, "pod", "10.42.8.1", "fd42::8:1", 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&pod);
	return 0;
}

static void links_heard(void)
{
	assert_true(readable(dataplane_links_fd(world.dp), WORLD_WAIT_MS));
	ok(dataplane_links_process(world.dp, err));
}

static void sysctl_is(const char *path, char want)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	ok(fs_read(path, 16, &text, err));
	if (text.data[text.start] != want)
		fail_msg("%s is %c, not %c", path, text.data[text.start], want);
}

static void address(const char *link, uint16_t type, const char *text, uint8_t bits, bool deprecated)
{
	struct dp_addr a = ip(text);
	struct nl_address put = {
		.addr = dp_addr_in(&a), .bits = bits, .ifindex = (int)if_nametoindex(link), .never_source = deprecated
	};
	struct nl *nl;

	ok(nl_open(NETLINK_ROUTE, &nl, err));
	nl_put_address(nl, type, &put, 0);
	ok(nl_commit(nl, err));
	if (type == RTM_NEWADDR)
		nl_await_address(nl, &put.addr);
	nl_close(nl);
}

static void link_flag(const char *name, short flag, bool on)
{
	struct ifreq q = { 0 };
	int fd = sock_in(world_host_ns(), SOCK_DGRAM);

	strncpy(q.ifr_name, name, IFNAMSIZ - 1);
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &q), 0);
	q.ifr_flags = (short)(on ? q.ifr_flags | flag : q.ifr_flags & ~flag);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &q), 0);
	close(fd);
}

/* Whom the outside sees. */
static void expect_seen_at(int line, const char *outside, const char *seen)
{
	int server = server_in(world.outside, SOCK_DGRAM, outside, 53), client;
	union any_addr peer;
	socklen_t len = sizeof(peer);
	char buf[16], text[INET6_ADDRSTRLEN];

	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, outside, 53, &client), 0);
	assert_int_equal(send(client, "ask", 3, 0), 3);
	if (recvfrom(server, buf, sizeof(buf), 0, &peer.sa, &len) != 3)
		fail_msg("line %d: nothing from the pod at %s: %s", line, outside, strerror(errno));
	if (!any_is(&peer, seen, 0))
		fail_msg("line %d: the outside sees %s, not %s", line,
			 inet_ntop(peer.sa.sa_family,
				   peer.sa.sa_family == AF_INET ? (void *)&peer.v4.sin_addr : &peer.v6.sin6_addr, text,
				   sizeof(text)),
			 seen);
	assert_int_equal(sendto(server, "say", 3, 0, &peer.sa, len), 3);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	close(client);
	close(server);
}

#define expect_seen(outside_, seen_) expect_seen_at(__LINE__, outside_, seen_)

/* ---- a link without an Ethernet header ---- */

static int tun_open(const char *name)
{
	struct ifreq q = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	strncpy(q.ifr_name, name, IFNAMSIZ - 1);
	assert_int_equal(ioctl(fd, TUNSETIFF, &q), 0);
	return fd;
}

static uint16_t sum16(uint32_t sum, const void *data, size_t n)
{
	const uint8_t *b = data;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)(b[i] << 8 | b[i + 1]);
	if (n & 1)
		sum += (uint32_t)(b[n - 1] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

struct tun_packet {
	_Alignas(8) uint8_t raw[256];
	size_t size;
};

static size_t tun_header(const struct tun_packet *p)
{
	return p->raw[0] >> 4 == 4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
}

/* Over addresses and the datagram: 0xffff when all is right. */
static uint16_t tun_udp_sum(const struct tun_packet *p)
{
	size_t at = tun_header(p), n = p->size - at;
	bool v4 = at == sizeof(struct iphdr);
	uint32_t sum = sum16((uint32_t)(IPPROTO_UDP + n), p->raw + (v4 ? 12 : 8), v4 ? 8 : 32);

	return sum16(sum, p->raw + at, n);
}

static struct tun_packet tun_udp(const char *from, uint16_t sport, const char *to, uint16_t dport, const char *text)
{
	struct dp_addr a = ip(from), b = ip(to);
	struct tun_packet p = { 0 };
	struct iphdr *v4 = (void *)p.raw;
	struct ip6_hdr *v6 = (void *)p.raw;
	struct udphdr *udp;
	size_t n = sizeof(*udp) + strlen(text);

	if (text_is_v6(from)) {
		v6->ip6_flow = htonl(6u << 28);
		v6->ip6_plen = htons((uint16_t)n);
		v6->ip6_nxt = IPPROTO_UDP;
		v6->ip6_hlim = 60;
		memcpy(&v6->ip6_src, a.b, 16);
		memcpy(&v6->ip6_dst, b.b, 16);
	} else {
		v4->version = 4;
		v4->ihl = 5;
		v4->ttl = 60;
		v4->protocol = IPPROTO_UDP;
		v4->tot_len = htons((uint16_t)(sizeof(*v4) + n));
		memcpy(&v4->saddr, a.b + 12, 4);
		memcpy(&v4->daddr, b.b + 12, 4);
		v4->check = htons((uint16_t)~sum16(0, v4, sizeof(*v4)));
	}
	udp = (void *)(p.raw + tun_header(&p));
	p.size = tun_header(&p) + n;
	udp->source = htons(sport);
	udp->dest = htons(dport);
	udp->len = htons((uint16_t)n);
	memcpy(udp + 1, text, strlen(text));
	udp->check = htons((uint16_t)~tun_udp_sum(&p));
	return p;
}

/* The next datagram that leaves: the link also speaks for itself. */
static struct tun_packet tun_next(int tun)
{
	struct tun_packet p = { 0 };

	for (;;) {
		ssize_t n;

		if (!readable(tun, WORLD_WAIT_MS))
			fail_msg("nothing leaves by the tun device");
		n = read(tun, p.raw, sizeof(p.raw));
		assert_true(n > 0);
		p.size = (size_t)n;
		if (p.raw[p.raw[0] >> 4 == 4 ? 9 : 6] == IPPROTO_UDP)
			return p;
	}
}

static void tun_expect(const struct tun_packet *p, const char *from, uint16_t sport, const char *to, uint16_t dport,
		       const char *text)
{
	const struct udphdr *udp = (const void *)(p->raw + tun_header(p));
	struct dp_addr a = ip(from), b = ip(to);
	bool v4 = !text_is_v6(from);

	assert_int_equal(tun_header(p), v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr));
	if (v4)
		assert_int_equal(sum16(0, p->raw, sizeof(struct iphdr)), 0xffff);
	assert_memory_equal(p->raw + (v4 ? 12 : 8), a.b + (v4 ? 12 : 0), v4 ? 4 : 16);
	assert_memory_equal(p->raw + (v4 ? 16 : 24), b.b + (v4 ? 12 : 0), v4 ? 4 : 16);
	if (sport)
		assert_int_equal(ntohs(udp->source), sport);
	assert_int_equal(ntohs(udp->dest), dport);
	assert_memory_equal(udp + 1, text, strlen(text));
	assert_int_equal(tun_udp_sum(p), 0xffff);
}

static void tun_family(int tun, const char *node, const char *far, const char *pod_addr, const char *any, uint32_t id)
{
	struct dp_backend to = { ip(pod_addr), 5353 };
	struct dp_service s = { .id = id,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_UDP,
				.port = 30070,
				.addr = ip(any),
				.backends = &to,
				.n_backends = 1 };
	int server = server_in(pod.ns, SOCK_DGRAM, pod_addr, 5353), client;
	struct tun_packet p = tun_udp(far, 4000, node, 30070, "question");
	union any_addr peer;
	socklen_t len = sizeof(peer);
	char buf[32] = { 0 };
	uint16_t port;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(write(tun, p.raw, p.size), p.size);
	if (recvfrom(server, buf, sizeof(buf), 0, &peer.sa, &len) != 8)
		fail_msg("the node port at %s: %s", node, strerror(errno));
	assert_true(any_is(&peer, far, 4000));
	assert_int_equal(sendto(server, "answer", 6, 0, &peer.sa, len), 6);
	p = tun_next(tun);
	tun_expect(&p, node, 30070, far, 4000, "answer");
	/* and the pod as a client, with the link's address */
	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, far, 53, &client), 0);
	assert_int_equal(send(client, "ask", 3, 0), 3);
	p = tun_next(tun);
	tun_expect(&p, node, 0, far, 53, "ask");
	port = ntohs(((struct udphdr *)(p.raw + tun_header(&p)))->source);
	assert_in_range(port, 1024, 65535);
	assert_false(port >= world_options().node_port_min && port <= world_options().node_port_max);
	p = tun_udp(far, 53, node, port, "say");
	assert_int_equal(write(tun, p.raw, p.size), p.size);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	close(client);
	close(server);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_tun(void **state)
{
	int tun = tun_open("tun7");

	if (tun < 0) {
		print_message("no tun device here\n");
		skip();
	}
	link_setup(world_host_ns(), "tun7", "172.29.0.1", 24);
	link_setup(world_host_ns(), "tun7", "fd29::1", 64);
	links_heard();
	tun_family(tun, "172.29.0.1", "172.29.0.9", pod.addr, "0.0.0.0", 71);
	tun_family(tun, "fd29::1", "fd29::9", pod.addr6, "::", 72);
	close(tun);
	links_heard();
}

/* ---- changes ---- */

static void test_address_changes(void **state)
{
	expect_seen(OUTSIDE_IP, NODE_IP);
	expect_seen(OUTSIDE_IP6, NODE_IP6);
	address("up0", RTM_NEWADDR, "172.30.0.77", 24, false);
	address("up0", RTM_NEWADDR, "fd30::77", 64, false);
	links_heard();
	expect_seen(OUTSIDE_IP, NODE_IP); /* the node's own before all others */
	address("up0", RTM_DELADDR, NODE_IP, 24, false);
	address("up0", RTM_DELADDR, NODE_IP6, 64, false);
	address("up0", RTM_NEWADDR, "172.30.0.77", 24, false); /* went with the first one of its net */
	links_heard();
	expect_seen(OUTSIDE_IP, "172.30.0.77");
	expect_seen(OUTSIDE_IP6, "fd30::77");
	/* one that soon is another is not taken */
	address("up0", RTM_NEWADDR, "fd30::77", 64, true);
	address("up0", RTM_NEWADDR, "fd30::78", 64, false);
	links_heard();
	expect_seen(OUTSIDE_IP6, "fd30::78");
	address("up0", RTM_DELADDR, "172.30.0.77", 24, false);
	address("up0", RTM_NEWADDR, NODE_IP, 24, false);
	address("up0", RTM_NEWADDR, NODE_IP6, 64, false);
	address("up0", RTM_DELADDR, "fd30::77", 64, false);
	address("up0", RTM_DELADDR, "fd30::78", 64, false);
	links_heard();
	expect_seen(OUTSIDE_IP, NODE_IP);
	expect_seen(OUTSIDE_IP6, NODE_IP6);
}

static bool is_node_address(const char *text)
{
	struct dp_addr a = ip(text);
	struct k3c_addr k = dp_addr_in(&a);
	uint32_t value;

	return bpf_map_lookup_elem(world.dp->maps[DP_MAP_NODE], &k, &value) == 0;
}

static void test_down_and_up(void **state)
{
	assert_true(is_node_address(NODE_IP));
	link_flag("up0", IFF_UP, false);
	links_heard();
	assert_false(is_node_address(NODE_IP));
	link_flag("up0", IFF_UP, true);
	address("up0", RTM_NEWADDR, NODE_IP6, 64, false); /* down, a link forgets those */
	links_heard();
	assert_true(is_node_address(NODE_IP));
	expect_seen(OUTSIDE_IP, NODE_IP);
	expect_seen(OUTSIDE_IP6, NODE_IP6);
}

/* A node address on `lo` stands in where the link has none of the family. */
static void test_node_address_on_lo(void **state)
{
	struct dp_addr node = ip(NODE_IP6);

	address("up0", RTM_DELADDR, NODE_IP6, 64, false);
	ok(dataplane_local_address_add(world.dp, &node, err));
	route_in(world_host_ns(), "fd30::", 64, NULL, "up0");
	route_in(world.outside, NODE_IP6, 128, NULL, "eth0");
	links_heard();
	assert_true(is_node_address(NODE_IP6));
	expect_seen(OUTSIDE_IP6, NODE_IP6);
	ok(dataplane_local_address_delete(world.dp, &node, err));
	address("up0", RTM_NEWADDR, NODE_IP6, 64, false);
	links_heard();
	expect_seen(OUTSIDE_IP6, NODE_IP6);
}

static void test_local_address(void **state)
{
	struct dp_addr dns = ip("fd43::a");
	int server, client, probe;
	union any_addr own;
	socklen_t len = sizeof(own);

	ok(dataplane_local_address_add(world.dp, &dns, err));
	ok(dataplane_local_address_add(world.dp, &dns, err));
	links_heard();
	assert_false(is_node_address("fd43::a"));
	server = server_in(world_host_ns(), SOCK_DGRAM, "fd43::a", 53);
	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, "fd43::a", 53, &client), 0);
	pass_bytes(client, server, "name");
	/* the host itself never speaks with it */
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, OUTSIDE_IP6, 9, &probe), 0);
	assert_int_equal(getsockname(probe, &own.sa, &len), 0);
	assert_true(any_is(&own, NODE_IP6, 0));
	close(probe);
	close(client);
	close(server);
	ok(dataplane_local_address_delete(world.dp, &dns, err));
	ok(dataplane_local_address_delete(world.dp, &dns, err));
}

/* Unknown pods and services are refused at once. */
static void expect_unreachable(const struct test_pod *from, const char *nobody)
{
	int fd, r = client_in(from->ns, SOCK_STREAM, nobody, 80, &fd);

	if (r != -EHOSTUNREACH && r != -ENETUNREACH)
		fail_msg("%s: %s", nobody, strerror(-r));
	close(fd);
}

/* From two pods: the kernel says it once a second to each, no more. */
static void test_unreachable(void **state)
{
	struct test_pod second;

	pod_make_dual(&second, "second", "10.42.8.2", "fd42::8:2", 0);
	expect_unreachable(&second, "10.42.8.99");
	expect_unreachable(&second, "fd42::8:99");
	pod_drop(&second);
	pod_make_dual(&second, "third", "10.42.8.3", "fd42::8:3", 0);
	expect_unreachable(&second, "10.43.8.99");
	expect_unreachable(&second, "fd43::99");
	pod_drop(&second);
}

/* Pods go there as themselves. */
static void test_direct_nets(void **state)
{
	link_setup(world.outside, "lo", DIRECT_IP, 32);
	link_setup(world.outside, "lo", DIRECT_IP6, 128);
	route_in(world_host_ns(), DIRECT_IP, 32, OUTSIDE_IP, NULL);
	route_in(world_host_ns(), DIRECT_IP6, 128, OUTSIDE_IP6, NULL);
	route_in(world.outside, "10.42.0.0", 16, NODE_IP, NULL);
	route_in(world.outside, "fd42::", 64, NODE_IP6, NULL);
	expect_seen(DIRECT_IP, pod.addr);
	expect_seen(DIRECT_IP6, pod.addr6);
	expect_seen(OUTSIDE_IP, NODE_IP);
	expect_seen(OUTSIDE_IP6, NODE_IP6);
}

/* A host that forwards goes on listening to its routers, and is as it was before after purge. */
static void test_router_advertisements(void **state)
{
	struct dataplane_options o = world_options();
	int ns = ns_new();

	sysctl_is("/proc/sys/net/ipv6/conf/all/forwarding", '1');
	sysctl_is("/proc/sys/net/ipv6/conf/up0/accept_ra", '2');
	nl_veth_to(ns, "up9", "eth0");
	links_heard();
	sysctl_is("/proc/sys/net/ipv6/conf/up9/accept_ra", '2');
	dataplane_close(world.dp);
	ok(dataplane_purge(world.pin_dir, err));
	sysctl_is("/proc/sys/net/ipv6/conf/all/forwarding", '0');
	sysctl_is("/proc/sys/net/ipv6/conf/up0/accept_ra", '1');
	sysctl_is("/proc/sys/net/ipv6/conf/up9/accept_ra", '1');
	o.direct_nets = direct;
	o.n_direct_nets = ARRAY_SIZE(direct);
	ok(dataplane_open(&o, &world.dp, err));
	pod_attach(&pod);
	expect_seen(OUTSIDE_IP6, NODE_IP6);
	close(ns);
	links_heard();
}

/* ---- a link that gets its address from a router ---- */

#define ROUTER_NET "2001:db8:9::"
#define ROUTER_IP6 "2001:db8:9::1"

/* The router says which net its link is. */
static void router_advertise(int router)
{
	struct {
		struct nd_router_advert ra;
		struct nd_opt_prefix_info net;
	} say = {
		.ra = { .nd_ra_hdr = { .icmp6_type = ND_ROUTER_ADVERT } },
		.net = { .nd_opt_pi_type = ND_OPT_PREFIX_INFORMATION,
			 .nd_opt_pi_len = sizeof(struct nd_opt_prefix_info) / 8,
			 .nd_opt_pi_prefix_len = 64,
			 .nd_opt_pi_flags_reserved = ND_OPT_PI_FLAG_ONLINK | ND_OPT_PI_FLAG_AUTO,
			 .nd_opt_pi_valid_time = htonl(3600),
			 .nd_opt_pi_preferred_time = htonl(3600) },
	};
	int fd = sock_in_domain(router, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), hops = 255;
	union any_addr all = any_of("ff02::1", 0);
	struct dp_addr net = ip(ROUTER_NET);

	memcpy(&say.net.nd_opt_pi_prefix, net.b, sizeof(net.b));
	all.v6.sin6_scope_id = (uint32_t)ifindex_in(router, "eth0");
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)), 0);
	(void)!sendto(fd, &say, sizeof(say), 0, &all.sa,
		      sizeof(all.v6)); /* the link may not be ready: it says it again */
	close(fd);
}

static bool link_has_programs(const char *name)
{
	uint32_t ifindex = if_nametoindex(name);
	struct k3c_link row;

	return bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &ifindex, &row) == 0 &&
	       (row.flags & K3C_LINK_HAS_PROGRAMS);
}

/* An uplink of IPv6 alone: nothing is done for its link-local address (every idle link has one), everything once a
 * router gave it another. */
static void test_advertised_address(void **state)
{
	int router = ns_new(), server, client;
	union any_addr peer;
	socklen_t len = sizeof(peer);
	char buf[8];

	nl_veth_to(router, "up8", "eth0");
	link_flag("up8", IFF_UP, true);
	link_setup(router, "eth0", ROUTER_IP6, 64);
	links_heard();
	assert_false(link_has_programs("up8"));
	for (int i = 0; i < WORLD_WAIT_MS / 100 && !link_has_programs("up8"); i++) {
		router_advertise(router);
		if (readable(dataplane_links_fd(world.dp), 100))
			ok(dataplane_links_process(world.dp, err));
	}
	assert_true(link_has_programs("up8"));
	server = server_in(router, SOCK_DGRAM, ROUTER_IP6, 53);
	assert_int_equal(client_in(pod.ns, SOCK_DGRAM, ROUTER_IP6, 53, &client), 0);
	assert_int_equal(send(client, "ask", 3, 0), 3);
	assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &peer.sa, &len), 3);
	assert_memory_equal(&peer.v6.sin6_addr, ip(ROUTER_NET).b, 8);
	assert_int_equal(sendto(server, "say", 3, 0, &peer.sa, len), 3);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	close(client);
	close(server);
	close(router);
	links_heard();
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_tun, setup, teardown),
		cmocka_unit_test_setup_teardown(test_address_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_down_and_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_address_on_lo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_local_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_direct_nets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_router_advertisements, setup, teardown),
		cmocka_unit_test_setup_teardown(test_advertised_address, setup, teardown),
	};
	struct dataplane_options o;
	int r;

	world_uplink();
	o = world_options();
	direct[0] = (struct dp_net){ ip("198.51.100.0"), 96 + 24 };
	direct[1] = (struct dp_net){ ip("2001:db8:51::"), 48 };
	direct[2] = (struct dp_net){ ip("::"), 8 }; /* around all of IPv4 as it is written, and none of it */
	o.direct_nets = direct;
	o.n_direct_nets = ARRAY_SIZE(direct);
	ok(dataplane_open(&o, &world.dp, err));
	r = cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
