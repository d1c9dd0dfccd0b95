/* SPDX-License-Identifier: Apache-2.0 */
/* Field errors: rendering of paths and values, and the final 422. See validate.h. No state; any thread. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "userspace/api/validate.h"
#include "userspace/base/mem.h"

#define VALUE_SHOWN_MAX 1024 /* bytes of a bad value that a message repeats */

/* ---- paths ---- */

static void path_add(char *ret, size_t *at, const char *p, size_t n)
{
	if (n > FIELD_PATH_MAX - 1 - *at)
		n = FIELD_PATH_MAX - 1 - *at;
	memcpy(ret + *at, p, n);
	*at += n;
}

static void path_render(const struct field_path *path, char *ret, size_t *at)
{
	char digits[24];

	if (!path)
		return;
	path_render(path->up, ret, at);
	switch (path->type) {
	case FIELD_PATH_NAME:
		if (*at)
			path_add(ret, at, ".", 1);
		path_add(ret, at, path->name.p, path->name.n);
		break;
	case FIELD_PATH_INDEX:
		path_add(ret, at, digits, (size_t)snprintf(digits, sizeof(digits), "[%zu]", path->index));
		break;
	case FIELD_PATH_KEY:
		path_add(ret, at, "[", 1);
		path_add(ret, at, path->name.p, path->name.n);
		path_add(ret, at, "]", 1);
		break;
	}
}

size_t field_path_render(const struct field_path *path, char ret[static FIELD_PATH_MAX])
{
	size_t at = 0;

	path_render(path, ret, &at);
	if (!at)
		path_add(ret, &at, "<nil>", 5);
	ret[at] = 0;
	return at;
}

/* ---- findings ---- */

void field_errors_finish(struct field_errors *e)
{
	if (!e)
		return;
	err_finish(&e->err);
	e->n = 0;
}

static void add(struct field_errors *e, const char *reason, const struct field_path *path, struct buf *message)
{
	char field[FIELD_PATH_MAX];

	e->n++;
	field_path_render(path, field);
	err_add_cause(&e->err, reason, field, "%s", buf_cstr(message));
}

/* Findings beyond those that are kept are counted, not worded. */
static bool only_counted(struct field_errors *e)
{
	if (e->err.n_causes < ERR_CAUSES_MAX)
		return false;
	e->n++;
	return true;
}

/* ": detail", or nothing. */
static void add_detail(struct buf *out, const char *fmt, va_list ap)
{
	char *detail = NULL;

	if (!fmt || !*fmt)
		return;
	if (vasprintf(&detail, fmt, ap) < 0)
		return;
	buf_add_cstr(out, ": ");
	buf_add_cstr(out, detail);
	free(detail);
}

static void add_quoted(struct buf *out, struct str s)
{
	if (s.n > VALUE_SHOWN_MAX) {
		/* Not inside a UTF-8 sequence. */
		for (s.n = VALUE_SHOWN_MAX; s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80;)
			s.n--;
	}
	json_write_str(out, s);
}

/* As json_write(), of which nobody sees more than the begin: a long list may be shown by many findings. */
static void write_begin(struct buf *out, const struct json *v)
{
	bool object = v->type == JSON_OBJECT;

	if (v->type == JSON_STRING) {
		json_write_str(out, str_make(v->text.p, v->text.n > VALUE_SHOWN_MAX ? VALUE_SHOWN_MAX : v->text.n));
		return;
	}
	if (!object && v->type != JSON_ARRAY) {
		json_write(out, v);
		return;
	}
	buf_add_char(out, object ? '{' : '[');
	json_foreach(c, v) {
		if (buf_len(out) > VALUE_SHOWN_MAX)
			return;
		if (c != v->first)
			buf_add_char(out, ',');
		if (object) {
			json_write_str(out, c->key);
			buf_add_char(out, ':');
		}
		write_begin(out, c);
	}
	buf_add_char(out, object ? '}' : ']');
}

static void add_value(struct buf *out, const struct json *v)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;
	struct str s;

	if (json_is(v, JSON_STRING)) {
		add_quoted(out, v->text);
		return;
	}
	if (!v) {
		buf_add_cstr(out, "null");
		return;
	}
	write_begin(&text, v);
	s = buf_str(&text);
	buf_add(out, s.p, s.n > VALUE_SHOWN_MAX ? VALUE_SHOWN_MAX : s.n);
	if (s.n > VALUE_SHOWN_MAX)
		buf_add_cstr(out, "...");
}

void field_required(struct field_errors *e, const struct field_path *path, const char *detail, ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Required value");
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "FieldValueRequired", path, &m);
}

void field_invalid(struct field_errors *e, const struct field_path *path, const struct json *value, const char *detail,
		   ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Invalid value: ");
	add_value(&m, value);
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "FieldValueInvalid", path, &m);
}

void field_invalid_unshown(struct field_errors *e, const struct field_path *path, const char *detail, ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Invalid value");
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "FieldValueInvalid", path, &m);
}

void field_invalid_str(struct field_errors *e, const struct field_path *path, struct str value, const char *detail, ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Invalid value: ");
	add_quoted(&m, value);
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "FieldValueInvalid", path, &m);
}

void field_invalid_int(struct field_errors *e, const struct field_path *path, int64_t value, const char *detail, ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_printf(&m, "Invalid value: %" PRId64, value);
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "FieldValueInvalid", path, &m);
}

void field_not_supported(struct field_errors *e, const struct field_path *path, struct str value,
			 const char *const *supported)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Unsupported value: ");
	add_quoted(&m, value);
	for (size_t i = 0; supported && supported[i]; i++) {
		buf_add_cstr(&m, i ? ", " : ": supported values: ");
		json_write_str(&m, str_of(supported[i]));
	}
	add(e, "FieldValueNotSupported", path, &m);
}

void field_duplicate(struct field_errors *e, const struct field_path *path, const struct json *value)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Duplicate value: ");
	add_value(&m, value);
	add(e, "FieldValueDuplicate", path, &m);
}

void field_duplicate_str(struct field_errors *e, const struct field_path *path, struct str value)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Duplicate value: ");
	add_quoted(&m, value);
	add(e, "FieldValueDuplicate", path, &m);
}

void field_forbidden(struct field_errors *e, const struct field_path *path, const char *detail, ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Forbidden");
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "FieldValueForbidden", path, &m);
}

void field_not_found(struct field_errors *e, const struct field_path *path, struct str value)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Not found: ");
	add_quoted(&m, value);
	add(e, "FieldValueNotFound", path, &m);
}

void field_too_long(struct field_errors *e, const struct field_path *path, size_t max)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;

	if (only_counted(e))
		return;
	buf_printf(&m, "Too long: may not be more than %zu bytes", max);
	add(e, "FieldValueTooLong", path, &m);
}

void field_too_many(struct field_errors *e, const struct field_path *path, size_t n, size_t max)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;

	if (only_counted(e))
		return;
	buf_printf(&m, "Too many: %zu: must have at most %zu item%s", n, max, max == 1 ? "" : "s");
	add(e, "FieldValueTooMany", path, &m);
}

void field_internal(struct field_errors *e, const struct field_path *path, const char *detail, ...)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	va_list ap;

	if (only_counted(e))
		return;
	buf_add_cstr(&m, "Internal error");
	va_start(ap, detail);
	add_detail(&m, detail, ap);
	va_end(ap);
	add(e, "InternalError", path, &m);
}

/* ---- the result ---- */

/* As upstream, the same finding is said once. */
static bool said_before(const struct err *err, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (!strcmp(err->causes[i].field, err->causes[j].field) &&
		    !strcmp(err->causes[i].message, err->causes[j].message))
			return true;
	return false;
}

int field_errors_result(struct field_errors *e, const struct api_kind *kind, struct str name, struct err *err)
{
	_cleanup_(buf_finish) struct buf m = BUF_INIT;
	_cleanup_free_ char *object = NULL;
	size_t said = 0;

	if (!e->n)
		return 0;
	for (size_t i = 0; i < e->err.n_causes; i++) {
		if (said_before(&e->err, i))
			continue;
		buf_printf(&m, "%s%s: %s", said++ ? ", " : "", e->err.causes[i].field, e->err.causes[i].message);
	}
	object = mem_strndup(name.p ? name.p : "", name.n);
	if (err) {
		err_set_status(err, -EINVAL, 422, "Invalid", "%s%s%s \"%s\" is invalid: %s%s%s", kind->kind,
			       *kind->group ? "." : "", kind->group, object, said > 1 ? "[" : "", buf_cstr(&m),
			       said > 1 ? "]" : "");
		err_set_details(err, kind->group, kind->kind, object);
		err->causes = TAKE_PTR(e->err.causes);
		err->n_causes = e->err.n_causes;
		e->err.n_causes = 0;
	}
	field_errors_finish(e);
	return -EINVAL;
}
