/* SPDX-License-Identifier: Apache-2.0 */
/* Priority: the number behind a pod's priority class, or the cluster's default class. */
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

static int mutate(struct write *w, struct err *err)
{
	struct priority p = { .preemption = STR("PreemptLowerPriority") };
	struct search s = { .arena = &w->arena };
	struct json *spec = json_get(w->object, "spec"), *given;
	struct str name;

	if (w->op != WRITE_CREATE || w->storage != KIND_POD || !spec)
		return 0;
	name = json_get_str(spec, "priorityClassName");
	if (name.n == 0) {
		registry_each(w->reg, KIND_PRIORITYCLASS, STR_NULL, look_for_default, &s);
		name = meta_name(s.found);
	}
	if (name.n > 0 && !find_class(w, name, &p))
		return api_err_forbidden(err, w->kind, meta_name(w->object),
					 "no PriorityClass with name %.*s was found", STR_ARG(name));
	given = json_get(spec, "priority");
	if (given && json_int(given, 0) != p.value)
		return api_err_forbidden(
			err, w->kind, meta_name(w->object),
			"the integer value of priority (%lld) must not be provided in pod spec; priority "
			"admission controller computed %lld from the given PriorityClass name",
			(long long)json_int(given, 0), (long long)p.value);
	if (p.name.n > 0)
		json_set_str(&w->arena, spec, "priorityClassName", p.name);
	json_set_int(&w->arena, spec, "priority", p.value);
	if (json_get_str(spec, "preemptionPolicy").n == 0)
		json_set_str(&w->arena, spec, "preemptionPolicy", p.preemption);
	return ADMISSION_CHANGED;
}

const struct admission_plugin ADMISSION_PRIORITY = { .name = "Priority", .mutate = mutate };
