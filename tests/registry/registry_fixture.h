/* SPDX-License-Identifier: Apache-2.0 */
/* A registry over a real store in a folder of its own. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"
#include "userspace/registry/registry.h"
#include "userspace/registry/request.h"

struct fixture {
	char dir[64];
	char path[96];
	struct loop *loop;
	struct store *store;
	struct registry *reg;
	struct registry_options options;
	const char *service_cidr, *cluster_dns; /* NULL: one family; read by fixture_open() */
	/* The last answer. */
	bool answered;
	int status; /* of the result or error */
	char *message, *reason;
	char *json;  /* object or body */
	char *items; /* names of a list, with blanks */
	char *continue_token;
	int64_t remaining, revision;
	char warnings[2048];
	struct arena arena;
	struct json *tree; /* of json */
	struct loop_timer deadline;
};

static inline void fixture_open(struct fixture *f)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct store_options so = { .path = f->path };

	if (store_open(f->loop, &so, &f->store, &err) < 0)
		fail_msg("%s", err_message(&err));
	f->options = (struct registry_options){
		.service_cidr = f->service_cidr ? f->service_cidr : "10.43.0.0/16",
		.node_port_min = 30000,
		.node_port_max = 32767,
		.cluster_domain = "cluster.local",
		.cluster_dns = f->cluster_dns ? f->cluster_dns : "10.43.0.10",
	};
	if (registry_create_all(f->loop, f->store, &f->options, &f->reg, &err) < 0)
		fail_msg("%s", err_message(&err));
}

static inline void fixture_clear(struct fixture *f)
{
	free(f->message);
	free(f->reason);
	free(f->json);
	free(f->items);
	free(f->continue_token);
	f->message = f->reason = f->json = f->items = f->continue_token = NULL;
	f->answered = false;
	f->status = 0;
	f->warnings[0] = 0;
	f->tree = NULL;
	arena_finish(&f->arena);
	f->arena = ARENA_INIT;
}

static inline void fixture_close(struct fixture *f)
{
	registry_destroy(f->reg);
	store_close(f->store);
	f->reg = NULL;
	f->store = NULL;
}

static inline void fixture_late(struct loop_timer *timer)
{
	(void)timer;
	print_error("no answer in time\n");
	abort();
}

static inline void fixture_wait(struct fixture *f)
{
	if (f->answered)
		return;
	loop_timer_init(&f->deadline, fixture_late);
	loop_timer_arm(f->loop, &f->deadline, 60 * NS_PER_S);
	loop_run(f->loop);
	loop_timer_cancel(f->loop, &f->deadline);
	assert_true(f->answered);
}

static inline void fixture_answer(void *arg, const struct request_result *r, const struct err *err)
{
	struct fixture *f = arg;
	_cleanup_(buf_finish) struct buf names = BUF_INIT;

	assert_false(f->answered);
	f->answered = true;
	for (size_t i = 0; r && i < r->n_warnings; i++)
		snprintf(f->warnings + strlen(f->warnings), sizeof(f->warnings) - strlen(f->warnings), "%.*s;",
			 STR_ARG(r->warnings[i]));
	if (err) {
		f->status = err->status;
		f->message = mem_strdup(err_message(err));
		f->reason = mem_strdup(err->reason ? err->reason : "");
		f->continue_token = err->list_continue ? mem_strdup(err->list_continue) : NULL;
	} else {
		f->status = r->http_status;
		if (r->object)
			f->json = str_dup(r->object->json);
		else if (r->body.n)
			f->json = str_dup(r->body);
		for (size_t i = 0; i < r->n_items; i++)
			buf_printf(&names, "%s%.*s", i ? " " : "", STR_ARG(r->items[i]->name));
		f->items = buf_steal(&names, NULL);
		f->continue_token = str_dup(r->list_continue);
		f->remaining = r->list_remaining;
		f->revision = r->list_revision;
		if (f->json)
			assert_int_equal(json_parse(&f->arena, str_of(f->json), 0, &f->tree, NULL), 0);
	}
	loop_stop(f->loop, 0);
}

static inline void fixture_simple(void *arg, const struct object *o, const struct err *err)
{
	struct request_result r = { .http_status = 200, .object = o, .list_remaining = -1 };

	fixture_answer(arg, err ? NULL : &r, err);
}

/* Runs one request to its answer; returns the status. */
static inline int fixture_run(struct fixture *f, struct request *rq)
{
	fixture_clear(f);
	request_run(f->reg, rq, fixture_answer, f);
	fixture_wait(f);
	return f->status;
}

/* Somebody without any role, and an administrator of the same name. Requests are the latter's. */
static const struct request_user FIXTURE_USER = { .name = { "tester", 6 } };
static const struct str FIXTURE_GROUPS[] = { { "system:masters", 14 } };
static const struct request_user FIXTURE_ADMIN = { .name = { "tester", 6 }, .groups = FIXTURE_GROUPS, .n_groups = 1 };

static inline struct request fixture_request(enum api_verb verb, const struct api_kind *kind, const char *ns,
					     const char *name, const char *body)
{
	return (struct request){
		.verb = verb,
		.kind = kind,
		.ns = str_of(ns),
		.name = str_of(name),
		.body = str_of(body),
		.user = &FIXTURE_ADMIN,
	};
}

static inline int fixture_do(struct fixture *f, enum api_verb verb, const struct api_kind *kind, const char *ns,
			     const char *name, const char *body)
{
	struct request rq = fixture_request(verb, kind, ns, name, body);

	return fixture_run(f, &rq);
}

static inline void fixture_expect(struct fixture *f, int status, const char *what)
{
	if (f->status != status)
		fail_msg("%s: status %d, expected %d: %s", what, f->status, status, f->message ? f->message : f->json);
}

/* The value at a path of the last answer, as text; "" when absent. */
static inline const char *fixture_at(struct fixture *f, const char *path)
{
	struct json *v = json_at(f->tree, path);
	struct buf out = BUF_INIT;
	const char *text;

	if (!v)
		return "";
	if (v->type == JSON_STRING)
		return arena_strndup(&f->arena, v->text.p, v->text.n);
	json_write(&out, v);
	text = arena_strndup(&f->arena, out.data + out.start, buf_len(&out));
	buf_finish(&out);
	return text;
}

static inline void fixture_namespace(struct fixture *f, const char *name)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"%s\"}}",
		 name);
	fixture_do(f, API_VERB_CREATE, KIND_NAMESPACE, "", "", body);
	fixture_expect(f, 201, name);
}

static inline int fixture_setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	struct loop_options options = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;

	snprintf(f->dir, sizeof(f->dir), "/tmp/k3c-registry-XXXXXX");
	if (!mkdtemp(f->dir))
		fail_msg("mkdtemp: %s", strerror(errno));
	snprintf(f->path, sizeof(f->path), "%s/state.db", f->dir);
	if (loop_create(&options, &f->loop, &err) < 0)
		fail_msg("%s", err_message(&err));
	fixture_open(f);
	fixture_namespace(f, "default");
	*state = f;
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	fixture_clear(f);
	fixture_close(f);
	loop_destroy(f->loop);
	fs_remove_tree(f->dir, NULL);
	free(f);
	return 0;
}
