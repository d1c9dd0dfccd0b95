/* SPDX-License-Identifier: Apache-2.0 */
/* What one object uses, by the names that quotas have for it. Pure; within this room only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/api/resource_list.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

/* The kind whose objects a resource of a quota counts ("requests.cpu": pods, "count/jobs.batch": Jobs); NULL: none. */
const struct api_kind *quota_kind_of(struct str resource);
/* Quotas never count these (Events). */
bool quota_ignores(const struct api_kind *kind);
/* An update of such an object may change what it uses. */
bool quota_changes(const struct api_kind *kind);

/* Everything the object uses. now_ns: a pod that should be gone by then uses nothing but its place in the store;
 * *ret_expires_ns, when not NULL, becomes the time from which that holds, if it is sooner than what is there. */
void quota_usage(struct arena *arena, const struct api_kind *kind, const struct json *object, int64_t now_ns,
		 int64_t *ret_expires_ns, struct resource_list *ret);

enum quota_scope_op { QUOTA_SCOPE_EXISTS, QUOTA_SCOPE_NOT_EXISTS, QUOTA_SCOPE_IN, QUOTA_SCOPE_NOT_IN };

struct quota_scope {
	struct str name; /* "Terminating", ... */
	enum quota_scope_op op;
	struct str *values;
	size_t n_values;
};

/* spec.scopes and spec.scopeSelector; strings are borrowed from `spec`. */
struct quota_scope *quota_scopes_parse(struct arena *arena, const struct json *spec, size_t *ret_n);
/* Objects of kinds that know no scopes are in none. */
bool quota_scope_has(const struct quota_scope *s, const struct api_kind *kind, const struct json *object);

/* Each container must say what it wants of the resources in `required` that pods must name, as far as they are among
 * cpu and memory; "" or `must specify limits.cpu for: c` in the arena. */
const char *quota_unspecified(struct arena *arena, const struct json *pod, const struct str *required, size_t n);
