/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities, held as a count of nanos in 128 bits: the range upstream keeps (2^63-1 at most, nano at
 * least) fits with room for one addition. No state. Any thread. */
#include "userspace/api/quantity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NANO ((__int128)1000000000)
#define NANO_MAX ((__int128)INT64_MAX * NANO)
#define BAD_FORMAT "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
#define BAD_SUFFIX "unable to parse quantity's suffix"

static void limit(struct quantity *q)
{
	if (q->nano > NANO_MAX)
		q->nano = NANO_MAX;
	if (q->nano < -NANO_MAX)
		q->nano = -NANO_MAX;
}

/* ---- parsing ---- */

struct suffix {
	const char *text;
	int base, exponent;
	enum quantity_format format;
};

static const struct suffix suffixes[] = {
	{ "", 10, 0, QUANTITY_DECIMAL_SI },   { "n", 10, -9, QUANTITY_DECIMAL_SI },
	{ "u", 10, -6, QUANTITY_DECIMAL_SI }, { "m", 10, -3, QUANTITY_DECIMAL_SI },
	{ "k", 10, 3, QUANTITY_DECIMAL_SI },  { "M", 10, 6, QUANTITY_DECIMAL_SI },
	{ "G", 10, 9, QUANTITY_DECIMAL_SI },  { "T", 10, 12, QUANTITY_DECIMAL_SI },
	{ "P", 10, 15, QUANTITY_DECIMAL_SI }, { "E", 10, 18, QUANTITY_DECIMAL_SI },
	{ "Ki", 2, 10, QUANTITY_BINARY_SI },  { "Mi", 2, 20, QUANTITY_BINARY_SI },
	{ "Gi", 2, 30, QUANTITY_BINARY_SI },  { "Ti", 2, 40, QUANTITY_BINARY_SI },
	{ "Pi", 2, 50, QUANTITY_BINARY_SI },  { "Ei", 2, 60, QUANTITY_BINARY_SI },
};

static int parse_suffix(struct str s, struct suffix *ret)
{
	int64_t exponent;
	bool negative;

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		if (str_is(s, suffixes[i].text)) {
			*ret = suffixes[i];
			return 0;
		}
	if (s.n < 2 || (s.p[0] != 'e' && s.p[0] != 'E'))
		return -EINVAL;
	s = str_make(s.p + 1, s.n - 1);
	negative = s.p[0] == '-';
	if (s.p[0] == '-' || s.p[0] == '+')
		s = str_make(s.p + 1, s.n - 1);
	/* Beyond these every value is cut to the range anyhow. */
	if (!s.n || s.p[0] < '0' || s.p[0] > '9' || str_to_int64(s, &exponent) < 0)
		return -EINVAL;
	if (exponent > 2 * QUANTITY_INPUT_MAX)
		exponent = 2 * QUANTITY_INPUT_MAX;
	*ret = (struct suffix){ "", 10, (int)(negative ? -exponent : exponent), QUANTITY_DECIMAL_EXPONENT };
	return 0;
}

/* A magnitude being put together from digits: value * 10^shift nanos; more digits than fit only round up. */
struct digits {
	__int128 value;
	bool rest;     /* something non-zero below the value */
	bool overflow; /* beyond the range whatever comes */
};

/* The number `whole.fraction` times 10^exponent in nanos. */
static struct digits scale_decimal(struct str whole, struct str fraction, int exponent)
{
	struct digits d = { 0 };
	long first = (long)whole.n + exponent + 9; /* digits before the nano point */

	for (long i = 0; i < (long)(whole.n + fraction.n) || i < first; i++) {
		size_t at = (size_t)i;
		int digit = 0;

		if (at < whole.n)
			digit = whole.p[at] - '0';
		else if (at < whole.n + fraction.n)
			digit = fraction.p[at - whole.n] - '0';
		if (i >= first) {
			d.rest |= digit != 0;
			continue;
		}
		d.value = d.value * 10 + digit;
		if (d.value > NANO_MAX) {
			d.overflow = true;
			return d;
		}
		if (!d.value && at >= whole.n + fraction.n)
			break; /* all zero: no need to go on shifting */
	}
	return d;
}

/* The same times 2^exponent: the fraction of at most 9 digits beyond what binary needs is kept exactly. */
static struct digits scale_binary(struct str whole, struct str fraction, int exponent)
{
	struct digits d = scale_decimal(whole, STR(""), 0);
	__int128 part = 0, unit = 1, rest;
	size_t used = 0;

	if (d.overflow || d.value > NANO_MAX >> exponent) {
		d.overflow = true;
		return d;
	}
	d.value <<= exponent;
	/* Up to 18 digits of fraction: part < 10^18, 2^60 * 10^18 < 2^120. */
	for (; used < fraction.n && used < 18; used++) {
		part = part * 10 + (fraction.p[used] - '0');
		unit *= 10;
	}
	for (size_t i = used; i < fraction.n; i++)
		d.rest |= fraction.p[i] != '0';
	part <<= exponent;
	d.value += part / unit * NANO;
	rest = (part % unit) * NANO; /* < 10^27 */
	d.value += rest / unit;
	d.rest |= rest % unit != 0;
	d.overflow = d.value > NANO_MAX;
	return d;
}

/* Splits into sign, whole digits, fraction and suffix; the message of what is wrong, or NULL. */
static const char *split(struct str s, bool *negative, struct str *whole, struct str *fraction, struct str *suffix)
{
	size_t i = 0, start, end;

	*negative = false;
	if (s.n && (s.p[0] == '+' || s.p[0] == '-'))
		*negative = s.p[i++] == '-';
	start = i;
	while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
		i++;
	*whole = str_make(s.p + start, i - start);
	*fraction = STR("");
	if (i < s.n && s.p[i] == '.') {
		start = ++i;
		while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
			i++;
		*fraction = str_make(s.p + start, i - start);
	}
	*suffix = str_make(s.p + i, s.n - i);
	for (end = 0; end < suffix->n && strchr("eEinumkKMGTP", suffix->p[end]) && suffix->p[end]; end++)
		;
	if (end < suffix->n && (suffix->p[end] == '-' || suffix->p[end] == '+'))
		end++;
	while (end < suffix->n && suffix->p[end] >= '0' && suffix->p[end] <= '9')
		end++;
	if (end < suffix->n)
		return BAD_FORMAT;
	if (!whole->n && !fraction->n)
		return BAD_FORMAT;
	return NULL;
}

int quantity_parse(struct str text, struct quantity *ret, struct err *err)
{
	struct str whole, fraction, suffix_text;
	struct suffix suffix;
	struct quantity q;
	struct digits d;
	const char *bad;
	bool negative;

	if (!text.n || text.n > QUANTITY_INPUT_MAX)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "%s", BAD_FORMAT);
	bad = split(text, &negative, &whole, &fraction, &suffix_text);
	if (bad)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "%s", bad);
	if (parse_suffix(suffix_text, &suffix) < 0)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "%s", BAD_SUFFIX);
	if (suffix.base == 2)
		d = scale_binary(whole, fraction, suffix.exponent);
	else
		d = scale_decimal(whole, fraction, suffix.exponent);
	q.format = suffix.format;
	q.nano = d.overflow ? NANO_MAX : d.value + (d.rest ? 1 : 0);
	if (negative)
		q.nano = -q.nano;
	limit(&q);
	*ret = q;
	return 0;
}

int quantity_from_json(const struct json *v, struct quantity *ret, struct err *err)
{
	if (!v || v->type == JSON_NULL) {
		*ret = (struct quantity){ 0, QUANTITY_DECIMAL_SI };
		return 0;
	}
	if (v->type != JSON_STRING && v->type != JSON_NUMBER)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "%s", BAD_FORMAT);
	return quantity_parse(str_trim(v->text), ret, err);
}

struct quantity quantity_of(const struct json *v)
{
	struct quantity q = { 0, QUANTITY_DECIMAL_SI };

	quantity_from_json(v, &q, NULL);
	return q;
}

struct quantity quantity_from_int(int64_t v, enum quantity_format format)
{
	struct quantity q = { (__int128)v * NANO, format };

	limit(&q);
	return q;
}

struct quantity quantity_from_milli(int64_t v, enum quantity_format format)
{
	return (struct quantity){ (__int128)v * (NANO / 1000), format };
}

/* ---- text ---- */

static size_t write_number(char *out, __int128 v)
{
	char digits[QUANTITY_TEXT_MAX];
	size_t n = 0, len = 0;
	bool negative = v < 0;

	if (negative)
		v = -v;
	do {
		digits[n++] = (char)('0' + (int)(v % 10));
		v /= 10;
	} while (v);
	if (negative)
		out[len++] = '-';
	while (n)
		out[len++] = digits[--n];
	return len;
}

static size_t format_binary(__int128 units, char *ret)
{
	static const char *const names[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
	size_t step = 0, n;

	while (step < 6 && units % 1024 == 0) {
		units /= 1024;
		step++;
	}
	n = write_number(ret, units);
	strcpy(ret + n, names[step]);
	return n + strlen(names[step]);
}

static size_t format_decimal(__int128 nano, enum quantity_format format, char *ret)
{
	static const char *const names[] = { "n", "u", "m", "", "k", "M", "G", "T", "P", "E" };
	int exponent = -9;
	size_t n;

	while (exponent < 18 && nano % 1000 == 0) {
		nano /= 1000;
		exponent += 3;
	}
	n = write_number(ret, nano);
	if (format == QUANTITY_DECIMAL_EXPONENT && exponent)
		return n + (size_t)snprintf(ret + n, QUANTITY_TEXT_MAX - n, "e%d", exponent);
	if (format == QUANTITY_DECIMAL_EXPONENT)
		ret[n] = 0;
	else
		strcpy(ret + n, names[(exponent + 9) / 3]);
	return strlen(ret);
}

size_t quantity_format(const struct quantity *q, char ret[static QUANTITY_TEXT_MAX])
{
	__int128 units = q->nano / NANO;

	if (!q->nano) {
		strcpy(ret, "0");
		return 1;
	}
	/* Small or fractional binary quantities are shown in decimal, as upstream does, to lose nothing. */
	if (q->format == QUANTITY_BINARY_SI && q->nano % NANO == 0 && (units <= -1024 || units >= 1024))
		return format_binary(units, ret);
	return format_decimal(q->nano, q->format == QUANTITY_BINARY_SI ? QUANTITY_DECIMAL_SI : q->format, ret);
}

struct str quantity_text(struct arena *arena, const struct quantity *q)
{
	char text[QUANTITY_TEXT_MAX];

	return arena_str(arena, str_make(text, quantity_format(q, text)));
}

int quantity_canonical(struct arena *arena, struct str text, struct str *ret, struct err *err)
{
	struct quantity q;
	int r = quantity_parse(text, &q, err);

	if (r < 0)
		return r;
	*ret = quantity_text(arena, &q);
	return 0;
}

/* ---- arithmetic ---- */

int quantity_cmp(const struct quantity *a, const struct quantity *b)
{
	return a->nano < b->nano ? -1 : a->nano > b->nano;
}

void quantity_add(struct quantity *a, const struct quantity *b)
{
	if (!a->nano)
		a->format = b->format;
	a->nano += b->nano;
	limit(a);
}

void quantity_sub(struct quantity *a, const struct quantity *b)
{
	if (!a->nano)
		a->format = b->format;
	a->nano -= b->nano;
	limit(a);
}

static int64_t rounded(__int128 nano, __int128 unit)
{
	__int128 v = nano / unit, rest = nano % unit;

	if (rest)
		v += rest > 0 ? 1 : -1;
	if (v > INT64_MAX)
		return INT64_MAX;
	if (v < -INT64_MAX)
		return -INT64_MAX;
	return (int64_t)v;
}

int64_t quantity_value(const struct quantity *q)
{
	return rounded(q->nano, NANO);
}

int64_t quantity_milli_value(const struct quantity *q)
{
	return rounded(q->nano, NANO / 1000);
}
