/* SPDX-License-Identifier: Apache-2.0 */
/* Builds and counts stored objects: header, tables and bytes in one block.
 *
 * Strings of the parts that already lie within the JSON text are made to point into the copy of
 * it, so an object that was parsed from its own bytes costs little more than them. Immutable once
 * object_create() returned; any thread may count. */
#include "datastore/object.h"

#include <assert.h>
#include <stdlib.h>

#include "userspace/base/mem.h"

struct copier {
	struct str from; /* the JSON given */
	char *json;      /* its copy */
	char *at;        /* free space for what is not in it */
};

static bool inside(struct str whole, struct str s)
{
	uintptr_t start = (uintptr_t)whole.p, p = (uintptr_t)s.p;

	return p >= start && p + s.n <= start + whole.n;
}

static size_t extra(const struct object_parts *parts, struct str s)
{
	return inside(parts->json, s) ? 0 : s.n;
}

static struct str copy(struct copier *c, struct str s)
{
	if (s.n == 0)
		return STR_NULL;
	if (inside(c->from, s))
		return str_make(c->json + (s.p - c->from.p), s.n);
	memcpy(c->at, s.p, s.n);
	c->at += s.n;
	return str_make(c->at - s.n, s.n);
}

static int compare_labels(const void *a, const void *b)
{
	const struct object_label *x = a, *y = b;

	return str_cmp(x->key, y->key);
}

static size_t strings_size(const struct object_parts *parts)
{
	size_t n = parts->json.n + extra(parts, parts->ns) + extra(parts, parts->name) + extra(parts, parts->uid);

	for (size_t i = 0; i < parts->n_labels; i++)
		n += extra(parts, parts->labels[i].key) + extra(parts, parts->labels[i].value);
	for (size_t i = 0; i < parts->n_owners; i++)
		n += extra(parts, parts->owners[i].api_version) + extra(parts, parts->owners[i].kind) +
		     extra(parts, parts->owners[i].name) + extra(parts, parts->owners[i].uid);
	for (size_t i = 0; i < parts->n_fields; i++)
		n += extra(parts, parts->fields[i]);
	return n;
}

static void copy_tables(struct object *o, struct object_label *labels, struct object_owner *owners, struct copier *c,
			const struct object_parts *parts)
{
	for (size_t i = 0; i < parts->n_labels; i++)
		labels[i] = (struct object_label){ copy(c, parts->labels[i].key), copy(c, parts->labels[i].value) };
	for (size_t i = 0; i < parts->n_owners; i++) {
		const struct object_owner *from = &parts->owners[i];

		owners[i] = (struct object_owner){
			.api_version = copy(c, from->api_version),
			.kind = copy(c, from->kind),
			.name = copy(c, from->name),
			.uid = copy(c, from->uid),
			.controller = from->controller,
			.block_owner_deletion = from->block_owner_deletion,
		};
	}
	for (size_t i = 0; i < parts->n_fields; i++)
		o->fields[i] = copy(c, parts->fields[i]);
}

const struct object *object_create(const struct object_parts *parts)
{
	size_t labels_size = parts->n_labels * sizeof(struct object_label);
	size_t owners_size = parts->n_owners * sizeof(struct object_owner);
	struct object *o;
	struct copier c;
	char *block;

	assert(parts->n_fields <= OBJECT_FIELDS_MAX);
	assert(parts->n_labels <= UINT16_MAX && parts->n_owners <= UINT16_MAX);
	if (parts->n_labels > 1)
		qsort(parts->labels, parts->n_labels, sizeof(*parts->labels), compare_labels);
	block = mem_alloc(sizeof(*o) + labels_size + owners_size + strings_size(parts));
	o = (struct object *)block;
	*o = (struct object){
		.resource = parts->resource,
		.deleting = parts->deleting,
		.has_finalizers = parts->has_finalizers,
		.revision = parts->revision,
		.generation = parts->generation,
		.created_real_ns = parts->created_real_ns,
		.n_labels = (uint16_t)parts->n_labels,
		.n_owners = (uint16_t)parts->n_owners,
		.n_fields = (uint16_t)parts->n_fields,
	};
	atomic_init(&o->refs, 1);
	c.from = parts->json;
	c.json = block + sizeof(*o) + labels_size + owners_size;
	c.at = c.json + parts->json.n;
	if (parts->json.n)
		memcpy(c.json, parts->json.p, parts->json.n);
	o->json = str_make(c.json, parts->json.n);
	o->ns = copy(&c, parts->ns);
	o->name = copy(&c, parts->name);
	o->uid = copy(&c, parts->uid);
	o->labels = (struct object_label *)(block + sizeof(*o));
	o->owners = (struct object_owner *)(block + sizeof(*o) + labels_size);
	copy_tables(o, (struct object_label *)(block + sizeof(*o)),
		    (struct object_owner *)(block + sizeof(*o) + labels_size), &c, parts);
	return o;
}

const struct object *object_ref(const struct object *o)
{
	atomic_fetch_add_explicit(&((struct object *)(uintptr_t)o)->refs, 1, memory_order_relaxed);
	return o;
}

void object_unref(const struct object *o)
{
	struct object *mutable = (struct object *)(uintptr_t)o;

	if (!o)
		return;
	if (atomic_fetch_sub_explicit(&mutable->refs, 1, memory_order_acq_rel) == 1)
		free(mutable);
}

struct str object_label(const struct object *o, struct str key)
{
	size_t low = 0, high = o->n_labels;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = str_cmp(o->labels[mid].key, key);

		if (order == 0)
			return o->labels[mid].value;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return STR_NULL;
}

const struct object_owner *object_controller(const struct object *o)
{
	for (size_t i = 0; i < o->n_owners; i++)
		if (o->owners[i].controller)
			return &o->owners[i];
	return NULL;
}
