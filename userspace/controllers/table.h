/* SPDX-License-Identifier: Apache-2.0 */
/* The controllers' declarations, for the table only. */
#pragma once

#include "userspace/controllers/runner.h"

extern const struct controller controller_namespace, controller_serviceaccount, controller_root_ca,
	controller_kubernetes_service, controller_deployment, controller_replicaset, controller_replicationcontroller,
	controller_daemonset, controller_statefulset, controller_job, controller_endpointslice, controller_endpoints,
	controller_service_lb, controller_garbage, controller_pod_gc, controller_node_lifecycle;
extern const struct controller controller_csr_approving, controller_csr_signing, controller_csr_cleaner,
	controller_token_secrets;
extern const struct controller controller_resource_quota, controller_pvc_protection, controller_pv_protection,
	controller_system_priority_classes;
extern const struct controller controller_clusterrole_aggregation;
extern const struct controller controller_component_status;
extern const struct controller controller_apiservice, controller_service_cidr, controller_ip_address,
	controller_endpointslice_mirroring;
