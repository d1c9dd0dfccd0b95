/* SPDX-License-Identifier: Apache-2.0 */
/* What an orderly end leaves for builds from before two address families, and that the next start takes it away. What
 * such a build wrote is taken over. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/legacy.h"

#define POD "10.42.6.1"

static const char *const names[] = { "k3c_endpoint", "k3c_netns", "k3c_link", "k3c_drop", "k3c_meta" };

static int pinned(const char *name, unsigned version)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/maps/%s_v%u", world.pin_dir, name, version);
	return bpf_obj_get(path);
}

static void none_is_left(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_true(pinned(names[i], LEGACY_VERSION) < 0);
}

static uint64_t first_cookie(int map)
{
	uint64_t cookie = 0;

	assert_int_equal(bpf_map_get_next_key(map, NULL, &cookie), 0);
	return cookie;
}

/* The pod is found, and nothing passes before its policy is written. */
static void rows_of_pods(const struct test_pod *pod, uint64_t cookie)
{
	int endpoints = pinned("k3c_endpoint", LEGACY_VERSION), namespaces = pinned("k3c_netns", LEGACY_VERSION);
	struct dp_addr text = ip(pod->addr);
	struct k3c_addr addr = dp_addr_in(&text), key;
	struct legacy_endpoint row;
	uint8_t none[6] = { 0 };
	uint32_t ifindex = 0;

	assert_true(endpoints >= 0 && namespaces >= 0);
	assert_int_equal(bpf_map_lookup_elem(endpoints, &addr, &row), 0);
	assert_int_equal(row.ifindex, pod->ifindex);
	assert_int_equal(row.flags, LEGACY_ISOLATED);
	assert_int_equal(row.identity, 0);
	assert_int_equal(row.policy_set, 0);
	assert_memory_not_equal(row.mac, none, 6);
	/* no row of the other family: those builds take any address of a link for the pod's only one */
	assert_int_equal(bpf_map_get_next_key(endpoints, NULL, &key), 0);
	assert_true(bpf_map_get_next_key(endpoints, &key, &key) < 0);
	assert_int_equal(bpf_map_lookup_elem(namespaces, &cookie, &ifindex), 0);
	assert_int_equal(ifindex, pod->ifindex);
	close(endpoints);
	close(namespaces);
}

static void rows_of_state(uint32_t generation, uint32_t next_set)
{
	int meta = pinned("k3c_meta", LEGACY_VERSION);
	struct legacy_meta row;
	uint32_t zero = 0;

	assert_true(meta >= 0);
	assert_int_equal(bpf_map_lookup_elem(meta, &zero, &row), 0);
	assert_int_equal(row.generation, generation + 1);
	assert_int_equal(row.next_set, next_set);
	close(meta);
}

static void test_left_and_taken_away(void **state)
{
	struct test_pod pod;
	uint32_t generation, next_set;
	uint64_t cookie;

	world_open();
	none_is_left();
	pod_make_dual(&pod, "legacy-pod", POD, "fd42::6:1", 7);
	generation = world.dp->meta.generation;
	next_set = world.dp->meta.next_set;
	cookie = first_cookie(world.dp->maps[DP_MAP_NETNS]);
	dataplane_close(world.dp);
	rows_of_pods(&pod, cookie);
	rows_of_state(generation, next_set);
	world_open();
	none_is_left();
	pod_drop(&pod);
	dataplane_close(world.dp);
}

static void unpin(const char *name, unsigned version)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/maps/%s_v%u", world.pin_dir, name, version);
	assert_int_equal(unlink(path), 0);
}

static uint64_t dropped(int map, uint32_t reason)
{
	size_t cpus = (size_t)libbpf_num_possible_cpus();
	_cleanup_free_ struct k3c_drop *values = mem_alloc(cpus * sizeof(*values));
	uint64_t sum = 0;

	assert_int_equal(bpf_map_lookup_elem(map, &reason, values), 0);
	for (size_t i = 0; i < cpus; i++)
		sum += values[i].packets;
	return sum;
}

static void drop_some(uint32_t reason, uint64_t packets)
{
	size_t cpus = (size_t)libbpf_num_possible_cpus();
	_cleanup_free_ struct k3c_drop *values = mem_alloc(cpus * sizeof(*values));
	int fd = pinned("k3c_drop", LEGACY_VERSION);

	memset(values, 0, cpus * sizeof(*values));
	values[cpus - 1].packets = packets;
	assert_int_equal(bpf_map_update_elem(fd, &reason, values, BPF_ANY), 0);
	close(fd);
}

/* Such a build knows nothing of it, but its programs are at work then, which use nothing in it. */
static void forget_own(void)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/maps/own", world.pin_dir);
	ok(fs_remove_tree(path, err));
}

/* As such a build leaves it: its own layouts, none of ours. */
static void test_taken_over(void **state)
{
	uint32_t zero = 0, ifindex = 0, reason = K3C_DROP_NO_BACKEND;
	struct legacy_meta meta = { 0 };
	struct k3c_link ours, row;
	int fd;

	world_uplink();
	world_open();
	ifindex = (uint32_t)ifindex_in(world_host_ns(), "up0");
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &ifindex, &ours), 0);
	assert_true(ours.flags & K3C_LINK_OWN_CLSACT);
	dataplane_close(world.dp);
	drop_some(reason, 5);
	fd = pinned("k3c_meta", LEGACY_VERSION);
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &meta), 0);
	meta.generation = 77;
	meta.flags |= LEGACY_META_RAISED_IP6;
	assert_int_equal(bpf_map_update_elem(fd, &zero, &meta, BPF_ANY), 0);
	close(fd);
	forget_own();
	unpin("k3c_endpoint", 2);
	unpin("k3c_netns", 3);
	unpin("k3c_link", 3);
	unpin("k3c_drop", 2);
	unpin("k3c_meta", 2);
	world_open();
	assert_true(world.dp->unsettled);
	assert_int_equal(world.dp->meta.generation, 77);
	assert_int_equal(world.dp->meta.raised_ip6_forward, 1);
	assert_int_equal(world.dp->meta.flags & LEGACY_META_RAISED_IP6, 0);
	ok(dataplane_settle(world.dp, err));
	none_is_left();
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &ifindex, &row), 0);
	assert_int_equal(row.flags & K3C_LINK_OWN_CLSACT, K3C_LINK_OWN_CLSACT);
	assert_int_equal(dropped(world.dp->maps[DP_MAP_DROP], reason), 5);
	dataplane_close(world.dp);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_left_and_taken_away),
		cmocka_unit_test(test_taken_over),
	};

	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
