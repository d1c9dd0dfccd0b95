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

/* ---- what was authorized is what runs ---- */

static const struct {
	const char *method, *named, *unnamed;
	unsigned named_runs, unnamed_runs;
} METHODS[] = {
	{ "GET", "get", "list", API_VERB_GET, API_VERB_LIST },
	{ "HEAD", "get", "list", API_VERB_GET, API_VERB_LIST },
	{ "POST", "create", "create", API_VERB_CREATE, API_VERB_CREATE },
	{ "PUT", "update", "update", API_VERB_UPDATE, API_VERB_UPDATE },
	{ "PATCH", "patch", "patch", API_VERB_PATCH, API_VERB_PATCH },
	{ "DELETE", "delete", "deletecollection", API_VERB_DELETE, API_VERB_DELETECOLLECTION },
	/* nothing by these names is ever run */
	{ "get", "", "", 0, 0 },
	{ "Post", "", "", 0, 0 },
	{ "OPTIONS", "", "", 0, 0 },
	{ "WATCH", "", "", 0, 0 },
	{ "CONNECT", "", "", 0, 0 },
};

/* Each form of a path, and what is at it; kind NULL: nothing is. */
static const struct {
	const char *path, *query, *plural, *ns, *name, *sub;
	bool watch; /* by the prefix */
} FORMS[] = {
	{ "/api/v1/namespaces/n/pods", "", "pods", "n", "", "" },
	{ "/api/v1/namespaces/n/pods/", "", "pods", "n", "", "" },
	{ "//api//v1/namespaces//n/pods//", "", "pods", "n", "", "" },
	{ "/%61pi/v1/namespaces/n/pod%73", "", "pods", "n", "", "" },
	{ "/api/v1/namespaces/n/pods", "watch=1", "pods", "n", "", "" },
	{ "/api/v1/namespaces/n/pods", "watch=0&watch=1", "pods", "n", "", "" },
	{ "/api/v1/namespaces/n/pods", "w%61tch=true", "pods", "n", "", "" },
	{ "/api/v1/namespaces/n/pods/p", "", "pods", "n", "p", "" },
	{ "/api/v1/namespaces/n/pods/p/", "watch=1", "pods", "n", "p", "" },
	{ "/api/v1/namespaces/n/pods/p%2Fexec", "", "pods", "n", "p/exec", "" },
	{ "/api/v1/namespaces/n%2Fpods/pods/p", "", "pods", "n/pods", "p", "" },
	{ "/api/v1/namespaces/n/pods/p/exec", "", "pods", "n", "p", "exec" },
	{ "/api/v1/namespaces/n/pods/p//eviction", "watch=1", "pods", "n", "p", "eviction" },
	{ "/api/v1/namespaces/n/serviceaccounts/s/token", "", "serviceaccounts", "n", "s", "token" },
	{ "/api/v1/namespaces/n/pods/watch", "", "pods", "n", "watch", "" },
	{ "/api/v1/namespaces/watch/pods/p", "", "pods", "watch", "p", "" },
	{ "/api/v1/namespaces/n/bindings", "", "bindings", "n", "", "" },
	{ "/api/v1/namespaces", "", "namespaces", "", "", "" },
	{ "/api/v1/namespaces/n", "", "namespaces", "n", "n", "" },
	{ "/api/v1/namespaces/n/status", "", "namespaces", "n", "n", "status" },
	{ "/api/v1/namespaces/n/finalize", "watch=1", "namespaces", "n", "n", "finalize" },
	{ "/api/v1/watch/pods", "", "pods", "", "", "", true },
	{ "/api/v1/w%61tch/pods", "watch=0", "pods", "", "", "", true },
	{ "/api/v1/watch/namespaces/n/pods", "", "pods", "n", "", "", true },
	{ "/api/v1/watch/namespaces/n/pods/p", "", "pods", "n", "p", "", true },
	{ "/api/v1//watch//namespaces/n/pods/p/", "", "pods", "n", "p", "", true },
	{ "/api/v1/watch/namespaces/n", "", "namespaces", "n", "n", "", true },
	/* nothing is there, so nothing runs */
	{ "/api/v1/watch/namespaces/n/pods/p/exec", "", NULL },
	{ "/api/v1/watch/namespaces/n/pods/p/status", "", NULL },
	{ "/api/v1/Watch/namespaces/n/pods/p", "", NULL },
	{ "/api/v1/watch%2Fnamespaces/n/pods/p", "", NULL },
	{ "/api/v1/namespaces/n/Pods/p", "", NULL },
	{ "/API/v1/namespaces/n/pods/p", "", NULL },
	{ "/api/v1/namespaces/n/pods/p/Exec", "", NULL },
	{ "/api/v1/namespaces/n%2Fpods%2Fp", "", "namespaces", "n/pods/p", "n/pods/p", "" },
	{ "/api/v1/proxy/namespaces/n/pods/p", "", NULL },
};

static bool is_read(const char *method)
{
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static void check_form(size_t m, size_t f)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct http_request http = { .method = str_of(METHODS[m].method),
				     .path = str_of(FORMS[f].path),
				     .query = str_of(FORMS[f].query) };
	struct call call = { .http = &http, .arena = &arena };
	const char *what = arena_printf(&arena, "%s %s?%s", METHODS[m].method, FORMS[f].path, FORMS[f].query), *verb;
	_cleanup_err_ struct err err = ERR_INIT;
	int r = route_parse(&arena, http.path, &call.route, &err);
	bool named;
	unsigned runs;

	assert_int_equal(query_parse(&arena, http.query, &call.query), 0);
	call_describe(&call);
	if (!FORMS[f].plural) {
		/* A route of no kind is a document's, and none lies there: what is asked is then only a path. */
		if (r >= 0 && (call.route.kind || !call.asks.is_path))
			fail_msg("%s: something is there", what);
		return;
	}
	if (r < 0)
		fail_msg("%s: %s", what, err_message(&err));
	named = FORMS[f].name[0];
	verb = named ? METHODS[m].named : METHODS[m].unnamed;
	runs = named ? METHODS[m].named_runs : METHODS[m].unnamed_runs;
	if (FORMS[f].watch) {
		verb = "watch";
		runs = is_read(METHODS[m].method) ? API_VERB_WATCH : 0;
	} else if (is_read(METHODS[m].method) && !named && strstr(FORMS[f].query, "tch=1")) {
		verb = "watch";
		runs = API_VERB_WATCH;
	} else if (is_read(METHODS[m].method) && !named && strstr(FORMS[f].query, "tch=true")) {
		verb = "watch";
		runs = API_VERB_WATCH;
	}
	if (strstr(FORMS[f].query, "watch=0&") && runs == API_VERB_WATCH) {
		verb = "list"; /* the first says it */
		runs = API_VERB_LIST;
	}
	if (!str_is(call.asks.verb, verb) || call.verb != runs)
		fail_msg("%s: asks %.*s, runs %x", what, STR_ARG(call.asks.verb), call.verb);
	if (!str_is(call.asks.resource, FORMS[f].plural) || !str_is(call.asks.ns, FORMS[f].ns) ||
	    !str_is(call.asks.name, FORMS[f].name) || !str_is(call.asks.subresource, FORMS[f].sub))
		fail_msg("%s: asks for something else", what);
	if (!call_runs_as_asked(&call))
		fail_msg("%s: runs what is not asked", what);
	/* Whatever differs is seen. */
	call.route.name = STR("other");
	assert_false(call_runs_as_asked(&call));
}

static void test_runs_as_asked(void **state)
{
	for (size_t m = 0; m < ARRAY_SIZE(METHODS); m++)
		for (size_t f = 0; f < ARRAY_SIZE(FORMS); f++)
			check_form(m, f);
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
		cmocka_unit_test(test_runs_as_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
