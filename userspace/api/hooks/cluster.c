/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, Nodes, Events. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/clock.h"

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

const struct api_hooks hooks_namespaces = {
	.defaults = namespace_defaults,
	.prepare_create = namespace_prepare_create,
	.prepare_update = namespace_prepare_update,
	.validate_status = namespace_validate_status,
};

/* ---- Node ---- */

static void node_validate(const struct json *node, struct field_errors *e)
{
	const struct json *taints = json_at(node, "spec.taints");
	size_t i = 0;

	json_foreach(t, taints) {
		const struct field_path *at = FIELD_INDEX(FIELD(NULL, "spec.taints"), i++);
		const char *why = validate_label_value(json_get_str(t, "value"));

		if (why)
			field_invalid_str(e, FIELD(at, "value"), json_get_str(t, "value"), "%s", why);
		json_foreach(u, taints) {
			if (u == t)
				break;
			if (str_eq(json_get_str(u, "key"), json_get_str(t, "key")) &&
			    str_eq(json_get_str(u, "effect"), json_get_str(t, "effect"))) {
				field_duplicate(e, at, t);
				break;
			}
		}
	}
	i = 0;
	json_foreach(c, json_at(node, "spec.podCIDRs")) {
		if (validate_cidr(json_str(c)))
			field_invalid_str(e, FIELD_INDEX(FIELD(NULL, "spec.podCIDRs"), i), json_str(c), "%s",
					  validate_cidr(json_str(c)));
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
};

/* ---- Event ---- */

static void event_validate(const struct json *event, struct field_errors *e)
{
	struct str ns = meta_namespace(event), about = json_at_str(event, "involvedObject.namespace");

	/* Events about cluster objects live in "default". */
	if (!about.n ? !str_is(ns, "default") && ns.n : !str_eq(ns, about))
		field_invalid_str(e, FIELD(NULL, "involvedObject.namespace"), about, "does not match event.namespace");
}

const struct api_hooks hooks_events = { .validate = event_validate };
