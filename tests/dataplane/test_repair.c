/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody altered behind the server's back is found, put right in one look, and told as what it was; the next
 * look finds nothing. */
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "bpf/include/endpoint.h"
#include "bpf/include/event.h"
#include "bpf/include/own.h"
#include "bpf/include/service.h"
#include "userspace/dataplane/keys.h"

static struct test_pod a, b;

static int setup(void **state)
{
	pod_make_dual(&a, "pod-a", "10.42.7.1", "fd42::7:1", 100);
	pod_make_dual(&b, "pod-b", "10.42.7.2", "fd42::7:2", 200);
	ok(dataplane_links_process(world.dp, err));
	world.dp->links_drift = (struct dp_drift){ 0 };
	return 0;
}

static int teardown(void **state)
{
	pod_drop(&a);
	pod_drop(&b);
	return 0;
}

static void expect_reach(const char *addr)
{
	int server = server_in(b.ns, SOCK_STREAM, addr, 80), client, conn;

	assert_int_equal(client_in(a.ns, SOCK_STREAM, addr, 80, &client), 0);
	conn = accept_any(server, NULL);
	pass_bytes(client, conn, "question");
	pass_bytes(conn, client, "answer");
	close(conn);
	close(client);
	close(server);
	/* and from the host, by its routes and neighbours */
	server = server_in(b.ns, SOCK_STREAM, addr, 81);
	assert_int_equal(client_in(world_host_ns(), SOCK_STREAM, addr, 81, &client), 0);
	close(client);
	close(server);
}

/* Exactly so many of this kind and nothing else, and then nothing. */
static void expect_found(enum dp_drift_kind kind, uint32_t n)
{
	for (int look = 0; look < 2; look++) {
		struct dp_drift found = { 0 };

		ok(dataplane_drift(world.dp, &found, err));
		for (int k = 0; k < DP_DRIFT_KINDS; k++) {
			uint32_t want = !look && k == (int)kind ? n : 0;

			if (found.n[k] != want)
				fail_msg("look %d: %s: %u, not %u", look, dataplane_drift_name(k), found.n[k], want);
		}
	}
}

static void test_namespace_altered(void **state)
{
	uint32_t key = (uint32_t)b.ifindex, nsid, wrong = 99, now;
	int fd = world.dp->maps[DP_MAP_NSID];

	assert_int_equal(bpf_map_lookup_elem(fd, &key, &nsid), 0);
	assert_int_equal(bpf_map_update_elem(fd, &key, &wrong, BPF_ANY), 0);
	expect_found(DP_DRIFT_NETNS, 1);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &now), 0);
	assert_int_equal(now, nsid);
}

/* Programs at its sockets would take it for a pod. */
static void test_foreign_namespace(void **state)
{
	int fd = world.dp->maps[DP_MAP_NETNS];
	uint64_t host = dataplane_netns_cookie(), pod = 0;
	struct k3c_netns row, now;
	uint64_t cookie;

	keys_foreach(fd, cookie)
		if (bpf_map_lookup_elem(fd, &cookie, &row) == 0 && row.ifindex == (uint32_t)b.ifindex)
			pod = cookie;
	assert_int_equal(bpf_map_lookup_elem(fd, &pod, &row), 0);
	for (int restart = 0; restart < 2; restart++) {
		assert_int_equal(bpf_map_update_elem(fd, &host, &row, BPF_ANY), 0);
		if (restart) {
			dataplane_close(world.dp);
			world_open();
			fd = world.dp->maps[DP_MAP_NETNS];
		} else {
			expect_found(DP_DRIFT_NETNS, 1);
		}
		assert_int_equal(bpf_map_lookup_elem(fd, &host, &now), -ENOENT);
		assert_int_equal(bpf_map_lookup_elem(fd, &pod, &now), 0);
		assert_memory_equal(&now, &row, sizeof(row));
	}

	/* and a pod for another, or with addresses that are not its own */
	for (int other = 0; other < 2; other++) {
		now = row;
		if (other)
			now.ifindex = (uint32_t)a.ifindex;
		else
			now.addrs[DP_V4].b[15]++;
		assert_int_equal(bpf_map_update_elem(fd, &pod, &now, BPF_ANY), 0);
		expect_found(DP_DRIFT_NETNS, 1);
		assert_int_equal(bpf_map_lookup_elem(fd, &pod, &now), 0);
		assert_memory_equal(&now, &row, sizeof(row));
	}
}

static void take_down(int ifindex)
{
	struct nlmsghdr *h = nl_begin(world.dp->nl, RTM_NEWLINK, 0, "link down", 0);
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

	i->ifi_index = ifindex;
	i->ifi_change = IFF_UP;
	ok(nl_commit(world.dp->nl, err));
}

static void test_link_down(void **state)
{
	take_down(b.ifindex);
	expect_found(DP_DRIFT_LINK, 1);
	expect_reach(b.addr);
	expect_reach(b.addr6);

	/* at once, where the kernel tells */
	take_down(b.ifindex);
	ok(dataplane_links_process(world.dp, err));
	expect_reach(b.addr);
	expect_reach(b.addr6);
	expect_found(DP_DRIFT_LINK, 1);

	/* and where nobody was there */
	take_down(b.ifindex);
	dataplane_close(world.dp);
	world_open();
	expect_reach(b.addr);
	expect_reach(b.addr6);
}

static void test_pins_of_links(void **state)
{
	char links[sizeof(world.pin_dir) + 16];
	uint32_t n = 0;

	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		n += programs_is_at_cgroup(p) && world.dp->programs[p] >= 0;
	snprintf(links, sizeof(links), "%s/links", world.pin_dir);
	ok(fs_remove_tree(links, err));
	expect_found(DP_DRIFT_PROGRAM, n);
	assert_true(fs_exists(links));
}

static void test_what_was_done_to_a_link(void **state)
{
	uint32_t key = (uint32_t)ifindex_in(world_host_ns(), "up0");
	int fd = world.dp->maps[DP_MAP_LINK];
	struct k3c_link before, after;

	assert_int_equal(bpf_map_lookup_elem(fd, &key, &before), 0);
	assert_int_equal(before.flags, K3C_LINK_OWN_CLSACT | K3C_LINK_RAISED_RA | K3C_LINK_HAS_PROGRAMS);
	assert_int_equal(bpf_map_delete_elem(fd, &key), 0);
	expect_found(DP_DRIFT_LINK, 1);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &after), 0);
	assert_memory_equal(&after, &before, sizeof(before));
}

static void expect_sysctl(const char *path, char want)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	ok(fs_read(path, 16, &text, err));
	if (text.data[text.start] != want)
		fail_msg("%s is %c, not %c", path, text.data[text.start], want);
}

static void other_qdisc(int ifindex, bool ingress)
{
	struct nlmsghdr *h;
	struct tcmsg *t;

	nl_put_clsact_delete(world.dp->nl, ifindex);
	if (ingress) {
		h = nl_begin(world.dp->nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, "ingress qdisc", 0);
		t = mnl_nlmsg_put_extra_header(h, sizeof(*t));
		t->tcm_family = AF_UNSPEC;
		t->tcm_ifindex = ifindex;
		t->tcm_parent = TC_H_INGRESS;
		t->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
		mnl_attr_put_strz(h, TCA_KIND, "ingress");
	} else {
		nl_put_clsact(world.dp->nl, ifindex, 0);
	}
	ok(nl_commit(world.dp->nl, err));
}

/* Somebody else's: any kind, behind the programs. */
static void put_filter(int ifindex)
{
	struct nlmsghdr *h = nl_begin(world.dp->nl, RTM_NEWTFILTER, NLM_F_CREATE, "filter", 0);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = ifindex;
	t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	t->tcm_info = TC_H_MAKE(7u << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, "u32");
	ok(nl_commit(world.dp->nl, err));
}

struct count {
	int ifindex;
	uint32_t n; /* of each filter also the place that it stands in is listed */
};

static int count_qdisc(const struct nlmsghdr *h, void *arg)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	struct count *c = arg;

	c->n += t->tcm_ifindex == c->ifindex && t->tcm_parent == TC_H_INGRESS;
	return 0;
}

static int count_filter(const struct nlmsghdr *h, void *arg)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	struct count *c = arg;

	c->n += t->tcm_ifindex == c->ifindex;
	return 0;
}

static uint32_t count(struct nl *nl, int ifindex, bool filters)
{
	struct count c = { .ifindex = ifindex };
	struct nlmsghdr *h = nl_request(nl, filters ? RTM_GETTFILTER : RTM_GETQDISC, NLM_F_DUMP);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = ifindex;
	t->tcm_parent = filters ? TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) : 0;
	ok(nl_query(nl, filters ? count_filter : count_qdisc, &c, err));
	return c.n;
}

/* It has one direction: the programs of the other would run there. */
static void test_other_qdisc(void **state)
{
	const int links[] = { b.ifindex, ifindex_in(world_host_ns(), "up0") };

	for (int i = 0; i < 2; i++) {
		other_qdisc(links[i], true);
		expect_found(DP_DRIFT_FILTER, 2);
		expect_reach(b.addr);
		expect_reach(b.addr6);

		/* at once, where the kernel tells */
		other_qdisc(links[i], true);
		ok(dataplane_links_process(world.dp, err));
		expect_found(DP_DRIFT_FILTER, 2);

		/* and where nobody was there */
		other_qdisc(links[i], true);
		dataplane_close(world.dp);
		world_open();
		expect_found(DP_DRIFT_FILTER, 0);
		expect_reach(b.addr);
	}
	/* whatever it does there: the link is ours */
	other_qdisc(b.ifindex, true);
	put_filter(b.ifindex);
	expect_found(DP_DRIFT_FILTER, 2);
	expect_reach(b.addr);
}

/* A link of the host's whose `ingress` serves somebody: he keeps it, nothing of ours gets into his filters, and every
 * look tells. */
static void test_qdisc_in_use(void **state)
{
	int up0 = ifindex_in(world_host_ns(), "up0");
	struct dp_drift found = { 0 };
	uint32_t before;

	other_qdisc(up0, true);
	put_filter(up0);
	before = count(world.dp->nl, up0, true);
	assert_true(before);
	ok(dataplane_links_process(world.dp, err));
	world.dp->links_drift = (struct dp_drift){ 0 };
	for (uint32_t look = 1; look <= 2; look++) {
		ok(dataplane_drift(world.dp, &found, err));
		assert_int_equal(found.n[DP_DRIFT_FILTER], 2 * look);
		assert_int_equal(count(world.dp->nl, up0, true), before);
	}
	nl_put_clsact_delete(world.dp->nl, up0);
	ok(nl_commit(world.dp->nl, err));
	ok(dataplane_links_process(world.dp, err));
	expect_found(DP_DRIFT_FILTER, 2);
}

/* An address that only has labels is no pod's of this node: nothing is sent into one. */
static void test_link_of_no_pod(void **state)
{
	struct dp_addr addr = ip("10.42.9.9"), of_b = ip(b.addr);
	struct k3c_endpoint e, before;

	ok(dataplane_identity_set(world.dp, &addr, 300, err));
	dataplane_policy_settle(world.dp);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &before), 0);
	for (int i = 0; i < 3; i++) {
		e = before;
		e.ifindex = i == 0 ? (uint32_t)b.ifindex : 0;
		e.flags = i == 1 ? K3C_EP_LIMIT_EGRESS : 0;
		e.mac[0] = i == 2 ? 2 : 0;
		assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &e, BPF_ANY), 0);
		expect_found(DP_DRIFT_ENDPOINT, 1);
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &addr, &e), 0);
		assert_memory_equal(&e, &before, sizeof(e));
	}
	ok(dataplane_identity_delete(world.dp, &addr, err));
	/* nor is a pod's address another pod's */
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &of_b, &before), 0);
	e = before;
	e.ifindex = (uint32_t)a.ifindex;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_ENDPOINT], &of_b, &e, BPF_ANY), 0);
	expect_found(DP_DRIFT_ENDPOINT, 1);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_ENDPOINT], &of_b, &e), 0);
	assert_memory_equal(&e, &before, sizeof(e));
}

/* Where the host's own SCTP goes, what programs have done, and who is told of every drop. */
static void test_single_rows(void **state)
{
	struct k3c_own own, own_now;
	struct k3c_listen listen;
	uint32_t zero = 0, bits;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_OWN], &zero, &own), 0);
	own_now = own;
	own_now.ifindex = (uint32_t)b.ifindex;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_OWN], &zero, &own_now, BPF_ANY), 0);
	expect_found(DP_DRIFT_STATE, 1);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_OWN], &zero, &own_now), 0);
	assert_memory_equal(&own_now, &own, sizeof(own));

	bits = K3C_USED_BY_HOST;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_TC_USED], &zero, &bits, BPF_ANY), 0);
	expect_found(DP_DRIFT_STATE, 0);
	bits = K3C_USED_BY_PODS;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_TC_USED], &zero, &bits, BPF_ANY), 0);
	expect_found(DP_DRIFT_STATE, 1);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_TC_USED], &zero, &bits), 0);
	assert_int_equal(bits & (K3C_USED_BY_HOST | K3C_USED_BY_PODS), K3C_USED_BY_HOST | K3C_USED_BY_PODS);

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LISTEN], &zero, &listen), 0);
	listen.until_ns = UINT64_MAX;
	listen.mask = UINT32_MAX;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_LISTEN], &zero, &listen, BPF_ANY), 0);
	expect_found(DP_DRIFT_STATE, 1);
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LISTEN], &zero, &listen), 0);
	assert_int_equal(listen.until_ns, 0);
}

static void purge(void)
{
	dataplane_close(world.dp);
	world.dp = NULL;
	ok(dataplane_purge(world.pin_dir, err));
}

/* What was done to a link is known though its row is gone and nobody was there; and of what was not, nothing is undone.
 */
static void test_what_nobody_saw(void **state)
{
	static const char accept_ra[] = "/proc/sys/net/ipv6/conf/up0/accept_ra";
	int up0 = ifindex_in(world_host_ns(), "up0");
	uint32_t key = (uint32_t)up0;
	struct k3c_link before, after;
	struct nl *nl;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &key, &before), 0);
	for (int how = 0; how < 2; how++) {
		after = before;
		after.flags = 0;
		if (how)
			assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_LINK], &key, &after, BPF_ANY), 0);
		else
			assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_LINK], &key), 0);
		dataplane_close(world.dp);
		world_open();
		assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &key, &after), 0);
		assert_memory_equal(&after, &before, sizeof(before));
	}
	expect_sysctl(accept_ra, '2');
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_LINK], &key), 0);
	ok(nl_open(NETLINK_ROUTE, &nl, err));
	purge();
	expect_sysctl(accept_ra, '1');
	assert_int_equal(count(nl, up0, false), 0);

	/* a clsact that stood there before stays, and so does one that somebody uses since */
	nl_put_clsact(nl, up0, 0);
	ok(nl_commit(nl, err));
	world_open();
	assert_int_equal(bpf_map_delete_elem(world.dp->maps[DP_MAP_LINK], &key), 0);
	dataplane_close(world.dp);
	world_open();
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_LINK], &key, &after), 0);
	assert_false(after.flags & K3C_LINK_OWN_CLSACT);
	purge();
	assert_int_equal(count(nl, up0, false), 1);
	nl_put_clsact_delete(nl, up0);
	ok(nl_commit(nl, err));
	world_open();
	put_filter(up0);
	purge();
	assert_int_equal(count(nl, up0, false), 1);
	assert_true(count(nl, up0, true));
	nl_put_clsact_delete(nl, up0);
	ok(nl_commit(nl, err));
	nl_close(nl);
	world_open();
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test_setup_teardown(test_namespace_altered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_down, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pins_of_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_done_to_a_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_qdisc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qdisc_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_of_no_pod, setup, teardown),
		cmocka_unit_test_setup_teardown(test_single_rows, setup, teardown),
		cmocka_unit_test(test_what_nobody_saw), /* takes all away, and sets it up again */
	};

	return world_group(all);
}

int main(void)
{
	return world_run(tests);
}
