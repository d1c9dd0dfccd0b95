/* SPDX-License-Identifier: Apache-2.0 */
/* Writes of callers in process: the same pipeline, on trees instead of text. Loop thread. */
#include "userspace/base/mem.h"
#include "userspace/registry/internal.h"

void registry_create_as(struct registry *reg, const char *manager, const struct api_kind *kind, struct json *object,
			registry_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_CREATE, kind, NULL, meta_namespace(object), meta_name(object));

	w->manager = str_of(manager);
	w->simple_done = done;
	w->arg = arg;
	w->object = json_clone(&w->arena, object);
	write_run_create(w);
}

struct mutation {
	registry_mutate_fn *mutate;
	void *arg;
};

static int change_by_caller(struct write *w, void *arg, struct err *err)
{
	const struct mutation *m = arg;
	struct json *tree = convert_from_storage(&w->arena, w->kind, json_clone(&w->arena, w->old));
	int r = m->mutate(m->arg, &w->arena, tree, err);

	if (r != 0)
		return r;
	r = write_decode(w, tree, err);
	if (r < 0)
		return r;
	/* It was made from the newest state: whatever the caller left in these is not a precondition. */
	json_set_str(&w->arena, meta_ensure(&w->arena, w->object), "resourceVersion", meta_resource_version(w->old));
	return 0;
}

void registry_update_as(struct registry *reg, const char *manager, const struct api_kind *kind, struct str ns,
			struct str name, const char *subresource, registry_mutate_fn *mutate, void *mutate_arg,
			registry_done_fn *done, void *arg)
{
	struct write *w = write_create(reg, WRITE_UPDATE, kind, subresource, ns, name);
	struct mutation m = { mutate, mutate_arg };

	w->manager = str_of(manager);
	w->simple_done = done;
	w->arg = arg;
	write_run_update(w, change_by_caller, &m);
}

void registry_delete(struct registry *reg, const struct api_kind *kind, struct str ns, struct str name,
		     const struct registry_delete_options *options, registry_done_fn *done, void *arg)
{
	static const struct registry_delete_options defaults = { .grace_period_s = -1 };
	struct write *w = write_create(reg, WRITE_DELETE, kind, NULL, ns, name);

	w->simple_done = done;
	w->arg = arg;
	write_run_delete(w, options ? options : &defaults, false, false);
}
