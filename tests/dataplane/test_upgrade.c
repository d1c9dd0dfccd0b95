/* SPDX-License-Identifier: Apache-2.0 */
/* Builds come and go under traffic: other programs, other sizes of maps, layouts and pins that nobody here knows.
 * Established connections live on, new ones always find their own backend, what is denied never passes. */
#include "tests/dataplane/world.h"

#include <sys/resource.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <stdatomic.h>

#include "bpf/include/conn.h"

#define ROUNDS 10 /* each kind of change twice, unless K3C_UPGRADE_ROUNDS says otherwise */
#define SERVERS 2
#define CONNECTIONS_MAX 64
#define DENIED_PORT 9
#define SLOW_WAIT_MS 20000 /* behind WORLD_WAIT_MS */
/* Of connections: the tables are full all the time, mostly of what ended, and what goes on stays all the same. */
#define ENTRIES 4096
#define ENTRIES_MORE 6144

static int rounds = ROUNDS;

static struct test_pod client, servers[SERVERS], closed;
static atomic_bool stop, servers_stop; /* clients first */

/* ---- servers: a byte in, the server's own letter out ---- */

struct server {
	int listener;
	char letter;
	pthread_t thread;
};

static void *server_run(void *arg)
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

static bool ask(int fd, char *ret)
{
	return send(fd, "?", 1, MSG_NOSIGNAL) == 1 && recv(fd, ret, 1, 0) == 1;
}

/* One connection that lives through everything. */
static void *load_old(void *arg)
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
static int await_connected(int fd)
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
static void *load_new(void *arg)
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
static void *load_denied(void *arg)
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

static void write_objects(void)
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

/* ---- what another build leaves ---- */

/* A later build takes away what an orderly end leaves for older ones (legacy.c). */
static void drop_legacy(void)
{
	static const char *const names[] = { "k3c_endpoint", "k3c_netns", "k3c_link", "k3c_drop", "k3c_meta" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[300];

		snprintf(path, sizeof(path), "%s/maps/%s_v1", world.pin_dir, names[i]);
		assert_int_equal(unlink(path), 0);
	}
}

static void rename_layout(const char *dir, const char *name)
{
	char from[512], to[512];
	struct dirent *e;
	bool found = false;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while (!found && (e = readdir(d)))
		if (strncmp(e->d_name, name, strlen(name)) == 0 && strncmp(e->d_name + strlen(name), "_v", 2) == 0) {
			snprintf(from, sizeof(from), "%s/%s", dir, e->d_name);
			snprintf(to, sizeof(to), "%s/%s_v99", dir, name);
			assert_int_equal(rename(from, to), 0);
			found = true;
		}
	closedir(d);
	assert_true(found);
}

/* A map under a version that this build does not know. */
static void leave_other_layout(const char *name)
{
	char dir[200];

	drop_legacy();
	snprintf(dir, sizeof(dir), "%s/maps", world.pin_dir);
	rename_layout(dir, name);
	snprintf(dir, sizeof(dir), "%s/maps/own", world.pin_dir);
	rename_layout(dir, name);
}

static void leave_strangers(void)
{
	char path[300];
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "k3c_future", 4, 4, 1, NULL), program, link;
	int cgroup = open(world.cgroup, O_RDONLY | O_DIRECTORY);

	assert_true(map >= 0 && cgroup >= 0);
	snprintf(path, sizeof(path), "%s/maps/k3c_future_v1", world.pin_dir);
	assert_int_equal(bpf_obj_pin(map, path), 0);
	snprintf(path, sizeof(path), "%s/programs/sock_getpeer4", world.pin_dir);
	program = bpf_obj_get(path);
	assert_true(program >= 0);
	snprintf(path, sizeof(path), "%s/programs/future", world.pin_dir);
	assert_int_equal(bpf_obj_pin(program, path), 0);
	link = bpf_link_create(program, cgroup, BPF_CGROUP_INET4_GETPEERNAME, NULL);
	assert_true(link >= 0);
	snprintf(path, sizeof(path), "%s/links/future", world.pin_dir);
	assert_int_equal(bpf_obj_pin(link, path), 0);
	close(link);
	close(program);
	close(map);
	close(cgroup);
}

static void strangers_are_gone(void)
{
	static const char *const pins[] = { "maps/k3c_future_v1", "programs/future",       "links/future",
					    "maps/k3c_meta_v99",  "maps/k3c_endpoint_v99", "maps/k3c_service_v99" };
	int cgroup = open(world.cgroup, O_RDONLY | O_DIRECTORY);
	uint32_t ids[8], n = 8;

	for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
		char path[300];

		snprintf(path, sizeof(path), "%s/%s", world.pin_dir, pins[i]);
		assert_false(fs_exists(path));
	}
	assert_int_equal(bpf_prog_query(cgroup, BPF_CGROUP_INET4_GETPEERNAME, 0, NULL, ids, &n), 0);
	assert_int_equal(n, 1);
	close(cgroup);
}

static unsigned entries(enum dp_map m)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(world.dp->maps[m], &info, &len), 0);
	return info.max_entries;
}

static void change(int round, struct dataplane_options *o)
{
	switch (round % 5) {
	case 0: /* another build */
		o->service_nets[DP_V4].bits = (uint8_t)(96 + 16 + (round / 5) % 2);
		break;
	case 1:
		o->max_connections = round % 2 ? ENTRIES_MORE : ENTRIES;
		o->max_services = round % 2 ? 512 : 700;
		break;
	case 2:
		leave_strangers();
		break;
	case 3:
		leave_other_layout("k3c_meta");
		break;
	case 4:
		leave_other_layout(round % 2 ? "k3c_endpoint" : "k3c_service");
		break;
	}
}

static void route_outside(void)
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

static void report(const char *what, const struct load *l, size_t n)
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

static void test_back_and_forth(void **state)
{
	struct load old[ARRAY_SIZE(frontends)] = { { 0 } }, new[ARRAY_SIZE(frontends)] = { { 0 } }, denied = { 0 };
	struct dataplane_options o = world_options();
	struct server s[SERVERS];
	int sink;
	char byte;

	o.max_connections = ENTRIES;
	ok(dataplane_open(&o, &world.dp, err));
	route_outside();
	pod_make(&client, "up-client", "10.42.5.1", 0);
	pod_make(&servers[0], "up-a", "10.42.5.2", 0);
	pod_make(&servers[1], "up-b", "10.42.5.3", 0);
	snprintf(closed.addr, sizeof(closed.addr), "10.42.5.4");
	write_objects();
	pod_make(&closed, "up-closed", "10.42.5.4", 0);
	sink = server_in(closed.ns, SOCK_DGRAM, closed.addr, DENIED_PORT);
	/* On one processor twenty busy threads would leave the loader little of it; theirs inherit what is set here. */
	assert_int_equal(setpriority(PRIO_PROCESS, 0, 15), 0);
	for (int i = 0; i < SERVERS; i++) {
		s[i] = (struct server){ server_in(servers[i].ns, SOCK_STREAM, servers[i].addr, 80), (char)('A' + i) };
		pthread_create(&s[i].thread, NULL, server_run, &s[i]);
	}
	for (int i = 0; i < (int)ARRAY_SIZE(frontends); i++) {
		old[i].frontend = new[i].frontend = i;
		pthread_create(&old[i].thread, NULL, load_old, &old[i]);
		pthread_create(&new[i].thread, NULL, load_new, &new[i]);
	}
	pthread_create(&denied.thread, NULL, load_denied, &denied);
	assert_int_equal(setpriority(PRIO_PROCESS, 0, 0), 0);
	for (int round = 0; round < rounds; round++) {
		dataplane_close(world.dp);
		change(round, &o);
		ok(dataplane_open(&o, &world.dp, err));
		assert_int_equal(world.dp->unsettled, round % 5 >= 3);
		write_objects();
		strangers_are_gone();
		if (o.max_connections)
			assert_int_equal(entries(DP_MAP_CONN) + entries(DP_MAP_DATAGRAM), o.max_connections);
		if (o.max_services)
			assert_int_equal(entries(DP_MAP_SERVICE), o.max_services);
	}
	stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++) {
		pthread_join(old[i].thread, NULL);
		pthread_join(new[i].thread, NULL);
	}
	pthread_join(denied.thread, NULL);
	servers_stop = true;
	for (int i = 0; i < SERVERS; i++) {
		pthread_join(s[i].thread, NULL);
		close(s[i].listener);
	}
	report("established", old, ARRAY_SIZE(old));
	report("new", new, ARRAY_SIZE(new));
	print_message("denied: %u datagrams from a pod and from outside each\n", denied.rounds);
	assert_true(denied.rounds > 0);
	assert_true(recv(sink, &byte, 1, MSG_DONTWAIT) < 0);
	close(sink);
	pod_drop(&client);
	pod_drop(&servers[0]);
	pod_drop(&servers[1]);
	pod_drop(&closed);
	dataplane_close(world.dp);
}

/* Each kind of change once is enough where programs load slowly. */
static void rounds_of_environment(void)
{
	const char *text = getenv("K3C_UPGRADE_ROUNDS");

	if (text && atoi(text) > 0)
		rounds = atoi(text);
}

static int tests(void)
{
	const struct CMUnitTest all[] = { cmocka_unit_test(test_back_and_forth) };

	rounds_of_environment();
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
