/* SPDX-License-Identifier: Apache-2.0 */
/* The walk of an object along its schema. What it knows: presence, enums, numeric limits, formats, unique lists,
 * immutable fields, label selectors and the metadata of templates. The status is the server's own and is not
 * judged. See validate.h. No state; any thread. */
#include <errno.h>
#include <stdlib.h>

#include "userspace/api/name_set.h"
#include "userspace/api/validate.h"

static const struct json empty_object = { .type = JSON_OBJECT };

static void walk_message(const struct api_message *m, const struct json *object, const struct json *old,
			 const struct field_path *path, struct field_errors *e);
static void walk_value(const struct api_field *f, const struct json *v, const struct json *old,
		       const struct field_path *path, struct field_errors *e);

static bool is_message(const struct api_message *m, const char *name)
{
	return m && !strcmp(m->name, name);
}

#define LABEL_SELECTOR "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"
#define OBJECT_META "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

/* ---- leaves ---- */

static bool in_enum(const struct api_field *f, struct str s)
{
	for (const char *const *v = f->enum_values; *v; v++)
		if (str_is(s, *v))
			return true;
	return false;
}

static void check_string(const struct api_field *f, struct str s, const struct field_path *path, struct field_errors *e)
{
	const char *why;

	/* Empty means absent; `presence` has judged that. */
	if (!s.n)
		return;
	/* With a format the enumeration is for readers. */
	if (f->enum_values && !f->format && !in_enum(f, s))
		field_not_supported(e, path, s, f->enum_values);
	if (!f->format)
		return;
	why = validate_format(f->format, s);
	if (why)
		field_invalid_str(e, path, s, "%s", why);
}

static void check_int(const struct api_field *f, int64_t v, const struct field_path *path, struct field_errors *e)
{
	if (v >= f->min && v <= f->max)
		return;
	if (f->max == UINT16_MAX) {
		field_invalid_int(e, path, v, "must be between 1 and 65535, inclusive");
		return;
	}
	if (f->min == 0 && f->max == 0777)
		field_invalid_int(e, path, v, "must be a number between 0 and 0777 (octal), both inclusive");
	else if (f->max != INT64_MAX)
		field_invalid_int(e, path, v, "must be between %lld and %lld, inclusive", (long long)f->min,
				  (long long)f->max);
	else if (f->min == 1)
		field_invalid_int(e, path, v, "must be greater than 0");
	else
		field_invalid_int(e, path, v, "must be greater than or equal to %lld", (long long)f->min);
}

/* ---- label selectors ---- */

static void check_selector(const struct json *selector, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	validate_labels(json_get(selector, "matchLabels"), FIELD(path, "matchLabels"), e);
	json_foreach(it, json_get(selector, "matchExpressions")) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "matchExpressions"), i++);
		struct str op = json_get_str(it, "operator"), key = json_get_str(it, "key");
		size_t n = json_count(json_get(it, "values")), j = 0;
		const char *why = validate_qualified_name(key);

		if (str_is(op, "In") || str_is(op, "NotIn")) {
			if (!n)
				field_required(e, FIELD(at, "values"),
					       "must be specified when `operator` is 'In' or 'NotIn'");
		} else if (str_is(op, "Exists") || str_is(op, "DoesNotExist")) {
			if (n)
				field_forbidden(e, FIELD(at, "values"),
						"may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
		} else {
			field_invalid_str(e, FIELD(at, "operator"), op, "not a valid selector operator");
		}
		if (why)
			field_invalid_str(e, FIELD(at, "key"), key, "%s", why);
		json_foreach(value, json_get(it, "values")) {
			why = validate_label_value(json_str(value));
			if (why)
				field_invalid_str(e, FIELD_INDEX(FIELD(at, "values"), j), json_str(value), "%s", why);
			j++;
		}
	}
}

/* ---- composites ---- */

/* Items of a list whose one key must not repeat. The last of two equal ones is told, as upstream does. */
static void check_unique(const struct api_field *f, const struct json *array, const struct field_path *path,
			 struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	if (!f->unique || json_count(array) < 2 || !f->list_keys)
		return;
	json_foreach(it, array) {
		const struct json *key = json_get(it, f->list_keys[0]);

		if (json_str(key).n && name_set_put(&seen, json_str(key), it) != it)
			field_duplicate(e, FIELD_STR(FIELD_INDEX(path, i), str_of(f->list_keys[0])), key);
		i++;
	}
}

static void walk_array(const struct api_field *f, const struct json *array, const struct field_path *path,
		       struct field_errors *e)
{
	size_t i = 0;

	json_foreach(it, array)
		walk_value(f->elem, it, NULL, FIELD_INDEX(path, i++), e);
	check_unique(f, array, path, e);
}

static void walk_object(const struct api_field *f, const struct json *v, const struct json *old,
			const struct field_path *path, struct field_errors *e)
{
	if (is_message(f->ref, OBJECT_META)) {
		/* Upstream leaves "metadata" out of the paths of templates of pods. */
		if (path && path->up && path->type == FIELD_PATH_NAME && str_ends(path->up->name, STR("template")) &&
		    str_is(path->name, "metadata"))
			path = path->up;
		validate_labels(json_get(v, "labels"), FIELD(path, "labels"), e);
		validate_annotations(json_get(v, "annotations"), FIELD(path, "annotations"), e);
	} else if (is_message(f->ref, LABEL_SELECTOR)) {
		check_selector(v, path, e);
	} else {
		walk_message(f->ref, v, old, path, e);
	}
}

static void walk_value(const struct api_field *f, const struct json *v, const struct json *old,
		       const struct field_path *path, struct field_errors *e)
{
	switch (f->type) {
	case API_STRING:
		check_string(f, json_str(v), path, e);
		break;
	case API_INT32:
	case API_INT64:
		check_int(f, json_int(v, 0), path, e);
		break;
	case API_OBJECT:
		walk_object(f, v, old, path, e);
		break;
	case API_ARRAY:
		walk_array(f, v, path, e);
		break;
	case API_MAP:
		json_foreach(it, v)
			walk_value(f->elem, it, NULL, FIELD_KEY(path, it->key), e);
		break;
	default:
		break;
	}
}

/* ---- messages ---- */

static bool is_empty(const struct json *v)
{
	if (!v || v->type == JSON_NULL)
		return true;
	if (v->type == JSON_STRING)
		return !v->text.n;
	if (v->type == JSON_NUMBER)
		return json_int(v, 1) == 0;
	return (v->type == JSON_ARRAY || v->type == JSON_OBJECT) && !v->count;
}

static void walk_field(const struct api_field *f, const struct json *v, const struct json *old,
		       const struct field_path *path, struct field_errors *e)
{
	if (json_is(v, JSON_NULL))
		v = NULL;
	if (f->immutable && old)
		validate_immutable(v, json_get(old, f->name), path, e);
	if ((f->presence == API_PRESENCE_NONEMPTY && is_empty(v)) || (f->presence == API_PRESENCE_SET && !v)) {
		field_required(e, path, NULL);
		return;
	}
	if (v) {
		walk_value(f, v, json_get(old, f->name), path, e);
		return;
	}
	/* Go's zero values: a struct that is not a pointer is there, a number is 0. */
	if (f->required && f->type == API_OBJECT)
		walk_object(f, &empty_object, NULL, path, e);
	else if (f->required && (f->type == API_INT32 || f->type == API_INT64))
		check_int(f, 0, path, e);
}

static void walk_message(const struct api_message *m, const struct json *object, const struct json *old,
			 const struct field_path *path, struct field_errors *e)
{
	json_foreach(it, object) {
		const struct api_field *f = api_message_field(m, it->key);

		if (f)
			walk_field(f, it, old, FIELD_STR(path, it->key), e);
	}
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct api_field *f = &m->fields[i];

		if ((f->required || f->presence || (f->immutable && old)) && !json_get(object, f->name))
			walk_field(f, NULL, old, FIELD_STR(path, str_of(f->name)), e);
	}
}

void validate_object(const struct api_kind *kind, const struct json *object, const struct json *old,
		     struct field_errors *e)
{
	validate_metadata(kind, object, old, e);
	for (size_t i = 0; i < kind->message->n_fields; i++) {
		const struct api_field *f = &kind->message->fields[i];

		if (!strcmp(f->name, "metadata") || !strcmp(f->name, "status") || !strcmp(f->name, "apiVersion") ||
		    !strcmp(f->name, "kind"))
			continue;
		walk_field(f, json_get(object, f->name), old, FIELD_STR(NULL, str_of(f->name)), e);
	}
}
