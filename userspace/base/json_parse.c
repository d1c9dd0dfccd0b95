/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text to tree: recursive descent with a depth limit, strings shared with the text where
 * they hold no escape. See json.h. */
#include <errno.h>
#include <stdio.h>

#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/map.h"
#include "userspace/base/mem.h"

/* Objects of up to this many members are searched for duplicates member by member. */
#define JSON_LINEAR_MEMBERS 16
#define JSON_PATH_MAX 512

/* For the paths of duplicates: the container at each depth (from 1) and its name in the one above. Apart, as nobody
 * clears it. */
struct levels {
	struct json *containers[JSON_DEPTH_MAX + 2];
	struct str names[JSON_DEPTH_MAX + 2];
};

struct parser {
	struct arena *arena;
	const char *at, *end;
	unsigned flags;
	unsigned depth;
	size_t nodes;
	struct json_duplicates *dups;
	const struct json_keep *keep;
	struct levels *levels;
	struct err *err;
};

/* In the words of Go's decoder, which clients know. */
static int parse_error(struct parser *p, const char *where)
{
	unsigned char c;
	char shown[8];

	if (p->at >= p->end)
		return err_set(p->err, -EINVAL, "unexpected end of JSON input");
	c = (unsigned char)*p->at;
	if (c == '\'' || c == '\\')
		snprintf(shown, sizeof(shown), "\\%c", c);
	else if (c == '\n' || c == '\r' || c == '\t')
		snprintf(shown, sizeof(shown), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
	else if (c < 0x20 || c == 0x7f)
		snprintf(shown, sizeof(shown), "\\x%02x", c);
	else if (c >= 0x80) /* Go shows the byte as if it were a character */
		snprintf(shown, sizeof(shown), "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
	else
		snprintf(shown, sizeof(shown), "%c", c);
	return err_set(p->err, -EINVAL, "invalid character '%s' %s", shown, where);
}

static void skip_blanks(struct parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
		p->at++;
}

static int hex4(const char *s)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		int d = hex_digit(s[i]);

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

static size_t utf8_put(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

/* Length of the valid UTF-8 sequence at p, 0 when it is none (RFC 3629). */
static size_t utf8_len(const unsigned char *p, const unsigned char *end)
{
	size_t n;
	uint32_t c, min;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] < 0xe0)
		n = 2, c = p[0] & 0x1f, min = 0x80;
	else if (p[0] >= 0xe0 && p[0] < 0xf0)
		n = 3, c = p[0] & 0x0f, min = 0x800;
	else if (p[0] >= 0xf0 && p[0] < 0xf5)
		n = 4, c = p[0] & 0x07, min = 0x10000;
	else
		return 0;
	if ((size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 63);
	}
	return c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

/* One escape at p->at (behind the backslash) to `out`; returns bytes written or -1. */
static int parse_escape(struct parser *p, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	int hi, lo;

	if (p->at >= p->end)
		return -1;
	if (*p->at != 'u') {
		found = *p->at ? strchr(from, *p->at) : NULL;
		if (!found)
			return -1;
		p->at++;
		*out = to[found - from];
		return 1;
	}
	if (p->end - p->at < 5 || (hi = hex4(p->at + 1)) < 0)
		return -1;
	p->at += 5;
	if (hi >= 0xd800 && hi < 0xdc00 && p->end - p->at >= 6 && p->at[0] == '\\' && p->at[1] == 'u' &&
	    (lo = hex4(p->at + 2)) >= 0xdc00 && lo < 0xe000) {
		p->at += 6;
		return (int)utf8_put(out, 0x10000 + (((uint32_t)hi - 0xd800) << 10) + ((uint32_t)lo - 0xdc00));
	}
	/* A lone surrogate becomes U+FFFD, as in Go. */
	return (int)utf8_put(out, hi >= 0xd800 && hi < 0xe000 ? 0xfffd : (uint32_t)hi);
}

static int parse_string_slow(struct parser *p, const char *from, struct str *ret)
{
	const char *scan = p->at;
	char *out, *at;

	/* An upper bound of the decoded length: the raw length (times 3 for bad bytes, found out first). */
	while (scan < p->end && *scan != '"')
		scan += *scan == '\\' && scan + 1 < p->end ? 2 : 1;
	if (scan >= p->end) {
		p->at = p->end;
		return parse_error(p, "");
	}
	out = at = arena_alloc(p->arena, (size_t)(scan - from) * 3 + 1);
	memcpy(at, from, (size_t)(p->at - from));
	at += p->at - from;
	while (p->at < scan) {
		unsigned char c = (unsigned char)*p->at;
		size_t n;
		int e;

		if (c == '\\') {
			p->at++;
			e = parse_escape(p, at);
			if (e < 0)
				return parse_error(p, "in string escape code");
			at += e;
			continue;
		}
		if (c < 0x20)
			return parse_error(p, "in string literal");
		n = utf8_len((const unsigned char *)p->at, (const unsigned char *)scan);
		if (n == 0) {
			at += utf8_put(at, 0xfffd);
			p->at++;
			continue;
		}
		memcpy(at, p->at, n);
		at += n;
		p->at += n;
	}
	p->at++;
	*ret = str_make(out, (size_t)(at - out));
	return 0;
}

/* p->at stands behind the opening quote. */
static int parse_string(struct parser *p, struct str *ret)
{
	const char *from = p->at;

	while (p->at < p->end) {
		unsigned char c = (unsigned char)*p->at;

		if (c == '"') {
			*ret = str_make(from, (size_t)(p->at - from));
			p->at++;
			return 0;
		}
		if (c == '\\' || c < 0x20)
			return parse_string_slow(p, from, ret);
		if (c >= 0x80) {
			size_t n = utf8_len((const unsigned char *)p->at, (const unsigned char *)p->end);

			if (n == 0)
				return parse_string_slow(p, from, ret);
			p->at += n;
			continue;
		}
		p->at++;
	}
	return parse_error(p, "");
}

static bool is_digit(struct parser *p)
{
	return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

static int parse_number(struct parser *p, struct json *v)
{
	const char *from = p->at;

	v->type = JSON_NUMBER;
	if (*p->at == '-')
		p->at++;
	if (!is_digit(p))
		return parse_error(p, "in numeric literal");
	if (*p->at == '0') /* what follows it is judged by who asked for the value */
		p->at++;
	else
		while (is_digit(p))
			p->at++;
	if (p->at < p->end && *p->at == '.') {
		p->at++;
		if (!is_digit(p))
			return parse_error(p, "after decimal point in numeric literal");
		while (is_digit(p))
			p->at++;
	}
	if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
		p->at++;
		if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
			p->at++;
		if (!is_digit(p))
			return parse_error(p, "in exponent of numeric literal");
		while (is_digit(p))
			p->at++;
	}
	v->text = str_make(from, (size_t)(p->at - from));
	return 0;
}

static int parse_word(struct parser *p, struct json *v)
{
	const char *word = *p->at == 't' ? "true" : *p->at == 'f' ? "false" : *p->at == 'n' ? "null" : NULL;
	char where[48];

	if (!word)
		return parse_error(p, "looking for beginning of value");
	for (const char *c = word; *c; c++, p->at++) {
		if (p->at < p->end && *p->at == *c)
			continue;
		snprintf(where, sizeof(where), "in literal %s (expecting '%c')", word, *c);
		return parse_error(p, where);
	}
	v->type = *word == 'n' ? JSON_NULL : JSON_BOOL;
	if (*word != 'n')
		v->boolean = *word == 't';
	return 0;
}

static int parse_value(struct parser *p, struct json **ret);

/* ---- values that stay text ---- */

static bool is_kept(const struct parser *p, struct str key)
{
	const struct json_keep *k = p->keep;

	if (!k || !str_is(key, k->key))
		return false;
	return !k->parent || (p->depth == 2 && str_is(p->levels->names[2], k->parent));
}

/* Behind the string whose opening quote stands before `at`; NULL when it has no end. */
static const char *skip_string(const char *at, const char *end)
{
	for (;;) {
		const char *quote = memchr(at, '"', (size_t)(end - at)), *back;

		if (!quote)
			return NULL;
		for (back = quote; back > at && back[-1] == '\\'; back--)
			;
		if ((quote - back) % 2 == 0)
			return quote + 1;
		at = quote + 1;
	}
}

static int keep_value(struct parser *p, struct json **ret)
{
	const char *from;
	size_t depth = 0;

	skip_blanks(p);
	from = p->at;
	while (p->at < p->end) {
		char c = *p->at;

		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			break;
		p->at++;
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
		else if (c == '"' && !(p->at = skip_string(p->at, p->end)))
			p->at = p->end;
	}
	if (p->at >= p->end)
		return parse_error(p, "");
	*ret = json_new_raw(p->arena, str_make(from, (size_t)(p->at - from)));
	return 0;
}

static int parse_array(struct parser *p, struct json *v)
{
	int r;

	v->type = JSON_ARRAY;
	p->at++;
	skip_blanks(p);
	if (p->at < p->end && *p->at == ']') {
		p->at++;
		return 0;
	}
	for (;;) {
		struct json *item;

		r = parse_value(p, &item);
		if (r < 0)
			return r;
		json_append(v, item);
		skip_blanks(p);
		if (p->at >= p->end || (*p->at != ',' && *p->at != ']'))
			return parse_error(p, "after array element");
		if (*p->at++ == ']')
			return 0;
	}
}

static void report_duplicate(struct parser *p, struct str key)
{
	_cleanup_buf_ struct buf path = BUF_INIT;

	if (p->dups->n >= p->dups->max)
		return;
	for (unsigned i = 2; i <= p->depth && buf_len(&path) < JSON_PATH_MAX; i++) {
		const struct json *above = p->levels->containers[i - 1];

		if (above->type == JSON_ARRAY)
			buf_printf(&path, "[%u]", above->count);
		else
			buf_printf(&path, "%s%.*s", buf_len(&path) ? "." : "", STR_ARG(p->levels->names[i]));
	}
	buf_printf(&path, "%s%.*s", buf_len(&path) ? "." : "", STR_ARG(key));
	if (p->dups->at)
		p->dups->at[p->dups->n] = key.p;
	p->dups->paths[p->dups->n++] = arena_str(p->arena, buf_str(&path));
}

/* The member of that name that is there already, or NULL. `index` is used once the object is large. */
static struct json *find_member(struct json *object, struct map *index, struct str key)
{
	if (object->count < JSON_LINEAR_MEMBERS)
		return json_get_n(object, key);
	if (!index->n)
		json_foreach(m, object)
			map_put(index, m->key, m);
	return map_get(index, key);
}

static int parse_members(struct parser *p, struct json *v, struct map *index)
{
	int r;

	for (;;) {
		struct json *item, *before;
		struct str key;

		skip_blanks(p);
		if (p->at >= p->end || *p->at != '"')
			return parse_error(p, "looking for beginning of object key string");
		p->at++;
		r = parse_string(p, &key);
		if (r < 0)
			return r;
		skip_blanks(p);
		if (p->at >= p->end || *p->at != ':')
			return parse_error(p, "after object key");
		p->at++;
		before = find_member(v, index, key);
		if (before && (p->flags & JSON_PARSE_STRICT_DUPLICATES))
			return err_set(p->err, -EINVAL, "duplicate field \"%.*s\"", STR_ARG(key));
		if (before && p->dups)
			report_duplicate(p, key);
		p->levels->names[p->depth + 1] = key;
		r = is_kept(p, key) ? keep_value(p, &item) : parse_value(p, &item);
		if (r < 0)
			return r;
		item->key = before ? before->key : key; /* where it was first */
		if (before) {
			json_replace(before, item);
		} else {
			item->next = NULL;
			if (v->last)
				v->last->next = item;
			else
				v->first = item;
			v->last = item;
			v->count++;
			if (index->n)
				map_put(index, key, item);
		}
		skip_blanks(p);
		if (p->at >= p->end || (*p->at != ',' && *p->at != '}'))
			return parse_error(p, "after object key:value pair");
		if (*p->at++ == '}')
			return 0;
	}
}

static int parse_object(struct parser *p, struct json *v)
{
	_cleanup_(map_finish) struct map index = MAP_INIT;

	v->type = JSON_OBJECT;
	p->at++;
	skip_blanks(p);
	if (p->at < p->end && *p->at == '}') {
		p->at++;
		return 0;
	}
	return parse_members(p, v, &index);
}

static int parse_value(struct parser *p, struct json **ret)
{
	struct json *v = arena_new(p->arena, struct json);
	int r;

	skip_blanks(p);
	if (p->at >= p->end)
		return parse_error(p, "");
	if (++p->nodes > JSON_NODES_MAX)
		return err_set(p->err, -E2BIG, "JSON document holds more than %d values", JSON_NODES_MAX);
	switch (*p->at) {
	case '{':
	case '[':
		if (p->depth >= JSON_DEPTH_MAX)
			return err_set(p->err, -E2BIG, "JSON document nests deeper than %d", JSON_DEPTH_MAX);
		p->levels->containers[++p->depth] = v;
		r = *p->at == '{' ? parse_object(p, v) : parse_array(p, v);
		p->depth--;
		break;
	case '"':
		p->at++;
		v->type = JSON_STRING;
		r = parse_string(p, &v->text);
		break;
	case '-':
	case '0' ... '9':
		r = parse_number(p, v);
		break;
	default:
		r = parse_word(p, v);
	}
	if (r < 0)
		return r;
	*ret = v;
	return 0;
}

static int parse_document(struct parser *p, struct json **ret)
{
	struct json *v;
	int r;

	r = parse_value(p, &v);
	if (r < 0)
		return r;
	skip_blanks(p);
	if (p->at != p->end)
		return parse_error(p, "after top-level value");
	*ret = v;
	return 0;
}

int json_parse(struct arena *arena, struct str text, unsigned flags, struct json **ret, struct err *err)
{
	const char *start = text.p ? text.p : ""; /* an empty text may have no address */
	struct levels levels;
	struct parser p = {
		.arena = arena, .at = start, .end = start + text.n, .flags = flags, .levels = &levels, .err = err
	};

	return parse_document(&p, ret);
}

int json_parse_report(struct arena *arena, struct str text, struct json_duplicates *dups, struct json **ret,
		      struct err *err)
{
	const char *start = text.p ? text.p : "";
	struct levels levels;
	struct parser p = {
		.arena = arena, .at = start, .end = start + text.n, .dups = dups, .levels = &levels, .err = err
	};

	return parse_document(&p, ret);
}

int json_parse_keep(struct arena *arena, struct str text, const struct json_keep *keep, struct json **ret,
		    struct err *err)
{
	const char *start = text.p ? text.p : "";
	struct levels levels;
	struct parser p = {
		.arena = arena, .at = start, .end = start + text.n, .keep = keep, .levels = &levels, .err = err
	};

	return parse_document(&p, ret);
}
