/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as the schema sees them when it comes to who owns what: which lists are maps or sets, which values are one
 * piece (atomic), and from there comparing, merging and removing by sets of fields. Values that no schema describes
 * (API_RAW) are maps of their members, with lists in one piece. Any thread.
 *
 * Go's structs show some members that JSON text leaves out (a struct that is no pointer, a required list); where a
 * member is absent the comparison sees them as Go does, so that the same fields count as added. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/api/fieldset.h"
#include "userspace/api/kind.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

/* What is known of a value: a message; or a field; both NULL: nothing. */
struct typed {
	const struct api_message *message;
	const struct api_field *field;
};

static inline struct typed typed_object(const struct api_message *message)
{
	return (struct typed){ .message = message };
}

enum typed_shape { TYPED_SCALAR, TYPED_ATOM, TYPED_MAP, TYPED_LIST };

/* The shape of a value of that type (`v` decides where no schema does). */
enum typed_shape typed_shape(struct typed t, const struct json *v);
/* The type of a member, of an item. */
struct typed typed_member(struct typed t, struct str name);
struct typed typed_item(struct typed t);
/* The path element of an item of a list that is a map or set; -EINVAL with the reason. */
int typed_item_element(struct arena *arena, struct typed t, const struct json *item, struct str *ret, struct err *err);

/* Marks of a comparison. */
#define TYPED_ADDED 1u
#define TYPED_MODIFIED 2u
#define TYPED_REMOVED 4u

/* What turns `a` into `b`; NULL: nothing. `a` {} stands for an object that is not there yet. -EINVAL when a list has
 * items without their keys. */
int typed_compare(struct arena *arena, struct typed t, const struct json *a, const struct json *b,
		  struct fieldset **ret, struct err *err);
/* Every leaf and item that `v` mentions. */
int typed_fields(struct arena *arena, struct typed t, const struct json *v, struct fieldset **ret, struct err *err);
/* `config` on top of `live`: nothing goes; lists that are maps or sets take config's order. Nodes of neither are
 * shared, strings are. */
int typed_merge(struct arena *arena, struct typed t, const struct json *live, const struct json *config,
		struct json **ret, struct err *err);
/* Without the members and items of the set. What becomes empty is null. */
struct json *typed_remove(struct arena *arena, struct typed t, const struct json *v, const struct fieldset *set);
/* The set with the named fields that lie on the way to its members. */
struct fieldset *typed_named(struct arena *arena, struct typed t, const struct fieldset *set);
/* Does a config fit its schema, in upstream's words? -EINVAL. */
int typed_check(struct arena *arena, struct typed t, const struct json *v, struct err *err);
