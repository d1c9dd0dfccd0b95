/* SPDX-License-Identifier: Apache-2.0 */
/* NodeRestriction: users system:node:NAME of the group system:nodes write only what is theirs: their Node (without
 * taints and foreign labels), pods bound to them, their Lease, CSINode and ResourceSlices, tokens of service accounts
 * for their pods, certificate requests in their own name. Pods are in node_restriction_pod.c. For everybody else this
 * costs one comparison. */
#include "userspace/registry/admission/node_restriction.h"

#include <stdlib.h>
#include <string.h>

#include "userspace/api/csr.h"
#include "userspace/base/mem.h"
#include "userspace/registry/authz.h"

#define USER_PREFIX "system:node:"
#define FORBIDDEN_LABELS_MAX 32 /* named in a refusal */
#define LEASE_NAMESPACE "kube-node-lease"

/* Of an object of a collection that goes, plugins are not told the name. */
static struct str asked_name(const struct write *w)
{
	if (w->of_collection)
		return STR("");
	return w->op == WRITE_CREATE ? meta_name(w->object) : w->name;
}

/* ---- nodes ---- */

static bool namespace_is(struct str ns, const char *what)
{
	size_t n = strlen(what);

	return str_is(ns, what) || (ns.n > n && ns.p[ns.n - n - 1] == '.' && str_ends(ns, str_of(what)));
}

/* Those a kubelet may set on itself. */
static bool is_kubelet_label(struct str key, struct str ns)
{
	static const char *const known[] = {
		"kubernetes.io/hostname",
		"topology.kubernetes.io/zone",
		"topology.kubernetes.io/region",
		"failure-domain.beta.kubernetes.io/zone",
		"failure-domain.beta.kubernetes.io/region",
		"node.kubernetes.io/instance-type",
		"beta.kubernetes.io/instance-type",
		"kubernetes.io/os",
		"kubernetes.io/arch",
		"beta.kubernetes.io/os",
		"beta.kubernetes.io/arch",
		"node.kubernetes.io/windows-build",
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_is(key, known[i]))
			return true;
	return namespace_is(ns, "kubelet.kubernetes.io") || namespace_is(ns, "node.kubernetes.io");
}

static bool is_forbidden_label(struct str key)
{
	struct str rest = key, ns;

	str_split(&rest, '/', &ns);
	if (!rest.p)
		return false;
	if (namespace_is(ns, "node-restriction.kubernetes.io"))
		return true;
	return (namespace_is(ns, "kubernetes.io") || namespace_is(ns, "k8s.io")) && !is_kubelet_label(key, ns);
}

static int by_name(const void *a, const void *b)
{
	const struct str *x = a, *y = b;
	int r = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

	return r ? r : (x->n > y->n) - (x->n < y->n);
}

struct labels {
	struct str items[FORBIDDEN_LABELS_MAX];
	size_t n;
};

static void find_changed(const struct json *a, const struct json *b, bool only_absent, struct labels *found)
{
	json_foreach(l, a) {
		const struct json *other = json_get_n(b, l->key);

		if ((other && (only_absent || json_equal(l, other))) || !is_forbidden_label(l->key))
			continue;
		if (found->n < FORBIDDEN_LABELS_MAX)
			found->items[found->n++] = l->key;
	}
}

/* The names of forbidden labels that differ, with ", "; NULL: none. */
static const char *forbidden_labels(struct write *w)
{
	const struct json *now = json_at(w->object, "metadata.labels"), *before = json_at(w->old, "metadata.labels");
	struct labels found = { .n = 0 };
	const char *text = NULL;

	find_changed(now, before, false, &found);
	find_changed(before, now, true, &found);
	qsort(found.items, found.n, sizeof(found.items[0]), by_name);
	for (size_t i = 0; i < found.n; i++)
		text = arena_printf(&w->arena, "%s%s%.*s", text ? text : "", text ? ", " : "", STR_ARG(found.items[i]));
	return text;
}

static bool same(const struct json *a, const struct json *b)
{
	if (!json_count(a) && !json_count(b) && !json_is(a, JSON_STRING) && !json_is(b, JSON_STRING))
		return true;
	return a && b && json_equal(a, b);
}

static int check_node(struct write *w, struct str node, struct err *err)
{
	struct str name = asked_name(w);
	const char *labels;

	if (!str_eq(name, node))
		return admission_forbidden(w, err, "node \"%.*s\" is not allowed to modify node \"%.*s\"",
					   STR_ARG(node), STR_ARG(name));
	if (w->op == WRITE_DELETE)
		return 0;
	if (w->op == WRITE_CREATE) {
		if (json_at(w->object, "spec.configSource"))
			return admission_forbidden(
				w, err, "node \"%.*s\" is not allowed to create pods with a non-nil configSource",
				STR_ARG(node));
		labels = forbidden_labels(w);
		if (labels)
			return admission_forbidden(w, err,
						   "node \"%.*s\" is not allowed to set the following labels: %s",
						   STR_ARG(node), labels);
		return 0;
	}
	if (json_at(w->object, "spec.configSource") &&
	    !same(json_at(w->object, "spec.configSource"), json_at(w->old, "spec.configSource")))
		return admission_forbidden(
			w, err, "node \"%.*s\" is not allowed to update configSource to a new non-nil configSource",
			STR_ARG(node));
	if (!same(json_at(w->object, "spec.taints"), json_at(w->old, "spec.taints")))
		return admission_forbidden(w, err, "node \"%.*s\" is not allowed to modify taints", STR_ARG(node));
	labels = forbidden_labels(w);
	if (labels)
		return admission_forbidden(w, err, "is not allowed to modify labels: %s", labels);
	return 0;
}

/* ---- persistentvolumeclaims ---- */

static int check_claim(struct write *w, struct str node, struct err *err)
{
	static const char *const free_parts[] = { "capacity", "conditions", "allocatedResourceStatuses",
						  "allocatedResources" };
	struct json *sides[2];

	if (!w->subresource || strcmp(w->subresource, "status") != 0)
		return admission_forbidden(w, err, "may only update PVC status");
	sides[0] = json_clone(&w->arena, w->old);
	sides[1] = json_clone(&w->arena, w->object);
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		struct json *status = json_ensure_object(&w->arena, sides[i], "status");

		json_remove(meta_ensure(&w->arena, sides[i]), "resourceVersion");
		json_remove(meta_ensure(&w->arena, sides[i]), "managedFields");
		for (size_t k = 0; k < ARRAY_SIZE(free_parts); k++)
			json_remove(status, free_parts[k]);
	}
	if (json_equal(sides[0], sides[1]))
		return 0;
	return admission_forbidden(
		w, err,
		"node \"%.*s\" is not allowed to update fields other than status.capacity and status.conditions",
		STR_ARG(node));
}

/* ---- serviceaccounts/token ---- */

static bool pod_uses_audience(const struct json *pod, struct str audience)
{
	json_foreach(volume, json_at(pod, "spec.volumes"))
		json_foreach(source, json_at(volume, "projected.sources")) {
			const struct json *token = json_get(source, "serviceAccountToken");

			if (token && str_eq(json_get_str(token, "audience"), audience))
				return true;
		}
	return false;
}

static bool may_ask_audience(struct write *w, struct str audience)
{
	const struct authz_attributes a = {
		.user = w->user,
		.verb = STR("request-serviceaccounts-token-audience"),
		.resource = audience,
		.ns = w->ns,
		.name = w->name,
	};

	return authz_decide(w->reg, &a, &w->arena, NULL) == AUTHZ_ALLOW;
}

static int check_audience(struct write *w, const struct json *pod, struct err *err)
{
	const struct json *audiences = json_at(w->object, "spec.audiences");
	struct str audience = json_str(json_first(audiences));

	if (json_count(audiences) > 1)
		return admission_forbidden(w, err, "node may only request 0 or 1 audiences");
	if (pod_uses_audience(pod, audience) || (audience.n && may_ask_audience(w, audience)))
		return 0;
	return admission_forbidden(w, err, "audience \"%.*s\" not found in pod spec volume", STR_ARG(audience));
}

static int check_token(struct write *w, struct str node, struct err *err)
{
	const struct json *ref = json_at(w->object, "spec.boundObjectRef");
	struct str uid = json_get_str(ref, "uid"), name = json_get_str(ref, "name");
	const struct object *o;
	struct json *pod;

	if (w->op != WRITE_CREATE || !w->subresource || strcmp(w->subresource, "token") != 0)
		return 0;
	if (!ref || !str_is(json_get_str(ref, "apiVersion"), "v1") || !str_is(json_get_str(ref, "kind"), "Pod") ||
	    !name.n)
		return admission_forbidden(w, err, "node requested token not bound to a pod");
	if (!uid.n)
		return admission_forbidden(w, err, "node requested token with a pod binding without a uid");
	o = store_newest(w->reg->store, KIND_POD->resource, w->ns, name);
	if (!o)
		return api_err_not_found(err, KIND_POD, name);
	if (!str_eq(uid, o->uid))
		return admission_forbidden(
			w, err,
			"the UID in the bound object reference (%.*s) does not match the UID in record. The object "
			"might have been deleted and then recreated",
			STR_ARG(uid));
	pod = registry_parse(&w->arena, o);
	if (!str_eq(json_at_str(pod, "spec.nodeName"), node))
		return admission_forbidden(w, err, "node requested token bound to a pod scheduled on a different node");
	return check_audience(w, pod, err);
}

/* ---- leases, CSINodes, certificate requests ---- */

static int check_lease(struct write *w, struct str node, struct err *err)
{
	struct str name = asked_name(w);

	if (!str_is(w->ns, LEASE_NAMESPACE))
		return admission_forbidden(w, err,
					   "can only access leases in the \"" LEASE_NAMESPACE "\" system namespace");
	if (!str_eq(name, node))
		return admission_forbidden(w, err,
					   "can only access node lease with the same name as the requesting node");
	return 0;
}

static int check_csi_node(struct write *w, struct str node, struct err *err)
{
	struct str name = asked_name(w);

	if (!str_eq(name, node))
		return admission_forbidden(w, err, "can only access CSINode with the same name as the requesting node");
	return 0;
}

/* Which slices may be changed is authorized by what they were; here it is about what there was nothing of, and about
 * each object of a collection. */
static int check_slice(struct write *w, struct str node, struct err *err)
{
	const struct json *slice = w->op == WRITE_CREATE ? w->object : w->old;

	if (w->op == WRITE_UPDATE || str_eq(json_at_str(slice, "spec.nodeName"), node))
		return 0;
	return admission_forbidden(w, err, "can only %s ResourceSlice with the same NodeName as the requesting node",
				   w->op == WRITE_CREATE ? "create" : "delete");
}

static int check_request(struct write *w, struct str node, struct err *err)
{
	struct str signer = json_at_str(w->object, "spec.signerName");
	_cleanup_err_ struct err why = ERR_INIT;
	struct csr csr;

	if (w->op != WRITE_CREATE ||
	    (!str_is(signer, CSR_SIGNER_KUBELET_SERVING) && !str_is(signer, CSR_SIGNER_KUBELET_CLIENT)))
		return 0;
	if (csr_parse_object(&w->arena, w->object, &csr, &why) < 0)
		return admission_forbidden(w, err, "unable to parse csr: %s", err_message(&why));
	if (!str_eq(csr.cn, w->user->name))
		return admission_forbidden(w, err, "can only create a node CSR with CN=system:node:%.*s",
					   STR_ARG(node));
	return 0;
}

/* ---- the plugin ---- */

static bool is_node(const struct request_user *user)
{
	if (!user || !str_starts(user->name, STR(USER_PREFIX)))
		return false;
	for (size_t i = 0; i < user->n_groups; i++)
		if (str_is(user->groups[i], "system:nodes"))
			return true;
	return false;
}

static int mutate(struct write *w, struct err *err)
{
	struct str node;

	if (!is_node(w->user))
		return 0;
	node = str_make(w->user->name.p + strlen(USER_PREFIX), w->user->name.n - strlen(USER_PREFIX));
	if (!node.n)
		return admission_forbidden(w, err, "could not determine node from user \"%.*s\"",
					   STR_ARG(w->user->name));
	if (w->storage == KIND_POD)
		return node_restriction_pod(w, node, err);
	if (w->storage == KIND_NODE)
		return check_node(w, node, err);
	if (w->storage == KIND_PERSISTENTVOLUMECLAIM)
		return check_claim(w, node, err);
	if (w->storage == KIND_SERVICEACCOUNT)
		return check_token(w, node, err);
	if (w->storage == KIND_LEASE)
		return check_lease(w, node, err);
	if (w->storage == KIND_CSINODE)
		return check_csi_node(w, node, err);
	if (w->storage == KIND_RESOURCESLICE)
		return check_slice(w, node, err);
	if (w->storage == KIND_CERTIFICATESIGNINGREQUEST && !w->subresource)
		return check_request(w, node, err);
	return 0;
}

const struct admission_plugin ADMISSION_NODE_RESTRICTION = { .name = "NodeRestriction", .mutate = mutate };
