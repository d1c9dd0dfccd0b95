/* SPDX-License-Identifier: Apache-2.0 */
/* Cluster addresses and node ports: given, kept, refused, returned, and the same after a restart. */
#include "tests/registry/registry_fixture.h"

static int service(struct fixture *f, const char *name, const char *spec)
{
	char body[1024];

	snprintf(body, sizeof(body),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"%s\"},\"spec\":{%s}}", name,
		 spec);
	return fixture_do(f, API_VERB_CREATE, KIND_SERVICE, "default", "", body);
}

static void test_cluster_ip(void **state)
{
	struct fixture *f = *state;
	char ip[64];

	service(f, "kubernetes", "\"ports\":[{\"port\":443}]");
	fixture_expect(f, 201, "kubernetes");
	assert_string_equal(fixture_at(f, "spec.clusterIP"), "10.43.0.1");
	service(f, "a", "\"ports\":[{\"port\":80}]");
	fixture_expect(f, 201, "a");
	snprintf(ip, sizeof(ip), "%s", fixture_at(f, "spec.clusterIP"));
	assert_int_equal(strncmp(ip, "10.43.", 6), 0);
	assert_string_equal(fixture_at(f, "spec.ipFamilies"), "[\"IPv4\"]");
	assert_string_equal(fixture_at(f, "spec.ipFamilyPolicy"), "SingleStack");
	assert_string_equal(fixture_at(f, "spec.type"), "ClusterIP");
	/* Replacing it without the address keeps it. */
	fixture_do(
		f, API_VERB_UPDATE, KIND_SERVICE, "default", "a",
		"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"ports\":[{\"port\":81}]}}");
	fixture_expect(f, 200, "replace");
	assert_string_equal(fixture_at(f, "spec.clusterIP"), ip);
	char spec[128];
	snprintf(spec, sizeof(spec), "\"clusterIP\":\"%s\",\"ports\":[{\"port\":80}]", ip);
	assert_int_equal(service(f, "b", spec), 422);
	assert_non_null(strstr(f->message, "provided IP is already allocated"));
	assert_int_equal(service(f, "b", "\"clusterIP\":\"10.99.0.1\",\"ports\":[{\"port\":80}]"), 422);
	assert_non_null(strstr(f->message, "The range of valid IPs is 10.43.0.0/16"));
	service(f, "dns", "\"clusterIP\":\"10.43.0.10\",\"ports\":[{\"port\":53}]");
	fixture_expect(f, 201, "dns");
	/* Still taken after a restart, free after deletion. */
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(service(f, "b", spec), 422);
	fixture_do(f, API_VERB_DELETE, KIND_SERVICE, "default", "a", "");
	fixture_expect(f, 200, "delete");
	service(f, "b", spec);
	fixture_expect(f, 201, "b");
}

static void test_headless_and_external(void **state)
{
	struct fixture *f = *state;

	service(f, "h", "\"clusterIP\":\"None\",\"ports\":[{\"port\":80}]");
	fixture_expect(f, 201, "headless");
	assert_string_equal(fixture_at(f, "spec.clusterIPs"), "[\"None\"]");
	service(f, "e", "\"type\":\"ExternalName\",\"externalName\":\"example.org\"");
	fixture_expect(f, 201, "external");
	assert_string_equal(fixture_at(f, "spec.clusterIP"), "");
	assert_int_equal(service(f, "d", "\"ipFamilyPolicy\":\"RequireDualStack\",\"ports\":[{\"port\":80}]"), 422);
	assert_non_null(strstr(f->message, "this cluster is not configured for dual-stack services"));
}

static void test_node_ports(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		fixture_do(f, API_VERB_CREATE, KIND_SERVICE, "default", "",
			   "{\"metadata\":{\"name\":\"none\"},\"spec\":{\"ports\":[{\"port\":80,\"nodePort\":5}]}}"),
		422);
	assert_string_equal(f->message,
			    "Service \"none\" is invalid: spec.ports[0].nodePort: Forbidden: may not be used "
			    "when `type` is 'ClusterIP'");
	char port[32];

	service(f, "a",
		"\"type\":\"NodePort\",\"ports\":[{\"name\":\"t\",\"port\":53,\"protocol\":\"TCP\"},"
		"{\"name\":\"u\",\"port\":53,\"protocol\":\"UDP\"}]");
	fixture_expect(f, 201, "a");
	struct json *ports = json_at(f->tree, "spec.ports");
	int64_t first = json_get_int(json_index(ports, 0), "nodePort", 0);
	assert_in_range(first, 30000, 32767);
	assert_int_equal(json_get_int(json_index(ports, 1), "nodePort", 0), first);
	snprintf(port, sizeof(port), "%lld", (long long)first);
	char spec[160];
	snprintf(spec, sizeof(spec), "\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":%s}]", port);
	assert_int_equal(service(f, "b", spec), 422);
	assert_non_null(strstr(f->message, "spec.ports[0].nodePort: Invalid value: "));
	assert_non_null(strstr(f->message, "provided port is already allocated"));
	assert_int_equal(service(f, "b", "\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":80}]"), 422);
	assert_non_null(strstr(f->message, "The range of valid ports is 30000-32767"));
	struct request rq =
		fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", "a", "{\"spec\":{\"type\":\"ClusterIP\"}}");
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	fixture_expect(f, 200, "to ClusterIP");
	assert_null(json_get(json_index(json_at(f->tree, "spec.ports"), 0), "nodePort"));
	service(f, "b", spec);
	fixture_expect(f, 201, "b");
}

/* ---- two families ---- */

#define DUAL "10.43.0.0/16,fd43::/112"
#define DUAL_V6_FIRST "fd43::/112,10.43.0.0/16"

static void cluster(struct fixture *f, const char *service_cidr, const char *dns)
{
	fixture_close(f);
	f->service_cidr = service_cidr;
	f->cluster_dns = dns;
	fixture_open(f);
}

static int patch(struct fixture *f, const char *name, const char *spec)
{
	char body[1024];
	struct request rq;

	snprintf(body, sizeof(body), "{\"spec\":{%s}}", spec);
	rq = fixture_request(API_VERB_PATCH, KIND_SERVICE, "default", name, body);
	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(f, &rq);
	return f->status;
}

/* policy, families, and the family of each address */
static void expect_families(struct fixture *f, const char *policy, const char *families, const char *addresses)
{
	const struct json *ips = json_at(f->tree, "spec.clusterIPs");
	char got[64] = "";

	assert_string_equal(fixture_at(f, "spec.ipFamilyPolicy"), policy);
	assert_string_equal(fixture_at(f, "spec.ipFamilies"), families);
	json_foreach(ip, ips)
		strcat(got, str_is(json_str(ip), "None")              ? "-"
			    : str_starts(json_str(ip), STR("fd43::")) ? "6"
			    : str_starts(json_str(ip), STR("10.43.")) ? "4"
								      : "?");
	assert_string_equal(got, addresses);
	assert_true(str_eq(json_at_str(f->tree, "spec.clusterIP"), json_str(json_first(ips))));
}

#define V4 "[\"IPv4\"]"
#define V6 "[\"IPv6\"]"
#define V46 "[\"IPv4\",\"IPv6\"]"
#define V64 "[\"IPv6\",\"IPv4\"]"
#define PORTS "\"ports\":[{\"port\":80}]"

static void test_families_on_create(void **state)
{
	static const struct {
		const char *spec, *policy, *families, *addresses;
	} cases[] = {
		{ "", "SingleStack", V4, "4" },
		{ "\"ipFamilies\":[\"IPv6\"],", "SingleStack", V6, "6" },
		{ "\"ipFamilyPolicy\":\"PreferDualStack\",", "PreferDualStack", V46, "46" },
		{ "\"ipFamilyPolicy\":\"RequireDualStack\",", "RequireDualStack", V46, "46" },
		{ "\"ipFamilyPolicy\":\"RequireDualStack\",\"ipFamilies\":[\"IPv6\"],", "RequireDualStack", V64, "64" },
		{ "\"ipFamilyPolicy\":\"PreferDualStack\",\"ipFamilies\":" V64 ",", "PreferDualStack", V64, "64" },
		{ "\"clusterIP\":\"fd43::77\",", "SingleStack", V6, "6" },
		{ "\"ipFamilyPolicy\":\"PreferDualStack\",\"clusterIP\":\"fd43::78\",", "PreferDualStack", V64, "64" },
		{ "\"ipFamilyPolicy\":\"RequireDualStack\",\"clusterIPs\":[\"10.43.9.9\",\"fd43::79\"],",
		  "RequireDualStack", V46, "46" },
		/* headless: its endpoints' owner knows the families, unless it is the selector */
		{ "\"clusterIP\":\"None\",", "RequireDualStack", V46, "-" },
		{ "\"clusterIP\":\"None\",\"selector\":{\"a\":\"b\"},", "SingleStack", V4, "-" },
		{ "\"clusterIP\":\"None\",\"selector\":{\"a\":\"b\"},\"ipFamilyPolicy\":\"PreferDualStack\",",
		  "PreferDualStack", V46, "-" },
	};
	struct fixture *f = *state;
	char name[16], spec[256];

	cluster(f, DUAL, "10.43.0.10,fd43::a");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(name, sizeof(name), "s%zu", i);
		snprintf(spec, sizeof(spec), "%s" PORTS, cases[i].spec);
		service(f, name, spec);
		fixture_expect(f, 201, spec);
		expect_families(f, cases[i].policy, cases[i].families, cases[i].addresses);
	}
	/* the first range gives the default */
	cluster(f, DUAL_V6_FIRST, "fd43::a,10.43.0.10");
	service(f, "six", PORTS);
	fixture_expect(f, 201, "six");
	expect_families(f, "SingleStack", V6, "6");
	service(f, "kubernetes", PORTS);
	fixture_expect(f, 201, "kubernetes");
	assert_string_equal(fixture_at(f, "spec.clusterIP"), "fd43::1");
}

static void test_families_refused(void **state)
{
	static const struct {
		const char *spec, *message;
	} cases[] = {
		{ "\"ipFamilyPolicy\":\"SingleStack\",\"ipFamilies\":" V46 ",",
		  "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified" },
		{ "\"ipFamilyPolicy\":\"SingleStack\",\"clusterIPs\":[\"10.43.9.9\",\"fd43::79\"],",
		  "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified" },
		{ "\"ipFamilyPolicy\":\"RequireDualStack\",\"clusterIPs\":[\"10.43.9.9\",\"10.43.9.8\"],",
		  "may specify no more than one IP for each IP family" },
		{ "\"clusterIP\":\"fd99::1\",", "is not in the valid range. The range of valid IPs is fd43::/112" },
		{ "\"ipFamilies\":[\"IPv6\"],\"clusterIP\":\"10.43.9.9\",",
		  "expected an IPv6 value as indicated by `ipFamilies[0]`" },
	};
	struct fixture *f = *state;
	char spec[256];

	assert_int_equal(service(f, "x", "\"ipFamilies\":[\"IPv6\"]," PORTS), 422);
	assert_non_null(
		strstr(f->message, "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"));
	/* but what has no selector and no address may be of both anywhere */
	service(f, "free", "\"clusterIP\":\"None\"," PORTS);
	fixture_expect(f, 201, "free");
	expect_families(f, "RequireDualStack", V46, "-");
	service(f, "prefers", "\"ipFamilyPolicy\":\"PreferDualStack\"," PORTS);
	fixture_expect(f, 201, "prefers");
	expect_families(f, "PreferDualStack", V4, "4");
	cluster(f, DUAL, "10.43.0.10,fd43::a");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(spec, sizeof(spec), "%s" PORTS, cases[i].spec);
		assert_int_equal(service(f, "x", spec), 422);
		if (!strstr(f->message, cases[i].message))
			fail_msg("%s: %s", spec, f->message);
	}
	/* a cluster that became dual-stack changes nothing of those that only preferred it */
	patch(f, "prefers", "\"sessionAffinity\":\"ClientIP\"");
	fixture_expect(f, 200, "prefers");
	expect_families(f, "PreferDualStack", V4, "4");
}

static void test_upgrade_and_downgrade(void **state)
{
	struct fixture *f = *state;
	char first[64], second[64], spec[256];

	cluster(f, DUAL, "10.43.0.10,fd43::a");
	service(f, "a", PORTS);
	fixture_expect(f, 201, "a");
	snprintf(first, sizeof(first), "%s", fixture_at(f, "spec.clusterIP"));
	patch(f, "a", "\"ipFamilyPolicy\":\"RequireDualStack\"");
	fixture_expect(f, 200, "upgrade");
	expect_families(f, "RequireDualStack", V46, "46");
	assert_string_equal(fixture_at(f, "spec.clusterIP"), first);
	snprintf(second, sizeof(second), "%.*s", STR_ARG(json_str(json_index(json_at(f->tree, "spec.clusterIPs"), 1))));
	/* the second is held */
	snprintf(spec, sizeof(spec), "\"clusterIP\":\"%s\"," PORTS, second);
	assert_int_equal(service(f, "b", spec), 422);
	assert_non_null(strstr(f->message, "provided IP is already allocated"));
	/* it is not let go by leaving it out */
	snprintf(spec, sizeof(spec), "\"clusterIPs\":[\"%s\"]", first);
	assert_int_equal(patch(f, "a", spec), 422);
	assert_string_equal(f->message,
			    "Service \"a\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": "
			    "must be 'SingleStack' to release the secondary cluster IP");
	assert_int_equal(patch(f, "a", "\"ipFamilies\":[\"IPv4\"]"), 422);
	assert_non_null(strstr(f->message, "must be 'SingleStack' to release the secondary IP family"));
	/* the first never goes */
	snprintf(spec, sizeof(spec), "\"clusterIPs\":[\"%s\",\"%s\"],\"clusterIP\":\"%s\"", second, first, second);
	assert_int_equal(patch(f, "a", spec), 422);
	patch(f, "a", "\"ipFamilyPolicy\":\"SingleStack\"");
	fixture_expect(f, 200, "downgrade");
	expect_families(f, "SingleStack", V4, "4");
	assert_string_equal(fixture_at(f, "spec.clusterIP"), first);
	/* and then it is free */
	snprintf(spec, sizeof(spec), "\"clusterIP\":\"%s\"," PORTS, second);
	service(f, "b", spec);
	fixture_expect(f, 201, "b");
	expect_families(f, "SingleStack", V6, "6");
	/* the same lists with SingleStack are clear enough as well */
	patch(f, "b", "\"ipFamilyPolicy\":\"PreferDualStack\"");
	fixture_expect(f, 200, "b upgrade");
	expect_families(f, "PreferDualStack", V64, "64");
	patch(f, "b", "\"type\":\"ExternalName\",\"externalName\":\"x.org\",\"ports\":null");
	fixture_expect(f, 200, "b by name");
	assert_string_equal(fixture_at(f, "spec.clusterIPs"), "");
	patch(f, "b",
	      "\"type\":\"ClusterIP\",\"externalName\":null,\"ipFamilyPolicy\":\"RequireDualStack\",\"ports\":[{\"port\":1}]");
	fixture_expect(f, 200, "b with addresses again");
	expect_families(f, "RequireDualStack", V46, "46");
}

/* A small range: every address once, those of the cluster DNS only by name. */
static void test_range_is_used_up(void **state)
{
	struct fixture *f = *state;
	char name[16];
	unsigned n = 0;

	cluster(f, "fd43::/124", "fd43::a");
	for (;; n++) {
		snprintf(name, sizeof(name), "s%u", n);
		if (service(f, name, PORTS) != 201)
			break;
		assert_string_not_equal(fixture_at(f, "spec.clusterIP"), "fd43::a");
	}
	/* 16, without the network's, that of `kubernetes` and the DNS's */
	assert_int_equal(n, 13);
	service(f, "dns", "\"clusterIP\":\"fd43::a\"," PORTS);
	fixture_expect(f, 201, "dns");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_cluster_ip),         T(test_headless_and_external), T(test_node_ports),
		T(test_families_on_create), T(test_families_refused),      T(test_upgrade_and_downgrade),
		T(test_range_is_used_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
