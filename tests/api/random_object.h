/* SPDX-License-Identifier: Apache-2.0 */
/* Random objects of every kind from its schema, in the form that decoding gives them: what is empty and what Go's
 * omitempty leaves out is left out, and everything else may be anything, the ends of its range above all. Objects
 * inside others have no type of their own, so that protobuf can carry them. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "userspace/api/kind.h"
#include "userspace/base/clock.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define RANDOM_DEPTH 6

/* xorshift64*: the same objects on every machine. */
struct random {
	uint64_t state;
	struct arena *arena;
};

static inline uint64_t random_next(struct random *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * UINT64_C(2685821657736338717);
}

static inline size_t random_below(struct random *r, size_t n)
{
	return (size_t)(random_next(r) >> 33) % n;
}

static inline struct json *random_message(struct random *r, const struct api_message *m, int depth);

/* "", short ones, ones whose length takes two bytes, and what JSON must escape. */
static inline struct str random_string(struct random *r, bool empty)
{
	static const char *const texts[] = {
		"a", "web-0", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\\/\b\f\n\r\t", "\x01", "0", "true",
		" ", "null"
	};
	_cleanup_buf_ struct buf b = BUF_INIT;
	size_t pick = random_below(r, ARRAY_SIZE(texts) + 2);

	if (empty && !random_below(r, 4))
		return STR("");
	if (pick < ARRAY_SIZE(texts))
		return str_of(texts[pick]);
	for (size_t n = pick == ARRAY_SIZE(texts) ? 127 + random_below(r, 3) : 300; n; n--)
		buf_add_char(&b, (char)('a' + random_below(r, 26)));
	return arena_str(r->arena, buf_str(&b));
}

static inline int64_t random_int(struct random *r, bool wide, bool zero)
{
	static const int64_t narrow[] = { 1, -1, 127, 128, 8080, INT32_MAX, INT32_MIN };
	static const int64_t far[] = { INT64_MAX, INT64_MIN, INT64_C(9007199254740993), -INT64_C(9007199254740993) };

	if (zero && !random_below(r, 4))
		return 0;
	if (wide && random_below(r, 2))
		return far[random_below(r, ARRAY_SIZE(far))];
	return narrow[random_below(r, ARRAY_SIZE(narrow))];
}

static inline struct json *random_time(struct random *r, bool micro)
{
	static const int64_t seconds[] = { 0, -1, 1, 1893456000, 4102444800, -2208988800 };
	char text[CLOCK_RFC3339_MAX];
	int64_t ns = seconds[random_below(r, ARRAY_SIZE(seconds))] * NS_PER_S;

	if (micro)
		clock_format_rfc3339_micro(ns + (int64_t)random_below(r, 1000000) * NS_PER_US, text);
	else
		clock_format_rfc3339(ns, text);
	return json_new_cstr(r->arena, arena_strdup(r->arena, text));
}

static inline struct json *random_any(struct random *r)
{
	static const char *const texts[] = { "{}",
					     "[]",
					     "{\"f:metadata\":{\"f:labels\":{}}}",
					     "[1,\"a\",null,true]",
					     "{\"a\":9223372036854775807,\"b\":[{\"c\":[[]]}]}",
					     "\"text\"",
					     "12",
					     "true" };
	struct json *v = NULL;

	if (json_parse(r->arena, str_of(texts[random_below(r, ARRAY_SIZE(texts))]), 0, &v, NULL) < 0)
		abort();
	return v;
}

/* `zero`: Go would write a zero here. */
static inline struct json *random_scalar(struct random *r, const struct api_field *f, bool zero)
{
	static const char *const quantities[] = { "0", "1", "1500m", "1Gi", "100n", "5E", "-5", "9223372036854775807" };
	static const char *const bytes[] = { "YQ==", "YWI=", "YWJj", "/+8=", "AAAA" };
	static const char *const doubles[] = { "0.5", "-1", "1e+300", "0.1", "5e-324" };
	struct json *v;

	switch (f->type) {
	case API_STRING:
		return json_new_str(r->arena, random_string(r, zero));
	case API_BOOL:
		return json_new_bool(r->arena, !zero || random_below(r, 2));
	case API_INT32:
	case API_INT64:
		return json_new_int(r->arena, random_int(r, f->type == API_INT64, zero));
	case API_DOUBLE:
		v = json_new(r->arena, JSON_NUMBER);
		v->text = str_of(doubles[random_below(r, ARRAY_SIZE(doubles))]);
		return v;
	case API_BYTES:
		return json_new_cstr(r->arena,
				     zero && !random_below(r, 4) ? "" : bytes[random_below(r, ARRAY_SIZE(bytes))]);
	case API_QUANTITY:
		return json_new_cstr(r->arena, quantities[random_below(r, ARRAY_SIZE(quantities))]);
	case API_INT_OR_STRING:
		return random_below(r, 2) ? json_new_int(r->arena, random_int(r, false, zero))
					  : json_new_str(r->arena, random_string(r, zero));
	case API_TIME:
	case API_MICRO_TIME:
		return random_time(r, f->type == API_MICRO_TIME);
	default:
		return random_any(r);
	}
}

/* NULL where recursion ends. `zero` as above. */
static inline struct json *random_value(struct random *r, const struct api_field *f, int depth, bool zero)
{
	struct json *v, *item;

	if (f->type == API_OBJECT)
		return depth ? random_message(r, f->ref, depth - 1) : NULL;
	if (f->type != API_ARRAY && f->type != API_MAP)
		return random_scalar(r, f, zero);
	v = json_new(r->arena, f->type == API_ARRAY ? JSON_ARRAY : JSON_OBJECT);
	for (size_t n = 1 + random_below(r, 3); n; n--) {
		item = random_value(r, f->elem, depth, true);
		if (!item)
			return NULL;
		if (f->type == API_ARRAY)
			json_append(v, item);
		else
			json_set_n(v, random_string(r, true), item);
	}
	return v;
}

/* Is it on the wire? */
static inline bool random_has_number(const struct api_message *m, const struct api_field *f)
{
	const struct api_field *inside;

	if (f->pb_number)
		return true;
	for (const struct api_pb_inline *i = m->pb_inline; i && i->number; i++) {
		inside = api_message_field(i->message, str_of(f->name));
		if (inside && inside->pb_number)
			return true;
	}
	return false;
}

static inline struct json *random_message(struct random *r, const struct api_message *m, int depth)
{
	struct json *object = json_new_object(r->arena);

	for (size_t i = 0; i < m->n_fields; i++) {
		const struct api_field *f = &m->fields[i];
		bool zero = f->pointer || f->required;
		struct json *v;

		/* A required scalar is always written in Go. */
		if (!random_has_number(m, f) || (!f->required && random_below(r, 100) >= (depth > 3 ? 80 : 40)))
			continue;
		v = random_value(r, f, depth, zero);
		if (v)
			json_set(object, f->name, v);
		else if (f->required && f->type == API_OBJECT)
			json_set(object, f->name, json_new_object(r->arena));
	}
	return object;
}

static inline struct json *random_object(struct random *r, const struct api_kind *k)
{
	struct json *v = random_message(r, k->message, RANDOM_DEPTH);

	json_set_cstr(r->arena, v, "apiVersion", k->api_version);
	json_set_cstr(r->arena, v, "kind", k->kind);
	return v;
}
