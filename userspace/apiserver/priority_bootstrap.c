/* SPDX-License-Identifier: Apache-2.0 */
/* The flow control objects that every server has, as upstream: the mandatory ones (exempt, catch-all) are kept as they
 * are here; the suggested ones are made when they are missing and follow a new release as long as nobody has taken them
 * over (annotation apf.kubernetes.io/autoupdate-spec). */
#include "userspace/api/flowcontrol.h"
#include "userspace/api/meta.h"
#include "userspace/apiserver/priority.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"
#include "userspace/registry/registry.h"

#define AUTOUPDATE "apf.kubernetes.io/autoupdate-spec"

static const struct api_kind *kind_of(const char *kind)
{
	return api_kind_by_kind(STR("flowcontrol.apiserver.k8s.io"), STR("v1"), str_of(kind));
}

static struct json *spec_of(struct arena *arena, const struct flowcontrol_object *w)
{
	struct json *spec = NULL;

	/* Our own text. */
	if (json_parse(arena, str_of(w->spec), 0, &spec, NULL) < 0)
		abort();
	return spec;
}

static void written(void *arg, const struct object *o, const struct err *err)
{
	const struct flowcontrol_object *w = arg;

	if (err && err->status != 404 && err->status != 409)
		log_warn("cannot write a flow control object name=%s error=\"%s\"", w->name, err_message(err));
}

static void make(struct registry *reg, const struct api_kind *kind, const struct flowcontrol_object *w)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *object = json_new_object(&arena), *meta;

	json_set_cstr(&arena, object, "apiVersion", "flowcontrol.apiserver.k8s.io/v1");
	json_set_cstr(&arena, object, "kind", kind->kind);
	meta = json_ensure_object(&arena, object, "metadata");
	json_set_cstr(&arena, meta, "name", w->name);
	meta_set_annotation(&arena, object, AUTOUPDATE, STR("true"));
	json_set(object, "spec", spec_of(&arena, w));
	registry_create(reg, kind, object, written, (void *)(uintptr_t)w);
}

/* May this release's spec replace what is there? Without the annotation: as long as nobody has edited it. */
static bool ours(const struct flowcontrol_object *w, const struct json *object)
{
	struct str v = meta_annotation(object, AUTOUPDATE);

	if (w->mandatory || str_is(v, "true"))
		return true;
	return !str_is(v, "false") && meta_generation(object) == 1;
}

static int put_right(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	const struct flowcontrol_object *w = arg;
	struct json *spec = spec_of(arena, w);

	if (!ours(w, object) || json_equal(json_get(object, "spec"), spec))
		return 1;
	json_set(object, "spec", spec);
	meta_set_annotation(arena, object, AUTOUPDATE, STR("true"));
	return 0;
}

static void ensure(struct registry *reg, const struct api_kind *kind, const struct flowcontrol_object *w)
{
	if (!registry_get(reg, kind, STR_NULL, str_of(w->name)))
		make(reg, kind, w);
	else
		registry_update(reg, kind, STR_NULL, str_of(w->name), NULL, put_right, (void *)(uintptr_t)w, written,
				(void *)(uintptr_t)w);
}

void priority_bootstrap(struct registry *reg)
{
	for (const struct flowcontrol_object *w = flowcontrol_levels; w->name; w++)
		ensure(reg, kind_of("PriorityLevelConfiguration"), w);
	for (const struct flowcontrol_object *w = flowcontrol_schemas; w->name; w++)
		ensure(reg, kind_of("FlowSchema"), w);
}

void priority_bootstrap_check(struct registry *reg, const struct api_kind *kind, struct str name)
{
	bool level = str_is(str_of(kind->kind), "PriorityLevelConfiguration");

	for (const struct flowcontrol_object *w = level ? flowcontrol_levels : flowcontrol_schemas; w->name; w++)
		if (str_is(name, w->name))
			ensure(reg, kind, w);
}
