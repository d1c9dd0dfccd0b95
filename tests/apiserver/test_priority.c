/* SPDX-License-Identifier: Apache-2.0 */
/* Priority and fairness: which schema a request falls under, seats, queues, turns, refusals. */
#include "tests/registry/registry_fixture.h"

#include "userspace/apiserver/priority.h"

#define REQUESTS_MAX 400
#define EXPENSIVE_NS (50 * INT64_C(1000000)) /* of requests with a capital letter */

struct world {
	struct fixture *f;
	struct priority *p;
	struct priority_request requests[REQUESTS_MAX];
	size_t n;
	char order[REQUESTS_MAX + 1]; /* a letter for each that ran from the loop */
	size_t ran;
	char letters[REQUESTS_MAX];
	int64_t late_ns; /* the clock, from the begin of the loop's turn */
};

static struct world *world;

static void run(struct priority_request *r)
{
	char letter = world->letters[r - world->requests];

	world->order[world->ran++] = letter;
	world->late_ns += letter >= 'A' && letter <= 'Z' ? EXPENSIVE_NS : 0;
	priority_leave(world->p, r);
}

static void refuse(struct priority_request *r)
{
	fail_msg("refused from the loop");
}

/* A commit and its answer: what was written before is durable, its watchers were told, what they put off was done. */
static void settle(void)
{
	static unsigned n;
	char name[32];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "settle-%u", n++);
		fixture_namespace(world->f, name);
	}
}

static int setup(void **state)
{
	void *f;

	world = mem_new(struct world);
	fixture_setup(&f);
	world->f = f;
	priority_create(world->f->loop, world->f->reg, &world->p);
	settle();
	return 0;
}

static int teardown(void **state)
{
	void *f = world->f;

	priority_destroy(world->p);
	fixture_teardown(&f);
	free(world);
	return 0;
}

static const struct api_kind *kind_of(const char *kind)
{
	return api_kind_by_kind(STR("flowcontrol.apiserver.k8s.io"), STR("v1"), str_of(kind));
}

struct who {
	const char *name, *group;
};

static enum priority_verdict enter(struct who who, const char *verb, const char *resource, const char *ns,
				   unsigned seats, char letter)
{
	struct str groups[2] = { str_of(who.group), STR("system:authenticated") };
	struct request_user user = { .name = str_of(who.name), .groups = groups, .n_groups = 2 };
	struct authz_attributes a = { .user = &user,
				      .verb = str_of(verb),
				      .is_path = resource[0] == '/',
				      .path = str_of(resource),
				      .version = STR("v1"),
				      .resource = str_of(resource),
				      .ns = str_of(ns) };
	struct priority_request *r = &world->requests[world->n];

	world->letters[world->n++] = letter;
	r->run = run;
	r->refuse = refuse;
	return priority_enter(world->p, &a, seats, r);
}

static const char *level_of(struct who who, const char *verb, const char *resource, const char *ns)
{
	struct priority_request *r = &world->requests[world->n];

	assert_int_equal(enter(who, verb, resource, ns, 1, '-'), PRIORITY_RUN);
	priority_leave(world->p, r);
	return r->level->name;
}

/* ---- sorting ---- */

static void requests_fall_under_upstreams_levels(void **state)
{
	static const struct {
		struct who who;
		const char *verb, *resource, *ns, *level;
	} table[] = {
		{ { "admin", "system:masters" }, "delete", "pods", "a", "exempt" },
		{ { "somebody", "staff" }, "get", "pods", "a", "global-default" },
		{ { "somebody", "staff" }, "get", "/readyz", NULL, "exempt" },
		{ { "somebody", "staff" }, "get", "/metrics", NULL, "global-default" },
		{ { "system:node:n", "system:nodes" }, "update", "nodes", NULL, "node-high" },
		{ { "system:node:n", "system:nodes" }, "get", "pods", "a", "system" },
		{ { "system:serviceaccount:kube-system:x", "system:serviceaccounts" },
		  "get",
		  "endpoints",
		  "a",
		  "leader-election" },
		{ { "system:serviceaccount:kube-system:x", "system:serviceaccounts" },
		  "list",
		  "pods",
		  "a",
		  "workload-high" },
		{ { "system:serviceaccount:a:x", "system:serviceaccounts" }, "list", "pods", "a", "workload-low" },
		{ { "system:kube-scheduler", "" }, "list", "pods", NULL, "workload-high" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_string_equal(level_of(table[i].who, table[i].verb, table[i].resource, table[i].ns),
				    table[i].level);
}

/* ---- limits ---- */

static void create(const char *kind, const char *body)
{
	fixture_do(world->f, API_VERB_CREATE, kind_of(kind), "", "", body);
	fixture_expect(world->f, 201, body);
}

/* A level of three seats that borrows nothing, for the users whose names are given. */
static void make_tiny(int queues, int length)
{
	char body[512];

	snprintf(body, sizeof(body),
		 "{\"apiVersion\":\"flowcontrol.apiserver.k8s.io/v1\",\"kind\":\"PriorityLevelConfiguration\","
		 "\"metadata\":{\"name\":\"tiny\"},\"spec\":{\"type\":\"Limited\",\"limited\":{"
		 "\"nominalConcurrencyShares\":1,\"borrowingLimitPercent\":0,\"limitResponse\":{\"type\":\"Queue\","
		 "\"queuing\":{\"queues\":%d,\"handSize\":1,\"queueLengthLimit\":%d}}}}}",
		 queues, length);
	create("PriorityLevelConfiguration", body);
	create("FlowSchema",
	       "{\"apiVersion\":\"flowcontrol.apiserver.k8s.io/v1\",\"kind\":\"FlowSchema\",\"metadata\":{\"name\":"
	       "\"tiny\"},\"spec\":{\"matchingPrecedence\":50,\"distinguisherMethod\":{\"type\":\"ByUser\"},"
	       "\"priorityLevelConfiguration\":{\"name\":\"tiny\"},\"rules\":[{\"subjects\":[{\"kind\":\"Group\","
	       "\"group\":{\"name\":\"crowd\"}}],\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],"
	       "\"resources\":[\"*\"],\"namespaces\":[\"*\"]}]}]}}");
	settle();
}

static const struct who hog = { "hog", "crowd" };

static void assert_figure(const char *name, unsigned want)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	char line[256];

	priority_write_metrics(world->p, &out);
	snprintf(line, sizeof(line), "\napiserver_flowcontrol_%s{flow_schema=\"tiny\",priority_level=\"tiny\"} %u\n",
		 name, want);
	if (!strstr(buf_cstr(&out), line))
		fail_msg("not found:%sin\n%s", line, buf_cstr(&out));
}

static void seats_queue_and_refusal(void **state)
{
	make_tiny(1, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(enter(hog, "get", "pods", "a", 1, 'r'), PRIORITY_RUN);
	assert_int_equal(enter(hog, "get", "pods", "a", 1, 'a'), PRIORITY_WAIT);
	assert_int_equal(enter(hog, "get", "pods", "a", 1, 'b'), PRIORITY_WAIT);
	assert_int_equal(enter(hog, "get", "pods", "a", 1, 'c'), PRIORITY_REFUSE);
	assert_figure("current_executing_requests", 3);
	assert_figure("current_executing_seats", 3);
	assert_figure("current_inqueue_requests", 2);
	settle();
	assert_int_equal(world->ran, 0);
	/* One seat: both run, one after the other. */
	priority_leave(world->p, &world->requests[0]);
	priority_leave(world->p, &world->requests[0]);
	settle();
	assert_string_equal(world->order, "ab");
	assert_figure("current_executing_requests", 2);
	assert_figure("current_inqueue_requests", 0);
	priority_leave(world->p, &world->requests[1]);
	priority_leave(world->p, &world->requests[2]);
	assert_string_equal(level_of(hog, "get", "pods", "a"), "tiny");
}

static void who_goes_leaves_the_queue(void **state)
{
	make_tiny(1, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(enter(hog, "get", "pods", "a", 1, 'r'), PRIORITY_RUN);
	assert_int_equal(enter(hog, "get", "pods", "a", 1, 'a'), PRIORITY_WAIT);
	assert_int_equal(enter(hog, "get", "pods", "a", 1, 'b'), PRIORITY_REFUSE);
	priority_leave(world->p, &world->requests[3]);
	assert_int_equal(enter(hog, "get", "pods", "a", 1, 'c'), PRIORITY_WAIT);
	for (int i = 0; i < 3; i++)
		priority_leave(world->p, &world->requests[i]);
	settle();
	assert_string_equal(world->order, "c");
}

/* Among flows it goes by what each has had, not by who came first. */
static void a_short_queue_does_not_wait_for_a_long_one(void **state)
{
	char name[16];

	make_tiny(64, 50);
	for (int i = 0; i < 3; i++)
		enter(hog, "get", "pods", "a", 1, 'r');
	for (int i = 0; i < 10; i++)
		assert_int_equal(enter(hog, "get", "pods", "a", 1, 'h'), PRIORITY_WAIT);
	/* A mouse that does not share the hog's queue. */
	for (int i = 0; i < 50; i++) {
		struct priority_request *r = &world->requests[world->n];

		snprintf(name, sizeof(name), "mouse-%d", i);
		assert_int_equal(enter((struct who){ name, "crowd" }, "get", "pods", "a", 1, 'm'), PRIORITY_WAIT);
		if (r->queue != world->requests[3].queue)
			break;
		priority_leave(world->p, r);
	}
	for (int i = 0; i < 3; i++)
		priority_leave(world->p, &world->requests[i]);
	settle();
	assert_int_equal(world->ran, 11);
	assert_true(strchr(world->order, 'm') - world->order <= 1);
}

/* ---- time ---- */

static int64_t late_clock(void)
{
	return loop_now_ns(world->f->loop) + world->late_ns;
}

static const struct who writer = { "writer", "staff" }, reader = { "reader", "staff" };

static void run_at_once(struct who who, char letter)
{
	struct priority_request *r = &world->requests[world->n];

	assert_int_equal(enter(who, "create", "configmaps", "a", 1, letter), PRIORITY_RUN);
	priority_run(world->p, r);
}

static void wait_turn(struct who who, char letter)
{
	assert_int_equal(enter(who, "create", "configmaps", "a", 1, letter), PRIORITY_WAIT);
}

static void the_next_expensive_one_comes_after_others(void **state)
{
	world->p->clock = late_clock;
	run_at_once(writer, 'A');
	/* The turn's time is used up. */
	wait_turn(writer, 'B');
	wait_turn(writer, 'C');
	wait_turn(reader, 'x');
	wait_turn(reader, 'y');
	settle();
	assert_string_equal(world->order, "AxyBC");
}

static void levels_pay_for_their_time_too(void **state)
{
	const struct who account = { "system:serviceaccount:a:x", "system:serviceaccounts" };

	world->p->clock = late_clock;
	run_at_once(account, 'A');
	wait_turn(account, 'B');
	wait_turn(reader, 'x');
	wait_turn(account, 'C');
	wait_turn(reader, 'y');
	settle();
	assert_string_equal(world->order, "AxyBC");
}

/* In a turn of its own, too, it lets others go first. */
static void who_has_had_much_does_not_run_at_once(void **state)
{
	world->p->clock = late_clock;
	run_at_once(writer, 'A');
	world->late_ns = 0;
	wait_turn(writer, 'B');
	wait_turn(reader, 'x');
	settle();
	assert_string_equal(world->order, "AxB");
	/* The level owes as well, until its next turn; cheap ones never get there; what was paid for is forgotten. */
	world->late_ns = 0;
	wait_turn(reader, 'x');
	settle();
	world->late_ns = 0;
	for (int i = 0; i < 10; i++)
		run_at_once(reader, 'r');
	wait_turn(writer, 'c');
	settle();
	world->late_ns = 0;
	run_at_once(writer, 'd');
}

/* ---- the objects ---- */

static void a_schema_without_level_dangles(void **state)
{
	create("FlowSchema",
	       "{\"apiVersion\":\"flowcontrol.apiserver.k8s.io/v1\",\"kind\":\"FlowSchema\",\"metadata\":{\"name\":"
	       "\"lost\"},\"spec\":{\"priorityLevelConfiguration\":{\"name\":\"nowhere\"}}}");
	settle();
	fixture_do(world->f, API_VERB_GET, kind_of("FlowSchema"), "", "lost", NULL);
	assert_string_equal(fixture_at(world->f, "spec.matchingPrecedence"), "1000");
	assert_non_null(strstr(world->f->json, "\"status\":\"True\""));
	assert_non_null(strstr(world->f->json, "named \\\"nowhere\\\" but there is no such object"));
	fixture_do(world->f, API_VERB_GET, kind_of("FlowSchema"), "", "exempt", NULL);
	assert_non_null(strstr(world->f->json, "named \\\"exempt\\\" and it exists"));
	assert_non_null(strstr(world->f->json, "\"lastTransitionTime\":\"20"));
}

static void mandatory_ones_stay(void **state)
{
	fixture_do(world->f, API_VERB_DELETE, kind_of("PriorityLevelConfiguration"), "", "catch-all", NULL);
	fixture_expect(world->f, 200, "delete");
	settle();
	fixture_do(world->f, API_VERB_GET, kind_of("PriorityLevelConfiguration"), "", "catch-all", NULL);
	fixture_expect(world->f, 200, "made again");
	{
		struct request rq =
			fixture_request(API_VERB_PATCH, kind_of("PriorityLevelConfiguration"), "", "catch-all",
					"{\"spec\":{\"limited\":{\"nominalConcurrencyShares\":6}}}");

		rq.patch = REQUEST_PATCH_MERGE;
		fixture_run(world->f, &rq);
	}
	fixture_expect(world->f, 422, "changed");
	assert_non_null(strstr(world->f->message, "spec of 'catch-all' must equal the fixed value"));
}

static void wrong_ones_are_refused(void **state)
{
	static const struct {
		const char *spec, *message;
	} table[] = {
		{ "\"matchingPrecedence\":1,\"priorityLevelConfiguration\":{\"name\":\"system\"}",
		  "only the schema named 'exempt' may have matchingPrecedence 1" },
		{ "\"matchingPrecedence\":10001,\"priorityLevelConfiguration\":{\"name\":\"system\"}",
		  "must not be greater than 10000" },
		{ "\"priorityLevelConfiguration\":{\"name\":\"system\"},\"rules\":[{\"subjects\":[]}]",
		  "subjects must contain at least one value" },
		{ "\"priorityLevelConfiguration\":{\"name\":\"system\"},\"rules\":[{\"subjects\":[{\"kind\":"
		  "\"User\"}],\"nonResourceRules\":[{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"x\"]}]}]",
		  "must start with slash" },
	};
	char body[1024];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		snprintf(body, sizeof(body),
			 "{\"apiVersion\":\"flowcontrol.apiserver.k8s.io/v1\",\"kind\":\"FlowSchema\",\"metadata\":{"
			 "\"name\":\"bad\"},\"spec\":{%s}}",
			 table[i].spec);
		fixture_do(world->f, API_VERB_CREATE, kind_of("FlowSchema"), "", "", body);
		fixture_expect(world->f, 422, body);
		if (!strstr(world->f->message, table[i].message))
			fail_msg("%s: %s", table[i].message, world->f->message);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_fall_under_upstreams_levels),
		TEST(seats_queue_and_refusal),
		TEST(who_goes_leaves_the_queue),
		TEST(a_short_queue_does_not_wait_for_a_long_one),
		TEST(the_next_expensive_one_comes_after_others),
		TEST(levels_pay_for_their_time_too),
		TEST(who_has_had_much_does_not_run_at_once),
		TEST(a_schema_without_level_dangles),
		TEST(mandatory_ones_stay),
		TEST(wrong_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
