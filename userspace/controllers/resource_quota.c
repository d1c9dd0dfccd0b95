/* SPDX-License-Identifier: Apache-2.0 */
/* ResourceQuotas: status.hard and status.used follow what admission counts. Key: the namespace; changes that come
 * while a status is on its way to the disk are told together in the next one. Loop thread only. */
#include "userspace/api/quantity.h"
#include "userspace/base/clock.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"
#include "userspace/registry/quota.h"

static void map_quota(struct runner *r, enum registry_event_type type, const struct object *o,
		      const struct object *prev)
{
	if (type != REGISTRY_DELETED)
		runner_enqueue(r, STR_NULL, o->ns);
}

static void on_usage(void *arg, struct str ns)
{
	runner_enqueue(arg, STR_NULL, ns);
}

static int start(struct runner *r, struct err *err)
{
	registry_quota_listen(runner_registry(r), on_usage, r);
	return 0;
}

static void stop(struct runner *r)
{
	registry_quota_listen(runner_registry(r), NULL, NULL);
}

static bool same_amounts(const struct json *a, const struct json *b)
{
	if (json_count(a) != json_count(b))
		return false;
	json_foreach(m, a) {
		const struct json *other = json_get_n(b, m->key);
		struct quantity x = quantity_of(m), y = quantity_of(other);

		if (!other || quantity_cmp(&x, &y) != 0)
			return false;
	}
	return true;
}

/* True when something had to be changed. */
static bool set_amounts(struct arena *arena, struct json *status, const char *key, const struct json *wanted)
{
	const struct json *have = json_get(status, key);

	if (have && same_amounts(have, wanted))
		return false;
	json_set(status, key, wanted ? json_clone(arena, wanted) : json_new_object(arena));
	return true;
}

static int mutate_status(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct reconcile *ctx = arg;
	struct json *status = json_ensure_object(arena, object, "status");
	const struct json *used = registry_quota_used(ctx->reg, arena, meta_namespace(object), meta_name(object));
	bool changed;

	if (!used) /* it goes */
		return 1;
	changed = set_amounts(arena, status, "hard", json_at(object, "spec.hard"));
	changed |= set_amounts(arena, status, "used", used);
	return changed ? 0 : 1;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	struct objects quotas = objects_all(ctx->arena, ctx->reg, KIND_RESOURCEQUOTA, ctx->name);
	int64_t expires;

	for (size_t i = 0; i < quotas.n && !reconcile_full(ctx); i++)
		reconcile_update(ctx, KIND_RESOURCEQUOTA, quotas.items[i]->ns, quotas.items[i]->name, "status",
				 mutate_status, ctx, NULL);
	expires = registry_quota_expires_ns(ctx->reg, ctx->name);
	if (quotas.n > 0 && expires > 0) {
		int64_t left = expires - clock_real_ns();

		/* A moment later than that. */
		reconcile_after(ctx, (left > 0 ? left : 0) + NS_PER_S);
	}
	return 0;
}

static const struct controller_watch watches[] = { { &KIND_RESOURCEQUOTA, map_quota } };

const struct controller controller_resource_quota = {
	.name = "resourcequota",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.stop = stop,
	.reconcile = reconcile,
};
