/* SPDX-License-Identifier: Apache-2.0 */
/* PersistentVolumeClaimResize: a bound claim may grow when its class allows that. */
#include "userspace/api/quantity.h"
#include "userspace/registry/admission/admission.h"

#define CLASS_ANNOTATION "volume.beta.kubernetes.io/storage-class"

static struct str class_of(const struct json *claim)
{
	struct str by_annotation = meta_annotation(claim, CLASS_ANNOTATION);

	return meta_has_annotation(claim, CLASS_ANNOTATION) ? by_annotation
							    : json_at_str(claim, "spec.storageClassName");
}

static bool class_allows(struct write *w)
{
	struct str name = class_of(w->object);
	const struct object *class;

	if (name.n == 0 || !str_eq(name, class_of(w->old)))
		return false;
	class = store_newest(w->reg->store, KIND_STORAGECLASS->resource, STR_NULL, name);
	return class && json_get_bool(registry_parse(&w->arena, class), "allowVolumeExpansion", false);
}

static int validate(struct write *w, struct err *err)
{
	struct quantity now, was;

	if (w->op != WRITE_UPDATE || w->storage != KIND_PERSISTENTVOLUMECLAIM || w->subresource || !w->old)
		return 0;
	now = quantity_of(json_at(w->object, "spec.resources.requests.storage"));
	was = quantity_of(json_at(w->old, "spec.resources.requests.storage"));
	if (quantity_cmp(&now, &was) <= 0)
		return 0;
	if (!str_is(json_at_str(w->old, "status.phase"), "Bound"))
		return admission_forbidden(w, err, "Only bound persistent volume claims can be expanded");
	if (!class_allows(w))
		return admission_forbidden(w, err,
					   "only dynamically provisioned pvc can be resized and the storageclass that "
					   "provisions the pvc must support resize");
	return 0;
}

const struct admission_plugin ADMISSION_PVC_RESIZE = { .name = "PersistentVolumeClaimResize", .validate = validate };
