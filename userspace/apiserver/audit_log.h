/* SPDX-License-Identifier: Apache-2.0 */
/* The file of audit events, one JSON line each, written by a thread of its own: the loop only appends to a bounded
 * queue. What does not fit is dropped, counted, and told in the log. Lines leave in the order they came, many with one
 * write; nothing is synced (an audit log that blocks the cluster was not asked for). A full file is renamed with its
 * time ("audit-2026-01-02T03-04-05.678.log") and old ones go, by number and by age. */
#pragma once

#include <stdint.h>

#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define AUDIT_QUEUE_BYTES_MAX (8 * 1024 * 1024)

struct audit_log;

struct audit_log_options {
	const char *path;      /* "-": standard output, never rotated */
	uint64_t max_bytes;    /* of one file; 0: no rotation */
	unsigned max_backups;  /* 0: all */
	unsigned max_age_days; /* 0: for ever */
};

int audit_log_open(const struct audit_log_options *options, struct audit_log **ret, struct err *err);
/* One line without its end. Loop thread; never blocks on the disk. */
void audit_log_write(struct audit_log *log, struct str line);
/* Writes what is queued, then ends the thread. Takes NULL. */
void audit_log_close(struct audit_log *log);

struct audit_log_stats {
	uint64_t written, dropped, failed; /* lines; failed: the disk refused them */
};
void audit_log_get_stats(struct audit_log *log, struct audit_log_stats *ret);
