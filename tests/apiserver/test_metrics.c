/* SPDX-License-Identifier: Apache-2.0 */
/* The figures: series, histograms, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "userspace/apiserver/metrics.h"
#include "userspace/base/buf.h"

static void assert_has(struct buf *text, const char *line)
{
	if (!strstr(buf_cstr(text), line))
		fail_msg("not found: %s in\n%s", line, buf_cstr(text));
}

static void a_request_is_counted(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct metrics_series *s;
	struct metrics *m;

	metrics_create(&m);
	s = metrics_series(m, METRICS_LIST, KIND_POD, NULL, METRICS_SCOPE_NAMESPACE, false);
	assert_ptr_equal(s, metrics_series(m, METRICS_LIST, KIND_POD, NULL, METRICS_SCOPE_NAMESPACE, false));
	assert_ptr_not_equal(s, metrics_series(m, METRICS_LIST, KIND_POD, NULL, METRICS_SCOPE_CLUSTER, false));
	metrics_begin(m, s);
	metrics_begin(m, s);
	metrics_write(m, &out);
	assert_has(&out, "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 2\n");
	metrics_end(m, s, 200, 2000, 30 * 1000 * 1000);
	metrics_end(m, s, 410, 100, 1000);
	buf_reset(&out);
	metrics_write(m, &out);
	assert_has(&out, "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0\n");
	assert_has(&out, "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\","
			 "resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1\n");
	assert_has(&out, "code=\"410\"");
	assert_has(&out, "version=\"v1\",le=\"0.025\"} 1\n");
	assert_has(&out, "version=\"v1\",le=\"0.05\"} 2\n");
	assert_has(&out, "version=\"v1\",le=\"+Inf\"} 2\n");
	assert_has(&out, "version=\"v1\",le=\"1000\"} 1\n");
	assert_has(&out, "version=\"v1\",le=\"10000\"} 2\n");
	metrics_destroy(m);
}

static void watches_are_open_not_in_flight(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct metrics_series *s;
	struct metrics *m;

	metrics_create(&m);
	s = metrics_series(m, METRICS_WATCH, KIND_POD, NULL, METRICS_SCOPE_CLUSTER, false);
	metrics_begin(m, s);
	*metrics_watch_events(m, KIND_POD) += 3;
	metrics_write(m, &out);
	assert_has(&out, "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0\n");
	assert_has(&out, "verb=\"WATCH\",version=\"v1\"} 1\n");
	assert_has(&out, "apiserver_watch_events_total{group=\"\",resource=\"pods\",version=\"v1\"} 3\n");
	metrics_destroy(m);
}

/* Whatever clients ask for: the number of series and of codes ends somewhere. */
static void users_are_counted_by_class(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct metrics *m;

	metrics_create(&m);
	metrics_write(m, &out);
	assert_null(strstr(buf_cstr(&out), "authentication_attempts{"));
	metrics_authenticated(m, STR("admin"));
	metrics_authenticated(m, STR("somebody"));
	metrics_authenticated(m, STR("email_id"));
	metrics_authenticated(m, STR_NULL);
	metrics_authenticated(m, STR("a@b"));
	metrics_unauthenticated(m);
	buf_reset(&out);
	metrics_write(m, &out);
	assert_has(&out, "authenticated_user_requests{username=\"admin\"} 1\n");
	assert_has(&out, "authenticated_user_requests{username=\"email_id\"} 1\n");
	assert_has(&out, "authenticated_user_requests{username=\"other\"} 3\n");
	assert_has(&out, "authentication_attempts{result=\"success\"} 5\n");
	assert_has(&out, "authentication_attempts{result=\"error\"} 1\n");
	metrics_destroy(m);
}

static void memory_is_bounded(void **state)
{
	static char names[METRICS_SERIES_MAX + 10][8];
	struct metrics_series *s = NULL, *last = NULL;
	struct metrics *m;

	metrics_create(&m);
	for (size_t i = 0; i < METRICS_SERIES_MAX + 10; i++) {
		snprintf(names[i], sizeof(names[i]), "s%zu", i);
		last = s;
		s = metrics_series(m, METRICS_GET, KIND_POD, names[i], METRICS_SCOPE_RESOURCE, false);
	}
	assert_ptr_equal(s, last);
	for (int code = 100; code < 600; code++) {
		metrics_begin(m, s);
		metrics_end(m, s, code, 0, 0);
	}
	metrics_destroy(m);
}

static void only_known_paths_are_labels(void **state)
{
	assert_string_equal(metrics_path(STR("/readyz/ping")), "/readyz");
	assert_string_equal(metrics_path(STR("/metrics")), "/metrics");
	assert_string_equal(metrics_path(STR("/openapi/v3/apis/apps/v1")), "/openapi/v3");
	assert_null(metrics_path(STR("/metricsx")));
	assert_null(metrics_path(STR("/anything/else")));
}

static void the_process_has_figures(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	metrics_write_process(&out);
	assert_has(&out, "process_resident_memory_bytes ");
	assert_has(&out, "process_start_time_seconds ");
	assert_has(&out, "process_open_fds ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_counted),        cmocka_unit_test(watches_are_open_not_in_flight),
		cmocka_unit_test(users_are_counted_by_class),  cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(only_known_paths_are_labels), cmocka_unit_test(the_process_has_figures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
