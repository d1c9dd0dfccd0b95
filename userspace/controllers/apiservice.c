/* SPDX-License-Identifier: Apache-2.0 */
/* One APIService for each group and version that this server serves itself, kept as the tables say; and whether the
 * ones that others made are available. Key: the name. Nothing is written when nothing differs. Loop thread only. */
#include <stdio.h>
#include <string.h>

#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#define AUTOMANAGED "kube-aggregator.kubernetes.io/automanaged"
#define NAME_MAX_LENGTH 320

/* "v1.apps", "v1."; the group of APIServices themselves has none, as upstream. */
static bool has_service(const struct api_group_version *gv)
{
	return strcmp(gv->group, "apiregistration.k8s.io") != 0;
}

static struct str name_of(const struct api_group_version *gv, char ret[static NAME_MAX_LENGTH])
{
	return str_make(ret, (size_t)snprintf(ret, NAME_MAX_LENGTH, "%s.%s", gv->version, gv->group));
}

static const struct api_group_version *served(struct str name)
{
	char text[NAME_MAX_LENGTH];

	for (size_t i = 0; i < api_group_version_count(); i++) {
		const struct api_group_version *gv = api_group_version_at(i);

		if (has_service(gv) && str_eq(name, name_of(gv, text)))
			return gv;
	}
	return NULL;
}

static struct json *wanted_spec(struct arena *arena, const struct api_group_version *gv)
{
	struct json *spec = json_new_object(arena);

	if (*gv->group)
		json_set_cstr(arena, spec, "group", gv->group);
	json_set_int(arena, spec, "groupPriorityMinimum", gv->group_priority);
	json_set_cstr(arena, spec, "version", gv->version);
	json_set_int(arena, spec, "versionPriority", gv->version_priority);
	return spec;
}

static int mutate_spec(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *spec = wanted_spec(arena, arg);

	if (json_equal(json_get(object, "spec"), spec) && str_is(meta_label(object, AUTOMANAGED), "onstart"))
		return 1;
	json_set(object, "spec", spec);
	meta_set_label(arena, object, AUTOMANAGED, STR("onstart"));
	return 0;
}

/* ---- availability ---- */

static struct condition judge(struct reconcile *ctx, const struct json *object)
{
	const struct json *service = json_at(object, "spec.service");
	struct str ns = json_get_str(service, "namespace"), name = json_get_str(service, "name");

	if (!service)
		return (struct condition){ "Available", "True", "Local", "Local APIServices are always available" };
	if (!registry_get(ctx->reg, KIND_SERVICE, ns, name))
		return (struct condition){ "Available", "False", "ServiceNotFound",
					   arena_printf(ctx->arena, "service/%.*s in \"%.*s\" is not present",
							STR_ARG(name), STR_ARG(ns)) };
	return (struct condition){ "Available", "False", "FailedDiscoveryCheck",
				   "requests are not forwarded to other servers" };
}

static int mutate_status(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct condition c = judge(arg, object);
	struct json *status = json_ensure_object(arena, object, "status");

	return condition_set(arena, json_ensure_array(arena, status, "conditions"), &c) ? 0 : 1;
}

static bool is_told(struct reconcile *ctx, const struct json *object)
{
	struct condition c = judge(ctx, object);
	const struct json *have = meta_condition(json_at(object, "status.conditions"), c.type);

	return have && str_is(json_get_str(have, "status"), c.status) &&
	       str_is(json_get_str(have, "reason"), c.reason) && str_is(json_get_str(have, "message"), c.message);
}

/* ---- the rest ---- */

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *have = registry_get(ctx->reg, KIND_APISERVICE, STR_NULL, ctx->name);
	const struct api_group_version *gv = served(ctx->name);
	struct json *o;

	if (!have) {
		if (!gv)
			return 0;
		o = object_new(ctx->arena, KIND_APISERVICE, STR_NULL, ctx->name);
		meta_set_label(ctx->arena, o, AUTOMANAGED, STR("onstart"));
		json_set(o, "spec", wanted_spec(ctx->arena, gv));
		reconcile_create(ctx, KIND_APISERVICE, o, NULL);
		return 0;
	}
	o = registry_parse(ctx->arena, have);
	if (gv && (!json_equal(json_get(o, "spec"), wanted_spec(ctx->arena, gv)) ||
		   !str_is(meta_label(o, AUTOMANAGED), "onstart"))) {
		reconcile_update(ctx, KIND_APISERVICE, STR_NULL, ctx->name, NULL, mutate_spec, (void *)(uintptr_t)gv,
				 NULL);
		return 0;
	}
	if (!have->deleting && !is_told(ctx, o))
		reconcile_update(ctx, KIND_APISERVICE, STR_NULL, ctx->name, "status", mutate_status, ctx, NULL);
	return 0;
}

static int start(struct runner *r, struct err *err)
{
	char text[NAME_MAX_LENGTH];

	for (size_t i = 0; i < api_group_version_count(); i++)
		if (has_service(api_group_version_at(i)))
			runner_enqueue(r, STR_NULL, name_of(api_group_version_at(i), text));
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_APISERVICE, runner_enqueue_self },
};

const struct controller controller_apiservice = {
	.name = "apiservice-registration",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.reconcile = reconcile,
};
