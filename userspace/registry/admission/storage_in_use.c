/* SPDX-License-Identifier: Apache-2.0 */
/* StorageObjectInUseProtection: volumes and claims carry a finalizer that their protection controllers remove when
 * nobody uses them any more. */
#include "userspace/registry/admission/admission.h"

static int mutate(struct write *w, struct err *err)
{
	struct str finalizer;

	(void)err;
	if (w->op != WRITE_CREATE || w->subresource)
		return 0;
	if (w->storage == KIND_PERSISTENTVOLUMECLAIM)
		finalizer = STR("kubernetes.io/pvc-protection");
	else if (w->storage == KIND_PERSISTENTVOLUME)
		finalizer = STR("kubernetes.io/pv-protection");
	else
		return 0;
	return meta_add_finalizer(&w->arena, w->object, finalizer) ? ADMISSION_CHANGED : 0;
}

const struct admission_plugin ADMISSION_STORAGE_IN_USE = { .name = "StorageObjectInUseProtection", .mutate = mutate };
