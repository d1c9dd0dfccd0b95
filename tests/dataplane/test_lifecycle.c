/* SPDX-License-Identifier: Apache-2.0 */
/* The server may go and come: traffic does not care, a later one adopts what is there or replaces it in place, and
 * purge leaves the host as it was. */
#include "tests/dataplane/rounds.h"
#include "tests/dataplane/world.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <sys/resource.h>

#include "bpf/include/service.h"

#define LOADED (DP_PROGRAM_COUNT - 1) /* XDP is off */

static struct test_pod a, b;
static int server, client, conn;

static void program_ids(uint32_t ret[static LOADED])
{
	struct dp_program_info p[DP_PROGRAM_COUNT];
	size_t n;

	ok(dataplane_programs(world.dp, p, DP_PROGRAM_COUNT, &n, err));
	assert_int_equal(n, LOADED);
	for (size_t i = 0; i < n; i++) {
		ret[i] = p[i].id;
		/* some wait for a link or a pod of their kind */
		assert_true(p[i].attached || strncmp(p[i].name, "host_l3", 7) == 0 ||
			    strcmp(p[i].name, "pod_pace") == 0 || strncmp(p[i].name, "own_", 4) == 0);
		assert_true(p[i].memory_bytes > 0);
	}
}

static void isolate_b(void)
{
	struct dp_policy_rule in = { .direction = DP_INGRESS, .identity = 7, .proto = IPPROTO_TCP, .port = 80 };
	struct dp_policy policy = {
		.pod = ip("10.42.3.11"), .isolated_ingress = true, .isolated_egress = true, .rules = &in, .n_rules = 1
	};

	ok(dataplane_policy_set(world.dp, &policy, err));
}

static void make_traffic(void)
{
	isolate_b();
	pod_make(&a, "life-a", "10.42.3.10", 7);
	pod_make(&b, "life-b", "10.42.3.11", 8);
	server = server_in(b.ns, SOCK_STREAM, b.addr, 80);
	assert_int_equal(client_in(a.ns, SOCK_STREAM, b.addr, 80, &client), 0);
	conn = accept_from(server, NULL);
	pass_bytes(client, conn, "one");
}

static void end_traffic(void)
{
	close(client);
	close(conn);
	close(server);
	pod_drop(&a);
	pod_drop(&b);
}

static void count_pod(void *arg, const char *key, const struct dp_addr addrs[static DP_FAMILIES])
{
	struct dp_addr want = ip(strcmp(key, "life-a") == 0 ? "10.42.3.10" : "10.42.3.11");

	assert_memory_equal(addrs[DP_V4].b, want.b, 16);
	++*(int *)arg;
}

static void test_adoption(void **state)
{
	uint32_t before[LOADED], after[LOADED];
	uint32_t generation;
	int pods = 0;

	world_open();
	make_traffic();
	program_ids(before);
	dataplane_close(world.dp);
	/* nobody is there: old connections and new ones */
	pass_bytes(conn, client, "two");
	close(client);
	close(conn);
	assert_int_equal(client_in(a.ns, SOCK_STREAM, b.addr, 80, &client), 0);
	conn = accept_from(server, NULL);
	world_open();
	program_ids(after);
	assert_memory_equal(before, after, sizeof(before));
	pass_bytes(conn, client, "three");
	ok(dataplane_pod_each(world.dp, count_pod, &pods, err));
	assert_int_equal(pods, 2);
	/* the same policy again is no change: same set, no new generation */
	generation = world.dp->meta.generation;
	isolate_b();
	assert_int_equal(world.dp->meta.generation, generation);
	pod_attach(&a);
	pass_bytes(client, conn, "four");
	end_traffic();
	dataplane_close(world.dp);
}

struct pump {
	_Atomic bool stop;
	_Atomic unsigned rounds;
	bool failed;
};

static void *pump_run(void *arg)
{
	struct pump *p = arg;

	while (!p->stop) {
		char buf[4];

		if (send(client, "ping", 4, MSG_NOSIGNAL) != 4 || recv(conn, buf, 4, MSG_WAITALL) != 4 ||
		    send(conn, "pong", 4, MSG_NOSIGNAL) != 4 || recv(client, buf, 4, MSG_WAITALL) != 4)
			p->failed = true;
		p->rounds++;
	}
	return NULL;
}

/* Other options are another build: every program is exchanged under running traffic, connections are kept. */
static void test_replacement(void **state)
{
	uint32_t before[LOADED], after[LOADED];
	struct dataplane_options o = world_options();
	struct pump pump = { 0 };
	pthread_t thread;

	world_open();
	make_traffic();
	program_ids(before);
	/* it need not take half of a single processor: its thread inherits this */
	assert_int_equal(setpriority(PRIO_PROCESS, 0, 15), 0);
	pthread_create(&thread, NULL, pump_run, &pump);
	assert_int_equal(setpriority(PRIO_PROCESS, 0, 0), 0);
	for (int i = 0, n = rounds_wanted("K3C_REPLACEMENTS", 4); i < n; i++) {
		dataplane_close(world.dp);
		o.service_nets[DP_V4].bits = (uint8_t)(96 + 17 + i % 4);
		ok(dataplane_open(&o, &world.dp, err));
		program_ids(after);
		for (int k = 0; k < LOADED; k++)
			assert_int_not_equal(before[k], after[k]);
		memcpy(before, after, sizeof(before));
	}
	pump.stop = true;
	pthread_join(thread, NULL);
	assert_false(pump.failed);
	assert_true(pump.rounds > 0);
	end_traffic();
	dataplane_close(world.dp);
}

static void test_orphans(void **state)
{
	struct k3c_backend_key key = { .set = 4000000, .index = 0 };
	struct k3c_backend value = { 0 };

	world_open();
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_BACKEND], &key, &value, BPF_ANY), 0);
	dataplane_close(world.dp);
	world_open();
	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_BACKEND], &key, &value), -ENOENT);
	dataplane_close(world.dp);
}

static void count_policy(void *arg, const struct dp_policy_info *p)
{
	struct dp_addr isolated = ip("10.42.3.11");

	++*(int *)arg;
	if (memcmp(&p->pod, &isolated, sizeof(isolated)) == 0) {
		assert_true(p->isolated_ingress && p->isolated_egress);
		assert_int_equal(p->n_rules, 1);
	}
}

static void test_readonly(void **state)
{
	struct dataplane *ro = NULL, *full;
	struct dp_map_info maps[DP_MAP_COUNT];
	uint64_t bytes = 0;
	int policies = 0;
	size_t n;

	world_open();
	make_traffic();
	ok(dataplane_open_readonly(world.pin_dir, &ro, err));
	full = world.dp;
	world.dp = ro;
	drops("policy-ingress");
	ok(dataplane_policy_each(ro, count_policy, &policies, err));
	assert_int_equal(policies, 2);
	ok(dataplane_maps(ro, maps, DP_MAP_COUNT, &n, err));
	assert_int_equal(n, DP_MAP_COUNT);
	for (size_t i = 0; i < n; i++)
		bytes += maps[i].memory_bytes;
	print_message("maps take %lu KiB\n", (unsigned long)(bytes >> 10));
	assert_true(bytes < 8u << 20);
	dataplane_close(ro);
	world.dp = full;
	end_traffic();
	dataplane_close(world.dp);
}

/* ---- purge ---- */

struct snapshot {
	char text[16384];
	size_t n;
};

static int snap_one(const struct nlmsghdr *h, void *arg)
{
	struct snapshot *s = arg;
	const struct nlattr *attr;
	size_t head = h->nlmsg_type == RTM_NEWLINK    ? sizeof(struct ifinfomsg)
		      : h->nlmsg_type == RTM_NEWROUTE ? sizeof(struct rtmsg)
		      : h->nlmsg_type == RTM_NEWADDR  ? sizeof(struct ifaddrmsg)
						      : sizeof(struct tcmsg);

	s->n += (size_t)snprintf(s->text + s->n, sizeof(s->text) - s->n, "%d:", h->nlmsg_type);
	mnl_attr_for_each(attr, h, head) {
		uint16_t t = mnl_attr_get_type(attr);
		bool told = h->nlmsg_type == RTM_NEWLINK    ? t == IFLA_IFNAME
			    : h->nlmsg_type == RTM_NEWROUTE ? t == RTA_DST || t == RTA_PRIORITY || t == RTA_OIF
			    : h->nlmsg_type == RTM_NEWADDR  ? t == IFA_LOCAL
							    : t == TCA_KIND;

		for (uint16_t i = 0; told && i < mnl_attr_get_payload_len(attr) && s->n + 3 < sizeof(s->text); i++)
			s->n += (size_t)snprintf(s->text + s->n, sizeof(s->text) - s->n, "%02x",
						 ((uint8_t *)mnl_attr_get_payload(attr))[i]);
	}
	s->text[s->n++] = '\n';
	return 0;
}

static void snap(struct snapshot *s)
{
	static const struct {
		uint16_t type;
		size_t head;
	} dumps[] = {
		{ RTM_GETLINK, sizeof(struct ifinfomsg) },
		{ RTM_GETROUTE, sizeof(struct rtmsg) },
		{ RTM_GETADDR, sizeof(struct ifaddrmsg) },
		{ RTM_GETQDISC, sizeof(struct tcmsg) },
	};
	struct nl *nl;

	memset(s, 0, sizeof(*s));
	ok(nl_open(NETLINK_ROUTE, &nl, err));
	for (size_t i = 0; i < ARRAY_SIZE(dumps); i++) {
		mnl_nlmsg_put_extra_header(nl_request(nl, dumps[i].type, NLM_F_DUMP), dumps[i].head);
		ok(nl_query(nl, snap_one, s, err));
	}
	nl_close(nl);
}

static char forwarding(void)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	ok(fs_read("/proc/sys/net/ipv4/ip_forward", 16, &text, err));
	return text.data[text.start];
}

static void test_purge(void **state)
{
	static struct snapshot before, after;
	struct dp_addr dns = ip("10.43.0.10");
	struct dataplane *ro;
	int cgroup = open(world.cgroup, O_RDONLY), other;
	uint32_t ids[8], n = 8;

	ok(dataplane_purge(world.pin_dir, err)); /* of the tests before */
	ok(fs_write("/proc/sys/net/ipv4/ip_forward", "0", err));
	snap(&before);
	world_open();
	make_traffic();
	ok(dataplane_local_address_add(world.dp, &dns, err));
	assert_int_equal(forwarding(), '1');
	assert_int_equal(bpf_prog_query(cgroup, BPF_CGROUP_INET4_CONNECT, 0, NULL, ids, &n), 0);
	assert_int_equal(n, 1);
	dataplane_close(world.dp);
	ok(dataplane_purge(world.pin_dir, err));
	snap(&after);
	assert_string_equal(before.text, after.text);
	assert_int_equal(forwarding(), '0');
	n = 8;
	assert_int_equal(bpf_prog_query(cgroup, BPF_CGROUP_INET4_CONNECT, 0, NULL, ids, &n), 0);
	assert_int_equal(n, 0);
	assert_false(fs_exists(world.pin_dir));
	assert_int_equal(dataplane_open_readonly(world.pin_dir, &ro, NULL), -ENOENT);
	/* and again, where there is nothing */
	ok(dataplane_purge(world.pin_dir, err));
	close(client);
	close(conn);
	close(server);
	/* the pods' ends went with the host's */
	other = sock_in(a.ns, SOCK_DGRAM);
	close(other);
	close(a.ns);
	close(b.ns);
	close(cgroup);
}

static void test_features(void **state)
{
	struct dp_feature f[32];
	size_t n = dataplane_features(f, 32);

	assert_true(n > 5);
	for (size_t i = 0; i < n; i++) {
		if (f[i].required && !f[i].present)
			print_error("missing: %s\n", f[i].name);
		assert_true(!f[i].required || f[i].present);
	}
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_adoption), cmocka_unit_test(test_replacement), cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_readonly), cmocka_unit_test(test_purge),       cmocka_unit_test(test_features),
	};

	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
