/* SPDX-License-Identifier: Apache-2.0 */
/* A client outside that uses one port for two frontends of the same backend, both at once. */
#pragma once

#include "tests/dataplane/nat.h"

#define COLLISION_PORT 40000
#define COLLISION_FRONTENDS 2
#define COLLISION_ROUNDS 3

struct collision {
	const char *node, *outside, *pod, *any;
};

static const struct collision collisions[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, OUTSIDE_IP, "10.42.7.1", "0.0.0.0" },
	[DP_V6] = { NODE_IP6, OUTSIDE_IP6, "fd42::7:1", "::" },
};

static inline uint16_t collision_frontend(int i)
{
	return (uint16_t)(31000 + i);
}

/* Node ports that lead to the pod's `port`; on: they are made, else taken away. */
static inline void collision_services(const struct collision *c, uint8_t proto, uint16_t port, bool on)
{
	struct dp_backend b = { ip(c->pod), port };

	for (int i = 0; i < COLLISION_FRONTENDS; i++) {
		struct dp_service s = {
			.id = collision_frontend(i),
			.kind = DP_NODE_PORT,
			.proto = proto,
			.addr = ip(c->any),
			.port = collision_frontend(i),
			.backends = &b,
			.n_backends = 1,
		};

		if (on)
			ok(dataplane_service_set(world.dp, &s, err));
		else
			ok(dataplane_service_delete(world.dp, &s, err));
	}
}

/* All that led to the backend is forgotten. */
static inline void collision_forget(const struct collision *c, uint8_t proto, uint16_t port)
{
	struct dp_backend b = { ip(c->pod), port };

	ok(dataplane_backends_gone(world.dp, &b, 1, proto, err));
	for (int i = 0; i < WORLD_WAIT_MS / 10 && nat_services(); i++)
		usleep(10000);
	assert_int_equal(nat_services(), 0);
}

/* To the frontend, from the port that all clients have. */
static inline int collision_client(const struct collision *c, int type, int frontend)
{
	union any_addr from = any_of(c->outside, COLLISION_PORT), to = any_of(c->node, collision_frontend(frontend));
	int fd = sock_in_domain(world.outside, from.sa.sa_family, type, 0);
	struct linger reset = { .l_onoff = 1 };

	/* no TIME_WAIT: the next test has the same ports */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (bind(fd, &from.sa, any_len(&from)) < 0 || connect(fd, &to.sa, any_len(&to)) < 0)
		fail_msg("%s:%u: %s", c->node, any_port(&to), strerror(errno));
	return fd;
}

/* The first has the client's own port, the other one another. */
static inline void collision_judge(const struct collision *c, const union any_addr peer[static COLLISION_FRONTENDS])
{
	assert_true(any_is(&peer[0], c->outside, COLLISION_PORT));
	assert_true(any_is(&peer[1], c->outside, 0));
	assert_int_not_equal(any_port(&peer[1]), COLLISION_PORT);
}

static inline void collision_tcp(const struct collision *c, int pod_ns)
{
	int server = server_in(pod_ns, SOCK_STREAM, c->pod, 8080);
	int client[COLLISION_FRONTENDS], conn[COLLISION_FRONTENDS];
	union any_addr peer[COLLISION_FRONTENDS];
	static const char *const texts[] = { "first", "second" };

	collision_services(c, IPPROTO_TCP, 8080, true);
	for (int i = 0; i < COLLISION_FRONTENDS; i++) {
		client[i] = collision_client(c, SOCK_STREAM, i);
		conn[i] = accept_any(server, &peer[i]);
	}
	collision_judge(c, peer);
	for (int round = 0; round < COLLISION_ROUNDS; round++)
		for (int i = 0; i < COLLISION_FRONTENDS; i++) {
			pass_bytes(client[i], conn[i], texts[i]);
			pass_bytes(conn[i], client[i], texts[i]);
		}
	for (int i = 0; i < COLLISION_FRONTENDS; i++) {
		pass_bulk(client[i], conn[i]);
		pass_bulk(conn[i], client[i]);
	}
	/* the second goes on without the first */
	close(client[0]);
	assert_true(recv(conn[0], &(char){ 0 }, 1, 0) <= 0);
	pass_bytes(conn[1], client[1], "still there");
	close(client[1]);
	for (int i = 0; i < COLLISION_FRONTENDS; i++)
		close(conn[i]);
	close(server);
	collision_services(c, IPPROTO_TCP, 8080, false);
	collision_forget(c, IPPROTO_TCP, 8080);
}

static inline void collision_udp(const struct collision *c, int pod_ns)
{
	int server = server_in(pod_ns, SOCK_DGRAM, c->pod, 5353), client[COLLISION_FRONTENDS];
	union any_addr peer[COLLISION_FRONTENDS], from;
	char buf[16];

	collision_services(c, IPPROTO_UDP, 5353, true);
	for (int i = 0; i < COLLISION_FRONTENDS; i++)
		client[i] = collision_client(c, SOCK_DGRAM, i);
	for (int round = 0; round < COLLISION_ROUNDS; round++) {
		for (int i = 0; i < COLLISION_FRONTENDS; i++) {
			socklen_t len = sizeof(from);

			assert_int_equal(send(client[i], "ask", (size_t)round + 1, 0), round + 1); /* odd and even */
			assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &from.sa, &len), round + 1);
			if (round)
				assert_memory_equal(&from, &peer[i], len);
			peer[i] = from;
		}
		collision_judge(c, peer);
		/* the other way round, so that neither gets what is meant for the other */
		for (int i = COLLISION_FRONTENDS - 1; i >= 0; i--)
			assert_int_equal(sendto(server, &"01"[i], 1, 0, &peer[i].sa, any_len(&peer[i])), 1);
		for (int i = 0; i < COLLISION_FRONTENDS; i++) {
			assert_int_equal(recv(client[i], buf, sizeof(buf), 0), 1);
			assert_int_equal(buf[0], '0' + i);
		}
	}
	for (int i = 0; i < COLLISION_FRONTENDS; i++)
		close(client[i]);
	close(server);
	collision_services(c, IPPROTO_UDP, 5353, false);
	collision_forget(c, IPPROTO_UDP, 5353);
}
