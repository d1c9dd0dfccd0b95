/* SPDX-License-Identifier: Apache-2.0 */
/* What drivers of volumes publish: CSIDrivers, CSINodes, VolumeAttachments, CSIStorageCapacities. No state. Any thread.
 */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

#define CSI_NODE_ID_MAX 192
#define ATTACH_MESSAGE_MAX 1024

/* ---- CSIDriver ---- */

static void driver_defaults(struct arena *arena, struct json *object)
{
	static const char *const off[] = { "podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount" };
	struct json *spec = json_get(object, "spec");

	if (!json_is(spec, JSON_OBJECT))
		return;
	hooks_default_bool(arena, spec, "attachRequired", true);
	hooks_default_str(arena, spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
	if (!json_count(json_get(spec, "volumeLifecycleModes"))) {
		json_remove(spec, "volumeLifecycleModes");
		json_append(json_ensure_array(arena, spec, "volumeLifecycleModes"), json_new_cstr(arena, "Persistent"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		hooks_default_bool(arena, spec, off[i], false);
}

static void driver_validate(const struct json *object, struct field_errors *e)
{
	static const char *const modes[] = { "Ephemeral", "Persistent", NULL };
	const struct json *spec = json_get(object, "spec"), *requests = json_get(spec, "tokenRequests");
	const struct field_path *path = FIELD(NULL, "spec");
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	hooks_csi_driver_validate(meta_name(object), FIELD(NULL, "metadata.name"), e);
	json_foreach(m, json_get(spec, "volumeLifecycleModes"))
		hooks_supported(json_str(m), modes, FIELD(path, "volumeLifecycleModes"), e);
	json_foreach(t, requests) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "tokenRequests"), i++);
		const struct json *seconds = json_get(t, "expirationSeconds");

		if (name_set_put(&seen, json_get_str(t, "audience"), t) != t)
			field_duplicate_str(e, FIELD(at, "audience"), json_get_str(t, "audience"));
		if (!seconds)
			continue;
		if (json_int(seconds, 0) < 600)
			field_invalid(e, FIELD(at, "expirationSeconds"), seconds,
				      "may not specify a duration less than 10 minutes");
		if (json_int(seconds, 0) > 1LL << 32)
			field_invalid(e, FIELD(at, "expirationSeconds"), seconds,
				      "may not specify a duration larger than 2^32 seconds");
	}
}

static void driver_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const kept[] = { "attachRequired", "fsGroupPolicy", "volumeLifecycleModes" };

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		validate_immutable(json_get(json_get(object, "spec"), kept[i]),
				   json_get(json_get(old, "spec"), kept[i]),
				   FIELD_STR(FIELD(NULL, "spec"), str_of(kept[i])), e);
}

const struct api_hooks hooks_csidrivers = {
	.generation = true,
	.defaults = driver_defaults,
	.validate = driver_validate,
	.validate_update = driver_validate_update,
};

/* ---- CSINode ---- */

static void node_validate(const struct json *object, struct field_errors *e)
{
	const struct json *drivers = json_at(object, "spec.drivers");
	_cleanup_name_set_ struct name_set names;
	size_t i = 0;

	name_set_init(&names);
	json_foreach(d, drivers) {
		_cleanup_name_set_ struct name_set keys;
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "spec.drivers"), i++);
		struct str name = json_get_str(d, "name"), id = json_get_str(d, "nodeID");

		hooks_csi_driver_validate(name, FIELD(at, "name"), e);
		if (name.n && name_set_put(&names, name, d) != d)
			field_duplicate_str(e, FIELD(at, "name"), name);
		if (id.n > CSI_NODE_ID_MAX)
			field_invalid_str(e, FIELD(at, "nodeID"), id, "must be %d characters or less", CSI_NODE_ID_MAX);
		if (json_at_int(d, "allocatable.count", 0) < 0)
			field_invalid_int(e, FIELD(at, "allocatable.count"), json_at_int(d, "allocatable.count", 0),
					  "must be greater than or equal to 0");
		name_set_init(&keys);
		json_foreach(k, json_get(d, "topologyKeys")) {
			if (name_set_put(&keys, json_str(k), k) != k)
				field_duplicate(e, FIELD(at, "topologyKeys"), k);
			hooks_text_validate(json_str(k), validate_qualified_name, FIELD(at, "topologyKeys"), e);
		}
	}
}

static void node_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const free_fields[] = { "allocatable", NULL };

	_cleanup_name_set_ struct name_set now;

	name_set_init(&now);
	name_set_add_list(&now, json_at(object, "spec.drivers"), "name");
	json_foreach(o, json_at(old, "spec.drivers")) {
		const struct json *d = name_set_get(&now, json_get_str(o, "name"));

		if (d && (!hooks_same_but(d, o, free_fields) ||
			  (json_get(o, "allocatable") &&
			   !hooks_same(json_get(d, "allocatable"), json_get(o, "allocatable")))))
			field_invalid(e, FIELD(NULL, "CSINodeDriver"), d, "field is immutable");
	}
}

const struct api_hooks hooks_csinodes = { .validate = node_validate, .validate_update = node_validate_update };

/* ---- VolumeAttachment ---- */

static void attachment_validate(const struct json *object, struct field_errors *e)
{
	const struct json *spec = json_get(object, "spec"), *source = json_get(spec, "source"),
			  *inlined = json_get(source, "inlineVolumeSpec");
	const struct field_path *path = FIELD(NULL, "spec"), *at = FIELD(path, "source");
	const struct json *name = json_get(source, "persistentVolumeName");

	hooks_csi_driver_validate(json_get_str(spec, "attacher"), FIELD(path, "attacher"), e);
	if (!name && !inlined)
		field_required(e, at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
	else if (name && inlined)
		field_forbidden(e, at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
	else if (name)
		hooks_text_validate(json_str(name), validate_dns1123_subdomain, FIELD(at, "persistentVolumeName"), e);
	else
		hooks_persistent_sources_validate(inlined, FIELD(at, "inlineVolumeSpec"), e);
	if (json_get_str(spec, "nodeName").n)
		hooks_text_validate(json_get_str(spec, "nodeName"), validate_dns1123_subdomain, FIELD(path, "nodeName"),
				    e);
}

static void attachment_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	validate_immutable(json_get(object, "spec"), json_get(old, "spec"), FIELD(NULL, "spec"), e);
}

static void attachment_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const errors[] = { "attachError", "detachError" };

	(void)old;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct str message = json_get_str(json_get(json_get(object, "status"), errors[i]), "message");

		if (message.n > ATTACH_MESSAGE_MAX)
			field_too_long(e, FIELD(FIELD_STR(FIELD(NULL, "status"), str_of(errors[i])), "message"),
				       ATTACH_MESSAGE_MAX);
	}
}

const struct api_hooks hooks_volumeattachments = {
	.validate = attachment_validate,
	.validate_update = attachment_validate_update,
	.validate_status = attachment_validate_status,
};

/* ---- CSIStorageCapacity ---- */

static void capacity_validate(const struct json *object, struct field_errors *e)
{
	static const char *const amounts[] = { "capacity", "maximumVolumeSize" };

	if (json_get_str(object, "storageClassName").n)
		hooks_text_validate(json_get_str(object, "storageClassName"), validate_dns1123_subdomain,
				    FIELD(NULL, "storageClassName"), e);
	for (size_t i = 0; i < ARRAY_SIZE(amounts); i++) {
		struct quantity q = quantity_of(json_get(object, amounts[i]));

		if (q.nano < 0)
			field_invalid(e, FIELD_STR(NULL, str_of(amounts[i])), json_get(object, amounts[i]),
				      "must be greater than or equal to 0");
	}
}

static void capacity_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const kept[] = { "nodeTopology", "storageClassName" };

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		validate_immutable(json_get(object, kept[i]), json_get(old, kept[i]), FIELD_STR(NULL, str_of(kept[i])),
				   e);
}

const struct api_hooks hooks_csistoragecapacities = {
	.validate = capacity_validate,
	.validate_update = capacity_validate_update,
};
