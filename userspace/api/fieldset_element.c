/* SPDX-License-Identifier: Apache-2.0 */
/* Path elements: making them canonical, their order, and how people are shown them. No state; any thread. */
#include <stdlib.h>

#include "userspace/api/fieldset.h"
#include "userspace/base/mem.h"

#define KEYS_MAX 16 /* of one item; a list has two or three */

struct str fieldset_field(struct arena *arena, struct str name)
{
	char *out = arena_alloc(arena, name.n + 2);

	memcpy(out, "f:", 2);
	if (name.n)
		memcpy(out + 2, name.p, name.n);
	return str_make(out, name.n + 2);
}

/* Integers in their one form: 1.0 and 1, -0 and 0 name the same item. */
static void write_scalar(struct buf *out, const struct json *v)
{
	int64_t n = json_int(v, INT64_MIN);

	if (n != INT64_MIN)
		buf_printf(out, "%lld", (long long)n);
	else
		json_write(out, v);
}

struct str fieldset_value(struct arena *arena, const struct json *scalar)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (json_is(scalar, JSON_STRING)) { /* most have nothing to escape */
		const struct str s = scalar->text;
		bool plain = true;

		for (size_t i = 0; i < s.n && plain; i++)
			plain = (unsigned char)s.p[i] >= ' ' && s.p[i] != '"' && s.p[i] != '\\';
		if (plain) {
			char *out = arena_alloc(arena, s.n + 4);

			memcpy(out, "v:\"", 3);
			memcpy(out + 3, s.p, s.n);
			out[s.n + 3] = '"';
			return str_make(out, s.n + 4);
		}
	}
	buf_add_cstr(&text, "v:");
	write_scalar(&text, scalar);
	return arena_str(arena, buf_str(&text));
}

struct str fieldset_key(struct arena *arena, const char *const *names, const struct json *const *values, size_t n)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	size_t order[KEYS_MAX];

	if (n > KEYS_MAX)
		n = KEYS_MAX;
	for (size_t i = 0; i < n; i++) {
		size_t j = i;

		for (; j > 0 && strcmp(names[order[j - 1]], names[i]) > 0; j--)
			order[j] = order[j - 1];
		order[j] = i;
	}
	buf_add_cstr(&text, "k:{");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add_char(&text, ',');
		json_write_str(&text, str_of(names[order[i]]));
		buf_add_char(&text, ':');
		write_scalar(&text, values[order[i]]);
	}
	buf_add_char(&text, '}');
	return arena_str(arena, buf_str(&text));
}

/* ---- order: fields before keys before values before places; numbers by value ---- */

static int rank(struct str s)
{
	switch (s.n ? s.p[0] : 0) {
	case 'f':
		return 0;
	case 'k':
		return 1;
	case 'v':
		return 2;
	default:
		return 3;
	}
}

static int value_rank(char c)
{
	if (c == '-' || (c >= '0' && c <= '9'))
		return 0;
	if (c == '"')
		return 1;
	return c == 't' || c == 'f' ? 2 : 3;
}

static bool is_structure(char c)
{
	return c == '{' || c == '}' || c == ',' || c == ':';
}

/* The token at *at: a string with its quotes, a number, a word. What it is not made of is skipped. */
static struct str token(struct str s, size_t *at)
{
	size_t from, i;

	while (*at < s.n && is_structure(s.p[*at]))
		++*at;
	from = i = *at;
	if (i < s.n && s.p[i] == '"') {
		for (i++; i < s.n && s.p[i] != '"'; i++)
			i += s.p[i] == '\\' ? 1 : 0;
		i = i < s.n ? i + 1 : s.n;
	} else {
		while (i < s.n && !is_structure(s.p[i]))
			i++;
	}
	*at = i;
	return str_make(s.p + from, i - from);
}

static int token_cmp(struct str a, struct str b)
{
	int x = value_rank(a.n ? a.p[0] : 0), y = value_rank(b.n ? b.p[0] : 0);

	if (x != y)
		return x - y;
	if (x == 0) {
		int64_t m, n;

		if (str_to_int64(a, &m) == 0 && str_to_int64(b, &n) == 0)
			return (m > n) - (m < n);
	}
	if (x == 1 && a.n > 1 && b.n > 1)
		return str_cmp(str_make(a.p, a.n - 1), str_make(b.p, b.n - 1));
	return str_cmp(a, b);
}

/* Where the first token begins in which the two differ. */
static size_t first_difference(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n, from = 2;
	bool string = false, escaped = false;

	for (size_t i = 2; i < n && a.p[i] == b.p[i]; i++) {
		char c = a.p[i];

		if (!string && c == '"' && i == from) {
			string = true;
		} else if (!string && is_structure(c)) {
			from = i + 1;
		} else if (string && !escaped && c == '"') {
			string = false;
			from = i + 1;
		} else {
			escaped = string && !escaped && c == '\\';
		}
	}
	return from;
}

int fieldset_element_cmp(struct str a, struct str b)
{
	int x = rank(a), y = rank(b), c = 0;
	size_t i, j;

	if (x != y)
		return x - y;
	if (x == 0 || str_eq(a, b))
		return str_cmp(a, b);
	i = j = first_difference(a, b);
	while (c == 0 && (i < a.n || j < b.n))
		c = token_cmp(token(a, &i), token(b, &j));
	/* Equal by value, yet written in two ways: any fixed order does. */
	return c ? c : str_cmp(a, b);
}

/* ---- for people ---- */

void fieldset_element_print(struct buf *out, struct str element)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str rest = element.n > 2 ? str_make(element.p + 2, element.n - 2) : STR("");
	struct json *keys = NULL;
	bool first = true;

	switch (rank(element)) {
	case 0:
		buf_add_char(out, '.');
		buf_add_str(out, rest);
		return;
	case 1:
		buf_add_char(out, '[');
		json_parse(&arena, rest, 0, &keys, NULL);
		json_foreach(k, keys) {
			if (!first)
				buf_add_char(out, ',');
			first = false;
			buf_add_str(out, k->key);
			buf_add_char(out, '=');
			json_write(out, k);
		}
		buf_add_char(out, ']');
		return;
	case 2:
		buf_add_cstr(out, "[=");
		buf_add_str(out, rest);
		buf_add_char(out, ']');
		return;
	default:
		buf_add_char(out, '[');
		buf_add_str(out, rest);
		buf_add_char(out, ']');
	}
}
