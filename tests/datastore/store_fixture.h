/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a folder of its own under a loop, for the tests of this room. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "datastore/store.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"
#include "userspace/loop/loop.h"

#define FIXTURE_RESOURCES 3

struct fixture {
	char dir[64];
	char path[96];
	struct loop *loop;
	struct store *store;
	struct store_options options;
	size_t waiting;
	size_t ok, failed;
	int last_status;
	struct loop_timer deadline;
};

/* The stored text of these tests: resource|revision|ns|name|uid|owner|value. */
static inline const struct object *fixture_object(uint16_t resource, int64_t revision, const char *ns, const char *name,
						  const char *owner, const char *value)
{
	struct object_owner owners[1] = { { .uid = str_of(owner) } };
	char text[8192], uid[200];

	snprintf(uid, sizeof(uid), "%d-%s-%s", resource, ns, name);
	snprintf(text, sizeof(text), "%d|%lld|%s|%s|%s|%s|%s", resource, (long long)revision, ns, name, uid, owner,
		 value);
	return object_create(&(struct object_parts){
		.resource = resource,
		.revision = revision,
		.ns = str_of(ns),
		.name = str_of(name),
		.uid = str_of(uid),
		.json = str_of(text),
		.owners = owners,
		.n_owners = owner[0] ? 1 : 0,
	});
}

static inline int fixture_decode(void *arg, uint16_t resource, struct str json, const struct object **ret,
				 struct err *err)
{
	struct str rest = json, part[6];
	int64_t revision;
	char ns[200], name[200], owner[200];
	_cleanup_free_ char *value = NULL;

	(void)arg;
	for (size_t i = 0; i < 6; i++)
		if (!str_split(&rest, '|', &part[i]))
			return err_set(err, -EINVAL, "not a test object");
	if (str_to_int64(part[1], &revision) < 0)
		return err_set(err, -EINVAL, "bad revision");
	snprintf(ns, sizeof(ns), "%.*s", STR_ARG(part[2]));
	snprintf(name, sizeof(name), "%.*s", STR_ARG(part[3]));
	snprintf(owner, sizeof(owner), "%.*s", STR_ARG(part[5]));
	value = str_dup(rest);
	*ret = fixture_object(resource, revision, ns, name, owner, value);
	return 0;
}

static inline struct str fixture_value(const struct object *o)
{
	struct str rest = o->json, part;

	for (size_t i = 0; i < 6; i++)
		str_split(&rest, '|', &part);
	return rest;
}

static inline void fixture_open(struct fixture *f)
{
	_cleanup_err_ struct err err = ERR_INIT;

	f->options.path = f->path;
	if (store_open(f->loop, &f->options, &f->store, &err) < 0)
		fail_msg("%s", err_message(&err));
	for (int i = 0; i < FIXTURE_RESOURCES; i++)
		assert_int_equal(store_add_resource(f->store, "test", i == 0 ? "zeros" : i == 1 ? "ones" : "twos"), i);
	if (store_load(f->store, fixture_decode, NULL, &err) < 0)
		fail_msg("%s", err_message(&err));
}

static inline int fixture_setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	struct loop_options options = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;

	snprintf(f->dir, sizeof(f->dir), "/tmp/k3c-store-XXXXXX");
	if (!mkdtemp(f->dir))
		fail_msg("mkdtemp: %s", strerror(errno));
	snprintf(f->path, sizeof(f->path), "%s/state.db", f->dir);
	if (loop_create(&options, &f->loop, &err) < 0)
		fail_msg("%s", err_message(&err));
	fixture_open(f);
	*state = f;
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->store);
	loop_destroy(f->loop);
	fs_remove_tree(f->dir, NULL);
	free(f);
	return 0;
}

static inline void fixture_reopen(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
	fixture_open(f);
}

static inline void fixture_late(struct loop_timer *timer)
{
	(void)timer;
	print_error("a write was not answered in time\n");
	abort();
}

/* Runs the loop until nothing is waited for. */
static inline void fixture_wait(struct fixture *f)
{
	if (f->waiting == 0)
		return;
	loop_timer_init(&f->deadline, fixture_late);
	loop_timer_arm(f->loop, &f->deadline, 60 * NS_PER_S);
	loop_run(f->loop);
	loop_timer_cancel(f->loop, &f->deadline);
}

static inline void fixture_done(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	if (err) {
		f->failed++;
		f->last_status = err->status;
	} else {
		f->ok++;
	}
	assert_true(f->waiting > 0);
	if (--f->waiting == 0)
		loop_stop(f->loop, 0);
}

static inline int fixture_write_full(struct fixture *f, uint16_t resource, const char *ns, const char *name,
				     const char *owner, const char *value, bool remove,
				     enum store_durability durability)
{
	const struct object *newest = store_newest(f->store, resource, str_of(ns), str_of(name));
	_cleanup_object_ const struct object *o =
		fixture_object(resource, store_next_revision(f->store), ns, name, owner, value);
	struct store_op op = { .object = o, .remove = remove, .expect = newest ? newest->revision : 0 };
	int r = store_commit(f->store, &op, 1, durability, fixture_done, f, NULL, NULL);

	if (r == 0)
		f->waiting++;
	return r;
}

static inline void fixture_put(struct fixture *f, const char *name, const char *value)
{
	assert_int_equal(fixture_write_full(f, 0, "ns", name, "", value, false, STORE_DURABLE), 0);
}

static inline void fixture_remove(struct fixture *f, const char *name)
{
	assert_int_equal(fixture_write_full(f, 0, "ns", name, "", "gone", true, STORE_DURABLE), 0);
}

static inline const struct object *fixture_get(struct fixture *f, const char *name)
{
	return store_get(f->store, 0, STR("ns"), str_of(name));
}
