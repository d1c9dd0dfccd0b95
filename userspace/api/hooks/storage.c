/* SPDX-License-Identifier: Apache-2.0 */
/* PersistentVolumes, claims and storage classes. No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define PARAMETERS_MAX 512
#define PARAMETERS_BYTES_MAX (256 * 1024)
#define BETA_CLASS "volume.beta.kubernetes.io/storage-class"

static const char *const access_modes[] = { "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod",
					    NULL };

static void pending(struct arena *arena, struct json *object)
{
	json_set_cstr(arena, json_ensure_object(arena, object, "status"), "phase", "Pending");
}

static void validate_access_modes(const struct json *modes, const struct field_path *path, struct field_errors *e)
{
	bool once_pod = false, other = false;

	json_foreach(m, modes) {
		hooks_supported(json_str(m), access_modes, path, e);
		if (str_is(json_str(m), "ReadWriteOncePod"))
			once_pod = true;
		else
			other |= hooks_one_of(json_str(m), access_modes);
	}
	if (once_pod && other)
		field_forbidden(e, path, "may not use ReadWriteOncePod with other access modes");
}

/* ---- PersistentVolume ---- */

/* When the phase changed is noted with it. */
static void pv_prepare_create(struct arena *arena, struct json *pv)
{
	char now[CLOCK_RFC3339_MAX];

	pending(arena, pv);
	clock_format_rfc3339(clock_real_ns(), now);
	json_set_cstr(arena, json_get(pv, "status"), "lastPhaseTransitionTime", arena_strdup(arena, now));
}

static void pv_prepare_status(struct arena *arena, struct json *pv, const struct json *old)
{
	struct json *status = json_get(pv, "status");
	const struct json *before = json_at(old, "status.lastPhaseTransitionTime");
	char now[CLOCK_RFC3339_MAX];

	if (!json_is(status, JSON_OBJECT))
		return;
	if (str_eq(json_get_str(status, "phase"), json_at_str(old, "status.phase"))) {
		if (before && !json_get(status, "lastPhaseTransitionTime"))
			json_set(status, "lastPhaseTransitionTime", json_clone(arena, before));
		return;
	}
	if (json_get(status, "lastPhaseTransitionTime") &&
	    !hooks_same(json_get(status, "lastPhaseTransitionTime"), before))
		return;
	clock_format_rfc3339(clock_real_ns(), now);
	json_set_cstr(arena, status, "lastPhaseTransitionTime", arena_strdup(arena, now));
}

static void validate_capacity(const struct json *capacity, const struct field_path *path, struct field_errors *e)
{
	static const char *const storage[] = { "storage", NULL };

	if (!json_get(capacity, "storage") || json_count(capacity) > 1) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;

		field_not_supported(e, path, capacity ? json_text(&arena, capacity) : STR("null"), storage);
	}
	json_foreach(r, capacity) {
		struct quantity size = quantity_of(r);

		if (size.nano <= 0)
			field_invalid_str(e, FIELD_KEY(path, r->key), json_str(r), "must be greater than zero");
	}
}

static bool is_root(struct str path)
{
	struct str part;

	while (str_split(&path, '/', &part))
		if (part.n && !str_is(part, "."))
			return false;
	return true;
}

static void validate_class_names(const struct json *spec, bool csi, const struct field_path *path,
				 struct field_errors *e)
{
	const struct json *attributes = json_get(spec, "volumeAttributesClassName");

	if (json_get_str(spec, "storageClassName").n)
		hooks_text_validate(json_get_str(spec, "storageClassName"), validate_dns1123_subdomain,
				    FIELD(path, "storageClassName"), e);
	if (!attributes || attributes->type == JSON_NULL)
		return;
	if (json_str(attributes).n)
		hooks_text_validate(json_str(attributes), validate_dns1123_subdomain,
				    FIELD(path, "volumeAttributesClassName"), e);
	else if (csi)
		field_required(e, FIELD(path, "volumeAttributesClassName"), "an empty string is disallowed");
	if (csi && !json_get(spec, "csi"))
		field_required(e, FIELD(path, "csi"), "has to be specified when using volumeAttributesClassName");
}

static void pv_validate(const struct json *pv, struct field_errors *e)
{
	const struct json *spec = json_get(pv, "spec"), *affinity = json_get(spec, "nodeAffinity");
	const struct field_path *path = FIELD(NULL, "spec");

	validate_access_modes(json_get(spec, "accessModes"), FIELD(path, "accessModes"), e);
	validate_capacity(json_get(spec, "capacity"), FIELD(path, "capacity"), e);
	if (affinity && !json_get(affinity, "required"))
		field_required(e, FIELD(FIELD(path, "nodeAffinity"), "required"),
			       "must specify required node constraints");
	else if (affinity)
		hooks_node_selector_validate(json_get(affinity, "required"),
					     FIELD(FIELD(path, "nodeAffinity"), "required"), e);
	hooks_persistent_sources_validate(spec, path, e);
	if (json_get(spec, "local") && !affinity)
		field_required(e, FIELD(path, "nodeAffinity"), "Local volume requires node affinity");
	if (json_get(spec, "hostPath") && is_root(json_at_str(spec, "hostPath.path")) &&
	    str_is(json_get_str(spec, "persistentVolumeReclaimPolicy"), "Recycle"))
		field_forbidden(e, FIELD(path, "persistentVolumeReclaimPolicy"),
				"may not be 'recycle' for a hostPath mount of '/'");
	validate_class_names(spec, true, path, e);
}

/* Node labels that got a final name; a volume may be told by it. */
static struct json *with_final_labels(struct arena *arena, const struct json *affinity, const struct json *now)
{
	static const char *const names[][2] = {
		{ "failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone" },
		{ "failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region" },
		{ "beta.kubernetes.io/os", "kubernetes.io/os" },
		{ "beta.kubernetes.io/arch", "kubernetes.io/arch" },
		{ "beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type" },
	};
	struct json *copy = json_clone(arena, affinity), *t = json_first(json_at(copy, "required.nodeSelectorTerms"));

	json_foreach(u, json_at(now, "required.nodeSelectorTerms")) {
		struct json *x = json_first(json_get(t, "matchExpressions"));

		json_foreach(y, json_get(u, "matchExpressions")) {
			for (size_t i = 0; x && i < ARRAY_SIZE(names); i++)
				if (str_is(json_get_str(x, "key"), names[i][0]) &&
				    str_is(json_get_str(y, "key"), names[i][1]))
					json_set_cstr(arena, x, "key", names[i][1]);
			x = x ? x->next : NULL;
		}
		t = t ? t->next : NULL;
	}
	return copy;
}

static void pv_validate_update(const struct json *pv, const struct json *old, struct field_errors *e)
{
	static const char *const plain[] = { "accessModes",
					     "capacity",
					     "claimRef",
					     "mountOptions",
					     "nodeAffinity",
					     "persistentVolumeReclaimPolicy",
					     "storageClassName",
					     "volumeMode",
					     "volumeAttributesClassName",
					     NULL };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(pv, "spec"), *was = json_get(old, "spec"),
			  *affinity = json_get(was, "nodeAffinity");
	struct json *copy = json_clone(&arena, spec);

	if (!json_is(spec, JSON_OBJECT) || !json_is(was, JSON_OBJECT))
		return;
	if (!json_at(was, "csi.controllerExpandSecretRef") && json_get(copy, "csi") && json_get(was, "csi"))
		json_remove(json_get(copy, "csi"), "controllerExpandSecretRef");
	if (!hooks_same_but(copy, was, plain))
		field_forbidden(e, FIELD(NULL, "spec.persistentvolumesource"),
				"spec.persistentvolumesource is immutable after creation");
	validate_immutable(json_get(spec, "volumeMode"), json_get(was, "volumeMode"), FIELD(NULL, "volumeMode"), e);
	if (affinity && !hooks_same(json_get(spec, "nodeAffinity"),
				    with_final_labels(&arena, affinity, json_get(spec, "nodeAffinity"))))
		field_invalid(e, FIELD(NULL, "nodeAffinity"), json_get(spec, "nodeAffinity"),
			      "field is immutable, except for updating from beta label to GA");
	if (json_get(was, "volumeAttributesClassName") && !json_get(spec, "volumeAttributesClassName"))
		field_forbidden(e, FIELD(NULL, "spec.volumeAttributesClassName"),
				"update from non-nil value to nil is forbidden");
}

const struct api_hooks hooks_persistentvolumes = {
	.prepare_create = pv_prepare_create,
	.prepare_status = pv_prepare_status,
	.validate = pv_validate,
	.validate_update = pv_validate_update,
};

/* ---- PersistentVolumeClaim ---- */

static void validate_data_source(const struct json *source, bool with_namespace, const struct field_path *at,
				 struct field_errors *e)
{
	struct str group = json_get_str(source, "apiGroup"), kind = json_get_str(source, "kind"),
		   ns = json_get_str(source, "namespace");

	if (!source)
		return;
	if (!group.n && !str_is(kind, "PersistentVolumeClaim"))
		field_invalid_str(e, at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
	if (group.n)
		hooks_text_validate(group, validate_dns1123_subdomain, FIELD(at, "apiGroup"), e);
	if (with_namespace && ns.n)
		hooks_text_validate(ns, validate_dns1123_label, FIELD(at, "namespace"), e);
}

static void validate_data_sources(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const space[] = { "namespace", NULL };
	const struct json *source = json_get(spec, "dataSource"), *ref = json_get(spec, "dataSourceRef");
	char text[FIELD_PATH_MAX];

	validate_data_source(source, false, FIELD(path, "dataSource"), e);
	validate_data_source(ref, true, FIELD(path, "dataSourceRef"), e);
	if (!source || !ref)
		return;
	field_path_render(FIELD(path, "dataSource"), text);
	if (json_get_str(ref, "namespace").n)
		field_invalid_str(e, path, str_of(text),
				  "may not be specified when dataSourceRef.namespace is specified");
	else if (!hooks_same_but(source, ref, space))
		field_invalid_str(e, path, str_of(text), "must match dataSourceRef");
}

void hooks_claim_spec_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *storage = json_at(spec, "resources.requests.storage");
	const struct field_path *at = FIELD_KEY(FIELD(path, "resources"), STR("storage"));
	struct quantity size = quantity_of(storage);

	if (!json_count(json_get(spec, "accessModes")))
		field_required(e, FIELD(path, "accessModes"), "at least 1 access mode is required");
	validate_access_modes(json_get(spec, "accessModes"), FIELD(path, "accessModes"), e);
	if (!storage)
		field_required(e, at, NULL);
	else if (size.nano <= 0)
		field_invalid(e, at, storage, "must be greater than zero");
	validate_data_sources(spec, path, e);
	validate_class_names(spec, false, path, e);
}

static void pvc_validate(const struct json *pvc, struct field_errors *e)
{
	hooks_claim_spec_validate(json_get(pvc, "spec"), FIELD(NULL, "spec"), e);
}

/* The two ways to name where the data comes from say the same, when one of them is given. */
static void pvc_defaults(struct arena *arena, struct json *pvc)
{
	struct json *spec = json_get(pvc, "spec"), *source = json_get(spec, "dataSource"),
		    *ref = json_get(spec, "dataSourceRef");
	struct str group = json_get_str(ref, "apiGroup"), kind = json_get_str(ref, "kind");

	if (!json_is(spec, JSON_OBJECT))
		return;
	if (source && !ref) {
		json_set(spec, "dataSourceRef", json_clone(arena, source));
	} else if (!source && ref && !json_get_str(ref, "namespace").n) {
		if ((!group.n && str_is(kind, "PersistentVolumeClaim")) ||
		    (str_is(group, "snapshot.storage.k8s.io") && str_is(kind, "VolumeSnapshot"))) {
			source = json_clone(arena, ref);
			json_remove(source, "namespace");
			json_set(spec, "dataSource", source);
		}
	}
}

static void validate_attributes_update(const struct json *spec, const struct json *was, struct field_errors *e)
{
	const struct json *now = json_get(spec, "volumeAttributesClassName"),
			  *before = json_get(was, "volumeAttributesClassName");
	const struct field_path *path = FIELD(NULL, "spec.volumeAttributesClassName");

	if (!before || hooks_same(now, before))
		return;
	if (!now)
		field_forbidden(e, path, "update from non-nil value to nil is forbidden");
	else if (!json_str(now).n)
		field_forbidden(e, path, "update from non-nil value to an empty string is forbidden");
}

static void pvc_validate_update(const struct json *pvc, const struct json *old, struct field_errors *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct json *spec = json_get(pvc, "spec"), *was = json_get(old, "spec");
	struct json *a = json_clone(&arena, spec), *b = json_clone(&arena, was);
	struct quantity now = quantity_of(json_at(a, "resources.requests.storage")),
			before = quantity_of(json_at(b, "resources.requests.storage")),
			have = quantity_of(json_at(old, "status.capacity.storage"));
	struct str beta = meta_annotation(old, BETA_CLASS);

	if (!json_is(a, JSON_OBJECT) || !json_is(b, JSON_OBJECT))
		return;
	if (!str_eq(beta, meta_annotation(pvc, BETA_CLASS)))
		field_invalid_str(e, FIELD(NULL, "metadata.annotations." BETA_CLASS), meta_annotation(pvc, BETA_CLASS),
				  "field is immutable");
	/* The binder fills in an empty volume name and class. */
	if (!json_get_str(b, "volumeName").n)
		json_remove(a, "volumeName");
	if (!json_get(b, "storageClassName") && (!beta.n || str_eq(beta, json_get_str(a, "storageClassName"))))
		json_remove(a, "storageClassName");
	if (str_is(json_at_str(pvc, "status.phase"), "Bound")) {
		json_remove(json_at(a, "resources.requests"), "storage");
		json_remove(json_at(b, "resources.requests"), "storage");
		json_remove(a, "volumeAttributesClassName");
		json_remove(b, "volumeAttributesClassName");
	}
	if (!json_get_str(b, "volumeName").n)
		json_remove(b, "volumeName");
	if (!json_equal(a, b))
		field_forbidden(e, FIELD(NULL, "spec"),
				"spec is immutable after creation except resources.requests and "
				"volumeAttributesClassName for bound claims");
	if (quantity_cmp(&now, &before) < 0 && quantity_cmp(&now, &have) <= 0)
		field_forbidden(e, FIELD(NULL, "spec.resources.requests.storage"),
				"field can not be less than status.capacity");
	validate_attributes_update(spec, was, e);
}

const struct api_hooks hooks_persistentvolumeclaims = {
	.defaults = pvc_defaults,
	.prepare_create = pending,
	.validate = pvc_validate,
	.validate_update = pvc_validate_update,
};

/* ---- StorageClass, VolumeAttributesClass ---- */

static void class_defaults(struct arena *arena, struct json *object)
{
	hooks_default_str(arena, object, "reclaimPolicy", "Delete");
	hooks_default_str(arena, object, "volumeBindingMode", "Immediate");
}

static void validate_parameters(const struct json *parameters, bool wanted, struct field_errors *e)
{
	const struct field_path *path = FIELD(NULL, "parameters");
	size_t bytes = 0;

	if (wanted && !json_count(parameters))
		field_required(e, path, "must contain at least one key/value pair");
	if (json_count(parameters) > PARAMETERS_MAX) {
		field_too_long(e, path, PARAMETERS_MAX);
		return;
	}
	json_foreach(p, parameters) {
		if (!p->key.n)
			field_invalid_str(e, path, p->key, "field can not be empty.");
		bytes += p->key.n + json_str(p).n;
	}
	if (bytes > PARAMETERS_BYTES_MAX)
		field_too_long(e, path, PARAMETERS_BYTES_MAX);
}

static void validate_topologies(const struct json *terms, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(t, terms) {
		const struct field_path *at = FIELD(FIELD_INDEX(path, i++), "matchLabelExpressions");
		_cleanup_name_set_ struct name_set keys;
		size_t j = 0;

		name_set_init(&keys);
		json_foreach(x, json_get(t, "matchLabelExpressions")) {
			const struct field_path *expr = FIELD_INDEX(at, j++), *values = FIELD(expr, "values");
			_cleanup_name_set_ struct name_set have;
			size_t k = 0;

			name_set_init(&have);
			hooks_text_validate(json_get_str(x, "key"), validate_qualified_name, FIELD(expr, "key"), e);
			json_foreach(v, json_get(x, "values")) {
				if (name_set_put(&have, json_str(v), v) != v)
					field_duplicate(e, FIELD_INDEX(values, k), v);
				k++;
			}
			if (name_set_put(&keys, json_get_str(x, "key"), x) != x)
				field_duplicate(e, FIELD(expr, "key"), json_get(x, "key"));
		}
		if (name_set_put_value(&seen, t, t) != t)
			field_duplicate_str(e, FIELD_INDEX(path, i - 1), STR(""));
	}
}

static void class_validate(const struct json *object, struct field_errors *e)
{
	static const char *const policies[] = { "Delete", "Retain", NULL };
	struct str policy = json_get_str(object, "reclaimPolicy"), provisioner = json_get_str(object, "provisioner");
	const char *why = provisioner.n ? validate_annotation_key(provisioner) : NULL;

	if (why)
		field_invalid_str(e, FIELD(NULL, "provisioner"), provisioner, "%s", why);
	validate_parameters(json_get(object, "parameters"), false, e);
	if (str_is(policy, "Recycle"))
		field_not_supported(e, FIELD(NULL, "reclaimPolicy"), policy, policies);
	validate_topologies(json_get(object, "allowedTopologies"), FIELD(NULL, "allowedTopologies"), e);
}

static void class_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	if (!hooks_same(json_get(object, "parameters"), json_get(old, "parameters")))
		field_forbidden(e, FIELD(NULL, "parameters"), "updates to parameters are forbidden.");
	if (!str_eq(json_get_str(object, "provisioner"), json_get_str(old, "provisioner")))
		field_forbidden(e, FIELD(NULL, "provisioner"), "updates to provisioner are forbidden.");
	if (!str_eq(json_get_str(object, "reclaimPolicy"), json_get_str(old, "reclaimPolicy")))
		field_forbidden(e, FIELD(NULL, "reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
	validate_immutable(json_get(object, "volumeBindingMode"), json_get(old, "volumeBindingMode"),
			   FIELD(NULL, "volumeBindingMode"), e);
}

const struct api_hooks hooks_storageclasses = {
	.defaults = class_defaults,
	.validate = class_validate,
	.validate_update = class_validate_update,
};

static void attributes_validate(const struct json *object, struct field_errors *e)
{
	hooks_csi_driver_validate(json_get_str(object, "driverName"), FIELD(NULL, "driverName"), e);
	validate_parameters(json_get(object, "parameters"), true, e);
}

static void attributes_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	if (!str_eq(json_get_str(object, "driverName"), json_get_str(old, "driverName")))
		field_forbidden(e, FIELD(NULL, "driverName"), "updates to driverName are forbidden.");
	if (!hooks_same(json_get(object, "parameters"), json_get(old, "parameters")))
		field_forbidden(e, FIELD(NULL, "parameters"), "updates to parameters are forbidden.");
}

const struct api_hooks hooks_volumeattributesclasses = {
	.validate = attributes_validate,
	.validate_update = attributes_validate_update,
};
