/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of each kind that has some; listed in hooks.c. And what their files share. */
#pragma once

#include "userspace/api/hooks.h"
#include "userspace/base/json.h"

extern const struct api_hooks hooks_flowschemas, hooks_prioritylevelconfigurations, hooks_pods, hooks_podtemplates, hooks_replicationcontrollers, hooks_services,
	hooks_endpoints, hooks_configmaps, hooks_secrets, hooks_namespaces, hooks_nodes, hooks_events,
	hooks_persistentvolumes, hooks_persistentvolumeclaims, hooks_resourcequotas, hooks_limitranges,
	hooks_deployments, hooks_replicasets, hooks_daemonsets, hooks_statefulsets, hooks_controllerrevisions,
	hooks_jobs, hooks_cronjobs, hooks_endpointslices, hooks_networkpolicies, hooks_ingresses, hooks_generation_only,
	hooks_poddisruptionbudgets, hooks_priorityclasses, hooks_horizontalpodautoscalers, hooks_roles,
	hooks_clusterroles, hooks_rolebindings, hooks_storageclasses, hooks_webhooks, hooks_certificatesigningrequests,
	hooks_apiservices, hooks_deviceclasses, hooks_resourceclaims, hooks_resourceclaimtemplates,
	hooks_resourceslices;

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

/* A warning, dropped past the limit. */
static inline void hooks_warn(struct hooks_warnings *w, const char *text)
{
	if (w->n < HOOKS_WARNINGS_MAX)
		w->items[w->n++] = text;
}

/* ---- pod_spec.c, pod_container.c: pods and templates of pods ---- */

/* Computed defaults that templates get too; `spec` may be NULL. */
void hooks_pod_spec_defaults(struct arena *arena, struct json *spec);
void hooks_pod_spec_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);
/* All containers of a pod spec. */
void hooks_containers_validate(const struct json *spec, const struct field_path *path, struct field_errors *e);
/* A port that is a number or a name of an IANA service. */
void hooks_port_validate(const struct json *port, const struct field_path *path, struct field_errors *e);
/* {name: quantity}: names, signs. */
void hooks_resource_list_validate(const struct json *list, bool containers, const struct field_path *path,
				  struct field_errors *e);

/* ---- pod_warnings.c: for pods, and for kinds that hold a template of pods ---- */

void hooks_pod_warnings(struct arena *arena, const struct json *object, const struct json *old,
			struct hooks_warnings *w);
void hooks_template_warnings(struct arena *arena, const struct json *object, const struct json *old,
			     struct hooks_warnings *w);
