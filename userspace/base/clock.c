/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and their text forms. See clock.h. */
#include "userspace/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

int64_t clock_monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void clock_format(int64_t real_ns, int digits, char *ret)
{
	int64_t s = real_ns / NS_PER_S, ns = real_ns % NS_PER_S;
	time_t t;
	struct tm tm;
	char fraction[12] = "";

	if (ns < 0) {
		ns += NS_PER_S;
		s--;
	}
	t = (time_t)s;
	gmtime_r(&t, &tm);
	if (digits) {
		snprintf(fraction, sizeof(fraction), ".%09d", (int)ns);
		fraction[1 + digits] = '\0';
	}
	snprintf(ret, CLOCK_RFC3339_MAX, "%04u-%02u-%02uT%02u:%02u:%02u%sZ", (unsigned)(tm.tm_year + 1900) % 10000u,
		 (unsigned)(tm.tm_mon + 1) % 100u, (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
		 (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u, fraction);
}

void clock_format_rfc3339(int64_t real_ns, char ret[static CLOCK_RFC3339_MAX])
{
	clock_format(real_ns, 0, ret);
}

void clock_format_rfc3339_micro(int64_t real_ns, char ret[static CLOCK_RFC3339_MAX])
{
	clock_format(real_ns, 6, ret);
}

void clock_format_rfc3339_nano(int64_t real_ns, char ret[static CLOCK_RFC3339_MAX])
{
	clock_format(real_ns, 9, ret);
}

static int clock_digits(struct str s, size_t at, size_t n, int *ret)
{
	int v = 0;

	if (at + n > s.n)
		return -EINVAL;
	for (size_t i = at; i < at + n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		v = v * 10 + (s.p[i] - '0');
	}
	*ret = v;
	return 0;
}

static int clock_parse_zone(struct str s, size_t at, int64_t *ret_offset_s)
{
	int h, m;

	if (at + 1 == s.n && (s.p[at] == 'Z' || s.p[at] == 'z')) {
		*ret_offset_s = 0;
		return 0;
	}
	if (at + 6 != s.n || (s.p[at] != '+' && s.p[at] != '-') || s.p[at + 3] != ':' ||
	    clock_digits(s, at + 1, 2, &h) < 0 || clock_digits(s, at + 4, 2, &m) < 0 || h > 23 || m > 59)
		return -EINVAL;
	*ret_offset_s = (h * 3600 + m * 60) * (s.p[at] == '-' ? -1 : 1);
	return 0;
}

int clock_parse_rfc3339(struct str s, int64_t *ret_real_ns)
{
	static const int month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, mon, day, hour, min, sec, days;
	int64_t ns = 0, scale = NS_PER_S / 10, offset_s;
	struct tm tm = { 0 };
	size_t at = 19;

	if (s.n < 20 || s.p[4] != '-' || s.p[7] != '-' || (s.p[10] != 'T' && s.p[10] != 't') || s.p[13] != ':' ||
	    s.p[16] != ':' || clock_digits(s, 0, 4, &year) < 0 || clock_digits(s, 5, 2, &mon) < 0 ||
	    clock_digits(s, 8, 2, &day) < 0 || clock_digits(s, 11, 2, &hour) < 0 || clock_digits(s, 14, 2, &min) < 0 ||
	    clock_digits(s, 17, 2, &sec) < 0)
		return -EINVAL;
	if (mon < 1 || mon > 12 || hour > 23 || min > 59 || sec > 59)
		return -EINVAL;
	days = month_days[mon - 1] + (mon == 2 && (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)));
	if (day < 1 || day > days)
		return -EINVAL;
	if (s.p[at] == '.') {
		size_t from = ++at;

		for (; at < s.n && s.p[at] >= '0' && s.p[at] <= '9'; at++, scale /= 10)
			ns += (s.p[at] - '0') * scale;
		if (at == from)
			return -EINVAL;
	}
	if (at >= s.n || clock_parse_zone(s, at, &offset_s) < 0)
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = mon - 1;
	tm.tm_mday = day;
	tm.tm_hour = hour;
	tm.tm_min = min;
	tm.tm_sec = sec;
	/* Years beyond what int64 nanoseconds hold are refused, not wrapped. */
	if (year < 1700 || year > 2261)
		return -EINVAL;
	*ret_real_ns = ((int64_t)timegm(&tm) - offset_s) * NS_PER_S + ns;
	return 0;
}

int clock_parse_duration(struct str s, int64_t *ret_ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 } };
	double total = 0;
	size_t i = 0;
	int sign = 1;

	if (s.n && (s.p[0] == '-' || s.p[0] == '+')) {
		sign = s.p[0] == '-' ? -1 : 1;
		i = 1;
	}
	if (i == s.n)
		return -EINVAL;
	if (s.n - i == 1 && s.p[i] == '0') {
		*ret_ns = 0;
		return 0;
	}
	while (i < s.n) {
		double v = 0, scale = 1;
		size_t from = i, unit_at, u;

		for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
			v = v * 10 + (s.p[i] - '0');
		if (i < s.n && s.p[i] == '.')
			for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
				v += (s.p[i] - '0') * (scale /= 10);
		if (i == from)
			return -EINVAL;
		for (unit_at = i; i < s.n && s.p[i] >= 'a' && s.p[i] <= 'z'; i++)
			;
		for (u = 0; u < sizeof(units) / sizeof(units[0]); u++)
			if (str_is(str_make(s.p + unit_at, i - unit_at), units[u].unit))
				break;
		if (u == sizeof(units) / sizeof(units[0]))
			return -EINVAL;
		total += v * units[u].ns;
		if (total > 9.2e18)
			return -EINVAL;
	}
	*ret_ns = (int64_t)total * sign;
	return 0;
}
