/* SPDX-License-Identifier: Apache-2.0 */
/* Build-time host tool: userspace/api/kinds/<group>_<version>.json -> one C file of const tables (api/kind.h).
 *
 *     kindgen OUT.c IN.json...
 *
 * Everything is emitted as text into a few streams that are joined at the end; equal lists and equal element
 * fields are emitted once. Any inconsistency of the data (a kind given twice, an unknown reference, a default of
 * the wrong type) ends the build with one line. It runs once and exits: nothing is freed. */
#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/gen/value_structs.h"

#define FILES_MAX 64
#define MESSAGES_MAX 4096
#define KINDS_MAX 512
#define POOL_MAX 8192
#define SELECTABLE_MAX 11 /* API_SELECTABLE_MAX */

struct file {
	const char *path, *group, *version;
	cJSON *root;
	int first, n_kinds;
};

struct kind {
	const struct file *file;
	const char *name;
	cJSON *json;
	int resource; /* -1: never stored */
};

/* Texts that are emitted once, named by their place. */
struct pool {
	char *texts[POOL_MAX];
	int n;
	const char *prefix, *type;
};

static struct file files[FILES_MAX];
static int n_files;
static cJSON *messages[MESSAGES_MAX];
static int n_messages;
static int n_pb_messages; /* messages that only protobuf knows: made for each message that shows them inlined */
static struct kind kinds[KINDS_MAX];
static int n_kinds;
static struct pool lists = { .prefix = "L", .type = "char *const" };
static struct pool elems = { .prefix = "E", .type = "struct api_field" };
static uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a of all files */
static const char *at = "?";                  /* what is being worked on, for error lines */

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "kindgen: %s: ", at);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
	char *s;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		die("out of memory");
	va_end(ap);
	return s;
}

static const char *get_str(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

static const char *need_str(const cJSON *o, const char *key)
{
	const char *s = get_str(o, key);

	if (!s)
		die("\"%s\" is missing", key);
	return s;
}

static bool get_bool(const cJSON *o, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, key));
}

/* A C string literal; NULL gives NULL. */
static char *quote(const char *s)
{
	char *out, *p;

	if (!s)
		return text("NULL");
	out = p = malloc(strlen(s) * 4 + 3);
	if (!out)
		die("out of memory");
	*p++ = '"';
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			*p++ = '\\';
		if ((unsigned char)*s < 0x20)
			p += sprintf(p, "\\%03o", (unsigned char)*s);
		else
			*p++ = *s;
	}
	*p++ = '"';
	*p = 0;
	return out;
}

/* The name under which `body` (an initializer) is or will be emitted. */
static char *pooled(struct pool *pool, char *body)
{
	int i;

	for (i = 0; i < pool->n; i++)
		if (!strcmp(pool->texts[i], body))
			break;
	if (i == pool->n) {
		if (pool->n == POOL_MAX)
			die("too many distinct %s", pool->type);
		pool->texts[pool->n++] = body;
	}
	return text("%s%d", pool->prefix, i);
}

static char *string_list(const cJSON *array)
{
	char *body = text("{ ");
	const cJSON *it;

	if (!cJSON_IsArray(array) || !cJSON_GetArraySize(array))
		return text("NULL");
	cJSON_ArrayForEach(it, array)
	{
		if (!cJSON_IsString(it))
			die("a list holds something that is not a string");
		body = text("%s%s, ", body, quote(it->valuestring));
	}
	return pooled(&lists, text("%sNULL }", body));
}

static int find_message(const char *name)
{
	for (int i = 0; i < n_messages; i++)
		if (!strcmp(messages[i]->string, name))
			return i;
	return -1;
}

static int message_index(const char *name)
{
	int i = find_message(name);

	if (i < 0)
		die("unknown message %s", name);
	return i;
}

struct word {
	const char *name, *c;
};

static const char *word_of(const struct word *words, const char *name, const char *what)
{
	for (; words->name; words++)
		if (!strcmp(words->name, name))
			return words->c;
	die("unknown %s \"%s\"", what, name);
}

static const struct word types[] = {
	{ "string", "API_STRING" },
	{ "bool", "API_BOOL" },
	{ "int32", "API_INT32" },
	{ "int64", "API_INT64" },
	{ "double", "API_DOUBLE" },
	{ "bytes", "API_BYTES" },
	{ "object", "API_OBJECT" },
	{ "array", "API_ARRAY" },
	{ "map", "API_MAP" },
	{ "quantity", "API_QUANTITY" },
	{ "intOrString", "API_INT_OR_STRING" },
	{ "time", "API_TIME" },
	{ "microTime", "API_MICRO_TIME" },
	{ "raw", "API_RAW" },
	{ NULL, NULL },
};
static const struct word list_types[] = {
	{ "atomic", "API_LIST_ATOMIC" },
	{ "set", "API_LIST_SET" },
	{ "map", "API_LIST_MAP" },
	{ NULL, NULL },
};
static const struct word map_types[] = {
	{ "granular", "API_MAP_GRANULAR" },
	{ "atomic", "API_MAP_ATOMIC" },
	{ NULL, NULL },
};
static const struct word strategies[] = {
	{ "replace", "API_PATCH_REPLACE" },
	{ "merge", "API_PATCH_MERGE" },
	{ "retainKeys", "API_PATCH_RETAIN_KEYS" },
	{ "merge,retainKeys", "API_PATCH_MERGE | API_PATCH_RETAIN_KEYS" },
	{ NULL, NULL },
};
static const struct word presences[] = {
	{ "any", "API_PRESENCE_ANY" },
	{ "set", "API_PRESENCE_SET" },
	{ "nonempty", "API_PRESENCE_NONEMPTY" },
	{ NULL, NULL },
};
static const struct word name_rules[] = {
	{ "subdomain", "API_NAME_SUBDOMAIN" },
	{ "label", "API_NAME_LABEL" },
	{ "label1035", "API_NAME_LABEL_1035" },
	{ "pathSegment", "API_NAME_PATH_SEGMENT" },
	{ "ip", "API_NAME_IP" },
	{ NULL, NULL },
};
static const struct word verbs[] = {
	{ "get", "API_VERB_GET" },
	{ "list", "API_VERB_LIST" },
	{ "watch", "API_VERB_WATCH" },
	{ "create", "API_VERB_CREATE" },
	{ "update", "API_VERB_UPDATE" },
	{ "patch", "API_VERB_PATCH" },
	{ "delete", "API_VERB_DELETE" },
	{ "deletecollection", "API_VERB_DELETECOLLECTION" },
	{ NULL, NULL },
};
static const struct word pb_types[] = {
	{ "double", "API_PB_DOUBLE" },
	{ "int32", "API_PB_INT32" },
	{ "int64", "API_PB_INT64" },
	{ "bool", "API_PB_BOOL" },
	{ "string", "API_PB_STRING" },
	{ "bytes", "API_PB_BYTES" },
	{ NULL, NULL },
};

static const char *optional_word(const struct word *words, const cJSON *o, const char *key)
{
	const char *name = get_str(o, key);

	return name ? word_of(words, name, key) : words[0].c;
}

/* ", .pb_number = 5, .pb_type = API_PB_INT32" */
static char *protobuf(const cJSON *field)
{
	const cJSON *pb = cJSON_GetObjectItemCaseSensitive(field, "pb");
	const char *type, *c = "API_PB_MESSAGE", *label;

	if (!pb)
		return text("%s", "");
	type = cJSON_GetStringValue(cJSON_GetArrayItem(pb, 1));
	label = cJSON_GetStringValue(cJSON_GetArrayItem(pb, 2));
	if (!type || !label)
		die("pb wants [number, type, label]");
	if (!strncmp(type, "map<", 4))
		c = "API_PB_MAP";
	for (const struct word *w = pb_types; w->name; w++)
		if (!strcmp(w->name, type))
			c = w->c;
	return text(", .pb_number = %d, .pb_type = %s%s", cJSON_GetArrayItem(pb, 0)->valueint, c,
		    strcmp(label, "repeated") ? "" : ", .pb_repeated = true");
}

static char *limits(const cJSON *field)
{
	const cJSON *min = cJSON_GetObjectItemCaseSensitive(field, "min");
	const cJSON *max = cJSON_GetObjectItemCaseSensitive(field, "max");
	char *lo = min ? text("%lld", (long long)min->valuedouble) : text("INT64_MIN");
	char *hi = max ? text("%lld", (long long)max->valuedouble) : text("INT64_MAX");

	return text(", .min = %s, .max = %s", lo, hi);
}

static bool default_fits(const char *type, const cJSON *d)
{
	if (!strcmp(type, "string") || !strcmp(type, "quantity"))
		return cJSON_IsString(d);
	if (!strcmp(type, "bool"))
		return cJSON_IsBool(d);
	if (!strcmp(type, "int32") || !strcmp(type, "int64"))
		return cJSON_IsNumber(d);
	if (!strcmp(type, "intOrString"))
		return cJSON_IsNumber(d) || cJSON_IsString(d);
	if (!strcmp(type, "array"))
		return cJSON_IsArray(d);
	return !strcmp(type, "object") && cJSON_IsObject(d);
}

/* A whole initializer; elements have no name. `message`: the one it is a field of, NULL for elements. */
static char *field(const cJSON *f, const char *name, const char *message)
{
	const char *type = need_str(f, "type"), *ref = get_str(f, "ref");
	const cJSON *elem = cJSON_GetObjectItemCaseSensitive(f, strcmp(type, "array") ? "values" : "items");
	const cJSON *d = cJSON_GetObjectItemCaseSensitive(f, "default");
	const char *map_type = optional_word(map_types, f, "mapType");
	char *out = text("{ .type = %s", word_of(types, type, "type"));

	if (name)
		out = text("%s, .name = %s", out, quote(name));
	if (ref) {
		int i = message_index(ref);

		out = text("%s, .ref = &messages[%d]", out, i);
		if (get_str(messages[i], "mapType"))
			map_type = optional_word(map_types, messages[i], "mapType");
	}
	if ((!strcmp(type, "array") || !strcmp(type, "map")) != !!elem)
		die("%s: an element type is missing or too many", name ? name : "element");
	if (elem)
		out = text("%s, .elem = &%s", out, pooled(&elems, field(elem, NULL, NULL)));
	if (d && !default_fits(type, d))
		die("%s: the default is not a %s", name, type);
	out = text("%s, .required = %d, .presence = %s, .list_type = %s, .map_type = %s, .patch_strategy = %s", out,
		   get_bool(f, "required"), optional_word(presences, f, "presence"),
		   optional_word(list_types, f, "listType"), map_type, optional_word(strategies, f, "patchStrategy"));
	out = text("%s, .patch_merge_key = %s, .list_keys = %s, .enum_values = %s", out,
		   quote(get_str(f, "patchMergeKey")), string_list(cJSON_GetObjectItemCaseSensitive(f, "listMapKeys")),
		   string_list(cJSON_GetObjectItemCaseSensitive(f, "enum")));
	out = text("%s, .default_json = %s, .format = %s, .immutable = %d, .unique = %d, .default_zero = %d%s%s", out,
		   quote(d ? cJSON_PrintUnformatted(d) : NULL), quote(get_str(f, "format")), get_bool(f, "immutable"),
		   get_bool(f, "unique"), get_bool(f, "defaultZero"), limits(f), protobuf(f));
	if (get_bool(f, "pointer"))
		out = text("%s, .pointer = true", out);
	if (name && !strcmp(type, "object") && value_struct(message, name))
		out = text("%s, .value = true", out);
	return text("%s, .description = %s }", out, quote(get_str(f, "doc")));
}

static int by_key(const void *a, const void *b)
{
	return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

/* Prints the field table of a message (NULL: of one that only protobuf knows); returns how many. */
static int emit_fields(FILE *out, const char *table, const cJSON *fields, const char *message)
{
	int n = cJSON_GetArraySize(fields), i = 0;
	cJSON **sorted = calloc((size_t)n + 1, sizeof(*sorted)), *it;

	if (!sorted)
		die("out of memory");
	cJSON_ArrayForEach(it, fields) sorted[i++] = it;
	qsort(sorted, (size_t)n, sizeof(*sorted), by_key);
	if (n)
		fprintf(out, "static const struct api_field %s[] = {\n", table);
	for (i = 0; i < n; i++) {
		at = sorted[i]->string;
		if (i && !strcmp(sorted[i]->string, sorted[i - 1]->string))
			die("given twice");
		fprintf(out, "\t%s,\n", field(sorted[i], sorted[i]->string, message));
	}
	if (n)
		fprintf(out, "};\n");
	free(sorted);
	return n;
}

/* The protobuf message `name` ("k8s.io.api.core.v1.ProbeHandler"), NULL: none of those. */
static const cJSON *pb_message(const char *name)
{
	for (int i = 0; i < n_files; i++) {
		const cJSON *all = cJSON_GetObjectItemCaseSensitive(files[i].root, "pbMessages");
		const cJSON *m = cJSON_GetObjectItemCaseSensitive(all, name);

		if (m)
			return m;
	}
	return NULL;
}

/* A row of pb_messages: the fields of `owner` that are in `pb`, with the numbers they have there. */
static int emit_pb_message(FILE *tables, FILE *rows, const cJSON *owner, const cJSON *pb)
{
	const cJSON *fields = cJSON_GetObjectItemCaseSensitive(owner, "fields"), *it;
	cJSON *own = cJSON_CreateObject();
	int index = n_pb_messages++, n;

	cJSON_ArrayForEach(it, pb)
	{
		const cJSON *f = cJSON_GetObjectItemCaseSensitive(fields, it->string);
		cJSON *copy = f ? cJSON_Duplicate(f, true) : NULL;

		if (!f || cJSON_GetObjectItemCaseSensitive(f, "pb"))
			die("%s is no field that only %s has", it->string, pb->string);
		cJSON_AddItemToObject(copy, "pb", cJSON_Duplicate(it, true));
		cJSON_AddItemToObject(own, it->string, copy);
	}
	n = emit_fields(tables, text("P%d", index), own, NULL);
	fprintf(rows, "\t{ .name = %s, .n_fields = %d, .fields = P%d },\n", quote(pb->string), n, index);
	return index;
}

/* Prints what JSON shows inlined in a message; returns the name of the table. */
static char *emit_inline(FILE *tables, FILE *pb_rows, int index)
{
	const cJSON *all = cJSON_GetObjectItemCaseSensitive(messages[index], "pbInline"), *it;
	const char *name = messages[index]->string, *last = strrchr(name, '.');
	char *rows = text("%s", "");

	if (!all)
		return text("NULL");
	cJSON_ArrayForEach(it, all)
	{
		const char *type = cJSON_GetStringValue(cJSON_GetArrayItem(it, 1)), *of;
		const cJSON *pb;
		int i;

		at = name;
		if (!type || !last || strncmp(name, "io.k8s.", 7))
			die("pbInline wants [number, type, label] in a message of io.k8s");
		of = text("%.*s.%s", (int)(last - name) - 7, name + 7, type);
		i = find_message(text("io.k8s.%s", of));
		pb = pb_message(text("k8s.io.%s", of));
		if (i < 0 && !pb)
			die("unknown protobuf message %s", type);
		rows = text("%s\t{ %d, &%s[%d] },\n", rows, cJSON_GetArrayItem(it, 0)->valueint,
			    i < 0 ? "pb_messages" : "messages",
			    i < 0 ? emit_pb_message(tables, pb_rows, messages[index], pb) : i);
	}
	fprintf(tables, "static const struct api_pb_inline I%d[] = {\n%s\t{ 0, NULL },\n};\n", index, rows);
	return text("I%d", index);
}

static void emit_messages(FILE *tables, FILE *rows, FILE *pb_rows)
{
	fprintf(rows, "static const struct api_message messages[%d] = {\n", n_messages);
	for (int i = 0; i < n_messages; i++) {
		const char *pb_inline = emit_inline(tables, pb_rows, i);
		int n = emit_fields(tables, text("F%d", i), cJSON_GetObjectItemCaseSensitive(messages[i], "fields"),
				    messages[i]->string);

		at = messages[i]->string;
		fprintf(rows, "\t{ .name = %s, .n_fields = %d, .description = %s, .pb_inline = %s", quote(at), n,
			quote(get_str(messages[i], "doc")), pb_inline);
		fprintf(rows, n ? ", .fields = F%d },\n" : " },\n", i);
	}
	fprintf(rows, "};\n");
}

static char *verb_set(const cJSON *array)
{
	char *out = text("0");
	const cJSON *it;

	cJSON_ArrayForEach(it, array) out = text("%s | %s", out, word_of(verbs, it->valuestring, "verb"));
	return out;
}

static void emit_subresources(FILE *out, int index, const cJSON *array)
{
	const cJSON *it;

	fprintf(out, "static const struct api_subresource S%d[] = {\n", index);
	cJSON_ArrayForEach(it, array)
	{
		const cJSON *body = cJSON_GetObjectItemCaseSensitive(it, "kind");
		const char *message = get_str(it, "message");

		fprintf(out, "\t{ .name = %s, .verbs = %s, .group = %s, .version = %s, .kind = %s, .message = %s },\n",
			quote(need_str(it, "name")), verb_set(cJSON_GetObjectItemCaseSensitive(it, "verbs")),
			quote(cJSON_GetStringValue(cJSON_GetArrayItem(body, 0))),
			quote(cJSON_GetStringValue(cJSON_GetArrayItem(body, 1))),
			quote(cJSON_GetStringValue(cJSON_GetArrayItem(body, 2))),
			message ? text("&messages[%d]", message_index(message)) : "NULL");
	}
	fprintf(out, "};\n");
}

static void emit_columns(FILE *out, int index, const cJSON *array)
{
	const cJSON *it;

	fprintf(out, "static const struct api_column C%d[] = {\n", index);
	cJSON_ArrayForEach(it, array)
	{
		const cJSON *priority = cJSON_GetObjectItemCaseSensitive(it, "priority");
		const char *format = get_str(it, "format"), *doc = get_str(it, "doc");

		fprintf(out,
			"\t{ .name = %s, .type = %s, .format = %s, .description = %s, .priority = %d, .path = %s },\n",
			quote(need_str(it, "name")), quote(need_str(it, "type")), quote(format ? format : ""),
			quote(doc ? doc : ""), priority ? priority->valueint : 0, quote(get_str(it, "path")));
	}
	fprintf(out, "};\n");
}

static int kind_index(const char *group, const char *version, const char *name)
{
	for (int i = 0; i < n_kinds; i++)
		if (!strcmp(kinds[i].file->group, group) && !strcmp(kinds[i].file->version, version) &&
		    !strcmp(kinds[i].name, name))
			return i;
	die("unknown kind %s of %s/%s", name, group, version);
}

/* Itself, or the kind whose form is stored. */
static int storage_of(int index)
{
	const cJSON *s = cJSON_GetObjectItemCaseSensitive(kinds[index].json, "storage");

	if (!s)
		return index;
	return kind_index(cJSON_GetStringValue(cJSON_GetArrayItem(s, 0)),
			  cJSON_GetStringValue(cJSON_GetArrayItem(s, 1)),
			  cJSON_GetStringValue(cJSON_GetArrayItem(s, 2)));
}

static bool stored(const cJSON *json)
{
	const cJSON *it;

	cJSON_ArrayForEach(
		it, cJSON_GetObjectItemCaseSensitive(json, "verbs")) if (!strcmp(it->valuestring, "get")) return true;
	return false;
}

static int number_resources(void)
{
	int n = 0;

	for (int i = 0; i < n_kinds; i++)
		kinds[i].resource = storage_of(i) == i && stored(kinds[i].json) ? n++ : -1;
	for (int i = 0; i < n_kinds; i++)
		kinds[i].resource = kinds[storage_of(i)].resource;
	return n;
}

static char *api_version(const struct file *f)
{
	return *f->group ? text("%s/%s", f->group, f->version) : text("%s", f->version);
}

static void emit_kind(FILE *tables, FILE *rows, int i)
{
	const cJSON *k = kinds[i].json, *subs = cJSON_GetObjectItemCaseSensitive(k, "subresources");
	const cJSON *columns = cJSON_GetObjectItemCaseSensitive(k, "columns");
	const cJSON *selectable = cJSON_GetObjectItemCaseSensitive(k, "selectable");
	const char *plural = need_str(k, "plural");

	at = kinds[i].name;
	if (cJSON_GetArraySize(selectable) > SELECTABLE_MAX)
		die("too many selectable fields");
	if (subs)
		emit_subresources(tables, i, subs);
	if (columns)
		emit_columns(tables, i, columns);
	fprintf(rows, "\t{ .group = %s, .version = %s, .api_version = %s, .kind = %s, .list_kind = %s,\n",
		quote(kinds[i].file->group), quote(kinds[i].file->version), quote(api_version(kinds[i].file)),
		quote(at), quote(*plural ? text("%sList", at) : ""));
	fprintf(rows, "\t  .plural = %s, .singular = %s, .short_names = %s, .categories = %s,\n", quote(plural),
		quote(need_str(k, "singular")), string_list(cJSON_GetObjectItemCaseSensitive(k, "shortNames")),
		string_list(cJSON_GetObjectItemCaseSensitive(k, "categories")));
	fprintf(rows, "\t  .namespaced = %d, .lazy = %d, .name_rule = %s, .verbs = %s,\n", get_bool(k, "namespaced"),
		get_bool(k, "lazy"), optional_word(name_rules, k, "nameRule"),
		verb_set(cJSON_GetObjectItemCaseSensitive(k, "verbs")));
	fprintf(rows, "\t  .message = &messages[%d], .subresources = %s, .n_subresources = %d,\n",
		message_index(need_str(k, "message")), subs ? text("S%d", i) : "NULL", cJSON_GetArraySize(subs));
	fprintf(rows, "\t  .columns = %s, .n_columns = %d, .selectable = %s, .storage = &api_builtin_kinds[%d],\n",
		columns ? text("C%d", i) : "NULL", cJSON_GetArraySize(columns), string_list(selectable), storage_of(i));
	fprintf(rows, "\t  .resource = %s },\n",
		kinds[i].resource < 0 ? "API_RESOURCE_NONE" : text("%d", kinds[i].resource));
}

/* KIND_POD and the like: every kind that is stored in its own form. */
static void emit_names(FILE *out)
{
	for (int i = 0; i < n_kinds; i++) {
		char *name = text("%s", kinds[i].name);

		if (kinds[i].resource < 0 || storage_of(i) != i)
			continue;
		for (char *p = name; *p; p++)
			*p = (char)toupper((unsigned char)*p);
		fprintf(out, "extern const struct api_kind *const KIND_%s;\n", name);
		fprintf(out, "const struct api_kind *const KIND_%s = &api_builtin_kinds[%d];\n", name, i);
	}
}

/* The stored kind of each resource index. */
static void emit_resources(FILE *out, int n)
{
	fprintf(out, "const struct api_kind *const api_builtin_resources[] = {\n");
	for (int r = 0; r < n; r++)
		for (int i = 0; i < n_kinds; i++)
			if (kinds[i].resource == r && storage_of(i) == i)
				fprintf(out, "\t&api_builtin_kinds[%d],\n", i);
	fprintf(out, "};\nconst size_t api_builtin_n_resources = %d;\n", n);
}

static int priority(const struct file *f, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(f->root, key);

	return cJSON_IsNumber(v) ? v->valueint : 0;
}

static void emit_groups(FILE *out)
{
	int n = 0;

	fprintf(out, "const struct api_group_version api_builtin_group_versions[] = {\n");
	for (int i = 0; i < n_files; i++) {
		const struct file *f = &files[i];

		if (!f->n_kinds)
			continue;
		fprintf(out, "\t{ .group = %s, .version = %s, .api_version = %s, .first = %d, .n_kinds = %d,\n",
			quote(f->group), quote(f->version), quote(api_version(f)), f->first, f->n_kinds);
		fprintf(out, "\t  .group_priority = %d, .version_priority = %d },\n", priority(f, "groupPriority"),
			priority(f, "versionPriority"));
		n++;
	}
	fprintf(out, "};\nconst size_t api_builtin_n_group_versions = %d;\n", n);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct kind *)a)->name, ((const struct kind *)b)->name);
}

static int by_priority(const void *a, const void *b)
{
	static const char *const keys[] = { "groupPriority", "versionPriority" };
	const struct file *x = a, *y = b;

	for (int i = 0; i < 2; i++) {
		double p = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(x->root, keys[i]));
		double q = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(y->root, keys[i]));

		if (p != q)
			return p < q ? 1 : -1;
		if (i == 0 && strcmp(x->group, y->group))
			return strcmp(x->group, y->group);
	}
	return strcmp(x->version, y->version);
}

static void load_file(const char *path)
{
	struct file *f = &files[n_files++];
	char *data = NULL;
	size_t n = 0;
	FILE *in = fopen(path, "r");

	at = path;
	if (!in || getdelim(&data, &n, 0, in) < 0)
		die("%s", strerror(errno));
	fclose(in);
	for (const char *p = data; *p; p++)
		digest = (digest ^ (unsigned char)*p) * 0x100000001b3u;
	*f = (struct file){ .path = path, .root = cJSON_Parse(data) };
	if (!f->root)
		die("not JSON, near: %.40s", cJSON_GetErrorPtr());
	f->group = need_str(f->root, "group");
	f->version = need_str(f->root, "version");
	free(data);
}

static int message_order(const void *a, const void *b)
{
	return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

static void collect(struct file *f)
{
	cJSON *it;

	at = f->path;
	f->first = n_kinds;
	cJSON_ArrayForEach(it, cJSON_GetObjectItemCaseSensitive(f->root, "kinds"))
	{
		if (n_kinds == KINDS_MAX)
			die("too many kinds");
		kinds[n_kinds++] = (struct kind){ .file = f, .name = need_str(it, "kind"), .json = it };
	}
	f->n_kinds = n_kinds - f->first;
	qsort(kinds + f->first, (size_t)f->n_kinds, sizeof(*kinds), by_name);
	for (int i = 0; i < n_kinds; i++) {
		for (int j = i + 1; j < n_kinds; j++) {
			const char *p = need_str(kinds[i].json, "plural"), *q = need_str(kinds[j].json, "plural");

			if (!strcmp(kinds[i].file->group, kinds[j].file->group) &&
			    !strcmp(kinds[i].file->version, kinds[j].file->version) &&
			    (!strcmp(kinds[i].name, kinds[j].name) || (*p && !strcmp(p, q))))
				die("kind %s is there twice", kinds[j].name);
		}
	}
	cJSON_ArrayForEach(it, cJSON_GetObjectItemCaseSensitive(f->root, "messages"))
	{
		if (n_messages == MESSAGES_MAX)
			die("too many messages");
		messages[n_messages++] = it;
	}
}

static void emit_pool(FILE *out, const struct pool *pool)
{
	for (int i = 0; i < pool->n; i++)
		fprintf(out, "static const %s %s%d%s = %s;\n", pool->type, pool->prefix, i, pool == &lists ? "[]" : "",
			pool->texts[i]);
}

int main(int argc, char **argv)
{
	char *tables_text, *message_rows_text, *kind_rows_text, *pb_rows_text;
	size_t n;
	FILE *tables = open_memstream(&tables_text, &n), *out;
	FILE *message_rows = open_memstream(&message_rows_text, &n), *kind_rows = open_memstream(&kind_rows_text, &n);
	FILE *pb_rows = open_memstream(&pb_rows_text, &n);
	int n_resources;

	if (argc < 3 || argc - 2 > FILES_MAX || !tables || !message_rows || !kind_rows || !pb_rows)
		die("usage: kindgen OUT.c IN.json...");
	for (int i = 2; i < argc; i++)
		load_file(argv[i]);
	qsort(files, (size_t)n_files, sizeof(*files), by_priority);
	for (int i = 0; i < n_files; i++)
		collect(&files[i]);
	qsort(messages, (size_t)n_messages, sizeof(*messages), message_order);
	for (int i = 1; i < n_messages; i++)
		if (!strcmp(messages[i]->string, messages[i - 1]->string))
			die("message %s is there twice", messages[i]->string);
	n_resources = number_resources();
	emit_messages(tables, message_rows, pb_rows);
	for (int i = 0; i < n_kinds; i++)
		emit_kind(tables, kind_rows, i);
	fclose(tables);
	fclose(message_rows);
	fclose(kind_rows);
	fclose(pb_rows);

	at = argv[1];
	out = fopen(argv[1], "w");
	if (!out)
		die("%s", strerror(errno));
	fprintf(out,
		"/* Made by kindgen from userspace/api/kinds; do not edit. */\n"
		"#include \"userspace/api/kind.h\"\n#include \"userspace/api/kind_tables.h\"\n\n"
		"static const struct api_message messages[%d], pb_messages[%d];\n",
		n_messages, n_pb_messages + 1);
	emit_pool(out, &lists);
	emit_pool(out, &elems);
	fprintf(out, "%s%sstatic const struct api_message pb_messages[%d] = {\n%s\t{ .name = NULL },\n};\n",
		tables_text, message_rows_text, n_pb_messages + 1, pb_rows_text);
	fprintf(out,
		"const struct api_message *const api_builtin_messages = messages;\n"
		"const size_t api_builtin_n_messages = %d;\n"
		"const struct api_kind api_builtin_kinds[] = {\n%s};\n"
		"const size_t api_builtin_n_kinds = %d;\n",
		n_messages, kind_rows_text, n_kinds);
	emit_resources(out, n_resources);
	fprintf(out, "const char api_builtin_digest[] = \"%016llx\";\n", (unsigned long long)digest);
	emit_groups(out);
	emit_names(out);
	if (fclose(out))
		die("%s", strerror(errno));
	return 0;
}
