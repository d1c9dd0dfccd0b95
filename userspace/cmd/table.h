/* SPDX-License-Identifier: Apache-2.0 */
/* A table for people: columns as wide as their widest cell, three blanks between, as kubectl prints them. */
#pragma once

#include <stddef.h>

#include "userspace/base/arena.h"

#define TABLE_COLUMNS_MAX 16

struct table {
	struct arena *arena;
	size_t columns;
	const char **cells;
	size_t n, cap; /* of cells */
};

/* Heads end with NULL. */
void table_init(struct table *t, struct arena *arena, const char *const *heads);
void table_finish(struct table *t);
/* Cells are borrowed, "" and NULL are shown as "<none>"; further ones follow. */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *t);
