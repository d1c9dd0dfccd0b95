/* SPDX-License-Identifier: Apache-2.0 */
/* Who a container runs as and what it may: securityContext of the pod and of the container. Pure. */
#pragma once

#include "kubelet/runtime/runtime.h"
#include "userspace/base/arena.h"
#include "userspace/base/json.h"

/* Fills the identity part of `spec`; memory is the arena's. -EPERM for runAsNonRoot. */
int identity_build(struct arena *arena, const struct json *pod, const struct json *container, const struct image *image,
		   const char *data_dir, struct runtime_container_spec *spec, struct err *err);
