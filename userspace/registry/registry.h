/* SPDX-License-Identifier: Apache-2.0 */
/* The one path to every object, for clients over the wire and for the controllers, scheduler,
 * kubelet, netctl and dns in process alike. Loop thread only.
 *
 * Reads are synchronous and see only what is durable. Writes pass one pipeline in one order
 * (decode -> default -> mutating admission -> prepare -> validate -> validating admission ->
 * canonical bytes -> commit) synchronously against the newest pending state, and complete later,
 * when they are durable: `done` runs after the cache and the watchers have seen the change. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "datastore/object.h"
#include "userspace/api/kind.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/list.h"

struct pod_security_config;
struct registry;
struct store;
struct loop;

struct registry_options {
	const char *service_cidr; /* "10.43.0.0/16[,v6]" */
	int node_port_min, node_port_max;
	const char *cluster_domain;
	const char *cluster_dns;                        /* reserved: "a" or "a,b" */
	const struct pod_security_config *pod_security; /* must outlive the registry; NULL: nothing is configured */
};

int registry_create_all(struct loop *loop, struct store *store, const struct registry_options *options,
			struct registry **ret, struct err *err);
/* Before the store is closed. Writes still under way reach the disk then, but `done` is not called any more. */
void registry_destroy(struct registry *reg);

/* ---- reads: borrowed until control returns to the loop; object_ref() keeps ---- */

const struct object *registry_get(struct registry *reg, const struct api_kind *kind, struct str ns, struct str name);
/* By uid, any kind; NULL when there is none. */
const struct object *registry_by_uid(struct registry *reg, struct str uid);

typedef void registry_each_fn(void *arg, const struct object *o);
/* ns empty: all namespaces. In order of namespace/name. */
void registry_each(struct registry *reg, const struct api_kind *kind, struct str ns, registry_each_fn *fn, void *arg);
/* Objects that name `uid` as an owner, any kind. */
void registry_each_owned(struct registry *reg, struct str uid, registry_each_fn *fn, void *arg);
size_t registry_count(struct registry *reg, const struct api_kind *kind);
/* The newest durable revision. */
int64_t registry_revision(struct registry *reg);
/* The object's JSON as a tree; strings point into the object, which must be kept. Aborts never: stored bytes parse.
 * metadata.managedFields stays text (JSON_RAW). */
struct json *registry_parse(struct arena *arena, const struct object *o);

/* ---- watches in process ---- */

enum registry_event_type { REGISTRY_ADDED, REGISTRY_MODIFIED, REGISTRY_DELETED };

struct registry_watch {
	struct list link;
	/* `prev`: the state before (MODIFIED, DELETED). For DELETED `o` is the last state, with the revision of the
	 * deletion. */
	void (*fn)(struct registry_watch *w, enum registry_event_type type, const struct object *o,
		   const struct object *prev);
	const struct api_kind *kind;
};

/* Replays what exists as ADDED (during the call), then every change in commit order. */
void registry_watch_start(struct registry *reg, struct registry_watch *w);
void registry_watch_stop(struct registry *reg, struct registry_watch *w);

/* ---- writes ---- */

/* `o`: the object as stored (NULL on error); borrowed. `err`: NULL on success. Called once, possibly before the
 * writing call returns when it is refused at once. */
typedef void registry_done_fn(void *arg, const struct object *o, const struct err *err);

/* Changes a parsed object in place. Return 0 to go on, 1 for "nothing to change" (done gets the current
 * object), or a negative errno with err. Must not keep `object`. */
typedef int registry_mutate_fn(void *arg, struct arena *arena, struct json *object, struct err *err);

/* The manager of what a room writes, in managedFields; as upstream's program that does the room's work is called. Each
 * room's is in CMakeLists.txt. */
#ifndef REGISTRY_MANAGER
#define REGISTRY_MANAGER "k3c-bpf"
#endif

/* `object` is a complete object (metadata.name or generateName, namespace set); borrowed for the call. */
void registry_create_as(struct registry *reg, const char *manager, const struct api_kind *kind, struct json *object,
			registry_done_fn *done, void *arg);
static inline void registry_create(struct registry *reg, const struct api_kind *kind, struct json *object,
				   registry_done_fn *done, void *arg)
{
	registry_create_as(reg, REGISTRY_MANAGER, kind, object, done, arg);
}

/* Read the newest state, change it, write it: cannot conflict. subresource: NULL or "status", ... */
void registry_update_as(struct registry *reg, const char *manager, const struct api_kind *kind, struct str ns,
			struct str name, const char *subresource, registry_mutate_fn *mutate, void *mutate_arg,
			registry_done_fn *done, void *arg);
static inline void registry_update(struct registry *reg, const struct api_kind *kind, struct str ns, struct str name,
				   const char *subresource, registry_mutate_fn *mutate, void *mutate_arg,
				   registry_done_fn *done, void *arg)
{
	registry_update_as(reg, REGISTRY_MANAGER, kind, ns, name, subresource, mutate, mutate_arg, done, arg);
}

struct registry_delete_options {
	int64_t grace_period_s;   /* -1: the object's own */
	const char *propagation;  /* NULL: the kind's default; "Orphan", "Background", "Foreground" */
	struct str uid;           /* precondition, empty: none */
	int64_t resource_version; /* precondition, 0: none */
};

void registry_delete(struct registry *reg, const struct api_kind *kind, struct str ns, struct str name,
		     const struct registry_delete_options *options, registry_done_fn *done, void *arg);

/* An Event about `about` (aggregated by the usual keys: count, lastTimestamp). type: "Normal", "Warning". */
void registry_event(struct registry *reg, const char *component, const struct object *about, const char *type,
		    const char *reason, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* The same, with involvedObject.fieldPath ("spec.containers{app}"). */
void registry_event_at(struct registry *reg, const char *component, const struct object *about, const char *field_path,
		       const char *type, const char *reason, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));
