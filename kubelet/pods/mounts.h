/* SPDX-License-Identifier: Apache-2.0 */
/* volumeMounts of a container as the runtime's mounts, and the sub paths to bind before. Loop thread. */
#pragma once

#include "kubelet/pods/env.h"
#include "kubelet/pods/worker.h"

struct mount_list {
	struct arena *arena;
	struct runtime_mount *mounts;
	size_t n, cap;
	struct subpath_job *subpaths;
	size_t n_subpaths, cap_subpaths;
};

void mounts_add(struct mount_list *list, const struct runtime_mount *m);
bool mounts_has(const struct mount_list *list, const char *container_path);
/* In order of depth of the container path, so that a nested mount lies on top. */
int mounts_of_volumes(struct pod_container *c, const struct json *container, const struct env *env,
		      struct mount_list *list, struct err *err);
