/* SPDX-License-Identifier: Apache-2.0 */
/* The schema's side: shapes, items' elements, and what Go shows where JSON has nothing; and the two walks that only
 * read: comparing and listing. No state; any thread. */
#include "userspace/api/typed.h"

#include <errno.h>

#include "userspace/api/typed_internal.h"
#include "userspace/base/mem.h"

#define LIST_KEYS_MAX 8

/* ---- the schema ---- */

static enum typed_shape deduced(const struct json *v)
{
	if (json_is(v, JSON_OBJECT))
		return TYPED_MAP;
	return json_is(v, JSON_ARRAY) ? TYPED_ATOM : TYPED_SCALAR;
}

enum typed_shape typed_shape(struct typed t, const struct json *v)
{
	const struct api_field *f = t.field;

	if (!f)
		return t.message ? TYPED_MAP : deduced(v);
	switch (f->type) {
	case API_OBJECT:
	case API_MAP:
		return f->map_type == API_MAP_ATOMIC ? TYPED_ATOM : TYPED_MAP;
	case API_ARRAY:
		return f->list_type == API_LIST_ATOMIC ? TYPED_ATOM : TYPED_LIST;
	case API_RAW:
		return deduced(v);
	default:
		return TYPED_SCALAR;
	}
}

const struct api_message *typed_message(struct typed t)
{
	if (!t.field)
		return t.message;
	return t.field->type == API_OBJECT ? t.field->ref : NULL;
}

struct typed typed_member(struct typed t, struct str name)
{
	const struct api_message *m = typed_message(t);

	if (m)
		return (struct typed){ .field = api_message_field(m, name) };
	if (t.field && t.field->type == API_MAP)
		return (struct typed){ .field = t.field->elem };
	return (struct typed){ 0 };
}

struct typed typed_item(struct typed t)
{
	return (struct typed){ .field = t.field ? t.field->elem : NULL };
}

/* ---- items ---- */

static int keyed_element(struct arena *arena, struct typed t, const struct json *item, struct str *ret, struct err *err)
{
	const char *const *keys = t.field->list_keys;
	const struct api_message *m = t.field->elem->ref;
	const struct json *values[LIST_KEYS_MAX];
	size_t n = 0;

	if (json_is(item, JSON_NULL))
		return err_set(err, -EINVAL, "associative list with keys may not have a null element");
	if (!json_is(item, JSON_OBJECT))
		return err_set(err, -EINVAL, "associative list with keys may not have non-map elements");
	for (; keys[n] && n < LIST_KEYS_MAX; n++) {
		const struct api_field *f = api_message_field(m, str_of(keys[n]));
		struct json *otherwise = NULL;

		values[n] = json_get(item, keys[n]);
		if (!values[n] && f && f->default_json &&
		    json_parse(arena, str_of(f->default_json), 0, &otherwise, NULL) == 0)
			values[n] = otherwise;
		if (!values[n])
			return err_set(err, -EINVAL,
				       "associative list with keys has an element that omits key field \"%s\" (and "
				       "doesn't have default value)",
				       keys[n]);
	}
	*ret = fieldset_key(arena, keys, values, n);
	return 0;
}

int typed_item_element(struct arena *arena, struct typed t, const struct json *item, struct str *ret, struct err *err)
{
	if (t.field->list_keys && t.field->elem->type == API_OBJECT)
		return keyed_element(arena, t, item, ret, err);
	if (json_is(item, JSON_OBJECT))
		return err_set(err, -EINVAL, "associative list without keys has an element that's a map type");
	if (json_is(item, JSON_ARRAY))
		return err_set(err, -EINVAL, "not supported: associative list with lists as elements");
	if (json_is(item, JSON_NULL))
		return err_set(err, -EINVAL, "associative list without keys has an element that's an explicit null");
	*ret = fieldset_value(arena, item);
	return 0;
}

/* ---- what Go shows ---- */

static struct json empty_object = { .type = JSON_OBJECT }, null_value = { .type = JSON_NULL },
		   empty_string = { .type = JSON_STRING, .text = { "", 0 } },
		   zero_number = { .type = JSON_NUMBER, .text = { "0", 1 } }, false_value = { .type = JSON_BOOL };

/* The member that a struct shows for a field that its JSON leaves out, or NULL. */
static const struct json *shown(struct typed t, const struct json *struct_value, struct str name)
{
	const struct api_message *m = typed_message(t);
	const struct api_field *f = m && struct_value ? api_message_field(m, name) : NULL;

	if (!f)
		return NULL;
	if (f->type == API_OBJECT && f->value)
		return &empty_object;
	if (!f->required || f->pointer)
		return NULL;
	switch (f->type) {
	case API_OBJECT:
	case API_ARRAY:
	case API_MAP:
		return &null_value;
	case API_STRING:
		return &empty_string;
	case API_INT32:
	case API_INT64:
		return &zero_number;
	case API_BOOL:
		return &false_value;
	default:
		return NULL;
	}
}

/* ---- children in order ---- */

static int cmp_children(const void *a, const void *b)
{
	const struct typed_child *x = a, *y = b;
	int c = fieldset_element_cmp(x->element, y->element);

	return c ? c : (x->at > y->at) - (x->at < y->at);
}

static void sort(struct typed_children *c)
{
	for (size_t i = 1; i < c->n; i++) {
		if (cmp_children(&c->v[i - 1], &c->v[i]) <= 0)
			continue;
		qsort(c->v, c->n, sizeof(*c->v), cmp_children);
		return;
	}
}

/* A member's element is made only when it is needed: its name alone sorts as well. */
static int cmp_members(const void *a, const void *b)
{
	const struct typed_child *x = a, *y = b;

	return str_cmp(x->element, y->element);
}

void typed_members(struct arena *arena, const struct json *v, struct typed_children *ret)
{
	bool sorted = true;

	*ret = (struct typed_children){ .v = arena_new_array(arena, struct typed_child, json_count(v) + 1) };
	if (!json_is(v, JSON_OBJECT))
		return;
	json_foreach(m, v) {
		ret->v[ret->n] = (struct typed_child){ .element = m->key, .value = m, .at = ret->n };
		sorted = sorted && (!ret->n || cmp_members(&ret->v[ret->n - 1], &ret->v[ret->n]) < 0);
		ret->n++;
	}
	if (!sorted)
		qsort(ret->v, ret->n, sizeof(*ret->v), cmp_members);
}

int typed_items(struct arena *arena, struct typed t, const struct json *v, struct typed_children *ret, struct err *err)
{
	*ret = (struct typed_children){ .v = arena_new_array(arena, struct typed_child, json_count(v) + 1) };
	if (!json_is(v, JSON_ARRAY))
		return 0;
	json_foreach(item, v) {
		struct typed_child *c = &ret->v[ret->n];
		int r = typed_item_element(arena, t, item, &c->element, err);

		if (r < 0)
			return err_wrap(err, r, "element %zu", ret->n);
		c->value = item;
		c->at = ret->n++;
	}
	return 0;
}

/* By element, then place. */
static int sorted_items(struct arena *arena, struct typed t, const struct json *v, struct typed_children *ret,
			struct err *err)
{
	int r = typed_items(arena, t, v, ret, err);

	if (r >= 0)
		sort(ret);
	return r;
}

/* ---- comparing ---- */

struct compare {
	struct arena *arena;
	struct err *err;
};

static int compare(struct compare *c, struct typed t, const struct json *a, const struct json *b, struct fieldset *at);

/* The child node of `at`, once it has something to say. */
static int compare_child(struct compare *c, struct typed t, const struct json *a, const struct json *b,
			 struct str element, bool is_name, struct fieldset *at)
{
	struct fieldset here = { .name = element };
	struct fieldset *n;
	int r;

	/* Most of an object stays as it was: that is found out without a look at the schema. */
	if (a && b && json_equal(a, b))
		return 0;
	r = compare(c, t, a, b, &here);
	if (r < 0 || (!here.marks && !here.first))
		return r;
	if (is_name)
		here.name = fieldset_field(c->arena, element);
	n = arena_alloc(c->arena, sizeof(*n));
	*n = here;
	fieldset_append(at, n);
	return 0;
}

static int compare_members(struct compare *c, struct typed t, const struct json *a, const struct json *b,
			   struct fieldset *at)
{
	struct typed_children x, y;
	size_t i = 0, j = 0;

	typed_members(c->arena, a, &x);
	typed_members(c->arena, b, &y);
	while (i < x.n || j < y.n) {
		int order = i == x.n ? 1 : j == y.n ? -1 : cmp_members(&x.v[i], &y.v[j]);
		struct str name = order <= 0 ? x.v[i].element : y.v[j].element;
		const struct json *left = order <= 0 ? x.v[i++].value : shown(t, a, name);
		const struct json *right = order >= 0 ? y.v[j++].value : shown(t, b, name);
		int r = compare_child(c, typed_member(t, name), left, right, name, true, at);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Items that share an element are one thing, in one piece. */
static size_t same_items(const struct typed_children *all, size_t from)
{
	size_t n = 0;

	while (from + n < all->n && str_eq(all->v[from + n].element, all->v[from].element))
		n++;
	return n;
}

static void mark_item(struct compare *c, struct fieldset *at, struct str element, unsigned marks)
{
	fieldset_child(c->arena, at, element)->marks |= marks;
}

static int compare_duplicates(struct compare *c, struct typed t, const struct typed_child *x, size_t m,
			      const struct typed_child *y, size_t n, struct fieldset *at)
{
	struct str element = m ? x->element : y->element;
	int r = 0;

	if (m > 1 && n > 1) {
		bool same = m == n;

		for (size_t i = 0; i < m && same; i++)
			same = json_equal(x[i].value, y[i].value);
		if (!same)
			mark_item(c, at, element, TYPED_MODIFIED);
		return 0;
	}
	if (m > 1) {
		if (n)
			r = compare_child(c, typed_item(t), NULL, y->value, element, false, at);
		mark_item(c, at, element, TYPED_REMOVED);
		return r;
	}
	if (m)
		r = compare_child(c, typed_item(t), x->value, NULL, element, false, at);
	mark_item(c, at, element, TYPED_ADDED);
	return r;
}

static int compare_items(struct compare *c, struct typed t, const struct json *a, const struct json *b,
			 struct fieldset *at)
{
	struct typed_children x, y;
	size_t i = 0, j = 0;
	int r = sorted_items(c->arena, t, a, &x, c->err);

	if (r >= 0)
		r = sorted_items(c->arena, t, b, &y, c->err);
	while (r >= 0 && (i < x.n || j < y.n)) {
		int order = i == x.n ? 1 : j == y.n ? -1 : fieldset_element_cmp(x.v[i].element, y.v[j].element);
		size_t m = order <= 0 ? same_items(&x, i) : 0, n = order >= 0 ? same_items(&y, j) : 0;

		if (m > 1 || n > 1)
			r = compare_duplicates(c, t, &x.v[i], m, &y.v[j], n, at);
		else
			r = compare_child(c, typed_item(t), m ? x.v[i].value : NULL, n ? y.v[j].value : NULL,
					  m ? x.v[i].element : y.v[j].element, false, at);
		i += m;
		j += n;
	}
	return r;
}

static void compare_leaf(const struct json *a, const struct json *b, struct fieldset *at)
{
	if (!a)
		at->marks |= TYPED_ADDED;
	else if (!b)
		at->marks |= TYPED_REMOVED;
	else if (!json_equal(a, b))
		at->marks |= TYPED_MODIFIED;
}

static int compare(struct compare *c, struct typed t, const struct json *a, const struct json *b, struct fieldset *at)
{
	enum typed_shape x = typed_shape(t, a ? a : b), y = typed_shape(t, b ? b : a);
	int r;

	if (x != y) { /* deduced, and now of another shape */
		if (x == TYPED_MAP || y == TYPED_MAP) {
			r = compare_members(c, t, x == TYPED_MAP ? a : NULL, y == TYPED_MAP ? b : NULL, at);
			if (r < 0)
				return r;
		}
		compare_leaf(a, b, at);
		return 0;
	}
	if ((x != TYPED_MAP && x != TYPED_LIST) || (!json_count(a) && !json_count(b))) {
		compare_leaf(a, b, at);
		return 0;
	}
	r = x == TYPED_MAP ? compare_members(c, t, a, b, at) : compare_items(c, t, a, b, at);
	if (!a)
		at->marks |= TYPED_ADDED;
	else if (!b)
		at->marks |= TYPED_REMOVED;
	return r;
}

int typed_compare(struct arena *arena, struct typed t, const struct json *a, const struct json *b,
		  struct fieldset **ret, struct err *err)
{
	struct compare c = { arena, err };
	struct fieldset *root = arena_new(arena, struct fieldset);
	int r = compare(&c, t, a, b, root);

	if (r < 0)
		return r;
	root->marks = 0; /* nobody owns the object as a whole */
	*ret = root->first ? root : NULL;
	return 0;
}

/* ---- listing ---- */

static int fields(struct compare *c, struct typed t, const struct json *v, struct fieldset *at);

static int member_fields(struct compare *c, struct typed t, const struct json *v, struct fieldset *at)
{
	const struct api_message *m = typed_message(t);
	struct typed_children all;

	typed_members(c->arena, v, &all);
	for (size_t i = 0; i < all.n; i++) {
		struct str name = all.v[i].element;
		struct typed below = typed_member(t, name);
		const struct json *member = all.v[i].value;
		struct fieldset *n = arena_new(c->arena, struct fieldset);
		int r = fields(c, below, member, n);

		if (r < 0)
			return r;
		if (!m || !below.field || json_is(member, JSON_NULL) ||
		    (json_is(member, JSON_OBJECT) && !json_count(member)))
			n->marks = FIELDSET_MEMBER;
		n->name = fieldset_field(c->arena, name);
		if (n->marks || n->first)
			fieldset_append(at, n);
	}
	return 0;
}

/* An item that lost what it is known by (while an apply finds out what may go) counts as not there. */
static int item_fields(struct compare *c, struct typed t, const struct json *v, struct fieldset *at)
{
	struct typed_children all = { .v = arena_new_array(c->arena, struct typed_child, json_count(v) + 1) };
	int r = 0;

	if (!json_is(v, JSON_ARRAY))
		return 0;
	json_foreach(item, v) {
		all.v[all.n] = (struct typed_child){ .value = item, .at = all.n };
		if (typed_item_element(c->arena, t, item, &all.v[all.n].element, NULL) >= 0)
			all.n++;
	}
	sort(&all);
	for (size_t i = 0, n; r >= 0 && i < all.n; i += n) {
		struct fieldset *item = arena_new(c->arena, struct fieldset);

		n = same_items(&all, i);
		item->name = all.v[i].element;
		if (n == 1)
			r = fields(c, typed_item(t), all.v[i].value, item);
		item->marks = FIELDSET_MEMBER;
		fieldset_append(at, item);
	}
	return r;
}

static int fields(struct compare *c, struct typed t, const struct json *v, struct fieldset *at)
{
	switch (typed_shape(t, v)) {
	case TYPED_MAP:
		return member_fields(c, t, v, at);
	case TYPED_LIST:
		return item_fields(c, t, v, at);
	default:
		at->marks = FIELDSET_MEMBER;
		return 0;
	}
}

int typed_fields(struct arena *arena, struct typed t, const struct json *v, struct fieldset **ret, struct err *err)
{
	struct compare c = { arena, err };
	struct fieldset *root = arena_new(arena, struct fieldset);
	int r = fields(&c, t, v, root);

	if (r < 0)
		return r;
	root->marks = 0;
	*ret = root->first ? root : NULL;
	return 0;
}
