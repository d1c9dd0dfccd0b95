/* SPDX-License-Identifier: Apache-2.0 */
/* The two kinds of hierarchy behind cgroup.h; for the files of this folder only. */
#pragma once

#include "kubelet/cgroup/cgroup.h"

const struct cgroup_mount *cgroup_mount_of(const struct cgroup_host *host, const char *controller);
const struct cgroup_mount *cgroup_mount_v2(const struct cgroup_host *host);
int cgroup_read_number(const char *dir, const char *path, const char *file, uint64_t *ret);
uint64_t cgroup_read_keyed(const char *full, const char *key);

int cgroup_v1_make(const struct cgroup_host *host, const char *path, const struct cgroup_limits *limits,
		   struct err *err);
int cgroup_v1_attach(const struct cgroup_host *host, const char *path, pid_t pid, struct err *err);
int cgroup_v1_usage(const struct cgroup_host *host, const char *path, struct cgroup_usage *ret, uint64_t *ret_inactive);

/* limits NULL: only the folder (hybrid hosts, where v1 limits) */
int cgroup_v2_make(const struct cgroup_host *host, const char *path, const struct cgroup_limits *limits,
		   struct err *err);
int cgroup_v2_usage(const struct cgroup_host *host, const char *path, struct cgroup_usage *ret, uint64_t *ret_inactive);
