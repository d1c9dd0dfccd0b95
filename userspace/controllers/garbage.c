/* SPDX-License-Identifier: Apache-2.0 */
/* The garbage collector. An object whose owners are all gone goes too (background); one deleted in
 * the foreground waits, under the finalizer "foregroundDeletion", for dependents that block it; one
 * deleted as an orphaner loses, before its finalizer "orphan" goes, the references its dependents
 * hold. Key: a uid. Owners count by uid, never by name alone. Loop thread only. */
#include <errno.h>

#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static const struct str orphan = { "orphan", sizeof("orphan") - 1 };
static const struct str foreground = { "foregroundDeletion", sizeof("foregroundDeletion") - 1 };

/* ---- what changes ask for a look ---- */

static bool same_owners(const struct object *a, const struct object *b)
{
	if (a->n_owners != b->n_owners)
		return false;
	for (size_t i = 0; i < a->n_owners; i++)
		if (!str_eq(a->owners[i].uid, b->owners[i].uid) ||
		    a->owners[i].block_owner_deletion != b->owners[i].block_owner_deletion)
			return false;
	return true;
}

static void enqueue_uid(void *arg, const struct object *o)
{
	runner_enqueue(arg, STR_NULL, o->uid);
}

static void enqueue_waiting_owners(struct runner *r, const struct object *o)
{
	for (size_t i = 0; i < o->n_owners; i++) {
		const struct object *owner = registry_by_uid(runner_registry(r), o->owners[i].uid);

		if (owner && owner->deleting)
			runner_enqueue(r, STR_NULL, owner->uid);
	}
}

static void map_any(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	if (type == REGISTRY_DELETED) {
		registry_each_owned(runner_registry(r), o->uid, enqueue_uid, r);
		enqueue_waiting_owners(r, o);
		return;
	}
	if (type == REGISTRY_MODIFIED && prev && !same_owners(o, prev))
		enqueue_waiting_owners(r, prev);
	if (o->n_owners > 0 && (type == REGISTRY_ADDED || !prev || !same_owners(o, prev)))
		runner_enqueue(r, STR_NULL, o->uid);
	if (!o->deleting || !o->has_finalizers)
		return;
	runner_enqueue(r, STR_NULL, o->uid);
	if (!prev || !prev->deleting)
		registry_each_owned(runner_registry(r), o->uid, enqueue_uid, r);
}

/* ---- facts ---- */

struct item {
	struct reconcile *ctx;
	const struct object *object;
	const struct api_kind *kind;
	struct json *json;
};

static struct item item_of(struct reconcile *ctx, const struct object *o)
{
	return (struct item){ ctx, o, api_kind_by_index(o->resource), registry_parse(ctx->arena, o) };
}

static bool has_finalizer(const struct item *it, struct str finalizer)
{
	return it->object->has_finalizers && meta_has_finalizer(it->json, finalizer);
}

static bool is_waiting_for_dependents(struct reconcile *ctx, const struct object *o)
{
	struct item it;

	if (!o->deleting || !o->has_finalizers)
		return false;
	it = item_of(ctx, o);
	return has_finalizer(&it, foreground);
}

static void collect(void *arg, const struct object *o)
{
	objects_add(arg, o);
}

static struct objects dependents_of(struct reconcile *ctx, const struct object *o)
{
	struct objects list = { .arena = ctx->arena };

	registry_each_owned(ctx->reg, o->uid, collect, &list);
	return list;
}

static bool blocks(const struct object *dependent, struct str owner_uid)
{
	for (size_t i = 0; i < dependent->n_owners; i++)
		if (str_eq(dependent->owners[i].uid, owner_uid) && dependent->owners[i].block_owner_deletion)
			return true;
	return false;
}

/* ---- changes ---- */

struct strip {
	struct str *uids;
	size_t n;
};

static int mutate_strip(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct strip *s = arg;
	bool changed = false;

	for (size_t i = 0; i < s->n; i++)
		changed |= meta_remove_owner(object, s->uids[i]);
	return changed ? 0 : 1;
}

static void strip_owners(const struct item *it, struct str *uids, size_t n)
{
	struct strip *s = arena_new(it->ctx->arena, struct strip);

	*s = (struct strip){ uids, n };
	reconcile_update(it->ctx, it->kind, it->object->ns, it->object->name, NULL, mutate_strip, s, NULL);
}

struct finalizer_removal {
	struct str finalizer, uid;
};

static int mutate_remove_finalizer(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct finalizer_removal *f = arg;

	if (!str_eq(meta_uid(object), f->uid))
		return 1;
	return meta_remove_finalizer(object, f->finalizer) ? 0 : 1;
}

static void remove_finalizer(const struct item *it, struct str finalizer)
{
	struct finalizer_removal *f = arena_new(it->ctx->arena, struct finalizer_removal);

	*f = (struct finalizer_removal){ finalizer, it->object->uid };
	reconcile_update(it->ctx, it->kind, it->object->ns, it->object->name, NULL, mutate_remove_finalizer, f, NULL);
}

/* ---- the deleted owner ---- */

static void orphan_dependents(const struct item *it)
{
	struct objects list = dependents_of(it->ctx, it->object);
	struct str *uid = arena_new(it->ctx->arena, struct str);

	*uid = it->object->uid;
	if (list.n == 0) {
		remove_finalizer(it, orphan);
		return;
	}
	for (size_t i = 0; i < list.n && !reconcile_full(it->ctx); i++) {
		struct item dependent = item_of(it->ctx, list.items[i]);

		strip_owners(&dependent, uid, 1);
	}
	reconcile_again(it->ctx);
}

static void await_dependents(const struct item *it)
{
	struct objects list = dependents_of(it->ctx, it->object);

	for (size_t i = 0; i < list.n; i++)
		if (blocks(list.items[i], it->object->uid))
			return; /* they have keys of their own, and their end comes back here */
	remove_finalizer(it, foreground);
}

/* ---- the dependent ---- */

enum owner_state { OWNER_SOLID, OWNER_DANGLING, OWNER_WAITING };

static enum owner_state owner_state(const struct item *it, const struct object_owner *owner)
{
	const struct object *o = registry_by_uid(it->ctx->reg, owner->uid);
	struct str group, version;

	if (!o) {
		/* Nobody can say of an unknown kind that its object is gone. */
		if (api_parse_api_version(owner->api_version, &group, &version) < 0 ||
		    !api_kind_by_kind(group, version, owner->kind))
			return OWNER_SOLID;
		return OWNER_DANGLING;
	}
	if (o->ns.n > 0 && !str_eq(o->ns, it->object->ns))
		return OWNER_DANGLING;
	return is_waiting_for_dependents(it->ctx, o) ? OWNER_WAITING : OWNER_SOLID;
}

static void delete_item(const struct item *it, const char *propagation)
{
	const struct registry_delete_options options = {
		.grace_period_s = -1,
		.propagation = propagation,
		.uid = it->object->uid,
	};

	reconcile_delete(it->ctx, it->object, it->kind, &options, NULL);
}

static void judge_dependent(const struct item *it)
{
	struct str *gone = arena_new_array(it->ctx->arena, struct str, it->object->n_owners);
	size_t n[3] = { 0 }, n_gone = 0;

	for (size_t i = 0; i < it->object->n_owners; i++) {
		enum owner_state state = owner_state(it, &it->object->owners[i]);

		n[state]++;
		if (state != OWNER_SOLID)
			gone[n_gone++] = it->object->owners[i].uid;
	}
	if (n[OWNER_SOLID] > 0) {
		if (n_gone > 0)
			strip_owners(it, gone, n_gone);
		return;
	}
	if (n[OWNER_WAITING] > 0 && dependents_of(it->ctx, it->object).n > 0)
		delete_item(it, "Foreground");
	else if (has_finalizer(it, orphan))
		delete_item(it, "Orphan");
	else if (has_finalizer(it, foreground))
		delete_item(it, "Foreground");
	else
		delete_item(it, "Background");
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *o = registry_by_uid(ctx->reg, ctx->name);
	struct item it;

	if (!o)
		return 0;
	it = item_of(ctx, o);
	if (o->deleting && has_finalizer(&it, orphan))
		orphan_dependents(&it);
	else if (o->deleting && has_finalizer(&it, foreground))
		await_dependents(&it);
	else if (!o->deleting && o->n_owners > 0)
		judge_dependent(&it);
	return 0;
}

static const struct controller_watch watches[] = {
	{ NULL, map_any },
};

const struct controller controller_garbage = {
	.name = "garbage-collector",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
