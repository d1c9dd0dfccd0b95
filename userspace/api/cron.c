/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of schedules. See cron.h. No state; any thread. */
#include "userspace/api/cron.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "userspace/base/mem.h"

#define CRON_FIELDS 5
#define CRON_SHOWN_MAX 200

struct cron_field {
	int min, max;
	const char *names; /* three letters each, from min on */
};

static const struct cron_field fields[CRON_FIELDS] = {
	{ 0, 59, "" },
	{ 0, 23, "" },
	{ 1, 31, "" },
	{ 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec" },
	{ 0, 6, "sunmontuewedthufrisat" },
};

#define FAIL(...) (snprintf(why, CRON_ERROR_MAX, __VA_ARGS__), false)
#define SHOWN(s) (int)((s).n < CRON_SHOWN_MAX ? (s).n : CRON_SHOWN_MAX), (s).p

static bool number(struct str s, int64_t *ret, char *why)
{
	bool digits = s.n > 0;

	for (size_t i = s.n > 0 && (s.p[0] == '-' || s.p[0] == '+'); i < s.n; i++)
		digits &= s.p[i] >= '0' && s.p[i] <= '9';
	if (!digits || (s.n == 1 && (s.p[0] == '-' || s.p[0] == '+')))
		return FAIL("failed to parse int from %.*s: strconv.Atoi: parsing \"%.*s\": invalid syntax", SHOWN(s),
			    SHOWN(s));
	if (str_to_int64(s.p[0] == '+' ? str_make(s.p + 1, s.n - 1) : s, ret) < 0)
		return FAIL("failed to parse int from %.*s: strconv.Atoi: parsing \"%.*s\": value out of range",
			    SHOWN(s), SHOWN(s));
	if (*ret < 0)
		return FAIL("negative number (%lld) not allowed: %.*s", (long long)*ret, SHOWN(s));
	return true;
}

static bool number_or_name(struct str s, const struct cron_field *f, int64_t *ret, char *why)
{
	if (s.n == 3)
		for (size_t i = 0; f->names[i]; i += 3)
			if (!strncasecmp(s.p, f->names + i, 3)) {
				*ret = f->min + (int64_t)(i / 3);
				return true;
			}
	return number(s, ret, why);
}

static size_t count(struct str s, char c)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == c;
	return n;
}

static struct str before(struct str s, char c, struct str *ret_after)
{
	long at = str_find(s, c);

	*ret_after = at < 0 ? STR("") : str_make(s.p + at + 1, s.n - (size_t)at - 1);
	return at < 0 ? s : str_make(s.p, (size_t)at);
}

/* One of the comma-separated terms: (*|?|n|n-m)[/step] */
static bool term(struct str s, const struct cron_field *f, char *why)
{
	struct str step_text, high_text, range = before(s, '/', &step_text), low_text = before(range, '-', &high_text);
	int64_t low, high, step = 1;
	bool any = str_is(low_text, "*") || str_is(low_text, "?");

	if (any) {
		low = f->min;
		high = f->max;
	} else {
		if (!number_or_name(low_text, f, &low, why))
			return false;
		high = low;
		if (count(range, '-') > 1)
			return FAIL("too many hyphens: %.*s", SHOWN(s));
		if (count(range, '-') == 1 && !number_or_name(high_text, f, &high, why))
			return false;
	}
	if (count(s, '/') > 1)
		return FAIL("too many slashes: %.*s", SHOWN(s));
	if (count(s, '/') == 1) {
		if (!number(step_text, &step, why))
			return false;
		/* "n/step" means "n-max/step". */
		if (!any && count(range, '-') == 0)
			high = f->max;
	}
	if (low < f->min)
		return FAIL("beginning of range (%lld) below minimum (%d): %.*s", (long long)low, f->min, SHOWN(s));
	if (high > f->max)
		return FAIL("end of range (%lld) above maximum (%d): %.*s", (long long)high, f->max, SHOWN(s));
	if (low > high)
		return FAIL("beginning of range (%lld) beyond end of range (%lld): %.*s", (long long)low,
			    (long long)high, SHOWN(s));
	if (step == 0)
		return FAIL("step of range should be a positive number: %.*s", SHOWN(s));
	return true;
}

/* @every <Go duration>: digits with units. */
static bool every(struct str s, char *why)
{
	const struct str units = STR("hmsun\xc2\xb5");
	struct str d = str_make(s.p + 7, s.n - 7);
	bool unit = false;

	for (size_t i = 0; i < d.n; i++) {
		bool digit = (d.p[i] >= '0' && d.p[i] <= '9') || d.p[i] == '.';

		if (!digit && (i == 0 || !memchr(units.p, d.p[i], units.n))) {
			unit = false;
			break;
		}
		unit = !digit;
	}
	if (!unit && !str_is(d, "0"))
		return FAIL("failed to parse duration %.*s: time: invalid duration \"%.*s\"", SHOWN(s), SHOWN(d));
	return true;
}

static bool descriptor(struct str s, char *why)
{
	static const char *const names[] = { "@yearly", "@annually", "@monthly", "@weekly",
					     "@daily",  "@midnight", "@hourly" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_is(s, names[i]))
			return true;
	if (str_starts(s, STR("@every ")))
		return every(s, why);
	return FAIL("unrecognized descriptor: %.*s", SHOWN(s));
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool cron_check(struct str s, char why[static CRON_ERROR_MAX])
{
	struct str words[CRON_FIELDS], part;
	size_t n = 0;

	if (!s.n)
		return FAIL("empty spec string");
	if (s.p[0] == '@')
		return descriptor(s, why);
	for (size_t i = 0; i < s.n;) {
		size_t start;

		while (i < s.n && is_blank(s.p[i]))
			i++;
		start = i;
		while (i < s.n && !is_blank(s.p[i]))
			i++;
		if (i > start && n++ < CRON_FIELDS)
			words[n - 1] = str_make(s.p + start, i - start);
	}
	if (n != CRON_FIELDS)
		return FAIL("expected exactly %d fields, found %zu: [%.*s]", CRON_FIELDS, n, SHOWN(str_trim(s)));
	for (size_t i = 0; i < CRON_FIELDS; i++)
		while (str_split(&words[i], ',', &part))
			if (part.n && !term(part, &fields[i], why))
				return false;
	return true;
}
