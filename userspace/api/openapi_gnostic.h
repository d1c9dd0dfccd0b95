/* SPDX-License-Identifier: Apache-2.0 */
/* How members of an OpenAPI document become fields of gnostic's protobuf messages. Inside openapi_gnostic*.c only. */
#pragma once

enum openapi_shape {
	SHAPE_STRING, /* also each item of an array of strings */
	SHAPE_BOOL,
	SHAPE_MESSAGE, /* also each item of an array of objects */
	SHAPE_MAP,     /* object: every member is {name = 1, value = 2} in field `entries` of the message */
	SHAPE_ANY,     /* any JSON as {yaml = 2}; also each item of an array */
	SHAPE_PARAMETER,
	SHAPE_DEFAULT, /* {number = 1 | boolean = 2 | string = 3}, empty for all else */
};

struct openapi_desc;

struct openapi_row {
	const char *key;
	unsigned number;
	enum openapi_shape shape;
	const struct openapi_desc *desc;
	unsigned wrap[3]; /* messages of one field around the value, outermost first */
	unsigned entries; /* SHAPE_MAP */
};

struct openapi_desc {
	const struct openapi_row *rows;
	unsigned extensions; /* field of x-... members, 0: none */
	/* {this = 1 | {_ref = 1} = 2}, by whether there is a "$ref"; rows are not used then. */
	const struct openapi_desc *or_reference;
};

/* Parameters of swagger documents, by where they are. */
extern const struct openapi_desc openapi_v2_body_desc, openapi_v2_query_desc, openapi_v2_path_desc;
