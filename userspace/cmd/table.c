/* SPDX-License-Identifier: Apache-2.0 */
/* See table.h. */
#include "userspace/cmd/table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_GAP 3

void table_init(struct table *t, struct arena *arena, const char *const *heads)
{
	*t = (struct table){ .arena = arena };
	while (heads[t->columns])
		t->columns++;
	assert(t->columns && t->columns <= TABLE_COLUMNS_MAX);
	for (size_t i = 0; i < t->columns; i++)
		table_cell(t, heads[i]);
}

void table_finish(struct table *t)
{
	free(t->cells);
	*t = (struct table){ 0 };
}

void table_cell(struct table *t, const char *text)
{
	mem_grow(t->cells, t->cap, t->n + 1);
	t->cells[t->n++] = text && *text ? text : "<none>";
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	table_cell(t, arena_vprintf(t->arena, fmt, ap));
	va_end(ap);
}

void table_print(const struct table *t)
{
	size_t widths[TABLE_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < t->n; i++) {
		size_t n = strlen(t->cells[i]);

		if (n > widths[i % t->columns])
			widths[i % t->columns] = n;
	}
	for (size_t i = 0; i < t->n; i++) {
		bool last = i % t->columns == t->columns - 1;

		printf("%-*s%s", last ? 0 : (int)widths[i % t->columns] + TABLE_GAP, t->cells[i], last ? "\n" : "");
	}
}
