/* SPDX-License-Identifier: Apache-2.0 */
/* LIST with selectors and pages of one revision; WATCH through selections, resuming, expiry. */
#include "tests/registry/registry_fixture.h"

static void cm(struct fixture *f, enum api_verb verb, const char *ns, const char *name, const char *label)
{
	char body[256];

	snprintf(
		body, sizeof(body),
		"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\",\"labels\":{\"l\":\"%s\"}}}",
		name, label);
	fixture_do(f, verb, KIND_CONFIGMAP, ns, verb == API_VERB_CREATE ? "" : name, body);
	assert_in_range(f->status, 200, 201);
}

static void test_selectors(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_LIST, KIND_CONFIGMAP, "default", "", "");

	fixture_namespace(f, "other");
	cm(f, API_VERB_CREATE, "default", "b", "1");
	cm(f, API_VERB_CREATE, "default", "a", "2");
	cm(f, API_VERB_CREATE, "other", "c", "1");
	fixture_run(f, &rq);
	fixture_expect(f, 200, "all");
	assert_string_equal(f->items, "a b");
	assert_true(f->revision > 0);
	rq.label_selector = STR("l in (1,3)");
	fixture_run(f, &rq);
	assert_string_equal(f->items, "b");
	rq.ns = STR_NULL;
	fixture_run(f, &rq);
	assert_string_equal(f->items, "b c");
	rq.field_selector = STR("metadata.namespace!=default");
	fixture_run(f, &rq);
	assert_string_equal(f->items, "c");
	rq = fixture_request(API_VERB_LIST, KIND_CONFIGMAP, "default", "", "");
	rq.field_selector = STR("metadata.name=a");
	fixture_run(f, &rq);
	assert_string_equal(f->items, "a");
	rq.label_selector = STR("a=b=c");
	assert_int_equal(fixture_run(f, &rq), 400);
	rq.label_selector = STR_NULL;
	rq.field_selector = STR("spec.nothing=1");
	assert_int_equal(fixture_run(f, &rq), 400);
}

/* Revision 0 is upstream's watch cache: all of it. Any other revision with a limit is meant exactly. */
static void test_limits_and_revisions(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_LIST, KIND_CONFIGMAP, "default", "", "");
	char revision[32];

	for (const char *n = "abc"; *n; n++)
		cm(f, API_VERB_CREATE, "default", (char[]){ *n, 0 }, "1");
	rq.limit = 2;
	rq.resource_version = STR("0");
	fixture_run(f, &rq);
	assert_string_equal(f->items, "a b c");
	assert_string_equal(f->continue_token, "");
	snprintf(revision, sizeof(revision), "%lld", (long long)f->revision);
	cm(f, API_VERB_CREATE, "default", "aa", "1");
	rq.resource_version = str_of(revision);
	fixture_run(f, &rq);
	assert_string_equal(f->items, "a b");
	rq.resource_version_match = STR("NotOlderThan");
	fixture_run(f, &rq);
	assert_string_equal(f->items, "a aa");
	rq.limit = 0;
	rq.resource_version_match = STR_NULL;
	fixture_run(f, &rq);
	assert_string_equal(f->items, "a aa b c");
}

/* A page of a list shows the state of the first page, whatever happened since. */
static void test_pages_are_of_one_revision(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_LIST, KIND_CONFIGMAP, "default", "", "");
	char token[512];
	int64_t revision;

	for (const char *n = "abcdef"; *n; n++)
		cm(f, API_VERB_CREATE, "default", (char[]){ *n, 0 }, "1");
	rq.limit = 2;
	fixture_run(f, &rq);
	assert_string_equal(f->items, "a b");
	assert_int_equal(f->remaining, 4);
	revision = f->revision;
	snprintf(token, sizeof(token), "%s", f->continue_token);
	cm(f, API_VERB_CREATE, "default", "bb", "1");
	cm(f, API_VERB_UPDATE, "default", "c", "9");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "d", "");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "f", "");
	rq.continue_token = str_of(token);
	fixture_run(f, &rq);
	fixture_expect(f, 200, "second page");
	assert_string_equal(f->items, "c d");
	assert_int_equal(f->revision, revision);
	snprintf(token, sizeof(token), "%s", f->continue_token);
	rq.continue_token = str_of(token);
	fixture_run(f, &rq);
	assert_string_equal(f->items, "e f");
	assert_string_equal(f->continue_token, "");
	assert_int_equal(f->remaining, -1);
	rq.continue_token = STR("!!");
	assert_int_equal(fixture_run(f, &rq), 400);
	/* After a restart there is no history to show it from. */
	rq.continue_token = str_of(token);
	fixture_close(f);
	fixture_open(f);
	cm(f, API_VERB_CREATE, "default", "z", "1");
	assert_int_equal(fixture_run(f, &rq), 410);
	assert_string_equal(f->reason, "Expired");
}

/* ---- watching ---- */

struct seen {
	char text[1024];
	struct registry_stream *stream;
	int stop_after;
};

static void on_stream(void *arg, enum registry_stream_event type, const struct object *o, struct store_event *e)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	(void)e;
	snprintf(s->text + n, sizeof(s->text) - n, "%c%.*s ", "AMD!"[type], o ? (int)o->name.n : 0, o ? o->name.p : "");
	if (s->stop_after && --s->stop_after == 0) {
		registry_stream_stop(s->stream);
		s->stream = NULL;
	}
}

static int start(struct fixture *f, struct seen *s, const char *from, const char *labels, struct err *err)
{
	struct registry_stream_options o = {
		.kind = KIND_CONFIGMAP,
		.ns = STR("default"),
		.label_selector = str_of(labels),
		.resource_version = str_of(from),
	};

	return registry_stream_start(f->reg, &o, on_stream, s, &s->stream, err);
}

static void test_selection_of_a_watch(void **state)
{
	struct fixture *f = *state;
	struct seen s = { 0 };
	char revision[32];

	cm(f, API_VERB_CREATE, "default", "a", "1");
	cm(f, API_VERB_CREATE, "default", "b", "2");
	snprintf(revision, sizeof(revision), "%s", fixture_at(f, "metadata.resourceVersion"));
	assert_int_equal(start(f, &s, "", "l=1", NULL), 0);
	assert_string_equal(s.text, "Aa ");
	cm(f, API_VERB_UPDATE, "default", "b", "1");
	cm(f, API_VERB_UPDATE, "default", "a", "2");
	cm(f, API_VERB_UPDATE, "default", "a", "3");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "b", "");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "");
	assert_string_equal(s.text, "Aa Ab Da Db ");
	registry_stream_stop(s.stream);
	/* The same from where the first began. */
	s = (struct seen){ 0 };
	assert_int_equal(start(f, &s, revision, "", NULL), 0);
	assert_string_equal(s.text, "Mb Ma Ma Db Da ");
	registry_stream_stop(s.stream);
	s = (struct seen){ .stop_after = 2 };
	assert_int_equal(start(f, &s, revision, "", NULL), 0);
	assert_null(s.stream);
	assert_string_equal(s.text, "Mb Ma ");
}

/* A page whose revision is gone says so, and gives a token that goes on from its place in what is there now. */
static void test_inconsistent_continue(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_LIST, KIND_CONFIGMAP, "default", "", NULL);
	_cleanup_free_ char *token = NULL, *other = NULL;

	cm(f, API_VERB_CREATE, "default", "a", "1");
	cm(f, API_VERB_CREATE, "default", "b", "1");
	cm(f, API_VERB_CREATE, "default", "d", "1");
	rq.limit = 2;
	assert_int_equal(fixture_run(f, &rq), 200);
	token = mem_strdup(f->continue_token);
	cm(f, API_VERB_CREATE, "default", "c", "1");
	fixture_close(f);
	fixture_open(f);
	rq.continue_token = str_of(token);
	assert_int_equal(fixture_run(f, &rq), 410);
	assert_non_null(strstr(f->message, "or use the continue token in this response"));
	assert_non_null(f->continue_token);
	other = mem_strdup(f->continue_token);
	rq.continue_token = str_of(other);
	assert_int_equal(fixture_run(f, &rq), 200);
	assert_string_equal(f->items, "c d");
	rq.continue_token = STR("%%%");
	assert_int_equal(fixture_run(f, &rq), 400);
	assert_int_equal(strncmp(f->message, "invalid continue token: continue key is not valid", 49), 0);
}

static void test_revisions(void **state)
{
	struct fixture *f = *state;
	struct request rq = fixture_request(API_VERB_LIST, KIND_CONFIGMAP, "default", "", NULL);
	char revision[32];

	cm(f, API_VERB_CREATE, "default", "a", "1");
	snprintf(revision, sizeof(revision), "%lld", (long long)registry_revision(f->reg));
	cm(f, API_VERB_CREATE, "default", "b", "1");
	rq.resource_version = str_of(revision);
	rq.resource_version_match = STR("Exact");
	assert_int_equal(fixture_run(f, &rq), 200);
	assert_string_equal(f->items, "a");
	rq.resource_version_match = STR("NotOlderThan");
	assert_int_equal(fixture_run(f, &rq), 200);
	assert_string_equal(f->items, "a b");
	/* After a restart there is no history to show it from. */
	fixture_close(f);
	fixture_open(f);
	rq.resource_version_match = STR("Exact");
	assert_int_equal(fixture_run(f, &rq), 410);
	assert_string_equal(f->message, "The resourceVersion for the provided list is too old.");
	rq.resource_version = STR("99999999");
	assert_int_equal(fixture_run(f, &rq), 504);
	assert_string_equal(f->reason, "Timeout");
	rq.resource_version_match = STR_NULL;
	rq.resource_version = STR("abc");
	assert_int_equal(fixture_run(f, &rq), 400);
	assert_string_equal(f->message, "invalid resource version: resourceVersion: Invalid value: \"abc\": "
					"strconv.ParseUint: parsing \"abc\": invalid syntax");
}

static void test_expired(void **state)
{
	struct fixture *f = *state;
	struct seen s = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;

	cm(f, API_VERB_CREATE, "default", "a", "1");
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(start(f, &s, "1", "", &err), -ESTALE);
	assert_int_equal(err.status, 410);
	assert_string_equal(err.reason, "Expired");
	assert_int_equal(strncmp(err.message, "too old resource version: 1 (", 29), 0);
	assert_null(s.stream);
}

static void test_initial_events_and_bookmark(void **state)
{
	struct fixture *f = *state;
	struct seen s = { 0 };
	struct registry_stream_options o = {
		.kind = KIND_CONFIGMAP,
		.ns = STR("default"),
		.resource_version_match = STR("NotOlderThan"),
		.has_send_initial_events = true,
		.send_initial_events = true,
		.allow_bookmarks = true,
	};

	cm(f, API_VERB_CREATE, "default", "a", "1");
	cm(f, API_VERB_CREATE, "default", "b", "1");
	assert_int_equal(registry_stream_start(f->reg, &o, on_stream, &s, &s.stream, NULL), 0);
	assert_string_equal(s.text, "Aa Ab ! ");
	assert_int_equal(registry_stream_revision(s.stream), registry_revision(f->reg));
	registry_stream_stop(s.stream);
}

/* ---- in process ---- */

struct local {
	struct registry_watch watch, second;
	struct registry *reg;
	char text[512];
};

static void on_local(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		     const struct object *prev)
{
	struct local *l = container_of(w, struct local, watch);
	size_t n = strlen(l->text);

	assert_true((type == REGISTRY_ADDED) == (prev == NULL));
	snprintf(l->text + n, sizeof(l->text) - n, "%c%.*s ", "AMD"[type], STR_ARG(o->name));
	if (type == REGISTRY_MODIFIED)
		registry_watch_stop(l->reg, &l->second);
}

static void on_second(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	struct local *l = container_of(w, struct local, second);

	(void)prev;
	(void)o;
	if (type == REGISTRY_MODIFIED)
		registry_watch_stop(l->reg, &l->watch);
}

static void test_watch_in_process(void **state)
{
	struct fixture *f = *state;
	struct local l = { .reg = f->reg,
			   .watch = { .fn = on_local, .kind = KIND_CONFIGMAP },
			   .second = { .fn = on_second, .kind = KIND_CONFIGMAP } };

	cm(f, API_VERB_CREATE, "default", "a", "1");
	registry_watch_start(f->reg, &l.watch);
	assert_string_equal(l.text, "Aa ");
	cm(f, API_VERB_CREATE, "default", "b", "1");
	registry_watch_start(f->reg, &l.second); /* each stops the other on a change */
	cm(f, API_VERB_UPDATE, "default", "b", "2");
	fixture_do(f, API_VERB_DELETE, KIND_CONFIGMAP, "default", "a", "");
	assert_true(strcmp(l.text, "Aa Ab ") == 0 || strcmp(l.text, "Aa Ab Mb Da ") == 0);
	registry_watch_stop(f->reg, &l.watch);
	registry_watch_stop(f->reg, &l.second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_selectors),
		T(test_limits_and_revisions),
		T(test_pages_are_of_one_revision),
		T(test_selection_of_a_watch),
		T(test_expired),
		T(test_initial_events_and_bookmark),
		T(test_watch_in_process),
		T(test_inconsistent_continue),
		T(test_revisions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
