/* SPDX-License-Identifier: Apache-2.0 */
/* The objects behind cluster addresses: the ServiceCIDR `kubernetes` of the configured networks, the state of those
 * that others made, and an IPAddress for each address a Service has. The registry gives the addresses; these objects
 * tell of them, follow the Services, and are set right at start. Keys: names of the objects. Loop thread only. */
#include "userspace/api/names.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"
#include "userspace/registry/addresses.h"

#define CIDR_FINALIZER "networking.k8s.io/service-cidr-finalizer"
#define MANAGED_BY "ipaddress.kubernetes.io/managed-by"
#define IP_FAMILY "ipaddress.kubernetes.io/ip-family"
#define ALLOCATOR "ipallocator.k8s.io"

static const struct str default_name = { "kubernetes", sizeof("kubernetes") - 1 };

/* ---- ServiceCIDR ---- */

static struct json *default_cidrs(struct reconcile *ctx)
{
	struct json *list = json_new_array(ctx->arena);
	char text[NAMES_CIDR_MAX];

	for (size_t i = 0; addresses_default_cidr(ctx->reg, i, text); i++)
		json_append(list, json_new_cstr(ctx->arena, arena_strdup(ctx->arena, text)));
	return list;
}

struct cidr_use {
	const struct json *cidrs;
	struct reconcile *ctx;
	struct str name;
	bool used;
};

static bool within(const struct json *cidrs, struct str text)
{
	struct names_cidr cidr;
	struct names_ip ip;

	if (names_parse_ip(text, &ip) < 0)
		return false;
	json_foreach(c, cidrs)
		if (names_parse_cidr(json_str(c), &cidr) == 0 && cidr.ip.family == ip.family &&
		    names_cidr_contains(&cidr, &ip))
			return true;
	return false;
}

struct cover {
	struct str name, ip;
	struct arena *arena;
	struct registry *reg;
	bool covered;
};

static void look_for_cover(void *arg, const struct object *o)
{
	struct cover *c = arg;

	if (!o->deleting && !str_eq(o->name, c->name))
		c->covered |= within(json_at(registry_parse(c->arena, o), "spec.cidrs"), c->ip);
}

static void look_at_address(void *arg, const struct object *o)
{
	struct cidr_use *u = arg;
	struct cover c = { .name = u->name, .ip = o->name, .arena = u->ctx->arena, .reg = u->ctx->reg };

	if (u->used || !within(u->cidrs, o->name))
		return;
	registry_each(u->ctx->reg, KIND_SERVICECIDR, STR_NULL, look_for_cover, &c);
	u->used = !c.covered;
}

static int mutate_finalizer(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	bool *add = arg;

	if (*add)
		return meta_add_finalizer(arena, object, STR(CIDR_FINALIZER)) ? 0 : 1;
	return meta_remove_finalizer(object, STR(CIDR_FINALIZER)) ? 0 : 1;
}

static int mutate_condition(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *status = json_ensure_object(arena, object, "status");

	return condition_set(arena, json_ensure_array(arena, status, "conditions"), arg) ? 0 : 1;
}

static void tell_condition(struct reconcile *ctx, const struct json *object, struct condition *c)
{
	const struct json *have = meta_condition(json_at(object, "status.conditions"), c->type);

	if (have && str_is(json_get_str(have, "status"), c->status) &&
	    str_is(json_get_str(have, "message"), c->message))
		return;
	reconcile_update(ctx, KIND_SERVICECIDR, STR_NULL, ctx->name, "status", mutate_condition, c, NULL);
}

static void create_default(struct reconcile *ctx)
{
	struct json *o = object_new(ctx->arena, KIND_SERVICECIDR, STR_NULL, default_name);

	meta_add_finalizer(ctx->arena, o, STR(CIDR_FINALIZER));
	json_set(json_ensure_object(ctx->arena, o, "spec"), "cidrs", default_cidrs(ctx));
	reconcile_create(ctx, KIND_SERVICECIDR, o, NULL);
}

/* A cluster that was given a second family tells so; nothing else of a ServiceCIDR can change. */
static int mutate_cidrs(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	json_set(json_ensure_object(arena, object, "spec"), "cidrs", json_clone(arena, arg));
	return 0;
}

static void follow_default(struct reconcile *ctx, const struct json *o)
{
	struct json *want = default_cidrs(ctx);
	const struct json *have = json_at(o, "spec.cidrs");

	if (json_count(have) == 1 && json_count(want) == 2 && json_equal(json_first(have), json_first(want)))
		reconcile_update(ctx, KIND_SERVICECIDR, STR_NULL, ctx->name, NULL, mutate_cidrs, want, NULL);
}

static int reconcile_cidr(struct reconcile *ctx, struct err *err)
{
	const struct object *have = registry_get(ctx->reg, KIND_SERVICECIDR, STR_NULL, ctx->name);
	bool is_default = str_eq(ctx->name, default_name), add = true;
	struct condition ready = { "Ready", "True", "",
				   is_default ? "Kubernetes default Service CIDR is ready"
					      : "Kubernetes Service CIDR is ready" };
	struct cidr_use use = { .ctx = ctx, .name = ctx->name };
	struct json *o;

	if (!have) {
		if (is_default)
			create_default(ctx);
		return 0;
	}
	o = registry_parse(ctx->arena, have);
	if (!have->deleting) {
		if (is_default)
			follow_default(ctx, o);
		if (!meta_has_finalizer(o, STR(CIDR_FINALIZER)))
			reconcile_update(ctx, KIND_SERVICECIDR, STR_NULL, ctx->name, NULL, mutate_finalizer, &add,
					 NULL);
		else
			tell_condition(ctx, o, &ready);
		return 0;
	}
	use.cidrs = json_at(o, "spec.cidrs");
	registry_each(ctx->reg, KIND_IPADDRESS, STR_NULL, look_at_address, &use);
	if (use.used) {
		ready = (struct condition){ "Ready", "False", "Terminating",
					    "There are still IPAddresses referencing the ServiceCIDR, please remove "
					    "them or create a new ServiceCIDR" };
		tell_condition(ctx, o, &ready);
		return 0;
	}
	add = false;
	if (meta_has_finalizer(o, STR(CIDR_FINALIZER)))
		reconcile_update(ctx, KIND_SERVICECIDR, STR_NULL, ctx->name, NULL, mutate_finalizer, &add, NULL);
	return 0;
}

static int start_cidr(struct runner *r, struct err *err)
{
	runner_enqueue(r, STR_NULL, default_name);
	return 0;
}

/* Those that wait for their last address to go. */
static void enqueue_deleting(void *arg, const struct object *o)
{
	if (o->deleting)
		runner_enqueue(arg, STR_NULL, o->name);
}

static void map_address(struct runner *r, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	if (type == REGISTRY_DELETED)
		registry_each(runner_registry(r), KIND_SERVICECIDR, STR_NULL, enqueue_deleting, r);
}

static const struct controller_watch cidr_watches[] = {
	{ &KIND_SERVICECIDR, runner_enqueue_self },
	{ &KIND_IPADDRESS, map_address },
};

const struct controller controller_service_cidr = {
	.name = "service-cidrs",
	.watches = cidr_watches,
	.n_watches = ARRAY_SIZE(cidr_watches),
	.start = start_cidr,
	.reconcile = reconcile_cidr,
};

/* ---- IPAddress ---- */

/* The addresses of a Service, of its state now and before. */
static void map_service(struct runner *r, enum registry_event_type type, const struct object *o,
			const struct object *prev)
{
	const struct object *sides[2] = { o, prev };

	for (int i = 0; i < 2; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;

		if (!sides[i])
			continue;
		json_foreach(ip, json_at(registry_parse(&arena, sides[i]), "spec.clusterIPs"))
			if (json_str(ip).n && !str_is(json_str(ip), "None"))
				runner_enqueue(r, STR_NULL, json_str(ip));
	}
}

static struct json *wanted_address(struct reconcile *ctx, struct str ns, struct str name)
{
	struct json *o = object_new(ctx->arena, KIND_IPADDRESS, STR_NULL, ctx->name), *ref;

	meta_set_label(ctx->arena, o, IP_FAMILY, str_find(ctx->name, ':') >= 0 ? STR("IPv6") : STR("IPv4"));
	meta_set_label(ctx->arena, o, MANAGED_BY, STR(ALLOCATOR));
	ref = json_ensure_object(ctx->arena, json_ensure_object(ctx->arena, o, "spec"), "parentRef");
	json_set_str(ctx->arena, ref, "name", name);
	json_set_str(ctx->arena, ref, "namespace", ns);
	json_set_cstr(ctx->arena, ref, "resource", "services");
	return o;
}

static int reconcile_address(struct reconcile *ctx, struct err *err)
{
	const struct object *have = registry_get(ctx->reg, KIND_IPADDRESS, STR_NULL, ctx->name);
	struct str ns, name;
	bool held = addresses_holder(ctx->reg, ctx->name, &ns, &name);
	struct json *o;

	if (!have) {
		if (held)
			reconcile_create(ctx, KIND_IPADDRESS, wanted_address(ctx, ns, name), NULL);
		return 0;
	}
	o = registry_parse(ctx->arena, have);
	if (have->deleting || !str_is(meta_label(o, MANAGED_BY), ALLOCATOR))
		return 0;
	/* What it refers to cannot change: another holder gets another object. */
	if (!held ||
	    !json_equal(json_at(o, "spec.parentRef"), json_at(wanted_address(ctx, ns, name), "spec.parentRef"))) {
		reconcile_delete(ctx, have, KIND_IPADDRESS, &(struct registry_delete_options){ .grace_period_s = -1 },
				 NULL);
		if (held)
			reconcile_again(ctx);
	}
	return 0;
}

static const struct controller_watch address_watches[] = {
	{ &KIND_SERVICE, map_service },
	{ &KIND_IPADDRESS, runner_enqueue_self },
};

const struct controller controller_ip_address = {
	.name = "ip-addresses",
	.watches = address_watches,
	.n_watches = ARRAY_SIZE(address_watches),
	.reconcile = reconcile_address,
};
