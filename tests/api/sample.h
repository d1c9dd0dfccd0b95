/* SPDX-License-Identifier: Apache-2.0 */
/* A sample of every kind, made from its schema: every field is there, with a value that validation takes. */
#pragma once

#include <string.h>

#include "userspace/api/kind.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

#define SAMPLE_DEPTH 7

static inline struct json *sample_message(struct arena *arena, const struct api_message *m, int depth);

static inline struct json *sample_string(struct arena *arena, const struct api_field *f)
{
	static const struct {
		const char *format, *text;
	} formats[] = {
		{ "ip", "10.0.0.1" },
		{ "cidr", "10.0.0.0/8" },
		{ "envName", "A_B" },
	};

	if (f->enum_values)
		return json_new_cstr(arena, f->enum_values[0]);
	for (size_t i = 0; f->format && i < ARRAY_SIZE(formats); i++)
		if (!strcmp(f->format, formats[i].format))
			return json_new_cstr(arena, formats[i].text);
	return json_new_cstr(arena, "a");
}

/* NULL where recursion ends. */
static inline struct json *sample(struct arena *arena, const struct api_field *f, int depth)
{
	struct json *v, *item;

	switch (f->type) {
	case API_STRING:
		return sample_string(arena, f);
	case API_BOOL:
		return json_new_bool(arena, true);
	case API_INT32:
	case API_INT64:
		return json_new_int(arena, f->min > 1 ? f->min : 1);
	case API_DOUBLE:
		return json_new_int(arena, 1);
	case API_BYTES:
		return json_new_cstr(arena, "YQ==");
	case API_QUANTITY:
		return json_new_cstr(arena, "1500m");
	case API_INT_OR_STRING:
		return json_new_int(arena, 8080);
	case API_TIME:
		return json_new_cstr(arena, "2026-01-02T03:04:05Z");
	case API_MICRO_TIME:
		return json_new_cstr(arena, "2026-01-02T03:04:05.000006Z");
	case API_RAW:
		return json_new_object(arena);
	case API_OBJECT:
		return depth ? sample_message(arena, f->ref, depth - 1) : NULL;
	case API_ARRAY:
	case API_MAP:
		item = sample(arena, f->elem, depth);
		if (!item)
			return NULL;
		v = json_new(arena, f->type == API_ARRAY ? JSON_ARRAY : JSON_OBJECT);
		if (f->type == API_ARRAY)
			json_append(v, item);
		else
			json_set(v, "a", item);
		return v;
	}
	return NULL;
}

static inline struct json *sample_message(struct arena *arena, const struct api_message *m, int depth)
{
	struct json *object = json_new_object(arena);

	for (size_t i = 0; i < m->n_fields; i++) {
		struct json *v = sample(arena, &m->fields[i], depth);

		if (v)
			json_set(object, m->fields[i].name, v);
	}
	return object;
}

/* Selectors have rules of their own. */
static inline void fix_operators(struct arena *arena, struct json *v)
{
	json_foreach(it, v) {
		if (str_is(it->key, "operator") && str_is(json_str(it), "a"))
			it->text = STR("In");
		fix_operators(arena, it);
	}
}

static inline struct json *sample_object(struct arena *arena, const struct api_kind *k)
{
	struct json *v = sample_message(arena, k->message, SAMPLE_DEPTH), *meta = json_get(v, "metadata");

	json_set_cstr(arena, v, "apiVersion", k->api_version);
	json_set_cstr(arena, v, "kind", k->kind);
	json_set_cstr(arena, meta, "name", k->name_rule == API_NAME_IP ? "10.0.0.1" : "a");
	if (k->name_rule == API_NAME_IP)
		json_remove(meta, "generateName");
	if (!k->namespaced)
		json_remove(meta, "namespace");
	json_set(meta, "finalizers", json_new_array(arena));
	json_append(json_get(meta, "finalizers"), json_new_cstr(arena, "a/b"));
	fix_operators(arena, v);
	return v;
}
