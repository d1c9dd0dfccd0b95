/* SPDX-License-Identifier: Apache-2.0 */
/* Builds come and go under traffic: other programs, other sizes of maps, layouts and pins that nobody here knows.
 * Established connections live on, new ones always find their own backend, what is denied never passes. */
#include "tests/dataplane/traffic.h"

#include <bpf/bpf.h>
#include <dirent.h>

#include "bpf/include/conn.h"
#include "userspace/dataplane/maps.h"

#define KINDS 6   /* of change */
#define ROUNDS 12 /* each kind of change twice, unless K3C_UPGRADE_ROUNDS says otherwise */
/* Of connections: the tables are full all the time, mostly of what ended, and what goes on stays all the same. */
#define ENTRIES 4096
#define ENTRIES_MORE 6144

static int rounds = ROUNDS;
/* As they are at first, and where the last test left them: programs load but when something changes. */
static struct dataplane_options o;

/* ---- what another build leaves ---- */

/* A later build takes away what an orderly end leaves for older ones (legacy.c). */
static void drop_legacy(void)
{
	static const char *const names[] = { "k3c_endpoint", "k3c_netns", "k3c_link", "k3c_drop", "k3c_meta" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[300];

		snprintf(path, sizeof(path), "%s/maps/%s_v1", world.pin_dir, names[i]);
		assert_int_equal(unlink(path), 0);
	}
}

static void rename_layout(const char *dir, const char *name)
{
	char from[512], to[512];
	struct dirent *e;
	bool found = false;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while (!found && (e = readdir(d)))
		if (strncmp(e->d_name, name, strlen(name)) == 0 && strncmp(e->d_name + strlen(name), "_v", 2) == 0) {
			snprintf(from, sizeof(from), "%s/%s", dir, e->d_name);
			snprintf(to, sizeof(to), "%s/%s_v99", dir, name);
			assert_int_equal(rename(from, to), 0);
			found = true;
		}
	closedir(d);
	assert_true(found);
}

/* A map under a version that this build does not know. */
static void leave_other_layout(const char *name)
{
	char dir[200];

	drop_legacy();
	snprintf(dir, sizeof(dir), "%s/maps", world.pin_dir);
	rename_layout(dir, name);
	snprintf(dir, sizeof(dir), "%s/maps/own", world.pin_dir);
	rename_layout(dir, name);
}

/* As somebody does who tidies up by hand. */
static void lose_pin(enum dp_map m)
{
	char name[MAPS_PIN_NAME], path[300];

	drop_legacy();
	maps_pin_name(m, name);
	snprintf(path, sizeof(path), "%s/maps/%s", world.pin_dir, name);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/maps/own/%s", world.pin_dir, name);
	assert_int_equal(unlink(path), 0);
}

static void leave_strangers(void)
{
	char path[300];
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "k3c_future", 4, 4, 1, NULL), program, link;
	int cgroup = open(world.cgroup, O_RDONLY | O_DIRECTORY);

	assert_true(map >= 0 && cgroup >= 0);
	snprintf(path, sizeof(path), "%s/maps/k3c_future_v1", world.pin_dir);
	assert_int_equal(bpf_obj_pin(map, path), 0);
	snprintf(path, sizeof(path), "%s/programs/sock_getpeer4", world.pin_dir);
	program = bpf_obj_get(path);
	assert_true(program >= 0);
	snprintf(path, sizeof(path), "%s/programs/future", world.pin_dir);
	assert_int_equal(bpf_obj_pin(program, path), 0);
	link = bpf_link_create(program, cgroup, BPF_CGROUP_INET4_GETPEERNAME, NULL);
	assert_true(link >= 0);
	snprintf(path, sizeof(path), "%s/links/future", world.pin_dir);
	assert_int_equal(bpf_obj_pin(link, path), 0);
	close(link);
	close(program);
	close(map);
	close(cgroup);
}

static void strangers_are_gone(void)
{
	static const char *const pins[] = { "maps/k3c_future_v1", "programs/future",       "links/future",
					    "maps/k3c_meta_v99",  "maps/k3c_endpoint_v99", "maps/k3c_service_v99" };
	int cgroup = open(world.cgroup, O_RDONLY | O_DIRECTORY);
	uint32_t ids[8], n = 8;

	for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
		char path[300];

		snprintf(path, sizeof(path), "%s/%s", world.pin_dir, pins[i]);
		assert_false(fs_exists(path));
	}
	assert_int_equal(bpf_prog_query(cgroup, BPF_CGROUP_INET4_GETPEERNAME, 0, NULL, ids, &n), 0);
	assert_int_equal(n, 1);
	close(cgroup);
}

static unsigned entries(enum dp_map m)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(world.dp->maps[m], &info, &len), 0);
	return info.max_entries;
}

static void change(int round)
{
	int again = round / KINDS % 2;

	switch (round % KINDS) {
	case 0: /* another build */
		o.service_nets[DP_V4].bits = (uint8_t)(96 + 16 + again);
		break;
	case 1:
		o.max_connections = again ? ENTRIES : ENTRIES_MORE;
		o.max_services = again ? 700 : 512;
		break;
	case 2:
		leave_strangers();
		break;
	case 3:
		leave_other_layout("k3c_meta");
		break;
	case 4:
		leave_other_layout(again ? "k3c_endpoint" : "k3c_service");
		break;
	case 5:
		lose_pin(DP_MAP_META);
		break;
	}
}

static void test_back_and_forth(void **state)
{
	static struct traffic traffic;

	ok(dataplane_open(&o, &world.dp, err));
	traffic_begin(&traffic);
	for (int round = 0; round < rounds; round++) {
		bool meta_lost = round % KINDS == 3 || round % KINDS == 5;
		uint32_t generation = world.dp->meta.generation;

		dataplane_close(world.dp);
		change(round);
		ok(dataplane_open(&o, &world.dp, err));
		assert_int_equal(world.dp->unsettled, round % KINDS >= 3);
		/* verdicts are remembered by it: a number that was given once is not given again */
		assert_true((int32_t)(world.dp->meta.generation - generation) >= meta_lost);
		write_objects();
		strangers_are_gone();
		if (o.max_connections)
			assert_int_equal(entries(DP_MAP_CONN) + entries(DP_MAP_DATAGRAM) + entries(DP_MAP_POLICED),
					 o.max_connections);
		if (o.max_services)
			assert_int_equal(entries(DP_MAP_SERVICE), o.max_services);
	}
	traffic_end(&traffic);
	dataplane_close(world.dp);
}

/* ---- connections that builds before noted in the table alone ---- */

#define LOW_PORT 20000
#define HIGH_PORT 40000

static int client_from(int ns, uint16_t from, const char *addr, uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(from) }, to = sin_of(addr, port);
	int fd = sock_in(ns, SOCK_STREAM);

	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static uint32_t used_bits(void)
{
	uint32_t zero = 0, bits;

	assert_int_equal(bpf_map_lookup_elem(world.dp->maps[DP_MAP_TC_USED], &zero, &bits), 0);
	return bits;
}

/* Who is asked may answer, and may not begin: what its port tells would be refused. */
static void test_backwards(void **state)
{
	struct dp_policy_rule rule = {
		.direction = DP_INGRESS, .identity = 7, .proto = IPPROTO_TCP, .port = HIGH_PORT
	};
	struct dp_policy policy = {
		.pod = ip("10.42.5.7"), .isolated_ingress = true, .isolated_egress = true, .rules = &rule, .n_rules = 1
	};
	struct test_pod low, high;
	uint32_t zero = 0, bits;
	int server, asks, answers;

	ok(dataplane_open(&o, &world.dp, err));
	ok(dataplane_policy_set(world.dp, &policy, err));
	pod_make(&low, "up-low", "10.42.5.6", 7);
	pod_make(&high, "up-high", "10.42.5.7", 8);
	server = server_in(high.ns, SOCK_STREAM, high.addr, HIGH_PORT);
	asks = client_from(low.ns, LOW_PORT, high.addr, HIGH_PORT);
	answers = accept_from(server, NULL);
	pass_bytes(asks, answers, "one");
	pass_bytes(answers, asks, "two");
	/* what such a build does not know */
	bits = used_bits();
	assert_true(bits & K3C_USED_BACKWARDS);
	bits &= ~(uint32_t)K3C_USED_BACKWARDS;
	assert_int_equal(bpf_map_update_elem(world.dp->maps[DP_MAP_TC_USED], &zero, &bits, BPF_ANY), 0);
	dataplane_close(world.dp);
	o.max_connections = o.max_connections == ENTRIES ? ENTRIES_MORE : ENTRIES;
	ok(dataplane_open(&o, &world.dp, err));
	assert_int_equal(used_bits(), bits | K3C_USED_BACKWARDS);
	pass_bytes(answers, asks, "three");
	pass_bytes(asks, answers, "four");
	close(asks);
	close(answers);
	close(server);
	pod_drop(&low);
	pod_drop(&high);
	dataplane_close(world.dp);
}

/* Each kind of change once is enough where programs load slowly; and where traffic is slow, too, full tables are not to
 * be had: it begins with the usual ones, whose programs are there (kept.h). */
static void rounds_of_environment(void)
{
	const char *text = getenv("K3C_UPGRADE_ROUNDS");

	o.max_connections = ENTRIES;
	if (!text || atoi(text) <= 0)
		return;
	rounds = atoi(text);
	o.max_connections = 0;
}

static int tests(void)
{
	const struct CMUnitTest all[] = { cmocka_unit_test(test_back_and_forth), cmocka_unit_test(test_backwards) };

	o = world_options();
	rounds_of_environment();
	world_uplink();
	return cmocka_run_group_tests(all, NULL, NULL);
}

int main(void)
{
	return world_run(tests);
}
