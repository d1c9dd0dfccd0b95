/* SPDX-License-Identifier: Apache-2.0 */
/* What EndpointSlices tell of pods, and that every change of a pod is seen in them. Each is compared as text:
 * "pod:port ready|serving|-|terminating [zone] [node]". */
#include "tests/controllers/house.h"

#define DEFAULT STR("default")

struct expect {
	const char *service, *text;
};

struct listing {
	struct arena *arena;
	struct str service;
	char *text;
};

static struct str hint(const struct json *e, const char *list)
{
	return json_get_str(json_first(json_get(json_get(e, "hints"), list)), "name");
}

static void list_slice(void *arg, const struct object *o)
{
	struct listing *l = arg;
	const struct json *v = registry_parse(l->arena, o);

	if (!str_eq(object_label(o, STR("kubernetes.io/service-name")), l->service))
		return;
	json_foreach(e, json_get(v, "endpoints")) {
		const struct json *c = json_get(e, "conditions");

		l->text = arena_printf(l->arena, "%s%s%.*s:%lld %s%s%s%.*s%s%.*s", l->text, *l->text ? "; " : "",
				       STR_ARG(json_get_str(json_get(e, "targetRef"), "name")),
				       (long long)json_get_int(json_first(json_get(v, "ports")), "port", 0),
				       json_get_bool(c, "ready", false)     ? "ready"
				       : json_get_bool(c, "serving", false) ? "serving"
									    : "-",
				       json_get_bool(c, "terminating", false) ? " terminating" : "",
				       hint(e, "forZones").n ? " zone " : "", STR_ARG(hint(e, "forZones")),
				       hint(e, "forNodes").n ? " node " : "", STR_ARG(hint(e, "forNodes")));
	}
}

static bool slices_are(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct expect *e = arg;
	struct listing l = { &arena, str_of(e->service), arena_strdup(&arena, "") };

	registry_each(h->reg, KIND_ENDPOINTSLICE, DEFAULT, list_slice, &l);
	return strcmp(l.text, e->text) == 0;
}

#define expect_slices(h, service, text) house_wait(h, slices_are, (&(struct expect){ service, text }))

static void pod(struct house *h, const char *name, const char *app, int port)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\","
		 "\"labels\":{\"app\":\"%s\"}},\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"name\":\"c\","
		 "\"image\":\"i\",\"ports\":[{\"name\":\"http\",\"containerPort\":%d}]}]}}",
		 name, app, port);
	house_create(h, text);
}

static void service(struct house *h, const char *name, const char *spec)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\"},"
		 "\"spec\":{%s}}",
		 name, spec);
	house_create(h, text);
}

#define WEB "\"selector\":{\"app\":\"web\"},"

static int set_label(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	meta_set_label(arena, object, "app", str_of(arg));
	return 0;
}

static int set_unready(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_foreach(c, json_at(object, "status.conditions"))
		if (str_is(json_get_str(c, "type"), "Ready"))
			json_set_cstr(arena, c, "status", "False");
	return 0;
}

static void test_named_ports(void **state)
{
	struct house *h = *state;

	pod(h, "a", "web", 80);
	pod(h, "b", "web", 81);
	service(h, "named", WEB "\"ports\":[{\"port\":8000,\"targetPort\":\"http\"}]");
	service(h, "number", WEB "\"ports\":[{\"port\":8000,\"targetPort\":90}]");
	service(h, "none", WEB "\"ports\":[{\"port\":8000,\"targetPort\":\"what\"}]");
	expect_slices(h, "number", "a:90 ready; b:90 ready");
	expect_slices(h, "none", "a:0 ready; b:0 ready");
	/* one slice for each number: in the order of their names, which chance gives */
	house_wait(h, house_is_quiet, NULL);
	assert_true(slices_are(h, &(struct expect){ "named", "a:80 ready; b:81 ready" }) ||
		    slices_are(h, &(struct expect){ "named", "b:81 ready; a:80 ready" }));
}

static void test_changes_are_seen(void **state)
{
	struct house *h = *state;

	service(h, "s", WEB "\"ports\":[{\"port\":80}]");
	service(h, "early", WEB "\"ports\":[{\"port\":80}],\"publishNotReadyAddresses\":true");
	pod(h, "a", "web", 80);
	pod(h, "b", "other", 80);
	expect_slices(h, "s", "a:80 ready");
	registry_update(h->reg, KIND_POD, DEFAULT, STR("b"), NULL, set_label, (void *)"web", NULL, NULL);
	expect_slices(h, "s", "a:80 ready; b:80 ready");
	house_update(h, KIND_POD, "default", "a", "status", set_unready, NULL);
	expect_slices(h, "s", "a:80 -; b:80 ready");
	expect_slices(h, "early", "a:80 ready; b:80 ready");
	registry_update(h->reg, KIND_POD, DEFAULT, STR("a"), NULL, set_label, (void *)"other", NULL, NULL);
	expect_slices(h, "s", "b:80 ready");
	house_delete(h, KIND_POD, "default", "b", NULL);
	expect_slices(h, "s", "");
}

static void test_hints(void **state)
{
	struct house *h = *state;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n\",\"labels\":{"
			"\"topology.kubernetes.io/zone\":\"east\"}}}");
	pod(h, "a", "web", 80);
	service(h, "plain", WEB "\"ports\":[{\"port\":80}]");
	service(h, "zone", WEB "\"ports\":[{\"port\":80}],\"trafficDistribution\":\"PreferClose\"");
	service(h, "node", WEB "\"ports\":[{\"port\":80}],\"trafficDistribution\":\"PreferSameNode\"");
	expect_slices(h, "plain", "a:80 ready");
	expect_slices(h, "zone", "a:80 ready zone east");
	expect_slices(h, "node", "a:80 ready zone east node n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_named_ports, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_changes_are_seen, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_hints, house_setup, house_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
