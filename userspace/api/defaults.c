/* SPDX-License-Identifier: Apache-2.0 */
/* The walk that fills in defaults. See defaults.h. Defaults are small texts in the tables; they are parsed when they
 * are put in. No state; any thread. */
#include "userspace/api/defaults.h"

#include <stdlib.h>

#include "userspace/api/hooks.h"
#include "userspace/base/mem.h"

static void walk_message(struct arena *arena, const struct api_message *m, struct json *object);

/* The text lives in the tables, so the tree may point into it. */
static struct json *default_value(struct arena *arena, const struct api_field *f)
{
	struct json *v = NULL;

	if (f->default_json[0] == '"')
		return json_new_str(arena, str_make(f->default_json + 1, strlen(f->default_json) - 2));
	if (json_parse(arena, str_of(f->default_json), 0, &v, NULL) < 0)
		abort(); /* kindgen wrote it */
	return v;
}

static void walk_value(struct arena *arena, const struct api_field *f, struct json *v)
{
	if (f->type == API_OBJECT && v->type == JSON_OBJECT) {
		walk_message(arena, f->ref, v);
	} else if ((f->type == API_ARRAY || f->type == API_MAP) &&
		   (f->elem->type == API_OBJECT || f->elem->type == API_ARRAY || f->elem->type == API_MAP)) {
		json_foreach(it, v)
			walk_value(arena, f->elem, it);
	}
}

/* Whether the default has to be put in. */
static bool wanted(const struct api_field *f, const struct json *v)
{
	if (!v)
		return true;
	if (!f->default_zero)
		return false;
	return v->type == JSON_STRING ? !v->text.n : v->type == JSON_NUMBER && json_int(v, 1) == 0;
}

/* In Go a spec and a template are structs and hence always there: what was left out, or null, is judged as an empty
 * one. (So are others; they are only spared the bytes.) */
static bool ensured(const struct api_field *f)
{
	static const char *const names[] = { "spec", "template", "jobTemplate", "podSelector" };

	for (size_t i = 0; f->value && i < ARRAY_SIZE(names); i++)
		if (strcmp(f->name, names[i]) == 0)
			return true;
	return false;
}

static void walk_message(struct arena *arena, const struct api_message *m, struct json *object)
{
	/* Absent ones first, so that a default that is an object is walked with the rest. */
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct api_field *f = &m->fields[i];

		if (ensured(f))
			json_ensure_object(arena, object, f->name);
		if (f->default_json && wanted(f, json_get(object, f->name)))
			json_set(object, f->name, default_value(arena, f));
	}
	json_foreach(it, object) {
		const struct api_field *f;

		if (it->type != JSON_OBJECT && it->type != JSON_ARRAY)
			continue;
		f = api_message_field(m, it->key);
		if (f)
			walk_value(arena, f, it);
	}
}

void defaults_apply_message(struct arena *arena, const struct api_message *message, struct json *object)
{
	if (json_is(object, JSON_OBJECT))
		walk_message(arena, message, object);
}

void defaults_apply(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	defaults_apply_message(arena, kind->message, object);
	hooks_defaults(arena, kind, object);
}
