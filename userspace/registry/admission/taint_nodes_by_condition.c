/* SPDX-License-Identifier: Apache-2.0 */
/* TaintNodesByCondition: a new node is not ready, until the node lifecycle controller has seen that it is. */
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

#define TAINT_NOT_READY "node.kubernetes.io/not-ready"

static int mutate(struct write *w, struct err *err)
{
	struct json *taints, *t;

	(void)err;
	if (w->op != WRITE_CREATE || w->storage != KIND_NODE || w->subresource)
		return 0;
	taints = json_ensure_array(&w->arena, json_ensure_object(&w->arena, w->object, "spec"), "taints");
	json_foreach(have, taints)
		if (str_is(json_get_str(have, "key"), TAINT_NOT_READY) &&
		    str_is(json_get_str(have, "effect"), "NoSchedule"))
			return 0;
	t = json_new_object(&w->arena);
	json_set_cstr(&w->arena, t, "key", TAINT_NOT_READY);
	json_set_cstr(&w->arena, t, "effect", "NoSchedule");
	json_append(taints, t);
	return ADMISSION_CHANGED;
}

const struct admission_plugin ADMISSION_TAINT_NODES_BY_CONDITION = { .name = "TaintNodesByCondition",
								     .mutate = mutate };
