/* SPDX-License-Identifier: Apache-2.0 */
/* A whole house for tests of controllers: loop, store in a folder of its own, registry, controllers,
 * and a stand-in for the kubelet that makes every pod ready and lets every deleted one go. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "datastore/store.h"
#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"
#include "userspace/controllers/controllers.h"
#include "userspace/loop/loop.h"
#include "userspace/registry/registry.h"

#define HOUSE_WAIT_NS (20 * NS_PER_S)
#define HOUSE_LOOK_NS (NS_PER_MS / 2)

struct house {
	char dir[64], path[96];
	struct loop *loop;
	struct store *store;
	struct registry *reg;
	struct controllers *controllers;
	/* the stand-in for the kubelet */
	struct registry_watch pods;
	bool hold_pods; /* pods stay pending */
	unsigned last_ip;
	/* waiting */
	struct loop_timer look, deadline;
	bool (*predicate)(struct house *h, void *arg);
	void *predicate_arg;
	bool timed_out;
	int pending;     /* writes of the test */
	int last_status; /* HTTP status of the last failed one */
};

static inline void house_look(struct loop_timer *t)
{
	struct house *h = container_of(t, struct house, look);

	if (h->predicate(h, h->predicate_arg))
		loop_stop(h->loop, 0);
	else
		loop_timer_arm(h->loop, &h->look, HOUSE_LOOK_NS);
}

static inline void house_deadline(struct loop_timer *t)
{
	struct house *h = container_of(t, struct house, deadline);

	h->timed_out = true;
	loop_stop(h->loop, 0);
}

static inline bool house_try_wait(struct house *h, bool (*predicate)(struct house *h, void *arg), void *arg,
				  int64_t limit_ns)
{
	h->predicate = predicate;
	h->predicate_arg = arg;
	h->timed_out = false;
	loop_timer_arm(h->loop, &h->look, 1);
	loop_timer_arm(h->loop, &h->deadline, limit_ns);
	loop_run(h->loop);
	loop_timer_cancel(h->loop, &h->look);
	loop_timer_cancel(h->loop, &h->deadline);
	return !h->timed_out;
}

#define house_wait(h, predicate, arg) assert_true(house_try_wait((h), (predicate), (arg), HOUSE_WAIT_NS))

static inline bool house_no_pending(struct house *h, void *arg)
{
	return h->pending == 0;
}

/* Nothing queued, delayed within sight or under way in any controller. */
static inline bool house_is_quiet(struct house *h, void *arg)
{
	for (size_t i = 0; i < controllers_count(h->controllers); i++) {
		struct runner_stats s;

		controllers_get_stats(h->controllers, i, &s);
		if (s.queued > 0 || s.waiting > 0)
			return false;
	}
	return true;
}

static inline void house_done(void *arg, const struct object *o, const struct err *err)
{
	struct house *h = arg;

	h->pending--;
	h->last_status = err ? err->status : 0;
	if (err)
		fprintf(stderr, "write of the test failed: %s\n", err_message(err));
}

static inline void house_finish_write(struct house *h)
{
	house_wait(h, house_no_pending, NULL);
	assert_int_equal(h->last_status, 0);
}

static inline void house_create(struct house *h, const char *text)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct str group, version;
	struct json *o;

	if (json_parse(&arena, str_of(text), 0, &o, &err) < 0)
		fail_msg("%s: %s", err_message(&err), text);
	assert_int_equal(api_parse_api_version(meta_api_version(o), &group, &version), 0);
	h->pending++;
	registry_create(h->reg, api_kind_by_kind(group, version, meta_kind(o)), o, house_done, h);
	house_finish_write(h);
}

static inline void house_update(struct house *h, const struct api_kind *kind, const char *ns, const char *name,
				const char *subresource, registry_mutate_fn *mutate, void *arg)
{
	h->pending++;
	registry_update(h->reg, kind, str_of(ns), str_of(name), subresource, mutate, arg, house_done, h);
	house_finish_write(h);
}

static inline void house_delete(struct house *h, const struct api_kind *kind, const char *ns, const char *name,
				const char *propagation)
{
	const struct registry_delete_options options = { .grace_period_s = -1, .propagation = propagation };

	h->pending++;
	registry_delete(h->reg, kind, str_of(ns), str_of(name), &options, house_done, h);
	house_finish_write(h);
}

static inline const struct object *house_get(struct house *h, const struct api_kind *kind, const char *ns,
					     const char *name)
{
	return registry_get(h->reg, kind, str_of(ns), str_of(name));
}

/* Parsed; strings live as long as the object, the tree as the arena. NULL when absent. */
static inline struct json *house_json(struct house *h, struct arena *arena, const struct api_kind *kind, const char *ns,
				      const char *name)
{
	const struct object *o = house_get(h, kind, ns, name);

	return o ? registry_parse(arena, o) : NULL;
}

/* ---- the stand-in for the kubelet ---- */

static inline int house_make_ready(void *arg, struct arena *arena, struct json *pod, struct err *err)
{
	struct house *h = arg;
	struct json *status = json_ensure_object(arena, pod, "status");
	struct json *conditions = json_ensure_array(arena, status, "conditions");
	struct json *ready = meta_condition(conditions, "Ready"), *ip = json_new_object(arena);
	char now[CLOCK_RFC3339_MAX];
	const char *address;

	if (meta_deleting(pod) || json_get_str(status, "podIP").n > 0)
		return 1;
	clock_format_rfc3339(clock_real_ns(), now);
	if (!ready) {
		ready = json_new_object(arena);
		json_set_cstr(arena, ready, "type", "Ready");
		json_append(conditions, ready);
	}
	json_set_cstr(arena, ready, "status", "True");
	json_set_cstr(arena, ready, "lastTransitionTime", arena_strdup(arena, now));
	json_set_cstr(arena, status, "phase", "Running");
	h->last_ip++;
	address = arena_printf(arena, "10.42.%u.%u", h->last_ip / 250, h->last_ip % 250 + 1);
	json_set_cstr(arena, status, "podIP", address);
	json_set_cstr(arena, ip, "ip", address);
	json_append(json_ensure_array(arena, status, "podIPs"), ip);
	return 0;
}

static inline void house_pod_done(void *arg, const struct object *o, const struct err *err)
{
	if (err && err->status != 404 && err->status != 409)
		fprintf(stderr, "pod write failed: %s\n", err_message(err));
}

static inline void house_on_pod(struct registry_watch *w, enum registry_event_type type, const struct object *o,
				const struct object *prev)
{
	struct house *h = container_of(w, struct house, pods);
	const struct registry_delete_options now = { .grace_period_s = 0, .uid = o->uid };

	if (type == REGISTRY_DELETED || h->hold_pods)
		return;
	if (o->deleting && (!prev || !prev->deleting))
		registry_delete(h->reg, KIND_POD, o->ns, o->name, &now, house_pod_done, h);
	else if (!o->deleting)
		registry_update(h->reg, KIND_POD, o->ns, o->name, "status", house_make_ready, h, house_pod_done, h);
}

static inline void house_release_pod(void *arg, const struct object *o)
{
	house_on_pod(&((struct house *)arg)->pods, REGISTRY_ADDED, o, NULL);
}

static inline void house_release_pods(struct house *h)
{
	h->hold_pods = false;
	registry_each(h->reg, KIND_POD, STR_NULL, house_release_pod, h);
}

/* ---- life ---- */

static inline void house_start_controllers(struct house *h)
{
	const struct controllers_options controllers = {
		.root_ca_pem = "-----BEGIN CERTIFICATE-----\n",
		.apiserver_address = "192.0.2.1",
		.apiserver_port = 6443,
		.kubernetes_service_ip = "10.43.0.1",
	};
	_cleanup_err_ struct err err = ERR_INIT;

	if (controllers_start(h->loop, h->reg, &controllers, &h->controllers, &err) < 0)
		fail_msg("%s", err_message(&err));
}

static inline void house_restart_controllers(struct house *h)
{
	controllers_stop(h->controllers);
	house_start_controllers(h);
}

static inline void house_open(struct house *h)
{
	const struct store_options store = { .path = h->path };
	const struct registry_options options = {
		.service_cidr = "10.43.0.0/16",
		.node_port_min = 30000,
		.node_port_max = 32767,
		.cluster_domain = "cluster.local",
		.cluster_dns = "10.43.0.10",
	};
	_cleanup_err_ struct err err = ERR_INIT;

	if (store_open(h->loop, &store, &h->store, &err) < 0 ||
	    registry_create_all(h->loop, h->store, &options, &h->reg, &err) < 0)
		fail_msg("%s", err_message(&err));
	h->pods = (struct registry_watch){ .fn = house_on_pod, .kind = KIND_POD };
	registry_watch_start(h->reg, &h->pods);
	house_start_controllers(h);
}

static inline bool house_has_default_account(struct house *h, void *arg)
{
	return house_get(h, KIND_SERVICEACCOUNT, "default", "default") != NULL;
}

static inline int house_setup(void **state)
{
	struct house *h = mem_new(struct house);
	_cleanup_err_ struct err err = ERR_INIT;

	log_set_level(LOG_LEVEL_ERROR);
	snprintf(h->dir, sizeof(h->dir), "/tmp/k3c-controllers-XXXXXX");
	if (!mkdtemp(h->dir) || loop_create(NULL, &h->loop, &err) < 0)
		return -1;
	snprintf(h->path, sizeof(h->path), "%s/state.db", h->dir);
	loop_timer_init(&h->look, house_look);
	loop_timer_init(&h->deadline, house_deadline);
	house_open(h);
	*state = h;
	return house_try_wait(h, house_has_default_account, NULL, HOUSE_WAIT_NS) ? 0 : -1;
}

static inline bool house_turns_over(struct house *h, void *arg)
{
	return --*(int *)arg < 0;
}

static inline int house_teardown(void **state)
{
	struct house *h = *state;
	int turns = 3;

	if (!h)
		return 0;
	controllers_stop(h->controllers);
	registry_watch_stop(h->reg, &h->pods);
	registry_destroy(h->reg);
	store_close(h->store);
	/* The writer's last message is the loop's to deliver. */
	house_try_wait(h, house_turns_over, &turns, HOUSE_WAIT_NS);
	loop_destroy(h->loop);
	fs_remove_tree(h->dir, NULL);
	free(h);
	return 0;
}
