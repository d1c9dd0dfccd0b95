/* SPDX-License-Identifier: Apache-2.0 */
/* $(VAR) expansion, the downward API, service links, resolv.conf and hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kubelet/pods/env.h"
#include "kubelet/pods/expand.h"
#include "kubelet/pods/fieldref.h"
#include "kubelet/pods/netfiles.h"
#include "kubelet/pods/service_env.h"

static struct arena arena;

static int teardown(void **state)
{
	arena_finish(&arena);
	arena = ARENA_INIT;
	return 0;
}

static struct json *parse(const char *text)
{
	struct json *v;
	_cleanup_err_ struct err err = ERR_INIT;

	if (json_parse(&arena, str_of(text), 0, &v, &err) < 0)
		fail_msg("%s", err_message(&err));
	return v;
}

static void test_expand(void **state)
{
	static char *const env[] = { "A=1", "B=two", "A=last", "EMPTY=" };
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "$(A)", "last" },
		{ "x$(B)y$(A)z", "xtwoylastz" },
		{ "$(EMPTY)", "" },
		{ "$(NONE)", "$(NONE)" },
		{ "$$(A)", "$(A)" },
		{ "$$$(A)", "$last" },
		{ "$$$$(A)", "$$(A)" },
		{ "$(A", "$(A" },
		{ "$A", "$A" },
		{ "cost: 5$", "cost: 5$" },
		{ "$()", "$()" },
		{ "$(A)$", "last$" },
		{ "a$bc$(B)", "a$bctwo" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(expand_env(&arena, str_of(cases[i].in), env, ARRAY_SIZE(env)), cases[i].out);
}

static const struct pod_facts facts = {
	.node_name = "edge",
	.host_ips = { "192.0.2.1", NULL },
	.pod_ips = { "10.42.0.7", "fd00::7" },
	.allocatable_cpu_milli = 2000,
	.allocatable_memory_bytes = 1 << 30,
};

static const char *field(const struct json *pod, const char *path)
{
	char *text;
	_cleanup_err_ struct err err = ERR_INIT;

	return fieldref_value(&arena, pod, &facts, str_of(path), &text, &err) < 0 ? "error" : text;
}

static void test_fieldref(void **state)
{
	const struct json *pod =
		parse("{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":"
		      "{\"b\":\"2\",\"a/x\":\"say \\\"hi\\\"\"}},\"spec\":{\"serviceAccountName\":\"sa\"}}");

	assert_string_equal(field(pod, "metadata.name"), "p");
	assert_string_equal(field(pod, "metadata.namespace"), "n");
	assert_string_equal(field(pod, "metadata.labels['b']"), "2");
	assert_string_equal(field(pod, "metadata.labels['none']"), "");
	assert_string_equal(field(pod, "metadata.labels"), "a/x=\"say \\\"hi\\\"\"\nb=\"2\"");
	assert_string_equal(field(pod, "metadata.annotations"), "");
	assert_string_equal(field(pod, "spec.nodeName"), "edge");
	assert_string_equal(field(pod, "spec.serviceAccountName"), "sa");
	assert_string_equal(field(pod, "status.podIP"), "10.42.0.7");
	assert_string_equal(field(pod, "status.podIPs"), "10.42.0.7,fd00::7");
	assert_string_equal(field(pod, "status.hostIP"), "192.0.2.1");
	assert_string_equal(field(pod, "spec.bogus"), "error");
}

static const char *resource(const struct json *container, const char *name, const char *divisor)
{
	char *text;

	return fieldref_resource(&arena, container, &facts, str_of(name), str_of(divisor), &text, NULL) < 0 ? "error"
													    : text;
}

static void test_resource_fieldref(void **state)
{
	const struct json *c =
		parse("{\"resources\":{\"limits\":{\"memory\":\"64Mi\"},\"requests\":{\"cpu\":\"250m\"}}}");

	assert_string_equal(resource(c, "limits.memory", ""), "67108864");
	assert_string_equal(resource(c, "limits.memory", "1Mi"), "64");
	assert_string_equal(resource(c, "requests.cpu", ""), "1"); /* rounded up to cores */
	assert_string_equal(resource(c, "requests.cpu", "1m"), "250");
	assert_string_equal(resource(c, "limits.cpu", "1"), "2"); /* no limit: the node's */
	assert_string_equal(resource(c, "requests.memory", "1"), "0");
	assert_string_equal(resource(c, "bogus", ""), "error");
}

static const char *get(const struct env *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->vars[i], name, n) == 0 && env->vars[i][n] == '=')
			return env->vars[i] + n + 1;
	return NULL;
}

static void test_service_env(void **state)
{
	struct env env = { 0 };

	service_env_add(&arena, &env,
			parse("{\"metadata\":{\"name\":\"my-db\"},\"spec\":{\"clusterIP\":\"10.43.0.9\",\"ports\":["
			      "{\"name\":\"sql-main\",\"port\":5432},{\"port\":53,\"protocol\":\"UDP\"}]}}"));
	service_env_add(&arena, &env, parse("{\"metadata\":{\"name\":\"h\"},\"spec\":{\"clusterIP\":\"None\"}}"));
	assert_string_equal(get(&env, "MY_DB_SERVICE_HOST"), "10.43.0.9");
	assert_string_equal(get(&env, "MY_DB_SERVICE_PORT"), "5432");
	assert_string_equal(get(&env, "MY_DB_SERVICE_PORT_SQL_MAIN"), "5432");
	assert_string_equal(get(&env, "MY_DB_PORT"), "tcp://10.43.0.9:5432");
	assert_string_equal(get(&env, "MY_DB_PORT_5432_TCP_ADDR"), "10.43.0.9");
	assert_string_equal(get(&env, "MY_DB_PORT_53_UDP"), "udp://10.43.0.9:53");
	assert_string_equal(get(&env, "MY_DB_PORT_53_UDP_PROTO"), "udp");
	assert_null(get(&env, "H_SERVICE_HOST"));
}

static void test_env_set(void **state)
{
	struct env env = { 0 };

	for (int i = 0; i < 100; i++)
		env_set(&arena, &env, str_of(arena_printf(&arena, "V%d", i)), STR("x"));
	env_set(&arena, &env, STR("V7"), STR("seven"));
	assert_int_equal(env.n, 100);
	assert_null(env.vars[100]);
	assert_string_equal(get(&env, "V7"), "seven");
	assert_false(env_has(&env, STR("V")));
}

static const char *cluster_dns = "10.43.0.10";

static const char *resolv(const char *spec)
{
	struct netfiles_source src = {
		.pod = parse(arena_printf(&arena, "{\"metadata\":{\"name\":\"p\"},\"spec\":%s}", spec)),
		.ns = STR("demo"),
		.cluster_dns = cluster_dns,
		.cluster_domain = "cluster.local",
		.host_resolv_conf = STR("# host\nnameserver 192.0.2.53\nsearch old\nsearch lan example.org\n"
					"options ndots:2 rotate\n"),
	};
	_cleanup_buf_ struct buf out = BUF_INIT;

	netfiles_resolv_conf(&src, &out);
	return arena_strdup(&arena, buf_cstr(&out));
}

static void test_resolv_conf(void **state)
{
	assert_string_equal(resolv("{\"dnsPolicy\":\"ClusterFirst\"}"),
			    "search demo.svc.cluster.local svc.cluster.local cluster.local lan example.org\n"
			    "nameserver 10.43.0.10\noptions ndots:5\n");
	assert_string_equal(resolv("{\"dnsPolicy\":\"Default\"}"),
			    "search lan example.org\nnameserver 192.0.2.53\noptions ndots:2 rotate\n");
	/* on the host's network ClusterFirst means the host's, unless it says otherwise */
	assert_string_equal(resolv("{\"dnsPolicy\":\"ClusterFirst\",\"hostNetwork\":true}"),
			    "search lan example.org\nnameserver 192.0.2.53\noptions ndots:2 rotate\n");
	assert_non_null(strstr(resolv("{\"dnsPolicy\":\"ClusterFirstWithHostNet\",\"hostNetwork\":true}"),
			       "nameserver 10.43.0.10\n"));
	assert_string_equal(
		resolv("{\"dnsPolicy\":\"None\",\"dnsConfig\":{\"nameservers\":[\"1.1.1.1\"],\"searches\":"
		       "[\"a.b\"],\"options\":[{\"name\":\"ndots\",\"value\":\"1\"},{\"name\":\"edns0\"}]}}"),
		"search a.b\nnameserver 1.1.1.1\noptions ndots:1 edns0\n");
	assert_non_null(strstr(resolv("{\"dnsPolicy\":\"ClusterFirst\",\"dnsConfig\":{\"options\":[{\"name\":\"ndots\","
				      "\"value\":\"2\"}]}}"),
			       "options ndots:2\n"));
	/* an address of each family: both, in their order; a pod's own come behind as far as there is room */
	cluster_dns = "fd43::a,10.43.0.10";
	assert_non_null(strstr(
		resolv("{\"dnsPolicy\":\"ClusterFirst\",\"dnsConfig\":{\"nameservers\":[\"1.1.1.1\",\"2.2.2.2\"]}}"),
		"\nnameserver fd43::a\nnameserver 10.43.0.10\nnameserver 1.1.1.1\noptions"));
	cluster_dns = "10.43.0.10";
}

static void test_hosts(void **state)
{
	struct netfiles_source src = {
		.pod = parse(
			"{\"metadata\":{\"name\":\"web-0\",\"namespace\":\"demo\"},\"spec\":{\"hostname\":\"web-0\","
			"\"subdomain\":\"web\",\"hostAliases\":[{\"ip\":\"192.0.2.9\",\"hostnames\":[\"a\",\"b\"]}]}}"),
		.ns = STR("demo"),
		.cluster_domain = "cluster.local",
		.pod_ips = { "10.42.0.7", "fd42::7" },
	};
	_cleanup_buf_ struct buf out = BUF_INIT;

	netfiles_hosts(&src, &out);
	assert_non_null(strstr(buf_cstr(&out), "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
	assert_non_null(strstr(buf_cstr(&out), "\n10.42.0.7\tweb-0.web.demo.svc.cluster.local\tweb-0\n"));
	assert_non_null(strstr(buf_cstr(&out), "\nfd42::7\tweb-0.web.demo.svc.cluster.local\tweb-0\n"));
	assert_non_null(strstr(buf_cstr(&out), "\n192.0.2.9\ta\tb\n"));
}

static void test_hostname(void **state)
{
	char *name = arena_alloc(&arena, 71), *fqdn;

	memset(name, 'a', 70);
	name[62] = '-';
	name[70] = '\0';
	assert_int_equal(
		strlen(netfiles_hostname(&arena, parse(arena_printf(&arena, "{\"metadata\":{\"name\":\"%s\"}}", name)),
					 "c", &fqdn)),
		62);
	assert_string_equal(fqdn, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_expand, teardown),
		cmocka_unit_test_teardown(test_fieldref, teardown),
		cmocka_unit_test_teardown(test_resource_fieldref, teardown),
		cmocka_unit_test_teardown(test_service_env, teardown),
		cmocka_unit_test_teardown(test_env_set, teardown),
		cmocka_unit_test_teardown(test_resolv_conf, teardown),
		cmocka_unit_test_teardown(test_hosts, teardown),
		cmocka_unit_test_teardown(test_hostname, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
