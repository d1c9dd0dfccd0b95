/* SPDX-License-Identifier: Apache-2.0 */
/* DefaultStorageClass: a claim that names no class gets the default one; of several the newest. */
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

#define CLASS_ANNOTATION "volume.beta.kubernetes.io/storage-class"

struct search {
	struct arena arena;
	const struct object *found;
};

static bool is_default(struct arena *arena, const struct object *o)
{
	static const char *const keys[] = { "storageclass.kubernetes.io/is-default-class",
					    "storageclass.beta.kubernetes.io/is-default-class" };
	const struct json *class = registry_parse(arena, o);

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (str_is(meta_annotation(class, keys[i]), "true"))
			return true;
	return false;
}

/* In order of name: of two of the same second the first stays. */
static void look_for_default(void *arg, const struct object *o)
{
	struct search *s = arg;

	if (is_default(&s->arena, o) && (!s->found || o->created_real_ns > s->found->created_real_ns))
		s->found = o;
}

static int mutate(struct write *w, struct err *err)
{
	struct search s = { .found = NULL };

	(void)err;
	if (w->op != WRITE_CREATE || w->storage != KIND_PERSISTENTVOLUMECLAIM || w->subresource ||
	    json_at(w->object, "spec.storageClassName") || meta_has_annotation(w->object, CLASS_ANNOTATION))
		return 0;
	registry_each(w->reg, KIND_STORAGECLASS, STR_NULL, look_for_default, &s);
	arena_finish(&s.arena);
	if (!s.found)
		return 0;
	json_set_str(&w->arena, json_ensure_object(&w->arena, w->object, "spec"), "storageClassName",
		     arena_str(&w->arena, s.found->name));
	return ADMISSION_CHANGED;
}

const struct admission_plugin ADMISSION_DEFAULT_STORAGE_CLASS = { .name = "DefaultStorageClass", .mutate = mutate };
