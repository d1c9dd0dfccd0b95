/* SPDX-License-Identifier: Apache-2.0 */
/* What the printers in table_*.c are made of: a kind's columns and a function that writes one cell each. */
#pragma once

#include "userspace/api/table.h"

struct table_column {
	const char *name;
	const char *type; /* "string", "integer", "boolean" */
	int priority;     /* 1: only -o wide */
	const char *description;
};

#define COLUMN_NAME                                                                                                    \
	{                                                                                                              \
		"Name", "string", 0, "The object's name, unique among its kind in its namespace."                      \
	}
#define COLUMN_AGE                                                                                                     \
	{                                                                                                              \
		"Age", "string", 0, "Time since the object was created."                                               \
	}

/* The cells of one row. */
struct table_cells {
	struct buf *out;
	struct arena *arena;
	int64_t now_real_ns;
	size_t n;
};

struct table_printer {
	const char *group, *plural;
	const struct table_column *columns;
	size_t n_columns;
	void (*cells)(struct table_cells *c, const struct json *object);
	/* Row conditions ("Completed"), an array of JSON or nothing; may be NULL */
	const char *(*conditions)(const struct json *object);
};

struct table_printers {
	const struct table_printer *items;
	size_t n;
};

extern const struct table_printers table_printers_pods, table_printers_workloads, table_printers_network,
	table_printers_cluster, table_printers_storage, table_printers_resources;

/* ---- cells ---- */

void cell_str(struct table_cells *c, struct str s);
void cell_cstr(struct table_cells *c, const char *s);
void cell_or(struct table_cells *c, struct str s, const char *otherwise); /* `otherwise` for the empty string */
void cell_int(struct table_cells *c, int64_t v);
void cell_bool(struct table_cells *c, bool v);
void cell_printf(struct table_cells *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cell_name(struct table_cells *c, const struct json *object);
void cell_age(struct table_cells *c, const struct json *object); /* since creation */
void cell_since(struct table_cells *c, const struct json *time); /* "<unknown>" when absent */
/* A map as "a=b,c=d" in order of keys; "<none>". */
void cell_labels(struct table_cells *c, const struct json *map);
/* A LabelSelector; "<none>". */
void cell_selector(struct table_cells *c, const struct json *selector);
/* Names and images of a pod spec's containers: two cells. */
void cell_containers(struct table_cells *c, const struct json *pod_spec);

/* ---- text put together from parts ---- */

/* Appends `s`, with `separator` before it when there is something already. */
void table_join(struct buf *out, struct str s, const char *separator);
