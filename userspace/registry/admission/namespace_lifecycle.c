/* SPDX-License-Identifier: Apache-2.0 */
/* NamespaceLifecycle: nothing new in a namespace that is absent or going; the namespaces that the cluster stands
 * on cannot be deleted. */
#include <errno.h>

#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

static int check_namespace(struct write *w, struct err *err)
{
	const struct object *ns = store_newest(w->reg->store, KIND_NAMESPACE->resource, STR_NULL, w->ns);

	if (!ns)
		return api_err_not_found(err, KIND_NAMESPACE, w->ns);
	if (!ns->deleting)
		return 0;
	api_err_forbidden(err, w->kind, meta_name(w->object),
			  "unable to create new content in namespace %.*s because it is being terminated",
			  STR_ARG(w->ns));
	err_add_cause(err, "NamespaceTerminating", "metadata.namespace", "namespace %.*s is being terminated",
		      STR_ARG(w->ns));
	return -EACCES;
}

static int mutate(struct write *w, struct err *err)
{
	static const char *const immortal[] = { "default", "kube-system", "kube-public" };

	if (w->op == WRITE_CREATE && w->storage->namespaced)
		return check_namespace(w, err);
	if (w->op != WRITE_DELETE || w->storage != KIND_NAMESPACE)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(immortal); i++)
		if (str_is(w->name, immortal[i]))
			return api_err_forbidden(err, w->kind, w->name, "this namespace may not be deleted");
	return 0;
}

const struct admission_plugin ADMISSION_NAMESPACE_LIFECYCLE = { .name = "NamespaceLifecycle", .mutate = mutate };
