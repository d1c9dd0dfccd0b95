/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that packets fill, and no write of ours tells: the node says so by an event, though nobody asks and no object
 * changes. */
#include "tests/netctl/node.h"

#include <bpf/bpf.h>

#include "bpf/include/conn.h"
#include "userspace/netctl/internal.h"

static unsigned told(void)
{
	return events_said("\"DataplaneMapFull\"", "k3c_conn is full");
}

/* What the next minute brings. */
static void minute_passes(void)
{
	assert_true(loop_timer_armed(&node.nc->pressure_timer));
	loop_timer_arm(node.f->loop, &node.nc->pressure_timer, 0);
	settle();
	assert_true(loop_timer_armed(&node.nc->pressure_timer));
}

static void fill(uint8_t flags)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	assert_int_equal(bpf_obj_get_info_by_fd(world.dp->maps[DP_MAP_CONN], &info, &len), 0);
	for (uint32_t i = 0; i < 2 * info.max_entries; i++) {
		struct k3c_conn_key key = { .proto = IPPROTO_TCP, .a.w[3] = i };
		struct k3c_conn c = { .last_ns = (uint64_t)t.tv_sec * 1000000000u, .flags = flags };

		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_CONN], &key, &c, BPF_ANY), 0);
	}
}

static void test_told(void **state)
{
	create(KIND_NODE, "{'metadata':{'name':'" NODE "'}}");
	minute_passes();
	fill(K3C_CONN_CLOSING);
	minute_passes();
	assert_int_equal(told(), 0);
	fill(0);
	assert_int_equal(told(), 0);
	minute_passes();
	assert_int_equal(told(), 1);
	minute_passes();
	assert_int_equal(told(), 1);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_told, setup, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
