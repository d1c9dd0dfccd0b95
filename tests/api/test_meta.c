/* SPDX-License-Identifier: Apache-2.0 */
/* Headers, finalizers, owners, and Status objects in upstream's words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

static void test_header(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct api_header h;

	meta_header(&arena, KIND_POD,
		    json_of(&arena,
			    "{'metadata':{'name':'n','namespace':'s','uid':'u','resourceVersion':'12','generation':3,"
			    "'creationTimestamp':'1970-01-01T00:00:01Z','deletionTimestamp':'1970-01-01T00:00:02Z',"
			    "'deletionGracePeriodSeconds':5,'labels':{'a':'b'},'finalizers':['f'],'ownerReferences':[{"
			    "'apiVersion':'apps/v1','kind':'ReplicaSet','name':'r','uid':'ru','controller':true}]}}"),
		    &h);
	assert_true(str_is(h.name, "n") && str_is(h.ns, "s") && str_is(h.uid, "u"));
	assert_int_equal(h.revision, 12);
	assert_int_equal(h.generation, 3);
	assert_int_equal(h.created_real_ns, 1000000000);
	assert_int_equal(h.deleted_real_ns, 2000000000);
	assert_int_equal(h.deletion_grace_s, 5);
	assert_true(h.deleting && h.has_finalizers);
	assert_int_equal(h.n_labels, 1);
	assert_true(str_is(h.labels[0].value, "b"));
	assert_int_equal(h.n_owners, 1);
	assert_true(h.owners[0].controller && str_is(h.owners[0].uid, "ru"));
	meta_header(&arena, KIND_POD, json_of(&arena, "{'metadata':7}"), &h);
	assert_int_equal(h.name.n, 0);
	assert_false(h.deleting);
	assert_int_equal(h.deletion_grace_s, -1);
}

static void test_changes(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *o = json_of(&arena, "{}");
	struct api_owner owner = { STR("v1"), STR("Pod"), STR("p"), STR("u1"), true, false };

	assert_true(meta_add_finalizer(&arena, o, STR("a")));
	assert_false(meta_add_finalizer(&arena, o, STR("a")));
	assert_true(meta_add_finalizer(&arena, o, STR("b")));
	assert_true(meta_remove_finalizer(o, STR("a")));
	assert_false(meta_remove_finalizer(o, STR("a")));
	assert_true(meta_has_finalizer(o, STR("b")));
	assert_true(meta_remove_finalizer(o, STR("b")));
	assert_null(json_at(o, "metadata.finalizers"));
	meta_set_owner(&arena, o, &owner);
	owner.name = STR("q");
	meta_set_owner(&arena, o, &owner);
	assert_int_equal(json_count(json_at(o, "metadata.ownerReferences")), 1);
	assert_true(str_is(json_get_str(meta_controller(o), "name"), "q"));
	assert_true(meta_owned_by(o, STR("u1")));
	assert_true(meta_remove_owner(o, STR("u1")));
	assert_null(json_at(o, "metadata.ownerReferences"));
}

static void check_status(const struct err *err, const char *want)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str text = api_status_json(&arena, err);

	if (!str_eq(text, quoted(&arena, want)))
		fail_msg("%.*s", STR_ARG(text));
}

static void test_status(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_true(api_err_not_found(&err, KIND_DEPLOYMENT, STR("web")) < 0);
	check_status(
		&err,
		"{'kind':'Status','apiVersion':'v1','metadata':{},'status':'Failure','message':"
		"'deployments.apps \\'web\\' not found','reason':'NotFound','details':{'name':'web','group':'apps',"
		"'kind':'deployments'},'code':404}");
	api_err_already_exists(&err, KIND_POD, STR("x"));
	check_status(
		&err,
		"{'kind':'Status','apiVersion':'v1','metadata':{},'status':'Failure','message':"
		"'pods \\'x\\' already exists','reason':'AlreadyExists','details':{'name':'x','kind':'pods'},'code':409}");
	api_err_conflict(&err, KIND_POD, STR("x"), "");
	assert_string_equal(err.message,
			    "Operation cannot be fulfilled on pods \"x\": the object has been modified; please "
			    "apply your changes to the latest version and try again");
	api_err_forbidden(&err, KIND_POD, STR(""), "no %s", "way");
	assert_string_equal(err.message, "pods is forbidden: no way");
	api_err_too_many_requests(&err, 3, "slow down");
	assert_int_equal(err.retry_after_s, 3);
	assert_int_equal(api_err_status(&err), 429);
	api_status_write_success(&out, KIND_POD, STR("x"), STR("u"));
	assert_string_equal(buf_cstr(&out),
			    "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\","
			    "\"details\":{\"name\":\"x\",\"kind\":\"pods\",\"uid\":\"u\"}}");
	/* Every constructor takes NULL. */
	assert_true(api_err_not_found(NULL, KIND_POD, STR("x")) < 0);
	assert_true(api_err_too_many_requests(NULL, 1, "x") < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
