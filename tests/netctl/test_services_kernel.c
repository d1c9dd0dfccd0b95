/* SPDX-License-Identifier: Apache-2.0 */
/* Services from objects to connections: hostPorts, the life of backends, health-check ports, places and maps that are
 * taken or full. */
#include "tests/netctl/node.h"

#include "userspace/base/clock.h"

static bool connects(int ns, const char *addr, uint16_t port)
{
	int fd, r = client_in(ns, SOCK_STREAM, addr, port, &fd);

	close(fd);
	if (r < 0 && r != -ECONNREFUSED)
		fail_msg("connect to %s port %u: %s", addr, port, strerror(-r));
	return r == 0;
}

/* ---- hostPorts ---- */

static void host_port_pod(struct pod *p, const char *name, const char *ports)
{
	char text[512];

	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s'},'spec':{'containers':[{'name':'c','image':'i','ports':[%s]}]}}", name,
		 ports);
	create(KIND_POD, text);
	p->ns = ns_new();
	assert_int_equal(pod_attach_again(p), 0);
	settle();
}

static void test_host_ports(void **state)
{
	struct pod a, b;
	int server;

	host_port_pod(&a, "a", "{'containerPort':8080,'hostPort':18080}");
	host_port_pod(&b, "b",
		      "{'containerPort':8080,'hostPort':18080},{'containerPort':8080,'hostPort':18081,"
		      "'hostIP':'" NODE_IP "'}");
	assert_int_equal(frontend(18080).n_backends, 1);
	server = server_in(a.ns, SOCK_STREAM, a.addr, 8080);
	assert_true(connects(world_host_ns(), "127.0.0.1", 18080));
	assert_true(connects(world_host_ns(), NODE_IP, 18080));
	assert_true(connects(world.outside, NODE_IP, 18080));
	/* a specific one */
	close(server);
	server = server_in(b.ns, SOCK_STREAM, b.addr, 8080);
	assert_true(connects(world_host_ns(), NODE_IP, 18081));
	assert_true(connects(world.outside, NODE_IP, 18081));
	assert_false(connects(world_host_ns(), "127.0.0.1", 18081));
	/* the first had the port; when it goes the second has it */
	assert_false(connects(world_host_ns(), NODE_IP, 18080));
	pod_end(&a);
	assert_true(connects(world_host_ns(), NODE_IP, 18080));
	/* over a restart */
	node_stop();
	assert_true(connects(world.outside, NODE_IP, 18080));
	node_start_with("10.42.0.0/24");
	assert_true(connects(world.outside, NODE_IP, 18080));
	close(server);
	pod_end(&b);
	assert_int_equal(frontend(18080).n, 0);
}

/* ---- the life of backends ---- */

static void set_slice(const char *name, const char *endpoints)
{
	char text[640];

	snprintf(text, sizeof(text), "{\"endpoints\":[%s]}", endpoints);
	patch(KIND_ENDPOINTSLICE, name, text);
}

static bool is_ended(int fd)
{
	char byte;

	return readable(fd, 0) && recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNABORTED;
}

/* Sockets are ended on a thread of the dataplane's. */
static void await_end(int fd)
{
	assert_true(readable(fd, WORLD_WAIT_MS));
	assert_true(is_ended(fd));
}

static void test_backend_of_a_pod(void **state)
{
	struct pod client, server;
	int listener, fd, conn, udp, udp_server;
	char endpoint[256];

	pod_add(&client, "client");
	pod_add(&server, "server");
	service("s", CLUSTER_IP, 80, "");
	slice("s", server.addr, 8080);
	create(KIND_SERVICE, "{'metadata':{'name':'u'},'spec':{'clusterIP':'10.43.0.80','ports':[{'port':53,"
			     "'protocol':'UDP'}]}}");
	snprintf(endpoint, sizeof(endpoint),
		 "{'metadata':{'name':'u-1','labels':{'kubernetes.io/service-name':'u'}},'addressType':'IPv4',"
		 "'ports':[{'name':'','protocol':'UDP','port':5353}],'endpoints':[{'addresses':['%s']}]}",
		 server.addr);
	create(KIND_ENDPOINTSLICE, endpoint);
	listener = server_in(server.ns, SOCK_STREAM, server.addr, 8080);
	udp_server = server_in(server.ns, SOCK_DGRAM, server.addr, 5353);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, CLUSTER_IP, 80, &fd), 0);
	assert_int_equal(client_in(client.ns, SOCK_DGRAM, "10.43.0.80", 53, &udp), 0);
	conn = accept_from(listener, NULL);
	pass_bytes(udp, udp_server, "datagram");
	/* not ready, leaving, away from the slices: what was begun lives on; datagrams are told at once */
	snprintf(endpoint, sizeof(endpoint),
		 "{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":false,\"serving\":true,\"terminating\":true}},"
		 "{\"addresses\":[\"10.42.0.200\"]}",
		 server.addr);
	set_slice("s-1", endpoint);
	set_slice("u-1", "");
	pass_bytes(fd, conn, "still there");
	await_end(udp);
	set_slice("s-1", "");
	pass_bytes(conn, fd, "and still");
	assert_false(is_ended(fd));
	/* the pod is gone */
	ok(netctl_pod_detach(node.nc, str_of(server.uid), err));
	settle();
	await_end(fd);
	close(conn);
	close(listener);
	close(udp_server);
	close(udp);
	close(fd);
	close(server.ns);
	pod_end(&client);
}

/* An endpoint that is no pod of ours may live, whatever slices say or do not say of it: what was begun lives on. */
static void test_backend_elsewhere(void **state)
{
	struct pod client;
	int here = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 9000),
	    other = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 9001), fd, direct, same;

	pod_add(&client, "client");
	service("s", CLUSTER_IP, 80, "");
	slice("s", NODE_IP, 9000);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, CLUSTER_IP, 80, &fd), 0);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, NODE_IP, 9001, &direct), 0);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, NODE_IP, 9000, &same), 0);
	set_slice("s-1", "{\"addresses\":[\"" NODE_IP "\"],\"conditions\":{\"ready\":false,\"serving\":true,"
			 "\"terminating\":true}}");
	assert_false(is_ended(fd));
	/* its readiness fails, while it leaves or not: what was begun may be finished */
	set_slice("s-1", "{\"addresses\":[\"" NODE_IP "\"],\"conditions\":{\"ready\":false,\"serving\":false,"
			 "\"terminating\":true}}");
	sockets_finish(world.dp);
	assert_false(is_ended(fd));
	set_slice("s-1", "{\"addresses\":[\"" NODE_IP "\"],\"conditions\":{\"ready\":false,\"serving\":false}}");
	sockets_finish(world.dp);
	assert_false(is_ended(fd));
	/* nor is a Service's that is not there, or another's, anything to whom never came through it */
	create(KIND_ENDPOINTSLICE,
	       "{'metadata':{'name':'o-1','labels':{'kubernetes.io/service-name':'o'}},'addressType':'IPv4','ports':"
	       "[{'name':'','protocol':'TCP','port':9001}],'endpoints':[{'addresses':['" NODE_IP "']}]}");
	delete (KIND_ENDPOINTSLICE, "o-1");
	sockets_finish(world.dp);
	assert_false(is_ended(direct));
	/* another slice lists it too */
	create(KIND_ENDPOINTSLICE,
	       "{'metadata':{'name':'s-2','labels':{'kubernetes.io/service-name':'s'}},'addressType':'IPv4','ports':"
	       "[{'name':'','protocol':'TCP','port':9000}],'endpoints':[{'addresses':['" NODE_IP "']}]}");
	set_slice("s-1", "");
	sockets_finish(world.dp);
	assert_false(is_ended(fd));
	delete (KIND_ENDPOINTSLICE, "s-2");
	sockets_finish(world.dp);
	assert_false(is_ended(fd));
	delete (KIND_SERVICE, "s");
	sockets_finish(world.dp);
	assert_false(is_ended(fd));
	/* nor does a start know more */
	node_stop();
	node_start_with("10.42.0.0/24");
	sockets_finish(world.dp);
	assert_false(is_ended(fd));
	assert_false(is_ended(direct));
	assert_false(is_ended(same));
	close(same);
	close(fd);
	close(direct);
	close(here);
	close(other);
	pod_end(&client);
}

static void host_pod(const char *name)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s'},'spec':{'hostNetwork':true,'containers':[{'name':'c','image':'i'}]}}",
		 name);
	create(KIND_POD, text);
}

static void host_endpoint(const char *pod, char ret[static 256])
{
	const struct object *o = registry_get(node.f->reg, KIND_POD, STR("default"), str_of(pod));

	assert_non_null(o);
	snprintf(ret, 256, "{\"addresses\":[\"" NODE_IP "\"],\"targetRef\":{\"kind\":\"Pod\",\"uid\":\"%.*s\"}}",
		 STR_ARG(o->uid));
}

static void pod_phase(const char *name, const char *phase)
{
	struct request rq = fixture_request(API_VERB_PATCH, KIND_POD, "default", name, phase);

	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(node.f, &rq);
	fixture_expect(node.f, 200, name);
	settle();
}

/* A pod on the host's network is gone when it has ended, not when a Service goes or selects it no more; told is then
 * who came through a Service, and nobody who is at another pod's place or knows nothing of Services. */
static void test_backend_on_the_host(void **state)
{
	int here = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 9000),
	    there = server_in(world_host_ns(), SOCK_STREAM, NODE_IP, 9001), by_s, by_t, outside, direct;
	char one[256], two[256], both[520];
	struct pod client;

	pod_add(&client, "client");
	host_pod("one");
	host_pod("two");
	host_pod("three");
	host_endpoint("one", one);
	host_endpoint("two", two);
	service("s", CLUSTER_IP, 80, ",'type':'NodePort'");
	patch(KIND_SERVICE, "s", "{\"spec\":{\"ports\":[{\"port\":80,\"nodePort\":30061}]}}");
	service("t", "10.43.0.78", 80, "");
	slice("s", NODE_IP, 9000);
	slice("t", NODE_IP, 9001);
	snprintf(both, sizeof(both), "%s,%s", one, two); /* one after the other at the same place, as slices have it */
	set_slice("s-1", both);
	set_slice("t-1", two);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, CLUSTER_IP, 80, &by_s), 0);
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, "127.0.0.1", 30061, &outside), 0);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, "10.43.0.78", 80, &by_t), 0);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, NODE_IP, 9000, &direct), 0);
	/* deselected; without its Service */
	set_slice("t-1", "");
	delete (KIND_SERVICE, "s");
	delete (KIND_ENDPOINTSLICE, "s-1");
	sockets_finish(world.dp);
	assert_false(is_ended(by_s));
	assert_false(is_ended(outside));
	assert_false(is_ended(by_t));
	/* one ends, but two is at the same place; who never served ends without consequence */
	pod_phase("one", "{\"status\":{\"phase\":\"Failed\"}}");
	delete (KIND_POD, "three");
	sockets_finish(world.dp);
	assert_false(is_ended(by_s));
	assert_false(is_ended(by_t));
	delete (KIND_POD, "two");
	await_end(by_s);
	await_end(outside);
	await_end(by_t);
	sockets_finish(world.dp);
	assert_false(is_ended(direct));
	/* slices that name who is gone or nobody: no news */
	create(KIND_SERVICE, "{'metadata':{'name':'u'},'spec':{'clusterIP':'10.43.0.79','ports':[{'port':80}]}}");
	slice("u", NODE_IP, 9000);
	close(by_s);
	assert_int_equal(client_in(client.ns, SOCK_STREAM, "10.43.0.79", 80, &by_s), 0);
	set_slice("u-1", both);
	set_slice("u-1", "");
	sockets_finish(world.dp);
	assert_false(is_ended(by_s));
	close(by_s);
	close(by_t);
	close(outside);
	close(direct);
	close(here);
	close(there);
	pod_end(&client);
}

/* ---- UDP flows are their frontend's ---- */

static void udp_service(const char *name, const char *ports, const char *endpoints)
{
	char text[768];

	snprintf(text, sizeof(text), "{'metadata':{'name':'%s'},'spec':{'type':'NodePort','ports':[%s]}}", name, ports);
	create(KIND_SERVICE, text);
	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s-1','labels':{'kubernetes.io/service-name':'%s'}},'addressType':'IPv4',"
		 "'ports':[{'name':'','protocol':'UDP','port':5353}],'endpoints':[{'addresses':['%s']}]}",
		 name, name, endpoints);
	create(KIND_ENDPOINTSLICE, text);
}

static void expect_at(int client, int server)
{
	char c;

	assert_int_equal(send(client, "?", 1, 0), 1);
	if (!readable(server, WORLD_WAIT_MS))
		fail_msg("nothing arrived");
	assert_int_equal(recv(server, &c, 1, 0), 1);
}

/* What was forgotten on the dataplane's thread. */
static void flows_settle(void)
{
	settle();
	sockets_finish(world.dp);
}

#define UDP_PORT(node_port) "{'port':53,'protocol':'UDP','nodePort':" node_port "}"

/* Not ready: told is who came by the frontend that leads there no more. */
static void test_udp_not_ready(void **state)
{
	int at_a, by, by_other, direct, outside_by;
	struct pod a, client;
	char text[256];

	pod_add(&a, "a");
	pod_add(&client, "client");
	at_a = server_in(a.ns, SOCK_DGRAM, a.addr, 5353);
	udp_service("na", UDP_PORT("30055"), a.addr);
	udp_service("nb", UDP_PORT("30056"), a.addr); /* whoever is listed is ready: publishNotReadyAddresses */
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, "127.0.0.1", 30055, &by), 0);
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, "127.0.0.1", 30056, &by_other), 0);
	assert_int_equal(client_in(client.ns, SOCK_DGRAM, NODE_IP, 30056, &outside_by), 0);
	assert_int_equal(client_in(client.ns, SOCK_DGRAM, a.addr, 5353, &direct), 0);
	expect_at(by, at_a);
	expect_at(by_other, at_a);
	expect_at(direct, at_a);
	snprintf(text, sizeof(text), "{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":false}}", a.addr);
	set_slice("na-1", text);
	await_end(by);
	flows_settle();
	expect_at(by_other, at_a);
	expect_at(outside_by, at_a);
	expect_at(direct, at_a);
	/* nobody's any more */
	ok(netctl_pod_detach(node.nc, str_of(a.uid), err));
	settle();
	await_end(by_other);
	await_end(outside_by);
	await_end(direct);
	delete (KIND_SERVICE, "na");
	delete (KIND_SERVICE, "nb");
	close(by);
	close(by_other);
	close(outside_by);
	close(direct);
	close(at_a);
	close(a.ns);
	pod_end(&client);
}

/* A node port becomes another Service's, in this run and while nobody runs. */
static void test_udp_port_moves(void **state)
{
	struct pod a, b;
	int at_a, at_b, client, inside;

	pod_add(&a, "a");
	pod_add(&b, "b");
	at_a = server_in(a.ns, SOCK_DGRAM, a.addr, 5353);
	at_b = server_in(b.ns, SOCK_DGRAM, b.addr, 5353);
	udp_service("ma", UDP_PORT("30053"), a.addr);
	assert_int_equal(client_in(world.outside, SOCK_DGRAM, NODE_IP, 30053, &client), 0);
	expect_at(client, at_a);
	patch(KIND_SERVICE, "ma", "{\"spec\":{\"ports\":[{\"port\":53,\"protocol\":\"UDP\",\"nodePort\":30054}]}}");
	udp_service("mb", UDP_PORT("30053"), b.addr);
	flows_settle();
	expect_at(client, at_b);
	/* killed before anybody was told */
	assert_int_equal(client_in(world_host_ns(), SOCK_DGRAM, "127.0.0.1", 30053, &inside), 0);
	expect_at(inside, at_b);
	node_stop();
	delete (KIND_SERVICE, "mb");
	patch(KIND_SERVICE, "ma", "{\"spec\":{\"ports\":[{\"port\":53,\"protocol\":\"UDP\",\"nodePort\":30053}]}}");
	node_start_with("10.42.0.0/24");
	flows_settle();
	expect_at(client, at_a);
	await_end(inside);
	/* nothing leads there any more, though the pod lives */
	patch(KIND_SERVICE, "ma", "{\"spec\":{\"type\":\"ClusterIP\"}}");
	flows_settle();
	assert_int_equal(send(client, "?", 1, 0), 1);
	assert_true(readable(client, WORLD_WAIT_MS));
	assert_int_equal(recv(client, &(char){ 0 }, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(inside);
	close(client);
	close(at_a);
	close(at_b);
	pod_end(&a);
	pod_end(&b);
}

/* ---- affinity ---- */

#define STICKY_PORTS 6

/* Which of the two answers. */
static int reached(int ns, const char *addr, uint16_t port, const int servers[static 2])
{
	struct pollfd p[2] = { { .fd = servers[0], .events = POLLIN }, { .fd = servers[1], .events = POLLIN } };
	int fd, which;

	assert_int_equal(client_in(ns, SOCK_STREAM, addr, port, &fd), 0);
	assert_int_equal(poll(p, 2, WORLD_WAIT_MS), 1);
	which = p[1].revents ? 1 : 0;
	close(accept_from(servers[which], NULL));
	close(fd);
	return which;
}

/* A client finds its backend again whichever address of the Service's port it takes. */
static void test_affinity_of_a_port(void **state)
{
	struct buf service_text = BUF_INIT, slice_text = BUF_INIT;
	struct pod client, pods[2];
	int servers[2];

	pod_add(&client, "client");
	for (int i = 0; i < 2; i++) {
		pod_add(&pods[i], i ? "b" : "a");
		servers[i] = server_in(pods[i].ns, SOCK_STREAM, pods[i].addr, 8080);
	}
	buf_printf(&service_text, "{'metadata':{'name':'s'},'spec':{'type':'NodePort','clusterIP':'" CLUSTER_IP
				  "','externalIPs':['10.43.0.99'],'sessionAffinity':'ClientIP','ports':[");
	buf_printf(&slice_text, "{'metadata':{'name':'s-1','labels':{'kubernetes.io/service-name':'s'}},'addressType':"
				"'IPv4','ports':[");
	for (int i = 0; i < STICKY_PORTS; i++) {
		buf_printf(&service_text, "%s{'name':'p%d','port':%d,'nodePort':%d}", i ? "," : "", i, 80 + i,
			   30080 + i);
		buf_printf(&slice_text, "%s{'name':'p%d','protocol':'TCP','port':8080}", i ? "," : "", i);
	}
	buf_printf(&service_text, "]}}");
	buf_printf(&slice_text, "],'endpoints':[{'addresses':['%s']},{'addresses':['%s']}]}", pods[0].addr,
		   pods[1].addr);
	create(KIND_SERVICE, buf_cstr(&service_text));
	create(KIND_ENDPOINTSLICE, buf_cstr(&slice_text));
	for (uint16_t i = 0; i < STICKY_PORTS; i++) {
		int first = reached(client.ns, CLUSTER_IP, 80 + i, servers);

		assert_int_equal(reached(client.ns, NODE_IP, 30080 + i, servers), first);
		assert_int_equal(reached(client.ns, "10.43.0.99", 80 + i, servers), first);
	}
	/* over a restart */
	for (uint16_t i = 0; i < STICKY_PORTS; i++) {
		int first = reached(world.outside, NODE_IP, 30080 + i, servers);

		if (i == 0) {
			node_stop();
			node_start_with("10.42.0.0/24");
		}
		assert_int_equal(reached(world.outside, NODE_IP, 30080 + i, servers), first);
	}
	buf_finish(&service_text);
	buf_finish(&slice_text);
	for (int i = 0; i < 2; i++) {
		close(servers[i]);
		pod_end(&pods[i]);
	}
	pod_end(&client);
}

/* ---- health-check ports ---- */

static void ask_health(uint16_t port, const char *status, const char *body)
{
	static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	char answer[1024] = { 0 };
	size_t n = 0;
	int fd;

	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, "127.0.0.1", port, &fd), 0);
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	for (;;) {
		ssize_t got;

		settle();
		got = recv(fd, answer + n, sizeof(answer) - 1 - n, MSG_DONTWAIT);
		if (got == 0)
			break;
		if (got > 0)
			n += (size_t)got;
	}
	close(fd);
	if (!strstr(answer, status) || !strstr(answer, body))
		fail_msg("%s", answer);
}

static void test_health_check_port(void **state)
{
	int taken;

	create(KIND_SERVICE, "{'metadata':{'name':'lb'},'spec':{'type':'LoadBalancer','clusterIP':'" CLUSTER_IP
			     "','externalTrafficPolicy':'Local','healthCheckNodePort':30555,"
			     "'ports':[{'port':80,'nodePort':30080}]}}");
	ask_health(30555, " 503 ", "\t\"localEndpoints\": 0,\n\t\"serviceProxyHealthy\": true\n}");
	create(KIND_ENDPOINTSLICE,
	       "{'metadata':{'name':'lb-1','labels':{'kubernetes.io/service-name':'lb'}},'addressType':'IPv4','ports':"
	       "[{'name':'','protocol':'TCP','port':8080}],'endpoints':[{'addresses':['10.42.0.9'],'nodeName':'" NODE
	       "'},{'addresses':['10.42.0.10'],'nodeName':'other'}]}");
	ask_health(30555, " 200 ", "\"namespace\": \"default\",\n\t\t\"name\": \"lb\"\n\t},\n\t\"localEndpoints\": 1,");
	ask_health(30555, "X-Load-Balancing-Endpoint-Weight: 1\r\n", "");
	delete (KIND_SERVICE, "lb");
	assert_false(connects(world_host_ns(), "127.0.0.1", 30555));
	/* somebody has it: tried again */
	taken = server_in(world_host_ns(), SOCK_STREAM, "127.0.0.1", 30556);
	create(KIND_SERVICE, "{'metadata':{'name':'lb'},'spec':{'type':'LoadBalancer','clusterIP':'" CLUSTER_IP
			     "','externalTrafficPolicy':'Local','healthCheckNodePort':30556,"
			     "'ports':[{'port':80,'nodePort':30080}]}}");
	close(taken);
	while (!connects(world_host_ns(), "127.0.0.1", 30556))
		settle();
	ask_health(30556, " 200 ", "\"localEndpoints\": 1");
}

/* ---- places and room ---- */

/* A ClusterIP is nobody else's, whoever came first. */
static void test_strong_and_weak(void **state)
{
	service("thief", "10.43.0.90", 80, ",'externalIPs':['10.43.0.91']");
	slice("thief", "10.42.0.90", 80);
	service("owner", "10.43.0.91", 80, "");
	assert_int_equal(frontend(80).n, 2);
	assert_int_equal(node.nc ? frontend(80).n : 0, 2);
	delete (KIND_SERVICE, "owner");
	assert_int_equal(frontend(80).n, 2);
	delete (KIND_SERVICE, "thief");
	assert_int_equal(frontend(80).n, 0);
}

static void start_small(void)
{
	struct dataplane_options o = world_options();
	const struct netctl_options options = { .node_name = NODE, .pod_cidr = "10.42.0.0/24", .cluster_dns = "" };

	node_stop();
	dataplane_purge(world.pin_dir, NULL);
	o.max_services = 8;
	ok(dataplane_open(&o, &world.dp, err));
	ok(netctl_create(node.f->loop, node.f->reg, world.dp, &options, &node.nc, err));
	ok(netctl_start(node.nc, err));
}

static void test_full(void **state)
{
	struct netctl_stats stats;
	char name[8], addr[16];
	unsigned n = 0;

	start_small();
	do {
		snprintf(name, sizeof(name), "s%u", n);
		snprintf(addr, sizeof(addr), "10.43.1.%u", ++n);
		service(name, addr, 80, "");
		netctl_get_stats(node.nc, &stats);
	} while (!stats.services_waiting);
	service("more", "10.43.2.1", 80, "");
	netctl_get_stats(node.nc, &stats);
	assert_int_equal(stats.services_waiting, 2);
	assert_int_equal(frontend(80).n, n - 1);
	assert_int_equal(events_said("\"DataplaneFull\"", ""), 2);
	/* room for one, then for all */
	delete (KIND_SERVICE, "s0");
	netctl_get_stats(node.nc, &stats);
	assert_int_equal(stats.services_waiting, 1);
	assert_int_equal(frontend(80).n, n - 1);
	delete (KIND_SERVICE, "s1");
	netctl_get_stats(node.nc, &stats);
	assert_int_equal(stats.services_waiting, 0);
	assert_int_equal(frontend(80).n, n - 1);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_host_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backend_of_a_pod, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backend_on_the_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backend_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp_not_ready, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp_port_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_affinity_of_a_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_health_check_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strong_and_weak, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
