/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas of messages, as OpenAPI v2 definitions and v3 components. See openapi_internal.h. */
#include <stdlib.h>

#include "userspace/api/kind_tables.h"
#include "userspace/api/openapi_internal.h"
#include "userspace/base/json.h"

#define QUANTITY "io.k8s.apimachinery.pkg.api.resource.Quantity"
#define INT_OR_STRING "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
#define RAW_EXTENSION "io.k8s.apimachinery.pkg.runtime.RawExtension"
#define FIELDS OPENAPI_META "FieldsV1"

static size_t message_index(const struct api_message *m)
{
	return (size_t)(m - api_builtin_messages);
}

static void mark_field(struct openapi_writer *w, const struct api_field *f)
{
	if (f->ref) {
		openapi_mark(w, f->ref);
		w->atomic[message_index(f->ref)] |= f->map_type == API_MAP_ATOMIC;
	}
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
		return f->name && !strcmp(f->name, "fieldsV1") ? FIELDS : RAW_EXTENSION;
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

#define MAP_ATOMIC ",\"x-kubernetes-map-type\":\"atomic\""

#define ENUM_VALUES_MAX 64

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, as upstream's documents have them; the tables have the order of error messages. NULL-terminated. */
static void sorted_values(const char *const *values, const char *ret[static ENUM_VALUES_MAX + 1])
{
	size_t n = 0;

	for (; values[n] && n < ENUM_VALUES_MAX; n++)
		ret[n] = values[n];
	qsort(ret, n, sizeof(*ret), by_text);
	ret[n] = NULL;
}

/* kubectl up to 1.27 shows no enums but these lines. */
static void description(struct buf *out, const struct api_field *f, const char *const *values)
{
	_cleanup_(buf_finish) struct buf text = BUF_INIT;

	if (f->description)
		buf_add_cstr(&text, f->description);
	for (size_t i = 0; values && values[i]; i++)
		buf_printf(&text, "%s - `\"%s\"`",
			   i                ? "\n"
			   : buf_len(&text) ? "\n\nPossible enum values:\n"
					    : "Possible enum values:\n",
			   values[i]);
	if (!buf_len(&text))
		return;
	buf_add_cstr(out, ",\"description\":");
	json_write_str(out, buf_str(&text));
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
	const char *ref = ref_name(f), *sorted[ENUM_VALUES_MAX + 1], *const *values = NULL;

	if (f->enum_values && f->type == API_STRING) {
		sorted_values(f->enum_values, sorted);
		values = sorted;
	}
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
	if (f->map_type == API_MAP_ATOMIC && f->type == API_MAP)
		buf_add_cstr(out, MAP_ATOMIC);
	if (values)
		strings(out, "enum", values);
	if (f->default_json && f->type != API_OBJECT)
		buf_printf(out, ",\"default\":%s", f->default_json);
	patch_extensions(out, f);
	description(out, f, values);
}

static void schema(struct openapi_writer *w, const struct api_field *f)
{
	buf_add_char(w->out, '{');
	schema_body(w, f);
	buf_add_char(w->out, '}');
}

static void gvk(struct buf *out, const char *group, const char *version, const char *kind, const char *suffix)
{
	buf_printf(out, "{\"group\":\"%s\",\"kind\":\"%s%s\",\"version\":\"%s\"}", group, kind, suffix, version);
}

/* Kinds that are spoken in every group version. */
static bool is_everywhere(const char *kind)
{
	return !strcmp(kind, "DeleteOptions") || !strcmp(kind, "WatchEvent");
}

/* The kinds whose objects the message describes. */
static void gvk_extension(struct buf *out, const struct api_message *m)
{
	const char *meta = strncmp(m->name, OPENAPI_META, strlen(OPENAPI_META)) ? NULL : m->name + strlen(OPENAPI_META);
	size_t said = 0;

	if (meta && !is_everywhere(meta)) {
		if (!api_message_field(m, STR("kind")) || !api_message_field(m, STR("apiVersion")) ||
		    !strcmp(meta, "OwnerReference"))
			return;
		buf_add_cstr(out, ",\"x-kubernetes-group-version-kind\":[");
		gvk(out, "", "v1", meta, "");
		buf_add_char(out, ']');
		return;
	}
	for (size_t i = 0; i < (meta ? api_group_version_count() : api_kind_count()); i++) {
		const struct api_kind *k = meta ? NULL : api_kind_at(i);
		const struct api_group_version *gv = meta ? api_group_version_at(i) : NULL;

		if (k && k->message != m)
			continue;
		buf_add_cstr(out, said++ ? "," : ",\"x-kubernetes-group-version-kind\":[");
		gvk(out, k ? k->group : gv->group, k ? k->version : gv->version, k ? k->kind : meta, "");
	}
	if (said)
		buf_add_char(out, ']');
}

/* Messages with a member that says which of the others is set. */
static void union_extension(struct buf *out, const struct api_message *m)
{
	static const struct {
		const char *message, *discriminator, *fields;
	} unions[] = {
		{ "io.k8s.api.core.v1.AppArmorProfile", "type", "\"localhostProfile\":\"LocalhostProfile\"" },
		{ "io.k8s.api.core.v1.SeccompProfile", "type", "\"localhostProfile\":\"LocalhostProfile\"" },
		{ "io.k8s.api.flowcontrol.v1.LimitResponse", "type", "\"queuing\":\"Queuing\"" },
		{ "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec", "type",
		  "\"exempt\":\"Exempt\",\"limited\":\"Limited\"" },
		{ "io.k8s.api.flowcontrol.v1.Subject", "kind",
		  "\"group\":\"Group\",\"serviceAccount\":\"ServiceAccount\",\"user\":\"User\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(unions); i++)
		if (!strcmp(unions[i].message, m->name))
			buf_printf(out,
				   ",\"x-kubernetes-unions\":[{\"discriminator\":\"%s\",\"fields-to-"
				   "discriminateBy\":{%s}}]",
				   unions[i].discriminator, unions[i].fields);
}

/* The comma before a schema, but the first. */
static void next_schema(struct openapi_writer *w)
{
	if (!w->first_schema)
		buf_add_char(w->out, ',');
	w->first_schema = false;
}

static void message_schema(struct openapi_writer *w, const struct api_message *m)
{
	struct buf *out = w->out;
	bool any = false;

	next_schema(w);
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
	gvk_extension(out, m);
	if (w->atomic[message_index(m)])
		buf_add_cstr(out, MAP_ATOMIC);
	union_extension(out, m);
	buf_add_char(out, '}');
}

static void list_schema(struct openapi_writer *w, const struct api_kind *k)
{
	struct buf *out = w->out;

	next_schema(w);
	buf_printf(
		out,
		"\"%sList\":{\"type\":\"object\",\"description\":\"Several objects of kind %s.\",\"required\":["
		"\"items\"],\"properties\":{\"apiVersion\":{\"type\":\"string\",\"description\":\"The group and "
		"version of this form, such as v1 or apps/v1.\"},\"items\":{\"type\":\"array\",\"description\":\"The "
		"objects.\",\"items\":",
		k->message->name, k->kind);
	if (w->form == OPENAPI_V3)
		buf_add_cstr(out, "{\"default\":{},\"allOf\":[");
	openapi_ref(w, k->message->name, "");
	buf_printf(
		out,
		"%s},\"kind\":{\"type\":\"string\",\"description\":\"The kind of the list.\"},\"metadata\":{\"description\":"
		"\"Version of the list, and where it goes on.\",%s",
		w->form == OPENAPI_V3 ? "]}" : "", w->form == OPENAPI_V3 ? "\"default\":{},\"allOf\":[{" : "");
	ref_member(w, OPENAPI_META "ListMeta", "");
	buf_add_cstr(out, w->form == OPENAPI_V3 ? "}]}}" : "}}");
	buf_add_cstr(out, ",\"x-kubernetes-group-version-kind\":[");
	gvk(out, k->group, k->version, k->kind, "List");
	buf_add_cstr(out, "]}");
}

/* Types with an encoding of their own, and the answer of /version. */
static void special_schemas(struct openapi_writer *w, bool kinds)
{
	static const struct {
		const char *name, *v2, *v3; /* members; v3 NULL: the same */
		bool always;
	} specials[] = {
		{ QUANTITY, "\"type\":\"string\"", "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]", false },
		{ INT_OR_STRING, "\"type\":\"string\",\"format\":\"int-or-string\"",
		  "\"format\":\"int-or-string\",\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]", false },
		{ OPENAPI_META "Time", "\"type\":\"string\",\"format\":\"date-time\"", NULL, false },
		{ OPENAPI_META "MicroTime", "\"type\":\"string\",\"format\":\"date-time\"", NULL, false },
		{ OPENAPI_META "Patch", "\"type\":\"object\"", NULL, false },
		{ FIELDS, "\"type\":\"object\"", NULL, false },
		{ RAW_EXTENSION, "\"type\":\"object\"", NULL, false },
		{ OPENAPI_VERSION_INFO,
		  "\"type\":\"object\",\"required\":[\"major\",\"minor\",\"gitVersion\",\"gitCommit\",\"gitTreeState\","
		  "\"buildDate\",\"goVersion\",\"compiler\",\"platform\"],\"properties\":{\"buildDate\":{\"type\":"
		  "\"string\"},\"compiler\":{\"type\":\"string\"},\"gitCommit\":{\"type\":\"string\"},\"gitTreeState\":{"
		  "\"type\":\"string\"},\"gitVersion\":{\"type\":\"string\"},\"goVersion\":{\"type\":\"string\"},"
		  "\"major\":{\"type\":\"string\"},\"minor\":{\"type\":\"string\"},\"platform\":{\"type\":\"string\"}}",
		  NULL, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(specials); i++) {
		if (specials[i].always ? !w->version_info : !kinds)
			continue;
		next_schema(w);
		buf_printf(w->out, "\"%s\":{%s}", specials[i].name,
			   w->form == OPENAPI_V3 && specials[i].v3 ? specials[i].v3 : specials[i].v2);
	}
}

void openapi_schemas(struct openapi_writer *w, size_t from, size_t to)
{
	special_schemas(w, from < to);
	for (size_t i = 0; i < api_builtin_n_messages; i++)
		if (w->messages[i])
			message_schema(w, &api_builtin_messages[i]);
	for (size_t i = from; i < to; i++)
		if (api_kind_at(i)->verbs & API_VERB_LIST)
			list_schema(w, api_kind_at(i));
}
