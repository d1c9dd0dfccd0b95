/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders. Blocking: at start-up, on the worker pool, or for tmpfs and procfs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "userspace/base/buf.h"
#include "userspace/base/err.h"

/* Whole file, at most `max` bytes (-EFBIG). */
int fs_read(const char *path, size_t max, struct buf *ret, struct err *err);
int fs_read_at(int dir_fd, const char *path, size_t max, struct buf *ret, struct err *err);
/* Temporary file beside it, fsync, rename, fsync of the folder: all or nothing after a power cut. */
int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *err);
/* Plain write to an existing file (cgroup and procfs knobs). */
int fs_write(const char *path, const char *text, struct err *err);
/* Like mkdir -p; existing folders keep their mode. */
int fs_mkdirs(const char *path, mode_t mode, struct err *err);
/* Like rm -rf, never following links or crossing into mounts; absent is success. */
int fs_remove_tree(const char *path, struct err *err);
bool fs_exists(const char *path);
