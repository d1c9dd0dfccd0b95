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
	bool *atomic;   /* the same: is changed only as a whole */
	bool first_path, first_schema;
	bool version_info; /* OPENAPI_VERSION_INFO has a schema, too */
};

#define OPENAPI_META "io.k8s.apimachinery.pkg.apis.meta.v1."
#define OPENAPI_VERSION_INFO "io.k8s.apimachinery.pkg.version.Info"

/* Marks a message and all that it refers to. */
void openapi_mark(struct openapi_writer *w, const struct api_message *m);
/* {"$ref":"..."}; the suffix is "" or "List". */
void openapi_ref(struct openapi_writer *w, const char *name, const char *suffix);
/* The members of components.schemas or definitions: marked messages, lists of kinds from..to in the kind table. */
void openapi_schemas(struct openapi_writer *w, size_t from, size_t to);
/* The members of paths for one group-version. */
void openapi_paths(struct openapi_writer *w, const struct api_group_version *gv);
/* The path "/apis/" or another whose GET tells what there is. `message`: what it answers; NULL: a string. */
void openapi_discovery_path(struct openapi_writer *w, const char *url, const char *tag, const char *id,
			    const char *message);
/* "core_v1", "apps_v1"; without a version "apps". */
void openapi_tag(struct buf *out, const char *group, const char *version);
/* "AppsV1", as operationIds have it. */
void openapi_id(struct buf *out, const char *group, const char *version);

/* Tables for openapi_gnostic.c: how the JSON of a document becomes gnostic's protobuf. */
struct openapi_desc;
extern const struct openapi_desc openapi_v2_desc, openapi_v3_desc;
/* The document in protobuf. */
struct chunk *openapi_gnostic(const struct chunk *json, const struct openapi_desc *desc);
