/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds that behave, and what holds for all kinds: who owns the status, when the generation moves,
 * what only the server may write. No state. Any thread. */
#include "userspace/api/hooks.h"

#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/mem.h"

static const struct {
	const char *group, *plural;
	const struct api_hooks *hooks;
} kinds[] = {
	{ "", "pods", &hooks_pods },
	{ "", "podtemplates", &hooks_podtemplates },
	{ "", "replicationcontrollers", &hooks_replicationcontrollers },
	{ "", "services", &hooks_services },
	{ "", "endpoints", &hooks_endpoints },
	{ "", "configmaps", &hooks_configmaps },
	{ "", "secrets", &hooks_secrets },
	{ "", "namespaces", &hooks_namespaces },
	{ "", "nodes", &hooks_nodes },
	{ "", "events", &hooks_events },
	{ "", "persistentvolumes", &hooks_persistentvolumes },
	{ "", "persistentvolumeclaims", &hooks_persistentvolumeclaims },
	{ "", "resourcequotas", &hooks_resourcequotas },
	{ "", "limitranges", &hooks_limitranges },
	{ "apps", "deployments", &hooks_deployments },
	{ "apps", "replicasets", &hooks_replicasets },
	{ "apps", "daemonsets", &hooks_daemonsets },
	{ "apps", "statefulsets", &hooks_statefulsets },
	{ "apps", "controllerrevisions", &hooks_controllerrevisions },
	{ "batch", "jobs", &hooks_jobs },
	{ "batch", "cronjobs", &hooks_cronjobs },
	{ "discovery.k8s.io", "endpointslices", &hooks_endpointslices },
	{ "networking.k8s.io", "networkpolicies", &hooks_networkpolicies },
	{ "networking.k8s.io", "ingresses", &hooks_ingresses },
	{ "networking.k8s.io", "ipaddresses", &hooks_ipaddresses },
	{ "networking.k8s.io", "servicecidrs", &hooks_servicecidrs },
	{ "coordination.k8s.io", "leases", &hooks_leases },
	{ "networking.k8s.io", "ingressclasses", &hooks_ingressclasses },
	{ "policy", "poddisruptionbudgets", &hooks_poddisruptionbudgets },
	{ "node.k8s.io", "runtimeclasses", &hooks_runtimeclasses },
	{ "scheduling.k8s.io", "priorityclasses", &hooks_priorityclasses },
	{ "autoscaling", "horizontalpodautoscalers", &hooks_horizontalpodautoscalers },
	{ "rbac.authorization.k8s.io", "roles", &hooks_roles },
	{ "rbac.authorization.k8s.io", "clusterroles", &hooks_clusterroles },
	{ "rbac.authorization.k8s.io", "rolebindings", &hooks_rolebindings },
	{ "rbac.authorization.k8s.io", "clusterrolebindings", &hooks_rolebindings },
	{ "storage.k8s.io", "storageclasses", &hooks_storageclasses },
	{ "storage.k8s.io", "volumeattributesclasses", &hooks_volumeattributesclasses },
	{ "storage.k8s.io", "volumeattachments", &hooks_volumeattachments },
	{ "storage.k8s.io", "csidrivers", &hooks_csidrivers },
	{ "storage.k8s.io", "csinodes", &hooks_csinodes },
	{ "storage.k8s.io", "csistoragecapacities", &hooks_csistoragecapacities },
	{ "admissionregistration.k8s.io", "mutatingwebhookconfigurations", &hooks_webhooks },
	{ "admissionregistration.k8s.io", "validatingwebhookconfigurations", &hooks_webhooks },
	{ "admissionregistration.k8s.io", "validatingadmissionpolicies", &hooks_validatingadmissionpolicies },
	{ "admissionregistration.k8s.io", "validatingadmissionpolicybindings",
	  &hooks_validatingadmissionpolicybindings },
	{ "admissionregistration.k8s.io", "mutatingadmissionpolicies", &hooks_mutatingadmissionpolicies },
	{ "admissionregistration.k8s.io", "mutatingadmissionpolicybindings", &hooks_mutatingadmissionpolicybindings },
	{ "apiregistration.k8s.io", "apiservices", &hooks_apiservices },
	{ "flowcontrol.apiserver.k8s.io", "flowschemas", &hooks_flowschemas },
	{ "flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", &hooks_prioritylevelconfigurations },
	{ "resource.k8s.io", "deviceclasses", &hooks_deviceclasses },
	{ "resource.k8s.io", "resourceclaims", &hooks_resourceclaims },
	{ "resource.k8s.io", "resourceclaimtemplates", &hooks_resourceclaimtemplates },
	{ "resource.k8s.io", "resourceslices", &hooks_resourceslices },
	{ "certificates.k8s.io", "certificatesigningrequests", &hooks_certificatesigningrequests },
};

static const struct api_hooks nothing;

const struct api_hooks *api_hooks_for(struct str group, struct str plural)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_is(plural, kinds[i].plural) && str_is(group, kinds[i].group))
			return kinds[i].hooks;
	return NULL;
}

size_t api_hooks_count(void)
{
	return ARRAY_SIZE(kinds);
}

static const struct api_hooks *hooks_of(const struct api_kind *kind)
{
	const struct api_hooks *h = kind->hooks;

	if (!h)
		h = api_hooks_for(str_of(kind->group), str_of(kind->plural));
	return h ? h : &nothing;
}

bool hooks_has_status(const struct api_kind *kind)
{
	return api_kind_subresource(kind, STR("status")) != NULL;
}

void hooks_defaults(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->defaults)
		h->defaults(arena, object);
}

/* ---- prepare ---- */

void hooks_prepare_create(struct arena *arena, const struct api_kind *kind, struct json *object)
{
	const struct api_hooks *h = hooks_of(kind);
	struct json *meta = meta_ensure(arena, object);

	json_remove(meta, "deletionTimestamp");
	json_remove(meta, "deletionGracePeriodSeconds");
	json_remove(meta, "selfLink");
	json_remove(meta, "generation");
	if (h->generation)
		json_set_int(arena, meta, "generation", 1);
	if (hooks_has_status(kind) && !h->status_with_create)
		json_remove(object, "status");
	if (h->prepare_create)
		h->prepare_create(arena, object);
}

/* The member of `from` replaces the one of `to`, or goes when there is none. */
static void keep(struct arena *arena, struct json *to, const struct json *from, const char *key)
{
	const struct json *v = json_get(from, key);

	if (v)
		json_set(to, key, json_clone(arena, v));
	else
		json_remove(to, key);
}

/* What only the server sets. What a client says of the times is dropped; that it names another object, or marks one
 * as being deleted, is for the validation to refuse. */
static void keep_system_fields(struct arena *arena, struct json *meta, const struct json *old)
{
	keep(arena, meta, old, "creationTimestamp");
	keep(arena, meta, old, "generation");
	if (!json_get_str(meta, "uid").n)
		keep(arena, meta, old, "uid");
	if (json_get(old, "deletionTimestamp"))
		keep(arena, meta, old, "deletionTimestamp");
	if (!json_get(meta, "deletionGracePeriodSeconds"))
		keep(arena, meta, old, "deletionGracePeriodSeconds");
}

/* Anything besides metadata, status, apiVersion and kind. */
static bool spec_changed(const struct json *a, const struct json *b)
{
	const struct json *sides[2] = { a, b };

	for (int i = 0; i < 2; i++)
		json_foreach(m, sides[i]) {
			const struct json *other = json_get_n(sides[!i], m->key);

			if (str_is(m->key, "metadata") || str_is(m->key, "status") || str_is(m->key, "apiVersion") ||
			    str_is(m->key, "kind"))
				continue;
			if (!other || !json_equal(m, other))
				return true;
		}
	return false;
}

static bool annotations_changed(const struct json *a, const struct json *b)
{
	const struct json *x = json_get(meta_of(a), "annotations"), *y = json_get(meta_of(b), "annotations");

	if (!json_count(x) && !json_count(y))
		return false;
	return !x || !y || !json_equal(x, y);
}

void hooks_prepare_update(struct arena *arena, const struct api_kind *kind, struct json *object, const struct json *old)
{
	const struct api_hooks *h = hooks_of(kind);
	struct json *meta = meta_ensure(arena, object);

	keep_system_fields(arena, meta, meta_of(old));
	json_remove(meta, "selfLink");
	if (hooks_has_status(kind))
		keep(arena, object, old, "status");
	if (h->prepare_update)
		h->prepare_update(arena, object, old);
	if (h->generation &&
	    (spec_changed(object, old) || (h->generation_on_annotations && annotations_changed(object, old))))
		json_set_int(arena, meta, "generation", meta_next_generation(old));
}

void hooks_prepare_status(struct arena *arena, const struct api_kind *kind, struct json *object, const struct json *old)
{
	const struct api_hooks *h = hooks_of(kind);
	struct json *status = json_remove(object, "status"), *meta = json_remove(object, "metadata"), *fresh, *next;
	static const char *const own[] = { "managedFields", "resourceVersion", "uid" };

	for (struct json *m = json_first(object); m; m = next) {
		next = m->next;
		json_unlink(object, m);
	}
	json_foreach(m, old) {
		if (str_is(m->key, "status"))
			continue;
		json_set_n(object, m->key, json_clone(arena, m));
	}
	fresh = meta_ensure(arena, object);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		struct json *v = json_remove(meta, own[i]);

		if (v && !(json_is(v, JSON_STRING) && !v->text.n))
			json_set(fresh, own[i], v);
	}
	/* Where annotations count as a change of what is wished, controllers note things in them with the status. */
	if (h->generation_on_annotations) {
		struct json *annotations = json_remove(meta, "annotations");

		json_remove(fresh, "annotations");
		if (annotations)
			json_set(fresh, "annotations", annotations);
	}
	if (status)
		json_set(object, "status", status);
	if (h->prepare_status)
		h->prepare_status(arena, object, old);
}

/* ---- the rest ---- */

void hooks_validate_create(const struct api_kind *kind, const struct json *object, struct field_errors *e)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->validate)
		h->validate(object, e);
	if (h->validate_create)
		h->validate_create(object, e);
}

void hooks_validate_update(const struct api_kind *kind, const struct json *object, const struct json *old,
			   struct field_errors *e)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->validate)
		h->validate(object, e);
	if (h->validate_update)
		h->validate_update(object, old, e);
}

void hooks_validate_form(const struct api_kind *storage, const struct api_kind *form, const struct json *object,
			 const struct json *old, struct field_errors *e)
{
	const struct api_hooks *h = hooks_of(storage);

	if (h->validate_form && strcmp(form->group, storage->group) != 0)
		h->validate_form(object, old, e);
}

void hooks_validate_status(const struct api_kind *kind, const struct json *object, const struct json *old,
			   struct field_errors *e)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->validate_status)
		h->validate_status(object, old, e);
}

void hooks_prepare_subresource(struct arena *arena, const struct api_kind *kind, const char *subresource,
			       struct json *object, const struct json *old)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->prepare_subresource)
		h->prepare_subresource(arena, subresource, object, old);
}

void hooks_validate_subresource(const struct api_kind *kind, const char *subresource, const struct json *object,
				const struct json *old, struct field_errors *e)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->validate_subresource)
		h->validate_subresource(subresource, object, old, e);
}

void hooks_warnings(struct arena *arena, const struct api_kind *kind, const struct json *object, const struct json *old,
		    struct hooks_warnings *w)
{
	const struct api_hooks *h = hooks_of(kind);

	if (h->warnings)
		h->warnings(arena, object, old, w);
}

int64_t hooks_grace_period_s(const struct api_kind *kind, const struct json *object, int64_t requested)
{
	const struct api_hooks *h = hooks_of(kind);

	return h->grace_period_s ? h->grace_period_s(object, requested) : -1;
}

const char *hooks_default_propagation(const struct api_kind *kind)
{
	const struct api_hooks *h = hooks_of(kind);

	return h->default_propagation ? h->default_propagation : "Background";
}
