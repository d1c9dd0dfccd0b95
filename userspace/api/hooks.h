/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviour of kinds: what the schema cannot say. hooks_x() do what holds for every kind (status and
 * generation rules) and then ask the kind's own hooks; they work for kinds without hooks too. Kinds and
 * their hooks are listed in hooks.c. The order in the registry's pipeline: decode, defaults_apply() (which
 * calls hooks_defaults()), hooks_prepare_*(), validate_object() and hooks_validate*(). Any thread; no state. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/api/validate.h"
#include "userspace/base/arena.h"
#include "userspace/base/json.h"

#define HOOKS_WARNINGS_MAX 32

struct hooks_warnings {
	const char *items[HOOKS_WARNINGS_MAX]; /* arena or static */
	size_t n;
};

struct api_hooks {
	/* metadata.generation is kept: 1 at creation, +1 when anything besides metadata and status changes */
	bool generation;
	bool generation_on_annotations; /* also when annotations change (deployments) */
	bool status_with_create;        /* a status given at creation is kept (nodes) */
	/* Computed defaults. `object` is decoded; runs after the schema's defaults; idempotent. */
	void (*defaults)(struct arena *arena, struct json *object);
	/* After the common rules; status is already gone. */
	void (*prepare_create)(struct arena *arena, struct json *object);
	/* `object`'s status is already the old one. */
	void (*prepare_update)(struct arena *arena, struct json *object, const struct json *old);
	/* A write of /status: everything but status is already the old one. */
	void (*prepare_status)(struct arena *arena, struct json *object, const struct json *old);
	void (*validate)(const struct json *object, struct field_errors *e);
	/* Only at creation; after validate(). */
	void (*validate_create)(const struct json *object, struct field_errors *e);
	/* Only what differs from creation; validate() runs too. */
	void (*validate_update)(const struct json *object, const struct json *old, struct field_errors *e);
	/* Beside the others, when it was addressed in the form of another group. `old`: NULL on creation. */
	void (*validate_form)(const struct json *object, const struct json *old, struct field_errors *e);
	void (*validate_status)(const struct json *object, const struct json *old, struct field_errors *e);
	/* Subresources that change a part of the object and are neither status nor scale ("approval"); the rest of the
	 * object is already the old one. */
	void (*prepare_subresource)(struct arena *arena, const char *subresource, struct json *object,
				    const struct json *old);
	void (*validate_subresource)(const char *subresource, const struct json *object, const struct json *old,
				     struct field_errors *e);
	void (*warnings)(struct arena *arena, const struct json *object, const struct json *old,
			 struct hooks_warnings *w);
	/* Seconds between a DELETE and the end; NULL: deleted at once. `requested` is -1 when not given. */
	int64_t (*grace_period_s)(const struct json *object, int64_t requested);
	/* DELETE's propagation when the client names none: "background" is the default for all; NULL: that. */
	const char *default_propagation;
};

/* NULL: plain data. Called by the kind tables. */
const struct api_hooks *api_hooks_for(struct str group, struct str plural);
size_t api_hooks_count(void);

bool hooks_has_status(const struct api_kind *kind); /* the kind has a status subresource */

void hooks_defaults(struct arena *arena, const struct api_kind *kind, struct json *object);
/* Drops the status (when it is a subresource), sets generation, clears what only the server sets
 * (metadata.deletionTimestamp, deletionGracePeriodSeconds, selfLink). */
void hooks_prepare_create(struct arena *arena, const struct api_kind *kind, struct json *object);
/* Keeps the old status, creationTimestamp and generation (+1 when due), and the uid and deletion fields where the new
 * object has none. */
void hooks_prepare_update(struct arena *arena, const struct api_kind *kind, struct json *object,
			  const struct json *old);
/* For /status: all but status (and metadata's labels, annotations stay old; managedFields, resourceVersion and uid
 * from the new) comes from `old`. */
void hooks_prepare_status(struct arena *arena, const struct api_kind *kind, struct json *object,
			  const struct json *old);
/* The kind's own rules; validate_object() is the schema's part and is called by the registry. */
void hooks_validate_create(const struct api_kind *kind, const struct json *object, struct field_errors *e);
void hooks_validate_update(const struct api_kind *kind, const struct json *object, const struct json *old,
			   struct field_errors *e);
/* Rules that only hold for who addressed the object as `form`; `object` is in the stored form. */
void hooks_validate_form(const struct api_kind *storage, const struct api_kind *form, const struct json *object,
			 const struct json *old, struct field_errors *e);
void hooks_validate_status(const struct api_kind *kind, const struct json *object, const struct json *old,
			   struct field_errors *e);
void hooks_prepare_subresource(struct arena *arena, const struct api_kind *kind, const char *subresource,
			       struct json *object, const struct json *old);
void hooks_validate_subresource(const struct api_kind *kind, const char *subresource, const struct json *object,
				const struct json *old, struct field_errors *e);
void hooks_warnings(struct arena *arena, const struct api_kind *kind, const struct json *object, const struct json *old,
		    struct hooks_warnings *w);
/* -1: delete at once, without a deletionTimestamp phase. `requested`: -1 when the client gave none. */
int64_t hooks_grace_period_s(const struct api_kind *kind, const struct json *object, int64_t requested);
/* "Background" or what the kind says. */
const char *hooks_default_propagation(const struct api_kind *kind);

/* The QoS class of a pod: "Guaranteed", "Burstable", "BestEffort". */
const char *hooks_pod_qos(const struct json *pod);
