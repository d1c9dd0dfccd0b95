/* SPDX-License-Identifier: Apache-2.0 */
/* Server-side apply: merge the config into the object, drop what the applier no longer mentions and nobody else
 * owns, and ask the owners of what changes. No state; any thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/api/managed_internal.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

#define BEFORE_FIRST_APPLY "before-first-apply"
#define LAST_APPLIED_MANAGER "kubectl" /* whose annotation is kept in step */

static const struct json nothing_yet = { .type = JSON_OBJECT };

struct apply {
	struct arena *arena;
	const struct managed_write *w;
	const struct json *live; /* {} when there is none */
	const struct json *config;
	bool force;
	struct managed_list list;
	struct managed_entry *self;
	struct fieldset *before, *own; /* what it applied last time (in `before_version`), and now */
	struct str before_version;
	struct managed_conflicts conflicts;
	struct json *merged;
	struct err *err;
};

/* ---- conflicts ---- */

struct report {
	const struct managed_entry *entry;
	struct err *err;  /* gets causes, */
	struct buf *text; /* or this gets lines */
};

static void print_path(struct buf *out, const struct str *path, size_t depth)
{
	for (size_t i = 0; i < depth; i++)
		fieldset_element_print(out, path[i]);
}

static void print_manager(struct buf *out, const struct managed_entry *e)
{
	json_write_str(out, e->manager);
	if (e->subresource.n) {
		buf_add_cstr(out, " with subresource ");
		json_write_str(out, e->subresource);
	}
	if (!e->applied)
		buf_printf(out, " using %.*s", STR_ARG(e->api_version));
}

static void report_one(void *arg, const struct str *path, size_t depth)
{
	_cleanup_buf_ struct buf field = BUF_INIT, manager = BUF_INIT;
	struct report *r = arg;

	print_path(&field, path, depth);
	if (r->text) {
		buf_printf(r->text, "\n- %s", buf_cstr(&field));
		return;
	}
	print_manager(&manager, r->entry);
	err_add_cause(r->err, "FieldManagerConflict", buf_cstr(&field), "conflict with %s", buf_cstr(&manager));
}

static int cmp_conflicts(const void *a, const void *b)
{
	const struct managed_conflict *x = a, *y = b;
	int c = str_cmp(x->entry->manager, y->entry->manager);

	if (c == 0) /* as the texts of identities sort: the operation comes next */
		c = (int)y->entry->applied - (int)x->entry->applied;
	return c ? c : str_cmp(x->entry->api_version, y->entry->api_version);
}

static int refuse_conflicts(struct managed_conflicts *c, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT, one = BUF_INIT;
	size_t n = 0;

	qsort(c->v, c->n, sizeof(*c->v), cmp_conflicts);
	for (size_t i = 0; i < c->n; i++) {
		struct report report = { .entry = c->v[i].entry, .text = &text };

		n += fieldset_count(c->v[i].set);
		buf_printf(&text, "%sconflicts with ", i ? "\n" : "");
		print_manager(&text, c->v[i].entry);
		buf_add_char(&text, ':');
		fieldset_each(c->v[i].set, report_one, &report);
	}
	if (n == 1) {
		print_manager(&one, c->v[0].entry);
		err_set_status(err, -EAGAIN, 409, "Conflict", "Apply failed with 1 conflict: conflict with %s: %s",
			       buf_cstr(&one), strstr(buf_cstr(&text), "\n- ") + strlen("\n- "));
	} else {
		err_set_status(err, -EAGAIN, 409, "Conflict", "Apply failed with %zu conflicts: %s", n,
			       buf_cstr(&text));
	}
	for (size_t i = 0; i < c->n; i++) {
		struct report report = { .entry = c->v[i].entry, .err = err };

		fieldset_each(c->v[i].set, report_one, &report);
	}
	return -EAGAIN;
}

/* ---- dropping what is no longer applied ---- */

struct prune {
	struct apply *a;
	const struct api_kind *kind; /* of both below */
	struct json *merged, *pruned;
};

static int convert_both(struct prune *p, const struct api_kind *to)
{
	struct arena *arena = p->a->arena;

	if (to == p->kind)
		return 0;
	p->merged = managed_convert(arena, p->a->w, p->merged, p->kind, to);
	p->pruned = managed_convert(arena, p->a->w, p->pruned, p->kind, to);
	p->kind = to;
	return 0;
}

static int named_fields(struct apply *a, const struct api_kind *kind, const struct json *v, struct fieldset **ret)
{
	struct typed t = typed_object(kind->message);
	struct fieldset *all = NULL;
	int r = typed_fields(a->arena, t, v, &all, a->err);

	if (r < 0)
		return r;
	*ret = typed_named(a->arena, t, all);
	return 0;
}

/* What anybody owns at that version stays. */
static int add_owned(struct prune *p, const struct api_kind *kind)
{
	struct apply *a = p->a;
	struct typed t = typed_object(kind->message);
	struct fieldset *owned = NULL, *merged, *pruned, *kept;
	int r;

	for (size_t i = 0; i < a->list.n; i++) {
		struct managed_entry *e = &a->list.v[i];

		if (e->gone || managed_version(a->w, e->api_version) != kind)
			continue;
		r = managed_set(a->arena, e, a->err);
		if (r < 0)
			return r;
		owned = fieldset_union(a->arena, owned, e->set);
	}
	if (!owned)
		return 0;
	convert_both(p, kind);
	r = named_fields(a, kind, p->merged, &merged);
	if (r >= 0)
		r = named_fields(a, kind, p->pruned, &pruned);
	if (r < 0)
		return r;
	kept = fieldset_union(a->arena, pruned, typed_named(a->arena, t, owned));
	p->pruned = typed_remove(a->arena, t, p->merged, fieldset_difference(a->arena, merged, kept));
	return 0;
}

static int add_all_owned(struct prune *p, const struct api_kind *first)
{
	struct apply *a = p->a;
	int r = add_owned(p, first);

	for (size_t i = 0; r >= 0 && i < a->list.n; i++) {
		const struct api_kind *k = managed_version(a->w, a->list.v[i].api_version);
		bool done = !k || k == first;

		for (size_t j = 0; j < i && !done; j++)
			done = managed_version(a->w, a->list.v[j].api_version) == k;
		if (!done)
			r = add_owned(p, k);
	}
	return r;
}

/* Only what this applier owned before may go. */
static int prune(struct apply *a)
{
	const struct api_kind *kind = a->before ? managed_version(a->w, a->before_version) : NULL;
	struct prune p = { .a = a, .kind = a->w->kind, .merged = a->merged };
	struct fieldset *before, *merged, *pruned;
	struct json *all;
	struct typed t;
	int r;

	if (!kind)
		return 0;
	t = typed_object(kind->message);
	p.pruned = p.merged;
	convert_both(&p, kind);
	all = p.merged;
	before = typed_named(a->arena, t, a->before);
	p.pruned = typed_remove(a->arena, t, all, before);
	r = add_all_owned(&p, kind);
	if (r < 0)
		return r;
	convert_both(&p, kind);
	r = named_fields(a, kind, p.pruned, &pruned);
	if (r >= 0)
		r = named_fields(a, kind, all, &merged);
	if (r < 0)
		return r;
	merged = fieldset_intersection(a->arena, fieldset_difference(a->arena, merged, pruned), before);
	p.merged = typed_remove(a->arena, t, all, merged);
	p.pruned = p.merged;
	convert_both(&p, a->w->kind);
	a->merged = p.merged;
	return 0;
}

/* ---- the steps ---- */

static const char *describe(struct arena *arena, const struct managed_write *w, const struct json *object)
{
	return arena_printf(arena, "%.*s/%.*s; %s%s, Kind=%s", STR_ARG(meta_namespace(object)),
			    STR_ARG(meta_name(object)), *w->kind->group ? "" : "/", w->kind->api_version,
			    w->kind->kind);
}

static int check_config(struct apply *a)
{
	const struct managed_write *w = a->w;
	struct str api_version = meta_api_version(a->config), kind = meta_kind(a->config), group = STR(""),
		   version = STR("");
	_cleanup_err_ struct err why = ERR_INIT;

	if (!str_is(api_version, w->kind->api_version) || !str_is(kind, w->kind->kind)) {
		api_parse_api_version(api_version, &group, &version);
		return api_err_bad_request(a->err, "invalid object type: %.*s/%.*s, Kind=%.*s", STR_ARG(group),
					   STR_ARG(version), STR_ARG(kind));
	}
	if (json_get(meta_of(a->config), "managedFields") &&
	    !json_is(json_get(meta_of(a->config), "managedFields"), JSON_NULL))
		return api_err_bad_request(a->err, "metadata.managedFields must be nil");
	if (typed_check(a->arena, typed_object(w->kind->message), a->config, &why) < 0)
		return err_set_status(a->err, -EINVAL, 500, "", "failed to create typed patch object (%s): %s",
				      describe(a->arena, w, a->config), err_message(&why));
	return 0;
}

/* An object from before there were owners: all that it says is owned by one that stands for them. */
static int before_first_apply(struct apply *a, struct json **managed)
{
	struct managed_write w = *a->w;

	if (*managed || a->live == &nothing_yet)
		return 0;
	w.manager = STR(BEFORE_FIRST_APPLY);
	return managed_fields_update(a->arena, &w, NULL, a->live, NULL, managed, a->err);
}

static int enter_self(struct apply *a)
{
	const struct managed_write *w = a->w;
	struct fieldset *own = NULL;
	int r = typed_fields(a->arena, typed_object(w->kind->message), a->config, &own, a->err);

	if (r < 0)
		return r;
	own = fieldset_exclude(a->arena, own, managed_reset_fields(a->arena, w->kind, w->subresource));
	a->self = managed_find(&a->list, w, true);
	if (a->self) {
		r = managed_set(a->arena, a->self, a->err);
		if (r < 0)
			return r;
		a->before = a->self->set;
		a->before_version = a->self->api_version;
	} else {
		a->self = managed_add(&a->list, w, true);
	}
	a->own = own;
	if (a->self->text && str_is(a->self->api_version, w->kind->api_version) && fieldset_equal(own, a->before))
		return 0; /* the text stays what it is */
	managed_change(a->self, own);
	a->self->gone = false;
	a->self->api_version = str_of(w->kind->api_version);
	return 0;
}

/* What kubectl's client-side apply wrote and nobody changed since is kubectl's to take. */
static struct fieldset *allowed_by_last_applied(struct apply *a)
{
	struct str text = meta_annotation(a->live, MANAGED_LAST_APPLIED);
	struct typed t = typed_object(a->w->kind->message);
	struct fieldset *set = NULL, *changed = NULL;
	struct json *last = NULL;

	if (!str_is(a->w->manager, LAST_APPLIED_MANAGER) || !text.n || json_parse(a->arena, text, 0, &last, NULL) < 0 ||
	    !str_is(meta_api_version(last), a->w->kind->api_version) || typed_check(a->arena, t, last, NULL) < 0 ||
	    typed_fields(a->arena, t, last, &set, NULL) < 0 ||
	    typed_compare(a->arena, t, last, a->live, &changed, NULL) < 0)
		return NULL;
	return fieldset_difference(a->arena, set,
				   fieldset_pick(a->arena, changed, TYPED_ADDED | TYPED_MODIFIED | TYPED_REMOVED));
}

/* Conflicts that are left, or none: then everything is taken. */
static int settle_conflicts(struct apply *a)
{
	struct fieldset *allowed, *comparison = NULL;
	size_t n = 0;
	int r;

	if (!a->force) {
		a->conflicts.v = arena_new_array(a->arena, struct managed_conflict, a->list.n + 1);
		r = managed_take(a->arena, a->w, &a->list, a->self, a->live, a->merged, &a->conflicts, &comparison,
				 a->err);
		if (r < 0)
			return r;
		allowed = a->conflicts.n ? allowed_by_last_applied(a) : NULL;
		for (size_t i = 0; i < a->conflicts.n; i++) {
			struct managed_conflict c = a->conflicts.v[i];

			c.set = fieldset_difference(a->arena, c.set, allowed);
			if (c.set)
				a->conflicts.v[n++] = c;
		}
		a->conflicts.n = n;
		if (n)
			return refuse_conflicts(&a->conflicts, a->err);
	}
	return managed_take(a->arena, a->w, &a->list, a->self, a->live, a->merged, NULL, &comparison, a->err);
}

/* ---- the annotation of client-side apply ---- */

static int cmp_names(const void *a, const void *b)
{
	const struct json *const *x = a, *const *y = b;

	return str_cmp((*x)->key, (*y)->key);
}

/* Members by name, as Go writes maps. */
static void sort_members(struct arena *arena, struct json *v)
{
	struct json **all = arena_new_array(arena, struct json *, json_count(v) + 1);
	size_t n = 0;

	json_foreach(c, v) {
		sort_members(arena, c);
		all[n++] = c;
	}
	if (!json_is(v, JSON_OBJECT) || n < 2)
		return;
	qsort(all, n, sizeof(struct json *), cmp_names);
	v->first = v->last = NULL;
	v->count = 0;
	for (size_t i = 0; i < n; i++)
		json_append(v, all[i]);
}

static void update_last_applied(struct apply *a)
{
	struct json *config, *annotations;

	if (!str_is(a->w->manager, LAST_APPLIED_MANAGER) || !meta_annotation(a->merged, MANAGED_LAST_APPLIED).n)
		return;
	config = json_clone(a->arena, a->config);
	annotations = json_get(meta_of(config), "annotations");
	if (json_remove(annotations, MANAGED_LAST_APPLIED) && !json_count(annotations))
		json_remove(meta_of(config), "annotations");
	sort_members(a->arena, config);
	meta_set_annotation(a->arena, a->merged, MANAGED_LAST_APPLIED,
			    str_of(arena_printf(a->arena, "%s\n", json_text(a->arena, config).p)));
}

/* ---- */

static int merge(struct apply *a)
{
	_cleanup_err_ struct err why = ERR_INIT;
	int r = typed_merge(a->arena, typed_object(a->w->kind->message), a->live, a->config, &a->merged, &why);

	if (r < 0)
		return err_set_status(a->err, -EINVAL, 500, "", "failed to merge config: %s", err_message(&why));
	return 0;
}

static void finish(struct apply *a)
{
	if (a->self->set || a->self->text) {
		struct fieldset *own = managed_strip(a->arena, a->own);

		if (!a->self->text)
			managed_change(a->self, own);
	}
	for (size_t i = 0; i < a->list.n; i++)
		a->list.v[i].gone = a->list.v[i].gone || (a->list.v[i].parsed && !a->list.v[i].set);
	if (!json_equal(a->live, a->merged))
		managed_stamp(a->arena, a->self, a->w->now_real_ns);
	update_last_applied(a);
}

int managed_fields_apply(struct arena *arena, const struct managed_write *w, const struct json *live,
			 const struct json *config, struct json *managed, bool force, struct json **ret_object,
			 struct json **ret_managed, struct err *err)
{
	struct apply a = {
		.arena = arena, .w = w, .live = live ? live : &nothing_yet, .config = config, .force = force, .err = err
	};
	int r = check_config(&a);

	if (r >= 0)
		r = before_first_apply(&a, &managed);
	if (r >= 0)
		r = managed_decode(arena, managed, &a.list, err);
	if (r >= 0)
		r = merge(&a);
	if (r >= 0)
		r = enter_self(&a);
	if (r >= 0)
		r = prune(&a);
	if (r >= 0)
		r = settle_conflicts(&a);
	if (r < 0)
		return r;
	finish(&a);
	*ret_object = a.merged;
	*ret_managed = managed_encode(arena, &a.list);
	return 0;
}

/* ---- scale ---- */

int managed_fields_scale(struct arena *arena, const struct managed_write *w, bool changed, bool apply, bool force,
			 struct json *managed, struct json **ret_managed, struct err *err)
{
	struct managed_list list;
	struct managed_conflicts conflicts = { 0 };
	struct fieldset *replicas = NULL;
	struct managed_entry *self;
	int r = managed_decode(arena, managed, &list, err);

	if (r < 0)
		return r;
	fieldset_parse(arena, json_new_raw(arena, STR("{\"f:spec\":{\"f:replicas\":{}}}")), &replicas, NULL);
	self = managed_find(&list, w, apply);
	conflicts.v = arena_new_array(arena, struct managed_conflict, list.n + 1);
	for (size_t i = 0; changed && i < list.n; i++) {
		struct managed_entry *e = &list.v[i];

		if (e == self)
			continue;
		r = managed_set(arena, e, err);
		if (r < 0)
			return r;
		if (!fieldset_intersection(arena, e->set, replicas))
			continue;
		conflicts.v[conflicts.n++] = (struct managed_conflict){ e, replicas };
		if (!apply || force)
			managed_change(e, fieldset_difference(arena, e->set, replicas));
	}
	if (apply && !force && conflicts.n)
		return refuse_conflicts(&conflicts, err);
	if (changed || apply) {
		if (!self)
			self = managed_add(&list, w, apply);
		self->time = STR(""); /* as upstream keeps none for this view */
		managed_change(self, replicas);
	}
	*ret_managed = managed_encode(arena, &list);
	return 0;
}
