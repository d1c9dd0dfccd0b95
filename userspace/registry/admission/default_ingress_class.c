/* SPDX-License-Identifier: Apache-2.0 */
/* DefaultIngressClass: an Ingress that names no class gets the default one; of several the newest. */
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

#define IS_DEFAULT_CLASS "ingressclass.kubernetes.io/is-default-class"
#define CLASS_ANNOTATION "kubernetes.io/ingress.class"

struct search {
	struct arena arena;
	const struct object *found;
};

/* In order of name: of two of the same second the first stays. */
static void look_for_default(void *arg, const struct object *o)
{
	struct search *s = arg;

	if (str_is(meta_annotation(registry_parse(&s->arena, o), IS_DEFAULT_CLASS), "true") &&
	    (!s->found || o->created_real_ns > s->found->created_real_ns))
		s->found = o;
}

static int mutate(struct write *w, struct err *err)
{
	struct search s = { .found = NULL };

	(void)err;
	if (w->op != WRITE_CREATE || w->storage != KIND_INGRESS || w->subresource ||
	    json_at(w->object, "spec.ingressClassName") || meta_has_annotation(w->object, CLASS_ANNOTATION))
		return 0;
	registry_each(w->reg, KIND_INGRESSCLASS, STR_NULL, look_for_default, &s);
	arena_finish(&s.arena);
	if (!s.found)
		return 0;
	json_set_str(&w->arena, json_ensure_object(&w->arena, w->object, "spec"), "ingressClassName",
		     arena_str(&w->arena, s.found->name));
	return ADMISSION_CHANGED;
}

const struct admission_plugin ADMISSION_DEFAULT_INGRESS_CLASS = { .name = "DefaultIngressClass", .mutate = mutate };
