/* SPDX-License-Identifier: Apache-2.0 */
/* Sets as sorted trees: every operation walks two of them side by side once. No state; any thread. */
#include "userspace/api/fieldset.h"

#include <errno.h>
#include <stdlib.h>

#include "userspace/base/mem.h"

/* ---- building ---- */

static struct fieldset *node(struct arena *arena, struct str name, unsigned marks)
{
	struct fieldset *n = arena_new(arena, struct fieldset);

	n->name = name;
	n->marks = marks;
	return n;
}

void fieldset_append(struct fieldset *parent, struct fieldset *child)
{
	child->next = NULL;
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
}

struct fieldset *fieldset_child(struct arena *arena, struct fieldset *parent, struct str element)
{
	struct fieldset **link = &parent->first, *n;

	/* What comes in order is the common case. */
	if (parent->last) {
		int c = fieldset_element_cmp(parent->last->name, element);

		if (c == 0)
			return parent->last;
		if (c < 0)
			link = &parent->last->next;
	}
	while (*link) {
		int c = fieldset_element_cmp((*link)->name, element);

		if (c == 0)
			return *link;
		if (c > 0)
			break;
		link = &(*link)->next;
	}
	n = node(arena, element, 0);
	n->next = *link;
	*link = n;
	if (!n->next)
		parent->last = n;
	return n;
}

/* ---- text ---- */

struct parse {
	struct arena *arena;
	struct err *err;
};

static int cmp_nodes(const void *a, const void *b)
{
	const struct fieldset *const *x = a, *const *y = b;

	return fieldset_element_cmp((*x)->name, (*y)->name);
}

static void sort_children(struct parse *p, struct fieldset *parent, size_t n)
{
	struct fieldset **all = arena_new_array(p->arena, struct fieldset *, n);
	size_t i = 0;

	for (struct fieldset *c = parent->first; c; c = c->next)
		all[i++] = c;
	qsort(all, n, sizeof(struct fieldset *), cmp_nodes);
	parent->first = parent->last = NULL;
	for (i = 0; i < n; i++) {
		if (parent->last && str_eq(parent->last->name, all[i]->name)) { /* written twice, in two ways */
			struct fieldset *both = fieldset_union(p->arena, parent->last, all[i]);

			parent->last->marks = both->marks;
			parent->last->first = both->first;
			parent->last->last = both->last;
			continue;
		}
		fieldset_append(parent, all[i]);
	}
}

/* 1: an element of a sort that is not known here. */
static int read_element(struct parse *p, struct str text, struct str *ret)
{
	struct json *v = NULL;
	int64_t index;
	int r;

	if (text.n < 2 || text.p[1] != ':')
		return err_set(p->err, -EINVAL,
			       text.n < 2 ? "key must be 2 characters long: %.*s" : "missing colon: %.*s",
			       STR_ARG(text));
	if (text.p[0] == 'f') {
		*ret = text;
		return 0;
	}
	if (text.p[0] == 'i') {
		r = str_to_int64(str_make(text.p + 2, text.n - 2), &index);
		*ret = text;
		return r < 0 ? err_set(p->err, -EINVAL, "not a number: %.*s", STR_ARG(text)) : 0;
	}
	if (text.p[0] != 'k' && text.p[0] != 'v')
		return 1;
	r = json_parse(p->arena, str_make(text.p + 2, text.n - 2), 0, &v, p->err);
	if (r < 0)
		return r;
	if (text.p[0] == 'v') {
		*ret = fieldset_value(p->arena, v);
		return 0;
	}
	if (!json_is(v, JSON_OBJECT))
		return err_set(p->err, -EINVAL, "not an object: %.*s", STR_ARG(text));
	{
		size_t n = json_count(v), i = 0;
		const char **names = arena_new_array(p->arena, const char *, n + 1);
		const struct json **values = arena_new_array(p->arena, const struct json *, n + 1);

		json_foreach(m, v) {
			names[i] = arena_strndup(p->arena, m->key.p, m->key.n);
			values[i++] = m;
		}
		*ret = fieldset_key(p->arena, names, values, n);
	}
	return 0;
}

/* Fills `at` with the children of `v`; *ret_self: "." is among them. */
static int read_children(struct parse *p, const struct json *v, struct fieldset *at, bool *ret_self)
{
	bool sorted = true, self = false;
	size_t n = 0;

	if (!json_is(v, JSON_OBJECT))
		return err_set(p->err, -EINVAL, "a set of fields is made of objects");
	json_foreach(m, v) {
		struct fieldset *child;
		struct str element;
		bool member;
		int r;

		if (str_is(m->key, ".")) {
			self = true;
			continue;
		}
		r = read_element(p, m->key, &element);
		if (r < 0)
			return r;
		if (r > 0)
			continue;
		child = node(p->arena, element, 0);
		r = read_children(p, m, child, &member);
		if (r < 0)
			return r;
		child->marks = member || !child->first ? FIELDSET_MEMBER : 0;
		sorted = sorted && (!at->last || fieldset_element_cmp(at->last->name, element) < 0);
		fieldset_append(at, child);
		n++;
	}
	if (!sorted)
		sort_children(p, at, n);
	*ret_self = self;
	return 0;
}

int fieldset_parse(struct arena *arena, const struct json *v, struct fieldset **ret, struct err *err)
{
	struct parse p = { arena, err };
	struct fieldset *root = node(arena, STR(""), 0);
	struct json *tree = NULL;
	bool self;
	int r = 0;

	if (json_is(v, JSON_RAW)) {
		r = json_parse(arena, v->text, 0, &tree, err);
		v = tree;
	}
	if (r >= 0)
		r = read_children(&p, v, root, &self);
	if (r < 0)
		return r;
	*ret = root->first ? root : NULL;
	return 0;
}

static void write_node(struct buf *out, const struct fieldset *set, bool self)
{
	bool first = true;

	buf_add_char(out, '{');
	if (self && set->first) {
		buf_add_cstr(out, "\".\":{}");
		first = false;
	}
	for (const struct fieldset *c = set->first; c; c = c->next) {
		if (!first)
			buf_add_char(out, ',');
		first = false;
		json_write_str(out, c->name);
		buf_add_char(out, ':');
		write_node(out, c, c->marks & FIELDSET_MEMBER);
	}
	buf_add_char(out, '}');
}

void fieldset_write(struct buf *out, const struct fieldset *set)
{
	if (set)
		write_node(out, set, false);
	else
		buf_add_cstr(out, "{}");
}

/* ---- sets ---- */

bool fieldset_equal(const struct fieldset *a, const struct fieldset *b)
{
	const struct fieldset *x = a ? a->first : NULL, *y = b ? b->first : NULL;

	for (; x && y; x = x->next, y = y->next)
		if (x->marks != y->marks || !str_eq(x->name, y->name) || !fieldset_equal(x, y))
			return false;
	return !x && !y;
}

enum operation { UNION, INTERSECTION, DIFFERENCE, EXCLUSION };

/* A node of another list: the rest of the subtree is shared. */
static void share(struct arena *arena, struct fieldset *to, const struct fieldset *c)
{
	struct fieldset *n = node(arena, c->name, c->marks);

	n->first = c->first;
	n->last = c->last;
	fieldset_append(to, n);
}

static unsigned combined(enum operation op, unsigned a, unsigned b)
{
	if (op == UNION)
		return a | b;
	return op == INTERSECTION ? a & b : a & ~b;
}

static struct fieldset *combine(struct arena *arena, enum operation op, const struct fieldset *a,
				const struct fieldset *b)
{
	struct fieldset *out = node(arena, a ? a->name : b ? b->name : STR(""), 0);
	const struct fieldset *x = a ? a->first : NULL, *y = b ? b->first : NULL;

	out->marks = combined(op, a ? a->marks : 0, b ? b->marks : 0);
	while (x || y) {
		int c = !x ? 1 : !y ? -1 : fieldset_element_cmp(x->name, y->name);
		struct fieldset *both;

		if (c < 0) {
			if (op != INTERSECTION)
				share(arena, out, x);
			x = x->next;
			continue;
		}
		if (c > 0) {
			if (op == UNION)
				share(arena, out, y);
			y = y->next;
			continue;
		}
		if (op != EXCLUSION || !(y->marks & FIELDSET_MEMBER)) {
			both = combine(arena, op, x, y);
			if (both->marks || both->first)
				fieldset_append(out, both);
		}
		x = x->next;
		y = y->next;
	}
	return out;
}

static struct fieldset *whole(struct arena *arena, enum operation op, const struct fieldset *a,
			      const struct fieldset *b)
{
	struct fieldset *set = combine(arena, op, a, b);

	return set->first ? set : NULL;
}

struct fieldset *fieldset_union(struct arena *arena, const struct fieldset *a, const struct fieldset *b)
{
	struct fieldset *set = combine(arena, UNION, a, b);

	return set->first || set->marks ? set : NULL;
}

struct fieldset *fieldset_intersection(struct arena *arena, const struct fieldset *a, const struct fieldset *b)
{
	return whole(arena, INTERSECTION, a, b);
}

struct fieldset *fieldset_difference(struct arena *arena, const struct fieldset *a, const struct fieldset *b)
{
	return whole(arena, DIFFERENCE, a, b);
}

struct fieldset *fieldset_exclude(struct arena *arena, const struct fieldset *a, const struct fieldset *b)
{
	return whole(arena, EXCLUSION, a, b);
}

static bool pick(struct arena *arena, struct fieldset *to, const struct fieldset *from, unsigned marks)
{
	for (const struct fieldset *c = from->first; c; c = c->next) {
		struct fieldset *n = node(arena, c->name, c->marks & marks ? FIELDSET_MEMBER : 0);

		if (pick(arena, n, c, marks) || n->marks)
			fieldset_append(to, n);
	}
	return to->first != NULL;
}

struct fieldset *fieldset_pick(struct arena *arena, const struct fieldset *set, unsigned marks)
{
	struct fieldset *root = node(arena, STR(""), 0);

	return set && pick(arena, root, set, marks) ? root : NULL;
}

size_t fieldset_count(const struct fieldset *set)
{
	size_t n = 0;

	for (const struct fieldset *c = set ? set->first : NULL; c; c = c->next)
		n += (c->marks & FIELDSET_MEMBER) + fieldset_count(c);
	return n;
}

struct walk {
	fieldset_each_fn *fn;
	void *arg;
	struct str path[JSON_DEPTH_MAX + 1];
};

static void each(struct walk *w, const struct fieldset *set, size_t depth)
{
	if (depth >= JSON_DEPTH_MAX)
		return;
	for (const struct fieldset *c = set->first; c; c = c->next) {
		if (!(c->marks & FIELDSET_MEMBER))
			continue;
		w->path[depth] = c->name;
		w->fn(w->arg, w->path, depth + 1);
	}
	for (const struct fieldset *c = set->first; c; c = c->next) {
		w->path[depth] = c->name;
		each(w, c, depth + 1);
	}
}

void fieldset_each(const struct fieldset *set, fieldset_each_fn *fn, void *arg)
{
	struct walk w = { .fn = fn, .arg = arg };

	if (set)
		each(&w, set, 0);
}
