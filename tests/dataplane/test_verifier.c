/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's verifier makes of each program, loaded as the product loads it: printed for vmtest to collect,
 * and held under a budget, so that a program does not creep towards the limit of some kernel unseen. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define VERIFIER_STATS 4 /* log level: only the figures */
#define VERIFIER_LOG_BYTES 65536

struct budget {
	const char *program;
	unsigned instructions, states;
};

static const struct budget budgets[] = {
#include "tests/dataplane/verifier_budgets.inc"
};

struct verifier_figures {
	unsigned instructions, states, peak;
	uint32_t bytes;
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

static bool within_budget(const char *name, const struct verifier_figures *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(budgets); i++) {
		if (strcmp(budgets[i].program, name) != 0)
			continue;
		if (f->instructions <= budgets[i].instructions && f->states <= budgets[i].states)
			return true;
		print_error("%s: %u instructions and %u states verified, the budget is %u and %u\n", name,
			    f->instructions, f->states, budgets[i].instructions, budgets[i].states);
		return false;
	}
	print_error("%s: no budget in verifier_budgets.inc\n", name);
	return false;
}

/* How many of the object's programs are beyond their budgets. */
static unsigned load_and_look(int o, const struct k3c_options *options)
{
	char *logs[DP_PROGRAM_COUNT] = { NULL };
	struct bpf_program *program;
	struct bpf_object *object;
	unsigned beyond = 0;
	size_t n = 0;

	ok(programs_open_object(world.dp, o, options, &object, err));
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
		const char *name = programs_name_in(o, bpf_program__name(program));
		struct verifier_figures f;

		if (name) {
			figures_of(program, logs[n], &f);
			print_message("verifier %s instructions=%u states=%u peak=%u bytes=%u\n", name, f.instructions,
				      f.states, f.peak, f.bytes);
			beyond += !within_budget(name, &f);
		}
		free(logs[n++]);
	}
	bpf_object__close(object);
	return beyond;
}

static void test_budgets(void **state)
{
	struct k3c_options options;
	unsigned beyond = 0;
	bool found = false;

	world_open();
	for (enum dp_program p = 0; !found && p < DP_PROGRAM_COUNT; p++)
		found = options_of(world.dp->programs[p], &options);
	assert_true(found);
	for (int o = 0; o < programs_object_count(); o++)
		beyond += load_and_look(o, &options);
	assert_int_equal(beyond, 0);
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
