/* SPDX-License-Identifier: Apache-2.0 */
/* The field manager for writes that are no apply, and what applies share with it: whoever changes a field owns it
 * from there on, and what is gone is nobody's. No state; any thread. */
#include "userspace/api/managed_fields.h"

#include <errno.h>

#include "userspace/api/managed_internal.h"
#include "userspace/base/mem.h"

static const struct json nothing_yet = { .type = JSON_OBJECT };

bool managed_fields_is_reset(const struct json *list)
{
	if (!json_is(list, JSON_ARRAY) || json_count(list) > 1)
		return false;
	return !list->first || (json_is(list->first, JSON_OBJECT) && !json_count(list->first));
}

bool managed_fields_valid(struct arena *arena, const struct json *list)
{
	struct managed_list l;

	if (managed_decode(arena, list, &l, NULL) < 0)
		return false;
	for (size_t i = 0; i < l.n; i++)
		if (managed_set(arena, &l.v[i], NULL) < 0)
			return false;
	return l.n > 0;
}

/* ---- versions ---- */

const struct api_kind *managed_version(const struct managed_write *w, struct str api_version)
{
	struct str group, version;
	const struct api_kind *k;

	if (str_is(api_version, w->kind->api_version))
		return w->kind;
	if (api_parse_api_version(api_version, &group, &version) < 0)
		return NULL;
	k = api_kind_by_resource(group, version, str_of(w->kind->plural));
	return k && k->resource == w->kind->resource ? k : NULL;
}

struct json *managed_convert(struct arena *arena, const struct managed_write *w, const struct json *object,
			     const struct api_kind *from, const struct api_kind *to)
{
	return from == to ? json_clone(arena, object) : w->convert(arena, object, from, to);
}

static int compare_at(struct arena *arena, const struct managed_write *w, const struct api_kind *kind,
		      const struct json *live, const struct json *object, struct fieldset **ret, struct err *err)
{
	struct fieldset *all = NULL;
	int r;

	if (kind != w->kind) {
		live = live ? w->convert(arena, live, w->kind, kind) : NULL;
		object = w->convert(arena, object, w->kind, kind);
	}
	r = typed_compare(arena, typed_object(kind->message), live ? live : &nothing_yet, object, &all, err);
	if (r < 0)
		return r;
	if (all)
		all = fieldset_exclude(arena, all, managed_reset_fields(arena, kind, w->subresource));
	*ret = all;
	return 0;
}

/* ---- taking ---- */

/* Could the text hold an element that the set begins with? Sets that stay apart are not even parsed. */
static bool may_touch(const struct managed_entry *e, const struct fieldset *set)
{
	if (e->parsed || !json_is(e->text, JSON_RAW))
		return true;
	for (const struct fieldset *c = set->first; c; c = c->next) {
		struct str name = c->name;

		if (name.n + 2 <= e->text->text.n && memmem(e->text->text.p, e->text->text.n, name.p, name.n))
			return true;
	}
	return false;
}

static int take_from(struct arena *arena, struct managed_entry *e, const struct fieldset *comparison,
		     struct managed_conflicts *conflicts, struct err *err)
{
	struct fieldset *taken, *left;
	int r;

	if (!comparison || !may_touch(e, comparison))
		return 0;
	r = managed_set(arena, e, err);
	if (r < 0)
		return r;
	taken = fieldset_pick(arena, comparison, TYPED_ADDED | TYPED_MODIFIED);
	taken = fieldset_intersection(arena, e->set, taken);
	if (conflicts) {
		if (taken)
			conflicts->v[conflicts->n++] = (struct managed_conflict){ e, taken };
		return 0;
	}
	left = fieldset_difference(arena, e->set, taken);
	left = fieldset_difference(arena, left, fieldset_pick(arena, comparison, TYPED_REMOVED));
	if (!fieldset_equal(left, e->set))
		managed_change(e, left);
	return 0;
}

int managed_take(struct arena *arena, const struct managed_write *w, struct managed_list *list,
		 const struct managed_entry *self, const struct json *live, const struct json *object,
		 struct managed_conflicts *conflicts, struct fieldset **ret_comparison, struct err *err)
{
	struct fieldset *comparison = NULL, *other = NULL;
	const struct api_kind *other_kind = NULL;
	int r = compare_at(arena, w, w->kind, live, object, &comparison, err);

	for (size_t i = 0; r >= 0 && i < list->n; i++) {
		struct managed_entry *e = &list->v[i];
		const struct api_kind *kind = managed_version(w, e->api_version);

		if (e == self || e->gone)
			continue;
		if (!kind) { /* a version that is not served (any more) */
			e->gone = true;
			continue;
		}
		if (kind != w->kind && kind != other_kind) {
			r = compare_at(arena, w, kind, live, object, &other, err);
			other_kind = kind;
		}
		if (r >= 0)
			r = take_from(arena, e, kind == w->kind ? comparison : other, conflicts, err);
	}
	if (r < 0)
		return r;
	*ret_comparison = comparison;
	return 0;
}

/* ---- updates ---- */

/* The writer's own entry: without what is gone, with what it changed. Its time moves with the latter. */
static int give_to_self(struct arena *arena, const struct managed_write *w, struct managed_list *list,
			struct managed_entry *self, const struct fieldset *comparison, struct err *err)
{
	struct fieldset *gone = fieldset_pick(arena, comparison, TYPED_REMOVED), *all;
	struct fieldset *taken = managed_strip(arena, fieldset_pick(arena, comparison, TYPED_ADDED | TYPED_MODIFIED));
	int r;

	if (!taken && (!gone || !self))
		return 0;
	if (!self)
		self = managed_add(list, w, false);
	r = managed_set(arena, self, err);
	if (r < 0)
		return r;
	all = fieldset_union(arena, fieldset_difference(arena, self->set, gone), taken);
	if (!fieldset_equal(all, self->set))
		managed_change(self, all);
	if (taken)
		managed_stamp(arena, self, w->now_real_ns);
	return 0;
}

int managed_fields_update(struct arena *arena, const struct managed_write *w, const struct json *live,
			  const struct json *object, struct json *managed, struct json **ret_managed, struct err *err)
{
	struct managed_list list;
	struct managed_entry *self;
	struct fieldset *comparison = NULL;
	int r;

	if (!managed && live) { /* tracked from the first apply on */
		*ret_managed = NULL;
		return 0;
	}
	r = managed_decode(arena, managed, &list, err);
	if (r < 0)
		return r;
	self = managed_find(&list, w, false);
	r = managed_take(arena, w, &list, self, live, object, NULL, &comparison, err);
	if (r >= 0)
		r = give_to_self(arena, w, &list, self, comparison, err);
	if (r < 0)
		return r;
	managed_cap(arena, &list);
	*ret_managed = managed_encode(arena, &list);
	return 0;
}

/* ---- comparing lists ---- */

static bool same_entry(struct arena *arena, struct managed_entry *x, struct managed_entry *y)
{
	if (x->applied != y->applied || !str_eq(x->manager, y->manager) || !str_eq(x->api_version, y->api_version) ||
	    !str_eq(x->subresource, y->subresource))
		return false;
	if (json_is(x->text, JSON_RAW) && json_is(y->text, JSON_RAW) && str_eq(x->text->text, y->text->text))
		return true;
	return managed_set(arena, x, NULL) >= 0 && managed_set(arena, y, NULL) >= 0 && fieldset_equal(x->set, y->set);
}

bool managed_fields_same(struct arena *arena, const struct json *a, const struct json *b)
{
	struct managed_list x, y;

	if (!a || !b)
		return a == b;
	if (json_is(a, JSON_RAW) && json_is(b, JSON_RAW) && str_eq(a->text, b->text))
		return true;
	if (managed_decode(arena, a, &x, NULL) < 0 || managed_decode(arena, b, &y, NULL) < 0 || x.n != y.n)
		return false;
	/* Another time may have moved an entry to another place. */
	for (size_t i = 0; i < x.n; i++) {
		bool found = false;

		for (size_t j = 0; j < y.n && !found; j++)
			found = same_entry(arena, &x.v[i], &y.v[j]);
		if (!found)
			return false;
	}
	return true;
}
