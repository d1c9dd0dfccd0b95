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

/* 403 `pods "x" is forbidden: <why>`, as plugins refuse: of a name that is still to be made up, what is known of it. */
int admission_forbidden(const struct write *w, struct err *err, const char *why, ...)
	__attribute__((format(printf, 3, 4)));

int admission_mutate(struct write *w, struct err *err);
int admission_validate(struct write *w, struct err *err);

extern const struct admission_plugin ADMISSION_NAMESPACE_LIFECYCLE, ADMISSION_SERVICE_ACCOUNT,
	ADMISSION_DEFAULT_TOLERATIONS, ADMISSION_PRIORITY, ADMISSION_POD_SECURITY, ADMISSION_LIMIT_RANGER,
	ADMISSION_TAINT_NODES_BY_CONDITION, ADMISSION_DEFAULT_STORAGE_CLASS, ADMISSION_STORAGE_IN_USE,
	ADMISSION_PVC_RESIZE, ADMISSION_RUNTIME_CLASS, ADMISSION_DEFAULT_INGRESS_CLASS, ADMISSION_RESOURCE_QUOTA;
extern const struct admission_plugin ADMISSION_NODE_RESTRICTION, ADMISSION_CERTIFICATE_APPROVAL,
	ADMISSION_CERTIFICATE_SIGNING, ADMISSION_CERTIFICATE_SUBJECT;
extern const struct admission_plugin ADMISSION_RBAC_ESCALATION; /* registry/authz/ */
