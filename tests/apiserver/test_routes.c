/* SPDX-License-Identifier: Apache-2.0 */
/* What a path and a query ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/apiserver/call.h"
#include "userspace/base/mem.h"

struct expected {
	const char *path, *kind, *ns, *name, *sub; /* kind NULL: no resource, but a path */
	bool watch;
};

static void resources(void **state)
{
	static const struct expected table[] = {
		{ .path = "/api/v1/pods", .kind = "Pod" },
		{ .path = "/api/v1/pods/", .kind = "Pod" },
		{ .path = "/api/v1/namespaces/a/pods", .kind = "Pod", .ns = "a" },
		{ .path = "/api/v1/namespaces/a/pods/b", .kind = "Pod", .ns = "a", .name = "b" },
		{ .path = "/api/v1/namespaces/a/pods/b/log", .kind = "Pod", .ns = "a", .name = "b", .sub = "log" },
		{ .path = "/api/v1/namespaces/a/pods/b/status",
		  .kind = "Pod",
		  .ns = "a",
		  .name = "b",
		  .sub = "status" },
		{ .path = "/api/v1/namespaces", .kind = "Namespace" },
		{ .path = "/api/v1/namespaces/a", .kind = "Namespace", .name = "a" },
		{ .path = "/api/v1/namespaces/a/finalize", .kind = "Namespace", .name = "a", .sub = "finalize" },
		{ .path = "/api/v1/namespaces/a/status", .kind = "Namespace", .name = "a", .sub = "status" },
		{ .path = "/api/v1/nodes/n", .kind = "Node", .name = "n" },
		{ .path = "/api/v1/watch/pods", .kind = "Pod", .watch = true },
		{ .path = "/api/v1/watch/namespaces/a/pods/b", .kind = "Pod", .ns = "a", .name = "b", .watch = true },
		{ .path = "/apis/apps/v1/deployments", .kind = "Deployment" },
		{ .path = "/apis/apps/v1/namespaces/a/deployments/b/scale",
		  .kind = "Deployment",
		  .ns = "a",
		  .name = "b",
		  .sub = "scale" },
		{ .path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
		  .kind = "ClusterRole",
		  .name = "system:node" },
		/* an escaped slash stays in its segment */
		{ .path = "/api/v1/namespaces/a/pods/b%2Flog", .kind = "Pod", .ns = "a", .name = "b/log" },
		{ .path = "/api/v1/namespaces/a/pods/..", .kind = "Pod", .ns = "a", .name = ".." },
		{ .path = "/" },
		{ .path = "" },
		{ .path = "/api" },
		{ .path = "/api/v1" },
		{ .path = "/apis" },
		{ .path = "/apis/apps" },
		{ .path = "/apis/apps/v1" },
		{ .path = "/healthz" },
		{ .path = "/openapi/v3/apis/apps/v1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		const struct expected *e = &table[i];
		struct route r;

		if (route_parse(&arena, str_of(e->path), &r, &err) < 0)
			fail_msg("%s: %s", e->path, err_message(&err));
		if (!r.kind != !e->kind || (e->kind && strcmp(r.kind->kind, e->kind) != 0))
			fail_msg("%s: kind %s", e->path, r.kind ? r.kind->kind : "none");
		if (!str_is(r.ns, e->ns ? e->ns : "") || !str_is(r.name, e->name ? e->name : ""))
			fail_msg("%s: %.*s/%.*s", e->path, STR_ARG(r.ns), STR_ARG(r.name));
		if (!r.sub != !e->sub || (e->sub && strcmp(r.sub->name, e->sub) != 0))
			fail_msg("%s: subresource", e->path);
		assert_int_equal(r.watch_prefix, e->watch);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *path;
		int r, status;
	} table[] = {
		{ "/api/v1/nopes", -ENOENT, 404 },
		{ "/api/v2/pods", -ENOENT, 404 },
		{ "/apis/apps/v1/pods", -ENOENT, 404 },
		{ "/apis/nope/v1/x", -ENOENT, 404 },
		{ "/api/v1/pods/x", -ENOENT, 404 },             /* a namespaced object without its namespace */
		{ "/api/v1/namespaces/a/nodes", -ENOENT, 404 }, /* a cluster's one in a namespace */
		{ "/api/v1/namespaces/a/pods/b/nope", -ENOENT, 404 },
		{ "/api/v1/namespaces/a/pods/b/log/c", -ENOENT, 404 },
		{ "/api/v1/watch", -ENOENT, 404 },
		/* what cannot be watched is not below the prefix */
		{ "/api/v1/watch/namespaces/a/pods/b/status", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/pods/b/log", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/pods/b/exec", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/pods/b/eviction", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/serviceaccounts/b/token", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/status", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/finalize", -ENOENT, 404 },
		{ "/api/v1/watch/namespaces/a/bindings", -ENOENT, 404 },
		{ "/api/v1/watch/componentstatuses", -ENOENT, 404 },
		{ "/api/v1/watch/watch/pods", -ENOENT, 404 },
		{ "/apis/authentication.k8s.io/v1/watch/tokenreviews", -ENOENT, 404 },
		{ "/api/v1/proxy/namespaces/a/pods/b", -ENOENT, 404 },
		{ "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q", -ENOENT, 404 },
		{ "/api/v1/namespaces/%", -EINVAL, 400 },
		{ "/api/v1/namespaces/%4", -EINVAL, 400 },
		{ "/api/v1/namespaces/%zz/pods", -EINVAL, 400 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		struct route r;

		if (route_parse(&arena, str_of(table[i].path), &r, &err) >= 0)
			fail_msg("%s is taken", table[i].path);
		assert_int_equal(err.status, table[i].status);
	}
}

static void queries(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct query q;
	int64_t v = 0;

	assert_int_equal(query_parse(&arena, STR("a=1&b=x%20y+z&c&d=&&a=2&e=%26%3d&f=true&g=false&h=-7&i=1.5"), &q), 0);
	assert_true(str_is(query_get(&q, "a"), "1"));
	assert_true(str_is(query_get(&q, "b"), "x y z"));
	assert_true(query_has(&q, "c") && query_has(&q, "d") && !query_has(&q, "nope"));
	assert_true(str_is(query_get(&q, "e"), "&="));
	assert_true(query_bool(&q, "a") && query_bool(&q, "f") && query_bool(&q, "c"));
	assert_false(query_bool(&q, "g") || query_bool(&q, "nope"));
	assert_int_equal(query_int(&q, "h", 0, &v, &err), 0);
	assert_int_equal(v, -7);
	assert_int_equal(query_int(&q, "nope", 42, &v, &err), 0);
	assert_int_equal(v, 42);
	assert_true(query_int(&q, "i", 0, &v, &err) < 0);
	assert_int_equal(err.status, 400);
	assert_int_equal(query_parse(&arena, STR(""), &q), 0);
	assert_int_equal(q.n, 0);
	assert_int_equal(query_parse(&arena, STR("a=%"), &q), -EINVAL);
	assert_int_equal(query_parse(&arena, STR("%x=1"), &q), -EINVAL);
}

static void too_many_parameters(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct query q;

	for (int i = 0; i < QUERY_PARAMS_MAX; i++)
		buf_add_cstr(&b, i ? "&a=b" : "a=b");
	assert_int_equal(query_parse(&arena, buf_str(&b), &q), 0);
	assert_int_equal(q.n, QUERY_PARAMS_MAX);
	buf_add_cstr(&b, "&a=b");
	assert_int_equal(query_parse(&arena, buf_str(&b), &q), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(resources),
		cmocka_unit_test(refused),
		cmocka_unit_test(queries),
		cmocka_unit_test(too_many_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
