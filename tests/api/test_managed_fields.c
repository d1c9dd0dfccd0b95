/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns what: scripts of writes, worked out by hand from the documentation of server-side apply (merge strategies,
 * conflicts, removal by ownership, migration), and laws that hold for objects of every kind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/sample.h"
#include "tests/api/support.h"
#include "userspace/api/decode.h"
#include "userspace/api/fieldset.h"
#include "userspace/api/managed_fields.h"
#include "userspace/api/typed.h"
#include "userspace/base/clock.h"

enum how { END, APPLY, FORCE, UPDATE, SCALE };

struct step {
	enum how how;
	const char *manager;
	const char *text;    /* config of an apply, the whole object of an update */
	const char *object;  /* what is there afterwards; NULL: not looked at */
	const char *managed; /* "manager/operation[/subresource] set; ...", in the list's order; NULL: not looked at */
	const char *error;
	const char *subresource;
};

struct world {
	struct arena arena;
	const struct api_kind *kind;
	struct json *live, *managed;
	int64_t now_s;
};

static const struct api_kind *kind_of(const char *api_version, const char *kind)
{
	struct str group, version;

	assert_int_equal(api_parse_api_version(str_of(api_version), &group, &version), 0);
	return api_kind_by_kind(group, version, str_of(kind));
}

static const char *describe(struct world *w)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *list = NULL;

	if (!w->managed)
		return "";
	assert_int_equal(json_parse(&w->arena, json_text(&w->arena, w->managed), 0, &list, NULL), 0);
	json_foreach(e, list) {
		struct str sub = json_get_str(e, "subresource");

		buf_printf(&out, "%s%.*s/%.*s%s%.*s %s", buf_len(&out) ? "; " : "", STR_ARG(json_get_str(e, "manager")),
			   STR_ARG(json_get_str(e, "operation")), sub.n ? "/" : "", STR_ARG(sub),
			   json_text(&w->arena, json_get(e, "fieldsV1")).p);
	}
	return arena_strdup(&w->arena, buf_cstr(&out));
}

static int take(struct world *w, const struct step *s, struct json *body, struct err *err)
{
	struct managed_write mw = { .kind = w->kind,
				    .subresource = s->subresource,
				    .manager = str_of(s->manager),
				    .now_real_ns = ++w->now_s * NS_PER_S };
	struct json *object = body, *managed = NULL;
	int r;

	if (s->how == UPDATE)
		r = managed_fields_update(&w->arena, &mw, w->live, object, w->managed, &managed, err);
	else
		r = managed_fields_apply(&w->arena, &mw, w->live, body, w->managed, s->how == FORCE, &object, &managed,
					 err);
	if (r >= 0 && s->how != UPDATE)
		r = decode_tree(&w->arena, w->kind, object, DECODE_IGNORE, NULL, err);
	if (r < 0)
		return r;
	w->live = object;
	w->managed = managed;
	return 0;
}

static void play(const char *name, const char *api_version, const char *kind, const struct step *steps)
{
	struct world w = { .kind = kind_of(api_version, kind) };

	assert_non_null(w.kind);
	for (const struct step *s = steps; s->how != END; s++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *body = json_of(&w.arena, s->text);
		int r;

		if (!json_get(body, "apiVersion"))
			json_set_cstr(&w.arena, body, "apiVersion", api_version);
		if (!json_get(body, "kind"))
			json_set_cstr(&w.arena, body, "kind", kind);
		r = take(&w, s, body, &err);
		if (s->error && (r >= 0 || strcmp(s->error, err_message(&err)) != 0))
			fail_msg("%s, step %zd: got \"%s\" for \"%s\"", name, s - steps,
				 r < 0 ? err_message(&err) : "no error", s->error);
		if (!s->error && r < 0)
			fail_msg("%s, step %zd: %s", name, s - steps, err_message(&err));
		if (s->object) {
			struct json *wanted = json_of(&w.arena, s->object);

			json_set_cstr(&w.arena, wanted, "apiVersion", api_version);
			json_set_cstr(&w.arena, wanted, "kind", kind);
			if (!json_equal(wanted, w.live))
				fail_msg("%s, step %zd: got %s", name, s - steps, json_text(&w.arena, w.live).p);
		}
		if (s->managed && strcmp(quoted(&w.arena, s->managed).p, describe(&w)) != 0)
			fail_msg("%s, step %zd: got %s", name, s - steps, describe(&w));
	}
	arena_finish(&w.arena);
}

#define PLAY(api_version, kind, ...) play(__func__, api_version, kind, (const struct step[]){ __VA_ARGS__, { END } })

/* ---- maps ---- */

static void test_update_owns_what_it_changes(void **state)
{
	PLAY("v1", "ConfigMap",
	     { UPDATE, "a", "{'metadata':{'name':'x','labels':{'l':'1'}},'data':{'k':'1','m':'1'}}", NULL,
	       "a/Update {'f:data':{'.':{},'f:k':{},'f:m':{}},'f:metadata':{'f:labels':{'.':{},'f:l':{}}}}" },
	     { UPDATE, "b", "{'metadata':{'name':'x','labels':{'l':'1'}},'data':{'k':'2','m':'1','n':'1'}}", NULL,
	       "a/Update {'f:data':{'.':{},'f:m':{}},'f:metadata':{'f:labels':{'.':{},'f:l':{}}}}; "
	       "b/Update {'f:data':{'f:k':{},'f:n':{}}}" },
	     /* what is gone is nobody's; an entry without fields goes */
	     { UPDATE, "c", "{'metadata':{'name':'x','labels':{'l':'1'}},'data':{'m':'1'}}", NULL,
	       "a/Update {'f:data':{'.':{},'f:m':{}},'f:metadata':{'f:labels':{'.':{},'f:l':{}}}}" },
	     { UPDATE, "a", "{'metadata':{'name':'x'},'data':{'m':'2'}}", NULL,
	       "a/Update {'f:data':{'.':{},'f:m':{}}}" });
}

static void test_apply_shares_and_removes(void **state)
{
	PLAY("v1", "ConfigMap",
	     { APPLY, "a", "{'metadata':{'name':'x'},'data':{'k':'1','m':'1'}}",
	       "{'metadata':{'name':'x'},'data':{'k':'1','m':'1'}}", "a/Apply {'f:data':{'f:k':{},'f:m':{}}}" },
	     /* the same value: shared */
	     { APPLY, "b", "{'metadata':{'name':'x'},'data':{'m':'1','n':'1'}}",
	       "{'metadata':{'name':'x'},'data':{'k':'1','m':'1','n':'1'}}",
	       "a/Apply {'f:data':{'f:k':{},'f:m':{}}}; b/Apply {'f:data':{'f:m':{},'f:n':{}}}" },
	     /* no longer applied: what another owns stays, what was its own goes */
	     { APPLY, "a", "{'metadata':{'name':'x'}}", "{'metadata':{'name':'x'},'data':{'m':'1','n':'1'}}",
	       "b/Apply {'f:data':{'f:m':{},'f:n':{}}}" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'data':{'n':'1'}}", "{'metadata':{'name':'x'},'data':{'n':'1'}}",
	       "b/Apply {'f:data':{'f:n':{}}}" });
}

static void test_conflicts(void **state)
{
	PLAY("v1", "ConfigMap", { APPLY, "a", "{'metadata':{'name':'x'},'data':{'k':'1','m':'1'}}" },
	     { UPDATE, "u", "{'metadata':{'name':'x'},'data':{'k':'1','m':'2','n':'1'}}", NULL,
	       "a/Apply {'f:data':{'f:k':{}}}; u/Update {'f:data':{'f:m':{},'f:n':{}}}" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'data':{'k':'9'}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"a\": .data.k" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'data':{'n':'9'}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"u\" using v1: .data.n" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'data':{'k':'9','m':'9','n':'9'}}",
	       "{'metadata':{'name':'x'},'data':{'k':'1','m':'2','n':'1'}}",
	       "a/Apply {'f:data':{'f:k':{}}}; u/Update {'f:data':{'f:m':{},'f:n':{}}}",
	       "Apply failed with 3 conflicts: conflicts with \"a\":\n- .data.k\nconflicts with \"u\" using v1:\n"
	       "- .data.m\n- .data.n" },
	     { FORCE, "b", "{'metadata':{'name':'x'},'data':{'k':'9','m':'9'}}",
	       "{'metadata':{'name':'x'},'data':{'k':'9','m':'9','n':'1'}}",
	       "b/Apply {'f:data':{'f:k':{},'f:m':{}}}; u/Update {'f:data':{'f:n':{}}}" });
}

static void test_subresource_in_conflict(void **state)
{
	PLAY("apps/v1", "Deployment", { UPDATE, "c", "{'metadata':{'name':'x'},'spec':{'replicas':1}}" },
	     { UPDATE, "s", "{'metadata':{'name':'x'},'spec':{'replicas':1},'status':{'replicas':1}}", NULL,
	       "c/Update {'f:spec':{'f:replicas':{}}}; s/Update/status {'f:status':{'f:replicas':{}}}", NULL,
	       "status" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'status':{'replicas':2}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"s\" with subresource \"status\" using apps/v1: "
	       ".status.replicas",
	       "status" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'replicas':2}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"c\" using apps/v1: .spec.replicas" });
}

/* ---- lists ---- */

static void test_list_as_map(void **state)
{
	PLAY("v1", "Service",
	     { APPLY, "a",
	       "{'metadata':{'name':'x'},'spec':{'ports':[{'port':80,'protocol':'TCP'},{'port':53,'protocol':'UDP'}]}}",
	       NULL,
	       "a/Apply {'f:spec':{'f:ports':{"
	       "'k:{\\\"port\\\":53,\\\"protocol\\\":\\\"UDP\\\"}':{'.':{},'f:port':{},'f:protocol':{}},"
	       "'k:{\\\"port\\\":80,\\\"protocol\\\":\\\"TCP\\\"}':{'.':{},'f:port':{},'f:protocol':{}}}}}" },
	     /* a key that is left out has its default */
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'ports':[{'port':80,'name':'n'}]}}",
	       "{'metadata':{'name':'x'},'spec':{'ports':[{'port':80,'protocol':'TCP','name':'n'},"
	       "{'port':53,'protocol':'UDP'}]}}" },
	     /* a's items go; the one that b owns keeps what b owns and what makes its key */
	     { APPLY, "a", "{'metadata':{'name':'x'}}",
	       "{'metadata':{'name':'x'},'spec':{'ports':[{'port':80,'name':'n'}]}}" });
}

/* Who owns a part of an item, but not the item, does not keep it alive. */
static void test_part_of_an_item(void **state)
{
	PLAY("v1", "Pod",
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','image':'i'},{'name':'d'}]}}" },
	     { UPDATE, "v", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','image':'j'},{'name':'d'}]}}" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c'},{'name':'d'}]}}",
	       "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','image':'j'},{'name':'d'}]}}" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'d'}]}}",
	       "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'d'}]}}",
	       "b/Apply {'f:spec':{'f:containers':{'k:{\\\"name\\\":\\\"d\\\"}':{'.':{},'f:name':{}}}}}" });
}

static void test_order_of_items(void **state)
{
#define NAMES(...) "{'metadata':{'name':'x'},'spec':{'containers':[" __VA_ARGS__ "]}}"
#define C(n) "{'name':'" n "'}"
	/* the config's order for what both know; the rest stays beside its neighbours */
	PLAY("v1", "Pod", { UPDATE, "u", NAMES(C("a") "," C("b") "," C("c") "," C("d")) },
	     { APPLY, "m", NAMES(C("d") "," C("b") "," C("n")),
	       NAMES(C("a") "," C("c") "," C("d") "," C("b") "," C("n")) });
	PLAY("v1", "Pod", { UPDATE, "u", NAMES(C("a") "," C("b")) },
	     { APPLY, "m", NAMES(C("n") "," C("a") "," C("b")), NAMES(C("n") "," C("a") "," C("b")) });
	PLAY("v1", "Pod", { UPDATE, "u", NAMES(C("x") "," C("y")) },
	     { APPLY, "m", NAMES(C("n")), NAMES(C("x") "," C("y") "," C("n")) });
}

static void test_set(void **state)
{
	PLAY("v1", "ConfigMap", { APPLY, "a", "{'metadata':{'name':'x','finalizers':['a/1','a/2']}}" },
	     { APPLY, "b", "{'metadata':{'name':'x','finalizers':['a/2','a/3']}}",
	       "{'metadata':{'name':'x','finalizers':['a/1','a/2','a/3']}}",
	       "a/Apply {'f:metadata':{'f:finalizers':{'v:\\\"a/1\\\"':{},'v:\\\"a/2\\\"':{}}}}; "
	       "b/Apply {'f:metadata':{'f:finalizers':{'v:\\\"a/2\\\"':{},'v:\\\"a/3\\\"':{}}}}" },
	     { APPLY, "a", "{'metadata':{'name':'x'}}", "{'metadata':{'name':'x','finalizers':['a/2','a/3']}}" },
	     { APPLY, "b", "{'metadata':{'name':'x','finalizers':['a/3']}}",
	       "{'metadata':{'name':'x','finalizers':['a/3']}}" });
}

static void test_atomic(void **state)
{
	PLAY("v1", "Pod",
	     { APPLY, "a", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','args':['1','2']}]}}" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','args':['1']}]}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"a\": .spec.containers[name=\"c\"].args" },
	     { FORCE, "b", "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','args':['1']}]}}",
	       "{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c','args':['1']}]}}" },
	     /* a map in one piece */
	     { APPLY, "c", "{'metadata':{'name':'x'},'spec':{'nodeSelector':{'a':'1'}}}", NULL, NULL },
	     { APPLY, "d", "{'metadata':{'name':'x'},'spec':{'nodeSelector':{'b':'1'}}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"c\": .spec.nodeSelector" });
}

static void test_refused(void **state)
{
	PLAY("v1", "Pod",
	     { APPLY, "a",
	       "{'metadata':{'name':'x','namespace':'n'},'spec':{'containers':[{'name':'c'},{'name':'c'}]}}", NULL,
	       NULL,
	       "failed to create typed patch object (n/x; /v1, Kind=Pod): .spec.containers: duplicate entries for key "
	       "[name=\"c\"]" },
	     { APPLY, "a", "{'metadata':{'name':'x'},'spec':{'containers':[{'image':'i'}]}}", NULL, NULL,
	       "failed to create typed patch object (/x; /v1, Kind=Pod): .spec.containers: element 0: associative list "
	       "with keys has an element that omits key field \"name\" (and doesn't have default value)" },
	     { APPLY, "a", "{'metadata':{'name':'x'},'spec':{'what':1}}", NULL, NULL,
	       "failed to create typed patch object (/x; /v1, Kind=Pod): .spec.what: field not declared in schema" },
	     { APPLY, "a", "{'metadata':{'name':'x'},'spec':{'nodeName':1,'containers':[{'name':'c','stdin':'no'}]}}",
	       NULL, NULL,
	       "failed to create typed patch object (/x; /v1, Kind=Pod): errors:\n  .spec.nodeName: expected string, got "
	       "&{1}\n  .spec.containers[name=\"c\"].stdin: expected boolean, got &{no}" },
	     { APPLY, "a", "{'metadata':{'name':'x','managedFields':[]}}", NULL, NULL,
	       "metadata.managedFields must be nil" },
	     { APPLY, "a", "{'apiVersion':'apps/v1','kind':'Deployment','metadata':{'name':'x'}}", NULL, NULL,
	       "invalid object type: apps/v1, Kind=Deployment" },
	     { APPLY, "a", "{'kind':'Secret','metadata':{'name':'x'}}", NULL, NULL,
	       "invalid object type: /v1, Kind=Secret" });
}

/* ---- beginnings ---- */

static void test_create_owns_defaults(void **state)
{
	/* "." where Go's empty struct shows nothing: pointers, maps, lists that may be left out; not for structs. */
	PLAY("apps/v1", "Deployment",
	     { UPDATE, "k",
	       "{'metadata':{'name':'x','uid':'1','generation':1,'labels':{'a':'b'}},'spec':{'replicas':1,"
	       "'selector':{'matchLabels':{'a':'b'}},'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}},"
	       "'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[{'name':'c','image':'i','resources':{},"
	       "'ports':[{'containerPort':80,'protocol':'TCP'}]}],'securityContext':{}}}},'status':{'replicas':3}}",
	       NULL,
	       "k/Update {'f:metadata':{'f:labels':{'.':{},'f:a':{}}},'f:spec':{'f:replicas':{},'f:selector':{},"
	       "'f:strategy':{'f:rollingUpdate':{'.':{},'f:maxSurge':{}},'f:type':{}},"
	       "'f:template':{'f:metadata':{'f:labels':{'.':{},'f:a':{}}},'f:spec':{'f:containers':{"
	       "'k:{\\\"name\\\":\\\"c\\\"}':{'.':{},'f:image':{},'f:name':{},'f:ports':{'.':{},"
	       "'k:{\\\"containerPort\\\":80,\\\"protocol\\\":\\\"TCP\\\"}':{'.':{},'f:containerPort':{},'f:protocol':{}}},"
	       "'f:resources':{}}},'f:securityContext':{}}}}}" });
}

static void test_before_first_apply(void **state)
{
	struct world w = { .kind = KIND_CONFIGMAP };
	struct step s = { APPLY, "b" };
	_cleanup_err_ struct err err = ERR_INIT;

	w.live = json_of(&w.arena,
			 "{'apiVersion':'v1','kind':'ConfigMap','metadata':{'name':'x'},'data':{'k':'1','m':'1'}}");
	assert_true(take(&w, &s,
			 json_of(&w.arena, "{'apiVersion':'v1','kind':'ConfigMap','metadata':{'name':'x'},"
					   "'data':{'k':'2'}}"),
			 &err) < 0);
	assert_string_equal(err_message(&err),
			    "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k");
	assert_int_equal(err.status, 409);
	assert_string_equal(err.reason, "Conflict");
	assert_int_equal(err.n_causes, 1);
	assert_string_equal(err.causes[0].reason, "FieldManagerConflict");
	assert_string_equal(err.causes[0].field, ".data.k");
	assert_string_equal(err.causes[0].message, "conflict with \"before-first-apply\" using v1");
	s.how = FORCE;
	assert_int_equal(take(&w, &s,
			      json_of(&w.arena, "{'apiVersion':'v1','kind':'ConfigMap','metadata':{'name':'x'},"
						"'data':{'k':'2'}}"),
			      &err),
			 0);
	assert_string_equal(describe(&w), "b/Apply {\"f:data\":{\"f:k\":{}}}; "
					  "before-first-apply/Update {\"f:data\":{\".\":{},\"f:m\":{}}}");
	arena_finish(&w.arena);
}

#define LAST "'kubectl.kubernetes.io/last-applied-configuration'"

/* What client-side apply wrote is kubectl's to take over, and the annotation is kept in step. */
static void test_migration(void **state)
{
	PLAY("v1", "ConfigMap",
	     { UPDATE, "kubectl-client-side-apply",
	       "{'metadata':{'name':'x','annotations':{" LAST
	       ":'{\\\"apiVersion\\\":\\\"v1\\\",\\\"data\\\":{\\\"k\\\":\\\"1\\\"},\\\"kind\\\":\\\"ConfigMap\\\"}'}},"
	       "'data':{'k':'1','m':'1'}}" },
	     { APPLY, "other", "{'metadata':{'name':'x'},'data':{'k':'2'}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.k" },
	     /* not what it wrote: asked as ever */
	     { APPLY, "kubectl", "{'metadata':{'name':'x'},'data':{'m':'2'}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.m" },
	     { APPLY, "kubectl", "{'metadata':{'name':'x'},'data':{'k':'2'}}",
	       "{'metadata':{'name':'x','annotations':{" LAST
	       ":'{\\\"apiVersion\\\":\\\"v1\\\",\\\"data\\\":{\\\"k\\\":\\\"2\\\"},\\\"kind\\\":\\\"ConfigMap\\\","
	       "\\\"metadata\\\":{\\\"name\\\":\\\"x\\\"}}\\n'}},'data':{'k':'2','m':'1'}}" });
}

/* ---- versions ---- */

static struct json *rename_group(struct arena *arena, const struct json *object, const struct api_kind *from,
				 const struct api_kind *to)
{
	struct json *v = json_clone(arena, object);

	json_set_cstr(arena, v, "apiVersion", to->api_version);
	if (strcmp(to->version, "v1") == 0)
		json_remove(json_get(v, "spec"), "metrics");
	return v;
}

static void test_unserved_version(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct managed_write mw = { .kind = KIND_CONFIGMAP, .manager = STR("b"), .convert = rename_group };
	struct json *managed = json_of(&arena, "[{'manager':'old','operation':'Update','apiVersion':'v0','fieldsType':"
					       "'FieldsV1','fieldsV1':{'f:data':{'f:k':{}}}}]");
	struct json *live = json_of(&arena, "{'data':{'k':'1'}}"), *object = json_of(&arena, "{'data':{'k':'2'}}");
	struct world w = { 0 };

	assert_int_equal(managed_fields_update(&arena, &mw, live, object, managed, &w.managed, NULL), 0);
	assert_string_equal(describe(&w), "b/Update {\"f:data\":{\"f:k\":{}}}");
	arena_finish(&w.arena);
}

static void test_two_versions(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct api_kind *v2 = kind_of("autoscaling/v2", "HorizontalPodAutoscaler");
	struct managed_write mw = { .kind = v2, .manager = STR("b"), .convert = rename_group };
	struct json *managed = json_of(
		&arena, "[{'manager':'one','operation':'Update','apiVersion':'autoscaling/v1','fieldsType':'FieldsV1',"
			"'fieldsV1':{'f:spec':{'f:maxReplicas':{},'f:minReplicas':{}}}}]");
	struct json *live = json_of(&arena, "{'spec':{'maxReplicas':1,'minReplicas':1}}");
	struct json *object = json_of(&arena, "{'spec':{'maxReplicas':2,'minReplicas':1}}");
	struct world w = { 0 };

	assert_int_equal(managed_fields_update(&arena, &mw, live, object, managed, &w.managed, NULL), 0);
	assert_string_equal(describe(&w), "one/Update {\"f:spec\":{\"f:minReplicas\":{}}}; "
					  "b/Update {\"f:spec\":{\"f:maxReplicas\":{}}}");
	arena_finish(&w.arena);
}

/* ---- limits ---- */

static void test_cap(void **state)
{
	struct world w = { .kind = KIND_CONFIGMAP };

	for (int i = 0; i < 14; i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct step s = { UPDATE, arena_printf(&w.arena, "m%02d", i) };
		struct json *body = json_of(&w.arena, "{'metadata':{'name':'x'},'data':{}}");

		for (int j = 0; j <= i; j++)
			json_set(json_get(body, "data"), arena_printf(&w.arena, "k%02d", j),
				 json_new_cstr(&w.arena, "v"));
		assert_int_equal(take(&w, &s, body, &err), 0);
	}
	assert_int_equal(json_count(w.managed), MANAGED_UPDATERS_MAX);
	assert_non_null(strstr(describe(&w), "ancient-changes/Update {\"f:data\":{\".\":{},\"f:k00\":{},\"f:k01\":{},"
					     "\"f:k02\":{},\"f:k03\":{},\"f:k04\":{}}}"));
	arena_finish(&w.arena);
}

static void test_names(void **state)
{
	static const struct {
		const char *agent, *name;
	} cases[] = {
		{ "kubectl/v1.33.0 (linux/amd64) kubernetes/abc", "kubectl" },
		{ "curl", "curl" },
		{ "/x", "" },
		{ "a\tb\x7f"
		  "c/1",
		  "abc" },
		{ "\xc3\xa9t\xc3\xa9/1", "\xc3\xa9t\xc3\xa9" },
	};
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char big[300];
	uint32_t rune = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(str_is(managed_fields_user_agent(&arena, str_of(cases[i].agent)), cases[i].name));
	memset(big, 'x', sizeof(big));
	assert_int_equal(managed_fields_user_agent(&arena, str_make(big, sizeof(big))).n, MANAGED_MANAGER_MAX);
	assert_int_equal(managed_fields_unprintable(STR("abc\xc3\xa9"), &rune), -1);
	assert_int_equal(managed_fields_unprintable(STR("a\xc3\xa9\n"), &rune), 3);
	assert_int_equal(rune, '\n');
}

static void test_reset(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	assert_true(managed_fields_is_reset(json_of(&arena, "[]")));
	assert_true(managed_fields_is_reset(json_of(&arena, "[{}]")));
	assert_false(managed_fields_is_reset(NULL));
	assert_false(managed_fields_is_reset(json_of(&arena, "[{'manager':'x'}]")));
	assert_false(managed_fields_is_reset(json_of(&arena, "[{},{}]")));
	assert_false(managed_fields_valid(&arena, json_of(&arena, "[{'manager':'x'}]")));
	assert_false(
		managed_fields_valid(&arena, json_of(&arena, "[{'manager':'x','operation':'Update','apiVersion':'v1',"
							     "'fieldsType':'FieldsV2','fieldsV1':{}}]")));
	assert_false(
		managed_fields_valid(&arena, json_of(&arena, "[{'manager':'x','operation':'Update','apiVersion':'v1',"
							     "'fieldsType':'FieldsV1','fieldsV1':{'a':{}}}]")));
	assert_true(
		managed_fields_valid(&arena, json_of(&arena, "[{'manager':'x','operation':'Update','apiVersion':'v1',"
							     "'fieldsType':'FieldsV1','fieldsV1':{'f:a':{}}}]")));
}

/* ---- laws, for every kind ---- */

static unsigned seed = 1;

static unsigned rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

/* Takes members away here and there, but never the last one. */
static void thin(struct typed t, struct json *v, int depth)
{
	struct json *next;

	for (struct json *c = json_first(v); c; c = next) {
		struct typed below = v->type == JSON_OBJECT ? typed_member(t, c->key) : typed_item(t);

		next = c->next;
		if (depth > 0 && v->type == JSON_OBJECT && v->count > 1 && rnd(5) == 0)
			json_unlink(v, c);
		else
			thin(below, c, depth + 1);
	}
}

static bool applicable(struct arena *arena, struct typed t, const struct json *v)
{
	return typed_check(arena, t, v, NULL) == 0;
}

static struct json *random_object(struct arena *arena, const struct api_kind *k)
{
	/* Nobody owns these. */
	static const char *const servers[] = { "managedFields",   "name",
					       "namespace",       "uid",
					       "generation",      "creationTimestamp",
					       "resourceVersion", "selfLink" };
	struct typed t = typed_object(k->message);
	struct json *v = sample_object(arena, k);

	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		json_remove(json_get(v, "metadata"), servers[i]);
	json_remove(v, "status");
	for (int i = 0; i < 4; i++) {
		struct json *thinner = json_clone(arena, v);

		thin(t, thinner, 0);
		if (applicable(arena, t, thinner))
			v = thinner;
	}
	return v;
}

static void apply_must(struct world *w, const struct api_kind *k, const char *manager, enum how how,
		       const struct json *v)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct step s = { how, manager };

	w->kind = k;
	if (take(w, &s, json_clone(&w->arena, v), &err) < 0)
		fail_msg("%s: %s", k->kind, err_message(&err));
}

/* Does `has` show every leaf of `config`? */
static bool shows(struct typed t, const struct json *has, const struct json *config)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct fieldset *c = NULL, *said = NULL;

	if (typed_compare(&arena, t, config, has, &c, NULL) < 0 || typed_fields(&arena, t, config, &said, NULL) < 0)
		return false;
	c = fieldset_intersection(&arena, fieldset_pick(&arena, c, TYPED_MODIFIED | TYPED_REMOVED), said);
	if (c) {
		_cleanup_buf_ struct buf text = BUF_INIT;

		fieldset_write(&text, c);
		print_message("not shown: %s\n", buf_cstr(&text));
	}
	return !c;
}

static void every_kind(const struct api_kind *k)
{
	struct typed t = typed_object(k->message);
	struct world w = { 0 };
	struct json *a = random_object(&w.arena, k), *b = random_object(&w.arena, k), *first, *own = NULL;
	struct fieldset *all = NULL, *union_of = NULL;

	apply_must(&w, k, "a", APPLY, a);
	first = json_clone(&w.arena, w.live);
	if (!shows(t, w.live, a))
		fail_msg("%s: %s does not show %s", k->kind, json_text(&w.arena, w.live).p, json_text(&w.arena, a).p);
	/* the same again changes nothing */
	own = w.managed;
	apply_must(&w, k, "a", APPLY, a);
	if (!json_equal(first, w.live))
		fail_msg("%s: %s became %s", k->kind, json_text(&w.arena, first).p, json_text(&w.arena, w.live).p);
	assert_true(managed_fields_same(&w.arena, own, w.managed));
	/* by force it is as the config says */
	apply_must(&w, k, "b", FORCE, b);
	if (!shows(t, w.live, b))
		fail_msg("%s: %s does not show %s", k->kind, json_text(&w.arena, w.live).p, json_text(&w.arena, b).p);
	/* every leaf has an owner */
	json_foreach(e, w.managed) {
		struct fieldset *set = NULL;

		assert_int_equal(fieldset_parse(&w.arena, json_get(e, "fieldsV1"), &set, NULL), 0);
		union_of = fieldset_union(&w.arena, union_of, set);
	}
	assert_int_equal(typed_fields(&w.arena, t, w.live, &all, NULL), 0);
	all = fieldset_difference(&w.arena, all, union_of);
	for (struct fieldset *c = all ? all->first : NULL; c; c = c->next)
		if (!str_is(c->name, "f:apiVersion") && !str_is(c->name, "f:kind") && !str_is(c->name, "f:metadata"))
			fail_msg("%s: %.*s is nobody's", k->kind, STR_ARG(c->name));
	/* what b alone brought goes with b; then what a says by force is there again */
	apply_must(
		&w, k, "b", APPLY,
		json_of(&w.arena, arena_printf(&w.arena, "{'apiVersion':'%s','kind':'%s'}", k->api_version, k->kind)));
	apply_must(&w, k, "a", FORCE, a);
	if (!json_equal(first, w.live))
		fail_msg("%s: %s came back as %s", k->kind, json_text(&w.arena, first).p,
			 json_text(&w.arena, w.live).p);
	arena_finish(&w.arena);
}

static void test_every_kind(void **state)
{
	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_kind *k = api_kind_at(i);

		if (!(k->verbs & API_VERB_PATCH) || k->storage != k)
			continue;
		for (int round = 0; round < 6; round++)
			every_kind(k);
	}
}

static void test_int64(void **state)
{
	PLAY("v1", "Pod",
	     { APPLY, "a", "{'metadata':{'name':'x'},'spec':{'activeDeadlineSeconds':9223372036854775807}}" },
	     { APPLY, "b", "{'metadata':{'name':'x'},'spec':{'activeDeadlineSeconds':9223372036854775806}}", NULL, NULL,
	       "Apply failed with 1 conflict: conflict with \"a\": .spec.activeDeadlineSeconds" },
	     { FORCE, "b", "{'metadata':{'name':'x'},'spec':{'activeDeadlineSeconds':9223372036854775806}}",
	       "{'metadata':{'name':'x'},'spec':{'activeDeadlineSeconds':9223372036854775806}}" });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_update_owns_what_it_changes),
		cmocka_unit_test(test_apply_shares_and_removes),
		cmocka_unit_test(test_conflicts),
		cmocka_unit_test(test_subresource_in_conflict),
		cmocka_unit_test(test_list_as_map),
		cmocka_unit_test(test_part_of_an_item),
		cmocka_unit_test(test_order_of_items),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_atomic),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_create_owns_defaults),
		cmocka_unit_test(test_before_first_apply),
		cmocka_unit_test(test_migration),
		cmocka_unit_test(test_unserved_version),
		cmocka_unit_test(test_two_versions),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_int64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
