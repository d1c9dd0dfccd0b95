/* SPDX-License-Identifier: Apache-2.0 */
/* Template history. Loop thread only. */
#include "userspace/controllers/revisions.h"

#include <stdlib.h>

static int64_t number_of(struct arena *arena, const struct object *o)
{
	return json_get_int(registry_parse(arena, o), "revision", 0);
}

struct numbered {
	const struct object *object;
	int64_t number;
};

static int by_number(const void *pa, const void *pb)
{
	const struct numbered *a = pa, *b = pb;

	return (a->number > b->number) - (a->number < b->number);
}

/* What undo applies: a patch that puts the whole template back. */
static struct json *data_of(struct arena *arena, const struct json *owner_json)
{
	struct json *data = json_new_object(arena);
	struct json *template = json_clone(arena, json_at(owner_json, "spec.template"));

	json_set_cstr(arena, template, "$patch", "replace");
	json_set(json_ensure_object(arena, data, "spec"), "template", template);
	return data;
}

static int mutate_number(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set_int(arena, object, "revision", *(int64_t *)arg);
	return 0;
}

static void create_revision(struct reconcile *ctx, const struct api_kind *owner_kind, const struct object *owner,
			    const struct json *owner_json, struct json *data, int64_t number, const char *hash)
{
	struct arena *arena = ctx->arena;
	const char *name = arena_printf(arena, "%.*s-%s", STR_ARG(owner->name), hash);
	struct json *o = object_new(arena, KIND_CONTROLLERREVISION, owner->ns, str_of(name));
	struct json *labels = json_clone(arena, json_at(owner_json, "spec.template.metadata.labels"));

	if (!json_is(labels, JSON_OBJECT))
		labels = json_new_object(arena);
	json_set_cstr(arena, labels, REVISION_HASH_LABEL, hash);
	json_set(json_get(o, "metadata"), "labels", labels);
	object_set_controller(arena, o, owner_kind, owner);
	json_set(o, "data", data);
	json_set_int(arena, o, "revision", number);
	reconcile_create(ctx, KIND_CONTROLLERREVISION, o, NULL);
}

static const char *free_hash(struct reconcile *ctx, const struct object *owner, const struct json *data)
{
	for (int64_t collisions = 0;; collisions++) {
		const char *hash = object_hash(ctx->arena, data, collisions);
		const char *name = arena_printf(ctx->arena, "%.*s-%s", STR_ARG(owner->name), hash);

		if (!registry_get(ctx->reg, KIND_CONTROLLERREVISION, owner->ns, str_of(name)))
			return hash;
	}
}

bool revisions_sync(struct reconcile *ctx, const struct api_kind *owner_kind, const struct object *owner,
		    const struct json *owner_json, struct revisions *ret)
{
	struct arena *arena = ctx->arena;
	struct objects owned = objects_owned(arena, ctx->reg, KIND_CONTROLLERREVISION, owner->uid);
	struct numbered *all = arena_new_array(arena, struct numbered, owned.n + 1);
	struct json *data = data_of(arena, owner_json);
	const struct object *same = NULL;
	int64_t last = 0, *next = arena_new(arena, int64_t);

	for (size_t i = 0; i < owned.n; i++)
		all[i] = (struct numbered){ owned.items[i], number_of(arena, owned.items[i]) };
	if (owned.n > 1)
		qsort(all, owned.n, sizeof(*all), by_number);
	for (size_t i = 0; i < owned.n; i++) {
		owned.items[i] = all[i].object;
		last = all[i].number;
		if (json_equal(json_get(registry_parse(arena, all[i].object), "data"), data))
			same = all[i].object;
	}
	*next = last + 1;
	if (!same) {
		create_revision(ctx, owner_kind, owner, owner_json, data, *next, free_hash(ctx, owner, data));
		reconcile_again(ctx);
		return false;
	}
	if (same != owned.items[owned.n - 1]) {
		reconcile_update(ctx, KIND_CONTROLLERREVISION, same->ns, same->name, NULL, mutate_number, next, NULL);
		reconcile_again(ctx);
		return false;
	}
	*ret = (struct revisions){
		.items = owned.items,
		.n = owned.n,
		.hash = arena_printf(arena, "%.*s", STR_ARG(object_label(same, STR(REVISION_HASH_LABEL)))),
		.name = arena_printf(arena, "%.*s", STR_ARG(same->name)),
	};
	return true;
}

static bool is_live(const struct object *o, const char *const *live)
{
	struct str hash = object_label(o, STR(REVISION_HASH_LABEL));

	for (; *live; live++)
		if (str_is(hash, *live))
			return true;
	return false;
}

void revisions_trim(struct reconcile *ctx, const struct revisions *r, int64_t limit, const char *const *live)
{
	size_t old = 0, seen = 0;

	for (size_t i = 0; i + 1 < r->n; i++)
		old += !is_live(r->items[i], live);
	for (size_t i = 0; i + 1 < r->n && (int64_t)(old - seen) > limit; i++) {
		if (is_live(r->items[i], live))
			continue;
		reconcile_delete(ctx, r->items[i], KIND_CONTROLLERREVISION, NULL, NULL);
		seen++;
	}
}
