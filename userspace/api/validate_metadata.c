/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of metadata, the same for every kind. See validate.h. No state; any thread. */
#include <errno.h>

#include "userspace/api/names.h"
#include "userspace/api/validate.h"

#define NAME_SHOWN_MAX 512

static bool absent(const struct json *v)
{
	return !v || v->type == JSON_NULL;
}

void validate_immutable(const struct json *a, const struct json *b, const struct field_path *path,
			struct field_errors *e)
{
	if (absent(a) && absent(b))
		return;
	if (absent(a) || absent(b) || !json_equal(a, b))
		field_invalid(e, path, a, "field is immutable");
}

/* What is kept beside each object is counted in 16 bits. */
static void validate_count(const struct json *v, const struct field_path *path, struct field_errors *e)
{
	if (json_count(v) > VALIDATE_METADATA_ITEMS_MAX)
		field_too_many(e, path, json_count(v), VALIDATE_METADATA_ITEMS_MAX);
}

/* ---- labels and annotations ---- */

void validate_labels(const struct json *labels, const struct field_path *path, struct field_errors *e)
{
	json_foreach(it, labels) {
		const char *why = validate_qualified_name(it->key);

		if (why)
			field_invalid_str(e, path, it->key, "%s", why);
		why = validate_label_value(json_str(it));
		if (why)
			field_invalid_str(e, path, json_str(it), "%s", why);
	}
}

/* Annotation keys are checked without regard to case. */
const char *validate_annotation_key(struct str key)
{
	char lower[VALIDATE_NAME_MAX + 1 + 64 + 1];

	if (key.n >= sizeof(lower))
		return validate_qualified_name(key);
	for (size_t i = 0; i < key.n; i++)
		lower[i] = (char)(key.p[i] >= 'A' && key.p[i] <= 'Z' ? key.p[i] + 32 : key.p[i]);
	return validate_qualified_name(str_make(lower, key.n));
}

void validate_annotations(const struct json *annotations, const struct field_path *path, struct field_errors *e)
{
	size_t total = 0;

	json_foreach(it, annotations) {
		const char *why = validate_annotation_key(it->key);

		if (why)
			field_invalid_str(e, path, it->key, "%s", why);
		total += it->key.n + json_str(it).n;
	}
	if (total > VALIDATE_ANNOTATIONS_BYTES_MAX)
		field_too_long(e, path, VALIDATE_ANNOTATIONS_BYTES_MAX);
}

/* ---- names ---- */

static const char *canonical_ip(struct str s)
{
	char text[NAMES_ADDRESS_MAX];
	struct names_ip ip;

	if (names_parse_ip(s, &ip) < 0 || !str_eq(s, str_make(text, names_format_ip(&ip, text))))
		return "must be a valid IP address in canonical form";
	return NULL;
}

static const char *name_rule(const struct api_kind *kind, struct str name)
{
	switch ((enum api_name_rule)kind->name_rule) {
	case API_NAME_SUBDOMAIN:
		return validate_dns1123_subdomain(name);
	case API_NAME_LABEL:
		return validate_dns1123_label(name);
	case API_NAME_LABEL_1035:
		return validate_dns1035_label(name);
	case API_NAME_PATH_SEGMENT:
		return validate_path_segment(name);
	case API_NAME_IP:
		return canonical_ip(name);
	}
	return NULL;
}

void validate_name(const struct api_kind *kind, struct str name, bool prefix, const struct field_path *path,
		   struct field_errors *e)
{
	struct str checked = name;
	const char *why;

	/* What follows a prefix's last dash is alphanumeric. */
	if (prefix && kind->name_rule != API_NAME_IP)
		while (checked.n > 1 && checked.p[checked.n - 1] == '-')
			checked.n--;
	why = name_rule(kind, checked);
	if (!why)
		return;
	if (name.n > NAME_SHOWN_MAX)
		name.n = NAME_SHOWN_MAX;
	field_invalid_str(e, path, name, "%s", why);
}

/* ---- owners and finalizers ---- */

static void owner_required(const struct json *owner, const char *key, const struct field_path *path,
			   struct field_errors *e)
{
	if (!json_get_str(owner, key).n)
		field_invalid_str(e, FIELD_STR(path, str_of(key)), STR(""), "must not be empty");
}

static void validate_owners(const struct json *owners, const struct field_path *meta, struct field_errors *e)
{
	const struct field_path *path = FIELD(meta, "ownerReferences");
	const struct json *controller = NULL;
	size_t i = 0;

	json_foreach(it, owners) {
		const struct field_path *at = FIELD_INDEX(path, i++);
		struct str group, version, api_version = json_get_str(it, "apiVersion"),
					   kind = json_get_str(it, "kind");

		if (api_parse_api_version(api_version, &group, &version) < 0)
			field_invalid_str(e, FIELD(at, "apiVersion"), api_version, "version must not be empty");
		owner_required(it, "kind", at, e);
		owner_required(it, "name", at, e);
		owner_required(it, "uid", at, e);
		if (str_is(kind, "Event") && (str_is(api_version, "v1") || str_is(api_version, "events.k8s.io/v1")))
			field_invalid(e, at, it, "%.*s, Kind=Event is disallowed from being an owner",
				      STR_ARG(api_version));
		if (!json_get_bool(it, "controller", false))
			continue;
		if (controller)
			field_invalid(
				e, path, owners,
				"Only one reference can have Controller set to true. Found \"true\" in references "
				"for %.*s and %.*s",
				STR_ARG(json_get_str(controller, "name")), STR_ARG(json_get_str(it, "name")));
		controller = it;
	}
}

static void validate_finalizers(const struct json *finalizers, const struct field_path *meta, struct field_errors *e)
{
	const struct field_path *path = FIELD(meta, "finalizers");
	bool orphan = false, foreground = false;

	json_foreach(it, finalizers) {
		struct str s = json_str(it);
		const char *why = validate_qualified_name(s);

		orphan |= str_is(s, "orphan");
		foreground |= str_is(s, "foregroundDeletion");
		if (why)
			field_invalid_str(e, path, s, "%s", why);
		else if (str_find(s, '/') < 0 && !str_is(s, "orphan") && !str_is(s, "foregroundDeletion") &&
			 !str_is(s, "kubernetes"))
			field_invalid_str(e, path, s,
					  "name is neither a standard finalizer name nor is it fully qualified");
	}
	if (orphan && foreground)
		field_invalid(e, path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set");
}

static bool array_has(const struct json *array, struct str s)
{
	json_foreach(it, array)
		if (str_eq(json_str(it), s))
			return true;
	return false;
}

static void validate_new_finalizers(const struct json *now, const struct json *old, const struct field_path *meta,
				    struct field_errors *e)
{
	_cleanup_(buf_finish) struct buf fresh = BUF_INIT;

	if (absent(json_get(old, "deletionTimestamp")))
		return;
	json_foreach(it, json_get(now, "finalizers")) {
		if (array_has(json_get(old, "finalizers"), json_str(it)))
			continue;
		if (buf_len(&fresh))
			buf_add_cstr(&fresh, ", ");
		json_write_str(&fresh, json_str(it));
	}
	if (buf_len(&fresh))
		field_forbidden(e, FIELD(meta, "finalizers"),
				"no new finalizers can be added if the object is being deleted, found new finalizers "
				"[]string{%s}",
				buf_cstr(&fresh));
}

/* ---- the whole ---- */

static void validate_identity(const struct api_kind *kind, const struct json *meta, const struct field_path *path,
			      struct field_errors *e)
{
	struct str name = json_get_str(meta, "name"), generate = json_get_str(meta, "generateName");
	struct str ns = json_get_str(meta, "namespace");

	if (generate.n)
		validate_name(kind, generate, true, FIELD(path, "generateName"), e);
	if (name.n)
		validate_name(kind, name, false, FIELD(path, "name"), e);
	else
		field_required(e, FIELD(path, "name"), "name or generateName is required");
	if (!kind->namespaced) {
		if (ns.n)
			field_forbidden(e, FIELD(path, "namespace"), "not allowed on this type");
		return;
	}
	if (!ns.n)
		field_required(e, FIELD(path, "namespace"), NULL);
	else if (validate_dns1123_label(ns))
		field_invalid_str(e, FIELD(path, "namespace"), ns, "%s", validate_dns1123_label(ns));
}

void validate_metadata(const struct api_kind *kind, const struct json *object, const struct json *old,
		       struct field_errors *e)
{
	static const char *const fixed[] = {
		"name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"
	};
	const struct json *meta = json_get(object, "metadata"), *before = json_get(old, "metadata");
	const struct field_path *path = FIELD(NULL, "metadata");

	validate_identity(kind, meta, path, e);
	if (json_get_int(meta, "generation", 0) < 0)
		field_invalid(e, FIELD(path, "generation"), json_get(meta, "generation"),
			      "must be greater than or equal to 0");
	validate_count(json_get(meta, "labels"), FIELD(path, "labels"), e);
	validate_count(json_get(meta, "ownerReferences"), FIELD(path, "ownerReferences"), e);
	validate_labels(json_get(meta, "labels"), FIELD(path, "labels"), e);
	validate_annotations(json_get(meta, "annotations"), FIELD(path, "annotations"), e);
	validate_owners(json_get(meta, "ownerReferences"), path, e);
	validate_finalizers(json_get(meta, "finalizers"), path, e);
	if (!old)
		return;
	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
		validate_immutable(json_get(meta, fixed[i]), json_get(before, fixed[i]),
				   FIELD_STR(path, str_of(fixed[i])), e);
	validate_new_finalizers(meta, before, path, e);
}
