/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's volumes in two halves: a plan, made on the loop thread from the objects (no I/O), and its execution on
 * the worker pool (no objects). Both may be repeated at any time: after a restart of the server, and when a
 * ConfigMap, a Secret or the pod's labels change. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kubelet/kubelet.h"
#include "kubelet/pods/fieldref.h"
#include "kubelet/volumes/atomic_writer.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

struct registry;

#define VOLUME_TOKEN_EXPIRY_DEFAULT_S 3600
#define VOLUME_TOKEN_EXPIRY_MIN_S 600

enum volume_kind {
	VOLUME_EMPTY_DIR,
	VOLUME_EMPTY_DIR_MEMORY,
	VOLUME_HOST_PATH,
	VOLUME_PAYLOAD, /* configMap, secret, downwardAPI, projected: files on tmpfs */
};

struct volume {
	enum volume_kind kind;
	char *name;
	char *path;           /* on the host; what a container's mount names */
	char *host_path_type; /* "", "Directory", ... */
	int64_t size_bytes;   /* Memory: the tmpfs's size; 0: none */
	struct atomic_file *files;
	size_t n_files;
};

struct volume_plan {
	struct arena arena; /* owns everything here */
	struct volume *volumes;
	size_t n;
	int64_t fs_group;         /* -1: none */
	int64_t refresh_after_ns; /* a token wants a new one then; 0: none */
	/* filled by volumes_apply() or volumes_plan() on failure */
	const char *failed; /* the volume's name */
};

struct volume_source {
	struct registry *reg;
	const struct kubelet_tokens *tokens;
	const struct json *pod;
	const struct pod_facts *facts;
	const char *disk_dir;  /* <data_dir>/pods/<uid> */
	const char *tmpfs_dir; /* <run_dir>/pods/<uid> */
};

/* `ret` is initialised in any case; volume_plan_finish() after. Errors are worded for FailedMount. */
int volumes_plan(const struct volume_source *src, struct volume_plan *ret, struct err *err);
void volume_plan_finish(struct volume_plan *plan);
/* Where the pod's volume of that name stands on the host, or NULL. Pure. */
char *volumes_path(struct arena *arena, const struct json *pod, const char *disk_dir, const char *tmpfs_dir,
		   struct str name);

/* Blocking. */
int volumes_apply(struct volume_plan *plan, struct err *err);
/* Blocking. Unmounts everything below both folders and removes them. */
int volumes_teardown(const char *disk_dir, const char *tmpfs_dir, struct err *err);

/* Does the pod's spec name the ConfigMap (or Secret), in volumes, env or envFrom? Pure. */
bool volumes_refers_to(const struct json *pod_spec, bool secret, struct str name);
/* Has the pod volumes whose files come from its own labels or annotations? */
bool volumes_has_downward(const struct json *pod_spec);
