/* SPDX-License-Identifier: Apache-2.0 */
/* $(VAR) in env values, commands, arguments and subPathExpr: a known name is replaced, an unknown one stays as it
 * is written, "$$" is one dollar. Pure. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/str.h"

/* The value, or NULL when the name is unknown. */
typedef const char *expand_lookup_fn(void *arg, struct str name);

char *expand(struct arena *arena, struct str text, expand_lookup_fn *lookup, void *arg);
/* The same with an array of "K=V"; the last one of a name wins. */
char *expand_env(struct arena *arena, struct str text, char *const *env, size_t n_env);
