/* SPDX-License-Identifier: Apache-2.0 */
/* What is said about webhook configurations, admission policies and bindings that are not good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/api/support.h"
#include "userspace/api/decode.h"
#include "userspace/api/defaults.h"
#include "userspace/api/hooks.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define CLIENT "'clientConfig':{'service':{'namespace':'n','name':'s'}}"
#define REST "'sideEffects':'None','admissionReviewVersions':['v1']"
#define HOOKS(list) "{'metadata':{'name':'x'},'webhooks':[" list "]}"
#define HOOK(more) HOOKS("{'name':'a.b.c'," REST "," more "}")
#define RULE(operations, resources)                                                                                    \
	"{'operations':[" operations "],'apiGroups':[''],'apiVersions':['v1'],'resources':[" resources "]}"
#define RULES(rules) HOOK(CLIENT ",'rules':[" rules "]")
#define MATCH "'matchConstraints':{'resourceRules':[" RULE("'CREATE'", "'pods'") "]}"
#define POLICY(spec) "{'metadata':{'name':'p'},'spec':{" spec "}}"
#define VALIDATIONS "'validations':[{'expression':'true'}]"

struct text_case {
	const char *text, *words; /* both with single quotes; NULL: good */
};

static void check(const struct api_kind *kind, const char *text, const char *words)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;
	char *got;

	if (decode_text(&arena, kind, quoted(&arena, text), DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err));
	defaults_apply(&arena, kind, v);
	hooks_prepare_create(&arena, kind, v);
	validate_object(kind, v, NULL, &e);
	hooks_validate_create(kind, v, &e);
	if (field_errors_result(&e, kind, meta_name(v), &err) >= 0) {
		if (words)
			fail_msg("%s is let in, expected: %s", text, words);
		return;
	}
	got = arena_strdup(&arena, err_message(&err));
	for (char *p = got; *p; p++)
		if (*p == '"')
			*p = '\'';
	if (!words || !strstr(got, words))
		fail_msg("%s\n gives %s\n expected %s", text, got, words ? words : "nothing");
}

static void check_all(const char *kind_name, const struct text_case *cases, size_t n)
{
	const struct api_kind *kind =
		api_kind_by_kind(STR("admissionregistration.k8s.io"), STR("v1"), str_of(kind_name));

	assert_non_null(kind);
	for (size_t i = 0; i < n; i++)
		check(kind, cases[i].text, cases[i].words);
}

static void test_webhooks(void **state)
{
	static const struct text_case cases[] = {
		{ HOOK(CLIENT), NULL },
		{ HOOKS("{'name':'a.b'," REST "," CLIENT "}"),
		  "webhooks[0].name: Invalid value: 'a.b': should be a domain with at least three segments separated by "
		  "dots" },
		{ HOOKS("{'name':'A.b.c'," REST "," CLIENT "}"),
		  "webhooks[0].name: Invalid value: 'A.b.c': a lowercase" },
		{ HOOKS("{'name':'a.b.c'," REST "," CLIENT "},{'name':'a.b.c'," REST "," CLIENT "}"),
		  "webhooks[1].name: Duplicate value: 'a.b.c'" },
		{ HOOKS("{'name':'a.b.c','admissionReviewVersions':['v1']," CLIENT "}"),
		  "is invalid: webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun" },
		{ HOOKS("{'name':'a.b.c','sideEffects':'Some','admissionReviewVersions':['v1']," CLIENT "}"),
		  "webhooks[0].sideEffects: Unsupported value: 'Some': supported values: 'None', 'NoneOnDryRun'" },
		{ HOOKS("{'name':'a.b.c','sideEffects':'None','admissionReviewVersions':[]," CLIENT "}"),
		  "is invalid: webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1" },
		{ HOOKS("{'name':'a.b.c','sideEffects':'None','admissionReviewVersions':['v2']," CLIENT "}"),
		  "webhooks[0].admissionReviewVersions: Invalid value: ['v2']: must include at least one of v1, v1beta1" },
		{ HOOKS("{'name':'a.b.c','sideEffects':'None','admissionReviewVersions':['v1','v1']," CLIENT "}"),
		  "webhooks[0].admissionReviewVersions[1]: Invalid value: 'v1': duplicate version" },
		{ HOOK(CLIENT ",'timeoutSeconds':31"),
		  "is invalid: webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 "
		  "seconds" },
		{ HOOK(CLIENT ",'failurePolicy':'Never'"),
		  "webhooks[0].failurePolicy: Unsupported value: 'Never': supported values: 'Fail', 'Ignore'" },
		{ HOOK(CLIENT ",'matchConditions':[{'name':'a b','expression':'true'}]"),
		  "webhooks[0].matchConditions[0].name: Invalid value: 'a b'" },
		{ HOOK(CLIENT ",'matchConditions':[{'name':'a','expression':' '}]"),
		  "webhooks[0].matchConditions[0].expression: Required value" },
	};

	check_all("ValidatingWebhookConfiguration", cases, ARRAY_SIZE(cases));
	check_all("MutatingWebhookConfiguration", cases, ARRAY_SIZE(cases));
}

static void test_clients(void **state)
{
	static const struct text_case cases[] = {
		{ HOOK("'clientConfig':{'url':'https://host:1/a/b'}"), NULL },
		{ HOOK("'clientConfig':{}"),
		  "webhooks[0].clientConfig: Required value: exactly one of url or service" },
		{ HOOK("'clientConfig':{'url':'https://h','service':{'namespace':'n','name':'s'}}"),
		  "webhooks[0].clientConfig: Required value: exactly one of url or service is required" },
		{ HOOK("'clientConfig':{'url':'http://h'}"),
		  "webhooks[0].clientConfig.url: Invalid value: 'http': 'https' is the only allowed URL scheme; desired "
		  "format: https://host[/path]" },
		{ HOOK("'clientConfig':{'url':'https:///p'}"),
		  "webhooks[0].clientConfig.url: Invalid value: '': host must be specified; desired format" },
		{ HOOK("'clientConfig':{'url':'https://u:p@h/'}"),
		  "webhooks[0].clientConfig.url: Invalid value: 'u:p': user information is not permitted in the URL" },
		{ HOOK("'clientConfig':{'url':'https://h/#f'}"),
		  "webhooks[0].clientConfig.url: Invalid value: 'f': fragments are not permitted in the URL" },
		{ HOOK("'clientConfig':{'url':'https://h/?q=1'}"),
		  "webhooks[0].clientConfig.url: Invalid value: 'q=1': query parameters are not permitted in the URL" },
		{ HOOK("'clientConfig':{'service':{'namespace':'n','name':'s','port':70000}}"),
		  "is invalid: webhooks[0].clientConfig.service.port: Invalid value: 70000: port is not valid: must be between "
		  "1 and 65535, inclusive" },
		{ HOOK("'clientConfig':{'service':{'namespace':'n','name':'s','path':'/a/b/'}}"), NULL },
		{ HOOK("'clientConfig':{'service':{'namespace':'n','name':'s','path':'ab'}}"),
		  "webhooks[0].clientConfig.service.path: Invalid value: 'ab': must start with a '/'" },
		{ HOOK("'clientConfig':{'service':{'namespace':'n','name':'s','path':'/a//b'}}"),
		  "webhooks[0].clientConfig.service.path: Invalid value: '/a//b': segment[1] may not be empty" },
		{ HOOK("'clientConfig':{'service':{'namespace':'n','name':'s','path':'//'}}"),
		  "webhooks[0].clientConfig.service.path: Invalid value: '//': segment[0] may not be empty" },
		{ HOOK("'clientConfig':{'service':{'namespace':'n','name':'s','path':'/A'}}"),
		  "webhooks[0].clientConfig.service.path: Invalid value: '/A': segment[0]: a lowercase RFC 1123 subdomain" },
	};

	check_all("ValidatingWebhookConfiguration", cases, ARRAY_SIZE(cases));
}

static void test_rules(void **state)
{
	static const struct text_case cases[] = {
		{ RULES(RULE("'CREATE','UPDATE'", "'pods','pods/status','*/scale'")), NULL },
		{ RULES(RULE("'*'", "'*/*'")), NULL },
		{ RULES(RULE("", "'pods'")), "webhooks[0].rules[0].operations: Required value" },
		{ RULES(RULE("'*','CREATE'", "'pods'")),
		  "webhooks[0].rules[0].operations: Invalid value: ['*','CREATE']: if '*' is present, must not specify other "
		  "operations" },
		{ RULES(RULE("'PATCH'", "'pods'")),
		  "webhooks[0].rules[0].operations[0]: Unsupported value: 'PATCH': supported values: '*', 'CONNECT', "
		  "'CREATE', 'DELETE', 'UPDATE'" },
		{ RULES("{'operations':['*'],'apiGroups':['*','apps'],'apiVersions':[''],'resources':['x'],'scope':'All'}"),
		  "[webhooks[0].rules[0].apiGroups: Invalid value: ['*','apps']: if '*' is present, must not specify other "
		  "API groups, webhooks[0].rules[0].apiVersions[0]: Required value, webhooks[0].rules[0].scope: Unsupported "
		  "value: 'All': supported values: '*', 'Cluster', 'Namespaced']" },
		{ RULES(RULE("'*'", "")), "webhooks[0].rules[0].resources: Required value" },
		{ RULES(RULE("'*'", "'pods/*','pods/status'")),
		  "webhooks[0].rules[0].resources[1]: Invalid value: 'pods/status': if 'pods/*' is present, must not specify "
		  "pods/status" },
		{ RULES(RULE("'*'", "'*/status','pods/status'")),
		  "webhooks[0].rules[0].resources[1]: Invalid value: 'pods/status': if '*/status' is present, must not "
		  "specify pods/status" },
		{ RULES(RULE("'*'", "'*/*','pods'")),
		  "webhooks[0].rules[0].resources: Invalid value: ['*/*','pods']: if '*/*' is present, must not specify other "
		  "resources" },
		{ RULES(RULE("'*'", "'*','pods'")),
		  "webhooks[0].rules[0].resources: Invalid value: ['*','pods']: if '*' is present, must not specify other "
		  "resources without subresources" },
	};

	check_all("MutatingWebhookConfiguration", cases, ARRAY_SIZE(cases));
}

static void test_validating_policies(void **state)
{
	static const struct text_case cases[] = {
		{ POLICY(MATCH "," VALIDATIONS), NULL },
		{ POLICY(MATCH ",'auditAnnotations':[{'key':'k','valueExpression':'1'}]"), NULL },
		{ POLICY(VALIDATIONS), "is invalid: spec.matchConstraints: Required value" },
		{ POLICY("'matchConstraints':{}," VALIDATIONS), "spec.matchConstraints.resourceRules: Required value" },
		{ POLICY(MATCH),
		  "[spec.validations: Required value: validations or auditAnnotations must contain at least one item, "
		  "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item]" },
		{ POLICY(MATCH ",'validations':[{'expression':' '}]"),
		  "spec.validations[0].expression: Required value: expression is not specified" },
		{ POLICY(MATCH ",'validations':[{'expression':'1','message':'a\\nb'}]"),
		  "spec.validations[0].message: Invalid value: 'a\\nb': message must not contain line breaks" },
		{ POLICY(MATCH ",'validations':[{'expression':'1','messageExpression':' '}]"),
		  "spec.validations[0].messageExpression: Invalid value: ' ': must be non-empty if specified" },
		{ POLICY(MATCH ",'validations':[{'expression':'1','reason':'No'}]"),
		  "spec.validations[0].reason: Unsupported value: 'No': supported values: 'Forbidden', 'Invalid', "
		  "'RequestEntityTooLarge'" },
		{ POLICY(MATCH "," VALIDATIONS ",'variables':[{'name':'in','expression':'1'}]"),
		  "spec.variables[0].name: Invalid value: 'in': name is not a valid CEL identifier" },
		{ POLICY(MATCH "," VALIDATIONS ",'variables':[{'name':'a','expression':''}]"),
		  "spec.variables[0].expression: Required value: expression is not specified" },
		{ POLICY(MATCH ",'auditAnnotations':[{'key':'a b','valueExpression':'1'}]"),
		  "spec.auditAnnotations[0].key: Invalid value: 'p/a b'" },
		{ POLICY(MATCH ",'auditAnnotations':[{'key':'a','valueExpression':''}]"),
		  "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified" },
		{ POLICY(MATCH "," VALIDATIONS ",'paramKind':{'apiVersion':'a/b/c'}"),
		  "[spec.paramKind.apiVersion: Invalid value: 'a/b/c': unexpected GroupVersion string: a/b/c, "
		  "spec.paramKind.kind: Required value]" },
		{ POLICY(MATCH "," VALIDATIONS ",'paramKind':{'apiVersion':'v1','kind':'Config_Map'}"),
		  "spec.paramKind.kind: Invalid value: 'Config_Map': may have mixed case, but should otherwise match: " },
		{ POLICY("'matchConstraints':{'resourceRules':[{'resourceNames':['a','a','b/c'],'operations':['PATCH'],"
			 "'apiGroups':[''],'apiVersions':['v1'],'resources':['pods']}]}," VALIDATIONS),
		  "[spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: 'a', "
		  "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value: 'b/c': may not contain '/', "
		  "spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value: 'PATCH': supported values: '*', "
		  "'CONNECT', 'CREATE', 'DELETE', 'UPDATE']" },
	};

	check_all("ValidatingAdmissionPolicy", cases, ARRAY_SIZE(cases));
}

static void test_mutating_policies(void **state)
{
	static const struct text_case cases[] = {
		{ POLICY(MATCH ",'reinvocationPolicy':'Never','mutations':[{'patchType':'JSONPatch','jsonPatch':{"
			       "'expression':'[]'}}]"),
		  NULL },
		{ POLICY(MATCH),
		  "[spec.mutations: Required value: mutations must contain at least one item, spec.reinvocationPolicy: "
		  "Required value]" },
		{ POLICY(MATCH
			 ",'reinvocationPolicy':'Never','mutations':[{'patchType':'JSONPatch','applyConfiguration':{"
			 "'expression':'1'}}]"),
		  "[spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch, "
		  "spec.mutations[0].applyConfiguration: Invalid value: '{applyConfiguration}': must not be specified when "
		  "patchType is JSONPatch]" },
		{ POLICY(MATCH ",'reinvocationPolicy':'Never','mutations':[{'patchType':'ApplyConfiguration',"
			       "'applyConfiguration':{'expression':' '}}]"),
		  "spec.mutations[0].applyConfiguration.expression: Required value" },
		{ POLICY("'matchConstraints':{'resourceRules':[" RULE(
			  "'DELETE'",
			  "'pods'") "]},'reinvocationPolicy':'Never','mutations':[{'patchType':'JSONPatch','jsonPatch':{"
				    "'expression':'[]'}}]"),
		  "spec.matchConstraints.resourceRules.operations: Unsupported value: 'DELETE': supported values: '*', "
		  "'CONNECT', 'CREATE', 'UPDATE'" },
	};

	check_all("MutatingAdmissionPolicy", cases, ARRAY_SIZE(cases));
}

static void test_bindings(void **state)
{
	static const struct text_case cases[] = {
		{ POLICY("'policyName':'p','validationActions':['Deny','Audit']"), NULL },
		{ POLICY("'policyName':'P','validationActions':['Deny']"), "spec.policyName: Invalid value: 'P'" },
		{ POLICY("'policyName':'p','validationActions':[]"),
		  "spec.validationActions: Required value: at least one validation action is required" },
		{ POLICY("'policyName':'p','validationActions':['Deny','Warn']"),
		  "spec.validationActions: Invalid value: ['Deny','Warn']: must not contain both Deny and Warn (repeating "
		  "the same" },
		{ POLICY("'policyName':'p','validationActions':['Deny','Deny']"),
		  "spec.validationActions[1]: Duplicate value: 'Deny'" },
		{ POLICY("'policyName':'p','validationActions':['Deny'],'paramRef':{}"),
		  "[spec.paramRef: Required value: one of name or selector must be specified, "
		  "spec.paramRef.parameterNotFoundAction: Required value]" },
		{ POLICY("'policyName':'p','validationActions':['Deny'],'paramRef':{'name':'a','selector':{},"
			 "'parameterNotFoundAction':'No'}"),
		  "[spec.paramRef.name: Forbidden: name and selector are mutually exclusive, spec.paramRef.selector: "
		  "Forbidden: name and selector are mutually exclusive, spec.paramRef.parameterNotFoundAction: Unsupported "
		  "value: 'No': supported values: 'Deny', 'Allow']" },
	};
	static const struct text_case mutating[] = {
		{ POLICY("'policyName':'p'"), NULL },
		{ POLICY(""), "spec.policyName: Required value" },
	};

	check_all("ValidatingAdmissionPolicyBinding", cases, ARRAY_SIZE(cases));
	check_all("MutatingAdmissionPolicyBinding", mutating, ARRAY_SIZE(mutating));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_webhooks),
		cmocka_unit_test(test_clients),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_validating_policies),
		cmocka_unit_test(test_mutating_policies),
		cmocka_unit_test(test_bindings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
