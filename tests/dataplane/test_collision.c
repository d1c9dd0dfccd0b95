/* SPDX-License-Identifier: Apache-2.0 */
/* Two flows of one client's port to different frontends of the same backend: each keeps its own answers, and what ICMP
 * says about one of them. At XDP: see test_xdp.c. */
#include "tests/dataplane/collision.h"
#include "userspace/dataplane/inspect.h"

static struct test_pod pod;

static int setup(void **state)
{
	pod_make_dual(&pod, "pod", collisions[DP_V4].pod, collisions[DP_V6].pod, 0);
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&pod);
	return 0;
}

static void test_tcp(void **state)
{
	for (int i = 0; i < DP_FAMILIES; i++)
		collision_tcp(&collisions[i], pod.ns);
}

static void test_udp(void **state)
{
	for (int i = 0; i < DP_FAMILIES; i++)
		collision_udp(&collisions[i], pod.ns);
}

/* Nobody listens in the pod: both clients learn so. */
static void test_refused(void **state)
{
	char buf[4];

	for (int f = 0; f < DP_FAMILIES; f++) {
		const struct collision *c = &collisions[f];

		collision_services(c, IPPROTO_UDP, 5354, true);
		for (int i = 0; i < COLLISION_FRONTENDS; i++) {
			int fd = collision_client(c, SOCK_DGRAM, i);

			assert_int_equal(send(fd, "x", 1, 0), 1);
			assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
			assert_int_equal(errno, ECONNREFUSED);
			close(fd);
		}
		collision_services(c, IPPROTO_UDP, 5354, false);
		collision_forget(c, IPPROTO_UDP, 5354);
	}
}

/* The clients went away: the pod's sockets learn so, each its own. */
static void test_answer_refused(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		const struct collision *c = &collisions[f];
		int server = server_in(pod.ns, SOCK_DGRAM, c->pod, 5355), client[COLLISION_FRONTENDS];
		union any_addr peer[COLLISION_FRONTENDS];
		char buf[4];

		collision_services(c, IPPROTO_UDP, 5355, true);
		for (int i = 0; i < COLLISION_FRONTENDS; i++) {
			socklen_t len = sizeof(peer[i]);

			client[i] = collision_client(c, SOCK_DGRAM, i);
			assert_int_equal(send(client[i], "x", 1, 0), 1);
			assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, &peer[i].sa, &len), 1);
		}
		collision_judge(c, peer);
		for (int i = 0; i < COLLISION_FRONTENDS; i++) {
			int fd = server_in(pod.ns, SOCK_DGRAM, c->pod, 5355);

			close(client[i]);
			assert_int_equal(connect(fd, &peer[i].sa, any_len(&peer[i])), 0);
			assert_int_equal(send(fd, "y", 1, 0), 1);
			assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
			assert_int_equal(errno, ECONNREFUSED);
			close(fd);
		}
		close(server);
		collision_services(c, IPPROTO_UDP, 5355, false);
		collision_forget(c, IPPROTO_UDP, 5355);
	}
}

struct seen {
	unsigned kept, changed;
};

static void see(void *arg, const struct dp_translation *t)
{
	struct seen *s = arg;

	if (t->dport != collision_frontend(0) && t->dport != collision_frontend(1))
		return;
	assert_int_equal(t->sport, COLLISION_PORT);
	*(t->from_port ? &s->changed : &s->kept) += 1;
}

/* The list tells of the other port, and all halves go with the backend. */
static void test_forgotten(void **state)
{
	const struct collision *c = &collisions[DP_V4];
	int server = server_in(pod.ns, SOCK_DGRAM, c->pod, 5353), client[COLLISION_FRONTENDS];
	struct seen s = { 0 };
	char buf[4];

	collision_services(c, IPPROTO_UDP, 5353, true);
	for (int i = 0; i < COLLISION_FRONTENDS; i++) {
		client[i] = collision_client(c, SOCK_DGRAM, i);
		assert_int_equal(send(client[i], "x", 1, 0), 1);
		assert_int_equal(recv(server, buf, sizeof(buf), 0), 1);
	}
	ok(dataplane_translation_each(world.dp, see, &s, err));
	assert_int_equal(s.kept, 1);
	assert_int_equal(s.changed, 1);
	assert_int_equal(nat_services(), 2 * COLLISION_FRONTENDS);
	for (int i = 0; i < COLLISION_FRONTENDS; i++)
		close(client[i]);
	close(server);
	collision_services(c, IPPROTO_UDP, 5353, false);
	collision_forget(c, IPPROTO_UDP, 5353);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgotten, setup, teardown),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
