/* SPDX-License-Identifier: Apache-2.0 */
/* SCTP of the host's own as raw sockets say and hear it, and what leads it to Services. */
#pragma once

#include "tests/dataplane/world.h"

#include <linux/pkt_sched.h>

#include "tests/dataplane/packet_sums.h"

#define CLIENT_PORT 40000
#define PORT 3868
#define POD_PORT 13868
#define NODE_PORT 30038
#define HEADER 12
#define INIT 1
#define INIT_ACK 2
#define ABORT 6
#define CHUNK_BYTES 44 /* of the chunk below */

struct family {
	const char *name;
	const char *cluster, *external, *node, *outside, *a, *b, *hidden;
};

static struct family families[DP_FAMILIES] = {
	[DP_V4] = { "IPv4", "10.43.0.50", "203.0.113.7", NODE_IP, OUTSIDE_IP, "10.42.9.1", "10.42.9.2", "10.43.0.0" },
	[DP_V6] = { "IPv6", "fd43::50", "2001:db8:e::7", NODE_IP6, OUTSIDE_IP6, "fd42::9:1", "fd42::9:2", "fd43::" },
};

static struct test_pod a, b;

static inline int setup(void **state)
{
	pod_make_dual(&a, "pod-a", families[DP_V4].a, families[DP_V6].a, 100);
	pod_make_dual(&b, "pod-b", families[DP_V4].b, families[DP_V6].b, 200);
	return 0;
}

static inline int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

static inline struct dp_service service(const char *addr, uint16_t port, uint8_t kind, struct dp_backend *to)
{
	return (struct dp_service){ .id = port,
				    .kind = kind,
				    .proto = IPPROTO_SCTP,
				    .port = port,
				    .addr = ip(addr),
				    .backends = to,
				    .n_backends = to ? 1 : 0 };
}

static inline bool has_sctp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* ---- raw packets ---- */

/* A kernel that knows SCTP answers what no socket of its own is for. */
static inline void alone(void)
{
	if (!has_sctp())
		return;
	print_message("the kernel's own SCTP would answer\n");
	skip();
}

struct heard {
	union any_addr from;
	uint16_t sport, dport;
	uint8_t bytes[256];
	size_t n;
};

static inline int raw_in(int ns, const struct family *f)
{
	return sock_in_domain(ns, text_is_v6(f->node) ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_SCTP);
}

/* A chunk that names two more addresses of its sender, as hosts with several do, and something else behind. */
static inline void say(int fd, const char *to, uint16_t sport, uint16_t dport, uint8_t chunk)
{
	uint8_t p[HEADER + 20 + CHUNK_BYTES - 20] = { 0 };
	uint8_t *params = p + HEADER + 20;
	union any_addr dst = any_of(to, 0);
	uint32_t crc;

	p[0] = (uint8_t)(sport >> 8), p[1] = (uint8_t)sport, p[2] = (uint8_t)(dport >> 8), p[3] = (uint8_t)dport;
	p[4] = chunk == INIT ? 0 : 0x11;
	p[HEADER] = chunk;
	p[HEADER + 3] = CHUNK_BYTES;
	memcpy(params, (uint8_t[]){ 0, 5, 0, 8, 10, 9, 8, 7, 0, 12, 0, 6, 0, 5, 0, 0, 0, 5, 0, 8, 10, 9, 8, 6 }, 24);
	crc = pt_crc32c(p, sizeof(p));
	p[8] = (uint8_t)crc, p[9] = (uint8_t)(crc >> 8), p[10] = (uint8_t)(crc >> 16), p[11] = (uint8_t)(crc >> 24);
	assert_int_equal(sendto(fd, p, sizeof(p), 0, &dst.sa, any_len(&dst)), sizeof(p));
}

static inline bool crc_is_right(struct heard *h)
{
	uint32_t have = (uint32_t)h->bytes[8] | (uint32_t)h->bytes[9] << 8 | (uint32_t)h->bytes[10] << 16 |
			(uint32_t)h->bytes[11] << 24;

	memset(h->bytes + 8, 0, 4);
	return pt_crc32c(h->bytes, h->n) == have;
}

/* What comes for that port. */
static inline void hear(int fd, uint16_t port, struct heard *ret)
{
	do {
		socklen_t len = sizeof(ret->from);
		ssize_t n = recvfrom(fd, ret->bytes, sizeof(ret->bytes), 0, &ret->from.sa, &len);
		size_t skip;

		if (n < 0)
			fail_msg("nothing came to port %u: %s", port, strerror(errno));
		skip = ret->from.sa.sa_family == AF_INET ? (size_t)(ret->bytes[0] & 15) * 4 : 0;
		assert_true((size_t)n > skip + HEADER);
		memmove(ret->bytes, ret->bytes + skip, (size_t)n - skip);
		ret->n = (size_t)n - skip;
		ret->sport = (uint16_t)(ret->bytes[0] << 8 | ret->bytes[1]);
		ret->dport = (uint16_t)(ret->bytes[2] << 8 | ret->bytes[3]);
	} while (ret->dport != port);
	assert_true(crc_is_right(ret));
}

static inline void expect_hidden(const struct heard *h)
{
	const uint8_t *params = h->bytes + HEADER + 20;

	assert_int_equal(h->n, HEADER + CHUNK_BYTES);
	assert_int_equal(params[0], 0x80);
	assert_int_equal(params[8], 0);
	assert_int_equal(params[16], 0x80);
}

static uint16_t next_port = CLIENT_PORT;

/* The host asks `addr`:`port`; who is at `at` hears it on `at_port`, of `seen`, and answers. */
static inline void expect_way(const struct family *f, const char *addr, uint16_t port, int at, uint16_t at_port,
			      const char *seen)
{
	int client = raw_in(world_host_ns(), f), server = raw_in(at, f);
	uint16_t own = next_port++;
	struct heard h;
	char peer[INET6_ADDRSTRLEN];

	say(client, addr, own, port, INIT);
	hear(server, at_port, &h);
	assert_true(any_is(&h.from, seen, 0));
	expect_hidden(&h);
	inet_ntop(h.from.sa.sa_family,
		  h.from.sa.sa_family == AF_INET ? (void *)&h.from.v4.sin_addr : (void *)&h.from.v6.sin6_addr, peer,
		  sizeof(peer));
	for (int i = 0; i < 3; i++) {
		struct heard back;

		say(server, peer, at_port, h.sport, i ? 3 : INIT_ACK);
		hear(client, own, &back);
		assert_true(any_is(&back.from, addr, 0));
		assert_int_equal(back.sport, port);
		if (!i)
			expect_hidden(&back);
		say(client, addr, own, port, 10);
		hear(server, at_port, &back);
		assert_int_equal(back.sport, h.sport);
	}
	close(client);
	close(server);
}

static inline void set(struct dp_service *s)
{
	ok(dataplane_service_set(world.dp, s, err));
}

static inline void unset(struct dp_service *s)
{
	ok(dataplane_service_delete(world.dp, s, err));
}

#define PAIR_NAME 14 /* letters; the other end has one more */

/* The end that packets are sent into; 0: none. */
static inline int pair(void)
{
	struct if_nameindex *all = if_nameindex();
	int found = 0;

	assert_non_null(all);
	for (struct if_nameindex *l = all; l->if_index; l++)
		if (strncmp(l->if_name, DP_LINK_PREFIX "own", 6) == 0 && strlen(l->if_name) == PAIR_NAME)
			found = (int)l->if_index;
	if_freenameindex(all);
	return found;
}

static inline int seen(const struct nlmsghdr *h, void *arg)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);

	if (t->tcm_ifindex == 1 && t->tcm_parent == TC_H_CLSACT)
		*(bool *)arg = true;
	return 0;
}

static inline bool lo_has_qdisc(void)
{
	struct nlmsghdr *h = nl_request(world.dp->nl, RTM_GETQDISC, NLM_F_DUMP);
	bool found = false;

	mnl_nlmsg_put_extra_header(h, sizeof(struct tcmsg));
	ok(nl_query(world.dp->nl, seen, &found, err));
	return found;
}

static inline uint32_t look_for(enum dp_drift_kind kind)
{
	struct dp_drift found = { 0 };

	ok(dataplane_drift(world.dp, &found, err));
	return found.n[kind];
}
