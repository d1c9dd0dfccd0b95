/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody altered behind the server's back is found, put right in one look, and told as what it was; the next
 * look finds nothing. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/rtnetlink.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/keys.h"

static struct test_pod a, b;

static int setup(void **state)
{
	pod_make_dual(&a, "pod-a", "10.42.7.1", "fd42::7:1", 100);
	pod_make_dual(&b, "pod-b", "10.42.7.2", "fd42::7:2", 200);
	ok(dataplane_links_process(world.dp, err));
	world.dp->links_drift = (struct dp_drift){ 0 };
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

static void expect_reach(const char *addr)
{
	int server = server_in(b.ns, SOCK_STREAM, addr, 80), client, conn;

	assert_int_equal(client_in(a.ns, SOCK_STREAM, addr, 80, &client), 0);
	conn = accept_any(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
	/* and from the host, by its routes and neighbours */
	server = server_in(b.ns, SOCK_STREAM, addr, 81);
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, addr, 81, &client), 0);
	close(client);
	close(server);
}

/* Exactly so many of this kind and nothing else, and then nothing. */
static void expect_found(enum dp_drift_kind kind, uint32_t n)
{
	for (int look = 0; look < 2; look++) {
		struct dp_drift found = { 0 };

		ok(dataplane_drift(world.dp, &found, err));
		for (int k = 0; k < DP_DRIFT_KINDS; k++) {
			uint32_t want = !look && k == (int)kind ? n : 0;

			if (found.n[k] != want)
				fail_msg("look %d: %s: %u, not %u", look, dataplane_drift_name(k), found.n[k], want);
		}
	}
}

static void test_namespace_altered(void **state)
{
	uint32_t key = (uint32_t)b.ifindex, nsid, wrong = 99, now;
	int fd = world.dp->maps[DP_MAP_NSID];

	assert_int_equal(bpf_map_lookup_elem(fd, &key, &nsid), 0);
	assert_int_equal(bpf_map_update_elem(fd, &key, &wrong, BPF_ANY), 0);
	expect_found(DP_DRIFT_NETNS, 1);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &now), 0);
	assert_int_equal(now, nsid);
}

/* Programs at its sockets would take it for a pod. */
static void test_foreign_namespace(void **state)
{
	int fd = world.dp->maps[DP_MAP_NETNS];
	uint64_t host = dataplane_netns_cookie(), pod = 0;
	struct k3c_netns row, now;
	uint64_t cookie;

	keys_foreach(fd, cookie)
		if (bpf_map_lookup_elem(fd, &cookie, &row) == 0 && row.ifindex == (uint32_t)b.ifindex)
			pod = cookie;
	assert_int_equal(bpf_map_lookup_elem(fd, &pod, &row), 0);
	for (int restart = 0; restart < 2; restart++) {
		assert_int_equal(bpf_map_update_elem(fd, &host, &row, BPF_ANY), 0);
		if (restart) {
			dataplane_close(world.dp);
			world_open();
			fd = world.dp->maps[DP_MAP_NETNS];
		} else {
			expect_found(DP_DRIFT_NETNS, 1);
		}
		assert_int_equal(bpf_map_lookup_elem(fd, &host, &now), -ENOENT);
		assert_int_equal(bpf_map_lookup_elem(fd, &pod, &now), 0);
		assert_memory_equal(&now, &row, sizeof(row));
	}

	/* and a pod for another, or with addresses that are not its own */
	for (int other = 0; other < 2; other++) {
		now = row;
		if (other)
			now.ifindex = (uint32_t)a.ifindex;
		else
			now.addrs[DP_V4].b[15]++;
		assert_int_equal(bpf_map_update_elem(fd, &pod, &now, BPF_ANY), 0);
		expect_found(DP_DRIFT_NETNS, 1);
		assert_int_equal(bpf_map_lookup_elem(fd, &pod, &now), 0);
		assert_memory_equal(&now, &row, sizeof(row));
	}
}

static void take_down(int ifindex)
{
	struct nlmsghdr *h = nl_begin(world.dp->nl, RTM_NEWLINK, 0, "link down", 0);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

	i->ifi_index = ifindex;
	i->ifi_change = IFF_UP;
	ok(nl_commit(world.dp->nl, err));
}

static void test_link_down(void **state)
{
	take_down(b.ifindex);
	expect_found(DP_DRIFT_LINK, 1);
	expect_reach(b.addr);
	expect_reach(b.addr6);

	/* at once, where the kernel tells */
	take_down(b.ifindex);
	ok(dataplane_links_process(world.dp, err));
	expect_reach(b.addr);
	expect_reach(b.addr6);
	expect_found(DP_DRIFT_LINK, 1);

	/* and where nobody was there */
	take_down(b.ifindex);
	dataplane_close(world.dp);
	world_open();
	expect_reach(b.addr);
	expect_reach(b.addr6);
}

static void test_pins_of_links(void **state)
{
	char links[sizeof(world.pin_dir) + 16];
	uint32_t n = 0;

	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		n += programs_is_at_cgroup(p) && world.dp->programs[p] >= 0;
	snprintf(links, sizeof(links), "%s/links", world.pin_dir);
	ok(fs_remove_tree(links, err));
	expect_found(DP_DRIFT_PROGRAM, n);
	assert_true(fs_exists(links));
}

static void test_what_was_done_to_a_link(void **state)
{
	uint32_t key = (uint32_t)ifindex_in(world_host_ns(), "up0");
	int fd = world.dp->maps[DP_MAP_LINK];
	struct k3c_link before, after;

	assert_int_equal(bpf_map_lookup_elem(fd, &key, &before), 0);
	assert_int_equal(before.flags, K3C_LINK_OWN_CLSACT | K3C_LINK_RAISED_RA | K3C_LINK_HAS_PROGRAMS);
	assert_int_equal(bpf_map_delete_elem(fd, &key), 0);
	expect_found(DP_DRIFT_LINK, 1);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &after), 0);
	assert_memory_equal(&after, &before, sizeof(before));
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_namespace_altered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_down, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pins_of_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_done_to_a_link, setup, teardown),
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
