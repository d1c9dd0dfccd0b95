/* SPDX-License-Identifier: Apache-2.0 */
/* The room with its real neighbours: objects go into a real registry, packets meet the real dataplane, in the small
 * world of the dataplane's tests. */
#include "tests/netctl/node.h"

static void expect_reach(const struct pod *from, const struct pod *to, uint16_t port)
{
	expect_connect(from, to, to->addr, port, port);
}

static void expect_drop(const struct pod *from, const struct pod *to, uint16_t port, const char *reason)
{
	int server = server_in(to->ns, SOCK_STREAM, to->addr, port), client = sock_in(from->ns, SOCK_STREAM);
	struct sockaddr_in s = sin_of(to->addr, port);
	uint64_t before = drops(reason);

	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(client, (struct sockaddr *)&s, sizeof(s)), -1);
	await_drop(reason, before);
	assert_false(readable(server, 0));
	close(client);
	close(server);
}

static void count_link(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	++*(unsigned *)arg;
}

static unsigned n_links(void)
{
	unsigned n = 0;

	ok(dataplane_pod_each(world.dp, count_link, &n, err));
	return n;
}

static void test_addresses(void **state)
{
	struct pod a, b, c;
	char first[NETCTL_ADDRESS_MAX];

	pod_add(&a, "a");
	pod_add(&b, "b");
	assert_string_equal(a.addr, "10.42.0.2");
	assert_string_equal(b.addr, "10.42.0.3");
	memcpy(first, a.addr, sizeof(first));
	assert_int_equal(pod_attach_again(&a), 0);
	assert_string_equal(a.addr, first);
	expect_reach(&a, &b, 80);
	/* reuse comes late; a second detach is nothing */
	pod_end(&a);
	ok(netctl_pod_detach(node.nc, str_of(a.uid), err));
	pod_add(&c, "c");
	assert_string_equal(c.addr, "10.42.0.4");
	expect_reach(&b, &c, 80);
	pod_end(&b);
	pod_end(&c);
	assert_int_equal(n_links(), 0);
}

static void test_exhaustion(void **state)
{
	struct pod p[6];
	char name[8];

	node_stop();
	node_start_with("10.42.0.0/29");
	/* eight addresses: the network's, the host's and the last are not given */
	for (unsigned i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		pod_add(&p[i], name);
	}
	assert_int_equal(pod_try(&p[5], "late"), -ENOSPC);
	assert_int_equal(n_links(), 5);
	pod_end(&p[2]);
	assert_int_equal(pod_attach_again(&p[5]), 0);
	assert_string_equal(p[5].addr, "10.42.0.4");
	for (unsigned i = 0; i < 6; i++)
		if (i != 2)
			pod_end(&p[i]);
}

static void test_restart(void **state)
{
	struct pod stays, goes, next;
	char before[NETCTL_ADDRESS_MAX];
	struct netctl_stats stats;

	pod_add(&stays, "stays");
	pod_add(&goes, "goes");
	memcpy(before, stays.addr, sizeof(before));
	node_stop();
	delete (KIND_POD, "goes");
	node_start_with("10.42.0.0/24");
	/* the link of the pod whose object vanished is gone, the other one stands */
	assert_int_equal(n_links(), 1);
	netctl_get_stats(node.nc, &stats);
	assert_int_equal(stats.errors, 0);
	pod_add(&next, "next");
	assert_string_equal(next.addr, "10.42.0.4"); /* not the one just freed, and not the one in use */
	assert_int_equal(pod_attach_again(&stays), 0);
	assert_string_equal(stays.addr, before);
	expect_reach(&stays, &next, 80);
	pod_end(&stays);
	pod_end(&next);
	close(goes.ns);
}

/* The object is gone before the kubelet takes the network down: the address stays taken until then. */
static void test_vanished_object(void **state)
{
	struct pod a, b;
	struct netctl_stats stats;

	pod_add(&a, "a");
	delete (KIND_POD, "a");
	pod_add(&b, "b");
	assert_string_not_equal(a.addr, b.addr);
	expect_reach(&b, &a, 80);
	pod_end(&a);
	netctl_get_stats(node.nc, &stats);
	assert_int_equal(stats.pods, 2); /* b and the cluster's DNS */
	assert_int_equal(n_links(), 1);
	pod_end(&b);
}

/* Rules stand before a pod has its link: what it first sends is allowed, and what it first receives is judged. */
static void test_first_packet(void **state)
{
	struct pod web, friend, stranger;
	uint64_t before;

	create(KIND_NETWORKPOLICY, "{'metadata':{'name':'p'},'spec':{'podSelector':{'matchLabels':{'app':'web'}},"
				   "'ingress':[{'from':[{'podSelector':{'matchLabels':{'app':'friend'}}}]}]}}");
	pod_add(&stranger, "stranger");
	pod_add(&web, "web");
	expect_drop(&stranger, &web, 80, "policy-ingress");
	before = drops("policy-ingress");
	pod_add(&friend, "friend");
	/* a first SYN that was dropped would be sent again */
	expect_reach(&friend, &web, 80);
	assert_int_equal(drops("policy-ingress"), before);
	delete (KIND_NETWORKPOLICY, "p");
	pod_end(&web);
	pod_end(&friend);
	pod_end(&stranger);
}

static void count_policy(void *arg, const struct dp_policy_info *p)
{
	*(unsigned *)arg += p->isolated_ingress || p->isolated_egress;
}

static void test_policy(void **state)
{
	struct pod web, friend, stranger;
	unsigned isolated = 0;

	pod_add(&web, "web");
	pod_add(&friend, "friend");
	pod_add(&stranger, "stranger");
	create(KIND_NETWORKPOLICY,
	       "{'metadata':{'name':'p'},'spec':{'podSelector':{'matchLabels':{'app':'web'}},'ingress':["
	       "{'from':[{'podSelector':{'matchLabels':{'app':'friend'}}}],'ports':[{'port':'http'}]}]}}");
	expect_reach(&friend, &web, 8080);
	expect_drop(&friend, &web, 80, "policy-ingress");
	expect_drop(&stranger, &web, 8080, "policy-ingress");
	/* labels change hands */
	patch(KIND_POD, "stranger", "{\"metadata\":{\"labels\":{\"app\":\"friend\"}}}");
	expect_reach(&stranger, &web, 8080);
	patch(KIND_POD, "friend", "{\"metadata\":{\"labels\":{\"app\":\"other\"}}}");
	expect_drop(&friend, &web, 8080, "policy-ingress");
	/* out: a name is each receiver's port */
	create(KIND_NETWORKPOLICY,
	       "{'metadata':{'name':'q'},'spec':{'podSelector':{'matchLabels':{'app':'other'}},'policyTypes':"
	       "['Egress'],'egress':[{'ports':[{'port':'http'}]}]}}");
	expect_reach(&friend, &stranger, 8080);
	expect_drop(&friend, &stranger, 80, "policy-egress");
	/* stands over a restart */
	node_stop();
	node_start_with("10.42.0.0/24");
	expect_drop(&friend, &web, 8080, "policy-ingress");
	delete (KIND_NETWORKPOLICY, "p");
	expect_reach(&friend, &web, 8080);
	pod_end(&web);
	pod_end(&friend);
	pod_end(&stranger);
	ok(dataplane_policy_each(world.dp, count_policy, &isolated, err));
	assert_int_equal(isolated, 0);
}

/* ---- services ---- */

static void test_services(void **state)
{
	struct pod client, server;
	struct seen before;
	int fd;

	pod_add(&client, "client");
	pod_add(&server, "server");
	service("other", "10.43.0.78", 81, "");
	service("s", CLUSTER_IP, 80, "");
	assert_int_equal(client_in(client.ns, SOCK_STREAM, CLUSTER_IP, 80, &fd), -ECONNREFUSED);
	close(fd);
	slice("s", server.addr, 8080);
	expect_connect(&client, &server, CLUSTER_IP, 80, 8080);
	before = frontend(80);
	assert_int_equal(before.n, 2);
	assert_int_equal(before.n_backends, 1);
	/* the node is down: traffic goes on; what was deleted meanwhile goes when it is back, the rest keeps its id */
	node_stop();
	expect_connect(&client, &server, CLUSTER_IP, 80, 8080);
	delete (KIND_SERVICE, "other");
	node_start_with("10.42.0.0/24");
	assert_int_equal(frontend(80).n, 1);
	assert_int_equal(frontend(80).id, before.id);
	service("third", "10.43.0.79", 82, "");
	assert_int_not_equal(frontend(82).id, before.id);
	expect_connect(&client, &server, CLUSTER_IP, 80, 8080);
	delete (KIND_ENDPOINTSLICE, "s-1");
	assert_int_equal(client_in(client.ns, SOCK_STREAM, CLUSTER_IP, 80, &fd), -ECONNREFUSED);
	close(fd);
	delete (KIND_SERVICE, "s");
	delete (KIND_SERVICE, "third");
	assert_int_equal(frontend(80).n, 0);
	pod_end(&client);
	pod_end(&server);
}

/* Two Services claim one address: while either is there, somebody has it. */
static void test_contended_place(void **state)
{
	service("one", "10.43.0.81", 80, ",'externalIPs':['192.0.2.80']");
	service("two", "10.43.0.82", 80, ",'externalIPs':['192.0.2.80']");
	assert_int_equal(frontend(80).n, 3);
	delete (KIND_SERVICE, "one");
	assert_int_equal(frontend(80).n, 2);
	service("one", "10.43.0.83", 80, ",'externalIPs':['192.0.2.80']");
	delete (KIND_SERVICE, "one");
	settle();
	assert_int_equal(frontend(80).n, 2);
	delete (KIND_SERVICE, "two");
	assert_int_equal(frontend(80).n, 0);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exhaustion, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanished_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_packet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_policy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_services, setup, teardown),
		cmocka_unit_test_setup_teardown(test_contended_place, setup, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
