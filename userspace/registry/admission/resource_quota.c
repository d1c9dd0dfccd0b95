/* SPDX-License-Identifier: Apache-2.0 */
/* ResourceQuota: what a write adds must fit into every quota of its namespace that counts such objects. It is charged
 * with the commit (quota.c). */
#include "userspace/registry/admission/admission.h"

static bool is_judged(const struct write *w)
{
	if (!w->storage->namespaced || w->op == WRITE_DELETE)
		return false;
	if (w->op == WRITE_CREATE)
		return !w->subresource;
	if (w->storage == KIND_POD)
		return w->subresource && !strcmp(w->subresource, "resize");
	return !w->subresource && (w->storage == KIND_SERVICE || w->storage == KIND_PERSISTENTVOLUMECLAIM);
}

static int validate(struct write *w, struct err *err)
{
	if (quotas_none(w->reg) || !is_judged(w))
		return 0;
	return quotas_check(w, err);
}

const struct admission_plugin ADMISSION_RESOURCE_QUOTA = { .name = "ResourceQuota", .validate = validate };
