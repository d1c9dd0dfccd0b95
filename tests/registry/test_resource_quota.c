/* SPDX-License-Identifier: Apache-2.0 */
/* ResourceQuotas: what counts, what is refused and in which words; racing clients, a disk that refuses, a restart. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/registry/registry_fixture.h"
#include "userspace/base/log.h"
#include "userspace/registry/quota.h"

static int setup(void **state)
{
	int r = fixture_setup(state);

	if (r == 0) {
		fixture_do(*state, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "",
			   "{\"metadata\":{\"name\":\"default\"}}");
		fixture_expect(*state, 201, "account");
	}
	return r;
}

/* `spec`: of the quota, without its braces. */
static void quota(struct fixture *f, const char *name, const char *spec)
{
	_cleanup_free_ char *body = NULL;

	if (asprintf(&body, "{\"metadata\":{\"name\":\"%s\"},\"spec\":{%s}}", name, spec) < 0)
		fail();
	fixture_do(f, API_VERB_CREATE, KIND_RESOURCEQUOTA, "default", "", body);
	fixture_expect(f, 201, spec);
}

static int create(struct fixture *f, const struct api_kind *kind, const char *name, const char *rest)
{
	_cleanup_free_ char *body = NULL;

	if (asprintf(&body, "{\"metadata\":{\"name\":\"%s\"}%s%s}", name, *rest ? "," : "", rest) < 0)
		fail();
	return fixture_do(f, API_VERB_CREATE, kind, "default", "", body);
}

#define POD(resources) "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{" resources "}}]}"
#define SPEC(spec) "\"spec\":{" spec "}"

/* status.used of a quota as admission counts it, "" when it says nothing of that resource. */
static const char *used(struct fixture *f, const char *name, const char *resource)
{
	struct json *all = registry_quota_used(f->reg, &f->arena, STR("default"), str_of(name));
	struct str s = json_get_str(all, resource);

	assert_non_null(all);
	return arena_strndup(&f->arena, s.p ? s.p : "", s.n);
}

static void expect_used(struct fixture *f, const char *resource, const char *amount)
{
	if (strcmp(used(f, "q", resource), amount))
		fail_msg("%s: used %s, expected %s", resource, used(f, "q", resource), amount);
}

static void expect_refused(struct fixture *f, int status, const char *message)
{
	fixture_expect(f, 403, message);
	assert_int_equal(status, 403);
	assert_string_equal(f->message, message);
	assert_string_equal(f->reason, "Forbidden");
}

/* ---- what is counted ---- */

static void test_pods(void **state)
{
	struct fixture *f = *state;

	quota(f, "q",
	      "\"hard\":{\"pods\":\"2\",\"requests.cpu\":\"1\",\"limits.memory\":\"1Gi\",\"count/pods\":\"10\","
	      "\"nonsense.example.com/x\":\"1\"}");
	expect_used(f, "pods", "0");
	expect_used(f, "nonsense.example.com/x", "");
	expect_refused(
		f, create(f, KIND_POD, "p", POD("")),
		"pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c");
	expect_refused(f,
		       create(f, KIND_POD, "p",
			      POD("\"requests\":{\"cpu\":\"2\"},\"limits\":{\"cpu\":\"2\",\"memory\":\"2Gi\"}")),
		       "pods \"p\" is forbidden: exceeded quota: q, requested: limits.memory=2Gi,requests.cpu=2, used: "
		       "limits.memory=0,requests.cpu=0, limited: limits.memory=1Gi,requests.cpu=1");
	create(f, KIND_POD, "a", POD("\"limits\":{\"cpu\":\"600m\",\"memory\":\"256Mi\"}"));
	fixture_expect(f, 201, "a");
	expect_used(f, "pods", "1");
	expect_used(f, "count/pods", "1");
	expect_used(f, "requests.cpu", "600m");
	expect_used(f, "limits.memory", "256Mi");
	expect_refused(f, create(f, KIND_POD, "b", POD("\"limits\":{\"cpu\":\"500m\",\"memory\":\"256Mi\"}")),
		       "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: "
		       "requests.cpu=600m, limited: requests.cpu=1");
	create(f, KIND_POD, "b", POD("\"limits\":{\"cpu\":\"400m\",\"memory\":\"256Mi\"}"));
	fixture_expect(f, 201, "b");
	expect_refused(f, create(f, KIND_POD, "c", POD("\"limits\":{\"cpu\":\"0\",\"memory\":\"1Mi\"}")),
		       "pods \"c\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2");
	/* One that has ended gives back all but its place in the store. */
	struct request rq =
		fixture_request(API_VERB_PATCH, KIND_POD, "default", "a", "{\"status\":{\"phase\":\"Succeeded\"}}");
	rq.patch = REQUEST_PATCH_MERGE;
	rq.subresource = "status";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "status");
	expect_used(f, "pods", "1");
	expect_used(f, "requests.cpu", "400m");
	expect_used(f, "count/pods", "2");
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "b", "{\"gracePeriodSeconds\":0}");
	fixture_expect(f, 200, "delete");
	expect_used(f, "pods", "0");
	expect_used(f, "limits.memory", "0");
	expect_used(f, "count/pods", "1");
}

static void test_generated_names_are_told(void **state)
{
	struct fixture *f = *state;

	quota(f, "q", "\"hard\":{\"pods\":\"0\"}");
	fixture_do(f, API_VERB_CREATE, KIND_POD, "default", "",
		   "{\"metadata\":{\"generateName\":\"web-\"}," POD("") "}");
	fixture_expect(f, 403, "pod");
	assert_true(str_starts(str_of(f->message), STR("pods \"web-")));
	assert_int_equal(strlen(strtok(f->message + strlen("pods \""), "\"")), strlen("web-") + 5);
}

struct usage_case {
	const struct api_kind *const *kind;
	const char *rest;
	const char *used[5][2];
};

static const struct usage_case USAGE_CASES[] = {
	{ &KIND_CONFIGMAP, "", { { "configmaps", "1" }, { "count/configmaps", "1" }, { "secrets", "0" } } },
	{ &KIND_SECRET, "", { { "secrets", "1" }, { "count/secrets", "1" } } },
	{ &KIND_SERVICE,
	  SPEC("\"ports\":[{\"port\":80}]"),
	  { { "services", "1" }, { "services.nodeports", "0" }, { "services.loadbalancers", "0" } } },
	{ &KIND_SERVICE,
	  SPEC("\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"name\":\"a\"},{\"port\":81,\"name\":\"b\"}]"),
	  { { "services", "1" }, { "services.nodeports", "2" }, { "services.loadbalancers", "0" } } },
	{ &KIND_SERVICE,
	  SPEC("\"type\":\"LoadBalancer\",\"ports\":[{\"port\":80}]"),
	  { { "services", "1" }, { "services.nodeports", "1" }, { "services.loadbalancers", "1" } } },
	{ &KIND_SERVICE,
	  SPEC("\"type\":\"LoadBalancer\",\"allocateLoadBalancerNodePorts\":false,\"ports\":[{\"port\":80}]"),
	  { { "services.nodeports", "0" }, { "services.loadbalancers", "1" } } },
	{ &KIND_PERSISTENTVOLUMECLAIM,
	  SPEC("\"storageClassName\":\"gold\",\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{"
	       "\"storage\":\"1Gi\"}}"),
	  { { "persistentvolumeclaims", "1" },
	    { "requests.storage", "1Gi" },
	    { "gold.storageclass.storage.k8s.io/requests.storage", "1Gi" },
	    { "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1" } } },
	{ &KIND_LEASE, SPEC(""), { { "count/leases.coordination.k8s.io", "1" } } },
	{ &KIND_RESOURCECLAIM,
	  SPEC("\"devices\":{\"requests\":[{\"name\":\"a\",\"exactly\":{\"deviceClassName\":\"gpu\",\"count\":2}},{"
	       "\"name\":\"b\",\"firstAvailable\":[{\"name\":\"x\",\"deviceClassName\":\"gpu\",\"count\":1},{\"name\":"
	       "\"y\",\"deviceClassName\":\"gpu\",\"count\":3},{\"name\":\"z\",\"deviceClassName\":\"fpga\","
	       "\"allocationMode\":\"All\"}]}]}"),
	  { { "gpu.deviceclass.resource.k8s.io/devices", "5" },
	    { "fpga.deviceclass.resource.k8s.io/devices", "32" },
	    { "count/resourceclaims.resource.k8s.io", "1" } } },
	{ &KIND_POD,
	  POD("\"requests\":{\"cpu\":\"1\",\"memory\":\"64Mi\",\"example.com/gpu\":\"2\"},\"limits\":{\"cpu\":\"1\","
	      "\"memory\":\"64Mi\",\"example.com/gpu\":\"2\"}"),
	  { { "cpu", "1" }, { "memory", "64Mi" }, { "requests.example.com/gpu", "2" }, { "pods", "1" } } },
	{ &KIND_POD,
	  POD("\"requests\":{\"cpu\":\"1\",\"memory\":\"64Mi\",\"hugepages-2Mi\":\"4Mi\"},\"limits\":{\"cpu\":\"1\","
	      "\"memory\":\"64Mi\",\"hugepages-2Mi\":\"4Mi\"}"),
	  { { "hugepages-2Mi", "4Mi" }, { "requests.hugepages-2Mi", "4Mi" } } },
};

/* Counted when it comes, and counted the same anew when the quota is made after it. */
static void test_usage(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(USAGE_CASES); i++) {
		const struct usage_case *c = &USAGE_CASES[i];
		_cleanup_(buf_finish) struct buf spec = BUF_INIT;

		buf_add_cstr(&spec, "\"hard\":{");
		for (size_t k = 0; k < ARRAY_SIZE(c->used) && c->used[k][0]; k++)
			buf_printf(&spec, "%s\"%s\":\"5Gi\"", k ? "," : "", c->used[k][0]);
		buf_add_cstr(&spec, "}");
		quota(f, "q", buf_cstr(&spec));
		for (size_t k = 0; k < ARRAY_SIZE(c->used) && c->used[k][0]; k++)
			expect_used(f, c->used[k][0], "0");
		create(f, *c->kind, "x", c->rest);
		fixture_expect(f, 201, c->rest);
		for (int again = 0; again < 2; again++) {
			for (size_t k = 0; k < ARRAY_SIZE(c->used) && c->used[k][0]; k++)
				expect_used(f, c->used[k][0], c->used[k][1]);
			fixture_do(f, API_VERB_DELETE, KIND_RESOURCEQUOTA, "default", "q", "");
			fixture_expect(f, 200, "quota");
			if (!again)
				quota(f, "q", buf_cstr(&spec));
		}
		quota(f, "q", buf_cstr(&spec));
		fixture_do(f, API_VERB_DELETE, *c->kind, "default", "x", "{\"gracePeriodSeconds\":0}");
		if (*c->kind == KIND_PERSISTENTVOLUMECLAIM) {
			struct request rq = fixture_request(API_VERB_PATCH, *c->kind, "default", "x",
							    "{\"metadata\":{\"finalizers\":null}}");

			expect_used(f, c->used[0][0], c->used[0][1]);
			rq.patch = REQUEST_PATCH_MERGE;
			fixture_run(f, &rq);
		}
		fixture_expect(f, 200, c->rest);
		for (size_t k = 0; k < ARRAY_SIZE(c->used) && c->used[k][0]; k++)
			expect_used(f, c->used[k][0], "0");
		fixture_do(f, API_VERB_DELETE, KIND_RESOURCEQUOTA, "default", "q", "");
	}
}

static void test_updates(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	quota(f, "q", "\"hard\":{\"services.nodeports\":\"1\",\"services\":\"5\"}");
	create(f, KIND_SERVICE, "s", SPEC("\"ports\":[{\"port\":80}]"));
	fixture_expect(f, 201, "service");
	create(f, KIND_SERVICE, "t", SPEC("\"ports\":[{\"port\":80,\"name\":\"a\"},{\"port\":81,\"name\":\"b\"}]"));
	rq = fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", "t", "{\"spec\":{\"type\":\"NodePort\"}}");
	rq.patch = REQUEST_PATCH_MERGE;
	expect_refused(f, fixture_run(f, &rq),
		       "services \"t\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: "
		       "services.nodeports=0, limited: services.nodeports=1");
	rq.name = STR("s");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "type");
	expect_used(f, "services.nodeports", "1");
	/* The quota may be lowered below what is used; what adds nothing still goes through. */
	rq = fixture_request(API_VERB_PATCH, KIND_RESOURCEQUOTA, "default", "q",
			     "{\"spec\":{\"hard\":{\"services.nodeports\":\"0\"}}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "lower");
	rq = fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", "s", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "label");
	expect_used(f, "services.nodeports", "1");
}

/* Sums past what one quantity can say are still sums. */
static void test_largest_amounts(void **state)
{
	struct fixture *f = *state;
	static const char most[] = POD("\"requests\":{\"cpu\":\"9223372036854775807\"}");

	create(f, KIND_POD, "a", most);
	fixture_expect(f, 201, "a");
	create(f, KIND_POD, "b", most);
	quota(f, "q", "\"hard\":{\"requests.cpu\":\"9223372036854775807\"}");
	assert_int_equal(create(f, KIND_POD, "c", POD("\"requests\":{\"cpu\":\"1\"}")), 403);
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "a", "");
	fixture_expect(f, 200, "delete");
	expect_used(f, "requests.cpu", "9223372036854775807");
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "b", "");
	expect_used(f, "requests.cpu", "0");
	create(f, KIND_POD, "c", POD("\"requests\":{\"cpu\":\"1\"}"));
	fixture_expect(f, 201, "c");
}

static void test_resize(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	quota(f, "q", "\"hard\":{\"limits.cpu\":\"2\"}");
	create(f, KIND_POD, "p", POD("\"requests\":{\"cpu\":\"1\"},\"limits\":{\"cpu\":\"1500m\"}"));
	fixture_expect(f, 201, "pod");
	rq = fixture_request(
		API_VERB_PATCH, KIND_POD, "default", "p",
		"{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"cpu\":\"3\"}}}]}}");
	rq.patch = REQUEST_PATCH_STRATEGIC;
	rq.subresource = "resize";
	expect_refused(f, fixture_run(f, &rq),
		       "pods \"p\" is forbidden: exceeded quota: q, requested: limits.cpu=1500m, used: "
		       "limits.cpu=1500m, limited: limits.cpu=2");
	rq.body = STR("{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"cpu\":\"2\"}}}]}}");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "resize");
	expect_used(f, "limits.cpu", "2");
}

/* ---- scopes ---- */

struct scope_case {
	const char *scopes;
	const char *pod; /* members of spec */
	bool counted;
};

#define C "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]"
#define C_CPU "\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{\"requests\":{\"cpu\":\"1m\"}}}]"
#define PRIORITY(op, values)                                                                                           \
	"\"scopeSelector\":{\"matchExpressions\":[{\"scopeName\":\"PriorityClass\",\"operator\":\"" op "\"" values "}]}"
#define AFFINITY(term)                                                                                                 \
	"\"affinity\":{\"podAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":[{\"topologyKey\":\"k\","   \
	"\"labelSelector\":{}" term "}]}},"

static const struct scope_case SCOPE_CASES[] = {
	{ "\"scopes\":[\"Terminating\"]", "\"activeDeadlineSeconds\":5," C, true },
	{ "\"scopes\":[\"Terminating\"]", C, false },
	{ "\"scopes\":[\"NotTerminating\"]", C, true },
	{ "\"scopes\":[\"NotTerminating\"]", "\"activeDeadlineSeconds\":5," C, false },
	{ "\"scopes\":[\"BestEffort\"]", C, true },
	{ "\"scopes\":[\"BestEffort\"]", C_CPU, false },
	{ "\"scopes\":[\"NotBestEffort\"]", C_CPU, true },
	{ "\"scopes\":[\"NotBestEffort\"]", C, false },
	{ "\"scopes\":[\"BestEffort\",\"NotTerminating\"]", C, true },
	{ "\"scopes\":[\"BestEffort\",\"Terminating\"]", C, false },
	{ "\"scopes\":[\"PriorityClass\"]", "\"priorityClassName\":\"high\"," C, true },
	{ "\"scopes\":[\"PriorityClass\"]", C, false },
	{ PRIORITY("In", ",\"values\":[\"high\",\"low\"]"), "\"priorityClassName\":\"high\"," C, true },
	{ PRIORITY("In", ",\"values\":[\"low\"]"), "\"priorityClassName\":\"high\"," C, false },
	{ PRIORITY("In", ",\"values\":[\"low\"]"), C, false },
	{ PRIORITY("NotIn", ",\"values\":[\"low\"]"), "\"priorityClassName\":\"high\"," C, true },
	{ PRIORITY("NotIn", ",\"values\":[\"low\"]"), C, true },
	{ PRIORITY("NotIn", ",\"values\":[\"high\"]"), "\"priorityClassName\":\"high\"," C, false },
	{ PRIORITY("Exists", ""), "\"priorityClassName\":\"high\"," C, true },
	{ PRIORITY("DoesNotExist", ""), C, true },
	{ PRIORITY("DoesNotExist", ""), "\"priorityClassName\":\"high\"," C, false },
	{ "\"scopes\":[\"CrossNamespacePodAffinity\"]", AFFINITY(",\"namespaces\":[\"x\"]") C, true },
	{ "\"scopes\":[\"CrossNamespacePodAffinity\"]", AFFINITY(",\"namespaceSelector\":{}") C, true },
	{ "\"scopes\":[\"CrossNamespacePodAffinity\"]", AFFINITY("") C, false },
};

static void test_scopes(void **state)
{
	struct fixture *f = *state;

	fixture_do(f, API_VERB_CREATE, KIND_PRIORITYCLASS, "", "", "{\"metadata\":{\"name\":\"high\"},\"value\":1}");
	fixture_expect(f, 201, "class");
	for (size_t i = 0; i < ARRAY_SIZE(SCOPE_CASES); i++) {
		const struct scope_case *c = &SCOPE_CASES[i];
		_cleanup_free_ char *spec = NULL, *rest = NULL;

		if (asprintf(&spec, "\"hard\":{\"pods\":\"0\"},%s", c->scopes) < 0 ||
		    asprintf(&rest, "\"spec\":{%s}", c->pod) < 0)
			fail();
		quota(f, "q", spec);
		create(f, KIND_POD, "p", rest);
		fixture_expect(f, c->counted ? 403 : 201, c->scopes);
		if (!c->counted)
			fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "p", "{\"gracePeriodSeconds\":0}");
		fixture_do(f, API_VERB_DELETE, KIND_RESOURCEQUOTA, "default", "q", "");
		fixture_expect(f, 200, "delete");
	}
}

/* A deadline that comes later moves a pod from one quota to the other. */
static void test_pod_changes_scope(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	quota(f, "q", "\"hard\":{\"pods\":\"5\"},\"scopes\":[\"Terminating\"]");
	quota(f, "r", "\"hard\":{\"pods\":\"5\"},\"scopes\":[\"NotTerminating\"]");
	create(f, KIND_POD, "p", POD(""));
	fixture_expect(f, 201, "pod");
	assert_string_equal(used(f, "q", "pods"), "0");
	assert_string_equal(used(f, "r", "pods"), "1");
	rq = fixture_request(API_VERB_PATCH, KIND_POD, "default", "p", "{\"spec\":{\"activeDeadlineSeconds\":9}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "deadline");
	assert_string_equal(used(f, "q", "pods"), "1");
	assert_string_equal(used(f, "r", "pods"), "0");
}

/* ---- races ---- */

#define CLIENTS 32
#define EACH 4

struct race {
	struct fixture *f;
	size_t accepted, refused, failed, open;
	bool all_asked;
};

static void race_answer(void *arg, const struct request_result *r, const struct err *err)
{
	struct race *race = arg;

	if (!err)
		race->accepted++;
	else if (err->status == 403)
		race->refused++;
	else
		race->failed++;
	race->open--;
	if (race->open == 0 && race->all_asked)
		loop_stop(race->f->loop, 0);
}

static void race_ask(struct race *race, const struct api_kind *kind, const char *prefix, size_t n, const char *rest)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *body = NULL;
		struct request rq;

		if (asprintf(&body, "{\"metadata\":{\"name\":\"%s%zu\"}%s%s}", prefix, i, *rest ? "," : "", rest) < 0)
			fail();
		rq = fixture_request(API_VERB_CREATE, kind, "default", "", body);
		race->open++;
		request_run(race->f->reg, &rq, race_answer, race);
	}
}

static void race_wait(struct race *race)
{
	race->all_asked = true;
	if (race->open == 0)
		return;
	loop_timer_init(&race->f->deadline, fixture_late);
	loop_timer_arm(race->f->loop, &race->f->deadline, 60 * NS_PER_S);
	loop_run(race->f->loop);
	loop_timer_cancel(race->f->loop, &race->f->deadline);
	assert_int_equal(race->open, 0);
}

/* None of them is durable when the next one is judged. */
static void test_racing_clients(void **state)
{
	struct fixture *f = *state;
	struct race race = { .f = f };

	quota(f, "q", "\"hard\":{\"pods\":\"10\",\"requests.cpu\":\"1\"}");
	race_ask(&race, KIND_POD, "p", CLIENTS * EACH, POD("\"requests\":{\"cpu\":\"150m\"}"));
	assert_true(race.open >= 6);
	expect_used(f, "pods", "6");
	race_wait(&race);
	assert_int_equal(race.accepted, 6);
	assert_int_equal(race.refused, CLIENTS * EACH - 6);
	assert_int_equal(registry_count(f->reg, KIND_POD), 6);
	expect_used(f, "requests.cpu", "900m");
	/* A quota made while writes wait for the disk counts those too. */
	race = (struct race){ .f = f };
	race_ask(&race, KIND_CONFIGMAP, "c", CLIENTS, "");
	quota(f, "r", "\"hard\":{\"configmaps\":\"34\"}");
	race_wait(&race);
	assert_int_equal(race.accepted, CLIENTS);
	race = (struct race){ .f = f };
	race_ask(&race, KIND_CONFIGMAP, "d", CLIENTS, "");
	race_wait(&race);
	assert_int_equal(race.accepted, 2);
}

/* A write that changes nothing waits for the one that it found, beside it. */
static void test_counted_once(void **state)
{
	struct fixture *f = *state;
	struct race race = { .f = f };
	struct request rq = fixture_request(API_VERB_PATCH, KIND_CONFIGMAP, "default", "c0", "{}");

	rq.patch = REQUEST_PATCH_MERGE;
	race_ask(&race, KIND_CONFIGMAP, "c", 1, "");
	race.open++;
	request_run(f->reg, &rq, race_answer, &race);
	race_ask(&race, KIND_RESOURCEQUOTA, "q", 1, SPEC("\"hard\":{\"configmaps\":\"5\"}"));
	assert_int_equal(race.open, 3);
	assert_string_equal(used(f, "q0", "configmaps"), "1");
	race_wait(&race);
	assert_int_equal(race.accepted, 3);
	assert_string_equal(used(f, "q0", "configmaps"), "1");
}

static void test_dry_run_charges_nothing(void **state)
{
	struct fixture *f = *state;
	struct request rq =
		fixture_request(API_VERB_CREATE, KIND_CONFIGMAP, "default", "", "{\"metadata\":{\"name\":\"a\"}}");

	quota(f, "q", "\"hard\":{\"configmaps\":\"1\"}");
	rq.dry_run = true;
	for (int i = 0; i < 3; i++) {
		fixture_run(f, &rq);
		fixture_expect(f, 201, "dry");
		expect_used(f, "configmaps", "0");
	}
	create(f, KIND_CONFIGMAP, "a", "");
	fixture_expect(f, 201, "wet");
	rq.body = STR("{\"metadata\":{\"name\":\"b\"}}");
	fixture_run(f, &rq);
	fixture_expect(f, 403, "dry");
}

static rlim_t set_file_limit(rlim_t bytes)
{
	struct rlimit limit;
	rlim_t before;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	return before;
}

/* What the disk refuses is given back: creations, deletions and quotas alike. */
static void test_disk_refuses(void **state)
{
	struct fixture *f = *state;
	struct race race = { .f = f };
	rlim_t before;

	signal(SIGXFSZ, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR + 1); /* the refusals are wanted */
	quota(f, "q", "\"hard\":{\"configmaps\":\"5\"}");
	create(f, KIND_CONFIGMAP, "kept", "");
	fixture_expect(f, 201, "kept");
	before = set_file_limit(1);
	race_ask(&race, KIND_CONFIGMAP, "c", CLIENTS, "");
	expect_used(f, "configmaps", "5");
	race_wait(&race);
	assert_int_equal(race.accepted, 0);
	assert_int_equal(race.failed, 4);
	expect_used(f, "configmaps", "1");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "kept", "");
	assert_int_equal(f->status / 100, 5);
	expect_used(f, "configmaps", "1");
	create(f, KIND_RESOURCEQUOTA, "no", SPEC("\"hard\":{\"configmaps\":\"0\"}"));
	assert_int_equal(f->status / 100, 5);
	set_file_limit(before);
	race = (struct race){ .f = f };
	race_ask(&race, KIND_CONFIGMAP, "c", CLIENTS, "");
	race_wait(&race);
	assert_int_equal(race.accepted, 4);
	expect_used(f, "configmaps", "5");
	log_set_level(LOG_LEVEL_INFO);
}

static void test_restart(void **state)
{
	struct fixture *f = *state;

	quota(f, "q", "\"hard\":{\"pods\":\"2\",\"requests.cpu\":\"1\"}");
	create(f, KIND_POD, "p", POD("\"requests\":{\"cpu\":\"700m\"}"));
	fixture_expect(f, 201, "pod");
	fixture_clear(f);
	fixture_close(f);
	fixture_open(f);
	expect_used(f, "requests.cpu", "700m");
	expect_refused(f, create(f, KIND_POD, "r", POD("\"requests\":{\"cpu\":\"400m\"}")),
		       "pods \"r\" is forbidden: exceeded quota: q, requested: requests.cpu=400m, used: "
		       "requests.cpu=700m, limited: requests.cpu=1");
}

/* A pod that should be gone for long stops to count; its removal takes nothing away twice. */
static void test_overdue_pods(void **state)
{
	struct fixture *f = *state;
	struct request rq;

	create(f, KIND_POD, "p", "\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}");
	fixture_expect(f, 201, "pod");
	quota(f, "q", "\"hard\":{\"pods\":\"1\",\"count/pods\":\"5\"}");
	expect_used(f, "pods", "1");
	rq = fixture_request(API_VERB_PATCH, KIND_POD, "default", "p",
			     "{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_do(f, API_VERB_DELETE, KIND_POD, "default", "p", "{\"gracePeriodSeconds\":0}");
	fixture_expect(f, 200, "delete");
	expect_used(f, "pods", "0");
	expect_used(f, "count/pods", "1");
	create(f, KIND_POD, "r", POD(""));
	fixture_expect(f, 201, "another");
	rq = fixture_request(API_VERB_PATCH, KIND_POD, "default", "p", "{\"metadata\":{\"finalizers\":null}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "gone");
	expect_used(f, "pods", "1");
	expect_used(f, "count/pods", "1");
}

static void heard(void *arg, struct str ns)
{
	assert_true(str_is(ns, "default"));
	(*(int *)arg)++;
}

static void test_listener(void **state)
{
	struct fixture *f = *state;
	int n = 0;

	registry_quota_listen(f->reg, heard, &n);
	create(f, KIND_CONFIGMAP, "a", "");
	assert_int_equal(n, 0);
	quota(f, "q", "\"hard\":{\"configmaps\":\"3\"}");
	assert_int_equal(n, 1);
	expect_used(f, "configmaps", "1");
	create(f, KIND_CONFIGMAP, "b", "");
	assert_int_equal(n, 2);
	create(f, KIND_SECRET, "b", "");
	assert_int_equal(n, 2);
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "b", "");
	assert_int_equal(n, 3);
	registry_quota_listen(f->reg, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pods, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_generated_names_are_told, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_usage, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_updates, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_largest_amounts, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_resize, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_scopes, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_pod_changes_scope, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_racing_clients, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_counted_once, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_dry_run_charges_nothing, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_disk_refuses, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_overdue_pods, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_listener, setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
