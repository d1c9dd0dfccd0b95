/* SPDX-License-Identifier: Apache-2.0 */
/* Random writes in bursts, none of which waits for the one before, while the disk refuses now and then and the registry
 * starts anew: what quotas say is used is always what the stored objects add up to, and never more than is allowed. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/registry/registry_fixture.h"
#include "userspace/api/quantity.h"
#include "userspace/base/log.h"
#include "userspace/registry/quota.h"

#define ROUNDS 1000
#define BURST_MAX 12
#define NAMES 10
#define HARD_CONFIGS 6
#define HARD_MILLI_CPU 1500
#define HARD_NODE_PORTS 4
#define FILE_LIMIT 1 /* bytes: nothing can be written any more */

struct model {
	struct fixture *f;
	uint64_t random;
	size_t open, accepted, refused, failed;
	bool all_asked;
};

static uint64_t draw(struct model *m, uint64_t below)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random % below;
}

static void answer(void *arg, const struct request_result *r, const struct err *err)
{
	struct model *m = arg;

	(void)r;
	if (!err)
		m->accepted++;
	else if (err->status == 403)
		m->refused++;
	else if (err->status >= 500)
		m->failed++;
	if (--m->open == 0 && m->all_asked)
		loop_stop(m->f->loop, 0);
}

static void ask(struct model *m, enum api_verb verb, const struct api_kind *kind, const char *name,
		const char *subresource, const char *body)
{
	struct request rq = fixture_request(verb, kind, "default", name, body);

	rq.patch = verb == API_VERB_PATCH ? REQUEST_PATCH_MERGE : REQUEST_PATCH_NONE;
	rq.subresource = subresource;
	rq.dry_run = draw(m, 10) == 0;
	m->open++;
	request_run(m->f->reg, &rq, answer, m);
}

static void ask_config(struct model *m)
{
	char name[16], body[64];

	snprintf(name, sizeof(name), "c%d", (int)draw(m, NAMES));
	snprintf(body, sizeof(body), "{\"metadata\":{\"name\":\"%s\"}}", name);
	if (draw(m, 2))
		ask(m, API_VERB_CREATE, KIND_CONFIGMAP, "", NULL, body);
	else
		ask(m, API_VERB_DELETE, KIND_CONFIGMAP, name, NULL, "");
}

static void ask_pod(struct model *m)
{
	char name[16], body[256];

	snprintf(name, sizeof(name), "p%d", (int)draw(m, NAMES));
	snprintf(
		body, sizeof(body),
		"{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{"
		"\"requests\":{\"cpu\":\"%dm\"}}}]}}",
		name, (int)draw(m, 500));
	switch (draw(m, 4)) {
	case 0:
		ask(m, API_VERB_DELETE, KIND_POD, name, NULL, "");
		break;
	case 1:
		ask(m, API_VERB_PATCH, KIND_POD, name, "status", "{\"status\":{\"phase\":\"Failed\"}}");
		break;
	default:
		ask(m, API_VERB_CREATE, KIND_POD, "", NULL, body);
	}
}

static void ask_service(struct model *m)
{
	char name[16], body[256];

	snprintf(name, sizeof(name), "s%d", (int)draw(m, NAMES));
	snprintf(
		body, sizeof(body),
		"{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"type\":\"%s\",\"ports\":[{\"port\":80,\"name\":\"a\"}%s]}}",
		name, draw(m, 2) ? "NodePort" : "ClusterIP", draw(m, 2) ? ",{\"port\":81,\"name\":\"b\"}" : "");
	switch (draw(m, 4)) {
	case 0:
		ask(m, API_VERB_DELETE, KIND_SERVICE, name, NULL, "");
		break;
	case 1:
		ask(m, API_VERB_PATCH, KIND_SERVICE, name, NULL,
		    draw(m, 2) ? "{\"spec\":{\"type\":\"NodePort\"}}" : "{\"spec\":{\"type\":\"ClusterIP\"}}");
		break;
	default:
		ask(m, API_VERB_CREATE, KIND_SERVICE, "", NULL, body);
	}
}

/* A change of the quota has all counted anew, in the midst of what waits for the disk; it needs no room itself. */
static void ask_quota(struct model *m)
{
	char body[64];

	snprintf(body, sizeof(body), "{\"spec\":{\"hard\":{\"secrets\":\"%d\"}}}", (int)draw(m, 100));
	ask(m, API_VERB_PATCH, KIND_RESOURCEQUOTA, "q", NULL, body);
}

static void wait_all(struct model *m)
{
	m->all_asked = true;
	if (m->open > 0) {
		loop_timer_init(&m->f->deadline, fixture_late);
		loop_timer_arm(m->f->loop, &m->f->deadline, 60 * NS_PER_S);
		loop_run(m->f->loop);
		loop_timer_cancel(m->f->loop, &m->f->deadline);
	}
	assert_int_equal(m->open, 0);
	m->all_asked = false;
}

/* ---- what the stored objects add up to, without the code under test ---- */

struct sums {
	int64_t milli_cpu, node_ports;
};

static void add_pod(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *pod = registry_parse(&arena, o);
	struct json *c = json_index(json_at(pod, "spec.containers"), 0);
	struct quantity q = quantity_of(json_at(c, "resources.requests.cpu"));

	if (!str_is(json_at_str(pod, "status.phase"), "Failed"))
		((struct sums *)arg)->milli_cpu += quantity_milli_value(&q);
}

static void add_service(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *service = registry_parse(&arena, o);

	if (str_is(json_at_str(service, "spec.type"), "NodePort"))
		((struct sums *)arg)->node_ports += (int64_t)json_count(json_at(service, "spec.ports"));
}

static int64_t used(struct model *m, struct arena *arena, const char *resource, bool milli)
{
	struct json *all = registry_quota_used(m->f->reg, arena, STR("default"), STR("q"));
	struct quantity q = quantity_of(json_get(all, resource));

	assert_non_null(all);
	return milli ? quantity_milli_value(&q) : quantity_value(&q);
}

static void compare(struct model *m)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct sums sums = { 0 };
	int64_t configs = (int64_t)registry_count(m->f->reg, KIND_CONFIGMAP);

	registry_each(m->f->reg, KIND_POD, STR("default"), add_pod, &sums);
	registry_each(m->f->reg, KIND_SERVICE, STR("default"), add_service, &sums);
	assert_int_equal(used(m, &arena, "configmaps", false), configs);
	assert_int_equal(used(m, &arena, "requests.cpu", true), sums.milli_cpu);
	assert_int_equal(used(m, &arena, "services.nodeports", false), sums.node_ports);
	assert_true(configs <= HARD_CONFIGS && sums.milli_cpu <= HARD_MILLI_CPU && sums.node_ports <= HARD_NODE_PORTS);
}

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void prepare(struct fixture *f)
{
	char body[256];

	fixture_do(f, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "", "{\"metadata\":{\"name\":\"default\"}}");
	fixture_expect(f, 201, "account");
	snprintf(body, sizeof(body),
		 "{\"metadata\":{\"name\":\"q\"},\"spec\":{\"hard\":{\"configmaps\":\"%d\",\"requests.cpu\":\"%dm\","
		 "\"services.nodeports\":\"%d\"}}}",
		 HARD_CONFIGS, HARD_MILLI_CPU, HARD_NODE_PORTS);
	fixture_do(f, API_VERB_CREATE, KIND_RESOURCEQUOTA, "default", "", body);
	fixture_expect(f, 201, "quota");
}

static void test_against_model(void **state)
{
	static void (*const asks[])(struct model * m) = { ask_config, ask_pod, ask_service, ask_quota };
	struct fixture *f = *state;
	struct model m = { .f = f, .random = 0x9e3779b97f4a7c15u };

	signal(SIGXFSZ, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR + 1); /* the refusals are wanted */
	prepare(f);
	for (int round = 0; round < ROUNDS; round++) {
		bool disk_refuses = draw(&m, 4) == 0;
		size_t n = 1 + draw(&m, BURST_MAX);

		if (disk_refuses)
			limit_files(FILE_LIMIT);
		for (size_t i = 0; i < n; i++)
			asks[draw(&m, ARRAY_SIZE(asks))](&m);
		wait_all(&m);
		limit_files(RLIM_INFINITY);
		compare(&m);
		if (draw(&m, 20) == 0) {
			fixture_clear(f);
			fixture_close(f);
			fixture_open(f);
			compare(&m);
		}
	}
	/* All of it happened. */
	assert_true(m.accepted > 0 && m.refused > 0 && m.failed > 0);
	log_set_level(LOG_LEVEL_INFO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_against_model, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
