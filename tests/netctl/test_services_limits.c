/* SPDX-License-Identifier: Apache-2.0 */
/* A Service with more than the dataplane takes: the others are left out, and it says so, once. */
#include "tests/netctl/node.h"

#include "userspace/netctl/services.h"

static void ranges(struct buf *out, unsigned n)
{
	buf_printf(out, "'loadBalancerSourceRanges':[");
	for (unsigned i = 0; i < n; i++)
		buf_printf(out, "%s'100.64.%u.%u/32'", i ? "," : "", i / 256, i % 256);
	buf_printf(out, "]");
}

static unsigned told(void)
{
	return events_said("\"LimitExceeded\"", "More than 256 source ranges");
}

/* What `status` is told of the Service. */
static int64_t left_out(const char *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	json_foreach(s, json_get(netctl_status_json(node.nc, &arena), "services"))
		if (str_is(json_get_str(s, "name"), name))
			return json_get_int(json_first(json_get(s, "leftOut")), "max", 0);
	fail_msg("no such Service: %s", name);
	return 0;
}

static void test_ranges(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	buf_printf(&text, "{'metadata':{'name':'many'},'spec':{'type':'LoadBalancer','clusterIP':'10.43.0.97',"
			  "'ports':[{'port':31997}],");
	ranges(&text, SERVICES_SOURCES_MAX + 1);
	buf_printf(&text, "}}");
	create(KIND_SERVICE, buf_cstr(&text));
	assert_int_equal(told(), 1);
	assert_int_equal(left_out("many"), SERVICES_SOURCES_MAX);
	patch(KIND_SERVICE, "many", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	assert_int_equal(told(), 1);
	patch(KIND_SERVICE, "many", "{\"spec\":{\"loadBalancerSourceRanges\":[\"100.64.0.0/24\"]}}");
	assert_int_equal(told(), 1);
	assert_int_equal(left_out("many"), 0);
	delete (KIND_SERVICE, "many");
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_ranges, setup, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
