/* SPDX-License-Identifier: Apache-2.0 */
/* From what a client wrote to a JSON tree that fits a kind's schema. After decoding every known field has
 * its JSON type, nulls are gone (null means absent for typed fields), unknown fields are gone, times and
 * quantities are in their canonical form, int64 have all their digits. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/api/kind.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define DECODE_BYTES_MAX (3 * 1024 * 1024) /* one body, as upstream's request limit */
#define DECODE_DEPTH_MAX 100
#define DECODE_WARNINGS_MAX 64

/* The fieldValidation of a request. */
enum decode_field_validation {
	DECODE_IGNORE, /* unknown fields are pruned, the last of duplicates wins */
	DECODE_WARN,   /* the same, and said in warnings (the default of upstream) */
	DECODE_STRICT, /* 400 `strict decoding error: unknown field "spec.foo"` */
};

/* `text`: "", "Ignore", "Warn", "Strict"; empty is DECODE_WARN. -EINVAL with 422 Invalid otherwise. `options`: whose
 * field it is, "CreateOptions". */
int decode_parse_field_validation(struct str text, const char *options, enum decode_field_validation *ret,
				  struct err *err);
/* The same of dryRun, which may stand more than once: "All" each time, or absent. */
int decode_parse_dry_run(const struct str *values, size_t n, const char *options, bool *ret, struct err *err);

enum decode_media { DECODE_JSON, DECODE_YAML, DECODE_PROTOBUF };

/* `unknown field "spec.foo"`, `duplicate field "spec.x"`, in the order of the body; in the arena. */
struct decode_warnings {
	struct str items[DECODE_WARNINGS_MAX];
	const char *at[DECODE_WARNINGS_MAX]; /* where in the body */
	size_t n;
	bool yaml; /* duplicates by line, before all others; unknown fields by name */
};

/* Text to a raw tree: limits, syntax (400 BadRequest; 413 RequestEntityTooLarge), an object at the top.
 * Duplicate members go to `warnings`, which the functions below complete and then judge; with NULL they are the strict
 * error at once. `text` must outlive the tree. `kind` only words errors, may be NULL. */
int decode_parse(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		 enum decode_field_validation validation, struct decode_warnings *warnings, struct json **ret,
		 struct err *err);

/* A raw tree (a body, a patch's result, what an in-process client built) is checked against the kind and made
 * canonical in place: apiVersion and kind (filled in when absent; 400 when they are another kind's), types
 * (400 in the words of Go's decoder), unknown fields. Also what a patch made of a stored object goes this way.
 * `warnings` (may be NULL) come from decode_parse() or are empty. */
int decode_tree(struct arena *arena, const struct api_kind *kind, struct json *tree,
		enum decode_field_validation validation, struct decode_warnings *warnings, struct err *err);

/* decode_parse() and decode_tree(). */
int decode_text(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		enum decode_field_validation validation, struct decode_warnings *warnings, struct json **ret,
		struct err *err);

/* The same for a message that is not a stored kind (a subresource's body, DeleteOptions, Table). apiVersion and
 * kind are not looked at but kept. `what` words errors ("DeleteOptions"). */
int decode_message(struct arena *arena, const struct api_message *message, const char *what, struct json *tree,
		   enum decode_field_validation validation, struct decode_warnings *warnings, struct err *err);

/* apiVersion and kind of a raw tree; 400 when one is missing. Borrowed. */
int decode_type_meta(const struct json *tree, struct str *ret_group, struct str *ret_version, struct str *ret_kind,
		     struct err *err);
