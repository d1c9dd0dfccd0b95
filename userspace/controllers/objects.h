/* SPDX-License-Identifier: Apache-2.0 */
/* What most controllers need of objects: lists of them in the reconcile's arena, owner references,
 * label selectors, conditions, stamps. Pure, but for the lists; loop thread only. */
#pragma once

#include "userspace/api/meta.h"
#include "userspace/api/selector.h"
#include "userspace/base/arena.h"
#include "userspace/base/json.h"
#include "userspace/registry/registry.h"

/* Borrowed objects, in the arena. */
struct objects {
	struct arena *arena;
	const struct object **items;
	size_t n, cap;
};

void objects_add(struct objects *list, const struct object *o);
/* ns empty: all namespaces. */
struct objects objects_all(struct arena *arena, struct registry *reg, const struct api_kind *kind, struct str ns);
/* Of that kind, with `uid` among the owners. */
struct objects objects_owned(struct arena *arena, struct registry *reg, const struct api_kind *kind, struct str uid);
/* Of the kind and namespace, without a controlling owner. */
struct objects objects_orphans(struct arena *arena, struct registry *reg, const struct api_kind *kind, struct str ns);

bool object_is(const struct object *o, const struct api_kind *kind);
bool object_controlled_by(const struct object *o, struct str uid);

bool object_matches(const struct object *o, const struct selector *selector);
/* A LabelSelector, or the plain map of a ReplicationController or Service (where an empty one selects nothing). A
 * selector that does not compile selects nothing: it cannot have passed validation. */
struct selector selector_of_labels(struct arena *arena, const struct json *label_selector);
struct selector selector_of_map(struct arena *arena, const struct json *map);

/* A new object of the kind: apiVersion, kind, metadata{namespace, name}. `name` empty: not set. */
struct json *object_new(struct arena *arena, const struct api_kind *kind, struct str ns, struct str name);
/* Appends a controlling owner reference with blockOwnerDeletion. */
void object_set_controller(struct arena *arena, struct json *object, const struct api_kind *kind,
			   const struct object *owner);

/* Stable hash of a pod template as names and labels carry it; `collisions` gives another one. */
const char *object_hash(struct arena *arena, const struct json *v, int64_t collisions);

/* metav1.Time of now, in the arena. */
const char *stamp_now(struct arena *arena);
/* 0 when absent or not a time. */
int64_t stamp_ns(struct str stamp);
int64_t stamp_at_ns(const struct json *v, const char *dotted_path);

/* ---- conditions: lists of {type, status, reason, message, lastTransitionTime} ---- */

struct condition {
	const char *type, *status, *reason, *message;
	bool update_time; /* the kind has lastUpdateTime */
};
/* Sets or appends; nothing happens when status, reason and message stay. lastTransitionTime moves only with the
 * status. True when something changed. */
bool condition_set(struct arena *arena, struct json *conditions, const struct condition *c);
bool condition_remove(struct json *conditions, const char *type);
