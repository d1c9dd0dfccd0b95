/* SPDX-License-Identifier: Apache-2.0 */
/* The kubelet: registers the Node, runs the pods bound to it, reports their status. It meets the rest of the
 * house only in objects (through the registry) and through the two interfaces it is given: the pod network and
 * the minting of service-account tokens. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/registry/node_ops.h"
#include "kubelet/network.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

struct loop;
struct registry;
struct kubelet;

#define KUBELET_PODS_DEFAULT 110
#define KUBELET_NODE_IPS_MAX 2

/* Credentials of one image registry host ("registry:5000"); auth of a pod's imagePullSecrets comes first. */
struct kubelet_image_registry {
	const char *host;
	const char *username, *password; /* NULL: anonymous */
	const char *ca_file;
	bool insecure_http;
};

struct kubelet_options {
	const char *node_name;
	const char *node_ips[KUBELET_NODE_IPS_MAX];  /* first is the primary; NULL: absent */
	const char *pod_cidrs[KUBELET_NODE_IPS_MAX]; /* of spec.podCIDRs; NULL: absent */
	const char *const *node_labels;              /* NULL-terminated "k=v", or NULL */
	const char *data_dir;                        /* <data_dir>/{images,containers,pods} */
	const char *run_dir;                         /* <run_dir>/{runtime,pods}; payload volumes live here, on tmpfs */
	const char *log_dir;                         /* NULL: /var/log/pods */
	const char *oci_runtime;                     /* NULL: crun, else runc; or a path */
	const char *cgroup_root;                     /* NULL: "k3c-bpf" */
	unsigned pods_max;                           /* 0: KUBELET_PODS_DEFAULT */
	uint64_t log_max_bytes;                      /* 0: 10 MiB */
	unsigned log_max_files;                      /* 0: 5 */
	const struct kubelet_image_registry *registries;
	size_t n_registries;
	const char *resolv_conf; /* the host's; NULL: /etc/resolv.conf */
};

/* A service-account token bound to a pod; appends the JWT to `ret`. */
struct kubelet_token_request {
	const char *ns, *service_account;
	const char *pod_name, *pod_uid;
	const char *audience; /* NULL: the API server's own */
	int64_t expiry_s;
};

struct kubelet_tokens {
	void *ctx;
	int (*mint)(void *ctx, const struct kubelet_token_request *request, struct buf *ret, struct err *err);
};

/* Strings of `options` are copied; `network` and `tokens` are kept by value. */
int kubelet_create(struct loop *loop, struct registry *reg, const struct kubelet_options *options,
		   const struct pod_network *network, const struct kubelet_tokens *tokens, struct kubelet **ret,
		   struct err *err);
/* Connects to (or starts) the supervisor, adopts what runs, registers the Node, begins to run pods. */
int kubelet_start(struct kubelet *kl, struct err *err);
/* The host's addresses have changed: the Node and the status of every pod follow. */
void kubelet_set_node_ips(struct kubelet *kl, const char *const ips[static KUBELET_NODE_IPS_MAX]);
/* Lets go; containers run on. Takes NULL. Stops first when started. */
void kubelet_destroy(struct kubelet *kl);

/* ---- for `status` ---- */

struct kubelet_pod_stats {
	unsigned pods, running, ready, pending, terminating;
	uint64_t restarts;
	pid_t supervisor_pid;
	const char *oci; /* "crun 1.8.1", or "" */
	bool node_ready;
};
void kubelet_get_stats(struct kubelet *kl, struct kubelet_pod_stats *ret);
/* Array of {namespace,name,uid,phase,ready,restarts,ip,containers:[{name,state,id,restarts}]}. */
struct json *kubelet_status_json(struct kubelet *kl, struct arena *arena);

/* ---- what the API server needs of the node (the shapes of its struct node_ops) ---- */

/* The container's log file(s): "<log_dir>/<ns>_<name>_<uid>/<container>/<attempt>.log". -ENOENT with a status
 * and message as kubectl expects when there is no such container or it has not started. */
int kubelet_log_path(struct kubelet *kl, const struct object *pod, const char *container, bool previous,
		     struct arena *arena, char **ret_path, bool *ret_running, struct err *err);
int kubelet_logs(void *kl, const struct object *pod, const struct node_log_options *options, struct node_log_sink *sink,
		 struct node_log_source **ret, struct err *err);
void kubelet_exec(void *kl, const struct object *pod, const struct node_exec_options *options, node_started_fn *started,
		  node_exited_fn *exited, void *arg);
void kubelet_exec_kill(void *kl, uint64_t id);
void kubelet_resize(int pty_fd, int rows, int cols);
void kubelet_port_forward(void *kl, const struct object *pod, uint16_t port,
			  void (*done)(void *arg, int fd, const struct err *err), void *arg);
