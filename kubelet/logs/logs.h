/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a container's CRI log for `kubectl logs`: rotated files first, a tail found from the end, time and byte
 * limits, and following across rotation until the container ends. Loop thread; reads of the page cache are done
 * directly, in bounded steps, so that a large log does not hold the loop. Knows nothing of who listens: the sink
 * says when it is full, and then nothing is read until log_reader_resume(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/loop/loop.h"

#define LOGS_STEP_BYTES (64u << 10) /* handed on in one go */
#define LOGS_FILES_MAX 64           /* rotated files looked at */
#define LOGS_LINE_MAX (20u << 10)   /* one record: 16 KiB of text and its head */

struct log_reader;

struct log_reader_options {
	const char *path; /* .../<container>/<attempt>.log */
	bool follow, timestamps;
	int64_t tail_lines;    /* -1: all */
	int64_t since_real_ns; /* 0: all */
	int64_t limit_bytes;   /* -1: none */
	bool ended;            /* the container has ended already: following stops at the end */
};

struct log_reader_sink {
	void *ctx;
	/* false: taken, but full; nothing more comes before log_reader_resume(). */
	bool (*write)(void *ctx, const void *p, size_t n);
	/* Once, last; the reader may be destroyed inside. err NULL: the end. Not called after destroy. */
	void (*end)(void *ctx, const struct err *err);
};

/* -ENOENT when there is no log. Output begins after this returned. */
int log_reader_create(struct loop *loop, const struct log_reader_options *options, const struct log_reader_sink *sink,
		      struct log_reader **ret, struct err *err);
void log_reader_resume(struct log_reader *reader);
/* The container ended: what is left is read, then `end` is called. */
void log_reader_container_ended(struct log_reader *reader);
void log_reader_destroy(struct log_reader *reader);
