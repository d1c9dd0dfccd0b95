/* SPDX-License-Identifier: Apache-2.0 */
/* clusterrole-aggregation: the rules of a ClusterRole with an aggregationRule are those of the cluster roles that its
 * selectors find, in the order of selectors and names, each once. Key: the cluster role. Loop thread only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static void enqueue_aggregating(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	if (json_get(registry_parse(&arena, o), "aggregationRule"))
		runner_enqueue(arg, STR_NULL, o->name);
}

/* Any role may be among those that another one gathers. */
static void map_role(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	if (!prev && !o->n_labels)
		enqueue_aggregating(r, o);
	else
		registry_each(runner_registry(r), KIND_CLUSTERROLE, STR_NULL, enqueue_aggregating, r);
}

static bool has_rule(const struct json *rules, const struct json *rule)
{
	json_foreach(r, rules)
		if (json_equal(r, rule))
			return true;
	return false;
}

static void gather(struct reconcile *ctx, const struct json *label_selector, struct json *rules)
{
	struct selector selector = selector_of_labels(ctx->arena, label_selector);
	struct objects roles = objects_all(ctx->arena, ctx->reg, KIND_CLUSTERROLE, STR_NULL);

	for (size_t i = 0; i < roles.n; i++) {
		if (str_eq(roles.items[i]->name, ctx->name) || !object_matches(roles.items[i], &selector))
			continue;
		json_foreach(rule, json_get(registry_parse(ctx->arena, roles.items[i]), "rules"))
			if (!has_rule(rules, rule))
				json_append(rules, json_clone(ctx->arena, rule));
	}
}

static int mutate_rules(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *rules = json_clone_deep(arena, arg);

	if (json_equal(json_get(object, "rules"), rules) ||
	    (!json_count(json_get(object, "rules")) && !json_count(rules)))
		return 1;
	json_set(object, "rules", rules);
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *o = registry_get(ctx->reg, KIND_CLUSTERROLE, STR_NULL, ctx->name);
	const struct json *role = o ? registry_parse(ctx->arena, o) : NULL, *rule = json_get(role, "aggregationRule");
	struct json *rules = json_new_array(ctx->arena);

	if (!rule || o->deleting)
		return 0;
	json_foreach(s, json_get(rule, "clusterRoleSelectors"))
		gather(ctx, s, rules);
	if (!json_equal(json_get(role, "rules"), rules))
		reconcile_update(ctx, KIND_CLUSTERROLE, STR_NULL, ctx->name, NULL, mutate_rules, rules, NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_CLUSTERROLE, map_role },
};

const struct controller controller_clusterrole_aggregation = {
	.name = "clusterrole-aggregation",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
