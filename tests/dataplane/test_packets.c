/* SPDX-License-Identifier: Apache-2.0 */
/* Single packets through single programs (BPF_PROG_TEST_RUN), from a table: verdict and reason. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>

static struct test_pod a, b;

struct packet_case {
	const char *name;
	enum dp_program program;
	const char *src, *dst;
	uint8_t proto;
	uint16_t sport, dport;
	uint16_t frag;      /* as in the IP header, host order */
	uint16_t ethertype; /* 0: IPv4 */
	uint8_t ihl;        /* 0: 5 */
	size_t cut;         /* bytes taken off the end */
	bool on_b;          /* the link is b's, else a's */
	bool forwarded;     /* came in over another link */
	int verdict;
	const char *reason; /* NULL: nothing is counted */
};

static const struct packet_case cases[] = {
	{ "pod to pod", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, 1, 2, .verdict = TC_ACT_REDIRECT },
	{ "pod to the world", DP_PROGRAM_POD_OUT, "10.42.4.1", "192.0.2.9", IPPROTO_UDP, 1, 2, .verdict = TC_ACT_OK },
	{ "another pod's source", DP_PROGRAM_POD_OUT, "10.42.4.2", "10.42.4.1", IPPROTO_UDP, 1, 2,
	  .verdict = TC_ACT_SHOT, .reason = "spoofed-source" },
	{ "the node's source", DP_PROGRAM_POD_OUT, NODE_IP, "10.42.4.2", IPPROTO_UDP, 1, 2, .verdict = TC_ACT_SHOT,
	  .reason = "spoofed-source" },
	{ "right source, wrong link", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, 1, 2, .on_b = true,
	  .verdict = TC_ACT_SHOT, .reason = "spoofed-source" },
	{ "later fragment, no policy", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, 1, 2, .frag = 100,
	  .verdict = TC_ACT_REDIRECT },
	{ "an IP header too short", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, 1, 2, .ihl = 4,
	  .verdict = TC_ACT_SHOT, .reason = "malformed" },
	{ "half a UDP header", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, 1, 2, .cut = 6,
	  .verdict = TC_ACT_SHOT, .reason = "malformed" },
	{ "ARP", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, .ethertype = ETHERTYPE_ARP,
	  .verdict = TC_ACT_SHOT },
	{ "IPv6", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, .ethertype = ETHERTYPE_IPV6,
	  .verdict = TC_ACT_SHOT, .reason = "unsupported-protocol" },
	{ "from the host", DP_PROGRAM_POD_IN, NODE_IP, "10.42.4.1", IPPROTO_UDP, 1, 2, .verdict = TC_ACT_OK },
	{ "from outside", DP_PROGRAM_POD_IN, "192.0.2.9", "10.42.4.1", IPPROTO_UDP, 1, 2, .forwarded = true,
	  .verdict = TC_ACT_OK },
	{ "a pod's address from outside", DP_PROGRAM_POD_IN, "10.42.4.2", "10.42.4.1", IPPROTO_UDP, 1, 2,
	  .forwarded = true, .verdict = TC_ACT_SHOT, .reason = "spoofed-source" },
	{ "a pod's address on the uplink", DP_PROGRAM_HOST_IN, "10.42.4.2", NODE_IP, IPPROTO_UDP, 1, 2,
	  .verdict = TC_ACT_SHOT, .reason = "spoofed-source" },
	{ "for the host itself", DP_PROGRAM_HOST_IN, "192.0.2.9", NODE_IP, IPPROTO_UDP, 1, 2, .verdict = TC_ACT_OK },
	{ "broken, and no business of ours", DP_PROGRAM_HOST_IN, "192.0.2.9", NODE_IP, IPPROTO_UDP, 1, 2, .cut = 6,
	  .verdict = TC_ACT_OK },
	{ "of the host itself", DP_PROGRAM_HOST_OUT, NODE_IP, "192.0.2.9", IPPROTO_UDP, 1, 2, .verdict = TC_ACT_OK },
};

static uint16_t ip_sum(const void *data, size_t n)
{
	const uint16_t *w = data;
	uint32_t sum = 0;

	for (; n > 1; n -= 2)
		sum += *w++;
	while (sum >> 16)
		sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)~sum;
}

/* Two bytes in, so that what follows the Ethernet header is aligned. */
struct frame {
	_Alignas(4) uint8_t raw[2 + 254];
};

static uint8_t *frame_bytes(struct frame *f)
{
	return f->raw + 2;
}

static size_t build(const struct packet_case *c, struct frame *frame)
{
	uint8_t *buf = frame_bytes(frame);
	struct ether_header *eth = (void *)buf;
	struct iphdr *iph = (void *)(buf + sizeof(*eth));
	struct udphdr *udp = (void *)(buf + sizeof(*eth) + sizeof(*iph));
	size_t n = sizeof(*eth) + sizeof(*iph) + sizeof(*udp);

	memset(frame, 0, sizeof(*frame));
	eth->ether_type = htons(c->ethertype ? c->ethertype : ETHERTYPE_IP);
	iph->version = 4;
	iph->ihl = (c->ihl ? c->ihl : 5) & 15;
	iph->ttl = 64;
	iph->tot_len = htons((uint16_t)(n - sizeof(*eth)));
	iph->frag_off = htons(c->frag);
	iph->protocol = c->proto;
	inet_pton(AF_INET, c->src, &iph->saddr);
	inet_pton(AF_INET, c->dst, &iph->daddr);
	iph->check = ip_sum(iph, sizeof(*iph));
	udp->source = htons(c->sport);
	udp->dest = htons(c->dport);
	udp->len = htons(sizeof(*udp));
	return (c->ethertype ? 64 : n) - c->cut; /* the test run wants whole headers of what it knows */
}

static int run(const struct packet_case *c, uint8_t *out, uint32_t *out_len)
{
	struct frame frame;
	uint8_t *buf = frame_bytes(&frame);
	size_t n = build(c, &frame);
	struct __sk_buff ctx = { .ifindex = (uint32_t)(c->on_b ? b.ifindex : a.ifindex),
				 .ingress_ifindex = c->forwarded ? 1 : 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = buf, .data_size_in = (uint32_t)n, .data_out = out,
		    .data_size_out = out ? *out_len : 0, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	if (c->program == DP_PROGRAM_HOST_IN || c->program == DP_PROGRAM_HOST_OUT)
		ctx.ifindex = if_nametoindex("up0");
	if (bpf_prog_test_run_opts(world.dp->programs[c->program], &opts) < 0)
		fail_msg("%s: test run: %s", c->name, strerror(errno));
	if (out)
		*out_len = opts.data_size_out;
	return (int)opts.retval;
}

static uint64_t all_drops(void)
{
	struct dp_drop d[32];
	uint64_t sum = 0;
	size_t n;

	ok(dataplane_drops(world.dp, d, 32, &n, err));
	for (size_t i = 0; i < n; i++)
		sum += d[i].packets;
	return sum;
}

static void test_table(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct packet_case *c = &cases[i];
		uint64_t all = all_drops(), before = c->reason ? drops(c->reason) : 0;
		int verdict = run(c, NULL, NULL);

		if (verdict != c->verdict)
			fail_msg("%s: verdict %d, not %d", c->name, verdict, c->verdict);
		if (all_drops() != all + (c->reason != NULL) || (c->reason && drops(c->reason) != before + 1))
			fail_msg("%s: not counted as %s", c->name, c->reason ? c->reason : "nothing");
	}
}

/* A masqueraded datagram is whole: addresses, port range, both checksums. */
static void test_masquerade_bytes(void **state)
{
	struct packet_case c = { "masquerade", DP_PROGRAM_HOST_OUT, "10.42.4.1", "192.0.2.9", IPPROTO_UDP, 1000, 53 };
	struct packet_case answer = { "answer", DP_PROGRAM_HOST_IN, "192.0.2.9", NODE_IP, IPPROTO_UDP, 53, 0 };
	struct frame frame;
	uint8_t *out = frame_bytes(&frame);
	uint32_t len = sizeof(frame) - 2;
	struct iphdr *iph = (void *)(out + sizeof(struct ether_header));
	struct udphdr *udp = (void *)(iph + 1);
	struct sockaddr_in node = sin_of(NODE_IP, 0), pod = sin_of("10.42.4.1", 0);
	uint16_t port;

	assert_int_equal(run(&c, out, &len), TC_ACT_OK);
	assert_int_equal(iph->saddr, node.sin_addr.s_addr);
	assert_int_equal(ip_sum(iph, sizeof(*iph)), 0);
	assert_true(ntohs(udp->source) >= 61001);
	assert_int_equal(udp->check, 0); /* none was there, none is made up */
	port = udp->source;
	len = sizeof(frame) - 2;
	assert_int_equal(run(&c, out, &len), TC_ACT_OK);
	assert_int_equal(udp->source, port); /* one flow, one port */
	answer.dport = ntohs(port);
	len = sizeof(frame) - 2;
	assert_int_equal(run(&answer, out, &len), TC_ACT_OK);
	assert_int_equal(iph->daddr, pod.sin_addr.s_addr);
	assert_int_equal(udp->dest, htons(1000));
	assert_int_equal(ip_sum(iph, sizeof(*iph)), 0);
}

static void test_policy_at_packets(void **state)
{
	struct packet_case c = { "tcp", DP_PROGRAM_POD_OUT, "10.42.4.1", "10.42.4.2", IPPROTO_UDP, 1000, 53 };
	struct packet_case answer = { "answer", DP_PROGRAM_POD_OUT, "10.42.4.2", "10.42.4.1", IPPROTO_UDP, 53,
				      1000,     .on_b = true };
	struct dp_policy_rule in = { .direction = DP_INGRESS,
				     .proto = IPPROTO_UDP,
				     .port = 50,
				     .end_port = 60,
				     .prefix = ip("10.42.4.1"),
				     .prefix_len = 128 };
	struct dp_policy p = {
		.pod = ip("10.42.4.2"), .isolated_ingress = true, .isolated_egress = true, .rules = &in, .n_rules = 1
	};
	uint64_t before = drops("fragment");

	ok(dataplane_policy_set(world.dp, &p, err));
	assert_int_equal(run(&answer, NULL, NULL), TC_ACT_SHOT); /* nobody asked */
	assert_int_equal(run(&c, NULL, NULL), TC_ACT_REDIRECT);
	assert_int_equal(run(&answer, NULL, NULL), TC_ACT_REDIRECT);
	c.dport = 61;
	assert_int_equal(run(&c, NULL, NULL), TC_ACT_SHOT);
	c.dport = 60;
	assert_int_equal(run(&c, NULL, NULL), TC_ACT_REDIRECT);
	c.frag = 100;
	assert_int_equal(run(&c, NULL, NULL), TC_ACT_SHOT);
	assert_int_equal(drops("fragment"), before + 1);
	ok(dataplane_policy_delete(world.dp, &p.pod, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_masquerade_bytes),
		cmocka_unit_test(test_policy_at_packets),
	};
	int r;

	world_uplink();
	world_open();
	pod_make(&a, "packet-a", "10.42.4.1", 0);
	pod_make(&b, "packet-b", "10.42.4.2", 0);
	r = cmocka_run_group_tests(all, NULL, NULL);
	pod_drop(&a);
	pod_drop(&b);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
