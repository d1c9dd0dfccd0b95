/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of the runtime: what it knows, and requests to the supervisor under way. Loop thread. */
#pragma once

#include "kubelet/cgroup/cgroup.h"
#include "kubelet/runtime/bundle.h"
#include "kubelet/runtime/protocol.h"
#include "kubelet/runtime/runtime.h"
#include "userspace/base/json.h"
#include "userspace/base/list.h"
#include "userspace/base/map.h"
#include "userspace/loop/loop.h"

#define RUNTIME_RETRY_NS (1000 * 1000 * 1000LL)
#define RUNTIME_EXEC_SYNC_MAX 10240
#define RUNTIME_SEND_QUEUE_MAX (16u << 20)

struct request;
/* reply NULL: the supervisor is lost, or it said no: then err is set. Descriptors are the callee's. */
typedef void request_fn(struct runtime *rt, struct request *request, const struct json *reply, const int *fds,
			size_t n_fds, const struct err *err);

struct request {
	struct list link;
	uint64_t seq;
	request_fn *fn;
};

struct known {
	struct list link;
	struct runtime_container c; /* strings are ours */
	bool acked, removing, announced;
};

struct known_sandbox {
	char *uid, *cgroup_path, *hostname;
	bool host_network, host_ipc, host_pid, share_pid;
};

/* The connection outlives the runtime until its poll has ended. */
struct connection {
	struct loop_op readable, writable;
	struct runtime *rt; /* NULL: forgotten */
	int fd;
};

struct runtime {
	struct loop *loop;
	struct runtime_events events;
	char *data_dir, *run_dir, *log_dir, *cgroup_root; /* run_dir: <run_dir>/runtime */
	char *oci_path, *oci_name;
	uint64_t log_max_bytes;
	unsigned log_max_files;
	struct cgroup_host host;
	struct connection *connection;
	pid_t supervisor_pid;
	uint64_t next_seq, next_exec;
	struct list requests, containers, outgoing, execs, syncs;
	size_t queued;
	struct map sandboxes;
	struct loop_defer deliver;
	struct loop_timer retry;
	char *message; /* receive buffer */
	unsigned busy; /* work on the pool that will come back */
	bool stopping, freed_by_work;
};

/* Work on the pool for this runtime. */
struct runtime_work {
	struct loop_work work;
	struct runtime *rt;
	void (*run)(struct runtime_work *work);
	void (*done)(struct runtime_work *work); /* on the loop thread, also when stopping */
};

/* runtime.c */
/* Kills who is inside and removes the group; blocks while the killed leave it. Absent is success; -EBUSY after a second
 * of trying. Any thread. */
int runtime_group_remove(const struct cgroup_host *host, const char *path);
void runtime_work_submit(struct runtime *rt, struct runtime_work *work);
struct known *runtime_find(struct runtime *rt, const char *id);
char *runtime_bundle_dir(const struct runtime *rt, const char *id);
char *runtime_container_data_dir(const struct runtime *rt, const char *id);
void runtime_forget(struct known *k);
/* A container as the supervisor tells it: updates or makes what is known. */
struct known *runtime_learn(struct runtime *rt, const struct json *event);
void runtime_deliver_soon(struct runtime *rt);

/* runtime_client.c */
int client_connect(struct runtime *rt, struct err *err);
void client_disconnect(struct runtime *rt);
/* `text` lacks its opening brace and seq: "\"op\":...}". */
void client_request(struct runtime *rt, struct request *request, request_fn *fn, const struct buf *text);
void client_tell(struct runtime *rt, const struct buf *text); /* no answer wanted */
int supervisor_spawn(const char *run_dir, const char *cgroup_root, struct err *err);
int client_open_socket(const char *run_dir, int *ret_fd);
void client_lost(struct runtime *rt);
void client_fail_unsent(struct runtime *rt);

/* runtime_exec.c */
void exec_on_event(struct runtime *rt, const struct json *event);
void exec_all_lost(struct runtime *rt);
void exec_forget_all(struct runtime *rt);
void exec_sync_forget_all(struct runtime *rt);

/* oci.c */
#define OCI_CGROUP_MOUNTS "cgroup-mounts" /* in run_dir: the cgroup mounts that are ours to undo */
/* Makes a hybrid host fit for crun where that can be done; looks at `host` anew. */
void oci_prepare_host(const char *wanted, struct cgroup_host *host, const char *run_dir);
int oci_choose(const char *wanted, const struct cgroup_host *host, const char *cache_dir, char **ret_path,
	       char **ret_name, struct err *err);
