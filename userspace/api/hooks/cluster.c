/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, Nodes, Leases. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/api/quantity.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

/* ---- Namespace ---- */

static void namespace_defaults(struct arena *arena, struct json *object)
{
	struct str name = meta_name(object);

	/* Policies select namespaces by name through this label. */
	if (name.n)
		meta_set_label(arena, object, "kubernetes.io/metadata.name", name);
}

static void namespace_prepare_create(struct arena *arena, struct json *object)
{
	struct json *finalizers = json_ensure_array(arena, json_ensure_object(arena, object, "spec"), "finalizers");
	bool found = false;

	json_foreach(f, finalizers)
		found |= str_is(json_str(f), "kubernetes");
	if (!found)
		json_append(finalizers, json_new_cstr(arena, "kubernetes"));
	json_set_cstr(arena, json_ensure_object(arena, object, "status"), "phase", "Active");
}

/* Finalizers of the spec go by /finalize only. */
static void namespace_prepare_update(struct arena *arena, struct json *object, const struct json *old)
{
	const struct json *finalizers = json_at(old, "spec.finalizers");
	struct json *spec = json_ensure_object(arena, object, "spec");

	if (finalizers)
		json_set(spec, "finalizers", json_clone(arena, finalizers));
	else
		json_remove(spec, "finalizers");
}

static void namespace_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	struct str phase = json_at_str(object, "status.phase");

	if (!meta_deleting(object) && !str_is(phase, "Active"))
		field_invalid_str(e, FIELD(NULL, "status.Phase"), phase,
				  "may only be 'Active' if `deletionTimestamp` is empty");
	if (meta_deleting(object) && !str_is(phase, "Terminating"))
		field_invalid_str(e, FIELD(NULL, "status.Phase"), phase,
				  "may only be 'Terminating' if `deletionTimestamp` is not empty");
}

static void validate_finalizers(const struct json *list, bool indexed, struct field_errors *e)
{
	static const char *const standard[] = { "kubernetes", "foregroundDeletion", "orphan", NULL };
	size_t i = 0;

	json_foreach(f, list) {
		const struct field_path *path = FIELD(NULL, "spec.finalizers"),
					*at = indexed ? FIELD_INDEX(path, i) : path;

		i++;
		hooks_text_validate(json_str(f), validate_qualified_name, at, e);
		if (str_find(json_str(f), '/') < 0 && !hooks_one_of(json_str(f), standard))
			field_invalid(e, at, f, "name is neither a standard finalizer name nor is it fully qualified");
	}
}

static void namespace_validate(const struct json *object, struct field_errors *e)
{
	validate_finalizers(json_at(object, "spec.finalizers"), false, e);
}

static void namespace_validate_subresource(const char *subresource, const struct json *object, const struct json *old,
					   struct field_errors *e)
{
	(void)old;
	if (str_is(str_of(subresource), "finalize"))
		validate_finalizers(json_at(object, "spec.finalizers"), true, e);
}

const struct api_hooks hooks_namespaces = {
	.defaults = namespace_defaults,
	.prepare_create = namespace_prepare_create,
	.prepare_update = namespace_prepare_update,
	.validate = namespace_validate,
	.validate_status = namespace_validate_status,
	.validate_subresource = namespace_validate_subresource,
};

/* ---- Node ---- */

/* The path of a node's taints is upstream's. */
static void validate_taints(const struct json *taints, struct field_errors *e)
{
	static const char *const effects[] = { "NoSchedule", "PreferNoSchedule", "NoExecute", NULL };
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(t, taints) {
		_cleanup_buf_ struct buf both = BUF_INIT;
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "metadata.taints"), i++);
		struct str effect = json_get_str(t, "effect");

		hooks_text_validate(json_get_str(t, "key"), validate_qualified_name, FIELD(at, "key"), e);
		hooks_text_validate(json_get_str(t, "value"), validate_label_value, FIELD(at, "value"), e);
		if (!effect.n)
			field_required(e, FIELD(at, "effect"), NULL);
		else
			hooks_supported(effect, effects, FIELD(at, "effect"), e);
		buf_printf(&both, "%.*s:%.*s", STR_ARG(json_get_str(t, "key")), STR_ARG(effect));
		if (name_set_put(&seen, buf_str(&both), t) != t)
			field_duplicate(e, at, t);
	}
}

static void node_validate(const struct json *node, struct field_errors *e)
{
	const struct json *cidrs = json_at(node, "spec.podCIDRs"), *first = json_first(cidrs);
	const struct field_path *path = FIELD(NULL, "spec.podCIDRs");
	size_t i = 0;

	validate_taints(json_at(node, "spec.taints"), e);
	json_foreach(c, cidrs) {
		hooks_text_validate(json_str(c), validate_cidr, FIELD_INDEX(path, i), e);
		i++;
	}
	if (i > 2 || (i == 2 && (str_find(json_str(first), ':') >= 0) == (str_find(json_str(first->next), ':') >= 0)))
		field_invalid(e, path, cidrs, "may specify no more than one CIDR for each IP family");
}

static void node_validate_status(const struct json *node, const struct json *old, struct field_errors *e)
{
	static const char *const lists[] = { "capacity", "allocatable" };
	const struct json *addresses = json_at(node, "status.addresses");
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	(void)old;
	name_set_init(&seen);
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
		json_foreach(r, json_get(json_get(node, "status"), lists[l])) {
			const struct field_path *at =
				FIELD_STR(FIELD_STR(FIELD(NULL, "status"), str_of(lists[l])), r->key);
			struct quantity q = quantity_of(r);

			if (q.nano < 0)
				field_invalid_str(e, at, json_str(r), "must be greater than or equal to 0");
		}
	json_foreach(a, addresses) {
		if (name_set_put_value(&seen, a, a) != a)
			field_duplicate(e, FIELD_INDEX(FIELD(NULL, "status.addresses"), i), a);
		i++;
	}
}

static void node_validate_update(const struct json *node, const struct json *old, struct field_errors *e)
{
	struct str id = json_at_str(old, "spec.providerID");
	const struct json *cidrs = json_at(old, "spec.podCIDRs");

	if (id.n && !str_eq(id, json_at_str(node, "spec.providerID")))
		field_forbidden(e, FIELD(NULL, "spec.providerID"),
				"node updates may not change providerID except from \"\" "
				"to valid");
	if (json_count(cidrs) &&
	    !json_equal(cidrs, json_at(node, "spec.podCIDRs") ? json_at(node, "spec.podCIDRs") : old))
		field_forbidden(e, FIELD(NULL, "spec.podCIDRs"),
				"node updates may not change podCIDR except from \"\" to valid");
}

const struct api_hooks hooks_nodes = {
	.status_with_create = true,
	.validate = node_validate,
	.validate_update = node_validate_update,
	.validate_status = node_validate_status,
};

/* ---- Lease ---- */

static void lease_validate(const struct json *lease, struct field_errors *e)
{
	const struct json *spec = json_get(lease, "spec"), *strategy = json_get(spec, "strategy");
	const struct field_path *path = FIELD(NULL, "spec");

	if (strategy && !json_str(strategy).n)
		field_required(e, FIELD(path, "strategy"), NULL);
	if (json_get_str(spec, "preferredHolder").n && !json_get_str(spec, "strategy").n)
		field_forbidden(e, FIELD(path, "preferredHolder"), "may only be specified when `strategy` is defined");
}

const struct api_hooks hooks_leases = { .validate = lease_validate };
