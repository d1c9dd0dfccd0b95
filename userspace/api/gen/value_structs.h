/* SPDX-License-Identifier: Apache-2.0 */
/* Fields that are structs and no pointers in Go, so that an object is not told apart from its absence: what is left out
 * is judged, defaulted and owned as an empty one. The facts of a release do not say it. For kindgen alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* message NULL: in every message that has the field. */
static const struct {
	const char *message, *field;
} value_structs[] = {
	{ NULL, "metadata" },
	{ NULL, "spec" },
	{ NULL, "status" },
	{ NULL, "strategy" },
	{ NULL, "updateStrategy" },
	{ NULL, "jobTemplate" },
	{ NULL, "loadBalancer" },
	{ NULL, "nodeInfo" },
	{ NULL, "daemonEndpoints" },
	{ NULL, "kubeletEndpoint" },
	{ NULL, "clientConfig" },
	{ NULL, "priorityLevelConfiguration" },
	{ NULL, "limitResponse" },
	{ NULL, "scaleTargetRef" },
	{ NULL, "involvedObject" },
	{ NULL, "regarding" },
	{ NULL, "deprecatedSource" },
	{ NULL, "roleRef" },
	{ "io.k8s.api.core.v1.Event", "source" },
	{ "io.k8s.api.storage.v1.VolumeAttachmentSpec", "source" },
	{ "io.k8s.api.core.v1.Container", "resources" },
	{ "io.k8s.api.core.v1.EphemeralContainer", "resources" },
	{ "io.k8s.api.core.v1.PersistentVolumeClaimSpec", "resources" },
	{ "io.k8s.api.core.v1.PodTemplate", "template" },
	{ "io.k8s.api.apps.v1.DeploymentSpec", "template" },
	{ "io.k8s.api.apps.v1.ReplicaSetSpec", "template" },
	{ "io.k8s.api.apps.v1.DaemonSetSpec", "template" },
	{ "io.k8s.api.apps.v1.StatefulSetSpec", "template" },
	{ "io.k8s.api.batch.v1.JobSpec", "template" },
	{ "io.k8s.api.networking.v1.NetworkPolicySpec", "podSelector" },
	{ "io.k8s.api.networking.v1.IngressServiceBackend", "port" },
	{ "io.k8s.api.discovery.v1.Endpoint", "conditions" },
	{ "io.k8s.api.resource.v1.ResourceClaimSpec", "devices" },
	{ "io.k8s.api.resource.v1.ResourceSliceSpec", "pool" },
};

static inline bool value_struct(const char *message, const char *field)
{
	for (size_t i = 0; message && i < sizeof(value_structs) / sizeof(*value_structs); i++)
		if (!strcmp(value_structs[i].field, field) &&
		    (!value_structs[i].message || !strcmp(value_structs[i].message, message)))
			return true;
	return false;
}
