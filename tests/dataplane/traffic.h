/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic for tests of what must not disturb any: connections that live on, new ones one after the other, each of which
 * must find its own backend, and datagrams that no policy allows. */
#pragma once

#include "tests/dataplane/world.h"

#include <stdatomic.h>
#include <sys/resource.h>

#define SERVERS 2
#define CONNECTIONS_MAX 64
#define DENIED_PORT 9
#define SLOW_WAIT_MS 20000 /* behind WORLD_WAIT_MS */

static struct test_pod client, servers[SERVERS], closed;
static atomic_bool stop, servers_stop; /* clients first */

/* ---- servers: a byte in, the server's own letter out ---- */

struct server {
	int listener;
	char letter;
	pthread_t thread;
};

static inline void *server_run(void *arg)
{
	struct server *s = arg;
	struct pollfd fds[CONNECTIONS_MAX] = { { .fd = s->listener, .events = POLLIN } };
	nfds_t n = 1;

	while (!servers_stop) {
		if (poll(fds, n, 50) <= 0)
			continue;
		if ((fds[0].revents & POLLIN) && n < CONNECTIONS_MAX)
			fds[n++] = (struct pollfd){ .fd = accept(s->listener, NULL, NULL), .events = POLLIN };
		for (nfds_t i = 1; i < n; i++) {
			char byte;

			if (!(fds[i].revents & (POLLIN | POLLHUP | POLLERR)))
				continue;
			if (recv(fds[i].fd, &byte, 1, 0) == 1 && send(fds[i].fd, &s->letter, 1, MSG_NOSIGNAL) == 1)
				continue;
			close(fds[i].fd);
			fds[i--] = fds[--n];
		}
	}
	while (n > 1)
		close(fds[--n].fd);
	return NULL;
}

/* ---- clients ---- */

static const struct {
	const char *addr;
	uint16_t port;
	int server;
	bool outside; /* the client */
} frontends[] = {
	{ "10.43.0.1", 80, 0, false },
	{ "10.43.0.2", 80, 1, false },
	{ NODE_IP, 30081, 0, true },
	{ NODE_IP, 30082, 1, true },
};

struct load {
	int frontend;
	pthread_t thread;
	unsigned rounds, connections, wrong, broken, refused, slow;
	int why; /* of the last that was refused */
};

static inline bool ask(int fd, char *ret)
{
	return send(fd, "?", 1, MSG_NOSIGNAL) == 1 && recv(fd, ret, 1, 0) == 1;
}

/* One connection that lives through everything. */
static inline void *load_old(void *arg)
{
	struct load *l = arg;
	int fd, ns = frontends[l->frontend].outside ? world.outside : client.ns;
	char letter = 0;

	if (client_in(ns, SOCK_STREAM, frontends[l->frontend].addr, frontends[l->frontend].port, &fd) < 0)
		l->refused++;
	while (!stop && !l->broken && !l->refused) {
		if (!ask(fd, &letter))
			l->broken++;
		else if (letter != 'A' + frontends[l->frontend].server)
			l->wrong++;
		l->rounds++;
	}
	close(fd);
	return NULL;
}

/* A handshake's packet that was dropped between two builds comes again after one second, then two, then four. */
static inline int await_connected(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int error = 0;

	if (poll(&p, 1, SLOW_WAIT_MS) != 1)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return -error;
}

/* And one after the other. */
static inline void *load_new(void *arg)
{
	struct load *l = arg;
	int ns = frontends[l->frontend].outside ? world.outside : client.ns;

	while (!stop) {
		struct linger now = { .l_onoff = 1 }; /* reset: no ports kept in TIME_WAIT */
		char letter = 0;
		int fd, r;

		r = client_in(ns, SOCK_STREAM, frontends[l->frontend].addr, frontends[l->frontend].port, &fd);
		if (r == -EINPROGRESS) {
			l->slow++;
			r = await_connected(fd);
		}

		if (r < 0) {
			l->refused++;
			l->why = r;
		} else if (!ask(fd, &letter)) {
			l->broken++;
		} else if (letter != 'A' + frontends[l->frontend].server) {
			l->wrong++;
		}
		l->connections++;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(fd);
	}
	return NULL;
}

/* What no policy allows, from a pod and from outside. */
static inline void *load_denied(void *arg)
{
	struct load *l = arg;
	struct sockaddr_in to = sin_of(closed.addr, DENIED_PORT);
	int fds[2] = { sock_in(client.ns, SOCK_DGRAM), sock_in(world.outside, SOCK_DGRAM) };
	struct timespec pause = { .tv_nsec = 200000 };

	while (!stop) {
		for (int i = 0; i < 2; i++)
			(void)sendto(fds[i], "x", 1, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
		l->rounds++;
		nanosleep(&pause, NULL);
	}
	close(fds[0]);
	close(fds[1]);
	return NULL;
}

/* ---- what the objects say: written after every start, as a server does ---- */

static inline void write_objects(void)
{
	struct dp_policy denied = { .pod = ip(closed.addr), .isolated_ingress = true };
	struct dp_policy_rule rule = { .direction = DP_INGRESS, .proto = IPPROTO_TCP, .port = 80 };
	struct dp_backend backends[SERVERS];

	rule.prefix = ip("0.0.0.0");
	rule.prefix_len = 96;
	ok(dataplane_policy_set(world.dp, &denied, err));
	for (int i = 0; i < SERVERS; i++) {
		struct dp_policy open = { .pod = ip(servers[i].addr),
					  .isolated_ingress = true,
					  .isolated_egress = true,
					  .rules = &rule,
					  .n_rules = 1 };

		ok(dataplane_policy_set(world.dp, &open, err));
		backends[i] = (struct dp_backend){ ip(servers[i].addr), 80 };
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(frontends); i++) {
		struct dp_service s = { .id = i + 1,
					.kind = frontends[i].outside ? DP_NODE_PORT : DP_CLUSTER_IP,
					.proto = IPPROTO_TCP,
					.port = frontends[i].port,
					.addr = ip(frontends[i].outside ? "0.0.0.0" : frontends[i].addr),
					.backends = &backends[frontends[i].server],
					.n_backends = 1 };

		ok(dataplane_service_set(world.dp, &s, err));
	}
	ok(dataplane_settle(world.dp, err));
	assert_false(world.dp->unsettled);
}

static inline void route_outside(void)
{
	struct nl_route r = { .family = AF_INET,
			      .bits = 16,
			      .type = RTN_UNICAST,
			      .scope = RT_SCOPE_UNIVERSE,
			      .ifindex = ifindex_in(world.outside, "eth0") };
	struct dp_addr dst = ip("10.42.0.0"), via = ip(NODE_IP);
	struct nl *nl;
	int fd;

	r.dst = dp_addr_in(&dst);
	r.gateway = dp_addr_in(&via);
	assert_int_equal(netns_socket(world.outside, NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_route(nl, RTM_NEWROUTE, &r, EEXIST);
	ok(nl_commit(nl, err));
	nl_close(nl);
}

static inline void report(const char *what, const struct load *l, size_t n)
{
	struct load sum = { 0 };

	for (size_t i = 0; i < n; i++) {
		sum.rounds += l[i].rounds;
		sum.connections += l[i].connections;
		sum.wrong += l[i].wrong;
		sum.broken += l[i].broken;
		sum.refused += l[i].refused;
		sum.slow += l[i].slow;
		assert_true(l[i].rounds + l[i].connections > 0);
	}
	print_message("%s: %u questions, %u connections, %u wrong backends, %u broken, %u refused, %u slow\n", what,
		      sum.rounds, sum.connections, sum.wrong, sum.broken, sum.refused, sum.slow);
	for (size_t i = 0; i < n; i++)
		if (l[i].wrong + l[i].refused + l[i].broken)
			print_error("%s:%u: %u wrong, %u broken, %u refused (%s)\n", frontends[l[i].frontend].addr,
				    frontends[l[i].frontend].port, l[i].wrong, l[i].broken, l[i].refused,
				    strerror(-l[i].why));
	assert_int_equal(sum.wrong + sum.refused + sum.broken, 0);
}

struct traffic {
	struct load old[ARRAY_SIZE(frontends)], new[ARRAY_SIZE(frontends)], denied;
	struct server servers[SERVERS];
	int sink;
};

/* With world.dp open. */
static inline void traffic_begin(struct traffic *t)
{
	memset(t, 0, sizeof(*t));
	stop = servers_stop = false;
	route_outside();
	pod_make(&client, "up-client", "10.42.5.1", 0);
	pod_make(&servers[0], "up-a", "10.42.5.2", 0);
	pod_make(&servers[1], "up-b", "10.42.5.3", 0);
	snprintf(closed.addr, sizeof(closed.addr), "10.42.5.4");
	write_objects();
	pod_make(&closed, "up-closed", "10.42.5.4", 0);
	t->sink = server_in(closed.ns, SOCK_DGRAM, closed.addr, DENIED_PORT);
	/* On one processor twenty busy threads would leave the loader little of it; theirs inherit what is set here. */
	assert_int_equal(setpriority(PRIO_PROCESS, 0, 15), 0);
	for (int i = 0; i < SERVERS; i++) {
		t->servers[i] =
			(struct server){ server_in(servers[i].ns, SOCK_STREAM, servers[i].addr, 80), (char)('A' + i) };
		pthread_create(&t->servers[i].thread, NULL, server_run, &t->servers[i]);
	}
	for (int i = 0; i < (int)ARRAY_SIZE(frontends); i++) {
		t->old[i].frontend = t->new[i].frontend = i;
		pthread_create(&t->old[i].thread, NULL, load_old, &t->old[i]);
		pthread_create(&t->new[i].thread, NULL, load_new, &t->new[i]);
	}
	pthread_create(&t->denied.thread, NULL, load_denied, &t->denied);
	assert_int_equal(setpriority(PRIO_PROCESS, 0, 0), 0);
}

/* Nothing was lost; world.dp is open. */
static inline void traffic_end(struct traffic *t)
{
	char byte;

	stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++) {
		pthread_join(t->old[i].thread, NULL);
		pthread_join(t->new[i].thread, NULL);
	}
	pthread_join(t->denied.thread, NULL);
	servers_stop = true;
	for (int i = 0; i < SERVERS; i++) {
		pthread_join(t->servers[i].thread, NULL);
		close(t->servers[i].listener);
	}
	report("established", t->old, ARRAY_SIZE(t->old));
	report("new", t->new, ARRAY_SIZE(t->new));
	print_message("denied: %u datagrams from a pod and from outside each\n", t->denied.rounds);
	assert_true(t->denied.rounds > 0);
	assert_true(recv(t->sink, &byte, 1, MSG_DONTWAIT) < 0);
	close(t->sink);
	pod_drop(&client);
	pod_drop(&servers[0]);
	pod_drop(&servers[1]);
	pod_drop(&closed);
}
