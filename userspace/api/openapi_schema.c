/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas of messages, as OpenAPI v2 definitions and v3 components. See openapi_internal.h. */
#include "userspace/api/kind_tables.h"
#include "userspace/api/openapi_internal.h"
#include "userspace/base/json.h"

#define QUANTITY "io.k8s.apimachinery.pkg.api.resource.Quantity"
#define INT_OR_STRING "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
#define RAW_EXTENSION "io.k8s.apimachinery.pkg.runtime.RawExtension"

static size_t message_index(const struct api_message *m)
{
	return (size_t)(m - api_builtin_messages);
}

static void mark_field(struct openapi_writer *w, const struct api_field *f)
{
	if (f->ref)
		openapi_mark(w, f->ref);
	if (f->elem)
		mark_field(w, f->elem);
}

void openapi_mark(struct openapi_writer *w, const struct api_message *m)
{
	if (!m || w->messages[message_index(m)])
		return;
	w->messages[message_index(m)] = true;
	for (size_t i = 0; i < m->n_fields; i++)
		mark_field(w, &m->fields[i]);
}

static void ref_member(struct openapi_writer *w, const char *name, const char *suffix)
{
	buf_printf(w->out, "\"$ref\":\"#/%s/%s%s\"", w->form == OPENAPI_V2 ? "definitions" : "components/schemas", name,
		   suffix);
}

void openapi_ref(struct openapi_writer *w, const char *name, const char *suffix)
{
	buf_add_char(w->out, '{');
	ref_member(w, name, suffix);
	buf_add_char(w->out, '}');
}

/* The name of the schema that a field refers to, NULL for plain types. */
static const char *ref_name(const struct api_field *f)
{
	switch (f->type) {
	case API_OBJECT:
		return f->ref->name;
	case API_QUANTITY:
		return QUANTITY;
	case API_INT_OR_STRING:
		return INT_OR_STRING;
	case API_TIME:
		return OPENAPI_META "Time";
	case API_MICRO_TIME:
		return OPENAPI_META "MicroTime";
	case API_RAW:
		return RAW_EXTENSION;
	default:
		return NULL;
	}
}

static void plain_type(struct buf *out, enum api_type type)
{
	static const char *const texts[] = {
		[API_STRING] = "\"type\":\"string\"",
		[API_BOOL] = "\"type\":\"boolean\"",
		[API_INT32] = "\"type\":\"integer\",\"format\":\"int32\"",
		[API_INT64] = "\"type\":\"integer\",\"format\":\"int64\"",
		[API_DOUBLE] = "\"type\":\"number\",\"format\":\"double\"",
		[API_BYTES] = "\"type\":\"string\",\"format\":\"byte\"",
	};

	buf_add_cstr(out, texts[type]);
}

static void strings(struct buf *out, const char *key, const char *const *list)
{
	buf_printf(out, ",\"%s\":[", key);
	for (size_t i = 0; list[i]; i++) {
		if (i)
			buf_add_char(out, ',');
		json_write_str(out, str_of(list[i]));
	}
	buf_add_char(out, ']');
}

static void schema(struct openapi_writer *w, const struct api_field *f);

/* What clients that merge need to know of a list. */
static void list_extensions(struct buf *out, const struct api_field *f)
{
	static const char *const types[] = {
		[API_LIST_ATOMIC] = "atomic", [API_LIST_SET] = "set", [API_LIST_MAP] = "map"
	};

	if (f->list_keys)
		strings(out, "x-kubernetes-list-map-keys", f->list_keys);
	buf_printf(out, ",\"x-kubernetes-list-type\":\"%s\"", types[f->list_type]);
}

static void patch_extensions(struct buf *out, const struct api_field *f)
{
	if (f->patch_merge_key)
		buf_printf(out, ",\"x-kubernetes-patch-merge-key\":\"%s\"", f->patch_merge_key);
	if (f->patch_strategy)
		buf_printf(out, ",\"x-kubernetes-patch-strategy\":\"%s%s%s\"",
			   f->patch_strategy & API_PATCH_MERGE ? "merge" : "",
			   f->patch_strategy == (API_PATCH_MERGE | API_PATCH_RETAIN_KEYS) ? "," : "",
			   f->patch_strategy & API_PATCH_RETAIN_KEYS ? "retainKeys" : "");
}

/* Members of a schema, without braces. */
static void schema_body(struct openapi_writer *w, const struct api_field *f)
{
	struct buf *out = w->out;
	const char *ref = ref_name(f);

	if (ref) {
		/* OpenAPI v3 allows no siblings of a $ref. */
		buf_add_cstr(out, w->form == OPENAPI_V3 ? "\"allOf\":[{" : "");
		ref_member(w, ref, "");
		buf_add_cstr(out, w->form == OPENAPI_V3 ? "}]" : "");
	} else if (f->type == API_ARRAY) {
		buf_add_cstr(out, "\"type\":\"array\",\"items\":");
		schema(w, f->elem);
		list_extensions(out, f);
	} else if (f->type == API_MAP) {
		buf_add_cstr(out, "\"type\":\"object\",\"additionalProperties\":");
		schema(w, f->elem);
	} else {
		plain_type(out, f->type);
	}
	if (f->map_type == API_MAP_ATOMIC && (f->type == API_MAP || f->type == API_OBJECT))
		buf_add_cstr(out, ",\"x-kubernetes-map-type\":\"atomic\"");
	if (f->enum_values && f->type == API_STRING)
		strings(out, "enum", f->enum_values);
	if (f->default_json && f->type != API_OBJECT)
		buf_printf(out, ",\"default\":%s", f->default_json);
	patch_extensions(out, f);
	if (f->description) {
		buf_add_cstr(out, ",\"description\":");
		json_write_str(out, str_of(f->description));
	}
}

static void schema(struct openapi_writer *w, const struct api_field *f)
{
	buf_add_char(w->out, '{');
	schema_body(w, f);
	buf_add_char(w->out, '}');
}

static void gvk_extension(struct buf *out, const struct api_kind *k, const char *suffix)
{
	buf_printf(out,
		   ",\"x-kubernetes-group-version-kind\":[{\"group\":\"%s\",\"kind\":\"%s%s\",\"version\":\"%s\"}]",
		   k->group, k->kind, suffix, k->version);
}

/* The kind whose objects the message describes, or NULL. */
static const struct api_kind *kind_of(const struct api_message *m)
{
	for (size_t i = 0; i < api_kind_count(); i++)
		if (api_kind_at(i)->message == m)
			return api_kind_at(i);
	return NULL;
}

static void message_schema(struct openapi_writer *w, const struct api_message *m)
{
	const struct api_kind *kind = kind_of(m);
	struct buf *out = w->out;
	bool any = false;

	buf_printf(out, "\"%s\":{\"type\":\"object\"", m->name);
	if (m->description) {
		buf_add_cstr(out, ",\"description\":");
		json_write_str(out, str_of(m->description));
	}
	if (m->n_fields)
		buf_add_cstr(out, ",\"properties\":{");
	for (size_t i = 0; i < m->n_fields; i++) {
		buf_printf(out, "%s\"%s\":", i ? "," : "", m->fields[i].name);
		schema(w, &m->fields[i]);
	}
	if (m->n_fields)
		buf_add_char(out, '}');
	for (size_t i = 0; i < m->n_fields; i++) {
		if (!m->fields[i].required)
			continue;
		buf_printf(out, "%s\"%s\"", any ? "," : ",\"required\":[", m->fields[i].name);
		any = true;
	}
	if (any)
		buf_add_char(out, ']');
	if (kind)
		gvk_extension(out, kind, "");
	buf_add_char(out, '}');
}

static void list_schema(struct openapi_writer *w, const struct api_kind *k)
{
	struct buf *out = w->out;

	buf_printf(out,
		   ",\"%sList\":{\"type\":\"object\",\"required\":[\"items\"],\"properties\":{\"apiVersion\":{\"type\":"
		   "\"string\"},\"items\":{\"type\":\"array\",\"items\":",
		   k->message->name);
	openapi_ref(w, k->message->name, "");
	buf_add_cstr(out, "},\"kind\":{\"type\":\"string\"},\"metadata\":");
	openapi_ref(w, OPENAPI_META "ListMeta", "");
	buf_add_char(out, '}');
	gvk_extension(out, k, "List");
	buf_add_char(out, '}');
}

/* Types with an encoding of their own. */
static void special_schemas(struct openapi_writer *w)
{
	buf_add_cstr(w->out, w->form == OPENAPI_V3 ? "\"" QUANTITY
						     "\":{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]}"
						   : "\"" QUANTITY "\":{\"type\":\"string\"}");
	buf_add_cstr(w->out, w->form == OPENAPI_V3
				     ? ",\"" INT_OR_STRING "\":{\"format\":\"int-or-string\",\"oneOf\":[{\"type\":"
				       "\"integer\"},{\"type\":\"string\"}]}"
				     : ",\"" INT_OR_STRING "\":{\"type\":\"string\",\"format\":\"int-or-string\"}");
	buf_add_cstr(w->out, ",\"" OPENAPI_META "Time\":{\"type\":\"string\",\"format\":\"date-time\"}");
	buf_add_cstr(w->out, ",\"" OPENAPI_META "MicroTime\":{\"type\":\"string\",\"format\":\"date-time\"}");
	buf_add_cstr(w->out, ",\"" OPENAPI_META "Patch\":{\"type\":\"object\"}");
	buf_add_cstr(w->out, ",\"" RAW_EXTENSION "\":{\"type\":\"object\"}");
}

void openapi_schemas(struct openapi_writer *w, const struct api_group_version *gv)
{
	size_t from = gv ? gv->first : 0, to = gv ? from + gv->n_kinds : api_kind_count();

	special_schemas(w);
	for (size_t i = 0; i < api_builtin_n_messages; i++) {
		if (!w->messages[i])
			continue;
		buf_add_char(w->out, ',');
		message_schema(w, &api_builtin_messages[i]);
	}
	for (size_t i = from; i < to; i++)
		if (api_kind_at(i)->verbs & API_VERB_LIST)
			list_schema(w, api_kind_at(i));
}
