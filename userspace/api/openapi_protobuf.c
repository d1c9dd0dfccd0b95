/* SPDX-License-Identifier: Apache-2.0 */
/* The swagger document in protobuf, as gnostic's openapi.v2.Document: kubectl up to 1.29 asks for no other form. The
 * JSON document is parsed and encoded along small tables of (member, field number). Loop thread. */
#include "userspace/api/openapi.h"

#include <stdlib.h>

#include "userspace/base/json.h"
#include "userspace/base/mem.h"

enum shape {
	SHAPE_STRING, /* also each item of an array of strings */
	SHAPE_BOOL,
	SHAPE_MESSAGE, /* also each item of an array of objects */
	SHAPE_MAP,     /* object: every member is {name = 1, value = 2} in field `entries` of the message */
	SHAPE_ANY,     /* any JSON as {yaml = 2}; also each item of an array */
	SHAPE_PARAMETER,
};

struct desc;

struct row {
	const char *key;
	unsigned number;
	enum shape shape;
	const struct desc *desc;
	unsigned wrap[3]; /* messages of one field around the value, outermost first */
	unsigned entries; /* SHAPE_MAP */
};

struct desc {
	const struct row *rows;
	unsigned extensions; /* field of x-... members, 0: none */
};

static const struct desc schema_desc;
static const struct row schema_rows[] = {
	{ .key = "$ref", .number = 1, .shape = SHAPE_STRING },
	{ .key = "format", .number = 2, .shape = SHAPE_STRING },
	{ .key = "description", .number = 4, .shape = SHAPE_STRING },
	{ .key = "default", .number = 5, .shape = SHAPE_ANY },
	{ .key = "required", .number = 19, .shape = SHAPE_STRING },
	{ .key = "enum", .number = 20, .shape = SHAPE_ANY },
	{ .key = "additionalProperties", .number = 21, .shape = SHAPE_MESSAGE, .desc = &schema_desc, .wrap = { 1 } },
	{ .key = "type", .number = 22, .shape = SHAPE_STRING, .wrap = { 1 } },
	{ .key = "items", .number = 23, .shape = SHAPE_MESSAGE, .desc = &schema_desc, .wrap = { 1 } },
	{ .key = "properties", .number = 25, .shape = SHAPE_MAP, .desc = &schema_desc, .entries = 1 },
	{ 0 },
};
static const struct desc schema_desc = { schema_rows, 31 };

static const struct row body_rows[] = {
	{ .key = "name", .number = 2, .shape = SHAPE_STRING },
	{ .key = "in", .number = 3, .shape = SHAPE_STRING },
	{ .key = "required", .number = 4, .shape = SHAPE_BOOL },
	{ .key = "schema", .number = 5, .shape = SHAPE_MESSAGE, .desc = &schema_desc },
	{ 0 },
};
static const struct row query_rows[] = {
	{ .key = "in", .number = 2, .shape = SHAPE_STRING },
	{ .key = "name", .number = 4, .shape = SHAPE_STRING },
	{ .key = "type", .number = 6, .shape = SHAPE_STRING },
	{ .key = "uniqueItems", .number = 20, .shape = SHAPE_BOOL },
	{ 0 },
};
static const struct row path_parameter_rows[] = {
	{ .key = "required", .number = 1, .shape = SHAPE_BOOL },
	{ .key = "in", .number = 2, .shape = SHAPE_STRING },
	{ .key = "name", .number = 4, .shape = SHAPE_STRING },
	{ .key = "type", .number = 5, .shape = SHAPE_STRING },
	{ .key = "uniqueItems", .number = 19, .shape = SHAPE_BOOL },
	{ 0 },
};
static const struct desc body_desc = { body_rows, 6 };
static const struct desc query_desc = { query_rows, 23 };
static const struct desc path_parameter_desc = { path_parameter_rows, 22 };

static const struct row response_rows[] = {
	{ .key = "description", .number = 1, .shape = SHAPE_STRING },
	{ .key = "schema", .number = 2, .shape = SHAPE_MESSAGE, .desc = &schema_desc, .wrap = { 1 } },
	{ 0 },
};
static const struct desc response_desc = { response_rows, 5 };
/* ResponseValue { oneof { Response response = 1; } } */
static const struct row response_value_rows[] = {
	{ .key = "", .number = 1, .shape = SHAPE_MESSAGE, .desc = &response_desc },
	{ 0 },
};
static const struct desc response_value_desc = { response_value_rows, 0 };

static const struct row operation_rows[] = {
	{ .key = "operationId", .number = 5, .shape = SHAPE_STRING },
	{ .key = "produces", .number = 6, .shape = SHAPE_STRING },
	{ .key = "consumes", .number = 7, .shape = SHAPE_STRING },
	{ .key = "parameters", .number = 8, .shape = SHAPE_PARAMETER },
	{ .key = "responses", .number = 9, .shape = SHAPE_MAP, .desc = &response_value_desc, .entries = 1 },
	{ 0 },
};
static const struct desc operation_desc = { operation_rows, 13 };

static const struct row path_item_rows[] = {
	{ .key = "get", .number = 2, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "put", .number = 3, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "post", .number = 4, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "delete", .number = 5, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "patch", .number = 8, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "parameters", .number = 9, .shape = SHAPE_PARAMETER },
	{ 0 },
};
static const struct desc path_item_desc = { path_item_rows, 10 };

static const struct row info_rows[] = {
	{ .key = "title", .number = 1, .shape = SHAPE_STRING },
	{ .key = "version", .number = 2, .shape = SHAPE_STRING },
	{ 0 },
};
static const struct desc info_desc = { info_rows, 7 };

static const struct row document_rows[] = {
	{ .key = "swagger", .number = 1, .shape = SHAPE_STRING },
	{ .key = "info", .number = 2, .shape = SHAPE_MESSAGE, .desc = &info_desc },
	{ .key = "paths", .number = 8, .shape = SHAPE_MAP, .desc = &path_item_desc, .entries = 2 },
	{ .key = "definitions", .number = 9, .shape = SHAPE_MAP, .desc = &schema_desc, .entries = 1 },
	{ 0 },
};
static const struct desc document_desc = { document_rows, 16 };

/* ---- wire ---- */

enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

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

static void message(struct buf *out, const struct desc *desc, const struct json *v);

/* The value inside its wrappers, as field `number`. */
static void wrapped(struct buf *out, const struct row *row, struct str value)
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
	static const struct row body = { .wrap = { 1, 1 } }, query = { .wrap = { 1, 2, 3 } },
				path = { .wrap = { 1, 2, 4 } };
	_cleanup_(buf_finish) struct buf value = BUF_INIT;
	struct str in = json_get_str(v, "in");
	struct row row = str_is(in, "body") ? body : str_is(in, "path") ? path : query;

	message(&value, str_is(in, "body") ? &body_desc : str_is(in, "path") ? &path_parameter_desc : &query_desc, v);
	row.number = number;
	wrapped(out, &row, buf_str(&value));
}

static void any(struct buf *out, const struct json *v)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	json_write(&text, v);
	bytes(out, 2, buf_str(&text));
}

static void map(struct buf *out, const struct row *row, const struct json *v)
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

static void one(struct buf *out, const struct row *row, const struct json *v)
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

static void message(struct buf *out, const struct desc *desc, const struct json *v)
{
	/* A row without a key takes the whole value: a oneof. */
	if (!*desc->rows->key) {
		one(out, desc->rows, v);
		return;
	}
	json_foreach(it, v) {
		const struct row *row = desc->rows;

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

struct chunk *openapi_v2_protobuf(char ret_hash[static OPENAPI_HASH_MAX])
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_(buf_finish) struct buf out = BUF_INIT;
	_cleanup_(chunk_unrefp) struct chunk *text = openapi_v2(ret_hash);
	struct json *v = NULL;
	struct str s;

	if (json_parse(&arena, chunk_str(text), 0, &v, NULL) < 0)
		abort(); /* we wrote it */
	message(&out, &document_desc, v);
	s = buf_str(&out);
	return chunk_create(s.p, s.n);
}
