/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas, limit ranges and classes: what is refused, in which words. Each message is compared whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

struct kind_name {
	const char *api_version, *kind;
};

static const struct kind_name QUOTA = { "v1", "ResourceQuota" }, RANGE = { "v1", "LimitRange" },
			      PRIORITY = { "scheduling.k8s.io/v1", "PriorityClass" },
			      RUNTIME = { "node.k8s.io/v1", "RuntimeClass" },
			      INGRESS = { "networking.k8s.io/v1", "IngressClass" };

struct validation_case {
	const struct kind_name *kind;
	const char *old;  /* NULL: it is created */
	const char *text; /* members besides metadata; ' for " */
	const char *want; /* what follows `is invalid: `; NULL: good */
	const char *name; /* NULL: "x" */
};

static struct json *made(struct arena *arena, const struct api_kind *kind, const char *name, const char *members)
{
	const char *text = arena_printf(arena, "{'metadata':{'name':'%s'%s},%s}", name,
					kind->namespaced ? ",'namespace':'d'" : "", members);
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (decode_text(arena, kind, quoted(arena, text), DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	defaults_apply(arena, kind, v);
	hooks_prepare_create(arena, kind, v);
	return v;
}

static void check(const struct validation_case *c)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str group, version;
	const struct api_kind *kind;
	struct json *old, *v;
	const char *got = "", *name = c->name ? c->name : "x";

	assert_int_equal(api_parse_api_version(str_of(c->kind->api_version), &group, &version), 0);
	kind = api_kind_by_kind(group, version, str_of(c->kind->kind));
	assert_non_null(kind);
	old = c->old ? made(&arena, kind, name, c->old) : NULL;
	v = made(&arena, kind, name, c->text);
	if (old)
		hooks_prepare_update(&arena, kind, v, old);
	validate_object(kind, v, old, &e);
	if (old)
		hooks_validate_update(kind, v, old, &e);
	else
		hooks_validate_create(kind, v, &e);
	if (field_errors_result(&e, kind, meta_name(v), &err) < 0)
		got = strstr(err_message(&err), "is invalid: ") + strlen("is invalid: ");
	if (strcmp(got, c->want ? c->want : ""))
		fail_msg("%s\n gives: %s\n not: %s", c->text, got, c->want ? c->want : "");
}

#define CHECK_ALL(cases_)                                                                                              \
	for (size_t i = 0; i < ARRAY_SIZE(cases_); i++)                                                                \
	check(&(cases_)[i])

static const struct validation_case QUOTA_CASES[] = {
	{ &QUOTA, NULL, "'spec':{}", NULL, NULL },
	{ &QUOTA, NULL,
	  "'spec':{'hard':{'cpu':'1','pods':'3','requests.storage':'1Gi','hugepages-2Mi':'4Mi','count/jobs.batch':'3',"
	  "'requests.nvidia.com/gpu':'2','gold.storageclass.storage.k8s.io/requests.storage':'1Gi'}}",
	  NULL, NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'foo':'1'}}",
	  "[spec.hard[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified, "
	  "spec.hard[foo]: Invalid value: \"foo\": must be a standard resource for quota]",
	  NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'storage':'1'}}",
	  "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota", NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'cpu':'-1'}}",
	  "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0", NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'pods':'1500m'}}",
	  "spec.hard[pods]: Invalid value: \"1500m\": must be an integer", NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'pods':'1'},'scopes':['BestEffort','NotTerminating']}", NULL, NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'pods':'1'},'scopes':['Mine']}",
	  "spec.scopes: Invalid value: [\"Mine\"]: unsupported scope", NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'cpu':'1'},'scopes':['BestEffort']}",
	  "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource", NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'services':'1'},'scopes':['NotBestEffort']}",
	  "spec.scopes: Invalid value: [\"NotBestEffort\"]: unsupported scope applied to resource", NULL },
	{ &QUOTA, NULL, "'spec':{'hard':{'pods':'1'},'scopes':['BestEffort','NotBestEffort']}",
	  "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes", NULL },
	{ &QUOTA, NULL,
	  "'spec':{'hard':{'pods':'1'},'scopeSelector':{'matchExpressions':[{'scopeName':'PriorityClass','operator':'In',"
	  "'values':['high']}]}}",
	  NULL, NULL },
	{ &QUOTA, NULL,
	  "'spec':{'hard':{'pods':'1'},'scopeSelector':{'matchExpressions':[{'scopeName':'PriorityClass','operator':'In'}"
	  "]}}",
	  "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' "
	  "or 'NotIn' for scope selector",
	  NULL },
	{ &QUOTA, NULL,
	  "'spec':{'hard':{'pods':'1'},'scopeSelector':{'matchExpressions':[{'scopeName':'PriorityClass','operator':"
	  "'Exists','values':['a']}]}}",
	  "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' "
	  "or 'DoesNotExist' for scope selector",
	  NULL },
	{ &QUOTA, NULL,
	  "'spec':{'hard':{'pods':'1'},'scopeSelector':{'matchExpressions':[{'scopeName':'PriorityClass','operator':'Is'}"
	  "]}}",
	  "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Is\": not a valid selector operator", NULL },
	{ &QUOTA, NULL,
	  "'spec':{'hard':{'pods':'1'},'scopeSelector':{'matchExpressions':[{'scopeName':'BestEffort','operator':'In',"
	  "'values':['a']}]}}",
	  "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exist' when scope is any of "
	  "ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
	  "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
	  NULL },
	{ &QUOTA, "'spec':{'hard':{'pods':'1'},'scopes':['BestEffort']}",
	  "'spec':{'hard':{'pods':'2'},'scopes':['BestEffort']}", NULL, NULL },
	{ &QUOTA, "'spec':{'hard':{'pods':'1'},'scopes':['BestEffort']}",
	  "'spec':{'hard':{'pods':'1'},'scopes':['Terminating']}",
	  "spec.scopes: Invalid value: [\"Terminating\"]: field is immutable", NULL },
};

#define LIMITS(items) "'spec':{'limits':[" items "]}"

static const struct validation_case RANGE_CASES[] = {
	{ &RANGE, NULL,
	  LIMITS("{'type':'Container','max':{'cpu':'2'},'min':{'cpu':'100m'},'default':{'cpu':'500m'},'defaultRequest':{"
		 "'cpu':'200m'},'maxLimitRequestRatio':{'cpu':'10'}},{'type':'Pod','max':{'memory':'1Gi'}},{'type':"
		 "'PersistentVolumeClaim','max':{'storage':'1Gi'}},{'type':'example.com/thing','max':{'pods':'1'}}"),
	  NULL, NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Thing'}"),
	  "spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified", NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Pod'},{'type':'Pod'}"), "spec.limits[1].type: Duplicate value: \"Pod\"",
	  NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Container','max':{'pods':'1'}}"),
	  "[spec.limits[0].max[pods]: Invalid value: \"pods\": must be a standard resource for containers, "
	  "spec.limits[0].default[pods]: Invalid value: \"pods\": must be a standard resource for containers, "
	  "spec.limits[0].defaultRequest[pods]: Invalid value: \"pods\": must be a standard resource for containers]",
	  NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Pod','default':{'cpu':'1'},'defaultRequest':{'cpu':'1'}}"),
	  "[spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod', spec.limits[0].defaultRequest: "
	  "Forbidden: may not be specified when `type` is 'Pod']",
	  NULL },
	{ &RANGE, NULL, LIMITS("{'type':'PersistentVolumeClaim'}"),
	  "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was "
	  "provided",
	  NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Pod','max':{'cpu':'1'},'min':{'cpu':'2'}}"),
	  "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1", NULL },
	{ &RANGE, NULL,
	  LIMITS("{'type':'Container','min':{'cpu':'1'},'default':{'cpu':'2'},'defaultRequest':{'cpu':'500m'}}"),
	  "spec.limits[0].defaultRequest[cpu]: Invalid value: \"500m\": min value 1 is greater than default request value "
	  "500m",
	  NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Container','default':{'cpu':'1'},'defaultRequest':{'cpu':'2'}}"),
	  "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit "
	  "value 1",
	  NULL },
	{ &RANGE, NULL,
	  LIMITS("{'type':'Container','max':{'cpu':'1'},'default':{'cpu':'2'},'defaultRequest':{'cpu':'1'}}"),
	  "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1", NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Pod','maxLimitRequestRatio':{'cpu':'500m'}}"),
	  "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1", NULL },
	{ &RANGE, NULL, LIMITS("{'type':'Pod','max':{'cpu':'4'},'min':{'cpu':'2'},'maxLimitRequestRatio':{'cpu':'3'}}"),
	  "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
	  NULL },
	{ &RANGE, NULL,
	  LIMITS("{'type':'Container','default':{'example.com/gpu':'2'},'defaultRequest':{'example.com/gpu':'1'}}"),
	  "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal to "
	  "defaultRequest value 1 in example.com/gpu",
	  NULL },
};

static const struct validation_case CLASS_CASES[] = {
	{ &PRIORITY, NULL, "'value':1000000000", NULL, NULL },
	{ &PRIORITY, NULL, "'value':-2147483648", NULL, NULL },
	{ &PRIORITY, NULL, "'value':1000000001",
	  "value: Forbidden: maximum allowed value of a user defined priority is 1000000000", NULL },
	{ &PRIORITY, NULL, "'value':1",
	  "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
	  "system-mine is not a known system priority class",
	  "system-mine" },
	{ &PRIORITY, NULL, "'value':1",
	  "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
	  "value of system-node-critical PriorityClass must be 2000001000",
	  "system-node-critical" },
	{ &PRIORITY, NULL, "'value':2000001000,'globalDefault':true",
	  "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
	  "globalDefault of system-node-critical PriorityClass must be false",
	  "system-node-critical" },
	{ &PRIORITY, NULL, "'value':1,'preemptionPolicy':'Sometimes'",
	  "preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"Never\", \"PreemptLowerPriority\"",
	  NULL },
	{ &PRIORITY, "'value':1", "'value':2", "value: Forbidden: may not be changed in an update.", NULL },
	{ &PRIORITY, "'value':1", "'value':1,'preemptionPolicy':'Never'",
	  "preemptionPolicy: Invalid value: \"Never\": field is immutable", NULL },
	{ &RUNTIME, NULL,
	  "'handler':'runc','overhead':{'podFixed':{'cpu':'1'}},'scheduling':{'nodeSelector':{'a':'b'},'tolerations':[{"
	  "'key':'a','operator':'Exists'}]}",
	  NULL, NULL },
	{ &RUNTIME, "'handler':'runc'", "'handler':'crun'", "handler: Invalid value: \"crun\": field is immutable",
	  NULL },
	{ &RUNTIME, NULL, "'handler':'runc','overhead':{'podFixed':{'foo':'1'}}",
	  "[overhead.podFixed.limits[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified, "
	  "overhead.podFixed.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers]",
	  NULL },
	{ &RUNTIME, NULL,
	  "'handler':'runc','scheduling':{'tolerations':[{'key':'a','operator':'Exists'},{'key':'a','operator':'Exists'}]}",
	  "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}", NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'example.com/ingress'}", NULL, NULL },
	{ &INGRESS, NULL, "'spec':{}", "spec.controller: Required value", NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'example.com'}",
	  "spec.controller: Invalid value: \"example.com\": must be a domain-prefixed path (such as \"acme.io/foo\")",
	  NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'example.com/a b'}",
	  "spec.controller: Invalid value: \"a b\": Invalid path (regex used for validation is "
	  "'[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
	  NULL },
	{ &INGRESS, "'spec':{'controller':'a.io/b'}", "'spec':{'controller':'a.io/c'}",
	  "spec.controller: Invalid value: \"a.io/c\": field is immutable", NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'a.io/b','parameters':{'kind':'K','name':'n'}}", NULL, NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'a.io/b','parameters':{'kind':'K','name':'n','scope':'Namespace'}}",
	  "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'", NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'a.io/b','parameters':{'kind':'K','name':'n','namespace':'d'}}",
	  "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'", NULL },
	{ &INGRESS, NULL, "'spec':{'controller':'a.io/b','parameters':{'kind':'K','name':'n','scope':'Mine'}}",
	  "spec.parameters.scope: Unsupported value: \"Mine\": supported values: \"Cluster\", \"Namespace\"", NULL },
};

static void test_quotas(void **state)
{
	(void)state;
	CHECK_ALL(QUOTA_CASES);
}

static void test_ranges(void **state)
{
	(void)state;
	CHECK_ALL(RANGE_CASES);
}

static void test_classes(void **state)
{
	(void)state;
	CHECK_ALL(CLASS_CASES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quotas),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_classes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
