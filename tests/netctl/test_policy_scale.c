/* SPDX-License-Identifier: Apache-2.0 */
/* 2,000 policies over 500 pods, down to the real maps: what a change costs is counted (policies translated, rules,
 * map writes), and the maps say afterwards what the objects say. Times are printed, not judged. */
#include "tests/dataplane/world.h"
#include "tests/netctl/support.h"

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/netctl/policy.h"
#include "userspace/netctl/policy_sync.h"

enum { NAMESPACES = 10, PODS = 500, POLICIES = 2000, APPS = 5 };

static struct net_model model;
static struct policy_sync ps;

/* Every pod is an identity of its own, as those of StatefulSets and Jobs are. */
static void put_pod(unsigned i, unsigned app, bool unique)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	model_set_pod(&model,
		      json_of(&arena, arena_printf(&arena,
						   "{'metadata':{'namespace':'n%u','name':'x%u','uid':'u%u',"
						   "'labels':{'app':'a%u','pod':'%u'}},'spec':{'containers':[]}}",
						   i % NAMESPACES, i, i, app, unique ? i : 0)));
}

static struct net_pod *pod_at(unsigned i)
{
	char uid[16];

	snprintf(uid, sizeof(uid), "u%u", i);
	return model_pod(&model, str_of(uid));
}

static void put_policy(unsigned i)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	model_set_policy(
		&model,
		json_of(&arena,
			arena_printf(
				&arena,
				"{'metadata':{'namespace':'n%u','name':'p%u'},'spec':{"
				"'podSelector':{'matchLabels':{'app':'a%u'}},'policyTypes':['Ingress','Egress'],'ingress':[{'from':["
				"{'podSelector':{'matchLabels':{'app':'a%u'}}}],'ports':[{'port':%u}]}],'egress':[{'to':["
				"{'namespaceSelector':{'matchLabels':{'n':'%u'}},'podSelector':{'matchLabels':{'app':'a%u'}}}]}]}}",
				i % NAMESPACES, i, i / 10 % APPS, i / 50 % APPS, i + 1, i / 50 % NAMESPACES,
				i / 10 % APPS)));
}

static void fill(void)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	model_init(&model);
	for (unsigned i = 0; i < NAMESPACES; i++)
		model_set_namespace(
			&model,
			json_of(&arena, arena_printf(&arena, "{'metadata':{'name':'n%u','labels':{'n':'%u'}}}", i, i)));
	for (unsigned i = 0; i < PODS; i++) {
		struct dp_addr addrs[DP_FAMILIES] = { addr_of("10.42.0.0"), addr_of("fd42::") };

		for (int f = 0; f < DP_FAMILIES; f++) {
			addrs[f].b[14] = (uint8_t)(i / 250);
			addrs[f].b[15] = (uint8_t)(i % 250 + 2);
		}
		put_pod(i, i / NAMESPACES % APPS, true);
		model_attach_pod(&model, pod_at(i), addrs);
	}
	for (unsigned i = 0; i < POLICIES; i++)
		put_policy(i);
}

struct cost {
	uint64_t groups, pods, rules, writes;
	int64_t took_us;
};

static struct cost change(const char *what, void (*fn)(void))
{
	struct cost c = { ps.groups, ps.pods, ps.rules, dataplane_policy_writes(world.dp) };
	int64_t start = clock_monotonic_ns();

	fn();
	assert_int_equal(policy_sync_run(&ps, NULL, NULL), 0);
	c = (struct cost){ ps.groups - c.groups, ps.pods - c.pods, ps.rules - c.rules,
			   dataplane_policy_writes(world.dp) - c.writes, (clock_monotonic_ns() - start) / 1000 };
	print_message("%s: %llu pods, %llu sets of policies, %llu rules, %llu map writes, %lld us\n", what,
		      (unsigned long long)c.pods, (unsigned long long)c.groups, (unsigned long long)c.rules,
		      (unsigned long long)c.writes, (long long)c.took_us);
	assert_int_equal(ps.errors, 0);
	return c;
}

static void nothing(void)
{
}

static void relabel(void)
{
	put_pod(7, 1, true);
}

static void relabel_back(void)
{
	put_pod(7, 0, true);
}

static void join_others(void)
{
	put_pod(8, 2, false);
	put_pod(18, 2, false);
}

static void one_of_many(void)
{
	put_pod(18, 2, true);
}

/* What the maps hold for all addresses together. */
static unsigned n_entries, n_isolated;

static void count(void *arg, const struct dp_policy_info *p)
{
	n_entries += p->n_rules;
	n_isolated += p->isolated_ingress && p->isolated_egress;
}

static unsigned entries(void)
{
	n_entries = n_isolated = 0;
	ok(dataplane_policy_each(world.dp, count, NULL, err));
	return n_entries;
}

static void test_label_change(void **state)
{
	unsigned before = entries(), after;
	struct cost c = change("labels of one pod", relabel), back;

	/* once for each set of policies, not for each pod; and no more written than the one identity in and out */
	assert_true(c.groups <= NAMESPACES * APPS);
	assert_true(c.pods > c.groups);
	assert_true(c.writes < 4000);
	dataplane_policy_settle(world.dp);
	back = change("and back", relabel_back);
	assert_true(back.writes < 4000);
	dataplane_policy_settle(world.dp);
	after = entries();
	assert_int_equal(after, before);
	assert_int_equal(n_isolated, PODS * DP_FAMILIES);
	assert_int_equal(change("nothing", nothing).writes, 0);
}

/* While others wear the same labels, a pod that comes or goes changes nobody's rules. */
static void test_replicas(void **state)
{
	struct cost c;

	change("two pods of the same labels", join_others);
	c = change("one of them leaves", one_of_many);
	assert_true(c.groups <= NAMESPACES * APPS);
	dataplane_policy_settle(world.dp);
}

static void policy_again(void)
{
	put_policy(3);
}

static void test_policy_change(void **state)
{
	struct cost c = change("a policy written again", policy_again);

	assert_int_equal(c.groups, 1);
	assert_int_equal(c.writes, 0);
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_label_change),
		cmocka_unit_test(test_replicas),
		cmocka_unit_test(test_policy_change),
	};
	int r;

	log_set_level(LOG_LEVEL_ERROR);
	world_uplink();
	world_open();
	fill();
	policy_sync_init(&ps, &model, world.dp, false);
	change("all at once", nothing);
	r = cmocka_run_group_tests(all, NULL, NULL);
	policy_sync_finish(&ps);
	model_finish(&model);
	dataplane_close(world.dp);
	dataplane_purge(world.pin_dir, NULL);
	return r;
}

int main(void)
{
	return world_run(tests);
}
