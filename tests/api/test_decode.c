/* SPDX-License-Identifier: Apache-2.0 */
/* From bodies to trees: types, unknown and duplicate fields, nulls, canonical values, limits, words of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "userspace/api/decode.h"
#include "userspace/base/mem.h"

static void expect(const struct api_kind *kind, enum decode_field_validation validation, const char *in,
		   const char *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *tree = NULL;
	struct str text;

	if (decode_text(&arena, kind, str_of(in), DECODE_JSON, validation, NULL, &tree, &err) < 0)
		fail_msg("%s", err_message(&err));
	text = json_text(&arena, tree);
	if (!str_is(text, out))
		fail_msg("got %.*s, want %s", STR_ARG(text), out);
}

static void expect_error(const struct api_kind *kind, enum decode_field_validation validation, const char *in,
			 const char *message)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *tree = NULL;

	assert_true(decode_text(&arena, kind, str_of(in), DECODE_JSON, validation, NULL, &tree, &err) < 0);
	assert_string_equal(err_message(&err), message);
	assert_int_equal(err.status, 400);
	assert_string_equal(err.reason, "BadRequest");
	assert_null(tree);
}

#define DEPLOYMENT "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\","
#define CONFIGMAP "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\","
#define CANNOT "Deployment in version \"v1\" cannot be handled as a Deployment: "

static void test_canonical(void **state)
{
	expect(KIND_DEPLOYMENT, DECODE_WARN,
	       DEPLOYMENT
	       "\"metadata\":{\"name\":\"x\",\"creationTimestamp\":null,\"labels\":{}},\"spec\":{\"replicas\":2,"
	       "\"template\":{\"spec\":{\"containers\":[{\"name\":\"a\",\"args\":[],\"resources\":{\"limits\":"
	       "{\"cpu\":0.5,\"memory\":\"1024Ki\"}}}],\"nodeSelector\":null}}}}",
	       DEPLOYMENT "\"metadata\":{\"name\":\"x\"},\"spec\":{\"replicas\":2,"
			  "\"template\":{\"spec\":{\"containers\":[{\"name\":\"a\",\"resources\":{\"limits\":"
			  "{\"cpu\":\"500m\",\"memory\":\"1Mi\"}}}]}}}}");
	/* Times: any zone in, seconds of UTC out; micro times keep their digits. */
	expect(KIND_LEASE, DECODE_WARN,
	       "{\"metadata\":{\"creationTimestamp\":\"2026-01-02T03:04:05.9+01:00\"},\"spec\":{\"renewTime\":"
	       "\"2026-01-02T03:04:05.123Z\"}}",
	       "{\"metadata\":{\"creationTimestamp\":\"2026-01-02T02:04:05Z\"},\"spec\":{\"renewTime\":"
	       "\"2026-01-02T03:04:05.123000Z\"},\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\"}");
	/* The last of duplicates wins; null elements are Go's zero values. */
	expect(KIND_CONFIGMAP, DECODE_IGNORE, CONFIGMAP "\"data\":{\"a\":\"1\",\"b\":null,\"a\":\"2\"},\"x\":1}",
	       CONFIGMAP "\"data\":{\"a\":\"2\",\"b\":\"\"}}");
	expect(KIND_SECRET, DECODE_WARN, "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"data\":{\"a\":\"YWJj\\nZA==\"}}",
	       "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"data\":{\"a\":\"YWJjZA==\"}}");
	/* Integers keep every digit; IntOrString both forms. */
	expect(KIND_SERVICE, DECODE_WARN,
	       "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"generation\":9007199254740993},\"spec\":"
	       "{\"ports\":[{\"port\":80,\"targetPort\":\"web\"},{\"port\":-0,\"targetPort\":8080}]}}",
	       "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"generation\":9007199254740993},\"spec\":"
	       "{\"ports\":[{\"port\":80,\"targetPort\":\"web\"},{\"port\":0,\"targetPort\":8080}]}}");
}

static void test_raw_survives(void **state)
{
	const struct api_kind *k = KIND_CONTROLLERREVISION;

	expect(k, DECODE_STRICT,
	       "{\"apiVersion\":\"apps/v1\",\"kind\":\"ControllerRevision\",\"data\":{\"a\":null,\"b\":[],\"c\":"
	       "12345678901234567890.1}}",
	       "{\"apiVersion\":\"apps/v1\",\"kind\":\"ControllerRevision\",\"data\":{\"a\":null,\"b\":[],\"c\":"
	       "12345678901234567890.1}}");
}

static void test_type_errors(void **state)
{
	expect_error(KIND_DEPLOYMENT, DECODE_WARN, DEPLOYMENT "\"spec\":{\"replicas\":\"3\"}}",
		     CANNOT
		     "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32");
	expect_error(KIND_DEPLOYMENT, DECODE_WARN, DEPLOYMENT "\"spec\":{\"replicas\":1.5}}",
		     CANNOT
		     "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type "
		     "int32");
	expect_error(KIND_DEPLOYMENT, DECODE_WARN, DEPLOYMENT "\"spec\":{\"replicas\":3000000000}}",
		     CANNOT
		     "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of "
		     "type int32");
	expect_error(KIND_DEPLOYMENT, DECODE_WARN,
		     DEPLOYMENT "\"spec\":{\"template\":{\"spec\":{\"containers\":{\"name\":\"x\"}}}}}",
		     CANNOT
		     "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of "
		     "type []v1.Container");
	expect_error(KIND_DEPLOYMENT, DECODE_WARN,
		     DEPLOYMENT
		     "\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"ports\":[{\"containerPort\":\"80\"}]}]}}}}",
		     CANNOT "json: cannot unmarshal string into Go struct field "
			    "ContainerPort.spec.template.spec.containers.ports.containerPort of type int32");
	expect_error(KIND_DEPLOYMENT, DECODE_WARN, DEPLOYMENT "\"metadata\":{\"labels\":{\"a\":1}}}",
		     CANNOT
		     "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string");
	expect_error(KIND_DEPLOYMENT, DECODE_WARN, DEPLOYMENT "\"metadata\":[]}",
		     CANNOT
		     "json: cannot unmarshal array into Go struct field Deployment.metadata of type v1.ObjectMeta");
	expect_error(KIND_SECRET, DECODE_WARN, "{\"data\":{\"a\":\"a*bc\"}}",
		     "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 1");
	expect_error(KIND_POD, DECODE_WARN, "{\"metadata\":{\"deletionTimestamp\":\"yesterday\"}}",
		     "Pod in version \"v1\" cannot be handled as a Pod: parsing time \"yesterday\" as "
		     "\"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"");
}

static void test_quantity_error(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *tree;

	assert_true(decode_text(&arena, KIND_POD,
				STR("{\"spec\":{\"containers\":[{\"resources\":{\"limits\":{\"cpu\":\"lots\"}}}]}}"),
				DECODE_JSON, DECODE_WARN, NULL, &tree, &err) < 0);
	assert_non_null(strstr(err_message(&err),
			       "Pod in version \"v1\" cannot be handled as a Pod: quantities must match the regular "
			       "expression"));
}

static void test_strict(void **state)
{
	const char *in = DEPLOYMENT "\"spec\":{\"foo\":1,\"replicas\":1,\"template\":{\"spec\":{\"containers\":"
				    "[{\"name\":\"a\"},{\"bar\":{}}]}}}}";

	expect_error(KIND_DEPLOYMENT, DECODE_STRICT, in,
		     CANNOT "strict decoding error: unknown field \"spec.foo\", unknown field "
			    "\"spec.template.spec.containers[1].bar\"");
	expect_error(KIND_DEPLOYMENT, DECODE_STRICT, DEPLOYMENT "\"spec\":{\"replicas\":1,\"replicas\":2}}",
		     CANNOT "strict decoding error: duplicate field \"spec.replicas\"");
	expect(KIND_DEPLOYMENT, DECODE_IGNORE, in,
	       DEPLOYMENT "\"spec\":{\"replicas\":1,\"template\":{\"spec\":{\"containers\":[{\"name\":\"a\"},{}]}}}}");
}

/* The body of upstream's own test of field validation, and what it says there. */
#define MANY_WRONGS                                                                                                    \
	DEPLOYMENT "\"metadata\":{\"name\":\"x\"},\"spec\":{\"unknown1\":\"v\",\"unknownDupe\":1,\"unknownDupe\":{},"  \
		   "\"paused\":true,\"paused\":false,\"template\":{\"spec\":{\"containers\":[{\"name\":\"n\","         \
		   "\"unknownNested\":{\"a\":1,\"a\":2},\"imagePullPolicy\":\"Always\",\"imagePullPolicy\":"           \
		   "\"Never\"}]}}}}"

static void test_strict_order(void **state)
{
	expect_error(KIND_DEPLOYMENT, DECODE_STRICT, MANY_WRONGS,
		     CANNOT "strict decoding error: unknown field \"spec.unknown1\", unknown field "
			    "\"spec.unknownDupe\", duplicate field \"spec.paused\", unknown field "
			    "\"spec.template.spec.containers[0].unknownNested\", duplicate field "
			    "\"spec.template.spec.containers[0].imagePullPolicy\"");
	/* Maps have members, too; what no schema describes is nobody's business. */
	expect_error(KIND_CONFIGMAP, DECODE_STRICT,
		     CONFIGMAP "\"metadata\":{\"labels\":{\"a\":\"1\",\"a\":\"2\"}},\"zz\":1}",
		     "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate "
		     "field \"metadata.labels.a\", unknown field \"zz\"");
	expect(KIND_CONTROLLERREVISION, DECODE_STRICT,
	       "{\"apiVersion\":\"apps/v1\",\"kind\":\"ControllerRevision\",\"data\":{\"a\":1,\"a\":{\"b\":1,\"b\":2}},"
	       "\"revision\":1}",
	       "{\"apiVersion\":\"apps/v1\",\"kind\":\"ControllerRevision\",\"data\":{\"a\":{\"b\":2}},\"revision\":1}");
}

static void test_warnings(void **state)
{
	static const char *const want[] = {
		"unknown field \"spec.unknown1\"",
		"unknown field \"spec.unknownDupe\"",
		"duplicate field \"spec.paused\"",
		"unknown field \"spec.template.spec.containers[0].unknownNested\"",
		"duplicate field \"spec.template.spec.containers[0].imagePullPolicy\"",
	};
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct decode_warnings warnings = { .n = 0 };
	struct json *tree;

	assert_int_equal(decode_text(&arena, KIND_DEPLOYMENT, STR(MANY_WRONGS), DECODE_JSON, DECODE_WARN, &warnings,
				     &tree, &err),
			 0);
	assert_int_equal(warnings.n, ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_string_equal(warnings.items[i].p, want[i]);
	assert_false(json_bool(json_at(tree, "spec.paused"), true));
	warnings.n = 0;
	assert_int_equal(decode_text(&arena, KIND_DEPLOYMENT, STR(MANY_WRONGS), DECODE_JSON, DECODE_IGNORE, &warnings,
				     &tree, &err),
			 0);
	assert_int_equal(warnings.n, 0);
}

static void test_many_unknown(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_(buf_finish) struct buf in = BUF_INIT;
	struct decode_warnings warnings = { .n = 0 };
	struct json *tree = NULL;

	buf_add_cstr(&in, "{");
	for (int i = 0; i < 100000; i++)
		buf_printf(&in, "\"x%d\":%d,", i, i);
	buf_add_cstr(&in, "\"data\":{\"a\":\"b\"}}");
	assert_int_equal(
		decode_text(&arena, KIND_CONFIGMAP, buf_str(&in), DECODE_JSON, DECODE_WARN, &warnings, &tree, NULL), 0);
	assert_int_equal(warnings.n, DECODE_WARNINGS_MAX);
	assert_int_equal(json_count(tree), 3);
}

static void test_type_meta(void **state)
{
	expect_error(KIND_POD, DECODE_WARN, "{\"apiVersion\":\"apps/v1\",\"kind\":\"Pod\"}",
		     "the API version in the data (apps/v1) does not match the expected API version (v1)");
	expect_error(
		KIND_POD, DECODE_WARN, "{\"apiVersion\":\"v1\",\"kind\":\"Service\"}",
		"Service in version \"v1\" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion");
	expect(KIND_POD, DECODE_WARN, "{}", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}");
}

/* Go's words, and the begin of the body. */
static void test_syntax_words(void **state)
{
#define UNRECOGNIZED                                                                                                   \
	"the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: "
	expect_error(KIND_POD, DECODE_WARN, "", UNRECOGNIZED "unexpected end of JSON input (<empty>)");
	expect_error(KIND_POD, DECODE_WARN, "{", UNRECOGNIZED "unexpected end of JSON input ({)");
	expect_error(KIND_POD, DECODE_WARN, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",}",
		     UNRECOGNIZED "invalid character '}' looking for beginning of object key string "
				  "({\"apiVersion\":\"v1\",\"kind\":\"Pod ...)");
	expect_error(KIND_POD, DECODE_WARN, "hello",
		     UNRECOGNIZED "invalid character 'h' looking for beginning of value (68656c6c6f)");
	expect_error(KIND_POD, DECODE_WARN, "{\"a\" 1}",
		     UNRECOGNIZED "invalid character '1' after object key ({\"a\" 1})");
	expect_error(KIND_POD, DECODE_WARN, "{\"a\":01}",
		     UNRECOGNIZED "invalid character '1' after object key:value pair ({\"a\":01})");
	expect_error(KIND_POD, DECODE_WARN, "{\"a\":trux}",
		     UNRECOGNIZED "invalid character 'x' in literal true (expecting 'e') ({\"a\":trux})");
	expect_error(KIND_POD, DECODE_WARN, "{\"a\":[1 2]}",
		     UNRECOGNIZED "invalid character '2' after array element ({\"a\":[1 2]})");
	expect_error(KIND_POD, DECODE_WARN, "{} {}",
		     UNRECOGNIZED "invalid character '{' after top-level value ({} {})");
	expect_error(KIND_POD, DECODE_WARN, "{\"a\":1.}",
		     UNRECOGNIZED "invalid character '}' after decimal point in numeric literal ({\"a\":1.})");
}

static void test_bad_text(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "null", "\"x\"", "{\"a\":}", "{} {}", "\xff" };
	_cleanup_(buf_finish) struct buf big = BUF_INIT;
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *tree;

		assert_int_equal(
			decode_text(&arena, KIND_POD, str_of(bad[i]), DECODE_JSON, DECODE_WARN, NULL, &tree, &err),
			-EINVAL);
		assert_int_equal(err.status, 400);
	}
	{
		_cleanup_err_ struct err err = ERR_INIT;
		struct json *tree;

		buf_reserve(&big, DECODE_BYTES_MAX + 1);
		memset(big.data, ' ', DECODE_BYTES_MAX + 1);
		buf_commit(&big, DECODE_BYTES_MAX + 1);
		assert_int_equal(
			decode_text(&arena, KIND_POD, buf_str(&big), DECODE_JSON, DECODE_WARN, NULL, &tree, &err),
			-E2BIG);
		assert_int_equal(err.status, 413);
		assert_string_equal(err.reason, "RequestEntityTooLarge");
	}
}

#define YAML_WRONGS                                                                                                    \
	"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: x\nspec:\n  unknown1: v\n  unknownDupe: 1\n"        \
	"  unknownDupe: 2\n  paused: true\n  paused: false\n  template:\n    spec:\n      containers:\n"               \
	"      - name: web\n        unknownNested: v\n        imagePullPolicy: Always\n        imagePullPolicy: Never\n"

static void yaml_error(const char *in, const char *message)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *tree;

	assert_true(decode_text(&arena, KIND_DEPLOYMENT, str_of(in), DECODE_YAML, DECODE_STRICT, NULL, &tree, &err) <
		    0);
	assert_string_equal(err_message(&err), message);
	assert_int_equal(err.status, 400);
}

static void test_yaml(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct decode_warnings warnings = { .n = 0 };
	struct json *tree = NULL;

	assert_int_equal(decode_text(&arena, KIND_CONFIGMAP,
				     STR("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  a: \"1\"\n"),
				     DECODE_YAML, DECODE_STRICT, NULL, &tree, NULL),
			 0);
	assert_true(str_is(json_at_str(tree, "data.a"), "1"));
	assert_int_equal(decode_text(&arena, KIND_CONFIGMAP, STR("data:\n  a: 1\n"), DECODE_YAML, DECODE_WARN, NULL,
				     &tree, NULL),
			 -EINVAL);
	/* Lines first, then unknown fields as maps have them. */
	yaml_error(YAML_WRONGS, CANNOT
		   "strict decoding error: yaml: unmarshal errors:\n  line 8: key \"unknownDupe\" already set in "
		   "map\n  line 10: key \"paused\" already set in map\n  line 17: key \"imagePullPolicy\" already "
		   "set in map, unknown field \"spec.template.spec.containers[0].unknownNested\", unknown field "
		   "\"spec.unknown1\", unknown field \"spec.unknownDupe\"");
	assert_int_equal(decode_text(&arena, KIND_DEPLOYMENT, STR(YAML_WRONGS), DECODE_YAML, DECODE_WARN, &warnings,
				     &tree, &err),
			 0);
	assert_int_equal(warnings.n, 6);
	assert_string_equal(warnings.items[1].p, "line 10: key \"paused\" already set in map");
	assert_string_equal(warnings.items[5].p, "unknown field \"spec.unknownDupe\"");
	assert_false(json_bool(json_at(tree, "spec.paused"), true));
	/* Quantities and counts as they were written. */
	assert_int_equal(decode_text(&arena, KIND_DEPLOYMENT,
				     STR("spec:\n  replicas: 0x10\n  template:\n    spec:\n      containers:\n      - "
					 "name: web\n        resources: {limits: {cpu: 0.1, memory: 1e3}}\n"),
				     DECODE_YAML, DECODE_STRICT, NULL, &tree, NULL),
			 0);
	assert_int_equal(json_at_int(tree, "spec.replicas", 0), 16);
	tree = json_at(json_index(json_at(tree, "spec.template.spec.containers"), 0), "resources.limits");
	assert_true(str_is(json_get_str(tree, "cpu"), "100m"));
	assert_true(str_is(json_get_str(tree, "memory"), "1e3") || str_is(json_get_str(tree, "memory"), "1k"));
}

static void test_message(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	const struct api_message *m = api_message_by_name(STR("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"));
	struct json *tree = NULL;

	assert_int_equal(decode_parse(&arena, NULL,
				      STR("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"gracePeriodSeconds\":5,"
					  "\"zzz\":1}"),
				      DECODE_JSON, DECODE_WARN, NULL, &tree, &err),
			 0);
	assert_int_equal(decode_message(&arena, m, "DeleteOptions", tree, DECODE_WARN, NULL, &err), 0);
	assert_int_equal(json_get_int(tree, "gracePeriodSeconds", -1), 5);
	assert_null(json_get(tree, "zzz"));
}

static void test_validation_parameter(void **state)
{
	enum decode_field_validation v;

	_cleanup_err_ struct err err = ERR_INIT;
	const struct str twice[] = { STR("All"), STR("x") };
	bool dry = false;

	assert_int_equal(decode_parse_field_validation(STR(""), "CreateOptions", &v, NULL), 0);
	assert_int_equal(v, DECODE_WARN);
	assert_int_equal(decode_parse_field_validation(STR("Strict"), "CreateOptions", &v, NULL), 0);
	assert_int_equal(v, DECODE_STRICT);
	assert_int_equal(decode_parse_field_validation(STR("strict"), "CreateOptions", &v, &err), -EINVAL);
	assert_string_equal(err_message(&err),
			    "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported "
			    "value: \"strict\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"");
	assert_int_equal(err.status, 422);
	assert_string_equal(err.causes[0].reason, "FieldValueNotSupported");
	assert_int_equal(decode_parse_dry_run(twice, 1, "PatchOptions", &dry, &err), 0);
	assert_true(dry);
	assert_int_equal(decode_parse_dry_run(twice, 2, "PatchOptions", &dry, &err), -EINVAL);
	assert_string_equal(err_message(&err), "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: "
					       "[]string{\"All\", \"x\"}: supported values: \"All\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_canonical),    cmocka_unit_test(test_raw_survives),
		cmocka_unit_test(test_type_errors),  cmocka_unit_test(test_quantity_error),
		cmocka_unit_test(test_strict),       cmocka_unit_test(test_strict_order),
		cmocka_unit_test(test_warnings),     cmocka_unit_test(test_many_unknown),
		cmocka_unit_test(test_type_meta),    cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_syntax_words), cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_message),      cmocka_unit_test(test_validation_parameter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
