/* SPDX-License-Identifier: Apache-2.0 */
/* Adoption and release. Loop thread only. */
#include "userspace/controllers/owning.h"

struct adoption {
	const struct api_kind *kind;
	const struct object *owner;
	struct str child_uid;
};

static int mutate_adopt(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct adoption *a = arg;

	if (meta_controller(object) || meta_deleting(object) || !str_eq(meta_uid(object), a->child_uid))
		return 1;
	object_set_controller(arena, object, a->kind, a->owner);
	return 0;
}

static int mutate_release(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct adoption *a = arg;

	return meta_remove_owner(object, a->owner->uid) ? 0 : 1;
}

static void change(struct reconcile *ctx, const struct api_kind *owner_kind, const struct object *owner,
		   const struct api_kind *child_kind, const struct object *child, registry_mutate_fn *mutate)
{
	struct adoption *a = arena_new(ctx->arena, struct adoption);

	*a = (struct adoption){ .kind = owner_kind, .owner = owner, .child_uid = child->uid };
	reconcile_update(ctx, child_kind, child->ns, child->name, NULL, mutate, a, NULL);
}

bool owning_claim(struct reconcile *ctx, const struct api_kind *owner_kind, const struct object *owner,
		  const struct api_kind *child_kind, const struct selector *selector, struct objects *ret)
{
	struct objects owned = objects_owned(ctx->arena, ctx->reg, child_kind, owner->uid);
	struct objects orphans;
	unsigned writes = ctx->writes;
	size_t n = 0;

	for (size_t i = 0; i < owned.n; i++) {
		const struct object *o = owned.items[i];

		if (!object_controlled_by(o, owner->uid) || !str_eq(o->ns, owner->ns))
			continue;
		if (object_matches(o, selector))
			owned.items[n++] = o;
		else if (!owner->deleting && !o->deleting)
			change(ctx, owner_kind, owner, child_kind, o, mutate_release);
	}
	owned.n = n;
	if (!owner->deleting && !selector->nothing) {
		orphans = objects_orphans(ctx->arena, ctx->reg, child_kind, owner->ns);
		for (size_t i = 0; i < orphans.n; i++)
			if (!orphans.items[i]->deleting && object_matches(orphans.items[i], selector))
				change(ctx, owner_kind, owner, child_kind, orphans.items[i], mutate_adopt);
	}
	if (ctx->writes != writes) {
		reconcile_again(ctx);
		return false;
	}
	*ret = owned;
	return true;
}

struct orphan {
	struct runner *runner;
	const struct api_kind *owner_kind;
	const struct object *child;
};

static void enqueue_if_selects(void *arg, const struct object *owner)
{
	struct orphan *c = arg;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *selector = json_at(registry_parse(&arena, owner), "spec.selector");
	struct selector s = c->owner_kind == KIND_REPLICATIONCONTROLLER ? selector_of_map(&arena, selector)
									: selector_of_labels(&arena, selector);

	if (object_matches(c->child, &s))
		runner_enqueue(c->runner, owner->ns, owner->name);
}

void owning_enqueue(struct runner *r, const struct api_kind *owner_kind, const struct object *child,
		    const struct object *prev, enum registry_event_type type)
{
	struct orphan c = { .runner = r, .owner_kind = owner_kind, .child = child };

	runner_enqueue_controller(r, owner_kind, child, prev);
	if (type != REGISTRY_DELETED && !child->deleting && !object_controller(child))
		registry_each(runner_registry(r), owner_kind, child->ns, enqueue_if_selects, &c);
}
