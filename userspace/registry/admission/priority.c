/* SPDX-License-Identifier: Apache-2.0 */
/* Priority: the number behind a pod's priority class, or the cluster's default class. Of the classes one at most is
 * the default, and those of the system stay. */
#include "userspace/base/mem.h"
#include "userspace/registry/admission/admission.h"

struct priority {
	struct str name, preemption;
	int64_t value;
};

static const struct {
	const char *name;
	int64_t value;
} SYSTEM_CLASSES[] = {
	{ "system-cluster-critical", 2000000000 },
	{ "system-node-critical", 2000001000 },
};

struct search {
	struct arena *arena;
	struct json *found;
};

static void look_for_default(void *arg, const struct object *o)
{
	struct search *s = arg;
	struct json *class = registry_parse(s->arena, o);

	if (!json_get_bool(class, "globalDefault", false))
		return;
	/* Two defaults: the lower one, as upstream decides. */
	if (!s->found || json_get_int(class, "value", 0) < json_get_int(s->found, "value", 0))
		s->found = class;
}

static bool find_class(struct write *w, struct str name, struct priority *p)
{
	const struct object *o;
	struct json *class;

	p->name = name;
	p->preemption = STR("PreemptLowerPriority");
	o = store_newest(w->reg->store, KIND_PRIORITYCLASS->resource, STR_NULL, name);
	if (o) {
		class = registry_parse(&w->arena, o);
		p->value = json_get_int(class, "value", 0);
		if (json_get_str(class, "preemptionPolicy").n > 0)
			p->preemption = json_get_str(class, "preemptionPolicy");
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(SYSTEM_CLASSES); i++) {
		if (!str_is(name, SYSTEM_CLASSES[i].name))
			continue;
		p->value = SYSTEM_CLASSES[i].value;
		return true;
	}
	return false;
}

static int admit_new_pod(struct write *w, struct json *spec, struct err *err)
{
	struct priority p = { .preemption = STR("PreemptLowerPriority") };
	struct search s = { .arena = &w->arena };
	struct json *given = json_get(spec, "priority");
	struct str name = json_get_str(spec, "priorityClassName"), policy = json_get_str(spec, "preemptionPolicy");

	if (name.n == 0) {
		registry_each(w->reg, KIND_PRIORITYCLASS, STR_NULL, look_for_default, &s);
		name = meta_name(s.found);
	}
	if (name.n > 0 && !find_class(w, name, &p))
		return admission_forbidden(w, err, "no PriorityClass with name %.*s was found", STR_ARG(name));
	if (given && json_int(given, 0) != p.value)
		return admission_forbidden(
			w, err,
			"the integer value of priority (%lld) must not be provided in pod spec; priority "
			"admission controller computed %lld from the given PriorityClass name",
			(long long)json_int(given, 0), (long long)p.value);
	if (policy.n > 0 && !str_eq(policy, p.preemption))
		return admission_forbidden(
			w, err,
			"the string value of PreemptionPolicy (%.*s) must not be provided in pod spec; priority "
			"admission controller computed %.*s from the given PriorityClass name",
			STR_ARG(policy), STR_ARG(p.preemption));
	if (p.name.n > 0)
		json_set_str(&w->arena, spec, "priorityClassName", arena_str(&w->arena, p.name));
	json_set_int(&w->arena, spec, "priority", p.value);
	json_set_str(&w->arena, spec, "preemptionPolicy", arena_str(&w->arena, p.preemption));
	return ADMISSION_CHANGED;
}

/* What was computed once stays when an update leaves it out. */
static int keep_computed(struct write *w, struct json *spec)
{
	static const char *const fields[] = { "priority", "preemptionPolicy" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct json *was = json_get(json_get(w->old, "spec"), fields[i]);

		if (!was || json_get(spec, fields[i]))
			continue;
		json_set(spec, fields[i], json_clone(&w->arena, was));
		r = ADMISSION_CHANGED;
	}
	return r;
}

static int mutate(struct write *w, struct err *err)
{
	struct json *spec;

	if (w->subresource)
		return 0;
	if (w->storage == KIND_POD && w->op != WRITE_DELETE) {
		spec = json_get(w->object, "spec");
		if (!spec)
			return 0;
		return w->op == WRITE_CREATE ? admit_new_pod(w, spec, err) : keep_computed(w, spec);
	}
	if (w->storage != KIND_PRIORITYCLASS || w->op != WRITE_DELETE)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(SYSTEM_CLASSES); i++)
		if (str_is(w->name, SYSTEM_CLASSES[i].name))
			return admission_forbidden(w, err, "this is a system priority class and cannot be deleted");
	return 0;
}

static int validate(struct write *w, struct err *err)
{
	struct search s = { .arena = &w->arena };

	if (w->storage != KIND_PRIORITYCLASS || w->subresource || w->op == WRITE_DELETE ||
	    !json_get_bool(w->object, "globalDefault", false))
		return 0;
	registry_each(w->reg, KIND_PRIORITYCLASS, STR_NULL, look_for_default, &s);
	if (!s.found || (w->op == WRITE_UPDATE && str_eq(meta_name(s.found), meta_name(w->object))))
		return 0;
	return admission_forbidden(w, err,
				   "PriorityClass %.*s is already marked as default. Only one default can exist",
				   STR_ARG(meta_name(s.found)));
}

const struct admission_plugin ADMISSION_PRIORITY = { .name = "Priority", .mutate = mutate, .validate = validate };
