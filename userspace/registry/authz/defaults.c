/* SPDX-License-Identifier: Apache-2.0 */
/* The default roles and bindings of Kubernetes v1.36 with the features that it has on by default. See defaults.h for
 * how lists are written. To follow a release: compare with what its kube-apiserver makes in an empty cluster. */
#include "userspace/registry/authz/defaults.h"

#include "userspace/base/mem.h"

#define READ "get list watch"
#define WRITE "create delete deletecollection patch update"
#define ALL "create delete deletecollection get list patch update watch"
#define EVENTS                                                                                                         \
	{                                                                                                              \
		"create patch update", "- events.k8s.io", "events"                                                     \
	}
#define RULES(...)                                                                                                     \
	.rules = (const struct authz_default_rule[]){ __VA_ARGS__ },                                                   \
	.n_rules = sizeof((const struct authz_default_rule[]){ __VA_ARGS__ }) / sizeof(struct authz_default_rule)

/* clang-format off */
const struct authz_default_role AUTHZ_DEFAULT_ROLES[] = {
	{ .name = "admin", .aggregates = "admin" },
	{ .name = "cluster-admin",
	  RULES(
		{ "*", "*", "*" },
		{ "*", .paths = "*" }) },
	{ .name = "edit", .aggregate_to = "admin", .aggregates = "edit" },
	{ .name = "system:aggregate-to-admin", .aggregate_to = "admin",
	  RULES(
		{ "create", "authorization.k8s.io", "localsubjectaccessreviews" },
		{ ALL, "rbac.authorization.k8s.io", "rolebindings roles" }) },
	{ .name = "system:aggregate-to-edit", .aggregate_to = "edit",
	  RULES(
		{ READ, "-", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy" },
		{ "impersonate", "-", "serviceaccounts" },
		{ WRITE, "-", "pods pods/attach pods/exec pods/portforward pods/proxy" },
		{ "create", "-", "pods/eviction" },
		{ WRITE, "-", "configmaps events persistentvolumeclaims replicationcontrollers "
			"replicationcontrollers/scale secrets serviceaccounts services services/proxy" },
		{ "create", "-", "serviceaccounts/token" },
		{ WRITE, "apps", "daemonsets deployments deployments/rollback deployments/scale replicasets "
			"replicasets/scale statefulsets statefulsets/scale" },
		{ WRITE, "autoscaling", "horizontalpodautoscalers" },
		{ WRITE, "batch", "cronjobs jobs" },
		{ WRITE, "extensions", "daemonsets deployments deployments/rollback deployments/scale ingresses "
			"networkpolicies replicasets replicasets/scale replicationcontrollers/scale" },
		{ WRITE, "policy", "poddisruptionbudgets" },
		{ WRITE, "networking.k8s.io", "ingresses networkpolicies" },
		{ ALL, "coordination.k8s.io", "leases" },
		{ WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates" }) },
	{ .name = "system:aggregate-to-view", .aggregate_to = "view",
	  RULES(
		{ READ, "-", "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods "
			"replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"
			},
		{ READ, "-", "bindings events limitranges namespaces/status pods/log pods/status "
			"replicationcontrollers/status resourcequotas resourcequotas/status" },
		{ READ, "-", "namespaces" },
		{ READ, "discovery.k8s.io", "endpointslices" },
		{ READ, "apps", "controllerrevisions daemonsets daemonsets/status deployments deployments/scale "
			"deployments/status replicasets replicasets/scale replicasets/status statefulsets "
			"statefulsets/scale statefulsets/status" },
		{ READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status" },
		{ READ, "batch", "cronjobs cronjobs/status jobs jobs/status" },
		{ READ, "extensions", "daemonsets daemonsets/status deployments deployments/scale "
			"deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale "
			"replicasets/status replicationcontrollers/scale" },
		{ READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status" },
		{ READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies" },
		{ READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates" }) },
	{ .name = "system:auth-delegator",
	  RULES(
		{ "create", "authentication.k8s.io", "tokenreviews" },
		{ "create", "authorization.k8s.io", "subjectaccessreviews" }) },
	{ .name = "system:basic-user",
	  RULES(
		{ "create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews" },
		{ "create", "authentication.k8s.io", "selfsubjectreviews" }) },
	{ .name = "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
	  RULES(
		{ "create", "certificates.k8s.io", "certificatesigningrequests/nodeclient" }) },
	{ .name = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
	  RULES(
		{ "create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient" }) },
	{ .name = "system:certificates.k8s.io:kube-apiserver-client-approver",
	  RULES(
		{ "approve", "certificates.k8s.io", "signers", .names = "kubernetes.io/kube-apiserver-client" }) },
	{ .name = "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
	  RULES(
		{ "approve", "certificates.k8s.io", "signers", .names =
			"kubernetes.io/kube-apiserver-client-kubelet" }) },
	{ .name = "system:certificates.k8s.io:kubelet-serving-approver",
	  RULES(
		{ "approve", "certificates.k8s.io", "signers", .names = "kubernetes.io/kubelet-serving" }) },
	{ .name = "system:certificates.k8s.io:legacy-unknown-approver",
	  RULES(
		{ "approve", "certificates.k8s.io", "signers", .names = "kubernetes.io/legacy-unknown" }) },
	{ .name = "system:discovery",
	  RULES(
		{ "get", .paths = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz "
			"/version /version/" }) },
	{ .name = "system:heapster",
	  RULES(
		{ READ, "-", "events namespaces nodes pods" },
		{ READ, "extensions", "deployments" }) },
	{ .name = "system:kube-aggregator",
	  RULES(
		{ READ, "-", "endpoints services" }) },
	{ .name = "system:kube-controller-manager",
	  RULES(
		EVENTS,
		{ "create", "coordination.k8s.io", "leases" },
		{ "get update", "coordination.k8s.io", "leases", .names = "kube-controller-manager" },
		{ "create", "-", "secrets serviceaccounts" },
		{ "delete", "-", "secrets" },
		{ "get", "-", "configmaps namespaces secrets serviceaccounts" },
		{ "update", "-", "secrets serviceaccounts" },
		{ "create", "authentication.k8s.io", "tokenreviews" },
		{ "create", "authorization.k8s.io", "subjectaccessreviews" },
		{ "list watch", "*", "*" },
		{ "create", "-", "serviceaccounts/token" }) },
	{ .name = "system:kube-dns",
	  RULES(
		{ "list watch", "-", "endpoints services" }) },
	{ .name = "system:kube-scheduler",
	  RULES(
		EVENTS,
		{ "create", "coordination.k8s.io", "leases" },
		{ "get list update watch", "coordination.k8s.io", "leases", .names = "kube-scheduler" },
		{ ALL, "coordination.k8s.io", "leasecandidates" },
		{ READ, "-", "nodes" },
		{ "delete get list watch", "-", "pods" },
		{ "create", "-", "bindings pods/binding" },
		{ "patch update", "-", "pods/status" },
		{ READ, "-", "replicationcontrollers services" },
		{ READ, "apps extensions", "replicasets" },
		{ READ, "apps", "statefulsets" },
		{ READ, "policy", "poddisruptionbudgets" },
		{ READ, "-", "persistentvolumeclaims persistentvolumes" },
		{ "create", "authentication.k8s.io", "tokenreviews" },
		{ "create", "authorization.k8s.io", "subjectaccessreviews" },
		{ READ, "storage.k8s.io", "csinodes" },
		{ READ, "storage.k8s.io", "volumeattachments" },
		{ READ, "-", "namespaces" },
		{ READ, "storage.k8s.io", "csidrivers" },
		{ READ, "storage.k8s.io", "csistoragecapacities" },
		{ READ, "resource.k8s.io", "deviceclasses" },
		{ "get list patch update watch", "resource.k8s.io", "resourceclaims" },
		{ "get list patch update watch", "resource.k8s.io", "resourceclaims/status" },
		{ "get list patch update watch", "-", "pods/finalizers" },
		{ READ, "resource.k8s.io", "resourceslices" }) },
	{ .name = "system:kubelet-api-admin",
	  RULES(
		{ READ, "-", "nodes" },
		{ "proxy", "-", "nodes" },
		{ "*", "-", "nodes/log nodes/metrics nodes/proxy nodes/stats" },
		{ "*", "-", "nodes/configz nodes/healthz nodes/pods" }) },
	{ .name = "system:monitoring",
	  RULES(
		{ "get", .paths = "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*" },
		{ "get", .paths = "/flagz" },
		{ "get", .paths = "/statusz" }) },
	{ .name = "system:node",
	  RULES(
		{ "create", "authentication.k8s.io", "tokenreviews" },
		{ "create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews" },
		{ READ, "-", "services" },
		{ "create get list watch", "-", "nodes" },
		{ "patch update", "-", "nodes/status" },
		{ "patch update", "-", "nodes" },
		{ "create patch update", "-", "events" },
		{ READ, "-", "pods" },
		{ "create delete", "-", "pods" },
		{ "patch update", "-", "pods/status" },
		{ "create", "-", "pods/eviction" },
		{ READ, "-", "configmaps secrets" },
		{ "get", "-", "persistentvolumeclaims persistentvolumes" },
		{ "get", "-", "endpoints" },
		{ "create get list watch", "certificates.k8s.io", "certificatesigningrequests" },
		{ "create delete get patch update", "coordination.k8s.io", "leases" },
		{ "get", "storage.k8s.io", "volumeattachments" },
		{ "create", "-", "serviceaccounts/token" },
		{ "get patch update", "-", "persistentvolumeclaims/status" },
		{ READ, "storage.k8s.io", "csidrivers" },
		{ "create delete get patch update", "storage.k8s.io", "csinodes" },
		{ READ, "node.k8s.io", "runtimeclasses" },
		{ "get", "resource.k8s.io", "resourceclaims" },
		{ "deletecollection", "resource.k8s.io", "resourceslices" },
		{ "get", "-", "serviceaccounts" }) },
	{ .name = "system:node-bootstrapper",
	  RULES(
		{ "create get list watch", "certificates.k8s.io", "certificatesigningrequests" }) },
	{ .name = "system:node-problem-detector",
	  RULES(
		{ "get", "-", "nodes" },
		{ "patch", "-", "nodes/status" },
		EVENTS) },
	{ .name = "system:node-proxier",
	  RULES(
		{ "list watch", "-", "endpoints services" },
		{ READ, "-", "nodes" },
		EVENTS,
		{ "list watch", "networking.k8s.io", "servicecidrs" },
		{ "list watch", "discovery.k8s.io", "endpointslices" }) },
	{ .name = "system:persistent-volume-provisioner",
	  RULES(
		{ "create delete get list watch", "-", "persistentvolumes" },
		{ "get list update watch", "-", "persistentvolumeclaims" },
		{ READ, "storage.k8s.io", "storageclasses" },
		{ "watch", "-", "events" },
		EVENTS) },
	{ .name = "system:public-info-viewer",
	  RULES(
		{ "get", .paths = "/healthz /livez /readyz /version /version/" }) },
	{ .name = "system:service-account-issuer-discovery",
	  RULES(
		{ "get", .paths = "/.well-known/openid-configuration /.well-known/openid-configuration/ "
			"/openid/v1/jwks /openid/v1/jwks/" }) },
	{ .name = "system:volume-scheduler",
	  RULES(
		{ "get list patch update watch", "-", "persistentvolumes" },
		{ READ, "storage.k8s.io", "storageclasses" },
		{ "get list patch update watch", "-", "persistentvolumeclaims" }) },
	{ .name = "view", .aggregate_to = "edit", .aggregates = "view" },

	/* ---- of controllers ---- */

	{ .name = "system:controller:attachdetach-controller",
	  RULES(
		{ "list watch", "-", "persistentvolumeclaims persistentvolumes" },
		{ READ, "-", "nodes" },
		{ "patch update", "-", "nodes/status" },
		{ "list watch", "-", "pods" },
		EVENTS,
		{ "create delete get list watch", "storage.k8s.io", "volumeattachments" },
		{ READ, "storage.k8s.io", "csidrivers" },
		{ READ, "storage.k8s.io", "csinodes" }) },
	{ .name = "system:controller:certificate-controller",
	  RULES(
		{ "delete get list watch", "certificates.k8s.io", "certificatesigningrequests" },
		{ "update", "certificates.k8s.io", "certificatesigningrequests/approval "
			"certificatesigningrequests/status" },
		{ "approve", "certificates.k8s.io", "signers", .names =
			"kubernetes.io/kube-apiserver-client-kubelet" },
		{ "sign", "certificates.k8s.io", "signers", .names = "kubernetes.io/kube-apiserver-client "
			"kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving "
			"kubernetes.io/legacy-unknown" },
		{ "create", "authorization.k8s.io", "subjectaccessreviews" },
		EVENTS) },
	{ .name = "system:controller:clusterrole-aggregation-controller",
	  RULES(
		{ "escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles" }) },
	{ .name = "system:controller:cronjob-controller",
	  RULES(
		{ "get list update watch", "batch", "cronjobs" },
		{ "create delete get list patch update watch", "batch", "jobs" },
		{ "update", "batch", "cronjobs/status" },
		{ "update", "batch", "cronjobs/finalizers" },
		{ "delete list watch", "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:daemon-set-controller",
	  RULES(
		{ READ, "apps extensions", "daemonsets" },
		{ "update", "apps extensions", "daemonsets/status" },
		{ "update", "apps extensions", "daemonsets/finalizers" },
		{ "list watch", "-", "nodes" },
		{ "create delete list patch watch", "-", "pods" },
		{ "create", "-", "pods/binding" },
		{ "create delete get list patch update watch", "apps", "controllerrevisions" },
		EVENTS) },
	{ .name = "system:controller:deployment-controller",
	  RULES(
		{ "get list update watch", "apps extensions", "deployments" },
		{ "update", "apps extensions", "deployments/status" },
		{ "update", "apps extensions", "deployments/finalizers" },
		{ "create delete get list patch update watch", "apps extensions", "replicasets" },
		{ "get list update watch", "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:device-taint-eviction-controller",
	  RULES(
		{ "delete get list watch", "-", "pods" },
		{ "patch update", "-", "pods/status" },
		{ READ, "resource.k8s.io", "resourceclaims" },
		{ READ, "resource.k8s.io", "resourceslices" },
		{ READ, "resource.k8s.io", "deviceclasses" },
		EVENTS) },
	{ .name = "system:controller:disruption-controller",
	  RULES(
		{ READ, "apps extensions", "deployments" },
		{ READ, "apps extensions", "replicasets" },
		{ READ, "-", "replicationcontrollers" },
		{ READ, "policy", "poddisruptionbudgets" },
		{ READ, "apps", "statefulsets" },
		{ "update", "policy", "poddisruptionbudgets/status" },
		{ "patch update", "-", "pods/status" },
		{ "get", "*", "*/scale" },
		EVENTS) },
	{ .name = "system:controller:endpoint-controller",
	  RULES(
		{ READ, "-", "pods services" },
		{ "create delete get list update watch", "-", "endpoints" },
		{ "create", "-", "endpoints/restricted" },
		EVENTS) },
	{ .name = "system:controller:endpointslice-controller",
	  RULES(
		{ READ, "-", "nodes pods services" },
		{ "update", "-", "services/finalizers" },
		{ "create delete get list update watch", "discovery.k8s.io", "endpointslices" },
		EVENTS) },
	{ .name = "system:controller:endpointslicemirroring-controller",
	  RULES(
		{ READ, "-", "endpoints services" },
		{ "update", "-", "services/finalizers" },
		{ "update", "-", "endpoints/finalizers" },
		{ "create delete get list update watch", "discovery.k8s.io", "endpointslices" },
		EVENTS) },
	{ .name = "system:controller:ephemeral-volume-controller",
	  RULES(
		{ READ, "-", "pods" },
		{ "update", "-", "pods/finalizers" },
		{ "create get list watch", "-", "persistentvolumeclaims" },
		EVENTS) },
	{ .name = "system:controller:expand-controller",
	  RULES(
		{ "get list patch update watch", "-", "persistentvolumes" },
		{ "patch update", "-", "persistentvolumeclaims/status" },
		{ READ, "-", "persistentvolumeclaims" },
		EVENTS) },
	{ .name = "system:controller:generic-garbage-collector",
	  RULES(
		{ "delete get list patch update watch", "*", "*" },
		EVENTS) },
	{ .name = "system:controller:horizontal-pod-autoscaler",
	  RULES(
		{ READ, "autoscaling", "horizontalpodautoscalers" },
		{ "update", "autoscaling", "horizontalpodautoscalers/status" },
		{ "get update", "*", "*/scale" },
		{ "list watch", "-", "pods" },
		{ "list watch", "metrics.k8s.io", "pods" },
		{ READ, "custom.metrics.k8s.io", "*" },
		{ READ, "external.metrics.k8s.io", "*" },
		EVENTS) },
	{ .name = "system:controller:job-controller",
	  RULES(
		{ "get list patch update watch", "batch", "jobs" },
		{ "update", "batch", "jobs/status" },
		{ "update", "batch", "jobs/finalizers" },
		{ "create delete list patch watch", "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:legacy-service-account-token-cleaner",
	  RULES(
		{ "get", "-", "configmaps", .names = "kube-apiserver-legacy-service-account-token-tracking" },
		{ "delete patch", "-", "secrets" }) },
	{ .name = "system:controller:namespace-controller",
	  RULES(
		{ "delete get list watch", "-", "namespaces" },
		{ "update", "-", "namespaces/finalize namespaces/status" },
		{ "delete deletecollection get list watch", "*", "*" }) },
	{ .name = "system:controller:node-controller",
	  RULES(
		{ "delete get list patch update watch", "-", "nodes" },
		{ "patch update", "-", "nodes/status" },
		{ "patch update", "-", "pods/status" },
		{ "delete get list watch", "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:persistent-volume-binder",
	  RULES(
		{ "create delete get list update watch", "-", "persistentvolumes" },
		{ "update", "-", "persistentvolumes/status" },
		{ "get list update watch", "-", "persistentvolumeclaims" },
		{ "update", "-", "persistentvolumeclaims/status" },
		{ "create delete get list watch", "-", "pods" },
		{ READ, "storage.k8s.io", "storageclasses" },
		{ "list watch", "-", "nodes" },
		EVENTS,
		{ "watch", "-", "events" }) },
	{ .name = "system:controller:pod-garbage-collector",
	  RULES(
		{ "delete list watch", "-", "pods" },
		{ READ, "-", "nodes" },
		{ "patch", "-", "pods/status" }) },
	{ .name = "system:controller:pv-protection-controller",
	  RULES(
		{ "get list update watch", "-", "persistentvolumes" },
		EVENTS) },
	{ .name = "system:controller:pvc-protection-controller",
	  RULES(
		{ "get list update watch", "-", "persistentvolumeclaims" },
		{ "update", "-", "persistentvolumeclaims/status" },
		{ READ, "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:replicaset-controller",
	  RULES(
		{ "get list update watch", "apps extensions", "replicasets" },
		{ "update", "apps extensions", "replicasets/status" },
		{ "update", "apps extensions", "replicasets/finalizers" },
		{ "create delete list patch watch", "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:replication-controller",
	  RULES(
		{ "get list update watch", "-", "replicationcontrollers" },
		{ "update", "-", "replicationcontrollers/status" },
		{ "update", "-", "replicationcontrollers/finalizers" },
		{ "create delete list patch watch", "-", "pods" },
		EVENTS) },
	{ .name = "system:controller:resource-claim-controller",
	  RULES(
		{ READ, "-", "pods" },
		{ "update", "-", "pods/finalizers" },
		{ "create delete get list watch", "resource.k8s.io", "resourceclaims" },
		{ "patch update", "resource.k8s.io", "resourceclaims resourceclaims/status" },
		{ "patch update", "-", "pods/status" },
		EVENTS,
		{ "patch update", "resource.k8s.io", "resourceclaims/binding" }) },
	{ .name = "system:controller:resourcequota-controller",
	  RULES(
		{ "list watch", "*", "*" },
		{ "update", "-", "resourcequotas/status" },
		EVENTS) },
	{ .name = "system:controller:root-ca-cert-publisher",
	  RULES(
		{ "create update", "-", "configmaps" },
		EVENTS) },
	{ .name = "system:controller:route-controller",
	  RULES(
		{ "list watch", "-", "nodes" },
		{ "patch", "-", "nodes/status" },
		EVENTS) },
	{ .name = "system:controller:selinux-warning-controller",
	  RULES(
		EVENTS,
		{ READ, "-", "persistentvolumes" },
		{ READ, "-", "persistentvolumeclaims" },
		{ READ, "-", "pods" },
		{ READ, "storage.k8s.io", "csidrivers" }) },
	{ .name = "system:controller:service-account-controller",
	  RULES(
		{ "create", "-", "serviceaccounts" },
		EVENTS) },
	{ .name = "system:controller:service-cidrs-controller",
	  RULES(
		{ "get list patch update watch", "networking.k8s.io", "servicecidrs" },
		{ "patch update", "networking.k8s.io", "servicecidrs/finalizers" },
		{ "patch update", "networking.k8s.io", "servicecidrs/status" },
		{ READ, "networking.k8s.io", "ipaddresses" },
		EVENTS) },
	{ .name = "system:controller:service-controller",
	  RULES(
		{ READ, "-", "services" },
		{ "patch update", "-", "services/status" },
		{ "list watch", "-", "nodes" },
		EVENTS) },
	{ .name = "system:controller:statefulset-controller",
	  RULES(
		{ "list watch", "-", "pods" },
		{ READ, "apps", "statefulsets" },
		{ "update", "apps", "statefulsets/status" },
		{ "update", "apps", "statefulsets/finalizers" },
		{ "create delete get patch update", "-", "pods" },
		{ "create delete get list patch update watch", "apps", "controllerrevisions" },
		{ "create get list watch", "-", "persistentvolumeclaims" },
		{ "delete update", "-", "persistentvolumeclaims" },
		{ "update", "-", "pods/finalizers" },
		EVENTS) },
	{ .name = "system:controller:ttl-after-finished-controller",
	  RULES(
		{ "delete get list watch", "batch", "jobs" },
		EVENTS) },
	{ .name = "system:controller:ttl-controller",
	  RULES(
		{ "list patch update watch", "-", "nodes" },
		EVENTS) },
	{ .name = "system:controller:validatingadmissionpolicy-status-controller",
	  RULES(
		{ READ, "admissionregistration.k8s.io", "validatingadmissionpolicies" },
		{ "get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status" },
		EVENTS) },
	{ .name = "system:controller:volumeattributesclass-protection-controller",
	  RULES(
		{ READ, "-", "persistentvolumeclaims" },
		{ READ, "-", "persistentvolumes" },
		{ "get list update watch", "storage.k8s.io", "volumeattributesclasses" },
		EVENTS) },

	/* ---- in namespaces ---- */

	{ .ns = "kube-public", .name = "system:controller:bootstrap-signer",
	  RULES(
		{ READ, "-", "configmaps" },
		{ "update", "-", "configmaps", .names = "cluster-info" },
		EVENTS) },
	{ .ns = "kube-system", .name = "extension-apiserver-authentication-reader",
	  RULES(
		{ READ, "-", "configmaps", .names = "extension-apiserver-authentication" }) },
	{ .ns = "kube-system", .name = "system::leader-locking-kube-controller-manager",
	  RULES(
		{ "create get list update watch", "coordination.k8s.io", "leases" },
		{ "create get list update watch", "coordination.k8s.io", "leasecandidates" }) },
	{ .ns = "kube-system", .name = "system::leader-locking-kube-scheduler",
	  RULES(
		{ "create get list update watch", "coordination.k8s.io", "leases" },
		{ "create get list update watch", "coordination.k8s.io", "leasecandidates" }) },
	{ .ns = "kube-system", .name = "system:controller:bootstrap-signer",
	  RULES(
		{ READ, "-", "secrets" }) },
	{ .ns = "kube-system", .name = "system:controller:cloud-provider",
	  RULES(
		{ "create get list watch", "-", "configmaps" }) },
	{ .ns = "kube-system", .name = "system:controller:token-cleaner",
	  RULES(
		{ "delete get list watch", "-", "secrets" },
		EVENTS) },
};
const size_t AUTHZ_DEFAULT_ROLES_N = ARRAY_SIZE(AUTHZ_DEFAULT_ROLES);

const struct authz_default_binding AUTHZ_DEFAULT_BINDINGS[] = {
	{ .name = "cluster-admin", .role = "cluster-admin",
	  .groups = "system:masters" },
	{ .name = "system:basic-user", .role = "system:basic-user",
	  .groups = "system:authenticated" },
	{ .name = "system:discovery", .role = "system:discovery",
	  .groups = "system:authenticated" },
	{ .name = "system:kube-controller-manager", .role = "system:kube-controller-manager",
	  .users = "system:kube-controller-manager" },
	{ .name = "system:kube-dns", .role = "system:kube-dns",
	  .accounts = "kube-dns" },
	{ .name = "system:kube-scheduler", .role = "system:kube-scheduler",
	  .users = "system:kube-scheduler" },
	{ .name = "system:monitoring", .role = "system:monitoring",
	  .groups = "system:monitoring" },
	{ .name = "system:node", .role = "system:node" },
	{ .name = "system:node-proxier", .role = "system:node-proxier",
	  .users = "system:kube-proxy" },
	{ .name = "system:public-info-viewer", .role = "system:public-info-viewer",
	  .groups = "system:authenticated system:unauthenticated" },
	{ .name = "system:service-account-issuer-discovery", .role = "system:service-account-issuer-discovery",
	  .groups = "system:serviceaccounts" },
	{ .name = "system:volume-scheduler", .role = "system:volume-scheduler",
	  .users = "system:kube-scheduler" },
	{ .ns = "kube-public", .name = "system:controller:bootstrap-signer", .role = "system:controller:bootstrap-signer",
	  .accounts = "bootstrap-signer" },
	{ .ns = "kube-system", .name = "system::extension-apiserver-authentication-reader", .role = "extension-apiserver-authentication-reader",
	  .users = "system:kube-controller-manager system:kube-scheduler" },
	{ .ns = "kube-system", .name = "system::leader-locking-kube-controller-manager", .role = "system::leader-locking-kube-controller-manager",
	  .users = "system:kube-controller-manager",
	  .accounts = "kube-controller-manager leader-election-controller" },
	{ .ns = "kube-system", .name = "system::leader-locking-kube-scheduler", .role = "system::leader-locking-kube-scheduler",
	  .users = "system:kube-scheduler",
	  .accounts = "kube-scheduler" },
	{ .ns = "kube-system", .name = "system:controller:bootstrap-signer", .role = "system:controller:bootstrap-signer",
	  .accounts = "bootstrap-signer" },
	{ .ns = "kube-system", .name = "system:controller:cloud-provider", .role = "system:controller:cloud-provider",
	  .accounts = "cloud-provider" },
	{ .ns = "kube-system", .name = "system:controller:token-cleaner", .role = "system:controller:token-cleaner",
	  .accounts = "token-cleaner" },
};
const size_t AUTHZ_DEFAULT_BINDINGS_N = ARRAY_SIZE(AUTHZ_DEFAULT_BINDINGS);
/* clang-format on */
