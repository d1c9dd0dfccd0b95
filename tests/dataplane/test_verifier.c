/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's verifier makes of each program, loaded as the product loads it: printed for vmtest to collect,
 * and held under a budget, so that a program does not creep towards the limit of some kernel unseen. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf/bind.skel.h"
#include "bpf/host.skel.h"
#include "bpf/pod.skel.h"
#include "bpf/sock4.skel.h"
#include "bpf/sock6.skel.h"

#define VERIFIER_STATS 4 /* log level: only the figures */
#define VERIFIER_LOG_BYTES 65536

/* Instructions that the verifier walks through, on any kernel; its own limit is a million. */
#define BUDGET_SOCKET 5000
#define BUDGET_PACKET 30000

struct verifier_figures {
	unsigned instructions, states, peak;
	uint32_t bytes;
};

typedef const void *elf_fn(size_t *size);

static elf_fn *const objects[] = {
	sock4_bpf__elf_bytes,
	sock6_bpf__elf_bytes,
	bind_bpf__elf_bytes,
	pod_bpf__elf_bytes,
	host_bpf__elf_bytes,
};

/* The options that a program of the open dataplane was loaded with; false: it reads none. */
static bool options_of(int program_fd, struct k3c_options *ret)
{
	uint32_t ids[64], zero = 0, len;
	struct bpf_prog_info program = { .map_ids = (uintptr_t)ids, .nr_map_ids = ARRAY_SIZE(ids) };

	len = sizeof(program);
	assert_int_equal(bpf_obj_get_info_by_fd(program_fd, &program, &len), 0);
	for (uint32_t i = 0; i < program.nr_map_ids; i++) {
		struct bpf_map_info map = { 0 };
		int fd = bpf_map_get_fd_by_id(ids[i]);

		assert_true(fd >= 0);
		len = sizeof(map);
		assert_int_equal(bpf_obj_get_info_by_fd(fd, &map, &len), 0);
		if (strcmp(map.name, ".rodata.options") == 0) {
			assert_int_equal(map.value_size, sizeof(*ret));
			assert_int_equal(bpf_map_lookup_elem(fd, &zero, ret), 0);
			close(fd);
			return true;
		}
		close(fd);
	}
	return false;
}

static void prepare_maps(struct bpf_object *object, const struct k3c_options *options)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) {
		const char *name = bpf_map__name(map);

		if (strcmp(name, ".rodata.options") == 0) {
			assert_int_equal(bpf_map__set_initial_value(map, options, sizeof(*options)), 0);
			continue;
		}
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
			if (strcmp(name, maps_name(m)) == 0) {
				assert_int_equal(bpf_map__reuse_fd(map, world.dp->maps[m]), 0);
				break;
			}
	}
}

static void figures_of(const struct bpf_program *program, const char *log, struct verifier_figures *ret)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	const char *at = strstr(log, "processed ");

	if (!at || sscanf(at, "processed %u insns (limit %*u) max_states_per_insn %*u total_states %u peak_states %u",
			  &ret->instructions, &ret->states, &ret->peak) != 3)
		fail_msg("%s: no figures in the verifier's log: %s", bpf_program__name(program), log);
	assert_int_equal(bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &len), 0);
	ret->bytes = info.xlated_prog_len;
}

static void load_and_look(elf_fn *elf, const struct k3c_options *options)
{
	char *logs[DP_PROGRAM_COUNT] = { NULL };
	struct bpf_program *program;
	struct bpf_object *object;
	size_t size, n = 0;
	const void *bytes = elf(&size);

	object = bpf_object__open_mem(bytes, size, NULL);
	assert_non_null(object);
	prepare_maps(object, options);
	bpf_object__for_each_program(program, object)
	{
		assert_true(n < ARRAY_SIZE(logs));
		logs[n] = mem_alloc(VERIFIER_LOG_BYTES);
		logs[n][0] = 0;
		assert_int_equal(bpf_program__set_log_level(program, VERIFIER_STATS), 0);
		assert_int_equal(bpf_program__set_log_buf(program, logs[n], VERIFIER_LOG_BYTES), 0);
		n++;
	}
	assert_int_equal(bpf_object__load(object), 0);
	n = 0;
	bpf_object__for_each_program(program, object)
	{
		bool packet = bpf_program__type(program) == BPF_PROG_TYPE_SCHED_CLS;
		unsigned budget = packet ? BUDGET_PACKET : BUDGET_SOCKET;
		struct verifier_figures f;

		figures_of(program, logs[n], &f);
		free(logs[n++]);
		print_message("verifier %s instructions=%u states=%u peak=%u bytes=%u\n", bpf_program__name(program),
			      f.instructions, f.states, f.peak, f.bytes);
		if (f.instructions > budget)
			fail_msg("%s: %u instructions verified, the budget is %u", bpf_program__name(program),
				 f.instructions, budget);
	}
	bpf_object__close(object);
}

static void test_budgets(void **state)
{
	struct k3c_options options;
	bool found = false;

	world_open();
	for (enum dp_program p = 0; !found && p < DP_PROGRAM_COUNT; p++)
		found = options_of(world.dp->programs[p], &options);
	assert_true(found);
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		load_and_look(objects[i], &options);
	dataplane_close(world.dp);
}

static int tests(void)
{
	const struct CMUnitTest all[] = { cmocka_unit_test(test_budgets) };

	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
