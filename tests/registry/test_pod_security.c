/* SPDX-License-Identifier: Apache-2.0 */
/* PodSecurity as requests meet it: refusals, warnings, audit lines, labels of namespaces. */
#include "tests/registry/registry_fixture.h"
#include "userspace/registry/admission/pod_security_config.h"

#define LABELS(labels) "{\"metadata\":{\"name\":\"n\",\"labels\":{" labels "}}}"
#define ENFORCE(level) "\"pod-security.kubernetes.io/enforce\":\"" level "\""
#define WARN(level) "\"pod-security.kubernetes.io/warn\":\"" level "\""
#define AUDIT(level) "\"pod-security.kubernetes.io/audit\":\"" level "\""
#define PLAIN "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]"
#define POD(name, spec) "{\"metadata\":{\"name\":\"" name "\"},\"spec\":{" spec "}}"
#define TEMPLATE                                                                                                       \
	"\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},"          \
	"\"spec\":{\"hostPID\":true," PLAIN "}}"

static const char RESTRICTED_WORDS[] =
	"allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), "
	"unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), "
	"runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), "
	"seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or "
	"\"Localhost\")";

static void namespace_with(struct fixture *f, const char *body)
{
	fixture_do(f, API_VERB_CREATE, KIND_NAMESPACE, "", "", body);
	fixture_expect(f, 201, "namespace");
	fixture_do(f, API_VERB_CREATE, KIND_SERVICEACCOUNT, "n", "", "{\"metadata\":{\"name\":\"default\"}}");
	fixture_expect(f, 201, "account");
}

static int relabel(struct fixture *f, const char *patch)
{
	struct request rq = fixture_request(API_VERB_PATCH, KIND_NAMESPACE, "", "n", patch);

	rq.patch = REQUEST_PATCH_MERGE;
	return fixture_run(f, &rq);
}

static int pod(struct fixture *f, const char *body)
{
	return fixture_do(f, API_VERB_CREATE, KIND_POD, "n", "", body);
}

static void test_enforce(void **state)
{
	struct fixture *f = *state;
	char expected[1024];

	namespace_with(f, LABELS(ENFORCE("restricted")));
	assert_int_equal(pod(f, POD("x", PLAIN)), 403);
	snprintf(expected, sizeof(expected), "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": %s",
		 RESTRICTED_WORDS);
	assert_string_equal(f->message, expected);
	assert_string_equal(f->reason, "Forbidden");
	assert_int_equal(pod(f, "{\"metadata\":{\"generateName\":\"g-\"},\"spec\":{\"hostPID\":true," PLAIN "}}"), 403);
	assert_non_null(strstr(f->message, "pods \"g-"));
	pod(f, POD("y",
		   "\"securityContext\":{\"runAsNonRoot\":true,\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},"
		   "\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"securityContext\":{\"allowPrivilegeEscalation\":"
		   "false,\"capabilities\":{\"drop\":[\"ALL\"]}}}]"));
	fixture_expect(f, 201, "a good pod");
	assert_string_equal(f->warnings, "");
}

/* Controllers are trusted with what they may do, not with what pods may be. */
static void test_pods_of_controllers(void **state)
{
	struct fixture *f = *state;
	struct json *tree;
	char body[] = "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\"},\"spec\":{\"hostNetwork\":true," PLAIN "}}";

	namespace_with(f, LABELS(ENFORCE("baseline") ",\"pod-security.kubernetes.io/enforce-version\":\"v1.30\""));
	fixture_clear(f);
	assert_int_equal(json_parse(&f->arena, str_of(body), 0, &tree, NULL), 0);
	registry_create(f->reg, KIND_POD, tree, fixture_simple, f);
	fixture_wait(f);
	assert_int_equal(f->status, 403);
	assert_string_equal(f->message,
			    "pods \"x\" is forbidden: violates PodSecurity \"baseline:v1.30\": host namespaces "
			    "(hostNetwork=true)");
}

static void test_warn(void **state)
{
	struct fixture *f = *state;

	namespace_with(f, LABELS(WARN("baseline")));
	pod(f, POD("x", "\"hostPID\":true," PLAIN));
	fixture_expect(f, 201, "pod");
	assert_string_equal(f->warnings,
			    "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true);");
	pod(f, POD("y", PLAIN));
	fixture_expect(f, 201, "pod");
	assert_string_equal(f->warnings, "");
	fixture_do(f, API_VERB_CREATE, KIND_DEPLOYMENT, "n", "",
		   "{\"metadata\":{\"name\":\"d\"},\"spec\":{" TEMPLATE "}}");
	fixture_expect(f, 201, "deployment");
	assert_string_equal(f->warnings,
			    "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true);");
	fixture_do(f, API_VERB_CREATE, KIND_CRONJOB, "n", "",
		   "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"schedule\":\"1 * * * *\",\"jobTemplate\":{\"spec\":{"
		   "\"template\":{\"spec\":{\"restartPolicy\":\"Never\",\"hostPID\":true," PLAIN "}}}}}}");
	fixture_expect(f, 201, "cronjob");
	assert_non_null(strstr(f->warnings, "would violate PodSecurity \"baseline:latest\""));
	fixture_do(f, API_VERB_CREATE, KIND_JOB, "n", "",
		   "{\"metadata\":{\"name\":\"j\"},\"spec\":{\"template\":{\"spec\":{\"restartPolicy\":\"Never\","
		   "\"hostIPC\":true," PLAIN "}}}}");
	fixture_expect(f, 201, "job");
	assert_non_null(strstr(f->warnings, "host namespaces (hostIPC=true)"));
}

/* What is enforced is for pods; a workload is only told. */
static void test_enforce_leaves_workloads(void **state)
{
	struct fixture *f = *state;

	namespace_with(f, LABELS(ENFORCE("restricted")));
	fixture_do(f, API_VERB_CREATE, KIND_DEPLOYMENT, "n", "",
		   "{\"metadata\":{\"name\":\"d\"},\"spec\":{" TEMPLATE "}}");
	fixture_expect(f, 201, "deployment");
	assert_string_equal(f->warnings, "");
}

struct seen {
	struct fixture *f;
	char annotations[2048];
};

static void annotations_of(void *arg, const struct request_result *r, const struct err *err)
{
	struct seen *s = arg;

	for (size_t i = 0; r && i < r->n_annotations; i++)
		snprintf(s->annotations + strlen(s->annotations), sizeof(s->annotations) - strlen(s->annotations),
			 "%.*s=%.*s;", STR_ARG(r->annotations[i].key), STR_ARG(r->annotations[i].value));
	fixture_answer(s->f, r, err);
}

static void test_audit(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_CREATE, KIND_POD, "n", "", POD("x", "\"hostPID\":true," PLAIN));
	struct seen seen = { .f = f };

	namespace_with(f, LABELS(AUDIT("baseline")));
	fixture_clear(f);
	request_run(f->reg, &rq, annotations_of, &seen);
	fixture_wait(f);
	fixture_expect(f, 201, "pod");
	assert_string_equal(f->warnings, "");
	assert_string_equal(
		seen.annotations,
		"pod-security.kubernetes.io/enforce-policy=privileged:latest;"
		"pod-security.kubernetes.io/audit-violations=would violate PodSecurity \"baseline:latest\": host "
		"namespaces (hostPID=true);");
}

/* What was said about a write that is refused is not lost with it. */
static void test_audit_of_refusals(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_CREATE, KIND_POD, "n", "",
					    POD("x", "\"hostPID\":true,\"unheardOf\":1," PLAIN));
	struct seen seen = { .f = f };

	namespace_with(f, LABELS(ENFORCE("baseline")));
	rq.field_validation = DECODE_WARN;
	fixture_clear(f);
	request_run(f->reg, &rq, annotations_of, &seen);
	fixture_wait(f);
	fixture_expect(f, 403, "pod");
	assert_string_equal(f->warnings, "unknown field \"spec.unheardOf\";");
	assert_string_equal(seen.annotations, "pod-security.kubernetes.io/enforce-policy=baseline:latest;");
}

/* An update is only looked at when it brings containers or images. */
static void test_updates(void **state)
{
	struct fixture *f = *state;
	struct request rq =
		fixture_request(API_VERB_PATCH, KIND_POD, "n", "x", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");

	namespace_with(f, LABELS(""));
	pod(f, POD("x", "\"hostPID\":true," PLAIN));
	fixture_expect(f, 201, "pod");
	assert_int_equal(relabel(f, "{\"metadata\":{\"labels\":{" ENFORCE("baseline") "}}}"), 200);
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "a label");
	rq.patch = REQUEST_PATCH_STRATEGIC;
	rq.body = STR("{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"other\"}]}}");
	assert_int_equal(fixture_run(f, &rq), 403);
	assert_string_equal(f->message,
			    "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces "
			    "(hostPID=true)");
	rq.body = STR("{\"status\":{\"phase\":\"Running\"}}");
	rq.subresource = "status";
	fixture_run(f, &rq);
	fixture_expect(f, 200, "status");
}

static void test_ephemeral_containers(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_PATCH, KIND_POD, "n", "x",
					    "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"e\",\"image\":\"i\","
					    "\"securityContext\":{\"privileged\":true}}]}}");

	namespace_with(f, LABELS(ENFORCE("baseline")));
	pod(f, POD("x", PLAIN));
	fixture_expect(f, 201, "pod");
	rq.patch = REQUEST_PATCH_STRATEGIC;
	rq.subresource = "ephemeralcontainers";
	assert_int_equal(fixture_run(f, &rq), 403);
	assert_string_equal(f->message, "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": privileged "
					"(container \"e\" must not set securityContext.privileged=true)");
	rq.body = STR("{\"spec\":{\"ephemeralContainers\":[{\"name\":\"e\",\"image\":\"i\"}]}}");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "a harmless one");
}

static void test_labels_of_namespaces(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fixture_do(f, API_VERB_CREATE, KIND_NAMESPACE, "", "", LABELS(ENFORCE("high"))), 422);
	assert_string_equal(f->message,
			    "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: "
			    "Invalid value: \"high\": must be one of privileged, baseline, restricted");
	namespace_with(f, LABELS(""));
	assert_int_equal(
		relabel(f, "{\"metadata\":{\"labels\":{\"pod-security.kubernetes.io/warn-version\":\"1.30\"}}}"), 422);
	assert_string_equal(
		f->message,
		"Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid "
		"value: \"1.30\": must be \"latest\" or \"v1.x\"");
}

static void test_existing_pods(void **state)
{
	struct fixture *f = *state;

	namespace_with(f, LABELS(""));
	pod(f, POD("c", "\"hostPID\":true," PLAIN));
	pod(f, POD("b", "\"hostPID\":true," PLAIN));
	pod(f, POD("a", "\"hostPID\":true," PLAIN));
	pod(f, POD("d", "\"hostNetwork\":true,\"volumes\":[{\"name\":\"v\",\"hostPath\":{\"path\":\"/\"}}]," PLAIN));
	pod(f, POD("e", PLAIN));
	fixture_expect(f, 201, "pod");
	assert_int_equal(relabel(f, "{\"metadata\":{\"labels\":{" ENFORCE("baseline") "}}}"), 200);
	assert_string_equal(
		f->warnings,
		"existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\";"
		"a (and 2 other pods): host namespaces;d: host namespaces, hostPath volumes;");
	/* The same again, and less, say nothing. */
	assert_int_equal(relabel(f, "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}"), 200);
	assert_string_equal(f->warnings, "");
	assert_int_equal(relabel(f, "{\"metadata\":{\"labels\":{" ENFORCE("privileged") "}}}"), 200);
	assert_string_equal(f->warnings, "");
	assert_int_equal(relabel(f, "{\"metadata\":{\"labels\":{" WARN("restricted") "}}}"), 200);
	assert_string_equal(f->warnings, "");
	assert_int_equal(
		relabel(f, "{\"metadata\":{\"labels\":{" ENFORCE(
				   "restricted") ",\"pod-security.kubernetes.io/enforce-version\":\"v1.7\"}}}"),
		200);
	assert_string_equal(
		f->warnings,
		"existing pods in namespace \"n\" violate the new PodSecurity enforce level \"restricted:v1.7\";"
		"a (and 2 other pods): host namespaces, runAsNonRoot != true;"
		"d: host namespaces, restricted volume types, runAsNonRoot != true;"
		"e: runAsNonRoot != true;");
}

/* ---- what the administrator configures ---- */

#define CONFIGURATION(inner)                                                                                           \
	"apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n"        \
	"  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n"                                  \
	"    kind: PodSecurityConfiguration\n" inner

static void test_configured(void **state)
{
	static const char text[] =
		CONFIGURATION("    defaults: {enforce: baseline, enforce-version: v1.30, warn: restricted}\n"
			      "    exemptions: {usernames: [tester], namespaces: [free], runtimeClasses: [sandbox]}\n");
	struct fixture *f = *state;
	const struct request_user other = { .name = STR("other") }, *user = &other;
	struct request rq = fixture_request(API_VERB_CREATE, KIND_POD, "n", "", POD("x", "\"hostPID\":true," PLAIN));
	struct seen seen = { .f = f };
	struct pod_security_config *config;

	assert_int_equal(pod_security_config_parse(STR(text), "/", &config, NULL), 0);
	fixture_close(f);
	f->options.pod_security = config;
	assert_int_equal(store_open(f->loop, &(struct store_options){ .path = f->path }, &f->store, NULL), 0);
	assert_int_equal(registry_create_all(f->loop, f->store, &f->options, &f->reg, NULL), 0);
	namespace_with(f, LABELS(""));
	fixture_do(f, API_VERB_CREATE, KIND_RUNTIMECLASS, "", "",
		   "{\"metadata\":{\"name\":\"sandbox\"},\"handler\":\"h\"}");
	fixture_expect(f, 201, "runtime class");

	/* The defaults are for namespaces without labels, */
	rq.user = user;
	assert_int_equal(fixture_run(f, &rq), 403);
	assert_string_equal(f->message,
			    "pods \"x\" is forbidden: violates PodSecurity \"baseline:v1.30\": host namespaces "
			    "(hostPID=true)");
	rq.body = STR(POD("y", PLAIN));
	fixture_run(f, &rq);
	fixture_expect(f, 201, "pod");
	assert_non_null(strstr(f->warnings, "would violate PodSecurity \"restricted:latest\""));
	/* and not for those who are exempt: by class, by name, by namespace. */
	rq.body = STR(POD("z", "\"runtimeClassName\":\"sandbox\",\"hostPID\":true," PLAIN));
	fixture_run(f, &rq);
	fixture_expect(f, 201, "pod of an exempt class");
	rq.user = &FIXTURE_USER;
	rq.body = STR(POD("x", "\"hostPID\":true," PLAIN));
	fixture_clear(f);
	request_run(f->reg, &rq, annotations_of, &seen);
	fixture_wait(f);
	fixture_expect(f, 201, "pod of an exempt user");
	assert_string_equal(seen.annotations, "pod-security.kubernetes.io/exempt=user;");
	fixture_do(f, API_VERB_CREATE, KIND_NAMESPACE, "", "",
		   "{\"metadata\":{\"name\":\"free\",\"labels\":{" ENFORCE("restricted") "}}}");
	fixture_expect(f, 201, "namespace");
	assert_string_equal(f->warnings, "namespace \"free\" is exempt from Pod Security, and the policy "
					 "(enforce=restricted:v1.30) will be ignored;");
	fixture_close(f);
	pod_security_config_destroy(config);
}

static void test_configurations(void **state)
{
	static const struct {
		const char *text, *words; /* NULL: good */
	} cases[] = {
		{ CONFIGURATION(""), NULL },
		{ "apiVersion: v1\nkind: AdmissionConfiguration\n", "is no AdmissionConfiguration" },
		{ CONFIGURATION("    default: {}\n"), "PodSecurityConfiguration: unknown field \"default\"" },
		{ CONFIGURATION("    defaults: {enforced: baseline}\n"), "defaults: unknown field \"enforced\"" },
		{ CONFIGURATION("    defaults: {enforce: high}\n"),
		  "defaults.enforce: Invalid value: \"high\": must be one of" },
		{ CONFIGURATION("    defaults: {warn-version: '1'}\n"),
		  "defaults.warn-version: Invalid value: \"1\": must be \"latest\" or \"v1.x\"" },
		{ CONFIGURATION("    exemptions: {usernames: bob}\n"), "exemptions.usernames: a list" },
		{ CONFIGURATION("    exemptions: {namespaces: ['']}\n"), "exemptions.namespaces: a name is wanted" },
		{ "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{name: Other}]\n",
		  "\"Other\" has no configuration here" },
		{ "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{name: PodSecurity, path: "
		  "nowhere}]\n",
		  "/nonexistent/nowhere" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct pod_security_config *config = NULL;
		int r = pod_security_config_parse(str_of(cases[i].text), "/nonexistent", &config, &err);

		pod_security_config_destroy(config);
		if ((r < 0) != (cases[i].words != NULL) || (r < 0 && !strstr(err_message(&err), cases[i].words)))
			fail_msg("%s: %s, expected %s", cases[i].text, err_message(&err),
				 cases[i].words ? cases[i].words : "nothing");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_enforce, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_pods_of_controllers, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_warn, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_enforce_leaves_workloads, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_audit_of_refusals, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_audit, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_updates, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_ephemeral_containers, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_labels_of_namespaces, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_existing_pods, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_configured, fixture_setup, fixture_teardown),
		cmocka_unit_test(test_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
