/* SPDX-License-Identifier: Apache-2.0 */
/* The walks that make something new: merging a config into an object, removing a set of fields from it; and judging
 * whether a config fits its schema at all. No state; any thread. */
#include <errno.h>
#include <stdarg.h>

#include "userspace/api/typed_internal.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

#define CHECK_ERRORS_MAX 16 /* said in one message */

struct merge {
	struct arena *arena;
	struct err *err;
};

static int merge(struct merge *m, struct typed t, const struct json *a, const struct json *b, struct json **ret);

/* ---- maps ---- */

static int merge_members(struct merge *m, struct typed t, const struct json *a, const struct json *b, struct json **ret)
{
	struct json *out = json_new_object(m->arena);
	struct typed_children x, y;
	size_t i = 0, j = 0;

	typed_members(m->arena, a, &x);
	typed_members(m->arena, b, &y);
	while (i < x.n || j < y.n) {
		int order = i == x.n ? 1 : j == y.n ? -1 : str_cmp(x.v[i].element, y.v[j].element);
		const struct json *left = NULL, *right = NULL;
		struct str name = order <= 0 ? x.v[i].element : y.v[j].element;
		struct json *merged;
		int r;

		if (order <= 0)
			left = x.v[i++].value;
		if (order >= 0)
			right = y.v[j++].value;
		r = merge(m, typed_member(t, name), left, right, &merged);
		if (r < 0)
			return r;
		if (!merged)
			continue;
		merged->key = name;
		json_append(out, merged);
	}
	*ret = out->first ? out : NULL;
	return 0;
}

/* ---- lists ---- */

/* Items by element, for looking up. */
struct item {
	struct str element;
	const struct json *value; /* of the list's left side: NULL when several share the element */
	bool in_other, done;
};

struct items {
	struct item *v;           /* in the list's order */
	struct item **by_element; /* sorted */
	size_t n;
};

static int cmp_items(const void *a, const void *b)
{
	const struct item *const *x = a, *const *y = b;
	int c = fieldset_element_cmp((*x)->element, (*y)->element);

	return c ? c : (*x > *y) - (*x < *y);
}

static struct item *find_item(const struct items *all, struct str element)
{
	size_t lo = 0, hi = all->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (fieldset_element_cmp(all->by_element[mid]->element, element) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < all->n && str_eq(all->by_element[lo]->element, element) ? all->by_element[lo] : NULL;
}

static int duplicate(struct str element, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	fieldset_element_print(&text, element);
	return err_set(err, -EINVAL, "duplicate entries for key %s", buf_cstr(&text));
}

static int items_of(struct merge *m, struct typed t, const struct json *list, bool duplicates, struct items *ret)
{
	struct typed_children all;
	struct items it;
	int r = typed_items(m->arena, t, list, &all, m->err);

	if (r < 0)
		return r;
	it = (struct items){ .v = arena_new_array(m->arena, struct item, all.n + 1),
			     .by_element = arena_new_array(m->arena, struct item *, all.n + 1),
			     .n = all.n };
	for (size_t i = 0; i < all.n; i++) {
		it.v[i] = (struct item){ .element = all.v[i].element, .value = all.v[i].value };
		it.by_element[i] = &it.v[i];
	}
	qsort(it.by_element, it.n, sizeof(struct item *), cmp_items);
	for (size_t i = 1; i < it.n; i++) {
		if (!str_eq(it.by_element[i - 1]->element, it.by_element[i]->element))
			continue;
		if (!duplicates)
			return duplicate(it.by_element[i]->element, m->err);
		it.by_element[i - 1]->value = it.by_element[i]->value = NULL;
	}
	*ret = it;
	return 0;
}

struct weave {
	struct merge *m;
	struct typed item;
	struct items left, right;
	size_t shared; /* index in right of the next item that is in both, or right.n */
	struct json *out;
};

static void next_shared(struct weave *w)
{
	do
		w->shared++;
	while (w->shared < w->right.n && !w->right.v[w->shared].in_other);
}

static int put(struct weave *w, const struct json *a, const struct json *b)
{
	struct json *merged;
	int r = merge(w->m, w->item, a, b, &merged);

	if (r >= 0 && merged)
		json_append(w->out, merged);
	return r;
}

static int put_right(struct weave *w, size_t j)
{
	struct item *b = &w->right.v[j];
	struct item *a = b->in_other ? find_item(&w->left, b->element) : NULL;

	b->done = true;
	if (w->shared == j)
		next_shared(w);
	return put(w, a ? a->value : NULL, b->value);
}

/* Config's order rules what both have; what the object alone has stays behind its neighbour before. */
static int weave(struct weave *w, const struct json *live)
{
	const struct json *value = json_first(live);
	size_t i = 0, j = 0;
	int r = 0;

	while (r >= 0 && (i < w->left.n || j < w->right.n)) {
		struct item *a = i < w->left.n ? &w->left.v[i] : NULL;
		struct item *b = a && a->in_other ? find_item(&w->right, a->element) : NULL;

		if (a && !b) {
			r = put(w, value, NULL);
		} else if (a && j < w->right.n && b == &w->right.v[j]) {
			r = put_right(w, j++);
		} else if (a &&
			   (b->done || (j < w->right.n && w->shared < w->right.n && b != &w->right.v[w->shared]))) {
			/* there already, or its turn comes later */
		} else if (j < w->right.n) {
			r = put_right(w, j++);
			continue;
		}
		if (a) {
			i++;
			value = value->next;
		}
	}
	return r;
}

static int merge_items(struct merge *m, struct typed t, const struct json *a, const struct json *b, struct json **ret)
{
	struct weave w = { .m = m, .item = typed_item(t), .out = json_new_array(m->arena) };
	int r = items_of(m, t, b, false, &w.right);

	if (r >= 0)
		r = items_of(m, t, a, true, &w.left);
	if (r < 0)
		return r;
	for (size_t i = 0; i < w.right.n; i++)
		w.right.v[i].in_other = find_item(&w.left, w.right.v[i].element) != NULL;
	for (size_t i = 0; i < w.left.n; i++)
		w.left.v[i].in_other = find_item(&w.right, w.left.v[i].element) != NULL;
	if (!w.right.n || !w.right.v[0].in_other)
		next_shared(&w);
	r = weave(&w, a);
	if (r < 0)
		return r;
	*ret = w.out->first ? w.out : NULL;
	return 0;
}

/* *ret NULL: nothing, though both are there (empty). */
static int merge(struct merge *m, struct typed t, const struct json *a, const struct json *b, struct json **ret)
{
	enum typed_shape x = typed_shape(t, a ? a : b), y = typed_shape(t, b ? b : a);

	if (x != y || (y != TYPED_MAP && y != TYPED_LIST) || (!json_count(a) && !json_count(b))) {
		*ret = json_clone(m->arena, b ? b : a);
		return 0;
	}
	return y == TYPED_MAP ? merge_members(m, t, a, b, ret) : merge_items(m, t, a, b, ret);
}

int typed_merge(struct arena *arena, struct typed t, const struct json *live, const struct json *config,
		struct json **ret, struct err *err)
{
	struct merge m = { arena, err };
	struct json *out = NULL;
	int r = merge(&m, t, live, config, &out);

	if (r >= 0)
		*ret = out ? out : json_new_object(arena);
	return r;
}

/* ---- removing ---- */

/* The children of a set, for looking up. */
struct lookup {
	const struct fieldset **v;
	size_t n;
};

static struct lookup lookup_of(struct arena *arena, const struct fieldset *set)
{
	struct lookup l = { 0 };

	for (const struct fieldset *c = set->first; c; c = c->next)
		l.n++;
	l.v = arena_new_array(arena, const struct fieldset *, l.n + 1);
	l.n = 0;
	for (const struct fieldset *c = set->first; c; c = c->next)
		l.v[l.n++] = c;
	return l;
}

static const struct fieldset *lookup(const struct lookup *l, struct str element)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = fieldset_element_cmp(l->v[mid]->name, element);

		if (c == 0)
			return l->v[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

struct json *typed_remove(struct arena *arena, struct typed t, const struct json *v, const struct fieldset *set)
{
	enum typed_shape shape = typed_shape(t, v);
	struct json *out;
	struct lookup l;

	if (!set || !v || shape == TYPED_SCALAR)
		return json_clone(arena, v);
	if (shape == TYPED_ATOM || (!json_is(v, JSON_OBJECT) && !json_is(v, JSON_ARRAY)))
		return json_new(arena, JSON_NULL);
	l = lookup_of(arena, set);
	out = json_new(arena, v->type);
	json_foreach(c, v) {
		const struct fieldset *n;
		struct str element;
		struct json *kept;

		if (v->type == JSON_OBJECT)
			element = fieldset_field(arena, c->key);
		else if (typed_item_element(arena, t, c, &element, NULL) < 0)
			element = STR("");
		n = lookup(&l, element);
		if (n && (n->marks & FIELDSET_MEMBER))
			continue;
		kept = typed_remove(arena, v->type == JSON_OBJECT ? typed_member(t, c->key) : typed_item(t), c,
				    n && n->first ? n : NULL);
		kept->key = c->key;
		json_append(out, kept);
	}
	return out->first ? out : json_new(arena, JSON_NULL);
}

/* ---- named fields ---- */

static void named(struct arena *arena, struct typed t, const struct fieldset *from, struct fieldset *to)
{
	const struct api_message *m = typed_message(t);

	for (const struct fieldset *c = from->first; c; c = c->next) {
		struct fieldset *n = arena_new(arena, struct fieldset);
		bool is_field = c->name.n > 2 && c->name.p[0] == 'f';
		struct typed below = { 0 };

		if (is_field)
			below = typed_member(t, str_make(c->name.p + 2, c->name.n - 2));
		else if (c->name.n && c->name.p[0] == 'k')
			below = typed_item(t);
		n->name = c->name;
		n->marks = c->marks | (is_field && m && below.field ? FIELDSET_MEMBER : 0);
		named(arena, below, c, n);
		fieldset_append(to, n);
	}
}

struct fieldset *typed_named(struct arena *arena, struct typed t, const struct fieldset *set)
{
	struct fieldset *root = arena_new(arena, struct fieldset);

	if (set)
		named(arena, t, set, root);
	return root->first ? root : NULL;
}

/* ---- judging a config ---- */

struct check {
	struct arena *arena;
	struct buf path, text;
	size_t n;
};

static void complain(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct check *c, const char *fmt, ...)
{
	va_list ap;

	if (c->n++ >= CHECK_ERRORS_MAX)
		return;
	if (c->n > 1)
		buf_add_cstr(&c->text, "\n  ");
	if (buf_len(&c->path)) {
		buf_add_str(&c->text, buf_str(&c->path));
		buf_add_cstr(&c->text, ": ");
	}
	va_start(ap, fmt);
	buf_add_cstr(&c->text, arena_vprintf(c->arena, fmt, ap));
	va_end(ap);
}

/* As Go prints a value that it did not expect. */
static const char *go_value(struct check *c, const struct json *v)
{
	return json_is(v, JSON_STRING) ? arena_printf(c->arena, "&{%.*s}", STR_ARG(v->text))
				       : arena_printf(c->arena, "&{%s}", json_text(c->arena, v).p);
}

static const char *go_type(const struct json *v)
{
	switch (v->type) {
	case JSON_STRING:
		return "string";
	case JSON_BOOL:
		return "bool";
	case JSON_ARRAY:
		return "[]interface {}";
	default:
		return "map[string]interface {}";
	}
}

static void check_scalar(struct check *c, const struct api_field *f, const struct json *v)
{
	switch (f->type) {
	case API_STRING:
	case API_BYTES:
		if (v->type != JSON_STRING)
			complain(c, "expected string, got %s", go_value(c, v));
		break;
	case API_BOOL:
		if (v->type != JSON_BOOL)
			complain(c, "expected boolean, got %s", go_value(c, v));
		break;
	case API_INT32:
	case API_INT64:
	case API_DOUBLE:
		if (v->type != JSON_NUMBER)
			complain(c, "expected numeric (int or float), got %s", go_type(v));
		break;
	default:
		if (v->type == JSON_OBJECT || v->type == JSON_ARRAY)
			complain(c, "expected any scalar, got %s", go_value(c, v));
	}
}

static void check(struct check *c, struct typed t, const struct json *v);

static void check_below(struct check *c, struct typed t, const struct json *v, struct str element)
{
	size_t end = c->path.end;

	fieldset_element_print(&c->path, element);
	check(c, t, v);
	c->path.end = end;
}

static void check_items(struct check *c, struct typed t, const struct json *v)
{
	bool atomic = typed_shape(t, v) == TYPED_ATOM;
	struct map seen = MAP_INIT;
	size_t i = 0;

	json_foreach(item, v) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct str element = str_of(arena_printf(c->arena, "i:%zu", i));

		if (!atomic && typed_item_element(c->arena, t, item, &element, &err) < 0) {
			complain(c, "element %zu: %s", i, err_message(&err));
			break;
		}
		if (!atomic && map_put(&seen, element, c)) {
			_cleanup_buf_ struct buf text = BUF_INIT;

			fieldset_element_print(&text, element);
			complain(c, "duplicate entries for key %s", buf_cstr(&text));
		}
		check_below(c, typed_item(t), item, element);
		i++;
	}
	map_finish(&seen);
}

static void check_members(struct check *c, struct typed t, const struct json *v)
{
	const struct api_message *m = typed_message(t);

	json_foreach(member, v) {
		struct typed below = typed_member(t, member->key);
		struct str element = fieldset_field(c->arena, member->key);

		if (m && !below.field) {
			size_t end = c->path.end;

			fieldset_element_print(&c->path, element);
			complain(c, "field not declared in schema");
			c->path.end = end;
			continue;
		}
		check_below(c, below, member, element);
	}
}

static void check(struct check *c, struct typed t, const struct json *v)
{
	const struct api_field *f = t.field;
	bool object = t.message || (f && (f->type == API_OBJECT || f->type == API_MAP));

	if (v->type == JSON_NULL || (!t.message && (!f || f->type == API_RAW)))
		return;
	if (object && v->type != JSON_OBJECT)
		complain(c, "expected map, got %s", go_value(c, v));
	else if (object)
		check_members(c, t, v);
	else if (f->type == API_ARRAY && v->type != JSON_ARRAY)
		complain(c, "expected list, got %s", go_value(c, v));
	else if (f->type == API_ARRAY)
		check_items(c, t, v);
	else
		check_scalar(c, f, v);
}

int typed_check(struct arena *arena, struct typed t, const struct json *v, struct err *err)
{
	struct check c = { .arena = arena };

	check(&c, t, v);
	if (c.n)
		err_set(err, -EINVAL, "%s%s", c.n > 1 ? "errors:\n  " : "", buf_cstr(&c.text));
	buf_finish(&c.path);
	buf_finish(&c.text);
	return c.n ? -EINVAL : 0;
}
