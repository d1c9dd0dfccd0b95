/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON tree: looking and building. See json.h. */
#include "userspace/base/json.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/base/mem.h"

struct json *json_get_n(const struct json *object, struct str key)
{
	if (!json_is(object, JSON_OBJECT))
		return NULL;
	for (struct json *m = object->first; m; m = m->next)
		if (m->key.n == key.n && memcmp(m->key.p ? m->key.p : "", key.p ? key.p : "", key.n) == 0)
			return m;
	return NULL;
}

struct json *json_get(const struct json *object, const char *key)
{
	return json_get_n(object, str_of(key));
}

struct json *json_at(const struct json *v, const char *dotted_path)
{
	struct str rest = str_of(dotted_path), part;
	struct json *at = (struct json *)v;

	while (at && str_split(&rest, '.', &part))
		at = json_get_n(at, part);
	return at;
}

struct json *json_index(const struct json *array, size_t i)
{
	if (!json_is(array, JSON_ARRAY))
		return NULL;
	for (struct json *it = array->first; it; it = it->next)
		if (i-- == 0)
			return it;
	return NULL;
}

struct str json_str(const struct json *v)
{
	return json_is(v, JSON_STRING) ? v->text : STR_NULL;
}

struct str json_get_str(const struct json *object, const char *key)
{
	return json_str(json_get(object, key));
}

struct str json_at_str(const struct json *v, const char *dotted_path)
{
	return json_str(json_at(v, dotted_path));
}

int64_t json_int(const struct json *v, int64_t otherwise)
{
	int64_t n;

	if (!json_is(v, JSON_NUMBER))
		return otherwise;
	if (str_to_int64(v->text, &n) == 0)
		return n;
	if (str_find(v->text, '.') >= 0 || str_find(v->text, 'e') >= 0 || str_find(v->text, 'E') >= 0) {
		double d = json_double(v, 0);

		/* 1e3 and 2.0 are integers too; within what a double holds exactly. */
		if (d >= -9007199254740992.0 && d <= 9007199254740992.0 && d == (double)(int64_t)d)
			return (int64_t)d;
	}
	return otherwise;
}

int64_t json_get_int(const struct json *object, const char *key, int64_t otherwise)
{
	return json_int(json_get(object, key), otherwise);
}

int64_t json_at_int(const struct json *v, const char *dotted_path, int64_t otherwise)
{
	return json_int(json_at(v, dotted_path), otherwise);
}

double json_double(const struct json *v, double otherwise)
{
	char text[64];

	if (!json_is(v, JSON_NUMBER))
		return otherwise;
	if (v->text.n >= sizeof(text)) {
		_cleanup_buf_ struct buf b = BUF_INIT;

		buf_add_str(&b, v->text);
		return strtod(buf_cstr(&b), NULL);
	}
	memcpy(text, v->text.p, v->text.n);
	text[v->text.n] = '\0';
	return strtod(text, NULL);
}

bool json_bool(const struct json *v, bool otherwise)
{
	return json_is(v, JSON_BOOL) ? v->boolean : otherwise;
}

bool json_get_bool(const struct json *object, const char *key, bool otherwise)
{
	return json_bool(json_get(object, key), otherwise);
}

bool json_at_bool(const struct json *v, const char *dotted_path, bool otherwise)
{
	return json_bool(json_at(v, dotted_path), otherwise);
}

size_t json_count(const struct json *v)
{
	return json_is(v, JSON_ARRAY) || json_is(v, JSON_OBJECT) ? v->count : 0;
}

/* Objects of up to this many members are searched member by member. */
#define EQUAL_SEARCHED_MAX 64

static int json_cmp_keys(const void *a, const void *b)
{
	return str_cmp((*(const struct json *const *)a)->key, (*(const struct json *const *)b)->key);
}

static const struct json **json_sorted(const struct json *object)
{
	const struct json **all = mem_new_array(const struct json *, object->count);
	size_t n = 0;

	json_foreach(m, object)
		all[n++] = m;
	qsort(all, n, sizeof(*all), json_cmp_keys);
	return all;
}

/* `n` members each, of which the order is not the same. */
static bool json_equal_sorted(const struct json *a, const struct json *b, size_t n)
{
	_cleanup_free_ const struct json **x = json_sorted(a), **y = json_sorted(b);

	for (size_t i = 0; i < n; i++)
		if (!str_eq(x[i]->key, y[i]->key) || !json_equal(x[i], y[i]))
			return false;
	return true;
}

static bool json_equal_objects(const struct json *a, const struct json *b)
{
	const struct json *other = b->first;

	/* The same order is the common case: look beside before searching. */
	json_foreach(m, a) {
		const struct json *match = other && str_eq(other->key, m->key) ? other : NULL;

		if (!match && a->count > EQUAL_SEARCHED_MAX)
			return json_equal_sorted(a, b, a->count);
		if (!match)
			match = json_get_n(b, m->key);
		if (!match || !json_equal(m, match))
			return false;
		other = match->next;
	}
	return true;
}

bool json_equal(const struct json *a, const struct json *b)
{
	if (!a || !b)
		return a == b;
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case JSON_NULL:
		return true;
	case JSON_BOOL:
		return a->boolean == b->boolean;
	case JSON_STRING:
	case JSON_RAW:
		return str_eq(a->text, b->text);
	case JSON_NUMBER:
		if (str_eq(a->text, b->text))
			return true;
		{
			int64_t x, y;

			if (str_to_int64(a->text, &x) == 0 && str_to_int64(b->text, &y) == 0)
				return x == y;
		}
		return json_double(a, 0) == json_double(b, 0);
	case JSON_ARRAY:
		if (a->count != b->count)
			return false;
		for (const struct json *x = a->first, *y = b->first; x; x = x->next, y = y->next)
			if (!json_equal(x, y))
				return false;
		return true;
	case JSON_OBJECT:
		return a->count == b->count && json_equal_objects(a, b);
	}
	return false;
}

struct json *json_new(struct arena *arena, enum json_type type)
{
	struct json *v = arena_new(arena, struct json);

	v->type = type;
	return v;
}

struct json *json_new_object(struct arena *arena)
{
	return json_new(arena, JSON_OBJECT);
}

struct json *json_new_array(struct arena *arena)
{
	return json_new(arena, JSON_ARRAY);
}

struct json *json_new_str(struct arena *arena, struct str s)
{
	struct json *v = json_new(arena, JSON_STRING);

	v->text = s.p ? s : STR("");
	return v;
}

struct json *json_new_cstr(struct arena *arena, const char *s)
{
	return json_new_str(arena, str_of(s));
}

struct json *json_new_printf(struct arena *arena, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = arena_vprintf(arena, fmt, ap);
	va_end(ap);
	return json_new_cstr(arena, s);
}

struct json *json_new_raw(struct arena *arena, struct str json_text)
{
	struct json *v = json_new(arena, JSON_RAW);

	v->text = json_text;
	return v;
}

struct json *json_new_int(struct arena *arena, int64_t n)
{
	struct json *v = json_new(arena, JSON_NUMBER);

	v->text = str_of(arena_printf(arena, "%" PRId64, n));
	return v;
}

struct json *json_new_bool(struct arena *arena, bool b)
{
	struct json *v = json_new(arena, JSON_BOOL);

	v->boolean = b;
	return v;
}

static struct json *json_clone_with(struct arena *arena, const struct json *v, bool strings)
{
	struct json *copy;

	if (!v)
		return NULL;
	copy = json_new(arena, v->type);
	switch (v->type) {
	case JSON_NULL:
		break;
	case JSON_BOOL:
		copy->boolean = v->boolean;
		break;
	case JSON_NUMBER:
	case JSON_STRING:
	case JSON_RAW:
		copy->text = strings ? arena_str(arena, v->text) : v->text;
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		json_foreach(it, v) {
			struct json *item = json_clone_with(arena, it, strings);

			item->key = strings && it->key.p ? arena_str(arena, it->key) : it->key;
			if (copy->last)
				copy->last->next = item;
			else
				copy->first = item;
			copy->last = item;
		}
		copy->count = v->count;
	}
	return copy;
}

struct json *json_clone(struct arena *arena, const struct json *v)
{
	return json_clone_with(arena, v, false);
}

struct json *json_clone_deep(struct arena *arena, const struct json *v)
{
	return json_clone_with(arena, v, true);
}

void json_append(struct json *array, struct json *v)
{
	assert(array->type == JSON_ARRAY || array->type == JSON_OBJECT);
	v->next = NULL;
	if (array->last)
		array->last->next = v;
	else
		array->first = v;
	array->last = v;
	array->count++;
}

void json_prepend(struct json *array, struct json *v)
{
	assert(array->type == JSON_ARRAY);
	v->next = array->first;
	array->first = v;
	if (!array->last)
		array->last = v;
	array->count++;
}

void json_replace(struct json *at, const struct json *with)
{
	struct str key = at->key;
	struct json *next = at->next;

	*at = *with;
	at->key = key;
	at->next = next;
}

void json_set_n(struct json *object, struct str key, struct json *v)
{
	struct json *before;

	assert(object->type == JSON_OBJECT && v);
	before = json_get_n(object, key);
	if (before) {
		if (before != v)
			json_replace(before, v);
		return;
	}
	v->key = key;
	json_append(object, v);
}

void json_set(struct json *object, const char *key, struct json *v)
{
	json_set_n(object, str_of(key), v);
}

void json_set_str(struct arena *arena, struct json *object, const char *key, struct str s)
{
	json_set(object, key, json_new_str(arena, s));
}

void json_set_cstr(struct arena *arena, struct json *object, const char *key, const char *s)
{
	json_set(object, key, json_new_cstr(arena, s));
}

void json_set_int(struct arena *arena, struct json *object, const char *key, int64_t v)
{
	json_set(object, key, json_new_int(arena, v));
}

void json_set_bool(struct arena *arena, struct json *object, const char *key, bool v)
{
	json_set(object, key, json_new_bool(arena, v));
}

static struct json *json_ensure(struct arena *arena, struct json *object, const char *key, enum json_type type)
{
	struct json *v = json_get(object, key);

	if (json_is(v, type))
		return v;
	json_set(object, key, json_new(arena, type));
	return json_get(object, key);
}

struct json *json_ensure_object(struct arena *arena, struct json *object, const char *key)
{
	return json_ensure(arena, object, key, JSON_OBJECT);
}

struct json *json_ensure_array(struct arena *arena, struct json *object, const char *key)
{
	return json_ensure(arena, object, key, JSON_ARRAY);
}

void json_unlink(struct json *parent, struct json *child)
{
	struct json *before = NULL;

	for (struct json *it = parent->first; it; before = it, it = it->next) {
		if (it != child)
			continue;
		if (before)
			before->next = child->next;
		else
			parent->first = child->next;
		if (parent->last == child)
			parent->last = before;
		parent->count--;
		child->next = NULL;
		return;
	}
	assert(!"json_unlink: not a child");
}

struct json *json_remove_n(struct json *object, struct str key)
{
	struct json *v = json_get_n(object, key);

	if (v)
		json_unlink(object, v);
	return v;
}

struct json *json_remove(struct json *object, const char *key)
{
	return json_remove_n(object, str_of(key));
}
