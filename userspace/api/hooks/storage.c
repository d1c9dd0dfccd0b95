/* SPDX-License-Identifier: Apache-2.0 */
/* PersistentVolumes, claims and storage classes. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

static void pending(struct arena *arena, struct json *object)
{
	json_set_cstr(arena, json_ensure_object(arena, object, "status"), "phase", "Pending");
}

/* ---- PersistentVolume ---- */

static void pv_validate(const struct json *pv, struct field_errors *e)
{
	static const char *const plain[] = { "accessModes",      "capacity",     "claimRef",
					     "mountOptions",     "nodeAffinity", "persistentVolumeReclaimPolicy",
					     "storageClassName", "volumeMode",   "volumeAttributesClassName" };
	const struct json *spec = json_get(pv, "spec"), *storage = json_at(spec, "capacity.storage");
	struct quantity size = quantity_of(storage);
	size_t sources = 0;

	if (!json_count(json_get(spec, "accessModes")))
		field_required(e, FIELD(NULL, "spec.accessModes"), NULL);
	if (!json_count(json_get(spec, "capacity")))
		field_required(e, FIELD(NULL, "spec.capacity"), NULL);
	else if (!storage)
		field_not_supported(e, FIELD(NULL, "spec.capacity"), json_first(json_get(spec, "capacity"))->key,
				    (const char *const[]){ "storage", NULL });
	else if (size.nano <= 0)
		field_invalid(e, FIELD_KEY(FIELD(NULL, "spec.capacity"), STR("storage")), storage,
			      "must be greater than zero");
	json_foreach(m, spec) {
		bool source = m->type != JSON_NULL;

		for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
			source &= !str_is(m->key, plain[i]);
		if (source && ++sources > 1)
			field_forbidden(e, FIELD_STR(FIELD(NULL, "spec"), m->key),
					"may not specify more than 1 volume type");
	}
	if (!sources)
		field_required(e, FIELD(NULL, "spec"), "must specify a volume type");
}

const struct api_hooks hooks_persistentvolumes = { .prepare_create = pending, .validate = pv_validate };

/* ---- PersistentVolumeClaim ---- */

static void pvc_validate(const struct json *pvc, struct field_errors *e)
{
	const struct json *spec = json_get(pvc, "spec"), *storage = json_at(spec, "resources.requests.storage");
	const struct field_path *path = FIELD(NULL, "spec"), *requests = FIELD(path, "resources");
	struct quantity size = quantity_of(storage);
	bool once_pod = false;

	if (!json_count(json_get(spec, "accessModes")))
		field_required(e, FIELD(path, "accessModes"), "at least 1 access mode is required");
	json_foreach(m, json_get(spec, "accessModes"))
		once_pod |= str_is(json_str(m), "ReadWriteOncePod");
	if (once_pod && json_count(json_get(spec, "accessModes")) > 1)
		field_forbidden(e, FIELD(path, "accessModes"), "may not use ReadWriteOncePod with other access modes");
	if (!storage)
		field_required(e, FIELD_KEY(requests, STR("storage")), NULL);
	else if (size.nano <= 0)
		field_invalid(e, FIELD_KEY(requests, STR("storage")), storage, "must be greater than zero");
}

static void pvc_validate_update(const struct json *pvc, const struct json *old, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *a = json_clone(&arena, json_get(pvc, "spec")), *b = json_clone(&arena, json_get(old, "spec"));
	struct quantity now = quantity_of(json_at(a, "resources.requests.storage")),
			was = quantity_of(json_at(b, "resources.requests.storage"));
	static const char *const free_fields[] = { "resources", "volumeAttributesClassName" };

	for (size_t i = 0; i < ARRAY_SIZE(free_fields); i++) {
		json_remove(a, free_fields[i]);
		json_remove(b, free_fields[i]);
	}
	/* The binder fills in an empty volume name and class. */
	if (!json_get_str(b, "volumeName").n)
		json_remove(a, "volumeName");
	if (!json_get(b, "storageClassName"))
		json_remove(a, "storageClassName");
	if (json_is(a, JSON_OBJECT) && json_is(b, JSON_OBJECT) && !json_equal(a, b))
		field_forbidden(
			e, FIELD(NULL, "spec"),
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for "
			"bound claims");
	if (quantity_cmp(&now, &was) < 0)
		field_forbidden(e, FIELD(NULL, "spec.resources.requests.storage"),
				"field can not be less than previous value");
}

const struct api_hooks hooks_persistentvolumeclaims = {
	.prepare_create = pending,
	.validate = pvc_validate,
	.validate_update = pvc_validate_update,
};

/* ---- StorageClass ---- */

static void class_defaults(struct arena *arena, struct json *object)
{
	hooks_default_str(arena, object, "reclaimPolicy", "Delete");
	hooks_default_str(arena, object, "volumeBindingMode", "Immediate");
}

static void class_validate(const struct json *object, struct field_errors *e)
{
	struct str policy = json_get_str(object, "reclaimPolicy");

	if (str_is(policy, "Recycle"))
		field_not_supported(e, FIELD(NULL, "reclaimPolicy"), policy,
				    (const char *const[]){ "Delete", "Retain", NULL });
}

const struct api_hooks hooks_storageclasses = { .defaults = class_defaults, .validate = class_validate };
