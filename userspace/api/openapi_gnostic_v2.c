/* SPDX-License-Identifier: Apache-2.0 */
/* gnostic's openapi.v2.Document, as far as the swagger document uses it. See openapi_gnostic.h. */
#include "userspace/api/openapi_gnostic.h"
#include "userspace/api/openapi_internal.h"

static const struct openapi_desc schema_desc;
static const struct openapi_row schema_rows[] = {
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
static const struct openapi_desc schema_desc = { schema_rows, 31 };

static const struct openapi_row body_rows[] = {
	{ .key = "name", .number = 2, .shape = SHAPE_STRING },
	{ .key = "in", .number = 3, .shape = SHAPE_STRING },
	{ .key = "required", .number = 4, .shape = SHAPE_BOOL },
	{ .key = "schema", .number = 5, .shape = SHAPE_MESSAGE, .desc = &schema_desc },
	{ 0 },
};
static const struct openapi_row query_rows[] = {
	{ .key = "in", .number = 2, .shape = SHAPE_STRING },
	{ .key = "name", .number = 4, .shape = SHAPE_STRING },
	{ .key = "type", .number = 6, .shape = SHAPE_STRING },
	{ .key = "uniqueItems", .number = 20, .shape = SHAPE_BOOL },
	{ 0 },
};
static const struct openapi_row path_parameter_rows[] = {
	{ .key = "required", .number = 1, .shape = SHAPE_BOOL },
	{ .key = "in", .number = 2, .shape = SHAPE_STRING },
	{ .key = "name", .number = 4, .shape = SHAPE_STRING },
	{ .key = "type", .number = 5, .shape = SHAPE_STRING },
	{ .key = "uniqueItems", .number = 19, .shape = SHAPE_BOOL },
	{ 0 },
};
const struct openapi_desc openapi_v2_body_desc = { body_rows, 6 };
const struct openapi_desc openapi_v2_query_desc = { query_rows, 23 };
const struct openapi_desc openapi_v2_path_desc = { path_parameter_rows, 22 };

static const struct openapi_row response_rows[] = {
	{ .key = "description", .number = 1, .shape = SHAPE_STRING },
	{ .key = "schema", .number = 2, .shape = SHAPE_MESSAGE, .desc = &schema_desc, .wrap = { 1 } },
	{ 0 },
};
static const struct openapi_desc response_desc = { response_rows, 5 };
/* ResponseValue { oneof { Response response = 1; } } */
static const struct openapi_row response_value_rows[] = {
	{ .key = "", .number = 1, .shape = SHAPE_MESSAGE, .desc = &response_desc },
	{ 0 },
};
static const struct openapi_desc response_value_desc = { response_value_rows, 0 };

static const struct openapi_row operation_rows[] = {
	{ .key = "tags", .number = 1, .shape = SHAPE_STRING },
	{ .key = "description", .number = 3, .shape = SHAPE_STRING },
	{ .key = "operationId", .number = 5, .shape = SHAPE_STRING },
	{ .key = "produces", .number = 6, .shape = SHAPE_STRING },
	{ .key = "consumes", .number = 7, .shape = SHAPE_STRING },
	{ .key = "parameters", .number = 8, .shape = SHAPE_PARAMETER },
	{ .key = "responses", .number = 9, .shape = SHAPE_MAP, .desc = &response_value_desc, .entries = 1 },
	{ 0 },
};
static const struct openapi_desc operation_desc = { operation_rows, 13 };

static const struct openapi_row path_item_rows[] = {
	{ .key = "get", .number = 2, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "put", .number = 3, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "post", .number = 4, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "delete", .number = 5, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "options", .number = 6, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "head", .number = 7, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "patch", .number = 8, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "parameters", .number = 9, .shape = SHAPE_PARAMETER },
	{ 0 },
};
static const struct openapi_desc path_item_desc = { path_item_rows, 10 };

static const struct openapi_row info_rows[] = {
	{ .key = "title", .number = 1, .shape = SHAPE_STRING },
	{ .key = "version", .number = 2, .shape = SHAPE_STRING },
	{ 0 },
};
static const struct openapi_desc info_desc = { info_rows, 7 };

static const struct openapi_row document_rows[] = {
	{ .key = "swagger", .number = 1, .shape = SHAPE_STRING },
	{ .key = "info", .number = 2, .shape = SHAPE_MESSAGE, .desc = &info_desc },
	{ .key = "paths", .number = 8, .shape = SHAPE_MAP, .desc = &path_item_desc, .entries = 2 },
	{ .key = "definitions", .number = 9, .shape = SHAPE_MAP, .desc = &schema_desc, .entries = 1 },
	{ 0 },
};
const struct openapi_desc openapi_v2_desc = { document_rows, 16 };
