/* SPDX-License-Identifier: Apache-2.0 */
/* What a container left behind to say why it ended: its termination message file, or the end of its log. Small files on
 * tmpfs and the page cache; loop thread. */
#pragma once

#include "userspace/base/arena.h"
#include "userspace/base/json.h"

struct pod_worker;

#define TERMINATION_MESSAGE_MAX 4096
#define TERMINATION_LOG_MAX 2048 /* bytes of the log, with FallbackToLogsOnError */
#define TERMINATION_LOG_LINES_MAX 80

char *termination_message_path(const struct pod_worker *w, struct arena *arena, const char *container,
			       unsigned attempt);
/* Heap, or NULL. */
char *termination_message(struct pod_worker *w, const struct json *container, const char *name, unsigned attempt,
			  int exit_code);
/* The messages of the last lines of a CRI log: "<time> <stream> <F|P> text". Pure. */
void termination_log_tail(struct str log, struct buf *out);
