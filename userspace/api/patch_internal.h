/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of patch_*.c share: a budget of steps, so that a small patch cannot buy hours of list walking. */
#pragma once

#include <stddef.h>

#include "userspace/api/name_set.h"
#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define PATCH_STEPS_MAX 50000000 /* comparisons and list steps of one patch */

struct patch_budget {
	size_t steps;
};

/* 413 when the budget is spent. */
int patch_charge(struct patch_budget *b, size_t steps, struct err *err);

/* The list or object without its children, which are put back one by one as they stay. */
static inline void patch_empty(struct json *v)
{
	v->first = v->last = NULL;
	v->count = 0;
}

/* The members of an object while a patch goes over them: found by hash where there are many, removed in the end. */
struct patch_members {
	struct json *object;
	bool hashed;
	struct name_set set;
};

void patch_members_init(struct patch_members *m, struct json *object, const struct json *patch);
/* Must run before anybody looks at the object again. Takes NULL. */
void patch_members_finish(struct patch_members *m);
#define _cleanup_patch_members_ _cleanup_(patch_members_finish)
struct json *patch_members_get(const struct patch_members *m, struct str key);
void patch_members_set(struct patch_members *m, struct str key, struct json *v);
void patch_members_remove(struct patch_members *m, struct str key);

/* As Go prints a value: map[a:1 b:[x y]]. */
void patch_print_go(struct arena *arena, struct buf *out, const struct json *v);
