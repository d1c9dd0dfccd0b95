/* SPDX-License-Identifier: Apache-2.0 */
/* What begins and ends by itself: the first objects of a cluster, namespaces, owners and dependents,
 * endpoints that follow pods, tables and stops of the controllers. */
#include <errno.h>

#include "tests/controllers/house.h"

static bool exists(struct house *h, const struct api_kind *kind, const char *ns, const char *name)
{
	return house_get(h, kind, ns, name) != NULL;
}

/* ---- the first objects ---- */

static bool is_furnished(struct house *h, void *arg)
{
	static const char *const namespaces[] = { "default", "kube-system", "kube-public", "kube-node-lease" };

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		if (!exists(h, KIND_NAMESPACE, "", namespaces[i]) ||
		    !exists(h, KIND_SERVICEACCOUNT, namespaces[i], "default") ||
		    !exists(h, KIND_CONFIGMAP, namespaces[i], "kube-root-ca.crt"))
			return false;
	return exists(h, KIND_SERVICE, "default", "kubernetes") && exists(h, KIND_ENDPOINTS, "default", "kubernetes") &&
	       exists(h, KIND_ENDPOINTSLICE, "default", "kubernetes") && house_is_quiet(h, NULL);
}

static void test_first_objects(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *o;

	house_wait(h, is_furnished, NULL);
	o = house_json(h, &arena, KIND_SERVICE, "default", "kubernetes");
	assert_true(str_is(json_at_str(o, "spec.clusterIP"), "10.43.0.1"));
	o = house_json(h, &arena, KIND_ENDPOINTSLICE, "default", "kubernetes");
	assert_true(str_is(object_label(house_get(h, KIND_ENDPOINTSLICE, "default", "kubernetes"),
					STR("kubernetes.io/service-name")),
			   "kubernetes"));
	assert_true(str_is(json_str(json_index(json_get(json_index(json_get(o, "endpoints"), 0), "addresses"), 0)),
			   "192.0.2.1"));
	assert_int_equal(json_get_int(json_index(json_get(o, "ports"), 0), "port", 0), 6443);
}

static bool is_restored(struct house *h, void *arg)
{
	return str_is(json_at_str(registry_parse(arg, house_get(h, KIND_CONFIGMAP, "default", "kube-root-ca.crt")),
				  "data.nonsense"),
		      "") &&
	       exists(h, KIND_SERVICEACCOUNT, "default", "default") && house_is_quiet(h, NULL);
}

static int spoil(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, json_get(object, "data"), "nonsense", "x");
	return 0;
}

static void test_what_must_be_comes_back(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	house_wait(h, is_furnished, NULL);
	house_delete(h, KIND_SERVICEACCOUNT, "default", "default", NULL);
	house_update(h, KIND_CONFIGMAP, "default", "kube-root-ca.crt", NULL, spoil, NULL);
	house_wait(h, is_restored, &arena);
}

static bool time_has_passed(struct house *h, void *arg)
{
	return clock_monotonic_ns() >= *(int64_t *)arg;
}

/* When all is as it should be, nobody writes: silence can only be observed for a while. */
static void test_idle_writes_nothing(void **state)
{
	struct house *h = *state;
	int64_t until, revision;

	house_wait(h, is_furnished, NULL);
	until = clock_monotonic_ns() + 200 * NS_PER_MS;
	house_wait(h, time_has_passed, &until);
	revision = registry_revision(h->reg);
	until = clock_monotonic_ns() + 500 * NS_PER_MS;
	house_wait(h, time_has_passed, &until);
	assert_int_equal(registry_revision(h->reg), revision);
}

/* ---- namespaces ---- */

#define POD(ns, name, labels)                                                                                          \
	"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"" name "\",\"namespace\":\"" ns              \
	"\",\"labels\":{" labels "}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"ports\":[{\"name\":"  \
	"\"http\",\"containerPort\":8080}]}]}}"

static bool has_account(struct house *h, void *arg)
{
	return exists(h, KIND_SERVICEACCOUNT, arg, "default");
}

static bool is_gone(struct house *h, void *arg)
{
	return !exists(h, KIND_NAMESPACE, "", arg) && house_is_quiet(h, NULL);
}

static bool says_what_remains(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *ns = house_json(h, &arena, KIND_NAMESPACE, "", "doomed");
	struct json *conditions = json_at(ns, "status.conditions");

	return str_is(json_at_str(ns, "status.phase"), "Terminating") &&
	       str_is(json_get_str(meta_condition(conditions, "NamespaceContentRemaining"), "message"),
		      "Some resources are remaining: configmaps. has 1 resource instances") &&
	       str_is(json_get_str(meta_condition(conditions, "NamespaceFinalizersRemaining"), "message"),
		      "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource "
		      "instances");
}

static int drop_finalizers(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_remove(json_get(object, "metadata"), "finalizers");
	return 0;
}

static void test_namespace_deletion(void **state)
{
	struct house *h = *state;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"doomed\"}}");
	house_wait(h, has_account, "doomed");
	house_create(h, POD("doomed", "p", "\"a\":\"b\""));
	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"held\",\"namespace\":"
			"\"doomed\",\"finalizers\":[\"example.com/hold\"]}}");
	house_delete(h, KIND_NAMESPACE, "", "doomed", NULL);
	house_wait(h, says_what_remains, NULL);
	house_update(h, KIND_CONFIGMAP, "doomed", "held", NULL, drop_finalizers, NULL);
	house_wait(h, is_gone, "doomed");
	assert_false(exists(h, KIND_POD, "doomed", "p"));
	assert_false(exists(h, KIND_SERVICEACCOUNT, "doomed", "default"));
}

/* ---- owners ---- */

static void create_config(struct house *h, const char *name, const char *owner, bool blocks)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const char *refs = "";

	if (owner) {
		const struct object *o = house_get(h, KIND_CONFIGMAP, "default", owner);

		refs = arena_printf(
			&arena,
			",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"%s\","
			"\"uid\":\"%.*s\",\"blockOwnerDeletion\":%s}]",
			owner, STR_ARG(o->uid), blocks ? "true" : "false");
	}
	house_create(h, arena_printf(&arena,
				     "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\","
				     "\"namespace\":\"default\"%s}}",
				     name, refs));
}

static int hold(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	meta_add_finalizer(arena, object, STR("example.com/hold"));
	return 0;
}

struct names {
	const char *gone[4], *there[4];
};

static bool is_so(struct house *h, void *arg)
{
	const struct names *n = arg;

	for (size_t i = 0; i < ARRAY_SIZE(n->gone) && n->gone[i]; i++)
		if (exists(h, KIND_CONFIGMAP, "default", n->gone[i]))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(n->there) && n->there[i]; i++)
		assert_true(exists(h, KIND_CONFIGMAP, "default", n->there[i]));
	return house_is_quiet(h, NULL);
}

static void test_background(void **state)
{
	struct house *h = *state;

	create_config(h, "bg", NULL, false);
	create_config(h, "bg-child", "bg", false);
	create_config(h, "bg-grandchild", "bg-child", false);
	create_config(h, "bg-other", NULL, false);
	house_delete(h, KIND_CONFIGMAP, "default", "bg", "Background");
	house_wait(h, is_so, (&(struct names){ { "bg", "bg-child", "bg-grandchild" }, { "bg-other" } }));
}

static void test_foreground(void **state)
{
	struct house *h = *state;

	create_config(h, "fg", NULL, false);
	create_config(h, "fg-child", "fg", true);
	house_update(h, KIND_CONFIGMAP, "default", "fg-child", NULL, hold, NULL);
	house_delete(h, KIND_CONFIGMAP, "default", "fg", "Foreground");
	/* The owner stays as long as the dependent that blocks it. */
	house_wait(h, house_is_quiet, NULL);
	assert_true(exists(h, KIND_CONFIGMAP, "default", "fg"));
	assert_true(house_get(h, KIND_CONFIGMAP, "default", "fg-child")->deleting);
	house_update(h, KIND_CONFIGMAP, "default", "fg-child", NULL, drop_finalizers, NULL);
	house_wait(h, is_so, (&(struct names){ { "fg", "fg-child" }, { NULL } }));
}

static void test_orphan(void **state)
{
	struct house *h = *state;

	create_config(h, "or", NULL, false);
	create_config(h, "or-child", "or", true);
	house_delete(h, KIND_CONFIGMAP, "default", "or", "Orphan");
	house_wait(h, is_so, (&(struct names){ { "or" }, { "or-child" } }));
	assert_int_equal(house_get(h, KIND_CONFIGMAP, "default", "or-child")->n_owners, 0);
}

/* The owner's name with another uid is no owner; an owner of a kind nobody knows is not judged. */
static void test_uid_counts(void **state)
{
	struct house *h = *state;

	create_config(h, "late", NULL, false);
	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"late-child\","
			"\"namespace\":\"default\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\","
			"\"name\":\"late\",\"uid\":\"no-such-uid\"}]}}");
	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"alien-child\","
			"\"namespace\":\"default\",\"ownerReferences\":[{\"apiVersion\":\"example.com/v1\",\"kind\":"
			"\"Alien\",\"name\":\"x\",\"uid\":\"no-such-uid-2\"}]}}");
	house_wait(h, is_so, (&(struct names){ { "late-child" }, { "late", "alien-child" } }));
}

/* ---- endpoints ---- */

struct find_slice {
	const char *service;
	const struct object *found;
	size_t n;
};

static void look_at_slice(void *arg, const struct object *o)
{
	struct find_slice *f = arg;

	if (!str_is(object_label(o, STR("kubernetes.io/service-name")), f->service))
		return;
	f->found = o;
	f->n++;
}

static struct json *slice_of(struct house *h, struct arena *arena, const char *service)
{
	struct find_slice f = { .service = service };

	registry_each(h->reg, KIND_ENDPOINTSLICE, STR("default"), look_at_slice, &f);
	return f.n == 1 ? registry_parse(arena, f.found) : NULL;
}

struct endpoints_wanted {
	const char *service;
	size_t ready, not_ready;
};

static bool endpoints_are(struct house *h, void *arg)
{
	const struct endpoints_wanted *w = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *slice = slice_of(h, &arena, w->service);
	struct json *ep = house_json(h, &arena, KIND_ENDPOINTS, "default", w->service);
	size_t ready = 0, not_ready = 0, addresses = 0;

	if (!slice || !ep)
		return false;
	json_foreach(e, json_get(slice, "endpoints"))
		(*(json_at_bool(e, "conditions.ready", false) ? &ready : &not_ready))++;
	json_foreach(s, json_get(ep, "subsets"))
		addresses += json_count(json_get(s, "addresses"));
	return ready == w->ready && not_ready == w->not_ready && addresses == w->ready && house_is_quiet(h, NULL);
}

static int set_not_ready(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_cstr(arena, meta_condition(json_at(object, "status.conditions"), "Ready"), "status", "False");
	return 0;
}

static void test_endpoints_follow_pods(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *slice, *port, *endpoint;
	struct str name;

	house_create(
		h, "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"ep\",\"namespace\":"
		   "\"default\",\"labels\":{\"x\":\"y\"}},\"spec\":{\"selector\":{\"app\":\"ep\"},\"ports\":[{\"name\":"
		   "\"web\",\"port\":80,\"targetPort\":\"http\"}]}}");
	house_wait(h, endpoints_are, (&(struct endpoints_wanted){ "ep", 0, 0 }));
	house_create(h, POD("default", "ep-1", "\"app\":\"ep\""));
	house_create(h, POD("default", "ep-2", "\"app\":\"ep\""));
	house_create(h, POD("default", "ep-3", "\"app\":\"other\""));
	house_wait(h, endpoints_are, (&(struct endpoints_wanted){ "ep", 2, 0 }));
	slice = slice_of(h, &arena, "ep");
	port = json_index(json_get(slice, "ports"), 0);
	endpoint = json_index(json_get(slice, "endpoints"), 0);
	name = meta_name(slice);
	assert_int_equal(json_get_int(port, "port", 0), 8080);
	assert_true(str_is(json_get_str(port, "name"), "web"));
	assert_true(str_is(json_at_str(endpoint, "targetRef.kind"), "Pod"));
	assert_true(str_is(meta_label(slice, "x"), "y"));
	assert_true(
		str_is(meta_label(slice, "endpointslice.kubernetes.io/managed-by"), "endpointslice-controller.k8s.io"));
	name = arena_str(&arena, name);
	house_update(h, KIND_POD, "default", "ep-1", "status", set_not_ready, NULL);
	house_wait(h, endpoints_are, (&(struct endpoints_wanted){ "ep", 1, 1 }));
	house_delete(h, KIND_POD, "default", "ep-1", NULL);
	house_wait(h, endpoints_are, (&(struct endpoints_wanted){ "ep", 1, 0 }));
	assert_true(str_eq(meta_name(slice_of(h, &arena, "ep")), name)); /* the same slice all along */
	house_delete(h, KIND_SERVICE, "default", "ep", NULL);
}

static bool has_slices(struct house *h, void *arg)
{
	struct find_slice f = { .service = "many" };

	registry_each(h->reg, KIND_ENDPOINTSLICE, STR("default"), look_at_slice, &f);
	return f.n == *(size_t *)arg && house_is_quiet(h, NULL);
}

static void test_slices_have_a_limit(void **state)
{
	struct house *h = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	size_t n = 2;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"many\",\"namespace\":"
			"\"default\"},\"spec\":{\"selector\":{\"app\":\"many\"},\"ports\":[{\"port\":80}]}}");
	for (int i = 0; i < 101; i++)
		house_create(h,
			     arena_printf(&arena,
					  "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"many-%d\","
					  "\"namespace\":\"default\",\"labels\":{\"app\":\"many\"}},\"spec\":{"
					  "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}",
					  i));
	house_wait(h, has_slices, &n);
}

/* ---- the table ---- */

static void test_disable(void **state)
{
	struct house *h = *state;
	_cleanup_err_ struct err err = ERR_INIT;
	struct controllers *c = NULL;
	const char *const unknown[] = { "nonsense", NULL }, *const some[] = { "garbage-collector", "deployment", NULL };
	struct controllers_options options = { .disable = unknown };
	size_t all = controllers_count(h->controllers);

	assert_int_equal(controllers_start(h->loop, h->reg, &options, &c, &err), -EINVAL);
	options.disable = some;
	assert_int_equal(controllers_start(h->loop, h->reg, &options, &c, &err), 0);
	assert_int_equal(controllers_count(c), all - 2);
	controllers_stop(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_objects),
		cmocka_unit_test(test_what_must_be_comes_back),
		cmocka_unit_test(test_namespace_deletion),
		cmocka_unit_test(test_background),
		cmocka_unit_test(test_foreground),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_uid_counts),
		cmocka_unit_test(test_endpoints_follow_pods),
		cmocka_unit_test(test_slices_have_a_limit),
		cmocka_unit_test(test_idle_writes_nothing),
		cmocka_unit_test(test_disable),
	};

	return cmocka_run_group_tests(tests, house_setup, house_teardown);
}
