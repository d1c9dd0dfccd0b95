/* SPDX-License-Identifier: Apache-2.0 */
/* The Service `kubernetes` in `default`, which leads to the API server, with its EndpointSlice and
 * (for old clients) Endpoints. One key. Loop thread only. */
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#include <errno.h>

#include "userspace/api/names.h"

#define HTTPS_PORT 443

static const struct str service_ns = { "default", sizeof("default") - 1 };
static const struct str service_name = { "kubernetes", sizeof("kubernetes") - 1 };

static void map_one(struct runner *r, enum registry_event_type type, const struct object *o, const struct object *prev)
{
	const struct api_kind *kind = api_kind_by_index(o->resource);

	if (kind == KIND_NAMESPACE ? str_eq(o->name, service_ns)
				   : str_eq(o->ns, service_ns) && str_eq(o->name, service_name))
		runner_enqueue(r, service_ns, service_name);
}

static struct json *port_new(struct arena *arena, int64_t port)
{
	struct json *p = json_new_object(arena);

	json_set_cstr(arena, p, "name", "https");
	json_set_int(arena, p, "port", port);
	json_set_cstr(arena, p, "protocol", "TCP");
	return p;
}

static void create_service(struct reconcile *ctx)
{
	struct arena *arena = ctx->arena;
	struct json *o = object_new(arena, KIND_SERVICE, service_ns, service_name);
	struct json *spec = json_ensure_object(arena, o, "spec");
	struct json *port = port_new(arena, HTTPS_PORT);

	meta_set_label(arena, o, "component", STR("apiserver"));
	meta_set_label(arena, o, "provider", STR("kubernetes"));
	json_set_int(arena, port, "targetPort", ctx->options->apiserver_port);
	json_append(json_ensure_array(arena, spec, "ports"), port);
	json_set_cstr(arena, spec, "sessionAffinity", "None");
	json_set_cstr(arena, spec, "type", "ClusterIP");
	if (ctx->options->kubernetes_service_ip)
		json_set_cstr(arena, spec, "clusterIP", ctx->options->kubernetes_service_ip);
	reconcile_create(ctx, KIND_SERVICE, o, NULL);
}

/* One of an earlier service range leads nowhere: it goes, and comes back with its right address. */
static void ensure_service(struct reconcile *ctx)
{
	const struct object *have = registry_get(ctx->reg, KIND_SERVICE, service_ns, service_name);
	struct str ip;

	if (!have) {
		create_service(ctx);
		return;
	}
	ip = json_at_str(registry_parse(ctx->arena, have), "spec.clusterIP");
	if (!have->deleting && ctx->options->kubernetes_service_ip && ip.n &&
	    !str_is(ip, ctx->options->kubernetes_service_ip))
		reconcile_delete(ctx, have, KIND_SERVICE, NULL, NULL);
}

/* The members that an EndpointSlice or Endpoints must have, replaced when they differ. */
struct wanted {
	struct json *members;
};

static bool differs(const struct json *object, const struct json *members)
{
	json_foreach(m, members)
		if (!json_equal(json_get_n(object, m->key), m))
			return true;
	return false;
}

static int mutate_members(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct wanted *w = arg;

	if (!differs(object, w->members))
		return 1;
	json_foreach(m, w->members)
		json_set_n(object, m->key, json_clone(arena, m));
	return 0;
}

static void ensure(struct reconcile *ctx, const struct api_kind *kind, struct wanted *wanted)
{
	const struct object *have = registry_get(ctx->reg, kind, service_ns, service_name);
	struct json *o;

	/* An address of the other family needs another object: it comes when this one is gone. */
	if (have && kind == KIND_ENDPOINTSLICE &&
	    !str_eq(json_get_str(registry_parse(ctx->arena, have), "addressType"),
		    json_get_str(wanted->members, "addressType"))) {
		reconcile_delete(ctx, have, kind, NULL, NULL);
		return;
	}
	if (have) {
		if (differs(registry_parse(ctx->arena, have), wanted->members))
			reconcile_update(ctx, kind, service_ns, service_name, NULL, mutate_members, wanted, NULL);
		return;
	}
	o = object_new(ctx->arena, kind, service_ns, service_name);
	if (kind == KIND_ENDPOINTSLICE)
		meta_set_label(ctx->arena, o, "kubernetes.io/service-name", service_name);
	else
		meta_set_label(ctx->arena, o, "endpointslice.kubernetes.io/skip-mirror", STR("true"));
	json_foreach(m, wanted->members)
		json_set_n(o, m->key, json_clone(ctx->arena, m));
	reconcile_create(ctx, kind, o, NULL);
}

static struct wanted wanted_slice(struct reconcile *ctx, int family)
{
	struct arena *arena = ctx->arena;
	struct json *members = json_new_object(arena);
	struct json *endpoint = json_new_object(arena);
	struct json *conditions = json_ensure_object(arena, endpoint, "conditions");

	json_append(json_ensure_array(arena, endpoint, "addresses"),
		    json_new_cstr(arena, arena_strdup(arena, ctx->options->apiserver_address)));
	json_set_bool(arena, conditions, "ready", true);
	json_set_cstr(arena, members, "addressType", family == 6 ? "IPv6" : "IPv4");
	json_append(json_ensure_array(arena, members, "endpoints"), endpoint);
	json_append(json_ensure_array(arena, members, "ports"), port_new(arena, ctx->options->apiserver_port));
	return (struct wanted){ members };
}

static struct wanted wanted_endpoints(struct reconcile *ctx)
{
	struct arena *arena = ctx->arena;
	struct json *members = json_new_object(arena);
	struct json *subset = json_new_object(arena);
	struct json *address = json_new_object(arena);

	json_set_cstr(arena, address, "ip", arena_strdup(arena, ctx->options->apiserver_address));
	json_append(json_ensure_array(arena, subset, "addresses"), address);
	json_append(json_ensure_array(arena, subset, "ports"), port_new(arena, ctx->options->apiserver_port));
	json_append(json_ensure_array(arena, members, "subsets"), subset);
	return (struct wanted){ members };
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *ns = registry_get(ctx->reg, KIND_NAMESPACE, STR_NULL, service_ns);
	struct names_ip ip;
	struct wanted slice, endpoints;
	int rc;

	if (!ns || ns->deleting)
		return 0;
	ensure_service(ctx);
	if (!ctx->options->apiserver_address)
		return 0;
	rc = names_parse_ip(str_of(ctx->options->apiserver_address), &ip);
	if (rc < 0)
		return err_set(err, rc, "the API server's address \"%s\" is no IP address",
			       ctx->options->apiserver_address);
	slice = wanted_slice(ctx, ip.family);
	endpoints = wanted_endpoints(ctx);
	ensure(ctx, KIND_ENDPOINTSLICE, &slice);
	ensure(ctx, KIND_ENDPOINTS, &endpoints);
	return 0;
}

static int start(struct runner *r, struct err *err)
{
	runner_enqueue(r, service_ns, service_name);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_NAMESPACE, map_one },
	{ &KIND_SERVICE, map_one },
	{ &KIND_ENDPOINTSLICE, map_one },
	{ &KIND_ENDPOINTS, map_one },
};

const struct controller controller_kubernetes_service = {
	.name = "kubernetes-service",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.start = start,
	.reconcile = reconcile,
};
