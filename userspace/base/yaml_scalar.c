/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars by the rules of YAML 1.1 as Go's reader has them (yes, on and y are true, 010 is eight, 1_000 a number), and
 * numbers in the form that Go's JSON gives them. See yaml_scalar.h. No state; any thread. */
#include "userspace/base/yaml_scalar.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/base/encode.h"

#define NUMBER_TEXT_MAX 128 /* longer ones are strings */
#define FLOAT_DIGITS_MAX 17
#define FLOAT_TEXT_MAX 64
#define TAG_PREFIX "tag:yaml.org,2002:"

static bool is_word(struct str s, const char *const *words)
{
	for (; *words; words++)
		if (str_is(s, *words))
			return true;
	return false;
}

static bool is_tag(const char *tag, const char *name)
{
	return tag && str_starts(str_of(tag), STR(TAG_PREFIX)) && !strcmp(tag + strlen(TAG_PREFIX), name);
}

/* Integers of 64 bits, signed or not: decimal, 0x, 0o, 0b and octal by a leading zero. */
static bool parse_int(const char *text, struct arena *arena, struct json **ret)
{
	bool negative = *text == '-';
	const char *digits = text + (*text == '-' || *text == '+');
	unsigned long long v;
	int base = 10;
	char *end;

	if (digits[0] == '0' && digits[1]) {
		char kind = digits[1];

		base = kind == 'x' || kind == 'X'   ? 16
		       : kind == 'o' || kind == 'O' ? 8
		       : kind == 'b' || kind == 'B' ? 2
						    : 0;
		digits += base ? 2 : 1;
		base = base ? base : 8;
	}
	if (hex_digit(*digits) < 0) /* neither a sign nor a blank */
		return false;
	errno = 0;
	v = strtoull(digits, &end, base);
	if (errno || *end || (negative && v > (unsigned long long)INT64_MAX + 1))
		return false;
	*ret = json_new(arena, JSON_NUMBER);
	(*ret)->text = str_of(arena_printf(arena, "%s%llu", negative && v ? "-" : "", v));
	return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool is_float(const char *s)
{
	size_t before, after = 0;

	s += *s == '-' || *s == '+';
	s += before = strspn(s, "0123456789");
	if (*s == '.') {
		s++;
		s += after = strspn(s, "0123456789");
	}
	if (!before && !after)
		return false;
	if (*s == 'e' || *s == 'E') {
		s += 1 + (s[1] == '-' || s[1] == '+');
		if (!strspn(s, "0123456789"))
			return false;
		s += strspn(s, "0123456789");
	}
	return !*s;
}

/* The shortest text that reads as the same number; an exponent only where Go has one. */
static struct json *new_float(struct arena *arena, double d)
{
	struct json *v = json_new(arena, JSON_NUMBER);
	char text[FLOAT_TEXT_MAX], *e;
	int digits = 0, exponent;

	while (digits < FLOAT_DIGITS_MAX) {
		snprintf(text, sizeof(text), "%.*e", digits++, d);
		if (strtod(text, NULL) == d)
			break;
	}
	e = strchr(text, 'e');
	exponent = atoi(e + 1);
	if (exponent < -6 || exponent >= 21) {
		if (e[2] == '0') /* e-07 is e-7 */
			memmove(e + 2, e + 3, strlen(e + 3) + 1);
	} else if (exponent >= digits - 1) { /* no fraction; behind the digits that count stand zeros */
		*e = '\0';
		if (digits > 1)
			memmove(strchr(text, '.'), strchr(text, '.') + 1, (size_t)digits);
		v->text = str_of(arena_printf(arena, "%s%.*s", text, exponent - digits + 1, "00000000000000000000"));
		return v;
	} else {
		snprintf(text, sizeof(text), "%.*f", digits - 1 - exponent, d);
	}
	v->text = str_of(arena_strdup(arena, text));
	return v;
}

static bool parse_number(struct arena *arena, struct str s, struct json **ret)
{
	char text[NUMBER_TEXT_MAX + 1];
	size_t n = 0;
	double d;

	if (!s.n || s.n > NUMBER_TEXT_MAX || !memchr("+-.0123456789", s.p[0], 13))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '_')
			text[n++] = s.p[i];
	text[n] = '\0';
	if (strlen(text) != n)
		return false;
	if (s.p[0] != '.' && parse_int(text, arena, ret))
		return true;
	if (!is_float(text))
		return false;
	d = strtod(text, NULL);
	if (!isfinite(d))
		return false;
	*ret = new_float(arena, d);
	return true;
}

/* What the text says where nothing else does; strings, too. */
static int resolve(struct arena *arena, struct str s, struct json **ret, struct err *err)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const trues[] = { "true", "True", "TRUE", "yes", "Yes", "YES",
					     "on",   "On",   "ON",   "y",   "Y",   NULL };
	static const char *const falses[] = { "false", "False", "FALSE", "no", "No", "NO",
					      "off",   "Off",   "OFF",   "n",  "N",  NULL };
	static const char *const endless[] = { ".inf",  ".Inf",  ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
					       "-.Inf", "-.INF", ".nan", ".NaN",  ".NAN",  NULL };

	if (is_word(s, nulls))
		*ret = json_new(arena, JSON_NULL);
	else if (is_word(s, trues))
		*ret = json_new_bool(arena, true);
	else if (is_word(s, falses))
		*ret = json_new_bool(arena, false);
	else if (is_word(s, endless))
		return err_set(err, -EINVAL, "json: unsupported value: %s",
			       s.p[s.n - 1] == 'f' || s.p[s.n - 1] == 'F' ? *s.p == '-' ? "-Inf" : "+Inf" : "NaN");
	else if (!parse_number(arena, s, ret))
		*ret = json_new_str(arena, arena_str(arena, s));
	return 0;
}

static int decode_binary(struct arena *arena, struct str s, struct json **ret, struct err *err)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT, clean = BUF_INIT;

	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '\n' && s.p[i] != '\r')
			buf_add_char(&clean, s.p[i]);
	if (base64_decode(&bytes, buf_str(&clean), BASE64_STD) < 0)
		return err_set(err, -EINVAL, "yaml: !!binary value contains invalid base64 data");
	/* Bytes that are no UTF-8 are replaced on the way through JSON. */
	buf_reset(&clean);
	json_write_str(&clean, buf_str(&bytes));
	return json_parse(arena, arena_str(arena, buf_str(&clean)), 0, ret, err);
}

int yaml_scalar(struct arena *arena, const char *tag, bool plain, struct str s, struct json **ret, struct err *err)
{
	static const struct {
		const char *name;
		enum json_type type;
	} types[] = {
		{ "null", JSON_NULL },
		{ "bool", JSON_BOOL },
		{ "int", JSON_NUMBER },
		{ "float", JSON_NUMBER },
	};
	struct json *v;
	int r;

	if (is_tag(tag, "binary"))
		return decode_binary(arena, s, ret, err);
	for (size_t i = 0; tag && i < ARRAY_SIZE(types); i++) {
		if (!is_tag(tag, types[i].name))
			continue;
		r = resolve(arena, s, &v, err);
		if (r >= 0 && v->type != types[i].type)
			return err_set(err, -EINVAL, "yaml: cannot decode `%.*s` as a !!%s", STR_ARG(s), types[i].name);
		if (r >= 0)
			*ret = v;
		return r;
	}
	if (plain && (!tag || is_tag(tag, "timestamp")))
		return resolve(arena, s, ret, err);
	*ret = json_new_str(arena, arena_str(arena, s));
	return 0;
}

int yaml_key(struct arena *arena, const char *tag, bool plain, struct str s, struct str *ret, struct err *err)
{
	struct json *v;
	int r = yaml_scalar(arena, tag, plain, s, &v, err);

	if (r < 0)
		return r;
	if (v->type == JSON_NULL)
		return err_set(err, -EINVAL, "unsupported map key of type: <nil>");
	*ret = v->type == JSON_BOOL ? (v->boolean ? STR("true") : STR("false")) : v->text;
	return 0;
}
