/* SPDX-License-Identifier: Apache-2.0 */
/* The discovery documents name what upstream's do, no more and no less. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/api/upstream_resources.h"
#include "userspace/api/discovery.h"
#include "userspace/api/kind.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

static const struct upstream_resource *upstream(struct str group, struct str version, struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(UPSTREAM_RESOURCES); i++) {
		const struct upstream_resource *u = &UPSTREAM_RESOURCES[i];

		if (str_is(group, u->group) && str_is(version, u->version) && str_is(name, u->name))
			return u;
	}
	return NULL;
}

static bool has(const struct json *list, struct str value)
{
	json_foreach(v, list)
		if (str_eq(json_str(v), value))
			return true;
	return false;
}

/* Whether the verbs are the same; discovery may list them in another order. */
static bool same_verbs(const struct json *list, const char *want)
{
	size_t n = 0;

	while (*want) {
		size_t len = strcspn(want, ",");

		if (!has(list, (struct str){ want, len }))
			return false;
		n++;
		want += len + (want[len] == ',');
	}
	return n == json_count(list);
}

static size_t check(struct str group, struct str version, const struct json *r)
{
	const struct upstream_resource *u = upstream(group, version, json_get_str(r, "name"));
	struct str kind_group = json_get_str(r, "group"), kind_version = json_get_str(r, "version");

	if (!u) {
		print_error("not upstream: %.*s/%.*s %.*s\n", STR_ARG(group), STR_ARG(version),
			    STR_ARG(json_get_str(r, "name")));
		return 1;
	}
	if (str_is(json_get_str(r, "kind"), u->kind) && str_is(kind_version.n ? kind_group : group, u->kind_group) &&
	    str_is(kind_version.n ? kind_version : version, u->kind_version) &&
	    json_get_bool(r, "namespaced", !u->namespaced) == u->namespaced &&
	    same_verbs(json_get(r, "verbs"), u->verbs))
		return 0;
	print_error("%.*s/%.*s %s differs\n", STR_ARG(group), STR_ARG(version), u->name);
	return 1;
}

static void check_version(struct str group, struct str version, size_t *n, size_t *failures)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_(chunk_unrefp) struct chunk *text = discovery_resources(group, version);
	struct json *list = NULL;

	assert_non_null(text);
	assert_int_equal(json_parse(&arena, chunk_str(text), 0, &list, NULL), 0);
	json_foreach(r, json_get(list, "resources")) {
		(*n)++;
		*failures += check(group, version, r);
	}
}

static void test_resources(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_(chunk_unrefp) struct chunk *text = discovery_groups();
	struct json *groups = NULL;
	size_t n = 0, failures = 0;

	(void)state;
	assert_int_equal(json_parse(&arena, chunk_str(text), 0, &groups, NULL), 0);
	check_version(STR(""), STR("v1"), &n, &failures);
	json_foreach(g, json_get(groups, "groups"))
		json_foreach(v, json_get(g, "versions"))
			check_version(json_get_str(g, "name"), json_get_str(v, "version"), &n, &failures);
	assert_int_equal(failures, 0);
	assert_int_equal(n, ARRAY_SIZE(UPSTREAM_RESOURCES));
}

/* Short and singular names and categories: upstream's, of every resource that has a short name or a category. */
static const struct {
	const char *group, *name, *short_name, *category;
} NAMES[] = {
	{ "", "componentstatuses", "cs", NULL },
	{ "", "configmaps", "cm", NULL },
	{ "", "endpoints", "ep", NULL },
	{ "", "events", "ev", NULL },
	{ "events.k8s.io", "events", "ev", NULL },
	{ "", "limitranges", "limits", NULL },
	{ "", "namespaces", "ns", NULL },
	{ "", "nodes", "no", NULL },
	{ "", "persistentvolumeclaims", "pvc", NULL },
	{ "", "persistentvolumes", "pv", NULL },
	{ "", "pods", "po", "all" },
	{ "", "replicationcontrollers", "rc", "all" },
	{ "", "resourcequotas", "quota", NULL },
	{ "", "serviceaccounts", "sa", NULL },
	{ "", "services", "svc", "all" },
	{ "admissionregistration.k8s.io", "mutatingwebhookconfigurations", NULL, "api-extensions" },
	{ "admissionregistration.k8s.io", "validatingwebhookconfigurations", NULL, "api-extensions" },
	{ "admissionregistration.k8s.io", "validatingadmissionpolicies", NULL, "api-extensions" },
	{ "admissionregistration.k8s.io", "validatingadmissionpolicybindings", NULL, "api-extensions" },
	{ "admissionregistration.k8s.io", "mutatingadmissionpolicies", NULL, "api-extensions" },
	{ "admissionregistration.k8s.io", "mutatingadmissionpolicybindings", NULL, "api-extensions" },
	{ "apiregistration.k8s.io", "apiservices", NULL, "api-extensions" },
	{ "apps", "daemonsets", "ds", "all" },
	{ "apps", "deployments", "deploy", "all" },
	{ "apps", "replicasets", "rs", "all" },
	{ "apps", "statefulsets", "sts", "all" },
	{ "autoscaling", "horizontalpodautoscalers", "hpa", "all" },
	{ "batch", "cronjobs", "cj", "all" },
	{ "batch", "jobs", NULL, "all" },
	{ "certificates.k8s.io", "certificatesigningrequests", "csr", NULL },
	{ "networking.k8s.io", "ingresses", "ing", NULL },
	{ "networking.k8s.io", "ipaddresses", "ip", NULL },
	{ "networking.k8s.io", "networkpolicies", "netpol", NULL },
	{ "policy", "poddisruptionbudgets", "pdb", NULL },
	{ "scheduling.k8s.io", "priorityclasses", "pc", NULL },
	{ "storage.k8s.io", "storageclasses", "sc", NULL },
	{ "storage.k8s.io", "volumeattributesclasses", "vac", NULL },
};

static void test_names(void **state)
{
	size_t failures = 0;

	(void)state;
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *kind = api_kind_at(i);
		const char *short_name = "", *category = "";
		_cleanup_(chunk_unrefp) struct chunk *text =
			discovery_resources(str_of(kind->group), str_of(kind->version));
		struct json *list = NULL;
		struct str got_name, got_category;

		for (size_t k = 0; k < ARRAY_SIZE(NAMES); k++) {
			if (strcmp(kind->group, NAMES[k].group) != 0 || strcmp(kind->plural, NAMES[k].name) != 0)
				continue;
			short_name = NAMES[k].short_name ? NAMES[k].short_name : "";
			category = NAMES[k].category ? NAMES[k].category : "";
		}
		assert_int_equal(json_parse(&arena, chunk_str(text), 0, &list, NULL), 0);
		json_foreach(r, json_get(list, "resources")) {
			if (!str_is(json_get_str(r, "name"), kind->plural))
				continue;
			got_name = json_str(json_index(json_get(r, "shortNames"), 0));
			got_category = json_str(json_index(json_get(r, "categories"), 0));
			if (str_is(got_name, short_name) && str_is(got_category, category))
				continue;
			failures++;
			print_error("%s/%s %s: \"%.*s\" \"%.*s\", wanted \"%s\" \"%s\"\n", kind->group, kind->version,
				    kind->plural, STR_ARG(got_name), STR_ARG(got_category), short_name, category);
		}
	}
	assert_int_equal(failures, 0);
}

static int teardown(void **state)
{
	(void)state;
	discovery_drop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_resources, teardown),
		cmocka_unit_test_teardown(test_names, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
