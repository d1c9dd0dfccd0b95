/* SPDX-License-Identifier: Apache-2.0 */
/* Containers on this host: sandboxes (pinned namespaces, pod cgroup), containers (OCI bundle, overlay
 * root, crun or else runc), their exits and logs, exec. Knows nothing of the API. Behind it stands the
 * supervisor process (the same binary), which parents every container and survives the server: the server
 * connects, adopts what runs, and hears of every exit that happened meanwhile. Loop thread; every
 * asynchronous call completes by its callback on the loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kubelet/images/images.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

struct runtime;
struct loop;

enum runtime_container_state { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_UNKNOWN };

/* A container as the supervisor knows it; strings borrowed for the call. */
struct runtime_container {
	const char *id; /* 64 hex digits */
	const char *pod_uid, *name;
	unsigned attempt; /* restartCount */
	enum runtime_container_state state;
	pid_t pid;
	int64_t created_real_ns, started_real_ns, finished_real_ns;
	int exit_code; /* 128+n for signal n */
	int signal;
	bool oom_killed;
	const char *log_path;
	const char *annotations; /* the text given at creation, for the kubelet's own use */
};

struct runtime_events {
	void *ctx;
	/* A container exited (also those that did while the server was away, once, after runtime_start). */
	void (*exited)(void *ctx, const struct runtime_container *c);
	/* The supervisor is gone and was started again; running containers were lost. */
	void (*lost)(void *ctx);
};

struct runtime_options {
	const char *data_dir;    /* containers' writable layers: <data_dir>/containers */
	const char *run_dir;     /* bundles, sockets, pinned namespaces: <run_dir>/runtime */
	const char *log_dir;     /* /var/log/pods */
	const char *oci_runtime; /* NULL: crun, else runc; or a path */
	const char *cgroup_root; /* "k3c-bpf" below every hierarchy */
	uint64_t log_max_bytes;  /* rotation of one container's log */
	unsigned log_max_files;
};

typedef void runtime_done_fn(void *arg, const struct err *err); /* err NULL: done */

/* Starts or finds the supervisor; on return the list of containers is complete. */
int runtime_start(struct loop *loop, const struct runtime_options *options, const struct runtime_events *events,
		  struct runtime **ret, struct err *err);
/* Disconnects; containers run on. */
void runtime_stop(struct runtime *rt);
/* Kills every container, removes sandboxes, ends the supervisor (quickstart --stop). Blocking. */
int runtime_shutdown_all(const struct runtime_options *options, struct err *err);

typedef void runtime_each_fn(void *arg, const struct runtime_container *c);
void runtime_each(struct runtime *rt, const char *pod_uid /* NULL: all */, runtime_each_fn *fn, void *arg);
/* pods that have a sandbox or a container on this host (uids) */
void runtime_each_sandbox(struct runtime *rt, void (*fn)(void *arg, const char *pod_uid), void *arg);
pid_t runtime_supervisor_pid(const struct runtime *rt);
const char *runtime_oci_name(const struct runtime *rt); /* "crun 1.8.1" */

/* ---- sandboxes ---- */

struct runtime_resources {   /* 0: unset */
	uint64_t cpu_shares; /* v1 shares, mapped to weight on v2 */
	int64_t cpu_quota_us, cpu_period_us;
	int64_t memory_limit_bytes;
	int64_t pids_limit;
};

struct runtime_sandbox {
	const char *pod_uid, *ns, *name, *hostname;
	bool host_network, host_ipc, host_pid, share_pid;
	const char *qos; /* "guaranteed", "burstable", "besteffort": cgroup parent */
	struct runtime_resources resources;
	const char *const *sysctls; /* NULL-terminated "name=value", or NULL */
};

/* Pins net, ipc and uts namespaces (unless host's), makes the pod's cgroups. Idempotent. */
void runtime_sandbox_create(struct runtime *rt, const struct runtime_sandbox *sandbox, runtime_done_fn *done,
			    void *arg);
/* All containers must be removed before. Idempotent. */
void runtime_sandbox_remove(struct runtime *rt, const char *pod_uid, runtime_done_fn *done, void *arg);
/* "<run_dir>/runtime/ns/<uid>/net" */
void runtime_netns_path(struct runtime *rt, const char *pod_uid, char *ret, size_t size);

/* ---- containers ---- */

struct runtime_mount {
	const char *host_path, *container_path;
	bool read_only, tmpfs /* host_path unused */, recursive_read_only;
	uint64_t tmpfs_size_bytes;
	const char *propagation; /* NULL: rprivate; "rslave", "rshared" */
};

struct runtime_device {
	const char *host_path, *container_path, *permissions;
};

struct runtime_container_spec {
	const char *pod_uid, *name;
	unsigned attempt;
	const struct image *image;
	const char *const *args; /* NULL-terminated: the final argv */
	const char *const *env;  /* NULL-terminated "K=V": the final environment */
	const char *working_dir; /* NULL: the image's, else "/" */
	const struct runtime_mount *mounts;
	size_t n_mounts;
	struct runtime_resources resources;
	int oom_score_adj;
	bool tty, stdin_open, stdin_once, read_only_root, privileged, no_new_privileges;
	int64_t run_as_user, run_as_group; /* -1: the image's */
	const int64_t *supplemental_groups;
	size_t n_supplemental_groups;
	const char *const *cap_add, *const *cap_drop; /* without "CAP_"; "ALL" */
	const char *seccomp_profile;                  /* NULL: unconfined; "runtime/default"; or a path */
	const char *const *masked_paths_none;         /* non-NULL: procMount Unmasked */
	const char *log_path;             /* CRI log file: <log_dir>/<ns>_<name>_<uid>/<container>/<attempt>.log */
	const char *annotations;          /* kept and given back in struct runtime_container */
	const char *termination_log_path; /* host file bind-mounted by the caller; NULL: none */
};

typedef void runtime_created_fn(void *arg, const char *container_id, const struct err *err);

/* Overlay and bundle; the sandbox must be there. The spec is copied. Errors are upstream's kind: a missing executable
 * names it. */
void runtime_container_create(struct runtime *rt, const struct runtime_container_spec *spec, runtime_created_fn *done,
			      void *arg);
/* Here the OCI runtime runs. When it fails, `done` says why, the container is CONTAINER_EXITED with exit code 128,
 * and `exited` is not called. */
void runtime_container_start(struct runtime *rt, const char *id, runtime_done_fn *done, void *arg);
void runtime_container_signal(struct runtime *rt, const char *id, int signo, runtime_done_fn *done, void *arg);
/* Kills if needed; bundle, overlay, cgroup, exit record go. Logs stay unless asked. Idempotent. */
void runtime_container_remove(struct runtime *rt, const char *id, bool remove_logs, runtime_done_fn *done, void *arg);

struct runtime_usage {
	uint64_t cpu_ns, memory_bytes, memory_working_set_bytes, pids;
};
int runtime_container_usage(struct runtime *rt, const char *id, struct runtime_usage *ret);

/* ---- exec and attach ---- */

/* Streams as descriptors of this process; -1 where absent. The owner closes them. */
struct runtime_streams {
	int stdin_fd, stdout_fd, stderr_fd; /* tty: stdin_fd and stdout_fd are both the pty master (dup) */
};

struct runtime_exec_spec {
	const char *container_id;
	const char *const *argv;
	bool tty, want_stdin, want_stdout, want_stderr;
	int rows, cols; /* tty size; 0: unknown */
};

typedef void runtime_exec_started_fn(void *arg, uint64_t exec_id, const struct runtime_streams *streams,
				     const struct err *err);
typedef void runtime_exec_exited_fn(void *arg, uint64_t exec_id, int exit_code);

/* started, then exited (once; not when started failed). */
void runtime_exec(struct runtime *rt, const struct runtime_exec_spec *spec, runtime_exec_started_fn *started,
		  runtime_exec_exited_fn *exited, void *arg);
void runtime_exec_kill(struct runtime *rt, uint64_t exec_id);
/* The running container's own streams (argv and size are not used): what it writes from now on, and its input when
 * it was created with stdin_open or tty. Ends with the container; no exit is told but by `exited`. */
void runtime_attach(struct runtime *rt, const struct runtime_exec_spec *spec, runtime_exec_started_fn *started,
		    void *arg);
/* Sets the size of a pty (ioctl on the master). */
void runtime_resize(int pty_fd, int rows, int cols);

/* Non-interactive: probes and hooks. Output is cut at 10 KiB. exit_code -1 with err on failure to run;
 * on time-out err is -ETIMEDOUT and the process is killed. */
typedef void runtime_exec_sync_fn(void *arg, int exit_code, struct str output, const struct err *err);
void runtime_exec_sync(struct runtime *rt, const char *container_id, const char *const *argv, int64_t timeout_ns,
		       runtime_exec_sync_fn *done, void *arg);
