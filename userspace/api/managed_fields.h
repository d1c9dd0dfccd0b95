/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns which fields of an object (metadata.managedFields), and server-side apply on top of that: the documented
 * algorithm of structured merge and upstream's field manager. An entry is one manager's set for one operation (Apply
 * or Update), version and subresource. Sets that a write does not touch are passed on as the text they are. No I/O;
 * any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/api/validate.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define MANAGED_UPDATERS_MAX 10 /* Update entries; the oldest beyond are squashed into "ancient-changes" */
#define MANAGED_MANAGER_MAX 128 /* bytes of a manager's name */
#define MANAGED_SUBRESOURCE_MAX 256
#define MANAGED_LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

/* `object` of kind `from` as `to`, another view of the same resource: a new tree. */
typedef struct json *managed_convert_fn(struct arena *arena, const struct json *object, const struct api_kind *from,
					const struct api_kind *to);

struct managed_write {
	const struct api_kind *kind; /* as addressed: objects below are in its form */
	const char *subresource;     /* NULL: none */
	struct str manager;          /* empty: "unknown" */
	int64_t now_real_ns;
	managed_convert_fn *convert;
};

/* The name for a client that gives none: its User-Agent up to the first "/", printable characters alone. */
struct str managed_fields_user_agent(struct arena *arena, struct str user_agent);

/* The first character of a name that is not printable: its place in bytes, or -1. */
long managed_fields_unprintable(struct str manager, uint32_t *ret_rune);

/* What a client sent as metadata.managedFields (decoded): may it stand? Else what is stored stands. */
bool managed_fields_valid(struct arena *arena, const struct json *list);
/* Names in a list (an array) that a client sent, as they would be stored: too long, or with what cannot be printed. */
void managed_fields_validate(const struct json *list, struct field_errors *e);
/* [] and [{}] say: forget who owned what. */
bool managed_fields_is_reset(const struct json *list);

/* The lists (`managed`, results) are arrays or text of one (JSON_RAW); NULL: none. Objects carry none themselves. */

/* A write that is no apply made `object` of `live` (NULL: created). `managed`: the list before. */
int managed_fields_update(struct arena *arena, const struct managed_write *w, const struct json *live,
			  const struct json *object, struct json *managed, struct json **ret_managed, struct err *err);

/* Applies `config`, as the client wrote it, to `live` (NULL: there is none yet). *ret_object wants decoding.
 * 400 and 500 for bad configs in upstream's words; 409 with one cause a field when others own what it changes and
 * not `force`. */
int managed_fields_apply(struct arena *arena, const struct managed_write *w, const struct json *live,
			 const struct json *config, struct json *managed, bool force, struct json **ret_object,
			 struct json **ret_managed, struct err *err);

/* The scale subresource sees one field of its parent: spec.replicas. `changed`: it has another value now. 409 when
 * `apply` meets other owners and not `force`. */
int managed_fields_scale(struct arena *arena, const struct managed_write *w, bool changed, bool apply, bool force,
			 struct json *managed, struct json **ret_managed, struct err *err);

/* The same but for times. */
bool managed_fields_same(struct arena *arena, const struct json *a, const struct json *b);
