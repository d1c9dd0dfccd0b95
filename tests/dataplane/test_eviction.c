/* SPDX-License-Identifier: Apache-2.0 */
/* Quiet connections outlive any number of short ones: through a table of 8,192 translations, those that ended give
 * their places back before a living one loses its own. Both kinds of translation, both ways to end. */
#include "tests/dataplane/rounds.h"
#include "tests/dataplane/world.h"

#include <stdatomic.h>

#include "bpf/include/nat.h"

#define EVICTION_ENTRIES 8192    /* and in proportion when it says so */
#define EVICTION_QUIET 100       /* half of each kind */
#define EVICTION_SHORT 12000     /* unless K3C_EVICTION_CONNECTIONS says otherwise: of each, two entries */
#define EVICTION_SERVER_MAX 4096 /* connections at a time */
#define EVICTION_NODE_PORT 30090
#define EVICTION_OUTSIDE_PORT 9090

static struct test_pod pod;
static atomic_bool stop;

/* Answers each byte; 'f': and ends the connection itself. */
static void *server_run(void *arg)
{
	static _Thread_local struct pollfd fds[EVICTION_SERVER_MAX];
	nfds_t n = 1;

	fds[0] = (struct pollfd){ .fd = *(int *)arg, .events = POLLIN };
	while (!stop) {
		if (poll(fds, n, 50) <= 0)
			continue;
		if ((fds[0].revents & POLLIN) && n < EVICTION_SERVER_MAX)
			fds[n++] = (struct pollfd){ .fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN };
		for (nfds_t i = 1; i < n; i++) {
			char byte;

			if (!fds[i].revents || (recv(fds[i].fd, &byte, 1, 0) == 1 &&
						send(fds[i].fd, &byte, 1, MSG_NOSIGNAL) == 1 && byte != 'f'))
				continue;
			close(fds[i].fd);
			fds[i--] = fds[--n];
		}
	}
	while (n > 1)
		close(fds[--n].fd);
	return NULL;
}

static bool ask(int fd, char byte)
{
	char back = 0;

	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &back, 1, 0) == 1 && back == byte;
}

/* From outside to the pod (even), or from the pod to the world. */
static bool begin(unsigned i, int *ret)
{
	if (i % 2)
		return client_in(pod.ns, SOCK_STREAM, OUTSIDE_IP, EVICTION_OUTSIDE_PORT, ret) == 0;
	return client_in(world.outside, SOCK_STREAM, NODE_IP, EVICTION_NODE_PORT, ret) == 0;
}

/* Ended by the server in turn (FIN of both), or by the client at once (RST). */
static bool short_one(unsigned i)
{
	struct linger now = { .l_onoff = 1 };
	bool fin = i / 2 % 2, fine;
	char byte;
	int fd;

	fine = begin(i, &fd) && ask(fd, fin ? 'f' : 'r') && (!fin || recv(fd, &byte, 1, 0) == 0);
	if (!fin)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	return fine;
}

static unsigned short_ones(void)
{
	return (unsigned)rounds_wanted("K3C_EVICTION_CONNECTIONS", EVICTION_SHORT);
}

static void test_quiet_ones_stay(void **state)
{
	struct dp_backend b = { ip(pod.addr), 80 };
	struct dp_service s = { .id = 1,
				.kind = DP_NODE_PORT,
				.proto = IPPROTO_TCP,
				.addr = ip("0.0.0.0"),
				.port = EVICTION_NODE_PORT,
				.backends = &b,
				.n_backends = 1 };
	unsigned n = short_ones(), failed = 0, broken = 0;
	int listeners[2], quiet[EVICTION_QUIET];
	pthread_t threads[2];

	listeners[0] = server_in(pod.ns, SOCK_STREAM, pod.addr, 80);
	listeners[1] = server_in(world.outside, SOCK_STREAM, OUTSIDE_IP, EVICTION_OUTSIDE_PORT);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, server_run, &listeners[i]);
	ok(dataplane_service_set(world.dp, &s, err));
	for (unsigned i = 0; i < EVICTION_QUIET; i++) {
		assert_true(begin(i, &quiet[i]));
		assert_true(ask(quiet[i], 'q'));
	}
	for (unsigned i = 0; i < n; i++)
		failed += !short_one(i);
	for (unsigned i = 0; i < EVICTION_QUIET; i++) {
		broken += !ask(quiet[i], 'q');
		close(quiet[i]);
	}
	print_message("%u short connections, %u failed; of %u quiet ones %u broke\n", n, failed, EVICTION_QUIET,
		      broken);
	stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		close(listeners[i]);
	}
	assert_int_equal(failed, 0);
	assert_int_equal(broken, 0);
	ok(dataplane_service_delete(world.dp, &s, err));
}

static int tests(void)
{
	const struct CMUnitTest all[] = { cmocka_unit_test(test_quiet_ones_stay) };
	struct dataplane_options o = world_options();
	int r;

	world_uplink();
	o.max_connections = EVICTION_ENTRIES * short_ones() / EVICTION_SHORT;
	ok(dataplane_open(&o, &world.dp, err));
	pod_make(&pod, "eviction", "10.42.6.1", 0);
	r = cmocka_run_group_tests(all, NULL, NULL);
	pod_drop(&pod);
	dataplane_close(world.dp);
	return r;
}

int main(void)
{
	return world_run(tests);
}
