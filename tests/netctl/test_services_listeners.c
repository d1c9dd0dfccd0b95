/* SPDX-License-Identifier: Apache-2.0 */
/* Frontends at the node's addresses meet processes of the host that listen already: who keeps the port, who is told,
 * and who has it when the other leaves. */
#include "tests/netctl/ports.h"

#include "userspace/netctl/internal.h"

static struct pod pod;
static int behind; /* the pod's server */

static int listeners_setup(void **state)
{
	setup(state);
	pod_add(&pod, "web");
	behind = server_in(pod.ns, SOCK_STREAM, pod.addr, 8080);
	return 0;
}

static int listeners_teardown(void **state)
{
	close(behind);
	pod_end(&pod);
	return teardown(state);
}

/* ---- Services ---- */

static void balancer(const char *name, const char *cluster_ip, uint16_t port)
{
	service(name, cluster_ip, port, ",'type':'LoadBalancer','allocateLoadBalancerNodePorts':false");
	slice(name, pod.addr, 8080);
}

static void touch(const char *name, const char *how)
{
	char text[128];

	snprintf(text, sizeof(text), "{\"metadata\":{\"annotations\":{\"how\":\"%s\"}}}", how);
	patch(KIND_SERVICE, name, text);
}

static void test_balancer_waits(void **state)
{
	int ssh = host_server("0.0.0.0", 22);

	balancer("git", "10.43.0.91", 22);
	ingress("git", "");
	expect_answers(22, ssh);
	await_error("git", 22, ERROR);
	assert_int_equal(told("Port 22/TCP of " NODE_IP " is not served"), 1);
	/* told once, however often it is looked at */
	touch("git", "again");
	assert_int_equal(told("Port 22/TCP of " NODE_IP " is not served"), 1);
	expect_answers(22, ssh);
	/* by its own address it is served all the same */
	expect_answer("10.43.0.91", 22, behind, false);
	close(ssh);
	await_error("git", 22, ""); /* nobody touches it */
	expect_answers(22, behind);
	/* and then it stays so: who opens a port does not get a Service's clients */
	ssh = host_server("0.0.0.0", 22);
	touch("git", "once more");
	expect_answers(22, behind);
	await_error("git", 22, "");
	node_stop();
	node_start_with("10.42.0.0/24");
	expect_answers(22, behind);
	close(ssh);
	delete (KIND_SERVICE, "git");
}

/* Only the port and address at which somebody listens. */
static void test_others_are_served(void **state)
{
	int elsewhere = host_server("127.0.0.1", 2222), v6 = host_server("::1", 2222);

	balancer("a", "10.43.0.92", 2222);
	ingress("a", "");
	expect_answers(2222, behind);
	await_error("a", 2222, "");
	assert_int_equal(told("2222"), 0);
	close(elsewhere);
	close(v6);
	delete (KIND_SERVICE, "a");
}

/* A socket of both families, and external addresses. */
static void test_external_address_waits(void **state)
{
	int both = host_server("::", 2223);

	service("e", "10.43.0.93", 2223, ",'externalIPs':['" NODE_IP "','192.0.2.80']");
	slice("e", pod.addr, 8080);
	expect_answers(2223, both);
	expect_answer("192.0.2.80", 2223, behind, false);
	assert_int_equal(told("Port 2223/TCP of " NODE_IP " is not served"), 1);
	close(both);
	touch("e", "freed");
	expect_answers(2223, behind);
	delete (KIND_SERVICE, "e");
}

static void test_node_port_hides(void **state)
{
	int server = host_server(NODE_IP, 30022);

	service("n", "10.43.0.94", 80, "");
	slice("n", pod.addr, 8080);
	assert_int_equal(told("30022"), 0);
	patch(KIND_SERVICE, "n", "{\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":30022}]}}");
	expect_answers(30022, behind);
	assert_int_equal(told("Port 30022/TCP of the node (0.0.0.0) hides"), 1);
	touch("n", "again");
	assert_int_equal(told("30022"), 1);
	close(server);
	delete (KIND_SERVICE, "n");
}

/* A pod with the node's network is its Service's own backend. */
static void test_backend_on_the_host(void **state)
{
	int server = host_server(NODE_IP, 8090);

	service("h", "10.43.0.95", 8090, ",'type':'LoadBalancer','allocateLoadBalancerNodePorts':false");
	ingress("h", "");
	slice("h", NODE_IP, 8090);
	expect_answers(8090, server);
	await_error("h", 8090, "");
	assert_int_equal(told("8090"), 0);
	assert_int_equal(frontend(8090).n_backends, 1);
	close(server);
	delete (KIND_SERVICE, "h");
}

/* After a boot a port that was somebody's is not taken before he had time to come. */
static void test_boot(void **state)
{
	int ssh;

	node.nc->boot_until_ns = INT64_MAX;
	balancer("b", "10.43.0.96", 2224);
	ingress("b", ",\"ports\":[{\"port\":2224,\"protocol\":\"TCP\",\"error\":\"" ERROR "\"}]");
	await_error("b", 2224, ERROR);
	ssh = host_server("0.0.0.0", 2224);
	expect_answers(2224, ssh);
	close(ssh);
	node.nc->boot_until_ns = 0;
	touch("b", "late");
	expect_answers(2224, behind);
	await_error("b", 2224, "");
	delete (KIND_SERVICE, "b");
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_balancer_waits, listeners_setup, listeners_teardown),
		cmocka_unit_test_setup_teardown(test_others_are_served, listeners_setup, listeners_teardown),
		cmocka_unit_test_setup_teardown(test_external_address_waits, listeners_setup, listeners_teardown),
		cmocka_unit_test_setup_teardown(test_node_port_hides, listeners_setup, listeners_teardown),
		cmocka_unit_test_setup_teardown(test_backend_on_the_host, listeners_setup, listeners_teardown),
		cmocka_unit_test_setup_teardown(test_boot, listeners_setup, listeners_teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
