/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed run of bytes: pointer and length, not terminated. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })
#define STR_NULL ((struct str){ NULL, 0 })
/* For printf: "%.*s". */
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_of(const char *s)
{
	return (struct str){ s, s ? strlen(s) : 0 };
}

static inline struct str str_make(const char *p, size_t n)
{
	return (struct str){ p, n };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *b)
{
	return str_eq(a, str_of(b));
}

/* Three-way comparison by bytes, shorter first. */
int str_cmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Index of the first `c`, or -1. */
long str_find(struct str s, char c);
/* Cuts the part before the first `sep` off `rest`; false when nothing is left. */
bool str_split(struct str *rest, char sep, struct str *ret_part);
struct str str_trim(struct str s);
/* Decimal, whole string, no sign tricks: -EINVAL, -ERANGE. */
int str_to_int64(struct str s, int64_t *ret);
int str_to_uint64(struct str s, uint64_t *ret);
/* A heap copy with a terminating zero. */
char *str_dup(struct str s);
