/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of fields, as metadata.managedFields holds them (FieldsV1): a tree of path elements. An element is kept in its
 * written form, which is canonical here and so also its identity:
 *
 *   f:NAME        the member of an object
 *   k:{"a":1}     the item of a list that has these keys (sorted by name)
 *   v:VALUE       the item of a list of scalars with that value
 *   i:N           the item at that place
 *
 * Sets are immutable once built and share subtrees; all memory is the arena's. NULL is the empty set. Children are
 * sorted by fieldset_element_cmp() and none is without a member in it. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

struct fieldset {
	struct str name; /* the element; of the root: empty */
	unsigned marks;  /* bit 0: a member of the set. Comparisons use more bits, see typed.h. */
	struct fieldset *first, *last, *next;
};

#define FIELDSET_MEMBER 1u

/* ---- elements ---- */

struct str fieldset_field(struct arena *arena, struct str name);           /* "f:name" */
struct str fieldset_value(struct arena *arena, const struct json *scalar); /* "v:..." */
/* "k:{...}"; `names` need not be sorted. */
struct str fieldset_key(struct arena *arena, const char *const *names, const struct json *const *values, size_t n);
int fieldset_element_cmp(struct str a, struct str b);
/* As conflicts and errors name it: .name, [a="x",b=1], [="x"], [0]. */
void fieldset_element_print(struct buf *out, struct str element);

/* ---- building ---- (the order must be that of fieldset_element_cmp) */

void fieldset_append(struct fieldset *parent, struct fieldset *child);
/* The child of that name, made in its place when absent. */
struct fieldset *fieldset_child(struct arena *arena, struct fieldset *parent, struct str element);

/* ---- text ---- */

/* A FieldsV1 value: the tree or its text (JSON_RAW). Elements of unknown sorts are left out; -EINVAL. The empty set
 * is NULL. Strings may point into `v`. */
int fieldset_parse(struct arena *arena, const struct json *v, struct fieldset **ret, struct err *err);
void fieldset_write(struct buf *out, const struct fieldset *set);

/* ---- sets ---- */

bool fieldset_equal(const struct fieldset *a, const struct fieldset *b);
struct fieldset *fieldset_union(struct arena *arena, const struct fieldset *a, const struct fieldset *b);
struct fieldset *fieldset_intersection(struct arena *arena, const struct fieldset *a, const struct fieldset *b);
struct fieldset *fieldset_difference(struct arena *arena, const struct fieldset *a, const struct fieldset *b);
/* What lies below a member of `b` goes too. */
struct fieldset *fieldset_exclude(struct arena *arena, const struct fieldset *a, const struct fieldset *b);
/* The elements with one of `marks`, as members. */
struct fieldset *fieldset_pick(struct arena *arena, const struct fieldset *set, unsigned marks);
size_t fieldset_count(const struct fieldset *set); /* members */

/* Members in order: those of a level before those below it, as upstream lists conflicts. `path` has them from the top.
 */
typedef void fieldset_each_fn(void *arg, const struct str *path, size_t depth);
void fieldset_each(const struct fieldset *set, fieldset_each_fn *fn, void *arg);
