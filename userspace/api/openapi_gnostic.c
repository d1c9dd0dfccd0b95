/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAPI documents in protobuf, as gnostic has them: kubectl up to 1.29 asks for no other form of the swagger
 * document. The JSON document is parsed and encoded along small tables of (member, field number). Loop thread. */
#include "userspace/api/openapi_gnostic.h"

#include <stdlib.h>

#include "userspace/api/openapi_internal.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

/* ---- wire ---- */

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2 };

static void varint(struct buf *out, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		buf_add_char(out, (char)(v | 0x80));
	buf_add_char(out, (char)v);
}

static void bytes(struct buf *out, unsigned number, struct str s)
{
	varint(out, number << 3 | WIRE_BYTES);
	varint(out, s.n);
	buf_add_str(out, s);
}

static void message(struct buf *out, const struct openapi_desc *desc, const struct json *v);

/* The value inside its wrappers, as field `number`. */
static void wrapped(struct buf *out, const struct openapi_row *row, struct str value)
{
	_cleanup_(buf_finish) struct buf a = BUF_INIT, b = BUF_INIT;

	buf_add_str(&a, value);
	for (size_t i = ARRAY_SIZE(row->wrap); i-- > 0;) {
		if (!row->wrap[i])
			continue;
		buf_reset(&b);
		bytes(&b, row->wrap[i], buf_str(&a));
		buf_reset(&a);
		buf_add_str(&a, buf_str(&b));
	}
	bytes(out, row->number, buf_str(&a));
}

/* ParametersItem { parameter = 1 { body_parameter = 1 | non_body_parameter = 2 { query = 3 | path = 4 } } } */
static void parameter(struct buf *out, unsigned number, const struct json *v)
{
	static const struct openapi_row body = { .wrap = { 1, 1 } }, query = { .wrap = { 1, 2, 3 } },
					path = { .wrap = { 1, 2, 4 } };
	_cleanup_(buf_finish) struct buf value = BUF_INIT;
	struct str in = json_get_str(v, "in");
	struct openapi_row row = str_is(in, "body") ? body : str_is(in, "path") ? path : query;

	message(&value,
		str_is(in, "body")   ? &openapi_v2_body_desc
		: str_is(in, "path") ? &openapi_v2_path_desc
				     : &openapi_v2_query_desc,
		v);
	row.number = number;
	wrapped(out, &row, buf_str(&value));
}

static void any(struct buf *out, const struct json *v)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	json_write(&text, v);
	bytes(out, 2, buf_str(&text));
}

static void default_value(struct buf *out, const struct json *v)
{
	double d = json_double(v, 0);
	uint64_t bits;

	if (v->type == JSON_NUMBER) {
		memcpy(&bits, &d, sizeof(bits));
		varint(out, 1 << 3 | WIRE_FIXED64);
		for (int i = 0; i < 8; i++)
			buf_add_char(out, (char)(bits >> (8 * i)));
	} else if (v->type == JSON_BOOL) {
		varint(out, 2 << 3 | WIRE_VARINT);
		varint(out, v->boolean);
	} else if (v->type == JSON_STRING) {
		bytes(out, 3, v->text);
	}
}

static void map(struct buf *out, const struct openapi_row *row, const struct json *v)
{
	_cleanup_(buf_finish) struct buf all = BUF_INIT, entry = BUF_INIT, value = BUF_INIT;

	json_foreach(it, v) {
		buf_reset(&entry);
		buf_reset(&value);
		message(&value, row->desc, it);
		bytes(&entry, 1, it->key);
		bytes(&entry, 2, buf_str(&value));
		bytes(&all, row->entries, buf_str(&entry));
	}
	bytes(out, row->number, buf_str(&all));
}

static void one(struct buf *out, const struct openapi_row *row, const struct json *v)
{
	_cleanup_(buf_finish) struct buf value = BUF_INIT;

	switch (row->shape) {
	case SHAPE_STRING:
		wrapped(out, row, json_str(v));
		break;
	case SHAPE_BOOL:
		varint(out, row->number << 3 | WIRE_VARINT);
		varint(out, json_bool(v, false));
		break;
	case SHAPE_MESSAGE:
		message(&value, row->desc, v);
		wrapped(out, row, buf_str(&value));
		break;
	case SHAPE_MAP:
		map(out, row, v);
		break;
	case SHAPE_ANY:
		any(&value, v);
		wrapped(out, row, buf_str(&value));
		break;
	case SHAPE_PARAMETER:
		parameter(out, row->number, v);
		break;
	case SHAPE_DEFAULT:
		default_value(&value, v);
		wrapped(out, row, buf_str(&value));
		break;
	}
}

static void extension(struct buf *out, unsigned number, const struct json *v)
{
	_cleanup_(buf_finish) struct buf value = BUF_INIT, entry = BUF_INIT;

	any(&value, v);
	bytes(&entry, 1, v->key);
	bytes(&entry, 2, buf_str(&value));
	bytes(out, number, buf_str(&entry));
}

static void message(struct buf *out, const struct openapi_desc *desc, const struct json *v)
{
	if (desc->or_reference) {
		_cleanup_(buf_finish) struct buf value = BUF_INIT;
		const struct json *ref = json_get(v, "$ref");

		if (ref)
			bytes(&value, 1, json_str(ref));
		else
			message(&value, desc->or_reference, v);
		bytes(out, ref ? 2 : 1, buf_str(&value));
		return;
	}
	/* A row without a key takes the whole value: a oneof. */
	if (!*desc->rows->key) {
		one(out, desc->rows, v);
		return;
	}
	json_foreach(it, v) {
		const struct openapi_row *row = desc->rows;

		if (desc->extensions && str_starts(it->key, STR("x-"))) {
			extension(out, desc->extensions, it);
			continue;
		}
		while (row->key && !str_is(it->key, row->key))
			row++;
		if (!row->key)
			continue;
		if (it->type != JSON_ARRAY) {
			one(out, row, it);
			continue;
		}
		json_foreach(item, it)
			one(out, row, item);
	}
}

struct chunk *openapi_gnostic(const struct chunk *json, const struct openapi_desc *desc)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	struct json *v = NULL;
	struct str s;

	if (json_parse(&arena, chunk_str(json), 0, &v, NULL) < 0)
		abort(); /* we wrote it */
	message(&out, desc, v);
	s = buf_str(&out);
	return chunk_create(s.p, s.n);
}
