/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of patch_*.c share: a budget of steps, so that a small patch cannot buy hours of list walking. */
#pragma once

#include <stddef.h>

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

/* As Go prints a value: map[a:1 b:[x y]]. */
void patch_print_go(struct arena *arena, struct buf *out, const struct json *v);
