/* SPDX-License-Identifier: Apache-2.0 */
/* A Service and a pod's hostPort that want the same port of the node: the Service has it where it is served, whoever
 * came first, over restarts, a boot and addresses that come and go; the pod is served at the node's other addresses, is
 * told, and has all when the Service goes. In both families. */
#include "tests/netctl/ports.h"

#include "userspace/dataplane/inspect.h"
#include "userspace/netctl/internal.h"

#define PODS "10.42.0.0/24,fd42::/64"

struct side {
	const char *node, *any, *cluster_ip, *family, *loopback;
	const char *other; /* an address that the node has at times */
	uint8_t bits;
};

static const struct side sides[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, "0.0.0.0", "10.43.0.91", "IPv4", "127.0.0.1", "172.30.0.9", 24 },
	[DP_V6] = { NODE_IP6, "::", "fd43::91", "IPv6", "::1", "fd30::9", 64 },
};

static struct pod backend; /* of the Services */
static int behind;         /* it answers there */

static int rivals_setup(void **state)
{
	fixture_setup((void **)&node.f);
	fixture_close(node.f);
	node.f->service_cidr = "10.43.0.0/16,fd43::/112";
	fixture_open(node.f);
	fixture_do(node.f, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "",
		   "{\"metadata\":{\"name\":\"default\"}}");
	node_start_with(PODS);
	pod_add(&backend, "backend");
	behind = server_in(backend.ns, SOCK_STREAM, "::", 8080);
	return 0;
}

static int rivals_teardown(void **state)
{
	close(behind);
	pod_end(&backend);
	return teardown(state);
}

/* ---- what there is ---- */

/* of_port, of_spec: more members of these. */
static void host_pod_create(struct pod *p, const char *name, uint16_t port, const char *of_port, const char *of_spec)
{
	char text[512];

	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s','labels':{'app':'%s'}},'spec':{%s'containers':[{'name':'c','image':'i',"
		 "'ports':[{'containerPort':8080,'hostPort':%u%s}]}]}}",
		 name, name, of_spec, port, of_port);
	create(KIND_POD, text);
}

static int host_pod_attach(struct pod *p)
{
	p->ns = ns_new();
	assert_int_equal(pod_attach_again(p), 0);
	settle();
	return server_in(p->ns, SOCK_STREAM, "::", 8080);
}

static int host_pod(struct pod *p, const char *name, uint16_t port, const char *of_port)
{
	host_pod_create(p, name, port, of_port, "");
	return host_pod_attach(p);
}

static void host_pod_end(struct pod *p, int server)
{
	close(server);
	delete (KIND_POD, p->name);
	pod_end(p);
}

/* The Service's backend is the pod of that name only. */
static void side_service(const struct side *side, const char *name, uint16_t port, const char *more)
{
	bool v6 = side == &sides[DP_V6];
	char text[512];

	snprintf(text, sizeof(text), ",'ipFamilies':['%s']%s", side->family, more);
	service(name, side->cluster_ip, port, text);
	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s-1','labels':{'kubernetes.io/service-name':'%s'}},'addressType':'%s',"
		 "'ports':[{'name':'','protocol':'TCP','port':8080}],'endpoints':[{'addresses':['%s'],"
		 "'conditions':{'ready':true}}]}",
		 name, name, side->family, v6 ? backend.addr6 : backend.addr);
	create(KIND_ENDPOINTSLICE, text);
}

static void external_at(const struct side *side, const char *address, const char *name, uint16_t port)
{
	char more[128];

	snprintf(more, sizeof(more), ",'externalIPs':['%s']", address);
	side_service(side, name, port, more);
}

static void external(const struct side *side, const char *name, uint16_t port)
{
	external_at(side, side->node, name, port);
}

static void external_delete(const char *name)
{
	char slice_name[64];

	snprintf(slice_name, sizeof(slice_name), "%s-1", name);
	delete (KIND_SERVICE, name);
	delete (KIND_ENDPOINTSLICE, slice_name);
}

static void expect_at(const struct side *side, uint16_t port, int server)
{
	expect_answer(side->node, port, server, false);
	expect_answer(side->node, port, server, true);
}

/* Events with "port/TCP of address does not lead to the pod: who has it". */
static unsigned told_of(uint16_t port, const char *address, const char *who)
{
	char text[256];

	snprintf(text, sizeof(text), "Port %u/TCP of %s does not lead to the pod: Service %s has it", port, address,
		 who);
	return told(text);
}

static void forget_told(void)
{
	fixture_do(node.f, API_VERB_DELETECOLLECTION, KIND_EVENT, "default", "", "{}");
}

/* What status says of the object's ports: "address: holder", all of them; NULL when nothing. */
static const char *holders(struct arena *arena, const char *name)
{
	const char *text = NULL;

	json_foreach(s, json_get(netctl_status_json(node.nc, arena), "services"))
		if (str_is(json_get_str(s, "name"), name))
			json_foreach(p, json_get(s, "portsInUse")) {
				assert_false(json_get_bool(p, "served", true));
				text = arena_printf(arena, "%s%s%.*s: %.*s", text ? text : "", text ? ", " : "",
						    STR_ARG(json_get_str(p, "address")),
						    STR_ARG(json_get_str(p, "holder")));
			}
	return text;
}

/* service NULL: nobody. */
static void expect_holder(const char *name, const char *address, const char *service)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const char *have = holders(&arena, name);

	if (!service)
		assert_null(have);
	else
		assert_string_equal(have, arena_printf(&arena, "%s: Service default/%s", address, service));
}

static void restart(void)
{
	node_stop();
	node_start_with(PODS);
}

/* ---- the Service has it ---- */

/* The pod's port at the node's address that the Service wants, or at all of them. */
static int host_pod_at(const struct side *side, bool same, struct pod *p, const char *name, uint16_t port)
{
	char of_port[96] = "";

	if (same)
		snprintf(of_port, sizeof(of_port), ",'hostIP':'%s'", side->node);
	return host_pod(p, name, port, of_port);
}

static void expect_service_has(const struct side *side, bool same, uint16_t port, int server)
{
	expect_at(side, port, behind);
	if (!same)
		expect_answer(side->loopback, port, server, false);
	expect_holder("pod", side->node, "e");
	expect_holder("e", NULL, NULL);
}

static void service_has(const struct side *side, bool same, bool pod_comes_first)
{
	struct pod p;
	int server = -1;

	if (pod_comes_first) {
		server = host_pod_at(side, same, &p, "pod", 18090);
		expect_at(side, 18090, server);
		external(side, "e", 18090);
	} else {
		external(side, "e", 18090);
		server = host_pod_at(side, same, &p, "pod", 18090);
	}
	expect_service_has(side, same, 18090, server);
	assert_int_equal(told_of(18090, side->node, "default/e"), 1);
	/* once */
	patch(KIND_SERVICE, "e", "{\"metadata\":{\"annotations\":{\"a\":\"b\"}}}");
	patch(KIND_POD, "pod", "{\"metadata\":{\"annotations\":{\"a\":\"b\"}}}");
	assert_int_equal(told_of(18090, side->node, "default/e"), 1);
	restart();
	expect_service_has(side, same, 18090, server);
	external_delete("e");
	expect_at(side, 18090, server);
	expect_holder("pod", NULL, NULL);
	host_pod_end(&p, server);
	forget_told();
}

static void test_service_has(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		for (int same = 0; same < 2; same++)
			for (int first = 0; first < 2; first++)
				service_has(&sides[f], same, first);
}

/* ---- addresses come and go ---- */

static void other_address(const struct side *side, bool there)
{
	struct dp_addr a = ip(side->other);
	struct nl_address put = { .addr = dp_addr_in(&a),
				  .bits = side->bits,
				  .ifindex = ifindex_in(world_host_ns(), "up0") };
	struct nl *nl;
	int fd;

	assert_int_equal(netns_socket(world_host_ns(), NETLINK_ROUTE, &fd), 0);
	nl = nl_from_fd(fd);
	nl_put_address(nl, there ? RTM_NEWADDR : RTM_DELADDR, &put, 0);
	ok(nl_commit(nl, err));
	if (there)
		nl_await_address(nl, &put.addr);
	nl_close(nl);
	while (node.nc && dataplane_is_node_address(world.dp, &a) != there)
		settle();
	if (node.nc)
		settle();
}

static void address_flaps(const struct side *side, bool pod_comes_first)
{
	struct pod p;
	int server = -1;

	if (pod_comes_first)
		server = host_pod(&p, "pod", 18091, "");
	external_at(side, side->other, "e", 18091);
	if (!pod_comes_first)
		server = host_pod(&p, "pod", 18091, "");
	for (unsigned i = 1; i <= 2; i++) {
		/* the external address is none of the node's */
		expect_at(side, 18091, server);
		expect_holder("pod", NULL, NULL);
		other_address(side, true);
		expect_answer(side->other, 18091, behind, false);
		expect_answer(side->other, 18091, behind, true);
		expect_at(side, 18091, server);
		expect_holder("pod", side->other, "e");
		assert_true(told_of(18091, side->other, "default/e") > 0);
		restart();
		expect_answer(side->other, 18091, behind, true);
		expect_holder("pod", side->other, "e");
		if (i == 1) {
			other_address(side, false);
		} else { /* nobody sees it go */
			node_stop();
			other_address(side, false);
			node_start_with(PODS);
		}
	}
	expect_at(side, 18091, server);
	expect_holder("pod", NULL, NULL);
	external_delete("e");
	host_pod_end(&p, server);
	forget_told();
}

static void test_address_flaps(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		for (int first = 0; first < 2; first++)
			address_flaps(&sides[f], first);
}

/* The uplink is down for a moment: the balancer's address leaves its status and comes again. */
static void balancer_flaps(bool same, bool pod_comes_first)
{
	const struct side *side = &sides[DP_V4];
	struct request rq;
	struct pod p;
	int server = -1;

	if (pod_comes_first)
		server = host_pod_at(side, same, &p, "pod", 18093);
	side_service(side, "e", 18093, ",'type':'LoadBalancer','allocateLoadBalancerNodePorts':false");
	if (!pod_comes_first)
		server = host_pod_at(side, same, &p, "pod", 18093);
	for (int i = 0; i < 2; i++) {
		expect_at(side, 18093, server);
		expect_holder("pod", NULL, NULL);
		ingress("e", "");
		expect_service_has(side, same, 18093, server);
		assert_string_equal(port_error("e", 18093), "");
		restart();
		expect_service_has(side, same, 18093, server);
		rq = fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", "e",
				     "{\"status\":{\"loadBalancer\":null}}");
		rq.patch = REQUEST_PATCH_MERGE;
		rq.subresource = "status";
		fixture_run(node.f, &rq);
		fixture_expect(node.f, 200, "e");
		settle();
	}
	external_delete("e");
	host_pod_end(&p, server);
	forget_told();
}

static void test_balancer_flaps(void **state)
{
	for (int same = 0; same < 2; same++)
		for (int first = 0; first < 2; first++)
			balancer_flaps(same, first);
}

/* ---- node ports are the cluster's ---- */

static void node_port(const struct side *side, const char *of_port, bool pod_comes_first)
{
	struct pod p;
	int server = -1;

	if (pod_comes_first) {
		server = host_pod(&p, "pod", 30095, of_port);
		expect_at(side, 30095, server);
	}
	side_service(side, "n", 80, "");
	patch(KIND_SERVICE, "n", "{\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":30095}]}}");
	if (!pod_comes_first)
		server = host_pod(&p, "pod", 30095, of_port);
	expect_at(side, 30095, behind);
	assert_int_equal(told_of(30095, *of_port ? side->node : side->any, "default/n"), 1);
	expect_holder("n", NULL, NULL);
	restart();
	expect_at(side, 30095, behind);
	expect_holder("pod", *of_port ? side->node : side->any, "n");
	external_delete("n");
	expect_at(side, 30095, server);
	expect_holder("pod", NULL, NULL);
	host_pod_end(&p, server);
	forget_told();
}

static void test_node_port(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++) {
		char of_port[96];

		snprintf(of_port, sizeof(of_port), ",'hostIP':'%s'", sides[f].node);
		for (int first = 0; first < 2; first++) {
			node_port(&sides[f], "", first);
			node_port(&sides[f], of_port, first);
		}
	}
}

/* Each where it is the nearest. */
static void test_three(void **state)
{
	const struct side *side = &sides[DP_V4];
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct pod p;
	int server = host_pod(&p, "pod", 30096, "");

	external(side, "e", 30096);
	expect_holder("pod", NODE_IP, "e");
	create(KIND_SERVICE, "{'metadata':{'name':'n'},'spec':{'type':'NodePort','clusterIP':'10.43.0.92',"
			     "'ports':[{'port':80,'nodePort':30096}]}}");
	assert_string_equal(holders(&arena, "pod"), "0.0.0.0: Service default/n, " NODE_IP ": Service default/e");
	expect_at(side, 30096, behind);
	delete (KIND_SERVICE, "n");
	expect_holder("pod", NODE_IP, "e");
	expect_at(side, 30096, behind);
	expect_answer("127.0.0.1", 30096, server, false);
	external_delete("e");
	expect_holder("pod", NULL, NULL);
	expect_at(side, 30096, server);
	host_pod_end(&p, server);
}

/* ---- no rivals ---- */

static void test_pod_of_the_service(void **state)
{
	struct pod p;
	int server = host_pod(&p, "mine", 18094, "");

	side_service(&sides[DP_V4], "own", 18094, ",'externalIPs':['" NODE_IP "'],'selector':{'app':'mine'}");
	expect_at(&sides[DP_V4], 18094, behind); /* what its slice says */
	expect_holder("own", NULL, NULL);
	expect_holder("mine", NULL, NULL);
	assert_int_equal(told("18094"), 0);
	/* it selects another */
	patch(KIND_SERVICE, "own", "{\"spec\":{\"selector\":{\"app\":\"other\"}}}");
	expect_holder("mine", NODE_IP, "own");
	assert_int_equal(told_of(18094, NODE_IP, "default/own"), 1);
	external_delete("own");
	expect_at(&sides[DP_V4], 18094, server);
	host_pod_end(&p, server);
}

static void test_elsewhere(void **state)
{
	struct pod local, udp;
	int a = host_pod(&local, "local", 18096, ",'hostIP':'127.0.0.1'");
	int b = host_pod(&udp, "udp", 18096, ",'protocol':'UDP'");

	/* a process of the host, if it does listen there */
	create(KIND_POD, "{'metadata':{'name':'net'},'spec':{'hostNetwork':true,'nodeName':'" NODE
			 "','containers':[{'name':'c','image':'i','ports':[{'containerPort':18096}]}]}}");
	external(&sides[DP_V4], "e", 18096);
	expect_at(&sides[DP_V4], 18096, behind);
	assert_int_equal(told("18096"), 0);
	expect_answer("127.0.0.1", 18096, a, false);
	delete (KIND_POD, "net");
	host_pod_end(&local, a);
	host_pod_end(&udp, b);
	external_delete("e");
}

/* ---- after a boot: nobody has it, the pod has no link yet ---- */

static void boot(void)
{
	node_stop();
	dataplane_purge(world.pin_dir, NULL);
	node_start_with(PODS);
}

static void test_boot(void **state)
{
	const struct side *side = &sides[DP_V4];
	struct pod p;
	int server;

	host_pod_create(&p, "pod", 18098, "", "'nodeName':'" NODE "',");
	external(side, "e", 18098);
	boot();
	assert_int_equal(pod_attach_again(&backend), 0); /* the boot took its link */
	server = host_pod_attach(&p);
	expect_service_has(side, false, 18098, server);
	external_delete("e");
	expect_at(side, 18098, server);
	host_pod_end(&p, server);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_service_has, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_address_flaps, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_balancer_flaps, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_node_port, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_three, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_pod_of_the_service, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_elsewhere, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_boot, rivals_setup, rivals_teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
