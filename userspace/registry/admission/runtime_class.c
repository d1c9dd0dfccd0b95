/* SPDX-License-Identifier: Apache-2.0 */
/* RuntimeClass: a pod's overhead is what its class says, and the class's node selector and tolerations become the
 * pod's. */
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

static bool is_new_pod(const struct write *w)
{
	return w->op == WRITE_CREATE && w->storage == KIND_POD && !w->subresource;
}

/* *ret is NULL when the pod names none. */
static int find_class(struct write *w, struct json **ret, struct err *err)
{
	struct str name = json_at_str(w->object, "spec.runtimeClassName");
	const struct object *o;

	*ret = NULL;
	if (name.n == 0)
		return 0;
	o = store_newest(w->reg->store, KIND_RUNTIMECLASS->resource, STR_NULL, name);
	if (!o)
		return admission_forbidden(w, err, "pod rejected: RuntimeClass \"%.*s\" not found", STR_ARG(name));
	*ret = registry_parse(&w->arena, o);
	return 0;
}

static bool same_quantities(const struct json *a, const struct json *b)
{
	if (json_count(a) != json_count(b))
		return false;
	json_foreach(m, a) {
		struct quantity x = quantity_of(m), y = quantity_of(json_get_n(b, m->key));

		if (!json_get_n(b, m->key) || quantity_cmp(&x, &y) != 0)
			return false;
	}
	return true;
}

static int overhead_differs(struct write *w, struct err *err)
{
	return admission_forbidden(w, err,
				   "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
}

static int merge_selector(struct write *w, struct json *spec, const struct json *selector, struct err *err)
{
	struct json *to;

	if (json_count(selector) == 0)
		return 0;
	to = json_ensure_object(&w->arena, spec, "nodeSelector");
	json_foreach(m, selector) {
		struct json *have = json_get_n(to, m->key);

		if (have && !str_eq(json_str(have), json_str(m)))
			return admission_forbidden(w, err,
						   "conflict: runtimeClass.scheduling.nodeSelector[%.*s] = %.*s; "
						   "pod.spec.nodeSelector[%.*s] = %.*s",
						   STR_ARG(m->key), STR_ARG(json_str(m)), STR_ARG(m->key),
						   STR_ARG(json_str(have)));
		json_set_n(to, arena_str(&w->arena, m->key), json_clone_deep(&w->arena, m));
	}
	return 0;
}

/* Nothing that `t` tolerates is left untolerated by `by`. */
static bool tolerates_all_of(const struct json *by, const struct json *t)
{
	struct str key = json_get_str(by, "key"), effect = json_get_str(by, "effect");
	const struct json *seconds = json_get(by, "tolerationSeconds"), *wanted = json_get(t, "tolerationSeconds");

	if (key.n > 0 && !str_eq(key, json_get_str(t, "key")))
		return false;
	if (effect.n > 0 && !str_eq(effect, json_get_str(t, "effect")))
		return false;
	if (seconds && (!wanted || json_int(seconds, 0) < json_int(wanted, 0)))
		return false;
	if (str_is(json_get_str(by, "operator"), "Exists"))
		return true;
	return !str_is(json_get_str(t, "operator"), "Exists") &&
	       str_eq(json_get_str(by, "value"), json_get_str(t, "value"));
}

/* The pod's own and then the class's, without those that another one covers. */
static void merge_tolerations(struct write *w, struct json *spec, const struct json *of_class)
{
	struct json *all, *merged = json_new_array(&w->arena);

	if (json_count(of_class) == 0)
		return;
	all = json_clone(&w->arena, json_get(spec, "tolerations"));
	if (!all)
		all = json_new_array(&w->arena);
	json_foreach(t, of_class)
		json_append(all, json_clone_deep(&w->arena, t));
	json_foreach(t, all) {
		bool covered = false, later = false;

		json_foreach(other, all) {
			later = later || other == t;
			/* Of two that cover each other the first stays. */
			if (other != t && tolerates_all_of(other, t) && (!later || !tolerates_all_of(t, other)))
				covered = true;
		}
		if (!covered)
			json_append(merged, json_clone(&w->arena, t));
	}
	json_set(spec, "tolerations", merged);
}

static int mutate(struct write *w, struct err *err)
{
	struct json *class, *spec, *fixed;
	int r;

	if (!is_new_pod(w))
		return 0;
	r = find_class(w, &class, err);
	if (r < 0 || !class)
		return r;
	spec = json_get(w->object, "spec");
	fixed = json_at(class, "overhead.podFixed");
	if (json_get(class, "overhead")) {
		if (json_get(spec, "overhead") && !same_quantities(json_get(spec, "overhead"), fixed))
			return overhead_differs(w, err);
		if (fixed)
			json_set(spec, "overhead", json_clone_deep(&w->arena, fixed));
	}
	r = merge_selector(w, spec, json_at(class, "scheduling.nodeSelector"), err);
	if (r < 0)
		return r;
	merge_tolerations(w, spec, json_at(class, "scheduling.tolerations"));
	return ADMISSION_CHANGED;
}

static int validate(struct write *w, struct err *err)
{
	struct json *class, *overhead;
	int r;

	if (!is_new_pod(w))
		return 0;
	r = find_class(w, &class, err);
	if (r < 0)
		return r;
	overhead = json_at(w->object, "spec.overhead");
	if (class && json_get(class, "overhead"))
		return same_quantities(overhead, json_at(class, "overhead.podFixed")) ? 0 : overhead_differs(w, err);
	if (overhead)
		return admission_forbidden(
			w, err, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead");
	return 0;
}

const struct admission_plugin ADMISSION_RUNTIME_CLASS = { .name = "RuntimeClass",
							  .mutate = mutate,
							  .validate = validate };
