/* SPDX-License-Identifier: Apache-2.0 */
/* NodeRestriction, the part about pods: a node creates mirror pods of its own that refer to nothing, writes the status
 * of, deletes and evicts pods that are bound to it. */
#include "userspace/base/mem.h"
#include "userspace/registry/admission/node_restriction.h"

#define MIRROR_ANNOTATION "kubernetes.io/config.mirror"

static const char *operation(const struct write *w)
{
	return w->op == WRITE_CREATE ? "CREATE" : w->op == WRITE_UPDATE ? "UPDATE" : "DELETE";
}

static int check_owner(struct write *w, struct str node, struct err *err)
{
	const struct json *owners = json_get(meta_of(w->object), "ownerReferences"), *owner = json_first(owners);
	const struct object *self;

	if (json_count(owners) > 1)
		return admission_forbidden(
			w, err, "node \"%.*s\" can only create pods with a single owner reference set to itself",
			STR_ARG(node));
	if (!owner || !str_is(json_get_str(owner, "apiVersion"), "v1") ||
	    !str_is(json_get_str(owner, "kind"), "Node") || !str_eq(json_get_str(owner, "name"), node))
		return admission_forbidden(w, err,
					   "node \"%.*s\" can only create pods with an owner reference set to itself",
					   STR_ARG(node));
	if (!json_get_bool(owner, "controller", false))
		return admission_forbidden(
			w, err, "node \"%.*s\" can only create pods with a controller owner reference set to itself",
			STR_ARG(node));
	if (json_get_bool(owner, "blockOwnerDeletion", false))
		return admission_forbidden(
			w, err, "node \"%.*s\" must not set blockOwnerDeletion on an owner reference", STR_ARG(node));
	self = store_newest(w->reg->store, KIND_NODE->resource, STR_NULL, node);
	if (!self)
		return api_err_not_found(err, KIND_NODE, node);
	if (!str_eq(json_get_str(owner, "uid"), self->uid))
		return admission_forbidden(w, err, "node %.*s UID mismatch: expected %.*s got %.*s", STR_ARG(node),
					   STR_ARG(json_get_str(owner, "uid")), STR_ARG(self->uid));
	return 0;
}

/* ---- what a pod refers to ---- */

struct references {
	bool secrets, config_maps, trust_bundles, claims;
};

static void look_at_source(const struct json *source, struct references *refs)
{
	refs->secrets = refs->secrets || json_get(source, "secret");
	refs->config_maps = refs->config_maps || json_get(source, "configMap");
	refs->trust_bundles = refs->trust_bundles || json_get(source, "clusterTrustBundle");
}

static void look_at_volume(const struct json *volume, struct references *refs)
{
	static const char *const with_secret[] = { "cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos" };

	look_at_source(volume, refs);
	refs->claims = refs->claims || json_get(volume, "persistentVolumeClaim");
	json_foreach(source, json_at(volume, "projected.sources"))
		look_at_source(source, refs);
	for (size_t i = 0; i < ARRAY_SIZE(with_secret); i++)
		refs->secrets = refs->secrets || json_get(json_get(volume, with_secret[i]), "secretRef");
	refs->secrets =
		refs->secrets || json_at(volume, "azureFile.secretName") || json_at(volume, "csi.nodePublishSecretRef");
}

static void look_at_containers(const struct json *containers, struct references *refs)
{
	json_foreach(c, containers) {
		json_foreach(from, json_get(c, "envFrom")) {
			refs->secrets = refs->secrets || json_get(from, "secretRef");
			refs->config_maps = refs->config_maps || json_get(from, "configMapRef");
		}
		json_foreach(env, json_get(c, "env")) {
			refs->secrets = refs->secrets || json_at(env, "valueFrom.secretKeyRef");
			refs->config_maps = refs->config_maps || json_at(env, "valueFrom.configMapKeyRef");
		}
	}
}

static int check_references(struct write *w, struct str node, struct err *err)
{
	const struct json *spec = json_get(w->object, "spec");
	struct references refs = { .secrets = json_count(json_get(spec, "imagePullSecrets")) > 0 };
	const char *what;

	json_foreach(volume, json_get(spec, "volumes"))
		look_at_volume(volume, &refs);
	look_at_containers(json_get(spec, "initContainers"), &refs);
	look_at_containers(json_get(spec, "containers"), &refs);
	look_at_containers(json_get(spec, "ephemeralContainers"), &refs);
	what = json_get_str(spec, "serviceAccountName").n ? "a service account"
	       : refs.secrets                             ? "secrets"
	       : refs.config_maps                         ? "configmaps"
	       : refs.trust_bundles                       ? "clustertrustbundles"
	       : refs.claims                              ? "persistentvolumeclaims"
							  : NULL;
	if (what)
		return admission_forbidden(w, err, "node \"%.*s\" can not create pods that reference %s", STR_ARG(node),
					   what);
	return 0;
}

static int check_create(struct write *w, struct str node, struct err *err)
{
	int r;

	if (!meta_has_annotation(w->object, MIRROR_ANNOTATION))
		return admission_forbidden(w, err,
					   "pod does not have \"" MIRROR_ANNOTATION
					   "\" annotation, node \"%.*s\" can only create mirror pods",
					   STR_ARG(node));
	if (!str_eq(json_at_str(w->object, "spec.nodeName"), node))
		return admission_forbidden(
			w, err, "node \"%.*s\" can only create pods with spec.nodeName set to itself", STR_ARG(node));
	r = check_owner(w, node, err);
	return r < 0 ? r : check_references(w, node, err);
}

/* ---- what happens to a pod ---- */

static bool is_bound_to(const struct json *pod, struct str node)
{
	return str_eq(json_at_str(pod, "spec.nodeName"), node);
}

static bool same_lists(const struct json *a, const struct json *b)
{
	if (!json_count(a) && !json_count(b))
		return true;
	return a && b && json_equal(a, b);
}

static int check_status(struct write *w, struct str node, struct err *err)
{
	if (w->op != WRITE_UPDATE)
		return admission_forbidden(w, err, "unexpected operation \"%s\"", operation(w));
	if (!is_bound_to(w->old, node))
		return admission_forbidden(
			w, err, "node \"%.*s\" can only update pod status for pods with spec.nodeName set to itself",
			STR_ARG(node));
	if (!same_lists(json_at(w->old, "metadata.labels"), json_at(w->object, "metadata.labels")))
		return admission_forbidden(w, err, "node \"%.*s\" cannot update labels through pod status",
					   STR_ARG(node));
	if (!same_lists(json_at(w->old, "status.resourceClaimStatuses"),
			json_at(w->object, "status.resourceClaimStatuses")))
		return admission_forbidden(w, err, "node \"%.*s\" cannot update resource claim statues", STR_ARG(node));
	return 0;
}

static int check_eviction(struct write *w, struct str node, struct err *err)
{
	const struct object *pod = store_newest(w->reg->store, KIND_POD->resource, w->ns, w->name);

	if (!pod)
		return api_err_not_found(err, KIND_POD, w->name);
	if (!is_bound_to(registry_parse(&w->arena, pod), node))
		return admission_forbidden(w, err, "node %.*s can only evict pods with spec.nodeName set to itself",
					   STR_ARG(node));
	return 0;
}

int node_restriction_pod(struct write *w, struct str node, struct err *err)
{
	if (w->subresource && strcmp(w->subresource, "status") == 0)
		return check_status(w, node, err);
	if (w->subresource && strcmp(w->subresource, "eviction") == 0)
		return check_eviction(w, node, err);
	if (w->subresource)
		return admission_forbidden(
			w, err, "unexpected pod subresource \"%s\", only 'status' and 'eviction' are allowed",
			w->subresource);
	if (w->op == WRITE_CREATE)
		return check_create(w, node, err);
	if (w->op != WRITE_DELETE)
		return admission_forbidden(
			w, err, "unexpected operation \"%s\", node \"%.*s\" can only create and delete mirror pods",
			operation(w), STR_ARG(node));
	if (!is_bound_to(w->old, node))
		return admission_forbidden(
			w, err, "node \"%.*s\" can only delete pods with spec.nodeName set to itself", STR_ARG(node));
	return 0;
}
