/* SPDX-License-Identifier: Apache-2.0 */
/* DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached, unless it
 * says otherwise. */
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

#define DEFAULT_TOLERATION_SECONDS 300

static bool tolerates(const struct json *spec, const char *key)
{
	json_foreach(t, json_get(spec, "tolerations")) {
		struct str k = json_get_str(t, "key"), effect = json_get_str(t, "effect");

		if ((k.n == 0 || str_is(k, key)) && (effect.n == 0 || str_is(effect, "NoExecute")))
			return true;
	}
	return false;
}

static int mutate(struct write *w, struct err *err)
{
	static const char *const keys[] = { "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable" };
	struct json *spec = json_get(w->object, "spec");

	(void)err;
	if (w->op != WRITE_CREATE || w->storage != KIND_POD || !spec)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct json *t;

		if (tolerates(spec, keys[i]))
			continue;
		t = json_new_object(&w->arena);
		json_set_cstr(&w->arena, t, "key", keys[i]);
		json_set_cstr(&w->arena, t, "operator", "Exists");
		json_set_cstr(&w->arena, t, "effect", "NoExecute");
		json_set_int(&w->arena, t, "tolerationSeconds", DEFAULT_TOLERATION_SECONDS);
		json_append(json_ensure_array(&w->arena, spec, "tolerations"), t);
	}
	return ADMISSION_CHANGED;
}

const struct admission_plugin ADMISSION_DEFAULT_TOLERATIONS = { .name = "DefaultTolerationSeconds", .mutate = mutate };
