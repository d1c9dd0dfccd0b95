/* SPDX-License-Identifier: Apache-2.0 */
/* Kubernetes quantities ("100m", "1.5Gi", "2e3"): exact, as upstream's: at most 2^63-1 (more is cut to
 * that), not finer than one nano (rounded away from zero), and one canonical text per value and format.
 * Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/str.h"

enum quantity_format { QUANTITY_DECIMAL_SI, QUANTITY_BINARY_SI, QUANTITY_DECIMAL_EXPONENT };

/* Quantities live in arenas, which align to 8. */
typedef __int128 quantity_nano __attribute__((aligned(8)));

struct quantity {
	quantity_nano nano; /* the value times 10^9 */
	enum quantity_format format;
};

#define QUANTITY_TEXT_MAX 64
#define QUANTITY_INPUT_MAX 512 /* longer text is no quantity */

/* -EINVAL: `quantities must match the regular expression '...'` and its siblings. */
int quantity_parse(struct str text, struct quantity *ret, struct err *err);
/* A JSON string or number; absent (NULL, null) is 0. */
int quantity_from_json(const struct json *v, struct quantity *ret, struct err *err);
/* The value of a JSON quantity that was validated: 0 when it is none. */
struct quantity quantity_of(const struct json *v);
struct quantity quantity_from_int(int64_t v, enum quantity_format format);
struct quantity quantity_from_milli(int64_t v, enum quantity_format format);

/* Canonical text, zero-terminated; returns the length. */
size_t quantity_format(const struct quantity *q, char ret[static QUANTITY_TEXT_MAX]);
struct str quantity_text(struct arena *arena, const struct quantity *q);
/* Text to its canonical form ("0.5" -> "500m", "1024Ki" -> "1Mi"). */
int quantity_canonical(struct arena *arena, struct str text, struct str *ret, struct err *err);

int quantity_cmp(const struct quantity *a, const struct quantity *b);
static inline bool quantity_is_zero(const struct quantity *q)
{
	return q->nano == 0;
}
/* The format of the first stays, unless it is zero. Results are cut to the range. */
void quantity_add(struct quantity *a, const struct quantity *b);
void quantity_sub(struct quantity *a, const struct quantity *b);
/* Whole units and thousandths, rounded up (away from zero), cut to int64. */
int64_t quantity_value(const struct quantity *q);
int64_t quantity_milli_value(const struct quantity *q);
