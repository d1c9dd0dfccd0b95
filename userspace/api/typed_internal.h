/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of typed*.c share: children of a value as an array, so that two values are walked side by side. */
#pragma once

#include <stdlib.h>

#include "userspace/api/typed.h"

struct typed_child {
	struct str element; /* of a member: its bare name */
	const struct json *value;
	size_t at; /* place in the value */
};

struct typed_children {
	struct typed_child *v;
	size_t n;
};

/* The message of an object with one; NULL: a map, or unknown. */
const struct api_message *typed_message(struct typed t);
/* Sorted by name. Of no object: none. */
void typed_members(struct arena *arena, const struct json *v, struct typed_children *ret);
/* In the list's order; of no list: none. */
int typed_items(struct arena *arena, struct typed t, const struct json *v, struct typed_children *ret, struct err *err);
