/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of each kind that has some; listed in hooks.c. And what their files share. */
#pragma once

#include "userspace/api/hooks.h"
#include "userspace/api/name_set.h"
#include "userspace/base/json.h"

extern const struct api_hooks hooks_flowschemas, hooks_prioritylevelconfigurations, hooks_pods, hooks_podtemplates,
	hooks_replicationcontrollers, hooks_services, hooks_endpoints, hooks_configmaps, hooks_secrets,
	hooks_namespaces, hooks_nodes, hooks_events, hooks_persistentvolumes, hooks_persistentvolumeclaims,
	hooks_resourcequotas, hooks_limitranges, hooks_deployments, hooks_replicasets, hooks_daemonsets,
	hooks_statefulsets, hooks_controllerrevisions, hooks_jobs, hooks_cronjobs, hooks_endpointslices,
	hooks_networkpolicies, hooks_ingresses, hooks_poddisruptionbudgets, hooks_priorityclasses,
	hooks_horizontalpodautoscalers, hooks_roles, hooks_clusterroles, hooks_rolebindings, hooks_storageclasses,
	hooks_webhooks, hooks_certificatesigningrequests, hooks_apiservices, hooks_deviceclasses, hooks_resourceclaims,
	hooks_resourceclaimtemplates, hooks_resourceslices, hooks_volumeattributesclasses, hooks_volumeattachments,
	hooks_csidrivers, hooks_csinodes, hooks_csistoragecapacities;
extern const struct api_hooks hooks_validatingadmissionpolicies, hooks_validatingadmissionpolicybindings,
	hooks_mutatingadmissionpolicies, hooks_mutatingadmissionpolicybindings;
extern const struct api_hooks hooks_runtimeclasses, hooks_ingressclasses, hooks_ipaddresses, hooks_servicecidrs,
	hooks_leases;

/* Puts `v` (text of JSON) where nothing is: a default. */
static inline void hooks_default_str(struct arena *arena, struct json *object, const char *key, const char *v)
{
	if (!json_get(object, key))
		json_set_cstr(arena, object, key, v);
}

static inline void hooks_default_int(struct arena *arena, struct json *object, const char *key, int64_t v)
{
	if (!json_get(object, key))
		json_set_int(arena, object, key, v);
}

static inline void hooks_default_bool(struct arena *arena, struct json *object, const char *key, bool v)
{
	if (!json_get(object, key))
		json_set_bool(arena, object, key, v);
}

/* Members of `from` that `to` has not are copied to its end. */
void hooks_default_members(struct arena *arena, struct json *to, const struct json *from);

/* A warning, dropped past the limit. */
static inline void hooks_warn(struct hooks_warnings *w, const char *text)
{
	if (w->n < HOOKS_WARNINGS_MAX)
		w->items[w->n++] = text;
}

/* ---- common.c: small checks ---- */

/* `rule` is one of validate.h's: NULL, or what follows "Invalid value: ...: ". */
void hooks_text_validate(struct str s, const char *(*rule)(struct str s), const struct field_path *path,
			 struct field_errors *e);
void hooks_require(const struct json *object, const char *key, const struct field_path *path, struct field_errors *e);
void hooks_nonnegative(const struct json *object, const char *key, const struct field_path *path,
		       struct field_errors *e);
/* Of files within something: no "..", not absolute, not beginning with "..". Each says more than the one before. */
void hooks_no_backsteps(struct str s, const struct field_path *path, struct field_errors *e);
void hooks_relative_path(struct str s, const struct field_path *path, struct field_errors *e);
void hooks_local_path(struct str s, const struct field_path *path, struct field_errors *e);
/* A port that is a number or a name of an IANA service. */
void hooks_port_validate(const struct json *port, const struct field_path *path, struct field_errors *e);
/* Of an address: nothing that only its own host could reach. */
void hooks_endpoint_ip_validate(struct str s, const struct field_path *path, struct field_errors *e);
bool hooks_one_of(struct str s, const char *const *values); /* NULL-terminated */
void hooks_supported(struct str s, const char *const *values, const struct field_path *path, struct field_errors *e);
const struct json *hooks_named(const struct json *list, struct str name); /* by its "name"; NULL */
size_t hooks_count_members(const struct json *object, const char *const *names);
/* Absent and null are the same. */
bool hooks_same(const struct json *a, const struct json *b);
bool hooks_same_but(const struct json *a, const struct json *b, const char *const *free_fields);

/* ---- pod_*.c: pods and templates of pods ---- */

/* Computed defaults that templates get too; `spec` may be NULL. */
void hooks_pod_spec_defaults(struct arena *arena, struct json *spec);
/* `pod_meta`: of a pod; NULL: of a template, which may leave some things to the pod. */
void hooks_pod_spec_validate(const struct json *spec, const struct json *pod_meta, const struct field_path *path,
			     struct field_errors *e);
void hooks_pod_template_validate(const struct json *template, const struct field_path *path, struct field_errors *e);
void hooks_pod_annotations_validate(const struct json *annotations, const struct json *spec,
				    const struct field_path *path, struct field_errors *e);
void hooks_containers_validate(const struct json *spec, bool is_pod, const struct field_path *path,
			       struct field_errors *e);
void hooks_env_validate(const struct json *container, const struct field_path *path, struct field_errors *e);
/* True: a plain path that a pod knows; else its finding is made. */
bool hooks_field_ref_validate(struct str s, const struct field_path *at, struct field_errors *e);
void hooks_resource_ref_validate(const struct json *ref, bool volume, const struct field_path *at,
				 struct field_errors *e);
void hooks_probes_validate(const struct json *container, const struct json *spec, const struct field_path *path,
			   struct field_errors *e);
void hooks_container_context_validate(const struct json *sc, bool host_users, const struct field_path *at,
				      struct field_errors *e);
void hooks_pod_context_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);
void hooks_pod_os_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);
/* A resource as containers or (false) as anybody may name it. */
void hooks_resource_name_validate(struct str name, bool containers, const struct field_path *at,
				  struct field_errors *e);
bool hooks_resource_is_integer(struct str name); /* it has no halves */
bool hooks_resource_is_exact(struct str name);   /* nobody can be given more of it than there is */
/* {name: quantity}: names, signs. */
void hooks_resource_list_validate(const struct json *list, bool containers, const struct field_path *path,
				  struct field_errors *e);
/* `pod_claims`: the names of the pod's resourceClaims; NULL: there are none. */
void hooks_requirements_validate(const struct json *resources, const struct name_set *pod_claims,
				 const struct field_path *path, struct field_errors *e);
void hooks_resize_policy_validate(const struct json *policies, struct str pod_restart, const struct field_path *path,
				  struct field_errors *e);
void hooks_pod_resources_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);
void hooks_volumes_validate(const struct json *spec, const struct json *pod_meta, const struct field_path *path,
			    struct field_errors *e);
/* `spec` of a PersistentVolume, whose members its sources are. How many there are. */
size_t hooks_persistent_sources_validate(const struct json *spec, const struct field_path *path,
					 struct field_errors *e);
void hooks_csi_driver_validate(struct str driver, const struct field_path *path, struct field_errors *e);
void hooks_node_selector_validate(const struct json *selector, const struct field_path *path, struct field_errors *e);
void hooks_affinity_validate(const struct json *affinity, const struct field_path *path, struct field_errors *e);
void hooks_spread_validate(const struct json *constraints, const struct field_path *path, struct field_errors *e);
void hooks_tolerations_validate(const struct json *tolerations, const struct field_path *path, struct field_errors *e);
/* An update of a pod, by what it was asked through. */
void hooks_pod_update_validate(const struct json *pod, const struct json *old, struct field_errors *e);
void hooks_pod_subresource_validate(const char *subresource, const struct json *pod, const struct json *old,
				    struct field_errors *e);

/* ---- service.c ---- */

/* Of a LoadBalancer or an Ingress, which has no modes. */
void hooks_balancer_status_validate(const struct json *status, bool modes, const struct field_path *path,
				    struct field_errors *e);

/* ---- job_policies.c ---- */

void hooks_job_policies_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);

/* ---- storage.c ---- */

void hooks_claim_spec_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);

/* ---- pod_warnings.c: for pods, and for kinds that hold a template of pods ---- */

void hooks_pod_warnings(struct arena *arena, const struct json *object, const struct json *old,
			struct hooks_warnings *w);
void hooks_template_warnings(struct arena *arena, const struct json *object, const struct json *old,
			     struct hooks_warnings *w);
