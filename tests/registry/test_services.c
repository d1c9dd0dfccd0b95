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

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_cluster_ip),
		T(test_headless_and_external),
		T(test_node_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
