/* SPDX-License-Identifier: Apache-2.0 */
/* Projects a set of files into a folder so that a reader sees either all old or all new ones: the files stand in a
 * time-stamped folder, "..data" is a link to it that is replaced by rename, and the names a pod sees are links
 * through "..data". Blocking; worker pool. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "userspace/base/err.h"
#include "userspace/base/str.h"

#define ATOMIC_WRITER_FILES_MAX 10000

struct atomic_file {
	const char *path; /* relative, no "..", may have folders */
	struct str data;
	mode_t mode;
	uid_t uid; /* (uid_t)-1: as it is */
};

/* -EINVAL for a path that leaves the folder. ret_changed: false when everything stood there already. */
int atomic_writer_write(const char *dir, const struct atomic_file *files, size_t n, gid_t gid /* -1: none */,
			bool *ret_changed, struct err *err);
/* Is this a path that may be projected: relative, no empty or ".." part, does not begin with ".."? */
bool atomic_writer_path_valid(const char *path);
