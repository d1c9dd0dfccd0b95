/* SPDX-License-Identifier: Apache-2.0 */
/* RBAC: decisions and their words, the default objects, escalation. */
#include "tests/registry/registry_fixture.h"

#include "userspace/registry/authz.h"

static const struct str ALICE_GROUPS[] = { { "devs", 4 }, { "system:authenticated", 20 } };
static const struct request_user ALICE = { .name = { "alice", 5 }, .groups = ALICE_GROUPS, .n_groups = 2 };

static void as_admin(struct fixture *f, const struct api_kind *kind, const char *ns, const char *body)
{
	fixture_do(f, API_VERB_CREATE, kind, ns, "", body);
	fixture_expect(f, 201, body);
}

static int as_alice(struct fixture *f, enum api_verb verb, const struct api_kind *kind, const char *ns,
		    const char *name, const char *body)
{
	struct request rq = fixture_request(verb, kind, ns, name, body);

	rq.user = &ALICE;
	return fixture_run(f, &rq);
}

static bool may(struct fixture *f, const char *verb, const char *group, const char *resource, const char *sub,
		const char *ns, const char *name, struct str *ret_reason)
{
	const struct authz_attributes a = { .user = &ALICE,
					    .verb = str_of(verb),
					    .group = str_of(group),
					    .version = STR("v1"),
					    .resource = str_of(resource),
					    .subresource = str_of(sub),
					    .ns = str_of(ns),
					    .name = str_of(name) };

	return authz_decide(f->reg, &a, &f->arena, ret_reason) == AUTHZ_ALLOW;
}

static const char ROLE[] = "{\"metadata\":{\"name\":\"r\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"pods\","
			   "\"pods/log\"],\"verbs\":[\"get\",\"list\"]}]}";
static const char BINDING[] =
	"{\"metadata\":{\"name\":\"b\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\","
	"\"kind\":\"Role\",\"name\":\"r\"},\"subjects\":[{\"kind\":\"Group\",\"name\":\"devs\"}]}";

static void test_decision(void **state)
{
	struct fixture *f = *state;
	struct str reason;

	assert_false(may(f, "get", "", "pods", "", "default", "p", &reason));
	assert_int_equal(reason.n, 0);
	as_admin(f, KIND_ROLEBINDING, "default", BINDING);
	assert_false(may(f, "get", "", "pods", "", "default", "p", &reason));
	assert_true(str_is(reason, "RBAC: role.rbac.authorization.k8s.io \"r\" not found"));
	as_admin(f, KIND_ROLE, "default", ROLE);
	assert_true(may(f, "get", "", "pods", "", "default", "p", &reason));
	assert_true(str_is(reason, "RBAC: allowed by RoleBinding \"b/default\" of Role \"r\" to Group \"devs\""));
	assert_true(may(f, "list", "", "pods", "log", "default", "", NULL));
	assert_false(may(f, "get", "", "pods", "exec", "default", "p", NULL));
	assert_false(may(f, "get", "apps", "pods", "", "default", "p", NULL));
	assert_false(may(f, "get", "", "pods", "", "other", "p", NULL));
	assert_false(may(f, "get", "", "pods", "", "", "p", NULL));
	fixture_do(f, API_VERB_DELETE, KIND_ROLE, "default", "r", "");
	fixture_expect(f, 200, "delete the role");
	assert_false(may(f, "get", "", "pods", "", "default", "p", NULL));
	as_admin(f, KIND_ROLE, "default", ROLE);
	assert_true(may(f, "get", "", "pods", "", "default", "p", NULL));
	fixture_do(f, API_VERB_DELETE, KIND_ROLEBINDING, "default", "b", "");
	fixture_expect(f, 200, "delete the binding");
	assert_false(may(f, "get", "", "pods", "", "default", "p", NULL));
}

static void expect_forbidden(const struct authz_attributes *a, const char *reason, const char *message)
{
	_cleanup_err_ struct err err = ERR_INIT;

	assert_int_equal(authz_forbidden(&err, a, str_of(reason)), -EACCES);
	assert_string_equal(err_message(&err), message);
	assert_int_equal(err.status, 403);
}

static void test_forbidden_words(void **state)
{
	struct authz_attributes a = { .user = &ALICE,
				      .verb = STR("get"),
				      .group = STR("apps"),
				      .resource = STR("deployments"),
				      .subresource = STR("scale"),
				      .ns = STR("default"),
				      .name = STR("x") };

	expect_forbidden(
		&a, "",
		"deployments.apps \"x\" is forbidden: User \"alice\" cannot get resource \"deployments/scale\" "
		"in API group \"apps\" in the namespace \"default\"");
	a = (struct authz_attributes){ .user = &ALICE, .verb = STR("list"), .resource = STR("nodes") };
	expect_forbidden(&a, "RBAC: x",
			 "nodes is forbidden: User \"alice\" cannot list resource \"nodes\" in API group \"\" at the "
			 "cluster scope: RBAC: x");
	a = (struct authz_attributes){ .user = &ALICE, .verb = STR("get"), .is_path = true, .path = STR("/metrics") };
	expect_forbidden(&a, "", "forbidden: User \"alice\" cannot get path \"/metrics\"");
}

/* ---- the defaults ---- */

static void made(void *arg)
{
	struct fixture *f = arg;

	loop_stop(f->loop, 0);
}

static unsigned bootstrap(struct fixture *f)
{
	unsigned n = authz_bootstrap(f->reg, made, f);

	if (n)
		loop_run(f->loop);
	return n;
}

static void grant(struct fixture *f, const char *role)
{
	char body[512];

	snprintf(body, sizeof(body),
		 "{\"metadata\":{\"name\":\"alice-%s\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\","
		 "\"kind\":\"ClusterRole\",\"name\":\"%s\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"alice\"}]}",
		 role, role);
	as_admin(f, KIND_ROLEBINDING, "default", body);
}

static void test_defaults(void **state)
{
	struct fixture *f = *state;
	int64_t revision;

	assert_true(bootstrap(f) > 100);
	revision = registry_revision(f->reg);
	assert_int_equal(bootstrap(f), 0);
	assert_int_equal(registry_revision(f->reg), revision);

	/* Aggregated at once: what admin may, through edit and view. */
	assert_true(may(f, "create", "authorization.k8s.io", "selfsubjectaccessreviews", "", "", "", NULL));
	grant(f, "view");
	assert_true(may(f, "watch", "apps", "deployments", "", "default", "", NULL));
	assert_false(may(f, "get", "", "secrets", "", "default", "s", NULL));
	grant(f, "admin");
	assert_true(may(f, "get", "", "secrets", "", "default", "s", NULL));
	assert_true(may(f, "update", "rbac.authorization.k8s.io", "roles", "", "default", "r", NULL));
	assert_false(may(f, "get", "", "nodes", "", "", "n", NULL));
	assert_false(may(f, "update", "", "resourcequotas", "", "default", "q", NULL));
}

static void test_defaults_are_mended(void **state)
{
	struct fixture *f = *state;

	bootstrap(f);
	fixture_do(f, API_VERB_UPDATE, KIND_CLUSTERROLE, "", "system:basic-user",
		   "{\"metadata\":{\"name\":\"system:basic-user\"},\"rules\":[{\"apiGroups\":[\"x\"],\"resources\":"
		   "[\"y\"],\"verbs\":[\"get\"]}]}");
	fixture_expect(f, 200, "cut");
	fixture_do(f, API_VERB_UPDATE, KIND_CLUSTERROLE, "", "system:kube-dns",
		   "{\"metadata\":{\"name\":\"system:kube-dns\",\"annotations\":{"
		   "\"rbac.authorization.kubernetes.io/autoupdate\":\"false\"}},\"rules\":[]}");
	fixture_expect(f, 200, "cut for good");
	fixture_do(f, API_VERB_DELETE, KIND_CLUSTERROLEBINDING, "", "system:basic-user", "");
	fixture_expect(f, 200, "delete");
	assert_int_equal(bootstrap(f), 2);
	fixture_do(f, API_VERB_GET, KIND_CLUSTERROLE, "", "system:basic-user", "");
	/* What was added stays, what was missing came back. */
	assert_true(may(f, "create", "authorization.k8s.io", "selfsubjectrulesreviews", "", "", "", NULL));
	assert_true(may(f, "get", "x", "y", "", "", "", NULL));
	fixture_do(f, API_VERB_GET, KIND_CLUSTERROLE, "", "system:kube-dns", "");
	assert_int_equal(json_count(json_get(f->tree, "rules")), 0);
	assert_int_equal(bootstrap(f), 0);
}

/* ---- escalation ---- */

static void test_escalation(void **state)
{
	struct fixture *f = *state;
	static const char more[] =
		"{\"metadata\":{\"name\":\"r2\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"pods\"],\"verbs\":"
		"[\"get\",\"delete\",\"watch\"]},{\"apiGroups\":[\"apps\"],\"resources\":[\"deployments\"],"
		"\"resourceNames\":[\"d\"],\"verbs\":[\"get\"]}]}";

	as_admin(f, KIND_ROLE, "default", ROLE);
	as_admin(f, KIND_ROLEBINDING, "default", BINDING);
	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_ROLE, "default", "", more), 403);
	assert_string_equal(f->message,
			    "roles.rbac.authorization.k8s.io \"r2\" is forbidden: user \"alice\" (groups=[\"devs\" "
			    "\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n"
			    "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}\n"
			    "{APIGroups:[\"apps\"], Resources:[\"deployments\"], ResourceNames:[\"d\"], "
			    "Verbs:[\"get\"]}");
	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_ROLE, "default", "",
				  "{\"metadata\":{\"name\":\"r3\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":["
				  "\"pods\"],\"resourceNames\":[\"one\"],\"verbs\":[\"get\"]}]}"),
			 201);
	as_admin(f, KIND_ROLE, "default",
		 "{\"metadata\":{\"name\":\"esc\"},\"rules\":[{\"apiGroups\":[\"rbac.authorization.k8s.io\"],"
		 "\"resources\":[\"roles\"],\"verbs\":[\"escalate\"]}]}");
	as_admin(f, KIND_ROLEBINDING, "default",
		 "{\"metadata\":{\"name\":\"esc\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
		 "\"Role\",\"name\":\"esc\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"alice\"}]}");
	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_ROLE, "default", "", more), 201);
}

static void test_bind(void **state)
{
	struct fixture *f = *state;
	static const char bind[] =
		"{\"metadata\":{\"name\":\"mine\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
		"\"ClusterRole\",\"name\":\"all\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"alice\"}]}";

	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_ROLEBINDING, "default", "", bind), 404);
	assert_string_equal(f->message, "clusterrole.rbac.authorization.k8s.io \"all\" not found");
	as_admin(f, KIND_CLUSTERROLE, "",
		 "{\"metadata\":{\"name\":\"all\"},\"rules\":[{\"apiGroups\":[\"*\"],\"resources\":[\"*\"],\"verbs\":"
		 "[\"*\"]}]}");
	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_ROLEBINDING, "default", "", bind), 403);
	assert_string_equal(f->message, "rolebindings.rbac.authorization.k8s.io \"mine\" is forbidden: user \"alice\" "
					"(groups=[\"devs\" \"system:authenticated\"]) is attempting to grant RBAC "
					"permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], "
					"Verbs:[\"*\"]}");
	as_admin(f, KIND_CLUSTERROLE, "",
		 "{\"metadata\":{\"name\":\"binder\"},\"rules\":[{\"apiGroups\":[\"rbac.authorization.k8s.io\"],"
		 "\"resources\":[\"clusterroles\"],\"resourceNames\":[\"all\"],\"verbs\":[\"bind\"]}]}");
	grant(f, "binder");
	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_CLUSTERROLEBINDING, "", "", bind), 403);
	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_ROLEBINDING, "default", "", bind), 201);
}

static void test_aggregation_rule_needs_everything(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(as_alice(f, API_VERB_CREATE, KIND_CLUSTERROLE, "", "",
				  "{\"metadata\":{\"name\":\"agg\"},\"aggregationRule\":{\"clusterRoleSelectors\":[{"
				  "\"matchLabels\":{\"a\":\"b\"}}]}}"),
			 403);
	assert_string_equal(f->message, "clusterroles.rbac.authorization.k8s.io \"agg\" is forbidden: must have "
					"cluster-admin privileges to use the aggregationRule");
}

/* PUT creates roles: that needs the verb create. */
static void test_create_by_update(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(as_alice(f, API_VERB_UPDATE, KIND_ROLE, "default", "r", ROLE), 403);
	assert_string_equal(f->message, "roles.rbac.authorization.k8s.io \"r\" is forbidden: ");
	fixture_do(f, API_VERB_UPDATE, KIND_ROLE, "default", "r", ROLE);
	fixture_expect(f, 201, "create by update");
}

/* ---- validation ---- */

static void expect_invalid(struct fixture *f, const struct api_kind *kind, const char *body, const char *message)
{
	fixture_do(f, API_VERB_CREATE, kind, kind->namespaced ? "default" : "", "", body);
	fixture_expect(f, 422, body);
	assert_string_equal(f->message, message);
}

#define META "{\"metadata\":{\"name\":\"x\"},"
#define REF "\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"r\"}"

static void test_validation(void **state)
{
	struct fixture *f = *state;

	expect_invalid(f, KIND_ROLE, META "\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]}",
		       "Role.rbac.authorization.k8s.io \"x\" is invalid: rules[0].verbs: Required value: verbs must "
		       "contain at least one value");
	expect_invalid(f, KIND_ROLE, META "\"rules\":[{\"nonResourceURLs\":[\"/x\"],\"verbs\":[\"get\"]}]}",
		       "Role.rbac.authorization.k8s.io \"x\" is invalid: rules[0].nonResourceURLs: Invalid value: "
		       "[\"/x\"]: namespaced rules cannot apply to non-resource URLs");
	expect_invalid(
		f, KIND_CLUSTERROLE,
		META "\"rules\":[{\"nonResourceURLs\":[\"/x\"],\"resourceNames\":[\"y\"],\"verbs\":[\"get\"]}]}",
		"ClusterRole.rbac.authorization.k8s.io \"x\" is invalid: rules[0].nonResourceURLs: Invalid value: "
		"[\"/x\"]: rules cannot apply to both regular resources and non-resource URLs");
	expect_invalid(f, KIND_CLUSTERROLE, META "\"aggregationRule\":{}}",
		       "ClusterRole.rbac.authorization.k8s.io \"x\" is invalid: aggregationRule.clusterRoleSelectors: "
		       "Required value: at least one clusterRoleSelector required if aggregationRule is non-nil");
	expect_invalid(
		f, KIND_ROLEBINDING, META "\"roleRef\":{\"apiGroup\":\"x\",\"kind\":\"Pod\",\"name\":\"a/b\"}}",
		"RoleBinding.rbac.authorization.k8s.io \"x\" is invalid: [roleRef.apiGroup: Unsupported value: "
		"\"x\": supported values: \"rbac.authorization.k8s.io\", roleRef.kind: Unsupported value: \"Pod\": "
		"supported values: \"Role\", \"ClusterRole\", roleRef.name: Invalid value: \"a/b\": may not contain "
		"'/']");
	expect_invalid(
		f, KIND_CLUSTERROLEBINDING,
		META REF ",\"subjects\":[{\"kind\":\"ServiceAccount\",\"name\":\"s\"},{\"kind\":\"Robot\"}]}",
		"ClusterRoleBinding.rbac.authorization.k8s.io \"x\" is invalid: [subjects[0].namespace: Required "
		"value, subjects[1].name: Required value, subjects[1].kind: Unsupported value: \"Robot\": supported "
		"values: \"ServiceAccount\", \"User\", \"Group\"]");
	as_admin(f, KIND_CLUSTERROLEBINDING, "", META REF "}");
	fixture_do(f, API_VERB_UPDATE, KIND_CLUSTERROLEBINDING, "", "x",
		   META "\"roleRef\":{\"kind\":\"ClusterRole\",\"name\":\"other\"}}");
	fixture_expect(f, 422, "another role");
	assert_string_equal(f->message,
			    "ClusterRoleBinding.rbac.authorization.k8s.io \"x\" is invalid: roleRef: Invalid "
			    "value: {\"kind\":\"ClusterRole\",\"name\":\"other\",\"apiGroup\":"
			    "\"rbac.authorization.k8s.io\"}: cannot change roleRef");
}

/* ---- the cost ---- */

static void test_cost(void **state)
{
	struct fixture *f = *state;
	const int rounds = 200000;
	int64_t began;
	int allowed = 0;

	for (int start = 0; start < 2; start++) {
		began = clock_monotonic_ns();
		bootstrap(f);
		print_message("defaults, start %d: %lld us\n", start + 1,
			      (long long)(clock_monotonic_ns() - began) / 1000);
	}
	grant(f, "view");
	grant(f, "admin");
	fixture_clear(f);
	for (int round = 0; round < 3; round++) {
		static const struct {
			const char *what, *verb, *resource;
		} asked[] = { { "allowed by view", "get", "pods" },
			      { "allowed by admin", "delete", "secrets" },
			      { "refused", "update", "resourcequotas" } };

		began = clock_monotonic_ns();
		for (int i = 0; i < rounds; i++)
			allowed += may(f, asked[round].verb, "", asked[round].resource, "", "default", "x", NULL);
		print_message("%s: %lld ns\n", asked[round].what, (long long)((clock_monotonic_ns() - began) / rounds));
	}
	assert_int_equal(allowed, 2 * rounds);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_decision),
		TEST(test_forbidden_words),
		TEST(test_defaults),
		TEST(test_defaults_are_mended),
		TEST(test_escalation),
		TEST(test_bind),
		TEST(test_aggregation_rule_needs_everything),
		TEST(test_create_by_update),
		TEST(test_validation),
		TEST(test_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
