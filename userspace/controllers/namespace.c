/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces: the four that always exist, and the emptying of those being deleted: every object of
 * every namespaced kind is deleted, conditions tell what is left, and when nothing is, the
 * finalizer "kubernetes" goes and with it the namespace. Loop thread only. */
#include <errno.h>

#include "userspace/base/log.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static const char *const always[] = { "default", "kube-system", "kube-public", "kube-node-lease" };

static bool is_always(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if (str_is(name, always[i]))
			return true;
	return false;
}

/* An object that left a dying namespace may have been the last; one that entered it late must go too. */
static void map_content(struct runner *r, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	const struct object *ns;

	if (o->ns.n == 0 || type == REGISTRY_MODIFIED)
		return;
	ns = registry_get(runner_registry(r), KIND_NAMESPACE, STR_NULL, o->ns);
	if (ns && ns->deleting)
		runner_enqueue(r, STR_NULL, o->ns);
}

static int start(struct runner *r, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		runner_enqueue(r, STR_NULL, str_of(always[i]));
	return 0;
}

struct remains {
	struct reconcile *ctx;
	const struct api_kind *kind;
	size_t of_kind, total;
	struct json *finalizers; /* name -> count */
	struct buf kinds;        /* "pods. has 2 resource instances, ..." */
};

static void count_finalizers(struct remains *r, const struct object *o)
{
	struct arena *arena = r->ctx->arena;
	struct json *list = json_at(registry_parse(arena, o), "metadata.finalizers");

	json_foreach(f, list) {
		struct json *n = json_get_n(r->finalizers, json_str(f));

		json_set_n(r->finalizers, arena_str(arena, json_str(f)), json_new_int(arena, json_int(n, 0) + 1));
	}
}

static void remove_one(void *arg, const struct object *o)
{
	struct remains *r = arg;

	r->of_kind++;
	if (o->has_finalizers)
		count_finalizers(r, o);
	if (!o->deleting && !reconcile_full(r->ctx)) {
		const struct registry_delete_options options = {
			.grace_period_s = -1,
			.propagation = "Background",
			.uid = o->uid,
		};

		reconcile_delete(r->ctx, o, r->kind, &options, NULL);
	}
}

static void remove_content(struct remains *r, struct str ns)
{
	for (size_t i = 0; i < api_kind_count(); i++) {
		const struct api_kind *kind = api_kind_at(i);

		if (!kind->namespaced || !kind->plural[0] || !(kind->verbs & API_VERB_DELETE) ||
		    (kind->storage && kind->storage != kind))
			continue;
		r->kind = kind;
		r->of_kind = 0;
		registry_each(r->ctx->reg, kind, ns, remove_one, r);
		if (r->of_kind == 0)
			continue;
		buf_printf(&r->kinds, "%s%s.%s has %zu resource instances", r->total ? ", " : "", kind->plural,
			   kind->group, r->of_kind);
		r->total += r->of_kind;
	}
}

static const char *finalizers_text(struct remains *r)
{
	const char *text = "Some content in the namespace has finalizers remaining: ";

	json_foreach(f, r->finalizers)
		text = arena_printf(r->ctx->arena, "%s%.*s in %lld resource instances%s", text, STR_ARG(f->key),
				    (long long)json_int(f, 0), f->next ? ", " : "");
	return text;
}

static int mutate_status(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct remains *r = arg;
	struct json *status = json_ensure_object(arena, object, "status");
	struct json *conditions = json_ensure_array(arena, status, "conditions");
	bool finalizers = json_count(r->finalizers) > 0;
	const char *left = arena_printf(arena, "Some resources are remaining: %s", buf_cstr(&r->kinds));
	const struct condition all[] = {
		{ "NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered",
		  "All resources successfully discovered" },
		{ "NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions",
		  "All legacy kube types successfully parsed" },
		{ "NamespaceDeletionContentFailure", "False", "ContentDeleted",
		  "All content successfully deleted, may be waiting on finalization" },
		{ "NamespaceContentRemaining", r->total ? "True" : "False",
		  r->total ? "SomeResourcesRemain" : "ContentRemoved",
		  r->total ? left : "All content successfully removed" },
		{ "NamespaceFinalizersRemaining", finalizers ? "True" : "False",
		  finalizers ? "SomeFinalizersRemain" : "ContentHasNoFinalizers",
		  finalizers ? arena_strdup(arena, finalizers_text(r)) : "All content-preserving finalizers finished" },
	};
	bool changed = !str_is(json_get_str(status, "phase"), "Terminating");

	json_set_cstr(arena, status, "phase", "Terminating");
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		changed |= condition_set(arena, conditions, &all[i]);
	return changed ? 0 : 1;
}

static int mutate_finalize(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_foreach(f, json_at(object, "spec.finalizers"))
		if (str_is(json_str(f), "kubernetes")) {
			json_unlink(json_at(object, "spec.finalizers"), f);
			return 0;
		}
	return 1;
}

static bool has_finalizer(struct reconcile *ctx, const struct object *ns)
{
	json_foreach(f, json_at(registry_parse(ctx->arena, ns), "spec.finalizers"))
		if (str_is(json_str(f), "kubernetes"))
			return true;
	return false;
}

static int empty_namespace(struct reconcile *ctx, const struct object *ns)
{
	struct remains r = { .ctx = ctx, .finalizers = json_new_object(ctx->arena) };

	remove_content(&r, ns->name);
	if (has_finalizer(ctx, ns)) {
		if (r.total > 0)
			reconcile_update(ctx, KIND_NAMESPACE, STR_NULL, ns->name, "status", mutate_status, &r, NULL);
		else
			reconcile_update(ctx, KIND_NAMESPACE, STR_NULL, ns->name, "finalize", mutate_finalize, NULL,
					 NULL);
	}
	buf_finish(&r.kinds);
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *ns = registry_get(ctx->reg, KIND_NAMESPACE, STR_NULL, ctx->name);

	if (ns && ns->deleting)
		return empty_namespace(ctx, ns);
	if (!ns && is_always(ctx->name))
		reconcile_create(ctx, KIND_NAMESPACE, object_new(ctx->arena, KIND_NAMESPACE, STR_NULL, ctx->name),
				 NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_NAMESPACE, runner_enqueue_self },
	{ NULL, map_content },
};

const struct controller controller_namespace = {
	.name = "namespace",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.reconcile = reconcile,
};
