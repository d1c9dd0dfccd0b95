/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and limits in the kernel's terms. Pure. */
#pragma once

#include <stdint.h>

#include "kubelet/runtime/runtime.h"
#include "userspace/base/json.h"

/* 0 for what does not parse (validation saw it before). */
int64_t pod_resources_cpu_milli(struct str quantity);
int64_t pod_resources_bytes(struct str quantity);

/* "guaranteed", "burstable", "besteffort" */
const char *pod_resources_qos_cgroup(const char *qos_class);
void pod_resources_of_container(const struct json *container, struct runtime_resources *ret);
/* All of the pod (limits only where all its containers have one), for its cgroup. */
void pod_resources_of_pod(const struct json *pod, struct runtime_resources *ret);
int pod_resources_oom_score_adj(const char *qos_class, const struct json *container, int64_t memory_capacity_bytes);
