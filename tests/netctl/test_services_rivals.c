/* SPDX-License-Identifier: Apache-2.0 */
/* A Service and a pod's hostPort that want the same port of the node: who has it, who is told, and that the loser gets
 * it when the other goes. In both families; over a restart and after a boot. */
#include "tests/netctl/ports.h"

#include "userspace/netctl/internal.h"

#define PODS "10.42.0.0/24,fd42::/64"

struct side {
	const char *node, *any, *cluster_ip, *family;
};

static const struct side sides[DP_FAMILIES] = {
	[DP_V4] = { NODE_IP, "0.0.0.0", "10.43.0.91", "IPv4" },
	[DP_V6] = { NODE_IP6, "::", "fd43::91", "IPv6" },
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

static void external(const struct side *side, const char *name, uint16_t port)
{
	char more[128];

	snprintf(more, sizeof(more), ",'externalIPs':['%s']", side->node);
	side_service(side, name, port, more);
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

/* Events with "port/TCP of address is not served: who has it". */
static unsigned told_of(uint16_t port, const char *address, const char *who)
{
	char text[256];

	snprintf(text, sizeof(text), "Port %u/TCP of %s is not served: %s has it", port, address, who);
	return told(text);
}

/* What status says of the object's port: its holder, NULL when nothing. */
static const char *holder(struct arena *arena, const char *name)
{
	json_foreach(s, json_get(netctl_status_json(node.nc, arena), "services"))
		if (str_is(json_get_str(s, "name"), name))
			json_foreach(p, json_get(s, "portsInUse")) {
				assert_false(json_get_bool(p, "served", true));
				return arena_strndup(arena, json_get_str(p, "holder").p, json_get_str(p, "holder").n);
			}
	return NULL;
}

static void expect_holder(const char *name, const char *want)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const char *have = holder(&arena, name);

	if (!want)
		assert_null(have);
	else
		assert_string_equal(have, want);
}

static void restart(void)
{
	node_stop();
	node_start_with(PODS);
}

/* ---- who has it keeps it ---- */

/* The pod's port at the node's address that the Service wants, or at all of them. */
static int host_pod_at(const struct side *side, bool same, struct pod *p, const char *name, uint16_t port)
{
	char of_port[96] = "";

	if (same)
		snprintf(of_port, sizeof(of_port), ",'hostIP':'%s'", side->node);
	return host_pod(p, name, port, of_port);
}

static void pod_first(const struct side *side, bool same)
{
	struct pod p;
	int server = host_pod_at(side, same, &p, "first", 18090);

	external(side, "late", 18090);
	expect_at(side, 18090, server);
	assert_int_equal(told_of(18090, side->node, "pod default/first"), 1);
	expect_holder("late", "Pod default/first");
	/* by its own address it is served, and told it is once */
	expect_answer(side->cluster_ip, 18090, behind, false);
	patch(KIND_SERVICE, "late", "{\"metadata\":{\"annotations\":{\"a\":\"b\"}}}");
	assert_int_equal(told_of(18090, side->node, "pod default/first"), 1);
	restart();
	expect_at(side, 18090, server);
	expect_holder("late", "Pod default/first");
	host_pod_end(&p, server);
	expect_at(side, 18090, behind);
	expect_holder("late", NULL);
	external_delete("late");
	fixture_do(node.f, API_VERB_DELETECOLLECTION, KIND_EVENT, "default", "", "{}");
}

static void test_pod_first(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		for (int same = 0; same < 2; same++)
			pod_first(&sides[f], same);
}

static void service_first(const struct side *side, bool same)
{
	const char *at = same ? side->node : side->any;
	struct pod p;
	int server;

	external(side, "first", 18091);
	expect_at(side, 18091, behind);
	server = host_pod_at(side, same, &p, "late", 18091);
	expect_at(side, 18091, behind);
	assert_int_equal(told_of(18091, at, "Service default/first"), 1);
	expect_holder("late", "Service default/first");
	restart();
	expect_at(side, 18091, behind);
	expect_holder("late", "Service default/first");
	external_delete("first");
	expect_at(side, 18091, server);
	expect_holder("late", NULL);
	host_pod_end(&p, server);
	fixture_do(node.f, API_VERB_DELETECOLLECTION, KIND_EVENT, "default", "", "{}");
}

static void test_service_first(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		for (int same = 0; same < 2; same++)
			service_first(&sides[f], same);
}

/* The Service is the older object, but asked later. */
static void older_service_asks_late(const struct side *side, bool same)
{
	char externals[96];
	struct pod p;
	int server;

	snprintf(externals, sizeof(externals), "{\"spec\":{\"externalIPs\":[\"%s\"]}}", side->node);
	side_service(side, "old", 18092, "");
	server = host_pod_at(side, same, &p, "young", 18092);
	patch(KIND_SERVICE, "old", externals);
	expect_at(side, 18092, server);
	restart();
	expect_at(side, 18092, server);
	expect_holder("old", "Pod default/young");
	host_pod_end(&p, server);
	expect_at(side, 18092, behind);
	external_delete("old");
}

static void test_older_service_asks_late(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		for (int same = 0; same < 2; same++)
			older_service_asks_late(&sides[f], same);
}

/* The pod is the older object, but a Service has its port when it comes to the node. */
static void older_pod_asks_late(const struct side *side, bool same)
{
	struct pod p;
	int server;

	server = host_pod_at(side, same, &p, "old", 18099);
	external(side, "young", 18099);
	expect_at(side, 18099, server);
	pod_end(&p); /* it leaves, its object stays */
	external_delete("young");
	external(side, "young", 18099);
	expect_at(side, 18099, behind);
	close(server);
	server = host_pod_attach(&p);
	expect_at(side, 18099, behind);
	restart();
	expect_at(side, 18099, behind);
	expect_holder("old", "Service default/young");
	external_delete("young");
	expect_at(side, 18099, server);
	host_pod_end(&p, server);
}

static void test_older_pod_asks_late(void **state)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		for (int same = 0; same < 2; same++)
			older_pod_asks_late(&sides[f], same);
}

/* ---- balancers say so in their status ---- */

static void pod_succeeds(const char *name)
{
	struct request rq =
		fixture_request(API_VERB_PATCH, KIND_POD, "default", name, "{\"status\":{\"phase\":\"Succeeded\"}}");

	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(node.f, &rq);
	fixture_expect(node.f, 200, name);
	settle();
}

static void test_balancer(void **state)
{
	struct pod p;
	int server = host_pod(&p, "first", 18093, "");

	side_service(&sides[DP_V4], "lb", 18093, ",'type':'LoadBalancer','allocateLoadBalancerNodePorts':false");
	ingress("lb", "");
	expect_at(&sides[DP_V4], 18093, server);
	await_error("lb", 18093, ERROR);
	assert_int_equal(told_of(18093, NODE_IP, "pod default/first"), 1);
	/* it ends, though its object stays */
	pod_succeeds("first");
	await_error("lb", 18093, "");
	expect_at(&sides[DP_V4], 18093, behind);
	host_pod_end(&p, server);
	external_delete("lb");
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
	assert_int_equal(told_of(30095, *of_port ? side->node : side->any, "Service default/n"), 1);
	expect_holder("n", NULL);
	restart();
	expect_at(side, 30095, behind);
	expect_holder("pod", "Service default/n");
	external_delete("n");
	expect_at(side, 30095, server);
	expect_holder("pod", NULL);
	host_pod_end(&p, server);
	fixture_do(node.f, API_VERB_DELETECOLLECTION, KIND_EVENT, "default", "", "{}");
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

/* A pod that lost to a node port stands in nobody's way. */
static void test_three(void **state)
{
	const struct side *side = &sides[DP_V4];
	struct pod p;
	int server = host_pod(&p, "pod", 30096, "");

	external(side, "e", 30096);
	expect_holder("e", "Pod default/pod");
	create(KIND_SERVICE, "{'metadata':{'name':'n'},'spec':{'type':'NodePort','clusterIP':'10.43.0.92',"
			     "'ports':[{'port':80,'nodePort':30096}]}}");
	expect_holder("pod", "Service default/n");
	expect_holder("e", NULL);
	expect_at(side, 30096, behind);
	/* it goes, the nearer one stays */
	delete (KIND_SERVICE, "n");
	expect_holder("pod", "Service default/e");
	expect_at(side, 30096, behind);
	external_delete("e");
	expect_holder("pod", NULL);
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
	expect_holder("own", NULL);
	expect_holder("mine", NULL);
	assert_int_equal(told("18094"), 0);
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

	host_pod_create(&p, "bound", 18098, "", "'nodeName':'" NODE "',");
	external(side, "e", 18098);
	expect_holder("e", "Pod default/bound");
	boot();
	expect_holder("e", "Pod default/bound");
	server = host_pod_attach(&p);
	expect_at(side, 18098, server);
	host_pod_end(&p, server);
	assert_int_equal(pod_attach_again(&backend), 0); /* the boot took its link */
	settle();
	expect_holder("e", NULL);
	external_delete("e");
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_pod_first, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_service_first, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_older_service_asks_late, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_older_pod_asks_late, rivals_setup, rivals_teardown),
		cmocka_unit_test_setup_teardown(test_balancer, rivals_setup, rivals_teardown),
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
