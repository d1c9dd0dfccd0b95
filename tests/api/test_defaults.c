/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults of the schema, and the way of a generated sample of every kind through decoding, defaulting and
 * validation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/api/sample.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/validate.h"
#include "userspace/base/mem.h"

static struct json *defaulted(struct arena *arena, const struct api_kind *kind, const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (decode_text(arena, kind, str_of(text), DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s", err_message(&err));
	defaults_apply(arena, kind, v);
	return v;
}

static void test_pod(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = defaulted(
		&arena, KIND_POD,
		"{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"i:1\",\"ports\":[{\"containerPort\":80}],"
		"\"livenessProbe\":{\"httpGet\":{\"port\":80},\"periodSeconds\":0}}],\"volumes\":[{\"name\":\"v\","
		"\"configMap\":{\"name\":\"c\"}}],\"dnsPolicy\":\"Default\"}}");
	struct json *c = json_index(json_at(v, "spec.containers"), 0);

	assert_true(str_is(json_at_str(v, "spec.restartPolicy"), "Always"));
	assert_true(str_is(json_at_str(v, "spec.dnsPolicy"), "Default"));
	assert_true(str_is(json_at_str(v, "spec.schedulerName"), "default-scheduler"));
	assert_int_equal(json_at_int(v, "spec.terminationGracePeriodSeconds", 0), 30);
	assert_true(json_is(json_at(v, "spec.securityContext"), JSON_OBJECT));
	assert_true(str_is(json_get_str(c, "terminationMessagePath"), "/dev/termination-log"));
	assert_true(str_is(json_get_str(c, "terminationMessagePolicy"), "File"));
	assert_true(json_is(json_get(c, "resources"), JSON_OBJECT));
	assert_true(str_is(json_get_str(json_index(json_get(c, "ports"), 0), "protocol"), "TCP"));
	assert_int_equal(json_at_int(c, "livenessProbe.periodSeconds", 0), 10);
	assert_int_equal(json_at_int(c, "livenessProbe.failureThreshold", 0), 3);
	assert_true(str_is(json_at_str(c, "livenessProbe.httpGet.scheme"), "HTTP"));
	assert_null(json_get(c, "readinessProbe"));
	assert_int_equal(json_at_int(json_index(json_at(v, "spec.volumes"), 0), "configMap.defaultMode", 0), 420);
}

static void test_deployment(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = defaulted(
		&arena, KIND_DEPLOYMENT,
		"{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"spec\":{\"containers\":"
		"[{\"name\":\"a\"}]}}}}");

	assert_int_equal(json_at_int(v, "spec.replicas", 0), 1);
	assert_int_equal(json_at_int(v, "spec.revisionHistoryLimit", 0), 10);
	assert_int_equal(json_at_int(v, "spec.progressDeadlineSeconds", 0), 600);
	assert_true(str_is(json_at_str(v, "spec.strategy.type"), "RollingUpdate"));
	assert_true(str_is(json_at_str(v, "spec.strategy.rollingUpdate.maxSurge"), "25%"));
	assert_true(str_is(json_at_str(v, "spec.strategy.rollingUpdate.maxUnavailable"), "25%"));
	assert_true(str_is(json_at_str(v, "spec.template.spec.restartPolicy"), "Always"));
	/* Zero is a value where Go has a pointer. */
	v = defaulted(&arena, KIND_DEPLOYMENT, "{\"spec\":{\"replicas\":0,\"strategy\":{\"type\":\"Recreate\"}}}");
	assert_int_equal(json_at_int(v, "spec.replicas", 9), 0);
	assert_null(json_at(v, "spec.strategy.rollingUpdate"));
}

static void test_service(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = defaulted(&arena, KIND_SERVICE, "{\"spec\":{\"ports\":[{\"port\":80,\"protocol\":\"\"}]}}");

	assert_true(str_is(json_at_str(v, "spec.type"), "ClusterIP"));
	assert_true(str_is(json_at_str(v, "spec.sessionAffinity"), "None"));
	assert_true(str_is(json_at_str(v, "spec.internalTrafficPolicy"), "Cluster"));
	assert_true(str_is(json_get_str(json_index(json_at(v, "spec.ports"), 0), "protocol"), "TCP"));
}

/* ---- every kind ---- */

static void test_every_kind(void **state)
{
	size_t n = 0;

	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
		const struct api_kind *k = api_kind_at(i);
		struct json *in, *v = NULL;
		struct str text, again;

		if (k->resource == API_RESOURCE_NONE)
			continue;
		in = sample_object(&arena, k);
		text = json_text(&arena, in);
		if (decode_text(&arena, k, text, DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
			fail_msg("%s: %s", k->kind, err_message(&err));
		assert_true(json_equal(in, v));
		validate_object(k, v, NULL, &e);
		validate_object(k, v, v, &e);
		if (field_errors_result(&e, k, STR("a"), &err) < 0)
			fail_msg("%s", err_message(&err));
		/* Defaulting changes nothing the second time, and what it makes decodes. */
		defaults_apply(&arena, k, v);
		text = json_text(&arena, v);
		defaults_apply(&arena, k, v);
		again = json_text(&arena, v);
		if (!str_eq(text, again))
			fail_msg("%s: defaulting is not idempotent:\n%.*s\n%.*s", k->kind, STR_ARG(text),
				 STR_ARG(again));
		if (decode_text(&arena, k, text, DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
			fail_msg("%s after defaulting: %s", k->kind, err_message(&err));
		n++;
	}
	assert_true(n >= 50);
}

/* An object with nothing but metadata never upsets anything. */
static void test_bare(void **state)
{
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
		const struct api_kind *k = api_kind_at(i);
		struct json *v = defaulted(&arena, k, "{}");

		validate_object(k, v, NULL, &e);
		assert_true(e.n > 0 || !*k->plural);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pod),        cmocka_unit_test(test_deployment), cmocka_unit_test(test_service),
		cmocka_unit_test(test_every_kind), cmocka_unit_test(test_bare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
