/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks for, read from method, path and query as upstream reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "userspace/apiserver/call.h"
#include "userspace/apiserver/metrics.h"

/* "verb group/resource/subresource ns/name", or "verb PATH". */
static void expect(const char *method, const char *path, const char *query, const char *want)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct http_request http = { .method = str_of(method), .path = str_of(path), .query = str_of(query) };
	struct call call = { .http = &http, .arena = &arena };
	struct authz_attributes a;
	const char *got;

	route_parse(&arena, http.path, &call.route, NULL);
	assert_int_equal(query_parse(&arena, http.query, &call.query), 0);
	call_describe(&call);
	call_attributes(&call, &a);
	assert_ptr_equal(a.user, &call.user);
	if (a.is_path)
		got = arena_printf(&arena, "%.*s %.*s", STR_ARG(a.verb), STR_ARG(a.path));
	else
		got = arena_printf(&arena, "%.*s %.*s/%.*s/%.*s %.*s/%.*s", STR_ARG(a.verb), STR_ARG(a.group),
				   STR_ARG(a.resource), STR_ARG(a.subresource), STR_ARG(a.ns), STR_ARG(a.name));
	if (strcmp(got, want) != 0)
		fail_msg("%s %s?%s: \"%s\", not \"%s\"", method, path, query, got, want);
}

static void test_verbs(void **state)
{
	expect("GET", "/api/v1/namespaces/n/pods", "", "list /pods/ n/");
	expect("GET", "/api/v1/pods", "watch=true", "watch /pods/ /");
	expect("GET", "/api/v1/pods", "watch=false", "list /pods/ /");
	expect("GET", "/api/v1/watch/namespaces/n/pods/p", "", "watch /pods/ n/p");
	expect("GET", "/api/v1/namespaces/n/pods/p", "", "get /pods/ n/p");
	expect("GET", "/api/v1/namespaces/n/pods/p", "watch=true", "get /pods/ n/p");
	expect("GET", "/api/v1/namespaces/n/pods/p/status", "watch=true", "get /pods/status n/p");
	expect("HEAD", "/api/v1/namespaces/n/pods/p", "", "get /pods/ n/p");
	expect("POST", "/apis/apps/v1/namespaces/n/deployments", "", "create apps/deployments/ n/");
	expect("PUT", "/apis/apps/v1/namespaces/n/deployments/d/scale", "", "update apps/deployments/scale n/d");
	expect("PATCH", "/apis/apps/v1/namespaces/n/deployments/d", "", "patch apps/deployments/ n/d");
	expect("DELETE", "/apis/apps/v1/namespaces/n/deployments/d", "", "delete apps/deployments/ n/d");
	expect("DELETE", "/apis/apps/v1/namespaces/n/deployments", "", "deletecollection apps/deployments/ n/");
	expect("POST", "/api/v1/namespaces/n/pods/p/exec", "", "create /pods/exec n/p");
	expect("GET", "/api/v1/namespaces/n/pods/p/exec", "command=x", "get /pods/exec n/p");
	expect("GET", "/api/v1/namespaces/n/services/s/proxy/a/b/c", "", "get /services/proxy n/s");
}

static void test_namespaces(void **state)
{
	/* A namespace is in itself. */
	expect("GET", "/api/v1/namespaces", "", "list /namespaces/ /");
	expect("GET", "/api/v1/namespaces/n", "", "get /namespaces/ n/n");
	expect("PUT", "/api/v1/namespaces/n/finalize", "", "update /namespaces/finalize n/n");
	expect("PUT", "/api/v1/namespaces/n/status", "", "update /namespaces/status n/n");
	expect("GET", "/api/v1/namespaces/n/statuses", "", "list /statuses/ n/");
}

static void test_names_of_selectors(void **state)
{
	expect("GET", "/api/v1/namespaces/n/pods", "fieldSelector=metadata.name%3Dp", "list /pods/ n/p");
	expect("GET", "/api/v1/namespaces/n/pods", "fieldSelector=a%3Db,metadata.name%3D%3Dp&watch=1",
	       "watch /pods/ n/p");
	expect("GET", "/api/v1/namespaces/n/pods", "fieldSelector=metadata.name!%3Dp", "list /pods/ n/");
	expect("GET", "/api/v1/namespaces/n/pods", "fieldSelector=metadata.name%3Da%2Fb", "list /pods/ n/");
	expect("GET", "/api/v1/namespaces/n/pods", "fieldSelector=metadata.name%3Da%5C,b", "list /pods/ n/");
	expect("DELETE", "/api/v1/namespaces/n/pods", "fieldSelector=metadata.name%3Dp", "deletecollection /pods/ n/");
}

/* Also what nobody serves, and what has no place. */
static void test_unknown(void **state)
{
	expect("GET", "/api/v1/things", "", "list /things/ /");
	expect("GET", "/apis/no.example/v7/namespaces/n/things/t/part/rest", "", "get no.example/things/part n/t");
	expect("PURGE", "/api/v1/things/t", "", " /things/ /t");
	expect("GET", "/api/v1/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r", "", "get /a/c /b");
}

static void test_paths(void **state)
{
	expect("GET", "/", "", "get /");
	expect("GET", "/api", "", "get /api");
	expect("GET", "/api/v1", "", "get /api/v1");
	expect("GET", "/apis/apps/v1", "", "get /apis/apps/v1");
	expect("GET", "/version/", "", "get /version/");
	expect("POST", "/metrics", "", "post /metrics");
	expect("HEAD", "/livez", "", "head /livez");
	expect("GET", "/livez/../api/v1/secrets", "", "get /livez/../api/v1/secrets");
	expect("GET", "/%6civez", "", "get /livez");
}

/* What the figures call it comes from the same attributes. */
static void test_counted(void **state)
{
	static const struct {
		const char *method, *path, *query, *labels;
	} rows[] = {
		{ "GET", "/api/v1/pods", "", "resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\"" },
		{ "HEAD", "/api/v1/namespaces/n/pods/p", "",
		  "resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"GET\"" },
		{ "GET", "/api/v1/namespaces/n/pods", "watch=1",
		  "resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\"" },
		{ "GET", "/api/v1/watch/pods", "",
		  "resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\"" },
		{ "POST", "/api/v1/namespaces/n/pods", "", "verb=\"POST\"" },
		{ "PUT", "/api/v1/namespaces/n/pods/p/status", "", "subresource=\"status\",verb=\"PUT\"" },
		{ "PATCH", "/api/v1/namespaces/n/pods/p", "", "verb=\"PATCH\"" },
		{ "DELETE", "/api/v1/namespaces/n/pods/p", "", "verb=\"DELETE\"" },
		{ "DELETE", "/api/v1/namespaces/n/pods", "", "verb=\"DELETECOLLECTION\"" },
		{ "GET", "/api/v1/namespaces/n/pods/p/exec", "", "subresource=\"exec\",verb=\"CONNECT\"" },
		{ "DELETE", "/api/v1/watch/pods", "", "verb=\"OTHER\"" },
		{ "GET", "/version", "", "subresource=\"/version\",verb=\"GET\"" },
		{ "POST", "/version", "", "subresource=\"/version\",verb=\"POST\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct http_request http = { .method = str_of(rows[i].method),
					     .path = str_of(rows[i].path),
					     .query = str_of(rows[i].query) };
		struct apiserver as = { .loop = NULL };
		struct call call = { .as = &as, .http = &http, .arena = &arena };
		_cleanup_buf_ struct buf text = BUF_INIT;
		struct metrics_series *s;

		metrics_create(&as.metrics);
		route_parse(&arena, http.path, &call.route, NULL);
		assert_int_equal(query_parse(&arena, http.query, &call.query), 0);
		call_describe(&call);
		s = call_series(&call);
		metrics_begin(as.metrics, s);
		metrics_end(as.metrics, s, 200, 0, 0);
		metrics_write(as.metrics, &text);
		if (!strstr(buf_cstr(&text), rows[i].labels))
			fail_msg("%s %s: no %s in %s", rows[i].method, rows[i].path, rows[i].labels, buf_cstr(&text));
		metrics_destroy(as.metrics);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verbs),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_names_of_selectors),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
