/* SPDX-License-Identifier: Apache-2.0 */
/* From protobuf to JSON trees. See pb.h. Strings point into the body. Fields that the schema does not know are
 * skipped, as every protobuf reader does. Messages given in parts are merged, of scalars the last one wins; keys of
 * maps given twice are found in one pass at the end, so that a hostile body costs no more than a sane one. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/api/decode.h"
#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/api/pb_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define VARINT_BYTES_MAX 10
#define GO_ZERO_TIME_S INT64_C(-62135596800) /* year 1 */
#define NAME_SHOWN_MAX 64
/* Decimal digits of a double: what always is kept, and what is always enough. */
#define DOUBLE_DIGITS_MIN 15
#define DOUBLE_DIGITS_MAX 17

struct reader {
	struct arena *arena;
	struct err *err; /* bare, the caller wraps it */
};

/* One field as it stands on the wire. */
struct wire_field {
	uint32_t number;
	enum pb_wire wire;
	uint64_t value;   /* varint, fixed */
	struct str bytes; /* PB_WIRE_BYTES */
};

static int read_message(struct reader *r, const struct api_message *m, struct str text, struct json *object, int depth);
static int read_value(struct reader *r, const struct api_field *f, const struct wire_field *w, struct json *before,
		      int depth, struct json **ret);

/* ---- wire ---- */

static int truncated(struct err *err)
{
	return err_set(err, -EINVAL, "unexpected EOF");
}

static int read_varint(struct str *rest, uint64_t *ret, struct err *err)
{
	uint64_t v = 0;

	for (size_t i = 0; i < rest->n; i++) {
		unsigned char c = (unsigned char)rest->p[i];

		if (i == VARINT_BYTES_MAX)
			return err_set(err, -EINVAL, "proto: integer overflow");
		v |= (uint64_t)(c & 0x7f) << (7 * i);
		if (c & 0x80)
			continue;
		*rest = str_make(rest->p + i + 1, rest->n - i - 1);
		*ret = v;
		return 0;
	}
	return truncated(err);
}

static int read_fixed(struct str *rest, size_t n, uint64_t *ret, struct err *err)
{
	uint64_t v = 0;

	if (rest->n < n)
		return truncated(err);
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)(unsigned char)rest->p[i] << (8 * i);
	*rest = str_make(rest->p + n, rest->n - n);
	*ret = v;
	return 0;
}

/* A tag and what follows it; of groups only the tag. */
static int read_wire(struct str *rest, struct wire_field *ret, struct err *err)
{
	struct wire_field w = { .bytes = STR("") };
	uint64_t tag, n;
	int r = read_varint(rest, &tag, err);

	if (r < 0)
		return r;
	w.number = (uint32_t)(tag >> 3);
	w.wire = (enum pb_wire)(tag & 7);
	if (!w.number || tag >> 32)
		return err_set(err, -EINVAL, "proto: illegal tag %" PRIu64, tag);
	switch (w.wire) {
	case PB_WIRE_VARINT:
		r = read_varint(rest, &w.value, err);
		break;
	case PB_WIRE_FIXED64:
		r = read_fixed(rest, 8, &w.value, err);
		break;
	case PB_WIRE_FIXED32:
		r = read_fixed(rest, 4, &w.value, err);
		break;
	case PB_WIRE_BYTES:
		r = read_varint(rest, &n, err);
		if (r < 0)
			break;
		if (n > rest->n)
			return truncated(err);
		w.bytes = str_make(rest->p, (size_t)n);
		*rest = str_make(rest->p + n, rest->n - (size_t)n);
		break;
	case PB_WIRE_GROUP:
	case PB_WIRE_GROUP_END:
		break;
	default:
		return err_set(err, -EINVAL, "proto: illegal wireType %d", (int)w.wire);
	}
	if (r >= 0)
		*ret = w;
	return r;
}

/* As read_wire(), but groups, which nothing here uses, are passed over. 1: a field; 0: the end. */
static int next_field(struct str *rest, struct wire_field *ret, struct err *err)
{
	size_t groups = 0;

	while (rest->n) {
		int r = read_wire(rest, ret, err);

		if (r < 0)
			return r;
		if (ret->wire == PB_WIRE_GROUP)
			groups++;
		else if (ret->wire == PB_WIRE_GROUP_END && groups-- == 0)
			return err_set(err, -EINVAL, "proto: unexpected end of group");
		else if (!groups && ret->wire != PB_WIRE_GROUP_END)
			return 1;
	}
	return groups ? truncated(err) : 0;
}

static int want_wire(const struct wire_field *w, enum pb_wire wire, const char *what, struct err *err)
{
	if (w->wire == wire)
		return 0;
	return err_set(err, -EINVAL, "proto: wrong wireType = %d for field %s", (int)w->wire, what);
}

/* ---- values ---- */

/* Invalid UTF-8 is replaced, as in JSON bodies. */
static struct str clean(struct arena *arena, struct str s)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct json *v;
	size_t i = 0;

	while (i < s.n && (unsigned char)s.p[i] < 0x80)
		i++;
	if (i == s.n)
		return s;
	json_write_str(&b, s);
	return json_parse(arena, arena_str(arena, buf_str(&b)), 0, &v, NULL) < 0 ? STR("") : json_str(v);
}

/* The last field PB_ONLY of a message that has no other; empty when it is not there. */
static int read_only(struct reader *r, struct str text, struct str *ret)
{
	struct wire_field w;
	int k;

	*ret = STR("");
	while ((k = next_field(&text, &w, r->err)) > 0)
		if (w.number == PB_ONLY && w.wire == PB_WIRE_BYTES)
			*ret = w.bytes;
	return k;
}

static struct json *new_base64(struct arena *arena, struct str bytes)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	base64_encode(&b, bytes.p, bytes.n, BASE64_STD);
	return json_new_str(arena, arena_str(arena, buf_str(&b)));
}

static int read_quantity(struct reader *r, struct str text, struct json **ret)
{
	struct str s;
	int k = read_only(r, text, &s);

	if (k >= 0)
		*ret = json_new_str(r->arena, s.n ? clean(r->arena, s) : STR("0"));
	return k;
}

static bool too_deep(const struct json *v, int depth)
{
	if (depth > DECODE_DEPTH_MAX)
		return true;
	json_foreach(it, v)
		if (too_deep(it, depth + 1))
			return true;
	return false;
}

/* NULL when there is nothing inside. */
static int read_raw(struct reader *r, struct str text, int depth, struct json **ret)
{
	struct str s;
	int k = read_only(r, text, &s);

	*ret = NULL;
	if (k < 0 || !s.n)
		return k;
	k = json_parse(r->arena, s, 0, ret, r->err);
	if (k >= 0 && too_deep(*ret, depth + 1))
		return err_set(r->err, -EINVAL, "nested too deeply");
	return k;
}

/* NULL for Go's zero time. */
static int read_time(struct reader *r, bool micro, struct str text, struct json **ret)
{
	char out[CLOCK_RFC3339_MAX];
	struct wire_field w;
	int64_t s = 0, nanos = 0;
	bool empty = !text.n;
	int k;

	*ret = NULL;
	while ((k = next_field(&text, &w, r->err)) > 0) {
		if (w.wire == PB_WIRE_VARINT && w.number == PB_TIME_SECONDS)
			s = (int64_t)w.value;
		else if (w.wire == PB_WIRE_VARINT && w.number == PB_TIME_NANOS)
			nanos = (int32_t)w.value;
	}
	if (k < 0 || empty || s == GO_ZERO_TIME_S)
		return k;
	if (s > INT64_MAX / NS_PER_S - 1 || s < INT64_MIN / NS_PER_S + 1 || nanos < 0 || nanos >= NS_PER_S)
		return err_set(r->err, -EINVAL, "time out of range");
	if (micro)
		clock_format_rfc3339_micro(s * NS_PER_S + nanos, out);
	else
		clock_format_rfc3339(s * NS_PER_S, out);
	*ret = json_new_cstr(r->arena, arena_strdup(r->arena, out));
	return 0;
}

static int read_int_or_string(struct reader *r, struct str text, struct json **ret)
{
	struct str s = STR("");
	struct wire_field w;
	int64_t type = 0, n = 0;
	int k;

	while ((k = next_field(&text, &w, r->err)) > 0) {
		if (w.wire == PB_WIRE_VARINT && w.number == PB_INTSTR_TYPE)
			type = (int64_t)w.value;
		else if (w.wire == PB_WIRE_VARINT && w.number == PB_INTSTR_INT)
			n = (int32_t)w.value;
		else if (w.wire == PB_WIRE_BYTES && w.number == PB_INTSTR_STRING)
			s = w.bytes;
	}
	if (k < 0)
		return k;
	if (type != 0 && type != 1)
		return err_set(r->err, -EINVAL, "impossible IntOrString.Type");
	*ret = type ? json_new_str(r->arena, clean(r->arena, s)) : json_new_int(r->arena, n);
	return 0;
}

static int read_double(struct reader *r, uint64_t bits, struct json **ret)
{
	double d;

	memcpy(&d, &bits, sizeof(d));
	if (!isfinite(d))
		return err_set(r->err, -EINVAL, "json: unsupported value");
	*ret = json_new(r->arena, JSON_NUMBER);
	for (int digits = DOUBLE_DIGITS_MIN; digits <= DOUBLE_DIGITS_MAX; digits++) {
		(*ret)->text = str_of(arena_printf(r->arena, "%.*g", digits, d));
		if (strtod((*ret)->text.p, NULL) == d)
			break;
	}
	return 0;
}

/* A list of strings that is a message of its own (ExtraValue), or one element more of a list. */
static int read_list(struct reader *r, const struct api_field *f, struct str text, struct json *array, int depth)
{
	struct wire_field w;
	int k;

	while ((k = next_field(&text, &w, r->err)) > 0) {
		struct json *v = NULL;

		if (w.number != PB_ONLY)
			continue;
		k = read_value(r, f->elem, &w, NULL, depth, &v);
		if (k < 0)
			return k;
		if (v)
			json_append(array, v);
	}
	return k;
}

static struct json *zero_value(struct arena *arena, const struct api_field *f)
{
	switch (f->type) {
	case API_STRING:
	case API_BYTES:
		return json_new_str(arena, STR(""));
	case API_QUANTITY:
		return json_new_str(arena, STR("0"));
	case API_BOOL:
		return json_new_bool(arena, false);
	case API_OBJECT:
	case API_MAP:
		return json_new_object(arena);
	case API_ARRAY:
		return json_new_array(arena);
	case API_TIME:
	case API_MICRO_TIME:
	case API_RAW:
		return json_new(arena, JSON_NULL);
	default:
		return json_new_int(arena, 0);
	}
}

/* One entry of a map. */
static int read_entry(struct reader *r, const struct api_field *f, struct str text, struct json *map, int depth)
{
	struct str key = STR("");
	struct json *v = NULL;
	struct wire_field w;
	int k;

	while ((k = next_field(&text, &w, r->err)) > 0) {
		if (w.number == PB_MAP_KEY && w.wire == PB_WIRE_BYTES)
			key = clean(r->arena, w.bytes);
		else if (w.number == PB_MAP_VALUE)
			k = read_value(r, f->elem, &w, NULL, depth, &v);
		if (k < 0)
			return k;
	}
	if (k < 0)
		return k;
	if (!v)
		v = zero_value(r->arena, f->elem);
	json_append(map, v); /* as a member: keys given twice are settled at the end */
	v->key = key;
	return 0;
}

/* `before`: what the field has so far, of objects, lists and maps. `ret` NULL: nothing to set. */
static int read_value(struct reader *r, const struct api_field *f, const struct wire_field *w, struct json *before,
		      int depth, struct json **ret)
{
	bool varint = f->type == API_BOOL || f->type == API_INT32 || f->type == API_INT64;
	int k = want_wire(w,
			  varint                  ? PB_WIRE_VARINT
			  : f->type == API_DOUBLE ? PB_WIRE_FIXED64
						  : PB_WIRE_BYTES,
			  f->name ? f->name : "value", r->err);

	if (k < 0)
		return k;
	if (depth >= DECODE_DEPTH_MAX)
		return err_set(r->err, -EINVAL, "nested too deeply");
	switch (f->type) {
	case API_STRING:
		*ret = json_new_str(r->arena, clean(r->arena, w->bytes));
		return 0;
	case API_BOOL:
		*ret = json_new_bool(r->arena, w->value != 0);
		return 0;
	case API_INT32:
		*ret = json_new_int(r->arena, (int32_t)w->value);
		return 0;
	case API_INT64:
		*ret = json_new_int(r->arena, (int64_t)w->value);
		return 0;
	case API_DOUBLE:
		return read_double(r, w->value, ret);
	case API_BYTES:
		*ret = new_base64(r->arena, w->bytes);
		return 0;
	case API_QUANTITY:
		return read_quantity(r, w->bytes, ret);
	case API_INT_OR_STRING:
		return read_int_or_string(r, w->bytes, ret);
	case API_TIME:
	case API_MICRO_TIME:
		return read_time(r, f->type == API_MICRO_TIME, w->bytes, ret);
	case API_RAW:
		return read_raw(r, w->bytes, depth, ret);
	case API_OBJECT:
		*ret = before ? before : json_new_object(r->arena);
		return read_message(r, f->ref, w->bytes, *ret, depth + 1);
	case API_MAP:
		*ret = before ? before : json_new_object(r->arena);
		return read_entry(r, f, w->bytes, *ret, depth + 1);
	case API_ARRAY:
		*ret = before ? before : json_new_array(r->arena);
		return read_list(r, f, w->bytes, *ret, depth + 1);
	}
	return -EINVAL;
}

/* ---- messages ---- */

static bool is_zero(const struct json *v)
{
	switch (v->type) {
	case JSON_NULL:
		return true;
	case JSON_BOOL:
		return !v->boolean;
	case JSON_NUMBER:
		return str_is(v->text, "0");
	case JSON_STRING:
		return !v->text.n;
	default:
		return false;
	}
}

/* One element more of a repeated field; numbers may come packed. */
static int read_repeated(struct reader *r, const struct api_field *f, const struct wire_field *w, struct json *object,
			 int depth)
{
	bool numbers = f->elem->type == API_INT32 || f->elem->type == API_INT64 || f->elem->type == API_BOOL;
	struct json *array = json_get(object, f->name), *v = NULL;
	struct wire_field one = *w;
	struct str rest = w->bytes;
	int k = 0;

	if (!array) {
		array = json_new_array(r->arena);
		json_set(object, f->name, array);
	}
	if (!numbers || w->wire != PB_WIRE_BYTES) {
		k = read_value(r, f->elem, w, NULL, depth + 1, &v);
		if (k >= 0 && v)
			json_append(array, v);
		return k;
	}
	one.wire = PB_WIRE_VARINT;
	while (rest.n) {
		k = read_varint(&rest, &one.value, r->err);
		if (k >= 0)
			k = read_value(r, f->elem, &one, NULL, depth + 1, &v);
		if (k < 0)
			return k;
		json_append(array, v);
	}
	return 0;
}

static int read_field(struct reader *r, const struct api_field *f, const struct wire_field *w, struct json *object,
		      int depth)
{
	bool grows = f->type == API_OBJECT || f->type == API_MAP || f->type == API_ARRAY;
	struct json *before = grows ? json_get(object, f->name) : NULL, *v = NULL;
	int k;

	if (f->type == API_ARRAY && f->pb_repeated)
		return read_repeated(r, f, w, object, depth);
	k = read_value(r, f, w, before, depth, &v);
	if (k < 0)
		return k;
	/* The wire has zeros that Go's JSON would not show, and they would hide defaults. */
	if (!v || (!f->pointer && !f->required && is_zero(v)))
		json_remove(object, f->name);
	else if (v != before)
		json_set(object, f->name, v);
	return 0;
}

static const struct api_field *field_by_number(const struct api_message *m, uint32_t number)
{
	for (size_t i = 0; i < m->n_fields; i++)
		if (m->fields[i].pb_number == number)
			return &m->fields[i];
	return NULL;
}

static const struct api_message *inline_by_number(const struct api_message *m, uint32_t number)
{
	for (const struct api_pb_inline *i = m->pb_inline; i && i->number; i++)
		if (i->number == number)
			return i->message;
	return NULL;
}

static int read_message(struct reader *r, const struct api_message *m, struct str text, struct json *object, int depth)
{
	struct wire_field w;
	int k;

	if (depth >= DECODE_DEPTH_MAX)
		return err_set(r->err, -EINVAL, "nested too deeply");
	while ((k = next_field(&text, &w, r->err)) > 0) {
		const struct api_field *f = field_by_number(m, w.number);
		const struct api_message *around = f ? NULL : inline_by_number(m, w.number);

		if (f)
			k = read_field(r, f, &w, object, depth);
		else if (around && w.wire == PB_WIRE_BYTES)
			k = read_message(r, around, w.bytes, object, depth + 1);
		if (k < 0)
			return k;
	}
	return k;
}

/* ---- keys given twice ---- */

struct entry {
	struct json *v;
	size_t i;
};

static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = str_cmp(x->v->key, y->v->key);

	return c ? c : x->i < y->i ? -1 : x->i > y->i;
}

/* Sorted by key, as Go writes maps; the last of equal keys stays. */
static void settle_map(struct json *map)
{
	_cleanup_free_ struct entry *all = NULL;
	size_t n = 0;

	if (map->count < 2)
		return;
	all = mem_new_array(struct entry, map->count);
	json_foreach(it, map) {
		all[n] = (struct entry){ it, n };
		n++;
	}
	qsort(all, n, sizeof(*all), by_key);
	map->first = map->last = NULL;
	map->count = 0;
	for (size_t i = 0; i < n; i++) {
		struct str key = all[i].v->key;

		if (i + 1 < n && str_eq(key, all[i + 1].v->key))
			continue;
		all[i].v->next = NULL;
		json_append(map, all[i].v);
		all[i].v->key = key;
	}
}

static void settle(const struct api_message *m, struct json *object)
{
	json_foreach(it, object) {
		const struct api_field *f = api_message_field(m, it->key);

		if (!f)
			continue;
		if (f->type == API_MAP)
			settle_map(it);
		if (f->type == API_OBJECT)
			settle(f->ref, it);
		if ((f->type == API_ARRAY || f->type == API_MAP) && f->elem->type == API_OBJECT)
			json_foreach(item, it)
				settle(f->elem->ref, item);
	}
}

/* ---- bodies ---- */

const struct api_message *pb_message_of(struct str api_version, struct str kind)
{
	const struct api_kind *k;
	const struct api_message *m;
	struct str group, version;
	char name[128];

	if (api_parse_api_version(api_version, &group, &version) < 0)
		return NULL;
	k = api_kind_by_kind(group, version, kind);
	if (k)
		return k->message;
	if (!kind.n || kind.n > NAME_SHOWN_MAX)
		return NULL;
	snprintf(name, sizeof(name), "io.k8s.apimachinery.pkg.apis.meta.v1.%.*s", STR_ARG(kind));
	m = api_message_by_name(str_of(name));
	return m && api_message_field(m, STR("kind")) && api_message_field(m, STR("apiVersion")) ? m : NULL;
}

struct envelope {
	struct str api_version, kind, raw, encoding;
};

static int read_type_meta(struct str text, struct envelope *e, struct err *err)
{
	struct wire_field w;
	int k;

	while ((k = next_field(&text, &w, err)) > 0) {
		if (w.wire == PB_WIRE_BYTES && w.number == PB_TYPE_META_API_VERSION)
			e->api_version = w.bytes;
		else if (w.wire == PB_WIRE_BYTES && w.number == PB_TYPE_META_KIND)
			e->kind = w.bytes;
	}
	return k;
}

static int read_envelope(struct str text, struct envelope *ret, struct err *err)
{
	struct envelope e = { .raw = STR("") };
	struct wire_field w;
	int k;

	if (!str_starts(text, PB_MAGIC))
		return err_set(
			err, -EINVAL,
			"provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
	text = str_make(text.p + PB_MAGIC.n, text.n - PB_MAGIC.n);
	while ((k = next_field(&text, &w, err)) > 0) {
		if (w.wire != PB_WIRE_BYTES)
			continue;
		if (w.number == PB_UNKNOWN_TYPE_META)
			k = read_type_meta(w.bytes, &e, err);
		else if (w.number == PB_UNKNOWN_RAW)
			e.raw = w.bytes;
		else if (w.number == PB_UNKNOWN_ENCODING)
			e.encoding = w.bytes;
		if (k < 0)
			return k;
	}
	if (k < 0)
		return k;
	if (e.encoding.n)
		return err_set(err, -EINVAL, "the content encoding of the envelope is not known");
	*ret = e;
	return 0;
}

static struct str shown(struct arena *arena, struct str s)
{
	return clean(arena, s.n > NAME_SHOWN_MAX ? str_make(s.p, NAME_SHOWN_MAX) : s);
}

static int unrecognized(const struct api_kind *kind, const struct err *cause, struct err *err)
{
	return api_err_bad_request(err, "the object provided is unrecognized (must be of type %s): %s",
				   kind ? kind->kind : "a known kind", err_message(cause));
}

int pb_decode(struct arena *arena, const struct api_kind *kind, struct str text, struct json **ret, struct err *err)
{
	_cleanup_err_ struct err cause = ERR_INIT;
	struct reader r = { .arena = arena, .err = &cause };
	const struct api_message *m = kind ? kind->message : NULL;
	struct envelope e;
	struct json *tree;
	int k = read_envelope(text, &e, &cause);

	if (k < 0)
		return unrecognized(kind, &cause, err);
	if (e.api_version.n || e.kind.n || !m) {
		m = pb_message_of(e.api_version, e.kind);
		if (!m) {
			struct str v = shown(arena, e.api_version), n = shown(arena, e.kind);

			return api_err_bad_request(err, "no kind \"%.*s\" is registered for version \"%.*s\"",
						   STR_ARG(n), STR_ARG(v));
		}
	}
	tree = json_new_object(arena);
	if (e.kind.n)
		json_set_str(arena, tree, "kind", e.kind);
	if (e.api_version.n)
		json_set_str(arena, tree, "apiVersion", e.api_version);
	if (read_message(&r, m, e.raw, tree, 1) < 0)
		return unrecognized(kind, &cause, err);
	settle(m, tree);
	*ret = tree;
	return 0;
}
