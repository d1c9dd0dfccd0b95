/* SPDX-License-Identifier: Apache-2.0 */
/* Logs, exec, attach and port-forward of pods: the shapes that the API server's struct node_ops has, member for
 * member, offered from below so that main adapts by assignment and cast-free one-line wrappers. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/err.h"

struct kubelet_log_options {
	const char *container;
	bool follow, previous, timestamps;
	int64_t tail_lines;    /* -1: all */
	int64_t since_real_ns; /* 0: all */
	int64_t limit_bytes;   /* -1: none */
};

/* `write` returns false when the other side is full; then the source waits for resume(). With `end` the source is
 * gone: neither resume() nor close() after it. */
struct kubelet_log_sink {
	bool (*write)(struct kubelet_log_sink *sink, const void *p, size_t n);
	void (*end)(struct kubelet_log_sink *sink, const struct err *err);
};
struct kubelet_log_source {
	void (*resume)(struct kubelet_log_source *source);
	void (*close)(struct kubelet_log_source *source); /* no callback after this */
};

struct kubelet_streams {
	int stdin_fd, stdout_fd, stderr_fd; /* -1: absent; owned by the receiver */
};
typedef void kubelet_started_fn(void *arg, uint64_t id, const struct kubelet_streams *streams, const struct err *err);
typedef void kubelet_exited_fn(void *arg, uint64_t id, int exit_code);

struct kubelet_exec_options {
	const char *container;
	const char *const *argv; /* NULL: attach to the container's own streams */
	bool tty, want_stdin, want_stdout, want_stderr;
};
