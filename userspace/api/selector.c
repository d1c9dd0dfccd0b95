/* SPDX-License-Identifier: Apache-2.0 */
/* Label selectors: parsing the string form and the JSON forms, matching, printing. A selector is
 * immutable once made. Any thread. */
#include "userspace/api/selector.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/validate.h"
#include "userspace/base/mem.h"

/* ---- building ---- */

/* Requirements being collected. */
struct builder {
	struct arena *arena;
	struct selector_requirement *items;
	size_t n, cap, n_values;
};

static int cmp_str(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static int cmp_requirement(const void *a, const void *b)
{
	const struct selector_requirement *x = a, *y = b;
	int r = str_cmp(x->key, y->key);

	return r ? r : (int)x->op - (int)y->op;
}

static void push(struct builder *b, const struct selector_requirement *r)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 4;
		struct selector_requirement *items = arena_new_array(b->arena, struct selector_requirement, cap);

		if (b->n)
			memcpy(items, b->items, b->n * sizeof(*items));
		b->items = items;
		b->cap = cap;
	}
	b->items[b->n++] = *r;
}

static void finish(struct builder *b, struct selector *ret)
{
	if (b->n > 1)
		qsort(b->items, b->n, sizeof(*b->items), cmp_requirement);
	*ret = (struct selector){ .requirements = b->items, .n = b->n };
}

static int bad(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(struct err *err, const char *fmt, ...)
{
	char message[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	return err_set_status(err, -EINVAL, 400, "BadRequest", "%s", message);
}

/* What must hold for a requirement, however it was written. The values are copied and sorted. */
static int add_requirement(struct builder *b, struct str key, enum selector_op op, const struct str *values,
			   size_t n_values, struct err *err)
{
	struct selector_requirement r = { .key = arena_str(b->arena, key), .op = op, .n_values = n_values };
	const char *problem = validate_qualified_name(key);

	if (problem)
		return bad(err, "<nil>: Invalid value: \"%.*s\": %s", STR_ARG(key), problem);
	if ((op == SELECTOR_IN || op == SELECTOR_NOT_IN) && !n_values)
		return bad(err, "<nil>: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
	if ((op == SELECTOR_EXISTS || op == SELECTOR_NOT_EXISTS) && n_values)
		return bad(err, "<nil>: Invalid value: [...]: values set must be empty for exists and does not exist");
	if (op == SELECTOR_GREATER || op == SELECTOR_LESS) {
		if (n_values != 1)
			return bad(
				err,
				"<nil>: Invalid value: [...]: for 'Gt', 'Lt' operators, exactly one value is required");
		if (str_to_int64(values[0], &r.number) < 0)
			return bad(err,
				   "<nil>: Invalid value: \"%.*s\": for 'Gt', 'Lt' operators, the value must be an "
				   "integer",
				   STR_ARG(values[0]));
	}
	b->n_values += n_values;
	if (b->n >= SELECTOR_REQUIREMENTS_MAX || b->n_values > SELECTOR_VALUES_MAX)
		return bad(err, "the selector has too many requirements or values");
	r.values = n_values ? arena_new_array(b->arena, struct str, n_values) : NULL;
	for (size_t i = 0; i < n_values; i++) {
		problem = validate_label_value(values[i]);
		if (problem)
			return bad(err, "<nil>: Invalid value: \"%.*s\": %s", STR_ARG(values[i]), problem);
		r.values[i] = arena_str(b->arena, values[i]);
	}
	if (n_values > 1)
		qsort(r.values, n_values, sizeof(*r.values), cmp_str);
	push(b, &r);
	return 0;
}

/* ---- the string form ---- */

enum token { TOKEN_END, TOKEN_WORD, TOKEN_COMMA, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_NOT, TOKEN_OPERATOR };

struct lexer {
	const char *at, *end;
	enum token token;
	struct str text;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_special(char c)
{
	return c && strchr("=!(),><", c);
}

static void next(struct lexer *l)
{
	const char *start;

	while (l->at < l->end && is_blank(*l->at))
		l->at++;
	start = l->at;
	if (l->at == l->end) {
		l->token = TOKEN_END;
		l->text = STR("");
		return;
	}
	if (!is_special(*l->at)) {
		while (l->at < l->end && !is_blank(*l->at) && !is_special(*l->at))
			l->at++;
		l->token = TOKEN_WORD;
	} else {
		char c = *l->at++;

		l->token = c == ',' ? TOKEN_COMMA : c == '(' ? TOKEN_OPEN : c == ')' ? TOKEN_CLOSE : TOKEN_OPERATOR;
		if (c == '!' && !(l->at < l->end && *l->at == '='))
			l->token = TOKEN_NOT;
		else if ((c == '!' || c == '=') && l->at < l->end && *l->at == '=')
			l->at++;
	}
	l->text = str_make(start, (size_t)(l->at - start));
}

static int parse_values(struct lexer *l, struct arena *arena, struct str **ret, size_t *ret_n, struct err *err)
{
	struct str *values = NULL;
	size_t n = 0, cap = 0;

	if (l->token != TOKEN_OPEN)
		return bad(err, "found '%.*s', expected: '('", STR_ARG(l->text));
	next(l);
	for (;;) {
		struct str value = STR("");

		if (l->token == TOKEN_WORD) {
			value = l->text;
			next(l);
		}
		if (n == cap) {
			struct str *more = arena_new_array(arena, struct str, cap ? cap * 2 : 4);

			if (n)
				memcpy(more, values, n * sizeof(*more));
			values = more;
			cap = cap ? cap * 2 : 4;
		}
		values[n++] = value;
		if (n > SELECTOR_VALUES_MAX)
			return bad(err, "the selector has too many requirements or values");
		if (l->token == TOKEN_CLOSE)
			break;
		if (l->token != TOKEN_COMMA)
			return bad(err, "found '%.*s', expected: ',' or ')'", STR_ARG(l->text));
		next(l);
	}
	next(l);
	*ret = values;
	*ret_n = n;
	return 0;
}

static int parse_operator(struct lexer *l, enum selector_op *ret, bool *ret_set, struct err *err)
{
	*ret_set = false;
	if (l->token == TOKEN_WORD && (str_is(l->text, "in") || str_is(l->text, "notin"))) {
		*ret_set = true;
		*ret = str_is(l->text, "in") ? SELECTOR_IN : SELECTOR_NOT_IN;
	} else if (l->token == TOKEN_OPERATOR) {
		char c = l->text.p[0];

		*ret = c == '='   ? SELECTOR_IN
		       : c == '!' ? SELECTOR_NOT_IN
		       : c == '>' ? SELECTOR_GREATER
				  : SELECTOR_LESS;
	} else {
		return bad(err, "found '%.*s', expected: in, notin, =, ==, !=, gt, lt", STR_ARG(l->text));
	}
	next(l);
	return 0;
}

static int parse_one(struct lexer *l, struct builder *b, struct err *err)
{
	bool absent = l->token == TOKEN_NOT, set;
	struct str key, single, *values = &single;
	enum selector_op op;
	size_t n = 1;
	int r;

	if (absent)
		next(l);
	if (l->token != TOKEN_WORD)
		return bad(err, "found '%.*s', expected: identifier", STR_ARG(l->text));
	key = l->text;
	next(l);
	if (absent || l->token == TOKEN_COMMA || l->token == TOKEN_END)
		return add_requirement(b, key, absent ? SELECTOR_NOT_EXISTS : SELECTOR_EXISTS, NULL, 0, err);
	r = parse_operator(l, &op, &set, err);
	if (r < 0)
		return r;
	if (set) {
		r = parse_values(l, b->arena, &values, &n, err);
		if (r < 0)
			return r;
	} else {
		single = STR("");
		if (l->token == TOKEN_WORD) {
			single = l->text;
			next(l);
		} else if (l->token != TOKEN_COMMA && l->token != TOKEN_END) {
			return bad(err, "found '%.*s', expected: identifier", STR_ARG(l->text));
		}
	}
	return add_requirement(b, key, op, values, n, err);
}

int selector_parse(struct arena *arena, struct str text, struct selector *ret, struct err *err)
{
	struct lexer l = { .at = text.p, .end = text.p ? text.p + text.n : NULL };
	struct builder b = { .arena = arena };
	int r;

	next(&l);
	while (l.token != TOKEN_END) {
		if (l.token != TOKEN_WORD && l.token != TOKEN_NOT)
			r = bad(err, "found '%.*s', expected: !, identifier, or 'end of string'", STR_ARG(l.text));
		else
			r = parse_one(&l, &b, err);
		if (r < 0)
			return err_wrap(err, r, "unable to parse requirement");
		if (l.token == TOKEN_END)
			break;
		if (l.token != TOKEN_COMMA)
			return bad(err, "unable to parse requirement: found '%.*s', expected: ',' or 'end of string'",
				   STR_ARG(l.text));
		next(&l);
		if (l.token != TOKEN_WORD && l.token != TOKEN_NOT)
			return bad(err, "unable to parse requirement: found '%.*s', expected: identifier after ','",
				   STR_ARG(l.text));
	}
	finish(&b, ret);
	return 0;
}

/* ---- the JSON forms ---- */

static const struct {
	const char *name;
	enum selector_op op;
	bool node_only;
} operators[] = {
	{ "In", SELECTOR_IN, false },         { "NotIn", SELECTOR_NOT_IN, false },
	{ "Exists", SELECTOR_EXISTS, false }, { "DoesNotExist", SELECTOR_NOT_EXISTS, false },
	{ "Gt", SELECTOR_GREATER, true },     { "Lt", SELECTOR_LESS, true },
};

static int add_expressions(struct builder *b, const struct json *expressions, bool node, struct err *err)
{
	json_foreach(e, expressions) {
		struct str name = json_get_str(e, "operator");
		const struct json *list = json_get(e, "values");
		size_t n = 0, count = json_count(list), i;
		struct str *values = count ? arena_new_array(b->arena, struct str, count) : NULL;
		int r;

		for (i = 0; i < ARRAY_SIZE(operators); i++)
			if (str_is(name, operators[i].name) && (node || !operators[i].node_only))
				break;
		if (i == ARRAY_SIZE(operators))
			return bad(err, "\"%.*s\" is not a valid %s selector operator", STR_ARG(name),
				   node ? "node" : "label");
		json_foreach(v, list)
			values[n++] = json_str(v);
		r = add_requirement(b, json_get_str(e, "key"), operators[i].op, values, n, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int selector_from_json(struct arena *arena, const struct json *label_selector, struct selector *ret, struct err *err)
{
	struct builder b = { .arena = arena };
	int r;

	if (!json_is(label_selector, JSON_OBJECT)) {
		*ret = (struct selector){ .nothing = true };
		return 0;
	}
	json_foreach(l, json_get(label_selector, "matchLabels")) {
		struct str value = json_str(l);

		r = add_requirement(&b, l->key, SELECTOR_IN, &value, 1, err);
		if (r < 0)
			return r;
	}
	r = add_expressions(&b, json_get(label_selector, "matchExpressions"), false, err);
	if (r < 0)
		return r;
	finish(&b, ret);
	return 0;
}

void selector_from_map(struct arena *arena, const struct json *map, struct selector *ret)
{
	struct builder b = { .arena = arena };

	json_foreach(l, map) {
		struct selector_requirement r = { .key = arena_str(arena, l->key), .op = SELECTOR_IN, .n_values = 1 };

		r.values = arena_new(arena, struct str);
		r.values[0] = arena_str(arena, json_str(l));
		push(&b, &r);
	}
	finish(&b, ret);
}

int selector_from_expressions(struct arena *arena, const struct json *expressions, struct selector *ret,
			      struct err *err)
{
	struct builder b = { .arena = arena };
	int r = add_expressions(&b, expressions, true, err);

	if (r < 0)
		return r;
	finish(&b, ret);
	return 0;
}

/* ---- matching ---- */

static bool has_value(const struct selector_requirement *r, struct str value)
{
	return bsearch(&value, r->values, r->n_values, sizeof(*r->values), cmp_str) != NULL;
}

/* `value` is NULL when the label is absent. */
static bool holds(const struct selector_requirement *r, const struct str *value)
{
	int64_t number;

	switch (r->op) {
	case SELECTOR_IN:
		return value && has_value(r, *value);
	case SELECTOR_NOT_IN:
		return !value || !has_value(r, *value);
	case SELECTOR_EXISTS:
		return value;
	case SELECTOR_NOT_EXISTS:
		return !value;
	case SELECTOR_GREATER:
		return value && !str_to_int64(*value, &number) && number > r->number;
	case SELECTOR_LESS:
		return value && !str_to_int64(*value, &number) && number < r->number;
	}
	return false;
}

bool selector_matches(const struct selector *s, const struct api_label *labels, size_t n_labels)
{
	if (s->nothing)
		return false;
	for (size_t i = 0; i < s->n; i++) {
		const struct str *value = NULL;

		for (size_t j = 0; j < n_labels && !value; j++)
			if (str_eq(labels[j].key, s->requirements[i].key))
				value = &labels[j].value;
		if (!holds(&s->requirements[i], value))
			return false;
	}
	return true;
}

bool selector_matches_map(const struct selector *s, const struct json *labels)
{
	if (s->nothing)
		return false;
	for (size_t i = 0; i < s->n; i++) {
		const struct json *v = json_get_n(labels, s->requirements[i].key);
		struct str value = json_str(v);

		if (!holds(&s->requirements[i], v ? &value : NULL))
			return false;
	}
	return true;
}

bool selector_is_everything(const struct selector *s)
{
	return !s->nothing && !s->n;
}

void selector_write(struct buf *out, const struct selector *s)
{
	static const char *const between[] = {
		[SELECTOR_IN] = "=",   [SELECTOR_NOT_IN] = "!=", [SELECTOR_GREATER] = ">",
		[SELECTOR_LESS] = "<", [SELECTOR_EXISTS] = "",   [SELECTOR_NOT_EXISTS] = "",
	};

	for (size_t i = 0; i < s->n; i++) {
		const struct selector_requirement *r = &s->requirements[i];
		bool set = r->n_values > 1;

		buf_add_cstr(out, i ? "," : "");
		buf_add_cstr(out, r->op == SELECTOR_NOT_EXISTS ? "!" : "");
		buf_add_str(out, r->key);
		if (set)
			buf_add_cstr(out, r->op == SELECTOR_IN ? " in (" : " notin (");
		else
			buf_add_cstr(out, between[r->op]);
		for (size_t j = 0; j < r->n_values; j++) {
			buf_add_cstr(out, j ? "," : "");
			buf_add_str(out, r->values[j]);
		}
		buf_add_cstr(out, set ? ")" : "");
	}
}

/* ---- one heap block: struct, requirements, values, bytes ---- */

struct selector *selector_clone(const struct selector *s)
{
	size_t n_values = 0, bytes = 0, size;
	struct selector_requirement *requirements;
	struct selector *copy;
	struct str *values;
	char *at;

	for (size_t i = 0; i < s->n; i++) {
		bytes += s->requirements[i].key.n;
		n_values += s->requirements[i].n_values;
		for (size_t j = 0; j < s->requirements[i].n_values; j++)
			bytes += s->requirements[i].values[j].n;
	}
	size = sizeof(*copy) + s->n * sizeof(*requirements) + n_values * sizeof(*values) + bytes;
	copy = mem_zalloc(size);
	requirements = (struct selector_requirement *)(copy + 1);
	values = (struct str *)(requirements + s->n);
	at = (char *)(values + n_values);
	*copy = (struct selector){ .nothing = s->nothing, .requirements = requirements, .n = s->n };
	for (size_t i = 0; i < s->n; i++) {
		const struct selector_requirement *r = &s->requirements[i];

		requirements[i] = *r;
		requirements[i].key = str_make(at, r->key.n);
		if (r->key.n)
			at = (char *)memcpy(at, r->key.p, r->key.n) + r->key.n;
		requirements[i].values = values;
		for (size_t j = 0; j < r->n_values; j++) {
			*values++ = str_make(at, r->values[j].n);
			if (r->values[j].n)
				at = (char *)memcpy(at, r->values[j].p, r->values[j].n) + r->values[j].n;
		}
	}
	return copy;
}

void selector_destroy(struct selector *s)
{
	free(s);
}
