/* SPDX-License-Identifier: Apache-2.0 */
/* For both families. Who may use a frontend, and which backends they get: outsiders by their own choice
 * (externalTrafficPolicy), source ranges, host ports, namespaces that are nobody's, session affinity, and ports that
 * nobody may bind. */
#include "tests/dataplane/rounds.h"
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>

#include "bpf/include/service.h"

#define BACKENDS 2
#define PORT 8080

struct family {
	const char *node, *outside, *elsewhere, *any, *loopback, *service, *client, *pods[BACKENDS], *pod_net;
	uint8_t pod_bits;
};

static const struct family families[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP,
		    OUTSIDE_IP,
		    "172.30.0.128",
		    "0.0.0.0",
		    "127.0.0.1",
		    "10.43.0.30",
		    "10.42.1.1",
		    { "10.42.1.10", "10.42.1.11" },
		    "10.42.0.0",
		    96 + 16 },
	[DP_V6] = { NODE_IP6,
		    OUTSIDE_IP6,
		    "fd30::80",
		    "::",
		    "::1",
		    "fd43::30",
		    "fd42::1:1",
		    { "fd42::1:10", "fd42::1:11" },
		    "fd42::",
		    64 },
};

static const struct family *f;
static struct test_pod client_pod, pods[BACKENDS];
static int tcp[BACKENDS];

static void make_pod(struct test_pod *p, const char *key, const char *addr)
{
	pod_make_dual(p, key, text_is_v6(addr) ? NULL : addr, text_is_v6(addr) ? addr : NULL, 0);
}

static int setup(void **state)
{
	make_pod(&client_pod, "client", f->client);
	for (int i = 0; i < BACKENDS; i++) {
		char key[16];

		snprintf(key, sizeof(key), "backend-%d", i);
		make_pod(&pods[i], key, f->pods[i]);
		tcp[i] = server_in(pods[i].ns, SOCK_STREAM, f->pods[i], PORT);
	}
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < BACKENDS; i++) {
		close(tcp[i]);
		pod_drop(&pods[i]);
	}
	pod_drop(&client_pod);
	return 0;
}

static struct dp_backend backend(int i)
{
	return (struct dp_backend){ ip(f->pods[i]), PORT };
}

static struct dp_service frontend(uint8_t kind, const char *addr, uint16_t port, const struct dp_backend *b, size_t n)
{
	return (struct dp_service){ .id = port,
				    .kind = kind,
				    .proto = IPPROTO_TCP,
				    .addr = ip(addr),
				    .port = port,
				    .backends = b,
				    .n_backends = n };
}

/* Which backend the connection reached; -errno when connect() failed. */
static int reach(int ns, const char *addr, uint16_t port)
{
	struct pollfd p[BACKENDS];
	int client, conn, which = -1, r = client_in(ns, SOCK_STREAM, addr, port, &client);

	if (r < 0) {
		close(client);
		return r;
	}
	for (int i = 0; i < BACKENDS; i++)
		p[i] = (struct pollfd){ .fd = tcp[i], .events = POLLIN };
	assert_int_equal(poll(p, BACKENDS, WORLD_WAIT_MS), 1);
	for (int i = 0; i < BACKENDS; i++)
		if (p[i].revents)
			which = i;
	conn = accept_from(tcp[which], NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	return which;
}

/* The first packet is dropped for that reason. */
static void unheard(int ns, const char *addr, uint16_t port, const char *reason)
{
	union any_addr to = any_of(addr, port);
	uint64_t before = drops(reason);
	int fd = sock_in_domain(ns, to.sa.sa_family, SOCK_STREAM, 0);

	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(fd, &to.sa, any_len(&to)), -1);
	assert_int_equal(errno, EINPROGRESS);
	await_drop(reason, before);
	close(fd);
}

static void test_outside_differs(void **state)
{
	struct dp_backend in = backend(0), out = backend(1);
	struct dp_service s = frontend(DP_NODE_PORT, f->any, 30080, &in, 1);

	s.outside_differs = true;
	s.outside = &out;
	s.n_outside = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(reach(world.outside, f->node, 30080), 1);
		assert_int_equal(reach(client_pod.ns, f->node, 30080), 0);
		assert_int_equal(reach(world_host_ns(), f->node, 30080), 0);
	}
	s.n_outside = 0;
	ok(dataplane_service_set(world.dp, &s, err));
	unheard(world.outside, f->node, 30080, "no-service-backend");
	assert_int_equal(reach(client_pod.ns, f->node, 30080), 0);
	/* alike again: refused by the stack where there is none at all */
	s.outside_differs = false;
	s.n_backends = 0;
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(reach(world.outside, f->node, 30080), -ECONNREFUSED);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static void test_sources(void **state)
{
	struct dp_backend b = backend(0);
	struct dp_service s = frontend(DP_LOAD_BALANCER, f->node, 443, &b, 1);
	struct dp_net ranges[] = { { ip(f->outside), 128 }, { ip(f->client), 128 }, { ip(f->client), 128 } };

	s.sources = ranges;
	s.n_sources = 3;
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(reach(world.outside, f->node, 443), 0);
	assert_int_equal(reach(client_pod.ns, f->node, 443), 0);
	assert_int_equal(reach(world_host_ns(), f->node, 443), 0);
	assert_int_equal(reach(pods[1].ns, f->node, 443), -EPERM);
	ranges[0] = (struct dp_net){ ip(f->elsewhere), 121 };
	ranges[1] = ranges[2] = (struct dp_net){ ip(f->pods[0]), 127 };
	ok(dataplane_service_set(world.dp, &s, err));
	unheard(world.outside, f->node, 443, "source-range");
	assert_int_equal(reach(client_pod.ns, f->node, 443), -EPERM);
	assert_int_equal(reach(pods[1].ns, f->node, 443), 0);
	assert_int_equal(reach(world_host_ns(), f->node, 443), 0);
	s.n_sources = 0;
	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(reach(world.outside, f->node, 443), 0);
	assert_int_equal(reach(client_pod.ns, f->node, 443), 0);
	ok(dataplane_service_delete(world.dp, &s, err));
}

struct flipper {
	_Atomic bool stop;
	unsigned updates;
};

static void *flip_sources(void *arg)
{
	struct dp_backend b[] = { backend(0), backend(1) };
	struct dp_net ranges[] = { { ip(f->pod_net), f->pod_bits }, { ip(f->outside), 120 } };
	struct flipper *flipper = arg;

	while (!flipper->stop) {
		struct dp_service s = frontend(DP_LOAD_BALANCER, f->node, 443, b, 1 + flipper->updates / 2 % 2);

		s.sources = ranges;
		s.n_sources = 1 + flipper->updates % 2;
		if (dataplane_service_set(world.dp, &s, NULL) < 0)
			break;
		flipper->updates++;
	}
	return NULL;
}

/* Whoever is in the old ranges and in the new ones is never turned away between the two. */
static void test_sources_under_load(void **state)
{
	struct dp_backend b[] = { backend(0), backend(1) };
	struct dp_service s = frontend(DP_LOAD_BALANCER, f->node, 443, b, 2);
	struct dp_map_info maps[40];
	struct flipper flipper = { 0 };
	pthread_t thread;
	size_t n;

	ok(dataplane_service_set(world.dp, &s, err));
	pthread_create(&thread, NULL, flip_sources, &flipper);
	for (int i = rounds_wanted("K3C_LOAD_CONNECTS", 500); i > 0; i--)
		assert_true(reach(client_pod.ns, f->node, 443) >= 0);
	flipper.stop = true;
	pthread_join(thread, NULL);
	assert_true(flipper.updates > 10);
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_maps(world.dp, maps, ARRAY_SIZE(maps), &n, err));
	for (size_t i = 0; i < n; i++)
		if (strcmp(maps[i].name, "k3c_source") == 0 || strcmp(maps[i].name, "k3c_backend") == 0)
			assert_int_equal(maps[i].entries, 0);
}

static void test_host_port(void **state)
{
	struct dp_backend b0 = backend(0), b1 = backend(1);
	struct dp_service any = frontend(DP_HOST_PORT, f->any, 8081, &b0, 1);
	struct dp_service one = frontend(DP_HOST_PORT, f->node, 8082, &b1, 1);
	struct dp_service local = frontend(DP_HOST_PORT, f->loopback, 8083, &b1, 1);
	int own = server_in(client_pod.ns, SOCK_STREAM, f->loopback, 8083), fd;

	ok(dataplane_service_set(world.dp, &any, err));
	ok(dataplane_service_set(world.dp, &one, err));
	ok(dataplane_service_set(world.dp, &local, err));
	assert_int_equal(reach(world.outside, f->node, 8081), 0);
	assert_int_equal(reach(world_host_ns(), f->loopback, 8081), 0);
	assert_int_equal(reach(client_pod.ns, f->node, 8081), 0);
	assert_int_equal(reach(world.outside, f->node, 8082), 1);
	assert_int_equal(reach(world_host_ns(), f->loopback, 8082), -ECONNREFUSED);
	assert_int_equal(reach(world_host_ns(), f->loopback, 8083), 1);
	assert_int_equal(reach(world.outside, f->node, 8083), -ECONNREFUSED);
	/* a pod's loopback is its own */
	assert_int_equal(client_in(client_pod.ns, SOCK_STREAM, f->loopback, 8083, &fd), 0);
	close(accept_any(own, NULL));
	close(fd);
	close(own);
	ok(dataplane_service_delete(world.dp, &any, err));
	ok(dataplane_service_delete(world.dp, &one, err));
	ok(dataplane_service_delete(world.dp, &local, err));
}

/* Sockets of a namespace that is neither the host's nor a pod's: the world comes in over a link. */
static void test_foreign_namespace(void **state)
{
	struct dp_backend b = backend(0);
	struct dp_service s = frontend(DP_EXTERNAL, f->node, 8084, &b, 1);
	union any_addr peer;
	int client, conn;

	ok(dataplane_service_set(world.dp, &s, err));
	assert_int_equal(client_in(world.outside, SOCK_STREAM, f->node, 8084, &client), 0);
	conn = accept_any(tcp[0], &peer);
	assert_true(any_is(&peer, f->outside, 0));
	close(conn);
	close(client);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int bind_in(int ns, int domain, int type, const char *addr, uint16_t port)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = sock_in_domain(ns, domain, type, 0), r;

	if (domain == AF_INET) {
		assert_int_equal(inet_pton(AF_INET, addr, &s4.sin_addr), 1);
		r = bind(fd, (struct sockaddr *)&s4, sizeof(s4));
	} else {
		assert_int_equal(inet_pton(AF_INET6, addr, &s6.sin6_addr), 1);
		r = bind(fd, (struct sockaddr *)&s6, sizeof(s6));
	}
	r = r < 0 ? -errno : 0;
	close(fd);
	return r;
}

static void test_reserved_ports(void **state)
{
	struct dp_service s = frontend(DP_NODE_PORT, "0.0.0.0", 30090, NULL, 0);
	struct dp_service s6 = { .id = 1, .kind = DP_NODE_PORT, .proto = IPPROTO_UDP, .port = 30091 };
	struct dp_service host_port = frontend(DP_HOST_PORT, "0.0.0.0", 30092, NULL, 0);
	int host = world_host_ns();

	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_service_set(world.dp, &s6, err));
	ok(dataplane_service_set(world.dp, &host_port, err));
	assert_int_equal(bind_in(host, AF_INET, SOCK_STREAM, "0.0.0.0", 30090), -EADDRINUSE);
	assert_int_equal(bind_in(host, AF_INET, SOCK_STREAM, "127.0.0.1", 30090), -EADDRINUSE);
	assert_int_equal(bind_in(host, AF_INET6, SOCK_STREAM, "::", 30090), -EADDRINUSE);
	assert_int_equal(bind_in(host, AF_INET6, SOCK_STREAM, "::ffff:127.0.0.1", 30090), -EADDRINUSE);
	assert_int_equal(bind_in(host, AF_INET6, SOCK_STREAM, "::1", 30090), 0);
	assert_int_equal(bind_in(host, AF_INET, SOCK_DGRAM, "0.0.0.0", 30090), 0);
	assert_int_equal(bind_in(host, AF_INET6, SOCK_DGRAM, "::", 30091), -EADDRINUSE);
	assert_int_equal(bind_in(host, AF_INET6, SOCK_DGRAM, "::1", 30091), -EADDRINUSE);
	assert_int_equal(bind_in(host, AF_INET, SOCK_DGRAM, "0.0.0.0", 30091), 0);
	assert_int_equal(bind_in(host, AF_INET6, SOCK_DGRAM, "::ffff:127.0.0.1", 30091), 0);
	assert_int_equal(bind_in(host, AF_INET, SOCK_STREAM, "0.0.0.0", 30092), 0);
	assert_int_equal(bind_in(host, AF_INET, SOCK_STREAM, "0.0.0.0", 0), 0);
	/* in a pod, and in any other namespace, it is a port like others */
	assert_int_equal(bind_in(client_pod.ns, AF_INET, SOCK_STREAM, "0.0.0.0", 30090), 0);
	assert_int_equal(bind_in(world.outside, AF_INET, SOCK_STREAM, "0.0.0.0", 30090), 0);
	ok(dataplane_service_delete(world.dp, &s, err));
	ok(dataplane_service_delete(world.dp, &s6, err));
	ok(dataplane_service_delete(world.dp, &host_port, err));
	assert_int_equal(bind_in(host, AF_INET, SOCK_STREAM, "0.0.0.0", 30090), 0);
}

/* Everything the kernel remembers of who sticks to what, made older; 0: forgotten. */
static void age_affinity(uint64_t ns)
{
	static struct k3c_affinity_key keys[4096];
	int fd = world.dp->maps[DP_MAP_AFFINITY];
	size_t n = 0;

	while (n < ARRAY_SIZE(keys) && bpf_map_get_next_key(fd, n ? &keys[n - 1] : NULL, &keys[n]) == 0)
		n++;
	for (size_t i = 0; i < n; i++) {
		struct k3c_affinity value;

		if (!ns) {
			bpf_map_delete_elem(fd, &keys[i]);
			continue;
		}
		assert_int_equal(bpf_map_lookup_elem(fd, &keys[i], &value), 0);
		value.last_ns -= ns;
		assert_int_equal(bpf_map_update_elem(fd, &keys[i], &value, BPF_ANY), 0);
	}
}

static void test_affinity_outside(void **state)
{
	struct dp_backend b[] = { backend(0), backend(1) };
	struct dp_service s = frontend(DP_NODE_PORT, f->any, 30080, b, 2);
	bool moved = false;
	int first;

	s.affinity_s = 100;
	ok(dataplane_service_set(world.dp, &s, err));
	first = reach(world.outside, f->node, 30080);
	for (int i = 0; i < 20; i++)
		assert_int_equal(reach(world.outside, f->node, 30080), first);
	/* over updates that keep the backend, and a choice of its own for outsiders */
	s.outside_differs = true;
	s.outside = b;
	s.n_outside = 2;
	ok(dataplane_service_set(world.dp, &s, err));
	for (int i = 0; i < 20; i++)
		assert_int_equal(reach(world.outside, f->node, 30080), first);
	/* not beyond its time: the same one 40 times by chance is once in a million million runs */
	for (int i = 0; i < 40 && !moved; i++) {
		age_affinity(101000000000ULL);
		moved = reach(world.outside, f->node, 30080) != first;
	}
	assert_true(moved);
	ok(dataplane_service_delete(world.dp, &s, err));
}

/* More clients than the table holds: the youngest stick. */
static void test_affinity_many_clients(void **state)
{
	struct dp_backend b[] = { backend(0), backend(1) };
	struct dp_service s = frontend(DP_CLUSTER_IP, f->service, 80, b, 2);
	static struct k3c_affinity_key keys[10000];
	static struct k3c_affinity values[ARRAY_SIZE(keys)];
	uint32_t n = ARRAY_SIZE(keys);
	int first;

	s.affinity_s = 100;
	ok(dataplane_service_set(world.dp, &s, err));
	for (uint32_t i = 0; i < n; i++) {
		keys[i] = (struct k3c_affinity_key){ .service = 7, .client.w[3] = i };
		values[i] = (struct k3c_affinity){ .last_ns = 1 };
	}
	assert_int_equal(bpf_map_update_batch(world.dp->maps[DP_MAP_AFFINITY], keys, values, &n, NULL), 0);
	assert_int_equal(n, ARRAY_SIZE(keys));
	first = reach(client_pod.ns, f->service, 80);
	for (int i = 0; i < 20; i++)
		assert_int_equal(reach(client_pod.ns, f->service, 80), first);
	age_affinity(0);
	ok(dataplane_service_delete(world.dp, &s, err));
}

struct listing {
	const struct dp_service *want;
	size_t n;
};

static void list_one(void *arg, const struct dp_service *s)
{
	struct listing *l = arg;
	const struct dp_service *w = l->want;

	l->n++;
	assert_int_equal(s->kind, w->kind);
	assert_memory_equal(&s->addr, &w->addr, sizeof(w->addr));
	assert_int_equal(s->outside_differs, w->outside_differs);
	assert_int_equal(s->n_outside, w->n_outside);
	assert_memory_equal(s->outside, w->outside, w->n_outside * sizeof(*w->outside));
	assert_int_equal(s->n_sources, w->n_sources);
	assert_int_equal(s->sources[0].bits, w->sources[0].bits);
}

static void test_listing(void **state)
{
	struct dp_backend b[] = { backend(0), backend(1) };
	struct dp_service s = frontend(DP_LOAD_BALANCER, f->node, 443, b, 2), other;
	struct dp_net range = { ip(f->elsewhere), 100 };
	struct listing l = { .want = &s };
	struct dp_backend stranger = { ip(families[f == &families[DP_V4]].node), 1 };

	s.outside_differs = true;
	s.outside = b;
	s.n_outside = 1;
	s.sources = &range;
	s.n_sources = 1;
	ok(dataplane_service_set(world.dp, &s, err));
	ok(dataplane_service_each(world.dp, list_one, &l, err));
	assert_int_equal(l.n, 1);
	other = s;
	other.backends = &stranger;
	other.n_backends = 1;
	assert_int_equal(dataplane_service_set(world.dp, &other, NULL), -EAFNOSUPPORT);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_outside_differs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sources, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sources_under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserved_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_affinity_outside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_affinity_many_clients, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listing, setup, teardown),
	};
	int r;

	world_uplink();
	world_open();
	for (f = families, r = 0; f < families + DP_FAMILIES; f++)
		r += cmocka_run_group_tests(all, NULL, NULL);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
