/* SPDX-License-Identifier: Apache-2.0 */
/* JSON (RFC 8259) as a mutable tree in an arena. Numbers keep their text, so an int64 above
 * 2^53 survives to the digit; member order is kept; strings without escapes point into the
 * text that was parsed, which must outlive the tree. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define JSON_DEPTH_MAX 1000    /* walks of trees are recursive: test_deep_data keeps them within a small stack */
#define JSON_NODES_MAX 4000000 /* one document */

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
	JSON_RAW /* text that was left as it is: from json_parse_keep() and json_new_raw() alone; written as it stands
		  */
};

struct json {
	enum json_type type;
	uint32_t count; /* children of arrays and objects */
	struct str key; /* when the parent is an object */
	struct json *next;
	union {
		struct str text; /* JSON_STRING: decoded UTF-8; JSON_NUMBER: the literal; JSON_RAW: JSON */
		bool boolean;
		struct {
			struct json *first, *last;
		};
	};
};

/* ---- reading text ---- */

enum json_parse_flags {
	/* Duplicate members are an error (else the last one wins, as in Go) */
	JSON_PARSE_STRICT_DUPLICATES = 1,
};

/* -EINVAL in the words of Go's decoder; -E2BIG past the limits above. */
int json_parse(struct arena *arena, struct str text, unsigned flags, struct json **ret, struct err *err);

/* Members given twice are reported here as "a.b.c" paths, at most `max` (fieldValidation=Warn). */
struct json_duplicates {
	struct str *paths;
	const char **at; /* where their names stand in the text (not of names with escapes), or NULL */
	size_t n, max;
};
int json_parse_report(struct arena *arena, struct str text, struct json_duplicates *dups, struct json **ret,
		      struct err *err);

/* Values that are not worth a tree where nobody looks at them stay JSON_RAW: those of the member `key` of any object,
 * or with `parent` those of the member `key` of the document's member `parent`. The text must be trusted: what is
 * left out is not judged. */
struct json_keep {
	const char *parent, *key;
};
int json_parse_keep(struct arena *arena, struct str text, const struct json_keep *keep, struct json **ret,
		    struct err *err);

/* ---- looking ---- (every function takes NULL and wrong types: NULL, empty or the default) */

#define json_foreach(it, v) for (struct json *it = json_first(v); it; it = it->next)

static inline struct json *json_first(const struct json *v)
{
	return v && (v->type == JSON_ARRAY || v->type == JSON_OBJECT) ? v->first : NULL;
}

static inline bool json_is(const struct json *v, enum json_type type)
{
	return v && v->type == type;
}

struct json *json_get(const struct json *object, const char *key);
struct json *json_get_n(const struct json *object, struct str key);
/* "spec.template.metadata"; keys with dots need json_get. */
struct json *json_at(const struct json *v, const char *dotted_path);
struct json *json_index(const struct json *array, size_t i);
struct str json_str(const struct json *v);
struct str json_get_str(const struct json *object, const char *key);
struct str json_at_str(const struct json *v, const char *dotted_path);
/* Integers in int64; fractions and overflow: the default. */
int64_t json_int(const struct json *v, int64_t otherwise);
int64_t json_get_int(const struct json *object, const char *key, int64_t otherwise);
int64_t json_at_int(const struct json *v, const char *dotted_path, int64_t otherwise);
double json_double(const struct json *v, double otherwise);
bool json_bool(const struct json *v, bool otherwise);
bool json_get_bool(const struct json *object, const char *key, bool otherwise);
bool json_at_bool(const struct json *v, const char *dotted_path, bool otherwise);
size_t json_count(const struct json *v);
/* Deep; objects compare without regard to order, numbers by value, JSON_RAW by its bytes. */
bool json_equal(const struct json *a, const struct json *b);

/* ---- building ---- (strings are borrowed: literals, or arena memory) */

struct json *json_new(struct arena *arena, enum json_type type);
struct json *json_new_object(struct arena *arena);
struct json *json_new_array(struct arena *arena);
struct json *json_new_str(struct arena *arena, struct str s);
struct json *json_new_cstr(struct arena *arena, const char *s);
struct json *json_new_printf(struct arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct json *json_new_raw(struct arena *arena, struct str json_text);
struct json *json_new_int(struct arena *arena, int64_t v);
struct json *json_new_bool(struct arena *arena, bool v);
struct json *json_clone(struct arena *arena, const struct json *v);      /* deep, strings shared; key dropped */
struct json *json_clone_deep(struct arena *arena, const struct json *v); /* strings copied into the arena too */

/* Replaces in place or appends; `v` must not have another parent. `key` is borrowed. */
void json_set(struct json *object, const char *key, struct json *v);
void json_set_n(struct json *object, struct str key, struct json *v);
void json_set_str(struct arena *arena, struct json *object, const char *key, struct str s);
void json_set_cstr(struct arena *arena, struct json *object, const char *key, const char *s);
void json_set_int(struct arena *arena, struct json *object, const char *key, int64_t v);
void json_set_bool(struct arena *arena, struct json *object, const char *key, bool v);
/* The member, made as an empty object or array when absent (or null or another type). */
struct json *json_ensure_object(struct arena *arena, struct json *object, const char *key);
struct json *json_ensure_array(struct arena *arena, struct json *object, const char *key);
void json_append(struct json *array, struct json *v);
void json_prepend(struct json *array, struct json *v);
/* Unlinks and returns it, NULL when absent. */
struct json *json_remove(struct json *object, const char *key);
struct json *json_remove_n(struct json *object, struct str key);
/* Unlinks `child` of an array or object. */
void json_unlink(struct json *parent, struct json *child);
/* Exchanges the contents of a node (its key and place stay). */
void json_replace(struct json *at, const struct json *with);

/* ---- writing text ---- */

void json_write(struct buf *out, const struct json *v);        /* no blanks */
void json_write_pretty(struct buf *out, const struct json *v); /* two blanks a level */
void json_write_str(struct buf *out, struct str s);            /* quoted and escaped */
struct str json_text(struct arena *arena, const struct json *v);
