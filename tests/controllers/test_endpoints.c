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

/* What terminates serves for as long as its readiness says so. */
static void test_terminating(void **state)
{
	struct house *h = *state;

	service(h, "s", WEB "\"ports\":[{\"port\":80}]");
	pod(h, "a", "web", 80);
	expect_slices(h, "s", "a:80 ready");
	h->hold_pods = true;
	house_delete(h, KIND_POD, "default", "a", NULL);
	expect_slices(h, "s", "a:80 serving terminating");
	house_update(h, KIND_POD, "default", "a", "status", set_unready, NULL);
	expect_slices(h, "s", "a:80 - terminating");
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

/* ---- Endpoints written by hand ---- */

struct mirrored {
	struct arena *arena;
	char *text;
};

/* "family[ port/name] address ready|-..." of each slice that is a mirror. */
static void list_mirrored(void *arg, const struct object *o)
{
	struct mirrored *l = arg;
	const struct json *v = registry_parse(l->arena, o), *port = json_first(json_get(v, "ports"));

	if (!str_is(object_label(o, STR("endpointslice.kubernetes.io/managed-by")),
		    "endpointslicemirroring-controller.k8s.io") ||
	    !str_is(object_label(o, STR("kubernetes.io/service-name")), "s"))
		return;
	assert_true(str_is(json_get_str(meta_controller(v), "kind"), "Endpoints"));
	l->text = arena_printf(l->arena, "%s%s%.*s %lld/%.*s", l->text, *l->text ? "; " : "",
			       STR_ARG(json_get_str(v, "addressType")), (long long)json_get_int(port, "port", 0),
			       STR_ARG(json_get_str(port, "name")));
	if (json_count(json_get(v, "endpoints")) > 10) {
		l->text = arena_printf(l->arena, "%s %zu of them", l->text, json_count(json_get(v, "endpoints")));
		return;
	}
	json_foreach(e, json_get(v, "endpoints"))
		l->text = arena_printf(l->arena, "%s %.*s%s", l->text,
				       STR_ARG(json_str(json_first(json_get(e, "addresses")))),
				       json_at_bool(e, "conditions.ready", false) ? "" : "-");
}

static bool mirrored_is(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct mirrored l = { &arena, arena_strdup(&arena, "") };

	registry_each(h->reg, KIND_ENDPOINTSLICE, DEFAULT, list_mirrored, &l);
	return strcmp(l.text, arg) == 0;
}

#define expect_mirrored(h, text) house_wait(h, mirrored_is, (void *)(text))

static void endpoints(struct house *h, const char *meta, const char *subsets)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	house_create(h, arena_printf(&arena,
				     "{\"apiVersion\":\"v1\",\"kind\":\"Endpoints\",\"metadata\":{\"name\":\"s\","
				     "\"namespace\":\"default\"%s},\"subsets\":[%s]}",
				     meta, subsets));
}

static int set_subsets(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *subsets;
	int r = json_parse(arena, str_of(arg), 0, &subsets, err);

	if (r == 0)
		json_set(object, "subsets", json_clone_deep(arena, subsets));
	return r;
}

static int set_skip(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	meta_set_label(arena, object, "endpointslice.kubernetes.io/skip-mirror", str_of(arg));
	return 0;
}

static int set_selector(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_ensure_object(arena, json_get(object, "spec"), "selector"), "app", arg);
	return 0;
}

static void test_mirrored(void **state)
{
	struct house *h = *state;

	endpoints(h, "",
		  "{\"addresses\":[{\"ip\":\"192.0.2.1\"}],\"notReadyAddresses\":[{\"ip\":\"192.0.2.2\"}],"
		  "\"ports\":[{\"port\":80}]}");
	house_wait(h, house_is_quiet, NULL);
	expect_mirrored(h, ""); /* no Service yet */
	service(h, "s", "\"ports\":[{\"port\":80}]");
	expect_mirrored(h, "IPv4 80/ 192.0.2.1 192.0.2.2-");
	/* changed in its place, whatever its ports are */
	house_update(h, KIND_ENDPOINTS, "default", "s", NULL, set_subsets,
		     "[{\"addresses\":[{\"ip\":\"192.0.2.3\"}],\"ports\":[{\"name\":\"web\",\"port\":81}]}]");
	expect_mirrored(h, "IPv4 81/web 192.0.2.3");
	house_update(h, KIND_ENDPOINTS, "default", "s", NULL, set_skip, "true");
	expect_mirrored(h, "");
	house_update(h, KIND_ENDPOINTS, "default", "s", NULL, set_skip, "false");
	expect_mirrored(h, "IPv4 81/web 192.0.2.3");
	house_update(h, KIND_ENDPOINTS, "default", "s", NULL, set_subsets,
		     "[{\"addresses\":[{\"ip\":\"2001:db8::1\"}],\"ports\":[{\"name\":\"web\",\"port\":81}]}]");
	expect_mirrored(h, "IPv6 81/web 2001:db8::1");
	house_delete(h, KIND_ENDPOINTS, "default", "s", NULL);
	expect_mirrored(h, "");
}

/* What has a selector has its own slices; those of pods and those mirrored never stand beside each other for long. */
static void test_mirrored_until_selected(void **state)
{
	struct house *h = *state;

	service(h, "s", "\"ports\":[{\"port\":80}]");
	endpoints(h, "", "{\"addresses\":[{\"ip\":\"192.0.2.1\"}],\"ports\":[{\"port\":80}]}");
	expect_mirrored(h, "IPv4 80/ 192.0.2.1");
	house_update(h, KIND_SERVICE, "default", "s", NULL, set_selector, "web");
	expect_mirrored(h, "");
}

static void test_not_mirrored(void **state)
{
	struct house *h = *state;

	service(h, "s", "\"ports\":[{\"port\":80}]");
	endpoints(h, ",\"annotations\":{\"control-plane.alpha.kubernetes.io/leader\":\"{}\"}",
		  "{\"addresses\":[{\"ip\":\"192.0.2.1\"}],\"ports\":[{\"port\":80}]}");
	house_wait(h, house_is_quiet, NULL);
	expect_mirrored(h, "");
}

static void test_mirrored_limit(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct house *h = *state;

	buf_printf(&text, "{\"addresses\":[");
	for (int i = 0; i < 1003; i++)
		buf_printf(&text, "%s{\"ip\":\"198.51.%d.%d\"}", i ? "," : "", 100 + i / 250, 1 + i % 250);
	buf_printf(&text, "],\"ports\":[{\"port\":80}]}");
	service(h, "s", "\"ports\":[{\"port\":80}]");
	endpoints(h, "", buf_cstr(&text));
	expect_mirrored(h, "IPv4 80/ 1000 of them");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_named_ports, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_changes_are_seen, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_terminating, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_hints, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_mirrored, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_mirrored_until_selected, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_not_mirrored, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_mirrored_limit, house_setup, house_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
