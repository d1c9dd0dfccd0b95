/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and limits in the kernel's terms; QoS class. Pure. */
#pragma once

#include <stdint.h>

#include "kubelet/runtime/runtime.h"
#include "userspace/base/json.h"

/* 0 for what does not parse (validation saw it before). */
int64_t pod_resources_cpu_milli(struct str quantity);
int64_t pod_resources_bytes(struct str quantity);

/* "Guaranteed", "Burstable", "BestEffort" */
const char *pod_resources_qos(const struct json *pod_spec);
/* "guaranteed", "burstable", "besteffort" */
const char *pod_resources_qos_cgroup(const char *qos_class);
void pod_resources_of_container(const struct json *container, struct runtime_resources *ret);
/* The sum of the pod's containers (limits only where all have one), for the pod's cgroup. */
void pod_resources_of_pod(const struct json *pod_spec, struct runtime_resources *ret);
int pod_resources_oom_score_adj(const char *qos_class, const struct json *container, int64_t memory_capacity_bytes);
