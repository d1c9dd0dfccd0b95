/* SPDX-License-Identifier: Apache-2.0 */
/* Back-off, cgroup numbers, registry credentials, termination messages from logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kubelet/pods/backoff.h"
#include "kubelet/pods/identity.h"
#include "kubelet/pods/pull.h"
#include "kubelet/pods/pod_resources.h"
#include "kubelet/pods/termination_message.h"
#include "userspace/base/clock.h"

static struct arena arena;

static int teardown(void **state)
{
	arena_finish(&arena);
	arena = ARENA_INIT;
	return 0;
}

static struct json *parse(const char *text)
{
	struct json *v;

	assert_int_equal(json_parse(&arena, str_of(text), 0, &v, NULL), 0);
	return v;
}

static void test_backoff(void **state)
{
	static const int want_s[] = { 10, 20, 40, 80, 160, 300, 300 };
	struct backoff b = { 0 };
	int64_t now = 1000 * NS_PER_S, left;

	/* the first end is answered at once */
	assert_false(backoff_active(&b, now, now, &left));
	backoff_next(&b, now, now);
	for (size_t i = 0; i < sizeof(want_s) / sizeof(want_s[0]); i++) {
		int64_t ended = now + NS_PER_S;

		assert_true(backoff_active(&b, ended, ended + NS_PER_S, &left));
		assert_int_equal(left, (want_s[i] - 1) * NS_PER_S);
		now = ended + want_s[i] * NS_PER_S;
		assert_false(backoff_active(&b, ended, now, &left));
		backoff_next(&b, ended, now);
	}
	/* more than ten good minutes: as if new */
	int64_t ended = now + 601 * NS_PER_S;

	assert_false(backoff_active(&b, ended, ended, &left));
	backoff_next(&b, ended, ended);
	assert_int_equal(b.delay_ns, 10 * NS_PER_S);
}

static void test_backoff_format(void **state)
{
	char text[32];

	backoff_format(10 * NS_PER_S, text);
	assert_string_equal(text, "10s");
	backoff_format(160 * NS_PER_S, text);
	assert_string_equal(text, "2m40s");
	backoff_format(300 * NS_PER_S, text);
	assert_string_equal(text, "5m0s");
}

#define POD(spec) parse("{\"spec\":{" spec "}}")
#define ASKS_AND_LIMITS "\"requests\":{\"cpu\":\"1\",\"memory\":\"1Mi\"},\"limits\":{\"cpu\":\"1\",\"memory\":\"1Mi\"}"

static void test_resources(void **state)
{
	struct runtime_resources r;

	pod_resources_of_container(
		parse("{\"resources\":{\"limits\":{\"cpu\":\"1500m\",\"memory\":\"64Mi\"},\"requests\":{"
		      "\"cpu\":\"250m\"}}}"),
		&r);
	assert_int_equal(r.cpu_shares, 256);
	assert_int_equal(r.cpu_quota_us, 150000);
	assert_int_equal(r.cpu_period_us, 100000);
	assert_int_equal(r.memory_limit_bytes, 64 << 20);
	pod_resources_of_container(parse("{}"), &r);
	assert_int_equal(r.cpu_shares, 2);
	assert_int_equal(r.cpu_quota_us, 0);
	/* one container without a limit: the pod has none */
	pod_resources_of_pod(POD("\"containers\":[{\"resources\":{" ASKS_AND_LIMITS "}},{}]"), &r);
	assert_int_equal(r.cpu_shares, 1024);
	assert_int_equal(r.cpu_quota_us, 0);
	assert_int_equal(r.memory_limit_bytes, 0);
	/* unless it says so for itself */
	pod_resources_of_pod(
		POD("\"resources\":{\"limits\":{\"memory\":\"8Mi\"}},\"containers\":[{\"resources\":{" ASKS_AND_LIMITS
		    "}},{}]"),
		&r);
	assert_int_equal(r.cpu_quota_us, 0);
	assert_int_equal(r.memory_limit_bytes, 8 << 20);
	/* sidecars run beside the containers, other init containers before them */
	pod_resources_of_pod(POD("\"overhead\":{\"memory\":\"1Mi\"},\"containers\":[{\"resources\":{" ASKS_AND_LIMITS
				 "}}],\"initContainers\":[{\"restartPolicy\":\"Always\",\"resources\":{" ASKS_AND_LIMITS
				 "}},{\"resources\":{\"limits\":{\"cpu\":\"2500m\",\"memory\":\"512Ki\"}}}]"),
			     &r);
	assert_int_equal(r.cpu_shares, 2048);
	assert_int_equal(r.cpu_quota_us, 350000);
	assert_int_equal(r.memory_limit_bytes, 3 << 20);
}

static void test_oom_score(void **state)
{
	const struct json *half = parse("{\"resources\":{\"requests\":{\"memory\":\"512Mi\"}}}");

	assert_int_equal(pod_resources_oom_score_adj("Guaranteed", half, 1 << 30), -997);
	assert_int_equal(pod_resources_oom_score_adj("BestEffort", parse("{}"), 1 << 30), 1000);
	assert_int_equal(pod_resources_oom_score_adj("Burstable", half, 1 << 30), 500);
	assert_int_equal(pod_resources_oom_score_adj("Burstable", parse("{}"), 1 << 30), 999);
}

static void test_credentials(void **state)
{
	char *user = NULL, *password = NULL;
	/* me:secret */
	const struct json *config = parse("{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"bWU6c2VjcmV0\"},"
					  "\"registry:5000\":{\"username\":\"u\",\"password\":\"p\"}}}");

	assert_true(pull_credentials(&arena, config, STR("docker.io/library/busybox:latest"), &user, &password));
	assert_string_equal(user, "me");
	assert_string_equal(password, "secret");
	assert_true(pull_credentials(&arena, config, STR("registry:5000/a/b:1"), &user, &password));
	assert_string_equal(user, "u");
	assert_false(pull_credentials(&arena, config, STR("registry:5001/a/b:1"), &user, &password));
}

static void test_log_tail(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT, log = BUF_INIT;

	termination_log_tail(STR("2026-01-01T00:00:00.1Z stdout F one\n2026-01-01T00:00:00.2Z stderr P two\n"
				 "2026-01-01T00:00:00.3Z stderr F  three\n"),
			     &out);
	assert_string_equal(buf_cstr(&out), "one\ntwo three\n");
	for (int i = 0; i < 200; i++)
		buf_printf(&log, "t stdout F %d\n", i);
	buf_reset(&out);
	termination_log_tail(buf_str(&log), &out);
	assert_true(strncmp(buf_cstr(&out), "120\n", 4) == 0); /* the last 80 lines */
	buf_reset(&log);
	for (int i = 0; i < 100; i++)
		buf_printf(&log, "t stdout F %0100d\n", i);
	buf_reset(&out);
	termination_log_tail(buf_str(&log), &out);
	assert_int_equal(buf_len(&out), TERMINATION_LOG_MAX);
}

static int identity(const char *pod, const char *container, const char *user, struct runtime_container_spec *spec)
{
	struct image image = { .user = arena_strdup(&arena, user) };

	*spec = (struct runtime_container_spec){ 0 };
	return identity_build(&arena, parse(pod), parse(container), &image, "/data", spec, NULL);
}

static void test_identity(void **state)
{
	struct runtime_container_spec s;

	assert_int_equal(
		identity(
			"{\"spec\":{\"securityContext\":{\"runAsUser\":1000,\"fsGroup\":7,\"supplementalGroups\":[5]}}}",
			"{\"securityContext\":{\"runAsGroup\":3,\"capabilities\":{\"drop\":[\"ALL\"],\"add\":[\"CAP_NET_RAW\"]},"
			"\"allowPrivilegeEscalation\":false,\"readOnlyRootFilesystem\":true}}",
			"", &s),
		0);
	assert_int_equal(s.run_as_user, 1000);
	assert_int_equal(s.run_as_group, 3);
	assert_int_equal(s.n_supplemental_groups, 2);
	assert_int_equal(s.supplemental_groups[1], 7);
	assert_string_equal(s.cap_drop[0], "ALL");
	assert_string_equal(s.cap_add[0], "NET_RAW");
	assert_true(s.no_new_privileges && s.read_only_root && !s.privileged);

	const char *non_root = "{\"securityContext\":{\"runAsNonRoot\":true}}";

	assert_true(identity("{}", non_root, "", &s) < 0);
	assert_true(identity("{}", non_root, "0:0", &s) < 0);
	assert_true(identity("{}", non_root, "nobody", &s) < 0);
	assert_int_equal(identity("{}", non_root, "65534:65534", &s), 0);
	assert_int_equal(s.run_as_user, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_backoff, teardown),
		cmocka_unit_test_teardown(test_backoff_format, teardown),
		cmocka_unit_test_teardown(test_resources, teardown),
		cmocka_unit_test_teardown(test_oom_score, teardown),
		cmocka_unit_test_teardown(test_credentials, teardown),
		cmocka_unit_test_teardown(test_log_tail, teardown),
		cmocka_unit_test_teardown(test_identity, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
