/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of object trees: header facts, finalizers, owners, conditions, partial metadata.
 * Works on trees of one caller; no state. Any thread. */
#include "userspace/api/meta.h"

#include <string.h>

#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

struct json *meta_of(const struct json *object)
{
	struct json *m = json_get(object, "metadata");

	return json_is(m, JSON_OBJECT) ? m : NULL;
}

struct str meta_name(const struct json *object)
{
	return json_get_str(meta_of(object), "name");
}

struct str meta_namespace(const struct json *object)
{
	return json_get_str(meta_of(object), "namespace");
}

struct str meta_uid(const struct json *object)
{
	return json_get_str(meta_of(object), "uid");
}

struct str meta_resource_version(const struct json *object)
{
	return json_get_str(meta_of(object), "resourceVersion");
}

int64_t meta_generation(const struct json *object)
{
	return json_get_int(meta_of(object), "generation", 0);
}

int64_t meta_next_generation(const struct json *object)
{
	return (int64_t)((uint64_t)meta_generation(object) + 1);
}

bool meta_deleting(const struct json *object)
{
	return json_is(json_get(meta_of(object), "deletionTimestamp"), JSON_STRING);
}

struct str meta_label(const struct json *object, const char *key)
{
	return json_get_str(json_get(meta_of(object), "labels"), key);
}

struct str meta_annotation(const struct json *object, const char *key)
{
	return json_get_str(json_get(meta_of(object), "annotations"), key);
}

bool meta_has_annotation(const struct json *object, const char *key)
{
	return json_get(json_get(meta_of(object), "annotations"), key) != NULL;
}

int64_t meta_time_ns(const struct json *value)
{
	int64_t ns;

	if (!json_is(value, JSON_STRING) || clock_parse_rfc3339(value->text, &ns) < 0)
		return 0;
	return ns;
}

int64_t meta_created_ns(const struct json *object)
{
	return meta_time_ns(json_get(meta_of(object), "creationTimestamp"));
}

struct str meta_kind(const struct json *object)
{
	return json_get_str(object, "kind");
}

struct str meta_api_version(const struct json *object)
{
	return json_get_str(object, "apiVersion");
}

/* ---- the header ---- */

/* The schema's type at a dotted path; API_STRING when the path leaves the schema. */
static enum api_type type_at(const struct api_message *m, const char *path)
{
	struct str rest = str_of(path), part;
	enum api_type type = API_STRING;

	while (str_split(&rest, '.', &part)) {
		const struct api_field *f = m ? api_message_field(m, part) : NULL;

		if (!f)
			return API_STRING;
		type = f->type;
		m = f->type == API_OBJECT ? f->ref : NULL;
	}
	return type;
}

/* Selectable fields whose name is not the path of their value. */
static const struct {
	const char *field, *path, *otherwise;
} named_fields[] = {
	{ "status.successful", "status.succeeded", NULL },
	{ "source", "source.component", "reportingComponent" },
	{ "status.podIPs", "", NULL }, /* accepted, and never more than empty */
};

static const char *field_path_of(const struct json *object, const char *field)
{
	for (size_t i = 0; i < ARRAY_SIZE(named_fields); i++) {
		if (strcmp(field, named_fields[i].field) != 0)
			continue;
		if (named_fields[i].otherwise && !json_at_str(object, named_fields[i].path).n)
			return named_fields[i].otherwise;
		return named_fields[i].path;
	}
	return NULL;
}

struct str meta_field_text(struct arena *arena, const struct api_kind *kind, const struct json *object,
			   const char *dotted_path)
{
	const struct json *v = json_at(object, dotted_path);
	const char *path;

	if (v && (v->type == JSON_STRING || v->type == JSON_NUMBER))
		return v->text;
	if (json_is(v, JSON_BOOL))
		return v->boolean ? STR("true") : STR("false");
	path = field_path_of(object, dotted_path);
	if (path)
		return *path ? meta_field_text(arena, kind, object, path) : STR("");
	if (v && v->type != JSON_NULL)
		return json_text(arena, v);
	switch (kind && kind->message ? type_at(kind->message, dotted_path) : API_STRING) {
	case API_BOOL:
		return STR("false");
	case API_INT32:
	case API_INT64:
	case API_DOUBLE:
		return STR("0");
	default:
		return STR("");
	}
}

static void header_labels(struct arena *arena, const struct json *meta, struct api_header *h)
{
	const struct json *labels = json_get(meta, "labels");

	if (!json_is(labels, JSON_OBJECT) || !json_count(labels))
		return;
	h->labels = arena_new_array(arena, struct api_label, json_count(labels));
	json_foreach(l, labels)
		h->labels[h->n_labels++] = (struct api_label){ l->key, json_str(l) };
}

static void header_owners(struct arena *arena, const struct json *meta, struct api_header *h)
{
	const struct json *owners = json_get(meta, "ownerReferences");

	if (!json_is(owners, JSON_ARRAY) || !json_count(owners))
		return;
	h->owners = arena_new_array(arena, struct api_owner, json_count(owners));
	json_foreach(o, owners)
		h->owners[h->n_owners++] = (struct api_owner){
			.api_version = json_get_str(o, "apiVersion"),
			.kind = json_get_str(o, "kind"),
			.name = json_get_str(o, "name"),
			.uid = json_get_str(o, "uid"),
			.controller = json_get_bool(o, "controller", false),
			.block_owner_deletion = json_get_bool(o, "blockOwnerDeletion", false),
		};
}

void meta_header(struct arena *arena, const struct api_kind *kind, const struct json *object, struct api_header *ret)
{
	const struct json *meta = meta_of(object);
	struct api_header h = {
		.ns = json_get_str(meta, "namespace"),
		.name = json_get_str(meta, "name"),
		.uid = json_get_str(meta, "uid"),
		.generation = json_get_int(meta, "generation", 0),
		.created_real_ns = meta_time_ns(json_get(meta, "creationTimestamp")),
		.deleted_real_ns = meta_time_ns(json_get(meta, "deletionTimestamp")),
		.deletion_grace_s = json_get_int(meta, "deletionGracePeriodSeconds", -1),
		.deleting = meta_deleting(object),
		.has_finalizers = json_count(json_get(meta, "finalizers")) > 0,
	};

	if (str_to_int64(json_get_str(meta, "resourceVersion"), &h.revision) < 0)
		h.revision = 0;
	header_labels(arena, meta, &h);
	header_owners(arena, meta, &h);
	for (const char *const *path = kind ? kind->selectable : NULL; path && *path; path++) {
		if (h.n_fields == API_HEADER_FIELDS_MAX)
			break;
		h.fields[h.n_fields++] = meta_field_text(arena, kind, object, *path);
	}
	*ret = h;
}

/* ---- changing ---- */

struct json *meta_ensure(struct arena *arena, struct json *object)
{
	return json_ensure_object(arena, object, "metadata");
}

void meta_set_label(struct arena *arena, struct json *object, const char *key, struct str value)
{
	json_set_str(arena, json_ensure_object(arena, meta_ensure(arena, object), "labels"), key, value);
}

void meta_set_annotation(struct arena *arena, struct json *object, const char *key, struct str value)
{
	json_set_str(arena, json_ensure_object(arena, meta_ensure(arena, object), "annotations"), key, value);
}

void meta_set_time(struct arena *arena, struct json *object, const char *key, int64_t real_ns)
{
	char text[CLOCK_RFC3339_MAX];

	clock_format_rfc3339(real_ns, text);
	json_set_str(arena, meta_ensure(arena, object), key, str_of(arena_strdup(arena, text)));
}

static struct json *find_str(const struct json *array, struct str s)
{
	json_foreach(it, array)
		if (json_is(it, JSON_STRING) && str_eq(it->text, s))
			return it;
	return NULL;
}

bool meta_has_finalizer(const struct json *object, struct str finalizer)
{
	return find_str(json_get(meta_of(object), "finalizers"), finalizer) != NULL;
}

bool meta_add_finalizer(struct arena *arena, struct json *object, struct str finalizer)
{
	if (meta_has_finalizer(object, finalizer))
		return false;
	json_append(json_ensure_array(arena, meta_ensure(arena, object), "finalizers"),
		    json_new_str(arena, arena_str(arena, finalizer)));
	return true;
}

bool meta_remove_finalizer(struct json *object, struct str finalizer)
{
	struct json *meta = meta_of(object), *list = json_get(meta, "finalizers"), *it;
	bool removed = false;

	while ((it = find_str(list, finalizer))) {
		json_unlink(list, it);
		removed = true;
	}
	if (removed && !json_count(list))
		json_remove(meta, "finalizers");
	return removed;
}

struct json *meta_controller(const struct json *object)
{
	json_foreach(o, json_get(meta_of(object), "ownerReferences"))
		if (json_get_bool(o, "controller", false))
			return o;
	return NULL;
}

struct json *meta_owner(const struct json *object, struct str uid)
{
	json_foreach(o, json_get(meta_of(object), "ownerReferences"))
		if (str_eq(json_get_str(o, "uid"), uid))
			return o;
	return NULL;
}

bool meta_owned_by(const struct json *object, struct str uid)
{
	return meta_owner(object, uid) != NULL;
}

void meta_set_owner(struct arena *arena, struct json *object, const struct api_owner *owner)
{
	struct json *ref = json_new_object(arena), *old = meta_owner(object, owner->uid);

	json_set_str(arena, ref, "apiVersion", owner->api_version);
	json_set_str(arena, ref, "kind", owner->kind);
	json_set_str(arena, ref, "name", owner->name);
	json_set_str(arena, ref, "uid", owner->uid);
	if (owner->controller)
		json_set_bool(arena, ref, "controller", true);
	if (owner->block_owner_deletion)
		json_set_bool(arena, ref, "blockOwnerDeletion", true);
	if (old)
		json_replace(old, ref);
	else
		json_append(json_ensure_array(arena, meta_ensure(arena, object), "ownerReferences"), ref);
}

bool meta_remove_owner(struct json *object, struct str uid)
{
	struct json *meta = meta_of(object), *list = json_get(meta, "ownerReferences"), *ref = meta_owner(object, uid);

	if (!ref)
		return false;
	json_unlink(list, ref);
	if (!json_count(list))
		json_remove(meta, "ownerReferences");
	return true;
}

/* ---- conditions ---- */

struct json *meta_condition(const struct json *conditions, const char *type)
{
	json_foreach(c, conditions)
		if (str_is(json_get_str(c, "type"), type))
			return c;
	return NULL;
}

bool meta_condition_is(const struct json *conditions, const char *type, const char *status)
{
	return str_is(json_get_str(meta_condition(conditions, type), "status"), status);
}

/* ---- partial metadata and lists ---- */

const char *meta_partial_api_version(bool v1beta1)
{
	return v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1";
}

void meta_write_partial(struct buf *out, bool v1beta1, const struct json *object)
{
	const struct json *meta = meta_of(object);

	buf_printf(out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"%s\",\"metadata\":",
		   meta_partial_api_version(v1beta1));
	if (meta)
		json_write(out, meta);
	else
		buf_add_cstr(out, "{}");
	buf_add_char(out, '}');
}

void meta_write_list_meta(struct buf *out, const struct meta_list *list)
{
	buf_add_cstr(out, "{\"resourceVersion\":");
	json_write_str(out, list ? list->resource_version : STR(""));
	if (list && list->continue_token.n) {
		buf_add_cstr(out, ",\"continue\":");
		json_write_str(out, list->continue_token);
	}
	if (list && list->remaining >= 0)
		buf_printf(out, ",\"remainingItemCount\":%lld", (long long)list->remaining);
	buf_add_char(out, '}');
}

void meta_write_partial_list_begin(struct buf *out, bool v1beta1, const struct meta_list *list)
{
	buf_printf(out, "{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"%s\",\"metadata\":",
		   meta_partial_api_version(v1beta1));
	meta_write_list_meta(out, list);
	buf_add_cstr(out, ",\"items\":[");
}
