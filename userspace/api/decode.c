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
	struct decode_warnings *found; /* NULL: nobody asks */
	size_t n_duplicates;           /* of `found`: the first ones */
	struct err *err;               /* bare, the caller wraps it */
};

/* The kind of the parameters of a request, for errors. */
static struct api_kind options_kind(const char *name)
{
	return (struct api_kind){ .group = "meta.k8s.io", .version = "v1", .kind = name };
}

int decode_parse_field_validation(struct str text, const char *options, enum decode_field_validation *ret,
				  struct err *err)
{
	static const char *const values[] = { "", "Ignore", "Strict", "Warn", NULL };
	_cleanup_field_errors_ struct field_errors errors = FIELD_ERRORS_INIT;
	struct api_kind kind = options_kind(options);

	if (!text.n || str_is(text, "Warn"))
		*ret = DECODE_WARN;
	else if (str_is(text, "Ignore"))
		*ret = DECODE_IGNORE;
	else if (str_is(text, "Strict"))
		*ret = DECODE_STRICT;
	else
		field_not_supported(&errors, FIELD(NULL, "fieldValidation"), text, values);
	return field_errors_result(&errors, &kind, STR(""), err);
}

int decode_parse_dry_run(const struct str *values, size_t n, const char *options, bool *ret, struct err *err)
{
	_cleanup_buf_ struct buf shown = BUF_INIT;
	bool all = true;

	for (size_t i = 0; i < n; i++) {
		all &= str_is(values[i], "All");
		buf_printf(&shown, "%s\"%.*s\"", i ? ", " : "", STR_ARG(values[i]));
	}
	if (!all) {
		err_set_status(
			err, -EINVAL, 422, "Invalid",
			"%s.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{%s}: supported values: "
			"\"All\"",
			options, buf_cstr(&shown));
		err_set_details(err, "meta.k8s.io", options, "");
		err_add_cause(err, "FieldValueNotSupported", "dryRun",
			      "Unsupported value: []string{%s}: supported values: \"All\"", buf_cstr(&shown));
		return -EINVAL;
	}
	*ret = n > 0;
	return 0;
}

/* ---- the walk ---- */

static int walk_message(struct decoder *d, const struct api_message *m, struct json *object,
			const struct field_path *path);
static int walk_value(struct decoder *d, const struct api_message *in, const struct api_field *f, struct json *v,
		      const struct field_path *path);

static void note(struct decode_warnings *w, struct str text, const char *at)
{
	if (w->n >= DECODE_WARNINGS_MAX)
		return;
	w->items[w->n] = text;
	w->at[w->n++] = at;
}

static void path_text(struct buf *out, const struct field_path *path)
{
	if (!path)
		return;
	path_text(out, path->up);
	if (path->type == FIELD_PATH_INDEX)
		buf_printf(out, "[%zu]", (size_t)path->index);
	else
		buf_printf(out, "%s%.*s", path->up ? "." : "", STR_ARG(path->name));
}

/* Of what is unknown, and of what no schema describes, duplicates are not told. */
static void forget_duplicates(struct decoder *d, struct str path)
{
	struct decode_warnings *w = d->found;
	size_t kept = 0;

	for (size_t i = 0; i < w->n; i++) {
		struct str rest = w->items[i], prefix = STR("duplicate field \"");
		bool drop = false;

		if (i < d->n_duplicates && str_starts(rest, prefix)) {
			rest = str_make(rest.p + prefix.n, rest.n - prefix.n);
			drop = str_starts(rest, path) && rest.n > path.n && strchr("\".[", rest.p[path.n]);
		}
		if (drop)
			continue;
		w->items[kept] = w->items[i];
		w->at[kept++] = w->at[i];
	}
	d->n_duplicates -= w->n - kept;
	w->n = kept;
}

static void note_unknown(struct decoder *d, const struct field_path *path)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (!d->found || d->found->n >= DECODE_WARNINGS_MAX)
		return;
	path_text(&text, path);
	if (d->n_duplicates)
		forget_duplicates(d, buf_str(&text));
	note(d->found, str_of(arena_printf(d->arena, "unknown field \"%.*s\"", STR_ARG(buf_str(&text)))), path->name.p);
}

static void note_raw(struct decoder *d, const struct field_path *path)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	path_text(&text, path);
	buf_add_char(&text, '.');
	forget_duplicates(d, str_make(buf_str(&text).p, buf_len(&text) - 1));
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

	if (f->type == API_RAW && d->n_duplicates)
		note_raw(d, path);
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

/* Paths as their elements compare: "." before everything. */
static int compare_paths(struct str a, struct str b)
{
	for (size_t i = 0; i < a.n && i < b.n; i++) {
		int x = a.p[i] == '.' ? 1 : (unsigned char)a.p[i], y = b.p[i] == '.' ? 1 : (unsigned char)b.p[i];

		if (x != y)
			return x - y;
	}
	return (a.n > b.n) - (a.n < b.n);
}

/* Into the order of the body. YAML is read by way of maps, whose members have the order of their names. */
static void sort(struct decode_warnings *w, size_t n_duplicates)
{
	for (size_t i = w->yaml ? n_duplicates + 1 : 1; i < w->n; i++) {
		struct str item = w->items[i];
		const char *at = w->at[i];
		size_t to = i, first = w->yaml ? n_duplicates : 0;

		for (; to > first && (w->yaml ? compare_paths(item, w->items[to - 1]) < 0 : at < w->at[to - 1]); to--) {
			w->items[to] = w->items[to - 1];
			w->at[to] = w->at[to - 1];
		}
		w->items[to] = item;
		w->at[to] = at;
	}
}

/* "strict decoding error: a, b" in the arena, or NULL. */
static const char *strict_error(struct arena *arena, const struct decode_warnings *found)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	bool lines = found->n && found->yaml && str_starts(found->items[0], STR("line "));

	if (!found->n)
		return NULL;
	buf_add_cstr(&text, "strict decoding error: ");
	if (lines)
		buf_add_cstr(&text, "yaml: unmarshal errors:\n  ");
	for (size_t i = 0; i < found->n; i++) {
		lines = lines && str_starts(found->items[i], STR("line "));
		if (i)
			buf_add_cstr(&text, lines ? "\n  " : ", ");
		buf_add_str(&text, found->items[i]);
	}
	return arena_strdup(arena, buf_cstr(&text));
}

/* ---- text ---- */

#define BODY_SHOWN_BYTES_MAX 30

/* The begin of a body in an error: JSON as it is, everything else in hex. */
static const char *summary(struct arena *arena, struct str body)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	size_t n = body.n < BODY_SHOWN_BYTES_MAX ? body.n : BODY_SHOWN_BYTES_MAX;

	if (!body.n)
		return "<empty>";
	if (body.p[0] == '{')
		buf_add(&out, body.p, n);
	else
		for (size_t i = 0; i < n; i++)
			buf_printf(&out, "%02x", (unsigned char)body.p[i]);
	if (n < body.n)
		buf_add_cstr(&out, " ...");
	return arena_strdup(arena, buf_cstr(&out));
}

static int parse_error(struct arena *arena, const struct api_kind *kind, struct str body, bool json, int r,
		       struct err *cause, struct err *err)
{
	const char *what = json ? "couldn't get version/kind; json parse error: " : "";

	if (r == -E2BIG)
		return err_set_status(err, -E2BIG, 413, "RequestEntityTooLarge", "Request entity too large: %s",
				      err_message(cause));
	if (!kind)
		return err_set_status(err, -EINVAL, 400, "BadRequest", "%s%s", what, err_message(cause));
	return err_set_status(err, -EINVAL, 400, "BadRequest",
			      "the object provided is unrecognized (must be of type %s): %s%s (%s)", kind->kind, what,
			      err_message(cause), summary(arena, body));
}

/* JSON or YAML; what is there twice is added to `found`, unless that is NULL. */
static int parse_text(struct arena *arena, struct str text, bool yaml, struct decode_warnings *found, struct json **ret,
		      struct err *err)
{
	struct str paths[DECODE_WARNINGS_MAX];
	const char *at[DECODE_WARNINGS_MAX];
	struct json_duplicates dups = { .paths = paths, .at = at, .max = found ? DECODE_WARNINGS_MAX : 0 };
	int r;

	if (yaml)
		r = yaml_parse_report(arena, text, &dups, ret, err);
	else if (found)
		r = json_parse_report(arena, text, &dups, ret, err);
	else
		r = json_parse(arena, text, 0, ret, err);
	for (size_t i = 0; r >= 0 && i < dups.n; i++)
		note(found,
		     yaml ? paths[i] : str_of(arena_printf(arena, "duplicate field \"%.*s\"", STR_ARG(paths[i]))),
		     yaml ? NULL : at[i]);
	return r;
}

static int parse(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		 struct decode_warnings *found, struct json **ret, struct err *err)
{
	_cleanup_err_ struct err cause = ERR_INIT;
	bool yaml = media == DECODE_YAML;
	struct json *tree;
	int r;

	if (text.n > DECODE_BYTES_MAX)
		return err_set_status(err, -E2BIG, 413, "RequestEntityTooLarge",
				      "Request entity too large: limit is %d", DECODE_BYTES_MAX);
	if (media == DECODE_PROTOBUF)
		return pb_decode(arena, kind, text, ret, err);
	if (found)
		found->yaml = yaml;
	r = parse_text(arena, text, yaml, found, &tree, &cause);
	if (r < 0)
		return parse_error(arena, kind, text, !yaml, r, &cause, err);
	if (tree->type != JSON_OBJECT) {
		err_set(&cause, -EINVAL,
			"json: cannot unmarshal %s into Go value of type struct { APIVersion string "
			"\"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
			decode_json_word(tree));
		return parse_error(arena, kind, text, true, -EINVAL, &cause, err);
	}
	*ret = tree;
	return 0;
}

int decode_parse(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		 enum decode_field_validation validation, struct decode_warnings *warnings, struct json **ret,
		 struct err *err)
{
	struct decode_warnings own;
	struct json *tree;
	int r;

	own.n = 0;
	if (!warnings && validation == DECODE_STRICT)
		warnings = &own;
	r = parse(arena, kind, text, media, validation != DECODE_IGNORE ? warnings : NULL, &tree, err);
	if (r < 0)
		return r;
	if (warnings == &own && own.n)
		return kind ? bad_request(kind, err, strict_error(arena, &own))
			    : err_set_status(err, -EINVAL, 400, "BadRequest", "%s", strict_error(arena, &own));
	*ret = tree;
	return 0;
}

/* ---- trees ---- */

/* Upstream names the types of its implementation: packages are called as the first part of the group. */
static int wrong_kind(const struct api_kind *kind, struct str found, struct err *err)
{
	const char *package = *kind->group ? kind->group : "core";

	if (!api_kind_by_kind(str_of(kind->group), str_of(kind->version), found))
		return err_set_status(
			err, -EINVAL, 400, "BadRequest",
			"%.*s in version \"%s\" cannot be handled as a %s: no kind \"%.*s\" is registered for "
			"version \"%s\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
			STR_ARG(found), kind->version, kind->kind, STR_ARG(found), kind->api_version);
	return err_set_status(
		err, -EINVAL, 400, "BadRequest",
		"%.*s in version \"%s\" cannot be handled as a %s: converting (%s.%.*s) to (%.*s.%s): unknown "
		"conversion",
		STR_ARG(found), kind->version, kind->kind, kind->version, STR_ARG(found), (int)strcspn(package, "."),
		package, kind->kind);
}

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
		return wrong_kind(kind, str_make(name->text.p, name->text.n > 256 ? 256 : name->text.n), err);
	if (!json_str(api_version).n)
		json_set_cstr(arena, tree, "apiVersion", kind->api_version);
	if (!json_str(name).n)
		json_set_cstr(arena, tree, "kind", kind->kind);
	return 0;
}

/* The walk with its words; `warnings` may already hold duplicates. */
static int fit(struct arena *arena, const struct api_message *message, const char *what, const char *version,
	       struct json *tree, enum decode_field_validation validation, struct decode_warnings *warnings,
	       struct err *err)
{
	_cleanup_err_ struct err cause = ERR_INIT;
	struct decode_warnings own;
	struct decoder d = { .arena = arena, .found = warnings, .err = &cause };
	const char *why = NULL;

	if (validation == DECODE_IGNORE || (!warnings && validation == DECODE_WARN)) {
		d.found = NULL;
	} else if (!warnings) {
		own.n = 0;
		own.yaml = false;
		d.found = &own;
	}
	d.n_duplicates = d.found ? d.found->n : 0;
	if (walk_message(&d, message, tree, NULL) < 0)
		why = err_message(&cause);
	else if (d.found && d.found->n)
		sort(d.found, d.n_duplicates);
	if (!why && validation == DECODE_STRICT)
		why = strict_error(arena, d.found);
	if (why)
		return err_set_status(err, -EINVAL, 400, "BadRequest",
				      "%s in version \"%s\" cannot be handled as a %s: %s", what, version, what, why);
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
	return fit(arena, kind->message, kind->kind, kind->version, tree, validation, warnings, err);
}

int decode_text(struct arena *arena, const struct api_kind *kind, struct str text, enum decode_media media,
		enum decode_field_validation validation, struct decode_warnings *warnings, struct json **ret,
		struct err *err)
{
	struct decode_warnings own;
	struct json *tree;
	int r;

	own.n = 0;
	own.yaml = false;
	if (!warnings)
		warnings = &own;
	r = decode_parse(arena, kind, text, media, validation, warnings, &tree, err);
	if (r >= 0)
		r = decode_tree(arena, kind, tree, validation, warnings, err);
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
	return fit(arena, message, what, "v1", tree, validation, warnings, err);
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
