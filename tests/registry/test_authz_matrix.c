/* SPDX-License-Identifier: Apache-2.0 */
/* The authorization matrix: random roles and bindings, and every question that small alphabets can make, each judged
 * both by the index and by the rules of RBAC read literally from the same JSON, without an index and without haste.
 * Objects come, change and go between rounds, so that the index is also right about what it must forget. */
#include "tests/registry/registry_fixture.h"

#include "userspace/registry/authz.h"

#define ROUNDS 12
#define OBJECTS 6 /* of each kind */

static uint64_t seed;

static unsigned pick(unsigned n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(seed >> 33) % n;
}

static const char *const VERBS[] = { "get", "list", "delete", "frob", "*" };
static const char *const GROUPS[] = { "", "apps", "*" };
static const char *const RESOURCES[] = {
	"pods", "pods/log", "deployments", "deployments/scale", "*", "*/scale", "*/log"
};
static const char *const NAMES[] = { "a", "b" };
static const char *const PATHS[] = { "/a", "/a/*", "/b*", "*", "/b/**" };
static const char *const SPACES[] = { "one", "two" };

/* What is asked: also what no rule names. */
static const char *const ASKED_VERBS[] = { "get", "list", "delete", "frob", "update" };
static const char *const ASKED_GROUPS[] = { "", "apps", "batch" };
static const char *const ASKED_RESOURCES[] = { "pods", "deployments", "jobs" };
static const char *const ASKED_SUBS[] = { "", "log", "scale", "x" };
static const char *const ASKED_NAMES[] = { "", "a", "b", "c" };
static const char *const ASKED_SPACES[] = { "", "one", "two", "three" };
static const char *const ASKED_PATHS[] = { "/", "/a", "/a/x", "/b", "/bc", "/c" };

static const struct str GROUPS_1[] = { { "devs", 4 }, { "all", 3 } }, GROUPS_2[] = { { "all", 3 } },
			GROUPS_3[] = { { "system:masters", 14 } };
static const struct request_user USERS[] = {
	{ .name = { "alice", 5 }, .groups = GROUPS_1, .n_groups = 2 },
	{ .name = { "bob", 3 }, .groups = GROUPS_2, .n_groups = 1 },
	{ .name = { "system:serviceaccount:one:sa", 28 }, .groups = GROUPS_2, .n_groups = 1 },
	{ .name = { "system:serviceaccount:two:sa", 28 }, .groups = GROUPS_2, .n_groups = 1 },
	{ .name = { "nobody", 6 } },
	{ .name = { "root", 4 }, .groups = GROUPS_3, .n_groups = 1 },
};

/* ---- random objects ---- */

static void add_list(struct buf *out, const char *key, const char *const *from, unsigned n, unsigned max)
{
	buf_printf(out, ",\"%s\":[", key);
	for (unsigned i = 1 + pick(max); i > 0; i--)
		buf_printf(out, "\"%s\"%s", from[pick(n)], i > 1 ? "," : "");
	buf_add_cstr(out, "]");
}

static void add_rules(struct buf *out, bool cluster)
{
	buf_add_cstr(out, "\"rules\":[");
	for (unsigned i = pick(4); i > 0; i--) {
		buf_add_cstr(out, "{\"verbs\":[\"");
		buf_printf(out, "%s\",\"%s\"]", VERBS[pick(ARRAY_SIZE(VERBS))], VERBS[pick(ARRAY_SIZE(VERBS) - 1)]);
		if (cluster && pick(3) == 0) {
			add_list(out, "nonResourceURLs", PATHS, ARRAY_SIZE(PATHS), 2);
		} else {
			add_list(out, "apiGroups", GROUPS, ARRAY_SIZE(GROUPS), 2);
			add_list(out, "resources", RESOURCES, ARRAY_SIZE(RESOURCES), 2);
			if (pick(3) == 0)
				add_list(out, "resourceNames", NAMES, ARRAY_SIZE(NAMES), 2);
		}
		buf_printf(out, "}%s", i > 1 ? "," : "");
	}
	buf_add_cstr(out, "]");
}

static void add_subject(struct buf *out, bool cluster)
{
	switch (pick(4)) {
	case 0:
		buf_printf(out, "{\"kind\":\"User\",\"name\":\"%s\"}", pick(2) ? "alice" : "bob");
		break;
	case 1:
		buf_printf(out, "{\"kind\":\"Group\",\"name\":\"%s\"}", pick(2) ? "devs" : "all");
		break;
	case 2:
		buf_printf(out, "{\"kind\":\"User\",\"name\":\"system:serviceaccount:%s:sa\"}", SPACES[pick(2)]);
		break;
	default:
		if (!cluster && pick(2))
			buf_add_cstr(out, "{\"kind\":\"ServiceAccount\",\"name\":\"sa\"}");
		else
			buf_printf(out, "{\"kind\":\"ServiceAccount\",\"name\":\"sa\",\"namespace\":\"%s\"}",
				   SPACES[pick(2)]);
	}
}

/* Makes, replaces or removes one object; a role may be missing, a binding's role may be another after it was made anew.
 */
static void shake(struct fixture *f, const struct api_kind *kind, const char *ns)
{
	_cleanup_(buf_finish) struct buf body = BUF_INIT;
	bool role = kind == KIND_ROLE || kind == KIND_CLUSTERROLE, cluster = !kind->namespaced;
	char name[8];

	snprintf(name, sizeof(name), "o%u", pick(OBJECTS));
	if (!role || pick(3) == 0)
		fixture_do(f, API_VERB_DELETE, kind, ns, name, "");
	if (pick(4) == 0)
		return;
	buf_printf(&body, "{\"metadata\":{\"name\":\"%s\"},", name);
	if (role) {
		add_rules(&body, cluster);
	} else {
		buf_printf(&body, "\"roleRef\":{\"kind\":\"%s\",\"name\":\"o%u\"},\"subjects\":[",
			   cluster || pick(2) ? "ClusterRole" : "Role", pick(OBJECTS));
		for (unsigned i = pick(3); i > 0; i--) {
			add_subject(&body, cluster);
			buf_add_cstr(&body, i > 1 ? "," : "");
		}
		buf_add_cstr(&body, "]");
	}
	buf_add_cstr(&body, "}");
	buf_add_char(&body, 0);
	fixture_do(f, API_VERB_UPDATE, kind, ns, name, body.data + body.start);
	if (f->status != 200 && f->status != 201)
		fail_msg("%s: %d %s", body.data + body.start, f->status, f->message);
}

/* ---- the slow judge ---- */

struct judge {
	struct fixture *f;
	struct arena arena;
	const struct authz_attributes *a;
	const struct api_kind *kind;
	bool allowed;
};

static bool lists(const struct json *list, const char *star, struct str wanted)
{
	json_foreach(v, list)
		if ((star && str_is(json_str(v), star)) || str_eq(json_str(v), wanted))
			return true;
	return false;
}

static bool judge_rule(struct judge *j, const struct json *rule)
{
	const struct authz_attributes *a = j->a;
	const struct json *names = json_get(rule, "resourceNames");
	char whole[64], any[64];

	if (!lists(json_get(rule, "verbs"), "*", a->verb))
		return false;
	if (a->is_path) {
		json_foreach(v, json_get(rule, "nonResourceURLs")) {
			struct str s = json_str(v);
			bool star = s.n && s.p[s.n - 1] == '*';

			while (s.n && s.p[s.n - 1] == '*')
				s.n--;
			if (star ? str_starts(a->path, s) : str_eq(a->path, s))
				return true;
		}
		return false;
	}
	snprintf(whole, sizeof(whole), "%.*s%s%.*s", STR_ARG(a->resource), a->subresource.n ? "/" : "",
		 STR_ARG(a->subresource));
	snprintf(any, sizeof(any), "*/%.*s", STR_ARG(a->subresource));
	if (!lists(json_get(rule, "apiGroups"), "*", a->group))
		return false;
	if (!lists(json_get(rule, "resources"), "*", str_of(whole)) &&
	    !(a->subresource.n && lists(json_get(rule, "resources"), NULL, str_of(any))))
		return false;
	return !json_count(names) || lists(names, NULL, a->name);
}

static bool judge_subject(struct judge *j, const struct object *binding, const struct json *subject)
{
	struct str kind = json_get_str(subject, "kind"), name = json_get_str(subject, "name"),
		   ns = json_get_str(subject, "namespace");
	char account[128];

	if (str_is(kind, "User"))
		return str_eq(name, j->a->user->name);
	if (str_is(kind, "ServiceAccount")) {
		if (!ns.n)
			ns = binding->ns;
		snprintf(account, sizeof(account), "system:serviceaccount:%.*s:%.*s", STR_ARG(ns), STR_ARG(name));
		return str_is(j->a->user->name, account);
	}
	for (size_t i = 0; i < j->a->user->n_groups; i++)
		if (str_eq(j->a->user->groups[i], name))
			return true;
	return false;
}

static void judge_binding(void *arg, const struct object *o)
{
	struct judge *j = arg;
	const struct json *tree = registry_parse(&j->arena, o), *ref = json_get(tree, "roleRef");
	const struct object *role;
	bool applies = false;

	json_foreach(s, json_get(tree, "subjects"))
		applies = applies || judge_subject(j, o, s);
	if (!applies)
		return;
	role = str_is(json_get_str(ref, "kind"), "Role")
		       ? registry_get(j->f->reg, KIND_ROLE, o->ns, json_get_str(ref, "name"))
		       : registry_get(j->f->reg, KIND_CLUSTERROLE, STR_NULL, json_get_str(ref, "name"));
	if (role)
		json_foreach(r, json_get(registry_parse(&j->arena, role), "rules"))
			j->allowed = j->allowed || judge_rule(j, r);
}

static bool judged(struct fixture *f, const struct authz_attributes *a)
{
	struct judge j = { .f = f, .a = a };

	for (size_t i = 0; i < a->user->n_groups; i++)
		if (str_is(a->user->groups[i], "system:masters"))
			return true;
	registry_each(f->reg, KIND_CLUSTERROLEBINDING, STR_NULL, judge_binding, &j);
	if (!a->is_path && a->ns.n)
		registry_each(f->reg, KIND_ROLEBINDING, a->ns, judge_binding, &j);
	arena_finish(&j.arena);
	return j.allowed;
}

/* ---- the matrix ---- */

static size_t n_allowed, n_denied;

static void ask(struct fixture *f, const struct authz_attributes *a)
{
	bool want = judged(f, a), got = authz_decide(f->reg, a, &f->arena, NULL) == AUTHZ_ALLOW;

	if (want != got)
		fail_msg("seed %llu: %.*s %.*s %.*s.%.*s/%.*s %.*s/%.*s %.*s: the rules say %d, the index %d",
			 (unsigned long long)seed, STR_ARG(a->user->name), STR_ARG(a->verb), STR_ARG(a->resource),
			 STR_ARG(a->group), STR_ARG(a->subresource), STR_ARG(a->ns), STR_ARG(a->name), STR_ARG(a->path),
			 want, got);
	if (got)
		n_allowed++;
	else
		n_denied++;
}

static void ask_resources(struct fixture *f, struct authz_attributes a)
{
	for (size_t g = 0; g < ARRAY_SIZE(ASKED_GROUPS); g++)
		for (size_t r = 0; r < ARRAY_SIZE(ASKED_RESOURCES); r++)
			for (size_t s = 0; s < ARRAY_SIZE(ASKED_SUBS); s++)
				for (size_t n = 0; n < ARRAY_SIZE(ASKED_NAMES); n++) {
					a.group = str_of(ASKED_GROUPS[g]);
					a.resource = str_of(ASKED_RESOURCES[r]);
					a.subresource = str_of(ASKED_SUBS[s]);
					a.name = str_of(ASKED_NAMES[n]);
					ask(f, &a);
				}
}

static void ask_all(struct fixture *f)
{
	for (size_t u = 0; u < ARRAY_SIZE(USERS); u++) {
		for (size_t v = 0; v < ARRAY_SIZE(ASKED_VERBS); v++) {
			struct authz_attributes a = { .user = &USERS[u], .verb = str_of(ASKED_VERBS[v]) };

			for (size_t s = 0; s < ARRAY_SIZE(ASKED_SPACES); s++) {
				a.ns = str_of(ASKED_SPACES[s]);
				ask_resources(f, a);
			}
			a.ns = STR_NULL;
			a.is_path = true;
			for (size_t p = 0; p < ARRAY_SIZE(ASKED_PATHS); p++) {
				a.path = str_of(ASKED_PATHS[p]);
				ask(f, &a);
			}
		}
		fixture_clear(f);
	}
}

static void test_matrix(void **state)
{
	struct fixture *f = *state;

	fixture_namespace(f, "one");
	fixture_namespace(f, "two");
	for (int round = 0; round < ROUNDS; round++) {
		seed = (uint64_t)round + 1;
		for (int i = 0; i < 12; i++) {
			shake(f, KIND_ROLE, SPACES[pick(2)]);
			shake(f, KIND_CLUSTERROLE, "");
			shake(f, KIND_ROLEBINDING, SPACES[pick(2)]);
			shake(f, KIND_CLUSTERROLEBINDING, "");
		}
		ask_all(f);
	}
	print_message("allowed %zu, denied %zu\n", n_allowed, n_denied);
	assert_true(n_allowed > 1000 && n_denied > 1000);
}

/* After a restart the index is the same. */
static void test_matrix_after_restart(void **state)
{
	struct fixture *f = *state;

	fixture_namespace(f, "one");
	fixture_namespace(f, "two");
	seed = 77;
	for (int i = 0; i < 24; i++) {
		shake(f, KIND_ROLE, SPACES[pick(2)]);
		shake(f, KIND_CLUSTERROLE, "");
		shake(f, KIND_ROLEBINDING, SPACES[pick(2)]);
		shake(f, KIND_CLUSTERROLEBINDING, "");
	}
	fixture_clear(f);
	fixture_close(f);
	fixture_open(f);
	ask_all(f);
}

/* ---- what the path of a name may try ---- */

static void test_long_and_odd_questions(void **state)
{
	struct fixture *f = *state;
	static char longest[5000];
	struct authz_attributes a = {
		.user = &USERS[0], .verb = STR("get"), .ns = STR("one"), .resource = STR("pods")
	};

	fixture_do(
		f, API_VERB_CREATE, KIND_CLUSTERROLE, "", "",
		"{\"metadata\":{\"name\":\"r\"},\"rules\":[{\"apiGroups\":[\"\",\"a\"],\"resources\":[\"pods\",\"b\"],"
		"\"verbs\":[\"get\"]}]}");
	fixture_expect(f, 201, "role");
	fixture_do(
		f, API_VERB_CREATE, KIND_CLUSTERROLEBINDING, "", "",
		"{\"metadata\":{\"name\":\"r\"},\"roleRef\":{\"kind\":\"ClusterRole\",\"name\":\"r\"},\"subjects\":[{"
		"\"kind\":\"User\",\"name\":\"alice\"}]}");
	fixture_expect(f, 201, "binding");
	ask(f, &a);
	memset(longest, 'x', sizeof(longest));
	a.resource = str_make(longest, sizeof(longest));
	assert_int_equal(authz_decide(f->reg, &a, &f->arena, NULL), AUTHZ_NO_OPINION);
	a.resource = STR("pods");
	a.subresource = str_make(longest, sizeof(longest));
	assert_int_equal(authz_decide(f->reg, &a, &f->arena, NULL), AUTHZ_NO_OPINION);
	/* A zero byte must not make one resource of two names. */
	a.group = STR("a\0b");
	a.resource = STR("");
	a.subresource = STR_NULL;
	assert_int_equal(authz_decide(f->reg, &a, &f->arena, NULL), AUTHZ_NO_OPINION);
	a.group = STR("");
	a.resource = STR("a\0b");
	assert_int_equal(authz_decide(f->reg, &a, &f->arena, NULL), AUTHZ_NO_OPINION);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_matrix),
		TEST(test_matrix_after_restart),
		TEST(test_long_and_odd_questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
