/* SPDX-License-Identifier: Apache-2.0 */
/* Server-side Tables (meta.k8s.io/v1 Table): what `kubectl get` shows. Columns of kinds with a printer
 * stand in table_*.c; other kinds use kind->columns (paths, as of custom resources), else NAME and AGE.
 * Rows are streamed into a buffer. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/api/meta.h"
#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

enum table_include { TABLE_INCLUDE_METADATA, TABLE_INCLUDE_NONE, TABLE_INCLUDE_OBJECT };

/* `text`: "", "None", "Metadata", "Object"; 400 otherwise. */
int table_parse_include(struct str text, enum table_include *ret, struct err *err);

struct table_options {
	enum table_include include;
	bool no_headers;     /* columnDefinitions are left out (later events of a watch) */
	bool v1beta1;        /* as=Table;v=v1beta1 */
	int64_t now_real_ns; /* for ages; 0: the clock */
};

/* One Table being written. */
struct table_writer {
	struct buf *out;
	const struct api_kind *kind;
	struct table_options options;
	size_t n_rows;
};

/* `list` may be NULL. */
void table_begin(struct table_writer *w, struct buf *out, const struct api_kind *kind,
		 const struct table_options *options, const struct meta_list *list);
/* One row. `text` is the object's JSON when the caller has it (else empty): it goes out as it is with
 * TABLE_INCLUDE_OBJECT. The arena is scratch: the caller may reset it after. */
void table_row(struct table_writer *w, struct arena *arena, const struct json *object, struct str text);
void table_end(struct table_writer *w);

/* A whole Table of one object (GET, a watch event). */
void table_write_object(struct buf *out, struct arena *arena, const struct api_kind *kind,
			const struct table_options *options, const struct json *object, struct str text);

/* ---- words that printers and others share ---- */

#define TABLE_DURATION_MAX 24
/* Upstream's short form: "5s", "2m3s", "10m", "3h4m", "2d3h", "5y20d"; negative ones "<invalid>". */
size_t table_duration(int64_t ns, char ret[static TABLE_DURATION_MAX]);
/* Of a metav1.Time value until now: "<unknown>" when absent. */
struct str table_age(struct arena *arena, const struct json *time, int64_t now_real_ns);
/* The STATUS that `kubectl get pods` shows. */
struct str table_pod_status(struct arena *arena, const struct json *pod);
