/* SPDX-License-Identifier: Apache-2.0 */
/* What the API server needs of the node for pods/log, pods/exec, pods/attach and pods/portforward, as an
 * interface that main wires to the kubelet. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "datastore/object.h"
#include "userspace/base/err.h"
#include "userspace/base/str.h"

struct node_log_options {
	const char *container;
	bool follow, previous, timestamps;
	int64_t tail_lines;    /* -1: all */
	int64_t since_real_ns; /* 0: all */
	int64_t limit_bytes;   /* -1: none */
};

/* The reader pulls: `write` returns false when the other side is full; then the source waits for resume(). */
struct node_log_sink {
	bool (*write)(struct node_log_sink *sink, const void *p, size_t n);
	void (*end)(struct node_log_sink *sink, const struct err *err);
};
struct node_log_source {
	void (*resume)(struct node_log_source *source);
	void (*close)(struct node_log_source *source); /* no callback after this */
};

struct node_streams {
	int stdin_fd, stdout_fd, stderr_fd; /* -1: absent; owned by the receiver */
};
typedef void node_started_fn(void *arg, uint64_t id, const struct node_streams *streams, const struct err *err);
typedef void node_exited_fn(void *arg, uint64_t id, int exit_code);

struct node_exec_options {
	const char *container;   /* resolved by the API server */
	const char *const *argv; /* NULL: attach to the container's own streams */
	bool tty, want_stdin, want_stdout, want_stderr;
};

struct node_ops {
	void *ctx;
	int (*logs)(void *ctx, const struct object *pod, const struct node_log_options *options,
		    struct node_log_sink *sink, struct node_log_source **ret, struct err *err);
	/* Attaching: `exited` is not called, the end of the streams is the end; exec_kill is not to be called. */
	void (*exec)(void *ctx, const struct object *pod, const struct node_exec_options *options,
		     node_started_fn *started, node_exited_fn *exited, void *arg);
	void (*exec_kill)(void *ctx, uint64_t id);
	void (*resize)(int pty_fd, int rows, int cols);
	/* A connected TCP socket to the port inside the pod's network namespace. */
	void (*port_forward)(void *ctx, const struct object *pod, uint16_t port,
			     void (*done)(void *arg, int fd, const struct err *err), void *arg);
};
