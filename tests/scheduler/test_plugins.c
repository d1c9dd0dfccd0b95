/* SPDX-License-Identifier: Apache-2.0 */
/* One node, one pod, one verdict: the filters table-driven, through a whole cycle, with the message
 * a person would read; scores by the choice between two nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "scheduler/cycle.h"
#include "userspace/base/mem.h"

#define HELPFUL ". preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
#define USELESS ". preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
#define ALLOCATABLE "\"status\":{\"allocatable\":{\"cpu\":\"2\",\"memory\":\"4Gi\",\"pods\":\"3\"}}"
#define PLAIN_NODE "{\"metadata\":{\"name\":\"n1\",\"labels\":{\"disk\":\"ssd\",\"cores\":\"8\"}}," ALLOCATABLE "}"
#define ASKS(cpu, mem)                                                                                                 \
	"{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"" cpu "\",\"memory\":\"" mem "\"}}}]}}"

static const struct object *node_object(const char *name, const char *json)
{
	return object_create(&(struct object_parts){ .name = str_of(name), .uid = str_of(name), .json = str_of(json) });
}

static void add_node(struct cache *cache, const char *name, const char *json)
{
	_cleanup_object_ const struct object *o = node_object(name, json);

	cache_set_node(cache, o->name, o);
}

static struct json *parse(struct arena *arena, const char *text)
{
	struct json *v;

	assert_int_equal(json_parse(arena, str_of(text), 0, &v, NULL), 0);
	return v;
}

static void place(struct arena *arena, const struct cache *cache, const char *pod, struct cycle_result *ret)
{
	struct cycle c = { .arena = arena, .pod = parse(arena, pod) };

	c.spec = json_get(c.pod, "spec");
	cycle_run(&c, cache, ret);
}

struct sample {
	const char *node, *there, *pod;
	const char *message; /* NULL: it fits */
};

#define AFFINITY(terms)                                                                                                \
	"{\"spec\":{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":"               \
	"{\"nodeSelectorTerms\":[" terms "]}}}}}"
#define NO_MATCH "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector" USELESS
#define PORT(port, more) "{\"spec\":{\"containers\":[{\"ports\":[{\"hostPort\":" port more "}]}]}}"
#define NO_PORT "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports" HELPFUL
#define TAINTED                                                                                                        \
	"{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":"             \
	"\"NoSchedule\"},"                                                                                             \
	"{\"key\":\"p\",\"effect\":\"PreferNoSchedule\"}]}," ALLOCATABLE "}"
#define TOLERATES(t) "{\"spec\":{\"tolerations\":[" t "]}}"
#define NO_TAINT "0/1 nodes are available: 1 node(s) had untolerated taint(s)" USELESS
#define CORDONED "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"unschedulable\":true}," ALLOCATABLE "}"

static const struct sample samples[] = {
	{ NULL, NULL, "{\"spec\":{}}", "no nodes available to schedule pods" },
	{ PLAIN_NODE, NULL, "{\"spec\":{}}", NULL },
	/* NodeResourcesFit */
	{ PLAIN_NODE, NULL, ASKS("2", "4Gi"), NULL },
	{ PLAIN_NODE, NULL, ASKS("2001m", "1Gi"), "0/1 nodes are available: 1 Insufficient cpu" USELESS },
	{ PLAIN_NODE, ASKS("1", "1Gi"), ASKS("1001m", "1Gi"), "0/1 nodes are available: 1 Insufficient cpu" HELPFUL },
	{ PLAIN_NODE, ASKS("1", "1Gi"), ASKS("1500m", "3.5Gi"),
	  "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory" HELPFUL },
	{ PLAIN_NODE, NULL,
	  "{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"1\"}}}],"
	  "\"initContainers\":[{\"resources\":{\"requests\":{\"cpu\":\"3\"}}}]}}",
	  "0/1 nodes are available: 1 Insufficient cpu" USELESS },
	{ PLAIN_NODE, NULL,
	  "{\"spec\":{\"overhead\":{\"cpu\":\"1\"},\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"1\"}}}],"
	  "\"initContainers\":[{\"restartPolicy\":\"Always\",\"resources\":{\"requests\":{\"cpu\":\"1m\"}}}]}}",
	  "0/1 nodes are available: 1 Insufficient cpu" USELESS },
	{ PLAIN_NODE, NULL, "{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"example.com/gpu\":\"1\"}}}]}}",
	  "0/1 nodes are available: 1 Insufficient example.com/gpu" USELESS },
	{ PLAIN_NODE, NULL, "{\"spec\":{\"resources\":{\"requests\":{\"cpu\":\"3\"}},\"containers\":[{}]}}",
	  "0/1 nodes are available: 1 Insufficient cpu" USELESS },
	/* what is asked adds up before it is rounded */
	{ PLAIN_NODE, NULL,
	  "{\"spec\":{\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"999500u\"}}},{\"resources\":{"
	  "\"requests\":{\"cpu\":\"1000500u\"}}}]}}",
	  NULL },
	/* NodeName, NodeUnschedulable */
	{ PLAIN_NODE, NULL, "{\"spec\":{\"nodeName\":\"other\"}}",
	  "0/1 nodes are available: 1 node(s) didn't match the requested node name" USELESS },
	{ CORDONED, NULL, "{\"spec\":{}}", "0/1 nodes are available: 1 node(s) were unschedulable" USELESS },
	{ CORDONED, NULL, TOLERATES("{\"key\":\"node.kubernetes.io/unschedulable\",\"operator\":\"Exists\"}"), NULL },
	/* TaintToleration */
	{ TAINTED, NULL, "{\"spec\":{}}", NO_TAINT },
	{ TAINTED, NULL, TOLERATES("{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}"), NULL },
	{ TAINTED, NULL, TOLERATES("{\"key\":\"k\",\"value\":\"w\"}"), NO_TAINT },
	{ TAINTED, NULL, TOLERATES("{\"key\":\"k\",\"operator\":\"Exists\"}"), NULL },
	{ TAINTED, NULL, TOLERATES("{\"key\":\"k\",\"operator\":\"Exists\",\"effect\":\"NoExecute\"}"), NO_TAINT },
	{ TAINTED, NULL, TOLERATES("{\"operator\":\"Exists\"}"), NULL },
	/* NodeAffinity and nodeSelector */
	{ PLAIN_NODE, NULL, "{\"spec\":{\"nodeSelector\":{\"disk\":\"ssd\"}}}", NULL },
	{ PLAIN_NODE, NULL, "{\"spec\":{\"nodeSelector\":{\"disk\":\"hdd\"}}}", NO_MATCH },
	{ PLAIN_NODE, NULL,
	  AFFINITY("{\"matchExpressions\":[{\"key\":\"cores\",\"operator\":\"Gt\",\"values\":[\"4\"]}]}"), NULL },
	{ PLAIN_NODE, NULL,
	  AFFINITY("{\"matchExpressions\":[{\"key\":\"cores\",\"operator\":\"Lt\",\"values\":[\"4\"]}]}"), NO_MATCH },
	{ PLAIN_NODE, NULL, AFFINITY("{}"), NO_MATCH },
	{ PLAIN_NODE, NULL,
	  AFFINITY("{},{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":[\"n1\"]}]}"),
	  NULL },
	{ PLAIN_NODE, NULL,
	  AFFINITY("{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"NotIn\",\"values\":[\"n1\"]}]}"),
	  NO_MATCH },
	{ PLAIN_NODE, NULL, AFFINITY("{\"matchExpressions\":[{\"key\":\"nope\",\"operator\":\"DoesNotExist\"}]}"),
	  NULL },
	/* NodePorts */
	{ PLAIN_NODE, PORT("80", ""), PORT("81", ""), NULL },
	{ PLAIN_NODE, PORT("80", ""), PORT("80", ""), NO_PORT },
	{ PLAIN_NODE, PORT("80", ""), PORT("80", ",\"protocol\":\"UDP\""), NULL },
	{ PLAIN_NODE, PORT("80", ",\"hostIP\":\"10.0.0.1\""), PORT("80", ",\"hostIP\":\"10.0.0.2\""), NULL },
	{ PLAIN_NODE, PORT("80", ",\"hostIP\":\"10.0.0.1\""), PORT("80", ""), NO_PORT },
};

static void test_filters(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct cache cache = { 0 };
		struct cycle_result result;

		if (samples[i].node)
			add_node(&cache, "n1", samples[i].node);
		if (samples[i].there)
			cache_add_pod(&cache, STR("there"), STR("n1"), parse(&arena, samples[i].there), false);
		place(&arena, &cache, samples[i].pod, &result);
		if (samples[i].message)
			assert_string_equal(result.message ? result.message : "(fits)", samples[i].message);
		else if (!result.node)
			fail_msg("sample %zu: %s", i, result.message);
		cache_finish(&cache);
	}
}

static void test_too_many_pods(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct cache cache = { 0 };
	struct cycle_result result;
	struct json *pod = parse(&arena, "{\"spec\":{}}");

	add_node(&cache, "n1", PLAIN_NODE);
	for (unsigned i = 0; i < 3; i++)
		cache_add_pod(&cache, str_of(arena_printf(&arena, "p%u", i)), STR("n1"), pod, i == 0);
	place(&arena, &cache, "{\"spec\":{}}", &result);
	assert_string_equal(result.message, "0/1 nodes are available: 1 Too many pods" HELPFUL);
	assert_true(cache_is_assumed(&cache, STR("p0")));
	assert_true(cache_remove_pod(&cache, STR("p0")));
	assert_false(cache_remove_pod(&cache, STR("p0")));
	place(&arena, &cache, "{\"spec\":{}}", &result);
	assert_non_null(result.node);
	cache_finish(&cache);
}

/* A node that comes back, or changes, still knows its pods. */
static void test_node_keeps_its_pods(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct cache cache = { 0 };
	struct cycle_result result;

	cache_add_pod(&cache, STR("early"), STR("n1"), parse(&arena, ASKS("1500m", "1Gi")), false);
	add_node(&cache, "n1", PLAIN_NODE);
	cache_set_node(&cache, STR("n1"), NULL);
	assert_int_equal(cache.n_nodes, 0);
	add_node(&cache, "n1", PLAIN_NODE);
	place(&arena, &cache, ASKS("1", "1Gi"), &result);
	assert_string_equal(result.message, "0/1 nodes are available: 1 Insufficient cpu" HELPFUL);
	cache_finish(&cache);
}

static const char *choice(const char *n1, const char *n2, const char *there, const char *pod)
{
	static char name[8];
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct cache cache = { 0 };
	struct cycle_result result;

	add_node(&cache, "n1", n1);
	add_node(&cache, "n2", n2);
	if (there)
		cache_add_pod(&cache, STR("there"), STR("n1"), parse(&arena, there), false);
	place(&arena, &cache, pod, &result);
	assert_non_null(result.node);
	snprintf(name, sizeof(name), "%s", result.node->name);
	cache_finish(&cache);
	return name;
}

static void test_scores(void **state)
{
	assert_string_equal(choice(PLAIN_NODE, PLAIN_NODE, NULL, ASKS("1", "1Gi")), "n1");
	assert_string_equal(choice(PLAIN_NODE, PLAIN_NODE, ASKS("1", "1Gi"), ASKS("1", "1Gi")), "n2");
	/* Who asks for nothing counts, a sidecar and the overhead too. */
	assert_string_equal(choice(PLAIN_NODE, PLAIN_NODE, "{\"spec\":{\"containers\":[{}]}}", ASKS("1", "1Gi")), "n2");
	assert_string_equal(choice(PLAIN_NODE, PLAIN_NODE,
				   "{\"spec\":{\"initContainers\":[{\"restartPolicy\":\"Always\"}]}}",
				   ASKS("1", "1Gi")),
			    "n2");
	assert_string_equal(
		choice(PLAIN_NODE, PLAIN_NODE, "{\"spec\":{\"overhead\":{\"cpu\":\"1\"}}}", ASKS("1", "1Gi")), "n2");
	assert_string_equal(
		choice("{\"spec\":{\"taints\":[{\"key\":\"p\",\"effect\":\"PreferNoSchedule\"}]}," ALLOCATABLE "}",
		       PLAIN_NODE, NULL, "{\"spec\":{}}"),
		"n2");
	assert_string_equal(choice("{" ALLOCATABLE "}", PLAIN_NODE, NULL,
				   "{\"spec\":{\"affinity\":{\"nodeAffinity\":{"
				   "\"preferredDuringSchedulingIgnoredDuringExecution\":["
				   "{\"weight\":5,\"preference\":{\"matchExpressions\":[{\"key\":\"disk\",\"operator\":"
				   "\"Exists\"}]}}]}}}}"),
			    "n2");
}

static void test_several_nodes_are_counted(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct cache cache = { 0 };
	struct cycle_result result;

	add_node(&cache, "n1", CORDONED);
	add_node(&cache, "n2", PLAIN_NODE);
	add_node(&cache, "n3", PLAIN_NODE);
	cache_add_pod(&cache, STR("a"), STR("n2"), parse(&arena, ASKS("2", "1Gi")), false);
	cache_add_pod(&cache, STR("b"), STR("n3"), parse(&arena, ASKS("2", "1Gi")), false);
	place(&arena, &cache, ASKS("1", "1Gi"), &result);
	assert_string_equal(
		result.message,
		"0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 "
		"nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims "
		"found for incoming pod.");
	cache_finish(&cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_too_many_pods),
		cmocka_unit_test(test_node_keeps_its_pods),
		cmocka_unit_test(test_scores),
		cmocka_unit_test(test_several_nodes_are_counted),
	};

	plugins_assert_unique();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
