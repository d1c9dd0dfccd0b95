/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the openapi_*.c files. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/base/buf.h"

enum openapi_form { OPENAPI_V2, OPENAPI_V3 };

/* One document being written. */
struct openapi_writer {
	struct buf *out;
	enum openapi_form form;
	bool *messages; /* by index in the message table: has a schema in this document */
	bool first_path;
};

#define OPENAPI_META "io.k8s.apimachinery.pkg.apis.meta.v1."

/* Marks a message and all that it refers to. */
void openapi_mark(struct openapi_writer *w, const struct api_message *m);
/* {"$ref":"..."}; the suffix is "" or "List". */
void openapi_ref(struct openapi_writer *w, const char *name, const char *suffix);
/* The members of components.schemas or definitions: marked messages, lists of the kinds of `gv` (NULL: all). */
void openapi_schemas(struct openapi_writer *w, const struct api_group_version *gv);
/* The members of paths for one group-version. */
void openapi_paths(struct openapi_writer *w, const struct api_group_version *gv);
