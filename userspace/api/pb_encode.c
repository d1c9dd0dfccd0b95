/* SPDX-License-Identifier: Apache-2.0 */
/* From JSON trees to protobuf. See pb.h. What is absent in JSON is not written: readers take it for zero. Values that
 * are not of their field's type (stored objects have none) are left out. Lengths stand in front of what they count:
 * one byte is kept for them, and the rare longer one moves what follows. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "userspace/api/pb.h"
#include "userspace/api/pb_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define VARINT_BYTES_MAX 10
#define PARTIAL "PartialObjectMetadata"

static void write_message(struct buf *out, const struct api_message *m, const struct json *v);
static void write_value(struct buf *out, uint32_t number, const struct api_field *f, const struct json *v);

/* ---- wire ---- */

static size_t varint(char at[static VARINT_BYTES_MAX], uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		at[n++] = (char)(v | 0x80);
	at[n++] = (char)v;
	return n;
}

static void add_varint(struct buf *out, uint64_t v)
{
	buf_commit(out, varint(buf_reserve(out, VARINT_BYTES_MAX), v));
}

static void add_tag(struct buf *out, uint32_t number, enum pb_wire wire)
{
	add_varint(out, (uint64_t)number << 3 | wire);
}

/* Field `number` with the bytes that are added until close_bytes(). */
static size_t open_bytes(struct buf *out, uint32_t number)
{
	add_tag(out, number, PB_WIRE_BYTES);
	buf_add_char(out, 0);
	return buf_len(out);
}

static void close_bytes(struct buf *out, size_t from)
{
	size_t n = buf_len(out) - from, extra;
	char length[VARINT_BYTES_MAX], *at;

	extra = varint(length, n) - 1;
	if (extra)
		buf_commit(out, (buf_reserve(out, extra), extra));
	at = out->data + out->start + from;
	if (extra)
		memmove(at + extra, at, n);
	memcpy(at - 1, length, extra + 1);
}

static void add_bytes(struct buf *out, uint32_t number, struct str s)
{
	add_tag(out, number, PB_WIRE_BYTES);
	add_varint(out, s.n);
	buf_add_str(out, s);
}

static void add_int(struct buf *out, uint32_t number, int64_t v)
{
	add_tag(out, number, PB_WIRE_VARINT);
	add_varint(out, (uint64_t)v);
}

/* ---- values ---- */

static void write_double(struct buf *out, uint32_t number, const struct json *v)
{
	double d = json_double(v, 0);
	uint64_t bits;

	memcpy(&bits, &d, sizeof(bits));
	add_tag(out, number, PB_WIRE_FIXED64);
	for (int i = 0; i < 8; i++)
		buf_add_char(out, (char)(bits >> (8 * i)));
}

static void write_time(struct buf *out, uint32_t number, bool micro, const struct json *v)
{
	int64_t ns, s, rest;
	size_t from;

	if (clock_parse_rfc3339(v->text, &ns) < 0)
		return;
	s = ns / NS_PER_S;
	rest = ns % NS_PER_S;
	if (rest < 0) {
		s--;
		rest += NS_PER_S;
	}
	from = open_bytes(out, number);
	add_int(out, PB_TIME_SECONDS, s);
	add_int(out, PB_TIME_NANOS, micro ? rest - rest % NS_PER_US : 0);
	close_bytes(out, from);
}

static void write_int_or_string(struct buf *out, uint32_t number, const struct json *v)
{
	bool string = v->type == JSON_STRING;
	size_t from;

	if (!string && v->type != JSON_NUMBER)
		return;
	from = open_bytes(out, number);
	add_int(out, PB_INTSTR_TYPE, string);
	add_int(out, PB_INTSTR_INT, string ? 0 : json_int(v, 0));
	add_bytes(out, PB_INTSTR_STRING, string ? v->text : STR(""));
	close_bytes(out, from);
}

static void write_raw(struct buf *out, uint32_t number, const struct json *v)
{
	size_t from = open_bytes(out, number), raw = open_bytes(out, PB_ONLY);

	json_write(out, v);
	close_bytes(out, raw);
	close_bytes(out, from);
}

static void write_base64(struct buf *out, uint32_t number, const struct json *v)
{
	size_t from = open_bytes(out, number);

	base64_decode(out, v->text, BASE64_STD); /* adds nothing when it is none */
	close_bytes(out, from);
}

static void write_map(struct buf *out, uint32_t number, const struct api_field *f, const struct json *v)
{
	json_foreach(it, v) {
		size_t from = open_bytes(out, number);

		add_bytes(out, PB_MAP_KEY, it->key);
		write_value(out, PB_MAP_VALUE, f->elem, it);
		close_bytes(out, from);
	}
}

/* A list that is no repeated field is a message with one. */
static void write_list(struct buf *out, uint32_t number, const struct api_field *f, const struct json *v)
{
	size_t from;

	if (f->pb_repeated) {
		json_foreach(it, v)
			write_value(out, number, f->elem, it);
		return;
	}
	from = open_bytes(out, number);
	json_foreach(it, v)
		write_value(out, PB_ONLY, f->elem, it);
	close_bytes(out, from);
}

static enum json_type json_type_of(const struct api_field *f)
{
	static const enum json_type types[] = {
		[API_STRING] = JSON_STRING, [API_BOOL] = JSON_BOOL,         [API_INT32] = JSON_NUMBER,
		[API_INT64] = JSON_NUMBER,  [API_DOUBLE] = JSON_NUMBER,     [API_BYTES] = JSON_STRING,
		[API_OBJECT] = JSON_OBJECT, [API_ARRAY] = JSON_ARRAY,       [API_MAP] = JSON_OBJECT,
		[API_TIME] = JSON_STRING,   [API_MICRO_TIME] = JSON_STRING, [API_QUANTITY] = JSON_STRING,
	};

	return types[f->type];
}

static void write_value(struct buf *out, uint32_t number, const struct api_field *f, const struct json *v)
{
	size_t from;

	if (f->type != API_RAW && f->type != API_INT_OR_STRING && v->type != json_type_of(f))
		return;
	switch (f->type) {
	case API_STRING:
		add_bytes(out, number, v->text);
		break;
	case API_BOOL:
		add_int(out, number, v->boolean);
		break;
	case API_INT32:
	case API_INT64:
		add_int(out, number, json_int(v, 0));
		break;
	case API_DOUBLE:
		write_double(out, number, v);
		break;
	case API_BYTES:
		write_base64(out, number, v);
		break;
	case API_QUANTITY:
		from = open_bytes(out, number);
		add_bytes(out, PB_ONLY, v->text);
		close_bytes(out, from);
		break;
	case API_INT_OR_STRING:
		write_int_or_string(out, number, v);
		break;
	case API_TIME:
	case API_MICRO_TIME:
		write_time(out, number, f->type == API_MICRO_TIME, v);
		break;
	case API_RAW:
		write_raw(out, number, v);
		break;
	case API_OBJECT:
		from = open_bytes(out, number);
		write_message(out, f->ref, v);
		close_bytes(out, from);
		break;
	case API_MAP:
		write_map(out, number, f, v);
		break;
	case API_ARRAY:
		write_list(out, number, f, v);
		break;
	}
}

static void write_message(struct buf *out, const struct api_message *m, const struct json *v)
{
	json_foreach(it, v) {
		const struct api_field *f = api_message_field(m, it->key);

		if (f && f->pb_number && it->type != JSON_NULL)
			write_value(out, f->pb_number, f, it);
	}
	for (const struct api_pb_inline *i = m->pb_inline; i && i->number; i++) {
		size_t from = open_bytes(out, i->number);

		write_message(out, i->message, v);
		close_bytes(out, from);
	}
}

/* ---- bodies ---- */

/* Magic and envelope up to the object's bytes; they end with close_envelope(). */
static size_t open_envelope(struct buf *out, struct str api_version, struct str kind)
{
	size_t from;

	buf_add_str(out, PB_MAGIC);
	from = open_bytes(out, PB_UNKNOWN_TYPE_META);
	add_bytes(out, PB_TYPE_META_API_VERSION, api_version);
	add_bytes(out, PB_TYPE_META_KIND, kind);
	close_bytes(out, from);
	return open_bytes(out, PB_UNKNOWN_RAW);
}

static void close_envelope(struct buf *out, size_t from)
{
	close_bytes(out, from);
	add_bytes(out, PB_UNKNOWN_ENCODING, STR(""));
	add_bytes(out, PB_UNKNOWN_TYPE, STR(""));
}

static void list_begin(struct pb_list *l, struct str api_version, struct str kind, const struct json *meta)
{
	struct buf *out = l->out;
	size_t from;

	l->raw = open_envelope(out, api_version, kind);
	from = open_bytes(out, PB_LIST_METADATA);
	write_message(out, api_message_by_name(STR(PB_MESSAGE_LIST_META)), meta);
	close_bytes(out, from);
}

void pb_list_begin(struct pb_list *l, struct buf *out, const struct api_kind *kind, const struct json *meta)
{
	*l = (struct pb_list){ .out = out, .kind = kind };
	list_begin(l, str_of(kind->api_version), str_of(kind->list_kind), meta);
}

void pb_list_begin_partial(struct pb_list *l, struct buf *out, const char *api_version, const struct json *meta)
{
	*l = (struct pb_list){ .out = out };
	list_begin(l, str_of(api_version), STR(PARTIAL "List"), meta);
}

/* Of any object: its metadata is all that is written. */
static void write_partial(struct buf *out, const struct json *object)
{
	size_t from = open_bytes(out, PB_PARTIAL_METADATA);

	write_message(out, api_message_by_name(STR(PB_MESSAGE_OBJECT_META)), json_get(object, "metadata"));
	close_bytes(out, from);
}

void pb_list_item(struct pb_list *l, const struct json *item)
{
	size_t from = open_bytes(l->out, PB_LIST_ITEMS);

	if (l->kind)
		write_message(l->out, l->kind->message, item);
	else
		write_partial(l->out, item);
	close_bytes(l->out, from);
}

void pb_list_end(struct pb_list *l)
{
	close_envelope(l->out, l->raw);
}

/* The kind of whose objects this is a list; NULL: it is none. */
static const struct api_kind *list_of(struct str api_version, struct str kind)
{
	struct str group, version, suffix = STR("List");

	if (!str_ends(kind, suffix) || api_parse_api_version(api_version, &group, &version) < 0)
		return NULL;
	return api_kind_by_kind(group, version, str_make(kind.p, kind.n - suffix.n));
}

static bool is_partial(struct str api_version, struct str kind)
{
	return str_is(kind, PARTIAL) && str_starts(api_version, STR("meta.k8s.io/"));
}

int pb_encode(struct buf *out, const struct json *tree)
{
	struct str api_version = json_get_str(tree, "apiVersion"), kind = json_get_str(tree, "kind");
	bool partial = is_partial(api_version, kind);
	const struct api_message *m = partial ? NULL : pb_message_of(api_version, kind);
	const struct api_kind *of = m || partial ? NULL : list_of(api_version, kind);
	struct pb_list list;
	size_t from;

	if (m || partial) {
		from = open_envelope(out, api_version, kind);
		if (m)
			write_message(out, m, tree);
		else
			write_partial(out, tree);
		close_envelope(out, from);
		return 0;
	}
	if (!of)
		return -ENOENT;
	pb_list_begin(&list, out, of, json_get(tree, "metadata"));
	json_foreach(it, json_get(tree, "items"))
		pb_list_item(&list, it);
	pb_list_end(&list);
	return 0;
}

int pb_encode_text(struct buf *out, struct str text)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *tree;
	int r = json_parse(&arena, text, 0, &tree, NULL);

	return r < 0 ? r : pb_encode(out, tree);
}

int pb_encode_event(struct buf *out, const char *type, const struct json *object)
{
	_cleanup_buf_ struct buf frame = BUF_INIT;
	size_t from, raw, n;
	int r;

	add_bytes(&frame, PB_EVENT_TYPE, str_of(type));
	from = open_bytes(&frame, PB_EVENT_OBJECT);
	raw = open_bytes(&frame, PB_ONLY);
	r = pb_encode(&frame, object);
	if (r < 0)
		return r;
	close_bytes(&frame, raw);
	close_bytes(&frame, from);
	n = buf_len(&frame);
	for (int i = PB_FRAME_LENGTH_BYTES - 1; i >= 0; i--)
		buf_add_char(out, (char)(n >> (8 * i)));
	buf_add_str(out, buf_str(&frame));
	return 0;
}
