/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: what the cluster has to say about a write after it was decoded and before it is stored.
 * One file a plugin, one line in the table of admission.c; plugins run in the table's order. The
 * mutating pass sees the object with its defaults, the validating pass as it will be stored. Both also run for
 * subresources (w->subresource) and deletions (w->op): a plugin returns 0 for what is not its business. Webhooks and
 * policies will be further rows. Loop thread. */
#pragma once

#include "userspace/registry/internal.h"

#define ADMISSION_CHANGED 1 /* the object was changed: defaults run once more */

struct admission_plugin {
	const char *name; /* as upstream's --enable-admission-plugins knows it */
	/* May change w->object (NULL on deletion): 0, ADMISSION_CHANGED or an error. */
	int (*mutate)(struct write *w, struct err *err);
	/* Only looks. */
	int (*validate)(struct write *w, struct err *err);
};

int admission_mutate(struct write *w, struct err *err);
int admission_validate(struct write *w, struct err *err);

extern const struct admission_plugin ADMISSION_NAMESPACE_LIFECYCLE, ADMISSION_SERVICE_ACCOUNT,
	ADMISSION_DEFAULT_TOLERATIONS, ADMISSION_PRIORITY, ADMISSION_POD_SECURITY;
