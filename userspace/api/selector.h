/* SPDX-License-Identifier: Apache-2.0 */
/* Label and field selectors, compiled once. A compiled selector lives in an arena (its strings are
 * copied there) or, by selector_clone(), in one heap block. Any thread; immutable once made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "userspace/api/kind.h"
#include "userspace/api/meta.h"
#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

#define SELECTOR_REQUIREMENTS_MAX 1000
#define SELECTOR_VALUES_MAX 10000 /* of all requirements together */

enum selector_op {
	SELECTOR_IN,     /* also `=` and `==` */
	SELECTOR_NOT_IN, /* also `!=`; true when the label is absent */
	SELECTOR_EXISTS,
	SELECTOR_NOT_EXISTS,
	SELECTOR_GREATER, /* whole numbers */
	SELECTOR_LESS,
};

struct selector_requirement {
	struct str key;
	enum selector_op op;
	struct str *values; /* sorted */
	size_t n_values;
	int64_t number; /* GREATER, LESS */
};

struct selector {
	bool nothing;                              /* matches no object (an absent LabelSelector) */
	struct selector_requirement *requirements; /* all must hold; none: everything matches. Sorted by key */
	size_t n;
};

/* `a=b,c!=d,e in (x,y),!f,g,h notin (z),i>3`; empty: everything. 400 `unable to parse requirement: ...`. */
int selector_parse(struct arena *arena, struct str text, struct selector *ret, struct err *err);
/* metav1.LabelSelector. NULL or null: nothing; {}: everything. -EINVAL with upstream's message. */
int selector_from_json(struct arena *arena, const struct json *label_selector, struct selector *ret, struct err *err);
/* A map of labels (Service.spec.selector, nodeSelector): all equal; NULL or empty: everything. Never fails. */
void selector_from_map(struct arena *arena, const struct json *map, struct selector *ret);
/* Node selector expressions [{key, operator, values}] with In, NotIn, Exists, DoesNotExist, Gt, Lt. */
int selector_from_expressions(struct arena *arena, const struct json *expressions, struct selector *ret,
			      struct err *err);

/* `labels`: struct api_label is laid out as the store's struct object_label. */
bool selector_matches(const struct selector *s, const struct api_label *labels, size_t n_labels);
bool selector_matches_map(const struct selector *s, const struct json *labels);
bool selector_is_everything(const struct selector *s);
/* Upstream's string form ("a=b,c in (x,y)"), as in scale.status.selector. */
void selector_write(struct buf *out, const struct selector *s);

/* One heap block. */
struct selector *selector_clone(const struct selector *s);
void selector_destroy(struct selector *s); /* takes NULL */

/* ---- field selectors ---- */

enum { FIELD_SELECTOR_NAME = -1, FIELD_SELECTOR_NAMESPACE = -2 };

struct field_requirement {
	int field; /* FIELD_SELECTOR_*, or an index into kind->selectable */
	bool not_equal;
	struct str value;
};

struct field_selector {
	struct field_requirement *requirements;
	size_t n;
};

/* `metadata.name=x,status.phase!=Running`; empty: everything. 400
 * `field label not supported: x` (worded with the kind as upstream does). */
int field_selector_parse(struct arena *arena, const struct api_kind *kind, struct str text, struct field_selector *ret,
			 struct err *err);
/* `fields`: the values of kind->selectable, as in struct api_header and in the store's objects. */
bool field_selector_matches(const struct field_selector *s, struct str ns, struct str name, const struct str *fields,
			    size_t n_fields);
/* The value that metadata.name must equal, or empty: such a list or watch is of one object. */
struct str field_selector_name(const struct field_selector *s);
