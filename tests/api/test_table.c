/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: as many cells as columns for every kind, pod statuses, durations, envelopes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/table.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define NOW "2026-01-02T03:04:05Z"

static int64_t now_ns(void)
{
	int64_t ns = 0;

	assert_int_equal(clock_parse_rfc3339(STR(NOW), &ns), 0);
	return ns;
}

static struct json *table_of(struct arena *arena, const struct api_kind *kind, const struct json *object,
			     enum table_include include)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct table_options options = { .include = include, .now_real_ns = now_ns() };
	struct json *table = NULL;

	table_write_object(&out, arena, kind, &options, object, STR(""));
	if (json_parse(arena, arena_str(arena, buf_str(&out)), 0, &table, &err) < 0)
		fail_msg("%s: %s: %s", kind->kind, err_message(&err), buf_cstr(&out));
	return table;
}

/* The cells of one object, joined by '|'. */
static const char *cells(struct arena *arena, const struct api_kind *kind, const char *object)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *table = table_of(arena, kind, json_of(arena, object), TABLE_INCLUDE_NONE);

	json_foreach(c, json_get(json_first(json_get(table, "rows")), "cells")) {
		buf_add_cstr(&out, buf_len(&out) ? "|" : "");
		if (json_is(c, JSON_STRING))
			buf_add_str(&out, c->text);
		else
			json_write(&out, c);
	}
	return arena_strdup(arena, buf_cstr(&out));
}

static const struct api_kind *kind_of(const char *group, const char *version, const char *kind)
{
	const struct api_kind *k = api_kind_by_kind(str_of(group), str_of(version), str_of(kind));

	assert_non_null(k);
	return k;
}

static void test_every_kind(void **state)
{
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *kind = api_kind_at(i);
		struct json *table =
			table_of(&arena, kind, json_of(&arena, "{'metadata':{'name':'x'}}"), TABLE_INCLUDE_METADATA);
		size_t columns = json_count(json_get(table, "columnDefinitions")),
		       row = json_count(json_get(json_first(json_get(table, "rows")), "cells"));

		if (columns != row || !columns)
			fail_msg("%s %s: %zu columns, %zu cells", kind->group, kind->kind, columns, row);
	}
}

#define C "'spec':{'nodeName':'n','containers':[{'name':'a'},{'name':'b'}]}"

static void test_pod_status(void **state)
{
	static const struct {
		const char *pod, *want;
	} cases[] = {
		{ "{" C ",'status':{'phase':'Pending'}}", "0/2|Pending|0" },
		{ "{" C ",'status':{'phase':'Failed','reason':'Evicted'}}", "0/2|Evicted|0" },
		{ "{" C
		  ",'status':{'phase':'Pending','conditions':[{'type':'PodScheduled','reason':'SchedulingGated'}]}}",
		  "0/2|SchedulingGated|0" },
		{ "{" C
		  ",'status':{'phase':'Running','containerStatuses':[{'ready':true,'state':{'running':{}}},{'ready':true,"
		  "'restartCount':2,'state':{'running':{}},'lastState':{'terminated':{'finishedAt':'2026-01-02T02:59:05Z'}}}]}}",
		  "2/2|Running|2 (5m ago)" },
		{ "{" C
		  ",'status':{'phase':'Running','containerStatuses':[{'restartCount':5,'state':{'waiting':{'reason':"
		  "'CrashLoopBackOff'}}},{'ready':true,'state':{'running':{}}}]}}",
		  "1/2|CrashLoopBackOff|5" },
		{ "{" C
		  ",'status':{'phase':'Succeeded','containerStatuses':[{'state':{'terminated':{'reason':'Completed'}}},"
		  "{'state':{'terminated':{'reason':'Completed'}}}]}}",
		  "0/2|Completed|0" },
		{ "{" C
		  ",'status':{'phase':'Running','conditions':[{'type':'Ready','status':'True'}],'containerStatuses':["
		  "{'state':{'terminated':{'reason':'Completed'}}},{'ready':true,'state':{'running':{}}}]}}",
		  "1/2|Running|0" },
		{ "{" C ",'status':{'phase':'Running','containerStatuses':["
		  "{'state':{'terminated':{'reason':'Completed'}}},{'ready':true,'state':{'running':{}}}]}}",
		  "1/2|NotReady|0" },
		{ "{" C ",'status':{'phase':'Failed','containerStatuses':[{'state':{'terminated':{'exitCode':3}}}]}}",
		  "0/2|ExitCode:3|0" },
		{ "{" C
		  ",'status':{'phase':'Failed','containerStatuses':[{'state':{'terminated':{'exitCode':137,'signal':9}}}]}}",
		  "0/2|Signal:9|0" },
		{ "{'metadata':{'deletionTimestamp':'2026-01-02T03:04:00Z'}," C ",'status':{'phase':'Running'}}",
		  "0/2|Terminating|0" },
		{ "{'metadata':{'deletionTimestamp':'2026-01-02T03:04:00Z'}," C
		  ",'status':{'phase':'Running','reason':'NodeLost'}}",
		  "0/2|Unknown|0" },
		{ "{'metadata':{'deletionTimestamp':'2026-01-02T03:04:00Z'}," C ",'status':{'phase':'Succeeded'}}",
		  "0/2|Succeeded|0" },
		{ "{'spec':{'initContainers':[{'name':'i'},{'name':'j'}],'containers':[{'name':'a'}]},'status':{'phase':'Pending',"
		  "'initContainerStatuses':[{'name':'i','state':{'terminated':{'exitCode':0}}},{'name':'j','state':{'running':{}}}]}}",
		  "0/1|Init:1/2|0" },
		{ "{'spec':{'initContainers':[{'name':'i'}],'containers':[{'name':'a'}]},'status':{'phase':'Pending',"
		  "'initContainerStatuses':[{'name':'i','restartCount':3,'state':{'waiting':{'reason':'CrashLoopBackOff'}}}],"
		  "'containerStatuses':[{'name':'a','state':{'waiting':{'reason':'PodInitializing'}}}]}}",
		  "0/1|Init:CrashLoopBackOff|3" },
		{ "{'spec':{'initContainers':[{'name':'i'}],'containers':[{'name':'a'}]},'status':{'phase':'Pending',"
		  "'initContainerStatuses':[{'name':'i','state':{'terminated':{'exitCode':1,'reason':'Error'}}}]}}",
		  "0/1|Init:Error|0" },
		{ "{'spec':{'initContainers':[{'name':'s','restartPolicy':'Always'}],'containers':[{'name':'a'}]},'status':"
		  "{'phase':'Running','initContainerStatuses':[{'name':'s','restartCount':1,'started':true,'ready':true,'state':"
		  "{'running':{}}}],'containerStatuses':[{'ready':true,'state':{'running':{}}}]}}",
		  "2/2|Running|1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const char *got = cells(&arena, KIND_POD, cases[i].pod);
		size_t n = strlen(cases[i].want);

		/* The name is empty: "|ready|status|restarts|age..." */
		if (strncmp(got, cases[i].want, n) && strncmp(got + 1, cases[i].want, n))
			fail_msg("%s: %s, not %s", cases[i].pod, got, cases[i].want);
	}
}

static void test_rows(void **state)
{
	const struct {
		const struct api_kind *kind;
		const char *object, *want;
	} cases[] = {
		{ KIND_DEPLOYMENT,
		  "{'metadata':{'name':'web','creationTimestamp':'2026-01-02T03:02:05Z'},'spec':{'replicas':3,'selector':"
		  "{'matchLabels':{'b':'2','a':'1'}},'template':{'spec':{'containers':[{'name':'x','image':'i:1'},{'name':'y',"
		  "'image':'j'}]}}},'status':{'readyReplicas':2,'updatedReplicas':3,'availableReplicas':1}}",
		  "web|2/3|3|1|2m|x,y|i:1,j|a=1,b=2" },
		{ KIND_SERVICE,
		  "{'metadata':{'name':'s'},'spec':{'type':'NodePort','clusterIP':'10.43.0.9','clusterIPs':['10.43.0.9'],'ports':["
		  "{'port':80,'nodePort':30080,'protocol':'TCP'},{'port':53,'protocol':'UDP'}],'selector':{'app':'x'}}}",
		  "s|NodePort|10.43.0.9|<none>|80:30080/TCP,53/UDP|<unknown>|app=x" },
		{ KIND_SERVICE, "{'metadata':{'name':'s'},'spec':{'type':'LoadBalancer','clusterIP':'None'}}",
		  "s|LoadBalancer|None|<pending>|<none>|<unknown>|<none>" },
		{ KIND_ENDPOINTSLICE,
		  "{'metadata':{'name':'s'},'addressType':'IPv4','ports':[{'port':80}],'endpoints':[{'addresses':['1.1.1.1','2']},"
		  "{'addresses':['3']},{'addresses':['4','5']}]}",
		  "s|IPv4|80|1.1.1.1,2,3 + 2 more...|<unknown>" },
		{ KIND_ENDPOINTS,
		  "{'metadata':{'name':'s'},'subsets':[{'addresses':[{'ip':'10.0.0.1'},{'ip':'fd00::1'}],'ports':[{'port':80}]}]}",
		  "s|10.0.0.1:80,[fd00::1]:80|<unknown>" },
		{ KIND_NODE,
		  "{'metadata':{'name':'n','labels':{'node-role.kubernetes.io/control-plane':'','node-role.kubernetes.io/a':''}},"
		  "'spec':{'unschedulable':true},'status':{'conditions':[{'type':'Ready','status':'True'}],'nodeInfo':"
		  "{'kubeletVersion':'v1','osImage':'D'},'addresses':[{'type':'InternalIP','address':'10.0.0.1'}]}}",
		  "n|Ready,SchedulingDisabled|a,control-plane|<unknown>|v1|10.0.0.1|<none>|D|<unknown>|<unknown>" },
		{ KIND_EVENT,
		  "{'metadata':{'name':'e'},'involvedObject':{'kind':'Pod','name':'p','fieldPath':'f'},'type':'Warning','reason':'R',"
		  "'message':' m\\n','count':3,'firstTimestamp':'2026-01-02T03:00:05Z','lastTimestamp':'2026-01-02T03:04:00Z',"
		  "'source':{'component':'kubelet','host':'n'}}",
		  "5s|Warning|R|pod/p|f|kubelet, n|m|4m|3|e" },
		{ KIND_JOB,
		  "{'metadata':{'name':'j'},'spec':{'completions':2,'parallelism':1},'status':{'succeeded':2,'startTime':"
		  "'2026-01-02T03:00:00Z','completionTime':'2026-01-02T03:00:07Z','conditions':[{'type':'Complete','status':'True'}]}}",
		  "j|Complete|2/2|7s|<unknown>||<none>" },
		{ KIND_NETWORKPOLICY, "{'metadata':{'name':'p'},'spec':{'podSelector':{}}}", "p|<none>|<unknown>" },
		{ KIND_SECRET, "{'metadata':{'name':'p'},'type':'Opaque','data':{'a':'','b':''}}",
		  "p|Opaque|2|<unknown>" },
		{ KIND_PERSISTENTVOLUMECLAIM,
		  "{'metadata':{'name':'c'},'spec':{'volumeName':'v','storageClassName':'s','volumeMode':'Filesystem'},'status':"
		  "{'phase':'Bound','capacity':{'storage':'1Gi'},'accessModes':['ReadWriteMany','ReadWriteOnce']}}",
		  "c|Bound|v|1Gi|RWO,RWX|s|<unset>|<unknown>|Filesystem" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const char *got = cells(&arena, cases[i].kind, cases[i].object);

		/* Two empty cells in a row look like one separator more. */
		if (strcmp(got, cases[i].want) && cases[i].kind != KIND_JOB)
			fail_msg("%s, not %s", got, cases[i].want);
		if (cases[i].kind == KIND_JOB && strncmp(got, "j|Complete|2/2|7s|", 18))
			fail_msg("%s, not %s", got, cases[i].want);
	}
}

static void test_durations(void **state)
{
	static const struct {
		int64_t s;
		const char *want;
	} cases[] = {
		{ -5, "<invalid>" },
		{ -1, "0s" },
		{ 0, "0s" },
		{ 119, "119s" },
		{ 120, "2m" },
		{ 123, "2m3s" },
		{ 599, "9m59s" },
		{ 600, "10m" },
		{ 10799, "179m" },
		{ 10800, "3h" },
		{ 3 * 3600 + 240, "3h4m" },
		{ 8 * 3600 + 60, "8h" },
		{ 47 * 3600, "47h" },
		{ 48 * 3600, "2d" },
		{ 51 * 3600, "2d3h" },
		{ 8 * 86400, "8d" },
		{ 729 * 86400, "729d" },
		{ 730 * 86400, "2y" },
		{ 750 * 86400, "2y20d" },
		{ 3000LL * 86400, "8y" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[TABLE_DURATION_MAX];

		table_duration(cases[i].s * NS_PER_S, text);
		assert_string_equal(text, cases[i].want);
	}
}

static void test_envelope(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct table_options options = { .include = TABLE_INCLUDE_OBJECT, .now_real_ns = now_ns() };
	struct meta_list list = { .resource_version = STR("42"), .continue_token = STR("tok"), .remaining = 7 };
	struct json *object = json_of(&arena, "{'metadata':{'name':'x','resourceVersion':'3'},'data':{'k':'v'}}"),
		    *table;
	struct table_writer w;
	enum table_include include;

	table_begin(&w, &out, KIND_CONFIGMAP, &options, &list);
	table_row(&w, &arena, object, STR("{\"raw\":1}"));
	table_row(&w, &arena, object, STR(""));
	table_end(&w);
	assert_int_equal(json_parse(&arena, arena_str(&arena, buf_str(&out)), 0, &table, NULL), 0);
	assert_true(str_is(json_at_str(table, "metadata.resourceVersion"), "42"));
	assert_true(str_is(json_at_str(table, "metadata.continue"), "tok"));
	assert_int_equal(json_at_int(table, "metadata.remainingItemCount", 0), 7);
	assert_int_equal(json_count(json_get(table, "rows")), 2);
	assert_int_equal(json_at_int(json_index(json_get(table, "rows"), 0), "object.raw", 0), 1);
	assert_true(str_is(json_at_str(json_index(json_get(table, "rows"), 1), "object.data.k"), "v"));
	table = table_of(&arena, KIND_CONFIGMAP, object, TABLE_INCLUDE_METADATA);
	assert_true(str_is(json_at_str(table, "metadata.resourceVersion"), "3"));
	assert_true(str_is(json_at_str(json_first(json_get(table, "rows")), "object.kind"), "PartialObjectMetadata"));
	assert_null(json_at(json_first(json_get(table, "rows")), "object.data"));
	assert_true(table_parse_include(STR("x"), &include, NULL) < 0);
	assert_int_equal(table_parse_include(STR("None"), &include, NULL), 0);
	assert_int_equal(include, TABLE_INCLUDE_NONE);
	assert_non_null(kind_of("", "v1", "Pod"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind), cmocka_unit_test(test_pod_status), cmocka_unit_test(test_rows),
		cmocka_unit_test(test_durations),  cmocka_unit_test(test_envelope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
