/* SPDX-License-Identifier: Apache-2.0 */
/* See name_set.h. */
#include "userspace/api/name_set.h"

#include <inttypes.h>
#include <stdlib.h>

#define EXACT_DOUBLE_MAX 9007199254740992.0 /* integers up to here are themselves as doubles */

void name_set_init(struct name_set *s)
{
	s->map = MAP_INIT;
	s->n = s->end = 0;
}

void name_set_finish(struct name_set *s)
{
	if (s)
		map_finish(&s->map);
}

const void *name_set_get(const struct name_set *s, struct str text)
{
	if (s->map.n)
		return map_get(&s->map, text);
	for (size_t i = 0; i < s->n; i++)
		if (str_eq(s->texts[i], text))
			return s->values[i];
	return NULL;
}

static void move_to_map(struct name_set *s)
{
	for (size_t i = 0; i < s->n; i++)
		map_put(&s->map, s->texts[i], (void *)s->values[i]);
	s->n = 0;
}

const void *name_set_put(struct name_set *s, struct str text, const void *value)
{
	const void *before = name_set_get(s, text);

	if (before)
		return before;
	if (!s->map.n && s->n < NAME_SET_FEW && text.n <= NAME_SET_FEW_BYTES - s->end) {
		char *at = s->text + s->end;

		if (text.n)
			memcpy(at, text.p, text.n);
		s->end += text.n;
		s->texts[s->n] = str_make(at, text.n);
		s->values[s->n++] = value;
		return value;
	}
	move_to_map(s);
	map_put(&s->map, text, (void *)value);
	return value;
}

void name_set_add_list(struct name_set *s, const struct json *list, const char *key)
{
	json_foreach(it, list)
		name_set_put(s, json_get_str(it, key), it);
}

void name_set_add_members(struct name_set *s, const struct json *object)
{
	json_foreach(m, object)
		name_set_put(s, m->key, m);
}

/* ---- values ---- */

static int cmp_members(const void *a, const void *b)
{
	return str_cmp((*(const struct json *const *)a)->key, (*(const struct json *const *)b)->key);
}

static void write_number(struct buf *out, const struct json *v)
{
	int64_t n;
	double d;

	if (str_to_int64(v->text, &n) == 0) {
		buf_printf(out, "%" PRId64, n);
		return;
	}
	d = json_double(v, 0);
	if (d >= -EXACT_DOUBLE_MAX && d <= EXACT_DOUBLE_MAX && d == (double)(int64_t)d)
		buf_printf(out, "%" PRId64, (int64_t)d);
	else
		buf_printf(out, "%.17g", d);
}

static void write_members(struct buf *out, const struct json *v)
{
	const struct json **all = mem_new_array(const struct json *, json_count(v) + 1);
	size_t n = 0;

	json_foreach(m, v)
		all[n++] = m;
	qsort(all, n, sizeof(*all), cmp_members);
	buf_add_char(out, '{');
	for (size_t i = 0; i < n; i++) {
		json_write_str(out, all[i]->key);
		buf_add_char(out, ':');
		name_set_value_text(out, all[i]);
		buf_add_char(out, ',');
	}
	buf_add_char(out, '}');
	free(all);
}

void name_set_value_text(struct buf *out, const struct json *v)
{
	switch (v->type) {
	case JSON_NUMBER:
		write_number(out, v);
		break;
	case JSON_OBJECT:
		write_members(out, v);
		break;
	case JSON_ARRAY:
		buf_add_char(out, '[');
		json_foreach(it, v) {
			name_set_value_text(out, it);
			buf_add_char(out, ',');
		}
		buf_add_char(out, ']');
		break;
	default:
		json_write(out, v);
	}
}

const void *name_set_put_value(struct name_set *s, const struct json *v, const void *value)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	name_set_value_text(&text, v);
	return name_set_put(s, buf_str(&text), value);
}

const void *name_set_get_value(const struct name_set *s, const struct json *v)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	name_set_value_text(&text, v);
	return name_set_get(s, buf_str(&text));
}
