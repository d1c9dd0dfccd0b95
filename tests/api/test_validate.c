/* SPDX-License-Identifier: Apache-2.0 */
/* Field errors and the schema's checks, in the words that clients know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "userspace/api/decode.h"
#include "userspace/api/validate.h"
#include "userspace/base/mem.h"

static struct json *parse(struct arena *arena, const struct api_kind *kind, const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (!text)
		return NULL;
	if (decode_text(arena, kind, str_of(text), DECODE_JSON, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s", err_message(&err));
	return v;
}

/* `message` NULL: valid. */
static void expect_update(const struct api_kind *kind, const char *text, const char *old, const char *message)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	struct json *v = parse(&arena, kind, text);
	int r;

	validate_object(kind, v, parse(&arena, kind, old), &e);
	r = field_errors_result(&e, kind, json_at_str(v, "metadata.name"), &err);
	if (!message) {
		if (r < 0)
			fail_msg("%s", err_message(&err));
		return;
	}
	assert_int_equal(r, -EINVAL);
	assert_string_equal(err_message(&err), message);
	assert_int_equal(err.status, 422);
	assert_string_equal(err.reason, "Invalid");
	assert_string_equal(err.details_kind, kind->kind);
}

static void expect(const struct api_kind *kind, const char *text, const char *message)
{
	expect_update(kind, text, NULL, message);
}

#define META "\"metadata\":{\"name\":\"x\",\"namespace\":\"d\"}"
#define TEMPLATE "\"template\":{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"i\"}]}}"

static void test_field_errors(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	static const char *const supported[] = { "A", "B", NULL };
	const struct field_path *spec = FIELD(NULL, "spec"), *item = FIELD_INDEX(FIELD(spec, "ports"), 3);

	field_required(&e, FIELD(item, "port"), NULL);
	field_required(&e, FIELD(item, "port"), NULL); /* said once */
	field_required(&e, spec, "because %d", 7);
	field_not_supported(&e, FIELD(spec, "type"), STR("C\"x"), supported);
	field_too_long(&e, FIELD_KEY(FIELD(spec, "map"), STR("k.io/a")), 63);
	field_duplicate_str(&e, item, STR("a"));
	field_forbidden(&e, spec, NULL);
	field_invalid_int(&e, spec, -1, "must be %s", "positive");
	field_too_many(&e, spec, 5, 3);
	field_not_found(&e, spec, STR("y"));
	assert_int_equal(field_errors_result(&e, KIND_DEPLOYMENT, STR("x"), &err), -EINVAL);
	assert_string_equal(
		err_message(&err),
		"Deployment.apps \"x\" is invalid: [spec.ports[3].port: Required value, spec: Required value: "
		"because 7, spec.type: Unsupported value: \"C\\\"x\": supported values: \"A\", \"B\", "
		"spec.map[k.io/a]: Too long: may not be more than 63 bytes, spec.ports[3]: Duplicate value: \"a\", "
		"spec: Forbidden, spec: Invalid value: -1: must be positive, spec: Too many: 5: must have at most 3 "
		"items, spec: Not found: \"y\"]");
	assert_int_equal(err.n_causes, 10);
	assert_string_equal(err.causes[0].reason, "FieldValueRequired");
	assert_string_equal(err.causes[0].field, "spec.ports[3].port");
	assert_string_equal(err.causes[0].message, "Required value");
	assert_int_equal(e.n, 0);
	assert_int_equal(field_errors_result(&e, KIND_DEPLOYMENT, STR("x"), &err), 0);
}

static void test_many_errors(void **state)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;

	for (size_t i = 0; i < 10000; i++)
		field_required(&e, FIELD_INDEX(FIELD(NULL, "a"), i), NULL);
	assert_int_equal(e.n, 10000);
	assert_int_equal(field_errors_result(&e, KIND_POD, STR("x"), &err), -EINVAL);
	assert_int_equal(err.n_causes, ERR_CAUSES_MAX);
}

static void test_long_path(void **state)
{
	char text[FIELD_PATH_MAX], name[400];
	struct field_path frames[8];

	memset(name, 'a', sizeof(name));
	for (size_t i = 0; i < 8; i++)
		frames[i] =
			(struct field_path){ .up = i ? &frames[i - 1] : NULL, .name = str_make(name, sizeof(name)) };
	assert_int_equal(field_path_render(&frames[7], text), FIELD_PATH_MAX - 1);
	assert_int_equal(field_path_render(NULL, text), 5);
}

static void test_presence(void **state)
{
	expect(KIND_DEPLOYMENT, "{" META ",\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}}," TEMPLATE "}}",
	       NULL);
	expect(KIND_DEPLOYMENT, "{" META ",\"spec\":{" TEMPLATE "}}",
	       "Deployment.apps \"x\" is invalid: spec.selector: Required value");
	expect(KIND_DEPLOYMENT, "{" META ",\"spec\":{\"selector\":{},\"template\":{\"spec\":{\"containers\":[{}]}}}}",
	       "Deployment.apps \"x\" is invalid: spec.template.spec.containers[0].name: Required value");
	expect(KIND_DEPLOYMENT, "{" META ",\"spec\":{\"selector\":{},\"template\":{\"spec\":{}}}}",
	       "Deployment.apps \"x\" is invalid: spec.template.spec.containers: Required value");
	/* The status is nobody's business here. */
	expect(KIND_POD,
	       "{" META
	       ",\"spec\":{\"containers\":[{\"name\":\"a\"}]},\"status\":{\"conditions\":[{}],\"phase\":\"Odd\"}}",
	       NULL);
}

static void test_leaves(void **state)
{
	expect(KIND_POD, "{" META ",\"spec\":{\"restartPolicy\":\"Sometimes\",\"containers\":[{\"name\":\"A_\"}]}}",
	       "Pod \"x\" is invalid: [spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: "
	       "\"Always\", "
	       "\"OnFailure\", \"Never\", spec.containers[0].name: Invalid value: \"A_\": a lowercase RFC 1123 label "
	       "must "
	       "consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
	       "character (e.g. 'my-name',  or '123-abc', regex used for validation is "
	       "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')]");
	expect(KIND_DEPLOYMENT, "{" META ",\"spec\":{\"replicas\":-1,\"selector\":{}," TEMPLATE "}}",
	       "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to "
	       "0");
	expect(KIND_SERVICE, "{" META ",\"spec\":{\"ports\":[{\"name\":\"a\",\"port\":80},{}]}}",
	       "Service \"x\" is invalid: spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, "
	       "inclusive");
	expect(KIND_POD,
	       "{" META
	       ",\"spec\":{\"containers\":[{\"name\":\"a\"}],\"volumes\":[{\"name\":\"v\",\"secret\":{\"defaultMode\":"
	       "512}}]}}",
	       "Pod \"x\" is invalid: spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between "
	       "0 "
	       "and 0777 (octal), both inclusive");
}

static void test_unique(void **state)
{
	expect(KIND_POD, "{" META ",\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"a\"}]}}",
	       "Pod \"x\" is invalid: spec.containers[2].name: Duplicate value: \"a\"");
}

static void test_selectors(void **state)
{
	expect(KIND_DEPLOYMENT,
	       "{" META ",\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"-\"},\"matchExpressions\":[{\"key\":\"a\","
	       "\"operator\":"
	       "\"In\"},{\"key\":\"b\",\"operator\":\"Exists\",\"values\":[\"x\"]},{\"key\":\"c\",\"operator\":"
	       "\"Like\"}]}," TEMPLATE "}}",
	       "Deployment.apps \"x\" is invalid: [spec.selector.matchLabels: Invalid value: \"-\": a valid label must "
	       "be an "
	       "empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
	       "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
	       "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), spec.selector.matchExpressions[0].values: Required "
	       "value: "
	       "must be specified when `operator` is 'In' or 'NotIn', spec.selector.matchExpressions[1].values: "
	       "Forbidden: "
	       "may not be specified when `operator` is 'Exists' or 'DoesNotExist', "
	       "spec.selector.matchExpressions[2].operator: Invalid value: \"Like\": not a valid selector operator]");
}

static void test_immutable(void **state)
{
#define DEPLOY(selector) "{" META ",\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"" selector "\"}}," TEMPLATE "}}"
	expect_update(KIND_DEPLOYMENT, DEPLOY("b"), DEPLOY("b"), NULL);
	expect_update(KIND_DEPLOYMENT, DEPLOY("c"), DEPLOY("b"),
		      "Deployment.apps \"x\" is invalid: spec.selector: Invalid value: "
		      "{\"matchLabels\":{\"a\":\"c\"}}: field "
		      "is immutable");
	expect_update(KIND_CONFIGMAP, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\",\"uid\":\"1\"}}",
		      "{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\",\"uid\":\"2\"}}",
		      "ConfigMap \"x\" is invalid: metadata.uid: Invalid value: \"1\": field is immutable");
}

static void test_metadata(void **state)
{
	expect(KIND_CONFIGMAP, "{\"metadata\":{\"namespace\":\"d\"}}",
	       "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required");
	expect(KIND_CONFIGMAP, "{\"metadata\":{\"name\":\"x\"}}",
	       "ConfigMap \"x\" is invalid: metadata.namespace: Required value");
	expect(KIND_NAMESPACE, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\"}}",
	       "Namespace \"x\" is invalid: metadata.namespace: Forbidden: not allowed on this type");
	expect(KIND_NAMESPACE, "{\"metadata\":{\"name\":\"a.b\"}}",
	       "Namespace \"a.b\" is invalid: metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label must "
	       "consist "
	       "of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character "
	       "(e.g. "
	       "'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
	expect(KIND_CONFIGMAP, "{\"metadata\":{\"name\":\"a.b\",\"namespace\":\"d\",\"generateName\":\"a-\"}}", NULL);
	expect(KIND_CONFIGMAP,
	       "{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\",\"finalizers\":[\"mine\"],\"ownerReferences\":[{"
	       "\"apiVersion\":"
	       "\"v1\",\"kind\":\"Pod\",\"name\":\"p\"}]}}",
	       "ConfigMap \"x\" is invalid: [metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty, "
	       "metadata.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it "
	       "fully "
	       "qualified]");
	expect_update(
		KIND_CONFIGMAP,
		"{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\",\"finalizers\":[\"a/b\",\"a/"
		"c\"],\"deletionTimestamp\":"
		"\"2026-01-01T00:00:00Z\"}}",
		"{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\",\"finalizers\":[\"a/b\"],\"deletionTimestamp\":"
		"\"2026-01-01T00:00:00Z\"}}",
		"ConfigMap \"x\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the "
		"object is being deleted, found new finalizers []string{\"a/c\"}");
}

static void test_annotations(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;
	struct json *annotations = json_new_object(&arena);
	char *big = arena_alloc(&arena, VALIDATE_ANNOTATIONS_BYTES_MAX);

	memset(big, 'x', VALIDATE_ANNOTATIONS_BYTES_MAX);
	json_set_str(&arena, annotations, "a", str_make(big, VALIDATE_ANNOTATIONS_BYTES_MAX - 1));
	validate_annotations(annotations, FIELD(NULL, "metadata"), &e);
	assert_int_equal(e.n, 0);
	json_set_str(&arena, annotations, "B.io/C", STR("x")); /* keys are checked without regard to case */
	validate_annotations(annotations, FIELD(NULL, "metadata"), &e);
	assert_int_equal(e.n, 1);
}

static void test_formats(void **state)
{
	static const struct {
		const char *format, *text;
		bool good;
	} cases[] = {
		{ "dns1123label", "a-1", true },
		{ "dns1123label", "", false },
		{ "dns1123label", "-a", false },
		{ "dns1123label", "a.b", false },
		{ "dns1123subdomain", "a.b-c.d", true },
		{ "dns1123subdomain", "a..b", false },
		{ "dns1123subdomain", ".a", false },
		{ "dns1123subdomain", "A", false },
		{ "dns1035label", "a1", true },
		{ "dns1035label", "1a", false },
		{ "pathSegment", "a:b", true },
		{ "pathSegment", "..", false },
		{ "pathSegment", "a/b", false },
		{ "pathSegment", "a%b", false },
		{ "qualifiedName", "a.io/b_C", true },
		{ "qualifiedName", "b", true },
		{ "qualifiedName", "/b", false },
		{ "qualifiedName", "a/", false },
		{ "qualifiedName", "A/b", false },
		{ "qualifiedName", "a/b/c", false },
		{ "labelValue", "", true },
		{ "labelValue", "a b", false },
		{ "configMapKey", ".a", true },
		{ "configMapKey", "..a", false },
		{ "configMapKey", "", false },
		{ "configMapKey", "a/b", false },
		{ "envName", "A B", true },
		{ "envName", "A=B", false },
		{ "envName", "", false },
		{ "portName", "web-1", true },
		{ "portName", "1-2", false },
		{ "portName", "a--b", false },
		{ "portName", "abcdefghijklmnop", false },
		{ "ip", "10.0.0.1", true },
		{ "ip", "10.0.0.01", false },
		{ "ip", "fe80::1", true },
		{ "cidr", "10.0.0.0/8", true },
		{ "cidr", "10.0.0.0/33", false },
		{ "cidr", "10.0.0.0", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (!validate_format(cases[i].format, str_of(cases[i].text)) != cases[i].good)
			fail_msg("%s %s", cases[i].format, cases[i].text);
	assert_non_null(
		validate_dns1123_label(STR("0123456789012345678901234567890123456789012345678901234567890123")));
}

/* The data files name only formats that exist (validate_format() aborts otherwise). */
static void test_formats_of_data(void **state)
{
	size_t n = 0;

	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_message *m = api_kind_at(i)->message;

		for (size_t j = 0; j < m->n_fields; j++) {
			const struct api_message *sub = m->fields[j].ref;

			for (size_t k = 0; sub && k < sub->n_fields; k++) {
				if (!sub->fields[k].format)
					continue;
				validate_format(sub->fields[k].format, STR("x"));
				n++;
			}
		}
	}
	assert_true(n > 5);
}

static void test_generate_name(void **state)
{
	_cleanup_field_errors_ struct field_errors e = FIELD_ERRORS_INIT;

	validate_name(KIND_POD, STR("web-"), true, FIELD(NULL, "metadata.generateName"), &e);
	validate_name(KIND_IPADDRESS, STR("10.0.0.1"), false, FIELD(NULL, "metadata.name"), &e);
	assert_int_equal(e.n, 0);
	validate_name(KIND_POD, STR("web-"), false, FIELD(NULL, "metadata.name"), &e);
	validate_name(KIND_IPADDRESS, STR("FE80::1"), false, FIELD(NULL, "metadata.name"), &e);
	validate_name(KIND_SERVICE, STR("1a"), false, FIELD(NULL, "metadata.name"), &e);
	assert_int_equal(e.n, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_field_errors),  cmocka_unit_test(test_many_errors),
		cmocka_unit_test(test_long_path),     cmocka_unit_test(test_presence),
		cmocka_unit_test(test_leaves),        cmocka_unit_test(test_unique),
		cmocka_unit_test(test_selectors),     cmocka_unit_test(test_immutable),
		cmocka_unit_test(test_metadata),      cmocka_unit_test(test_annotations),
		cmocka_unit_test(test_formats),       cmocka_unit_test(test_formats_of_data),
		cmocka_unit_test(test_generate_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
