/* SPDX-License-Identifier: Apache-2.0 */
/* The ConfigMap kube-root-ca.crt with the cluster's CA in every namespace. Key: the namespace.
 * Loop thread only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

static const struct str wanted = { "kube-root-ca.crt", sizeof("kube-root-ca.crt") - 1 };

static void map_config(struct runner *r, enum registry_event_type type, const struct object *o,
		       const struct object *prev)
{
	if (str_eq(o->name, wanted))
		runner_enqueue(r, STR_NULL, o->ns);
}

static struct json *wanted_data(struct arena *arena, const struct reconcile *ctx)
{
	struct json *data = json_new_object(arena);

	json_set_cstr(arena, data, "ca.crt", ctx->options->root_ca_pem);
	return data;
}

static int mutate_data(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *data = wanted_data(arena, arg);

	if (json_equal(json_get(object, "data"), data))
		return 1;
	json_set(object, "data", data);
	return 0;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *ns = registry_get(ctx->reg, KIND_NAMESPACE, STR_NULL, ctx->name);
	const struct object *have;
	struct json *o;

	if (!ns || ns->deleting || !ctx->options->root_ca_pem)
		return 0;
	have = registry_get(ctx->reg, KIND_CONFIGMAP, ns->name, wanted);
	if (have) {
		if (!json_equal(json_get(registry_parse(ctx->arena, have), "data"), wanted_data(ctx->arena, ctx)))
			reconcile_update(ctx, KIND_CONFIGMAP, ns->name, wanted, NULL, mutate_data, ctx, NULL);
		return 0;
	}
	o = object_new(ctx->arena, KIND_CONFIGMAP, ns->name, wanted);
	meta_set_annotation(ctx->arena, o, "kubernetes.io/description",
			    STR("Contains a CA bundle that can be used to verify the kube-apiserver when using "
				"internal endpoints such as the internal service IP or kubernetes.default.svc. No "
				"other usage is guaranteed across distributions of Kubernetes clusters."));
	json_set(o, "data", wanted_data(ctx->arena, ctx));
	reconcile_create(ctx, KIND_CONFIGMAP, o, NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_NAMESPACE, runner_enqueue_self },
	{ &KIND_CONFIGMAP, map_config },
};

const struct controller controller_root_ca = {
	.name = "root-ca",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
