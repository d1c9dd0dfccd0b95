/* SPDX-License-Identifier: Apache-2.0 */
/* The plugins in upstream's order. A refusal of any ends the write. */
#include "userspace/registry/admission/admission.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "userspace/base/mem.h"

/* clang-format off */
static const struct admission_plugin *const PLUGINS[] = {
	&ADMISSION_NAMESPACE_LIFECYCLE,
	&ADMISSION_LIMIT_RANGER,
	&ADMISSION_SERVICE_ACCOUNT,
	&ADMISSION_NODE_RESTRICTION,
	&ADMISSION_TAINT_NODES_BY_CONDITION,
	&ADMISSION_POD_SECURITY,
	&ADMISSION_PRIORITY,
	&ADMISSION_DEFAULT_TOLERATIONS,
	&ADMISSION_DEFAULT_STORAGE_CLASS,
	&ADMISSION_STORAGE_IN_USE,
	&ADMISSION_PVC_RESIZE,
	&ADMISSION_RUNTIME_CLASS,
	&ADMISSION_CERTIFICATE_APPROVAL,
	&ADMISSION_CERTIFICATE_SIGNING,
	&ADMISSION_CERTIFICATE_SUBJECT,
	&ADMISSION_DEFAULT_INGRESS_CLASS,
	&ADMISSION_RESOURCE_QUOTA,
	&ADMISSION_RBAC_ESCALATION, /* upstream asks in the storage, behind all plugins */
};
/* clang-format on */

int admission_forbidden(const struct write *w, struct err *err, const char *why, ...)
{
	struct str name = w->name.n > 0 ? w->name : meta_name(w->object);
	_cleanup_free_ char *text = NULL;
	va_list ap;

	if (w->of_collection)
		name = STR("Unknown");
	if (name.n == 0)
		name = json_get_str(meta_of(w->object), "generateName");
	va_start(ap, why);
	if (vasprintf(&text, why, ap) < 0)
		text = NULL;
	va_end(ap);
	return api_err_forbidden(err, w->kind, name, "%s", text ? text : "");
}

int admission_mutate(struct write *w, struct err *err)
{
	bool changed = false;

	for (size_t i = 0; i < ARRAY_SIZE(PLUGINS); i++) {
		int r = PLUGINS[i]->mutate ? PLUGINS[i]->mutate(w, err) : 0;

		if (r < 0)
			return r;
		changed = changed || r == ADMISSION_CHANGED;
	}
	return changed ? ADMISSION_CHANGED : 0;
}

int admission_validate(struct write *w, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(PLUGINS); i++) {
		int r = PLUGINS[i]->validate ? PLUGINS[i]->validate(w, err) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}
