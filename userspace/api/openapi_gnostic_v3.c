/* SPDX-License-Identifier: Apache-2.0 */
/* gnostic's openapi.v3.Document, as far as our documents use it. See openapi_gnostic.h. */
#include "userspace/api/openapi_gnostic.h"
#include "userspace/api/openapi_internal.h"

static const struct openapi_desc schema_desc;
static const struct openapi_desc schema_or_ref = { .or_reference = &schema_desc };
static const struct openapi_row schema_rows[] = {
	{ .key = "uniqueItems", .number = 20, .shape = SHAPE_BOOL },
	{ .key = "required", .number = 23, .shape = SHAPE_STRING },
	{ .key = "enum", .number = 24, .shape = SHAPE_ANY },
	{ .key = "type", .number = 25, .shape = SHAPE_STRING },
	{ .key = "allOf", .number = 26, .shape = SHAPE_MESSAGE, .desc = &schema_or_ref },
	{ .key = "oneOf", .number = 27, .shape = SHAPE_MESSAGE, .desc = &schema_or_ref },
	{ .key = "items", .number = 30, .shape = SHAPE_MESSAGE, .desc = &schema_or_ref, .wrap = { 1 } },
	{ .key = "properties", .number = 31, .shape = SHAPE_MAP, .desc = &schema_or_ref, .entries = 1 },
	{ .key = "additionalProperties", .number = 32, .shape = SHAPE_MESSAGE, .desc = &schema_or_ref, .wrap = { 1 } },
	{ .key = "default", .number = 33, .shape = SHAPE_DEFAULT },
	{ .key = "description", .number = 34, .shape = SHAPE_STRING },
	{ .key = "format", .number = 35, .shape = SHAPE_STRING },
	{ 0 },
};
static const struct openapi_desc schema_desc = { schema_rows, 36 };

static const struct openapi_row parameter_rows[] = {
	{ .key = "name", .number = 1, .shape = SHAPE_STRING },
	{ .key = "in", .number = 2, .shape = SHAPE_STRING },
	{ .key = "description", .number = 3, .shape = SHAPE_STRING },
	{ .key = "required", .number = 4, .shape = SHAPE_BOOL },
	{ .key = "schema", .number = 10, .shape = SHAPE_MESSAGE, .desc = &schema_or_ref },
	{ 0 },
};
static const struct openapi_desc parameter_desc = { parameter_rows, 14 };
static const struct openapi_desc parameter_or_ref = { .or_reference = &parameter_desc };

static const struct openapi_row media_type_rows[] = {
	{ .key = "schema", .number = 1, .shape = SHAPE_MESSAGE, .desc = &schema_or_ref },
	{ 0 },
};
static const struct openapi_desc media_type_desc = { media_type_rows, 5 };

static const struct openapi_row body_rows[] = {
	{ .key = "content", .number = 2, .shape = SHAPE_MAP, .desc = &media_type_desc, .entries = 1 },
	{ .key = "required", .number = 3, .shape = SHAPE_BOOL },
	{ 0 },
};
static const struct openapi_desc body_desc = { body_rows, 4 };
static const struct openapi_desc body_or_ref = { .or_reference = &body_desc };

static const struct openapi_row response_rows[] = {
	{ .key = "description", .number = 1, .shape = SHAPE_STRING },
	{ .key = "content", .number = 3, .shape = SHAPE_MAP, .desc = &media_type_desc, .entries = 1 },
	{ 0 },
};
static const struct openapi_desc response_desc = { response_rows, 5 };
static const struct openapi_desc response_or_ref = { .or_reference = &response_desc };

static const struct openapi_row operation_rows[] = {
	{ .key = "tags", .number = 1, .shape = SHAPE_STRING },
	{ .key = "description", .number = 3, .shape = SHAPE_STRING },
	{ .key = "operationId", .number = 5, .shape = SHAPE_STRING },
	{ .key = "parameters", .number = 6, .shape = SHAPE_MESSAGE, .desc = &parameter_or_ref },
	{ .key = "requestBody", .number = 7, .shape = SHAPE_MESSAGE, .desc = &body_or_ref },
	{ .key = "responses", .number = 8, .shape = SHAPE_MAP, .desc = &response_or_ref, .entries = 2 },
	{ 0 },
};
static const struct openapi_desc operation_desc = { operation_rows, 13 };

static const struct openapi_row path_item_rows[] = {
	{ .key = "get", .number = 4, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "put", .number = 5, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "post", .number = 6, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "delete", .number = 7, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "options", .number = 8, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "head", .number = 9, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "patch", .number = 10, .shape = SHAPE_MESSAGE, .desc = &operation_desc },
	{ .key = "parameters", .number = 13, .shape = SHAPE_MESSAGE, .desc = &parameter_or_ref },
	{ 0 },
};
static const struct openapi_desc path_item_desc = { path_item_rows, 14 };

static const struct openapi_row security_rows[] = {
	{ .key = "type", .number = 1, .shape = SHAPE_STRING },
	{ .key = "description", .number = 2, .shape = SHAPE_STRING },
	{ .key = "name", .number = 3, .shape = SHAPE_STRING },
	{ .key = "in", .number = 4, .shape = SHAPE_STRING },
	{ 0 },
};
static const struct openapi_desc security_desc = { security_rows, 9 };
static const struct openapi_desc security_or_ref = { .or_reference = &security_desc };

static const struct openapi_row component_rows[] = {
	{ .key = "schemas", .number = 1, .shape = SHAPE_MAP, .desc = &schema_or_ref, .entries = 1 },
	{ .key = "securitySchemes", .number = 7, .shape = SHAPE_MAP, .desc = &security_or_ref, .entries = 1 },
	{ 0 },
};
static const struct openapi_desc component_desc = { component_rows, 10 };

static const struct openapi_row info_rows[] = {
	{ .key = "title", .number = 1, .shape = SHAPE_STRING },
	{ .key = "version", .number = 6, .shape = SHAPE_STRING },
	{ 0 },
};
static const struct openapi_desc info_desc = { info_rows, 7 };

static const struct openapi_row document_rows[] = {
	{ .key = "openapi", .number = 1, .shape = SHAPE_STRING },
	{ .key = "info", .number = 2, .shape = SHAPE_MESSAGE, .desc = &info_desc },
	{ .key = "paths", .number = 4, .shape = SHAPE_MAP, .desc = &path_item_desc, .entries = 1 },
	{ .key = "components", .number = 5, .shape = SHAPE_MESSAGE, .desc = &component_desc },
	{ 0 },
};
const struct openapi_desc openapi_v3_desc = { document_rows, 9 };
