/* SPDX-License-Identifier: Apache-2.0 */
/* One stored object at one revision: canonical JSON bytes and the few facts that the store,
 * selectors and controllers need without parsing. Immutable and counted from the moment it is
 * built; one heap block. Loop thread, but the count is atomic: the writer thread holds one too. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/str.h"

struct object_label {
	struct str key, value;
};

struct object_owner {
	struct str api_version, kind, name, uid;
	bool controller, block_owner_deletion;
};

#define OBJECT_FIELDS_MAX 11 /* selectable fields of one kind, besides metadata.name/namespace */

struct object {
	_Atomic uint32_t refs;
	uint16_t resource; /* storage resource: index given by store_add_resource() */
	bool deleting;     /* metadata.deletionTimestamp is set */
	bool has_finalizers;
	int64_t revision; /* metadata.resourceVersion, also inside the bytes */
	int64_t generation;
	int64_t created_real_ns;
	struct str ns; /* empty: cluster scope */
	struct str name;
	struct str uid;
	struct str json;                   /* canonical: no blanks, resourceVersion set, no managedFields tricks */
	const struct object_label *labels; /* sorted by key */
	const struct object_owner *owners;
	uint16_t n_labels, n_owners, n_fields;
	struct str fields[OBJECT_FIELDS_MAX]; /* values of the kind's selectable fields, in its order */
};

/* What object_create() copies into its one block. */
struct object_parts {
	uint16_t resource;
	bool deleting, has_finalizers;
	int64_t revision, generation, created_real_ns;
	struct str ns, name, uid, json;
	struct object_label *labels; /* will be sorted in place */
	size_t n_labels;
	struct object_owner *owners;
	size_t n_owners;
	struct str *fields;
	size_t n_fields;
};

const struct object *object_create(const struct object_parts *parts);
const struct object *object_ref(const struct object *o);
void object_unref(const struct object *o); /* takes NULL */
static inline void object_unrefp(const struct object **o)
{
	object_unref(*o);
}
#define _cleanup_object_ _cleanup_(object_unrefp)

/* Empty when absent. */
struct str object_label(const struct object *o, struct str key);
const struct object_owner *object_controller(const struct object *o); /* the owner with controller=true, or NULL */
