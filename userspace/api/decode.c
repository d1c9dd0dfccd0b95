/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing, and the walk that makes a raw tree fit a schema. See decode.h. The tree is changed in place; lists are
 * relinked while they are walked, so that dropping members stays linear. No state; any thread. */
#include "userspace/api/decode.h"

#include <errno.h>

#include "userspace/api/decode_value.h"
#include "userspace/api/pb.h"
#include "userspace/api/validate.h"
#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"

struct decoder {
	struct arena *arena;
	struct decode_warnings found; /* unknown fields, also when nobody asked for warnings */
	bool report;
	struct err *err; /* bare, the caller wraps it */
};

int decode_parse_field_validation(struct str text, enum decode_field_validation *ret, struct err *err)
{
	if (!text.n || str_is(text, "Warn"))
		*ret = DECODE_WARN;
	else if (str_is(text, "Ignore"))
		*ret = DECODE_IGNORE;
	else if (str_is(text, "Strict"))
		*ret = DECODE_STRICT;
	else
		return err_set_status(err, -EINVAL, 422, "Invalid",
				      "fieldValidation: Unsupported value: \"%.*s\": supported values: \"Ignore\", "
				      "\"Warn\", \"Strict\"",
				      (int)(text.n > 64 ? 64 : text.n), text.p);
	return 0;
}

/* ---- the walk ---- */

static int walk_message(struct decoder *d, const struct api_message *m, struct json *object,
			const struct field_path *path);
static int walk_value(struct decoder *d, const struct api_message *in, const struct api_field *f, struct json *v,
		      const struct field_path *path);

static void note(struct decode_warnings *w, struct arena *arena, const char *what, struct str path)
{
	if (w->n < DECODE_WARNINGS_MAX)
		w->items[w->n++] = str_of(arena_printf(arena, "%s field \"%.*s\"", what, STR_ARG(path)));
}

static void note_unknown(struct decoder *d, const struct field_path *path)
{
	char text[FIELD_PATH_MAX];

	if (d->report && d->found.n < DECODE_WARNINGS_MAX)
		note(&d->found, d->arena, "unknown", str_make(text, field_path_render(path, text)));
}

/* What Go's zero value of an element or a map's value looks like. */
static void set_zero(const struct api_field *f, struct json *v)
{
	struct str key = v->key;
	struct json *next = v->next;

	*v = (struct json){ .type = JSON_NULL, .key = key, .next = next };
	switch (f->type) {
	case API_STRING:
	case API_BYTES:
		v->type = JSON_STRING;
		v->text = STR("");
		break;
	case API_QUANTITY:
		v->type = JSON_STRING;
		v->text = STR("0");
		break;
	case API_BOOL:
		v->type = JSON_BOOL;
		break;
	case API_INT32:
	case API_INT64:
	case API_DOUBLE:
	case API_INT_OR_STRING:
		v->type = JSON_NUMBER;
		v->text = STR("0");
		break;
	case API_OBJECT:
	case API_MAP:
		v->type = JSON_OBJECT;
		break;
	case API_ARRAY:
		v->type = JSON_ARRAY;
		break;
	default:
		break;
	}
}

static int walk_elements(struct decoder *d, const struct api_message *in, const struct api_field *f, struct json *v,
			 const struct field_path *path)
{
	size_t i = 0;

	json_foreach(it, v) {
		const struct field_path *at = v->type == JSON_ARRAY ? FIELD_INDEX(path, i) : FIELD_KEY(path, it->key);
		int r;

		if (it->type == JSON_NULL)
			set_zero(f->elem, it);
		r = walk_value(d, in, f->elem, it, at);
		if (r < 0)
			return r;
		i++;
	}
	return 0;
}

static int walk_value(struct decoder *d, const struct api_message *in, const struct api_field *f, struct json *v,
		      const struct field_path *path)
{
	enum json_type wanted = f->type == API_ARRAY ? JSON_ARRAY : JSON_OBJECT;

	if (f->type != API_OBJECT && f->type != API_ARRAY && f->type != API_MAP)
		return decode_value(d->arena, in, f, v, path, d->err);
	if (v->type != wanted)
		return decode_type_error(in, f, v, path, d->err);
	if (f->type == API_OBJECT)
		return walk_message(d, f->ref, v, path);
	return walk_elements(d, in, f, v, path);
}

/* Go leaves these out when it writes the object again. */
static bool is_omitted(const struct api_field *f, const struct json *v)
{
	return !f->required && (f->type == API_ARRAY || f->type == API_MAP) && !v->count;
}

static int walk_message(struct decoder *d, const struct api_message *m, struct json *object,
			const struct field_path *path)
{
	struct json *it = object->first, *next;

	object->first = object->last = NULL;
	object->count = 0;
	for (; it; it = next) {
		const struct api_field *f = api_message_field(m, it->key);
		int r;

		next = it->next;
		if (!f)
			note_unknown(d, FIELD_STR(path, it->key));
		if (!f || it->type == JSON_NULL)
			continue;
		r = walk_value(d, m, f, it, FIELD_STR(path, it->key));
		if (r < 0)
			return r;
		if (is_omitted(f, it))
			continue;
		it->next = NULL;
		if (object->last)
			object->last->next = it;
		else
			object->first = it;
		object->last = it;
		object->count++;
	}
	return 0;
}

/* ---- strictness and words ---- */

static int bad_request(const struct api_kind *kind, struct err *err, const char *why)
{
	return err_set_status(err, -EINVAL, 400, "BadRequest", "%s in version \"%s\" cannot be handled as a %s: %s",
			      kind->kind, kind->version, kind->kind, why);
}

/* "strict decoding error: a, b" in the arena, or NULL. */
static const char *strict_error(struct arena *arena, const struct decode_warnings *found)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	if (!found->n)
		return NULL;
	buf_add_cstr(&text, "strict decoding error: ");
	for (size_t i = 0; i < found->n; i++) {
		if (i)
			buf_add_cstr(&text, ", ");
		buf_add_str(&text, found->items[i]);
	}
	return arena_strdup(arena, buf_cstr(&text));
}

static void add_warnings(struct decode_warnings *to, const struct decode_warnings *from)
{
	for (size_t i = 0; to && i < from->n && to->n < DECODE_WARNINGS_MAX; i++)
		to->items[to->n++] = from->items[i];
}

/* ---- text ---- */

static int parse_error(const struct api_kind *kind, int r, struct err *cause, struct err *err)
{
	if (r == -E2BIG)
		return err_set_status(err, -E2BIG, 413, "RequestEntityTooLarge", "Request entity too large: %s",
				      err_message(cause));
	if (!kind)
		return err_set_status(err, -EINVAL, 400, "BadRequest",
				      "couldn't get version/kind; json parse error: %s", err_message(cause));
	return err_set_status(
		err, -EINVAL, 400, "BadRequest",
		"the object provided is unrecognized (must be of type %s): couldn't get version/kind; json "
		"parse error: %s",
		kind->kind, err_message(cause));
}

/* Duplicates are added to `found` where `report` asks for it. */
static int parse(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		 bool report, struct decode_warnings *found, struct json **ret, struct err *err)
{
	_cleanup_err_ struct err cause = ERR_INIT;
	struct str paths[DECODE_WARNINGS_MAX];
	struct json_duplicates dups = { .paths = paths, .max = DECODE_WARNINGS_MAX };
	struct json *tree;
	int r;

	if (text.n > DECODE_BYTES_MAX)
		return err_set_status(err, -E2BIG, 413, "RequestEntityTooLarge",
				      "Request entity too large: limit is %d", DECODE_BYTES_MAX);
	if (media == DECODE_PROTOBUF)
		return pb_decode(arena, kind, text, ret, err);
	if (media == DECODE_YAML)
		r = yaml_parse(arena, text, &tree, &cause);
	else if (report)
		r = json_parse_report(arena, text, &dups, &tree, &cause);
	else
		r = json_parse(arena, text, 0, &tree, &cause);
	if (r < 0)
		return parse_error(kind, r, &cause, err);
	if (tree->type != JSON_OBJECT) {
		err_set(&cause, -EINVAL,
			"json: cannot unmarshal %s into Go value of type struct { APIVersion string "
			"\"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
			decode_json_word(tree));
		return parse_error(kind, -EINVAL, &cause, err);
	}
	for (size_t i = 0; i < dups.n && i < dups.max; i++)
		note(found, arena, "duplicate", paths[i]);
	*ret = tree;
	return 0;
}

int decode_parse(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		 enum decode_field_validation validation, struct decode_warnings *warnings, struct json **ret,
		 struct err *err)
{
	struct decode_warnings found = { .n = 0 };
	struct json *tree;
	int r = parse(arena, kind, text, media, validation != DECODE_IGNORE, &found, &tree, err);

	if (r < 0)
		return r;
	if (validation == DECODE_STRICT && found.n)
		return kind ? bad_request(kind, err, strict_error(arena, &found))
			    : err_set_status(err, -EINVAL, 400, "BadRequest", "%s", strict_error(arena, &found));
	if (validation == DECODE_WARN)
		add_warnings(warnings, &found);
	*ret = tree;
	return 0;
}

/* ---- trees ---- */

/* apiVersion and kind must be the kind's; what is absent is filled in, in front. */
static int check_type_meta(struct arena *arena, const struct api_kind *kind, struct json *tree, struct err *err)
{
	struct json *api_version = json_get(tree, "apiVersion"), *name = json_get(tree, "kind");

	if (json_is(api_version, JSON_STRING) && api_version->text.n && !str_is(api_version->text, kind->api_version))
		return err_set_status(err, -EINVAL, 400, "BadRequest",
				      "the API version in the data (%.*s) does not match the expected API version (%s)",
				      (int)(api_version->text.n > 256 ? 256 : api_version->text.n), api_version->text.p,
				      kind->api_version);
	if (json_is(name, JSON_STRING) && name->text.n && !str_is(name->text, kind->kind))
		return err_set_status(
			err, -EINVAL, 400, "BadRequest",
			"%.*s in version \"%s\" cannot be handled as a %s: converting to (%s.%s): unknown "
			"conversion",
			(int)(name->text.n > 256 ? 256 : name->text.n), name->text.p, kind->version, kind->kind,
			*kind->group ? kind->group : "core", kind->kind);
	if (!json_str(api_version).n)
		json_set_cstr(arena, tree, "apiVersion", kind->api_version);
	if (!json_str(name).n)
		json_set_cstr(arena, tree, "kind", kind->kind);
	return 0;
}

/* The walk with its words; `found` may already hold duplicates. */
static int fit(struct arena *arena, const struct api_message *message, const char *what, const char *version,
	       struct json *tree, enum decode_field_validation validation, const struct decode_warnings *found,
	       struct decode_warnings *warnings, struct err *err)
{
	_cleanup_err_ struct err cause = ERR_INIT;
	struct decoder d = { .arena = arena, .report = validation != DECODE_IGNORE, .err = &cause };
	const char *why = NULL;

	if (found)
		d.found = *found;
	if (walk_message(&d, message, tree, NULL) < 0)
		why = err_message(&cause);
	else if (validation == DECODE_STRICT)
		why = strict_error(arena, &d.found);
	if (why)
		return err_set_status(err, -EINVAL, 400, "BadRequest",
				      "%s in version \"%s\" cannot be handled as a %s: %s", what, version, what, why);
	if (validation == DECODE_WARN)
		add_warnings(warnings, &d.found);
	return 0;
}

int decode_tree(struct arena *arena, const struct api_kind *kind, struct json *tree,
		enum decode_field_validation validation, struct decode_warnings *warnings, struct err *err)
{
	int r;

	if (!json_is(tree, JSON_OBJECT))
		return bad_request(kind, err, "the object is not a JSON object");
	r = check_type_meta(arena, kind, tree, err);
	if (r < 0)
		return r;
	return fit(arena, kind->message, kind->kind, kind->version, tree, validation, NULL, warnings, err);
}

int decode_text(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		enum decode_field_validation validation, struct decode_warnings *warnings, struct json **ret,
		struct err *err)
{
	struct decode_warnings found = { .n = 0 };
	struct json *tree;
	int r = parse(arena, kind, text, media, validation != DECODE_IGNORE, &found, &tree, err);

	if (r >= 0)
		r = check_type_meta(arena, kind, tree, err);
	if (r >= 0)
		r = fit(arena, kind->message, kind->kind, kind->version, tree, validation, &found, warnings, err);
	if (r < 0)
		return r;
	*ret = tree;
	return 0;
}

int decode_message(struct arena *arena, const struct api_message *message, const char *what, struct json *tree,
		   enum decode_field_validation validation, struct decode_warnings *warnings, struct err *err)
{
	if (!json_is(tree, JSON_OBJECT))
		return err_set_status(err, -EINVAL, 400, "BadRequest", "%s: the object is not a JSON object", what);
	return fit(arena, message, what, "v1", tree, validation, NULL, warnings, err);
}

int decode_type_meta(const struct json *tree, struct str *ret_group, struct str *ret_version, struct str *ret_kind,
		     struct err *err)
{
	struct str api_version = json_get_str(tree, "apiVersion"), kind = json_get_str(tree, "kind");

	if (!kind.n)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "Object 'Kind' is missing");
	if (!api_version.n)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "Object 'apiVersion' is missing");
	if (api_parse_api_version(api_version, ret_group, ret_version) < 0)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "unexpected GroupVersion string: %.*s",
				      (int)(api_version.n > 256 ? 256 : api_version.n), api_version.p);
	*ret_kind = kind;
	return 0;
}
