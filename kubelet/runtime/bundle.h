/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI bundle of a container: overlay root, user, config.json. Blocking (mounts, small files on a tmpfs);
 * worker pool. Folders:
 *
 *   <run_dir>/runtime/containers/<id>/   rootfs, config.json, record.json, pid, log
 *   <data_dir>/containers/<id>/          upper, work */
#pragma once

#include "kubelet/cgroup/cgroup.h"
#include "kubelet/runtime/runtime.h"
#include "userspace/base/json.h"

#define BUNDLE_ID_LEN 64
#define BUNDLE_CONFIG_MAX (4u << 20)
#define BUNDLE_PASSWD_MAX (4u << 20)
#define BUNDLE_GROUPS_MAX 64

/* What the bundle needs to know of the pod's sandbox. */
struct bundle_sandbox {
	const char *ns_dir; /* <run_dir>/runtime/ns/<uid> */
	const char *hostname;
	const char *cgroup_path; /* "k3c-bpf/burstable/pod<uid>" */
	bool host_network, host_ipc, host_pid, share_pid;
};

/* 64 hex digits. */
void bundle_make_id(char ret[static BUNDLE_ID_LEN + 1]);

/* Mounts the overlay at <bundle>/rootfs and writes config.json; on failure nothing stays. */
int bundle_create(const char *bundle_dir, const char *data_dir, const char *id, const struct bundle_sandbox *sandbox,
		  const struct runtime_container_spec *spec, struct err *err);
/* Unmounts and removes both folders. Idempotent. */
void bundle_remove(const char *bundle_dir, const char *data_dir);

/* Overlay of read-only layers (lowest first) with an upper folder, at `target`. */
int overlay_mount(const char *target, char *const *layers, const char *upper, const char *work, struct err *err);

struct bundle_user {
	uint32_t uid, gid;
	uint32_t groups[BUNDLE_GROUPS_MAX];
	size_t n_groups;
	char home[256];
};

/* `user` is the image's ("", "1000", "name", "name:group", ...); looked up in the root's /etc/passwd and
 * /etc/group, opened so that no link leads out. run_as -1: not given. */
int bundle_user_resolve(const char *rootfs, const char *user, int64_t run_as_user, int64_t run_as_group,
			struct bundle_user *ret, struct err *err);

/* The spec's, else the image's, else "/". */
const char *bundle_working_dir(const struct runtime_container_spec *spec);
/* config.json as a tree. */
struct json *bundle_config(struct arena *arena, const struct bundle_sandbox *sandbox, const char *id,
			   const struct runtime_container_spec *spec, const struct bundle_user *user);
/* The `process` of an exec: that of the container with other arguments. */
struct json *bundle_exec_process(struct arena *arena, struct json *config, const struct runtime_exec_spec *spec);
/* linux.seccomp of the RuntimeDefault profile. */
struct json *seccomp_default(struct arena *arena);
