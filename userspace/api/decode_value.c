/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars. See decode_value.h. No state; any thread. */
#include "userspace/api/decode_value.h"

#include <errno.h>

#include "userspace/api/quantity.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define NUMBER_SHOWN_MAX 64
#define TEXT_SHOWN_MAX 128
#define TIME_TEXT_MAX 64

const char *decode_json_word(const struct json *v)
{
	static const char *const words[] = {
		[JSON_NULL] = "null",     [JSON_BOOL] = "bool",   [JSON_NUMBER] = "number",
		[JSON_STRING] = "string", [JSON_ARRAY] = "array", [JSON_OBJECT] = "object",
	};

	return words[v->type];
}

/* ---- Go's names ---- */

/* "io.k8s.api.core.v1.PodSpec" -> "v1.PodSpec" or, without the package, "PodSpec". */
static const char *go_name(const struct api_message *m, bool package)
{
	const char *p = m->name + strlen(m->name);
	int dots = package ? 2 : 1;

	while (p > m->name && (p[-1] != '.' || --dots > 0))
		p--;
	return p;
}

static void go_type(const struct api_field *f, struct buf *out)
{
	static const char *const names[] = {
		[API_STRING] = "string",
		[API_BOOL] = "bool",
		[API_INT32] = "int32",
		[API_INT64] = "int64",
		[API_DOUBLE] = "float64",
		[API_BYTES] = "[]uint8",
		[API_TIME] = "v1.Time",
		[API_MICRO_TIME] = "v1.MicroTime",
		[API_QUANTITY] = "resource.Quantity",
		[API_RAW] = "interface {}",
		[API_INT_OR_STRING] = "intstr.IntOrString",
	};

	if (f->type == API_ARRAY) {
		buf_add_cstr(out, "[]");
		go_type(f->elem, out);
	} else if (f->type == API_MAP && f->elem->type == API_QUANTITY) {
		buf_add_cstr(out, "v1.ResourceList");
	} else if (f->type == API_MAP) {
		buf_add_cstr(out, "map[string]");
		go_type(f->elem, out);
	} else {
		buf_add_cstr(out, f->type == API_OBJECT ? go_name(f->ref, true) : names[f->type]);
	}
}

/* Members only: Go does not tell places in lists and maps. */
static void go_path(const struct field_path *path, struct buf *out)
{
	if (!path)
		return;
	go_path(path->up, out);
	if (path->type != FIELD_PATH_NAME)
		return;
	buf_add_char(out, '.');
	buf_add_str(out, path->name);
}

int decode_type_error(const struct api_message *in, const struct api_field *f, const struct json *v,
		      const struct field_path *path, struct err *err)
{
	_cleanup_(buf_finish) struct buf where = BUF_INIT, type = BUF_INIT;
	bool number = v->type == JSON_NUMBER && (f->type == API_INT32 || f->type == API_INT64 || f->type == API_DOUBLE);

	go_path(path, &where);
	go_type(f, &type);
	return err_set(err, -EINVAL, "json: cannot unmarshal %s%s%.*s into Go struct field %s%s of type %s",
		       decode_json_word(v), number ? " " : "",
		       number ? (int)(v->text.n > NUMBER_SHOWN_MAX ? NUMBER_SHOWN_MAX : v->text.n) : 0,
		       number ? v->text.p : "", go_name(in, false), buf_cstr(&where), buf_cstr(&type));
}

static int go_value_error(const struct json *v, const char *type, struct err *err)
{
	return err_set(err, -EINVAL, "json: cannot unmarshal %s into Go value of type %s", decode_json_word(v), type);
}

/* ---- scalars ---- */

static bool is_int(struct json *v, int64_t min, int64_t max)
{
	int64_t n;

	if (v->type != JSON_NUMBER)
		return false;
	if (str_is(v->text, "-0"))
		v->text = STR("0");
	return str_to_int64(v->text, &n) >= 0 && n >= min && n <= max;
}

static void set_text(struct json *v, struct str text)
{
	v->type = JSON_STRING;
	v->count = 0;
	v->text = text;
}

static int decode_quantity(struct arena *arena, struct json *v, struct err *err)
{
	struct str text;
	int r;

	if (v->type != JSON_STRING && v->type != JSON_NUMBER)
		return go_value_error(v, "resource.Quantity", err);
	r = quantity_canonical(arena, str_trim(v->text), &text, err);
	if (r < 0)
		return r;
	set_text(v, text);
	return 0;
}

static int decode_time(struct arena *arena, bool micro, struct json *v, struct err *err)
{
	char text[CLOCK_RFC3339_MAX];
	int64_t ns;

	if (v->type != JSON_STRING)
		return go_value_error(v, "string", err);
	if (v->text.n > TIME_TEXT_MAX || clock_parse_rfc3339(v->text, &ns) < 0) {
		int n = (int)(v->text.n > TEXT_SHOWN_MAX ? TEXT_SHOWN_MAX : v->text.n);

		return err_set(
			err, -EINVAL,
			"parsing time \"%.*s\" as \"2006-01-02T15:04:05%sZ07:00\": cannot parse \"%.*s\" as \"2006\"",
			n, v->text.p, micro ? ".000000" : "", n, v->text.p);
	}
	if (micro)
		clock_format_rfc3339_micro(ns, text);
	else
		clock_format_rfc3339(ns, text);
	if (!str_is(v->text, text))
		v->text = str_of(arena_strdup(arena, text));
	return 0;
}

static int base64_digit(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

/* Standard alphabet with padding; line breaks are allowed and dropped, as Go does. */
static int decode_base64(struct arena *arena, struct json *v, struct err *err)
{
	size_t n = 0, pad = 0;
	char *clean = NULL;

	if (memchr(v->text.p ? v->text.p : "", '\n', v->text.n) || memchr(v->text.p ? v->text.p : "", '\r', v->text.n))
		clean = arena_alloc(arena, v->text.n);
	for (size_t i = 0; i < v->text.n; i++) {
		char c = v->text.p[i];

		if (c == '\n' || c == '\r')
			continue;
		if (c == '=' && n % 4 >= 2 && pad < 2)
			pad++;
		else if (pad || !base64_digit(c))
			return err_set(err, -EINVAL, "illegal base64 data at input byte %zu", i);
		if (clean)
			clean[n] = c;
		n++;
	}
	if (n % 4)
		return err_set(err, -EINVAL, "illegal base64 data at input byte %zu", n - n % 4);
	if (clean)
		v->text = str_make(clean, n);
	return 0;
}

int decode_value(struct arena *arena, const struct api_message *in, const struct api_field *f, struct json *v,
		 const struct field_path *path, struct err *err)
{
	switch (f->type) {
	case API_STRING:
		return v->type == JSON_STRING ? 0 : decode_type_error(in, f, v, path, err);
	case API_BOOL:
		return v->type == JSON_BOOL ? 0 : decode_type_error(in, f, v, path, err);
	case API_INT32:
		return is_int(v, INT32_MIN, INT32_MAX) ? 0 : decode_type_error(in, f, v, path, err);
	case API_INT64:
		return is_int(v, INT64_MIN, INT64_MAX) ? 0 : decode_type_error(in, f, v, path, err);
	case API_DOUBLE:
		return v->type == JSON_NUMBER ? 0 : decode_type_error(in, f, v, path, err);
	case API_BYTES:
		return v->type == JSON_STRING ? decode_base64(arena, v, err) : decode_type_error(in, f, v, path, err);
	case API_QUANTITY:
		return decode_quantity(arena, v, err);
	case API_INT_OR_STRING:
		if (v->type == JSON_STRING || is_int(v, INT32_MIN, INT32_MAX))
			return 0;
		return go_value_error(v, "int32", err);
	case API_TIME:
	case API_MICRO_TIME:
		return decode_time(arena, f->type == API_MICRO_TIME, v, err);
	default:
		return 0; /* API_RAW: as it is */
	}
}
