/* SPDX-License-Identifier: Apache-2.0 */
/* Field errors, worded as clients of Kubernetes expect them, and the checks that the schema
 * alone can make. Hooks and the registry add their own findings to the same `struct field_errors`.
 * A path is a chain of frames on the C stack and is only rendered when there is an error to tell,
 * so walking a valid object allocates nothing. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/api/kind.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

/* ---- paths ---- */

enum field_path_type { FIELD_PATH_NAME, FIELD_PATH_INDEX, FIELD_PATH_KEY };

/* One step; the chain lives on the stack of the walk. A NULL path is the object itself. */
struct field_path {
	const struct field_path *up;
	enum field_path_type type;
	struct str name; /* NAME: a member, may hold dots ("spec.template"); KEY: a map's key, shown as [key] */
	size_t index;    /* INDEX: shown as [3] */
};

/* Frames for the length of the enclosing block: field_required(e, FIELD(spec, "replicas"), NULL). */
#define FIELD(up_, literal_) (&(const struct field_path){ .up = (up_), .type = FIELD_PATH_NAME, .name = STR(literal_) })
#define FIELD_STR(up_, str_) (&(const struct field_path){ .up = (up_), .type = FIELD_PATH_NAME, .name = (str_) })
#define FIELD_INDEX(up_, i_) (&(const struct field_path){ .up = (up_), .type = FIELD_PATH_INDEX, .index = (i_) })
#define FIELD_KEY(up_, str_) (&(const struct field_path){ .up = (up_), .type = FIELD_PATH_KEY, .name = (str_) })

#define FIELD_PATH_MAX 1024 /* bytes of a rendered path; a longer one is cut */

/* "spec.containers[0].name", zero-terminated; returns the length. */
size_t field_path_render(const struct field_path *path, char ret[static FIELD_PATH_MAX]);

/* ---- findings ---- */

/* Findings in the order they were made; past ERR_CAUSES_MAX they are only counted. */
struct field_errors {
	struct err err; /* holds the causes */
	size_t n;       /* all findings, also those not kept */
};

#define FIELD_ERRORS_INIT ((struct field_errors){ 0 })

void field_errors_finish(struct field_errors *e);
#define _cleanup_field_errors_ _cleanup_(field_errors_finish)

/* 0 when nothing was found. Else -EINVAL with `err` set to 422 Invalid, details and causes:
 * `Deployment.apps "x" is invalid: spec.foo: Required value`, several as `[a, b]`. Empties `e`. */
int field_errors_result(struct field_errors *e, const struct api_kind *kind, struct str name, struct err *err);

/* In all of these `e` may not be NULL, and `detail` (NULL: none) is printf-like. */
/* Required value[: detail] */
void field_required(struct field_errors *e, const struct field_path *path, const char *detail, ...)
	__attribute__((format(printf, 3, 4)));
/* Invalid value: <value>: detail. Strings are shown quoted, numbers and booleans bare, the rest as JSON. */
void field_invalid(struct field_errors *e, const struct field_path *path, const struct json *value, const char *detail,
		   ...) __attribute__((format(printf, 4, 5)));
/* The value is not worth showing: Invalid value: detail */
void field_invalid_unshown(struct field_errors *e, const struct field_path *path, const char *detail, ...)
	__attribute__((format(printf, 3, 4)));
void field_invalid_str(struct field_errors *e, const struct field_path *path, struct str value, const char *detail, ...)
	__attribute__((format(printf, 4, 5)));
void field_invalid_int(struct field_errors *e, const struct field_path *path, int64_t value, const char *detail, ...)
	__attribute__((format(printf, 4, 5)));
/* Unsupported value: "x": supported values: "A", "B" (NULL-terminated) */
void field_not_supported(struct field_errors *e, const struct field_path *path, struct str value,
			 const char *const *supported);
/* Duplicate value: "x" */
void field_duplicate(struct field_errors *e, const struct field_path *path, const struct json *value);
void field_duplicate_str(struct field_errors *e, const struct field_path *path, struct str value);
/* Forbidden: detail */
void field_forbidden(struct field_errors *e, const struct field_path *path, const char *detail, ...)
	__attribute__((format(printf, 3, 4)));
/* Not found: "x" */
void field_not_found(struct field_errors *e, const struct field_path *path, struct str value);
/* Too long: may not be more than N bytes */
void field_too_long(struct field_errors *e, const struct field_path *path, size_t max);
/* Too many: N: must have at most MAX items */
void field_too_many(struct field_errors *e, const struct field_path *path, size_t n, size_t max);
/* Internal error: detail */
void field_internal(struct field_errors *e, const struct field_path *path, const char *detail, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- string formats (the `format` of a field; hooks call them too) ---- */

/* NULL when good, else the static text that follows `Invalid value: "x": `. */
const char *validate_dns1123_label(struct str s);
const char *validate_dns1123_subdomain(struct str s);
const char *validate_dns1035_label(struct str s);
const char *validate_path_segment(struct str s);   /* no "/", "%", ".", ".." */
const char *validate_qualified_name(struct str s); /* label keys: [prefix/]name */
const char *validate_annotation_key(struct str s); /* a qualified name, without regard to case */
const char *validate_label_value(struct str s);
const char *validate_config_map_key(struct str s);
const char *validate_env_name(struct str s);
const char *validate_port_name(struct str s); /* IANA service name */
const char *validate_ip(struct str s);
const char *validate_cidr(struct str s);
const char *validate_format(const char *format, struct str s); /* by name; an unknown name is a programmer's mistake */

/* ---- objects ---- */

#define VALIDATE_ANNOTATIONS_BYTES_MAX (256 * 1024)
#define VALIDATE_METADATA_ITEMS_MAX 10000 /* labels, owner references */
#define VALIDATE_NAME_MAX 253

/* What the schema knows: required fields, enums, limits, formats, unique keys of lists, immutable fields
 * (when `old` is there), and the metadata of the object and of templates within. `object` is decoded and
 * defaulted. `old`: the object before, or NULL on creation. Adds to `e`. */
void validate_object(const struct api_kind *kind, const struct json *object, const struct json *old,
		     struct field_errors *e);
/* Only the metadata; for writes of a subresource. */
void validate_metadata(const struct api_kind *kind, const struct json *object, const struct json *old,
		       struct field_errors *e);
/* Labels alone (selectors' matchLabels, templates): qualified names and values. */
void validate_labels(const struct json *labels, const struct field_path *path, struct field_errors *e);
void validate_annotations(const struct json *annotations, const struct field_path *path, struct field_errors *e);
/* `a` differs from `b`: adds `Invalid value: <a>: field is immutable`. Absent and null are the same. */
void validate_immutable(const struct json *a, const struct json *b, const struct field_path *path,
			struct field_errors *e);
/* The name alone, by the kind's rule (and as `name` will be after generateName's suffix when `prefix`). */
void validate_name(const struct api_kind *kind, struct str name, bool prefix, const struct field_path *path,
		   struct field_errors *e);
