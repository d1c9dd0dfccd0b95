/* SPDX-License-Identifier: Apache-2.0 */
/* Why a flow may pass, as JSON; and the question as text. */
#include "tests/netctl/support.h"

#include <errno.h>

#include "userspace/netctl/explain.h"

static struct net_model model;
static struct arena arena;

static void pod(const char *name, const char *labels, const char *ip)
{
	model_set_pod(&model, json_of(&arena, arena_printf(&arena,
							   "{'metadata':{'name':'%s','namespace':'a','uid':'%s',"
							   "'labels':{%s}},'spec':{'containers':[]},"
							   "'status':{'podIP':'%s','podIPs':[{'ip':'%s'}]}}",
							   name, name, labels, ip, ip)));
}

static int setup(void **state)
{
	model_init(&model);
	model_set_namespace(&model, json_of(&arena, "{'metadata':{'name':'a'}}"));
	pod("web", "'app':'web'", "10.42.0.2");
	pod("friend", "'app':'friend'", "10.42.0.3");
	pod("other", "'app':'other'", "10.42.0.4");
	model_set_policy(&model, json_of(&arena, "{'metadata':{'name':'in','namespace':'a'},'spec':{'podSelector':{"
						 "'matchLabels':{'app':'web'}},'ingress':[{'from':[{'podSelector':{"
						 "'matchLabels':{'app':'friend'}}}],'ports':[{'port':80}]}]}}"));
	model_set_policy(&model, json_of(&arena, "{'metadata':{'name':'out','namespace':'a'},'spec':{'podSelector':{"
						 "'matchLabels':{'app':'other'}},'policyTypes':['Egress']}}"));
	return 0;
}

static int teardown(void **state)
{
	model_finish(&model);
	arena_finish(&arena);
	return 0;
}

static struct json *explain(const char *from, const char *to, uint16_t port, bool from_node)
{
	const struct netctl_flow flow = {
		.from = addr_of(from), .to = addr_of(to), .from_node = from_node, .proto = IPPROTO_TCP, .port = port
	};

	return netctl_explain_model(&model, &arena, &flow);
}

static void test_allowed(void **state)
{
	const struct json *v = explain("10.42.0.3", "10.42.0.2", 80, false);

	assert_true(json_get_bool(v, "allowed", false));
	assert_false(json_at_bool(v, "egress.isolated", true));
	assert_true(json_at_bool(v, "ingress.isolated", false));
	assert_true(str_is(json_str(json_first(json_at(v, "ingress.allowing"))), "a/in"));
}

static void test_denied(void **state)
{
	const struct json *v = explain("10.42.0.3", "10.42.0.2", 81, false);

	assert_false(json_get_bool(v, "allowed", true));
	assert_int_equal(json_count(json_at(v, "ingress.allowing")), 0);
	assert_true(str_is(json_str(json_first(json_at(v, "ingress.selecting"))), "a/in"));
	v = explain("10.42.0.4", "10.42.0.3", 80, false);
	assert_false(json_at_bool(v, "egress.allowed", true));
	assert_true(json_at_bool(v, "ingress.allowed", false));
	/* an address that is nobody's, and the node */
	assert_false(json_get_bool(explain("192.0.2.1", "10.42.0.2", 80, false), "allowed", true));
	assert_true(json_get_bool(explain("192.0.2.1", "10.42.0.2", 80, true), "allowed", false));
}

static void test_text(void **state)
{
	static const char *const bad[] = {
		"",
		"from=10.0.0.1&to=10.0.0.2",
		"from=10.0.0.1&to=::1&protocol=6&port=80",
		"from=10.0.0.1&to=10.0.0.2&protocol=256",
		"from=10.0.0.1&to=10.0.0.2&protocol=6&port=65536",
		"from=10.0.0.1&to=10.0.0.2&protocol=6&port=-1",
		"from=10.0.0.1&to=10.0.0.2&protocol=6&node=me",
		"from=x&to=10.0.0.2&protocol=6",
		"from=10.0.0.1&to=10.0.0.2&protocol=6&more=1",
	};
	struct netctl_flow f;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		_cleanup_err_ struct err err = ERR_INIT;

		assert_int_equal(netctl_flow_parse(str_of(bad[i]), &f, &err), -EINVAL);
		assert_int_equal(err.status, 400);
	}
	assert_int_equal(netctl_flow_parse(STR("from=10.0.0.1&to=10.0.0.2&protocol=17&port=53&node=to"), &f, NULL), 0);
	assert_true(f.to_node && !f.from_node);
	assert_int_equal(f.port, 53);
	assert_string_equal(netctl_flow_format(&arena, &f), "from=10.0.0.1&to=10.0.0.2&protocol=17&port=53&node=to");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_denied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_text, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
