/* SPDX-License-Identifier: Apache-2.0 */
/* The plugins in upstream's order. A refusal of any ends the write. */
#include "userspace/registry/admission/admission.h"

#include "userspace/base/mem.h"

static const struct admission_plugin *const PLUGINS[] = {
	&ADMISSION_NAMESPACE_LIFECYCLE,
	&ADMISSION_SERVICE_ACCOUNT,
	&ADMISSION_POD_SECURITY,
	&ADMISSION_PRIORITY,
	&ADMISSION_DEFAULT_TOLERATIONS,
};

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
