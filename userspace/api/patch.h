/* SPDX-License-Identifier: Apache-2.0 */
/* The three patches that clients send: JSON Patch (RFC 6902), JSON merge patch (RFC 7386) and strategic
 * merge patch, which knows lists by their merge keys and obeys directives ($patch, $retainKeys,
 * $setElementOrder/x, $deleteFromPrimitiveList/x). The original is never changed; results share strings
 * with it and with the patch, so both must outlive them. Any thread. */
#pragma once

#include "userspace/api/kind.h"
#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define PATCH_OPERATIONS_MAX 10000 /* as upstream */
#define PATCH_NODES_MAX 1000000    /* nodes that copying may add */
#define PATCH_POINTER_DEPTH_MAX JSON_DEPTH_MAX

enum patch_type { PATCH_JSON, PATCH_MERGE, PATCH_STRATEGIC, PATCH_APPLY };

/* By Content-Type, parameters ignored; 415 UnsupportedMediaType with the accepted ones. `strategic`: the kind has
 * a schema with merge keys (built-in ones do). PATCH_APPLY is told apart but not applied here. */
int patch_type_parse(struct str content_type, bool strategic, enum patch_type *ret, struct err *err);

/* The patch's text (400 when it does not parse) on `original`; `message`: the schema of the object (strategic only,
 * NULL is a 415 there). */
int patch_apply(struct arena *arena, enum patch_type type, const struct api_message *message,
		const struct json *original, struct str patch, struct json **ret, struct err *err);

int patch_json(struct arena *arena, const struct json *original, const struct json *operations, struct json **ret,
	       struct err *err);
/* Never fails but for depth. */
int patch_merge(struct arena *arena, const struct json *original, const struct json *patch, struct json **ret,
		struct err *err);
int patch_strategic(struct arena *arena, const struct api_message *message, const struct json *original,
		    const struct json *patch, struct json **ret, struct err *err);

/* The text of a patch as errors show it, in Go's words for a map. */
void patch_print(struct buf *out, struct str patch);
