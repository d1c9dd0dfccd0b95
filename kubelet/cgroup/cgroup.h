/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of pods and containers, on pure v2, pure v1 and hybrid hosts:
 *
 *   <root>/<qos>/pod<uid>/<container id>
 *
 * below every v1 hierarchy and below the cgroup2 mount. v1 groups are made and limited through libcgroup;
 * cgroup2 by its files. The container's own group is filled by the OCI runtime. Blocking, but only on
 * kernel files. Any thread: what touches libcgroup takes a lock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "userspace/base/err.h"

enum cgroup_mode { CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };

#define CGROUP_MOUNTS_MAX 24
#define CGROUP_PATH_MAX 512

/* One mounted hierarchy. */
struct cgroup_mount {
	char path[256];
	char controllers[128]; /* "cpu,cpuacct"; "" for cgroup2, "name=systemd" for a named one */
	bool v2;
};

struct cgroup_host {
	enum cgroup_mode mode;
	struct cgroup_mount mounts[CGROUP_MOUNTS_MAX];
	size_t n_mounts;
	bool v2_has_controllers; /* cgroup2 holds a controller (on hybrid hosts: what crun 1.8 refuses) */
};

struct cgroup_limits { /* 0: unset */
	uint64_t cpu_shares;
	int64_t cpu_quota_us, cpu_period_us;
	int64_t memory_limit_bytes;
	int64_t pids_limit;
};

struct cgroup_usage {
	uint64_t cpu_ns, memory_bytes, memory_working_set_bytes, pids;
};

int cgroup_detect(struct cgroup_host *ret, struct err *err);
/* Hybrid hosts: mounts on v1 what cgroup2 still holds, because crun 1.8 refuses such a host; appends each mount to
 * the file `record`. Returns how many (0: nothing to do); detect again after. */
int cgroup_mount_leftovers(const struct cgroup_host *host, const char *record, struct err *err);
/* Unmounts what `record` names, unless somebody has groups there, and removes the record. Absent is fine. */
void cgroup_unmount_leftovers(const char *record);
/* Makes `path` ("k3c-bpf/burstable/pod1") and what is above it everywhere, and sets limits. Idempotent. */
int cgroup_make(const struct cgroup_host *host, const char *path, const struct cgroup_limits *limits, struct err *err);
/* Kills whoever is inside (also in groups below) with SIGKILL; returns how many were found. */
int cgroup_kill(const struct cgroup_host *host, const char *path);
/* Removes the group and all below it everywhere. Absent is success; -EBUSY while processes live there. */
int cgroup_remove(const struct cgroup_host *host, const char *path);
/* Moves a process into `path` everywhere. */
int cgroup_attach(const struct cgroup_host *host, const char *path, pid_t pid, struct err *err);
/* -ENOENT when the group is gone. */
int cgroup_read_usage(const struct cgroup_host *host, const char *path, struct cgroup_usage *ret);
/* The file that counts OOM kills of `path`: memory.events or memory.oom_control. */
int cgroup_oom_file(const struct cgroup_host *host, const char *path, char *ret, size_t size);
/* Kills counted in such a file; 0 when unreadable. */
uint64_t cgroup_oom_kills(const char *file);
/* v1 shares (2..262144) as v2 weight (1..10000), the mapping the OCI runtimes use. */
uint64_t cgroup_weight_of_shares(uint64_t shares);
